"""The Delta tables of an output, its quarantine and its feeds: brought up to date with their commits."""

from __future__ import annotations

from datetime import datetime

from lazypipe.run.panefeed import feeds_of
from lazypipe.spec.model import Output
from lazypipe.storage.datasets.dataset import Dataset

__all__ = ["publish"]


def publish(output: Output, *, run: str, now: datetime) -> int:
    """Have the Delta logs of an output tell of all commits; return how many they did not know.

    Raises
    ------
    LazypipeError
        See ``Dataset.publish``.
    """
    dataset = Dataset(output.to, output.storage_options, delta=True)
    # where keys are only removed, the quarantine is that of the output which writes the dataset
    aside = Dataset(f"{output.to}__quarantine", output.storage_options, delta=True)
    beside = [aside, *feeds_of(output, dataset)]
    return sum(of.publish(run=run, time=now) for of in (dataset, *beside))
