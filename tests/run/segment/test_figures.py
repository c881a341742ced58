"""Keys that repeat in other files are found by the hashes that are kept of each file; few files hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.gates import uniqueness
from lazypipe.gates.uniqueness import HASH, KeyHashes
from lazypipe.run.segment import figures
from lazypipe.run.segment.figures import Counted, Places
from lazypipe.storage.datasets import unit_counts
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import DataFile
from lazypipe.storage.datasets.tiers import FAN, due
from lazypipe.storage.datasets.units import UNIT
from tests.delivered import CLOCK, put


def definition(action: str = "warn", **source: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "name": "p",
        "sources": {
            "a": {"uri": "in/*.parquet", "gate": [{"unique": {"columns": ["k", "n"], "action": action}}], **source}
        },
        "stages": {"s": {"from": "a", "do": [{"filter": "n >= 0"}]}},
        "outputs": {"s": {"to": "out/s"}},
    }


def deliver(root: Path, name: str, rows: list[tuple[str | None, int]], *, later: int = 0) -> Path:
    frame = pl.DataFrame(rows, schema={"k": pl.String(), "n": pl.Int64()}, orient="row")
    return put(root / "in" / f"{name}.parquet", frame, CLOCK + later)


def run(root: Path, data: dict[str, Any]) -> lp.RunResult:
    return lp.Pipeline.from_dict(data, base=str(root)).compile().run()


def repeats(result: lp.RunResult) -> tuple[str, int, int]:
    check = result.gates["a"].checks[0]
    return (result.segments[0].why or "").partition(":")[0], check.evaluated, check.failed


def test_rows_that_repeat_a_key_of_another_file_are_counted(tmp_path: Path) -> None:
    data = definition()
    deliver(tmp_path, "1", [("x", 1), ("y", 2), (None, 3)])
    assert repeats(run(tmp_path, data)) == ("nothing was committed yet", 3, 0)
    deliver(tmp_path, "2", [("x", 1), ("x", 2), (None, 3)])
    assert repeats(run(tmp_path, data)) == ("a", 6, 2)
    # one more of a key that stands twice already, and one that stands in the new file alone
    deliver(tmp_path, "3", [("x", 1), ("z", 9), ("z", 9), ("u", -7)])
    assert repeats(run(tmp_path, data)) == ("a", 10, 5)
    # nothing is new, and repeats of files that were there before are counted again
    (tmp_path / "in" / "1.parquet").unlink()
    assert repeats(run(tmp_path, data)) == ("a", 7, 4)
    deliver(tmp_path, "3", [("z", 8)], later=5)
    assert repeats(run(tmp_path, data)) == ("a", 4, 0)
    deliver(tmp_path, "4", [("u", -7), ("u", -7)])
    assert repeats(run(tmp_path, data)) == ("a", 6, 2)
    assert sorted(lp.scan(str(tmp_path / "out/s")).collect()["n"]) == [1, 2, 3, 8]


def test_a_key_that_was_read_before_fails_the_run(tmp_path: Path) -> None:
    data = definition("fail")
    deliver(tmp_path, "1", [("x", 1)])
    run(tmp_path, data).raise_for_status()
    deliver(tmp_path, "2", [("x", 1)])
    with pytest.raises(lp.GateError, match="unique:k,n: 2 of 2 rows"):
        run(tmp_path, data).raise_for_status()
    assert lp.scan(str(tmp_path / "out/s")).collect().height == 1
    deliver(tmp_path, "2", [("x", 2)], later=7)
    run(tmp_path, data).raise_for_status()
    assert lp.scan(str(tmp_path / "out/s")).collect().height == 2


def test_keys_are_compared_where_hashes_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No two keys are known whose hashes meet, so hashes are made short: a few of each thousand keys do."""
    plain = uniqueness._row_hash
    monkeypatch.setattr(uniqueness, "_row_hash", lambda columns: (plain(columns) % 7).alias(HASH))
    data = definition()
    rows = [(f"k{n}", n) for n in range(30)]
    deliver(tmp_path, "1", rows[:15])
    run(tmp_path, data)
    deliver(tmp_path, "2", [*rows[15:], ("k3", 3)])
    assert repeats(run(tmp_path, data)) == ("a", 31, 2)


def test_rows_of_a_file_that_is_ignored_count_by_their_hashes(tmp_path: Path) -> None:
    data = definition(on_removed="ignore")
    old = deliver(tmp_path, "1", [("x", 1), ("y", 2)])
    run(tmp_path, data)
    old.unlink()
    deliver(tmp_path, "2", [("x", 1)])
    assert repeats(run(tmp_path, data)) == ("a", 3, 2)


def test_rows_that_a_gate_drops_are_compared_too(tmp_path: Path) -> None:
    data = definition()
    data["sources"]["a"]["gate"] = []
    data["stages"]["s"]["gate"] = [
        {"unique": {"columns": "k", "action": "warn"}},
        {"between": {"column": "n", "max": 5, "action": "drop"}},
    ]
    deliver(tmp_path, "1", [("x", 9), ("y", 1)])
    run(tmp_path, data)
    deliver(tmp_path, "2", [("x", 2)])
    result = run(tmp_path, data)
    assert [(c.evaluated, c.failed) for c in result.gates["s"].checks] == [(3, 2), (3, 1)]


def test_few_files_hold_the_keys_of_many_runs(tmp_path: Path) -> None:
    data = definition()
    pipe = lp.Pipeline.from_dict(data, base=str(tmp_path))
    for number in range(20):
        deliver(tmp_path, f"{number:03}", [(f"k{number}", number)])
        pipe.compile().run().raise_for_status()
    commit = Dataset(str(tmp_path / "out/s")).read()
    assert len(commit.figures) == 20 % FAN + 20 // FAN
    assert {u for f in commit.figures for u in f.units} == commit.units
    deliver(tmp_path, "last", [("k0", 0), ("k19", 19)])
    assert repeats(run(tmp_path, data))[2] == 4


def test_a_version_that_says_nothing_of_its_keys_is_made_anew(tmp_path: Path) -> None:
    """Hashes are those of one version of Polars: with another one they say nothing."""
    data = definition()
    deliver(tmp_path, "1", [("x", 1)])
    run(tmp_path, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl, "__version__", "99.0")
        deliver(tmp_path, "2", [("x", 1)])
        assert repeats(run(tmp_path, data))[::2] == ("the definition changed", 2)


def test_hashes_beyond_a_budget_go_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uniqueness, "_HELD", 5)
    schema = pl.Schema({"k": pl.Int64()})
    hashes = KeyHashes(("k",), schema, tmp_path / "spill", UNIT)
    for unit in range(4):
        hashes.add(unit, pl.DataFrame({"k": [None, *range(unit * 3, unit * 3 + 3)]}, schema=schema))
    found = hashes.frame().collect()
    assert found[UNIT].to_list() == [u for u in range(4) for _ in range(3)]
    assert found[HASH].n_unique() == 12
    assert len(list((tmp_path / "spill").iterdir())) == 2


def sized(*rows: int) -> list[DataFile]:
    return [DataFile(f"{n}.parquet", r, 0, units={n: r}) for n, r in enumerate(rows)]


def test_files_of_similar_size_are_merged() -> None:
    assert due(sized(*[1] * 7)) == ()
    assert [f.path for f in due(sized(900, *[1] * 8, 90))] == [f"{n}.parquet" for n in range(1, 9)]
    # what comes of it is one more in the tier above, which is then full too
    assert len(due(sized(*[8] * 7, *[1] * 8, 9000))) == 15
    assert len(due(sized(*[64] * 7, *[1] * 8))) == 8
    assert due(sized(*[900] * 8), most=900) == ()
    assert [f.path for f in due(sized(5, 1000), {1})] == ["1.parquet"]


def test_the_number_of_files_stays_small_and_rows_are_seldom_rewritten() -> None:
    files: list[DataFile] = []
    written = 0
    for number in range(1_000):
        files.append(DataFile(f"{number}.parquet", 100, 0))
        merged = due(files)
        if merged:
            rows = sum(f.rows for f in merged)
            written += rows
            files = [*(f for f in files if f not in merged), DataFile(f"m{number}.parquet", rows, 0)]
        assert len(files) <= 4 * (FAN - 1)
    assert sum(f.rows for f in files) == 100_000
    assert written <= 3 * 100_000


KEYS: dict[str, list[Any]] = {
    "text": ["a", "b", None, "a", "c", "d"],
    "float": [1.5, float("nan"), None, -1.0, 2.5, 1.5],
    "kind": ["x", None, "y", "z", "x", "y"],
    "part": [{"n": 1}, {"n": None}, {"n": 2}, {"n": 1}, {"n": 3}, {"n": 1}],
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("held", [figures._PAIRS, 10, 1_000])
def test_which_units_hold_which_groups_is_told_of_more_than_is_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, held: int
) -> None:
    monkeypatch.setattr(figures, "_PAIRS", held)
    values = pl.Series(key, KEYS[key], dtype=pl.Enum(["z", "y", "x"]) if key == "kind" else None)
    rows = pl.DataFrame({"n": range(3_000)}).select(
        values.gather(pl.int_range(3_000, eager=True) % 6),
        hour=pl.col("n") % 250,
        **{UNIT: (pl.col("n") // 1_400).cast(pl.UInt64)},
    )
    places = Places(tmp_path / "places")
    assert not places
    for batch in rows.iter_slices(70):
        assert places.attach(batch.lazy(), [key, "hour"]).collect().equals(batch)
    assert places
    found = places.frame().collect(engine="streaming")
    assert (tmp_path / "places").exists() == (held < 3_000)
    assert sorted(map(repr, found.rows())) == sorted({*map(repr, rows.rows())})
    assert found[key].rle_id().n_unique() == values.n_unique()  # those of a group stand together


def test_few_groups_go_to_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_PAIRS", 10)
    places = Places(tmp_path / "places")
    rows = pl.DataFrame({"k": [1, 2, 3] * 40, UNIT: pl.Series([7] * 120, dtype=pl.UInt64)})
    for batch in rows.iter_slices(12):
        places.attach(batch.lazy(), ["k"]).collect()
    assert sum(p.height for p in places._parts) < 10
    assert places.frame().collect().rows() == [(1, 7), (2, 7), (3, 7)]
    assert not (tmp_path / "places").exists()


@pytest.mark.parametrize(("delivered", "reads"), [([2], 0), ([2, 3], 2), ([], 0)])
def test_files_of_partitions_are_read_again_only_if_they_may_hold_rows_of_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delivered: list[int], reads: int
) -> None:
    data = definition()
    data["outputs"]["s"]["partition_by"] = "k"
    deliver(tmp_path, "1", [("x", 1), ("y", 2)])
    assert run(tmp_path, data).status == "done"
    asked: list[str] = []
    counted = unit_counts._counted
    monkeypatch.setattr(unit_counts, "_counted", lambda uri, options: asked.append(uri) or counted(uri, options))
    for number in delivered:
        deliver(tmp_path, str(number), [("x", number), ("x", 10 * number), ("y", number)])
    run(tmp_path, data)
    assert len(asked) == reads
    commit = Dataset(str(tmp_path / "out/s")).read()
    held = {f.path: sum(f.units.values()) for f in commit.files}
    assert held == {f.path: f.rows for f in commit.files}
    # each file holds of each delivery as many rows as there stand in it
    for number in delivered:
        (tmp_path / "in" / f"{number}.parquet").unlink()
        run(tmp_path, data)
    left = pl.read_parquet(tmp_path / "in/1.parquet")
    assert sorted(lp.scan(str(tmp_path / "out/s")).collect().select("k", "n").rows()) == sorted(left.rows())


@pytest.mark.parametrize("most", [6, 5, 0])
def test_of_few_rows_it_is_known_what_stands_in_their_columns(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(figures, "FEW", most)
    counted = Counted(["k"])
    frames = [
        pl.DataFrame({"k": [n, None], "x": "y", UNIT: [7, 8]}, schema_overrides={UNIT: pl.UInt64()}) for n in (5, 1, 3)
    ]
    for frame in frames:
        counted.attach(frame.lazy()).collect()
    (file,) = counted.files([DataFile("a", 6, 1)], tuple)
    assert file.units == {7: 3, 8: 3}
    if most < 6:
        assert (counted.held, file.bounds) == (None, {})
        return
    assert counted.held is not None
    assert counted.held["k"].sort().to_list() == [None, None, None, 1, 3, 5]  # rows flow by in any order
    assert file.bounds == {"k": (1, 5, 3, 6)}
    # of several files it is not known what stands in which
    asked = (DataFile("b", 3, 1), DataFile("c", 3, 1))
    assert counted.files([DataFile("a", 6, 1)] * 2, lambda: asked) == asked


@pytest.mark.parametrize("most", [0, 1 << 16])
def test_touched_groups_are_those_that_came_whether_they_are_at_hand_or_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(figures, "FEW", most)
    data: dict[str, Any] = {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "*.csv", "contract": {"columns": {"k": "Int64", "v": "Int64"}}}},
        "stages": {"s": {"from": "a", "do": [{"aggregate": {"by": "k", "aggregate": {"n": "sum(v)"}}}]}},
        "outputs": {"s": {"to": "out/s"}},
    }
    pipe = lp.Pipeline.from_dict(data, base=str(tmp_path))
    for name, rows in (("a", range(20)), ("b", [3, 3, 21]), ("b", [4]), ("c", [])):
        put(tmp_path / f"{name}.csv", "k,v\n" + "".join(f"{k},1\n" for k in rows), CLOCK + len([*rows]))
        result = pipe.compile().run()
        result.raise_for_status()
        why = result.segments[0].why or ""
        assert (name, [*rows]) != ("b", [4]) or why.endswith("; 3 groups touched, of 21 rows")
    found = dict(lp.scan(str(tmp_path / "out/s")).collect().rows())
    assert found == {**dict.fromkeys(range(20), 1), 4: 2}
