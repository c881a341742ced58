"""Schema contracts: what the user wrote, and the schema that follows from it and from a source's files.

There is one vocabulary for whatever may change: ``evolve`` lets the schema follow; ``freeze`` holds it, makes fit what loses
nothing by it, and refuses the rest; ``discard_column`` and ``discard_row`` hold it and take out the cells, or the rows, that
do not fit; ``fail`` refuses whatever differs. ``ignore`` for new columns takes what the first file has, and has all files agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import polars as pl

from lazypipe.errors import SourceError, nearest
from lazypipe.gates import Check
from lazypipe.gates.rule import Action
from lazypipe.gates.tap import RAW_COLUMN
from lazypipe.spec.arguments import check_dtype
from lazypipe.spec.model import Fault, Path
from lazypipe.spec.types import dtype_name, instance_of
from lazypipe.storage.files import FileInfo
from lazypipe.storage.shape import MISSING, Mode, Shape, Target
from lazypipe.storage.text.by_row import BROKEN, COLUMNS, TEXT
from lazypipe.storage.widen import widened, with_fields

__all__ = ["Contract", "Declared", "cell_checks", "is_broken", "is_contracted", "read_contract", "resolve"]


@dataclass(frozen=True)
class Declared:
    """A column of a contract: its type, the other names that files may have for it, and what to do about differences."""

    dtype: pl.DataType
    alias: tuple[str, ...] = ()
    on_type_change: Mode = "fail"
    on_missing_column: Mode = "fail"


@dataclass(frozen=True)
class Contract:
    """What a source must look like, as it was declared; an empty one leaves everything to the first file.

    ``said``: whether it was written what becomes of columns that are missing, or of another type.
    """

    columns: Mapping[str, Declared] = field(default_factory=dict)
    on_new_column: Mode = "ignore"
    on_missing_column: Mode = "fail"
    on_type_change: Mode = "fail"
    said: bool = False

    @property
    def types(self) -> dict[str, pl.DataType]:
        """Column → type, as declared."""
        return {name: column.dtype for name, column in self.columns.items()}

    @property
    def aliases(self) -> dict[str, str]:
        """Other name → column."""
        return {alias: name for name, column in self.columns.items() for alias in column.alias}

    @property
    def overrides(self) -> dict[str, pl.DataType]:
        """The types that text is read with, by every name that a column may have; not of those that follow the files."""
        fixed = {n: c for n, c in self.columns.items() if c.on_type_change != "evolve"}
        return {name: c.dtype for n, c in fixed.items() for name in (n, *c.alias)}

    @property
    def adapts(self) -> bool:
        """Whether files may differ from each other: then each is looked at before any is read."""
        return (
            self.on_new_column not in ("ignore", "fail")
            or (self.on_missing_column, self.on_type_change) != ("fail", "fail")
            or any(c != Declared(c.dtype) for c in self.columns.values())
        )

    @property
    def is_open(self) -> bool:
        """Whether a source may have more columns than are declared."""
        return self.on_new_column in ("ignore", "evolve")

    @property
    def by_row(self) -> bool:
        """Whether a row of text that cannot be read at all is taken out, as one is that has a cell which does not fit."""
        return self.on_type_change == "discard_row"

    def for_folders(self, keys: pl.Schema, at: Path) -> tuple[Contract, pl.Schema]:
        """Take the columns in the names of folders out; return them with the types that they are read with.

        Raises
        ------
        Fault
            If one is declared to be of another type than its values seem to be, and that is not to happen.
        """
        types = dict(keys)
        for name, dtype in keys.items():
            declared = self.columns.get(name)
            if declared is not None and declared.dtype != dtype:
                if declared.on_type_change == "fail":
                    raise _other_type(name, dtype, declared.dtype, at)
                types[name] = declared.dtype
        return replace(self, columns={n: c for n, c in self.columns.items() if n not in keys}), pl.Schema(types)


def _other_type(name: str, found: pl.DataType, declared: pl.DataType, at: Path) -> Fault:
    what = f"column {name!r} is {dtype_name(found)} in the files and {dtype_name(declared)} in the contract"
    fix = "change the contract, or say on_type_change: evolve, freeze, discard_column or discard_row"
    return Fault(what, fix, (*at, "columns", name))


def read_contract(written: Mapping[str, Any], at: Path, on_new_column: Mode = "ignore") -> Contract:
    """Read what is written under ``contract``, which may leave out ``on_new_column``.

    Raises
    ------
    Fault
        If a type is unknown, or an alias is taken.
    """
    new = written.get("on_new_column", on_new_column)
    missing = written.get("on_missing_column", "fail")
    change = written.get("on_type_change", "fail")
    columns: dict[str, Declared] = {}
    for name, entry in written.get("columns", {}).items():
        path: Path = (*at, "columns", name)
        given = {"type": entry} if isinstance(entry, str) else entry
        try:
            dtype = check_dtype(given["type"])
        except Fault as fault:
            raise Fault(fault.what, fault.fix, path if isinstance(entry, str) else (*path, "type")) from None
        alias = given.get("alias", ())
        columns[name] = Declared(
            dtype,
            (alias,) if isinstance(alias, str) else tuple(alias),
            given.get("on_type_change", change),
            given.get("on_missing_column", missing),
        )
    owners = {name: name for name in columns}
    for name, column in columns.items():
        for alias in column.alias:
            if alias in owners:
                what = f"{alias!r} is an alias of {name!r}, and " + (
                    "a column of its own" if owners[alias] == alias else f"one of {owners[alias]!r} too"
                )
                raise Fault(what, "remove one of them", (*at, "columns", name, "alias"))
            owners[alias] = name
    entries = [entry for entry in written.get("columns", {}).values() if isinstance(entry, Mapping)]
    said = any({"on_missing_column", "on_type_change"} & {*entry} for entry in (written, *entries))
    return Contract(columns, new, missing, change, said)


def resolve(contract: Contract, found: Sequence[tuple[FileInfo, pl.Schema]], *, text: bool, at: Path) -> Shape:
    """Return the shape that files must have, from the contract and from what the files that are there hold.

    Parameters
    ----------
    found
        Each file with the columns inside it; the first says which columns there are beyond those declared.
    text
        Whether types are only guessed from text.
    at
        Where the contract stands.

    Raises
    ------
    Fault
        If the files break the contract.
    SourceError
        If the types of a column that is to follow the files cannot be held by one.
    """
    names = contract.aliases
    there = {names.get(n, n): None for _, schema in found for n in schema}
    targets: dict[str, Target] = {}
    first = {names.get(n, n): None for n in (found[0][1] if found else ())}
    new: dict[str, None] = {}
    evolves = contract.on_new_column == "evolve"
    for name in (*first, *there, *contract.columns):
        if name in targets or name in new:
            continue
        declared = contract.columns.get(name)
        if declared is not None:
            if found and name not in there and declared.on_missing_column in ("fail", "freeze"):
                fix = nearest(name, there, "columns in the files")
                raise Fault(f"the files lack column {name!r}", fix, (*at, "columns", name))
            dtype = _declared_type(name, declared, found, text=text, grows=evolves, at=at)
            how = (declared.on_type_change, declared.on_missing_column, declared.alias)
        elif evolves or (contract.on_new_column == "ignore" and name in first):
            dtype = _found_type(name, contract.on_type_change, found, text=text, grows=evolves)
            how = (contract.on_type_change, "evolve" if evolves else contract.on_missing_column, ())
        else:
            new[name] = None
            continue
        guessed = text and dtype == pl.Float64 and not (declared is not None and declared.dtype.is_float())
        targets[name] = Target(name, dtype, *how, guessed)
    refused = [n for n in new if n in first] if contract.on_new_column in ("fail", "freeze") else []
    if refused:
        fix = "declare it, or say on_new_column: evolve or discard_column"
        raise Fault(f"the files have a new column {refused[0]!r}", fix, (*at, "on_new_column"))
    watched = tuple(new) if contract.on_new_column == "discard_row" else ()
    return Shape(tuple(targets.values()), contract.on_new_column, watched, by_row=contract.by_row)


def _types_of(names: Sequence[str], found: Sequence[tuple[FileInfo, pl.Schema]]) -> list[tuple[FileInfo, pl.DataType]]:
    return [(file, schema[n]) for file, schema in found for n in names if n in schema]


def _declared_type(
    name: str, declared: Declared, found: Sequence[tuple[FileInfo, pl.Schema]], *, text: bool, grows: bool, at: Path
) -> pl.DataType:
    dtype = declared.dtype
    types = _types_of((name, *declared.alias), found)
    if declared.on_type_change == "fail" and not text and types and types[0][1] != dtype:
        raise _other_type(name, types[0][1], dtype, at)
    if declared.on_type_change == "evolve":
        for file, other in types:
            where = "the contract" if dtype == declared.dtype else "others"
            dtype = _wider_than_declared(dtype, other) if text else _wider(name, dtype, file, other, where)
    return _grown(dtype, types) if text and grows else dtype


def _grown(dtype: pl.DataType, types: Sequence[tuple[FileInfo, pl.DataType]]) -> pl.DataType:
    """Return a type of text with the fields that it lacks in some file: they are new as columns are."""
    return reduce(with_fields, (other for _, other in types), dtype)


def _found_type(
    name: str, mode: Mode, found: Sequence[tuple[FileInfo, pl.Schema]], *, text: bool, grows: bool
) -> pl.DataType:
    types = _types_of((name,), found)
    if text:  # of nulls only no type is guessed
        types = [t for t in types if t[1] != pl.Null] or types
    first, dtype = types[0]
    if mode == "evolve":
        for file, other in types[1:]:
            dtype = _wider_text(dtype, other, grows=grows) if text else _wider(name, dtype, file, other, first.uri)
    dtype = _grown(dtype, types) if text and grows else dtype
    return _readable(dtype) if text else dtype


def _readable(dtype: pl.DataType) -> pl.DataType:
    """Return a type with text elements in lists that were empty so far: later elements would silently become null otherwise."""
    match dtype:
        case pl.List():
            inner = instance_of(dtype.inner)
            return pl.List(pl.String() if inner == pl.Null else _readable(inner))
        case pl.Struct():
            return pl.Struct({f.name: _readable(instance_of(f.dtype)) for f in dtype.fields})
    return dtype


def _wider(name: str, dtype: pl.DataType, file: FileInfo, other: pl.DataType, where: str) -> pl.DataType:
    both = widened(dtype, other)
    if both is None:
        raise SourceError(
            f"column {name!r} is {dtype_name(other)} here and {dtype_name(dtype)} in {where}, and no type holds both",
            uri=file.uri,
            fix="declare its type, with on_type_change: freeze, discard_column or discard_row",
        )
    return both


def _wider_than_declared(dtype: pl.DataType, guessed: pl.DataType) -> pl.DataType:
    """Return what text is read as: guessing shows a fraction or a time of day, but no width."""
    if dtype.is_integer() and guessed.is_float():
        return pl.Float64()
    if isinstance(dtype, pl.Date) and isinstance(guessed, pl.Datetime):
        return guessed
    return dtype


def _wider_text(one: pl.DataType, other: pl.DataType, *, grows: bool) -> pl.DataType:
    """Return what text is read as that was guessed to be of two types: text, if they have nothing in common.

    What ``grows`` may have fields that the other lacks.
    """
    match one, other:
        case pl.Struct(), pl.Struct() if grows:
            here, there = ({f.name: instance_of(f.dtype) for f in side.fields} for side in (one, other))
            both = {n: _wider_text(t, there.get(n, t), grows=True) for n, t in here.items()}
            return pl.Struct({**both, **{n: t for n, t in there.items() if n not in here}})
        case pl.List(), pl.List() if grows:
            return pl.List(_wider_text(instance_of(one.inner), instance_of(other.inner), grows=True))
    if one.is_numeric() and other.is_numeric() and one != other:
        return pl.Float64()
    return widened(one, other) or pl.String()


def is_broken() -> pl.Expr:
    """Whether a row could not be read: then it has no cells, and no rule has anything to say about them."""
    return pl.col(RAW_COLUMN).struct.field(TEXT).is_not_null()


def is_contracted(check: str) -> bool:
    """Whether a check of that id is made from a contract, or from ``on_bad_time``: no rule may have such an id."""
    return check == BROKEN or check.startswith(("type:", "new_column:", MISSING, "event_time:"))


_ACTIONS: Mapping[Mode, Action] = {"discard_row": "quarantine", "discard_column": "warn", "freeze": "fail"}


def cell_checks(shape: Shape, form: str) -> tuple[Check, ...]:
    """Return the checks by which a gate counts and takes out what did not fit.

    ``type:<column>`` is about its cells, ``new_column:<column>`` about rows with a value in it, ``missing_column:<column>``
    about the rows of files that lack it, ``broken_row`` about rows that cannot be read.
    """
    checks = []
    if TEXT in shape.raw(form):
        checks.append(Check(BROKEN, BROKEN, "quarantine", is_broken(), description="a row that cannot be read"))
    targets = {t.name: t for t in shape.targets}
    for name in (n for n in shape.raw(form) if n not in COLUMNS):
        violated = pl.col(RAW_COLUMN).struct.field(name).is_not_null()
        if name in shape.watched:
            made = Check(f"new_column:{name}", "new_column", "quarantine", violated, description="a column that is new")
        elif name in targets:
            said, action = (
                f"a value that is not a valid {dtype_name(targets[name].dtype)}",
                _ACTIONS[targets[name].on_type_change],
            )
            made = Check(f"type:{name}", "type", action, violated, column=name, description=said)
        else:
            column = name.removeprefix(MISSING)
            action = _ACTIONS[targets[column].on_missing_column]
            made = Check(
                name, "missing_column", action, violated, column=column, description="a column that is missing"
            )
        checks.append(made)
    return tuple(checks)
