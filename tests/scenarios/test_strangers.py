"""What somebody tries who has not read the documentation: odd names, odd types, odd files. Told in our words, at compile where that can be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest

import lazypipe as lp
from lazypipe.__main__ import main

EVERY = pl.LazyFrame(
    schema={
        "s": pl.String,
        "d": pl.Date,
        "du": pl.Duration("us"),
        "c": pl.Categorical,
        "e": pl.Enum(["x"]),
        "l": pl.List(pl.String),
        "a": pl.Array(pl.Int64, 2),
        "st": pl.Struct({"x": pl.Int64}),
        "ls": pl.List(pl.Struct({"x": pl.Int64})),
        "b": pl.Binary,
        "i": pl.Int64,
        "n": pl.Decimal(10, 2),
    }
)


def source(folder: Path, rows: pl.DataFrame, *gate: dict[str, Any]) -> Any:
    """A pipeline that publishes the rows of a file, behind a stage with a gate."""
    rows.write_parquet(folder / "in.parquet")
    made = lp.pipeline("p", base=str(folder)).source("in", "in.parquet")
    return made.stage("kept", "in", gate=[*gate]).output("kept", "out").build()


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("s::date", "String cannot be cast to Date; write date(x), or put the operation cast before it"),
        (
            "try_cast(s AS timestamp)",
            "String cannot be cast to Datetime; write timestamp(x), or put the operation cast",
        ),
        ("n::date", "Decimal(10, 2) is no date; read its digits"),
        ("du || 'x'", "Duration(us) cannot be cast to String; cast it to a type in between"),
        ("l = 'x'", "a list cannot be cast to String; cast it to a type in between"),
        ("c::date", "a category cannot be cast to Date; cast it to a type in between"),
        ("l = 1", "List(String) cannot be compared with Int32; cast one of them"),
        ("c + 1", "no type holds both Categorical and Int32; cast one of them"),
        ("coalesce(d, 0)", "coalesce takes values of one type, not Date and a whole number; cast one of them"),
    ],
)
def test_what_no_value_can_become_is_told_at_compile(sql: str, said: str) -> None:
    with pytest.raises(lp.DefinitionError) as caught:
        lp.apply({"derive": {"z": sql}}, EVERY)
    assert str(caught.value).startswith(f"derive.z: {said}")


@pytest.mark.parametrize("sql", ["date(s)", "s::bigint", "s || 'x'", "e::text", "i / 0", "a = a", "b = b", "st = st"])
def test_what_only_some_values_cannot_become_is_for_the_run(sql: str) -> None:
    assert lp.apply({"derive": {"z": sql}}, EVERY).collect().height == 0


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            {"pivot": {"on": "i", "into": [1], "values": "s", "index": "d", "aggregate": "sum"}},
            "pivot.aggregate: column 's' is String, which has no sum; choose first, last or len, or cast the column first",
        ),
        (
            {"pivot": {"on": "i", "into": [1], "values": "l", "index": "d", "aggregate": "max"}},
            "pivot.aggregate: column 'l' is List(String), which has no max; choose first, last or len, or cast the column first",
        ),
        (
            {"pivot": {"on": "du", "into": [1], "values": "i", "index": "d", "aggregate": "sum"}},
            "pivot.into: the values do not fit column 'du', which is Duration(us); write values of that type",
        ),
        (
            {"asof_join": {"with": "o", "on": "i", "by": "st"}},
            (
                "asof_join.by[0]: column 'st' is Struct(x: Int64), which cannot be matched on; "
                "use columns of plain values"
            ),
        ),
        (
            {"cast": {"ls": "List(Int64)"}},
            (
                "cast.ls: column 'ls' cannot be cast from List(Struct(x: Int64)) to List(Int64); "
                "cast to another type first, or derive it"
            ),
        ),
        ({"cast": {"i": "Enum(a)"}}, "cast.i: column 'i' cannot be cast from Int64 to Enum(a); cast to another type"),
    ],
)
def test_operations_on_types_that_they_cannot_serve(step: dict[str, Any], said: str) -> None:
    with pytest.raises(lp.DefinitionError) as caught:
        lp.apply(step, EVERY, o=EVERY)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("step", ["filter", 5, {}, {"filter": "a > 1", "limit": 1}, [{"limit": 1}, None]])
def test_what_is_no_operation(step: Any) -> None:
    with pytest.raises(lp.DefinitionError) as caught:
        lp.apply(step, pl.LazyFrame({"a": [1]}))
    wrong = step[1] if isinstance(step, list) else step
    assert str(caught.value) == f"{wrong!r} is not an operation; write {{name: arguments}}"


@pytest.mark.parametrize("name", ["*", "^x$"])
def test_a_column_whose_name_is_a_pattern(tmp_path: Path, name: str) -> None:
    what = f"column {name!r} would be read as a pattern of names"
    frame = pl.DataFrame({"x": [1, 2, 2], name: [1, 1, 2]})
    with pytest.raises(lp.DefinitionError) as caught:
        source(tmp_path, frame).compile()
    assert str(caught.value) == f"sources.in: {what}; rename it, or leave it out of the files"
    with pytest.raises(lp.DefinitionError) as caught:
        lp.check(frame, [{"unique": name}])
    assert str(caught.value) == f"rules: {what}; give it another name"
    pipe = lp.pipeline("p", base=str(tmp_path)).source("in", "x.parquet", contract={"columns": {"x": "Int64"}})
    with pytest.raises(lp.DefinitionError) as caught:
        pipe.stage("s", "in", do=[{"rename": {"x": name}}]).output("s", "out").build().compile()
    assert str(caught.value) == f"stages.s.do[0].rename: {what}; give it another name"


def test_quarantined_rows_say_which_file_they_came_from(tmp_path: Path) -> None:
    for name, ids in (("a", [1, None]), ("b", [None, 2])):
        pl.DataFrame({"id": ids, "n": [1, 2]}, schema={"id": pl.Int64, "n": pl.Int64}).write_parquet(
            tmp_path / f"{name}.parquet"
        )
    pipe = lp.pipeline("p", base=str(tmp_path)).source("in", "?.parquet")
    rule = {"not_null": {"columns": "id", "action": "quarantine"}}
    plan = pipe.stage("kept", "in", do=[{"derive": {"m": "n"}}], gate=[rule]).output("kept", "out").build().compile()
    plan.run().raise_for_status()
    put = lp.scan(str(tmp_path / "out__quarantine")).collect().sort("n")
    assert [(n, Path(f).name) for n, f in put.select("n", "_lazypipe_file").rows()] == [
        (1, "b.parquet"),
        (2, "a.parquet"),
    ]


@pytest.mark.parametrize("mode", ["append", "upsert", "scd2"])
def test_so_do_those_of_outputs_to_which_rows_are_added(tmp_path: Path, mode: str) -> None:
    """By the gates of inner stages and of the output's own, behind a union, with keys that are held back; in later runs too."""

    def put(name: str, ids: list[int], ns: list[int]) -> None:
        pl.DataFrame({"id": ids, "n": ns}).write_parquet(tmp_path / f"{name}.parquet")

    positive = {"positive": {"columns": "n", "action": "quarantine"}}
    once = {"unique": {"columns": "id", "action": "quarantine"}}
    pipe = lp.pipeline("p", base=str(tmp_path)).source("in", "?.parquet").source("more", "more-?.parquet")
    pipe = pipe.stage("both", "in", do=[{"union": {"with": "more"}}, {"derive": {"m": "n"}}], gate=[positive])
    pipe = pipe.stage("kept", "both", do=[{"filter": "n < 90"}], gate=[once]).output("kept", "out", mode=mode, key="id")

    def found() -> tuple[list[int], set[tuple[int, str]], set[tuple[int, str]]]:
        pipe.build().compile().run().raise_for_status()
        out = lp.scan(str(tmp_path / "out")).collect()
        assert out.columns[:3] == ["id", "n", "m"]
        assert "_lazypipe_unit" not in out.columns
        aside = (tmp_path / ".lazypipe/quarantine/p/both", tmp_path / "out__quarantine")
        told = [lp.scan(str(a)).select("id", "_lazypipe_file").collect().rows() for a in aside]
        one, other = ({(i, Path(f).stem) for i, f in rows} for rows in told)
        return sorted(out["id"]), one, other

    put("a", [1, 2, 3, 3], [1, -2, 3, 4])
    put("b", [5, 6], [5, -6])
    put("more-a", [7, 8], [-7, 99])
    assert found() == ([1, 5], {(2, "a"), (6, "b"), (7, "more-a")}, {(3, "a")})
    put("c", [9, 10, 11, 11], [9, -10, 11, 11])
    ids, inner, own = found()
    assert (ids, inner, own) == ([1, 5, 9], inner | {(10, "c")}, own | {(11, "c")})


def test_a_quarantine_is_a_source_like_any_other(tmp_path: Path) -> None:
    rule = {"not_null": {"columns": "id", "action": "quarantine"}}
    source(tmp_path, pl.DataFrame({"id": [1, None]}), rule).compile().run(run="r1").raise_for_status()
    again = lp.pipeline("q", base=str(tmp_path)).source("in", "out__quarantine")
    plan = again.stage("kept", "in", gate=[rule]).output("kept", "again").build().compile()
    plan.lineage()
    plan.run(run="r2").raise_for_status()
    rows = lp.scan(str(tmp_path / "again__quarantine")).collect()
    assert rows.select("_lazypipe_rules", "_lazypipe_run").rows() == [(["not_null:id"], "r2")]


@pytest.mark.parametrize("root", ["", "memory://strangers/"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "id,n,more\n3,4,5\n",
            (
                "the file has a column 'more' that is not expected; deliver it again, make it another source, or say in its contract "
                "on_new_column: evolve, discard_column or discard_row"
            ),
        ),
        (
            "id\n3\n",
            (
                "the file lacks column 'n'; deliver it again, make it another source, or say in its contract on_missing_column: "
                "evolve, discard_column or discard_row"
            ),
        ),
        ("id,n\n3,x\n", "is not readable as csv: 'x' in column 'n' is not a valid Int64 (line 2); fix the row"),
        ("id,n\n3,4,5\n", "is not readable as csv: a line has too many fields (line 2); fix the row"),
        (
            "id;n\n3;4,5\n",
            "the header is one column, 'id;n', with ';' in its name; deliver it again as the others are written, or make it another source",
        ),
    ],
)
def test_a_text_file_unlike_the_first(tmp_path: Path, root: str, text: str, said: str) -> None:
    folder = root + tmp_path.name if root else str(tmp_path)
    files = fsspec.filesystem("memory" if root else "file")
    files.pipe_file(f"{folder}/a.csv", b"id,n\n1,2\n")
    files.pipe_file(f"{folder}/b.csv", text.encode())
    made = lp.pipeline("p", base=str(tmp_path)).source("in", f"{folder}/*.csv").output("in", "out").build()
    result = made.compile().run()
    assert f"{folder}/b.csv: source 'in': {said}" in str(result.segments[0].error)


SEPARATED = "the header is one column, 'id{0}n', with '{0}' in its name; say read: {{separator: \"{0}\"}}, or declare it in contract if it is one"


@pytest.mark.parametrize(
    ("header", "read", "said"),
    [
        ("id;n", {}, SEPARATED.format(";")),
        ("id\tn", {}, SEPARATED.replace("'id{0}n'", r"'id\tn'").format(r"\t")),
        ("id|n", {}, SEPARATED.format("|")),
        (
            "|".join(f"n{i}" for i in range(99)),
            {},
            SEPARATED.format("|").replace("id|n", "n0|n1|n2|n3|n4|n5|n6|n7|n8|n9|n10|n11|n12|n13|n14|n15|n16|n1…"),
        ),
        ("id,n", {"separator": ";"}, SEPARATED.format(",")),
        (
            "id,Stra\xdfe",
            {},
            "the header has 'Stra\ufffde', which is not UTF-8; convert it, such as with iconv -f WINDOWS-1252 -t UTF-8",
        ),
        (
            "id,n,n",
            {},
            (
                "the header has 'n' more than once, and another one would be called 'n_duplicated_0'; give each column a name of its own, or "
                "declare it in contract by that name"
            ),
        ),
        (
            'id,"a""b"',
            {},
            (
                "the header has 'a\"\"b', of which the doubled quotes would stay; declare it in contract, as in columns: "
                "{'a\"b': {type: String, alias: 'a\"\"b'}}"
            ),
        ),
    ],
)
@pytest.mark.parametrize(
    "contract",
    [
        {},
        {"contract": {"columns": {"id": "Int64"}}},
        {"contract": {"columns": {"id": "Int64"}, "on_missing_column": "evolve", "on_new_column": "evolve"}},
        {
            "contract": {
                "columns": {"id": "Int64"},
                "on_missing_column": "discard_column",
                "on_type_change": "discard_row",
            }
        },
    ],
    ids=["", "fail", "evolve", "discard"],
)
def test_a_header_that_is_read_otherwise_than_it_was_meant(
    tmp_path: Path, header: str, read: dict[str, Any], said: str, contract: dict[str, Any]
) -> None:
    # with on_missing_column and on_new_column all rows would be null in every column, and a new one would hold the text
    (tmp_path / "a.csv").write_text(f"{header}\n1;2,5\n2;3,5\n", encoding="latin-1")
    made = lp.pipeline("p", base=str(tmp_path)).source("in", "a.csv", read=read, **contract).output("in", "out").build()
    with pytest.raises(lp.DefinitionError) as caught:
        made.compile()
    assert str(caught.value) == f"sources.in.uri: {tmp_path}/a.csv: {said}"


@pytest.mark.parametrize("policy", ["evolve", "discard_column"])
def test_a_delivery_with_another_separator_is_no_new_column(tmp_path: Path, policy: str) -> None:
    (tmp_path / "a.csv").write_text("id,n\n1,2\n")
    contract = {"columns": {"id": "Int64"}, "on_missing_column": policy, "on_new_column": policy}
    made = lp.pipeline("p", base=str(tmp_path)).source("in", "*.csv", contract=contract).output("in", "out").build()
    plan = made.compile()
    plan.run().raise_for_status()
    (tmp_path / "b.csv").write_text("id;n\n3;4\n")
    said = f"{tmp_path}/b.csv: source 'in': the header is one column, 'id;n', with ';' in its name; deliver it again as the others are written"
    with pytest.raises(lp.SourceError, match=re.escape(said)):
        made.compile()
    result = plan.run()  # one that was compiled before
    assert said in str(result.segments[0].error)
    assert lp.scan(str(tmp_path / "out")).collect()["id"].to_list() == [1]


@pytest.mark.parametrize(
    ("text", "columns", "rows"),
    [
        ("id;n\n1;2\n", {"id;n": "String"}, [("1;2",)]),
        ("a;\n1;2\n", {}, [("1;2",)]),
        ("n,n\n1,2\n", {"n_duplicated_0": "Int64"}, [(1, 2)]),
        ("x_duplicated_0,n,,\n1,2,3,4\n", {}, [(1, 2, 3, 4)]),
        ("\u00df\n1\n", {}, [(1,)]),
        ('id,"a""b"\n1,2\n', {'a"b': {"type": "String", "alias": 'a""b'}}, [(1, "2")]),
    ],
)
def test_a_header_that_is_meant_so(tmp_path: Path, text: str, columns: dict[str, Any], rows: list[Any]) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    contract = {"columns": columns} if columns else None
    made = lp.pipeline("p", base=str(tmp_path)).source("in", "a.csv", contract=contract).output("in", "out").build()
    made.compile().run().raise_for_status()
    found = lp.scan(str(tmp_path / "out")).collect()
    assert found.rows() == rows
    assert not any('""' in name for name in found.columns)


@pytest.mark.parametrize(
    ("kind", "first", "other"),
    [
        ("csv", "id,mail\n1,5\n", "id,mail\n2,a@b.c\n"),
        ("ndjson", '{"id": 1, "mail": 5}\n', '{"id": 2, "mail": "a@b.c"}\n'),
    ],
)
@pytest.mark.parametrize("on_corrupt", ["fail", "skip"])
def test_personal_data_is_not_quoted_from_files(
    tmp_path: Path, kind: str, first: str, other: str, on_corrupt: str
) -> None:
    (tmp_path / f"a.{kind}").write_text(first)
    (tmp_path / f"b.{kind}").write_text(other)
    contract = {"columns": {"mail": "Int64"}}
    source = lp.pipeline("p", base=str(tmp_path)).source(
        "in", f"*.{kind}", columns={"mail": {"tags": ["pii"]}}, contract=contract, on_corrupt=on_corrupt
    )
    result = source.output("in", "out").build().compile().run()
    told = str([result.corrupt, *(s.error for s in result.segments)])
    assert "b." + kind in told
    assert "*** " in told
    assert "a@b.c" not in told


def test_personal_data_is_not_quoted_from_frozen_columns(tmp_path: Path) -> None:
    pl.DataFrame({"mail": [1]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"mail": ["a@b.c"]}).write_parquet(tmp_path / "b.parquet")
    contract = {"columns": {"mail": {"type": "Int64", "on_type_change": "freeze"}}}
    for tags, told in (({}, "'a@b.c'"), ({"mail": {"tags": ["pii"]}}, "***")):
        made = lp.pipeline("p", base=str(tmp_path)).source("in", "?.parquet", columns=tags, contract=contract)
        result = made.output("in", "out").build().compile().run()
        assert f"column 'mail' has 1 value that is not a valid Int64, such as {told}" in str(result.segments[0].error)


def test_what_others_have_is_not_said_of_the_contract(tmp_path: Path) -> None:
    pl.DataFrame({"id": [1]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"id": ["x"]}).write_parquet(tmp_path / "b.parquet")
    contract = {"columns": {"id": {"type": "Int32", "on_type_change": "evolve"}}}
    made = lp.pipeline("p", base=str(tmp_path)).source("in", "?.parquet", contract=contract).output("in", "out").build()
    with pytest.raises(lp.SourceError, match="column 'id' is String here and Int64 in others, and no type holds both"):
        made.compile()


def test_a_wrong_value_of_a_parameter_is_told_once(tmp_path: Path) -> None:
    pl.DataFrame({"n": [1]}).write_parquet(tmp_path / "in.parquet")
    made = lp.pipeline("p", base=str(tmp_path)).param("least", "integer").source("in", "in.parquet")
    pipe = made.stage("s", "in", do=[{"filter": "n > :least"}]).output("s", "out").build()
    for given, said in (
        ({"least": "x"}, "params.least: parameter 'least': 'x' is not an integer such as 42"),
        ({}, "params.least: parameter 'least' has no value; pass it (--param least=…), or give it a default"),
    ):
        with pytest.raises(lp.DefinitionError) as caught:
            pipe.compile(**given)
        assert str(caught.value).splitlines() == [said]


def test_commands_on_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = str(tmp_path / "nowhere")
    assert main(["vacuum", nowhere]) == 3
    assert capsys.readouterr() == (
        "",
        f"{nowhere}: there is no dataset here; run the pipeline that writes it, or check the path\n",
    )
    (tmp_path / "in.csv").write_text("n\n1\n")
    file = tmp_path / "p.yaml"
    file.write_text("version: 1\nname: p\nsources: {in: {uri: in.csv}}\noutputs: {in: {to: out}}\n")
    assert main(["history", str(file), "in"]) == 0
    assert capsys.readouterr() == ("", "in: nothing was committed yet\n")
    file.write_text("version: 1\nname: [")
    assert main(["check", str(file)]) == 2
    assert capsys.readouterr().err == f"{file}:2:8: not YAML: the text ends where a value is expected; add it\n"


def test_show_prints_all_that_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pl.DataFrame({"k": range(30), "x": [float("nan"), *[0.5] * 29]}).with_columns(
        pl.lit(0).alias(f"c{i}") for i in range(12)
    )
    rows.write_parquet(tmp_path / "in.parquet")
    file = tmp_path / "p.yaml"
    file.write_text("version: 1\nname: p\nsources: {in: {uri: in.parquet}}\noutputs: {in: {to: out}}\n")
    assert main(["run", str(file)]) == 0
    capsys.readouterr()
    assert main(["show", str(file), "in", "-n", "30"]) == 0
    told = capsys.readouterr().out
    assert all(f"│ {k} " in told for k in range(30))
    assert "…" not in told
    assert main(["show", str(file), "in", "-n", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["x"] == "nan"
    with pytest.raises(SystemExit) as left:
        main(["show", str(file), "in", "-n", "-5"])
    assert left.value.code == 2
    assert "argument -n/--rows: '-5' is not a number of rows; write 0 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            {"cast": {"s": "Int64"}},
            "operation 1 (cast): column 's' has values that cannot become Int64: [",
        ),
        (
            {"cast": {"s": "Boolean"}},
            "operation 1 (cast): column 's' has values that cannot become Boolean: [\"x\"]; fix",
        ),
        ({"derive": {"z": "s::bigint"}}, "operation 1 (derive): column 's' has values that cannot become Int64: ["),
        ({"explode": ["l", "m"]}, "operation 1 (explode): exploded columns must have matching element counts; fix"),
    ],
)
def test_rows_that_an_operation_does_not_take(tmp_path: Path, step: dict[str, Any], said: str) -> None:
    rows = pl.DataFrame({"s": ["x", "y"], "l": [[1], [2]], "m": [[1], [2, 3]]})
    rows.write_parquet(tmp_path / "in.parquet")
    made = lp.pipeline("p", base=str(tmp_path)).source("in", "in.parquet").stage("t", "in", do=[step])
    result = made.output("t", "out").build().compile().run()
    assert said in str(result.segments[0].error)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            {"drop": list(EVERY.collect_schema())},
            "drop: every column is dropped; keep at least one",
        ),
        ({"sql": "SELECT sum(s) FROM self"}, "sql: sum is not possible for String; cast it first, as in x::double"),
        ({"derive": {"z": "s ~ '('"}}, "derive.z: not a regular expression: unclosed group"),
    ],
)
def test_steps_that_make_no_sense(step: dict[str, Any], said: str) -> None:
    with pytest.raises(lp.DefinitionError) as caught:
        lp.apply(step, EVERY)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (
            lambda of: of.compile().run(now="2024"),
            lp.LazypipeError,
            "now is '2024', which is not a datetime; write one, such as datetime.now(UTC)",
        ),
        (
            lambda of: of.compile(now="2024"),
            lp.LazypipeError,
            "now is '2024', which is not a datetime; write one, such as datetime.now(UTC)",
        ),
        (
            lambda of: of.compile().run(max_files="x"),
            lp.LazypipeError,
            "max_files is 'x', which is not a whole number; write 1 or more, or leave it out",
        ),
        (
            lambda of: of.compile().run(max_rows=True),
            lp.LazypipeError,
            "max_rows is True, which is not a whole number; write 1 or more, or leave it out",
        ),
        (
            lambda of: of.compile().run(outputs=5),
            lp.LazypipeError,
            "outputs is 5, which is not a list of names; write [name]",
        ),
        (
            lambda of: of.compile().run(window=5),
            lp.LazypipeError,
            "5 is not a range of event time; write START..END, such as 2024-01-01..2024-02-01",
        ),
        (
            lambda of: lp.stream(of, "10s"),
            lp.LazypipeError,
            "trigger is '10s'; give one, such as lp.Trigger(every='10s')",
        ),
        (lp.run_all, lp.LazypipeError, "Pipeline is not a list of definitions; write it in one: […]"),
        (lambda of: lp.run_all("a.yaml"), lp.LazypipeError, "str is not a list of definitions; write it in one: […]"),
        (
            lambda of: lp.catalog(of.compile()),
            lp.LazypipeError,
            "Plan is not a list of definitions; write it in one: […]",
        ),
        (
            lambda of: lp.vacuum(of, older_than="soon"),
            lp.LazypipeError,
            "older_than: 'soon' is not a duration such as 90s, 15m, 2h, 3d or 1w",
        ),
        (lambda of: of.run(), AttributeError, "a definition has no attribute 'run'; compile it first: .compile().run"),
        (lambda of: of.runn(), AttributeError, "a definition has no attribute 'runn'"),
        (
            lambda of: lp.pipeline("p").source("a", "a.csv").stage("s", "a", [lambda rows: rows]),
            lp.DefinitionError,
            (
                "stages.s.do[0]: a function is not an operation; call it on the frame that lp.scan returns, or put it into a module and call it with python:"
                " {'python': {'call': 'module:function'}}"
            ),
        ),
        (
            lambda of: lp.check(pl.DataFrame({"x": [1]}), [pl.col("x") > 1]),
            lp.DefinitionError,
            "rules[0]: a Polars expression is not a rule; write what is done with it: {'expression': …}",
        ),
    ],
)
def test_calls_that_are_wrong_say_what_to_give(tmp_path: Path, call: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as caught:
        call(source(tmp_path, pl.DataFrame({"x": [1]})))
    assert str(caught.value) == said


def test_how_old_leftovers_are_may_be_said_as_text(tmp_path: Path) -> None:
    of = source(tmp_path, pl.DataFrame({"x": [1]}))
    of.compile().run().raise_for_status()
    left = tmp_path / "out/20240101T000000-0badcafe-001-00000.parquet"  # by a run that was killed just now
    left.write_bytes(b"")
    assert lp.vacuum(of, older_than="36h") == []
    assert lp.vacuum(of, older_than="0s") == [str(left)]


def test_a_path_that_may_be_meant_shows_no_secret(tmp_path: Path) -> None:
    (tmp_path / "s3cret").mkdir()
    (tmp_path / "s3cret/orders.csv").write_text("x\n1\n")
    made = lp.pipeline("p", base=str(tmp_path)).source("in", "${PLACE}/order.csv").output("in", "out").build()
    with pytest.raises(lp.SourceError, match=r"there is no such file; did you mean '.*orders\.csv'\?") as caught:
        made.compile(env={"PLACE": str(tmp_path / "s3cret")})
    assert "s3cret" not in str(caught.value)
