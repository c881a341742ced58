"""Numbers in text that their column's type does not hold: none becomes another in silence."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.storage.text.cells import is_no_float

FORMS = ["csv", "ndjson"]


@pytest.fixture
def data(somewhere: str) -> str:
    return somewhere


def run(data: str, base: Path, form: str, cells: list[str], **source: Any) -> lp.RunResult:
    lines = ["id,t", *(f"{n},{c}" for n, c in enumerate(cells))]
    if form == "ndjson":
        lines = [f'{{"id": {n}, "t": {c or "null"}}}' for n, c in enumerate(cells)]
    with fsspec.open(f"{data}/in.{form}", "w", auto_mkdir=True) as handle:
        handle.write("\n".join(lines) + "\n")
    pipe = lp.pipeline("p", base=str(base)).source("a", f"{data}/in.{form}", **source).output("a", "out").build()
    return pipe.compile().run()


def published(base: Path) -> list[Any]:
    return lp.scan(str(base / "out")).collect()["t"].to_list()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", ["fail", "freeze", "evolve"])
def test_a_decimal_with_more_digits_is_refused(tmp_path: Path, data: str, form: str, mode: str) -> None:
    contract = {"columns": {"t": "Decimal(9, 2)"}, "on_type_change": mode}
    result = run(data, tmp_path, form, ["1.25", "1.550", "", "1.555", "2.345"], contract=contract)
    line = 5 if form == "csv" else 4
    assert str(result.segments[0].error) == (
        f"{data}/in.{form}: source 'a': column 't' has 2 values that are not a valid Decimal(9, 2), such as '1.555' (line {line}); "
        "declare one with as many digits, fix the file, or say on_type_change: discard_row or discard_column"
    )
    assert not (tmp_path / "out.commits").exists()
    run(data, tmp_path, form, ["1.25", "1.550", ""], contract=contract).raise_for_status()
    assert published(tmp_path) == [Decimal("1.25"), Decimal("1.55"), None]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_decimal_is_told_by_its_line(tmp_path: Path, data: str, form: str) -> None:
    cell = "abc" if form == "csv" else '"abc"'
    result = run(data, tmp_path, form, ["1.25", cell], contract={"columns": {"t": "Decimal(9, 2)"}})
    line = 3 if form == "csv" else 2
    assert str(result.segments[0].error) == (
        f"{data}/in.{form}: source 'a': column 't' has 1 value that is not a valid Decimal(9, 2), such as 'abc' (line {line}); "
        "fix the file, or say on_type_change: discard_row or discard_column"
    )


LARGE = "9007199254740993"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("contract", [None, *({"columns": {}, "on_type_change": m} for m in ("fail", "freeze", "evolve")), {"columns": {"t": {"type": "Int64", "on_type_change": "evolve"}}}])  # fmt: skip
def test_whole_numbers_that_no_float_holds_beside_fractions(
    tmp_path: Path, data: str, form: str, contract: Any
) -> None:
    given = {} if contract is None else {"contract": contract}
    cells = ["1.5", "9007199254740992", LARGE, "-9007199254740995", "1"]
    result = run(data, tmp_path, form, cells, **given)
    line, exact = (4, "String or Decimal(38, 9)") if form == "csv" else (3, "String")
    assert str(result.segments[0].error) == (
        f"{data}/in.{form}: source 'a': line {line} has '{LARGE}' in column 't', which does not fit in a Float64; "
        f"declare the type of 't' in contract: {exact} keeps it, Float64 takes what is nearest"
    )
    assert not (tmp_path / "out.commits").exists()
    # all of what is said does what it says
    for dtype, expected in {
        "String": cells,
        "Decimal(38, 9)": [Decimal(c) for c in cells],
        "Float64": [float(c) for c in cells],
    }.items():
        if dtype.split("(")[0] not in f"{exact} Float64":
            continue
        run(data, tmp_path, form, cells, contract={"columns": {"t": dtype}}).raise_for_status()
        assert published(tmp_path) == expected


@pytest.mark.parametrize("form", FORMS)
def test_large_numbers_that_are_floats_pass(tmp_path: Path, data: str, form: str) -> None:
    cells = ["1.5", "9007199254740992", "18014398509481988", "1e300", "-1e22", "10000000000000000000000.5"]
    run(data, tmp_path, form, cells).raise_for_status()
    assert published(tmp_path) == [float(c) for c in cells]


def test_a_number_far_behind_the_rows_that_types_are_taken_from(tmp_path: Path, data: str) -> None:
    result = run(data, tmp_path, "csv", [*["1.5"] * 12_000, LARGE])
    assert f"line 12002 has '{LARGE}' in column 't'" in str(result.segments[0].error)


def test_personal_data_is_not_told(tmp_path: Path, data: str) -> None:
    result = run(data, tmp_path, "csv", ["1.5", LARGE], columns={"t": {"tags": ["pii"]}})
    assert "line 3 has *** in column 't', which does not fit in a Float64" in str(result.segments[0].error)


@pytest.mark.parametrize("mode", ["discard_row", "discard_column"])
def test_they_go_where_cells_go_that_do_not_fit(tmp_path: Path, data: str, mode: str) -> None:
    run(data, tmp_path, "csv", ["1.5", LARGE, "2"], contract={"columns": {}, "on_type_change": mode}).raise_for_status()
    assert published(tmp_path) == ([1.5, 2.0] if mode == "discard_row" else [1.5, None, 2.0])
    if mode == "discard_row":
        (aside,) = lp.scan(str(tmp_path / "out__quarantine")).collect().rows(named=True)
        assert json.loads(aside["_lazypipe_raw"])["t"] == LARGE
        assert aside["_lazypipe_rules"] == ["type:t"]


def test_with_another_mark_for_fractions(tmp_path: Path, data: str) -> None:
    result = run(data, tmp_path, "csv", ['"1,5"', LARGE], read={"decimal_comma": True})
    assert f"column 't' has 1 value that is not a valid Float64, such as '{LARGE}' (line 3)" in str(
        result.segments[0].error
    )


@given(st.lists(st.integers(-(10**40), 10**40) | st.integers(-(2**55), 2**55), min_size=1))
def test_which_whole_numbers_are_floats(numbers: list[int]) -> None:
    """The oracle are Python's fractions, which have no end."""
    frame = pl.DataFrame({"t": [str(n) for n in numbers]})
    # beyond the widest type it is the digits that tell
    many = [len(str(abs(n)).rstrip("0")) > 17 for n in numbers]
    expected = [m if abs(float(n)) >= 2**127 else Fraction(float(n)) != n for n, m in zip(numbers, many, strict=True)]
    assert frame.select(is_no_float(pl.col("t"))).to_series().to_list() == expected
