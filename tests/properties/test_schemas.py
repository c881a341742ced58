"""Whatever columns files come with, and whatever a contract says of that: runs that do only what is needed give what one full run gives, and no row goes."""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.properties.scale import at_scale
from tests.properties.test_incremental import counts

EXAMPLES = settings().max_examples // 5
ANSWERS = ["evolve", "freeze", "discard_column", "discard_row", "discard_row", "fail"]
NEW = ["ignore", *ANSWERS]
SHAPE = st.fixed_dictionaries(
    {
        "v": st.sampled_from(["int", "int", "int", "small", "float", "whole", "text", "digits", "other", "none"]),
        "w": st.sampled_from(["text", "text", "text", "int", "none", "nulls"]),
        "k": st.sampled_from(["text", "text", "text", "text", "none"]),
        "new": st.sampled_from([None, None, None, "int", "text", "float", "nulls", "list", "struct", "struct2"]),
        "order": st.integers(0, 3),
        "alias": st.booleans(),
        "broken": st.sampled_from([False] * 6 + [True]),
    }
)
ROWS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", None]), st.one_of(st.none(), st.integers(-3, 40))), min_size=1, max_size=4
)
FILE = st.tuples(SHAPE, ROWS)
STEP = st.tuples(
    st.sampled_from(["add", "add", "add", "modify", "remove", "touch", "move", "grow", "copy", "nothing", "part"]),
    st.integers(0, 5),
    FILE,
    st.sampled_from([True, True, False]),
)
STAGES: dict[str, dict[str, Any]] = {
    "all": {"do": []},
    "narrow": {"do": [{"select": ["id", "k"]}]},
    "sums": {"do": [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)", "m": "max(v)", "s": "sum(v)"}}}]},
    "gated": {"do": [{"filter": "id > 2"}], "gate": [{"not_null": {"columns": "k", "action": "quarantine"}}]},
    "keyed": {"do": [{"select": ["id", "v"]}], "gate": [{"unique": {"columns": "v", "action": "quarantine"}}]},
    "groups": {"do": [{"over": {"by": "k", "columns": {"most": "max(id)"}}}]},
    "counts": {"do": [{"aggregate": {"aggregate": {"n": "count(*)"}}}]},
}


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    strict = draw(st.booleans())
    answer = st.sampled_from([a for a in ANSWERS if not strict or a not in ("fail", "freeze")])
    v: dict[str, Any] = {
        "type": draw(st.sampled_from(["Int64", "Int64", "Float64", "Int16", "String", "Decimal(9, 2)"]))
    }
    if draw(st.booleans()):
        v["alias"] = "value"
    if draw(st.booleans()):
        v["on_type_change"] = draw(answer)
    if draw(st.booleans()):
        v["on_missing_column"] = draw(answer)
    contract = {
        "columns": {"id": "Int64", "k": "String", "v": v, "w": "String"},
        "on_new_column": draw(st.sampled_from([a for a in NEW if not strict or a not in ("fail", "freeze", "ignore")])),
        "on_type_change": draw(answer),
        "on_missing_column": draw(answer),
    }
    return {
        "format": draw(st.sampled_from(["csv", "parquet", "ndjson", "ipc"])),
        "contract": contract,
        "stages": draw(st.lists(st.sampled_from([*STAGES]), min_size=1, max_size=3, unique=True)),
        "first": draw(FILE),
        "steps": draw(st.lists(STEP, min_size=1, max_size=5)),
        "twin": draw(st.booleans()),
        "mode": draw(st.sampled_from([None, None, "append", "upsert"])),
        "scale": draw(st.booleans()),
    }


def cell(kind: str, n: int | None) -> Any:
    if n is None:
        return None
    match kind:
        case "float":
            return n + (0.5 if n % 2 else 0.0)
        case "whole":
            return float(n)
        case "text":
            return ["x", str(n), f"{n}.5", "y z"][n % 4]
        case "digits":
            return str(n)
        case "other":
            return n % 2 == 0
        case _:
            return n


TYPES = {
    "int": pl.Int64,
    "small": pl.Int32,
    "float": pl.Float64,
    "whole": pl.Float64,
    "text": pl.String,
    "digits": pl.String,
    "other": pl.Boolean,
    "nulls": pl.String,
}
NEWS: dict[str, Any] = {
    "int": (pl.Int64, lambda i: i),
    "text": (pl.String, lambda i: f"t{i}"),
    "float": (pl.Float64, lambda i: i + 0.5),
    "nulls": (pl.String, lambda i: None),
    "list": (pl.List(pl.Int64), lambda i: [i, 1]),
    "struct": (pl.Struct({"a": pl.Int64, "b": pl.String}), lambda i: {"a": i, "b": "q"}),
    "struct2": (pl.Struct({"b": pl.String, "c": pl.Int64}), lambda i: {"b": "q", "c": i}),
}


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.case, self.format = base, case, case["format"]
        self.ids = 0
        self.made = 0
        self.clock = 1_700_000_000
        self.files: dict[str, tuple[dict[str, Any], list[int]]] = {}
        (base / "in").mkdir()
        # what there always is
        self.put(
            "f000",
            (
                {"v": "int", "w": "text", "k": "text", "new": None, "order": 0, "alias": False, "broken": False},
                [("a", 1)],
            ),
        )
        self.put(self.name(), case["first"])

    def name(self) -> str:
        self.made += 1
        return f"f{self.made:03}"

    def frame(self, given: Any) -> pl.DataFrame:
        shape, rows = given
        n = len(rows)
        ids = list(range(self.ids, self.ids + n))
        self.ids += n
        columns: dict[str, pl.Series] = {"id": pl.Series(ids, dtype=pl.Int64)}
        if shape["k"] != "none":
            columns["k"] = pl.Series([k for k, _ in rows], dtype=pl.String)
        if shape["v"] != "none":
            name = "value" if shape["alias"] and "alias" in self.case["contract"]["columns"]["v"] else "v"
            columns[name] = pl.Series([cell(shape["v"], v) for _, v in rows], dtype=TYPES[shape["v"]])
        if shape["w"] != "none":
            columns["w"] = pl.Series(
                [
                    None if shape["w"] == "nulls" or v is None else v if shape["w"] == "int" else f"w{v}"
                    for _, v in rows
                ],
                dtype=pl.Int64 if shape["w"] == "int" else pl.String,
            )
        if shape["new"] is not None:
            kind = shape["new"]
            if self.format == "csv" and kind in ("list", "struct", "struct2"):
                kind = "text"
            dtype, make = NEWS[kind]
            columns["new"] = pl.Series([make(i) for i in ids], dtype=dtype)
        names = [*columns]
        random.Random(shape["order"]).shuffle(names)
        if shape["order"] == 0:
            names = [*columns]
        return pl.DataFrame({n: columns[n] for n in names})

    def put(self, name: str, given: Any, grow: bool = False) -> None:
        path = self.base / "in" / f"{name}.{self.format}"
        frame = self.frame(given)
        broken = given[0]["broken"] and self.format in ("csv", "ndjson")
        match self.format:
            case "csv":
                text = frame.write_csv(include_header=not grow)
                if broken:
                    text += "1,2,3,4,5,6,7,8\n"
                if grow:
                    with path.open("a") as file:
                        file.write(text)
                else:
                    path.write_text(text)
            case "ndjson":
                text = frame.write_ndjson() or "\n"
                if broken:
                    text += '{"id": \n'
                with path.open("a" if grow else "w") as file:
                    file.write(text)
            case "ipc":
                frame.write_ipc(path)
            case _:
                frame.write_parquet(path, row_group_size=2)
        # files that are written anew lose the rows they had
        there = self.files.get(name, ({}, []))[1] if grow else []
        self.files[name] = (given[0], [*there, *frame["id"].to_list()])
        self.stamp(path)

    def stamp(self, path: Path) -> None:
        self.clock += 10
        os.utime(path, (self.clock, self.clock))

    def act(self, action: str, index: int, given: Any) -> None:
        if self.case["mode"] and action in ("modify", "remove", "copy"):
            action = "add"  # what is there stays there
        names = sorted(self.files)
        chosen = names[index % len(names)]
        path = self.base / "in" / f"{chosen}.{self.format}"
        match action:
            case "add":
                self.put(self.name(), given)
            case "modify" if chosen != "f000":
                self.put(chosen, given)
            case "grow" if self.format in ("csv", "ndjson"):
                # as its head says
                shape = {**self.files[chosen][0], "broken": given[0]["broken"]}
                if self.format == "ndjson":
                    shape = given[0]
                self.put(chosen, (shape, given[1]), grow=True)
            case "remove" if len(names) > 1 and chosen != "f000":
                path.unlink()
                del self.files[chosen]
            case "touch":
                self.stamp(path)
            case "move":
                name = self.name()
                path.rename(path.with_name(f"{name}.{self.format}"))
                self.files[name] = self.files.pop(chosen)
            case "copy":
                name = self.name()
                path.with_name(f"{name}.{self.format}").write_bytes(path.read_bytes())
                self.files[name] = self.files[chosen]
            case "part":
                with suppress(lp.LazypipeError):
                    self.run("kept", max_files=1 + index % 2)

    def run(self, where: str, **how: Any) -> Any:
        stages = {n: {"from": "s", **STAGES[n]} for n in self.case["stages"]}
        outputs: dict[str, Any] = {n: {"to": f"{where}/{n}"} for n in stages}
        if "all" in outputs and self.case["mode"]:
            outputs["all"] |= {"mode": self.case["mode"], "key": "id"}
        if self.case["twin"]:
            outputs["s"] = {"to": f"{where}/s"}
        data = {
            "version": 1,
            "name": "p",
            "state": f"{where}/state",
            "sources": {"s": {"uri": f"in/*.{self.format}", "contract": self.case["contract"]}},
            "stages": stages,
            "outputs": outputs,
        }
        return lp.Pipeline.from_dict(data, base=str(self.base)).compile().run(**how)

    def held(self, where: str) -> dict[str, Any]:
        found = {}
        for log in sorted((self.base / where).rglob("*.commits")):
            if not any(log.glob("*.json")):
                continue
            name = str(log.relative_to(self.base / where)).removesuffix(".commits")
            frame = lp.scan(str(log).removesuffix(".commits")).collect()
            columns = sorted(c for c in frame.columns if c not in ("_lazypipe_run", "_lazypipe_file"))
            schema = [(c, str(frame.schema[c])) for c in columns]
            if frame.height:
                if "_lazypipe_raw" in columns:
                    # which cells are told of depends on the files that are there; those that fit are null
                    told = [
                        {k: v for k, v in json.loads(r or "{}").items() if v is not None}
                        for r in frame["_lazypipe_raw"]
                    ]
                    frame = frame.with_columns(_lazypipe_raw=pl.Series([json.dumps(t, sort_keys=True) for t in told]))
                found[name] = (schema, Counter(map(repr, frame.select(columns).rows())))
        return found


def ended(result: lp.RunResult) -> dict[str, str]:
    named = {"unchanged": "done"}
    return {s.name: named.get(s.status, s.status) for s in result.segments if s.output is not None}


def outcome(world: World, where: str) -> Any:
    try:
        return world.run(where)
    except lp.LazypipeError as error:
        return f"{type(error).__name__}: {error}".replace(str(world.base), "")


@given(case=cases())
@settings(max_examples=EXAMPLES)
def test_whatever_columns_come(case: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(case["scale"]):
        world = World(Path(folder), case)
        outcome(world, "kept")
        for number, (action, index, given_, due) in enumerate(case["steps"], 1):
            world.act(action, index, given_)
            if not due and number < len(case["steps"]):
                continue
            before = world.held("kept")
            result = outcome(world, "kept")
            fresh = outcome(world, f"fresh{number}")
            if isinstance(fresh, str) or isinstance(result, str):
                assert result == fresh, (action, result, fresh)
                assert world.held("kept") == before
                continue
            for s in (*result.segments, *fresh.segments):
                if s.error is not None:
                    assert isinstance(s.error, lp.LazypipeError)
            if case["mode"] and any(
                "its rows have columns or partitions that differ" in str(s.error) for s in result.segments
            ):
                assert world.held("kept").get("all") == before.get("all")
                result = world.run("kept", full=True)
            assert ended(result) == ended(fresh), (action, result.segments, fresh.segments)
            kept, anew = world.held("kept"), world.held(f"fresh{number}")
            if fresh.status == "done":
                assert kept == anew, (action, result.segments)
                assert counts(result) == {n: counts(fresh)[n] for n in counts(result)}
                again = world.run("kept")
                assert {s.status for s in again.segments if s.output is not None} <= {"unchanged"}, again.segments
                # each row is somewhere, once
                ids = [i for _, of in world.files.values() for i in of]
                if "all" in case["stages"]:
                    there = lp.scan(str(world.base / "kept/all")).collect()["id"].to_list()
                    aside = []
                    for folder_ in ("kept/state/quarantine/p/s", "kept/s__quarantine", "kept/all__quarantine"):
                        if Path(world.base, f"{folder_}.commits").exists():
                            aside = [
                                i for i in lp.scan(str(world.base / folder_)).collect()["id"].to_list() if i is not None
                            ]
                            break
                    assert Counter(there + aside) == Counter(ids), (sorted(there), sorted(aside), sorted(ids))
