"""Fields of NDJSON that no column takes: none is passed over in silence, wherever it first comes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.errors import SourceError
from lazypipe.spec.types import dtype_from_name
from lazypipe.storage.files import FileInfo
from lazypipe.storage.scan import Reader
from lazypipe.storage.text.fields import refuse_unknown_fields
from lazypipe.testing.faults import faulty

BEYOND = 10_000
"""The lines that types are taken from."""


def put(path: Path, *lines: Any) -> FileInfo:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return FileInfo(str(path), path.stat().st_size)


def refusal(files: list[FileInfo], **schema: str) -> str | None:
    try:
        refuse_unknown_fields(files, Reader("ndjson"), pl.Schema({n: dtype_from_name(t) for n, t in schema.items()}))
    except SourceError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("schema", "line", "field", "declared"),
    [
        ({"a": "Int64"}, {"a": 1, "b": 2}, "b", "{b: {type: Int64, on_missing_column: evolve}}"),
        ({"a": "Int64"}, {"b": {"c": [1]}}, "b", "{b: {type: 'Struct(c: List(Int64))', on_missing_column: evolve}}"),
        ({"s": "Struct(a: Int64)"}, {"s": {"b": "x"}}, "s.b", "{s: 'Struct(a: Int64, b: String)'}"),
        ({"s": "Struct(a: Struct(b: Int64))"}, {"s": {"a": {"c": []}}}, "s.a.c", "{s: 'Struct(a: Struct(b: Int64, c: List(Null)))'}"),
        ({"l": "List(Struct(p: Int64))"}, {"l": [{"p": 1}, None, {"q": True}]}, "l[].q", "{l: 'List(Struct(p: Int64, q: Boolean))'}"),
        ({"l": "List(List(Struct(p: Int64)))"}, {"l": [[{"q": 1}]]}, "l[][].q", "{l: 'List(List(Struct(p: Int64, q: Int64)))'}"),
        ({"l": "Array(Struct(p: Int64), 1)"}, {"l": [{"q": 1}]}, "l[].q", "{l: 'Array(Struct(p: Int64, q: Int64), 1)'}"),
        ({"m": "Map(String, Struct(p: Int64))"}, {"m": {"k": {"q": 1}}}, "m.k.q", "{m: 'Map(String, Struct(p: Int64, q: Int64))'}"),
        ({"s": "Struct(a: Int64)"}, {"s": {"it's": 1}}, "s.it's", "{s: 'Struct(a: Int64, it''s: Int64)'}"),
    ],
)  # fmt: skip
def test_a_field_that_no_column_takes(
    tmp_path: Path, schema: dict[str, str], line: Any, field: str, declared: str
) -> None:
    file = put(tmp_path / "x.ndjson", {}, "", line, line)
    assert refusal([file], **schema) == (
        f"{file.uri}: line 3 has a field {field!r} that no column takes; declare columns: {declared} in contract, "
        "or leave out what is not declared: on_new_column: discard_column"
    )
    # what is said to be declared is what takes it
    top = re.split(r"[.[]", field, maxsplit=1)[0]
    said = declared.removeprefix(f"{{{top}: ").removeprefix("{type: ").partition(", on_missing")[0].removesuffix("}")
    assert refusal([file], **{**schema, top: said.strip("'").replace("''", "'")}) is None


@pytest.mark.parametrize(
    ("schema", "line"),
    [
        ({"a": "Int64"}, {"a": 1, "b": None}),
        ({"s": "Struct(a: Int64)"}, {"s": {"a": 1, "b": None}}),
        ({"s": "String"}, {"s": {"a": 1}}),
        ({"m": "Map(String, Int64)"}, {"m": {"k": 1, "l": 2}}),
        ({"s": "String"}, '{"s": [{"a": 1}, 5]}'),
    ],
)
def test_what_is_null_or_kept_as_text_or_as_a_key_is_not_lost(
    tmp_path: Path, schema: dict[str, str], line: Any
) -> None:
    assert refusal([put(tmp_path / "x.ndjson", line)], **schema) is None


def test_lines_that_no_one_type_holds_are_looked_at_one_by_one(tmp_path: Path) -> None:
    mixed = [{"t": [1]}, {"t": {"a": 1}}]
    assert refusal([put(tmp_path / "x.ndjson", *mixed)], t="String") is None
    found = refusal([put(tmp_path / "y.ndjson", *mixed, {"t": 5, "u": 6})], t="String")
    assert found is not None
    assert "y.ndjson: line 3 has a field 'u' that no column takes; " in found


def test_many_files_are_looked_at_together(tmp_path: Path) -> None:
    files = [put(tmp_path / f"{n}.ndjson", {"a": n}, {"a": n}) for n in range(300)]
    assert refusal(files, a="Int64") is None
    files[280] = put(tmp_path / "280.ndjson", {"a": 1}, {"b": 1})
    found = refusal(files, a="Int64")
    assert found is not None
    assert found.startswith(f"{tmp_path}/280.ndjson: line 2 has a field 'b' that no column takes; ")


def test_of_a_part_lines_are_counted_from_the_start_of_its_file(tmp_path: Path) -> None:
    file = put(tmp_path / "x.ndjson", {"a": 1}, {"a": 2}, {"a": 3}, {"b": 4})
    found = refusal([file._replace(start=18, end=file.size)], a="Int64")
    assert found is not None
    assert ": line 4 has a field 'b' " in found


def test_a_file_that_is_gone_when_it_is_looked_at(tmp_path: Path) -> None:
    file = FileInfo(str(tmp_path / "x.ndjson"), 5)
    assert refusal([file], a="Int64") == (
        f"{file.uri}: is not readable as ndjson: No such file or directory; fix the cause and run again"
    )


VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | st.booleans(),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=6,
)
TYPES = st.recursive(
    st.just(pl.Int64()),
    lambda inner: (
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=2).map(pl.Struct) | inner.map(pl.List)
    ),
    max_leaves=5,
)


@given(dtype=TYPES, rows=st.lists(VALUES, min_size=1, max_size=4))
def test_what_is_let_pass_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, dtype: Any, rows: list[Any]
) -> None:
    """The oracle is the reader: values that it takes without an error come out as they stood, or the fields are refused."""
    file = put(tmp_path_factory.mktemp("f") / "x.ndjson", *({"x": row} for row in rows))
    schema = pl.Schema({"x": dtype})
    try:
        read = Reader("ndjson").scan([file], schema).collect()["x"].to_list()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return
    try:
        refuse_unknown_fields([file], Reader("ndjson"), schema)
        lost = False
    except SourceError:
        lost = True
    assert lost == (list(map(said, rows)) != list(map(said, read)))


def said(value: Any) -> Any:
    """Return what a value says: a field that is null says nothing."""
    if isinstance(value, dict):
        return {n: said(v) for n, v in value.items() if v is not None}
    return list(map(said, value)) if isinstance(value, list) else value


# in pipelines


@pytest.fixture
def data(somewhere: str) -> str:
    return somewhere


def run(data: str, base: Path, files: dict[str, list[Any]], **source: Any) -> lp.RunResult:
    for name, lines in files.items():
        with fsspec.open(f"{data}/in/{name}.ndjson", "w", auto_mkdir=True) as handle:
            handle.write("".join(json.dumps(line) + "\n" for line in lines))
    pipe = lp.pipeline("p", base=str(base)).source("a", f"{data}/in/*.ndjson", **source).output("a", "out").build()
    return pipe.compile().run()


LATE = {
    "top": ({"id": 7, "s": {"a": 7}, "more": "x"}, "more", "more: {type: String, on_missing_column: evolve}"),
    "nested": ({"id": 7, "s": {"a": 7, "b": 8}}, "s.b", "s: 'Struct(a: Int64, b: Int64)'"),
}


@pytest.mark.parametrize("kind", LATE)
@pytest.mark.parametrize("new", [None, "ignore", "evolve", "discard_row"])
def test_a_field_behind_the_lines_that_types_are_taken_from(
    tmp_path: Path, data: str, kind: str, new: str | None
) -> None:
    line, field, declared = LATE[kind]
    lines = [{"id": n, "s": {"a": n}} for n in range(BEYOND)]
    types = {"id": "Int64", "s": "Struct(a: Int64)"}
    source: dict[str, Any] = {} if new is None else {"contract": {"columns": types, "on_new_column": new}}
    result = run(data, tmp_path, {"f": [*lines, line]}, **source)
    assert str(result.segments[0].error) == (
        f"{data}/in/f.ndjson: source 'a': line 10001 has a field {field!r} that no column takes; "
        f"declare columns: {{{declared}}} in contract, or leave out what is not declared: on_new_column: discard_column"
    )
    assert not (tmp_path / "out.commits").exists()
    # both of what is said can be done
    more = (
        {"more": {"type": "String", "on_missing_column": "evolve"}}
        if kind == "top"
        else {"s": "Struct(a: Int64, b: Int64)"}
    )
    run(data, tmp_path, {}, contract={"columns": types | more}).raise_for_status()
    out = lp.scan(str(tmp_path / "out")).collect()
    expected: Any = [None, "x"] if kind == "top" else [{"a": 0, "b": None}, {"a": 7, "b": 8}]
    assert out["more" if kind == "top" else "s"].to_list()[:: len(lines)] == expected
    run(data, tmp_path, {}, contract={"columns": types, "on_new_column": "discard_column"}).raise_for_status()
    assert lp.scan(str(tmp_path / "out")).collect().rows(named=True)[-1] == {"id": 7, "s": {"a": 7}}


@pytest.mark.parametrize("kind", LATE)
def test_a_field_that_only_a_later_file_has(tmp_path: Path, data: str, kind: str) -> None:
    line, field, _ = LATE[kind]
    files = {"f1": [{"id": 1, "s": {"a": 1}}], "f2": [line]}
    result = run(data, tmp_path, files)
    assert f"/in/f2.ndjson: source 'a': line 1 has a field {field!r} that no column takes; " in str(
        result.segments[0].error
    )
    # to follow columns is to follow fields, in the type that is declared or found
    for columns in ({}, {"s": "Struct(a: Int64)"}):
        for change in ("fail", "evolve"):
            contract = {"columns": columns, "on_new_column": "evolve", "on_type_change": change}
            run(data, tmp_path, {}, contract=contract).raise_for_status()
            out = lp.scan(str(tmp_path / "out")).collect().sort("id").rows(named=True)
            first = {"id": 1, "s": {"a": 1}, "more": None} if kind == "top" else {"id": 1, "s": {"a": 1, "b": None}}
            assert out == [first, line]


def test_fields_grow_inside_lists_and_to_wider_types(tmp_path: Path, data: str) -> None:
    files = {"f1": [{"l": [{"a": 1, "t": 1}]}], "f2": [{"l": [{"b": 2, "a": 1.5, "t": "x"}]}]}
    contract = {"columns": {}, "on_new_column": "evolve", "on_type_change": "evolve"}
    run(data, tmp_path, files, contract=contract).raise_for_status()
    out = lp.scan(str(tmp_path / "out")).collect()["l"].to_list()
    assert out == [[{"a": 1.0, "t": "1", "b": None}], [{"a": 1.5, "t": "x", "b": 2}]]


def test_a_connection_that_is_lost_as_fields_are_looked_for() -> None:
    with faulty() as faults:
        data = "faulty://"
        fsspec.filesystem("faulty").pipe_file("a.ndjson", b'{"a": 1}\n')
        file = FileInfo(f"{data}a.ndjson", 9)
        faults.fail("read", ConnectionResetError(104, "Connection reset by peer"))
        assert refusal([file], a="Int64") == (
            "faulty://a.ndjson: cannot be read: Connection reset by peer; check permissions and network"
        )
