"""Forms of texts: two values as booleans, few values as codes, texts with a common template as their variable parts, digits as bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from lazypipe.storage.optimizer.form import INSIDE, Form

__all__ = ["Coded", "Flag", "Hexed", "Template"]


@dataclass(frozen=True)
class Flag(Form):
    """Texts of which there are two, as booleans.

    Examples
    --------
    >>> flag = Flag("yes", "no")
    >>> pl.select(flag.split(pl.lit("no"), pl.String())[""]).item()
    False
    """

    kind: ClassVar[str] = "flag"
    true: str
    false: str

    def fits(self, dtype: pl.DataType) -> bool:
        """Text."""
        return dtype == pl.String and self.true != self.false

    def parts(self, dtype: pl.DataType) -> dict[str, pl.DataType]:
        """Return the boolean."""
        return {INSIDE: pl.Boolean()}

    def split(self, value: pl.Expr, dtype: pl.DataType) -> dict[str, pl.Expr]:
        """Compare with one of both."""
        return {INSIDE: value == self.true}

    def join(self, parts: Mapping[str, pl.Expr], dtype: pl.DataType) -> pl.Expr:
        """Choose one of both."""
        return pl.when(parts[INSIDE]).then(pl.lit(self.true)).when(~parts[INSIDE]).then(pl.lit(self.false))

    def arguments(self) -> dict[str, Any]:
        """Return both texts."""
        return {"true": self.true, "false": self.false}


@dataclass(frozen=True)
class Coded(Form):
    """Few texts as their places in a list.

    Examples
    --------
    >>> Coded(("new", "paid")).parts(pl.String())
    {'': UInt8}
    """

    kind: ClassVar[str] = "coded"
    values: tuple[str, ...]

    def fits(self, dtype: pl.DataType) -> bool:
        """Text."""
        return dtype == pl.String and 0 < len(self.values) == len(set(self.values))

    @property
    def _enum(self) -> pl.Enum:
        return pl.Enum(self.values)

    def parts(self, dtype: pl.DataType) -> dict[str, pl.DataType]:
        """Return the place."""
        return {INSIDE: pl.Series([], dtype=self._enum).to_physical().dtype}

    def split(self, value: pl.Expr, dtype: pl.DataType) -> dict[str, pl.Expr]:
        """Look the text up."""
        return {INSIDE: value.cast(self._enum, strict=False).to_physical()}

    def join(self, parts: Mapping[str, pl.Expr], dtype: pl.DataType) -> pl.Expr:
        """Look the place up."""
        return parts[INSIDE].cat.to(self._enum).cast(pl.String)

    def arguments(self) -> dict[str, Any]:
        """Return the texts."""
        return {"values": list(self.values)}


_KINDS: Mapping[str, tuple[str, pl.DataType]] = {
    "number": ("[0-9]+", pl.Int64()),
    "long": ("[0-9]+", pl.UInt64()),
    "text": (".*?", pl.String()),
}
"""What varies in texts of one make → its pattern, and the type that it is kept in."""


@dataclass(frozen=True)
class Template(Form):
    """Texts of one make, as what varies in them: ``pieces`` are the texts between, one more than ``varying``.

    What varies is a number without leading zeros (``number``; ``long`` if it may have 20 digits), one of so many digits (``3``), or
    text up to the piece behind it (``text``).

    Examples
    --------
    >>> form = Template(("user", "@example", ".com"), ("number", "number"))
    >>> frame = pl.DataFrame({"mail": ["user12@example3.com"]})
    >>> frame.select(**{f"part {n}": e for n, e in form.split(pl.col("mail"), pl.String()).items()}).row(0)
    (12, 3)
    """

    kind: ClassVar[str] = "template"
    pieces: tuple[str, ...]
    varying: tuple[str | int, ...]

    def fits(self, dtype: pl.DataType) -> bool:
        """Text."""
        known = all(isinstance(v, int) and 0 < v <= 18 if not isinstance(v, str) else v in _KINDS for v in self.varying)
        return dtype == pl.String and known and len(self.pieces) == len(self.varying) + 1 > 1

    @property
    def pattern(self) -> str:
        """The regular expression whose groups are what varies."""
        found = [
            f"(?P<p{i}>{_KINDS[v][0] if isinstance(v, str) else f'[0-9]{{{v}}}'})" for i, v in enumerate(self.varying)
        ]
        return "(?s)^" + "".join(_escaped(p) + f for p, f in zip(self.pieces, [*found, ""], strict=True)) + "$"

    def parts(self, dtype: pl.DataType) -> dict[str, pl.DataType]:
        """Return what varies, one after the other."""
        return {str(i): _varying(v) for i, v in enumerate(self.varying)}

    def split(self, value: pl.Expr, dtype: pl.DataType) -> dict[str, pl.Expr]:
        """Match the text; of one number, or of two parts, without a pattern, which takes several times as long."""
        first, *between, last = self.pieces
        if (len(self.varying) == 1 and self.varying[0] != "text") or (len(between) == 1 and between[0]):
            rest = value.str.strip_prefix(first) if first else value
            rest = rest.str.strip_suffix(last) if last else rest
            halves = rest.str.splitn(between[0], 2) if between else None
            found = [rest] if halves is None else [halves.struct.field(f"field_{i}") for i in (0, 1)]
        else:
            groups = value.str.extract_groups(self.pattern)
            found = [groups.struct.field(f"p{i}") for i in range(len(self.varying))]
        return {
            str(i): part.cast(_varying(v), strict=False)
            for i, (part, v) in enumerate(zip(found, self.varying, strict=True))
        }

    def join(self, parts: Mapping[str, pl.Expr], dtype: pl.DataType) -> pl.Expr:
        """Put the pieces between; null if a part is."""
        found: list[pl.Expr] = []
        for i, varying in enumerate(self.varying):
            part = parts[str(i)].cast(pl.String)
            part = part.str.zfill(varying) if isinstance(varying, int) else part
            found += [*([pl.lit(self.pieces[i])] if self.pieces[i] else []), part]
        return pl.concat_str([*found, *([pl.lit(self.pieces[-1])] if self.pieces[-1] else [])])

    def arguments(self) -> dict[str, Any]:
        """Return the pieces, and what varies between them."""
        return {"pieces": list(self.pieces), "varying": list(self.varying)}


def _varying(varying: str | int) -> pl.DataType:
    if isinstance(varying, str):
        return _KINDS[varying][1]
    return pl.Int32() if varying < 10 else pl.Int64()


def _escaped(text: str) -> str:
    """Write a text as a pattern that Polars' expressions, which know fewer escapes than Python's, read as that text."""
    return re.sub(r"([\\.+*?()|\[\]{}^$#&\-~])", r"\\\1", text)


@dataclass(frozen=True)
class Hexed(Form):
    r"""Texts of hexadecimal digits, in groups with a hyphen between, as bytes: UUIDs, hashes.

    Examples
    --------
    >>> form = Hexed((2, 4))
    >>> pl.select(form.split(pl.lit("0a-1b2c"), pl.String())[""]).item()
    b'\n\x1b,'
    """

    kind: ClassVar[str] = "hexed"
    groups: tuple[int, ...]

    def fits(self, dtype: pl.DataType) -> bool:
        """Text."""
        return dtype == pl.String and sum(self.groups) % 2 == 0 and bool(self.groups) and min(self.groups) > 0

    def parts(self, dtype: pl.DataType) -> dict[str, pl.DataType]:
        """Return the bytes."""
        return {INSIDE: pl.Binary()}

    def split(self, value: pl.Expr, dtype: pl.DataType) -> dict[str, pl.Expr]:
        """Read the digits."""
        return {INSIDE: value.str.replace_all("-", "", literal=True).str.decode("hex", strict=False)}

    def join(self, parts: Mapping[str, pl.Expr], dtype: pl.DataType) -> pl.Expr:
        """Write the digits."""
        digits = parts[INSIDE].bin.encode("hex")
        if len(self.groups) == 1:
            return digits
        starts = [sum(self.groups[:i]) for i in range(len(self.groups))]
        # what stands behind the last group is part of it, so that a longer text is told from one that fits
        ends: Sequence[int | None] = (*self.groups[:-1], None)
        return pl.concat_str([digits.str.slice(s, n) for s, n in zip(starts, ends, strict=True)], separator="-")

    def arguments(self) -> dict[str, Any]:
        """Return the lengths of the groups."""
        return {"groups": list(self.groups)}
