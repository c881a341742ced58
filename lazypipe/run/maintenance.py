"""Vacuum of a pipeline: old versions, and what killed runs left behind."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lazypipe.compile.audit import BoundAudit, bind_audit
from lazypipe.compile.compiler import bind_outputs
from lazypipe.compile.durations import with_durations
from lazypipe.compile.late import with_late_gates
from lazypipe.compile.state import bind_state
from lazypipe.records.record import Records
from lazypipe.run.changefeed import ChangeFeed, feed_of
from lazypipe.run.changefeed import needed as feed_needs
from lazypipe.run.panefeed import PaneFeed, feeds_of
from lazypipe.run.segment.aside import needed as aside_needs
from lazypipe.spec.loader import problems
from lazypipe.spec.model import Fault, Output, Pipeline
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.vacuum import vacuum
from lazypipe.storage.numbered import NumberedFiles, written_at
from lazypipe.storage.sink import is_staged

__all__ = ["Outlook", "outlook", "vacuum_dataset", "vacuum_pipeline"]

_ASIDE = "__quarantine"


@dataclass(frozen=True)
class Outlook:
    """What a vacuum leaves of a dataset.

    ``ending`` are the versions that nobody can read or go back to then, ``held`` those of which older than asked for stay, because a
    feed or a run goes on from there, and ``dead`` the rows that no version in force has, and that still stand in files.
    """

    uri: str
    ending: tuple[int, ...]
    held: tuple[int, ...]
    dead: int


@dataclass(frozen=True)
class _Kept:
    """A dataset, how many versions of it are needed in any case, and whether it holds the rows of an output."""

    dataset: Dataset
    needed: int = 1
    of_output: bool = False

    def versions(self, keep: int) -> int:
        return max(keep, self.needed) if keep > 0 else keep


def vacuum_dataset(
    dataset: Dataset, *, keep: int, older_than: timedelta, now: datetime | None, dry_run: bool
) -> list[str]:
    """Vacuum one dataset, but for versions from which what stands beside it goes on; returns the paths of what was deleted."""
    (kept,) = _kept(dataset)
    return vacuum(kept.dataset, keep=kept.versions(keep), older_than=older_than, now=now, dry_run=dry_run)


def vacuum_pipeline(
    pipeline: Pipeline, *, keep: int, older_than: timedelta, now: datetime | None, dry_run: bool
) -> list[str]:
    """Vacuum a pipeline's datasets and quarantines, half-written exports and records, and rows kept between segments.

    Returns the URIs of what was deleted; with ``dry_run``, of what would be.
    """
    limit = (now or datetime.now(UTC)) - older_than
    datasets = _kept(pipeline)
    faults: list[Fault] = []
    state, _ = bind_state(pipeline, os.environ, faults)
    audit, _ = bind_audit(pipeline, os.environ, state, faults)
    if faults:
        raise problems(faults, pipeline.origin)
    deleted = []
    for output in bind_outputs(pipeline, os.environ, [])[0].values():
        if output.format != "dataset":
            deleted += _half_written(output.to, output, limit, dry_run=dry_run)
    for kept in datasets:
        found = vacuum(kept.dataset, keep=kept.versions(keep), older_than=older_than, now=now, dry_run=dry_run)
        deleted += [uris.join(kept.dataset.uri, p) for p in found]
    if audit.is_on:
        deleted += _half_recorded(audit, limit, dry_run=dry_run)
    if uris.is_local(state.uri):
        folder = Path(uris.local_path(state.uri))
        deleted += _left_over(folder / "work", limit, dry_run=dry_run)
        deleted += Records(state.join("runs"), state.storage_options).remove_half_written(limit, dry_run=dry_run)
    return deleted


def outlook(target: Dataset | Pipeline, keep: int) -> list[Outlook]:
    """Return what a vacuum that keeps so many versions leaves of a dataset, or of all those of a pipeline; datasets that are not there are left out."""
    found = []
    for kept in _kept(target):
        log = kept.dataset.log
        versions = log.versions()
        if versions and keep > 0:
            latest, ending = log.read(versions[-1]), versions[: -kept.versions(keep)] if kept.of_output else ()
            held = versions[-kept.versions(keep) : -keep]
            dead = sum(f.dead(latest.gone) for f in latest.files)
            found.append(Outlook(kept.dataset.uri, tuple(ending), tuple(held), dead))
    return found


def _kept(target: Dataset | Pipeline) -> list[_Kept]:
    """Return a dataset, or those of a pipeline: raises DefinitionError if that is wrong."""
    if isinstance(target, Dataset):
        feeds = [feed_of(target, kind) for kind in (ChangeFeed.kind, PaneFeed.kind)]
        needed = max(feed_needs(target, feed) for feed in feeds)
        if target.uri.endswith(_ASIDE):
            needed = aside_needs(target, Dataset(target.uri.removesuffix(_ASIDE), target.storage_options))
        return [_Kept(target, needed, of_output=True)]
    faults: list[Fault] = []
    state, _ = bind_state(target, os.environ, faults)
    stages = with_late_gates(with_durations(target, None, faults), faults).stages
    places = [(kind, name) for kind in ("quarantine", "shared") for name in (*target.sources, *stages)]
    found = {(kind, name): _Kept(state.dataset(kind, name)) for kind, name in places}
    outputs, _ = bind_outputs(target, os.environ, faults)
    if faults:
        raise problems(faults, target.origin)
    kept = []
    for name, output in outputs.items():
        aside = _Kept(Dataset(f"{output.to}{_ASIDE}", output.storage_options))
        if output.format == "dataset":
            dataset = Dataset(output.to, output.storage_options)
            aside = replace(aside, needed=aside_needs(aside.dataset, dataset, name))
            for place, held in found.items():
                if place[0] == "quarantine":
                    found[place] = replace(held, needed=max(held.needed, aside_needs(held.dataset, dataset, name)))
            feeds = feeds_of(output, dataset)
            needed = max([1, *(feed_needs(dataset, feed) for feed in feeds)])
            kept += [_Kept(dataset, needed, of_output=True), *map(_Kept, feeds)]
        else:
            kept.append(_Kept(state.dataset("exports", name)))
        kept.append(aside)
    told: dict[str, _Kept] = {}
    for held in (*found.values(), *kept):  # two outputs may be of one dataset: one feeds rows, one takes keys away
        other = told.get(held.dataset.uri, held)
        told[held.dataset.uri] = replace(held, needed=max(held.needed, other.needed))
    return [*told.values()]


def _half_written(target: str, output: Output, limit: datetime, *, dry_run: bool) -> list[str]:
    """Exports that were being written beside their target when their run was killed."""
    folder, _, name = target.rpartition("/")
    fs, path = uris.file_system(target, output.storage_options)
    found = []
    try:
        entries = fs.ls(path.rpartition("/")[0], detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    for entry in entries:
        own = str(entry["name"]).rsplit("/", 1)[-1]
        if is_staged(own, name) and written_at(entry) <= limit:
            if not dry_run:
                fs.rm_file(entry["name"])
            found.append(f"{folder}/{own}")
    return found


def _half_recorded(ledger: BoundAudit, limit: datetime, *, dry_run: bool) -> list[str]:
    """Records that were being written when their run was killed; whole ones stay for ever."""
    found = []
    for folder in (ledger.uri, uris.join(ledger.uri, "objects")):
        fs, _ = uris.file_system(folder, ledger.storage_options)
        for path, details in NumberedFiles(folder, ledger.storage_options, what="the ledger").half_written().items():
            if written_at(details) <= limit:
                if not dry_run:
                    fs.rm_file(path)
                found.append(uris.join(folder, path.rpartition("/")[2]))
    return found


def _left_over(work: Path, limit: datetime, *, dry_run: bool) -> list[str]:
    """Rows that killed runs kept between their segments; a folder is as old as the youngest file in it."""
    if not work.is_dir():
        return []
    found = [p for p in sorted(work.iterdir()) if datetime.fromtimestamp(_youngest(p), UTC) <= limit]
    for path in () if dry_run else found:
        shutil.rmtree(path, ignore_errors=True)
    return [str(p) for p in found]


def _youngest(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
