"""Gates against their peers: counts of eight rules, splitting good rows from bad, and many rules at once.

    uv run --group bench python benchmarks/gates.py [--millions 10] [--runs 5] [--part counts split many]

*counts*: how many rows violate each of eight rules. The floor only decodes the columns that the rules need; the query by
hand is one streaming Polars query with all eight counts, and the peers are what else there is for Polars frames, each as
its documentation tells. *split*: good rows and bad ones written, with the reasons, against the plainest scan and sink of
the same rows; without and with repeated keys among them. *many*: fifty rules on twenty columns against ten of them.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import warnings
from pathlib import Path

import polars as pl
from common import DATA, Clock, measure, orders, parse, publish
from gate_pass import CHECKS, COUNTRIES, EMAIL, RULES, STATUSES

import lazypipe as lp

PARTS = ("counts", "split", "many")
PEERS = ("duckdb", "pointblank", "pandera", "dataframely")
NEEDED = ["order_id", "email", "country", "amount", "quantity", "status", "event_time", "updated_at"]
ROW_RULES = RULES[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, metavar=("VARIANT", "FILES"))
    parser.add_argument("--millions", type=int, default=10)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--runs", type=int, default=5)
    options = parse(parser, "--millions 1")
    if options.child:
        child(options.child[0], int(options.child[1]))
        return
    orders(options.millions)
    shuffled(options.millions)
    repeated(options.millions)
    wide(options.millions)
    rows = []
    for part in options.part:
        names = [n for n in VARIANTS if n.startswith(f"{part}: ") and installed(n.rpartition(", ")[2])]
        found = measure(__file__, {n: (n, str(options.millions)) for n in names}, runs=options.runs)
        first = next(iter(found.values()))
        rows += [
            {
                "what": name,
                "seconds": round(r["seconds"], 3),
                "of the floor": round(r["seconds"] / first["seconds"], 3),
                "CPU of the floor": round(r["cpu"] / first["cpu"], 3),
                "M rows/s": round(options.millions / r["seconds"], 2),
                "peak MB": round(r["peak_mb"]),
                "found": int(r["found"]),
            }
            for name, r in found.items()
        ]
    publish("gates", rows, note=f"{options.millions} M rows in files of 1 M; medians of interleaved runs")


def installed(peer: str) -> bool:
    """Whether a variant can run: what it is about is ours, or is there."""
    there = peer not in PEERS or importlib.util.find_spec(peer) is not None
    if not there:
        print(f"{peer} is left out: it is not installed (it is in the group bench)", file=sys.stderr)
    return there


def child(variant: str, files: int) -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir=DATA) as out:
        work = VARIANTS[variant](files, Path(out))
        with Clock() as clock:
            found = work()
        clock.report(found=found)


# data


def files(folder: Path, count: int) -> list[str]:
    return [str(p) for p in sorted(folder.glob("*.parquet"))[:count]]


def _derived(name: str, count: int, change) -> Path:
    folder = DATA / name
    folder.mkdir(parents=True, exist_ok=True)
    for path in files(orders(count), count):
        target = folder / Path(path).name
        if not target.exists():
            change(pl.read_parquet(path)).write_parquet(target)
    return folder


def shuffled(count: int) -> Path:
    """The same rows, in no order of their key."""
    return _derived("orders-shuffled", count, lambda rows: rows.sample(fraction=1, shuffle=True, seed=1))


def repeated(count: int) -> Path:
    """The same rows, one in five hundred with the key of the row before, in the order of the key."""
    again = pl.when(pl.col("order_id") % 500 == 1).then(pl.col("order_id") - 1).otherwise("order_id")
    return _derived("orders-repeated", count, lambda rows: rows.with_columns(order_id=again))


def wide(count: int) -> Path:
    numbers = {f"n{i}": (pl.col("order_id").hash(i) % 1000).cast(pl.Int32) for i in range(20)}
    return _derived("orders-wide", count, lambda rows: rows.select(**numbers))


# counts


def floor(count: int, _: Path):
    """The needed columns decoded, and the least that can be done with them."""
    rows = pl.scan_parquet(files(orders(count), count)).select(NEEDED)
    return lambda: int(rows.select(pl.all().null_count()).collect(engine="streaming").row(0)[1] * 0)


def by_hand(*, unique: bool):
    def prepare(count: int, _: Path):
        rows = pl.scan_parquet(files(orders(count), count))
        counts = [(~e).sum().alias(n) for n, e in CHECKS.items()]
        keys = [(pl.len() - pl.col("order_id").n_unique()).alias("repeated")] if unique else []
        return lambda: sum(rows.select(*counts, *keys).collect(engine="streaming").row(0))

    return prepare


def by_lazypipe(rules, data=orders):
    def prepare(count: int, _: Path):
        rows = pl.scan_parquet(files(data(count), count))
        return lambda: sum(lp.check(rows, rules).failed.values())

    return prepare


def by_duckdb(count: int, _: Path):
    import duckdb  # a peer, needed by this variant only

    names = files(orders(count), count)
    allowed = ", ".join(f"'{c}'" for c in COUNTRIES), ", ".join(f"'{s}'" for s in STATUSES)
    query = f"""select count(*) - count(distinct order_id), count(*) filter (email is null),
        count(*) filter (not regexp_matches(email, '{EMAIL}')), count(*) filter (country not in ({allowed[0]})),
        count(*) filter (not amount between 0 and 10000), count(*) filter (quantity < 1),
        count(*) filter (status not in ({allowed[1]})), count(*) filter (updated_at < event_time)
        from read_parquet($1)"""
    return lambda: sum(duckdb.execute(query, [names]).fetchone())


def by_pointblank(count: int, _: Path):
    import pointblank as pb

    rows = pl.scan_parquet(files(orders(count), count))

    def work() -> int:
        found = (
            pb.Validate(rows.collect(engine="streaming"))
            .rows_distinct(columns_subset="order_id")
            .col_vals_not_null("email")
            .col_vals_regex("email", EMAIL, na_pass=True)
            .col_vals_in_set("country", COUNTRIES)
            .col_vals_between("amount", 0, 10_000)
            .col_vals_ge("quantity", 1)
            .col_vals_in_set("status", STATUSES)
            .col_vals_expr(pl.col("updated_at") >= pl.col("event_time"))
            .interrogate(collect_extracts=False)
        )
        return sum(found.n_failed().values())

    return work


def by_pandera(count: int, _: Path):
    import pandera.polars as pa

    rows = pl.scan_parquet(files(orders(count), count))
    schema = pa.DataFrameSchema(
        {
            "order_id": pa.Column(unique=True),
            "email": pa.Column(nullable=False, checks=pa.Check.str_matches(EMAIL)),
            "country": pa.Column(checks=pa.Check.isin(COUNTRIES)),
            "amount": pa.Column(checks=pa.Check.in_range(0, 10_000)),
            "quantity": pa.Column(checks=pa.Check.ge(1)),
            "status": pa.Column(checks=pa.Check.isin(STATUSES)),
        },
        checks=pa.Check(lambda data: data.lazyframe.select(pl.col("updated_at") >= pl.col("event_time"))),
    )

    def work() -> int:
        try:
            schema.validate(rows.collect(engine="streaming"), lazy=True)
        except pa.errors.SchemaErrors as error:
            return len(error.schema_errors)
        return 0

    return work


def by_dataframely(count: int, _: Path):
    import dataframely as dy

    class Orders(dy.Schema):
        order_id = dy.Int64(primary_key=True)
        email = dy.String(nullable=False, regex=EMAIL)
        country = dy.String(nullable=True, check=lambda c: c.is_in(COUNTRIES))
        amount = dy.Float64(nullable=True, min=0, max=10_000)
        quantity = dy.Int32(nullable=True, min=1)
        status = dy.String(nullable=True, check=lambda c: c.is_in(STATUSES))
        event_time = dy.Datetime(nullable=True)
        updated_at = dy.Datetime(nullable=True)

        @dy.rule()
        def times(cls):  # noqa: N805  # as dataframely tells it
            return pl.col("updated_at") >= pl.col("event_time")

    rows = pl.scan_parquet(files(orders(count), count)).select(NEEDED)

    def work() -> int:
        _, failure = Orders.filter(rows.collect(engine="streaming"))
        return sum(failure.counts().values())

    return work


# split


def plain(data=orders):
    def prepare(count: int, out: Path):
        names = files(data(count), count)

        def work() -> int:
            pl.scan_parquet(names).sink_parquet(out / "rows.parquet")
            return 0

        return work

    return prepare


def gated(rules, data=orders):
    def prepare(count: int, out: Path):
        names = files(data(count), count)
        pipe = lp.pipeline("orders", base=str(out)).source("orders", names, gate=rules).output("orders", "orders")
        plan = pipe.build().compile()

        def work() -> int:
            result = plan.run(run="bench")
            result.raise_for_status()
            return result.gates["orders"].quarantined

        return work

    return prepare


# many rules


def many(rules: int):
    def prepare(count: int, _: Path):
        rows = pl.scan_parquet(files(wide(count), count))
        kinds = [
            lambda c: {"not_null": c},
            lambda c: {"between": {"column": c, "min": 1, "max": 990}},
            lambda c: {"between": {"column": c, "max": 998}},
        ]
        made = [kinds[i // 20](f"n{i % 20}") for i in range(rules)]
        return lambda: sum(lp.check(rows, made).failed.values())

    return prepare


UNIQUE = {"unique": {"columns": "order_id", "action": "quarantine"}}

VARIANTS = {
    "counts: floor, columns decoded": floor,
    "counts: 7 row rules, by hand": by_hand(unique=False),
    "counts: 7 row rules, lazypipe": by_lazypipe(ROW_RULES),
    "counts: 8 rules, by hand": by_hand(unique=True),
    "counts: 8 rules, lazypipe, sorted key": by_lazypipe(RULES),
    "counts: 8 rules, lazypipe, key in no order": by_lazypipe(RULES, shuffled),
    "counts: 8 rules, duckdb": by_duckdb,
    "counts: 8 rules, pointblank": by_pointblank,
    "counts: 8 rules, pandera": by_pandera,
    "counts: 8 rules, dataframely": by_dataframely,
    "split: floor, scan and sink": plain(),
    "split: 7 row rules, lazypipe": gated(ROW_RULES),
    "split: 8 rules, no key repeats": gated([UNIQUE, *ROW_RULES]),
    "split: 8 rules, repeated keys found": gated([UNIQUE, *ROW_RULES], repeated),
    "many: 10 rules on 10 columns": many(10),
    "many: 20 rules on 20 columns": many(20),
    "many: 50 rules on 20 columns": many(50),
}


if __name__ == "__main__":
    main()
