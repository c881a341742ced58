"""First lines of text that are none: all of a file would be its header, and no row of it told of."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import DefinitionError, LazypipeError


def compiled(folder: Path, content: bytes, uri: str = "a.csv", **more: object) -> lp.Plan:
    (folder / "a.csv").write_bytes(content)
    return lp.pipeline("p", base=str(folder)).source("s", uri, **more).output("s", "out").build().compile()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"id,name\r1,a\r2,b\r",
            "lines end in CR only, so the whole file is read as one header; write LF, or CR LF, at the end of each line",
        ),
        (
            b"id;name\r1;a\r2;b\r",
            "lines end in CR only, so the whole file is read as one header; write LF, or CR LF, at the end of each line",
        ),
        (b"\xd0\xcf\x11\xe0" + bytes(60), "the first line holds zero bytes: the file is not text; deliver it as text"),
    ],
)
def test_what_is_no_line_is_no_header(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        compiled(tmp_path, content)
    assert str(caught.value) == f"sources.s: {said}"


def test_names_may_hold_line_breaks_that_are_quoted(tmp_path: Path) -> None:
    assert compiled(tmp_path, b'id,"two\r\nlines"\n1,a\n').schema("s").names() == ["id", "two\r\nlines"]


def test_a_pattern_that_tells_no_format_is_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError) as caught:
        compiled(tmp_path, b"id;name\n1;a\n", "*", read={"separator": ";"})
    assert str(caught.value) == (
        "sources.s.read: read is for CSV, and this is parquet; "
        "add format: csv, since the source's name does not tell, or remove read"
    )


@pytest.mark.parametrize(("mark", "shown"), [(";", ";"), (",", ","), ("\t", r"\t")])
@pytest.mark.parametrize("given", [{}, {"separator": ";"}])
def test_a_line_for_excel_is_no_header(tmp_path: Path, mark: str, shown: str, given: dict[str, str]) -> None:
    content = f"\ufeffsep={mark}\r\nid{mark}name\r\n1{mark}a\r\n".encode()
    fix = f'say read: {{separator: "{shown}", skip_rows: 1}}'
    for contract in ({}, {"contract": {"columns": {"id": "Int64"}}}):
        with pytest.raises(DefinitionError) as caught:
            compiled(tmp_path, content, read=given, **contract)
        told = str(caught.value)
        assert told.endswith(f"the first line, 'sep={shown}', is for Excel, and not the header; {fix}")
        plan = compiled(tmp_path, content, read={"separator": mark, "skip_rows": 1}, **contract)
        assert plan.schema("s") == {"id": pl.Int64, "name": pl.String}


def test_other_encodings_are_to_be_converted(tmp_path: Path) -> None:
    plan = compiled(tmp_path, "id,name\n1,Müller\n".encode("cp1252"), format="csv")
    with pytest.raises(LazypipeError) as caught:
        plan.run().raise_for_status()
    assert str(caught.value).endswith(
        "is not readable as csv: the text is not UTF-8; convert it, such as with iconv -f WINDOWS-1252 -t UTF-8, "
        "or declare columns in contract: on_type_change: discard_row quarantines such rows"
    )
