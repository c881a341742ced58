"""However the files of a dataset are laid out, and whatever is done to them: rows and types are those of one that nobody laid out."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.optimizer.layout import Layout
from tests.storage.optimizer.test_forms import bits

START = datetime(2024, 1, 1, tzinfo=UTC)
FEW = settings(max_examples=max(8, settings().max_examples // 5))
MODES: dict[str, dict[str, Any]] = {
    "replace": {},
    "append": {"mode": "append"},
    "upsert": {"mode": "upsert", "key": "id"},
    "in order": {"mode": "upsert", "key": "id", "order_by": "at", "deleted_when": "x = 3"},
    "snapshot": {"mode": "snapshot"},
    "scd2": {"mode": "scd2", "key": "id"},
    "scd2 that closes": {"mode": "scd2", "key": "id", "deletes": "close"},
}
GOALS = ("storage", "balanced", "read", "write")
LAYOUTS = (
    Layout(),
    Layout(
        sort_by=("x", "na me"), row_group_rows=40, writer="pyarrow", level=3, encodings={"id": "delta"}, bloom=("id",)
    ),
    Layout(sort_by=("x", "at"), curve="hilbert", page_bytes=1_000, statistics=False),
)
WORKLOAD = {"queries": ["SELECT id FROM o WHERE x = 2", "SELECT sum(price) FROM o GROUP BY part"]}
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(1, 60)),
        st.tuples(st.just("deliver"), st.integers(700, 900)),
        st.tuples(st.just("take away"), st.none()),
        st.tuples(st.just("rewrite"), st.sampled_from(GOALS)),
        st.tuples(st.just("lay out"), st.sampled_from(LAYOUTS)),
        st.tuples(st.just("fold"), st.sampled_from([["part"], ["x"], []])),
        st.tuples(st.just("declare"), st.sampled_from([["part"], ["x"], []])),
        st.tuples(st.just("compact"), st.none()),
        st.tuples(st.just("vacuum"), st.none()),
        st.tuples(st.just("roll back"), st.integers(1, 3)),
        st.tuples(st.just("replay"), st.integers(0, 1)),
    ),
    min_size=2,
    max_size=6,
)


def rows(number: int, count: int, *, whole: bool) -> pl.DataFrame:
    """Return rows of a delivery; of ``whole`` columns hardly anything is missing."""
    n = pl.col("n") + 31 * number
    some = pl.col("n") % 53 == 7
    return pl.select(n=pl.int_range(count, dtype=pl.Int64)).select(
        n.alias("id"),
        (n.hash() % 4).cast(pl.Int64).alias("x"),
        pl.when(n % 5 > 0).then(pl.format("{}/é", n % 3)).alias("part"),
        (pl.lit(START) + pl.duration(seconds=n * 60, microseconds=(n % 97 == 0).cast(pl.Int64))).alias("at"),
        pl.when(some)
        .then(pl.lit(None if whole else float("nan")))
        .otherwise((n * 7_919 % 10_007) / 100)
        .alias("price"),
        pl.format("user{}@shop.example", n * 31 % 401).alias("na me"),
        pl.when(n % 2 == 0).then(pl.lit("yes")).otherwise(pl.lit("no")).cast(pl.Categorical).alias("flag"),
        (n % 100).cast(pl.Decimal(12, 2)).alias("cents"),
        pl.concat_list(n, n + 1).alias("pair"),
        pl.lit(None, dtype=pl.Int32).alias("nothing"),
    )


class Twin:
    """A pipeline over files, and what is done to its output."""

    def __init__(self, root: Path, output: dict[str, Any], gate: list[Any]) -> None:
        self.root, self.output, self.gate = root, output, gate
        self.runs, self.versions = 0, list[int]()
        (root / "in").mkdir(parents=True)

    @property
    def uri(self) -> str:
        return str(self.root / "out/o")

    def plan(self) -> lp.Plan:
        definition = {
            "version": 1,
            "name": "p",
            "sources": {"s": {"uri": "in/*.parquet"}},
            "stages": {"o": {"from": "s", "gate": self.gate}},
            "outputs": {"o": {"to": "out/o", **self.output}},
        }
        return lp.Pipeline.from_dict(definition, base=str(self.root)).compile()

    def run(self) -> str:
        self.runs += 1
        result = self.plan().run(now=START + timedelta(days=self.runs))
        result.raise_for_status()
        self.versions.append(Dataset(self.uri).read().version)
        return result.segments[0].status

    def held(self, version: int | None = None) -> tuple[dict[str, pl.DataType], Counter[str]]:
        frame = lp.scan(self.uri, version=version).collect()
        return dict(frame.schema), Counter(map(repr, bits(frame)))

    def filtered(self) -> Counter[str]:
        frame = lp.scan(self.uri).filter((pl.col("x") == 2) & (pl.col("id") > 40)).select("id", "price", "na me")
        return Counter(map(repr, bits(frame.collect())))


@FEW
@given(
    mode=st.sampled_from([*MODES]),
    optimize=st.sampled_from(GOALS),
    folders=st.booleans(),
    asked=st.booleans(),
    gated=st.booleans(),
    steps=STEPS,
)
def test_a_layout_changes_no_row(
    mode: str, optimize: str, folders: bool, asked: bool, gated: bool, steps: Sequence[tuple[str, Any]]
) -> None:
    output = MODES[mode] | ({"partition_by": "part"} if folders else {})
    laid_out = output | {"optimize": optimize} | ({"workload": WORKLOAD} if asked else {})
    with tempfile.TemporaryDirectory() as folder:
        gate = [{"between": {"column": "x", "max": 2, "action": "quarantine"}}] if gated else []
        twins = [Twin(Path(folder) / n, o, gate) for n, o in (("plain", output), ("laid", laid_out))]
        plain, laid = twins
        delivered = 0
        vacuumed = False
        for what, arg in [("deliver", 800), *steps]:
            match what:
                case "deliver":
                    delivered += 1
                    frame = rows(delivered, arg, whole=mode != "append")
                    for twin in twins:
                        if mode == "scd2 that closes":  # each delivery is all that there is
                            (twin.root / "in" / f"{delivered - 1:03}.parquet").unlink(missing_ok=True)
                        frame.write_parquet(twin.root / "in" / f"{delivered:03}.parquet")
                case "take away" if delivered > 1 and mode != "scd2 that closes":
                    for twin in twins:
                        (twin.root / "in" / f"{delivered - 1:03}.parquet").unlink(missing_ok=True)
                case "rewrite":
                    lp.optimize.rewrite(laid.uri, arg, every=True)
                case "lay out":
                    lp.optimize.rewrite(laid.uri, arg)
                case "fold":
                    lp.optimize.rewrite(laid.uri, Layout(writer="pyarrow"), partition_by=arg)
                case "declare":
                    # a run makes the output anew for that, or leaves what is there as it is
                    laid.output = {k: v for k, v in laid.output.items() if k != "partition_by"}
                    laid.output |= {"partition_by": arg} if arg else {}
                    laid.run()
                    plain.run()
                case "compact":
                    lp.optimize.compact(laid.uri, dead=0.0)
                case "vacuum":
                    vacuumed = True
                    for twin in twins:
                        lp.vacuum(twin.uri, keep=1, older_than=timedelta(0))
                        twin.versions = [Dataset(twin.uri).read().version]
                case "roll back" if not vacuumed and len(plain.versions) > arg:
                    for twin in twins:
                        lp.rollback(twin.uri, version=twin.versions[-1 - arg])
                case "replay" if gated and mode in ("replace", "append"):
                    for twin in twins:
                        twin.gate = [{"between": {"column": "x", "max": 2 + arg, "action": "quarantine"}}]
                        twin.plan().replay("o")
            if plain.runs:
                assert laid.held() == plain.held()
            assert laid.run() == plain.run()
            assert laid.held() == plain.held()
            assert laid.filtered() == plain.filtered()
        for one, other in zip(laid.versions, plain.versions, strict=True):
            assert laid.held(one) == plain.held(other)
