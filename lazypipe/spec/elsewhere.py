"""Names of operations, rules, keys, arguments and values in other tools, for hints in errors."""

from __future__ import annotations

from collections.abc import Iterable

from lazypipe.errors import nearest

__all__ = ["hint", "meant"]

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
    "keys": {
        "uri": ("path", "paths", "file", "files", "location"),
        "from": ("input", "inputs", "source", "sources", "depends_on"),
        "to": ("path", "uri", "file", "url", "location", "target", "destination"),
        "do": ("steps", "operations", "transform", "transforms"),
        "gate": ("rules", "tests", "checks", "expectations"),
        "separator": ("sep", "delim", "delimiter"),
        "header": ("has_header",),
        "quote": ("quote_char", "quotechar"),
        "null_values": ("na_values", "nulls"),
        "skip_rows": ("skiprows", "skip_lines"),
        "key": ("unique_key", "primary_key"),
        "partition_by": ("partitioned_by", "partitions", "partition"),
        "params": ("vars", "variables", "parameters"),
    },
    "arguments": {
        "aggregate": ("agg", "aggs", "aggregations", "aggregates"),
        "by": ("group_by", "groupby", "partition_by"),
        "how": ("type", "kind"),
        "with": ("right", "other", "table"),
        "columns": ("subset",),
        "suffix": ("rsuffix",),
        "rows": ("n", "count", "limit"),
        "min": ("min_value", "ge"),
        "max": ("max_value", "le"),
        "pattern": ("regex",),
        "values": ("value_set",),
        "condition": ("expression", "sql", "where"),
    },
    "values": {
        "full": ("outer", "full_outer"),
        "replace": ("overwrite", "table", "truncate"),
        "upsert": ("merge", "incremental"),
        "ndjson": ("jsonl", "jsonlines"),
        "ipc": ("arrow", "feather"),
        "fail": ("error", "raise", "abort"),
        "warn": ("warning", "log"),
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
    here = meant(name, known := [*known], kind)
    return nearest(name, known, kind) if here is None else f"here that is called {here!r}"


def meant(name: str, known: Iterable[str], kind: str) -> str | None:
    """Return which of the known names is called so elsewhere; None if none is.

    Examples
    --------
    >>> meant("path", ["format", "uri"], "keys"), meant("path", ["format", "to"], "keys"), meant("path", ["format"], "keys")
    ('uri', 'to', None)
    """
    return next((here for here, others in _MEANT.get(kind, {}).items() if name in others and here in known), None)
