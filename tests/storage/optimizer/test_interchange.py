"""Rows that programs hand each other: IPC is advised where it is much faster, with what was measured; datasets stay Parquet."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.optimize import Workload, advise, rewrite
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.optimizer.interchange import with_format
from lazypipe.testing.synthetic import make_orders

HOT = Workload(declared="interchange")


def still() -> float:
    return 0.0


def taking(*seconds: float) -> Any:
    """Return a clock by which one thing after the other takes so long, three times each."""

    def moments() -> Iterator[float]:
        for took in seconds:
            for _ in range(3):
                yield 0.0
                yield took

    return moments().__next__


@pytest.mark.parametrize(("arrow", "is_better"), [(0.009, True), (0.011, False)])
def test_ipc_is_advised_where_it_is_twice_as_fast(arrow: float, *, is_better: bool) -> None:
    frame = make_orders(2_000, seed=1)
    made = with_format(advise(frame, goal="read", budget=0.06, clock=still), frame, taking(0.020, arrow))
    assert made.format == ("ipc" if is_better else "parquet")
    assert made.to_dict()["format"] == made.format
    frame.write_ipc(out := io.BytesIO(), compression="uncompressed")
    said = f"format: {made.format}: {arrow * 1e3:.1f} ms to write and read the sample, 20.0 ms as Parquet; "
    assert str(made.reasons[-1]).startswith(f"{said}{len(out.getvalue()):,} bytes, ")
    assert f"- {made.reasons[-1]}" in made.to_markdown().splitlines()


def test_only_those_who_ask_for_interchange_are_told_of_formats() -> None:
    frame = make_orders(2_000, seed=1)
    told = advise(frame, HOT, "read", 0.06, clock=still)
    assert str(told.reasons[-1]).startswith("format: parquet: 0.0 ms")  # by a clock that stands still nothing is faster
    plain = advise(frame, None, "read", 0.06, clock=still)
    assert plain.format == "parquet"
    assert not any(r.decision.startswith("format") for r in plain.reasons)
    assert plain.layout == told.layout


@pytest.mark.parametrize(
    "frame", [pl.DataFrame(), pl.DataFrame(schema={"a": pl.Int64}), pl.LazyFrame(schema={"a": pl.Int64})]
)
def test_no_rows_no_advice(frame: Any) -> None:
    made = advise(frame, HOT, "storage", 0.06, clock=still)
    assert (made.format, made.layout.to_dict()) == ("parquet", {})
    assert [r.decision for r in made.reasons] == ["the default layout"]
    assert "| column |" not in made.to_markdown()


def test_forms_that_others_would_not_undo_are_not_even_tried() -> None:
    frame = make_orders(3_000, seed=1)
    for budget in (0.06, None):
        made = advise(frame, goal="storage", budget=budget, forms=False, clock=still)
        assert dict(made.layout.forms) == {}
        assert not any("scaled" in t.how or "cast" in t.how for t in made.measured)
        assert any("cast" in t.how for t in advise(frame, goal="storage", budget=budget, clock=still).measured)


def test_a_delta_table_is_rewritten_without_forms(tmp_path: Path) -> None:
    make_orders(3_000, seed=1).write_parquet(tmp_path / "in.parquet")
    built = lp.pipeline("p", base=str(tmp_path)).source("a", "in.parquet").stage("b", "a")
    built.output("b", "out", format="delta").build().compile().run().raise_for_status()
    before = lp.scan(str(tmp_path / "out")).collect()
    rewrite(str(tmp_path / "out"), "storage", budget=0.06)
    commit = Dataset(str(tmp_path / "out")).read()
    assert [dict(f.layout.forms) for f in commit.files if f.layout] == [{}] * len(commit.files)
    assert lp.scan(str(tmp_path / "out")).collect().sort("order_id").equals(before.sort("order_id"))
