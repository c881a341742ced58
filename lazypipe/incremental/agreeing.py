"""Which version of a table is read when several outputs share it and one of them needs an older one.

A stage that several outputs share reads a table once. Where the table's files were merged, an output that adds rows may have to read it as it was before
(``successors.py``), since merged files hold rows that it has and rows that it lacks. Then the oldest version that any needs is read in this run,
and outputs that need another one wait for the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.segments import Segment, and_ahead
from lazypipe.compile.sources.source import Snapshot
from lazypipe.incremental.work import Work

__all__ = ["Agreeing"]


class _Needed(NamedTuple):
    """A version of a table, and the output that needs it."""

    version: int
    output: str
    then: Snapshot


@dataclass(frozen=True)
class Agreeing:
    """Says for one run which versions are read by what is kept for that run only.

    Parameters
    ----------
    look
        Lists a source as it is now.
    older
        Gives the version of a source or output that an output would read instead of the last one; None if it reads that.
    """

    plan: CompiledPipeline
    look: Callable[[str], Snapshot]
    older: Callable[[Segment, str], Snapshot | None]
    _found: dict[str, _Needed | None] = field(default_factory=dict)

    def of(self, segment: Segment) -> Mapping[str, Snapshot]:
        """Return the versions that a segment kept for this run only reads instead of the last ones."""
        needed = {n: self._needed(n) for n in self.plan.inner[segment.node].driving}
        return {n: of.then for n, of in needed.items() if of is not None}

    def waits(self, segment: Segment, work: Work) -> Work | None:
        """Return the work of an output that has to wait, because what it shares is read as another one needs it; None if it has not."""
        if work.kind not in ("units", "all"):
            return None
        for name in sorted(self._shared(segment)):
            needed, own = self._needed(name), work.older.get(name)
            if needed is not None and needed.version != (None if own is None else own.version):
                why = f"waiting for the next run: files of {name} were merged, and {needed.output} first reads them as they were before"
                return Work("wait", why, left=max(1, work.left))
        return None

    def _needed(self, name: str) -> _Needed | None:
        if name not in self._found:
            self._found[name] = min(self._versions(name), key=lambda of: of.version, default=None)
        return self._found[name]

    def _versions(self, name: str) -> Iterator[_Needed]:
        if self.plan.nodes[name].source is not None and self.look(name).version is None:
            return
        for segment in self.plan.segments:
            if segment.output is None or not self._adds(segment.output, name) or name not in self._shared(segment):
                continue
            then = self.older(segment, name)
            if then is not None:
                yield _Needed(then.version or 0, segment.output, then)

    def _adds(self, output: str, name: str) -> bool:
        """Whether an output adds rows of just those files of a source or output that are new."""
        strategy = self.plan.strategies[output]
        return strategy.adds and strategy.kind == "units" and name in strategy.driving

    def _shared(self, segment: Segment) -> frozenset[str]:
        """Return the sources and outputs that an output reads through what is kept for this run only."""
        inner = [s for s in and_ahead(self.plan.segments, segment) if s.output is None]
        return frozenset(
            n for s in inner if self.plan.inner[s.node].kind == "units" for n in self.plan.inner[s.node].driving
        )
