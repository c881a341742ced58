"""Text shows no widths: a declared type that is too narrow for a later number is no type that changed, and is told as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lazypipe as lp

FIX = "declare a type in contract that holds it, in the place of Int32: text shows no widths, so evolve follows none"


def plan(base: Path, fmt: str, dtype: str, **source: Any) -> lp.Plan:
    contract = {"columns": {"x": dtype}, "on_type_change": "evolve"}
    pipe = lp.pipeline("p", base=str(base), audit="off").source("a", f"in/*.{fmt}", contract=contract, **source)
    return pipe.stage("s", "a").output("s", "s").build().compile()


@pytest.mark.parametrize(("fmt", "row"), [("csv", "{}\n"), ("ndjson", '{{"x":{}}}\n')])
@pytest.mark.parametrize("masked", [False, True])
def test_a_number_that_is_too_large_for_its_declared_type(tmp_path: Path, fmt: str, row: str, masked: bool) -> None:
    (tmp_path / "in").mkdir()
    head = "x\n" if fmt == "csv" else ""
    (tmp_path / f"in/1.{fmt}").write_text(head + row.format(1))
    tags: dict[str, Any] = {"columns": {"x": {"tags": ["pii"]}}} if masked else {}
    if not masked:
        plan(tmp_path, fmt, "Int32").run().raise_for_status()
    (tmp_path / f"in/2.{fmt}").write_text(head + row.format(5_000_000_000))
    source = lp.pipeline("p", base=str(tmp_path), audit="off").source(
        "a", f"in/*.{fmt}", contract={"columns": {"x": "Int32"}, "on_type_change": "evolve"}, **tags
    )
    made = source.stage("s", "a", do=[{"aggregate": {"aggregate": {"n": "count(x)"}}}]).output("t", "t", from_="s")
    with pytest.raises(lp.RunError) as caught:
        (made.build().compile() if masked else plan(tmp_path, fmt, "Int32")).run().raise_for_status()
    said = str(caught.value)
    assert FIX in said
    assert f"in/2.{fmt}" in said
    assert ("5000000000" in said) is not masked
    # with the type that is asked for, all is read; and a fraction is followed, for text shows that
    plan(tmp_path, fmt, "Int64").run().raise_for_status()
    (tmp_path / f"in/3.{fmt}").write_text(head + row.format(0.5))
    plan(tmp_path, fmt, "Int64").run().raise_for_status()
    assert sorted(lp.scan(str(tmp_path / "s")).collect()["x"].to_list()) == [0.5, 1.0, 5_000_000_000.0]


@pytest.mark.parametrize(("dtype", "cell", "read"), [("Int64", '"5"', 5), ("Float64", '"1.5"', 1.5), ("Boolean", '"true"', True)])  # fmt: skip
def test_a_value_in_quotes_is_not_too_large_and_what_is_said_about_it_works(
    tmp_path: Path, dtype: str, cell: str, read: Any
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/1.ndjson").write_text(f'{{"x":null}}\n{{"x":{cell}}}\n')
    with pytest.raises(lp.RunError) as caught:
        plan(tmp_path, "ndjson", dtype).run().raise_for_status()
    value = cell.strip('"')
    assert str(caught.value).endswith(
        f"in/1.ndjson: source 'a': is not readable as ndjson: '{value}' is not a valid {dtype} (line 2); fix the line, declare another type in contract, "
        "or say on_type_change: discard_row there, which reads values in quotes, and quarantines rows that do not fit"
    )
    contract = {"columns": {"x": dtype}, "on_type_change": "discard_row"}
    pipe = lp.pipeline("p", base=str(tmp_path), audit="off").source("a", "in/*.ndjson", contract=contract)
    pipe.output("a", "a").build().compile().run().raise_for_status()
    assert set(lp.scan(str(tmp_path / "a")).collect()["x"]) == {None, read}
