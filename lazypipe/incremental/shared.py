"""Stages that several outputs read and no dataset stores: which source files a run reads for them, so that each output gets what it lacks.

Their rows are kept for one run only. What their gates counted, put aside and compared is kept beyond that, file by file: in commits of
their own, below the pipeline's state (docs/decisions/0021-groups-keys-and-what-is-shared.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from lazypipe.compile.changes.strategy import Side
from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.segments import Segment
from lazypipe.incremental.parts import within
from lazypipe.incremental.work import Work
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import DataFile
from lazypipe.storage.datasets.units import UNIT, Units
from lazypipe.storage.files import read_key

__all__ = ["Shared", "needs_of", "state_of", "takes_parts"]


def state_of(plan: CompiledPipeline, segment: Segment) -> Dataset | None:
    """Return where the gates of what is kept for a run only keep their counts; None if there are none, or it is read whole."""
    strategy = plan.inner.get(segment.node)
    if segment.output is not None or strategy is None or strategy.kind != "units":
        return None
    if not any(plan.nodes[n].checks for n in segment.nodes):
        return None
    return plan.state.dataset("shared", segment.node)


def needs_of(
    plan: CompiledPipeline, segment: Segment, work_of: Callable[[Segment], Work | None]
) -> tuple[dict[str, Units] | None, frozenset[str]]:
    """Return what of each source is needed by those who read a node that is kept for a run only; None for all of it.

    Besides, the outputs that keep nothing of what they were made of before.

    Parameters
    ----------
    work_of
        Gives the work of another segment, None where that is not known yet. Those with nothing to do need nothing.
    """
    driving = plan.inner[segment.node].driving
    files: dict[str, dict[str, int]] = {n: {} for n in driving}
    wanted: dict[str, set[int]] = {n: set() for n in driving}
    anew: set[str] = set()
    for reader in plan.segments:
        if segment.node not in reader.reads:
            continue
        work = work_of(reader)
        if work is not None and work.kind in ("none", "wait", "judge", "state"):
            continue
        if work is None or any(n not in work.units for n in driving):
            return None, frozenset()
        if work.kind == "all" and reader.output is not None:
            anew.add(reader.output)
        for name in driving:
            files[name] |= work.units[name].files
            wanted[name] |= work.units[name].wanted
    return {n: Units(files[n], frozenset(wanted[n])) for n in driving}, frozenset(anew)


def takes_parts(plan: CompiledPipeline, name: str) -> bool:
    """Whether it is known beforehand which parts of a source's files are needed by the outputs that read it through rows kept for one run.

    All of them must read it by files, not as a side of theirs, and no output besides, of which it is not known yet what comes of it.
    """
    inner = [
        s for s in plan.segments if s.output is None and s.node in plan.inner and name in plan.inner[s.node].driving
    ]
    kept = frozenset(s.node for s in plan.segments if s.output is None)
    return all(_needs_parts(plan, segment, name, kept) for segment in inner)


def _needs_parts(plan: CompiledPipeline, segment: Segment, name: str, kept: frozenset[str]) -> bool:
    if plan.inner[segment.node].kind != "units":
        return False
    for reader in plan.segments:
        if segment.node not in reader.reads:
            continue
        if reader.output is None:
            if name not in plan.inner[reader.node].driving:
                return False
            continue
        output, strategy = plan.outputs[reader.output], plan.strategies[reader.output]
        by_files = strategy.kind == "units" or (strategy.kind != "full" and output.mode == "replace")
        if not by_files or name not in strategy.driving or not kept.issuperset(reader.reads):
            return False
    return True


@dataclass(frozen=True)
class Shared:
    """The rows of a node that are kept for one run, with their units: those that the node's own work gave them.

    ``keys`` are the hashed keys by which rows were looked up in other sides on the way to it, with the same units.
    """

    uri: str
    files: Sequence[DataFile]
    schema: pl.Schema
    units: Mapping[str, Units]
    keys: Mapping[Side, pl.LazyFrame] = field(default_factory=dict)

    def scan(self, units: Mapping[str, Units]) -> pl.LazyFrame | None:
        """Return the rows of some files or units, each with its unit, or its number on the way; None if not all are told apart."""
        if any(name not in units for name in self.units):
            return None
        from lazypipe.storage.datasets.data_files import scan_files

        here, there = self._places(units)
        rows = scan_files(self.uri, self.files, self.schema, (), {}, tagged=True, units=here, tags=True)
        return rows if here == there else _renamed(rows, here, there)

    def keys_of(self, side: Side, units: Mapping[str, Units]) -> pl.LazyFrame:
        """Return the hashed keys of rows of some files or units, with these or their numbers on the way, as of rows in ``scan``."""
        here, there = self._places(units)
        return _renamed(self.keys[side].filter(pl.col(UNIT).is_in(here)), here, there)

    def _places(self, units: Mapping[str, Units]) -> tuple[list[int], list[int]]:
        """Return the units that rows of some files or units have here, and what is to be put in their places."""
        here: list[int] = []
        there: list[int] = []
        for name, mine in self.units.items():
            theirs = units[name]
            if mine.wanted or theirs.wanted:
                here += [mine.others.get(unit, unit) for unit in sorted(theirs.wanted)]
                there += [theirs.others.get(unit, unit) for unit in sorted(theirs.wanted)]
            parts = _by_file(mine.files)
            for number, (file, unit) in enumerate(theirs.files.items()):
                # a file, or what was appended to it, may have been read in parts here, as others needed
                of = [file] if file in mine.files else within(file, parts[read_key(file)[0]])
                here += [mine.files[part] for part in of]
                there += [unit if theirs.first is None else theirs.first + number] * len(of)
        return here, there


def _by_file(keys: Iterable[str]) -> dict[str, list[str]]:
    """Return keys of parts by their files."""
    found: dict[str, list[str]] = {}
    for key in keys:
        found.setdefault(read_key(key)[0], []).append(key)
    return found


def _renamed(rows: pl.LazyFrame, here: Sequence[int], there: Sequence[int]) -> pl.LazyFrame:
    return rows.with_columns(pl.col(UNIT).replace_strict(here, there, return_dtype=pl.UInt64))
