"""Synthetic data: the counts asked for are those that ``lp.check`` finds, on every machine the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.errors import DefinitionError, LazypipeError
from lazypipe.gates import Rule, rule_class
from lazypipe.testing import make_orders, order_rules, synthetic, violate, write_deliveries

ROWS = [
    (7, "user209340@example27.com", "US", 7154.86, 20, "sent", datetime(2024, 1, 1, 0, 0, 9, 530_000), datetime(2024, 1, 1, 16, 0, 1, 530_000)),
    (8, "user15688@example47.com", "GB", 682.5, 19, "void", datetime(2024, 1, 1, 0, 0, 12, 578_000), datetime(2024, 1, 1, 21, 2, 52, 578_000)),
    (9, "user445213@example34.com", "ES", 5412.93, 20, "new", datetime(2024, 1, 1, 0, 0, 11, 550_000), datetime(2024, 1, 1, 20, 56, 51, 550_000)),
    (10, "user305317@example22.com", "IT", 2281.81, 1, "new", datetime(2024, 1, 1, 0, 0, 11, 427_000), datetime(2024, 1, 1, 6, 0, 24, 427_000)),
]  # fmt: skip
ORDER_IDS, NULL_AT = [2, 1, 2, 2, 4, 5], 1
IDS = tuple(c.id for c in lp.check(make_orders(1), order_rules()).checks)


def bad_rows(frame: pl.DataFrame) -> int:
    """How many rows violate anything; keys are quarantined by all rows that repeat one."""
    return lp.split(frame, order_rules()).bad.height


# orders


def test_the_rules_of_the_benchmark() -> None:
    assert IDS == (
        "unique:order_id",
        "not_null:email",
        "regex:email",
        "in_set:country",
        "between:amount",
        "between:quantity",
        "in_set:status",
        "compare:updated_at >= event_time",
    )
    assert {c.action for c in lp.check(make_orders(3), order_rules()).checks} == {"quarantine"}
    assert {c.action for c in lp.check(make_orders(3), order_rules(action="warn")).checks} == {"warn"}


def test_orders_are_the_same_everywhere() -> None:
    frame = make_orders(4, seed=3, start=7)
    assert frame.schema == {
        "order_id": pl.Int64,
        "email": pl.String,
        "country": pl.String,
        "amount": pl.Float64,
        "quantity": pl.Int32,
        "status": pl.String,
        "event_time": pl.Datetime("us"),
        "updated_at": pl.Datetime("us"),
    }
    assert frame.rows() == ROWS
    bad = make_orders(6, bad=dict.fromkeys(IDS, 0) | {"unique:order_id": 3, "between:amount": 2, "not_null:email": 1})
    assert bad["order_id"].to_list() == ORDER_IDS
    assert bad["email"].is_null().to_list().index(True) == NULL_AT


def test_clean_orders_pass_and_follow_one_another() -> None:
    whole = make_orders(5_000, seed=4)
    assert lp.check(whole, order_rules()).status == "pass"
    parts = pl.concat(make_orders(1_000, seed=4, start=n) for n in range(0, 5_000, 1_000))
    assert parts.equals(whole)
    assert not make_orders(5_000, seed=5)["amount"].equals(whole["amount"])
    assert whole["event_time"].min() >= datetime(2024, 1, 1)
    assert make_orders(1, since=datetime(1999, 1, 1))["event_time"].dt.year().item() == 1999
    # every value of the sets and both ends of the ranges turn up
    assert (whole["country"].n_unique(), whole["status"].n_unique(), whole["quantity"].n_unique()) == (10, 5, 20)
    assert make_orders(0).schema == whole.schema
    assert make_orders(2, start=2**32 - 2)["order_id"].to_list() == [2**32 - 2, 2**32 - 1]


@given(
    st.dictionaries(st.sampled_from(IDS), st.integers(0, 40)),
    st.integers(0, 200),
    st.integers(0, 2**70),
    st.integers(0, 10**6),
)
def test_counts_are_exact_and_rows_disjoint(bad: dict[str, int], more: int, seed: int, start: int) -> None:
    bad = {k: 0 if k == "unique:order_id" and n == 1 else n for k, n in bad.items()}
    wanted = sum(bad.values())
    frame = make_orders(wanted + more, bad=bad, seed=seed, start=start)
    assert frame.equals(make_orders(wanted + more, bad=bad, seed=seed, start=start))
    assert lp.check(frame, order_rules()).failed == {k: bad[k] for k in IDS if bad.get(k)}
    assert bad_rows(frame) == wanted


@given(st.dictionaries(st.sampled_from(IDS), st.integers(2, 40)), st.integers(0, 50), st.integers(0, 9))
def test_overlapping_faults_share_rows(bad: dict[str, int], more: int, seed: int) -> None:
    email = bad.get("not_null:email", 0) + bad.get("regex:email", 0)
    wanted = max([email, *(n for k, n in bad.items() if "email" not in k)])
    frame = make_orders(wanted + more, bad=bad, seed=seed, overlap=True)
    assert lp.check(frame, order_rules()).failed == {k: bad[k] for k in IDS if k in bad}
    assert bad_rows(frame) == wanted


def test_only_what_was_asked_for_differs_from_clean_orders() -> None:
    bad = make_orders(2_000, bad={"in_set:status": 20, "compare:updated_at >= event_time": 10})
    clean = make_orders(2_000)
    assert {c for c in clean.columns if not clean[c].equals(bad[c])} == {"status", "updated_at"}
    assert (clean["status"] != bad["status"]).sum() == 20
    # faults are of several kinds, and all over the frame
    wrong = (clean["status"] != bad["status"]).arg_true()
    assert bad["status"].gather(wrong).n_unique() == 3
    assert (wrong.min() < 500, wrong.max() > 1_500) == (True, True)


def test_a_million_bad_rows_of_a_million() -> None:
    frame = make_orders(1_000_000, bad={"unique:order_id": 999_999, "between:amount": 1})
    assert lp.check(frame, order_rules()).failed == {"unique:order_id": 999_999, "between:amount": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bad": {"not_null:mail": 1}}, "unknown rule 'not_null:mail'; did you mean 'not_null:email'?"),
        ({"bad": {"not_null:email": -1}}, "-1 is not a number of rows for not_null:email; write 0 or more"),
        ({"bad": {"not_null:email": True}}, "True is not a number of rows for not_null:email; write 0 or more"),
        ({"bad": {"not_null:email": 0.5}}, "0.5 is not a number of rows for not_null:email; write 0 or more"),
        (
            {"bad": {"unique:order_id": 1}},
            "one row alone does not repeat a key; write 0, or 2 and more for unique:order_id",
        ),
        (
            {"bad": {"not_null:email": 6, "regex:email": 5}},
            "11 bad rows do not fit in 10 rows; make more rows, ask for fewer, or let rules share them with overlap=True",
        ),
        (
            {"bad": {"not_null:email": 6, "regex:email": 5}, "overlap": True},
            "11 bad rows do not fit in 10 rows",
        ),
        ({"bad": {"in_set:status": 11}, "overlap": True}, "11 bad rows do not fit in 10 rows"),
        ({"start": -1}, "10 orders from -1 on cannot be; order ids lie between 0 and 4,294,967,295"),
        (
            {"start": 2**32 - 9},
            "10 orders from 4,294,967,287 on cannot be; order ids lie between 0 and 4,294,967,295",
        ),
    ],
)
def test_orders_that_cannot_be(arguments: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        make_orders(10, **arguments)
    assert str(caught.value) == message


def test_places_are_a_permutation() -> None:
    for rows in (1, 2, 3, 4, 5, 16, 17, 100, 1_000):
        found = synthetic._places(rows, rows, 77).to_list()
        assert sorted(found) == list(range(rows))
        # asking for fewer gives the first ones
        assert synthetic._places(rows, rows // 2, 77).to_list() == found[: rows // 2]
    assert synthetic._places(0, 0, 1).to_list() == []


# deliveries


@pytest.mark.parametrize("form", ["parquet", "csv", "csv.gz", "ndjson", "ndjson.gz", "ipc"])
def test_deliveries_hold_all_rows_in_order(form: str, tmp_path: Any) -> None:
    frame = make_orders(100, bad={"not_null:email": 3, "in_set:country": 4, "between:amount": 5, "unique:order_id": 6})
    paths = write_deliveries(frame, tmp_path / "new", files=7, format=form)  # type: ignore[arg-type]
    assert [p.name for p in paths] == [f"part-{n:03}.{form}" for n in range(7)]
    pipe = lp.pipeline("p", base=str(tmp_path)).source(
        "a", f"new/*.{form}", contract={"columns": {n: str(t) for n, t in TYPES.items()}}, gate=order_rules()
    )
    plan = pipe.output("a", "out/a").build().compile()
    result = plan.run()
    assert result.gates["a"].failed == {
        "unique:order_id": 6,
        "not_null:email": 3,
        "in_set:country": 4,
        "between:amount": 5,
    }


TYPES = {
    "order_id": "Int64",
    "email": "String",
    "country": "String",
    "amount": "Float64",
    "quantity": "Int32",
    "status": "String",
    "event_time": "Datetime(us)",
    "updated_at": "Datetime(us)",
}


def test_deliveries_of_few_rows(tmp_path: Any) -> None:
    paths = write_deliveries(make_orders(2), str(tmp_path), files=3, name="day")
    assert [(p.name, pl.read_parquet(p).height) for p in paths] == [
        ("day-000.parquet", 1),
        ("day-001.parquet", 1),
        ("day-002.parquet", 0),
    ]


def test_deliveries_that_cannot_be(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match="^0 files cannot hold rows; write 1 or more$"):
        write_deliveries(make_orders(1), tmp_path, files=0)
    with pytest.raises(ValueError, match="^unknown format 'cvs'; did you mean 'csv'\\?$"):
        write_deliveries(make_orders(1), tmp_path, format="cvs")  # type: ignore[arg-type]
    assert not [*tmp_path.iterdir()]


# faults in frames of one's own

OTHERS = {"countries": pl.DataFrame({"code": ["DE", "FR"], "n": [1, 2]})}
EVERY = pl.DataFrame(
    {
        "id": range(100),
        "k1": [n // 10 for n in range(100)],
        "k2": [n % 10 for n in range(100)],
        "text": [f"ab{n}" for n in range(100)],
        "set": ["x", "y"] * 50,
        "country": ["DE", "FR", None, "DE"] * 25,
        "int": pl.Series([n % 7 for n in range(100)], dtype=pl.Int8),
        "uint": pl.Series([n + 2**64 - 101 for n in range(100)], dtype=pl.UInt64),
        "float": [n / 3 for n in range(100)],
        "decimal": pl.Series([Decimal(n) / 4 for n in range(100)], dtype=pl.Decimal(10, 2)),
        "bool": [True] * 100,
        "date": [date(2020, 1, 1) + timedelta(days=n) for n in range(100)],
        "time": [time(12, n % 60) for n in range(100)],
        "from": pl.Series([datetime(2020, 1, 1, n % 24) for n in range(100)], dtype=pl.Datetime("ms", "Europe/Berlin")),
        "until": pl.Series(
            [datetime(2020, 1, 1, n % 24) for n in range(100)], dtype=pl.Datetime("ms", "Europe/Berlin")
        ),
        "took": [timedelta(hours=n) for n in range(100)],
        "cat": pl.Series(["a", "b"] * 50, dtype=pl.Categorical),
        "enum": pl.Series(["a", "b"] * 50, dtype=pl.Enum(["a", "b", "c"])),
        "list": [[1], [2, 3]] * 50,
        "struct": [{"a": 1}] * 100,
        "email": [f"user{n}@example.com" for n in range(100)],
        "none": pl.Series([None] * 100, dtype=pl.Int64),
        "day": ["2020-01-31"] * 100,
        "ns": pl.Series([datetime(2020, 1, 1)] * 100, dtype=pl.Datetime("ns")),
        "bin": [b"x"] * 100,
    }
)
RULES: dict[str, Any] = {
    "not_null": {"not_null": "id"},
    "a text": {"not_null": "text"},
    "a struct": {"not_null": "struct"},
    "null": {"null": "none"},
    "not_empty": {"not_empty": "text"},
    "an empty list": {"not_empty": "list"},
    "in_set": {"in_set": {"column": "set", "values": ["x", "y"]}},
    "a category": {"in_set": {"column": "cat", "values": ["a", "b"]}},
    "an enum": {"in_set": {"column": "enum", "values": ["a", "b"]}},
    "booleans": {"in_set": {"column": "bool", "values": [True]}},
    "not_in_set": {"not_in_set": {"column": "set", "values": ["z"]}},
    "not_in_set of whole numbers": {"not_in_set": {"column": "int", "values": [99]}},
    "between": {"between": {"column": "int", "min": 0, "max": 6}},
    "at the end of a type": {"between": {"column": "uint", "min": 2**64 - 101}},
    "decimals": {"between": {"column": "decimal", "min": 0, "max": 25}},
    "dates": {"between": {"column": "date", "min": "2020-01-01", "max": "2020-12-31"}},
    "times": {"between": {"column": "time", "min": "12:00", "max": "12:59"}},
    "durations": {"between": {"column": "took", "max": "5d"}},
    "datetimes": {"between": {"column": "from", "max": "2020-01-02"}},
    "positive": {"positive": "uint"},
    "non_negative": {"non_negative": "float"},
    "finite": {"finite": "float"},
    "multiple_of": {"multiple_of": {"column": "decimal", "of": 0.25}},
    "regex": {"regex": {"column": "text", "pattern": "^ab[0-9]+$"}},
    "not_regex": {"not_regex": {"column": "text", "pattern": "[?]"}},
    "length_between": {"length_between": {"column": "text", "min": 3, "max": 8}},
    "like": {"like": {"column": "text", "pattern": "ab%"}},
    "format": {"format": {"column": "email", "is": "email"}},
    "parseable": {"parseable": {"column": "day", "as": "date"}},
    "compare": {"compare": {"left": "from", "op": "<=", "right": "until"}},
    "compare texts": {"compare": {"left": "text", "op": ">", "right": "day"}},
    "nanoseconds": {"between": {"column": "ns", "max": "2020-01-02"}},
    "bytes": {"in_set": {"column": "bin", "values": ["x"]}},
    "compare equal": {"compare": {"left": "from", "op": "=", "right": "until"}},
    "expression": {"expression": {"condition": "int < id + 1000", "id": "a"}},
    "a Python expression": {"expression": {"condition": pl.col("int") * 2 < 13, "id": "b"}},
    "where": {"not_null": {"columns": "text", "where": "id < 10"}},
    "unique": {"unique": "id"},
    "unique of two": {"unique": ["k1", "k2"]},
    "unique where": {"unique": {"columns": "id", "where": "id >= 50"}},
    "foreign_key": {"foreign_key": {"column": "country", "references": {"to": "countries", "columns": ["code"]}}},
    "repair": {"between": {"column": "int", "max": 6, "action": "repair", "repair": {"clip": True}}},
}


@pytest.mark.parametrize(("kind", "count"), [(k, n) for i, k in enumerate(RULES) for n in (3, (2, 10)[i % 2])])
def test_exactly_so_many_rows_violate(kind: str, count: int) -> None:
    rules = [RULES[kind], {"not_null": {"columns": "k1", "action": "warn", "id": "other"}}]
    id_ = lp.check(EVERY, rules, **OTHERS).checks[0].id
    faulty = violate(EVERY, {id_: count}, rules, seed=count, **OTHERS)
    checks = {c.id: c.failed_before for c in lp.check(faulty, rules, **OTHERS).checks}
    assert checks == {id_: count, "other": 0}
    # the others stay what and where they were
    assert faulty.schema == EVERY.schema
    same = sum(a == b for a, b in zip(EVERY.rows(), faulty.rows(), strict=True))
    assert 100 - count <= same <= 100 - count // 2
    if count == 3:
        assert faulty.equals(violate(EVERY, {id_: count}, rules, seed=count, **OTHERS))


def test_every_rule_at_once_in_disjoint_rows() -> None:
    rules = [{"not_null": "id"}, {"unique": "id"}, {"between": {"column": "id", "max": 99}}, {"unique": "email"}]
    rules += [{"format": {"column": "email", "is": "email"}}, {"not_null": "email"}, {"positive": "uint"}]
    counts = {
        "not_null:id": 5,
        "unique:id": 7,
        "between:id": 3,
        "unique:email": 4,
        "format:email": 30,
        "not_null:email": 1,
        "positive:uint": 50,
    }
    faulty = violate(EVERY, counts, rules)
    assert lp.check(faulty, rules).failed == counts
    action = [
        {k: {"columns": v, "action": "quarantine"} if isinstance(v, str) else {**v, "action": "quarantine"}}
        for r in rules
        for k, v in r.items()
    ]
    assert lp.split(faulty, action).bad.height == 100


def test_faults_in_many_rows_at_once() -> None:
    frame = make_orders(5_000)
    counts = dict.fromkeys(IDS, 300)
    assert lp.check(violate(frame, counts, order_rules()), order_rules()).failed == counts


def test_rules_as_values_parameters_and_the_clock() -> None:
    rule: Rule = rule_class("between")(column="id", max=":most")  # type: ignore[call-arg]
    faulty = violate(EVERY, {"between:id": 2}, [rule], params={"most": 99})
    assert lp.check(faulty, [rule], params={"most": 99}).failed == {"between:id": 2}
    now = datetime(2030, 1, 1, tzinfo=UTC)
    rules = [{"in_past": "from"}]
    assert lp.check(violate(EVERY, {"in_past:from": 2}, rules, now=now), rules, now=now).failed == {"in_past:from": 2}


def test_no_faults_give_the_frame_back() -> None:
    assert violate(EVERY, {"not_null:id": 0}, [{"not_null": "id"}]) is EVERY
    assert violate(EVERY.clear(), {}, [{"not_null": "id"}, {"row_count": {"min": 1}}]).equals(EVERY.clear())


def test_faults_that_cannot_be() -> None:
    rules = [
        {"not_null": "id"},
        {"unique": "id"},
        {"row_count": {"min": 1, "id": "rows"}},
        {"in_set": {"column": "bool", "values": [True, False]}},
    ]
    for counts, message in (
        ({"not_null:i": 1}, "unknown rule 'not_null:i'; did you mean 'not_null:id'?"),
        ({"unique:id": 1}, "one row alone does not repeat a key; write 0, or 2 and more for unique:id"),
        ({"rows": 1}, "rows is about the whole frame; only rules on rows and keys count rows"),
        ({"not_null:id": 101}, "101 bad rows do not fit in 100 rows; ask for fewer"),
    ):
        with pytest.raises(ValueError) as caught:
            violate(EVERY, counts, rules)
        assert str(caught.value) == message
    with pytest.raises(ValueError, match=r"^the frame has faults already: not_null:country: 25; give one without$"):
        violate(EVERY, {"not_null:country": 1}, [{"not_null": "country"}])
    with pytest.raises(DefinitionError, match="unknown column 'x'"):
        violate(EVERY, {}, [{"not_null": "x"}])
    with pytest.raises(LazypipeError) as impossible:
        violate(EVERY, {"in_set:bool": 1}, rules)
    assert str(impossible.value) == "cannot make 1 rows violate in_set:bool and no other rule; 0 are possible"
    with pytest.raises(LazypipeError) as few:
        violate(EVERY, {"a": 11}, [{"not_null": {"columns": "text", "where": "id < 10", "id": "a"}}])
    assert str(few.value) == "cannot make 11 rows violate a and no other rule; 10 are possible"
    with pytest.raises(LazypipeError) as key:
        violate(EVERY, {"a": 3}, [{"unique": {"columns": "id", "where": "id < 2", "id": "a"}}])
    assert str(key.value) == ("cannot make 3 rows repeat the key of a and violate no other rule; 0 are possible")
    # a value also decides whether the next row's is greater
    with pytest.raises(LazypipeError, match=r"^rules of the frame hang together: asked for a: 20, got a: "):
        violate(EVERY, {"a": 20}, [{"increasing": {"column": "date", "order_by": "id", "id": "a"}}])


@given(
    st.lists(
        st.tuples(st.integers(-5, 5), st.sampled_from("abc"), st.none() | st.floats(0, 1)), min_size=4, max_size=30
    ),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 99),
)
def test_faults_in_frames_of_any_kind(rows: list[Any], one: int, two: int, seed: int) -> None:
    frame = pl.DataFrame(rows, schema={"i": pl.Int64, "s": pl.String, "f": pl.Float64}, orient="row")
    rules = [
        {"between": {"column": "i", "min": -5, "max": 5}},
        {"between": {"column": "f", "min": 0, "max": 1}},
        {"in_set": {"column": "s", "values": list("abc")}},
    ]
    counts = {"between:i": one, "in_set:s": two}
    faulty = violate(frame, counts, rules, seed=seed)
    assert lp.check(faulty, rules).failed == {k: n for k, n in counts.items() if n}
    assert faulty["f"].equals(frame["f"])
