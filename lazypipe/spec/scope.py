"""What an operation or a rule can see while its plan is built: schemas, other inputs, parameters, and where mistakes go."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from lazypipe.errors import first_line, nearest
from lazypipe.spec.arguments import Arguments
from lazypipe.spec.model import NOTHING, Fault, Step
from lazypipe.spec.words import plain
from lazypipe.sql.bind import tried
from lazypipe.sql.exprs import dtype_of, settled
from lazypipe.sql.text import SqlError

__all__ = ["Guard", "Scope", "Table", "Tally", "Whole", "modules"]

FAR = 2**62
"""A moment after all others, in microseconds."""

Tally = Callable[[pl.LazyFrame, Mapping[str, pl.Expr]], pl.LazyFrame]
"""Takes a frame and named boolean expressions whose true rows are to be counted on the way; returns the same frame."""


Whole = Callable[[pl.LazyFrame], pl.LazyFrame]
"""Takes rows of closed windows with what was found of each; returns those whose window is whole, or given all the same."""

Guard = Callable[[pl.LazyFrame, pl.Schema, tuple[str, ...]], pl.LazyFrame]
"""Takes a frame whose keys must not repeat, its schema and the keys; returns the frame, watched on the way."""


def _uncounted(frame: pl.LazyFrame, _: Mapping[str, pl.Expr]) -> pl.LazyFrame:
    return frame


@dataclass(frozen=True)
class Table:
    """A lazy frame with its schema, so that the plan need not be resolved again to know it.

    ``extra`` are columns of the frame that no schema lists: what is said of each row on the way, and goes where the row goes.
    ``large`` says that its rows may take more memory than there is for them.
    """

    frame: pl.LazyFrame
    schema: pl.Schema
    extra: tuple[str, ...] = ()
    large: bool = False


class Asked(Mapping[str, Any]):
    """Parameters that know whether somebody has asked for the time of the run: what did not is the same at any other.

    Examples
    --------
    >>> asked = Asked({"now": "then", "least": 1})
    >>> asked["least"], asked.for_time, asked["now"], asked.for_time
    (1, False, 'then', True)
    >>> [*asked], len(asked)
    (['now', 'least'], 2)
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params
        self.for_time = False

    def __getitem__(self, name: str) -> Any:
        """Return the value of a parameter."""
        self.for_time |= name == "now"
        return self._params[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._params)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._params)


def modules(allow: Iterable[str]) -> frozenset[str]:
    """Return the modules that a caller allows; a text is one of them, and not its letters.

    Examples
    --------
    >>> sorted(modules(["a", "b.c"])), sorted(modules("b.c"))
    (['a', 'b.c'], ['b.c'])
    """
    return frozenset([allow] if isinstance(allow, str) else allow)


@dataclass(frozen=True)
class Scope:
    """What an operation or a rule can see while it is lowered, and where its mistakes are reported.

    ``tally`` and ``guard`` are how a run measures on the way what no plan can say: rows for which something holds, and
    keys that repeat. Without a guard, operations leave the check of keys to Polars, which gives up streaming for it. ``horizon`` is
    the watermark of a run, in microseconds since 1970: windows up to it are closed. Outside a run all are. ``whole`` holds back those
    that are not whole; without it all are.
    """

    owner: type[Arguments]
    step: Step
    tables: Mapping[str, Table] = field(default_factory=lambda: NOTHING)
    params: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    modules: frozenset[str] = frozenset()
    tally: Tally = _uncounted
    guard: Guard | None = None
    horizon: int = FAR
    whole: Whole | None = None

    def fault(
        self, what: str, fix: str | None, argument: str, *rest: str | int, place: tuple[int, int] | None = None
    ) -> Fault:
        """Return the mistake, placed at an argument (or inside it, by line and column of its text); engine's words become plain ones."""
        said = plain(what)
        return Fault(said.what, fix or said.fix, self.owner.at(self.step, argument, *rest), place)

    def expr(
        self, text: str | pl.Expr, schema: pl.Schema, argument: str, *rest: str | int, keys: Collection[str] = ()
    ) -> pl.Expr:
        """Bind SQL text (or take a ``pl.Expr``) over ``schema``; it is known to resolve when this returns.

        ``keys`` are those of groups, which a choice of columns by type or pattern passes over.
        """
        try:
            if isinstance(text, pl.Expr):
                expr = settled(text, schema, keys)
                dtype_of(expr, schema)
                return expr
            expr = tried(text, schema, self.params)
        except SqlError as error:
            raise self.fault(error.what, error.fix, argument, *rest) from error
        except pl.exceptions.PolarsError as error:
            raise self.fault(first_line(error), None, argument, *rest) from error
        return expr

    def condition(self, text: str | pl.Expr, schema: pl.Schema, argument: str, *rest: str | int) -> pl.Expr:
        """Bind an expression that must be true or false."""
        expr = self.expr(text, schema, argument, *rest)
        dtype = dtype_of(expr, schema)
        if dtype not in (pl.Boolean, pl.Null):
            raise self.fault(
                f"a condition must be true or false, and this is {dtype}", "compare it with something", argument, *rest
            )
        return expr

    def columns(self, names: Iterable[str], schema: pl.Schema, argument: str, *rest: str | int, of: str = "") -> None:
        """Check that columns exist."""
        for index, name in enumerate(names):
            if name not in schema:
                what = f"unknown column {name!r}" + (f" of {of!r}" if of else "")
                place = name if isinstance(names, Mapping) else index
                raise self.fault(what, nearest(name, schema, "columns"), argument, *rest, place)

    def table(self, name: str) -> Table:
        """Return another input by its name (the graph has been checked already)."""
        return self.tables[name]
