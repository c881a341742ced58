"""Joins by time with a limit to lateness: whatever becomes of the files of both sides, rows and late rows are those of a naive join over what is there."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.properties.scale import at_scale

T0 = datetime(2024, 5, 1)
HOUR = timedelta(hours=1)
ROWS = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(0, 9), st.integers(0, 9)), st.sampled_from(["a", "b", "a", "b", None])),
    max_size=3,
    unique=True,
)
CHANGE = st.tuples(
    st.sampled_from(["write", "write", "write", "grow", "remove", "move", "nothing"]),
    st.sampled_from(["trades", "trades", "quotes"]),
    st.integers(0, 3),
    ROWS,
    st.booleans(),
)
JOINS: dict[str, dict[str, Any]] = {
    "before": {"asof_join": {"with": "quotes", "on": "at", "by": ["k"]}},
    "close": {"asof_join": {"with": "quotes", "on": "at", "by": ["k"], "tolerance": "2h"}},
    "after": {"asof_join": {"with": "quotes", "on": "at", "by": ["k"], "strategy": "forward"}},
    "any": {"asof_join": {"with": "quotes", "on": "at"}},
    "near": {"interval_join": {"with": "quotes", "time": "at", "within": ["-1h", "3h"], "by": "k"}},
    "near or not": {
        "interval_join": {"with": "quotes", "time": "at", "within": ["-1h", "3h"], "by": "k", "how": "left"}
    },
}
Row = tuple[int | None, str | None, int]


class World:
    def __init__(self, base: Path, case: dict[str, Any]) -> None:
        self.base, self.case, self.number = base, case, 0
        self.files: dict[str, list[Row]] = {}
        (base / "in").mkdir()
        self.write("trades-x", [(4, "a")])
        self.write("quotes-x", [(4, "a")])

    def write(self, name: str, rows: list[Any], there: list[Row] | None = None) -> None:
        self.number += 1
        held = [*(there or []), *((h, k, self.value(name, h, n)) for n, (h, k) in enumerate(rows))]
        self.files[name] = held
        path = self.base / f"in/{name}.{self.case['format']}"
        value = "v" if name.startswith("trades") else "p"
        made = [(None if h is None else T0 + h * HOUR, k, x) for h, k, x in held]
        frame = pl.DataFrame(made, schema={"at": pl.Datetime("us"), "k": pl.String, value: pl.Int64}, orient="row")
        frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path, row_group_size=1)
        os.utime(path, (1_750_000_000 + 10 * self.number,) * 2)

    def value(self, name: str, hour: int | None, place: int) -> int:
        """Return one by which rows of trades are known; quotes of one time are the same in all files and groups."""
        return 10 * self.number + place if name.startswith("trades") else hour or 0

    def act(self, what: str, side: str, number: int, rows: list[Any]) -> None:
        name = f"{side}-{number}"
        path = self.base / f"in/{name}.{self.case['format']}"
        match what:
            case "write":
                self.write(name, rows)
            case "grow":
                self.write(name, rows, self.files.get(name))
            case "remove" if name in self.files:
                path.unlink()
                del self.files[name]
            case "move" if name in self.files:
                # in another place of the order, if it is one of trades
                there = f"{side}-{9 - number}"
                path.rename(path.with_name(f"{there}.{self.case['format']}"))
                self.files[there] = self.files.pop(name)

    def run(self, where: str) -> tuple[Counter[Any], Counter[Any]]:
        ((kind, arguments),) = JOINS[self.case["join"]].items()
        late = {"allowed_lateness": f"{self.case['lateness']}h", "late": self.case["late"]}
        late = {} if self.case["ahead"] else late
        at = "Datetime(us)"
        trades = {"event_time": "at", "watermark": {"delay": "1h"}}
        quotes = {"event_time": "at", "watermark": {"delay": "2h", "as": "_other"}} if self.case["both"] else {}
        data = {
            "version": 1,
            "name": "p",
            "state": f"{where}/state",
            "sources": {
                "trades": {
                    "uri": f"in/trades-*.{self.case['format']}",
                    "contract": {"columns": {"at": at, "k": "String", "v": "Int64"}},
                    **trades,
                },
                "quotes": {
                    "uri": f"in/quotes-*.{self.case['format']}",
                    "contract": {"columns": {"at": at, "k": "String", "p": "Int64"}},
                    **quotes,
                },
            },
            "stages": {
                "priced": {"from": "trades", "do": [{kind: {**arguments, **late, "columns": ["p"]}}]},
                "sums": {
                    "from": "priced",
                    "do": [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)", "s": "sum(p)"}}}],
                },
            },
            "outputs": {
                "priced": {"to": f"{where}/priced", **({"partition_by": "k"} if self.case["partitioned"] else {})},
                "sums": {"to": f"{where}/sums"},
            },
        }
        further = None
        if self.case["ahead"]:
            self.run_ahead(where, data)
            data["sources"] = {n: {"uri": f"{where}/{n}"} for n in data["sources"]}
            further = {**data, "name": "further", "state": f"{where}/further"}
            further["sources"] = {n: {"uri": f"{where}/{n}"} for n in ("priced", "quotes")}
            further["stages"] = {"sums": data["stages"].pop("sums")} | {
                n: {"from": "quotes", "do": [join]} for n, join in self.joined_again.items()
            }
            further["outputs"] = {"sums": data["outputs"].pop("sums")} | {
                n: {"to": f"{where}/{n}"} for n in self.joined_again
            }
        plan = lp.Pipeline.from_dict(data, base=str(self.base)).compile()
        result = plan.run(max_files=self.case["most"] if where == "kept" else None)
        result.raise_for_status()
        while result.left:
            result = plan.run(max_files=self.case["most"])
            result.raise_for_status()
        if further is not None:
            lp.Pipeline.from_dict(further, base=str(self.base)).compile().run().raise_for_status()
        rows = lp.scan(str(self.base / where / "priced")).collect()
        found = Counter(zip(self.hours(rows["at"]), rows["k"], rows["v"], rows["p"], strict=True))
        sums = lp.scan(str(self.base / where / "sums")).collect()
        told: dict[Any, list[int | None]] = {}
        for row, n in found.items():
            told.setdefault(row[1], []).extend([row[3]] * n)
        assert Counter(sums.select("k", "n", "s").rows()) == Counter(
            (k, len(ps), sum(p for p in ps if p is not None) if any(p is not None for p in ps) else None)
            for k, ps in told.items()
        )
        late_ = Counter[Any]()
        if self.case["ahead"]:
            self.judge_again(where, found)
        elif self.case["late"] == "quarantine":
            aside = plan.late("priced").collect()
            late_ = Counter(zip(self.hours(aside["at"]), aside["k"], aside["v"], strict=True))
        else:
            assert (
                result.gates.get("priced__late") is None
                or where == "kept"
                or result.gates["priced__late"].dropped == self.wanted()[1].total()
            )
        return found, late_

    @property
    def joined_again(self) -> dict[str, Any]:
        """What the rows of the first join are joined to by time, in a pipeline of its own."""
        near = {"with": "priced", "time": "at", "within": ["-2h", "1h"], "by": "k", "how": "left", "columns": ["v"]}
        last = {"with": "priced", "on": "at", "by": ["k"], "columns": {"p": "q"}}
        # which of several rows of one moment is the last is not told
        several = self.case["join"].startswith("near")
        return {"around": {"interval_join": near}} | ({} if several else {"since": {"asof_join": last}})

    def judge_again(self, where: str, priced: Counter[Any]) -> None:
        """Hold what is joined once more against a naive join of what there is of both."""
        quotes = [row for n, rows in self.files.items() if n.startswith("quotes") for row in rows]
        wanted: dict[str, Counter[Any]] = {"around": Counter(), "since": Counter()}
        for h, k, p in quotes:
            there = [r for r in priced.elements() if None not in (h, k, r[0]) and r[1] == k]
            for v in [r[2] for r in there if h - 2 <= r[0] <= h + 1] or [None]:
                wanted["around"][h, k, p, v] += 1
            until = [r for r in there if r[0] <= h]
            wanted["since"][h, k, p, max(until, key=lambda r: r[0])[3] if until else None] += 1
        for name in self.joined_again:
            rows = lp.scan(str(self.base / where / name)).collect()
            last = rows["v" if name == "around" else "q"]
            assert Counter(zip(self.hours(rows["at"]), rows["k"], rows["p"], last, strict=True)) == wanted[name], name

    def run_ahead(self, where: str, data: dict[str, Any]) -> None:
        """Make datasets of the files of both sides, in two runs: one side may be behind the other for a while."""
        sources = {n: {"uri": s["uri"], "contract": s["contract"]} for n, s in data["sources"].items()}
        plan = lp.Pipeline.from_dict(
            {
                "version": 1,
                "name": "ahead",
                "state": f"{where}/ahead",
                "sources": sources,
                "stages": {
                    f"{n}_all": {"from": n, "do": [{"filter": "at IS NULL OR k IS NULL OR k <> 'z'"}]} for n in sources
                },
                "outputs": {n: {"from": f"{n}_all", "to": f"{where}/{n}"} for n in sources},
            },
            base=str(self.base),
        ).compile()
        most = self.case["most"] if where == "kept" else None
        for n in sources:
            result = plan.run(max_files=most, outputs=[n])
            result.raise_for_status()
            while result.left:
                result = plan.run(max_files=most, outputs=[n])
                result.raise_for_status()

    def hours(self, column: pl.Series) -> list[int | None]:
        return [None if t is None else round((t - T0) / HOUR) for t in column]

    def wanted(self) -> tuple[Counter[Any], Counter[Any]]:
        kind, lateness = self.case["join"], self.case["lateness"]
        reach = 3 if kind.startswith("near") else 0
        quotes = [
            (h, k) for n, rows in self.files.items() if n.startswith("quotes") for h, k, _ in rows if h is not None
        ]
        found, late, highest = Counter[Any](), Counter[Any](), -1000
        for name in sorted(n for n in self.files if n.startswith("trades")):
            for h, k, v in self.files[name]:
                if not self.case["ahead"] and h is not None and h + reach + lateness <= highest - 1:
                    late[h, k, v] += 1
                    continue
                there = sorted(
                    q for q, of in quotes if h is not None and (kind == "any" or (of == k and k is not None))
                )
                match kind:
                    case "before" | "any":
                        ps: list[int | None] = [*[q for q in there if h is not None and q <= h][-1:]] or [None]
                    case "close":
                        ps = [*[q for q in there if h is not None and h - 2 <= q <= h][-1:]] or [None]
                    case "after":
                        ps = [*[q for q in there if h is not None and q >= h][:1]] or [None]
                    case _:
                        ps = [q for q in there if h is not None and h - 1 <= q <= h + 3]
                        ps = ps or ([None] if kind == "near or not" else [])
                for p in ps:
                    found[h, k, v, p] += 1
            highest = max([highest, *(h for h, _, _ in self.files[name] if h is not None)])
        return found, late


@given(
    case=st.fixed_dictionaries(
        {
            "join": st.sampled_from([*JOINS]),
            "lateness": st.integers(0, 3),
            "late": st.sampled_from(["quarantine", "quarantine", "drop"]),
            "format": st.sampled_from(["csv", "parquet"]),
            "partitioned": st.booleans(),
            "both": st.booleans(),
            # whether both sides are datasets of another pipeline, where no row is late, and a third one reads what comes of it
            "ahead": st.booleans(),
            "most": st.sampled_from([None, None, 1]),
            "scale": st.booleans(),
        }
    ),
    changes=st.lists(CHANGE, min_size=1, max_size=7),
)
@settings(max_examples=settings().max_examples // 6)
def test_rows_and_late_rows_are_those_of_a_naive_join(case: dict[str, Any], changes: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(case["scale"]):
        world = World(Path(folder), case)
        for number, (what, side, place, rows, due) in enumerate(changes, 1):
            world.act(what, side, place, rows)
            if due or number == len(changes):
                assert world.run("kept") == (
                    world.wanted()[0],
                    world.wanted()[1] if case["late"] == "quarantine" else Counter(),
                )
        assert world.run("fresh")[0] == world.wanted()[0]
