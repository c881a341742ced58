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
        "in_set": ("accepted_values", "is_in", "isin", "one_of", "invalidValues", "invalid_count"),
        "not_in_set": ("not_accepted_values", "notin", "not_in"),
        "foreign_key": ("relationships", "references"),
        "between": ("accepted_range", "range", "is_between", "in_range"),
        "regex": ("matches", "pattern", "str_matches", "match_regex"),
        "length_between": ("str_length", "length"),
        "not_null": ("required", "not_na", "notna", "nullValues", "missing_count", "missing"),
        "unique": ("unique_combination_of_columns", "duplicateValues", "duplicate_count", "no_duplicates"),
        "row_count": ("rowCount", "equal_rowcount", "volume"),
        "completeness": ("not_null_proportion", "missing_percent"),
        "freshness": ("recency",),
        "expression": ("check", "condition", "sql", "expect", "expression_is_true"),
    },
}


def hint(name: str, known: Iterable[str], kind: str) -> str:
    """Return what to write instead of an unknown name: what is meant by it elsewhere, or what is near it.

    Examples
    --------
    >>> hint("group_by", ["aggregate", "filter"], "operations"), hint("fliter", ["aggregate", "filter"], "operations")
    ("here that is called 'aggregate'", "did you mean 'filter'?")
    >>> hint("expect_column_to_exist", ["schema"], "rules")
    'lazypipe import gx says which rule an expectation is'
    """
    if kind == "rules" and name.startswith("expect_"):
        return "lazypipe import gx says which rule an expectation is"
    meant = next((here for here, others in _MEANT.get(kind, {}).items() if name in others), None)
    return nearest(name, known, kind) if meant is None else f"here that is called {meant!r}"
