"""The options for writing each column, measured: bytes of all of them, times of the smallest ones.

Columns of a Parquet file do not depend on each other. So one file that holds every column in every form tells the bytes of all of
them, and as many such files as there are encodings tell which is the smallest for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from lazypipe.storage.optimizer.advice import listed, told_form
from lazypipe.storage.optimizer.candidates import encodings_for
from lazypipe.storage.optimizer.choice import Option
from lazypipe.storage.optimizer.cost import Cost
from lazypipe.storage.optimizer.form import Form
from lazypipe.storage.optimizer.layout import DEFAULT, Layout
from lazypipe.storage.optimizer.trial import Bench, Trial, chunk_bytes, write_bytes

__all__ = ["base_layout", "measured_options"]

_LEVEL = 3
"""Level of zstd that ways are compared at: Polars' own. That of pyarrow is 1."""
_RAW = 1.01
"""How many times larger a column may be without compression, to be left without."""
_TIMED = 3
"""Options of a column that are timed: the smallest."""


def base_layout(writer: str) -> Layout:
    """Return how a writer writes if it is told nothing but a level of compression that is the same for both."""
    return DEFAULT if writer == "polars" else Layout(writer="pyarrow", level=_LEVEL)


@dataclass(frozen=True)
class _Way:
    """A column in a form: what stands in the file for it, what the form itself costs, and whether some values do not fit."""

    name: str
    form: Form | None
    inside: pl.DataFrame
    cost: Cost
    odd: bool

    def read(self) -> list[str]:
        """Return the columns in the file that are read: without odd values, not the one for them."""
        return self.inside.columns if self.form is None or self.odd else self.inside.columns[:-1]


def measured_options(
    frame: pl.DataFrame, forms: Mapping[str, Sequence[Form]], writers: Sequence[str], bench: Bench
) -> dict[str, dict[str, list[Option]]]:
    """Return writer → column → options, the plain one first; those that there was no time to measure are left out."""
    ways = [_Way(c.name, None, c.to_frame(), Cost(), odd=False) for c in frame]
    tried = ((n, f) for n, some in forms.items() for f in some)
    ways += [_Way(n, f, *bench.transformed(frame, n, f)) for n, f in tried if bench.fits(frame.select(n))]
    found: dict[str, dict[str, list[Option]]] = {}
    for writer in writers:
        sized = _sized(ways, writer, bench)
        found[writer] = _timed(sized, writer, bench)
    return found


@dataclass(frozen=True)
class _Sized:
    """A way with the encodings and codecs of its parts, and the bytes that it takes."""

    way: _Way
    encodings: Mapping[str, str]
    codecs: Mapping[str, tuple[str, int | None]]
    bytes: int


def _sized(ways: Sequence[_Way], writer: str, bench: Bench) -> list[_Sized]:
    """Return each way in the writer's own encodings, and, if others are smaller, in those."""
    names = {(i, part): f"c{i}_{k}" for i, way in enumerate(ways) for k, part in enumerate(way.inside.columns)}
    wide = pl.concat(
        [w.inside.rename({p: names[i, p] for p in w.inside.columns}) for i, w in enumerate(ways)], how="horizontal"
    )
    base = base_layout(writer)
    own = chunk_bytes(write_bytes(wide, base))
    best, least, raw = dict.fromkeys(wide.columns, ""), dict(own), set[str]()
    if writer == "pyarrow":
        read = [names[i, p] for i, way in enumerate(ways) for p in way.read()]
        best, least = _smallest(wide, read, own, base, bench)
        raw = _uncompressed(wide, read, best, least, base, bench)
    found = []
    for i, way in enumerate(ways):
        parts = {p: names[i, p] for p in way.inside.columns}
        found.append(_Sized(way, {}, {}, sum(own[n] for n in parts.values())))
        encodings = {p: best[n] for p, n in parts.items() if best[n]}
        codecs: dict[str, tuple[str, int | None]] = {p: ("uncompressed", None) for p, n in parts.items() if n in raw}
        if encodings or codecs:
            found.append(_Sized(way, encodings, codecs, sum(least[n] for n in parts.values())))
    return found


def _smallest(
    wide: pl.DataFrame, read: Sequence[str], own: Mapping[str, int], base: Layout, bench: Bench
) -> tuple[dict[str, str], dict[str, int]]:
    """Return the encoding in which each column is smallest (the writer's own: empty), and its bytes; of those that are read."""
    types, best, least = wide.schema, dict.fromkeys(wide.columns, ""), dict(own)
    ranks = {n: encodings_for(types[n])[1:] for n in read}
    for rank in range(max(map(len, ranks.values()))):
        tried = {n: some[rank] for n, some in ranks.items() if rank < len(some)}
        if not bench.fits(wide.select(list(tried)), base.writer):
            break
        sizes = chunk_bytes(write_bytes(wide.select(list(tried)), replace(base, encodings=tried)))
        for name, size in sizes.items():
            if size < least[name]:
                least[name], best[name] = size, tried[name]
    return best, least


def _uncompressed(
    wide: pl.DataFrame,
    read: Sequence[str],
    best: Mapping[str, str],
    least: Mapping[str, int],
    base: Layout,
    bench: Bench,
) -> set[str]:
    """Return the columns that are read of which compression leaves nearly all."""
    if not bench.fits(wide, base.writer):
        return set()
    encodings = {n: e for n, e in best.items() if e}
    sizes = chunk_bytes(write_bytes(wide, replace(base, encodings=encodings, codec="uncompressed", level=None)))
    return {n for n in read if sizes[n] <= _RAW * least[n]}


def _timed(sized: Sequence[_Sized], writer: str, bench: Bench) -> dict[str, list[Option]]:
    """Time the smallest encodings of each column; where the budget is spent, they are taken to be as fast as the plain one."""
    columns: dict[str, list[_Sized]] = {}
    for one in sized:
        columns.setdefault(one.way.name, []).append(one)
    found = {}
    for name, (plain, *others) in sorted(columns.items(), key=lambda item: -item[1][0].bytes):
        first = _option(plain, writer, bench, None)
        smaller = sorted((o for o in others if o.bytes < plain.bytes), key=lambda o: o.bytes)
        found[name] = [first, *(_option(o, writer, bench, first.cost) for o in smaller[:_TIMED])]
    return found


def _option(sized: _Sized, writer: str, bench: Bench, like: Cost | None) -> Option:
    way, encodings, codecs = sized.way, sized.encodings, sized.codecs
    layout = replace(base_layout(writer), encodings=encodings, codecs=codecs)
    if like is not None and not bench.fits(way.inside, writer):
        cost = Cost(sized.bytes, like.write, like.read)
    else:
        stored = bench.stored(way.inside.select(way.read()), _only(layout, way.read()))
        cost = Cost(sized.bytes, stored.write, stored.read) + way.cost
    how = ", ".join([told_form(way.form) if way.form else "plain", writer, *([listed(encodings)] if encodings else [])])
    bench.trials.append(Trial(way.name, how, cost))
    return Option(way.form, cost, tuple(encodings.items()), tuple(codecs.items()))


def _only(layout: Layout, names: Sequence[str]) -> Layout:
    kept: Callable[[str], bool] = set(names).__contains__
    return replace(
        layout,
        encodings={n: e for n, e in layout.encodings.items() if kept(n)},
        codecs={n: c for n, c in layout.codecs.items() if kept(n)},
    )
