"""Why an output is made anew in full, or when something beside it changes: each reason in plain words, and what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.__main__ import main

COLUMNS = {"columns": {"x": "Int64", "k": "String", "t": "Datetime(us)"}}
ASOF = {"asof_join": {"with": "b", "on": "t"}}
RANK = {"rank": {"as": "r", "order_by": "x", "by": "k"}}
COUNT = {"aggregate": {"by": "t", "aggregate": {"n": "count(*)"}}}
UNIQUE = {"unique": {"columns": ["t", "k"], "action": "drop"}}
REPAIR = {"between": {"column": "x", "max": 9, "action": "repair", "repair": {"set": "9"}}}


def explained(stages: dict[str, Any], *outputs: str, gate: Any = (), **output: Any) -> dict[str, str]:
    """Return what is said of each output; ``gate`` is that of source b."""
    used = [n for n in "abc" if f"'{n}'" in str(stages) or f" {n}" in str(stages)]
    sources: dict[str, Any] = {n: {"uri": f"memory://none/{n}.csv", "contract": COLUMNS} for n in used}
    if gate:
        sources["b"]["gate"] = [*gate]
    data = {
        "version": 1,
        "name": "p",
        "sources": sources,
        "stages": stages,
        "outputs": {n: {"to": f"memory://none/{n}", **output} for n in outputs or ("s",)},
    }
    lines = lp.Pipeline.from_dict(data).compile().explain_incremental().splitlines()
    return dict(line.split(": ", 1) for line in lines)


def loose(why: str, of: str = "b", by: str = "a") -> str:
    return f"reads new and changed files of {by}; if {of} changes, rebuilds everything ({why})"


HOLD = "from the files that hold rows of these groups"
LATE = "s: it is looked up after rank, which works by group; look it up before that"
OWN = "write {} as an output of its own, so that changes in its rows can be followed"

BESIDE: dict[str, tuple[dict[str, Any], Any, str]] = {
    "two sources there": (
        {"m": {"from": "b", "do": [{"union": "c"}]}, "s": {"from": "a", "do": [{"asof_join": {"with": "m", "on": "t"}}]}},
        (),
        loose(f"s: asof_join: m is computed from b and c; {OWN.format('m')}", "b or c"),
    ),
    "groups there": (
        {"m": {"from": "b", "do": [COUNT]}, "s": {"from": "a", "do": [{"asof_join": {"with": "m", "on": "t"}}]}},
        (),
        loose(f"s: asof_join: rows of m depend on rows of several files; {OWN.format('m')}"),
    ),
    "keys that must be unique there": (
        {"s": {"from": "a", "do": [ASOF]}},
        [{"unique": "x"}],
        loose(f"s: asof_join: rows of b depend on rows of several files; {OWN.format('b')}"),
    ),
    "keys by which rows go there": (
        {"s": {"from": "a", "do": [ASOF]}},
        [UNIQUE],
        loose("s: asof_join: b: unique:t,k removes rows depending on other rows"),
    ),
    "repairs there": (
        {"s": {"from": "a", "do": [ASOF]}},
        [REPAIR],
        loose(f"s: asof_join: a gate of b, or upstream of it, removes rows by key, looks other rows up, or repairs values; {OWN.format('b')}"),
    ),
    "no distances": (
        {
            "m": {"from": "a", "do": [{"derive": {"w": "t - DATE '2024-01-01'"}}]},
            "n": {"from": "b", "do": [{"derive": {"w": "t - DATE '2024-01-01'"}}]},
            "s": {"from": "m", "do": [{"asof_join": {"with": "n", "on": "w"}}]},
        },
        (),
        loose("s: asof_join: there are no distances between keys of this type; use dates, datetimes or numbers"),
    ),
    "by time and by key": (
        {"s": {"from": "a", "do": [ASOF, {"join": {"with": "b", "on": "k", "how": "anti"}}]}},
        (),
        loose("s: it is joined by time, and also read in another way"),
    ),
    "behind groups": (
        {"s": {"from": "a", "do": [RANK, ASOF]}},
        (),
        f"reads new and changed files of a, recomputes only groups by k that they touch, {HOLD}; if b changes, rebuilds everything ({LATE})",
    ),
    "a gate compares": (
        {"s": {"from": "a", "gate": [{"row_count": {"same_as": "b"}}]}},
        (),
        loose("s: row_count compares with all of its rows"),
    ),
    "a gate looks up nested values": (
        {
            "m": {"from": "b", "do": [{"derive": {"l": "string_to_array(k, ',')"}}]},
            "s": {
                "from": "a",
                "do": [{"derive": {"l": "string_to_array(k, ',')"}}],
                "gate": [{"foreign_key": {"columns": "l", "references": {"to": "m", "column": "l"}}}],
            },
        },
        (),
        loose("s: foreign_key:l compares nested values"),
    ),
    "what nobody reads": (
        {"s": {"from": ["a", "b"], "do": [{"filter": "x > 1"}]}},
        (),
        loose("s: no step reads b; leave it out of from"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("stages", "gate", "expected"), BESIDE.values(), ids=BESIDE)
def test_why_all_is_made_anew_if_something_beside_changes(stages: dict[str, Any], gate: Any, expected: str) -> None:
    assert explained(stages, gate=gate) == {"s": expected}


def test_what_is_said_to_help_does() -> None:
    """What the reasons above tell to write instead is followed."""
    by_time = {"asof_join": {"with": "m", "on": "t"}}
    for ahead in ({"union": "c"}, COUNT):
        stages = {"m": {"from": "b", "do": [ahead]}, "s": {"from": "a", "do": [by_time]}}
        assert explained(stages, "m", "s")["s"] == "reads new and changed files of a and files whose rows change with m"
    stages = {"s": {"from": "a", "do": [ASOF]}}
    for gate in ([{"unique": "x"}], [REPAIR]):
        assert (
            explained(stages, "b", "s", gate=gate)["s"]
            == "reads new and changed files of a and files whose rows change with b"
        )
    ahead_of_groups = explained({"s": {"from": "a", "do": [ASOF, RANK]}})["s"]
    assert ahead_of_groups.startswith(
        "reads new and changed files of a and files whose rows change with b, recomputes only groups"
    )
    full = {"join": {"with": "b", "on": "k", "how": "full"}}
    again = {"join": {"with": "c", "on": "k", "how": "full", "suffix": "_2"}}
    behind = "full: s: join can change any row (it follows join, which works by group; write s up to there as an output of its own)"
    assert explained({"s": {"from": "a", "do": [full, again]}})["s"] == behind
    apart = explained({"m": {"from": "a", "do": [full]}, "s": {"from": "m", "do": [again]}}, "m", "s")["s"]
    assert apart.startswith("reads new and changed files of m, recomputes only groups by k that they touch")
    itself = {"s": {"from": "a", "do": [{"join": {"with": "a", "on": "k", "how": "semi"}}]}}
    assert explained(itself)["s"] == (
        "full: a is read both row by row and in full; write what is looked up as an output of its own"
    )
    looked = {"m": {"from": "a"}, "s": {"from": "a", "do": [{"join": {"with": "m", "on": "k", "how": "semi"}}]}}
    assert (
        explained(looked, "m", "s")["s"]
        == "reads new and changed files of a; if m changes, rebuilds only what uses the changed keys"
    )
    counted = {"m": {"from": "a", "do": [COUNT]}, "s": {"from": "m"}, "u": {"from": "m"}}
    assert explained(counted, "s", "u")["u"] == (
        "full: m: several stages read it, so its groups are rebuilt in every run; write it as an output of its own"
    )
    assert explained(counted, "m", "s", "u")["u"] == "reads new and changed files of m"


def test_a_copy_of_an_output() -> None:
    data: dict[str, Any] = {
        "version": 1,
        "name": "p",
        "sources": {"a": {"uri": "memory://none/a.csv", "contract": COLUMNS}},
        "stages": {"s": {"from": "a", "do": [{"filter": "x > 1"}]}},
        "outputs": {"s": {"to": "memory://none/s"}, "copy": {"from": "s", "to": "memory://none/copy"}},
    }
    plan = lp.Pipeline.from_dict(data).compile()
    assert str(plan.strategies["copy"]) == "reads new and changed files of s"
    data["outputs"]["copy"]["mode"] = "append"
    assert str(lp.Pipeline.from_dict(data).compile().strategies["copy"]) == "reads new and changed files of s"
    # a stage that is called as the output is another one
    data["stages"]["copy"] = {"from": "a", "do": [{"filter": "x > 2"}]}
    plan = lp.Pipeline.from_dict(data).compile()
    assert str(plan.strategies["copy"]) == "reads new and changed files of s"
    assert [(s.output, s.node, s.reads) for s in plan.segments] == [("s", "s", ()), ("copy", "copy__copy", ("s",))]


def test_windows_that_close_say_so() -> None:
    window: dict[str, Any] = {
        "window": {"time": "t", "every": "1h", "emit": "on_close", "aggregate": {"n": "count(*)"}}
    }
    data = {
        "version": 1,
        "name": "p",
        "sources": {
            "a": {"uri": "memory://none/a.csv", "contract": COLUMNS, "event_time": "t", "watermark": {"delay": "1h"}},
            "b": {"uri": "memory://none/b.csv", "contract": COLUMNS},
        },
        "stages": {"s": {"from": "a", "do": [{"join": {"with": "b", "on": "k"}}, window]}},
        "outputs": {"s": {"to": "memory://none/s"}},
    }
    said = str(lp.Pipeline.from_dict(data).compile().strategies["s"])
    assert said.endswith(
        " window_start, window_end that they touch or event time reaches; if b changes, rebuilds only what uses the changed keys"
    )
    window["window"]["every"] = ["1h", "1d"]
    said = str(lp.Pipeline.from_dict(data).compile().strategies["s"])
    assert said.endswith(
        " window, window_start, window_end that they touch or event time reaches; if b changes, rebuilds only what uses the changed keys"
    )
    window["window"] |= {"every": "1h", "expect": {"rows": 1}}
    said = str(lp.Pipeline.from_dict(data).compile().strategies["s"])
    assert said.endswith("; if b changes, rebuilds everything (s: its windows close by event time)")


def test_a_plan_says_why_all_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, rows in (("a", [1, 2]), ("b", [5])):
        (tmp_path / name).mkdir()
        pl.DataFrame({"x": rows}).write_parquet(tmp_path / name / "1.parquet")
    cross = {"join": {"with": "b", "how": "cross", "columns": {"x": "y"}}}

    def compiled(mode: str = "replace", **more: Any) -> lp.Plan:
        pipe = lp.pipeline("p", base=str(tmp_path), audit="off").source("a", "a/*.parquet").source("b", "b/*.parquet")
        pipe = pipe.stage("s", "a", do=[cross]).stage("sorted", "a", do=[{"sort": "x"}])
        return pipe.output("s", "s").output("sorted", "sorted", mode=mode).build().compile()

    def against(mode: str = "replace") -> dict[str, Any]:
        return {s["name"]: s.get("against") for s in compiled(mode).preview()}

    assert against() == {"s": None, "sorted": None}
    order = "sorted: sort can change any row (it orders all rows; remove it, and sort where the output is read)"
    assert {s["name"]: s.get("later") for s in compiled().preview()} == {"s": None, "sorted": [order]}
    compiled().run().raise_for_status()
    assert against() == {"s": None, "sorted": None}
    pl.DataFrame({"x": [6]}).write_parquet(tmp_path / "b/2.parquet")
    why = "s: join: each row is paired with every row of b"
    assert against() == {"s": [why], "sorted": None}
    assert all("against" not in s for s in compiled().preview(full=True))
    compiled().run().raise_for_status()
    pl.DataFrame({"x": [3]}).write_parquet(tmp_path / "a/2.parquet")
    assert against() == {"s": None, "sorted": [order]}
    path = tmp_path / "p.yaml"
    path.write_text(compiled().pipeline.to_yaml())
    assert main(["plan", str(path)]) == 0
    assert f"    rebuilt in full, because {order}\n" in capsys.readouterr().out
    assert main(["plan", str(path), "--full"]) == 0
    assert f"    later runs will rebuild it in full too, because {order}\n" in capsys.readouterr().out
