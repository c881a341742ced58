"""What a gate has counted: plain numbers that can be added up across batches and runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Tally", "from_columns", "to_columns"]


@dataclass
class Tally:
    """Rows that came in, and what became of them; ``evaluated``, ``failed`` and ``repaired`` by the check's id.

    Examples
    --------
    >>> one, two = Tally(rows=2, good=1, dropped=1), Tally(rows=3, good=3)
    >>> one.add(two)
    >>> one.rows, one.good, one.dropped
    (5, 4, 1)
    """

    rows: int = 0
    good: int = 0
    quarantined: int = 0
    dropped: int = 0
    evaluated: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Add what was counted of other rows."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))


_NUMBERS = ("rows", "good", "quarantined", "dropped")
_COUNTERS = ("evaluated", "failed", "repaired")


def to_columns(tallies: Mapping[int, Tally]) -> dict[str, Any]:
    """Return the tallies of many units as columns, those of zeros left out: JSON that stays small.

    Examples
    --------
    >>> to_columns({7: Tally(rows=2, good=2), 8: Tally(rows=1, good=1)})
    {'units': [7, 8], 'rows': [2, 1], 'good': [2, 1]}
    """
    each = list(tallies.values())
    columns: dict[str, Any] = {"units": list(tallies)}
    columns |= {n: values for n in _NUMBERS if any(values := [getattr(t, n) for t in each])}
    for name in _COUNTERS:
        checks = dict.fromkeys(c for t in each for c in getattr(t, name))
        counts = {c: values for c in checks if any(values := [getattr(t, name)[c] for t in each])}
        columns |= {name: counts} if counts else {}
    return columns


def from_columns(columns: Mapping[str, Any]) -> dict[int, Tally]:
    """Read back what ``to_columns`` gives.

    Examples
    --------
    >>> from_columns({"units": [7], "rows": [2], "dropped": [2], "failed": {"a": [2]}})[7].failed["a"]
    2
    """
    units: Iterable[int] = columns["units"]
    found = {}
    for index, unit in enumerate(units):
        tally = found[unit] = Tally(**{n: columns[n][index] for n in _NUMBERS if n in columns})
        for name in _COUNTERS:
            getattr(tally, name).update({c: values[index] for c, values in columns.get(name, {}).items()})
    return found
