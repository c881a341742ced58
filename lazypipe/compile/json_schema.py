"""The JSON Schema of a definition, made from the registries; published as ``lazypipe/pipeline.schema.json``.

``python -m lazypipe.compile.json_schema`` writes the file again; a test holds the two equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lazypipe import gates, ops
from lazypipe.compile.outputs.modes import MODES
from lazypipe.compile.reference import reference
from lazypipe.spec.arguments import COLUMN, COLUMNS, INPUTS
from lazypipe.spec.model import PARAM_TYPES
from lazypipe.storage.formats import FORMATS
from lazypipe.storage.optimizer.workload import ACCESS

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


def _text(description: str) -> dict[str, Any]:
    return _described(_TEXT, description)


def _flag(description: str) -> dict[str, Any]:
    return {"description": description, "type": "boolean"}


def _choice(description: str, values: Iterable[str]) -> dict[str, Any]:
    return {"description": description, "enum": [*values]}


def _count(description: str, minimum: int = 1) -> dict[str, Any]:
    return {"description": description, "type": "integer", "minimum": minimum}


def _number(description: str, **limits: float) -> dict[str, Any]:
    return {"description": description, "type": "number", **limits}


def _some(description: str, properties: dict[str, Any]) -> dict[str, Any]:
    """Return an object of which at least one property is given."""
    return _object(description, properties) | {"minProperties": 1}


def _either(description: str, settings: dict[str, Any], short: dict[str, Any]) -> dict[str, Any]:
    """Return what may be an object with settings, or something shorter; whoever began an object is told what is wrong with that."""
    return {"description": description, "if": {"type": "object"}, "then": settings, "else": short}


_DESCRIPTION = _text("What it is for, in words.")
_OPTIONS = _described(
    {"type": "object"},
    "Credentials and settings of the storage, by the names of Polars (aws_access_key_id) or of fsspec (key); ${NAME} takes an environment variable.",
)


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


_CHANGES = ("fail", "evolve", "freeze", "discard_column", "discard_row")


def _contract(new: dict[str, Any], change: str, missing: str) -> dict[str, Any]:
    """Return the properties of a contract, with what ``on_type_change`` and ``on_missing_column`` mean there."""
    words = {
        "on_type_change": _choice(change, _CHANGES),
        "on_missing_column": _choice(missing, _CHANGES),
    }
    declared = {
        "description": "A type, or a type with what to do about differences.",
        "type": ["string", "object"],
        "minLength": 1,
        "properties": {
            "type": _text("A type such as Int64, String, Date, Datetime(us, UTC)."),
            "alias": _described(COLUMNS.schema, "Other names that the column may come by."),
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


def _source_contract() -> dict[str, Any]:
    new = _choice(
        "What to do about a column that is not listed. ignore: take those of the first file, which all files "
        "must have; evolve: take those of any file, null where a file lacks them; discard_column: leave them out; "
        "discard_row: quarantine rows that have a value in one; freeze or fail: refuse the file. NDJSON is judged by the first "
        "10,000 lines of each file: a field, also of a struct, that no column takes is refused by its line, unless they are left out. "
        "Default: ignore.",
        ["ignore", *_CHANGES],
    )
    change = (
        "What to do where a column has another type in a file, or a cell of CSV or NDJSON does not parse. fail: "
        "refuse the file; evolve: take the narrowest type that holds both without loss; freeze: cast, and fail where a value "
        "does not fit; discard_column: make what does not fit null, counted as type:<column>; discard_row: quarantine the row, "
        "with what stood there as text in _lazypipe_raw; said of the contract, not of a column, it also quarantines rows of text "
        "that cannot be read (too many or too few fields, a quote that is not closed, a line that is no JSON object), counted as broken_row, "
        "with line, text and reason. Lists and structs of NDJSON must parse in any case. Default: fail."
    )
    missing = (
        "What to do about a file that lacks a column. fail or freeze: refuse the file; evolve: it is null there; "
        "discard_column: it is null there, counted as missing_column:<column>; discard_row: quarantine the file's rows. A key "
        "that a line of NDJSON lacks is null in any case. Default: fail."
    )
    return _object("What the source must look like.", _contract(new, change, missing), ("columns",))


def _output_contract() -> dict[str, Any]:
    new = _choice(
        "What to do about a column of the stage that is neither listed nor in the commit before. fail or freeze: "
        "refuse the pipeline; evolve: take it; discard_column: leave it out; discard_row: quarantine rows that have a value "
        "in it. Default: fail.",
        _CHANGES,
    )
    change = (
        "What to do where a column has another type than is listed, or than it has in the commit before. fail: refuse the "
        "pipeline; evolve: take the narrowest type that holds both without loss; freeze: cast, and publish nothing where a "
        "value does not fit; discard_column: make what does not fit null, counted as type:<column>; discard_row: quarantine "
        "the row, with what stood there as text in _lazypipe_raw. Default: fail."
    )
    missing = (
        "What to do where the stage lacks a column that is listed, or in the commit before. fail or freeze: refuse the "
        "pipeline; evolve: it is null; discard_column: it is null, counted as missing_column:<column>; discard_row: "
        "quarantine the rows. Default: fail."
    )
    return _some(
        "What readers of the output rely on: the columns listed, and those of the commit before.",
        _contract(new, change, missing),
    )


def _intake() -> dict[str, Any]:
    """Return the properties of a source that say how deliveries are taken in."""
    expect = _some(
        "What makes a delivery whole; all that is said must hold.",
        {
            "files": _count("How many files there are."),
            "at_least": _count("How many files there are at the least."),
            "marker": _text(
                "Name, or pattern, of a file that stands in a folder, or in one above it, when the folder is whole, such as "
                "_SUCCESS; with {name} in it each data file has its own, such as '{name}.done'."
            ),
            "manifest": _text(
                "Name, or pattern, of a file that lists the data files of its folder and those below, with sizes and checksums "
                "(sha256, md5, blake3) where it has them: JSON, JSON lines, CSV with a header, or as sha256sum writes it."
            ),
            "per": _choice(
                "Whether files are counted in the whole source or in each folder. Default: source.",
                ["source", "folder"],
            ),
        },
    )
    return {
        "detect": _choice(
            "Whether a file with the size and stamp it had is taken for unchanged, or its content is hashed in "
            "every run. Default: stamp.",
            ["stamp", "content"],
        ),
        "on_removed": _choice(
            "What to do about a file that was read and is gone. delete: its rows go; ignore: they stay; fail stops "
            "the run. Default: delete.",
            ["ignore", "delete", "fail"],
        ),
        "on_modified": _choice(
            "What to do about a file that was read and has other content. reprocess: its rows are made anew; "
            "ignore: they stay as they were; fail stops the run. Default: reprocess; for outputs with mode: append, fail.",
            ["reprocess", "fail", "ignore"],
        ),
        "settle": _text(
            "How long a file must not have been written to before it is read, such as 90s or 5m. Default: 0s."
        ),
        "expect": expect,
        "on_partial": _choice(
            "What to do about a delivery that is not whole. wait: leave it for a later run; fail stops the run. "
            "Default: wait.",
            ["wait", "fail"],
        ),
    }


def _time() -> dict[str, Any]:
    """Return the properties of a source that say up to which event time it is complete."""
    watermark = _object(
        "How it is known up to which event time the source is complete: the latest event time of the files ahead of a file, less "
        "a delay, or what a column states. Each row gets the watermark that it came under as a column.",
        {
            "delay": _text("How much later than the latest rows others may come, such as 90s or 2h. Default: 0s."),
            "order": _choice(
                "The order in which files came: that of their names, or of their stamps. Default: name.",
                ["name", "stamp"],
            ),
            "column": _described(
                COLUMN.schema,
                "A column with the time at which a row came; the watermark then is that time less the delay.",
            ),
            "marker": _text(
                "A file beside the data, or a glob of several, relative to this file, that says how far the source is: by the "
                "time that stands in it, or by its name, as done/%Y-%m-%dT%H.ok. The watermark is the latest of them, less the delay."
            ),
            "commit": _flag(
                "Whether the dataset's own commits say it: up to where what it is made of is complete. Default: false."
            ),
            "heartbeat": _text(
                "A condition in SQL for rows that tell the time and nothing else, such as kind = 'ping': they move the watermark, "
                "are counted, and go no further."
            ),
            "by": _described(COLUMN.schema, "A column whose values are partitions, each with a watermark of its own."),
            "as": _described(COLUMN.schema, "The name of the column with the watermark. Default: _watermark."),
            "tolerance": _text(
                "How far after its file (or column) an event time may lie; one beyond that is no time, and moves nothing. "
                "Default: 1d."
            ),
            "idle_after": _text(
                "A partition that stood still for so long, by the clock of the runs, is not waited for. Default: it is waited for."
            ),
        },
    )
    return {
        "watermark": watermark,
        "on_bad_time": _choice(
            "What to do about a row whose event time is null or too far ahead. Default: keep.",
            ["fail", "quarantine", "drop", "keep"],
        ),
    }


def _audit() -> dict[str, Any]:
    modes = _choice(
        "required: nothing is published that the ledger does not know of; recorded: a record that cannot be "
        "written is told in the run's result; off: no records. Default: recorded.",
        ["required", "recorded", "off"],
    )
    settings = _object(
        "What is written down of each run, where, and by whom.",
        {
            "mode": modes,
            "ledger": _text(
                "Folder of the ledger, which many pipelines may share; relative to this file. Default: <state>/ledger"
            ),
            "key": _text(
                "A variable such as ${LEDGER_KEY} whose value signs each record, so that only who has it can write one."
            ),
            "actor": _text(
                "Who runs it. Default: the environment variable LAZYPIPE_ACTOR, else the user of the machine."
            ),
            "hash": _choice(
                "Of which files the content is hashed: those of this machine (local), or all, which reads remote "
                "ones once more. Default: local.",
                ["local", "all"],
            ),
        },
    )
    return _either(settings["description"], settings, modes)


def _openlineage() -> dict[str, Any]:
    headers = {
        "description": "Further headers of requests, by name; ${NAME} takes an environment variable.",
        "type": "object",
        "additionalProperties": _text("The header's value."),
    }
    return _some(
        "Where OpenLineage events about runs go; an endpoint that is away never stops a run.",
        {
            "url": _text(
                "Address of an OpenLineage endpoint such as https://marquez:5000, to which /api/v1/lineage is added if it has no "
                "path; ${NAME} takes an environment variable."
            ),
            "api_key": _text("Key sent as a bearer token, such as ${LINEAGE_KEY}."),
            "headers": headers,
            "namespace": _text("Namespace of the job. Default: lazypipe."),
            "file": _text(
                "File that events are appended to, one line of JSON each, relative to this file; in an object store, a folder "
                "with a file per event."
            ),
            "spool": _text(
                "Local folder where events wait while the endpoint is away, relative to this file. Default: openlineage in the "
                "state folder."
            ),
            "timeout": _number("Seconds that one request may take. Default: 2.", minimum=0.01),
            "attempts": _count("How often sending an event is tried in a row. Default: 3."),
        },
    )


def _workload() -> dict[str, Any]:
    """Return what an output says of those who read it."""
    query = _object(
        "A query, and how often it is asked.",
        {
            "sql": _text("A SELECT over the output, by its name or as self."),
            "weight": _number("How often it is asked, next to the others. Default: 1.", minimum=0.001),
            "selectivity": _number(
                "Which part of the rows goes through its filters, if that is known: between 0 and 1.",
                minimum=0.001,
                maximum=1,
            ),
        },
        ("sql",),
    )
    sql = _text("A SELECT over the output, by its name or as self.")
    return _some(
        "What readers ask of the output, besides what this pipeline does: the layout is chosen for it.",
        {
            "access": _choice("How it is used on the whole. Default: as most queries do.", ACCESS),
            "queries": {
                "description": "What is asked, as SQL.",
                "type": "array",
                "minItems": 1,
                "items": {"if": {"type": "object"}, "then": query, "else": sql},
            },
        },
    )


def _panes() -> dict[str, Any]:
    """Return how an output tells what becomes of its windows."""
    mode = _choice(
        "What is told of a window that changes, in a dataset beside the output, named with __panes. accumulate: its new "
        "row. discard: what is to be added to what was told before. retract: its old row and its new one, with -1 and 1 as weight.",
        ["accumulate", "discard", "retract"],
    )
    said = _object(
        "How what becomes of windows is told, in a dataset beside the output, named with __panes.",
        {
            "mode": mode,
            "weight": _text("With retract: the column with -1 and 1. Default: _weight."),
            "index": _text("A column for the number of the pane, from 0 for each window. Default: none."),
            "timing": _text(
                "A column that says early, on_time or late: before, when or after the watermark passed the window's end. Default: none."
            ),
        },
        ("mode",),
    )
    return _either(said["description"], said, mode)


def _maintenance() -> dict[str, Any]:
    """Return what an output says of when its files are to be written anew."""
    return _some(
        "What a run mends of the output's files once it has published.",
        {
            "small_files": _count(
                "Files of a partition may be smaller than half of their target, up to this number; then they are joined."
            ),
            "dead_rows": _number(
                "Which part of the rows in its files may be dead, between 0 and 1; then they are written anew.",
                minimum=0.001,
                maximum=1,
            ),
            "overlap": _number(
                "How many files of a partition may hold the same values of what its layout orders rows by, on average; then they are put in order.",
                minimum=1,
            ),
            "keep": _count("How many versions are kept; files of older ones are deleted."),
        },
    )


def _gate() -> dict[str, Any]:
    """Return what a gate may be: rules, or rules with what they do by default."""
    rules: dict[str, Any] = {"description": "Rules on the rows.", "type": "array", "items": {"$ref": "#/$defs/rule"}}
    action = _choice(
        "What a violation does where its rule does not say. Default: fail.", ["fail", "quarantine", "drop", "warn"]
    )
    with_action = _object("Rules, and what they do by default.", {"action": action, "rules": rules}, ("rules",))
    return _either(rules["description"], with_action, rules)


def _read() -> dict[str, Any]:
    """Return how text files are read."""
    return _object(
        "How to read text files.",
        {
            "separator": _text("Field separator of CSV. Default: a comma."),
            "quote": _described({"type": "string"}, "Quote character of CSV; empty for none. Default: a double quote."),
            "header": _flag("Whether the first CSV row holds names. Default: true."),
            "null_values": _described(
                {"type": "array", "items": {"type": "string"}}, "Texts that mean null, besides an empty field."
            ),
            "comment": _text("Lines that start with this are passed over."),
            "skip_rows": _count("Lines before the header to pass over.", minimum=0),
            "decimal_comma": _flag(
                "Whether decimals are written 1,5. A number with a point does not fit then, unless thousands says what it is."
            ),
            "thousands": _choice(
                "The mark between thousands in numbers of columns that are declared as such: 1.234,50, 1,234.5, 1'234, 1 234. Default: none; such numbers do not fit.",
                [".", ",", "'", " ", "_"],
            ),
            "parse_dates": _flag(
                "Whether undeclared columns that look like dates and times become such. Default: true."
            ),
        },
    )


def _source() -> dict[str, Any]:
    column = _object(
        "What is known about a column.",
        {
            "tags": {"description": "Words such as pii.", "type": "array", "items": _TEXT},
            "description": _DESCRIPTION,
        },
    )
    return _object(
        "Where rows come from.",
        {
            "uri": _described(
                {"type": ["string", "array"], "items": _TEXT, "minLength": 1, "minItems": 1},
                "Path, URI or glob pattern, or a list of them, relative to this file; ${NAME} takes an environment variable.",
            ),
            "format": _choice(
                "Format of the files; dataset is a table that lazypipe writes, delta a Delta Lake table of anyone. "
                "Default: by their names, or by the log in the folder.",
                [*FORMATS, "dataset", "delta"],
            ),
            "version": _count("Which version of a Delta table is read. Default: the last one.", minimum=0),
            "read": _read(),
            "storage_options": _OPTIONS,
            "event_time": _described(COLUMN.schema, "The column that says when a row happened."),
            "key": _described(COLUMNS.schema, "The columns that identify a row."),
            "contract": _source_contract(),
            "columns": {
                "description": "What is known about columns.",
                "type": "object",
                "additionalProperties": column,
            },
            "gate": _gate(),
            "on_corrupt": _choice(
                "What to do about a file that cannot be decoded (truncated, a garbage footer, wrong gzip, a broken "
                "row or line that the contract does not discard): fail stops the run; skip leaves the whole file out, says so in the run's result, and tries it "
                "again in the next run; quarantine_file also records it below state, and does not try it again until it is "
                "delivered anew. Default: fail.",
                ["fail", "quarantine_file", "skip"],
            ),
            **_intake(),
            **_time(),
            "description": _DESCRIPTION,
        },
        ("uri",),
    )


def _stage() -> dict[str, Any]:
    return _object(
        "A named node: inputs, operations, a gate.",
        {
            "from": _described(
                INPUTS.schema,
                "The source or stage that the operations start from; further names can be read by sql and python.",
            ),
            "do": {"description": "Operations, in order.", "type": "array", "items": {"$ref": "#/$defs/operation"}},
            "gate": _gate(),
            "description": _DESCRIPTION,
        },
        ("from",),
    )


def _output() -> dict[str, Any]:
    return _object(
        "Where a stage's rows go.",
        {
            "from": _text("The stage (or source). Default: the output's own name."),
            "to": _text("Folder of the dataset, or file of the export, relative to this file."),
            "format": _choice(
                "dataset (a folder of Parquet files with a commit log), delta (a dataset that is a Delta Lake table "
                "too) or one exported file. Default: by the ending of to, such as .csv or .parquet; dataset where it has none.",
                ["dataset", "delta", *FORMATS],
            ),
            "mode": _choice(
                "What becomes of the rows before. replace: the output is what the stage gives. append: rows of new input "
                "are added. upsert: rows replace those with the same key. delete: rows whose key comes are removed. scd2: each "
                "version of a key's row is kept, with valid_from, valid_to and is_current. snapshot: each run's rows are kept, with "
                "snapshot_at. replace_partitions: only partitions that come are replaced. Default: replace.",
                [*MODES],
            ),
            "partition_by": _described(COLUMNS.schema, "Columns whose values become folders."),
            "key": _described(COLUMNS.schema, "The columns that identify a row."),
            "order_by": _described(
                COLUMNS.schema, "With upsert: the columns by which the latest of several rows with one key is known."
            ),
            "event_time": _text(
                "The column that says since when a row is so: with scd2 its valid_from, with upsert its order."
            ),
            "deleted_when": _text(
                "A SQL condition; a row for which it is true removes its key (upsert), or ends its version (scd2)."
            ),
            "deletes": _choice(
                "With scd2: close ends the versions of keys that the stage no longer has, for a source that always "
                "holds everything. Default: ignore.",
                ["ignore", "close"],
            ),
            "keep": _count("With snapshot: how many are kept. Default: all."),
            "changes": _flag(
                "Whether what each version inserted, updated and deleted is written to a dataset beside it, "
                "named with __changes. Default: false."
            ),
            "panes": _panes(),
            "optimize": _choice(
                "What the layout of the files should favour; it is chosen from the rows, once, and kept.",
                ["storage", "balanced", "read", "write"],
            ),
            "workload": _workload(),
            "maintain": _maintenance(),
            "storage_options": _OPTIONS,
            "contract": _output_contract(),
            "description": _DESCRIPTION,
        },
        ("to",),
    )


def _param() -> dict[str, Any]:
    return _object(
        "A value that the caller can set; :name in SQL.",
        {
            "type": _choice("Its type.", PARAM_TYPES),
            "default": {"description": "Its value if the caller gives none."},
            "description": _DESCRIPTION,
        },
        ("type",),
    )


def build() -> dict[str, Any]:
    """Return the schema, with every operation and rule that is registered."""
    root = _object(
        "A lazypipe pipeline.",
        {
            "version": {"description": "Version of this format: 1.", "const": 1},
            "name": _text("The pipeline's name."),
            "description": _DESCRIPTION,
            "params": _named("Values that the caller can set.", "param"),
            "state": _text(
                "Folder for run records and quarantined rows of sources and inner stages. Default: .lazypipe"
            ),
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
            "source": _source(),
            "stage": _stage(),
            "output": _output(),
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


def text() -> str:
    """Return the schema as the file holds it."""
    return json.dumps(build(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    _here = Path(__file__).parent.parent
    (_here / "pipeline.schema.json").write_text(text(), encoding="utf-8")
    (_here.parent / "docs" / "guide" / "reference.md").write_text(reference(build()), encoding="utf-8")
