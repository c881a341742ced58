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
    """A place where rows of a unit find those of another source or stage by a key: a step of a stage, or its gate (no ``step``).

    If the other side changes, what comes of a row is another only if it has one of the keys whose rows there changed. ``mark`` tells the
    places of a node apart; ``leaves`` are the sources and outputs that the other side is made of.
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
    """A step of a stage that lets rows be there by how far event time is; ``end`` is the column of groups that says when, empty if none does."""

    node: str
    step: int
    end: str


@dataclass(frozen=True)
class Strategy:
    """How an output is kept up to date.

    ``units``: rows of files that came are added, rows of files that went or changed are taken out. ``fold``: the same with the
    figures that files add up to, of which the output is made. ``parts``: rows that have to do with those of the same groups only are
    made anew group by group, of the files that hold any of them. ``full``: it is made anew. Nothing is done if nothing changed.

    ``driving`` are the sources and outputs whose rows are read one unit at a time; ``fixed`` those of which all is read. A change in one
    that is ``loose`` makes everything anew; in others, the units that hold keys whose rows changed there (``sides``), and, of
    those ``behind`` what is folded, all that is made of the figures; or just groups with such keys (``grouped``). ``cut`` is the stage and step that is folded, or that goes by groups. ``hashed`` are checks of keys, each by
    its source or stage and id, of which the hashes of each row's key are kept, so that repeats in other files are found.
    ``keys`` are the columns that tell groups apart (after the step that is folded, ahead of one that goes by groups), with their
    names in the output, where only the groups that a change touches are made anew; ``whole`` says why all are. ``reasons`` say why it is ``full``. ``reached`` are leaves that are ``fixed`` only as the
    other side of joins, each with the stage and step: if rows of them come or go, only the units are made anew that these reach.
    ``because`` says of each that is loose why it is. With ``adds`` rows are added to those that are there, which stay as they are.
    ``closing`` are the steps behind the cut by which groups come, or leave, because event time has gone on.

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
