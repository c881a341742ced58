"""Whether data files are intact: each is read, and its hash compared with the ledger or with its commit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lazypipe.errors import LazypipeError, StorageError
from lazypipe.records.entry import Entry
from lazypipe.storage import uri as uris
from lazypipe.storage.content import hash_file
from lazypipe.storage.datasets.dataset import Dataset

if TYPE_CHECKING:
    from lazypipe.records.history import Published

__all__ = ["Compared", "compare", "whole"]

_AT_ONCE = 4


@dataclass(frozen=True)
class Compared:
    """A file compared with its record: ``what`` is wrong with it, None if nothing is."""

    file: str
    what: str | None


def compare(entries: Iterable[Entry], datasets: Sequence[str]) -> Iterator[Compared]:
    """Read the data files of all versions that are kept, and compare each with its hash.

    Parameters
    ----------
    datasets
        URIs of those to look at. Default: all datasets and exported files that the ledger names.
    """
    from lazypipe.records.history import published

    named: dict[str, list[Published]] = {}
    for entry in entries:
        for part in published(entry):
            named.setdefault(part.uri, []).append(part)
    for uri in datasets or named:
        yield from _compare(uri, named.get(uri, []))


def whole(uri: str) -> str:
    """Return a URI as records name it: a path from the root.

    Examples
    --------
    >>> whole("/data/../out"), whole("s3://bucket/out")
    ('/out', 's3://bucket/out')
    """
    return uri if uris.protocol(uri) else os.path.abspath(uri)  # links stay as they are


def _compare(uri: str, parts: Sequence[Published]) -> Iterator[Compared]:
    if parts and parts[-1].version is None:  # an exported file, which the last run has written
        (written,) = parts[-1].data
        expected = {uri: written["blake3"]} if written["blake3"] else {}
    else:
        known = {f["path"]: f["blake3"] for part in parts for f in part.data}
        dataset = Dataset(uri)
        versions = dataset.log.versions()
        if not versions and parts and parts[-1].tells is not None:
            return  # feeds are deleted to erase rows; the next run begins another
        if not versions:
            last = f", and record {parts[-1].entry.number} wrote version {parts[-1].version}" if parts else ""
            yield Compared(uri, f"there is no dataset{last}")
        expected = {}
        for version in versions:
            try:
                files = dataset.log.read(version).files
            except StorageError as error:
                yield Compared(f"{dataset.log.uri}/{version:020}.json", f"{error.what}; {error.fix}")
                continue
            hashes = {uris.join(uri, f.path): known.get(f.path) or f.blake3 for f in files}
            expected |= {file: found for file, found in hashes.items() if found is not None}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(partial(_read, expected), expected)


def _read(expected: Mapping[str, str], file: str) -> Compared:
    try:
        same = hash_file(file) == expected[file]
    except LazypipeError as error:
        return Compared(file, str(error).removeprefix(f"{file}: "))
    return Compared(file, None if same else "does not hold what was written: it was edited, replaced or damaged")
