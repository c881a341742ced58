"""Corrupt files in a run: left out when they are found, reported in its result, and remembered where that is asked for.

A query that meets a corrupt file has failed, and nothing of it is published. Its segment then runs again without that file,
so that no row of it is in an output. What a segment does not decode cannot fail it; so a source that several segments read
is read once in full before the first of them, lest one publishes rows of a file that another sets aside.
"""

from __future__ import annotations

import json
from collections.abc import Container
from contextlib import suppress
from typing import TYPE_CHECKING

from blake3 import blake3

from lazypipe.compile.sources.source import BoundSource, Snapshot
from lazypipe.errors import LazypipeError, SourceError, StorageError, first_line
from lazypipe.incremental import unreadable
from lazypipe.spec.types import dtype_name
from lazypipe.storage import uri as uris
from lazypipe.storage.corrupt import CorruptFile
from lazypipe.storage.files import FileInfo

if TYPE_CHECKING:
    from lazypipe.compile.segments import Segment
    from lazypipe.run.context import Run

__all__ = ["admitted", "files_set_aside", "leave_out_corrupt", "read_by_row"]

_MEND = "fix the cause, or choose another folder with state"


def admitted(run: Run, source: BoundSource, listed: Snapshot) -> Snapshot:
    """Return what a run is to read of a source as it was listed: without the files that are known to be corrupt.

    Raises
    ------
    SourceError
        If no file is left, and no contract says which columns there would be.
    StorageError
        If what is remembered cannot be read or written.
    """
    if source.on_corrupt == "fail":
        return listed
    known = _remembered(run, source)
    found = source.set_aside(listed, {f.uri: known[key] for f in listed.files if (key := _key(source, f)) in known})
    readers = [s for s in run.plan.segments if source.name in (*s.lookups, *s.nodes)]
    if len(readers) > 1 and not unreadable.reads(source, found):
        unreadable.read_by_row(source, found)
        found = source.set_aside(found, unreadable.damaged(source, found))
    _remember(run, source, found, known)
    return found


def read_by_row(run: Run, segment: Segment, error: BaseException) -> bool:
    """After a segment has failed: have files with some unreadable rows read row by row, where contracts quarantine such rows.

    Return whether there were any that were not known yet.
    """
    if isinstance(error, LazypipeError) and not isinstance(error, SourceError):
        return False  # said by ourselves, of something else
    sources = [(name, run.plan.nodes[name].source) for name in (*segment.lookups, *segment.nodes)]
    found = False
    for name, source in sources:
        if source is not None and name in run.snapshots and unreadable.read_by_row(source, run.snapshots[name]):
            # a row that lacks fields may have had a time, by which what came later was judged
            seen = run.extents.setdefault(name, {})
            for file in [f for f in seen if source.is_read_by_row(f)]:
                del seen[file]
            run.snapshots[name] = run.arrived(source, run.snapshots[name])
            found = True
    return found


def leave_out_corrupt(run: Run, segment: Segment, error: BaseException) -> bool:
    """After a segment has failed: leave out its corrupt files, where its sources allow it; return whether there were any.

    Raises
    ------
    SourceError
        If no file is left, and no contract says which columns there would be.
    StorageError
        If it cannot be remembered.
    """
    if isinstance(error, LazypipeError) and not isinstance(error, SourceError):
        return False  # said by ourselves, of something else
    any_found = False
    for name in (*segment.lookups, *segment.nodes):
        source = run.plan.nodes[name].source
        if source is None or source.on_corrupt == "fail" or name not in run.snapshots:
            continue
        why = unreadable.damaged(source, run.snapshots[name])
        if why:
            # what others came under is another matter without it
            run.snapshots[name] = run.arrived(source, source.set_aside(run.snapshots[name], why))
            _remember(run, source, run.snapshots[name], _remembered(run, source))
            any_found = True
    return any_found


def files_set_aside(run: Run, segment: Segment, *, idle: bool = False) -> tuple[CorruptFile, ...]:
    """Return the files that a segment's sources were read without; if it is ``idle`` also those of what it would have read."""
    names = [*segment.lookups, *segment.nodes]
    if idle:
        inner = {s.node: s for s in run.plan.segments if s.output is None}
        names += [n for read in segment.reads if read in inner for n in inner[read].nodes]
    return tuple(c for name in names if name in run.snapshots for c in run.snapshots[name].corrupt)


# what is remembered: one file of JSON lines per source and run


def _folder(run: Run, source: BoundSource) -> str:
    return run.plan.state.place("quarantine", f"{source.name}__files")


def _key(source: BoundSource, file: FileInfo | CorruptFile) -> tuple[str, int | None, str | None]:
    return source.redact(file.uri), file.size, file.stamp


def _read_as(source: BoundSource) -> str:
    """Return a key for how a source is read: if that changes, a corrupt file is tried again."""
    types = {name: dtype_name(dtype) for name, dtype in source.schema.items()}
    return blake3(repr((source.reader.format, dict(source.reader.read), types, source.shape)).encode()).hexdigest()[:16]


def _remembered(run: Run, source: BoundSource) -> dict[tuple[str, int | None, str | None], str]:
    """Return the files that earlier runs have left out as corrupt, as they were then, with the reason."""
    if source.on_corrupt != "quarantine_file":
        return {}
    fs, path = uris.file_system(_folder(run, source), run.plan.state.storage_options)
    found = {}
    try:
        names = sorted(n for n in fs.find(path) if n.endswith(".jsonl") and not n.endswith(f"/{run.id}.jsonl"))
        texts = [fs.cat_file(n).decode() for n in names]
    except Exception as error:  # any store's own errors: the caller learns which folder it was
        raise StorageError(f"cannot be read: {first_line(error)}", uri=_folder(run, source), fix=_MEND) from error
    for line in (line for text in texts for line in text.splitlines()):
        with suppress(
            ValueError, KeyError, TypeError
        ):  # half written by a run that was killed: the file is tried again
            entry = json.loads(line)
            if entry["read_as"] == _read_as(source) and entry["stamp"] is not None:
                found[entry["uri"], entry["size"], entry["stamp"]] = entry["why"]
    return found


def _remember(
    run: Run, source: BoundSource, snapshot: Snapshot, known: Container[tuple[str, int | None, str | None]]
) -> None:
    """Write down the corrupt files that this run has left out, and no earlier one."""
    new = [c for c in snapshot.corrupt if _key(source, c) not in known]
    if source.on_corrupt != "quarantine_file" or not new:
        return
    target = uris.join(_folder(run, source), f"{run.id}.jsonl")
    more = {"run": run.id, "time": run.now.isoformat(), "read_as": _read_as(source)}
    text = "".join(json.dumps(c.to_dict() | more, ensure_ascii=False) + "\n" for c in new)
    fs, path = uris.file_system(target, run.plan.state.storage_options)
    try:
        uris.make_folder(fs, path.rpartition("/")[0])
        fs.pipe_file(path, text.encode())
    except Exception as error:  # any store's own errors: the caller learns which file it was
        raise StorageError(f"cannot be written: {first_line(error)}", uri=target, fix=_MEND) from error
