"""Splitting a frame by rules that mend, look up and compare keys: as a naive reading of the rules does it, row by row."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp

SCHEMA = pl.Schema({"i": pl.Int64, "k": pl.Int64, "f": pl.Float64, "s": pl.String})
Row = dict[str, Any]
THERE = pl.DataFrame({"id": [0, 1, 1, 2, None]})
TIMES = Counter(THERE["id"].to_list())

rows = st.lists(
    st.fixed_dictionaries(
        {
            "k": st.none() | st.integers(0, 6),
            "f": st.none() | st.sampled_from([0.0, -0.0, 1.5, -7.0, math.nan, math.inf]),
            "s": st.none() | st.sampled_from(["", "a", "b"]),
        }
    ),
    max_size=25,
)

WHERES: dict[str | None, Callable[[Row], bool]] = {
    None: lambda r: True,
    "k >= 2": lambda r: r["k"] is not None and r["k"] >= 2,
    "s = 'a'": lambda r: r["s"] == "a",
}


def outside(row: Row) -> bool:
    return row["f"] is not None and not 0 <= row["f"] <= 2


def clipped(row: Row) -> Any:
    value = row["f"]
    return value if value is None or math.isnan(value) else min(max(value, 0.0), 2.0)


@dataclass(frozen=True)
class Part:
    """One check as the oracle reads it: violated per row or a key, and the column that is mended, if any."""

    end: str
    violated: Callable[[Row], bool] | None = None
    key: tuple[str, ...] = ()
    mend: tuple[str, Callable[[Row], Any]] | None = None


KINDS: list[tuple[str, dict[str, Any], tuple[Part, ...]]] = [
    ("not_null", {"columns": "s"}, (Part("", lambda r: r["s"] is None),)),
    ("between", {"column": "f", "min": 0, "max": 2}, (Part("", outside),)),
    ("unique", {"columns": ["k", "s"]}, (Part("", key=("k", "s")),)),
    (
        "primary_key",
        {"columns": "k"},
        (Part(":not_null", lambda r: r["k"] is None), Part(":unique", key=("k",))),
    ),
    (
        "foreign_key",
        {"column": "k", "references": {"to": "there", "column": "id"}},
        (Part("", lambda r: r["k"] is not None and not TIMES[r["k"]]),),
    ),
    (
        "cardinality",
        {"column": "k", "references": {"to": "there", "column": "id"}, "is": "1:1"},
        (Part("", lambda r: r["k"] is not None and TIMES[r["k"]] != 1), Part(":unique", key=("k",))),
    ),
    (
        "between",
        {"column": "f", "min": 0, "max": 2, "repair": {"clip": True}},
        (Part("", outside, mend=("f", clipped)),),
    ),
    (
        "between",
        {"column": "f", "min": 0, "max": 2, "repair": {"set": "f / 0.0 - 7"}},
        (Part("", outside, mend=("f", lambda r: math.nan if r["f"] == 0 else r["f"] * math.inf)),),
    ),
    (
        "in_set",
        {"column": "s", "values": ["a"], "repair": {"null": True}},
        (Part("", lambda r: r["s"] not in (None, "a"), mend=("s", lambda r: None)),),
    ),
    (
        "not_null",
        {"columns": "s", "repair": {"default": "a"}},
        (Part("", lambda r: r["s"] is None, mend=("s", lambda r: "a")),),
    ),
]


@st.composite
def rule(draw: st.DrawFn) -> tuple[str, dict[str, Any], tuple[Part, ...]]:
    name, arguments, parts = draw(st.sampled_from(KINDS))
    action = draw(st.sampled_from(["quarantine", "drop", "warn"]))
    arguments = dict(arguments)
    if "repair" in arguments:
        arguments |= {"action": "repair", "repair": arguments["repair"] | {"then": action}}
    else:
        arguments["action"] = action
    where = draw(st.sampled_from(list(WHERES)))
    return name, arguments | ({"where": where} if where else {}), parts


@given(given_rows=rows, gate=st.lists(rule(), min_size=1, max_size=5))
def test_a_split_is_what_the_rules_say(given_rows: list[Row], gate: list[Any]) -> None:
    before = [{c: {"i": i, **r}[c] for c in SCHEMA} for i, r in enumerate(given_rows)]
    after = [dict(r) for r in before]
    checks = [
        (f"r{number}{part.end}", part, WHERES[arguments.get("where")], arguments)
        for number, (_, arguments, parts) in enumerate(gate)
        for part in parts
    ]
    repaired = dict.fromkeys((c[0] for c in checks), 0)
    for name, part, where, _ in checks:
        if part.mend is not None:
            assert part.violated is not None
            for row in after:
                if where(row) and part.violated(row):
                    repaired[name] += 1
                    row[part.mend[0]] = part.mend[1](row)
    reasons: list[set[str]] = [set() for _ in after]
    failed = {}
    for name, part, where, _ in checks:
        if part.violated is not None:
            bad = [where(r) and part.violated(r) for r in after]
        else:
            keys = [tuple(r[c] for c in part.key) if where(r) else (None,) for r in after]
            times = Counter(keys)
            bad = [None not in k and times[k] > 1 for k in keys]
        failed[name] = sum(bad)
        for found, is_bad in zip(reasons, bad, strict=True):
            if is_bad:
                found.add(name)
    actions = {n: a["repair"]["then"] if "repair" in a else a["action"] for n, _, _, a in checks}
    fates = [{actions[n] for n in r} for r in reasons]

    rules = [{name: arguments | {"id": f"r{n}"}} for n, (name, arguments, _) in enumerate(gate)]
    split = lp.split(pl.DataFrame(before, schema=SCHEMA), rules, there=THERE)
    assert {c.id: c.failed for c in split.report.checks} == failed
    assert {c.id: c.repaired + c.failed for c in split.report.checks if c.id in failed and repaired[c.id]} == {
        name: count for name, count in repaired.items() if count
    }
    good = [r for r, f in zip(after, fates, strict=True) if not f & {"quarantine", "drop"}]
    assert repr(split.good.sort("i").rows()) == repr([tuple(r.values()) for r in good])
    aside = [n for n, f in enumerate(fates) if "quarantine" in f]
    bad_rows = split.bad.sort("i")
    assert repr(bad_rows.select(SCHEMA.names()).rows()) == repr([tuple(before[n].values()) for n in aside])
    assert [set(r) for r in bad_rows["_lazypipe_rules"]] == [reasons[n] for n in aside]
    report = split.report
    assert (report.rows, report.good, report.quarantined) == (len(before), len(good), len(aside))
    assert report.dropped == len(before) - len(good) - len(aside)


def test_batches_of_three_rows_give_the_same() -> None:
    """The properties of fates hold where rows come in many batches, on several threads."""
    if os.environ.get("POLARS_IDEAL_MORSEL_SIZE"):
        return
    command = [sys.executable, "-m", "pytest", "--no-cov", "-q", "-n0", "--json-report-file=none"]
    done = subprocess.run(
        [*command, *(str(Path(__file__).with_name(f"test_{name}.py")) for name in ("split", "accounting"))],
        env=os.environ | {"POLARS_IDEAL_MORSEL_SIZE": "3", "HYPOTHESIS_PROFILE": "few"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
