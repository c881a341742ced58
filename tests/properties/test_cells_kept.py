"""Cells that a contract takes out, contracts and rules that change, runs and replays: each row is in one place, with what came or with null where the contract says so."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp

START = datetime(2024, 1, 1, tzinfo=UTC)
FITTING = ["", "1", "5", "20", "7"]
CELLS = [*FITTING, "x", "1.5", "99999999999999999999"]
DISCARDING = ("row", "cell", "null")
STEP = st.fixed_dictionaries(
    {
        "act": st.sampled_from(["run", "run", "replay"]),
        "contract": st.sampled_from(["row", "row", "cell", "null", "freeze", "plain"]),
        "most": st.sampled_from([4, 10, 30]),
        "cells": st.lists(st.sampled_from(CELLS), min_size=1, max_size=4),
        "broken": st.booleans(),
    }
)


def value(cell: str) -> int | None:
    return int(cell) if cell.isdigit() and len(cell) < 19 else None


class World:
    def __init__(self, base: Path, form: str, mode: str) -> None:
        self.base, self.form, self.mode = base, form, mode
        self.cells: dict[int, str] = {}
        self.broken = self.files = 0
        self.nulled = False
        (base / "in").mkdir()

    def deliver(self, cells: list[str], *, broken: bool) -> None:
        self.files += 1
        rows = {len(self.cells) + n: cell for n, cell in enumerate(cells, 1)}
        self.cells |= rows
        self.broken += broken
        if self.form == "csv":
            lines = ["id,n", *(f"{i},{cell}" for i, cell in rows.items()), *["0,1,2"][:broken]]
        else:
            lines = [json.dumps({"id": i, "n": json_of(cell)}) for i, cell in rows.items()]
            lines += ['{"id": 0, oops'][:broken]
        path = self.base / f"in/{self.files:02}.{self.form}"
        path.write_text("\n".join(lines) + "\n")
        os.utime(path, (1_700_000_000 + self.files * 10,) * 2)

    def plan(self, contract: str, most: int) -> lp.Plan:
        said: dict[str, Any] = {"columns": {"id": "Int64", "n": "Int64"}}
        match contract:
            case "cell":
                said["columns"]["n"] = {"type": "Int64", "on_type_change": "discard_row"}
            case "row" | "null" | "freeze":
                words = {"row": "discard_row", "null": "discard_column", "freeze": "freeze"}
                said["on_type_change"] = words[contract]
        gate: Any = [{"between": {"column": "n", "max": most, "action": "quarantine"}}]
        built = lp.pipeline("p", base=str(self.base)).source("o", f"in/*.{self.form}", contract=said, gate=gate)
        return built.output("o", "o", mode=self.mode).build().compile()

    def step(self, number: int, act: str, contract: str, most: int, cells: list[str], *, broken: bool) -> None:
        if self.mode == "replace" and act == "run":
            contract = "row"  # all files are read again, and may hold anything
        self.nulled |= contract == "null"
        now = START + timedelta(hours=number)
        if act == "replay":
            self.plan(contract, most).replay("o", now=now)
            return
        soft = contract in DISCARDING
        self.deliver([c if soft or c in FITTING else "5" for c in cells], broken=broken and contract == "row")
        self.plan(contract, most).run(now=now).raise_for_status()

    def check(self) -> None:
        there = lp.scan(str(self.base / "o")).collect()
        for i, n in there.select("id", "n").iter_rows():
            cell = self.cells[i]
            assert n == value(cell)
            assert n is not None or cell == "" or self.nulled
        aside = self.aside()
        broken = [r for r in aside if "broken_row" in r["_lazypipe_rules"]]
        assert len(broken) == self.broken
        assert all("0,1,2" in r["_lazypipe_raw"] or "oops" in r["_lazypipe_raw"] for r in broken)
        kept = [r for r in aside if r not in broken]
        for row in kept:
            cell = self.cells[row["id"]]
            assert row["n"] == value(cell) or cell in (row["_lazypipe_raw"] or "")
        assert sorted([*there["id"], *(r["id"] for r in kept)]) == sorted(self.cells)

    def aside(self) -> list[dict[str, Any]]:
        if not (self.base / "o__quarantine.commits").exists():
            return []
        rows = lp.scan(str(self.base / "o__quarantine")).collect()
        return rows.with_columns(**({} if "_lazypipe_raw" in rows.columns else {"_lazypipe_raw": pl.lit(None)})).to_dicts()  # fmt: skip


def json_of(cell: str) -> int | str | None:
    return value(cell) if cell in FITTING else cell


@given(form=st.sampled_from(["csv", "ndjson"]), mode=st.sampled_from(["append", "append", "replace"]), steps=st.lists(STEP, min_size=2, max_size=6))  # fmt: skip
@settings(max_examples=settings().max_examples // 8)
def test_no_cell_is_lost(form: str, mode: str, steps: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), form, mode)
        world.step(0, "run", "row", 10, CELLS, broken=True)
        world.check()
        for number, step in enumerate(steps, 1):
            world.step(number, **step)
            world.check()
