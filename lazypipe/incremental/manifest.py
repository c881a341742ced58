"""Manifests: files that list the files of a delivery, with sizes and checksums, in the common formats."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from lazypipe.incremental.store import ALGORITHMS

__all__ = ["Entry", "ManifestError", "read_manifest"]

_NAMES = ("name", "path", "file", "filename", "url", "uri", "key")
_SIZES = ("size", "bytes", "length", "content_length")
_LINE = re.compile(r"(?P<escaped>\\?)(?P<sum>[0-9A-Fa-f]{32}|[0-9A-Fa-f]{64}) [ *](?P<name>.+)")
_TAGGED = re.compile(r"(?P<kind>SHA256|MD5|BLAKE3) \((?P<name>.+)\) = (?P<sum>[0-9A-Fa-f]+)")
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}


class ManifestError(ValueError):
    """The text is no manifest, or only the start of one; says why."""


class Entry(NamedTuple):
    """One file of a delivery: its name relative to the manifest's folder, its size, and its checksums by algorithm."""

    name: str
    size: int | None = None
    checksums: tuple[tuple[str, str], ...] = ()


def read_manifest(data: bytes, name: str) -> list[Entry]:
    r"""Read a manifest: JSON, JSON lines, CSV with a header, or lines as ``sha256sum``, ``md5sum`` and ``b3sum`` write them.

    Parameters
    ----------
    name
        The manifest's own name: 64 digits in a line are BLAKE3 if it has b3 or blake3 in it, SHA-256 otherwise.

    Raises
    ------
    ManifestError
        If it is none of these, or breaks off.

    Examples
    --------
    >>> read_manifest(b'{"name": "a.csv", "size": 4}\n{"name": "b.csv"}\n', "m.jsonl")
    [Entry(name='a.csv', size=4, checksums=()), Entry(name='b.csv', size=None, checksums=())]
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError("it is not UTF-8 text") from error
    start = text.lstrip()[:1]
    if start and start in "[{":
        found = list(_entries(_json(text)))
    elif "," in text.partition("\n")[0] and not _LINE.match(text):
        found = list(_entries(csv.DictReader(io.StringIO(text), strict=True)))
    else:
        found = [_line(line, number, name) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not found:
        raise ManifestError("it lists no file")
    return found


def _json(text: str) -> Iterator[Any]:
    try:
        whole = json.loads(text)
    except ValueError:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise ManifestError(f"line {number} is not JSON, or is cut off") from error
        return
    if isinstance(whole, dict) and isinstance(whole.get("files"), list):
        whole = whole["files"]
    yield from whole if isinstance(whole, list) else [whole]


def _entries(rows: Iterator[Any] | csv.DictReader[str]) -> Iterator[Entry]:
    try:
        for number, row in enumerate(rows, 1):
            yield _entry(row, number)
    except csv.Error as error:
        raise ManifestError(f"it is not CSV: {error}") from error


def _entry(row: Any, number: int) -> Entry:
    if isinstance(row, str):
        return Entry(row)
    if not isinstance(row, Mapping):
        raise ManifestError(f"entry {number} is not a mapping")
    lower = {str(k).strip().lower(): v for k, v in row.items() if v not in (None, "")}
    name = next((lower[k] for k in _NAMES if k in lower), None)
    if not isinstance(name, str):
        raise ManifestError(f"entry {number} has no name; it should be under one of {', '.join(_NAMES)}")
    size = next((lower[k] for k in _SIZES if k in lower), None)
    try:
        number_of_bytes = None if size is None else int(size)
    except (ValueError, TypeError) as error:
        raise ManifestError(f"entry {number}: size {size!r} is not a number") from error
    sums = tuple((a, str(lower[a]).strip().lower()) for a in ALGORITHMS if a in lower)
    return Entry(name, number_of_bytes, sums)


def _line(line: str, number: int, manifest: str) -> Entry:
    plain = _LINE.fullmatch(line)
    if plain is not None:
        name = re.sub(r"\\[\\nr]", lambda m: _ESCAPES[m[0]], plain["name"]) if plain["escaped"] else plain["name"]
        long = "blake3" if re.search("b3|blake3", manifest.lower()) else "sha256"
        return Entry(name, None, (("md5" if len(plain["sum"]) == 32 else long, plain["sum"].lower()),))
    tagged = _TAGGED.fullmatch(line)
    if tagged is not None:
        return Entry(tagged["name"], None, ((tagged["kind"].lower(), tagged["sum"].lower()),))
    raise ManifestError(f"line {number} is not a checksum and a name, or is cut off")
