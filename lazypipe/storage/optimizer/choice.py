"""Choosing one of several ways for each column, so that the whole stays within limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from operator import itemgetter
from typing import Literal

from lazypipe.storage.optimizer.cost import Cost, Size
from lazypipe.storage.optimizer.form import Form

__all__ = ["GOALS", "LITTLE", "Goal", "Limits", "Measure", "Option", "choose", "choosing_seconds"]

Goal = Literal["storage", "balanced", "read", "write"]
Measure = Literal["bytes", "write", "read"]


@dataclass(frozen=True)
class Limits:
    """What is made as small as can be, and how many times what the default layout needs the rest may be."""

    least: Measure
    bytes: float = float("inf")
    write: float = float("inf")
    read: float = float("inf")

    def broken(self, cost: Cost, default: Cost) -> list[Measure]:
        """Return the measures that a cost has too much of."""
        measures: tuple[Measure, ...] = ("bytes", "write", "read")
        return [m for m in measures if getattr(cost, m) > getattr(self, m) * getattr(default, m)]

    def tightened(self, measure: Measure, by: float) -> Limits:
        """Return stricter limits."""
        values = {m: getattr(self, m) * (by if m == measure else 1.0) for m in ("bytes", "write", "read")}
        return Limits(self.least, **values)


GOALS: Mapping[Goal, Limits] = {
    "storage": Limits("bytes", write=3.0, read=1.1),
    "balanced": Limits("bytes", bytes=1.0, write=1.5, read=1.0),
    "read": Limits("read", bytes=1.1, write=3.0),
    "write": Limits("write", bytes=1.1, read=1.1),
}


_SHARE = 0.03
"""Which part of the time that writing takes may be spent on choosing how."""
_LASTS: Mapping[Goal, float] = {"storage": 2.4, "balanced": 1.2, "read": 1.5, "write": 0.6}
"""How many times the default's time writing takes in what is chosen: rather more than is measured, since in half the time much less is found."""

LITTLE = 0.02
"""Seconds below which there is time for an order of rows at most."""


def choosing_seconds(goal: Goal, seconds: float) -> float:
    """Return what choosing may take, where the default layout is written in so many seconds: 3 % of what is going to be written.

    Examples
    --------
    >>> round(choosing_seconds("storage", 10), 3), round(choosing_seconds("balanced", 10), 3)
    (0.72, 0.36)
    """
    return _SHARE * _LASTS[goal] * seconds


@dataclass(frozen=True)
class Option:
    """A way to write a column: its form, the encodings and codecs of what then stands in the file, and the cost.

    ``sizes`` are the bytes of each part, where these are known.
    """

    form: Form | None
    cost: Cost
    encodings: tuple[tuple[str, str], ...] = ()
    codecs: tuple[tuple[str, tuple[str, int | None]], ...] = ()
    sizes: tuple[tuple[str, Size], ...] = ()


def choose(options: Mapping[str, Sequence[Option]], default: Cost, limits: Limits) -> dict[str, Option]:
    """Return an option for each column: the least of what is to be small, then as little of that given up as limits ask for.

    Limits that no choice keeps are kept as far as they can be.

    Examples
    --------
    >>> small, fast = Option(None, Cost(10, 1.0, 5.0)), Option(None, Cost(20, 1.0, 1.0))
    >>> choose({"x": [small, fast]}, Cost(20, 1.0, 1.0), GOALS["storage"])["x"].cost.bytes
    20
    """
    least = limits.least
    left = {n: list(some) for n, some in options.items()}
    chosen = {n: min(some, key=lambda o: (getattr(o.cost, least), o.cost.bytes)) for n, some in options.items()}
    swaps: dict[Measure, list[tuple[float, int, str, Option]]] = {}

    def cheapest(measure: Measure, number: int, name: str) -> list[tuple[float, int, str, Option]]:
        """Return the swap of a column that gives up least for the measure, if there is one."""
        now = chosen[name].cost
        found = [o for o in left[name] if getattr(o.cost, measure) < getattr(now, measure)]
        prices = [(_price(now, o.cost, least, measure), number, name, o) for o in found]
        return [min(prices, key=itemgetter(0))] if prices else []

    total, places = sum((o.cost for o in chosen.values()), Cost()), {n: i for i, n in enumerate(options)}
    while broken := limits.broken(total, default):
        measure = broken[0]
        if measure not in swaps:
            swaps[measure] = [s for n, i in places.items() for s in cheapest(measure, i, n)]
            heapify(swaps[measure])
        if not swaps[measure]:
            break
        _, _, name, option = heappop(swaps[measure])
        left[name].remove(chosen[name])  # it does not come back for another measure's sake, so that this ends
        total = total - chosen[name].cost + option.cost
        chosen[name] = option
        # what the others cost is what it was; of this column another swap is the cheapest by now, for each measure
        for of, some in swaps.items():
            if of != measure:
                some[:] = [s for s in some if s[2] != name]
                heapify(some)
            for swap in cheapest(of, places[name], name):
                heappush(some, swap)
    return _improved(chosen, options, default, limits)


def _improved(
    chosen: dict[str, Option], options: Mapping[str, Sequence[Option]], default: Cost, limits: Limits
) -> dict[str, Option]:
    """Return a choice that is within limits with options that make less of what is to be small, as long as it stays there.

    What was given up first may not have been needed, once the rest was given up too.
    """
    total = sum((o.cost for o in chosen.values()), Cost())
    if limits.broken(total, default):
        return chosen
    least = limits.least
    while True:
        swaps = [
            (getattr(chosen[n].cost, least) - getattr(o.cost, least), n, o, total - chosen[n].cost + o.cost)
            for n, some in options.items()
            for o in some
            if getattr(o.cost, least) < getattr(chosen[n].cost, least)
        ]
        allowed = [s for s in swaps if not limits.broken(s[3], default)]
        if not allowed:
            return chosen
        _, name, option, total = max(allowed, key=lambda s: s[0])
        chosen[name] = option


def _price(now: Cost, then: Cost, least: Measure, measure: Measure) -> float:
    """Return what is given up of ``least`` for what is gained of ``measure``."""
    gained: float = getattr(now, measure) - getattr(then, measure)
    return float(getattr(then, least) - getattr(now, least)) / gained
