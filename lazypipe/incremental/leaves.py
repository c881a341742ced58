"""All inputs of an output as they are now, compared with what it has consumed, and how much of the difference one run takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.segments import Segment
from lazypipe.compile.sources.intake import Intake
from lazypipe.compile.sources.source import BoundSource, Snapshot
from lazypipe.errors import SourceError
from lazypipe.incremental.arrivals import by_name, rejudged, still_stands
from lazypipe.incremental.before import CONSUMED, GENERATION, Before
from lazypipe.incremental.changes import Changes, allowed, compare, trusted
from lazypipe.incremental.hashing import group_hasher, hasher, prefix_hasher
from lazypipe.incremental.leaf import Leaf
from lazypipe.incremental.parts import Listed, units_in
from lazypipe.incremental.shared import takes_parts
from lazypipe.incremental.stamps import moment_of
from lazypipe.incremental.state import Consumed
from lazypipe.incremental.terms import Terms, table_of
from lazypipe.incremental.unreadable import rows_in
from lazypipe.plan.fingerprint import digest
from lazypipe.spec.model import NOTHING
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.files import FileInfo
from lazypipe.storage.parquet.row_groups import begun

if TYPE_CHECKING:
    from lazypipe.incremental.successors import Older

__all__ = ["Leaves"]

_MOST_PARTS = 128
"""Parts of a file that is written anew, after so many times it is read as a whole; and files that are cut in one run."""


@dataclass(frozen=True)
class Leaves:
    """Compares each source and output that one output reads with what that output has consumed of it.

    With ``added``, rows are only added: those that are there stay when their files go, and are not judged anew.
    ``older`` are versions of tables that are to be read instead of their last ones.
    """

    plan: CompiledPipeline
    segment: Segment
    before: Before | None
    terms: Terms
    added: bool = False
    older: Mapping[str, Older] = NOTHING

    def leaf(
        self,
        name: str,
        without: Sequence[FileInfo] = (),
        outside: Sequence[FileInfo] = (),
        was: Sequence[FileInfo] = (),
    ) -> Leaf:
        """Return what is there of a source or output, and what was consumed of it.

        So ``without`` files that are left for later, and those that were written ``outside`` of what the run is for; ``was`` are those of
        them that had other names, by which their rows stay.
        """
        published = None if name in self.segment.nodes else table_of(self.plan, name, self.terms.tables)
        source = self.plan.nodes[name].source if published is None else None
        before = None if self.before is None else self.before.state.sources.get(name)
        if published is None:
            assert source is not None
            snapshot, uri = self.terms.look(name), source.redact(source.patterns[0])
        else:
            dataset, commit = published
            assert commit is not None, f"{name} was published"
            snapshot, uri = Snapshot(dataset.files(commit), commit), self.plan.redact(dataset.uri)
        left = frozenset(f.uri for f in without)
        if name in self.older:
            snapshot, more = self.older[name]
            left = left.union(more)
        if without or outside:
            away = left.union(f.uri for f in outside)
            files = tuple(f for f in snapshot.files if f.uri not in away)
            snapshot = replace(snapshot, files=files, waiting=(*snapshot.waiting, *without, *outside, *was))
        if snapshot.commit is not None:
            leaf = self._dataset_leaf(name, snapshot, before, uri, source)
            return replace(leaf, left=leaf.left | left) if left else leaf
        assert source is not None
        leaf = self._files_leaf(source, snapshot, before)
        return replace(leaf, left=left, outside=tuple(outside), written=self.terms.bound.told)

    def _files_leaf(self, source: BoundSource, snapshot: Snapshot, before: Consumed | None) -> Leaf:
        reader, hashes, parquet = source.reader, self.terms.hashes, self._is_parquet(source)
        options, intake = reader.storage_options, self._intake(source)
        hashing = self._hasher(options, grows=source.is_text, groups=parquet)
        prefixes = None
        if source.is_text:
            prefixes = prefix_hasher(reader.format, reader.csv_options, options, hashes, by_row=reader.by_row)
        found = compare(
            before,
            snapshot,
            hasher=hashing,
            detect=intake.detect,
            prefix=prefixes,
            groups=group_hasher(options, hashes) if parquet else None,
            name=source.redact if source.redact.secrets else None,
            waiting=[f.uri for f in snapshot.waiting],
            # where there may be many new files, of which few are taken, none is hashed for that alone
            tell=self.terms.judge_again and not self.terms.bound.is_set,
        )
        if parquet:
            hashes.modified.update(found.modified)
        changes = self._allowed(found, snapshot, source, intake)
        # growth must be known for what it is: rows that were added must not come again, and what is modified may be ignored or refused
        must_know = source.is_text and (self.added or intake.on_modified != "reprocess")

        def wanted(file: FileInfo) -> bool:
            if file in hashes or snapshot.table is not None:
                return file in hashes
            return intake.detect == "content" or must_know or self._is_racy(file.stamp)

        def consume() -> Consumed:
            # whoever reads a file that cannot be read will say so
            made = replace(found, waiting=()).consumed(listed=self.terms.listed, hasher=hashing, wanted=wanted)
            return replace(made, borders={**made.borders, **hashes.borders}) if hashes.borders else made

        if before is None:
            return Leaf(source.name, snapshot, consume, None, None)
        rejudged = self._rejudged(source.name, snapshot, before, changes)
        tails = self._tails(source, snapshot, before, changes)
        return Leaf(source.name, snapshot, consume, found, changes, rejudged=rejudged, tails=tails)

    def _dataset_leaf(
        self, name: str, snapshot: Snapshot, before: Consumed | None, uri: str, source: BoundSource | None
    ) -> Leaf:
        commit = snapshot.commit
        assert commit is not None
        said = commit.info.get(CONSUMED, {})
        # what a reader cannot see from files: rows that were taken out of them, and by which plan they were made
        at = {"gone": digest(sorted(commit.gone)), GENERATION: {**commit.info, **said}.get(GENERATION, "")}
        if source is not None:
            at["plan"] = digest(said.get("fingerprint"))
        consumed = replace(Consumed.of(snapshot, uri=uri), at=at)
        left = self._beyond(name, snapshot)
        if left:
            pairs = zip(commit.files, consumed.files, strict=True)
            consumed = replace(consumed, files=tuple(said for file, said in pairs if left.isdisjoint(file.units)))
        if before is None:
            return Leaf(name, snapshot, lambda: consumed, None, None, tagged=commit.tagged, left=left)
        found = compare(replace(before, at=NOTHING), snapshot, hasher=hasher(), name=self.plan.redact)
        if found.nothing and dict(before.at) != at:
            found = replace(found, position=(before.at, at))
        intake = self._intake(source)
        changes = self._allowed(found, snapshot, source, intake)
        return Leaf(
            name,
            snapshot,
            lambda: consumed,
            found,
            changes,
            tagged=commit.tagged,
            keeps_gone=intake.on_removed == "ignore",
            replaced=self._replaced(name, commit, source, intake),
            left=left,
        )

    def _replaced(self, name: str, commit: Commit, source: BoundSource | None, intake: Intake) -> frozenset[int]:
        """Return the units that are gone from a table whose rows know theirs, where their files have others there, as far as it tells."""
        before = self.before
        if source is None or before is None or self.added or not commit.tagged or intake.on_removed != "ignore":
            return frozenset()
        known = before.known(name)
        if known <= commit.units:
            return frozenset()
        from lazypipe.incremental.remade import Origins, Remade

        table = Dataset(source.patterns[0], source.reader.storage_options)
        # tables that another definition reads are not known by their names here
        made = Remade.of(before, name, table, commit, commit.units.difference(known), Origins(lambda _: None))
        return frozenset(unit for unit, file in made.gone.items() if file not in made.lost)

    def _allowed(self, found: Changes, snapshot: Snapshot, source: BoundSource | None, intake: Intake) -> Changes:
        """Return changes as what the source says of files that went or changed lets them be; those of a table that it has replaced did not go."""
        name = "" if source is None else source.name
        is_table = snapshot.table is not None or (snapshot.commit is not None and not snapshot.commit.tagged)
        if not is_table or not found.removed or intake.on_removed == "delete" or self.added:
            return allowed(found, on_removed=intake.on_removed, on_modified=intake.on_modified, source=name)
        from lazypipe.incremental.successors import replaced

        assert source is not None
        assert found.before is not None
        others = replaced(found.before, snapshot, source.patterns[0], source.reader.storage_options, self.plan.redact)
        if others is None and found.added and intake.on_removed == "ignore":
            gone = found.removed[0].uri
            what = f"source {name!r}: files that were read are gone, and the log of the table no longer says whether their rows are in others now"
            raise SourceError(what, uri=gone, fix="run once in full (--full), or say on_removed: delete")
        kept = tuple(f for f in found.removed if f.uri in (others or ()))
        rest = replace(found, removed=tuple(f for f in found.removed if f not in kept))
        changes = allowed(rest, on_removed=intake.on_removed, on_modified=intake.on_modified, source=name)
        return replace(changes, removed=(*changes.removed, *kept))

    def _beyond(self, name: str, snapshot: Snapshot) -> frozenset[int]:
        """Return the units of a dataset that lie beyond the range of a run, and were not read."""
        known = () if self.before is None else self.before.units.get(name, ())
        return snapshot.beyond.difference(known)

    # what has changed

    def _rejudged(self, name: str, snapshot: Snapshot, before: Consumed, changes: Changes) -> frozenset[str]:
        """Return the files that are as they were, and whose rows came under a different watermark."""
        assert self.before is not None
        if self.added:  # rows came under the watermark of the time they were added at
            return frozenset()
        said = by_name(before, self.before.arrivals.get(name))
        moved = {m.now.uri: m.before.uri for m in changes.moved}
        found = rejudged(snapshot, said, changes.name or str, moved)
        ignored = {f.uri for f in changes.ignored}
        changed = {f.uri for f in (*changes.modified, *changes.truncated)} | {g.file.uri for g in changes.grown}
        return frozenset(u for u in found - changed if (changes.name or str)(u) not in ignored)

    def _tails(
        self, source: BoundSource, snapshot: Snapshot, before: Consumed, changes: Changes
    ) -> dict[str, tuple[int, ...]]:
        """Return the files of which only what is behind that which they have in common with before is read, and where its parts begin.

        A file is read anew if its rows must be judged again, as what they came under is another; and where several outputs
        share what is read, if it cannot be told ahead of that what each of them needs. Where rows are added, none go, so that one which did not
        just grow is read anew too.
        """
        assert self.before is not None
        name = source.name
        others = changes.modified if changes.modified and self._is_parquet(source) and not self.added else ()
        if not (changes.grown or others) or name not in self.before.units:
            return {}
        if (self.segment.output is None or name not in self.segment.nodes) and not takes_parts(self.plan, name):
            return {}
        stands, named = self._standing(source, snapshot, before), changes.name or str
        found = {
            g.file.uri: (g.start, *self._cuts(g.file, source, changes, g.start))
            for g in changes.grown
            if stands(g.file, g.was.uri if g.was else named(g.file.uri))
        }
        units = {f.uri: of for f, of in zip(before.files, self.before.units[name], strict=True)} if others else {}
        for file in others[:_MOST_PARTS]:  # each is a scan of its own, or several
            until = changes.common[file.uri].until if file.uri in changes.common else 0
            start = _last_part(units[named(file.uri)], until)
            cuts = self._cuts(file, source, changes, start, until)
            if (start or cuts) and stands(file, named(file.uri)):
                found[file.uri] = (start, *cuts)
        return found

    def _standing(self, source: BoundSource, snapshot: Snapshot, before: Consumed) -> Callable[[FileInfo, str], bool]:
        """Return whether what was read of a file, by the name that it had, need not be judged again."""
        if source.watermark is None or not source.watermark.by_files or self.added:
            return lambda *_: True
        assert self.before is not None
        said = by_name(before, self.before.arrivals.get(source.name))

        def stands(file: FileInfo, was: str) -> bool:
            arrival = snapshot.arrivals.get(file.uri)
            # of row groups, times are not counted part by part
            counted = source.is_text or (arrival is not None and arrival.extents is not None)
            return counted and still_stands(said.get(was), arrival)

        return stands

    def _cuts(self, file: FileInfo, source: BoundSource, changes: Changes, start: int, until: int = 0) -> list[int]:
        """Return where what is read of a Parquet file is cut: where it begins to differ, as it may again, and ahead of its last row group.

        Who writes such a file anew with more rows behind fills up the last one.
        """
        if not self._is_parquet(source):
            return []
        if file.uri in changes.common:
            last = self.terms.hashes.borders[changes.hashes[file.uri]].at[-2]
            return sorted({place for place in (until, last) if place > start})
        if file.uri in changes.apart:  # who writes all row groups anew does so again
            return []
        made = begun(file, source.reader.storage_options)
        return [] if made is None else [made.at[-2]]

    def _is_parquet(self, source: BoundSource) -> bool:
        return source.reader.format == "parquet"

    def _intake(self, source: BoundSource | None) -> Intake:
        """Return what a source says of files that change or go; rows that were added do not go with their files."""
        said = Intake() if source is None else source.intake
        return replace(said, on_removed="ignore") if self.added and said.on_removed != "fail" else said

    def _hasher(self, options: Mapping[str, Any], *, grows: bool, groups: bool) -> Callable[[FileInfo], str]:
        """Return what hashes the files of one storage, each once in a run; of Parquet, the row groups too."""
        plain = hasher(options, grows=grows)

        def hashed(file: FileInfo) -> str:
            if file not in self.terms.hashes:
                made = begun(file, options) if groups else None
                self.terms.hashes[file] = plain(file) if made is None else self.terms.hashes.hash(file, made, options)
            return self.terms.hashes[file]

        return hashed

    def _is_racy(self, stamp: str | None) -> bool:
        """Whether a file may be written again without its stamp telling."""
        return not trusted(self.terms.listed)(stamp)

    # how much of it

    def bounded(self, leaf: Leaf, *, anew: bool = False, again: bool = False, full: bool = False) -> Leaf:
        """Return a leaf with as much of what is new as this run may take, the first of it at least.

        Where all is made ``anew`` nothing has been taken yet; unless that is done ``again`` with all that was consumed. With
        ``full`` it is no matter what was.
        """
        if not self.terms.bound.is_set:
            return leaf
        if leaf.tagged:
            return self._bounded_units(leaf, anew=anew and not again)
        new: Sequence[FileInfo] = leaf.snapshot.files
        if leaf.changes is not None and (again or not anew):
            came = {f.uri for f in leaf.changes.added}
            if not again:  # what was changed is read as it is then
                came.update(f.uri for f in (*leaf.changes.modified, *leaf.changes.truncated))
                came.update(g.file.uri for g in leaf.changes.grown)
            new = [f for f in new if f.uri in came]
        outside = self._outside(leaf, new, full=full)
        if outside:
            away = {f.uri for f in outside}
            new = [f for f in new if f.uri not in away]
        rest = new[self.terms.bound.first(new, lambda f: leaf.read(f).length, partial(self._rows, leaf)) :]
        return replace(self.without(leaf, rest, outside), reached=leaf.reached) if rest or outside else leaf

    def without(self, leaf: Leaf, rest: Sequence[FileInfo], outside: Sequence[FileInfo] = ()) -> Leaf:
        """Return a leaf without files that are left for later; what was read of them under another name stays as it was."""
        grown = () if leaf.changes is None else leaf.changes.grown
        names = {g.file.uri: g.was.uri for g in grown if g.was is not None}
        was = [f._replace(uri=names[f.uri]) for f in (*rest, *outside) if f.uri in names]
        return self.leaf(leaf.name, rest, outside, was)

    def _outside(self, leaf: Leaf, new: Sequence[FileInfo], *, full: bool) -> list[FileInfo]:
        """Return those of the new files that were not written when they had to be; not what was read before, which stays."""
        source = self.plan.nodes[leaf.name].source
        if not self.terms.bound.is_dated or source is None or leaf.snapshot.commit is not None:
            return []
        came = {f.uri for f in new} if leaf.changes is None or full else {c.file.uri for c in leaf.came}
        found = []
        for file in new:
            moment = moment_of(file.stamp)
            if moment is None:
                what = "its storage does not say when it was written, and since and until need that"
                fix = "leave out since and until; max_files says how many files a run takes"
                raise source.located(SourceError(what, uri=file.uri, fix=fix))
            if file.uri in came and not self.terms.bound.holds(moment):
                found.append(file)
        return found

    def _rows(self, leaf: Leaf, file: FileInfo) -> int:
        """Count the rows of a file; one that cannot be read has none: whoever reads it will say so."""
        commit = leaf.snapshot.commit
        if commit is not None:
            return dict(zip(leaf.snapshot.files, commit.files, strict=True))[file].rows
        source = self.plan.nodes[leaf.name].source
        assert source is not None
        return rows_in(source, leaf.read(file), leaf.snapshot.table)

    def _bounded_units(self, leaf: Leaf, *, anew: bool) -> Leaf:
        """Return a dataset's leaf without the units that are left for later, oldest first; their files are not consumed then."""
        commit = leaf.snapshot.commit
        assert commit is not None
        known = self.before.known(leaf.name) if self.before is not None and not anew else frozenset()
        beyond = self._beyond(leaf.name, leaf.snapshot)
        said: Mapping[str, Sequence[Listed]] = commit.info.get(CONSUMED, {}).get("units", {})
        order = {unit: place for place, unit in enumerate(u for of in said.values() for u in units_in(of))}
        rows: dict[int, int] = {}
        size: dict[int, int] = {}
        for file in commit.files:
            for unit, count in sorted(file.units.items(), key=lambda pair: order.get(pair[0], -1)):
                if unit not in commit.gone and unit not in known and unit not in beyond:
                    rows[unit] = rows.get(unit, 0) + count
                    size[unit] = size.get(unit, 0) + file.bytes * count // file.rows
        new = [*rows]
        left = frozenset(new[self.terms.bound.first(new, size.__getitem__, rows.__getitem__) :])
        if not left:
            return leaf
        left = left.union(beyond)
        consumed = leaf.consumed
        pairs = zip(commit.files, Consumed.of(leaf.snapshot, uri=consumed.uri).files, strict=True)
        whole = {said.uri for file, said in pairs if left.isdisjoint(file.units)}
        kept = tuple(said for said in consumed.files if said.uri in whole)
        return replace(leaf, left=left, consume=lambda: replace(consumed, files=kept))


def _last_part(listed: Listed, until: int) -> int:
    """Return where the parts of a file end that stay: a part does if all of its row groups do, unless there would be too many by and by."""
    if isinstance(listed, int) or len(listed) >= _MOST_PARTS:
        return 0
    return max((start for start, _ in listed if start <= until), default=0)
