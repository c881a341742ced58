"""Nobody declares the types of a text file, and a delivery has others: what is said is what happened, not that the definition changed."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

import lazypipe as lp

DEFINITION = """
version: 1
name: p
sources: {t: {uri: d/*.csv}}
stages:
  double: {from: t, do: [derive: {w: v * 2}]}
  large: {from: t, do: [filter: v > 15, select: [id]]}
  count: {from: t, do: [aggregate: {by: [id], aggregate: {n: count(*)}}]}
  least: {from: t, do: [aggregate: {by: [id], aggregate: {v: min(v), k: max(k)}}]}
outputs: {double: {to: o/double}, large: {to: o/large}, count: {to: o/count}, least: {to: o/least}}
"""


def deliver(place: Path, name: str, text: str, day: int) -> Path:
    file = place / "d" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    os.utime(file, ns=(day * 86_400 * 10**9,) * 2)
    return file


@pytest.fixture
def place(tmp_path: Path) -> Path:
    deliver(tmp_path, "b.csv", "id,v,k\n1,10,1\n2,20,2\n", 19_000)
    assert compiled(tmp_path).run().status == "done"
    return tmp_path


def compiled(place: Path, text: str = DEFINITION) -> lp.Plan:
    return lp.Pipeline.from_yaml(text, base=str(place)).compile()


def reasons(plan: lp.Plan) -> dict[str, str]:
    found = {s["name"]: s["why"] for s in plan.preview()}
    done = {s.name: s.why for s in plan.run().segments}
    found = {n: why for n, why in found.items() if n != "t"}
    assert {n: str(done[n]).split("; 1 group")[0] for n in found} == found
    return found


@pytest.mark.parametrize("name", ["a.csv", "b.csv"])
def test_of_a_file_that_is_new_or_changed(place: Path, name: str) -> None:
    file = deliver(place, name, "id,v,k\n3,1.5,1\n", 19_001)
    why = f"columns of files changed: t: in {file}, v is Float64 and was Int64"
    found = reasons(compiled(place))
    assert found == {"double": why, "large": why, "least": why, "count": found["count"]}
    assert found["count"].startswith("t: 1 added, 1 unchanged" if name == "a.csv" else "t: 1 modified")
    made = lp.scan(str(place / "o/double")).collect()
    assert made.schema["w"] == pl.Float64()
    assert sorted(made["w"].to_list()) == ([3.0, 20.0, 40.0] if name == "a.csv" else [3.0])
    assert set(reasons(compiled(place)).values()) == {f"nothing changed: t: {1 + (name == 'a.csv')} unchanged"}


def test_of_several_columns_each_is_named(place: Path) -> None:
    file = deliver(place, "b.csv", "id,v,k\nx,1.5,y\n", 19_001)
    assert reasons(compiled(place))["count"] == (
        f"columns of files changed: t: in {file}, id is String and was Int64; v is Float64 and was Int64; k is String and was Int64"
    )


def test_where_the_definition_changed_too_that_is_said(place: Path) -> None:
    deliver(place, "b.csv", "id,v,k\n1,1.5,1\n", 19_001)
    text = DEFINITION.replace("max(k)", "min(k)").replace("v * 2", "v * 3").replace("id]]}", "id, v]]}")
    found = reasons(compiled(place, text))
    assert found["least"] == "the definition changed: v, k changed"
    assert found["large"] == "the definition changed: rows changed, v is new"
    # one column, for both reasons
    assert found["double"].startswith("columns of files changed: t: in ")


def test_types_that_are_declared_do_not_change(place: Path) -> None:
    text = DEFINITION.replace("d/*.csv", "d/*.csv, contract: {columns: {v: Float64}}")
    assert reasons(compiled(place, text))["double"] == "the definition changed: v, w changed"
    deliver(place, "b.csv", "id,v,k\n1,1.5,1\n", 19_001)
    assert reasons(compiled(place, text))["double"].startswith("t: 1 modified")


def test_columns_may_be_new_and_gone(place: Path) -> None:
    file = deliver(place, "b.csv", "id,v,z\n1,1,1\n", 19_001)
    text = DEFINITION.replace(", k: max(k)", "")
    assert compiled(place, text).run().status == "done"  # without what is gone
    deliver(place, "b.csv", "id,v,k\n1,1,1\n", 19_002)
    compiled(place, text).run()
    deliver(place, "b.csv", "id,v,z\n1,1,1\n", 19_003)
    found = reasons(compiled(place, text))
    assert found["double"] == f"columns of files changed: t: in {file}, k is gone; z is new"
    assert found["least"].startswith("t: 1 modified")
    assert (
        reasons(compiled(place, text.replace("w: v", "y: v")))["double"]
        == "the definition changed: y is new, w is gone"
    )
