"""Outputs of all modes beside each other, made of one stage, of which a gate fails some: each takes in once, and as it is then, what it can."""

from __future__ import annotations

import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.delivered import CLOCK, put
from tests.properties.scale import at_scale

START = datetime(2024, 1, 1, tzinfo=UTC)
SCHEMA = pl.Schema({"id": pl.Int64, "k": pl.String, "v": pl.Int64, "t": pl.Int64})
ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["a", "b", None]), st.integers(-2, 9)),
    min_size=1,
    max_size=3,
    unique_by=lambda r: r[0],
)
MODES: dict[str, dict[str, Any]] = {
    "replace": {},
    "append": {"mode": "append"},
    "upsert": {"mode": "upsert", "key": "id", "order_by": "t"},
    "scd2": {"mode": "scd2", "key": "id", "event_time": "at"},
    "parts": {"mode": "replace_partitions", "partition_by": "f"},
    "sums": {},
}
STEP = st.tuples(
    st.sampled_from(["add", "add", "add", "modify", "remove", "limit", "limit", "only", "compact"]),
    st.integers(0, 6),
    ROWS,
    st.booleans(),
)
Row = tuple[Any, ...]


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.case = base, case
        self.files: dict[str, tuple[int, list[Row]]] = {}
        self.made = self.runs = self.order = 0
        self.limits = dict.fromkeys(MODES, 9)
        self.taken: dict[str, set[tuple[str, int]]] = {n: set() for n in MODES}
        self.rows: dict[str, Any] = {n: [] for n in MODES}
        (base / "in").mkdir()
        self.write([(0, "a", 1), (1, "b", 2)])

    def write(self, rows: list[Any], name: str | None = None) -> None:
        self.made += 1
        name = name or f"f{self.made:02}"
        made = []
        for row in rows:
            self.order += 1
            made.append((*row, self.order))
        self.files[name] = (self.made, made)
        frame = pl.DataFrame(made, schema=SCHEMA, orient="row").with_columns(f=pl.lit(name))
        put(self.base / f"in/{name}.{self.case['format']}", frame, CLOCK + self.made * 10)

    def plan(self) -> lp.Plan:
        gate = [{"between": {"column": "v", "min": 0, "action": self.case["action"]}}]
        columns = {n: str(t) for n, t in SCHEMA.items()} | {"f": "String"}
        stages: dict[str, Any] = {
            "mid": {
                "from": "s",
                "do": [{"derive": {"w": "v * 2", "at": "t * 60000000"}}, {"cast": {"at": "Datetime(us)"}}],
                "gate": gate if not self.case["early"] else [],
            }
        }
        for name in self.case["outputs"]:
            do = [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)", "v": "sum(v)"}}}] if name == "sums" else []
            rule = {"max": {"column": "v", "max": self.limits[name] + 90 * (name == "sums"), "action": "fail"}}
            stages[name] = {"from": "mid", "do": do, "gate": [rule]}
        data = {
            "version": 1,
            "name": "p",
            "state": "state",
            "sources": {
                "s": {
                    "uri": f"in/*.{self.case['format']}",
                    "contract": {"columns": columns},
                    "on_modified": "reprocess",
                    **({"gate": gate} if self.case["early"] else {}),
                }
            },
            "stages": stages,
            "outputs": {n: {"to": f"out/{n}", **MODES[n]} for n in self.case["outputs"]},
        }
        return lp.Pipeline.from_dict(data, base=str(self.base)).compile()

    def take(self, name: str, status: str) -> None:
        """Take in what there is, if the gate of the output lets it."""
        good = {(f, made): [r for r in rows if r[2] >= 0] for f, (made, rows) in self.files.items()}
        news = {at: rows for at, rows in good.items() if at not in self.taken[name]}
        if name in ("append", "upsert", "scd2"):
            judged = [r for rows in news.values() for r in rows]
        else:
            judged = [r for rows in good.values() for r in rows]
        fails = name != "sums" and any(r[2] > self.limits[name] for r in judged)
        assert (status == "gate_failed") == fails, (name, status, judged)
        if fails:
            return
        match name:
            case "replace" | "sums":
                self.rows[name] = judged
            case "append":
                self.rows[name] = [*self.rows[name], *judged]
            case "upsert" | "scd2":
                self.rows[name] = [*self.rows[name], *judged]
            case "parts":
                there = {f: rows for (f, _), rows in good.items() if rows}
                self.rows[name] = {**(self.rows[name] or {}), **there}
        self.taken[name] |= {*good}

    def run(self, how: dict[str, Any]) -> None:
        self.runs += 1
        now = START + timedelta(hours=self.runs)
        plan = self.plan()
        only = how.get("outputs") or self.case["outputs"]
        result = plan.run(now=now, **how)
        ended = {s.name: s for s in result.segments}
        for name in only:
            status = ended[name].status
            assert status in ("done", "unchanged", "gate_failed"), (name, ended[name])
            self.take(name, status)
        self.check()

    def check(self) -> None:
        for name in self.case["outputs"]:
            log = self.base / "out" / f"{name}.commits"
            if not log.exists() or not any(log.glob("*.json")):
                assert not self.rows[name], name
                continue
            found = lp.scan(str(self.base / "out" / name)).collect()
            match name:
                case "replace" | "append":
                    assert Counter(found.select(*SCHEMA).rows()) == Counter(self.rows[name]), name
                case "upsert":
                    last = {r[0]: r for r in sorted(self.rows[name], key=lambda r: r[3])}
                    assert Counter(found.select(*SCHEMA).rows()) == Counter(last.values()), name
                case "scd2":
                    want = []
                    for i in {r[0] for r in self.rows[name]}:
                        of = sorted({r for r in self.rows[name] if r[0] == i}, key=lambda r: r[3])
                        want += [(*r, z[3] if z else None) for r, z in zip(of, [*of[1:], None], strict=True)]
                    rows = found.with_columns(pl.col("valid_to").dt.replace_time_zone(None).dt.epoch("us") // 60000000)
                    assert Counter(rows.select(*SCHEMA, "valid_to").rows()) == Counter(want), name
                case "parts":
                    want = [r for rows in (self.rows[name] or {}).values() for r in rows]
                    assert Counter(found.select(*SCHEMA).rows()) == Counter(want), name
                case "sums":
                    groups: dict[Any, list[int]] = {}
                    for r in self.rows[name]:
                        groups.setdefault(r[1], []).append(r[2])
                    assert Counter(found.select("k", "n", "v").rows()) == Counter(
                        (k, len(v), sum(v)) for k, v in groups.items()
                    ), name

    def act(self, action: str, index: int, rows: list[Any]) -> dict[str, Any]:
        names = sorted(self.files)
        name = names[index % len(names)]
        outputs = self.case["outputs"]
        match action:
            case "add":
                self.write(rows)
            case "modify":
                self.write(rows, name)
            case "remove" if len(names) > 1:
                del self.files[name]
                (self.base / f"in/{name}.{self.case['format']}").unlink()
            case "limit":
                which = outputs[index % len(outputs)]
                self.limits[which] = (9, 5, 9, 3)[len(rows)]
            case "only":
                return {"outputs": [outputs[index % len(outputs)]]}
            case "compact":
                which = outputs[index % len(outputs)]
                if (self.base / "out" / f"{which}.commits").exists() and any(
                    (self.base / "out" / f"{which}.commits").glob("*.json")
                ):
                    lp.optimize.compact(str(self.base / "out" / which), dead=0.0)
        return {}


@given(
    case=st.fixed_dictionaries(
        {
            "format": st.sampled_from(["csv", "parquet"]),
            "action": st.sampled_from(["quarantine", "drop"]),
            "early": st.booleans(),
            "scale": st.booleans(),
            "outputs": st.lists(st.sampled_from([*MODES]), min_size=2, max_size=4, unique=True),
        }
    ),
    steps=st.lists(STEP, min_size=2, max_size=8),
)
@settings(max_examples=settings().max_examples // 4)
def test_beside(case: dict[str, Any], steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(case["scale"]):
        world = World(Path(folder), case)
        world.run({})
        for number, (action, index, rows, due) in enumerate(steps, 1):
            how = world.act(action, index, rows)
            if due or how or number == len(steps):
                world.run(how)
        world.run({})
