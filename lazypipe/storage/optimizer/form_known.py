"""Forms of columns that need not be stored: one value throughout, or values that follow from another column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from lazypipe.storage.optimizer.form import Form, Scalar, is_scalar, literal, plain_type, same

__all__ = ["Constant", "Determined"]


@dataclass(frozen=True)
class Constant(Form):
    """One value, of which the file says only whether it is that.

    Examples
    --------
    >>> Constant("EUR").parts(pl.String())
    {'kept': Boolean}
    """

    kind: ClassVar[str] = "constant"
    value: Scalar

    def fits(self, dtype: pl.DataType) -> bool:
        """Text, booleans, numbers, dates and times of which the value is one."""
        return is_scalar(dtype) and _is_of(self.value, dtype)

    def parts(self, dtype: pl.DataType) -> dict[str, pl.DataType]:
        """Return whether the value is that."""
        return {"kept": pl.Boolean()}

    def split(self, value: pl.Expr, dtype: pl.DataType) -> dict[str, pl.Expr]:
        """Compare."""
        return {"kept": same(value, literal(self.value, dtype), dtype)}

    def join(self, parts: Mapping[str, pl.Expr], dtype: pl.DataType) -> pl.Expr:
        """Put the value in."""
        return pl.when(parts["kept"]).then(literal(self.value, dtype))

    def arguments(self) -> dict[str, Any]:
        """Return the value."""
        return {"value": self.value}


@dataclass(frozen=True)
class Determined(Form):
    """Values that follow from those of another column; the file says only whether they do.

    Examples
    --------
    >>> Determined("code", ("DE", "FR"), ("Germany", "France")).needs
    ('code',)
    """

    kind: ClassVar[str] = "determined"
    by: str
    keys: tuple[Scalar | None, ...]
    values: tuple[Scalar | None, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """The other column."""
        return (self.by,)

    def leans_on(self, dtype: pl.DataType) -> bool:
        """Text, booleans, whole numbers, dates and times of which the keys are some."""
        exact = is_scalar(dtype) and not dtype.is_float()
        return exact and all(k is None or _is_of(k, dtype) for k in self.keys)

    def fits(self, dtype: pl.DataType) -> bool:
        """Text, booleans, numbers, dates and times."""
        pairs = 0 < len(self.keys) == len(set(self.keys)) == len(self.values)
        return is_scalar(dtype) and pairs and all(v is None or _is_of(v, dtype) for v in self.values)

    def parts(self, dtype: pl.DataType) -> dict[str, pl.DataType]:
        """Return whether the value follows."""
        return {"kept": pl.Boolean()}

    def split(self, value: pl.Expr, dtype: pl.DataType) -> dict[str, pl.Expr]:
        """Compare."""
        return {"kept": same(value, self._mapped(dtype), dtype)}

    def join(self, parts: Mapping[str, pl.Expr], dtype: pl.DataType) -> pl.Expr:
        """Look the value up."""
        return pl.when(parts["kept"]).then(self._mapped(dtype))

    def _mapped(self, dtype: pl.DataType) -> pl.Expr:
        inside = plain_type(dtype)
        values = pl.Series(self.values, dtype=inside)
        return (
            pl.col(self.by)
            .to_physical()
            .replace_strict(list(self.keys), values, default=None, return_dtype=inside)
            .cast(dtype)
        )

    def arguments(self) -> dict[str, Any]:
        """Return the other column, its values, and which follow from them."""
        return {"by": self.by, "keys": list(self.keys), "values": list(self.values)}


def _is_of(value: Scalar, dtype: pl.DataType) -> bool:
    """Whether a scalar stands for a value of a type."""
    if dtype == pl.String:
        return isinstance(value, str)
    if dtype == pl.Boolean:
        return isinstance(value, bool)
    if dtype.is_float():
        return isinstance(value, float)
    return isinstance(value, int) and not isinstance(value, bool)
