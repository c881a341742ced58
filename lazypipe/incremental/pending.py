"""Whether there is anything to do, without doing it: one listing of each source, and the log of each output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.sources.source import Snapshot
from lazypipe.errors import LazypipeError
from lazypipe.incremental.bound import UNBOUND, Bound
from lazypipe.incremental.feed import decide
from lazypipe.incremental.leaf import Came
from lazypipe.incremental.terms import Terms
from lazypipe.incremental.work import Work

__all__ = ["Pending", "pending"]


@dataclass(frozen=True)
class Pending:
    """The outputs that a run would begin with, and their work; what is made of these follows them.

    Of those that ``failed`` it cannot be told: a source of theirs, or their own log, cannot be read.
    """

    works: Mapping[str, Work]
    failed: Mapping[str, LazypipeError] = field(default_factory=dict)

    @property
    def files(self) -> int:
        """How many files came, changed or went, for the output with the most of them."""
        return max((len(w.came) + w.went for w in self.works.values()), default=0)

    def rows(self, count: Callable[[Came], int]) -> int:
        """Return how many rows came, for the output with the most of them; ``count`` counts those of a file."""
        sums = (sum(count(c) if c.rows is None else c.rows for c in w.came) for w in self.works.values())
        return max(sums, default=0)


def pending(
    plan: CompiledPipeline,
    look: Callable[[str], Snapshot],
    *,
    listed: int,
    now: int | None = None,
    bound: Bound = UNBOUND,
) -> Pending:
    """Say what a run would begin with; reads names, stamps and logs, and hashes only what names and stamps leave open.

    Rules about the clock are no reason to run: they are judged when there is another one.

    Parameters
    ----------
    look
        Lists a source.
    listed
        When, in nanoseconds since 1970.
    now
        The clock of the run, in microseconds since 1970, by which windows close though nothing came; None: they do not.
    bound
        What a run takes.

    Raises
    ------
    LazypipeError
        If it can be told of no output.
    """
    terms = Terms("pending", look, listed, bound=bound, judge_again=False, now=now)
    works: dict[str, Work] = {}
    failed: dict[str, LazypipeError] = {}
    unsettled: set[str] = set()
    settled = False
    for segment in plan.segments:
        if unsettled.intersection(segment.reads):
            unsettled.add(segment.node)
        elif segment.output is not None:
            try:
                work = decide(plan, segment, terms)
            except LazypipeError as error:
                failed[segment.output] = error
                unsettled.add(segment.node)
                continue
            settled = True
            if work.kind in ("units", "all", "state"):
                works[segment.output] = work
            if work.kind != "none":
                unsettled.add(segment.node)
    if failed and not settled:
        raise next(iter(failed.values()))
    return Pending(works, failed)
