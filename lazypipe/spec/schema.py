"""Check a document against the published JSON Schema and say in plain words what is wrong."""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from lazypipe.errors import closest
from lazypipe.spec.elsewhere import hint, meant
from lazypipe.spec.fitting import fits
from lazypipe.spec.model import Fault, Path

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

__all__ = ["faults", "json_schema"]

_TYPES = {
    "string": "text",
    "array": "a list",
    "object": "a mapping",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
_LENGTHS = {
    "allowed_lateness", "deadline", "delay", "every", "gap", "idle_after", "keep_results", "max_length", "offset", "period", "within",
}  # fmt: skip
"""Arguments that are lengths of time, which a number alone does not tell."""
_LIMIT = "write a count of rows, or a percentage such as 0.1%"


@cache
def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a definition (draft 2020-12), as shipped for editors."""
    # ``importlib.resources`` does the same, for as much again as reading and parsing it
    data = pkgutil.get_data("lazypipe", "pipeline.schema.json")
    assert data is not None
    schema: dict[str, Any] = json.loads(data.decode())  # half as long as to have it find out that this is UTF-8
    return schema


@cache
def _validator() -> Any:
    # only for documents that do not fit: it costs as much to import as all else that reads a definition
    from jsonschema import Draft202012Validator, validators

    # JSON Schema takes 1.0 for an integer; here it is a mistake, as in Python
    checker = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    made = validators.extend(Draft202012Validator, type_checker=checker)  # type: ignore[no-untyped-call]
    return made(json_schema())


def faults(document: Any) -> Iterator[Fault]:
    """Yield every departure from the schema, with the path at which it stands."""
    if fits(document, json_schema()):
        return
    told = set()
    for error in _validator().iter_errors(document):
        for fault in _explain(error):
            if (fault.path, fault.what) not in told:
                told.add((fault.path, fault.what))
                yield fault


def _explain(error: ValidationError) -> Iterator[Fault]:
    path: Path = tuple(error.absolute_path)
    schema: Any = error.schema
    value: Any = error.instance
    rule = error.validator
    wanted: Any = error.validator_value
    match rule:
        case "additionalProperties":
            yield from _unknown(path, schema, value)
        case "required":
            yield from _missing(path, schema["properties"], value, wanted)
        case "maxProperties" | "minProperties":
            yield _size(path, value)
        case "type":
            yield _type(path, schema, value, wanted)
        case "enum":
            shown = _shown(value)
            fix = f'put it in quotes: "{shown}"' if shown in wanted else hint(str(value), wanted, "values")
            yield Fault(f"{_name(path)} cannot be {shown}", fix, path)
        case "const":
            yield Fault(f"version {_shown(value)} is not known", f"write version: {wanted}", path)
        case "minItems":
            yield Fault(f"{_name(path)} is empty", "write at least one entry", path)
        case "minLength":
            yield Fault(f"{_name(path)} is empty", _described(schema) or "write something", path)
        case "minimum":
            yield Fault(f"{_name(path)} is {value}, less than {wanted}", f"write {wanted} or more", path)
        case "maximum":
            yield Fault(f"{_name(path)} is {value}, more than {wanted}", f"write {wanted} or less", path)
        case "pattern" if "propertyNames" in error.absolute_schema_path:
            better = re.sub("[^A-Za-z0-9_]", "_", value)
            better = f"_{better}" if not better or better[0].isdigit() else better
            fix = f"use letters, digits and underscores, such as {better!r}"
            yield Fault(f"{value!r} is not a name", fix, (*path, value))
        case _:
            yield Fault(f"{_name(path)} cannot be {_shown(value)}", _LIMIT, path)


def _unknown(path: Path, schema: Mapping[str, Any], value: Mapping[str, Any]) -> Iterator[Fault]:
    noun, owner = _keys(path)
    known, absent = schema.get("properties", {}), schema.get("x-absent", {})
    for key in value:
        if key not in known:
            unknown = (f"unknown {noun} {str(key)!r}{owner}", hint(str(key), known, f"{noun}s"))
            if path[-1:] == ("gate",) and "rules" not in value:
                unknown = (f"{str(key)!r} is not in a list", f"start each rule of the gate with a dash: - {key}: …")
            what, fix = absent.get(key, unknown)
            yield Fault(what, fix, (*path, key))


def _missing(
    path: Path, properties: Mapping[str, Any], value: Mapping[str, Any], wanted: Iterable[str]
) -> Iterator[Fault]:
    unknown = [str(key) for key in value if key not in properties]
    if path[-1:] == ("gate",) and unknown:
        return  # which are rules, and the list of these is what is missing
    noun, _ = _keys(path)
    misspelt = {closest(key, properties) or meant(key, properties, f"{noun}s") for key in unknown}
    for key in wanted:
        if key in value or key in misspelt:
            continue
        schema = properties[key]
        sample = schema.get("const", _sentence(schema))
        where = f" in {_name(path)}" if path else ""
        yield Fault(f"{key!r} is missing{where}", f"add {key}: {sample}", path)


def _size(path: Path, value: Mapping[str, Any]) -> Fault:
    noun, _ = _keys(path)
    if noun not in ("operation", "rule"):
        return Fault(f"{_name(path)} is empty", "write at least one entry", path)
    if not value:
        return Fault(f"this {noun} is empty", "write name: arguments", path)
    names = " and ".join(map(repr, value))
    fix = f"start each {noun} with its own dash; its arguments go below its name, indented"
    return Fault(f"one {noun} has one key, its name; this has {names}", fix, path)


def _type(path: Path, schema: Mapping[str, Any], value: Any, expected: str | list[str]) -> Fault:
    types = [expected] if isinstance(expected, str) else expected
    if not path:
        return Fault("a definition is a mapping", "start with version: 1", path)
    noun, _ = _keys(path)
    if noun in ("operation", "rule"):
        article = "an" if noun == "operation" else "a"
        return Fault(f"{_shown(value)} is not {article} {noun}", "write name: arguments", path)
    wanted = " or ".join(_TYPES[t] for t in types)
    return Fault(
        f"{_name(path)} must be {wanted}, not {_shown(value)}", _advice(path, schema, value, frozenset(types)), path
    )


def _advice(path: Path, schema: Mapping[str, Any], value: Any, types: frozenset[str]) -> str | None:
    """Return what to write for a value of the wrong type."""
    if path[-1] in ("do", "gate"):
        return f"start each {'operation' if path[-1] == 'do' else 'rule'} with a dash"
    if "pattern" in schema:
        return _LIMIT
    if isinstance(value, bool | int | float) and "string" in types:
        if path[-1] in _LENGTHS and not isinstance(value, bool):
            return f"say of what: {_shown(value)}s, {_shown(value)}m, {_shown(value)}h or {_shown(value)}d"
        return f'put it in quotes: "{_shown(value)}"'
    if isinstance(value, str):
        if types & {"integer", "number", "boolean"} and _is_unquoted(value):
            grouped = "_" in value  # to YAML it is text even without quotes
            return f"write it {'in digits' if grouped else 'without quotes'}: {value.replace('_', '')}"
        if "array" in types:
            return f"write [{value}]"
    if value is None and isinstance(path[-1], int):
        return "remove it, or write one"
    if inner := schema.get("required") or list(schema.get("properties", ())):
        return f"write {path[-1]}: {{{inner[0]}: …}}"
    return "write name: {…}" if "propertyNames" in schema else _described(schema)


def _is_unquoted(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in ("true", "false")
    return True


def _described(schema: Mapping[str, Any]) -> str | None:
    sentence = _sentence(schema)
    return f"write {sentence}" if sentence else None


def _sentence(schema: Mapping[str, Any]) -> str:
    """Return the first part of a description, as it stands inside a sentence."""
    text: str = re.split(r"\.\s|; ", schema.get("description", ""), maxsplit=1)[0].rstrip(".")
    return text if text[1:2].isupper() else f"{text[:1].lower()}{text[1:]}"


def _shown(value: Any) -> str:
    """Return a value as the definition writes it."""
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case str():
            return repr(value if len(value) <= 60 else f"{value[:60]}…")
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return str(value)


def _keys(path: Path) -> tuple[str, str]:
    """Return what the keys of the mapping at ``path`` are, and whose, for messages."""
    match path:
        case (("sources" | "stages"), _, ("do" | "gate") as list_, int()):
            return ("operation" if list_ == "do" else "rule"), ""
        case (("sources" | "stages"), _, ("do" | "gate"), int(), str(name), *_):
            return "argument", f" of {name}"
        case ():
            return "key", ""
        case _:
            return "key", f" of {_name(path)}"


def _name(path: Path) -> str:
    match path:
        case (("sources" | "stages" | "outputs") as section, name):
            return f"{section[:-1]} {name!r}"
        case ("params", name):
            return f"parameter {name!r}"
        case ("sources", _, "columns", name):
            return f"column {name!r}"
        case (*_, str(name)):
            return repr(name)
        case _:
            return f"an entry of {next(p for p in reversed(path) if isinstance(p, str))!r}"
