"""How large files become, and how long it takes to write and to read them, under the layouts that are advised; and whether goals are met.

    uv run --group bench python benchmarks/storage.py [--rows 10000000] [--runs 5] [--sets orders,flights,…] [--quick] [--bounded]

Each set of rows is written as CSV, NDJSON, Parquet by pyarrow with snappy, Parquet by Polars as it comes, and in the layouts that are
advised for ``storage``, ``balanced``, ``read`` and ``write``. Bytes are exact. Times are of the processor, as ratios to Polars' default, of medians
of writings and readings in turn. ``query`` is a question that the layout was advised for: its time, and the part of the bytes, and of the row
groups, that its bounds leave to be read. Advice may take 3 % of what writing is going to take, or 20 ms, as in a run; ``choosing`` is the part that it
took of writing in the layout that it chose, and ``writes`` after how many such writes it is 3 %, as it is done once. ``fixed`` is the part of the default's query that
the same one takes on a single row: planning, which no layout makes faster. ``of_best`` is the advice for ``storage`` next to the best of all combinations of forms, encodings and
codecs, column by column, within the same limits on time, on the same sample, as it comes and in the order that is advised.

With ``--quick`` all of that is done on a million rows, without texts. The flights are the three months of the example, or what ``FLIGHTS`` names: a folder with all months of nycflights13. With ``--bounded``,
rows of five times the memory that spilling is allowed are written in order, by each writer, and the peak is told.
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
from common import DATA, PIPELINES, TOY, Clock, _child, orders, parse, publish

import lazypipe as lp
from lazypipe.plan.uses import declared
from lazypipe.storage.datasets.data_files import find_odd, scan_files
from lazypipe.storage.datasets.log import DataFile
from lazypipe.storage.optimizer.candidates import encodings_for, forms_for
from lazypipe.storage.optimizer.choice import GOALS as CHOICES
from lazypipe.storage.optimizer.choice import LITTLE, choosing_seconds
from lazypipe.storage.optimizer.cost import Cost
from lazypipe.storage.optimizer.estimates import column_cost, form_cost, values
from lazypipe.storage.optimizer.forms import physical
from lazypipe.storage.optimizer.layout import DEFAULT, Layout
from lazypipe.storage.optimizer.order import ordered
from lazypipe.storage.optimizer.sample import take_sample
from lazypipe.storage.optimizer.trial import chunk_bytes, chunk_sizes, write_bytes
from lazypipe.storage.sink import DatasetSink

GOALS = ("storage", "balanced", "read", "write")
TEXTS = ("csv", "ndjson")
READ = 0.2
"""Seconds that files are read for, again and again, in each turn."""
SEARCHED = 0.06
"""Seconds that choosing may take where it is compared with all combinations."""


def generated(rows: int) -> pl.DataFrame:
    files = max(1, rows // 1_000_000)
    return pl.scan_parquet(orders(files)).head(rows).collect()


def flights(rows: int) -> pl.DataFrame:
    folder = Path(os.environ.get("FLIGHTS", PIPELINES / "data"))
    found = [pl.read_csv(p, null_values="NA", infer_schema_length=None) for p in sorted(folder.glob("flights*.csv*"))]
    frame = pl.concat(found, how="vertical_relaxed")
    if frame.schema.get("time_hour") == pl.String:
        frame = frame.with_columns(pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ"))
    return frame.head(rows)


def lineitem(rows: int) -> pl.DataFrame | None:
    path = DATA / "tpch/lineitem.parquet"
    if not path.exists():
        command = shutil.which("tpchgen-cli", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if command is None:
            print("lineitem is left out: tpchgen-cli is not installed (it is in the group bench)", file=sys.stderr)
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        what = ["-s", "1", "--tables=lineitem", f"--output-dir={path.parent}"]
        # since version 3 the format is a command of its own
        if subprocess.run([command, "parquet", *what], check=False).returncode:
            subprocess.run([command, "--format=parquet", *what], check=True)
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
    parser.add_argument(
        "--search", type=int, default=20_000, help="rows that advice and all combinations are compared on; 0: none"
    )
    parser.add_argument("--texts", type=int, default=1, help="0 leaves CSV and NDJSON out")
    parser.add_argument("--quick", action="store_true", help="all goals in a few minutes: 1,000,000 rows, two runs")
    parser.add_argument("--bounded", action="store_true")
    parser.add_argument("--child", nargs="*")
    options = parse(parser, "--rows 2000 --runs 1 --search 0 --sets orders")
    if options.quick:
        options.rows, options.runs, options.texts, options.search = 1_000_000, 2, 0, 3_000
    if options.child:
        child(*options.child)
        return
    rows = []
    lp.optimize.advise(pl.DataFrame({"x": range(10_000)}), budget=SEARCHED)  # imports are paid for once
    for name in options.sets.split(","):
        make, sql = SETS[name]
        frame = make(options.rows)
        if frame is not None:
            rows += compared(name, frame, sql, options.runs, texts=bool(options.texts), search=options.search)
    rows += geometric(rows)
    if options.bounded:
        rows += bounded(options.rows)
    goals = told(rows)
    publish(
        "storage",
        [*rows, *goals],
        note="bytes are exact; times are ratios to Polars' default Parquet, of medians in turn",
    )
    for goal in goals:
        print(f"{'met' if goal['met'] else 'NOT MET':8} {goal['goal']}: {goal['said']}")


def compared(name: str, frame: pl.DataFrame, sql: str, runs: int, *, texts: bool, search: int) -> list[dict[str, Any]]:
    """Write and read one set in all ways."""
    workload, _ = declared({"queries": [sql]}, "self", frame.schema)
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, Way] = {t: Text(folder, t) for t in (TEXTS if texts else ())}
        ways["snappy"] = Snappy(folder, "snappy")
        ways["default"] = Laid(folder, "default", DEFAULT, sql)
        single = Laid(folder, "single", DEFAULT, sql)
        single.write(frame.head(1))
        ways["default"].write(frame)
        seconds = ways["default"].write(frame)
        choosing: dict[str, float] = {}
        for goal in GOALS:
            # nobody who asks for small files declares queries that would be slower to answer
            asked = workload if goal in ("read", "balanced") else None
            took = []
            for _ in range(runs + 1):
                begun = time.process_time()
                budget: float = max(choosing_seconds(goal, seconds), LITTLE)
                advice = lp.optimize.advise(frame, asked, goal, budget, partition_by=())
                took.append(time.process_time() - begun)
            choosing[goal] = statistics.median(took[1:])  # the first turn warms caches
            ways[goal] = Laid(folder, goal, advice.layout, sql)
        times: dict[str, dict[str, list[float]]] = {n: {"write": [], "read": [], "query": []} for n in ways}
        for turn in range(runs + 1):
            for way in ways.values():
                found = {"write": way.write(frame), "read": way.read(), "query": way.query()}
                for key, took in found.items():
                    if turn:  # the first turn warms caches
                        times[way.name][key].append(took)
        assert all(w.same(frame) for w in ways.values()), name
        sizes = {n: w.size() for n, w in ways.items()}
        medians = {n: {k: statistics.median(v) for k, v in t.items()} for n, t in times.items()}
        planning = min(statistics.median(single.query() for _ in range(5)) / medians["default"]["query"], 1.0)
        base = medians["default"]
        best = of_best(frame, search) if search else None
        return [
            {
                "set": name,
                "rows": frame.height,
                "way": n,
                "bytes": sizes[n],
                "of_default": sizes[n] / sizes["default"],
                "write": medians[n]["write"] / base["write"],
                "read": medians[n]["read"] / base["read"] if n != "ndjson" else None,
                "query": medians[n]["query"] / base["query"] if n in ("default", *GOALS) else None,
                "query_bytes": way.query_bytes() if isinstance(way, Laid) else None,
                "query_groups": way.query_groups() if isinstance(way, Laid) else None,
                "fixed": planning if n == "read" else None,
                "choosing": choosing[n] / medians[n]["write"] if n in choosing else None,
                "writes": math.ceil(choosing[n] / medians[n]["write"] / 0.03) if n in choosing else None,
                "of_best": best if n == "storage" else None,
            }
            for n, way in ways.items()
        ]


def of_best(frame: pl.DataFrame, rows: int) -> float:
    """Return the bytes of the sample under advice, next to the least of all combinations within the same limits."""
    sample = take_sample(frame, rows).frame
    advice = lp.optimize.advise(sample, None, "storage", SEARCHED, sample=rows, partition_by=())
    in_order = ordered(sample.lazy(), advice.layout, sample.schema, "the sample").collect()
    inside = physical(in_order.lazy(), sample.schema, advice.layout.forms).collect()
    # what the order alone gains is no merit of forms and encodings
    best = min(map(exhaustive, [sample, in_order] if advice.layout.sort_by else [sample]))
    return sum(chunk_bytes(write_bytes(inside, advice.layout)).values()) / best


def exhaustive(frame: pl.DataFrame) -> float:
    """Return the bytes of the best of all combinations: each column alone, in every form, encoding and level."""
    found = lp.optimize.profile(frame, sample=frame.height)
    limits, default = CHOICES["storage"], Cost()
    columns: list[list[Cost]] = []
    for name in frame.columns:
        size = chunk_sizes(write_bytes(frame.select(name), DEFAULT))[name]
        default += column_cost(frame.schema[name], size, values(frame[name]), "polars")
        ways: list[Cost] = []
        for form in (None, *forms_for(found[name], found, frame)):
            needed = frame.select(list(dict.fromkeys([name, *(form.needs if form is not None else ())])))
            inside = (
                needed
                if form is None
                else physical(needed.lazy(), needed.schema, {name: form}).collect().drop(form.needs)
            )
            combined = [Cost() if form is None else form_cost(form, frame.height, frame.schema[name])]
            for part, dtype in inside.schema.items():
                options = [c for e in encodings_for(dtype) for c in _measured(inside.select(part), part, dtype, e)]
                if part.endswith(":plain") and inside[part].null_count() == inside.height:
                    options = [Cost(min(o.bytes for o in options))]  # is not read
                combined = _best([a + b for a in combined for b in options])
            ways += combined
        columns.append(_best(ways))
    least = math.inf
    for write in (0.0, *(10.0**n for n in range(3, 11))):
        for read in (0.0, *(10.0**n for n in range(3, 11))):
            total = sum((min(c, key=lambda o: o.bytes + write * o.write + read * o.read) for c in columns), Cost())
            if not limits.broken(total, default):
                least = min(least, total.bytes)
    return least


def _measured(frame: pl.DataFrame, name: str, dtype: pl.DataType, encoding: str) -> list[Cost]:
    found = []
    for codec, level in (("zstd", 3), ("zstd", 9), ("zstd", 19), ("uncompressed", None)):
        layout = Layout(writer="pyarrow", encodings={name: encoding}, codec=codec, level=level)
        size = chunk_sizes(write_bytes(frame, layout))[name]
        found.append(column_cost(dtype, size, values(frame[name]), "pyarrow", encoding, codec, level))
    return found


def _best(ways: list[Cost]) -> list[Cost]:
    """Leave out what another is better than in all respects."""
    return [
        w for w in ways
        if not any(o != w and o.bytes <= w.bytes and o.write <= w.write and o.read <= w.read for o in ways)
    ]  # fmt: skip


def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the goals of the optimizer, and how far they are met."""
    means = {r["way"]: r for r in rows if r["set"] == "geometric mean"}
    sets = [r for r in rows if r["set"] not in ("geometric mean", "bounded")]

    def said(r: Mapping[str, Any]) -> str:
        return f"{1 - r['of_default']:.1%} smaller, {r['write']:.2f} x to write, {r['read']:.2f} x to read"

    storage, balanced = means["storage"], means["balanced"]
    goals = [
        ("storage ≥ 30 % smaller, ≤ 3 x to write, ≤ 1.1 x to read", said(storage),
         storage["of_default"] <= 0.7 and storage["write"] <= 3 and storage["read"] <= 1.1),
        ("balanced ≥ 15 % smaller, not slower to read", said(balanced),
         balanced["of_default"] <= 0.85 and balanced["read"] <= 1.03),
    ]  # fmt: skip
    for r in sets:
        if r["way"] == "read":
            text = f"{1 / r['query']:.1f} x faster, {r['query_bytes']:.1%} of the bytes, {r['query_groups']} row groups read"
            text += f"; {r['fixed']:.0%} of the default's time are those of a single row"
            goals.append((f"read ≥ 2 x faster: {r['set']}", text, r["query"] <= 0.5))
        if r["way"] == "storage" and r["of_best"] is not None:
            goals.append(
                (f"advice within 5 % of the best: {r['set']}", f"{r['of_best'] - 1:+.1%}", r["of_best"] <= 1.05)
            )
        if r["way"] in GOALS:
            goals.append(
                (
                    f"choosing ≤ 3 % of the write: {r['set']}, {r['way']}",
                    f"{r['choosing']:.1%} of one such write, 3 % of {r['writes']}",
                    r["choosing"] <= 0.03,
                )
            )
    for r in rows:
        if r["set"] == "bounded":
            text = f"{r['in_memory_mb']:,.0f} MB with a budget of {r['budget_mb']:,} MB: peak {r['peak_mb'] - r['idle_mb']:,.0f} MB"
            text += f" above the {r['idle_mb']:,.0f} MB of a process that writes nothing"
            less = r["peak_mb"] - r["idle_mb"] < r["in_memory_mb"]
            goals.append((f"bounded memory at 5 x the budget: {r['way']}", text, less))
    return [{"goal": g, "said": t, "met": bool(ok)} for g, t, ok in goals]


def repeated(read: Callable[[], object]) -> float:
    """Return the CPU seconds of a read, over as many as take ``READ`` seconds: a few milliseconds, once, tell more of the machine than of the file."""
    begun, times, taken = time.process_time(), 0, 0.0
    while not times or (taken < READ and not TOY):
        read()
        times, taken = times + 1, time.process_time() - begun
    return taken / times


class Way:
    """One way to keep a frame in a folder."""

    def __init__(self, folder: str, name: str) -> None:
        self.name, self.folder = name, f"{folder}/{name}"
        Path(self.folder).mkdir()

    def write(self, frame: pl.DataFrame) -> float:
        begun = time.process_time()
        self._write(frame)
        return time.process_time() - begun

    def read(self) -> float:
        # every value is decoded, and none is kept
        return repeated(
            lambda: (
                self.rows().select(pl.all().is_not_null().sum()).collect(engine="streaming"),
                self.rows().select(pl.len()).collect(engine="streaming"),
            )
        )

    def query(self) -> float:
        return 0.0

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
        return repeated(lambda: pl.SQLContext({"self": self.rows()}).execute(self.sql).collect(engine="streaming"))

    def query_bytes(self) -> float:
        """Return the part of the bytes that stands in row groups whose bounds do not rule out the query."""
        groups = self._groups()
        return sum(size for size, read in groups if read) / max(sum(size for size, _ in groups), 1)

    def query_groups(self) -> str:
        """Return how many of the row groups are read."""
        groups = self._groups()
        return f"{sum(read for _, read in groups)} of {len(groups)}"

    def _groups(self) -> list[tuple[int, bool]]:
        """Return the bytes of each row group in the columns that the query asks for, and whether it is read."""
        plan = pl.SQLContext({"self": self.rows()}).execute(self.sql)
        where = self.sql.partition("WHERE")[2]
        names = {*plan.collect_schema(), *(c for c in self.schema if c in where)}
        found = []
        for file in self.files:
            meta = pq.ParquetFile(f"{self.folder}/{file.path}").metadata
            for number in range(meta.num_row_groups):
                group = meta.row_group(number)
                columns = (group.column(i) for i in range(group.num_columns))
                size = sum(c.total_compressed_size for c in columns if _of(c.path_in_schema) in names)
                found.append((size, _is_read(group, self.sql)))
        return found

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
        if stats is not None and stats.null_count == group.num_rows:
            return False
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
    """Write rows in order with spilling allowed a fifth of what they take in memory; what a process takes that writes none is told too."""
    files = max(1, rows // 1_000_000)
    folder = orders(files)
    found = []
    size = pl.read_parquet(folder / "orders-000.parquet").estimated_size("mb") * files
    budget = int(size / 5)
    environment = {"POLARS_OOC_MEMORY_BUDGET_MB": str(budget), "POLARS_OOC_SPILL_DIR": tempfile.gettempdir()}
    os.environ.update(environment)
    try:
        idle = _child(__file__, [str(folder), "0", "polars"])["peak_mb"]
        for writer in ("polars", "pyarrow"):
            told = _child(__file__, [str(folder), str(files), writer])
            found.append({
                "set": "bounded", "rows": rows, "way": writer, "in_memory_mb": size, "budget_mb": budget,
                "peak_mb": told["peak_mb"], "idle_mb": idle,
            })  # fmt: skip
    finally:
        for name in environment:
            del os.environ[name]
    return found


def child(folder: str, files: str, writer: Any) -> None:
    layout = Layout(sort_by=("country", "order_id"), writer=writer)
    with tempfile.TemporaryDirectory() as out, Clock() as clock:
        paths = [f"{folder}/orders-{i:03}.parquet" for i in range(int(files))]
        source = pl.scan_parquet(paths or [f"{folder}/orders-000.parquet"])
        source = source if paths else source.head(1_000)
        written = DatasetSink(out, "r-001", layout=layout).write(source)
    print(json.dumps({"seconds": clock.seconds, "bytes": written.bytes}))


if __name__ == "__main__":
    main()
