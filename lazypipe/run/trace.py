"""Row lineage: which rows, in which files, made a row of an output.

The plan is run again, restricted to a key, with one more column: the ids of the source rows that each row was made of. Each
operation says in its own file how it carries them (``Operation.carry``). "Made of" is why-provenance (Buneman, Khanna and
Tan, 2001): with these rows alone the row would be there, and without the others nothing about it changes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import partial
from itertools import accumulate
from typing import Any

import polars as pl
from polars.testing import assert_frame_equal

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.node import Node
from lazypipe.compile.sources.source import BoundSource, Snapshot
from lazypipe.errors import LazypipeError, RunError, nearest
from lazypipe.gates.rule import Reference
from lazypipe.gates.shown import MASKED
from lazypipe.gates.tap import FILE_COLUMN
from lazypipe.incremental.before import Before
from lazypipe.incremental.state import Consumed
from lazypipe.incremental.unreadable import damaged, reads, sift
from lazypipe.ops.base import MADE_FROM
from lazypipe.ops.cast import converted
from lazypipe.run.arrival import arrived
from lazypipe.run.delivery import whole
from lazypipe.run.segment.blame import unreadable_file
from lazypipe.spec.model import Output
from lazypipe.spec.scope import Table
from lazypipe.spec.types import dtype_name
from lazypipe.storage.content import hash_file
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.files import FileInfo
from lazypipe.storage.in_python import for_python
from lazypipe.storage.scan import is_engine_error, plain_reason

__all__ = ["ROW_COLUMN", "Trace", "Traced", "of_type", "trace"]

ROW_COLUMN = "_lazypipe_row"
"""A row's number in its file, from 0, headers and blank lines not counted; with a ``_`` behind it where the source has such a column."""

_NO_CLOCK = datetime.max.replace(tzinfo=UTC)
"""For files that no run has read yet: when they were written says which of their times are too far ahead."""
_ROW_BITS = 48
_ANY = (1 << _ROW_BITS) - 1
"""Stands for any row of a source, where it cannot be told which."""


@dataclass(frozen=True, eq=False)
class Traced:
    """The rows of one source that made the traced row, with their file and row number; ``files`` are the files of these rows.

    ``rows`` is None if any row of the source may have contributed. The first two columns of ``rows`` are ``_lazypipe_file`` and
    ``_lazypipe_row``, followed by ``_`` if the source itself has columns of these names.
    """

    source: str
    rows: pl.DataFrame | None = field(repr=False)
    files: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Trace:
    """Where rows of an output come from, or (``of_source``) which rows of a source have a key.

    ``rows`` are the rows with the key as computed from the sources now. ``published`` are these rows in the output's last commit, or in the requested
    ``version``; None if there is no commit. If the output has a ``mode`` that combines or repeats rows with the same key, these are not the same
    rows, and may have additional columns. ``reasons`` says which steps could not tell rows apart (then more rows are named than contributed),
    and which files have changed since the requested version.
    """

    output: str
    key: Mapping[str, Any]
    rows: pl.DataFrame
    published: pl.DataFrame | None
    sources: Mapping[str, Traced]
    reasons: tuple[str, ...] = ()
    masked: frozenset[str] = field(default=frozenset(), repr=False)
    version: int | None = None
    of_source: bool = False
    mode: str = "replace"

    def __repr__(self) -> str:
        """Say what was found, without the rows: some of their values may be personal."""
        key = ", ".join(f"{k} = {v}" for k, v in self._shown([dict(self.key)])[0].items())
        found = (f"{'any' if s.rows is None else s.rows.height} of {n}" for n, s in self.sources.items())
        return f"<Trace of {self.output}, {key}: {', '.join(found) or 'no rows'}>"

    @property
    def exact(self) -> bool:
        """Whether exactly the contributing rows are named."""
        return not self.reasons

    @property
    def is_current(self) -> bool:
        """Whether the sources still give what was published; if not, they or the definition have changed since."""
        if self.published is None:
            return self.of_source
        if self._is_merged:
            there = {*map(repr, for_python(self.rows).rows())}
            own = [n for n in self.rows.columns if n in self.published.columns]
            return all(repr(row) in there for row in for_python(self.published.select(own)).rows())
        try:
            assert_frame_equal(self.rows, self.published, check_row_order=False)
        except AssertionError:
            return False
        return True

    @property
    def _is_merged(self) -> bool:
        """Whether the mode decides which of the rows are published."""
        return self.mode not in ("replace", "append")

    def to_dict(self, limit: int = 20) -> dict[str, Any]:
        """Return plain data, with at most ``limit`` rows of each source and personal data masked.

        Values are those of Python: ``json.dumps(…, default=str)`` writes dates and decimals too.
        """
        return {
            "output": self.output,
            **({} if self.version is None else {"version": self.version}),
            "key": self._shown([dict(self.key)])[0],
            "exact": self.exact,
            "reasons": list(self.reasons),
            "current": self.is_current,
            "rows": self._shown(for_python(self.rows.head(limit)).to_dicts()),
            **self._merged(limit),
            "sources": {
                name: {
                    "files": list(of.files),
                    "count": None if of.rows is None else of.rows.height,
                    "rows": None if of.rows is None else self._shown(for_python(of.rows.head(limit)).to_dicts()),
                }
                for name, of in self.sources.items()
            },
        }

    def to_markdown(self, limit: int = 20) -> str:
        """Return a report, with at most ``limit`` rows of each source and personal data masked."""
        said = self.to_dict(limit)
        key = ", ".join(f"{k} = {v}" for k, v in said["key"].items())
        of = "" if self.version is None else f" version {self.version}"
        lines = [f"# {self.output}{of}: {key}", ""]
        if "published" in said:
            lines += [
                *_table(said["published"]),
                "",
                f"Published by `mode: {self.mode}`, of the rows that the sources give now:",
                "",
            ]
        lines += [] if self.of_source else [*_table(said["rows"]), ""]
        if not self.is_current:
            what = "all rows that are" if self._is_merged else "the row that is"
            lines += [f"The sources as they are now do not give {what} published.", ""]
        lines += [f"Not exact: {reason}." for reason in self.reasons]
        for name, of in said["sources"].items():
            if of["rows"] is None:
                lines += [f"## {name}: any row may have had a part", "", *(f"- {f}" for f in of["files"]), ""]
            else:
                more = f", {limit} of them shown" if of["count"] > limit else ""
                count = "1 row" if of["count"] == 1 else f"{of['count']:,} rows"
                lines += [f"## {name}: {count}{more}", "", *_table(of["rows"]), ""]
                lines += [*(f"- {f}" for f in of["files"]), ""] if more else []
        return "\n".join(lines)

    def _merged(self, limit: int) -> dict[str, Any]:
        """Return what is published, where that is not just what the sources give."""
        if self.published is None or not self._is_merged:
            return {}
        return {"published": self._shown(for_python(self.published.head(limit)).to_dicts())}

    def _shown(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{k: MASKED if k in self.masked else v for k, v in row.items()} for row in rows]


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return ["(none)"]
    cells = [[str(v).replace("|", "\\|").replace("\n", " ") for v in row.values()] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (list(rows[0]), ["---"] * len(rows[0]), *cells)]


def trace(
    plan: CompiledPipeline,
    output: str,
    key: Mapping[str, Any],
    *,
    most: int = 100,
    version: int | None = None,
    as_of: datetime | date | str | None = None,
) -> Trace:
    """Find the source rows that made the rows of an output with a key; of a source, its rows with the key.

    Parameters
    ----------
    key
        Column of the output, or source → its value, of the column's type or as text.
    most
        Rows of the output that may have the key.
    version, as_of
        Of which version, or of that in force at a moment: with what is still there, as it was, of what that was made of. Default: of the
        sources as they are now.

    Raises
    ------
    LazypipeError
        If there is no such output or column, the value is not of its type, or no row or too many rows have it.
    SourceError
        If a source cannot be read.
    """
    source = plan.nodes[output].source if output in plan.nodes and output not in plan.outputs else None
    if source is not None:
        if version is not None or as_of is not None:
            raise LazypipeError(f"source {output!r} has no versions; leave out version and as_of")
        snapshots: dict[str, Snapshot] = {}
        with _told(plan, output, snapshots):
            return _of_source(plan, source, key, snapshots)
    target = plan.output(output)
    if not key:
        raise LazypipeError(f"output {output!r}: a trace needs a key; give a column and its value")
    if version is None and as_of is None:
        return _Tracer(plan, output, key, most).run()
    if target.format != "dataset":
        raise LazypipeError(f"output {output!r} is one {target.format} file, which has no versions")
    commit = Dataset(target.to, target.storage_options).read(version=version, as_of=as_of)
    return _Tracer(plan, output, key, most, commit).run()


@contextmanager
def _told(plan: CompiledPipeline, name: str, snapshots: Mapping[str, Snapshot]) -> Iterator[None]:
    """Tell of what the engine raises which file it is about, as a run does."""
    try:
        yield
    except BaseException as error:
        if not is_engine_error(error):
            raise
        if (found := unreadable_file(plan.nodes, snapshots)) is not None:
            raise found from None
        masked = any(map(plan.masked, plan.nodes))
        why = type(error).__name__ if masked else plain_reason(error)
        what = f"{name!r} cannot be traced over what the sources hold now: {why}"
        raise RunError(what, fix="run the pipeline, which says where that is, and trace again") from None


def _of_source(
    plan: CompiledPipeline, source: BoundSource, key: Mapping[str, Any], snapshots: dict[str, Snapshot]
) -> Trace:
    what, seen = f"source {source.name!r}", pl.Schema(source.seen)
    if not key:
        raise LazypipeError(f"{what}: a trace needs a key; give a column and its value")
    typed = {name: of_type(source.name, seen, name, value, "source") for name, value in key.items()}
    snapshot = snapshots[source.name] = _readable(
        source, source.in_order(arrived(plan, source, source.snapshot(), _NO_CLOCK))
    )
    matches = _matching(typed, seen)
    # whoever looks for all rows of a person must hear of files in which nobody can look
    unread = tuple(f"{c.uri} cannot be read, and is left out" for c in snapshot.corrupt)
    numbers = range(len(snapshot.files))
    parts = [_found(plan, source, _one_file(snapshot, n), lambda _: matches) for n in numbers]
    if not any(part.height for part in parts):
        raise LazypipeError("; ".join([f"{what}: no row has this key", *unread]))
    rows = pl.concat(parts)
    traced = Traced(source.name, rows, _files_of(rows))
    masked = frozenset(plan.masked(source.name))
    return Trace(
        source.name, typed, rows.select(*seen), None, {source.name: traced}, unread, masked=masked, of_source=True
    )


def _readable(source: BoundSource, snapshot: Snapshot) -> Snapshot:
    """Return a snapshot without the files that a run would leave out, for they cannot be read."""
    sift(source, snapshot)
    if source.on_corrupt == "fail" or reads(source, snapshot):
        return snapshot
    return source.set_aside(snapshot, damaged(source, snapshot))


def _matching(key: Mapping[str, Any], schema: pl.Schema) -> pl.Expr:
    return pl.all_horizontal(pl.col(n).eq_missing(pl.lit(v, dtype=schema[n])) for n, v in key.items())


def of_type(output: str, schema: pl.Schema, name: str, value: Any, kind: str = "output") -> Any:
    """Return a value of a key as one of its column's type, for the text ``null`` no value but where it is one; raises LazypipeError if there is no such column, or it is none."""
    if name not in schema:
        raise LazypipeError(f"{kind} {output!r} has no column {name!r}; {nearest(name, schema, 'columns')}")
    dtype = schema[name]
    try:
        if isinstance(value, str) and not isinstance(dtype, pl.String):
            found = pl.select(converted(pl.lit(value), pl.String(), dtype, strict=False)).item()
        else:
            found = pl.Series([value], strict=True).cast(dtype).item()
    except (pl.exceptions.PolarsError, TypeError, OverflowError):
        found = None
    if found is None and value not in (None, "null"):  # which a command line says of no value
        what = f"{value!r} is not a value of column {name!r}, which is {dtype_name(dtype)}"
        raise LazypipeError(f"{kind} {output!r}: {what}; write one of that type")
    return found


class _Tracer:
    """The state of one trace: the sources it goes through, what they hold now, and the steps whose rows could not be traced."""

    def __init__(
        self, plan: CompiledPipeline, output: str, key: Mapping[str, Any], most: int, commit: Commit | None = None
    ) -> None:
        self.plan = plan
        self.output = output
        self.target = plan.outputs[output]
        self.node = plan.nodes[self.target.stage]
        self.most = most
        self.commit = commit
        if not isinstance(key, Mapping):
            raise LazypipeError(f"output {output!r}: the key {key!r} is not a mapping; write {{column: value}}")
        self.key = {name: of_type(output, self.node.schema, name, value) for name, value in key.items()}
        self.matches = _matching(self.key, self.node.schema)
        self.order = [n for n, of in plan.nodes.items() if of.source is not None and n in self._above(self.node)]
        self.snapshots: dict[str, Snapshot] = {}
        self.reasons: list[str] = []

    def _above(self, node: Node) -> set[str]:
        """Return the node and all that it is made from; what gates only look up has no part in rows."""
        return {node.name}.union(*(self._above(self.plan.nodes[n]) for n in node.inputs))

    def run(self) -> Trace:
        with _told(self.plan, self.output, self.snapshots):
            return self._run()

    def _run(self) -> Trace:
        then = {} if self.commit is None else self._consumed(self.commit, self.target, {})
        for name in self.order:
            source = self._source(name)
            snapshot = self._whole(source)
            if self.commit is not None:
                snapshot = self._as_it_was(source, snapshot, then.get(name))
            self.snapshots[name] = arrived(self.plan, source, snapshot, _NO_CLOCK)
            self.snapshots[name] = _readable(source, self.snapshots[name])
        rows = self._frame(self.node.name).filter(self.matches).head(self.most + 1).collect(engine="streaming")
        if rows.height > self.most:
            raise LazypipeError(
                f"output {self.output!r}: more than {self.most} rows have this key; give more columns of it"
            )
        published = self._published()
        if rows.height == 0 and (published is None or published.height == 0):
            fix = f"trace {' or '.join(self.order)} instead of the output"
            if self.node.raw or any(c.action == "quarantine" for c in self.node.checks):
                fix += f", or look in the output's quarantine, {self.plan.redact(self.target.to)}__quarantine"
            raise LazypipeError(f"output {self.output!r}: no row has this key; {fix}")
        ids = rows[MADE_FROM].explode(empty_as_null=False, keep_nulls=False).unique().sort()
        sources = {name: self._traced(name, ids) for name in self.order}
        return Trace(
            self.output,
            self.key,
            rows.drop(MADE_FROM),
            published,
            {name: of for name, of in sources.items() if of.rows is None or of.rows.height},
            tuple(dict.fromkeys(self.reasons)),
            self.plan.masked(self.node.name).union(*(self.plan.masked(n) for n in self.order)),
            None if self.commit is None else self.commit.version,
            mode=self.target.mode,
        )

    def _whole(self, source: BoundSource) -> Snapshot:
        """Return what there is of a source, but for deliveries that are not whole: a run leaves them for later ones."""
        if source.intake.expect is None:
            return source.snapshot()
        return source.looked_at(source.listing(partial(whole, _NO_CLOCK, self.plan.outputs, source)))

    def _consumed(self, commit: Commit, output: Output, found: dict[str, Consumed]) -> dict[str, Consumed]:
        """Return what a version of an output has consumed, by source; for outputs that it reads, what these have consumed too."""
        before = Before.of(commit, self.plan.redact(output.to))
        for name, consumed in ({} if before is None else before.state.sources).items():
            if name in self.order:
                found[name] = consumed
            for of in self.plan.outputs.values():
                if of.stage == name and self.plan.redact(of.to) == consumed.uri:
                    self._consumed(Dataset(of.to, of.storage_options).read(version=consumed.version), of, found)
        return found

    def _as_it_was(self, source: BoundSource, snapshot: Snapshot, then: Consumed | None) -> Snapshot:
        """Return the files that a version was made of and that are still there; each that is not becomes a reason why rows cannot be traced."""
        assert self.commit is not None
        made = f"version {self.commit.version} was made of"
        if then is None or (snapshot.table is not None and snapshot.version != then.version):
            self.reasons.append(f"{source.name}: what {made} is not known, or not what is there now")
            return snapshot
        if snapshot.commit is not None:
            dataset = Dataset(source.patterns[0], source.reader.storage_options)
            commit = dataset.read(version=then.version)
            return replace(snapshot, files=dataset.files(commit), commit=commit)
        was, redact = {f.uri: f for f in then.files}, self.plan.redact

        def same(file: FileInfo) -> bool:
            before = was.get(redact(file.uri))
            if before is None or before.size != file.size:
                return False
            if before.stamp == file.stamp:
                return True
            return before.blake3 is not None and before.blake3 == hash_file(file.uri, source.reader.storage_options)

        kept = tuple(f for f in snapshot.files if same(f))
        if left := len(was) - len(kept):
            self.reasons.append(
                f"{source.name}: {left:,} of {len(was):,} files that {made} are gone, or hold something else"
            )
        return replace(snapshot, files=kept)

    def _source(self, name: str) -> BoundSource:
        source = self.plan.nodes[name].source
        assert source is not None
        return source

    def _published(self) -> pl.DataFrame | None:
        if self.target.format != "dataset":
            return None
        dataset = Dataset(self.target.to, self.target.storage_options)
        commit = self.commit or dataset.latest()
        if commit is None or any(commit.schema.get(n) != self.node.schema[n] for n in self.key):
            return None
        return dataset.scan(commit).filter(self.matches).head(self.most).collect(engine="streaming")

    # frames whose rows know what made them

    def _frame(self, name: str) -> pl.LazyFrame:
        node = self.plan.nodes[name]
        if node.source is not None:
            frame = node.source.scan(self.snapshots[name]).with_row_index(MADE_FROM)
            made = pl.col(MADE_FROM).cast(pl.UInt64) + (self.order.index(name) << _ROW_BITS)
            frame = frame.with_columns(pl.concat_list(made).alias(MADE_FROM))
        else:
            frame = self._carried(node)
        if not node.judges_each(c for c in node.checks if c.repair is not None):
            self.reasons.append(f"{name}: a repair takes values from other rows")
            frame = frame.with_columns(self._any([name]))
        return node.good(frame, self._lookup, [MADE_FROM])

    def _carried(self, node: Node) -> pl.LazyFrame:
        inputs = {n: Table(self._frame(n), self.plan.nodes[n].schema, (MADE_FROM,)) for n in node.inputs}
        carried = node.carry(inputs)
        self.reasons += [f"{node.name}: {reason}" for reason in carried.reasons]
        if carried.frame is not None:
            made = pl.concat_list(MADE_FROM, self._any(carried.whole)) if carried.whole else pl.col(MADE_FROM)
            return carried.frame.with_columns(made.alias(MADE_FROM))
        stripped = {n: replace(t, frame=t.frame.drop(MADE_FROM), extra=()) for n, t in inputs.items()}
        return node.lower(stripped).with_columns(self._any([node.name]))

    def _any(self, names: Iterable[str]) -> pl.Expr:
        """Return what stands for any row of all that some nodes are made from."""
        above = set[str]().union(*(self._above(self.plan.nodes[n]) for n in names))
        ids = [(index << _ROW_BITS) + _ANY for index, name in enumerate(self.order) if name in above]
        return pl.lit(ids, dtype=pl.List(pl.UInt64)).alias(MADE_FROM)

    def _lookup(self, reference: Reference) -> pl.LazyFrame:
        return self.plan.frames[reference.to]

    # rows found again in their files

    def _traced(self, name: str, ids: pl.Series) -> Traced:
        first = self.order.index(name) << _ROW_BITS
        numbers = (ids.filter(ids.is_between(first, first + _ANY)) - first).to_list()
        source = self._source(name)
        snapshot = source.in_order(self.snapshots[name])
        redact = self.plan.redact
        if _ANY in numbers:
            return Traced(name, None, tuple(redact(f.uri) for f in snapshot.files))
        parts = []
        if numbers:
            starts = self._starts(source, snapshot)
            wanted: dict[int, list[int]] = {}
            for number in numbers:
                index = bisect_right(starts, number) - 1
                wanted.setdefault(index, []).append(number - starts[index])
            for index, inside in wanted.items():
                here = _one_file(snapshot, index)
                parts.append(_found(self.plan, source, here, partial(pl.Expr.is_in, other=inside)))
        file, row = _places(source)
        rows = pl.concat(parts) if parts else pl.DataFrame(schema={file: pl.String(), row: pl.UInt32(), **source.seen})
        return Traced(name, rows, _files_of(rows))

    def _starts(self, source: BoundSource, snapshot: Snapshot) -> list[int]:
        """Return the number of each file's first row in the scan of them all."""
        counts = [
            source.scan(_one_file(snapshot, index)).select(pl.len()).collect(engine="streaming").item()
            if snapshot.commit is None
            else snapshot.commit.files[index].rows - snapshot.commit.files[index].dead(snapshot.commit.gone)
            for index in range(len(snapshot.files))
        ]
        return [0, *accumulate(counts)][:-1]


def _found(
    plan: CompiledPipeline, source: BoundSource, here: Snapshot, wanted: Callable[[pl.Expr], pl.Expr]
) -> pl.DataFrame:
    """Return rows of one file, chosen by their numbers or what they hold, each with its file and number."""
    file, row = _places(source)
    found = source.scan(here).with_row_index(row).filter(wanted(pl.col(row)))
    uri = pl.lit(plan.redact(here.files[0].uri)).alias(file)
    return found.select(uri, row, *source.seen).collect(engine="streaming")


def _places(source: BoundSource) -> tuple[str, str]:
    """Return what the columns with a row's file and number are called beside those that the source has."""
    names = []
    for name in (FILE_COLUMN, ROW_COLUMN):
        while name in source.seen:
            name += "_"  # noqa: PLW2901  # as a quarantine has it that is read as a source
        names.append(name)
    return names[0], names[1]


def _files_of(rows: pl.DataFrame) -> tuple[str, ...]:
    return tuple(rows.to_series(0).unique(maintain_order=True))


def _one_file(snapshot: Snapshot, index: int) -> Snapshot:
    commit = snapshot.commit
    return replace(
        snapshot,
        files=(snapshot.files[index],),
        commit=None if commit is None else replace(commit, files=(commit.files[index],)),
    )
