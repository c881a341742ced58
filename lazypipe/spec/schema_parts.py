"""Building blocks of the JSON Schema: texts, numbers, choices, mappings, and the keys that several parts of a definition share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lazypipe.spec.arguments import COLUMNS

__all__ = [
    "CHANGES",
    "DESCRIPTION",
    "OPTIONS",
    "TEXT",
    "choice",
    "contract",
    "count",
    "described",
    "either",
    "flag",
    "gate",
    "mapping",
    "number",
    "some",
    "text",
]

TEXT = {"type": "string", "minLength": 1}
"""A text that is not empty, without a description."""


def mapping(description: str, properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a mapping with these keys and no others."""
    made: dict[str, Any] = {
        "description": description,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return made | ({"required": list(required)} if required else {})


def described(schema: Any, description: str) -> dict[str, Any]:
    """Return a schema with a description."""
    return {"description": description, **schema}


def text(description: str) -> dict[str, Any]:
    """Return a text that is not empty."""
    return described(TEXT, description)


def flag(description: str) -> dict[str, Any]:
    """Return true or false."""
    return {"description": description, "type": "boolean"}


def choice(description: str, values: Iterable[str]) -> dict[str, Any]:
    """Return one of the values."""
    return {"description": description, "enum": [*values]}


def count(description: str, minimum: int = 1) -> dict[str, Any]:
    """Return a whole number."""
    return {"description": description, "type": "integer", "minimum": minimum}


def number(description: str, **limits: float) -> dict[str, Any]:
    """Return a number within limits."""
    return {"description": description, "type": "number", **limits}


def some(description: str, properties: dict[str, Any]) -> dict[str, Any]:
    """Return a mapping of which at least one key is given."""
    return mapping(description, properties) | {"minProperties": 1}


def either(description: str, settings: dict[str, Any], short: dict[str, Any]) -> dict[str, Any]:
    """Return what may be a mapping with settings, or something shorter. If it is a mapping, errors are about its keys."""
    return {"description": description, "if": {"type": "object"}, "then": settings, "else": short}


DESCRIPTION = text("What it is for, in words.")
"""The key ``description``."""
OPTIONS = described(
    {"type": "object"},
    "Credentials and settings for the storage, with the names that Polars (aws_access_key_id) or fsspec (key) "
    "use; ${NAME} is replaced by an environment variable.",
)
"""The key ``storage_options``."""
CHANGES = ("fail", "evolve", "freeze", "discard_column", "discard_row")
"""What a contract can do about a difference."""


def gate() -> dict[str, Any]:
    """Return a gate: a list of rules, or rules with their default action."""
    rules: dict[str, Any] = {"description": "Rules on the rows.", "type": "array", "items": {"$ref": "#/$defs/rule"}}
    action = choice(
        "The action of rules that do not give their own. Default: fail.", ["fail", "quarantine", "drop", "warn"]
    )
    with_action = mapping("Rules, and their default action.", {"action": action, "rules": rules}, ("rules",))
    return either(rules["description"], with_action, rules)


def contract(new: dict[str, Any], change: str, missing: str) -> dict[str, Any]:
    """Return the keys of a contract, given the texts about ``on_type_change`` (``change``) and ``on_missing_column`` (``missing``)."""
    words = {
        "on_type_change": choice(change, CHANGES),
        "on_missing_column": choice(missing, CHANGES),
    }
    declared = {
        "description": "A type, or a type with what to do about differences.",
        "type": ["string", "object"],
        "minLength": 1,
        "properties": {
            "type": text("A type such as Int64, String, Date, Datetime(us, UTC)."),
            "alias": described(COLUMNS.schema, "Other names that the column may come by."),
            **words,
        },
        "required": ["type"],
        "additionalProperties": False,
    }
    columns = {
        "description": "Column → type, such as Int64, String, Date, Datetime(us, UTC).",
        "type": "object",
        "additionalProperties": declared,
    }
    return {"columns": columns, "on_new_column": new, **words}
