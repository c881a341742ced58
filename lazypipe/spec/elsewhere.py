"""What other tools call operations and rules."""

from __future__ import annotations

from collections.abc import Iterable

from lazypipe.errors import nearest

__all__ = ["hint"]

_MEANT = {
    "operations": {
        "aggregate": ("group_by", "groupby", "agg"),
        "filter": ("where", "having"),
        "derive": ("with_columns", "mutate", "assign"),
        "sort": ("order_by", "sort_by"),
        "distinct": ("unique", "dedup", "deduplicate", "drop_duplicates"),
        "union": ("concat", "append", "union_all"),
        "limit": ("head", "top"),
        "unpivot": ("melt",),
        "join": ("merge", "lookup"),
        "fill": ("fill_null", "fillna"),
        "sql": ("query",),
    },
    "rules": {
        "in_set": ("accepted_values", "is_in", "isin", "one_of"),
        "foreign_key": ("relationships", "references"),
        "between": ("accepted_range", "range", "is_between"),
        "regex": ("matches", "pattern"),
        "not_null": ("required", "not_na", "notna"),
        "expression": ("check", "condition", "sql", "expect"),
    },
}


def hint(name: str, known: Iterable[str], kind: str) -> str:
    """Return what to write instead of an unknown name: what is meant by it elsewhere, or what is near it.

    Examples
    --------
    >>> hint("group_by", ["aggregate", "filter"], "operations"), hint("fliter", ["aggregate", "filter"], "operations")
    ("here that is called 'aggregate'", "did you mean 'filter'?")
    """
    meant = next((here for here, others in _MEANT.get(kind, {}).items() if name in others), None)
    return nearest(name, known, kind) if meant is None else f"here that is called {meant!r}"
