"""Feeds in the ledger: what reads a feed comes from the raw files that the output comes from."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import lazypipe as lp

ORDERS = """
version: 1
name: shop
audit: {{mode: {mode}}}
sources: {{o: {{uri: o-*.csv, contract: {{columns: {{id: Int64, v: Int64, at: Datetime}}}}}}}}
stages:
  hourly: {{from: o, do: [{{window: {{time: at, every: 1h, aggregate: {{n: count(*)}}}}}}]}}
  kept: {{from: o, do: [{{select: [id, v]}}]}}
outputs:
  orders: {{from: kept, to: out/orders, mode: upsert, key: id, changes: true}}
  hourly: {{to: out/hourly, key: window_start, panes: {{mode: retract}}}}
"""
READER = """
version: 1
name: reader
sources: {f: {uri: out/orders__changes}, p: {uri: out/hourly__panes}}
stages:
  news: {from: f, do: [{filter: "_change = 'insert'"}]}
  late: {from: p, do: [{filter: "n > 0"}]}
outputs: {news: {to: out/news}, late: {to: out/late}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, 1, "1,10,2024-01-01T10:00:00", "2,20,2024-01-01T11:00:00")
    run(tmp_path)
    return tmp_path


def write(folder: Path, number: int, *rows: str) -> None:
    (folder / f"o-{number}.csv").write_text("\n".join(["id,v,at", *rows, ""]))


def pipes(folder: Path, mode: str = "recorded") -> tuple[lp.Pipeline, lp.Pipeline]:
    shop = lp.Pipeline.from_yaml(ORDERS.format(mode=mode), base=str(folder))
    return shop, lp.Pipeline.from_yaml(READER, base=str(folder))


def run(folder: Path) -> None:
    for pipe in pipes(folder):
        pipe.compile().run().raise_for_status()


def holding(folder: Path, file: str) -> list[tuple[str, int | None, tuple[str, ...], bool]]:
    found = lp.ledger(pipes(folder)[0]).containing(str(folder / file))
    return sorted((h.output, h.version, h.via, h.in_force) for h in found)


def test_what_reads_a_feed_holds_the_data_of_the_files_behind_it(folder: Path) -> None:
    assert holding(folder, "o-1.csv") == [
        ("hourly", 1, ("o",), True),
        ("hourly__panes", 1, ("hourly",), True),
        ("late", 1, ("p",), True),
        ("news", 1, ("f",), True),
        ("orders", 1, ("o",), True),
        ("orders__changes", 1, ("orders",), True),
    ]
    write(folder, 2, "3,30,2024-01-01T12:00:00")
    run(folder)
    assert [h for h in holding(folder, "o-2.csv") if "orders" in h[0]] == [
        ("orders", 2, ("o",), True),
        ("orders__changes", 2, ("orders",), True),
    ]
    assert ("orders__changes", 2, ("orders", "earlier version"), True) in holding(folder, "o-1.csv")


def test_a_report_on_what_reads_a_feed_names_the_raw_files(folder: Path) -> None:
    shop, reader = pipes(folder)
    for output in ("news", "late"):
        report = lp.audit_report(reader, output).to_dict()
        assert [(f["source"], Path(f["uri"]).name) for f in report["sources"]] == [("shop/o", "o-1.csv")], output
        assert report["exceptions"]["unknown_versions"] == []
    steps = lp.ledger(shop).history("news").steps
    assert [s.output for s in steps] == ["news", "orders__changes", "orders"]
    assert [s.version for s in lp.ledger(shop).history("orders__changes").steps] == [1, 1]
    told = lp.audit_report(shop, "orders__changes").to_dict()["transformations"]
    assert [s["name"] for t in told for s in t["stages"]] == ["kept"]
    assert [r.run for r in lp.ledger(shop).runs("orders__changes")] == [steps[-1].entry.run if steps[-1].entry else ""]


def test_a_feed_that_was_edited_is_found_and_one_that_was_deleted_begins_anew(folder: Path) -> None:
    ledger = lp.ledger(pipes(folder)[0])
    (file,) = (folder / "out/orders__changes").glob("*.parquet")
    assert ledger.verify(data=True).ok
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert [Path(p.file).name for p in ledger.verify(data=True).problems] == [file.name]
    shutil.rmtree(folder / "out/orders__changes")
    shutil.rmtree(folder / "out/orders__changes.commits")
    assert ledger.verify(data=True).ok
    write(folder, 2, "3,30,2024-01-01T12:00:00")
    pipes(folder)[0].compile().run().raise_for_status()
    assert ledger.verify(data=True).ok
    assert [h for h in holding(folder, "o-2.csv") if h[0] == "orders__changes"] == [
        ("orders__changes", 2, ("orders",), True)
    ]
    assert [h for h in holding(folder, "o-1.csv") if h[0] == "orders__changes"] == [
        ("orders__changes", 1, ("orders",), False),
        ("orders__changes", 1, ("orders",), False),
        ("orders__changes", 2, ("orders", "earlier version"), True),
    ]


def test_a_run_that_was_killed_may_have_written_its_feeds(tmp_path: Path) -> None:
    write(tmp_path, 1, "1,10,2024-01-01T10:00:00")
    shop, _ = pipes(tmp_path, "required")
    shop.compile().run().raise_for_status()
    ledger = tmp_path / ".lazypipe/ledger"
    first, last = sorted(ledger.glob("*.json"))
    assert {*json.loads(first.read_text())["outputs"]} == {"orders", "orders__changes", "hourly", "hourly__panes"}
    os.unlink(last)
    found = lp.ledger(str(ledger)).containing(str(tmp_path / "o-1.csv"))
    assert {(h.output, h.via) for h in found} == {
        (n, ("unfinished run",)) for n in ("orders", "orders__changes", "hourly", "hourly__panes")
    }


def test_personal_data_is_known_where_a_feed_is_read(tmp_path: Path) -> None:
    write(tmp_path, 1, "1,10,2024-01-01T10:00:00")
    text = ORDERS.format(mode="recorded").replace("uri: o-*.csv,", "uri: o-*.csv, columns: {v: {tags: [pii]}},")
    text = text.replace("n: count(*)", "n: max(v)")
    lp.Pipeline.from_yaml(text, base=str(tmp_path)).compile().run().raise_for_status()
    reader = pipes(tmp_path)[1].compile()
    assert reader.tags("news") == {"v": ("pii",)}
    assert reader.tags("late") == {"n": ("pii",)}


def test_times_of_versions_have_the_tags_of_what_dates_them(tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("id,born,mail\n1,2001-01-01,a@x.org\n")
    columns = {"born": {"tags": ["pii"]}, "mail": {"tags": ["contact"]}}
    pipe = lp.pipeline("people", base=str(tmp_path)).source("o", "o.csv", columns=columns).stage("h", "o")
    pipe = pipe.output("h", "h", mode="scd2", key=["id"], event_time="born", changes=True)
    pipe.build().compile().run().raise_for_status()
    reader = lp.pipeline("reader", base=str(tmp_path)).source("held", "h").source("feed", "h__changes")
    plan = reader.output("held", "one").output("feed", "two").build().compile()
    tags = {"born": ("pii",), "mail": ("contact",), "valid_from": ("pii",), "valid_to": ("pii",)}
    assert plan.tags("held") == plan.tags("feed") == tags


def test_what_reads_a_dataset_as_a_delta_table_comes_from_its_files(tmp_path: Path) -> None:
    """A Delta table counts its own versions, from 0: the first tells of the first commit."""
    columns = {"v": {"tags": ["pii"]}}
    shop = lp.pipeline("shop", base=str(tmp_path)).source("o", "o-*.csv", columns=columns).stage("s", "o")
    shop = shop.output("s", "s", format="delta", mode="append", key=["id"], changes=True)
    names = {"held": "s", "feed": "s__changes"}
    reader = lp.pipeline("reader", base=str(tmp_path))
    for name, uri in names.items():
        reader = reader.source(name, uri, format="delta").output(f"{name}_copy", f"{name}_copy", from_=name)
    for number in (1, 2):
        write(tmp_path, number, f"{number},10,2024-01-01T10:00:00")
        for pipe in (shop.build(), reader.build()):
            pipe.compile().run().raise_for_status()
    ledger = lp.ledger(shop.build())
    for name in names:
        report = lp.audit_report(ledger, f"{name}_copy").to_dict()
        assert {Path(f["uri"]).name for f in report["sources"]} == {"o-1.csv", "o-2.csv"}
        assert report["exceptions"]["unknown_versions"] == []
        first = lp.audit_report(ledger, f"{name}_copy", 1).to_dict()
        assert {Path(f["uri"]).name for f in first["sources"]} == {"o-1.csv"}
        found = {
            (h.output, h.version) for h in ledger.containing(str(tmp_path / "o-2.csv")) if h.output.startswith(name)
        }
        assert found == {(f"{name}_copy", 2)}
        assert reader.build().compile().tags(name) == {"v": ("pii",)}
    # files of a dataset are no raw ones, whoever finds them
    globber = lp.pipeline("globber", base=str(tmp_path)).source("files", "s/*.parquet").output("files", "files_copy")
    globber.build().compile().run().raise_for_status()
    report = lp.audit_report(ledger, "globber/files").to_dict()
    assert {(f["source"], Path(f["uri"]).name) for f in report["sources"]} == {
        ("shop/o", "o-1.csv"), ("shop/o", "o-2.csv")
    }  # fmt: skip
    assert "files" in {h.output for h in ledger.containing(str(tmp_path / "o-1.csv"))}
    # a copy has no commits, and its tags are for whoever reads it to give
    shutil.copytree(tmp_path / "s", tmp_path / "copied")
    copied = lp.pipeline("p", base=str(tmp_path)).source("c", "copied", format="delta").output("c", "out")
    assert copied.build().compile().tags("c") == {}
