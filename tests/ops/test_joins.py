"""join, asof_join, union: rows of several inputs, against loops over lists."""

# values without a zone are what is tested

from __future__ import annotations

import datetime as dt
from collections import Counter
from itertools import product
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe import ops
from lazypipe.errors import DefinitionError
from lazypipe.spec.model import Step, freeze
from lazypipe.spec.scope import Scope, Table

Rows = list[dict[str, Any]]
keys = st.none() | st.integers(0, 3)
ENGINES = st.sampled_from(["in-memory", "streaming"])
names = st.sampled_from(["x", "é", "", None])


def tables(*columns: tuple[str, Any, Any], size: int = 6) -> st.SearchStrategy[tuple[Rows, pl.LazyFrame]]:
    schema = {name: dtype for name, dtype, _ in columns}
    row = st.tuples(*(values for *_, values in columns))
    return st.lists(row, max_size=size).map(
        lambda data: (
            [dict(zip(schema, r, strict=True)) for r in data],
            pl.LazyFrame(data, schema=schema, orient="row"),
        )
    )


LEFT = tables(("k", pl.Int64, keys), ("g", pl.String, names), ("v", pl.Int64, st.integers(0, 99)))
RIGHT = tables(("k", pl.Int64, keys), ("h", pl.String, names), ("v", pl.Int64, st.integers(0, 99)))


def bag(frame: pl.DataFrame) -> Counter[tuple[Any, ...]]:
    return Counter(frame.rows())


def refused(step: dict[str, Any], left: pl.LazyFrame, **others: pl.LazyFrame) -> str:
    with pytest.raises(DefinitionError) as caught:
        lp.apply(step, left, **others)
    return str(caught.value)


def joined(
    left: Rows, right: Rows, how: str, on: list[tuple[str, str]], nulls_equal: bool
) -> list[tuple[dict[str, Any] | None, dict[str, Any] | None]]:
    """Which rows of a join belong together."""

    def match(a: dict[str, Any], b: dict[str, Any]) -> bool:
        return all(a[x] == b[y] and (nulls_equal or a[x] is not None) for x, y in on)

    pairs = [(i, j) for i, a in enumerate(left) for j, b in enumerate(right) if match(a, b)]
    lefts, rights = {i for i, _ in pairs}, {j for _, j in pairs}
    if how in ("semi", "anti"):
        return [(a, None) for i, a in enumerate(left) if (i in lefts) == (how == "semi")]
    found: list[Any] = [(left[i], right[j]) for i, j in pairs]
    if how in ("left", "full"):
        found += [(a, None) for i, a in enumerate(left) if i not in lefts]
    if how in ("right", "full"):
        found += [(None, b) for j, b in enumerate(right) if j not in rights]
    return found


def expected(pairs: Any, on: list[tuple[str, str]], here: list[str], chosen: dict[str, str]) -> Counter[Any]:
    """Rows under this side's names, then what is chosen (result name → name there); keys from whichever side has one."""
    there = dict(on)

    def value(a: Any, b: Any, name: str) -> Any:
        return a[name] if a is not None else b[there[name]] if name in there else None

    return Counter(
        (*(value(a, b, n) for n in here), *(b[c] if b is not None else None for c in chosen.values())) for a, b in pairs
    )


ON = {
    "one": ([("k", "k")], {"on": "k"}),
    "two": ([("k", "k"), ("g", "h")], {"left_on": ["k", "g"], "right_on": ["k", "h"]}),
}


@pytest.mark.parametrize("key", ON)
@pytest.mark.parametrize("how", ["inner", "left", "right", "full", "semi", "anti"])
@given(LEFT, RIGHT, st.booleans(), ENGINES)
def test_join(how: str, key: str, left: Any, right: Any, nulls_equal: bool, engine: Any) -> None:
    on, written = ON[key]
    step = {"join": {"with": "r", "how": how, "nulls_equal": nulls_equal, **written}}
    result = lp.apply(step, left[1], r=right[1]).collect(engine=engine)
    pairs = joined(left[0], right[0], how, on, nulls_equal)
    if how in ("semi", "anti"):
        assert result.columns == ["k", "g", "v"]
        assert bag(result) == Counter(tuple(a.values()) for a, _ in pairs)
        return
    if how == "right":
        here = [c for c in ("k", "g", "v") if c not in dict(on)]
        assert result.columns == [*here, "k", "h", "v_right"]
        assert bag(result) == expected(pairs, [], here, {"k": "k", "h": "h", "v_right": "v"})
        return
    chosen = {"h": "h", "v_right": "v"} if key == "one" else {"v_right": "v"}
    assert result.columns == ["k", "g", "v", *chosen]
    assert bag(result) == expected(pairs, on, ["k", "g", "v"], chosen)


CHOICES: list[tuple[Any, dict[str, str]]] = [
    (["h"], {"h": "h"}),
    (["k", "h"], {"k_right": "k", "h": "h"}),
    ({"k": "other_k"}, {"other_k": "k"}),
    ({"h": "v"}, {"v_right": "h"}),
    ({"v": "k", "h": "n"}, {"k_right": "v", "n": "h"}),
    ([], {}),
    ({}, {}),
]


@pytest.mark.parametrize("how", ["inner", "left", "right", "full"])
@given(LEFT, RIGHT, st.sampled_from(CHOICES), ENGINES)
def test_join_with_chosen_columns_loses_no_key(how: str, left: Any, right: Any, choice: Any, engine: Any) -> None:
    columns, chosen = choice
    step = {"join": {"with": "r", "on": "k", "how": how, "columns": columns}}
    result = lp.apply(step, left[1], r=right[1]).collect(engine=engine)
    assert result.columns == ["k", "g", "v", *chosen]
    pairs = joined(left[0], right[0], how, [("k", "k")], nulls_equal=False)
    assert bag(result) == expected(pairs, [("k", "k")], ["k", "g", "v"], chosen)


@pytest.mark.parametrize("columns", [None, ["h"], []])
@given(LEFT, RIGHT)
def test_cross_join(columns: Any, left: Any, right: Any) -> None:
    step = {"join": {"with": "r", "how": "cross", **({} if columns is None else {"columns": columns})}}
    result = lp.apply(step, left[1], r=right[1].rename({"v": "w", "k": "g"})).collect()
    taken = [("g_right", "k"), ("h", "h"), ("w", "v")] if columns is None else [(c, c) for c in columns]
    assert result.columns == ["k", "g", "v", *(n for n, _ in taken)]
    assert bag(result) == Counter((*a.values(), *(b[c] for _, c in taken)) for a, b in product(left[0], right[0]))


@pytest.mark.parametrize("validate", ["m:1", "1:m", "1:1"])
@pytest.mark.parametrize("how", ["inner", "left", "right", "full"])
@given(LEFT, RIGHT, st.sampled_from([{}, {"columns": ["h"]}]), ENGINES)
def test_join_validates_keys(how: str, validate: str, left: Any, right: Any, columns: Any, engine: Any) -> None:
    def unique(rows: Rows) -> bool:
        found = [r["k"] for r in rows if r["k"] is not None]
        return len(found) == len(set(found))

    if how == "full":  # where Polars counts nulls now and then; a run watches the keys itself, see below
        left, right = (([r for r in rows if r["k"] is not None], f.drop_nulls("k")) for rows, f in (left, right))
    fits = (validate == "m:1" or unique(left[0])) and (validate == "1:m" or unique(right[0]))
    plain = {"with": "r", "on": "k", "how": how, **columns}
    lowered = lp.apply({"join": {**plain, "validate": validate}}, left[1], r=right[1])
    if fits:
        assert bag(lowered.collect(engine=engine)) == bag(lp.apply({"join": plain}, left[1], r=right[1]).collect())
    else:
        with pytest.raises(pl.exceptions.ComputeError, match="did not fulfill"):
            lowered.collect(engine=engine)


@pytest.mark.parametrize("columns", [None, ["v"]])
@pytest.mark.parametrize("how", ["inner", "left", "right", "full"])
@pytest.mark.parametrize(("validate", "watched"), [("m:m", ""), ("m:1", "r"), ("1:m", "l"), ("1:1", "lr")])
def test_a_run_watches_the_keys_that_must_be_unique(how: str, columns: Any, validate: str, watched: str) -> None:
    left, right = pl.LazyFrame({"a": [1, 1, None]}), pl.LazyFrame({"b": [2, 2, None], "v": [1, 2, 3]})
    seen: list[list[int | None]] = []

    def guard(frame: pl.LazyFrame, schema: pl.Schema, keys: tuple[str, ...]) -> pl.LazyFrame:
        (key,) = keys
        assert schema[key] == frame.collect_schema()[key] == pl.Int64
        seen.append(frame.collect()[key].to_list())
        return frame

    step = {"with": "r", "left_on": "a", "right_on": "b", "how": how, "validate": validate, "columns": columns}
    written = Step("join", freeze({k: v for k, v in step.items() if v is not None}))
    operation = ops.operation(written)
    scope = Scope(type(operation), written, {"r": Table(right, right.collect_schema())}, guard=guard)
    operation.lower(Table(left, left.collect_schema()), scope).collect()  # and Polars checks nothing
    assert seen == [{"l": [1, 1, None], "r": [2, 2, None]}[side] for side in watched]


L, R = pl.LazyFrame({"k": [1], "v": [2], "v_right": [3]}), pl.LazyFrame({"k": [1], "v": [2], "t": ["x"]})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on": "k"}, "join.with: two columns would be called 'v_right'; rename one of them, or choose a suffix"),
        ({"on": "k", "columns": {"v": "x", "t": "x"}}, "join.columns: two columns would be called 'x'"),
        ({"on": "k", "columns": ["w"]}, "join.columns.0: unknown column 'w' of 'r'"),
        ({"left_on": "k", "right_on": "t"}, "key 'k' is Int64 and key 't' is String; cast one of them first"),
        ({"on": "k", "how": "semi", "validate": "1:1"}, "semi joins need no unique keys; remove validate"),
        ({"on": "k", "how": "anti", "columns": ["t"]}, "anti joins take no columns of the other side"),
        ({"how": "cross", "validate": "1:1"}, "cross joins need no unique keys"),
        ({"how": "cross", "on": "k"}, "a cross join has no keys"),
        ({"on": "q"}, "unknown column 'q'"),
        ({}, "the keys of a join must be given once"),
        ({"on": "k", "left_on": "k", "right_on": "k"}, "the keys of a join must be given once"),
        ({"left_on": ["k", "v"], "right_on": "k"}, "left_on has 2 columns and right_on 1"),
    ],
)
def test_joins_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    found = refused({"join": {"with": "r", **arguments}}, L, r=R)
    assert message.replace(".0", "[0]") in found.replace(".0", "[0]")


def test_a_suffix_makes_room() -> None:
    step = {"join": {"with": "r", "on": "k", "suffix": "_theirs"}}
    assert lp.apply(step, L, r=R).collect().rows(named=True) == [
        {"k": 1, "v": 2, "v_right": 3, "v_theirs": 2, "t": "x"}
    ]


# --- asof_join

TIMED = tables(
    ("g", pl.String, names), ("t", pl.Int64, st.none() | st.integers(0, 20)), ("v", pl.Int64, st.integers(0, 99))
)
QUOTES = tables(("g", pl.String, names), ("t", pl.Int64, st.none() | st.integers(0, 20)))


def scaled(frame: pl.LazyFrame, kind: str) -> pl.LazyFrame:
    """The key as another type: hours since a day, or halves."""
    new = {
        "int": pl.col("t"),
        "float": pl.col("t") / 2,
        "datetime": pl.lit(dt.datetime(2013, 1, 1)) + pl.duration(hours=pl.col("t")),
    }
    return frame.with_columns(new[kind].alias("t"))


@pytest.mark.parametrize("by", [False, True])
@pytest.mark.parametrize(
    ("strategy", "found"), [("backward", [3, 4, 4]), ("forward", [4, 4, None]), ("nearest", [4, 4, 4])]
)
@pytest.mark.parametrize("kind", ["int", "datetime"])
@pytest.mark.parametrize("nulls", range(6))
def test_rows_without_a_time_leave_those_beside_them_alone(
    by: bool, strategy: str, found: list[int | None], kind: str, nulls: int
) -> None:
    """Polars cuts rows into batches as it streams them, so that one has times and nulls."""
    times = [9, 10, 12, *[None] * nulls]
    this = pl.LazyFrame(
        {"g": ["a"] * len(times), "t": times, "i": [*range(len(times))]}, schema_overrides={"t": pl.Int64}
    )
    this = pl.concat([this, this]).unique("i")
    quotes = pl.LazyFrame({"g": ["a", "a"], "t": [-9, 10], "q": [3, 4]})
    step = {"with": "r", "on": "t", "strategy": strategy, **({"by": "g"} if by else {"columns": ["q"]})}
    joined = lp.apply({"asof_join": step}, scaled(this, kind), r=scaled(quotes, kind)).collect(engine="streaming")
    assert joined.sort("i")["q"].to_list() == [*found, *[None] * nulls]
    assert joined["t"].is_sorted(nulls_last=True)


@pytest.mark.parametrize("kind", ["int", "float", "datetime"])
@pytest.mark.parametrize("tolerance", [None, 0, 2])
@pytest.mark.parametrize("by", [False, True])
@pytest.mark.parametrize("strategy", ["backward", "forward", "nearest"])
@settings(max_examples=settings().max_examples // 2)
@given(TIMED, QUOTES, st.sampled_from(["in-memory", "streaming"]))
def test_asof_join(
    strategy: str, by: bool, tolerance: int | None, kind: str, left: Any, right: Any, engine: Any
) -> None:
    limit = {"int": tolerance, "float": (tolerance or 0) / 2, "datetime": f"{tolerance}h"}[kind]
    step = {"with": "r", "on": "t", "strategy": strategy, **({"by": "g"} if by else {"suffix": "_r"})}
    step |= {} if tolerance is None else {"tolerance": limit}
    quotes = right[1].with_columns(found=pl.col("t"), at=pl.col("g"))
    this = left[1].with_columns(was=pl.col("t"))
    result = lp.apply({"asof_join": step}, scaled(this, kind), r=scaled(quotes, kind)).collect(engine=engine)
    assert result.columns == ["g", "t", "v", "was", *([] if by else ["g_r"]), "found", "at"]
    assert bag(result.select("g", "was", "v")) == Counter(tuple(r.values()) for r in left[0]), "every row stays, once"
    assert result["t"].is_sorted(nulls_last=True)

    def distance(t: int, other: int) -> int | None:
        gap = t - other if strategy == "backward" else other - t
        return abs(gap) if strategy == "nearest" else gap if gap >= 0 else None

    for row in result.iter_rows(named=True):
        near = [
            d
            for r in right[0]
            if row["was"] is not None and r["t"] is not None
            if not by or (r["g"] == row["g"] and r["g"] is not None)
            if (d := distance(row["was"], r["t"])) is not None and (tolerance is None or d <= tolerance)
        ]
        if near:
            assert distance(row["was"], row["found"]) == min(near)
            assert {"g": row["at"], "t": row["found"]} in right[0]
        else:
            assert row["found"] is row["at"] is None


def test_asof_join_with_nan_keys_matches_nothing() -> None:
    nan = float("nan")
    left, right = pl.LazyFrame({"t": [nan, 1.0, None]}), pl.LazyFrame({"t": [nan, 0.5], "v": [1, 2]})
    for strategy, found in (("backward", 2), ("nearest", 2), ("forward", None)):
        result = lp.apply({"asof_join": {"with": "r", "on": "t", "strategy": strategy}}, left, r=right).collect()
        assert result.columns == ["t", "v"]
        assert Counter(map(str, result.rows())) == Counter([f"(1.0, {found})", "(nan, None)", "(None, None)"])


def test_asof_join_with_keys_of_other_names_keeps_both() -> None:
    left, right = pl.LazyFrame({"t": [2.0], "g": [1]}), pl.LazyFrame({"at": [1.5], "g": [1]})
    step = {"asof_join": {"with": "r", "left_on": "t", "right_on": "at", "by": "g"}}
    assert lp.apply(step, left, r=right).collect().rows(named=True) == [{"t": 2.0, "g": 1, "at": 1.5}]


def test_asof_join_with_groups_of_other_names_and_chosen_columns() -> None:
    left = pl.LazyFrame({"at": [2, 6, 1, 9], "who": [1, 1, 2, 3], "tier": ["x"] * 4})
    right = pl.LazyFrame({"since": [1, 5, 2], "id": [1, 1, 2], "tier": ["a", "b", "c"]})
    step = {"with": "r", "left_on": "at", "right_on": "since", "left_by": "who", "right_by": "id"}
    every = lp.apply({"asof_join": step}, left, r=right).collect()
    assert every.columns == ["at", "who", "tier", "since", "tier_right"]
    assert every.rows() == [(1, 2, "x", None, None), (2, 1, "x", 1, "a"), (6, 1, "x", 5, "b"), (9, 3, "x", None, None)]
    one = lp.apply({"asof_join": {**step, "columns": ["tier"]}}, left, r=right).collect()
    assert one.equals(every.drop("since"))
    named = lp.apply({"asof_join": {**step, "columns": {"id": "dim", "since": "of"}}}, left, r=right).collect()
    assert named.columns == ["at", "who", "tier", "dim", "of"]
    assert named["dim"].to_list() == [None, 1, 1, None]
    nan = float("nan")
    this, that = pl.LazyFrame({"t": [nan, 1.0]}), pl.LazyFrame({"t": [nan, 0.5], "v": [1, 2], "w": [3, 4]})
    chosen = lp.apply({"asof_join": {"with": "r", "on": "t", "columns": ["v"]}}, this, r=that).collect()
    assert (chosen.columns, chosen["v"].to_list()) == (["t", "v"], [2, None])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"on": "n", "by": "s", "left_by": "s", "right_by": "s"},
            "the columns of an asof_join must be given once; give by, or left_by and right_by",
        ),
        ({"on": "n", "left_by": "s"}, "left_by has 1 columns and right_by 0; name the same number on both sides"),
        ({"on": "n", "right_by": "s"}, "left_by has 0 columns and right_by 1; name the same number on both sides"),
        ({"on": "n", "left_by": "s", "right_by": "d"}, "key 's' is String and key 'd' is Date; cast one of them first"),
        ({"on": "n", "columns": ["z"]}, "unknown column 'z'"),
        ({"on": "n", "tolerance": "2h"}, "the tolerance '2h' does not fit a Int64 key; write a number"),
        ({"on": "d", "tolerance": 2}, "the tolerance 2 does not fit a Date key; write a duration such as 2h"),
        ({"on": "d", "tolerance": "soon"}, "'soon' is not a duration; write one such as 90s, 15m, 2h or 3d"),
        ({"on": "d", "tolerance": "-2h"}, "the tolerance -2h is negative; write it without the minus"),
        (
            {"on": "d", "tolerance": "300000000d"},
            "300000000d is longer than 30,000 years; write a shorter one, or leave it out",
        ),
        ({"on": "d", "tolerance": "1mo"}, "1mo has months, which differ in length; write it in days or hours"),
        ({"on": "n", "tolerance": -1}, "the tolerance -1 is negative"),
        ({"on": "s"}, "a String key has no distances"),
        ({"left_on": "n", "right_on": "d"}, "this side's key is Int64 and the other's is Date; cast one of them first"),
        ({"on": "q"}, "unknown column 'q'"),
        ({"on": "n", "by": "q"}, "unknown column 'q'"),
        ({"on": "n", "left_on": "n", "right_on": "n"}, "the key of an asof_join must be given once"),
        ({"left_on": "n"}, "the key of an asof_join must be given once"),
    ],
)
def test_asof_joins_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    data = pl.LazyFrame({"n": [1], "d": [dt.date(2013, 1, 1)], "s": ["a"]})
    assert message in refused({"asof_join": {"with": "r", **arguments}}, data, r=data)


# --- union

OTHERS = tables(("v", pl.Int64, st.integers(0, 9)), ("k", pl.Int64, keys))


@pytest.mark.parametrize("missing", ["refuse", "fill"])
@given(OTHERS, OTHERS, OTHERS)
def test_union_by_name(missing: str, one: Any, two: Any, three: Any) -> None:
    step = {"union": {"with": ["b", "c"], "missing": missing}}
    result = lp.apply(step, one[1], b=two[1].select("k", "v"), c=three[1]).collect()
    assert result.columns == ["v", "k"]
    assert bag(result) == Counter(tuple(r.values()) for r in [*one[0], *two[0], *three[0]])


@given(OTHERS, RIGHT)
def test_union_fills_what_is_missing(one: Any, two: Any) -> None:
    step = {"union": {"with": "b", "missing": "fill"}}
    result = lp.apply(step, one[1].rename({"k": "u"}), b=two[1]).collect()
    assert result.columns == ["v", "u", "k", "h"]
    assert bag(result) == Counter(
        [(r["v"], r["k"], None, None) for r in one[0]] + [(r["v"], None, r["k"], r["h"]) for r in two[0]]
    )


def test_unions_that_cannot_be() -> None:
    a, b, c = pl.LazyFrame({"x": [1]}), pl.LazyFrame({"x": [1], "y": ["a"]}), pl.LazyFrame({"x": [1], "y": [1.5]})
    assert "b lacks column 'y'" not in refused({"union": "b"}, a, b=b)
    assert "this side lacks column 'y'; add it, or say missing: fill" in refused({"union": "b"}, a, b=b)
    assert "a lacks column 'y'" in refused({"union": "a"}, b, a=a)
    assert "column 'y' is String here and Float64 in 'c'" in refused({"union": "c"}, b, c=c)
    both = {"union": {"with": ["b", "c"], "missing": "fill"}}
    assert "column 'y' is String here and Float64 in 'c'; cast one of them first" in refused(both, a, b=b, c=c)
