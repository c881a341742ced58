"""Taking away what no reader can reach: old versions, and what runs that were killed have left."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lazypipe.compile.audit import bind_audit
from lazypipe.compile.compiler import bind_outputs
from lazypipe.compile.durations import with_durations
from lazypipe.compile.late import with_late_gates
from lazypipe.records.record import Records
from lazypipe.run.aside import needed as aside_needs
from lazypipe.run.changefeed import needed as feed_needs
from lazypipe.run.panefeed import feeds_of
from lazypipe.spec.loader import problems
from lazypipe.spec.model import Fault, Output, Pipeline
from lazypipe.storage import uri as uris
from lazypipe.storage.dataset import Dataset
from lazypipe.storage.numbered import NumberedFiles, written_at
from lazypipe.storage.sink import is_staged

__all__ = ["ending_versions", "vacuum_pipeline"]


def vacuum_pipeline(
    pipeline: Pipeline, *, keep: int, older_than: timedelta, now: datetime | None = None, dry_run: bool = False
) -> list[str]:
    """Vacuum a pipeline's datasets and quarantines, half-written exports and records, and rows kept between segments.

    Returns the URIs of what was deleted; with ``dry_run``, of what would be.
    """
    state = uris.resolve(pipeline.state, pipeline.base)
    limit = (now or datetime.now(UTC)) - older_than
    deleted = []
    needed: dict[str, int] = {}
    faults: list[Fault] = []
    stages = with_late_gates(with_durations(pipeline, None, faults), faults).stages
    kept = [(kind, name) for kind in ("quarantine", "shared") for name in (*pipeline.sources, *stages)]
    datasets = [Dataset(uris.beside(state, kind, pipeline.name, name)) for kind, name in kept]
    ahead = [d for d, (kind, _) in zip(datasets, kept, strict=True) if kind == "quarantine"]
    outputs, _ = bind_outputs(pipeline, os.environ, faults)
    audit, _ = bind_audit(pipeline, os.environ, faults)
    if faults:
        raise problems(faults, pipeline.origin)
    for output in outputs.values():
        target = output.to
        aside = Dataset(f"{target}__quarantine", output.storage_options)
        datasets.append(aside)
        if output.format == "dataset":
            dataset = Dataset(target, output.storage_options)
            for held in (aside, *ahead):
                needed[held.uri] = max(needed.get(held.uri, 0), aside_needs(held, dataset))
            datasets.append(dataset)
            for feed in feeds_of(output, dataset):
                datasets.append(feed)
                needed[dataset.uri] = max(needed.get(dataset.uri, 0), feed_needs(dataset, feed))
        else:
            deleted += _half_written(target, output, limit, dry_run=dry_run)
    for dataset in datasets:
        versions = max(keep, needed.get(dataset.uri, 0)) if keep > 0 else keep
        found = dataset.vacuum(keep=versions, older_than=older_than, now=now, dry_run=dry_run)
        deleted += [uris.join(dataset.uri, p) for p in found]
    if audit.is_on:
        deleted += _half_recorded(audit.uri, limit, dry_run=dry_run)
    if uris.is_local(state):
        folder = Path(uris.local_path(state))
        deleted += _left_over(folder / "work", limit, dry_run=dry_run)
        deleted += Records(uris.join(state, "runs")).remove_half_written(limit, dry_run=dry_run)
    return deleted


def ending_versions(target: str | Pipeline, keep: int) -> dict[str, list[int]]:
    """Return the versions of a dataset, or of the outputs of a pipeline, that nobody can read or go back to after a vacuum.

    What is wrong with the pipeline is for the vacuum to say.
    """
    if isinstance(target, str):
        kept = [(Dataset(target), keep)]
    else:
        kept = []
        for output in bind_outputs(target, os.environ, [])[0].values():
            dataset = Dataset(output.to, output.storage_options)
            feeds = feeds_of(output, dataset) if output.format == "dataset" else ()
            kept.append((dataset, max([keep, *(feed_needs(dataset, f) for f in feeds)])))
    found = {dataset.uri: [*dataset.log.versions()[:-number]] for dataset, number in kept if number > 0}
    return {uri: versions for uri, versions in found.items() if versions}


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


def _half_recorded(ledger: str, limit: datetime, *, dry_run: bool) -> list[str]:
    """Records that were being written when their run was killed; whole ones stay for ever."""
    found = []
    for folder in (ledger, uris.join(ledger, "objects")):
        fs, _ = uris.file_system(folder)
        for path, details in NumberedFiles(folder, what="the ledger").half_written().items():
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
