"""Joins of which both sides stay, keys that must be unique here, keys of two types, and sides that queries and functions look up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from tests.delivered import CLOCK, alter, put, spoil

FILES = 8
Row = tuple[Any, ...]


class World:
    """Orders in eight files, each with two keys of its own and a null; names of keys, of which some nobody orders."""

    def __init__(self, root: Path, *steps: dict[str, Any], fmt: str = "csv", key: str = "Int64", **more: Any) -> None:
        self.root, self.fmt, self.clock = root, fmt, CLOCK
        self.types = {"orders": {"k": "Int64", "v": "Int64"}, "names": {"k": key, "name": "String"}}
        self.data: dict[str, Any] = {
            "version": 1,
            "name": "p",
            "sources": {
                n: {"uri": f"in/{n}*.{fmt}", "contract": {"columns": of}, **more.get(n, {})}
                for n, of in self.types.items()
            },
            "stages": {"s": {"from": ["orders", *more.get("reads", [])], "do": [*steps]}},
            "outputs": {"s": {"to": "out", **more.get("output", {})}},
        }
        (root / "in").mkdir()
        self.orders: dict[str, list[Row]] = {}
        self.names: list[Row] = [(k, f"name {k}") for k in range(1, 2 * FILES + 4)] + [(None, "nobody")]
        for number in range(FILES):
            self.order(f"orders{number}", (2 * number, 1), (2 * number + 1, 2), (None, 3))
        self.name()

    def write(self, name: str, of: str, rows: list[Row]) -> Path:
        types = {c: getattr(pl, t) for c, t in self.types[of].items()}
        self.clock += 10
        return put(self.root / "in" / f"{name}.{self.fmt}", pl.DataFrame(rows, types, orient="row"), self.clock)

    def order(self, file: str, *rows: Row) -> None:
        self.orders[file] = [*rows]
        self.write(file, "orders", [*rows])

    def name(self, changed: dict[int, str | None] | None = None, *more: Row) -> None:
        """Deliver the names anew: some with another name, some gone, some besides."""
        for k, name in (changed or {}).items():
            self.names = [r for r in self.names if r[0] != k] + ([(k, name)] if name is not None else [])
        self.names += more
        self.write("names", "names", self.names)

    @property
    def plan(self) -> lp.CompiledPipeline:
        return lp.Pipeline.from_dict(self.data, base=str(self.root)).compile(allow=[__name__])

    def run(self, *, only: set[str] | None = None, **how: Any) -> str:
        """Run, and return why; of the orders, only these files can be read."""
        plan = self.plan
        there = [p for p in (self.root / "in").glob("orders*") if only is not None and p.stem not in only]
        whole = {path: spoil(path) for path in there}
        result = plan.run(**how)
        for path, data in whole.items():
            alter(path, data)
        result.raise_for_status()
        why = result.segments[-1].why or ""
        return why.replace(" (1 shorter)", "").replace("1 grown", "1 modified")

    def held(self, *columns: str) -> list[Row]:
        return sorted(lp.scan(str(self.root / "out")).select(columns).collect().rows(), key=repr)

    def pairs(self, *, left: bool = True, right: bool = True, nulls: bool = False) -> list[Row]:
        """What a join gives, of its two sides, by hand: key, v, name."""
        rows = [r for of in self.orders.values() for r in of]
        found = [(k, v, n) for k, v in rows for other, n in self.names if k == other and (nulls or k is not None)]
        met = {k for k, *_ in found}
        found += [(k, v, None) for k, v in rows if k not in met and left]
        return sorted(found + [(k, None, n) for k, n in self.names if k not in met and right], key=repr)


def test_rows_of_both_sides_stay(tmp_path: Path) -> None:
    world = World(tmp_path, {"join": {"with": "names", "on": "k", "how": "full"}})
    assert world.plan.explain_incremental() == (
        "s: reads new and changed files of orders, recomputes only groups by k that they touch, from the files that hold rows of these groups; "
        "if names changes, rebuilds only what uses the changed keys"
    )
    world.run()
    assert world.held("k", "v", "name") == world.pairs()
    # a key that one file has; one that nobody orders; one that was not there; one that goes
    changed: list[tuple[dict[int, str | None], set[str]]] = [
        ({4: "other"}, {"orders2"}),
        ({18: "other"}, set()),
        ({0: "came"}, {"orders0"}),
        ({5: None}, {"orders2"}),
        ({19: None}, set()),
    ]
    for names, files in changed:
        world.name(names)
        rows = len(world.pairs()) + (names == {19: None})
        said = f"names: 1 modified (1 key changed): groups that use them; 1 group touched, of {rows} rows"
        assert world.run(only=files) == said
        assert world.held("k", "v", "name") == world.pairs()
    # a row that finds what stood alone, and one less that does
    world.order("orders9", (17, 1), (18, 2), (99, 3))
    assert world.run(only={"orders9"}).endswith("; 3 groups touched, of 28 rows")
    assert world.held("k", "v", "name") == world.pairs()
    (tmp_path / "in/orders9.csv").unlink()
    del world.orders["orders9"]
    world.run(only=set())
    assert world.held("k", "v", "name") == world.pairs()
    # nulls find nothing, and stay
    world.name({}, (None, "nobody else"))
    world.run()
    assert world.held("k", "v", "name") == world.pairs()
    assert world.plan.run().status == "unchanged"


@pytest.mark.parametrize("fmt", ["csv", "parquet"])
@pytest.mark.parametrize("columns", [None, ["name"]])
def test_rows_of_the_other_side_stay(tmp_path: Path, fmt: str, columns: Any) -> None:
    right = {"left_on": "k", "right_on": "k", "how": "right", **({} if columns is None else {"columns": columns})}
    world = World(tmp_path, {"join": {"with": "names", **right}}, fmt=fmt)
    # with nothing there, the keys here are known all the same
    names, world.names = world.names, []
    world.name()
    world.run()
    assert world.held("k", "v", "name") == []
    world.names = names[3:6]
    world.name()
    world.run(only={"orders2", "orders3"})
    assert world.held("k", "v", "name") == world.pairs(left=False)
    world.names = names
    world.name()
    world.run()
    assert world.held("k", "v", "name") == world.pairs(left=False)
    world.order("orders3", (1, 7), (18, 8))
    world.name({2: None, 15: "other"})
    world.run()  # orders3 had a null, which is a group like others
    assert world.held("k", "v", "name") == world.pairs(left=False)


def test_nulls_that_are_equal_are_a_key(tmp_path: Path) -> None:
    world = World(tmp_path, {"join": {"with": "names", "on": "k", "how": "full", "nulls_equal": True}})
    world.run()
    assert world.held("k", "v", "name") == world.pairs(nulls=True)
    world.names = [(k, "somebody" if k is None else n) for k, n in world.names]
    world.name()
    assert "1 group touched" in world.run()
    assert world.held("k", "v", "name") == world.pairs(nulls=True)


@pytest.mark.parametrize(("how", "validate"), [("left", "1:m"), ("inner", "1:1"), ("full", "1:1"), ("right", "1:m")])
def test_keys_that_must_be_unique_here(tmp_path: Path, how: str, validate: str) -> None:
    world = World(tmp_path, {"join": {"with": "names", "on": "k", "how": how, "validate": validate}})
    sides = {"left": how in ("left", "full"), "right": how in ("right", "full")}
    world.run()
    assert world.held("k", "v", "name") == world.pairs(**sides)
    # only what has to do with the keys that came is compared
    world.order("orders8", (33, 1), (17, 2))
    assert "; 2 groups touched" in world.run(only={"orders8"})
    assert world.held("k", "v", "name") == world.pairs(**sides)
    world.order("orders9", (34, 1), (4, 2))
    fails = r"join: key \(4\) occurs 2 times on a side where validate allows one"
    for how_run in ({"only": {"orders9", "orders2"}}, {"full": True}):
        with pytest.raises(lp.RunError, match=fails):
            world.run(**how_run)
    world.order("orders9", (34, 1))
    world.run(only={"orders9"})
    # a key that stands twice there: refused, or one row more
    world.name({}, (6, "again"))
    if validate == "1:1":
        for full in (False, True):
            with pytest.raises(lp.RunError, match=r"join: key \(6\) occurs 2 times"):
                world.run(full=full)
    else:
        world.run(only={"orders3"})
        assert world.held("k", "v", "name") == world.pairs(**sides)


BEHIND = (
    "s: join can change any row (it follows join, which works by group; write s up to there as an output of its own)"
)


@pytest.mark.parametrize(
    ("steps", "gate", "against"),
    [
        ([], [{"not_null": {"columns": "k", "action": "quarantine"}}], "s: not_null:k removes rows, or changes them"),
        ([{"select": ["v", "name"]}], [], "none of k is in the output unchanged"),
        ([{"join": {"with": "names", "on": "k", "how": "right", "suffix": "_2"}}], [], BEHIND),
    ],
)
def test_what_stands_against_both_sides(tmp_path: Path, steps: list[Any], gate: list[Any], against: str) -> None:
    world = World(tmp_path, {"join": {"with": "names", "on": "k", "how": "full"}}, *steps)
    world.data["stages"]["s"]["gate"] = gate
    assert world.plan.explain_incremental() == f"s: full: {against}"


def test_further_steps_and_partitions_behind_both_sides(tmp_path: Path) -> None:
    steps = [{"derive": {"w": "v * 10"}}, {"filter": "name IS NULL OR name != 'name 3'"}, {"rename": {"k": "key"}}]
    join = {"join": {"with": "names", "on": "k", "how": "full"}}
    world = World(tmp_path, join, *steps, output={"partition_by": "name"})

    def expected() -> list[Row]:
        return sorted(((k, v and v * 10, n) for k, v, n in world.pairs() if n != "name 3"), key=repr)

    world.run()
    assert world.held("key", "w", "name") == expected()
    world.name({3: "name 9", 9: "name 3", 19: "name 1"})
    assert "3 groups touched" in world.run(only={"orders1", "orders4"})
    assert world.held("key", "w", "name") == expected()


def test_so_many_groups_that_all_are_made_anew(tmp_path: Path) -> None:
    world = World(tmp_path, {"join": {"with": "names", "on": "k", "how": "full", "validate": "1:m"}})
    world.run()
    world.name({k: f"new {k}" for k in range(14)})
    assert "touched" not in world.run()
    assert world.held("k", "v", "name") == world.pairs()


@pytest.mark.parametrize(
    ("here", "there"), [("Int64", "Int16"), ("Int64", "UInt64"), ("Float64", "Float32"), ("UInt32", "Int8")]
)
@pytest.mark.parametrize("fmt", ["csv", "parquet"])
def test_keys_of_two_types_are_compared_as_the_join_does(tmp_path: Path, fmt: str, here: str, there: str) -> None:
    world = World(tmp_path, {"join": {"with": "names", "on": "k", "how": "left"}}, fmt=fmt, key=there)
    world.types["orders"]["k"] = here
    for file, rows in [*world.orders.items()]:
        world.order(file, *rows)
    assert (
        world.plan.explain_incremental()
        == "s: reads new and changed files of orders; if names changes, rebuilds only what uses the changed keys"
    )
    world.run()
    assert world.held("k", "v", "name") == world.pairs(right=False)
    world.name({4: "other", 0: "came"})
    why = "names: 1 modified (2 keys changed): 2 of 8 files of orders"
    assert world.run(only={"orders0", "orders2"}) == why
    assert world.held("k", "v", "name") == world.pairs(right=False)


@pytest.mark.parametrize(
    ("here", "there", "how"),
    [
        ("Int64", "Int16", {"how": "full"}),
        ("Int16", "Int64", {"how": "full"}),
        ("Int8", "UInt32", {"how": "right"}),
        ("Int32", "Int8", {"how": "right", "columns": ["name"]}),
        ("Float32", "Float64", {"how": "full"}),
        ("Int16", "UInt16", {"how": "left", "validate": "1:m"}),
        ("UInt8", "Int64", {"how": "inner", "validate": "1:1"}),
    ],
)
@pytest.mark.parametrize("fmt", ["csv", "parquet"])
def test_both_sides_with_keys_of_two_types(
    tmp_path: Path, fmt: str, here: str, there: str, how: dict[str, Any]
) -> None:
    world = World(tmp_path, {"join": {"with": "names", "left_on": "k", "right_on": "k", **how}}, fmt=fmt, key=there)
    world.types["orders"]["k"] = here
    for file, rows in [*world.orders.items()]:
        world.order(file, *rows)
    assert world.plan.explain_incremental() == (
        "s: reads new and changed files of orders, recomputes only groups by k that they touch, from the files that hold rows of these groups; "
        "if names changes, rebuilds only what uses the changed keys"
    )
    sides = {"left": how["how"] in ("left", "full"), "right": how["how"] in ("right", "full")}
    world.run()
    assert world.held("k", "v", "name") == world.pairs(**sides)
    # a key that one file has; some that nobody orders, of which one side's type cannot hold the last
    large = 1.1 if there == "Float64" else 100 if there == "Int8" else 30_000
    world.name({4: "other", 18: "changed"}, (large, "large"))
    world.run(only={"orders2"})
    assert world.held("k", "v", "name") == world.pairs(**sides)
    world.names = [r for r in world.names if r[0] not in (large, 5)]
    world.name()
    world.run(only={"orders2"})
    assert world.held("k", "v", "name") == world.pairs(**sides)
    world.order("orders9", (18, 7), (101, 8))
    world.run(only={"orders9"})
    assert world.held("k", "v", "name") == world.pairs(**sides)
    (tmp_path / f"in/orders9.{fmt}").unlink()
    del world.orders["orders9"]
    world.run(only=set())
    assert world.held("k", "v", "name") == world.pairs(**sides)
    assert world.plan.run().status == "unchanged"


def test_a_gate_looks_up_keys_of_another_type(tmp_path: Path) -> None:
    world = World(tmp_path, key="Int32")
    rule = {"columns": "k", "references": {"to": "names", "column": "k"}, "action": "drop"}
    world.data["stages"]["s"]["gate"] = [{"foreign_key": rule}]
    world.run()
    world.name({5: None})
    assert world.run(only={"orders2"}) == "names: 1 modified (1 key changed): 1 of 8 files of orders"
    there = {k for k, _ in world.names}
    assert world.held("k", "v") == sorted([r for of in world.orders.values() for r in of if r[0] in there], key=repr)


def named(rows: pl.LazyFrame, names: pl.LazyFrame) -> pl.LazyFrame:
    return rows.join(names.filter(pl.col("name") != "hidden"), on="k", how="left")


def counted(rows: pl.LazyFrame, names: pl.LazyFrame) -> pl.LazyFrame:
    return rows.join(names.group_by("k").agg(pl.col("name").max()), on="k", how="left")


def unseen(rows: pl.LazyFrame, names: pl.LazyFrame) -> pl.LazyFrame:
    return rows.join(names, on="k", how="left").map_batches(lambda batch: batch)


LEFT = "SELECT self.k, self.v, names.name FROM self LEFT JOIN names ON self.k = names.k"
GROUPED = "SELECT o.k, o.v, n.name FROM self AS o LEFT JOIN (SELECT k, max(name) AS name FROM names GROUP BY k) AS n ON o.k = n.k"


@pytest.mark.parametrize(
    "step",
    [
        {"sql": LEFT},
        {"sql": GROUPED},
        {"sql": "SELECT n.k, v, name FROM self JOIN names AS n ON self.k = n.k WHERE name != 'hidden'"},
        {"python": {"call": f"{__name__}:named", "with": "names", "incremental": "rows"}},
        {"python": {"call": f"{__name__}:counted", "with": "names", "incremental": "rows"}},
    ],
    ids=["left", "grouped", "inner", "filtered", "counted"],
)
@pytest.mark.parametrize("fmt", ["csv", "parquet"])
def test_sides_of_queries_and_functions_are_followed(tmp_path: Path, fmt: str, step: dict[str, Any]) -> None:
    world = World(tmp_path, step, fmt=fmt, reads=["names"] if "sql" in step else [])
    assert (
        world.plan.explain_incremental()
        == "s: reads new and changed files of orders; if names changes, rebuilds only what uses the changed keys"
    )
    inner = "JOIN names AS" in str(step)

    def expected() -> list[Row]:
        hidden = [(k, v, None if n == "hidden" else n) for k, v, n in world.pairs(left=not inner, right=False)]
        return [r for r in hidden if not inner or r[2] is not None]

    world.run()
    assert world.held("k", "v", "name") == expected()
    world.name({4: "hidden" if "filtered" in str(step) or inner else "other", 0: "came", 18: None})
    why = "names: 1 modified (3 keys changed): 2 of 8 files of orders"
    assert world.run(only={"orders0", "orders2"}) == why
    if "named" in str(step) or inner or "other" in str(world.names):
        assert world.held("k", "v", "name") == expected()
    assert world.plan.run().status == "unchanged"


UNTOLD = "s: sql: rows of names are not matched by equality of unchanged columns alone"


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"sql": LEFT + " AND self.v = names.k"}, "rebuilds only what uses the changed keys"),
        ({"sql": LEFT.replace("self.k = names.k", "self.k + 1 = names.k")}, UNTOLD),
        ({"sql": LEFT.replace("JOIN names", "JOIN (SELECT k + 1 AS k, name FROM names) AS names")}, UNTOLD),
        ({"sql": LEFT.replace("JOIN names", "JOIN (SELECT * FROM names LIMIT 5) AS names")}, UNTOLD),
        ({"sql": "SELECT k, v FROM self WHERE k NOT IN (SELECT k FROM names)"}, UNTOLD),
        ({"sql": "SELECT k, v FROM self WHERE k IN (SELECT k FROM names)"}, "rebuilds only what uses the changed keys"),
        ({"sql": "SELECT self.k, self.v, m.k AS j FROM self LEFT JOIN names AS n ON self.k = n.k LEFT JOIN names AS m ON n.name = m.name"}, UNTOLD),
        ({"sql": "SELECT self.k, n.name, m.name AS other FROM self LEFT JOIN names AS n ON self.k = n.k LEFT JOIN names AS m ON self.v = m.k"}, "rebuilds only what uses the changed keys"),
        ({"python": {"call": f"{__name__}:unseen", "with": "names", "incremental": "rows"}}, "s: python: a function that cannot be analyzed"),
    ],
)  # fmt: skip
def test_which_sides_of_queries_are_followed(tmp_path: Path, step: dict[str, Any], expected: str) -> None:
    world = World(tmp_path, step, reads=["names"] if "sql" in step else [])
    keyed = expected == "rebuilds only what uses the changed keys"
    touched = f"if names changes, {expected}" if keyed else f"if names changes, rebuilds everything ({expected})"
    assert world.plan.explain_incremental() == f"s: reads new and changed files of orders; {touched}"


def test_groups_behind_a_shared_gate_that_looks_up_keys(tmp_path: Path) -> None:
    rule = {"columns": "k", "references": {"to": "names", "column": "k"}, "action": "drop"}
    steps: list[Any] = [{"over": {"by": "k", "columns": {"total": "sum(v)"}}}]
    world = World(tmp_path, *steps, orders={"gate": [{"foreign_key": rule}]})
    world.data["stages"]["twin"] = {"from": "orders", "do": [{"filter": "v > 1"}]}
    world.data["outputs"]["twin"] = {"to": "twin"}

    def expected() -> list[Row]:
        there = {k for k, _ in world.names}
        rows = [r for of in world.orders.values() for r in of if r[0] in there]
        return sorted([(k, v, sum(w for j, w in rows if j == k)) for k, v in rows], key=repr)

    world.run()
    assert world.held("k", "v", "total") == expected()
    world.order("orders8", (4, 10), (17, 1))
    world.run(only={"orders2", "orders8"})
    assert world.held("k", "v", "total") == expected()
    world.name({4: None})
    world.run()
    assert world.held("k", "v", "total") == expected()
