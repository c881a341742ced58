"""A fast check of whether a document fits the JSON Schema; what is wrong is found out only if it does not.

It knows the keywords that the published schema uses, and answers as ``jsonschema`` does, which is told to say what is wrong and
costs more to import than all of this. What it does not know for sure it calls not fitting, so that ``jsonschema`` decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["fits"]

_ABOUT = frozenset(
    {"$schema", "$defs", "title", "description", "default", "x-absent", "then", "else", "additionalProperties"}
)
"""Keywords that judge nothing, or are judged with another."""


class _Unsure(Exception):
    """What cannot be judged here."""


def fits(document: object, schema: Mapping[str, Any]) -> bool:
    """Whether a document fits a schema; False also where that is not certain.

    Examples
    --------
    >>> schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer", "minimum": 1}}}
    >>> fits({"a": 1}, schema), fits({"a": 0}, schema), fits({"a": 1}, {**schema, "not": {}})
    (True, False, False)
    """
    try:
        return _fits(document, schema, schema)
    except _Unsure:
        return False


def _fits(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    for keyword, wanted in schema.items():
        if keyword in _ABOUT:
            continue
        if (judge := _JUDGES.get(keyword)) is None:
            raise _Unsure(keyword)
        if not judge(value, wanted, schema, root):
            return False
    return "additionalProperties" not in schema or _others(value, schema, root)


def _type(value: Any, wanted: str | list[str], *_: object) -> bool:
    if (name := _NAMES.get(type(value))) is None:
        raise _Unsure(type(value))
    types = (wanted,) if isinstance(wanted, str) else wanted
    return name in types or (name == "integer" and "number" in types)


_NAMES = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    dict: "object",
    list: "array",
    type(None): "null",
}


def _enum(value: Any, wanted: list[Any], *_: object) -> bool:
    found = any(type(value) is type(one) and value == one for one in wanted)
    if not (found or isinstance(value, str)):
        raise _Unsure(value)  # 1.0 may be 1
    return found


def _properties(value: Any, wanted: Mapping[str, Any], _: object, root: Mapping[str, Any]) -> bool:
    return not isinstance(value, dict) or all(_fits(v, wanted[k], root) for k, v in value.items() if k in wanted)


def _others(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    wanted, known = schema["additionalProperties"], schema.get("properties", ())
    if not isinstance(value, dict):
        return True
    if isinstance(wanted, bool):
        return wanted or all(k in known for k in value)
    return all(_fits(v, wanted, root) for k, v in value.items() if k not in known)


def _reference(value: Any, wanted: str, _: object, root: Mapping[str, Any]) -> bool:
    return _fits(value, root["$defs"][wanted.removeprefix("#/$defs/")], root)


def _condition(value: Any, wanted: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    return _fits(value, schema.get("then" if _fits(value, wanted, root) else "else", {}), root)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_JUDGES: Mapping[str, Callable[[Any, Any, Any, Any], bool]] = {
    "$ref": _reference,
    "type": _type,
    "enum": _enum,
    "const": lambda value, wanted, *_: _enum(value, [wanted]),
    "if": _condition,
    "properties": _properties,
    "propertyNames": lambda v, wanted, _, root: not isinstance(v, dict) or all(_fits(k, wanted, root) for k in v),
    "required": lambda value, wanted, *_: not isinstance(value, dict) or all(k in value for k in wanted),
    "minProperties": lambda value, wanted, *_: not isinstance(value, dict) or len(value) >= wanted,
    "maxProperties": lambda value, wanted, *_: not isinstance(value, dict) or len(value) <= wanted,
    "items": lambda v, wanted, _, root: not isinstance(v, list) or all(_fits(one, wanted, root) for one in v),
    "minItems": lambda value, wanted, *_: not isinstance(value, list) or len(value) >= wanted,
    "maxItems": lambda value, wanted, *_: not isinstance(value, list) or len(value) <= wanted,
    "minLength": lambda value, wanted, *_: not isinstance(value, str) or len(value) >= wanted,
    "pattern": lambda value, wanted, *_: not isinstance(value, str) or re.search(wanted, value) is not None,
    # what is not a number at all is neither less nor more
    "minimum": lambda value, wanted, *_: not (_is_number(value) and value < wanted),
    "maximum": lambda value, wanted, *_: not (_is_number(value) and value > wanted),
}
