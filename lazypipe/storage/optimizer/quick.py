"""The options for writing each column, estimated when there is little time: from one file of few rows.

A column stands in that file in every form that its profile speaks for, and each part of a form in every encoding that it is likely to be
smallest in. What each takes in time follows from its bytes, see ``estimates``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import polars as pl

from lazypipe.spec.model import NOTHING
from lazypipe.storage.optimizer.advice import listed, told_form
from lazypipe.storage.optimizer.candidates import encodings_for
from lazypipe.storage.optimizer.choice import Option
from lazypipe.storage.optimizer.cost import Cost, Size
from lazypipe.storage.optimizer.estimates import column_cost, form_cost, values
from lazypipe.storage.optimizer.form import Form
from lazypipe.storage.optimizer.form_numbers import Cast, Scaled, Whole
from lazypipe.storage.optimizer.forms import apart, plain_column
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.optimizer.options import base_layout
from lazypipe.storage.optimizer.profile import ColumnProfile
from lazypipe.storage.optimizer.trial import Bench, Trial, chunk_sizes, write_bytes

__all__ = ["estimated_options", "shrinking"]

_RAW = 1.01
"""How many times larger a column may be without compression, to be left without."""
_HARDLY = 1.1
"""How many times larger it must be to be compressed harder: what is packed to nine tenths is packed to hardly less by any level."""
_FEW = 0.02
"""Which part of the values may be different ones at most, for a dictionary to be the only thing worth trying."""
_MANY = 0.5
"""Beyond which part a dictionary is not worth trying."""
_NEAR = 1.1
"""How many times more bytes an encoding may take than the smallest, to be offered because it is faster."""
_RISING = 0.98
_GIVEN_UP = 0.95
"""Which part of the bytes of plain values a column takes at least, of which a dictionary was given up."""
_HARDER = 0.97
"""What a higher level leaves of a column, about, that is not tried at it."""
_LITTLE = 0.03
"""Which part of all bytes a column must have, for a higher level of compression to be tried."""
_GAIN, _NOISE = 0.99, 32
"""Which part of the bytes another way may leave at most, and how many more it must save, as headers of pages differ by some."""
_DOUBTFUL = 0.8
_UNIQUE = 0.7
_STEADY = 1.5
"""How many times more bytes than the smallest differences may take where values rise: with more rows they only gain."""
_LEVEL = 3
_How: TypeAlias = tuple[str, int]
"""An encoding (the writer's own is empty) and a level of compression."""
_Sizes: TypeAlias = dict[str, dict[_How, Size]]
"""What each column of the wide frame takes, by how it is written."""
_Costs: TypeAlias = dict[_How, tuple[Cost, tuple[str, int | None] | None]]
"""What a part costs by how it is written, and its codec if that is not the one of all."""


@dataclass(frozen=True)
class _Way:
    """A column in a form: part → the column of the wide frame that holds it; whether some values do not fit."""

    name: str
    form: Form | None
    parts: Mapping[str, str]
    odd: bool


def estimated_options(
    frame: pl.DataFrame,
    forms: Mapping[str, Sequence[Form]],
    profiles: Mapping[str, ColumnProfile],
    writers: Sequence[str],
    bench: Bench,
    level: int | None = None,
    scale: float = 1.0,
    known: Mapping[str, Size] = NOTHING,
    *,
    sure: bool = False,
) -> dict[str, dict[str, list[Option]]]:
    """Return writer → column → options, the plain one first; columns without a profile are written as writers do by themselves.

    ``level`` is one of zstd that is offered for each column besides; ``scale`` how many rows a row of the frame stands for;
    ``known`` the bytes of columns as Polars' writer makes them by itself. Where ``sure``, another way must gain half of
    what a dictionary can with more rows.
    """
    alone = [n for n in frame.columns if n not in profiles and n in known]  # what nothing is known of stands as it is
    types = frame.schema
    wide, ways = _wide(frame.drop(alone), forms)
    held = {s.name: s for s in wide}
    found: dict[str, dict[str, list[Option]]] = {}
    for writer in writers:
        if writer == "polars":
            sizes = _by_polars(held, ways, known)
        else:
            sizes = _by_pyarrow(held, ways, profiles, known, types, level)
        options: dict[str, list[Option]] = {}
        for way in ways:
            profile = profiles.get(way.name)
            parts = {part: sizes[c] for part, c in way.parts.items()}
            parted = {part: held[c] for part, c in way.parts.items()}
            some = _options(way, parts, parted, writer, bench, types[way.name], rising=_rises(profile))
            first, *others = options.setdefault(way.name, some)
            gain = _gain(profile, scale, sure=sure)
            better = [o for o in (others if way.form is None else some) if _is_better(o, first, gain)]
            options[way.name] = [first, *better] if way.form is None else [first, *others, *better]
        for column in frame.select(alone):
            options[column.name] = _as_it_is(column, known[column.name], writer, level)
        found[writer] = options
    return found


def _as_it_is(column: pl.Series, size: Size, writer: str, level: int | None) -> list[Option]:
    """Return the options of a column that nobody looks at: as Polars' writer makes it, whoever writes it, and compressed harder.

    Of what Polars has given the dictionary up, pyarrow would keep one, and places in it besides.
    """
    name, many = column.name, values(column)
    own = "dictionary" if "dictionary" in encodings_for(column.dtype)[:1] else ""
    plain = writer == "pyarrow" and own and size.raw >= _GIVEN_UP * _plain_bytes(column)
    encoding = "plain" if plain else ""
    chosen = ((name, encoding),) if encoding else ()
    found = [Option(None, column_cost(column.dtype, size, many, writer, encoding), chosen, sizes=((name, size),))]
    if writer == "pyarrow" and level is not None and size.raw > _HARDLY * size.bytes:
        hard = Size(round(_HARDER * size.bytes), size.raw)
        cost = column_cost(column.dtype, hard, many, writer, encoding, "zstd", level)
        found.append(Option(None, cost, chosen, ((name, ("zstd", level)),), ((name, hard),)))
    return found


def _plain_bytes(column: pl.Series) -> float:
    """Return what values take in a file as they are."""
    some = column.len() - column.null_count()
    if column.dtype == pl.String:
        return 4.0 * some + float(column.str.len_bytes().sum())
    if column.dtype == pl.Binary:
        return 4.0 * some + float(column.bin.size().sum())
    return float(column.estimated_size() * some / max(column.len(), 1))


def _by_polars(held: Mapping[str, pl.Series], ways: Sequence[_Way], known: Mapping[str, Size]) -> _Sizes:
    """Return the bytes of each column as Polars writes it, which chooses encodings by itself; those that are known are not written."""
    same = {way.parts[way.name]: known[way.name] for way in ways if way.form is None and way.name in known}
    tried = {c: ("",) for way in ways for c in way.parts.values() if c not in same}
    written = _sizes(held, tried, base_layout("polars")) if tried else {}
    return {c: {("", _LEVEL): size} for c, size in same.items()} | written


def _by_pyarrow(
    held: Mapping[str, pl.Series],
    ways: Sequence[_Way],
    profiles: Mapping[str, ColumnProfile],
    known: Mapping[str, Size],
    types: Mapping[str, pl.DataType],
    level: int | None,
) -> _Sizes:
    """Return the bytes of each column in the encodings that are likely for it; and where bytes count, compressed harder."""
    base = base_layout("pyarrow")
    # where bytes count; others are perhaps faster as they are
    narrowed = (w for w in ways if isinstance(w.form, Cast | Scaled | Whole) and not (w.odd or w.form.needs))
    shorter = {w.name for w in narrowed if level is not None}
    tried = {
        c: _tried(way, part, held[c].dtype, profiles, shorter=way.name in shorter)
        for way in ways
        for part, c in way.parts.items()
    }
    given: _Sizes = {
        way.parts[way.name]: _given_up(known[way.name], profiles[way.name], tried[way.parts[way.name]])
        for way in ways
        if way.form is None and way.name in known and _is_many(profiles.get(way.name), types[way.name])
    }
    tried = {c: tuple(e for e in some if (e, _LEVEL) not in given.get(c, ())) for c, some in tried.items()}
    sizes = _sizes(held, {c: some for c, some in tried.items() if some}, base)
    sizes |= {c: some | sizes.get(c, {}) for c, some in given.items()}
    if level is None:
        return sizes
    # brute force pays for some columns only, and costs the more the larger they are
    best = {c: min(some, key=lambda how: some[how].bytes) for c, some in sizes.items()}
    least = _LITTLE * sum(s.bytes for s in known.values())
    hard = {c: (how[0],) for c, how in best.items() if _is_worth(sizes[c][how], least)}
    for c, some in (_sizes(held, hard, replace(base, level=level)) if hard else {}).items():
        sizes[c] |= some
    return sizes


def _is_many(profile: ColumnProfile | None, dtype: pl.DataType) -> bool:
    """Whether a dictionary of a column is hardly shorter than its values, so that Polars' writer gives it up."""
    if profile is None or encodings_for(dtype)[0] != "dictionary" or "plain" not in encodings_for(dtype):
        return False
    return (profile.distinct or 0) > _MANY * (profile.rows - profile.nulls)


def _given_up(size: Size, profile: ColumnProfile, tried: Sequence[str]) -> dict[_How, Size]:
    """Return what a column takes by pyarrow that Polars has given up the dictionary of: as it is, and with a place for each value besides."""
    places = (profile.rows - profile.nulls) * max((profile.distinct or 0) - 1, 1).bit_length() // 8
    plain: dict[_How, Size] = {("plain", _LEVEL): size} if "plain" in tried else {}
    return {("", _LEVEL): Size(size.bytes + places, size.raw + places)} | plain


def _gain(profile: ColumnProfile | None, scale: float, *, sure: bool) -> float:
    """Return which part of the bytes another way may leave at most.

    What is known of few rows must gain much where more rows may have many more values, or just the same ones.
    """
    if profile is None or not _is_doubtful(profile, scale):
        return _GAIN
    return min(_DOUBTFUL, (1 + shrinking(profile, scale)) / 2) if sure else _DOUBTFUL


def _sizes(held: Mapping[str, pl.Series], tried: Mapping[str, Sequence[str]], base: Layout) -> _Sizes:
    """Return the bytes of columns in encodings, at a level: all by writing one file."""
    # without a dot, which would look like a part of a nested column
    columns = [held[c].alias(f"{c}:{e}") for c, encodings in tried.items() for e in encodings]
    encodings = {f"{c}:{e}": e for c, some in tried.items() for e in some if e}
    layout = replace(base, encodings=encodings, statistics=False)
    sizes = chunk_sizes(write_bytes(pl.DataFrame(columns), layout))
    level = _LEVEL if base.level is None else base.level
    return {c: {(e, level): sizes[f"{c}:{e}"] for e in some} for c, some in tried.items()}


def _is_worth(size: Size, least: float) -> bool:
    """Whether harder compression may gain anything to speak of: much is left, and it is compressed at all."""
    return size.bytes > least and size.raw > _HARDLY * size.bytes


def _wide(frame: pl.DataFrame, forms: Mapping[str, Sequence[Form]]) -> tuple[pl.DataFrame, list[_Way]]:
    """Return every column in every form, in one frame, made by one query."""
    first: dict[str, pl.Expr] = {}
    then: dict[str, pl.Expr] = {}
    ways: list[tuple[str, Form | None, dict[str, str]]] = []
    for name, dtype in frame.schema.items():
        then[f"c{len(then)}"] = pl.col(name)
        ways.append((name, None, {name: f"c{len(then) - 1}"}))
        for number, form in enumerate(forms.get(name, ())):
            split, made = apart(name, dtype, form, str(number))
            first |= split
            parts = {}
            for part, expr in made.items():
                parts[part] = f"c{len(then)}"
                then[parts[part]] = expr
            ways.append((name, form, parts))
    wide = frame.lazy().with_columns(**first).select(**then).collect(optimizations=pl.QueryOptFlags.none())
    found = []
    nulls = wide.null_count().row(0, named=True)
    for name, one, parts in ways:
        odd = one is not None and nulls[parts[plain_column(name)]] < frame.height
        found.append(_Way(name, one, {p: c for p, c in parts.items() if odd or p != plain_column(name)}, odd))
    return wide, found


def _tried(
    way: _Way, part: str, dtype: pl.DataType, profiles: Mapping[str, ColumnProfile], *, shorter: bool
) -> tuple[str, ...]:
    """Return the encodings that a part may be smallest in; the writer's own is the empty text.

    ``shorter`` tells whether the column is tried in a form with the same values in fewer bytes, too.
    """
    known = profiles.get(way.name)
    if known is None or part == plain_column(way.name):
        return ("",)
    own, *others = encodings_for(dtype)
    if way.form is None and shorter:
        others = [e for e in others if e == "delta"]  # what else may be smaller is so in a narrower form, too
    values = known.rows - known.nulls
    # what leans on another column, or is a part of a text, may have fewer or more values than the column
    alike = way.form is None or (not way.form.needs and len(way.parts) == 1 + way.odd)
    share = known.distinct / values if alike and known.distinct is not None and values else None
    if share is not None and share <= _FEW:
        others = [e for e in others if e in ("delta", "rle") and dtype != pl.String]
    if dtype in (pl.String, pl.Binary) and not _rises(known):
        others = [e for e in others if e != "delta"]  # texts share what they begin with only in order
    if way.form is not None and share is not None and share > _MANY and own == "dictionary" and others:
        return tuple(others)
    return ("", *others)


def shrinking(profile: ColumnProfile, scale: float) -> float:
    """Return which part of a dictionary-encoded column's bytes is left for each row on more rows: there the dictionary is not longer.

    Examples
    --------
    >>> from lazypipe.storage.optimizer.profile import profile
    >>> known = profile(pl.DataFrame({"x": [n % 300 for n in range(1_000)]}))["x"]
    >>> round(shrinking(known, 1.0), 2), round(shrinking(known, 100.0), 2)
    (1.0, 0.33)
    """
    plain, distinct = (profile.encodings or {}).get("plain"), profile.distinct
    values = profile.rows - profile.nulls
    if not plain or not distinct or not _is_doubtful(profile, scale) or (profile.runs or 0) < _STEADY * distinct:
        return 1.0  # values that come once, in a run, are new ones in every row group
    held = plain / values * distinct
    places = max(distinct - 1, 1).bit_length() * values / 8
    return (places + held / scale) / (places + held)


def _stored(size: Size, codec: tuple[str, int | None] | None) -> Size:
    """Return what a part takes with a codec of its own, if it has one."""
    return Size(size.raw, size.raw) if codec == ("uncompressed", None) else size


def _rises(profile: ColumnProfile | None) -> bool:
    return profile is not None and profile.rising is not None and profile.rising >= _RISING


def _is_doubtful(profile: ColumnProfile, scale: float) -> bool:
    """Whether a dictionary may do much better on more rows than it does on these."""
    values = profile.rows - profile.nulls
    return scale > 1 and profile.distinct is not None and _FEW * values < profile.distinct < _UNIQUE * values


def _is_better(one: Option, other: Option, gain: float) -> bool:
    """Whether it is worth it to write a column in another way than by itself."""
    if one.form is None and not one.encodings:
        return True  # another level, or codec
    new, old = one.cost, other.cost
    return new.bytes + _NOISE < gain * old.bytes or (
        gain == _GAIN and (new.write < gain * old.write or new.read < gain * old.read)
    )


def _options(
    way: _Way,
    parts: Mapping[str, Mapping[_How, Size]],
    held: Mapping[str, pl.Series],
    writer: str,
    bench: Bench,
    dtype: pl.DataType,
    *,
    rising: bool = False,
) -> list[Option]:
    """Return the way as it is written by itself, in the smallest encodings, and in those nearly as small that are fastest."""
    rows = next(iter(held.values())).len()
    known = {
        p: {how: _cost(p, held[p], how, size, writer, bench) for how, size in some.items()} for p, some in parts.items()
    }
    if rising:
        known = {p: _steadied(some) for p, some in known.items()}
    form = Cost() if way.form is None else form_cost(way.form, rows, dtype)
    chosen: dict[tuple[Any, ...], Option] = {}
    for picked in _picks(known, plain=way.form is None):
        costs = {p: known[p][how] for p, how in picked.items()}
        encodings = tuple((p, e) for p, (e, _) in picked.items() if e)
        codecs = tuple((p, codec) for p, (_, codec) in costs.items() if codec is not None)
        if (encodings, codecs) in chosen:
            continue
        total = sum((c for c, _ in costs.values()), form)
        sizes = tuple((p, _stored(parts[p][how], costs[p][1])) for p, how in picked.items())
        chosen[encodings, codecs] = Option(way.form, total, encodings, codecs, sizes)
        told = [told_form(way.form) if way.form else "plain", writer, *([listed(dict(encodings))] if encodings else [])]
        bench.trials.append(Trial(way.name, ", ".join(told), total))
    return [*chosen.values()]


def _cost(
    part: str, held: pl.Series, how: _How, size: Size, writer: str, bench: Bench
) -> tuple[Cost, tuple[str, int | None] | None]:
    """Return what a part costs, and its codec if it is not that of all: none where compression gains nothing."""
    encoding, level = how
    if writer == "pyarrow" and size.raw <= _RAW * size.bytes:
        raw = Size(size.raw, size.raw)
        return column_cost(held.dtype, raw, values(held), writer, encoding, "uncompressed", None), (
            "uncompressed",
            None,
        )
    left = bench.shrinks.get(part, 1.0) if encoding == "" else 1.0
    cost = column_cost(held.dtype, size, values(held), writer, encoding, "zstd", level, left)
    return cost, None if level == _LEVEL else ("zstd", level)


def _steadied(costs: _Costs) -> _Costs:
    """Return costs in which differences of values that rise are the smallest where they are nearly that: more rows only gain."""
    least = min(c.bytes for c, _ in costs.values())
    return {
        how: (replace(one, bytes=least - 1), codec)
        if how[0] == "delta" and least < one.bytes <= _STEADY * least + _NOISE
        else (one, codec)
        for how, (one, codec) in costs.items()
    }


def _picks(known: Mapping[str, _Costs], *, plain: bool) -> Iterator[dict[str, _How]]:
    """Yield for each part how it is written: the smallest of all, those nearly as small that are fastest, and those compressed harder."""
    usual = {p: {how: c for how, (c, _) in some.items() if how[1] == _LEVEL} for p, some in known.items()}
    if plain:
        yield dict.fromkeys(known, ("", _LEVEL))
    least = {p: min(some, key=lambda how: some[how].bytes) for p, some in usual.items()}
    yield least
    near = {
        p: {how: c for how, c in some.items() if c.bytes <= _NEAR * some[least[p]].bytes} for p, some in usual.items()
    }
    yield {p: min(some, key=lambda how: some[how].write) for p, some in near.items()}
    yield {p: min(some, key=lambda how: some[how].read) for p, some in near.items()}
    if any(len(known[p]) > len(usual[p]) for p in known):
        yield {
            p: min([least[p], *(h for h in some if h[1] != _LEVEL)], key=lambda how: some[how][0].bytes)
            for p, some in known.items()
        }
