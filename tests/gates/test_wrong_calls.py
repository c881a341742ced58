"""What is not a rule, no frame or no clock is told as such, and so is what fails over rows."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import DefinitionError, LazypipeError, RunError

FRAME = pl.DataFrame({"n": [1, 20, None], "s": ["1", "x", None], "d": [date(2020, 1, 1)] * 3, "o": [1, 2, 3]})
ONE_EACH = "write {name: arguments}, one rule in each"
UNFIT = "rules: a rule cannot be made of its arguments: "


@pytest.mark.parametrize("call", [lp.check, lp.split])
@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"not_null": "n"}, f"rules: {{'not_null': 'n'}} is not a list of rules; {ONE_EACH}, in a list"),
        ("not_null", f"rules: 'not_null' is not a list of rules; {ONE_EACH}, in a list"),
        (None, f"rules: None is not a list of rules; {ONE_EACH}, in a list"),
        (["not_null", {"null": "n"}, {}, 5], "\n".join(f"rules[{i}]: {v} is not a rule; {ONE_EACH}" for i, v in ((0, "'not_null'"), (2, "{}"), (3, "5")))),
        ([{"not_null": "n", "null": "n"}], f"rules[0]: {{'not_null': 'n', 'null': 'n'}} is not a rule; {ONE_EACH}"),
        ([{1: "n"}], f"rules[0]: {{1: 'n'}} is not a rule; {ONE_EACH}"),
        ([{"any_not_null": []}], "rules[0].any_not_null: 'any_not_null' is empty; write at least one entry"),
        ([{"any_not_null": ["n", None]}], "rules[0].any_not_null[1]: an entry of 'any_not_null' must be text, not null; remove it, or write one"),
        ([{"distinct_count": {"columns": [], "min": 1}}], "rules[0].distinct_count.columns: 'columns' is empty; write at least one entry"),
        ([{"regex": {"column": "s", "pattern": date(2020, 1, 1)}}], f"{UNFIT}'datetime.date' object has no attribute 'removeprefix'; compare its arguments with its documentation"),
        ([{"length_between": {"column": "s", "min": 2**32}}], "rules[0].length_between.min: 4294967296 is not a length; write a whole number, zero or more"),
        *[([{rule: ["n", "n"]}], f"rules[0].{rule}: 'n' is listed twice in columns; name each column once") for rule in ("not_null", "positive", "unique", "primary_key", "any_not_null")],
    ],
)  # fmt: skip
def test_what_is_no_rule(call: Any, rules: Any, said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        call(FRAME, rules)
    assert str(caught.value) == said


@pytest.mark.parametrize("call", [lp.check, lp.split])
def test_rows_without_columns(call: Any) -> None:
    for frame in (pl.DataFrame(height=3), pl.LazyFrame(height=3)):
        with pytest.raises(LazypipeError, match="the frame has 3 rows and no columns; give it one at least"):
            call(frame, [{"row_count": {"min": 1}}])
    call(pl.DataFrame(), [{"row_count": {"max": 1}}])


@pytest.mark.parametrize("rule", ["unique", "primary_key", "foreign_key", "cardinality"])
def test_values_that_polars_cannot_compare_are_no_keys(rule: str) -> None:
    frame = pl.DataFrame({"o": [object(), object()]})
    more = {"references": {"to": "x"}, **({"min": 1} if rule == "cardinality" else {})}
    written = {"columns": "o", **(more if rule in ("foreign_key", "cardinality") else {})}
    with pytest.raises(DefinitionError, match="column 'o' is Object, whose values cannot be compared; cast it"):
        lp.check(frame, [{rule: written}], **({"x": frame} if "references" in written else {}))


@pytest.mark.parametrize(("op", "side"), [("=", "left"), ("!=", "right"), ("<", "left")])
def test_values_that_polars_cannot_compare_are_not_compared(op: str, side: str) -> None:
    frame = pl.DataFrame({"o": [object(), object()], "none": [None, None]})
    sides = {"left": "none", "right": "none", side: "o"}
    with pytest.raises(DefinitionError) as caught:
        lp.check(frame, [{"compare": {"op": op, **sides}}])
    said = "column 'o' is Object, whose values cannot be compared; cast it to a type of its own"
    assert str(caught.value) == f"rules[0].compare.{side}: {said}"


@pytest.mark.parametrize("rule", ["increasing", "decreasing"])
@pytest.mark.parametrize("argument", ["order_by", "by"])
def test_values_that_polars_cannot_compare_give_no_order(rule: str, argument: str) -> None:
    frame = pl.DataFrame({"n": [1, 2], "o": [object(), object()]})
    with pytest.raises(DefinitionError) as caught:
        lp.check(frame, [{rule: {"column": "n", "order_by": "n", argument: ["o"]}}])
    said = "column 'o' is Object, whose values cannot be compared; cast it to a type of its own"
    assert str(caught.value) == f"rules[0].{rule}.{argument}: {said}"


def test_the_column_of_a_reference_has_its_place() -> None:
    rule = {"foreign_key": {"column": "n", "references": {"to": "x", "column": "kk"}}}
    with pytest.raises(DefinitionError) as caught:
        lp.check(FRAME, [rule], x=pl.DataFrame({"k": [1]}))
    assert str(caught.value).startswith("rules[0].foreign_key.references.column[0]: unknown column 'kk' of 'x'; ")


def test_what_is_no_frame_or_clock() -> None:
    not_one: Any = {"n": [1]}
    with pytest.raises(LazypipeError, match=r"^frame is of type dict; give a pl.DataFrame or a pl.LazyFrame$"):
        lp.check(not_one, [{"not_null": "n"}])
    with pytest.raises(LazypipeError, match=r"^frame 'x' is of type dict; give a pl.DataFrame or a pl.LazyFrame$"):
        lp.split(FRAME, [{"not_null": "n"}], x=not_one)
    now: Any = date(2020, 1, 1)
    with pytest.raises(LazypipeError, match=r"^now is datetime.date\(2020, 1, 1\), which is not a datetime; write one"):
        lp.check(FRAME, [{"in_past": "d"}], now=now)
    assert lp.check(FRAME, [{"in_past": "d"}], now=datetime(2020, 1, 2)).failed == {}


def test_columns_that_are_given_once_only_are_read_as_often_as_is_needed() -> None:
    frame = pl.DataFrame({"a": [1, 1, None], "b": [2, 2, 3]})
    for rule, failed in (("unique", {"unique:a": 2}), ("not_null", {"not_null:a": 1})):
        assert lp.check(frame, [{rule: (c for c in ["a"])}]).failed == failed
        assert lp.check(frame, [{rule: {"columns": iter(["a"])}}]).failed == failed


def test_what_is_no_mapping_of_parameters() -> None:
    wrong: Any = ["a"]
    with pytest.raises(LazypipeError, match=r"^params is \['a'\], which is not a mapping; write {name: value}$"):
        lp.check(FRAME, [{"expression": "n > :a"}], params=wrong)
    with pytest.raises(LazypipeError, match=r"^params is \['a'\], which is not a mapping; write {name: value}$"):
        lp.apply({"filter": "n > :a"}, FRAME, params=wrong)


def test_objects_of_python_are_not_put_aside_as_their_addresses() -> None:
    frame = pl.DataFrame({"n": [1, 2], "o": [object(), object()]})
    said = r"^column 'o' is Object, whose values cannot be quarantined; cast it, or leave it out$"
    with pytest.raises(LazypipeError, match=said):
        lp.split(frame, [{"in_set": {"column": "n", "values": [1], "action": "quarantine"}}])
    assert lp.check(frame, [{"not_null": "o"}, {"in_set": {"column": "n", "values": [1]}}]).failed == {"in_set:n": 1}
    with pytest.raises(
        LazypipeError, match=r"^column 'o' is Object, whose values cannot be compared; cast it, or leave it"
    ):
        lp.diff(frame, frame, key="n")
    assert str(lp.diff(frame, frame, key="n", columns=[])) == "2 unchanged"


def test_frames_of_others_are_named_where_a_frame_is_wanted(tmp_path: Path) -> None:
    arrow: Any = FRAME.to_arrow()
    one_of = "give a pl.DataFrame or a pl.LazyFrame"
    calls: list[tuple[Any, str]] = [
        (lambda: lp.suggest_rules(arrow), f"frame is of type Table; {one_of}, such as pl.from_arrow(…) of it"),
        (
            lambda: lp.apply({"filter": "n > 1"}, arrow),
            f"frame is of type Table; {one_of}, such as pl.from_arrow(…) of it",
        ),
        (
            lambda: lp.diff(FRAME, arrow, key="o"),
            f"b is of type Table; {one_of}, a URI, or (URI, version), such as pl.from_arrow(…) of it",
        ),
        (lambda: lp.diff(("a",), FRAME, key="o"), f"a is of type tuple; {one_of}, a URI, or (URI, version)"),
        (
            lambda: lp.optimize.profile(arrow),
            f"data is of type Table; {one_of}, or the URI of a dataset or of Parquet files, such as pl.from_arrow(…) of it",
        ),
        (
            lambda: lp.optimize.advise(arrow),
            f"data is of type Table; {one_of}, or the URI of a dataset or of Parquet files, such as pl.from_arrow(…) of it",
        ),
        (lambda: lp.suggest_rules(FRAME, sample="5"), "sample is '5'; write 1 or more"),
        (lambda: lp.diff(FRAME, FRAME, key=None), "a difference needs a key; name the columns that identify a row"),
    ]
    for call, said in calls:
        with pytest.raises(LazypipeError) as caught:
            call()
        assert str(caught.value) == said
    FRAME.write_parquet(tmp_path / "x.parquet")
    assert lp.optimize.profile(tmp_path / "x.parquet").total == 3


def test_types_of_polars_are_names_of_types() -> None:
    rows = FRAME.with_columns(pl.col("n").cast(pl.Int64))
    assert lp.apply({"cast": {"n": pl.Float32, "o": pl.List(pl.Int64).inner}}, rows).collect().schema["n"] == pl.Float32
    assert (
        lp.check(rows, [{"schema": {"columns": rows.schema}}, {"is_type": {"column": "n", "type": pl.Int8}}]).failed
        == {}
    )
    assert lp.check(rows, [{"schema": {"columns": {**rows.schema, "s": pl.List(pl.String)}}}]).status == "fail"
    pipe = lp.pipeline("p").source("s", "x.csv", contract={"columns": {"n": pl.Int64, "at": pl.Datetime("us", "UTC")}})
    plan = pipe.stage("t", "s", do=[{"cast": {"n": pl.Int16()}}]).output("t", "out").build().compile()
    assert plan.schema("t") == pl.Schema({"n": pl.Int16(), "at": pl.Datetime("us", "UTC")})


def test_a_function_is_given_types_as_they_are() -> None:
    def typed(rows: pl.LazyFrame, dtype: Any) -> pl.LazyFrame:
        return rows.select(pl.col("o").cast(dtype))

    step = {"python": {"call": typed, "arguments": {"dtype": pl.Int8}}}
    assert lp.apply(step, FRAME).collect_schema()["o"] == pl.Int8


def test_what_is_no_definition_or_kind() -> None:
    wrong: Any = "pipeline.yaml"
    said = r"^str is not a definition; give lp.load\(path\), or what build\(\) of a builder gives$"
    with pytest.raises(LazypipeError, match=said):
        lp.trace(wrong, "t", {"n": 1})
    pipe = lp.pipeline("p").source("s", "x.csv", contract={"columns": {"n": "Int64"}}).output("s", "out").build()
    with pytest.raises(LazypipeError, match=r"^there is no kind 'fysical' of plan; did you mean 'physical'\?$"):
        pipe.compile().explain("s", wrong.replace("pipeline.yaml", "fysical"))
    with pytest.raises(LazypipeError, match=r"^output 's': the key 'n' is not a mapping; write {column: value}$"):
        pipe.compile().trace("s", wrong[:0] + "n")


def test_operations_take_frames_lazy_or_not_and_name_those_that_are_missing() -> None:
    other = pl.DataFrame({"o": [2], "p": ["x"]})
    assert lp.apply({"join": {"with": "other", "on": "o"}}, FRAME, other=other).collect()["p"].to_list() == ["x"]
    with pytest.raises(DefinitionError) as caught:
        lp.apply({"join": {"with": "other", "on": "o"}}, FRAME, othre=other)
    assert str(caught.value) == "join.with: unknown frame 'other'; did you mean 'othre'?"


def test_a_frame_that_is_not_given_at_all_says_how_to_give_it() -> None:
    rule = {"foreign_key": {"column": "n", "references": {"to": "known", "column": "k"}}}
    for call, place in (
        (lambda: lp.check(FRAME, [rule]), "rules[0].foreign_key.references"),
        (lambda: lp.apply({"join": {"with": "known", "on": "n"}}, FRAME), "join.with"),
    ):
        with pytest.raises(DefinitionError) as caught:
            call()
        assert str(caught.value) == f"{place}: unknown frame 'known'; give it by its name: known=…"


@pytest.mark.parametrize("call", [lp.check, lp.split])
@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"expression": "CAST(s AS INT) > 0"}, '"x" cannot become Int32'),
        (
            {"between": {"column": "n", "max": 5, "action": "repair", "repair": {"set": "n * 1000"}}},
            "20000 cannot become Int8",
        ),
    ],
)
def test_an_expression_that_fails_over_rows(call: Any, rule: dict[str, Any], said: str) -> None:
    with pytest.raises(RunError) as caught:
        call(FRAME.with_columns(pl.col("n").cast(pl.Int8)), [rule])
    fix = "fix the rows, or the expression of the rule, with TRY_CAST for instance"
    assert str(caught.value) == f"the rows cannot be checked: {said}; {fix}"


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"warn_above": 10, "fail_above": 5}, "fail_above 5 fails the gate before it could warn above 10; write a warn_above that is less than fail_above"),
        ({"warn_above": "1%", "max_failures": "0.5%"}, "max_failures 0.5% fails the gate before it could warn above 1%; write a warn_above that is less than max_failures"),
        ({"warn_above": 5, "fail_above": 5}, None),
        ({"warn_above": "5%", "fail_above": "5%"}, None),
        ({"warn_above": 10, "fail_above": "5%"}, None),  # depends on how many rows there are
        ({"warn_above": "10%", "fail_above": 5}, None),
    ],
)  # fmt: skip
def test_limits_that_contradict_each_other(limits: dict[str, Any], said: str | None) -> None:
    rules = [{"not_null": {"columns": "n", **limits}}]
    if said is None:
        assert lp.check(FRAME, rules).checks[0].failed == 1
        return
    with pytest.raises(DefinitionError) as caught:
        lp.check(FRAME, rules)
    assert str(caught.value) == f"rules[0].not_null.warn_above: {said}"


def mending(column: str, repair: dict[str, Any], most: Any) -> list[dict[str, Any]]:
    return [{"between": {"column": column, "max": most, "action": "repair", "repair": repair}}]


NOT_SQL = "is not a SQL expression; write one, or null: true"
NO_ORDER = "is not a list of columns; name the columns that order the rows"


@pytest.mark.parametrize(
    ("repair", "said"),
    [
        ({"default": 2.5}, "default: 2.5 does not fit column 'n', which is Int64; write a value of that type"),
        ({"default": True}, "default: True does not fit column 'n', which is Int64; write a value of that type"),
        ({"default": 10**40}, f"default: {10**40} does not fit column 'n', which is Int64; write a value of that type"),
        ({"default": ":half"}, "default: 0.5 does not fit column 'n', which is Int64; write a value of that type"),
        ({"default": ":hal"}, "default: unknown parameter :hal; did you mean 'half'?"),
        ({"default": None}, "default: default needs a value; write one, or null: true"),
        ({"set": "n / 2"}, "set: the repair gives Float64, and column 'n' is Int64; cast it"),
        ({"set": 2.5}, "set: the repair gives Decimal(2, 1), and column 'n' is Int64; cast it"),
        ({"set": None}, f"set: nothing {NOT_SQL}"),
        ({"set": ["n"]}, f"set: ('n',) {NOT_SQL}"),
        ({"previous": 5}, f"previous: 5 {NO_ORDER}"),
        ({"previous": []}, f"previous: () {NO_ORDER}"),
        ({"previous": ["o", None]}, f"previous: ('o', None) {NO_ORDER}"),
        ({"previous": ["o", "zz"]}, "previous[1]: unknown column 'zz'; known columns: d, n, o, s"),
    ],
)
def test_repairs_lose_nothing_in_silence(repair: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        lp.check(FRAME, mending("n", repair, 5), params={"half": 0.5})
    assert str(caught.value) == f"rules[0].between.repair.{said}"


@pytest.mark.parametrize(
    ("column", "dtype", "written", "expected"),
    [
        ("d", pl.Date, "2000-01-01", date(2000, 1, 1)),
        ("d", pl.Datetime("ms"), "2000-01-01T12:00", datetime(2000, 1, 1, 12)),
        ("n", pl.Int8, 2.0, 2),
        ("n", pl.Float32, 0.1, pl.Series([0.1], dtype=pl.Float32)[0]),
        ("n", pl.Int64, ":half", 3),
    ],
)
def test_defaults_are_written_as_bounds_are(column: str, dtype: Any, written: Any, expected: Any) -> None:
    frame = FRAME.select(pl.col(column).cast(dtype))
    most = "2010-01-01" if column == "d" else 5
    good = lp.split(frame, mending(column, {"default": written}, most), params={"half": 3}).good
    assert good.schema[column] == dtype
    assert expected in good[column].to_list()


UNTYPED = pl.DataFrame({"a": [None, None]})


@pytest.mark.parametrize(
    "rule",
    [
        *[{name: {"column": "a", "min": 1}} for name in ("mean", "std", "min", "max", "median")],
        *[{name: {"column": "a", "min": "2020-01-01"}} for name in ("min", "max", "median")],
        {"quantile": {"column": "a", "q": 0.5, "max": 1}},
        {"sum": {"column": "a", "min": 0}},
        {"freshness": {"column": "a", "within": "2h"}},
        {"psi": {"column": "a"}},
        {"ks": {"column": "a", "max": 0.1}},
        {"z_score": {"metric": "mean", "column": "a"}},
    ],
)
def test_measures_of_a_column_without_type_measure_nothing(rule: dict[str, Any]) -> None:
    assert lp.check(UNTYPED, [rule]).failed == {}
    assert lp.check(UNTYPED.clear(), [rule]).failed == {}
    (name,) = rule
    if name != "z_score":
        assert lp.check(UNTYPED.with_columns(g=pl.Series([1, 2])), [{name: {**rule[name], "by": "g"}}]).failed == {}


def test_the_sum_of_a_column_without_type_is_nothing() -> None:
    assert lp.check(UNTYPED, [{"sum": {"column": "a", "min": 1}}]).checks[0].value == 0
