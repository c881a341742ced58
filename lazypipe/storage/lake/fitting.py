"""Rewrites files that a Delta reader would misread: with deleted rows, encoded columns, or in other folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars as pl

from lazypipe.errors import StorageError, first_line
from lazypipe.storage import hive
from lazypipe.storage import uri as uris
from lazypipe.storage.content import hash_file
from lazypipe.storage.datasets.log import REWRITE, Commit, DataFile
from lazypipe.storage.datasets.unit_counts import count_units
from lazypipe.storage.lake.types import misfits
from lazypipe.storage.optimizer.forms import owner, without_keys
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.sink import DatasetSink

if TYPE_CHECKING:
    from lazypipe.storage.datasets.dataset import Dataset

__all__ = ["Fitted", "fitted", "plain"]

_NULLS = ("", "__HIVE_DEFAULT_PARTITION__")
"""Texts of partitions that readers take for nulls."""


def plain(layout: Layout) -> Layout:
    """Return a layout without what a Delta reader would not undo: columns stand in files as they are declared.

    Examples
    --------
    >>> from lazypipe.storage.optimizer.forms import Cast
    >>> plain(Layout(forms={"x": Cast(pl.Int8())}, encodings={"x": "delta", "y": "delta"}, writer="pyarrow")).to_dict()
    {'encodings': {'y': 'delta'}, 'writer': 'pyarrow'}
    """
    # what was chosen for a column in another form says nothing of the column itself
    codecs = {n: v for n, v in layout.codecs.items() if owner(n) not in layout.forms}
    encodings = {n: v for n, v in layout.encodings.items() if owner(n) not in layout.forms}
    return replace(layout, forms={}, codecs=codecs, encodings=encodings)


@dataclass(frozen=True)
class Fitted:
    """A commit all of whose files a Delta reader reads right, and what was written for that."""

    commit: Commit
    staged: tuple[DatasetSink, ...] = ()

    def discard(self) -> None:
        """Delete what was written: the commit was not made."""
        for sink in self.staged:
            sink.discard()


def fitted(dataset: Dataset, commit: Commit) -> Fitted:
    """Return a commit whose files a Delta reader reads correctly: those that it would misread are rewritten.

    Raises
    ------
    StorageError
        If a Delta table cannot hold these columns or partitions.
    """
    for misfit in misfits(commit.schema, commit.partition_by):
        raise StorageError(misfit.what, uri=dataset.uri, fix=misfit.fix)
    _refuse_nulls(dataset, commit)
    staged: list[DatasetSink] = []
    files: list[DataFile] = []
    instead: list[list[list[str]]] = []
    try:
        for file in commit.files:
            if file.units and file.dead(commit.gone) == file.rows:
                continue
            if not _is_misread(file, commit):
                files.append(file)
                continue
            made = _written(dataset, commit, file, len(staged), staged)
            instead.append([[file.path], [f.path for f in made]])
            files += made
    except BaseException:
        Fitted(commit, tuple(staged)).discard()
        raise
    info = commit.info
    if commit.mode == REWRITE and not commit.tagged and instead:
        said = info[REWRITE]
        info = {**info, REWRITE: {**said, "files": len(instead), "instead": [*said.get("instead", ()), *instead]}}
    gone = commit.gone & {u for f in files for u in f.units}
    return Fitted(replace(commit, files=tuple(files), gone=gone, info=info), tuple(staged))


def _refuse_nulls(dataset: Dataset, commit: Commit) -> None:
    """Refuse partitions of texts that are nulls to a Delta reader."""
    texts = [n for n in commit.partition_by if commit.schema[n] in (pl.String, pl.Categorical)]
    for file in commit.files if texts else ():
        found = hive.values(file.path)
        for name in texts:
            if found.get(name) in _NULLS:
                what = f"column {name!r} has the text {found[name]!r}, which a Delta table would read as null in a partition"
                fix = f"derive another text for it, or leave {name!r} out of partition_by"
                raise StorageError(what, uri=dataset.uri, fix=fix)


def _is_misread(file: DataFile, commit: Commit) -> bool:
    if file.dead(commit.gone):
        return True
    by = commit.partition_by if file.layout is None else file.layout.partition_by
    return by != commit.partition_by or (file.layout is not None and bool(without_keys(file.layout.forms, by)))


def _written(
    dataset: Dataset, commit: Commit, file: DataFile, number: int, staged: list[DatasetSink]
) -> Sequence[DataFile]:
    """Write the live rows of one file once more, where the order of files is kept."""
    sink = DatasetSink(
        dataset.uri,
        f"{commit.run}-000d-{commit.version:03}{number:04}",
        partition_by=commit.partition_by,
        storage_options=dataset.storage_options,
        layout=None if file.layout is None else plain(file.layout),
    )
    staged.append(sink)
    one = replace(commit, files=(file,), gone=commit.gone & set(file.units))
    try:
        made: Sequence[DataFile] = sink.write(dataset.scan(one, tags=commit.tagged)).files
        made = count_units(dataset.uri, made, dataset.storage_options) if commit.tagged else made
    except (pl.exceptions.PolarsError, OSError) as error:
        what = f"rows that a Delta reader would misread cannot be rewritten: {first_line(error)}"
        fix = "fix the cause, or restore the file from a backup, and run again"
        raise StorageError(what, uri=uris.join(dataset.uri, file.path), fix=fix) from error
    if file.blake3 is None:
        return made
    options = dataset.storage_options
    return [replace(f, blake3=hash_file(uris.join(dataset.uri, f.path), options)) for f in made]
