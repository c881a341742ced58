"""An output is made though what it does not need is down, wrong in its data, or is not there: only what was asked for is looked at."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.errors import DefinitionError, LazypipeError, SourceError
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.windows.watermark import COMPLETE

SHOP = """
version: 1
name: shop
sources:
  orders: {uri: in/orders.csv}
  rates: {uri: rates.csv}
stages:
  large: {from: orders, do: [filter: amount > 10]}
  daily: {from: large, do: [aggregate: {by: [day], aggregate: {total: sum(amount)}}]}
  priced: {from: large, do: [join: {with: rates, on: day, how: left}]}
outputs:
  large: {to: out/large}
  daily: {to: out/daily, key: [day]}
  priced: {to: "out/${ZONE}/priced"}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/orders.csv").write_text("day,amount\n2024-01-01,5\n2024-01-01,20\n2024-01-02,30\n")
    (tmp_path / "shop.yaml").write_text(SHOP)
    return tmp_path


def rows(folder: Path, name: str) -> list[tuple[Any, ...]]:
    return sorted(lp.scan(str(folder / "out" / name)).collect().rows())


def test_an_output_is_run_though_a_source_of_another_one_is_down(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(shop / "shop.yaml")
    assert main(["plan", file, "--output", "daily", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert [(s["name"], s["how"]) for s in planned] == [("large", "all"), ("daily", "unknown")]
    assert main(["run", file, "--output", "daily", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(s["name"], s["status"]) for s in told["segments"]] == [("large", "done"), ("daily", "done")]
    assert [(str(day), total) for day, total in rows(shop, "daily")] == [("2024-01-01", 20), ("2024-01-02", 30)]
    assert main(["run", file, "--output", "priced"]) == 2  # its own variable is asked for
    assert "ZONE is not set" in capsys.readouterr().err
    assert main(["run", file]) == 2


def test_what_is_made_of_one_another_is_the_same_as_in_a_run_of_all(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZONE", "eu")
    (shop / "rates.csv").write_text("day,rate\n2024-01-01,1.5\n")
    pipe = lp.load(shop / "shop.yaml")
    pipe.compile().run().raise_for_status()
    (shop / "rates.csv").unlink()
    alone = pipe.compile(outputs=["daily"])
    assert [s.status for s in alone.run().segments] == ["unchanged", "unchanged"]
    (shop / "in/orders.csv").write_text("day,amount\n2024-01-01,5\n2024-01-01,21\n2024-01-02,30\n")
    assert [s.name for s in pipe.compile(outputs="large").run().segments] == ["large"]
    (shop / "rates.csv").write_text("day,rate\n2024-01-01,1.5\n")
    together = pipe.compile().run()
    assert {s.name: s.status for s in together.segments} == {"large": "unchanged", "daily": "done", "priced": "done"}
    assert [r[1] for r in rows(shop, "large")] == [21, 30]


def test_a_plan_for_some_outputs_says_so_and_refuses_others(shop: Path) -> None:
    pipe = lp.load(shop / "shop.yaml")
    plan = pipe.compile(outputs=["large"])
    assert repr(plan) == "<Plan shop: 1 source, 1 stage; outputs: large>"
    with pytest.raises(LazypipeError, match="unknown output 'daily'; known outputs: large"):
        plan.run(outputs=["daily"])
    with pytest.raises(LazypipeError, match="unknown output 'larg'; did you mean 'large'"):
        pipe.compile(outputs=["larg"])


def test_what_is_wrong_in_the_definition_is_told_all_the_same(tmp_path: Path) -> None:
    text = """
version: 1
name: p
params: {least: {type: integer}}
sources:
  a: {uri: a.csv, contract: {columns: {x: Int64}}}
  b: {uri: b.csv, settle: soon, gate: [between: {column: x}]}
  c: {uri: c.parquet, read: {separator: ";"}}
  d: {uri: [d.csv, d.parquet]}
  e: {uri: somewhere, format: ndjson, contract: {columns: {x: Strung}}}
stages:
  s: {from: a, do: [filter: x > 0]}
  t: {from: b, do: [filter: x > 0, join: {with: nobody, on: x}], gate: [in_set: {column: x, values: [1]}]}
outputs:
  s: {to: out/s}
  t: {to: out/t, mode: upsert}
"""
    with pytest.raises(DefinitionError) as caught:
        lp.Pipeline.from_yaml(text, base=tmp_path).compile(outputs=["s"])
    assert [str(p).removeprefix("<yaml>:").partition(";")[0] for p in caught.value.problems] == [
        "4:10: parameter 'least' has no value",
        "7:19: settle: 'soon' is not a duration such as 90s, 15m, 2h, 3d or 1w",
        "7:50: between needs a bound",
        "8:23: read is for CSV, and this is parquet",
        "9:7: one source cannot mix formats",
        "10:60: unknown type 'Strung'",
        "13:43: unknown input 'nobody'",
        "16:18: mode: upsert needs a key",
    ]


def test_what_a_gate_looks_rows_up_in_is_needed(shop: Path) -> None:
    stages = "  large: {from: orders, do: [filter: amount > 10], gate: [foreign_key: {column: day, references: {to: days, column: day}}]}"
    text = SHOP.replace("  large: {from: orders, do: [filter: amount > 10]}", stages)
    text = text.replace("sources:\n", "sources:\n  days: {uri: days.csv}\n")
    pipe = lp.Pipeline.from_yaml(text, base=shop)
    with pytest.raises(SourceError, match="source 'days'"):
        pipe.compile(outputs=["daily"])
    (shop / "days.csv").write_text("day\n2024-01-01\n2024-01-02\n")
    assert pipe.compile(outputs=["daily"]).run().status == "done"


CLOSING = """
version: 1
name: p
sources:
  a: {uri: in/*.csv, event_time: t, watermark: WATERMARK, contract: {columns: {t: "Datetime(us)", k: Int64, w: "Datetime(us)"}}}
  names: {uri: names.csv}
stages:
  kept: {from: a, do: [filter: k > 0]}
  hourly: {from: kept, do: [window: {time: t, every: 1h, by: [k], emit: on_close, aggregate: {n: count(*)}}]}
  named: {from: hourly, do: [join: {with: names, on: k, how: left}]}
outputs:
  kept: {to: out/kept}
  named: {to: out/named}
"""


@pytest.mark.parametrize("watermark", ["{delay: 0s}", "{column: w}"])
@pytest.mark.parametrize("alone", [(1,), (2,), (1, 2), ()])
def test_how_far_event_time_is_stands_in_what_was_run_alone(
    tmp_path: Path, alone: tuple[int, ...], watermark: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "names.csv").write_text("k,name\n1,one\n2,two\n")
    pipe = lp.Pipeline.from_yaml(CLOSING.replace("WATERMARK", watermark), base=tmp_path)
    for number, times in enumerate((["00:10", "00:50"], ["01:10", "01:20"], ["02:30", "03:00"])):
        lines = [f"2024-01-01T{t}:00,{k},2024-01-01T{t}:00" for t in times for k in (1, 2)]
        (tmp_path / f"in/{number}.csv").write_text("\n".join(["t,k,w", *lines, ""]))
        if number in alone:
            pipe.compile(outputs=["kept"]).run().raise_for_status()
            commit = Dataset(str(tmp_path / "out/kept")).latest()
            assert commit is not None
            assert COMPLETE in commit.info
        if number not in alone or number == 2:
            pipe.compile().run().raise_for_status()
    found = (
        lp.scan(str(tmp_path / "out/named"))
        .select("window_start", "k", "n", "name")
        .collect()
        .sort("window_start", "k")
    )
    assert [(t.hour, k, n, name) for t, k, n, name in found.rows()] == [
        (0, 1, 2, "one"), (0, 2, 2, "two"), (1, 1, 2, "one"), (1, 2, 2, "two"), (2, 1, 1, "one"), (2, 2, 1, "two"),
    ]  # fmt: skip


GONE = """
version: 1
name: p
sources:
  a: {uri: a/*.csv, contract: {columns: {k: Int64}}}
  b: {uri: b/*.csv, contract: {columns: {k: Int64}}}
  c: {uri: c/*.csv}
stages:
  gone: {from: b, do: [filter: k > 0]}
outputs:
  a: {to: out/a, mode: upsert, key: [k], changes: true}
  gone: {to: out/a, mode: delete, key: [k]}
  c: {to: out/c}
"""


def test_keys_are_removed_alone_and_the_feed_of_changes_tells_it(tmp_path: Path) -> None:
    for name, keys in (("a", (1, 2)), ("b", (2,))):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}/1.csv").write_text("\n".join(["k", *map(str, keys), ""]))
    pipe = lp.Pipeline.from_yaml(GONE, base=tmp_path)
    assert [s.name for s in pipe.compile(outputs=["a"]).run().segments] == ["a"]
    plan = pipe.compile(outputs=["gone"])
    assert [(s.name, s.status) for s in plan.run().segments] == [("gone", "done")]
    assert rows(tmp_path, "a") == [(1,)]
    told = plan.scan("a__changes").select("k", "_change").collect().rows()
    assert sorted(told) == [(1, "insert"), (2, "delete"), (2, "insert")]


def test_the_text_of_what_is_not_asked_for_is_judged_all_the_same(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = shop / "shop.yaml"
    wrong = {
        "total: sum(amount)}}]": "total: sum(amonut), n: selct(amount)}}, sql: SELCT 1, filter: total > :leest]",
        "how: left}]}": "how: left}, sql: SELECT a FROM somewhere], gate: [{not_null: {columns: day, where: day >}}]}",
    }
    for right, instead in wrong.items():
        assert right in SHOP
        file.write_text(file.read_text().replace(right, instead))
    texts = {
        "n: selct(amount)": "unknown function 'selct'; use one of Polars SQL, such as coalesce, round, upper or date_part",
        "sql: SELCT 1": "a sql operation must be one SELECT statement; start it with SELECT or WITH",
        "filter: total > :leest": "unknown parameter :leest; known parameters: now; or declare it: params: {leest: …}",
        "where: day >": "bad SQL: 'day >' is not a whole expression; check its operators, brackets and commas",
    }
    assert main(["run", str(file), "--output", "large"]) == 2
    assert told(file, capsys) == [*texts.items()]
    # behind a step whose columns are not known they are judged too, each once
    file.write_text(file.read_text().replace("n: selct(amount)", "n: count(*)"))
    (shop / "rates.csv").write_text("day,rate\n2024-01-01,1\n")
    assert main(["check", str(file)]) == 2
    unknown = ("total: sum(amonut)", "unknown column 'amonut'; did you mean 'amount'?")
    assert told(file, capsys)[:3] == [unknown, *[*texts.items()][1:3]]


def told(file: Path, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    """Return the text at the place of each mistake, and what is said of it."""
    found = []
    for line in capsys.readouterr().err.splitlines():
        _, row, column, said = line.split(":", 3)
        text = re.split(r"[]},]", file.read_text().splitlines()[int(row) - 1][int(column) - 1 :])[0]
        found.append((text, said.strip()))
    return found
