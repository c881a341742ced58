"""The keys of a source, as the JSON Schema describes them."""

from __future__ import annotations

from typing import Any

from lazypipe.spec.arguments import COLUMN, COLUMNS
from lazypipe.spec.schema_parts import (
    CHANGES,
    DESCRIPTION,
    OPTIONS,
    TEXT,
    choice,
    contract,
    count,
    described,
    flag,
    gate,
    mapping,
    some,
    text,
)
from lazypipe.storage.formats import FORMATS

__all__ = ["source_schema"]


def _contract() -> dict[str, Any]:
    new = choice(
        "What to do about columns that are not listed. ignore: take those of the first file; all files must have "
        "them; evolve: take those of any file, null where a file lacks them; discard_column: leave them out; "
        "discard_row: quarantine rows that have a value in one; freeze or fail: refuse the file. In NDJSON, the "
        "first 10,000 lines of each file decide which columns there are; a later line with another field (also "
        "within a struct) is refused, unless such columns are left out. Default: ignore.",
        ["ignore", *CHANGES],
    )
    change = (
        "What to do if a column has another type in a file, or if a value in CSV or NDJSON cannot be parsed. "
        "fail: refuse the file; evolve: use the narrowest type that holds both without loss; freeze: cast, and "
        "fail if a value does not fit; discard_column: replace values that do not fit by null, counted as "
        "type:<column>; discard_row: quarantine the row, with the original text in _lazypipe_raw. If it is given "
        "for the whole contract and not for one column, discard_row also quarantines text rows that cannot be "
        "read at all (too many or too few fields, an unclosed quote, a line that is not a JSON object), counted "
        "as broken_row, with line, text and reason. Lists and structs in NDJSON must always parse. Default: fail."
    )
    missing = (
        "What to do if a file lacks a column. fail or freeze: refuse the file; evolve: use null; discard_column: "
        "use null, counted as missing_column:<column>; discard_row: quarantine the file's rows. A key that is "
        "missing in a line of NDJSON is always null. Default: fail."
    )
    return mapping("What the source must look like.", contract(new, change, missing), ("columns",))


def _intake() -> dict[str, Any]:
    """Return the keys that say which files are read, and when a delivery is complete."""
    expect = some(
        "When a delivery is complete; all conditions must hold.",
        {
            "files": count("The exact number of files."),
            "at_least": count("The minimum number of files."),
            "marker": text(
                "Name or pattern of a file, such as _SUCCESS, that appears in a folder, or in one above it, when "
                "the folder is complete. With {name} in it, each data file has its own marker, such as "
                "'{name}.done'."
            ),
            "manifest": text(
                "Name or pattern of a file that lists the data files of its folder and the folders below, "
                "optionally with sizes and checksums (sha256, md5, blake3). Formats: JSON, JSON lines, CSV with a"
                " header, or that of sha256sum."
            ),
            "per": choice(
                "Whether files are counted in the whole source or in each folder. Default: source.",
                ["source", "folder"],
            ),
        },
    )
    return {
        "detect": choice(
            "How changed files are detected. stamp: by size and modification time (or ETag); content: every file "
            "is hashed in every run. Default: stamp.",
            ["stamp", "content"],
        ),
        "on_removed": choice(
            "What to do about a file that was read and has been removed. delete: remove its rows; ignore: keep "
            "them; fail: stop the run. Default: delete.",
            ["ignore", "delete", "fail"],
        ),
        "on_modified": choice(
            "What to do about a file that was read and has changed. reprocess: recompute its rows; ignore: keep "
            "them as they were; fail: stop the run. Default: reprocess; for outputs with mode: append, fail.",
            ["reprocess", "fail", "ignore"],
        ),
        "settle": text(
            "Read a file only when it has not been written to for this long, such as 90s or 5m. Default: 0s."
        ),
        "expect": expect,
        "on_partial": choice(
            "What to do about an incomplete delivery. wait: leave it for a later run; fail: stop the run. "
            "Default: wait.",
            ["wait", "fail"],
        ),
    }


def _time() -> dict[str, Any]:
    """Return the keys about event time: the watermark, and rows whose time is invalid."""
    watermark = mapping(
        "The watermark: up to which event time the source is complete. By default, it is the latest event time in"
        " earlier files, minus a delay. Each row gets the watermark under which it came, as a column.",
        {
            "delay": text(
                "How far behind the latest event time rows may still arrive, such as 90s or 2h. Default: 0s."
            ),
            "order": choice(
                "The order of files: by name, or by modification time (stamp). Default: name.",
                ["name", "stamp"],
            ),
            "column": described(
                COLUMN.schema,
                "A column with the arrival time of each row; the watermark is then this time minus the delay.",
            ),
            "marker": text(
                "A file (or a glob of several), relative to this file, that gives the time up to which the source"
                " is complete, either in its content or in its name, such as done/%Y-%m-%dT%H.ok. The watermark "
                "is the latest such time minus the delay."
            ),
            "commit": flag(
                "Whether to use the watermark stored in the dataset's commits by the pipeline that writes it. "
                "Default: false."
            ),
            "heartbeat": text(
                "A SQL condition for rows that only tell the time, such as kind = 'ping'. They advance the "
                "watermark, are counted, and are then removed."
            ),
            "by": described(
                COLUMN.schema, ("A column that divides the source into partitions, each with its own watermark.")
            ),
            "as": described(COLUMN.schema, "The name of the column with the watermark. Default: _watermark."),
            "tolerance": text(
                "How far an event time may be after its file was written (or after the arrival column). A later "
                "one is invalid and does not advance the watermark. Default: 1d."
            ),
            "idle_after": text(
                "A partition without progress for this long, by the runs' clock, no longer holds back the "
                "watermark. Default: never."
            ),
        },
    )
    return {
        "watermark": watermark,
        "on_bad_time": choice(
            "What to do about a row whose event time is null or too far in the future. Default: keep.",
            ["fail", "quarantine", "drop", "keep"],
        ),
    }


def _read() -> dict[str, Any]:
    """Return ``read``: how CSV files are read."""
    return mapping(
        "How to read CSV files.",
        {
            "separator": text("Field separator of CSV. Default: a comma."),
            "quote": described({"type": "string"}, "Quote character of CSV; empty for none. Default: a double quote."),
            "header": flag("Whether the first CSV row contains column names. Default: true."),
            "null_values": described(
                {"type": "array", "items": {"type": "string"}}, "Texts that mean null, besides an empty field."
            ),
            "comment": text("Lines that start with this are skipped."),
            "skip_rows": count("Number of lines to skip before the header.", minimum=0),
            "decimal_comma": flag(
                "Whether decimals are written with a comma (1,5). A number with a point is then invalid, unless "
                "thousands gives it a meaning."
            ),
            "thousands": choice(
                "The thousands separator in columns that are declared as numbers: 1.234,50, 1,234.5, 1'234, 1 "
                "234. Default: none; such numbers are invalid.",
                [".", ",", "'", " ", "_"],
            ),
            "parse_dates": flag(
                "Whether undeclared columns that look like dates or times are read as such. Default: true."
            ),
        },
    )


def source_schema() -> dict[str, Any]:
    """Return the JSON Schema of a source."""
    column = mapping(
        "What is known about a column.",
        {
            "tags": {"description": "Words such as pii.", "type": "array", "items": TEXT},
            "description": DESCRIPTION,
        },
    )
    return mapping(
        "Where rows come from.",
        {
            "uri": described(
                {"type": ["string", "array"], "items": TEXT, "minLength": 1, "minItems": 1},
                "Path, URI or glob pattern, or a list of them, relative to this file; ${NAME} is replaced by an "
                "environment variable.",
            ),
            "format": choice(
                "Format of the files; dataset: a dataset written by lazypipe; delta: a Delta Lake table. Default:"
                " by the file names, or by the log in the folder.",
                [*FORMATS, "dataset", "delta"],
            ),
            "version": count("Which version of a Delta table to read. Default: the latest.", minimum=0),
            "read": _read(),
            "storage_options": OPTIONS,
            "event_time": described(COLUMN.schema, "The column with the event time of each row."),
            "key": described(COLUMNS.schema, "The columns that identify a row."),
            "contract": _contract(),
            "columns": {
                "description": "What is known about columns.",
                "type": "object",
                "additionalProperties": column,
            },
            "gate": gate(),
            "on_corrupt": choice(
                "What to do about a file that cannot be decoded (truncated, a damaged footer, invalid gzip, a "
                "broken row or line that the contract does not discard). fail: stop the run; skip: leave out the "
                "whole file, say so in the run's result, and try again in the next run; quarantine_file: also "
                "record it in the state folder, and do not try again until it is delivered again. Default: fail.",
                ["fail", "quarantine_file", "skip"],
            ),
            **_intake(),
            **_time(),
            "description": DESCRIPTION,
        },
        ("uri",),
    )
