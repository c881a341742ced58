"""What the format of files has no way to write is told before anything is read."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import lazypipe as lp

HAS = {"csv": "abcfg", "ndjson": "abcdefgi", "parquet": "abcdefghij", "ipc": "abcdefghij"}


def pipe(base: Path, form: str, column: str = "*") -> lp.Pipeline:
    source = {"uri": "in.parquet"}
    stage = {"from": "in", "do": [] if column == "*" else [{"select": [column]}]}
    output = {"from": "s", "to": f"out.{form}", "format": form}
    data = {"version": 1, "name": "p", "sources": {"in": source}, "stages": {"s": stage}, "outputs": {"o": output}}
    return lp.Pipeline.from_dict(data, base=str(base))


@pytest.mark.parametrize("form", HAS)
def test_types_that_a_format_lacks(tmp_path: Path, form: str) -> None:
    pl.DataFrame(
        {"a": [1], "b": ["x"], "c": [1.5], "d": [[1]], "e": [{"x": 1}], "f": [None], "g": [True], "h": [b"x"], "i": [1], "j": [[b"x"]]},
        schema_overrides={"f": pl.Decimal(10, 2), "i": pl.Duration("us")},
    ).write_parquet(tmp_path / "in.parquet")  # fmt: skip
    for column in "abcdefghij":
        if column in HAS[form]:
            assert pipe(tmp_path, form, column).compile().run().status == "done"
        else:
            with pytest.raises(lp.DefinitionError, match=f"{form} cannot hold column '{column}'"):
                pipe(tmp_path, form, column).compile()
    if form == "ndjson":
        with pytest.raises(lp.DefinitionError) as error:
            pipe(tmp_path, form).compile()
        fix = "convert it to text or numbers in the stage, drop it, or write parquet or ipc"
        assert str(error.value).splitlines() == [
            f"outputs.o.format: ndjson cannot hold column 'h', which is Binary; {fix}",
            f"outputs.o.format: ndjson cannot hold column 'j', which is List(Binary); {fix}",
        ]


@pytest.mark.parametrize("form", ["dataset", "parquet", "ipc", "ndjson"])
@pytest.mark.parametrize("value", ["{}", "[{}]", '{"x": {}}'])
def test_structs_without_fields(tmp_path: Path, form: str, value: str) -> None:
    (tmp_path / "in.ndjson").write_text(f'{{"id": 1, "e": {value}}}\n')
    text = f"version: 1\nname: p\nsources: {{s: {{uri: in.ndjson}}}}\noutputs: {{o: {{from: s, to: 'out.{form}', format: {form}}}}}\n"
    (tmp_path / "p.yaml").write_text(text)
    if form in ("ipc", "ndjson"):
        assert lp.load(tmp_path / "p.yaml").compile().run().status == "done"
        return
    with pytest.raises(lp.DefinitionError) as error:
        lp.load(tmp_path / "p.yaml").compile()
    assert "p.yaml:4:11: Parquet cannot hold column 'e', which is " in str(error.value)
    assert str(error.value).endswith("a struct without fields; drop it in the stage, or give it a field")
