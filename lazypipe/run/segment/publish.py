"""Publishes what one attempt at a segment wrote, after its audit: quarantine, files, partial aggregates and state, in one commit."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from lazypipe.compile.closing import closes, states
from lazypipe.compile.late import LATE
from lazypipe.compile.sources.source import Snapshot
from lazypipe.errors import CommitConflict, StorageError
from lazypipe.gates.tally import to_columns
from lazypipe.incremental import incomplete as incompletes
from lazypipe.incremental.arrivals import with_times
from lazypipe.incremental.before import CONSUMED, DELETES, with_hashes, without_borders
from lazypipe.incremental.exports import EXPORT, export_said, exports_of
from lazypipe.incremental.progress import PROGRESS
from lazypipe.incremental.reach import EXTENTS, Reaching, Use
from lazypipe.incremental.stamps import stays
from lazypipe.run.segment.aside import Quarantine, forget
from lazypipe.run.segment.audit import Audit
from lazypipe.run.segment.meanwhile import Meanwhile
from lazypipe.run.segment.part import Part
from lazypipe.run.segment.query import Query
from lazypipe.run.segment.target import Target
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.log import KEPT, Commit, DataFile, partitioned
from lazypipe.storage.datasets.unit_counts import count_units
from lazypipe.storage.sink import DatasetSink, ExportSink, Written
from lazypipe.windows.watermark import COMPLETE

if TYPE_CHECKING:
    import polars as pl

    from lazypipe.run.segment.merge import Outcome
    from lazypipe.storage.datasets.dataset import Dataset

__all__ = ["Publication"]


class Publication(Part):
    """How the outcome of a segment becomes visible; from then on it is ``published``, and nothing is taken away any more."""

    def __init__(self, query: Query, target: Target, audit: Audit) -> None:
        super().__init__(query, target)
        self.audit = audit
        self.asides: list[Quarantine] = []
        self.published = False

    def _judged_no_more(self) -> list[str]:
        """Return the nodes without a gate, of which rows may be aside by a definition from before; also those ahead of windows that let late rows in now."""
        if self.output is None:
            return []
        plan = self.query.plan
        names = [self.segment.node]
        # what nodes ahead put aside is shared by all outputs, and may be all that there is of rows which others only add
        if self.query.work.kind == "all" and all(o.mode == "replace" for o in plan.outputs.values()):
            kept = {s.node: s for s in plan.segments if s.output is None}
            made = [self.segment]
            for segment in made:  # and those that are read with it
                made += [kept[n] for n in segment.reads if n in kept and kept[n] not in made]
            names = [n for segment in made for n in segment.nodes]
        anew = self.query.work.kind == "all" and self.query.work.commit is not None
        ahead = [f"{n}{LATE}" for n in names] if anew else []
        return [n for n in (*names, *ahead) if n not in plan.nodes or not plan.nodes[n].checks]

    def publish(
        self,
        sink: DatasetSink | ExportSink,
        written: Written,
        earlier: Written | None,
        expected: int,
        hashes: Callable[[], tuple[DataFile, ...]],
        merged: Outcome | None,
    ) -> Commit | None:
        """Make what was written and audited visible: rows put aside first, then the output, in one commit; None for an export."""
        if self.output is not None or self.query.taps:
            self.run.recorder.announce()
        # told before the quarantine is replaced too, which then is that of the other run
        there = self.target.refuse_conflict(expected)
        again, worn = self._compact(sink, there)
        for name, tap in self.query.taps.items():
            self.asides.append(Quarantine(self.query, name))
            self.asides[-1].publish(tap, partial(self.target.rows_of, sink, written))
        for name in self._judged_no_more():
            Quarantine(self.query, name).clear()
        if self.target.removes_keys:
            forget(self.query, self.target.rows_of(sink, written))
        self.published = True
        more = () if earlier is None else self.target.hashing(sink, earlier)()
        if merged is not None and self.target.is_merged:
            hashes = self.target.hashing_of(merged.files)
        files = (*more, *hashes(), *again)
        if isinstance(sink, ExportSink):
            self._export(sink, written)
            self.run.recorder.written[self.segment.name] = files
            return None
        if self.output is None:
            return self._keep_state()
        schema = self.target.schema
        info = self._said()
        beside = self.query.beside
        assert beside is not None
        figures = self._merged_figures()
        keys = self._note_keys(info)
        if merged is not None:
            if self.output.mode == "delete":
                # what the dataset itself has consumed stays as it was
                feeds = {**merged.info[DELETES], self.segment.output: info.pop(CONSUMED)}
                merged = replace(merged, info={**merged.info, DELETES: feeds})
            info, schema = {**info, **merged.info}, merged.schema
        mode = "replace" if earlier is not None or merged is None else merged.mode
        commit = self._committed(
            self.target.dataset,
            files,
            schema,
            mode="change" if self.work.adds_units or self.target.groups is not None else mode,
            partition_by=self.output.partition_by if merged is None else merged.partition_by,
            info=info,
            expected=expected,
            tagged=self.work.told_apart,
            gone=self.work.gone if self.work.told_apart else (),
            figures=(*figures, *keys, *(() if merged is None else merged.beside)),
            without=worn if merged is None else merged.without,
            keys=self.target.looked_up(schema),
            known=self.work.commit,
        )
        if self.output.delta_log:  # some may have been written once more, as a Delta reader is to read them
            files = tuple(f for f in commit.files if f.path.rpartition("/")[2].startswith(f"{self.run.id}-"))
        self.run.recorder.written[self.segment.name] = files
        return commit

    def _committed(self, to: Dataset, files: tuple[DataFile, ...], schema: pl.Schema, **how: Any) -> Commit:
        """Commit what goes on; where another run was faster, what it has put aside is in force again.

        Where files were only rewritten, such as by ``compact``, all is to be put together once more.
        """
        try:
            return to.commit(files, schema, run=self.run.id, time=self.run.now, **how)
        except CommitConflict:
            for aside in self.asides:
                aside.take_back()
            latest = to.latest()
            if latest is not None and how["expected"] and latest.stands(how["expected"]):
                raise Meanwhile("files were only rewritten while rows were put together with theirs") from None
            raise

    def _export(self, sink: ExportSink, written: Written) -> None:
        """Swap the file in, and keep in the state what it was made of: the next run has nothing to do if all of that is as it was."""
        name = self.segment.output
        assert name is not None
        state, expected = exports_of(self.plan, name), None
        with suppress(StorageError):  # what is damaged is not needed
            expected = 0 if (before := state.latest()) is None else before.version
        file, (whole,) = sink.publish(), written.files
        known = file is not None and file.size == whole.bytes
        said = {EXPORT: export_said(self.plan, self.segment, file, whole.rows)} if known and file is not None else {}
        keep = partial(state.commit, (), self.target.schema, run=self.run.id, time=self.run.now)
        with suppress(StorageError):  # then the next run writes the file once more
            try:
                keep(info={**self._said(), **said}, expected=expected)
            except CommitConflict:  # it cannot be told which of two runs has swapped its file in last
                keep()

    def _keep_state(self) -> Commit | None:
        """Commit what gates have counted where rows are kept for this run only, and a run sees just some of them."""
        if self.target.state is None:
            return None
        info = self._said()
        keys = self._note_keys(info)
        return self._committed(
            self.target.state,
            (),
            self.target.schema,
            info=info,
            expected=self.work.version or 0,
            figures=keys,
            known=self.work.commit,
        )

    def _said(self) -> dict[str, Any]:
        """Return what a commit says of its making."""
        info = {
            "gates": [r.to_dict() for r in self.audit.reports()],
            **self.query.tags(self.segment.node, self.segment.output),
            **self.run.recorder.info,
        }
        if self.work.info:
            read = [n for n in self.work.info["sources"] if n in self.run.snapshots]
            sources = {n: s for n in read if (s := self.plan.nodes[n].source) is not None}
            known = {n: {s.redact(u): h for u, h in self.run.recorder.known(n).items()} for n, s in sources.items()}
            counted = {
                n: {s.redact(u): t for u, t in self.query.times[n].found.items()}
                for n, s in sources.items()
                if n in self.query.times
            }
            beside, told = self.progress()
            info |= told
            hashed = with_hashes(self.work.info, known, self.run.recorder.borders)
            info[CONSUMED] = {
                **beside,
                **with_times(without_borders(hashed, self._stay), counted),
                "tallies": self._tallies(),
                **self._extents(),
            }
        if self.target.is_sorted:
            info["ordered"] = True  # files that are put together later must stay in their order
        if self.target.chosen and self.target.choice is not None:
            info[KEPT] = dict(self.target.choice.said)
        return info

    def _stay(self, name: str, files: Collection[str]) -> frozenset[str]:
        """Return which of a source's files, by their names in commits, are still as they were listed; those that were not listed count as such."""
        if name not in self.run.snapshots:  # it is not read any more
            return frozenset(files)
        source = self.plan.nodes[name].source
        assert source is not None
        listed = {source.redact(f.uri): f for f in self.run.snapshots[name].files}
        options = source.reader.storage_options
        return frozenset(f for f in files if f not in listed or stays(listed[f], options))

    def _extents(self) -> dict[str, Any]:
        """Return where the files lie that reach rows of others in joins, with those that were not known."""
        said: dict[str, dict[str, Any]] = {k: dict(of) for k, of in self.work.info.get(EXTENTS, {}).items()}
        uses = self.plan.strategies[self.segment.output].reached if self.segment.output is not None else ()
        for use in map(Use._make, uses):
            known = said.get(use.key, {})
            found = Reaching(self.plan, self._looked_at).extents(use, known)
            said[use.key] = {**known, **{name: list(ends) for name, ends in found.items()}}
        return {EXTENTS: said} if said else {}

    def _looked_at(self, name: str) -> Snapshot:
        """Return the snapshot that this run has of a source, or of an output that it reads."""
        if name not in self.run.published:
            return self.run.look(name)
        dataset, commit = self.run.published[name]
        return Snapshot(dataset.files(commit), commit)

    def _note_keys(self, info: dict[str, Any]) -> tuple[DataFile, ...]:
        """Return the files with hashed keys that the next version is made of, and say in it which is which."""
        beside = self.query.beside
        assert beside is not None
        keys = beside.merge_keys(self.target.prefix("m"))
        if keys:
            info[CONSUMED]["keys"] = [[n, c, [f.path for f in files]] for (n, c), files in keys.items()]
        if beside.digests:
            told = [[*side.key, [f.path for f in files]] for side, files in beside.digests.items()]
            info[CONSUMED]["digests"] = told
        return tuple(chain(*keys.values(), *beside.digests.values()))

    def progress(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the commit says of how far event time is, where rows are made of sources that say it."""
        nodes, last = self.plan.nodes, self.segment.node
        if not states(nodes, last):
            return {}, {}
        closed = [n for n in self.segment.nodes if n != last and closes(nodes[n]) is not None]
        beside, told = self.query.closing(last).to_info({n: self.query.closing(n).horizon for n in closed})
        whole = self.query.whole(last)
        if whole is not None:
            told = {COMPLETE: whole.hold(told[COMPLETE])}
            beside = {PROGRESS: {**beside[PROGRESS], incompletes.INCOMPLETE: incompletes.written(whole.incomplete())}}
        # what only removes rows says nothing of those that are there
        return beside, told if self.output is None or self.output.mode != "delete" else {}

    def _compact(
        self, sink: DatasetSink | ExportSink, there: Commit | None
    ) -> tuple[tuple[DataFile, ...], frozenset[str]]:
        """Write those rows once more whose file would hold more dead than live ones; return files, and what they replace."""
        if self.target.groups is not None:
            assert isinstance(sink, DatasetSink)
            merged, gone = self.target.groups.merge(sink, self.target.staged.append)
            assert self.output is not None
            before, now = self.target.groups.commit.partition_by, self.output.partition_by
            made = (*partitioned(self.target.groups.rewrite.files, before, now), *merged)
            return self.target.hashing(sink, Written(made))(), gone | self.target.groups.rewrite.without
        commit = there if self.work.adds_units else None
        worn = () if commit is None else self.target.dataset.worn(commit, self.work.gone)
        if commit is None or not worn:
            return (), frozenset()
        for file in worn:
            target = uris.join(self.target.uri, file.path)
            fs, path = uris.file_system(target, self.target.dataset.storage_options)
            if not fs.exists(path):
                what = "a data file of the current version is gone, and its rows are needed again"
                fix = "restore it from a backup, or run once in full, which rebuilds the output"
                raise StorageError(what, uri=self.plan.redact(target), fix=fix)
        assert isinstance(sink, DatasetSink)
        again = replace(sink, prefix=f"{sink.prefix}c")
        self.target.staged.append(again)
        live = commit.units - self.work.gone
        rows = self.target.dataset.scan(replace(commit, files=worn), only=live, tags=True)
        counted = count_units(self.target.uri, again.write(rows).files, again.storage_options)
        return self.target.hashing(again, Written(counted))(), frozenset(f.path for f in worn)

    def _merged_figures(self) -> tuple[DataFile, ...]:
        """Return the files with the figures of all units; of those that stay, small ones are merged."""
        grouping = self.query.grouping
        if grouping is None:
            return ()
        prefix = self.target.prefix("m")
        before = grouping.beside.merged(self.work.figures, grouping.within, grouping.order, prefix)
        return (*grouping.note(before), *grouping.figures)

    def _tallies(self) -> dict[str, Any]:
        """Return what each gate has counted of each unit, in this run and before."""
        numbers = self.work.numbers
        found = {}
        for name, tap in self.query.taps.items():
            if not self.query.unit(name):
                continue
            here = tap.tallies if numbers is None else {numbers[n]: t for n, t in tap.tallies.items()}
            found[name] = to_columns({**self.work.tallies.get(name, {}), **here})
        return found
