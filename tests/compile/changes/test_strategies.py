"""How outputs are kept up to date, as derived from their operations and rules."""

from __future__ import annotations

from typing import Any

import pytest

import lazypipe as lp

COLUMNS = {"columns": {"x": "Int64", "k": "String", "t": "Datetime(us)"}}
N = {"n": "count(*)"}
NOT_ADDED = "it is not made of figures that add up file by file; give it by columns, by which it goes then"
SORTED = "it promises the order of all rows; leave it out, for whoever reads the output can sort"
NOT_EQUAL = "s: sql: rows do not find those of b by equal columns alone that both have as they are"
EVERY = "s: join: each row is put beside every row of b"
FOLDED = "by the files of a, from the figures of s that are kept of each"
FOLDED_WHOLE = f"{FOLDED}, all rows made anew of these (no columns tell its groups apart)"
FOLDED_BY_K = f"{FOLDED}, only those rows made anew whose k they touch"


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


BY_K = "by the files of a, only those rows made anew whose k they touch, of the files that hold such rows"


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
            "full: s: rank can change any row (its rows go by t, those of over by k; let both go by a column that they share)",
        ),
        (
            [{"over": {"by": "k", "columns": {"s": "sum(x)"}}}, {"derive": {"k": "k || '!'"}}],
            "full: none of k is in the output as it is",
        ),
        (
            [{"over": {"by": "k", "columns": {"s": "sum(x)"}}}, {"filter": "s > 1"}, {"rename": {"k": "g"}}],
            BY_K.replace("whose k", "whose g"),
        ),
        ([{"fill": {"columns": "x", "strategy": "forward", "order_by": "t", "by": "k"}}], BY_K),
        ([{"distinct": {"columns": "k", "keep": "none"}}], BY_K),
        (
            [{"window": {"time": "t", "every": "1h", "by": "k", "aggregate": {"m": "median(x)"}}}],
            BY_K.replace("k they", "k, window_start they"),
        ),
        ([{"session": {"time": "t", "gap": "1h", "by": "k", "max_length": "1d", "aggregate": N}}], BY_K),
        ([{"filter": "x > avg(x) OVER (PARTITION BY k)"}], BY_K),
        (
            [
                {"aggregate": {"by": ["k", "t"], "aggregate": N}},
                {"rank": {"as": "r", "order_by": "n", "by": "k"}},
                {"filter": "r < 3"},
            ],
            f"{FOLDED}, only those rows made anew whose k they touch",
        ),
        (
            [{"sort": ["x", "k", "t"]}, {"limit": 3}],
            f"{FOLDED}, all rows made anew of these (s: limit can change any row (it goes over all groups of sort))",
        ),
        (
            [{"sort": ["x"]}, {"limit": 3}],
            "full: s: sort can change any row (of rows that it leaves equal, any may come first; order by k, t too)",
        ),
        (
            [{"limit": 3}],
            "full: s: limit can change any row (which rows come first is not said; sort by all columns right before it)",
        ),
        (
            [{"sample": {"rows": 3}}],
            "full: s: sample can change any row (it draws of all rows; take a fraction, which is a matter of each row)",
        ),
        (
            [{"rank": {"as": "r", "order_by": "x"}}],
            "full: s: rank can change any row (rank over all rows; let it go by columns as they are (by, or PARTITION BY))",
        ),
        (
            [{"derive": {"y": "x - avg(x) OVER (PARTITION BY x + 1)"}}],
            "full: s: derive can change any row (OVER without a column that is as it was; let it go by columns as they are (by, or PARTITION BY))",
        ),
    ],
)
def test_rows_that_have_to_do_with_each_other_are_found_by_what_they_share(steps: list[Any], expected: str) -> None:
    assert strategy(steps) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT *, x + 1 AS y FROM a WHERE x > 1", "by the files of a"),
        ("SELECT a.x, b.t FROM a JOIN b ON a.k = b.k", "by the files of a; those with changed keys if b changes"),
        ("SELECT a.x, b.t FROM a JOIN b ON a.k < b.k", f"by the files of a; all of it if b changes ({NOT_EQUAL})"),
        ("SELECT x FROM a UNION ALL SELECT x FROM b", "by the files of a, b"),
        ("SELECT x FROM a UNION SELECT x FROM b", "full: s: sql can change any row (DISTINCT without a column that is as it was)"),
        (
            "SELECT a.x, e.n FROM a LEFT JOIN (SELECT k, count(*) AS n FROM b GROUP BY k) AS e ON a.k = e.k",
            "by the files of a; those with changed keys if b changes",
        ),
        (
            "SELECT a.x, e.n FROM a LEFT JOIN (SELECT x, max(k) AS k, count(*) AS n FROM b GROUP BY x) AS e ON a.k = e.k",
            f"by the files of a; all of it if b changes ({NOT_EQUAL})",
        ),
        ("SELECT k, median(x) AS s FROM a GROUP BY k", BY_K),
        (
            "SELECT k, sum(x) AS s FROM a GROUP BY k",
            "by the files of a, from the figures of s that are kept of each, only those rows made anew whose k they touch",
        ),
        ("SELECT * FROM a UNION ALL SELECT x, k, t FROM b", "by the files of a, b"),
        (
            "WITH t AS (SELECT x, k FROM a), e AS (SELECT k FROM b) SELECT t.x FROM t JOIN e ON t.k = e.k",
            "full: s: sql can change any row (the file of each row cannot be told)",
        ),
        (
            "WITH e AS (SELECT k AS j FROM c), u AS (SELECT x, k, t FROM b) SELECT * FROM a, e UNION ALL SELECT *, k AS j FROM u",
            "full: s: sql can change any row (the file of each row cannot be told)",
        ),
        ("SELECT x, k FROM a ORDER BY x", "full: s: sql can change any row (ORDER BY; leave it out, for whoever reads the output can sort)"),
        ("SELECT x, k FROM a LIMIT 5", "full: s: sql can change any row (LIMIT; it needs ORDER BY all columns that are selected, and no other)"),
        ("SELECT sum(x) AS s FROM a GROUP BY k", "full: s: sql can change any row (it does not give k as it is, which its rows go by; select it too)"),
        ("SELECT k FROM b", "full: s: sql can change any row (its rows are not those ahead of it)"),
        (
            "SELECT x FROM a UNION ALL SELECT y AS x FROM (SELECT x + 1 AS y FROM b) AS e",
            "by the files of a, b",
        ),
        ("SELECT k, unnest(string_to_array(k, ',')) AS w FROM a", "by the files of a"),
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
        ([], "by the files of a"),
        ([{"filter": "x > 1"}, {"derive": {"y": "x + 1"}}], "by the files of a"),
        ([{"union": "b"}], "by the files of a, b"),
        (
            [{"join": {"with": "b", "on": "k", "columns": {"x": "y"}}}],
            "by the files of a; those with changed keys if b changes",
        ),
        ([{"join": {"with": "b", "on": "k", "how": "right"}}], f"{BY_K}; those with changed keys if b changes"),
        ([{"join": {"with": "b", "on": "k", "how": "full"}}], f"{BY_K}; those with changed keys if b changes"),
        ([{"join": {"with": "b", "on": "k", "validate": "1:m"}}], f"{BY_K}; those with changed keys if b changes"),
        (
            [{"cast": {"x": "Int32"}}, {"join": {"with": "b", "on": "x", "how": "full"}}],
            f"{BY_K.replace('whose k', 'whose x')}; those with changed keys if b changes",
        ),
        (
            [{"cast": {"x": "Int32"}}, {"join": {"with": "b", "on": "x", "columns": ["t"]}}],
            "by the files of a; those with changed keys if b changes",
        ),
        (
            [{"rank": {"as": "r", "order_by": "x", "by": "k"}}, {"join": {"with": "b", "on": "k"}}],
            f"{BY_K}; all of it if b changes (s: it is looked up behind rank, which goes by groups; look it up ahead of that)",
        ),
        (
            [{"rank": {"as": "r", "order_by": "x", "by": "k"}}, {"join": {"with": "b", "on": "k", "how": "full"}}],
            "full: s: join can change any row (it stands behind rank, which goes by groups; write what s is up to there as an output of its own)",
        ),
        (
            [{"cast": {"x": "UInt128"}}, {"join": {"with": "unsigned", "on": "x", "columns": ["t"]}}],
            "by the files of a; those with changed keys if b changes",
        ),
        (
            [{"join": {"with": "unsigned", "on": "x", "how": "full"}}],
            "full: s: join can change any row (its keys are Int64 here and UInt64 there; cast one of them first)",
        ),
        ([{"join": {"with": "b", "how": "cross"}}], f"by the files of a; all of it if b changes ({EVERY})"),
        (
            [{"derive": {"k": "string_to_array(k, ',')"}}, {"join": {"with": "nested", "on": "k"}}],
            "by the files of a; all of it if b changes (s: join: its keys are nested values)",
        ),
        (
            [{"join": {"with": "b", "on": "k", "how": "semi"}}, {"join": {"with": "b", "how": "cross"}}],
            f"by the files of a; all of it if b changes ({EVERY})",
        ),
        (
            [{"aggregate": {"by": "k", "aggregate": N}}, {"join": {"with": "b", "on": "k"}}],
            f"{FOLDED}, only those rows made anew whose k they touch; those with changed keys if b changes",
        ),
        (
            [
                {"aggregate": {"aggregate": N}},
                {"cast": {"n": "Int64"}},
                {"join": {"with": "b", "left_on": "n", "right_on": "x"}},
            ],
            f"{FOLDED_WHOLE}; what is made of the figures if b changes",
        ),
        ([{"sort": ["x"]}], f"full: s: sort can change any row ({SORTED})"),
        (
            [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}],
            "by the files of a, from the figures of s that are kept of each, only those rows made anew whose k they touch",
        ),
        (
            [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}, {"rename": {"k": "g"}}, {"filter": "n > 1"}],
            "by the files of a, from the figures of s that are kept of each, only those rows made anew whose g they touch",
        ),
        (
            [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}, {"sort": ["k"]}],
            f"{FOLDED}, all rows made anew of these (s: sort can change any row (it goes over all groups of aggregate))",
        ),
        (
            [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}, {"derive": {"k": "k || '!'"}}],
            f"{FOLDED}, all rows made anew of these (none of k is in the output as it is)",
        ),
        (
            [{"aggregate": {"aggregate": {"n": "count(*)"}}}],
            f"{FOLDED}, all rows made anew of these (no columns tell its groups apart)",
        ),
        (
            [{"derive": {"l": "string_to_array(k, ',')"}}, {"distinct": ["l"]}],
            f"{FOLDED}, all rows made anew of these (groups are told apart by nested values)",
        ),
        ([{"aggregate": {"aggregate": {"m": "median(x)"}}}], f"full: s: aggregate can change any row ({NOT_ADDED})"),
        (
            [{"window": {"time": "t", "every": "1h", "by": "k", "aggregate": N}}],
            f"{FOLDED}, only those rows made anew whose k, window_start they touch",
        ),
        (
            [{"window": {"time": "t", "every": "1mo", "period": "1q", "by": "k", "aggregate": N}}],
            FOLDED_BY_K.replace(" they", ", window_start they"),
        ),
        (
            [{"window": {"time": "t", "every": ["1h", "1d"], "aggregate": N}}, {"filter": "n > 1"}],
            f"{FOLDED}, only those rows made anew whose window, window_start they touch",
        ),
        (
            [{"session": {"time": "t", "gap": "1h", "by": "k", "aggregate": N}}],
            f"{FOLDED}, only those rows made anew whose k, session_start they touch",
        ),
        (
            [{"window": {"time": "t", "every": "1h", "aggregate": {"m": "median(x)"}}}],
            "by the files of a, only those rows made anew whose window_start they touch, of the files that hold such rows",
        ),
        (
            [{"session": {"time": "t", "gap": "1h", "max_length": "1d", "aggregate": N}}],
            f"full: s: session can change any row ({NOT_ADDED})",
        ),
        (
            [{"interval_join": {"with": "b", "time": "t", "within": ["-1h", "0s"], "by": "k"}}],
            "by the files of a and those reached by what changes in b",
        ),
        # what is read twice is kept as files, for the run only, and its rows know their unit
        ([{"union": "b"}, {"union": "b"}], "by the files of a, b"),
        ([{"union": "a"}, {"union": "b"}], "by the files of a, b"),
        (
            [{"join": {"with": "a", "on": "k", "how": "semi"}}],
            "full: a is read row by row, and also as a whole; write what is looked up as an output of its own",
        ),
    ],
)
def test_operations_decide(steps: list[Any], expected: str) -> None:
    assert strategy(steps) == expected


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ([{"not_null": {"columns": "x", "action": "quarantine"}}, {"unique": "x"}], "by the files of a"),
        ([{"unique": {"columns": "x", "action": "warn"}}], "by the files of a"),
        (
            [{"unique": {"columns": "x", "action": "drop"}}],
            "full: s: unique:x takes rows out by what stands in others",
        ),
        (
            [{"not_null": {"columns": "x", "action": "quarantine"}}, {"unique": {"columns": "x", "action": "warn"}}],
            "full: s: unique:x is among the reasons of rows put aside, by what stands in others",
        ),
        (
            [{"not_null": {"columns": "x", "action": "quarantine"}}, {"unique": {"columns": "x", "max_failures": 3}}],
            "full: s: unique:x is among the reasons of rows put aside, by what stands in others",
        ),
        (
            [{"not_null": {"columns": "x", "action": "drop"}}, {"unique": "x"}],
            "by the files of a, with the hashed keys of s.unique:x",
        ),
        ([{"sum": {"column": "x", "max": 9}}], "by the files of a"),
        (
            [{"foreign_key": {"columns": "k", "references": {"to": "b", "column": "k"}}}],
            "by the files of a; those with changed keys if b changes",
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
    assert strategy([], [], [{"unique": "x"}]) == "by the files of a, with the hashed keys of a.unique:x"
    nested = [{"derive": {"l": "string_to_array(k, ',')"}}]
    gate = [{"unique": "l"}, {"not_null": {"columns": "x", "action": "drop"}}]
    assert strategy(nested, gate) == "full: s: unique:l compares nested values"


def test_figures_of_all_rows_stand_at_the_end() -> None:
    assert (
        strategy([], [], [{"sum": {"column": "x", "max": 9}}])
        == "full: a: sum:x is a matter of all rows; put it at the gate of what is written"
    )


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"format": "csv", "to": "memory://none/s.csv"}, "full: one csv file is written"),
        ({"mode": "append"}, "by the files of a"),
        ({"mode": "upsert", "key": "k"}, "by the files of a"),
        ({"mode": "scd2", "key": "k"}, "by the files of a"),
        (
            {"mode": "scd2", "key": "k", "deletes": "close"},
            "full: mode: scd2 with deletes: close compares all rows with those that are there",
        ),
        ({"mode": "snapshot"}, "full: mode: snapshot keeps all rows of each run"),
        (
            {"mode": "replace_partitions", "partition_by": "k"},
            "full: mode: replace_partitions gives whole partitions",
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
    assert plan.explain_incremental() == f"s: by the files of a\nt: full: t: sort can change any row ({SORTED})"
    assert str(plan.inner["m"]) == "by the files of a, with the hashed keys of a.unique:x"
    plan = shared({"aggregate": {"by": "k", "aggregate": {"x": "count(*)"}}})
    assert str(plan.strategies["s"]) == (
        "full: m: its groups are made anew for each run, as several read it; write it as an output of its own"
    )
    plan = shared({"sort": ["x"]})
    assert str(plan.strategies["s"]) == f"full: m: sort can change any row ({SORTED})"
    plan = shared({"filter": "x > 1"}, [{"sum": {"column": "x", "max": 9}}])
    assert str(plan.strategies["s"]) == "full: a: sum:x is a matter of all rows; put it at the gate of what is written"


@pytest.mark.parametrize(
    ("stages", "why"),
    [
        ([[{"between": {"column": "n", "min": 1, "action": "drop"}}]], "s: between:n takes rows out, or changes them"),
        ([[{"between": {"column": "n", "min": 1}}], []], "s: between:n judges rows that are not all in the output"),
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
    assert str(strategy) == f"{FOLDED}, all rows made anew of these ({why})"
