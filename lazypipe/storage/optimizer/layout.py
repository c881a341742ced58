"""A layout: everything that decides how rows are stored in data files, as one frozen value that a commit can hold."""

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
    """How rows are stored in data files.

    ``codecs`` and ``encodings`` refer to columns as they are in the file, after ``forms`` were applied.

    Parameters
    ----------
    forms
        Column → the physical form in which it is written, and which ``lp.scan`` converts back.
    sort_by
        Columns by which rows are ordered, within files and across them.
    curve, bounds
        How the columns of ``sort_by`` are combined into one order, and the boundaries that a curve needs: column → values, as text.
    codec, level
        Compression; None is the codec's default level.
    codecs
        Column → (codec, level), if different. Needs pyarrow's writer.
    encodings
        Column → ``dictionary``, ``delta``, ``delta_length``, ``byte_stream_split``, ``rle`` or ``plain``. Needs pyarrow's writer.
    row_group_rows, page_bytes, file_bytes
        Target sizes; None: the writer's default. ``file_bytes`` is the size on disk.
    statistics
        Whether footers contain minimum and maximum values.
    bloom
        Columns with a bloom filter in each row group. Needs pyarrow's writer.
    writer
        ``polars`` or ``pyarrow``.
    partition_by
        Columns whose values are folder names.

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
        """Sixteen hexadecimal digits; equal layouts have the same id in every process."""
        return seal(self.to_dict())[:16]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data, without defaults."""
        plain = {f.name: thaw(getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default}
        if self.forms:
            plain["forms"] = {name: form.to_dict() for name, form in self.forms.items()}
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Layout:
        """Read a layout from the data that ``to_dict`` returns; raises ValueError, KeyError or TypeError for other data."""
        given = dict(freeze(plain))
        if "forms" in given:
            given["forms"] = {name: physical.from_dict(thaw(form)) for name, form in given["forms"].items()}
        return cls(**given)


DEFAULT = Layout()
"""How files are written where nothing else is known: by Polars, with its own defaults."""
