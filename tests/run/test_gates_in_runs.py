"""Gates in runs: what each action does to rows, to the quarantine, to what is published, wherever the gate stands."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.errors import GateError, StorageError
from lazypipe.run.result import RunResult
from lazypipe.run.segment import target
from lazypipe.storage.sink import DatasetSink, Written

NOW = datetime(2024, 1, 1, tzinfo=UTC)
PLACES = ["source", "source as output", "inner stage", "output", "csv export"]
ROWS: list[dict[str, Any]] = [
    {"id": 0, "k": 1, "v": 1},
    {"id": 1, "k": 2, "v": 1},
    {"id": 2, "k": 2, "v": None},
    {"id": 3, "k": 3, "v": 200},
    {"id": 4, "k": 4, "v": 200},
    {"id": 5, "k": 4, "v": 5},
    {"id": 6, "k": None, "v": 1},
    {"id": 7, "k": None, "v": 1},
]
SCHEMA = {"id": pl.Int64, "k": pl.Int64, "v": pl.Int64}
OTHER_RULES: list[dict[str, Any]] = [
    {"not_null": {"columns": "v", "action": "quarantine", "id": "has_v"}},
    {"expression": {"condition": "v < 100", "action": "warn", "id": "small"}},
]


class Case:
    """A pipeline over two small files, with one gate at one place."""

    def __init__(self, base: Path, place: str = "output", form: str = "parquet") -> None:
        self.base, self.place, self.form = base, place, form
        self.node = "a" if place.startswith("source") else "inner" if place == "inner stage" else "s"
        export = place == "csv export"
        self.target = str(base / "out" / ("s.csv" if export else "s"))
        inner = place in ("source", "inner stage")
        self.quarantine = str(base / ".lazypipe/quarantine/p" / self.node) if inner else f"{self.target}__quarantine"

    def deliver(self, rows: Sequence[Mapping[str, Any]]) -> None:
        half = len(rows) // 2
        for name, part in (("a-1", rows[:half]), ("a-2", rows[half:])):
            frame = pl.DataFrame(part, schema=SCHEMA)
            if self.form == "csv":
                frame.write_csv(self.base / f"{name}.csv")
            else:
                frame.write_parquet(self.base / f"{name}.parquet")

    def plan(self, gate: Sequence[Mapping[str, Any]], **output: Any) -> lp.Plan:
        gates: dict[str, Any] = {self.node: {"gate": list(gate)}}
        types = {"columns": dict.fromkeys(SCHEMA, "Int64")}
        definition: dict[str, Any] = {
            "version": 1,
            "name": "p",
            "sources": {
                "a": {"uri": f"a-*.{self.form}", "on_modified": "reprocess", "contract": types, **gates.get("a", {})}
            },
            "stages": {
                "inner": {"from": "a", "do": [{"derive": {"w": "v + 1"}}], **gates.get("inner", {})},
                "s": {"from": "inner", "do": [{"drop": "w"}], **gates.get("s", {})},
            },
            "outputs": {
                "s": {"to": self.target, **({"format": "csv"} if self.place == "csv export" else {}), **output}
            },
        }
        if self.place == "source as output":
            definition["outputs"]["s"]["from"] = "a"
        return lp.Pipeline.from_dict(definition, base=str(self.base)).compile()

    def run(self, gate: Sequence[Mapping[str, Any]], run: str = "r1", **output: Any) -> RunResult:
        return self.plan(gate, **output).run(run=run, now=NOW)

    def published(self) -> list[int]:
        return sorted(self.frame()["id"])

    def frame(self) -> pl.DataFrame:
        if self.place == "csv export":
            return pl.read_csv(self.target)
        return lp.scan(self.target).collect()

    def put_aside(self) -> dict[int, set[str]]:
        """Quarantined ids with their reasons; each row must be whole."""
        rows = lp.scan(self.quarantine).collect()
        delivered = {r["id"]: r for r in self.delivered()}
        for row in rows.iter_rows(named=True):
            assert {n: row[n] for n in SCHEMA} == {n: delivered[row["id"]][n] for n in SCHEMA}
            half = "1" if row["id"] < len(delivered) // 2 else "2"
            assert row["_lazypipe_file"] == f"{self.base}/a-{half}.{self.form}"
        return {r["id"]: set(r["_lazypipe_rules"]) for r in rows.iter_rows(named=True)}

    def delivered(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self.base.glob(f"a-*.{self.form}")):
            read = pl.read_csv if self.form == "csv" else pl.read_parquet
            yield from read(path).cast(SCHEMA).iter_rows(named=True)  # type: ignore[operator]

    def files(self) -> dict[str, int]:
        found = (p for p in self.base.rglob("*") if p.is_file() and not {"runs", "ledger", "hashes.json"} & {*p.parts})
        return {str(p.relative_to(self.base)): p.stat().st_mtime_ns for p in found}


@pytest.fixture(params=PLACES)
def case(tmp_path: Path, request: pytest.FixtureRequest) -> Case:
    made = Case(tmp_path, request.param)
    made.deliver(ROWS)
    return made


# row rules


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("action", "good", "quarantined", "dropped"),
    [
        ("quarantine", [0, 1, 5, 6, 7], 3, 0),
        ("drop", [0, 1, 5, 6, 7], 0, 3),
        ("warn", list(range(8)), 0, 0),
        ("fail", None, 0, 0),
    ],
)
def test_each_action_at_each_place(
    tmp_path: Path, action: str, good: list[int] | None, quarantined: int, dropped: int, form: str
) -> None:
    for number, place in enumerate(PLACES):
        base = tmp_path / str(number)
        base.mkdir()
        case = Case(base, place, form)
        case.deliver(ROWS)
        result = case.run([{"expression": {"condition": "coalesce(v, 999) < 100", "action": action, "id": "x"}}])
        report = result.gates[case.node]
        assert (report.rows, report.failed) == (8, {"x": 3})
        assert (report.quarantined, report.dropped) == (quarantined, dropped)
        if good is None:
            assert (result.exit_code, report.status) == (1, "fail")
            assert case.files().keys() == {f"a-{n}.{form}" for n in (1, 2)}
            with pytest.raises(GateError, match="x: 3 of 8 rows"):
                result.raise_for_status()
            continue
        result.raise_for_status()
        assert (result.exit_code, report.status, report.good) == (0, "warn", len(good))
        assert case.published() == good
        if quarantined:
            assert case.put_aside() == {2: {"x"}, 3: {"x"}, 4: {"x"}}
            assert set(lp.scan(case.quarantine).collect()["_lazypipe_run"]) == {"r1"}
        else:
            assert not Path(case.quarantine).exists()


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("to", ["out/s", "out/s.csv"])
@pytest.mark.parametrize(
    ("steps", "known"),
    [
        ([{"sort": "v DESC"}], True),
        ([{"sort": "id"}, {"limit": 4}, {"select": ["id", "v"]}, {"derive": {"w": "v + 1"}}], True),
        ([{"filter": "id >= 0"}, {"rename": {"k": "kk"}}], True),
        ([{"derive": {"m": "max(v)"}}], False),
        ([{"distinct": {}}], False),
        ([{"union": "a"}], False),
    ],
)
def test_rows_that_are_put_in_order_know_their_file(
    tmp_path: Path, steps: list[Any], known: bool, to: str, form: str
) -> None:
    case = Case(tmp_path, form=form)
    case.deliver(ROWS)
    gate = [{"between": {"column": "id", "max": 0, "action": "quarantine"}}]
    source = {"uri": f"a-*.{form}", "contract": {"columns": dict.fromkeys(SCHEMA, "Int64")}}
    definition = {
        "version": 1,
        "name": "p",
        "sources": {"a": source},
        "stages": {
            "b": {"from": "a", "do": [{"derive": {"x": "id * 2"}}]},
            "s": {"from": "b", "do": steps, "gate": gate},
        },
        "outputs": {"s": {"to": to}},
    }
    if "union" in steps[0]:
        definition["stages"]["b"]["do"] = []  # type: ignore[index]
    lp.Pipeline.from_dict(definition, base=str(tmp_path)).compile().run().raise_for_status()
    good = lp.scan(str(tmp_path / to)).collect() if to == "out/s" else pl.read_csv(tmp_path / to)
    assert not [c for c in good.columns if c.startswith("_")]
    aside = lp.scan(str(tmp_path / f"{to}__quarantine")).collect()
    assert set(aside["id"]) == {*range(1, 4 if "limit" in str(steps) else 8)}
    for id_, file in aside.select("id", "_lazypipe_file").rows():
        told = f"{tmp_path}/a-{1 if id_ < 4 else 2}.{form}"
        assert file == (told if known or (to == "out/s" and "union" in steps[0]) else None)


# unique

KEY = {"has_v", "key"}


@pytest.mark.parametrize(
    ("action", "limit", "good", "aside", "dropped"),
    [
        ("quarantine", None, [0, 3, 6, 7], {1: {"key"}, 2: KEY, 4: {"key", "small"}, 5: {"key"}}, 0),
        ("drop", None, [0, 3, 6, 7], {2: KEY}, 3),
        ("warn", None, [0, 1, 3, 4, 5, 6, 7], {2: KEY}, 0),
        ("fail", 4, [0, 1, 3, 4, 5, 6, 7], {2: KEY}, 0),
        ("fail", "50%", [0, 1, 3, 4, 5, 6, 7], {2: KEY}, 0),
    ],
)
def test_repeated_keys(
    case: Case, action: str, limit: Any, good: list[int], aside: dict[int, set[str]], dropped: int
) -> None:
    unique = {"columns": "k", "action": action, "id": "key"} | ({"max_failures": limit} if limit else {})
    result = case.run([*OTHER_RULES, {"unique": unique}])
    result.raise_for_status()
    report = result.gates[case.node]
    assert report.failed == {"has_v": 1, "small": 2, "key": 4}
    assert (report.rows, report.good, report.quarantined, report.dropped) == (8, len(good), len(aside), dropped)
    assert case.published() == good
    assert case.put_aside() == aside
    # what was written before the repeats were known is gone
    written = {p.name for p in (case.base / "out").rglob("*") if p.is_file() and "commits" not in str(p)}
    if case.place == "csv export":
        assert {n for n in written if not n.endswith(".parquet")} == {"s.csv"}
    else:
        assert {n for n in written if n.startswith("r1-") and n.endswith(".parquet")} == written
        assert sum(pl.read_parquet(p).height for p in Path(case.target).iterdir()) == len(good)
    assert not (case.base / ".lazypipe/work/r1").exists()


@pytest.mark.parametrize(
    ("action", "limit"), [("fail", None), ("fail", 3), ("quarantine", 3), ("drop", "49%"), ("warn", 3)]
)
def test_too_many_repeated_keys_fail(case: Case, action: str, limit: Any) -> None:
    unique = {"columns": "k", "action": action, "id": "key"} | ({"max_failures": limit} if limit else {})
    before = case.files()
    result = case.run([*OTHER_RULES, {"unique": unique}])
    assert (result.status, result.exit_code) == ("gate_failed", 1)
    assert result.gates[case.node].failed["key"] == 4
    assert case.files() == before


@pytest.mark.parametrize("action", ["fail", "quarantine", "drop", "warn"])
def test_keys_that_do_not_repeat(case: Case, action: str) -> None:
    case.deliver([r for r in ROWS if r["id"] not in (1, 5)])
    result = case.run([*OTHER_RULES, {"unique": {"columns": "k", "action": action}}])
    result.raise_for_status()
    assert result.gates[case.node].failed == {"has_v": 1, "small": 2}
    assert case.published() == [0, 3, 4, 6, 7]


@pytest.mark.parametrize("action", ["quarantine", "drop", "warn"])
def test_repeated_keys_where(case: Case, action: str) -> None:
    # of the rows with k = 4, one is outside: nothing repeats; of those with k = 2, where is null for one
    rule = {"unique": {"columns": "k", "action": action, "where": "v < 100"}}
    case.run([rule]).raise_for_status()
    assert case.published() == list(range(8))
    rule = {"unique": {"columns": "k", "action": action, "where": "id <> 4"}}
    result = case.run([rule], run="r2")
    report = result.gates[case.node]
    assert ([c.evaluated for c in report.checks], report.failed) == ([7], {"unique:k": 2})
    assert case.published() == [i for i in range(8) if action == "warn" or i not in (1, 2)]


def test_compound_keys_and_two_key_rules(case: Case) -> None:
    case.deliver([{"id": i, "k": i // 2, "v": v} for i, v in enumerate([1, 1, 1, 2, None, None, 7, 8])])
    rules = [
        {"unique": {"columns": ["k", "v"], "action": "quarantine", "id": "both"}},
        {"unique": {"columns": "v", "action": "drop", "id": "v"}},
    ]
    report = case.run(rules).gates[case.node]
    assert report.failed == {"both": 2, "v": 3}
    assert (case.published(), case.put_aside(), report.dropped) == (
        [3, 4, 5, 6, 7],
        {0: {"both", "v"}, 1: {"both", "v"}},
        1,
    )


def test_the_compiled_frame_has_the_same_rows(case: Case) -> None:
    plan = case.plan([*OTHER_RULES, {"unique": {"columns": "k", "action": "drop", "where": "id <> 5"}}])
    compiled = sorted(plan.frames[case.node].collect()["id"])
    plan.run(run="r1", now=NOW).raise_for_status()
    assert case.published() == compiled == [0, 3, 4, 5, 6, 7]


def test_a_source_of_repeated_keys_that_feeds_two_stages(tmp_path: Path) -> None:
    case = Case(tmp_path, "source")
    case.deliver(ROWS)
    gate = [*OTHER_RULES, {"unique": {"columns": "k", "action": "quarantine", "id": "key"}}]
    pipe = lp.Pipeline.from_dict(
        {
            "version": 1,
            "name": "p",
            "sources": {"a": {"uri": "a-*.parquet", "gate": gate}},
            "stages": {"s": {"from": "a"}, "t": {"from": "a", "do": [{"join": {"with": "s", "on": "id"}}]}},
            "outputs": {"s": {"to": "out/s"}, "t": {"to": "out/t"}},
        },
        base=str(tmp_path),
    )
    result = pipe.compile().run(run="r1", now=NOW)
    result.raise_for_status()
    assert case.published() == [0, 3, 6, 7]
    assert sorted(lp.scan(str(tmp_path / "out/t")).collect()["id"]) == [0, 3, 6, 7]
    assert case.put_aside() == {1: {"key"}, 2: KEY, 4: {"key", "small"}, 5: {"key"}}
    assert len(result.gates) == 1


# every row is seen, whatever reads the gate's rows


@pytest.mark.parametrize(
    "step",
    [
        {"limit": 1},
        {"limit": 0},
        {"join": {"with": "nobody", "on": "id"}},
        {"join": {"with": "nobody", "on": "id", "how": "semi"}},
        {"join": {"with": "nobody", "how": "cross"}},
        {"filter": "false"},
        {"filter": "v > 1 AND 1 = 2"},
        {"aggregate": {"aggregate": {"first": "first(id)"}}},
        {"sql": "SELECT * FROM inner LIMIT 1"},
    ],
    ids=lambda s: json.dumps(s)[:40],
)
@pytest.mark.parametrize("failing", [False, True])
def test_a_gate_sees_rows_that_nobody_reads(tmp_path: Path, step: dict[str, Any], failing: bool) -> None:
    rows = 400_000
    pl.DataFrame({"id": range(rows), "v": [*range(rows - 2), None, None]}).write_parquet(
        tmp_path / "a.parquet", row_group_size=5_000
    )
    pl.DataFrame(schema={"id": pl.Int64, "x": pl.Int64}).write_parquet(tmp_path / "nobody.parquet")
    limit = {"max_failures": 1} if failing else {}
    gate = [
        {"not_null": {"columns": "v", "action": "quarantine", "id": "v", **limit}},
        {"unique": {"columns": "id", "action": "warn"}},
    ]
    pipe = lp.Pipeline.from_dict(
        {
            "version": 1,
            "name": "p",
            "sources": {"a": {"uri": "a.parquet", "gate": gate}, "nobody": {"uri": "nobody.parquet"}},
            "stages": {
                "inner": {
                    "from": "a",
                    "do": [{"cast": {"columns": {"v": "Int8"}, "on_error": "null"}}],
                    "gate": gate[1:],
                },
                "s": {"from": "inner", "do": [step]},
            },
            "outputs": {"s": {"to": "out/s"}},
        },
        base=str(tmp_path),
    )
    result = pipe.compile().run(run="r1", now=NOW)
    assert result.exit_code == (1 if failing else 0)
    report = result.gates["a"]
    assert (report.rows, report.good, report.quarantined, report.failed) == (rows, rows - 2, 2, {"v": 2})
    assert result.gates["inner"].rows == rows - 2
    if not failing:
        assert lp.scan(str(tmp_path / ".lazypipe/quarantine/p/a")).collect()["id"].sort().to_list() == [
            rows - 2,
            rows - 1,
        ]


# write, audit, publish


def test_a_failed_gate_leaves_everything_as_it_was(tmp_path: Path) -> None:
    case = Case(tmp_path, "output")
    case.deliver(ROWS)
    gate = [OTHER_RULES[0], {"between": {"column": "v", "max": 500}}]
    definition: dict[str, Any] = {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "a-*.parquet"}},
        "stages": {
            "s": {"from": "a", "gate": gate},
            "after": {"from": "s"},
            "last": {"from": "after"},
            "alone": {"from": "a", "do": [{"filter": "id > 5"}]},
        },
        "outputs": {n: {"to": f"out/{n}"} for n in ("s", "after", "last")}
        | {"alone": {"to": "out/alone.csv", "format": "csv"}},
    }
    plan = lp.Pipeline.from_dict(definition, base=str(tmp_path)).compile()
    assert plan.run(run="r1", now=NOW).commits == {"s": 1, "after": 1, "last": 1}
    before = {k: v for k, v in case.files().items() if k.startswith((".lazypipe", "out"))}
    case.deliver([*ROWS, {"id": 8, "k": 9, "v": 501}, {"id": 9, "k": 9, "v": None}])
    result = plan.run(run="r2", now=NOW)
    assert [(s.name, s.status) for s in result.segments] == [
        ("s", "gate_failed"),
        ("after", "blocked"),
        ("last", "blocked"),
        ("alone", "done"),
    ]
    assert (result.status, result.exit_code, result.commits) == ("gate_failed", 1, {})
    after = {k: v for k, v in case.files().items() if k.startswith((".lazypipe", "out"))}
    ours = ("out/alone.csv", ".lazypipe/exports/p/alone")
    before, after = ({k: v for k, v in of.items() if not k.startswith(ours)} for of in (before, after))
    assert after == before
    assert pl.read_csv(tmp_path / "out/alone.csv")["id"].to_list() == [6, 7, 8, 9]
    assert lp.scan(case.quarantine).collect()["id"].to_list() == [2]
    record = json.loads(Path(result.record).read_text())
    failed = record["segments"][0]
    assert record["status"] == failed["status"] == "gate_failed"
    assert failed["error"] == "gate of 's' failed: between:v: 1 of 10 rows (fail)"
    assert failed["version"] is None
    assert failed["gates"][0]["status"] == "fail"
    assert (failed["gates"][0]["good"], failed["gates"][0]["quarantined"]) == (8, 2)


def test_a_failed_segment_between_has_no_address(tmp_path: Path) -> None:
    case = Case(tmp_path, "source")
    case.deliver(ROWS)
    result = case.run([{"unique": {"columns": "k", "action": "drop", "max_failures": 0}}])
    assert [(s.name, s.status, s.uri) for s in result.segments] == [
        ("a", "gate_failed", None),
        ("s", "blocked", str(tmp_path / "out/s")),
    ]
    assert (result.status, result.exit_code) == ("gate_failed", 1)
    assert not (tmp_path / ".lazypipe/work/r1").exists()


def test_a_run_that_breaks_in_the_middle_reports_no_gates(tmp_path: Path) -> None:
    case = Case(tmp_path, "output")
    case.deliver(ROWS)
    definition = {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "a-*.parquet", "gate": [OTHER_RULES[0]]}},
        "stages": {"s": {"from": "a", "do": [{"cast": {"v": "Int8"}}]}},
        "outputs": {"s": {"to": "out/s"}},
    }
    result = lp.Pipeline.from_dict(definition, base=str(tmp_path)).compile().run(run="r1", now=NOW)
    assert (result.status, result.exit_code, result.gates) == ("error", 3, {})
    assert "operation 1 (cast)" in str(result.segments[0].error)
    assert case.files().keys() == {"a-1.parquet", "a-2.parquet"}


def test_the_quarantine_follows_the_output(case: Case) -> None:
    gate = [OTHER_RULES[0]]
    case.run(gate).raise_for_status()
    assert case.put_aside() == {2: {"has_v"}}
    case.deliver([r for r in ROWS if r["id"] != 2])
    case.run(gate, run="r2").raise_for_status()
    assert lp.scan(case.quarantine).collect().height == 0
    assert lp.scan(case.quarantine, version=1).collect()["id"].to_list() == [2]
    case.run(gate, run="r3").raise_for_status()
    case.deliver(ROWS)
    case.run(gate, run="r4").raise_for_status()
    assert set(lp.scan(case.quarantine).collect()["_lazypipe_run"]) == {"r4"}


@pytest.mark.parametrize("place", PLACES)
def test_without_a_gate_nothing_is_aside_any_more(tmp_path: Path, place: str) -> None:
    case = Case(tmp_path, place)
    case.deliver(ROWS)
    gate = [{"not_null": {"columns": "v", "action": "quarantine"}}]
    case.run(gate).raise_for_status()
    assert lp.scan(case.quarantine).collect()["id"].to_list() == [2]
    case.run([], "r2").raise_for_status()
    assert lp.scan(case.quarantine).collect().is_empty()
    if place != "csv export":
        # the row is in the output by now, and is not to come once more
        assert lp.replay(case.plan([]), "s").healed == 0
        assert lp.scan(case.target).collect()["id"].sort().to_list() == [r["id"] for r in ROWS]
        case.run(gate, "r3").raise_for_status()
        assert lp.scan(case.quarantine).collect()["id"].to_list() == [2]


@pytest.mark.parametrize("place", ["a", "inner"])
@pytest.mark.parametrize("other", [False, True])
def test_without_a_gate_nothing_is_aside_of_what_outputs_share(tmp_path: Path, place: str, other: bool) -> None:
    """Whether what is read once for all of them has another gate still, or none."""
    pl.DataFrame(ROWS, schema=SCHEMA).write_parquet(tmp_path / "a.parquet")
    keep = [{"between": {"column": "id", "max": 6, "action": "quarantine"}}] if other else []

    def run(gate: list[dict[str, Any]]) -> None:
        gates = {"a": [], "inner": [], "last": keep, place: gate}
        stages = {
            "inner": {"from": "a", "gate": gates["inner"]},
            "last": {"from": "inner", "gate": gates["last"]},
            "s": {"from": "last", "do": [{"filter": "id < 7"}]},
            "t": {"from": "last", "do": [{"filter": "id < 100"}]},
        }
        definition = {
            "version": 1,
            "name": "p",
            "sources": {"a": {"uri": "a.parquet", "gate": gates["a"]}},
            "stages": stages,
            "outputs": {"s": {"to": "out/s"}, "t": {"to": "out/t"}},
        }
        lp.Pipeline.from_dict(definition, base=str(tmp_path)).compile().run().raise_for_status()

    run([{"not_null": {"columns": "v", "action": "quarantine"}}])
    aside = str(tmp_path / ".lazypipe/quarantine/p" / place)
    assert lp.scan(aside).collect()["id"].to_list() == [2]
    run([])
    assert lp.scan(aside).collect().is_empty()
    assert lp.scan(str(tmp_path / "out/s")).collect()["id"].sort().to_list() == [0, 1, 2, 3, 4, 5, 6]
    if other:
        assert lp.scan(str(tmp_path / ".lazypipe/quarantine/p/last")).collect()["id"].to_list() == [7]


def test_two_pipelines_of_one_folder_put_rows_of_equal_names_aside(tmp_path: Path) -> None:
    gate = [{"not_null": {"columns": "v", "action": "quarantine"}}]
    for number, name in enumerate(("one", "../other one")):
        pl.DataFrame({"id": [number], "v": [None]}, schema={"id": pl.Int64, "v": pl.Int64}).write_parquet(
            tmp_path / f"{number}.parquet"
        )
        definition = {
            "version": 1,
            "name": name,
            "sources": {"a": {"uri": f"{number}.parquet", "gate": gate}},
            "stages": {"s": {"from": "a"}},
            "outputs": {"s": {"to": f"out/{number}"}},
        }
        lp.Pipeline.from_dict(definition, base=str(tmp_path)).compile().run().raise_for_status()
    folder = tmp_path / ".lazypipe/quarantine"
    aside = {p.name: lp.scan(str(p / "a")).collect()["id"].to_list() for p in folder.iterdir()}
    assert aside == {"one": [0], "%2E%2E%2Fother%20one": [1]}


def test_rows_that_were_added_stay_aside_without_a_gate(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.deliver(ROWS)
    gate = [{"not_null": {"columns": "v", "action": "quarantine"}}]
    case.run(gate, mode="append").raise_for_status()
    pl.DataFrame([{"id": 9, "k": 1, "v": 1}], schema=SCHEMA).write_parquet(tmp_path / "a-3.parquet")
    case.run([], "r2", mode="append").raise_for_status()
    assert lp.scan(case.target).collect().height == len(ROWS)
    assert lp.scan(case.quarantine).collect()["id"].to_list() == [2]


def test_append_adds_to_the_quarantine(tmp_path: Path) -> None:
    case = Case(tmp_path, "output")
    for run, rows in (("r1", ROWS), ("r2", ROWS[:2]), ("r3", ROWS)):
        case.deliver(rows)
        case.run([OTHER_RULES[0]], run=run, mode="append").raise_for_status()
    assert case.published() == sorted([0, 1, 3, 4, 5, 6, 7, 0, 1, 0, 1, 3, 4, 5, 6, 7])
    assert sorted(lp.scan(case.quarantine).collect()["_lazypipe_run"]) == ["r1", "r3"]


def test_quarantined_rows_can_be_a_source(tmp_path: Path) -> None:
    case = Case(tmp_path, "source")
    case.deliver(ROWS)
    case.run([OTHER_RULES[0]]).raise_for_status()
    definition = {
        "version": 1,
        "name": "replay",
        "sources": {
            "again": {"uri": case.quarantine, "gate": [{"not_null": {"columns": "v", "action": "quarantine"}}]}
        },
        "outputs": {"again": {"to": "out/again"}},
    }
    lp.Pipeline.from_dict(definition, base=str(tmp_path)).compile().run(run="r2", now=NOW).raise_for_status()
    assert lp.scan(str(tmp_path / "out/again")).collect().height == 0
    (row,) = lp.scan(str(tmp_path / "out/again__quarantine")).collect().iter_rows(named=True)
    assert (row["id"], row["_lazypipe_rules"], row["_lazypipe_run"]) == (2, ["not_null:v"], "r2")
    assert row["_lazypipe_file"] == f"{tmp_path}/a-1.parquet"


def test_another_run_that_committed_meanwhile_keeps_its_quarantine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tmp_path, "output")
    case.deliver(ROWS)
    gate = [OTHER_RULES[0]]
    case.run(gate).raise_for_status()
    write, raced = DatasetSink.write, threading.Event()

    def race(sink: DatasetSink, *arguments: Any, **more: Any) -> Written:
        written = write(sink, *arguments, **more)
        if not raced.is_set():
            raced.set()
            case.run(gate, run="faster").raise_for_status()
        return written

    monkeypatch.setattr(DatasetSink, "write", race)
    case.deliver(ROWS[1:])
    result = case.run(gate, run="slower")
    assert (result.status, result.exit_code) == ("error", 3)
    assert "committed" in str(result.segments[0].error)
    assert lp.scan(case.quarantine).collect()["_lazypipe_run"].to_list() == ["faster"]
    assert not list(tmp_path.rglob("slower-*"))


def test_what_could_not_be_published_blocks_what_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, "output")
    case.deliver(ROWS)
    definition = {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "a-*.parquet"}},
        "stages": {"s": {"from": "a"}, "t": {"from": "s"}},
        "outputs": {"s": {"to": "out/s"}, "t": {"to": "out/t"}},
    }

    def full(*args: Any, **more: Any) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(target.Dataset, "commit", full)
    result = lp.Pipeline.from_dict(definition, base=str(tmp_path)).compile().run(run="r1", now=NOW)
    assert [s.status for s in result.segments] == ["error", "blocked"]


# counts


@pytest.mark.parametrize("repeats", [False, True])
def test_lost_casts_are_counted_once(tmp_path: Path, repeats: bool) -> None:
    texts = ["1", "x", None, "3", "y"] * 2_000
    pl.DataFrame({"id": range(10_000), "t": texts}).write_parquet(tmp_path / "a.parquet", row_group_size=100)
    gate = [{"unique": {"columns": "t" if repeats else "id", "action": "drop"}}]
    definition = {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "a.parquet"}},
        "stages": {"s": {"from": "a", "do": [{"cast": {"columns": {"t": "Int64"}, "on_error": "null"}}], "gate": gate}},
        "outputs": {"s": {"to": "out/s"}},
    }
    result = lp.Pipeline.from_dict(definition, base=str(tmp_path)).compile().run(run="r1", now=NOW)
    result.raise_for_status()
    assert result.segments[0].counts == {"cast:t": 4_000}
    assert result.segments[0].rows == (6_000 if repeats else 10_000)
    assert json.loads(Path(result.record).read_text())["segments"][0]["counts"] == {"cast:t": 4_000}


def test_progress_is_told(tmp_path: Path) -> None:
    case = Case(tmp_path, "output")
    case.deliver(ROWS)
    told: list[tuple[str, int, int, int]] = []
    case.plan([OTHER_RULES[0]]).run(run="r1", now=NOW, observer=lambda *what: told.append(what))
    assert told[0] == ("s", 1, 1, 0)
    assert max(told)[3] == 8


@pytest.mark.parametrize(
    ("default", "own", "row", "keys", "measure"),
    [
        (None, "", "fail", "fail", "fail"),
        ("fail", "", "fail", "fail", "fail"),
        ("warn", "", "warn", "warn", "warn"),
        # no row can be taken out for what is measured of all
        ("quarantine", "", "quarantine", "quarantine", "fail"),
        ("drop", "", "drop", "drop", "fail"),
        ("drop", ", action: warn", "warn", "warn", "warn"),
        ("warn", ", action: fail", "fail", "fail", "fail"),
    ],
)
@pytest.mark.parametrize("at", ["source", "stage"])
def test_rules_do_what_their_gate_says_unless_they_say_it_themselves(
    tmp_path: Path, at: str, default: str | None, own: str, row: str, keys: str, measure: str
) -> None:
    pl.DataFrame(ROWS, schema=SCHEMA).write_parquet(tmp_path / "a.parquet")
    rules = f"[{{not_null: {{columns: v{own}}}}}, {{unique: {{columns: k{own}}}}}, {{max: {{column: v, max: 1{own}}}}}]"
    gate = f"gate: {rules}" if default is None else f"gate: {{action: {default}, rules: {rules}}}"
    here = {"source": "", "stage": ""} | {at: f", {gate}"}
    text = (
        "version: 1\nname: p\nsources: {a: {uri: a.parquet%s}}\nstages: {s: {from: a%s}}\noutputs: {s: {to: out/s}}\n"
    )
    result = lp.Pipeline.from_yaml(text % (here["source"], here["stage"]), base=str(tmp_path)).compile().run()
    reports = [g for s in result.segments for g in s.gates]
    assert [(c.id, c.action) for c in reports[0].checks] == [
        ("not_null:v", row),
        ("unique:k", keys),
        ("max:v", measure),
    ]
    assert (result.status == "done") is ("fail" not in (row, keys, measure))
    assert [c.status for c in reports[0].checks] == ["fail" if a == "fail" else "warn" for a in (row, keys, measure)]
