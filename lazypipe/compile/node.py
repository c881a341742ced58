"""A compiled source or stage: its schema, its checks, and how to build its LazyFrame over any inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING

import polars as pl

from lazypipe import gates, ops
from lazypipe.compile.changes.placed import in_two
from lazypipe.compile.names import check_names
from lazypipe.compile.sources.contract import cell_checks, is_broken, is_contracted
from lazypipe.compile.sources.source import BoundSource
from lazypipe.compile.stub import Stub
from lazypipe.errors import first_line
from lazypipe.gates import Check, Rule
from lazypipe.gates.marks import Lookup, mark, mended
from lazypipe.gates.rule import ACTIONS, BAD
from lazypipe.gates.tap import RAW_COLUMN
from lazypipe.ops import Operation
from lazypipe.ops.base import AHEAD, Fold, reads_one_row
from lazypipe.ops.sort import Sort
from lazypipe.spec.arguments import Arguments
from lazypipe.spec.frames import missing
from lazypipe.spec.model import NOTHING, Fault, Step
from lazypipe.spec.scope import FAR, Asked, Guard, Scope, Table, Tally, Whole
from lazypipe.spec.taps import label
from lazypipe.spec.types import dtype_name
from lazypipe.spec.words import plain
from lazypipe.sql.exprs import empty
from lazypipe.sql.query import judge
from lazypipe.sql.text import SqlError
from lazypipe.storage.scan import Reader, is_engine_error
from lazypipe.storage.shape import SET_ASIDE, Shape, Target, refitted, reread
from lazypipe.storage.text.by_row import BROKEN

if TYPE_CHECKING:
    from lazypipe.compile.changes.carried import Carried

__all__ = [
    "HERE",
    "UNWATCHED",
    "Node",
    "Watching",
    "ancestors",
    "check_rules",
    "check_steps",
    "compile_checks",
    "compile_steps",
]


HERE = "@here"
"""The label of what the step before gave, in the plan of a step alone."""


@dataclass(frozen=True)
class Watching:
    """What steps are lowered with in a run: what counts rows, what watches a step's keys, how far event time is, which windows are whole."""

    tally: Tally | None = None
    guard: Callable[[Step], Guard] | None = None
    horizon: int = FAR
    whole: Whole | None = None

    def within(self, scope: Scope, inputs: Mapping[str, Table]) -> Scope:
        """Return the scope of a step in a run."""
        here = replace(scope, tables=inputs, horizon=self.horizon, whole=self.whole)
        if self.tally is not None:
            here = replace(here, tally=self.tally)
        return here if self.guard is None else replace(here, guard=self.guard(scope.step))


UNWATCHED = Watching()


@dataclass(frozen=True)
class Node:
    """One source or stage, ready to lower. ``steps`` pairs each operation with the scope it was compiled in.

    ``shape`` is what the contract of an output makes of a stage's rows, ahead of its gate.
    ``schemas`` are the columns after each step, ``stubs`` its plan over no rows, in which ``HERE`` is what the step before gave.
    ``to_close`` says whether it keeps closed windows, or a stage of the pipeline does whose rows are made of it. ``timeless`` are the checks of its
    rules where none asks for the time of the run: they are the same at any other. ``timed`` are the steps that ask for it.
    """

    name: str
    inputs: tuple[str, ...]
    schema: pl.Schema
    checks: tuple[Check, ...] = ()
    source: BoundSource | None = None
    steps: tuple[tuple[Operation, Scope], ...] = ()
    schemas: tuple[pl.Schema, ...] = field(default=(), repr=False)
    stubs: tuple[Stub, ...] = field(default=(), repr=False)
    shape: Shape | None = None
    to_close: bool = False
    timeless: tuple[Check, ...] | None = field(default=None, repr=False, compare=False)
    timed: tuple[Step, ...] = field(default=(), repr=False, compare=False)

    @property
    def raw(self) -> pl.Schema:
        """The fields of ``_lazypipe_raw``, which each row carries then; none if no cell is ever taken out."""
        if self.source is not None:
            return self.source.raw
        return pl.Schema() if self.shape is None else self.shape.raw("dataset")

    @property
    def ahead(self) -> pl.Schema:
        """The columns of its rows ahead of its gate."""
        return pl.Schema({**self.schema, RAW_COLUMN: pl.Struct(self.raw)}) if self.raw else self.schema

    def judges_each(self, checks: Iterable[Check]) -> bool:
        """Whether each row alone decides if it violates checks of the gate (apart from keys), and how it is repaired."""
        here = pl.Schema({**self.ahead, BAD: pl.Boolean()})
        known = [c for c in checks if c.columns <= here.keys()]
        return reads_one_row([e for c in known for e in (c.violated, c.where, c.repair) if e is not None], here)

    def judged_again(self, rows: pl.LazyFrame) -> tuple[pl.LazyFrame, tuple[Check, ...]]:
        """Return quarantined rows as they would be if they came now, and the checks that they meet: cells that did not fit are tried once more.

        A row, or a cell, that fits as little as before keeps its row aside also where the contract has nothing to say about it any more.
        """
        if not self.raw and RAW_COLUMN not in rows.collect_schema():
            return rows, self.checks
        targets = tuple(Target(name, dtype) for name, dtype in self.schema.items())
        shape = (self.shape if self.source is None else self.source.shape) or Shape(targets)
        reader = Reader("dataset") if self.source is None else self.source.reader
        known = {c.id for c in self.checks}
        more = [c for c in cell_checks(shape.keeping, SET_ASIDE) if c.id not in known]
        checks = self.checks
        if any(c.id == BROKEN for c in more):  # as where the contract takes out such rows
            checks = tuple(c if c.violated is None else replace(c, violated=c.violated & ~is_broken()) for c in checks)
        return reread(rows, shape.keeping, reader), (*more, *checks)

    def lower(self, inputs: Mapping[str, Table], watching: Watching = UNWATCHED) -> pl.LazyFrame:
        """Return the stage's rows before its gate, over the given inputs; counts and keys are observed as requested."""
        return self.shaped(self.steps_over(inputs[self.inputs[0]], inputs, 0, len(self.steps), watching))

    def steps_over(
        self,
        table: Table,
        inputs: Mapping[str, Table],
        start: int,
        stop: int,
        watching: Watching = UNWATCHED,
    ) -> Table:
        """Return the rows after some of the steps, over those ahead of them."""
        for (operation, scope), schema in zip(self.steps[start:stop], self.schemas[start:stop], strict=True):
            here = watching.within(scope, inputs)
            frame = operation.lower(table, here)
            operation.refuse_others(frame, schema, table.extra, here)
            large = frozenset(n for n, t in ((AHEAD, table), *((n, inputs[n]) for n in operation.inputs())) if t.large)
            table = Table(frame, schema, table.extra, operation.large(large))
        return table

    def fold(self, table: Table, inputs: Mapping[str, Table], step: int) -> Fold:
        """Return a step that can be folded in its two steps, over the rows ahead of it."""
        fold = self.folds(table, replace(self.steps[step][1], tables=inputs), step)
        assert fold is not None
        return fold

    def folds(self, table: Table, scope: Scope, step: int) -> Fold | None:
        """Return a step in two steps, if it can be folded: a sort if only its first rows go on, a query by its plan."""
        from lazypipe.ops.limit import Limit
        from lazypipe.ops.sql import Sql

        operation = self.steps[step][0]
        if isinstance(operation, Sql):
            from lazypipe.compile.changes.added_up import fold_query
            from lazypipe.compile.changes.first_rows import first_rows
            from lazypipe.sql.steps import steps

            found = first_rows(self.stubs[step].plan(), operation.query)
            if found is not None:
                return None if found.missing else found.fold(operation, table, scope)
            groups = steps(operation.query, self.schemas[step].names())
            return None if groups is None else fold_query(groups, operation, table, scope, self.schemas[step])
        after = self.steps[step + 1][0] if step + 1 < len(self.steps) else None
        if isinstance(operation, Sort) and isinstance(after, Limit):
            return operation.top(table, scope, after.offset + after.rows)
        return operation.fold(table, scope)

    def shaped(self, table: Table) -> pl.LazyFrame:
        """Return rows after the last step as the contract of an output has them."""
        if self.shape is None:
            return table.frame
        return refitted(table.frame, table.schema, self.shape, list(table.extra))

    def refit(self, nodes: Mapping[str, Node]) -> Stub | None:
        """Return the plan, in which ``HERE`` is what the last step gave, of what the contract of an output makes of it; None if there is none."""
        if self.shape is None:
            return None
        schema = self.schemas[-1] if self.schemas else nodes[self.inputs[0]].schema
        return Stub(refitted(label(empty(schema).lazy(), HERE), schema, self.shape))

    def mended(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Return the rows as the gate repairs them, before any is taken out."""
        return mended(frame, self.checks).select(self.schema.names())

    def carry(self, inputs: Mapping[str, Table]) -> Carried:
        """Return the rows before the gate with what made them (``Operation.carry``), as far as that is known."""
        from lazypipe.compile.changes.carried import Carried, carry_query

        table, found = inputs[self.inputs[0]], Carried(None)
        for index, ((operation, scope), schema) in enumerate(zip(self.steps, self.schemas, strict=True)):
            here = replace(scope, tables=inputs)
            frame = operation.carry(table, here)
            if frame is None:
                query = carry_query(self, index, operation, table, here)
                if query is None or query.frame is None:
                    return Carried(None, reasons=(*found.reasons, f"{operation.name} can read any row"))
                frame = query.frame
                found = replace(found, whole=found.whole | query.whole, reasons=(*found.reasons, *query.reasons))
            table = Table(frame, schema, table.extra)
        return replace(found, frame=self.shaped(table))

    def good(self, frame: pl.LazyFrame, lookup: Lookup, keep: Sequence[str] = ()) -> pl.LazyFrame:
        """Return the rows that the gate lets go on, with ``keep`` columns: as a filter in the plan, without counting."""
        checks = [c for c in self.checks if c.repair is not None or c.removes_rows]
        if not checks:
            return frame.select(*self.schema, *keep) if self.raw else frame
        marked = mark(frame, checks, lookup)
        masks = [pl.col(marked.masks[c.id]) for c in checks if c.removes_rows and c.id in marked.masks]
        masks += [c.mask() for c in checks if c.removes_rows and c.keys]
        good = marked.frame.filter(~pl.any_horizontal(masks)) if masks else marked.frame
        return good.select(*self.schema, *keep)


def ancestors(nodes: Mapping[str, Node], name: str) -> set[str]:
    """Return a source or stage and all that its rows are made of, not what gates look rows up in."""
    found, pending = {name}, [name]
    while pending:
        new = [n for n in nodes[pending.pop()].inputs if n not in found]
        found.update(new)
        pending += new
    return found


def compile_steps(
    steps: Sequence[Step],
    operations: Sequence[Operation],
    names: Sequence[str],
    inputs: Mapping[str, Table],
    make_scope: Callable[[Step, type[Operation]], Scope],
    faults: list[Fault],
) -> tuple[tuple[tuple[Operation, Scope], ...], tuple[pl.Schema, ...], tuple[Stub, ...], tuple[Step, ...]] | None:
    """Resolve the schema after each operation, over empty frames, so that the cost does not grow with the graph's depth; last the steps that ask for the time of the run.

    Mistakes are added to ``faults``; None if no schema can be told behind one. What leaves columns as they are is passed over.
    """
    from lazypipe.ops.python import Python

    tables = {n: Table(label(empty(t.schema).lazy(), n), t.schema) for n, t in inputs.items()}
    table = tables[names[0]]
    compiled, schemas, stubs, timed = [], [], [], list[Step]()
    for number, (step, operation) in enumerate(zip(steps, operations, strict=True), 1):
        scope = make_scope(step, type(operation))
        asked = Asked(scope.params)
        here = replace(scope, tables=tables, params=asked)
        try:
            lowered = operation.lower(table, here)
            schema = lowered.collect_schema()
            if isinstance(operation, Python) and operation.incremental is not None:
                from lazypipe.compile.changes.declared import check_rows

                check_rows(operation, table, here, lowered)
            parts = in_two(operation, table, here)
            check_names(schema, (*step.path, step.name))
        except BaseException as error:
            if not (is_engine_error(error) or isinstance(error, TypeError | Fault)):
                raise
            faults.append(error if isinstance(error, Fault) else _misfit(step, operation, error))
            if operation.keeps_columns:
                continue
            check_steps(steps[number:], make_scope, faults)
            return None
        for part in parts:
            lowered = lowered if len(parts) == 1 else part.lower(table, here)
            schema = lowered.collect_schema()
            table = Table(label(empty(schema).lazy(), HERE), schema)
            compiled.append((part, scope))
            schemas.append(schema)
            stubs.append(Stub(lowered))
        timed += [step] if asked.for_time else []
    return tuple(compiled), tuple(schemas), tuple(stubs), tuple(timed)


def _misfit(step: Step, operation: Operation, error: BaseException) -> Fault:
    """Return what Polars would not take, at the argument that it is likely about."""
    said = plain(first_line(error))
    written = step.arguments if isinstance(step.arguments, Mapping) else {}
    argument = next((a for a in said.arguments if a in written), None)
    path = (*step.path, step.name) if argument is None else operation.at(step, argument)
    return Fault(f"{step.name}: {said.what}", said.fix, path)


def check_steps(
    steps: Sequence[Step], make_scope: Callable[[Step, type[Operation]], Scope], faults: list[Fault]
) -> None:
    """Add what is wrong with the texts of a stage's operations whatever its columns are, where those are not known."""
    for step in steps:
        with suppress(Fault):  # reported where the graph was built
            operation = ops.operation(step)
            _check_texts(operation, make_scope(step, type(operation)), faults)


def check_rules(steps: Sequence[Step], make_scope: Callable[[Step, type[Rule]], Scope], faults: list[Fault]) -> None:
    """Add what is wrong with the rules of a gate whatever its columns are, where those are not known."""
    for step in steps:
        try:
            rule = gates.rule(step)
        except Fault as fault:
            faults.append(fault)
            continue
        _check_texts(rule, make_scope(step, type(rule)), faults)


def _check_texts(written: Arguments, scope: Scope, faults: list[Fault]) -> None:
    for argument, kind in written.kinds().items():
        if kind.sql is None:
            continue
        given = getattr(written, argument)
        texts = [((name,), text) for name, text in given.items()] if isinstance(given, Mapping) else [((), given)]
        for place, text in texts:
            if not isinstance(text, str) or not text:
                continue
            try:
                judge(text, scope.params, kind.sql)
            except SqlError as error:
                faults.append(scope.fault(error.what, error.fix, argument, *place, place=error.place))


def compile_gate(
    steps: Sequence[Step],
    schema: pl.Schema,
    make_scope: Callable[[Step, type[Rule]], Scope],
    faults: list[Fault],
    others: Mapping[str, pl.Schema],
    action: str | None,
    *,
    kept: bool,
) -> tuple[tuple[Check, ...], tuple[Check, ...] | None]:
    """Do what ``compile_checks`` does; return the checks, and once more if none asks for the time of the run."""
    asked: list[Asked] = []

    def watched(step: Step, owner: type[Rule]) -> Scope:
        made = make_scope(step, owner)
        asked.append(Asked(made.params))
        return replace(made, params=asked[-1])

    checks = compile_checks(steps, schema, watched, faults, others, action, kept=kept)
    return checks, None if any(a.for_time for a in asked) else checks


def compile_checks(
    steps: Sequence[Step],
    schema: pl.Schema,
    make_scope: Callable[[Step, type[Rule]], Scope],
    faults: list[Fault],
    others: Mapping[str, pl.Schema] = NOTHING,
    action: str | None = None,
    *,
    kept: bool = True,
) -> tuple[Check, ...]:
    """Turn a gate's rules into checks with ids of their own; mistakes are added to ``faults``.

    ``others`` are the schemas of frames that rules refer to; ``action`` is that of rules which give none, as far as they can do that;
    ``kept`` says whether the rows are those of a dataset, so that there may be earlier ones to compare them with.
    """
    checks: list[Check] = []
    for step in steps:
        try:
            rule = gates.rule(step)
            scope = make_scope(step, type(rule))
            for argument, name in rule.frames().items():
                if name not in others:
                    raise scope.fault(f"unknown frame {name!r}", missing(name, others), argument)
            made = rule.checks(schema, scope)
            if not kept and any(c.measure is not None and c.measure.compares_with_the_past for c in made):
                what = f"{step.name} compares with earlier runs, but nothing is kept of them: the rows here are not written to a dataset"
                raise Fault(what, "put it into the gate of a stage or source that is written to a dataset", step.path)
            for check in made:
                _check_reference(check, schema, others, rule, scope)
                _check_groups(check, schema, others, rule, scope)
                if is_contracted(check.id):
                    what = f"the id {check.id!r} is one that checks of contracts have"
                    raise scope.fault(what, "give the rule another id", *([] if rule.id is None else ["id"]))
        except Fault as fault:
            faults.append(fault)
            continue
        if action is not None and not (rule.is_long(step.arguments) and "action" in step.arguments):
            by_default = next(a for a in ACTIONS if a == action)
            # a measure of the whole frame names no rows that could be taken out: it fails, or warns
            made = [c if c.measure is not None and action != "warn" else replace(c, action=by_default) for c in made]
        checks += [replace(c, place=(*step.path, step.name)) for c in made]
    counts = Counter(c.id for c in checks)
    numbers: dict[str, Iterator[int]] = {}
    numbered = []
    for check in checks:
        unique = check.id
        if counts[unique] > 1:
            free = (f"{check.id}#{n}" for n in numbers.setdefault(check.id, count(1)))
            unique = next(i for i in free if i not in counts)  # nor what another rule is called
        numbered.append(replace(check, id=unique))
    return tuple(numbered)


def _check_reference(
    check: Check, schema: pl.Schema, others: Mapping[str, pl.Schema], rule: Rule, scope: Scope
) -> None:
    """Raise Fault where a reference's columns are not there, or cannot be compared with those here."""
    found = check.reference
    if found is None:
        return
    argument = next(a for a, name in rule.frames().items() if name == found.to)
    other = others[found.to]
    places = [key for key in ("column", "columns") if key in getattr(rule, argument)]
    scope.columns(found.others, other, argument, *places, of=found.to)
    for here, there in zip(found.columns, found.others, strict=True):
        if not _comparable(schema[here], other[there]):
            what = f"column {here!r} is {dtype_name(schema[here])}, and {there!r} of {found.to!r} is {dtype_name(other[there])}"
            raise scope.fault(what, "cast one of them", argument)


def _check_groups(check: Check, schema: pl.Schema, others: Mapping[str, pl.Schema], rule: Rule, scope: Scope) -> None:
    """Raise Fault where groups of rows are compared with those of a frame that cannot have them."""
    by = () if check.measure is None else check.measure.by
    for argument, name in rule.frames().items() if by else ():
        scope.columns(by, others[name], "by", of=name)
        for column in by:
            here, there = schema[column], others[name][column]
            if not _comparable(here, there):
                what = f"column {column!r} is {dtype_name(here)}, and {dtype_name(there)} in {name!r}"
                raise scope.fault(what, "cast one of them", argument)


def _comparable(here: pl.DataType, there: pl.DataType) -> bool:
    """Whether Polars joins columns of these types."""
    left, right = pl.LazyFrame(schema={"k": here}), pl.LazyFrame(schema={"k": there})
    try:
        left.join(right, on="k").collect()
    except pl.exceptions.PolarsError:
        return False
    return True
