"""Delta tables of others as values: files, columns, partitions and rows are those that deltalake tells, on any protocol."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import deltalake
import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lazypipe.errors import SourceError, StorageError
from lazypipe.storage.files import FileInfo
from lazypipe.storage.lake.log import FOLDER
from lazypipe.storage.lake.table import LakeTable, read_table, rewrites
from lazypipe.storage.scan import FILE_COLUMN


def in_memory(folder: str, name: str) -> str:
    """Copy a table to a protocol that Polars does not read itself."""
    fs = fsspec.filesystem("memory")
    fs.put(folder, f"/{name}", recursive=True)
    return f"memory://{name}"


def rows(table: LakeTable, **how: Any) -> Counter[Any]:
    return Counter(table.scan(table.files, **how).collect().rows())


def theirs(uri: str, version: int | None = None) -> Counter[Any]:
    found = deltalake.DeltaTable(uri, version=version).to_pyarrow_table()
    return Counter(pl.DataFrame(found).rows())


def test_versions_and_protocols(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    deltalake.write_deltalake(uri, pl.DataFrame({"id": [1, 2], "k": ["a/b", None]}), partition_by=["k"])
    more = pl.DataFrame({"id": [3], "k": ["a/b"], "at": [datetime(2024, 1, 1, tzinfo=UTC)], "d": [Decimal("1.50")]})
    deltalake.write_deltalake(uri, more, mode="append", schema_mode="merge")
    deltalake.DeltaTable(uri).delete("id = 2")
    memory = in_memory(uri, tmp_path.name)
    for version in range(3):
        for place in (uri, f"file://{uri}", memory):
            table = read_table(place, version=version)
            assert table.version == version
            assert rows(table) == theirs(uri, version)
            assert sum(table.rows.values()) == rows(table).total()
    assert read_table(uri).schema == pl.scan_delta(uri).collect_schema()
    assert {f.uri for f in table.files} == {f"{memory}/{f}" for f in unquoted(uri)}
    # without a file nothing is read, and each row tells its file
    assert table.scan([], file_column=True).collect_schema() == {**table.schema, FILE_COLUMN: pl.String()}
    looked: dict[FileInfo, pl.Schema] = {}
    one = table.scan(table.files[:1], file_column=True, looked=looked).collect()
    assert (set(one[FILE_COLUMN]), [*looked]) == ({table.files[0].uri}, [table.files[0]])
    assert table.scan(table.files[:1], looked=looked).collect().height == 1


def unquoted(uri: str) -> list[str]:
    return [str(Path(f).relative_to(uri)) for f in deltalake.DeltaTable(uri).file_uris()]


FILES: dict[str, Any] = {
    "at": pa.array([datetime(2024, 1, 1, 5, 0, 0, 250)] * 2, pa.timestamp("us")),
    "seen": pa.array([datetime(2024, 1, 1, 5)] * 2, pa.timestamp("ms", "UTC")),
    "zoned": pa.array([datetime(2024, 1, 1, 5)] * 2, pa.timestamp("us", "Europe/Paris")),
    "n": pa.array([1, None], pa.int32()),
    "x": pa.array([0.5, None], pa.float32()),
}
TYPES = {"at": "timestamp", "seen": "timestamp_ntz", "zoned": "timestamp", "n": "long", "x": "double", "none": "string"}


def written(root: Path, **columns: Any) -> str:
    """Write a table by hand, as other engines do: narrower columns, times in other units."""
    (root / "t" / FOLDER).mkdir(parents=True)
    pq.write_table(pa.table(columns), root / "t/a.parquet")
    fields = [{"name": n, "type": t, "nullable": True, "metadata": {}} for n, t in TYPES.items()]
    metadata = {"id": "7", "schemaString": json.dumps({"type": "struct", "fields": fields}), "partitionColumns": []}
    add = {"path": "a.parquet", "partitionValues": {}, "size": (root / "t/a.parquet").stat().st_size}
    lines = [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}, {"metaData": metadata}, {"add": add}]
    (root / "t" / FOLDER / f"{0:020}.json").write_text("\n".join(map(json.dumps, lines)))
    return str(root / "t")


def test_files_of_other_engines(tmp_path: Path) -> None:
    uri = written(tmp_path, **FILES)
    at = datetime(2024, 1, 1, 5, 0, 0, 250, tzinfo=UTC)
    seen, zoned = datetime(2024, 1, 1, 5), datetime(2024, 1, 1, 5, tzinfo=UTC)
    expected = Counter([(at, seen, zoned, 1, 0.5, None), (at, seen, zoned, None, None, None)])
    assert rows(read_table(uri)) == expected
    memory = read_table(in_memory(uri, tmp_path.name))
    assert rows(memory) == expected
    assert memory.rows == {}
    assert memory.files[0].stamp == "0"


def test_types_that_the_table_does_not_hold(tmp_path: Path) -> None:
    memory = read_table(in_memory(written(tmp_path, n=pa.array(["a"])), tmp_path.name))
    with pytest.raises(SourceError) as caught:
        memory.scan(memory.files)
    assert str(caught.value) == (
        f"{memory.files[0].uri}: the file has String in column 'n', which is Int64 in the Delta table; "
        "have the table's owner rewrite the file"
    )


VALUES = [
    (["1"], "short", 1),
    (["-2.5"], "double", -2.5),
    (["2.50"], "decimal(5,2)", Decimal("2.50")),
    (["2024-01-01T05:00:00.5Z"], "timestamp", datetime(2024, 1, 1, 5, 0, 0, 500_000, UTC)),
    (["2024-01-01 05:00:00"], "timestamp_ntz", datetime(2024, 1, 1, 5)),
    (["2024-01-01"], "date", date(2024, 1, 1)),
    (["false"], "boolean", False),
    ([""], "string", None),
    ([], "string", None),
]


@pytest.mark.parametrize(("text", "kind", "value"), VALUES)
def test_texts_of_partitions(tmp_path: Path, text: list[str], kind: str, value: Any) -> None:
    uri = written(tmp_path, **FILES)
    edit(uri, kind, dict.fromkeys(["none"], *text) if text else None)
    table = read_table(uri)
    assert table.keys == {f"{uri}/a.parquet": (value,)}
    assert table.scan(table.files).select("none").collect().rows() == [(value,)] * 2


@pytest.mark.parametrize(
    ("text", "kind"), [("x", "long"), ("maybe", "boolean"), ("1.x", "decimal(5,2)"), ("a", "binary")]
)
def test_texts_that_are_no_values(tmp_path: Path, text: str, kind: str) -> None:
    uri = written(tmp_path, **FILES)
    edit(uri, kind, {"none": text})
    with pytest.raises(
        StorageError, match=f"the Delta log says '{text}' of partition column 'none', which is not a valid "
    ):
        read_table(uri)


def edit(uri: str, kind: str, values: dict[str, str] | None, stats: Any = None) -> None:
    """Make ``none`` a partition column of a type, with a value that the log says."""
    path = Path(uri) / FOLDER / f"{0:020}.json"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    schema = json.loads(lines[1]["metaData"]["schemaString"])
    schema["fields"][-1]["type"] = kind
    lines[1]["metaData"] |= {"schemaString": json.dumps(schema), "partitionColumns": ["none"]}
    lines[2]["add"] |= {"partitionValues": values, "stats": stats, "deletionVector": {"storageType": None}}
    path.write_text("\n".join(map(json.dumps, lines)))


@pytest.mark.parametrize(
    ("stats", "count"),
    [("{", None), ("[]", None), ('{"numRecords": "2"}', None), ('{"numRecords": 2}', 2), (None, None)],
)
def test_counts_are_only_a_help(tmp_path: Path, stats: str | None, count: int | None) -> None:
    uri = written(tmp_path, **FILES)
    edit(uri, "string", {"none": "a"}, stats)
    assert read_table(uri).rows == ({} if count is None else {f"{uri}/a.parquet": count})


def test_what_versions_did_to_files(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    for number in range(2):
        deltalake.write_deltalake(uri, pl.DataFrame({"id": [number]}), mode="append")
    before = {f.uri for f in read_table(uri).files}
    deltalake.DeltaTable(uri).optimize.compact()
    (packed,) = (f.uri for f in read_table(uri).files)
    deltalake.DeltaTable(uri).delete()
    table = read_table(uri)
    first, second = rewrites(table, None, -1) or ()
    assert (first.version, {*first.went}, first.came, first.same) == (2, before, (packed,), True)
    assert second == (3, (packed,), (), False)
    assert rewrites(table, None, 2) == [second]
    assert rewrites(table, None, 3) == []
    deltalake.DeltaTable(uri).create_checkpoint()
    Path(uri, FOLDER, f"{2:020}.json").unlink()
    assert rewrites(read_table(uri), None, 1) is None


def test_many_versions_and_checkpoints(tmp_path: Path) -> None:
    uri = str(tmp_path / "t")
    for number in range(12):
        frame = pl.DataFrame({"id": [number], "day": [date(2024, 1, 1 + number % 3)]})
        deltalake.write_deltalake(uri, frame, mode="append", partition_by=["day"])
        if number == 9:
            deltalake.DeltaTable(uri).create_checkpoint()
    table = read_table(uri)
    Path(uri, FOLDER, f"{3:020}.json").unlink()
    assert read_table(uri) == table
    assert table.keys == read_table(uri).keys
    assert rows(table) == theirs(uri)
    assert [f.uri for f in table.in_order(table.files)] == [f.uri for f in table.files]
    with pytest.raises(
        StorageError, match="version 0 of the Delta log is missing|version 3 of the Delta log is missing"
    ):
        read_table(uri, version=4)
