"""What a run would do, and why; and what outputs are made of now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from lazypipe.compile.compiled import CompiledPipeline, Lacking
from lazypipe.compile.graph import build
from lazypipe.compile.late import LATE
from lazypipe.compile.segments import Segment, made_of
from lazypipe.compile.sources.source import BoundSource, Snapshot
from lazypipe.errors import LazypipeError, RunError, SourceError, counted
from lazypipe.incremental.agreeing import Agreeing
from lazypipe.incremental.before import CONSUMED, own_commit
from lazypipe.incremental.bound import UNBOUND, Bound
from lazypipe.incremental.feed import decide
from lazypipe.incremental.incomplete import read, told
from lazypipe.incremental.once import decide_shared
from lazypipe.incremental.progress import PROGRESS
from lazypipe.incremental.put_aside import put_aside
from lazypipe.incremental.shared import needs_of, state_of
from lazypipe.incremental.state import State
from lazypipe.incremental.terms import Terms
from lazypipe.incremental.work import Work
from lazypipe.spec.model import NOTHING, Output, Pipeline
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import KEPT, Commit, DataFile
from lazypipe.storage.datasets.units import Units
from lazypipe.storage.files import FileInfo, exported
from lazypipe.storage.parquet.row_groups import rows_in

__all__ = ["preview", "status"]


def preview(
    plan: CompiledPipeline,
    look: Callable[[BoundSource], Snapshot],
    *,
    listed: int,
    full: bool = False,
    bound: Bound = UNBOUND,
    now: int | None = None,
    ahead: Mapping[str, str] = NOTHING,
) -> list[dict[str, Any]]:
    """Return what a run would do, segment by segment: what is read (files, bytes, rows), checked, written, how, and why.

    Sizes are those of the files as they stand now, rows those that logs and footers tell of; None where that is not known: the store does not
    tell, text has no footer, or it depends on what comes before it in the same run. ``at_least`` so many are read where others follow by what stands in them. If all is read though only some
    of it changed, ``against`` says what in the definition stands against less; if all would be read in any case, ``later`` says what makes
    later runs do so too.

    Parameters
    ----------
    look
        Lists a source as a run would.
    listed
        The time, in nanoseconds since 1970.
    full
        Whether everything is to be made anew.
    bound
        How much that run takes of what is new.
    now
        The clock of that run, in microseconds since 1970, by which windows close though nothing came; None: they do not.
    ahead
        Sources that something else writes before that run, with what: they are not looked at.
    """
    return _Preview(plan, look, listed, bound, now, ahead, full=full).steps()


class _Preview:
    def __init__(
        self,
        plan: CompiledPipeline,
        lister: Callable[[BoundSource], Snapshot],
        listed: int,
        bound: Bound,
        now: int | None,
        ahead: Mapping[str, str],
        *,
        full: bool,
    ) -> None:
        self.plan = plan
        self.lister = lister
        self.terms = Terms("preview", self.look, listed, full=full, bound=bound, now=now)
        self.snapshots: dict[str, Snapshot] = {}
        self.busy: dict[str, str] = {}
        self.waiting: dict[str, str] = {}
        self.ahead = ahead
        self.needed: set[str] = set()
        self.failed: dict[str, Lacking] = {}
        self.agreeing = Agreeing(plan, self.look, self.older)

    def steps(self) -> list[dict[str, Any]]:
        outputs = self.plan.outputs
        asked = (o.stage for n, o in outputs.items() if n in (self.plan.asked or outputs))
        self.needed = made_of(self.plan.segments, asked)
        segments = [s for s in self.plan.segments if s.node in self.needed]
        works = {s.name: self.work_of(s) for s in segments if s.output is not None}
        found = []
        for segment in segments:
            if segment.node in self.failed:
                found.append({**self.lacking(segment.name, self.failed[segment.node]), "from": segment.reads})
                continue
            if segment.output is not None:
                found.append(self.output(segment, works[segment.name]))
                continue
            users = [s.name for s in self.plan.segments if segment.node in s.reads and self.uses(s, works)]
            if users:
                work = self.shared(segment, works)
                effect = {
                    "how": work.kind,
                    "writes": "rows for this run only",
                    "why": f"its rows are needed as files by {', '.join(users)}",
                }
                found.append({**self.said(segment, work), **effect})
        return [*found, *(self.lacking(name, why) for name, why in self.plan.lacking.items())]

    def lacking(self, name: str, why: Lacking) -> dict[str, Any]:
        """Say that an output is left out, and why."""
        how = "blocked" if why.blocked else "error"
        writes = f"nothing: {why.uri} stays as it is"
        return {"name": name, "reads": [], "from": [], "gates": {}, "how": how, "why": str(why.error), "writes": writes}

    def work_of(self, segment: Segment) -> Work:
        """Say what is to be done for an output; nothing where that cannot be said, or what it is made of cannot be made."""
        assert segment.output is not None
        uri = self.plan.redact(self.plan.outputs[segment.output].to)
        above = made_of(self.plan.segments, [segment.node]) | {*self._removed_from(segment)}
        if by := [s.name for s in self.plan.segments if s.node in above and s.node in self.failed]:
            why = SourceError(f"depends on {', '.join(by)}, which cannot be made")
            self.failed[segment.node] = Lacking(uri, why, blocked=True)
            return Work("none", "")
        try:
            return self.work(segment)
        except RunError as error:
            self.failed[segment.node] = Lacking(uri, error)
            return Work("none", "")

    def uses(self, segment: Segment, works: Mapping[str, Work]) -> bool:
        """Whether a segment would run."""
        if segment.output is not None:
            return works[segment.name].kind not in ("none", "wait", "judge", "state")
        return any(self.uses(s, works) for s in self.plan.segments if segment.node in s.reads)

    def shared(self, segment: Segment, works: Mapping[str, Work]) -> Work:
        """Say what would be read of what is kept for a run only."""
        if self.plan.inner[segment.node].kind != "units" or self._below(segment.node):
            return Work("all", "")

        def work_of(reader: Segment) -> Work | None:
            if reader.output is None:
                return None if self._below(reader.node) else self.shared(reader, works)
            return None if works[reader.name].why.startswith("depends on") else works[reader.name]

        needs, anew = (None, frozenset[str]()) if self.terms.full else needs_of(self.plan, segment, work_of)
        state = state_of(self.plan, segment)
        return decide_shared(self.plan, segment, self.terms, state, needs, anew, self.agreeing.of(segment))

    def look(self, name: str) -> Snapshot:
        if name not in self.snapshots:
            source = self.plan.nodes[name].source
            assert source is not None
            self.snapshots[name] = self.lister(source)
        return self.snapshots[name]

    def work(self, segment: Segment) -> Work:
        """Say what is to be done, as far as that can be known before what it reads has been brought up to date."""
        by_node = {s.node: s for s in self.plan.segments}
        for name in segment.reads:
            if name in self.waiting:
                self.waiting[segment.node] = self.waiting[name]
                return Work("wait", self.waiting[name])
        waits = [n for n in segment.reads if n in self.busy or (by_node[n].output is None and self._below(n))]
        others = [self.ahead[n] for n in segment.nodes if n in self.ahead]
        if others or (waits and (not self.terms.full or any(map(self._unwritten, waits)))):
            self.busy[segment.node] = segment.name
            on = ", ".join([*(self.busy.get(n, n) for n in waits), *others])
            return Work("all", f"depends on what {on} writes in this run")
        found = decide(self.plan, segment, self.terms)
        found = self.agreeing.waits(segment, found) or found
        if found.kind == "wait":
            self.waiting[segment.node] = found.why
        elif found.kind not in ("none", "judge", "state"):
            self.busy[segment.node] = segment.name
            self.busy |= dict.fromkeys(self._removed_from(segment), segment.name)
        return found

    def older(self, segment: Segment, name: str) -> Snapshot | None:
        """Return the version of a source or output that an output would read instead of the last one; None if it reads that."""
        if self.terms.full or segment.node not in self.needed:
            return None
        with suppress(LazypipeError):  # told when its turn comes
            return decide(self.plan, segment, self.terms).older.get(name)
        return None

    def _removed_from(self, segment: Segment) -> list[str]:
        """Return the stages whose outputs a segment removes keys from."""
        outputs = self.plan.outputs
        if segment.output is None or outputs[segment.output].mode != "delete":
            return []
        return [o.stage for n, o in outputs.items() if o.mode != "delete" and self.plan.share_place(n, segment.output)]

    def _below(self, name: str) -> bool:
        """Whether what is kept for a run only is made of an output that this run changes."""
        segment = next(s for s in self.plan.segments if s.node == name)
        read = any(n in self.busy or (n != name and self._below(n)) for n in segment.reads)
        return read or not self.ahead.keys().isdisjoint(segment.nodes)

    def _unwritten(self, name: str) -> bool:
        """Whether a node is, or is made of, an output that no run has published yet."""
        segment = next(s for s in self.plan.segments if s.node == name)
        if segment.output is None:
            return any(n != name and self._unwritten(n) for n in segment.reads)
        output = self.plan.outputs[segment.output]
        return Dataset(output.to, output.storage_options).latest() is None

    def output(self, segment: Segment, work: Work) -> dict[str, Any]:
        assert segment.output is not None
        output = self.plan.outputs[segment.output]
        target = self.plan.redact(output.to)
        how = "unknown" if work.why.startswith("depends on") else work.kind
        said = {**self.said(segment, work), "how": how, "why": work.why}
        if work.against:
            said["against"] = [*work.against]
        elif work.kind == "all" and output.format == "dataset":
            strategy = self.plan.strategies[segment.output]
            timed = () if strategy.adds else self.plan.by_the_time(segment.node)
            if stands := (*strategy.reasons, *(why for why in timed if why not in work.why)):
                said["later"] = [*stands]
        if output.format != "dataset":
            if work.kind in ("none", "wait"):
                return {**said, "writes": f"nothing: {target} stays as it is"}
            known = how != "unknown" and work.why not in self.plan.strategies[segment.output].reasons
            written = f"one {output.format} file is replaced"
            return {**said, "writes": target, "why": f"{work.why}; {written}" if known else written}
        commit = Dataset(output.to, output.storage_options).latest()
        if work.adds and work.kind not in ("none", "wait") and not work.anew and commit is not None:
            said["why"] = f"{work.why}; {output.mode} on version {commit.version} ({counted(commit.rows, 'row')})"
        said |= _incomplete(commit)
        if work.reread and work.kind == "units":
            again = ", ".join(after if name.startswith("__lazypipe") else name for name, after in work.groups)
            closing = ", or of groups that event time reaches," if self.plan.strategies[segment.output].closing else ""
            said["why"] = f"{work.why}; files with rows of the same {again}{closing} are read again"
        version = commit.version if commit else 0
        if work.kind in ("none", "wait"):
            return {**said, "writes": f"nothing: {target} stays at version {version}"}
        same = ", with the same data" if work.kind in ("judge", "state") else ""
        return {**said, "writes": f"{target} version {version + 1}{same}"}

    def said(self, segment: Segment, work: Work) -> dict[str, Any]:
        nodes = self.plan.nodes
        reads = []
        for name in segment.nodes if work.kind not in ("none", "wait", "judge", "state") else ():
            if nodes[name].source is None or name in self.ahead:
                continue
            snapshot, units = work.older.get(name) or self.look(name), work.units.get(name)
            files = snapshot.chosen(units)
            sizes = [f.length for f in files]
            total = None if None in sizes else sum(s for s in sizes if s is not None)
            count = len({f.uri for f in files})  # of which several parts may be read
            rows = self.rows(name, snapshot, files, units)
            found = {"name": name, "files": count, "of": len(snapshot.files), "bytes": total, "rows": rows}
            # which files hold rows of the groups that are touched comes out when these have been read
            more = work.reread and work.kind == "units" and count < len(snapshot.files)
            reads.append(found | ({"at_least": True} if more else {}))
        gates = {n: [c.id for c in nodes[n].checks] for n in segment.nodes if nodes[n].checks}
        return {"name": segment.name, "reads": reads, "from": segment.reads, "gates": gates}

    def rows(self, name: str, snapshot: Snapshot, files: Sequence[FileInfo], units: Units | None) -> int | None:
        """Return how many rows are read, where a log or footers tell."""
        commit, table = snapshot.commit, snapshot.table
        if commit is not None:
            wanted = None
            if commit.tagged:
                wanted = commit.units - snapshot.beyond if units is None else units.wanted
            read = {f.uri for f in files}
            pairs = zip(snapshot.files, commit.files, strict=True)
            return sum(_rows(data, commit, wanted) for file, data in pairs if file.uri in read)
        if table is not None:
            told = [table.rows.get(f.uri) for f in files]
            return None if None in told else sum(n for n in told if n is not None)
        source = self.plan.nodes[name].source
        assert source is not None
        reader = source.reader
        return rows_in(files, reader.storage_options) if reader.format == "parquet" else None


def _rows(file: DataFile, commit: Commit, wanted: frozenset[int] | None) -> int:
    """Return the rows of a data file that are read: those of some units, or all that are in force."""
    if wanted is None:
        return file.rows - file.dead(commit.gone)
    return sum(n for unit, n in file.units.items() if unit in wanted)


def _incomplete(commit: Commit | None) -> dict[str, Any]:
    """Return the windows that lack something, as the last commit says it; nothing where all are whole."""
    consumed = {} if commit is None else commit.info.get(CONSUMED, {})
    return told(*read(consumed.get(PROGRESS, {})))


def status(pipeline: Pipeline, outputs: Mapping[str, Output], redact: Callable[[str], str]) -> list[dict[str, Any]]:
    """Return, per output, its version, when it was made and of what: files per source, or versions; of one file, its size.

    ``quarantined`` is how many rows stand in the quarantine beside it, ``ahead`` how many the gates of the sources and inner stages that it is made
    of have put aside, or came late there (``<stage>__late``). Closed windows that lack something are ``incomplete``; ``layout`` says
    why files are laid out as they are, where that was chosen.

    Raises
    ------
    StorageError
        If a commit cannot be read.
    """
    found = []
    graph = build(pipeline, [])  # what is wrong further on hinders nobody
    above = {o.stage: graph.ancestors([o.stage]) for o in outputs.values()}
    aside = put_aside(pipeline, (n for each in above.values() for name in each for n in (name, f"{name}{LATE}")))
    for name, output in outputs.items():
        said: dict[str, Any] = {"output": name, "uri": redact(output.to), "version": None, "consumed": {}}
        if output.format != "dataset":
            file = exported(output.to, output.storage_options)
            size = None if file is None else file.size
            found.append({**said, "format": output.format, "files": 0 if file is None else 1, "bytes": size})
            continue
        commit = Dataset(output.to, output.storage_options).latest()
        if commit is not None:
            beside = Dataset(f"{output.to}__quarantine", output.storage_options).latest()
            said["quarantined"] = 0 if beside is None else beside.rows
            said["ahead"] = {n: rows for n, rows in aside.items() if n.removesuffix(LATE) in above[output.stage]}
            said |= {"version": commit.version, "time": commit.time.isoformat(), "run": commit.run}
            said |= {"rows": commit.rows, "bytes": commit.bytes, "files": len(commit.files)}
            chosen = commit.info.get(KEPT, {})
            if reasons := chosen.get("reasons"):
                said["layout"] = {"goal": chosen["goal"], "reasons": [*reasons]}
            own = own_commit(commit, name, output)
            kept = None if own is None else own.info.get(CONSUMED)
            said |= _incomplete(own)
            sources = {} if kept is None else State.from_dict(kept, uri=said["uri"]).sources
            said["consumed"] = {
                source: {"files": len(of.files), "version": of.version, "bytes": sum(f.size or 0 for f in of.files)}
                for source, of in sources.items()
            }
        found.append(said)
    return found
