"""A gated run against the floor: read, check 8 rules, split good rows from bad, write both.

    uv run python benchmarks/gate_pass.py [--millions 5 10 20] [--runs 5]

The floor is the plainest Polars there is: scan the files, sink the same rows. By default a run also hashes each file for the ledger, which opens it
once more; ``audit: off`` shows the pass alone. Peers: the same result in three passes (good
rows, bad rows, counts), and eagerly. All write the same rows with the same settings.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from functools import partial
from pathlib import Path

import polars as pl
from common import Clock, Opens, measure, orders, parse, publish

import lazypipe as lp

EMAIL = r"^[^@\s]+@[^@\s]+\.[a-z]+$"
COUNTRIES = ["DE", "FR", "US", "GB", "IT", "ES", "NL", "BE", "PL", "SE"]
STATUSES = ["new", "paid", "sent", "done", "void"]
RULES = [
    {"unique": "order_id"},
    {"not_null": {"columns": "email", "action": "quarantine"}},
    {"expression": {"condition": f"email ~ '{EMAIL}'", "id": "email", "action": "quarantine"}},
    {"in_set": {"column": "country", "values": COUNTRIES, "action": "quarantine"}},
    {"between": {"column": "amount", "min": 0, "max": 10_000, "action": "quarantine"}},
    {"between": {"column": "quantity", "min": 1, "action": "quarantine"}},
    {"in_set": {"column": "status", "values": STATUSES, "action": "quarantine"}},
    {"expression": {"condition": "updated_at >= event_time", "id": "times", "action": "quarantine"}},
]
CHECKS = {
    "not_null": pl.col("email").is_not_null(),
    "email": pl.col("email").str.contains(EMAIL),
    "country": pl.col("country").is_in(COUNTRIES),
    "amount": pl.col("amount").is_between(0, 10_000),
    "quantity": pl.col("quantity") >= 1,
    "status": pl.col("status").is_in(STATUSES),
    "times": pl.col("updated_at") >= pl.col("event_time"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, metavar=("VARIANT", "FILES"))
    parser.add_argument("--millions", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--runs", type=int, default=5)
    options = parse(parser, "--millions 1 10")
    if options.child:
        child(options.child[0], int(options.child[1]))
        return
    orders(max(options.millions))
    rows = []
    for millions in options.millions:
        names = [*VARIANTS] if millions == 10 else [*VARIANTS][:3]
        found = measure(__file__, {n: (n, str(millions)) for n in names}, runs=options.runs)
        rows += [
            {
                "rows": f"{millions} M",
                "variant": name,
                "seconds": round(r["seconds"], 3),
                "of the floor": round(r["seconds"] / found["floor"]["seconds"], 3),
                "CPU of the floor": round(r["cpu"] / found["floor"]["cpu"], 3),
                "M rows/s": round(millions / r["seconds"], 2),
                "peak MB": round(r["peak_mb"]),
                "opens per file": r["opens"],
                "bad rows": int(r["bad"]),
            }
            for name, r in found.items()
        ]
    publish("gate_pass", rows, note="8 rules, 7 of them per row and one on the key; medians of interleaved runs")


def child(variant: str, files: int) -> None:
    warnings.simplefilter("ignore")
    folder = orders(files)
    paths = [str(p) for p in sorted(folder.glob("*.parquet"))[:files]]
    with tempfile.TemporaryDirectory(dir=folder.parent) as out:
        work = VARIANTS[variant](paths, Path(out))
        opened = Opens(folder)
        with Clock() as clock:
            bad = work()
        clock.report(opens=opened.count() / files, bad=bad)


def floor(paths: list[str], out: Path):
    def work() -> int:
        pl.scan_parquet(paths).sink_parquet(out / "rows.parquet")
        return 0

    return work


def gated(paths: list[str], out: Path, audit: str = "recorded"):
    made = lp.pipeline("orders", base=str(out), audit=audit).source("orders", paths, gate=RULES)
    plan = made.output("orders", "orders").build().compile()

    def work() -> int:
        result = plan.run(run="bench")
        result.raise_for_status()
        return result.gates["orders"].quarantined

    return work


def three_passes(paths: list[str], out: Path):
    good = pl.all_horizontal(e.fill_null(True) for e in CHECKS.values())
    good = good & pl.col("email").is_not_null()

    def work() -> int:
        rows = pl.scan_parquet(paths)
        rows.filter(good).sink_parquet(out / "good.parquet")
        rows.filter(~good).sink_parquet(out / "bad.parquet")
        counts = [(~e).sum().alias(n) for n, e in CHECKS.items()]
        rows.select(*counts, repeated=pl.len() - pl.col("order_id").n_unique()).collect(engine="streaming")
        return pl.scan_parquet(out / "bad.parquet").select(pl.len()).collect().item()

    return work


def eager(paths: list[str], out: Path):
    good = pl.all_horizontal(e.fill_null(True) for e in CHECKS.values())
    good = good & pl.col("email").is_not_null()

    def work() -> int:
        rows = pl.read_parquet(paths).with_columns(good.alias("good"))
        rows.select(
            *[(~e).sum().alias(n) for n, e in CHECKS.items()], repeated=pl.len() - pl.col("order_id").n_unique()
        )
        bad = rows.filter(~pl.col("good")).drop("good")
        rows.filter("good").drop("good").write_parquet(out / "good.parquet")
        bad.write_parquet(out / "bad.parquet")
        return bad.height

    return work


VARIANTS = {
    "floor": floor,
    "lazypipe": gated,
    "lazypipe, audit: off": partial(gated, audit="off"),
    "three passes": three_passes,
    "eager": eager,
}


if __name__ == "__main__":
    main()
