"""Corrupt files beside files that a contract has to adapt: one is set aside, the others lose nothing."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import fsspec
import polars as pl
import pytest

import lazypipe as lp

ROWS = pl.DataFrame({"x": ["1", "two"], "y": ["a", "b"]})
CONTRACT = {
    "columns": {"x": "Int64", "y": "String", "z": {"type": "Float64", "on_missing_column": "evolve"}},
    "on_new_column": "evolve",
    "on_type_change": "discard_row",
}


def encoded(frame: pl.DataFrame, kind: str) -> bytes:
    buffer = io.BytesIO()
    write = {"parquet": frame.write_parquet, "arrow": frame.write_ipc, "csv": frame.write_csv}.get(kind)
    (write or frame.write_ndjson)(buffer)  # type: ignore[operator]
    return buffer.getvalue()


def garbled(data: bytes) -> bytes:
    """Return a Parquet file in whose footer other bytes stand, of the length that it says."""
    length = int.from_bytes(data[-8:-4], "little")
    return data[: -8 - length] + b"\xff" * 16 + data[-8 - length + 16 :]


CORRUPTIONS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "truncated Parquet": ("parquet", lambda data: data[: len(data) // 2]),
    "truncated Arrow": ("arrow", lambda data: data[: len(data) // 2]),
    "garbage in a Parquet footer": ("parquet", garbled),
    "a Parquet footer of another length": ("parquet", lambda data: data[:-8] + b"\xff\xff\xff\x7fPAR1"),
    "no Parquet at all": ("parquet", lambda _: b"nothing of the kind, but long enough to be one"),
    "zero bytes of Parquet": ("parquet", lambda _: b""),
    "zero bytes of CSV": ("csv", lambda _: b""),
    "zero bytes of NDJSON": ("ndjson", lambda _: b""),
    "no text at all": ("csv", lambda data: data.decode().encode("utf-16")),
    "no text in any line": ("ndjson", lambda _: b"\xff\n\xfe\n"),
    "wrong gzip of CSV": ("csv.gz", lambda data: b"x,y\n" + data),
    "truncated gzip of CSV": ("csv.gz", lambda data: data[:-12]),
    "wrong gzip of NDJSON": ("ndjson.gz", lambda data: b"{}" + data),
}


@pytest.fixture
def root(somewhere: str) -> str:
    return f"{somewhere}/in"


def world(root: str, base: Path, case: str, on_corrupt: str) -> lp.Pipeline:
    """Three files, the second corrupt, the third with a further column."""
    kind, corrupt = CORRUPTIONS[case]
    fs, folder = fsspec.core.url_to_fs(root)
    fs.makedirs(folder, exist_ok=True)
    for name, frame in {"f1": ROWS, "f2": ROWS, "f3": ROWS.with_columns(extra=pl.lit("e"))}.items():
        data = encoded(frame, kind.split(".")[0])
        data = gzip.compress(data) if kind.endswith(".gz") else data
        fs.pipe_file(f"{folder}/{name}.{kind}", corrupt(data) if name == "f2" else data)
    made = lp.pipeline("p", base=str(base)).source("a", f"{root}/*.{kind}", contract=CONTRACT, on_corrupt=on_corrupt)
    return made.output("a", "out").build()


# what becomes of a file has nothing to do with where it is: of each kind of file, one corruption meets all pairs
FIRST = {kind: case for case, (kind, _) in reversed(CORRUPTIONS.items())}.values()
WAYS = [("local", case, "quarantine_file") for case in CORRUPTIONS] + [("memory", case, "skip") for case in CORRUPTIONS]
WAYS += [("local", case, "skip") for case in FIRST] + [("memory", case, "quarantine_file") for case in FIRST]


@pytest.mark.parametrize(("root", "case", "on_corrupt"), WAYS, indirect=["root"])
def test_the_rest_is_processed(tmp_path: Path, root: str, case: str, on_corrupt: str) -> None:
    result = world(root, tmp_path, case, on_corrupt).compile().run()
    result.raise_for_status()
    (found,) = result.corrupt
    assert "/f2." in found.uri
    assert found.why
    out = lp.scan(str(tmp_path / "out")).collect().sort("extra")
    assert out.select("x", "y", "z", "extra").rows() == [(1, "a", None, None), (1, "a", None, "e")]
    bad = lp.scan(str(tmp_path / "out__quarantine")).collect()
    assert bad["y"].to_list() == ["b", "b"]
    assert [json.loads(t)["x"] for t in bad["_lazypipe_raw"]] == ["two", "two"]


@pytest.mark.parametrize("case", CORRUPTIONS)
def test_the_file_is_named_and_nothing_is_published(tmp_path: Path, root: str, case: str) -> None:
    try:
        error = world(root, tmp_path, case, "fail").compile().run().segments[0].error
    except lp.LazypipeError as raised:
        error = raised
    assert "/f2." in str(error)
    assert "\n" not in str(error)
    assert not (tmp_path / "out.commits").exists()
