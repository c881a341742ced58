"""The JSON Schema of a definition, made from the registries; published as ``lazypipe/pipeline.schema.json``.

``python -m lazypipe.compile.json_schema`` writes the file again; a test holds the two equal.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lazypipe import gates, ops
from lazypipe.compile.outputs.keys import output_schema
from lazypipe.compile.reference import reference
from lazypipe.compile.sources.keys import source_schema
from lazypipe.spec.arguments import INPUTS
from lazypipe.spec.model import PARAM_TYPES
from lazypipe.spec.schema_parts import (
    DESCRIPTION,
    OPTIONS,
    choice,
    count,
    described,
    either,
    gate,
    mapping,
    number,
    some,
    text,
)

__all__ = ["build", "published"]

_NAME = {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}


def _named(description: str, definition: str) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "propertyNames": _NAME,
        "additionalProperties": {"$ref": f"#/$defs/{definition}"},
    }


def _one_of(description: str, choices: dict[str, Any], *, others: bool = False) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": choices,
        "additionalProperties": others,
    }


def _state() -> dict[str, Any]:
    what = "Folder for run records and quarantined rows of sources and inner stages"
    uri = text(f"{what}, relative to this file; ${{NAME}} is replaced by an environment variable. Default: .lazypipe")
    settings = mapping(f"{what}.", {"uri": uri, "storage_options": OPTIONS}, ("uri",))
    return either(uri["description"], settings, uri)


def _audit() -> dict[str, Any]:
    modes = choice(
        "required: nothing is published unless it is recorded; recorded: if a record cannot be written, the run's"
        " result says so; off: no records. Default: recorded.",
        ["required", "recorded", "off"],
    )
    settings = mapping(
        "How runs are recorded in the ledger.",
        {
            "mode": modes,
            "ledger": text(
                "Folder of the ledger, relative to this file; several pipelines may share one; ${NAME} is replaced by an "
                "environment variable. Default: <state>/ledger"
            ),
            "key": text(
                "A variable such as ${LEDGER_KEY} with a secret key that signs each record, so that only those "
                "who have it can write records."
            ),
            "actor": text(
                "Who runs it. Default: the environment variable LAZYPIPE_ACTOR, else the user of the machine."
            ),
            "hash": choice(
                "Which files are hashed: local ones, or all; remote files are then read once more. Default: local.",
                ["local", "all"],
            ),
            "storage_options": OPTIONS,
        },
    )
    return either(settings["description"], settings, modes)


def _openlineage() -> dict[str, Any]:
    headers = {
        "description": "Additional HTTP headers, by name; ${NAME} is replaced by an environment variable.",
        "type": "object",
        "additionalProperties": text("The header's value."),
    }
    return some(
        "Where OpenLineage events about runs are sent. An endpoint that cannot be reached never stops a run.",
        {
            "url": text(
                "Address of an OpenLineage endpoint, such as https://marquez:5000; if it has no path, "
                "/api/v1/lineage is added. ${NAME} is replaced by an environment variable."
            ),
            "api_key": text("Key sent as a bearer token, such as ${LINEAGE_KEY}."),
            "headers": headers,
            "namespace": text("Namespace of the job. Default: lazypipe."),
            "file": text(
                "File to which events are appended, one line of JSON each, relative to this file; in an object "
                "store, a folder with one file per event."
            ),
            "spool": text(
                "Local folder where events wait while the endpoint cannot be reached, relative to this file. "
                "Default: openlineage in the state folder."
            ),
            "timeout": number("Seconds that one request may take. Default: 2.", minimum=0.01),
            "attempts": count("How many times in a row to try to send an event. Default: 3."),
        },
    )


def _stage() -> dict[str, Any]:
    return mapping(
        "A named node: inputs, operations, a gate.",
        {
            "from": described(
                INPUTS.schema,
                "The source or stage that the operations start from; further ones can be used by sql and python.",
            ),
            "do": {"description": "Operations, in order.", "type": "array", "items": {"$ref": "#/$defs/operation"}},
            "gate": gate(),
            "description": DESCRIPTION,
        },
        ("from",),
    )


def _param() -> dict[str, Any]:
    return mapping(
        "A value that the caller can set; :name in SQL.",
        {
            "type": choice("Its type. On the command line, a list is written a,b,c or [1, 2].", PARAM_TYPES),
            "default": {"description": "Its value if the caller gives none."},
            "description": DESCRIPTION,
        },
        ("type",),
    )


def build() -> dict[str, Any]:
    """Return the schema, with every operation and rule that is registered."""
    root = mapping(
        "A lazypipe pipeline.",
        {
            "version": {"description": "Version of this format: 1.", "const": 1},
            "name": text("The pipeline's name."),
            "description": DESCRIPTION,
            "params": _named("Values that the caller can set.", "param"),
            "state": _state(),
            "audit": _audit(),
            "openlineage": _openlineage(),
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
            "param": _param(),
            "source": source_schema(),
            "stage": _stage(),
            "output": output_schema(),
            "operation": _one_of(
                "One operation: a mapping with one key, its name.",
                {n: ops.operation_class(n).json_schema() for n in ops.names()},
            ),
            "rule": _one_of(
                "One rule: a mapping with one key, its name.",
                {n: gates.rule_class(n).json_schema() for n in gates.names()},
                others=True,  # those of the user's own are known in Python only
            ),
        },
    }


def published() -> str:
    """Return the text of the published file."""
    return json.dumps(build(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    _here = Path(__file__).parent.parent
    (_here / "pipeline.schema.json").write_text(published(), encoding="utf-8")
    (_here.parent / "docs" / "guide" / "reference.md").write_text(reference(build()), encoding="utf-8")
