"""Whatever is written in SQL: what Polars is told to make of it is what DuckDB makes of it.

Expressions and queries are drawn; what is known to differ, and is in the guide, is left out.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import polars as pl
from hypothesis import event, given, settings
from hypothesis import strategies as st

from lazypipe.sql.bind import tried
from lazypipe.sql.query import query
from lazypipe.sql.text import SqlError

T = pl.DataFrame(
    {
        "n": range(8),
        "i": [0, 1, -1, 7, -7, None, 2_000, -2],
        "j": [2, -2, 3, None, -3, 5, 7, 2],
        "small": pl.Series([2**31 - 1, 1, -1, None, 7, 2**31 - 1, 0, -5], dtype=pl.Int32),
        "f": [0.5, -0.5, 1.5, 2.25, -2.5, None, 1e6, -7.25],
        "d": pl.Series([*map(Decimal, ("1.25", "-1.25", "2.50", "0")), None, *map(Decimal, ("7", "-7.55", "99.99"))]).cast(pl.Decimal(12, 2)),
        "s": ["abc", "ÄÖü", "", "a%b_c", None, "  x ", "日本語", "ABC"],
        "t": ["b", "Ö", "a", "", "x", None, "本", "abc"],
        "b": [True, False, None, True, False, True, None, False],
        "c": [False, False, None, True, None, True, False, True],
        "day": [date(2024, 2, 29), date(1969, 12, 31), date(2023, 12, 31), None, date(2024, 1, 1), date(1900, 1, 1), date(2000, 3, 31), date(2021, 1, 3)],
        "ts": [
            datetime(2024, 2, 29, 23, 59, 59, 999999), datetime(1969, 12, 31, 12), None, datetime(2023, 12, 31), datetime(2024, 1, 1, 0, 0, 0, 1),
            datetime(1900, 1, 1, 1, 2, 3), datetime(2000, 3, 31, 4, 5, 6, 700000), datetime(2021, 1, 3, 23),
        ],
    }
)  # fmt: skip
U = pl.DataFrame(
    {
        "k": [0, 1, 7, None, 2, 7],
        "v": pl.Series([10, 2_000_000_000, 30, 2_000_000_000, None, 70], dtype=pl.Int32),
        "w": ["a", "本", None, "x", "a", "ÄÖü"],
        "i": [5, 6, 7, 8, None, 1],
    }
)
TABLES = {"t": T, "u": U, "e": T.clear()}


def written(template: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(lambda texts: template.format(*texts))


def one_of(*kinds: st.SearchStrategy[str] | str) -> st.SearchStrategy[str]:
    return st.one_of([st.just(k) if isinstance(k, str) else k for k in kinds])


NUMBERS, TEXTS = st.integers(-9, 9).map(str), st.sampled_from(["'a'", "''", "'Ö'", "'本'", "'b_'", "'%'", "'x''y'"])
PATTERNS = st.sampled_from(["'a%'", "'%b%'", "'_b_'", "''", "'%'", "'___'", "'Ä_%'", "'%本%'", "'a.c'"])
UNITS = st.sampled_from(["hour", "day", "week", "month", "quarter", "year"])
PARTS = st.sampled_from(["year", "month", "day", "quarter", "week", "dow", "isodow", "doy", "isoyear"])


def kinds(depth: int, over: str = "") -> dict[str, st.SearchStrategy[str]]:
    """Return expressions by what they give."""
    leaves = {
        "whole": one_of(f"{over}i", f"{over}j", f"{over}n", NUMBERS),
        "fraction": one_of(f"{over}f", "2.5e0", "0.1e0"),
        "text": one_of(f"{over}s", f"{over}t", TEXTS),
        "truth": one_of(f"{over}b", f"{over}c"),
        "moment": one_of(f"{over}ts", "TIMESTAMP '2024-02-29 12:30:00'"),
        "day": one_of(f"{over}day", "DATE '2023-12-31'"),
    }
    if depth == 0:
        return leaves
    columns = {
        kind: leaf.filter(lambda text: text.startswith(tuple(f"{over}{n}" for n in T.columns)))
        for kind, leaf in leaves.items()
    }
    below = kinds(depth - 1, over)
    whole, fraction, text, truth = (below[k] for k in ("whole", "fraction", "text", "truth"))
    moment, day = below["moment"], below["day"]

    def any_of(kind: str) -> list[st.SearchStrategy[str]]:
        one = below[kind]
        return [
            written("CASE WHEN {} THEN {} ELSE {} END", truth, one, one),
            written("CASE WHEN {} THEN {} WHEN {} THEN {} END", truth, one, truth, one),
            # of a literal in front Polars makes one value for all rows, and is surprised
            written("coalesce({}, {})", columns[kind], one),
            written("nullif({}, {})", columns[kind], one),
        ]

    return {
        "whole": one_of(
            leaves["whole"],
            *any_of("whole"),
            written("({} {} {})", whole, st.sampled_from(["+", "-"]), whole),
            written("({} * {})", whole, NUMBERS),
            written("({} {} {})", whole, st.sampled_from(["//", "%"]), st.sampled_from(["3", "7", "2"])),
            written("mod({}, 5)", whole),
            written("abs({})", whole),
            written("-({})", whole),
            written("{}({}, {})", st.sampled_from(["greatest", "least"]), whole, whole),
            written("CASE {} WHEN 0 THEN {} WHEN {} THEN 3 ELSE 4 END", whole, whole, NUMBERS),
            written("length({})", text),
            written("(length({}) - 5)", text),
            written("strpos({}, {})", text, text),
            written("position({} IN {})", TEXTS, text),
            written("extract({} FROM {})", PARTS, st.one_of(day, moment)),
            written("(extract(hour FROM {}) * 60 + extract(minute FROM {}))", moment, moment),
            written("({})::int", truth),
        ),
        "fraction": one_of(
            leaves["fraction"],
            *any_of("fraction"),
            written("({} {} {})", fraction, st.sampled_from(["+", "-", "*"]), fraction),
            written("({} / {})", whole, st.sampled_from(["3", "7.0", "-4", "(1.5 + 1)"])),
            written("(100.0 * {} / 7)", whole),
            written("(1.0 * {} / ({} * {} + 3000000))", whole, leaves["whole"], leaves["whole"]),
            written("(CASE WHEN {} THEN 1.0 ELSE 0 END / 3)", truth),
            written("pow({}, 3)", leaves["whole"]),
            written("power(2, {})", leaves["whole"].filter(lambda name: not name.endswith("i"))),
            written("{}({})", st.sampled_from(["floor", "ceil", "abs", "-"]), fraction),
            written("sqrt(abs({}))", fraction),
        ),
        "text": one_of(
            leaves["text"],
            *any_of("text"),
            written("({} || {})", text, text),
            written("{}({})", st.sampled_from(["upper", "lower", "reverse", "trim", "ltrim", "rtrim"]), text),
            written("{}({}, {})", st.sampled_from(["left", "right"]), text, st.sampled_from(["1", "2", "-1", "4", "9", "0", f"{over}n", f"{over}j"])),
            written("substr({}, {}, {})", text, st.sampled_from(["1", "2", "3"]), st.sampled_from(["0", "1", "9"])),
            written("replace({}, 'b', {})", text, TEXTS),
            written("{}({}, 4, '*')", st.sampled_from(["lpad", "rpad"]), text),
            written("split_part({}, {}, {})", text, one_of("'b'", "'本'", "'%'", f"nullif({over}t, '')"), st.sampled_from(["1", "2"])),
            written("concat({}, {})", text, text),
            written("concat_ws('-', {}, {})", text, text),
            written("({})::text", whole),
            written("{}::text", leaves["day"]),
            written("strftime({}, '%Y/%m/%d %H:%M')", moment),
        ),
        "truth": one_of(
            leaves["truth"],
            written("({} {} {})", whole, st.sampled_from(["=", "<>", "<", ">="]), st.one_of(whole, fraction)),
            written("({} {} {})", text, st.sampled_from(["=", "<>", "<", ">="]), text),
            written("({} {} {})", day, st.sampled_from(["=", "<", ">="]), st.one_of(day, moment)),
            written("({} {} {})", truth, st.sampled_from(["AND", "OR"]), truth),
            written("(NOT {})", truth),
            written("({} {})", truth, st.sampled_from(["IS TRUE", "IS NOT FALSE", "IS UNKNOWN", "ISNULL", "NOTNULL"])),
            written("({} IS NULL)", st.one_of(whole, text, moment)),
            written("({} {})", st.one_of(whole, text, day), st.sampled_from(["ISNULL", "NOTNULL", "IS NOT NULL"])),
            written("({} IS DISTINCT FROM {})", whole, whole),
            written("({} IS NOT DISTINCT FROM {})", text, text),
            written("({} {} (1, 7, {}))", whole, st.sampled_from(["IN", "NOT IN"]), st.sampled_from(["NULL", "-2"])),
            written("({} {} ({}, 'abc'))", text, st.sampled_from(["IN", "NOT IN"]), TEXTS),
            written("({} {} {} AND {})", whole, st.sampled_from(["BETWEEN", "NOT BETWEEN"]), whole, whole),
            written("({} {} {})", text, st.sampled_from(["LIKE", "NOT LIKE", "ILIKE"]), PATTERNS),
            written("{}({}, {})", st.sampled_from(["starts_with", "ends_with"]), text, TEXTS),
            written("(d {} {})", st.sampled_from(["=", "<", ">="]), st.sampled_from(["1.25", "2", "-7.55"])),
        ),
        "moment": one_of(
            leaves["moment"],
            *any_of("moment"),
            written("date_trunc('{}', {})", UNITS, st.one_of(moment, day)),
            written("({} {} INTERVAL '{}')", moment, st.sampled_from(["+", "-"]), st.sampled_from(["1 month", "36 hours", "1 year 2 days"])),
        ),
        "day": one_of(leaves["day"], *any_of("day"), written("{}::date", moment)),
    }  # fmt: skip


KINDS = kinds(2)
VALUES = st.one_of([*KINDS.values()])
PLAIN = kinds(1)


def shown(value: Any) -> Any:
    """Return a value as it is compared: numbers by their first digits, days as moments."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float | Decimal):
        return "nan" if math.isnan(value) else float(f"{float(value):.11g}") + 0.0
    return datetime(value.year, value.month, value.day) if type(value) is date else value


def by_peer(text: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as peer:
        for name, frame in TABLES.items():
            peer.register(name, frame.to_arrow())
        return [tuple(map(shown, row)) for row in peer.execute(text).fetchall()]


@given(st.lists(VALUES, min_size=2, max_size=6))
def test_expressions_are_what_they_are_in_a_database(texts: list[str]) -> None:
    listed = ", ".join(f"{text} AS x{n}" for n, text in enumerate(texts))
    expected = by_peer(f"SELECT n, {listed} FROM t ORDER BY n")
    bound = T.select("n", **{f"x{n}": tried(text, T.schema, {}) for n, text in enumerate(texts)})
    asked = query(f"SELECT n, {listed} FROM t", {"t": T.lazy()}).collect().sort("n")
    for found in (bound, asked):
        for n, text in enumerate(["n", *texts]):
            assert [shown(row[n]) for row in found.rows()] == [row[n] for row in expected], text


WINDOWS = st.sampled_from(
    [
        "row_number() OVER (PARTITION BY b ORDER BY n)", "rank() OVER (ORDER BY c)", "dense_rank() OVER (PARTITION BY b ORDER BY c)",
        "sum(small) OVER (PARTITION BY c)", "sum(small) OVER (ORDER BY n)", "count(*) OVER (PARTITION BY b, c)", "lag(i, 2) OVER (ORDER BY n)",
        "lead(s) OVER (PARTITION BY b ORDER BY n DESC)", "max(i) OVER (PARTITION BY b ORDER BY n)", "avg(j) OVER (ORDER BY n)",
        "first_value(i) OVER (PARTITION BY c ORDER BY n)", "last_value(i) OVER (PARTITION BY c ORDER BY n)", "ntile(3) OVER (ORDER BY n)",
        "sum(j) OVER (ORDER BY n ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)", "row_number() OVER (ORDER BY n) - 10",
    ]
)  # fmt: skip
FIGURES = st.one_of(
    written(
        "{}({})", st.sampled_from(["sum", "min", "max", "avg", "count"]), st.one_of(PLAIN["whole"], PLAIN["fraction"])
    ),
    written("sum({}) FILTER (WHERE {})", PLAIN["whole"], PLAIN["truth"]),
    written("count(*) FILTER (WHERE {})", PLAIN["truth"]),
    written("sum(CASE WHEN {} THEN 1.0 END) / count(*)", PLAIN["truth"]),
    written("sum(CASE WHEN {} THEN 2000000000 ELSE 0 END)", PLAIN["truth"]),
    written("{}({})", st.sampled_from(["min", "max", "count"]), st.one_of(PLAIN["text"], PLAIN["day"])),
    written("count(DISTINCT {})", st.one_of(PLAIN["whole"], PLAIN["text"])),
    st.sampled_from(["count(*)", "sum(small)", "count(*) - 10", "sum(small) - max(n)", "sum(d)", "avg(d)", "sum(n * 1.0) / 7"]),
)  # fmt: skip
JOINS = st.sampled_from(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
ON = st.sampled_from(["t.i = u.k", "t.n = u.i", "t.s = u.w", "t.i = u.i AND t.s = u.w", "t.n = u.k"])
SOURCES = st.sampled_from(
    [
        "t", "t", "e AS t",
        "(SELECT * FROM t WHERE n > 2) AS t",
        "(SELECT * FROM t UNION ALL SELECT * FROM t WHERE b) AS t",
        "(SELECT DISTINCT * FROM t) AS t",
        "(SELECT * FROM t ORDER BY n LIMIT 4) AS t",
    ]
)  # fmt: skip
IN_QUERIES = st.sampled_from(
    [
        "i IN (SELECT k FROM u)", "i NOT IN (SELECT k FROM u WHERE k IS NOT NULL)", "i NOT IN (SELECT k FROM u)", "s IN (SELECT w FROM u WHERE i > 5)",
        "i > (SELECT min(k) FROM u)", "EXISTS (SELECT 1 FROM u WHERE u.k = t.i)", "NOT EXISTS (SELECT 1 FROM u WHERE u.w = t.s)",
    ]
)  # fmt: skip
NESTED = st.sampled_from(
    [
        "SELECT sum(x) AS x FROM (SELECT small AS x FROM {}) AS y",
        "SELECT b, sum(x) AS x FROM (SELECT b, max(small) AS x FROM {} GROUP BY b, c) AS y GROUP BY b",
        "WITH y AS (SELECT c, 2000000000 AS x FROM {}), z AS (SELECT c, x FROM y WHERE c IS NOT NULL) SELECT c, sum(x) AS x FROM z GROUP BY c",
        "WITH y(x) AS (SELECT CASE WHEN b THEN 2000000000 ELSE 0 END FROM {}) SELECT sum(x) AS x FROM y",
        "SELECT sum(x) AS x FROM (SELECT 1000000000 * n AS q FROM {}) AS y(x)",
        "SELECT sum(y.v) AS x FROM (SELECT u.v FROM {} JOIN u ON t.n = u.k) AS y",
        "SELECT k, sum(v) AS x FROM u WHERE v > (SELECT sum(n) FROM {}) GROUP BY k",
        "SELECT n FROM {} WHERE n * 3000000000 < (SELECT sum(v) FROM u)",
    ]
)  # fmt: skip


QUERIES = st.one_of(
    written("SELECT n, {} AS x FROM {} WHERE {}", VALUES, SOURCES, KINDS["truth"]),
    written("SELECT n, {} AS x FROM {} WHERE {} AND {}", WINDOWS, SOURCES, PLAIN["truth"], PLAIN["truth"]),
    written("SELECT n FROM {} WHERE {} OR {}", SOURCES, IN_QUERIES, PLAIN["truth"]),
    written("SELECT n FROM {} WHERE {}", SOURCES, IN_QUERIES),
    written("SELECT {} AS x, {} AS y FROM {}", FIGURES, FIGURES, SOURCES),
    written("SELECT ({0} + 0) AS g, {1} AS x FROM {2} GROUP BY ({0} + 0) HAVING {3} > 0", PLAIN["whole"], FIGURES, SOURCES, st.sampled_from(["count(*)", "sum(j)"])),
    written("SELECT b, c, {} AS x, {} AS y FROM {} WHERE {} GROUP BY b, c", FIGURES, FIGURES, SOURCES, PLAIN["truth"]),
    written("SELECT {} AS x, u.v, u.i FROM {} {} u ON {}", kinds(1, "t.")["whole"], st.just("t"), JOINS, ON),
    written("SELECT t.n, u.v, t.i, u.i AS j FROM {} {} u ON {}", SOURCES, JOINS, ON),
    written("SELECT t.n, a.v, b.w FROM t LEFT JOIN u AS a ON t.i = a.k {} u AS b ON a.i = b.i", st.sampled_from(["JOIN", "LEFT JOIN"])),
    written("SELECT t.n, u.k FROM t JOIN u ON t.i = u.k AND {}", st.sampled_from(["t.n < u.v", "u.v > 20", "t.b", "t.j <> u.i"])),
    written("SELECT {} AS x FROM t {} SELECT k FROM u", PLAIN["whole"], st.sampled_from(["UNION", "UNION ALL", "EXCEPT", "INTERSECT"])),
    written("SELECT DISTINCT {} AS x, b FROM {}", PLAIN["text"], SOURCES),
    written("SELECT n, {} AS x FROM t ORDER BY x NULLS FIRST, n LIMIT 3 OFFSET 1", st.one_of(PLAIN["whole"], PLAIN["text"])),
    written("WITH q AS (SELECT n, {} AS x FROM {}) SELECT x, count(*) AS m, sum(n) AS s FROM q GROUP BY x", VALUES, SOURCES),
    st.tuples(NESTED, SOURCES).map(lambda both: both[0].format(both[1])),
)  # fmt: skip


@given(st.lists(QUERIES, min_size=1, max_size=3))
def test_queries_give_what_they_give_in_a_database(texts: list[str]) -> None:
    for text in texts:
        found = query(text, {n: f.lazy() for n, f in TABLES.items()}).collect().rows()
        assert Counter(tuple(map(shown, row)) for row in found) == Counter(by_peer(text)), text


V = pl.DataFrame({"k": [1, 2, 3, 4, 5], "a": [3, 1, 5, 2, 4], "b": [2, 5, 1, 3, 4]})
W = pl.DataFrame({"k": [1, 2, 3, 4, 5], "b": [13, 15, 11, 12, 14], "c": [21, 25, 22, 24, 23]})
OF_ONE = st.sampled_from(["a", "c", "v.a", "v.b", "w.b", "w.c"])
# of different values different ones
OF_SEVERAL = one_of(
    OF_ONE, written("-{}", OF_ONE), written("abs({} + 9)", OF_ONE), written("coalesce({}, {})", OF_ONE, OF_ONE)
)
GIVEN = one_of(
    OF_ONE, written("{}{} {}", OF_SEVERAL, st.sampled_from(["", " AS"]), st.sampled_from(["a", "b", "c", "x", "y"]))
)
BESIDE = st.sampled_from(
    [
        "v JOIN w ON v.k = w.k",
        "w JOIN v ON v.k = w.k",
        "v LEFT JOIN w ON v.k = w.k",
        "v FULL JOIN w ON v.k = w.k",
        "v, w WHERE v.k = w.k",
    ]
)


@given(
    given=st.lists(GIVEN, min_size=1, max_size=3, unique_by=lambda text: re.split(r"\W", text)[-1]),
    of=BESIDE,
    by=OF_SEVERAL,
    grouped=st.none() | OF_ONE,
    figures=st.lists(written("max({}) AS {}", OF_ONE, st.sampled_from(["a", "b", "c", "x"])), min_size=1, max_size=2, unique_by=lambda text: text[-1]),
    by_figure=written("min({}){}", OF_SEVERAL, st.sampled_from(["", " + 1"])) | written("abs({})", OF_ONE),
    direction=st.sampled_from(["", " DESC"]),
)  # fmt: skip
@settings(max_examples=settings().max_examples * 8)
def test_first_rows_are_those_of_a_database_or_their_order_is_refused(
    given: list[str], of: str, by: str, grouped: str | None, figures: list[str], by_figure: str, direction: str
) -> None:
    text = f"SELECT {', '.join(given)} FROM {of} ORDER BY {by}{direction} LIMIT 3"
    if grouped is not None:
        text = f"SELECT {grouped} AS g, {', '.join(figures)} FROM {of} GROUP BY {grouped} ORDER BY {by_figure}{direction} LIMIT 3"
    with duckdb.connect() as peer:
        peer.register("v", V.to_arrow())
        peer.register("w", W.to_arrow())
        try:
            expected = peer.execute(text).fetchall()
        except duckdb.Error:
            event("no query")
            return
    try:
        found = query(text, {"v": V.lazy(), "w": W.lazy()}).collect().rows()
    except SqlError as error:
        assert re.match(r"ORDER BY .* would sort by the alias|.*should participate in the GROUP BY", error.what), text
        event("refused")
    else:
        assert found == expected, text
        event("equal")
