"""The figures of the README, written from what the benchmarks found: ``results/*.json``.

    uv run python benchmarks/figures.py

A test holds the README to them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- figures: benchmarks/figures.py writes this section -->", "<!-- end of figures -->"
HERE = Path(__file__).parent

Find = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True)
class Figure:
    """One line: what was measured, against what, what came out, and what it is to be."""

    what: str
    against: str
    said: Callable[[Find], str]
    goal: str = ""


def times(file: str, *names: str, column: str = "ratio", key: str = "what", **more: Any) -> Callable[[Find], str]:
    """Return what tells the ratios of some lines of a file."""
    return lambda find: " / ".join(f"{find(file, **{key: name}, **more)[column]:.2f}" for name in names)


def percent(file: str, *names: str, column: str) -> Callable[[Find], str]:
    """Return what tells by how many percent some lines of a file are above 1."""
    return lambda find: " / ".join(f"{max(100 * (find(file, what=name)[column] - 1), 0.0):.1f} %" for name in names)


def stored(way: str) -> Callable[[Find], str]:
    """Return what tells how a layout compares with the default, over all sets."""

    def said(find: Find) -> str:
        mean = find("storage", set="geometric mean", way=way)
        return (
            f"{100 * (1 - mean['of_default']):.0f} % smaller, {mean['write']:.2f} to write, {mean['read']:.2f} to read"
        )

    return said


def of_sets(column: str, *, way: str, form: Callable[[float], str]) -> Callable[[Find], str]:
    """Return what tells the figures of a layout for each set."""
    sets = ("orders", "lineitem", "noise", "series", "flights", "sparse")
    return lambda find: ", ".join(f"{name} {form(find('storage', set=name, way=way)[column])}" for name in sets)


FLOOR, GATE = "of the floor", "gate_pass"
SECTIONS: Mapping[str, tuple[Figure, ...]] = {
    "Quality gates": (
        Figure("8 rules, good and bad rows written; 5 / 10 / 20 M rows", "plain scan → sink of the same rows",
               lambda find: " / ".join(f"{find(GATE, rows=f'{n} M', variant='lazypipe')[FLOOR]:.2f}" for n in (5, 10, 20)), "≤ 1.3"),
        Figure("the same, without ledger; by hand in three passes; by hand, eagerly (10 M rows)", "the same",
               times(GATE, "lazypipe, audit: off", "three passes", "eager", column=FLOOR, key="variant", rows="10 M")),
        Figure("peak memory of the gated run; 5 / 10 / 20 M rows", "",
               lambda find: " / ".join(str(find(GATE, rows=f"{n} M", variant="lazypipe")["peak MB"]) for n in (5, 10, 20)) + " MB", "flat"),
        Figure("counting what violates 7 row rules, 10 M rows", "decoding the columns",
               times("gates", "counts: 7 row rules, lazypipe", column=FLOOR), "≤ 1.4"),
        Figure("with a unique key: in order / in no order", "the same",
               times("gates", "counts: 8 rules, lazypipe, sorted key", "counts: 8 rules, lazypipe, key in no order", column=FLOOR), "≤ 1.7 / 2.3"),
        Figure("these 8 rules as one hand-written streaming query", "the same", times("gates", "counts: 8 rules, by hand", column=FLOOR)),
        Figure("in pointblank / DuckDB / pandera / dataframely", "the same",
               times("gates", *(f"counts: 8 rules, {peer}" for peer in ("pointblank", "duckdb", "pandera", "dataframely")), column=FLOOR)),
        Figure("splitting by 7 row rules / by 8 with repeated keys found", "plain scan → sink",
               times("gates", "split: 7 row rules, lazypipe", "split: 8 rules, repeated keys found", column=FLOOR), "≤ 1.2 / 1.3"),
        Figure("50 rules on 20 columns", "10 rules on 10 columns", times("gates", "many: 50 rules on 20 columns", column=FLOOR), "≤ 5"),
    ),
    "Fixed costs": (
        Figure("the flights job (81 k rows)", "its query by hand / with the same checks by hand",
               lambda find: _flights(find, "80,789"), "≤ 1.05"),
        Figure("eight times as many flights", "the same", lambda find: _flights(find, "646,312")),
        Figure("first run of 10 M rows, filter and derive", "the query by hand, into one file", times("runs", "first run"), "≤ 1.02"),
        Figure("lineage and ledger, 10 M rows through a gate: first run / next", "processor time without",
               percent("lineage", "gate, 10 M rows, first", "gate, 10 M rows, again", column="cpu_ratio"), "≤ 0.5 %"),
        Figure("lineage and ledger, flights job: first run / next", "processor time without",
               percent("lineage", "flights, first", "flights, again", column="cpu_ratio"), "≤ 0.5 %"),
        Figure("processes: `import lazypipe` / `--help` / a run that finds nothing new", "`import polars`, CPU time",
               times("start", "import lazypipe", "the help", "a run finds nothing new", column="of import polars")),
    ),
    "Incremental runs, compile included": (
        Figure("nothing changed in 10,000 files", "a bare listing with stat", times("runs", "nothing changed"), "≤ 2"),
        Figure("nothing changed in 10 files of 1 GB", "10 files of 100 rows", times("runs", "nothing changed in 10 GB"), "≤ 1"),
        Figure("10,000 files compared by content", "BLAKE3 of these files alone", times("incremental", "content mode"), "≤ 1.2"),
        Figure("one of 1,000 files changed", "a run over that file alone", times("runs", "one file changed"), "≤ 1.5"),
        Figure("nothing to do after 1,000 versions", "after 10", times("runs", "after 1,000 commits"), "≤ 2"),
        Figure("200 keys upserted after 300 deliveries", "after 10", times("runs", "after 300 deliveries")),
        Figure("one dimension row changed, 1 of 50 files of facts has it", "in full", times("derive", "few")),
        Figure("differences of two tables of 10 M rows by key", "processing both", times("incremental", "diff"), "≤ 0.3"),
    ),
    "Event time": (
        Figure("hourly windows, 10 M rows", "`group_by(truncate)`", times("windows", "hourly", column="time ratio"), "≤ 1.15"),
        Figure("sessions of 100,000 keys", "sort, shift and cumulative sum", times("windows", "sessions", column="time ratio"), "≤ 1.5"),
        Figure("24 hours, beginning every hour", "exploding rows", times("windows", "24 h every hour", column="time ratio"), "≤ 1"),
        Figure("interval join", "`join_where`", times("windows", "near", column="time ratio")),
        Figure("20 deliveries, 3 % of the rows late: updating / quarantined", "the same rows, delivered on time",
               times("late_rows", "3 % late, updating", "3 % late, put aside", column="time ratio"), "≤ 1.05"),
        Figure("one late row after 10 / 100 days of history", "after 1 day",
               times("late_rows", "one late row after 10 days", "one late row after 100 days", column="time ratio"), "≤ 1"),
    ),
    "Storage, six sets of up to 10 M rows, geometric means": (
        Figure("`optimize: storage`", "Polars' default Parquet", stored("storage"), "≥ 30 %, ≤ 3, ≤ 1.1"),
        Figure("`optimize: balanced`", "the same", stored("balanced"), "≥ 15 %, any, ≤ 1"),
        Figure("`optimize: read`, the declared query", "the same, times as fast",
               of_sets("query", way="read", form=lambda ratio: f"{1 / ratio:.1f}"), "≥ 2"),
        Figure("choosing for `storage`", "the write", of_sets("choosing", way="storage", form=lambda part: f"{100 * part:.1f} %"), "≤ 3 %"),
    ),
}  # fmt: skip


def _flights(find: Find, flights: str) -> str:
    of = {
        way: find("flights", flights=flights, variant=way)["seconds"]
        for way in ("query by hand", "query and checks by hand", "lazypipe")
    }
    return f"{of['lazypipe'] / of['query by hand']:.2f} / {of['lazypipe'] / of['query and checks by hand']:.2f}"


def section(results: Path = HERE / "results") -> str:
    """Return the section of the README."""
    files = {p.stem: json.loads(p.read_text()) for p in results.glob("*.json")}

    def find(file: str, **of: Any) -> Mapping[str, Any]:
        rows: list[Mapping[str, Any]] = files[file]["rows"]
        return next(r for r in rows if all(r.get(k) == v for k, v in of.items()))

    versions = files[GATE]["versions"]
    lines = [
        BEGIN,
        f"Measured on {files[GATE]['cpus']} shared cores with lazypipe {versions['lazypipe']}, Polars {versions['polars']} and Python {versions['python']};",
        "each variant in turn with what it is compared with, medians. Figures are ratios of time (1.00: just as long) unless they say otherwise.",
        "Goals are what the project aims at; not all are reached. [benchmarks](benchmarks) has the programs, `benchmarks/results` all that they found.",
    ]
    for title, figures in SECTIONS.items():
        lines += ["", f"| {title} | compared with | measured | goal |", "|---|---|---|---|"]
        lines += [f"| {f.what} | {f.against} | {f.said(find)} | {f.goal} |" for f in figures]
    return "\n".join([*lines, END])


def with_section(readme: str, text: str) -> str:
    """Return the README with another section of figures."""
    before, _, rest = readme.partition(BEGIN)
    return before + text + rest.partition(END)[2]


if __name__ == "__main__":
    page = HERE.parent / "README.md"
    page.write_text(with_section(page.read_text(), section()))
