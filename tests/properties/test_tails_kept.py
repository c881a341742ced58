"""Text files that grow, shrink, change without a sign, go and get other names: rows are those that the source's words let stay."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.delivered import CLOCK, alter
from tests.properties.scale import at_scale

ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(10, 19)), min_size=1, max_size=3)
STEP = st.tuples(
    st.sampled_from(
        [
            "add",
            "add",
            "grow",
            "grow",
            "grow",
            "cut",
            "rename",
            "rename and grow",
            "silent",
            "modify",
            "remove",
            "touch",
            "back",
            "full",
            "nothing",
        ]
    ),
    st.integers(0, 5),
    ROWS,
    st.booleans(),
)
GATE = [{"between": {"column": "v", "max": 30, "action": "quarantine"}}]
Row = tuple[int, int]


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.case = base, case
        self.clock = CLOCK
        self.made = 0
        # what is in each file, what was read of it, and whether that is something else
        self.files: dict[str, list[Row]] = {}
        self.read: dict[str, list[Row]] = {}
        self.gone: list[list[Row]] = []
        (base / "in").mkdir()
        self.write("f00", [(0, 10), (1, 11)])
        self.write("f01", [(2, 12), (3, 13)])

    def path(self, name: str) -> Path:
        return self.base / f"in/{name}.{self.case['format']}"

    def text(self, rows: list[Row]) -> str:
        if self.case["format"] == "csv":
            return "id,v\n" + "".join(f"{i},{v}\n" for i, v in rows)
        return "".join(f'{{"id":{i},"v":{v}}}\n' for i, v in rows)

    def write(self, name: str, rows: list[Row], *, silent: bool = False) -> None:
        path, text = self.path(name), self.text(rows)
        if self.case["ragged"]:
            text = text.removesuffix("\n")
        self.files[name] = rows
        if silent:
            alter(path, text.encode())
            return
        path.write_text(text)
        self.clock += 10
        os.utime(path, (self.clock, self.clock))

    def act(self, action: str, index: int, rows: list[Row]) -> None:
        names = sorted(self.files)
        name = names[index % len(names)]
        there = self.files[name]
        self.made += 1
        match action:
            case "add":
                # each file is another one
                self.write(f"f{self.made + 10}", [*rows, (self.made, 20)])
            case "grow":
                self.write(name, [*there, *rows])
            case "cut" if len(there) > 1:
                self.write(name, there[:-1])
            case "rename" | "rename and grow":
                other = f"{'eg'[index % 2]}{self.made + 10}"
                self.path(name).rename(self.path(other))
                self.files[other] = self.files.pop(name)
                if "grow" in action:
                    self.write(other, [*there, *rows])
            case "silent" if self.case["detect"]:
                self.write(name, [(i, 29 - v if v < 20 else v) for i, v in there], silent=True)
            case "modify":
                self.write(name, [(self.made % 5, 20 + self.made), *rows])
            case "remove" if len(names) > 1:
                self.path(name).unlink()
                del self.files[name]
            case "touch":
                self.clock += 10
                os.utime(self.path(name), (self.clock, self.clock))

    def begins(self, rows: list[Row], was: list[Row]) -> bool:
        """Whether a file holds what was read of it, and perhaps more: a last row without an end may be another one by now."""
        return rows == was if self.case["ragged"] else rows[: len(was)] == was

    def take(self) -> None:
        """Remember what a run has read of each file: who has gone may be there under another name, with what was read of it."""
        for name in [n for n in self.read if n not in self.files]:
            was = self.read.pop(name)
            there = [n for n, rows in self.files.items() if n not in self.read and self.begins(rows, was)]
            if there:
                self.read[there[0]] = was
            elif self.case["removed"] == "ignore":
                self.gone.append(was)
        for name, rows in self.files.items():
            if name not in self.read or self.case["modified"] == "reprocess" or self.begins(rows, self.read[name]):
                self.read[name] = rows

    def run(self) -> lp.RunResult:
        source = {
            "uri": f"in/*.{self.case['format']}",
            "contract": {"columns": {"id": "Int64", "v": "Int64"}},
            "on_removed": self.case["removed"],
            "on_modified": self.case["modified"],
            **({"detect": "content"} if self.case["detect"] else {}),
            **({"gate": GATE} if self.case["early"] else {}),
        }
        data = {
            "version": 1,
            "name": "p",
            "state": "state",
            "sources": {"s": source},
            "stages": {
                "rows": {"from": "s", "gate": [] if self.case["early"] else GATE},
                "sums": {
                    "from": "s",
                    "do": [{"aggregate": {"by": "id", "aggregate": {"n": "count(*)", "s": "sum(v)"}}}],
                },
                "most": {"from": "rows", "do": [{"over": {"by": "id", "columns": {"m": "max(v)"}}}]},
            },
            "outputs": {n: {"to": f"out/{n}"} for n in self.case["outputs"]},
        }
        return lp.Pipeline.from_dict(data, base=str(self.base)).compile().run()

    def held(self, name: str, *columns: str) -> Counter[Any]:
        log = self.base / f"{name}.commits"
        there = log.exists() and any(log.glob("*.json"))
        return Counter(lp.scan(str(self.base / name)).select(columns).collect().rows() if there else [])

    def judge(self, action: str) -> None:
        result = self.run()
        result.raise_for_status()
        if any("are not kept, because everything is rebuilt" in (s.why or "") for s in result.segments):
            raise Anew
        self.take()
        every = [r for rows in (*self.read.values(), *self.gone) for r in rows]
        good, bad = [r for r in every if r[1] <= 30], [r for r in every if r[1] > 30]
        early, outputs = self.case["early"], self.case["outputs"]
        if "rows" in outputs:
            assert self.held("out/rows", "id", "v") == Counter(good), action
        if early or "rows" in outputs:
            aside = self.held("state/quarantine/p/s" if early else "out/rows__quarantine", "id", "v")
            assert aside == Counter(bad), action
        if "sums" in outputs:
            sums: dict[int, list[int]] = {}
            for i, v in good if early else every:
                sums.setdefault(i, []).append(v)
            wanted = Counter((i, len(v), sum(v)) for i, v in sums.items())
            assert self.held("out/sums", "id", "n", "s") == wanted, action
        if "most" in outputs:
            most = Counter((i, v, max(w for j, w in good if j == i)) for i, v in good)
            assert self.held("out/most", "id", "v", "m") == most, action
        again = self.run()
        assert {s.status for s in again.segments} <= {"unchanged"}, (action, again.segments)


class Anew(Exception):
    """All was made anew, of what the files hold now: the run says so."""


@given(
    case=st.fixed_dictionaries(
        {
            "format": st.sampled_from(["csv", "ndjson"]),
            "removed": st.sampled_from(["delete", "ignore"]),
            "modified": st.sampled_from(["reprocess", "ignore"]),
            "detect": st.booleans(),
            "ragged": st.booleans(),
            # whether the gate is that of the source
            "early": st.booleans(),
            "scale": st.booleans(),
            "outputs": st.sampled_from(
                [["rows"], ["sums"], ["rows", "sums"], ["rows", "most"], ["sums", "rows", "most"]]
            ),
        }
    ),
    steps=st.lists(STEP, min_size=1, max_size=8),
)
@settings(max_examples=settings().max_examples // 4)
def test_tails_kept(case: dict[str, Any], steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(case["scale"]):
        world = World(Path(folder), case)
        try:
            world.judge("")
            for number, (action, index, rows, due) in enumerate(steps, 1):
                world.act(action, index, rows)
                if due or number == len(steps):
                    world.judge(action)
        except Anew:
            return
