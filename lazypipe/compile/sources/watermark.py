"""Event time of a source, bound: how its watermark is computed, and what happens to rows without a valid time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import polars as pl

from lazypipe.errors import first_line, nearest
from lazypipe.gates import Check
from lazypipe.spec.model import Fault, Param, Path, Source
from lazypipe.spec.types import dtype_name
from lazypipe.sql.bind import bind
from lazypipe.sql.exprs import dtype_of, empty, try_out
from lazypipe.sql.text import SqlError
from lazypipe.windows.watermark import Watermark

__all__ = ["beat", "read_watermark", "time_checks"]

_MICROSECOND = timedelta(microseconds=1)


def read_watermark(source: Source, schema: pl.Schema, form: str, at: Path, marker: str | None) -> Watermark | None:
    """Return how the watermark of a source of a format comes about, None if it says nothing of it.

    ``marker`` is the marker that it names as a whole URI.

    Raises
    ------
    Fault
        If it contradicts itself, names columns that are not there, or asks a dataset for an order of files.
    """
    written = source.watermark
    if not written and not source.on_bad_time:
        return None
    here = (*at, "watermark")
    if not source.event_time:
        key = "watermark" if written else "on_bad_time"
        raise Fault(f"{key} is about event times, and the source has none", "add event_time: column", (*at, key))
    if not written:
        fix = "add watermark: {delay: 0s}, which says which event times are too far ahead"
        raise Fault("on_bad_time is for sources with a watermark", fix, (*at, "on_bad_time"))
    given: dict[str, Any] = {n: _duration(written, n, here) for n in _DURATIONS if n in written}
    found = Watermark(source.event_time, **given, marker=marker, commit=bool(written.get("commit")))
    found = replace(found, order=written.get("order", "name"), name=written.get("as", found.name))
    _check_way(found, written, source, form, at)
    for name in ("column", "by"):
        if name in written:
            if written[name] not in schema:
                fix = nearest(written[name], schema, "columns")
                raise Fault(f"unknown column {written[name]!r}", fix, (*here, name))
            found = replace(found, **{name: written[name]})
    if found.tells_rows:
        _check(found, written, schema, form, here)
        if found.name in schema:
            what = f"there is a column {found.name!r} already"
            raise Fault(what, "choose another name with as", (*here, "as") if "as" in written else here)
    if "heartbeat" in written:
        beat(written["heartbeat"], schema, (*here, "heartbeat"))
        found = replace(found, heartbeat=written["heartbeat"])
    return found


def beat(text: str, schema: pl.Schema, at: Path = ()) -> pl.Expr:
    """Return which rows only tell the time; raises Fault if that is no condition over the columns."""
    try:
        condition = bind(text, schema)
        dtype = dtype_of(condition, schema)
        try_out(condition, empty(schema))
    except SqlError as error:
        raise Fault(f"heartbeat: {error.what}", error.fix, at) from error
    except pl.exceptions.PolarsError as error:
        raise Fault(f"heartbeat: {first_line(error)}", "compare columns with values of their types", at) from error
    if dtype != pl.Boolean:
        what = f"heartbeat: a condition must be true or false, and this is {dtype_name(dtype)}"
        raise Fault(what, "compare it with something", at)
    return condition.fill_null(value=False)


def _check_way(found: Watermark, written: Any, source: Source, form: str, at: Path) -> None:
    """Raise Fault where more than one thing says the watermark, or what does says nothing of rows and is asked to."""
    here = (*at, "watermark")
    ways = [n for n in ("column", "marker", "commit") if written.get(n)]
    if len(ways) > 1:
        what = f"{ways[0]} and {ways[1]} both set the watermark"
        raise Fault(what, "keep one of them", (*here, ways[1]))
    if found.commit and form != "dataset":
        what = f"commit is for datasets that lazypipe writes, and this is {form}"
        raise Fault(what, "remove commit: the watermark advances file by file then", (*here, "commit"))
    for name in ("order", "by", "as", "tolerance") if not found.tells_rows else ():
        if name in written:
            what = f"{name} is for watermarks that each row carries, and {ways[0]} sets it for the source as a whole"
            raise Fault(what, f"remove {name}, or {ways[0]}", (*here, name))
    if source.on_bad_time and not found.tells_rows:
        what = f"on_bad_time needs to know when each row arrived, and {ways[0]} sets the watermark without saying that"
        raise Fault(what, f"remove on_bad_time, or {ways[0]}", (*at, "on_bad_time"))
    if "heartbeat" in written and not (found.by_files and "column" not in written):
        what = f"a heartbeat advances watermarks that follow event times, and {ways[0]} sets this one"
        raise Fault(what, f"remove heartbeat, or {ways[0]}", (*here, "heartbeat"))


_DURATIONS = ("delay", "tolerance", "idle_after")


def _check(found: Watermark, written: Any, schema: pl.Schema, form: str, here: Path) -> None:
    """Raise Fault if settings contradict each other."""
    if found.column is not None:
        for name in ("order", "by"):
            if name in written:
                what = (
                    f"{name} is for watermarks that advance file by file, and column {found.column!r} states this one"
                )
                raise Fault(what, f"remove {name}, or column", (*here, name))
        time, other = schema[found.time], schema[found.column]
        if not isinstance(other, pl.Date | pl.Datetime):
            what = f"column {found.column!r} is {dtype_name(other)}, which is not a date or time"
            raise Fault(what, "name a column of dates or datetimes", (*here, "column"))
        if (getattr(time, "time_zone", None) is None) != (getattr(other, "time_zone", None) is None):
            what = (
                f"column {found.column!r} is {dtype_name(other)}, and event_time {found.time!r} is {dtype_name(time)}"
            )
            raise Fault(what, "both need a time zone, or neither", (*here, "column"))
    elif form == "delta":
        what = "the files of a Delta table have no order: compaction puts rows of many times into one file"
        raise Fault(what, "name a column with each row's arrival time: watermark: {column: …}", here)
    elif form == "dataset":
        what = "the files of a dataset have no order: one run may write the rows of many deliveries"
        fix = "use its commits, watermark: {commit: true}, or a column with each row's arrival time: {column: …}"
        raise Fault(what, fix, here)
    elif found.by is not None and (schema[found.by].is_nested() or schema[found.by].is_float()):
        what = f"column {found.by!r} is {dtype_name(schema[found.by])}, which cannot tell partitions apart"
        raise Fault(what, "name one of text or whole numbers", (*here, "by"))


def _duration(written: Any, name: str, here: Path) -> int:
    """Return a duration in microseconds."""
    try:
        found = cast("timedelta", Param("duration").parse(written[name]))
    except ValueError as error:
        raise Fault(f"{name}: {error}", None, (*here, name)) from None
    if found < timedelta(0):
        raise Fault(f"{name}: {written[name]!r} is negative", "write a duration such as 5m", (*here, name))
    return found // _MICROSECOND


def time_checks(source: Source, rule: Watermark | None) -> tuple[Check, ...]:
    """Return what ``on_bad_time`` says as a check: a row without a watermark is one whose event time is no time."""
    action = source.on_bad_time or "keep"
    if rule is None or action == "keep" or not rule.tells_rows:
        return ()
    said = f"{rule.time} is null, or lies too far after its row came"
    violated = pl.col(rule.name).is_null()
    return (Check(f"event_time:{rule.time}", "event_time", cast("Any", action), violated=violated, description=said),)
