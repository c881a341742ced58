"""What lineage and the ledger cost: on runs, and on questions over many pipelines.

    uv run python benchmarks/lineage.py [--runs 15] [--pipelines 1000]

Compile and run are timed with ``audit: recorded`` and with ``audit: off``, which reads no plan and keeps no ledger, in turn: of
pipelines/flights.yaml, and of ten million rows through a gate. On the wall the ratio of medians counts; of processor time the median of the
ratios of pairs, with the quartiles between which half of them lie: where these are far apart, the machine was too busy to tell.
The catalog has pipelines of 50 columns that feed each other.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import DATA, TOY, example, orders, parse, publish

import lazypipe as lp
from lazypipe.spec.model import Audit
from lazypipe.storage.content import hash_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--pipelines", type=int, default=1000)
    parser.add_argument("--files", type=int, default=10)
    options = parse(parser, "--runs 1 --pipelines 3 --files 1")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=DATA) as folder:
        example(Path(folder) / "flights")
        flights = lp.load(Path(folder) / "flights/flights.yaml")
        rows += overhead("flights", flights, Path(folder), options.runs * 3)
        gate = gated(options.files, Path(folder))
        rows += overhead(f"gate, {options.files} M rows", gate, Path(folder), options.runs)
    rows += catalog(options.pipelines)
    publish(
        "lineage",
        rows,
        note="compile and run with lineage and ledger over those without, runs in turn: medians on the wall, of processor time pairs; answers in milliseconds",
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


def overhead(name: str, pipe: lp.Pipeline, folder: Path, runs: int) -> list[dict[str, Any]]:
    """Time compile and run with and without lineage and ledger, in turn: where nothing was ever run, and once more in full.

    The first run of a definition also writes down its lineage, and hashes all that it reads; later ones know both. What is written is
    hashed by each: ``hashing_%`` is what that takes by itself, on one thread and with nothing beside it.
    """
    seconds: dict[tuple[str, bool], list[float]] = {
        (when, on): [] for when in ("first", "again") for on in (True, False)
    }
    cpu: dict[tuple[str, bool], list[float]] = {key: [] for key in seconds}
    hashing: dict[str, list[float]] = {"first": [], "again": []}
    for turn in range(1 if TOY else runs + 1):
        for on in (True, False) if turn % 2 else (False, True):
            with tempfile.TemporaryDirectory(dir=folder) as state:
                audited = replace(
                    pipe,
                    audit=Audit("recorded" if on else "off"),
                    state=f"{state}/state",
                    outputs={n: replace(o, to=f"{state}/{n}") for n, o in pipe.outputs.items()},
                )
                for when in hashing:
                    begun, before = time.perf_counter(), time.process_time()
                    audited.compile().run(run=when, full=True).raise_for_status()
                    if turn or TOY:  # the first turn warms caches
                        seconds[when, on].append(time.perf_counter() - begun)
                        cpu[when, on].append(time.process_time() - before)
                if on and (turn or TOY):
                    written = [p for n in pipe.outputs for p in (Path(state) / n).rglob("again-*.parquet")]
                    hashing["again"].append(_alone(written))
                    sources = [n.source for n in audited.compile().nodes.values() if n.source is not None]
                    read = [Path(f.uri) for source in sources for f in source.snapshot().files]
                    hashing["first"].append(hashing["again"][-1] + _alone(read))
    middle = {key: statistics.median(found) for key, found in seconds.items()}
    spent = {when: statistics.median(cpu[when, False]) for when in hashing}
    pairs = {when: [on / off for on, off in zip(cpu[when, True], cpu[when, False], strict=True)] for when in hashing}
    between = {when: statistics.quantiles(of * 2 if len(of) < 2 else of, n=4) for when, of in pairs.items()}
    return [
        {
            "what": f"{name}, {when}",
            "seconds": middle[when, True],
            "ratio": middle[when, True] / middle[when, False],
            "cpu_ratio": between[when][1],
            "cpu_from": between[when][0],
            "cpu_to": between[when][2],
            "hashing_%": 100 * statistics.median(hashing[when]) / spent[when],
        }
        for when in hashing
    ]


def _alone(files: list[Path]) -> float:
    """Return the CPU seconds that hashing files takes."""
    begun = time.process_time()
    for path in files:
        hash_file(str(path))
    return time.process_time() - begun


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
