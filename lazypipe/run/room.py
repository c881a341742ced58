"""How much memory Polars may use for rows: larger inputs are sorted, because a sort spills to disk and a hash table does not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PACKED", "Room"]

PACKED = 3.0
"""How many times more bytes rows take in memory than in the files that they are read from, about."""

_TABLE = 2.0
"""How many times more bytes a hash table of rows takes than they do, about."""

_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
"""Files in which a container's limit stands: of cgroups of the second version, and of the first."""


@dataclass(frozen=True)
class Room:
    """The bytes that a process may hold before Polars spills.

    Examples
    --------
    >>> room = Room.of({"POLARS_OOC_MEMORY_BUDGET_MB": "600"})
    >>> room.is_short_of(50 << 20), room.is_short_of(200 << 20)
    (False, True)
    """

    bytes: int

    @classmethod
    def of(cls, env: Mapping[str, str], groups: Path = Path("/sys/fs/cgroup")) -> Room:
        """Return what Polars' variables say, or else 80 % of the memory of the machine, or of its container.

        Parameters
        ----------
        env
            The environment, as it was when Polars was imported.
        groups
            Where the system tells the limits of containers.
        """
        budget = _number(env.get("POLARS_OOC_MEMORY_BUDGET_MB"))
        if budget is not None:
            return cls(int(budget) << 20)
        share = _number(env.get("POLARS_OOC_MEMORY_BUDGET_FRACTION"))
        return cls(int(_memory(env, groups) * (0.8 if share is None else share)))

    def is_short_of(self, size: int) -> bool:
        """Whether a hash table of rows that are read from so many bytes of files may not fit."""
        return size * PACKED * _TABLE > self.bytes


def _memory(env: Mapping[str, str], groups: Path) -> float:
    told = _number(env.get("POLARS_OVERRIDE_TOTAL_MEMORY_MB"))
    if told is not None:
        return told * (1 << 20)
    there = [found for name in _LIMITS if (found := _number(_text(groups / name))) is not None]
    names = getattr(os, "sysconf_names", {})
    if {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= {*names}:
        there.append(float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))
    return min(there, default=float("inf"))


def _text(file: Path) -> str | None:
    try:
        return file.read_text()
    except OSError:
        return None


def _number(text: str | None) -> float | None:
    """Return a number; None where there is none, as where no limit is set."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
