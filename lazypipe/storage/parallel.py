"""Doing something with many files at once, as most of the time is spent waiting for a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

__all__ = ["in_parallel"]

_F = TypeVar("_F")
_T = TypeVar("_T")
_AT_ONCE, _TURNS = 8, 32


def in_parallel(ask: Callable[[_F], _T], files: Sequence[_F]) -> list[tuple[_F, _T]]:
    """Ask something of each file, several at once; return each with its answer, or raise what the first raised that could not be asked.

    Examples
    --------
    >>> in_parallel(len, ["a", "bcd"])
    [('a', 1), ('bcd', 3)]
    """
    if len(files) < 2:  # threads take longer to begin
        return [(file, ask(file)) for file in files]
    # of very many, several in turn: to hand one over takes longer than to look at one that is local
    size = 1 + len(files) // (_AT_ONCE * _TURNS)
    parts = [files[start : start + size] for start in range(0, len(files), size)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [*zip(files, chain.from_iterable(pool.map(lambda part: [*map(ask, part)], parts)), strict=True)]
