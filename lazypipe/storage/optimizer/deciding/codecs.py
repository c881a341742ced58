"""The codec of all columns, and its level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lazypipe.storage.optimizer.choice import Goal
from lazypipe.storage.optimizer.cost import Cost, figure
from lazypipe.storage.optimizer.deciding.case import Case
from lazypipe.storage.optimizer.layout import Layout

__all__ = ["LEVELS", "with_codec"]

_TRIED: Mapping[Goal, tuple[tuple[str, int | None], ...]] = {
    "storage": (("zstd", 9),),
    "balanced": (("zstd", 6),),
    "read": (("lz4", None), ("uncompressed", None)),
    "write": (("zstd", 1), ("lz4", None)),
}
"""Codecs that are tried once forms and encodings are chosen."""
LEVELS: Mapping[Goal, int] = {"storage": 9, "balanced": 6}
"""Levels of zstd that columns may have of their own, where bytes count."""
_WORTH = 0.98
"""How small another codec must make the whole to be worth it."""


def with_codec(case: Case, layout: Layout, default: Cost) -> Layout:
    """Return a layout with the codec that is worth it for all columns."""
    if case.bench.quick and case.goal in LEVELS:
        # of pyarrow's columns each has had the choice, if there was time for it
        return layout if layout.writer == "pyarrow" and case.hard else _harder(case, layout, default)
    best, cost = layout, case.last(layout)
    for codec, level in _TRIED[case.goal]:
        if not case.bench.fits(case.frame, layout.writer):
            break
        tried = replace(layout, codec=codec, level=level)
        found, _ = case.bench.whole(case.frame, tried, codec_name(codec, level))
        least = case.limits.least
        worth = getattr(found, least) <= _WORTH * getattr(cost, least)
        if worth and not case.limits.broken(found, default):
            why = f"{least} of the sample {figure(getattr(cost, least))} → {figure(getattr(found, least))}"
            case.reasons = [r for r in case.reasons if not r.decision.startswith("codec ")]
            case.note(None, f"codec {codec_name(codec, level)}", why)
            best, cost = tried, found
    return best


def _harder(case: Case, layout: Layout, default: Cost) -> Layout:
    """Compress all columns harder if that stays within limits: what it saves shows only on more rows."""
    tried, cost = case.bench.harder(case.frame, layout, LEVELS[case.goal])
    if case.limits.broken(cost, default):
        return layout
    case.note(
        None,
        f"codec {codec_name('zstd', tried.level)}",
        f"writing stays within {case.limits.write:g} times the default's time",
    )
    return tried


def codec_name(codec: str, level: int | None) -> str:
    return codec if level is None else f"{codec} {level}"
