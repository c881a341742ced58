"""Outputs that Spark, Trino and others read as Delta tables: what deltalake reads of each version is what lazypipe reads of it."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import deltalake
import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import CommitConflict, DefinitionError, StorageError
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import DELTA
from lazypipe.storage.lake.log import DeltaLog
from tests.scenarios.test_write_modes import START, World


class Shop(World):
    """Outputs are Delta tables: after each run, what deltalake reads is compared."""

    def __init__(self, root: Path, **output: Any) -> None:
        super().__init__(root, **{"format": "delta", **output})

    def done(self, **more: Any) -> dict[str, str]:
        result = self.run(**more)
        result.raise_for_status()
        assert result.warnings == ()
        self.agree()
        return {s.name: s.status for s in result.segments}

    def refusal(self, **more: Any) -> str:
        result = self.run(**more)
        assert [s.status for s in result.segments] == ["error"]
        return str(result.segments[0].error)

    def agree(self) -> None:
        """Compare all tables below ``out``, each in all of its versions."""
        for folder in sorted((self.root / "out").iterdir()):
            if folder.is_dir() and (folder / "_delta_log").is_dir():
                agree(str(folder))


def as_delta(frame: pl.DataFrame) -> pl.DataFrame:
    """Return rows as a Delta table has them: times with a zone are moments, categories are text."""
    for name, dtype in frame.schema.items():
        if isinstance(dtype, pl.Datetime):
            zone = None if dtype.time_zone is None else "UTC"
            frame = frame.with_columns(pl.col(name).cast(pl.Datetime("us", dtype.time_zone)))
            frame = frame.with_columns(pl.col(name).dt.convert_time_zone(zone)) if zone else frame
        elif dtype == pl.Categorical:
            frame = frame.with_columns(pl.col(name).cast(pl.String))
    return frame


def rows(frame: pl.DataFrame) -> Counter[str]:
    return Counter(map(repr, frame.rows()))


def agree(uri: str) -> None:
    """Have two other readers read each version of a table that is still there, and compare it with what lazypipe reads."""
    log = Dataset(uri).log
    versions = log.versions()
    first = log.read(versions[-1]).info[DELTA]
    table = deltalake.DeltaTable(uri)
    assert table.version() == versions[-1] - first
    for version in versions:
        commit = log.read(version)
        if commit.info.get(DELTA) is None:
            continue
        assert commit.gone == frozenset()
        table.load_as_version(version - first)
        assert {Path(f).name for f in table.file_uris()} == {Path(f.path).name for f in commit.files}
        ours = as_delta(lp.scan(uri, version=version).collect())
        by_polars = pl.read_delta(uri, version=version - first)
        assert dict(by_polars.schema) == dict(ours.schema)
        assert rows(by_polars.select(ours.columns)) == rows(ours)
        if version == versions[-1]:
            by_arrow = pl.DataFrame(table.to_pyarrow_table())
            assert rows(by_arrow.select(ours.columns)) == rows(ours)


def days(*numbers: int) -> list[date]:
    return [date(2024, 1, n) for n in numbers]


def test_five_deliveries(tmp_path: Path) -> None:
    shop = Shop(tmp_path, partition_by=["day"])
    shop.gate = [{"between": {"column": "price", "min": 0, "action": "quarantine"}}]
    shop.deliver("1", id=[1, 2, 3], price=[1.5, 2.5, -1.0], day=days(1, 2, 1))
    shop.deliver("2", id=[4, 5], price=[-3.0, 4.5], day=days(1, 1))
    shop.done()
    shop.deliver("3", id=[6], price=[9.0], day=days(3))
    shop.done()
    shop.deliver(
        "2", id=[4, 5], price=[3.0, 4.5], day=days(1, 1)
    )  # corrected: the rows of one file of two in each data file
    shop.done()
    (tmp_path / "in/1.parquet").unlink()
    shop.done()
    shop.done()  # nothing has changed
    shop.deliver("4", id=[7], price=[None], day=[None])
    shop.done()
    assert sorted(pl.read_delta(shop.uri)["id"]) == [4, 5, 6, 7]
    assert pl.read_delta(shop.uri + "__quarantine").height == 0
    told = deltalake.DeltaTable(shop.uri).history()
    assert [h["operation"] for h in told] == ["MERGE"] * 4 + ["WRITE"]
    # plain scans and the incremental state are those of any dataset
    assert {s.status for s in shop.run().segments} == {"unchanged"}


@pytest.mark.parametrize(
    "output",
    [
        {"mode": "replace"},
        {"mode": "append", "partition_by": ["day"]},
        {"mode": "upsert", "key": ["id"], "order_by": ["day"], "changes": True},
        {"mode": "scd2", "key": ["id"]},
        {"mode": "snapshot", "keep": 2},
        {"mode": "replace_partitions", "partition_by": ["day"]},
    ],
    ids=lambda o: o["mode"],
)
def test_write_modes(tmp_path: Path, output: dict[str, Any]) -> None:
    shop = Shop(tmp_path, **output)
    shop.gate = [{"not_null": {"columns": ["price"], "action": "quarantine"}}]
    for number in range(3):
        ids = [number, number + 1, number + 2]
        shop.deliver(str(number), id=ids, price=[1.0 * number, 2.0, None], day=days(1, number + 1, 2))
        shop.done()
    shop.done(full=output["mode"] == "replace")


def test_keys_that_are_removed(tmp_path: Path) -> None:
    shop = Shop(tmp_path, mode="upsert", key=["id"])
    shop.more = {
        "sources": {"gone": {"uri": "gone/*.parquet"}},
        "outputs": {"gone": {"to": "out/orders", "mode": "delete", "key": ["id"]}},
    }
    shop.deliver("1", id=[1, 2, 3])
    shop.deliver("1", "gone", id=[2])
    with pytest.raises(
        DefinitionError, match="output 'orders' makes a Delta table of the dataset that 'gone' changes too"
    ):
        shop.compile()
    shop.more["outputs"]["gone"]["format"] = "delta"
    shop.more["stages"] = {"list": {"from": "s"}}
    shop.more["outputs"]["list"] = {"to": "out/list.csv", "format": "csv"}
    shop.done()
    assert sorted(pl.read_delta(shop.uri)["id"]) == [1, 3]


def test_groups_windows_and_panes(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.do = [{"derive": {"best": "max(price) OVER (PARTITION BY shop)"}}]
    window = {"time": "at", "every": "1h", "aggregate": {"sold": "count(*)"}, "allowed_lateness": "30d"}
    shop.more = {
        "stages": {"hourly": {"from": "s", "do": [{"window": window}]}},
        "outputs": {"hourly": {"to": "out/hourly", "format": "delta", "panes": "retract", "key": ["window_start"]}},
    }
    at = [datetime(2024, 1, 1, n, tzinfo=UTC) for n in range(4)]
    shop.deliver("1", shop=["a", "b", "c", "d"], price=[1, 2, 3, 4], at=at)
    shop.done()
    shop.deliver("2", shop=["a", "a"], price=[7, 8], at=at[:2])
    shop.done()
    assert pl.read_delta(shop.uri).filter(shop="a")["best"].to_list() == [8, 8, 8]
    assert pl.read_delta(str(tmp_path / "out/hourly")).sort("window_start")["sold"].to_list() == [2, 2, 1, 1]
    assert (tmp_path / "out/hourly__panes/_delta_log").is_dir()


def orders(many: int, start: int = 0) -> dict[str, Any]:
    ids = range(start, start + many)
    return {
        "id": list(ids),
        "mail": [f"user{n % 97}@example.com" for n in ids],
        "flag": ["yes" if n % 2 else "no" for n in ids],
        "at": [START + timedelta(seconds=n) for n in ids],
        "seen": [START.replace(tzinfo=None) + timedelta(seconds=n + 5) for n in ids],
    }


def test_layouts_are_what_every_reader_reads(tmp_path: Path) -> None:
    shop = Shop(tmp_path, optimize="storage")
    shop.deliver("1", **orders(4_000))
    shop.done()
    commit = Dataset(shop.uri).read()
    layouts = {f.layout for f in commit.files}
    assert all(n is not None and not n.forms for n in layouts)
    assert commit.info["optimize"]["goal"] == "storage"
    shop.deliver("2", **orders(4_000, 4_000))
    shop.done()
    lp.optimize.rewrite(shop.uri, "storage", every=True)
    assert not any(f.layout.forms for f in Dataset(shop.uri).read().files if f.layout)
    shop.agree()


def test_a_dataset_becomes_a_delta_table(tmp_path: Path) -> None:
    """Its files have forms, dead rows and other partitions; who adds up its rows goes on as if nothing had been."""
    shop = Shop(tmp_path, format="dataset", optimize="storage", mode="append")
    shop.deliver("1", **orders(4_000))
    shop.run().raise_for_status()
    assert any(f.layout is not None and f.layout.forms for f in Dataset(shop.uri).read().files)
    reader = lp.Pipeline.from_dict(
        {
            "version": 1,
            "name": "reader",
            "sources": {"orders": {"uri": "out/orders", "format": "dataset"}},
            "outputs": {"copied": {"from": "orders", "to": "copied", "mode": "append"}},
        },
        base=str(tmp_path),
    )
    reader.compile().run().raise_for_status()
    shop.output["format"] = "delta"
    shop.done()  # nothing new: made so all the same
    assert pl.read_delta(shop.uri).height == 4_000
    shop.deliver("2", **orders(10, 4_000))
    shop.done()
    reader.compile().run().raise_for_status()
    assert sorted(lp.scan(str(tmp_path / "copied")).collect()["id"]) == list(range(4_010))
    lp.rollback(shop.uri, version=1)  # the files of then have forms
    assert pl.read_delta(shop.uri).sort("id")["mail"].to_list() == orders(4_000)["mail"]
    shop.agree()
    shop.output["format"] = "dataset"
    shop.deliver("3", **orders(1, 9_000))
    assert (
        shop.refusal()
        == f"{shop.uri}: the dataset here is a Delta table too; write format: delta, or write to another place"
    )


def test_dead_rows_of_a_dataset_that_becomes_a_table(tmp_path: Path) -> None:
    shop = Shop(tmp_path, format="dataset")
    for name in "abcd":
        shop.deliver(name, id=[1, 2], of=[name, name])
    shop.run().raise_for_status()
    shop.deliver("a", id=[7], of=["a"])
    shop.run().raise_for_status()
    assert Dataset(shop.uri).read().gone
    assert lp.publish_delta(shop.compile(), "orders") == 1
    assert lp.publish_delta(shop.uri) == 0
    shop.agree()
    shop.output["format"] = "delta"
    shop.deliver("b", id=[8], of=["b"])
    shop.done()
    assert rows(pl.read_delta(shop.uri).sort("of", "id").select("of", "id")) == Counter(
        map(repr, [("a", 7), ("b", 8), ("c", 1), ("c", 2), ("d", 1), ("d", 2)])
    )


def test_other_partitions_and_columns(tmp_path: Path) -> None:
    shop = Shop(tmp_path, mode="append")
    shop.deliver("1", id=[1, 2, 3], day=days(1, 1, 2), to=["x", "y", None])
    shop.done()
    lp.optimize.rewrite(shop.uri, "balanced", partition_by=["to"])
    shop.output["partition_by"] = ["to"]
    shop.deliver("2", id=[4, 5], day=days(3, 3), to=["x", "z"])
    shop.done()
    assert deltalake.DeltaTable(shop.uri).metadata().partition_columns == ["to"]
    lp.optimize.rewrite(shop.uri, "balanced", partition_by=["day"])
    shop.agree()
    assert deltalake.DeltaTable(shop.uri).metadata().partition_columns == ["day"]
    shop.output |= {"partition_by": ["day"], "mode": "replace"}
    shop.do = [{"derive": {"seen": "CAST(day AS TIMESTAMP)"}}]
    shop.done(full=True)
    table = deltalake.DeltaTable(shop.uri)
    assert table.protocol().reader_features == ["timestampNtz"]  # a time without a zone
    shop.do = []
    shop.done()
    assert deltalake.DeltaTable(shop.uri).protocol().min_reader_version == 3  # there is no way back


def test_names_of_folders(tmp_path: Path) -> None:
    odd = ["A/B", "a=b", "50%", "é ü", "x y", "%41", None, "a:b+c&d", "~"]
    count = len(odd)
    aware = [datetime(2024, 1, 1, 12, 30, 15, 123_456, tzinfo=UTC) + timedelta(n) for n in range(count - 1)] + [None]
    shop = Shop(tmp_path, partition_by=["to", "n", "ok", "day", "at", "seen", "kind"])
    shop.deliver(
        "1",
        id=list(range(count)),
        to=odd,
        n=[-n for n in range(count)],
        ok=[n % 2 == 0 for n in range(count)],
        day=[date(2024, 2, n + 1) for n in range(count)],
        at=pl.Series(aware).dt.convert_time_zone("Europe/Berlin"),
        seen=pl.Series(aware).dt.replace_time_zone(None),
        kind=pl.Series([o and o[:1] for o in odd], dtype=pl.Categorical),
    )
    shop.done()
    table = deltalake.DeltaTable(shop.uri)
    assert pl.DataFrame(table.to_pyarrow_table(filters=[("to", "=", "A/B")]))["id"].to_list() == [0]
    shop.deliver("1", id=[1], to=[""], n=[1], ok=[True], day=days(1), at=aware[:1], seen=[aware[0]], kind=["a"])
    shop.output["partition_by"] = ["to"]
    assert shop.refusal() == (
        f"{shop.uri}: column 'to' has the text '', which a Delta table would read as null in a partition; "
        "derive another text for it, or leave 'to' out of partition_by"
    )
    shop.agree()


def test_readers_leave_out_files(tmp_path: Path) -> None:
    shop = Shop(tmp_path, mode="append")
    shop.deliver("1", id=[1, None], name=["b", "a"], day=days(1, 2), at=[START, START + timedelta(microseconds=1)])
    shop.done()
    shop.deliver("2", id=[70, 80], name=["y", "z"], day=days(3, 4), at=[START + timedelta(9)] * 2)
    shop.done()
    said = pl.DataFrame(deltalake.DeltaTable(shop.uri).get_add_actions(flatten=True)).sort("num_records", "min.id")
    assert said.select("min.id", "max.id", "null_count.id", "min.name", "max.name").rows() == [
        (1, 1, 1, "a", "b"),
        (70, 80, 0, "y", "z"),
    ]
    assert said["max.day"].to_list() == days(2, 4)
    assert said["max.at"][0] == START + timedelta(milliseconds=1)  # rounded up, as no reader knows more
    assert pl.scan_delta(shop.uri).filter(pl.col("id") > 60).collect()["name"].to_list() == ["y", "z"]


def test_checkpoints_and_vacuum(tmp_path: Path) -> None:
    shop = Shop(tmp_path, mode="append", partition_by=["day"])
    for number in range(13):
        shop.deliver(str(number), id=[number], day=days(number % 2 + 1), seen=[START.replace(tzinfo=None)])
        shop.run().raise_for_status()
    shop.agree()
    log = DeltaLog(shop.uri)
    assert list(log.checkpoints()) == [10]
    assert len(log.table(12).adds) == len(log.table(10).adds) + 2 == 13
    lp.optimize.compact(shop.uri)
    assert deltalake.DeltaTable(shop.uri).history(1)[0]["operation"] == "OPTIMIZE"
    assert deltalake.DeltaTable(shop.uri).to_pyarrow_table().num_rows == 13
    assert log.table().removes.keys() >= set(log.table(12).adds)
    lp.vacuum(shop.uri, keep=2, older_than=timedelta(0))
    assert sorted(log.files.numbers()) == [12, 13]
    assert list(log.checkpoints()) == [12]
    shop.agree()
    # to another engine, nothing that is live or kept is garbage
    live = {f.path for v in Dataset(shop.uri).log.versions() for f in Dataset(shop.uri).log.read(v).files}
    table = deltalake.DeltaTable(shop.uri)
    assert not live & set(table.vacuum(dry_run=True))
    assert set(table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=True)) <= live
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    assert sorted(lp.scan(shop.uri).collect()["id"]) == list(range(13))
    shop.deliver("99", id=[99], day=days(1), seen=[None])
    result = shop.run()
    result.raise_for_status()
    assert result.warnings == ()
    assert pl.read_delta(shop.uri).height == 14


def test_plain_scans_of_the_folder(tmp_path: Path) -> None:
    """Polars itself passes over the log."""
    shop = Shop(tmp_path, mode="append")
    for number in range(12):
        shop.deliver(str(number), id=[number])
        shop.run().raise_for_status()
    assert sorted(pl.scan_parquet(shop.uri + "/*.parquet").collect()["id"]) == list(range(12))


def test_rollback_and_replay(tmp_path: Path) -> None:
    shop = Shop(tmp_path, mode="append", key=["id"])
    shop.gate = [{"between": {"column": "price", "min": 0, "action": "quarantine"}}]
    shop.deliver("1", id=[1, 2], price=[1, -1])
    shop.done()
    shop.deliver("2", id=[3, 4], price=[3, -3])
    shop.done()
    lp.rollback(shop.compile(), "orders", version=1)
    shop.agree()
    assert pl.read_delta(shop.uri)["id"].to_list() == [1]
    shop.done()
    shop.gate = [{"between": {"column": "price", "min": -2, "action": "quarantine"}}]
    assert lp.replay(shop.compile(), "orders").healed == 1
    shop.agree()
    assert sorted(pl.read_delta(shop.uri)["id"]) == [1, 2, 3]


def test_bounded_runs(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    for number in range(3):
        shop.deliver(str(number), id=[number])
    for _ in range(3):
        shop.done(max_files=1)
    assert sorted(pl.read_delta(shop.uri)["id"]) == [0, 1, 2]


def test_somebody_else_writes(tmp_path: Path) -> None:
    shop = Shop(tmp_path, mode="append")
    shop.deliver("1", id=[1])
    shop.done()
    deltalake.write_deltalake(shop.uri, pl.DataFrame({"id": [9]}).to_arrow(), mode="append")
    shop.deliver("2", id=[2])
    result = shop.run()
    result.raise_for_status()
    fix = "write the output to another place, or move _delta_log away to start over"
    what = f"version 1 of the Delta table here was written by somebody else; {fix}"
    assert result.warnings == (f"output 'orders' is not up to date as a Delta table: {shop.uri}: {what}",)
    assert sorted(lp.scan(shop.uri).collect()["id"]) == [1, 2]
    with pytest.raises(StorageError, match="was written by somebody else"):
        lp.rollback(shop.uri, version=1)
    (tmp_path / "out/orders/_delta_log").rename(tmp_path / "away")
    shop.done()
    assert sorted(pl.read_delta(shop.uri)["id"]) == [1, 2]
    other = str(tmp_path / "out/theirs")
    deltalake.write_deltalake(other, pl.DataFrame({"id": [9]}).to_arrow())
    shop.output["to"] = other
    assert shop.refusal() == f"{other}: there is a Delta table here already, and this dataset has not written it; {fix}"


def test_two_writers_and_two_who_catch_up(tmp_path: Path) -> None:
    shop = Shop(tmp_path, mode="append")
    shop.deliver("1", id=[1])
    shop.done()
    for path in (tmp_path / "out/orders/_delta_log").iterdir():
        path.unlink()
    errors: list[BaseException] = []

    def catch_up() -> None:
        try:
            lp.publish_delta(shop.uri)
        except BaseException as error:  # what is looked at below
            errors.append(error)

    threads = [threading.Thread(target=catch_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    shop.agree()
    stale = Dataset(shop.uri).read()
    shop.deliver("2", id=[2])
    shop.done()
    with pytest.raises(CommitConflict):
        Dataset(shop.uri).commit(stale.files, stale.schema, run="late", time=START, expected=stale.version)
    shop.agree()


def test_definitions(tmp_path: Path) -> None:
    shop = Shop(tmp_path, partition_by=["f"])
    shop.deliver(
        "1",
        n=pl.Series([1], dtype=pl.UInt32),
        t=pl.Series([timedelta(1)]),
        f=[1.5],
        inner=[{"x": [{"y": datetime(2024, 1, 1).time()}]}],
    )
    assert {str(p).partition(": ")[2] for p in shop.faults()} >= {
        "a Delta table cannot hold column 'n' (UInt32); cast it to Int64",
        "a Delta table cannot hold column 't' (Duration(time_unit='us')); cast it to Int64 (us)",
        "a Delta table cannot hold 'inner.x.y' (Time) in column 'inner'; cast it to String, or Int64 (nanoseconds since midnight)",
    }
    shop.output |= {"mode": "scd2", "key": ["f"], "event_time": "never"}
    shop.output.pop("partition_by")
    assert any("unknown column 'never'" in str(p) for p in shop.faults())
    (tmp_path / "p.yaml").write_text(
        "version: 1\nname: p\nsources: {s: {uri: in/*.parquet}}\noutputs:\n  s:\n    to: out\n    format: delta\n"
    )
    loaded = lp.load(tmp_path / "p.yaml")
    assert lp.Pipeline.from_yaml(loaded.to_yaml(), base=str(tmp_path)) == loaded
    assert "format: delta" in loaded.to_yaml()
    with pytest.raises(DefinitionError) as caught:
        loaded.compile()
    assert str(caught.value.problems[0]) == (
        f"{tmp_path}/p.yaml:7:5: a Delta table cannot hold column 'n' (UInt32); cast it to Int64"
    )
