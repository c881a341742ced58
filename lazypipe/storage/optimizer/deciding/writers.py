"""Who writes the files: Polars or pyarrow, as far as that is clear before columns are tried."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from lazypipe.storage.optimizer.deciding.case import EMPTY, Case

__all__ = ["has_pyarrow", "settle_writer"]


def settle_writer(case: Case, plain: Mapping[str, int]) -> None:
    """Leave one writer where there is little time and the other would be tried in vain.

    What has encodings per column is smaller, unless most bytes only tell where nulls are: those Polars packs better.
    """
    if not case.bench.quick or len(case.writers) < 2:
        return
    nulls = case.frame.null_count().row(0, named=True)
    empty = sum(size for n, size in plain.items() if nulls[n] >= EMPTY * case.frame.height)
    case.sparse = empty > sum(plain.values()) / 2
    if case.sparse:
        case.writers = ["polars"]
        case.note(None, "written by polars", "most bytes tell where nulls are, which it packs best")
    elif case.limits.least == "bytes":
        case.writers = ["pyarrow"]


def has_pyarrow() -> bool:
    """Whether pyarrow is installed."""
    return importlib.util.find_spec("pyarrow") is not None
