"""What a source may say of its event times, and what it is told where that does not hold together."""

from __future__ import annotations

from typing import Any

import pytest

import lazypipe as lp
from lazypipe import ops
from lazypipe.ops.window import Window

COLUMNS = {"t": "Datetime(us)", "z": "Datetime(us, UTC)", "k": "String", "x": "Float64", "came": "Datetime(us)"}


def compiled(**source: Any) -> lp.Plan:
    window = source.pop("window", None)
    step = {"time": "t", "every": "1h", "aggregate": {"n": "count(*)"}, **(window or {})}
    data = {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "memory://none/a.csv", "contract": {"columns": COLUMNS}, **source}},
        "stages": {"s": {"from": "a", "do": [{"window": step}]}},
        "outputs": {"s": {"to": "memory://none/s"}, "a": {"to": "memory://none/a"}},
    }
    return lp.Pipeline.from_dict(data).compile()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            {"watermark": {"delay": "1h"}},
            "sources.a.watermark: watermark is about event times, and the source has none; add event_time: column",
        ),
        (
            {"on_bad_time": "drop"},
            "sources.a.on_bad_time: on_bad_time is about event times, and the source has none; add event_time: column",
        ),
        (
            {"event_time": "t", "on_bad_time": "drop"},
            (
                "sources.a.on_bad_time: on_bad_time is for sources with a watermark; add watermark: {delay: 0s}, which says which "
                "event times are too far ahead"
            ),
        ),
        (
            {"event_time": "t", "watermark": {"delay": "soon"}},
            "sources.a.watermark.delay: delay: 'soon' is not a duration such as 90s, 15m, 2h, 3d or 1w",
        ),
        (
            {"event_time": "t", "watermark": {"delay": "-1h"}},
            "sources.a.watermark.delay: delay: '-1h' is negative; write a duration such as 5m",
        ),
        (
            {"event_time": "t", "watermark": {"as": "k"}},
            "sources.a.watermark.as: there is a column 'k' already; choose another name with as",
        ),
        (
            {"event_time": "t", "watermark": {"by": "kk"}},
            "sources.a.watermark.by: unknown column 'kk'; did you mean 'k'?",
        ),
        (
            {"event_time": "t", "watermark": {"by": "x"}},
            "sources.a.watermark.by: column 'x' is Float64, which cannot tell partitions apart; name one of text or whole numbers",
        ),
        (
            {"event_time": "t", "watermark": {"column": "k"}},
            "sources.a.watermark.column: column 'k' is String, which is not a date or time; name a column of dates or datetimes",
        ),
        (
            {"event_time": "t", "watermark": {"column": "z"}},
            (
                "sources.a.watermark.column: column 'z' is Datetime(us, UTC), and event_time 't' is Datetime(us); both need a time "
                "zone, or neither"
            ),
        ),
        (
            {"event_time": "t", "watermark": {"column": "came", "order": "stamp"}},
            (
                "sources.a.watermark.order: order is for watermarks that advance file by file, and column 'came' states this one; "
                "remove order, or column"
            ),
        ),
        (
            {"event_time": "t", "watermark": {"column": "came", "marker": "upto.txt"}},
            "sources.a.watermark.marker: column and marker both set the watermark; keep one of them",
        ),
        (
            {"event_time": "t", "watermark": {"commit": True}},
            (
                "sources.a.watermark.commit: commit is for datasets that lazypipe writes, and this is csv; remove commit: the watermark "
                "advances file by file then"
            ),
        ),
        (
            {"event_time": "t", "watermark": {"marker": "upto.txt", "by": "k"}},
            (
                "sources.a.watermark.by: by is for watermarks that each row carries, and marker sets it for the source as a whole; remove by, "
                "or marker"
            ),
        ),
        (
            {"event_time": "t", "watermark": {"marker": "${NOT_SET}/upto.txt"}},
            "sources.a.watermark.marker: environment variable NOT_SET is not set; set it: export NOT_SET=…",
        ),
        (
            {"event_time": "t", "watermark": {"marker": "upto.txt"}, "on_bad_time": "drop"},
            (
                "sources.a.on_bad_time: on_bad_time needs to know when each row arrived, and marker sets the watermark without saying that; "
                "remove on_bad_time, or marker"
            ),
        ),
        (
            {"event_time": "t", "watermark": {"marker": "upto.txt", "heartbeat": "x IS NULL"}},
            (
                "sources.a.watermark.heartbeat: a heartbeat advances watermarks that follow event times, and marker sets this one; "
                "remove heartbeat, or marker"
            ),
        ),
        (
            {"event_time": "t", "watermark": {"column": "came", "heartbeat": "x IS NULL"}},
            (
                "sources.a.watermark.heartbeat: a heartbeat advances watermarks that follow event times, and column sets this one; "
                "remove heartbeat, or column"
            ),
        ),
        (
            {"event_time": "t", "watermark": {"heartbeat": "y IS NULL"}},
            "sources.a.watermark.heartbeat: heartbeat: unknown column 'y'; known columns: came, k, t, x, z",
        ),
        (
            {"event_time": "t", "watermark": {"heartbeat": "x + 1"}},
            (
                "sources.a.watermark.heartbeat: heartbeat: a condition must be true or false, and this is Float64; compare it with "
                "something"
            ),
        ),
        (
            {"event_time": "t", "watermark": {"heartbeat": "k > 1"}},
            (
                "sources.a.watermark.heartbeat: heartbeat: cannot compare string with numeric type (i32); compare columns with values "
                "of their types"
            ),
        ),
    ],
)
def test_mistakes_are_located(source: dict[str, Any], message: str) -> None:
    with pytest.raises(lp.DefinitionError) as found:
        compiled(**source)
    assert [str(p) for p in found.value.problems] == [message]


def test_the_default_name_may_be_taken() -> None:
    data = {
        "event_time": "t",
        "watermark": {"delay": "1h"},
        "contract": {"columns": {**COLUMNS, "_watermark": "Int64"}},
    }
    with pytest.raises(lp.DefinitionError, match=r"sources.a.watermark: there is a column '_watermark' already"):
        compiled(**data)


def test_a_dataset_has_no_order_of_files() -> None:
    with pytest.raises(lp.DefinitionError, match="the files of a dataset have no order") as found:
        compiled(event_time="t", watermark={"delay": "1h"}, format="dataset")
    assert str(found.value).endswith(
        "use its commits, watermark: {commit: true}, or a column with each row's arrival time: {column: …}"
    )


def test_of_a_dataset_with_a_watermark_of_its_own_the_way_is_told_and_not_another_name() -> None:
    """What a pipeline wrote of a source with a watermark has the column ``_watermark``: to rename it would only lead to the next mistake."""
    columns = {"columns": {**COLUMNS, "_watermark": "Datetime(us)"}}
    with pytest.raises(lp.DefinitionError, match="the files of a dataset have no order"):
        compiled(event_time="t", watermark={"delay": "1h"}, format="dataset", contract=columns)
    assert "_watermark" in compiled(event_time="t", format="dataset", contract=columns).schema("a")


def test_a_watermark_beside_the_rows_is_no_column_of_them() -> None:
    plan = compiled(event_time="t", watermark={"marker": "upto.txt", "delay": "1h"})
    assert "_watermark" not in plan.schema("a")
    assert compiled(event_time="t").fingerprints()["a"] == plan.fingerprints()["a"]
    assert lp.Pipeline.from_yaml(lp.Pipeline.of(plan.pipeline).to_yaml()) == plan.pipeline


def test_a_heartbeat_is_another_fingerprint() -> None:
    one = compiled(event_time="t", watermark={"delay": "1h"})
    other = compiled(event_time="t", watermark={"delay": "1h", "heartbeat": "x IS NULL"})
    assert one.fingerprints()["a"].rows != other.fingerprints()["a"].rows
    assert lp.Pipeline.from_yaml(lp.Pipeline.of(other.pipeline).to_yaml()) == other.pipeline


def test_each_row_gets_a_column_and_bad_times_a_check() -> None:
    plan = compiled(event_time="t", watermark={"delay": "1h", "as": "under"}, on_bad_time="quarantine")
    assert plan.schema("a")["under"] == plan.schema("a")["t"]
    assert [(c.id, c.action) for c in plan.nodes["a"].checks] == [("event_time:t", "quarantine")]
    assert compiled(event_time="t", watermark={"delay": "1h"}, on_bad_time="keep").nodes["a"].checks == ()


def test_the_definition_round_trips() -> None:
    plan = compiled(event_time="t", watermark={"delay": "1h", "order": "stamp"}, on_bad_time="drop")
    again = lp.Pipeline.from_yaml(lp.Pipeline.of(plan.pipeline).to_yaml())
    assert again == plan.pipeline


def test_another_rule_is_another_fingerprint_of_that_column_alone() -> None:
    one = compiled(event_time="t", watermark={"delay": "1h"}).fingerprints()["a"].columns
    other = compiled(event_time="t", watermark={"delay": "2h"}).fingerprints()["a"].columns
    idle = compiled(event_time="t", watermark={"delay": "1h", "idle_after": "1d"}).fingerprints()["a"].columns
    assert {n for n in one if one[n] != other[n]} == {"_watermark"}
    assert one == idle


def test_windows_with_late_rows_are_two_stages() -> None:
    plan = compiled(event_time="t", watermark={"delay": "1h"}, window={"late": "drop", "allowed_lateness": "2d"})
    assert [n for n in plan.nodes if n.startswith("s")] == ["s__late", "s"]
    assert [(c.id, c.action) for c in plan.nodes["s__late"].checks] == [("late:t", "drop")]
    told = str(plan.strategies["s"])
    assert told.startswith("reads new and changed files of a, with partial aggregates of s kept per file")
    assert told.endswith("recomputes only groups by window_start that they touch")
    assert [*plan.pipeline.stages] == ["s"]


@pytest.mark.parametrize(
    ("window", "source", "message"),
    [
        (
            {"late": "drop"},
            {},
            (
                "stages.s.do[0].window.late.watermark: there is no column '_watermark', with the watermark that each row came under; "
                "give the source a watermark by files or by a column (a marker or commit gives its rows none), and let '_watermark' through; known columns: came, k, t, x, z"
            ),
        ),
        (
            {"late": "drop", "time": "z"},
            {"event_time": "t", "watermark": {"delay": "1h"}},
            (
                "stages.s.do[0].window.late.watermark: '_watermark' is Datetime(us), and 'z' is Datetime(us, UTC); both need a time "
                "zone, or neither"
            ),
        ),
        (
            {"allowed_lateness": "1mo"},
            {},
            "stages.s.do[0].window.allowed_lateness: 1mo has months, which have no fixed length; write days",
        ),
        (
            {"late": "drop", "every": "soon"},
            {"event_time": "t", "watermark": {"delay": "1h"}},
            "stages.s.do[0].window.every: 'soon' is not a duration; write one such as 15m, 1h, 1d, 1w, 1mo, 1q or 1y, or all for one window over all time",
        ),
    ],
)
def test_mistakes_of_late_windows_are_located(window: dict[str, Any], source: dict[str, Any], message: str) -> None:
    with pytest.raises(lp.DefinitionError) as found:
        compiled(window=window, **source)
    assert [str(p) for p in found.value.problems] == [message]


def test_the_first_part_must_not_be_called_as_another_stage() -> None:
    step = {"window": {"time": "t", "every": "1h", "aggregate": {"n": "count(*)"}, "late": "drop"}}
    data = {
        "version": 1,
        "name": "p",
        "sources": {
            "a": {
                "uri": "memory://none/a.csv",
                "contract": {"columns": COLUMNS},
                "event_time": "t",
                "watermark": {"delay": "1h"},
            }
        },
        "stages": {"s": {"from": "a", "do": [step]}, "s__late": {"from": "a"}},
        "outputs": {"s": {"to": "memory://none/s"}},
    }
    with pytest.raises(lp.DefinitionError, match="'s__late' is reserved for stage 's' before its windows"):
        lp.Pipeline.from_dict(data).compile()


def test_late_rows_need_a_pipeline() -> None:
    step = {"window": {"time": "t", "every": "1h", "aggregate": {"n": "count(*)"}, "late": "drop"}}
    with pytest.raises(lp.DefinitionError, match="late rows can be quarantined or dropped only in a pipeline"):
        lp.apply(step, __import__("polars").LazyFrame(schema={"t": __import__("polars").Datetime("us")}))


CLOSES = {"emit": "on_close", "by": ["k"]}
WINDOW = "stages.s.do[0].window"


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (
            {"expect": {"rows": 1}},
            f"{WINDOW}.expect: expect holds back incomplete windows, and emit: each_run publishes all windows; add emit: on_close",
        ),
        (
            {**CLOSES, "on_partial": "emit"},
            (
                f"{WINDOW}.on_partial: on_partial is for incomplete windows, and there is no expect; add expect, "
                "such as expect: {rows: 100}"
            ),
        ),
        (
            {**CLOSES, "expect": {"rows": 1}, "deadline": "1h"},
            (
                f"{WINDOW}.deadline: on_partial: wait publishes no incomplete window, so it takes no deadline; say on_partial: emit, or "
                "remove deadline"
            ),
        ),
        (
            {**CLOSES, "expect": {"rows": 1}, "on_partial": "fail"},
            (
                f"{WINDOW}.on_partial: on_partial: fail needs to know how long to wait for a window; add deadline, such as "
                "deadline: 6h"
            ),
        ),
        (
            {**CLOSES, "expect": {"rows": 1}, "on_partial": "emit", "deadline": "1h"},
            (
                f"{WINDOW}.on_partial: on_partial: emit needs a column that marks incomplete windows; add partial: the name of that column"
                ""
            ),
        ),
        (
            {**CLOSES, "expect": {"rows": 1}, "on_partial": "fail", "deadline": "1h", "partial": "p"},
            f"{WINDOW}.partial: on_partial: fail publishes no incomplete window, so it takes no partial; say on_partial: emit, or remove partial",
        ),
        (
            {**CLOSES, "expect": {"rows": 1}, "on_partial": "emit", "deadline": "1h", "partial": "n"},
            f"{WINDOW}.partial: windows have a column 'n' already; choose another name",
        ),
        (
            {**CLOSES, "expect": {"rows": 1}, "on_partial": "fail", "deadline": "soon"},
            f"{WINDOW}.deadline: 'soon' is not a duration; write one such as 30m, 2h or 2d",
        ),
        (
            {**CLOSES, "expect": {"rows": 1}, "on_partial": "fail", "deadline": "1mo"},
            f"{WINDOW}.deadline: 1mo has months, which have no fixed length; write days",
        ),
        (
            {**CLOSES, "expect": {"rows": 1}, "every": ["1h", "1d"]},
            f"{WINDOW}.every: expect needs windows of one length; give one duration as every",
        ),
        (
            {**CLOSES, "expect": {"values": {"kk": [1]}}},
            f"{WINDOW}.expect.values.kk: unknown column 'kk'; did you mean 'k'?",
        ),
        (
            {**CLOSES, "expect": {"values": {"x": 3}}},
            (
                f"{WINDOW}.expect.values.x: how many different values of 'x' a window has is known only of columns of by; list the "
                "values, or add x to by"
            ),
        ),
        (
            {**CLOSES, "expect": {"values": {"k": ["a", 1]}}},
            f"{WINDOW}.expect.values.k[1]: 1 is not a value of column 'k', which is String; write values of the column's type",
        ),
        (
            {**CLOSES, "expect": {"marker": "done.ok"}},
            (
                f"{WINDOW}.expect.marker: marker 'done.ok' does not say which window it is for; write the window's start into it, such "
                "as done/{start:%Y-%m-%dT%H}.ok"
            ),
        ),
        (
            {**CLOSES, "expect": {"marker": "{start:%Q}.ok"}},
            (
                f"{WINDOW}.expect.marker: marker '{{start:%Q}}.ok' has a time format that cannot be used; write it such as "
                "{start:%Y-%m-%dT%H}"
            ),
        ),
        ({**CLOSES, "expect": {"rows": 0}}, f"{WINDOW}.expect.rows: 'rows' is 0, less than 1; write 1 or more"),
        (
            {**CLOSES, "expect": {"row": 1}},
            f"{WINDOW}.expect.row: unknown argument 'row' of window; did you mean 'rows'?",
        ),
        ({**CLOSES, "expect": {}}, f"{WINDOW}.expect: 'expect' is empty; write at least one entry"),
        (
            {**CLOSES, "expect": {"values": {"k": "a"}}},
            f"{WINDOW}.expect.values.k: 'k' must be a list or a whole number, not 'a'; write [a]",
        ),
    ],
)
def test_mistakes_about_whole_windows_are_located(window: dict[str, Any], message: str) -> None:
    with pytest.raises(lp.DefinitionError) as found:
        compiled(event_time="t", watermark={"delay": "1h"}, window=window)
    assert [str(p) for p in found.value.problems] == [message]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            {"end": "t", "expect": {"rows": 1}},
            "stages.s.do[0].closed.expect: expect needs the start of each window; add start: column",
        ),
        (
            {"end": "t", "start": "k", "expect": {"rows": 1}},
            "stages.s.do[0].closed.start: column 'k' is String, which is not a date or time; name a column of dates or datetimes, or cast it first",
        ),
        (
            {"end": "t", "start": "t", "expect": {"values": {"y": 1}}},
            "stages.s.do[0].closed.expect.values.y: unknown column 'y'; known columns: _watermark, came, k, t, x, z",
        ),
        (
            {
                "end": "t",
                "start": "t",
                "expect": {"rows": 1},
                "on_partial": "emit",
                "deadline": "1h",
                "partial": "x",
            },
            "stages.s.do[0].closed.partial: there is a column 'x' already; choose another name",
        ),
    ],
)
def test_mistakes_about_closed_rows_are_located(step: dict[str, Any], message: str) -> None:
    with pytest.raises(lp.DefinitionError) as found:
        lp.Pipeline.from_dict(closing([{"closed": step}])).compile()
    assert [str(p) for p in found.value.problems] == [message]


def closing(do: list[Any], outputs: dict[str, Any] | None = None, **watermark: Any) -> dict[str, Any]:
    source = {"uri": "memory://none/a.csv", "contract": {"columns": COLUMNS}, "event_time": "t"}
    return {
        "version": 1,
        "name": "p",
        "sources": {"a": {**source, "watermark": watermark or {"delay": "1h"}}},
        "stages": {"s": {"from": "a", "do": do}},
        "outputs": outputs or {"s": {"to": "memory://none/s"}},
    }


def test_files_are_counted_only_by_event_times() -> None:
    step = {
        "window": {
            "time": "t",
            "every": "1h",
            "emit": "on_close",
            "aggregate": {"n": "count(*)"},
            "expect": {"files": 2},
        }
    }
    with pytest.raises(lp.DefinitionError) as found:
        lp.Pipeline.from_dict(closing([step], column="came")).compile()
    assert str(found.value).endswith(
        "files are counted by their event times, and no source of these rows has a watermark that advances by them; expect rows, "
        "values or a marker"
    )


def test_windows_that_are_held_back_need_an_output_of_their_own() -> None:
    step = {
        "window": {
            "time": "t",
            "every": "1h",
            "emit": "on_close",
            "aggregate": {"n": "count(*)"},
            "expect": {"rows": 2},
        }
    }
    data = closing([step], {"u": {"to": "memory://none/u"}})
    data["stages"]["u"] = {"from": "s", "do": [{"filter": "n > 1"}]}
    with pytest.raises(lp.DefinitionError) as found:
        lp.Pipeline.from_dict(data).compile()
    assert str(found.value).endswith(
        "which windows of 's' are held back stands with them, and no output has them; add an output of stage 's'"
    )


def test_what_is_expected_round_trips() -> None:
    window = {
        **CLOSES,
        "expect": {"values": {"k": ["a"]}, "files": 2},
        "on_partial": "emit",
        "deadline": "1h",
        "partial": "p",
    }
    plan = compiled(event_time="t", watermark={"delay": "1h"}, window=window)
    assert lp.Pipeline.from_yaml(lp.Pipeline.of(plan.pipeline).to_yaml()) == plan.pipeline
    built = lp.pipeline("p").source(
        "a", "memory://none/a.csv", contract={"columns": COLUMNS}, event_time="t", watermark={"delay": "1h"}
    )
    step = Window("t", ("1h",), {"n": "count(*)"}, ("k",), **{n: v for n, v in window.items() if n != "by"})
    other = built.stage("s", "a", do=[step]).output("s", "memory://none/s").output("a", "memory://none/a").build()
    assert ops.operation(other.stages["s"].do[0]) == ops.operation(plan.pipeline.stages["s"].do[0])
