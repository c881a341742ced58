"""A compiled source or stage: its schema, its checks, and how to lower it over whatever its inputs are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from lazypipe import gates
from lazypipe.compile.sources import BoundSource
from lazypipe.errors import first_line
from lazypipe.gates import Check, Rule
from lazypipe.ops import Operation
from lazypipe.spec.model import Fault, Step
from lazypipe.spec.scope import Guard, Scope, Table, Tally
from lazypipe.spec.words import plain
from lazypipe.storage.scan import is_engine_error

__all__ = ["Node", "compile_checks", "compile_steps"]


@dataclass(frozen=True)
class Node:
    """One source or stage, ready to lower. ``steps`` pairs each operation with the scope it was compiled in."""

    name: str
    inputs: tuple[str, ...]
    schema: pl.Schema
    checks: tuple[Check, ...] = ()
    source: BoundSource | None = None
    steps: tuple[tuple[Operation, Scope], ...] = ()
    schemas: tuple[pl.Schema, ...] = field(default=(), repr=False)

    def lower(
        self, inputs: Mapping[str, Table], tally: Tally | None = None, guard: Callable[[Step], Guard] | None = None
    ) -> pl.LazyFrame:
        """Return the stage's rows before its gate, over the given inputs; counts and keys are watched as told."""
        table = inputs[self.inputs[0]]
        for (operation, scope), schema in zip(self.steps, self.schemas, strict=True):
            here = replace(scope, tables=inputs)
            if tally is not None:
                here = replace(here, tally=tally)
            if guard is not None:
                here = replace(here, guard=guard(scope.step))
            table = Table(operation.lower(table, here), schema)
        return table.frame

    def good(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Return the rows that the gate lets go on: as a filter in the plan, without counting."""
        masks = [check.mask() for check in self.checks if check.removes_rows]
        return frame.filter(~pl.any_horizontal(masks)) if masks else frame


def compile_steps(
    steps: Sequence[Step],
    operations: Sequence[Operation],
    names: Sequence[str],
    inputs: Mapping[str, Table],
    make_scope: Callable[[Step, type[Operation]], Scope],
) -> tuple[tuple[tuple[Operation, Scope], ...], tuple[pl.Schema, ...]]:
    """Resolve the schema after each operation, over empty frames, so that the cost does not grow with the graph's depth.

    Raises
    ------
    Fault
        At the first operation that does not fit.
    """
    stubs = {n: t.stub() for n, t in inputs.items()}
    table = stubs[names[0]]
    compiled, schemas = [], []
    for step, operation in zip(steps, operations, strict=True):
        scope = make_scope(step, type(operation))
        try:
            lowered = operation.lower(table, replace(scope, tables=stubs))
            schema = lowered.collect_schema()
        except BaseException as error:
            if not (is_engine_error(error) or isinstance(error, TypeError)):
                raise
            raise _misfit(step, operation, error) from error
        table = Table(pl.LazyFrame(schema=schema), schema)
        compiled.append((operation, scope))
        schemas.append(schema)
    return tuple(compiled), tuple(schemas)


def _misfit(step: Step, operation: Operation, error: BaseException) -> Fault:
    """Return what Polars would not take, at the argument that it is likely about."""
    said = plain(first_line(error))
    written = step.arguments if isinstance(step.arguments, Mapping) else {}
    argument = next((a for a in said.arguments if a in written), None)
    path = (*step.path, step.name) if argument is None else operation.at(step, argument)
    return Fault(f"{step.name}: {said.what}", said.fix, path)


def compile_checks(
    steps: Sequence[Step], schema: pl.Schema, make_scope: Callable[[Step, type[Rule]], Scope], faults: list[Fault]
) -> tuple[Check, ...]:
    """Turn a gate's rules into checks with ids of their own; mistakes are added to ``faults``."""
    checks: list[Check] = []
    for step in steps:
        try:
            rule = gates.rule(step)
            checks += rule.checks(schema, make_scope(step, type(rule)))
        except Fault as fault:
            faults.append(fault)
    counts = Counter(c.id for c in checks)
    seen: Counter[str] = Counter()
    numbered = []
    for check in checks:
        seen[check.id] += 1
        unique = f"{check.id}#{seen[check.id]}" if counts[check.id] > 1 else check.id
        numbered.append(replace(check, id=unique))
    return tuple(numbered)
