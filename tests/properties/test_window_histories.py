"""Windows of any kind, with all that can be said of them, over any history: what is there, late, and told in panes is what a naive count has."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.run.segment import groups
from lazypipe.storage.datasets import tiers
from lazypipe.storage.datasets.log import CommitLog
from tests.properties.scale import at_scale

HOUR = timedelta(hours=1)
# a day or two before clocks change; in some zones they do at midnight, which is then missing or there twice
ZONES: dict[str, datetime] = {
    "UTC": datetime(2024, 2, 28, tzinfo=UTC),
    "Europe/Berlin": datetime(2024, 3, 30, tzinfo=UTC),
    "America/New_York": datetime(2024, 11, 2, tzinfo=UTC),
    "Africa/Cairo": datetime(2024, 4, 25, tzinfo=UTC),
    "America/Havana": datetime(2024, 11, 2, tzinfo=UTC),
    "Australia/Lord_Howe": datetime(2024, 4, 5, tzinfo=UTC),
    "Asia/Kolkata": datetime(2024, 2, 28, tzinfo=UTC),
}
KINDS: dict[str, tuple[str, ...]] = {
    "every: 1h": ("1h",),
    "every: 1d": ("1d",),
    "every: [1h, 1d]": ("1h", "1d"),
    "every: [1d, 1w, 1mo]": ("1d", "1w", "1mo"),
    "every: 1d, period: 2d": ("1d+1",),
    "every: 1h, period: 3h": ("1h+2",),
    "every: 1w": ("1w",),
}
WHAT = {"sum": "sum(v)", "median": "median(v)", "most": "max(v)", "kinds": "count(DISTINCT v)"}
GIVES: dict[str, Any] = {"sum": sum, "median": median, "most": max, "kinds": lambda vs: len({*vs})}
FILE = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 240), st.integers(60, 130), st.none()),
        # a star stands for a row of each of many groups
        st.sampled_from(["a", "a", "b", "b", None, "*"]),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=4,
)
MANY = [f"g{number:02}" for number in range(12)]
SAID = st.fixed_dictionaries(
    {
        "kind": st.sampled_from([*KINDS]),
        "by": st.booleans(),
        "what": st.sampled_from([*WHAT]),
        "lateness": st.sampled_from([0, 2, 30]),
        "late": st.sampled_from(["update", "quarantine", "drop"]),
        "emit": st.sampled_from(["each_run", "on_close"]),
        "keep": st.sampled_from([None, None, 24]),
        "then": st.sampled_from(["", "filter", "derive"]),
        "more": st.booleans(),
    }
)
STEP = st.tuples(
    st.sampled_from(
        [
            "add",
            "add",
            "add",
            "modify",
            "remove",
            "move",
            "define",
            "define one",
            "define one",
            "rollback",
            "compact",
            "full",
            "bounded",
            "range",
            "pieces",
            "killed",
            "killed",
            "vacuum",
            "vacuum",
        ]
    ),
    st.integers(0, 8),
    FILE,
    SAID,
    st.booleans(),
)


def begin_of(day: date, zone: ZoneInfo) -> datetime:
    """Return the first moment of a day by the clock of a zone."""
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=26)
    while moment.astimezone(zone).date() < day:
        moment += timedelta(minutes=15)
    return moment


def moved(day: date, unit: str, number: int) -> date:
    if unit == "1mo":
        month = day.year * 12 + day.month - 1 + number
        return date(month // 12, month % 12 + 1, 1)
    return day + timedelta(days=number * (7 if unit == "1w" else 1))


def windows_of(at: datetime, kind: str, zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
    unit, _, further = kind.partition("+")
    more = int(further or 0)
    local = at.astimezone(zone)
    found = []
    for back in range(more + 1):
        if unit == "1h":
            # counted from 1970-01-01 0:00 of the zone
            zero = datetime(1970, 1, 1, tzinfo=zone).astimezone(UTC)
            start = zero + (at - zero) // HOUR * HOUR - back * HOUR
            found.append((start, start + (more + 1) * HOUR))
            continue
        day = local.date()
        first = {"1d": day, "1w": day - timedelta(days=day.weekday()), "1mo": day.replace(day=1)}[unit]
        start_ = moved(first, unit, -back)
        found.append((begin_of(start_, zone), begin_of(moved(start_, unit, more + 1), zone)))
    return found


class Killed(BaseException):
    """As if the process ended there."""


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.case, self.said = base, case, case["said"]
        self.zone, self.start = ZoneInfo(case["zone"]), ZONES[case["zone"]]
        self.files: dict[str, list[Any]] = {}
        self.made = self.runs = 0
        self.reached: dict[Any, datetime] = {}
        self.reach: datetime | None = None
        """Up to when rows are said to be there: never less than before, also where a partition is new that is not as far."""
        self.versions: dict[int, Any] = {}
        (base / "in").mkdir()
        self.write([(10, "a", 1), (30, "b", 2)])

    def write(self, rows: list[Any], name: str | None = None) -> None:
        self.made += 1
        name = name or f"f{self.made:02}"
        told = [(h, of, v) for h, k, v in rows for of in (MANY if k == "*" else [k])]
        self.files[name] = [(None if h is None else self.start + h * timedelta(minutes=30), k, v) for h, k, v in told]
        self.put(name)

    def put(self, name: str) -> None:
        path = self.base / f"in/{name}.parquet"
        schema = {"at": pl.Datetime("us", "UTC"), "k": pl.String, "v": pl.Int64}
        frame = pl.DataFrame(self.files[name], schema=schema, orient="row")
        frame.with_columns(pl.col("at").dt.convert_time_zone(self.case["zone"])).write_parquet(path, row_group_size=1)
        os.utime(path, (1_750_000_000 + self.made * 10,) * 2)

    @property
    def what(self) -> str:
        # others have no difference
        return "sum" if self.case["panes"] == "discard" else str(self.said["what"])

    @property
    def then(self) -> str:
        return "" if self.case["panes"] == "discard" and self.said["then"] == "derive" else str(self.said["then"])

    def plan(self) -> lp.Plan:
        said, what = self.said, self.what
        keep = {} if said["keep"] is None else {"keep_results": f"{said['keep']}h"}
        every, _, period = said["kind"].partition(", period: ")
        kinds = every.removeprefix("every: ").strip("[]").split(", ")
        window: dict[str, Any] = {
            "time": "at",
            "every": kinds,
            **({"by": ["k"]} if said["by"] else {}),
            **({"period": period} if period else {}),
            "allowed_lateness": f"{said['lateness']}h",
            "late": said["late"],
            "emit": said["emit"],
            **keep,
            "aggregate": {"n": "count(*)", "m": WHAT[what]} | ({"e": "sum(v)"} if said["more"] else {}),
        }
        then: list[Any] = {
            "": [],
            "filter": [{"filter": "n < 3"}],
            "derive": [{"derive": {"m": "m + 1"}}],
        }[self.then]
        panes = {"panes": {"mode": self.case["panes"], "index": "i", "timing": "t"}} if self.case["panes"] else {}
        key = [*(["k"] if said["by"] else []), *(["window"] if len(kinds) > 1 else []), "window_start"]
        data = {
            "version": 1,
            "name": "p",
            "state": "state",
            "sources": {
                "a": {
                    "uri": "in/*.parquet",
                    "event_time": "at",
                    "watermark": {"delay": f"{self.case['delay']}h", **({"by": "k"} if self.case["of"] else {})},
                }
            },
            "stages": {"w": {"from": "a", "do": [{"window": window}, *then]}},
            "outputs": {
                "w": {
                    "to": "out/w",
                    **({"key": key, **panes} if panes else {}),
                    **({"maintain": self.case["maintain"]} if self.case["maintain"] else {}),
                }
            },
        }
        return lp.Pipeline.from_dict(data, base=str(self.base)).compile()

    def run(self, **how: Any) -> lp.RunResult:
        self.runs += 1
        plan = self.plan()
        result = plan.run(now=datetime(2025, 1, 1, tzinfo=UTC) + self.runs * HOUR, **how)
        result.raise_for_status()
        return result

    def act(self, action: str, index: int, rows: list[Any], said: dict[str, Any]) -> None:
        names = sorted(self.files)
        name = names[index % len(names)]
        match action:
            case "add":
                self.write(rows)
            case "modify":
                self.write(rows, name)
            case "remove" if len(names) > 1:
                (self.base / f"in/{name}.parquet").unlink()
                del self.files[name]
            case "move":
                there = f"f{98 - index}"
                if there not in self.files:
                    (self.base / f"in/{name}.parquet").rename(self.base / f"in/{there}.parquet")
                    self.files[there] = self.files.pop(name)
            case "define" if not self.case["panes"]:
                self.said = said
            case "define one":
                what = ["what", "lateness", "late", "emit", "keep", "then", "kind", "more", "more"][index]
                if not self.case["panes"] or what not in ("kind", "what"):
                    self.said = {**self.said, what: said[what]}
            case "rollback":
                uri = str(self.base / "out/w")
                there_ = lp.history(uri)["version"].to_list()
                version = there_[index % len(there_)]
                lp.rollback(uri, version=version)
                self.reached, self.reach = dict(self.versions[version][0]), self.versions[version][1]
                self.remember()
            case "compact":
                lp.optimize.compact(str(self.base / "out/w"), dead=0.0)
                self.remember()
            case "vacuum" if index % 2:
                lp.vacuum(self.plan().pipeline, keep=1 + index % 3, older_than=timedelta(0))
            case "vacuum":
                logs = sorted(self.base.glob("out/*.commits")) + sorted(self.base.glob("state/quarantine/p/*.commits"))
                there_ = [log for log in logs if any(log.glob("*.json"))]
                lp.vacuum(
                    str(there_[index % len(there_)]).removesuffix(".commits"),
                    keep=1 + index % 3,
                    older_than=timedelta(0),
                )
            case "killed":
                self.write(rows)
                self.killed(index % 4)
            case "full" | "bounded" | "range" | "pieces":
                pass

    def killed(self, commits: int) -> None:
        """Run, and die ahead of a commit: of rows put aside, of windows, of panes."""
        left = iter(range(commits))
        append = CommitLog.append

        def die(log: CommitLog, *made: Any) -> Any:
            if next(left, None) is None:
                raise Killed
            return append(log, *made)

        last = lp.history(str(self.base / "out/w"))["version"].max()
        with pytest.MonkeyPatch.context() as patch, suppress(Killed):
            patch.setattr(CommitLog, "append", die)
            self.run()
        if lp.history(str(self.base / "out/w"))["version"].max() != last:
            self.wanted()  # how far event time is stands there
            self.remember()

    def remember(self) -> None:
        for version in lp.history(str(self.base / "out/w"))["version"]:
            self.versions.setdefault(version, (dict(self.reached), self.reach))

    def judge(self, action: str, index: int) -> None:
        how: dict[str, Any] = {}
        of = {k for rows in self.files.values() for at, k, _ in rows if at is not None} if self.case["of"] else set()
        if action == "full":
            how = {"full": True}
            self.reached, self.reach = {}, None
        elif not of <= self.reached.keys():
            pass  # how far event time is once part of what is new is read is another question
        elif action == "bounded":
            for _ in range(30):
                if not self.run(max_files=1).left:
                    break
        elif action == "range":
            begin = self.start + timedelta(hours=index * 20)
            try:
                self.run(window=(begin, begin + timedelta(hours=40)))
            except lp.LazypipeError as error:
                if "choose" not in str(error):
                    raise
        elif action == "pieces":
            begin = self.start + timedelta(hours=index * 10)
            try:
                for result in self.plan().backfill((begin, begin + timedelta(hours=30)), chunk="12h"):
                    result.raise_for_status()
            except lp.LazypipeError as error:
                if "choose" not in str(error):
                    raise
        self.run(**how)
        windows, late = self.wanted()
        uri = str(self.base / "out/w")
        # moments that a clock shows twice are equal to none in Python
        frame = lp.scan(uri).with_columns(pl.col("window_start", "window_end").dt.convert_time_zone("UTC")).collect()
        self.remember()
        told = [*(["k"] if self.said["by"] else []), *(["window"] if "window" in frame.columns else [])]
        assert ("e" in frame.columns) == self.said["more"]
        frame = frame if self.said["more"] else frame.with_columns(e=pl.lit(None, dtype=pl.Int64))
        found = Counter(frame.select(*told, "window_start", "window_end", "n", "m", "e").rows())
        assert found == windows, (action, self.said)
        aside = self.base / "state/quarantine/p/w__late"
        rows = (
            lp.scan(str(aside)).select(pl.col("at").dt.convert_time_zone("UTC"), "k", "v").collect().rows()
            if Path(f"{aside}.commits").exists() and any(Path(f"{aside}.commits").glob("*.json"))
            else []
        )
        assert Counter(rows) == (late if self.said["late"] == "quarantine" else Counter())
        if self.case["panes"]:
            self.judge_panes(frame)
        assert {s.status for s in self.run().segments} <= {"unchanged"}, action

    def judge_panes(self, frame: pl.DataFrame) -> None:
        """Hold what panes have told against the windows that are there."""
        mode = self.case["panes"]
        panes = lp.scan(str(self.base / "out/w__panes")).collect().sort("_version", maintain_order=True)
        panes = panes if "e" in panes.columns else panes.with_columns(e=pl.lit(None, dtype=pl.Int64))
        ends = ("window_start", "window_end")
        panes = panes.with_columns(pl.col(ends).dt.convert_time_zone("UTC"))
        key = [c for c in ("k", "window", *ends) if c in frame.columns]
        now = {row[:-3]: row[-3:] for row in frame.select(*key, "n", "m", "e").rows()}
        if mode == "retract":
            total: Counter[Any] = Counter()
            for *row, w in panes.select(*key, "n", "m", "e", "_weight").rows():
                total[tuple(row)] += w
            assert {r: n for r, n in total.items() if n} == dict.fromkeys(((*k, *v) for k, v in now.items()), 1)
        elif mode == "accumulate":
            last = {row[:-3]: row[-3:] for row in panes.select(*key, "n", "m", "e").rows()}
            assert {k: v for k, v in last.items() if v[0] is not None} == now
            assert all(v == (None, None, None) for v in last.values() if v[0] is None)
        else:
            sums: dict[Any, list[int]] = {}
            for row in panes.select(*key, "n", "m", "e").rows():
                there = sums.setdefault(row[:-3], [0, 0, 0])
                sums[row[:-3]] = [a + (b or 0) for a, b in zip(there, row[-3:], strict=True)]
            none = (0, 0, 0)
            assert {k: tuple(v) for k, v in sums.items() if any(v)} == {
                k: tuple(x or 0 for x in v) for k, v in now.items() if v != none
            }
        numbers: dict[Any, set[tuple[int, int]]] = {}
        for *of, version, number in panes.select(*key, "_version", "i").rows():
            numbers.setdefault(tuple(of), set()).add((version, number))
        assert all([n for _, n in sorted(told)] == [*range(len(told))] for told in numbers.values())
        reached = self.reach
        newest = panes.filter(pl.col("_version") == lp.history(str(self.base / "out/w"))["version"].max())
        early = newest.filter(pl.col("t") == "early")["window_end"].to_list()
        assert early == [end for end in newest["window_end"] if reached is not None and end > reached]

    def wanted(self) -> tuple[Counter[Any], Counter[Any]]:
        said, delay = self.said, timedelta(hours=self.case["delay"])
        kinds = KINDS[said["kind"]]
        highest: dict[Any, datetime] = {}
        held: dict[Any, list[int]] = {}
        late: Counter[Any] = Counter()
        lateness = timedelta(hours=said["lateness"])
        for name in sorted(self.files):
            before = dict(highest)
            for at, k, v in self.files[name]:
                if at is None:
                    continue
                part = k if self.case["of"] else None
                highest[part] = max(highest.get(part, at), at)
                of = [(kind, *w) for kind in kinds for w in windows_of(at, kind, self.zone)]
                closes = max(w[2] for w in of) + lateness
                if said["late"] != "update" and part in before and closes <= before[part] - delay:
                    late[at, k, v] += 1
                    continue
                for kind, begin, end in of:
                    held.setdefault(((k,) if said["by"] else (), kind, begin, end), []).append(v)
        for part, at in highest.items():
            self.reached[part] = max(self.reached.get(part, at), at)
        if self.reached:
            least = min(self.reached.values()) - delay
            self.reach = least if self.reach is None else max(self.reach, least)
        reached = self.reach
        rows: Counter[Any] = Counter()
        for (of_, kind, begin, end), vs in held.items():
            if said["emit"] == "on_close" and (reached is None or end + lateness > reached):
                continue
            if said["keep"] is not None and reached is not None and end + lateness + said["keep"] * HOUR <= reached:
                continue
            if self.then == "filter" and len(vs) >= 3:
                continue
            m = GIVES[self.what](vs) + (self.then == "derive")
            window = (kind.partition("+")[0],) if len(kinds) > 1 else ()
            rows[(*of_, *window, begin, end, len(vs), m, sum(vs) if said["more"] else None)] += 1
        return rows, late


@contextmanager
def apart(really: bool) -> Iterator[None]:
    """Have rows that changes leave behind go to files of their own at once."""
    with pytest.MonkeyPatch.context() as patch:
        if really:
            patch.setattr(groups, "_APART", 1)
            patch.setattr(groups, "LEAST", 1)
            patch.setattr(tiers, "FAN", 3)
        yield


@given(
    case=st.fixed_dictionaries(
        {
            "zone": st.sampled_from([*ZONES]),
            "delay": st.sampled_from([0, 3]),
            "of": st.booleans(),
            "panes": st.sampled_from([None, "retract", "accumulate", "discard"]),
            "scale": st.sampled_from(["", "large", "apart"]),
            "maintain": st.sampled_from([None, None, {"small_files": 2}]),
            "said": SAID,
        }
    ),
    steps=st.lists(STEP, min_size=1, max_size=7),
)
@settings(max_examples=settings().max_examples // 4)
def test_window_histories(case: dict[str, Any], steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(case["scale"] == "large"), apart(case["scale"] == "apart"):
        world = World(Path(folder), case)
        world.judge("", 0)
        for number, (action, index, rows, said, due) in enumerate(steps, 1):
            world.act(action, index, rows, said)
            if due or number == len(steps):
                world.judge(action, index)
