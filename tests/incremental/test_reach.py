"""Joins by nearness in incremental runs: what changes on the other side makes anew only the files that it reaches."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.storage.datasets.dataset import Dataset
from tests.delivered import put

T0 = datetime(2024, 5, 1)
ASOF = {"asof_join": {"with": "quotes", "on": "at", "by": ["k"]}}
NEAR = {"interval_join": {"with": "quotes", "time": "at", "within": ["-2h", "0h"], "by": ["k"], "how": "left"}}
Row = tuple[float, str, int]


class World:
    def __init__(self, root: Path, *steps: dict[str, Any], fmt: str = "csv") -> None:
        self.root, self.fmt, self.number = root, fmt, 0
        (root / "in").mkdir()
        sources = {
            name: {
                "uri": f"in/{name}-*.{fmt}",
                "contract": {"columns": {"at": "Datetime(us)", "k": "String", v: "Int64"}},
            }
            for name, v in (("trades", "v"), ("quotes", "p"))
        }
        self.data: dict[str, Any] = {
            "version": 1,
            "name": "p",
            "sources": sources,
            "stages": {"priced": {"from": "trades", "do": [*steps]}},
            "outputs": {"priced": {"to": "out/priced"}},
        }

    def write(self, name: str, *rows: Row) -> None:
        self.number += 1
        value = "p" if name.startswith("quot") else "v"
        values = [(T0 + timedelta(hours=h), k, x) for h, k, x in rows]
        frame = pl.DataFrame(values, {"at": pl.Datetime("us"), "k": pl.String(), value: pl.Int64()}, orient="row")
        put(self.root / "in" / f"{name}.{self.fmt}", frame, 1_750_000_000 + 10 * self.number)

    def remove(self, name: str) -> None:
        (self.root / "in" / f"{name}.{self.fmt}").unlink()

    def compile(self) -> lp.Plan:
        return lp.Pipeline.from_dict(self.data, base=str(self.root)).compile()

    def run(self, **more: Any) -> lp.SegmentResult:
        """Run, and hold what is there against what all files make."""
        self.number += 1
        plan = self.compile()
        now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=self.number)
        result = plan.run(run=f"r{self.number}", now=now, **more)
        result.raise_for_status()
        if not result.left:
            for name, frame in plan.frames.items():
                if name in self.data["outputs"]:
                    there = lp.scan(str(self.root / self.data["outputs"][name]["to"])).collect()
                    whole = frame.collect()
                    assert sorted(map(repr, there.select(whole.columns).rows())) == sorted(map(repr, whole.rows()))
        (found,) = [s for s in result.segments if s.output == "priced"]
        return found

    def days(self) -> None:
        for day in range(4):
            hours = [24 * day + h for h in range(0, 24, 4)]
            self.write(f"trades-{day}", *((h, k, h) for h in hours for k in "ab"))
            self.write(f"quotes-{day}", *((h + 1, k, 100 + h) for h in hours for k in "ab"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, ASOF)
    made.days()
    made.run()
    return made


def test_a_late_row_of_the_other_side_corrects_what_it_should_have_matched(world: World) -> None:
    assert world.compile().explain_incremental() == (
        "priced: reads new and changed files of trades and files whose rows change with quotes"
    )
    world.write("quotes-9", (50, "a", 999))
    done = world.run()
    assert done.why == "quotes: 1 added, 4 unchanged; trades: 4 unchanged, 1 affected by changes"
    assert done.written == 12
    rows = lp.scan(str(world.root / "out/priced")).filter(pl.col("p") == 999).collect()
    assert rows["at"].to_list() == [T0 + timedelta(hours=52)]
    # between two rows of this side nothing is reached
    world.write("quotes-8", (50.5, "b", 999), (500, "b", 1))
    assert world.run().written == 12
    world.write("quotes-7", (600, "b", 1))
    assert world.run().written == 0
    assert world.run().status == "unchanged"


def test_a_correction_and_a_removal_reach_as_far_as_the_rows_did(world: World) -> None:
    world.write("quotes-9", (50, "a", 999))
    world.run()
    world.write("quotes-9", (2, "a", 999))
    done = world.run()
    assert (done.written, done.why) == (
        24, "quotes: 1 modified, 4 unchanged; trades: 4 unchanged, 2 affected by changes",
    )  # fmt: skip
    world.remove("quotes-9")
    assert world.run().written == 12
    # a file of another name reaches as far
    (world.root / "in/quotes-3.csv").rename(world.root / "in/quotes-33.csv")
    assert world.run().status == "unchanged"
    world.write("trades-4", (100, "a", 1))
    assert world.run().written == 1
    world.remove("quotes-33")
    assert world.run().written == 13


def test_a_late_row_of_this_side_finds_its_match(world: World) -> None:
    world.write("trades-9", (50, "a", 5))
    done = world.run()
    assert (done.written, done.why) == (1, "trades: 1 added, 4 unchanged")


def test_the_other_side_may_come_all_at_once_or_not_at_all(tmp_path: Path) -> None:
    world = World(tmp_path, ASOF)
    world.write("trades-0", (0, "a", 1))
    world.write("trades-1", (20, "a", 1))
    world.write("quotes-0")
    world.run()
    world.write("quotes-1", (10, "a", 7))
    assert world.run().written == 1
    # it had no rows, and reached nothing
    world.remove("quotes-0")
    assert world.run().written == 0
    assert world.run().status == "unchanged"
    world.write("quotes-1")
    assert world.run().written == 1


def test_what_is_made_of_such_rows_follows(world: World) -> None:
    window = {
        "window": {"time": "at", "every": "1d", "by": ["k"], "aggregate": {"n": "count(p)", "worth": "sum(p * v)"}}
    }
    world.data["stages"]["priced"]["do"] = [ASOF, window]
    world.run()
    world.write("quotes-9", (50, "a", 999))
    done = world.run()
    assert done.why is not None
    assert "1 affected by changes; 2 groups touched, of 8 rows" in done.why


def test_gates_and_several_inputs_on_the_way(world: World) -> None:
    world.data["sources"]["more"] = {**world.data["sources"]["trades"], "uri": "in/more-*.csv"}
    world.data["stages"] = {
        "cheap": {"from": "quotes", "do": [{"derive": {"p": "p + 1"}}], "gate": [{"between": {"column": "p", "max": 150, "action": "quarantine"}}]},
        "all": {"from": "trades", "do": [{"union": "more"}], "gate": [{"between": {"column": "v", "max": 90, "action": "quarantine"}}]},
        "priced": {"from": "all", "do": [{"asof_join": {"with": "cheap", "on": "at", "by": ["k"]}}, {"filter": "p IS NOT NULL"}]},
    }  # fmt: skip
    world.write("more-0", (48.7, "a", 1), (200, "b", 1))
    # what follows nearest is put aside, and so is no bound
    world.write("quotes-8", (48.5, "a", 500))
    world.run()
    world.write("quotes-9", (47, "a", 99), (70, "a", 500))
    done = world.run()
    assert done.why == "quotes: 1 added, 5 unchanged; trades: 4 unchanged, 1 affected by changes; more: 1 unchanged, 1 affected by changes"  # fmt: skip


def test_steps_ahead_of_the_join_are_taken(world: World) -> None:
    hours = {"derive": {"at": "at + INTERVAL '1 day'"}}
    world.data["stages"] = {
        "later": {"from": "quotes", "do": [hours]},
        "priced": {"from": "trades", "do": [hours, {"asof_join": {"with": "later", "on": "at", "by": ["k"], "strategy": "nearest"}}]},
    }  # fmt: skip
    world.run()
    world.write("quotes-9", (50.2, "a", 999))
    assert world.run().written == 12


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"gate": [{"unique": {"columns": ["at", "k"], "action": "drop"}}]}, "asof_join: quotes: unique:at,k removes rows depending on other rows"),
        ({"gate": [{"between": {"column": "p", "max": 300, "action": "repair", "repair": {"set": "7"}}}]}, "asof_join: a gate of quotes, or upstream of it, removes rows by key, looks other rows up, or repairs values; write quotes as an output of its own, so that changes in its rows can be followed"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_makes_all_anew(world: World, more: dict[str, Any], why: str) -> None:
    world.data["sources"]["quotes"] |= more
    assert (
        world.compile().explain_incremental()
        == f"priced: reads new and changed files of trades; if quotes changes, rebuilds everything (priced: {why})"
    )
    world.run()
    world.write("quotes-9", (50, "a", 99))
    done = world.run()
    assert (done.why, done.written) == ("quotes: 1 added, 4 unchanged", 48)


def test_a_side_that_is_used_in_another_way_too_makes_all_anew(world: World) -> None:
    world.data["stages"]["priced"]["do"] = [ASOF, {"join": {"with": "quotes", "on": ["at", "k"], "how": "anti"}}]
    assert world.compile().explain_incremental() == (
        "priced: reads new and changed files of trades; if quotes changes, rebuilds everything (priced: it is joined by time, and also read in another way)"
    )


def test_what_others_read_too_is_reached_as_well(world: World) -> None:
    # both sides are kept for the run then, and quotes are used twice
    world.data["sources"]["trades"]["gate"] = [{"between": {"column": "v", "max": 60, "action": "quarantine"}}]
    near = {"interval_join": {**NEAR["interval_join"], "columns": {"p": "near"}}}
    world.data["stages"] = {
        "priced": {"from": "trades", "do": [ASOF, near]},
        "more": {"from": "trades", "do": [{"filter": "v > 3"}]},
        "dear": {"from": "quotes", "do": [{"filter": "p > 103"}]},
    }
    world.data["outputs"] = {n: {"to": f"out/{n}x"} for n in world.data["stages"]}
    assert world.compile().explain_incremental().splitlines()[0] == (
        "priced: reads new and changed files of trades and files whose rows change with quotes"
    )
    world.run()
    world.write("quotes-9", (50.5, "a", 999))
    done = world.run()
    why = "quotes: 1 added, 4 unchanged; trades: 4 unchanged, 1 affected by changes"
    assert (done.written, done.why) == (8, why)
    world.write("trades-2", (50, "a", 9), (54, "a", 99))
    world.remove("quotes-9")
    assert world.run().written == 1


def test_two_joins_reach_each_its_own_rows(world: World) -> None:
    world.data["sources"]["quotas"] = {**world.data["sources"]["quotes"], "uri": "in/quotas-*.csv"}
    near = {"interval_join": {**NEAR["interval_join"], "with": "quotas", "columns": {"p": "near"}}}
    world.data["stages"]["priced"]["do"] = [ASOF, near]
    world.write("quotas-0", (0, "a", 1))
    world.run()
    world.write("quotes-9", (23.5, "a", 5))
    assert world.run().written == 12
    world.write("quotas-1", (50, "a", 5))
    assert world.run().why == "quotas: 1 added, 1 unchanged; trades: 4 unchanged, 1 affected by changes"
    world.write("quotas-1", (0, "b", 5))
    world.write("quotes-9", (26, "a", 5))
    assert world.run().written == 36  # where they were, and where they are


class Upstream(World):
    """A pipeline of its own, which writes what another one reads."""

    def __init__(self, below: World, name: str, **output: Any) -> None:
        (below.root / "up").mkdir()
        super().__init__(below.root / "up")
        value = "p" if name == "quotes" else "v"
        self.data["sources"] = {name: self.data["sources"][name]}
        self.data["stages"] = {"kept": {"from": name, "do": [{"filter": f"{value} >= 0"}]}}
        self.data["outputs"] = {"kept": {"to": "out/kept", **output}}
        below.data["sources"][name] = {"uri": "up/out/kept", "event_time": "at"}

    @property
    def table(self) -> str:
        return str(self.root / "out/kept")

    def publish(self) -> None:
        self.number += 1
        self.compile().run(run=f"u{self.number}").raise_for_status()


@pytest.fixture
def upstream(world: World) -> Upstream:
    up = Upstream(world, "quotes")
    for day in range(4):
        up.write(f"quotes-{day}", *((24 * day + h + 1, k, h) for h in range(0, 24, 4) for k in "ab"))
        up.publish()
    world.run()
    return up


def test_units_of_a_dataset_that_is_the_other_side_reach_their_rows(world: World, upstream: Upstream) -> None:
    assert world.compile().explain_incremental() == (
        "priced: reads new and changed files of trades and files whose rows change with quotes"
    )
    upstream.write("quotes-9", (50, "a", 999))
    upstream.publish()
    done = world.run()
    assert done.why == "quotes: 1 added, 4 unchanged; trades: 4 unchanged, 1 affected by changes"
    assert done.written == 12
    upstream.remove("quotes-9")
    upstream.remove("quotes-0")
    upstream.publish()
    assert world.run().written == 36  # a day and the first rows of the next, and what the late row had reached
    # its files are written anew, its rows are the same
    lp.optimize.compact(upstream.table)
    assert (world.run().written, world.run().status) == (0, "unchanged")
    # all that was there is there again, and what came since is gone
    lp.rollback(upstream.table, version=4)
    assert world.run().written == 24
    upstream.data["stages"]["kept"]["do"] = [{"filter": "p >= 4"}]
    upstream.publish()
    done = world.run()
    assert done.written == 48


def test_data_files_of_a_dataset_without_units_reach_their_rows(world: World) -> None:
    up = Upstream(world, "quotes", mode="upsert", key=["at", "k"])
    up.write("quotes-0", (1, "a", 1), (90, "b", 2))
    up.publish()
    world.run()
    up.write("quotes-1", (91, "b", 3))
    up.publish()
    assert world.run().written == 12
    up.write("quotes-2", (91, "b", 4))
    up.publish()
    done = world.run()
    assert (done.written, done.why) == (
        12, "quotes: 1 added, 1 removed, 1 unchanged; trades: 4 unchanged, 1 affected by changes",
    )  # fmt: skip


def test_units_of_a_dataset_that_is_this_side_are_made_again(world: World) -> None:
    up = Upstream(world, "trades")
    for day in range(3):
        up.write(f"trades-{day}", *((24 * day + h, k, h) for h in range(0, 24, 4) for k in "ab"))
    up.publish()
    world.run()
    for hour in (50, 51):
        world.write(f"quotes-{hour}", (hour, "a", 999))
        done = world.run()
        assert done.why is not None
        assert (done.written, "trades: 1 unchanged, 1 affected by changes" in done.why) == (12, True)
    up.remove("trades-2")
    up.write("trades-9", (49, "b", 1))
    up.publish()
    assert world.run().written == 1
    world.write("quotes-50", (50, "b", 9))
    assert world.run().written == 0


def test_outputs_of_the_pipeline_are_followed_on_both_sides(world: World) -> None:
    world.data["sources"]["quotes"] |= {"on_removed": "delete"}
    world.data["stages"] |= {
        "dear": {"from": "quotes", "do": [{"filter": "p > 3"}]},
        "mine": {"from": "trades", "do": [{"derive": {"w": "v + 1"}}]},
        "more": {"from": "trades", "do": [{"filter": "v > 90"}]},
        "priced": {"from": "mine", "do": [{"union": {"with": "more", "missing": "fill"}}, {"asof_join": {**ASOF["asof_join"], "with": "dear"}}]},
    }  # fmt: skip
    world.data["outputs"] |= {n: {"to": f"out/{n}"} for n in ("dear", "mine")}
    assert "and files whose rows change with dear" in world.compile().explain_incremental()
    world.run()
    world.write("quotes-9", (50, "a", 999))
    done = world.run()
    assert done.written == 12
    world.write("trades-2", (51, "a", 91))
    world.remove("quotes-3")
    assert world.run().written == 16  # a row twice, and of the last day twelve, two of them twice


def test_what_is_known_of_no_unit_makes_all_anew(world: World, upstream: Upstream) -> None:
    dataset = Dataset(str(world.root / "out/priced"))
    commit = dataset.read()
    consumed = {**commit.info["consumed"], "extents": {"priced.0": {}}}  # as it was written before units were followed
    dataset.restate(commit, run="old", time=datetime(2026, 1, 1, tzinfo=UTC), info={"consumed": consumed})
    upstream.write("quotes-9", (50, "a", 999))
    upstream.publish()
    done = world.run()
    assert (done.written, done.why) == (48, "quotes: 1 added, 4 unchanged")
    upstream.write("quotes-8", (50.5, "a", 999))
    upstream.publish()
    assert world.run().written == 12


def test_units_that_are_ignored_when_they_go_reach_nothing(world: World, upstream: Upstream) -> None:
    world.data["sources"]["quotes"]["on_removed"] = "ignore"
    world.run()
    upstream.remove("quotes-3")
    upstream.publish()
    result = world.compile().run()
    result.raise_for_status()
    rows = lp.scan(str(world.root / "out/priced")).filter(pl.col("at") > T0 + timedelta(hours=73)).collect()
    assert rows["p"].null_count() == 0


TIMES = {"window": {"time": "at", "every": "1d", "by": ["k"], "aggregate": {"n": "count(*)", "v": "sum(v)"}}}


@pytest.mark.parametrize("step", [{"filter": "v >= 0"}, TIMES], ids=["rows", "groups"])
def test_a_unit_that_went_and_comes_back_is_there_once(tmp_path: Path, step: dict[str, Any]) -> None:
    world = World(tmp_path, step)
    del world.data["sources"]["quotes"]
    up = Upstream(world, "trades")
    up.write("trades-0", (50, "a", 38))
    up.write("trades-1", (51, "a", 1), (52, "a", 2), (53, "b", 3))
    up.publish()
    world.run()
    up.write("trades-0", (54, "a", 81), (55, "a", 95))
    up.publish()
    world.run()
    lp.rollback(up.table, version=1)
    assert world.run().status == "done"  # and equals a full one
    up.remove("trades-1")
    up.publish()
    world.run()
    lp.rollback(up.table, version=2)
    world.run()


@pytest.mark.parametrize("step", [ASOF, {"join": {"with": "quotes", "on": "k", "how": "left", "columns": {"p": "p"}}}])
def test_a_run_over_part_of_event_time_goes_on_reading_the_other_side(world: World, step: Any) -> None:
    world.data["stages"]["priced"]["do"] = [step]
    world.data["sources"]["trades"]["event_time"] = "at"
    up = Upstream(world, "quotes")
    for name, row in (("quotes-0", (0, "a", 1)), ("quotes-1", (70, "b", 2))):
        up.write(name, row)
        up.publish()
    world.run()
    world.write("trades-9", (3, "a", 5))
    world.run(window=("2024-05-01", "2024-05-02"))
    up.remove("quotes-1")
    up.publish()
    assert world.run().status == "done"  # and equals a full one


def test_other_outputs_and_modes_stay_as_they_are(world: World) -> None:
    world.data["outputs"] = {"priced": {"to": "out/more", "mode": "append"}}
    world.compile().run().raise_for_status()
    world.write("quotes-9", (50, "a", 999))
    assert world.compile().run().segments[0].status == "unchanged"
    world.data["stages"]["twice"] = {"from": "priced", "do": [{"filter": "k = 'a'"}]}
    world.data["outputs"] = {"twice": {"to": "out/twice"}, "priced": {"to": "out/priced"}}
    world.run()
    world.write("quotes-8", (51, "b", 999))
    assert world.run().written == 12


def test_commits_of_before_do_not_say_where_files_lay(world: World) -> None:
    dataset = Dataset(str(world.root / "out/priced"))
    commit = dataset.latest()
    assert commit is not None
    consumed = {k: v for k, v in commit.info["consumed"].items() if k != "extents"}
    dataset.restate(commit, run="old", time=datetime(2026, 1, 1, tzinfo=UTC), info={"consumed": consumed})
    world.write("quotes-9", (50, "a", 99))
    assert world.run().written == 12
    dataset.restate(dataset.read(), run="old", time=datetime(2026, 1, 1, tzinfo=UTC), info={"consumed": consumed})
    world.remove("quotes-0")
    assert world.run().written == 48
    world.remove("quotes-1")
    assert world.run().written == 24


def test_a_bound_leaves_new_files_and_not_those_that_are_reached(world: World) -> None:
    world.write("quotes-9", (50, "a", 999))
    world.write("trades-8", (51, "a", 1))
    world.write("trades-9", (51, "b", 1))
    done = world.run(max_files=1)
    assert (done.written, done.left) == (13, 1)
    done = world.run(max_files=1)
    assert (done.written, done.left) == (1, 0)


STEPS: list[list[dict[str, Any]]] = [
    [ASOF],
    [{"asof_join": {**ASOF["asof_join"], "strategy": "forward", "tolerance": "3h"}}],
    [{"asof_join": {"with": "quotes", "on": "at", "strategy": "nearest", "suffix": "_q"}}],
    [NEAR],
    [{"interval_join": {"with": "quotes", "time": "at", "within": ["1h", "4h"], "suffix": "_q"}}],
    [ASOF, {"window": {"time": "at", "every": "6h", "by": ["k"], "aggregate": {"n": "count(p)", "worth": "sum(p)"}}}],
    [{"derive": {"at": "at + INTERVAL '1 hour'"}}, ASOF, {"filter": "p > 30"}],
]
HOURS = st.lists(st.tuples(st.integers(0, 6), st.sampled_from("ab")), max_size=3, unique_by=lambda row: row[0])
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["trades", "quotes", "quotes"]), st.integers(0, 3), HOURS, st.booleans(), st.booleans()),
    min_size=1,
    max_size=4,
)


def published(world: World, names: list[str]) -> None:
    """Have outputs of the pipeline as sides of the join."""
    stage, value = world.data["stages"]["priced"], {"trades": "v", "quotes": "p"}
    for name in names:
        own = f"own_{name}"
        world.data["stages"][own] = {"from": name, "do": [{"filter": f"{value[name]} > -1"}]}
        world.data["outputs"][own] = {"to": f"out/{own}"}
        stage["from"] = own if name == "trades" else stage["from"]
        stage["do"] = [
            {n: {**a, "with": own} if isinstance(a, dict) and a.get("with") == name else a}
            for step in stage["do"]
            for n, a in step.items()
        ]


@given(steps=st.sampled_from(STEPS), fmt=st.sampled_from(["csv", "parquet"]), actions=ACTIONS, most=st.sampled_from([None, None, 1]), names=st.sampled_from([[], ["quotes"], ["trades"], ["trades", "quotes"]]))  # fmt: skip
@settings(max_examples=settings().max_examples // 5)
@example(steps=[ASOF], fmt="csv", actions=[("quotes", 0, [(0, "a")], False, True), ("quotes", 0, [(4, "b")], False, True)], most=None, names=[])  # fmt: skip
@example(steps=[ASOF], fmt="csv", actions=[("quotes", 0, [(0, "a")], False, True), ("quotes", 0, [(4, "b")], True, True)], most=None, names=["trades", "quotes"])  # fmt: skip
def test_any_changes_on_both_sides_end_as_one_full_run(
    steps: Any, fmt: str, actions: Any, most: int | None, names: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), *steps, fmt=fmt)
        published(world, names)
        for name in ("trades", "quotes"):
            for file in range(2):
                world.write(f"{name}-{file}", *((6 * x + file, k, x) for x in (1, 4) for k in "ab"[: file + 1]))
        world.run()
        for version, (name, file, rows, gone, due) in enumerate(actions):
            path = world.root / "in" / f"{name}-{file}.{fmt}"
            if gone and path.exists() and len(list(path.parent.glob(f"{name}*"))) > 1:
                path.unlink()
            else:
                # no two files of the other side have rows of one time
                world.write(f"{name}-{file}", *((6 * x + file, k, 10 * version + x) for x, k in rows))
            if due:
                world.run(max_files=most)
        for _ in range(12):  # outputs ahead of this one may have left something, too
            if world.run(max_files=most).status == "unchanged":
                break
        assert world.run().status == "unchanged"
