"""A plan over no rows, read once: the common basis for fingerprints, strategies, lineage and tags."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from lazypipe.plan.nodes import PlanNode
from lazypipe.plan.reader import read_plan

__all__ = ["Stub"]


@dataclass(frozen=True, eq=False)
class Stub:
    """A frame without rows, and the plan that is read off it when somebody first asks.

    Examples
    --------
    >>> stub = Stub(pl.LazyFrame({"a": [1]}).select("a"))
    >>> stub.plan().kind, stub.plan() is stub.plan(exact=False)
    ('select', True)
    """

    frame: pl.LazyFrame
    _plans: dict[bool, PlanNode] = field(default_factory=dict, init=False, repr=False)

    def plan(self, *, exact: bool = True) -> PlanNode:
        """Return the plan; without ``exact``, which takes longer to read, it may still be there."""
        known = self._plans.get(True) or (None if exact else self._plans.get(False))
        if known is None:
            known = self._plans[exact] = read_plan(self.frame, exact=exact)
        return known

    def __getstate__(self) -> dict[str, Any]:
        """Return the frame alone: other processes read the plan themselves."""
        return {"frame": self.frame, "_plans": {}}
