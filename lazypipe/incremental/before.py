"""What the last commit of an output recorded about its inputs: what was consumed, and by which plan.

Nothing else is remembered anywhere, so data and state cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.sources.source import BoundSource
from lazypipe.errors import LazypipeError, StorageError
from lazypipe.incremental.arrivals import ARRIVALS, Known, by_name, known
from lazypipe.incremental.parts import Listed, units_in
from lazypipe.incremental.reach import EXTENTS, read_extents
from lazypipe.incremental.state import Consumed, ConsumedFile, State
from lazypipe.plan.fingerprint import Fingerprint
from lazypipe.spec.model import NOTHING, Output
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit, DataFile
from lazypipe.storage.parquet.row_groups import Borders
from lazypipe.windows.reach import Extent

__all__ = [
    "CONSUMED",
    "DELETES",
    "GENERATION",
    "GONE",
    "Before",
    "all_before",
    "consumed_before",
    "files_of_units",
    "known_before",
    "own_commit",
    "read_whole_before",
    "units_before",
    "with_hashes",
    "without_borders",
]

CONSUMED = "consumed"
"""Where in a commit's ``info`` stands what it has consumed."""

GENERATION = "generation"
"""Where stands since which run the rows of its units are what they are: in what was consumed, or in ``info`` of rows that are put aside."""

DELETES = "deletes"
"""Where in a commit's ``info`` stands what outputs with ``mode: delete`` have consumed, by their names."""

GONE = "gone"
"""Where in what was consumed stands which units of a table went after their rows were added, and of which files they were."""


@dataclass(frozen=True)
class Before:
    """What the last commit says: the plan, what was consumed, the unit of each file, and since when rows are what they are.

    ``gone`` are units whose rows were added and that are not in their table any more, with the file of each. ``pipelines`` are
    those that have written what is there, by their names; empty if that was not noted yet.
    """

    fingerprint: Fingerprint
    layout: str
    state: State
    units: Mapping[str, Sequence[Listed]]
    generation: str
    tallies: Mapping[str, Any]
    figures: tuple[DataFile, ...]
    keys: Mapping[tuple[str, str], tuple[DataFile, ...]]
    digests: Mapping[tuple[str, str], tuple[DataFile, ...]]
    renamed: Mapping[str, Mapping[int, int]] = NOTHING
    arrivals: Mapping[str, Any] = NOTHING
    extents: Mapping[str, Mapping[str, Extent]] = NOTHING
    gone: Mapping[str, Mapping[int, str]] = NOTHING
    pipelines: tuple[str, ...] = ()

    @classmethod
    def of(cls, commit: Commit | None, uri: str) -> Before | None:
        """Read it from a commit; None if that does not say; raises StorageError if it is damaged."""
        said = None if commit is None else commit.info.get(CONSUMED)
        if commit is None or said is None:
            return None
        state = State.from_dict(said, uri=uri)
        try:
            plan = Fingerprint.from_dict(said["fingerprint"])
            paths = {f.path: f for f in commit.figures}
            keys = {(n, c): tuple(map(paths.pop, names)) for n, c, names in said.get("keys", ())}
            digests = {(n, c): tuple(map(paths.pop, names)) for n, c, names in said.get("digests", ())}
            renamed = {n: dict(of) for n, of in said.get("renamed", {}).items()}
            arrivals = said.get(ARRIVALS, NOTHING)
            for name, of in arrivals.items():
                by_name(state.sources[name], of)
            return cls(
                plan,
                said["layout"],
                state,
                said["units"],
                said["generation"],
                said["tallies"],
                tuple(paths.values()),
                keys,
                digests,
                renamed,
                arrivals,
                read_extents(said.get(EXTENTS, {})),
                {n: dict(of) for n, of in said.get(GONE, {}).items()},
                tuple(said.get("pipelines", ())),
            )
        except (LazypipeError, KeyError, TypeError, ValueError) as error:
            fix = "run once in full, which rewrites it"
            raise StorageError("the record of what the output has consumed is damaged", uri=uri, fix=fix) from error

    def known(self, name: str) -> frozenset[int]:
        """Return the units of a dataset that were consumed, as its rows know them."""
        there = {here: unit for unit, here in self.renamed.get(name, {}).items()}
        return frozenset(there.get(u, u) for u in units_in(self.units.get(name, ())))

    def knew_units(self, name: str) -> bool:
        """Whether the rows of a table knew their units, where these are not as many as its files; if they are, each counts as one."""
        consumed = self.state.sources[name]
        return consumed.kind == "dataset" and len(consumed.files) != len(self.units.get(name, consumed.files))

    def forgetting(self, name: str) -> Before:
        """Return this without what was consumed of a table, of which all rows are in other files by now."""
        consumed = replace(self.state.sources[name], files=())
        state = replace(self.state, sources={**self.state.sources, name: consumed})
        return replace(self, state=state, units={**self.units, name: []})


def own_commit(commit: Commit | None, name: str, output: Output) -> Commit | None:
    """Return a commit as an output sees it: where it only deletes, with what it has consumed itself, None if it never did."""
    if commit is None or output.mode != "delete":
        return commit
    said = commit.info.get(DELETES, {}).get(name)
    return None if said is None else replace(commit, info={CONSUMED: said})


def consumed_before(outputs: Mapping[str, Output], source: str) -> tuple[ConsumedFile, ...]:
    """Return the files of a source that outputs were made of, as they were then."""
    found: dict[ConsumedFile, None] = {}
    for before in all_before(outputs, source):
        found |= dict.fromkeys(before.state.sources[source].files)
    return tuple(found)


def units_before(outputs: Mapping[str, Output], source: str) -> frozenset[int]:
    """Return the units of a dataset, whose rows know theirs, that outputs were made of."""
    found = (u for before in all_before(outputs, source) for u in units_in(before.units.get(source, ())))
    return frozenset(found)


def read_whole_before(outputs: Mapping[str, Output], source: str) -> frozenset[str]:
    """Return the files of a dataset that outputs read in whole, as the other side of a join, by the names they are consumed by."""
    found = (before for before in all_before(outputs, source) if source not in before.units)
    return frozenset(f.uri for before in found for f in before.state.sources[source].files)


def files_of_units(commit: Commit) -> dict[int, str]:
    """Return the file that each unit of an output is, as far as its rows know their units; raises StorageError if it is damaged."""
    before = Before.of(commit, "")
    found: dict[int, str] = {}
    if before is not None:
        for name, units in before.units.items():
            files = before.state.sources[name].files
            # those of a dataset whose rows know their units are no files
            pairs = zip(units, files, strict=True) if len(units) == len(files) else ()
            found |= {u: f.uri for listed, f in pairs for u in units_in([listed])}
    return found


def known_before(plan: CompiledPipeline, source: BoundSource) -> dict[str, Known]:
    """Return what outputs of the pipeline know of the event times in a source's files, by the names they are consumed by."""
    assert source.watermark is not None
    found: dict[str, Known] = {}
    for before in all_before(plan.outputs, source.name):
        found |= known(source.watermark, before.state.sources[source.name], before.arrivals.get(source.name))
    return found


def all_before(outputs: Mapping[str, Output], source: str) -> list[Before]:
    """Return what the last commits of outputs say that were made of a source."""
    found = []
    for name, output in [(n, o) for n, o in outputs.items() if o.format == "dataset"]:
        with suppress(LazypipeError):  # what is damaged is told when the output is decided upon
            commit = Dataset(output.to, output.storage_options).latest()
            before = Before.of(own_commit(commit, name, output), output.to)
            if before is not None and source in before.state.sources:
                found.append(before)
    return found


def with_hashes(
    info: Mapping[str, Any],
    known: Mapping[str, Mapping[str, str]],
    borders: Mapping[str, Borders],
) -> dict[str, Any]:
    """Return what a commit says of its inputs with the hashes of files that became known meanwhile, per source.

    So that a file which is only touched, moved or delivered again is known for what it is the next time; and one that is changed, by the
    ``borders`` of its row groups.
    """
    sources = dict(info["sources"])
    for name, hashes in known.items():
        if name in sources and hashes:
            consumed = Consumed.from_dict(sources[name])
            files = tuple(f._replace(blake3=f.blake3 or hashes.get(f.uri)) for f in consumed.files)
            sources[name] = replace(consumed, files=files, borders={**consumed.borders, **borders}).to_dict()
    return {**info, "sources": sources}


def without_borders(
    info: Mapping[str, Any], staying: Callable[[str, Collection[str]], Container[str]]
) -> dict[str, Any]:
    """Return what a commit says of its inputs without the row groups of files that do not stay as they were listed.

    What was read of such a file may have been more than what was hashed, so that it cannot be said what of it is new the next time.

    Parameters
    ----------
    staying
        Returns those of some files of a source that stay, by their names.
    """
    sources = dict(info["sources"])
    for name, plain in sources.items():
        if "borders" in plain:
            consumed = Consumed.from_dict(plain)
            known = {f.uri: f.blake3 for f in consumed.files if f.blake3 in consumed.borders}
            stay = staying(name, known)
            others = {digest for uri, digest in known.items() if uri not in stay}
            borders = {digest: of for digest, of in consumed.borders.items() if digest not in others}
            sources[name] = replace(consumed, borders=borders).to_dict() if others else plain
    return {**info, "sources": sources}
