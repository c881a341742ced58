"""Operations and gates on DataFrames and LazyFrames, without a pipeline or files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import polars as pl

from lazypipe import gates, ops
from lazypipe.api.forked import refuse_forked
from lazypipe.api.now import time_of_run
from lazypipe.compile.graph import outside
from lazypipe.compile.names import check_names
from lazypipe.compile.node import compile_checks
from lazypipe.compile.sources.binding import bind
from lazypipe.errors import LazypipeError, RunError, counted, first_line
from lazypipe.gates.alone import Split, check_frame, split_frame
from lazypipe.gates.report import GateReport
from lazypipe.spec import loader, model
from lazypipe.spec.arguments import Arguments
from lazypipe.spec.frames import lazy_frame, missing
from lazypipe.spec.model import Fault, Origin, Step, freeze
from lazypipe.spec.queries import read_query
from lazypipe.spec.scope import Scope, Table, modules
from lazypipe.spec.types import with_names
from lazypipe.spec.words import plain

__all__ = ["apply", "check", "split", "step_of"]


def step_of(written: Mapping[str, Any] | Arguments) -> Step:
    """Return an operation or rule as a definition has it: from ``{name: arguments}``, or from its object."""
    if isinstance(written, Arguments):
        return written.to_step()
    ((name, arguments),) = written.items()
    return Step(name, freeze(with_names(arguments)))


def apply(
    step: Mapping[str, Any] | ops.Operation | Sequence[Mapping[str, Any] | ops.Operation],
    frame: pl.DataFrame | pl.LazyFrame,
    *,
    params: Mapping[str, Any] | None = None,
    allow: Iterable[str] = (),
    **others: pl.DataFrame | pl.LazyFrame,
) -> pl.LazyFrame:
    """Apply one operation, or several in order, to a frame. Other frames are passed by the names that the operations use.

    Raises
    ------
    DefinitionError
        If an operation does not fit the frames.

    Examples
    --------
    >>> apply({"filter": "a > :least"}, pl.LazyFrame({"a": [1, 2]}), params={"least": 1}).collect().rows()
    [(2,)]
    >>> apply([{"filter": "a > 1"}, {"derive": {"b": "a * 2"}}], pl.LazyFrame({"a": [1, 2]})).collect().rows()
    [(2, 4)]
    """
    rows = lazy_frame(frame, "frame")
    if isinstance(step, list | tuple):
        for one in step:
            rows = apply(one, rows, params=params, allow=allow, **others)
        return rows
    if not (isinstance(step, ops.Operation) or (isinstance(step, Mapping) and [str] == [type(k) for k in step])):
        raise loader.problems([Fault(f"{step!r} is not an operation", "write {name: arguments}")], Origin())
    try:
        written, _ = read_query(step_of(step), ".")
        operation = ops.operation(written)
        frames = {n: lazy_frame(f, f"frame {n!r}") for n, f in others.items()}
        tables = {n: Table(f, f.collect_schema()) for n, f in frames.items()}
        scope = Scope(type(operation), written, tables, _params(params), modules(allow))
        for name in operation.inputs():
            if name not in tables:
                raise scope.fault(f"unknown frame {name!r}", missing(name, tables), "with")
        return operation.lower(Table(rows, rows.collect_schema()), scope)
    except Fault as fault:
        raise loader.problems([fault], Origin()) from None


Rules = Sequence[Mapping[str, Any] | gates.Rule]


def _steps(rules: Any) -> list[Step]:
    """Return rules as steps with places; raises DefinitionError for what are none."""
    fix = "write {name: arguments}, one rule in each"
    if not isinstance(rules, Sequence) or isinstance(rules, str):
        raise loader.problems([Fault(f"{rules!r} is not a list of rules", f"{fix}, in a list", ("rules",))], Origin())
    wrong, steps = [], []
    for index, written in enumerate(rules):
        if isinstance(written, Arguments) or (isinstance(written, Mapping) and [str] == [type(k) for k in written]):
            step = step_of(written)
            steps.append(Step(step.name, step.arguments, ("rules", index)))
        elif isinstance(written, pl.Expr):
            what, instead = "a Polars expression is not a rule", "write what is done with it: {'expression': …}"
            wrong.append(Fault(what, instead, ("rules", index)))
        else:
            wrong.append(Fault(f"{written!r} is not a rule", fix, ("rules", index)))
    if wrong:
        raise loader.problems(wrong, Origin())
    return steps


def _params(given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping | None):
        raise LazypipeError(f"params is {given!r}, which is not a mapping; write {{name: value}}")
    return given or {}


@contextmanager
def _over_rows() -> Iterator[None]:
    """Tell in our own words that an expression cannot be evaluated over rows."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        fix = "fix the rows, or the expression of the rule, with TRY_CAST for instance"
        raise RunError(f"the rows cannot be checked: {plain(first_line(error)).what}", fix=fix) from error


def _checks(
    frame: pl.LazyFrame,
    rules: Rules,
    params: Mapping[str, Any] | None,
    now: datetime | None,
    others: Mapping[str, pl.DataFrame | pl.LazyFrame],
) -> tuple[tuple[gates.Check, ...], dict[str, pl.LazyFrame]]:
    """Compile rules over a frame and others; return the checks, and the other frames by their names."""
    refuse_forked()
    values = {"now": time_of_run(now), **_params(params)}
    faults: list[Fault] = []
    steps = _steps(rules)
    frames = {name: lazy_frame(other, f"frame {name!r}") for name, other in others.items()}
    try:
        for uri in outside(steps, frames):
            frames[uri] = _scan_anything(uri)
        schemas = {name: other.collect_schema() for name, other in frames.items()}
        if not frame.collect_schema() and (rows := frame.select(pl.len()).collect().item()):
            raise LazypipeError(f"the frame has {counted(rows, 'row')} and no columns; give it one at least")
        for schema in (frame.collect_schema(), *schemas.values()):
            check_names(schema, ("rules",))
        checks = compile_checks(
            steps, frame.collect_schema(), lambda step, owner: Scope(owner, step, params=values), faults, schemas
        )
    except Fault as fault:
        raise loader.problems([fault], Origin()) from None
    except (TypeError, AttributeError, ValueError, ArithmeticError, pl.exceptions.PolarsError) as error:
        # arguments of other types than rules expect: the schema says which, but not of what is in Python only
        fix = "compare its arguments with its documentation"
        unfit = Fault(f"a rule cannot be made of its arguments: {first_line(error)}", fix, ("rules",))
        raise loader.problems(loader.gate_faults(steps) or [unfit], Origin()) from error
    # rules know better than the schema what is wrong with their values
    if wrong := faults or loader.gate_faults(steps):
        raise loader.problems(wrong, Origin())
    return checks, frames


def _scan_anything(uri: str) -> pl.LazyFrame:
    """Scan a dataset or files as a pipeline's source would."""
    bound = bind(uri, model.Source((uri,)), ".", os.environ)
    return bound.scan(bound.snapshot())


def check(
    frame: pl.DataFrame | pl.LazyFrame,
    rules: Rules,
    *,
    params: Mapping[str, Any] | None = None,
    now: datetime | None = None,
    **others: pl.DataFrame | pl.LazyFrame,
) -> GateReport:
    """Check rules on a frame in one streaming pass.

    Parameters
    ----------
    params
        Values for parameters that rules use (``:least``).
    now
        The time that rules about the past and future use. Default: the machine's clock.
    others
        Other frames, by the names under which rules refer to them.

    Raises
    ------
    DefinitionError
        If a rule does not fit the frame.

    Examples
    --------
    >>> report = check(pl.DataFrame({"a": [1, None]}), [{"not_null": "a"}])
    >>> report.status, report.failed
    ('fail', {'not_null:a': 1})
    """
    lazy = lazy_frame(frame, "frame")
    checks, frames = _checks(lazy, rules, params, now, others)
    with _over_rows():
        return check_frame(lazy, checks, lambda reference: frames[reference.to], frames)


def split(
    frame: pl.DataFrame | pl.LazyFrame,
    rules: Rules,
    *,
    params: Mapping[str, Any] | None = None,
    now: datetime | None = None,
    run: str = "",
    **others: pl.DataFrame | pl.LazyFrame,
) -> Split:
    """Split a frame into the rows that pass and those that rules quarantine, each with the rules that it violates.

    Parameters are as for ``check``; ``run`` is the value of the column ``_lazypipe_run``.

    Raises
    ------
    DefinitionError
        If a rule does not fit the frame.

    Examples
    --------
    >>> rules = [{"not_null": {"columns": "a", "action": "quarantine"}}]
    >>> found = split(pl.DataFrame({"a": [1, None]}), rules)
    >>> found.good.rows(), found.bad["_lazypipe_rules"].to_list()
    ([(1,)], [['not_null:a']])
    """
    lazy = lazy_frame(frame, "frame")
    checks, frames = _checks(lazy, rules, params, now, others)
    for name, dtype in lazy.collect_schema().items():
        if dtype == pl.Object:  # quarantined rows are kept as bytes
            raise LazypipeError(
                f"column {name!r} is Object, whose values cannot be quarantined; cast it, or leave it out"
            )
    with _over_rows():
        return split_frame(lazy, checks, lambda reference: frames[reference.to], frames, run=run)
