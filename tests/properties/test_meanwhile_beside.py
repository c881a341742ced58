"""While a run of several outputs goes on, something else goes by: histories, keys that are removed, gates and stages that outputs share, outputs that fail; no row goes, none comes twice.

What goes by does so where the other opens or writes a log, files or the ledger, at a place that is drawn; or the other ends there, as if it were killed.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import event, given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.errors import CommitConflict
from tests.properties.test_meanwhile import Killed, meanwhile

START = datetime(2025, 1, 1, tzinfo=UTC)
COLUMNS = ["id", "k", "v", "t"]
ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["a", "b", None]), st.integers(0, 9)),
    min_size=1,
    max_size=4,
    unique_by=lambda r: r[0],
)
DONE = ["run", "run", "run", "only", "bounded", "full", "replay", "compact", "vacuum", "rollback"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["run", "run", "run", *DONE]),
        st.sampled_from([*DONE, *["killed"] * 4]),
        st.integers(1, 40),
        st.integers(0, 7),
        # what comes before, and in between: rows, or a key that is to go
        st.none() | ROWS | st.integers(0, 4),
        st.none() | ROWS | st.integers(0, 4),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)
OUTPUTS: dict[str, dict[str, Any]] = {
    "mid": {},
    "copy": {"from": "mid", "mode": "append"},
    "sums": {},
    "totals": {},
    "put": {"mode": "upsert", "key": "id", "order_by": "t", "changes": True},
    "hist": {"mode": "scd2", "key": "id", "event_time": "at"},
    "held": {},
}
TELLS = {
    "mid": {
        "from": "s",
        "do": [{"filter": "id >= 0"}],
        "gate": [{"not_null": {"columns": ["k"], "action": "quarantine"}}],
    },
    "sums": {"from": "mid", "do": [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)", "v": "sum(v)"}}}]},
    # made of all rows, whichever have come
    "totals": {"from": "s", "do": [{"over": {"order_by": ["v"], "columns": {"w": "sum(v)"}}}]},
    "put": {"from": "s", "do": []},
    "hist": {"from": "s", "do": [{"derive": {"at": "t * 60000000"}}, {"cast": {"at": "Datetime(us)"}}]},
}
Row = tuple[Any, ...]


class World:
    def __init__(self, base: Path, outputs: list[str]) -> None:
        self.base, self.outputs = base, outputs
        self.files: list[list[Row]] = []
        self.deleted: list[int] = []
        # a key that went does not come again: whether it came before or behind its removal is a matter of runs
        self.lives = [0] * 5
        self.fails, self.runs = False, 0
        for folder in ("in", "gone"):
            (base / folder).mkdir()
        self.deliver([(0, "a", 1), (1, "b", 9)])
        self.deliver(4)

    def deliver(self, what: list[Any] | int) -> None:
        if isinstance(what, int):
            self.deleted.append(what + 10 * self.lives[what])
            self.lives[what] += 1
            pl.DataFrame({"id": self.deleted[-1:]}).write_csv(self.base / f"gone/{len(self.deleted):03}.csv")
            return
        at = 10 * len(self.files)
        self.files.append([(i + 10 * self.lives[i], k, v, at + n) for n, (i, k, v) in enumerate(what)])
        frame = pl.DataFrame(self.files[-1], schema=COLUMNS, orient="row")
        frame.write_csv(self.base / f"in/{len(self.files):03}.csv")

    @property
    def pipe(self) -> lp.Pipeline:
        outputs = {n: {"to": f"out/{n}", **OUTPUTS[n]} for n in self.outputs}
        stages: dict[str, Any] = dict(TELLS)
        stages["held"] = {
            "from": "mid",
            "gate": [{"max": {"column": "t", "max": -self.fails if self.fails else 999, "action": "fail"}}],
        }
        if "put" in self.outputs:
            stages["forget"] = {"from": "gone"}
            outputs["forget"] = {"to": "out/put", "key": "id", "mode": "delete"}
        columns = {"id": "Int64", "k": "String", "v": "Int64", "t": "Int64"}
        gate = [{"between": {"column": "v", "max": 5, "action": "quarantine"}}]
        definition = {
            "version": 1,
            "name": "p",
            "state": "state",
            "sources": {
                "s": {"uri": "in/*.csv", "contract": {"columns": columns}, "gate": gate},
                "gone": {"uri": "gone/*.csv", "contract": {"columns": {"id": "Int64"}}},
            },
            "stages": stages,
            "outputs": outputs,
        }
        return lp.Pipeline.from_dict(definition, base=str(self.base))

    @property
    def now(self) -> datetime:
        self.runs += 1
        return START + timedelta(hours=self.runs)

    def run(self, **how: Any) -> lp.RunResult:
        result = self.pipe.compile().run(now=self.now, **how)
        found = [s for s in result.segments if s.status not in ("done", "unchanged", "gate_failed", "blocked")]
        for segment in found:
            assert isinstance(segment.error, CommitConflict), (segment, segment.error)
            event("conflict")
        failed = {s.name for s in result.segments if s.status == "gate_failed"}
        assert failed <= {"held"}, result
        return result

    def uri(self, name: str) -> str:
        return str(self.base / "out" / name)

    def does(self, action: str, index: int) -> Callable[[], object]:
        """Return what is done; decided now, done later."""
        name = self.outputs[index % len(self.outputs)]
        there = [n for n in self.outputs if max(lp.history(self.uri(n))["version"], default=0)]
        which = there[index % len(there)]
        match action:
            case "run":
                return self.run
            case "only":
                return partial(self.run, outputs=[name])
            case "bounded":
                return partial(self.run, max_files=1)
            case "full" if name not in ("put", "hist") and not {"mid", "copy"} <= {name, *self.outputs}:
                return partial(self.run, full=True, outputs=[name])
            case "replay" if which in ("mid", "copy"):
                return lambda: self.pipe.compile().replay(which, now=self.now)
            case "compact":
                return partial(lp.optimize.compact, self.uri(which), dead=0.0)
            case "vacuum":
                return partial(lp.vacuum, self.pipe if index % 2 else self.uri(which), keep=1 + index % 3 // 2)
            # rows of a stage that come again after that are refused where they were added
            case "rollback" if which != "mid" or "copy" not in self.outputs:
                versions = lp.history(self.uri(which))["version"].to_list()
                return partial(lp.rollback, self.uri(which), version=versions[index % len(versions)], now=self.now)
        return lambda: None

    def attempt(self, what: Callable[[], object]) -> None:
        try:
            what()
        except lp.LazypipeError as error:
            assert isinstance(error, CommitConflict), error
            event("conflict")

    def step(self, this: str, other: str, place: int, index: int, more: Any) -> None:
        def go_by() -> None:
            event(f"{other} beside {this}")
            if other == "killed":
                raise Killed
            if more is not None:
                self.deliver(more)
            self.attempt(self.does(other, index))

        with suppress(Killed), meanwhile(place, go_by):
            self.attempt(self.does(this, index))

    def held(self, uri: str, *columns: str) -> Counter[Row]:
        there = max(lp.history(uri)["version"], default=0)
        return Counter(lp.scan(uri).select(columns).collect().rows()) if there else Counter()

    def judge(self) -> None:
        self.fails = False
        result = self.run()
        result.raise_for_status()
        rows = [row for file in self.files for row in file]
        good = [r for r in rows if r[2] <= 5]
        aside, bad = self.held(str(self.base / "state/quarantine/p/s"), *COLUMNS), Counter(r for r in rows if r[2] > 5)
        # keys are taken out of what is aside as well
        gone = Counter(r for r in bad.elements() if "put" in self.outputs and r[0] in self.deleted)
        assert bad - gone <= aside <= bad, "s"
        known = [r for r in good if r[1] is not None]
        first = next((n for n in self.outputs if n in ("mid", "copy")), None)
        if first is not None:
            assert self.held(f"{self.uri(first)}__quarantine", *COLUMNS) == Counter(r for r in good if r[1] is None), (
                "mid"
            )
        for name in self.outputs:
            uri = self.uri(name)
            match name:
                case "mid":
                    assert self.held(uri, *COLUMNS) == Counter(known), name
                case "copy" | "held":
                    assert self.held(uri, *COLUMNS) == Counter(known), name
                case "sums":
                    groups: dict[Any, list[int]] = {}
                    for r in known:
                        groups.setdefault(r[1], []).append(r[2])
                    assert self.held(uri, "k", "n", "v") == Counter((k, len(v), sum(v)) for k, v in groups.items()), (
                        name
                    )
                case "totals":
                    total = sum(r[2] for r in good)
                    assert self.held(uri, *COLUMNS, "w") == Counter((*r, total) for r in good), name
                case "put":
                    last = {r[0]: r for r in good if r[0] not in self.deleted}
                    assert self.held(uri, *COLUMNS) == Counter(last.values()), name
                    told = Counter[Row]()
                    for *row, change in lp.scan(f"{uri}__changes").select(*COLUMNS, "_change").collect().rows():
                        told[tuple(row)] += 1 if change in ("insert", "update_after") else -1
                    assert {r: n for r, n in told.items() if n} == dict.fromkeys(last.values(), 1), name
                case "hist":
                    want = []
                    for i in {r[0] for r in good}:
                        of = [r for r in good if r[0] == i]
                        want += [(*r, z[3] if z else None) for r, z in zip(of, [*of[1:], None], strict=True)]
                    found = lp.scan(uri).with_columns(
                        pl.col("valid_to").dt.replace_time_zone(None).dt.epoch("us") // 60000000
                    )
                    assert Counter(found.select(*COLUMNS, "valid_to").collect().rows()) == Counter(want), name
        assert {s.status for s in self.run().segments} == {"unchanged"}
        assert lp.ledger(str(self.base / "state/ledger")).verify().ok


@given(
    outputs=st.lists(st.sampled_from([*OUTPUTS]), min_size=2, max_size=4, unique=True),
    steps=STEPS,
)
@settings(max_examples=settings().max_examples)
def test_meanwhile_beside(outputs: list[str], steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), outputs)
        world.run()
        for this, other, place, index, before, more, fails in steps:
            if before is not None:
                world.deliver(before)
            world.fails = fails
            world.step(this, other, place, index, more)
        world.judge()
