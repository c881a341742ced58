"""Whether rows that programs pass to each other and read completely are better stored as Arrow IPC than as Parquet."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace

import polars as pl

from lazypipe.storage.optimizer.advice import Advice, Reason
from lazypipe.storage.optimizer.trial import Clock, write_bytes

__all__ = ["with_format"]

_REPEATS = 3
_ROWS = 50_000
"""Rows that are written and read in both formats: fewer tell more of planning queries than of reading."""
_FASTER = 0.5
"""Which part of the time both ways may take together, for IPC to be worth its bytes."""


def with_format(advice: Advice, rows: pl.DataFrame, clock: Clock = time.process_time) -> Advice:
    """Return advice that also says in which format: IPC where that is twice as fast to write and read than the layout advised.

    Datasets are Parquet whatever is said; an output with ``format: ipc`` is exported as IPC.

    Examples
    --------
    >>> from lazypipe.storage.optimizer.advise import advise
    >>> from lazypipe.storage.optimizer.workload import Workload
    >>> frame = pl.DataFrame({"id": range(1_000), "price": [n / 4 for n in range(1_000)]})
    >>> advise(frame, Workload(declared="interchange"), "read", forms=False).format in ("parquet", "ipc")
    True
    """
    rows = rows.head(_ROWS)
    if not rows.height or not rows.width:
        return advice
    layout = replace(
        advice.layout, forms={}, sort_by=(), curve="linear", bounds={}, encodings={}, codecs={}, writer="polars"
    )
    parquet = _timed(clock, lambda: write_bytes(rows, layout), lambda data: pl.read_parquet(io.BytesIO(data)))
    arrow = _timed(clock, lambda: _ipc(rows), lambda data: pl.read_ipc(io.BytesIO(data)))
    better = arrow[0] < _FASTER * parquet[0]
    said = f"{arrow[0] * 1e3:.1f} ms to write and read the sample, {parquet[0] * 1e3:.1f} ms as Parquet"
    said += f"; {arrow[1]:,} bytes, {parquet[1]:,} as Parquet"
    reason = Reason(None, "format: ipc" if better else "format: parquet", said)
    return replace(advice, format="ipc" if better else "parquet", reasons=(*advice.reasons, reason))


def _ipc(rows: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    rows.write_ipc(out, compression="uncompressed")
    return out.getvalue()


def _timed(clock: Clock, write: Callable[[], bytes], read: Callable[[bytes], object]) -> tuple[float, int]:
    """Return the least time that it takes to write and to read rows, and their bytes."""
    took, size = [], 0
    for _ in range(_REPEATS):
        begun = clock()
        data = write()
        read(data)
        took.append(clock() - begun)
        size = len(data)
    return min(took), size
