"""Many definitions that feed each other, some of which fail or are wrong: in one go they come to what they come to one after the other, and to what plain Python makes of the files."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.properties.scale import at_scale

SCHEMA = pl.Schema({"k": pl.String, "v": pl.Int64})
ROWS = st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 9)), min_size=1, max_size=3)
# what is wrong with a definition for a while: a gate that fails, a column that is not there, a source that is gone
FAULTS = st.sampled_from([None, None, None, None, "gate", "column", "source"])
NODE = st.fixed_dictionaries(
    {
        # the ones before that it reads; of none, only the files
        "reads": st.sets(st.integers(0, 3), max_size=2),
        "does": st.sampled_from(["rows", "sums", "feed"]),
        "fault": FAULTS,
    }
)
STEP = st.tuples(
    st.sampled_from(["add", "add", "modify", "remove", "nothing", "mend", "break", "only", "alone"]),
    st.integers(0, 4),
    ROWS,
    FAULTS,
)


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.nodes = base, [dict(n) for n in case["nodes"]]
        for number, node in enumerate(self.nodes):
            node["reads"] = sorted(r for r in node["reads"] if r < number)
        self.order = case["order"]
        self.files: dict[str, list[tuple[str | None, int]]] = {}
        self.made = 0
        # what each has published, in one go and one after the other
        self.there: dict[int, Counter[Any]] = {}
        (base / "in").mkdir()
        self.write([("a", 1), ("b", 2)])

    def write(self, rows: Any, name: str | None = None) -> None:
        self.made += 1
        name = name or f"f{self.made:02}"
        self.files[name] = rows
        path = self.base / f"in/{name}.csv"
        pl.DataFrame(rows, schema=SCHEMA, orient="row").write_csv(path)
        os.utime(path, (1_700_000_000 + self.made * 10,) * 2)

    def pipes(self, where: str) -> list[lp.Pipeline]:
        found = []
        for number, node in enumerate(self.nodes):
            types = {"columns": {"k": "String", "v": "Int64"}}
            sources: dict[str, Any] = {
                f"p{r}": {"uri": f"{where}/p{r}__changes" if self.nodes[r]["does"] == "feed" else f"{where}/p{r}"}
                for r in node["reads"]
            }
            fault = node["fault"]
            sources = sources or {"s": {"uri": "in/*.csv", "contract": types}}
            if fault == "source":
                sources["away"] = {"uri": "away/*.csv", "contract": types}
            first, *others = sources
            do: list[Any] = [
                {"filter": "_change <> 'delete' AND _change <> 'update_before'"}
                for r in node["reads"][:1]
                if self.nodes[r]["does"] == "feed"
            ]
            do += [{"select": ["k", "v"]}] + [{"filter": "w > 1"}] * (fault == "column")
            joined = others[:1] if fault != "source" else others
            stages: dict[str, Any] = {}
            for name in joined:
                stages[f"{name}_kv"] = {"from": name, "do": [{"select": ["k", "v"]}]}
                do += [{"union": {"with": f"{name}_kv"}}]
            if node["does"] != "rows":
                do += [
                    {"aggregate": {"by": "k", "aggregate": {"v": "sum(v)"}}},
                    {"fill": {"columns": "k", "value": "z"}},
                ]
            gate = [{"row_count": {"max": 0, "action": "fail"}}] if fault == "gate" else []
            output: dict[str, Any] = {"to": f"{where}/p{number}"}
            output |= {"key": "k", "changes": True} if node["does"] == "feed" else {}
            stages[f"p{number}_rows"] = {"from": first, "do": do, "gate": gate}
            data = {
                "version": 1,
                "name": f"p{number}",
                "state": f"{where}/state{number}",
                "sources": sources,
                "stages": stages,
                "outputs": {f"p{number}": {"from": f"p{number}_rows", **output}},
            }
            found.append(lp.Pipeline.from_dict(data, base=str(self.base)))
        return found

    def held(self, where: str) -> dict[str, Counter[Any]]:
        found = {}
        for number in range(len(self.nodes)):
            for name in (f"p{number}", f"p{number}__changes"):
                if any((self.base / where / f"{name}.commits").glob("*.json")):
                    rows = lp.scan(str(self.base / where / name)).collect()
                    known = ["k", "v", *(["_change"] if "__" in name else [])]
                    found[name] = Counter(rows.select(known).rows())
        return found

    def one_by_one(self, where: str, only: int | None = None) -> dict[str, str]:
        """Run one after the other what does not wait for one that failed."""
        status: dict[str, str] = {}
        wanted = {*range(len(self.nodes))} if only is None else self.above(only)
        for number, (node, pipe) in enumerate(zip(self.nodes, self.pipes(where), strict=True)):
            name = f"p{number}"
            if number not in wanted:
                continue
            if any(status[f"p{r}"] not in ("done", "unchanged") for r in node["reads"]):
                status[name] = "blocked"
                continue
            try:
                status[name] = pipe.compile().run().status
            except lp.LazypipeError as error:
                status[name] = "error"
                assert node["fault"] in ("column", "source"), error
        return status

    def above(self, number: int) -> set[int]:
        return {number}.union(*(self.above(r) for r in self.nodes[number]["reads"]))

    def in_one_go(self, where: str, only: int | None = None) -> dict[str, str]:
        pipes = self.pipes(where)
        order = sorted(range(len(pipes)), key=lambda n: (self.order * (n + 3)) % 7)
        how = {} if only is None else {"outputs": [f"p{only}"]}
        results = lp.run_all([pipes[n] for n in order], **how)
        return {name: result.status for name, result in results.runs.items()}

    def act(self, action: str, index: int, rows: Any, fault: str | None) -> None:
        names = sorted(self.files)
        chosen = names[index % len(names)]
        node = self.nodes[index % len(self.nodes)]
        match action:
            case "add":
                self.write(rows)
            case "modify":
                self.write(rows, chosen)
            case "remove" if len(names) > 1:
                (self.base / f"in/{chosen}.csv").unlink()
                del self.files[chosen]
            case "mend":
                for other in self.nodes:
                    other["fault"] = None
            case "break":
                node["fault"] = fault

    def wanted(self, number: int) -> Counter[Any]:
        """Return what one publishes, if all of them are right."""
        node = self.nodes[number]
        rows: Counter[Any] = Counter()
        for read in node["reads"][:2]:
            rows += self.wanted(read)
        if not node["reads"]:
            rows = Counter(r for of in self.files.values() for r in of)
        if node["does"] == "rows":
            return rows
        sums: dict[Any, int] = {}
        for (k, v), n in rows.items():
            sums[k] = sums.get(k, 0) + v * n
        return Counter((k or "z", v) for k, v in sums.items())


def ended(status: dict[str, str]) -> dict[str, str]:
    """Return how runs ended; groups that are made anew come in any order, so that a file may be the one that was there or not."""
    named = {"unchanged": "done"}
    return {name: named.get(how, how) for name, how in status.items()}


@given(
    case=st.fixed_dictionaries(
        {
            "nodes": st.lists(NODE, min_size=2, max_size=5),
            "order": st.integers(1, 6),
            "scale": st.booleans(),
        }
    ),
    steps=st.lists(STEP, min_size=1, max_size=5),
)
@settings(max_examples=settings().max_examples // 12)
def test_in_one_go_or_one_after_the_other(case: dict[str, Any], steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(case["scale"]):
        world = World(Path(folder), case)
        for action, index, rows, fault in [("nothing", 0, [], None), *steps, ("mend", 0, [], None)]:
            world.act(action, index, rows, fault)
            only = index % len(world.nodes) if action == "only" else None
            apart, together = world.one_by_one("apart", only), world.in_one_go("together", only)
            assert ended(together) == ended(apart), world.nodes
            assert world.held("together") == world.held("apart")
        if not any(n["does"] == "feed" for n in world.nodes):
            for number in range(len(world.nodes)):
                assert world.held("together")[f"p{number}"] == world.wanted(number)
        assert {*world.in_one_go("together").values()} == {"unchanged"}
