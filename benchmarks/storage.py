"""How large files become, and how long it takes to write and to read them, under the layouts that are advised.

    uv run --group bench python benchmarks/storage.py [--rows 10000000] [--runs 5] [--sets orders,flights,…] [--bounded]

Each set of rows is written as CSV, NDJSON, Parquet by pyarrow with snappy, Parquet by Polars as it comes, and in the layouts that are
advised for ``storage``, ``balanced``, ``read`` and ``write``. Bytes are exact. Times are ratios to Polars' default, of medians of
writings and readings in turn. ``query`` is a question that the layout was advised for: its time, and the part of the bytes of the row groups
that its bounds leave to be read. ``choosing`` is the part of the time of writing that a budget of 3 % really took.

The flights are the three months of the example, or what ``FLIGHTS`` names: a folder with all months of nycflights13. With ``--bounded``, rows of many times the memory that spilling is allowed are written in order, by each writer, and the peak is told.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
from common import DATA, HERE, Clock, _child, orders, publish

import lazypipe as lp
from lazypipe.plan.uses import declared
from lazypipe.storage.dataset import find_odd, scan_files
from lazypipe.storage.log import DataFile
from lazypipe.storage.optimizer.layout import DEFAULT, Layout
from lazypipe.storage.sink import DatasetSink

GOALS = ("storage", "balanced", "read", "write")
TEXTS = ("csv", "ndjson")


def generated(rows: int) -> pl.DataFrame:
    files = max(1, rows // 1_000_000)
    return pl.scan_parquet(orders(files)).head(rows).collect()


def flights(rows: int) -> pl.DataFrame:
    folder = Path(os.environ.get("FLIGHTS", HERE.parent / "pipelines/data"))
    found = [pl.read_csv(p, null_values="NA", infer_schema_length=None) for p in sorted(folder.glob("flights*.csv*"))]
    frame = pl.concat(found, how="vertical_relaxed")
    if frame.schema.get("time_hour") == pl.String:
        frame = frame.with_columns(pl.col("time_hour").str.to_datetime(strict=False))
    return frame.head(rows)


def lineitem(rows: int) -> pl.DataFrame | None:
    path = DATA / "tpch/lineitem.parquet"
    if not path.exists():
        command = shutil.which("tpchgen-cli", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if command is None:
            print("lineitem is left out: tpchgen-cli is not installed (it is in the group bench)", file=sys.stderr)
            return None
        subprocess.run(
            [command, "-s", "1", "--tables=lineitem", "--format=parquet", f"--output-dir={path.parent}"], check=True
        )
    frame = pl.scan_parquet(path).head(rows).collect()
    return frame.with_columns(pl.selectors.by_dtype(pl.Binary).cast(pl.String))


def noise(rows: int) -> pl.DataFrame:
    n = pl.int_range(rows, eager=True).alias("n").to_frame()
    number = pl.col("n").hash(1)
    return n.select(
        a=number.reinterpret(signed=True),
        b=pl.col("n").hash(2).cast(pl.Float64) / 7,
        c=pl.col("n").hash(3).cast(pl.String),
    )


def sparse(rows: int) -> pl.DataFrame:
    n = pl.int_range(rows // 10, eager=True).alias("id").to_frame()

    def column(i: int) -> pl.Expr:
        number = pl.col("id").hash(i)
        return pl.when(number % 50 == 0).then(number % 1_000).cast(pl.Int64).alias(f"f{i}")

    return n.with_columns(column(i) for i in range(100))


def series(rows: int) -> pl.DataFrame:
    n = pl.int_range(rows, eager=True).alias("n").to_frame()
    sensor = pl.col("n") % 100
    drift = (pl.col("n") // 100 % 1_440) / 1_440 * math.tau
    return n.select(
        time=pl.lit(datetime(2026, 1, 1)) + pl.duration(seconds=pl.col("n") // 100 * 10),
        sensor=pl.format("sensor-{}", sensor),
        value=(20 + 5 * drift.sin() + (pl.col("n").hash(1) % 100) / 100).round(2),
        ok=pl.col("n").hash(2) % 1_000 > 0,
    )


SETS: Mapping[str, tuple[Callable[[int], pl.DataFrame | None], str]] = {
    "orders": (generated, "SELECT order_id, amount FROM self WHERE country = 'NL' AND status = 'void'"),
    "flights": (flights, "SELECT carrier, dep_delay FROM self WHERE dest = 'SFO'"),
    "lineitem": (
        lineitem,
        "SELECT l_extendedprice FROM self WHERE l_shipdate >= '1995-03-01' AND l_shipdate < '1995-04-01'",
    ),
    "noise": (noise, "SELECT b FROM self WHERE a > 9000000000000000000"),
    "sparse": (sparse, "SELECT f0, f1 FROM self WHERE f2 = 100"),
    "series": (series, "SELECT time, value FROM self WHERE sensor = 'sensor-42'"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--budget", type=float, help="seconds that the advice for each goal may take. Default: no end")
    parser.add_argument("--texts", type=int, default=1, help="0 leaves CSV and NDJSON out")
    parser.add_argument("--bounded", action="store_true")
    parser.add_argument("--child", nargs="*")
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    rows = []
    for name in options.sets.split(","):
        make, sql = SETS[name]
        frame = make(options.rows)
        if frame is not None:
            rows += compared(name, frame, sql, options.runs, options.budget, texts=bool(options.texts))
    rows += geometric(rows)
    if options.bounded:
        rows += bounded(options.rows)
    publish("storage", rows, note="bytes are exact; times are ratios to Polars' default Parquet, of medians in turn")


def compared(
    name: str, frame: pl.DataFrame, sql: str, runs: int, budget: float | None, *, texts: bool
) -> list[dict[str, Any]]:
    """Write and read one set in all ways."""
    workload, _ = declared({"queries": [sql]}, "self", frame.schema)
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, Way] = {t: Text(folder, t) for t in (TEXTS if texts else ())}
        ways["snappy"] = Snappy(folder, "snappy")
        ways["default"] = Laid(folder, "default", DEFAULT, sql)
        first = ways["default"].write(frame)
        for goal in GOALS:
            advice = lp.optimize.advise(frame, workload, goal, budget, partition_by=())
            ways[goal] = Laid(folder, goal, advice.layout, sql)
        begun = time.perf_counter()
        lp.optimize.advise(frame, workload, "storage", budget=first * 0.03, partition_by=())
        choosing = (time.perf_counter() - begun) / first
        times: dict[str, dict[str, list[float]]] = {n: {"write": [], "read": [], "query": []} for n in ways}
        for turn in range(runs + 1):
            for way in ways.values():
                found = {"write": way.write(frame), "read": way.read(), "query": way.query()}
                for key, seconds in found.items():
                    if turn:  # the first turn warms caches
                        times[way.name][key].append(seconds)
        assert all(w.same(frame) for w in ways.values()), name
        sizes = {n: w.size() for n, w in ways.items()}
        base = {k: statistics.median(v) for k, v in times["default"].items()}
        return [
            {
                "set": name,
                "rows": frame.height,
                "way": n,
                "bytes": sizes[n],
                "of_default": sizes[n] / sizes["default"],
                "write": statistics.median(times[n]["write"]) / base["write"],
                "read": statistics.median(times[n]["read"]) / base["read"] if n != "ndjson" else None,
                "query": statistics.median(times[n]["query"]) / base["query"] if n in ("default", *GOALS) else None,
                "query_bytes": way.query_bytes(),
                "choosing": choosing if n == "storage" else None,
            }
            for n, way in ways.items()
        ]


class Way:
    """One way to keep a frame in a folder."""

    def __init__(self, folder: str, name: str) -> None:
        self.name, self.folder = name, f"{folder}/{name}"
        Path(self.folder).mkdir()

    def write(self, frame: pl.DataFrame) -> float:
        begun = time.perf_counter()
        self._write(frame)
        return time.perf_counter() - begun

    def read(self) -> float:
        begun = time.perf_counter()
        # every value is decoded, and none is kept
        self.rows().select(pl.all().is_not_null().sum()).collect(engine="streaming")
        self.rows().select(pl.len()).collect(engine="streaming")
        return time.perf_counter() - begun

    def query(self) -> float:
        return 0.0

    def query_bytes(self) -> float | None:
        return None

    def size(self) -> int:
        return sum(p.stat().st_size for p in Path(self.folder).rglob("*") if p.is_file())

    def same(self, frame: pl.DataFrame) -> bool:
        return self.rows().select(pl.len()).collect().item() == frame.height

    def rows(self) -> pl.LazyFrame:
        raise NotImplementedError

    def _write(self, frame: pl.DataFrame) -> None:
        raise NotImplementedError


class Text(Way):
    """CSV or NDJSON."""

    def rows(self) -> pl.LazyFrame:
        path = f"{self.folder}/a.{self.name}"
        return pl.scan_csv(path, infer_schema_length=10_000) if self.name == "csv" else pl.scan_ndjson(path)

    def _write(self, frame: pl.DataFrame) -> None:
        path = f"{self.folder}/a.{self.name}"
        frame.write_csv(path) if self.name == "csv" else frame.write_ndjson(path)

    def read(self) -> float:
        return super().read() if self.name == "csv" else 0.0


class Snappy(Way):
    """Parquet by pyarrow, as it comes."""

    def rows(self) -> pl.LazyFrame:
        return pl.scan_parquet(f"{self.folder}/a.parquet")

    def _write(self, frame: pl.DataFrame) -> None:
        pq.write_table(frame.to_arrow(), f"{self.folder}/a.parquet")


class Laid(Way):
    """A layout, through the sink of datasets and the scan of datasets."""

    def __init__(self, folder: str, name: str, layout: Layout, sql: str) -> None:
        super().__init__(folder, name)
        self.layout, self.sql = layout, sql
        self.files: tuple[DataFile, ...] = ()
        self.schema = pl.Schema()

    def _write(self, frame: pl.DataFrame) -> None:
        sink = DatasetSink(self.folder, "r-001", layout=self.layout)
        self.schema = frame.schema
        files = sink.write(frame.lazy()).files
        self.files = find_odd(self.folder, files, self.schema)

    def rows(self) -> pl.LazyFrame:
        return scan_files(self.folder, self.files, self.schema, (), {})

    def query(self) -> float:
        begun = time.perf_counter()
        pl.SQLContext({"self": self.rows()}).execute(self.sql).collect(engine="streaming")
        return time.perf_counter() - begun

    def query_bytes(self) -> float:
        """Return the part of the bytes that stands in row groups whose bounds do not rule out the query."""
        plan = pl.SQLContext({"self": self.rows()}).execute(self.sql)
        names = set(plan.collect_schema()) | {
            c for q in [self.sql.partition("WHERE")[2]] for c in self.schema if c in q
        }
        read = whole = 0
        for file in self.files:
            path = f"{self.folder}/{file.path}"
            meta = pq.ParquetFile(path).metadata
            begin = 0
            for number in range(meta.num_row_groups):
                group = meta.row_group(number)
                size = sum(
                    group.column(i).total_compressed_size
                    for i in range(group.num_columns)
                    if _of(group.column(i).path_in_schema) in names
                )
                whole += size
                if _is_read(group, self.sql):
                    read += size
                begin += group.num_rows
        return read / whole if whole else 1.0

    def same(self, frame: pl.DataFrame) -> bool:
        found = self.rows().collect()
        if self.layout.sort_by:
            by = [n for n, t in frame.schema.items() if not t.is_nested()]
            return found.sort(by).equals(frame.sort(by))
        return found.equals(frame)


def _of(path: str) -> str:
    return path.split(":")[1] if path.startswith("_lazypipe:") else path.split(".", maxsplit=1)[0]


def _is_read(group: Any, sql: str) -> bool:
    """Whether bounds that stand in the footer as they are leave a row group to be read; what a form has changed is not told."""
    conditions = [c.strip() for c in sql.partition("WHERE")[2].split(" AND ")]
    columns = {group.column(i).path_in_schema: group.column(i).statistics for i in range(group.num_columns)}
    for condition in conditions:
        name, op, value = condition.split(" ", 2)
        stats = columns.get(name)
        if stats is None or not stats.has_min_max:
            continue
        low, high = stats.min, stats.max
        wanted: Any = value.strip("'")
        if not isinstance(low, str):
            try:
                wanted = type(low)(wanted) if isinstance(low, int | float) else type(low).fromisoformat(wanted)
            except (ValueError, AttributeError):
                continue
        misses = {"=": low > wanted or high < wanted, ">": high <= wanted, ">=": high < wanted, "<": low >= wanted}
        if misses.get(op):
            return False
    return True


def geometric(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the geometric mean of each way over the sets."""
    found = []
    for way in dict.fromkeys(r["way"] for r in rows):
        of = [r for r in rows if r["way"] == way]
        means = {
            key: math.exp(statistics.fmean(math.log(r[key]) for r in of)) if all(r[key] for r in of) else None
            for key in ("of_default", "write", "read", "query")
        }
        found.append({"set": "geometric mean", "rows": sum(r["rows"] for r in of), "way": way, **means})
    return found


def bounded(rows: int) -> list[dict[str, Any]]:
    """Write rows in order with spilling allowed a part of what they take in memory."""
    files = max(1, rows // 1_000_000)
    folder = orders(files)
    found = []
    size = pl.read_parquet(folder / "orders-000.parquet").estimated_size("mb") * files
    budget = int(size / 5)
    for writer in ("polars", "pyarrow"):
        environment = {"POLARS_OOC_MEMORY_BUDGET_MB": str(budget), "POLARS_OOC_SPILL_DIR": tempfile.gettempdir()}
        os.environ.update(environment)
        try:
            told = _child(__file__, [str(folder), str(files), writer])
        finally:
            for name in environment:
                del os.environ[name]
        found.append({
            "set": "bounded", "rows": rows, "way": writer, "in_memory_mb": size, "budget_mb": budget, "peak_mb": told["peak_mb"],
        })  # fmt: skip
    return found


def child(folder: str, files: str, writer: Any) -> None:
    layout = Layout(sort_by=("country", "order_id"), writer=writer)
    with tempfile.TemporaryDirectory() as out, Clock() as clock:
        source = pl.scan_parquet([f"{folder}/orders-{i:03}.parquet" for i in range(int(files))])
        written = DatasetSink(out, "r-001", layout=layout).write(source)
    print(json.dumps({"seconds": clock.seconds, "bytes": written.bytes}))


if __name__ == "__main__":
    main()
