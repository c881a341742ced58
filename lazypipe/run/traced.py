"""The result of a trace: the source rows that made the rows of an output, as a value, as plain data and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from polars.testing import assert_frame_equal

from lazypipe.gates.shown import MASKED
from lazypipe.storage.in_python import for_python

__all__ = ["Trace", "Traced"]


@dataclass(frozen=True)
class Traced:
    """The rows of one source that made the traced row, with their file and row number; ``files`` are the files of these rows.

    ``rows`` is None if any row of the source may have contributed. The first two columns of ``rows`` are ``_lazypipe_file`` and
    ``_lazypipe_row``, followed by ``_`` if the source itself has columns of these names.
    """

    source: str
    rows: pl.DataFrame | None
    files: tuple[str, ...]


@dataclass(frozen=True)
class Trace:
    """Where rows of an output come from, or (``of_source``) which rows of a source have a key.

    ``rows`` are the rows with the key as computed from the sources now. ``published`` are these rows in the output's last commit, or in the requested
    ``version``; None if there is no commit. If the output has a ``mode`` that combines or repeats rows with the same key, these are not the same
    rows, and may have additional columns. ``reasons`` says which steps could not tell rows apart (then more rows are named than contributed),
    and which files have changed since the requested version.
    """

    output: str
    key: Mapping[str, Any]
    rows: pl.DataFrame
    published: pl.DataFrame | None
    sources: Mapping[str, Traced]
    reasons: tuple[str, ...] = ()
    masked: frozenset[str] = field(default=frozenset(), repr=False)
    version: int | None = None
    of_source: bool = False
    mode: str = "replace"

    @property
    def exact(self) -> bool:
        """Whether exactly the contributing rows are named."""
        return not self.reasons

    @property
    def is_current(self) -> bool:
        """Whether the sources still give what was published; if not, they or the definition have changed since."""
        if self.published is None:
            return self.of_source
        if self._is_merged:
            there = {*map(repr, for_python(self.rows).rows())}
            own = [n for n in self.rows.columns if n in self.published.columns]
            return all(repr(row) in there for row in for_python(self.published.select(own)).rows())
        try:
            assert_frame_equal(self.rows, self.published, check_row_order=False)
        except AssertionError:
            return False
        return True

    @property
    def _is_merged(self) -> bool:
        """Whether the mode decides which of the rows are published."""
        return self.mode not in ("replace", "append")

    def to_dict(self, limit: int = 20) -> dict[str, Any]:
        """Return plain data, with at most ``limit`` rows of each source and personal data masked."""
        return {
            "output": self.output,
            **({} if self.version is None else {"version": self.version}),
            "key": self._shown([dict(self.key)])[0],
            "exact": self.exact,
            "reasons": list(self.reasons),
            "current": self.is_current,
            "rows": self._shown(for_python(self.rows.head(limit)).to_dicts()),
            **self._merged(limit),
            "sources": {
                name: {
                    "files": list(of.files),
                    "count": None if of.rows is None else of.rows.height,
                    "rows": None if of.rows is None else self._shown(for_python(of.rows.head(limit)).to_dicts()),
                }
                for name, of in self.sources.items()
            },
        }

    def to_markdown(self, limit: int = 20) -> str:
        """Return a report, with at most ``limit`` rows of each source and personal data masked."""
        said = self.to_dict(limit)
        key = ", ".join(f"{k} = {v}" for k, v in said["key"].items())
        of = "" if self.version is None else f" version {self.version}"
        lines = [f"# {self.output}{of}: {key}", ""]
        if "published" in said:
            lines += [
                *_table(said["published"]),
                "",
                f"Published by `mode: {self.mode}`, of the rows that the sources give now:",
                "",
            ]
        lines += [] if self.of_source else [*_table(said["rows"]), ""]
        if not self.is_current:
            what = "all rows that are" if self._is_merged else "the row that is"
            lines += [f"The sources as they are now do not give {what} published.", ""]
        lines += [f"Not exact: {reason}." for reason in self.reasons]
        for name, of in said["sources"].items():
            if of["rows"] is None:
                lines += [f"## {name}: any row may have had a part", "", *(f"- {f}" for f in of["files"]), ""]
            else:
                more = f", {limit} of them shown" if of["count"] > limit else ""
                count = "1 row" if of["count"] == 1 else f"{of['count']:,} rows"
                lines += [f"## {name}: {count}{more}", "", *_table(of["rows"]), ""]
                lines += [*(f"- {f}" for f in of["files"]), ""] if more else []
        return "\n".join(lines)

    def _merged(self, limit: int) -> dict[str, Any]:
        """Return what is published, where that is not just what the sources give."""
        if self.published is None or not self._is_merged:
            return {}
        return {"published": self._shown(for_python(self.published.head(limit)).to_dicts())}

    def _shown(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{k: MASKED if k in self.masked else v for k, v in row.items()} for row in rows]


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return ["(none)"]
    cells = [[str(v).replace("|", "\\|").replace("\n", " ") for v in row.values()] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (list(rows[0]), ["---"] * len(rows[0]), *cells)]
