"""Following plans: whatever options a function or a node has, two that differ in one are told apart."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction

import polars as pl
import pytest

from lazypipe.plan import reader
from lazypipe.plan.exact import Unknown, exact_expr, text
from lazypipe.plan.follow import State, follow
from lazypipe.plan.nodes import Named, PlanExpr, PlanNode
from lazypipe.plan.reader import read_plan
from lazypipe.spec.taps import label
from tests.plan.options import EXPRESSIONS, SCHEMA
from tests.plan.queries import QUERIES, T, U

c = pl.col


def leaf(name: str, columns: list[str]) -> State:
    return State(f"rows of {name}", {n: f"{name}.{n}" for n in columns}, f"order of {name}")


LEAVES = {
    "x": leaf("x", list(SCHEMA)),
    "y": leaf("y", list(SCHEMA)),
    "t": leaf("t", T.columns),
    "u": leaf("u", U.columns),
}
X = label(pl.LazyFrame(schema=SCHEMA), "x")
Y = label(pl.LazyFrame(schema=SCHEMA), "y")


class Asked:
    """Says what a plan was made from, and remembers whether it was asked."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> str:
        self.times += 1
        return "made of this"


def state(frame: pl.LazyFrame, asked: Asked | None = None) -> State:
    return follow(read_plan(frame, exact=True), LEAVES, asked or Asked())


def data(found: State) -> tuple[str, tuple[tuple[str, str], ...], str | None]:
    return found.rows, tuple(sorted(found.columns.items())), found.sequence if found.ordered else None


OPAQUE = ("reshape", "business", "list.eval", "list.agg", "arr.eval", "python_udf", "bin.", "cat.", "fold", "Cumulative_eval", "gather", "with_fields",
          "combine", "time_range")  # fmt: skip
"""What Polars shows too little of."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("group", EXPRESSIONS)
def test_expressions_that_differ_in_an_option_are_told_apart(group: Callable[[], list[pl.Expr]]) -> None:
    seen: dict[object, pl.Expr] = {}
    for expr in group():
        asked = Asked()
        found = data(state(X.select(out=expr), asked))
        if asked.times:
            said = str(expr)
            temporal = "00:00:00" in said or "element()" in said
            assert temporal or any(word in said for word in OPAQUE), said
            continue
        assert found not in seen, (str(seen[found]), str(expr))
        seen[found] = expr


NODES: list[list[Callable[[], pl.LazyFrame]]] = [
    [
        lambda: X.sort("a"), lambda: X.sort("a", descending=True), lambda: X.sort("a", nulls_last=True), lambda: X.sort("b"), lambda: X,
        lambda: X.sort("a", "b"), lambda: X.sort("b", "a"), lambda: X.sort("a", "b", descending=[True, False]),
        lambda: X.sort("a", "b", descending=[False, True]),
    ],
    [lambda: X.slice(0, 2), lambda: X.slice(1, 2), lambda: X.slice(0, 3), lambda: X.slice(-2, 2), lambda: X.sort("a").slice(0, 2), lambda: X],
    [
        lambda: X.unique("a", keep="first"), lambda: X.unique("a", keep="last"), lambda: X.unique("a", keep="none"), lambda: X.unique("b", keep="first"),
        lambda: X.unique(["a", "b"], keep="first"), lambda: X.sort("b").unique("a", keep="first"), lambda: X.select("a", "b").unique(keep="any"),
    ],
    [
        *(lambda how=how: X.join(Y, on="a", how=how) for how in ("inner", "left", "right", "full", "semi", "anti")),
        lambda: X.join(Y, how="cross"), lambda: X.join(Y, on="b", how="left"), lambda: X.join(Y, on="a", how="left", nulls_equal=True),
        lambda: X.join(Y, left_on="a", right_on=c.b.cast(pl.Int64), how="left"), lambda: Y.join(X, on="a", how="left"), lambda: X.join(X, on="a", how="left"),
        lambda: X.join(Y, on="a", how="left", coalesce=False), lambda: X.join(Y, on=["a", "s"], how="left"),
        lambda: X.join(Y, on="a", how="full", coalesce=True), lambda: X.join(Y, left_on=["a", "s"], right_on=["a", "s"], how="full", coalesce=True),
        lambda: X.join(Y.filter(c.b > 1), on="a", how="left"), lambda: X.join(Y.filter(c.b > 1), on="a", how="anti"),
    ],
    [
        lambda: X.join_where(Y, c.b < c.b_right), lambda: X.join_where(Y, c.b <= c.b_right), lambda: X.join_where(Y, c.b > c.b_right),
    ],
    [
        *(
            lambda more=more: X.sort("t").join_asof(Y.sort("t"), on="t", **more)
            for more in (
                {}, {"strategy": "forward"}, {"strategy": "nearest"}, {"tolerance": "1h"}, {"tolerance": "2h"}, {"allow_exact_matches": False}, {"by": "s"},
                {"by": "a"},
            )
        ),
        lambda: X.sort("t").join_asof(Y.sort("t", "a"), on="t"),
    ],
    [
        lambda: X.group_by("a").agg(c.b.sum()), lambda: X.group_by("s").agg(c.b.sum()), lambda: X.group_by("a").agg(c.b.max()),
        lambda: X.filter(c.b > 1).group_by("a").agg(c.b.sum()), lambda: X.group_by("a", "s").agg(c.b.sum()), lambda: X.group_by("a").agg(c.b.mean()),
        lambda: X.group_by("a").agg(c.b), lambda: X.group_by("a").agg(c.b.first()), lambda: X.sort("b").group_by("a").agg(c.b.first()),
        lambda: X.group_by(c.a + 1).agg(c.b.sum()), lambda: X.group_by("a").agg(c.b.filter(c.ok).sum()), lambda: X.select(c.b.sum()),
    ],
    [
        *(
            lambda more=more: X.sort("t").group_by_dynamic("t", **({"every": "1h"} | more)).agg(c.b.sum())
            for more in (
                {}, {"every": "2h"}, {"period": "2h"}, {"offset": "5m"}, {"closed": "right"}, {"label": "right"}, {"include_boundaries": True},
                {"start_by": "datapoint"}, {"group_by": "s"}, {"group_by": "a"},
            )
        ),
        *(
            lambda more=more: X.sort("t").rolling("t", **({"period": "1h"} | more)).agg(c.b.sum())
            for more in ({}, {"period": "2h"}, {"offset": "1h"}, {"closed": "left"}, {"group_by": "s"})
        ),
    ],
    [
        lambda: pl.concat([X, Y]), lambda: pl.concat([Y, X]), lambda: pl.concat([X, X]), lambda: pl.concat([X, X, X]), lambda: X,
        lambda: pl.concat([X, X.with_columns(a="b").cast({"a": pl.Int64})]), lambda: X.merge_sorted(Y, "a"), lambda: X.merge_sorted(Y, "b"),
        lambda: pl.concat([X.select("a"), Y.select("b")], how="horizontal"), lambda: pl.concat([X.select("a"), X.select("b")], how="horizontal"),
    ],
    [lambda: X.with_row_index("i"), lambda: X.with_row_index("i", 5), lambda: X.sort("a").with_row_index("i"), lambda: X.with_row_index("j")],
    [
        lambda: X.explode("l"), lambda: X.explode("ls"), lambda: X.explode("l", "ls"), lambda: X.explode("l", empty_as_null=True),
        lambda: X.explode("l", keep_nulls=False), lambda: X.filter(c.a > 1).explode("l"),
        lambda: X.with_columns(z="l").explode("l").explode("z").select(v="l"), lambda: X.with_columns(z="l").explode("l").explode("z").select(v="z"),
    ],
    [lambda: X.unnest("r"), lambda: X.unnest("r", separator="_"), lambda: X.drop("r"), lambda: X.with_columns(r=pl.struct(p="a", q="s")).unnest("r")],
    [
        lambda: X.unpivot(["a", "b"], index="s"), lambda: X.unpivot(["b", "a"], index="s"), lambda: X.unpivot(["a"], index="s"),
        lambda: X.unpivot(["a", "b"], index="d"), lambda: X.unpivot(["a", "b"], index="s", variable_name="n"),
        lambda: X.unpivot(["a", "b"], index="s", value_name="n"), lambda: X.rename({"a": "z"}).unpivot(["z", "b"], index="s"),
    ],
    [lambda: X, lambda: X.set_sorted("a"), lambda: X.set_sorted("a", descending=True), lambda: X.set_sorted("b")],
    [
        lambda: pl.LazyFrame({"a": [1, 2]}), lambda: pl.LazyFrame({"a": [1, 3]}), lambda: pl.LazyFrame({"a": [1.0, 2.0]}),
        lambda: pl.LazyFrame({"a": [1]}), lambda: pl.LazyFrame({"b": [1, 2]}), lambda: pl.LazyFrame(schema={"a": pl.Int64}),
        lambda: pl.LazyFrame(schema={"a": pl.Int8}),
    ],
    [
        lambda: pl.scan_parquet("one.parquet", schema={"a": pl.Int64}), lambda: pl.scan_parquet("two.parquet", schema={"a": pl.Int64}),
        lambda: pl.scan_parquet("one.parquet", schema={"a": pl.Int64}, missing_columns="insert"),
        lambda: pl.scan_parquet("one.parquet", schema={"a": pl.Int64}, n_rows=5), lambda: pl.scan_csv("one.csv", schema={"a": pl.Int64}),
        lambda: pl.scan_csv("one.csv", schema={"a": pl.Int64}, separator=";"), lambda: pl.scan_csv("one.csv", schema={"a": pl.Int64}, skip_rows=1),
    ],
    [
        # values side by side with the rows go by their order
        lambda: X.with_columns(v=pl.Series([1, 2])), lambda: X.sort("a").with_columns(v=pl.Series([1, 2])).sort("a"),
        lambda: X.with_columns(v=pl.Series([1, 2]) + 1), lambda: X.filter(c.a > 1).with_columns(v=pl.Series([1, 2])),
    ],
    [lambda: X.filter(c.a > 1), lambda: X.filter(c.a > 1, c.b > 1), lambda: X.filter((c.a > 1) | (c.b > 1)), lambda: X.filter(~(c.a > 1))],
    [
        lambda: X.select(c.a), lambda: X.select(c.a.filter(c.ok)), lambda: X.select(c.a.head(1)), lambda: X.select(c.a.sum()),
        lambda: X.select(pl.lit(1).alias("a")), lambda: X.select(pl.lit(1).alias("a"), "b"),
    ],
]  # fmt: skip


@pytest.mark.parametrize("group", NODES)
def test_nodes_that_differ_in_an_option_are_told_apart(group: list[Callable[[], pl.LazyFrame]]) -> None:
    found = [data(state(made())) for made in group]
    same = [(i, j) for i, one in enumerate(found) for j in range(i) if found[j] == one]
    assert not same


ALIKE: list[list[Callable[[], pl.LazyFrame]]] = [
    [lambda: X.filter(c.a > 1, c.b < 2), lambda: X.filter(c.b < 2).filter(c.a > 1), lambda: X.filter((c.b < 2) & (c.a > 1) & (c.b < 2))],
    [lambda: X.filter((c.a > 1) | (c.b < 2) | c.ok), lambda: X.filter(c.ok | (c.b < 2) | (c.a > 1))],
    [lambda: X.filter(pl.any_horizontal(c.ok, c.a > 1)), lambda: X.filter(pl.any_horizontal(c.a > 1, c.ok, c.ok))],
    [lambda: X.with_columns(m=c.a + 1, n=c.b * 2), lambda: X.with_columns(n=2 * c.b).with_columns(m=1 + c.a)],
    [lambda: X.select("a", "b"), lambda: X.rename({"a": "z"}).select("b", a="z"), lambda: X.drop(c.s).select("b", "a")],
    [lambda: X.group_by("a", "s").agg(c.b.sum(), n=pl.len()), lambda: X.group_by("s", "a").agg(pl.len().alias("n"), c.b.sum())],
    [lambda: X.join(Y, on=["a", "s"]), lambda: X.join(Y, on=["s", "a"])],
    [lambda: X.filter(c.a == c.b), lambda: X.filter(c.b == c.a)],
    [lambda: X.sort("a").filter(c.b > 1), lambda: X.filter(c.b > 1).sort("a")],
    [lambda: X.select(c.b.max(), c.s.n_unique()), lambda: X.select(c.s.n_unique(), c.b.max())],
    [lambda: X.unpivot(["a", "b"], index="s").select("s"), lambda: X.select("s", "b", "a").unpivot(["a", "b"], index="s").select("s")],
    [lambda: X.cache().filter(c.a > 1), lambda: X.filter(c.a > 1)],
]  # fmt: skip


@pytest.mark.parametrize("group", ALIKE)
def test_what_means_the_same_is_the_same(group: list[Callable[[], pl.LazyFrame]]) -> None:
    assert len({data(state(made())) for made in group}) == 1


def test_a_sum_of_texts_minds_their_order() -> None:
    assert state(X.select(v=c.s + "x")).columns != state(X.select(v="x" + c.s)).columns


def test_an_aggregate_of_floats_minds_the_order_of_rows_and_one_of_whole_numbers_does_not() -> None:
    one, other = (
        state(X.select(c.b.sum(), c.a.sum(), c.d.max())),
        state(X.sort("s").select(c.b.sum(), c.a.sum(), c.d.max())),
    )
    assert one.columns["b"] != other.columns["b"]
    inner = [state(f.with_columns(z=c.a.sum(), y=c.b.sum())) for f in (X, X.sort("s"))]
    assert inner[0].columns["z"] == inner[1].columns["z"]
    assert inner[0].columns["y"] != inner[1].columns["y"]


def test_how_text_is_read_as_a_time_depends_on_the_rows() -> None:
    for expr in (c.s.cast(pl.Date), c.s.str.to_date(), c.s.str.to_datetime(strict=False)):
        here, there = (state(f.with_columns(v=expr)) for f in (X, X.filter(c.a > 1)))
        assert here.columns["v"] != there.columns["v"]
    for expr in (c.s.str.to_date("%Y"), c.t.cast(pl.Date), c.s.cast(pl.Int64)):
        here, there = (state(f.with_columns(v=expr)) for f in (X, X.filter(c.a > 1)))
        assert here.columns["v"] == there.columns["v"]


def test_both_sides_of_a_join_with_itself_are_told_apart() -> None:
    joined = state(X.join(X, on="a", how="left"))
    assert joined.columns["b"] != joined.columns["b_right"]
    # two columns that were one before the join, of which only one is filled from the other side
    twice = X.select("a", v="a").join(Y.select("a", v="a"), on="a", how="full", coalesce=True)
    found = state(twice)
    assert len({found.columns[n] for n in ("a", "v", "v_right")}) == 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::polars.exceptions.PolarsInefficientMapWarning")
def test_queries_with_other_results_are_told_apart() -> None:
    t, u = (label(frame.clear().lazy(), n) for n, frame in (("t", T), ("u", U)))
    found: dict[object, tuple[str, pl.DataFrame]] = {}
    for name, query in QUERIES.items():
        plan = read_plan(query(t, u), exact=True)
        here = follow(plan, LEAVES, lambda name=name: name)
        rows = query(T.lazy(), U.lazy()).collect(engine="in-memory")
        known = found.setdefault(data(here), (name, rows))
        assert known[1].select(sorted(known[1].columns)).equals(rows.select(sorted(rows.columns))), (name, known[0])
    assert len(found) > 110


def test_a_plan_that_cannot_be_seen_into_is_what_it_was_made_from() -> None:
    asked = Asked()
    frame = X.map_batches(lambda rows: rows)
    opaque = follow(read_plan(frame, exact=True), LEAVES, asked)
    assert asked.times == 1
    assert follow(read_plan(frame, exact=True), LEAVES, lambda: "of that").rows != opaque.rows
    assert opaque.columns["a"] != opaque.columns["b"]
    other = LEAVES | {"x": leaf("z", list(SCHEMA))}
    assert follow(read_plan(frame, exact=True), other, Asked()).rows != opaque.rows


def test_a_plan_read_without_what_is_exact_is_not_seen_into() -> None:
    asked = Asked()
    follow(read_plan(X.filter(c.a > 1)), LEAVES, asked)
    assert asked.times == 1


def test_two_parts_that_cannot_be_seen_into_are_told_apart() -> None:
    found = state(X.select(v=c.l.list.eval(pl.element() + 1), w=c.l.list.eval(pl.element() + 2)))
    assert found.columns["v"] != found.columns["w"]


def test_a_join_of_a_kind_that_is_not_known_is_not_seen_into() -> None:
    asked = Asked()
    follow(read_plan(X.join_where(Y, c.b > c.b_right), exact=True, optimized=True), LEAVES, asked)
    assert asked.times == 1


def test_a_part_that_stands_twice_is_one() -> None:
    part = PlanExpr("operator", "Minus", (PlanExpr("column", "a"), PlanExpr("column", "b")), exact="<Int64>")
    unseen = PlanExpr("opaque")
    whole = PlanExpr("operator", "Divide", (part, unseen), exact="<Float64>")
    made = tuple(Named(n, e) for n, e in (("p", part), ("w", whole), ("v", whole), ("u", unseen)))
    plan = PlanNode(
        "select",
        ("p", "w", "v", "u"),
        (PlanNode("label", ("a", "b"), options=(("name", "x"),)),),
        made,
        exact="Select()",
    )
    found = follow(plan, LEAVES).columns
    assert found["w"] == found["v"] != found["p"]
    assert len(set(found.values())) == 3


def test_an_expression_whose_type_is_not_told_is_not_seen_into_if_that_may_matter() -> None:
    class Mute:
        def get_dtype(self, number: int) -> None:
            raise NotImplementedError(number)

    assert reader._type(Mute(), 1) is None
    traverser = X.select(v=c.a.round(1))._ldf.visit()
    traverser.view_current_node()
    view = traverser.view_expression(traverser.get_exprs()[0].node)
    assert exact_expr(view, None) is None
    assert exact_expr(view, pl.Int64()) == '<Int64>Function(function_data=["round",1,"half_to_even"],options=None)'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "None"), (True, "True"), (1, "1"), (-0.0, "-0.0"), (float("nan"), "nan"), ('a"b', '"a\\"b"'), (b"a", "bytes(61)"),
        ((1, [2.5]), "[1,[2.5]]"), ({2, 1}, "set(1,2)"), ({"b": 1, "a": None}, '{"a":None,"b":1}'), (date(2024, 1, 2), "date(2024-01-02)"),
        (datetime(2024, 1, 2, tzinfo=UTC), "datetime(2024-01-02T00:00:00+00:00 UTC)"), (datetime(2024, 1, 2, fold=1), "datetime(2024-01-02T00:00:00 fold)"),
        (time(1, 2), "time(01:02:00)"), (timedelta(1, 2, 3), "timedelta(1,2,3)"), (Decimal("1.50"), "Decimal(1.50)"),
        (Fraction(1, 3), "Fraction(1/3)"), (pl.List(pl.Int8()), "<List(Int8)>"), (pl.Int8, "<Int8>"),
    ],
)  # fmt: skip
def test_values_are_written_with_their_type(value: object, expected: str) -> None:
    assert text(value) == expected


def test_what_cannot_be_written_is_unknown() -> None:
    with pytest.raises(Unknown):
        text(object())
    objects = pl.LazyFrame({"o": pl.Series([object()], dtype=pl.Object)})
    asked = Asked()
    assert read_plan(objects, exact=True).exact is None
    follow(read_plan(objects, exact=True), LEAVES, asked)
    assert asked.times == 1


def test_times_finer_than_python_shows_are_not_seen_into() -> None:
    nanos = pl.Series([1], dtype=pl.Duration("ns"))
    for dtype, value in (
        (pl.Time(), time(1)), (pl.Datetime("ns"), datetime(2024, 1, 1)), (pl.Duration("ns"), timedelta(1)),
        (pl.List(pl.Time()), [time(1)]), (pl.Array(pl.Time(), 1), [time(1)]), (pl.Struct({"a": pl.Time()}), {"a": time(1)}),
    ):  # fmt: skip
        asked = Asked()
        state(X.with_columns(v=pl.lit(value, dtype=dtype)), asked)
        assert asked.times == 1, dtype
    asked = Asked()
    one, other = (
        state(X.with_columns(v=pl.lit(s)), asked).columns["v"] for s in (nanos, nanos + timedelta(microseconds=1))
    )
    assert one != other
    assert asked.times == 0
