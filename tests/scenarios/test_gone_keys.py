"""Feeds of changes that come out of order: what was removed stays so, whatever comes later and is older."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.run.segment.gone import GONE
from lazypipe.storage.datasets.dataset import Dataset

Event = tuple[int, str, int, int]
"""Key, operation, time, value."""

NAMES = ("id", "op", "at", "v")


class Feed:
    """A pipeline that keeps the present rows of a feed, and the history of each key."""

    def __init__(self, root: Path, **more: Any) -> None:
        self.root = root
        columns = {"columns": {"id": "Int64", "op": "String", "at": "Int64", "v": "Int64"}}
        made = lp.pipeline("cdc", base=root).source("feed", "in/*.parquet", contract=columns)
        made = made.stage("now", "feed", do=[{"filter": "v < :limit"}]).param("limit", "integer", default=10**6)
        history = [{"derive": {"since": pl.from_epoch("at"), "out": "op = 'D'"}}, {"drop": ["op", "at"]}]
        made = made.stage("history", "feed", do=history)
        order = {"order_by": "at", "deleted_when": "op = 'D'"}
        made = made.output("now", more.pop("to", "out/now"), mode="upsert", key="id", **{**order, **more})
        made = made.output("history", "out/history", mode="scd2", key="id", event_time="since", deleted_when="out")
        self.pipe = made.build()
        (root / "in").mkdir()
        self.files = 0

    def deliver(self, events: Iterable[Event]) -> lp.RunResult:
        self.files += 1
        rows = pl.DataFrame([*events], schema=[*NAMES], orient="row", schema_overrides={"op": pl.String})
        rows.write_parquet(self.root / f"in/{self.files:03}.parquet")
        return self.run()

    def run(self, **more: Any) -> lp.RunResult:
        result = self.pipe.compile().run(**more)
        result.raise_for_status()
        return result

    def now(self) -> dict[int, Event]:
        return {r[0]: r for r in lp.scan(self.root / "out/now").select(NAMES).collect().rows()}

    def history(self) -> list[tuple[int, int, int, int | None, bool]]:
        seconds = [pl.col(n).dt.epoch("s") for n in ("valid_from", "valid_to")]
        rows = lp.scan(self.root / "out/history").select("id", "v", *seconds, "is_current").collect()
        return sorted(rows.rows())


def present(events: Iterable[Event]) -> dict[int, Event]:
    last = {e[0]: e for e in sorted(events, key=lambda e: e[2])}
    return {k: e for k, e in last.items() if e[1] != "D"}


def says(event: Event) -> tuple[bool, int]:
    return event[1] == "D", event[3]


def versions(events: Iterable[Event]) -> list[tuple[int, int, int, int | None, bool]]:
    found = []
    keys = {e[0] for e in events}
    for key in keys:
        of = sorted(e for e in events if e[0] == key)
        of.sort(key=lambda e: e[2])
        of = [
            e
            for before, e in zip([None, *of], of, strict=False)
            if not before or (e[1] == "D") or says(before) != says(e)
        ]
        for event, after in zip(of, [*of[1:], None], strict=True):
            if event[1] != "D":
                found.append((key, event[3], event[2], after and after[2], after is None))
    return sorted(found)


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_deliveries_ends_in_what_is_so(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    # few values, so that many rows say what the one before them does
    events = [(draw.randrange(4), draw.choice("IUUUD"), at, draw.randrange(2)) for at in range(30)]
    again = draw.sample(events, 5)
    feed, come = Feed(tmp_path), draw.sample([*events, *again], 35)
    for start in range(0, 35, 7):
        feed.deliver(dict.fromkeys(come[start : start + 7]))
    assert feed.now() == present(events)
    assert feed.history() == versions(events)
    feed.run(full=True)
    assert feed.now() == present(events)
    assert feed.history() == versions(events)


def test_removals_are_known_after_rollback_compaction_and_vacuum(tmp_path: Path) -> None:
    feed = Feed(tmp_path)
    feed.deliver([(1, "I", 1, 1), (2, "I", 2, 2)])
    feed.deliver([(1, "D", 10, 0), (3, "D", 10, 0)])
    out = tmp_path / "out/now"
    lp.optimize.compact(out)
    lp.vacuum(feed.pipe)
    feed.deliver([(1, "U", 5, 5), (3, "I", 5, 5), (2, "U", 5, 5)])
    assert feed.now() == {2: (2, "U", 5, 5)}
    assert feed.history() == [
        (1, 1, 1, 5, False),
        (1, 5, 5, 10, False),
        (2, 2, 2, 5, False),
        (2, 5, 5, None, True),
        (3, 5, 5, 10, False),
    ]
    feed.deliver([(3, "U", 11, 11), (2, "D", 12, 0)])
    assert feed.now() == {3: (3, "U", 11, 11)}
    # the removal of 2 is taken back, that of 1 is not
    lp.rollback(feed.pipe.compile(), "now", version=Dataset(out).latest().version - 1)  # type: ignore[union-attr]
    (tmp_path / "in/004.parquet").unlink()
    feed.deliver([(2, "U", 6, 6), (1, "U", 9, 9)])
    assert feed.now() == {2: (2, "U", 6, 6)}


def test_what_is_kept_of_removals_is_merged_and_is_no_data(tmp_path: Path) -> None:
    feed = Feed(tmp_path)
    for at in range(1, 10):
        feed.deliver([(at, "D", at, 0), (0, "D", at, 0)])
    commit = Dataset(str(tmp_path / "out/now")).latest()
    assert commit is not None
    assert commit.info[GONE]["columns"] == ["id", "at"]
    assert [f.rows for f in commit.figures] == [16, 2]
    assert feed.now() == {}
    version = commit.version
    # nothing that is not known: no file more
    feed.deliver([(3, "D", 3, 0)])
    commit = Dataset(str(tmp_path / "out/now")).latest()
    assert commit is not None
    assert (commit.version, len(commit.figures)) == (version + 1, 2)


def test_a_feed_of_keys_forgets_removals_too(tmp_path: Path) -> None:
    feed = Feed(tmp_path)
    forget = lp.pipeline("forget", base=tmp_path).source("keys", "forget/*.csv").stage("gone", "keys")
    erase = forget.output("gone", "out/now", mode="delete", key="id").build()
    (tmp_path / "forget").mkdir()
    feed.deliver([(1, "I", 1, 1), (1, "D", 5, 0), (2, "D", 5, 0)])
    (tmp_path / "forget/1.csv").write_text("id\n1\n")
    erase.compile().run().raise_for_status()
    kept = sorted(tmp_path.glob("out/now.commits/figures/*"))
    lp.vacuum(tmp_path / "out/now", older_than=timedelta(0))
    left = sorted(tmp_path.glob("out/now.commits/figures/*"))
    assert (len(kept), [pl.read_parquet(f)["id"].to_list() for f in left]) == (2, [[2]])
    feed.deliver([(1, "U", 4, 4), (2, "U", 4, 4)])
    assert feed.now() == {1: (1, "U", 4, 4)}
    (tmp_path / "forget/2.csv").write_text("id\n1\n2\n")
    erase.compile().run().raise_for_status()
    commit = Dataset(str(tmp_path / "out/now")).latest()
    assert commit is not None
    assert (commit.figures, GONE in commit.info) == ((), False)
    (tmp_path / "forget/3.csv").write_text("id\n1\n")
    assert erase.compile().run().status == "done"


def test_with_another_order_removals_of_before_say_nothing(tmp_path: Path) -> None:
    feed = Feed(tmp_path)
    feed.deliver([(1, "D", 5, 5)])
    (tmp_path / "other").mkdir()
    other = Feed(tmp_path / "other", order_by="v", to=str(tmp_path / "out/now"))
    other.deliver([(1, "U", 4, 4)])
    assert feed.now() == {1: (1, "U", 4, 4)}


def test_nothing_is_remembered_where_the_order_is_that_of_the_runs(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    made = lp.pipeline("p", base=tmp_path).source("feed", "in/*.parquet").stage("s", "feed")
    pipe = made.output("s", "out/s", mode="scd2", key="id", deleted_when="op = 'D'").build()
    for number, operation in enumerate(["D", "I", "D", "I"]):
        pl.DataFrame({"id": [1], "op": [operation]}).write_parquet(tmp_path / f"in/{number}.parquet")
        pipe.compile().run().raise_for_status()
        commit = Dataset(str(tmp_path / "out/s")).latest()
        assert commit is not None
        assert GONE not in commit.info
    assert lp.scan(tmp_path / "out/s").select("is_current").collect().to_series().sort().to_list() == [False, True]
