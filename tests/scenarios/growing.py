"""A folder with files that others write on, and a pipeline over them that must come to what one comes to which has never run before."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lazypipe as lp
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit

OLD = 1_700_000_000
NOW = datetime.fromtimestamp(OLD, UTC) + timedelta(days=30)
UNIQUE = {"unique": {"columns": "id", "action": "warn"}}
SUMS = {"do": [{"aggregate": {"by": "k", "aggregate": {"n": "count(*)", "s": "sum(v)"}}}]}
KINDS: dict[str, dict[str, Any]] = {
    "rows": {"do": [{"filter": "id IS NULL OR id < 1000"}]},
    "sums": SUMS,
    "gated": {"gate": [{"between": {"column": "v", "max": 50, "action": "quarantine"}}]},
    "keys": {"gate": [UNIQUE]},
    "all": {"do": [{"over": {"by": "k", "columns": {"n": "count(*)"}}}]},
}
GATES: dict[str, Any] = {
    "gated": {"gate": [{"not_null": {"columns": "v", "action": "quarantine"}}]},
    "keys": {"gate": [UNIQUE]},
}
"""Of the source."""


class Growing:
    """Stage ``o`` does with source ``s`` what its kind says; ``more`` are further sources, stages and outputs."""

    kinds = KINDS

    def __init__(self, base: Path, kind: str, uri: str) -> None:
        self.base = base
        self.kind = kind
        self.uri = uri
        self.source: dict[str, Any] = {}
        self.output: dict[str, Any] = {}
        self.more: dict[str, Any] = {}
        self.runs = 0
        self.writes = 0

    def stamp(self, path: Path) -> None:
        """Files were written one after the other."""
        self.writes += 1
        os.utime(path, (OLD + self.writes, OLD + self.writes))

    def data(self, out: str = "out") -> dict[str, Any]:
        return {
            "version": 1,
            "name": "p",
            "state": f"{out}/state",
            # what others are compared with need not be written down
            **({"audit": "off"} if out != "out" else {}),
            "sources": {
                "s": {"uri": self.uri, **GATES.get(self.kind, {}), **self.source},
                **self.more.get("sources", {}),
            },
            "stages": {"o": {"from": "s", **self.kinds[self.kind]}, **self.more.get("stages", {})},
            "outputs": {
                "o": {"to": f"{out}/o", **self.output},
                **{n: {"to": f"{out}/{n}", **o} for n, o in self.more.get("outputs", {}).items()},
            },
        }

    def plan(self, out: str = "out") -> lp.Plan:
        return lp.Pipeline.from_dict(self.data(out), base=str(self.base)).compile()

    def run(self, out: str = "out", **more: Any) -> lp.RunResult:
        result = self.plan(out).run(now=NOW, **more)
        result.raise_for_status()
        return result

    def step(self, **more: Any) -> lp.SegmentResult:
        """Return what became of ``o``."""
        return next(s for s in self.run(**more).segments if s.name == "o")

    def rows(self, out: str = "out", name: str = "o") -> list[Any]:
        return sorted(lp.scan(str(self.base / out / name)).collect().rows(), key=repr)

    def commit(self, out: str = "out", name: str = "o") -> Commit:
        return Dataset(str(self.base / out / name)).read()

    def told(self, out: str) -> list[Any]:
        """Return all that stands in outputs and quarantines, and what gates counted, without what differs from run to run."""
        said: list[Any] = [self.rows(out, n) for n in ["o", *self.more.get("outputs", {})]]
        for folder in (f"{out}/o__quarantine", f"{out}/state/quarantine/p/s"):
            dataset = Dataset(str(self.base / folder))
            if dataset.latest() is not None:
                aside = dataset.scan(dataset.latest()).drop("_lazypipe_run").collect()
                said.append(sorted(aside.rows(), key=repr) if aside.height else None)
            else:
                said.append(None)
        counts = ("node", "rows", "good", "quarantined")
        gates = [[*(g[n] for n in counts), [c["failed"] for c in g["checks"]]] for g in self.commit(out).info["gates"]]
        return [*said, gates]

    def same(self, **more: Any) -> lp.SegmentResult:
        """Run, and compare with a pipeline that has never run before."""
        result = self.step(**more)
        self.runs += 1
        full = f"full{self.runs}"
        self.run(full)
        assert self.told("out") == self.told(full)
        shutil.rmtree(self.base / full)
        return result
