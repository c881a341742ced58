"""Deliveries within a run: which files of a source it reads, which it leaves for a later run, and what it then waits for.

A file that an output was made of is read again for as long as it is the same, whatever has become of its delivery: what was
whole once is not doubted, so that no row of it is lost when an output is made anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial

from lazypipe.compile.compiler import CompiledPipeline
from lazypipe.compile.sources import BoundSource, Snapshot
from lazypipe.incremental.delivery import Delivery, deliver, refuse_partial
from lazypipe.incremental.state import Consumed
from lazypipe.incremental.store import Store, folder_of
from lazypipe.incremental.work import consumed_before
from lazypipe.spec.model import freeze
from lazypipe.storage import uri as uris

__all__ = ["listing"]


def listing(plan: CompiledPipeline, source: BoundSource, now: datetime, *, patient: bool = False) -> Snapshot:
    """List a source as it is now, without the files that wait; ``now`` is what they must have settled by.

    Where files are waited for, or their rows stay when they are gone, there may be none; and anywhere if the caller is ``patient``.

    Raises
    ------
    SourceError
        If there is nothing, if a delivery is not whole and is to be, or if what must come with files cannot be read.
    """
    intake = source.intake
    delivered = intake.expect is not None or bool(intake.settle)
    patient = patient or (delivered and intake.on_partial == "wait") or intake.on_removed == "ignore"
    if not delivered:
        found = source.listing(patient=patient)
    else:
        found = source.listing(partial(_admitted, plan, source, now), patient=patient)
    if found.files or found.commit is not None or found.awaited or found.corrupt:
        return found
    return replace(found, awaited=f"waiting for {_shower(plan, source)(source.patterns[0])}")


def _admitted(plan: CompiledPipeline, source: BoundSource, now: datetime, found: Snapshot) -> Snapshot:
    intake = source.intake
    before = consumed_before(plan, source.name)
    delivery = deliver(
        found.files,
        intake,
        now=now,
        patterns=source.patterns,
        store=Store(freeze(source.reader.storage_options)),
        before=Consumed("files", before),
        name=source.redact,
    )
    same = {(f.uri, f.size, f.stamp) for f in before if f.stamp is not None}
    waiting = tuple(
        f for f in found.files if f.uri in delivery.waiting and (source.redact(f.uri), f.size, f.stamp) not in same
    )
    if waiting or not delivery.waiting:
        refuse_partial(delivery, intake, source.name)
    if not waiting:
        return found
    left = {f.uri for f in waiting}
    files = tuple(f for f in found.files if f.uri not in left)
    return Snapshot(files, waiting=waiting, awaited=_awaited(plan, source, delivery, left))


def _shower(plan: CompiledPipeline, source: BoundSource) -> Callable[[str], str]:
    """Return what shows URIs as they are to be read: from the definition's folder, without secrets."""
    root = f"{folder_of(uris.resolve('x', plan.pipeline.base))}/"
    return lambda uri: source.redact(uri.removeprefix(root))


def _awaited(plan: CompiledPipeline, source: BoundSource, delivery: Delivery, left: set[str]) -> str:
    """Return in words what is waited for: the first thing, and how many more there are."""
    show = _shower(plan, source)
    all_said, said = {*delivery.waiting.values()}, {delivery.waiting[uri] for uri in left}
    # one that holds no file back by itself, as of a manifest that cannot be understood, explains the others
    told = [p.awaited(show) for p in delivery.partial if p.why in said or p.why not in all_said]
    explained = {p.why for p in delivery.partial}
    told += [f"{show(uri)} ({why})" for uri, why in delivery.waiting.items() if uri in left and why not in explained]
    return f"waiting for {told[0]}" + (f" and {len(told) - 1:,} more" if told[1:] else "")
