"""What an export has to do: nothing, where the file is as a run left it, and what that run read is as it was.

A file has no place for what it was made of. That is kept in the pipeline's state, in commits without files
(docs/decisions/0104-exports-that-are-as-they-were.md).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lazypipe.compile.changes.strategy import Strategy
from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.segments import Segment, and_ahead
from lazypipe.errors import LazypipeError, StorageError
from lazypipe.incremental.before import Before
from lazypipe.incremental.terms import Terms
from lazypipe.incremental.work import Work
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.files import FileInfo, exported

__all__ = ["EXPORT", "decide_export", "export_said", "exports_of"]

EXPORT = "export"
"""Where a commit of the state says which file it is about."""

_Decided = Callable[[Before | None, Commit | None], Work]


def exports_of(plan: CompiledPipeline, name: str) -> Dataset:
    """Return where is kept what an export was made of."""
    return plan.state.dataset("exports", name)


def export_said(plan: CompiledPipeline, segment: Segment, file: FileInfo, rows: int) -> dict[str, Any]:
    """Return what a commit says of the file that a run has written: how it was found right after, and how it was to be written."""
    return {**_how(plan, segment), "size": file.size, "stamp": file.stamp, "rows": rows}


def _how(plan: CompiledPipeline, segment: Segment) -> dict[str, Any]:
    """Return what of the file a fingerprint does not tell: where it is, its format, and the order and types of its columns."""
    assert segment.output is not None
    output = plan.outputs[segment.output]
    columns = [[name, str(dtype)] for name, dtype in plan.schema(segment.node).items()]
    return {"uri": plan.redact(output.to), "format": output.format, "columns": columns}


def decide_export(
    plan: CompiledPipeline, segment: Segment, terms: Terms, strategy: Strategy, decided: _Decided
) -> Work:
    """Say what a run has to do for an export; ``decided`` says it from what was consumed, as for a dataset that is made in full."""
    assert segment.output is not None
    read = [n for s in and_ahead(plan.segments, segment) for n in (*s.nodes, *s.lookups)]
    sources = [n for n in read if plan.nodes[n].source is not None]
    awaited = [s.awaited for n in sources if (s := terms.look(n)).awaited and not s.files]
    if awaited:
        return Work("wait", awaited[0])
    why = "full rebuild requested" if terms.full else strategy.reasons[0]
    commit = None if terms.full else _last(plan, segment.output)
    made = decided(None, None)
    if commit is None:
        return replace(made, why=why)
    work, other = None, _is_another(plan, segment, commit)
    # what cannot be told apart is written once more, which needs nothing of what was there
    with suppress(LazypipeError):
        work = decided(Before.of(commit, plan.redact(plan.outputs[segment.output].to)), commit)
    if work is None:
        return replace(made, why=other or why)
    if work.kind == "none" and not other:
        return replace(work, commit=commit)
    return replace(made, why=other or work.why, came=work.came, went=work.went)


def _last(plan: CompiledPipeline, name: str) -> Commit | None:
    with suppress(StorageError):  # what is damaged is not needed: the file is written in full
        commit = exports_of(plan, name).latest()
        return commit if commit is not None and EXPORT in commit.info else None
    return None


def _is_another(plan: CompiledPipeline, segment: Segment, commit: Commit) -> str:
    """Say why a file is not the one that a commit is about; nothing if it is."""
    assert segment.output is not None
    output, said = plan.outputs[segment.output], commit.info[EXPORT]
    if any(said.get(name) != value for name, value in _how(plan, segment).items()):
        return "the definition changed: where the file is, its format, or its columns"
    file = exported(output.to, output.storage_options)
    if file is None:
        return "the file is gone"
    same = file.stamp is not None and (file.size, file.stamp) == (said.get("size"), said.get("stamp"))
    return "" if same else "the file was changed after it was written"
