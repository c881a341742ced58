"""One source cannot be read: outputs that need it fail, say why and are on record; all others are made."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.__main__ import main

SHOP = """
version: 1
name: shop
sources:
  orders: {uri: in/orders.csv}
  rates: {uri: in/rates.csv}
stages:
  large: {from: orders, do: [filter: amount > 10]}
  priced: {from: large, do: [join: {with: rates, on: day, how: left}]}
  dear: {from: rates, do: [filter: rate > 1]}
outputs:
  priced: {to: out/priced}
  large: {to: out/large}
  dear: {to: out/dear}
"""
RATES = "day,rate\n2024-01-01,2\n"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/orders.csv").write_text("day,amount\n2024-01-01,5\n2024-01-01,20\n2024-01-02,30\n")
    (tmp_path / "shop.yaml").write_text(SHOP)
    return tmp_path


def statuses(result: lp.RunResult) -> dict[str, str]:
    return {s.name: s.status for s in result.segments}


def test_outputs_that_do_not_need_it_are_made(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(shop / "shop.yaml")
    assert main(["run", file]) == 3
    said = capsys.readouterr().err
    why = f"{shop}/in/rates.csv: source 'rates': there is no such file; did you mean '{shop}/in/orders.csv'?"
    assert said.startswith("large: 2 rows, ")
    assert f"priced: error\n    {why}\ndear: error\n    {why}\nerror in " in said
    assert lp.scan(str(shop / "out/large")).collect().height == 2
    assert not (shop / "out/priced").exists()
    (entry,) = lp.ledger(str(shop / ".lazypipe/ledger")).runs("priced")
    told = {s["name"]: (s["status"], s["uri"], s["error"]) for s in entry.body["segments"]}
    assert told["priced"] == (*told["dear"][:1], f"{shop}/out/priced", why)
    assert (entry.body["status"], told["large"][0]) == ("error", "done")
    (shop / "in/rates.csv").write_text(RATES)
    assert main(["run", file, "--json"]) == 0
    done = {s["name"]: s["status"] for s in json.loads(capsys.readouterr().out)["segments"]}
    assert done == {"large": "unchanged", "rates": "done", "priced": "done", "dear": "done"}
    assert lp.ledger(str(shop / ".lazypipe/ledger")).verify(data=True).ok


def test_a_plan_says_what_such_a_run_would_do(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(shop / "shop.yaml")
    why = f"{shop}/in/rates.csv: source 'rates': there is no such file; did you mean '{shop}/in/orders.csv'?"
    assert main(["plan", file]) == 3
    said = capsys.readouterr().out
    assert said.startswith("large: nothing was committed yet\n    reads orders: 1 file, ")
    assert said.endswith(
        f"priced: {why}\n    writes nothing: {shop}/out/priced stays as it is\n"
        f"dear: {why}\n    writes nothing: {shop}/out/dear stays as it is\n"
    )
    assert main(["plan", file, "--json"]) == 3
    steps = json.loads(capsys.readouterr().out)
    assert [(s["name"], s["how"]) for s in steps] == [("large", "all"), ("priced", "error"), ("dear", "error")]
    assert main(["plan", file, "--output", "large"]) == 0
    capsys.readouterr()
    assert main(["plan", file, "--output", "dear"]) == 3
    assert capsys.readouterr().err == f"{why}\n"


def test_a_plan_tells_of_one_output_that_is_refused_and_of_all_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text("id,v\n1,1\n")
    text = """
    version: 1
    name: p
    sources: {t: {uri: a.csv}}
    stages: {s: {from: t}, below: {from: s}, other: {from: t}, keys: {from: t, do: [select: [id]]}}
    outputs: {s: {to: out/s, MODE}, below: {to: out/below}, other: {to: out/other}, gone: {from: keys, to: out/s, mode: delete, key: [id]}}
    """
    file = tmp_path / "p.yaml"
    file.write_text(text.replace("MODE", "mode: upsert, key: [id]"))
    assert main(["run", str(file)]) == 0
    file.write_text(text.replace("MODE", "mode: append"))
    (tmp_path / "a.csv").write_text("id,v\n1,1\n2,2\n")
    capsys.readouterr()
    assert main(["plan", str(file), "--json"]) == 3
    steps = {s["name"]: s for s in json.loads(capsys.readouterr().out)}
    assert main(["run", str(file), "--json"]) == 3
    ran = {s["name"]: s for s in json.loads(capsys.readouterr().out)["segments"]}
    assert {n: s["how"] for n, s in steps.items() if n != "t"} == {
        "s": "error",
        "below": "blocked",
        "other": "units",
        "gone": "blocked",
    }
    assert {n: s["status"] for n, s in ran.items() if n != "t"} == {
        "s": "error",
        "below": "blocked",
        "other": "done",
        "gone": "blocked",
    }
    what = "output 's' has mode: append, and the dataset was written with mode: upsert"
    assert steps["s"]["why"] == ran["s"]["error"]
    assert steps["s"]["why"].startswith(f"{tmp_path}/out/s: {what}; ")
    assert steps["below"]["why"] == steps["gone"]["why"] == "depends on s, which cannot be made"
    assert steps["below"]["writes"] == f"nothing: {tmp_path}/out/below stays as it is"


MONTHS = """
version: 1
name: months
sources:
  dear: {uri: out/dear}
  large: {uri: out/large}
  orders: {uri: in/orders.csv}
stages: {by_day: {from: dear}, sums: {from: large, do: [aggregate: {by: [day], aggregate: {amount: sum(amount)}}]}, all: {from: orders}}
outputs:
  by_day: {to: out/by_day}
  sums: {to: out/sums}
  all: {to: out/all}
"""


@pytest.mark.parametrize("run_before", [False, True])
def test_a_plan_of_several_leaves_out_what_a_run_does(
    shop: Path, capsys: pytest.CaptureFixture[str], run_before: bool
) -> None:
    (shop / "months.yaml").write_text(MONTHS)
    files = [str(shop / "shop.yaml"), str(shop / "months.yaml")]
    if run_before:
        (shop / "in/rates.csv").write_text("day,rate\n2024-01-01,2\n")
        assert main(["run", *files]) == 0
        (shop / "in/rates.csv").unlink()
        (shop / "in/orders.csv").write_text("day,amount\n2024-01-01,50\n")
    capsys.readouterr()
    assert main(["plan", *files, "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "error"
    planned = {s["name"]: (s["how"], s["why"]) for steps in told["files"].values() for s in steps}
    assert {n: how for n, (how, _) in planned.items()} == {
        "large": "units" if run_before else "all", "priced": "error", "dear": "error",
        "sums": "unknown", "all": "units" if run_before else "all", "by_day": "blocked",
    }  # fmt: skip
    reads = "source 'dear' reads output 'dear' of 'shop', which"
    assert planned["by_day"][1] == f"{shop}/months.yaml:5:10: {reads} cannot be made"
    assert planned["sums"][1] == "depends on what shop/large writes in this run"
    assert main(["run", *files, "--json"]) == 3
    done = {
        s["name"]: s["status"] for r in json.loads(capsys.readouterr().out)["files"].values() for s in r["segments"]
    }
    assert {n: done[n] for n in planned} == {
        "large": "done", "priced": "error", "dear": "error", "sums": "done", "all": "done", "by_day": "blocked"
    }  # fmt: skip


def test_what_reads_a_wrong_definition_is_left_out_of_a_plan_and_no_more(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "months.yaml").write_text(MONTHS)
    (shop / "shop.yaml").write_text(SHOP.replace("amount > 10", "amout > 10"))
    assert main(["plan", str(shop / "shop.yaml"), str(shop / "months.yaml")]) == 2
    said = capsys.readouterr()
    assert said.err == f"{shop}/shop.yaml:8:30: unknown column 'amout'; did you mean 'amount'?\n"
    months = f"{shop}/months.yaml"
    assert said.out.startswith(f"{months}:\nall: nothing was committed yet\n")
    for name, place, source, output in (("by_day", "5:10", "dear", "dear"), ("sums", "6:11", "large", "large")):
        reads = f"source '{source}' reads output '{output}' of 'shop', which is wrong; fix that first"
        assert f"{name}: {months}:{place}: {reads}\n    writes nothing: {shop}/out/{name} stays as it is\n" in said.out
    # with nothing else to make, the definition is what is wrong
    (shop / "months.yaml").write_text(MONTHS.replace("  all: {to: out/all}\n", ""))
    assert main(["plan", str(shop / "shop.yaml"), months]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.endswith(
        f"{months}:5:10: source 'dear' reads output 'dear' of 'shop', which is wrong; fix that first\n"
    )


def test_what_was_published_before_stays(shop: Path) -> None:
    (shop / "in/rates.csv").write_text(RATES)
    assert main(["run", str(shop / "shop.yaml")]) == 0
    before = lp.scan(str(shop / "out/priced")).collect()
    (shop / "in/rates.csv").write_text("")
    (shop / "in/orders.csv").write_text("day,amount\n2024-01-01,50\n")
    assert main(["run", str(shop / "shop.yaml")]) == 3
    assert lp.scan(str(shop / "out/priced")).collect().equals(before)
    assert lp.scan(str(shop / "out/large")).collect()["amount"].to_list() == [50]


def test_in_python_it_is_asked_for(shop: Path) -> None:
    pipe = lp.load(shop / "shop.yaml")
    with pytest.raises(lp.SourceError, match="there is no such file"):
        pipe.compile()
    plan = pipe.compile(skip_unreadable=True)
    assert [*plan.outputs] == ["large"]
    assert {name: (lacking.uri, str(lacking.error)[-14:]) for name, lacking in plan.lacking.items()} == {
        "priced": (f"{shop}/out/priced", "in/orders.csv'?"[-14:]),
        "dear": (f"{shop}/out/dear", "in/orders.csv'?"[-14:]),
    }
    result = plan.run(emit=[lp.FileTransport(str(shop / "events.ndjson"))])
    assert (statuses(result), result.exit_code) == ({"large": "done", "priced": "error", "dear": "error"}, 3)
    with pytest.raises(lp.SourceError, match="there is no such file"):
        result.raise_for_status()
    events = [json.loads(line) for line in (shop / "events.ndjson").read_text().splitlines()]
    assert [e["eventType"] for e in events] == ["START", "FAIL"]
    assert "there is no such file" in events[-1]["run"]["facets"]["errorMessage"]["message"]


def test_where_no_output_can_be_made_nothing_begins(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = lp.load(shop / "shop.yaml")
    for outputs in (["priced"], ["dear", "priced"]):
        with pytest.raises(lp.SourceError, match="there is no such file"):
            pipe.compile(outputs=outputs, skip_unreadable=True)
    assert statuses(pipe.compile(outputs=["large", "dear"], skip_unreadable=True).run()) == {
        "large": "done",
        "dear": "error",
    }
    assert main(["run", str(shop / "shop.yaml"), "--output", "dear"]) == 3
    assert capsys.readouterr().err.count("there is no such file") == 1


def test_a_mistake_in_the_definition_stops_all_of_it(shop: Path) -> None:
    (shop / "shop.yaml").write_text(SHOP.replace("amount > 10", "amuont > 10"))
    with pytest.raises(lp.DefinitionError, match="unknown column 'amuont'") as caught:
        lp.load(shop / "shop.yaml").compile(skip_unreadable=True)
    assert caught.value.exit_code == 2


def test_columns_that_a_source_may_have_which_is_away_stop_no_other_output(shop: Path) -> None:
    text = SHOP.replace("{uri: in/rates.csv}", "{uri: in/rates.csv, contract: {columns: {day: Date}}}")
    (shop / "shop.yaml").write_text(text.replace("rates, on: day", "rates, on: day, columns: [rate]"))
    result = lp.load(shop / "shop.yaml").compile(skip_unreadable=True).run()
    assert statuses(result) == {"large": "done", "priced": "error", "dear": "error"}
    assert all("unknown column 'rate'" in str(s.error) for s in result.segments[1:])
    (shop / "in/rates.csv").write_text(RATES)
    # declared alone, by a contract that is closed, the column is not taken
    again = text.replace("{day: Date}}", "{day: Date}, on_new_column: evolve}")
    (shop / "shop.yaml").write_text(again.replace("rates, on: day", "rates, on: day, columns: [rate]"))
    assert statuses(lp.load(shop / "shop.yaml").compile(skip_unreadable=True).run())["priced"] == "done"


def test_keys_are_not_removed_ahead_of_rows_that_could_not_be_read(tmp_path: Path) -> None:
    """Or these rows would come back with the next run, for a row that comes after a removal is a new one."""
    base = str(tmp_path)
    definition: dict[str, Any] = {
        "version": 1,
        "name": "people",
        "sources": {"came": {"uri": f"{base}/came/*.parquet", "format": "parquet"}, "gone": {"uri": f"{base}/gone.csv"}, "other": {"uri": f"{base}/other.csv"}},
        "outputs": {
            "people": {"from": "came", "to": f"{base}/out", "mode": "upsert", "key": "id"},
            "forget": {"from": "gone", "to": f"{base}/out", "mode": "delete", "key": "id"},
            "other": {"to": f"{base}/other"},
        },
    }  # fmt: skip
    (tmp_path / "gone.csv").write_text("id\n1\n")
    (tmp_path / "other.csv").write_text("x\n1\n")
    pipe = lp.Pipeline.from_dict(definition)
    first = pipe.compile(skip_unreadable=True).run()
    assert statuses(first) == {"other": "done", "people": "error", "forget": "error"}
    (tmp_path / "came").mkdir()
    pl.DataFrame({"id": [1, 2]}).write_parquet(tmp_path / "came/a.parquet")
    assert set(statuses(pipe.compile(skip_unreadable=True).run()).values()) == {"done", "unchanged"}
    assert lp.scan(f"{base}/out").collect()["id"].to_list() == [2]


def test_definitions_are_held_up_only_by_outputs_that_were_not_made(shop: Path) -> None:
    report = lp.pipeline("report", base=str(shop)).source("l", "out/large").output("l", "out/l").build()
    prices = lp.pipeline("prices", base=str(shop)).source("p", "out/priced").output("p", "out/p").build()
    done = lp.run_all([prices, report, lp.load(shop / "shop.yaml")])
    assert {name: result.status for name, result in done.items()} == {
        "shop": "error",
        "prices": "blocked",
        "report": "done",
    }


# files that are not as files were before

CHANGING = """
version: 1
name: meters
sources:
  readings: {uri: in/readings.FORMAT, event_time: at}
  rates: {uri: in/rates.csv}
stages:
  doubled: {from: readings, do: [derive: {twice: x * 2}]}
outputs:
  doubled: {to: out/doubled}
  rates: {to: out/rates}
"""
READINGS = {"at": ["2024-01-01T00:00:00"], "x": [1]}


def deliver(base: Path, ending: str, rows: dict[str, Any], *, hours: int = 1) -> None:
    """Write a file as it was delivered some hours ago: of what has just been written nothing is known the next time."""
    file = base / f"in/readings.{ending}"
    frame = pl.DataFrame(rows)
    if ending == "parquet":
        times = pl.col("at").str.to_datetime(strict=False) if rows["at"][0] != "gone" else pl.col("at")
        frame.with_columns(times).write_parquet(file)
    else:
        frame.write_csv(file)
    then = time.time() - 3600 * hours
    os.utime(file, (then, then))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_with_other_types_than_before_stops_what_does_not_fit_them(tmp_path: Path, ending: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/rates.csv").write_text(RATES)
    (tmp_path / "meters.yaml").write_text(CHANGING.replace("FORMAT", ending))
    deliver(tmp_path, ending, READINGS, hours=9)
    assert main(["run", str(tmp_path / "meters.yaml")]) == 0
    cases = [
        ({**READINGS, "x": ["a"]}, "8:43: cannot calculate with String and a whole number", "'x' is String in this file, and was Int64"),
        ({"at": READINGS["at"], "y": [1]}, "8:43: unknown column 'x'", "'x' is missing in this file, and was Int64"),
        ({**READINGS, "at": ["gone"]}, r"5:\d\d: event_time 'at' is String", "'at' is String in this file, and was Datetime"),
    ]  # fmt: skip
    for hours, (rows, wrong, changed) in enumerate(cases):
        deliver(tmp_path, ending, rows, hours=5 - hours)
        (tmp_path / "in/rates.csv").write_text(f"{RATES}2024-01-02,{hours}\n")
        pipe = lp.load(tmp_path / "meters.yaml")
        with pytest.raises(lp.AwayError, match=wrong) as caught:
            pipe.compile()
        file = f"{tmp_path}/in/readings.{ending}"
        assert f"{file}: source 'readings': column {changed}" in str(caught.value)
        assert str(caught.value).endswith("deliver it again, declare the column in contract, or change the definition")
        assert (caught.value.exit_code, caught.value.uri) == (3, file)
        result = pipe.compile(skip_unreadable=True).run()
        assert (statuses(result), result.exit_code) == ({"rates": "done", "doubled": "error"}, 3)
    assert lp.scan(str(tmp_path / "out/doubled")).collect()["twice"].to_list() == [2]
    deliver(tmp_path, ending, {**READINGS, "x": [4]}, hours=0)
    assert main(["run", str(tmp_path / "meters.yaml")]) == 0
    assert lp.scan(str(tmp_path / "out/doubled")).collect()["twice"].to_list() == [8]


def test_a_definition_is_to_blame_that_does_not_fit_the_types_of_before_either(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/rates.csv").write_text(RATES)
    text = CHANGING.replace("FORMAT", "csv")
    (tmp_path / "meters.yaml").write_text(text)
    deliver(tmp_path, "csv", READINGS, hours=9)
    assert main(["run", str(tmp_path / "meters.yaml")]) == 0
    deliver(tmp_path, "csv", {**READINGS, "x": ["a"]})
    for wrong in (text.replace("x * 2", "x * z"), text.replace("from: readings, do", "from: reading, do")):
        (tmp_path / "meters.yaml").write_text(wrong)
        with pytest.raises(lp.DefinitionError) as caught:
            lp.load(tmp_path / "meters.yaml").compile()
        assert type(caught.value) is lp.DefinitionError
    # what has changed is not read where the mistake is
    (tmp_path / "meters.yaml").write_text(
        text.replace(
            "doubled: {from: readings, do: [derive: {twice: x * 2}]}",
            "doubled: {from: readings}\n  low: {from: rates, do: [filter: rate < 'a']}",
        )
    )
    assert main(["run", str(tmp_path / "meters.yaml")]) == 2
    # a definition that takes what has come is right
    (tmp_path / "meters.yaml").write_text(text.replace("x * 2", "x || '2'"))
    assert main(["run", str(tmp_path / "meters.yaml")]) == 0
    assert lp.scan(str(tmp_path / "out/doubled")).collect()["twice"].to_list() == ["a2"]


def test_one_of_several_files_that_set_the_columns_together(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    text = CHANGING.replace(
        "in/readings.FORMAT, event_time: at",
        "'in/readings-*.csv', contract: {columns: {}, on_new_column: evolve, on_type_change: evolve}",
    )
    (tmp_path / "meters.yaml").write_text(text)
    (tmp_path / "in/rates.csv").write_text(RATES)
    for name, value in (("1", "1"), ("2", "1.5")):
        (tmp_path / f"in/readings-{name}.csv").write_text(f"x\n{value}\n")
        os.utime(tmp_path / f"in/readings-{name}.csv", (1e9, 1e9))
    assert main(["run", str(tmp_path / "meters.yaml")]) == 0
    (tmp_path / "in/readings-1a.csv").write_text("x\nabc\n")
    with pytest.raises(
        lp.AwayError,
        match="readings-1a.csv: source 'readings': column 'x' is String in this file, and was Int64 in files",
    ):
        lp.load(tmp_path / "meters.yaml").compile()


def test_an_output_that_takes_what_has_changed_does_not_make_it_usual(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/rates.csv").write_text(RATES)
    text = CHANGING.replace("FORMAT", "csv").replace(
        "outputs:", "  kept: {from: readings, do: [filter: x IS NOT NULL]}\noutputs:\n  kept: {to: out/kept}"
    )
    (tmp_path / "meters.yaml").write_text(text)
    deliver(tmp_path, "csv", READINGS, hours=9)
    assert main(["run", str(tmp_path / "meters.yaml")]) == 0
    deliver(tmp_path, "csv", {**READINGS, "x": ["a"]})
    for status in ("done", "unchanged", "unchanged"):
        result = lp.load(tmp_path / "meters.yaml").compile(skip_unreadable=True).run()
        made = {s.output: s.status for s in result.segments if s.output is not None}
        assert made == {"rates": "unchanged", "kept": status, "doubled": "error"}
    assert lp.scan(str(tmp_path / "out/kept")).collect()["x"].to_list() == ["a"]
