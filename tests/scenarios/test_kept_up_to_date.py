"""Outputs that are kept up to date part by part, and what else happens to them: replays, renames, corrupt files, other stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.storage.datasets.log import DataFile
from tests import delivered
from tests.delivered import CLOCK

GATED: dict[str, Any] = {
    "version": 1,
    "name": "p",
    "sources": {"a": {"uri": "in/*.csv", "contract": {"columns": {"x": "Int64", "k": "String"}}}},
    "stages": {
        "b": {"from": "a", "gate": [{"between": {"column": "x", "max": 10, "action": "quarantine"}}]},
        "c": {"from": "b", "do": [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)", "s": "sum(x)"}}}]},
    },
    "outputs": {"b": {"to": "out/b"}, "c": {"to": "out/c"}},
}


def put(base: Path, name: str, *rows: tuple[int, str], at: int = 0) -> None:
    delivered.put(base / "in" / f"{name}.csv", "x,k\n" + "".join(f"{x},{k}\n" for x, k in rows), CLOCK + at)


def run(base: Path, data: dict[str, Any] = GATED, **more: Any) -> dict[str, tuple[str, str | None]]:
    result = lp.Pipeline.from_dict(data, base=str(base)).compile().run(**more)
    result.raise_for_status()
    return {s.name: (s.status, s.why) for s in result.segments}


def rows(where: Path | str) -> list[tuple[Any, ...]]:
    frame = lp.scan(str(where)).collect()
    return sorted(frame.select(c for c in frame.columns if not c.startswith("_lazypipe")).rows())


def test_rows_that_a_replay_healed_follow_their_file_again(tmp_path: Path) -> None:
    put(tmp_path, "1", (1, "u"), (20, "u"))
    put(tmp_path, "2", (2, "v"), (30, "v"))
    run(tmp_path)
    lenient = {**GATED, "stages": {**GATED["stages"], "b": {"from": "a", "gate": [{"between": {"column": "x", "max": 25, "action": "quarantine"}}]}}}  # fmt: skip
    healed = lp.replay(lp.Pipeline.from_dict(lenient, base=str(tmp_path)), "b")
    assert (healed.healed, healed.remaining) == (1, 1)
    assert rows(tmp_path / "out/b") == [(1, "u"), (2, "v"), (20, "u")]
    # the run after it makes the output anew, and what it is made of does not repeat what was healed
    run(tmp_path, lenient)
    assert rows(tmp_path / "out/b") == [(1, "u"), (2, "v"), (20, "u")]
    assert rows(tmp_path / "out/c") == [("u", 2, 21), ("v", 1, 2)]
    assert {s for s, _ in run(tmp_path, lenient).values()} == {"unchanged"}
    (tmp_path / "in/1.csv").unlink()
    run(tmp_path, lenient)
    assert rows(tmp_path / "out/b") == [(2, "v")]
    assert rows(tmp_path / "out/b__quarantine") == [(30, "v")]
    assert rows(tmp_path / "out/c") == [("v", 1, 2)]


def test_a_renamed_stage_is_the_same_stage(tmp_path: Path) -> None:
    put(tmp_path, "1", (1, "u"), (20, "u"))
    run(tmp_path)
    stages = GATED["stages"]
    renamed = {
        **GATED,
        "stages": {"good": stages["b"], "sums": {**stages["c"], "from": "good"}},
        "outputs": {"b": {"from": "good", "to": "out/b"}, "c": {"from": "sums", "to": "out/c"}},
    }
    put(tmp_path, "2", (3, "u"))
    first = run(tmp_path, renamed)
    named = "the definition changed: sources or stages were renamed, and what was read and counted is recorded under their names"
    assert first["b"] == ("done", named)
    assert first["c"] == (
        "done",
        "the definition changed: partitioning, upstream rules, or the rows that these quarantine",
    )
    assert rows(tmp_path / "out/b") == [(1, "u"), (3, "u")]
    assert rows(tmp_path / "out/c") == [("u", 2, 4)]
    assert {s for s, _ in run(tmp_path, renamed).values()} == {"unchanged"}
    other = {
        **renamed,
        "sources": {"z": GATED["sources"]["a"]},
        "stages": {**renamed["stages"], "good": {**stages["b"], "from": "z"}},
    }
    assert run(tmp_path, other)["b"] == ("done", named)
    assert run(tmp_path, renamed)["b"] == ("done", named)
    put(tmp_path, "3", (4, "v"))
    assert run(tmp_path, renamed)["b"] == ("done", "a: 1 added, 2 unchanged")
    assert rows(tmp_path / "out/c") == [("u", 2, 4), ("v", 1, 4)]


def test_outputs_on_another_store(tmp_path: Path) -> None:
    where = f"memory://{tmp_path.name}"
    data = {**GATED, "outputs": {n: {"to": f"{where}/{n}"} for n in ("b", "c")}}
    put(tmp_path, "1", (1, "u"), (20, "u"))
    put(tmp_path, "2", (2, "v"))
    run(tmp_path, data, max_files=1)
    assert rows(f"{where}/b") == [(1, "u")]
    assert run(tmp_path, data)["b"] == ("done", "a: 1 added, 1 unchanged")
    put(tmp_path, "1", (5, "u"), at=9)
    (tmp_path / "in/2.csv").unlink()
    assert run(tmp_path, data)["b"][0] == "done"
    assert rows(f"{where}/b") == [(5, "u")]
    assert rows(f"{where}/b__quarantine") == []
    assert rows(f"{where}/c") == [("u", 1, 5)]
    assert {s for s, _ in run(tmp_path, data).values()} == {"unchanged"}


@pytest.mark.parametrize("word", ["skip", "quarantine_file"])
def test_a_corrupt_file_among_new_ones_until_it_is_mended(tmp_path: Path, word: str) -> None:
    data = {**GATED, "sources": {"a": {**GATED["sources"]["a"], "on_corrupt": word}}}
    put(tmp_path, "1", (1, "u"))
    run(tmp_path, data)
    put(tmp_path, "2", (2, "v"))
    put(tmp_path, "3", (3, "v"))
    (tmp_path / "in/2.csv").write_text("x,k\n2,v\nnothing,v,4,5\n")
    result = lp.Pipeline.from_dict(data, base=str(tmp_path)).compile().run(max_files=1)
    result.raise_for_status()
    # the file does not count
    assert [c.uri[-8:] for c in result.corrupt] == ["in/2.csv"]
    assert rows(tmp_path / "out/b") == [(1, "u"), (3, "v")]
    assert {s for s, _ in run(tmp_path, data).values()} == {"unchanged"}
    put(tmp_path, "2", (2, "v"), at=60)
    assert run(tmp_path, data)["b"] == ("done", "a: 1 added, 2 unchanged")
    # and one that was read and is corrupt now takes its rows along
    (tmp_path / "in/1.csv").write_text("x,k\n1,u\nnothing,v,4,5\n")
    run(tmp_path, data)
    assert rows(tmp_path / "out/b") == [(2, "v"), (3, "v")]
    assert rows(tmp_path / "out/c") == [("v", 2, 5)]


def test_parts_of_a_dataset_that_does_not_know_its_units(tmp_path: Path) -> None:
    for name in "123":
        put(tmp_path, name, (int(name), "u"), (int(name), "v"))
        rewritten = {**GATED, "stages": {"b": {"from": "a", "do": [{"over": {"by": "k", "columns": {"n": "count(*)"}}}]}}, "outputs": {"b": {"to": "out/b", "partition_by": "k"}}}  # fmt: skip
        run(tmp_path, rewritten)
    data = {
        **GATED,
        "sources": {"a": {"uri": "out/b", "format": "dataset"}},
        "stages": {"z": {"from": "a", "do": [{"filter": "x > 0"}]}},
        "outputs": {"z": {"to": "more/z"}},
        "state": "other",
    }
    first = run(tmp_path, data, max_rows=3)
    assert first["z"] == ("done", "nothing was committed yet; a: 1 more left for later runs")
    assert lp.scan(str(tmp_path / "more/z")).collect().height == 3
    assert run(tmp_path, data, max_rows=3)["z"] == ("done", "a: 1 added (1 re-delivered), 1 unchanged")
    assert rows(tmp_path / "more/z") == rows(tmp_path / "out/b")
    assert run(tmp_path, data, max_rows=3)["z"][0] == "unchanged"


def test_a_file_that_cannot_be_read_counts_no_rows_and_is_told(tmp_path: Path) -> None:
    put(tmp_path, "1", (1, "u"), (2, "u"))
    (tmp_path / "in/2.csv").write_text("")
    put(tmp_path, "3", (3, "u"))
    (failed, _) = lp.Pipeline.from_dict(GATED, base=str(tmp_path)).compile().run(max_rows=3).segments
    assert failed.error is not None
    assert str(failed.error).startswith(f"{tmp_path}/in/2.csv: source 'a': ")


def test_files_that_changed_and_are_left_keep_the_rows_they_had(tmp_path: Path) -> None:
    for name in "123":
        put(tmp_path, name, (int(name), "u"))
    run(tmp_path)
    for name in "123":
        put(tmp_path, name, (int(name), "w"), at=60)
    assert run(tmp_path, max_bytes=1)["b"] == ("done", "a: 1 modified, 2 waiting, 2 more left for later runs")
    assert rows(tmp_path / "out/b") == [(1, "w"), (2, "u"), (3, "u")]
    assert rows(tmp_path / "out/c") == [("u", 2, 5), ("w", 1, 1)]
    (tmp_path / "in/2.csv").unlink()
    run(tmp_path, max_files=1)
    assert rows(tmp_path / "out/b") == [(1, "w"), (3, "w")]
    assert {s for s, _ in run(tmp_path).values()} == {"unchanged"}


def test_an_output_that_is_made_anew_grows_from_the_start(tmp_path: Path) -> None:
    for name in "123":
        put(tmp_path, name, (int(name), "u"))
    run(tmp_path)
    assert run(tmp_path, full=True, max_files=2)["b"] == (
        "done",
        "full rebuild requested; a: 1 more left for later runs",
    )
    assert rows(tmp_path / "out/b") == [(1, "u"), (2, "u")]
    assert run(tmp_path, max_files=2)["b"] == ("done", "a: 1 added, 2 unchanged")
    assert rows(tmp_path / "out/c") == [("u", 3, 6)]
    plan = lp.Pipeline.from_dict(GATED, base=str(tmp_path)).compile()
    (b, _) = plan.preview(full=True, max_files=1)
    assert [(r["files"], r["of"]) for r in b["reads"]] == [(1, 3)]


UNITS = st.dictionaries(st.integers(0, 2**63 - 1), st.integers(1, 10**9), max_size=5)


@given(
    path=st.text(min_size=1),
    count=st.integers(0, 2**40),
    digest=st.one_of(st.none(), st.text("0123456789abcdef", min_size=64, max_size=64)),
    units=UNITS,
)
def test_a_data_file_comes_back_as_it_was(path: str, count: int, digest: str | None, units: dict[int, int]) -> None:
    file = DataFile(path, count, 2 * count, digest, units)
    plain = json.loads(json.dumps(file.to_dict()))
    assert DataFile.from_dict(plain) == file
    assert DataFile.from_dict(plain).units == units


ABOUT_OTHERS: list[dict[str, Any]] = [
    {"decreasing": {"column": "x", "order_by": "k"}},
    {"expression": {"condition": "x <= 2 * avg(x)"}},
    {"expression": {"condition": "x < 20", "where": "x < max(x)"}},
]
OTHERS: list[Any] = [
    lambda rows: [r for before, r in zip([None, *rows], rows, strict=False) if before and r[0] > before[0]],
    lambda rows: [r for r in rows if r[0] > 2 * sum(x for x, _ in rows) / len(rows)],
    lambda rows: [r for r in rows if max(rows)[0] > r[0] >= 20],
]


@pytest.mark.parametrize(
    ("rule", "against"),
    [*zip(ABOUT_OTHERS, OTHERS, strict=True)],
    ids=lambda r: next(iter(r), "") if isinstance(r, dict) else "",
)
@pytest.mark.parametrize("action", ["warn", "quarantine"])
def test_a_rule_that_compares_rows_judges_them_all_in_any_run(
    tmp_path: Path, rule: dict[str, Any], against: Any, action: str
) -> None:
    """Of rows that come, each alone is not against the rule; among those that were there they are, or these are among them."""
    ((name, arguments),) = rule.items()
    data = {
        **GATED,
        "stages": {
            "b": {"from": "a", "gate": [{name: {**arguments, "action": action}}]},
            "c": {"from": "b", "do": [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)", "s": "sum(x)"}}}]},
            "d": {
                "from": "a",
                "do": [{"aggregate": {"by": "k", "aggregate": {"x": "sum(x)"}}}, {"select": ["x", "k"]}],
                "gate": [{name: {**arguments, "action": "warn"}}],
            },
        },
        "outputs": {n: {"to": f"out/{n}"} for n in "bcd"},
    }
    there: list[tuple[int, str]] = []
    for number, row in enumerate([(9, "b"), (7, "d"), (24, "c"), (30, "e"), (1, "a"), (80, "f")]):
        put(tmp_path, str(number), row)
        there = sorted([*there, row], key=lambda r: r[1])
        result = lp.Pipeline.from_dict(data, base=str(tmp_path)).compile().run()
        result.raise_for_status()
        bad = against(there)
        assert [result.gates[n].checks[0].failed for n in "bd"] == [len(bad), len(bad)]
        good = there if action == "warn" else [r for r in there if r not in bad]
        assert rows(tmp_path / "out/b") == sorted(good)
        assert rows(tmp_path / "out/c") == sorted((k, 1, x) for x, k in good)
        if action == "quarantine" and bad:
            assert rows(tmp_path / "out/b__quarantine") == sorted(bad)
