"""Contracts of the Open Data Contract Standard, version 3, as rules and columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from lazypipe.contracts import sqltext, types
from lazypipe.contracts.contract import Column, Contract, Written, foreign_key, made
from lazypipe.contracts.document import Node, Source, read
from lazypipe.contracts.odcs_quality import quality
from lazypipe.contracts.variables import resolved
from lazypipe.errors import nearest
from lazypipe.spec.model import NOTHING
from lazypipe.spec.types import dtype_from_name, dtype_name
from lazypipe.sql.text import quoted

__all__ = ["fragment", "from_odcs"]

VERSIONS = ("v3.0.0", "v3.0.1", "v3.0.2", "v3.1.0", "v3.2.0")
_LATER = re.compile(r"v3\.(\d+)\.\d+")
_LOGICAL = {
    "string": "String",
    "date": "Date",
    "timestamp": "Datetime(us)",
    "time": "Time",
    "number": "Float64",
    "integer": "Int64",
    "boolean": "Boolean",
    "object": None,
    "array": None,
    "map": None,
    "vector": None,
}


def from_odcs(source: Source, *, variables: Mapping[str, str] = NOTHING) -> Contract:
    """Import a data contract in the Open Data Contract Standard, version 3: schema, quality and freshness.

    ``required``, ``unique``, ``primaryKey``, ``enum``, options of logical types, relationships and quality checks become rules. A column has its physical
    name, if one is given. Versions 3.0, 3.1 and 3.2 are supported; a later version 3 is read as 3.2, with a note, and new elements are listed.
    ``variables`` are the values for ``${NAME}`` (from v3.2 on).

    A check that allows all numbers but some (``mustNotBe 3``, ``mustNotBeBetween``) or that requires duplicates is listed in ``unmapped``: a rule's bounds
    are one range without a hole. Nulls: ``required`` and ``nullValues`` are about nulls; everything else lets them pass, as ``unique`` does.
    Ranges (``mustBeBetween``) include both ends. A count of duplicates counts every row of a repeated key.

    Raises
    ------
    DefinitionError
        If the document is not such a contract: with every mistake, each with file, line and column.

    Examples
    --------
    >>> contract = from_odcs('''
    ... {apiVersion: v3.1.0, kind: DataContract, id: shop, version: 1.0.0, status: active, schema: [
    ...   {name: orders, properties: [{name: id, logicalType: integer, required: true, quality: [
    ...     {metric: duplicateValues, mustBe: 0}]}]}]}
    ... ''')
    >>> contract.rules, contract.columns["orders"]["id"].dtype
    ({'orders': ({'not_null': 'id'}, {'unique': 'id'})}, 'Int64')
    """
    document = read(source)
    root = document.root("data contract")
    _check_head(root)
    if document.later or root.value.get("apiVersion") == "v3.2.0":
        for part in ("schema", "slaProperties"):
            if part in root:
                document.data[part] = resolved(root.value[part], variables, (part,), document.faults)
    tables = [_table(n) for n in root.children("schema")]
    if "schema" not in root:
        root.fault("'schema' is missing", "add schema: a list of tables")
    names = [t.name for t in tables]
    for table in tables:
        if names.count(table.name) > 1:
            table.node.fault(f"two tables are called {table.name!r}", "rename one of them", "name")
    ids = {t.node.value.get("id"): t for t in tables if "id" in t.node}
    for table in tables:
        for relation in table.relations:
            table.rules.extend(_relation(relation, table, tables, ids))
    for term in root.children("slaProperties"):
        _agreement(term, tables, root.text("slaDefaultElement"))
    document.finish()
    description = root.value.get("description")
    return Contract(
        name=root.text("name") or str(root.value["id"]),
        rules={t.name: tuple(t.rules) for t in tables},
        columns={t.name: t.columns for t in tables},
        unmapped=tuple(document.unmapped),
        notes=tuple(document.notes),
        description=description.get("purpose") if isinstance(description, dict) else None,
    )


def _check_head(root: Node) -> None:
    kind, version = root.need("kind", "text"), root.need("apiVersion", "text")
    minor = _LATER.fullmatch(str(version))
    for key in ("version", "id", *(() if minor and int(minor[1]) >= 2 else ("status",))):
        root.need(key, "scalar")
    if kind is not None and kind != "DataContract":
        root.fault(f"kind {kind!r} is not a data contract", "write kind: DataContract", "kind")
    if version is None or version in VERSIONS:
        return
    if minor and int(minor[1]) >= 2:
        root.document.later = True
        root.note(
            f"apiVersion {version!r}", f"it is read as {VERSIONS[-1]}; what is new in it is not known", "apiVersion"
        )
        return
    fix = f"migrate it to {VERSIONS[-1]}" if version.startswith("v2") else nearest(version, VERSIONS, "versions")
    root.fault(f"apiVersion {version!r} cannot be read", fix, "apiVersion")


@dataclass
class _Table:
    """A table while it is read: what is known of it, and its relations, which need the other tables."""

    name: str
    node: Node
    columns: dict[str, Column] = field(default_factory=dict)
    rules: list[Written] = field(default_factory=list)
    relations: list[Node] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)
    """Names and ids of properties → columns."""

    def column(self, name: str) -> str:
        """Return the column of a property, by its name or id."""
        return self.known.get(name, name)


def _table(written: Node) -> _Table:
    name = written.need("name", "text") or ""
    node = written.about(name)
    node.strangers(_KEYS_OF_TABLES)
    table = _Table(name, node)
    keys: list[tuple[int, str]] = []
    for each in node.children("properties"):
        column = each.text("physicalName") or each.need("name", "text") or ""
        prop = each.about(name, column)
        prop.strangers(_KEYS_OF_COLUMNS)
        if (meaning := prop.text("semanticType") or "column") != "column":
            prop.unmapped(f"the {meaning}", "it is reckoned from the data, which has no such column", "semanticType")
            continue
        if column in table.columns:
            prop.fault(f"two columns are called {column!r}", "rename one of them", "name")
        dtype = _dtype(prop)
        tags = (*prop.texts("tags"), *([prop.text("classification")] if prop.text("classification") else []))
        table.columns[column] = Column(dtype, tuple(dict.fromkeys(map(str, tags))), prop.text("description"))
        table.known |= {str(prop.value[k]): column for k in ("name", "id") if k in prop}
        if prop.flag("primaryKey"):
            position = prop.get("primaryKeyPosition", "integer")
            keys.append((position if position is not None and position > 0 else 2**31 + len(keys), column))
        table.rules.extend(_property(prop, dtype))
        table.relations.extend(r.about(name, column) for r in prop.children("relationships"))
    if keys:
        table.rules.append(made("primary_key", {"columns": [column for _, column in sorted(keys)]}))
    counted = False
    for check in node.children("quality"):
        found = quality(check)
        counts = check.value.get("metric") == "rowCount"
        if counted and counts and found and (whole := _whole_range(table.rules[-1], found[0])):
            table.rules.pop()
            found, counts = [whole], False
        table.rules.extend(found)
        counted = counts and bool(found)
    table.relations.extend(node.children("relationships"))
    return table


_ELEMENT = "id name physicalName physicalType logicalType description businessName authoritativeDefinitions tags customProperties"
_SINCE_V3_2 = "context deprecated synonyms semanticType enum map vendor"
_KEYS_OF_TABLES = frozenset(
    f"{_ELEMENT} {_SINCE_V3_2} dataGranularityDescription properties relationships quality".split()
)
_KEYS_OF_COLUMNS = frozenset(
    f"{_ELEMENT} {_SINCE_V3_2} primaryKey primaryKeyPosition logicalTypeOptions required unique partitioned "
    "partitionKeyPosition classification encryptedName transformSourceObjects transformLogic transformDescription examples "
    "criticalDataElement relationships quality properties items".split()
)


def _whole_range(low: Written, high: Written) -> Written | None:
    """Return a least and a greatest row count that say the same otherwise as one rule; None where they do not."""
    one, other = low["row_count"], high["row_count"]
    rest = {k: v for k, v in one.items() if k != "min"}
    if rest != {k: v for k, v in other.items() if k != "max"} or "min" not in one or "max" not in other:
        return None
    return {"row_count": {"min": one["min"], "max": other["max"], **rest}}


# types


def _dtype(prop: Node) -> str | None:
    """Return the column's type, from what is most exact: the options, the physical type, the logical type."""
    logical, physical = prop.text("logicalType"), prop.text("physicalType")
    if logical is not None and logical not in _LOGICAL:
        prop.unknown(f"unknown logical type {logical!r}", nearest(logical, _LOGICAL, "logical types"), "logicalType")
        return None
    options = prop.child("logicalTypeOptions")
    found = types.from_physical(physical) if physical is not None else None
    if found is not None:
        return _zoned(options, found)
    nested = _nested(prop, logical)
    if nested is not None:
        return nested
    fallback = _LOGICAL.get(str(logical))
    if fallback is None:
        what = f"the type {physical or logical!r}" if physical or logical else "the type"
        why = "no type is known by that" if physical or logical else "the contract does not say it"
        prop.unmapped(what, f"{why}, so no type of the table is declared")
        return None
    bits = options.text("format") if logical in ("integer", "number") else None
    if bits is not None:
        name = {"i": "Int", "u": "UInt", "f": "Float"}.get(bits[:1], "?") + bits[1:]
        own = types.from_physical(name)
        if own is None:
            options.fault(f"unknown number format {bits!r}", "write one such as i32, u64 or f64", "format")
        return own
    return _zoned(options, fallback)


def _zoned(options: Node, dtype: str) -> str:
    if dtype == "Datetime(us)" and options.flag("timezone"):
        return f"Datetime(us, {options.text('defaultTimezone') or 'UTC'})"
    return dtype


def _nested(prop: Node, logical: str | None) -> str | None:
    if logical == "array" and "items" in prop:
        _forget_rules(prop.child("items"), "an item of a list")
        inner = _dtype(prop.child("items"))
        return inner and f"List({inner})"
    if logical == "map" and "map" in prop:
        parts = [prop.child("map").child(part) for part in ("key", "value")]
        for part, what in zip(parts, ("key", "value"), strict=True):
            _forget_rules(part, f"a {what} of a map")
        key, value = map(_dtype, parts)
        return key and value and f"Map({key}, {value})"
    if logical == "vector":
        options = prop.child("logicalTypeOptions")
        of, size = types.from_python(options.text("elementType") or ""), options.get("dimensions", "integer")
        return f"Array({of}, {size})" if of and size is not None else None
    if logical == "object" and "properties" in prop:
        fields = []
        for each in prop.children("properties"):
            name = each.need("name", "text") or ""
            _forget_rules(each, f"the field {name!r} of a struct")
            fields.append((each.text("physicalName") or name, _dtype(each)))
        if all(dtype is not None for _, dtype in fields):
            return dtype_name(pl.Struct({name: dtype_from_name(str(dtype)) for name, dtype in fields}))
    return None


_ON_VALUES = ("required", "unique", "primaryKey", "quality", "relationships")


def _forget_rules(node: Node, what: str) -> None:
    given = [key for key in _ON_VALUES if key in node and node.value[key] not in (False, [])]
    options = set(node.child("logicalTypeOptions").value) - {"format", "timezone", "defaultTimezone"}
    for key in (*given, *sorted(options)):
        node.unmapped(f"{key} of {what}", "rules look at columns; unnest it in a stage first")


# rules of a property


def _property(prop: Node, dtype: str | None) -> Iterable[Written]:
    column = str(prop.column)
    if prop.flag("required"):
        yield made("not_null", {"columns": [column]})
    if prop.flag("unique"):
        yield made("unique", {"columns": [column]})
    yield from _options(prop, prop.child("logicalTypeOptions"), dtype)
    if values := [each.need("value", "scalar") for each in prop.children("enum")]:
        yield made("in_set", {"column": column, "values": [value for value in values if value is not None]})
    for check in prop.children("quality"):
        yield from quality(check)


_LENGTHS = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}
_RANGE = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
_OPTIONS = {
    "string": ("minLength", "maxLength", "pattern", "format"),
    "date": ("format", *_RANGE),
    "timestamp": ("format", *_RANGE, "timezone", "defaultTimezone"),
    "time": ("format", *_RANGE, "timezone", "defaultTimezone"),
    "integer": ("format", "multipleOf", *_RANGE),
    "number": ("format", "multipleOf", *_RANGE),
    "object": ("maxProperties", "minProperties", "required"),
    "array": ("maxItems", "minItems", "uniqueItems"),
    "vector": ("dimensions", "elementType", "distanceMetric", "normalized", "embeddingModel", "embeddingModelVersion"),
    "map": (),
    "boolean": (),
}
_FORMATS = [
    "bic",
    "e164",
    "ean13",
    "email",
    "hostname",
    "iban",
    "ipv4",
    "ipv6",
    "isbn13",
    "lei",
    "luhn",
    "mac",
    "url",
    "uuid",
]


def _options(prop: Node, options: Node, dtype: str | None) -> Iterable[Written]:
    logical = prop.text("logicalType")
    known = _OPTIONS.get(str(logical), {o for given in _OPTIONS.values() for o in given})
    for key in options.value:
        if key not in known:
            options.unknown(f"unknown option {key!r} of {logical or 'the type'}", nearest(key, known, "options"), key)
    column = str(prop.column)
    least, most = (options.get(key, "integer") for key in _LENGTHS.get(str(logical), ("minLength", "maxLength")))
    if least is not None or most is not None:
        yield made("length_between", {"column": column, "min": least, "max": most})
    if pattern := options.text("pattern"):
        if sqltext.is_regex(pattern):
            yield made("regex", {"column": column, "pattern": pattern})
        else:
            why = "look-around and back references are not known here"
            options.unmapped(f"pattern {pattern!r}", why, "pattern")
    kind = {"integer": "number", "number": "number", None: "scalar"}.get(logical, "text")
    yield from _bounds(options, column, kind)
    if (step := options.get("multipleOf", "number")) is not None:
        yield made("multiple_of", {"column": column, "of": step})
    if options.flag("uniqueItems"):
        name = quoted(column)
        yield made("expression", {"condition": f"ARRAY_LENGTH(ARRAY_UNIQUE({name})) = ARRAY_LENGTH({name})"})
    for key in ("minProperties", "maxProperties", "required"):
        if logical == "object" and key in options:
            options.unmapped(key, "a struct has the fields of its type, always", key)
    yield from _format(options, column, logical, dtype)


def _bounds(options: Node, column: str, kind: str) -> Iterable[Written]:
    least, above, most, below = (options.get(key, kind) for key in _RANGE)
    open_least, open_most = least is None and above is not None, most is None and below is not None
    low, high = above if open_least else least, below if open_most else most
    if low is not None or high is not None:
        left, right = not open_least or low is None, not open_most or high is None
        closed = None if left and right else "left" if left else "right" if right else "none"
        yield made("between", {"column": column, "min": low, "max": high, "closed": closed})
    # both an inclusive and an exclusive bound: each must hold
    if least is not None and above is not None:
        yield made("between", {"column": column, "min": above, "closed": "right"})
    if most is not None and below is not None:
        yield made("between", {"column": column, "max": below, "closed": "left"})


def _format(options: Node, column: str, logical: str | None, dtype: str | None) -> Iterable[Written]:
    written = options.text("format")
    if written is None or logical in ("integer", "number"):
        return
    if logical in ("date", "timestamp", "time"):
        if dtype != "String":
            return  # how a value looks that is no text is not the data's business
        pattern = types.strftime(written)
        if pattern is None:
            options.unmapped(f"format {written!r}", "strftime has no such format", "format")
            return
        kind = "datetime" if logical == "timestamp" else logical
        yield made("parseable", {"column": column, "as": kind, "format": pattern})
    elif written in _FORMATS:
        yield made("format", {"column": column, "is": written})
    elif written == "uri":
        options.note("format 'uri'", "a URL is asked for: a scheme and a host", "format")
        yield made("format", {"column": column, "is": "url"})
    else:
        options.unmapped(f"format {written!r}", "no rule knows it", "format")


# relationships and agreements


def _relation(node: Node, table: _Table, tables: list[_Table], ids: Mapping[Any, _Table]) -> Iterable[Written]:
    """Yield the foreign key of a relationship, at a property (``to``) or at a table (``from``, ``to``)."""
    kind = node.text("type") or "foreignKey"
    if kind != "foreignKey":
        node.unknown(f"unknown type of relationship {kind!r}", "write type: foreignKey", "type")
        return
    here = [f"{table.name}.{node.column}"] if node.column is not None else node.texts("from")
    there = node.texts("to")
    if not there or not here:
        missing = "from" if there else "to"
        if missing not in node:
            node.fault(f"{missing!r} is missing", f"add {missing}: table.column")
        return
    if len(here) != len(there):
        node.fault(f"{len(here)} columns refer to {len(there)}", "name as many columns as the other key has", "to")
        return
    left = (
        [(table.name, table.column(str(node.column)))]
        if node.column is not None
        else [_referred(reference, tables, ids) for reference in here]
    )
    right = [_referred(reference, tables, ids) for reference in there]
    for side, references in ((left, here), (right, there)):
        for found, reference in zip(side, references, strict=True):
            if found is None:
                node.unmapped(f"the relationship with {reference}", "it names nothing in this contract")
                return
    froms, tos = {f[0] for f in left if f}, {t[0] for t in right if t}
    if froms != {table.name} or len(tos) > 1:
        node.unmapped(f"the relationship with {', '.join(there)}", "it is not from this table to one other")
        return
    columns = [f[1] for f in left if f]
    others = [t[1] for t in right if t]
    yield foreign_key(columns, min(tos), others)


def _referred(reference: str, tables: list[_Table], ids: Mapping[Any, _Table]) -> tuple[str, str] | None:
    """Return the table and the column that a reference names: ``table.column`` or ``schema/id/properties/id``."""
    if "/" in reference:
        match = re.fullmatch(r"/?schema/([\w-]+)/properties/([\w-]+)", reference)
        table = ids.get(match[1]) if match else None
        return None if table is None or match is None else (table.name, table.column(match[2]))
    name, _, column = reference.rpartition(".")
    found = next((t for t in tables if t.name == name), None)
    # another contract's table may be a source here all the same
    return (name, column if found is None else found.column(column)) if name else None


_UNITS = {
    **dict.fromkeys(("s", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hr", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("w", "week", "weeks"), "w"),
}


def _agreement(term: Node, tables: list[_Table], default: str | None) -> None:
    """Add the rule of a service level: freshness, which data can show; how fast it is served, they cannot."""
    what, amount = term.need("property", "text"), term.need("value", "scalar")
    if what is None or amount is None:
        return
    unit = _UNITS.get(str(term.value.get("unit")).lower())
    if what.lower() not in ("freshness", "latency", "ly", "fy"):
        term.unmapped(f"the agreement on {what}", "no rule on rows can show it")
        return
    element = term.text("element") or default or ""
    name, _, prop = element.rpartition(".")
    if not prop or "," in element or (not name and len(tables) != 1):
        term.unmapped(f"the agreement on {what}", "write element: table.column, of a column of times", "element")
        return
    table = next((t for t in tables if t.name == (name or tables[0].name)), None)
    if table is None:
        names = nearest(name, [t.name for t in tables], "tables")
        term.unmapped(f"the agreement on {what}", f"the contract has no table {name!r}; {names}", "element")
        return
    node = term.about(table.name, table.column(prop))
    if unit is None or not re.fullmatch(r"\d+(\.\d+)?", str(amount)):
        node.unmapped(f"the agreement on {what}", "write a value and one of the units s, m, h, d, w", "unit")
        return
    description = term.text("description")
    arguments = {"column": node.column, "within": f"{amount}{unit}", "description": description}
    table.rules.append(made("freshness", arguments))


def fragment(table: Mapping[str, Any], agreements: Iterable[Mapping[str, Any]] = ()) -> Contract:
    """Return what a contract of one table says, to try out what is to be written."""
    head = {"version": "1", "id": "x", "status": "x", "kind": "DataContract", "apiVersion": "v3.1.0"}
    return from_odcs({**head, "schema": [table], "slaProperties": list(agreements)})
