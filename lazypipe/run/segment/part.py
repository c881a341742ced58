"""What the parts of one attempt at a segment share: its query, and where it writes."""

from __future__ import annotations

from lazypipe.run.segment.query import Query
from lazypipe.run.segment.target import Target

__all__ = ["Part"]


class Part:
    """A part of one try at a segment, with what it needs at hand."""

    def __init__(self, query: Query, target: Target) -> None:
        self.query = query
        self.target = target
        self.run = target.run
        self.plan = target.plan
        self.segment = target.segment
        self.work = target.work
        self.output = target.output
