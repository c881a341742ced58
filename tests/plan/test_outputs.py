"""Lineage of what outputs make of the rows of their stages: write modes, feeds, and keys that are removed."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp

ROWS = {
    1: [
        (1, 1, "I", "2024-01-01T00:00:00", 10, "a"),
        (2, 2, "I", "2024-01-01T00:00:00", 20, "b"),
        (3, 3, "I", "2024-01-02T00:00:00", 30, "b"),
        (5, 4, "I", "2024-01-02T00:00:00", 50, "c"),
    ],
    2: [
        (1, 5, "U", "2024-01-03T00:00:00", 11, "a"),
        (2, 1, "U", "2023-12-31T00:00:00", 21, "b"),
        (3, 6, "D", "2024-01-04T00:00:00", 30, "b"),
        (4, 7, "I", "2024-01-05T00:00:00", 40, "c"),
    ],
}
COLUMNS = ("id", "lsn", "op", "at", "v", "day")
CONTRACT = {"columns": dict(zip(COLUMNS, ("Int64", "Int64", "String", "Datetime", "Int64", "String"), strict=True))}
MODES: dict[str, dict[str, Any]] = {
    "upsert": {"mode": "upsert", "key": "id"},
    "upsert in order": {"mode": "upsert", "key": "id", "order_by": "lsn", "deleted_when": "op = 'D'", "changes": True},
    "upsert by time": {"mode": "upsert", "key": "id", "event_time": "at", "changes": True},
    "scd2": {"mode": "scd2", "key": "id"},
    "scd2 by time": {"mode": "scd2", "key": "id", "event_time": "at", "deleted_when": "op = 'D'", "changes": True},
    "snapshot": {"mode": "snapshot"},
    "append": {"mode": "append"},
    "partitions": {"mode": "replace_partitions", "partition_by": "day"},
    "replace": {"mode": "replace", "key": "id", "changes": True},
}
CLOCKED = {"snapshot_at", "_time", "_run"}


def files(rows: dict[int, pl.DataFrame] | None = None) -> dict[int, pl.DataFrame]:
    made = {n: pl.DataFrame(of, schema=[*COLUMNS], orient="row") for n, of in ROWS.items()}
    return made if rows is None else made | rows


def pipe(output: dict[str, Any], *, same: bool, base: str, removed: bool = False) -> lp.Pipeline:
    return lp.Pipeline.from_dict(definition(output, same=same, removed=removed), base=base)


def definition(output: dict[str, Any], *, same: bool, removed: bool = False) -> dict[str, Any]:
    stage = "out" if same else "rows"
    data: dict[str, Any] = {
        "version": 1,
        "name": "writer",
        "sources": {"o": {"uri": "o-*.csv", "contract": CONTRACT}},
        "stages": {stage: {"from": "o"}},
        "outputs": {"out": {"from": stage, "to": "out", **output}},
    }
    if removed:
        data["sources"]["r"] = {"uri": "r.csv", "contract": {"columns": {"key": "Int64", "why": "String"}}}
        data["stages"]["gone"] = {"from": "r", "do": [{"rename": {"key": "id"}}]}
        data["outputs"]["gone"] = {"to": "out", "mode": "delete", "key": "id"}
    return data


def reader(output: dict[str, Any], base: str) -> lp.Pipeline:
    sources = {"held": {"uri": "out"}} | ({"feed": {"uri": "out__changes"}} if "changes" in output else {})
    outputs = {f"{n}_copy": {"from": n, "to": f"{n}_copy"} for n in sources}
    data = {"version": 1, "name": "reader", "sources": sources, "outputs": outputs}
    return lp.Pipeline.from_dict(data, base=base)


def made(folder: Path, output: dict[str, Any], rows: dict[int, pl.DataFrame], *, same: bool) -> dict[str, pl.DataFrame]:
    """Return what two deliveries make of an output and its feed, by what a reader of them calls them."""
    folder.mkdir()
    for number, frame in rows.items():
        frame.write_csv(folder / f"o-{number}.csv")
        pipe(output, same=same, base=str(folder)).compile().run().raise_for_status()
    found = {"held": lp.scan(str(folder / "out")).collect()}
    return found | ({"feed": lp.scan(str(folder / "out__changes")).collect()} if "changes" in output else {})


def bags(frame: pl.DataFrame) -> dict[str, Counter[str]]:
    # a version without a time of its own begins when the run did
    return {
        c: Counter(map(repr, frame[c].to_list()))
        for c in frame.columns
        if c not in CLOCKED and not (c.startswith("valid_") and frame.schema[c] == pl.Datetime("us", "UTC"))
    }


@pytest.mark.parametrize(("mode", "same"), [*((m, True) for m in MODES), *((m, False) for m in MODES if "by" in m)])
def test_what_changes_with_a_column_is_downstream_of_it(tmp_path: Path, mode: str, *, same: bool) -> None:
    output = MODES[mode]
    before = {n: bags(f) for n, f in made(tmp_path / "before", output, files(), same=same).items()}
    base = str(tmp_path / "before")
    catalog = lp.catalog([pipe(output, same=same, base=base).compile(), reader(output, base).compile()])
    seen = 0
    for column in COLUMNS:
        reach = {str(c) for c in catalog.downstream(f"writer/o.{column}").columns}
        for seed in range(2):
            draw = random.Random(seed)
            there = pl.concat(files().values())[column].to_list()
            values = draw.sample(there, len(there)) if seed else [draw.choice(there) for _ in there]
            parts = {1: values[:4], 2: values[4:]}
            rows = {n: f.with_columns(pl.Series(column, parts[n])) for n, f in files().items()}
            try:
                after = made(tmp_path / f"{column}{seed}", output, rows, same=same)
            except lp.LazypipeError:
                continue  # two rows with one key
            for name, frame in after.items():
                found = bags(frame)
                moved = {c for c in found if found[c] != before[name].get(c)}
                seen += len(moved)
                for place in (f"reader/{name}", f"reader/{name}_copy"):
                    assert {f"{place}.{c}" for c in moved} <= reach, (column, name)
    assert seen


def dataset_edges(plan: lp.Plan, place: str) -> set[str]:
    return {str(e) for e in plan.lineage().edges if e.target == (place, "*")}


def test_what_decides_over_the_rows_of_an_output() -> None:
    def plan(mode: str, *, same: bool = True) -> lp.Plan:
        return pipe(MODES[mode], same=same, base="/lake").compile()

    text = "WINDOW PARTITION BY id ORDER BY lsn"
    ordered = {f"o.id → out.*: {text}", f"o.lsn → out.*: {text}", "o.op → out.*: WINDOW NOT (op = 'D')"}
    assert dataset_edges(plan("upsert in order"), "out") == ordered
    # whoever reads the stage sees what the output holds
    assert dataset_edges(plan("upsert in order", same=False), "rows") == {e.replace("out", "rows") for e in ordered}
    assert dataset_edges(plan("upsert"), "out") == {"o.id → out.*: WINDOW PARTITION BY id"}
    assert dataset_edges(plan("partitions"), "out") == {"o.day → out.*: WINDOW PARTITION BY day"}
    assert dataset_edges(plan("append"), "out") == dataset_edges(plan("snapshot"), "out") == set()
    assert dataset_edges(plan("scd2", same=False), "out") == {
        f"rows.{c} → out.*: WINDOW PARTITION BY id" for c in COLUMNS
    }
    assert dataset_edges(plan("scd2", same=False), "rows") == set()
    times = {str(e) for e in plan("scd2 by time").lineage().edges if e.target.name.startswith("valid")}
    assert {t for t in times if "out__changes" not in t} == {
        "o.at → out.valid_from: IDENTITY at",
        "o.at → out.valid_to: TRANSFORMATION LEAD(at) OVER (PARTITION BY id ORDER BY at)",
    }
    assert plan("snapshot").lineage().upstream("out.snapshot_at").columns == ()


def test_personal_data_is_found_in_feeds() -> None:
    lineage = pipe(MODES["upsert in order"], same=True, base="/lake").compile().lineage()
    direct = {str(c) for c in lineage.downstream("o.v").direct} - {"o.v"}
    assert direct == {"out.v", "out__changes.v"}
    assert lineage.impact("o.v").outputs == ("out", "out__changes")
    assert lineage.composed("out__changes").inputs == ("o",)


@pytest.mark.parametrize("same", [True, False])
def test_keys_that_are_removed_decide_over_the_rows_of_who_holds_them(*, same: bool) -> None:
    written = pipe(MODES["upsert in order"], same=same, base="/lake", removed=True).compile()
    columns = {"columns": {"id": "Int64", "v": "Int64", "why": "String"}}
    read = lp.pipeline("reader", base="/lake").source("held", "out", format="dataset", contract=columns)
    catalog = lp.catalog([written, read.output("held", "copy").build().compile()])
    reach = {str(c) for c in catalog.downstream("writer/r.key").columns}
    assert {"reader/held.id", "reader/held.v", "writer/out.v", "writer/out__changes.v"} <= reach
    assert "reader/held.why" not in {str(c) for c in catalog.downstream("writer/r.why").columns}
    assert "writer/o.v" in catalog.upstream("reader/held.v")
    assert dataset_edges(written, "gone@output") == {"gone.id → gone@output.*: FILTER id"}
    assert written.lineage().composed("gone@output").columns == {}


def test_what_is_removed_by_its_own_rows_is_no_circle() -> None:
    data = definition(MODES["upsert in order"], same=True)
    data["stages"]["old"] = {"from": "out", "do": [{"filter": "v < 0"}]}
    data["outputs"]["forget"] = {"from": "old", "to": "out", "mode": "delete", "key": "id"}
    lineage = lp.Pipeline.from_dict(data, base="/lake").compile().lineage()
    assert lineage.composed("out").inputs == ("o",)
    assert lineage.composed("forget").inputs == ("o",)


def test_panes_hold_windows() -> None:
    def panes(mode: str) -> lp.Lineage:
        source = {"uri": "a.csv", "contract": {"columns": {"t": "Datetime", "g": "String", "x": "Int64"}}}
        window = {"time": "t", "every": "1h", "by": ["g"], "aggregate": {"total": "sum(x)"}}
        data = {
            "version": 1,
            "name": "p",
            "sources": {"a": source},
            "stages": {"hourly": {"from": "a", "do": [{"window": window}]}},
            "outputs": {"hourly": {"to": "out", "key": ["g", "window_start"], "panes": {"mode": mode}}},
        }
        return lp.Pipeline.from_dict(data, base="/lake").compile().lineage()

    for mode, subtype in (("retract", "IDENTITY"), ("discard", "TRANSFORMATION")):
        lineage = panes(mode)
        direct = {(str(e.source), e.target.name, e.subtype) for e in lineage.edges if e.type == "DIRECT"}
        assert ("hourly.total", "total", subtype) in direct
        assert ("hourly.g", "g", "IDENTITY") in direct
        (place,) = [p for p in lineage.places if p.kind == "feed"]
        assert (place.name, place.uris) == ("hourly__panes", ("/lake/out__panes",))
        assert ("_weight" in place.columns) == (mode == "retract")
