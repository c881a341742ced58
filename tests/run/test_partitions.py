"""Windows over partitions, ranks, medians, queries and functions: a change makes anew only the groups that it touches."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.ops.sort import Sort
from lazypipe.run.segment import figures
from lazypipe.spec.model import Step
from lazypipe.spec.scope import Scope, Table
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.units import UNIT
from tests.delivered import CLOCK, alter, put, spoil

COLUMNS = {"k": pl.Int64(), "v": pl.Int64()}
SHARE: list[dict[str, Any]] = [{"over": {"by": "k", "columns": {"total": "sum(v)", "most": "max(v)"}}}]


def definition(steps: list[Any], gate: list[Any] | None = None, **source: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "in/*.csv", **source}},
        "stages": {"s": {"from": "a", "do": steps, "gate": gate or []}},
        "outputs": {"s": {"to": "out/s"}},
    }


def deliver(root: Path, name: str, rows: list[tuple[int | None, int]], *, later: int = 0) -> Path:
    return put(root / "in" / f"{name}.csv", pl.DataFrame(rows, schema=COLUMNS, orient="row"), CLOCK + later)


def run(root: Path, data: dict[str, Any], **more: Any) -> lp.SegmentResult:
    result = lp.Pipeline.from_dict(data, base=str(root)).compile(allow=[__name__]).run(**more)
    result.raise_for_status()
    return result.segments[-1]


def held(root: Path, where: str = "out/s") -> list[tuple[Any, ...]]:
    return sorted(lp.scan(str(root / where)).collect().rows(), key=repr)


def groups(root: Path) -> dict[int | None, list[int]]:
    found: dict[int | None, list[int]] = defaultdict(list)
    for path in (root / "in").glob("*.csv"):
        for k, v in pl.read_csv(path, schema=COLUMNS).rows():
            found[k].append(v)
    return found


def shares(root: Path) -> list[tuple[Any, ...]]:
    """What each row's group comes to, counted by hand."""
    return sorted([(k, v, sum(of), max(of)) for k, of in groups(root).items() for v in of], key=repr)


def test_only_files_that_hold_touched_groups_are_read_again(tmp_path: Path) -> None:
    data = definition(SHARE)
    files = [deliver(tmp_path, f"{n}", [(10 * n + m // 2, m) for m in range(20)]) for n in range(4)]
    run(tmp_path, data)
    assert held(tmp_path) == shares(tmp_path)
    expected = "s: reads new and changed files of a, recomputes only groups by k that they touch, from the files that hold rows of these groups"
    assert lp.Pipeline.from_dict(data, base=str(tmp_path)).compile().explain_incremental() == expected
    deliver(tmp_path, "late", [(3, 100), (11, 7), (99, 1)])
    (told,) = lp.Pipeline.from_dict(data, base=str(tmp_path)).compile().preview()
    assert told["why"] == "a: 1 added, 4 unchanged; files with rows of the same k are read again"
    assert [(r["files"], r["of"], r["at_least"]) for r in told["reads"]] == [(1, 5, True)]
    others = {path: spoil(path) for path in files[2:]}
    result = run(tmp_path, data)
    for path, whole in others.items():
        alter(path, whole)
    assert result.why == "a: 1 added, 4 unchanged; 3 groups touched, of 80 rows"
    assert result.written == 2 + 2 + 3
    assert held(tmp_path) == shares(tmp_path)
    # groups that a file had are touched as well as those that it has
    deliver(tmp_path, "late", [(12, 5)], later=5)
    assert "; 4 groups touched" in (run(tmp_path, data).why or "")
    assert held(tmp_path) == shares(tmp_path)
    (tmp_path / "in/late.csv").unlink()
    assert "; 1 group touched" in (run(tmp_path, data).why or "")
    assert held(tmp_path) == shares(tmp_path)
    assert run(tmp_path, data).status == "unchanged"


def test_many_groups_are_made_anew_all_together(tmp_path: Path) -> None:
    data = definition(SHARE)
    deliver(tmp_path, "1", [(k, v) for k in range(6) for v in range(3)])
    run(tmp_path, data)
    deliver(tmp_path, "2", [(k, 9) for k in range(4)])
    assert run(tmp_path, data).why == "a: 1 added, 1 unchanged"
    assert held(tmp_path) == shares(tmp_path)
    assert len(Dataset(str(tmp_path / "out/s")).read().files) == 1


def test_pairs_of_groups_and_files_are_taken_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_PAIRS", 5)
    data = definition(SHARE)
    for n in range(8):
        deliver(tmp_path, f"{n}", [(n, 1), (n, 2), (n + 1, 3), (None, n)])
    run(tmp_path, data)
    deliver(tmp_path, "late", [(None, 1), (4, 4)])
    assert "; 2 groups touched" in (run(tmp_path, data).why or "")
    assert held(tmp_path) == shares(tmp_path)


def test_each_part_keeps_its_first_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_PAIRS", 1)
    rows = pl.DataFrame({"k": [3, 1, 2, 5, 4], UNIT: pl.Series([7, 7, 7, 8, 8], dtype=pl.UInt64)})
    table = Table(rows.lazy(), pl.Schema({"k": pl.Int64()}), (UNIT,))
    step = Step("sort", ["k DESC"])
    fold = Sort(("k DESC",)).top(table, Scope(Sort, step), 2)
    assert fold is not None
    assert sorted(fold.partial.collect(engine="in-memory").rows()) == [(2, 7), (3, 7), (4, 8), (5, 8)]
    assert fold.merge(pl.LazyFrame({"k": [2, 5, 4]})).collect()["k"].to_list() == [5, 4, 2]
    places = figures.Places(tmp_path)
    places.attach(pl.concat([rows, rows]).lazy(), ["k"]).collect(engine="in-memory")
    assert places.frame().collect().height == 5


def test_pairs_are_those_of_groups_and_units(tmp_path: Path) -> None:
    places = figures.Places(tmp_path)
    assert not places
    rows = pl.DataFrame({"k": ["a", "a", None, "b"], "v": [1, 2, 3, 4], UNIT: pl.Series([0, 0, 0, 1], dtype=pl.UInt64)})
    assert places.attach(rows.lazy(), ["k"]).collect(engine="in-memory").equals(rows)
    found = places.frame().collect().sort("k", nulls_last=True)
    assert found.rows() == [("a", 0), ("b", 1), (None, 0)]


def test_groups_without_figures_that_add_up(tmp_path: Path) -> None:
    data = definition([{"aggregate": {"by": "k", "aggregate": {"m": "median(v)", "n": "count(*)"}}}])
    for n in range(3):
        deliver(tmp_path, f"{n}", [(10 * n + m // 3, m) for m in range(30)])
    run(tmp_path, data)
    deliver(tmp_path, "late", [(5, 70), (25, 1)])
    result = run(tmp_path, data)
    assert (result.written, result.why) == (2, "a: 1 added, 3 unchanged; 2 groups touched, of 30 rows")
    assert held(tmp_path) == sorted(((k, median(of), len(of)) for k, of in groups(tmp_path).items()), key=repr)


def last_two(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(w=pl.col("v") % 2).filter(pl.col("v") != 3)


STEPS: dict[str, list[dict[str, Any]]] = {
    "rank": [{"rank": {"as": "place", "order_by": "v DESC", "by": "k"}}, {"filter": "place < 3"}],
    "running": [{"derive": {"before": "lag(v) OVER (PARTITION BY k ORDER BY v)"}}],
    "fill": [
        {"derive": {"w": "CASE WHEN v % 3 = 0 THEN v END"}},
        {"fill": {"columns": "w", "strategy": "forward", "order_by": "v", "by": "k"}},
    ],
    "larger": [
        {"aggregate": {"by": ["k", "v"], "aggregate": {"n": "count(*)"}}},
        {"rank": {"as": "place", "order_by": ["n", "v"], "by": "k"}},
        {"rename": {"k": "g"}},
    ],
    "in text": [{"derive": {"share": "v - min(v) OVER (PARTITION BY k)"}}],
    "unique": [{"distinct": {"columns": "k", "keep": "none"}}],
    "query": [{"sql": "SELECT k AS g, v, rank() OVER (PARTITION BY k ORDER BY v) AS r FROM a WHERE v <> 4"}],
    "groups": [
        {"sql": "WITH t AS (SELECT k, v * 2 AS v FROM a) SELECT sum(v) AS s, k FROM t GROUP BY k HAVING sum(v) > 9"}
    ],
    "rows": [{"filter": "v > 0"}, {"sql": "SELECT v + 1 AS w, k FROM self WHERE v <> 4"}],
    "first": [{"sort": ["v DESC", "k"]}, {"limit": {"rows": 4, "offset": 1}}, {"derive": {"w": "v + 1"}}],
    "function": [{"python": {"call": f"{__name__}:last_two", "incremental": "rows"}}],
}


@pytest.mark.parametrize(
    ("name", "gated"), [*((n, False) for n in STEPS), ("rank", True), ("larger", True), ("first", True)]
)
def test_whatever_comes_and_goes_equals_a_full_run(tmp_path: Path, name: str, *, gated: bool) -> None:
    """With gates ahead and behind, partitions, a bound, and a version that is brought back."""
    data = definition(STEPS[name], contract={"columns": {"k": "Int64", "v": "Int64"}})
    if gated:
        data["sources"]["a"]["gate"] = [{"between": {"column": "v", "max": 90, "action": "quarantine"}}]
        data["stages"]["s"]["gate"] = [{"row_count": {"max": 1_000}}]
    assert not lp.Pipeline.from_dict(data, base=str(tmp_path)).compile(allow=[__name__]).strategies["s"].reasons
    anew = {**data, "outputs": {"s": {"to": "anew/s"}}}
    for n in range(3):
        deliver(tmp_path, f"{n}", [(10 * n + m // 3, m) for m in range(30)])

    def same() -> None:
        kept = run(tmp_path, data, max_files=1)
        while kept.left:
            kept = run(tmp_path, data, max_files=1)
        if gated:
            full = run(tmp_path, anew, full=True)
            assert held(tmp_path) == held(tmp_path, "anew/s")
            assert [g.rows for g in full.gates][-1:] == [g.rows for g in kept.gates][-1:]
        else:
            plan = lp.Pipeline.from_dict(data, base=str(tmp_path)).compile(allow=[__name__])
            assert held(tmp_path) == sorted(plan.frames["s"].collect().rows(), key=repr)

    same()
    for file, rows in {"late": [(5, 70), (25, 91)], "0": [(5, 1)], "more": [(7, 3), (None, 2), (25, 2)]}.items():
        deliver(tmp_path, file, rows, later=9)
        same()
    (tmp_path / "in/1.csv").unlink()
    same()
    lp.rollback(str(tmp_path / "out/s"), version=2)
    same()


def test_where_files_cannot_be_read_again_all_is_made_anew_only_in_full(tmp_path: Path) -> None:
    data = definition(SHARE, on_removed="ignore")
    deliver(tmp_path, "1", [(k, k) for k in range(9)])
    deliver(tmp_path, "2", [(k, 5) for k in range(9)])
    run(tmp_path, data)
    (tmp_path / "in/2.csv").unlink()
    assert run(tmp_path, data).status == "unchanged"
    deliver(tmp_path, "3", [(1, 1)])
    before = held(tmp_path)
    with pytest.raises(
        lp.StorageError, match="would lose the rows of a file that is gone.*rows of a must be read again"
    ):
        run(tmp_path, data)
    assert held(tmp_path) == before
    assert run(tmp_path, data, full=True).why == "full rebuild requested"
    assert held(tmp_path) == shares(tmp_path)


def test_a_file_that_cannot_be_read_again_is_named(tmp_path: Path) -> None:
    data = definition(SHARE)
    files = [deliver(tmp_path, f"{n}", [(10 * n + m // 2, m) for m in range(20)]) for n in range(3)]
    run(tmp_path, data)
    before = held(tmp_path)
    whole = spoil(files[1])
    deliver(tmp_path, "late", [(11, 7)])
    with pytest.raises(lp.LazypipeError, match=r"in/1\.csv"):
        run(tmp_path, data)
    assert held(tmp_path) == before
    alter(files[1], whole)
    assert "; 1 group touched" in (run(tmp_path, data).why or "")
    assert held(tmp_path) == shares(tmp_path)


def test_what_is_read_again_is_in_the_lineage(tmp_path: Path) -> None:
    data = definition([{"filter": "v > 1"}])
    data["stages"]["t"] = {"from": "s", "do": SHARE}
    data["outputs"] = {"t": {"to": "out/s"}}
    for name in ("1", "2"):
        deliver(tmp_path, name, [(10 * int(name) + m // 2, m) for m in range(20)])
    for name in ("3", "4"):
        result = run(tmp_path, data)
        assert result.executed is not None
        flows = str(result.executed.lineage).splitlines()
        assert any(f.startswith("a.v → t.total: AGGREGATION") for f in flows), flows
        assert any(f.startswith("a.k → t.total: WINDOW") for f in flows), flows
        deliver(tmp_path, name, [(11, 7)])
    assert "; 1 group touched" in (result.why or "")


def test_rows_of_another_output_are_read_again_by_their_units(tmp_path: Path) -> None:
    data = definition([{"filter": "v <> 4"}])
    data["stages"]["t"] = {"from": "s", "do": SHARE}
    data["outputs"]["t"] = {"to": "out/t"}
    for n in range(3):
        deliver(tmp_path, f"{n}", [(10 * n + m // 3, m) for m in range(30)])
    run(tmp_path, data)
    deliver(tmp_path, "late", [(5, 70), (25, 1)])
    assert run(tmp_path, data).why == "s: 1 added, 1 unchanged; 2 groups touched, of 87 rows"
    expected = [(k, v) for k, of in groups(tmp_path).items() for v in of if v != 4]
    found = lp.scan(str(tmp_path / "out/t")).collect()
    assert sorted(found.select("k", "v").rows()) == sorted(expected)
    totals = {k: sum(v for v in of if v != 4) for k, of in groups(tmp_path).items()}
    assert all(total == totals[k] for k, total in found.select("k", "total").rows())


@pytest.mark.parametrize(
    ("gate", "output", "expected"),
    [
        ([{"not_null": {"columns": "v", "action": "drop"}}], {}, "full: s: not_null:v removes rows, or changes them"),
        ([], {"mode": "append"}, "full: s: every file can change existing rows"),
    ],
)
def test_what_stands_against_groups_is_said(gate: list[Any], output: dict[str, Any], expected: str) -> None:
    data = definition(SHARE, gate, contract={"columns": {"k": "Int64", "v": "Int64"}})
    data["outputs"]["s"] |= output
    assert str(lp.Pipeline.from_dict(data).compile().strategies["s"]) == expected
