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


_DESCRIPTION = _text("What it is for.")
_OPTIONS = _described(
    {"type": "object"},
    "Credentials and settings of the storage, under the names that Polars (aws_access_key_id) or fsspec "
    "(key) uses. ${NAME} is replaced by an environment variable.",
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
        "description": "A type, or a type with how to handle files that differ from it.",
        "type": ["string", "object"],
        "minLength": 1,
        "properties": {
            "type": _text("A type such as Int64, String, Date, Datetime(us, UTC)."),
            "alias": _described(COLUMNS.schema, "Other names that the column may have in files."),
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
        "What to do about a column that is not listed. ignore: take the columns of the first file, which all "
        "files must have; evolve: take the columns of every file, null where a file lacks them; "
        "discard_column: leave them out; discard_row: quarantine rows that have a value in one; freeze or "
        "fail: refuse the file. The columns of NDJSON are found in the first 10,000 lines of each file. A "
        "later line with another field, also inside a struct, is refused, unless such fields are left out. "
        "Default: ignore.",
        ["ignore", *_CHANGES],
    )
    change = (
        "What to do if a column has another type in a file, or a value of CSV or NDJSON does not parse. fail: "
        "refuse the file; evolve: take the narrowest type that holds both without loss; freeze: cast, and "
        "fail if a value does not fit; discard_column: replace values that do not fit with null, counted as "
        "type:<column>; discard_row: quarantine the row, with the original text in _lazypipe_raw. Given for "
        "the whole contract, not for one column, discard_row also quarantines lines that cannot be read (too "
        "many or too few fields, an unclosed quote, not a JSON object), counted as broken_row, with line, "
        "text and reason. Lists and structs of NDJSON must always parse. Default: fail."
    )
    missing = (
        "What to do about a file that lacks a column. fail or freeze: refuse the file; evolve: fill the "
        "column with null; discard_column: fill it with null, counted as missing_column:<column>; "
        "discard_row: quarantine the file's rows. A field missing from a single line of NDJSON is always "
        "null. Default: fail."
    )
    return _object(
        "The schema that the source's files must have, and what to do about files that differ.",
        _contract(new, change, missing),
        ("columns",),
    )


def _output_contract() -> dict[str, Any]:
    new = _choice(
        "What to do about a column of the stage that is neither listed nor in the previous commit. fail or "
        "freeze: refuse the pipeline; evolve: add it; discard_column: leave it out; discard_row: quarantine "
        "rows that have a value in it. Default: fail.",
        _CHANGES,
    )
    change = (
        "What to do if a column has another type than listed, or than in the previous commit. fail: refuse "
        "the pipeline; evolve: take the narrowest type that holds both without loss; freeze: cast, and "
        "publish nothing if a value does not fit; discard_column: replace values that do not fit with null, "
        "counted as type:<column>; discard_row: quarantine the row, with the original value as text in "
        "_lazypipe_raw. Default: fail."
    )
    missing = (
        "What to do if the stage lacks a column that is listed, or in the previous commit. fail or freeze: "
        "refuse the pipeline; evolve: fill it with null; discard_column: fill it with null, counted as "
        "missing_column:<column>; discard_row: quarantine the rows. Default: fail."
    )
    return _some(
        "The schema that readers of the output rely on: the listed columns, and those of the previous commit.",
        _contract(new, change, missing),
    )


def _intake() -> dict[str, Any]:
    """Return the properties of a source that say how deliveries are taken in."""
    expect = _some(
        "What makes a delivery complete; everything given must hold.",
        {
            "files": _count("The exact number of files."),
            "at_least": _count("The smallest number of files."),
            "marker": _text(
                "The name, or a pattern, of a file that appears in a folder, or in one above it, when the folder is "
                "complete, such as _SUCCESS. With {name}, each data file has its own, such as '{name}.done'."
            ),
            "manifest": _text(
                "The name, or a pattern, of a file that lists the data files of its folder and the folders below, "
                "optionally with sizes and checksums (sha256, md5, blake3). It is JSON, JSON lines, CSV with a "
                "header, or the format of sha256sum."
            ),
            "per": _choice(
                "Whether files are counted in the whole source or in each folder. Default: source.",
                ["source", "folder"],
            ),
        },
    )
    return {
        "detect": _choice(
            "How a changed file is recognised. stamp: by its size and modification time; content: by hashing its "
            "content in every run. Default: stamp.",
            ["stamp", "content"],
        ),
        "on_removed": _choice(
            "What to do if a file that was read is gone. delete: remove its rows; ignore: keep them; fail: stop "
            "the run. Default: delete.",
            ["ignore", "delete", "fail"],
        ),
        "on_modified": _choice(
            "What to do if a file that was read has changed. reprocess: replace its rows; ignore: keep the old "
            "rows; fail: stop the run. Default: reprocess.",
            ["reprocess", "fail", "ignore"],
        ),
        "settle": _text(
            "How long a file must have been left unchanged before it is read, such as 90s or 5m. Default: 0s."
        ),
        "expect": expect,
        "on_partial": _choice(
            "What to do about an incomplete delivery. wait: leave it to a later run; fail: stop the run. Default: "
            "wait.",
            ["wait", "fail"],
        ),
    }


def _time() -> dict[str, Any]:
    """Return the properties of a source that say up to which event time it is complete."""
    watermark = _object(
        "How the source's watermark is found: the event time up to which the source is believed complete. By "
        "default it is the latest event time in the files before a file, minus delay. Each row gets the "
        "watermark under which it arrived as a column.",
        {
            "delay": _text(
                "How far rows may be out of order: the watermark trails the latest event time by this much, such as "
                "90s or 2h. Default: 0s."
            ),
            "order": _choice(
                "The order in which files arrived: that of their names, or of their modification times (stamp). "
                "Default: name.",
                ["name", "stamp"],
            ),
            "column": _described(
                COLUMN.schema,
                "A column with the time at which a row arrived; the watermark is then that time minus delay.",
            ),
            "marker": _text(
                "A file, or a glob pattern of several, relative to the definition, that says up to which time the "
                "source is complete: by its content, or by its name, such as done/%Y-%m-%dT%H.ok. The watermark is "
                "the latest such time, minus delay."
            ),
            "commit": _flag(
                "Whether the watermark is taken from the dataset's own commits, which state up to when their sources "
                "were complete. Default: false."
            ),
            "heartbeat": _text(
                "A SQL condition for rows that only tell the time, such as kind = 'ping'. They advance the watermark, "
                "are counted, and go no further."
            ),
            "by": _described(COLUMN.schema, "A column whose values are partitions, each with its own watermark."),
            "as": _described(COLUMN.schema, "The name of the column with each row's watermark. Default: _watermark."),
            "tolerance": _text(
                "How far an event time may lie after its file's modification time (or the time in column). A later "
                "one counts as bad, and does not advance the watermark. Default: 1d."
            ),
            "idle_after": _text(
                "How long a partition or source may stand still, by the clock of the runs, before it is no longer "
                "waited for. Default: it is always waited for."
            ),
        },
    )
    return {
        "watermark": watermark,
        "on_bad_time": _choice(
            "What to do about a row whose event time is null or too far in the future (see tolerance). Default: keep.",
            ["fail", "quarantine", "drop", "keep"],
        ),
    }


def _audit() -> dict[str, Any]:
    modes = _choice(
        "required: nothing is published without a record in the ledger; recorded: if a record cannot be "
        "written, the run's result says so; off: no records. Default: recorded.",
        ["required", "recorded", "off"],
    )
    settings = _object(
        "What is recorded of each run, where, and under whose name.",
        {
            "mode": modes,
            "ledger": _text(
                "The folder of the ledger, relative to the definition; pipelines may share one. Default: <state>/ledger"
            ),
            "key": _text(
                "An environment variable such as ${LEDGER_KEY}, whose value signs each record; without it, nobody can "
                "write a valid one."
            ),
            "actor": _text(
                "Who runs the pipeline. Default: the environment variable LAZYPIPE_ACTOR, else the name of the user."
            ),
            "hash": _choice(
                "Which files are hashed: those on this machine (local), or all; remote files are read once more for "
                "it. Default: local.",
                ["local", "all"],
            ),
        },
    )
    return _either(settings["description"], settings, modes)


def _openlineage() -> dict[str, Any]:
    headers = {
        "description": "Further HTTP headers, by name. ${NAME} is replaced by an environment variable.",
        "type": "object",
        "additionalProperties": _text("The header's value."),
    }
    return _some(
        "Where OpenLineage events about runs are sent. An endpoint that cannot be reached never stops a run.",
        {
            "url": _text(
                "The address of an OpenLineage endpoint such as https://marquez:5000. If it has no path, "
                "/api/v1/lineage is added. ${NAME} is replaced by an environment variable."
            ),
            "api_key": _text("The key to send as a bearer token, such as ${LINEAGE_KEY}."),
            "headers": headers,
            "namespace": _text("The namespace of the job. Default: lazypipe."),
            "file": _text(
                "The file to append events to, one line of JSON each, relative to the definition. In an object store, "
                "a folder with a file per event."
            ),
            "spool": _text(
                "The local folder where events wait while the endpoint cannot be reached, relative to the definition. "
                "Default: openlineage in the state folder."
            ),
            "timeout": _number("The timeout of a request, in seconds. Default: 2.", minimum=0.01),
            "attempts": _count("The number of attempts to send an event in one go. Default: 3."),
        },
    )


def _workload() -> dict[str, Any]:
    """Return what an output says of those who read it."""
    query = _object(
        "A query, and how often it is run.",
        {
            "sql": _text("A SELECT over the output, by its name or as self."),
            "weight": _number("How often it is run, relative to the others. Default: 1.", minimum=0.001),
            "selectivity": _number(
                "The fraction of rows that pass its filters, if known: between 0 and 1.",
                minimum=0.001,
                maximum=1,
            ),
        },
        ("sql",),
    )
    sql = _text("A SELECT over the output, by its name or as self.")
    return _some(
        "How the output is queried, besides by this pipeline. The layout of its files is chosen for these queries.",
        {
            "access": _choice("The main way in which it is read. Default: that of most queries.", ACCESS),
            "queries": {
                "description": "The queries, as SQL.",
                "type": "array",
                "minItems": 1,
                "items": {"if": {"type": "object"}, "then": query, "else": sql},
            },
        },
    )


def _panes() -> dict[str, Any]:
    """Return how an output tells what becomes of its windows."""
    mode = _choice(
        "What to publish about a window that changes. accumulate: its new row; discard: what to add to the "
        "previous panes; retract: its old row with weight -1 and its new row with weight 1.",
        ["accumulate", "discard", "retract"],
    )
    said = _object(
        "How changes of windows are published, in a dataset next to the output, with __panes added to its name.",
        {
            "mode": mode,
            "weight": _text("With retract, the name of the column with -1 and 1. Default: _weight."),
            "index": _text("The name of a column with the number of the pane, from 0 for each window. Default: none."),
            "timing": _text(
                "The name of a column that says early, on_time or late: before, when or after the watermark passed "
                "the window's end. Default: none."
            ),
        },
        ("mode",),
    )
    return _either(said["description"], said, mode)


def _maintenance() -> dict[str, Any]:
    """Return what an output says of when its files are to be written anew."""
    return _some(
        "Maintenance of the output's files, done by a run after it has published.",
        {
            "small_files": _count(
                "Joins the small files of a partition once more than this many are below half the target size."
            ),
            "dead_rows": _number(
                "Rewrites files without their dead rows (deleted, but still stored) once these are more than this "
                "fraction of all rows, between 0 and 1.",
                minimum=0.001,
                maximum=1,
            ),
            "overlap": _number(
                "Sorts a partition again once more than this many of its files, on average, hold the same values of "
                "the columns that the layout sorts by.",
                minimum=1,
            ),
            "keep": _count("The number of versions to keep; files that only older versions use are deleted."),
        },
    )


def _gate() -> dict[str, Any]:
    """Return what a gate may be: rules, or rules with what they do by default."""
    rules: dict[str, Any] = {
        "description": "Rules to check the rows with.",
        "type": "array",
        "items": {"$ref": "#/$defs/rule"},
    }
    action = _choice(
        "What a violation does if its rule has no action. Default: fail.", ["fail", "quarantine", "drop", "warn"]
    )
    with_action = _object("Rules, and their default action.", {"action": action, "rules": rules}, ("rules",))
    return _either(rules["description"], with_action, rules)


def _read() -> dict[str, Any]:
    """Return how text files are read."""
    return _object(
        "How to read text files.",
        {
            "separator": _text("The field separator of CSV. Default: a comma."),
            "quote": _described(
                {"type": "string"}, "The quote character of CSV; empty for none. Default: a double quote."
            ),
            "header": _flag("Whether the first row of CSV holds the column names. Default: true."),
            "null_values": _described(
                {"type": "array", "items": {"type": "string"}}, "Texts that stand for null, besides an empty field."
            ),
            "comment": _text("The text with which comment lines start; they are skipped."),
            "skip_rows": _count("The number of lines to skip before the header.", minimum=0),
            "decimal_comma": _flag(
                "Whether decimals are written 1,5. A number with a point then does not parse, unless the point is the "
                "thousands separator."
            ),
            "thousands": _choice(
                "The thousands separator in numbers of declared columns, as in 1.234,50, 1,234.5, 1'234 or 1 234. "
                "Default: none; such numbers do not parse.",
                [".", ",", "'", " ", "_"],
            ),
            "parse_dates": _flag(
                "Whether undeclared columns that look like dates or times are parsed as such. Default: true."
            ),
        },
    )


def _source() -> dict[str, Any]:
    column = _object(
        "Tags and a description of a column.",
        {
            "tags": {"description": "Tags, such as pii.", "type": "array", "items": _TEXT},
            "description": _DESCRIPTION,
        },
    )
    return _object(
        "Where rows come from.",
        {
            "uri": _described(
                {"type": ["string", "array"], "items": _TEXT, "minLength": 1, "minItems": 1},
                "A path, URI or glob pattern, or a list of these, relative to the definition. ${NAME} is replaced by "
                "an environment variable.",
            ),
            "format": _choice(
                "The format of the files. dataset is a table written by lazypipe, delta any Delta Lake table. "
                "Default: found from the file names, or from the log in the folder.",
                [*FORMATS, "dataset", "delta"],
            ),
            "version": _count("The version of a Delta table to read. Default: the latest.", minimum=0),
            "read": _read(),
            "storage_options": _OPTIONS,
            "event_time": _described(
                COLUMN.schema, "The column with the event time: when what a row describes happened."
            ),
            "key": _described(COLUMNS.schema, "The columns that identify a row."),
            "contract": _source_contract(),
            "columns": {
                "description": "Tags and descriptions of columns.",
                "type": "object",
                "additionalProperties": column,
            },
            "gate": _gate(),
            "on_corrupt": _choice(
                "What to do about a file that cannot be decoded (truncated, a broken footer, invalid gzip, a broken "
                "row or line that the contract does not discard). fail: stop the run; skip: leave out the whole file, "
                "say so in the run's result, and try it again in the next run; quarantine_file: leave it out, record "
                "it in the state folder, and do not try it again until it is delivered again. Default: fail.",
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
                "The source or stage that the operations start from. Further names are inputs for sql and python.",
            ),
            "do": {"description": "The operations, in order.", "type": "array", "items": {"$ref": "#/$defs/operation"}},
            "gate": _gate(),
            "description": _DESCRIPTION,
        },
        ("from",),
    )


def _output() -> dict[str, Any]:
    return _object(
        "Where a stage's rows go.",
        {
            "from": _text("The stage (or source) to write. Default: the one with the output's name."),
            "to": _text("The folder of the dataset, or the file to export, relative to the definition."),
            "format": _choice(
                "dataset (a folder of Parquet files with a commit log), delta (a dataset that is also a Delta Lake "
                "table), or the format of one exported file. Default: found from the ending of to, such as .csv or "
                ".parquet; dataset if it has none.",
                ["dataset", "delta", *FORMATS],
            ),
            "mode": _choice(
                "How the stage's rows change the output. replace: they become the output. append: rows from new input "
                "are added. upsert: a row replaces the one with the same key. delete: rows with the same keys are "
                "removed. scd2: every version of a key's row is kept, with valid_from, valid_to and is_current. "
                "snapshot: the rows of each run are kept, with snapshot_at. replace_partitions: only the partitions "
                "that occur are replaced. Default: replace.",
                [*MODES],
            ),
            "partition_by": _described(COLUMNS.schema, "The columns whose values become folders."),
            "key": _described(COLUMNS.schema, "The columns that identify a row."),
            "order_by": _described(
                COLUMNS.schema,
                "With upsert, the columns that decide which of several rows with the same key is the latest.",
            ),
            "event_time": _text(
                "The column with the time from which a row is valid: its valid_from with scd2, its order with upsert."
            ),
            "deleted_when": _text(
                "A SQL condition for rows that are deletions: such a row removes its key (upsert), or ends the "
                "current version of it (scd2)."
            ),
            "deletes": _choice(
                "With scd2, what to do about keys that the stage no longer has. close: end their versions, for "
                "sources that always hold everything; ignore: leave them. Default: ignore.",
                ["ignore", "close"],
            ),
            "keep": _count("With snapshot, the number of snapshots to keep. Default: all."),
            "changes": _flag(
                "Whether to write the rows that each version inserted, updated and deleted to a dataset next to the "
                "output, with __changes added to its name. Default: false."
            ),
            "panes": _panes(),
            "optimize": _choice(
                "What the layout of the files should favour. The layout is chosen from the rows once, and then kept.",
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
        "A parameter: a value that the caller can set, used as :name in SQL.",
        {
            "type": _choice("The type of the value.", PARAM_TYPES),
            "default": {"description": "The value if the caller gives none."},
            "description": _DESCRIPTION,
        },
        ("type",),
    )


def build() -> dict[str, Any]:
    """Return the schema, with every operation and rule that is registered."""
    root = _object(
        "A lazypipe pipeline.",
        {
            "version": {"description": "The version of this format: 1.", "const": 1},
            "name": _text("The pipeline's name."),
            "description": _DESCRIPTION,
            "params": _named("Parameters: values that the caller can set, used as :name in SQL.", "param"),
            "state": _text(
                "The folder for run records, and for quarantined rows of sources and of stages that are not outputs. "
                "Default: .lazypipe"
            ),
            "audit": _audit(),
            "openlineage": _openlineage(),
            "sources": _named("Where rows come from.", "source"),
            "stages": _named("What is done with the rows.", "stage"),
            "outputs": _named("Where the rows go.", "output"),
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
