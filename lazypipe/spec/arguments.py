"""How operations and rules declare their arguments: once, as dataclass fields, for parsing, JSON Schema and Python alike.

A subclass of ``Arguments`` is a frozen dataclass whose fields are made by ``arg(kind, doc)``. From that alone come the
parser of a ``Step``, its JSON Schema with descriptions for editors, and the way back to the definition.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self

from lazypipe.errors import nearest
from lazypipe.spec.model import NOTHING, Fault, Path, Step, freeze
from lazypipe.spec.types import dtype_from_name, with_names

__all__ = ["Arguments", "Kind", "arg", "choice"]


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Kind:
    """What an argument may be: its JSON Schema, how its value is normalised, and whether its texts are SQL: of an expression, or a whole query."""

    schema: Mapping[str, Any]
    convert: Callable[[Any], Any] = _same
    sql: Literal["expression", "query"] | None = None

    @property
    def is_mapping(self) -> bool:
        """Whether values are mappings: then a shorthand must be distinguished from the long form."""
        return "object" in self.schema.get("type", ())


def _names(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


_TEXT = {"type": "string", "minLength": 1}
_LIST = {"type": ["string", "array"], "items": _TEXT, "minItems": 1, "minLength": 1}
_SCALAR = {"type": ["string", "number", "boolean"]}

COLUMN = Kind(_TEXT)
"""The name of one column."""
COLUMNS = Kind(_LIST, _names)
"""One column name or a list of them."""
SQL = Kind(_TEXT, sql="expression")
"""A SQL expression; from Python also a ``pl.Expr``."""
SQLS = Kind({"type": "object", "additionalProperties": _TEXT, "minProperties": 1}, freeze, "expression")
"""New column name → SQL expression."""
QUERY = Kind(_TEXT, sql="query")
"""A whole SQL query."""
NAMES = Kind({"type": "object", "additionalProperties": _TEXT, "minProperties": 1}, freeze)
"""Old name → new name."""
TYPES = NAMES
"""Column → data type."""
CHOSEN = Kind({"type": ["array", "object"], "items": _TEXT, "additionalProperties": _TEXT}, freeze)
"""A list of columns, or column → new name."""
INPUT = Kind(_TEXT)
"""The name of a source or a stage."""
INPUTS = Kind(_LIST, _names)
"""The names of one or more sources or stages."""
SCALAR = Kind(_SCALAR)
"""A string, number or boolean."""
SCALARS = Kind({"type": "array", "items": _SCALAR, "minItems": 1}, freeze)
"""A list of strings, numbers or booleans."""
COUNT = Kind({"type": "integer", "minimum": 0})
"""A whole number, zero or more."""
FRACTION = Kind({"type": "number", "minimum": 0, "maximum": 1})
"""A number from 0 to 1."""
NUMBER = Kind({"type": "number"})
"""A number."""
FLAG = Kind({"type": "boolean"})
"""true or false."""
TEXT = Kind(_TEXT)
"""Text."""
TEXTS = Kind(_LIST, _names)
"""One text or a list of them."""
BOUND = Kind({"type": ["string", "number"]})
"""A number, or the text of a date, a datetime or a parameter (``:name``)."""
LIMIT = Kind({"type": ["integer", "string"], "minimum": 0, "pattern": r"^\s*(\d+|\d+(\.\d+)?\s*%)\s*$"})
"""A count of rows, or a percentage of them such as ``0.1%``."""
MAPPING = Kind({"type": "object"}, freeze)
"""Any mapping."""


def choice(*values: str) -> Kind:
    """One of the given words."""
    return Kind({"enum": list(values)})


def arg(kind: Kind, doc: str, *, default: Any = MISSING) -> Any:
    """Declare an argument: a dataclass field with its kind and its description."""
    return dataclasses.field(default=default, metadata={"kind": kind, "doc": doc})


class Arguments:
    """Base of operations and rules: a frozen dataclass of arguments, known by its ``name``.

    ``shorthand`` is the one argument that is obvious, so that ``filter: a > 1`` is ``filter: {condition: a > 1}``.
    """

    name: ClassVar[str]
    shorthand: ClassVar[str | None] = None
    absent: ClassVar[Mapping[str, tuple[str, str]]] = NOTHING
    """Arguments that others have, and this never will: why, and what to write instead."""

    @classmethod
    @lru_cache
    def kinds(cls) -> dict[str, Kind]:
        """Each argument's kind, by the name it has in a definition."""
        return {f.name.rstrip("_"): f.metadata["kind"] for f in _fields(cls)}

    @classmethod
    def is_long(cls, written: Any) -> bool:
        """Whether ``written`` names its arguments, rather than being the shorthand's value."""
        if not isinstance(written, Mapping):
            return False
        if cls.shorthand is None or not cls.kinds()[cls.shorthand].is_mapping:
            return True
        # the shorthand's own values are texts
        return isinstance(written.get(cls.shorthand), Mapping | list | tuple)

    @classmethod
    def at(cls, step: Step, argument: str, *rest: str | int) -> Path:
        """Return the path of an argument of ``step`` (or of something inside it)."""
        start: Path = (*step.path, step.name)
        if argument != cls.shorthand or cls.is_long(step.arguments):
            start = (*start, argument)
        return (*start, *rest)

    @classmethod
    def from_step(cls, step: Step) -> Self:
        """Build the value from what was written.

        Raises
        ------
        Fault
            If an argument is missing, unknown or contradicts another one.
        """
        written = step.arguments
        if not cls.is_long(written):
            written = {} if written is None or cls.shorthand is None else {cls.shorthand: written}
        kinds = cls.kinds()
        attributes = {f.name.rstrip("_"): f.name for f in _fields(cls)}
        for name in written:
            if name not in kinds:
                unknown = (f"unknown argument {name!r} of {cls.name}", nearest(name, kinds, "arguments"))
                what, fix = cls.absent.get(name, unknown)
                raise Fault(what, fix, (*step.path, step.name, name))
        for field in _fields(cls):
            name = field.name.rstrip("_")
            if field.default is MISSING and name not in written:
                fix = f"add {name}: {field.metadata['doc'].rstrip('.')}"
                raise Fault(f"{name!r} is missing in {cls.name!r}", fix, (*step.path, step.name))
        given = {attributes[k]: kinds[k].convert(v) for k, v in written.items()}
        try:
            return cls(**given)
        except Fault as fault:
            inner = fault.path or (next(iter(attributes)),)
            argument, rest = str(inner[0]), inner[1:]
            raise Fault(fault.what, fault.fix, cls.at(step, argument, *rest)) from None

    def to_step(self) -> Step:
        """Return the step that a definition would write for this value."""
        given = {
            f.name.rstrip("_"): freeze(with_names(getattr(self, f.name)))
            for f in _fields(self)
            if f.default is MISSING or getattr(self, f.name) != f.default
        }
        if self.shorthand is not None and list(given) == [self.shorthand]:
            return Step(self.name, given[self.shorthand])
        return Step(self.name, freeze(given))

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON Schema (draft 2020-12) of what may be written for it."""
        doc = _prose(cls.__doc__ or "")
        properties: dict[str, Any] = {}
        required = []
        for field in _fields(cls):
            name = field.name.rstrip("_")
            properties[name] = {"description": field.metadata["doc"], **field.metadata["kind"].schema}
            if field.default is not MISSING and field.default not in (None, (), ""):
                properties[name]["default"] = field.default
            if field.default is MISSING:
                required.append(name)
        long: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            long["required"] = required
        if cls.absent:
            long["x-absent"] = {n: list(said) for n, said in cls.absent.items()}
        if cls.shorthand is None:
            return {"description": doc, **long}
        short = properties[cls.shorthand]
        named: dict[str, Any] = {"type": "object"}
        if cls.kinds()[cls.shorthand].is_mapping:
            inner = {"type": ["object", "array"]}
            named |= {"required": [cls.shorthand], "properties": {cls.shorthand: inner}}
        return {"description": doc, "if": named, "then": long, "else": short}


def check_dtype(name: str, *path: str | int) -> Any:
    """Return the type of a written name; raises Fault at ``path`` if there is none."""
    try:
        return dtype_from_name(name)
    except ValueError as error:
        what, _, fix = str(error).partition("; ")
        raise Fault(what, fix or None, path) from None


def _prose(docstring: str) -> str:
    """Return what a docstring says ahead of its examples, in Markdown: a line for each paragraph and each item of a list."""
    text = inspect.cleandoc(docstring).partition("\n\nExamples\n---")[0].replace("``", "`")
    return re.sub(r"(?<!\n)\n(?!\n|- )\s*", " ", text)


def _fields(owner: Any) -> tuple[dataclasses.Field[Any], ...]:
    """Return the fields of arguments: every subclass is a dataclass, which their base cannot tell the type checker."""
    return dataclasses.fields(owner)
