"""Whatever comes in whatever deliveries: a Delta table ends with the rows of one full run, and so does each of its versions."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.scenarios.test_delta import agree, as_delta, rows

START = datetime(2024, 1, 1, tzinfo=UTC)
SCHEMA = pl.Schema({"id": pl.Int64(), "part": pl.String(), "x": pl.Int64()})
ROW = st.tuples(st.integers(0, 5), st.sampled_from(["a", "b/c", None]), st.one_of(st.none(), st.integers(-1, 2)))
CHANGE = st.tuples(st.sampled_from("wwwd"), st.integers(0, 3), st.lists(ROW, min_size=1, max_size=4))
"""A file is written, or deleted."""
STEP = st.one_of(
    st.lists(CHANGE, min_size=1, max_size=3), st.sampled_from(["compact", "rollback", "vacuum", "rewrite", "bounded"])
)
STAGES: dict[str, dict[str, Any]] = {
    "rows": {"do": [], "gate": [{"between": {"column": "x", "min": 0, "action": "quarantine"}}]},
    "groups": {"do": [{"derive": {"most": "max(x) OVER (PARTITION BY part)"}}]},
    "sums": {"do": [{"aggregate": {"by": ["part"], "aggregate": {"sum": "sum(x)", "many": "count(*)"}}}]},
}


def plan(root: Path, to: str, stage: str, fmt: str, **output: Any) -> lp.Plan:
    definition = {
        "version": 1,
        "name": "p",
        "audit": {"mode": "recorded", "ledger": f"{to}-ledger"},
        "state": f".{to}",
        "sources": {"s": {"uri": "in/*.parquet"}},
        "stages": {"o": {"from": "s", **STAGES[stage]}},
        "outputs": {"o": {"to": to, "format": fmt, **output}},
    }
    return lp.Pipeline.from_dict(definition, base=str(root)).compile()


def write(root: Path, changes: Any) -> None:
    for kind, number, data in changes:
        path = root / f"in/{number}.parquet"
        if kind == "w":
            pl.DataFrame(data, schema=SCHEMA, orient="row").write_parquet(path)
        else:
            path.unlink(missing_ok=True)
    if not any((root / "in").iterdir()):
        pl.DataFrame([(0, "a", 0)], schema=SCHEMA, orient="row").write_parquet(root / "in/0.parquet")


@settings(max_examples=max(8, settings().max_examples // 5))
@given(
    stage=st.sampled_from([*STAGES]),
    partitioned=st.booleans(),
    optimized=st.booleans(),
    converted=st.booleans(),
    steps=st.lists(STEP, min_size=2, max_size=5),
)
def test_tables_are_what_a_full_run_makes(
    stage: str, partitioned: bool, optimized: bool, converted: bool, steps: list[Any]
) -> None:
    output: dict[str, Any] = {"partition_by": ["part"]} if partitioned else {}
    output |= {"optimize": "storage"} if optimized else {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "in").mkdir()
        uri, runs = str(root / "out"), 0

        def run(fmt: str, **more: Any) -> None:
            nonlocal runs
            runs += 1
            result = plan(root, "out", stage, fmt, **output).run(now=START + timedelta(days=runs), **more)
            result.raise_for_status()
            assert result.warnings == ()

        write(root, [("w", n, [(n, "a", n), (n, "b/c", 7)]) for n in range(3)])
        run("dataset" if converted else "delta")
        for step in [*steps, []]:
            match step:
                case "compact":
                    lp.optimize.compact(uri, dead=0.0)
                case "rewrite":
                    lp.optimize.rewrite(uri, "storage", every=True)
                case "rollback":
                    lp.rollback(uri, version=lp.history(uri)["version"][0])
                case "vacuum":
                    lp.vacuum(uri, keep=2, older_than=timedelta(0))
                case "bounded":
                    write(root, [("w", 5, [(5, "a", 5)]), ("w", 6, [(6, None, 6)])])
                    run("delta", max_files=1)
                case changes:
                    write(root, changes)
                    run("delta")
            if (root / "out/_delta_log").is_dir():
                agree(uri)
        full = plan(root, "full", stage, "dataset")
        full.run().raise_for_status()
        wanted = as_delta(lp.scan(str(root / "full")).collect())
        assert rows(pl.read_delta(uri).select(wanted.columns)) == rows(wanted)
        assert lp.ledger(str(root / "out-ledger")).verify(datasets=[uri]).ok
