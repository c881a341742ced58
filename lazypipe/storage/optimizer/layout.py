"""A layout: everything that decides how rows stand in data files, as one frozen value that a commit can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from lazypipe.spec.model import NOTHING, freeze, thaw
from lazypipe.storage.numbered import seal
from lazypipe.storage.optimizer import forms as physical
from lazypipe.storage.optimizer.form import Form

__all__ = ["CURVES", "DEFAULT", "Curve", "Layout"]

Curve = Literal["linear", "z_order", "hilbert"]
CURVES: tuple[Curve, ...] = ("linear", "z_order", "hilbert")
"""How several columns make one order: one after the other, or along a curve that keeps near what is near in each of them."""


@dataclass(frozen=True)
class Layout:
    """How rows stand in data files.

    ``codecs`` and ``encodings`` speak of columns as they stand in the file: after ``forms``.

    Parameters
    ----------
    forms
        Column → the physical form that it is written in, and that a scan undoes.
    sort_by
        Columns that rows are ordered by, in each file and from file to file.
    curve, bounds
        How ``sort_by`` makes one order, and what a curve must know for that: column → texts of the values between its parts.
    codec, level
        Compression; None is the codec's own level.
    codecs
        Column → (codec, level), where it differs. Only pyarrow's writer can do that.
    encodings
        Column → ``dictionary``, ``delta``, ``delta_length``, ``byte_stream_split``, ``rle`` or ``plain``. Only pyarrow's writer can do
        that.
    row_group_rows, page_bytes, file_bytes
        Targets; None leaves them to the writer. ``file_bytes`` is that of a file on disk.
    statistics
        Whether least and greatest values stand in the footer.
    bloom
        Columns with a bloom filter in each row group. Only pyarrow's writer can do that.
    writer
        ``polars`` or ``pyarrow``.
    partition_by
        Columns whose values are folders.

    Examples
    --------
    >>> layout = Layout(sort_by=("day",), codec="zstd", level=9, encodings={"id": "delta"}, writer="pyarrow")
    >>> layout.to_dict()
    {'sort_by': ['day'], 'level': 9, 'encodings': {'id': 'delta'}, 'writer': 'pyarrow'}
    >>> Layout.from_dict(layout.to_dict()) == layout
    True
    """

    forms: Mapping[str, Form] = NOTHING
    sort_by: tuple[str, ...] = ()
    curve: Curve = "linear"
    bounds: Mapping[str, tuple[str, ...]] = NOTHING
    codec: str = "zstd"
    level: int | None = None
    codecs: Mapping[str, tuple[str, int | None]] = NOTHING
    encodings: Mapping[str, str] = NOTHING
    row_group_rows: int | None = None
    page_bytes: int | None = None
    file_bytes: int | None = None
    statistics: bool = True
    bloom: tuple[str, ...] = ()
    writer: Literal["polars", "pyarrow"] = "polars"
    partition_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Make mappings read-only, so that layouts can be compared and counted."""
        for name in ("forms", "bounds", "codecs", "encodings"):
            object.__setattr__(self, name, freeze(getattr(self, name)))

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits that are the same for equal layouts, in every process."""
        return seal(self.to_dict())[:16]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON holds, without what is at its default."""
        plain = {f.name: thaw(getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default}
        if self.forms:
            plain["forms"] = {name: form.to_dict() for name, form in self.forms.items()}
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Layout:
        """Read it back; raises ValueError, KeyError or TypeError for what ``to_dict`` does not give."""
        given = dict(freeze(plain))
        if "forms" in given:
            given["forms"] = {name: physical.from_dict(thaw(form)) for name, form in given["forms"].items()}
        return cls(**given)


DEFAULT = Layout()
"""How files are written where nothing else is known: by Polars, with its own defaults."""
