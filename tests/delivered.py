"""Files as others deliver them: written at some moment, and changed without a sign of it."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

CLOCK = 1_700_000_000
"""When the first of them are written, in seconds since 1970."""


def put(path: Path, content: pl.DataFrame | str, at: float = CLOCK) -> Path:
    """Write a file, in the format that its name says, as if at some moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content)
    else:
        content.write_csv(path) if path.suffix == ".csv" else content.write_parquet(path)
    os.utime(path, (at, at))
    return path


def alter(path: Path, content: bytes) -> None:
    """Have a file hold something else, without its stamp telling."""
    about = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def spoil(path: Path) -> bytes:
    """Have a file hold what nobody can read, without its size or stamp telling; return what it was."""
    whole = path.read_bytes()
    alter(path, b"\xff" * len(whole))
    return whole
