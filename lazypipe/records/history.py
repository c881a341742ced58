"""Questions to a ledger: the runs of an output, the origin of its versions, and the outputs that hold a file's data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatch
from typing import Any

from lazypipe.errors import LazypipeError, nearest
from lazypipe.records.entry import Entry
from lazypipe.storage import uri as uris

__all__ = ["STATUSES", "History", "Holding", "Step", "containing", "history", "published", "resolve", "runs"]

STATUSES = ("started", "done", "unchanged", "waiting", "gate_failed", "blocked", "interrupted", "error")
"""What records say became of a run: the first, that it began, and was never heard of again."""


@dataclass(frozen=True)
class Published:
    """Something that a run published: a version of a dataset (or of a quarantine), or an exported file.

    ``mode`` says what became of the rows before, ``before`` is the version of which rows are still in it, None if there is none;
    ``sources`` are those of the run's inputs that went in; ``tells`` is the version of an output that a feed tells of.
    """

    entry: Entry
    name: str
    uri: str
    version: int | None
    mode: str
    before: int | None
    sources: tuple[str, ...]
    rows: int
    data: tuple[Mapping[str, Any], ...]
    aside: bool = False
    tells: tuple[str, int] | None = None

    def is_named(self, name: str) -> bool:
        """Whether somebody means it by a name or a URI."""
        return name in (self.uri, self.name, f"{self.entry.pipeline}/{self.name}") or _plain(name) == _plain(self.uri)


def published(entry: Entry) -> Iterator[Published]:
    """Yield what a run made visible, in the order in which it did."""
    if entry.kind == "start":
        return
    for segment in entry.body["segments"]:
        sources = tuple(segment["sources"])
        for part in segment["quarantine"]:
            yield Published(
                entry, f"{part['node']}__quarantine", part["uri"], part["version"], part["mode"], _before(part),
                tuple(part["sources"]), part["rows"], tuple(part["data"]), aside=True,
            )  # fmt: skip
        made = segment["status"] == "done" or segment["version"] is not None
        if segment["output"] is not None and segment["status"] != "unchanged" and made:
            yield Published(
                entry, segment["output"], segment["uri"], segment["version"], segment["mode"], _before(segment),
                sources, segment["rows"], tuple(segment["data"]),
            )  # fmt: skip
        for part in segment.get("feeds", ()):
            told = part["tells"]
            yield Published(
                entry, part["name"], part["uri"], part["version"], part["mode"], _before(part), (), part["rows"],
                tuple(part["data"]), tells=(told["uri"], told["version"]),
            )  # fmt: skip


def _before(part: Mapping[str, Any]) -> int | None:
    """Return the version that something published was built upon: the one before, unless the record says another."""
    if part["mode"] == "replace" or part["version"] is None:
        return None
    return part.get("of", part["version"] - 1) or None


def _files(made: Published) -> list[str]:
    """Return the data files that were written for a version of a dataset, by their whole names."""
    return [] if made.version is None else [uris.join(_plain(made.uri), f["path"]) for f in made.data]


def _commit(about: Mapping[str, Any]) -> int:
    """Return the commit of an input: for a dataset that was read as a Delta table, the one behind the table's version."""
    told = about.get("commit")
    return int(about["version"] if told is None else told)


def _plain(uri: str) -> str:
    return uris.local_path(uri) if uris.is_local(uri) else uri


def runs(
    entries: Sequence[Entry],
    output: str | None,
    pipeline: str | None,
    status: str | None,
    since: datetime | None,
    until: datetime | None,
) -> tuple[Entry, ...]:
    """Return the last record of each run that fits."""
    if status is not None and status not in STATUSES:
        raise LazypipeError(f"unknown status {status!r} of a run; {nearest(status, STATUSES, 'statuses')}")
    last: dict[str, Entry] = {}
    for entry in entries:
        last[entry.run] = entry
    found = []
    for entry in sorted(last.values(), key=lambda e: e.number):
        if (pipeline is not None and entry.pipeline != pipeline) or (status is not None and entry.status != status):
            continue
        if (since is not None and entry.time < since) or (until is not None and entry.time > until):
            continue
        if output is None or any(_means(entry, o, output) for o in _outputs(entry)):
            found.append(entry)
    return tuple(found)


def _outputs(entry: Entry) -> Iterator[tuple[str, str | None]]:
    """Yield the names and URIs of what a run wrote or meant to write."""
    for segment in entry.body["segments"]:
        if segment["output"] is not None:
            yield segment["output"], segment["uri"]
        yield from ((f"{p['node']}__quarantine", p["uri"]) for p in segment["quarantine"])
        yield from ((p["name"], p["uri"]) for p in segment.get("feeds", ()))
    yield from ((name, about["uri"]) for name, about in entry.body.get("outputs", {}).items())


def _means(entry: Entry, output: tuple[str, str | None], name: str) -> bool:
    own, uri = output
    return name in (own, f"{entry.pipeline}/{own}") or (uri is not None and _plain(uri) == _plain(name))


def resolve(entries: Sequence[Entry], output: str) -> str:
    """Return the URI that somebody means by a name or URI.

    Raises
    ------
    LazypipeError
        If there is none, or several.
    """
    everything = [p for entry in entries for p in published(entry)]
    found = dict.fromkeys(p.uri for p in everything if p.is_named(output))
    if not found:
        names = {n for p in everything for n in (p.name, p.uri)}
        raise LazypipeError(f"the ledger knows no output {output!r}; {nearest(output, names, 'outputs')}")
    if len(found) > 1:
        raise LazypipeError(f"{output!r} are several outputs; name one by its URI: {', '.join(found)}")
    return next(iter(found))


@dataclass(frozen=True)
class Step:
    """One version that another was made from: its run, its files, and the versions that it was made from itself.

    ``record`` is None where a version was read that no record of the ledger made.
    """

    uri: str
    version: int | None
    output: str | None = None
    entry: Entry | None = field(default=None, repr=False)
    files: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    parents: tuple[tuple[str, int | None], ...] = ()
    rows: int = 0

    @property
    def record(self) -> int | None:
        """The number of the record that made it."""
        return None if self.entry is None else self.entry.number

    def to_dict(self) -> dict[str, Any]:
        """Return the step as plain data."""
        entry = self.entry
        who = {} if entry is None else {"run": entry.run, "pipeline": entry.pipeline, "actor": entry.actor}
        return {
            "uri": self.uri,
            "version": self.version,
            "output": self.output,
            "record": self.record,
            **who,
            "rows": self.rows,
            "files": {source: [dict(f) for f in files] for source, files in self.files.items()},
            "made_from": [{"uri": uri, "version": version} for uri, version in self.parents],
        }

    def __str__(self) -> str:
        version = "" if self.version is None else f" version {self.version}"
        if self.entry is None:
            return f"{self.uri}{version}: made by nobody that the ledger knows"
        return f"{self.uri}{version}: record {self.record}, run {self.entry.run} of {self.entry.pipeline} by {self.entry.actor}"


@dataclass(frozen=True)
class History:
    """Everything that a version was made from. ``steps`` starts with the version itself; each step comes before those it was made from."""

    steps: tuple[Step, ...]

    @property
    def files(self) -> tuple[Mapping[str, Any], ...]:
        """The raw files, each once: URI, size, modification time and hash."""
        found = {
            (f["uri"], f["blake3"], f["stamp"]): f for s in self.steps for files in s.files.values() for f in files
        }
        return tuple(found.values())

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The records involved, newest first."""
        found = {s.entry.number: s.entry for s in self.steps if s.entry is not None}
        return tuple(found[n] for n in sorted(found, reverse=True))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"steps": [s.to_dict() for s in self.steps], "files": [dict(f) for f in self.files]}

    def __str__(self) -> str:
        lines = []
        for step in self.steps:
            lines.append(str(step))
            lines += [f"    from {uri}" + (f" version {v}" if v is not None else "") for uri, v in step.parents]
            lines += [
                f"    from {f['uri']} ({f['blake3'] or 'not hashed'})" for files in step.files.values() for f in files
            ]
        return "\n".join(lines)


class _Graph:
    """Every version that records tell of, with the versions that it was made from: those in force when it was made."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.steps: list[Step] = []
        self.parents: list[list[int]] = []
        self.at: dict[tuple[str, int | None], int] = {}
        self.wrote: dict[str, int] = {}
        for entry in entries:
            for made in published(entry):
                self._add(made)

    def _add(self, made: Published) -> None:
        files: dict[str, tuple[Mapping[str, Any], ...]] = {}
        parents: list[int] = []
        for source in made.sources:
            about = made.entry.body["inputs"].get(source)
            if about is None:  # the run ended before it was listed
                continue
            if about["version"] is not None:
                parents.append(self._known(_plain(about["uri"][0]), _commit(about)))
                continue
            raw = []
            for file in about["files"]:
                # a file that a pipeline exported is no raw one, nor is one of a dataset
                name = _plain(file["uri"])
                wrote = self.at.get((name, None), self.wrote.get(name))
                raw += [file] if wrote is None else []
                parents += [] if wrote is None else [wrote]
            if raw:
                files[source] = tuple(raw)
        uri = _plain(made.uri)
        if made.tells is not None:
            parents.append(self._known(_plain(made.tells[0]), made.tells[1]))
        if made.before is not None:
            parents.append(self._known(uri, made.before))
        parents = list(dict.fromkeys(parents))
        whence = tuple((self.steps[p].uri, self.steps[p].version) for p in parents)
        step = Step(made.uri, made.version, made.name, made.entry, files, whence, made.rows)
        self.at[uri, made.version] = len(self.steps)
        self.wrote |= dict.fromkeys(_files(made), len(self.steps))
        self.steps.append(step)
        self.parents.append(parents)

    def _known(self, uri: str, version: int) -> int:
        if (uri, version) not in self.at:
            self.at[uri, version] = len(self.steps)
            self.steps.append(Step(uri, version))
            self.parents.append([])
        return self.at[uri, version]


def history(entries: Sequence[Entry], output: str, version: int | None) -> History:
    """Return what a version of an output was made from; see ``Ledger.history``."""
    uri = _plain(resolve(entries, output))
    graph = _Graph(entries)
    known = [v for u, v in graph.at if u == uri]
    versions = [v for v in known if v is not None]
    wanted = version if version is not None else max(versions, default=None)
    if (uri, wanted) not in graph.at:
        first, last = (min(versions), max(versions)) if versions else (None, None)
        there = "it is an exported file, which has no versions" if first is None else f"versions {first} to {last} are"
        raise LazypipeError(f"version {version} of {output!r} is not in the ledger; {there}")
    reached, todo = set(), [graph.at[uri, wanted]]
    while todo:
        index = todo.pop()
        if index not in reached:
            reached.add(index)
            todo += graph.parents[index]
    # the newest first: what a version was made from has been there before it
    start = graph.at[uri, wanted]
    order = [start, *sorted(reached - {start}, reverse=True)]
    return History(tuple(graph.steps[i] for i in order))


@dataclass(frozen=True)
class Holding:
    """A version that contains data from a file.

    ``in_force`` says whether it is the current version. ``via`` names the inputs of its run through which the data came, or ``earlier version`` for
    rows that were kept from the previous version.
    """

    pipeline: str
    output: str
    uri: str
    version: int | None
    run: str
    record: int
    via: tuple[str, ...]
    in_force: bool
    aside: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {f: getattr(self, f) for f in self.__dataclass_fields__} | {"via": list(self.via)}

    def __str__(self) -> str:
        version = "" if self.version is None else f" version {self.version}"
        force = "in force" if self.in_force else "no longer in force"
        return f"{self.uri}{version} ({force}): {self.pipeline}/{self.output}, run {self.run}, by {', '.join(self.via)}"


KEPT = "earlier version"
UNFINISHED = "unfinished run"


def containing(entries: Sequence[Entry], file: str) -> tuple[Holding, ...]:
    """Return the versions that hold data from a file; see ``Ledger.containing``."""
    search = _Search(*_identities(entries, file))
    ended = {e.run for e in entries if e.kind != "start"}
    for entry in entries:
        if entry.kind == "start" and entry.run not in ended:
            search.began(entry)
        for made in published(entry):
            search.saw(made)
    return tuple(search.found)


class _Search:
    """The versions that hold data from a file, as far as records have been gone through, oldest first."""

    def __init__(self, names: set[str], hashes: set[str]) -> None:
        self.names = names
        self.hashes = hashes
        self.known: set[tuple[str, int | None]] = set()
        self.holds: set[tuple[str, int | None]] = set()
        # where a run that was killed may have published a version that no record names
        self.doubtful: set[str] = set()
        self.wrote: dict[str, tuple[str, int | None]] = {}
        self.last: dict[str, int] = {}
        self.found: list[Holding] = []

    def saw(self, made: Published) -> None:
        """Go through what a record says was published."""
        uri = _plain(made.uri)
        via = [source for source in made.sources if self._reads(made.entry, source)]
        if made.tells is not None and self._in(_plain(made.tells[0]), made.tells[1]):
            via.append(made.name.rpartition("__")[0])
        if made.before is not None and self._in(uri, made.before):
            via.append(KEPT)
        self._replace(uri, keeps=made.before is not None and made.before + 1 == made.version)
        # a dataset or file that was created again under the same name holds only what it holds now
        self.holds.discard((uri, made.version))
        self.known.add((uri, made.version))
        self.wrote |= dict.fromkeys(_files(made), (uri, made.version))
        if via:
            self.holds.add((uri, made.version))
            self._add(made.entry, made.name, made.uri, made.version, tuple(via), aside=made.aside)

    def began(self, entry: Entry) -> None:
        """Note what a run that never ended meant to publish: any of it may have been published."""
        for name, about in entry.body["outputs"].items():
            if any(self._reads(entry, source) for source in about["sources"]):
                uri = _plain(about["uri"])
                self.doubtful.add(uri)
                self._add(entry, name, about["uri"], None, (UNFINISHED,))

    def _replace(self, uri: str, *, keeps: bool) -> None:
        """Note that the previous version is no longer the one that readers see."""
        before = self.last.pop(uri, None)
        # what an unfinished run may have added stays in force where rows are added to it
        if before is not None and not (keeps and self.found[before].via == (UNFINISHED,)):
            self.found[before] = replace(self.found[before], in_force=False)

    def _add(
        self, entry: Entry, name: str, uri: str, version: int | None, via: tuple[str, ...], *, aside: bool = False
    ) -> None:
        self.last[_plain(uri)] = len(self.found)
        self.found.append(
            Holding(entry.pipeline, name, uri, version, entry.run, entry.number, via, in_force=True, aside=aside)
        )

    def _in(self, uri: str, version: int | None) -> bool:
        """Whether a version holds the file's data, or may."""
        return (uri, version) in self.holds or (uri in self.doubtful and (uri, version) not in self.known)

    def _reads(self, entry: Entry, source: str) -> bool:
        about = entry.body["inputs"].get(source)
        if about is None:  # the run ended before it was listed
            return False
        if about["version"] is not None:
            return self._in(_plain(about["uri"][0]), _commit(about))
        if entry.kind == "start" and not about["files"]:
            return any(fnmatch(name, _plain(pattern)) for pattern in about["uri"] for name in self.names)
        read = {_plain(f["uri"]) for f in about["files"]}
        wrote = [(name, None) for name in read] + [self.wrote[name] for name in read if name in self.wrote]
        return any(_is_one(f, self.names, self.hashes) for f in about["files"]) or any(self._in(*w) for w in wrote)


def _is_one(file: Mapping[str, Any], names: set[str], hashes: set[str]) -> bool:
    return _plain(file["uri"]) in names or file["blake3"] in hashes


def _identities(entries: Sequence[Entry], file: str) -> tuple[set[str], set[str]]:
    """Return the names that a file had in runs, and the hashes of what it held; other names of the same content too."""
    inputs = [about for e in entries for about in e.body["inputs"].values() if about["version"] is None]
    read = [f for about in inputs for f in about["files"]]
    names, wanted = {_plain(f["uri"]) for f in read}, _plain(file)
    if uris.is_local(file) and wanted not in names:
        wanted = uris.resolve(file, ".")
    hashes = {f["blake3"] for f in read if f["blake3"] and (_plain(f["uri"]) == wanted or f["blake3"] == file)}
    if wanted in names or hashes:
        return names & {wanted}, hashes
    ended = {e.run for e in entries if e.kind != "start"}
    begun = [e for e in entries if e.kind == "start" and e.run not in ended]
    patterns = (p for e in begun for about in e.body["inputs"].values() for p in about["uri"])
    if any(fnmatch(wanted, _plain(p)) for p in patterns):
        return {wanted}, set()  # of a run that was killed before it listed the files
    raise LazypipeError(f"no run in the ledger has read {file!r}; {nearest(file, {f['uri'] for f in read}, 'files')}")
