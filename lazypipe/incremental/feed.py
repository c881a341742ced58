"""What a run must do for an output whose mode adds to existing rows: process only new input.

What was consumed stands in the output's own commit, as for every other output. But rows that are there do not follow their files:
files that went are no change, and a changed definition holds for what comes from now on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.outputs.modes import adds_to
from lazypipe.compile.segments import Segment
from lazypipe.compile.sources.source import Snapshot
from lazypipe.errors import StorageError
from lazypipe.incremental.before import DELETES, GENERATION, GONE, Before, own_commit
from lazypipe.incremental.follow import CLOCK, Decision, decide_followed
from lazypipe.incremental.leaf import Leaf
from lazypipe.incremental.leaves import Leaves
from lazypipe.incremental.renamed import as_named, forgotten
from lazypipe.incremental.terms import Terms, dataset_of, table_of
from lazypipe.incremental.unreadable import read_by_row
from lazypipe.incremental.work import Work
from lazypipe.spec.model import NOTHING, Output
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.scan import cannot_read

if TYPE_CHECKING:
    from lazypipe.incremental.remade import Remade
    from lazypipe.incremental.successors import Older

__all__ = ["ANEW", "HOLDS", "KEYED", "WRITE", "decide", "keyed", "mode_of", "older_of"]

WRITE = "write"
"""Where in a commit's ``info`` stands the mode that the dataset is written with."""


def mode_of(commit: Commit) -> str:
    """Return the mode that a dataset was written with.

    Commits that do not say it are those of ``replace``, or were added without a run.
    """
    said: str = commit.info.get(WRITE, "append" if commit.mode == "append" else "replace")
    return said


ANEW = "run once in full (--full), which rebuilds it, or write to another place"
"""What to do where a dataset was written in another way."""

HOLDS = "the definition changed, and applies to new rows only"
"""What is said of rows that are there, and were made in another way."""

KEYED = "keyed"
"""Where in a commit's ``info`` stands by what its rows are told apart."""


def keyed(output: Output) -> dict[str, Any]:
    """Return by what rows of an output are told apart that take the place of others: their key, and whether versions have times of their own."""
    return {"key": sorted(output.key)} | ({"dated": output.event_time is not None} if output.mode == "scd2" else {})


def decide(plan: CompiledPipeline, segment: Segment, terms: Terms) -> Work:
    """Say what a run has to do for a segment's output, whatever its mode; see ``follow`` for those whose rows follow their inputs.

    Raises
    ------
    SourceError
        If a source cannot be listed, or has changed in a way that it says is to fail, or that would add rows twice.
    StorageError
        If what was consumed cannot be read, the dataset was written with another mode, or it cannot be made anew
        without losing rows.
    """
    try:
        return _decided(plan, segment, terms)
    except BaseException as error:
        if not cannot_read(error):
            raise
        # rows that are looked up may stand in files of which some rows cannot be read
        sources = [n.source for n in plan.nodes.values() if n.source is not None and n.source.reader.by_row]
        found = [source.name for source in sources if read_by_row(source, terms.look(source.name))]
        if not found:
            raise
    return _decided(plan, segment, terms)


def _decided(plan: CompiledPipeline, segment: Segment, terms: Terms) -> Work:
    assert segment.output is not None
    output, full = plan.outputs[segment.output], terms.full
    if output.format != "dataset":
        return decide_followed(plan, segment, terms)
    uri = plan.redact(output.to)
    commit = Dataset(output.to, output.storage_options).latest()
    _refuse_other_mode(segment.output, output, commit, uri, full=full)
    other = commit is not None and output.mode not in ("delete", mode_of(commit))
    if output.mode == "replace" and not other:
        return decide_followed(plan, segment, terms, commit)
    before = None
    with suppress(*([StorageError] if full else [])):  # what is damaged is not needed then
        before = Before.of(own_commit(commit, segment.output, output), uri)
    strategy, added = plan.strategies[segment.output], adds_to(output)
    names = {*strategy.fixed, *strategy.driving}
    # other names, or other files under the same ones
    if before is not None and strategy.kind == "units" and _reads_otherwise(plan, segment, before, names):
        before = as_named(before, strategy.driving, names, partial(_there, plan, segment, terms))
    read = _Read(before)
    if before is not None and strategy.kind == "units":
        read = _read(plan, segment, terms, before, [n for n in strategy.driving if n in before.state.sources])
    decision = _Feed(Leaves(plan, segment, read.before, terms, added=added, older=read.older), strategy, commit)
    decision.read = read
    if output.mode == "replace":
        decision.refuse_loss()
        return decide_followed(plan, segment, terms, commit)
    version = 0 if commit is None else commit.version
    older = {name: of.then for name, of in read.older.items()}
    return replace(decision.work(), commit=commit, version=version, adds=True, older=older)


def _reads_otherwise(plan: CompiledPipeline, segment: Segment, before: Before, names: Collection[str]) -> bool:
    """Whether an output may read sources by other names than it did, or other files by the same names."""
    changes = plan.fingerprints()[segment.node].changes(before.fingerprint)
    return changes.data or before.state.sources.keys() != names


def _there(plan: CompiledPipeline, segment: Segment, terms: Terms, name: str) -> Collection[str] | str:
    """Return the files of a source as they are consumed; of a dataset, its URI."""
    published = None if name in segment.nodes else table_of(plan, name, terms.tables)
    if published is not None:
        return plan.redact(published[0].uri)
    source, snapshot = plan.nodes[name].source, terms.look(name)
    assert source is not None
    return (
        source.redact(source.patterns[0])
        if snapshot.commit is not None
        else {source.redact(f.uri) for f in snapshot.files}
    )


def older_of(plan: CompiledPipeline, segment: Segment, terms: Terms, name: str) -> Snapshot | None:
    """Return the version of a source or output that a run reads for an output that adds rows, instead of the last one; None if it reads that.

    So it can be asked before all that the output reads is brought up to date.
    """
    assert segment.output is not None
    output = plan.outputs[segment.output]
    commit = Dataset(output.to, output.storage_options).latest()
    before = Before.of(own_commit(commit, segment.output, output), plan.redact(output.to))
    if before is None or name not in before.state.sources:
        return None
    found = _read(plan, segment, terms, before, [name]).older.get(name)
    return None if found is None else found.then


@dataclass(frozen=True)
class _Read:
    """What an output to which rows are added has consumed, by the files that hold it now; ``tables`` are those that it has read.

    ``older`` are versions of them that are read instead of the last ones; ``again`` those with rows that were added, and stand in other files now,
    of which those that were ``merged`` hold all of them.
    """

    before: Before | None
    tables: Mapping[str, Dataset] = NOTHING
    older: Mapping[str, Older] = NOTHING
    again: frozenset[str] = frozenset()
    merged: frozenset[str] = frozenset()


def _read(plan: CompiledPipeline, segment: Segment, terms: Terms, before: Before, names: Iterable[str]) -> _Read:
    """Find what was consumed of some sources and outputs in those that are tables, as they are now."""
    from lazypipe.incremental.successors import rewritten, succeeded

    tables: dict[str, Dataset] = {}
    older: dict[str, Older] = {}
    again: set[str] = set()
    merged: set[str] = set()
    for name in names:
        published = None if name in segment.nodes else table_of(plan, name, terms.tables)
        snapshot = terms.look(name) if published is None else Snapshot(())
        dataset, commit = published or (None, snapshot.commit)
        twice, then = False, None
        if commit is not None:
            dataset = dataset or _source_table(plan, name)  # beside files of an archive there is no place for a log
            assert dataset is not None
            tables[name] = dataset
            before, then, twice = succeeded(before, name, dataset, commit, plan.redact, full=terms.full)
            merged |= {name} if twice else set()
            if not commit.tagged and before.knew_units(name) and not terms.full:
                before, twice = before.forgetting(name), True
        elif snapshot.table is not None:
            source = plan.nodes[name].source
            assert source is not None
            options = source.reader.storage_options
            before, then, twice = rewritten(before, name, snapshot.table, options, plan.redact, full=terms.full)
        older |= {name: then} if then is not None and not terms.full else {}
        again |= {name} if twice else set()
    return _Read(before, tables, older, frozenset(again), frozenset(merged))


def _source_table(plan: CompiledPipeline, name: str) -> Dataset | None:
    """Return the table that a source reads, if it reads one; None where there is no source of that name."""
    source = plan.nodes[name].source if name in plan.nodes else None
    return None if source is None else Dataset(source.patterns[0], source.reader.storage_options)


def _refuse_other_mode(name: str, output: Output, commit: Commit | None, uri: str, *, full: bool) -> None:
    if commit is None:
        if output.mode == "delete":
            what = f"output {name!r}: there is no dataset to delete from"
            raise StorageError(what, uri=uri, fix="run the output that writes it first, or check the path")
        return
    was = mode_of(commit)
    if output.mode == "delete":
        if was not in ("append", "upsert"):
            what = f"output {name!r} deletes rows, and the dataset is written with mode: {was}, which would bring them back"
            raise StorageError(what, uri=uri, fix="write it with mode: upsert or append")
    elif was != output.mode and not full:
        what = f"output {name!r} has mode: {output.mode}, and the dataset was written with mode: {was}"
        raise StorageError(what, uri=uri, fix=ANEW)
    elif was == output.mode and not full:
        _refuse_other_key(name, output, commit.info.get(KEYED, keyed(output)), uri)


def _refuse_other_key(name: str, output: Output, was: Mapping[str, Any], uri: str) -> None:
    """Refuse rows that would not find those whose place they take, or find several."""
    now = keyed(output)
    if was["key"] != now["key"]:
        keys = (", ".join(of["key"]) for of in (now, was))
        what = "output {!r} has key: [{}], and the dataset was written with key: [{}]".format(name, *keys)
        raise StorageError(what, uri=uri, fix=ANEW)
    if was != now:
        runs, own = "the times of their runs", "event_time"
        has, had = (own, runs) if now["dated"] else (runs, own)
        what = f"versions of output {name!r} are dated by {has}, and the existing ones by {had}"
        fix = f"{'remove' if now['dated'] else 'say'} event_time, or write to another place"
        raise StorageError(what, uri=uri, fix=fix if now["dated"] else f"{fix}, or run once in full (--full)")


class _Feed(Decision):
    """What there is to do for one output to which rows are added."""

    read = _Read(None)

    def _work(self, fixed: list[Leaf], driving: list[Leaf]) -> Work:
        output, before = self._output, self.before
        anew = self._is_anew
        if anew:
            self.refuse_loss()
        elif before is None and self.commit is not None and adds_to(output) and output.mode != "delete":
            what = "the last version does not record what it was made from, so new input cannot be told from old"
            raise self._refused(what, "run once in full (--full), which rebuilds it")
        generation = before.generation if before is not None else self.run
        if self.strategy.kind != "units" or anew or before is None:
            return self._everything(fixed, driving, generation, anew=anew)
        if self.after.is_of_another():
            self._refuse_other(before, driving)
        if output.mode == "append":
            self._refuse_doubles(driving)
        reused = self.numbering.units(driving, keep=True, anew=False)
        new, _ = self.numbering.difference(driving, reused)
        others = [leaf for leaf in driving if self._holds_others(leaf)]
        remade = self._remade(driving, new, others) if output.mode == "append" else {}
        new = _without(_with_all(new, reused, others), remade)
        moved = self._moved(driving)
        # rows that are there were made at another time, which is what is wanted of one
        other = [HOLDS] if self.after.changed() and not self.plan.by_the_time(self.segment.node) else []
        if not any(new.values()) and not moved:
            nothing = Work("none", "; ".join(["nothing new: " + ", ".join(map(str, driving)), *other]))
            return self._still(nothing, fixed, driving, generation)
        if (waits := self._waits(fixed, driving, anew=False)) is not None:
            return waits
        if self.terms.bound.is_set:
            driving = [self.leaves.bounded(leaf) for leaf in driving]
            reused = self.numbering.units(driving, keep=True, anew=False)
            new = _without(_with_all(self.numbering.difference(driving, reused)[0], reused, others), remade)
            if not any(new.values()) and not moved:
                return Work("none", "nothing to do: " + ", ".join(map(str, driving)))
        left = sum(len(leaf.left) for leaf in driving)
        news = (n for n in driving if n.is_news or n in moved or self.numbering.moved(n, reused))
        said = ["; ".join(f"{n.name}: rebuilt" if new[n.name] and n in others else str(n) for n in news)]
        info = self.after.info(fixed, driving, reused, generation, anew=False)
        gone = {n: sorted(of.gone.items()) for n, of in remade.items() if of.gone}
        info |= {GONE: gone} if gone else {}
        return Work("units", "; ".join([*said, *other]), self.numbering.reading(driving, new), info=info, left=left)

    def _everything(self, fixed: list[Leaf], driving: list[Leaf], generation: str, *, anew: bool) -> Work:
        """Return the work where all rows are made, or none if nothing at all has changed."""
        before, leaves, news = self.before, (*fixed, *driving), list[str]()
        if anew:
            why = "full rebuild requested"
        elif before is None:
            why = "nothing was committed yet" if self.commit is None else "nothing was consumed yet"
        elif self.terms.full and self._output.mode != "delete":
            why = "full read requested"
        elif changed := self.after.changed():
            why = changed
        elif news := [str(leaf) for leaf in leaves if leaf.is_news]:
            why = "; ".join(news)
        elif self._output.mode == "snapshot":
            why = "a snapshot of every run is kept"
        elif self.terms.judge_again and self._clock_moves_rows:
            why = CLOCK
        elif went_on := self._went_on():
            if not self._closing:
                return Work("state", went_on)
            why = went_on
        else:
            return Work("none", "nothing changed: " + ", ".join(map(str, leaves)))
        if (waits := self._waits(fixed, driving, anew=True)) is not None:
            return waits
        if self.strategy.kind == "units":
            driving = [self.leaves.bounded(leaf, anew=True, full=anew) for leaf in driving]
            if (untaken := self._untaken(driving)) is not None:
                return untaken
            why = "; ".join([why, *(f"{n.name}: {n.told_outside}" for n in driving if n.outside)])
        awaited = (leaf.snapshot.awaited for leaf in (*fixed, *driving))
        why = "; ".join([why, *(said for said in awaited if said and said not in why)])
        against = self._against([n for n in fixed if n.is_news]) if news else ()
        left = sum(len(leaf.left) for leaf in driving)
        units = self.numbering.units(driving, keep=False, anew=True)
        info = self.after.info(fixed, driving, units, generation, anew=True)
        reading = self.numbering.reading(driving, units) if self.strategy.kind == "units" else {}
        return Work("all", why, reading, info=info, anew=anew, left=left, against=against)

    def _went_on(self) -> str:
        # what only removes rows says nothing of those that are there
        return "" if self._output.mode == "delete" else super()._went_on()

    @property
    def _is_anew(self) -> bool:
        """Whether nothing of what is there stays."""
        if not self.terms.full or self.commit is None or self._output.mode == "delete":
            return False
        return self._output.mode in ("append", "upsert", "scd2") or mode_of(self.commit) != self._output.mode

    @property
    def _output(self) -> Output:
        assert self.segment.output is not None
        return self.plan.outputs[self.segment.output]

    def _refused(self, what: str, fix: str) -> StorageError:
        name = self.segment.output
        return StorageError(f"output {name!r}: {what}", uri=self.plan.redact(self._output.to), fix=fix)

    def refuse_loss(self) -> None:
        """Raise where what is there could not be made again from what can be read now."""
        assert self.commit is not None
        was, now = mode_of(self.commit), self._output
        same = was == now.mode and self.commit.info.get(KEYED, keyed(now)) == keyed(now)
        instead = "run without --full" if same else "go back to the mode, key and event_time that it was written with"
        instead += ", or write to another place"
        if self.commit.info.get(DELETES):
            feeds = ", ".join(map(repr, self.commit.info[DELETES]))
            what = f"it cannot be rebuilt: which keys {feeds} removed, and when, is no longer known"
            raise self._refused(what, instead)
        if was == "scd2" and not self.commit.info[KEYED]["dated"]:
            raise self._refused("it cannot be rebuilt: its versions are dated by the times of their runs", instead)
        if was == "snapshot":
            raise self._refused("it cannot be rebuilt: the rows of earlier snapshots are no longer known", instead)
        if self.before is None or was == "replace":
            return
        leaves = [self.leaves.leaf(n) for n in (*self.strategy.fixed, *self.strategy.driving)]
        if others := forgotten(self.before, {leaf.name for leaf in leaves}):
            name, files = next((n, c.files) for n, c in others.items())
            what = f"rebuilding it would lose rows: source {name!r} is not read any more, and rows were made of it, such as those of {files[0].uri}"
            raise self._refused(what, f"read it again, {instead}")
        gone = [uri for leaf in leaves for uri in self._lost(leaf)]
        if gone:
            are = "a file that it was made of is" if len(gone) == 1 else f"{len(gone):,} files that it was made of are"
            what = f"rebuilding it would lose rows: {are} gone, such as {gone[0]}"
            raise self._refused(what, f"restore {'it' if len(gone) == 1 else 'them'}, {instead}")

    def _holds_others(self, leaf: Leaf) -> bool:
        """Whether the units of a table that were consumed may hold other rows by now: it was rebuilt, and its files were no others.

        What has changed in its definition is known as long as its log has the version that was read. Columns that are new change no row that was added.
        """
        commit, source = leaf.snapshot.commit, self.plan.pipeline.sources.get(leaf.name)
        assert self.before is not None
        if commit is None or not leaf.tagged or not self.numbering.is_remade(leaf):
            return False
        known = self.before.known(leaf.name)
        if known.isdisjoint(commit.units) or (source is not None and source.on_modified == "ignore"):
            return False
        was, now = self.before.state.sources[leaf.name], leaf.consumed.at
        if was.at.get(GENERATION) != now.get(GENERATION):
            return True
        then = None
        with suppress(StorageError):
            then = Before.of(self.read.tables[leaf.name].log.read(was.version or 0), "")
        latest = Before.of(commit, "")
        if then is None or latest is None:
            return True
        changes = latest.fingerprint.changes(then.fingerprint)
        return changes.rows or (self._output.mode != "append" and bool(changes.columns))

    def _remade(
        self, driving: list[Leaf], new: Mapping[str, Mapping[str, int]], others: Collection[Leaf]
    ) -> dict[str, Remade]:
        """Say what of tables was made anew in the place of rows that were added; raises where these would come again."""
        found = {}
        for leaf in driving:
            of = self._of_table(leaf, new[leaf.name])
            if of is None:
                continue
            source = self.plan.pipeline.sources.get(leaf.name)
            said = None if source is None else source.on_modified
            if (of.units or leaf in others) and said != "reprocess" and (said != "ignore" or of.unknown):
                such = f", such as those of {of.files[0]}" if of.files else ""
                what = f"rows of {leaf.name!r} were recomputed, and would be added a second time{such}"
                fix = "run once in full (--full), which rebuilds it, or use mode: upsert"
                raise self._refused(self.plan.redact(what), fix)
            found[leaf.name] = of if said == "ignore" else replace(of, units=frozenset())
        return found

    def _lost(self, leaf: Leaf) -> list[str]:
        """Return the files that were read and are gone; of tables whose rows know their units, the files that these were."""
        if leaf.found is None:
            return []
        removed = [f.uri for f in leaf.found.removed]
        remade = self._of_table(leaf, None)
        if remade is None:
            return removed
        return removed or [self.read.tables[leaf.name].uri] if remade.unknown else [*remade.lost]

    def _of_table(self, leaf: Leaf, new: Iterable[str] | None) -> Remade | None:
        """Say what of a table was made anew, of the units that are ``new``; None if its rows do not know their units."""
        from lazypipe.incremental.remade import Origins, Remade

        commit, before = leaf.snapshot.commit, self.before
        if commit is None or before is None or not leaf.tagged or leaf.name not in self.read.tables:
            return None
        came = commit.units.difference(before.known(leaf.name)) if new is None else map(int, new)
        origins = Origins(lambda name: dataset_of(self.plan, name) or _source_table(self.plan, name))
        return Remade.of(before, leaf.name, self.read.tables[leaf.name], commit, came, origins)

    def _refuse_other(self, before: Before, driving: list[Leaf]) -> None:
        """Raise where another pipeline has added rows of the same files by another definition: by this one, they would never be added."""
        for leaf in driving:
            there = before.state.sources[leaf.name].files
            held = {f.uri for f in (*leaf.held, *(() if leaf.changes is None else leaf.changes.removed))}
            same = next((f.uri for f in there if f.uri not in held), None)
            if same is not None:
                own, by = self.plan.pipeline.name, ", ".join(map(repr, before.pipelines))
                what = f"pipeline {by} has added rows of {same} to this dataset, and those that {own!r} makes of it would never be added"
                fix = f"write to another place; or, if {own!r} is its new name, run it as it was under that name until it has added rows"
                raise self._refused(what, fix)

    def _refuse_doubles(self, driving: list[Leaf]) -> None:
        """Raise where rows that were added before would come again, though nobody has changed them."""
        for leaf in driving:
            found, source = leaf.changes, self.plan.pipeline.sources.get(leaf.name)
            assert found is not None
            said = None if source is None else source.on_modified
            what = ""
            grown = [g.file.uri for g in found.grown if g.file.uri not in leaf.tails]
            within = [f.uri for f in (*found.modified, *found.added) if f.uri in found.lengthened]
            rewritten = (*found.modified, *found.truncated)
            fix = "say at the source on_modified: reprocess to add all of its rows again"
            full = "run once in full (--full), which rebuilds it, or "
            if self._comes_again(leaf):
                # which of a table's new files hold rows that were added is not known, so there is nothing to ignore
                if said != "reprocess":
                    what = f"rows of {leaf.name!r} were rewritten, and would be added a second time"
                instead = "read a feed of its changes instead, write to another place, or "
                fix = f"{full if leaf.name in self.read.merged else instead}{fix}"
            elif said is not None:
                continue
            elif grown or within:
                what = f"{(grown or within)[0]} has grown, and the rows added before would be added a second time"
                what += "" if grown else ": what was read of it does not end with a row, or was not hashed"
                fix = f"{full}{fix}, or ignore to add none"
            elif rewritten:
                what = f"{rewritten[0].uri} was rewritten, and its rows added before would be added a second time"
                fix = "say at the source on_modified: reprocess to add all of its rows, or ignore to add none, or use mode: upsert"
            if what:
                raise self._refused(self.plan.redact(what), fix)

    def _comes_again(self, leaf: Leaf) -> bool:
        """Whether a table has other files in the place of some that were consumed, with rows of these."""
        found = leaf.changes
        assert found is not None
        if not found.added:
            return False
        lost = leaf.snapshot.commit is not None and not leaf.tagged and (found.removed or found.ignored)
        return bool(lost) or leaf.name in self.read.again


def _with_all(
    new: dict[str, dict[str, int]], there: Mapping[str, Mapping[str, int]], others: Iterable[Leaf]
) -> dict[str, dict[str, int]]:
    """Return what is new of each source or output, where all that tables have ``there`` is if they hold ``others``."""
    found = dict(new)
    for leaf in others:
        assert leaf.snapshot.commit is not None
        units = leaf.snapshot.commit.units
        found[leaf.name] = {u: here for u, here in there[leaf.name].items() if int(u) in units}
    return found


def _without(new: dict[str, dict[str, int]], remade: Mapping[str, Remade]) -> dict[str, dict[str, int]]:
    """Return what is new of each source or output, without the units whose rows were added before."""
    return {
        n: {u: here for u, here in of.items() if n not in remade or int(u) not in remade[n].units}
        for n, of in new.items()
    }
