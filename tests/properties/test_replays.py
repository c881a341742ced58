"""Replays between runs, of rules that change and change back: rows move in once, none goes, and what stands where is what plain Python says."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.properties.scale import at_scale

START = datetime(2024, 1, 1, tzinfo=UTC)
SCHEMA = pl.Schema({"id": pl.Int64, "k": pl.String, "v": pl.Int64})
ROWS = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 9))),
    min_size=1,
    max_size=4,
)
RULES = st.fixed_dictionaries(
    {
        "most": st.integers(2, 9),
        "action": st.sampled_from(["quarantine", "quarantine", "clip", "drop"]),
        "once": st.booleans(),
        "known": st.booleans(),
    }
)
ACTIONS = ["add", "add", "modify", "remove", "rules", "rules", "rules", "known", "compact", "rewrite", "vacuum"]
ACTIONS += ["rollback", "rollback", "nothing", "column"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(ACTIONS),
        st.integers(0, 5),
        ROWS,
        RULES,
        st.sampled_from(["run", "replay", "replay", "killed", "full", "nothing"]),
    ),
    min_size=2,
    max_size=9,
)
Row = tuple[int, str, int | None]


class State(NamedTuple):
    """What is published, what is put aside, and, where rows are added, of which files."""

    there: tuple[Row, ...] = ()
    aside: tuple[Row, ...] = ()
    taken: tuple[tuple[str, tuple[Row, ...]], ...] = ()
    more: bool = False


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.case = base, case
        self.rules = case["rules"]
        self.files: dict[str, list[Row]] = {}
        self.known = {"a", "b"}
        self.more = False
        self.made = self.hours = 0
        self.state: State | None = None
        self.versions: dict[int, State] = {}
        (base / "in").mkdir()
        self.write([(0, "a", 5), (1, "b", 9)])
        self.refer()

    # what is delivered, and what runs

    def write(self, rows: list[Row], name: str | None = None) -> None:
        self.made += 1
        name = name or f"f{self.made:02}"
        self.files[name] = rows
        path = self.base / f"in/{name}.{self.case['format']}"
        frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
        frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
        os.utime(path, (1_700_000_000 + self.made * 10,) * 2)

    def refer(self) -> None:
        pl.DataFrame({"k": sorted(self.known)}, schema={"k": pl.String}).write_csv(self.base / "known.csv")
        self.made += 1
        os.utime(self.base / "known.csv", (1_700_000_000 + self.made * 10,) * 2)

    def plan(self) -> lp.Plan:
        rules = self.rules
        how = {"action": "repair", "repair": {"clip": True}} if rules["action"] == "clip" else {}
        gate: list[Any] = [{"between": {"column": "v", "max": rules["most"], "action": rules["action"], **how}}]
        gate += [{"unique": {"columns": "id", "action": "quarantine"}}] if rules["once"] else []
        known = {"references": {"to": "known", "column": "k"}, "action": "quarantine"}
        gate += [{"foreign_key": {"columns": "k", **known}}] if rules["known"] else []
        case = self.case
        output = {"mode": case["mode"]} | ({"key": "id"} if case["key"] else {})
        output |= {"partition_by": "k"} if case["partitioned"] else {}
        data = {
            "version": 1,
            "name": "p",
            "sources": {
                "s": {
                    "uri": f"in/*.{case['format']}",
                    "contract": {"columns": {"id": "Int64", "k": "String", "v": "Int64"}},
                },
                "known": {"uri": "known.csv"},
            },
            "stages": {"o": {"from": "s", "do": [{"derive": {"more": "v"}}] if self.more else [], "gate": gate}},
            "outputs": {"o": {"to": "out/o", **output}},
        }
        return lp.Pipeline.from_dict(data, base=str(self.base)).compile()

    @property
    def now(self) -> datetime:
        self.hours += 1
        return START + timedelta(hours=self.hours)

    # the oracle

    def judged(self, rows: list[Row], others: list[Row]) -> tuple[list[Row], list[Row]]:
        """Return which rows pass, mended, and which are put aside, beside others that are there."""
        rules = self.rules
        # keys are compared of all rows that come to the gate
        times = Counter(r[0] for r in (*rows, *others))
        good, bad = [], []
        for row in rows:
            i, k, v = row
            large = v is not None and v > rules["most"]
            aside = (rules["once"] and times[i] > 1) or (rules["known"] and k not in self.known)
            if aside or (large and rules["action"] == "quarantine"):
                bad.append(row)
            elif not large or rules["action"] == "clip":
                good.append((i, k, rules["most"]) if large else row)
        return good, bad

    def after_run(self, full: bool) -> State:
        files = tuple((n, tuple(rows)) for n, rows in sorted(self.files.items()))
        if self.case["mode"] == "replace" or full or self.state is None:
            good, bad = self.judged([r for _, rows in files for r in rows], [])
            return State(tuple(good), tuple(bad), files, self.more)
        new = [f for f in files if f not in self.state.taken]
        if not new:
            return self.state
        good, bad = self.judged([r for _, rows in new for r in rows], [])
        healed = {r[0] for r in good} if self.case["key"] else set()
        aside = [r for r in self.state.aside if r[0] not in healed]
        return State((*self.state.there, *good), (*aside, *bad), files, self.more)

    def after_replay(self) -> State:
        state = self.state
        assert state is not None
        keys = {r[0] for r in state.there} if self.case["key"] else set()
        good, bad = self.judged([r for r in state.aside if r[0] not in keys], [*state.there])
        return state._replace(there=(*state.there, *good), aside=tuple(bad))

    # what is done

    def act(self, action: str, index: int, rows: list[Row], rules: dict[str, Any]) -> None:
        names = sorted(self.files)
        chosen = names[index % len(names)]
        uri = str(self.base / "out/o")
        replaces = self.case["mode"] == "replace"
        match action:
            case "add":
                self.write(rows)
            case "modify" if replaces:
                self.write(rows, chosen)
            case "remove" if replaces and len(names) > 1:
                (self.base / f"in/{chosen}.{self.case['format']}").unlink()
                del self.files[chosen]
            case "rules":
                self.rules = rules
            case "known":
                self.known = self.known ^ {"abc"[index % 3]}
                self.refer()
            case "column" if replaces:
                self.more = not self.more
            case "compact" | "rewrite" | "vacuum" if self.state is not None:
                if action == "compact":
                    lp.optimize.compact(uri, dead=0.0)
                elif action == "rewrite":
                    lp.optimize.rewrite(uri, "storage", every=True)
                else:
                    lp.vacuum(uri, keep=1 + index % 2, older_than=timedelta(0))
            case "rollback" if self.state is not None:
                versions = lp.history(uri)["version"].to_list()
                version = versions[index % len(versions)]
                lp.rollback(uri, version=version)
                self.state = self.versions[version]
        self.told()

    def told(self) -> None:
        """Remember what holds in the versions that came."""
        if self.state is not None:
            for version in lp.history(str(self.base / "out/o"))["version"]:
                self.versions.setdefault(version, self.state)

    def work(self, what: str) -> None:
        match what:
            case "run" | "full":
                full = what == "full"
                after = self.after_run(full)
                self.plan().run(now=self.now, full=full).raise_for_status()
                self.state = after
            case "replay" | "killed" if self.state is not None:
                if self.state.aside and self.state.more is not self.more:
                    with pytest.raises(lp.LazypipeError, match="run the pipeline first"):
                        self.plan().replay("o", now=self.now)
                    return
                after = self.after_replay()
                if what == "killed":
                    with pytest.MonkeyPatch.context() as patch, suppress(ZeroDivisionError):
                        patch.setattr("lazypipe.run.replay._Replay.finish", lambda *_: 1 / 0)
                        self.plan().replay("o", now=self.now)
                self.plan().replay("o", now=self.now)
                self.state = after
                again = self.plan().replay("o", now=self.now)
                assert (again.healed, again.version) == (0, None)
        self.told()

    def check(self) -> None:
        state = self.state
        if state is None:
            return
        assert Counter(lp.scan(str(self.base / "out/o")).collect().select(*SCHEMA).rows()) == Counter(state.there)
        assert self.aside() == Counter(state.aside)

    def aside(self) -> Counter[Any]:
        if not (self.base / "out/o__quarantine.commits").exists():
            return Counter()
        return Counter(lp.scan(str(self.base / "out/o__quarantine")).collect().select(*SCHEMA).rows())


@given(
    case=st.fixed_dictionaries(
        {
            "mode": st.sampled_from(["replace", "append"]),
            "format": st.sampled_from(["csv", "parquet"]),
            "key": st.booleans(),
            "partitioned": st.booleans(),
            "rules": RULES,
            "scale": st.booleans(),
        }
    ),
    steps=STEPS,
)
@settings(max_examples=settings().max_examples // 8)
def test_replays_between_runs(case: dict[str, Any], steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(case["scale"]):
        world = World(Path(folder), case)
        world.work("run")
        for action, index, rows, rules, what in steps:
            world.act(action, index, rows, rules)
            if action != "rollback" or what != "nothing":
                world.work(what)
            if what != "nothing":
                world.check()
        world.work("run")
        world.check()
