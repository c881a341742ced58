"""A disk that fills up, at whichever write: an error that names the target, nothing published, and a next run that works."""

from __future__ import annotations

import errno
import json
import pickle
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.errors import SourceError, StorageError
from lazypipe.records.record import Records
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.testing.faults import Faults, faulty

FULL = OSError(errno.ENOSPC, "No space left on device")
NOW = timedelta(0)


def pipe(base: str, source: str, state: str = ".lazypipe") -> lp.Pipeline:
    return lp.Pipeline.from_yaml(
        f"""
        version: 1
        name: p
        state: {state}
        sources: {{a: {{uri: {source}, gate: [{{between: {{column: x, min: 1, action: quarantine}}}}]}}}}
        stages: {{b: {{from: a, do: [{{derive: {{y: x * 2}}}}]}}}}
        outputs:
          b: {{to: out/b, partition_by: [k]}}
          e: {{from: b, to: out/e.csv, format: csv}}
        """,
        base=base,
    )


def deliver(folder: Path, first: int) -> None:
    frame = pl.DataFrame({"x": range(first, first + 50), "k": ["p", "q"] * 25})
    frame.write_parquet(folder / "a.parquet")


def published(faults: Faults) -> tuple[list[Any], bytes]:
    rows = sorted(lp.scan(f"{faults.uri}out/b").collect().rows())
    return rows, faults_fs().cat_file("out/e.csv")


def faults_fs() -> Any:
    import fsspec

    return fsspec.filesystem("faulty")


CALLS = ["open", "write", "close", "create", "mkdir", "move"]


@pytest.mark.parametrize("call", CALLS)
def test_every_write_to_the_outputs_can_fail(tmp_path: Path, call: Any) -> None:
    with faulty() as faults:
        made = pipe(faults.uri, f"{tmp_path}/a.parquet", state=str(tmp_path / "state"))
        deliver(tmp_path, 0)
        made.compile().run(run="first").raise_for_status()
        old = published(faults)
        faults.mend()
        made.compile().run(run="count", full=True).raise_for_status()
        number = faults.calls[call]
        assert number > 0
        deliver(tmp_path, 10)
        for nth in range(1, number + 1):
            faults.mend()
            faults.fail(call, FULL, nth=nth)
            result = made.compile().run(run=f"full{nth}")
            assert (result.status, result.exit_code) == ("error", 3), f"{call} {nth}"
            (error,) = [s.error for s in result.segments if s.error is not None]
            assert isinstance(error, StorageError)
            assert error.uri is not None
            assert error.uri.startswith(f"{faults.uri}out/")
            assert "No space left on device" in str(error)
            assert "\n" not in str(error)
            faults.mend()
            rows, export = published(faults)
            b, e = result.segments
            assert (rows == old[0]) is (b.status != "done")
            assert export == old[1]
            assert e.status == ("blocked" if b.status == "error" else "error")
            record = json.loads((tmp_path / "state" / "runs" / f"full{nth}.json").read_text())
            assert record["status"] == "error"
            lp.vacuum(made, older_than=NOW)
            assert published(faults) == (rows, export)
            # back to the first delivery, so that the next failure has something to lose again
            deliver(tmp_path, 0)
            made.compile().run(run=f"again{nth}").raise_for_status()
            assert published(faults) == old
            lp.vacuum(made, older_than=NOW)
            commit = Dataset(f"{faults.uri}out/b").read()
            live = {f"out/b/{f.path}" for f in commit.files} | {f"out/b.commits/{commit.version:020}.json", "out/e.csv"}
            assert set(faults_fs().find("out")) - live == set()
            deliver(tmp_path, 10)
        made.compile().run(run="last").raise_for_status()
        assert published(faults) != old


@pytest.mark.parametrize("call", ["open", "write", "close", "create"])
def test_a_quarantine_that_cannot_be_written_stops_the_run(tmp_path: Path, call: Any) -> None:
    with faulty() as faults:
        deliver(tmp_path, 0)
        (tmp_path / "p").mkdir()
        made = pipe(str(tmp_path / "p"), f"{tmp_path}/a.parquet", state="faulty://state")
        made.compile().run(run="first").raise_for_status()
        old = lp.scan(str(tmp_path / "p" / "out" / "b")).collect().sort("x").rows()
        kept = lp.scan("faulty://state/quarantine/p/a").collect().rows()
        assert [row[0] for row in kept] == [0]
        deliver(tmp_path, -5)
        faults.mend()
        if call == "create":
            faults.fail(call, FULL)
        else:
            # the record is written first, with one call of each kind
            faults.fail(call, FULL, nth=2)
        result = made.compile().run(run="full")
        assert (result.status, result.commits) == ("error", {})
        assert isinstance(result.segments[0].error, StorageError)
        assert "No space left on device" in str(result.segments[0].error)
        assert lp.scan(str(tmp_path / "p" / "out" / "b")).collect().sort("x").rows() == old
        assert lp.scan("faulty://state/quarantine/p/a").collect().rows() == kept
        faults.mend()
        made.compile().run(run="next").raise_for_status()
        assert sorted(lp.scan("faulty://state/quarantine/p/a").collect()["x"]) == [-5, -4, -3, -2, -1, 0]


def test_who_rewrites_a_dataset_or_replays_into_it_is_told_where_the_disk_is_full(tmp_path: Path) -> None:
    with faulty() as faults:
        deliver(tmp_path, 0)
        made = lp.Pipeline.from_yaml(
            """
            version: 1
            name: p
            sources: {a: {uri: a.parquet}}
            stages: {b: {from: a, gate: [{between: {column: x, min: 1, action: quarantine}}]}}
            outputs: {b: {to: "faulty://out/b"}}
            """,
            base=str(tmp_path),
        )
        made.compile().run().raise_for_status()
        old = lp.scan("faulty://out/b").collect().sort("x")
        said = "cannot be written: No space left on device; nothing was published; fix the cause and run again"
        for uri, work in [
            ("faulty://out/b", lambda: lp.optimize.rewrite("faulty://out/b", "storage", partition_by=["k"])),
            ("faulty://out/b__quarantine", lambda: lp.replay(made.compile(), "b")),
        ]:
            faults.mend()
            faults.fail("write", FULL)
            with pytest.raises(StorageError) as found:
                work()
            assert str(found.value) == f"{uri}: {said}"
            faults.mend()
            assert lp.scan("faulty://out/b").collect().sort("x").equals(old)


def test_the_place_is_named_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the output that the rows were to go beside; values of the environment are not told."""
    monkeypatch.setenv("WHERE", "hidden")
    with faulty() as faults:
        deliver(tmp_path, 0)
        made = lp.Pipeline.from_yaml(
            """
            version: 1
            name: p
            sources: {a: {uri: a.parquet}}
            stages: {b: {from: a, gate: [{between: {column: x, min: 1, action: quarantine}}]}}
            outputs: {b: {to: "faulty://${WHERE}/b"}}
            """,
            base=str(tmp_path),
        )
        # the output's one file is first, then that of the quarantine
        faults.fail("open", OSError(errno.EACCES, "Permission denied", "faulty://hidden/b__quarantine/x"), nth=2)
        result = made.compile().run(run="r")
        said = "cannot be written: Permission denied; nothing was published; fix the cause and run again"
        assert [str(s.error) for s in result.segments] == [f"faulty://${{WHERE}}/b__quarantine: {said}"]
        faults.mend()
        faults.fail("create", OSError(errno.EACCES, "Permission denied", "faulty://hidden/b.commits/1"))
        result = made.compile().run(run="again")
        assert (result.status, "hidden" in str(result.segments[0].error)) == ("error", False)
        assert "hidden" not in (tmp_path / ".lazypipe" / "runs" / "again.json").read_text()
        for path in (tmp_path / ".lazypipe" / "ledger").rglob("*.json"):
            assert "hidden" not in path.read_text()


def test_the_command_tells_what_was_published_before_the_record_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver(tmp_path, 0)
    (tmp_path / "p.yaml").write_text(pipe(str(tmp_path), "a.parquet").to_yaml())
    write, calls = Records.write, iter(range(1, 9))

    def full(self: Records, run: str, record: Any) -> None:
        if next(calls) == 2:
            raise StorageError("cannot write the run's record: No space left on device", uri=self.path(run))
        write(self, run, record)

    monkeypatch.setattr(Records, "write", full)
    assert main(["run", str(tmp_path / "p.yaml")]) == 3
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("b: 49 rows, ")
    assert told[-1].endswith(".json: cannot write the run's record: No space left on device")
    assert "record: " not in told[-1].replace("the run's record: ", "")


def test_a_record_that_cannot_be_written_stops_the_run_before_it_begins(tmp_path: Path) -> None:
    with faulty() as faults:
        deliver(tmp_path, 0)
        made = pipe(str(tmp_path), "a.parquet", state="faulty://state")
        faults.fail("write", FULL)
        with pytest.raises(
            StorageError, match=r"^faulty://state/runs/r.json: cannot write the run's record: .*No space"
        ):
            made.compile().run(run="r")
        assert not (tmp_path / "out").exists()
        made.compile().run(run="again").raise_for_status()


@pytest.mark.parametrize(
    ("nth", "made", "told"),
    [(1, [], "error"), (2, ["b"], "error"), (3, ["b", "e"], "done")],
    ids=["first", "between", "last"],
)
def test_a_run_whose_record_cannot_be_written_is_one_run_in_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int, made: list[str], told: str
) -> None:
    """Who runs several together is told of the run that began: by its name, with what it published until then."""
    deliver(tmp_path, 0)
    pipeline = pipe(str(tmp_path), "a.parquet")
    write, calls = Records.write, iter(range(1, 9))

    def full(self: Records, run: str, record: Any) -> None:
        if next(calls) == nth:
            raise StorageError("cannot write the run's record: No space left on device", uri=self.path(run))
        write(self, run, record)

    monkeypatch.setattr(Records, "write", full)
    result = lp.run_all([pipeline])["p"]
    assert (result.status, result.exit_code) == ("error", 3)
    assert "No space left on device" in str(result.error)
    assert [s.name for s in result.segments if s.status == "done"] == made
    assert pickle.loads(pickle.dumps(result.error)).result.run == result.run
    (entry,) = lp.ledger(pipeline).records()
    assert (entry.body["run"], entry.body["status"]) == (result.run, told)


@pytest.mark.parametrize("ending", ["parquet", "csv", "ndjson"])
def test_a_connection_that_is_lost_while_a_source_is_read(tmp_path: Path, ending: str) -> None:
    frame = pl.DataFrame({"x": range(1, 51), "k": ["p", "q"] * 25})
    with faulty() as faults:
        path = tmp_path / f"a.{ending}"
        {"parquet": frame.write_parquet, "csv": frame.write_csv, "ndjson": frame.write_ndjson}[ending](path)
        faults_fs().pipe_file(f"a.{ending}", path.read_bytes())
        made = pipe(str(tmp_path), f"faulty://a.{ending}")
        plan = made.compile()
        faults.mend()
        plan.run(run="first").raise_for_status()
        reads = faults.calls["read"]
        lost = 0
        for nth in range(1, reads + 1):
            faults.mend()
            faults.fail("read", ConnectionResetError(104, "Connection reset by peer"), nth=nth)
            before = Dataset(str(tmp_path / "out" / "b")).log.versions()
            result = plan.run(run=f"lost{nth}", full=True)
            if result.status == "done":
                # a read that only hashes is not missed, or there were fewer than at first: who hashes and who reads rows go their own pace
                assert lp.scan(str(tmp_path / "out" / "b")).collect().sort("x").drop("y").equals(frame)
                continue
            lost += 1
            assert (result.status, result.exit_code) == ("error", 3)
            error = result.segments[0].error
            assert isinstance(error, SourceError)
            assert str(error).startswith(f"faulty://a.{ending}: source 'a': ")
            assert "Connection reset by peer" in str(error)
            assert Dataset(str(tmp_path / "out" / "b")).log.versions() == before
        assert lost > 0
        plan.run(run="next").raise_for_status()
        assert lp.scan(str(tmp_path / "out" / "b")).collect().sort("x").drop("y").equals(frame)


LIMITED = """
import importlib, json, os, pkgutil, resource, sys
import lazypipe as lp
import polars._utils
for package in (lp, polars._utils):  # Python itself may be out of reach without rights
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
kind, *roots = sys.argv[1:]
plans = [lp.load(root + "/p.yaml").compile() for root in roots]
if kind == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
elif os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for plan in plans:
    result = plan.run(run="full")
    print(json.dumps([result.status, result.exit_code, result.commits, [str(s.error) for s in result.segments if s.error]]))
"""

OUTPUTS = {
    "dataset": "a: {to: out/a}",
    "csv": "a: {to: out/a.csv, format: csv}",
    "parquet": "a: {to: out/a.parquet, format: parquet}",
    "ipc": "a: {to: out/a.arrow, format: ipc}",
    "kept": "b: {to: out/a, from: b}, c: {to: out/c, from: c}",
}


@pytest.mark.parametrize(
    ("kind", "outputs", "reason"),
    [("limit", [*OUTPUTS], "File too large"), ("rights", ["dataset", "csv"], "Permission denied")],
)
def test_a_real_limit_and_real_rights(tmp_path: Path, kind: str, outputs: list[str], reason: str) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_mode & 0o055 != 0o055:
            parent.chmod(parent.stat().st_mode | 0o055)
    roots = [tmp_path / output for output in outputs]
    for root, output in zip(roots, outputs, strict=True):
        _limited(root, output)
        if kind == "rights":
            (root / ".lazypipe").mkdir()
            (root / ".lazypipe").chmod(0o777)
            (root / "out").chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), kind, *map(str, roots)],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    for root, output, told in zip(roots, outputs, done.stdout.splitlines()[-len(roots) :], strict=True):
        status, code, commits, errors = json.loads(told)
        assert (status, code, commits) == ("error", 3, {})
        target = str(root / ".lazypipe" / "work" / "full") if output == "kept" else str(root / "out" / "a")
        assert errors
        for error in errors:
            assert error.startswith(target), error
            assert f"cannot be written: {reason}" in error
            assert "\n" not in error
        assert [p for p in (root / "out").rglob("*") if p.is_file()] == []
        (root / "out").chmod(0o755)
        lp.load(root / "p.yaml").compile().run(run="next").raise_for_status()
        assert [p for p in (root / "out").rglob("*") if p.is_file()] != []


def _limited(root: Path, output: str) -> None:
    """Write a pipeline of more bytes than the limit, and what it reads."""
    (root / "out").mkdir(parents=True)
    noise = pl.int_range(100_000, eager=True).hash(1)
    pl.DataFrame({"x": noise, "k": noise % 2}).write_parquet(root / "a.parquet")
    kept = "stages: {s: {from: a, do: [{derive: {y: x}}]}, b: {from: s}, c: {from: s}}" if output == "kept" else ""
    (root / "p.yaml").write_text(
        f"version: 1\nname: p\nsources: {{a: {{uri: a.parquet}}}}\n{kept}\noutputs: {{{OUTPUTS[output]}}}\n"
    )
