"""Files that appear whole, under a name that nobody has, also where a file system has no hard links."""

from __future__ import annotations

import ctypes
import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.records.spool import Spool
from lazypipe.storage.appearing import appear

REFUSALS = [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS]


def without_links(monkeypatch: pytest.MonkeyPatch, code: int = errno.EPERM) -> None:
    def refuse(source: object, to: object) -> None:
        raise OSError(code, os.strerror(code), source, None, to)

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("code", [None, *REFUSALS])
def test_of_many_one_appears_and_none_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    if code is not None:
        without_links(monkeypatch, code)
    target = tmp_path / "größe.json"

    def one(number: int) -> bool:
        staged = tmp_path / f"{number}.tmp"
        staged.write_text(str(number))
        try:
            appear(staged, target)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        made = [*threads.map(one, range(40))]
    assert sum(made) == 1
    assert target.read_text() == str(made.index(True))


def test_what_is_refused_for_another_reason_is_told_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        appear(tmp_path / "nothing", tmp_path / "a")


@pytest.mark.parametrize("lacks", ["library", "call", "flag"])
def test_where_there_is_neither_links_nor_such_a_rename_it_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    """And not that an operation is not permitted."""

    class Library:
        def __init__(self, *_: object, **__: object) -> None:
            if lacks == "library":
                raise OSError("no such library")
            if lacks == "flag":
                self.renameat2 = self.refuse

        def refuse(self, *_: Any) -> int:
            ctypes.set_errno(errno.EINVAL)
            return -1

    without_links(monkeypatch)
    monkeypatch.setattr(ctypes, "CDLL", Library)
    (tmp_path / "a.tmp").write_text("a")
    with pytest.raises(OSError, match="no hard links") as found:
        appear(tmp_path / "a.tmp", tmp_path / "a")
    said = "the file system has no hard links, and cannot rename a file without replacing another; choose a folder on another one"
    assert (found.value.errno, found.value.strerror, found.value.filename) == (errno.EPERM, said, str(tmp_path / "a"))
    assert os.listdir(tmp_path) == ["a.tmp"]
    (tmp_path / "a.csv").write_text("x\n1\n")
    result = (
        lp.pipeline("p", base=tmp_path).source("s", "*.csv").stage("t", "s").output("t", "d").build().compile().run()
    )
    told = str(result.segments[0].error)
    assert told.startswith(f"{tmp_path}/d.commits: cannot commit: ")
    assert said in told


def test_pipelines_run_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs, quarantine, ledger: two versions, of which the second is refused to who is late."""
    without_links(monkeypatch)
    pl.DataFrame({"x": [1, -1]}).write_csv(tmp_path / "a.csv")
    rule = {"positive": {"columns": "x", "action": "quarantine"}}
    pipe = (
        lp.pipeline("p", base=tmp_path).source("s", "*.csv").stage("t", "s", gate=[rule]).output("t", "out/t").build()
    )
    pipe.compile().run().raise_for_status()
    late = pipe.compile()
    pl.DataFrame({"x": [2, -2]}).write_csv(tmp_path / "b.csv")
    assert pipe.compile().run().commits == {"t": 2}
    assert lp.scan(str(tmp_path / "out/t")).collect()["x"].sort().to_list() == [1, 2]
    assert lp.scan(str(tmp_path / "out/t__quarantine")).collect()["x"].sort().to_list() == [-2, -1]
    assert late.run().status == "unchanged"
    assert lp.ledger(pipe).verify().ok
    assert [*tmp_path.rglob("*.tmp")] == []


def test_events_are_spooled_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_links(monkeypatch)
    spool = Spool(tmp_path / "spool", now=lambda: 0.0)
    spool.put(b"{}")
    spool.put(b"[]")
    assert [m.read_bytes() for m in spool.waiting()] == [b"{}", b"[]"]
    token = spool.acquire()
    assert token is not None
    assert Spool(tmp_path / "spool", now=lambda: 0.0).acquire() is None
    assert spool.reject(spool.waiting()[0], "why").read_bytes() == b"{}"
    spool.release(token)
    assert [m.read_bytes() for m in spool.waiting()] == [b"[]"]
    assert [*tmp_path.rglob("*.tmp")] == []
