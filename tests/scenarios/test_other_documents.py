"""What a download script saved under the name of a CSV file or another, and is none, is refused for what it is."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import DefinitionError, RunError


def archive() -> bytes:
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as made:
        made.writestr("a.csv", "id,x\n1,2\n")
    return found.getvalue()


def parquet() -> bytes:
    found = io.BytesIO()
    pl.DataFrame({"id": [1], "x": [2]}).write_parquet(found)
    return found.getvalue()


PAGE, XML = (
    "an HTML page, such as one that asks to log in",
    "an XML document, such as one with which a store says what went wrong",
)
DOCUMENTS = [
    (b"<!DOCTYPE html>\n<html><body>Log in</body></html>\n", PAGE),
    (b'\xef\xbb\xbf\n<html lang="de">\n<head>\n', PAGE),
    (b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>\n', XML),
    (b"<Error><Code>AccessDenied</Code></Error>\n", XML),
    (b'{"error": "not found", "code": 404}\n', "a JSON document"),
    (b'[\n  {"id": 1, "x": 2}\n]\n', "a JSON document"),
    (archive(), "a zip archive, as which Excel keeps its workbooks"),
    (parquet(), "a Parquet file"),
]
CONTRACTS = [
    "",
    ", contract: {columns: {id: Int64, x: Int64}}",
    ", contract: {columns: {id: Int64}, on_new_column: evolve}",
]


def definition(folder: Path, more: str) -> lp.Pipeline:
    text = f"version: 1\nname: p\nsources: {{a: {{uri: in/*.csv{more}}}}}\noutputs: {{a: {{to: out}}}}\n"
    return lp.Pipeline.from_yaml(text, base=folder)


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize(("content", "what"), DOCUMENTS)
@pytest.mark.parametrize("name", ["1.csv", "3.csv"])
def test_a_document_is_no_csv(tmp_path: Path, content: bytes, what: str, contract: str, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/2.csv").write_text("id,x\n1,2\n")
    (tmp_path / "in" / name).write_bytes(content)
    with pytest.raises((DefinitionError, RunError)) as caught:
        definition(tmp_path, contract).compile().run().raise_for_status()
    told = f"the file is {what}, and not CSV; deliver it again, or say on_corrupt: quarantine_file or skip"
    assert told in str(caught.value)
    assert f"{tmp_path}/in/{name}: " in str(caught.value)
    result = definition(tmp_path, f"{contract}, on_corrupt: skip").compile().run()
    result.raise_for_status()
    assert [(c.uri, c.why) for c in result.corrupt] == [(f"{tmp_path}/in/{name}", f"the file is {what}, and not CSV")]
    assert lp.scan(str(tmp_path / "out")).select("id", "x").collect().rows() == [(1, 2)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("PAR1,PAR2\n1,2\n", ["PAR1", "PAR2"]),
        ("[id],[x]\n1,2\n", ["[id]", "[x]"]),
        ("PKZ,<b>\n1,2\n", ["PKZ", "<b>"]),
        ("html,json\n1,2\n", ["html", "json"]),
        ("id,x\n", ["id", "x"]),
    ],
)
def test_headers_that_only_look_alike_are_read(tmp_path: Path, text: str, names: list[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/1.csv").write_text(text)
    for more in ("", ", on_corrupt: skip"):
        plan = definition(tmp_path, more).compile()
        assert plan.schema("a").names() == names
        assert plan.run().corrupt == ()


def test_without_a_header_such_text_is_a_cell(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/1.csv").write_text("<html>\n{}\n")
    plan = definition(tmp_path, ", read: {header: false}, on_corrupt: skip").compile()
    assert plan.run().corrupt == ()
    assert lp.scan(str(tmp_path / "out")).collect().rows() == [("<html>",), ("{}",)]


LINES = "write one JSON object per line, such as with jq -c '.[]'"
LINE = "write one JSON object per line, such as with jq -c ."
AGAIN = "deliver it again, or say on_corrupt: quarantine_file or skip"


def ipc() -> bytes:
    found = io.BytesIO()
    pl.DataFrame({"id": [1], "x": [2]}).write_ipc(found)
    return found.getvalue()


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize(
    ("form", "content", "what", "fix"),
    [
        ("ndjson", b'[{"id": 1, "x": 2}, {"id": 2, "x": 3}]\n', "a JSON array, and not NDJSON", LINES),
        ("ndjson", b'[\n  {"id": 1, "x": 2}\n]\n', "a JSON array, and not NDJSON", LINES),
        ("ndjson", b'{\n  "id": 1,\n  "x": 2\n}\n', "a JSON document over several lines, and not NDJSON", LINE),
        ("ndjson", DOCUMENTS[0][0], f"{PAGE}, and not NDJSON", AGAIN),
        ("ndjson", parquet(), "a Parquet file, and not NDJSON", AGAIN),
        ("parquet", DOCUMENTS[2][0], f"{XML}, and not Parquet", AGAIN),
        ("parquet", b"id,x\n1,2\n3,4\n5,6\n", "text, and not Parquet", AGAIN),
        ("parquet", ipc(), "an Arrow IPC file, and not Parquet", AGAIN),
        ("arrow", archive(), "a zip archive, as which Excel keeps its workbooks, and not Arrow IPC", AGAIN),
        ("arrow", parquet(), "a Parquet file, and not Arrow IPC", AGAIN),
    ],
)
def test_a_document_under_another_name(
    tmp_path: Path, form: str, content: bytes, what: str, fix: str, *, declared: bool
) -> None:
    path = tmp_path / f"a.{form}"
    path.write_bytes(content)
    contract = ", contract: {columns: {id: Int64, x: Int64}}" if declared else ""
    text = f"version: 1\nname: p\nsources: {{a: {{uri: 'a.{form}'{contract}}}}}\noutputs: {{a: {{to: out}}}}\n"
    with pytest.raises((DefinitionError, RunError)) as caught:
        lp.Pipeline.from_yaml(text, base=tmp_path).compile().run().raise_for_status()
    told = str(caught.value).replace(" (line 1)", "")
    assert told.endswith(f"the file is {what}; {fix}")
    assert f"{path}: " in told
    text = text.replace("uri:", "on_corrupt: skip, uri:")
    if declared:
        result = lp.Pipeline.from_yaml(text, base=tmp_path).compile().run()
        assert [c.why for c in result.corrupt] == [f"the file is {what}"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("contract", CONTRACTS)
def test_utf_16_is_to_be_converted(tmp_path: Path, encoding: str, contract: str) -> None:
    """As spreadsheets write what they call Unicode text."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/1.csv").write_bytes("id,x\n1,2\n".encode(encoding))
    with pytest.raises((DefinitionError, RunError)) as caught:
        definition(tmp_path, contract).compile().run().raise_for_status()
    assert str(caught.value).endswith(
        f"{tmp_path}/in/1.csv: the file is UTF-16 text, and not CSV; convert it, such as with iconv -f UTF-16 -t UTF-8"
    )


def test_lines_of_json_need_to_be_called_so(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"id": 1}\n')
    text = "version: 1\nname: p\nsources: {a: {uri: a.json}}\noutputs: {a: {to: out}}\n"
    with pytest.raises(DefinitionError) as caught:
        lp.Pipeline.from_yaml(text, base=tmp_path).compile()
    assert str(caught.value).endswith(
        "the format of 'a.json' is not known from its name; add format: ndjson, if it has one JSON object per line"
    )
