"""Whatever is delivered, in whatever order, and whatever the pipeline: runs that do only what is needed give what one full run gives.

Pipelines are drawn from the operations and rules that there are, deliveries from what happens to folders. After each delivery
the pipeline that has run all along is compared with one that has never run: rows, quarantined rows, and what gates counted.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp

COLUMNS = {"id": pl.Int64(), "k": pl.String(), "v": pl.Int64()}
ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 20)),
        st.sampled_from(["a", "b", "c", None]),
        st.one_of(st.none(), st.integers(-5, 60)),
    ),
    max_size=6,
)
FORMATS = st.sampled_from(["csv", "parquet"])

EACH: list[dict[str, Any]] = [
    {"filter": "v > 3 OR v IS NULL"},
    {"derive": {"w": "v * 2 + 1"}},
    {"derive": {"v": "coalesce(v, 0)"}},
    {"derive": {"v": "v + :more"}},
    {"fill": {"columns": "k", "value": "z"}},
    {"join": {"with": "d", "on": "k", "how": "left", "columns": ["label"]}},
    {"join": {"with": "d", "on": "k", "how": "inner", "validate": "m:1", "columns": {"label": "other"}}},
    {"join": {"with": "d", "on": "k", "how": "semi"}},
    {"join": {"with": "d", "on": "k", "how": "anti"}},
    {"sample": {"fraction": 0.6}},
    {"select": ["id", "k", "v"]},
    {"union": {"with": "b", "missing": "fill"}},
]
LAST: list[dict[str, Any]] = [
    {"aggregate": {"by": "k", "aggregate": {"n": "count(*)", "s": "sum(v)", "lo": "min(v)", "hi": "max(v)"}}},
    {"aggregate": {"aggregate": {"n": "count(v)", "mean": "avg(v)"}}},
    {"aggregate": {"by": "k", "aggregate": {"m": "median(v)"}}},
    {"distinct": ["id", "k", "v"]},
    {"distinct": []},
    {"over": {"by": "k", "columns": {"sum_v": "sum(v)"}}},
    {"sort": ["v", "id", "k"]},
    {"rank": {"as": "place", "order_by": ["v", "id"], "by": "k"}},
]
RULES: list[dict[str, Any]] = [
    {"not_null": {"columns": "id", "action": "quarantine"}},
    {"between": {"column": "v", "max": 50, "action": "drop"}},
    {"in_set": {"column": "k", "values": ["a", "b"], "action": "quarantine", "where": "v > 10"}},
    {"between": {"column": "v", "min": 0, "action": "warn"}},
    {"unique": {"columns": "id", "action": "warn"}},
    {"unique": {"columns": ["id", "k"], "action": "quarantine"}},
    {"between": {"column": "v", "min": 1, "action": "repair", "with": {"set": 1}}},
    {"sum": {"column": "v", "max": 1000, "action": "warn"}},
    {"foreign_key": {"columns": "k", "references": {"to": "d", "column": "k"}, "action": "quarantine"}},
]
RULES = [r for r in RULES if "repair" not in str(r)] + [
    {"between": {"column": "v", "min": 1, "action": "repair", "repair": {"set": "1"}}}
]


@st.composite
def pipelines(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a pipeline: gates on sources, one to three stages above one another, some of them outputs."""
    fmt = draw(FORMATS)
    contract = {"columns": {n: str(t) for n, t in COLUMNS.items()}}
    sources: dict[str, Any] = {name: {"uri": f"in/{name}-*.{fmt}", "contract": contract} for name in ("a", "b")}
    sources["d"] = {"uri": "in/d.csv", "contract": {"columns": {"k": "String", "label": "String"}}}
    if draw(st.booleans()):
        sources["a"]["gate"] = draw(st.lists(st.sampled_from(RULES), max_size=2, unique_by=str))
    stages: dict[str, Any] = {}
    below = "a"
    for number in range(draw(st.integers(1, 3))):
        steps = draw(st.lists(st.sampled_from(EACH), max_size=3))
        name = f"s{number}"
        stages[name] = {
            "from": below,
            "do": steps,
            "gate": draw(st.lists(st.sampled_from(RULES), max_size=2, unique_by=str)),
        }
        below = name
    if draw(st.booleans()):
        stages["end"] = {"from": below, "do": [draw(st.sampled_from(LAST))]}
    outputs = draw(st.lists(st.sampled_from([*stages]), min_size=1, unique=True))
    last = [*stages][-1]
    return {
        "version": 1,
        "name": "p",
        "params": {"more": {"type": "integer", "default": 1}},
        "sources": sources,
        "stages": stages,
        "outputs": {n: {} for n in dict.fromkeys([*outputs, last])},
        "fmt": fmt,
    }


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["add", "add", "modify", "remove", "rename", "touch", "copy", "other", "dimension", "define", "nothing"]
        ),
        st.integers(0, 5),
        ROWS,
    ),
    min_size=1,
    max_size=4,
)


class World:
    """A folder with deliveries, and the pipeline over it."""

    def __init__(self, base: Path, data: dict[str, Any]) -> None:
        self.base = base
        self.fmt = data.pop("fmt")
        self.data = data
        self.more = 1
        self.clock = 1_700_000_000
        self.made = 0
        (base / "in").mkdir()
        self.write("a", [(1, "a", 5), (2, "b", None)])
        self.write("b", [(3, "c", 7)])
        self.dimension([("a", "one"), ("b", "two")])

    def write(self, source: str, rows: list[Any], path: Path | None = None) -> None:
        self.made += 1
        target = path or self.base / "in" / f"{source}-{self.made:03}.{self.fmt}"
        frame = pl.DataFrame(rows, schema=COLUMNS, orient="row")
        frame.write_csv(target) if self.fmt == "csv" else frame.write_parquet(target)
        self.stamp(target)

    def stamp(self, path: Path) -> None:
        self.clock += 10
        os.utime(path, (self.clock, self.clock))

    def dimension(self, rows: list[tuple[str, str]]) -> None:
        path = self.base / "in/d.csv"
        pl.DataFrame(rows, schema=["k", "label"], orient="row").write_csv(path)
        self.stamp(path)

    def act(self, action: str, index: int, rows: list[Any]) -> None:
        files = sorted((self.base / "in").glob(f"a-*.{self.fmt}"))
        chosen = files[index % len(files)]
        match action:
            case "add":
                self.write("a", rows)
            case "other":
                self.write("b", rows)
            case "modify":
                self.write("a", rows, chosen)
            case "remove" if len(files) > 1:
                chosen.unlink()
            case "rename":
                chosen.rename(chosen.with_name(f"a-moved{self.made}-{index}.{self.fmt}"))
            case "touch":
                self.stamp(chosen)
            case "copy":
                shutil.copy2(chosen, chosen.with_name(f"a-again{self.made}-{index}.{self.fmt}"))
                self.made += 1
            case "dimension":
                self.dimension(
                    [(k, f"{k}{index}") for k, _ in zip("abc", range(index % 4), strict=False)] or [("a", "x")]
                )
            case "define":
                self.more += 1

    def run(self, where: str) -> tuple[lp.RunResult, lp.Pipeline]:
        outputs = {n: {**o, "to": f"{where}/{n}"} for n, o in self.data["outputs"].items()}
        pipe = lp.Pipeline.from_dict({**self.data, "outputs": outputs, "state": f"{where}/state"}, base=str(self.base))
        result = pipe.compile(more=self.more).run()
        result.raise_for_status()
        return result, pipe

    def held(self, where: str) -> dict[str, Counter[tuple[Any, ...]]]:
        """Return the rows of every dataset below a folder, whatever run they are of."""
        found = {}
        for log in sorted((self.base / where).rglob("*.commits")):
            name = str(log.relative_to(self.base / where)).removesuffix(".commits")
            frame = lp.scan(str(log).removesuffix(".commits")).collect()
            if frame.height:
                columns = sorted(c for c in frame.columns if c not in ("_lazypipe_run", "_lazypipe_file"))
                found[name] = Counter(map(repr, frame.select(columns).rows()))
        return found


def counts(result: lp.RunResult) -> dict[str, Any]:
    return {
        node: (
            g.rows,
            g.good,
            g.quarantined,
            g.dropped,
            [(c.id, c.evaluated, c.failed, c.repaired, c.value, c.status) for c in g.checks],
        )
        for node, g in result.gates.items()
    }


@given(data=pipelines(), actions=ACTIONS)
@settings(max_examples=60)
def test_runs_that_do_what_is_needed_equal_one_full_run(
    data: dict[str, Any], actions: list[tuple[str, int, Any]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), data)
        world.run("kept")
        for number, (action, index, rows) in enumerate(actions):
            world.act(action, index, rows)
            result, _ = world.run("kept")
            fresh, _ = world.run(f"fresh{number}")
            assert world.held("kept") == world.held(f"fresh{number}"), (action, result.segments)
            expected = counts(fresh)
            assert counts(result) == {n: expected[n] for n in counts(result)}
            again, _ = world.run("kept")
            assert {s.status for s in again.segments} == {"unchanged"}, again.segments
