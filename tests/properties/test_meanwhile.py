"""While something reads and writes an output, something else goes by from its begin to its end: whatever both are, no row goes, none comes twice, and what is told is a conflict.

What goes by does so where the other opens or writes a log or files, at a place that is drawn: runs, full and bounded ones, replays, rollbacks, files that
are written anew. Or the other ends there, as if it were killed.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.errors import CommitConflict
from lazypipe.records.ledger import Ledger
from lazypipe.storage.datasets.log import CommitLog
from lazypipe.storage.sink import DatasetSink

Row = tuple[int, str, int, int]
START = datetime(2025, 1, 1, tzinfo=UTC)
COLUMNS = ["id", "k", "v", "t"]
ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from("ab"), st.integers(0, 9)),
    min_size=1,
    max_size=4,
    unique_by=lambda r: r[0],
)
DONE = ["run", "run", "full", "bounded", "replay", "compact", "rewrite", "rollback"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["run", "full", *DONE]),
        st.sampled_from([*DONE, *["killed"] * 4]),
        st.integers(1, 16),
        st.integers(0, 5),
        st.none() | ROWS,
        st.none() | ROWS,
        st.none() | st.sampled_from([3, 5, 9]),
    ),
    min_size=1,
    max_size=4,
)
PLACES = [(CommitLog, "append"), (CommitLog, "last"), (DatasetSink, "write"), (Ledger, "append")]


class Killed(BaseException):
    """As if the process ended there."""


@contextmanager
def meanwhile(place: int, other: Callable[[], None]) -> Iterator[None]:
    """Do something where this number of a log or of files is opened or written, counted from here on."""
    left = [place]

    def wrapped(original: Callable[..., Any], *args: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            other()
        return original(*args, **more)

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in PLACES:
            original = getattr(owner, name)
            patch.setattr(owner, name, lambda *a, _original=original, **m: wrapped(_original, *a, **m))
        yield


class World:
    def __init__(self, base: Path, mode: str, *, changes: bool, partitioned: bool) -> None:
        self.base, self.mode, self.partitioned = base, mode, partitioned
        self.changes = changes and mode in ("replace", "upsert")
        self.most, self.runs, self.files = 5, 0, list[list[Row]]()
        (base / "in").mkdir()

    def deliver(self, rows: list[tuple[int, str, int]]) -> None:
        at = 10 * len(self.files)
        self.files.append([(*row, at + n) for n, row in enumerate(rows)])
        frame = pl.DataFrame(self.files[-1], schema=COLUMNS, orient="row")
        frame.write_csv(self.base / f"in/{len(self.files):03}.csv")

    @property
    def pipe(self) -> lp.Pipeline:
        key = {"upsert": "id", "replace": "t"} if self.changes or self.mode == "upsert" else {}
        output: dict[str, Any] = {"to": "out/o", "mode": self.mode, "changes": self.changes}
        output |= {"partition_by": "k"} if self.partitioned else {}
        output |= {"key": key[self.mode]} if self.mode in key else {}
        output |= {"order_by": "t"} if self.mode == "upsert" else {}
        gate = [{"between": {"column": "v", "max": self.most, "action": "quarantine"}}]
        columns = {"id": "Int64", "k": "String", "v": "Int64", "t": "Int64"}
        definition = {
            "version": 1,
            "name": "p",
            "state": "state",
            "sources": {"s": {"uri": "in/*.csv", "contract": {"columns": columns}}},
            "stages": {
                "o": {"from": "s", "do": [{"filter": "id >= 0"}], "gate": [] if self.mode == "upsert" else gate}
            },
            "outputs": {"o": output},
        }
        return lp.Pipeline.from_dict(definition, base=str(self.base))

    def run(self, **how: Any) -> lp.RunResult:
        result = self.pipe.compile().run(now=self.now, **how)
        result.raise_for_status()
        return result

    @property
    def now(self) -> datetime:
        self.runs += 1
        return START + timedelta(hours=self.runs)

    @property
    def uri(self) -> str:
        return str(self.base / "out/o")

    def does(self, action: str, index: int) -> Callable[[], object]:
        """Return what is done; decided now, done later."""
        beside = [self.uri, f"{self.uri}__quarantine", f"{self.uri}__changes"]
        uri = next(u for u in (beside[index % 3], self.uri) if max(lp.history(u)["version"], default=0))
        match action:
            case "run" | "bounded" | "full":
                # an upsert from all files would be one of rows that are gone, if there were some
                return partial(self.run, full=action == "full", max_files=1 if action == "bounded" else None)
            case "replay" if self.mode != "upsert":
                return lambda: self.pipe.compile().replay("o", now=self.now)
            case "compact":
                return partial(lp.optimize.compact, uri, dead=0.0)
            case "rewrite":
                return partial(lp.optimize.rewrite, uri, "storage", every=True)
            case "rollback":
                there = lp.history(self.uri)["version"].to_list()
                return partial(lp.rollback, self.uri, version=there[index % len(there)], now=self.now)
        return lambda: None

    def attempt(self, what: Callable[[], object]) -> None:
        try:
            what()
        except lp.LazypipeError as error:
            assert isinstance(error, CommitConflict), error
            event("conflict")

    def step(self, this: str, other: str, place: int, index: int, more: list[Any] | None) -> None:
        def go_by() -> None:
            event(f"{other} beside {this}")
            if other == "killed":
                raise Killed
            if more is not None:
                self.deliver(more)
            self.attempt(self.does(other, index))

        with suppress(Killed), meanwhile(place, go_by):
            self.attempt(self.does(this, index))

    def held(self, uri: str) -> Counter[Row]:
        there = max(lp.history(uri)["version"], default=0)
        return Counter(lp.scan(uri).select(COLUMNS).collect().rows()) if there else Counter()

    def judge(self) -> None:
        self.run()
        rows = [row for file in self.files for row in file]
        good, aside = self.held(self.uri), self.held(f"{self.uri}__quarantine")
        if self.mode == "upsert":
            assert good == Counter({row[0]: row for row in rows}.values())
        elif self.mode == "append":  # each as it was judged when it came
            assert good + aside == Counter(rows)
        else:
            assert good == Counter(row for row in rows if row[2] <= self.most)
            assert aside == Counter(row for row in rows if row[2] > self.most)
        if self.changes:
            told = lp.scan(f"{self.uri}__changes").select(*COLUMNS, "_change").collect().rows()
            signs = [(row, 1 if change in ("insert", "update_after") else -1) for *row, change in told]
            summed = Counter[Row]()
            for row, sign in signs:
                summed[tuple(row)] += sign
            assert {row: n for row, n in summed.items() if n} == dict(good)
        assert {s.status for s in self.run().segments} == {"unchanged"}
        assert lp.ledger(str(self.base / "state/ledger")).verify().ok


@given(
    mode=st.sampled_from(["replace", "append", "upsert"]),
    changes=st.booleans(),
    partitioned=st.booleans(),
    first=ROWS,
    steps=STEPS,
)
@settings(max_examples=settings().max_examples * 2)
def test_meanwhile(mode: str, *, changes: bool, partitioned: bool, first: list[Any], steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), mode, changes=changes, partitioned=partitioned)
        world.deliver(first)
        world.run()
        for this, other, place, index, before, more, most in steps:
            if before is not None:
                world.deliver(before)
            if most is not None:
                world.most = most
            world.step(this, other, place, index, more)
        world.judge()
