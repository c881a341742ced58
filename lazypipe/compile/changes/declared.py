"""What a Python function is declared to do, checked as far as its plan can be seen."""

from __future__ import annotations

import polars as pl

from lazypipe.compile.changes.through import Through, through
from lazypipe.ops.python import Python
from lazypipe.plan.nodes import PlanNode
from lazypipe.plan.reader import read_plan
from lazypipe.plan.steps import plan_lineage
from lazypipe.spec.scope import Scope, Table
from lazypipe.spec.taps import label
from lazypipe.sql.exprs import empty
from lazypipe.storage.datasets.units import UNIT

__all__ = ["check_rows"]

_AHEAD = "@ahead"


def check_rows(operation: Python, table: Table, scope: Scope, lowered: pl.LazyFrame) -> None:
    """Raise Fault where a function does not treat each row by itself, though it is declared to, or loses a column it does not know."""
    schema, name = lowered.collect_schema(), getattr(operation.call, "__qualname__", operation.call)
    told = pl.Schema({**table.schema, UNIT: pl.UInt64()})
    carrying = operation.lower(Table(label(empty(told).lazy(), _AHEAD), table.schema, (UNIT,)), scope)
    plan = read_plan(carrying, exact=True)
    found = through(plan, _AHEAD)
    against = _against(found)
    if against:
        what = f"{name} does not treat each row by itself: {against}"
        raise scope.fault(what, "remove incremental, or do that in another step", "incremental")
    there = carrying.collect_schema()
    if there.get(UNIT) != pl.UInt64 or (not found.opaque and found.kept.get(UNIT) != UNIT):
        what = f"{name} drops columns that it does not know, so its rows cannot be traced to their files"
        raise scope.fault(what, "add columns with with_columns, and remove them with drop", "incremental")
    if {n: t for n, t in there.items() if n != UNIT} != dict(schema):
        what = f"{name} returns other columns when its input has one more column"
        raise scope.fault(what, "name the columns that it works on", "incremental")
    if not found.opaque and _reads_unit(plan):
        what = f"{name} also works on columns that lazypipe adds: it selects them by type, by pattern, or all of them"
        raise scope.fault(what, "name the columns that it works on", "incremental")


def _reads_unit(plan: PlanNode) -> bool:
    """Whether the column that rows carry decides over others, or over which rows there are."""
    made = plan_lineage(plan)
    others = (flows for name, flows in made.columns.items() if name != UNIT)
    return any(flow.source.name == UNIT for flows in (made.dataset, *others) for flow in flows)


def _against(found: Through) -> str:
    if found.opaque:
        return ""
    if found.against:
        return found.against
    if found.by is not None:
        return "rows with the same " + ", ".join(sorted(found.by - {UNIT})) + " affect each other"
    return "it sorts them" if found.ordered else ""
