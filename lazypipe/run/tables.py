"""Delta tables of an output: that of its rows, and those of its quarantine and feeds, brought to where their commits are."""

from __future__ import annotations

from datetime import datetime

from lazypipe.run.changefeed import ChangeFeed, feed_of
from lazypipe.run.panefeed import PaneFeed
from lazypipe.spec.model import Output
from lazypipe.storage.dataset import Dataset

__all__ = ["publish"]


def publish(output: Output, *, run: str, now: datetime) -> int:
    """Have the Delta logs of an output tell of all commits; return how many they did not know.

    Raises
    ------
    LazypipeError
        See ``Dataset.publish``.
    """
    dataset = Dataset(output.to, output.storage_options, delta=True)
    kinds = [ChangeFeed.kind] * output.changes + [PaneFeed.kind] * bool(output.panes)
    # where keys are only removed, the quarantine is that of the output which writes the dataset
    aside = Dataset(f"{output.to}__quarantine", output.storage_options, delta=True)
    beside = [aside, *(feed_of(dataset, kind) for kind in kinds)]
    return sum(of.publish(run=run, time=now) for of in (dataset, *beside))
