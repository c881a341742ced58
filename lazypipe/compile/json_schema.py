"""The JSON Schema of a definition, made from the registries; published as ``lazypipe/pipeline.schema.json``.

``python -m lazypipe.compile.json_schema`` writes the file again; a test holds the two equal.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lazypipe import gates, ops
from lazypipe.spec.arguments import COLUMN, COLUMNS, INPUTS
from lazypipe.spec.model import PARAM_TYPES

__all__ = ["build"]

_TEXT = {"type": "string", "minLength": 1}
_NAME = {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}


def _object(description: str, properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    made: dict[str, Any] = {
        "description": description,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return made | ({"required": list(required)} if required else {})


def _described(schema: Any, description: str) -> dict[str, Any]:
    return {"description": description, **schema}


def _named(description: str, definition: str) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "propertyNames": _NAME,
        "additionalProperties": {"$ref": f"#/$defs/{definition}"},
    }


def _one_of(description: str, choices: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": choices,
        "additionalProperties": False,
    }


def build() -> dict[str, Any]:
    """Return the schema, with every operation and rule that is registered."""
    description = _described(_TEXT, "What it is for, in words.")
    options = _described(
        {"type": "object"}, "Credentials and settings of the storage; ${NAME} takes an environment variable."
    )
    gate = {"description": "Rules on the rows.", "type": "array", "items": {"$ref": "#/$defs/rule"}}
    read = _object(
        "How to read text files.",
        {
            "separator": _described(_TEXT, "Field separator of CSV. Default: a comma."),
            "quote": _described({"type": "string"}, "Quote character of CSV; empty for none. Default: a double quote."),
            "header": _described({"type": "boolean"}, "Whether the first CSV row holds names. Default: true."),
            "null_values": _described(
                {"type": "array", "items": {"type": "string"}}, "Texts that mean null, besides an empty field."
            ),
            "comment": _described(_TEXT, "Lines that start with this are passed over."),
            "skip_rows": _described({"type": "integer", "minimum": 0}, "Lines before the header to pass over."),
            "decimal_comma": _described({"type": "boolean"}, "Whether decimals are written 1,5."),
            "parse_dates": _described(
                {"type": "boolean"},
                "Whether undeclared columns that look like dates and times become such. Default: true.",
            ),
        },
    )
    contract = _object(
        "What the source must look like.",
        {
            "columns": {
                "description": "Column → type, such as Int64, String, Date, Datetime(us, UTC).",
                "type": "object",
                "additionalProperties": _TEXT,
            },
            "on_new_column": {
                "description": "What to do about a column that is not listed. Default: ignore (it is read as it is).",
                "enum": ["ignore", "drop", "fail"],
            },
            "on_type_change": {
                "description": "What to do where a file's type differs. Default: fail.",
                "enum": ["fail", "cast"],
            },
        },
        ("columns",),
    )
    column = _object(
        "What is known about a column.",
        {
            "tags": {"description": "Words such as pii.", "type": "array", "items": _TEXT},
            "description": description,
        },
    )
    source = _object(
        "Where rows come from.",
        {
            "uri": _described(
                {"type": ["string", "array"], "items": _TEXT, "minLength": 1, "minItems": 1},
                "Path, URI or glob pattern, or a list of them, relative to this file; ${NAME} takes an environment variable.",
            ),
            "format": {
                "description": "Format of the files. Default: by their names.",
                "enum": ["parquet", "csv", "ndjson", "ipc", "dataset"],
            },
            "read": read,
            "storage_options": options,
            "event_time": _described(COLUMN.schema, "The column that says when a row happened."),
            "key": _described(COLUMNS.schema, "The columns that identify a row."),
            "contract": contract,
            "columns": {
                "description": "What is known about columns.",
                "type": "object",
                "additionalProperties": column,
            },
            "gate": gate,
            "description": description,
        },
        ("uri",),
    )
    stage = _object(
        "A named node: inputs, operations, a gate.",
        {
            "from": _described(
                INPUTS.schema,
                "The source or stage that the operations start from; further names can be read by sql and python.",
            ),
            "do": {"description": "Operations, in order.", "type": "array", "items": {"$ref": "#/$defs/operation"}},
            "gate": gate,
            "description": description,
        },
        ("from",),
    )
    output = _object(
        "Where a stage's rows go.",
        {
            "from": _described(_TEXT, "The stage (or source). Default: the output's own name."),
            "to": _described(_TEXT, "Folder of the dataset, or file of the export, relative to this file."),
            "format": {
                "description": "dataset (Parquet files with a commit log) or one exported file. Default: dataset.",
                "enum": ["dataset", "parquet", "csv", "ndjson", "ipc"],
            },
            "mode": {
                "description": "Whether a run's rows replace those before or are added. Default: replace.",
                "enum": ["replace", "append"],
            },
            "partition_by": _described(COLUMNS.schema, "Columns whose values become folders."),
            "key": _described(COLUMNS.schema, "The columns that identify a row."),
            "optimize": {
                "description": "What the layout should favour.",
                "enum": ["storage", "balanced", "read", "write"],
            },
            "storage_options": options,
            "description": description,
        },
        ("to",),
    )
    param = _object(
        "A value that the caller can set; :name in SQL.",
        {
            "type": {"description": "Its type.", "enum": list(PARAM_TYPES)},
            "default": {"description": "Its value if the caller gives none."},
            "description": description,
        },
        ("type",),
    )
    root = _object(
        "A lazypipe pipeline.",
        {
            "version": {"description": "Version of this format: 1.", "const": 1},
            "name": _described(_TEXT, "The pipeline's name."),
            "description": description,
            "params": _named("Values that the caller can set.", "param"),
            "state": _described(
                _TEXT, "Folder for run records and quarantined rows of sources and inner stages. Default: .lazypipe"
            ),
            "sources": _named("Where rows come from.", "source"),
            "stages": _named("What is done with them.", "stage"),
            "outputs": _named("Where they go.", "output"),
        },
        ("version", "name", "sources", "outputs"),
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lazypipe pipeline",
        **root,
        "$defs": {
            "param": param,
            "source": source,
            "stage": stage,
            "output": output,
            "operation": _one_of(
                "One operation: a mapping with one key, its name.",
                {n: ops.operation_class(n).json_schema() for n in ops.names()},
            ),
            "rule": _one_of(
                "One rule: a mapping with one key, its name.",
                {n: gates.rule_class(n).json_schema() for n in gates.names()},
            ),
        },
    }


def text() -> str:
    """Return the schema as the file holds it."""
    return json.dumps(build(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent.parent / "pipeline.schema.json").write_text(text(), encoding="utf-8")
