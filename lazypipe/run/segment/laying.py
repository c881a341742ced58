"""How the files of one attempt at a segment are laid out: as before, or in a layout chosen before or after writing."""

from __future__ import annotations

from collections.abc import Sequence

from lazypipe.run import layouts
from lazypipe.run.segment.part import Part
from lazypipe.storage import hive
from lazypipe.storage import uri as uris
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.datasets.unit_counts import count_units
from lazypipe.storage.files import FileInfo
from lazypipe.storage.parquet.footers import footer_of
from lazypipe.storage.sink import DatasetSink, ExportSink, Written

__all__ = ["LayingOut"]


_FOOTERS = 4
"""Files whose footers tell how many rows there are in all."""


class LayingOut(Part):
    """Chooses the layout of a target's files, where one is asked for, and brings what was written into it."""

    @property
    def _has_folders(self) -> bool:
        """Whether partition columns may be chosen: where groups are rebuilt, the rest of their files is merged."""
        return not self.work.groups

    def choose(self) -> None:
        """Choose a layout before anything is written: the one that is kept, or one by the first rows."""
        flat = self.run.flat.get(self.segment.output or "")
        self.target.chosen = flat is not None
        self.target.choice = flat or self._kept() or self._first()

    def gives_up_folders(self, error: BaseException) -> bool:
        """Whether a value that is too long for a folder's name stopped the writing, and folders were only advised.

        They are a convenience: the output is written without them. A value is not known before its file is begun.
        """
        choice, output, name = self.target.choice, self.output, self.segment.output
        if choice is None or output is None or name is None or not hive.is_too_long(error):
            return False
        if output.partition_by or not choice.layout.partition_by:
            return False
        self.run.flat[name] = layouts.without_folders(choice)
        return True

    def _kept(self) -> layouts.Choice | None:
        """Return the layout that the output's files have, if one was ever chosen, or a better one where that was for few rows."""
        if self.output is None or self.output.format != "dataset":
            return None
        there = self.target.before
        found = layouts.kept(self.output, there, self.target.schema, ordered=self.target.is_sorted)
        if there is None or found is None:
            return found
        if not layouts.is_outgrown(self.output, found, there, self._size):
            return self._further(found, there) or found
        made = self._ahead(there, found.said.get("spent", 0.0))
        return found if made is None or made is layouts.WAITS else made

    def _first(self) -> layouts.Choice | None:
        """Choose a layout where none is kept, unless there are so few rows that it can wait."""
        if self.output is None or self.output.optimize is None or self.output.format != "dataset":
            return None
        there, size = self.target.before, self._size
        made = layouts.WAITS if layouts.waits(self.output, size, there) else self._ahead(there)
        if made is None and layouts.is_little(self.output, size, there):
            made = layouts.WAITS
        self.target.waits = made is layouts.WAITS
        return None if made is layouts.WAITS else made

    def _further(self, found: layouts.Choice, there: Commit) -> layouts.Choice | None:
        """Go on with a choice that ended early."""
        name = self.segment.output
        if name is None or self.target.is_merged or self.work.cut is not None or "left" not in found.said:
            return None
        frame = self.query.plain(self.segment.node).select(self.target.schema.names())
        made = layouts.goes_on(self.plan, name, frame, found, self._size, there)
        self.target.chosen = made is not None
        return made

    @property
    def _size(self) -> int:
        """Bytes of all that is read."""
        read = self.query.snapshots.values()
        return sum(sum(f.size or 0 for f in s.files) if s.commit is None else s.commit.bytes for s in read)

    @property
    def _rows(self) -> int:
        """The number of rows read, as far as it is cheap to know: of datasets, and of Parquet files by the footers of some."""
        read = self.query.snapshots.values()
        return sum(_rows_of(s.files) if s.commit is None else s.commit.rows for s in read)

    def _ahead(self, there: Commit | None = None, spent: float = 0.0) -> layouts.Choice | None:
        """Choose a layout by the first rows, so that all are written once; not where these are put together with others.

        What is ``there`` already counts, if the layout is to be better than the one that it has.
        """
        name = self.segment.output
        if name is None or self.target.is_merged or self.work.cut is not None:
            return None
        frame = self.query.plain(self.segment.node).select(self.target.schema.names())
        how = {"ordered": self.target.is_sorted, "folders": self._has_folders}
        choice = layouts.choose_ahead(
            self.plan, name, frame, self._size, read=self._rows, there=there, spent=spent, **how
        )
        self.target.chosen = choice is not None and choice is not layouts.WAITS
        return choice

    def after(
        self, sink: DatasetSink | ExportSink, written: Written, seconds: float
    ) -> tuple[DatasetSink | ExportSink, Written]:
        """Choose a layout by the rows that were written, if one is asked for and none is kept, and write them in that."""
        output, name = self.output, self.segment.output
        if output is None or name is None or not isinstance(sink, DatasetSink) or self.target.is_merged:
            return sink, written
        if self.target.chosen and self.target.choice is not None:
            if "rows" in self.target.choice.said:
                return sink, written  # what was chosen before, without its folders, or for more columns
            self.target.chosen = written.rows > 0
            there = self.target.before
            self.target.choice = (
                layouts.measured(self.target.choice, written.rows, written.bytes, there) if self.target.chosen else None
            )
            return sink, written
        if self.target.waits or not layouts.is_due(output, self.target.choice, written.rows, written.bytes):
            return sink.stay(written), written
        schema, apart = self.target.schema, self.work.told_apart
        staged = Commit(
            0, self.run.id, self.run.now, "staged", schema, written.files, output.partition_by, tagged=apart
        )
        dataset, ordered, folders = self.target.dataset, self.target.is_sorted, self._has_folders
        self.target.choice = layouts.choose(self.plan, name, dataset, staged, seconds, ordered=ordered, folders=folders)
        self.target.chosen = True
        earlier = [s for s in self.target.staged if isinstance(s, DatasetSink) and s.uri == sink.uri]
        again = self.target.sink("l")
        files = again.write(dataset.scan(staged, tags=apart)).files
        if apart:
            files = count_units(self.target.uri, files, output.storage_options)
        for one in earlier:
            one.discard()
            self.target.staged.remove(one)
        assert sum(f.rows for f in files) == written.rows, f"rows lost on the way to the layout of {self.target.uri}"
        written = Written(files)
        self.target.choice = layouts.measured(self.target.choice, written.rows, written.bytes)
        return again, written


def _rows_of(files: Sequence[FileInfo]) -> int:
    """Return about how many rows files have; 0 if the footers of some of them do not say it."""
    known = [f for f in files if f.size and f.uri.endswith(".parquet") and uris.is_local(f.uri)]
    some = known[:: -(-len(known) // _FOOTERS) or 1]
    try:
        rows = sum(sum(footer_of(f.uri, None).group_rows) for f in some)
    except Exception:  # whatever it is: the run fails on it too, and reports where
        return 0
    size = sum(f.size or 0 for f in some)
    return rows * sum(f.size or 0 for f in known) // size if size else 0
