"""The command line, as a user meets it: text on stderr, results and JSON on stdout, exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.cli.rows import _table
from lazypipe.cli.runs import _Progress
from lazypipe.run import deciding
from lazypipe.run import stream as streams

DEFINITION = """\
version: 1
name: shop
params:
  least: {type: integer, default: 0}
sources:
  orders: {uri: orders.parquet}
stages:
  large:
    from: orders
    do:
      - filter: amount >= :least
    gate:
      - not_null: {columns: customer, action: quarantine}
      - between: {column: amount, max: 1000}
outputs:
  large: {to: out/large}
  file: {from: large, to: out/large.csv, format: csv}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").write_text(DEFINITION)
    rows = pl.DataFrame({"id": [1, 2, 3, 4], "customer": ["a", None, "b", "c"], "amount": [5, 50, 500, None]})
    rows.write_parquet(tmp_path / "orders.parquet")
    return tmp_path / "shop.yaml"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_run_says_what_it_did(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "run", shop)
    assert (code, out) == (0, "")
    lines = err.splitlines()
    assert lines[0].startswith("large: 2 rows, ")
    assert lines[0].endswith(f"1 quarantined → {shop.parent}/out/large version 1")
    assert lines[1] == "    warn: large: not_null:customer: 1 of 3 rows (quarantine)"
    assert lines[2].startswith("file: 2 rows, ")
    assert lines[-1].startswith("done in ")
    assert Path(lines[-1].partition("record: ")[2]).exists()
    assert (shop.parent / "out/large.csv").read_text() == "id,customer,amount\n1,a,5\n3,b,500\n"


def test_run_says_what_was_repaired(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cell that was changed is told, although the rule holds now."""
    repair = "{column: amount, max: 100, action: repair, repair: {clip: true}}"
    shop.write_text(DEFINITION.replace("{column: amount, max: 1000}", repair))
    code, _, err = run(capsys, "run", shop)
    assert code == 0
    assert "    pass: large: between:amount: 1 of 3 rows repaired" in err.splitlines()
    shop.write_text(
        DEFINITION.replace("{column: amount, max: 1000}", repair.replace("clip: true", "set: amount - 400, then: warn"))
    )
    pl.DataFrame({"id": [1, 2], "customer": ["a", "b"], "amount": [700, 500]}).write_parquet(
        shop.parent / "orders.parquet"
    )
    code, _, err = run(capsys, "run", shop)
    assert code == 0
    assert "    warn: large: between:amount: 1 of 2 rows repaired, 1 could not be (warn)" in err.splitlines()


def test_run_as_json(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "run", shop, "--json", "--param", "least=10")
    result = json.loads(out)
    assert code == 0
    assert result["status"] == "done"
    assert result["params"]["least"] == "10"
    assert [(s["name"], s["status"], s["version"], s["rows"]) for s in result["segments"]] == [
        ("large", "done", 1, 1),
        ("file", "done", None, 1),
    ]


def test_a_failed_gate_is_exit_code_1(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "run", shop)[0] == 0
    pl.DataFrame({"id": [1], "customer": ["a"], "amount": [5_000]}).write_parquet(shop.parent / "orders.parquet")
    code, out, err = run(capsys, "run", shop, "--json")
    assert code == 1
    assert json.loads(out)["status"] == "gate_failed"
    assert "gate of 'large' failed: between:amount: 1 of 1 rows (fail)" in err
    assert "file: blocked" in err
    assert lp.scan(str(shop.parent / "out/large")).collect()["id"].to_list() == [1, 3]


def test_a_wrong_definition_is_exit_code_2(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop.write_text(DEFINITION.replace("amount >= :least", "amout >= :leest").replace("from: large", "from: lrge"))
    code, out, err = run(capsys, "check", shop)
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        f"{shop}:11:9: unknown parameter :leest; did you mean 'least'?",
        f"{shop}:17:10: unknown stage 'lrge'; did you mean 'large'?",
    ]
    code, out, _ = run(capsys, "check", shop, "--json")
    assert code == 2
    assert json.loads(out)["status"] == "error"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--param", "least"], ["--param", "leest=1"], ["--param", "least=few"], ["--output", "larg"], ["--max-files", "0"], ["--max-files", "many"],
        ["--since", "soon"], ["--window", "soon"], ["--window", "2024-01-02..2024-01-01"], ["--chunk", "1d"], ["--nothing"],
        ["--window", "2024-01-01..2024-01-03", "--chunk", "soon"], ["--window", "2024-01-01..2024-01-03", "--chunk", "1d", "--since", "2024-01-01"],
    ],
)  # fmt: skip
def test_wrong_options_are_exit_code_2(shop: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    try:
        code, _, told = run(capsys, "run", shop, *arguments)
    except SystemExit as stopped:  # argparse's own, which has told
        code, told = stopped.code, capsys.readouterr().err
    assert code == 2
    assert told


def test_a_missing_file_is_exit_code_3(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop.parent / "orders.parquet").unlink()
    code, _, err = run(capsys, "run", shop)
    assert code == 3
    assert err.startswith(f"{shop.parent}/orders.parquet: source 'orders': there is no such file")
    assert run(capsys, "run", shop.parent / "none.yaml")[0] == 2


def test_check(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "check", shop) == (0, "", f"{shop} is right: 1 source, 1 stage, 2 outputs\n")
    assert json.loads(run(capsys, "check", shop, "--json")[1]) == {
        "status": "ok",
        "sources": 1,
        "stages": 1,
        "outputs": 2,
    }
    shop.write_text(shop.read_text().replace("amount >=", "amout >="))
    code, out, err = run(capsys, "check", shop, "--json")
    found = json.loads(out)
    assert (code, found["error"]) == (2, err.removesuffix("\n"))
    assert [(p["where"]["line"], p["what"], p["fix"]) for p in found["problems"]] == [
        (11, "unknown column 'amout'", "did you mean 'amount'?")
    ]


def test_plan_says_what_and_why(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = (shop.parent / "orders.parquet").stat().st_size
    code, out, _ = run(capsys, "plan", shop)
    assert code == 0
    assert out.splitlines() == [
        "large: nothing was committed yet",
        f"    reads orders: 1 file, {size:,} bytes, 4 rows",
        "    checks large: not_null:customer, between:amount",
        f"    writes {shop.parent}/out/large version 1",
        "file: one csv file is replaced",
        f"    writes {shop.parent}/out/large.csv",
    ]
    run(capsys, "run", shop)
    steps = json.loads(run(capsys, "plan", shop, "--json")[1])
    assert (steps[0]["how"], steps[0]["why"]) == ("none", "nothing changed: orders: 1 unchanged")
    assert steps[0]["reads"] == []
    steps = json.loads(run(capsys, "plan", shop, "--full", "--json")[1])
    assert (steps[0]["how"], steps[0]["why"]) == ("all", "full rebuild requested")
    assert steps[0]["reads"] == [{"name": "orders", "files": 1, "of": 1, "bytes": size, "rows": 4}]


def test_stream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    definition = DEFINITION.replace("orders.parquet", "in/*.parquet").replace(
        "  file: {from: large, to: out/large.csv, format: csv}\n", ""
    )
    path = tmp_path / "shop.yaml"
    path.write_text(definition)
    (tmp_path / "in").mkdir()
    for number, amount in enumerate((1, 2, 3)):
        rows = pl.DataFrame({"id": [number, 9], "customer": ["a", None], "amount": [amount, amount]})
        rows.write_parquet(tmp_path / f"in/{number}.parquet")
    code, out, _ = run(capsys, "plan", path, "--max-files", 1)
    assert (code, out.splitlines()[0]) == (
        0,
        "large: nothing was committed yet; orders: 2 more left for later runs",
    )
    assert run(capsys, "run", path, "--max-files", 1)[0] == 0
    code, out, err = run(capsys, "stream", path, "--once", "--max-files", 1, "--param", "least=0")
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first[20:].startswith("done in ")
    assert first.endswith(" s, large +1; 1 left")
    assert second.endswith(" s, large +1")
    assert run(capsys, "stream", path, "--once") == (0, "", "nothing new\n")
    pl.DataFrame({"id": [7], "customer": ["b"], "amount": [5000]}).write_parquet(tmp_path / "in/7.parquet")
    code, out, err = run(capsys, "stream", path, "--json", "--every", "1s")
    assert code == 1
    (line,) = out.splitlines()
    assert json.loads(line)["status"] == "gate_failed"
    assert "between:amount" in err
    code, _, err = run(capsys, "stream", path, "--or-after", "1m")
    assert (code, err) == (2, "trigger: or_after is how long files or rows are waited for; add one of them\n")


def test_a_stream_says_what_it_waits_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("{version: 1, name: p, sources: {a: {uri: a.csv}}, outputs: {a: {to: out/a}}}")
    (tmp_path / "a.csv").write_text("x\n1\n")
    listing, left = streams.listing, [ConnectionResetError("reset")]

    def away(*given: Any, **more: Any) -> Any:
        if left:
            raise lp.SourceError("cannot be listed", uri="a.csv", fix="check the network") from left.pop()
        return listing(*given, **more)

    monkeypatch.setattr(streams, "listing", away)
    code, out, err = run(capsys, "stream", path, "--once")
    assert (code, err) == (0, "a.csv: cannot be listed; check the network; again in 1 s\n")
    assert out.splitlines()[0].endswith(" s, a +1")


def test_a_stream_says_once_what_it_goes_on_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "{version: 1, name: p, sources: {a: {uri: 'a/*.csv'}, b: {uri: 'b/*.csv'}}, outputs: {a: {to: out/a}, b: {to: out/b}}}"
    )
    for folder, names, text in (("a", "123", "x\n1\n"), ("b", "1", "")):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.csv").write_text(text)
    code, out, err = run(capsys, "stream", path, "--once", "--max-files", 1)
    assert code == 3
    assert [line[20:].partition(" in ")[0] for line in out.splitlines()] == ["error"] * 3
    assert [line.partition(" s, ")[2] for line in out.splitlines()] == [
        "a +1, b error; 2 left",
        "a +1, b error; 1 left",
        "a +1, b error",
    ]
    assert err.count(f"b: error\n    {tmp_path}/b/1.csv: source 'b': the file is empty") == err.count("b: error") == 1
    (tmp_path / "b/1.csv").write_text("x\n1\n")
    code, out, err = run(capsys, "stream", path, "--once")
    assert (code, out.rstrip().partition(" s, ")[2], err) == (0, "b +1", "")


def test_files_that_are_left_out_are_told_in_every_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = """\
version: 1
name: p
sources: {a: {uri: in/*.csv, on_corrupt: quarantine_file}}
outputs: {a: {to: out/a}}
"""
    Path("p.yaml").write_text(text)
    Path("in").mkdir()
    Path("in/1.csv").write_text("x\n1\n")
    assert run(capsys, "run", "p.yaml")[0] == 0
    for number in range(2, 14):
        Path(f"in/{number:02}.csv").write_text("x\n1,2\n")
    why = "source 'a': is not readable as csv: a line has too many fields (line 2)"
    for _ in range(2):
        code, _, err = run(capsys, "run", "p.yaml")
        lines = err.splitlines()
        assert (code, lines[0]) == (0, "a: unchanged, version 1")
        assert lines[1] == f"left out (quarantine_file): {tmp_path}/in/02.csv: {why}"
        assert lines[11] == "left out: 2 more"
        assert lines[12].startswith("unchanged in ")
    Path("in/14.csv").write_text("x\n2\n")
    code, out, _ = run(capsys, "stream", "p.yaml", "--once")
    assert (code, out.rstrip().rpartition(", ")[2]) == (0, "a +1; 12 files left out")


def test_explain(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "FILTER" in run(capsys, "explain", shop, "large", "--kind", "logical")[1]
    assert "Parquet SCAN" in run(capsys, "explain", shop, "large")[1]
    assert (
        "multi-scan[parquet]"
        in json.loads(run(capsys, "explain", shop, "file", "--kind", "physical", "--json")[1])["plan"]
    )
    code, _, err = run(capsys, "explain", shop, "lrge")
    assert code == 2
    assert err == "unknown source, stage or output 'lrge'; did you mean 'large'?\n"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_table_is_as_wide_as_the_terminal(width: int) -> None:
    rows = pl.DataFrame({f"column_{n}": [n, None] for n in range(30)} | {"note": ["word " * 30, ""]})
    text, columns = _table(rows, width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert columns == lines[2].count("┆") - (" … " in lines[2]) + 1 < rows.width
    assert _table(rows.drop("note"), 500)[1] == 30
    # text is cut before columns go, as little as can be; lines wrap where even two do not fit
    few = rows.select("column_1", "note")
    text, columns = _table(few, width)
    assert columns == 2
    assert max(map(len, text.splitlines())) <= width
    assert ("word " * 30 in text) == (width == 200)
    assert max(map(len, _table(few, 20)[0].splitlines())) <= 20
    # what is no terminal takes all of it
    text, columns = _table(rows, None)
    assert columns == rows.width
    assert "column_29" in text
    assert "word " * 30 in text


@pytest.mark.skipif(sys.platform == "win32", reason="there are no terminals of that kind")
def test_show_folds_columns_on_a_terminal_only(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fcntl
    import pty
    import struct
    import termios

    wide = pl.read_parquet(shop.parent / "orders.parquet").with_columns(pl.lit(n).alias(f"c{n}") for n in range(40))
    wide.write_parquet(shop.parent / "orders.parquet")
    run(capsys, "run", shop)
    own, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    environment = {n: v for n, v in os.environ.items() if n != "COLUMNS"}
    command = [sys.executable, "-m", "lazypipe", "show", str(shop), "large"]
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, text=True, env=environment, check=True)
    os.close(theirs)
    lines = os.read(own, 100_000).decode().splitlines()
    os.close(own)
    assert lines[0] == "shape: (2, 43)"
    assert {len(line) for line in lines[1:]} == {len(lines[1])}
    assert 40 < len(lines[1]) <= 60
    shown = lines[2].count("┆")
    assert done.stderr == f"{shown} of 43 columns, as many as the terminal has room for; --json writes all\n"
    code, out, err = run(capsys, "show", shop, "large")
    assert (code, err) == (0, "")
    assert out.splitlines()[2].count("┆") == 42
    assert len(json.loads(run(capsys, "show", shop, "large", "--json")[1])[0]) == 43


def test_suggest(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pl.DataFrame({"id": range(40), "kind": ["a", "b"] * 20})
    rows.write_csv(shop.parent / "rows.csv")
    code, out, err = run(capsys, "suggest", shop.parent / "rows.csv")
    assert (code, err) == (0, "")
    assert out == lp.suggest_rules(rows).to_yaml()
    assert json.loads(run(capsys, "suggest", shop.parent / "*.csv", "--json")[1]) == list(lp.suggest_rules(rows))
    assert "proposed from 20 of 40 rows" in run(capsys, "suggest", shop.parent / "rows.csv", "--sample", "20")[1]
    # what is proposed holds where it came from
    shop.write_text(
        DEFINITION.replace("orders.parquet}", "rows.csv, gate: " + json.dumps(list(lp.suggest_rules(rows))) + "}")
    )
    shop.write_text(shop.read_text().replace("amount", "id").replace("customer", "kind"))
    assert run(capsys, "run", shop)[0] == 0
    rows.filter(pl.col("id") <= 5).write_parquet(shop.parent / "few.parquet")
    found = run(capsys, "suggest", shop.parent / "out/large")  # a dataset
    assert found == (0, lp.suggest_rules(lp.scan(shop.parent / "out/large")).to_yaml(), "")
    code, out, err = run(capsys, "suggest", shop.parent / "none.csv")
    assert (code, out) == (3, "")
    assert err.startswith(f"{shop.parent}/none.csv: source 'data': there is no such file")
    away = shop.parent / "elsewhere-altogether.csv"  # of no definition
    assert run(capsys, "suggest", away)[2] == f"{away}: source 'data': there is no such file; check the path\n"
    assert run(capsys, "suggest", shop.parent / "rows.csv", "--sample", "0")[0] == 2
    (shop.parent / "bad.parquet").write_bytes(
        (shop.parent / "few.parquet").read_bytes().replace(b"PAR1", b"PAR2", 1)[:-8]
    )
    assert run(capsys, "suggest", shop.parent / "bad.parquet")[0] == 3
    (shop.parent / "rows.ndjson").write_text('{"a": 1}\n' * 20_000 + "{\n")
    code, out, err = run(capsys, "suggest", shop.parent / "rows.ndjson")
    assert (code, out) == (3, "")
    assert err.startswith(f"{shop.parent}/rows.ndjson: rows cannot be read: ")


def test_import(shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TABLE", raising=False)
    file = shop.parent / "schema.yml"
    file.write_text("models: [{name: orders, columns: [{name: id, data_tests: [unique, odd]}]}, {name: more}]")
    contract = lp.contracts.from_dbt(file)
    code, out, err = run(capsys, "import", "dbt", file)
    assert (code, out) == (0, contract.to_yaml())
    assert "# not taken over: " in out
    assert err == "1 part of it is not taken over; see what is written\n"
    code, out, _ = run(capsys, "import", "dbt", file, "orders", "--json")
    found = json.loads(out)
    assert (found["name"], found["tables"]) == (contract.name, {"orders": {"gate": [{"unique": "id"}]}})
    assert found["unmapped"] == [str(f) for f in contract.unmapped]
    assert run(capsys, "import", "dbt", file, "order")[2] == f"{file}: unknown table 'order'; did you mean 'orders'?\n"
    suite = shop.parent / "suite.json"
    suite.write_text(
        '{"name": "s", "expectations": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "c"}}]}'
    )
    assert run(capsys, "import", "gx", suite) == (0, "s:\n  gate:\n  - not_null: c\n", "")
    (shop.parent / "c.yaml").write_text(json.dumps(lp.contracts.to_odcs(contract)))
    assert "unique: id" in run(capsys, "import", "odcs", shop.parent / "c.yaml")[1]
    contract_v3_2 = (
        "{apiVersion: v3.2.0, kind: DataContract, id: x, version: 1, schema: [{name: '${TABLE}', properties: [\n"
        "{name: id, logicalType: integer, required: true}]}]}"
    )
    (shop.parent / "v.yaml").write_text(contract_v3_2)
    assert "the variable TABLE has no value; set TABLE in" in run(capsys, "import", "odcs", shop.parent / "v.yaml")[2]
    monkeypatch.setenv("TABLE", "sales")
    assert run(capsys, "import", "odcs", shop.parent / "v.yaml")[1].startswith("sales:\n")
    code, out, err = run(capsys, "import", "odcs", shop.parent / "none.yaml")
    assert (code, out, err) == (
        2,
        "",
        f"there is no file {shop.parent}/none.yaml; check the path, or pass the text itself\n",
    )
    assert run(capsys, "import", "gx", shop)[0] == 2


@pytest.mark.parametrize("command", [["status"], ["history", "large"], ["rollback", "large", "1"]])
def test_what_stands_hangs_on_no_parameters(shop: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    run(capsys, "run", shop)
    name, *rest = command
    with pytest.raises(SystemExit) as caught:
        main([name, str(shop), *rest, "--param", "least=7"])
    assert caught.value.code == 2
    assert "unrecognized arguments: --param least=7" in capsys.readouterr().err
    assert run(capsys, name, shop, *rest)[0] == 0


def test_no_option_is_guessed_from_its_beginning(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A slip of the pen must not make everything anew."""
    for options in (["run", str(shop), "--ful"], ["vacuum", str(shop), "--dry"]):
        with pytest.raises(SystemExit) as caught:
            main(options)
        assert caught.value.code == 2
        assert f"unrecognized arguments: {options[-1]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["runn", "FILE"],
            "lazypipe: error: argument COMMAND: invalid choice: 'runn' (choose from 'run', 'plan', …); did you mean 'run'?",
        ),
        (["run", "FILE", "--ful"], "lazypipe run: error: unrecognized arguments: --ful; did you mean '--full'?"),
        (["run", "FILE", "--zzz=3", "--xyz"], "lazypipe run: error: unrecognized arguments: --zzz=3 --xyz"),
        (
            ["vacuum", "FILE", "--kep=3"],
            "lazypipe vacuum: error: unrecognized arguments: --kep=3; did you mean '--keep'?",
        ),
        (
            ["explain", "FILE", "large", "--kind", "phys"],
            "lazypipe explain: error: argument --kind: invalid choice: 'phys' (choose from 'logical', 'optimized', 'physical'); did you mean 'physical'?",
        ),
        (["status", "FILE", "-x"], "lazypipe status: error: unrecognized arguments: -x"),
        (
            ["run", "FILE", "--every", "10s"],
            "lazypipe run: error: unrecognized arguments: --every 10s; --every is an option of stream",
        ),
        (
            ["check", "FILE", "--full"],
            "lazypipe check: error: unrecognized arguments: --full; --full is an option of run, plan",
        ),
        (
            ["check", "FILE", "--param2", "x=1"],
            "lazypipe check: error: unrecognized arguments: --param2 x=1; did you mean '--param'?",
        ),
        (["status", "FILE", "--param", "x=1"], "lazypipe status: error: unrecognized arguments: --param x=1"),
        (
            ["stream", "FILE", "--every", "-10s"],
            "lazypipe stream: error: argument --every: expected one argument; a value that begins with - is written --every=-…",
        ),
    ],
)
def test_what_is_misspelt_on_the_command_line(
    shop: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(shop) if o == "FILE" else o for o in options])
    assert caught.value.code == 2
    told = capsys.readouterr().err
    command = said.partition(":")[0]
    assert told.startswith(f"usage: {command} ")  # that of the command that was asked for
    assert re.sub("'stream'.*'vacuum'", "…", told).splitlines()[-1] == said


def test_a_definition_that_changed_is_told_where_rows_stay_as_they_were(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    appended = DEFINITION.replace("to: out/large}", "to: out/large, mode: append}")
    shop.write_text(appended)
    run(capsys, "run", shop, "--output", "large")
    assert run(capsys, "run", shop, "--output", "large")[2].splitlines()[0] == "large: unchanged, version 1"
    changed = appended.replace("amount >= :least", "amount > :least + 1")
    assert changed != appended
    shop.write_text(changed)
    told = run(capsys, "run", shop, "--output", "large")[2].splitlines()[:2]
    holds = "    nothing new: orders: 1 unchanged; the definition changed, and applies to new rows only"
    assert told == ["large: unchanged, version 1", holds]


@pytest.mark.parametrize("more", ["", ", mode: append"])
def test_deliveries_that_are_waited_for_are_told_by_each_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str
) -> None:
    source = "{uri: in/*/*.csv, expect: {marker: _SUCCESS}}"
    text = f"version: 1\nname: p\nsources: {{s: {source}}}\noutputs: {{s: {{to: out{more}}}}}\n"
    (tmp_path / "p.yaml").write_text(text)
    for folder in ("1", "2"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / "a.csv").write_text("x\n1\n")
    (tmp_path / "in/1/_SUCCESS").touch()
    waiting = "waiting for _SUCCESS in in/2/"
    code, _, err = run(capsys, "run", tmp_path / "p.yaml")
    assert (code, err.splitlines()[1]) == (0, f"    nothing was committed yet; {waiting}")
    code, _, err = run(capsys, "run", tmp_path / "p.yaml")
    assert (code, err.splitlines()[0]) == (0, "s: unchanged, version 1")
    assert err.splitlines()[1].endswith(f"s: 1 unchanged, {waiting}")
    (tmp_path / "in/2/_SUCCESS").touch()
    code, _, err = run(capsys, "run", tmp_path / "p.yaml")
    assert (code, waiting in err, len(err.splitlines())) == (0, False, 2)


def test_a_vacuum_must_leave_a_version(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "run", shop)
    said = "--keep 0 is less than 1; keep 1 or more: one must stay in force\n"
    assert run(capsys, "vacuum", shop, "--keep", "0") == (2, "", said)
    assert run(capsys, "show", shop, "large")[0] == 0


def test_schema(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(capsys, "schema", shop, "large")[1]
        == "large\n    id        Int64\n    customer  String\n    amount    Int64\n"
    )
    assert list(json.loads(run(capsys, "schema", shop, "--json")[1])) == ["orders", "large"]
    assert json.loads(run(capsys, "schema")[1]) == lp.json_schema()


def test_show(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "run", shop)
    assert "customer" in run(capsys, "show", shop, "large")[1]
    assert json.loads(run(capsys, "show", shop, "large", "-n", "1", "--json")[1]) == [
        {"id": 1, "customer": "a", "amount": 5}
    ]
    assert run(capsys, "show", shop, "lrge")[0] == 2
    with pytest.raises(SystemExit):
        run(capsys, "show", shop, "large", "-n", "-1")
    assert "'-1' is not a number of rows; write 0 or more" in capsys.readouterr().err
    (data,) = (Path(shop).parent / "out/large").glob("*.parquet")
    data.write_bytes(b"not Parquet")
    code, out, err = run(capsys, "show", shop, "large")
    assert (code, out) == (3, "")
    assert err.startswith(f"{data.parent}: rows cannot be read: ")
    assert err.endswith("; restore the file from a backup, roll back, or run in full\n")
    data.unlink()
    code, out, err = run(capsys, "show", shop, "large")
    assert (code, out) == (3, "")
    assert err.startswith(
        f"{data}: a data file of version 1 is gone; restore it from a backup, roll back, or run in full"
    )
    aside = json.loads(run(capsys, "show", shop, "large__quarantine", "--json")[1])
    assert [(r["id"], r["_lazypipe_rules"]) for r in aside] == [(2, ["not_null:customer"])]
    (data,) = (Path(shop).parent / "out/large__quarantine").glob("*.parquet")
    data.write_bytes(b"")
    assert run(capsys, "show", shop, "large__quarantine")[2].startswith("large__quarantine: rows cannot be read: ")
    for beside, said in (
        ("large__panes", "output 'large' tells no panes; say panes: {mode: …}"),
        ("large__changes", "output 'large' tells no changes; say changes: true"),
        ("orders__quarantine", "no rule of 'orders' puts rows in quarantine; say action: quarantine"),
        ("orders__changes", "unknown output 'orders__changes'; known outputs: file, large"),
    ):
        assert run(capsys, "show", shop, beside) == (2, "", f"{said}\n")
    shop.write_text(
        DEFINITION.replace(
            "{uri: orders.parquet}",
            "{uri: orders.parquet, gate: [{in_set: {column: id, values: [1], action: quarantine}}]}",
        )
    )
    run(capsys, "run", shop)
    aside = json.loads(run(capsys, "show", shop, "orders__quarantine", "--json")[1])
    assert sorted(r["id"] for r in aside) == [2, 3, 4]


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet", "ipc"])
def test_show_of_an_export(tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "k=1"  # which is no column of the file
    definition = folder / "shop.yaml"
    folder.mkdir()
    rows = pl.DataFrame({"id": ["007", None, "x[1]"], "amount": [1.5, None, 2.0]})
    rows.write_parquet(tmp_path / "orders.parquet")
    source, output = f"{{uri: {tmp_path}/orders.parquet}}", f"{{to: 'out[1].{form}', format: {form}}}"
    definition.write_text(f"version: 1\nname: p\nsources: {{a: {source}}}\noutputs: {{a: {output}}}\n")
    nothing = f"{folder}/out[1].{form}: there is no such file; run the pipeline that writes it, or check the path\n"
    assert run(capsys, "show", definition, "a") == (3, "", nothing)
    run(capsys, "run", definition)
    assert json.loads(run(capsys, "show", definition, "a", "--json")[1]) == rows.to_dicts()
    rows.clear().write_parquet(tmp_path / "orders.parquet")
    run(capsys, "run", definition)
    assert run(capsys, "show", definition, "a", "--json") == (0, "[]\n", "")
    told = lp.load(str(definition)).compile().scan("a").collect_schema()
    assert told == rows.schema


def test_show_where_the_terminal_has_no_letters_for_tables(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "run", shop)
    command = [sys.executable, "-m", "lazypipe", "show", str(shop), "large", "-n", "1"]
    told = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=True)
    assert told.stdout.decode("ascii").splitlines() == [
        "shape: (1, 3)",
        "+-----+----------+--------+",
        "| id  | customer | amount |",
        "| --- | ---      | ---    |",
        "| i64 | str      | i64    |",
        "+=========================+",
        "| 1   | a        | 5      |",
        "+-----+----------+--------+",
    ]


def test_show_of_a_quarantine_in_which_nothing_is(shop: Path, capsys: Any) -> None:
    gate = "[{in_set: {column: id, values: [1, 2, 3, 4], action: quarantine}}]"
    shop.write_text(DEFINITION.replace("{uri: orders.parquet}", f"{{uri: orders.parquet, gate: {gate}}}"))
    run(capsys, "run", shop)
    assert run(capsys, "show", shop, "orders__quarantine", "--json") == (0, "[]\n", "")
    told = [*lp.load(str(shop)).compile().scan("orders__quarantine").collect_schema()]
    assert told == ["id", "customer", "amount", "_lazypipe_rules", "_lazypipe_run", "_lazypipe_file"]


@pytest.mark.parametrize(
    "given",
    [["frob"], ["check"], ["explain", "a.yaml"], ["run", "a.yaml", "--ouput", "x"], ["show", "a.yaml", "x", "-n", "y"]],
)
def test_a_wrong_command_line_is_told_as_json_too(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (given, [*given, "--json"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        out, err = capsys.readouterr()
        why = err.splitlines()[-1]
        assert "error: " in why
        assert out == "" if arguments is given else json.loads(out) == {"status": "error", "error": why}


def test_what_functions_print_does_not_stand_in_the_json(shop: Path) -> None:
    (shop.parent / "talks.py").write_text("print('module')\ndef on(frame):\n    print('function')\n    return frame\n")
    stage = "{from: orders, do: [{python: talks:on}]}"
    shop.write_text(
        f"version: 1\nname: p\nsources: {{orders: {{uri: orders.parquet}}}}\nstages: {{s: {stage}}}\noutputs: {{s: {{to: out/s}}}}\n"
    )
    for command in ("check", "run", "plan", "show"):
        given = [command, str(shop), *(["s"] if command == "show" else []), "--allow", "talks", "--json"]
        env = {**os.environ, "PYTHONPATH": str(shop.parent)}
        told = subprocess.run(
            [sys.executable, "-m", "lazypipe", *given], capture_output=True, env=env, check=True, text=True
        )
        assert json.loads(told.stdout)
        assert told.stderr.startswith("module\nfunction\n")


def test_replay(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "run", shop)
    shop.write_text(DEFINITION.replace("      - not_null: {columns: customer, action: quarantine}\n", ""))
    code, out, err = run(capsys, "replay", shop, "large", "--json")
    assert (code, json.loads(out)["healed"]) == (0, 1)
    assert err == "large: 1 row healed in version 2, 0 delivered again by their source\n0 rows remain in quarantine\n"
    code, out, err = run(capsys, "replay", shop, "large")
    assert (code, out, err.splitlines()[0]) == (0, "", "large: 0 rows healed, 0 delivered again by their source")
    assert run(capsys, "replay", shop, "larg")[0] == 2


def test_status_history_and_rollback(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "status", shop)[1] == "large: nothing was committed yet\nfile: no file was written yet\n"
    run(capsys, "run", shop)
    first = lp.scan(str(shop.parent / "out/large")).collect()
    orders = shop.parent / "orders.parquet"
    pl.read_parquet(orders).clear().write_parquet(orders)
    assert run(capsys, "run", shop)[0] == 0
    code, out, _ = run(capsys, "history", shop, "large", "--json")
    assert (code, [(v["version"], v["rows"]) for v in json.loads(out)]) == (0, [(1, first.height), (2, 0)])
    assert [v["why"] for v in json.loads(out)] == ["nothing was committed yet", "orders: 1 modified"]
    lines = run(capsys, "history", shop, "large")[1].splitlines()
    assert [(line[:2], line.partition(": ")[2].partition(": ")[2]) for line in lines] == [
        ("1:", "nothing was committed yet"),
        ("2:", "orders: 1 modified"),
    ]
    code, out, err = run(capsys, "rollback", shop, "large", "1", "--json")
    assert (code, json.loads(out), err) == (
        0, {"output": "large", "version": 3}, "large: version 1 is in force again, as version 3\n"
    )  # fmt: skip
    assert lp.scan(str(shop.parent / "out/large")).collect().sort(pl.all()).equals(first.sort(pl.all()))
    told, file = json.loads(run(capsys, "status", shop, "--json")[1])
    size = (shop.parent / "out/large.csv").stat().st_size
    assert (file["output"], file["version"], file["format"], file["files"], file["bytes"]) == (
        "file",
        None,
        "csv",
        1,
        size,
    )
    assert f"file: one csv file, {size} bytes\n" in run(capsys, "status", shop)[1]
    assert (told["version"], told["rows"], told["consumed"]["orders"]["files"]) == (3, first.height, 1)
    assert "made of orders: 1 file, " in run(capsys, "status", shop)[1]
    # what was consumed came back too: the present files are news
    assert "large: orders: 1 " in run(capsys, "plan", shop)[1]
    assert run(capsys, "run", shop, "--output", "large")[0] == 0
    assert lp.scan(str(shop.parent / "out/large")).collect().height == 0
    for record in (shop.parent / ".lazypipe/runs").iterdir():  # what they tell is a convenience
        record.write_text("[]")
    assert {v["why"] for v in json.loads(run(capsys, "history", shop, "large", "--json")[1])} == {None}
    code, _, err = run(capsys, "rollback", shop, "large", "9")
    assert (code, "there is no version 9" in err) == (3, True)
    assert run(capsys, "history", shop, "larg")[0] == 2
    assert run(capsys, "run", shop, "--output", "larg")[0] == 2


def test_a_run_that_did_not_begin_has_no_segments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.yaml").write_text("version: 1\nname: p\nsources: {a: {uri: nowhere.csv}}\noutputs: {a: {to: out}}\n")
    code, out, err = run(capsys, "run", tmp_path / "p.yaml", "--json")
    assert json.loads(out) == {"status": "error", "error": err.removesuffix("\n"), "segments": []}
    assert (code, "there is no such file" in err) == (3, True)
    assert "segments" not in json.loads(run(capsys, "plan", tmp_path / "p.yaml", "--json")[1])


@pytest.mark.parametrize("always", [False, True])
def test_a_run_that_another_one_overtook_goes_on_from_there(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, always: bool
) -> None:
    decide, won = deciding.decide, list[str]()

    def overtaken(*args: Any, **kwargs: Any) -> Any:
        """Let another run go by, right after this one has looked at what there is to do."""
        work = decide(*args, **kwargs)
        if always or not won:
            with monkeypatch.context() as inner:
                inner.setattr(deciding, "decide", decide)
                won.append(lp.load(shop).compile().run(full=True, outputs=["large"]).status)
        return work

    monkeypatch.setattr(deciding, "decide", overtaken)
    code, out, err = run(capsys, "run", shop, "--output", "large", "--json", *(["--full"] if always else []))
    told = "another run committed in the meantime; running again, over what is there now"
    (segment,) = json.loads(out)["segments"]
    assert won == ["done"] * (3 if always else 1)
    assert not (shop.parent / "out/large.csv").exists()  # which nobody has asked for
    assert err.count(told) == (2 if always else 1)
    assert (code, segment["status"]) == ((3, "error") if always else (0, "unchanged"))
    assert lp.history(shop.parent / "out/large").height == len(won)


def test_vacuum(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        run(capsys, "run", shop, "--full")
    assert run(capsys, "vacuum", shop, "--older-than", "0s", "--dry-run")[2].splitlines()[-2:] == [
        f"{shop.parent}/out/large: version 1 can no longer be read or rolled back to then; --keep N keeps the last N",
        "2 would be deleted",
    ]
    assert "can no longer" not in run(capsys, "vacuum", shop, "--keep", "2", "--dry-run")[2]
    alone = run(capsys, "vacuum", shop.parent / "out/large", "--dry-run")[2].splitlines()
    assert alone[-2].startswith(f"{shop.parent}/out/large: version 1 can no longer")
    code, out, err = run(capsys, "vacuum", shop, "--older-than", "0s", "--json")
    assert code == 0
    assert json.loads(out)["versions"] == {f"{shop.parent}/out/large": [1]}
    deleted = json.loads(out)["deleted"]
    assert len(deleted) == 2  # the first version's data, and its quarantine
    assert err.splitlines()[-1] == "2 deleted"
    assert run(capsys, "vacuum", shop.parent / "out/large")[2] == "0 deleted\n"
    # of all definitions in a folder
    (shop.parent / "other.yaml").write_text(
        DEFINITION.replace("out/large", "out/other").replace("name: shop", "name: other")
    )
    for _ in range(2):
        run(capsys, "run", shop.parent, "--full")
    code, out, _ = run(capsys, "vacuum", shop.parent, "--older-than", "0s", "--json")
    assert code == 0
    assert json.loads(out)["versions"] == {f"{shop.parent}/out/large": [2, 3], f"{shop.parent}/out/other": [1]}
    assert run(capsys, "vacuum", shop.parent / "nowhere")[2].startswith(
        f"{shop.parent}/nowhere: there is no dataset here"
    )
    assert run(capsys, "vacuum", shop, "--older-than", "soon")[0] == 2


def test_vacuum_tells_of_rows_that_are_gone_and_still_stand_in_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.yaml").write_text("{version: 1, name: p, sources: {s: {uri: '*.csv'}}, outputs: {s: {to: out}}}")
    for name, rows in {"a": "1\n2\n", "b": "3\n"}.items():
        (tmp_path / f"{name}.csv").write_text(f"x\n{rows}")
    run(capsys, "run", tmp_path / "p.yaml")
    (tmp_path / "b.csv").unlink()
    run(capsys, "run", tmp_path / "p.yaml")
    out = str(tmp_path / "out")
    for target in (tmp_path / "p.yaml", out):
        assert (
            run(capsys, "vacuum", target)[2]
            .splitlines()[-2]
            .endswith(
                f"{out}: 1 removed row is still in its data files, where readers that do not use its commit log see it; "
                f"lazypipe compact {out} --dead 0, then vacuum again, removes it"
            )
        )
    assert json.loads(run(capsys, "vacuum", out, "--json")[1]) == {"deleted": [], "versions": {}, "dead_rows": {out: 1}}
    run(capsys, "compact", out, "--dead", "0")
    assert "removed row" not in run(capsys, "vacuum", out)[2]
    assert sorted(pl.concat(map(pl.read_parquet, tmp_path.glob("out/*.parquet")))["x"]) == [1, 2]


@pytest.mark.parametrize(
    ("term", "shown"), [("xterm", "\r\x1b[K[1/2] large: 1,234 rows\r\x1b[K"), ("dumb", "")], ids=["xterm", "dumb"]
)
def test_progress_is_one_updating_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch, term: str, shown: str) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", term)
    progress = _Progress()
    progress("large", 1, 2, 1_234)
    progress("large", 1, 2, 9_999)  # too soon after the one before
    progress.close()
    assert terminal.getvalue() == shown


def test_as_a_process(shop: Path) -> None:
    """The installed command works from another folder, and survives a reader that leaves."""
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-m", "lazypipe", "run", str(shop)],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    piped = subprocess.run(
        f"{sys.executable} -m lazypipe schema | head -1", shell=True, capture_output=True, text=True, check=False
    )
    assert (piped.stdout, piped.stderr) == ("{\n", "")
    version = subprocess.run(
        [sys.executable, "-m", "lazypipe", "--version"], capture_output=True, text=True, check=True
    )
    assert version.stdout == f"lazypipe {lp.__version__}\n"


FEED = """\
version: 1
name: raw
params:
  least: {type: integer}
sources:
  a: {uri: /lake/a.csv, contract: {columns: {x: Int64}}}
stages:
  b: {from: a, do: [{filter: "x >= :least"}]}
outputs: {b: {to: /lake/b}}
"""
READS = """\
version: 1
name: report
sources:
  b: {uri: /lake/b, format: dataset, contract: {columns: {x: Int64}}}
stages:
  c: {from: b, do: [{derive: {y: x + 1}}]}
outputs: {c: {to: /lake/c}}
"""


def test_check_of_several_definitions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two, wrong = tmp_path / "one.yaml", tmp_path / "two.yml", tmp_path / "wrong.yaml"
    one.write_text(FEED)
    two.write_text(READS)
    (tmp_path / "notes.txt").write_text("no definition")
    right = [f"{one} is right: 1 source, 1 stage, 1 output", f"{two} is right: 1 source, 1 stage, 1 output"]
    for named in ([one, two], [tmp_path]):
        code, out, err = run(capsys, "check", *named, "--param", "least=3")
        assert (code, out, err.splitlines()) == (0, "", right)
    wrong.write_text(READS.replace("x + 1", "z + 1"))
    code, out, err = run(capsys, "check", tmp_path, "--param", "least=3", "--json")
    told = f"{wrong}:6:31: unknown column 'z'; known columns: x"
    assert (code, err.splitlines()) == (2, [*right, told])
    found = json.loads(out)
    assert (found["status"], list(found["files"])) == ("error", [str(one), str(two), str(wrong)])
    assert found["files"][str(two)] == {"status": "ok", "sources": 1, "stages": 1, "outputs": 1}
    bad = found["files"][str(wrong)]
    assert (bad["status"], bad["error"], bad["problems"][0]["where"]["line"]) == ("error", told, 6)


def test_what_is_no_definition_among_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.yaml").write_text(READS)
    (tmp_path / "empty").mkdir()
    said = "there is no definition in this folder; name a file, or another folder\n"
    assert run(capsys, "check", tmp_path / "empty") == (2, "", f"{tmp_path}/empty: {said}")
    code, _, err = run(capsys, "check", tmp_path / "one.yaml", "c.y")
    assert (code, err) == (2, "'c.y' is not a definition; name files that end in .yaml, .yml or .json\n")
    code, _, err = run(capsys, "lineage", tmp_path / "one.yaml", "c.y", "c.x")
    what = "'c.y' and 'c.x' are two columns, stages or rules"
    assert (code, err) == (2, f"{what}; name one, and definitions by files that end in .yaml, .yml or .json\n")


def test_lineage_over_several_definitions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.yaml").write_text(FEED)
    (tmp_path / "two.yaml").write_text(READS)
    expected = ["report/b.x", "raw/b.x", "raw/a.x"]
    for named in ([tmp_path / "one.yaml", tmp_path / "two.yaml"], [tmp_path]):
        code, out, _ = run(capsys, "lineage", *named, "c.y", "--param", "least=3", "--json")
        assert code == 0
        assert [c["name"] for c in json.loads(out)["columns"]] == expected
    code, out, _ = run(capsys, "lineage", tmp_path, "raw/a.x", "--downstream", "--param", "least=3")
    assert code == 0
    assert "report/c.y" in out


EMPTY_LAKE = {
    # read in the order of names: what reads comes before what writes
    "a.yaml": """\
version: 1
name: a
sources: {b: {uri: lake/b}, h: {uri: lake/h, format: delta}}
stages: {c: {from: b, do: [{select: [x, n, valid_from]}]}}
outputs: {c: {to: lake/c}, h: {to: lake/h2}}
""",
    "b.yaml": """\
version: 1
name: b
sources: {raw: {uri: "${RAW}", contract: {columns: {x: Int64, d: "Decimal(9, 2)"}}}}
stages:
  b: {from: raw, do: [{derive: {n: "d::double"}}]}
  h: {from: raw}
outputs: {b: {to: lake/b, mode: scd2, key: x}, h: {to: lake/h, mode: snapshot, format: delta}}
""",
    "c.yaml": """\
version: 1
name: c
sources: {c: {uri: lake/c}, both: {uri: [lake/b, lake/c], format: parquet}, gone: {uri: lake/gone}}
outputs: {c: {to: lake/d}, both: {to: lake/e}, gone: {to: lake/f}}
""",
    "d.yaml": """\
version: 1
name: d
sources: {c: {uri: lake/c}}
stages: {d: {from: c, do: [{filter: m > 1}]}}
outputs: {d: {to: lake/d2}}
""",
    "e.yaml": """\
version: 1
name: e
sources: {c: {uri: "lake/${NOBODY_SETS_THIS}"}}
outputs: {c: {to: lake/e2}}
""",
    "f.yaml": "version: [\n",
}


def test_definitions_that_feed_each_other_need_no_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAW", "in/*.csv")
    for name, text in EMPTY_LAKE.items():
        (tmp_path / name).write_text(text)
    code, _, err = run(capsys, "check", tmp_path)
    told = err.splitlines()
    assert (code, len(told)) == (3, 6)
    assert told[:2] == [
        f"{tmp_path}/a.yaml is right: 2 sources, 1 stage, 2 outputs",
        f"{tmp_path}/b.yaml is right: 1 source, 2 stages, 2 outputs",
    ]
    # what no other writes, and what is several datasets, is missed, by the definition that names it
    assert f": {tmp_path}/c.yaml: source '" in told[2]
    assert told[3] == f"{tmp_path}/d.yaml:4:29: unknown column 'm'; known columns: n, valid_from, x"
    assert told[4].startswith(f"{tmp_path}/e.yaml:3:15: environment variable NOBODY_SETS_THIS is not set")
    assert told[5].startswith(f"{tmp_path}/f.yaml:2:1: not YAML")
    # one alone needs what it reads
    code, _, err = run(capsys, "check", tmp_path / "a.yaml")
    assert code == 3
    assert "there is no such file" in err
    code, out, _ = run(capsys, "lineage", tmp_path / "a.yaml", tmp_path / "b.yaml", "a/c.n", "--json")
    assert code == 0
    # b keeps versions, and a row adds one where any column differs
    assert [c["name"] for c in json.loads(out)["columns"]] == ["a/b.n", "b/b.n", "b/raw.d", "b/raw.x"]
    assert [c["name"] for c in json.loads(out)["columns"] if c["direct"]] == ["a/b.n", "b/b.n", "b/raw.d"]
    found = lp.catalog([tmp_path / "a.yaml", lp.load(tmp_path / "b.yaml").compile()])
    assert "b/raw.d" in found.upstream("a/c.n")
    code, _, err = run(capsys, "lineage", tmp_path)
    assert (code, err) == (3, f"{told[2]}\n")
    with pytest.raises(lp.SourceError, match="c.yaml: source '"):
        lp.catalog([tmp_path / "b.yaml", tmp_path / "c.yaml"])


def test_what_is_written_already_says_its_own_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAW", "in/*.csv")
    for name in ("a.yaml", "b.yaml", "d.yaml"):
        (tmp_path / name).write_text(EMPTY_LAKE[name])
    # an earlier run of a definition that was changed since: readers have what is there until it runs again
    old = pl.DataFrame({"x": [1], "m": [2]})
    old.write_csv(tmp_path / "old.csv")
    lp.pipeline("a").source("s", str(tmp_path / "old.csv")).output(
        "s", str(tmp_path / "lake/c")
    ).build().compile().run()
    assert (
        run(capsys, "check", tmp_path)[2].splitlines()[2] == f"{tmp_path}/d.yaml is right: 1 source, 1 stage, 1 output"
    )


def shell(command: str, folder: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    command = command.replace("lazypipe", f"{sys.executable} -m lazypipe")
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_results_are_written_whatever_letters_the_terminal_has(shop: Path, encoding: str) -> None:
    rows = pl.DataFrame({"id": [1, 3], "customer": ["Zoë", "木"], "amount": [5, 500]})
    rows.write_parquet(shop.parent / "orders.parquet")
    # one process for several commands: to start one takes longer than they do
    each = "import sys; from lazypipe.__main__ import main; print(*(main(c.split()) for c in sys.argv[1:]), file=sys.stderr)"

    def told(*commands: str) -> tuple[str, bytes]:
        arguments, env = [sys.executable, "-c", each, *commands], {"PYTHONIOENCODING": f"{encoding}:strict"}
        found = subprocess.run(arguments, cwd=shop.parent, env=os.environ | env, capture_output=True, check=True)
        return found.stdout.decode(encoding), found.stderr

    out, err = told("run shop.yaml --json", "plan shop.yaml --json", "show shop.yaml large --json")
    assert err.splitlines()[-1] == b"0 0 0"
    found: list[Any] = []
    while out:
        value, end = json.JSONDecoder().raw_decode(out)
        found, out = [*found, value], out[end:].lstrip()
    assert (len(found), [r["customer"] for r in found[-1]]) == (3, ["Zoë", "木"])
    out, err = told("show shop.yaml large", "lineage shop.yaml", "explain shop.yaml large", "ledger shop.yaml")
    assert err == b"0 0 0 0\n"


def test_names_that_only_the_locale_cannot_read_are_told_as_such(shop: Path) -> None:
    shop.write_text(DEFINITION.replace("orders.parquet", "'*.parquet'"))
    (shop.parent / "orders.parquet").rename(shop.parent / "gütér.parquet")
    found = shell("lazypipe run shop.yaml", shop.parent, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    said = b"the name is not ascii text, as the locale says it is; if it is UTF-8, set the variable PYTHONUTF8=1"
    assert (found.returncode, found.stderr.partition(b"source 'orders': ")[2].strip()) == (3, said)
    assert shell("lazypipe run shop.yaml", shop.parent, LC_ALL="C", PYTHONUTF8="1").returncode == 0


def test_who_looks_on_decides_over_nothing(shop: Path) -> None:
    """Closed streams, readers that leave, full disks behind logs: the exit code is that of the run."""
    shop.write_text(DEFINITION.replace("action: quarantine", "action: fail"))
    for command in (
        "lazypipe run shop.yaml",
        "lazypipe run shop.yaml >&- 2>&-",
        "lazypipe run shop.yaml 2>/dev/full",
        "lazypipe run shop.yaml --json | head -c1",
        "lazypipe run shop.yaml 2>&1 | true",
    ):
        assert shell(command, shop.parent).returncode == 1, command
    shop.write_text(DEFINITION)
    assert shell("lazypipe run shop.yaml >&- 2>&-", shop.parent).returncode == 0
    full = shell("lazypipe status shop.yaml --json >/dev/full", shop.parent)
    said = b"the result could not be written: [Errno 28] No space left on device\n"
    assert (full.returncode, full.stderr) == (3, said)


def test_what_the_system_refuses_is_told_in_its_words_and_not_taken_for_the_output(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory", "lazypipe/run")

    monkeypatch.setattr(lp, "load", broken)
    code, _, err = run(capsys, "run", shop)
    assert (code, err) == (3, "[Errno 12] Cannot allocate memory: 'lazypipe/run'\n")


def test_what_nobody_foresaw_is_not_taken_for_a_failed_gate(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr(lp, "load", broken)
    code, _, err = run(capsys, "run", shop)
    assert (code, err.splitlines()[-1]) == (3, "ZeroDivisionError: unforeseen")


def test_what_is_imported_is_not_looked_through_for_cycles(shop: Path) -> None:
    """Nor ever again; what comes after is, also where a definition is wrong, and where the process looks for none itself nothing changes."""
    (shop.parent / "wrong.yaml").write_text("version: 1\n")
    for first, file, expected in (
        ("", shop, "True True"),
        ("", shop.parent / "wrong.yaml", "True True"),
        ("gc.disable()", shop, "False False"),
    ):
        code = f"import gc; {first}\nfrom lazypipe.__main__ import main\nmain(['check', {str(file)!r}])\n"
        told = "print(gc.isenabled(), gc.get_freeze_count() > 10_000)"
        done = subprocess.run([sys.executable, "-c", code + told], check=True, capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == expected


@pytest.mark.parametrize(
    "command",
    [
        "check {}",
        "check {} {}",
        "schema {} large",
        "lineage {}",
        "run {}",
        "run {} {}",
        "plan {}",
        "plan {} {}",
        "status {}",
        "history {} large",
        "vacuum {}",
    ],
)
def test_a_command_reads_its_definition_before_python_looks_for_cycles(shop: Path, command: str) -> None:
    """In all of what it imports, that is: Polars is most of it."""
    other = shop.parent / "other.yaml"
    other.write_text(shop.read_text().replace("name: shop", "name: other").replace("out/", "others/"))
    arguments = command.format(shop, other).split()
    code = f"""
import gc, sys
searched = []
gc.callbacks.append(lambda phase, _: searched.append("polars" in sys.modules and gc.get_freeze_count() < 10_000))
from lazypipe.__main__ import main
main({arguments!r})
print(any(searched))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
