"""Run records: whole or not there, readable, and honest about what they could not write."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest

from lazypipe.errors import StorageError
from lazypipe.records.record import Records
from lazypipe.testing.faults import faulty


@pytest.fixture
def uri(somewhere: str) -> str:
    return f"{somewhere}/runs"


def read(records: Records, run: str) -> Any:
    fs, path = fsspec.core.url_to_fs(records.path(run))
    return json.loads(fs.cat_file(path))


def test_a_record_is_replaced_as_the_run_goes_on(uri: str) -> None:
    records = Records(uri)
    records.write("r1", {"status": "running", "started": datetime(2024, 1, 1, tzinfo=UTC)})
    records.write("r1", {"status": "done", "note": "ünï"})
    records.write("r2", {"status": "running"})
    assert read(records, "r1") == {"status": "done", "note": "ünï"}
    assert read(records, "r2") == {"status": "running"}
    assert records.path("r1") == f"{uri}/r1.json"
    fs, path = fsspec.core.url_to_fs(uri)
    assert sorted(p.rsplit("/", 1)[-1] for p in fs.find(path)) == ["r1.json", "r2.json"]


def test_values_that_json_has_no_form_for_are_written_as_text(uri: str) -> None:
    Records(uri).write("r", {"at": datetime(2024, 1, 1, tzinfo=UTC), "for": timedelta(hours=1)})
    assert read(Records(uri), "r") == {"at": "2024-01-01 00:00:00+00:00", "for": "1:00:00"}


def test_a_write_that_fails_leaves_the_record_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records(str(tmp_path))
    records.write("r", {"status": "running"})

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StorageError, match="cannot write the run's record: .*No space left on device"):
        records.write("r", {"status": "done"})
    assert json.loads((tmp_path / "r.json").read_text()) == {"status": "running"}


@pytest.mark.parametrize("call", ["mkdir", "open", "write", "close"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a client's own exception")])
def test_whatever_a_store_raises_is_a_storage_error(call: Any, error: Exception) -> None:
    with faulty() as faults:
        faults.fail(call, error)
        with pytest.raises(StorageError, match="cannot write the run's record: .*(No space|client's own)") as caught:
            Records("faulty://runs").write("r", {})
        assert caught.value.uri == "faulty://runs/r.json"


def test_half_written_records_go_when_they_are_old_enough(tmp_path: Path) -> None:
    records = Records(str(tmp_path))
    records.write("r", {"status": "done"})
    (tmp_path / "killed.json.tmp").write_bytes(b"{")
    now = datetime.now(UTC)
    assert records.remove_half_written(now - timedelta(hours=1)) == []
    assert records.remove_half_written(now + timedelta(hours=1)) == [str(tmp_path / "killed.json.tmp")]
    assert os.listdir(tmp_path) == ["r.json"]
