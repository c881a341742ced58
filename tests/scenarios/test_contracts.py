"""Schema contracts: files that change under a pipeline, in every way that a contract names, for every format."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import re
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.errors import SourceError

KINDS = ["parquet", "arrow", "csv", "ndjson"]
TYPED = ["parquet", "arrow"]
TEXT = ["csv", "ndjson"]
FRAME = pl.DataFrame({"id": [1, 2], "name": ["a", "b"], "price": [1.5, 2.5]})
COLUMNS = {"id": "Int64", "name": "String", "price": "Float64"}


def write(path: Path, frame: pl.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".parquet":
            frame.write_parquet(path)
        case ".arrow":
            frame.write_ipc(path)
        case ".csv":
            frame.write_csv(path)
        case _:
            frame.write_ndjson(path)


@pytest.fixture
def root(somewhere: str) -> str:
    return somewhere


class World:
    """A folder of files, and a pipeline that copies them."""

    def __init__(self, tmp_path: Path, kind: str, root: str | None = None) -> None:
        self.base, self.kind, self.root = tmp_path, kind, root or str(tmp_path)

    def put(self, **frames: pl.DataFrame | str) -> None:
        for name, content in frames.items():
            path = self.base / "data" / f"{name}.{self.kind}"
            if isinstance(content, str):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
            else:
                write(path, content)
            if self.root.startswith("memory"):
                fs, folder = fsspec.core.url_to_fs(self.root)
                fs.pipe_file(f"{folder}/data/{name}.{self.kind}", path.read_bytes())

    def pipe(self, contract: dict[str, Any] | None, **source: Any) -> lp.Pipeline:
        given = source if contract is None else {"contract": contract, **source}
        return (
            lp.pipeline("p", base=str(self.base))
            .source("a", f"{self.root}/data/*.{self.kind}", **given)
            .output("a", "out")
            .build()
        )

    def run(self, contract: dict[str, Any] | None, **source: Any) -> pl.DataFrame:
        """Run, and return what was published; the compiled frame holds the same rows."""
        plan = self.pipe(contract, **source).compile()
        result = plan.run()
        result.raise_for_status()
        self.result = result
        out = lp.scan(str(self.base / "out")).collect()
        assert dict(out.schema) == dict(plan.schema("a"))
        if not result.corrupt:
            compiled = plan.frames["a"].collect()
            assert compiled.columns == out.columns
            assert sorted(map(repr, compiled.rows())) == sorted(map(repr, out.rows()))
        return out

    def quarantine(self) -> pl.DataFrame:
        return lp.scan(str(self.base / "out__quarantine")).collect()

    def refusal(self, contract: dict[str, Any] | None, **source: Any) -> str:
        """Return the error of compiling, or else of running; nothing is published."""
        try:
            result = self.pipe(contract, **source).compile().run()
        except lp.LazypipeError as error:
            found: Any = error
        else:
            found = result.segments[0].error
        assert found is not None
        assert not (self.base / "out.commits").exists()
        assert "\n" not in str(found)
        return str(found)

    def uri(self, name: str) -> str:
        return f"{self.root}/data/{name}.{self.kind}"


def rows(frame: pl.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return sorted(frame.select(columns or frame.columns).rows(), key=repr)


# columns that come


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_column_is_taken_over(tmp_path: Path, root: str, kind: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(f1=FRAME, f2=FRAME.with_columns(extra=pl.lit("new")))
    out = world.run({"columns": COLUMNS, "on_new_column": "evolve"})
    assert out.columns == ["id", "name", "price", "extra"]
    assert out["extra"].to_list().count("new") == 2
    assert out["extra"].null_count() == 2


@pytest.mark.parametrize("kind", TEXT)
def test_a_new_column_of_which_a_file_says_nothing_is_what_others_say_of_it(
    tmp_path: Path, root: str, kind: str
) -> None:
    """Whichever comes first: nulls only were columns of nulls, which could not be read behind them."""
    world = World(tmp_path, kind, root)
    told = pl.Series("extra", ["new", None])
    world.put(f1=FRAME, f2=FRAME.with_columns(extra=pl.lit(None)), f3=FRAME.with_columns(told))
    out = world.run({"columns": COLUMNS, "on_new_column": "evolve"})
    assert out.schema["extra"] == pl.String
    assert Counter(out["extra"]) == {"new": 1, None: 5}


@pytest.mark.parametrize("kind", ["arrow", "csv", "ndjson"])
def test_a_column_that_nothing_reads_is_missed_too(tmp_path: Path, root: str, kind: str) -> None:
    """By a run that reads all files as by one that reads the new one: Polars' scan of Arrow looks for what it reads only, as that of Parquet."""
    world = World(tmp_path, kind, root)

    def run(to: str) -> lp.RunResult:
        source = (
            lp.pipeline("p", base=str(tmp_path), state=f"{to}.state")
            .source("a", f"{world.root}/data/*.{kind}")
            .stage("s", "a", [{"select": ["id"]}])
        )
        return source.output("s", to).build().compile().run()

    world.put(f1=FRAME)
    assert run("out").status == "done"
    world.put(f2=FRAME.drop("price"))
    # in NDJSON a field that lacks is null
    expected = None if kind == "ndjson" else f"{world.uri('f2')}: source 'a': the file lacks column 'price'"
    for to in ("out", "again"):
        error = run(to).segments[0].error
        assert (None if error is None else str(error).partition(";")[0]) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_column_is_left_out(tmp_path: Path, root: str, kind: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(
        f1=FRAME.with_columns(first=1), f2=FRAME, f3=FRAME.select("price", pl.lit("new").alias("extra"), "id", "name")
    )
    out = world.run({"columns": COLUMNS, "on_new_column": "discard_column"})
    assert out.columns == ["id", "name", "price"]
    assert rows(out) == rows(pl.concat([FRAME] * 3))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_with_a_value_in_a_new_column_go_to_quarantine(tmp_path: Path, root: str, kind: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(f1=FRAME, f2=FRAME.with_columns(extra=pl.Series([None, 7])))
    out = world.run({"columns": COLUMNS, "on_new_column": "discard_row"})
    assert rows(out) == rows(pl.concat([FRAME, FRAME.head(1)]))
    bad = world.quarantine()
    assert rows(bad, "id", "name", "price") == [(2, "b", 2.5)]
    assert bad["_lazypipe_rules"].to_list() == [["new_column:extra"]]
    assert json.loads(bad["_lazypipe_raw"].item()) == {"extra": "7"}
    assert bad["_lazypipe_file"].to_list() == [world.uri("f2")]
    assert world.result.gates["a"].failed == {"new_column:extra": 1}


@pytest.mark.parametrize("mode", ["freeze", "fail"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_column_is_refused(tmp_path: Path, root: str, kind: str, mode: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(f1=FRAME.with_columns(extra=1))
    contract = {"columns": COLUMNS, "on_new_column": mode}
    assert world.refusal(contract) == (
        "sources.a.contract.on_new_column: the files have a new column 'extra'; "
        "declare it, or say on_new_column: evolve or discard_column"
    )


@pytest.mark.parametrize("kind", TYPED)
def test_a_new_column_in_a_later_file_is_refused(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path, kind)
    world.put(f1=FRAME, f2=FRAME.with_columns(extra=1))
    for mode in ("ignore", "fail", "freeze"):
        found = world.refusal({"columns": COLUMNS, "on_new_column": mode, "on_missing_column": "evolve"})
        assert found == (
            f"{world.uri('f2')}: source 'a': the file has a column 'extra' that is not expected; "
            "deliver it again, make it another source, or say in its contract on_new_column: evolve, discard_column or discard_row"
        )


@pytest.mark.parametrize("mode", ["evolve", "discard_row"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_came_after_compiling(tmp_path: Path, kind: str, mode: str) -> None:
    world = World(tmp_path, kind)
    world.put(f1=FRAME)
    plan = world.pipe({"columns": COLUMNS, "on_new_column": mode}).compile()
    world.put(f2=FRAME.with_columns(extra=1))
    (segment,) = plan.run().segments
    assert str(segment.error) == (
        f"{world.uri('f2')}: source 'a': the file has a column 'extra' that no file had when the pipeline was compiled; "
        "compile the pipeline again"
    )


# columns that go, and those of another name


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_column_is_null(tmp_path: Path, root: str, kind: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(f1=FRAME.drop("name"), f2=FRAME, f3=FRAME.select("price", "id"))
    out = world.run({"columns": COLUMNS, "on_missing_column": "evolve"})
    assert rows(out, "id", "name") == [(1, "a"), (1, None), (1, None), (2, "b"), (2, None), (2, None)]
    assert dict(out.schema) == dict(FRAME.schema)


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_no_file_has(tmp_path: Path, root: str, kind: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(f1=FRAME.drop("name"), f2=FRAME.drop("name"))
    out = world.run({"columns": COLUMNS, "on_missing_column": "evolve"})
    assert out["name"].to_list() == [None] * 4


@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv"])
def test_rows_of_files_that_lack_a_column_are_counted_or_put_aside(tmp_path: Path, root: str, kind: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(f1=FRAME, f2=FRAME.drop("name"), f3=FRAME.drop("name").with_columns(id=pl.lit(3, pl.Int64)))
    out = world.run({"columns": COLUMNS, "on_missing_column": "discard_column"})
    assert rows(out, "id", "name") == [(1, "a"), (1, None), (2, "b"), (2, None), (3, None), (3, None)]
    report = world.result.gates["a"]
    assert {c.id: c.failed for c in report.checks} == {f"missing_column:{n}": 4 * (n == "name") for n in COLUMNS}
    check = next(c for c in report.checks if c.failed)
    assert (check.column, check.status) == ("name", "warn")
    row = {"columns": COLUMNS, "on_missing_column": "discard_row"}
    assert rows(world.run(row)) == rows(FRAME)
    bad = world.quarantine()
    assert rows(bad, "id", "name") == [(1, None), (2, None), (3, None), (3, None)]
    assert bad["_lazypipe_rules"].to_list() == [["missing_column:name"]] * 4
    assert set(bad["_lazypipe_file"]) == {world.uri("f2"), world.uri("f3")}
    assert world.pipe(row).compile().replay("a").remaining == 4
    healed = world.pipe({"columns": COLUMNS, "on_missing_column": "evolve"}).compile().replay("a")
    assert (healed.healed, healed.remaining) == (4, 0)


@pytest.mark.parametrize("mode", ["fail", "freeze"])
@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv"])
def test_a_missing_column_is_refused(tmp_path: Path, root: str, kind: str, mode: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(f1=FRAME, f2=FRAME.drop("name"))
    found = world.refusal({"columns": COLUMNS, "on_new_column": "evolve", "on_missing_column": mode})
    fix = "deliver it again, make it another source, or say in its contract on_missing_column: evolve, discard_column or discard_row"
    assert found == f"{world.uri('f2')}: source 'a': the file lacks column 'name'; {fix}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("broken", ["missing", "another type"])
def test_what_a_contract_says_holds_of_columns_that_nothing_reads(
    tmp_path: Path, root: str, kind: str, broken: str
) -> None:
    world = World(tmp_path, kind, root)
    other = FRAME.drop("price") if broken == "missing" else FRAME.with_columns(price=pl.lit("dear"))
    world.put(f1=FRAME, f2=other)
    about = {"price": {"type": "Float64", "on_missing_column": "fail"}, "id": "Int64"}
    contract: dict[str, Any] = {"columns": about, "on_type_change": "fail"}
    made = lp.pipeline("p", base=str(tmp_path)).source("a", f"{root}/data/*.{kind}", contract=contract)
    pipe = made.stage("narrow", "a", do=[{"select": ["id"]}]).output("narrow", "out").build()
    try:
        result = pipe.compile().run()
    except SourceError as error:
        found: Any = error
    else:
        found = result.segments[0].error
    if kind == "ndjson" and broken == "missing":  # where a key that a line lacks is null
        assert found is None
        assert lp.scan(str(tmp_path / "out")).collect()["id"].to_list() == [1, 2, 1, 2]
    else:
        assert str(found).startswith(world.uri("f2"))
        assert "'price'" in str(found) or (kind == "ndjson" and "'dear' is not a valid Float64" in str(found))


@pytest.mark.parametrize("kind", KINDS)
def test_one_column_may_be_missing_and_another_not(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path, kind)
    columns = {**COLUMNS, "name": {"type": "String", "on_missing_column": "evolve"}}
    world.put(f1=FRAME, f2=FRAME.drop("name"))
    assert world.run({"columns": columns})["name"].null_count() == 2
    if kind != "ndjson":  # where a key that a line lacks is null
        world.put(f3=FRAME.drop("price"))
        plan = "the file lacks column 'price'"
        with pytest.raises(SourceError, match=plan):
            world.pipe({"columns": columns}).compile()


@pytest.mark.parametrize("kind", KINDS)
def test_a_renamed_column(tmp_path: Path, root: str, kind: str) -> None:
    world = World(tmp_path, kind, root)
    columns = {**COLUMNS, "name": {"type": "String", "alias": ["title", "label"]}}
    world.put(f1=FRAME.rename({"name": "label"}), f2=FRAME, f3=FRAME.rename({"name": "title"}))
    out = world.run({"columns": columns})
    assert sorted(out.columns) == ["id", "name", "price"]
    assert rows(out, "id", "name", "price") == rows(pl.concat([FRAME] * 3))


@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv"])
def test_names_that_were_swapped(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path, kind)
    columns = {"id": {"type": "Int64", "alias": "key"}, "name": {"type": "String", "alias": "title"}}
    world.put(f1=pl.DataFrame({"id": [1], "name": ["a"]}), f2=pl.DataFrame({"title": ["b"], "key": [2]}))
    assert rows(world.run({"columns": columns}), "id", "name") == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv"])
def test_a_column_and_its_alias_in_one_file(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path, kind)
    world.put(f1=FRAME.with_columns(title=pl.lit("t")))
    found = world.refusal({"columns": {**COLUMNS, "name": {"type": "String", "alias": "title"}}})
    assert found == (
        f"{world.uri('f1')}: source 'a': the file has a column 'name' and another, 'title', that is an alias of 'name'; "
        "remove the alias, or have one of them renamed"
    )


def test_lines_of_ndjson_that_use_either_name(tmp_path: Path) -> None:
    world = World(tmp_path, "ndjson")
    world.put(f1='{"id": 1}\n{"key": 2}\n{"id": null, "key": 3}\n')
    columns = {"id": {"type": "Int64", "alias": "key"}}
    assert rows(world.run({"columns": columns})) == [(1,), (2,), (3,)]


@pytest.mark.parametrize("how", ["fail", "evolve", "freeze", "discard_row", "discard_column"])
@pytest.mark.parametrize(
    ("dtype", "lines", "values"),
    [
        ("Decimal(9, 2)", ["19.99", '"0.10"', "-3", "1e2", "null"], [Decimal("19.99"), Decimal("0.1"), -3, 100, None]),
        ("Decimal(18, 2)", ["9999999999999.99", '"0.000"'], [Decimal("9999999999999.99"), 0]),
        ("Int8", ["-128", '"7"', "null"], [-128, 7, None]),
        ("Int16", ["-32768"], [-32768]),
        ("UInt8", ["255"], [255]),
        ("UInt16", ["65535"], [65535]),
        ("Time", ['"10:15:00"', '"23:59"'], [dt.time(10, 15), dt.time(23, 59)]),
    ],
)
def test_types_that_the_reader_of_ndjson_does_not_know(
    tmp_path: Path, root: str, dtype: str, lines: list[str], values: list[Any], how: str
) -> None:
    world = World(tmp_path, "ndjson", root)
    world.put(f1="".join(f'{{"c": {text}}}\n' for text in lines))
    assert world.run({"columns": {"c": {"type": dtype, "on_type_change": how}}})["c"].to_list() == values


@pytest.mark.parametrize(
    ("dtype", "text", "fix"),
    [
        ("UInt8", "256", "fix the file, or say on_type_change: discard_row or discard_column"),
        ("Int8", "1.5", "fix the file, or say on_type_change: discard_row or discard_column"),
        ("Decimal(9, 2)", "1.555", "declare one with as many digits, fix the file, or say on_type_change: discard_row or discard_column"),
        # read as a Float64, which has taken .78 for .8
        ("Decimal(18, 2)", "1234567890123456.78", "JSON numbers are exact to 15 digits: deliver longer ones as text, declare String, and cast them"),
    ],
)  # fmt: skip
def test_what_does_not_fit_them_is_told(tmp_path: Path, dtype: str, text: str, fix: str) -> None:
    world = World(tmp_path, "ndjson")
    world.put(f1=f'{{"c": {text}}}\n')
    said = text.replace(".78", ".8")
    assert world.refusal({"columns": {"c": dtype}}) == (
        f"{world.uri('f1')}: source 'a': column 'c' has 1 value that is not a valid {dtype}, such as '{said}' (line 1); {fix}"
    )


def test_ndjson_of_blank_lines_has_no_rows(tmp_path: Path, root: str) -> None:
    world = World(tmp_path, "ndjson", root)
    world.put(f1="\n", f2='{"id": 1, "n": 2}\n', f3="\n\n")
    assert world.run({"columns": {"id": "Int64", "n": "UInt8"}}).rows() == [(1, 2)]


def test_types_that_json_has_no_values_of(tmp_path: Path) -> None:
    world = World(tmp_path, "ndjson")
    world.put(f1='{"c": "PT1H"}\n')
    assert world.refusal({"columns": {"c": "Duration(us)"}}) == (
        f"{world.uri('f1')}: source 'a': is not readable as ndjson: JSON has no values of a type that is declared, such as Duration "
        "(line 1); declare what stands there, such as String or Int64, and cast it in a stage"
    )


@pytest.mark.parametrize(
    ("seen", "come", "found"),
    [
        ("[]", "[1, 2]", ["1", "2"]),
        ("[null]", '["a", null]', ["a", None]),
        ("[[]]", "[[1.5]]", [["1.5"]]),
        ('{"x": []}', '{"x": [{"a": 1}]}', {"x": ['{"a": 1}']}),
        ("[1]", "[3]", [3]),
    ],
)
def test_lists_of_which_nothing_was_seen_hold_text(tmp_path: Path, root: str, seen: str, come: str, found: Any) -> None:
    world = World(tmp_path, "ndjson", root)
    world.put(f1=f'{{"c": {seen}}}\n{{"c": null}}\n', f2=f'{{"c": {come}}}\n')
    assert world.run(None)["c"].to_list()[-1] == found


def test_what_other_files_show_is_in_lists_that_were_empty(tmp_path: Path) -> None:
    world = World(tmp_path, "ndjson")
    world.put(f1='{"c": []}\n', f2='{"c": [1, 2]}\n')
    out = world.run({"columns": {}, "on_type_change": "evolve"})
    assert (out.schema, out.rows()) == ({"c": pl.List(pl.Int64)}, [([],), ([1, 2],)])


@pytest.mark.parametrize("kind", KINDS)
def test_columns_in_another_order(tmp_path: Path, root: str, kind: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(f1=FRAME, f2=FRAME.select("price", "name", "id"))
    out = world.run({"columns": COLUMNS, "on_missing_column": "evolve"})
    assert rows(out) == rows(pl.concat([FRAME] * 2))


# other types: formats that know theirs


DAY, MOMENT = dt.date(2024, 1, 31), dt.datetime(2024, 1, 31)
WIDENED = [
    (pl.Int32(), pl.Int64(), [1, None], [1, None]),
    (pl.UInt8(), pl.Int64(), [1, 255], [1, 255]),
    (pl.Int8(), pl.Float64(), [1, None], [1.0, None]),
    (pl.Float32(), pl.Float64(), [0.5, None], [0.5, None]),
    (pl.Date(), pl.Datetime("us"), [DAY, None], [MOMENT, None]),
    (pl.Datetime("ms"), pl.Datetime("us"), [MOMENT, None], [MOMENT, None]),
    (pl.List(pl.Int8()), pl.List(pl.Int64()), [[1], None], [[1], None]),
    (pl.Categorical(), pl.String(), ["a", None], ["a", None]),
]


@pytest.mark.parametrize(("narrow", "wide", "given", "expected"), WIDENED)
@pytest.mark.parametrize("kind", TYPED)
def test_a_column_that_widens(
    tmp_path: Path, root: str, kind: str, narrow: Any, wide: Any, given: list[Any], expected: list[Any]
) -> None:
    small = pl.DataFrame({"x": pl.Series(given, dtype=narrow), "k": [1, 2]})
    large = pl.DataFrame({"x": pl.Series(expected, dtype=wide), "k": [3, 4]})
    for first, second in ((small, large), (large, small)):
        world = World(tmp_path, kind, root)
        world.put(f1=first, f2=second)
        out = world.run({"columns": {"k": "Int64"}, "on_type_change": "evolve"})
        assert out.schema["x"] == wide
        assert out.sort("k")["x"].to_list() == expected * 2


@pytest.mark.parametrize("kind", TYPED)
def test_the_declared_type_widens_too(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path, kind)
    world.put(f1=pl.DataFrame({"x": pl.Series([1], dtype=pl.Int64)}))
    assert world.run({"columns": {"x": "Int32"}, "on_type_change": "evolve"}).schema["x"] == pl.Int64
    world.put(f1=pl.DataFrame({"x": pl.Series([1], dtype=pl.Int8)}))
    assert world.run({"columns": {"x": "Int32"}, "on_type_change": "evolve"}).schema["x"] == pl.Int32


@pytest.mark.parametrize("kind", TYPED)
def test_types_that_nothing_holds_both(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path, kind)
    world.put(f1=pl.DataFrame({"x": [1]}), f2=pl.DataFrame({"x": ["a"]}))
    fix = "declare its type, with on_type_change: freeze, discard_column or discard_row"
    for columns, where in (({}, world.uri("f1")), ({"x": "Int64"}, "the contract")):
        assert world.refusal({"columns": columns, "on_type_change": "evolve"}) == (
            f"{world.uri('f2')}: source 'a': column 'x' is String here and Int64 in {where}, and no type holds both; {fix}"
        )


@pytest.mark.parametrize("kind", TYPED)
def test_a_type_that_widened_after_compiling(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path, kind)
    world.put(f1=pl.DataFrame({"x": pl.Series([1], dtype=pl.Int32)}))
    plan = world.pipe({"columns": {}, "on_type_change": "evolve"}).compile()
    world.put(f2=pl.DataFrame({"x": [2**40]}))
    (segment,) = plan.run().segments
    assert str(segment.error) == (
        f"{world.uri('f2')}: source 'a': the file has Int64 in column 'x', which Int32 does not hold; compile the pipeline again"
    )


@pytest.mark.parametrize("kind", TYPED)
def test_a_frozen_type_takes_what_fits(tmp_path: Path, root: str, kind: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(
        f1=pl.DataFrame({"x": [1, 2]}),
        f2=pl.DataFrame({"x": [3.0, None]}),
        f3=pl.DataFrame({"x": ["5", ""]}),
        f4=pl.DataFrame({"x": pl.Series([6, 7], dtype=pl.UInt8)}),
    )
    out = world.run({"columns": {"x": "Int64"}, "on_type_change": "freeze"})
    assert rows(out) == [(1,), (2,), (3,), (5,), (6,), (7,), (None,), (None,)]
    assert world.result.gates == {}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (pl.DataFrame({"x": ["1", "five", "six"]}), "2 values that are not a valid Int64, such as 'five'"),
        (pl.DataFrame({"x": [1.0, 1.5]}), "1 value that is not a valid Int64, such as '1.5'"),
        (pl.DataFrame({"x": pl.Series([1, 2**63], dtype=pl.UInt64)}), "1 value that is not a valid Int64, such as '9223372036854775808'"),
        (pl.DataFrame({"x": [float("nan")]}), "1 value that is not a valid Int64, such as 'NaN'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", TYPED)
def test_a_frozen_type_refuses_what_does_not_fit(
    tmp_path: Path, root: str, kind: str, bad: pl.DataFrame, said: str
) -> None:
    world = World(tmp_path, kind, root)
    world.put(f1=pl.DataFrame({"x": [1]}), f2=bad)
    assert world.refusal({"columns": {"x": "Int64"}, "on_type_change": "freeze"}) == (
        f"{world.uri('f2')}: source 'a': column 'x' has {said}; "
        "fix the file, or say on_type_change: discard_row or discard_column"
    )


@pytest.mark.parametrize("kind", TYPED)
def test_rows_whose_cells_do_not_fit_go_to_quarantine(tmp_path: Path, root: str, kind: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(
        f1=pl.DataFrame({"x": [1, 2], "d": [DAY, DAY]}),
        f2=pl.DataFrame({"x": [3.5, 4.0], "d": [DAY, DAY]}),
        f3=pl.DataFrame({"x": ["five", "6"], "d": ["2024-01-31", "31 January"]}),
    )
    out = world.run({"columns": {"x": "Int64", "d": "Date"}, "on_type_change": "discard_row"})
    assert rows(out) == [(1, DAY), (2, DAY), (4, DAY)]
    bad = world.quarantine().sort("_lazypipe_raw")
    assert bad["x"].to_list() == [None, None, 6]
    assert bad["_lazypipe_rules"].to_list() == [["type:x"], ["type:x"], ["type:d"]]
    assert [json.loads(t) for t in bad["_lazypipe_raw"]] == [
        {"x": "3.5", "d": None},
        {"x": "five", "d": None},
        {"x": None, "d": "31 January"},
    ]
    report = world.result.gates["a"]
    assert (report.rows, report.good, report.quarantined, report.dropped) == (6, 3, 3, 0)


@pytest.mark.parametrize("kind", TYPED)
def test_cells_that_do_not_fit_become_null_and_are_counted(tmp_path: Path, root: str, kind: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(f1=pl.DataFrame({"x": [1, None]}), f2=pl.DataFrame({"x": ["five", None, "6"]}))
    out = world.run({"columns": {"x": "Int64"}, "on_type_change": "discard_column"})
    assert rows(out) == [(1,), (6,), (None,), (None,), (None,)]
    (check,) = world.result.gates["a"].checks
    assert (check.id, check.action, check.status, check.failed, check.evaluated) == ("type:x", "warn", "warn", 1, 5)
    assert not (tmp_path / "out__quarantine.commits").exists()


@pytest.mark.parametrize("mode", ["freeze", "discard_row", "discard_column"])
@pytest.mark.parametrize("kind", TYPED)
def test_a_type_that_never_becomes_another(tmp_path: Path, kind: str, mode: str) -> None:
    world = World(tmp_path, kind)
    world.put(f1=pl.DataFrame({"x": [DAY]}), f2=pl.DataFrame({"x": [[1]]}))
    assert world.refusal({"columns": {"x": "Date"}, "on_type_change": mode}) == (
        f"{world.uri('f2')}: source 'a': the file has List(Int64) in column 'x', which cannot become Date; "
        "deliver it again, or make it another source"
    )


@pytest.mark.parametrize("kind", TYPED)
def test_another_type_is_refused(tmp_path: Path, root: str, kind: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(f1=FRAME, f2=FRAME.with_columns(pl.col("price").cast(pl.Float32)))
    assert world.refusal({"columns": COLUMNS, "on_new_column": "evolve"}) == (
        f"{world.uri('f2')}: source 'a': the file has Float32 in column 'price', not Float64; "
        "deliver it again, make it another source, or say in its contract on_type_change: evolve, freeze, discard_column or discard_row"
    )


@pytest.mark.parametrize("kind", TYPED)
def test_each_column_by_itself(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path, kind)
    columns = {
        "a": {"type": "Int64", "on_type_change": "discard_row"},
        "b": {"type": "Int64", "on_type_change": "discard_column"},
        "c": {"type": "Int32", "on_type_change": "evolve"},
        "d": "Int64",
    }
    narrow = {"c": pl.Int32}
    world.put(
        f1=pl.DataFrame({"a": [1], "b": [1], "c": [1], "d": [1]}, schema_overrides=narrow),
        f2=pl.DataFrame({"a": ["x", "2"], "b": ["y", "z"], "c": [2, 3], "d": [4, 5]}),
    )
    out = world.run({"columns": columns})
    assert rows(out) == [(1, 1, 1, 1), (2, None, 3, 5)]
    assert world.result.gates["a"].failed == {"type:a": 1, "type:b": 2}
    assert json.loads(world.quarantine()["_lazypipe_raw"].item()) == {"a": "x", "b": "y"}
    world.put(f3=pl.DataFrame({"a": [1], "b": [1], "c": [1], "d": [1.0]}))
    with pytest.raises(SourceError, match="has Float64 in column 'd', not Int64"):
        world.pipe({"columns": columns}).compile()


# cells of text


LINES = {
    "csv": "id,name,price,day\n1,a,1.5,2024-01-31\ntwo,b,2.5,2024-01-31\n3,c,n/a,31-01-2024\n,,,\n6,f,1.5,soon\n",
    "ndjson": '{"id": 1, "name": "a", "price": 1.5, "day": "2024-01-31"}\n'
    '{"id": "two", "name": "b", "price": 2.5, "day": "2024-01-31"}\n'
    '{"id": "3", "name": "c", "price": "n/a", "day": "31-01-2024"}\n'
    "{}\n"
    '{"id": 6, "name": "f", "price": 1.5, "day": "soon"}\n',
}
CELLS = {**COLUMNS, "day": "Date"}


@pytest.mark.parametrize("kind", TEXT)
def test_rows_with_cells_that_do_not_parse_go_to_quarantine_with_their_text(
    tmp_path: Path, root: str, kind: str
) -> None:
    world = World(tmp_path, kind, root)
    world.put(f1=LINES[kind])
    out = world.run({"columns": CELLS, "on_type_change": "discard_row"})
    assert rows(out, "id", "name", "price", "day") == [(1, "a", 1.5, DAY), (None, None, None, None)]
    bad = world.quarantine().sort("name")
    assert bad["name"].to_list() == ["b", "c", "f"]
    assert bad["_lazypipe_rules"].to_list() == [["type:id"], ["type:price"], ["type:day"]]
    assert [{k: v for k, v in json.loads(t).items() if v} for t in bad["_lazypipe_raw"]] == [
        {"id": "two"},
        {"price": "n/a"},
        {"day": "soon"},
    ]
    assert bad["_lazypipe_file"].to_list() == [world.uri("f1")] * 3
    # what did parse in those rows is kept
    assert bad["day"].to_list() == [DAY, DAY, None]
    report = world.result.gates["a"]
    assert (report.rows, report.good, report.quarantined) == (5, 2, 3)
    assert report.failed == {"type:id": 1, "type:price": 1, "type:day": 1}


@pytest.mark.parametrize("kind", TEXT)
def test_cells_that_do_not_parse_become_null_and_are_counted(tmp_path: Path, root: str, kind: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(f1=LINES[kind])
    out = world.run({"columns": CELLS, "on_type_change": "discard_column"})
    assert out.height == 5
    assert out["id"].null_count() == 2
    assert world.result.gates["a"].failed == {"type:id": 1, "type:price": 1, "type:day": 1}


@pytest.mark.parametrize("mode", ["fail", "freeze", "evolve"])
@pytest.mark.parametrize("kind", TEXT)
def test_cells_that_do_not_parse_are_refused(tmp_path: Path, root: str, kind: str, mode: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(f1=LINES[kind])
    found = world.refusal({"columns": CELLS, "on_type_change": mode})
    assert re.search(rf"f1\.{kind}: source 'a': is not readable as {kind}: .*two", found), found


@pytest.mark.parametrize("kind", TEXT)
def test_one_type_here_and_another_there(tmp_path: Path, root: str, kind: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(f1=pl.DataFrame({"x": [1, 2]}), f2=pl.DataFrame({"x": [1.5, 2.5]}), f3=pl.DataFrame({"x": ["a", "7"]}))
    out = world.run({"columns": {"x": "Int64"}, "on_type_change": "discard_row"})
    assert rows(out) == [(1,), (2,), (7,)]
    assert sorted(json.loads(t)["x"] for t in world.quarantine()["_lazypipe_raw"]) == ["1.5", "2.5", "a"]


@pytest.mark.parametrize("kind", TEXT)
def test_undeclared_columns_take_a_type_that_reads_all_files(tmp_path: Path, root: str, kind: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(
        f1=pl.DataFrame({"k": [1], "f": [1], "s": [1], "d": ["2024-01-31"], "n": pl.Series([None], dtype=pl.Int64)}),
        f2=pl.DataFrame({"k": [2], "f": [0.5], "s": ["x"], "d": ["2024-01-31T10:00:00"], "n": [3]}),
    )
    parse = {"read": {"parse_dates": True}} if kind == "csv" else {}
    out = world.run({"columns": {"k": "Int64"}, "on_type_change": "evolve"}, **parse).sort("k")
    assert out["f"].to_list() == [1.0, 0.5]
    assert out["s"].to_list() == ["1", "x"]
    if kind == "csv":
        assert out["d"].to_list() == [MOMENT, MOMENT.replace(hour=10)]


@pytest.mark.parametrize("kind", TEXT)
def test_a_declared_type_follows_fractions_and_times_of_day(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path, kind)
    world.put(f1=pl.DataFrame({"x": [1], "y": [1]}), f2=pl.DataFrame({"x": [1.5], "y": [2**40]}))
    out = world.run({"columns": {"x": "Int32", "y": "Int64"}, "on_type_change": "evolve"})
    assert rows(out) == [(1.0, 1), (1.5, 2**40)]


def test_text_in_quotes_decimal_commas_and_words_for_null(tmp_path: Path) -> None:
    world = World(tmp_path, "csv")
    world.put(f1='x;y\n"1,5";"7"\n2,25;""\n-;"a ""b"""\n1.5;8\n')
    read = {"separator": ";", "decimal_comma": True, "null_values": ["-"]}
    out = world.run({"columns": {"x": "Float64", "y": "Int64"}, "on_type_change": "discard_row"}, read=read)
    assert rows(out) == [(1.5, 7), (2.25, None)]
    aside = [json.loads(raw) for raw in world.quarantine()["_lazypipe_raw"]]
    assert sorted(aside, key=str) == [{"x": "1.5", "y": None}, {"x": None, "y": 'a "b"'}]


GROUPED = {
    "german": ({"separator": ";", "decimal_comma": True, "thousands": "."}, "1.234.567,50", 1234567.5),
    "short": ({"separator": ";", "decimal_comma": True, "thousands": "."}, "1.234", 1234.0),
    "english": ({"separator": ";", "thousands": ","}, "1,234.5", 1234.5),
    "quoted": ({"thousands": ","}, '"1,234"', 1234.0),
    "french": ({"thousands": " ", "decimal_comma": True, "separator": ";"}, "1\u202f234,5", 1234.5),
}


@pytest.mark.parametrize(("read", "cell", "value"), GROUPED.values(), ids=GROUPED)
@pytest.mark.parametrize("declared", [True, False])
def test_marks_for_thousands_are_read_where_they_are_said(
    tmp_path: Path, root: str, read: Any, cell: str, value: float, declared: bool
) -> None:
    """Also in a later file, where nothing was declared, and plain numbers stood in the first."""
    world, mark = World(tmp_path, "csv", root), read.get("separator", ",")
    contract = {"columns": {"y": "Int64", "x": "Decimal(12,2)"}} if declared else None
    plain = "7,5" if read.get("decimal_comma") else "7.5"
    world.put(f1=f"y{mark}x\n1{mark}{plain}\n")
    world.run(contract, read=read)
    world.put(f2=f"y{mark}x\n2{mark}{cell}\n")
    assert rows(world.run(contract, read=read)) == [(1, 7.5), (2, value)]


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "Decimal(12,2)"])
@pytest.mark.parametrize(
    ("read", "cell", "fix"),
    [
        ({"decimal_comma": True}, "1.234.567,50", "'.' stands between thousands, say read: {decimal_comma: true, thousands: '.'}"),
        ({"decimal_comma": True}, "1.234", "'.' stands between thousands, say read: {decimal_comma: true, thousands: '.'}"),
        ({}, "1,234.5", "',' stands between thousands, say read: {thousands: ','}"),
        ({}, "1 234,5", "' ' stands between thousands, say read: {decimal_comma: true, thousands: ' '}"),
    ],
)  # fmt: skip
def test_numbers_with_other_marks_are_refused_with_what_reads_them(
    tmp_path: Path, root: str, read: Any, cell: str, fix: str, dtype: str
) -> None:
    world = World(tmp_path, "csv", root)
    world.put(f1=f"y;x\n1;7\n1;{cell}\n")
    found = world.refusal({"columns": {"y": "Int64", "x": dtype}}, read={"separator": ";", **read})
    assert cell in found
    assert found.endswith(f"if {fix}")


def test_a_point_that_comes_where_only_commas_were_is_not_read_as_one(tmp_path: Path) -> None:
    """1.234 may be 1234: Polars would take it for 1.234."""
    world = World(tmp_path, "csv")
    world.put(f1="y;x\n1;7,5\n1;1.234\n" + "1;2,5\n" * 3)
    read = {"separator": ";", "decimal_comma": True}
    found = world.refusal({"columns": {"y": "Int64", "x": "Float64"}, "on_type_change": "evolve"}, read=read)
    assert "column 'x' has 1 value that is not a valid Float64, such as '1.234'" in found


@pytest.mark.parametrize(
    ("kind", "read", "message"),
    [
        ("csv", {"thousands": "."}, "the mark for thousands is that for fractions, too; write another mark, or say decimal_comma: true"),
        ("ndjson", {"decimal_comma": True}, "read is for CSV, and this is ndjson"),
    ],
)  # fmt: skip
def test_marks_that_cannot_be(tmp_path: Path, kind: str, read: Any, message: str) -> None:
    world = World(tmp_path, kind)
    world.put(f1=pl.DataFrame({"x": [1.5]}))
    with pytest.raises(lp.DefinitionError, match=re.escape(message)):
        world.pipe(None, read=read).compile()


@pytest.mark.parametrize("mode", ["freeze", "discard_column"])
def test_ragged_rows_stay_an_error_unless_rows_are_discarded(tmp_path: Path, root: str, mode: str) -> None:
    for row, message in (("5", r"line 3 has 1 of 2 fields"), ("5,6,7", "too many fields")):
        world = World(tmp_path, "csv", root)
        world.put(f1=f"x,y\n1,2\n{row}\n")
        assert re.search(message, world.refusal({"columns": {"x": "Int64"}, "on_type_change": mode}))


def test_a_column_that_discards_rows_does_not_discard_those_that_have_no_cells(tmp_path: Path, root: str) -> None:
    """Other columns say that nothing but sound cells is taken; of a row that cannot be read, no cell is known."""
    world = World(tmp_path, "csv", root)
    world.put(f1="x,y\n1,2\n5\n")
    contract = {"columns": {"x": {"type": "Int64", "on_type_change": "discard_row"}, "y": "Int64"}}
    assert "line 3 has 1 of 2 fields" in world.refusal(contract)


def test_ragged_rows_in_files_of_another_shape(tmp_path: Path, root: str) -> None:
    world = World(tmp_path, "csv", root)
    world.put(f1="x,y\n1,2\n", f2="y,extra,x\n1,2,3\n4,5\n")
    found = world.refusal({"columns": {"x": "Int64", "y": "Int64"}, "on_new_column": "discard_column"})
    assert found.startswith(f"{world.uri('f2')}: source 'a': line 3 has 2 of 3 fields")


@pytest.mark.parametrize("kind", TEXT)
def test_a_whole_corrupt_file_beside_bad_cells(tmp_path: Path, root: str, kind: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(f1=pl.DataFrame({"x": ["1", "a"]}), f2="", f3=pl.DataFrame({"x": [3]}))
    out = world.run({"columns": {"x": "Int64"}, "on_type_change": "discard_row"}, on_corrupt="skip")
    assert rows(out) == [(1,), (3,)]
    assert [c.uri for c in world.result.corrupt] == [world.uri("f2")]
    assert world.quarantine().height == 1


@pytest.mark.parametrize("kind", TYPED)
def test_a_corrupt_file_beside_files_of_other_shapes(tmp_path: Path, root: str, kind: str) -> None:
    world = World(tmp_path, kind, root)
    world.put(f1=FRAME.drop("name"), f2=FRAME, f3=FRAME)
    path = tmp_path / "data" / f"f2.{kind}"
    world.put(f2=path.read_bytes()[:50].decode("latin-1"))
    out = world.run({"columns": COLUMNS, "on_missing_column": "evolve"}, on_corrupt="skip")
    assert rows(out, "id") == [(1,), (1,), (2,), (2,)]


def test_the_gate_sees_what_the_contract_has_left(tmp_path: Path) -> None:
    world = World(tmp_path, "csv")
    world.put(f1="x,s\n1,a\nfive,\n3,\n")
    gate = [{"not_null": {"columns": "s", "action": "quarantine"}}, {"not_null": {"columns": "x", "action": "warn"}}]
    out = world.run({"columns": {"x": "Int64", "s": "String"}, "on_type_change": "discard_row"}, gate=gate)
    assert rows(out) == [(1, "a")]
    found = {tuple(r) for r in world.quarantine()["_lazypipe_rules"].to_list()}
    assert found == {("type:x", "not_null:s", "not_null:x"), ("not_null:s",)}


def test_a_stage_below_sees_good_rows_of_known_columns(tmp_path: Path) -> None:
    world = World(tmp_path, "csv")
    world.put(f1=LINES["csv"])
    pipe = (
        lp.pipeline("p", base=str(tmp_path))
        .source("a", "data/*.csv", contract={"columns": CELLS, "on_type_change": "discard_row"})
        .stage("b", "a", do=[{"aggregate": {"aggregate": {"n": "count(*)", "total": "sum(price)"}}}])
        .stage("c", "a", do=[{"filter": "id IS NOT NULL"}])
        .output("b", "out/b")
        .output("c", "out/c")
        .build()
    )
    plan = pipe.compile()
    assert plan.frames["c"].collect_schema().names() == ["id", "name", "price", "day"]
    assert plan.frames["b"].collect().rows() == [(2, 1.5)]
    result = plan.run()
    result.raise_for_status()
    assert lp.scan(str(tmp_path / "out" / "b")).collect().rows() == [(2, 1.5)]
    assert lp.scan(str(tmp_path / "out" / "c")).collect()["name"].to_list() == ["a"]
    bad = lp.scan(str(tmp_path / ".lazypipe" / "quarantine" / "p" / "a")).collect()
    assert bad.height == 3
    assert "_lazypipe_raw" in bad.columns


def test_rows_are_read_anew_when_the_contract_has_changed(tmp_path: Path) -> None:
    world = World(tmp_path, "csv")
    world.put(f1="x,s\n1,a\n2.5,b\nsix,c\n")
    row = {"columns": {"x": "Int64", "s": "String"}, "on_type_change": "discard_row"}
    world.run(row)
    first = world.pipe(row).compile().replay("a")
    assert (first.healed, first.remaining) == (0, 2)
    null = {**row, "on_type_change": "discard_column"}
    second = world.pipe(null).compile().replay("a")
    assert (second.healed, second.remaining) == (2, 0)
    assert rows(lp.scan(str(tmp_path / "out")).collect()) == [(1, "a"), (None, "b"), (None, "c")]


# datasets, folders, and what is not there yet


def test_a_dataset_under_a_contract(tmp_path: Path) -> None:
    world = World(tmp_path, "parquet")
    world.put(f1=pl.DataFrame({"x": ["1", "a"], "old": [1, 2], "more": [1, 2]}))
    world.run(None)
    contract = {
        "columns": {"x": {"type": "Int64", "on_type_change": "discard_row"}, "new": {"type": "Int64", "alias": "old"}},
        "on_new_column": "discard_column",
    }
    pipe = lp.pipeline("q", base=str(tmp_path)).source("out", "out", contract=contract).output("out", "second").build()
    pipe.compile().run().raise_for_status()
    assert lp.scan(str(tmp_path / "second")).collect().rows() == [(1, 1)]
    assert json.loads(lp.scan(str(tmp_path / "second__quarantine")).collect()["_lazypipe_raw"].item()) == {"x": "a"}


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_several_shapes_in_folders(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "data" / "day=1" / f"a.{kind}", FRAME)
    write(tmp_path / "data" / "day=2" / f"b.{kind}", FRAME.select("price", "id", extra=pl.lit("e")))
    contract = {"columns": {**COLUMNS, "day": "Int32"}, "on_missing_column": "evolve", "on_new_column": "evolve"}
    pipe = (
        lp.pipeline("p", base=str(tmp_path))
        .source("a", f"data/*/*.{kind}", contract=contract | {"on_type_change": "freeze"})
        .output("a", "out")
        .build()
    )
    pipe.compile().run().raise_for_status()
    out = lp.scan(str(tmp_path / "out")).collect()
    assert out.schema["day"] == pl.Int32
    assert rows(out, "day", "id", "name", "extra") == [(1, 1, "a", None), (1, 2, "b", None), (2, 1, None, "e"), (2, 2, None, "e")]  # fmt: skip
    strict = lp.pipeline("p", base=str(tmp_path)).source("a", f"data/*/*.{kind}", contract=contract).output("a", "o")
    with pytest.raises(lp.DefinitionError, match=r"column 'day' is Int64 in the files and Int32 in the contract"):
        strict.build().compile()


@pytest.mark.parametrize("kind", KINDS)
def test_a_contract_stands_in_for_files_that_are_not_there_yet(tmp_path: Path, kind: str) -> None:
    world = World(tmp_path, kind)
    columns = {**COLUMNS, "name": {"type": "String", "alias": "title"}}
    plan = world.pipe({"columns": columns, "on_type_change": "discard_row"}).compile()
    assert plan.schema("a") == FRAME.schema
    assert plan.frames["a"].collect().height == 0
    world.put(f1=FRAME.rename({"name": "title"}))
    plan.run().raise_for_status()
    assert rows(lp.scan(str(tmp_path / "out")).collect()) == rows(FRAME)


def test_files_are_looked_at_once_per_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lazypipe.storage.scan import Reader

    asked: list[str] = []
    infer = Reader.infer
    monkeypatch.setattr(Reader, "infer", lambda self, files: (asked.append(files[0].uri), infer(self, files))[1])
    world = World(tmp_path, "parquet")
    world.put(f1=FRAME, f2=FRAME.drop("name"))
    world.run({"columns": COLUMNS, "on_missing_column": "evolve"})
    assert sorted(asked) == [world.uri("f1"), world.uri("f2")]
    asked.clear()
    plan = world.pipe({"columns": COLUMNS, "on_missing_column": "evolve"}).compile()
    world.put(f2=FRAME)
    plan.run().raise_for_status()
    assert sorted(asked) == [world.uri("f1"), world.uri("f2"), world.uri("f2")]


def test_polars_itself_fills_in_and_widens_parquet_files(tmp_path: Path) -> None:
    world = World(tmp_path, "parquet")
    world.put(
        f1=FRAME,
        f2=FRAME.drop("name").with_columns(pl.col("id").cast(pl.Int16), extra=1),
        f3=FRAME.select(pl.col("price").cast(pl.Float32), "id", "name"),
    )
    contract = {
        "columns": COLUMNS,
        "on_missing_column": "evolve",
        "on_new_column": "discard_column",
        "on_type_change": "evolve",
    }
    assert rows(world.run(contract), "id", "price") == [(1, 1.5)] * 3 + [(2, 2.5)] * 3
    plan = world.pipe(contract).compile().explain("a")
    assert plan.count("SCAN") == 1, plan


# any files at all


SHAPES = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from([pl.Int8(), pl.Int64(), pl.Float64(), pl.String()]),
    min_size=1,
    max_size=3,
)


@settings(max_examples=settings().max_examples * 4 // 5)
@given(shapes=st.lists(SHAPES, min_size=1, max_size=4), kind=st.sampled_from(KINDS))
def test_no_row_and_no_cell_is_lost_in_silence(
    tmp_path_factory: pytest.TempPathFactory, shapes: Any, kind: str
) -> None:
    world = World(tmp_path_factory.mktemp("any"), kind)
    total = filled = 0
    for number, shape in enumerate(shapes):
        texts = {"a": ["1", None, "x"], "b": ["2", "3", None], "c": ["0", "y", "1"]}
        frame = pl.DataFrame(
            {n: pl.Series(texts[n]).cast(t, strict=False) for n, t in shape.items()}, schema=dict(shape)
        )
        world.put(**{f"f{number}": frame})
        total += frame.height
        filled += sum(frame[n].is_not_null().sum() for n in shape)
    contract = {
        "columns": {"a": "Int64", "b": "Int64", "c": "Int64"},
        "on_missing_column": "evolve",
        "on_type_change": "discard_column",
    }
    out = world.run(contract)
    assert out.height == total
    lost = sum(world.result.gates["a"].failed.values()) if world.result.gates else 0
    assert sum(out[n].is_not_null().sum() for n in out.columns) == filled - lost


CELL = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(str),
    st.dates(dt.date(1, 1, 1)).map(str),
    st.sampled_from(["", " 7", "7 ", "true", "NaN", "1e3", "null", "0x1", "2024-02-30", "9" * 40, "a,b", 'q"q', "é\t"]),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5),
)
TYPES = {"i": pl.Int64(), "s": pl.Int8(), "f": pl.Float64(), "d": pl.Date(), "b": pl.Boolean()}


@settings(max_examples=settings().max_examples)
@given(
    cells=st.lists(st.tuples(*[CELL] * len(TYPES)), min_size=1, max_size=8),
    kind=st.sampled_from(KINDS),
    cut=st.integers(0, 8),
)
def test_good_and_quarantined_rows_are_all_that_came_whatever_the_cells(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[Any, ...]], kind: str, cut: int
) -> None:
    """Rows go one way or the other, and a cell is a value, a null that was one (or empty), or its text in quarantine."""
    world = World(tmp_path_factory.mktemp("cells"), kind)
    given = pl.DataFrame(cells, schema=dict.fromkeys(TYPES, pl.String), orient="row").with_row_index("k")
    given = given.with_columns(pl.col("k").cast(pl.Int64))
    parts = [part for part in (given.head(cut), given.slice(cut)) if part.height]  # of no rows, NDJSON is an empty file
    world.put(**{f"f{number}": part for number, part in enumerate(parts)})
    columns = {"k": "Int64", **{n: str(t) for n, t in TYPES.items()}}
    out = world.run({"columns": columns, "on_type_change": "discard_row"})
    lake = world.base / "out__quarantine.commits"
    bad = world.quarantine() if lake.exists() else pl.DataFrame(schema={**out.schema, "_lazypipe_raw": pl.String})
    assert sorted([*out["k"], *bad["k"]]) == list(range(given.height))
    raw = {k: json.loads(t) for k, t in bad.select("k", "_lazypipe_raw").rows()}
    typed = {r["k"]: r for r in [*out.to_dicts(), *bad.to_dicts()]}
    for row in given.to_dicts():
        kept = raw.get(row["k"], {})
        assert row["k"] in {*out["k"]} or any(v is not None for v in kept.values())
        for name in TYPES:
            text, made = row[name], typed[row["k"]][name]
            if made is not None:
                assert kept.get(name) is None
                assert text is not None
                assert name not in ("i", "s") or int(text) == made
                assert name != "f" or float(text) == made or made != made
            elif text:
                assert kept[name] == text
            else:
                assert kept.get(name) in (None, "")


def test_bytes_that_are_no_text_are_put_aside_and_stay_there(tmp_path: Path) -> None:
    world = World(tmp_path, "parquet")
    world.put(f1=pl.DataFrame({"id": [1, 2], "x": [b"ok", b"\xff\xfe"]}))
    contract = {"columns": {"id": "Int64", "x": "String"}}
    assert world.refusal({**contract, "on_type_change": "freeze"}).endswith(
        "column 'x' has 1 value that is not a valid String, such as '\\\\xfffe'; fix the file, or say on_type_change: discard_row or discard_column"
    )
    assert rows(world.run({**contract, "on_type_change": "discard_row"})) == [(1, "ok")]
    assert json.loads(world.quarantine()["_lazypipe_raw"].item()) == {"id": None, "x": "\\xfffe"}
    # shown as text, it is none yet
    result = world.pipe({**contract, "on_type_change": "discard_row"}).compile().replay("a")
    assert (result.healed, result.remaining) == (0, 1)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
def test_the_line_that_is_no_json_is_named_where_types_may_differ(tmp_path: Path, pack: Any) -> None:
    text = b'{"a": 1}\n{"a": 2, "b": \n{"a": 3}\n'
    (tmp_path / "x.ndjson.gz").write_bytes(pack(text))
    contract = {"columns": {"a": "Int64"}, "on_type_change": "freeze"}
    pipe = lp.pipeline("p", base=str(tmp_path)).source("s", "x.ndjson.gz", contract=contract).output("s", "out").build()
    error = pipe.compile().run().segments[0].error
    assert "source 's': is not readable as ndjson: a line is not JSON (line 2); each line" in str(error)


def test_a_line_with_a_column_and_its_alias_has_the_value_of_the_column(tmp_path: Path) -> None:
    lines = ['{"id": 1, "n": 5}', '{"id": 2, "m": 6}', '{"m": 9, "id": 3, "n": 7}', '{"id": 4, "n": null, "m": 8}']
    (tmp_path / "a.ndjson").write_text("\n".join(lines))
    contract = {"columns": {"id": "Int64", "n": {"type": "Int64", "alias": "m"}}}
    built = lp.pipeline("p", base=str(tmp_path)).source("s", "a.ndjson", contract=contract).stage("o", "s")
    built.output("o", "out").build().compile().run().raise_for_status()
    assert sorted(lp.scan(str(tmp_path / "out")).collect().rows()) == [(1, 5), (2, 6), (3, 7), (4, 8)]
