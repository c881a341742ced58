"""Advice as a value: a layout, the reasons for it, and what was measured; and how it is printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lazypipe.storage.optimizer.choice import Goal, Measure
from lazypipe.storage.optimizer.cost import Cost
from lazypipe.storage.optimizer.form import Form
from lazypipe.storage.optimizer.form_texts import Template
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.optimizer.profile import ColumnProfile
from lazypipe.storage.optimizer.trial import Trial

__all__ = ["LATER", "Advice", "Reason", "listed", "order_name", "told_form", "why"]


LATER = "there was time for those that take the most bytes"
"""Why some columns were looked at, and others were left."""


@dataclass(frozen=True)
class Reason:
    """A decision: for which column (None: all), what was decided, why, and what was measured."""

    column: str | None
    decision: str
    why: str
    before: int | None = None
    after: int | None = None

    def __str__(self) -> str:
        text = f"{self.decision}: {self.why}" if self.column is None else f"{self.column}: {self.decision}: {self.why}"
        return text if self.before is None else f"{text} ({self.before:,} → {self.after:,} bytes)"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return dict(vars(self))


@dataclass(frozen=True)
class Advice:
    """A recommended layout, and why.

    Parameters
    ----------
    goal
        The goal that was given.
    layout
        The recommended layout.
    reasons
        Each decision, with what was measured.
    measured
        Everything that was tried. The first is the default layout, the last the recommended one, both for all columns.
    sizes
        Column → bytes of the sample, in the default layout and in the recommended one.
    rows, total
        Rows in the sample, and in the whole data.
    seconds
        How long choosing took, by the clock that was given.
    format
        ``parquet``, or ``ipc`` if the rows are for interchange and that is much faster (for exports).
    left
        Columns for which there was no time; they are stored as by default.
    estimated
        Whether times were derived from bytes with known rates, because they cannot be measured on few rows.
    spent
        How much of the budget was used; if times are estimated, by the same rates.
    """

    goal: Goal
    layout: Layout
    reasons: tuple[Reason, ...]
    measured: tuple[Trial, ...]
    sizes: Mapping[str, tuple[int, int]] = field(hash=False)
    rows: int
    total: int
    seconds: float
    format: Literal["parquet", "ipc"] = "parquet"
    estimated: bool = False
    spent: float = 0.0
    left: tuple[str, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether there was no time to try anything. The choice is then made later, when more rows are written."""
        return bool(self.left) and not self.sizes and not self.layout.sort_by

    @property
    def before(self) -> Cost:
        """Size and times of the sample in the default layout."""
        return self.measured[0].cost

    @property
    def after(self) -> Cost:
        """Size and times of the sample in the recommended layout."""
        return self.measured[-1].cost

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "goal": self.goal,
            "layout": self.layout.to_dict(),
            "reasons": [r.to_dict() for r in self.reasons],
            "measured": [t.to_dict() for t in self.measured],
            "sizes": {n: list(pair) for n, pair in self.sizes.items()},
            "rows": self.rows,
            "total": self.total,
            "seconds": self.seconds,
            "format": self.format,
            "estimated": self.estimated,
            "left": list(self.left),
            "spent": self.spent,
        }

    def to_markdown(self) -> str:
        """Return a report with the decisions, the reasons, and the bytes of each column before and after."""
        before, after = self.before, self.after
        change = _change(before.bytes, after.bytes)
        lines = [
            f"# Advice: {self.goal}",
            "",
            f"From {self.rows:,} of {self.total:,} rows, {len(self.measured):,} trials in {self.seconds:.2f} s."
            + (" Times are estimated from bytes." if self.estimated else ""),
            "",
            "| sample | bytes | to write | to read |",
            "|---|--:|--:|--:|",
            f"| default | {before.bytes:,} | {before.write * 1e3:.1f} ms | {before.read * 1e3:.1f} ms |",
            f"| advised | {after.bytes:,} ({change}) | {after.write * 1e3:.1f} ms | {after.read * 1e3:.1f} ms |",
            "",
            *self._columns(),
            *(f"- {r}" for r in self.reasons),
        ]
        return "\n".join(lines)

    def _columns(self) -> list[str]:
        """Return the table of columns, if there were rows to measure."""
        rows = [
            f"| {n.replace('|', chr(92) + '|')} | {a:,} | {b:,} | {_change(a, b)} |" for n, (a, b) in self.sizes.items()
        ]
        return ["| column | default | advised | change |", "|---|--:|--:|--:|", *rows, ""] if rows else []


def _change(before: int, after: int) -> str:
    return f"{(after - before) / before:+.1%}" if before else "–"


def told_form(form: Form) -> str:
    """Return a form in a few words."""
    shown = {k: v if not isinstance(v, list) or len(v) < 4 else f"{len(v)} values" for k, v in form.arguments().items()}
    return f"{form.kind}({', '.join(f'{k}={v}' for k, v in shown.items())})"


def listed(encodings: Mapping[str, str]) -> str:
    """Return the different encodings of a column's parts."""
    return ", ".join(dict.fromkeys(encodings.values()))


def order_name(layout: Layout) -> str:
    """Return what rows are ordered by."""
    return ", ".join(layout.sort_by) + (f" ({layout.curve})" if layout.curve != "linear" else "")


def _make(form: Template) -> str:
    """Return what texts of one make look like: what varies stands in angles."""
    kinds = [f"<{v} digits>" if isinstance(v, int) else "<number>" if v == "long" else f"<{v}>" for v in form.varying]
    return form.pieces[0] + "".join(k + piece for k, piece in zip(kinds, form.pieces[1:], strict=True))


_BEST = {
    "bytes": "the smallest of the encodings for {} within the limits on time",
    "read": "the fastest to read of the encodings for {} within the limit on bytes",
    "write": "the fastest to write of the encodings for {} within the limits",
}


def why(column: ColumnProfile, form: Form | None, least: Measure = "bytes") -> str:
    """Return what speaks for the way a column is written, where ``least`` is to be small."""
    if form is None:
        return _BEST[least].format(column.dtype)
    match form.kind:
        case "cast":
            return f"all values seen lie between {column.least} and {column.greatest}"
        case "scaled":
            return f"values have {column.digits} decimals"
        case "whole" if form.needs:
            return f"values lie near those of {form.needs[0]}"
        case "whole" if column.unit is None:
            return "decimals fit whole numbers of their last digit"
        case "whole":
            return f"values are multiples of {column.unit:,}"
        case "multiple":
            return f"values are multiples of those of {form.needs[0]}"
        case "paged":
            return "values rise"
        case "flag" | "coded":
            return f"{column.distinct} different texts"
        case "template":
            assert isinstance(form, Template)
            return f"nearly all texts are made like {_make(form)}"
        case "hexed":
            return "all texts are hexadecimal digits"
        case "constant":
            return "there is one value"
        case _:
            return f"values follow from {form.needs[0]}"
