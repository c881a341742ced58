"""Fingerprints: a hash of what each column is made to hold, one of which rows there are, and what two of them differ in.

Equal hashes mean equal data, for the same content of the sources. The converse does not hold, and need not: what is only
written in another way may be built once more. So whatever is not known to be harmless is part of a hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from blake3 import blake3

from lazypipe.errors import LazypipeError

__all__ = ["Changes", "Fingerprint", "digest"]


def digest(*parts: Any) -> str:
    """Return a hash of texts and lists of texts: full-length, the same everywhere.

    Examples
    --------
    >>> digest("a", ["b", "c"]) == digest("a", ["b", "c"]), digest("a", "b") == digest("ab"), len(digest())
    (True, False, 64)
    """
    return blake3(ascii(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Fingerprint:
    """Hashes of what a source, stage or output computes. Equal fingerprints mean equal data from equal sources.

    Parameters
    ----------
    rows
        Which rows there are.
    columns
        Per column its type and what it holds.
    order
        In which order they come; None if none is promised.
    gate
        The rules that only judge the rows, and those that change them: what they are, and what a violation does.

    Examples
    --------
    >>> before = Fingerprint("r1", {"a": "x", "b": "y"})
    >>> print(Fingerprint("r1", {"a": "x", "b": "z", "c": "w"}).changes(before))
    b changed, c is new
    """

    rows: str
    columns: Mapping[str, str]
    order: str | None = None
    gate: str = ""

    @cached_property
    def whole(self) -> str:
        """One hash of the data: its rows, its columns with their names, and their order; not of what only judges it."""
        return digest(self.rows, sorted(self.columns.items()), self.order)

    def changes(self, before: Fingerprint) -> Changes:
        """Return the differences from an earlier fingerprint."""
        return Changes(
            rows=self.rows != before.rows,
            columns=tuple(c for c, h in self.columns.items() if before.columns.get(c, h) != h),
            added=tuple(c for c in self.columns if c not in before.columns),
            removed=tuple(c for c in before.columns if c not in self.columns),
            order=self.order != before.order,
            gate=self.gate != before.gate,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"rows": self.rows, "columns": dict(self.columns), "order": self.order, "gate": self.gate}

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` returned.

        Raises
        ------
        LazypipeError
            If it is something else.

        Examples
        --------
        >>> Fingerprint.from_dict(Fingerprint("r", {"a": "x"}).to_dict())
        Fingerprint(rows='r', columns={'a': 'x'}, order=None, gate='')
        """
        try:
            columns = {str(c): str(h) for c, h in written["columns"].items()}
            order = written["order"]
            return cls(str(written["rows"]), columns, None if order is None else str(order), str(written["gate"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise LazypipeError(f"this is not a fingerprint: {written!r}") from error


@dataclass(frozen=True)
class Changes:
    """How the data of a stage differs from before: its rows, its order, and columns that changed, are new, or are gone.

    Examples
    --------
    >>> str(Changes()), Changes().same, str(Changes(rows=True, gate=True))
    ('nothing changed', True, 'rows changed, rules changed')
    """

    rows: bool = False
    columns: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    order: bool = False
    gate: bool = False

    @property
    def same(self) -> bool:
        """Whether nothing changed, neither the data nor the rules."""
        return not (self.data or self.gate)

    @property
    def data(self) -> bool:
        """Whether the data changed."""
        return bool(self.rows or self.columns or self.added or self.removed or self.order)

    def __str__(self) -> str:
        """Say it in one line."""
        said = [
            *(["rows changed"] if self.rows else []),
            *([f"{', '.join(self.columns)} changed"] if self.columns else []),
            *([f"{', '.join(self.added)} {'is' if len(self.added) == 1 else 'are'} new"] if self.added else []),
            *([f"{', '.join(self.removed)} {'is' if len(self.removed) == 1 else 'are'} gone"] if self.removed else []),
            *(["the order changed"] if self.order else []),
            *(["rules changed"] if self.gate else []),
        ]
        return ", ".join(said) or "nothing changed"
