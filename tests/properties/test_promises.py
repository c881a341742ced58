"""Contracts of outputs over definitions and deliveries that change: each version has the columns, types and rows that the words of the contract give in plain Python."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.properties.scale import at_scale

START = datetime(2024, 1, 1, tzinfo=UTC)
ANSWERS = st.sampled_from(["evolve", "evolve", "freeze", "discard_column", "discard_row", "fail"])
FILE = st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 9))), min_size=1, max_size=3)
SOURCE = pl.Schema({"id": pl.Int64, "x": pl.Int64})
BIG = 2**40
# what column x is made of, under which type, and what that is in Python
KINDS: dict[str, tuple[list[dict[str, Any]], str, Callable[[int], Any]]] = {
    "int": ([], "Int64", int),
    "small": ([{"cast": {"x": "Int32"}}], "Int32", int),
    "tiny": ([{"cast": {"x": "Int8"}}], "Int8", int),
    "big": ([{"derive": {"x": f"CASE WHEN x > 5 THEN x + {BIG} ELSE x END"}}], "Int64", lambda x: x + BIG * (x > 5)),
    "half": ([{"derive": {"x": "x / 2"}}], "Float64", lambda x: x / 2),
    "text": (
        [{"derive": {"x": "CASE WHEN x > 6 THEN 'x' ELSE x::text END"}}],
        "String",
        lambda x: "x" if x > 6 else str(x),
    ),
}
WIDTH = {"Int8": 2**7, "Int32": 2**31, "Int64": 2**63}
STEP = st.tuples(
    st.sampled_from(["add", "add", "modify", "remove", "nothing", "compact", "rollback"]),
    st.integers(0, 5),
    FILE,
    st.fixed_dictionaries(
        {
            "kind": st.one_of(st.none(), st.sampled_from([*KINDS])),
            "n": st.sampled_from([None, None, False, True]),
            "answers": st.one_of(
                st.none(),
                st.fixed_dictionaries(
                    {"on_new_column": ANSWERS, "on_type_change": ANSWERS, "on_missing_column": ANSWERS}
                ),
            ),
        }
    ),
    st.sampled_from(["run", "run", "run", "full", "nothing"]),
)
Row = dict[str, Any]


class Refused(Exception):
    """The definition, or what it gives, is not what was promised."""


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.case = base, case
        self.kind, self.has_n, self.answers = case["kind"], case["n"], case["answers"]
        self.files: dict[str, list[tuple[int, int | None]]] = {}
        self.made = self.hours = 0
        self.types: dict[str, str] | None = None
        self.rows: list[Row] = []
        self.aside: list[int] = []
        self.taken: set[tuple[str, int]] = set()
        self.stamps: dict[str, int] = {}
        self.versions: dict[int, Any] = {}
        (base / "in").mkdir()
        self.write([(0, 5)])

    def write(self, rows: Any, name: str | None = None) -> None:
        self.made += 1
        name = name or f"f{self.made:02}"
        # which row is meant is known by its id, of which each has its own
        self.files[name] = [(100 * self.made + 10 * n + i, x) for n, (i, x) in enumerate(rows)]
        self.stamps[name] = self.made
        path = self.base / f"in/{name}.parquet"
        pl.DataFrame(self.files[name], schema=SOURCE, orient="row").write_parquet(path)
        os.utime(path, (1_700_000_000 + self.made * 10,) * 2)

    def run(self, full: bool) -> lp.RunResult:
        self.hours += 1
        steps, _, _ = KINDS[self.kind]
        extra = [{"derive": {"n": "CASE WHEN id % 2 = 0 THEN id END"}}] if self.has_n else []
        data = {
            "version": 1,
            "name": "p",
            "sources": {"s": {"uri": "in/*.parquet", "contract": {"columns": {"id": "Int64", "x": "Int64"}}}},
            "stages": {"o": {"from": "s", "do": [*extra, *steps]}},
            "outputs": {
                "o": {"to": "out/o", "contract": self.answers, "mode": self.case["mode"]}
                | ({"key": "id"} if self.case["mode"] == "upsert" else {})
            },
        }
        plan = lp.Pipeline.from_dict(data, base=str(self.base)).compile()
        return plan.run(now=START + timedelta(hours=self.hours), full=full)

    # the oracle

    def made_of(self, i: int, x: int | None) -> Row:
        row = {"id": i, "x": None if x is None else KINDS[self.kind][2](x)}
        return row | ({"n": i if i % 2 == 0 else None} if self.has_n else {})

    def promised(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the columns that the next version has, and what becomes of each."""
        found = {"id": "Int64", "x": KINDS[self.kind][1], **({"n": "Int64"} if self.has_n else {})}
        if self.types is None:
            return found, {}
        types, how = {}, {}
        for name, dtype in self.types.items():
            if name not in found:
                how[name] = self.answers["on_missing_column"]
                if how[name] in ("fail", "freeze"):
                    raise Refused
                types[name] = dtype
                continue
            types[name] = dtype
            if found[name] != dtype:
                how[name] = self.answers["on_type_change"]
                if how[name] == "fail":
                    raise Refused
                if how[name] == "evolve":
                    types[name] = wider(dtype, found[name])
        for name, dtype in found.items():
            if name not in self.types:
                how[name] = self.answers["on_new_column"]
                if how[name] in ("fail", "freeze"):
                    raise Refused
                if how[name] == "evolve":
                    types[name] = dtype
        return types, how

    def shaped(self, row: Row, types: dict[str, str], how: dict[str, str]) -> Row | None:
        """Return a row as it is published, None where it is put aside."""
        made: Row = {}
        for name, dtype in types.items():
            if name not in row:
                if how[name] == "discard_row":
                    return None
                made[name] = None
                continue
            try:
                made[name] = fit(row[name], dtype)
            except ValueError:
                if how[name] == "freeze":
                    raise Refused from None
                if how[name] == "discard_row":
                    return None
                made[name] = None
        for name in row.keys() - types.keys():
            if how[name] == "discard_row" and row[name] is not None:
                return None
        return made

    def expected(self, full: bool) -> tuple[dict[str, str], list[Row], list[int], set[Any]]:
        types, how = self.promised()
        replaces = self.case["mode"] == "replace" or full or self.types is None
        taken = {(n, self.stamps[n]) for n in self.files}
        some = (
            self.files if replaces else {n: r for n, r in self.files.items() if (n, self.stamps[n]) not in self.taken}
        )
        if not some:
            return self.types or types, self.rows, self.aside, self.taken
        if self.case["mode"] == "upsert" and not replaces and types != self.types:
            raise Refused  # keys find their rows in files with the same columns
        made = [(i, self.shaped(self.made_of(i, x), types, how)) for rows in some.values() for i, x in rows]
        good = [row for _, row in made if row is not None]
        bad = [i for i, row in made if row is None]
        if replaces:
            return types, good, bad, taken
        kept = [{n: fit(row.get(n), t) for n, t in types.items()} for row in self.rows]
        return types, [*kept, *good], [*self.aside, *bad], taken

    def work(self, full: bool) -> None:
        try:
            after = self.expected(full)
        except Refused:
            after = None
        try:
            self.run(full).raise_for_status()
        except lp.LazypipeError as error:
            assert after is None, error
            assert isinstance(error, lp.DefinitionError | lp.GateError) or "run once in full" in str(error), error
        else:
            assert after is not None, (self.types, self.kind, self.answers)
            self.types, self.rows, self.aside, self.taken = after
            for version in lp.history(str(self.base / "out/o"))["version"]:
                self.versions.setdefault(version, after)
        self.check()

    def check(self) -> None:
        if self.types is None:
            return
        held = lp.scan(str(self.base / "out/o")).collect()
        assert {n: str(t) for n, t in held.schema.items()} == self.types
        names = sorted(self.types)
        assert Counter(held.select(names).rows()) == Counter(tuple(row[n] for n in names) for row in self.rows)
        uri = self.base / "out/o__quarantine"
        aside = lp.scan(str(uri)).collect()["id"].to_list() if Path(f"{uri}.commits").exists() else []
        assert sorted(aside) == sorted(self.aside)

    def act(self, action: str, index: int, rows: Any, changed: dict[str, Any]) -> None:
        names = sorted(self.files)
        chosen = names[index % len(names)]
        replaces = self.case["mode"] == "replace"
        self.kind = changed["kind"] or self.kind
        self.has_n = self.has_n if changed["n"] is None else changed["n"]
        self.answers = changed["answers"] or self.answers
        uri = str(self.base / "out/o")
        match action:
            case "add":
                self.write(rows)
            case "modify" if replaces:
                self.write(rows, chosen)
            case "remove" if replaces and len(names) > 1:
                (self.base / f"in/{chosen}.parquet").unlink()
                del self.files[chosen]
            case "compact" | "rollback" if self.types is not None:
                if action == "compact":
                    lp.optimize.compact(uri, dead=0.0)
                else:
                    versions = lp.history(uri)["version"].to_list()
                    version = versions[index % len(versions)]
                    lp.rollback(uri, version=version)
                    self.types, self.rows, self.aside, self.taken = self.versions[version]
                now = (self.types, self.rows, self.aside, self.taken)
                for version in lp.history(uri)["version"]:
                    self.versions.setdefault(version, now)


def wider(one: str, other: str) -> str:
    """Return the type that holds both, as the decision says: whole numbers in wider ones, or in floats that hold them exactly."""
    both = {one, other}
    if both <= {*WIDTH}:
        return max(both, key=lambda t: WIDTH[t])
    if both in ({"Int8", "Float64"}, {"Int32", "Float64"}):
        return "Float64"
    raise Refused


def fit(value: Any, dtype: str) -> Any:
    """Return a value as one of a type; raises ValueError if it is none."""
    if value is None:
        return None
    match dtype:
        case "String":
            return value if isinstance(value, str) else str(value)
        case "Float64":
            return float(value)
        case _:
            number = int(value) if isinstance(value, str) else value
            if number != int(number) or not -WIDTH[dtype] <= number < WIDTH[dtype]:
                raise ValueError(value)
            return int(number)


@given(
    case=st.fixed_dictionaries(
        {
            "mode": st.sampled_from(["replace", "replace", "append", "upsert"]),
            "kind": st.sampled_from([*KINDS]),
            "n": st.booleans(),
            "answers": st.fixed_dictionaries(
                {"on_new_column": ANSWERS, "on_type_change": ANSWERS, "on_missing_column": ANSWERS}
            ),
            "scale": st.booleans(),
        }
    ),
    steps=st.lists(STEP, min_size=1, max_size=8),
)
@settings(max_examples=settings().max_examples // 8)
def test_what_an_output_promises(case: dict[str, Any], steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(case["scale"]):
        world = World(Path(folder), case)
        world.work(False)
        for action, index, rows, changed, what in steps:
            world.act(action, index, rows, changed)
            if what != "nothing":
                world.work(what == "full")
        world.work(False)
