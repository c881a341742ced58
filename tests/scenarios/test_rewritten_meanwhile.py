"""Somebody compacts or rewrites an output while a run is about to commit to it: the run goes on, with what is in the new files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import CommitLog

SUMS = [{"aggregate": {"by": ["id"], "aggregate": {"v": "sum(v)", "m": "median(v)"}}}]
OUTPUTS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "upsert": ([], {"mode": "upsert", "key": ["id"]}),
    "upsert with changes": ([], {"mode": "upsert", "key": ["id"], "changes": True}),
    "scd2": ([], {"mode": "scd2", "key": ["id"]}),
    "replace_partitions": ([], {"mode": "replace_partitions", "partition_by": ["k"]}),
    "snapshot": ([], {"mode": "snapshot", "keep": 1}),
    "append": ([], {"mode": "append"}),
    "replace": ([], {}),
    "groups": (SUMS, {"key": ["id"], "changes": True}),
}


def made(base: Path, steps: list[dict[str, Any]], output: dict[str, Any]) -> lp.Pipeline:
    gate = [{"positive": {"columns": "v", "action": "quarantine"}}]
    built = lp.pipeline("p", base=base).source("s", "*.parquet").stage("t", "s", steps, gate=gate)
    return built.output("t", "out/t", **output).build()


def deliver(base: Path, number: int, low: int, high: int) -> None:
    rows = {
        "id": range(low, high),
        "k": [f"k{number % 2}"] * (high - low),
        "v": [number + 1] * (high - low - 1) + [-number - 1],
    }
    pl.DataFrame(rows).write_parquet(base / f"{number}.parquet")


def found(base: Path, name: str) -> list[tuple[Any, ...]]:
    rows = lp.scan(str(base / "out" / name)).collect()
    hidden = {"valid_from", "valid_to", "snapshot_at", "_time", "_version", "_run", "_lazypipe_run", "_lazypipe_file"}
    return sorted(map(repr, rows.drop(hidden & {*rows.columns}).rows()))


def rewriting(monkeypatch: pytest.MonkeyPatch, how: str) -> list[str]:
    """Have the output rewritten right before the next commit to it."""
    real, done = Dataset.commit, list[str]()

    def commit(self: Dataset, *args: Any, **kwargs: Any) -> Any:
        if self.uri.endswith("out/t") and not done:
            done.append(self.uri)
            lp.optimize.rewrite(self.uri, "storage") if how == "rewrite" else lp.optimize.compact(self.uri, dead=0)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Dataset, "commit", commit)
    return done


@pytest.mark.parametrize("how", ["rewrite", "compact"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_run_goes_on_where_files_were_only_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, how: str
) -> None:
    worlds = {}
    for world in ("alone", "together"):
        base = tmp_path / world
        base.mkdir()
        pipe = made(base, *OUTPUTS[name])
        for number in range(3):
            deliver(base, number, number * 100, number * 100 + 100)
            pipe.compile().run().raise_for_status()
        deliver(base, 3, 50, 250)
        with monkeypatch.context() as patched:
            done = rewriting(patched, how) if world == "together" else []
            result = pipe.compile().run()
        assert len(done) == (world == "together")
        assert (result.status, result.overtaken) == ("done", False), result.segments[-1].error
        worlds[world] = [
            found(base, n) for n in ("t", "t__quarantine", *["t__changes"] * ("changes" in OUTPUTS[name][1]))
        ]
        # nothing is left of a try that was given up
        log = CommitLog(str(base / "out/t.commits"))
        live = {f.path for version in log.versions() for f in log.read(version).files}
        assert {p.relative_to(base / "out/t").as_posix() for p in (base / "out/t").rglob("*.parquet")} == live
    assert worlds["together"] == worlds["alone"]
