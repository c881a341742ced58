"""One source cannot be read: outputs that need it fail, say why and are on record; all others are made."""

from __future__ import annotations

import json
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
