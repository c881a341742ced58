"""Fingerprints of random pipelines: what is only written in another way is the same, and what gives other rows is not.

The oracle is Polars itself: wherever two stages have the same hash of their rows, they are run, and must have the same rows in
all columns whose hashes are the same, whatever these are called.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.spec.types import dtype_name

T = pl.DataFrame(
    {
        "g": ["a", "b", "a", None, "c", "b", "a", "c", "a", "b"],
        "k": [1, 2, 2, 3, None, 1, 5, 2, 2, 1],
        "x": [5, -3, 5, 0, 7, 7, None, 2, -3, 9],
        "y": [0.5, -1.25, None, 3.0, 1e16, 1.0, -1e16, 0.1, 0.2, 0.3],
        "s": ["one", "Two", "", None, "o", "two", "ONE", "x y", "one", "z"],
        "d": pl.Series(
            ["2024-01-01", "2024-02-29", "2024-01-01", None, "2023-12-31", "2024-03-01"] + ["2024-01-02"] * 4
        ).str.to_date("%Y-%m-%d"),
        "l": [[1, 2], [], None, [3], [4, 5, 6], [1], [2, 2], [None], [7], [8]],
    }
)
U = pl.DataFrame({"k": [1, 2, 2, 4, None], "w": [10, 20, 21, 40, 50], "g": ["a", "b", "c", "a", None]})

CONDITIONS = ["x > 0", "x > 1", "x >= 0", "y < 1.0", "k IS NOT NULL", "g = 'a'", "g <> 'a'", "s LIKE 'o%'", "x > k", "k > x", "g IN ('a', 'b')",
              "g IN ('a', 'c')", "x > 0 OR y > 0", "NOT (x > 0)", "d >= DATE '2024-01-01'", "x > avg(x)", "x BETWEEN 0 AND 5"]  # fmt: skip
EXPRESSIONS = ["x + 1", "1 + x", "x + 2", "x + 1.0", "x - k", "k - x", "x * y", "y * x", "upper(s)", "lower(s)", "length(s)", "s || g", "g || s",
               "coalesce(x, 0)", "coalesce(x, k)", "coalesce(k, x)", "CASE WHEN x > 0 THEN x ELSE k END", "CASE WHEN x > 0 THEN k ELSE x END",
               "abs(x)", "x / 2", "x % 3", "x", "k", "sum(x)", "avg(y)", "y - avg(y)", "count(*)", "max(x)", "min(x)", "date_part('month', d)",
               "date_part('day', d)", "x::double", "x::string", "round(y, 1)", "round(y, 2)", "substr(s, 1, 1)", "substr(s, 1, 2)", "'1'", "1",
               "1.0", "NULL::bigint"]  # fmt: skip
AGGREGATES = ["count(*)", "count(x)", "sum(x)", "sum(y)", "avg(x)", "avg(y)", "min(x)", "max(x)", "first(x)", "last(x)", "first(s)",
              "count(DISTINCT g)", "sum(x) + 1", "sum(x + 1)", "stddev(x)", "median(x)", "max(k)"]  # fmt: skip
SORTS: list[Any] = [["x"], ["x DESC"], ["x NULLS FIRST"], ["k", "x"], ["x", "k"], ["s"], ["y DESC", "s"]]
Step = dict[str, Any]
Pipe = list[list[Step]]

steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(lambda c: {"filter": c}, st.sampled_from(CONDITIONS)),
    st.builds(lambda c, d: {"filter": f"{c} AND {d}"}, st.sampled_from(CONDITIONS[:9]), st.sampled_from(CONDITIONS[:9])),
    st.builds(lambda n, e: {"derive": {n: e}}, st.sampled_from(["x", "n", "m"]), st.sampled_from(EXPRESSIONS)),
    st.builds(
        lambda e, f: {"derive": {"n": e, "m": f}}, st.sampled_from(EXPRESSIONS), st.sampled_from(EXPRESSIONS)
    ),
    st.builds(lambda b: {"sort": b}, st.sampled_from(SORTS)),
    st.builds(lambda n, o: {"limit": {"rows": n, "offset": o}}, st.integers(2, 6), st.integers(0, 2)),
    st.builds(
        lambda how, suffix: {"join": {"with": "u", "on": "k", "how": how, "suffix": suffix}},
        st.sampled_from(["inner", "left", "full", "right"]), st.sampled_from(["_u", "_v"]),
    ),
    st.builds(lambda how, on: {"join": {"with": "u", "on": on, "how": how}}, st.sampled_from(["semi", "anti"]), st.sampled_from(["k", "g"])),
    st.builds(
        lambda columns: {"join": {"with": "u", "on": "k", "how": "left", "columns": columns}},
        st.sampled_from([{"w": "n"}, {"w": "m"}, {"g": "n"}, {"w": "n", "g": "m"}]),
    ),
    st.builds(
        lambda by, a, b: {"aggregate": {"by": by, "aggregate": {"x": a, "y": b}}},
        st.sampled_from([["g"], ["k"], ["g", "k"], ["k", "g"]]), st.sampled_from(AGGREGATES), st.sampled_from(AGGREGATES),
    ),
    st.builds(
        lambda by, keep: {"distinct": {"by": by, "keep": keep}} if keep == "any" else {"distinct": {"by": by, "keep": keep, "order": ["x", "s"]}},
        st.sampled_from([["g"], ["k"], ["g", "k"]]), st.sampled_from(["first", "last"]),
    ),
    st.builds(lambda c: {"explode": c}, st.just("l")),
    st.builds(lambda t: {"cast": {"x": t}}, st.sampled_from(["Int64", "Int32", "Float64", "String"])),
    st.builds(lambda f: {"fill": {"columns": "x", "value": f}}, st.sampled_from([0, 1])),
    st.builds(lambda b, e: {"over": {"by": b, "aggregate": {"n": e}}}, st.sampled_from(["g", "k"]), st.sampled_from(AGGREGATES)),
    st.builds(lambda a, b: {"rename": {a: b}}, st.sampled_from(["x", "k"]), st.sampled_from(["n", "m"])),
    st.builds(lambda w: {"union": {"with": w, "missing": "fill"}}, st.sampled_from(["t", "u", "t2"])),
    st.builds(lambda i: {"unpivot": {"columns": ["x", "k"], "index": i}}, st.sampled_from([["g"], ["s"], ["g", "s"]])),
    st.builds(lambda o: {"rank": {"order": o, "column": "n"}}, st.sampled_from(["x", "k"])),
    st.builds(lambda n, s: {"sample": {"fraction": n, "seed": s}}, st.sampled_from([0.4, 0.7]), st.sampled_from([0, 1])),
    st.builds(lambda q: {"sql": q}, st.sampled_from([
        "SELECT g, sum(x) AS x, max(k) AS k FROM self GROUP BY g", "SELECT * FROM self WHERE x > 0 ORDER BY x LIMIT 3",
        "SELECT x, k, g, s, row_number() OVER (ORDER BY x) AS n FROM self", "SELECT sum(x) AS x FROM self", "SELECT k, x FROM self",
        "SELECT self.*, u.w AS n FROM self LEFT JOIN u ON self.k = u.k", "SELECT DISTINCT g, k FROM self",
    ])),
)  # fmt: skip
pipes: st.SearchStrategy[Pipe] = st.lists(st.lists(steps, min_size=1, max_size=3), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    T.write_parquet(path / "t.parquet")
    T.reverse().write_parquet(path / "t2.parquet")
    U.write_parquet(path / "u.parquet")
    return path


def document(pipe: Pipe) -> dict[str, Any]:
    stages = {
        f"s{i}": {"from": [f"s{i - 1}" if i else "t", "u", "t2", *(["t"] if i else [])], "do": do}
        for i, do in enumerate(pipe)
    }
    return {
        "version": 1,
        "name": "p",
        "sources": {n: {"uri": f"{n}.parquet"} for n in ("t", "t2", "u")},
        "stages": stages,
        "outputs": {f"s{len(pipe) - 1}": {"to": "out"}},
    }


def compiled(definition: Mapping[str, Any], folder: Path) -> lp.Plan | None:
    """Compile, or None where a random step does not fit the columns."""
    try:
        return lp.Pipeline.from_dict(dict(definition), base=str(folder)).compile()
    except lp.DefinitionError:
        return None


def fitting(pipe: Pipe, folder: Path, written: Callable[[Pipe], dict[str, Any]] | None = None) -> Pipe:
    """Leave out the steps that do not fit."""
    written = written or document
    kept: Pipe = []
    for do in pipe:
        kept.append([])
        for step in do:
            kept[-1].append(step)
            if compiled(written(kept), folder) is None:
                kept[-1].pop()
    return [do for do in kept if do]


def rows(frame: pl.DataFrame, columns: list[str]) -> list[str]:
    return (
        [repr(row) for row in zip(*(frame[c].to_list() for c in columns), strict=True)]
        if columns
        else ["()"] * frame.height
    )


def collected(plan: lp.Plan) -> dict[str, pl.DataFrame | None]:
    found: dict[str, pl.DataFrame | None] = {}
    for name, frame in plan.frames.items():
        try:
            found[name] = frame.collect()
        except pl.exceptions.PolarsError:
            found[name] = None  # a cast, say, that fails on these rows
    return found


def agree(one: lp.Plan, other: lp.Plan) -> None:
    """Check that where rows are said to be the same, all columns that are said to be the same are."""
    frames = [(p, collected(p)) for p in (one, other)]
    stages = [(p, n, f, found.get(n)) for p, found in frames for n, f in p.fingerprints().items()]
    for i, (_, name, mine, frame) in enumerate(stages):
        for _, name2, theirs, frame2 in stages[i:]:
            if mine.rows != theirs.rows or frame is None or frame2 is None:
                continue
            there = {h: c for c, h in theirs.columns.items()}
            pairs = [(c, there[h]) for c, h in mine.columns.items() if h in there]
            here, that = rows(frame, [c for c, _ in pairs]), rows(frame2, [c for _, c in pairs])
            assert Counter(here) == Counter(that), (name, name2, pairs)
            if mine.order is not None and mine.order == theirs.order and ordered(one) and ordered(other):
                assert here == that, (name, name2, pairs)
            if mine.whole == theirs.whole:
                assert frame.schema == {c: frame2.schema[c] for c in frame.columns}


LOOSE = re.compile(r'"(join|asof_join|aggregate|distinct|union|over)":|GROUP BY|JOIN|DISTINCT')
"""Steps after which the order of rows is incidental: two runs may give two orders."""
BY_ORDER = re.compile(r'"(limit|distinct|rank)":|first\(|last\(|sum\(|avg\(|stddev|row_number|LIMIT')
"""Steps whose result depends on it; sums do by their last bits."""


def steady(pipe: Pipe) -> Pipe:
    """Leave out what may be another at each run, so that Polars can be the oracle."""
    loose, kept = False, list[list[Step]]()
    for do in pipe:
        kept.append([])
        for step in do:
            said = json.dumps(step)
            if not (loose and BY_ORDER.search(said)):
                kept[-1].append(step)
                loose = loose or bool(LOOSE.search(said))
    return [do for do in kept if do]


def ordered(plan: lp.Plan) -> bool:
    return not LOOSE.search(json.dumps([s.to_dict() for stage in plan.pipeline.stages.values() for s in stage.do]))


def mutated(pipe: Pipe, at: int, step: Step) -> Pipe:
    """Put another step in place of one, or between two."""
    flat = [(i, j) for i, do in enumerate(pipe) for j in range(len(do))]
    i, j = flat[at % len(flat)]
    changed = [[*do] for do in pipe]
    if at % 2 and next(iter(step)) != next(iter(changed[i][j])):
        changed[i].insert(j, step)
    else:
        changed[i][j] = step
    return changed


@given(pipe=pipes, at=st.integers(0, 50), step=steps)
def test_what_is_said_to_be_the_same_is_the_same(folder: Path, pipe: Pipe, at: int, step: Step) -> None:
    pipe = fitting(steady(pipe), folder)
    if not pipe:
        return
    one, other = compiled(document(pipe), folder), compiled(document(steady(mutated(pipe, at, step))), folder)
    assert one is not None
    agree(one, other or one)


@given(pipe=pipes, other=pipes)
def test_so_it_is_of_pipelines_that_have_little_in_common(folder: Path, pipe: Pipe, other: Pipe) -> None:
    plans = [compiled(document(p), folder) for p in (fitting(steady(p), folder) for p in (pipe, other)) if p]
    found = [p for p in plans if p is not None]
    if found:
        agree(found[0], found[-1])


def declared(pipe: Pipe, **more: str) -> dict[str, Any]:
    """Return the document with its sources declared, so that it is compiled from no files; ``more`` are columns of ``t``."""
    columns = {n: dtype_name(d) for n, d in T.schema.items()} | more
    made = document(pipe)
    for name, types in (("t", columns), ("t2", columns), ("u", {n: dtype_name(d) for n, d in U.schema.items()})):
        made["sources"][name] = {"uri": f"nothing/{name}.parquet", "contract": {"columns": types}}
    return made


Rewrite = Callable[[dict[str, Any], random.Random], dict[str, Any]]


def split_filters(made: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Write conjuncts in another order, or as filters of their own."""
    for stage in made["stages"].values():
        do: list[Step] = []
        for step in stage["do"]:
            parts = step["filter"].split(" AND ") if "filter" in step and "BETWEEN" not in step["filter"] else []
            if not parts or any("avg" in p for p in parts):
                do.append(step)
                continue
            draw.shuffle(parts)
            parts = [f"({p})" for p in parts]
            do += [{"filter": p} for p in parts] if draw.random() < 0.5 else [{"filter": " and ".join(parts)}]
        stage["do"] = do
    return made


def other_derives(made: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Write derives that do not read each other the other way round, or one by one."""
    for stage in made["stages"].values():
        do: list[Step] = []
        for step in stage["do"]:
            parts = [{n: e} for n, e in step["derive"].items()] if "derive" in step else []
            if {n for p in parts for n in p} <= {"n", "m"} and parts:
                draw.shuffle(parts)
                do += (
                    [{"derive": p} for p in parts]
                    if draw.random() < 0.5
                    else [{"derive": {n: e for p in parts for n, e in p.items()}}]
                )
            else:
                do.append(step)
        stage["do"] = do
    return made


def other_names(made: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Rename the stages; the output keeps the name that says what it is."""
    (last,) = made["outputs"]
    names = {n: f"stage_{draw.randrange(10**6)}_{n}" for n in made["stages"]}
    stages = {
        names[n]: stage | {"from": [names.get(f, f) for f in stage["from"]]} for n, stage in made["stages"].items()
    }
    return made | {"stages": stages, "outputs": {last: made["outputs"][last] | {"from": names[last]}}}


def between(made: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Put a stage that does nothing between two."""
    stages: dict[str, Any] = {}
    for name, stage in made["stages"].items():
        first, *rest = stage["from"]
        stages[f"before_{name}"] = {"from": first, "do": []}
        stages[name] = stage | {"from": [f"before_{name}", *(r for r in rest if r != first)]}
    return made | {"stages": stages}


def one_stage(made: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Write all steps in one stage."""
    (last,) = made["outputs"]
    do = [step for stage in made["stages"].values() for step in stage["do"]]
    return made | {"stages": {last: {"from": ["t", "u", "t2"], "do": do}}}


def other_keys(made: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Write the keys of all mappings whose order means nothing in another order, and some more words for people."""
    made = json.loads(json.dumps(made))
    made["description"] = "what for"

    def shuffled(part: Any) -> Any:
        if isinstance(part, dict):
            items = [*part.items()]
            draw.shuffle(items)
            # in which order columns stand does mean something
            return {k: v if k == "columns" else shuffled(v) for k, v in items}
        return [shuffled(p) for p in part] if isinstance(part, list) else part

    return dict(shuffled(made))


def other_spaces(made: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """Write SQL with other spaces, brackets and cases of its words."""
    for stage in made["stages"].values():
        for step in stage["do"]:
            if "filter" in step:
                step["filter"] = f"  ( {step['filter']} )\n -- a comment\n"
            if "derive" in step:
                step["derive"] = {n: f"(({e}))" for n, e in step["derive"].items()}
    return made


STAGES: list[Rewrite] = [split_filters, other_derives, between, one_stage, other_names]
WORDS: list[Rewrite] = [other_keys, other_spaces]


@given(
    pipe=pipes,
    stages=st.sampled_from(STAGES),
    words=st.lists(st.sampled_from(WORDS), unique=True),
    seed=st.integers(0, 10**6),
)
def test_what_is_only_written_in_another_way_is_the_same(
    pipe: Pipe, stages: Rewrite, words: list[Rewrite], seed: int
) -> None:
    pipe = fitting(pipe, Path(), declared)
    if not pipe:
        return
    before = compiled(declared(pipe), Path())
    made, draw = declared(pipe), random.Random(seed)
    for rewrite in (stages, *words):
        made = rewrite(made, draw)
    after = compiled(made, Path())
    assert before is not None
    assert after is not None, yaml.safe_dump(made)
    name = f"s{len(pipe) - 1}"
    assert after.fingerprints()[name].whole == before.fingerprints()[name].whole, yaml.safe_dump(made)


@given(pipe=pipes)
def test_columns_that_nothing_reads_do_not_matter(pipe: Pipe) -> None:
    pipe = fitting([[s for s in do if "sample" not in s] for do in pipe], Path(), declared)
    before, after = compiled(declared(pipe), Path()), compiled(declared(pipe, spare="Int64"), Path())
    if not pipe or before is None or after is None:
        return
    for name in (f"s{i}" for i in range(len(pipe))):
        one, other = before.fingerprints()[name], after.fingerprints()[name]
        assert one.rows == other.rows
        assert {c: other.columns[c] for c in one.columns} == one.columns
        assert set(other.changes(one).added) <= {"spare"}
