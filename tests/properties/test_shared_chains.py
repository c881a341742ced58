"""Outputs that share a stage and its gate, over a table that others fill, correct, replay, merge, take back: each ends with what plain Python makes of the table, and no row is lost or doubled."""

from __future__ import annotations

import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from hypothesis import event, given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.delivered import CLOCK, put
from tests.properties.scale import at_scale

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SCHEMA = pl.Schema({"id": pl.Int64, "k": pl.String, "v": pl.Int64, "t": pl.Int64, "at": pl.Datetime("us", "UTC")})
COLUMNS = ["id", "k", "v", "t"]
ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["a", "b", None]), st.integers(0, 9)), min_size=1, max_size=4
)
ACTIONS = ["add", "add", "add", "add", "modify", "remove", "1", "1", "2", "2", "2", "3", "only", "only", "full", "some"]
ACTIONS += [
    "within",
    "compact",
    "compact",
    "rewrite",
    "vacuum",
    "rollback",
    "rollback",
    "replay",
    "replay",
    "most",
    "least",
]
STEPS = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 11), ROWS), min_size=3, max_size=14)
Row = tuple[Any, ...]

OUTPUTS: dict[str, dict[str, Any]] = {
    "copy": {"changes": True, "key": "t"},
    "plain": {},
    "added": {"mode": "append"},
    "more": {"mode": "append"},
    "put": {"mode": "upsert", "key": "id", "order_by": "t", "changes": True},
    "hist": {"mode": "scd2", "key": "id", "event_time": "at"},
    "sums": {},
    "last": {"key": "id"},
    "joined": {},
    "over": {},
    "aside": {},
    "apart": {"mode": "append"},
    "net": {},
}
ADD = ("added", "more", "put", "hist")
DO: dict[str, list[Any]] = {
    "sums": [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)", "v": "sum(v)"}}}],
    "last": [{"distinct": {"columns": "id", "keep": "last", "order_by": ["t"]}}],
    "joined": [{"join": {"with": "d", "on": "k", "how": "left", "nulls_equal": True, "columns": ["name"]}}],
    "over": [{"over": {"by": "k", "columns": {"most": "max(t)"}}}],
    "hist": [{"drop": []}],
}


class Held(NamedTuple):
    """What an output that adds rows has looked at, and what of that it has."""

    seen: frozenset[int] = frozenset()
    rows: tuple[Row, ...] = ()


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.case = base, case
        self.mode, self.outputs = case["mode"], case["outputs"]
        self.grows = self.mode == "append"
        self.files: dict[str, list[Row]] = {}
        self.made = self.order = self.runs = 0
        self.most, self.least = 7, 2
        self.held: dict[str, Held] = {n: Held() for n in self.outputs if n in ADD}
        self.versions: dict[str, dict[int, Held]] = {n: {} for n in self.held}
        self.lost: set[str] = set()
        self.varied = False
        self.back = False
        self.at = START
        (base / "in").mkdir()
        put(base / "d.csv", pl.DataFrame({"k": ["a", None], "name": ["A", "none"]}))
        self.write([(0, "a", 1), (1, "b", 9), (2, None, 3), (1, "b", 4)])

    def write(self, rows: list[Any], name: str | None = None) -> None:
        self.made += 1
        held = []
        for i, k, v in rows:
            self.order += 1
            held.append((i, k, v, self.order))
        name = name or f"f{self.made:03}"
        self.files[name] = held
        frame = pl.DataFrame([(*r, START + r[3] * HOUR) for r in held], schema=SCHEMA, orient="row")
        put(self.base / f"in/{name}.parquet", frame, CLOCK + self.made * 10)

    # the definitions

    def one(self) -> lp.Pipeline:
        how: dict[str, Any] = {
            "append": {"mode": "append"},
            "replace": {"key": "t"},
            "upsert": {"mode": "upsert", "key": "id", "order_by": "t"},
        }[self.mode]
        how |= {"changes": True} if self.mode != "append" else {}
        how |= {"partition_by": "k"} if self.case["partitioned"] else {}
        gate: list[Any] = [{"between": {"column": "v", "max": self.most, "action": "quarantine"}}]
        if self.case["timed"]:
            condition = "(t + date_part('hour', :now)) % 3 <> 0"
            gate.append({"expression": {"condition": condition, "action": "quarantine"}})
        stages: dict[str, Any] = {"t": {"from": "m" if self.case["over"] else "s", "gate": gate}}
        outputs: dict[str, Any] = {"t": {"to": "out/t", **how}}
        if self.case["over"]:
            stages, outputs = {"m": {"from": "s"}, **stages}, {"m": {"to": "out/m"}, **outputs}
        sources: dict[str, Any] = {"s": {"uri": "in/*.parquet", "event_time": "at"}}
        if self.case["together"]:
            stages |= self.followers()
            sources |= {"d": {"uri": "d.csv"}}
            outputs |= {n: {"to": f"out/{n}", **OUTPUTS[n]} for n in self.outputs}
        return self.defined("one", sources, stages, outputs)

    @property
    def judging(self) -> list[Any]:
        action: dict[str, Any] = {"action": self.case["action"]}
        action |= {"repair": {"clip": True}} if self.case["action"] == "repair" else {}
        gate = [{"between": {"column": "v", "min": self.least, **action}}]
        gate += [{"unique": {"columns": "t", "action": "fail"}}] if self.case["unique"] else []
        return gate

    def followers(self) -> dict[str, Any]:
        gate = [] if self.case["early"] else self.judging
        stages: dict[str, Any] = {"mid": {"from": "t", "do": [{"derive": {"w": "v * 2"}}], "gate": gate}}
        for name in self.outputs:
            at = {"aside": "q", "apart": "q", "net": "c"}.get(name, "mid")
            stages[name] = {"from": at, "do": DO.get(name, []) if name != "hist" else []}
            if name == "net":
                sign = {"sign": "CASE WHEN _change IN ('insert', 'update_after') THEN 1 ELSE -1 END"}
                sums = {"n": "sum(sign)", "v": "sum(sign * v)"}
                stages[name]["do"] = [{"derive": sign}, {"aggregate": {"by": "k", "aggregate": sums}}]
        return stages

    def two(self) -> lp.Pipeline:
        if self.case["together"]:
            return self.one()
        early = {"gate": self.judging} if self.case["early"] else {}
        sources: dict[str, Any] = {"t": {"uri": "out/t", "event_time": "at", **early}, "d": {"uri": "d.csv"}}
        sources |= {"q": {"uri": "out/t__quarantine"}} if {"aside", "apart"} & {*self.outputs} else {}
        sources |= {"c": {"uri": "out/t__changes"}} if "net" in self.outputs else {}
        stages = self.followers()
        laid = {"optimize": "storage"} if self.case["laid"] else {}
        outputs = {n: {"to": f"out/{n}", **OUTPUTS[n], **laid} for n in self.outputs}
        return self.defined("two", sources, stages, outputs)

    def three(self) -> lp.Pipeline:
        gate = [{"between": {"column": "v", "min": 4, "action": "quarantine"}}]
        how = {"from": "both", "do": []}
        stages: dict[str, Any] = {"both": {"from": "u", "gate": gate}, "u1": how, "u3": how}
        stages["u2"] = {"from": "both", "do": DO["sums"]}
        outputs: dict[str, Any] = {"u1": {"to": "out/u1"}, "u2": {"to": "out/u2"}}
        outputs["u3"] = {"to": "out/u3", "mode": "upsert", "key": "t", "order_by": "t"}
        return self.defined("three", {"u": {"uri": f"out/{self.upper}"}}, stages, outputs)

    @property
    def upper(self) -> str | None:
        return next((n for n in self.outputs if n in ("copy", "plain", "added", "put")), None)

    def defined(self, name: str, sources: Any, stages: Any, outputs: Any) -> lp.Pipeline:
        data = {"version": 1, "name": name, "state": name, "sources": sources, "stages": stages, "outputs": outputs}
        return lp.Pipeline.from_dict(data, base=str(self.base))

    # what is run

    @property
    def now(self) -> datetime:
        self.runs += 1
        return START + timedelta(days=1000) + self.runs * HOUR

    def there(self, name: str) -> bool:
        return max(lp.history(str(self.base / "out" / name))["version"], default=0) > 0

    def rows(self, uri: str, *columns: str) -> list[Row]:
        where = str(self.base / uri)
        if not max(lp.history(where)["version"], default=0):
            return []
        return lp.scan(where).select(columns or COLUMNS).collect().rows()

    def first(self, **how: Any) -> None:
        while True:
            now = self.now
            result = self.one().compile(now=now).run(now=now, outputs=["t"], **how)
            result.raise_for_status()
            if not result.left:
                self.at = now
                break

    def second(self, *outputs: str, **how: Any) -> None:
        if not self.there("t"):
            self.first()
        if {"aside", "apart"} & {*self.outputs} and not self.there("t__quarantine"):
            # a quarantine is there once a row has been put aside
            self.most, most = 0, self.most
            self.write([(0, "a", 9)])
            self.first()
            self.most = most
        for _ in range(20):
            now = self.now
            self.at = now if self.case["together"] else self.at
            result = self.two().compile(now=now).run(now=now, outputs=outputs or self.outputs, **how)
            how.pop("full", None)
            again = bool(result.left)
            for segment in result.segments:
                if segment.status in ("done", "unchanged"):
                    continue
                if segment.status == "waiting":
                    event("waits")
                    again = True
                    continue
                assert segment.output is not None
                assert isinstance(segment.error, lp.LazypipeError), segment
                if segment.output == "apart":  # rows that are put aside come back, and go
                    self.lost.add("apart")
                    continue
                assert segment.output in ADD, segment.error
                self.refused(segment.output, str(segment.error))
            if not again:
                break
        else:
            raise AssertionError(result.segments)
        for name in outputs or self.outputs:
            if name in self.held and name not in self.lost:
                self.take(name)
        self.remember()

    def refused(self, name: str, why: str) -> None:
        """Rebuild an output that says that it is to be, or leave it alone from then on."""
        event(f"{name} refused: {why[:150]}")
        assert self.back or "--full" in why, why
        now = self.now
        self.at = now if self.case["together"] else self.at
        result = self.two().compile(now=now).run(now=now, outputs=[name], full=True)
        (segment,) = [s for s in result.segments if s.output == name]
        if segment.status == "done":
            self.held[name] = Held()
        else:
            event(f"{name} refused in full: {str(segment.error)[:150]}")
            self.lost.add(name)

    def third(self, **how: Any) -> None:
        if self.upper is None:
            return
        if not self.there(self.upper):
            self.second()
        if self.upper in self.lost:
            return
        for _ in range(20):
            result = self.three().compile().run(now=self.now, **how)
            result.raise_for_status()
            if not result.left:
                break

    # plain Python

    def judged(self, rows: list[Row]) -> tuple[list[Row], list[Row]]:
        """Return the rows that pass, and those that do not."""
        bad = [r for r in rows if r[2] < self.least]
        good = [r for r in rows if r[2] >= self.least]
        if self.case["action"] == "repair":
            return [*good, *((i, k, self.least, t) for i, k, _, t in bad)], []
        return good, bad

    def take(self, name: str) -> None:
        """Have an output that adds rows take in what is new of the table."""
        before = self.held[name]
        rows = self.rows("out/t")
        new = [r for r in rows if r[3] not in before.seen]
        good, _ = self.judged(new)
        self.held[name] = Held(before.seen | {r[3] for r in rows}, (*before.rows, *good))

    def remember(self) -> None:
        for name, versions in self.versions.items():
            for version in lp.history(str(self.base / "out" / name))["version"]:
                versions.setdefault(version, self.held[name])

    # what is done

    def datasets(self) -> list[str]:
        there = [p.name.removesuffix(".commits") for p in sorted((self.base / "out").glob("*.commits"))]
        there = [n for n in there if self.there(n)]
        # most of all the table that all read
        return [*there, "t", "t"] if "t" in there else there

    def act(self, action: str, index: int, rows: list[Any]) -> None:
        names = sorted(self.files)
        chosen = names[index % len(names)]
        output = self.outputs[index % len(self.outputs)]
        there = self.datasets()
        uri = str(self.base / "out" / there[index % len(there)]) if there else ""
        match action:
            case "add":
                self.write(rows)
                if index % 2:
                    self.first()
            case "modify" if self.mode == "replace":
                self.write(rows, chosen)
            case "remove" if self.mode == "replace" and len(names) > 1:
                del self.files[chosen]
                (self.base / f"in/{chosen}.parquet").unlink()
            case "1":
                self.first()
            case "2":
                self.second()
            case "3":
                self.third()
            case "only":
                self.second(output)
            case "some":
                if index % 3:
                    self.second(max_files=1)
                elif index % 2:
                    self.first(max_files=1)
                else:
                    self.third(max_files=1)
            case "full" if output not in self.lost and not (self.case["together"] and self.held):
                if output not in self.held:
                    self.second(output, full=True)
            case "most" if self.mode != "upsert" and not (self.case["together"] and self.held):
                self.most = 4 + index % 6
            case "least" if self.grows or not self.held:
                self.least, self.varied = index % 6, True
            case "replay" if self.mode != "upsert" and self.there("t"):
                now = self.now
                self.one().compile(now=now).replay("t", now=now)
            case "compact" if there:
                lp.optimize.compact(uri, dead=0.0)
                self.remember()
            case "rewrite" if there:
                lp.optimize.rewrite(uri, "storage", every=True)
                self.remember()
            case "mixed":
                self.second(output)
                self.write(rows)
                self.first()
                if self.there("t"):
                    lp.optimize.compact(str(self.base / "out/t"), dead=0.0)
            case "vacuum" if there and not (self.case["back"] and "__" in uri):
                lp.vacuum(uri, keep=1 + len(rows) % 2, older_than=timedelta(0))
            case "rollback" if there:
                self.go_back(there[index % len(there)], len(rows))
            case "within" if output not in self.held and output not in ("aside", "apart", "net"):
                begin = START + HOUR * (index % 5) * 3
                if self.there(output):
                    self.second(output, window=(begin, begin + 6 * HOUR))

    def go_back(self, name: str, number: int) -> None:
        if "__" in name or name in ("net", "apart", "u3") or name in self.lost:
            return
        if name == "t" and not (self.case["back"]):
            return
        self.back |= name == "t"
        uri = str(self.base / "out" / name)
        versions = lp.history(uri)["version"].to_list()
        version = versions[-1 - number % len(versions)]
        lp.rollback(uri, version=version, now=self.now)
        if name in self.held:
            self.held[name] = self.versions[name][version]
            self.remember()

    # what is held against what

    def judge(self) -> None:
        self.first()
        rows = self.rows("out/t")
        aside = self.rows("out/t__quarantine")
        said = [r for file in self.files.values() for r in file]
        match self.mode:
            case "append":
                assert Counter(rows) + Counter(aside) == Counter(said)
            case "replace":
                bad = [r for r in said if r[2] > self.most or (self.case["timed"] and (r[3] + self.at.hour) % 3 == 0)]
                assert Counter(rows) == Counter(r for r in said if r not in bad)
                assert Counter(aside) == Counter(bad)
            case "upsert":
                last = {r[0]: r for r in said if r[2] <= self.most}
                assert Counter(rows) == Counter(last.values())
        self.second()
        rows, aside = self.rows("out/t"), self.rows("out/t__quarantine")
        good, bad = self.judged(rows)
        for name in self.outputs:
            if name in self.lost:
                continue
            uri = f"out/{name}"
            match name:
                case "copy" | "plain":
                    assert Counter(self.rows(uri)) == Counter(good), name
                case "added" | "more":
                    assert Counter(self.rows(uri)) == Counter(self.held[name].rows), name
                case "put":
                    ever = self.held[name].rows
                    last = {r[0]: r for r in sorted(ever, key=lambda r: r[3])}
                    assert Counter(self.rows(uri)) == Counter(last.values()), name
                case "hist":
                    want = []
                    for i in {r[0] for r in self.held[name].rows}:
                        of = sorted((r for r in self.held[name].rows if r[0] == i), key=lambda r: r[3])
                        want += [(*r, z[3] if z else None) for r, z in zip(of, [*of[1:], None], strict=True)]
                    found = [
                        (*r, None if z is None else (z - START) // HOUR)
                        for *r, z in self.rows(uri, *COLUMNS, "valid_to")
                    ]
                    assert Counter(found) == Counter(want), name
                case "sums":
                    assert Counter(self.rows(uri, "k", "n", "v")) == self.sums(good), name
                case "last":
                    assert Counter(self.rows(uri)) == Counter(
                        {r[0]: r for r in sorted(good, key=lambda r: r[3])}.values()
                    ), name
                case "joined":
                    called = {"a": "A", None: "none"}
                    assert Counter(self.rows(uri, *COLUMNS, "name")) == Counter((*r, called.get(r[1])) for r in good), (
                        name
                    )
                case "over":
                    most: dict[Any, int] = {}
                    for r in good:
                        most[r[1]] = max(most.get(r[1], 0), r[3])
                    assert Counter(self.rows(uri, *COLUMNS, "most")) == Counter((*r, most[r[1]]) for r in good), name
                case "aside":
                    assert Counter(self.rows(uri)) == Counter(aside), name
                case "apart":
                    found = self.rows(uri)
                    assert {*aside} <= {*found}, name
                    assert self.back or len({*found}) == len(found), name
                case "net":
                    net = Counter({r: n for r, n in Counter(self.rows(uri, "k", "n", "v")).items() if r[1:] != (0, 0)})
                    assert net == self.sums(rows), name
        self.put_aside(bad)
        self.third()
        if self.upper is not None and self.upper not in self.lost:
            there = self.rows(f"out/{self.upper}")
            passed = [r for r in there if r[2] >= 4]
            assert Counter(self.rows("out/u1")) == Counter(passed)
            assert Counter(self.rows("out/u2", "k", "n", "v")) == self.sums(passed)
            assert Counter(set(self.rows("out/u3"))) >= Counter(passed)
            assert Counter(self.rows("three/quarantine/three/both")) >= Counter(r for r in there if r[2] < 4)
        for which in (
            self.one,
            self.two,
            self.three if self.upper is not None and self.upper not in self.lost else self.one,
        ):
            if (which == self.two and self.lost) or (self.case["timed"] and which != self.three):
                continue
            if self.case["together"] and (self.lost or which == self.one):
                continue
            result = which().compile().run(now=self.now)
            assert {s.status for s in result.segments} <= {"unchanged"}, result.segments

    def put_aside(self, bad: list[Row]) -> None:
        """Hold what the gate that is shared has put aside against what it is to have."""
        if self.case["action"] != "quarantine" or not {*self.outputs} - {"aside", "apart", "net"}:
            return
        name = "one" if self.case["together"] else "two"
        uri = f"{name}/quarantine/{name}/{'t' if self.case['early'] else 'mid'}"
        readers = [n for n in self.outputs if n not in ("aside", "apart", "net")]
        if len(readers) == 1 and not self.case["early"]:
            event("one reader")
        found = Counter(self.rows(uri))
        if not self.lost and not self.varied:
            if (self.mode == "append" and not self.back) or not self.held:
                assert found == Counter(bad), "aside"
            else:
                assert found >= Counter(bad), "aside"

    def sums(self, rows: list[Row]) -> Counter[Row]:
        groups: dict[Any, list[int]] = {}
        for r in rows:
            groups.setdefault(r[1], []).append(r[2])
        return Counter((k, len(v), sum(v)) for k, v in groups.items())


def worlds() -> st.SearchStrategy[dict[str, Any]]:
    case = st.fixed_dictionaries(
        {
            "mode": st.sampled_from(["append", "append", "replace", "upsert"]),
            "partitioned": st.booleans(),
            "action": st.sampled_from(["quarantine", "quarantine", "drop", "repair"]),
            "unique": st.booleans(),
            "early": st.booleans(),
            "timed": st.booleans(),
            "over": st.booleans(),
            "together": st.booleans(),
            "laid": st.sampled_from([False, False, True]),
            "back": st.booleans(),
            "scale": st.booleans(),
            "outputs": st.lists(st.sampled_from([*OUTPUTS]), min_size=2, max_size=5, unique=True),
        }
    )
    return case.map(_possible)


def _possible(case: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a definition cannot have: rows that are corrected are not added, rows that are added have no feed."""
    out = {"net"} if case["mode"] == "append" else {"added", "more"}
    out |= {"net", "aside", "apart"} if case["together"] else set()
    left = [n for n in case["outputs"] if n not in out]
    plain = {"early": case["early"] and not case["together"], "timed": case["timed"] and case["mode"] == "replace"}
    plain |= {"over": case["over"] and case["mode"] == "replace"}
    return {**case, **plain, "outputs": left or ["copy", "put"]}


@given(case=worlds(), steps=STEPS, checks=st.sets(st.integers(2, 13), max_size=2))
@settings(max_examples=settings().max_examples)
def test_shared_chains(case: dict[str, Any], steps: list[Any], checks: set[int]) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(case["scale"]):
        world = World(Path(folder), case)
        for number, step in enumerate(steps):
            world.act(*step)
            if number in checks:
                world.judge()
        world.judge()
