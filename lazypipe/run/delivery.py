"""Deliveries in a run: which files of a source it reads, which it leaves for a later run, and what it waits for.

A file that an output was made of is read again for as long as it is the same, whatever has become of its delivery: what was
whole once is not doubted, so that no row of it is lost when an output is made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from lazypipe.compile.compiled import CompiledPipeline
from lazypipe.compile.sources.source import BoundSource, Snapshot
from lazypipe.incremental.before import consumed_before
from lazypipe.incremental.state import Consumed
from lazypipe.incremental.store import Store, folder_of
from lazypipe.spec.model import Output, freeze
from lazypipe.storage import uri as uris
from lazypipe.storage.files import FileInfo

if TYPE_CHECKING:
    from lazypipe.incremental.delivery import Delivery

__all__ = ["listing", "whole"]


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
    if found.files or found.logged is not None or found.awaited or found.corrupt:
        return found
    return replace(found, awaited=f"waiting for {_shower(plan, source)(source.patterns[0])}")


def whole(now: datetime, outputs: Mapping[str, Output], source: BoundSource, found: Snapshot) -> Snapshot:
    """Return what was listed of a source without the files that wait, as far as that is known without hashing any."""
    _, waiting = _told_apart(outputs, source, now, found, hashing=False)
    return _without(found, waiting)


def _admitted(plan: CompiledPipeline, source: BoundSource, now: datetime, found: Snapshot) -> Snapshot:
    from lazypipe.incremental.delivery import refuse_partial

    delivery, waiting = _told_apart(plan.outputs, source, now, found, hashing=True)
    if waiting or not delivery.waiting:
        refuse_partial(delivery, source.intake, source.name)
    if not waiting:
        return found
    awaited = _awaited(plan, source, delivery, {f.uri for f in waiting})
    return replace(_without(found, waiting), awaited=awaited)


def _without(found: Snapshot, waiting: tuple[FileInfo, ...]) -> Snapshot:
    left = {f.uri for f in waiting}
    return Snapshot(tuple(f for f in found.files if f.uri not in left), waiting=waiting)


def _told_apart(
    outputs: Mapping[str, Output], source: BoundSource, now: datetime, found: Snapshot, *, hashing: bool
) -> tuple[Delivery, tuple[FileInfo, ...]]:
    """Return what a delivery lacks, and the files that wait because of that; files that an output has consumed never wait."""
    from lazypipe.incremental.delivery import deliver

    before = consumed_before(outputs, source.name)
    delivery = deliver(
        found.files,
        source.intake,
        now=now,
        patterns=source.patterns,
        store=Store(freeze(source.reader.storage_options)),
        before=Consumed("files", before),
        name=source.redact,
        hashing=hashing,
    )
    same = {(f.uri, f.size, f.stamp) for f in before if f.stamp is not None}
    waiting = (f for f in found.files if f.uri in delivery.waiting)
    return delivery, tuple(f for f in waiting if (source.redact(f.uri), f.size, f.stamp) not in same)


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
