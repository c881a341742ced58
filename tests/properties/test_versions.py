"""Versions of an output: what each holds, how two of them differ, what the feed of changes tells, and what runs say they did, is what plain Python has."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.storage.datasets.dataset import Dataset
from tests.delivered import CLOCK, put
from tests.properties.scale import at_scale

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SCHEMA = pl.Schema({"id": pl.String, "k": pl.String, "v": pl.Int64, "op": pl.String, "t": pl.Int64})
ROWS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["a", "b", None]),
        st.one_of(st.none(), st.integers(0, 4)),
        st.sampled_from(["u", "u", "u", "d"]),
        # how much earlier it was than when it came
        st.sampled_from([0, 0, 0, 7, 33]),
    ),
    min_size=1,
    max_size=4,
)
ACTIONS = [
    "add",
    "add",
    "add",
    "modify",
    "remove",
    "most",
    "more",
    "more",
    "run",
    "run",
    "two",
    "killed",
    "killed",
    "full",
    "bounded",
]
ACTIONS += ["rollback", "rollback", "mirror back", "compact", "rewrite", "vacuum", "nothing", "name"]
STEPS = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 6), ROWS), min_size=1, max_size=9)
MORE: dict[str | None, Any] = {None: None, "v * 2": lambda v: v * 2, "v + 1": lambda v: v + 1, "v": lambda v: v}
CASTS = ["String", "Int32", "Float64", "UInt8", "Decimal(9, 2)"]
Row = tuple[Any, ...]


class Killed(BaseException):
    """As if the process ended there."""


class State(NamedTuple):
    """What a version was made of: files, rows by their own order (with what was derived of each), what the gate let pass, whether ``w`` is there, versions by the time of runs."""

    files: frozenset[tuple[str, int]] = frozenset()
    said: Mapping[int, Row] = {}
    most: int = 9
    wide: bool = False
    held: tuple[tuple[int, datetime, Row, datetime | None], ...] = ()


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.case, self.mode = base, case, case["mode"]
        # made of all files in each run; with versions
        self.anew, self.dated = self.mode in ("replace", "states"), self.mode in ("scd2", "states")
        self.most, self.more = 3, case["more"]
        self.files: dict[str, tuple[int, list[Row]]] = {}
        self.made = self.order = self.runs = 0
        self.ever = False
        self.state = State()
        self.versions: dict[int, State] = {}
        (base / "in").mkdir()
        self.name(5)
        self.write("f0", [(0, "a", 1, "u", 0), (1, "b", 2, "u", 0)])

    def write(self, name: str, rows: list[Any]) -> None:
        self.made += 1
        held = []
        for *row, back in rows:
            self.order += 10
            held.append((*row, self.order - back))
        self.files[name] = (self.made, held)
        frame = pl.DataFrame([(f"0{i}", *rest) for i, *rest in held], schema=SCHEMA, orient="row")
        put(self.base / f"in/{name}.{self.case['format']}", frame, CLOCK + self.made * 10)

    def name(self, number: int) -> None:
        """Give names to the keys whose bits a number has."""
        self.made += 1
        self.names = {i: f"n{number}" for i in range(4) if number >> i & 1}
        frame = pl.DataFrame({"id": [f"{i}" for i in self.names], "name": [*self.names.values()]})
        put(self.base / "d.csv", frame, CLOCK + self.made * 10)

    # the definitions

    def one(self) -> lp.Pipeline:
        mode = {"states": "scd2"}.get(self.mode, self.mode)
        how: dict[str, Any] = {"mode": mode, "key": "id", "changes": True}
        do: list[Any] = [{"cast": {"id": "Int64"}}]
        evolve = {"contract": {"on_new_column": "evolve", "on_type_change": "evolve", "on_missing_column": "evolve"}}
        if self.anew:
            do += [
                {"distinct": {"columns": "id", "keep": "last", "order_by": ["t"]}},
                {"filter": "op <> 'd'"},
                {"drop": ["op", "t"] if self.dated else "op"},
            ]
            how |= {"deletes": "close"} if self.dated else {}
        elif self.mode == "upsert":
            how |= {"order_by": "t", "deleted_when": "op = 'd'", **evolve}
        else:
            at = pl.lit(START) + pl.duration(hours="t")
            do += [{"derive": {"at": at}}, {"drop": "t"}]
            how |= {"event_time": "at", "deleted_when": "op = 'd'"}
        do += [] if self.more is None else [{"derive": {"w": self.more}}]
        how |= {"partition_by": "k"} if self.case["partitioned"] else {}
        gate = [{"between": {"column": "v", "max": self.most, "action": self.case["action"]}}]
        return self.defined(
            "one",
            {
                "s": {
                    "uri": f"in/*.{self.case['format']}",
                    "contract": {"columns": {n: str(t) for n, t in SCHEMA.items()}},
                }
            },
            {"o": {"from": "s", "do": do, "gate": gate}},
            {"o": {"to": "out/o", **how}},
        )

    def two(self) -> lp.Pipeline:
        cast = [{"cast": {"id": self.case["cast"]}}]
        sign = {"sign": "CASE WHEN _change IN ('insert', 'update_after') THEN 1 ELSE -1 END"}
        evolve = {"contract": {"on_new_column": "evolve", "on_type_change": "evolve", "on_missing_column": "evolve"}}
        return self.defined(
            "two",
            {
                "c": {"uri": "out/o__changes"},
                "d": {"uri": "d.csv", "contract": {"columns": {"id": "String", "name": "String"}}},
            },
            {
                "names": {"from": "d", "do": cast},
                "named": {
                    "from": "c",
                    "do": [*cast, {"join": {"with": "names", "on": "id", "how": "left", "columns": ["name"]}}],
                },
                "mirror": {
                    "from": "c",
                    "do": [{"filter": "_change <> 'update_before'"}, {"drop": ["_time", "_run"]}, *cast],
                },
                "net": {
                    "from": "c",
                    "do": [
                        *cast,
                        {"derive": sign},
                        {"aggregate": {"by": "id", "aggregate": {"n": "sum(sign)", "s": "sum(sign * coalesce(v, 0))"}}},
                    ],
                },
            },
            {
                "mirror": {
                    "to": "out/mirror",
                    "mode": "upsert",
                    "key": self.key,
                    "order_by": "_version",
                    "deleted_when": "_change = 'delete'",
                    **evolve,
                },
                "net": {"to": "out/net", "key": "id"},
                "named": {"to": "out/named"},
            },
        )

    def defined(self, name: str, sources: Any, stages: Any, outputs: Any) -> lp.Pipeline:
        data = {"version": 1, "name": name, "state": name, "sources": sources, "stages": stages, "outputs": outputs}
        return lp.Pipeline.from_dict(data, base=str(self.base))

    @property
    def key(self) -> list[str]:
        return ["id", "valid_from"] if self.dated else ["id"]

    @property
    def now(self) -> datetime:
        self.runs += 1
        return START + timedelta(days=1000) + self.runs * HOUR

    # plain Python

    def new(self, state: State) -> dict[tuple[str, int], list[Row]]:
        files = {(name, number): rows for name, (number, rows) in self.files.items()}
        return {file: rows for file, rows in files.items() if file not in state.files}

    def after(self, *, full: bool = False) -> State:
        """Return what a run makes of the files that are there."""
        anew = full or self.anew
        state = State() if anew else self.state
        new = self.new(state)
        if not (new or anew):
            return state
        said = dict(state.said)
        for i, k, v, op, t in (row for rows in new.values() for row in rows):
            w = None if self.more is None or v is None else MORE[self.more](v)
            if self.anew or v is None or v <= self.most:
                said[t] = (i, k, v, op, t, w)
        made = State(state.files | new.keys(), said, self.most, state.wide or self.more is not None)
        return self.dated_now(made) if self.mode == "states" else made

    def judged(self, state: State, after: State, *, full: bool) -> tuple[int, int]:
        """Return how many rows the gate of a run has seen of those that count, and how many of them it let pass."""
        if self.anew:
            rows: list[Any] = [r for r in self.last(after) if r[3] != "d"]
        else:
            rows = [r for rows in self.new(State() if full else state).values() for r in rows]
        return len(rows), sum(r[2] is None or r[2] <= self.most for r in rows)

    def last(self, state: State) -> list[Row]:
        return list({r[0]: r for r in sorted(state.said.values(), key=lambda r: r[4])}.values())

    def standing(self, state: State) -> list[Row]:
        """Return the last row of each key, if it stays."""
        lets = self.mode == "upsert"
        return [r for r in self.last(state) if r[3] != "d" and (lets or r[2] is None or r[2] <= state.most)]

    def dated_now(self, state: State) -> State:
        """Return a state whose versions are those before, ended and begun by the time that it is."""
        rows = {r[0]: (r[1], r[2], r[5]) for r in self.standing(state)}
        now = START + timedelta(days=1000) + (self.runs + 1) * HOUR
        held = [
            (i, since, row, now if until is None and rows.get(i) != row else until)
            for i, since, row, until in self.state.held
        ]
        stay = {i for i, _, _, until in held if until is None}
        return state._replace(held=(*held, *((i, now, row, None) for i, row in rows.items() if i not in stay)))

    def rows_of(self, state: State) -> dict[Any, Row]:
        """Return by key the rows of a version; the last column is null if it has none."""
        if self.mode == "states":
            return {(i, since): (*row[:2], until, row[2]) for i, since, row, until in state.held}
        if self.mode != "scd2":
            return {(r[0],): (r[1], r[2], r[4], r[5]) for r in self.standing(state)}
        found: dict[Any, list[Any]] = {}
        current: dict[int, list[Any]] = {}
        for i, k, v, op, t, w in sorted(state.said.values(), key=lambda r: r[4]):
            there_ = current.get(i)
            if there_ is not None and (op == "d" or there_[:3] != [k, v, w]):
                there_[3] = at(t)
                del current[i]
            if op != "d" and i not in current:
                current[i] = found[i, at(t)] = [k, v, w, None]
        return {key: (k, v, until, w) for key, (k, v, w, until) in found.items()}

    # what is done

    @property
    def uri(self) -> str:
        return str(self.base / "out/o")

    def run(self, how: str = "run") -> None:
        if how == "full" and (self.mode == "states" or (not self.anew and self.ever)):
            return  # refused, where files are gone, or versions have the times of runs
        how = "run" if how == "bounded" and self.mode == "states" else how
        before, after = self.state, self.after(full=how == "full")
        if how == "killed":
            self.killed(after)
            return
        result = self.one().compile().run(now=self.now, full=how == "full", max_files=1 if how == "bounded" else None)
        result.raise_for_status()
        while result.left:
            for version in lp.history(self.uri)["version"]:
                self.versions.setdefault(version, None)
            how = "bounded"
            result = self.one().compile().run(now=self.now, max_files=1)
            result.raise_for_status()
        self.state = after
        self.remember()
        (segment,) = result.segments
        if segment.status == "done" and how != "bounded":
            seen, good = self.judged(before, after, full=how == "full")
            (report,) = segment.gates
            assert (report.rows, report.good, report.quarantined + report.dropped) == (seen, good, seen - good)
        self.recorded(result)

    def recorded(self, result: lp.RunResult) -> None:
        """Hold what the ledger says of a run against the files that it wrote."""
        entry = lp.ledger(str(self.base / "one/ledger")).records()[-1]
        assert entry.run == result.run
        (told,), (segment,) = entry.body["segments"], result.segments
        if segment.status != "done":
            assert (told["status"], told["written"], told["data"]) == ("unchanged", 0, [])
            return
        # what was written on the way and put in others since is no part of the version
        paths = [f.path for f in Dataset(self.uri).read().files if f.path.rpartition("/")[2].startswith(result.run)]
        held = {path: pl.scan_parquet(self.base / "out/o" / path).select(pl.len()).collect().item() for path in paths}
        assert {d["path"]: d["rows"] for d in told["data"]} == held
        if self.mode != "replace":
            assert told["written"] == sum(g.good for g in segment.gates)
        assert told["rows"] == segment.rows == len(self.rows_of(self.state))

    def killed(self, after: State) -> None:
        """Run, and die at the first commit, before or after it, or before the changes are told."""
        dies = self.case["dies"]
        place = {
            "feed": "run.changefeed.ChangeFeed.complete",
            "commit": "storage.datasets.log.CommitLog.append",
            "record": "records.ledger.Ledger.append",
        }

        def die(*_: Any, **__: Any) -> None:
            raise Killed

        before = self.latest()
        with pytest.MonkeyPatch.context() as patch, suppress(Killed):
            patch.setattr(f"lazypipe.{place[dies]}", die)
            self.one().compile().run(now=self.now)
        if self.latest() != before:
            self.state = after
        self.remember()

    def latest(self) -> int:
        return max(lp.history(self.uri)["version"], default=0)

    def remember(self) -> None:
        for version in lp.history(self.uri)["version"]:
            self.versions.setdefault(version, self.state)

    def act(self, action: str, index: int, rows: list[Any]) -> None:
        names = sorted(self.files)
        name = names[index % len(names)]
        datasets = [
            self.uri,
            f"{self.uri}__changes",
            *(str(self.base / f"out/{n}") for n in ("mirror", "net", "named")),
        ]
        uri = datasets[index % 5]
        match action:
            case "add":
                self.write(f"f{self.made}", rows)
            case "modify":
                self.ever = True
                self.write(name, rows)
            case "remove" if len(names) > 1:
                self.ever = True
                del self.files[name]
                (self.base / f"in/{name}.{self.case['format']}").unlink()
            case "name":
                self.name(1 + index * 2)
            case "most":
                self.most = 1 + index % 4
            case "more" if not self.dated:
                self.more = [*MORE][index % 4]
            case "more" if self.more is not None:  # versions take no columns that come
                self.more = [*MORE][1 + index % 3]
            case "run" | "killed" | "full" | "bounded":
                self.run(action)
            case "two" if self.latest():
                self.follow()
            case "rollback" if self.latest():
                there = lp.history(self.uri)["version"].to_list()
                version = there[index % len(there)]
                if self.versions[version] is not None:
                    lp.rollback(self.uri, version=version, now=self.now)
                    self.state = self.versions[version]
                    self.remember()
            case "mirror back" if there := lp.history(datasets[2])["version"].to_list():
                lp.rollback(datasets[2], version=there[index % len(there)], now=self.now)
            case "compact" | "rewrite" | "vacuum" if max(lp.history(uri)["version"], default=0):
                if action == "compact":
                    lp.optimize.compact(uri, dead=0.0)
                elif action == "rewrite":
                    lp.optimize.rewrite(uri, "storage", every=True)
                else:
                    lp.vacuum(uri, keep=1 + index % 3, older_than=timedelta(0))
                self.remember()

    def follow(self) -> None:
        self.two().compile().run(now=self.now).raise_for_status()

    # what is held against what

    def judge(self, index: int) -> None:
        self.run()
        self.hold()
        self.replay()
        self.compare(index)
        self.follow()
        self.mirrored()
        for pipe in (self.one(), self.two()):
            result = pipe.compile().run(now=self.now)
            assert {s.status for s in result.segments} <= {"unchanged"}, result.segments
        assert lp.ledger(str(self.base / "one/ledger")).verify().ok

    def read(self, frame: pl.DataFrame) -> list[tuple[Any, Row]]:
        """Return rows by their key, with null for columns that are not there."""
        frame = frame if "w" in frame.columns else frame.with_columns(w=None)
        values = ["k", "v", "valid_to" if self.dated else "t", "w"]
        return list(zip(frame.select(self.key).rows(), frame.select(values).rows(), strict=True))

    def hold(self) -> None:
        there = self.read(lp.scan(self.uri).collect())
        assert dict(there) == self.rows_of(self.state)
        assert len(dict(there)) == len(there)

    def replay(self) -> None:
        """Make each version of the one before it, by what the feed tells."""
        feed = lp.scan(f"{self.uri}__changes").collect().sort("_version", maintain_order=True)
        there: dict[Any, Row] = {}
        for version in range(1, self.latest() + 1):
            rows = feed.filter(pl.col("_version") == version)
            told = list(zip(rows["_change"], self.read(rows), strict=True))
            for change, (key, values) in told:
                if change in ("delete", "update_before"):
                    assert there.pop(key) == values, (version, change, key)
            for change, (key, values) in told:
                if change in ("insert", "update_after"):
                    assert key not in there, (version, change, key)
                    there[key] = values
            state = self.versions[version]
            if state is not None:
                assert there == self.rows_of(state), (version, told)

    def compare(self, index: int) -> None:
        """Hold the difference of any two versions against that of what they are to hold."""
        modeled = [v for v in lp.history(self.uri)["version"] if self.versions[v] is not None]
        a, b = modeled[index % len(modeled)], modeled[index * 5 % len(modeled)]
        found = lp.diff((self.uri, a), (self.uri, b), key=self.key)
        was, now = (self.rows_of(self.versions[v]) for v in (a, b))
        if not (self.versions[a].wide and self.versions[b].wide):
            was, now = ({key: row[:3] for key, row in rows.items()} for rows in (was, now))
        assert {*found.inserted.select(self.key).rows()} == now.keys() - was.keys()
        assert {*found.deleted.select(self.key).rows()} == was.keys() - now.keys()
        both = was.keys() & now.keys()
        assert {*found.updated.select(self.key).rows()} == {k for k in both if was[k] != now[k]}
        assert found.unchanged == sum(was[k] == now[k] for k in both)

    def mirrored(self) -> None:
        cast = pl.Int64()
        feed = lp.scan(f"{self.uri}__changes").select("id", "_change", "_version").collect()
        named = lp.scan(str(self.base / "out/named")).with_columns(pl.col("id").cast(cast)).collect()
        assert Counter(named.select("id", "_change", "_version", "name").rows()) == Counter(
            (*row, self.names.get(row[0])) for row in feed.rows()
        )
        there = lp.scan(str(self.base / "out/mirror")).with_columns(pl.col("id").cast(cast)).collect()
        assert dict(self.read(there)) == self.rows_of(self.state)
        net = lp.scan(str(self.base / "out/net")).with_columns(pl.col("id").cast(cast)).collect()
        sums: dict[Any, list[int]] = {}
        for (i, *_), row in self.rows_of(self.state).items():
            sums.setdefault(i, []).append(row[1] or 0)
        assert {i: (n, s) for i, n, s in net.select("id", "n", "s").rows() if (n, s) != (0, 0)} == {
            i: (len(vs), sum(vs)) for i, vs in sums.items()
        }


def at(t: int) -> datetime:
    return START + t * HOUR


@given(
    case=st.fixed_dictionaries(
        {
            "mode": st.sampled_from(["replace", "upsert", "scd2", "states"]),
            "format": st.sampled_from(["csv", "parquet"]),
            "partitioned": st.booleans(),
            "more": st.sampled_from([*MORE]),
            "action": st.sampled_from(["quarantine", "drop"]),
            "cast": st.sampled_from(CASTS),
            "dies": st.sampled_from(["feed", "commit", "record"]),
            "scale": st.booleans(),
        }
    ),
    steps=STEPS,
    checks=st.sets(st.integers(0, 8), max_size=2),
)
@settings(max_examples=settings().max_examples // 5)
def test_versions(case: dict[str, Any], steps: list[Any], checks: set[int]) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(case["scale"]):
        world = World(Path(folder), case)
        for number, (action, index, rows) in enumerate(steps):
            world.act(action, index, rows)
            if number in checks:
                world.judge(index)
        world.judge(len(steps))
