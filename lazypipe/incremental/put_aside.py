"""Quarantined rows of sources and inner stages: they are kept in datasets of their own in the state folder."""

from __future__ import annotations

from collections.abc import Iterable

from lazypipe.compile.state import state_of
from lazypipe.spec.model import Pipeline

__all__ = ["put_aside"]


def put_aside(pipeline: Pipeline, names: Iterable[str]) -> dict[str, int]:
    """Return the number of quarantined rows, by the source or stage whose gate they violated; without those that have none.

    Raises
    ------
    StorageError
        If a commit cannot be read.
    """
    state = state_of(pipeline)
    commits = ((n, state.dataset("quarantine", n).latest()) for n in sorted({*names}))
    return {name: commit.rows for name, commit in commits if commit is not None and commit.rows}
