"""Expressions written in two ways: what means the same has one fingerprint, and what has one fingerprint gives the same values.

The oracle is Polars: whatever shares a hash is evaluated over rows with nulls, NaN, both zeros and the ends of whole numbers.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.plan.follow import State, follow
from lazypipe.plan.reader import read_plan
from lazypipe.spec.taps import label
from lazypipe.sql.bind import bind

NAN = float("nan")
WHOLE = [None, -1, 0, 1, 2, 2**63 - 1, -(2**63)]
FRACTIONS = [None, NAN, float("inf"), -0.0, 0.0, 1.0, 1e16, 0.1]
ROWS = pl.DataFrame(
    [
        {"x": x, "k": k, "y": y, "z": y2, "ok": ok, "no": no, "s": s, "d": d}
        for (x, k), (y, y2), (ok, no), (s, d) in zip(
            [*product(WHOLE, WHOLE)] * 3,
            [*product(FRACTIONS, FRACTIONS)] * 3,
            [*product([None, True, False], repeat=2)] * 17,
            [*product([None, "", "a", "b", "B"], [None, 0, 19_000])] * 10,
            strict=False,
        )
    ],
    schema={"x": pl.Int64, "k": pl.Int64, "y": pl.Float64, "z": pl.Float64, "ok": pl.Boolean, "no": pl.Boolean, "s": pl.String, "d": pl.Date},
)  # fmt: skip
LEAF = State("rows", {c: f"column {c}" for c in ROWS.columns}, "order")
HERE = label(ROWS.clear().lazy(), "t")

Tree = tuple[Any, ...]
OPERANDS = [("x", "k", ["0", "1", "2"]), ("y", "z", ["0.0", "1.0", "0.1"]), ("s", "'b'", ["'a'", "'b'"]),
            ("d", "d", ["DATE '1970-01-01'", "DATE '2022-01-08'"]), ("ok", "no", ["TRUE", "FALSE"])]  # fmt: skip
FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "<>": "<>"}
DENIED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "=": "<>", "<>": "="}

operands = st.sampled_from(OPERANDS)
comparisons = operands.flatmap(
    lambda o: st.tuples(st.just("compare"), st.sampled_from([*FLIPPED]), st.just(o[0]), st.sampled_from([o[1], *o[2]]))
)
lists = operands.flatmap(
    lambda o: st.tuples(st.just("in"), st.just(o[0]), st.lists(st.sampled_from(o[2]), min_size=1, max_size=3))
)
atoms: st.SearchStrategy[Tree] = st.one_of(
    comparisons,
    lists,
    st.tuples(st.just("null"), st.sampled_from(["x", "y", "s", "ok"])),
    st.tuples(st.just("between"), st.just("y"), st.sampled_from(["0.0", "z"]), st.sampled_from(["1.0", "0.1"])),
    st.tuples(st.just("flag"), st.sampled_from(["ok", "no"])),
)
conditions: st.SearchStrategy[Tree] = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=6,
)
numbers: st.SearchStrategy[Tree] = st.one_of(
    # two literals may be a number of another type before they meet a column
    st.tuples(
        st.sampled_from(["+", "*"]),
        st.lists(st.sampled_from("xk"), min_size=1, max_size=4),
        st.sampled_from(["3", "k"]),
    ),
    st.tuples(st.just("default"), st.sampled_from(["x", "k"]), st.sampled_from(["k", "0"])),
    st.tuples(st.just("cast"), st.sampled_from(["x", "k"])),
    st.tuples(st.just("case"), conditions, st.sampled_from(["x", "k"]), st.sampled_from(["k", "0"])),
)
expressions = st.one_of(conditions, numbers)


class Writer:
    """Writes an expression as SQL, each time in one of the ways that mean the same."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def one(self, *ways: Callable[[], str]) -> str:
        return self.draw.choice(ways)()

    def joined(self, parts: list[str], sign: str) -> str:
        """Put parts together in any order, with any brackets."""
        self.draw.shuffle(parts)
        while len(parts) > 1:
            at = self.draw.randrange(len(parts) - 1)
            parts[at : at + 2] = [f"({parts[at]} {sign} {parts[at + 1]})"]
        return parts[0]

    def say(self, tree: Tree, *, holds: bool = True) -> str:
        """Write a condition, or its opposite; ``NOT`` in front of brackets, or inside of them."""
        if self.draw.random() < 0.15:
            return f"NOT ({self.say(tree, holds=not holds)})"
        if self.draw.random() < 0.1:
            return f"({self.say(tree, holds=holds)}) = TRUE"
        match tree:
            case ("not", inner):
                return self.say(inner, holds=not holds)
            case ("and" | "or" as sign, parts):
                said = [f"({self.say(p, holds=holds)})" for p in parts]
                said += self.draw.sample(said, k=self.draw.randrange(2))
                return self.joined(said, sign if holds else {"and": "or", "or": "and"}[sign])
            case ("compare", sign, one, other):
                sign = sign if holds else DENIED[sign]
                return self.one(lambda: f"{one} {sign} {other}", lambda: f"{other} {FLIPPED[sign]} {one}")
            case ("in", one, values):
                values = self.draw.sample(values, k=len(values)) + self.draw.sample(values, k=self.draw.randrange(2))
                each = [("compare", "=", one, v) for v in values]
                return self.one(
                    lambda: f"{one} {'' if holds else 'NOT '}IN ({', '.join(values)})",
                    lambda: self.say(("or", each), holds=holds),
                )
            case ("null", one):
                return f"{one} IS {'' if holds else 'NOT '}NULL"
            case ("between", one, least, most):
                bounds = [("compare", ">=", one, least), ("compare", "<=", one, most)]
                return self.one(
                    lambda: f"{one} {'' if holds else 'NOT '}BETWEEN {least} AND {most}",
                    lambda: self.say(("and", bounds), holds=holds),
                )
            case ("flag", one):
                return self.one(lambda: one if holds else f"NOT {one}", lambda: f"{one} = {str(holds).upper()}")
        raise AssertionError(tree)

    def write(self, tree: Tree) -> str:
        match tree:
            case ("+" | "*" as sign, parts, last):
                return self.joined([*parts, last], sign)
            case ("default", one, other):
                return self.one(
                    lambda: f"coalesce({one}, {other})",
                    lambda: f"CASE WHEN {self.say(('null', one))} THEN {other} ELSE {one} END",
                    lambda: f"CASE WHEN {self.say(('null', one), holds=False)} THEN {one} ELSE {other} END",
                )
            case ("cast", one):
                return self.one(lambda: one, lambda: f"{one}::bigint", lambda: f"CAST({one} AS int8)")
            case ("case", condition, one, other):
                return f"CASE WHEN {self.say(condition)} THEN {one} ELSE {other} END"
        return self.say(tree)


def hashed(sql: str) -> str:
    plan = read_plan(HERE.select(v=bind(sql, ROWS.schema)), exact=True)
    return follow(plan, {"t": LEAF}).columns["v"]


def kept(sql: str) -> str:
    plan = read_plan(HERE.filter(bind(sql, ROWS.schema)), exact=True)
    return follow(plan, {"t": LEAF}).rows


def values(sql: str) -> list[str]:
    """Give each value with its type and all its bits."""
    found = ROWS.select(v=bind(sql, ROWS.schema)).to_series()
    return [str(found.dtype), *map(repr, found.to_list())]


@given(tree=expressions, seeds=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)))
def test_what_is_written_in_another_way_is_the_same(tree: Tree, seeds: tuple[int, int]) -> None:
    one, other = (Writer(s).write(tree) for s in seeds)
    assert values(one) == values(other), (one, other)  # or else the writer is wrong
    assert hashed(one) == hashed(other), (one, other)


@given(tree=conditions, seeds=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)))
def test_so_are_the_rows_that_a_filter_leaves(tree: Tree, seeds: tuple[int, int]) -> None:
    one, other = (Writer(s).say(tree) for s in seeds)
    assert kept(one) == kept(other), (one, other)


@given(trees=st.lists(expressions, min_size=2, max_size=12), seed=st.integers(0, 10**6))
def test_what_is_said_to_be_the_same_has_the_same_values(trees: list[Tree], seed: int) -> None:
    said = [Writer(seed + i).write(tree) for i, tree in enumerate(trees)]
    found: dict[str, str] = {}
    for sql in said:
        other = found.setdefault(hashed(sql), sql)
        assert values(sql) == values(other), (sql, other)


SMALL = ["x > 0", "0 > x", "x >= 0", "x < 0", "x <= 0", "x <> 0", "x = 0", "x IS NULL", "ok", "no"]
small: st.SearchStrategy[str] = st.recursive(
    st.sampled_from(SMALL),
    lambda inner: st.one_of(
        st.builds("NOT ({})".format, inner),
        st.builds("({}) = {}".format, inner, st.sampled_from(["TRUE", "FALSE"])),
        st.builds("({}) {} ({})".format, inner, st.sampled_from(["AND", "OR"]), inner),
        st.builds("CASE WHEN {} THEN {} ELSE {} END".format, inner, inner, inner),
        st.builds("coalesce({}, {})".format, inner, inner),
        st.builds("({}) IS NULL".format, inner),
        st.builds("({}) IS TRUE".format, inner),
    ),
    max_leaves=4,
)


@given(one=small, other=small)
def test_so_have_conditions_of_few_words_that_are_put_together_anyhow(one: str, other: str) -> None:
    if hashed(one) == hashed(other):
        assert values(one) == values(other), (one, other)
    if kept(one) == kept(other):
        rows = [ROWS.filter(bind(sql, ROWS.schema)) for sql in (one, other)]
        assert rows[0].equals(rows[1]), (one, other)


sums: st.SearchStrategy[str] = st.recursive(
    st.sampled_from(["x", "k", "y", "z", "0.1", "3"]),
    lambda inner: st.one_of(
        st.builds("({}) {} ({})".format, inner, st.sampled_from(["+", "*", "-"]), inner),
        st.builds("({})::{}".format, inner, st.sampled_from(["bigint", "double", "float4"])),
        st.builds("coalesce({}, {})".format, inner, inner),
        st.builds("CASE WHEN {} IS NULL THEN {} ELSE {} END".format, inner, inner, inner),
    ),
    max_leaves=4,
)


@given(trees=st.lists(sums, min_size=2, max_size=12), seed=st.integers(0, 10**6))
def test_so_have_sums_and_products(trees: list[str], seed: int) -> None:
    """Of fractions, ``(a + b) + c`` is not ``a + (b + c)``; of whole numbers, also where they run over, it is."""
    found: dict[str, str] = {}
    for sql in [*trees, *(f"({a}) {s} ({b})" for s in "+*" for a, b in pairwise(trees))]:
        try:
            mine = values(sql)
        except pl.exceptions.PolarsError:  # a number too large for a cast
            continue
        other = found.setdefault(hashed(sql), sql)
        assert mine == values(other), (sql, other)


@given(
    parts=st.permutations(["y", "z", "0.1", "x"]),
    again=st.permutations(["y", "z", "0.1", "x"]),
    sign=st.sampled_from("+*"),
)
def test_fractions_are_summed_in_their_order(parts: list[str], again: list[str], sign: str) -> None:
    one, other = ((f"(({a} {sign} {b}) {sign} {c}) {sign} {d}") for a, b, c, d in (parts, again))
    if hashed(one) == hashed(other):
        assert values(one) == values(other), (one, other)
