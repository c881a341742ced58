"""Delta tables of others as sources: what deltalake wrote and reads is what a pipeline gives, run by run, in every mode."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import deltalake
import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import DefinitionError, LazypipeError

START = datetime(2024, 1, 1, tzinfo=UTC)


class Lake:
    """A Delta table that deltalake writes, and a pipeline over it."""

    def __init__(self, root: Path, source: dict[str, Any] | None = None, **output: Any) -> None:
        self.root, self.source, self.output = root, source or {}, output
        self.more: dict[str, Any] = {}
        self.uri = str(root / "t")
        self.runs = 0

    @property
    def table(self) -> deltalake.DeltaTable:
        return deltalake.DeltaTable(self.uri)

    def write(self, ids: list[Any], mode: Any = "append", by: Any = None, **columns: Any) -> None:
        frame = pl.DataFrame({"id": ids, **columns})
        deltalake.write_deltalake(self.uri, frame, mode=mode, partition_by=by, schema_mode="merge")

    def compile(self) -> lp.Plan:
        definition = {
            "version": 1,
            "name": "lake",
            "sources": {"s": {"uri": "t", "format": "delta", **self.source}},
            "stages": {"rows": {"from": "s", "do": [{"filter": "id >= 0"}]}},
            "outputs": {"rows": {"to": "out", **self.output}},
            **self.more,
        }
        return lp.Pipeline.from_dict(definition, base=str(self.root)).compile()

    def run(self, **more: Any) -> lp.RunResult:
        self.runs += 1
        result = self.compile().run(now=START + timedelta(days=self.runs), **more)
        result.raise_for_status()
        assert result.warnings == ()
        return result

    def refusal(self, **more: Any) -> str:
        with pytest.raises((LazypipeError, DefinitionError)) as caught:
            self.run(**more)
        return str(caught.value).replace(str(self.root), "ROOT")

    @property
    def rows(self) -> Counter[Any]:
        return Counter(lp.scan(str(self.root / "out")).collect().rows())

    @property
    def theirs(self) -> Counter[Any]:
        return Counter(pl.from_arrow(self.table.to_pyarrow_table()).rows())  # type: ignore[union-attr]

    @staticmethod
    def why(result: lp.RunResult) -> str | None:
        return result.segments[-1].why

    def done(self, **more: Any) -> lp.RunResult:
        result = self.run(**more)
        assert self.rows == self.theirs
        return result


def test_versions_come_in_as_they_are(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write([1, 2, 3])
    lake.done()
    lake.write([4, 5])
    assert lake.why(lake.done()) == "s: 1 added, 1 unchanged"
    lake.table.delete("id = 2")
    lake.done()
    lake.table.update({"id": "id + 10"}, predicate="id = 4")
    lake.done()
    lake.write([6, 7], n=["a", None])
    lake.done()
    lake.table.optimize.compact()
    lake.done()
    assert lake.why(lake.run()) == "nothing changed: s: 1 unchanged"
    lake.write([8, None], mode="overwrite")
    lake.more = {"stages": {"rows": {"from": "s"}}}
    lake.done()
    lake.table.create_checkpoint()
    lake.write([9])
    for number in range(3):
        (tmp_path / f"t/_delta_log/{number:020}.json").unlink()
    lake.done()
    lake.table.delete()
    lake.done()
    assert lake.rows == Counter()


def test_time_travel(tmp_path: Path) -> None:
    lake = Lake(tmp_path, {"version": 1})
    for number in range(4):
        lake.write([number])
    plan = lake.compile()
    lake.run()
    assert lake.rows == Counter([(0,), (1,)])
    assert plan.pipeline.sources["s"].version == 1
    assert lp.Pipeline.from_yaml(lp.Pipeline.of(plan.pipeline).to_yaml()).sources["s"].version == 1
    lake.source = {"version": 0}
    lake.run()
    assert lake.rows == Counter([(0,)])
    lake.source = {"version": 9}
    assert lake.refusal() == "ROOT/t/_delta_log: source 's': there is no version 9; the last is 3"


PARTS: dict[str, list[Any]] = {
    "day": [date(2024, 1, 1), None, date(2024, 1, 2), date(2024, 1, 2)],
    "to": ["A/B", "é x%", "a=b", None],
    "at": [datetime(2024, 1, 1, 5, 0, 0, 5, tzinfo=UTC)] * 3 + [None],
    "local": [datetime(2024, 1, 1, 5), None, datetime(2024, 1, 1, 5, 30), None],
    "ok": [True, False, None, True],
    "share": [0.5, None, -1.25, 3.0],
    "n": [1, None, 2, 2],
}


@pytest.mark.parametrize("by", [["day"], ["n", "to"], ["day", "to", "at", "local", "ok", "share"]])
def test_partitions_are_what_the_log_says(tmp_path: Path, by: list[str]) -> None:
    lake = Lake(tmp_path)
    lake.write([1, 2, 3, 4], by=by, **PARTS)
    lake.done()
    lake.write([5, 6, 7, 8], by=by, **PARTS)
    lake.done()
    lake.table.delete("id = 6")
    lake.done()
    lake.table.optimize.compact()
    lake.done()
    lake.more = {"stages": {"rows": {"from": "s", "do": [{"filter": "n = 2 AND id > 3"}]}}}
    lake.run()
    assert Counter(row[0] for row in lake.rows.elements()) == Counter([4, 7, 8])


def test_added_once(tmp_path: Path) -> None:
    """Rows that only went into other files are not added again; those of files that are gone stay."""
    lake = Lake(tmp_path, mode="append")
    lake.write([1, 2])
    lake.write([3])
    lake.done()
    lake.table.optimize.compact()
    assert lake.why(lake.done()) == "nothing new: s: 1 unchanged"
    lake.write([4])
    lake.write([5])
    lake.table.optimize.compact()  # what was read, with what was not: the version before it is read
    lake.write([9])
    assert lake.run().left == 1
    assert lake.rows == Counter((i,) for i in range(1, 6))
    lake.done()
    lake.write([6])
    lake.write([7])
    lake.done()
    lake.write([8])
    lake.table.optimize.compact()
    lake.run(full=True)
    assert lake.rows == lake.theirs
    lake.table.update({"id": "60"}, predicate="id = 6")
    assert lake.refusal() == (
        "ROOT/out: output 'rows': rows of 's' were rewritten, and would be added a second time; "
        "read a feed of its changes instead, write to another place, or say at the source on_modified: reprocess to add all of its rows again"
    )
    lake.source = {"on_modified": "fail"}
    assert "were rewritten" in lake.refusal()
    lake.source = {"on_modified": "reprocess"}
    lake.run()
    before = Counter((i,) for i in range(1, 10))
    assert lake.rows == before + lake.theirs


def test_added_rows_stay_when_their_files_go(tmp_path: Path) -> None:
    lake = Lake(tmp_path, mode="append")
    lake.write([1, 2], by=["k"], k=["a", "b"])
    lake.done()
    lake.table.delete("k = 'a'")
    lake.write([3], by=["k"], k=["b"])
    lake.run()
    lake.write([4], by=["k"], k=["b"])
    lake.run()
    assert {row[0] for row in lake.rows} == {1, 2, 3, 4}
    lake.table.delete("id = 4")
    gone = tmp_path / f"t/_delta_log/{lake.table.version():020}.json"
    lake.write([5], by=["k"], k=["b"])
    lake.table.create_checkpoint()
    gone.unlink()  # so that the log does not say any more why the file is gone
    assert "were rewritten" in lake.refusal()


def test_rows_are_added_of_what_is_an_output_too(tmp_path: Path) -> None:
    lake = Lake(tmp_path, {"gate": [{"not_null": "id"}]}, mode="append")
    lake.more = {"outputs": {"s": {"to": "passed"}, "rows": {"to": "out", "mode": "append"}}}
    for number in range(3):
        lake.write([2 * number, 2 * number + 1])
        assert {s.name: s.written for s in lake.done().segments} == {"s": 2, "rows": 2}


def test_upserts(tmp_path: Path) -> None:
    lake = Lake(tmp_path, mode="upsert", key="id")
    lake.write([1, 2], x=["a", "b"])
    lake.done()
    lake.table.update({"x": "'c'"}, predicate="id = 2")
    lake.done()
    lake.write([3], x=["d"])
    lake.done()
    lake.table.optimize.compact()
    assert lake.why(lake.done()) == "nothing new: s: 1 ignored, 1 unchanged"


def test_few_files_at_a_time(tmp_path: Path) -> None:
    """The oldest come first, and rows are counted by what the log says."""
    lake = Lake(tmp_path)
    for number in range(5):
        lake.write([number * 2, number * 2 + 1])
    assert lake.run(max_rows=4).left == 3
    assert {row[0] for row in lake.rows} == {0, 1, 2, 3}
    log = tmp_path / "t/_delta_log" / f"{4:020}.json"
    log.write_text(log.read_text().replace("numRecords", "n"))
    assert lake.run(max_rows=6).left == 0
    assert lake.rows == lake.theirs


def test_tables_of_lazypipe(tmp_path: Path) -> None:
    """A table that a pipeline writes is read by its log of commits; by its Delta log if that is asked for."""
    (tmp_path / "in").mkdir()
    pl.DataFrame({"id": [1, 2, 3], "k": ["a", "b", "a"]}).write_parquet(tmp_path / "in/a.parquet")
    first = {
        "version": 1,
        "name": "first",
        "sources": {"s": {"uri": "in/*.parquet"}},
        "outputs": {"s": {"to": "t", "format": "delta", "partition_by": "k"}},
    }
    pipe = lp.Pipeline.from_dict(first, base=str(tmp_path))
    pipe.compile().run(now=START).raise_for_status()
    lake = Lake(tmp_path)
    lake.done()
    pl.DataFrame({"id": [4], "k": ["b"]}).write_parquet(tmp_path / "in/b.parquet")
    pipe.compile().run(now=START + timedelta(hours=1)).raise_for_status()
    lake.done()
    assert formats(lake) == ["delta"]
    lake.more = {"sources": {"s": {"uri": "t"}}}
    assert formats(lake) == ["dataset"]
    lake.done()
    lake.output = {"mode": "append", "to": "added"}
    lake.run()
    lake.more = {}
    assert lake.refusal() == (
        "ROOT/t: 's' was read by its own log of commits before, and is read as a Delta table now, so new rows cannot be told from old; "
        "run once in full (--full), which rebuilds the output, or remove format: delta at the source"
    )
    lake.run(full=True)
    assert Counter(lp.scan(str(tmp_path / "added")).collect().rows()) == lake.theirs


def formats(lake: Lake) -> list[str]:
    return [n.source.reader.format for n in lake.compile().nodes.values() if n.source is not None]


def test_added_after_files_were_read_without_the_log(tmp_path: Path) -> None:
    """Files that were read by their names are known again, as long as they are there."""
    lake = Lake(tmp_path, mode="append")
    lake.more = {"sources": {"s": {"uri": "t/*.parquet"}}}
    lake.write([1])
    lake.done()
    lake.more = {}
    lake.write([2])
    lake.write([3])
    lake.done()
    lake.more = {"sources": {"s": {"uri": "t/*.parquet"}}}
    lake.write([4])
    lake.done()
    lake.more = {}
    lake.table.optimize.compact()
    assert "were rewritten" in lake.refusal()


def test_a_mix_whose_version_before_is_gone(tmp_path: Path) -> None:
    lake = Lake(tmp_path, mode="append")
    lake.write([1])
    lake.run()
    lake.write([2])
    lake.table.optimize.compact()
    first = tmp_path / "t/_delta_log" / f"{0:020}.json"
    lake.table.create_checkpoint()
    first.unlink()
    assert "were rewritten" in lake.refusal()


def test_folders_with_a_delta_log_are_tables(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write([1])
    lake.write([2], mode="overwrite")
    lake.more = {"sources": {"s": {"uri": "t"}}}
    lake.done()
    assert lake.rows == Counter([(2,)])


def test_the_ledger_names_table_and_version(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write([1])
    lake.write([2])
    lake.run()
    (entry,) = lp.ledger(lake.compile()).runs("rows")
    read = entry.body["inputs"]["s"]
    assert (read["format"], read["version"], read["uri"]) == ("delta", 1, [lake.uri])
    assert {f["uri"] for f in read["files"]} == set(lake.table.file_uris())
    assert all(len(f["blake3"]) == 64 for f in read["files"])


def test_contracts_and_gates(tmp_path: Path) -> None:
    contract = {"columns": {"id": "Float64", "n": "String"}, "on_type_change": "freeze", "on_missing_column": "evolve"}
    lake = Lake(tmp_path, {"contract": contract, "gate": [{"not_null": {"columns": ["n"], "action": "quarantine"}}]})
    lake.write([1, 2])
    lake.write([3], n=["x"])
    lake.run()
    assert lake.rows == Counter([(3.0, "x")])


def test_joined_and_grouped(tmp_path: Path) -> None:
    """A table beside other files: groups that a change touches are made anew, as in a full run."""
    lake = Lake(tmp_path)
    (tmp_path / "in").mkdir()
    pl.DataFrame({"id": [1, 2, 3, 1], "x": [1, 2, 3, 4]}).write_parquet(tmp_path / "in/a.parquet")
    lake.more = {
        "sources": {"s": {"uri": "t", "format": "delta"}, "facts": {"uri": "in/*.parquet"}},
        "stages": {
            "rows": {
                "from": "facts",
                "do": [
                    {"join": {"with": "s", "on": "id", "how": "left"}},
                    {"aggregate": {"by": ["k"], "aggregate": {"x": "sum(x)"}}},
                ],
            }
        },
    }
    lake.write([1, 2], k=["a", "b"])
    lake.run()
    assert lake.rows == Counter([("a", 5), ("b", 2), (None, 3)])
    lake.table.update({"k": "'c'"}, predicate="id = 2")
    lake.run()
    assert lake.rows == Counter([("a", 5), ("c", 2), (None, 3)])
    lake.table.optimize.compact()
    lake.run()
    assert lake.rows == Counter([("a", 5), ("c", 2), (None, 3)])


def test_traces_lead_to_files_of_the_table(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write([1, 2], by=["ok"], ok=[True, False])
    lake.write([3], by=["ok"], ok=[True])
    lake.run()
    traced = lake.compile().trace("rows", {"id": 3})
    assert [row["id"] for of in traced.sources.values() for row in of.rows.to_dicts()] == [3]


def test_columns_that_change_between_compile_and_run(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write([1], x=["a"])
    plan = lake.compile()
    deltalake.write_deltalake(lake.uri, pl.DataFrame({"id": ["7"]}), mode="overwrite", schema_mode="overwrite")
    result = plan.run(now=START)
    assert str(result.segments[0].error).replace(str(tmp_path), "ROOT") == (
        "ROOT/t: source 's': column 'id' of the Delta table is String, and was Int64 when the pipeline was compiled; "
        "compile the pipeline again"
    )


def test_files_that_vacuum_took(tmp_path: Path) -> None:
    lake = Lake(tmp_path, {"version": 0})
    lake.write([1])
    lake.write([2], mode="overwrite")
    lake.table.vacuum(0, enforce_retention_duration=False, dry_run=False)
    told = lake.refusal()
    assert told.startswith("ROOT/t/part-")
    assert "source 's': " in told
    assert told.endswith("; read a later version if VACUUM has deleted it, or restore it from a backup")


def edit(lake: Lake, kind: str, **said: Any) -> None:
    """Say something else in the first action of a kind of the first version."""
    path = Path(lake.uri) / "_delta_log" / f"{0:020}.json"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    next(line for line in lines if kind in line)[kind] |= said
    path.write_text("\n".join(map(json.dumps, lines)))


VECTOR = {"storageType": "u", "pathOrInlineDv": "ab", "offset": 1, "sizeInBytes": 36, "cardinality": 2}


@pytest.mark.parametrize(
    ("kind", "said", "told"),
    [
        (
            "add",
            {"deletionVector": VECTOR},
            "rows of this file are deleted by a deletion vector, which lazypipe does not",
        ),
        ("protocol", {"minReaderVersion": 4}, "the Delta table needs readers of version 4, and lazypipe reads up to 3"),
        (
            "protocol",
            {"minReaderVersion": 3, "readerFeatures": ["v2Checkpoint", "timestampNtz", "typeWidening"]},
            "the Delta table needs typeWidening, v2Checkpoint of its readers, which lazypipe does not read",
        ),
        (
            "metaData",
            {"configuration": {"delta.columnMapping.mode": "name"}},
            "the columns of the Delta table have other names in its files (column mapping by name), which lazypipe",
        ),
        (
            "add",
            {"path": "s3://else/where.parquet"},
            "a file of the Delta table is outside of its folder, at s3://else/where",
        ),
        ("metaData", {"schemaString": "{}"}, "the Delta table has columns that cannot be read: 'fields'"),
        (
            "add",
            {"partitionValues": {"day": "soon"}},
            "the Delta log says 'soon' of partition column 'day', which is no",
        ),
    ],
)
def test_what_is_refused_by_name(tmp_path: Path, kind: str, said: dict[str, Any], told: str) -> None:
    lake = Lake(tmp_path)
    lake.write([1], by=["day"], day=[date(2024, 1, 1)])
    edit(lake, kind, **said)
    found = lake.refusal()
    assert f"source 's': {told}" in found
    assert found.startswith("ROOT/t")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"uri": "nothing"}, "there is no Delta table: there is no version in _delta_log; check the path"),
        ({"uri": ["t", "u"]}, "a Delta table is one folder; make a source of each, and union them"),
        ({"format": "parquet", "version": 1}, "version is for Delta tables, and this is parquet; add format: delta"),
        (
            {"settle": "5m"},
            "settle is for files that others deliver, and this is a Delta table: its versions are whole",
        ),
        ({"detect": "content"}, "detect: content is for files that others deliver, and this is a Delta table"),
        ({"on_modified": "ignore"}, "a Delta table changes rows by writing other files, so that on_modified: ignore"),
        ({"on_corrupt": "skip"}, "on_corrupt is for files that others deliver, and this is a Delta table"),
        ({"read": {"separator": ";"}}, "read is for CSV, and this is delta"),
        ({"version": -1}, "'version' is -1, less than 0; write 0 or more"),
        (
            {"event_time": "at", "watermark": {"delay": "1h"}},
            "the files of a Delta table have no order: compaction puts rows of many times into one file",
        ),
    ],
)
def test_what_is_said_wrongly(tmp_path: Path, source: dict[str, Any], told: str) -> None:
    lake = Lake(tmp_path, source)
    lake.write([1], at=[START])
    assert told in lake.refusal()


def test_clones(tmp_path: Path) -> None:
    """A shallow clone names the files of another table in full."""
    lake = Lake(tmp_path)
    lake.write([1])
    file = next((tmp_path / "t").glob("*.parquet"))
    (tmp_path / "other").mkdir()
    file.rename(tmp_path / "other" / file.name)
    edit(lake, "add", path=(tmp_path / "other" / file.name).as_uri())
    lake.run()
    assert lake.rows == Counter([(1,)])


def test_backfill_times_and_gates(tmp_path: Path) -> None:
    """Files are chosen by event times, by when they were written; rows that a gate set aside come back without it."""
    lake = Lake(tmp_path, {"event_time": "at"}, optimize="storage")
    for day in (1, 2, 3):
        lake.write([day], by=["at"], at=[datetime(2024, 1, day, tzinfo=UTC)])
    lake.run(window=(date(2024, 1, 2), date(2024, 1, 3)))
    assert {row[0] for row in lake.rows} == {2}
    assert lake.run(until=datetime(2024, 1, 1, tzinfo=UTC)).left == 0  # they were written later
    assert {row[0] for row in lake.rows} == {2}
    lake.source["gate"] = [{"not_in_set": {"column": "id", "values": [3], "action": "quarantine"}}]
    lake.run()
    assert {row[0] for row in lake.rows} == {1, 2}
    lake.source["gate"] = []
    lake.done()
