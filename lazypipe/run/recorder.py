"""Collects what a run writes to the ledger, in threads of its own, and writes it at the end.

While segments run, they look up the end of the ledger, hash the files that are read, and write what records name
if it is not there. What is left for the end is one file.
"""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.outputs.modes import adds_to
from lazypipe.compile.segments import Segment
from lazypipe.compile.sources.source import BoundSource, Snapshot
from lazypipe.errors import LazypipeError, StorageError, first_line
from lazypipe.incremental.hashing import Hashes
from lazypipe.records import body as bodies
from lazypipe.records.body import FEED
from lazypipe.records.ledger import Ledger, Tip
from lazypipe.storage import uri as uris
from lazypipe.storage.content import HashCache, hash_file, hash_files, unchanged
from lazypipe.storage.datasets.log import Commit, DataFile
from lazypipe.storage.datasets.units import Units
from lazypipe.storage.files import FileInfo
from lazypipe.storage.following import Following
from lazypipe.storage.parquet.row_groups import BorderHash, Borders, begun

__all__ = ["ACTOR", "Aside", "Fed", "Recorder", "user"]

ACTOR = "LAZYPIPE_ACTOR"
"""Environment variable with the name of who runs it."""
_SMALL = 1 << 18
_LARGE = 1 << 23
"""Bytes of an input from which on it is hashed in the time that cores idle: smaller ones take less than that needs to begin."""
_REPORT = "report it as a bug of lazypipe"


@dataclass(frozen=True)
class Aside:
    """A commit of quarantined rows: by which node's gate, where, and whether earlier rows are still in it.

    ``of`` is the version that it brings back, 0 if nothing was put aside then; None if it is of the run's own rows.
    """

    node: str
    uri: str
    commit: Commit
    files: Sequence[DataFile]
    mode: str
    of: int | None = None

    @classmethod
    def back(cls, node: str, uri: str, commit: Commit) -> Aside:
        """Return what was in quarantine at a version that was restored."""
        return cls(node, uri, commit, commit.files, "rollback", commit.brings_back)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, as a record holds it."""
        return {
            "node": self.node,
            "uri": self.uri,
            "version": self.commit.version,
            "mode": self.mode,
            "rows": self.commit.rows,
            "data": bodies.data(self.files),
            **({} if self.of is None else {"of": self.of}),
        }


@dataclass(frozen=True)
class Fed:
    """A commit of a feed: its name and place, the files with its new rows, and the version of the output that they tell of."""

    name: str
    uri: str
    commit: Commit
    files: Sequence[DataFile]
    output: str
    version: int

    def to_dict(self, redact: Callable[[str], str]) -> dict[str, Any]:
        """Return it as plain data, as a record holds it."""
        return {
            "name": self.name,
            "uri": redact(self.uri),
            "version": self.commit.version,
            "mode": FEED,
            "rows": self.commit.rows,
            "data": bodies.data(self.files),
            "tells": {"uri": redact(self.output), "version": self.version},
        }


@dataclass
class Recorder:
    """Collects the record of one run; with ``audit: off`` it does nothing.

    ``snapshots`` are the run's own, and ``reads`` what it reads of them, which may both still change; ``inputs`` what else it read, as a record
    says it; ``about`` what else a record says of the run.
    """

    plan: CompiledPipeline
    run: str
    now: datetime
    actor: str | None = None
    code: str | None = None
    kind: str = "run"
    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    reads: Mapping[str, Sequence[tuple[Snapshot, Units | None]]] = field(default_factory=dict)
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    asides: dict[str, list[Aside]] = field(default_factory=dict)
    feeds: dict[str, list[Fed]] = field(default_factory=dict)
    written: dict[str, tuple[DataFile, ...]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin to prepare."""
        audit = self.plan.audit
        self.is_on = audit.is_on
        self._has_started = False
        self._read: set[str] = set()
        self._hashes: list[Future[dict[str, str]]] = []
        self._later: list[tuple[FileInfo, int, Mapping[str, Any], BorderHash | None]] = []
        if not self.is_on:
            return
        self.begun, self._began = time.perf_counter(), time.time_ns()
        home = self.plan.state.uri
        self._cache = HashCache(f"{uris.local_path(home)}/hashes.json" if uris.is_local(home) else None)
        self._following = Following()
        self._thread = ThreadPoolExecutor(2, thread_name_prefix="lazypipe-ledger")
        self._prepared: Future[tuple[Tip, dict[str, Any]]] = self._thread.submit(self._prepare)

    # what the run reports

    @cached_property
    def _ledger(self) -> Ledger:
        return Ledger.of(self.plan.audit)

    @property
    def who(self) -> str | None:
        """Who runs it: the caller's value, else that of the definition or the environment, else the user of the machine."""
        return self.actor or self.plan.audit.actor or os.environ.get(ACTOR) or user()

    @property
    def info(self) -> dict[str, Any]:
        """What a commit says of its record."""
        return {"ledger": {"uri": self.plan.redact(self.plan.audit.uri), "run": self.run}} if self.is_on else {}

    def read(self, source: BoundSource, snapshot: Snapshot, hashes: Hashes | None = None) -> None:
        """Begin to hash the files of a source that an output is made of; those that were hashed before are known, or in ``hashes``.

        Of large Parquet files that are modified, and may be so again, the row groups are to be known; of all of them where rows are
        added. To parse the footers of all files would cost more than it brings: most never change.
        """
        if self.is_on and source.name not in self._read:
            self._read.add(source.name)
            parquet, added = source.reader.format == "parquet", any(map(adds_to, self.plan.outputs.values()))
            hashes = Hashes() if hashes is None else hashes
            bordered = {f for f in snapshot.files if added or f in hashes.modified} if parquet else ()
            options = source.reader.storage_options
            self._hashes.append(self._thread.submit(self._hash, snapshot, options, bordered, hashes))

    def known(self, name: str) -> dict[str, str]:
        """Return the hashes of a source's files that are as they were when it was listed; waits for them."""
        if not self.is_on:
            return {}
        hashes = self._hashed()
        return {f.uri: hashes[f.uri] for f in self.snapshots[name].files if f.uri in hashes and unchanged(f)}

    @property
    def borders(self) -> Mapping[str, Borders]:
        """The borders of the row groups of large Parquet files, by their hashes, as far as they are known."""
        return self._cache.borders if self.is_on else {}

    def _hashed(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for hashing in self._hashes:
            found |= hashing.result()
        if self._later:
            late: dict[str, str] = {}
            for file, at, options, made in self._later:
                late |= self._hash_now(file, at, options, made)
            self._later.clear()
            self._hashes.append(_done(late))
            found |= late
        return found

    def _hash_now(self, file: FileInfo, at: int, options: Mapping[str, Any], made: BorderHash | None) -> dict[str, str]:
        """Return the hash of an input that was begun with, none where it is another by now, or cannot be read."""
        digest = self._following.digest(uris.local_path(file.uri), file.size or 0)
        if digest is None or not unchanged(file):
            return self._hash_file(file, options, groups=made is not None)
        self._cache.put(file, digest, at, made)
        return {file.uri: digest}

    def _hash_file(
        self, file: FileInfo, options: Mapping[str, Any], *, fixed: bool = False, groups: bool
    ) -> dict[str, str]:
        try:
            return hash_files([file], options, self._cache, fixed=fixed, groups=groups)
        except LazypipeError:
            return {}  # a file that cannot be read is reported by the query that reads it

    @property
    def follow(self) -> Callable[[str], object] | None:
        """Takes the paths of files that are going to be written, so that they are hashed meanwhile."""
        return self._following.follow if self.is_on else None

    def hashed(self, uri: str, files: Sequence[DataFile], options: Mapping[str, Any]) -> tuple[DataFile, ...]:
        """Return files that were written below a URI with the hashes of their content, as ``hashing`` would."""
        return self.hashing(uri, files, options)()

    def hashing(
        self, uri: str, files: Sequence[DataFile], options: Mapping[str, Any], *, names: Sequence[str] = ()
    ) -> Callable[[], tuple[DataFile, ...]]:
        """Begin to hash files that were written below a URI; what is returned waits, and gives them with their hashes.

        Those that are not on this machine are not read again, unless ``audit.hash`` is ``all``.

        Parameters
        ----------
        names
            What the files are called until they are published, if not by their paths.
        """
        if not self.is_on or not (uris.is_local(uri) or self.plan.audit.hash_all):
            return lambda: tuple(files)
        found: list[Callable[[], str]] = []
        for name, file in zip(names or [f.path for f in files], files, strict=True):
            path = uris.join(uri, name)
            if file.blake3 is not None:  # its writer had all of its bytes at hand
                found.append(partial(str, file.blake3))
                continue
            hashing = partial(self._hash_written, path, file.bytes, options)
            # of a small file, going to another thread and back costs more than hashing
            left = self._following.left(path, file.bytes)
            found.append(hashing if left < _SMALL else self._thread.submit(hashing).result)
        return lambda: tuple(replace(f, blake3=digest()) for f, digest in zip(files, found, strict=True))

    def _hash_written(self, path: str, size: int, options: Mapping[str, Any]) -> str:
        return self._following.digest(path, size) or hash_file(path, options)

    def announce(self) -> None:
        """Before anything is published: have it in the ledger that this run will, if that is required.

        Raises
        ------
        StorageError
            If it cannot be written; then nothing may be published.
        """
        if self.plan.audit.mode != "required":
            return
        if self._has_started:
            return
        try:
            self._start()
            self._has_started = True
        except Exception as failure:  # whatever it was: what is not recorded is not published
            error = failure if isinstance(failure, StorageError) else StorageError(first_line(failure), fix=_REPORT)
            what = f"audit is required, and {error.what}"
            raise StorageError(what, uri=self._shown(error.uri), fix=f"{error.fix}; nothing was published") from None

    # what becomes of it

    def finish(
        self, segments: Sequence[tuple[Segment | None, dict[str, Any]]], status: str, error: str | None
    ) -> tuple[str | None, LazypipeError | None]:
        """Append the record; return a warning, or an error where the record is required, if it cannot be written."""
        if not self.is_on:
            return None, None
        try:
            self._append(segments, status, error)
        except Exception as failure:  # whatever it was: the run has its result, and that says what is missing
            told = failure if isinstance(failure, StorageError) else StorageError(first_line(failure), fix=_REPORT)
            what, uri = self.plan.redact(told.what), self._shown(told.uri)
            if self.plan.audit.mode != "required":
                return str(StorageError(f"this run is not in the ledger: {what}", uri=uri, fix=told.fix)), None
            began = (
                "what it published is announced there by its start" if self._has_started else "nothing was published"
            )
            return None, StorageError(
                f"the end of this run is not in the ledger: {what}", uri=uri, fix=f"{told.fix}; {began}"
            )
        finally:
            self._following.close()
            self._thread.shutdown(cancel_futures=True)
            self._cache.save()
        doubt = self._ledger.doubts(self._prepared.result()[0])
        return None if doubt is None else self.plan.redact(doubt), None

    def _append(
        self, segments: Sequence[tuple[Segment | None, dict[str, Any]]], status: str, error: str | None
    ) -> None:
        tip, common = self._prepared.result()
        ended = datetime.now(UTC)
        body = {
            "kind": self.kind,
            **common,
            "status": status,
            "ended": ended.isoformat(),
            "seconds": round(time.perf_counter() - self.begun, 6),
            "inputs": self._inputs() if any(said["status"] != "unchanged" for _, said in segments) else self.inputs,
            "segments": [self._segment(of, said) for of, said in segments],
            "error": error,
        }
        self._ledger.append(body, time=ended, tip=None if self._has_started else tip)

    def _start(self) -> None:
        tip, common = self._prepared.result()
        intended = {
            name: {
                "uri": self.plan.redact(o.to),
                "format": o.format,
                "mode": o.mode,
                "sources": [*self.inputs] or bodies.sources_of(self.plan, o.stage),
            }
            for name, o in self.plan.outputs.items()
        }
        for name, o in self.plan.outputs.items():
            kinds = ["changes"] * o.changes + ["panes"] * bool(o.panes)
            intended |= {f"{name}__{k}": {**intended[name], "uri": f"{intended[name]['uri']}__{k}"} for k in kinds}
        # what was not listed yet is there with its patterns
        later = {
            n: node.source for n, node in self.plan.nodes.items() if n not in self.snapshots and self.kind == "run"
        }
        unlisted = {n: bodies.input_of(source, Snapshot(()), {}) for n, source in later.items() if source is not None}
        more: dict[str, Any] = {
            "status": "started",
            "ended": None,
            "seconds": None,
            "inputs": unlisted | self._inputs(),
            "segments": [],
            "error": None,
        }
        self._ledger.append({"kind": "start", **common, **more, "outputs": intended}, time=datetime.now(UTC), tip=tip)

    def _prepare(self) -> tuple[Tip, dict[str, Any]]:
        """Look up what does not depend on what the run does."""
        prints = self.plan.fingerprints()  # first: the lineage is read off the same plans
        tip = self._ledger.tip()
        named = self._ledger.put_object(bodies.definition_key(self.plan), lambda: bodies.object_content(self.plan), tip)
        pipeline = self.plan.pipeline
        common = {
            "run": self.run,
            "pipeline": pipeline.name,
            "started": self.now.isoformat(),
            "actor": self.who,
            "code": bodies.code(self.code or bodies.commit_id(pipeline.base)),
            "definition": {
                "file": pipeline.origin.file,
                "blake3": bodies.text_hash(self.plan.pipeline),
                "object": named,
            },
            "stages": {name: made.whole for name, made in prints.items()},
            "params": {name: str(value) for name, value in self.plan.params.items()},
            **self.about,
        }
        return tip, common

    def _inputs(self) -> dict[str, Any]:
        """Return what was listed so far, as a record says it."""
        for name in self.snapshots:
            source = self.plan.nodes[name].source
            assert source is not None
            self.read(source, self.snapshots[name])
        hashes = self._hashed()
        return {n: self._input(n, s, hashes) for n, s in self.snapshots.items()} | self.inputs

    def _hash(
        self, snapshot: Snapshot, options: Mapping[str, Any], bordered: Container[FileInfo], hashes: Hashes
    ) -> dict[str, str]:
        if snapshot.commit is not None:
            of = zip(snapshot.files, snapshot.commit.files, strict=True)
            known = {found.uri: said.blake3 for found, said in of if said.blake3 is not None}
        else:
            known = {}
        rest = [f for f in snapshot.files if f.uri not in known]
        found = dict(known)
        for file in rest:
            at, fixed, groups = time.time_ns(), snapshot.table is not None, file in bordered
            is_wanted = uris.is_local(file.uri) or self.plan.audit.hash_all
            if is_wanted and (digest := hashes.get(file)) is not None and (fixed or unchanged(file)):
                found[file.uri] = digest
                if self._cache.get(file) is None:
                    self._cache.put(file, digest, self._began, hashes.groups.get(file))
                continue
            if not fixed and self._is_late(file):
                made = begun(file, options, threads=1) if groups else None
                if unchanged(file) and self._following.ahead(uris.local_path(file.uri), made):
                    self._later.append((file, at, options, made))
                    continue
            if is_wanted:
                found |= self._hash_file(file, options, fixed=fixed, groups=groups)
        return found

    def _is_late(self, file: FileInfo) -> bool:
        """Whether a file is to be hashed in the time that cores idle: a large one that is not known."""
        return uris.is_local(file.uri) and (file.size or 0) >= _LARGE and self._cache.get(file) is None

    def _input(self, name: str, snapshot: Snapshot, hashes: Mapping[str, str]) -> dict[str, Any]:
        source = self.plan.nodes[name].source
        assert source is not None
        # a file that was rewritten while the run read it is not what was hashed
        fixed = snapshot.table is not None
        known = {f.uri: hashes[f.uri] for f in snapshot.files if f.uri in hashes and (fixed or unchanged(f))}
        return bodies.input_of(source, snapshot, known, self.reads.get(name, ()))

    def _segment(self, segment: Segment | None, said: dict[str, Any]) -> dict[str, Any]:
        name = said["name"]
        output = self.plan.pipeline.outputs.get(said["output"])
        return {
            "sources": [] if segment is None else bodies.sources_of(self.plan, segment.node),
            "mode": output.mode if output is not None else "replace",
            "data": bodies.data(self.written.get(name, ())),
            "quarantine": [self._aside(a) for a in self.asides.get(name, ())],
            **({"feeds": [f.to_dict(self.plan.redact) for f in self.feeds[name]]} if name in self.feeds else {}),
            **said,
        }

    def put_aside(self, segment: str, aside: Aside) -> None:
        """Note a commit of rows that a segment has quarantined."""
        self.asides.setdefault(segment, []).append(aside)

    def fed(self, segment: str, feed: Fed) -> None:
        """Note a commit of a feed that was written with a segment."""
        self.feeds.setdefault(segment, []).append(feed)

    def _aside(self, aside: Aside) -> dict[str, Any]:
        sources = [*self.inputs] or bodies.sources_of(self.plan, aside.node)
        sources = sources if aside.of is None else []
        return {**aside.to_dict(), "uri": self.plan.redact(aside.uri), "sources": sources}

    def _shown(self, uri: str | None) -> str | None:
        return None if uri is None else self.plan.redact(uri)


def _done(found: dict[str, str]) -> Future[dict[str, str]]:
    made: Future[dict[str, str]] = Future()
    made.set_result(found)
    return made


def user() -> str:
    """Return the user of the machine."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in a container
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "unknown"
