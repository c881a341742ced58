"""What users of merge, snapshot and insert-overwrite strategies expect: orders that change, customers with a history, days that come again."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import lazypipe as lp
from lazypipe.errors import DefinitionError, LazypipeError
from lazypipe.run.maintenance import outlook
from lazypipe.run.segment import merge
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.vacuum import vacuum

START = datetime(2024, 1, 1, tzinfo=UTC)


class World:
    """A folder with deliveries of orders and a pipeline over it; runs are a day apart."""

    def __init__(self, root: Path, **output: Any) -> None:
        self.root = root
        self.output = output
        self.gate: list[Any] = []
        self.source: dict[str, Any] = {}
        self.do: list[Any] = []
        self.more: dict[str, Any] = {}
        self.runs = 0

    def deliver(self, file: str, folder: str = "in", /, **columns: Any) -> Path:
        path = self.root / folder / f"{file}.parquet"
        path.parent.mkdir(exist_ok=True)
        pl.DataFrame(columns).write_parquet(path)
        return path

    def definition(self) -> dict[str, Any]:
        return {
            "version": 1,
            "name": "shop",
            "sources": {"s": {"uri": "in/*.parquet", **self.source}, **self.more.get("sources", {})},
            "stages": {"orders": {"from": "s", "do": self.do, "gate": self.gate}, **self.more.get("stages", {})},
            "outputs": {"orders": {"to": "out/orders", **self.output}, **self.more.get("outputs", {})},
        }

    def compile(self) -> lp.Plan:
        return lp.Pipeline.from_dict(self.definition(), base=str(self.root)).compile()

    def run(self, **more: Any) -> lp.RunResult:
        self.runs += 1
        return self.compile().run(now=START + timedelta(days=self.runs), **more)

    def done(self, **more: Any) -> dict[str, str]:
        result = self.run(**more)
        result.raise_for_status()
        return {s.name: s.status for s in result.segments}

    def refusal(self, **more: Any) -> str:
        before = Dataset(self.uri).latest()
        result = self.run(**more)
        assert result.segments[0].status == "error"
        assert Dataset(self.uri).latest() == before
        return str(result.segments[0].error).removeprefix(f"{self.uri}: ")

    def faults(self) -> list[str]:
        with pytest.raises(DefinitionError) as caught:
            self.compile()
        return [str(p) for p in caught.value.problems]

    @property
    def uri(self) -> str:
        return str(self.root / "out/orders")

    def rows(self, *columns: str) -> list[Any]:
        frame = lp.scan(self.uri).collect()
        return frame.select(columns or pl.all()).sort(pl.all()).rows()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# upsert


def test_only_files_with_the_keys_are_written_again(world: World) -> None:
    world.output = {"mode": "upsert", "key": "id"}
    for number in range(5):
        world.deliver(str(number), id=range(number * 10_000, (number + 1) * 10_000), x=[0] * 10_000)
        assert world.done() == {"orders": "done"}
    before = Dataset(world.uri).read()
    assert len(before.files) == 5
    # ten thousand keys of two deliveries, of which one is half changed
    keys = [*range(5_000, 10_000), *range(30_000, 35_000)]
    world.deliver("5", id=keys, x=[0] * 5_000 + [1] * 5_000)
    world.done()
    after = Dataset(world.uri).read()
    stay = {f.path for f in before.files} & {f.path for f in after.files}
    # those that came as they were touch no file
    assert len(stay) == 4
    rows = lp.scan(world.uri).collect()
    assert (rows.height, rows["id"].n_unique(), rows["x"].sum()) == (50_000, 50_000, 5_000)
    assert rows.filter(pl.col("x") == 1)["id"].sort().to_list() == [*range(30_000, 35_000)]


def test_a_large_upsert_goes_part_by_part(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "_PART", 700)
    world.output = {"mode": "upsert", "key": ["id", "shop"], "order_by": "at"}
    shuffled = pl.DataFrame({"id": range(2_000)}).sample(fraction=1.0, shuffle=True, seed=0)["id"].to_list()
    world.deliver("a", id=shuffled, shop=["a"] * 2_000, at=[1] * 2_000)
    world.done()
    first = Dataset(world.uri).read()
    # parts are ranges of keys, so that statistics tell the files apart
    spans = sorted(
        (f["id"].min(), f["id"].max()) for f in (pl.read_parquet(Path(world.uri) / d.path) for d in first.files)
    )
    assert len(spans) == 3
    assert all(one[1] < other[0] for one, other in pairwise(spans))
    world.deliver("b", id=[*range(1_000), 5_000], shop=["a"] * 1_001, at=[0] * 500 + [2] * 501)
    world.done()
    found = lp.scan(world.uri).collect().sort("id")
    assert found["at"].to_list() == [1] * 500 + [2] * 500 + [1] * 1_000 + [2]
    # a first column with few values: by hashes
    world.output["key"] = ["shop", "id"]
    world.deliver("c", id=range(1_500), shop=["a"] * 1_500, at=[3] * 1_500)
    world.done()
    found = lp.scan(world.uri).collect().sort("id")
    assert found["at"].to_list() == [3] * 1_500 + [1] * 500 + [2]


def test_a_feed_of_changes_with_deletions(world: World) -> None:
    world.output = {"mode": "upsert", "key": "id", "order_by": "lsn", "deleted_when": "op = 'D'", "changes": True}
    world.deliver("1", id=[1, 2, 3], lsn=[1, 2, 3], op=["I", "I", "I"])
    world.done()
    # out of order, several of one key, one that is late
    world.deliver("2", id=[2, 1, 2, 3, 4], lsn=[9, 4, 7, 0, 5], op=["D", "U", "U", "U", "I"])
    world.done()
    assert world.rows() == [(1, 4, "U"), (3, 3, "I"), (4, 5, "I")]
    told = lp.scan(f"{world.uri}__changes").filter(pl.col("_version") == 2).collect()
    assert sorted(told.select("_change", "id", "lsn").rows()) == [
        ("delete", 2, 2),
        ("insert", 4, 5),
        ("update_after", 1, 4),
        ("update_before", 1, 1),
    ]
    assert told["_time"].unique().to_list() == [START + timedelta(days=2)]


def test_keys_that_cannot_be_merged_are_refused(world: World) -> None:
    world.output = {"mode": "upsert", "key": "id"}
    path = world.deliver("1", id=[1, 1], x=[1, 2])
    assert world.refusal() == (
        "output 'orders': key (id = 1) occurs more than once in this run; say with order_by or event_time which is the latest, "
        "or keep one in the stage"
    )
    path.unlink()
    world.deliver("1", id=[1, None, None], x=[1, 2, 3])
    assert world.refusal() == (
        "output 'orders': 2 rows have no value in key column 'id'; quarantine such rows with a rule not_null, or fill it in the stage"
    )
    world.gate = [{"not_null": {"columns": "id", "action": "quarantine"}}]
    world.done()
    assert world.rows() == [(1, 1)]
    assert lp.scan(f"{world.uri}__quarantine").collect().height == 2
    # what was put aside stays, since it is not read again
    world.deliver("2", id=[1, None], x=[5, 6])
    world.done()
    assert world.rows() == [(1, 5)]
    assert lp.scan(f"{world.uri}__quarantine").collect()["x"].sort().to_list() == [2, 3, 6]
    found = world.compile().replay("orders")
    assert (found.healed, found.superseded, found.remaining, found.version) == (0, 0, 3, None)


def test_an_aggregate_is_made_of_all_and_only_what_differs_is_written(world: World) -> None:
    world.output = {"mode": "upsert", "key": "k"}
    world.do = [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}]
    world.deliver("1", k=["a", "a", "b"])
    world.done()
    world.deliver("2", k=["b", "c"])
    world.done()
    assert world.rows() == [("a", 2), ("b", 2), ("c", 1)]
    assert world.done() == {"orders": "unchanged"}
    assert world.compile().explain_incremental() == "orders: full: orders: every file can change existing rows"


# delete


def test_a_feed_of_keys_removes_rows(world: World) -> None:
    world.output = {"mode": "upsert", "key": "id"}
    world.more = {
        "sources": {"gone": {"uri": "gone/*.parquet"}},
        "stages": {"forget": {"from": "gone"}},
        "outputs": {"forget": {"to": "out/orders", "mode": "delete", "key": "id"}},
    }
    world.deliver("1", id=[1, 2, 3], x=[1, 2, 3])
    world.deliver("1", "gone", id=[2, 7], why=["asked", "asked"])
    assert world.done() == {"orders": "done", "forget": "done"}
    assert world.rows() == [(1, 1), (3, 3)]
    assert world.done() == {"orders": "unchanged", "forget": "unchanged"}
    told = {s["output"]: s["consumed"] for s in world.compile().status()}
    assert {n: list(of) for n, of in told.items()} == {"orders": ["s"], "forget": ["gone"]}
    # what comes back after it was removed is there again
    world.deliver("2", id=[2], x=[22])
    assert world.done() == {"orders": "done", "forget": "unchanged"}
    world.deliver("2", "gone", id=[1], why=["asked"])
    assert world.done() == {"orders": "unchanged", "forget": "done"}
    assert world.rows() == [(2, 22), (3, 3)]
    assert world.refusal(full=True) == (
        "output 'orders': it cannot be rebuilt: which keys 'forget' removed, and when, is no longer known; "
        "run without --full, or write to another place"
    )
    # where what writes the rows fails, nothing is removed
    world.deliver("3", id=[5, 5], x=[5, 5])
    world.deliver("3", "gone", id=[3], why=["asked"])
    result = world.run()
    assert [(s.name, s.status) for s in result.segments] == [("orders", "error"), ("forget", "blocked")]


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_who_reads_what_keys_are_removed_from_reads_it_without_them(world: World, mode: str) -> None:
    """In the same run, whatever stands first in the definition; an output of removals that is made of such a reader comes after it."""
    world.output = {"mode": mode, "key": "id"}
    total = {"aggregate": {"by": "x", "aggregate": {"n": "count(*)", "most": "max(id)"}}}
    world.more = {
        "sources": {"gone": {"uri": "gone/*.parquet"}},
        "stages": {
            "by_x": {"from": "orders", "do": [total]},
            "found": {"from": "gone", "do": [{"join": {"with": "orders", "on": "id", "how": "left"}}]},
            "medians": {"from": "orders", "do": [{"aggregate": {"by": "x", "aggregate": {"m": "median(id)"}}}]},
            "forget": {"from": "gone"},
            "rare": {"from": "by_x", "do": [{"filter": "n = 1 AND x < 0"}, {"select": {"id": "most"}}]},
        },
        "outputs": {
            **{n: {"to": f"out/{n}"} for n in ("medians", "by_x", "found")},
            "forget": {"to": "out/orders", "mode": "delete", "key": "id"},
            "rare": {"to": "out/orders", "mode": "delete", "key": "id"},
        },
    }

    def held() -> list[list[tuple[Any, ...]]]:
        scans = [lp.scan(str(world.root / "out" / n)).collect() for n in ("by_x", "medians", "found")]
        return [sorted(s.rows()) for s in scans]

    world.deliver("1", id=[1, 2, 3], x=[7, 7, 8])
    world.deliver("1", "gone", id=[2], why=["asked"])
    result = world.run()
    result.raise_for_status()
    assert [s.name for s in result.segments] == ["orders", "forget", "by_x", "rare", "found", "medians"]
    assert world.rows() == [(1, 7), (3, 8)]
    assert held() == [[(7, 1, 1), (8, 1, 3)], [(7, 1.0), (8, 3.0)], [(2, "asked", None)]]
    assert set(world.done().values()) == {"unchanged"}
    # only keys come
    world.deliver("2", "gone", id=[1], why=["asked"])
    steps = {s["name"]: s["why"] for s in world.compile().preview()}
    assert steps["by_x"] == "depends on what forget writes in this run"
    world.done()
    assert held() == [[(8, 1, 3)], [(8, 3.0)], [(1, "asked", None), (2, "asked", None)]]
    # what a reader finds out itself is removed once it has
    world.deliver("3", id=[4], x=[-1])
    world.done()
    assert (world.rows(), held()[0]) == ([(3, 8)], [(-1, 1, 4), (8, 1, 3)])
    world.done()
    assert held()[0] == [(8, 1, 3)]
    assert set(world.done().values()) == {"unchanged"}


def test_what_a_feed_of_keys_removes_is_not_put_aside_either(world: World) -> None:
    world.output = {"mode": "append", "key": "id"}
    world.gate = [{"between": {"column": "x", "min": 0, "action": "quarantine"}}]
    world.more = {
        "sources": {"gone": {"uri": "gone/*.parquet"}},
        "stages": {"forget": {"from": "gone"}},
        "outputs": {"forget": {"to": "out/orders", "mode": "delete", "key": "id"}},
    }
    aside = Dataset(f"{world.uri}__quarantine")
    world.deliver("1", id=[1, 2, 3], x=[1, -2, -3])
    world.deliver("0", "gone", id=[99], why=["asked"])
    world.done()
    assert aside.scan(aside.read()).collect()["id"].sort().to_list() == [2, 3]
    world.deliver("1", "gone", id=[2, 7], why=["asked", "asked"])
    assert world.done() == {"orders": "unchanged", "forget": "done"}
    assert aside.scan(aside.read()).collect()["id"].to_list() == [3]
    # of what was never put aside, nothing is written
    before = aside.read().version
    world.deliver("2", "gone", id=[1], why=["asked"])
    world.done()
    assert aside.read().version == before
    world.gate = []
    assert world.compile().replay("orders", now=START + timedelta(days=9)).healed == 1
    assert world.rows() == [(3, -3)]


def test_what_a_feed_of_keys_removes_leaves_the_quarantines_ahead_too(world: World) -> None:
    """Of a source and of an inner stage, also under another name."""
    world.source = {"gate": [{"between": {"column": "x", "min": 0, "action": "quarantine"}}]}
    world.output = {"mode": "upsert", "key": "id"}
    world.more = {
        "sources": {"gone": {"uri": "gone/*.parquet"}},
        "stages": {
            "small": {
                "from": "s",
                "do": [{"rename": {"no": "id"}}],
                "gate": [{"between": {"column": "x", "max": 50, "action": "quarantine"}}],
            },
            "orders": {"from": "small"},
            "forget": {"from": "gone"},
        },
        "outputs": {"forget": {"to": "out/orders", "mode": "delete", "key": "id"}},
    }
    ahead = [Dataset(str(world.root / f".lazypipe/quarantine/shop/{n}")) for n in ("s", "small")]

    def aside() -> list[list[int]]:
        return [sorted(lp.scan(d.uri).collect()[c]) for d, c in zip(ahead, ("no", "id"), strict=True)]

    world.deliver("1", no=[1, 2, 3, 4, 5], x=[1, -2, -3, 60, 70])
    world.deliver("0", "gone", id=[99])
    world.done()
    assert aside() == [[2, 3], [4, 5]]
    world.deliver("1", "gone", id=[2, 1, 4, 7])
    assert world.done() == {"orders": "unchanged", "forget": "done"}
    assert (world.rows(), aside()) == ([], [[3], [5]])
    world.deliver("2", no=[6, 8], x=[-6, 8])
    world.done()
    assert (world.rows(), aside()) == ([(8, 8)], [[3, 6], [5]])
    assert lp.ledger(str(world.root / ".lazypipe/ledger")).verify(data=True).ok


def put_aside_and_forgotten(world: World) -> Dataset:
    """Return the quarantine of an output from which keys are removed."""
    world.output = {"mode": "upsert", "key": "id"}
    world.gate = [{"between": {"column": "x", "min": 0, "action": "quarantine"}}]
    world.more = {
        "sources": {"gone": {"uri": "gone/*.parquet"}},
        "stages": {"forget": {"from": "gone"}},
        "outputs": {"forget": {"to": "out/orders", "mode": "delete", "key": "id"}},
    }
    world.deliver("1", id=[1, 2, 3], x=[1, -2, -3])
    world.deliver("0", "gone", id=[99])
    world.done()
    world.deliver("2", id=[3, 4], x=[3, -4])
    world.done()
    return Dataset(f"{world.uri}__quarantine")


def test_what_is_removed_after_going_back_does_not_come_back_aside(world: World) -> None:
    aside = put_aside_and_forgotten(world)
    late = world.root / "in/2.parquet"
    late.unlink()
    lp.rollback(world.uri, version=2)
    world.deliver("1", "gone", id=[2])
    assert world.done() == {"orders": "unchanged", "forget": "done"}
    assert lp.scan(aside.uri).collect()["id"].to_list() == [3]
    world.deliver("3", id=[5], x=[-5])
    assert world.done() == {"orders": "done", "forget": "unchanged"}
    assert sorted(lp.scan(aside.uri).collect()["id"]) == [3, 5]
    # whoever goes back once more, and asks for no removal by now, has what was aside then
    (world.root / "gone/1.parquet").unlink()
    (world.root / "in/3.parquet").unlink()
    lp.rollback(world.uri, version=2)
    world.deliver("4", id=[6], x=[-6])
    world.done()
    assert sorted(lp.scan(aside.uri).collect()["id"]) == [2, 3, 6]


def test_vacuum_leaves_what_was_aside_at_the_version_that_is_in_force_again(world: World) -> None:
    aside = put_aside_and_forgotten(world)
    (world.root / "in/2.parquet").unlink()
    lp.rollback(world.uri, version=2)
    pipeline = lp.Pipeline.from_dict(world.definition(), base=str(world.root))
    lp.vacuum(aside.uri, older_than=timedelta(0))  # of which its name tells the output
    lp.vacuum(pipeline, older_than=timedelta(0))
    assert aside.log.versions() == [1, 2]
    world.deliver("3", id=[5], x=[-5])
    world.done()
    assert sorted(lp.scan(aside.uri).collect()["id"]) == [2, 3, 5]


def test_vacuum_by_path_leaves_what_a_feed_of_changes_has_not_told_yet(world: World) -> None:
    world.output = {"mode": "upsert", "key": "id", "changes": True}
    for number in (1, 2, 3):
        world.deliver(str(number), id=[number], x=[number])
        world.done()
    feed = Dataset(f"{world.uri}__changes")
    feed.log.remove([3])  # as if the last two runs had been killed before they told of it
    feed.log.remove([2])
    assert [(o.ending, o.held, o.dead) for o in outlook(Dataset(world.uri), 1)] == [((), (1, 2), 0)]
    lp.vacuum(world.uri, older_than=timedelta(0))
    assert Dataset(world.uri).log.versions() == [1, 2, 3]
    world.deliver("4", id=[4], x=[4])
    world.done()
    assert lp.scan(feed.uri).select("_version", "id").sort("id").collect().rows() == [(1, 1), (2, 2), (3, 3), (4, 4)]
    lp.vacuum(world.uri, older_than=timedelta(0))
    assert Dataset(world.uri).log.versions() == [4]


def test_what_is_aside_stays_where_nobody_knows_what_was_before(world: World) -> None:
    aside = put_aside_and_forgotten(world)
    lp.rollback(world.uri, version=2)
    vacuum(aside, older_than=timedelta(0))
    world.done()
    # 4 was put aside by what is undone, and again by the run that did it again
    assert sorted(lp.scan(aside.uri).collect()["id"]) == [2, 4, 4]


WIDER: dict[str, tuple[Any, Any, Any, list[Any]]] = {
    "datetime": (
        pl.from_epoch("id", "d").cast(pl.Datetime("ms")),
        pl.from_epoch("id", "d").cast(pl.Datetime("us")),
        "id",
        [],
    ),
    "decimal": (pl.col("id").cast(pl.Decimal(9, 2)), pl.col("id").cast(pl.Decimal(12, 2)), "id", []),
    "column": (pl.col("id"), pl.col("id"), "k", [1, 2]),
}


@pytest.mark.parametrize("case", WIDER)
def test_rows_put_aside_of_another_key_are_found_by_that_of_now(world: World, case: str) -> None:
    before, after, key, left = WIDER[case]
    world.output = {"mode": "append", "key": "id", "contract": {"on_type_change": "evolve", "on_new_column": "evolve"}}
    world.gate = [{"between": {"column": "x", "min": 0, "action": "quarantine"}}]
    world.do = [{"derive": {"id": before}}]
    world.deliver("1", id=[1, 2, 3], x=[-1, -2, 3])
    world.done()
    world.output["key"] = key
    world.do = [{"derive": {"id": after} | ({"k": after} if key == "k" else {})}]
    world.more = {
        "sources": {"gone": {"uri": "gone/*.parquet"}},
        "stages": {"forget": {"from": "gone", "do": world.do}},
        "outputs": {"forget": {"to": "out/orders", "mode": "delete", "key": key}},
    }
    world.deliver("0", "gone", id=[1])
    world.deliver("2", id=[4], x=[4])
    world.done()
    aside = f"{world.uri}__quarantine"
    assert sorted(lp.scan(aside).collect()["x"]) == ([-2, -1] if left else [-2])
    world.deliver("3", id=[2, 5], x=[2, -5])
    world.done()
    assert sorted(-x for x in lp.scan(aside).collect()["x"]) == [*left, 5]


def test_deletions_need_a_dataset_that_keeps_them(world: World) -> None:
    world.output = {"mode": "delete", "key": "id"}
    world.deliver("1", id=[1])
    assert world.refusal() == (
        "output 'orders': there is no dataset to delete from; run the output that writes it first, or check the path"
    )
    world.output = {}
    world.done()
    world.output = {"mode": "delete", "key": "id"}
    assert world.refusal() == (
        "output 'orders' deletes rows, and the dataset is written with mode: replace, which would bring them back; "
        "write it with mode: upsert or append"
    )


# versions


def test_customers_have_a_history(world: World) -> None:
    world.output = {"mode": "scd2", "key": "id", "deletes": "close"}
    path = world.deliver("all", id=[1, 2], city=["Ulm", "Bonn"])
    world.done()
    for ids, cities in (([1, 2], ["Ulm", "Köln"]), ([1], ["Ulm"]), ([1, 2], ["Ulm", "Köln"])):
        path.unlink()
        world.deliver("all", id=ids, city=cities)
        world.done()
    days = [START + timedelta(days=n) for n in range(6)]
    found = lp.scan(world.uri).collect().sort("id", "valid_from")
    expected = [
        (1, "Ulm", days[1], None, True),
        (2, "Bonn", days[1], days[2], False),
        (2, "Köln", days[2], days[3], False),
        (2, "Köln", days[4], None, True),
    ]
    assert_frame_equal(found, pl.DataFrame(expected, schema=found.schema, orient="row"))
    assert world.refusal(full=True) == (
        "output 'orders': it cannot be rebuilt: its versions are dated by the times of their runs; "
        "run without --full, or write to another place"
    )


@pytest.mark.parametrize(
    "output",
    [{"mode": "scd2", "key": "id"}, {"mode": "snapshot"}, {"mode": "replace_partitions", "partition_by": "id"}],
    ids=lambda output: output["mode"],
)
def test_another_column_where_no_run_in_full_helps(world: World, output: dict[str, Any]) -> None:
    world.output = output
    world.deliver("1", id=[1], x=[1])
    world.done()
    world.deliver("1", id=[1, 2], x=[1, 2], more=["a", "b"])
    assert world.refusal() == (
        "output 'orders': its rows have columns or partitions that differ from the dataset's, in 'more'; "
        "give the rows the dataset's columns and types in the stage, or write to another place"
    )
    world.do = [{"select": ["id", "x"]}]
    assert world.done() == {"orders": "done"}
    assert {*lp.scan(world.uri).select("id", "x").collect().rows()} == {(1, 1), (2, 2)}


def test_a_late_version_is_put_in_its_place(world: World) -> None:
    world.output = {"mode": "scd2", "key": "id", "event_time": "at", "partition_by": "id"}
    at = [datetime(2024, 1, d) for d in (1, 2, 3, 4)]
    world.deliver("1", id=[1, 1, 2], at=[at[0], at[3], at[0]], x=["a", "d", "a"])
    world.done()
    world.deliver("2", id=[1, 2], at=[at[1], at[2]], x=["b", "a"])
    world.done()
    assert world.rows("id", "x", "valid_from", "valid_to", "is_current") == [
        (1, "a", at[0], at[1], False),
        (1, "b", at[1], at[3], False),
        (1, "d", at[3], None, True),
        (2, "a", at[0], None, True),
    ]
    # from all that there is, at once: the same
    before = world.rows()
    assert world.done(full=True) == {"orders": "done"}
    assert world.rows() == before
    world.deliver("3", id=[1], at=pl.Series([None], dtype=pl.Datetime("us")), x=["e"])
    assert world.refusal() == (
        "output 'orders': key (id = 1) has no event time; fill it in the stage, or quarantine such rows with a rule not_null"
    )


# append, partitions, snapshots


def test_append_takes_each_file_once(world: World) -> None:
    world.output = {"mode": "append"}
    world.deliver("1", id=[1])
    world.done()
    world.deliver("2", id=[2])
    (segment,) = world.run().segments
    assert (segment.written, segment.rows, segment.why) == (1, 2, "s: 1 added, 1 unchanged")
    assert world.done() == {"orders": "unchanged"}
    # another definition holds for what comes
    world.do = [{"derive": {"id": "id * 10"}}]
    (segment,) = world.run().segments
    holds = "the definition changed, and applies to new rows only"
    assert (segment.status, segment.why) == ("unchanged", f"nothing new: s: 2 unchanged; {holds}")
    (step,) = world.compile().preview()
    assert step["why"] == segment.why
    world.deliver("3", id=[3])
    (segment,) = world.run().segments
    assert segment.why == "s: 1 added, 2 unchanged; the definition changed, and applies to new rows only"
    assert world.rows() == [(1,), (2,), (30,)]
    (world.root / "in/1.parquet").unlink()
    assert world.done() == {"orders": "unchanged"}
    assert world.refusal(full=True) == (
        f"output 'orders': rebuilding it would lose rows: a file that it was made of is gone, such as {world.root}/in/1.parquet; "
        "restore it, run without --full, or write to another place"
    )
    world.deliver("1", id=[1])
    assert world.done(full=True) == {"orders": "done"}
    assert world.rows() == [(10,), (20,), (30,)]
    world.do = [{"derive": {"more": "1"}}]
    world.deliver("4", id=[4])
    assert world.refusal() == (
        "output 'orders': its rows have columns or partitions that differ from the dataset's, in 'more'; "
        "allow such columns in its contract (on_new_column: evolve), "
        "run once in full (--full), which rebuilds it, or write to another place"
    )
    world.output = {"mode": "append", "contract": {"columns": {}, "on_new_column": "evolve"}}
    assert world.done() == {"orders": "done"}
    assert world.rows("id", "more") == [(4, 1), (10, None), (20, None), (30, None)]


def test_append_to_a_log_that_grows(world: World) -> None:
    world.output = {"mode": "append"}
    log = world.root / "log.csv"
    log.write_text("id\n1\n2\n")
    world.source = {"uri": "log.csv"}
    world.done()
    log.write_text("id\n1\n2\n3\n4")
    world.done()
    assert world.rows() == [(1,), (2,), (3,), (4,)]
    log.write_text("id\n1\n2\n3\n45\n")
    assert world.refusal() == (
        f"output 'orders': {log} has grown, and the rows added before would be added a second time: what was read of it "
        "does not end with a row, or was not hashed; run once in full (--full), which rebuilds it, or say at the source "
        "on_modified: reprocess to add all of its rows again, or ignore to add none"
    )
    world.source["on_modified"] = "ignore"
    assert world.done() == {"orders": "unchanged"}
    assert world.rows() == [(1,), (2,), (3,), (4,)]
    world.source["on_modified"] = "reprocess"
    world.done()
    assert world.rows() == [(1,), (1,), (2,), (2,), (3,), (3,), (4,), (45,)]
    assert world.done(full=True) == {"orders": "done"}
    assert world.rows() == [(1,), (2,), (3,), (45,)]


REWRITTEN = (
    "output 'orders': {} was rewritten, and its rows added before would be added a second time; "
    "say at the source on_modified: reprocess to add all of its rows, or ignore to add none, or use mode: upsert"
)


@pytest.mark.parametrize("kind", ["parquet", "csv.gz", "csv"])
def test_append_asks_what_is_to_become_of_a_rewritten_file(world: World, kind: str) -> None:
    """Which of its rows were added before cannot be seen, so that the user says it; what is new is added together with it."""
    path = world.root / f"in/a.{kind}"
    path.parent.mkdir()

    def deliver(*ids: int) -> None:
        frame = pl.DataFrame({"id": ids})
        if kind == "parquet":
            frame.write_parquet(path)
        else:
            text = frame.write_csv().encode()
            path.write_bytes(gzip.compress(text, mtime=0) if kind == "csv.gz" else text)

    world.source, world.output = {"uri": f"in/*.{kind}"}, {"mode": "append"}
    deliver(1, 2, 3)
    world.done()
    deliver(1, 2, 33)
    assert world.refusal() == REWRITTEN.format(path)
    deliver(9)  # shorter, as after a rotation that copies the log and truncates it
    assert world.refusal() == REWRITTEN.format(path)
    world.source["on_modified"] = "ignore"
    assert world.done() == {"orders": "unchanged"}
    world.source["on_modified"] = "reprocess"
    world.done()
    assert world.rows() == [(1,), (2,), (3,), (9,)]


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_mended_file_is_added_where_nothing_of_it_was(world: World, kind: str) -> None:
    path = world.root / f"in/a.{kind}"
    world.source = {"uri": f"in/*.{kind}", "on_corrupt": "skip", "contract": {"columns": {"id": "Int64"}}}
    world.output = {"mode": "append"}
    path.parent.mkdir()
    other = path.with_stem("b")
    (pl.DataFrame({"id": [1]}).write_parquet if kind == "parquet" else pl.DataFrame({"id": [1]}).write_csv)(other)
    path.write_bytes(b"PAR1 no more" if kind == "parquet" else b"id\n2\n3,4\n")
    world.done()
    assert world.rows() == [(1,)]
    (pl.DataFrame({"id": [2, 3]}).write_parquet if kind == "parquet" else pl.DataFrame({"id": [2, 3]}).write_csv)(path)
    world.done()
    assert world.rows() == [(1,), (2,), (3,)]


def test_append_goes_on_while_all_files_are_gone(world: World) -> None:
    """As where each delivery is moved to an archive once it was read."""
    world.source, world.output = {"on_removed": "ignore"}, {"mode": "append"}
    path = world.deliver("1", id=[1])
    world.done()
    path.unlink()
    with pytest.raises(LazypipeError) as caught:
        world.compile()
    assert str(caught.value) == (
        f"{world.root}/in/*.parquet: source 's': no file matches; check the pattern; it starts from the definition's folder, "
        "or declare its columns (contract.columns), so that runs go on while there is none"
    )
    world.source["contract"] = {"columns": {"id": "Int64"}}
    world.done()
    assert world.rows() == [(1,)]
    world.deliver("2", id=[2])
    world.done()
    assert world.rows() == [(1,), (2,)]


def test_append_from_a_table_that_is_written_again(world: World) -> None:
    world.output = {"mode": "upsert", "key": "id"}
    world.more = {"stages": {"copy": {"from": "orders"}}, "outputs": {"copy": {"to": "out/copy", "mode": "append"}}}
    world.deliver("1", id=[1, 2], x=[1, 2])
    world.done()
    world.deliver("2", id=[3], x=[3])
    world.done()
    assert lp.scan(str(world.root / "out/copy")).collect().height == 3
    world.deliver("3", id=[3], x=[4])
    result = world.run()
    assert "rows of 'orders' were rewritten, and would be added a second time" in str(result.segments[1].error)


def test_only_days_that_come_are_replaced(world: World) -> None:
    world.output = {"mode": "replace_partitions", "partition_by": "day"}
    path = world.deliver("last", day=["1", "1", "2"], x=[1, 2, 3])
    world.done()
    path.unlink()
    world.deliver("last", day=["2", "3"], x=[4, 5])
    world.done()
    assert world.rows("day", "x") == [("1", 1), ("1", 2), ("2", 4), ("3", 5)]
    assert world.done() == {"orders": "unchanged"}
    assert world.done(full=True) == {"orders": "done"}
    assert world.rows("day", "x") == [("1", 1), ("1", 2), ("2", 4), ("3", 5)]


def test_the_last_snapshots_are_kept(world: World) -> None:
    world.output = {"mode": "snapshot", "keep": 2}
    path = world.deliver("all", id=[1])
    world.done()
    world.done()
    path.unlink()
    world.deliver("all", id=[2, 3])
    world.done()
    days = [START + timedelta(days=n) for n in (2, 3)]
    assert world.rows() == [(1, days[0]), (2, days[1]), (3, days[1])]


# what is wrong


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"mode": "merge"}, "outputs.orders.mode: 'mode' cannot be 'merge'; here that is called 'upsert'"),
        ({"mode": "scd2"}, "outputs.orders.mode: mode: scd2 needs a key; add key: the columns that identify a row"),
        ({"mode": "upsert", "key": "idd"}, "outputs.orders.key[0]: unknown column 'idd'; did you mean 'id'?"),
        ({"mode": "upsert", "key": "id", "order_by": "tt"}, "outputs.orders.order_by[0]: unknown column 'tt'; "),
        ({"mode": "upsert", "key": "id", "order_by": "l"}, "outputs.orders.order_by[0]: List(Int64) column 'l' has no order; "),
        ({"mode": "upsert", "key": "l"}, "outputs.orders.key[0]: List(Int64) column 'l' cannot be a key; "),
        ({"mode": "upsert", "key": "id", "event_time": "at", "order_by": "x"}, "outputs.orders.event_time: order_by and event_time both say which row is the latest; "),
        ({"mode": "upsert", "key": "id", "deletes": "close"}, "outputs.orders.deletes: deletes is for mode: scd2, and this is mode: upsert; "),
        ({"mode": "upsert", "key": "id", "deleted_when": "x"}, "outputs.orders.deleted_when: a condition must be true or false, and this is Int64; "),
        ({"mode": "upsert", "key": "id", "deleted_when": "y = 1"}, "outputs.orders.deleted_when: unknown column 'y'"),
        ({"mode": "upsert", "key": "id", "deleted_when": "x = max(x)"}, "outputs.orders.deleted_when: deleted_when takes values from other rows; "),
        ({"mode": "upsert", "key": "id", "deleted_when": "at > 'z'"}, "outputs.orders.deleted_when: "),
        ({"key": "id", "keep": 2}, "outputs.orders.keep: keep is for mode: snapshot, and this is mode: replace; "),
        ({"mode": "scd2", "key": "id", "event_time": "x"}, "outputs.orders.event_time: event_time 'x' is Int64; "),
        ({"mode": "scd2", "key": "id", "event_time": "when"}, "outputs.orders.event_time: unknown column 'when'; "),
        ({"mode": "scd2", "key": ["id", "at"], "event_time": "at"}, "outputs.orders.event_time: event_time 'at' is part of the key, "),
        ({"mode": "scd2", "key": "id", "event_time": "at", "deletes": "close"}, "outputs.orders.deletes: deletes: close ends versions at the time of the run, "),
        ({"mode": "scd2", "key": "id", "contract": {"columns": {}, "on_new_column": "evolve"}}, "outputs.orders.contract: a contract is about the rows of a stage, and mode: scd2 makes "),
        ({"mode": "replace_partitions"}, "outputs.orders.mode: mode: replace_partitions needs partitions; "),
        ({"mode": "delete", "key": "id", "partition_by": "id"}, "outputs.orders.partition_by: partition_by is for rows that are written, "),
        ({"changes": True}, "outputs.orders.changes: changes needs a key; "),
        ({"changes": True, "key": "id", "mode": "snapshot"}, "outputs.orders.changes: changes has no meaning with mode: snapshot; "),
        ({"changes": True, "key": "id", "mode": "delete"}, "outputs.orders.changes: changes has no meaning with mode: delete; "),
        ({"changes": True, "format": "parquet"}, "outputs.orders.changes: changes is for datasets, and this is one parquet file; "),
    ],
)  # fmt: skip
def test_mistakes_are_told_where_they_are(world: World, output: dict[str, Any], message: str) -> None:
    world.output = output
    world.deliver("1", id=[1], x=[1], at=[datetime(2024, 1, 1)], l=[[1]])
    (told,) = world.faults()
    assert told.startswith(message)


def test_columns_and_readers_that_a_mode_cannot_have(world: World) -> None:
    world.deliver("1", id=[1], valid_to=[1], snapshot_at=[1], _run=["r"])
    world.output = {"mode": "scd2", "key": "id"}
    assert world.faults() == [
        "outputs.orders.mode: mode: scd2 adds a column 'valid_to', and 'orders' has one; rename it in the stage"
    ]
    world.output = {"mode": "snapshot"}
    assert "adds a column 'snapshot_at'" in world.faults()[0]
    world.output = {"mode": "upsert", "key": "id", "changes": True}
    assert "a change feed has a column '_run' of its own" in world.faults()[0]
    world.output = {"mode": "scd2", "key": "id"}
    world.do = [{"select": ["id"]}]
    world.more = {"stages": {"next": {"from": "orders"}}, "outputs": {"next": {"to": "out/next"}}}
    (told,) = world.faults()
    assert told == (
        "outputs.orders.mode: mode: scd2 makes something else of the rows of 'orders', which 'next' reads; "
        "write from a stage of its own, that nothing reads"
    )
    world.more = {"outputs": {"copy": {"to": "out/next", "from": "orders"}}}
    (told,) = world.faults()
    assert told == (
        "outputs.orders.mode: mode: scd2 makes something else of the rows of 'orders', which 'copy' writes too; "
        "give one of them a stage of its own"
    )
    world.more = {"stages": {"b": {"from": "s"}}, "outputs": {"b": {"to": "out/orders", "mode": "delete", "key": "id"}}}
    assert "outputs 'orders' and 'b' write to the same place; change one of them" in world.faults()[0]


def test_another_mode_on_a_dataset_that_is_there(world: World) -> None:
    world.deliver("1", id=[1], x=[1])
    world.done()
    world.output = {"mode": "upsert", "key": "id"}
    told = (
        "output 'orders' has mode: {}, and the dataset was written with mode: {}; run once in full (--full), which rebuilds it, "
        "or write to another place"
    )
    assert world.refusal() == told.format("upsert", "replace")
    assert world.done(full=True) == {"orders": "done"}
    world.deliver("2", id=[1], x=[2])
    world.done()
    assert world.rows() == [(1, 2)]
    world.output = {}
    assert world.refusal() == told.format("replace", "upsert")
    (world.root / "in/1.parquet").unlink()
    assert "rebuilding it would lose rows" in world.refusal(full=True)
    world.deliver("1", id=[1], x=[1])
    assert world.done(full=True) == {"orders": "done"}
    assert world.rows() == [(1, 1), (1, 2)]
    world.output = {"mode": "snapshot"}
    assert world.done(full=True) == {"orders": "done"}
    world.output = {}
    assert "the rows of earlier snapshots are no longer known" in world.refusal(full=True)


def test_another_key_on_a_dataset_that_is_there(world: World) -> None:
    world.output = {"mode": "upsert", "key": ["id", "part"]}
    world.deliver("1", id=[1, 1], part=["a", "b"], x=[1, 1])
    world.done()
    world.deliver("2", id=[1], part=["c"], x=[2])
    world.output = {"mode": "upsert", "key": "id", "order_by": "x"}
    assert world.refusal() == (
        "output 'orders' has key: [id], and the dataset was written with key: [id, part]; run once in full (--full), which rebuilds it, "
        "or write to another place"
    )
    (world.root / "in/1.parquet").unlink()
    world.deliver("0", id=[1], part=["a"], x=[1])
    assert "rebuilding it would lose rows" in world.refusal(full=True)
    world.output = {"mode": "upsert", "key": ["part", "id"]}  # in whatever order
    world.done()
    assert world.rows("id", "part", "x") == [(1, "a", 1), (1, "b", 1), (1, "c", 2)]


def test_another_key_in_full(world: World) -> None:
    world.output = {"mode": "upsert", "key": ["id", "part"], "changes": True}
    world.deliver("1", id=[1, 1], part=["a", "b"], x=[1, 2])
    world.done()
    world.output = {"mode": "upsert", "key": "id", "order_by": "x"}
    assert world.done(full=True) == {"orders": "done"}
    assert world.rows() == [(1, "b", 2)]
    world.deliver("2", id=[1, 2], part=["c", "c"], x=[3, 1])
    world.done()
    assert world.rows() == [(1, "c", 3), (2, "c", 1)]


def test_a_feed_begins_with_what_a_run_in_full_makes(world: World) -> None:
    """What was there before has keys that stand several times, and other columns."""
    at = [datetime(2023, 6, 1, tzinfo=UTC)] * 2
    world.output = {"mode": "append"}
    world.deliver("1", id=[1, 1], x=[1, 2], at=at)
    world.done()
    world.output = {"mode": "upsert", "key": "id", "order_by": "x", "changes": True}
    assert "has mode: upsert" in world.refusal()
    assert world.done(full=True) == {"orders": "done"}
    assert lp.scan(f"{world.uri}__changes").collect().select("_change", "x").rows() == [("insert", 2)]
    world.deliver("2", id=[1], x=[3], at=at[:1])
    world.done()
    told = lp.scan(f"{world.uri}__changes").collect().sort("_version", "x").select("_change", "x").rows()
    assert told == [("insert", 2), ("update_before", 2), ("update_after", 3)]


def test_versions_by_another_clock(world: World) -> None:
    """Those that a run found then would stand behind others that were earlier, and be current."""
    at = [datetime(2023, 6, 1, tzinfo=UTC)]
    own = {"mode": "scd2", "key": "id", "event_time": "at"}
    world.output = {"mode": "scd2", "key": "id"}
    world.deliver("1", id=[1], x=[1], at=at)
    world.done()
    world.deliver("2", id=[1], x=[2], at=at)
    world.output = own
    assert world.refusal() == (
        "versions of output 'orders' are dated by event_time, and the existing ones by the times of their runs; "
        "remove event_time, or write to another place"
    )
    never = (
        "output 'orders': it cannot be rebuilt: its versions are dated by the times of their runs; "
        "go back to the mode, key and event_time that it was written with, or write to another place"
    )
    assert world.refusal(full=True) == never
    world.output = {}
    assert world.refusal(full=True) == never
    world.output = {"mode": "scd2", "key": "id"}
    world.done()
    assert [row[:2] for row in world.rows("x", "is_current", "valid_from")] == [(1, False), (2, True)]


def test_versions_with_times_of_their_own_can_be_made_in_another_way(world: World) -> None:
    at = [datetime(2023, 6, 1, tzinfo=UTC)]
    world.output = {"mode": "scd2", "key": "id", "event_time": "at"}
    world.deliver("1", id=[1], x=[1], at=at)
    world.done()
    world.output = {"mode": "scd2", "key": "id"}
    assert world.refusal() == (
        "versions of output 'orders' are dated by the times of their runs, and the existing ones by event_time; "
        "say event_time, or write to another place, or run once in full (--full)"
    )
    world.output = {}
    assert world.done(full=True) == {"orders": "done"}
    assert world.rows("id", "x") == [(1, 1)]


def test_other_partitions_are_not_made_by_a_run_in_full(world: World) -> None:
    world.output = {"mode": "replace_partitions", "partition_by": "part"}
    world.deliver("1", id=[1], part=["a"], x=[1])
    world.done()
    world.deliver("2", id=[1], part=["b"], x=[1])
    world.output = {"mode": "replace_partitions", "partition_by": "x"}
    for full in (False, True):
        assert world.refusal(full=full) == (
            "output 'orders': its rows have columns or partitions that differ from the dataset's, in its partitions; "
            "say partition_by: [part], as the dataset has it, or write to another place"
        )


def test_partitions_replace_each_other_in_the_folders_that_the_dataset_has(world: World) -> None:
    world.output = {"mode": "replace_partitions", "partition_by": "part"}
    world.deliver("1", id=[1, 2], part=["a", "b"], x=[1, 1])
    world.done()
    lp.optimize.rewrite(world.uri, lp.optimize.Layout(), partition_by=["x"])
    world.deliver("2", id=[3], part=["a"], x=[2])
    told = "output 'orders': its rows have columns or partitions that differ from the dataset's, in its partitions; "
    assert world.refusal() == f"{told}say partition_by: [x], as the dataset has it, or write to another place"
    world.output |= {"partition_by": "x"}
    assert world.done() == {"orders": "done"}
    assert world.rows("id", "part", "x") == [(1, "a", 1), (2, "b", 1), (3, "a", 2)]
    assert {f.path.split("/")[0] for f in Dataset(world.uri).read().files} == {"x=1", "x=2"}
    lp.optimize.rewrite(world.uri, lp.optimize.Layout(), partition_by=[])
    world.deliver("3", id=[4], part=["b"], x=[3])
    assert world.refusal() == f"{told}write to another place"


def test_a_commit_that_does_not_say_what_it_has_consumed(world: World) -> None:
    world.output = {"mode": "append"}
    world.deliver("1", id=[1])
    world.done()
    dataset = Dataset(world.uri)
    commit = dataset.read()
    dataset.commit((), commit.schema, run="x", time=START, mode="append")
    assert world.refusal() == (
        "output 'orders': the last version does not record what it was made from, so new input cannot be told from old; "
        "run once in full (--full), which rebuilds it"
    )
    dataset.commit((), commit.schema, run="y", time=START, mode="append", info={"consumed": {"format": 0}})
    assert "the record of what the output has consumed is damaged" in world.refusal()
    assert world.done(full=True) == {"orders": "done"}
    assert world.rows() == [(1,)]


def test_a_side_that_is_not_whole_is_waited_for(world: World) -> None:
    world.output = {"mode": "append"}
    expected = {"expect": {"marker": "_SUCCESS"}, "contract": {"columns": {"id": "Int64", "name": "String"}}}
    world.more = {"sources": {"names": {"uri": "names/*.parquet", **expected}}}
    world.do = [{"join": {"with": "names", "on": "id", "how": "left"}}]
    world.deliver("1", id=[1])
    names = world.deliver("1", "names", id=[1, 2], name=["a", "b"])
    assert world.done() == {"orders": "waiting"}
    marker = world.root / "names/_SUCCESS"
    marker.touch()
    assert world.done() == {"orders": "done"}
    # the other side is another by now, or not whole: rows that are there stay as they were joined
    names.unlink()
    marker.unlink()
    world.deliver("2", "names", id=[1, 2], name=["A", "B"])
    assert world.done() == {"orders": "unchanged"}
    world.deliver("2", id=[1, 2])
    assert world.done() == {"orders": "waiting"}
    marker.touch()
    assert world.done() == {"orders": "done"}
    assert world.rows() == [(1, "A"), (1, "a"), (2, "B")]
    assert (
        world.compile().explain_incremental()
        == "orders: reads new and changed files of s; if names changes, existing rows stay as they are"
    )


def test_what_a_run_would_do_is_said(world: World) -> None:
    world.output = {"mode": "replace_partitions", "partition_by": "k"}
    world.deliver("1", k=["a"], x=[1])
    world.done()
    world.do = [{"derive": {"x": "x + 1"}}]
    (step,) = world.compile().preview()
    assert step["why"].startswith("the definition changed: ")
    assert step["why"].endswith("; replace_partitions on version 1 (1 row)")
    world.done()
    assert world.rows("k", "x") == [("a", 2)]
    world.output = {"mode": "append"}
    assert "written with mode: replace_partitions" in world.refusal()


@pytest.mark.parametrize(("mode", "then"), [("append", "unchanged"), ("replace", "done")])
def test_a_run_after_a_replay(world: World, mode: str, then: str) -> None:
    world.output = {"mode": mode}
    world.gate = [{"between": {"column": "x", "max": 5, "action": "quarantine"}}]
    world.deliver("1", x=[1, 9])
    world.done()
    world.gate = [{"between": {"column": "x", "max": 10, "action": "quarantine"}}]
    assert world.compile().replay("orders").healed == 1
    assert world.rows() == [(1,), (9,)]
    assert world.done() == {"orders": then}
    assert world.rows() == [(1,), (9,)]
    world.deliver("2", x=[2])
    world.done()
    assert world.rows() == [(1,), (2,), (9,)]


@pytest.mark.parametrize("mode", ["replace", "upsert"])
def test_a_feed_tells_columns_that_come_and_go_as_null_where_they_are_not(world: World, mode: str) -> None:
    evolve = {"on_new_column": "evolve", "on_missing_column": "evolve"}
    world.output = {"mode": mode, "key": "id", "changes": True} | ({"contract": evolve} if mode == "upsert" else {})
    world.deliver("1", id=[1, 2], x=[1, 2])
    world.done()
    world.do = [{"derive": {"more": "x * 10"}}]
    world.deliver("2", id=[3], x=[3])
    world.deliver("3", id=[2] if mode == "upsert" else [4], x=[5])
    world.done()
    world.do = []
    world.deliver("4", id=[3] if mode == "upsert" else [5], x=[6])
    world.done()
    told = lp.scan(f"{world.uri}__changes").collect().sort("_version", maintain_order=True)
    last = {
        row["id"]: (row["x"], row["more"]) if row["_change"] != "delete" else None
        for row in told.iter_rows(named=True)
        if row["_change"] != "update_before"
    }
    there = {"replace": {1: 1, 2: 2, 3: 3, 4: 5, 5: 6}, "upsert": {1: 1, 2: 5, 3: 6}}[mode]
    assert last == {i: (x, 50 if (mode, i) == ("upsert", 2) else None) for i, x in there.items()}
    second = told.filter(pl.col("_version") == 2, pl.col("_change") == "update_after").sort("id")
    assert (
        second.select("id", "x", "more").rows()
        == {
            "replace": [(1, 1, 10), (2, 2, 20)],
            "upsert": [(2, 5, 50)],
        }[mode]
    )


def test_a_feed_goes_on_with_more_columns_and_not_with_other_types(world: World) -> None:
    world.output = {"mode": "upsert", "key": "id", "changes": True}
    world.deliver("1", id=[1], x=[1])
    world.done()
    world.do = [{"derive": {"more": "7"}}]
    world.done(full=True)
    world.deliver("2", id=[2], x=[2])
    world.done()
    feed = lp.scan(f"{world.uri}__changes").collect().sort("_version", "id", "more")
    assert feed.select("_change", "_version", "id", "x", "more").rows() == [
        ("insert", 1, 1, 1, None),
        ("update_before", 2, 1, 1, None),
        ("update_after", 2, 1, 1, 7),
        ("insert", 3, 2, 2, 7),
    ]
    world.do = [{"derive": {"more": "'text'"}}]
    (segment,) = world.run(full=True).segments
    assert segment.status == "error"
    told = str(segment.error)
    assert told.startswith(
        f"{world.uri}__changes: the change feed of output 'orders' cannot go on: column 'more' is Int32 in a "
    )
    assert told.endswith("; delete it and orders__changes.commits to begin a new one")
    # the output itself is published, whole
    assert world.rows() == [(1, 1, "text"), (2, 2, "text")]
    # and so it is with narrower ones
    world.output["to"] = "out/other"
    world.do = [{"derive": {"more": "7"}}]
    world.done()
    world.do = [{"cast": {"x": "Int8"}}, {"derive": {"more": "7"}}]
    (segment,) = world.run(full=True).segments
    assert "cannot go on: columns have narrower types by now; " in str(segment.error)


def test_a_backlog_is_added_a_part_at_a_time(tmp_path: Path) -> None:
    world = World(tmp_path, mode="append")
    for number in range(5):
        world.deliver(str(number), id=[number])
    told = [world.run(max_files=2) for _ in range(4)]
    assert [(r.segments[0].status, r.segments[0].written, r.left) for r in told] == [
        ("done", 2, 3), ("done", 2, 1), ("done", 1, 0), ("unchanged", 0, 0),
    ]  # fmt: skip
    assert sorted(lp.scan(str(tmp_path / "out/orders")).collect()["id"]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("mode", ["upsert", "scd2"])
def test_a_delivery_opens_no_file_that_cannot_hold_its_keys(tmp_path: Path, mode: str) -> None:
    world = World(tmp_path, mode=mode, key="id", **({"event_time": "at"} if mode == "scd2" else {}))
    world.gate = [{"between": {"column": "v", "min": 0, "action": "quarantine"}}]

    def day(first: int, v: list[int], again: int | None = None) -> None:
        at = [START + timedelta(days=first + world.runs)] * 3
        if again is not None:  # in a history, what corrects a version is of its time
            at[1] = START + timedelta(days=again)
        world.deliver(f"{world.runs}", id=[first, first + 1, first + 2], v=v, at=at)
        world.done()

    for first in (0, 10, 20):
        day(first, [1, 2, -3])
    out, aside = (Dataset(f"{world.uri}{of}") for of in ("", "__quarantine"))
    held, kept = ([f.path for f in d.read().files] for d in (out, aside))
    for dataset, paths in ((out, (held[0], held[2])), (aside, (kept[0], kept[2]))):
        for path in paths:
            Path(dataset.uri, path).write_bytes(b"whoever opens this stumbles")
    day(11, [5, 3, -4], again=11)  # a key that changes, one that was aside, a new one that is put aside
    assert [f.path for f in out.read().files][:2] == [held[0], held[2]]
    assert [f.path for f in aside.read().files][:2] == [kept[0], kept[2]]
    live = [pl.read_parquet([Path(d.uri, f.path) for f in d.read().files[2:]]) for d in (out, aside)]
    assert sorted(live[0].filter(pl.col("is_current") if mode == "scd2" else True).select("id", "v").rows()) == [
        (10, 1),
        (11, 5),
        (12, 3),
    ]
    assert live[1]["id"].to_list() == [13]


@pytest.mark.parametrize(
    ("output", "rows", "told"),
    [
        ({"mode": "upsert"}, [("ada", "1"), ("ada", "2")], "key (n = 1, who = ***) occurs more than once in this run"),
        ({"mode": "scd2"}, [("ada", "1"), ("ada", "2")], "key (n = 1, who = ***) occurs more than once at the same time"),
        ({"mode": "scd2", "event_time": "at"}, [("ada", "")], "key (n = 1, who = ***) has no event time"),
        ({"changes": True}, [("ada", "2"), ("ada", "3")], "key (n = 1, who = ***) occurs 2 times in "),
    ],
    ids=["upsert", "scd2", "event_time", "changes"],
)  # fmt: skip
def test_keys_that_are_personal_data_are_in_no_message(
    tmp_path: Path, output: dict[str, Any], rows: list[tuple[str, str]], told: str
) -> None:
    contract = {"columns": {"who": "String", "at": "Date"}}
    pipe = (
        lp.pipeline("p", base=tmp_path)
        .source("a", "a.csv", contract=contract, columns={"who": {"tags": ["pii"]}})
        .stage("b", "a", do=[{"derive": {"who": "upper(who)", "n": "1"}}])
        .output("b", "out", key=["n", "who"], **output)
        .build()
    )
    (tmp_path / "a.csv").write_text("who,at\nbob,2024-01-01\n")
    pipe.compile().run().raise_for_status()
    days = [f"{who},{day and f'2024-01-0{day}'}\n" for who, day in rows]
    (tmp_path / "a.csv").write_text("".join(["who,at\n", *days]))
    result = pipe.compile().run()
    said = "\n".join([*(str(s.error) for s in result.segments), *result.warnings])
    assert told in said
    assert "ADA" not in str(result.to_dict())


@pytest.mark.parametrize("format_", ["dataset", "delta"])
@pytest.mark.parametrize(
    "output",
    [
        {"mode": "append"},
        {"mode": "upsert", "key": "id"},
        {"mode": "upsert", "key": "id", "changes": True},
        {"mode": "scd2", "key": "id"},
        {"mode": "snapshot", "keep": 2},
        {"mode": "append", "contract": {"columns": {}, "on_new_column": "evolve"}},
        {"mode": "upsert", "key": "id", "contract": {"columns": {}, "on_new_column": "evolve"}},
    ],
    ids="-".join,
)
def test_other_folders_are_for_rows_that_come(world: World, output: dict[str, Any], format_: str) -> None:
    """Whether a definition says so or somebody rewrote the dataset: files keep the folders that they were written in."""
    plain = World(world.root / "plain", **output)
    plain.root.mkdir()
    world.output = {**output, "format": format_, "partition_by": "part"}
    twins = [world, plain]

    def deliver(file: str, **columns: Any) -> list[Any]:
        for twin in twins:
            twin.source = {"contract": {"columns": {}, "on_new_column": "evolve"}}
            twin.deliver(file, **columns)
            assert twin.done() == {"orders": "done"}
        held = [twin.rows(*lp.scan(plain.uri).collect_schema().names()) for twin in twins]
        assert held[0] == held[1]
        if "changes" in output:
            told = [lp.scan(f"{twin.uri}__changes").collect().drop("_run", "_version") for twin in twins]
            assert_frame_equal(*told, check_row_order=False, check_column_order=False)
        return held[0]

    deliver("1", id=[1, 2, 3], part=["a", None, "é/="], x=[1, 2, 3])
    deliver("2", id=[4], part=["a"], x=[7])
    lp.optimize.compact(world.uri)
    world.output |= {"partition_by": "x"}
    deliver("3", id=[2, 4], part=["a", "b"], x=[7, 1])
    lp.optimize.rewrite(world.uri, lp.optimize.Layout(), partition_by=[])
    deliver("4", id=[3, 5], part=[None, "b"], x=[9, 9])
    del world.output["partition_by"]
    rows = deliver("5", id=[1, 6], part=["a", "b"], x=[1, 2])
    if "contract" in output:  # what is there is written once more
        world.output |= {"partition_by": "part"}
        deliver("6", id=[6], part=["b"], x=[2], y=["new"])
        assert {f.path.partition("=")[0] for f in Dataset(world.uri).latest().files} == {"part"}
    assert len({r[:3] for r in rows}) == {"append": 9, "upsert": 6, "scd2": 9, "snapshot": 9}[output["mode"]]
    if format_ == "delta":
        assert sorted(pl.scan_delta(world.uri).select("id", "part", "x").collect().rows(), key=repr) == sorted(
            (r[:3] for r in world.rows("id", "part", "x")), key=repr
        )
