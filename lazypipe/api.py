"""The public face: definitions that compile, plans that run, and gates and operations on frames of one's own."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import polars as pl

from lazypipe import gates, ops
from lazypipe.compile.compiler import EPOCH, CompiledPipeline, compile_pipeline
from lazypipe.compile.node import compile_checks
from lazypipe.errors import LazypipeError, nearest
from lazypipe.gates.report import GateReport
from lazypipe.gates.tap import Tap
from lazypipe.gates.uniqueness import TIMES_COLUMN, repeated
from lazypipe.run.attempt import Observer
from lazypipe.run.executor import execute
from lazypipe.run.maintenance import vacuum_pipeline
from lazypipe.run.result import RunResult
from lazypipe.spec import loader, model
from lazypipe.spec.arguments import Arguments
from lazypipe.spec.model import Fault, Origin, Step, freeze
from lazypipe.spec.scope import Scope, Table
from lazypipe.storage.dataset import Dataset, scan

__all__ = ["Builder", "Pipeline", "Plan", "apply", "check", "load", "pipeline", "vacuum"]


@dataclass(frozen=True)
class Pipeline(model.Pipeline):
    r"""A definition: what was written, ready to be compiled.

    Examples
    --------
    >>> text = "version: 1\nname: p\nsources: {a: {uri: a.csv}}\noutputs: {a: {to: out}}\n"
    >>> pipe = Pipeline.from_yaml(text)
    >>> Pipeline.from_yaml(pipe.to_yaml()) == pipe
    True
    """

    @classmethod
    def of(cls, spec: model.Pipeline) -> Self:
        """Return a specification as a definition that compiles."""
        return cls(**{f.name: getattr(spec, f.name) for f in fields(spec)})

    @classmethod
    def from_yaml(cls, text: str, *, base: str = ".") -> Self:
        """Read a definition from YAML text; relative URIs start from ``base``."""
        return cls.of(loader.from_yaml(text, base=base))

    @classmethod
    def from_json(cls, text: str, *, base: str = ".") -> Self:
        """Read a definition from JSON text; relative URIs start from ``base``."""
        return cls.of(loader.from_json(text, base=base))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, base: str = ".") -> Self:
        """Read a definition from plain data; relative URIs start from ``base``."""
        return cls.of(loader.from_dict(data, base=base))

    def to_yaml(self) -> str:
        """Return the definition as YAML; raises DefinitionError for what exists in Python only."""
        return loader.to_yaml(self)

    def to_json(self) -> str:
        """Return the definition as JSON; raises DefinitionError for what exists in Python only."""
        return loader.to_json(self)

    def compile(
        self,
        *,
        now: datetime | None = None,
        env: Mapping[str, str] | None = None,
        allow: Iterable[str] = (),
        params: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Plan:
        """Compile to a plan; reads nothing but schemas. Parameters are given by name, as values or text.

        Raises
        ------
        DefinitionError
            With every mistake found, each with file, line and column.
        SourceError
            If the schema of a source cannot be read.
        """
        compiled = compile_pipeline(self, {**(params or {}), **more}, now=now, env=env, allow=allow)
        return Plan(**{f.name: getattr(compiled, f.name) for f in fields(compiled)})


@dataclass(frozen=True)
class Plan(CompiledPipeline):
    """A compiled pipeline that can be run."""

    def run(
        self,
        *,
        run: str | None = None,
        now: datetime | None = None,
        observer: Observer = lambda *_: None,
        work: Path | None = None,
    ) -> RunResult:
        """Run the plan: write, audit, publish.

        Parameters
        ----------
        run
            The run's id. Default: the time and a random part.
        now
            The time that commits record. Default: the machine's clock. (``:now`` in expressions is set by ``compile``.)
        observer
            Called with segment, number, count and rows seen so far, from several threads.
        work
            Folder for rows kept between segments.

        Returns
        -------
        RunResult
            Also where a gate failed: see its ``status``, or call ``raise_for_status()``.
        """
        moment = now or datetime.now(UTC)
        name = run or f"{moment:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        return execute(self, run=name, now=moment, observer=observer, work=work)

    def scan(self, output: str) -> pl.LazyFrame:
        """Scan what is published of a dataset output."""
        if output not in self.outputs:
            raise LazypipeError(f"unknown output {output!r}; {nearest(output, self.outputs, 'outputs')}")
        target = self.outputs[output]
        return scan(target.to, storage_options=target.storage_options)


def load(path: str | Path) -> Pipeline:
    """Read a definition from a YAML or JSON file; relative URIs in it start from the file's folder.

    Raises
    ------
    DefinitionError
        With every mistake of form, each with file, line and column.
    """
    return Pipeline.of(loader.load(path))


class Builder:
    """Builds a definition in Python, part by part; the result equals what the same YAML would give.

    Examples
    --------
    >>> pipe = (
    ...     pipeline("p")
    ...     .param("least", "integer", default=1)
    ...     .source("a", "a.csv", contract={"columns": {"x": "Int64"}})
    ...     .stage("b", "a", do=[{"filter": "x >= :least"}, {"derive": {"y": pl.col("x") * 2}}], gate=[{"not_null": "y"}])
    ...     .output("b", "out/b")
    ...     .build()
    ... )
    >>> pipe.compile().schema("b")
    Schema([('x', Int64), ('y', Int64)])
    """

    def __init__(self, name: str, *, base: str = ".", **more: Any) -> None:
        self._base = base
        self._data: dict[str, Any] = {
            "version": 1,
            "name": name,
            **more,
            "params": {},
            "sources": {},
            "stages": {},
            "outputs": {},
        }

    def _add(self, section: str, name: str, entry: Mapping[str, Any]) -> Self:
        if name in self._data[section]:
            raise LazypipeError(f"there is a {section[:-1]} {name!r} already; give one of them another name")
        self._data[section][name] = {k: v for k, v in entry.items() if v is not None}
        return self

    def param(self, name: str, type: str, *, default: Any = None, description: str | None = None) -> Self:  # noqa: A002  # the definition's word
        """Declare a parameter."""
        return self._add("params", name, {"type": type, "default": default, "description": description})

    def source(self, name: str, uri: str | Sequence[str], **more: Any) -> Self:
        """Declare a source; further keys as in a definition."""
        return self._add("sources", name, {"uri": uri, **more})

    def stage(
        self,
        name: str,
        from_: str | Sequence[str],
        do: Sequence[Mapping[str, Any] | ops.Operation] = (),
        gate: Sequence[Mapping[str, Any] | gates.Rule] = (),
        description: str | None = None,
    ) -> Self:
        """Add a stage: operations and rules as mappings, as in a definition, or as values."""
        return self._add(
            "stages", name, {"from": from_, "do": list(do), "gate": list(gate), "description": description}
        )

    def output(self, name: str, to: str, *, from_: str | None = None, **more: Any) -> Self:
        """Declare an output; further keys as in a definition."""
        return self._add("outputs", name, {"from": from_, "to": to, **more})

    def build(self) -> Pipeline:
        """Return the definition; raises DefinitionError with every mistake of form."""
        data = {k: v for k, v in self._data.items() if v or k in ("sources", "outputs")}
        return Pipeline.from_dict(data, base=self._base)


def pipeline(name: str, *, base: str = ".", **more: Any) -> Builder:
    """Start a definition in Python; relative URIs start from ``base``."""
    return Builder(name, base=base, **more)


def _step(written: Mapping[str, Any] | Arguments) -> Step:
    if isinstance(written, Arguments):
        return written.to_step()
    ((name, arguments),) = written.items()
    return Step(name, freeze(arguments))


def apply(
    step: Mapping[str, Any] | ops.Operation,
    frame: pl.LazyFrame,
    *,
    params: Mapping[str, Any] | None = None,
    allow: Iterable[str] = (),
    **others: pl.LazyFrame,
) -> pl.LazyFrame:
    """Apply one operation to a frame, with other frames by the names that it uses.

    Raises
    ------
    DefinitionError
        If it does not fit the frames.

    Examples
    --------
    >>> apply({"filter": "a > :least"}, pl.LazyFrame({"a": [1, 2]}), params={"least": 1}).collect().rows()
    [(2,)]
    """
    written = _step(step)
    try:
        operation = ops.operation(written)
        tables = {n: Table(f, f.collect_schema()) for n, f in others.items()}
        scope = Scope(type(operation), written, tables, params or {}, frozenset(allow))
        return operation.lower(Table(frame, frame.collect_schema()), scope)
    except Fault as fault:
        raise loader.problems([fault], Origin()) from None


def check(
    frame: pl.DataFrame | pl.LazyFrame,
    rules: Sequence[Mapping[str, Any] | gates.Rule],
    *,
    params: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> GateReport:
    """Check rules on a frame, in one streaming pass; no pipeline, no files.

    Raises
    ------
    DefinitionError
        If a rule does not fit the frame.

    Examples
    --------
    >>> report = check(pl.DataFrame({"a": [1, None]}), [{"not_null": "a"}])
    >>> report.status, report.failed
    ('fail', {'not_null:a': 1})
    """
    lazy = frame.lazy()
    schema = lazy.collect_schema()
    values = {"now": now or EPOCH, **(params or {})}
    faults: list[Fault] = []
    steps = [Step(s.name, s.arguments, ("rules", i)) for i, s in enumerate(map(_step, rules))]
    checks = compile_checks(steps, schema, lambda step, owner: Scope(owner, step, params=values), faults)
    if faults:
        raise loader.problems(faults, Origin())
    used = {n for c in checks for n in c.columns}
    names = [n for n in schema if n in used] or schema.names()[:1]
    tap = Tap(checks, pl.Schema({n: schema[n] for n in names}), run="", spill=Path(), split=False)
    tap.attach(lazy.select(names)).select(pl.len()).collect(engine="streaming")
    for one in checks:
        if one.keys and tap.trackers[one.id].may_repeat():
            tap.count_keys(
                one, int(repeated(lazy, one.keys, one.where).collect(engine="streaming")[TIMES_COLUMN].sum())
            )
    return tap.report("frame")


def vacuum(
    target: str | model.Pipeline,
    *,
    keep: int = 1,
    older_than: timedelta = timedelta(hours=24),
    now: datetime | None = None,
) -> list[str]:
    """Delete what nobody can read any more: of one dataset, or of all datasets and leftovers of a pipeline.

    Parameters
    ----------
    keep
        How many versions stay readable.
    older_than
        Files of no commit (left by a run that was killed) go when they are older than this; a run that is writing now
        has younger ones.

    Returns
    -------
    list of str
        The deleted files.
    """
    if isinstance(target, str):
        return Dataset(target).vacuum(keep=keep, older_than=older_than, now=now)
    return vacuum_pipeline(target, keep=keep, older_than=older_than, now=now)
