"""A user mends a rule, a repair or reference data, and replays what was put aside: healed rows move in once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import GateError, LazypipeError
from lazypipe.run.replay import _Replay

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = {"id": [1, 2, 3, 4, 5, 5], "email": ["a@x", None, "c", "d@x", "e@x", "f@x"], "n": [1, 2, 3, -4, 5, 5]}


def plan(folder: Path, *gate: dict[str, Any], action: str = "quarantine", **output: Any) -> lp.Plan:
    folder.mkdir(exist_ok=True)
    if not (folder / "in.parquet").exists():
        pl.DataFrame(ROWS).write_parquet(folder / "in.parquet")
    built = lp.pipeline("p", base=str(folder)).source("rows", "in.parquet", on_modified="reprocess")
    stage: Any = {"action": action, "rules": list(gate)}
    return built.stage("kept", "rows", gate=stage).output("kept", "out", **output).build().compile()


STRICT = {"expression": {"condition": "email LIKE '%@%'", "id": "email"}}
POSITIVE = {"between": {"column": "n", "min": 0}}
ONCE = {"unique": "id"}


def published(folder: Path) -> list[int]:
    return sorted(lp.scan(str(folder / "out")).collect()["id"])


def aside(folder: Path) -> dict[int, list[str]]:
    rows = lp.scan(str(folder / "out__quarantine")).collect()
    return {r["id"]: r["_lazypipe_rules"] for r in rows.iter_rows(named=True)}


def test_a_mended_rule_moves_rows_in_exactly_once(tmp_path: Path) -> None:
    plan(tmp_path, STRICT, POSITIVE, ONCE).run(run="first", now=NOW).raise_for_status()
    assert published(tmp_path) == [1, 2]
    assert aside(tmp_path) == {3: ["email"], 4: ["between:n"], 5: ["unique:id"]}
    looser = plan(tmp_path, POSITIVE, ONCE)
    found = looser.replay("kept", run="second", now=NOW + timedelta(hours=1))
    assert (found.healed, found.superseded, found.remaining, found.version) == (1, 0, 3, 2)
    assert published(tmp_path) == [1, 2, 3]
    assert aside(tmp_path) == {4: ["between:n"], 5: ["unique:id"]}
    rows = lp.scan(str(tmp_path / "out__quarantine")).collect()
    assert set(rows["_lazypipe_run"]) == {"first"}
    assert rows["_lazypipe_file"].str.ends_with("in.parquet").all()
    again = looser.replay("kept", run="third", now=NOW + timedelta(hours=2))
    assert (again.healed, again.remaining, again.version) == (0, 3, None)
    assert published(tmp_path) == [1, 2, 3]


def test_a_repair_heals(tmp_path: Path) -> None:
    plan(tmp_path, POSITIVE).run(now=NOW).raise_for_status()
    repair = {"between": {"column": "n", "min": 0, "action": "repair", "repair": {"set": "abs(n)"}}}
    found = plan(tmp_path, repair).replay("kept", run="r2", now=NOW)
    assert (found.healed, found.remaining) == (1, 0)
    assert found.report is not None
    assert found.report.checks[0].repaired == 1
    assert lp.scan(str(tmp_path / "out")).filter(id=4).collect()["n"].item() == 4
    assert lp.replay(plan(tmp_path, repair), "kept").healed == 0
    assert lp.replay(plan(tmp_path, repair).pipeline, "kept", now=NOW).healed == 0


def test_a_key_that_the_output_has_by_now_is_no_news(tmp_path: Path) -> None:
    plan(tmp_path, ONCE, POSITIVE, mode="append").run(run="r1", now=NOW).raise_for_status()
    assert sorted(aside(tmp_path)) == [4, 5]
    # without a key, the rows of id 5 still repeat each other; and one that repeats a row of the output never goes in
    pl.DataFrame({"id": [4], "email": ["d@x"], "n": [4]}).write_parquet(tmp_path / "in.parquet")
    plan(tmp_path, ONCE, POSITIVE, mode="append").run(run="r2", now=NOW).raise_for_status()
    found = plan(tmp_path, ONCE).replay("kept", run="r3", now=NOW)
    assert (found.healed, found.remaining) == (0, 3)
    assert aside(tmp_path)[4] == ["unique:id"]
    keyed = plan(tmp_path, ONCE, key=["id"])
    found = keyed.replay("kept", run="r4", now=NOW)
    assert (found.healed, found.superseded, found.remaining) == (0, 1, 2)
    assert sorted(aside(tmp_path)) == [5]
    assert published(tmp_path) == [1, 2, 3, 4]


def test_a_corrected_delivery_leaves_quarantine_by_its_key(tmp_path: Path) -> None:
    keyed = {"key": ["id"], "mode": "append"}
    plan(tmp_path, POSITIVE, STRICT, **keyed).run(run="r1", now=NOW).raise_for_status()
    assert sorted(aside(tmp_path)) == [3, 4]
    pl.DataFrame({"id": [4, 9], "email": ["d@x", "x"], "n": [4, 1]}).write_parquet(tmp_path / "in.parquet")
    plan(tmp_path, POSITIVE, STRICT, **keyed).run(run="r2", now=NOW).raise_for_status()
    assert sorted(aside(tmp_path)) == [3, 9]
    assert published(tmp_path) == [1, 2, 4, 5, 5]


MEASURES: list[dict[str, Any]] = [
    {"row_count": {"min": 3}},
    {"row_count": {"max": 1, "by": "email", "id": "each"}},
    {"sum": {"column": "n", "max": 100}},
    {"median": {"column": "n", "max": 100}},
    {"distinct_count": {"columns": "id", "min": 3}},
    {"completeness": {"column": "email", "min": "50%"}},
]


def test_measures_are_of_the_rows_that_are_there_and_those_that_move_in(tmp_path: Path) -> None:
    plan(tmp_path, POSITIVE, STRICT, *MEASURES).run(run="r1", now=NOW).raise_for_status()
    assert published(tmp_path) == [1, 2, 5, 5]
    for gate, ids, n in (
        ((POSITIVE, STRICT), [1, 2, 5, 5], [1, 2, 5, 5]),  # none moves in
        ((POSITIVE,), [1, 2, 3, 5, 5], [1, 2, 3, 5, 5]),
        ((), [1, 2, 3, 4, 5, 5], [1, 2, 3, -4, 5, 5]),
    ):
        found = plan(tmp_path, *gate, *MEASURES).replay("kept", now=NOW)
        assert published(tmp_path) == ids
        assert found.report is not None
        assert found.report.status != "fail"
        said = {c.id: c for c in found.report.checks}
        measured = [said[i].value for i in ("row_count", "sum:n", "median:n", "distinct_count:id")]
        assert measured == [len(ids), sum(n), median(n), len(set(ids))]
        assert said["completeness:email"].value == (len(ids) - 1) / len(ids)
        assert said["each"].evaluated == len(ids)


@pytest.mark.parametrize("between", [False, True])
def test_what_reads_the_output_gets_the_rows_of_every_replay(tmp_path: Path, between: bool) -> None:
    (tmp_path / "in").mkdir()
    pl.DataFrame({"id": [1, 2, 3], "n": [1, 5, 9]}).write_parquet(tmp_path / "in/a.parquet")

    def up(most: int) -> lp.Plan:
        gate: Any = [{"between": {"column": "n", "max": most, "action": "quarantine"}}]
        built = lp.pipeline("up", base=str(tmp_path)).source("rows", "in/*.parquet").stage("kept", "rows", gate=gate)
        return built.output("kept", "kept").build().compile()

    count: Any = [{"aggregate": {"by": ["id"], "aggregate": {"times": "count(*)"}}}]

    def down() -> list[tuple[int, int]]:
        built = lp.pipeline("down", base=str(tmp_path)).source("kept", "kept").stage("counted", "kept", count)
        built.output("counted", "counted").build().compile().run(now=NOW).raise_for_status()
        return sorted(lp.scan(str(tmp_path / "counted")).collect().rows())

    up(1).run(run="first", now=NOW).raise_for_status()
    assert down() == [(1, 1)]
    assert up(5).replay("kept", run="second", now=NOW).healed == 1
    assert down() == [(1, 1), (2, 1)]
    if between:  # the healed row is one of its file again
        up(5).run(run="third", now=NOW).raise_for_status()
    assert up(9).replay("kept", run="fourth", now=NOW).healed == 1
    assert down() == [(1, 1), (2, 1), (3, 1)]


@pytest.mark.parametrize("most", ["20%", 1])
def test_rows_that_violate_again_do_not_hold_up_those_that_are_healed(tmp_path: Path, most: int | str) -> None:
    """How many of a delivery may violate was judged when it came; of those put aside, more do."""
    limited = {"between": {"column": "n", "min": 0, "max_failures": most}}
    for first in (1, 11):
        ids = range(first, first + 6)
        emails, numbers = ["a@x", "b", *["c@x"] * 4], [1, 2, -3, 4, 5, 6]
        pl.DataFrame({"id": ids, "email": emails, "n": numbers}).write_parquet(tmp_path / "in.parquet")
        plan(tmp_path, STRICT, limited, mode="append").run(now=NOW).raise_for_status()
    assert aside(tmp_path) == {2: ["email"], 3: ["between:n"], 12: ["email"], 13: ["between:n"]}
    found = plan(tmp_path, limited, mode="append").replay("kept", now=NOW)
    assert (found.healed, found.remaining) == (2, 2)
    assert found.report is not None
    assert [(c.id, c.failed, c.evaluated, c.status) for c in found.report.checks] == [("between:n", 2, 4, "warn")]
    assert published(tmp_path) == [1, 2, 4, 5, 6, 11, 12, 14, 15, 16]
    assert aside(tmp_path) == {3: ["between:n"], 13: ["between:n"]}
    refusing = {"between": {"column": "n", "min": 0, "action": "fail"}}
    with pytest.raises(GateError, match="between:n: 2 of 2 rows"):
        plan(tmp_path, refusing, mode="append").replay("kept", now=NOW)


def test_rows_that_make_too_many_do_not_move_in(tmp_path: Path) -> None:
    most = {"row_count": {"max": 5}}
    plan(tmp_path, POSITIVE, STRICT, most).run(run="r1", now=NOW).raise_for_status()
    with pytest.raises(GateError, match="row_count: 6, expected at most 5"):
        plan(tmp_path, most).replay("kept", now=NOW)
    assert (published(tmp_path), sorted(aside(tmp_path))) == ([1, 2, 5, 5], [3, 4])


def test_what_is_said_of_a_delivery_holds_up_no_replay_where_rows_are_added(tmp_path: Path) -> None:
    """A run's gate judges the rows of the run: how many came at once, or how they differ from those before, was judged then."""
    each: list[dict[str, Any]] = [
        {"row_count": {"min": 3, "max": 5}},
        {"sum": {"column": "n", "min": 0, "max": 20}},
        {"psi": {"column": "n", "max": 10}},
        {"z_score": {"metric": "row_count", "max": 1}},
    ]
    for first in (1, 11, 21, 31):
        ids = range(first, first + 6)
        emails, numbers = ["a@x", "b", *["c@x"] * 4], [1, 2, -3, 4, 5, 6]
        pl.DataFrame({"id": ids, "email": emails, "n": numbers}).write_parquet(tmp_path / "in.parquet")
        plan(tmp_path, STRICT, POSITIVE, *each, mode="append").run(now=NOW).raise_for_status()
    assert len(published(tmp_path)) == 16
    found = plan(tmp_path, STRICT, *each, mode="append").replay("kept", now=NOW)
    assert (found.healed, found.remaining) == (4, 4)
    assert found.report is not None
    # what is told is of the rows that move in
    said = {c.id: c for c in found.report.checks}
    assert [(said[i].value, said[i].status) for i in ("row_count", "sum:n")] == [(4, "pass"), (-12, "warn")]
    assert found.report.status == "warn"
    assert len(published(tmp_path)) == 20


def test_a_replay_killed_between_its_two_commits_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(tmp_path, STRICT, POSITIVE).run(run="r1", now=NOW).raise_for_status()
    looser = plan(tmp_path, POSITIVE)
    with monkeypatch.context() as broken:
        broken.setattr("lazypipe.run.replay._Replay.finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            looser.replay("kept", run="r2", now=NOW)
    assert published(tmp_path) == [1, 2, 3, 5, 5]
    assert sorted(aside(tmp_path)) == [3, 4]
    found = looser.replay("kept", run="r3", now=NOW)
    assert (found.healed, found.remaining, found.report) == (1, 1, None)
    assert sorted(aside(tmp_path)) == [4]
    assert looser.replay("kept", run="r4", now=NOW).healed == 0
    assert published(tmp_path) == [1, 2, 3, 5, 5]


def test_a_replay_that_another_one_finishes_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(tmp_path, STRICT, POSITIVE).run(run="r1", now=NOW).raise_for_status()
    looser, finish = plan(tmp_path, POSITIVE), _Replay.finish

    def overtaken(self: Any, commit: Any) -> Any:
        monkeypatch.setattr(_Replay, "finish", finish)
        assert looser.replay("kept", run="r3", now=NOW).healed == 1
        return finish(self, commit)

    monkeypatch.setattr(_Replay, "finish", overtaken)
    found = looser.replay("kept", run="r2", now=NOW)
    assert (found.healed, found.remaining, found.version) == (1, 1, 2)
    assert published(tmp_path) == [1, 2, 3, 5, 5]
    assert sorted(aside(tmp_path)) == [4]


def test_a_gate_that_fails_moves_nothing(tmp_path: Path) -> None:
    plan(tmp_path, POSITIVE).run(run="r1", now=NOW).raise_for_status()
    with pytest.raises(GateError, match="between:n"):
        plan(tmp_path, POSITIVE, action="fail").replay("kept")
    assert sorted(aside(tmp_path)) == [4]


def test_what_cannot_be_replayed(tmp_path: Path) -> None:
    nothing = plan(tmp_path, STRICT)
    assert nothing.replay("kept") == lp.ReplayResult("kept", 0, 0, 0)
    with pytest.raises(LazypipeError, match="unknown output 'kep'; did you mean 'kept'"):
        nothing.replay("kep")
    with pytest.raises(LazypipeError, match="output 'kept' is one csv file, which has no quarantine to replay"):
        plan(tmp_path, STRICT, format="csv").replay("kept")


RISING = {"increasing": {"column": "n", "order_by": "id", "action": "quarantine"}}
FORMER = {"between": {"column": "n", "min": 0, "action": "repair", "repair": {"previous": "id", "then": "quarantine"}}}


@pytest.mark.parametrize(
    ("rule", "name"), [(RISING, "increasing:n"), (FORMER, "between:n"), ({"expression": "n > avg(n)"}, "expression:n > avg(n)")]
)  # fmt: skip
def test_rows_are_not_judged_without_those_that_they_are_held_against(
    tmp_path: Path, rule: dict[str, Any], name: str
) -> None:
    """The rows put aside, judged among themselves, would pass, or get values of each other."""
    plan(tmp_path, rule, ONCE).run(now=NOW).raise_for_status()
    before = published(tmp_path), aside(tmp_path)
    with pytest.raises(LazypipeError) as caught:
        plan(tmp_path, rule, ONCE).replay("kept")
    assert str(caught.value) == (
        f"output 'kept': {name} compares rows with others, which are not in its quarantine; "
        "run the pipeline, which checks all rows again if the rule has changed"
    )
    assert (published(tmp_path), aside(tmp_path)) == before
    plan(tmp_path / "added", rule, ONCE, mode="append").run(now=NOW).raise_for_status()
    with pytest.raises(LazypipeError, match="in its quarantine; deliver the corrected rows as a file of their own$"):
        plan(tmp_path / "added", rule, ONCE, mode="append").replay("kept")


def test_a_rule_that_only_warns_of_what_others_hold_lets_a_replay_be(tmp_path: Path) -> None:
    warns = {"increasing": {**RISING["increasing"], "action": "warn"}}
    plan(tmp_path, STRICT, warns).run(now=NOW).raise_for_status()
    assert plan(tmp_path, warns).replay("kept").healed == 1


def contracted(folder: Path, contract: str, *, gate: str = "[]", output: str = "mode: append") -> lp.Plan:
    """A source that is an output: what its contract takes out stands in the output's quarantine."""
    (folder / "in").mkdir(exist_ok=True)
    return lp.Pipeline.from_yaml(
        f"""\
version: 1
name: p
sources: {{rows: {{uri: 'in/*.csv', on_removed: ignore, contract: {contract}, gate: {gate}}}}}
outputs: {{rows: {{to: out, {output}}}}}
""",
        base=str(folder),
    ).compile()


def rows_of(folder: Path, name: str = "out") -> list[dict[str, Any]]:
    found = lp.scan(str(folder / name)).collect().drop("_lazypipe_run", "_lazypipe_file", strict=False)
    return sorted(found.to_dicts(), key=repr)


DISCARDED = "{columns: {id: Int64, n: Int64}, on_type_change: discard_row}"


@pytest.mark.parametrize("mode", ["replace", "append"])
@pytest.mark.parametrize(
    "contract",
    [
        "{columns: {id: Int64, n: Int64}}",
        "{columns: {id: Int64, n: Int64}, on_type_change: evolve}",
        "{columns: {id: Int64, n: Int64}, on_type_change: freeze}",
        "{columns: {id: Int64, n: {type: Int64, on_type_change: discard_row}}}",
        "{columns: {id: Int64}}",
    ],
)
def test_what_fits_as_little_as_before_stays_aside_whatever_the_contract_says_now(
    tmp_path: Path, mode: str, contract: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("id,n\n1,1\n2,x\n3,3,3\n4,44\n")
    gate = "[{between: {column: n, max: %d, action: quarantine}}, {not_null: id}]"
    contracted(tmp_path, DISCARDED, gate=gate % 9, output=f"mode: {mode}").run(now=NOW).raise_for_status()
    before = rows_of(tmp_path, "out__quarantine")
    assert [r["_lazypipe_rules"] for r in before] == [["type:n"], ["between:n"], ["broken_row"]]
    (tmp_path / "in/a.csv").write_text("id,n\n1,1\n")  # what is compiled is what is there now
    found = contracted(tmp_path, contract, gate=gate % 99, output=f"mode: {mode}").replay("rows", now=NOW)
    assert (found.healed, found.remaining) == (1, 2)
    assert rows_of(tmp_path) == [{"id": 1, "n": 1}, {"id": 4, "n": 44}]
    # with their text, and the reason
    assert rows_of(tmp_path, "out__quarantine") == [before[0], before[2]]
    assert found.report is not None
    assert {c.id: c.failed for c in found.report.checks if c.failed} == {"type:n": 1, "broken_row": 1}


def test_what_is_to_be_null_by_now_is_null(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("id,n\n1,1\n2,x\n")
    contracted(tmp_path, DISCARDED).run(now=NOW).raise_for_status()
    softer = contracted(tmp_path, DISCARDED.replace("discard_row", "discard_column"))
    assert softer.replay("rows", now=NOW).healed == 1
    assert rows_of(tmp_path) == [{"id": 1, "n": 1}, {"id": 2, "n": None}]


def test_a_column_that_rows_were_put_aside_for_comes_with_them(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("id,n,z\n1,1,\n2,2,q\n")
    contract = "{columns: {id: Int64, n: Int64}, on_new_column: discard_row}"
    contracted(tmp_path, contract).run(now=NOW).raise_for_status()
    assert rows_of(tmp_path, "out__quarantine")[0]["_lazypipe_raw"] == '{"z":"q"}'
    declared = "{columns: {id: Int64, n: Int64, z: String}}"
    output = "mode: append, contract: {on_new_column: evolve}"
    with pytest.raises(LazypipeError) as caught:
        contracted(tmp_path, declared, output=output).replay("rows", now=NOW)
    # nothing new has come, so a run would not help
    assert str(caught.value) == (
        "output 'rows': its columns are not those of the current definition; they become so with the next run that adds rows: replay after it"
    )
    (tmp_path / "in/b.csv").write_text("id,n,z\n3,3,r\n")
    contracted(tmp_path, declared, output=output).run(now=NOW).raise_for_status()
    assert contracted(tmp_path, declared, output=output).replay("rows", now=NOW).healed == 1
    assert rows_of(tmp_path) == [
        {"id": 1, "n": 1, "z": None},
        {"id": 2, "n": 2, "z": "q"},
        {"id": 3, "n": 3, "z": "r"},
    ]


def test_rows_of_a_time_with_other_columns_are_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evolve = {"mode": "append", "contract": {"on_new_column": "evolve", "on_type_change": "evolve"}}

    def more(most: int, *steps: dict[str, Any]) -> lp.Plan:
        gate: Any = [{"between": {"column": "n", "max": most, "action": "quarantine"}}]
        built = lp.pipeline("p", base=str(tmp_path)).source("rows", "in/*.parquet").stage("kept", "rows", [*steps], gate=gate)  # fmt: skip
        return built.output("kept", "out", **evolve).build().compile()

    (tmp_path / "in").mkdir()
    pl.DataFrame({"id": [1, 2], "n": [1, 50]}, schema={"id": pl.Int64, "n": pl.Int32}).write_parquet(tmp_path / "in/a.parquet")  # fmt: skip
    more(9).run(now=NOW).raise_for_status()
    wide = {"derive": {"n": "n::bigint", "twice": "n * 2"}}
    pl.DataFrame({"id": [3], "n": [3]}, schema={"id": pl.Int64, "n": pl.Int32}).write_parquet(tmp_path / "in/b.parquet")
    more(9, wide).run(now=NOW).raise_for_status()
    with monkeypatch.context() as patch:  # no run leaves rows aside that have more than the output
        patch.setattr("lazypipe.run.replay.grown", lambda *_: None)
        with pytest.raises(LazypipeError, match="its quarantined rows have values in 'n', and the output has no such"):
            more(99, wide).replay("kept", now=NOW)
    assert more(99, wide).replay("kept", now=NOW).healed == 1
    # as the rows that were there before
    assert rows_of(tmp_path) == [
        {"id": 1, "n": 1, "twice": None},
        {"id": 2, "n": 50, "twice": None},
        {"id": 3, "n": 3, "twice": 6},
    ]


@pytest.mark.parametrize("output", ["mode: append", "mode: upsert, key: [id]"])
def test_runs_go_on_where_a_contract_takes_out_no_cells_any_more(tmp_path: Path, output: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("id,n\n1,1\n2,x\n")
    gate = "[{between: {column: n, max: 9, action: quarantine}}]"
    contracted(tmp_path, DISCARDED, gate=gate, output=output).run(now=NOW).raise_for_status()
    (tmp_path / "in/a.csv").unlink()
    (tmp_path / "in/b.csv").write_text("id,n\n3,3\n4,44\n")
    strict = "{columns: {id: Int64, n: Int64}}"
    contracted(tmp_path, strict, gate=gate, output=output).run(now=NOW).raise_for_status()
    assert rows_of(tmp_path) == [{"id": 1, "n": 1}, {"id": 3, "n": 3}]
    assert [(r["id"], r["_lazypipe_raw"]) for r in rows_of(tmp_path, "out__quarantine")] == [
        (2, '{"id":null,"n":"x"}'),
        (4, None),
    ]


def kept_by_key(folder: Path, most: int, files: list[list[tuple[int, int, int]]], **output: Any) -> lp.Plan:
    """Rows of an id, a place in an order, and a number of which some are too large; one file for each delivery."""
    (folder / "in").mkdir(exist_ok=True)
    for number, rows in enumerate(files):
        frame = pl.DataFrame(rows, schema=["id", "lsn", "n"], orient="row")
        frame = frame.with_columns(at=pl.lit(datetime(2024, 1, 1)) + pl.duration(days="lsn"))
        if not (folder / f"in/{number}.parquet").exists():
            frame.write_parquet(folder / f"in/{number}.parquet")
    gate: Any = [{"between": {"column": "n", "max": most, "action": "quarantine"}}]
    built = lp.pipeline("p", base=str(folder)).source("rows", "in/*.parquet", columns={"n": {"tags": ["pii"]}})
    return built.stage("kept", "rows", gate=gate).output("kept", "out", key=["id"], **output).build().compile()


def held(folder: Path, *columns: str) -> list[tuple[Any, ...]]:
    return sorted(lp.scan(str(folder / "out")).collect().select("id", "lsn", "n", *columns).rows())


def test_a_healed_row_replaces_only_an_earlier_one_of_its_key(tmp_path: Path) -> None:
    how = {"mode": "upsert", "order_by": ["lsn"], "deleted_when": "n = 0"}
    files = [[(1, 1, 1), (2, 5, 2), (4, 9, 1)], [(1, 3, 9), (2, 4, 9), (3, 1, 9), (4, 8, 9)], [(4, 10, 0)]]
    for count in range(1, 4):
        kept_by_key(tmp_path, 5, files[:count], **how).run(now=NOW).raise_for_status()
    assert held(tmp_path) == [(1, 1, 1), (2, 5, 2)]
    assert sorted(aside(tmp_path)) == [1, 2, 3]  # of 4, a later row has come by since
    looser = kept_by_key(tmp_path, 9, files, **how)
    found = looser.replay("kept", run="r4", now=NOW)
    assert (found.healed, found.superseded, found.remaining) == (2, 1, 0)
    assert held(tmp_path) == [(1, 3, 9), (2, 5, 2), (3, 1, 9)]
    assert looser.replay("kept", now=NOW) == lp.ReplayResult("kept", 0, 0, 0)
    assert [s.status for s in looser.run(now=NOW).segments] == ["unchanged"]
    files.append([(1, 2, 1), (3, 2, 2), (4, 7, 3)])  # late rows stay late after a replay
    kept_by_key(tmp_path, 9, files, **how).run(now=NOW).raise_for_status()
    assert held(tmp_path) == [(1, 3, 9), (2, 5, 2), (3, 2, 2)]
    kept_by_key(tmp_path, 9, files, **how).run(now=NOW, full=True).raise_for_status()
    assert held(tmp_path) == [(1, 3, 9), (2, 5, 2), (3, 2, 2)]
    lp.rollback(str(tmp_path / "out"), version=3)
    assert held(tmp_path) == [(1, 1, 1), (2, 5, 2)]
    assert kept_by_key(tmp_path, 9, files, **how).replay("kept", now=NOW).healed == 2


def test_an_earlier_row_does_not_take_a_later_one_out_of_quarantine(tmp_path: Path) -> None:
    how = {"mode": "upsert", "order_by": ["lsn"]}
    files = [[(1, 1, 1)], [(1, 5, 9), (2, 5, 9)], [(1, 3, 3), (2, 5, 2)]]
    for count in range(1, 4):
        kept_by_key(tmp_path, 5, files[:count], **how).run(now=NOW).raise_for_status()
    assert sorted(aside(tmp_path)) == [1]
    assert held(tmp_path) == [(1, 3, 3), (2, 5, 2)]
    assert kept_by_key(tmp_path, 9, files, **how).replay("kept", now=NOW).healed == 1
    assert held(tmp_path) == [(1, 5, 9), (2, 5, 2)]
    # delivered again and corrected, a row leaves also where the output has a later one
    files += [[(1, 7, 9), (2, 8, 1)], [(2, 6, 9)], [(1, 8, 2)], [(2, 6, 3)]]
    for count in range(4, 8):
        kept_by_key(tmp_path, 5, files[:count], **how).run(now=NOW).raise_for_status()
    assert aside(tmp_path) == {}
    assert held(tmp_path) == [(1, 8, 2), (2, 8, 1)]


def test_without_an_order_what_was_delivered_later_counts(tmp_path: Path) -> None:
    files = [[(1, 0, 1), (2, 0, 2)], [(1, 0, 7), (2, 0, 9)], [(1, 0, 8), (3, 0, 9)], [(4, 0, 9), (4, 0, 4)]]
    for count in range(1, 5):
        kept_by_key(tmp_path, 5, files[:count], mode="upsert").run(now=NOW).raise_for_status()
    assert held(tmp_path) == [(1, 0, 1), (2, 0, 2), (4, 0, 4)]
    found = kept_by_key(tmp_path, 8, files, mode="upsert").replay("kept", now=NOW)
    assert (found.healed, found.superseded, found.remaining) == (1, 1, 3)
    assert held(tmp_path) == [(1, 0, 8), (2, 0, 2), (4, 0, 4)]
    found = kept_by_key(tmp_path, 9, files, mode="upsert").replay("kept", now=NOW)
    assert (found.healed, found.superseded, found.remaining) == (2, 0, 1)
    assert held(tmp_path) == [(1, 0, 8), (2, 0, 9), (3, 0, 9), (4, 0, 4)]
    # which of two rows of one run is later nobody knows, until an order says so
    assert aside(tmp_path) == {4: ["repeated_key"]}
    found = kept_by_key(tmp_path, 9, files, mode="upsert", order_by=["n"]).replay("kept", now=NOW)
    assert (found.healed, aside(tmp_path)) == (1, {})
    assert held(tmp_path)[-1] == (4, 0, 9)


def test_two_healed_rows_of_one_run_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    files = [[(1, 0, 8), (1, 0, 9)]]
    kept_by_key(tmp_path, 5, files, mode="upsert").run(now=NOW).raise_for_status()
    with pytest.raises(LazypipeError) as caught:
        kept_by_key(tmp_path, 9, files, mode="upsert").replay("kept", now=NOW)
    assert str(caught.value) == (
        "output 'kept': key (id = 1) occurs more than once at the same time or place in the order, with different values; say with "
        "order_by or event_time which is the latest, or deliver the right one again, or keep one of the rows in the stage"
    )
    assert (held(tmp_path), sorted(aside(tmp_path))) == ([], [1])


def test_healed_versions_go_to_their_place_in_the_history(tmp_path: Path) -> None:
    files = [[(1, 1, 1)], [(1, 3, 9), (2, 1, 9)], [(1, 5, 2)], [(2, 2, 1)]]
    for count in range(1, 5):
        kept_by_key(tmp_path, 5, files[:count], mode="scd2", event_time="at").run(now=NOW).raise_for_status()
    assert sorted(aside(tmp_path)) == [1, 2]  # a later version corrects no earlier one
    found = kept_by_key(tmp_path, 9, files, mode="scd2", event_time="at").replay("kept", now=NOW)
    assert (found.healed, found.superseded, found.remaining) == (2, 0, 0)
    days = [(i, lsn, n, end and end.day - 1, now) for i, lsn, n, end, now in held(tmp_path, "valid_to", "is_current")]
    assert days == [(1, 1, 1, 3, False), (1, 3, 9, 5, False), (1, 5, 2, None, True), (2, 1, 9, 2, False), (2, 2, 1, None, True)]  # fmt: skip


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"mode": "scd2"}, "versions are dated by their run, and a replay is later; deliver the corrected rows as a file of their own, or say event_time"),
        ({"mode": "snapshot"}, "a snapshot shows the rows of its run, and a replay is later; deliver the corrected rows as a file of their own"),
        ({"mode": "replace_partitions", "partition_by": ["id"]}, "the partitions of the rows may have been replaced since; deliver the corrected rows as a file of their own"),
    ],
)  # fmt: skip
def test_modes_that_are_not_replayed_say_why(tmp_path: Path, output: dict[str, Any], message: str) -> None:
    plan_of = kept_by_key(tmp_path, 5, [[(1, 1, 9), (2, 1, 1)]], **output)
    plan_of.run(now=NOW).raise_for_status()
    with pytest.raises(LazypipeError) as caught:
        plan_of.replay("kept")
    assert str(caught.value) == f"output 'kept' has mode: {output['mode']}, which cannot be replayed: {message}"


@pytest.mark.parametrize("mode", ["replace", "append", "upsert"])
def test_tags_of_columns_stay_with_the_output_and_its_quarantine(tmp_path: Path, mode: str) -> None:
    """Who reads them as sources would show what is personal otherwise."""
    files = [[(1, 1, 1), (2, 1, 8), (3, 1, 9)]]
    kept_by_key(tmp_path, 5, files, mode=mode).run(now=NOW).raise_for_status()
    assert kept_by_key(tmp_path, 8, files, mode=mode).replay("kept", now=NOW).healed == 1
    for name in ("out", "out__quarantine"):
        read = lp.pipeline("q", base=str(tmp_path)).source("kept", name).output("kept", f"{name}2").build().compile()
        assert read.tags("kept") == {"n": ("pii",)}
