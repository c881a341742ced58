"""Expectations on how the values of a column are distributed, as rules on the frame."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from lazypipe.contracts.contract import Written
from lazypipe.contracts.gx_given import Given, Readers, Unmappable, Wrong, vacuous

__all__ = ["READERS"]


def _outliers(given: Given) -> Iterable[Written]:
    z = given.kwargs.need("threshold", "number")
    if z is None:
        return []
    both = given.kwargs.flag("double_sided", default=True)
    if not (abs(z) if both else z) > 0:
        raise Unmappable(f"a threshold of {z} leaves the mean itself too far")
    given.kwargs.note(given.name, "of values that are all the same none is far; in GX each of them fails")
    share = 100 * (1 - given.mostly)
    part = f"{share.normalize():f}%" if share else None
    arguments = {"column": given.column, "z": abs(z), "side": None if both else "above", "max": part}
    return [given.frame_rule("outliers", arguments)]


def _divergence(given: Given) -> Iterable[Written]:
    most = given.kwargs.get("threshold", "number")
    if most is None or given.value("partition_object") is None:
        return vacuous(given)
    if most < 0:
        raise Wrong("a divergence is never below 0", "threshold")
    tail, inner = (given.kwargs.get(f"{key}_weight_holdout", "number") or 0 for key in ("tail", "internal"))
    for name, part in (("tail", tail), ("internal", inner)):
        if not 0 <= part < 1:
            raise Wrong(f"{part} is no part that leaves something", f"{name}_weight_holdout")
    partition = given.kwargs.child("partition_object")
    weights = partition.need("weights", "list")
    key = "values" if "values" in partition else "bins"
    named = partition.need(key, "list")
    if weights is None or named is None:
        return []
    expected = len(named) - (key == "bins")
    if len(weights) != expected or not all(isinstance(w, int | float) and w >= 0 for w in weights) or not sum(weights):
        raise Wrong(f"{len(named)} {key} need {expected} weights from 0", "partition_object", "weights")
    if key == "values":
        if inner:
            raise Wrong("values have no weights between them", "internal_weight_holdout")
        arguments: Written = {"values": named, "weights": weights, "rest": tail or None}
    else:
        arguments = _bins(given, [_edge(b) for b in named], [w * (1 - tail - inner) for w in weights], tail, inner)
    return [given.frame_rule("kl_divergence", {"column": given.column, **arguments, "max": most})]


def _edge(written: Any) -> float:
    try:
        return written if isinstance(written, int) else float(written)
    except (TypeError, ValueError):
        raise Wrong(f"{written!r} is no edge of a bin", "partition_object", "bins") from None


def _bins(given: Given, edges: list[float], weights: list[float], tail: float, inner: float) -> Written:
    """Return the edges and weights of a partition with all that lies below and above it."""
    if not all(low < high for low, high in pairwise(edges)):
        raise Wrong("bins are not in order", "partition_object", "bins")
    if given.value("bucketize_data") is False:
        raise Wrong("bins need bucketize_data", "bucketize_data")
    ends = (math.isinf(edges[0]), math.isinf(edges[-1]))
    tails = given.kwargs.child("partition_object").get("tail_weights", "list")
    if tails is not None and (tail or any(ends) or len(tails) != 2):
        raise Wrong(
            "tail_weights are two, and the only weights of what is beyond the bins", "partition_object", "tail_weights"
        )
    if tail and all(ends):
        raise Wrong("nothing is beyond the bins", "tail_weight_holdout")
    empty = weights.count(0)
    weights = [w or (inner / empty if inner else 0) for w in weights]
    left, right = tails or [tail if any(ends) else tail / 2] * 2
    if ends[0]:
        edges = edges[1:]
    else:
        weights = [left, *weights]
    if ends[1]:
        # the last bin but this one is open, which the last of a rule is not
        edges = [*edges[:-2], math.nextafter(edges[-2], -math.inf)] if len(edges) > 1 else []
    else:
        weights = [*weights, right]
    if not edges:
        raise Unmappable("everything is in its one bin")
    return {"bins": edges, "weights": weights}


READERS: Readers = {
    "expect_column_value_z_scores_to_be_less_than": (("column", "threshold"), ("double_sided",), _outliers),
    "expect_column_kl_divergence_to_be_less_than": (
        ("column",),
        ("partition_object", "threshold", "tail_weight_holdout", "internal_weight_holdout", "bucketize_data"),
        _divergence,
    ),
}
