"""How often a run asks a store for the log of an output: over a network, each time is a round trip."""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import lazypipe as lp


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """Count listings and reads of folders with commits, by the dataset."""
    found = Counter[tuple[str, str]]()

    def counted(name: str) -> None:
        real = getattr(MemoryFileSystem, name)

        def call(self: MemoryFileSystem, path: str, *args: Any, **more: Any) -> Any:
            dataset, commits, _ = path.partition(".commits")
            found.update([(name, dataset.rpartition("/")[2])] if commits else [])
            return real(self, path, *args, **more)

        monkeypatch.setattr(MemoryFileSystem, name, call)

    counted("ls")
    counted("cat_file")
    return found


@pytest.mark.parametrize("mode", ["replace", "append", "upsert"])
def test_a_run_reads_the_log_of_an_output_once(tmp_path: Path, asked: Counter[tuple[str, str]], mode: str) -> None:
    to = f"memory://{uuid.uuid4().hex}/out"
    key = {"key": "id"} if mode == "upsert" else {}

    def run() -> str:
        asked.clear()
        made = lp.pipeline("p", base=str(tmp_path), audit="off").source("a", "in/*.parquet")
        made = made.stage("b", "a", gate=[{"between": {"column": "x", "max": 8, "action": "quarantine"}}])
        result = made.output("b", to, mode=mode, **key).build().compile().run()
        result.raise_for_status()
        return result.status

    def deliver(number: int) -> None:
        (tmp_path / "in").mkdir(exist_ok=True)
        ids = range(number * 10, number * 10 + 10)
        pl.DataFrame({"id": ids, "x": range(10)}).write_parquet(tmp_path / "in" / f"{number}.parquet")

    deliver(0)
    assert run() == "done"
    # what is there; whether it still is, before it is judged and before anything is published; and with the commit
    assert asked == {("ls", "out"): 4, ("ls", "out__quarantine"): 2}
    deliver(1)
    assert run() == "done"
    reads = {("cat_file", "out"): 1, ("cat_file", "out__quarantine"): 1}
    assert asked == {("ls", "out"): 4, ("ls", "out__quarantine"): 2, **reads}
    assert run() == "unchanged"
    assert asked == {("ls", "out"): 1, ("cat_file", "out"): 1}
    aside = lp.scan(f"{to}__quarantine").select("id").collect()["id"].sort().to_list()
    assert (lp.scan(to).select(pl.len()).collect().item(), aside) == (18, [9, 19])
