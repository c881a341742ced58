"""What incremental runs cost, against the least that they could cost.

    uv run python benchmarks/runs.py [--runs 5] [--files 10000]

- nothing changed: a run over 10,000 files, against a bare recursive listing with stat;
- nothing changed in 10 files of 1 GB (one file under ten names), against 10 files of 100 rows: none is opened;
- one of 1,000 files changed: a run, against a first run over that one file alone;
- long history: a run that finds nothing changed after 1,000 commits, against one after 10;
- many deliveries: a run that upserts the rows of one more after 300 of them, against one after 10;
- the first run over 10 M rows in 10 files (filter, derive, one output), against the same query by hand, straight into one file.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
from common import DATA, TOY, Clock, Opens, measure, orders, parse, publish

import lazypipe as lp

OLD = 1_700_000_000
FILES, COMMITS, DELIVERIES = (12, 12, 12) if TOY else (1_000, 1_000, 300)
LARGE = 1_000 if TOY else 37_000_000
"""Rows of a file of 1 GB."""
MIDDLE = f"f{FILES // 2:06}.parquet"
PAIRS = {
    "nothing changed": "bare listing",
    "nothing changed in 10 GB": "nothing changed in 10 small files",
    "one file changed": "one file alone",
    f"after {COMMITS:,} commits": "after 10 commits",
    f"after {DELIVERIES} deliveries": "after 10 deliveries",
    "first run": "by hand",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", metavar=("VARIANT", "FILES"), nargs=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--files", type=int, default=10_000)
    options = parse(parser, "--files 20")
    if options.child:
        VARIANTS[options.child[0]](int(options.child[1]))
        return
    many(options.files), several(), orders(10)
    for commits in (10, COMMITS):
        with_history(commits)
    for deliveries in (10, DELIVERIES):
        with_deliveries(deliveries)
    for folder in (many(options.files), large(), many(10)):
        run_over(folder, "noop")
    variants = {name: (name, str(options.files)) for pair in PAIRS.items() for name in pair}
    found = measure(__file__, variants, runs=options.runs)
    rows = [
        {
            "what": name,
            "seconds": round(found[name]["seconds"], 4),
            "against": other,
            "its seconds": round(found[other]["seconds"], 4),
            "ratio": round(found[name]["seconds"] / found[other]["seconds"], 2),
            "peak MB": round(found[name]["peak_mb"]),
            "files opened": found[name].get("opens"),
        }
        for name, other in PAIRS.items()
    ]
    publish(
        "runs",
        rows,
        note=f"{options.files} files of 100 rows; {FILES:,} files of 10,000 rows; medians, compile included",
    )


def many(count: int, rows: int = 100) -> Path:
    """Make (once) a folder of Parquet files that were written long ago."""
    folder = DATA / f"many-{count}-{rows}"
    if not folder.exists():
        made = Path(tempfile.mkdtemp(dir=DATA))
        for number in range(count):
            path = made / f"f{number:06}.parquet"
            key = pl.int_range(number * rows, (number + 1) * rows, eager=True)
            pl.DataFrame({"id": key, "x": key.hash(1) % 1000, "text": "t" + key.cast(pl.String)}).write_parquet(path)
            os.utime(path, (OLD, OLD))
        made.rename(folder)
    return folder


def several() -> Path:
    """Make (once) a folder of fewer and larger files."""
    return many(FILES, 10_000)


def large() -> Path:
    """Make (once) a folder of one file of 1 GB under ten names; what is known of its columns tells that no row stays."""
    folder = DATA / f"large-10-{LARGE}"
    if not folder.exists():
        made = Path(tempfile.mkdtemp(dir=DATA))
        key = pl.int_range(LARGE, eager=True)
        rows = pl.DataFrame({"id": key, "x": pl.zeros(LARGE, pl.UInt64, eager=True), "text": "t" + key.cast(pl.String)})
        rows.write_parquet(made / "f000000.parquet", compression="uncompressed")
        os.utime(made / "f000000.parquet", (OLD, OLD))
        for number in range(1, 10):
            (made / f"f{number:06}.parquet").hardlink_to(made / "f000000.parquet")
        made.rename(folder)
    return folder


def pipeline(folder: Path, base: Path, pattern: str = "*.parquet") -> lp.Pipeline:
    columns = {"columns": {"id": "Int64", "x": "UInt64", "text": "String"}}
    return (
        lp.pipeline("p", base=str(base), audit="off")
        .source("a", f"{folder}/{pattern}", contract=columns)
        .stage("b", "a", do=[{"filter": "x > 10"}, {"derive": {"y": "x * 2"}}])
        .output("b", "out/b")
        .build()
    )


def run_over(folder: Path, name: str) -> Path:
    """Have an output that is up to date."""
    base = DATA / "outputs" / f"{folder.name}-{name}"
    pipeline(folder, base).compile().run().raise_for_status()
    return base


def with_history(commits: int) -> Path:
    base = DATA / "outputs" / f"history-{commits}"
    folder = many(10)
    if len(list((base / "out/b.commits").glob("*.json"))) < commits:
        shutil.rmtree(base, ignore_errors=True)
        for _ in range(commits):
            pipeline(folder, base).compile().run(full=True).raise_for_status()
    return base


def deliver(base: Path, number: int) -> lp.Plan:
    """Put one more file beside those that were taken in: 200 keys, of which 20 came before, and some rows to be put aside."""
    keys = pl.int_range(number * 180, number * 180 + 200, eager=True)
    rows = pl.DataFrame({"id": keys, "x": keys.hash(number) % 100})
    (base / "in").mkdir(parents=True, exist_ok=True)
    rows.write_parquet(base / "in" / f"{number:06}.parquet")
    made = lp.pipeline("p", base=str(base), audit="off")
    made = made.source("a", "in/*.parquet", contract={"columns": {"id": "Int64", "x": "UInt64"}})
    made = made.stage("b", "a", gate=[{"between": {"column": "x", "max": 98, "action": "quarantine"}}])
    return made.output("b", "out/b", mode="upsert", key="id").build().compile()


def with_deliveries(count: int) -> Path:
    base = DATA / "outputs" / f"deliveries-{count}"
    if len(list((base / "out/b.commits").glob("*.json"))) < count:
        shutil.rmtree(base, ignore_errors=True)
        for number in range(count):
            deliver(base, number).run().raise_for_status()
    return base


def one_more(count: int) -> None:
    with tempfile.TemporaryDirectory(dir=DATA) as folder:
        base = Path(folder) / "base"
        shutil.copytree(with_deliveries(count), base)  # stamps are kept
        timed(lambda: deliver(base, count).run().raise_for_status())


def timed(work: Callable[[], object], **counted: Callable[[], float]) -> None:
    with Clock() as clock:
        work()
    clock.report(**{name: count() for name, count in counted.items()})


def listing(files: int) -> None:
    def work() -> None:
        for entry in os.scandir(many(files)):
            entry.stat()

    timed(work)


def nothing(folder: Path, base: Path) -> None:
    def work() -> None:
        assert pipeline(folder, base).compile().run().status == "unchanged"

    timed(work, opens=Opens(folder).count)


def one_changed(_: int) -> None:
    """Change one of a thousand files whose output is up to date; take its rows in."""
    with tempfile.TemporaryDirectory() as folder:
        deliveries = Path(folder) / "in"
        shutil.copytree(several(), deliveries)
        base = Path(folder) / "base"
        pipeline(deliveries, base).compile().run().raise_for_status()
        changed = deliveries / MIDDLE
        pl.read_parquet(changed).with_columns(x=pl.col("x") + 1).write_parquet(changed)
        os.utime(changed, (OLD + 60, OLD + 60))
        timed(lambda: pipeline(deliveries, base).compile().run().raise_for_status())


def alone(_: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = several()
        timed(lambda: pipeline(source, Path(folder), MIDDLE).compile().run().raise_for_status())


def first_run(_: int) -> None:
    with tempfile.TemporaryDirectory(dir=DATA) as folder:
        pipe = (
            lp.pipeline("p", base=folder, audit="off")
            .source("a", f"{orders(10)}/orders-00[0-9].parquet")
            .stage("b", "a", do=[{"filter": "quantity > 1"}, {"derive": {"net": "amount / 1.19"}}])
            .output("b", "out/b")
            .build()
        )
        timed(lambda: pipe.compile().run().raise_for_status())


def by_hand(_: int) -> None:
    with tempfile.TemporaryDirectory(dir=DATA) as folder:
        names = [f"{orders(10)}/orders-{n:03}.parquet" for n in range(10)]
        query = (
            pl.scan_parquet(names, glob=False).filter(pl.col("quantity") > 1).with_columns(net=pl.col("amount") / 1.19)
        )
        timed(lambda: query.sink_parquet(f"{folder}/out.parquet", engine="streaming"))


VARIANTS: dict[str, Callable[[int], None]] = {
    "bare listing": listing,
    "nothing changed": lambda files: nothing(many(files), DATA / "outputs" / f"{many(files).name}-noop"),
    "nothing changed in 10 GB": lambda _: nothing(large(), DATA / "outputs" / f"{large().name}-noop"),
    "nothing changed in 10 small files": lambda _: nothing(many(10), DATA / "outputs" / f"{many(10).name}-noop"),
    "one file changed": one_changed,
    "one file alone": alone,
    "after 10 commits": lambda _: nothing(many(10), with_history(10)),
    f"after {COMMITS:,} commits": lambda _: nothing(many(10), with_history(COMMITS)),
    "after 10 deliveries": lambda _: one_more(10),
    f"after {DELIVERIES} deliveries": lambda _: one_more(DELIVERIES),
    "first run": first_run,
    "by hand": by_hand,
}


if __name__ == "__main__":
    main()
