"""Rules that compare with the past: whatever is delivered, mended, rolled back or kept in order in between, they measure and say what plain Python does of the runs in force."""

from __future__ import annotations

import math
import os
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.properties.scale import at_scale

START = datetime(2024, 1, 1, tzinfo=UTC)
SCHEMA = pl.Schema({"k": pl.String, "v": pl.Int64, "at": pl.Datetime("us", "UTC")})
ROWS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", None]), st.one_of(st.none(), st.integers(0, 9))), min_size=1, max_size=4
)
ACTIONS = ["add", "add", "add", "add", "modify", "remove", "nothing", "full", "compact", "rewrite", "rollback", "touch"]
ACTIONS += ["move", "bounded"]
STEPS = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 5), ROWS), min_size=2, max_size=10)
RUNS = 3
RULES: dict[str, dict[str, Any]] = {
    "z_score:sum v": {"z_score": {"metric": "sum", "column": "v", "runs": RUNS, "min_runs": 2, "max": 1.5}},
    "z_score:row_count": {"z_score": {"metric": "row_count", "runs": RUNS, "min_runs": 2}},
    "psi:k": {"psi": {"column": "k", "max": 0.2}},
    "ks:v": {"ks": {"column": "v", "max": 0.2}},
    "psi:k where v > 2": {"psi": {"column": "k", "max": 0.2, "where": "v > 2", "id": "psi:k where v > 2"}},
    "freshness:at": {"freshness": {"column": "at", "within": "150m"}},
}
Row = tuple[str | None, int | None, datetime]


@dataclass(frozen=True)
class Version:
    """What a version holds, and what its run measured; None of one that no run made."""

    rows: list[Row]
    measured: dict[str, Any] | None
    before: int | None
    """The place of the one that was in force when it was made."""


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.case = base, case
        self.files: dict[str, list[Row]] = {}
        self.made, self.hours = 0, 0
        self.log: list[Version] = []
        self.taken: dict[str, list[Row]] = {}
        (base / "in").mkdir()
        self.write([("a", 1), ("b", 2)])

    def write(self, rows: list[Any], name: str | None = None) -> None:
        self.made += 1
        name = name or f"f{self.made:02}"
        self.files[name] = [(*row, START + timedelta(hours=self.hours)) for row in rows]
        path = self.base / f"in/{name}.{self.case['format']}"
        frame = pl.DataFrame(self.files[name], schema=SCHEMA, orient="row")
        frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
        self.stamp(path)

    def stamp(self, path: Path) -> None:
        self.made += 1
        os.utime(path, (1_700_000_000 + self.made * 10,) * 2)

    @property
    def rules(self) -> list[str]:
        return self.case["rules"]

    def run(self, **how: Any) -> lp.RunResult:
        self.hours += 1
        gate = []
        for rule in self.rules:
            ((name, arguments),) = RULES[rule].items()
            gate.append({name: {**arguments, "action": "fail" if rule == self.case["fails"] else "warn"}})
        data = {
            "version": 1,
            "name": "p",
            "sources": {
                "s": {
                    "uri": f"in/*.{self.case['format']}",
                    "contract": {"columns": {"k": "String", "v": "Int64", "at": "Datetime(us, UTC)"}},
                }
            },
            "stages": {"o": {"from": "s", "gate": gate}},
            "outputs": {"o": {"to": "out/o", "mode": self.case["mode"]}},
        }
        return lp.Pipeline.from_dict(data, base=str(self.base)).compile(now=self.now).run(now=self.now, **how)

    @property
    def now(self) -> datetime:
        return START + timedelta(hours=self.hours)

    # the oracle

    def past(self) -> list[dict[str, Any]]:
        """Return what the last runs measured whose versions led to the one in force."""
        found, at = [], len(self.log) - 1 if self.log else None
        while at is not None and len(found) < RUNS:
            version = self.log[at]
            if version.measured is not None:
                found.append(version.measured)
            at = version.before
        return found

    def expected(self, rows: list[Row]) -> dict[str, tuple[Any, bool]]:
        """Return what each rule measures of rows, and whether it accepts that."""
        before = self.log[-1].rows if self.log else []
        found: dict[str, tuple[Any, bool]] = {}
        for rule in self.rules:
            match rule.partition(":"):
                case ("z_score", _, of):
                    value = float(len(rows) if of == "row_count" else sum(v or 0 for _, v, _ in rows))
                    past = [m[rule] for m in self.past()]
                    accepted = len(past) < 2 or abs(value - mean(past)) <= (1.5 if of != "row_count" else 3) * stdev(
                        past
                    ) + 1e-9 * abs(mean(past))
                    found[rule] = value, accepted
                case ("psi", _, of):
                    some = [[k for k, v, _ in rs if of == "k" or (v is not None and v > 2)] for rs in (rows, before)]
                    index = psi(*some)
                    found[rule] = index, index is None or index <= 0.2
                case ("ks", _, _):
                    numbers = [sorted(v for _, v, _ in rs if v is not None) for rs in (rows, before)]
                    distance = ks(*numbers)
                    found[rule] = distance, distance is None or distance <= 0.2
                case _:
                    newest = max((at for _, _, at in rows), default=None)
                    found[rule] = newest, newest is None or newest >= self.now - timedelta(minutes=150)
        return found

    def judge(self, result: lp.RunResult) -> None:
        """Hold a run against what plain Python makes of the files."""
        (segment,) = result.segments
        if self.case["mode"] == "append":
            new = {n: rows for n, rows in self.files.items() if self.taken.get(n) != rows}
            rows = [r for rs in new.values() for r in rs]
            there = [*(self.log[-1].rows if self.log else []), *rows]
        else:
            rows = there = [r for rs in self.files.values() for r in rs]
        if segment.status == "unchanged":
            assert "freshness:at" not in self.rules or self.case["mode"] == "append"
            assert Counter(there) == Counter(self.log[-1].rows)
            return
        checks = {c.id: c for g in result.gates.values() for c in g.checks}
        if segment.status == "done" and not checks:
            # told under another name
            assert Counter(there) == Counter(self.log[-1].rows)
            self.log.append(Version(there, None, len(self.log) - 1))
            return
        expected = self.expected(rows)
        for rule, (value, accepted) in expected.items():
            found = checks[rule]
            if isinstance(value, float):
                assert math.isclose(found.value, value, rel_tol=1e-9, abs_tol=1e-12), (rule, found, value)
            else:
                assert found.value == value, (rule, found, value)
            bad = "fail" if rule == self.case["fails"] else "warn"
            assert found.status == ("pass" if accepted else bad), (rule, found, value, self.past())
        fails = self.case["fails"] in expected and not expected[self.case["fails"]][1]
        assert result.status == ("gate_failed" if fails else "done")
        if not fails:
            self.log.append(
                Version(there, {r: v for r, (v, _) in expected.items()}, len(self.log) - 1 if self.log else None)
            )
            self.taken = {**self.taken, **self.files}
        held = lp.scan(str(self.base / "out/o")).collect().rows() if self.log else []
        assert Counter(held) == Counter(self.log[-1].rows if self.log else [])

    def act(self, action: str, index: int, rows: list[Any]) -> None:
        names = sorted(self.files)
        chosen = names[index % len(names)]
        path = self.base / f"in/{chosen}.{self.case['format']}"
        uri = str(self.base / "out/o")
        appends = self.case["mode"] == "append"
        match action:
            case "add":
                self.write(rows)
            case "modify" if not appends:
                self.write(rows, chosen)
            case "remove" if len(names) > 1 and not appends:
                path.unlink()
                del self.files[chosen]
            case "touch":
                self.stamp(path)
            case "move" if not appends:
                self.made += 1
                path.rename(path.with_name(f"f{self.made:02}.{self.case['format']}"))
                self.files[f"f{self.made:02}"] = self.files.pop(chosen)
            case "compact" | "rewrite" | "rollback" if self.log:
                versions = len(lp.history(uri))
                if action == "compact":
                    lp.optimize.compact(uri, dead=0.0)
                elif action == "rewrite":
                    lp.optimize.rewrite(uri, "storage", every=True)
                elif not appends:
                    there = index % len(self.log)
                    lp.rollback(uri, version=there + 1)
                    self.log.append(replace(self.log[there], measured=None, before=there))
                if action != "rollback" and len(lp.history(uri)) > versions:
                    self.log.append(Version(self.log[-1].rows, None, len(self.log) - 1))


def psi(here: list[Any], there: list[Any]) -> float | None:
    if not here or not there:
        return None
    now, before = Counter(here), Counter(there)
    shares = [(max(now[k] / len(here), 1e-4), max(before[k] / len(there), 1e-4)) for k in {*now, *before}]
    return sum((a - e) * math.log(a / e) for a, e in shares)


def ks(here: list[int], there: list[int]) -> float | None:
    if not here or not there:
        return None
    return max(
        abs(sum(n <= v for n in here) / len(here) - sum(n <= v for n in there) / len(there)) for v in {*here, *there}
    )


@given(
    case=st.fixed_dictionaries(
        {
            "mode": st.sampled_from(["replace", "replace", "append"]),
            "format": st.sampled_from(["csv", "parquet"]),
            "rules": st.lists(st.sampled_from([*RULES]), min_size=1, max_size=4, unique=True),
            "fails": st.sampled_from([None, None, *RULES]),
            "scale": st.booleans(),
        }
    ),
    steps=STEPS,
)
@settings(max_examples=settings().max_examples // 8)
def test_rules_about_the_past(case: dict[str, Any], steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(case["scale"]):
        world = World(Path(folder), case)
        world.judge(world.run())
        for action, index, rows in steps:
            world.act(action, index, rows)
            how = {"full": True} if action == "full" and case["mode"] == "replace" else {}
            world.judge(world.run(**how))
