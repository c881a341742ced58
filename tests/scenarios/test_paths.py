"""Where a dataset's URI is asked for, a path will do."""

from __future__ import annotations

from pathlib import Path

import lazypipe as lp


def test_paths_are_as_good_as_texts(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pipe = lp.pipeline("p", base=tmp_path).source("a", tmp_path / "in/*.csv").output("a", tmp_path / "out").build()
    for number in (1, 2):
        (tmp_path / f"in/{number}.csv").write_text(f"x\n{number}\n")
        pipe.compile().run().raise_for_status()
    out = tmp_path / "out"
    assert sorted(lp.scan(out).collect()["x"]) == [1, 2]
    assert lp.history(out)["version"].to_list() == [1, 2]
    assert lp.diff((out, 1), out, key="x").inserted["x"].to_list() == [2]
    assert lp.optimize.rewrite(out, "read", dry_run=True).uri == str(out)
    assert lp.optimize.compact(out, dry_run=True).uri == str(out)
    assert lp.rollback(out, version=1) == 3
    assert lp.publish_delta(out) > 0
    before = {f.name for f in out.glob("*.parquet")}
    gone = lp.vacuum(out)
    assert len(gone) == 1
    assert {*gone} == before - {f.name for f in out.glob("*.parquet")}
    assert lp.ledger(tmp_path / ".lazypipe/ledger").verify(datasets=[str(out)]).ok
