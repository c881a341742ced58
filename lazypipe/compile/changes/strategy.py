"""The strategy by which an output is kept up to date when its inputs change: a value that describes itself in one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from lazypipe.ops.base import Match
from lazypipe.spec.model import NOTHING

__all__ = ["Closes", "Side", "Strategy"]


@dataclass(frozen=True)
class Side:
    """A lookup: a place where rows of a unit find rows of another source or stage (the other side) by a key.

    If the other side changes, only rows are affected that have one of the keys whose rows changed there.

    Attributes
    ----------
    node, step
        The stage and the number of its step; no step for a lookup of its gate.
    mark
        What distinguishes the lookups of a node.
    match
        The columns of the key on both sides, and what is taken over from the other side.
    leaves
        The sources and outputs that the other side is made of.
    """

    node: str
    step: int | None
    mark: str
    match: Match
    leaves: tuple[str, ...]

    @property
    def key(self) -> tuple[str, str]:
        """The place, as what is kept for it is named."""
        return self.node, self.mark


@dataclass(frozen=True)
class Closes:
    """A step of a stage whose rows come or leave as event time advances. ``end`` is the grouping column that says when, empty if there is none."""

    node: str
    step: int
    end: str


@dataclass(frozen=True)
class Strategy:
    """How an output is kept up to date. If nothing has changed, nothing is done.

    Attributes
    ----------
    kind
        ``units``: rows of added files are added, rows of removed or changed files are removed (and added again). ``fold``: the same for partial
        aggregates, which are kept per file and from which the output is computed. ``parts``: groups of rows that depend only on each
        other are rebuilt group by group, from the files that hold any of their rows. ``full``: everything is rebuilt.
    driving
        The sources and outputs that are read one unit (file) at a time.
    fixed
        The sources and outputs that are always read completely.
    reasons
        Why the output is rebuilt in full.
    cut
        The stage and step that is folded (``fold``), or that works by groups (``parts``).
    hashed
        Checks of keys, each as its source or stage and its id. Hashes of each row's key are kept for them, to find repeats in other files.
    keys
        The grouping columns with their names in the output, if only groups that a change affects are rebuilt. They are named as
        after a step that is folded, or as before one that works by groups.
    whole
        Why all groups are rebuilt.
    reached
        Leaves that are ``fixed`` only as the other side of joins by time, each with the stage and step. If rows of them are added or removed, only
        the units with rows that may match them are rebuilt.
    loose
        Leaves that are ``fixed`` and for which it is not known what a change affects: it rebuilds everything.
    because
        Leaf that is loose → why.
    behind
        Leaves that are looked up after the step that is folded: a change in one of them recomputes everything from the partial aggregates.
    sides
        Lookups by a key: a change rebuilds the units that hold keys whose rows changed.
    grouped
        Lookups of groups by a key: a change rebuilds only groups with such keys.
    adds
        Whether rows are added to existing ones, which stay as they are.
    closing
        The steps after the cut where groups come or leave because event time has advanced.

    Examples
    --------
    >>> print(Strategy("full", (), ("flights",), ("hourly: aggregate can change any row",)))
    full: hourly: aggregate can change any row
    """

    kind: Literal["units", "fold", "parts", "full"]
    driving: tuple[str, ...]
    fixed: tuple[str, ...]
    reasons: tuple[str, ...] = ()
    cut: tuple[str, int] | None = None
    hashed: tuple[tuple[str, str], ...] = ()
    keys: tuple[tuple[str, str], ...] = ()
    whole: str | None = None
    reached: tuple[tuple[str, str, int], ...] = ()
    loose: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    sides: tuple[Side, ...] = ()
    grouped: tuple[Side, ...] = ()
    because: Mapping[str, str] = NOTHING
    adds: bool = False
    closing: tuple[Closes, ...] = ()

    def __str__(self) -> str:
        """Say it in one line."""
        if self.reasons:
            return f"{self.kind}: {'; '.join(self.reasons)}"
        beside = dict.fromkeys(leaf for leaf, *_ in self.reached)
        sides = (*self.sides, *self.grouped)
        looked = [n for n in self.fixed if n not in self.loose and any(n in s.leaves for s in sides)]
        what = "existing rows stay as they are" if self.adds else "rebuilds everything"
        changes = [
            ("rebuilds only what uses the changed keys", looked, ""),
            (
                "rebuilds everything computed from the partial aggregates",
                [n for n in self.behind if n not in self.loose],
                "",
            ),
            *((what, [*of], f" ({why})" if why else "") for why, of in groupby(self.loose, self.because.get)),
        ]
        fixed = "".join(f"; if {' or '.join(names)} changes, {what}{why}" for what, names, why in changes if names)
        reached = f" and files whose rows change with {' or '.join(beside)}" if beside else ""
        kept = [f"with partial aggregates of {self.cut[0]} kept per file"] if self.cut and self.kind == "fold" else []
        if self.hashed:
            kept.append(f"with hashed keys kept for {' and '.join(map('.'.join, self.hashed))}")
        if self.keys:
            reaches = " or event time reaches" if self.closing else ""
            names = ", ".join(name for _, name in self.keys)
            kept.append(f"recomputes only groups by {names} that they touch{reaches}")
        if self.kind == "parts":
            kept.append("from the files that hold rows of these groups")
        if self.whole is not None:
            kept.append(f"rewrites all rows from these ({self.whole})")
        files = f"reads new and changed files of {', '.join(self.driving)}{reached}"
        return f"{', '.join([files, *kept])}{fixed}"
