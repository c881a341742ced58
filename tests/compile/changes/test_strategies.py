"""How outputs are kept up to date, as derived from their operations and rules."""

from __future__ import annotations

from typing import Any

import pytest

import lazypipe as lp

COLUMNS = {"columns": {"x": "Int64", "k": "String", "t": "Datetime(us)"}}
N = {"n": "count(*)"}
NOT_ADDED = "its aggregates cannot be merged from partial ones; add by, so that only changed groups are recomputed"
SORTED = "it orders all rows; remove it, and sort where the output is read"
NOT_EQUAL = "s: sql: rows of b are not matched by equality of unchanged columns alone"
EVERY = "s: join: each row is paired with every row of b"
FOLDED = "reads new and changed files of a, with partial aggregates of s kept per file"
FOLDED_WHOLE = f"{FOLDED}, rewrites all rows from these (it has no grouping columns)"
FOLDED_BY_K = f"{FOLDED}, recomputes only groups by k that they touch"


def strategy(
    steps: list[Any], gate: list[Any] | None = None, source_gate: list[Any] | None = None, **output: Any
) -> str:
    data = {
        "version": 1,
        "name": "p",
        "sources": {
            "a": {"uri": "memory://none/a.csv", "contract": COLUMNS, "gate": source_gate or []},
            "b": {"uri": "memory://none/b.csv", "contract": COLUMNS},
        },
        "stages": {
            "nested": {"from": "b", "do": [{"derive": {"k": "string_to_array(k, ',')"}}]},
            "unsigned": {"from": "b", "do": [{"cast": {"x": "UInt64"}}]},
            "s": {"from": "a", "do": steps, "gate": gate or []},
        },
        "outputs": {"s": {"to": "memory://none/s", **output}},
    }
    return str(lp.Pipeline.from_dict(data).compile().strategies["s"])


BY_K = "reads new and changed files of a, recomputes only groups by k that they touch, from the files that hold rows of these groups"


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (
            [
                {"over": {"by": ["k", "t"], "columns": {"s": "sum(x)"}}},
                {"rank": {"as": "r", "order_by": "s", "by": "k"}},
            ],
            BY_K,
        ),
        (
            [{"over": {"by": "k", "columns": {"s": "sum(x)"}}}, {"rank": {"as": "r", "order_by": "s", "by": "t"}}],
            "full: s: rank can change any row (it works by t, and over by k; give both a column in common)",
        ),
        (
            [{"over": {"by": "k", "columns": {"s": "sum(x)"}}}, {"derive": {"k": "k || '!'"}}],
            "full: none of k is in the output unchanged",
        ),
        (
            [{"over": {"by": "k", "columns": {"s": "sum(x)"}}}, {"filter": "s > 1"}, {"rename": {"k": "g"}}],
            BY_K.replace("by k", "by g"),
        ),
        ([{"fill": {"columns": "x", "strategy": "forward", "order_by": "t", "by": "k"}}], BY_K),
        ([{"distinct": {"columns": "k", "keep": "none"}}], BY_K),
        (
            [{"window": {"time": "t", "every": "1h", "by": "k", "aggregate": {"m": "median(x)"}}}],
            BY_K.replace("k that", "k, window_start that"),
        ),
        ([{"session": {"time": "t", "gap": "1h", "by": "k", "max_length": "1d", "aggregate": N}}], BY_K),
        ([{"filter": "x > avg(x) OVER (PARTITION BY k)"}], BY_K),
        (
            [
                {"aggregate": {"by": ["k", "t"], "aggregate": N}},
                {"rank": {"as": "r", "order_by": "n", "by": "k"}},
                {"filter": "r < 3"},
            ],
            f"{FOLDED}, recomputes only groups by k that they touch",
        ),
        (
            [{"sort": ["x", "k", "t"]}, {"limit": 3}],
            f"{FOLDED}, rewrites all rows from these (s: limit can change any row (it needs all groups of sort))",
        ),
        (
            [{"sort": ["x"]}, {"limit": 3}],
            "full: s: sort can change any row (rows that tie have no order; order by k, t too)",
        ),
        (
            [{"limit": 3}],
            "full: s: limit can change any row (the order of rows is undefined; sort by all columns right before it)",
        ),
        (
            [{"sample": {"rows": 3}}],
            "full: s: sample can change any row (it draws from all rows; use a fraction, which is decided row by row)",
        ),
        (
            [{"rank": {"as": "r", "order_by": "x"}}],
            "full: s: rank can change any row (rank over all rows; partition it by unchanged columns (by, or PARTITION BY))",
        ),
        (
            [{"derive": {"y": "x - avg(x) OVER (PARTITION BY x + 1)"}}],
            "full: s: derive can change any row (OVER without an unchanged column; partition it by unchanged columns (by, or PARTITION BY))",
        ),
    ],
)
def test_rows_that_have_to_do_with_each_other_are_found_by_what_they_share(steps: list[Any], expected: str) -> None:
    assert strategy(steps) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT *, x + 1 AS y FROM a WHERE x > 1", "reads new and changed files of a"),
        ("SELECT a.x, b.t FROM a JOIN b ON a.k = b.k", "reads new and changed files of a; if b changes, rebuilds only what uses the changed keys"),
        ("SELECT a.x, b.t FROM a JOIN b ON a.k < b.k", f"reads new and changed files of a; if b changes, rebuilds everything ({NOT_EQUAL})"),
        ("SELECT x FROM a UNION ALL SELECT x FROM b", "reads new and changed files of a, b"),
        ("SELECT x FROM a UNION SELECT x FROM b", "full: s: sql can change any row (DISTINCT without an unchanged column)"),
        (
            "SELECT a.x, e.n FROM a LEFT JOIN (SELECT k, count(*) AS n FROM b GROUP BY k) AS e ON a.k = e.k",
            "reads new and changed files of a; if b changes, rebuilds only what uses the changed keys",
        ),
        (
            "SELECT a.x, e.n FROM a LEFT JOIN (SELECT x, max(k) AS k, count(*) AS n FROM b GROUP BY x) AS e ON a.k = e.k",
            f"reads new and changed files of a; if b changes, rebuilds everything ({NOT_EQUAL})",
        ),
        ("SELECT k, median(x) AS s FROM a GROUP BY k", BY_K),
        (
            "SELECT k, sum(x) AS s FROM a GROUP BY k",
            "reads new and changed files of a, with partial aggregates of s kept per file, recomputes only groups by k that they touch",
        ),
        ("SELECT * FROM a UNION ALL SELECT x, k, t FROM b", "reads new and changed files of a, b"),
        (
            "WITH t AS (SELECT x, k FROM a), e AS (SELECT k FROM b) SELECT t.x FROM t JOIN e ON t.k = e.k",
            "full: s: sql can change any row (the file of each row cannot be traced)",
        ),
        (
            "WITH e AS (SELECT k AS j FROM c), u AS (SELECT x, k, t FROM b) SELECT * FROM a, e UNION ALL SELECT *, k AS j FROM u",
            "full: s: sql can change any row (the file of each row cannot be traced)",
        ),
        ("SELECT x, k FROM a ORDER BY x", "full: s: sql can change any row (ORDER BY; remove it, and sort where the output is read)"),
        ("SELECT x, k FROM a LIMIT 5", "full: s: sql can change any row (LIMIT; it needs ORDER BY all columns that are selected, and no other)"),
        ("SELECT sum(x) AS s FROM a GROUP BY k", "full: s: sql can change any row (it does not give k unchanged, which it groups by; select it too)"),
        ("SELECT k FROM b", "full: s: sql can change any row (its rows are not made from those before it)"),
        (
            "SELECT x FROM a UNION ALL SELECT y AS x FROM (SELECT x + 1 AS y FROM b) AS e",
            "reads new and changed files of a, b",
        ),
        ("SELECT k, unnest(string_to_array(k, ',')) AS w FROM a", "reads new and changed files of a"),
    ],
)  # fmt: skip
def test_queries_are_followed_by_their_plans(query: str, expected: str) -> None:
    reads = [n for n in ("a", "b", "c") if f"FROM {n}" in query or f"JOIN {n}" in query or n == "a"]
    data = {
        "version": 1,
        "name": "p",
        "sources": {n: {"uri": f"memory://none/{n}.csv", "contract": COLUMNS} for n in reads},
        "stages": {"s": {"from": reads, "do": [{"sql": query}]}},
        "outputs": {"s": {"to": "memory://none/s"}},
    }
    assert str(lp.Pipeline.from_dict(data).compile().strategies["s"]) == expected


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], "reads new and changed files of a"),
        ([{"filter": "x > 1"}, {"derive": {"y": "x + 1"}}], "reads new and changed files of a"),
        ([{"union": "b"}], "reads new and changed files of a, b"),
        (
            [{"join": {"with": "b", "on": "k", "columns": {"x": "y"}}}],
            "reads new and changed files of a; if b changes, rebuilds only what uses the changed keys",
        ),
        (
            [{"join": {"with": "b", "on": "k", "how": "right"}}],
            f"{BY_K}; if b changes, rebuilds only what uses the changed keys",
        ),
        (
            [{"join": {"with": "b", "on": "k", "how": "full"}}],
            f"{BY_K}; if b changes, rebuilds only what uses the changed keys",
        ),
        (
            [{"join": {"with": "b", "on": "k", "validate": "1:m"}}],
            f"{BY_K}; if b changes, rebuilds only what uses the changed keys",
        ),
        (
            [{"cast": {"x": "Int32"}}, {"join": {"with": "b", "on": "x", "how": "full"}}],
            f"{BY_K.replace('by k', 'by x')}; if b changes, rebuilds only what uses the changed keys",
        ),
        (
            [{"cast": {"x": "Int32"}}, {"join": {"with": "b", "on": "x", "columns": ["t"]}}],
            "reads new and changed files of a; if b changes, rebuilds only what uses the changed keys",
        ),
        (
            [{"rank": {"as": "r", "order_by": "x", "by": "k"}}, {"join": {"with": "b", "on": "k"}}],
            f"{BY_K}; if b changes, rebuilds everything (s: it is looked up after rank, which works by group; look it up before that)",
        ),
        (
            [{"rank": {"as": "r", "order_by": "x", "by": "k"}}, {"join": {"with": "b", "on": "k", "how": "full"}}],
            "full: s: join can change any row (it follows rank, which works by group; write s up to there as an output of its own)",
        ),
        (
            [{"cast": {"x": "UInt128"}}, {"join": {"with": "unsigned", "on": "x", "columns": ["t"]}}],
            "reads new and changed files of a; if b changes, rebuilds only what uses the changed keys",
        ),
        (
            [{"join": {"with": "unsigned", "on": "x", "how": "full"}}],
            "full: s: join can change any row (its keys are Int64 here and UInt64 there; cast one of them first)",
        ),
        (
            [{"join": {"with": "b", "how": "cross"}}],
            f"reads new and changed files of a; if b changes, rebuilds everything ({EVERY})",
        ),
        (
            [{"derive": {"k": "string_to_array(k, ',')"}}, {"join": {"with": "nested", "on": "k"}}],
            "reads new and changed files of a; if b changes, rebuilds everything (s: join: its keys are nested values)",
        ),
        (
            [{"join": {"with": "b", "on": "k", "how": "semi"}}, {"join": {"with": "b", "how": "cross"}}],
            f"reads new and changed files of a; if b changes, rebuilds everything ({EVERY})",
        ),
        (
            [{"aggregate": {"by": "k", "aggregate": N}}, {"join": {"with": "b", "on": "k"}}],
            f"{FOLDED}, recomputes only groups by k that they touch; if b changes, rebuilds only what uses the changed keys",
        ),
        (
            [
                {"aggregate": {"aggregate": N}},
                {"cast": {"n": "Int64"}},
                {"join": {"with": "b", "left_on": "n", "right_on": "x"}},
            ],
            f"{FOLDED_WHOLE}; if b changes, rebuilds everything computed from the partial aggregates",
        ),
        ([{"sort": ["x"]}], f"full: s: sort can change any row ({SORTED})"),
        (
            [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}],
            "reads new and changed files of a, with partial aggregates of s kept per file, recomputes only groups by k that they touch",
        ),
        (
            [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}, {"rename": {"k": "g"}}, {"filter": "n > 1"}],
            "reads new and changed files of a, with partial aggregates of s kept per file, recomputes only groups by g that they touch",
        ),
        (
            [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}, {"sort": ["k"]}],
            f"{FOLDED}, rewrites all rows from these (s: sort can change any row (it needs all groups of aggregate))",
        ),
        (
            [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}, {"derive": {"k": "k || '!'"}}],
            f"{FOLDED}, rewrites all rows from these (none of k is in the output unchanged)",
        ),
        (
            [{"aggregate": {"aggregate": {"n": "count(*)"}}}],
            f"{FOLDED}, rewrites all rows from these (it has no grouping columns)",
        ),
        (
            [{"derive": {"l": "string_to_array(k, ',')"}}, {"distinct": ["l"]}],
            f"{FOLDED}, rewrites all rows from these (its grouping columns are nested)",
        ),
        ([{"aggregate": {"aggregate": {"m": "median(x)"}}}], f"full: s: aggregate can change any row ({NOT_ADDED})"),
        (
            [{"window": {"time": "t", "every": "1h", "by": "k", "aggregate": N}}],
            f"{FOLDED}, recomputes only groups by k, window_start that they touch",
        ),
        (
            [{"window": {"time": "t", "every": "1mo", "period": "1q", "by": "k", "aggregate": N}}],
            FOLDED_BY_K.replace(" that", ", window_start that"),
        ),
        (
            [{"window": {"time": "t", "every": ["1h", "1d"], "aggregate": N}}, {"filter": "n > 1"}],
            f"{FOLDED}, recomputes only groups by window, window_start that they touch",
        ),
        (
            [{"session": {"time": "t", "gap": "1h", "by": "k", "aggregate": N}}],
            f"{FOLDED}, recomputes only groups by k, session_start that they touch",
        ),
        (
            [{"window": {"time": "t", "every": "1h", "aggregate": {"m": "median(x)"}}}],
            "reads new and changed files of a, recomputes only groups by window_start that they touch, from the files that hold rows of these groups",
        ),
        (
            [{"session": {"time": "t", "gap": "1h", "max_length": "1d", "aggregate": N}}],
            f"full: s: session can change any row ({NOT_ADDED})",
        ),
        (
            [{"interval_join": {"with": "b", "time": "t", "within": ["-1h", "0s"], "by": "k"}}],
            "reads new and changed files of a and files whose rows change with b",
        ),
        # what is read twice is kept as files, for the run only, and its rows know their unit
        ([{"union": "b"}, {"union": "b"}], "reads new and changed files of a, b"),
        ([{"union": "a"}, {"union": "b"}], "reads new and changed files of a, b"),
        (
            [{"join": {"with": "a", "on": "k", "how": "semi"}}],
            "full: a is read both row by row and in full; write what is looked up as an output of its own",
        ),
    ],
)
def test_operations_decide(steps: list[Any], expected: str) -> None:
    assert strategy(steps) == expected


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ([{"not_null": {"columns": "x", "action": "quarantine"}}, {"unique": "x"}], "reads new and changed files of a"),
        ([{"unique": {"columns": "x", "action": "warn"}}], "reads new and changed files of a"),
        (
            [{"unique": {"columns": "x", "action": "drop"}}],
            "full: s: unique:x removes rows depending on other rows",
        ),
        (
            [{"not_null": {"columns": "x", "action": "quarantine"}}, {"unique": {"columns": "x", "action": "warn"}}],
            "full: s: unique:x is among the reasons that quarantined rows carry, and depends on other rows",
        ),
        (
            [{"not_null": {"columns": "x", "action": "quarantine"}}, {"unique": {"columns": "x", "max_failures": 3}}],
            "full: s: unique:x is among the reasons that quarantined rows carry, and depends on other rows",
        ),
        (
            [{"not_null": {"columns": "x", "action": "drop"}}, {"unique": "x"}],
            "reads new and changed files of a, with hashed keys kept for s.unique:x",
        ),
        ([{"sum": {"column": "x", "max": 9}}], "reads new and changed files of a"),
        (
            [{"foreign_key": {"columns": "k", "references": {"to": "b", "column": "k"}}}],
            "reads new and changed files of a; if b changes, rebuilds only what uses the changed keys",
        ),
        (
            [{"between": {"column": "x", "min": 1, "action": "repair", "repair": {"previous": ["x"]}}}],
            "full: s: a repair takes values from other rows",
        ),
        (
            [{"not_null": "k"}, {"increasing": {"column": "x", "order_by": "k", "action": "warn"}}],
            "full: s: increasing:x compares rows with other rows",
        ),
        (
            [{"expression": {"condition": "x > avg(x)", "action": "quarantine"}}],
            "full: s: expression:x > avg(x) compares rows with other rows",
        ),
        (
            [{"sum": {"column": "x", "max": 9, "where": "x < max(x)"}}],
            "full: s: sum:x compares rows with other rows",
        ),
        (
            [{"decreasing": {"column": "x", "order_by": "k", "action": "repair", "repair": {"null": True}}}],
            "full: s: a repair takes values from other rows",
        ),
    ],
)
def test_gates_decide(gate: list[Any], expected: str) -> None:
    assert strategy([], gate) == expected


def test_keys_ahead_of_other_steps_are_kept_as_hashes() -> None:
    assert (
        strategy([], [], [{"unique": "x"}]) == "reads new and changed files of a, with hashed keys kept for a.unique:x"
    )
    nested = [{"derive": {"l": "string_to_array(k, ',')"}}]
    gate = [{"unique": "l"}, {"not_null": {"columns": "x", "action": "drop"}}]
    assert strategy(nested, gate) == "full: s: unique:l compares nested values"


def test_figures_of_all_rows_stand_at_the_end() -> None:
    assert (
        strategy([], [], [{"sum": {"column": "x", "max": 9}}])
        == "full: a: sum:x needs all rows; move it to the gate of the stage that is written"
    )


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"format": "csv", "to": "memory://none/s.csv"}, "full: one csv file is written in full"),
        ({"mode": "append"}, "reads new and changed files of a"),
        ({"mode": "upsert", "key": "k"}, "reads new and changed files of a"),
        ({"mode": "scd2", "key": "k"}, "reads new and changed files of a"),
        (
            {"mode": "scd2", "key": "k", "deletes": "close"},
            "full: mode: scd2 with deletes: close compares all rows with the existing ones",
        ),
        ({"mode": "snapshot"}, "full: mode: snapshot keeps all rows of each run"),
        (
            {"mode": "replace_partitions", "partition_by": "k"},
            "full: mode: replace_partitions replaces whole partitions",
        ),
    ],
)
def test_outputs_decide(output: dict[str, Any], expected: str) -> None:
    assert strategy([], **output) == expected


def shared(first: dict[str, Any], gate: list[Any] | None = None) -> lp.Plan:
    """Return a pipeline of which two outputs read one stage that is kept for the run."""
    data = {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "memory://none/a.csv", "contract": COLUMNS, "gate": gate or []}},
        "stages": {"m": {"from": "a", "do": [first]}, "s": {"from": "m"}, "t": {"from": "m", "do": [{"sort": ["x"]}]}},
        "outputs": {"s": {"to": "memory://none/s"}, "t": {"to": "memory://none/t"}},
    }
    return lp.Pipeline.from_dict(data).compile()


def test_what_is_kept_for_a_run_is_read_by_units_or_says_why_not() -> None:
    plan = shared({"filter": "x > 1"}, [{"unique": "x"}])
    assert (
        plan.explain_incremental()
        == f"s: reads new and changed files of a\nt: full: t: sort can change any row ({SORTED})"
    )
    assert str(plan.inner["m"]) == "reads new and changed files of a, with hashed keys kept for a.unique:x"
    plan = shared({"aggregate": {"by": "k", "aggregate": {"x": "count(*)"}}})
    assert str(plan.strategies["s"]) == (
        "full: m: several stages read it, so its groups are rebuilt in every run; write it as an output of its own"
    )
    plan = shared({"sort": ["x"]})
    assert str(plan.strategies["s"]) == f"full: m: sort can change any row ({SORTED})"
    plan = shared({"filter": "x > 1"}, [{"sum": {"column": "x", "max": 9}}])
    assert (
        str(plan.strategies["s"]) == "full: a: sum:x needs all rows; move it to the gate of the stage that is written"
    )


@pytest.mark.parametrize(
    ("stages", "why"),
    [
        ([[{"between": {"column": "n", "min": 1, "action": "drop"}}]], "s: between:n removes rows, or changes them"),
        ([[{"between": {"column": "n", "min": 1}}], []], "s: between:n checks rows that are not all in the output"),
    ],
)
def test_gates_behind_groups_decide(stages: list[list[Any]], why: str) -> None:
    data: dict[str, Any] = {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "memory://none/a.csv", "contract": COLUMNS}},
        "stages": {"s": {"from": "a", "do": [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}]}},
        "outputs": {"end": {"to": "memory://none/end"}},
    }
    data["stages"]["s"]["gate"] = stages[0]
    data["stages"]["end"] = {"from": "s", "do": [{"filter": "n > 2"}]}
    if len(stages) == 1:
        data["outputs"] = {"s": {"to": "memory://none/s"}}
    (strategy,) = lp.Pipeline.from_dict(data).compile().strategies.values()
    assert str(strategy) == f"{FOLDED}, rewrites all rows from these ({why})"
