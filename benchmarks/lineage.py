"""What lineage and the ledger cost: on runs, and on questions over many pipelines.

    uv run python benchmarks/lineage.py [--runs 9] [--pipelines 1000]

Runs are timed with and without reading the plan that is executed, carrying tags and the ledger, in turn, and the ratio of medians counts: of
pipelines/flights.yaml, and of ten million rows through a gate. The catalog has pipelines of 50 columns that feed each other.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import HERE, orders, publish

import lazypipe as lp
from lazypipe.compile.compiler import CompiledPipeline
from lazypipe.plan.reader import Capture
from lazypipe.spec.model import Audit

PIPELINES = HERE.parent / "pipelines"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--pipelines", type=int, default=1000)
    parser.add_argument("--files", type=int, default=10)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(PIPELINES, Path(folder) / "flights", ignore=shutil.ignore_patterns("out", ".lazypipe"))
        flights = lp.load(Path(folder) / "flights/flights.yaml")
        rows.append(overhead("flights", flights, options.runs * 3))
        rows.append(overhead(f"gate, {options.files} M rows", gated(options.files, Path(folder)), options.runs))
    rows += catalog(options.pipelines)
    publish(
        "lineage",
        rows,
        note="seconds of a run with lineage and ledger over one without, medians of runs in turn; answers in milliseconds",
    )


def gated(files: int, folder: Path) -> lp.Pipeline:
    rules = [
        {"not_null": {"columns": "email", "action": "quarantine"}},
        {"in_set": {"column": "country", "values": ["DE", "FR", "US"], "action": "warn"}},
    ]
    tags = {"email": {"tags": ["pii"]}}
    pipe = lp.pipeline("gate", base=str(folder)).source(
        "orders", f"{orders(files)}/orders-00[0-{files - 1}].parquet", columns=tags
    )
    return pipe.stage("checked", "orders", gate=rules).output("checked", "out/checked").build()


def _no_capture(*_: Any) -> None:
    pass


_TAGS = CompiledPipeline.__dict__["_tags"]
_NO_TAGS = property(lambda _: {})


def overhead(name: str, pipe: lp.Pipeline, runs: int) -> dict[str, Any]:
    """Time runs with and without lineage, in turn; what it costs inside is also timed by itself."""
    seconds: Mapping[bool, list[float]] = {True: [], False: []}
    inside: list[float] = []
    capture = Capture.__call__
    for turn in range(runs + 1):
        for on in (True, False):
            spent: list[float] = []
            if on:

                def timed(self: Capture, *arguments: Any, into: list[float] = spent) -> None:
                    begun = time.perf_counter()
                    capture(self, *arguments)
                    into.append(time.perf_counter() - begun)

                Capture.__call__ = timed  # type: ignore[method-assign]
            else:
                Capture.__call__ = _no_capture  # type: ignore[method-assign]
                CompiledPipeline._tags = _NO_TAGS  # type: ignore[assignment]  # noqa: SLF001
            plan = replace(pipe, audit=Audit("recorded" if on else "off")).compile()
            begun = time.perf_counter()
            plan.run().raise_for_status()
            taken = time.perf_counter() - begun
            CompiledPipeline._tags, Capture.__call__ = _TAGS, capture  # type: ignore[assignment]  # noqa: SLF001
            if turn:
                seconds[on].append(taken)
                if on:
                    inside.append(sum(spent))
    on_, off = statistics.median(seconds[True]), statistics.median(seconds[False])
    return {
        "what": f"run: {name}", "seconds": on_, "ratio": on_ / off, "reading_the_plan_%": 100 * statistics.median(inside) / off
    }  # fmt: skip


def catalog(count: int) -> list[dict[str, Any]]:
    """Index pipelines of 50 columns, each reading the one before, and ask."""
    columns = {"columns": {f"c{i:02}": "Int64" for i in range(50)}}
    pipes = []
    for number in range(count):
        source = f"/lake/t{number}"
        pipe = lp.pipeline(f"p{number}").source("a", source, format="dataset", contract=columns)
        steps = [{"filter": "c00 > 0"}, {"derive": {f"c{i:02}": f"c{i:02} + c{i - 1:02}" for i in range(1, 50, 7)}}]
        # chains of ten pipelines
        target = f"/lake/t{number + 1}" if (number + 1) % 10 else f"/lake/end{number}"
        pipes.append(pipe.stage("b", "a", do=steps).output("b", target).build())
    begun = time.perf_counter()
    plans = [pipe.compile() for pipe in pipes]
    compiled = time.perf_counter()
    found = lp.catalog(plans)
    joined = time.perf_counter()
    found.upstream("p0/b.c01")
    indexed = time.perf_counter()
    rows: list[dict[str, Any]] = [
        {"what": f"catalog: compile {count} pipelines", "seconds": compiled - begun},
        {"what": "catalog: read and join lineage", "seconds": joined - compiled},
        {"what": "catalog: index", "seconds": indexed - joined},
    ]
    last = min(count, 10) - 1
    questions = {
        "upstream": lambda: found.upstream(f"p{last}/b.c43"),
        "downstream": lambda: found.downstream("p0/a.c00"),
        "impact": lambda: found.impact("p0/a.c00"),
        "path": lambda: found.path("p0/a.c42", f"p{last}/b.c43"),
    }
    for name, ask in questions.items():
        times = []
        for _ in range(20):
            begun = time.perf_counter()
            ask()
            times.append(time.perf_counter() - begun)
        rows.append(
            {
                "what": f"catalog: {name}",
                "seconds": statistics.median(times),
                "milliseconds": 1000 * statistics.median(times),
            }
        )
    return rows


if __name__ == "__main__":
    main()
