"""Suggested rules: what is proposed for which data, why, and that every one of them holds on the rows it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.errors import LazypipeError
from lazypipe.gates.suggest import suggest_rules
from lazypipe.spec import document

NAN, INF = math.nan, math.inf


def suggested(frame: pl.DataFrame | pl.LazyFrame, **more: Any) -> list[Mapping[str, Any]]:
    """The rules; each holds on the frame, and the YAML says the same as the values."""
    found = suggest_rules(frame, **more)
    rules = list(found)
    assert document.parse(found.to_yaml(), "<yaml>")[0] == rules
    assert lp.check(frame, found).failed == {}
    return rules


def of(values: Any, dtype: Any = None, *, name: str = "a") -> list[Mapping[str, Any]]:
    """What is suggested for a column, besides that it is not null."""
    frame = pl.DataFrame({name: pl.Series(name, values, dtype=dtype)})
    return [r for r in suggested(frame) if "not_null" not in r]


# keys


def test_keys() -> None:
    frame = pl.DataFrame(
        {
            "amount": range(5, 25),
            "order_id": [f"o{n}" for n in range(20)],
            "ref": [f"{'r' * (n % 5)}{n}" for n in range(20)],
            "at": [datetime(2024, 1, 1, n) for n in range(20)],
            "price": [n / 3 for n in range(20)],
        }
    )
    rules = suggested(frame)
    assert rules[:4] == [
        {"primary_key": ["order_id"]},
        {"unique": {"columns": ["amount"], "action": "warn"}},
        {"unique": {"columns": ["ref"], "action": "warn"}},
        {"not_null": ["amount", "ref", "at", "price"]},
    ]
    # of numbers that are keys the range says nothing
    assert not [r for r in rules if r.get("between", {}).get("column") == "amount"]


def test_a_datetime_is_a_key_where_nothing_else_is() -> None:
    hours = [datetime(2024, 1, 1, n, tzinfo=UTC) for n in range(20)]
    assert suggested(pl.DataFrame({"at": hours, "x": [1, 2] * 10}))[0] == {"primary_key": ["at"]}


def test_nine_rows_or_one_repeat_are_no_key() -> None:
    for values in ([*range(9)], [*range(99), 98], [*range(99), None]):
        assert "primary_key" not in {n for r in of(values) for n in r}


# sets


def test_sets_of_few_values() -> None:
    for dtype in (pl.String, pl.Categorical):
        assert of(["b", "a", None] * 10, dtype) == [{"in_set": {"column": "a", "values": ["a", "b"]}}]
    # a value that stands there once may be one of many, and a name may be any
    assert "in_set" not in str(of(["a"] * 40 + ["b"]))
    assert of(["x", "yy"] * 10, name="count")[0] == {"in_set": {"column": "count", "values": ["x", "yy"]}}
    assert of(["x", "yy"] * 4) == []
    assert of([*"abc"] * 3 + ["dd"], pl.Categorical) == []


def test_most_values() -> None:
    frame = pl.DataFrame({"a": [f"{'x' * n}" for n in range(1, 24)] * 10})
    assert suggested(frame) == [
        {"not_null": ["a"]},
        {"not_empty": "a"},
        {"length_between": {"column": "a", "max": 30, "action": "warn"}},
    ]
    (_, rule) = suggested(frame, most_values=23)
    assert len(rule["in_set"]["values"]) == 23


@pytest.mark.parametrize(
    ("values", "dtype", "value"),
    [
        ([5] * 10, pl.Int8, 5),
        ([5, None] * 10, pl.UInt64, 5),
        ([0.5] * 10, pl.Float32, 0.5),
        ([True, None] * 10, pl.Boolean, True),
        ([False] * 10, pl.Boolean, False),
        (["é\n\x00"] * 10, pl.String, "é\n\x00"),
    ],
)
def test_constants(values: Any, dtype: Any, value: Any) -> None:
    assert of(values, dtype)[-1] == {"in_set": {"column": "a", "values": [value]}}


def test_what_is_no_constant() -> None:
    assert of([5] * 9) == [{"positive": ["a"]}]
    assert of([True, False] * 10) == []
    assert of([True] * 9) == []
    assert of([INF] * 10) == [{"positive": ["a"]}]
    assert of([NAN] * 10) == []
    assert of([2**60] * 10) == [{"positive": ["a"]}]
    assert of([date(2024, 1, 1)] * 10) == []


# texts

FORMS: dict[str, tuple[list[str], Mapping[str, Any]]] = {
    "email": (["a@b.de", "c.d@e.org"], {"format": {"is": "email"}}),
    "uuid": (["123e4567-e89b-12d3-a456-426614174000"], {"format": {"is": "uuid"}}),
    "url": (["https://a.de/b?c=d", "ftp://a"], {"format": {"is": "url"}}),
    "ipv4": (["10.0.0.1", "255.1.2.3"], {"format": {"is": "ipv4"}}),
    "ipv6": (["::1", "fe80::a"], {"format": {"is": "ipv6"}}),
    "mac": (["00:00:5e:00:53:01"], {"format": {"is": "mac"}}),
    "iban": (["DE89370400440532013000"], {"format": {"is": "iban"}}),
    "ean13": (["4006381333931"], {"format": {"is": "ean13"}}),
    "date": (["2024-02-29", "1999-12-31"], {"parseable": {"as": "date"}}),
    "datetime": (["2024-02-29T12:00", "1999-12-31 23:59:59.5Z"], {"parseable": {"as": "datetime"}}),
    "time": (["12:00", "23:59:59"], {"parseable": {"as": "time"}}),
    "German date": (["31.12.2024", "29.02.2024"], {"parseable": {"as": "date", "format": "%d.%m.%Y"}}),
    "American date": (["12/31/2024", "01/02/2024"], {"parseable": {"as": "date", "format": "%m/%d/%Y"}}),
    "compact date": (["20241231", "20240229"], {"parseable": {"as": "date", "format": "%Y%m%d"}}),
    "date and clock": (["31.12.2024 23:59", "1.2.2024 0:00"], {"parseable": {"as": "datetime", "format": "%d.%m.%Y %H:%M"}}),
    "German number": ([f"{n}.234,{n}" for n in range(1, 60)], {"parseable": {"as": "number", "format": "1.234,56"}}),
    "json": (['{"a": 1}', "[]"], {"json": None}),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMS)
def test_forms_of_text(kind: str) -> None:
    values, form = FORMS[kind]
    ((name, arguments),) = form.items()
    rule = {name: "a" if arguments is None else {"column": "a", **arguments}}
    assert of([*values, None] * 10) == [rule]
    # one that is not written so, after the rows that are tried first
    broken = pl.DataFrame({"a": [*values, None] * 1_000 + ["?"]})
    assert rule not in suggested(broken)


def test_numbers_as_text() -> None:
    many = [str(n * 37 - 400) for n in range(40)]
    assert {"parseable": {"column": "a", "as": "integer"}} in of(many)
    assert {"parseable": {"column": "a", "as": "number"}} in of([f"{n / 8}" for n in range(40)])
    # flags are rather a set, and a set of dates rather dates
    assert of(["0", "1"] * 10) == [{"in_set": {"column": "a", "values": ["0", "1"]}}]
    assert of(["1.5", "0.5"] * 10) == [{"in_set": {"column": "a", "values": ["0.5", "1.5"]}}]


def test_a_form_that_may_mean_two_things_is_none() -> None:
    both = ["01/02/2024", "11/12/2024", "03/04/2024"] * 10
    assert of(both) == [{"in_set": {"column": "a", "values": sorted(set(both))}}]
    assert of([*both, "31/12/2024"]) == [{"parseable": {"column": "a", "as": "date", "format": "%d/%m/%Y"}}]
    # points or commas: 1,234 is either
    assert "parseable" not in str(of(["1,234", "12,345"] * 20))


def test_text_that_begins_with_nothing_has_no_form() -> None:
    frame = pl.DataFrame({"a": [None] * 1_000 + [f"a{n}@b.de" for n in range(20)] + ["a1@b.de"]})
    assert suggested(frame) == [{"not_empty": "a"}, {"length_between": {"column": "a", "max": 8, "action": "warn"}}]


def test_lengths() -> None:
    codes = [f"{n:03}x" for n in range(25)] + ["001x"]
    assert of(codes) == [{"length_between": {"column": "a", "min": 4, "max": 4}}]
    words = ["é" * n for n in range(1, 25)] + ["é"]
    assert of(words) == [{"not_empty": "a"}, {"length_between": {"column": "a", "max": 30, "action": "warn"}}]
    assert of(["", *words]) == [{"length_between": {"column": "a", "max": 30, "action": "warn"}}]
    assert of(words[:9]) == []


# numbers


def test_signs_and_bounds() -> None:
    assert of([*range(1, 30), 1]) == [{"positive": ["a"]}, {"between": {"column": "a", "max": 30, "action": "warn"}}]
    assert of([0, 0, *range(812)], pl.Int32)[-2:] == [
        {"non_negative": ["a"]},
        {"between": {"column": "a", "max": 900, "action": "warn"}},
    ]
    assert of([0, 0, *range(200)], pl.UInt8) == [{"between": {"column": "a", "max": 200, "action": "warn"}}]
    assert of([-3.5, -0.01] * 10) == [
        {"finite": ["a"]},
        {"between": {"column": "a", "min": -4, "max": -0.01, "action": "warn"}},
    ]
    assert of([-0.0, 0.0012] * 10)[-1] == {"between": {"column": "a", "max": 0.002, "action": "warn"}}
    assert of([Decimal("-0.12"), Decimal("99.99")] * 10, pl.Decimal(10, 2)) == [
        {"between": {"column": "a", "min": -0.2, "max": 100, "action": "warn"}}
    ]
    assert of([Decimal("0.50")] * 10, pl.Decimal(10, 2))[-1] == {
        "between": {"column": "a", "max": 0.5, "action": "warn"}
    }
    assert of([127, 1] * 10, pl.Int8)[-1] == {"between": {"column": "a", "max": 200, "action": "warn"}}
    assert of([timedelta(1), timedelta(2)] * 10) == [{"positive": ["a"]}]
    assert of([-1, 2**60] * 10) == []
    assert of([-(2**60), 1] * 10) == []


def test_floats_that_are_no_numbers() -> None:
    assert of([1.0, 2.0, NAN] * 10) == []
    assert of([0.0, 1.0, INF] * 10) == [{"non_negative": ["a"]}]
    assert of([None, None], pl.Float64) == []


# datetimes


def test_datetimes_in_order() -> None:
    start = [datetime(2024, 1, 1, n % 12) for n in range(20)]
    frame = pl.DataFrame(
        {
            "late": [t + timedelta(hours=2 + n) for n, t in enumerate(start)],
            "start": start,
            "middle": [t + timedelta(minutes=n) for n, t in enumerate(start)],
            "same": start,
            "gaps": [None if n % 7 == 0 else t + timedelta(hours=n) for n, t in enumerate(start)],
            "rare": [None] * 15 + start[:5],
            "day": [t.date() for t in start],
            "mixed": [t + timedelta(minutes=20 * (-1) ** n) for n, t in enumerate(start)],
            "beyond": start,
        }
    )
    rules = {
        (r["compare"]["left"], r["compare"]["op"], r["compare"]["right"]) for r in suggested(frame) if "compare" in r
    }
    assert ("middle", "<=", "late") in rules
    assert ("start", "=", "same") in rules
    # what follows from two others, by a column without null
    assert ("start", "<=", "late") not in rules
    assert not [r for r in rules if "rare" in r or "day" in r]
    assert [r for r in rules if "gaps" in r]
    # nine columns: the last is not compared
    assert not [r for r in rules if "beyond" in r]


def test_what_follows_by_a_column_with_nulls_is_said() -> None:
    a = [datetime(2024, 1, 1, n % 12) for n in range(20)]
    b = [None if n == 3 else t + timedelta(hours=1) for n, t in enumerate(a)]
    frame = pl.DataFrame({"a": a, "b": b, "c": [t + timedelta(hours=2) for t in a]})
    assert [r["compare"]["left"] + r["compare"]["right"] for r in suggested(frame) if "compare" in r] == [
        "ab",
        "ac",
        "bc",
    ]


# the whole


def test_evidence_in_yaml() -> None:
    frame = pl.DataFrame(
        {
            "id": range(1_000),
            "a b": ["no", "x: y", '"', "é\u2028"] * 250,
            "n": [None, 0.25] * 500,
        }
    )
    found = suggest_rules(frame)
    assert found.to_yaml() == YAML
    assert repr(found) == "<7 rules proposed from 1,000 rows>"
    assert (len(found), found[0], found[:1]) == (7, {"primary_key": ["id"]}, [{"primary_key": ["id"]}])
    assert found.found[0].evidence == "1,000 different values in 1,000 rows, no null"
    gate = found.to_yaml().replace("- ", "      - ")
    text = f"version: 1\nname: p\nsources:\n  a:\n    uri: a.parquet\n    gate:\n{gate}outputs: {{a: {{to: out}}}}\n"
    assert len(lp.Pipeline.from_yaml(text).sources["a"].gate) == 7


YAML = """\
# proposed from 1,000 rows: keep what is meant to hold
- primary_key: [id]  # 1,000 different values in 1,000 rows, no null
- not_null: ["a b"]  # no null in 1,000 rows
- positive: [n]  # least: 0.25
- non_negative: [id]  # least: 0
- finite: [n]  # neither NaN nor infinite
- in_set: {column: "a b", values: ["\\"", "no", "x: y", "é\\L"]}  # 4 different values in 1,000
- in_set: {column: n, values: [0.25]}  # all 500 values
"""


def test_nothing_to_go_by() -> None:
    for frame in (
        pl.DataFrame(),
        pl.DataFrame({"a": []}, schema={"a": pl.Int8}),
        pl.DataFrame({"a": [None] * 20}),
        pl.DataFrame({"o": pl.Series([object()] * 20, dtype=pl.Object)}),
        pl.DataFrame({"": range(20)}),  # as pandas writes an index: no definition can name it
    ):
        found = suggest_rules(frame)
        assert (list(found), found.to_yaml()) == ([], "[]\n")
    assert repr(suggest_rules(pl.DataFrame({"a": [None]}))) == "<0 rules proposed from 1 row>"
    assert suggested(pl.DataFrame({"a": [1], "l": [[1]]})) == [{"not_null": ["a", "l"]}, {"positive": ["a"]}]


def test_a_sample() -> None:
    frame = pl.LazyFrame({"id": range(1_000), "at": [*range(500), *range(500)], "x": [1, None] * 500}).with_columns(
        once=pl.when(pl.col("id") != 501).then(1)
    )
    found = suggest_rules(frame, sample=100)
    assert found.to_yaml().splitlines()[:3] == [
        "# proposed from 100 of 1,000 rows: keep what is meant to hold",
        # whether a key repeats is asked of all rows
        "- primary_key: [id]  # 1,000 different values in 1,000 rows, no null",
        "- not_null: [at, x, once]  # no null in 100 rows",
    ]
    # few enough: all of them
    assert repr(suggest_rules(frame, sample=1_000)) == "<7 rules proposed from 1,000 rows>"
    assert repr(suggest_rules(frame, sample=999)) == "<7 rules proposed from 500 of 1,000 rows>"
    assert repr(suggest_rules(frame.select("x"), sample=10)) == "<3 rules proposed from 10 of 1,000 rows>"
    assert list(suggest_rules(frame.clear(), sample=1)) == []


def test_wrong_use() -> None:
    with pytest.raises(LazypipeError, match=r"^sample is 0; write 1 or more$"):
        suggest_rules(pl.DataFrame(), sample=0)
    with pytest.raises(LazypipeError, match=r"^most_values is 0; write 1 or more$"):
        suggest_rules(pl.DataFrame(), most_values=0)


POOLS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (pl.Int8, st.integers(-128, 127)),
    (pl.Int64, st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1)),
    (pl.UInt64, st.integers(0, 2) | st.integers(0, 2**64 - 1)),
    (pl.Int128, st.integers(-(2**127), 2**127 - 1) | st.integers(0, 1)),
    (pl.UInt128, st.integers(0, 1)),
    (pl.Float32, st.floats(width=32)),
    (pl.Float64, st.floats() | st.floats(0, 1)),
    (pl.Decimal(20, 4), st.decimals(-1000, 1000, places=4)),
    (pl.Decimal(38, 0), st.integers(-(10**37), 10**37).map(Decimal)),
    (pl.Boolean, st.booleans()),
    (pl.String, st.text(max_size=4)),
    (pl.String, st.sampled_from(["a", "b", "", "true", "2", "\x00", "\u2028", "#", "'", "\U0001f600", "~"])),
    (pl.String, st.dates().map(str)),
    (pl.String, st.dates().map(lambda d: f"{d:%d/%m}/2024")),
    (pl.String, st.integers().map(str) | st.floats(allow_nan=False).map(str)),
    (pl.String, st.sampled_from(['{"a": 1}', "[1]", "null", "{"])),
    (pl.Categorical, st.sampled_from(["x", "y", "z"])),
    (pl.Enum(["x", "y"]), st.sampled_from(["x", "y"])),
    (pl.Binary, st.binary(max_size=3)),
    (pl.Date, st.dates()),
    (pl.Time, st.times()),
    (pl.Datetime("us"), st.datetimes()),
    (pl.Datetime("us"), st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 2))),
    (pl.Datetime("ns"), st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 2))),
    (pl.Datetime("ms", "Europe/Berlin"), st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 2), timezones=st.just(UTC))),
    (pl.Duration("us"), st.timedeltas(timedelta(-1000), timedelta(1000))),
    (pl.List(pl.Int8), st.lists(st.integers(0, 3), max_size=2)),
    (pl.Struct({"a": pl.Int8}), st.fixed_dictionaries({"a": st.integers(0, 3)})),
    (pl.Array(pl.Int8, 1), st.lists(st.integers(0, 3), min_size=1, max_size=1)),
    (pl.Null, st.none()),
]  # fmt: skip


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(st.sampled_from([0, 1, 9, 10, 25]))
    columns = []
    for number, (dtype, values) in enumerate(draw(st.lists(st.sampled_from(POOLS), max_size=5))):
        some = draw(st.lists(values, min_size=1, max_size=12))
        pool = st.sampled_from([*some, None] if draw(st.booleans()) else some)
        columns.append(
            pl.Series(
                f"{draw(st.text(max_size=3))}{number}", draw(st.lists(pool, min_size=rows, max_size=rows)), dtype=dtype
            )
        )
    return pl.DataFrame(columns)


@given(frames())
def test_what_is_suggested_holds(frame: pl.DataFrame) -> None:
    found = suggest_rules(frame)
    assert lp.check(frame, found).status == "pass"
    assert document.parse(found.to_yaml(), "<yaml>")[0] == list(found)


@given(frames(), st.integers(1, 10))
def test_keys_of_a_sample_hold_for_all(frame: pl.DataFrame, sample: int) -> None:
    keys = [r for r in suggest_rules(frame, sample=sample) if {"primary_key", "unique"} & {*r}]
    assert lp.check(frame, keys).status == "pass"


def test_nothing_is_proposed_for_names_that_no_rule_can_use() -> None:
    frame = pl.DataFrame({"id": range(100), "*": range(100), "^i.*$": range(100), "": range(100)})
    found = lp.suggest_rules(frame)
    assert list(found) == list(lp.suggest_rules(frame.select("id"))) != []
