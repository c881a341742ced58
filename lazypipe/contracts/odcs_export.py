"""Rules and columns as a contract of the Open Data Contract Standard v3.1.

A rule is written the way the standard has for it where reading that back gives the same rule; any other goes out as a
custom check of the engine ``lazypipe``, so that nothing is lost and nothing is said that does not hold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from lazypipe.contracts import types
from lazypipe.contracts.contract import SHORTHANDS, Column, Contract, Written, foreign_key, made
from lazypipe.contracts.document import plain
from lazypipe.contracts.odcs import fragment
from lazypipe.errors import DefinitionError, Problem
from lazypipe.gates import rule as gate_rule
from lazypipe.spec.loader import dump
from lazypipe.spec.model import NOTHING, Fault, Step, freeze
from lazypipe.spec.types import dtype_from_name, dtype_name

__all__ = ["normalised", "to_odcs"]


def to_odcs(
    contract: Contract,
    *,
    version: str = "1.0.0",
    status: str = "active",
    id: str | None = None,  # noqa: A002  # the standard's own word
) -> dict[str, Any]:
    r"""Export tables with columns and rules as a contract in the Open Data Contract Standard v3.1.0, as plain data.

    Whatever the standard can express is written in its terms: ``required``, ``unique``, ``primaryKey``, options of logical types, relationships,
    library metrics, freshness and row counts of queries. Every other rule becomes a custom check of the engine ``lazypipe``, with its YAML.
    ``from_odcs`` reads the same columns and rules back, possibly in another order.

    Raises
    ------
    DefinitionError
        If a rule exists only in Python (it contains a ``pl.Expr``), or if the standard has no name for a column's type.

    Examples
    --------
    >>> columns = {"orders": {"id": Column("Int64", ("key",))}}
    >>> written = to_odcs(Contract("shop", {"orders": ({"not_null": "id"}, {"custom_rule": "id"})}, columns))
    >>> written["schema"][0]["properties"]
    [{'name': 'id', 'logicalType': 'integer', 'physicalType': 'Int64', 'tags': ['key'],
      'logicalTypeOptions': {'format': 'i64'}, 'required': True}]
    >>> written["schema"][0]["quality"]
    [{'type': 'custom', 'engine': 'lazypipe', 'implementation': 'custom_rule: id\n'}]
    """
    written: dict[str, Any] = {
        "version": version,
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": id or contract.name,
        "name": contract.name,
        "status": status,
    }
    if contract.description:
        written["description"] = {"purpose": contract.description}
    tables = [_Table(name, contract.columns.get(name, {})) for name in contract.tables]
    for table in tables:
        for rule in contract.rules.get(table.name, ()):
            for each in _split(normalised(rule)):
                table.add(each)
    written["schema"] = [table.written() for table in tables]
    if agreements := [term for table in tables for term in table.agreements]:
        written["slaProperties"] = agreements
    return written


def normalised(rule: Written) -> Written:
    """Return a rule as an import writes it: in short, without what is at its default; as it is, where it is not known.

    Examples
    --------
    >>> normalised({"not_null": {"columns": ["a"], "action": "fail"}})
    {'not_null': 'a'}
    """
    ((name, arguments),) = plain(rule).items()
    try:
        arguments = gate_rule(Step(name, freeze(arguments))).to_step().to_dict()[name]
    except Fault:
        return {name: arguments}
    if isinstance(arguments, list):
        arguments = {"columns": arguments}
    if not isinstance(arguments, dict):
        return {name: arguments}
    if name == "foreign_key":
        here, references = _key(arguments), arguments["references"]
        rest = {k: v for k, v in arguments.items() if k not in ("column", "columns", "references")}
        return foreign_key(here, references["to"], _key(references) or here, rest)
    return made(name, arguments)


def _key(written: Mapping[str, Any]) -> list[str]:
    """Return the columns of a key, however they are written."""
    columns = written.get("column", written.get("columns", []))
    return [columns] if isinstance(columns, str) else columns


def _split(rule: Written) -> Iterable[Written]:
    columns = rule.get("not_null")
    return [{"not_null": column} for column in columns] if isinstance(columns, list) else [rule]


# columns


def _property(table: str, name: str, column: Column) -> dict[str, Any]:
    given: dict[str, Any] = {"name": name}
    if column.dtype is not None:
        try:
            given |= _typed(dtype_from_name(column.dtype))
        except ValueError as error:
            raise DefinitionError([Problem(f"{table}.{name}: {error}")]) from None
    more = {"description": column.description, "tags": list(column.tags)}
    options = given.pop("logicalTypeOptions", None)
    return given | {k: v for k, v in more.items() if v} | ({"logicalTypeOptions": options} if options else {})


def _typed(dtype: Any) -> dict[str, Any]:
    logical, options = types.logical(dtype)
    given: dict[str, Any] = {"physicalType": dtype_name(dtype)}
    if logical is not None:
        given = {"logicalType": logical} | given
    if options:
        given["logicalTypeOptions"] = options
    if logical == "array":
        given["items"] = _typed(dtype.inner)
    if logical == "object":
        given["properties"] = [{"name": f.name, **_typed(f.dtype)} for f in dtype.fields]
    return given


# rules


@dataclass(frozen=True)
class _Words:
    """A rule in the standard's words: what is added to properties, to their options, and to lists of a table."""

    properties: Mapping[str, Mapping[str, Any]] = NOTHING
    options: Mapping[str, Any] = NOTHING
    checks: tuple[Mapping[str, Any], ...] = ()
    relationships: tuple[Mapping[str, Any], ...] = ()
    agreements: tuple[Mapping[str, Any], ...] = ()
    column: str | None = None
    """The property that options and checks are about; None for the table."""

    @property
    def columns(self) -> frozenset[str]:
        """The properties that must be there."""
        return frozenset(self.properties) | (frozenset() if self.column is None else {self.column})


@dataclass
class _Table:
    """A table while it is written."""

    name: str
    columns: Mapping[str, Column]
    quality: list[Mapping[str, Any]] = field(default_factory=list)
    relationships: list[Mapping[str, Any]] = field(default_factory=list)
    agreements: list[Mapping[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Write the columns."""
        self.properties = {name: _property(self.name, name, column) for name, column in self.columns.items()}

    def add(self, rule: Written) -> None:
        """Write a rule in the standard's words if they say just that, else as a custom check."""
        ((name, arguments),) = rule.items()
        given = arguments if isinstance(arguments, dict) else {SHORTHANDS.get(name, "columns"): arguments}
        if name in _WRITERS:
            for words in _WRITERS[name](_Given(given)):
                if self._free(words) and self._means(words, rule):
                    self._put(words)
                    return
        try:
            text = dump(rule)
        except yaml.YAMLError:
            what = f"{self.name}: a rule {name!r} holds a value that exists in Python only"
            raise DefinitionError([Problem(what, fix="write SQL text, numbers or text")]) from None
        self.quality.append({"type": "custom", "engine": "lazypipe", "implementation": text})

    def written(self) -> dict[str, Any]:
        """Return the table as the standard writes it."""
        parts = {
            "properties": list(self.properties.values()),
            "relationships": self.relationships,
            "quality": self.quality,
        }
        return {"name": self.name, "logicalType": "object", **{k: v for k, v in parts.items() if v}}

    def _free(self, words: _Words) -> bool:
        """Whether there is a place for the words that no other rule has taken."""
        if not words.columns <= set(self.properties):
            return False
        if any(set(more) & set(self.properties[column]) for column, more in words.properties.items()):
            return False
        if words.options:
            prop = self.properties[str(words.column)]
            taken = set(prop.get("logicalTypeOptions", ()))
            return "logicalType" in prop and not any(group & taken and group & set(words.options) for group in _GROUPS)
        if any("primaryKey" in more for more in words.properties.values()):
            return not any("primaryKey" in prop for prop in self.properties.values())
        # a least and a greatest count that follow each other are read as one rule
        return not any("rowCount" in (c.get("metric"), d.get("metric")) for c in words.checks for d in self.quality)

    def _means(self, words: _Words, rule: Written) -> bool:
        """Whether a contract that says nothing else gives just the rule."""
        alone = _Table(self.name, {c: self.columns[c] for c in self.columns if c in words.columns})
        alone._put(words)
        try:
            found = fragment(alone.written(), alone.agreements)
        except DefinitionError:
            return False
        return found.rules[self.name] == (rule,) and not found.notes

    def _put(self, words: _Words) -> None:
        for column, more in words.properties.items():
            self.properties[column] |= more
        if words.options:
            self.properties[str(words.column)].setdefault("logicalTypeOptions", {}).update(words.options)
        if words.checks and words.column is not None:
            self.properties[words.column].setdefault("quality", []).extend(words.checks)
        else:
            self.quality.extend(words.checks)
        self.relationships.extend({**r, "from": [f"{self.name}.{c}" for c in r["from"]]} for r in words.relationships)
        self.agreements.extend({**a, "element": f"{self.name}.{a['element']}"} for a in words.agreements)


_GROUPS = (
    {"minLength", "maxLength"},
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    {"pattern"},
    {"multipleOf"},
    {"format"},
)


class _Given:
    """The arguments of a rule: its own, and those that all rules have."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self.common = {k: v for k, v in arguments.items() if k in _COMMON}
        self.own = {k: v for k, v in arguments.items() if k not in _COMMON}

    @property
    def column(self) -> str | None:
        """The one column that the rule is about."""
        column = self.own.get("column", self.own.get("columns"))
        return column if isinstance(column, str) else None

    @property
    def columns(self) -> list[str]:
        """The columns of the rule."""
        return _key(self.own)

    def check(self, **said: Any) -> dict[str, Any] | None:
        """Return a quality check with what all checks have; None where the standard has no word for some of it."""
        check: dict[str, Any] = {k: self.common[a] for k, a in _SAME.items() if a in self.common}
        action = self.common.get("action")
        if action == "warn":
            check["severity"] = "warning"
        kept = {"action": None if action == "warn" else action, "owner": self.common.get("owner")}
        if custom := [{"property": k, "value": v} for k, v in kept.items() if v is not None]:
            check["customProperties"] = custom
        known = {*_SAME.values(), "action", "owner", "max_failures"}
        return None if set(self.common) - known else {**said, **check}

    def bad(self, **said: Any) -> list[dict[str, Any]]:
        """Return the check of a metric that counts bad rows, with the number that the rule allows."""
        limit = self.common.get("max_failures")
        allowed: dict[str, Any] = {"mustBe": 0}
        if isinstance(limit, str) and limit.endswith("%"):
            allowed = {"mustBeLessOrEqualTo": _number(limit[:-1]), "unit": "percent"}
        elif limit is not None:
            allowed = {"mustBeLessOrEqualTo": limit}
        check = self.check(type="library", **said, **allowed)
        return [] if check is None else [check]


_COMMON = (
    "action",
    "repair",
    "where",
    "by",
    "max_failures",
    "warn_above",
    "fail_above",
    "id",
    "description",
    "tags",
    "owner",
)
_SAME = {"name": "id", "description": "description", "tags": "tags"}
_Writer = Callable[[_Given], Iterator[_Words]]


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number


def _flag(key: str, **said: Any) -> _Writer:
    def write(given: _Given) -> Iterator[_Words]:
        if given.column is not None and not given.common:
            yield _Words(properties={given.column: {key: True}})
        for check in given.bad(**said):
            yield _Words(checks=(check,), column=given.column)

    return write


def _unique(given: _Given) -> Iterator[_Words]:
    yield from _flag("unique", metric="duplicateValues")(given)
    for check in given.bad(metric="duplicateValues", arguments={"properties": given.columns}):
        yield _Words(checks=(check,))


def _primary_key(given: _Given) -> Iterator[_Words]:
    if not given.common:
        places = {c: {"primaryKey": True, "primaryKeyPosition": i} for i, c in enumerate(given.columns, 1)}
        yield _Words(properties=places)


def _metric(metric: str, argument: str, of: str) -> _Writer:
    def write(given: _Given) -> Iterator[_Words]:
        for check in given.bad(metric=metric, arguments={argument: given.own.get(of)}):
            yield _Words(checks=(check,), column=given.column)

    return write


def _regex(given: _Given) -> Iterator[_Words]:
    yield from _option(pattern="pattern")(given)
    yield from _metric("invalidValues", "pattern", "pattern")(given)


def _option(**options: str) -> _Writer:
    """Write arguments of a rule as options of a logical type: option → argument."""

    def write(given: _Given) -> Iterator[_Words]:
        if given.common or not all(map(_writable, given.own.values())):
            return
        yield _Words(options={o: given.own[a] for o, a in options.items() if a in given.own}, column=given.column)

    return write


def _writable(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)  # JSON knows no others


def _between(given: _Given) -> Iterator[_Words]:
    closed = given.own.get("closed", "both")
    low = "minimum" if closed in ("both", "left") else "exclusiveMinimum"
    high = "maximum" if closed in ("both", "right") else "exclusiveMaximum"
    yield from _option(**{low: "min", high: "max"})(given)


def _foreign_key(given: _Given) -> Iterator[_Words]:
    if given.common:
        return
    references = given.own["references"]
    others = [f"{references['to']}.{c}" for c in _key(references)]
    if all(map(_REFERENCE.fullmatch, others)) and all(map(_PLAIN.fullmatch, given.columns)):
        yield _Words(relationships=({"type": "foreignKey", "from": given.columns, "to": others},))


_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\.[A-Za-z_][A-Za-z0-9_]*")


_COUNT = "SELECT COUNT(*) FROM {object} WHERE "


def _row_count(given: _Given) -> Iterator[_Words]:
    where = given.common.pop("where", None)
    said: dict[str, Any] = {"type": "library", "metric": "rowCount"}
    if where is not None:
        said = {"type": "sql", "query": _COUNT + str(where)}
    operators = {"equals": "mustBe", "min": "mustBeGreaterOrEqualTo", "max": "mustBeLessOrEqualTo"}
    made = [given.check(**said, **{op: given.own[a]}) for a, op in operators.items() if a in given.own]
    yield _Words(checks=tuple(check for check in made if check is not None))


def _expression(given: _Given) -> Iterator[_Words]:
    query = f"{_COUNT}NOT ({given.own.get('condition')})"
    for check in given.bad():
        yield _Words(checks=(check | {"type": "sql", "query": query},))


def _freshness(given: _Given) -> Iterator[_Words]:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", str(given.own.get("within")))
    if match and given.column is not None and set(given.common) <= {"description"}:
        term = {"property": "freshness", "value": _number(match[1]), "unit": match[2], "element": given.column}
        yield _Words(agreements=(term | given.common,))


_WRITERS: Mapping[str, _Writer] = {
    "not_null": _flag("required", metric="nullValues"),
    "unique": _unique,
    "primary_key": _primary_key,
    "in_set": _metric("invalidValues", "validValues", "values"),
    "not_in_set": _metric("missingValues", "missingValues", "values"),
    "regex": _regex,
    "between": _between,
    "length_between": _option(minLength="min", maxLength="max"),
    "multiple_of": _option(multipleOf="of"),
    "format": _option(format="is"),
    "foreign_key": _foreign_key,
    "row_count": _row_count,
    "expression": _expression,
    "freshness": _freshness,
}
