"""Replays of outputs that keep the latest row of each key, or its history: what arrives late by way of quarantine ends where plain Python puts it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import lazypipe as lp

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SCHEMA = pl.Schema({"id": pl.Int64, "t": pl.Int64, "v": pl.Int64, "op": pl.String})
Row = tuple[int, int | None, int, str]
ROW = st.tuples(
    st.integers(0, 3), st.one_of(st.none(), st.integers(0, 5)), st.integers(0, 9), st.sampled_from(["u", "u", "u", "d"])
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["deliver", "deliver", "compact", "rewrite", "vacuum", "rollback", "nothing"]),
        st.lists(ROW, min_size=1, max_size=3),
        st.integers(0, 9),
        st.sampled_from(["run", "replay", "replay", "killed", "full"]),
    ),
    min_size=2,
    max_size=8,
)


class Aside(NamedTuple):
    """A row with the delivery that it came with, the run, and whether another one with its key and as late went on in that."""

    delivery: int
    row: Row
    run: int = 0
    tied: bool = False


class UnclearError(Exception):
    """It cannot be told which of two rows is later."""


class State(NamedTuple):
    """Rows that were let in, as they were applied, and those that are put aside."""

    let_in: tuple[Aside, ...] = ()
    aside: tuple[Aside, ...] = ()
    taken: int = 0


class World:
    def __init__(self, base: Path, mode: str) -> None:
        self.base, self.mode = base, mode
        self.most = 4
        self.deliveries: list[list[Row]] = []
        self.hours = self.runs = 0
        self.state = State()
        self.versions: dict[int, State] = {}
        (base / "in").mkdir()

    # the oracle

    def place(self, aside: Aside) -> tuple[Any, ...]:
        """Return how late a row is: by its column, and then by its delivery."""
        t = aside.row[1]
        return (aside.run,) if self.mode == "delivered" else (t is not None, t or 0, aside.run)

    def about(self, row: Row) -> Any:
        return row[:2] if self.mode == "versions" else row[0]

    def held(self, let_in: Iterable[Aside]) -> dict[Any, Row]:
        """Return the latest of the rows of each key, which is no removal; or of each key and moment, also removals."""
        last: dict[Any, Aside] = {}
        for each in let_in:
            about = self.about(each.row)
            if about not in last or self.place(each) >= self.place(last[about]):
                last[about] = each
        return {k: e.row for k, e in last.items()}

    def published(self, let_in: Iterable[Aside]) -> list[Any]:
        held = self.held(let_in)
        if self.mode != "versions":
            return sorted(r for r in held.values() if r[3] != "d")
        found: list[Any] = []
        for key in {k for k, _ in held}:
            events = sorted((r for r in held.values() if r[0] == key), key=lambda r: r[1] or 0)
            said: list[Row] = []
            for row in events:
                if said and said[-1][2:] == row[2:]:
                    continue  # says the same once more
                said.append(row)
            ends = [*(r[1] for r in said[1:]), None]
            found += [(*r[:1], r[2], r[1], e) for r, e in zip(said, ends, strict=True) if r[3] != "d"]
        return sorted(found, key=repr)

    def refuse_unclear(self, rows: list[Aside]) -> None:
        """Raise where two rows of one run have the same key and place in the order."""
        if len({(self.about(a.row), self.place(a)) for a in rows}) < len({(a.run, a.row) for a in rows}):
            raise UnclearError

    def after_run(self, *, full: bool) -> State:
        before = State() if full else self.state
        self.runs += 1
        new = [Aside(n, r, self.runs) for n, rows in enumerate(self.deliveries, 1) if n > before.taken for r in rows]
        good = [a for a in new if a.row[2] <= self.most]
        aside = [
            a
            for a in before.aside
            if not any(
                self.about(g.row) == self.about(a.row) and self.place(g)[:-1] >= self.place(a)[:-1] for g in good
            )
        ]
        self.refuse_unclear(good)
        good_places = {(self.about(g.row), self.place(g)) for g in good}
        aside += [
            a._replace(tied=(self.about(a.row), self.place(a)) in good_places) for a in new if a.row[2] > self.most
        ]
        return State((*before.let_in, *good), tuple(aside), len(self.deliveries))

    def after_replay(self) -> State:
        let_in, aside, taken = self.state
        if self.mode == "ordered":
            aside = tuple(
                a
                for a in aside
                if a.row[1] is None
                or not any(g.row[0] == a.row[0] and self.place(g)[:-1] > self.place(a)[:-1] for g in let_in)
            )
        healed = [a for a in aside if a.row[2] <= self.most and not a.tied]
        left = [
            a
            for a in aside
            if a not in healed
            and (
                (self.mode == "ordered" and a.row[1] is None)
                or not any(self.about(h.row) == self.about(a.row) and self.place(h) > self.place(a) for h in healed)
            )
        ]
        self.refuse_unclear(healed)
        return State((*let_in, *healed), tuple(left), taken)

    # the pipelines

    def plan(self) -> lp.Plan:
        output: dict[str, Any] = {"to": "out/o", "key": "id", "deleted_when": "op = 'd'"}
        match self.mode:
            case "ordered":
                output |= {"mode": "upsert", "order_by": "t", "changes": True}
            case "delivered":
                output |= {"mode": "upsert"}
            case _:
                output |= {"mode": "scd2", "event_time": "at"}
        do: list[Any] = []
        if self.mode == "versions":
            do = [{"derive": {"at": "TIMESTAMP '2024-01-01 00:00:00' + INTERVAL '1 day' * t"}}]
        types = {n: str(t) for n, t in SCHEMA.items()}
        data = {
            "version": 1,
            "name": "p",
            "sources": {"s": {"uri": "in/*.csv", "contract": {"columns": types}}},
            "stages": {
                "o": {
                    "from": "s",
                    "do": do,
                    "gate": [{"between": {"column": "v", "max": self.most, "action": "quarantine"}}],
                }
            },
            "outputs": {"o": output},
        }
        return lp.Pipeline.from_dict(data, base=str(self.base)).compile()

    def follow(self) -> int:
        """Return how many rows a pipeline that reads the output has of it, by way of what changes in it."""
        data = {
            "version": 1,
            "name": "follows",
            "sources": {"o": {"uri": "out/o"}},
            "stages": {"n": {"from": "o", "do": [{"aggregate": {"by": ["id"], "aggregate": {"n": "count(*)"}}}]}},
            "outputs": {"n": {"to": "out/n"}},
        }
        lp.Pipeline.from_dict(data, base=str(self.base)).compile().run(now=self.now).raise_for_status()
        return int(lp.scan(str(self.base / "out/n")).collect()["n"].sum())

    @property
    def now(self) -> datetime:
        self.hours += 1
        return START + timedelta(hours=self.hours)

    # what is done

    def deliver(self, rows: list[Row]) -> None:
        self.deliveries.append(rows)
        frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
        frame.write_csv(self.base / f"in/{len(self.deliveries):03}.csv")

    def act(self, action: str, rows: list[Row], index: int) -> None:
        uri = str(self.base / "out/o")
        match action:
            case "deliver":
                self.deliver(rows)
            case "compact":
                lp.optimize.compact(uri, dead=0.0)
            case "rewrite":
                lp.optimize.rewrite(uri, "storage", every=True)
            case "vacuum":
                lp.vacuum(uri, keep=1 + index % 2, older_than=timedelta(0))
            case "rollback":
                versions = lp.history(uri)["version"].to_list()
                version = versions[index % len(versions)]
                lp.rollback(uri, version=version)
                self.state = self.versions[version]
        self.told()

    def told(self) -> None:
        for version in lp.history(str(self.base / "out/o"))["version"]:
            self.versions.setdefault(version, self.state)

    def work(self, what: str) -> None:
        try:
            self.done(what)
        except UnclearError:
            with pytest.raises(lp.LazypipeError, match="occurs more than once"):
                if what in ("replay", "killed"):
                    self.plan().replay("o", now=self.now)
                full = what == "full" and self.mode == "ordered"
                self.plan().run(now=self.now, full=full).raise_for_status()

    def done(self, what: str) -> None:
        match what:
            case "full" if self.mode == "ordered":
                after = self.after_run(full=True)
                self.plan().run(now=self.now, full=True).raise_for_status()
            case "run" | "full":
                after = self.after_run(full=False)
                self.plan().run(now=self.now).raise_for_status()
            case _:
                after = self.after_replay()
                if what == "killed":
                    with pytest.MonkeyPatch.context() as patch, suppress(ZeroDivisionError):
                        patch.setattr("lazypipe.run.replay._Replay.finish", lambda *_: 1 / 0)
                        self.plan().replay("o", now=self.now)
                self.plan().replay("o", now=self.now)
        self.state = after
        if what in ("replay", "killed"):
            again = self.plan().replay("o", now=self.now)
            assert (again.healed, again.superseded, again.version) == (0, 0, None)
        self.told()

    def check(self) -> None:
        rows = lp.scan(str(self.base / "out/o")).collect()
        if self.mode == "versions":
            day = [pl.col(n).sub(START.replace(tzinfo=None)).dt.total_days() for n in ("valid_from", "valid_to")]
            found = sorted(rows.select("id", "v", *day).rows(), key=repr)
            assert found == self.published(self.state.let_in)
        else:
            assert sorted(rows.select(*SCHEMA).rows()) == self.published(self.state.let_in)
        assert self.follow() == rows.height
        aside = self.base / "out/o__quarantine"
        held = lp.scan(str(aside)).collect().select(*SCHEMA).rows() if aside.exists() else []
        assert sorted(held, key=repr) == sorted((a.row for a in self.state.aside), key=repr)


@pytest.mark.parametrize("mode", ["ordered", "delivered", "versions"])
@given(steps=STEPS)
@settings(max_examples=max(6, settings().max_examples // 6))
def test_replays_end_where_the_rows_would_have(mode: str, steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), mode)
        world.deliver([(9, 0, 0, "u"), (8, 1, 9, "u")])
        world.work("run")
        world.check()
        for action, drawn, most, what in steps:
            rows = [(i, t or 0, v, op) for i, t, v, op in drawn] if mode == "versions" else drawn
            assume(len({r[0] if mode == "delivered" else r[:2] for r in rows}) == len(rows))
            world.act(action, rows, most)
            world.most = most
            world.work(what)
            world.check()
        # all rows pass by now: as if they all had been delivered in order, and passed
        world.work("run")
        world.most = 9
        world.work("replay")
        world.check()
        if world.state.aside or world.state.taken < len(world.deliveries):
            return  # of rows that came in one run with others of their key
        every = [Aside(n, r, n) for n, rows in enumerate(world.deliveries, 1) for r in rows]
        assert world.published(every) == world.published(world.state.let_in)
