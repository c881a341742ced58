"""Gates on frames of one's own: what is counted, repaired, looked up, parted; against naive oracles."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.errors import DefinitionError
from lazypipe.gates.alone import check_frame, settle, split_frame
from lazypipe.gates.marks import mark, nowhere
from lazypipe.gates.report import CheckResult
from lazypipe.gates.rule import HISTORY, PREVIOUS, VALUE, Check, Measure, Part, Reference
from lazypipe.gates.tap import Tap

ROWS = st.lists(
    st.tuples(st.none() | st.integers(0, 60), st.none() | st.integers(-2, 2), st.none() | st.booleans()), max_size=120
)


@given(rows=ROWS, order=st.sampled_from(["as drawn", "sorted"]), action=st.sampled_from(["quarantine", "drop", "warn"]))
def test_split_equals_the_oracle(rows: list[tuple[Any, Any, Any]], order: str, action: str) -> None:
    frame = pl.DataFrame(rows, schema={"k": pl.Int64, "v": pl.Int64, "w": pl.Boolean}, orient="row").with_row_index("i")
    if order == "sorted":
        frame = frame.sort("k", nulls_last=True)
    rules = [
        {"unique": {"columns": "k", "where": "w", "action": action}},
        {"between": {"column": "v", "min": 0, "action": "quarantine"}},
    ]
    found = lp.split(frame, rules, run="r")
    times = Counter(k for _, k, _, w in frame.rows() if w and k is not None)
    repeats = {i for i, k, _, w in frame.rows() if w and times[k] > 1}
    low = {i for i, _, v, _ in frame.rows() if v is not None and v < 0}
    quarantined = low | (repeats if action == "quarantine" else set())
    gone = quarantined | (repeats if action == "drop" else set())
    assert sorted(found.good["i"]) == sorted(set(range(len(rows))) - gone)
    assert sorted(found.bad["i"]) == sorted(quarantined)
    for row in found.bad.iter_rows(named=True):
        broken = {"unique:k": row["i"] in repeats, "between:v": row["i"] in low}
        assert set(row["_lazypipe_rules"]) == {rule for rule, is_so in broken.items() if is_so}
        assert row["_lazypipe_run"] == "r"
    report = found.report
    assert [c.failed for c in report.checks] == [len(repeats), len(low)]
    assert (report.rows, report.good, report.quarantined) == (len(rows), len(rows) - len(gone), len(quarantined))


def test_long_sorted_keys_are_settled_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [n // 2 if n % 1_000 < 4 else n for n in range(300_000)]
    frame = pl.DataFrame({"k": sorted(keys)}).with_row_index("i")
    monkeypatch.setattr("lazypipe.gates.alone.repeated", None)  # no second query
    found = lp.split(frame, [{"unique": {"columns": "k", "action": "quarantine"}}])
    times = Counter(keys)
    assert found.bad.height == sum(n for n in times.values() if n > 1) == found.report.checks[0].failed
    assert found.good.height + found.bad.height == frame.height
    assert lp.check(frame, [{"unique": "k"}]).failed == {"unique:k": found.bad.height}


def test_rows_held_back_come_out_once_in_any_cut() -> None:
    # direct: coverage does not look into the threads of Polars
    check = Check("u", "unique", "quarantine", keys=("k",))
    for cuts in ([0, 100], [0, 40, 100], [0, 25, 50, 75, 100]):
        frame = pl.DataFrame({"k": [n // 2 if n in (39, 40, 41) else 100 + n for n in range(100)]}).sort("k")
        tap = Tap([check], frame.schema, run="r", spill=Path(), hold=True)
        tap.attach(frame.lazy())
        rows = tap._marked.frame.collect()
        good = [tap._flow(rows.slice(a, b - a)) for a, b in itertools.pairwise(cuts)]
        assert settle(tap, [check], frame.lazy) == {}
        held = tap.release()
        assert held is not None
        bad = pl.concat(tap.quarantined()).collect()
        times = Counter(frame["k"])
        assert sorted([*pl.concat(good)["k"], *held["k"]]) == [k for k in frame["k"] if times[k] == 1]
        assert sorted(bad["k"]) == [k for k in frame["k"] if times[k] > 1]
        assert tap.release() is None


# repairs


def repaired(repair: dict[str, Any], **more: Any) -> lp.Split:
    frame = pl.DataFrame({"i": [1, 2, 3, 4], "a": [5, -7, None, 99]})
    rule = {"between": {"column": "a", "min": 0, "max": 50, "action": "repair", "repair": repair, **more}}
    return lp.split(frame, [rule])


@pytest.mark.parametrize(
    ("repair", "expected"),
    [
        ({"null": True}, [5, None, None, None]),
        ({"default": 7}, [5, 7, None, 7]),
        ({"set": "abs(a) % 50"}, [5, 7, None, 49]),
        ({"set": pl.col("i") * 10}, [5, 20, None, 40]),
        ({"clip": True}, [5, 0, None, 50]),
        ({"previous": "i"}, [5, 5, None, 5]),
        ({"previous": ["i"]}, [5, 5, None, 5]),
    ],
)
def test_a_repair_mends_and_is_checked_again(repair: dict[str, Any], expected: list[Any]) -> None:
    found = repaired(repair)
    assert found.good.sort("i")["a"].to_list() == expected
    (check,) = found.report.checks
    assert (check.failed_before, check.repaired, check.failed, check.status) == (2, 2, 0, "pass")
    assert found.bad.height == 0


def test_what_a_repair_leaves_is_put_aside_as_it_was() -> None:
    found = repaired({"set": "a + 10", "then": "quarantine"})
    assert found.good.sort("i")["a"].to_list() == [5, 3, None]
    (check,) = found.report.checks
    assert (check.failed_before, check.repaired, check.failed) == (2, 1, 1)


def test_a_later_repair_may_undo_an_earlier_one() -> None:
    frame = pl.DataFrame({"a": [-1, 2, 3, None]})
    rules = [
        {"between": {"column": "a", "min": 0, "action": "repair", "repair": {"clip": True, "then": "warn"}}},
        {"not_in_set": {"column": "a", "values": [3], "action": "repair", "repair": {"set": "a - 5"}}},
    ]
    for report in (lp.check(frame, rules), lp.split(frame, rules).report):
        first, second = report.checks
        assert (first.failed_before, first.repaired, first.failed, first.status) == (2, 1, 1, "warn")
        assert (second.failed_before, second.repaired, second.failed) == (1, 1, 0)


def test_repaired_rows_were_checked_also_where_the_condition_holds_no_longer() -> None:
    frame = pl.DataFrame({"a": [-1, 2, None, 7]})
    rule = {"not_null": {"columns": "a", "where": "a IS NULL OR a > 5", "action": "repair", "repair": {"default": 3}}}
    (check,) = lp.check(frame, [rule]).checks
    assert (check.evaluated, check.repaired, check.failed) == (2, 1, 0)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("previous", "expected"),
    [
        # the seventh has no place in the order: it is before none, and none is before it
        ({"order_by": "day", "by": ["sensor"]}, [5, 9, 4, 9, 7, 4, None, None]),
        ({"order_by": ["day"]}, [5, 9, 4, 4, 7, 4, None, 9]),
        # of rows of one day the valid ones come first, by their values
        ("day", [5, 9, 4, 4, 7, 4, None, 9]),
    ],
)
def test_the_previous_value_is_that_of_a_row_with_a_place(previous: Any, expected: Any, backwards: bool) -> None:
    rows = {
        "i": range(8),
        "sensor": ["a", "b", "a", "b", "a", "a", "a", None],
        "day": [1, 1, 2, 2, None, 2, None, 1],
        "a": [5, 9, None, None, 7, 4, None, None],
    }
    frame = pl.DataFrame(rows)
    rule = {"not_null": {"columns": "a", "action": "repair", "repair": {"previous": previous, "then": "warn"}}}
    good = lp.split(frame.reverse() if backwards else frame, [rule]).good
    assert good.sort("i")["a"].to_list() == expected


def test_original_values_stand_in_quarantine() -> None:
    frame = pl.DataFrame({"i": [1, 2], "a": [-1, -2], "b": [None, 1]})
    rules = [
        {"between": {"column": "a", "min": 0, "action": "repair", "repair": {"default": 0}}},
        {"between": {"column": "a", "min": -5, "max": 5, "id": "wide", "action": "repair", "repair": {"default": 1}}},
        {"not_null": {"columns": "b", "action": "quarantine"}},
    ]
    found = lp.split(frame, rules)
    assert found.good.rows() == [(2, 0, 1)]
    assert found.bad.drop("_lazypipe_run", "_lazypipe_file").rows() == [(1, -1, None, ["not_null:b"])]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"action": "repair"}, "action repair needs a repair; add repair: {set: …}, or another of null, default, clip"),
        ({"repair": {"null": True}}, "repair is for action: repair; write action: repair, or remove repair"),
        ({"action": "repair", "repair": {"nul": True}}, "unknown repair 'nul'; did you mean 'null'?"),
        (
            {"action": "repair", "repair": {"then": "drop"}},
            "this repairs nothing; give one of set, null, default, clip",
        ),
        ({"action": "repair", "repair": {"null": True, "clip": True}}, "null and clip cannot both be the repair; "),
        ({"action": "repair", "repair": {"null": False}}, "null has no argument; write null: true"),
        (
            {"action": "repair", "repair": {"null": True, "then": "repair"}},
            "'repair' is not an action for rows that stay invalid after a repair; write fail, quarantine, drop or warn",
        ),
        ({"action": "repair", "repair": {"default": "x"}}, "'x' does not fit column 'a', which is Int64; "),
        ({"action": "repair", "repair": {"set": "'x'"}}, "the repair gives String, and column 'a' is Int64; cast it"),
        ({"action": "repair", "repair": {"set": "zz"}}, "unknown column 'zz'"),
        ({"action": "repair", "repair": {"previous": "zz"}}, "unknown column 'zz'"),
        (
            {"action": "repair", "repair": {"previous": {"order_by": "a", "by": "zz"}}},
            "previous.by[0]: unknown column 'zz'",
        ),
        ({"action": "repair", "repair": {"previous": {"by": "a"}}}, "previous: nothing is not a list of columns; name"),
        (
            {"action": "repair", "repair": {"previous": {"order_by": "a", "by": 1}}},
            "previous.by: 1 is not a list of columns; name the columns to group by",
        ),
        (
            {"action": "repair", "repair": {"previous": {"order_by": "a", "buy": "a"}}},
            "previous.buy: unknown argument 'buy' of previous; did you mean 'by'?",
        ),
        ({"action": "mend"}, "unknown action 'mend'; known actions: "),
    ],
)
def test_wrong_repairs(more: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        lp.check(pl.DataFrame({"a": [1]}), [{"between": {"column": "a", "min": 0, **more}}])
    assert message in str(caught.value)


def test_rules_that_repair_nothing_say_so() -> None:
    frame = pl.DataFrame({"a": [1], "s": ["x"]})
    with pytest.raises(DefinitionError, match="expression is not about the values of one column, and cannot repair"):
        lp.check(frame, [{"expression": {"condition": "a > 0", "action": "repair", "repair": {"null": True}}}])
    with pytest.raises(DefinitionError, match="there is no nearest value to clip to; write set: or default:"):
        lp.check(frame, [{"in_set": {"column": "s", "values": ["x"], "action": "repair", "repair": {"clip": True}}}])


def test_repairs_of_related_types_are_cast() -> None:
    frame = pl.DataFrame({"c": ["x", "y"], "f": [1.0, 2.0]}, schema={"c": pl.Enum(["x", "y"]), "f": pl.Float32})
    rules = [
        {"in_set": {"column": "c", "values": ["x"], "action": "repair", "repair": {"set": "'x'"}}},
        {"between": {"column": "f", "max": 1, "action": "repair", "repair": {"set": "1"}}},
        {"between": {"column": "f", "max": 1, "id": "n", "action": "repair", "repair": {"set": "NULL"}}},
    ]
    assert lp.split(frame, rules).good.rows() == [("x", 1.0), ("x", 1.0)]


# references


@given(
    st.lists(st.tuples(st.none() | st.integers(0, 4), st.none() | st.integers(0, 1)), max_size=12),
    st.lists(st.tuples(st.none() | st.integers(0, 4), st.none() | st.integers(0, 1)), max_size=12),
    st.integers(0, 2),
    st.none() | st.integers(2, 3),
)
def test_references_equal_the_oracle(rows: list[Any], others: list[Any], least: int, most: int | None) -> None:
    frame = pl.LazyFrame(rows, schema={"a": pl.Int64, "b": pl.Int64}, orient="row")
    other = pl.LazyFrame(others, schema={"a": pl.Int64, "x": pl.Int64}, orient="row")
    check = Check("r", "reference", "drop", reference=Reference(("a", "b"), "o", ("a", "x"), least, most))
    times = Counter(others)
    bad = [r for r in rows if None not in r and not least <= times[r] <= (99 if most is None else most)]
    report = check_frame(frame, [check], lambda _: other, {})
    assert report.checks[0].failed == len(bad)
    found = split_frame(frame, [check], lambda _: other, {}, run="")
    assert sorted(map(str, found.good.rows())) == sorted(str(r) for r in rows if r not in bad)


def test_without_references_nothing_is_looked_up() -> None:
    with pytest.raises(AssertionError):
        nowhere(Reference(("a",), "o", ("a",)))
    assert mark(pl.LazyFrame({"a": [1]}), [], nowhere).frame.collect().rows() == [(1,)]


# measures

TOTAL = Part("total", pl.col("v").sum(), pl.col("total").sum())


def measure(**more: Any) -> Check:
    given = {"accept": pl.col(VALUE) <= 3, "expected": "at most 3", "value": pl.col("total"), "parts": (TOTAL,)}
    return Check("m", "sum", "fail", measure=Measure(**{**given, **more}), where=more.get("where"))


FRAME = pl.LazyFrame({"g": ["x", "x", "y", None], "v": [1, 2, 9, 4]})


@pytest.mark.parametrize("form", ["parts", "value", "query"])
@pytest.mark.parametrize("by", [(), ("g",)])
def test_a_measure_is_the_same_in_every_form(form: str, by: tuple[str, ...]) -> None:
    def query(rows: pl.LazyFrame, frames: Any) -> pl.LazyFrame:
        value = pl.col("v").sum().alias(VALUE)
        return rows.group_by(by).agg(value) if by else rows.select(value)

    more: dict[str, Any] = {
        "parts": {},
        "value": {"parts": (), "value": pl.col("v").sum()},
        "query": {"parts": (), "value": None, "query": query},
    }[form]
    report = check_frame(FRAME, [measure(by=by, columns=("v",), **more)], nowhere, {})
    (result,) = report.checks
    if by:
        groups = ({"g": None, "value": 4}, {"g": "y", "value": 9})
        assert (result.evaluated, result.failed, result.groups, result.value) == (3, 2, groups, None)
        assert str(result) == "m: g = None: 4; g = y: 9, expected at most 3 in 2 of 3 groups (fail)"
    else:
        assert (result.evaluated, result.failed, result.value) == (1, 1, 16)
        assert str(result) == "m: 16, expected at most 3 (fail)"
    assert report.status == "fail"
    assert report.to_dict()["checks"][0]["expected"] == "at most 3"


def test_a_measure_counts_rows_of_where_that_go_on() -> None:
    checks = [
        Check("m", "sum", "fail", measure=measure().measure, where=pl.col("g") == "x"),
        Check("low", "between", "drop", violated=pl.col("v") == 1),
    ]
    found = split_frame(FRAME, checks, nowhere, {}, run="")
    assert [c.value for c in found.report.checks] == [2, None]
    whole = [Check("q", "median", "fail", measure=measure(parts=(), value=pl.col("v").median()).measure), checks[1]]
    assert split_frame(FRAME, whole, nowhere, {}, run="").report.checks[0].value == 4.0


def test_nothing_measured_is_accepted_and_many_figures_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_frame(FRAME.filter(False), [measure()], nowhere, {}).status == "pass"
    monkeypatch.setattr("lazypipe.gates.measure._COMPACT", 1)
    tap = Tap([measure(by=("g",))], FRAME.collect_schema(), run="", spill=Path(), split=False)
    tap.attach(FRAME)
    for part in FRAME.collect().iter_slices(1):
        tap._flow(part)
    tap.measure(measure(by=("g",)), lambda: FRAME, {})
    assert tap.report("n").checks[0].failed == 2


def test_history_and_the_previous_commit() -> None:
    accept = pl.col(VALUE) <= pl.col(HISTORY).list.max()
    check = measure(accept=accept, history=2, frames=(PREVIOUS,))
    tap = Tap([check], FRAME.collect_schema(), run="", spill=Path(), split=False)
    tap.attach(FRAME)
    tap._flow(FRAME.collect())
    verdicts = []
    for history in ([], [20, 1, 2], [1, None, 20]):
        tap.measure(check, lambda: FRAME, {}, history)
        verdicts.append(tap.report("n").status)
    assert verdicts == ["pass", "fail", "pass"]


# reports


def test_samples_name_the_first_failing_rows_and_hide_what_is_personal() -> None:
    frame = pl.DataFrame({"id": range(30), "mail": ["x"] * 30})
    check = Check("c", "in_set", "warn", violated=pl.col("mail") == "x")
    for key, masked, expected in (
        ((), frozenset[str](), {"mail": "x"}),
        (("id", "mail"), frozenset({"mail"}), {"id": 0, "mail": "***"}),
    ):
        tap = Tap([check], frame.schema, run="", spill=Path(), key=key, masked=masked)
        tap.attach(frame.lazy())
        for part in tap._marked.frame.collect().iter_slices(12):
            tap._flow(part)
        samples = tap.report("n").checks[0].samples
        assert (len(samples), samples[0]) == (10, expected)


def test_samples_are_of_the_rows_that_violate_each_check_whatever_becomes_of_these() -> None:
    frame = pl.DataFrame({"id": range(60)})
    holds = {"quarantine": lambda n: n % 3 == 1, "drop": lambda n: n % 4 == 1, "warn": lambda n: n % 5 == 2}
    every = {"quarantine": 3, "drop": 4, "warn": 5}
    made = [Check(a, "in_set", a, violated=pl.col("id") % n == (1 if n < 5 else 2)) for a, n in every.items()]  # type: ignore[arg-type]  # an action
    tap = Tap([*made, Check("u", "unique", "drop", keys=("id",))], frame.schema, run="", spill=Path())
    tap.attach(frame.lazy())
    for part in tap._marked.frame.collect().iter_slices(25):
        tap._flow(part)
    told = {c.id: [s["id"] for s in c.samples] for c in tap.report("n").checks}
    assert told == {a: [n for n in range(60) if violates(n)][:10] for a, violates in holds.items()} | {"u": []}


def test_results_are_plain_data() -> None:
    result = CheckResult("m", "mean", "warn", "pass", 1, 0, value=float("nan"), expected="x", groups=({"d": None},))
    assert result.to_dict()["value"] == "nan"
    assert "samples" not in result.to_dict()


def test_a_report_takes_other_forms() -> None:
    report = lp.check(pl.DataFrame({"a": [1, None]}), [{"not_null": "a"}])
    assert report.to_frame().select("id", "failed").rows() == [("not_null:a", 1)]
    assert "1 of 2 rows" in report.to_markdown()
    facets = report.to_openlineage(bytes=7, producer="urn:me")
    assert facets["dataQualityMetrics"]["bytes"] == 7
    assert {f["_producer"] for f in facets.values()} == {"urn:me"}
    assert [f["_producer"] for f in report.to_openlineage().values()] == ["urn:lazypipe:gates"] * 2


def test_directly_what_else_a_tap_does() -> None:
    # direct: coverage does not look into the threads of Polars
    key = Check("u", "unique", "quarantine", keys=("k",))
    mend = Check("r", "between", "fail", violated=pl.col("v") < 0, column="v", repair=pl.lit(0))
    total = Check("s", "sum", "fail", measure=Measure(pl.col(VALUE) < 9, "less", pl.col("total"), (TOTAL,)))
    frame = pl.DataFrame({"k": range(40), "v": [-1, 1] * 20})
    for hold, rows in ((True, frame), (False, frame.reverse())):
        tap = Tap([key, mend, total], frame.schema, run="r", spill=Path(), hold=hold)
        tap.attach(rows.lazy())
        good = tap._flow(tap._marked.frame.collect())
        assert settle(tap, [key, mend, total], rows.lazy) == {}
        held = tap.release()
        tap.measure(total, rows.lazy, {})
        unique, repaired, summed = tap.report("n").checks
        assert (unique.failed, repaired.repaired, summed.value) == (0, 20, 20)
        assert good.height + (0 if held is None else held.height) == 40
        assert (held is None) is not hold


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"not_null": 5}, "rules[0].not_null: 'not_null' must be text or a list, not 5; put it in quotes: \"5\""),
        ({"unique": {"columns": [1]}}, "rules[0].unique.columns[0]: an entry of 'columns' must be text, not 1; put it in quotes: \"1\""),
        ({"regex": {"column": "t", "pattern": 5}}, "rules[0].regex.pattern: 'pattern' must be text, not 5; put it in quotes: \"5\""),
        ({"in_set": {"column": "t", "values": "a"}}, "rules[0].in_set.values: 'values' must be a list, not 'a'; write [a]"),
        ({"z_score": {"metric": "row_count", "runs": "3"}}, "rules[0].z_score.runs: 'runs' must be a whole number, not '3'; write it without quotes: 3"),
    ],
)  # fmt: skip
def test_arguments_of_another_type(rule: dict[str, Any], message: str) -> None:
    frame = pl.DataFrame({"t": ["a"]})
    for use in (lp.check, lp.split):
        with pytest.raises(lp.DefinitionError) as caught:
            use(frame, [rule])
        assert str(caught.value) == message


def test_groups_are_compared_with_those_of_a_frame_that_has_them() -> None:
    frame = pl.DataFrame({"t": ["a", "b"]})
    rule = {"row_count": {"same_as": "o", "by": "t"}}
    assert lp.check(frame, [rule], o=frame).status == "pass"
    with pytest.raises(lp.DefinitionError, match=r"row_count.by\[0\]: unknown column 't' of 'o'; known columns: y"):
        lp.check(frame, [rule], o=pl.DataFrame({"y": [1]}))
    with pytest.raises(lp.DefinitionError, match="row_count.same_as: column 't' is String, and Int64 in 'o'; cast one"):
        lp.check(frame, [rule], o=pl.DataFrame({"t": [1]}))


def test_a_check_of_all_rows_and_one_of_a_column_say_so() -> None:
    report = lp.check(
        pl.DataFrame({"t": ["a"]}), [{"row_count": {"min": 1}}, {"distinct_count": {"columns": "t", "min": 1}}]
    )
    assert [(c.id, c.column) for c in report.checks] == [("row_count", None), ("distinct_count:t", "t")]
