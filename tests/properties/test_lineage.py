"""Whatever the pipeline: the rows that a trace names give, alone, the rows that were asked for; and what changes with a column stands downstream of it."""

from __future__ import annotations

import json
import random
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.properties import test_incremental as drawn

EXAMPLES = settings().max_examples
SOURCES = ("a", "b", "d", "e")


def gentle(node: Any, *, alone: bool = False) -> Any:
    """Return a part of a definition of which no gate fails, nor, if it is to be ``alone``, looks at rows that are not there."""
    if isinstance(node, list):
        return [gentle(n, alone=alone) for n in node if not (alone and isinstance(n, dict) and looks_up(n))]
    if not isinstance(node, dict):
        return node
    made = {k: gentle(v, alone=alone) for k, v in node.items() if k not in ("max_failures", "fail_above")}
    match made.get("action"):
        case "fail":
            made["action"] = "warn"
        case "repair":
            made["repair"] = {"then": "quarantine", **made["repair"]}
    return made


def looks_up(rule: dict[str, Any]) -> bool:
    return any(isinstance(a, dict) and ("references" in a or "same_as" in a) for a in rule.values())


def said(value: Any) -> str:
    """Return a value as text, but for the last digits of floats, which say in which order threads added up, and the sign of zero."""
    if isinstance(value, float):
        return f"{value + 0.0:.12g}"
    if isinstance(value, dict):
        return repr({k: said(v) for k, v in value.items()})
    return repr([*map(said, value)]) if isinstance(value, list | tuple) else repr(value)


def plain(frame: pl.DataFrame) -> list[str]:
    """Return the columns by which a row is known: of floats the last digit says in which order they were added up."""
    return [n for n, t in frame.schema.items() if not t.is_nested() and not t.is_float()]


def fed(world: drawn.World, trace: lp.Trace, output: str) -> pl.DataFrame:
    """Return what the pipeline makes of the rows that were traced, and no others."""
    (world.base / "fed").mkdir(exist_ok=True)
    data = json.loads(json.dumps(world.data))
    for name in SOURCES:
        held = data["sources"][name]
        types = {**world.data["sources"][name].get("contract", {}).get("columns", {})}
        found = trace.sources.get(name)
        if name == "a" and world.ahead is not None:
            rows = lp.scan(str(world.base / "up/a")).collect().clear()
            types = {}
        else:
            rows = pl.DataFrame(schema={n: drawn.dtype_from_name(t) for n, t in types.items()})
        if found is not None and found.rows is not None:
            rows = found.rows.drop(found.rows.columns[:2])
        rows.write_parquet(world.base / f"fed/{name}.parquet")
        data["sources"][name] = {"uri": f"fed/{name}.parquet", "gate": held.get("gate", [])}
        data["sources"][name] |= {"contract": {"columns": types}} if types else {}
    data = gentle(data, alone=True)
    data["outputs"] = {output: {"to": "fed/out"}}
    plan = lp.Pipeline.from_dict(data, base=str(world.base)).compile(more=world.more, allow=[drawn.__name__])
    plan.run().raise_for_status()
    return lp.scan(str(world.base / "fed/out")).collect()


@given(data=drawn.pipelines(), actions=drawn.ACTIONS, pick=st.integers(0, 50))
@settings(max_examples=EXAMPLES // 6)
def test_rows_that_are_traced_make_the_row(data: dict[str, Any], actions: list[Any], pick: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = drawn.World(Path(folder), data)
        for action, index, rows, _ in actions:
            if action not in ("since", "part", "only", "back", "lay", "edit"):
                world.act(action, index, rows)
        # a file that cannot be read, and a gate that fails, leave what was there before
        assume(world.run("kept").status in ("done", "unchanged"))
        kept = [n for n in world.held("kept") if n in world.data["outputs"]]
        assume(kept)
        output = kept[pick % len(kept)]
        there = lp.scan(str(world.base / "kept" / output)).collect()
        row = there[pick % there.height]
        key = {n: row[n].item() for n in plain(row)}
        assume(key)
        trace = world.compiled("kept").trace(output, key, most=10_000)
        whole = [*map(said, trace.rows.select(sorted(trace.rows.columns)).rows())]
        assert Counter(whole) == Counter(
            map(said, there.filter(alike(there, row)).select(sorted(there.columns)).rows())
        ), "the sources give what was published"
        if any(of.rows is None for of in trace.sources.values()):
            assert not trace.exact
            return
        made = fed(world, trace, output)
        found = made.filter(alike(made, row))
        assert Counter(map(said, found.select(sorted(found.columns)).rows())) == Counter(whole), trace


def alike(frame: pl.DataFrame, row: pl.DataFrame) -> pl.Series:
    same = [
        pl.Series([said(v) == said(row[n].item()) for v in frame[n].to_list()], dtype=pl.Boolean) for n in plain(row)
    ]
    return pl.select(pl.all_horizontal(*same)).to_series()


def changed(frame: pl.DataFrame, column: str, seed: int) -> pl.DataFrame:
    """Return rows with other values in a column: in another order, repeated, or one of them null."""
    draw = random.Random(seed)
    values = frame[column].to_list()
    if values:
        match seed % 3:
            case 0:
                values = draw.sample(values, len(values))
            case 1:
                values = [draw.choice(values) for _ in values]
            case _:
                values[draw.randrange(len(values))] = None
    return frame.with_columns(pl.Series(column, values, dtype=frame.schema[column]))


@given(
    data=drawn.pipelines(),
    source=st.sampled_from(["a", "a", "a", *SOURCES]),
    place=st.integers(0, 2),
    seed=st.integers(0, 100),
    rows=drawn.ROWS,
)
@settings(max_examples=EXAMPLES // 6)
def test_what_changes_with_a_column_is_downstream_of_it(
    data: dict[str, Any], source: str, place: int, seed: int, rows: list[Any]
) -> None:
    assume("ndjson" not in data["fmts"].values())
    data |= {"ahead": None}
    with tempfile.TemporaryDirectory() as folder:
        world = drawn.World(Path(folder), gentle(data))
        world.write("a", rows)
        world.write("b", rows[:3])
        world.run("kept").raise_for_status()
        before = columns_of(world, "kept")
        plan = world.compiled("kept")
        names = [*world.data["sources"][source]["contract"]["columns"]]
        column = names[place % len(names)]
        if column == "day":
            return
        for number, path in enumerate(sorted((world.base / "in").rglob(f"{source}[.-]*"))):
            held = read(path)
            world.put(changed(held, column, seed + 3 * number), path)
        try:
            world.run("other").raise_for_status()
        except lp.RunError as error:
            assert "where validate allows one" in str(error)
            return
        after = columns_of(world, "other")
        moved = {c for c in before.keys() | after.keys() if before.get(c) != after.get(c)}
        for optimized in (False, True):
            reach = reached(plan, f"{source}.{column}", optimized=optimized)
            assert moved <= reach, (source, column, optimized, moved - reach)
        if column in plan.dead_columns().get(source, ()):
            assert not {(n, c) for n, c in moved if "__quarantine" not in n}


def reached(plan: lp.Plan, column: str, *, optimized: bool) -> set[tuple[str, str]]:
    """Return the columns downstream of a column; none, if the optimized plan does not read it."""
    try:
        found = plan.lineage(optimized=optimized).downstream(column)
    except lp.LazypipeError as error:
        assert optimized, error
        return set()
    return {(c.dataset, c.name) for c in found.columns}


def read(path: Path) -> pl.DataFrame:
    """Return what a file holds; of text, the text of cells."""
    match path.suffix:
        case ".csv":
            return pl.read_csv(path.read_bytes(), infer_schema=False)
        case ".ipc":
            return pl.read_ipc(path.read_bytes())
        case _:
            return pl.read_parquet(path.read_bytes())


def columns_of(world: drawn.World, where: str) -> dict[tuple[str, str], Counter[str]]:
    """Return what each column of each output, and of what is put aside, holds."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for log in sorted((world.base / where).rglob("*.commits")):
        if any(log.glob("*.json")):
            frame = lp.scan(str(log).removesuffix(".commits")).collect()
            which = re.sub(r"\.(csv|parquet|ndjson|ipc)(?=__quarantine)", "", log.name.removesuffix(".commits"))
            place = f"{which}__quarantine" if "state" in log.parts else which
            for name in frame.columns:
                if not name.startswith("_lazypipe_") or name in drawn.CALLED["id"] + drawn.CALLED["k"]:
                    found[place, name] = Counter(map(said, frame[name].to_list()))
    return found
