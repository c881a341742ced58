"""Rows of files that are gone, or were written anew, stay where a source says so: a run gives what one gives over the files as they were when they came."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.properties import test_incremental as whole

EXAMPLES = settings().max_examples // 5
ROWS = whole.ROWS.filter(bool)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    steps = [s for steps in draw(st.lists(st.sampled_from(whole.EACH), max_size=2)) for s in steps]
    end = draw(
        st.one_of(
            st.just({"do": []}), st.sampled_from(whole.LAST).map(lambda s: {"do": s}), st.sampled_from(whole.GROUPS)
        )
    )
    stages: dict[str, Any] = {
        "s0": {
            "from": ["a"],
            "do": steps,
            "gate": draw(st.lists(st.sampled_from(whole.RULES), max_size=2, unique_by=str)),
        },
        "end": {"from": ["s0"], **end},
    }
    text = json.dumps(stages)
    for number in range(text.count("{}")):
        text = text.replace("{}", f"_{number}", 1)
    stages = json.loads(text)
    for stage in stages.values():
        stage["from"] = [*stage["from"], *whole.read(stage["do"])]
    text = json.dumps(stages)
    if "b_at" in text:
        stages = {"b_at": {"from": "b", "do": whole.AT}, **stages}
    if "b_v" in text:
        stages = {"b_v": {"from": "b", "do": [*whole.AT, {"select": ["k", "v", "at"]}]}, **stages}
    if '"dim"' in text:
        stages = {"dim": whole.DIMENSION, **stages}
    return {
        "stages": stages,
        "outputs": draw(st.sampled_from([["s0"], ["end"], ["s0", "end"]])),
        "format": draw(st.sampled_from(["csv", "parquet"])),
        "gate": draw(st.lists(st.sampled_from(whole.RULES), max_size=1)),
        "both": draw(st.booleans()),
        "laid": draw(st.sampled_from([{}, {"optimize": "storage"}])),
    }


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "add",
                "add",
                "remove",
                "remove",
                "modify",
                "back",
                "touch",
                "amend",
                "amend",
                "other",
                "grow",
                "compact",
            ]
        ),
        st.integers(0, 5),
        ROWS,
        st.sampled_from([True, True, False]),
    ),
    min_size=1,
    max_size=5,
)


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.case = base, case
        self.clock = 1_700_000_000
        self.made = 0
        self.labels = {"a": "one", "b": "two", None: "none"}
        for folder in ("in", "kept-files", "more"):
            (base / folder).mkdir()
        self.write([(1, "a", 5), (2, "b", None), (7, "c", 9), (8, None, 3), (9, "a", 51)])
        for k in "abc":
            self.write([(ord(k), k, 1), (10, k, ord(k) - 90)])
        self.side([(3, "c", 7)])
        self.dimension()
        pl.DataFrame({"label": ["one", "two", "none", "more"], "weight": [7, 9, None, 8]}).write_csv(
            base / "more/e.csv"
        )

    def stamp(self, path: Path) -> None:
        self.clock += 10
        os.utime(path, (self.clock, self.clock))

    def put(self, rows: list[Any], path: Path) -> None:
        frame = pl.DataFrame(rows, schema={"id": pl.Int64, "k": pl.String, "v": pl.Int64}, orient="row")
        frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
        self.stamp(path)

    def write(self, rows: list[Any]) -> None:
        self.made += 1
        self.put(rows, self.base / f"in/a-{self.made:03}.{self.case['format']}")

    def side(self, rows: list[Any]) -> None:
        self.put(rows, self.base / "more/b.csv")

    def dimension(self) -> None:
        path = self.base / "more/d.csv"
        pl.DataFrame([*self.labels.items()], schema={"k": pl.String, "label": pl.String}, orient="row").write_csv(path)
        self.stamp(path)

    def act(self, action: str, index: int, rows: list[Any]) -> None:
        files = sorted((self.base / "in").iterdir())
        chosen = files[index % len(files)]
        match action:
            case "add":
                self.write(rows)
            case "remove" if len(files) > 1:
                chosen.unlink()
            case "modify" if self.case["both"]:
                self.put(rows, chosen)
            case "touch":
                self.stamp(chosen)
            case "grow" if chosen.suffix == ".csv":
                text = pl.DataFrame(
                    rows, schema={"id": pl.Int64, "k": pl.String, "v": pl.Int64}, orient="row"
                ).write_csv(include_header=False)
                with chosen.open("a") as file:
                    file.write(text)
                self.stamp(chosen)
                there = self.base / "kept-files" / chosen.name
                if there.exists():
                    with there.open("a") as file:
                        file.write(text)
            case "amend":
                key = (*"abc", None)[index % 4]
                if self.labels.pop(key, "") in ("", "one"):
                    self.labels[key] = ("more", "one", "other")[len(rows) % 3]
                self.dimension()
            case "other":
                self.side(rows)
            case "compact":
                for log in (self.base / "kept").glob("*.commits"):
                    lp.optimize.compact(str(log).removesuffix(".commits"), dead=0.0)

    def take(self) -> None:
        """Remember each file as it is when it is first read."""
        for path in (self.base / "in").iterdir():
            there = self.base / "kept-files" / path.name
            if not there.exists():
                shutil.copy2(path, there)

    def run(self, where: str, folder: str, **how: Any) -> lp.RunResult:
        source: dict[str, Any] = {"uri": f"{folder}/a-*.{self.case['format']}"}
        if where == "kept":
            source |= {"on_removed": "ignore"} | ({"on_modified": "ignore"} if self.case["both"] else {})
        types = {"id": "Int64", "k": "String", "v": "Int64"}
        source |= {"gate": self.case["gate"], "contract": {"columns": types}}
        data = {
            "version": 1,
            "name": "p",
            "state": f"{where}/state",
            "params": {"more": {"type": "integer", "default": 1}},
            "sources": {
                "a": source,
                "b": {"uri": "more/b.csv", "contract": {"columns": types}},
                "d": {"uri": "more/d.csv", "contract": {"columns": {"k": "String", "label": "String"}}},
                "e": {"uri": "more/e.csv", "contract": {"columns": {"label": "String", "weight": "Int64"}}},
            },
            "stages": self.case["stages"],
            "outputs": {n: {"to": f"{where}/{n}", **self.case["laid"]} for n in self.case["outputs"]},
        }
        return lp.Pipeline.from_dict(data, base=str(self.base)).compile(allow=[whole.__name__]).run(**how)

    held = whole.World.held


@given(case=cases(), actions=ACTIONS)
@settings(max_examples=EXAMPLES)
def test_rows_stay(case: dict[str, Any], actions: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), case)
        world.take()
        if world.run("kept", "in").status != "done":
            return
        for number, (action, index, rows, due) in enumerate(actions):
            world.act(action, index, rows)
            if not due and number < len(actions) - 1:
                continue
            world.take()
            before = world.held("kept")
            result = world.run("kept", "in")
            if result.status not in ("done", "unchanged"):
                for s in result.segments:
                    assert s.error is None or isinstance(s.error, lp.LazypipeError)
                    assert s.error is None or "keep" in str(s.error) or "gone" in str(s.error), str(s.error)
                failed = {s.name for s in result.segments if s.status not in ("done", "unchanged")}
                assert {n: r for n, r in world.held("kept").items() if n in failed} == {
                    n: r for n, r in before.items() if n in failed
                }
                return
            if any("are not kept, because everything is rebuilt" in (s.why or "") for s in result.segments):
                assert case["both"]
                return  # what a file held before it was changed is nowhere any more: the run says so
            fresh = world.run(f"fresh{number}", "kept-files")
            if fresh.status == "done":
                assert world.held("kept") == world.held(f"fresh{number}"), (action, result.segments)
