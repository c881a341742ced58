"""Contracts of outputs: the columns that readers rely on, compared with the rows to be written and the previous commit.

The columns that are promised are those of the commit before, and those that are declared. Where the rows of the stage differ,
the words of ``compile.contract`` say what happens; whatever is refused is told when the pipeline is compiled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl

from lazypipe.compile.sources.contract import Contract, Declared, read_contract
from lazypipe.errors import nearest
from lazypipe.spec.model import Fault, Output, Path
from lazypipe.spec.types import dtype_name
from lazypipe.storage.shape import Shape, Target
from lazypipe.storage.text.cells import refused
from lazypipe.storage.widen import widened

__all__ = ["promised"]

_TYPE_FIX = "cast it in a stage, or say on_type_change: evolve, freeze, discard_column or discard_row"


def promised(
    name: str, output: Output, before: pl.Schema | None, found: pl.Schema, faults: list[Fault]
) -> Shape | None:
    """Return the shape that an output's rows must be given, None if they have it; what is broken is added to ``faults``.

    Parameters
    ----------
    before
        The columns of the commit before, None if there is none.
    found
        The columns of the stage.
    """
    at: Path = ("outputs", name, "contract")
    try:
        contract = read_contract(output.contract, at, "fail")
    except Fault as fault:
        faults.append(fault)
        return None
    if output.format != "dataset" and not contract.columns:
        what = f"a contract without columns is about the previous commit, and this is one {output.format} file"
        faults.append(Fault(what, "add columns, or remove format", at))
        return None
    broken: list[Fault] = []
    shape = _Promise(output, contract, before or pl.Schema(), found, at).shape(broken)
    faults += broken
    return None if broken else shape


class _Promise:
    """An output's contract beside what there is."""

    def __init__(self, output: Output, contract: Contract, before: pl.Schema, found: pl.Schema, at: Path) -> None:
        self.output, self.contract, self.found, self.at = output, contract, found, at
        self.names = {alias: name for name, column in contract.columns.items() for alias in column.alias}
        self.before = {self.names.get(n, n): t for n, t in before.items()}
        self.held = self.before | contract.types

    def shape(self, faults: list[Fault]) -> Shape | None:
        if not self.held:
            return None  # the first commit of a contract without columns
        targets = []
        for column, dtype in self.held.items():
            try:
                targets.append(self.target(column, dtype))
            except Fault as fault:
                faults.append(fault)
        new = [n for n in self.found if self.names.get(n, n) not in self.held]
        mode = self.contract.on_new_column
        if mode == "evolve":
            targets += [Target(n, self.found[n]) for n in new]
        elif mode in ("fail", "freeze"):
            faults += [self.refuse_new(n) for n in new]
        if self.output.mode == "append":
            faults += self.refuse_rows_that_are_there({t.name: t.dtype for t in targets})
        made = Shape(tuple(targets), mode, tuple(new) if mode == "discard_row" else (), gated=True)
        return None if dict(made.schema) == dict(self.found) else made

    def target(self, column: str, dtype: pl.DataType) -> Target:
        said = self.contract
        about = said.columns.get(column) or Declared(dtype, (), said.on_type_change, said.on_missing_column)
        there = [n for n in (column, *about.alias) if n in self.found]
        if len(there) > 1:
            what = f"{self.output.stage!r} has a column {there[0]!r} and another, {there[1]!r}, that is an alias of {column!r}"
            raise Fault(what, "remove the alias, or one of them", (*self.at, "columns", column))
        if not there:
            if about.on_missing_column in ("fail", "freeze"):
                what = f"{self.output.stage!r} has no column {column!r}, which is in {self.where(column)}"
                declared = column in said.columns
                fix = (
                    nearest(column, self.found, "columns") if declared else "keep it, or say on_missing_column: evolve"
                )
                raise Fault(what, fix, self.path(column, "on_missing_column"))
            return Target(column, dtype, on_missing_column=about.on_missing_column, alias=about.alias)
        actual = self.found[there[0]]
        if actual == dtype:
            return Target(column, dtype, alias=about.alias)
        what = (
            f"column {column!r} is {dtype_name(actual)} in {self.output.stage!r} "
            f"and {dtype_name(dtype)} in {self.where(column)}"
        )
        path = self.path(column, "on_type_change")
        if about.on_type_change == "fail":
            raise Fault(what, _TYPE_FIX, path)
        if about.on_type_change == "evolve":
            both = widened(dtype, actual)
            if both is None:
                raise Fault(f"{what}, and no type holds both", "cast it in a stage", path)
            return Target(column, both, "evolve", alias=about.alias)
        if refused(actual, dtype):
            raise Fault(f"{what}, which it cannot become", "cast it in a stage", path)
        return Target(column, dtype, about.on_type_change, alias=about.alias)

    def refuse_rows_that_are_there(self, after: Mapping[str, pl.DataType]) -> Iterator[Fault]:
        for column, dtype in self.before.items():
            if column in after and widened(dtype, after[column]) != after[column]:
                what = f"column {column!r} is {dtype_name(dtype)} in the dataset, which {dtype_name(after[column])} does not hold"
                yield Fault(what, "declare it to be wider, or say mode: replace", self.path(column, "on_type_change"))

    def refuse_new(self, column: str) -> Fault:
        declared = bool(self.contract.columns)
        what = f"{self.output.stage!r} has a column {column!r} that " + (
            "the contract does not list" if declared else "the previous commit lacks"
        )
        fix = "list it, select others in a stage" if declared else "select others in a stage"
        return Fault(what, f"{fix}, or say on_new_column: evolve or discard_column", self.path("", "on_new_column"))

    def where(self, column: str) -> str:
        return "the contract" if column in self.contract.columns else "the previous commit"

    def path(self, column: str, word: str) -> Path:
        """Return the place that a mistake is about: the column, if it is declared, or else the word that refuses it."""
        if column in self.contract.columns:
            return (*self.at, "columns", column)
        return (*self.at, word) if word in self.output.contract else self.at
