"""Whatever comes in whatever deliveries: each write mode makes of it what a few lines of plain Python make of it."""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.spec.types import dtype_name
from lazypipe.storage.datasets.dataset import Dataset
from tests.properties.scale import at_scale

START = datetime(2024, 1, 1, tzinfo=UTC)
SCHEMA = pl.Schema({"id": pl.Int64(), "part": pl.String(), "t": pl.Int64(), "x": pl.Int64(), "op": pl.String()})
ROW = st.tuples(
    st.integers(0, 5),
    st.sampled_from(["a", "b", None]),
    st.one_of(st.none(), st.integers(0, 4)),
    st.integers(0, 2),
    st.sampled_from(["u", "u", "d", None]),
)
FILES = st.lists(st.lists(ROW, min_size=1, max_size=4), max_size=2)
"""What is delivered before a run."""

DELIVERIES = st.lists(st.tuples(FILES, st.booleans()), min_size=1, max_size=4)
FEW = settings(max_examples=max(6, settings().max_examples // 6))
CARES = [None, None, "compact", "rewrite", "vacuum", "touch", "move", "large", "large"]
CARE = st.lists(st.sampled_from(CARES), min_size=1, max_size=3)
"""What is done to the dataset, or to the files, between runs; of which no row knows. With "large", few rows go the ways of many."""
OF_FEEDS = st.lists(st.sampled_from([*CARES, "remove", "remove", "again"]), min_size=1, max_size=3)
"""Files that were read go, and come back: what stands in the dataset stays as it is."""

KEYS: dict[pl.DataType, Callable[[int], Any]] = {
    pl.Int64(): int,
    pl.Float64(): lambda n: {0: float("nan"), 1: 0.0}.get(n, n / 2),
    pl.Decimal(9, 2): lambda n: Decimal(f"{(n - 2) / 4:.2f}"),
    pl.Datetime("ms", "Europe/Berlin"): lambda n: (
        datetime(2024, 10, 27, 0, 30 * (n % 2), tzinfo=UTC) + timedelta(hours=n // 2)
    ),
    pl.Enum([f"n{9 - n}" for n in range(10)]): lambda n: f"n{n}",
    pl.Categorical(): lambda n: f"n{9 - n}",
    pl.String(): lambda n: ["", "a/b", " ", "é=%", "'", '"'][n] if n < 6 else str(n),
    pl.Binary(): lambda n: [b"", b"\x00", b"\xff\xfe", b"a", b"a\x00", b"'"][n] if n < 6 else bytes([n]),
    pl.Duration("us"): lambda n: timedelta(microseconds=n - 2),
    pl.Time(): lambda n: time(23, 59, 59, n),
}
UNTOLD = (pl.Binary(), pl.Duration("us"))
"""What no text says."""

KINDS = st.sampled_from([*KEYS])
EQUAL = st.sampled_from([k for k in KEYS if not k.is_float() and not isinstance(k, pl.Datetime)])
"""Of which Python knows which are the same: of two NaN it thinks that they differ, of two hours on one clock that they do not."""
FORMS = st.sampled_from(["parquet", "csv", "ndjson", "ipc"])
Row = tuple[Any, ...]
GATE = [{"between": {"column": "x", "max": 1, "action": "quarantine"}}]


def place(moment: int | None) -> tuple[bool, int]:
    return (moment is not None, moment or 0)


class World:
    """A folder, its pipeline, and runs a day apart."""

    def __init__(
        self,
        root: Path,
        care: Sequence[str | None],
        kind: pl.DataType,
        form: str,
        *,
        gated: bool,
        grows: bool,
        **output: Any,
    ) -> None:
        self.root, self.care, self.gated = root, care, gated
        # empty texts are no text in CSV, and NaN is null in NDJSON
        unsaid = {"csv": (pl.String(), *UNTOLD), "ndjson": (pl.Float64(), *UNTOLD)}
        self.form = "parquet" if kind in unsaid.get(form, ()) else form
        self.grows = grows and self.form in ("csv", "ndjson")
        self.schema, self.value = pl.Schema({**SCHEMA, "id": kind}), KEYS[kind]
        self.output = output
        self.aside: list[Row] = []
        self.beside = False
        self.runs = 0
        self.files = 0
        self.read: dict[Path, bytes] = {}
        self.gone: list[tuple[Path, bytes]] = []
        (root / "in").mkdir()
        (root / "gone").mkdir()

    def deliver(self, files: list[list[Row]], folder: str = "in") -> None:
        (self.root / folder).mkdir(exist_ok=True)
        for rows in files:
            self.files += 1
            frame = pl.DataFrame(map(self.row, rows), schema=self.schema, orient="row")
            there = sorted((self.root / folder).iterdir())
            if self.grows and there:
                # as the one who writes a log does it
                with there[-1].open("a") as file:
                    file.write(frame.write_csv(include_header=False) if self.form == "csv" else frame.write_ndjson())
                continue
            path = self.root / folder / f"{self.files:03}.{self.form}"
            match self.form:
                case "csv":
                    frame.write_csv(path)
                case "ndjson":
                    frame.write_ndjson(path)
                case "ipc":
                    frame.write_ipc(path)
                case _:
                    frame.write_parquet(path)

    def good(self, rows: list[Row]) -> list[Row]:
        """Return the rows that the gate lets through, and remember the others, until their key comes by, good."""
        good = [r for r in rows if not self.gated or r[3] <= 1]
        # one that is earlier in the order says nothing of a later one
        at = place if "order_by" in self.output else lambda _: (True, 0)
        healed = (
            {k: max(at(r[2]) for r in good if r[0] == k) for k in {r[0] for r in good}} if "key" in self.output else {}
        )
        self.aside = [r for r in self.aside if r[0] not in healed or healed[r[0]] < at(r[2])]
        self.aside += [r for r in rows if self.gated and r[3] > 1]
        return good

    def source(self, folder: str) -> dict[str, Any]:
        types = {n: dtype_name(t) for n, t in self.schema.items()}
        return {"uri": f"{folder}/*.{self.form}", "contract": {"columns": types}}

    def row(self, row: Row) -> Row:
        """Return a row as it is delivered, of one with a number as its key."""
        key = self.value(row[0])
        # of one key, in two ways
        return (-key if key == 0.0 and row[3] % 2 and isinstance(key, float) else key, *row[1:])

    def take_care(self) -> None:
        """Do between two runs what someone may do then."""
        uri = str(self.root / "out/o")
        match self.care[self.runs % len(self.care)] if self.runs else None:
            case "compact":
                lp.optimize.compact(uri, dead=0.0)
            case "rewrite":
                lp.optimize.rewrite(uri, "storage", every=True)
            case "vacuum":
                lp.vacuum(uri, keep=1, older_than=timedelta(0))
            case "touch":
                for path in (self.root / "in").iterdir():
                    stamp = path.stat().st_mtime_ns + 10**9
                    os.utime(path, ns=(stamp, stamp))
            case "move":
                for path in [*(self.root / "in").iterdir()][:1]:
                    path.rename(path.with_name(f"{path.stem}m.{self.form}"))
            case "remove":
                for path in sorted((self.root / "in").iterdir())[:-1]:
                    if path.read_bytes() == self.read.get(path):
                        self.gone.append((path, path.read_bytes()))
                        path.unlink()
            case "again" if self.gone:
                path, held = self.gone.pop()
                path.write_bytes(held)

    def run(self, *, more: dict[str, Any] | None = None) -> dict[str, str]:
        definition = {
            "version": 1,
            "name": "p",
            "sources": {"s": self.source("in")} | ({"gone": self.source("gone")} if more else {}),
            "stages": {"o": {"from": "s", "gate": GATE if self.gated else []}}
            | ({"deletions": {"from": "gone"}} if more else {}),
            # who has the rows of another output's stage has them from that output
            "outputs": ({"kept": {"from": "o", "to": "out/kept"}} if self.beside else {})
            | {"o": {"to": "out/o", **self.output}, **(more or {})},
        }
        self.take_care()
        self.runs += 1
        plan = lp.Pipeline.from_dict(definition, base=str(self.root)).compile()
        result = plan.run(now=START + timedelta(days=self.runs))
        result.raise_for_status()
        self.read = {path: path.read_bytes() for path in (self.root / "in").iterdir()}
        # of a file of text that was moved, a commit may say by what name it is followed from now on
        moved = [
            s.name
            for s in result.segments
            if re.fullmatch(r"s: 1 moved(, \d+ (touched|ignored|unchanged))*", s.why or "")
        ]
        return {s.name: "unchanged" if s.name in moved else s.status for s in result.segments}

    @property
    def now(self) -> datetime:
        return START + timedelta(days=self.runs)

    def held(self) -> Counter[str]:
        aside = self.root / "out/o__quarantine"
        if self.gated and self.aside:
            assert counted(lp.scan(str(aside)).select(*SCHEMA).collect().rows()) == counted(map(self.row, self.aside))
        return counted(lp.scan(str(self.root / "out/o")).collect().rows())


def counted(rows: Any) -> Counter[str]:
    def plain(value: Any) -> Any:
        return (
            value.timestamp()
            if isinstance(value, datetime)
            else 0.0
            if value == 0.0 and isinstance(value, float)
            else value
        )

    return Counter(repr([*map(plain, row)]) for row in rows)


@contextmanager
def world(
    care: Sequence[str | None], kind: pl.DataType, form: str, *, gated: bool = False, grows: bool = False, **output: Any
) -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder, at_scale("large" in care):
        yield World(Path(folder), care, kind, form, gated=gated, grows=grows, **output)


@FEW
@given(
    deliveries=DELIVERIES,
    care=CARE,
    kind=KINDS,
    form=FORMS,
    by_key=st.booleans(),
    gated=st.booleans(),
    beside=st.booleans(),
)
def test_append(deliveries: Any, care: Any, kind: Any, form: str, by_key: bool, gated: bool, beside: bool) -> None:
    # other numbers cannot be a partition column
    parts = "id" if by_key and kind not in (pl.Float64, pl.Decimal, pl.Time, *UNTOLD) else "part"
    with world(care, kind, form, gated=gated and not beside, mode="append", partition_by=parts) as here:
        here.beside = beside
        here.deliver([[(9, "a", 0, 0, "u")]])
        expected = [(9, "a", 0, 0, "u")]
        there, gone = [repr([*expected])], set[str]()
        for number, (drawn, forget) in enumerate([([], False), *deliveries]):
            # a file with the bytes of one that went is that one, come back
            files = [rows for rows in drawn if repr(rows) not in gone]
            here.deliver(files)
            there += map(repr, files)
            fresh = not here.runs or bool(files)
            expected += here.good([r for rows in files for r in rows])
            status = here.run()["o"]
            assert status == ("done" if fresh else "unchanged") or (beside and not fresh)
            assert here.held() == counted(map(here.row, expected))
            if forget:
                next(iter(sorted((here.root / "in").iterdir()))).unlink()
                gone.add(there.pop(0))
                other = (7, "b", 100 + number, 1, "u")
                here.deliver([[other]])
                there.append(repr([other]))
                here.run()
                expected.append(other)


@FEW
@given(
    deliveries=DELIVERIES,
    keyed_by_order=st.booleans(),
    partitioned=st.booleans(),
    care=OF_FEEDS,
    kind=KINDS,
    form=FORMS,
    gated=st.booleans(),
    grows=st.booleans(),
)
def test_upsert_and_delete(
    deliveries: Any, keyed_by_order: bool, partitioned: bool, care: Any, kind: Any, form: str, gated: bool, grows: bool
) -> None:
    output: dict[str, Any] = {"mode": "upsert", "key": "id"}
    output |= {"order_by": "t", "deleted_when": "op = 'd'"} if keyed_by_order else {}
    output |= {"partition_by": "part"} if partitioned else {}
    deletions = {"deletions": {"to": "out/o", "mode": "delete", "key": "id"}}
    with world(care, kind, form, gated=gated, grows=grows, **output) as here:
        there: dict[int, Row] = {}
        removed: dict[int, int | None] = {}
        said = set[str]()
        here.deliver([[(9, "a", 0, 0, "u")]])
        here.deliver([[(8, None, None, 0, None)]], "gone")
        there[9] = (9, "a", 0, 0, "u")
        here.run(more=deletions)
        for files, removes in deliveries:
            batch = [r for rows in files for r in rows]
            if keyed_by_order:
                assume(len({(r[0], r[2]) for r in batch}) == len(set(map(repr, batch))))
            else:
                batch = [*{r[0]: r for r in batch}.values()]
            delivered = files if keyed_by_order else [batch] if batch else []
            # a file with the bytes of one that went is that one, come back
            assume("remove" not in care or not said & {*map(repr, delivered)})
            said |= {*map(repr, delivered)}
            here.deliver(delivered)
            known = {k: row[2] for k, row in there.items()} | removed
            batch = here.good(batch)
            for row in sorted(batch, key=lambda r: place(r[2])) if keyed_by_order else batch:
                if keyed_by_order and row[0] in known and place(row[2]) < place(known[row[0]]):
                    continue
                # when it was removed is known too: an earlier row that comes late does not bring it back
                removed.pop(row[0], None)
                if keyed_by_order and row[4] == "d":
                    there.pop(row[0], None)
                    removed[row[0]] = row[2]
                else:
                    there[row[0]] = row
            if removes:
                here.deliver([[(2, None, None, 0, None), (3, None, None, 0, None)]], "gone")
                for key in (2, 3):
                    there.pop(key, None)
                    removed.pop(key, None)
                here.aside = [r for r in here.aside if r[0] not in (2, 3)]
            told = here.run(more=deletions)
            assert told == {"o": "done" if files else "unchanged", "deletions": "done" if removes else "unchanged"}
            assert here.held() == counted(map(here.row, there.values()))


@FEW
@given(
    deliveries=DELIVERIES,
    closes=st.booleans(),
    care=CARE,
    kind=EQUAL,
    form=FORMS,
    gated=st.booleans(),
    grows=st.booleans(),
)
def test_versions_by_the_time_of_runs(
    deliveries: Any, closes: bool, care: Any, kind: Any, form: str, gated: bool, grows: bool
) -> None:
    output = {"mode": "scd2", "key": "id", "changes": True, **({"deletes": "close"} if closes else {})}
    with world(care, kind, form, gated=gated and not closes, grows=grows, **output) as here:
        there: list[list[Any]] = []
        for files, _ in [([[(9, "a", 0, 0, "u")]], False), *deliveries]:
            batch = [*{r[0]: r for rows in files for r in rows}.values()]
            if closes:  # all that there is
                for path in (here.root / "in").iterdir():
                    path.unlink()
                batch = batch or [(9, "a", 0, 0, "u")]
            here.deliver([batch] if batch else [])
            here.run()
            batch = here.good(batch)
            for version in there:
                came = next((r for r in batch if r[0] == version[0][0]), None)
                if version[2] is None and ((came is None and closes) or came not in (None, version[0])):
                    version[2] = here.now
            current = {v[0][0] for v in there if v[2] is None}
            there += [[r, here.now, None] for r in batch if r[0] not in current]
            assert here.held() == counted((*here.row(row), a, b, b is None) for row, a, b in there)
        assert replayed(here, ("id", "valid_from")) == here.held()


@FEW
@given(deliveries=DELIVERIES, care=OF_FEEDS, kind=KINDS, form=FORMS, grows=st.booleans())
def test_versions_by_event_time(deliveries: Any, care: Any, kind: Any, form: str, grows: bool) -> None:
    moment = START + timedelta(hours=1)
    with world(care, kind, form, grows=grows, mode="scd2", key="id", event_time="at") as here:
        here.deliver([[(9, "a", 0, 0, "u")]])
        there: dict[int, dict[int, Row]] = {}
        for files, _ in [([[(9, "a", 0, 0, "u")]], False), *deliveries]:
            dated = [[r for r in rows if r[2] is not None] for rows in files]
            batch = [r for rows in dated for r in rows]
            assume(len({(r[0], r[2]) for r in batch}) == len(set(map(repr, batch))))
            if here.runs:
                here.deliver([rows for rows in dated if rows])
            for row in batch:
                there.setdefault(row[0], {})[row[2]] = row
            definition_of(here)
            expected = []
            for told in there.values():
                versions: dict[int, Row] = {}
                said: Any = None
                for at in sorted(told):
                    if said is None or said[:2] + said[3:] != told[at][:2] + told[at][3:]:
                        versions[at] = told[at]
                    said = told[at]
                times = [*sorted(versions), None]
                for at, until in pairwise(times):
                    ends = None if until is None else moment + timedelta(hours=until)
                    begins = moment + timedelta(hours=at)
                    key, part, _, *rest = here.row(versions[at])
                    expected.append((key, part, *rest, begins, begins, ends, until is None))
            assert here.held() == counted(expected)


def definition_of(here: World) -> None:
    """Run with a stage that makes a datetime of the number, by which rows that say the same would differ."""
    definition = {
        "version": 1,
        "name": "p",
        "sources": {"s": here.source("in")},
        "stages": {
            "o": {
                "from": "s",
                "do": [{"derive": {"at": pl.lit(START + timedelta(hours=1)) + pl.duration(hours="t")}}, {"drop": "t"}],
            }
        },
        "outputs": {"o": {"to": "out/o", **here.output}},
    }
    here.take_care()
    here.runs += 1
    plan = lp.Pipeline.from_dict(definition, base=str(here.root)).compile()
    plan.run(now=START + timedelta(days=here.runs)).raise_for_status()
    here.read = {path: path.read_bytes() for path in (here.root / "in").iterdir()}


@FEW
@given(
    deliveries=DELIVERIES, keep=st.sampled_from([None, 1, 2]), care=CARE, kind=KINDS, form=FORMS, grows=st.booleans()
)
def test_snapshots(deliveries: Any, keep: int | None, care: Any, kind: Any, form: str, grows: bool) -> None:
    with world(care, kind, form, grows=grows, mode="snapshot", **({} if keep is None else {"keep": keep})) as here:
        here.deliver([[(9, "a", 0, 0, "u")]])
        there: list[Row] = [(9, "a", 0, 0, "u")]
        taken: list[list[Row]] = []
        for files, _ in [([], False), *deliveries]:
            here.deliver(files)
            there += [r for rows in files for r in rows]
            here.run()
            taken = [*taken, [(*here.row(r), here.now) for r in there]][-(keep or 99) :]
            assert here.held() == counted(r for rows in taken for r in rows)


@FEW
@given(deliveries=DELIVERIES, care=CARE, kind=KINDS, form=FORMS)
def test_partitions(deliveries: Any, care: Any, kind: Any, form: str) -> None:
    with world(care, kind, form, mode="replace_partitions", partition_by="part", key="id") as here:
        there: dict[Any, list[Row]] = {}
        known, last = set[str](), set[str]()
        for files, _ in [([[(9, "c", 0, 0, "u")]], False), *deliveries]:
            if files:  # only the last days are there
                for path in (here.root / "in").iterdir():
                    path.unlink()
                here.deliver(files)
                known, last = last, {repr(rows) for rows in files}
                there |= {p: [r for rows in files for r in rows if r[1] == p] for p in {r[1] for f in files for r in f}}
            # a file with the bytes of one that was there is that one, moved
            may = ["unchanged"] if not files else ["unchanged", "done"] if known & last else ["done"]
            assert here.run()["o"] in may
            assert here.held() == counted(here.row(r) for rows in there.values() for r in rows)


@FEW
@given(
    deliveries=DELIVERIES,
    mode=st.sampled_from(["upsert", "replace"]),
    care=CARE,
    kind=EQUAL,
    form=FORMS,
    gated=st.booleans(),
    grows=st.booleans(),
)
def test_changes(deliveries: Any, mode: str, care: Any, kind: Any, form: str, gated: bool, grows: bool) -> None:
    with world(care, kind, form, gated=gated, grows=grows, mode=mode, key="id", changes=True) as here:
        for files, _ in [([[(9, "a", 0, 0, "u")]], False), *deliveries]:
            batch = [*{r[0]: r for rows in files for r in rows}.values()]
            if mode == "replace":
                for path in (here.root / "in").iterdir():
                    path.unlink()
                batch = batch or [(9, "a", 0, 0, "u")]
            here.deliver([batch] if batch else [])
            before = {} if not here.runs else {r[0]: r for r in lp.scan(str(here.root / "out/o")).collect().rows()}
            here.run()
            dataset, feed = Dataset(str(here.root / "out/o")), Dataset(str(here.root / "out/o__changes"))
            version = dataset.read().version
            assert feed.read().info["version"] == version
            after = {r[0]: r for r in lp.scan(dataset.uri).collect().rows()}
            told = lp.scan(feed.uri).filter(pl.col("_version") == version).collect()
            expected = [("insert", *after[k]) for k in after.keys() - before.keys()]
            expected += [("delete", *before[k]) for k in before.keys() - after.keys()]
            both = [k for k in before.keys() & after.keys() if before[k] != after[k]]
            expected += [("update_before", *before[k]) for k in both] + [("update_after", *after[k]) for k in both]
            if before != after:
                assert counted(told.select("_change", *SCHEMA).rows()) == counted(expected)
            assert replayed(here, ("id",)) == here.held()


def replayed(here: World, key: tuple[str, ...]) -> Counter[str]:
    """What the changes make of nothing, one after the other."""
    feed = lp.scan(str(here.root / "out/o__changes")).collect().sort("_version", maintain_order=True)
    there: dict[Any, Row] = {}
    names = [n for n in feed.columns if n not in ("_change", "_version", "_time", "_run")]
    for row in feed.iter_rows(named=True):
        at, values = tuple(row[k] for k in key), tuple(row[n] for n in names)
        if row["_change"] in ("delete", "update_before"):
            assert there.get(at) == values or at not in there
            there.pop(at, None)
        else:
            there[at] = values
    return counted(there.values())
