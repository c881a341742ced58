"""Finds out which file, stage, operation or rule made a query fail. Slow and exact, and run only after a failure."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from urllib.parse import unquote, urlsplit

import polars as pl

from lazypipe.compile.node import Node, Watching
from lazypipe.compile.sources.source import BoundSource, Snapshot
from lazypipe.errors import LazypipeError, Problem, RunError, SourceError, StorageError, first_line
from lazypipe.gates.rule import Check
from lazypipe.gates.shown import MASKED
from lazypipe.incremental.unreadable import culprit
from lazypipe.ops import Operation
from lazypipe.ops.cast import Cast
from lazypipe.spec.model import Origin, Step
from lazypipe.spec.scope import Guard, Table
from lazypipe.spec.words import plain, type_name
from lazypipe.storage.scan import is_engine_error, os_error, plain_reason
from lazypipe.storage.text.lines import bad_line

__all__ = ["explain_failure", "join_sides", "unreadable_file"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A disk, a quota or a limit of size was reached: computing it all again would not tell more."""

_READING = re.compile(r"Error performing (?:GET|HEAD) (\S+) in ")
_WRITING = re.compile(r"Error performing (?:PUT|POST) ")
"""What Polars' clients of stores say of a request that failed."""


def explain_failure(
    error: BaseException,
    nodes: Mapping[str, Node],
    snapshots: Mapping[str, Snapshot],
    frame_of: Callable[[str], pl.LazyFrame],
    gated: Callable[[str], pl.LazyFrame],
    origin: Origin,
    target: str,
    *,
    masked: bool,
) -> LazypipeError:
    """Turn what a query raised into an error that names the file, or the stage and its operation or rule.

    Parameters
    ----------
    nodes
        The segment's nodes, in order.
    frame_of
        The rows that a node yields, without counting.
    gated
        The rows that a node's gate sees, repaired, before any is taken out.
    masked
        Whether there is personal data among the rows, so that no values are told.
    """
    reason = _without_values if masked else first_line
    if isinstance(error, SourceError):
        return _with_source(error, nodes, snapshots)
    if isinstance(error, LazypipeError):
        return error
    if (away := _away(error, nodes, snapshots)) is not None:
        return away
    if os_error(error) not in _FULL and not _WRITING.search(first_line(error)):
        if (unread := unreadable_file(nodes, snapshots)) is not None:
            return unread
        for node in nodes.values():
            failed = _runs(frame_of(node.name))
            if failed is not None:
                return _blame_operation(
                    failed, node, frame_of, origin, _blame_rule(node, gated, origin, reason), reason
                )
            if (refused := _blame_rule(node, gated, origin, reason)) is not None:
                return refused
    # the rows can be computed: it was their writing that failed
    return StorageError(
        f"cannot be written: {plain_reason(error)}",
        uri=target,
        fix="nothing was published; fix the cause and run again",
    )


def _away(error: BaseException, nodes: Mapping[str, Node], snapshots: Mapping[str, Snapshot]) -> SourceError | None:
    """Return the error for the file that a store did not give, by what its client asked for; None if that is not told.

    To look for a culprit is to read everything again, and to find none once the store is back.
    """
    found = _READING.search(first_line(error))
    if found is None:
        return None
    asked = unquote(urlsplit(found[1]).path)
    for name, snapshot in snapshots.items():
        source = nodes[name].source
        for file in snapshot.files:
            path = file.uri.partition("://")[2].partition("?")[0]  # the bucket may stand in the name of the host
            if source is not None and asked in (f"/{path}", f"/{path.partition('/')[2]}"):
                return source.located(source.reader.unreadable(file, error))
    return None


def unreadable_file(nodes: Mapping[str, Node], snapshots: Mapping[str, Snapshot]) -> SourceError | None:
    """Return the error that names the first file that cannot be read as its source says, with its line in text; None if all can."""
    for name, snapshot in snapshots.items():
        source = nodes[name].source
        assert source is not None
        found = culprit(source, snapshot)
        if found is not None:
            return _with_line(found, source, snapshot)
    return None


def _without_values(error: BaseException) -> str:
    """Return an engine's reason without what it quotes of the data."""
    return re.sub(r": (\[.*\]|'.*'|\".*\")\s*$", f": {MASKED}", first_line(error), flags=re.DOTALL)


def _with_source(error: SourceError, nodes: Mapping[str, Node], snapshots: Mapping[str, Snapshot]) -> SourceError:
    """Say which source the file belongs to; a reader knows only the file."""
    for name, snapshot in snapshots.items():
        source = nodes[name].source
        file = next((f for f in snapshot.files if f.uri == error.uri), None)
        if source is not None and file is not None:
            return _with_line(source.located(source.reader.unreadable(file, error)), source, snapshot)
    return error


def _with_line(error: SourceError, source: BoundSource, snapshot: Snapshot) -> SourceError:
    """Add the number of the line at which a text file cannot be read, where it can be found."""
    if not source.is_text or re.search(r"line \d", error.what):
        return error
    file = next((f for f in snapshot.files if source.redact(f.uri) == error.uri), None)
    number = bad_line(file, source.reader, source.inside(file)) if file is not None else None
    return error if number is None else SourceError(f"{error.what} (line {number})", uri=error.uri, fix=error.fix)


def _runs(frame: pl.LazyFrame) -> BaseException | None:
    """Evaluate every column, keep nothing; return what was raised."""
    try:
        frame.select(pl.all().null_count()).collect(engine="streaming")
    except BaseException as error:
        if not is_engine_error(error):
            raise
        return error
    return None


def _blame_operation(
    error: BaseException,
    node: Node,
    frame_of: Callable[[str], pl.LazyFrame],
    origin: Origin,
    rule: RunError | None,
    reason: Callable[[BaseException], str],
) -> RunError:
    """Return the operation that fails, or else the ``rule``."""
    what = f"stage {node.name!r}: {reason(error)}"
    frames = {name: frame_of(name) for name in node.inputs}
    inputs = {name: Table(frame, frame.collect_schema()) for name, frame in frames.items()}
    for count, (operation, scope) in enumerate(node.steps, start=1):
        part = replace(node, steps=node.steps[:count], schemas=node.schemas[:count], checks=())
        failed = _runs(part.lower(inputs))
        if failed is not None:
            where = origin.locate((*scope.step.path, operation.name))
            said = _conversion(reason(failed), operation)
            what = f"stage {node.name!r}, operation {count} ({operation.name}): {said}"
            return RunError(str(Problem(what, where)), fix="fix the data or the operation; nothing was published")
    return rule or RunError(what, fix="nothing was published")


def _conversion(reason: str, operation: Operation) -> str:
    """Say of values that did not fit their new type which one that was to be, as the definition has it.

    How many there are depends on the batch that was looked at, and is not told.
    """
    pattern = r"conversion from `.*?` to `(.*?)` failed in column '(.*?)' for .*? values?: (.*)"
    found = re.fullmatch(pattern, reason, re.DOTALL)
    if found is None:
        return reason
    target, column, values = found.groups()
    written = operation.columns.get(column) if isinstance(operation, Cast) else None
    return f"column {column!r} has values that cannot become {written or type_name(target)}: {values}"


def _blame_rule(
    node: Node, gated: Callable[[str], pl.LazyFrame], origin: Origin, reason: Callable[[BaseException], str]
) -> RunError | None:
    """Return the rule of a node's gate that cannot be evaluated over its rows, None if all can be."""
    if not node.checks:
        return None
    section = "stage" if node.source is None else "source"

    def refused(checks: Sequence[Check], error: BaseException) -> RunError:
        rules = f"rule{'s' if len(checks) > 1 else ''} {', '.join(repr(c.id) for c in checks)}"
        what = f"{section} {node.name!r}, {rules}: {plain(reason(error)).what}"
        where = origin.locate(checks[0].place)
        return RunError(str(Problem(what, where)), fix="fix the rows or the rule; nothing was published")

    rows = gated(node.name)
    failed = _runs(rows)
    if failed is not None:
        repairs = [c for c in node.checks if c.repair is not None]
        return refused(repairs, failed) if repairs else None
    for check in node.checks:
        if not check.columns <= node.schema.keys():
            continue  # it asks which cells did not fit, and nothing of the rows
        exprs = [check.where, check.violated]
        if check.measure is not None:
            exprs += [p.over for p in check.measure.parts] or [check.measure.value]
        failed = _runs(rows.select(e.alias(str(n)) for n, e in enumerate(exprs) if e is not None))
        if failed is not None:
            return refused([check], failed)
    return None


def join_sides(node: Node, step: Step, inputs: Mapping[str, Table]) -> list[tuple[pl.LazyFrame, tuple[str, ...]]]:
    """Return the frames that a join's step guards, and their keys, so that repeats can be counted exactly."""
    sides: list[tuple[pl.LazyFrame, tuple[str, ...]]] = []

    def catch(found: Step) -> Guard:
        def guard(frame: pl.LazyFrame, _: pl.Schema, keys: tuple[str, ...]) -> pl.LazyFrame:
            if found is step:
                sides.append((frame, keys))
            return frame

        return guard

    node.lower(inputs, Watching(guard=catch))
    return sides
