"""The record of a run: one JSON file, written before the run's first step and after each step."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from lazypipe.errors import LazypipeError, StorageError, first_line
from lazypipe.storage import uri as uris

__all__ = ["Records"]


class Records:
    """Run records in one folder, on any file system."""

    def __init__(self, uri: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self.uri = uri
        self._options = storage_options
        self._path = uris.whole_path(uri) if uris.is_local(uri) else uris.file_system(uri, storage_options)[1]

    def path(self, run: str) -> str:
        """Return the URI of a run's record."""
        return uris.join(self.uri, f"{run}.json")

    def write(self, run: str, record: Mapping[str, Any]) -> None:
        """Write the record as it stands, in place of the one before; raises StorageError if that cannot be done."""
        data = _lines(record).encode()
        target = f"{self._path}/{run}.json"
        try:
            if uris.is_local(self.uri):
                os.makedirs(self._path, exist_ok=True)
                # swapped in whole: a reader, or the next run after a crash, never meets half a record
                with open(f"{target}.tmp", "wb") as file:
                    file.write(data)
                os.replace(f"{target}.tmp", target)
            else:
                fs, _ = uris.file_system(self.uri, self._options)
                uris.make_folder(fs, self._path)
                fs.pipe_file(target, data)
        except Exception as error:  # any store's own errors: the caller learns which record it was
            raise StorageError(
                f"cannot write the run's record: {first_line(error)}",
                uri=self.path(run),
                fix="fix the cause, or choose another folder with state",
            ) from error

    def refuse_used(self, run: str) -> None:
        """Raise LazypipeError if there is a record of a run already: another one would write over its data files too."""
        if uris.is_local(self.uri):
            there = os.path.exists(f"{self._path}/{run}.json")
        else:
            there = uris.file_system(self.uri, self._options)[0].exists(f"{self._path}/{run}.json")
        if there:
            raise LazypipeError(
                f"there was a run {run!r} already, and no two have one id; give another, or leave it out"
            )

    def why(self, run: str, output: str) -> str | None:
        """Return why a run wrote an output, if its record is there and says so."""
        try:
            with uris.opened(self.path(run), self._options) as file:
                segments = json.load(file)["segments"]
            return next((str(s["why"]) for s in segments if s["output"] == output and s["why"]), None)
        except (OSError, ValueError, KeyError, TypeError):  # gone or damaged: what it says is a convenience
            return None

    def remove_half_written(self, limit: datetime, *, dry_run: bool = False) -> list[str]:
        """Delete what runs that were killed while they wrote a record have left, if it is no ``dry_run``; return the paths."""
        found = [p for p in sorted(Path(self._path).glob("*.json.tmp")) if p.stat().st_mtime <= limit.timestamp()]
        for path in () if dry_run else found:
            path.unlink(missing_ok=True)
        return [str(p) for p in found]


def _lines(record: Mapping[str, Any]) -> str:
    """Return a record as JSON, a line for each part and each segment: indenting all of it takes ten times as long."""

    def plain(value: Any) -> str:
        return json.dumps(value, default=str, ensure_ascii=False)

    def part(value: Any) -> str:
        lists = isinstance(value, list) and value
        return "[\n  " + ",\n  ".join(map(plain, value)) + "\n ]" if lists else plain(value)

    return "{\n " + ",\n ".join(f"{plain(key)}: {part(value)}" for key, value in record.items()) + "\n}"
