"""Whether data files are those that were written: files that somebody edits, replaces or removes are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from blake3 import blake3

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.storage.datasets.dataset import Dataset


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> lp.Pipeline:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    gate = [{"not_null": {"columns": "v", "action": "quarantine"}}]
    made = lp.pipeline("shop").source("s", "in/*.csv").stage("rows", "s", gate=gate)
    pipe = made.output("rows", "out/rows").output("file", "out/rows.csv", from_="rows", format="csv").build()
    Path("shop.yaml").write_text(pipe.to_yaml())
    for number in (1, 2):
        Path(f"in/{number}.csv").write_text(f"id,v\n{number},1\n9,\n")
        lp.load("shop.yaml").compile().run().raise_for_status()
    return lp.load("shop.yaml")


def data(root: Path, kind: str = "rows") -> Path:
    return min((root / "out" / kind).glob("*.parquet"))


def test_files_as_they_were_written(shop: lp.Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = lp.ledger(shop)
    found = ledger.verify(data=True)
    files = 1 + sum(len([*(tmp_path / "out").glob(f"{kind}/*.parquet")]) for kind in ("rows", "rows__quarantine"))
    assert (found.ok, found.data, found.to_dict()["data"]) == (True, files, files)
    assert str(found).endswith(f" records and {files} data files, all intact")
    one = ledger.verify(datasets=["out/rows"], data=True)
    assert (one.ok, one.data) == (True, len([*(tmp_path / "out/rows").glob("*.parquet")]))
    assert ledger.verify().data is None
    assert "data" not in ledger.verify().to_dict()
    # also what the ledger does not know, by its own commits
    lp.pipeline("other").source("s", "in/*.csv").output("s", "elsewhere").build().compile().run()
    assert ledger.verify(datasets=["elsewhere"], data=True).data == 1
    assert main(["ledger", "shop.yaml", "--data"]) == 0
    assert "all intact" in capsys.readouterr().out


def test_touched_files_are_named(shop: lp.Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, aside = data(tmp_path), data(tmp_path, "rows__quarantine")
    pl.read_parquet(path).with_columns(id=pl.lit(7, dtype=pl.Int64)).write_parquet(path)
    aside.unlink()
    (tmp_path / "out/rows.csv").write_text("id,v\n1,5\n")
    found = lp.ledger(shop).verify(data=True)
    edited = "does not hold what was written: it was edited, replaced or damaged"
    assert {p.file: p.what for p in found.problems} == {
        str(path): edited,
        str(aside): "cannot be read: No such file or directory; check the path, permissions and network",
        str(tmp_path / "out/rows.csv"): edited,
    }
    with pytest.raises(lp.StorageError, match="restore it from a backup, and find out who did it"):
        found.raise_for_status()
    assert lp.ledger(shop).verify().ok
    assert main(["ledger", "shop.yaml", "--verify"]) == 0
    assert main(["ledger", "shop.yaml", "--data"]) == 3
    out = capsys.readouterr().out
    assert "3 problems" in out
    assert f"    {path}: {edited}" in out.splitlines()


def test_an_edited_commit_does_not_hide_an_edited_file(shop: lp.Pipeline, tmp_path: Path) -> None:
    lp.vacuum(shop)  # the version that wrote the first file is gone; the one in force names it still
    path = data(tmp_path)
    (log,) = (tmp_path / "out/rows.commits").glob("*.json")
    old = lp.ledger(shop).verify(data=True)
    assert old.ok
    pl.read_parquet(path).with_columns(id=pl.lit(7, dtype=pl.Int64)).write_parquet(path)
    commit = Dataset(str(tmp_path / "out/rows")).latest()
    assert commit is not None
    digest = blake3(path.read_bytes()).hexdigest()
    forged = tuple(replace(f, blake3=digest) if f.path == path.name else f for f in commit.files)
    log.write_bytes(replace(commit, files=forged).to_json())  # sealed anew
    assert [p.file for p in lp.ledger(shop).verify(data=True).problems] == [str(path)]


def test_datasets_that_went_and_commits_that_cannot_be_read(shop: lp.Pipeline, tmp_path: Path) -> None:
    commits = sorted((tmp_path / "out/rows.commits").glob("*.json"))
    commits[0].write_text("{")
    for commit in (tmp_path / "out/rows__quarantine.commits").glob("*.json"):
        commit.unlink()
    found = {p.file: p.what for p in lp.ledger(shop).verify(data=True).problems}
    assert found[str(tmp_path / "out/rows__quarantine")] == "there is no dataset, and record 2 wrote version 2"
    assert set(found) == {str(tmp_path / "out/rows__quarantine"), str(commits[0])}
    assert lp.ledger(shop).verify(datasets=["nowhere"], data=True).problems[0].what == "there is no dataset"


def test_commits_behind_a_ledger_that_lost_its_end(shop: lp.Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert not lp.ledger(shop).verify(data=True).warnings
    book = Path(lp.ledger(shop).uri)
    last = max(book.glob("*.json"))
    run = lp.ledger(shop).records()[-1].run
    last.unlink()
    found = lp.ledger(shop).verify(data=True)
    assert [Path(p.file).name for p in found.problems] == ["rows.csv"]
    # of datasets it is no problem: a run that is killed between its commit and its record leaves the same
    what = "which the ledger does not know: its record was removed, or the run was killed before it wrote one"
    known = {Path(w.file).parent.name: w.what for w in found.warnings}
    assert known == {
        f"{kind}.commits": f"version 2 was committed by run {run!r}, {what}" for kind in ("rows", "rows__quarantine")
    }
    assert not lp.ledger(shop).verify().warnings
    assert main(["ledger", "shop.yaml", "--data"]) == 3
    assert f"    note: {book.parents[1]}" in capsys.readouterr().out
    # what cannot be read is told once, and what was put in order or brought back without a run is known by its rows
    lp.optimize.rewrite("out/rows", lp.optimize.Layout(sort_by=("id",)))
    lp.rollback(shop, "rows", version=1)
    assert len(lp.ledger(shop).verify(data=True).warnings) == 2
    Path(found.warnings[0].file).write_text("{")
    assert len(lp.ledger(shop).verify(data=True).warnings) == 1


def test_a_run_with_another_key_is_told(shop: lp.Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shop.to_yaml() + "audit: {ledger: books, key: '${BOOK_KEY}'}\n"
    Path("shop.yaml").write_text(text)

    def warned(key: str) -> tuple[str, ...]:
        monkeypatch.setenv("BOOK_KEY", key)
        result = lp.load("shop.yaml").compile().run()
        result.raise_for_status()
        return result.warnings

    assert warned("right") == ()
    assert warned("right") == ()
    (told,) = warned("wrong one")
    assert told == (
        f"{Path('books').absolute()}: record 2 was signed with another key than this run's; set the variable that "
        "audit.key names to the key of this ledger, unless the key was to change"
    )
    assert warned("wrong one") == ()
