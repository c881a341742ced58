"""A change in what rows are looked up in makes only those units anew that hold keys whose rows changed there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.gates.uniqueness import HASH
from lazypipe.incremental.sides import differing, digest, has_repeats
from lazypipe.ops.base import Match
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.numbered import seal
from tests.delivered import CLOCK, put

FILES = 8
JOIN = {"join": {"with": "names", "on": "k", "how": "left"}}


class World:
    """Orders in eight files, each with two keys of its own and one row without, and names of the keys."""

    def __init__(self, root: Path, fmt: str, stages: dict[str, Any], outputs: Any = None, **sources: Any) -> None:
        self.root, self.fmt, self.clock, self.fresh = root, fmt, CLOCK, 0
        columns = {"orders": {"k": "Int64", "v": "Int64"}, "names": {"k": "Int64", "name": "String", "size": "Int64"}}
        self.data: dict[str, Any] = {
            "version": 1,
            "name": "p",
            "sources": {
                name: {"uri": f"in/{name}*.{fmt}", "contract": {"columns": of}, **sources.get(name, {})}
                for name, of in columns.items()
            },
            "stages": stages,
            "outputs": outputs or {[*stages][-1]: {}},
        }
        (root / "in").mkdir()
        self.names = {k: (f"name {k}", k) for k in range(2 * FILES)}
        for number in range(FILES):
            self.orders(number, [(2 * number, 1), (2 * number + 1, 2), (None, 3)])
        self.deliver()

    def orders(self, number: int, rows: list[Any]) -> None:
        self.write(f"orders{number}", pl.DataFrame(rows, schema={"k": pl.Int64, "v": pl.Int64}, orient="row"))

    def write(self, name: str, frame: pl.DataFrame) -> None:
        self.clock += 10
        put(self.root / "in" / f"{name}.{self.fmt}", frame, self.clock)

    def deliver(self, *more: tuple[int | None, str, int | None], **changed: tuple[str, int]) -> None:
        """Deliver all names anew, some of them changed, with further rows."""
        self.names |= {int(k[1:]): value for k, value in changed.items()}
        rows = [*((k, *value) for k, value in self.names.items()), *more]
        schema = {"k": pl.Int64, "name": pl.String, "size": pl.Int64}
        self.write("names", pl.DataFrame(rows, schema=schema, orient="row"))

    def pipe(self, where: str = "out") -> lp.Pipeline:
        outputs = {n: {**o, "to": f"{where}/{n}"} for n, o in self.data["outputs"].items()}
        data = {**self.data, "outputs": outputs, "state": f"{where}/state"}
        if where != "out":  # what others are compared with need not be written down
            data["audit"] = "off"
        return lp.Pipeline.from_dict(data, base=str(self.root))

    def run(self, **how: Any) -> dict[str, lp.SegmentResult]:
        result = self.pipe().compile().run(**how)
        result.raise_for_status()
        return {s.name: s for s in result.segments}

    def why(self, **how: Any) -> str:
        """Run, and return why the output was made; how a file has changed is no matter."""
        return _plain(self.run(**how)["s"].why)

    def held(self, where: str) -> dict[str, list[str]]:
        found = {}
        for log in sorted((self.root / where).rglob("*.commits")):
            frame = lp.scan(str(log).removesuffix(".commits")).collect()
            columns = [c for c in frame.columns if c not in ("_lazypipe_run", "_lazypipe_file")]
            if frame.height:
                found[str(log.relative_to(self.root / where))] = sorted(map(repr, frame.select(columns).rows()))
        return found

    def same(self) -> None:
        """Compare what runs have come to with one full run of the same files; and nothing is left to be done."""
        self.fresh += 1
        fresh = self.pipe(f"fresh{self.fresh}").compile().run()
        fresh.raise_for_status()
        assert self.held("out") == self.held(f"fresh{self.fresh}")
        assert {s.status for s in self.run().values()} == {"unchanged"}

    def rewrite(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change what the last commit of an output says that it consumed."""
        path = max((self.root / "out" / f"{name}.commits").glob("*.json"))
        body = json.loads(path.read_text())
        body.pop("blake3")
        change(body["info"]["consumed"])
        path.write_text(json.dumps(body | {"blake3": seal(body)}))


def _plain(why: str | None) -> str:
    return re.sub("1 grown", "1 modified", (why or "").replace(" (1 shorter)", ""))


FORMATS = pytest.mark.parametrize("fmt", ["csv", "parquet"])


@pytest.mark.parametrize(
    ("fmt", "how"), [("csv", "left"), ("csv", "inner"), ("parquet", "left"), ("parquet", "semi"), ("csv", "anti")]
)
def test_only_units_with_changed_keys_are_made_anew(tmp_path: Path, fmt: str, how: str) -> None:
    world = World(tmp_path, fmt, {"s": {"from": "orders", "do": [{"join": {"with": "names", "on": "k", "how": how}}]}})
    del world.names[9], world.names[3]
    world.deliver()
    world.run()
    world.deliver(k3=("came", 3))
    (told,) = world.pipe().compile().preview()
    said = "names: 1 modified (1 key changed): 1 of 8 files of orders"
    assert (told["how"], _plain(told["why"])) == ("units", said)
    assert [(r["name"], r["files"], r["of"]) for r in told["reads"]] == [("orders", 1, 8), ("names", 1, 1)]
    found = world.run()["s"]
    assert (_plain(found.why), found.written) == (said, {"left": 3, "inner": 2, "semi": 2, "anti": 1}[how])
    world.same()
    # one comes with its file, one goes, and one has another value, which only some joins look at
    world.orders(4, [(8, 1), (9, 5)])
    del world.names[0]
    world.deliver(k15=("other", 15))
    value = how in ("left", "inner")
    many = f"({2 if value else 1} key{'s' * value} changed): {2 if value else 1} of 8 files of orders"
    assert world.why().startswith(f"names: 1 modified {many}; orders: 1 modified")
    world.same()


@pytest.mark.parametrize(
    ("fmt", "how", "then"),
    [
        *(("csv", how, []) for how in ("inner", "semi", "anti")),
        *(("csv", how, [{"filter": "name = 'none'"}]) for how in ("left", "inner")),
        (
            "csv",
            "inner",
            [{"join": {"with": "names", "left_on": "size", "right_on": "k", "columns": {"name": "next"}}}],
        ),
        ("parquet", "inner", [{"filter": "name = 'none'"}]),
    ],
)
def test_keys_are_known_of_rows_that_nothing_was_found_for(tmp_path: Path, fmt: str, how: str, then: list[Any]) -> None:
    """A join with nothing ends its inputs early, and so does a filter that leaves nothing of the other side."""
    steps = [{"join": {"with": "names", "on": "k", "how": how}}, *then]
    world = World(tmp_path, fmt, {"s": {"from": "orders", "do": steps}})
    names = dict(world.names)
    world.names = {7: ("x", 1)} if then else {}
    world.deliver()
    world.run()
    world.names |= {1: ("none", 1), 8: ("none", 1)}
    world.deliver()
    world.run()
    world.same()
    world.names = names
    world.deliver(k11=("none", 4))
    world.run()
    world.same()


def test_the_key_of_one_join_may_come_of_another(tmp_path: Path) -> None:
    tones = {"tones": {"uri": "in/tones.csv", "contract": {"columns": {"name": "String", "tone": "String"}}}}
    stages = {
        "known": {"from": "names", "do": [{"filter": "size >= 0"}], "gate": [{"not_null": "k"}]},
        "s": {
            "from": "orders",
            "do": [
                {"join": {"with": "known", "on": "k", "how": "left"}},
                {"join": {"with": "tones", "on": "name", "how": "inner"}},
                {"derive": {"loud": "tone = 'loud'"}},
            ],
        },
    }
    world = World(tmp_path, "csv", stages)
    world.data["sources"] |= tones
    schema = {"name": pl.String, "tone": pl.String}
    rows = [*((f"name {k}", "low") for k in range(9)), ("odd", "loud")]
    world.write("tones", pl.DataFrame(rows, schema=schema, orient="row"))
    world.run()
    world.deliver(k4=("odd", 4))
    assert world.why() == "names: 1 modified (1 key changed): 1 of 8 files of orders"
    world.same()
    world.write("tones", pl.DataFrame([*rows[:-1], ("odd", "high"), ("name 15", "low")], schema=schema, orient="row"))
    assert world.why() == "tones: 1 modified (2 keys changed): 2 of 8 files of orders"
    world.same()
    # what the gate of the other side takes out is not there
    world.deliver(k4=("name 2", -1))
    assert world.why() == "names: 1 modified (1 key changed): 1 of 8 files of orders"
    world.same()
    # and what it refuses stops the run
    world.deliver((None, "name 3", 1))
    with pytest.raises(lp.GateError, match="not_null:k"):
        world.run()


@pytest.mark.parametrize("equal", [False, True])
def test_a_null_finds_nothing_unless_nulls_are_equal(tmp_path: Path, *, equal: bool) -> None:
    steps = [{"join": {"with": "names", "on": "k", "how": "left", "nulls_equal": equal}}]
    world = World(tmp_path, "parquet", {"s": {"from": "orders", "do": steps}})
    for number in range(3, FILES):
        world.orders(number, [(number, 1)])
    world.run()
    world.deliver((None, "nobody", 1))
    keys, files = (1, 3) if equal else (0, 0)
    said = f"names: 1 modified ({keys} key{'s' * (not keys)} changed): {files} of 8 files of orders"
    assert world.why() == said
    world.same()


def test_columns_that_are_not_taken_change_nothing(tmp_path: Path) -> None:
    steps = [{"join": {"with": "names", "on": "k", "columns": {"name": "of"}}}]
    world = World(tmp_path, "csv", {"s": {"from": "orders", "do": steps}})
    world.run()
    world.deliver(k1=("name 1", 77), k2=("name 2", 78))
    first = Dataset(str(tmp_path / "out/s")).read()
    found = world.run()["s"]
    assert (_plain(found.why), found.written) == ("names: 1 modified (0 keys changed): 0 of 8 files of orders", 0)
    commit = Dataset(str(tmp_path / "out/s")).read()
    assert (commit.version, commit.files, commit.gone) == (2, first.files, first.gone)
    world.same()


def test_if_most_units_are_touched_all_are_made_anew(tmp_path: Path) -> None:
    world = World(tmp_path, "csv", {"s": {"from": "orders", "do": [JOIN]}})
    world.run()
    world.deliver(**{f"k{k}": ("new", 1) for k in range(10)})
    said = "names: 1 modified (10 keys changed): 5 of 8 files of orders, more than half: everything is rebuilt"
    assert world.why() == said
    assert Dataset(str(tmp_path / "out/s")).read().gone == frozenset()
    world.same()
    world.deliver(k1=("again", 1))
    assert world.why() == "names: 1 modified (1 key changed): 1 of 8 files of orders"
    world.same()


@pytest.mark.parametrize("nulls_equal", [False, True])
def test_keys_that_must_be_unique_are_refused_as_ever(tmp_path: Path, *, nulls_equal: bool) -> None:
    steps = [{"join": {"with": "names", "on": "k", "how": "left", "validate": "m:1", "nulls_equal": nulls_equal}}]
    world = World(tmp_path, "parquet", {"s": {"from": "orders", "do": steps}})
    world.run()
    world.deliver(k1=("other", 1))
    assert world.why() == "names: 1 modified (1 key changed): 1 of 8 files of orders"
    world.same()
    world.deliver((3, "twice", 1))
    assert world.pipe().compile().preview()[0]["why"] == "names: 1 modified; keys of names are not unique"
    with pytest.raises(lp.LazypipeError, match="join"):
        world.run()


@FORMATS
def test_rows_are_looked_up_again_by_gates(tmp_path: Path, fmt: str) -> None:
    gate = [
        {"foreign_key": {"columns": "k", "references": {"to": "names", "column": "k"}, "action": "quarantine"}},
        {"between": {"column": "v", "max": 9, "action": "warn"}},
    ]
    world = World(tmp_path, fmt, {"s": {"from": "orders", "do": [{"filter": "v > 0"}], "gate": gate}})
    del world.names[4]
    world.deliver()
    world.run()
    del world.names[9]
    world.deliver(k4=("came", 1), k2=("no matter", 1))
    found = world.run()["s"]
    assert _plain(found.why) == "names: 1 modified (2 keys changed): 2 of 8 files of orders"
    assert [(g.rows, g.quarantined) for g in found.gates] == [(24, 1)]
    world.same()


def test_how_often_a_key_is_found_may_matter(tmp_path: Path) -> None:
    rule = {"columns": "k", "references": {"to": "names", "column": "k"}, "min": 1, "max": 1, "action": "warn"}
    stages = {"s": {"from": "orders", "do": [], "gate": [{"cardinality": rule}]}}
    world = World(tmp_path, "csv", stages)
    world.run()
    world.deliver((3, "again", 1))
    found = world.run()["s"]
    assert _plain(found.why) == "names: 1 modified (1 key changed): 1 of 8 files of orders"
    assert [c.failed for g in found.gates for c in g.checks] == [1]
    world.same()


def test_a_repaired_key_is_not_followed(tmp_path: Path) -> None:
    gate = [
        {"between": {"column": "k", "max": 9, "action": "repair", "repair": {"set": "9"}}},
        {"foreign_key": {"columns": "k", "references": {"to": "names", "column": "k"}, "action": "quarantine"}},
    ]
    world = World(tmp_path, "csv", {"s": {"from": "orders", "do": [], "gate": gate}})
    assert world.pipe().compile().explain_incremental() == (
        "s: reads new and changed files of orders; if names changes, rebuilds everything (s: foreign_key:k looks up a column that the same gate repairs)"
    )
    world.run()
    del world.names[9]
    world.deliver()
    assert world.why().startswith("names: 1 ")
    world.same()


SUMS = {"aggregate": {"by": "name", "aggregate": {"n": "count(*)", "sum": "sum(v)"}}}


def test_figures_of_units_with_changed_keys_are_made_anew(tmp_path: Path) -> None:
    world = World(tmp_path, "csv", {"s": {"from": "orders", "do": [JOIN, SUMS]}})
    world.run()
    world.deliver(k5=("name 4", 4))
    found = world.run()["s"]
    said = "names: 1 modified (1 key changed): 1 of 8 files of orders; 3 groups touched, of 17 rows"
    assert (_plain(found.why), found.written) == (said, 2)
    world.same()


def test_only_groups_with_changed_keys_are_made_anew(tmp_path: Path) -> None:
    steps = [
        {"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}},
        {"rename": {"k": "of"}},
        {"join": {"with": "names", "left_on": "of", "right_on": "k", "how": "left", "columns": {"name": "name"}}},
        {"join": {"with": "names", "on": "name", "how": "inner"}},
    ]
    gate = [{"not_null": {"columns": "of", "action": "warn"}}]
    world = World(tmp_path, "csv", {"s": {"from": "orders", "do": steps, "gate": gate}})
    world.run()
    world.deliver(k5=("name 4", 4))
    *_, told = world.pipe().compile().preview()
    assert (told["how"], [r["files"] for r in told["reads"]]) == ("units", [0])
    # one key by its number, and two by their names
    said = "names: 1 modified (3 keys changed): groups that use them"
    assert _plain(told["why"]) == said
    found = world.run()["s"]
    assert (_plain(found.why), found.written) == (f"{said}; 2 groups touched, of 16 rows", 4)
    world.same()
    world.deliver(k6=("name 4", 4))
    world.orders(7, [(1, 5)])
    world.run()
    world.same()


def test_what_cannot_be_told_by_groups_is_made_of_all_figures(tmp_path: Path) -> None:
    sums = [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)"}}}]
    stages = {"sums": {"from": "orders", "do": sums}, "s": {"from": "sums", "do": [JOIN]}}
    world = World(tmp_path, "csv", stages)
    world.run()
    world.deliver(k5=("name 4", 4))
    (told,) = world.pipe().compile().preview()
    assert (told["how"], [r["files"] for r in told["reads"]]) == ("units", [0, 1])
    assert _plain(told["why"]) == "names: 1 modified: everything computed from the partial aggregates"
    world.run()
    world.same()
    # nor where rows are not told apart by what groups them
    world.data["stages"]["s"]["do"] = [*sums, JOIN, {"select": ["name", "n"]}]
    world.data["stages"]["s"]["from"] = "orders"
    world.run()
    world.deliver(k6=("name 4", 4))
    assert world.why() == "names: 1 modified: everything computed from the partial aggregates"
    world.same()


def test_units_and_groups_may_look_up_the_same(tmp_path: Path) -> None:
    steps = [JOIN, SUMS, {"join": {"with": "names", "on": "name", "how": "left", "columns": {"size": "size"}}}]
    world = World(tmp_path, "csv", {"s": {"from": "orders", "do": steps}})
    world.run()
    world.deliver(k5=("name 4", 4))
    said = "names: 1 modified (3 keys changed): 1 of 8 files of orders, and groups that use them"
    assert world.why() == f"{said}; 3 groups touched, of 17 rows"
    world.same()


def test_one_side_may_be_looked_up_ahead_of_groups_and_behind_them(tmp_path: Path) -> None:
    gate = [{"foreign_key": {"columns": "name", "references": {"to": "names", "column": "name"}, "action": "warn"}}]
    world = World(tmp_path, "csv", {"s": {"from": "orders", "do": [JOIN, SUMS], "gate": gate}})
    world.run()
    world.deliver(k5=("name 4", 4))
    assert (
        world.why()
        == "names: 1 modified (1 key changed): 1 of 8 files of orders, and everything computed from the partial aggregates"
    )
    world.same()


@pytest.mark.parametrize(
    ("fmt", "outputs"), [("csv", ("large", "s", "t")), ("csv", ("t", "u")), ("parquet", ("large", "t", "u"))]
)
def test_units_may_be_those_of_another_output(tmp_path: Path, fmt: str, outputs: tuple[str, ...]) -> None:
    """Or of a stage that two outputs are made of, and which is kept for the run only."""
    stages = {
        "large": {"from": "orders", "do": [{"filter": "v > 0"}]},
        "s": {"from": "large", "do": [JOIN], "gate": [{"not_null": {"columns": "k", "action": "quarantine"}}]},
        "t": {"from": "s", "do": [{"filter": "v < 3"}]},
        "u": {"from": "s", "do": [SUMS]},
    }
    world = World(tmp_path, fmt, stages, {n: {} for n in outputs})
    world.run()
    world.deliver(k5=("name 4", 4))
    found = world.run()
    of = "large" if "large" in outputs else "orders"
    assert found["s"].written == 2
    assert (
        _plain(found["s" if "s" in outputs else "t"].why) == f"names: 1 modified (1 key changed): 1 of 8 files of {of}"
    )
    assert found["t"].written == 2
    world.same()
    # the same unit a second time, and another with a file that changes too
    world.orders(4, [(8, 1), (1, 2)])
    world.deliver(k4=("name 3", 3), k5=("name 5", 5))
    assert {s.written for n, s in world.run().items() if n == "t"} == {4}
    world.same()
    world.deliver(k1=("name 1", 3))
    while any(s.left or s.status == "done" for s in world.run(max_files=1).values()):
        pass
    world.same()
    (tmp_path / "in" / f"orders2.{fmt}").unlink()
    world.deliver(k2=("name 5", 5))
    world.run()
    world.same()


def test_a_dimension_may_be_an_output_of_its_own(tmp_path: Path) -> None:
    stages = {
        "known": {"from": "names", "do": [{"filter": "size >= 0"}]},
        "s": {"from": "orders", "do": [{"join": {"with": "known", "on": "k"}}]},
        "t": {"from": "orders", "do": [{"join": {"with": "known", "on": "k", "how": "anti"}}]},
    }
    world = World(tmp_path, "parquet", stages, {"known": {}, "s": {"partition_by": "size"}, "t": {}})
    world.run()
    world.deliver(k3=("name 3", -1))
    plan = {t["name"]: t["why"] for t in world.pipe().compile().preview()}
    assert plan["s"] == "depends on what known writes in this run"
    found = world.run()
    assert found["s"].why == "known: 1 added, 1 removed (1 key changed): 1 of 8 files of orders"
    world.same()


def test_what_is_ignored_of_either_side(tmp_path: Path) -> None:
    ignore = {"on_modified": "ignore"}
    world = World(tmp_path, "parquet", {"s": {"from": "orders", "do": [JOIN]}}, orders=ignore)
    world.run()
    world.orders(0, [(0, 50)])
    world.deliver(k5=("other", 1))
    assert world.why() == "names: 1 modified (1 key changed): 1 of 8 files of orders"
    assert lp.scan(str(tmp_path / "out/s")).filter(pl.col("v") == 50).collect().is_empty()
    # rows that are ignored as they are now cannot be joined again
    world.deliver(k0=("other", 1))
    why = world.why()
    assert "1 of 8 files of orders, some of which cannot be read again one by one" in why
    world.same()


def test_of_a_side_that_is_ignored_nothing_is_kept(tmp_path: Path) -> None:
    world = World(tmp_path, "parquet", {"s": {"from": "orders", "do": [JOIN]}}, names={"on_modified": "ignore"})
    world.run()
    world.deliver(k5=("other", 1))
    world.orders(FILES, [(1, 1)])
    world.run()
    assert "digests" not in Dataset(str(tmp_path / "out/s")).read().info["consumed"]
    schema = {"k": pl.Int64, "name": pl.String, "size": pl.Int64}
    world.write("names-more", pl.DataFrame([(99, "more", 1)], schema=schema, orient="row"))
    why = world.why()
    assert why.endswith(
        "the keys of names were not stored; names: rows of 1 ignored file are not kept, because everything is rebuilt"
    )
    world.same()


def test_what_cannot_be_compared_is_read_in_whole(tmp_path: Path) -> None:
    world = World(tmp_path, "csv", {"s": {"from": "orders", "do": [JOIN]}}, names={"on_corrupt": "skip"})
    world.run()
    path = tmp_path / "in" / "names.csv"
    text = path.read_text()
    put(path, text.replace("name 3,3", "name 3,three"), world.clock + 5)
    result = world.pipe().compile().run()
    assert result.status in ("done", "error")
    put(path, text, world.clock + 9)
    world.run()
    world.same()


def test_a_commit_that_says_nothing_of_keys_is_built_upon(tmp_path: Path) -> None:
    world = World(tmp_path, "csv", {"s": {"from": "orders", "do": [JOIN]}})
    world.run()
    world.rewrite("s", lambda said: said.pop("digests"))
    world.deliver(k5=("other", 1))
    assert world.why() == "names: 1 modified; the keys of names were not stored"
    world.same()


def test_later_versions_go_on_with_what_was_kept(tmp_path: Path) -> None:
    """Through compaction, vacuum and going back to another version."""
    world = World(tmp_path, "parquet", {"s": {"from": "orders", "do": [JOIN]}})
    world.run()
    world.deliver(k5=("other", 1))
    world.run()
    uri = str(tmp_path / "out/s")
    lp.optimize.compact(uri)
    lp.vacuum(uri, keep=2)
    world.deliver(k6=("other", 1))
    assert world.why() == "names: 1 modified (1 key changed): 1 of 8 files of orders"
    world.same()
    lp.rollback(uri, version=Dataset(uri).read().version - 1)
    world.deliver(k6=("another", 1))
    assert world.why() == "names: 1 modified (1 key changed): 1 of 8 files of orders"
    world.same()


@pytest.mark.parametrize("what", ["count(name)", "median(length(name))"])
def test_windows_that_wait_are_followed(tmp_path: Path, what: str) -> None:
    """Names that change, come and go make anew windows that are closed, and are not forgotten for those that are not."""
    step = {"window": {"time": "at", "every": "1h", "emit": "on_close", "aggregate": {"n": what}}}
    world = World(tmp_path, "parquet", {"s": {"from": "orders", "do": [JOIN, step]}})
    (tmp_path / "done").mkdir()
    world.data["sources"]["orders"] |= {"event_time": "at", "watermark": {"marker": "done/%Y-%m-%dT%H.ok"}}
    world.data["sources"]["orders"]["contract"] = {"columns": {"k": "Int64", "v": "Int64", "at": "Datetime(us)"}}
    for number in range(FILES):
        at = pl.from_epoch(pl.lit(number * 3600)).cast(pl.Datetime("us")).alias("at")
        world.write(f"orders{number}", pl.DataFrame({"k": [number], "v": [1]}).with_columns(at))
    said = world.pipe().compile().explain_incremental()
    assert "window_start, window_end that they touch or event time reaches" in said
    assert said.endswith("; if names changes, rebuilds only what uses the changed keys")

    def reached(hour: int) -> None:
        (tmp_path / "done" / f"1970-01-01T{hour:02}.ok").touch()

    reached(5)
    world.run()
    world.deliver(k1=("others", 1), k6=("others", 1))
    told = "names: 1 modified (2 keys changed): 2 of 8 files of orders; 1 group touched, of 5 rows"
    assert world.why() == told
    world.same()
    reached(6)  # nothing came
    assert world.why() == "event time has reached 1970-01-01T06:00:00; 1 group touched, of 5 rows"
    world.same()
    del world.names[2]
    world.deliver()
    assert world.why() == "names: 1 modified (1 key changed): 1 of 8 files of orders; 1 group touched, of 6 rows"
    world.same()
    reached(8)
    world.deliver(k3=("another", 1))
    assert world.why() == "names: 1 modified (1 key changed): 1 of 8 files of orders; 3 groups touched, of 6 rows"
    world.same()


# digests


def test_digests_tell_rows_apart() -> None:
    match = Match(("k",), "other", ("k",), ("v", "w", "l"))
    schema = {"k": pl.Int64, "v": pl.Float64, "w": pl.String, "l": pl.List(pl.Int64)}
    rows = [(1, 0.0, "a", [1]), (1, 1.0, "b", [2]), (2, 2.0, "c", None), (3, None, None, []), (None, 1.0, "a", [])]

    def changed(now: list[Any], match: Match = match) -> int:
        old, new = (pl.LazyFrame(r, schema=schema, orient="row") for r in (rows, now))
        digests = [digest(f, pl.Schema(schema), match).collect() for f in (old, new)]
        assert digests[0].columns[0] == HASH
        return len(differing(digests[0].lazy(), digests[1]))

    assert changed(rows) == changed([*reversed(rows)]) == changed([*rows, (None, 7.0, "z", [])]) == 0
    assert changed([(1, 0.0, "b", [1]), (1, 1.0, "a", [2]), *rows[2:]]) == 1  # values change places
    assert changed([(1, -0.0, "a", [1]), *rows[1:]]) == 1
    assert changed([rows[0], *rows]) == 1  # once more
    assert changed([*rows[:2], rows[2], (3, None, None, None), rows[4]]) == 1
    assert changed(rows[2:]) == changed([*rows, (9, 1.0, "", [])]) == 1
    nulls = Match(("k",), "other", ("k",), ("v",), nulls=True)
    assert changed([*rows, (None, 7.0, "z", [])], nulls) == 1
    there = Match(("k",), "other", ("k",), times=False)
    assert changed([(1, 5.0, "z", [1]), *rows[2:]], there) == 0
    assert changed(rows[2:], there) == 1
    frame = digest(pl.LazyFrame(rows, schema=schema, orient="row"), pl.Schema(schema), match).collect()
    assert has_repeats(frame)
    assert not has_repeats(frame.clear())
