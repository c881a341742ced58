"""Expectation suites of Great Expectations (0.x and 1.x) as rules.

What the expectations mean is taken from GX's pandas engine, the only one that knows (almost) all of them.

* Expectations on one column look at its values that are not null; those of ``mostly: 0.95`` at most 5 % may fail. Without
  ``mostly`` the rule lets null pass; with it, ``where`` takes the nulls out of what is counted, too. The limit is exact,
  where GX compares rounded floats.
* Expectations on several columns look at the rows that ``ignore_row_if`` leaves; there, a comparison with null fails.
* A measure of no values at all (a mean of nothing) fails in GX, and passes a rule: there was nothing to measure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from lazypipe.contracts import gx_distribution, gx_frames, gx_values
from lazypipe.contracts.conditions import Untranslatable, where
from lazypipe.contracts.contract import Contract, Written
from lazypipe.contracts.document import Node, Source, read
from lazypipe.contracts.gx_given import Given, Readers, Unmappable, Wrong
from lazypipe.sql.text import SqlError

__all__ = ["expectation", "from_gx"]


def from_gx(source: Source, *, table: str | None = None, order_by: Sequence[str] = ()) -> Contract:
    """Import an expectation suite of Great Expectations, versions 0.x and 1.x, from JSON or YAML.

    A suite does not say to which table it applies: pass ``table``, or the suite's name is used. It does not say how rows are ordered either, which
    ``increasing`` needs: pass the columns as ``order_by``.

    Core expectations become rules with the semantics of GX's pandas engine: expectations on one column ignore nulls, ``mostly`` becomes
    ``max_failures`` of the rows that are not null, and ``row_condition`` becomes ``where``, with pandas' meaning of missing values. Custom expectations,
    and those that cannot be a rule on frames (on query results, on schemas within JSON, statistical tests that GX only names), are in ``unmapped``.

    Raises
    ------
    DefinitionError
        If the document is not a suite, or a core expectation lacks an argument: with every mistake.

    Examples
    --------
    >>> contract = from_gx('''{"name": "orders", "expectations": [
    ...   {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "c", "value_set": ["a"], "mostly": 0.95}}]}''')
    >>> contract.rules["orders"][0]["in_set"]
    {'column': 'c', 'values': ['a'], 'max_failures': '5%', 'where': '"c" IS NOT NULL'}
    """
    document = read(source)
    root = document.root("expectation suite")
    name = root.text("name") or root.text("expectation_suite_name") or "suite"
    about = root.about(table or name)
    if "expectations" not in root:
        root.fault("'expectations' is missing", "add expectations: a list of {type, kwargs}")
    rules = [rule for node in about.children("expectations") for rule in expectation(node, tuple(order_by))]
    document.finish()
    return Contract(name, {table or name: tuple(rules)}, {}, tuple(document.unmapped), tuple(document.notes))


_SETTINGS = {
    "batch_id",
    "catch_exceptions",
    "result_format",
    "include_config",
    "meta",
    "auto",
    "profiler_config",
    "column",
    "mostly",
    "row_condition",
    "condition_parser",
}
_SEVERITIES = {"critical": None, "warning": "warn", "info": "warn"}


def expectation(node: Node, order_by: tuple[str, ...] = ()) -> list[Written]:
    """Return the rules that one expectation becomes; what has none is noted in its document."""
    written = node.text("type") or node.text("expectation_type")
    if written is None:
        node.fault("'type' is missing", "add type: the name of the expectation")
        return []
    name = _snake(written)
    given = node.child("kwargs")
    column = given.value.get("column")
    node = node.about(node.table, column if isinstance(column, str) else None)
    reader, kwargs = _READERS.get(name), given.about(node.table, node.column)
    if reader is None:
        node.unmapped(written, _WITHOUT_RULE.get(name, "it is no core expectation; write an expression"))
        return []
    needed, optional, read_it = reader
    missing = [key for key in needed if key not in kwargs]
    for key in missing:
        node.fault(f"{key!r} is missing in {written}", f"add {key}", "kwargs")
    if parameters := [k for k, v in kwargs.value.items() if isinstance(v, dict) and "$PARAMETER" in v]:
        node.unmapped(written, f"{parameters[0]} is an evaluation parameter, whose value only GX knows")
        return []
    for key in kwargs.value:
        if key not in (*needed, *optional, *_SETTINGS):
            kwargs.note(f"{key} of {written}", "it is not an argument that changes the outcome", key)
    mostly, common = _mostly(kwargs), _common(node)
    if missing or mostly is None:
        return []
    try:
        condition = None
        if "row_condition" in kwargs:
            condition = where(kwargs.value["row_condition"], kwargs.text("condition_parser"))
        return list(read_it(Given(written, kwargs, mostly, condition, common, order_by)))
    except Untranslatable as error:
        node.unmapped(written, f"its row_condition cannot be taken over: {error}", "kwargs", "row_condition")
    except Unmappable as error:
        node.unmapped(written, str(error))
    except Wrong as error:
        node.fault(f"{written}: {error}", None, "kwargs", *error.path)
    except SqlError as error:
        node.unmapped(written, str(error))
    return []


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _mostly(kwargs: Node) -> Decimal | None:
    mostly = kwargs.get("mostly", "number")
    if mostly is not None and not 0 <= mostly <= 1:
        kwargs.fault(f"mostly {mostly} is not a fraction of the rows", "write a number from 0 to 1", "mostly")
        return None
    return Decimal(1) if mostly is None else Decimal(str(mostly))


def _common(node: Node) -> dict[str, Any]:
    notes = node.child("meta").value.get("notes")
    if isinstance(notes, dict):
        notes = notes.get("content")
    if isinstance(notes, list):
        notes = " ".join(map(str, notes))
    severity = node.text("severity")
    if severity is not None and severity not in _SEVERITIES:
        node.note(f"severity {severity!r}", "it is not known, so a violation fails the gate", "severity")
    return {
        "description": node.text("description") or (notes if isinstance(notes, str) else None) or None,
        "action": _SEVERITIES.get(severity or "critical"),
    }


_STUB = (
    "Great Expectations has only named it since 0.13, without evaluating it; "
    "kl_divergence compares with given weights, psi and ks with the previous commit"
)
_READERS: Readers = {**gx_values.READERS, **gx_frames.READERS, **gx_distribution.READERS}
_WITHOUT_RULE = {
    "expect_column_values_to_match_json_schema": "json asks whether the text is JSON, no rule for what is in it",
    "expect_column_chisquare_test_p_value_to_be_greater_than": _STUB,
    "expect_column_bootstrapped_ks_test_p_value_to_be_greater_than": _STUB,
    "expect_column_parameterized_distribution_ks_test_p_value_to_be_greater_than": _STUB,
    "expect_column_pair_cramers_phi_value_to_be_less_than": _STUB,
    "expect_query_results_to_match_comparison": "it compares the results of two queries; write a stage",
}
