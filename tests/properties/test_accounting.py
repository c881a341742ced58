"""Good, quarantined and dropped rows are the input: each row once, counted as a naive oracle counts it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp

NOW = datetime(2024, 1, 1, tzinfo=UTC)
SCHEMA = pl.Schema({"i": pl.Int64, "k": pl.Int64, "f": pl.Float64, "s": pl.String})
Row = dict[str, Any]

rows = st.lists(
    st.fixed_dictionaries(
        {
            "k": st.none() | st.integers(0, 4),
            "f": st.none() | st.sampled_from([0.0, -0.0, 1.5, float("nan"), float("inf")]),
            "s": st.none() | st.sampled_from(["", "a", "b"]),
        }
    ),
    max_size=25,
)


@dataclass(frozen=True)
class Rule:
    """One rule as written, and as the oracle reads it: violated per row, or the key that must not repeat."""

    name: str
    arguments: dict[str, Any]
    kind: tuple[Any, ...]

    def violates(self, row: Row) -> bool:
        match self.kind:
            case ("null", column):
                return row[column] is None
            case ("outside", low, high):
                value = row["f"]
                return value is not None and not low <= value <= high  # NaN is not between
            case ("not in", allowed):
                return row["s"] is not None and row["s"] not in allowed
            case _:  # k > i % 3
                return row["k"] is not None and not row["k"] > row["i"] % 3

    def key(self, row: Row) -> tuple[Any, ...] | None:
        values = tuple(row[c] for c in self.kind[1])
        if any(v is None for v in values):
            return None
        return tuple("nan" if v != v else v for v in values)


WHERES = {
    None: lambda r: True,
    "k >= 2": lambda r: r["k"] is not None and r["k"] >= 2,
    "s = 'a'": lambda r: r["s"] == "a",
}


@st.composite
def rule(draw: st.DrawFn) -> Rule:
    kind, name, arguments = draw(
        st.sampled_from(
            [
                (("null", "s"), "not_null", {"columns": "s"}),
                (("null", "k"), "not_null", {"columns": "k"}),
                (("outside", 0.0, 2.0), "between", {"column": "f", "min": 0, "max": 2}),
                (("not in", ["a", ""]), "in_set", {"column": "s", "values": ["a", ""]}),
                (("expression",), "expression", {"condition": "k > i % 3"}),
                (("unique", ["k"]), "unique", {"columns": "k"}),
                (("unique", ["f"]), "unique", {"columns": "f"}),
                (("unique", ["k", "s"]), "unique", {"columns": ["k", "s"]}),
            ]
        )
    )
    arguments = arguments | {"action": draw(st.sampled_from(["quarantine", "quarantine", "drop", "warn", "fail"]))}
    where = draw(st.sampled_from(list(WHERES)))
    if where:
        arguments["where"] = where
    # mostly generous, so that most runs publish
    limit = draw(st.sampled_from([None, 3, "40%", "100%", "100%"]))
    if arguments["action"] == "fail" and limit is None:
        limit = 20
    if limit is not None:
        arguments["max_failures"] = limit
    return Rule(name, arguments, kind)


def judge(gate: Sequence[Rule], given_rows: Sequence[Row]) -> tuple[list[tuple[int, int, bool]], list[set[str]]]:
    """Per rule: evaluated, failed, whether too many. Per row: the ids of the rules that it violates."""
    counts, reasons = [], [set[str]() for _ in given_rows]
    for number, one in enumerate(gate):
        judged = [WHERES[one.arguments.get("where")](r) for r in given_rows]
        if one.kind[0] == "unique":
            keys = [one.key(r) if j else None for r, j in zip(given_rows, judged, strict=True)]
            times = Counter(k for k in keys if k is not None)
            failed = [k is not None and times[k] > 1 for k in keys]
        else:
            failed = [j and one.violates(r) for r, j in zip(given_rows, judged, strict=True)]
        for row, is_failed in enumerate(failed):
            if is_failed:
                reasons[row].add(f"rule{number}")
        limit = one.arguments.get("max_failures")
        allowed = (
            float("inf") if limit is None else int(limit[:-1]) * sum(judged) // 100 if isinstance(limit, str) else limit
        )
        counts.append((sum(judged), sum(failed), sum(failed) > allowed))
    return counts, reasons


@pytest.mark.parametrize("place", ["source", "csv source", "stage", "output"])
@given(given_rows=rows, gate=st.lists(rule(), min_size=2, max_size=6), cut=st.integers(0, 25))
def test_every_row_has_one_fate(place: str, given_rows: list[Row], gate: list[Rule], cut: int) -> None:
    numbered = [{"i": i, **r} for i, r in enumerate(given_rows)]
    counts, reasons = judge(gate, numbered)
    actions = {f"rule{n}": r.arguments["action"] for n, r in enumerate(gate)}

    def fate(violated: set[str]) -> str:
        found = {actions[r] for r in violated}
        return "quarantine" if "quarantine" in found else "drop" if "drop" in found else "good"

    fates = [fate(r) for r in reasons]
    rules = [{r.name: r.arguments | {"id": f"rule{n}"}} for n, r in enumerate(gate)]
    with tempfile.TemporaryDirectory() as base:
        form = "csv" if place == "csv source" else "parquet"
        for name, part in (("a", numbered[:cut]), ("b", numbered[cut:])):
            frame = pl.DataFrame(part, schema=SCHEMA)
            path = Path(base, f"in-{name}.{form}")
            if form == "csv":
                frame.with_columns(pl.col("s").fill_null("NULL")).write_csv(
                    path, null_value="NULL", quote_style="non_numeric"
                )
            else:
                frame.write_parquet(path)
        gates = {
            "source": {"gate": rules} if place.endswith("source") else {},
            "inner": {"gate": rules} if place == "stage" else {},
        }
        contract = {"columns": {"i": "Int64", "k": "Int64", "f": "Float64", "s": "String"}}
        read = {"read": {"null_values": ["NULL"]}} if form == "csv" else {}
        definition = {
            "version": 1,
            "name": "p",
            "sources": {"a": {"uri": f"in-*.{form}", "contract": contract, **read, **gates["source"]}},
            "stages": {
                "inner": {"from": "a", "do": [{"derive": {"w": "i * 2"}}], **gates["inner"]},
                "s": {"from": "inner", "do": [{"drop": "w"}], **({"gate": rules} if place == "output" else {})},
            },
            "outputs": {"s": {"to": "out/s"}},
        }
        result = lp.Pipeline.from_dict(definition, base=base).compile().run(run="r1", now=NOW)
        (report,) = result.gates.values()
        assert [(c.evaluated, c.failed, c.status == "fail") for c in report.checks] == counts
        assert report.rows == len(numbered)
        assert (report.good, report.quarantined, report.dropped) == tuple(
            fates.count(f) for f in ("good", "quarantine", "drop")
        )
        assert [c.failed for c in lp.check(pl.DataFrame(numbered, schema=SCHEMA), rules).checks] == [
            n for _, n, _ in counts
        ]
        inner = {"output": "out/s__quarantine", "stage": ".lazypipe/quarantine/p/inner"}.get(
            place, ".lazypipe/quarantine/p/a"
        )
        if any(failed for _, _, failed in counts):
            assert (result.status, result.exit_code) == ("gate_failed", 1)
            assert not [p for p in Path(base, "out").rglob("*") if p.is_file()]
            assert not Path(base, inner).exists()
            return
        result.raise_for_status()
        good = lp.scan(f"{base}/out/s").collect().sort("i")
        assert repr(good.rows()) == repr(_rows(numbered, fates, "good"))  # as text: NaN is not equal to itself
        if report.quarantined == 0:
            assert not Path(base, inner).exists()
            return
        aside = lp.scan(f"{base}/{inner}").collect().sort("i")
        assert repr(aside.select(SCHEMA.names()).rows()) == repr(_rows(numbered, fates, "quarantine"))
        expected = [r for r, f in zip(reasons, fates, strict=True) if f == "quarantine"]
        assert [set(r) for r in aside["_lazypipe_rules"]] == expected
        assert all(len(r) == len(set(r)) for r in aside["_lazypipe_rules"])
        source = [f"{base}/in-{'a' if i < cut else 'b'}.{form}" for i in aside["i"]]
        assert aside["_lazypipe_file"].to_list() == source


def _rows(numbered: Sequence[Row], fates: Sequence[str], fate: str) -> list[tuple[Any, ...]]:
    return [tuple(r[c] for c in SCHEMA) for r, f in zip(numbered, fates, strict=True) if f == fate]
