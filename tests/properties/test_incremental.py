"""Whatever is delivered, in whatever order, and whatever the pipeline: runs that do only what is needed give what one full run gives.

Pipelines are drawn from the operations and rules that there are, deliveries from what happens to folders. After each delivery
the pipeline that has run all along is compared with one that has never run: rows, quarantined rows, and what gates counted.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.spec.types import dtype_from_name
from tests.delivered import alter
from tests.properties.scale import at_scale

BERLIN = ZoneInfo("Europe/Berlin")
# what numbers are as keys: some of them have no equal, two bits for one value, or an hour that comes twice
IDS: dict[str, Callable[[int], Any]] = {
    "Int64": int,
    "UInt8": int,
    "Float64": lambda n: {10: float("nan"), 0: -0.0}.get(n, n / 2 if n < 20 else 0.0),
    "Decimal(9, 2)": lambda n: Decimal(n) / 4,
    "String": lambda n: f"{n % 7}/é=%" if n % 3 else f" {n}",
    "Date": lambda n: date(2024, 2, 20) + timedelta(days=n),
    "Datetime(us, Europe/Berlin)": lambda n: datetime(2024, 10, 26, 22, tzinfo=UTC) + timedelta(minutes=30 * n),
    f"Enum({', '.join(f'n{n}' for n in range(100))})": lambda n: f"n{99 - n}",
    "Categorical": lambda n: f"n{n * 7 % 100}",
    "Boolean": lambda n: n % 2 == 0,
    "Time": lambda n: time(n % 24, 59, 59, n),
    "Binary": lambda n: bytes(n % 3) + bytes([n % 7, 255 - n % 2]),
    "Duration(ms)": lambda n: timedelta(milliseconds=n - 5),
    "UInt64": lambda n: 2**64 - 1 - n,
    "Int128": lambda n: 2**100 - n if n % 2 else -n,
}
UNTOLD = ("Binary", "Duration(ms)", "Int128")
"""What no text says."""
IN_DELTA = ("Int64", "Float64", "Decimal(9, 2)", "String", "Date", "Boolean")
KEYS = ["String", "String", "Enum(c, z, b, a)", "Categorical"]
# what numbers are as values: halves, so that sums do not depend on the order in which they are added
VALUES: dict[str, Callable[[int], Any]] = {
    "Int64": int,
    "Int16": int,
    "Float64": lambda n: {-5: float("nan"), -4: float("inf"), -3: -0.0}.get(n, n if n % 2 else n + 0.5),
    "Decimal(38, 2)": lambda n: Decimal(n) + Decimal(n % 4) / 4,
}
NARROW = {"Int64": "Int16", "Int16": "Int32", "Float64": "Float32", "Decimal(38, 2)": "Decimal(12, 2)"}
ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 20)),
        st.sampled_from(["a", "b", "c", None]),
        st.one_of(st.none(), st.integers(-5, 60)),
    ),
    max_size=6,
)
EXAMPLES = settings().max_examples
FORMATS = st.sampled_from(["csv", "parquet", "csv", "parquet", "ndjson", "ipc"])
# what names of files have in them, besides
NAMES = st.sampled_from(["", "", " é", "[1]", "%20", "#x", "{y}", "'", "+&"])


# what columns are called besides: what SQL, patterns of names, folders and lazypipe itself might take for something else
CALLED = {
    "id": ["id", "id", "order", "a b", "ID.x", "Id", "_lazypipe_id", "count(*)", '"id"', "..", "id, id", "self"],
    "k": ["k", "k", "select", "k'q", "K", "é/ü", "k=", "__lazypipe_hash", "_lazypipe_fate", "\\", "d", "key%3D"],
    "v": [
        "v",
        "v",
        "V",
        "group by",
        "{v}",
        "v'%20",
        "x:y",
        "^v",
        "_lazypipe_row",
        "v DESC",
        "v\n",
        "👍🏽",
        ":more",
        "*v",
    ],
}


def value(rows: pl.LazyFrame) -> pl.Expr:
    return pl.col(next(n for n in rows.collect_schema() if n in CALLED["v"]))


def doubled(rows: pl.LazyFrame) -> pl.LazyFrame:
    v = value(rows)
    return rows.filter(v.is_null() | (v != 9)).with_columns(v * 2)


def unseen(rows: pl.LazyFrame) -> pl.LazyFrame:
    v = value(rows)
    return rows.map_batches(lambda batch: batch.with_columns(v + 1))


def plus(rows: pl.LazyFrame, much: int) -> pl.LazyFrame:
    return rows.with_columns(value(rows) + much)


def among(rows: pl.LazyFrame, d: pl.LazyFrame) -> pl.LazyFrame:
    """Look rows up in a table, of which nothing is kept."""
    k = next(n for n in rows.collect_schema() if n in CALLED["k"])
    return rows.join(d.select(k).unique(), on=k, how="left")


def nested(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Put columns into a struct, and into a list."""
    k, v = (next(n for n in rows.collect_schema() if n in CALLED[c]) for c in ("k", "v"))
    return rows.with_columns(pl.struct(there=k, of=v).alias("pair"), pl.concat_list(v, v).alias("list"))


def called(node: Any, names: dict[str, str], *, sql: bool = False) -> Any:
    """Return a part of a definition with columns by other names: in SQL within quotes."""
    if isinstance(node, dict):
        over = "order_by" in node or "by" in node
        return {
            names.get(key, key): called(
                child,
                names,
                sql=sql
                or key in ("filter", "derive", "where", "sql", "aggregate", "set", "when", "then", "condition")
                or (key == "columns" and isinstance(child, dict) and over),
            )
            if key != "by"
            else called(child, names)
            for key, child in node.items()
        }
    if isinstance(node, list | tuple):
        return [called(child, names, sql=sql) for child in node]
    if not isinstance(node, str) or (not sql and node in names):
        return names.get(node, node)
    quoted = {n: '"' + name.replace('"', '""') + '"' for n, name in names.items() if n != name}
    if not sql:
        return re.sub(r"^(id|k|v)(?= (DESC|NULLS))", lambda m: names[m[0]], node)
    return re.sub(r"(?<![\w'])(id|k|v)(?![\w'])", lambda m: quoted.get(m[0], m[0]), node)


EACH: list[list[dict[str, Any]]] = [
    [{"filter": "v > 3 OR v IS NULL"}],
    [{"derive": {"w": "v * 2 + 1"}}],
    [{"derive": {"v": "coalesce(v, 0)"}}],
    [{"derive": {"v": "v + :more"}}],
    [{"fill": {"columns": "k", "value": "z"}}],
    [{"join": {"with": "d", "on": "k", "how": "left", "columns": {"label": "label{}"}}}],
    [{"join": {"with": "d", "on": "k", "how": "inner", "validate": "m:1", "columns": {"label": "other{}"}}}],
    [{"join": {"with": "d", "on": "k", "how": "semi"}}],
    [{"join": {"with": "d", "on": "k", "how": "anti"}}],
    [{"join": {"with": "b", "on": "k", "how": "left", "columns": {"v": "there{}"}}}],
    [{"join": {"with": "d", "on": "k", "how": "left", "nulls_equal": True, "columns": {"label": "equal{}"}}}],
    [
        {"join": {"with": "d", "on": "k", "how": "left", "columns": {"label": "about"}}},
        {"join": {"with": "e", "left_on": "about", "right_on": "label", "columns": {"weight": "weight{}"}}},
        {"drop": "about"},
    ],
    [{"join": {"with": "dim", "on": "k", "how": "inner", "columns": {"n": "n{}", "weight": "of{}"}}}],
    [{"join": {"with": "dim", "left_on": "v", "right_on": "weight", "how": "semi"}}],
    [{"sample": {"fraction": 0.6}}],
    [{"select": ["id", "k", "v"]}],
    [{"union": {"with": "b", "missing": "fill"}}],
    [{"derive": {"v": "CASE WHEN k IN ('a', 'b') AND v IS NOT NULL THEN least(v, 40) ELSE v END"}}],
    [{"derive": {"p{}": "100.0 * v / 7", "k": "coalesce(k, 'a')"}}],
    [{"cast": {"v": "Int16"}}, {"filter": "v < 55 OR v IS NULL"}, {"cast": {"v": "Int64"}}],
    [{"rename": {"v": "z"}}, {"derive": {"v": "z"}}, {"drop": "z"}],
    [{"sql": "SELECT *, v + 1 AS more{} FROM self WHERE v < 58 OR v IS NULL"}],
    [{"sql": "WITH t AS (SELECT id, k, v FROM self WHERE id IS NOT NULL) SELECT id, k, v * 2 AS v FROM t"}],
    [{"sql": "SELECT id, k, v FROM self WHERE k IN (SELECT k FROM d)"}],
    [{"sql": "SELECT self.id, self.k, self.v, d.label AS said{} FROM self LEFT JOIN d ON self.k = d.k"}],
    [{"python": {"call": f"{__name__}:doubled", "incremental": "rows"}}],
    [{"python": {"call": f"{__name__}:unseen", "incremental": "rows"}}],
    [{"sql": "SELECT id, k, v FROM self UNION ALL SELECT id, k, v FROM b WHERE v > 2"}],
    [{"derive": {"parts": "string_to_array('a,b', ',')"}}, {"explode": "parts"}, {"drop": "parts"}],
    [
        {"select": ["id", "k", "v"]},
        {"derive": {"u": "v * 10"}},
        {"unpivot": {"columns": ["v", "u"], "index": ["id", "k"]}},
        {"rename": {"value": "v"}},
    ],
]
NESTED: dict[str, Any] = {"python": {"call": f"{__name__}:nested", "incremental": "rows"}}
# columns in columns, taken apart again; rows of rows
EACH += [
    [
        {"select": ["id", "k", "v"]},
        NESTED,
        {"explode": "list"},
        {"unnest": {"columns": "pair", "separator": "."}},
        {"derive": {"v": '"pair.of"'}},
        {"drop": ["list", "pair.there", "pair.of"]},
    ],
]
EACH += [
    [{"cast": {"columns": {"v": "Int8"}, "on_error": "null"}}, {"cast": {"v": "Int64"}}],
    [{"select": ["id", "k", "v"]}, {"union": {"with": "b", "missing": "refuse"}}],
    [{"join": {"with": "d", "on": "k", "how": "left", "validate": "m:m", "suffix": "_z{}"}}],
    [
        {"rename": {"k": "kkx"}},
        {"join": {"with": "d", "left_on": "kkx", "right_on": "k", "how": "left", "columns": {"label": "lkx"}}},
        {"rename": {"kkx": "k"}},
        {"drop": "lkx"},
    ],
    [{"python": {"call": f"{__name__}:plus", "incremental": "rows", "arguments": {"much": 2}}}],
    [{"python": {"call": f"{__name__}:among", "with": "d", "incremental": "rows"}}],
    [
        {"select": ["id", "k", "v"]},
        {"unpivot": {"columns": ["v"], "index": ["id", "k"], "name_to": "what", "value_to": "v"}},
    ],
    [{"derive": {"fthird": "v * 1.0 / 3"}}, {"filter": "fthird < 15 OR v IS NULL"}, {"drop": "fthird"}],
    [
        {"derive": {"parts": "string_to_array(CASE WHEN v > 5 THEN 'a,b,c' WHEN v > 3 THEN '' END, ',')"}},
        {"explode": "parts"},
        {"filter": "parts <> 'b' OR parts IS NULL"},
        {"drop": "parts"},
    ],
    [{"sql": "SELECT id, k, v FROM self WHERE k NOT IN (SELECT k FROM d WHERE k IS NOT NULL)"}],
    [{"sql": "SELECT id, k, v FROM self WHERE EXISTS (SELECT 1 FROM d WHERE d.k = self.k)"}],
]
# two hours for each of v, around the end of a February with a leap day
AT: list[dict[str, Any]] = [
    {"derive": {"at": "TRY_CAST(v AS BIGINT) * 7200000000 + 1709078400000000"}},
    {"cast": {"at": "Datetime(us)"}},
]
# or around the days on which clocks in Berlin are put forward or back
MOMENTS = [
    ("", "1709078400"),
    (", UTC", "1709078400"),
    (", Europe/Berlin", "1711720800"),
    (", Europe/Berlin", "1729861200"),
]
SUMS = {"n": "count(*)", "s": "sum(v)", "mean": "avg(v)"}
WINDOWS: list[dict[str, Any]] = [
    {"window": {"time": "at", "every": "1d", "by": "k", "aggregate": SUMS}},
    {"window": {"time": "at", "every": "6h", "period": "24h", "aggregate": SUMS}},
    {"window": {"time": "at", "every": ["12h", "1mo", "all"], "by": "k", "aggregate": SUMS}},
    {"window": {"time": "at", "every": "1d", "period": "2d", "aggregate": {"m": "median(v)"}}},
    {"window": {"time": "at", "every": "1d", "offset": "3h", "by": "k", "aggregate": {"n": "count(*)"}}},
    {"session": {"time": "at", "gap": "6h", "by": "k", "aggregate": SUMS}},
    {"session": {"time": "at", "gap": "2h", "max_length": "8h", "aggregate": SUMS}},
    {"session": {"time": "at", "gap": "2h", "by": "id", "max_length": "8h", "aggregate": SUMS}},
    {"window": {"time": "at", "every": "1d", "by": "id", "aggregate": {"m": "median(v)"}}},
]
NEAR = {"with": "b_at", "time": "at", "within": ["-4h", "2h"], "columns": {"id": "near"}}
LAST: list[list[dict[str, Any]]] = [
    *([*AT, step] for step in WINDOWS),
    [*AT, {"interval_join": {**NEAR, "by": "k"}}],
    [*AT, {"interval_join": {**NEAR, "how": "left"}}],
    # rows of b_v with one time and group are the same, so that it does not matter which is taken
    [*AT, {"asof_join": {"with": "b_v", "on": "at", "by": "k"}}],
    [*AT, {"asof_join": {"with": "b_v", "on": "at", "strategy": "forward", "tolerance": "1d"}}],
    [*AT, {"asof_join": {"with": "b_v", "on": "at", "strategy": "nearest", "by": "k", "tolerance": "9h"}}],
    [*AT, {"asof_join": {"with": "b_v", "on": "at", "strategy": "nearest"}}],
    *(
        [step]
        for step in (
            {"aggregate": {"by": "k", "aggregate": {"n": "count(*)", "s": "sum(v)", "lo": "min(v)", "hi": "max(v)"}}},
            {"aggregate": {"aggregate": {"n": "count(v)", "mean": "avg(v)"}}},
            {"aggregate": {"by": "k", "aggregate": {"m": "median(v)"}}},
            {"aggregate": {"by": ["k", "id"], "aggregate": {"m": "median(v)", "d": "count(DISTINCT k)"}}},
            {"distinct": {"columns": "id", "keep": "none"}},
            {"over": {"by": "id", "columns": {"most": "max(v)", "share": "v - min(v)"}}},
            {"derive": {"mine": "sum(v) OVER (PARTITION BY id)"}},
            {"rank": {"as": "place", "order_by": ["v DESC"], "by": ["id", "k"], "method": "dense"}},
            {"pivot": {"on": "k", "into": ["a", "b"], "values": "v", "index": "id", "aggregate": "median"}},
            {"sql": "SELECT id, count(*) AS n, sum(v) AS s FROM self GROUP BY id HAVING count(*) > 1"},
            {"sql": "SELECT k AS g, id, rank() OVER (PARTITION BY id ORDER BY v) AS r FROM self"},
            {"sql": "SELECT max(v) AS m FROM self"},
            {"sql": "SELECT DISTINCT id, k FROM self"},
            {"distinct": ["id", "k", "v"]},
            {"distinct": {"keep": "any"}},
            {"over": {"by": "k", "columns": {"sum_v": "sum(v)"}}},
            {"sort": ["v", "id", "k"]},
            {"rank": {"as": "place", "order_by": ["v", "id"], "by": "k"}},
            {"join": {"with": "d", "on": "k", "how": "right"}},
            {"join": {"with": "d", "on": "k", "how": "full"}},
            {"join": {"with": "dim", "left_on": "v", "right_on": "weight", "how": "full"}},
            {"join": {"with": "e", "left_on": "v", "right_on": "weight", "how": "right", "columns": ["label"]}},
            {"join": {"with": "e", "left_on": "v", "right_on": "weight", "how": "left", "validate": "1:m"}},
            {"join": {"with": "s0", "on": "id", "how": "left", "columns": {"v": "earlier"}}},
            {"union": {"with": "s0", "missing": "fill"}},
        )
    ),
]
# queries with windows, of parts, over sets
LAST += [
    [{"sql": query}]
    for query in (
        "SELECT id, k, v, row_number() OVER (PARTITION BY id ORDER BY v, k) AS place FROM self",
        "SELECT id, k, v, lag(v) OVER (PARTITION BY k ORDER BY v, id) AS former FROM self",
        "SELECT id, k, sum(v) OVER (PARTITION BY id, k) AS s, count(*) OVER (PARTITION BY k) AS n FROM self",
        "WITH t AS (SELECT id, sum(v) AS s FROM self GROUP BY id) SELECT self.id, self.k, self.v, t.s FROM self JOIN t ON self.id = t.id",
        "WITH t AS (SELECT k, max(v) AS s FROM self GROUP BY k), u AS (SELECT k, s FROM t WHERE s > 4) SELECT s, count(*) AS n FROM u GROUP BY s",
        "SELECT id, k, v FROM self UNION SELECT id, k, v FROM b",
        "SELECT id, k FROM self EXCEPT SELECT id, k FROM b",
        "SELECT k, v FROM self INTERSECT SELECT k, v FROM b",
        "SELECT id, k, v FROM self WHERE v = (SELECT max(v) FROM self)",
        "SELECT id, count(DISTINCT k) AS kinds, min(v) AS lo, max(v) - min(v) AS spread FROM self GROUP BY id HAVING count(*) < 4",
        "SELECT k, count(*) FILTER (WHERE v > 5) AS many, sum(CASE WHEN v > 5 THEN 1 ELSE 0 END) AS counted FROM self GROUP BY k",
        "SELECT id, k, v FROM self QUALIFY row_number() OVER (PARTITION BY id ORDER BY v DESC, k) = 1",
        "SELECT d.label AS about, count(*) AS n, sum(self.v) AS s FROM self LEFT JOIN d ON self.k = d.k GROUP BY d.label",
        "SELECT a.id, count(*) AS pairs FROM self AS a JOIN self AS z ON a.k = z.k GROUP BY a.id",
    )
]
LAST += [
    [{"pivot": {"on": "k", "into": ["c", "a"], "values": "v", "index": "id", "aggregate": aggregate}}]
    for aggregate in ("sum", "len", "max", "mean")
]
LAST += [
    [{"sample": {"rows": 3, "by": "id"}}],
    [
        {"sample": {"fraction": 0.5, "seed": 3, "by": ["k", "id"]}},
        {"aggregate": {"by": "k", "aggregate": {"n": "count(*)", "s": "sum(v)"}}},
    ],
    [{"aggregate": {"by": "id", "aggregate": {"n": "count(*)"}}}, {"sample": {"fraction": 0.5, "by": "n"}}],
]
TAKEN_APART: list[dict[str, Any]] = [{"unnest": "pair"}]
LAST += [
    [NESTED, {"aggregate": {"by": "pair", "aggregate": {"n": "count(*)", "m": "median(v)"}}}, *TAKEN_APART],
    [NESTED, {"aggregate": {"by": ["list", "id"], "aggregate": {"n": "count(*)", "s": "sum(v)"}}}, {"explode": "list"}],
    [NESTED, {"drop": "list"}, {"distinct": {"columns": "pair", "keep": "none"}}, *TAKEN_APART],
    [NESTED, {"drop": "list"}, {"over": {"by": "pair", "columns": {"s": "sum(v)"}}}, *TAKEN_APART],
    [{"select": ["id", "k", "v"]}, NESTED, {"distinct": {"keep": "any"}}, {"explode": "list"}, *TAKEN_APART],
    [{"aggregate": {"by": "id", "aggregate": {"all": "array_agg(v ORDER BY v)"}}}, {"explode": "all"}],
    [
        {"filter": "v > 9"},
        {"join": {"with": "b", "on": "id", "how": "inner", "validate": "1:1", "columns": {"v": "there"}}},
    ],
    [
        {"join": {"with": "d", "on": "k", "how": "full", "nulls_equal": True, "columns": {"label": "l"}}},
        {"derive": {"more": "v + 1"}},
        {"filter": "more > 4 OR more IS NULL"},
        {"rename": {"k": "key"}},
    ],
    [{"python": f"{__name__}:doubled"}],
    [{"select": ["id", "k", "v"]}, {"sort": ["v DESC NULLS FIRST", "k", "id"]}, {"limit": {"rows": 3, "offset": 1}}],
    [{"sql": "SELECT id, k, v FROM self ORDER BY v DESC NULLS FIRST, k, id LIMIT 3 OFFSET 1"}],
    [{"sql": "SELECT id, k, count(*) AS n, sum(v) AS s, max(v) AS m FROM self WHERE v > 1 GROUP BY id, k"}],
    [
        {"aggregate": {"by": "id", "aggregate": {"n": "count(*)"}}},
        {"sort": ["n", "id"]},
        {"limit": 2},
        {"derive": {"m": "n"}},
    ],
    [
        {"aggregate": {"by": ["id", "k"], "aggregate": {"n": "count(*)", "s": "sum(v)"}}},
        {"rank": {"as": "place", "order_by": ["s", "n"], "by": "id"}},
        {"filter": "place < 3"},
    ],
    [
        {"over": {"by": ["k", "id"], "columns": {"s": "sum(v)"}}},
        {"filter": "s > 5"},
        {"rank": {"as": "place", "order_by": ["s"], "by": "id"}},
        {"rename": {"id": "who"}},
    ],
    [
        {"select": ["id", "k", "v"]},
        {"fill": {"columns": "v", "strategy": "forward", "order_by": ["v", "k"], "by": "id"}},
    ],
    [
        {"select": ["id", "k", "v"]},
        {"over": {"by": "id", "order_by": ["v", "k"], "columns": {"before": "v"}}},
        {"rank": {"as": "place", "order_by": ["v", "k"], "by": "id", "method": "ordinal"}},
    ],
]
LAST += [
    [{"select": ["id", "k", "v"]}, {"join": {"with": "e", "how": "cross"}}],
    [
        {"select": ["id", "k", "v"]},
        {"fill": {"columns": "v", "strategy": "backward", "order_by": ["v DESC", "k"], "by": "id"}},
    ],
    [{"select": ["id", "k", "v"]}, {"fill": {"columns": "k", "strategy": "forward", "order_by": ["id", "v", "k"]}}],
    [
        {"select": ["id", "k", "v"]},
        {"distinct": {"columns": "k", "keep": "first", "order_by": ["v DESC NULLS LAST", "id"]}},
    ],
    [{"select": ["id", "k", "v"]}, {"distinct": {"columns": ["k", "v"], "keep": "first", "order_by": ["id"]}}],
    [{"pivot": {"on": "k", "into": ["a", "b"], "values": "v", "index": "id", "aggregate": "min"}}],
    [{"rank": {"as": "place", "order_by": ["v DESC"], "by": "k", "method": "min"}}],
    [
        {
            "aggregate": {
                "by": "k",
                "aggregate": {"lo": "min(id)", "hi": "max(id)", "n": "count(id)", "d": "count(DISTINCT id)"},
            }
        }
    ],
    [{"aggregate": {"by": "k", "aggregate": {"lo": "min(id)", "hi": "max(id)", "n": "count(id)"}}}],
    [{"aggregate": {"by": "id", "aggregate": {"lo": "min(k)", "hi": "max(k)", "n": "count(k)"}}}],
    [{"aggregate": {"aggregate": {"lo": "min(k)", "hi": "max(id)", "s": "sum(v)", "c": "count(v)"}}}],
    [{"aggregate": {"by": ["v", "k"], "aggregate": {"hi": "max(id)", "s": "sum(v)"}}}],
    [{"aggregate": {"by": "k", "aggregate": {"sd": "stddev(v)", "x": "sum(v) / count(*)", "w": "max(v) - min(v)"}}}],
    [
        {
            "aggregate": {
                "by": "k",
                "aggregate": {"q": "coalesce(sum(CASE WHEN v > 4 THEN v END), 0)", "z": "sum(v * 2) - sum(v)"},
            }
        }
    ],
    [{"over": {"by": "k", "order_by": ["v", "id"], "columns": {"c": "count(*)", "first": "first(v)"}}}],
    [{"select": ["id", "k", "v"]}, {"sort": ["v", "k", "id"]}, {"limit": {"rows": 4, "offset": 0}}],
    [{"select": ["id", "k", "v"]}, {"sort": ["id DESC NULLS LAST", "k NULLS FIRST", "v"]}, {"limit": 5}],
    [{"derive": {"neg": "v * -1"}}, {"aggregate": {"by": "neg", "aggregate": {"n": "count(*)"}}}],
    [{"sql": "SELECT k, min(id) AS lo, max(id) AS hi FROM self GROUP BY k"}],
    [{"sql": "SELECT id, max(k) AS hi FROM self GROUP BY id"}],
    [{"sql": "SELECT k, stddev(v) AS sd, avg(v) AS m FROM self GROUP BY k"}],
    [{"sql": "SELECT id, first_value(v) OVER (PARTITION BY k ORDER BY v DESC, id) AS f FROM self"}],
    [{"sql": "SELECT k, id FROM self WHERE v IS NOT NULL ORDER BY id DESC, k LIMIT 4"}],
    [{"sql": "SELECT self.id, d.label FROM self FULL JOIN d ON self.k = d.k"}],
    [
        {
            "sql": "SELECT self.id, d.label, count(*) AS n FROM self RIGHT JOIN d ON self.k = d.k GROUP BY self.id, d.label"
        }
    ],
    [
        {
            "sql": "SELECT * FROM (SELECT id, k, v, dense_rank() OVER (PARTITION BY k ORDER BY v DESC) AS r FROM self) AS t WHERE r <= 2"
        }
    ],
]
GROUPS: list[dict[str, Any]] = [
    {"do": [{"aggregate": {"by": "id", "aggregate": {"n": "count(*)", "s": "sum(v)"}}}]},
    {
        "do": [
            {"aggregate": {"by": ["id", "k"], "aggregate": {"n": "count(*)", "mean": "avg(v)"}}},
            {"filter": "n < 3"},
            {"join": {"with": "d", "on": "k", "how": "left", "columns": {"label": "about"}}},
            {"rename": {"id": "who"}},
        ]
    },
    {
        "do": [{"aggregate": {"by": "id", "aggregate": {"n": "count(*)", "s": "sum(v)"}}}],
        "gate": [
            {"between": {"column": "s", "max": 40, "action": "warn", "where": "n > 1"}},
            {"unique": {"columns": "id", "action": "fail"}},
            {"unique": {"columns": "s", "action": "warn"}},
            {"sum": {"column": "n", "max": 30, "action": "warn"}},
            {"row_count": {"max": 15, "action": "fail"}},
        ],
    },
    {
        "do": [
            {"select": ["id", "k", "v"]},
            {"distinct": {"columns": "id", "keep": "last", "order_by": ["v", "k"]}},
            {"derive": {"double": "v * 2"}},
        ]
    },
]
# two years for each of v, before the clock of the runs and after it
FAR = [
    {"select": ["id", "k", "v"]},
    {"derive": {"at": "TRY_CAST(v AS BIGINT) * 63115200000000 + 1704067200000000"}},
    {"cast": {"at": "Datetime(us)"}},
    {"derive": {"day": "CAST(at AS DATE)"}},
]
GROUPS += [
    {
        "do": FAR,
        "gate": [
            {"in_past": {"column": "at", "action": "quarantine", "where": "k = 'a'"}},
            {"in_future": {"column": "day", "action": "repair", "repair": {"clip": True}, "where": "k = 'b'"}},
        ],
    },
    {
        "do": FAR,
        "gate": [
            {"freshness": {"column": "at", "within": "1d", "by": "k", "action": "warn"}},
            {"freshness": {"column": "day", "within": "3650d", "action": "warn", "where": "v < 9"}},
            {"no_gaps": {"column": "at", "every": "6mo", "max": 9, "by": "k", "action": "warn"}},
            {"no_gaps": {"column": "day", "every": "1d", "end": "2040-01-01", "max": 3000, "action": "warn"}},
            {"in_past": {"column": "day", "or_now": True, "action": "drop", "max_failures": "60%"}},
        ],
    },
    # the same rule twice: of the rows that the first one leaves, the second finds nothing
    {
        "do": [{"select": ["id", "k", "v"]}, {"derive": {"v": "v * -1"}}, {"derive": {"v": "v * -1"}}],
        "gate": [
            {"between": {"column": "v", "max": 8, "action": "quarantine", "where": "k = 'a'"}},
            {"between": {"column": "v", "max": 20, "action": "drop"}},
        ],
    },
]
# a dimension that is made of others, with a gate of its own
DIMENSION: dict[str, Any] = {
    "from": "d",
    "do": [
        {"aggregate": {"by": ["k", "label"], "aggregate": {"n": "count(*)"}}},
        {"join": {"with": "e", "on": "label", "how": "left"}},
    ],
    "gate": [{"not_null": {"columns": "k", "action": "quarantine"}}],
}
RULES: list[dict[str, Any]] = [
    {"not_null": {"columns": "id", "action": "quarantine"}},
    {"between": {"column": "v", "max": 50, "action": "drop"}},
    {"in_set": {"column": "k", "values": ["a", "b"], "action": "quarantine", "where": "v > 10"}},
    {"between": {"column": "v", "min": 0, "action": "warn"}},
    {"unique": {"columns": "id", "action": "warn"}},
    {"unique": {"columns": ["id", "k"], "action": "quarantine"}},
    {"between": {"column": "v", "min": 1, "action": "repair", "repair": {"set": "1"}}},
    {"between": {"column": "v", "max": 30, "action": "repair", "repair": {"previous": ["id", "k", "v"]}}},
    {"sum": {"column": "v", "max": 1000, "action": "warn"}},
    {"mean": {"column": "v", "max": 40, "action": "fail"}},
    {"row_count": {"max": 20, "action": "fail"}},
    {"between": {"column": "v", "min": -4, "action": "quarantine", "max_failures": "40%"}},
    {"unique": {"columns": ["id", "k", "v"], "action": "fail"}},
    {"foreign_key": {"columns": "k", "references": {"to": "d", "column": "k"}, "action": "quarantine"}},
    {"foreign_key": {"columns": "v", "references": {"to": "e", "column": "weight"}, "action": "drop"}},
    {"sum": {"column": "v", "max": 60, "by": "k", "where": "id IS NOT NULL", "action": "warn"}},
    {"row_count": {"max": 9, "by": ["k", "id"], "action": "fail"}},
    {"completeness": {"column": "v", "min": "50%", "by": "k", "action": "warn"}},
    {"median": {"column": "v", "max": 8, "by": "k", "action": "warn"}},
    {"distinct_count": {"columns": "k", "max": 2, "where": "v > 5", "action": "warn"}},
    {"conditional": {"when": "k = 'a'", "then": "v >= 0", "action": "drop", "max_failures": 3}},
    {"between": {"column": "v", "max": 50, "action": "repair", "repair": {"set": "v - v"}}},
    {"not_null": {"columns": "v", "action": "repair", "repair": {"set": "3"}, "where": "k <> 'b'"}},
    {
        "between": {
            "column": "v",
            "min": 2,
            "max": 40,
            "action": "repair",
            "repair": {"clip": True, "then": "quarantine"},
        }
    },
    {"between": {"column": "v", "max": 40, "closed": "left", "action": "repair", "repair": {"null": True}}},
    {"not_null": {"columns": "v", "action": "repair", "repair": {"default": 7}}},
    {"not_null": {"columns": "k", "action": "repair", "repair": {"previous": ["v", "id", "k"], "then": "drop"}}},
    {"increasing": {"column": "v", "order_by": "id", "by": "k", "action": "quarantine"}},
    {"decreasing": {"column": "v", "order_by": ["k", "id"], "strictly": True, "action": "warn"}},
    {"most_common": {"column": "k", "is": ["a", "b"], "by": "id", "ties": True, "action": "warn"}},
    {"quantile": {"column": "v", "q": 0.25, "max": 9, "by": "id", "action": "warn"}},
    {"std": {"column": "v", "max": 20, "by": "k", "action": "warn"}},
    {"min": {"column": "v", "min": 0, "by": "k", "where": "v < 50", "action": "warn"}},
    {"proportion": {"condition": "v > 8", "max": "50%", "by": "k", "action": "warn"}},
    {"cardinality": {"columns": "k", "references": {"to": "b", "columns": "k"}, "max": 1, "action": "quarantine"}},
    {"row_count": {"same_as": "d", "action": "warn"}},
    {"primary_key": {"columns": ["k", "v"], "action": "drop", "where": "id IS NOT NULL", "max_failures": "90%"}},
    {"any_not_null": {"columns": ["k", "v"], "action": "quarantine", "fail_above": 2}},
    {"distinct_count": {"columns": ["id", "v"], "by": "k", "max": 3, "action": "fail"}},
]
RULES += [
    {"expression": {"condition": "v > 3 OR k = 'a'", "action": "quarantine"}},
    {
        "expression": {
            "condition": "v > 3 AND k <> 'a'",
            "action": "drop",
            "where": "id IS NOT NULL",
            "max_failures": "90%",
        }
    },
    {"finite": {"columns": "v", "action": "quarantine"}},
    {"multiple_of": {"column": "v", "of": 3, "action": "quarantine"}},
    {"non_negative": {"columns": "v", "action": "repair", "repair": {"set": "v * -1"}}},
    {"positive": {"columns": "v", "action": "drop"}},
    {"null": {"columns": "v", "action": "warn"}},
    {"exclusive": {"columns": ["k", "v"], "action": "quarantine"}},
    {"exclusive": {"columns": ["k", "v"], "exactly": True, "action": "warn", "fail_above": "95%"}},
    {"sum_equals": {"columns": ["v", "v"], "total": 10, "action": "quarantine"}},
    {"compare": {"left": "v", "op": "!=", "right": "v", "action": "warn"}},
    {"max": {"column": "v", "max": 40, "by": "k", "action": "fail"}},
    {"max": {"column": "v", "max": 58, "action": "warn"}},
    {"min": {"column": "v", "min": -4, "closed": "right", "action": "fail"}},
    {"completeness": {"column": "v", "min": "60%", "where": "k = 'a'", "action": "fail"}},
    {"unique": {"columns": "v", "action": "quarantine", "where": "k = 'a'"}},
    {"unique": {"columns": ["v", "k"], "action": "drop", "max_failures": 4}},
    {"not_null": {"columns": ["v"], "action": "repair", "repair": {"default": 7, "then": "quarantine"}}},
    {"in_set": {"column": "k", "values": ["a", "c"], "action": "repair", "repair": {"null": True}}},
    {"in_set": {"column": "k", "values": ["a", "c"], "action": "repair", "repair": {"set": "'a'"}, "where": "v > 2"}},
    {
        "foreign_key": {
            "columns": "k",
            "references": {"to": "d", "column": "k"},
            "action": "quarantine",
            "where": "v > 4",
            "max_failures": "80%",
        }
    },
    {
        "increasing": {
            "column": "v",
            "order_by": ["id", "k"],
            "strictly": True,
            "where": "v > 0",
            "action": "quarantine",
            "max_failures": 6,
        }
    },
    {"increasing": {"column": "v", "order_by": "id", "by": "k", "action": "repair", "repair": {"null": True}}},
    {"decreasing": {"column": "v", "order_by": "id", "by": "k", "action": "drop"}},
    {"most_common": {"column": "k", "is": ["a"], "where": "v > 2", "action": "warn"}},
    {
        "cardinality": {
            "columns": "k",
            "references": {"to": "b", "columns": "k"},
            "min": 1,
            "action": "drop",
            "where": "v > 5",
        }
    },
    {"row_count": {"min": 3, "by": "k", "action": "warn", "where": "v > 1"}},
    {"row_count": {"equals": 9, "action": "warn", "where": "v > 1"}},
    {"distinct_count": {"columns": "id", "min": 2, "by": "k", "action": "warn"}},
    {"proportion": {"column": "k", "value": "a", "min": "10%", "action": "warn"}},
    {"mean": {"column": "v", "min": 2, "by": "k", "action": "warn", "where": "v < 40"}},
    {"median": {"column": "v", "min": 3, "action": "fail", "where": "k = 'a'"}},
    {"std": {"column": "v", "min": 1, "action": "warn"}},
    {
        "between": {
            "column": "v",
            "min": 3,
            "max": 30,
            "closed": "both",
            "action": "repair",
            "repair": {"clip": True, "then": "drop"},
            "where": "k <> 'b'",
        }
    },
    {
        "between": {
            "column": "v",
            "max": 20,
            "action": "repair",
            "repair": {"previous": ["v", "id", "k"], "then": "quarantine"},
            "where": "k = 'a'",
        }
    },
    {"any_not_null": {"columns": ["k", "v"], "action": "drop", "where": "id IS NOT NULL", "max_failures": "50%"}},
    {"conditional": {"when": "v > 9", "then": "k IS NOT NULL", "action": "quarantine"}},
    {"primary_key": {"columns": "id", "action": "quarantine"}},
    {"schema": {"columns": ["id", "k", "v"], "mode": "superset", "action": "fail"}},
]
# what texts look like, what values could become, how they are spread
RULES += [
    {"regex": {"column": "k", "pattern": "^[a-b]$", "action": "quarantine"}},
    {"regex": {"column": "k", "pattern": "^a", "action": "repair", "repair": {"set": "'a'"}, "where": "v > 2"}},
    {"not_regex": {"column": "k", "pattern": "b|z", "action": "drop", "max_failures": "70%"}},
    {"like": {"column": "k", "pattern": "_", "action": "fail"}},
    {"like": {"column": "k", "pattern": "a%", "action": "quarantine", "where": "v > 4 AND id IS NOT NULL"}},
    {"not_like": {"column": "k", "pattern": "%c", "action": "repair", "repair": {"previous": ["id", "v", "k"]}}},
    {"length_between": {"column": "k", "min": 1, "max": 1, "action": "warn"}},
    {"format": {"column": "k", "is": "hostname", "action": "quarantine"}},
    {"format": {"column": "k", "is": "uuid", "action": "warn", "where": "v > 3"}},
    {"parseable": {"column": "k", "as": "integer", "action": "drop", "where": "v = 9"}},
    {"json": {"column": "k", "action": "quarantine", "where": "v < 3"}},
    {"is_type": {"column": "v", "type": "Int8", "action": "quarantine"}},
    {"outliers": {"column": "v", "z": 1.3, "by": "k", "max": "30%", "action": "warn"}},
    {"outliers": {"column": "v", "z": 1.3, "side": "above", "where": "id IS NOT NULL", "max": "50%", "action": "fail"}},
    {
        "kl_divergence": {
            "column": "k",
            "values": ["a", "b", "c"],
            "weights": [4, 1, 2],
            "rest": 0.1,
            "max": 0.2,
            "action": "warn",
        }
    },
    {
        "kl_divergence": {
            "column": "v",
            "bins": [2, 9, 40],
            "weights": [1, 2, 2, 1],
            "by": "k",
            "max": 1,
            "action": "warn",
        }
    },
    {"column_count": {"min": 3, "action": "fail"}},
    {"not_empty": {"columns": "k", "action": "quarantine"}},
]
WHOLE: list[dict[str, Any]] = [
    {"no_gaps": {"column": "v", "every": 2, "max": 3, "by": "k", "action": "warn"}},
    {
        "no_gaps": {
            "column": "v",
            "every": 5,
            "start": 0,
            "end": 50,
            "max": 6,
            "action": "fail",
            "where": "id IS NOT NULL",
        }
    },
]
"""Rules on whole numbers."""


LABELS: list[dict[str, Any]] = [
    {"not_in_set": {"column": "label", "values": ["more"], "action": "quarantine"}},
    {"unique": {"columns": "k", "action": "drop"}},
]


def read(steps: list[Any]) -> list[str]:
    """Return what queries read besides."""
    text = json.dumps([s["sql"] for s in steps if "sql" in s])
    return [n for n in ("b", "d") if f"FROM {n}" in text or f"JOIN {n}" in text]


OUTPUT: list[dict[str, Any]] = [
    {},
    {},
    {"partition_by": "k"},
    {"format": "csv"},
    {"format": "csv"},
    {"format": "parquet"},
    {"format": "ndjson"},
    {"format": "ipc"},
    {"optimize": "storage"},
]
EXPORTS: dict[str, Callable[[bytes], pl.DataFrame]] = {
    "csv": pl.read_csv,
    "parquet": pl.read_parquet,
    "ndjson": pl.read_ndjson,
    "ipc": pl.read_ipc,
}
LAID: list[dict[str, Any]] = [{}, {}, {}, {"optimize": "storage"}]


@st.composite
def pipelines(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a pipeline: gates on sources, one to three stages above one another, some of them outputs."""
    fmts = {"a": draw(FORMATS), "b": draw(FORMATS)}
    values = draw(st.sampled_from(["Int64", *VALUES]))
    types = {"id": draw(st.sampled_from([*IDS])), "k": draw(st.sampled_from(KEYS)), "v": values}
    contract = {"columns": types}
    rules = st.sampled_from([*RULES, *(WHOLE if values.startswith("Int") else ())])
    sources: dict[str, Any] = {n: {"uri": f"in/{n}-*.{f}", "contract": contract} for n, f in fmts.items()}
    # folders that say of their rows on which day they were
    folders = draw(st.sampled_from([False, False, True]))
    if folders:
        sources["a"] |= {"uri": "in/a", "format": fmts["a"]}
        sources["a"]["contract"] = {"columns": {**types, "day": "Int64"}}
        # some of which are not whole yet
        sources["a"] |= draw(st.sampled_from([{}, {"expect": {"marker": "_SUCCESS"}}]))
    sources["a"] |= draw(st.sampled_from([{}, {}, {"detect": "content"}]))
    sources["d"] = {"uri": "in/d.csv", "contract": {"columns": {"k": types["k"], "label": "String"}}}
    sources["e"] = {"uri": "in/e.csv", "contract": {"columns": {"label": "String", "weight": values}}}
    if draw(st.booleans()):
        sources["a"]["gate"] = draw(st.lists(rules, max_size=2, unique_by=str))
    sources["b"] |= draw(st.sampled_from([{}, {}, {"gate": RULES[:2]}]))
    sources["d"] |= draw(st.sampled_from([{}, {}, {"gate": LABELS}]))
    stages: dict[str, Any] = {}
    below = "a"
    for number in range(draw(st.integers(1, 3))):
        drawn = [step for steps in draw(st.lists(st.sampled_from(EACH), max_size=3)) for step in steps]
        steps = [json.loads(json.dumps(s).replace("{}", f"_{number}_{place}")) for place, s in enumerate(drawn)]
        name = f"s{number}"
        stages[name] = {
            "from": [below, *read(steps)],
            "do": steps,
            "gate": draw(st.lists(rules, max_size=2, unique_by=str)),
        }
        below = name
    if draw(st.booleans()):
        end = draw(st.one_of(st.sampled_from(LAST).map(lambda steps: {"do": steps}), st.sampled_from(GROUPS)))
        stages["end"] = {"from": [below, *read(end["do"])], **end}
        if "b_at" in json.dumps(stages["end"]):
            stages = {"b_at": {"from": "b", "do": AT}, **stages}
        if "b_v" in json.dumps(stages["end"]):
            stages = {"b_v": {"from": "b", "do": [*AT, {"select": ["k", "v", "at"]}]}, **stages}
    outputs = draw(st.lists(st.sampled_from([n for n in stages if n not in ("b_at", "b_v")]), min_size=1, unique=True))
    last = [*stages][-1]
    for n in fmts if types["id"] in UNTOLD else ():
        fmts[n] = {"csv": "parquet", "ndjson": "ipc"}.get(fmts[n], fmts[n])
        sources[n] |= {"uri": f"in/{n}-*.{fmts[n]}"} if sources[n]["uri"] != "in/a" else {"format": fmts[n]}
    if draw(st.booleans()):
        # what it is made of has two readers then, and is kept for the run if it is no output
        drawn = draw(st.sampled_from(EACH))
        steps = [json.loads(json.dumps(s).replace("{}", f"_twin_{place}")) for place, s in enumerate(drawn)]
        end = draw(st.one_of(st.just({"do": []}), st.sampled_from(GROUPS)))
        gate = [] if "gate" in end else draw(st.lists(rules, max_size=1))
        gate = [] if end["do"] else gate
        above = draw(st.sampled_from(["a", *(n for n in stages if n not in ("end", "b_v"))]))
        stages["twin"] = {"from": [above, *read(steps)], "gate": gate, **end, "do": [*steps, *end["do"]]}
        outputs.append("twin")
    if '"dim"' in json.dumps(stages):
        stages = {"dim": DIMENSION, **stages}
        outputs += ["dim"] * draw(st.booleans())
    # other numbers cannot be a partition column
    by_id: dict[str, Any] = (
        {"partition_by": ["id", "k"]}
        if types["id"].partition("(")[0] not in ("Float64", "Decimal", "Time", "Binary", "Duration")
        else {}
    )
    ends, above = [*OUTPUT, by_id], [None, None, None, *AHEAD]
    if types["k"] == "String" and types["id"] in IN_DELTA:
        ends, above = [*ends, {"format": "delta"}], [*above, ([], {"format": "delta"})]
    if types["id"] in UNTOLD:
        ends = [end for end in ends if end.get("format") not in ("csv", "ndjson")]
    ahead = draw(st.sampled_from(above))
    zone, begin = draw(st.sampled_from(MOMENTS))
    text = json.dumps(stages).replace("Datetime(us)", f"Datetime(us{zone})").replace("1709078400", begin)
    text = text.replace('"Int16"', f'"{NARROW[values]}"').replace('"Int64"', f'"{values}"')
    if types["k"].startswith("Enum"):  # with a text it becomes text, which joins with no category
        text = text.replace("coalesce(k, 'a')", "k")
    stages = json.loads(text)
    made = {
        n: draw(st.sampled_from(LAID)) if n != last or n == "end" else draw(st.sampled_from(ends))
        for n in dict.fromkeys([*outputs, last])
    }
    if draw(st.booleans()):
        # what another output writes too
        made["again"] = {"from": draw(st.sampled_from([*made])), **draw(st.sampled_from(LAID))}
    # Delta tables have names of their own that cannot be
    plain = any("delta" in output.values() for output in (*made.values(), ahead[1] if ahead else {}))
    names = {n: n if plain else draw(st.sampled_from(CALLED[n])) for n in CALLED}
    if "csv" in fmts.values() and '"' in names["id"]:
        names["id"] = "id"  # quotes in a header stay doubled, as Polars reads them
    return {
        "called": names,
        "ahead": ahead,
        "version": 1,
        "name": "p",
        "params": {"more": {"type": "integer", "default": 1}},
        "sources": sources,
        "stages": stages,
        "outputs": made,
        "fmts": fmts,
        "folders": folders,
        "names": draw(NAMES),
        "scale": draw(st.booleans()),
    }


# what other sides of joins become; of most of these only few keys
SIDES = ["dimension", "amend", "amend", "weigh", "amend other"]
# what goes comes back, files change places, an output goes back to a version, the definition changes
MORE = [
    "again",
    "swap",
    "back",
    "full",
    "edit",
    "care",
    "grow",
    "grow",
    "cut",
    "move",
    "twice",
    "silent",
    "since",
    "part",
    "only",
    "lay",
    "whole",
]
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["add", "add", "modify", "remove", "rename", "touch", "copy", "other", "define", "nothing", *SIDES, *MORE]
        ),
        st.integers(0, 5),
        ROWS,
        # whether a run follows, or another change first
        st.sampled_from([True, True, False]),
    ),
    min_size=1,
    max_size=4,
)


# how another pipeline makes a dataset of the files, which is read in their place
AHEAD: list[tuple[list[Any], dict[str, Any]]] = [
    ([], {}),
    ([{"filter": "v <> 3 OR v IS NULL"}], {"partition_by": "k"}),
    ([{"distinct": ["id", "k", "v"]}], {"optimize": "storage"}),
    ([{"over": {"by": "id", "columns": {"v": "max(v)"}}}], {}),
]
EDITS: list[tuple[Any, Any]] = [
    ({"filter": "v <> 8 OR v IS NULL"}, None),
    (None, {"between": {"column": "v", "max": 45, "action": "quarantine"}}),
    ({"derive": {"v": "v + 1"}}, None),
    (None, {"not_null": {"columns": "v", "action": "drop"}}),
]


class World:
    """A folder with deliveries, and the pipeline over it."""

    def __init__(self, base: Path, data: dict[str, Any]) -> None:
        self.base = base
        self.fmts = data.pop("fmts")
        self.folders = data.pop("folders")
        self.names = data.pop("names")
        self.ahead = data.pop("ahead")
        self.called = data.pop("called")
        self.scale = data.pop("scale")
        # names of columns stand in the files too
        self.numbered = bool({*"12"} & {*"".join(self.called.values())})
        data = self.data = called(data, self.called)
        self.more = 1
        self.clock = 1_700_000_000
        self.made = 0
        self.gone: list[tuple[Path, bytes]] = []
        types = data["sources"]["b"]["contract"]["columns"]
        self.schema = {name: dtype_from_name(t) for name, t in types.items()}
        self.value, self.number = (of[t] for of, t in zip((IDS, {}, VALUES), types.values(), strict=True) if of)
        self.files = {**data["sources"]["a"]}
        if self.ahead is not None:
            data["sources"]["a"] = {"uri": "up/a", **{k: v for k, v in self.files.items() if k == "gate"}}
            self.files.pop("gate", None)
        self.waits = "expect" in self.files
        self.folder("a", 0).mkdir(parents=True, exist_ok=True)
        if self.waits:
            (self.folder("a", 1) / "_SUCCESS").touch()
        self.write("a", [(1, "a", 5), (2, "b", None), (7, "c", 9), (8, None, 3), (9, "a", 51)])
        for k in "abc":
            self.write("a", [(ord(k), k, 1), (10, k, ord(k) - 90)])
        self.write("b", [(3, "c", 7)])
        self.twice: list[tuple[str | None, str]] = []
        self.labels: dict[str | None, str] = {"a": "one", "b": "two", None: "none"}
        self.weights = {"one": 7, "two": 9, "none": None, "more": 8}
        self.amended()
        self.weighed()

    def write(self, source: str, rows: list[Any], path: Path | None = None) -> None:
        self.made += 1
        target = path or self.folder(source, self.made) / f"{source}-{self.made:03}{self.names}.{self.fmts[source]}"
        self.put(self.frame(rows), target)

    def folder(self, source: str, number: int) -> Path:
        if source != "a" or not self.folders:
            return self.base / "in"
        path = self.base / f"in/a/day={number % 3}"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def frame(self, rows: list[Any]) -> pl.DataFrame:
        number = [(None if n is None else self.value(n), k, None if v is None else self.number(v)) for n, k, v in rows]
        return pl.DataFrame(number, schema=self.schema, orient="row")

    def put(self, frame: pl.DataFrame, target: Path) -> None:
        match target.suffix:
            case ".csv":
                frame.write_csv(target)
            case ".ndjson":
                # a file of nothing at all is none that has been delivered
                target.write_text(frame.write_ndjson() or "\n")
            case ".ipc":
                frame.write_ipc(target)
            case _:
                frame.write_parquet(target, row_group_size=2)
        self.stamp(target)

    def grow(self, rows: list[Any], path: Path) -> None:
        """Add rows to a file, as the one who writes a log does it; of others, write it anew."""
        frame = self.frame(rows)
        match path.suffix:
            case ".csv":
                with path.open("a") as file:
                    file.write(frame.write_csv(include_header=False))
            case ".ndjson":
                with path.open("a") as file:
                    file.write(frame.write_ndjson())
            case ".ipc":
                return self.put(pl.concat([pl.read_ipc(path.read_bytes()), frame]), path)
            case _:
                return self.put(pl.concat([pl.read_parquet(path.read_bytes()), frame]), path)
        return self.stamp(path)

    def cut(self, path: Path) -> None:
        """Take the last row out of a file."""
        match path.suffix:
            case ".csv" | ".ndjson":
                lines = path.read_text().splitlines(keepends=True)
                if len(lines) > 1:
                    path.write_text("".join(lines[:-1]))
            case ".ipc":
                return self.put(pl.read_ipc(path.read_bytes())[:-1], path)
            case _:
                return self.put(pl.read_parquet(path.read_bytes())[:-1], path)
        return self.stamp(path)

    def stamp(self, path: Path) -> None:
        self.clock += 10
        os.utime(path, (self.clock, self.clock))

    def amended(self) -> None:
        self.dimension([*self.labels.items(), *self.twice])

    def weighed(self) -> None:
        path = self.base / "in/e.csv"
        rows = [(label, None if n is None else self.number(n)) for label, n in self.weights.items()]
        pl.DataFrame(rows, schema={"label": pl.String, "weight": [*self.schema.values()][2]}, orient="row").write_csv(
            path
        )
        self.stamp(path)

    def dimension(self, rows: list[tuple[str | None, str]]) -> None:
        path = self.base / "in/d.csv"
        pl.DataFrame(rows, schema={self.called["k"]: pl.String, "label": pl.String}, orient="row").write_csv(path)
        self.stamp(path)

    def act(self, action: str, index: int, rows: list[Any]) -> None:
        files = sorted((self.base / "in").rglob("a-*.*"))
        chosen = files[index % len(files)]
        match action:
            case "add":
                self.write("a", rows)
            case "other":
                self.write("b", rows)
            case "modify":
                self.write("a", rows, chosen)
            case "grow":
                self.grow(rows, chosen)
            case "cut":
                self.cut(chosen)
            case "silent" if "detect" in self.files and chosen.suffix in (".csv", ".ndjson") and not self.numbered:
                # other content of the same length under the same stamp
                alter(chosen, chosen.read_bytes().translate(bytes.maketrans(b"12", b"21")))
            case "since":
                # runs in between that take a part of what there is, or write one of the outputs
                moment = datetime.fromtimestamp(chosen.stat().st_mtime, UTC)
                try:
                    self.run("kept", **{("since", "until")[len(rows) % 2]: moment})
                except lp.LazypipeError as error:
                    if "so since and until choose nothing" not in str(error):
                        raise
            case "part":
                self.run("kept", 1 + index % 2)
            case "only":
                self.run("kept", outputs=[[*self.data["outputs"]][index % len(self.data["outputs"])]])
            case "twice":
                key = (*"abc", None)[index % 4]
                self.twice = [] if self.twice else [(key, "again")]
                self.amended()
            case "move" | "swap" if self.waits:
                pass  # what was taken in of a whole folder is not doubted, wherever it goes
            case "move":
                there = self.folder("a", index) / chosen.name
                if not there.exists():
                    chosen.rename(there)
            case "remove" if len(files) > 1:
                self.gone.append((chosen, chosen.read_bytes()))
                chosen.unlink()
            case "again" if self.gone:
                path, held = self.gone.pop(index % len(self.gone))
                path.write_bytes(held)
                self.stamp(path)
            case "swap":
                other = files[len(rows) % len(files)]
                held, there = chosen.read_bytes(), other.read_bytes()
                chosen.write_bytes(there)
                other.write_bytes(held)
                self.stamp(chosen)
                self.stamp(other)
            case "back":
                uri = self.dataset(index)
                if uri is not None and len(versions := lp.history(uri)["version"]):
                    lp.rollback(uri, version=versions[len(rows) % len(versions)])
            case "care":
                uri = self.dataset(index)
                if uri is not None and len(rows) % 3 == 0:
                    lp.optimize.compact(uri, dead=0.0)
                elif uri is not None and len(rows) % 3 == 1:
                    lp.optimize.rewrite(uri, "storage", every=True)
                elif uri is not None:
                    lp.vacuum(uri, keep=1, older_than=timedelta(0))
            case "edit":
                self.edit(index)
            case "lay":
                # the same rows in other folders and files
                name = [*self.data["outputs"]][index % len(self.data["outputs"])]
                output = self.data["outputs"][name]
                if not {"format", "partition_by"} & {*output} or output.get("partition_by") == self.called["k"]:
                    laid = called(OUTPUT[(0, 2, -1)[len(rows) % 3]], self.called)
                    if self.called["k"] in self.columns_of(name) or not laid.get("partition_by"):
                        self.data["outputs"][name] = {k: v for k, v in output.items() if k == "from"} | laid
            case "whole" if self.waits:
                (self.folder("a", index) / "_SUCCESS").touch()
            case "rename":
                chosen.rename(chosen.with_name(f"a-moved{self.made}-{index}{chosen.suffix}"))
            case "touch":
                self.stamp(chosen)
            case "copy":
                shutil.copy2(chosen, chosen.with_name(f"a-again{self.made}-{index}{chosen.suffix}"))
                self.made += 1
            case "dimension":
                self.dimension(
                    [(k, f"{k}{index}") for k, _ in zip("abc", range(index % 4), strict=False)] or [("a", "x")]
                )
            case "amend":
                key = (*"abc", None)[index % 4]
                if self.labels.pop(key, "") in ("", "one"):
                    self.labels[key] = ("more", "one", "other")[len(rows) % 3]
                self.amended()
            case "weigh":
                label = [*self.weights][index % 3]
                self.weights[label] = len(rows)
                self.weighed()
            case "amend other":
                (other, *_) = sorted((self.base / "in").glob("b-*.*"))
                self.write("b", rows, other)
            case "define":
                self.more += 1

    def columns_of(self, name: str) -> list[str]:
        """Return the columns that an output has, or nothing if it was not published yet."""
        return lp.scan(str(self.base / "kept" / name)).collect_schema().names() if name in self.held("kept") else []

    def dataset(self, index: int) -> str | None:
        """Return one of the datasets that the pipeline, and what runs ahead of it, have published."""
        logs = [*sorted((self.base / "kept").rglob("*.commits")), *self.base.glob("up/*.commits")]
        logs = [log for log in logs if "state" not in log.parts and any(log.glob("*.json"))]
        return str(logs[index % len(logs)]).removesuffix(".commits") if logs else None

    def run_ahead(self) -> None:
        """Make a dataset of the files, if that is what is read."""
        if self.ahead is None:
            return
        do, output = called(self.ahead, self.called)
        data = {
            "version": 1,
            "name": "up",
            "state": "up/state",
            "sources": {"f": self.files},
            "stages": {"a": {"from": "f", "do": do}},
            "outputs": {"a": {"to": "up/a", **output}},
        }
        lp.Pipeline.from_dict(data, base=str(self.base)).compile().run().raise_for_status()

    def edit(self, index: int) -> None:
        """Take a filter or a rule into the definition, or out of it again."""
        step, rule = called(EDITS[index % len(EDITS)], self.called)
        held = self.data["sources"]["a"] if index % 2 else self.data["stages"].get("s0", {})
        for name, what in (("do", step), ("gate", rule)):
            if what is not None and (name == "gate" or "do" in held):
                there = held.get(name, [])
                held[name] = [w for w in there if w != what] if what in there else [*there, what]

    def run(self, where: str, max_files: int | None = None, **how: Any) -> lp.RunResult:
        if where == "kept":
            self.run_ahead()
        return self.compiled(where).run(max_files=max_files, **how)

    def compiled(self, where: str) -> lp.Plan:
        data = self.defined(where)
        return lp.Pipeline.from_dict(data, base=str(self.base)).compile(more=self.more, allow=[__name__])

    def defined(self, where: str) -> dict[str, Any]:
        outputs = {}
        for name, output in self.data["outputs"].items():
            end = f".{output['format']}" if output.get("format") in EXPORTS else ""
            outputs[name] = {**output, "to": f"{where}/{name}{end}"}
        return {**self.data, "outputs": outputs, "state": f"{where}/state"}

    def held(self, where: str) -> dict[str, Counter[tuple[Any, ...]]]:
        """Return the rows of every dataset below a folder, whatever run they are of."""
        found = {}
        for log in sorted((self.base / where).rglob("*.commits")):
            if not any(log.glob("*.json")):
                continue  # of a run that failed, the folder may be there
            name = str(log.relative_to(self.base / where)).removesuffix(".commits")
            frame = lp.scan(str(log).removesuffix(".commits")).collect()
            if frame.height:
                columns = sorted(c for c in frame.columns if c not in ("_lazypipe_run", "_lazypipe_file"))
                found[name] = Counter(map(told, frame.select(columns).rows()))
        for path in sorted((self.base / where).glob("[!.]*.*")):
            if path.suffix in (".csv", ".ndjson"):
                found[path.name] = Counter(path.read_text().splitlines())
            elif path.suffix.removeprefix(".") in EXPORTS:
                rows = EXPORTS[path.suffix.removeprefix(".")](path.read_bytes()).rows()
                found[path.name] = Counter(map(told, rows))
        return found


def told(row: tuple[Any, ...]) -> str:
    """Return a row as text: of the zeros that are one key, either may stand for it; last digits hang on the order of what is added up."""
    text = re.sub(r"-0\.0(?!\d)", "0.0", repr(row))
    return re.sub(r"\d+\.\d{9,}", lambda number: f"{float(number[0]):.12g}", text)


def exports(data: dict[str, Any]) -> set[str]:
    return {n for n, o in data["outputs"].items() if o.get("format") in EXPORTS}


def made_again(data: dict[str, Any]) -> set[str | None]:
    """Return the outputs that any run may make anew, though nothing has come: what rules about the clock judge, and what is made of that."""
    nodes = {**data["sources"], **data["stages"]}

    def looks_at_the_clock(name: str, seen: frozenset[str]) -> bool:
        said = str(nodes.get(name))
        if re.search("in_past|in_future|freshness", said):
            return True
        read = [n for n in nodes if n not in seen and f"'{n}'" in said]
        return any(looks_at_the_clock(n, seen | {n}) for n in read)

    made = {n: o.get("from", n) for n, o in data["outputs"].items()}
    return {*(n for n, stage in made.items() if looks_at_the_clock(stage, frozenset({stage}))), None}


def counts(result: lp.RunResult) -> dict[str, Any]:
    return {
        node: (
            g.rows,
            g.good,
            g.quarantined,
            g.dropped,
            [(c.id, c.evaluated, c.failed, c.repaired, measured(c.value), c.status) for c in g.checks],
        )
        for node, g in result.gates.items()
    }


def measured(value: Any) -> Any:
    """Return a figure without its last digits, which hang on the order in which it is added up."""
    return f"{value:.9g}" if isinstance(value, float) else value


def ended(result: lp.RunResult) -> dict[str, str]:
    """Return what became of each output; made anew or left as it is comes to the same."""
    named = {"unchanged": "done"}
    return {s.name: named.get(s.status, s.status) for s in result.segments if s.output is not None}


@given(data=pipelines(), actions=ACTIONS)
@settings(max_examples=EXAMPLES * 3 // 5)
def test_runs_that_do_what_is_needed_equal_one_full_run(
    data: dict[str, Any], actions: list[tuple[str, int, Any, bool]]
) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(data["scale"]):
        world = World(Path(folder), data)
        world.run("kept")
        for number, (action, index, rows, due) in enumerate(actions, 1):
            world.act(action, index, rows)
            if not due and number < len(actions):
                continue
            before = world.held("kept")
            result = world.run("kept", full=action == "full")
            fresh = world.run(f"fresh{number}")
            assert ended(result) == ended(fresh), (action, result.segments, fresh.segments)
            kept, anew = world.held("kept"), world.held(f"fresh{number}")
            if fresh.status == "done":
                assert kept == anew, (action, result.segments)
                again = world.run("kept")
                assert {s.status for s in again.segments if s.output not in made_again(data)} <= {"unchanged"}
                assert world.held("kept") == kept
            for name, status in ended(result).items():
                file = f"{name}.{data['outputs'][name]['format']}" if name in exports(data) else name
                # a gate that fails leaves what was there before
                assert kept.get(file) == (anew if status == "done" else before).get(file), (action, name, status)
            expected = counts(fresh)
            assert counts(result) == {n: expected[n] for n in counts(result)}


@given(data=pipelines(), actions=ACTIONS, most=st.integers(1, 2))
@settings(max_examples=EXAMPLES // 3)
def test_runs_that_take_a_part_at_a_time_come_to_the_same(
    data: dict[str, Any], actions: list[tuple[str, int, Any, bool]], most: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(data["scale"]):
        world = World(Path(folder), data)
        for number, (action, index, rows, due) in enumerate(actions, 1):
            world.act(action, index, rows)
            if not due and number < len(actions):
                continue
            left, runs = None, 0
            while left != 0 and runs < 50:
                result = world.run("kept", most)
                if result.status not in ("done", "unchanged"):
                    return  # a gate may fail over a part that passes over all
                got_on = any(s.status == "done" for s in result.segments)
                assert left is None or result.left < left or got_on, "no run is in vain"
                left, runs = result.left, runs + 1
        fresh = world.run("fresh")
        assert ended(result) == ended(fresh)
        assert world.held("kept") == world.held("fresh"), result.segments
        expected = counts(fresh)
        assert counts(result) == {n: expected[n] for n in counts(result)}
        again = world.run("kept", most)
        assert {s.status for s in again.segments if s.output not in made_again(data)} <= {"unchanged"}
