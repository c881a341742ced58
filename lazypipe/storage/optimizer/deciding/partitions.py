"""Columns whose values become folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from lazypipe.storage import hive
from lazypipe.storage.optimizer.deciding.case import OFTEN, Case
from lazypipe.storage.optimizer.forms import owner
from lazypipe.storage.optimizer.layout import Layout

__all__ = ["with_partitions"]

_PARTITIONS = 200
_PARTITION_BYTES = 32 << 20


def with_partitions(case: Case, layout: Layout) -> Layout:
    """Choose the columns that stand in folders, unless that is settled."""
    if case.partition_by is not None:
        return replace(layout, partition_by=case.keys)
    size = case.bench.trials[-1].cost.bytes * case.sample.scale
    for name, weight in case.filtered.items():
        column = next((c for c in case.profile.columns if c.name == name), None)
        if column is None or column.distinct is None or weight < OFTEN:
            continue
        values = column.distinct + (column.nulls > 0)  # nulls have a folder too
        if not hive.can_name(column.dtype) or case.frame.width == 1:
            continue
        if case.is_part and case.frame[name].head(case.frame.height // 2).n_unique() < values:
            continue  # more rows are likely to have more values
        counts = case.frame[name].value_counts()
        least = size * int(counts["count"].sort()[0]) / case.frame.height
        if 1 < values <= _PARTITIONS and least >= _PARTITION_BYTES:
            if (long := _longest_name(counts[name])) > hive.NAME_BYTES:
                allowed = f"a value makes a name of {long:,} bytes, and {hive.NAME_BYTES} are allowed"
                case.note(None, f"no folders by {name}", allowed)
                continue
            case.note(None, f"a folder per {name}", f"{values} of them, of {int(least) >> 20:,} MiB or more each")
            return _without(layout, name)
    return layout


def _without(layout: Layout, name: str) -> Layout:
    """Return the layout with a column in folders."""

    def kept(of: Mapping[str, Any]) -> dict[str, Any]:
        return {n: v for n, v in of.items() if owner(n) != name}

    sort_by = tuple(n for n in layout.sort_by if n != name)
    curve, bounds = (layout.curve, kept(layout.bounds)) if len(sort_by) > 1 else ("linear", {})
    forms, encodings, codecs = kept(layout.forms), kept(layout.encodings), kept(layout.codecs)
    return replace(
        layout, forms=forms, encodings=encodings, codecs=codecs, sort_by=sort_by, curve=curve, bounds=bounds,
        partition_by=(name,),
    )  # fmt: skip


def _longest_name(values: pl.Series) -> int:
    """Return the bytes of the longest name of a folder among those of some values."""
    texts = values.cast(pl.String)
    return max(len(hive.folders([values.name], [text])) - 1 for text in texts)
