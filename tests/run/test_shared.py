"""What several outputs read and no dataset keeps is read file by file: by a run, only what its outputs need."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.storage.datasets.dataset import Dataset
from tests.delivered import CLOCK, alter, put

SCHEMA = {"id": pl.Int64(), "k": pl.String()}
QUARANTINE = {"not_null": {"columns": "k", "action": "quarantine"}}


def definition(gate: list[Any] | None = None, **outputs: Any) -> dict[str, Any]:
    columns = {n: str(t) for n, t in SCHEMA.items()}
    return {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "in/*.csv", "contract": {"columns": columns}, "gate": gate or []}},
        "stages": {
            "s": {"from": "a", "do": [{"filter": "id >= 0"}]},
            "t": {"from": "a", "do": [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}]},
        },
        "outputs": {"s": {"to": "out/s"}, "t": {"to": "out/t"}, **outputs},
        "state": "state",
    }


def deliver(root: Path, name: str, rows: list[tuple[int | None, str | None]], *, later: int = 0) -> Path:
    return put(root / "in" / f"{name}.csv", pl.DataFrame(rows, schema=SCHEMA, orient="row"), CLOCK + later)


def spoil(path: Path) -> None:
    """Make a file unreadable behind its header, with its size and stamp as they were."""
    header, _, rest = path.read_bytes().partition(b"\n")
    alter(path, header + b"\n" + b'"' * len(rest))


def run(root: Path, data: dict[str, Any], **more: Any) -> dict[str, lp.SegmentResult]:
    result = lp.Pipeline.from_dict(data, base=str(root)).compile().run(**more)
    result.raise_for_status()
    return {s.name: s for s in result.segments}


def held(root: Path, name: str) -> list[tuple[Any, ...]]:
    return sorted(lp.scan(str(root / name)).collect().rows(), key=repr)


def counts(results: dict[str, lp.SegmentResult], of: str = "a") -> list[Any]:
    (report,) = [g for s in results.values() for g in s.gates if g.node == of]
    checks = [(c.id, c.evaluated, c.failed) for c in report.checks]
    return [report.rows, report.good, report.quarantined, *checks]


@pytest.mark.parametrize("gate", [[], [QUARANTINE, {"unique": {"columns": "id", "action": "fail"}}]])
def test_only_new_files_of_a_source_with_two_readers_are_read(tmp_path: Path, gate: list[Any]) -> None:
    data = definition(gate)
    plan = lp.Pipeline.from_dict(data, base=str(tmp_path)).compile()
    hashed = ["", "with hashed keys kept for a.unique:id"]
    assert "full" not in plan.explain_incremental()
    assert plan.inner["a"].kind == "units"
    assert str(plan.inner["a"]) == ", ".join(["reads new and changed files of a", *filter(None, [hashed[bool(gate)]])])
    first = deliver(tmp_path, "1", [(1, "x"), (-1, "y")])
    run(tmp_path, data)
    spoil(first)
    deliver(tmp_path, "2", [(2, "x"), (3, "z")])
    told = lp.Pipeline.from_dict(data, base=str(tmp_path)).compile().preview()
    assert [(s["name"], s["how"], [(r["files"], r["of"]) for r in s["reads"]]) for s in told] == [
        ("a", "units", [(1, 2)]),
        ("s", "units", []),
        ("t", "units", []),
    ]
    results = run(tmp_path, data)
    assert [results[n].written for n in ("a", "s", "t")] == [2, 2, 3]
    assert held(tmp_path, "out/s") == [(1, "x"), (2, "x"), (3, "z")]
    assert held(tmp_path, "out/t") == [("x", 2), ("y", 1), ("z", 1)]
    assert {r.status for r in run(tmp_path, data).values()} == {"unchanged"}


def test_gates_count_put_aside_and_compare_file_by_file(tmp_path: Path) -> None:
    data = definition([QUARANTINE, {"unique": {"columns": "id", "action": "fail"}}])
    deliver(tmp_path, "1", [(1, "x"), (2, None), (None, "x")])
    assert counts(run(tmp_path, data)) == [3, 2, 1, ("not_null:k", 3, 1), ("unique:id", 3, 0)]
    deliver(tmp_path, "2", [(3, "x"), (4, None)])
    assert counts(run(tmp_path, data)) == [5, 3, 2, ("not_null:k", 5, 2), ("unique:id", 5, 0)]
    aside = "state/quarantine/p/a"
    assert [r[0] for r in held(tmp_path, aside)] == [2, 4]
    # a row that was put aside counts among the keys
    third = deliver(tmp_path, "3", [(4, "x")])
    with pytest.raises(lp.GateError, match="unique:id: 2 of 6 rows"):
        run(tmp_path, data)
    assert [r[0] for r in held(tmp_path, aside)] == [2, 4]
    third.unlink()
    deliver(tmp_path, "1", [(1, "x"), (2, "mended")], later=9)
    assert counts(run(tmp_path, data)) == [4, 3, 1, ("not_null:k", 4, 1), ("unique:id", 4, 0)]
    assert [r[0] for r in held(tmp_path, aside)] == [4]
    (tmp_path / "in/2.csv").unlink()
    assert counts(run(tmp_path, data)) == [2, 2, 0, ("not_null:k", 2, 0), ("unique:id", 2, 0)]
    assert held(tmp_path, aside) == []
    assert held(tmp_path, "out/s") == [(1, "x"), (2, "mended")]


def test_an_output_that_is_behind_gets_what_it_lacks(tmp_path: Path) -> None:
    """A file is judged once more, and counted once, where one output needs it that others have by now."""
    data = definition([QUARANTINE, {"unique": {"columns": "id", "action": "fail"}}])
    deliver(tmp_path, "1", [(1, "x"), (5, None)])
    run(tmp_path, data)
    deliver(tmp_path, "2", [(2, "x"), (6, None)])
    run(tmp_path, data, outputs=["s"])
    deliver(tmp_path, "3", [(3, "y")])
    results = run(tmp_path, data)
    assert (results["s"].written, results["a"].written) == (1, 2)
    assert counts(results) == [5, 3, 2, ("not_null:k", 5, 2), ("unique:id", 5, 0)]
    assert held(tmp_path, "out/s") == [(1, "x"), (2, "x"), (3, "y")]
    assert held(tmp_path, "out/t") == [("x", 2), ("y", 1)]
    assert [r[0] for r in held(tmp_path, "state/quarantine/p/a")] == [5, 6]
    deliver(tmp_path, "4", [(6, "z")])
    with pytest.raises(lp.GateError, match="unique:id: 2 of 6 rows"):
        run(tmp_path, data)


def test_who_reads_all_gets_all(tmp_path: Path) -> None:
    data = definition([QUARANTINE])
    data["stages"]["u"] = {"from": "a", "do": [{"sort": ["id"]}]}
    data["outputs"]["u"] = {"to": "out/u"}
    data["outputs"]["s2"] = {"from": "s", "to": "out/s.csv", "format": "csv"}
    for number in (1, 2, 3):
        deliver(tmp_path, f"{number}", [(number, "x"), (-number, None)])
        results = run(tmp_path, data)
        assert results["a"].written == number
        assert results["s"].written == 1
        assert counts(results) == [2 * number, number, number, ("not_null:k", 2 * number, number)]
    assert held(tmp_path, "out/u") == held(tmp_path, "out/s") == [(n, "x") for n in (1, 2, 3)]


def test_a_change_of_rules_or_of_the_clock_judges_all_again(tmp_path: Path) -> None:
    data = definition([{"expression": {"condition": "id < date_part('year', :now)", "action": "warn", "id": "old"}}])
    deliver(tmp_path, "1", [(1, "x")])
    run(tmp_path, data)
    deliver(tmp_path, "2", [(2, "x")])
    results = run(tmp_path, data)
    assert results["a"].written == 2
    assert counts(results) == [2, 2, 0, ("old", 2, 0)]
    data["sources"]["a"]["gate"] = [{"between": {"column": "id", "max": 1, "action": "warn"}}]
    deliver(tmp_path, "3", [(3, "x")])
    results = run(tmp_path, data)
    assert results["a"].written == 3
    assert counts(results) == [3, 3, 0, ("between:id", 3, 2)]


@pytest.mark.parametrize(
    "rule",
    [
        {"between": {"column": "id", "max": 50}},
        {"max": {"column": "id", "max": 50}},
        {"median": {"column": "id", "max": 5, "by": "k"}},
        {"unique": "k"},
    ],
)
@pytest.mark.parametrize("before", [None, "warn"])
def test_a_rule_that_may_stop_what_several_read_judges_what_is_there(
    tmp_path: Path, rule: dict[str, Any], before: str | None
) -> None:
    ((name, said),) = rule.items()
    arguments = said if isinstance(said, dict) else {"columns": said}
    deliver(tmp_path, "1", [(1, "x"), (60, "y"), (70, "y")])
    run(tmp_path, definition([] if before is None else [{name: {**arguments, "action": before}}]))
    stops = definition([{name: {**arguments, "action": "fail"}}])
    result = lp.Pipeline.from_dict(stops, base=str(tmp_path)).compile().run()
    assert [(s.name, s.status) for s in result.segments] == [("a", "gate_failed"), ("s", "blocked"), ("t", "blocked")]
    assert held(tmp_path, "out/t") == [("x", 1), ("y", 2)]
    deliver(tmp_path, "1", [(1, "x")], later=10)
    assert {s.status for s in run(tmp_path, stops).values()} == {"done"}
    assert held(tmp_path, "out/t") == [("x", 1)]
    assert {s.status for s in run(tmp_path, stops).values()} == {"unchanged"}


def test_rows_that_a_shared_gate_puts_aside_have_the_columns_of_its_stage(tmp_path: Path) -> None:
    def more(do: list[Any]) -> dict[str, Any]:
        data = definition()
        data["stages"]["mid"] = {"from": "a", "do": do, "gate": [QUARANTINE]}
        for stage in ("s", "t"):
            data["stages"][stage]["from"] = "mid"
        data["stages"]["s"]["do"] = [{"select": ["id", "k"]}]
        return data

    def aside() -> list[tuple[Any, ...]]:
        rows = lp.scan(tmp_path / "state/quarantine/p/mid").collect()
        return rows.select(n for n in rows.columns if not n.startswith("_")).rows()

    deliver(tmp_path, "1", [(1, "x"), (2, None)])
    run(tmp_path, more([]))
    assert aside() == [(2, None)]
    wider = more([{"derive": {"w": "id + 1"}}])
    run(tmp_path, wider)
    assert aside() == [(2, None, 3)]
    assert {s.status for s in run(tmp_path, wider).values()} == {"unchanged"}


def test_a_stage_over_a_dataset_with_two_readers(tmp_path: Path) -> None:
    """Units of a dataset keep their numbers: where some must be judged once more, all are."""
    columns = {n: str(t) for n, t in SCHEMA.items()}
    made = {
        "version": 1,
        "name": "made",
        "sources": {"a": {"uri": "in/*.csv", "contract": {"columns": columns}}},
        "stages": {"all": {"from": "a"}},
        "outputs": {"all": {"to": "made"}},
    }
    data = definition([QUARANTINE])
    data["sources"]["a"] = {"uri": "made", "format": "dataset"}
    data["stages"]["m"] = {"from": "a", "gate": [QUARANTINE]}
    data["stages"]["s"]["from"] = data["stages"]["t"]["from"] = "m"
    written = []
    for number in (1, 2, 3, 4):
        deliver(tmp_path, f"{number}", [(number, "x"), (-number, None)])
        run(tmp_path, made)
        results = run(tmp_path, data, outputs=["s"] if number == 3 else [])
        written.append(results["m"].written)
        assert counts(results, "m") == [2 * number, number, number, ("not_null:k", 2 * number, number)]
    assert written == [1, 1, 1, 4]
    assert held(tmp_path, "out/t") == [("x", 4)]
    assert held(tmp_path, "out/s") == [(n, "x") for n in (1, 2, 3, 4)]
    assert len(held(tmp_path, "state/quarantine/p/m")) == 4


def test_keys_of_rows_that_were_not_kept_are_compared_again(tmp_path: Path) -> None:
    """A stage compares keys; what it reads is kept for the run, of new files only."""
    data = definition()
    data["stages"]["m"] = {"from": "a", "do": [{"derive": {"k": "upper(k)"}}]}
    data["stages"]["s"]["from"] = data["stages"]["t"]["from"] = "m"
    gate = [
        {"unique": {"columns": "id", "action": "warn"}},
        {"in_set": {"column": "k", "values": ["X"], "action": "drop"}},
    ]
    data["stages"]["s"] |= {"gate": gate}
    deliver(tmp_path, "1", [(1, "x"), (2, "y")])
    run(tmp_path, data)
    deliver(tmp_path, "2", [(1, "x"), (2, "x"), (3, "x")])
    results = run(tmp_path, data)
    assert results["m"].written == 3
    assert counts(results, "s") == [5, 4, 0, ("unique:id", 5, 4), ("in_set:k", 5, 1)]


def test_inner_stages_above_one_another(tmp_path: Path) -> None:
    """The one above needs what the outputs need, and what the one below has not judged yet."""
    data = definition([{"between": {"column": "id", "max": 50, "action": "warn"}}])
    data["stages"]["m"] = {"from": "a", "gate": [QUARANTINE]}
    data["stages"]["s"]["from"] = data["stages"]["t"]["from"] = "m"
    data["stages"]["v"] = {"from": "a", "do": [{"filter": "id > 1"}]}
    data["outputs"]["v"] = {"to": "out/v"}
    for number in (1, 2, 3):
        deliver(tmp_path, f"{number}", [(number, "x"), (99, None)])
        results = run(tmp_path, data, outputs=["v"] if number == 2 else [])
        assert counts(results)[:4] == [2 * number, 2 * number, 0, ("between:id", 2 * number, number)]
    assert counts(results, "m") == [6, 3, 3, ("not_null:k", 6, 3)]
    assert held(tmp_path, "out/s") == [(n, "x") for n in (1, 2, 3)]
    assert held(tmp_path, "out/t") == [("x", 3)]
    assert len(held(tmp_path, "out/v")) == 5
    plan = lp.Pipeline.from_dict(data, base=str(tmp_path)).compile()
    deliver(tmp_path, "4", [(4, "x")])
    assert [(s["name"], s["how"]) for s in plan.preview()] == [(n, "units") for n in ("a", "m", "s", "t", "v")]


def test_what_is_kept_of_shared_gates_is_vacuumed(tmp_path: Path) -> None:
    data = definition([{"unique": {"columns": "id", "action": "fail"}}])
    pipe = lp.Pipeline.from_dict(data, base=str(tmp_path))
    for number in range(12):
        deliver(tmp_path, f"{number:02}", [(number, "x")])
        run(tmp_path, data)
    state = Dataset(str(tmp_path / "state/shared/p/a"))
    before = {p.name for p in Path(state.figures).iterdir()}
    live = {f.path for f in state.read().figures}
    assert live < before
    lp.vacuum(pipe, keep=1, older_than=timedelta(0))
    assert {p.name for p in Path(state.figures).iterdir()} == live
    deliver(tmp_path, "again", [(3, "x")])
    with pytest.raises(lp.GateError, match="unique:id: 2 of 13 rows"):
        run(tmp_path, data)


def test_a_corrupt_file_is_set_aside_for_all_readers(tmp_path: Path) -> None:
    data = definition()
    data["sources"]["a"]["on_corrupt"] = "quarantine_file"
    deliver(tmp_path, "1", [(1, "x")])
    run(tmp_path, data)
    deliver(tmp_path, "2", [(2, "x")])
    (tmp_path / "in/3.csv").write_bytes(b'id,k\n3,"x\n')
    results = run(tmp_path, data)
    assert [Path(c.uri).name for c in results["a"].corrupt] == ["3.csv"]
    assert held(tmp_path, "out/s") == [(1, "x"), (2, "x")]
    assert held(tmp_path, "out/t") == [("x", 2)]


def test_another_definition_of_a_shared_stage_judges_all_again(tmp_path: Path) -> None:
    data = definition()
    data["stages"]["m"] = {"from": "a", "do": [{"filter": "id > 1"}], "gate": [QUARANTINE]}
    data["stages"]["s"]["from"] = data["stages"]["t"]["from"] = "m"
    deliver(tmp_path, "1", [(1, "x"), (2, None), (3, "y")])
    assert counts(run(tmp_path, data), "m")[:3] == [2, 1, 1]
    data["stages"]["m"]["do"] = [{"filter": "id > 2"}]
    deliver(tmp_path, "2", [(4, "x")])
    results = run(tmp_path, data)
    assert counts(results, "m")[:3] == [2, 2, 0]
    assert held(tmp_path, "state/quarantine/p/m") == []
    assert held(tmp_path, "out/s") == [(3, "y"), (4, "x")]


GATES = [[QUARANTINE], [QUARANTINE, {"unique": {"columns": "id", "action": "fail"}}]]


@pytest.mark.parametrize("gate", GATES)
def test_a_bounded_run_judges_no_more_than_its_outputs_take(tmp_path: Path, gate: list[Any]) -> None:
    data = definition(gate)
    files = [deliver(tmp_path, str(n), [(n, "x"), (10 + n, None)]) for n in range(4)]
    whole = {path: path.read_bytes() for path in files}
    for path in files[1:]:
        spoil(path)
    for number, path in enumerate(files):
        alter(path, whole[path])
        told = {s["name"]: s["reads"] for s in lp.Pipeline.from_dict(data, base=str(tmp_path)).compile().preview(max_files=1)}  # fmt: skip
        assert told["a"][0]["files"] == 1
        results = run(tmp_path, data, max_files=1)
        assert counts(results)[:3] == [2 * (number + 1), number + 1, number + 1]
        assert held(tmp_path, "out/t") == [("x", number + 1)]
    assert {s.status for s in run(tmp_path, data, max_files=1).values()} == {"unchanged"}
    # what changed and is left for later stays judged as it was
    for n, path in enumerate(files[:2]):
        deliver(tmp_path, path.stem, [(n, "y"), (20 + n, None), (30 + n, None)], later=5)
    other = files[1].read_bytes()
    spoil(files[1])
    assert counts(run(tmp_path, data, max_files=1))[:3] == [9, 4, 5]
    files[1].write_bytes(other)
    assert counts(run(tmp_path, data, max_files=1))[:3] == [10, 4, 6]
    full = counts(run(tmp_path, data, full=True))
    assert full[:3] == [10, 4, 6]
    # made anew with other rules, it begins with the first files again
    data["sources"]["a"]["gate"] = [{"in_set": {"column": "k", "values": ["y"], "action": "quarantine"}}]
    for path in files[1:]:
        spoil(path)
    assert counts(run(tmp_path, data, max_files=1))[:3] == [3, 3, 0]


def test_what_an_output_was_made_of_is_judged_though_nobody_needs_it(tmp_path: Path) -> None:
    data = definition([QUARANTINE])
    deliver(tmp_path, "1", [(1, "x"), (2, None)])
    run(tmp_path, data)
    shutil.rmtree(tmp_path / "state")
    deliver(tmp_path, "2", [(3, "x")])
    deliver(tmp_path, "3", [(4, "x")])
    assert counts(run(tmp_path, data, max_files=1))[:3] == [3, 2, 1]
    assert counts(run(tmp_path, data))[:3] == [4, 3, 1]


def test_what_a_stage_with_two_readers_needs_of_a_source_waits_for_an_output_beside_it(tmp_path: Path) -> None:
    """The output is made of the source too, and is not there yet in the first run, or not as it will be in a later one."""
    data = definition()
    data["sources"]["d"] = {"uri": "d.csv", "contract": {"columns": {"k": "String", "label": "String"}}}
    weights = {"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}
    known = [{"join": {"with": "dim", "on": "k", "how": "left"}}, {"join": {"with": "d", "on": "k", "how": "semi"}}]
    data["stages"] = {
        "dim": {"from": "d", "do": [weights]},
        "s": {"from": "a", "do": known, "gate": [QUARANTINE]},
        "t": {"from": "s", "do": [{"filter": "id > 1"}]},
        "u": {"from": "s"},
    }
    data["outputs"] = {name: {"to": f"out/{name}"} for name in ("t", "u", "dim")}
    deliver(tmp_path, "1", [(1, "x"), (2, "y"), (3, "z")])
    for labels, expected in [("xxy", [(1, "x", 2), (2, "y", 1)]), ("xyyyz", [(1, "x", 1), (2, "y", 3), (3, "z", 1)])]:
        (tmp_path / "d.csv").write_text("k,label\n" + "".join(f"{k},{n}\n" for n, k in enumerate(labels)))
        plan = lp.Pipeline.from_dict(data, base=str(tmp_path)).compile()
        for full in (False, True):
            told = {
                step["name"]: (step["how"], [r["files"] for r in step["reads"]]) for step in plan.preview(full=full)
            }
            assert (told["d"], told["s"]) == (("all", [1]), ("all", [1]))
        run(tmp_path, data)
        assert (held(tmp_path, "out/u"), held(tmp_path, "out/t")) == (expected, expected[1:])
