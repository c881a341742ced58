"""Streams, with any trigger and bound, that are killed, stopped and begun again with other definitions, between runs: whenever one waits, what is there is what plain Python makes of the files."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.delivered import CLOCK, put
from tests.properties.scale import at_scale

START = datetime(2023, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SCHEMA = pl.Schema({"n": pl.Int64, "k": pl.String, "v": pl.Int64, "at": pl.Datetime("us", "UTC")})
ROWS = st.lists(
    st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 5), st.integers(0, 30)), min_size=1, max_size=4
)
SAID = st.fixed_dictionaries(
    {
        "most": st.integers(2, 5),
        "least": st.integers(0, 1),
        "sum": st.sampled_from(["sum(v)", "max(v)"]),
        "lateness": st.sampled_from([0, 3]),
        "late": st.sampled_from(["update", "quarantine", "drop"]),
        "closed": st.booleans(),
    }
)
EVENTS = [
    "add",
    "add",
    "add",
    "modify",
    "remove",
    "define",
    "define",
    "stop",
    "run",
    "bounded",
    "killed",
    "killed",
    "wait",
    "wait",
]
STEPS = st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 5), ROWS, SAID), min_size=1, max_size=9)
TRIGGERS: list[dict[str, Any]] = [
    {},
    {"every": "1m"},
    {"every": "7s", "files": 2},
    {"files": 3, "or_after": 25},
    {"rows": 4},
    {"rows": 5, "files": 2, "or_after": 15},
]
# where a process may end, and how often it comes by there before it does
PLACES = [
    "storage.datasets.log.CommitLog.append",
    "storage.sink.DatasetSink.write",
    "records.record.Records.write",
    "records.ledger.Ledger.append",
]
Row = tuple[int, str | None, int, datetime]


class Killed(BaseException):
    """As if the process ended there."""


class World:
    def __init__(self, base: Path, case: dict[str, Any], steps: list[Any]) -> None:
        self.base, self.case, self.said = base, case, case["said"]
        self.steps = [*steps]
        self.files: dict[str, list[Row]] = {}
        self.made = 0
        self.now = START + timedelta(days=300)
        self.added: list[Row] = []
        self.taken: dict[str, list[Row]] = {}
        self.waits: datetime | None = None
        self.idle: set[str] | None = None
        self.reached = START - 1000 * HOUR
        self.partly = False
        self.stream: lp.Stream | None = None
        (base / "in").mkdir()
        self.write("f00", [("a", 1, 4), ("b", 2, 9)])

    def write(self, name: str, rows: list[Any]) -> None:
        self.made += 1
        self.files[name] = [(self.made * 10 + i, k, v, START + h * HOUR) for i, (k, v, h) in enumerate(rows)]
        frame = pl.DataFrame(self.files[name], schema=SCHEMA, orient="row")
        put(self.base / f"in/{name}.{self.case['format']}", frame, CLOCK + self.made * 10)

    def pipe(self) -> lp.Pipeline:
        said = self.said
        window = {
            "time": "at",
            "every": "6h",
            "by": ["k"],
            "allowed_lateness": f"{said['lateness']}h",
            "late": said["late"],
            "emit": "on_close" if self.closes else "each_run",
            "aggregate": {"n": "count(*)", "s": said["sum"]},
        }
        data = {
            "version": 1,
            "name": "p",
            "sources": {
                "a": {
                    "uri": f"in/*.{self.case['format']}",
                    "contract": {"columns": {"n": "Int64", "k": "String", "v": "Int64", "at": "Datetime(us, UTC)"}},
                    "event_time": "at",
                    "watermark": {"delay": "2h"},
                }
            },
            "stages": {
                "kept": {
                    "from": "a",
                    "do": [{"filter": f"v >= {said['least']}"}],
                    "gate": [{"between": {"column": "v", "max": said["most"], "action": "quarantine"}}],
                },
                "sums": {
                    "from": "kept",
                    "do": [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)", "s": said["sum"]}}}],
                },
                "hours": {"from": "a", "do": [{"window": window}]},
                "all": {"from": "a", "do": [{"select": [*SCHEMA]}]},
            },
            "outputs": {
                "kept": {"to": "out/kept", **({"key": "n", "changes": True} if self.case["changes"] else {})},
                "sums": {"to": "out/sums"},
                "hours": {"to": "out/hours"},
            }
            | ({} if self.case["trigger"] > 1 else {"all": {"to": "out/all", "mode": "append"}}),
        }
        return lp.Pipeline.from_dict(data, base=str(self.base))

    # what happens

    def live(self) -> None:
        """Have streams run, one after another, until all has happened and been judged."""
        trigger = dict(TRIGGERS[self.case["trigger"]])
        trigger |= {"or_after": f"{trigger['or_after']}s"} if "or_after" in trigger else {}
        while self.steps:
            self.begin(lp.Trigger(**trigger))
        self.begin(lp.Trigger(once=True))
        self.take()
        self.judge()
        result = self.pipe().compile().run(now=self.now)
        assert {s.status for s in result.segments} <= {"unchanged"}, result.segments

    def begin(self, trigger: lp.Trigger) -> None:
        self.waits = self.idle = None
        with pytest.MonkeyPatch.context() as self.patch, suppress(Killed):
            self.stream = lp.stream(
                self.pipe(),
                trigger,
                max_files=self.case["most"],
                clock=lambda: self.now,
                sleep=self.sleep,
                rng=random.Random(1),
            )
            for result in self.stream:
                result.raise_for_status()

    def sleep(self, seconds: float) -> None:
        """Judge what the stream has made, then have time pass, and the next thing happen."""
        assert self.stream is not None
        self.wait()
        self.now += timedelta(seconds=seconds)
        if not self.steps:
            self.stream.stop()
            return
        event, index, rows, said = self.steps.pop(0)
        names = sorted(self.files)
        name = names[index % len(names)]
        self.idle = None if event != "wait" else self.written()
        match event:
            case "add":
                # in front of others too, where rows may be late by then
                self.write(f"{'fe'[index % 2]}{self.made:02}", rows)
            case "modify":
                self.write(name, rows)
            case "remove" if len(names) > 1:
                del self.files[name]
                (self.base / f"in/{name}.{self.case['format']}").unlink()
            case "define":
                self.said = said
                self.stream.stop()
            case "stop":
                self.stream.stop()
            case "run" | "bounded":
                left = 1
                while left:
                    result = self.pipe().compile().run(now=self.now, max_files=1 if event == "bounded" else None)
                    result.raise_for_status()
                    left = result.left
            case "killed":
                self.write(f"f{self.made:02}", rows)
                self.partly = True
                self.kill(PLACES[index % len(PLACES)], len(rows) - 1)

    def kill(self, place: str, passes: int) -> None:
        owner, _, name = f"lazypipe.{place}".rpartition(".")
        module, _, cls = owner.rpartition(".")
        whole = getattr(getattr(__import__(module, fromlist=[cls]), cls), name)
        left = [passes]

        def die(*of: Any, **how: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return whole(*of, **how)

        self.patch.setattr(f"{owner}.{name}", die)

    # what is held against what

    def written(self) -> set[str]:
        roots = [self.base / "out", self.base / ".lazypipe"]
        return {f"{p}:{p.stat().st_mtime_ns}" for r in roots for p in r.rglob("*") if p.is_file()}

    def wait(self) -> None:
        """Judge a stream that waits: all is taken in, or too little has come, and not for long."""
        if not self.gathers:
            self.take()
            self.judge()
            assert self.idle in (None, self.written())
            return
        with suppress(AssertionError):
            self.judge()
            self.take()
            return
        trigger = TRIGGERS[self.case["trigger"]]
        came = [rows for name, rows in self.files.items() if self.taken.get(name) != rows]
        went = len(self.taken.keys() - self.files.keys())
        if self.partly:  # it is not known what of them was taken in
            return
        assert came or went
        assert len(came) + went < trigger.get("files", 99)
        assert sum(map(len, came)) < trigger.get("rows", 99)
        self.waits = self.waits or self.now
        assert self.now - self.waits < timedelta(seconds=trigger.get("or_after", 3600))

    def take(self) -> None:
        self.added += [row for name, rows in self.files.items() if self.taken.get(name) != rows for row in rows]
        self.taken, self.waits, self.partly = dict(self.files), None, False
        self.reached = max([self.reached, *(r[3] for rows in self.files.values() for r in rows)])

    @property
    def gathers(self) -> bool:
        return bool({"files", "rows"} & TRIGGERS[self.case["trigger"]].keys())

    @property
    def closes(self) -> bool:
        # how far a stream is that gathers cannot be told by what it has published
        return self.said["closed"] and not self.gathers

    def judge(self) -> None:
        kept = self.kept()
        assert self.found("kept", *SCHEMA) == kept
        groups: dict[Any, list[int]] = {}
        for _, k, v, _ in kept.elements():
            groups.setdefault(k, []).append(v)
        assert self.found("sums", "k", "n", "s") == Counter((k, len(vs), self.total(vs)) for k, vs in groups.items())
        hours, late = self.hours()
        assert self.found("hours", "k", "window_start", "n", "s") == hours
        there = self.base / ".lazypipe/quarantine/p/hours__late"
        aside = lp.scan(str(there)).collect()["n"].to_list() if Path(f"{there}.commits").exists() else []
        assert sorted(aside) == (sorted(late) if self.said["late"] == "quarantine" else [])
        if self.case["trigger"] <= 1:
            assert self.found("all", *SCHEMA) == Counter(self.added)

    def found(self, name: str, *columns: str) -> Counter[Any]:
        if not (self.base / f"out/{name}.commits").exists():
            return Counter()
        return Counter(lp.scan(str(self.base / "out" / name)).collect().select(columns).rows())

    def kept(self) -> Counter[Row]:
        low, high = self.said["least"], self.said["most"]
        return Counter(r for rows in self.files.values() for r in rows if low <= r[2] <= high)

    def total(self, values: list[int]) -> int:
        return sum(values) if self.said["sum"] == "sum(v)" else max(values)

    def hours(self) -> tuple[Counter[Any], list[int]]:
        held: dict[Any, list[int]] = {}
        late: list[int] = []
        highest: datetime | None = None
        lateness = self.said["lateness"] * HOUR
        for name in sorted(self.files):
            reached = None if highest is None else highest - 2 * HOUR
            for n, k, v, at in self.files[name]:
                begin = START + (at - START) // (6 * HOUR) * 6 * HOUR
                if self.said["late"] != "update" and reached is not None and begin + 6 * HOUR + lateness <= reached:
                    late.append(n)
                else:
                    held.setdefault((k, begin), []).append(v)
            highest = max([r[3] for r in self.files[name]] + ([] if highest is None else [highest]))
        shown = {
            of: vs
            for of, vs in held.items()
            if not self.closes or of[1] + 6 * HOUR + lateness <= self.reached - 2 * HOUR
        }
        return Counter((k, begin, len(vs), self.total(vs)) for (k, begin), vs in shown.items()), late


@given(
    case=st.fixed_dictionaries(
        {
            "format": st.sampled_from(["csv", "parquet"]),
            "trigger": st.integers(0, len(TRIGGERS) - 1),
            "most": st.sampled_from([None, None, 1, 2]),
            "changes": st.booleans(),
            "scale": st.booleans(),
            "said": SAID,
        }
    ),
    steps=STEPS,
)
@settings(max_examples=settings().max_examples // 8)
def test_streams(case: dict[str, Any], steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(case["scale"]):
        World(Path(folder), case, steps).live()
