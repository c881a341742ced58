"""SQL text: values stay values, names stay names, and nothing reads a clock or a file."""

# values without a zone are what is tested

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from decimal import Decimal
from itertools import product
from time import thread_time
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lazypipe.spec.words import _FUNCTIONS
from lazypipe.sql.bind import bind, tried
from lazypipe.sql.exprs import dtype_of
from lazypipe.sql.prepared import prepared, understood
from lazypipe.sql.query import judge, query
from lazypipe.sql.text import SqlError, parameters

SCHEMA = pl.Schema({"x": pl.Int64, "s": pl.String, "ts": pl.Datetime("us"), "d": pl.Date})
ROWS = pl.LazyFrame({"x": [1], "s": ["a"], "ts": [dt.datetime(2013, 8, 15, 13, 47, 11)], "d": [dt.date(2013, 8, 15)]})


def value_of(text: str, **params: Any) -> pl.Series:
    """Evaluate an expression over ROWS."""
    return ROWS.select(bind(text, SCHEMA, params).alias("v")).collect()["v"]


def refused(text: str, **params: Any) -> str:
    with pytest.raises(SqlError) as caught:
        bind(text, SCHEMA, params)
    return str(caught.value)


# --- literals

ZONES = st.sampled_from([dt.UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("America/St_Johns")]) | st.timedeltas(
    dt.timedelta(hours=-23), dt.timedelta(hours=23)
).map(dt.timezone)
NASTY = ["'", "''", "\\", "\\'", '"', "--", "/*", "*/", ";", ":x", "::int", "$$", "`", "\n", "\0", "%", "{", "é", "x"]
VALUES = {
    "text": (st.text() | st.lists(st.sampled_from(NASTY)).map("".join), pl.String),
    "boolean": (st.booleans(), pl.Boolean),
    "int": (st.integers(-(2**63), 2**63 - 1), (pl.Int32, pl.Int64)),
    "large int": (st.integers(2**63, 2**127 - 1) | st.integers(-(2**127), -(2**63) - 1), pl.Int128),
    "float": (st.floats(), pl.Float64),
    "decimal": (
        st.builds(
            lambda digits, exponent: Decimal(digits).scaleb(exponent), st.integers(-(10**18), 10**18), st.integers(-18, 18)
        ),
        pl.Decimal,
    ),
    "date": (st.dates(), pl.Date),
    "datetime": (st.datetimes(), pl.Datetime("us")),
    "aware": (
        st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29), timezones=ZONES),
        pl.Datetime("us", "UTC"),
    ),
    "time": (st.times(), pl.Time),
    "duration": (st.timedeltas(dt.timedelta(-(10**8)), dt.timedelta(10**8)), pl.Duration("us")),
}  # fmt: skip


class TestLiteral:
    @pytest.mark.parametrize("kind", VALUES)
    @given(data=st.data())
    def test_is_the_value(self, kind: str, data: st.DataObject) -> None:
        values, dtypes = VALUES[kind]
        value = data.draw(values)
        for found in (
            value_of(":v", v=value),
            value_of("/*:v*/:v--:v", v=value),
            query("SELECT x, :v AS v FROM t", {"t": ROWS}, {"v": value}).collect()["v"],
        ):
            assert any(found.dtype == t for t in (dtypes if isinstance(dtypes, tuple) else (dtypes,)))
            (got,) = found.to_list()
            if isinstance(value, float):
                assert (math.isnan(got) and math.isnan(value)) or (got, math.copysign(1, got)) == (
                    value,
                    math.copysign(1, value),
                )
            elif kind == "aware":  # in UTC: Python finds hours that come twice equal to nothing of another zone
                assert got == value.astimezone(dt.UTC)
            else:
                assert got == value
                assert isinstance(got, bool) == isinstance(value, bool)

    @pytest.mark.parametrize("kind", VALUES)
    @given(data=st.data())
    def test_is_one_of_a_list(self, kind: str, data: st.DataObject) -> None:
        if kind == "float":
            values = st.floats(allow_nan=False)
        elif kind == "decimal":
            values = st.integers(-999, 999).map(lambda n: Decimal(n) / 4)
        else:
            values = VALUES[kind][0]
        listed = data.draw(st.lists(values, min_size=1, max_size=4))
        assert value_of(":v IN (:list)", v=listed[-1], list=listed).to_list() == [True]
        assert value_of(":v NOT IN (:list)", v=listed[0], list=tuple(listed)).to_list() == [False]

    def test_of_none(self) -> None:
        assert value_of(":v IS NULL", v=None).to_list() == [True]
        assert value_of("x = :v", v=None).to_list() == [None]

    @pytest.mark.parametrize(
        "value",
        [
            *[2**127, -(2**127) - 1, dt.timedelta.max, dt.timedelta.min, dt.time(12, tzinfo=dt.UTC)],
            *[Decimal("NaN"), Decimal("Infinity"), Decimal("1E+39"), Decimal("1E-39"), Decimal(10**38)],
            *[dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))), "\ud800"],
            *[[], {}, b"bytes", object(), {"a": 1}, [object()]],
        ],
        ids=lambda v: type(v).__name__,
    )
    def test_that_does_not_exist_is_refused(self, value: Any) -> None:
        with pytest.raises(SqlError):
            bind("s = :v", SCHEMA, {"v": value})

    @pytest.mark.parametrize(
        "attack",
        [
            *["' OR 'a' = 'a", "a' --", "a'; DROP TABLE t; --", "') OR (1 = 1", "\\' OR 1 = 1 --", "a\0' OR TRUE --"],
            *["x", ":x", "now()", "' || s || '", "a*/ OR TRUE /*", '"x"', "$$ OR TRUE", "` OR TRUE", "read_csv('x')"],
        ],
    )
    def test_stays_a_value_whatever_it_says(self, attack: str) -> None:
        assert value_of("s = :v", v=attack).to_list() == [False]
        assert value_of("s <> :v AND (:v = :v)", v=attack).to_list() == [True]
        assert query("SELECT s FROM t WHERE s = :v", {"t": ROWS}, {"v": attack}).collect().height == 0

    def test_does_not_grow_together_with_its_neighbours(self) -> None:
        assert value_of("x-:n", n=-1).to_list() == [2]
        assert value_of("-:n", n=-1).to_list() == [1]
        assert "bad SQL" in refused("1:n", n=2), "never 12"
        assert "bad SQL" in refused("x = :a :b :a", a="v", b="w"), "never 'v''w''v'"
        assert value_of(":a || :b || s", a="'", b="--").to_list() == ["'--a"]
        for prefix in ("e", "E", "r", "n", "b", "x", "u&"):
            with pytest.raises(SqlError):  # not an escape string E'…', hexadecimal X'…' and so on
                bind(f"{prefix}:v = 'a'", SCHEMA, {"v": "61"})

    @given(st.integers(-(2**40), 2**40).map(lambda n: dt.timedelta(microseconds=n)))
    def test_of_a_duration_adds_to_times_and_durations(self, gap: dt.timedelta) -> None:
        assert value_of("ts + :gap", gap=gap).to_list() == [dt.datetime(2013, 8, 15, 13, 47, 11) + gap]
        assert value_of("ts - :gap >= ts", gap=gap).to_list() == [gap <= dt.timedelta()]
        assert value_of("(ts - ts) + :gap", gap=gap).to_list() == [gap]


# --- parameters and text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("':n'", ":n"),
        ("'it''s :n'", "it's :n"),
        ("'a' -- :n '", "a"),
        ("'a' /* :n ' */", "a"),
        ("'a' /* /* :n */ ' */", "a"),
        ("x::text", "1"),
        ("x :: text || ':n'", "1:n"),
        ("'--' || '/*' || '*/'", "--/**/"),
        ("'\\' || 'n'", "\\n"),
    ],
)
def test_text_that_looks_like_a_parameter_is_left_alone(text: str, value: Any) -> None:
    assert parameters(text) == frozenset()
    assert value_of(text, n="wrong").to_list() == [value]


def test_quoted_names_are_left_alone() -> None:
    frame = pl.LazyFrame({":n": [1], "a b": [2], "é.ü": [3], 'q"q': [4], "date_trunc": [5], "Select": [6]})
    text = '":n" * 100000 + "a b" * 10000 + "é.ü" * 1000 + "q""q" * 100 + "date_trunc" * 10 + "Select"'
    assert parameters(text) == frozenset()
    assert frame.select(bind(text, frame.collect_schema(), {"n": 9})).collect().item() == 123456


def test_parameters_are_found_wherever_they_stand() -> None:
    assert parameters("a>=:since AND(b<:n::int)OR c IN(:list):é_1") == {"since", "n", "list"}
    assert refused("x = :nn", n=1) == "unknown parameter :nn; did you mean 'n'?"


def test_a_parameter_may_be_null_where_nobody_writes_null() -> None:
    """``= NULL`` is a slip of the pen, and refused; what is compared with a null parameter is null."""
    schema = pl.Schema({"x": pl.Int64()})
    frame = pl.LazyFrame({"x": [1, None]})
    assert frame.select(tried("x = :p", schema, {"p": None})).collect()["x"].to_list() == [None, None]
    for text in (
        "x IS NOT DISTINCT FROM NULL",
        "coalesce(x, NULL) = 1",
        "x IN (1, NULL)",
        "x >= 1 OR NULL IS NULL",
        "x <=> NULL",
    ):
        frame.select(tried(text, schema, {})).collect()


def test_functions_that_are_meant_exist() -> None:
    for name in _FUNCTIONS:
        try:
            pl.sql_expr(f"{name}(x)")
        except pl.exceptions.PolarsError as error:
            assert "unsupported function" not in str(error)  # how many arguments it takes is told otherwise


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("'open", "unclosed ' in SQL; close the quote"),
        ('"open', 'unclosed " in SQL; close the quote'),
        ("1 /* /* */", "unclosed /* in SQL; close the comment"),
        ("date_trunc('day', ts", "unclosed ( after date_trunc"),
        ("1 + SUM(x", "unclosed ( after SUM; close the bracket"),
        ("`x`", "` cannot be used here in SQL"),
        ("$$ ' $$ || now() || $$ ' $$", "$ cannot be used here in SQL"),
        ("E'\\' || now() --'", "E cannot be used here in SQL"),
        ("1e'\\'", "e cannot be used here in SQL"),
        ("", "empty SQL expression"),
        (" -- nothing", "empty SQL expression"),
        ("x +", "bad SQL: "),
        ("x; x", "bad SQL: "),
        ("y = 1", "unknown column 'y'; known columns: d, s, ts, x"),
        ("tss = ts", "unknown column 'tss'; did you mean 'ts'?"),
        ("nothing_such(x)", "nothing_such"),
    ],
)
def test_text_that_cannot_be(text: str, message: str) -> None:
    assert message in refused(text)


PIECES = [
    "'",
    '"',
    "x",
    "s",
    "(",
    ")",
    ",",
    ":",
    ":p",
    "::",
    "--",
    "/*",
    "*/",
    " ",
    "\n",
    "now",
    "date_trunc",
    "'day'",
    "ts",
]
PIECES += [
    "1",
    ".",
    "e",
    "+",
    "CASE",
    "WHEN",
    "END",
    "OVER",
    "$",
    "`",
    "[",
    "]",
    "{",
    "}",
    "é",
    "\0",
    ";",
    "IN",
    "AS",
    "=",
    "*",
]


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_any_text_is_bound_or_refused(text: str) -> None:
    try:
        expr = bind(text, SCHEMA, {"p": "v"})
        dtype_of(expr, SCHEMA)
    except SqlError:
        return
    assert isinstance(expr, pl.Expr)


def test_an_expression_without_one_column_has_no_type() -> None:
    with pytest.raises(SqlError, match="selects no column"):
        dtype_of(pl.col("^zz$"), SCHEMA)


# --- what null is, and where a comparison ends

TRUTHS = (
    pl.LazyFrame(
        [*product([None, True, False], [None, True, False], [None, 1, 2], [None, 1, 2])],
        schema={"p": pl.Boolean, "q": pl.Boolean, "a": pl.Int64, "b": pl.Int64},
        orient="row",
    )
    .with_row_index("n")
    .with_columns(nulls="a")
)
TRUTH = [
    "p IS TRUE",
    "p IS NOT TRUE",
    "q IS FALSE",
    "q IS NOT FALSE",
    "p IS UNKNOWN",
    "q IS NOT UNKNOWN",
    "a = b IS NOT TRUE",
]
ALIKE = [
    "a IS DISTINCT FROM b",
    "a + 1 IS NOT DISTINCT FROM b",
    "p IS DISTINCT FROM (q OR p)",
    "a = b IS DISTINCT FROM p",
    "a IS DISTINCT FROM CASE WHEN p AND q THEN a ELSE b END",
    "a IS NOT DISTINCT FROM\n left('12', 1)::bigint",
    "p IS /* not */ NOT DISTINCT FROM a BETWEEN 1 AND b",
    "a IS DISTINCT FROM b IS TRUE",
    'a IS DISTINCT FROM "nulls"',
    "b IS DISTINCT FROM\tnulls + 1",
]
OTHERS = ["q", "a > 1", "a IS NULL", "q IS NOT NULL", "a IN (1, 2)", "a BETWEEN 1 AND b", "(p OR a IS DISTINCT FROM b)"]
FEW = settings(settings.get_profile("few"), max_examples=max(8, settings().max_examples // 3))
CONDITIONS = st.lists(
    st.tuples(
        st.sampled_from(["AND", "OR", "or"]),
        st.sampled_from(["", "", "NOT "]),
        st.sampled_from([*TRUTH, *ALIKE, *OTHERS]),
    ),
    min_size=1,
    max_size=3,
).map(lambda terms: " ".join([word for term in terms for word in term][1:]))


@FEW
@example("a IS DISTINCT FROM b AND a > 1")
@example("a IS NOT DISTINCT FROM b OR q")
@example("NOT p IS TRUE")
@example("p IS NOT DISTINCT FROM a BETWEEN 1 AND b AND q")
@given(CONDITIONS)
def test_conditions_are_what_sql_says(text: str) -> None:
    """Polars would leave the truth of null as it is, and take what follows a comparison for its other side."""
    frame = TRUTHS.collect()
    with duckdb.connect() as peer:
        peer.register("t", frame.to_arrow())
        expected = [v for (v,) in peer.execute(f"SELECT {text} AS v FROM t ORDER BY n").fetchall()]
    assert frame.select(v=bind(text, frame.schema))["v"].to_list() == expected
    found = query(f"SELECT n FROM (SELECT * FROM t WHERE {text} ORDER BY n) AS s", {"t": TRUTHS}).collect()
    assert found["n"].to_list() == [n for n, v in enumerate(expected) if v]


@pytest.mark.parametrize(
    "tail",
    [
        "SELECT a FROM t WHERE a IS DISTINCT FROM b",
        "SELECT a, a IS DISTINCT FROM b AS x, p AND q AS y FROM t",
        "SELECT max(a IS DISTINCT FROM b) AS x FROM t GROUP BY a HAVING max(p) AND max(q)",
        "SELECT t.a FROM t JOIN t AS s ON t.n = s.n AND t.a IS NOT DISTINCT FROM s.b LEFT JOIN t AS r ON t.n = r.n AND s.n = r.n",
        "SELECT CASE WHEN a IS DISTINCT FROM b THEN p AND q ELSE q END AS x FROM t",
    ],
)
def test_a_comparison_ends_where_something_else_begins(tail: str) -> None:
    assert "<=>" not in understood(tail)
    frame = TRUTHS.collect()
    with duckdb.connect() as peer:
        peer.register("t", frame.to_arrow())
        expected = peer.execute(tail).fetchall()
    assert Counter(query(tail, {"t": TRUTHS}).collect().rows()) == Counter(expected)


@pytest.mark.parametrize(
    "text",
    [
        "extract(hour FROM ts) * 60 + EXTRACT ( minute FROM ts )",
        "date_part('doy', d) * 1000",
        "month(d) * 100 + day(d)",
        "length(s) - 5",
        "strpos(s, 'z') - length(concat(s, '))('))",
        "array_length(string_to_array(s, ',')) - 2",
        "extract(epoch FROM ts) / 2",
        "date_part('millisecond', ts)",
        "sum(length(s)) - 100",
        "length(s) IS DISTINCT FROM length(s) - 9 AND length(s) - 9 < 0",
    ],
)
def test_counting_does_not_wrap_around(text: str) -> None:
    frame = ROWS.collect()
    with duckdb.connect() as peer:
        peer.register("t", frame.to_arrow())
        expected = peer.execute(f"SELECT {text} FROM t").fetchall()
    assert ROWS.select(bind(text, SCHEMA)).collect().rows() == expected
    assert query(f"SELECT {text} AS v FROM t", {"t": ROWS}).collect().rows() == expected


FEW_BITS = pl.DataFrame(
    {
        "k": ["a", "a", "b"],
        "i": pl.Series([2**31 - 1, 5, 7], dtype=pl.Int32),
        "u": pl.Series([2**32 - 1, 5, 7], dtype=pl.UInt32),
        "b": [True, False, True],
        "f": [0.5, 1.5, 2.25],
        "big": [2**40, 1, 2],
        "amount": [Decimal("1.25"), Decimal("2.50"), Decimal("3.75")],
    }
)


@pytest.mark.parametrize(
    "text",
    [
        "sum(i)", "SUM( i )", "sum(u)", "sum(DISTINCT i)", "sum(b) - 5", "sum(i) FILTER (WHERE b)", "-sum(-i)", "sum(f)", "sum(big)", "sum(amount)",
        "sum(CASE WHEN b THEN 2000000000 ELSE 1999999999 END)", "sum(2000000000)", "sum(length(k)) - 9", "sum(date_part('year', DATE '2024-02-01'))",
        "sum(i) + sum(u)", "sum(coalesce(i, 0))", "max(i) - min(i)",
    ],
)  # fmt: skip
def test_sums_have_as_many_bits_as_they_need(text: str) -> None:
    rows = FEW_BITS.lazy()
    with duckdb.connect() as peer:
        peer.register("t", FEW_BITS.to_arrow())
        by_group = dict(peer.execute(f"SELECT k, {text} FROM t GROUP BY k").fetchall())
    expr = bind(text, FEW_BITS.schema)
    assert dict(rows.group_by("k").agg(expr.alias("v")).collect().rows()) == by_group
    assert dict(query(f"SELECT k, {text} AS v FROM t GROUP BY k", {"t": rows}).collect().rows()) == by_group


@pytest.mark.parametrize(
    "text",
    [
        "SELECT z.k, sum(z.i) OVER (PARTITION BY z.k) AS s FROM t AS z",
        'SELECT k, sum("i") AS s FROM t GROUP BY k HAVING sum(i) > 2147483647',
        "SELECT t.k, sum(t.i + o.n) AS s FROM t JOIN o ON t.k = o.k GROUP BY t.k",
        "SELECT k, sum(s) AS s FROM (SELECT k, sum(i) AS s FROM t GROUP BY k, b) AS x GROUP BY k",
        # what is called i here has fractions
        "WITH c AS (SELECT k, f AS i FROM t) SELECT k, sum(i) AS s FROM c GROUP BY k",
        # and here one more table has an i
        "SELECT t.k, sum(p.i) AS s FROM t JOIN p ON t.k = p.k GROUP BY t.k",
        # what other queries in it give, by whatever name
        "SELECT sum(n) AS s FROM (SELECT i AS n FROM t) AS x",
        "SELECT sum(x.n) AS s FROM (SELECT max(i) AS n FROM t GROUP BY k, b) AS x",
        "WITH c AS (SELECT k, 2000000000 AS n FROM t), d AS (SELECT k, n FROM c) SELECT k, sum(n) AS s FROM d GROUP BY k",
        'WITH "c d"(n, "m o") AS (SELECT k, CASE WHEN b THEN 2000000000 ELSE 0 END FROM t) SELECT sum("m o") AS s FROM "c d"',
        "SELECT sum(n) AS s FROM (VALUES (2000000000), (2000000000)) x(n)",
        "SELECT k FROM t WHERE big < (SELECT sum(n) FROM (SELECT 2000000000 AS n FROM t) AS x)",
        "WITH t AS (SELECT 2000000000 AS f FROM t) SELECT sum(f) AS s FROM t",
        # inner ones that read outer ones are tried in vain, and need nothing
        "SELECT k, sum(i) AS s FROM t WHERE EXISTS (SELECT 1 FROM p WHERE p.k = t.k) GROUP BY k",
    ],
)
def test_sums_in_queries_have_as_many_bits_as_they_need(text: str) -> None:
    tables = {
        "t": FEW_BITS,
        "o": pl.DataFrame({"k": ["a", "b"], "n": [2**33, 1]}),
        "p": pl.DataFrame({"k": ["a", "b"], "i": [0.25, 0.5]}),
    }
    with duckdb.connect() as peer:
        for name, frame in tables.items():
            peer.register(name, frame.to_arrow())
        expected = peer.execute(text).fetchall()
    found = query(text, {n: f.lazy() for n, f in tables.items()}).collect().rows()
    assert Counter(found) == Counter(expected)


DAYS = pl.DataFrame(
    {
        "g": [1, 1, 2, 2],
        "d": [dt.date(2024, 1, 1), dt.date(2024, 1, 4), None, None],
        "s": ["a", "b", None, "d"],
        "b": [True, False, None, True],
        "c": pl.Series(["a", "b", "a", None], dtype=pl.Categorical),
    }
)


@pytest.mark.parametrize("rows", [DAYS, DAYS.clear()], ids=["rows", "no rows"])
@pytest.mark.parametrize("part", [0, 0.25, 0.5, 1])
def test_quantiles_of_dates_are_those_of_timestamps(rows: pl.DataFrame, part: float) -> None:
    """Polars panics at them where there are no rows, and so when the definition is checked."""
    text = f"quantile_cont(d, {part})"
    with duckdb.connect() as peer:
        peer.register("t", rows.with_columns(d=pl.col("d").cast(pl.Datetime("us"))).to_arrow())
        by_group = dict(peer.execute(f"SELECT g, {text} FROM t GROUP BY g").fetchall())
        over_all = peer.execute(f"SELECT {text} FROM t").fetchall()
    expr = tried(text, rows.schema, {}).alias("v")
    assert dict(rows.group_by("g").agg(expr).rows()) == by_group
    assert rows.select(expr).rows() == over_all
    assert dict(query(f"SELECT g, {text} AS v FROM t GROUP BY g", {"t": rows.lazy()}).collect().rows()) == by_group
    assert query(f"SELECT {text} AS v FROM t", {"t": rows.lazy()}).collect().rows() == over_all


@pytest.mark.parametrize(
    ("call", "dtype"),
    [
        ("quantile_cont(s, 0.5)", "String"),
        ("quantile_disc(b, 0.5)", "Boolean"),
        ("quantile_cont(c, 0.5)", "Categorical"),
        ("sum(d)", "Date"),
        ("sum(c)", "Categorical"),
    ],
)
def test_what_types_have_no_sum_or_quantile_is_refused_in_expressions_and_queries(call: str, dtype: str) -> None:
    said = f"{call.split('(', maxsplit=1)[0]} is not possible for {dtype}"
    with pytest.raises(SqlError) as found:
        bind(call, DAYS.schema)
    assert (found.value.what, found.value.fix) == (said, "cast it first, as in x::double")
    with pytest.raises(SqlError) as found:
        query(f"SELECT g, {call} AS v FROM t GROUP BY g", {"t": DAYS.lazy()})
    assert found.value.what == said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT quantile_cont(u.s, 0.5) AS v FROM t JOIN u ON t.g = u.g", [(0.5,)]),
        ('SELECT sum(u."d") AS v FROM t JOIN u ON t.g = u.g', [(6,)]),
        ("SELECT quantile_cont(d, 1) AS v FROM (SELECT length(s) AS d FROM t) AS x", [(1.0,)]),
    ],
)
def test_a_name_that_is_of_several_types_in_a_query_is_taken_as_it_is(text: str, expected: list[tuple[object]]) -> None:
    other = pl.DataFrame({"g": [1, 1, 2], "s": [0.5, 0.5, 0.5], "d": [1, 1, 1]})
    assert query(text, {"t": DAYS.lazy(), "u": other.lazy()}).collect().rows() == expected


def test_sums_of_many_bits_and_of_fractions_keep_their_type() -> None:
    frame = pl.DataFrame(schema={"f": pl.Float32, "u": pl.UInt64, "d": pl.Decimal(9, 2), "t": pl.Duration("us")})
    for name, dtype in frame.select(pl.all().sum()).schema.items():
        assert frame.select(bind(f"sum({name})", frame.schema)).schema == {name: dtype}


OTHERWISE = pl.DataFrame(
    {
        "n": [1, 7, -7, None],
        "i": pl.Series([2**31 - 1, 10, -3, None], dtype=pl.Int32),
        "j": [2, -2, 3, None],
        "d": pl.Series([*map(Decimal, ("1.25", "-7.50", "0.01")), None], dtype=pl.Decimal(9, 2)),
        "s": ["ÄÖü", "a.c", "日本語", None],
        "t": ["ü", ".", "", "x"],
    }
)


@pytest.mark.parametrize(
    "text",
    [
        # counted in 32 bits, or refused
        "pow(i, 2)", "POWER(10, 20)", "pow(2, j)", "pow(d, 2)", "pow(pow(n, 2), j)",
        # decimals of six or seven digits
        "1.0 * n / 30000000", "n * 1.0 / 7", "n / 7.0", "n / -7.", "100.0 * -n / 7", "n / 7 * 1.5", "(n + .5) / (j + 2.5)", "1 / 3.0", "n/7.0 + d",
        "sum(CASE WHEN n > 0 THEN 1.0 END) / count(*)", "CASE WHEN d = 1.25 THEN 1.0 ELSE 2 END / 3", "d * 1.1 + n", "d * 100.0 / 3",
        # and these leave the fraction out, or are exact
        "n // 2", "d * 1.15",
        # bytes, and patterns
        "strpos(s, t)", "strpos(s, 'ü')", "strpos(s, '')", "position('本' IN s)", "position(t IN s || t)", "strpos(s, upper(NULL::text))",
        "length(s) - strpos(s, '.')",
        # names of what stands before
        "s ISNULL", "n + 1 NOTNULL", "CASE WHEN s isnull THEN 1 WHEN (n) NOTNULL AND j > 0 THEN 2 END", "s = t OR s ISNULL",
    ],
)  # fmt: skip
def test_what_polars_takes_for_something_else_is_what_it_is_in_a_database(text: str) -> None:
    with duckdb.connect() as peer:
        peer.register("t", OTHERWISE.to_arrow())
        expected = [None if v is None else float(v) for (v,) in peer.execute(f"SELECT {text} FROM t").fetchall()]
    asked = query(f"SELECT {text} AS v FROM t", {"t": OTHERWISE.lazy()}).collect()["v"]
    for found in (OTHERWISE.with_columns(v=bind(text, OTHERWISE.schema))["v"][: len(expected)], asked):
        assert [None if v is None else float(v) for v in found] == [
            None if v is None else pytest.approx(v, rel=1e-12) for v in expected
        ]


@pytest.mark.parametrize(
    "text", ["d::date", "t::date", "n::text", "date(n::text, '%Y%m%d')", "NULL::date", "least(t, d)::date"]
)
def test_what_is_a_date_becomes_one(text: str) -> None:
    data = pl.DataFrame({"n": [20130131], "d": [dt.date(2013, 1, 31)], "t": [dt.datetime(2013, 1, 31, 5)]})
    found = data.select(v=tried(text, data.schema, {}))["v"].item()
    assert found in (None, "20130131", dt.date(2013, 1, 31))


@pytest.mark.parametrize("text", ["sqrt({})", "cbrt({})", "atan2({}, 2)", "atan2(2, {})", "1 + sqrt(sqrt({}))"])
def test_roots_and_angles_are_of_numbers(text: str) -> None:
    """Of text that is no number Polars makes null, and of a date its days."""
    frame = pl.DataFrame(schema={"s": pl.String, "d": pl.Date})
    for column in frame.columns:
        with pytest.raises(pl.exceptions.PolarsError):
            tried(text.format(column), frame.schema, {})
    data = pl.DataFrame({"n": [4, 0, None], "f": [2.25, 1e-300, None]}, schema_overrides={"n": pl.UInt8})
    for column in data.columns:
        written = text.format(column)
        with duckdb.connect() as peer:
            peer.register("t", data.to_arrow())
            expected = [v for (v,) in peer.execute(f"SELECT {written} FROM t").fetchall()]
        found = data.select(v=tried(written, data.schema, {}))["v"].to_list()
        assert found == [None if v is None else pytest.approx(v, rel=1e-12) for v in expected]


QUOTIENTS = [
    "n / 49", "n / 10", "-f / 3", "f / 0.1", "n / 7 / 3", "100.0 * n / 8.1", "n / CAST(49 AS DOUBLE)", "(n + 1) / -(49)", "n / 1e3 * 7", "small / 49", "u / 10",
    "n / nullif(49, 0)", "CASE WHEN n / 49 >= 1 THEN 1 ELSE 0 END", "floor(n / 49)", "n / 60.0 / 60", "f / (24 * 3600)", "1 / n", "n / 49 = 1 AND f / 10 < 0.3",
]  # fmt: skip


@pytest.mark.parametrize("text", QUOTIENTS)
def test_quotients_are_the_nearest_float_for_however_many_rows(text: str) -> None:
    """Polars multiplies columns by 1 / 49, so that of 49 it is 0.9999999999999999; a row that stands alone it divides."""
    n = pl.int_range(1, 400, eager=True).alias("n")
    frame = pl.DataFrame(
        [n, n.cast(pl.Float64).alias("f"), n.cast(pl.Int16).alias("small"), n.cast(pl.UInt32).alias("u")]
    )
    with duckdb.connect() as peer:
        peer.register("t", frame.to_arrow())
        expected = [v for (v,) in peer.execute(f"SELECT {text} FROM t ORDER BY n").fetchall()]
    expr = bind(text, frame.schema)
    assert frame.select(v=expr)["v"].to_list() == expected
    assert [part.select(v=expr)["v"].item() for part in frame.iter_slices(1)] == expected
    assert (
        query(f"SELECT {text} AS v FROM t", {"t": frame.lazy()}).collect(engine="streaming")["v"].to_list() == expected
    )


def test_quotients_keep_their_types() -> None:
    frame = pl.DataFrame({"g": ["a", "a", "b"], "n": [49, 0, 7], "f": pl.Series([49.0, 0.0, 7.0], dtype=pl.Float32)})
    assert frame.select(v=bind("n / sum(n) OVER (PARTITION BY g)", frame.schema))["v"].to_list() == [1.0, 0.0, 1.0]
    assert frame.select(bind("f / 49", frame.schema)).dtypes == [pl.Float32]
    for text in ("n / 'x'", "n / g"):
        with pytest.raises(pl.exceptions.PolarsError):
            frame.select(bind(text, frame.schema))


ORDERED = {
    "t": pl.LazyFrame({"n": [1, 2, 3, 4], "i": [3, -4, 1, -3], "g": [1, 1, 2, 2]}),
    "u": pl.LazyFrame({"k": [1, 2, 3, 4], "i": [6, 8, 5, 7], "v": [2, 1, 4, 3]}),
}
NAMESAKES = {
    "SELECT -i AS i FROM t ORDER BY t.i": ("t.i", "i"),
    "SELECT n AS i FROM t ORDER BY n, t.i DESC NULLS LAST LIMIT 1": ("t.i", "i"),
    "SELECT abs(i) AS i, n FROM t ORDER BY i + 0": ("i", "i"),
    "SELECT abs(i) i FROM t ORDER BY -i": ("i", "i"),
    'SELECT g AS "i" FROM t ORDER BY abs(t."i")': ('t."i"', "i"),
    "SELECT u.i FROM t JOIN u ON t.n = u.k ORDER BY t.i": ("t.i", "i"),
    "SELECT u.i, t.n FROM t JOIN u ON t.n = u.k ORDER BY abs(t.i)": ("t.i", "i"),
    "SELECT -v AS v FROM t JOIN u ON t.n = u.k ORDER BY u.v": ("u.v", "v"),
    "SELECT DISTINCT ON (g) g, -i AS i FROM t ORDER BY g, t.i": ("t.i", "i"),
    "SELECT * FROM (SELECT -i AS i FROM t ORDER BY t.i LIMIT 2) AS x": ("t.i", "i"),
    "WITH x AS (SELECT -i AS i FROM t ORDER BY t.i LIMIT 2) SELECT i FROM x": ("t.i", "i"),
    "SELECT n, (SELECT -i AS i FROM t ORDER BY t.i LIMIT 1) AS x FROM t": ("t.i", "i"),
    "SELECT g IS DISTINCT FROM n AS x, -i AS i FROM t ORDER BY t.i": ("t.i", "i"),
    "SELECT CASE WHEN g = 1 THEN n ELSE i END AS i FROM t ORDER BY t.i": ("t.i", "i"),
    "SELECT g, sum(i) AS n FROM t GROUP BY g, n ORDER BY t.n": ("t.n", "n"),
    "SELECT g AS k, max(i) AS g FROM t GROUP BY g ORDER BY -g": ("g", "g"),
    "SELECT -i AS i FROM t ORDER BY sum(i) OVER (ORDER BY n)": ("i", "i"),
    # what has no name gets one
    "SELECT abs(i), n FROM t ORDER BY i": ("i", "i"),
    "SELECT t.n - t.i FROM t ORDER BY t.n": ("t.n", "n"),
    "SELECT DISTINCT i::text FROM t ORDER BY i": ("i", "i"),
    "SELECT CASE WHEN i > 0 THEN n ELSE i END FROM t ORDER BY n": ("n", "n"),
    "SELECT abs(g), max(i) AS x FROM t GROUP BY g ORDER BY g": ("g", "g"),
}


@pytest.mark.parametrize("text", NAMESAKES)
def test_what_a_query_calls_like_the_column_that_it_is_ordered_by_is_refused(text: str) -> None:
    by, name = NAMESAKES[text]
    with pytest.raises(SqlError) as raised:
        query(text, ORDERED)
    assert str(raised.value) == (
        f"ORDER BY {by} would sort by the alias {name!r}, and not by the column; give one of them another name"
    )
    assert raised.value.place is not None
    if by != name:
        with pytest.raises(SqlError, match="ORDER BY"):
            judge(text, {}, "query")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT -i AS i FROM t ORDER BY i", "SELECT -i AS x, n FROM t ORDER BY t.i DESC", "SELECT i, n FROM t ORDER BY t.i", "SELECT t.i FROM t ORDER BY abs(i)",
        "SELECT t.i AS i FROM t ORDER BY t.i", "SELECT *, -n AS m FROM t ORDER BY t.i", "SELECT n AS x FROM t ORDER BY abs(x), n", "SELECT n + i FROM t ORDER BY t.i",
        "SELECT t.i FROM t JOIN u ON t.n = u.k ORDER BY u.i", "SELECT t.i, u.i AS j FROM t JOIN u ON t.n = u.k ORDER BY u.i", "SELECT u.i AS x FROM t JOIN u ON t.n = u.k ORDER BY t.i",
        "SELECT coalesce(t.i, u.i) AS i FROM t JOIN u ON t.n = u.k ORDER BY u.i", "SELECT DISTINCT i FROM t ORDER BY t.i", "SELECT DISTINCT ON (g) g, i FROM t ORDER BY t.g, t.i",
        "SELECT -i AS i FROM t UNION ALL SELECT -v AS i FROM u ORDER BY i", "SELECT g, sum(i) AS i FROM t GROUP BY g ORDER BY sum(i)", "SELECT g, -max(i) AS i FROM t GROUP BY g ORDER BY max(t.i)",
        "SELECT g, max(n) AS n FROM t GROUP BY g ORDER BY min(i) + max(n) DESC", "SELECT max(i) AS i FROM t ORDER BY max(i)", "SELECT g::text, i::double AS x FROM t ORDER BY t.i",
        "SELECT -n AS n, row_number() OVER (ORDER BY t.n) AS r FROM t ORDER BY n", "SELECT NOT g = 1 AS x, i FROM t ORDER BY t.i", "SELECT -i FROM t ORDER BY i", "SELECT 1 + n FROM t ORDER BY i",
        "SELECT max(i) FROM t GROUP BY g ORDER BY max(i)", "SELECT count(*) FROM t GROUP BY g ORDER BY g", "SELECT i + n, -n FROM t ORDER BY 2", "SELECT (SELECT max(v) FROM u), n FROM t ORDER BY i",
    ],
)  # fmt: skip
def test_other_queries_are_ordered_as_in_a_database(text: str) -> None:
    with duckdb.connect() as peer:
        for name, frame in ORDERED.items():
            peer.register(name, frame.collect().to_arrow())
        expected = peer.execute(text).fetchall()
    assert query(text, ORDERED).collect().rows() == expected


PARTED = pl.DataFrame(
    {
        "s": ["abc", "ÄÖü", "", "a-b-c", None, "日本語", "  x ", "a"],
        "n": [5, None, 2, 4, 1, 3, -1, -2],
        "t": ["b", "Ö", "-", None, "-", "本", " ", "a"],
    }
)


@pytest.mark.parametrize(
    "text",
    [
        *(f"{side}(s, {n})" for side in ("left", "RIGHT") for n in ("5", "4", "3", "2", "1", "0", "-1", "-2", "n", "n + 1", "-n", "NULL::bigint")),
        "right(s || t, 4)", "right(left(s, n), 2)", "left(right(s, 2), n)", "upper(right(s, 4)) || '!'", "right(CASE WHEN n > 0 THEN s END, 4)",
        "right('abc', 4) || s", "coalesce(right(s, n), 'none')", "lpad(right(s, 4), 4, '0')",
        "split_part(s, t, 1)", "split_part(s, t, 2)", "split_part(s, '-', 2)", "split_part(s, '-', -1)", "split_part(s, t, n)", "split_part(s, '-', n)",
        "split_part(s, upper(NULL::text), 1)", "split_part(right(s, 4), lower(t), 1)",
    ],
)  # fmt: skip
def test_parts_of_texts_are_what_they_are_in_a_database(text: str) -> None:
    with duckdb.connect() as peer:
        peer.register("t", PARTED.to_arrow())
        expected = [v for (v,) in peer.execute(f"SELECT {text} FROM t").fetchall()]
    assert PARTED.with_columns(v=bind(text, PARTED.schema))["v"].to_list() == expected
    assert query(f"SELECT {text} AS v FROM t", {"t": PARTED.lazy()}).collect()["v"].to_list() == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("left(s)", "bad SQL: no function matches the given name and arguments: `left(s)`"),
        ("right(s, 1, 2)", "bad SQL: no function matches the given name and arguments: `right(s, 1, 2)`"),
        ("split_part(s, '-')", "bad SQL: SPLIT_PART expects 3 arguments (found 2)"),
    ],
)
def test_parts_of_texts_with_too_few_or_too_many_arguments_are_refused(text: str, said: str) -> None:
    with pytest.raises(SqlError) as raised:
        bind(text, PARTED.schema)
    assert str(raised.value) == said


REPLACED = pl.DataFrame(
    {
        "s": ["aXbX", "cYd", None, "abc", "", "XX", "q", "X"],
        "x": ["X", "Y", "Z", "", "", "X", None, "X"],
        "y": ["1", None, "2", "-", "-", "", "z", "X"],
    }
)


@pytest.mark.parametrize(
    "text",
    [
        "replace(s, x, y)", "replace(s, x, 'q')", "REPLACE(s, 'X', y)", "replace('aXb', 'X', y)", "replace('aXb', x, y)", "replace(s, upper('x'), '-')",
        "replace(replace(s, x, y), y, x)", "replace(s, 'X', 'r')", "replace(s, CASE WHEN x = 'X' THEN 'X' ELSE x END, y || '$1')", "replace(s, 'X', NULL::text)",
    ],
)  # fmt: skip
def test_what_is_replaced_may_be_another_text_in_each_row(text: str) -> None:
    with duckdb.connect() as peer:
        peer.register("t", REPLACED.to_arrow())
        expected = [v for (v,) in peer.execute(f"SELECT {text} FROM t").fetchall()]
    assert REPLACED.select(v=bind(text, REPLACED.schema))["v"].to_list() == expected
    assert query(f"SELECT {text} AS v FROM t", {"t": REPLACED.lazy()}).collect()["v"].to_list() == expected


def test_tests_of_one_word_may_be_names() -> None:
    frame = pl.LazyFrame({"isnull": [1, None], "s": ["a", None]})
    assert query("SELECT isnull, s ISNULL AS n FROM t WHERE isnull ISNULL", {"t": frame}).collect().rows() == [
        (None, True)
    ]
    assert frame.select(bind("isnull + 1", frame.collect_schema())).collect().to_series().to_list() == [2, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # a condition that would be the first half of what was meant
        ("x > 1 s", "'s' at the end would be read as an alias; write an operator in front of it, or leave it out"),
        ("x AS y", "'y' at the end would be read as an alias"),
        ("log(2, x)", "databases differ on which argument of log() is the base; write ln(x) / ln(base), log2(x) or log10(x)"),
        ("Log ( x , 10 )", "databases differ on"),
    ],
)  # fmt: skip
def test_what_would_be_taken_for_something_else_is_refused(text: str, message: str) -> None:
    assert refused(text).startswith(message)
    if not text.startswith("x "):
        with pytest.raises(SqlError) as caught:
            query(f"SELECT {text} AS v FROM t", {"t": ROWS})
        assert str(caught.value).startswith(message)


def test_columns_may_be_called_like_functions() -> None:
    frame = pl.LazyFrame({"length": [1], "year": [2]})
    assert query("SELECT t.length, year FROM t WHERE year IN (2)", {"t": frame}).collect().rows() == [(1, 2)]
    assert frame.select(bind("length + year", frame.collect_schema())).collect().item() == 3
    for text in (
        "max(year) AS y, sum(length) AS n",
        "sum(length + year) AS y, (max(year)) AS n",
        "count( year ), ( length ), (0)",
    ):
        with duckdb.connect() as peer:
            peer.register("t", frame.collect().to_arrow())
            expected = peer.execute(f"SELECT {text} FROM t GROUP BY length").fetchall()
        assert query(f"SELECT {text} FROM t GROUP BY length", {"t": frame}).collect().rows() == expected
    assert frame.select(bind("(length) + abs(year)", frame.collect_schema())).collect().item() == 3
    assert "bad SQL" in refused("length(s")


@pytest.mark.parametrize(
    ("join", "kind"),
    [
        ("RIGHT JOIN r USING (a)", "right"),
        ("full outer join (SELECT * FROM r JOIN t USING (a)) AS r USING (a)", "full"),
        ("JOIN (SELECT r.a FROM t RIGHT JOIN r USING (a)) AS r USING (a)", "right"),
        ("LEFT JOIN r USING (a)", None),
        ("LEFT OUTER JOIN r USING (a)", None),
        ("RIGHT JOIN r ON t.a = r.a LEFT JOIN r AS s USING (a)", None),
        ("FULL JOIN (SELECT r.a FROM t JOIN r USING (a)) AS r ON t.a = r.a", None),
    ],
)
def test_keys_that_would_be_null_by_using_are_refused(join: str, kind: str | None) -> None:
    tables = {"t": pl.LazyFrame({"a": [1, 2]}), "r": pl.LazyFrame({"a": [2, 3]})}
    if kind is None:
        assert query(f"SELECT t.a FROM t {join}", tables).collect().width == 1
        return
    with pytest.raises(SqlError) as caught:
        query(f"SELECT a FROM t {join}", tables)
    assert str(caught.value) == (
        f"the key of a {kind} join by USING would be null in rows that only the right side has; "
        "write ON t.key = u.key, and coalesce(t.key, u.key) for the key"
    )


# --- clocks and files

CLOCKS = ["current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"]


@pytest.mark.parametrize(
    "written", ["{}", "{}()", "{} ()", "{}\n( )", "{}/* ( */ ()", "{}--x\n()", '"{}"()', '"{}" ()', "x = {}()"]
)
@pytest.mark.parametrize("clock", ["now", "today", *CLOCKS])
def test_clocks_are_refused(clock: str, written: str) -> None:
    if "(" not in written and clock in ("now", "today"):
        return  # columns
    for word in (clock, clock.upper(), clock.title()):
        assert "would read the machine's clock; write :now" in refused(written.format(word))
        with pytest.raises(SqlError, match="clock"):
            query(f"SELECT {written.format(word)} AS v FROM t", {"t": ROWS})


@pytest.mark.parametrize("written", ["{}('x')", "{} ('x')", "{}/* */('x')", "\"{}\"('x')", "coalesce({} ('x'), 1)"])
@pytest.mark.parametrize("reader", ["read_csv", "READ_parquet", "scan_ipc", "read_something_new"])
def test_readers_are_refused(reader: str, written: str) -> None:
    assert "would read a file unseen by the plan; declare it as a source" in refused(written.format(reader))


def test_columns_may_be_called_like_clocks_and_readers() -> None:
    names = ["now", "today", "NOW", "current_date_x", "read_csv", "localtime_2"]
    frame = pl.LazyFrame({n: [i] for i, n in enumerate(names)} | {"current_date": [9]})
    schema = frame.collect_schema()
    for index, name in enumerate(names):
        assert frame.select(bind(f"({name})", schema)).collect().item() == index
        assert frame.select(bind(f'"{name}" + 0', schema)).collect().item() == index
    assert frame.select(bind('"current_date"', schema)).collect().item() == 9
    assert query('SELECT now + "current_date" AS n, read_csv FROM t', {"t": frame}).collect().rows() == [(9, 4)]


def test_the_callers_now_is_a_parameter() -> None:
    moment = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
    assert value_of(":now", now=moment).to_list() == [moment]


# --- date_trunc

UNITS = ["microsecond", "millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year"]
MOMENTS = pl.Series(
    [
        dt.datetime(2013, 8, 15, 13, 47, 11, 654321),
        dt.datetime(2012, 2, 29, 23, 59, 59),
        dt.datetime(1969, 12, 31, 1),
        None,
    ]
)
TIMES = pl.LazyFrame(
    {
        "d": MOMENTS.cast(pl.Date),
        "ms": MOMENTS.cast(pl.Datetime("ms")),
        "us": MOMENTS,
        "ns": MOMENTS.cast(pl.Datetime("ns")),
        "utc": MOMENTS.dt.replace_time_zone("UTC"),
        "berlin": MOMENTS.cast(pl.Datetime("ms")).dt.replace_time_zone("Europe/Berlin"),
        "a b.é": MOMENTS,
        "n": [1, 2, 3, 4],
    }
)
TIMES_SCHEMA = TIMES.collect_schema()


def both(text: str) -> tuple[pl.Series, pl.Series]:
    """Return what we bind and what Polars' own context, which knows the schema, makes of it."""
    ours = TIMES.with_columns(bind(text, TIMES_SCHEMA).alias("v")).collect()["v"]
    return ours, pl.SQLContext(t=TIMES).execute(f"SELECT {text} AS v FROM t").collect()["v"]


class TestDateTrunc:
    @pytest.mark.parametrize(("unit", "column"), list(product(UNITS, ["d", "ms", "us", "ns", "utc", "berlin"])))
    def test_is_that_of_polars(self, unit: str, column: str) -> None:
        for written in (unit, unit.upper(), f"{unit}s"):
            ours, theirs = both(f"date_trunc('{written}', {column})")
            assert ours.dtype == theirs.dtype
            assert ours.to_list() == theirs.to_list()

    @pytest.mark.parametrize(
        "text",
        [
            "DATE_TRUNC ( 'day' , us )",
            "date_trunc('month', date_trunc('hour', us))",
            "date_trunc('day', us + INTERVAL '1 hour')",
            "date_trunc('day', coalesce(us, TIMESTAMP '2000-01-01 00:00:00'))",
            "date_trunc('year', d) = date_trunc('year', us)",
            "CASE WHEN n > 1 THEN date_trunc('day', us) ELSE date_trunc('year', us) END",
            "date_part('month', date_trunc('quarter', utc))::bigint + 1",
            "count(*) OVER (PARTITION BY date_trunc('year', us))",
            "first(n) OVER (PARTITION BY date_trunc('year', us) ORDER BY date_trunc('day', us))",
            "date_trunc('day', \"a b.é\")",
            "date_trunc('day', us)::text || ' date_trunc(''day'', us)'",
            "date_trunc('day', us) IN (date_trunc('day', d), TIMESTAMP '2013-08-15 00:00:00')",
            "date_trunc('day', us) BETWEEN date_trunc('year', us) AND us",
            "NOT date_trunc('day', us) IS NULL",
        ],
    )
    def test_stands_anywhere(self, text: str) -> None:
        ours, theirs = both(text)
        assert ours.dtype == theirs.dtype
        assert ours.to_list() == theirs.to_list()

    def test_stands_in_aggregates(self) -> None:
        text = "max(date_trunc('month', us)) FILTER (WHERE date_trunc('year', us) < TIMESTAMP '2013-01-01 00:00:00')"
        assert TIMES.select(bind(text, TIMES_SCHEMA)).collect().item() == dt.datetime(2012, 2, 1)
        text = "count(distinct date_trunc('year', us))"
        assert TIMES.select(bind(text, TIMES_SCHEMA)).collect().item() == 3

    def test_takes_parameters(self) -> None:
        values = {"unit": "hour", "at": dt.datetime(2013, 1, 1, 5, 30)}
        assert value_of("date_trunc(:unit, :at)", **values).to_list() == [dt.datetime(2013, 1, 1, 5)]
        assert value_of("date_trunc('decade', ts)").to_list() == [dt.datetime(2010, 1, 1)]

    def test_keeps_values_exact_beside_it(self) -> None:
        """Binding goes through Polars' JSON form, which must not change what stands next to the call."""
        values = [
            0.1,
            1e22,
            5e-324,
            1.7976931348623157e308,
            -0.0,
            2**62 + 1,
            2**100,
            Decimal("1234567.0000001"),
            "é\0'\n",
        ]
        for value in [*values, math.nan, math.inf]:
            text = "CASE WHEN date_trunc('day', ts) IS NULL THEN NULL ELSE :v END"
            assert repr(value_of(text, v=value)[0]) == repr(value)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("date_trunc('fortnight', ts)", "date_trunc has no unit 'fortnight'; known units: day"),
            ("date_trunc('hours_', ts)", "date_trunc has no unit 'hours_'; did you mean 'hour'?"),
            ("date_trunc('day')", "date_trunc takes 2 arguments, not 1"),
            ("date_trunc('day', ts, x)", "date_trunc takes 2 arguments, not 3"),
            (
                "date_trunc('day', x)",
                "date_trunc needs a date or a datetime, and x is Int64; write date_trunc('day', x::timestamp)",
            ),
            ("date_trunc('day', y)", "unknown column 'y'"),
            ("date_trunc('day', now())", "clock"),
        ],
    )
    def test_says_what_is_wrong(self, text: str, message: str) -> None:
        assert message in refused(text)


# --- many


def test_binding_many_expressions_costs_the_same_for_each() -> None:
    """1,000 different expressions, and the last hundred as fast as the first (a ratio with room for noise)."""
    texts = [f"date_trunc('hour', ts) > :since AND x + {i} > 0 OR s = 'v{i}'" for i in range(1000)]
    times = []
    for start in range(0, 1000, 100):
        began = thread_time()
        for text in texts[start : start + 100]:
            bind(text, SCHEMA, {"since": dt.datetime(2013, 1, 1)})
        times.append(thread_time() - began)
    assert min(times[5:]) < 5 * min(times[:5])


def test_a_long_expression_is_bound_in_linear_time() -> None:
    def seconds(terms: int) -> float:
        text = " + ".join(f"x * {i} /* :a '*/" for i in range(terms))
        best = math.inf
        for _ in range(3):
            began = thread_time()
            list(prepared(text, {}))
            best = min(best, thread_time() - began)
        return best

    assert seconds(4000) < 30 * seconds(400)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT n::date AS d FROM t",
        "SELECT t.n :: DATE AS d FROM t",
        'SELECT "n"::date AS d FROM t',
        "SELECT CAST(n + 1 AS date) AS d FROM t",
        "SELECT try_cast(t.n AS DATE) AS d FROM t",
        "SELECT k FROM t WHERE n::date > DATE '2024-01-01'",
        "SELECT m::date AS d FROM (SELECT n AS m FROM t) AS x",
        "WITH c AS (SELECT n::date AS d FROM t) SELECT d FROM c",
    ],
)
def test_a_number_is_no_date_in_queries_either(text: str) -> None:
    numbers = pl.LazyFrame({"k": ["a"], "n": [20240105]})
    with pytest.raises(SqlError) as found:
        query(text, {"t": numbers})
    assert (found.value.what, found.value.fix) == ("Int64 is no date", "read its digits, as in date(x::text, '%Y%m%d')")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT date(n::text, '%Y%m%d')::date AS d FROM t",
        "SELECT n::text::date AS d FROM (SELECT '2024-01-05' AS n FROM t) AS x",
        "SELECT u.n::date AS d FROM t JOIN u ON t.k = u.k",
        "SELECT CAST(s AS date) AS d FROM t",
        "SELECT s::date AS d FROM t",
        "SELECT DATE '2024-01-05' AS d FROM t WHERE n > 1",
    ],
)
def test_what_may_be_a_date_is_one_in_queries(text: str) -> None:
    numbers = pl.LazyFrame({"k": ["a"], "n": [20240105], "s": ["2024-01-05"]})
    moments = pl.LazyFrame({"k": ["a"], "n": [dt.datetime(2024, 1, 5, 3)]})
    assert query(text, {"t": numbers, "u": moments}).collect()["d"].to_list() == [dt.date(2024, 1, 5)]
