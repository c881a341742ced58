"""Runs choose how an output's files are laid out, keep that, and mend files; incremental runs go on as if nothing had happened."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

import lazypipe as lp
from lazypipe.run.layouts import Choice, is_due, is_outgrown, kept, waits
from lazypipe.run.segment.laying import _rows_of
from lazypipe.run.upkeep import upkeep
from lazypipe.spec.model import Output
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.keyed import rewrite_without
from lazypipe.storage.datasets.log import Commit, DataFile
from lazypipe.storage.files import FileInfo
from lazypipe.storage.optimizer.advise import advise
from lazypipe.storage.optimizer.choice import choosing_seconds
from lazypipe.storage.optimizer.forms import Scaled, owner
from lazypipe.storage.optimizer.layout import DEFAULT, Layout
from lazypipe.storage.optimizer.maintenance import compact, kept_layout, relayout, sample
from lazypipe.storage.optimizer.overlap import overlaps
from lazypipe.storage.optimizer.workload import Query, Workload
from lazypipe.storage.sink import DatasetSink

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def rows(start: int, stop: int) -> pl.DataFrame:
    return pl.select(id=pl.int_range(start, stop)).with_columns(
        day=pl.date(2026, 1, 1) + pl.duration(days=pl.col("id") % 9),
        price=(pl.col("id") * 7_919 % 10_007) / 100,
        mail=pl.format("user{}@shop.example", pl.col("id") * 31 % 4_001),
    )


class World:
    """Files that are delivered, and a pipeline over them."""

    def __init__(self, folder: Path, do: list[dict[str, Any]] | None = None, **output: Any) -> None:
        self.folder = folder
        (folder / "in").mkdir()
        self.do = [{"filter": "id >= 0"}] if do is None else do
        self.output = output
        self.result: lp.RunResult

    @property
    def uri(self) -> str:
        return str(self.folder / "out")

    def deliver(self, name: str, frame: pl.DataFrame) -> None:
        frame.write_parquet(self.folder / "in" / f"{name}.parquet")

    def plan(self) -> lp.Plan:
        built = lp.pipeline("p", base=str(self.folder)).source("a", "in/*.parquet")
        return built.stage("b", "a", do=self.do).output("b", "out", **self.output).build().compile()

    def run(self, **more: Any) -> Commit:
        self.result = self.plan().run(**more)
        self.result.raise_for_status()
        return Dataset(self.uri).read()

    def content(self) -> pl.DataFrame:
        return lp.scan(self.uri).collect().sort("id")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(autouse=True)
def _no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Advice by bytes alone: times on a busy machine are no ground for a test."""
    monkeypatch.setattr("lazypipe.storage.optimizer.advise.advise", partial(advise, clock=lambda: 0.0))


def test_a_layout_is_chosen_once_and_kept(tmp_path: Path) -> None:
    world = World(tmp_path, optimize="storage", workload={"queries": ["SELECT price FROM b WHERE id = 3"]})
    world.deliver("1", rows(0, 60_000))
    first = world.run()
    said = first.info["optimize"]
    assert (said["goal"], said["rows"]) == ("storage", 60_000)
    assert said["reasons"]
    assert said["bytes_per_row"] == pytest.approx(first.bytes / first.rows)
    (told,) = world.plan().status()
    assert told["layout"] == {"goal": "storage", "reasons": [*said["reasons"]]}
    assert any(r.startswith("price: scaled(digits=2") for r in told["layout"]["reasons"])
    plain = World(tmp_path_of(tmp_path, "plain"))
    plain.deliver("1", rows(0, 60_000))
    assert first.bytes < 0.9 * plain.run().bytes
    assert {f.layout for f in first.files} == {kept_layout(first)}
    assert len(list((tmp_path / "out").glob("*.parquet"))) == len(first.files)
    assert all(f.path.startswith(f"{first.run}-001-") for f in first.files)  # written once: chosen by the first rows
    assert_frame_equal(world.content(), rows(0, 60_000))

    world.deliver("2", rows(60_000, 61_000))
    second = world.run()
    assert second.mode == "change"
    assert second.info["optimize"] == said
    assert {f.layout for f in second.files} == {kept_layout(first)}
    assert_frame_equal(world.content(), rows(0, 61_000))
    third = world.run(full=True)
    assert third.info["optimize"] == said
    assert_frame_equal(world.content(), rows(0, 61_000))


def tmp_path_of(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


@pytest.mark.parametrize("of", ["s", "t"])
def test_a_second_output_of_the_same_rows_has_a_layout_of_its_own(tmp_path: Path, of: str) -> None:
    """It reads what the first one has published."""
    (tmp_path / "in").mkdir()
    rows(0, 60_000).write_parquet(tmp_path / "in/a.parquet", compression="uncompressed")
    builder = lp.pipeline("p", base=tmp_path).source("s", "in/*.parquet").stage("t", "s", do=[{"filter": "id >= 0"}])
    pipe = builder.output("one", "one", from_=of, optimize="storage")
    pipe = pipe.output("two", "two", from_=of, optimize="read", partition_by="day").build()
    pipe.compile().run().raise_for_status()
    for name in ("one", "two"):
        assert_frame_equal(lp.scan(tmp_path / name).collect().sort("id"), rows(0, 60_000))


def test_a_run_times_no_format_that_a_dataset_cannot_have(tmp_path: Path) -> None:
    world = World(tmp_path, optimize="read", workload={"access": "interchange"})
    world.deliver("1", rows(0, 30_000))
    assert not [r for r in world.run().info["optimize"]["reasons"] if r.startswith("format")]
    told = advise(rows(0, 3_000), Workload(declared="interchange"), "read", 0.06, clock=lambda: 0.0)
    assert [r for r in told.reasons if r.decision.startswith("format")]
    assert_frame_equal(world.content(), rows(0, 30_000))


def test_what_has_no_first_rows_is_written_in_haste_and_then_in_its_layout(tmp_path: Path) -> None:
    do = [{"aggregate": {"by": ["id"], "aggregate": {"price": "median(price)", "mail": "min(mail)"}}}]
    world = World(tmp_path, do=do, optimize="storage")
    world.deliver("1", rows(0, 30_000))
    first = world.run()
    assert first.info["optimize"]["goal"] == "storage"
    assert all(f.path.startswith(f"{first.run}-001l-") for f in first.files)
    assert len(list((tmp_path / "out").glob("*.parquet"))) == len(first.files)
    assert_frame_equal(world.content(), rows(0, 30_000).select("id", "price", "mail"))


def test_rows_that_cannot_be_read_are_told_of_by_the_run(tmp_path: Path) -> None:
    world = World(tmp_path, optimize="storage")
    world.deliver("1", rows(0, 30_000))
    good = (tmp_path / "in" / "1.parquet").read_bytes()
    (tmp_path / "in" / "1.parquet").write_bytes(good[:4] + bytes(2_000) + good[2_004:])
    with pytest.raises(lp.LazypipeError, match=r"1\.parquet"):
        world.run()
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_no_row_no_layout(tmp_path: Path) -> None:
    # the gate drops all that the choice was made for
    world = World(tmp_path, optimize="storage")
    world.deliver("1", rows(0, 30_000))
    built = lp.pipeline("p", base=str(tmp_path)).source("a", "in/*.parquet")
    gate = [{"between": {"column": "id", "max": -1, "action": "quarantine"}}]
    built.stage("b", "a", gate=gate).output("b", "out", optimize="storage").build().compile().run().raise_for_status()
    commit = Dataset(world.uri).read()
    assert (commit.rows, "optimize" in commit.info) == (0, False)


def test_another_goal_or_other_columns_are_chosen_for_anew(tmp_path: Path) -> None:
    world = World(tmp_path, optimize="write")
    world.deliver("1", rows(0, 20_000))
    assert world.run().info["optimize"]["goal"] == "write"
    world.output["optimize"] = "balanced"
    assert world.run(full=True).info["optimize"]["goal"] == "balanced"
    world.do.append({"derive": {"double": "price * 2"}})
    commit = world.run()
    assert "double" in commit.schema
    assert commit.info["optimize"]["goal"] == "balanced"
    assert_frame_equal(world.content(), rows(0, 20_000).with_columns(double=pl.col("price") * 2))


def test_what_takes_much_more_than_it_did_is_chosen_for_anew(tmp_path: Path) -> None:
    world = World(tmp_path, optimize="storage")
    world.deliver("1", rows(0, 30_000).with_columns(mail=pl.lit("one@shop.example")))
    before = world.run().info["optimize"]
    world.deliver("1", rows(0, 30_000).with_columns(mail=pl.col("id").hash(1).cast(pl.String)))
    after = world.run(full=True).info["optimize"]
    assert after["bytes_per_row"] > 1.5 * before["bytes_per_row"]
    assert world.run(full=True).info["optimize"] == after


def test_a_small_output_is_left_alone_until_it_is_worth_a_choice(tmp_path: Path) -> None:
    world = World(tmp_path, optimize="storage")
    world.deliver("1", rows(0, 10))
    assert "optimize" not in world.run().info
    world.deliver("2", rows(10, 30_000))
    assert world.run().info["optimize"]["goal"] == "storage"
    assert_frame_equal(world.content(), rows(0, 30_000))


def test_gates_partitions_and_quarantine_go_with_a_layout(tmp_path: Path) -> None:
    world = World(tmp_path, optimize="storage", partition_by=["day"])
    world.deliver("1", rows(0, 30_000))
    built = lp.pipeline("p", base=str(tmp_path)).source("a", "in/*.parquet")
    gate = [
        {"between": {"column": "id", "min": 5, "action": "quarantine"}},
        {"unique": {"columns": "id", "action": "fail"}},
    ]
    plan = (
        built.stage("b", "a", gate=gate).output("b", "out", optimize="storage", partition_by=["day"]).build().compile()
    )
    result = plan.run()
    result.raise_for_status()
    assert (result.gates["b"].good, result.gates["b"].quarantined) == (29_995, 5)
    commit = Dataset(world.uri).read()
    assert {f.path.split("/")[0] for f in commit.files} == {f"day=2026-01-0{i}" for i in range(1, 10)}
    assert {f.layout.partition_by for f in commit.files if f.layout} == {("day",)}
    assert commit.info["optimize"]["goal"] == "storage"
    assert_frame_equal(world.content(), rows(5, 30_000))
    assert not result.warnings


SHOPS = [{"derive": {"shop": "id % 5"}}]
ASKED = {"queries": ["SELECT price FROM self WHERE shop = 3"]}


def shops(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(shop=pl.col("id") % 5).sort("id")


def in_shops(commit: Commit) -> bool:
    """Whether all files lie in folders of shops, as their layouts say."""
    said = {f.layout.partition_by for f in commit.files if f.layout is not None}
    return {f.path.split("/")[0] for f in commit.files} == {f"shop={n}" for n in range(5)} and said == {("shop",)}


def test_columns_that_readers_filter_become_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lazypipe.storage.optimizer.deciding.partitions._PARTITION_BYTES", 1_000)
    world = World(tmp_path, do=SHOPS, optimize="read", workload=ASKED)
    world.deliver("1", rows(0, 30_000))
    first = world.run()
    assert in_shops(first)
    assert first.partition_by == ()
    assert any(r.startswith("a folder per shop: 5 of them, of ") for r in first.info["optimize"]["reasons"])
    assert_frame_equal(world.content(), shops(rows(0, 30_000)))
    found = lp.scan(world.uri).filter(pl.col("shop") == 3)
    assert found.collect().height == 6_000

    # as files come, change and go
    world.deliver("2", rows(30_000, 33_000))
    second = world.run()
    assert in_shops(second)
    assert {f.path for f in first.files} < {f.path for f in second.files}
    world.deliver("1", rows(0, 25_000))
    assert in_shops(world.run())
    assert_frame_equal(world.content(), shops(pl.concat([rows(0, 25_000), rows(30_000, 33_000)])))
    (tmp_path / "in" / "2.parquet").unlink()
    world.run()
    assert_frame_equal(world.content(), shops(rows(0, 25_000)))
    dataset = Dataset(world.uri)
    compact(dataset, run="compact", time=NOW)
    assert in_shops(dataset.read())
    assert_frame_equal(world.content(), shops(rows(0, 25_000)))
    lp.rollback(world.uri, version=second.version)
    assert_frame_equal(world.content(), shops(rows(0, 33_000)))
    world.run()
    assert_frame_equal(world.content(), shops(rows(0, 25_000)))

    # what is declared wins
    world.output["partition_by"] = ["day"]
    declared = world.run(full=True)
    assert declared.partition_by == ("day",)
    assert all(f.path.startswith("day=2026-01-0") for f in declared.files)
    assert_frame_equal(world.content(), shops(rows(0, 25_000)))


@pytest.mark.parametrize("layout", ["read", Layout(level=7)], ids=["goal", "layout"])
def test_folders_that_were_advised_outlive_rewriting(
    layout: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazypipe.storage.optimizer.deciding.partitions._PARTITION_BYTES", 1_000)
    world = World(tmp_path, do=SHOPS, optimize="read", workload=ASKED)
    world.deliver("1", rows(0, 20_000))
    assert in_shops(world.run())
    lp.optimize.rewrite(world.uri, layout, every=True)
    made = Dataset(world.uri).read()
    assert in_shops(made)
    assert (made.partition_by, made.info["optimize"]["layout"]["partition_by"]) == ((), ["shop"])
    if layout != "read":  # what was laid out by hand stays so where the definition asks for nothing else
        world.output = {}
    world.deliver("2", rows(20_000, 21_000))
    assert in_shops(world.run())
    assert_frame_equal(world.content(), shops(rows(0, 21_000)))
    # they end where that is asked for
    lp.optimize.rewrite(world.uri, layout, partition_by=[])
    assert not any("shop=" in f.path for f in Dataset(world.uri).read().files)
    assert "partition_by" not in Dataset(world.uri).read().info["optimize"]["layout"]
    assert_frame_equal(world.content(), shops(rows(0, 21_000)))


def test_who_reads_on_does_not_mind_files_in_folders_beside_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazypipe.storage.optimizer.deciding.partitions._PARTITION_BYTES", 1_000)
    world = World(tmp_path, do=SHOPS, optimize="read", workload=ASKED)

    def read_on() -> pl.DataFrame:
        built = lp.pipeline("q", base=str(tmp_path)).source("o", "out")
        plan = built.stage("c", "o", do=[{"filter": "shop = 2"}]).output("c", "twos").build().compile()
        plan.run().raise_for_status()
        return lp.scan(str(tmp_path / "twos")).collect().sort("id")

    world.deliver("1", rows(0, 20_000))
    assert in_shops(world.run())
    assert_frame_equal(read_on(), shops(rows(0, 20_000)).filter(pl.col("shop") == 2))
    world.output["optimize"] = "write"  # other folders from here on, or none
    del world.output["workload"]
    world.deliver("2", rows(20_000, 21_000))
    mixed = {f.path.partition("/")[0].partition("=")[0] for f in world.run().files}
    assert "shop" in mixed
    assert len(mixed) > 1
    assert_frame_equal(read_on(), shops(rows(0, 21_000)).filter(pl.col("shop") == 2))


@pytest.mark.parametrize("kind", [pl.Duration("us"), pl.Binary()], ids=["length", "bytes"])
def test_what_cannot_name_folders_is_not_chosen_for_them(
    kind: pl.DataType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazypipe.storage.optimizer.deciding.partitions._PARTITION_BYTES", 1_000)
    world = World(tmp_path, optimize="read", workload={"queries": ["SELECT price FROM self WHERE shop > shop"]})
    shop = pl.col("id") % 5
    inside = shop.cast(pl.String).cast(kind) if kind == pl.Binary() else shop.cast(kind)
    frame = rows(0, 8_000).with_columns(shop=inside)
    world.deliver("1", frame)
    commit = world.run()
    assert "optimize" in commit.info
    assert not any("=" in f.path for f in commit.files)
    assert_frame_equal(world.content(), frame)
    with pytest.raises(lp.StorageError, match=r"column 'shop' cannot be a partition column; partition by text"):
        lp.optimize.rewrite(world.uri, partition_by=["shop"])


def test_personal_data_does_not_become_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lazypipe.storage.optimizer.deciding.partitions._PARTITION_BYTES", 1_000)
    rows(0, 8_000).with_columns(shop=pl.col("id") % 5).write_parquet(tmp_path / "a.parquet")
    asked = {"queries": ["SELECT price FROM self WHERE shop = 3"]}
    for tags, folders in (([], {True}), (["pii"], {False})):
        pipe = lp.pipeline("p", base=tmp_path).source(
            "a", "a.parquet", columns={"shop": {"tags": tags}} if tags else {}
        )
        do = [{"derive": {"shop": "shop + 1"}}]
        built = pipe.stage("b", "a", do=do).output("b", f"out{len(tags)}", optimize="read", workload=asked).build()
        built.compile().run().raise_for_status()
        commit = Dataset(tmp_path / f"out{len(tags)}").read()
        assert has_folders(commit) == folders
        why = "no folders by shop: its values are personal data, and logs and records keep the names of files"
        assert (why in commit.info["optimize"]["reasons"]) is bool(tags)


def test_what_has_outgrown_its_layout_gets_a_better_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lazypipe.run.layouts._GROWS", 20_000)
    monkeypatch.setattr("lazypipe.run.layouts._DRIFT", 100.0)  # many rows take less each
    tried: list[tuple[float, int]] = []

    def noting(*args: Any, **how: Any) -> Any:
        tried.append((how["budget"], how["total"]))
        return advise(*args, **how, clock=lambda: 0.0)

    monkeypatch.setattr("lazypipe.storage.optimizer.advise.advise", noting)
    world = World(tmp_path, optimize="storage")
    world.deliver("0", rows(0, 1_000))
    assert "optimize" not in world.run().info  # so few that no layout is worth a choice
    world.deliver("0", rows(0, 8_000))
    first = world.run()
    assert first.info["optimize"]["rows"] == 8_000
    before = rows(0, 8_000)
    stop = 8_000
    for name, count in (("1", 130_000), ("2", 20_000), ("3", 100)):
        more = rows(stop, stop + count)
        world.deliver(name, more)
        before, stop = pl.concat([before, more]), stop + count
        commit = world.run()
        assert commit.mode == "change"
    # the first to know that there are many more rows was the second one; what came then is too little to be asked again
    assert [total for _, total in tried] == [8_000, 138_000]
    assert commit.info["optimize"]["total"] == 138_000
    assert commit.info["optimize"]["rows"] == 20_000
    assert_frame_equal(world.content(), before)
    compact(Dataset(world.uri), run="compact", time=NOW)
    assert_frame_equal(world.content(), before)
    world.deliver("4", rows(stop, stop + 20_000))
    world.run()
    assert len(tried) == 2
    assert_frame_equal(world.content(), rows(0, stop + 20_000))


@pytest.mark.parametrize(
    ("goal", "said", "now", "size", "due"),
    [
        ("storage", {"rows": 100}, 1_600, 1 << 20, True),
        ("storage", {"rows": 100}, 1_599, 1 << 20, False),
        ("storage", {"rows": 100}, 1_600, (1 << 20) - 1, False),
        ("storage", {"rows": 100, "total": 101}, 1_600, 1 << 20, False),
        ("storage", {}, 1_600, 1 << 20, False),
        (None, {"rows": 100}, 1_600, 1 << 20, False),
    ],
)
def test_when_a_layout_is_outgrown(goal: Any, said: dict[str, Any], now: int, size: int, due: bool) -> None:
    commit = Commit(1, "r", NOW, "replace", pl.Schema({"x": pl.Int64()}), (DataFile("a", now, 1),))
    assert is_outgrown(Output("o", "s", "out", optimize=goal), Choice(Layout(), said), commit, size) is due


# choosing takes its share at most: it waits, or goes on later


@pytest.fixture
def dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose as runs do outside of tests."""
    monkeypatch.setattr("lazypipe.run.layouts._WORTH", 16 << 20)
    monkeypatch.setattr("lazypipe.run.layouts._SMALL", 1 << 20)
    monkeypatch.setattr("lazypipe.run.layouts._LEAST_SECONDS", 0.02)
    monkeypatch.setattr("lazypipe.run.layouts.LITTLE", 0.02)


def by_default(commit: Commit) -> bool:
    return "optimize" not in commit.info and all(f.layout is None for f in commit.files)


@pytest.mark.usefixtures("dear")
@pytest.mark.parametrize("count", [10, 30_000, 90_000], ids=["some", "few", "more"])
def test_few_rows_are_written_as_they_come(count: int, tmp_path: Path) -> None:
    # whether they are known to be few by what is read, or by the first rows
    world = World(tmp_path, optimize="storage")
    world.deliver("1", rows(0, count))
    commit = world.run()
    assert by_default(commit)
    metas = [pq.read_metadata(tmp_path / "out" / f.path) for f in commit.files]
    assert {m.row_group(0).column(0).compression for m in metas} == {"ZSTD"}  # not in haste
    assert_frame_equal(world.content(), rows(0, count))
    lp.optimize.rewrite(world.uri, "storage", budget=0.06)  # at once, as it is asked for
    assert Dataset(world.uri).read().info["optimize"]["goal"] == "storage"
    world.deliver("2", rows(count, count + 100))
    assert "optimize" in world.run().info
    assert_frame_equal(world.content(), rows(0, count + 100))


@pytest.mark.usefixtures("dear")
def test_groups_of_few_rows_are_written_as_they_come(tmp_path: Path) -> None:
    do = [{"aggregate": {"by": ["id"], "aggregate": {"price": "median(price)"}}}]
    world = World(tmp_path, do=do, optimize="storage")
    world.deliver("1", rows(0, 30_000))
    commit = world.run()
    assert by_default(commit)
    assert all(f.path.startswith(f"{commit.run}-001-") for f in commit.files)  # written once
    assert_frame_equal(world.content(), rows(0, 30_000).select("id", "price"))


@pytest.mark.usefixtures("dear")
@pytest.mark.parametrize("kind", ["parquet", "csv", "dataset"])
def test_what_was_put_off_is_done_once_there_are_enough_rows(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazypipe.run.layouts._SMALL", 1_000)
    monkeypatch.setattr("lazypipe.run.layouts._LEAST_SECONDS", 0.06)
    # a row takes about 60 bytes in memory
    monkeypatch.setattr("lazypipe.run.layouts._WORTH", 60_000 * 60)
    (tmp_path / "in").mkdir()
    world = World(tmp_path_of(tmp_path, "w"), optimize="storage")
    source = {"dataset": "up", "csv": "in/*.csv", "parquet": "in/*.parquet"}[kind]

    def run(name: str, frame: pl.DataFrame) -> Commit:
        if kind == "dataset":
            made = lp.pipeline("u", base=str(tmp_path)).source("a", "in/*.parquet").stage("b", "a", do=world.do)
            frame.write_parquet(tmp_path / "in" / f"{name}.parquet")
            made.output("b", "up").build().compile().run().raise_for_status()
        elif kind == "csv":
            frame.write_csv(tmp_path / "in" / f"{name}.csv")
        else:
            frame.write_parquet(tmp_path / "in" / f"{name}.parquet")
        made = lp.pipeline("p", base=str(tmp_path)).source("a", source).stage("b", "a", do=world.do)
        made.output("b", "w/out", optimize="storage").build().compile().run().raise_for_status()
        return Dataset(world.uri).read()

    assert by_default(run("1", rows(0, 21_000)))
    commit = run("2", rows(21_000, 130_000))
    assert commit.info["optimize"]["goal"] == "storage"
    assert {f.layout is None for f in commit.files} == {True, False}
    found = world.content().select(pl.col("day").cast(pl.Date), pl.exclude("day")).select("id", "day", "price", "mail")
    assert_frame_equal(found, rows(0, 130_000))


@pytest.mark.usefixtures("dear")
def test_a_few_rows_that_come_to_many_are_no_ground_for_a_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazypipe.run.layouts._WORTH", 60_000 * 60)
    monkeypatch.setattr("lazypipe.run.layouts._LEAST_SECONDS", 0.06)
    monkeypatch.setattr("lazypipe.run.layouts._SMALL", 1_000)
    world = World(tmp_path)
    world.deliver("1", rows(0, 100_000))
    world.run()
    world.output = {"optimize": "storage"}
    world.deliver("2", rows(100_000, 100_050))
    assert by_default(world.run())
    world.deliver("3", rows(100_050, 103_000))
    assert world.run().info["optimize"]["total"] == 100_050
    assert_frame_equal(world.content(), rows(0, 103_000))


@pytest.mark.usefixtures("dear")
def test_few_merged_rows_are_written_as_they_come(tmp_path: Path) -> None:
    world = World(tmp_path, optimize="storage", mode="upsert", key="id")
    world.deliver("1", rows(0, 10_000))
    assert by_default(world.run())
    assert_frame_equal(world.content(), rows(0, 10_000))


@pytest.mark.parametrize(("there", "size", "goal", "wait"), [
    (0, 99, "read", True), (0, 100, "read", False), (100, 9, "read", False), (None, 9, "read", True), (None, 0, "read", False),
    (None, 9, None, False),
])  # fmt: skip
def test_what_is_read_tells_that_rows_are_few(
    there: int | None, size: int, goal: Any, wait: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazypipe.run.layouts._SMALL", 100)
    files = () if there is None else (DataFile("a", 1, there),)
    commit = None if there is None else Commit(1, "r", NOW, "replace", pl.Schema({"x": pl.Int64()}), files)
    assert waits(Output("o", "s", "out", optimize=goal), size, commit) is wait


def test_footers_tell_how_many_rows_are_read(tmp_path: Path) -> None:
    for number in range(9):
        rows(0, 1_000).write_parquet(tmp_path / f"{number}.parquet")
    (tmp_path / "x.csv").write_text("id\n1\n")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not quite PAR1")
    found = {p.name: FileInfo(str(p), p.stat().st_size, None, None) for p in sorted(tmp_path.iterdir())}
    assert _rows_of([f for n, f in found.items() if n[0] != "x"]) == 9_000
    assert _rows_of([found["0.parquet"], found["x.csv"]]) == 1_000
    assert _rows_of([found["x.csv"]]) == _rows_of([found["0.parquet"], found["x.parquet"]]) == _rows_of([]) == 0


def wide(start: int, stop: int) -> pl.DataFrame:
    more = [(pl.col("id").hash(n) % 1_000_000 / 100).alias(f"p{n}") for n in range(8)]
    return rows(start, stop).with_columns(more)


@pytest.mark.parametrize(
    ("goal", "how"),
    [("storage", {}), ("write", {}), ("storage", {"mode": "append"}), ("storage", {"mode": "upsert", "key": "id"})],
    ids=["storage", "write", "append", "upsert"],
)
def test_a_search_that_ended_early_goes_on(
    goal: Any, how: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[list[str], float]] = []

    def noting(frame: pl.DataFrame, *args: Any, **more: Any) -> Any:
        tried.append((frame.columns, more["budget"]))
        return advise(frame, *args, **more, clock=lambda: 0.0)

    monkeypatch.setattr("lazypipe.storage.optimizer.advise.advise", noting)
    monkeypatch.setattr("lazypipe.run.layouts._LEAST_SECONDS", 0.021)
    monkeypatch.setattr("lazypipe.run.layouts._DRIFT", 100.0)
    world = World(tmp_path, optimize=goal, **how)
    world.deliver("0", wide(0, 40_000))
    first = world.run().info["optimize"]
    left = first["left"]
    assert 0 < len(left) < 12
    assert 0 < first["spent"] <= 1.5 * 0.021
    # no time has come, or too few rows to look at
    world.deliver("1", wide(40_000, 40_100))
    assert world.run().info["optimize"] == first
    monkeypatch.setattr("lazypipe.run.layouts._BYTES_PER_SECOND", 100_000)
    world.deliver("2", wide(40_100, 40_200))
    assert world.run().info["optimize"] == first
    assert len(tried) == 1
    # now some columns are looked at, and then the rest: none again
    monkeypatch.setattr("lazypipe.run.layouts._MOST_SECONDS", 0.03)
    world.deliver("3", wide(40_200, 70_200))
    second = world.run().info["optimize"]
    assert first["spent"] < second["spent"] <= first["spent"] + 0.03
    world.deliver("4", wide(70_200, 100_200))
    third = world.run().info["optimize"]
    assert tried[1:] == [(left, 0.03), *([(second["left"], 0.03)] if "left" in second else [])]
    assert "left" not in third
    assert (third["rows"], third["bytes_per_row"]) == (first["rows"], first["bytes_per_row"])
    old, new = (Layout.from_dict(s["layout"]) for s in (first, third))
    assert set(old.forms.items()) <= set(new.forms.items())
    known = {(part, how) for part, how in old.encodings.items() if owner(part) not in left}
    assert known
    assert known <= set(new.encodings.items())
    if goal == "storage":
        assert {f"p{n}" for n in range(8)} <= set(new.forms)
    assert not [r for r in third["reasons"] if "columns looked at" in r]
    assert_frame_equal(world.content(), wide(0, 100_200))
    world.deliver("5", wide(100_200, 130_200))
    assert world.run().info["optimize"] == third
    compact(Dataset(world.uri), run="compact", time=NOW)
    assert_frame_equal(world.content(), wide(0, 130_200))


NAMED = [{"derive": {"shop": "note || (id % 5)"}}]
LONG = {"queries": ["SELECT price FROM self WHERE shop = '3'"]}
NO_FOLDERS = "no folders by shop: a value makes a name that is too long for the file system (255 bytes)"


def named(frame: pl.DataFrame, note: str = "") -> pl.DataFrame:
    return frame.with_columns(note=pl.lit(note))


def with_names(*parts: pl.DataFrame) -> pl.DataFrame:
    shop = pl.col("note") + (pl.col("id") % 5).cast(pl.String)
    return pl.concat(parts).with_columns(shop=shop).sort("id")


def has_folders(commit: Commit) -> set[bool]:
    return {"shop=" in f.path for f in commit.files}


# Polars says it in another way than Python
@pytest.mark.parametrize("forms", [True, False], ids=["pyarrow", "polars"])
def test_a_value_that_is_too_long_for_a_folder_is_no_reason_to_fail(
    forms: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazypipe.storage.optimizer.deciding.partitions._PARTITION_BYTES", 1_000)
    writers = ["pyarrow" if forms else "polars"]
    monkeypatch.setattr("lazypipe.storage.optimizer.advise.advise", partial(advise, clock=lambda: 0.0, writers=writers))
    world = World(tmp_path, do=NAMED, optimize="read", workload=LONG)
    world.deliver("1", named(rows(0, 20_000)))
    first = world.run()
    assert has_folders(first) == {True}
    before, more = named(rows(0, 20_000)), named(rows(20_000, 20_010), "ü" * 50)
    world.deliver("2", more)
    second = world.run()
    assert second.mode == "change"
    assert {f.path for f in first.files} < {f.path for f in second.files}
    assert {"shop=" in f.path for f in second.files if f.path.rpartition("/")[2].startswith(second.run)} == {False}
    assert_frame_equal(world.content(), with_names(before, more))
    said = second.info["optimize"]
    assert NO_FOLDERS in said["reasons"]
    assert not any(r.startswith("a folder per") for r in said["reasons"])
    assert (said["rows"], said["bytes_per_row"]) == tuple(first.info["optimize"][k] for k in ("rows", "bytes_per_row"))
    assert not [p for p in (tmp_path / "out").rglob("*.parquet") if str(p.relative_to(tmp_path / "out")) not in {
        f.path for f in second.files
    }]  # what was begun was taken away  # fmt: skip

    # from then on none are tried, in whatever is done
    last = named(rows(20_010, 21_000))
    world.deliver("3", last)
    third = world.run()
    assert third.info["optimize"] == said
    compact(Dataset(world.uri), run="compact", time=NOW)
    assert_frame_equal(world.content(), with_names(before, more, last))
    lp.rollback(world.uri, version=first.version)
    assert_frame_equal(world.content(), with_names(before))
    world.run()
    assert_frame_equal(world.content(), with_names(before, more, last))
    full = world.run(full=True)
    assert has_folders(full) == {False}
    assert_frame_equal(world.content(), with_names(before, more, last))


@pytest.mark.parametrize("first_rows", [True, False], ids=["ahead", "in haste"])
def test_a_name_too_long_that_the_first_choice_does_not_see(
    first_rows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazypipe.storage.optimizer.deciding.partitions._PARTITION_BYTES", 1_000)
    # groups come in any order
    monkeypatch.setattr(
        "lazypipe.storage.optimizer.maintenance.sample", lambda *a: sample(*a).filter(pl.col("note") == "")
    )
    by = {"by": ["id", "note"], "aggregate": {"price": "median(price)", "mail": "min(mail)", "day": "min(day)"}}
    do = NAMED if first_rows else [{"aggregate": by}, *NAMED]
    world = World(tmp_path, do=do, optimize="read", workload=LONG)
    world.deliver("1", pl.concat([named(rows(0, 29_998)), named(rows(29_998, 30_000), "x" * 300)]))
    gate = [{"between": {"column": "id", "min": 5, "action": "quarantine"}}, {"unique": {"columns": ["id"]}}]
    built = lp.pipeline("p", base=str(tmp_path)).source("a", "in/*.parquet").stage("b", "a", do=do, gate=gate)
    result = built.output("b", "out", **world.output).build().compile().run()
    result.raise_for_status()
    commit = Dataset(world.uri).read()
    assert has_folders(commit) == {False}
    assert NO_FOLDERS in commit.info["optimize"]["reasons"]
    assert commit.info["optimize"]["rows"] == 29_995
    (gated,) = result.segments[-1].gates
    assert (gated.rows, gated.quarantined) == (30_000, 5)  # each counted once
    expected = with_names(named(rows(5, 29_998)), named(rows(29_998, 30_000), "x" * 300))
    assert_frame_equal(world.content().select(expected.columns), expected)


def test_values_too_long_for_folders_are_not_chosen_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lazypipe.storage.optimizer.deciding.partitions._PARTITION_BYTES", 100)
    asked = Workload((Query(filters={"shop": "equal"}),))
    frame = pl.DataFrame({"shop": ["a", "ü" * 42] * 500, "x": range(1_000)})
    found = advise(frame, asked, "read", clock=lambda: 0.0)
    assert found.layout.partition_by == ()
    why = "no folders by shop: a value makes a name of 257 bytes, and 255 are allowed"
    assert why in map(str, found.reasons)
    frame = frame.with_columns(shop=pl.col("shop").str.head(41))
    assert advise(frame, asked, "read", clock=lambda: 0.0).layout.partition_by == ("shop",)


def test_a_name_too_long_for_folders_that_are_declared_is_an_error(tmp_path: Path) -> None:
    world = World(tmp_path, do=NAMED, optimize="read", partition_by=["shop"])
    world.deliver("1", named(rows(0, 5_000), "x" * 300))
    with pytest.raises(lp.StorageError, match=r"cannot be written: File name too long"):
        world.run()


def test_the_only_column_does_not_become_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lazypipe.storage.optimizer.deciding.partitions._PARTITION_BYTES", 100)
    asked = Workload((Query(filters={"shop": "equal"}),))
    found = advise(pl.DataFrame({"shop": [1, 2] * 500}), asked, "read", clock=lambda: 0.0)
    assert found.layout.partition_by == ()


@pytest.mark.parametrize(
    ("output", "do"),
    [
        ({"partition_by": ["day"]}, SHOPS),
        ({"mode": "append"}, SHOPS),
        ({"changes": True, "key": ["id"]}, SHOPS),
        ({}, [*SHOPS, {"sort": "id"}]),
    ],
    ids=["declared", "append", "changes", "sorted"],
)
def test_where_somebody_counts_on_folders_none_are_chosen(
    output: dict[str, Any], do: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazypipe.storage.optimizer.deciding.partitions._PARTITION_BYTES", 1_000)
    world = World(tmp_path, do=do, optimize="read", workload=ASKED, **output)
    world.deliver("1", rows(0, 20_000))
    commit = world.run()
    assert {f.layout.partition_by for f in commit.files if f.layout} == {tuple(output.get("partition_by", ()))}
    assert not any("shop=" in f.path for f in commit.files)
    assert_frame_equal(world.content(), shops(rows(0, 20_000)))


def test_folders_of_rows_that_a_gate_takes_out_and_none_of_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazypipe.storage.optimizer.deciding.partitions._PARTITION_BYTES", 1_000)
    (tmp_path / "in").mkdir()

    def run() -> lp.RunResult:
        built = lp.pipeline("p", base=str(tmp_path)).source("a", "in/*.parquet")
        gate = [{"between": {"column": "id", "min": 5, "action": "quarantine"}}]
        built = built.stage("b", "a", do=SHOPS, gate=gate).output("b", "out", optimize="read", workload=ASKED)
        group = {"aggregate": {"by": ["mail", "shop"], "aggregate": {"price": "max(price)", "rows": "count(*)"}}}
        built = built.stage("c", "b", do=[group]).output("c", "sums", optimize="read", workload=ASKED)
        result = built.build().compile().run()
        result.raise_for_status()
        return result

    def check(*delivered: pl.DataFrame) -> None:
        good = shops(pl.concat(delivered).filter(pl.col("id") >= 5))
        assert_frame_equal(lp.scan(str(tmp_path / "out")).collect().sort("id"), good)
        sums = good.group_by("mail", "shop").agg(pl.max("price"), rows=pl.len().cast(pl.Int64))
        found = lp.scan(str(tmp_path / "sums")).collect()
        assert_frame_equal(
            found.select(pl.col("mail", "shop", "price"), pl.col("rows").cast(pl.Int64)), sums, check_row_order=False
        )
        assert in_shops(Dataset(str(tmp_path / "out")).read())
        # what is left of files is put together there, whatever the folders
        assert not any("=" in f.path for f in Dataset(str(tmp_path / "sums")).read().files)

    rows(0, 20_000).write_parquet(tmp_path / "in" / "1.parquet")
    assert run().gates["b"].quarantined == 5
    check(rows(0, 20_000))
    rows(20_000, 20_200).write_parquet(tmp_path / "in" / "2.parquet")
    run()
    check(rows(0, 20_000), rows(20_000, 20_200))
    rows(20_000, 20_100).write_parquet(tmp_path / "in" / "2.parquet")
    run()
    check(rows(0, 20_000), rows(20_000, 20_100))


def test_rows_that_a_stage_has_sorted_stay_sorted(tmp_path: Path) -> None:
    world = World(
        tmp_path, do=[{"sort": "mail"}], optimize="read", workload={"queries": ["SELECT id FROM b WHERE id = 3"]}
    )
    world.deliver("1", rows(0, 30_000))
    commit = world.run()
    assert commit.info["ordered"] is True
    layout = kept_layout(commit)
    assert layout is not None
    assert layout.sort_by == ()
    assert lp.scan(world.uri).collect()["mail"].is_sorted()
    relayout(Dataset(world.uri), Layout(sort_by=("id",), level=5), run="m", time=NOW, goal="read")
    world.run(full=True)
    assert lp.scan(world.uri).collect()["mail"].is_sorted()


@pytest.mark.parametrize("kind", ["compact", "relayout", "partition"])
def test_the_next_incremental_run_goes_on_after_a_rewrite(world: World, kind: str) -> None:
    for i in range(4):
        world.deliver(str(i), rows(100 * i, 100 * i + 100))
        before = world.run()
    rewrite = {
        "compact": lambda: compact(Dataset(world.uri), run="m", time=NOW),
        "relayout": lambda: relayout(
            Dataset(world.uri), Layout(sort_by=("price",), writer="pyarrow"), run="m", time=NOW
        ),
        "partition": lambda: relayout(Dataset(world.uri), Layout(), run="m", time=NOW, partition_by=("day",)),
    }[kind]
    assert rewrite().version == before.version + 1
    after = Dataset(world.uri).read()
    assert after.info["consumed"] == before.info["consumed"]
    assert (after.units, after.figures) == (before.units, before.figures)
    world.run()
    assert [s.status for s in world.result.segments] == ["unchanged"]

    world.deliver("1", rows(1_000, 1_010))  # changes
    (world.folder / "in" / "2.parquet").unlink()  # goes
    world.deliver("9", rows(2_000, 2_005))  # comes
    commit = world.run()
    assert (commit.mode, world.result.segments[0].written) == ("change", 15)
    expected = pl.concat([rows(0, 100), rows(300, 400), rows(1_000, 1_010), rows(2_000, 2_005)])
    assert_frame_equal(world.content(), expected)
    rewrite()
    assert_frame_equal(world.content(), expected)
    world.run()
    assert [s.status for s in world.result.segments] == ["unchanged"]


def test_what_is_folded_goes_on_after_a_rewrite(tmp_path: Path) -> None:
    do = [{"aggregate": {"by": ["day"], "aggregate": {"n": "count(*)", "total": "sum(id)"}}}]
    world = World(tmp_path, do=do)
    world.deliver("1", rows(0, 100))
    world.run()
    relayout(Dataset(world.uri), Layout(level=9), run="m", time=NOW)
    world.deliver("2", rows(100, 200))
    world.run()
    assert "1 added" in (world.result.segments[0].why or "")
    expected = rows(0, 200).group_by("day").agg(n=pl.len(), total=pl.col("id").sum()).sort("day")
    assert_frame_equal(lp.scan(world.uri).collect().sort("day"), expected, check_dtypes=False)


def test_a_rewrite_in_the_middle_of_a_run_does_not_stop_it(world: World) -> None:
    world.deliver("1", rows(0, 100))
    world.run()
    world.deliver("2", rows(100, 200))
    world.run()
    world.deliver("3", rows(200, 300))
    done = []

    def meanwhile(*_: Any) -> None:
        if not done:
            done.append(compact(Dataset(world.uri), run="m", time=NOW).version)

    commit = world.run(observer=meanwhile)
    assert (done, commit.version, commit.mode) == ([3], 4, "change")
    assert_frame_equal(world.content(), rows(0, 300))


def test_who_reads_a_dataset_by_units_sees_no_change_in_a_rewrite(tmp_path: Path) -> None:
    built = lp.pipeline("p", base=str(tmp_path)).source("a", "in/*.parquet").stage("b", "a", do=[{"filter": "id >= 0"}])
    plan = built.stage("c", "b", do=[{"derive": {"y": "id * 2"}}]).output("b", "b").output("c", "c").build()
    (tmp_path / "in").mkdir()
    for i in range(2):
        rows(10 * i, 10 * i + 10).write_parquet(tmp_path / "in" / f"{i}.parquet")
        plan.compile().run().raise_for_status()
    compact(Dataset(str(tmp_path / "b")), run="m", time=NOW)
    assert [s.status for s in plan.compile().run().segments] == ["unchanged", "unchanged"]


def test_maintenance_is_triggered_by_what_a_run_leaves(tmp_path: Path) -> None:
    world = World(tmp_path, maintain={"small_files": 3, "keep": 2})
    for i in range(6):
        world.deliver(str(i), rows(100 * i, 100 * i + 100))
        world.run()
        told = world.result.segments[0].maintained
        assert bool([t for t in told if "4 files" in t and "became 1" in t]) == (i == 3), told
    commit = Dataset(world.uri).read()
    assert len(commit.files) == 3
    assert len(Dataset(world.uri).log.versions()) == 2
    assert world.result.to_dict()["segments"][0]["maintained"] == list(world.result.segments[0].maintained)
    assert_frame_equal(world.content(), rows(0, 600))
    ledger = lp.ledger(world.plan())
    assert ledger.verify(datasets=[world.uri]).ok


def test_dead_rows_are_taken_out_when_there_are_too_many(tmp_path: Path) -> None:
    world = World(tmp_path, maintain={"dead_rows": 0.05})
    for i in range(10):
        world.deliver(str(i), rows(100 * i, 100 * i + 100))
    world.run()
    (world.folder / "in" / "3.parquet").unlink()
    world.run()
    assert "100 dead rows left out" in world.result.segments[0].maintained[0]
    commit = Dataset(world.uri).read()
    assert (commit.gone, sum(f.rows for f in commit.files)) == (frozenset(), 900)


def test_maintenance_that_fails_is_a_warning(tmp_path: Path) -> None:
    world = World(tmp_path, maintain={"small_files": 1})
    world.deliver("1", rows(0, 100))
    first = world.run()
    (tmp_path / "out" / first.files[0].path).write_bytes(b"broken")
    world.deliver("2", rows(100, 200))
    world.run()
    assert world.result.status == "done"
    assert world.result.warnings[0].startswith("output 'b' was not maintained: ")


def test_what_is_for_datasets_is_refused_for_exports() -> None:
    for key, given in (("workload", {"access": "scan"}), ("maintain", {"keep": 1}), ("deleted_when", pl.col("x") > 1)):
        pipe = lp.pipeline("p").source("a", "/a.parquet", contract={"columns": {"x": "Int64"}})
        with pytest.raises(lp.DefinitionError, match=f"{key} is for datasets, and this is one csv file"):
            pipe.output("a", "out.csv", format="csv", **{key: given}).build().compile()


def test_a_definition_with_all_of_it_comes_back() -> None:
    pipe = (
        lp.pipeline("p").source("a", "/a.parquet")
        .output("a", "out", optimize="read", workload={"access": "time range", "queries": ["SELECT x FROM a", {"sql": "SELECT y FROM a", "weight": 2}]}, maintain={"small_files": 5, "dead_rows": 0.3, "keep": 7})
        .build()
    )  # fmt: skip
    assert lp.Pipeline.from_yaml(pipe.to_yaml()) == pipe
    assert lp.Pipeline.from_json(pipe.to_json()).outputs["a"].maintain["dead_rows"] == 0.3


def committed(folder: Path, *frames: pl.DataFrame, info: dict[str, Any]) -> Commit:
    files = [
        f for i, frame in enumerate(frames) for f in DatasetSink(str(folder), f"w-00{i}").write(frame.lazy()).files
    ]
    return Dataset(str(folder)).commit(files, frames[0].schema, run="w", time=NOW, info=info)


def test_a_layout_that_does_not_fit_is_not_kept(tmp_path: Path) -> None:
    def info(layout: Layout) -> dict[str, Any]:
        return {"optimize": {"goal": "read", "layout": layout.to_dict()}}

    commit = committed(tmp_path / "d", rows(0, 3), info=info(Layout(sort_by=("day",))))
    output = Output("b", "out")
    found = kept(output, commit, commit.schema, ordered=False)
    assert found is not None
    assert found.layout == Layout(sort_by=("day",))
    strange = committed(tmp_path / "e", rows(0, 3), info=info(Layout(sort_by=("nowhere",))))
    assert kept(output, strange, commit.schema, ordered=False) is None
    assert kept(output, commit, pl.Schema({"id": pl.Int8()}), ordered=False) is None
    assert kept(Output("b", "out", optimize="write"), commit, commit.schema, ordered=False) is None
    assert kept(output, None, commit.schema, ordered=False) is None


def test_a_layout_of_ones_own_is_never_found_too_old() -> None:
    asked = Output("b", "out", optimize="read")
    assert not is_due(asked, Choice(Layout(), {"goal": "read"}), 1_000, 1 << 20)
    assert is_due(asked, Choice(Layout(), {"goal": "read", "rows": 1_000, "bytes_per_row": 1.0}), 1_000, 1 << 20)
    assert not is_due(asked, Choice(Layout(), {"goal": "read", "rows": 100_000, "bytes_per_row": 1.0}), 1_000, 1 << 20)
    assert not is_due(asked, None, 0, 1 << 20)
    assert not is_due(Output("b", "out"), None, 1_000, 1 << 20)


@pytest.mark.parametrize("how", [{}, {"mode": "upsert", "key": "id"}], ids=["replace", "upsert"])
def test_a_layout_of_ones_own_stays_whatever_the_definition_asks_for(
    how: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who gives one has looked at the dataset after whoever wrote the definition; it ends with the next goal that files are rewritten for."""
    monkeypatch.setattr("lazypipe.run.layouts._GROWN", 2)
    world = World(tmp_path, optimize="storage", **how)
    world.deliver("1", rows(0, 40_000))
    world.run()
    own = Layout(sort_by=("day", "id"), writer="pyarrow", bloom=("id",))
    relayout(Dataset(world.uri), own, run="m", time=NOW)
    for i in range(3):
        world.deliver(f"{i + 2}", rows(1_000_000 * (i + 1), 1_000_000 * (i + 1) + 100_000))
        assert {f.layout for f in world.run().files} == {own}
    assert kept_layout(Dataset(world.uri).read()) == own
    lp.optimize.rewrite(world.uri, "storage", budget=0.2)
    chosen = kept_layout(Dataset(world.uri).read())
    assert chosen != own
    world.deliver("5", rows(1, 2))
    assert kept_layout(world.run()) == chosen


def test_there_may_be_nothing_to_mend(tmp_path: Path) -> None:
    output = Output("b", str(tmp_path / "d"), maintain={"small_files": 1})
    assert upkeep(output, run="r", now=NOW) == ()
    layout = {"optimize": {"layout": {"file_bytes": 5_000}}, "ordered": True}
    committed(tmp_path / "d", rows(0, 3), rows(3, 9_000), rows(9_000, 9_001), info=layout)
    # two are small, and the large one between them keeps them apart
    assert upkeep(output, run="r", now=NOW) == ()
    assert Dataset(output.to).read().version == 1


def scanned(uri: str, *by: str) -> pl.DataFrame:
    return lp.scan(uri).collect().sort(*by)


def test_rows_that_are_merged_are_written_in_the_layout_that_was_chosen_for_them(tmp_path: Path) -> None:
    world = World(tmp_path, mode="upsert", key=["id"], optimize="storage", maintain={"small_files": 1})
    world.deliver("1", rows(0, 30_000))
    first = world.run()
    layout = kept_layout(first)
    assert layout is not None
    assert layout != Layout()
    assert {f.layout for f in first.files} == {layout}
    odd = rows(29_990, 30_010).with_columns(price=pl.lit(1 / 3), mail=pl.lit("nobody"))
    world.deliver("2", odd)
    second = world.run()
    assert kept_layout(second) == layout
    assert {f.layout for f in second.files} == {layout}
    expected = pl.concat([rows(0, 29_990), odd])
    assert_frame_equal(world.content(), expected)
    latest = Dataset(world.uri).read()
    assert len(latest.files) == 1  # small files are put together, in that layout
    assert latest.files[0].layout == layout
    world.run()
    assert [s.status for s in world.result.segments] == ["unchanged"]
    world.deliver("3", rows(5, 6).with_columns(mail=pl.lit("late")))
    third = world.run()
    assert {f.layout for f in third.files} == {layout}
    assert_frame_equal(world.content().filter(pl.col("id") != 5), expected.filter(pl.col("id") != 5))
    assert world.content()["mail"][5] == "late"


def test_versions_and_snapshots_have_a_layout_too(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    versions = World(tmp_path / "v", mode="scd2", key=["id"], optimize="balanced")
    versions.deliver("1", rows(0, 20_000))
    first = versions.run()
    assert {f.layout for f in first.files} == {kept_layout(first)}
    versions.deliver("2", rows(7, 8).with_columns(mail=pl.lit("other")))
    second = versions.run()
    assert {f.layout for f in second.files} == {kept_layout(first)}
    found = lp.scan(versions.uri).filter(pl.col("id") == 7).collect().sort("valid_from")
    assert found["mail"].to_list() == ["user217@shop.example", "other"]
    assert found["is_current"].to_list() == [False, True]

    (tmp_path / "s").mkdir()
    snapshots = World(tmp_path / "s", mode="snapshot", optimize="storage", keep=2)
    snapshots.deliver("1", rows(0, 20_000))
    for _ in range(3):
        commit = snapshots.run(full=True)
    assert {f.layout for f in commit.files} == {kept_layout(commit)}
    assert_frame_equal(
        lp.scan(snapshots.uri).collect().sort("snapshot_at", "id").select(rows(0, 1).columns),
        pl.concat([rows(0, 20_000)] * 2) if commit.rows == 40_000 else rows(0, 20_000),
    )


def test_healed_rows_are_replayed_into_the_layout(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    bad = rows(30_000, 30_005).with_columns(price=pl.lit(1 / 3))
    pl.concat([rows(0, 30_000), bad]).write_parquet(tmp_path / "in" / "1.parquet")

    def plan(most: int) -> lp.Plan:
        gate = [{"between": {"column": "id", "max": most, "action": "quarantine"}}]
        built = lp.pipeline("p", base=str(tmp_path)).source("a", "in/*.parquet").stage("b", "a", gate=gate)
        return built.output("b", "out", optimize="storage").build().compile()

    plan(29_999).run().raise_for_status()
    layout = kept_layout(Dataset(str(tmp_path / "out")).read())
    assert layout is not None
    assert lp.replay(plan(99_999), "b").healed == 5
    commit = Dataset(str(tmp_path / "out")).read()
    assert [f.layout for f in commit.files] == [layout, layout]
    assert kept_layout(commit) == layout
    assert_frame_equal(scanned(str(tmp_path / "out"), "id"), pl.concat([rows(0, 30_000), bad]))


def test_what_is_left_of_a_file_keeps_its_layout_and_its_order(tmp_path: Path) -> None:
    frames = [rows(0, 300), rows(300, 600)]
    layout = Layout(forms={"price": Scaled(2, pl.Int32())}, sort_by=("mail",))
    dataset = Dataset(str(tmp_path / "d"))
    sinks = [DatasetSink(dataset.uri, f"w-00{i}", layout=layout) for i in range(2)]
    files = [f for sink, frame in zip(sinks, frames, strict=True) for f in sink.write(frame.lazy()).files]
    commit = dataset.commit(files, frames[0].schema, run="w", time=NOW)
    gone = pl.LazyFrame({"id": [5, 6, 310]})
    for together, count in ((True, 1), (False, 2)):
        found = rewrite_without(dataset, commit, gone, ["id"], prefix=f"x-00{count}k", together=together)
        assert len(found.files) == count
        assert {f.layout for f in found.files} == {layout}
        assert {f.odd for f in found.files} == {("price",)}  # as Polars divides, some have more than two decimals
        parts = [dataset.scan(replace(commit, files=(f,))).collect() for f in found.files]
        assert all(p["mail"].is_sorted() for p in parts)
        expected = pl.concat(frames).filter(~pl.col("id").is_in([5, 6, 310]))
        assert_frame_equal(pl.concat(parts).sort("id"), expected)


def test_files_that_overlap_too_much_are_put_in_order_again(tmp_path: Path) -> None:
    world = World(tmp_path, maintain={"overlap": 2})
    world.deliver("0", rows(0, 3_000))
    world.run()
    layout = Layout(sort_by=("day",))
    relayout(Dataset(world.uri), layout, run="m", time=NOW)
    told = []
    for i in range(3):
        world.deliver(str(i + 1), rows(3_000 + 500 * i, 3_500 + 500 * i))
        world.run()
        told.append(world.result.segments[0].maintained)
    commit = Dataset(world.uri).read()
    assert [len(t) for t in told] == [0, 1, 0]  # three files hold the same; then one, and the next
    assert "in order again: 3.0" in told[1][0]
    assert told[1][0].endswith("files of the dataset hold the same day")
    assert overlaps(Dataset(world.uri), commit, layout)[""] <= 2
    assert {f.layout for f in commit.files} == {layout}
    assert_frame_equal(world.content(), rows(0, 4_500))
    warned = lp.ledger(world.plan()).verify(datasets=[world.uri]).warnings
    assert [w.what.partition(",")[0] for w in warned] == ["version 2 was rewritten by 'm'"]  # no other
    world.run()
    assert [s.status for s in world.result.segments] == ["unchanged"]


@pytest.mark.parametrize("most", [1, 2, 4])
def test_files_that_are_in_order_are_left_however_many_hold_one_value(tmp_path: Path, most: int) -> None:
    """What fills several files stands in several, in the best of orders: to write them anew after every run would be in vain."""
    world = World(tmp_path, maintain={"overlap": most})
    world.deliver("0", rows(0, 100_000))
    world.run()
    layout = Layout(sort_by=("note", "id"), file_bytes=20_000, row_group_rows=500)
    world.do[:] = [{"derive": {"note": "CASE WHEN id % 10 < 8 THEN 'NL' WHEN id % 10 = 8 THEN 'DE' ELSE 'US' END"}}]
    world.run()
    relayout(Dataset(world.uri), layout, run="m", time=NOW)
    commit = Dataset(world.uri).read()
    assert len(commit.files) > 5
    assert overlaps(Dataset(world.uri), commit, layout)[""] <= 1
    told = []
    for i in range(3):
        world.deliver(f"{i + 2}", rows(200_000 + 10 * i, 200_000 + 10 * i + 8))  # all of them NL
        world.run()
        told.append(world.result.segments[0].maintained)
    assert told == [(), (), ()]
    assert Dataset(world.uri).read().rows == 100_024


def test_what_is_in_no_order_is_left(tmp_path: Path) -> None:
    world = World(tmp_path, maintain={"overlap": 1})
    for i in range(3):
        world.deliver(str(i), rows(0, 100))
        world.run()
        assert world.result.segments[0].maintained == ()


def of_shops(start: int, stop: int) -> pl.DataFrame:
    """Rows in no order, of which most columns follow from one."""
    shop = pl.col("id").hash(7) % 300
    return (
        pl.DataFrame({"id": pl.int_range(start, stop, eager=True)})
        .with_columns(shop=shop.cast(pl.Int64))
        .with_columns(
            city=pl.format("city {}", pl.col("shop").hash(1) % 90),
            street=pl.format("street {}", pl.col("shop").hash(2)),
            lat=(pl.col("shop").hash(3) % 90_000).cast(pl.Float64) / 1_000,
            lon=(pl.col("shop").hash(4) % 180_000).cast(pl.Float64) / 1_000,
            paid=(pl.col("id").hash(5) % 100_000).cast(pl.Float64) / 100,
        )
    )


@pytest.mark.usefixtures("dear")
def test_in_little_time_an_order_is_found_and_columns_once_there_is_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lazypipe.run.layouts._WORTH", 1 << 16)
    monkeypatch.setattr("lazypipe.run.layouts._SMALL", 1)
    monkeypatch.setattr("lazypipe.run.layouts._DRIFT", 100.0)
    monkeypatch.setattr("lazypipe.run.layouts._LEAST_SECONDS", 0.012)
    world = World(tmp_path, optimize="storage")
    world.deliver("1", of_shops(0, 40_000))
    commit = world.run()
    first = commit.info["optimize"]
    order = Layout.from_dict(first["layout"])
    assert order.sort_by
    assert order.writer == "polars"
    assert first["left"] == of_shops(0, 1).columns
    plain = World(tmp_path_of(tmp_path, "plain"))
    plain.deliver("1", of_shops(0, 40_000))
    assert commit.bytes < 0.75 * plain.run().bytes
    world.deliver("2", of_shops(40_000, 40_100))
    assert world.run().info["optimize"] == first
    monkeypatch.setattr("lazypipe.run.layouts._BYTES_PER_SECOND", 100_000)
    world.deliver("3", of_shops(40_100, 70_100))
    later = world.run().info["optimize"]
    layout = Layout.from_dict(later["layout"])
    assert "left" not in later
    assert layout.sort_by == order.sort_by
    assert layout.writer == "pyarrow"
    assert "paid" in {*layout.encodings, *layout.forms}
    assert_frame_equal(world.content(), of_shops(0, 70_100))


@pytest.mark.usefixtures("dear")
@pytest.mark.parametrize("how", [{}, {"mode": "upsert", "key": "id"}], ids=["replace", "upsert"])
def test_what_was_looked_at_in_vain_is_remembered_until_there_is_twice_as_much(
    how: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[float] = []

    def noting(frame: pl.DataFrame, *args: Any, **more: Any) -> Any:
        budgets.append(more["budget"])
        return advise(frame, *args, **more, clock=lambda: 0.0)

    monkeypatch.setattr("lazypipe.storage.optimizer.advise.advise", noting)
    monkeypatch.setattr("lazypipe.run.layouts._WORTH", 1 << 16)
    monkeypatch.setattr("lazypipe.run.layouts._SMALL", 1)
    monkeypatch.setattr("lazypipe.run.layouts._GROWS", 1)
    monkeypatch.setattr("lazypipe.run.layouts._LEAST_SECONDS", 0.005)
    monkeypatch.setattr("lazypipe.run.layouts._DRIFT", 100.0)
    world = World(tmp_path, optimize="storage", **how)
    world.deliver("1", rows(0, 40_000))
    commit = world.run()
    first = commit.info["optimize"]
    assert {f.layout for f in commit.files} <= {None, DEFAULT}
    assert first["reasons"] == ["the default layout: writing takes too little time to choose another"]
    assert world.plan().status()[0]["layout"]["reasons"] == first["reasons"]
    assert first["waits"]
    assert 0 < first["spent"] <= budgets[0]
    world.deliver("2", rows(40_000, 40_100))
    assert world.run().info["optimize"] == first
    assert len(budgets) == 1
    # twice as many rows, and much more time: what was spent before is taken off
    monkeypatch.setattr("lazypipe.run.layouts._BYTES_PER_SECOND", 100_000)
    world.deliver("3", rows(40_100, 90_000))
    assert world.run().info["optimize"] == first
    world.deliver("4", rows(90_000, 130_000))
    size = Dataset(world.uri).read().bytes
    second = world.run().info["optimize"]
    assert len(budgets) == 2
    assert budgets[1] > choosing_seconds("storage", size / 100_000) - first["spent"] - 1e-9
    assert "waits" not in second
    assert second["layout"] != first["layout"]
    assert_frame_equal(world.content(), rows(0, 130_000))


@pytest.mark.usefixtures("dear")
def test_nothing_is_written_twice_for_what_little_time_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lazypipe.run.layouts._SMALL", 1)
    do = [{"aggregate": {"by": ["id"], "aggregate": {"price": "median(price)"}}}]
    world = World(tmp_path, do=do, optimize="storage")
    world.deliver("1", rows(0, 30_000))
    commit = world.run()
    assert by_default(commit)
    assert all(f.path.startswith(f"{commit.run}-001-") for f in commit.files)
    monkeypatch.setattr("lazypipe.run.layouts._BYTES_PER_SECOND", 100_000)
    world.deliver("2", rows(30_000, 60_000))
    assert world.run().info["optimize"]["goal"] == "storage"
    assert_frame_equal(world.content(), rows(0, 60_000).select("id", "price"))


def test_who_reads_is_not_told_by_what_is_run(tmp_path: Path) -> None:
    """A run of one output lays it out for all who read it: the definition's other outputs, also those of stages behind others."""
    (tmp_path / "in").mkdir()
    rows(0, 60_000).write_parquet(tmp_path / "in/a.parquet", compression="uncompressed")
    rows(0, 3).select("id").write_parquet(tmp_path / "few.parquet")

    def pipe(*, more: str = "few.parquet") -> lp.Pipeline:
        built = lp.pipeline("p", base=tmp_path).source("s", "in/*.parquet").source("few", more)
        built = built.stage("b", "s", do=[{"filter": "id >= 0"}])
        built = built.stage("c", "b", do=[{"filter": "mail = 'user7@shop.example'"}]).stage("d", "c")
        built = built.stage("e", "s", do=[{"filter": "day = DATE '2026-01-01'"}])
        built = built.stage("f", "b", do=[{"join": {"with": "few", "on": "id", "how": "semi"}}])
        built = built.output("b", "b", optimize="read").output("d", "d").output("e", "e").output("f", "f")
        return built.build()

    whole = pipe().compile().workload("b")
    assert {q.name for q in whole.queries} == {"p/d", "p/f"}
    some = pickle.loads(pickle.dumps(pipe().compile(outputs=["b"])))
    assert set(some.nodes) == {"s", "b"}
    assert some.workload("b") == whole
    assert not pipe().compile(outputs=["d"]).workload("d").queries
    # what is not there just now, and not wanted, stops nobody
    away = pipe(more="away.parquet").compile(outputs=["b"])
    assert not away.workload("b").queries
    some.run().raise_for_status()
    away.run().raise_for_status()
    reasons = Dataset(f"{tmp_path}/b").read().info["optimize"]["reasons"]
    assert any(r.startswith("ordered by mail") for r in reasons)
