"""The result of a run: for each segment its status, gates, files and time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from lazypipe.errors import CommitConflict, DefinitionError, LazypipeError, counted, first_line
from lazypipe.gates.report import GateReport
from lazypipe.incremental.incomplete import Incomplete, told
from lazypipe.storage.corrupt import CorruptFile

if TYPE_CHECKING:
    from lazypipe.plan.executed import Executed
    from lazypipe.plan.lineage import ColumnLineage

__all__ = ["RunResult", "RunResults", "SegmentResult", "Status"]

Status = Literal["done", "unchanged", "gate_failed", "error", "interrupted", "blocked", "waiting", "running"]
_WORST: tuple[Status, ...] = (
    "interrupted",
    "error",
    "gate_failed",
    "blocked",
    "waiting",
    "running",
    "done",
    "unchanged",
)


@dataclass(frozen=True)
class SegmentResult:
    """The result of one segment.

    ``version`` is the commit that its output got, or None. ``why`` says why there was work to do, or none. If the status is ``waiting``, a delivery
    is incomplete, and what was published before stays in force. ``rows`` and the gate reports describe the whole output; ``written`` are the rows
    that this run wrote. ``left`` is how many units (files, or parts of a dataset) are left for later runs, if a run was limited. ``corrupt`` are
    files that ``on_corrupt`` allowed to leave out. ``maintained`` says which maintenance followed. ``incomplete`` are closed windows that lack
    expected input.
    """

    name: str
    status: Status
    output: str | None = None
    uri: str | None = None
    version: int | None = None
    rows: int = 0
    bytes: int = 0
    files: int = 0
    written: int = 0
    left: int = 0
    why: str | None = None
    seconds: float = 0.0
    gates: tuple[GateReport, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    error: LazypipeError | None = None
    corrupt: tuple[CorruptFile, ...] = ()
    maintained: tuple[str, ...] = ()
    incomplete: tuple[Incomplete, ...] = ()
    executed: Executed | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"<SegmentResult {self.summary}>"

    @property
    def summary(self) -> str:
        """What happened to it, in one line.

        Examples
        --------
        >>> SegmentResult("y", "done", "y", version=2, rows=1200)
        <SegmentResult y: done, 1,200 rows in version 2>
        >>> SegmentResult("y", "blocked", "y")
        <SegmentResult y: blocked>
        """
        rows = f", {counted(self.rows, 'row')}" if self.status in ("done", "unchanged") else ""
        version = f" in version {self.version}" if self.version is not None else ""
        why = f", {first_line(self.error)}" if self.error is not None else ""
        return f"{self.name}: {self.status}{rows}{version}{why}"

    @property
    def lineage(self) -> ColumnLineage | None:
        """The column lineage of the query that ran, in terms of the sources and stages it read; None if no query completed, or with ``audit: off``.

        Raises
        ------
        LazypipeError
            If Polars showed a plan that this version of lazypipe cannot read.
        """
        return None if self.executed is None else self.executed.lineage

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as plain data."""
        return {
            "name": self.name,
            "status": self.status,
            "output": self.output,
            "uri": self.uri,
            "version": self.version,
            "rows": self.rows,
            "bytes": self.bytes,
            "files": self.files,
            "written": self.written,
            "left": self.left,
            "why": self.why,
            "seconds": round(self.seconds, 6),
            "gates": [g.to_dict() for g in self.gates],
            "counts": dict(self.counts),
            "corrupt": [c.to_dict() for c in self.corrupt],
            **({"maintained": list(self.maintained)} if self.maintained else {}),
            **told(self.incomplete),
            "error": None if self.error is None else str(self.error),
        }


@dataclass(frozen=True)
class RunResult:
    """The result of one run.

    ``record`` is the URI of the file with its record. ``warnings`` are problems that did not affect the data, such as an event that could not be
    sent. ``error`` is a failure outside the segments: the ledger could not be written, or the run could not start (then there is no record
    besides the ledger's). ``window`` is the range of event time that the run was restricted to, or None.
    """

    run: str
    pipeline: str
    started: datetime
    seconds: float
    params: Mapping[str, Any]
    segments: tuple[SegmentResult, ...]
    record: str
    warnings: tuple[str, ...] = ()
    error: LazypipeError | None = None
    window: str | None = None

    def __repr__(self) -> str:
        """Say what ran, and what became of it.

        Examples
        --------
        >>> from datetime import UTC
        >>> RunResult("r1", "sales", datetime(2024, 1, 1, tzinfo=UTC), 0.5, {}, (SegmentResult("y", "done", "y", rows=3),), "r1.json")
        <RunResult r1 of sales: done in 0.5 s; y: done, 3 rows>
        """
        parts = [s.summary for s in self.segments] + ([first_line(self.error)] if self.error is not None else [])
        return f"<RunResult {'; '.join([f'{self.run} of {self.pipeline}: {self.status} in {self.seconds:.1f} s', *parts])}>"

    @property
    def status(self) -> Status:
        """The worst status of the segments; ``error`` if the run itself failed."""
        found: set[Status] = {s.status for s in self.segments} | ({"error"} if self.error else set())
        return _worst(found)

    @property
    def exit_code(self) -> int:
        """0: done, or waiting for a delivery; 1: a gate failed; 2: the request was wrong, so the run did not start; 3: any other failure."""
        if self.error is not None and not self.segments:
            return self.error.exit_code
        return {"done": 0, "unchanged": 0, "waiting": 0, "gate_failed": 1}.get(self.status, 3)

    @property
    def overtaken(self) -> bool:
        """Whether the run only failed because another run committed first. Run again: whatever is left to do is done then."""
        found = [s.error for s in self.segments if s.status == "error"]
        return self.status == "error" and self.error is None and all(isinstance(e, CommitConflict) for e in found)

    @property
    def gates(self) -> Mapping[str, GateReport]:
        """The report of each gate, by its source or stage."""
        return {g.node: g for s in self.segments for g in s.gates}

    @property
    def corrupt(self) -> tuple[CorruptFile, ...]:
        """The corrupt files that were set aside, each once."""
        return tuple(dict.fromkeys(c for s in self.segments for c in s.corrupt))

    @property
    def left(self) -> int:
        """How many units (files, or parts of a dataset) are left for later runs, for the output with the most."""
        return max((s.left for s in self.segments), default=0)

    @property
    def commits(self) -> Mapping[str, int]:
        """The new version of each dataset output that was published."""
        return {s.output: s.version for s in self.segments if s.output is not None and s.version is not None}

    def raise_for_status(self) -> None:
        """Raise the first error: GateError if a gate failed, otherwise the error that stopped a segment."""
        for segment in self.segments:
            if segment.error is not None:
                raise segment.error
        if self.error is not None:
            raise self.error

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as plain data, as the record holds it."""
        return {
            "run": self.run,
            "pipeline": self.pipeline,
            "status": self.status,
            "started": self.started.isoformat(),
            "seconds": round(self.seconds, 6),
            "params": {k: str(v) for k, v in self.params.items()},
            **({"window": self.window} if self.window is not None else {}),
            "segments": [s.to_dict() for s in self.segments],
            "warnings": list(self.warnings),
            "error": None if self.error is None else str(self.error),
            **({"problems": self.error.told()} if isinstance(self.error, DefinitionError) else {}),
        }


@dataclass(frozen=True, repr=False)
class RunResults(Mapping[str, RunResult]):
    """The results of several definitions, by pipeline name, in the order in which they ran.

    Examples
    --------
    >>> from datetime import UTC
    >>> def result(name, status):
    ...     return RunResult("r1", name, datetime(2024, 1, 1, tzinfo=UTC), 0.5, {}, (SegmentResult("y", status, "y"),), "r1.json")
    >>> found = RunResults({"raw": result("raw", "gate_failed"), "report": result("report", "blocked")})
    >>> found, found["report"].status, found.exit_code
    (<RunResults raw: gate_failed, report: blocked>, 'blocked', 1)
    """

    runs: Mapping[str, RunResult]

    def __getitem__(self, name: str) -> RunResult:
        """Return the result of one."""
        return self.runs[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.runs)

    def __len__(self) -> int:
        """Count them."""
        return len(self.runs)

    def __repr__(self) -> str:
        """Say what became of each."""
        return f"<RunResults {', '.join(f'{name}: {run.status}' for name, run in self.runs.items()) or 'none'}>"

    @property
    def status(self) -> Status:
        """The worst status."""
        return _worst(run.status for run in self.runs.values())

    @property
    def exit_code(self) -> int:
        """The highest exit code. Blocked definitions do not count: the one that blocks them does."""
        return max((run.exit_code for run in self.runs.values() if run.status != "blocked"), default=0)

    def raise_for_status(self) -> None:
        """Raise the first error of the first definition that has one."""
        for run in self.runs.values():
            run.raise_for_status()

    def to_dict(self) -> dict[str, Any]:
        """Return the results as plain data."""
        return {"status": self.status, "pipelines": {name: run.to_dict() for name, run in self.runs.items()}}


def _worst(found: Iterable[Status]) -> Status:
    there = {*found}
    return next((s for s in _WORST if s in there), "done")
