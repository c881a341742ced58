"""Data with known faults: the same rows on every machine, with exactly the requested number of violations of each rule.

``make_orders`` makes orders for the eight rules of ``order_rules``; ``violate`` puts faults into a frame of one's own;
``write_deliveries`` writes a frame as the files that would be delivered.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import polars as pl

from lazypipe.api.frames import check
from lazypipe.compile.compiled import EPOCH
from lazypipe.compile.node import compile_checks
from lazypipe.errors import LazypipeError, nearest
from lazypipe.gates.marks import mark
from lazypipe.gates.rule import Check, Rule
from lazypipe.spec import loader
from lazypipe.spec.arguments import Arguments
from lazypipe.spec.model import Fault, Origin, Step, freeze
from lazypipe.spec.scope import Scope

__all__ = ["Format", "make_orders", "order_rules", "violate", "write_deliveries"]

Format = Literal["parquet", "csv", "csv.gz", "ndjson", "ndjson.gz", "ipc"]
"""Formats of deliveries, as the names of their files end."""

COUNTRIES = ("DE", "FR", "US", "GB", "IT", "ES", "NL", "BE", "PL", "SE")
STATUSES = ("new", "paid", "sent", "done", "void")
EMAIL = r"^[^@\s]+@[^@\s]+\.[a-z]+$"
SINCE = datetime(2024, 1, 1)  # noqa: DTZ001  # the columns have no time zone

_IDS = 1 << 32
"""Order ids lie below this: draws mix 32 bits in numbers of 64, so that no product overflows."""

UNIQUE, NOT_NULL, TIMES = "unique:order_id", "not_null:email", "compare:updated_at >= event_time"
_WRONG: Mapping[str, tuple[str, Sequence[Any]]] = {
    "regex:email": ("email", ("nobody", "no body@example.com", "nobody@example", "@example.com")),
    "in_set:country": ("country", ("XX", "de", "Germany")),
    "between:amount": ("amount", (-0.01, -250.0, 10_000.01, 1e9)),
    "between:quantity": ("quantity", (0, -1, -12)),
    "in_set:status": ("status", ("lost", "PAID", "?")),
}

Ints = TypeVar("Ints", pl.Expr, pl.Series)


def order_rules(action: str = "quarantine") -> list[dict[str, Any]]:
    """Return the eight rules for orders, as written in a gate; ``make_orders`` uses their ids.

    Examples
    --------
    >>> from lazypipe.api.frames import check
    >>> [c.id for c in check(make_orders(0), order_rules()).checks]
    ['unique:order_id', 'not_null:email', 'regex:email', 'in_set:country', 'between:amount', 'between:quantity',
     'in_set:status', 'compare:updated_at >= event_time']
    """
    rules: list[tuple[str, dict[str, Any]]] = [
        ("unique", {"columns": "order_id"}),
        ("not_null", {"columns": "email"}),
        ("regex", {"column": "email", "pattern": EMAIL}),
        ("in_set", {"column": "country", "values": list(COUNTRIES)}),
        ("between", {"column": "amount", "min": 0, "max": 10_000}),
        ("between", {"column": "quantity", "min": 1}),
        ("in_set", {"column": "status", "values": list(STATUSES)}),
        ("compare", {"left": "updated_at", "op": ">=", "right": "event_time"}),
    ]
    return [{name: {**arguments, "action": action}} for name, arguments in rules]


def make_orders(
    rows: int,
    *,
    bad: Mapping[str, int] | None = None,
    seed: int = 0,
    start: int = 0,
    since: datetime = SINCE,
    overlap: bool = False,
) -> pl.DataFrame:
    """Create orders: exactly ``bad[id]`` rows violate the rule ``id`` of ``order_rules``, and none violates any other.

    The columns are ``order_id`` (Int64, starting at ``start``), ``email``, ``country``, ``amount`` (Float64, two decimals), ``quantity`` (Int32),
    ``status``, ``event_time`` (about one order per second, starting at ``since``) and ``updated_at`` (within a day after it). Only a bad ``email``
    can be null. The result does not depend on the machine, or on the hash functions of Polars.

    Parameters
    ----------
    rows
        How many. A row without a fault depends only on ``seed`` and its ``order_id``, so deliveries continue each other: ``make_orders(5)``
        and ``make_orders(5, start=5)`` together equal ``make_orders(10)``.
    bad
        Rule id → number of rows that violate it, scattered over the frame. Every row of a repeated key violates ``unique:order_id``, so its number is
        0 or at least 2: twelve are six pairs of rows with the same ``order_id``.
    overlap
        Default: each bad row violates one rule. Otherwise rules share bad rows as far as possible (an ``email`` cannot be both null and malformed);
        there are then as many bad rows as the largest of the counts, with those of ``email`` added up.

    Raises
    ------
    ValueError
        For an unknown rule, a count that cannot be, more bad rows than rows, or order ids from 2**32 on.

    Examples
    --------
    >>> from lazypipe.api.frames import check
    >>> orders = make_orders(1_000, bad={"not_null:email": 37, "unique:order_id": 12}, seed=1)
    >>> check(orders, order_rules()).failed
    {'unique:order_id': 12, 'not_null:email': 37}
    """
    if rows < 0 or start < 0 or start + rows > _IDS:
        raise ValueError(f"{rows:,} orders from {start:,} on cannot be; order ids lie between 0 and {_IDS - 1:,}")
    counts = {id_: n for id_, n in _counts(bad or {}, (UNIQUE, NOT_NULL, *_WRONG, TIMES), {UNIQUE}).items() if n}
    frame = _clean(rows, start, seed, since)
    masks = []
    places = _places(rows, _needed(counts, rows, overlap=overlap), _key(seed, "places"))
    taken = 0
    for id_, count in counts.items():
        first = counts.get("regex:email", 0) if overlap and id_ == NOT_NULL else 0 if overlap else taken
        found, taken = places.slice(first, count), taken + count
        if id_ == UNIQUE:
            ids = frame["order_id"].gather(found)
            frame = frame.with_columns(frame["order_id"].scatter(found, ids.gather(_leaders(count))))
        else:
            mask = pl.Series(id_, [False]).new_from_index(0, rows)
            masks.append(mask.scatter(found, [True]))
    return _spoilt(frame.with_columns(masks), seed).drop(m.name for m in masks)


def _counts(bad: Mapping[str, int], known: Sequence[str], keys: set[str]) -> dict[str, int]:
    """Return the counts in the order of the rules; raises ValueError where they cannot be."""
    for id_, count in bad.items():
        if id_ not in known:
            raise ValueError(f"unknown rule {id_!r}; {nearest(id_, known, 'rules')}")
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ValueError(f"{count!r} is not a number of rows for {id_}; write 0 or more")
        if id_ in keys and count == 1:
            raise ValueError(f"one row alone does not repeat a key; write 0, or 2 and more for {id_}")
    return {id_: bad[id_] for id_ in known if id_ in bad}


def _needed(counts: Mapping[str, int], rows: int, *, overlap: bool) -> int:
    """Return how many rows are to be bad; raises ValueError if there are fewer."""
    shared = {id_: n for id_, n in counts.items() if id_ not in (NOT_NULL, "regex:email")}
    email = sum(counts.values()) - sum(shared.values())
    needed = max([email, *shared.values()]) if overlap else sum(counts.values())
    if needed > rows:
        fix = "" if overlap else "; make more rows, ask for fewer, or let rules share them with overlap=True"
        raise ValueError(f"{needed:,} bad rows do not fit in {rows:,} rows{fix}")
    return needed


def _clean(rows: int, start: int, seed: int, since: datetime) -> pl.DataFrame:
    """Make orders without a fault."""

    def draw(name: str, below: int, over: str | None = None) -> pl.Expr:
        return (_mix(pl.col("id") ^ _key(seed, name)) if over is None else pl.col(over)) % below

    def pick(values: Sequence[str], index: pl.Expr) -> pl.Expr:
        return pl.lit(pl.Series(values)).gather(index)

    drawn = pl.DataFrame({"id": pl.int_range(start, start + rows, dtype=pl.UInt64, eager=True)}).with_columns(
        a=draw("email", 25_000_000),
        b=draw("words", 1_000),
        amount=draw("amount", 1_000_001),
        time=draw("time", 864_000_000),
    )
    a, b, time, order = pl.col("a"), pl.col("b"), pl.col("time"), pl.col("id").cast(pl.Int64)
    happened = pl.lit(since, dtype=pl.Datetime("us")) + pl.duration(milliseconds=order * 1_000 + (time % 10_000))
    return drawn.select(
        order_id=order,
        email=pl.concat_str(pl.lit("user"), a // 50, pl.lit("@example"), a % 50, pl.lit(".com")),
        country=pick(COUNTRIES, b % 10),
        # by a column: divided by one number, Polars multiplies with its inverse, and 1.23 is not quite 1.23
        amount=pl.col("amount").cast(pl.Float64) / (pl.col("id") * 0 + 100).cast(pl.Float64),
        quantity=(b // 50 + 1).cast(pl.Int32),
        status=pick(STATUSES, b // 10 % 5),
        event_time=happened,
        updated_at=happened + pl.duration(seconds=time // 10_000),
    )


def _spoilt(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Put faults where the columns named like rules are true."""
    nth = _mix(pl.int_range(pl.len(), dtype=pl.UInt64) ^ _key(seed, "faults"))
    wrong: dict[str, pl.Expr] = {}
    for id_, (column, values) in _WRONG.items():
        if id_ in frame.columns:
            series = pl.Series(values, dtype=frame.schema[column])
            fault = pl.lit(series).gather(nth % len(values))
            wrong[column] = pl.when(pl.col(id_)).then(fault).otherwise(pl.col(column))
    if NOT_NULL in frame.columns:
        wrong["email"] = pl.when(~pl.col(NOT_NULL)).then(wrong.get("email", pl.col("email")))
    if TIMES in frame.columns:
        early = pl.col("event_time") - pl.duration(microseconds=1 + nth % 3_600_000_000)
        wrong["updated_at"] = pl.when(pl.col(TIMES)).then(early).otherwise(pl.col("updated_at"))
    return frame.with_columns(**wrong)


def _leaders(count: int) -> pl.Series:
    """Return for each of ``count`` rows the one whose key it gets: pairs, and three where one is left over."""
    numbers = pl.Series([n - n % 2 for n in range(count)], dtype=pl.UInt32)
    return numbers.scatter(count - 1, count - 3) if count % 2 else numbers


def _key(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=4).digest())


def _mix(number: Ints) -> Ints:
    """Scramble 32 bits in UInt64 with whole numbers only, one to one."""
    number = ((number ^ (number // 65_536)) * 0x7FEB352D) & 0xFFFFFFFF
    number = ((number ^ (number // 32_768)) * 0x846CA68B) & 0xFFFFFFFF
    return number ^ (number // 65_536)


def _places(rows: int, count: int, key: int) -> pl.Series:
    """Return ``count`` different numbers below ``rows``, scattered: the start of a permutation (a Feistel network)."""
    side = 1 << max(1, ((rows - 1).bit_length() + 1) // 2)
    left, right = pl.col("at") // side, pl.col("at") % side
    frame = pl.DataFrame({"at": pl.int_range(count, dtype=pl.UInt64, eager=True)})
    outside = pl.Series([True]).new_from_index(0, count)
    while outside.any():
        moved = frame.filter(outside)
        for number in range(4):
            moved = moved.select(
                at=right * side + (left ^ (_mix(right ^ ((key + number * 0x9E3779B9) & 0xFFFFFFFF)) % side))
            )
        # a number beyond the rows is sent round again until it falls inside: still one to one
        frame = frame.with_columns(at=frame["at"].scatter(outside.arg_true(), moved["at"]))
        outside = frame["at"] >= rows
    return frame["at"]


def write_deliveries(
    frame: pl.DataFrame,
    folder: str | Path,
    *,
    files: int = 10,
    format: Format = "parquet",  # noqa: A002  # the definition's word
    name: str = "part",
) -> list[Path]:
    """Write a frame as several files with equal numbers of rows, in order; return their paths.

    The folder is created if needed; existing files of the same names are overwritten. If there are fewer rows than files, the last files are empty.

    Raises
    ------
    ValueError
        If ``files`` is less than 1, or the format is unknown.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = write_deliveries(make_orders(10), folder, files=3, format="csv.gz")
    ...     [p.name for p in paths], pl.read_csv(paths[0]).height
    (['part-000.csv.gz', 'part-001.csv.gz', 'part-002.csv.gz'], 4)
    """
    if files < 1:
        raise ValueError(f"{files} files cannot hold rows; write 1 or more")
    if format not in get_args(Format):
        raise ValueError(f"unknown format {format!r}; {nearest(format, get_args(Format), 'formats')}")
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    paths, size, more = [], *divmod(frame.height, files)
    for number in range(files):
        path = target / f"{name}-{number:03}.{format}"
        part = frame.slice(number * size + min(number, more), size + (number < more))
        if format == "parquet":
            part.write_parquet(path)
        elif format == "ipc":
            part.write_ipc(path)
        elif format.startswith("csv"):
            part.write_csv(path, compression="gzip" if format == "csv.gz" else "uncompressed")
        else:
            part.write_ndjson(path, compression="gzip" if format == "ndjson.gz" else "uncompressed")
        paths.append(path)
    return paths


_PLACE, _CHANCE = "__lazypipe_place", "__lazypipe_chance"
_AT_ONCE = 1_000
"""Rows whose candidates are tried together."""


def violate(
    frame: pl.DataFrame,
    counts: Mapping[str, int],
    rules: Sequence[Mapping[str, Any] | Rule],
    *,
    seed: int = 0,
    params: Mapping[str, Any] | None = None,
    now: datetime | None = None,
    **others: pl.DataFrame,
) -> pl.DataFrame:
    """Add faults to a frame without any: exactly ``counts[id]`` rows then violate the rule ``id``, and each of them only that rule.

    It works for every rule that can be violated by changing one value, including expressions and custom functions: values that are likely to be
    wrong (null, empty, out of bounds, copied from another column) are tried in random rows, and one that violates only this rule is kept. Keys
    are copied from one row to another. All other rows and values, and the order of rows, stay the same.

    Parameters
    ----------
    counts
        Rule id (as in the report of ``check``) → number of rows that should violate it.
    params, now, others
        As for ``check``: parameters, the clock, and frames that rules refer to.

    Raises
    ------
    ValueError
        For an unknown rule, a rule on the whole frame, a count that cannot be, or a frame that has faults already.
    DefinitionError
        If a rule does not fit the frame.
    LazypipeError
        If so many rows cannot be made to violate a rule and no other.

    Examples
    --------
    >>> from lazypipe.api.frames import check
    >>> rules = [{"not_null": "a"}, {"between": {"column": "a", "max": 99}}, {"unique": "b"}]
    >>> frame = pl.DataFrame({"a": range(100), "b": range(100)})
    >>> faulty = violate(frame, {"not_null:a": 3, "between:a": 5, "unique:b": 2}, rules)
    >>> check(faulty, rules).failed
    {'not_null:a': 3, 'between:a': 5, 'unique:b': 2}
    """
    steps = [_step(r, i) for i, r in enumerate(rules)]
    frames = {name: other.lazy() for name, other in others.items()}
    schemas = {name: other.schema for name, other in others.items()}
    faults: list[Fault] = []
    values = {"now": now or EPOCH, **(params or {})}
    checks = compile_checks(steps, frame.schema, lambda s, owner: Scope(owner, s, params=values), faults, schemas)
    if faults:
        raise loader.problems(faults, Origin())
    wanted = _counts(counts, [c.id for c in checks], {c.id for c in checks if c.keys})
    for one in checks:
        if one.measure is not None and one.id in wanted:
            raise ValueError(f"{one.id} is about the whole frame; only rules on rows and keys count rows")
    if sum(wanted.values()) > frame.height:
        raise ValueError(f"{sum(wanted.values()):,} bad rows do not fit in {frame.height:,} rows; ask for fewer")

    def found(rows: pl.DataFrame) -> dict[str, int]:
        report = check(rows, rules, params=params, now=now, **others)
        rows_failed = {c.id: c.failed_before for c, of in zip(report.checks, checks, strict=True) if of.measure is None}
        return {id_: n for id_, n in rows_failed.items() if n}

    if before := found(frame):
        raise ValueError(f"the frame has faults already: {_told(before)}; give one without")
    work = _Spoiler(frame, checks, steps, frames, seed)
    for one in checks:
        if wanted.get(one.id):
            (work.repeat if one.keys else work.spoil)(one, wanted[one.id])
    faulty = work.frame()
    if (after := found(faulty)) != {i: n for i, n in wanted.items() if n}:
        raise LazypipeError(f"rules of the frame hang together: asked for {_told(wanted)}, got {_told(after)}")
    return faulty


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{id_}: {n:,}" for id_, n in counts.items()) or "none"


def _step(written: Mapping[str, Any] | Rule, index: int) -> Step:
    if isinstance(written, Arguments):
        step = written.to_step()
        return Step(step.name, step.arguments, ("rules", index))
    ((name, arguments),) = written.items()
    return Step(name, freeze(arguments), ("rules", index))


class _Spoiler:
    """Takes rows of a frame at random, each once, and puts faults into them."""

    def __init__(
        self,
        frame: pl.DataFrame,
        checks: Sequence[Check],
        steps: Sequence[Step],
        frames: Mapping[str, pl.LazyFrame],
        seed: int,
    ) -> None:
        self._frame, self._frames = frame, frames
        self._checks = [replace(c, repair=None) for c in checks if c.per_row]
        self._keys = {k for c in checks for k in c.keys}
        self._written = [v for step in steps for v in _scalars(step.arguments)]
        self._left = _places(frame.height, frame.height, _key(seed, "rows"))
        self._random = random.Random(seed)  # noqa: S311  # data, no secret
        self._spoilt: list[pl.DataFrame] = []

    def frame(self) -> pl.DataFrame:
        """Return the frame with the faults so far."""
        if not self._spoilt:
            return self._frame
        spoilt = pl.concat(self._spoilt)
        rows = self._frame.with_columns(pl.int_range(pl.len(), dtype=pl.UInt64).alias(_PLACE))
        kept = rows.join(spoilt, on=_PLACE, how="anti")
        return pl.concat([kept, spoilt]).sort(_PLACE).drop(_PLACE)

    def spoil(self, check: Check, count: int) -> None:
        """Change one value in each of ``count`` rows so that they violate ``check`` and nothing else."""
        wanted = count
        for rows in self._batches():
            tries = pl.concat(
                rows.with_columns(value.cast(self._frame.schema[name], strict=False).alias(name))
                for name, value in self._candidates(check)
            )
            good = self._judged(tries, check.id)
            # any of the values that serve: not the same one in all rows
            chance = pl.Series(_CHANCE, [self._random.random() for _ in range(good.height)], dtype=pl.Float64)
            chosen = good.with_columns(chance).sort(_CHANCE).unique(_PLACE, keep="first", maintain_order=True)
            wanted -= self._take(chosen.drop(_CHANCE).head(wanted))
            if not wanted:
                return
        raise LazypipeError(
            f"cannot make {count:,} rows violate {check.id} and no other rule; {count - wanted:,} are possible"
        )

    def repeat(self, check: Check, count: int) -> None:
        """Copy keys from one row to another, or to two, so that ``count`` rows have a key that repeats."""
        wanted = count
        compared = pl.all_horizontal(pl.col(check.keys).is_not_null())
        if check.where is not None:
            compared = compared & check.where.fill_null(value=False)
        for batch in self._batches():
            rows = batch.filter(compared)
            # never one row left over
            rows = rows.head(rows.height - 1 if wanted - rows.height == 1 else wanted)
            if rows.height > 1:
                leaders = rows.select(check.keys)[_leaders(rows.height)]
                copied = rows.with_columns(leaders.get_columns())
                good = self._judged(copied, None)
                bad = copied.join(good, on=_PLACE, how="anti")
                # with one row of a group goes the group
                wanted -= self._take(good.join(bad, on=check.keys, how="anti"))
            if not wanted:
                return
        raise LazypipeError(
            f"cannot make {count:,} rows repeat the key of {check.id} and violate no other rule; "
            f"{count - wanted:,} are possible"
        )

    def _batches(self) -> Iterator[pl.DataFrame]:
        taken = [s[_PLACE] for s in self._spoilt]
        left = self._left if not taken else self._left.filter(~self._left.is_in(pl.concat(taken).implode()))
        for start in range(0, len(left), _AT_ONCE):
            places = left.slice(start, _AT_ONCE)
            yield self._frame[places].with_columns(places.alias(_PLACE))

    def _take(self, rows: pl.DataFrame) -> int:
        self._spoilt.append(rows)
        return rows.height

    def _judged(self, rows: pl.DataFrame, only: str | None) -> pl.DataFrame:
        """Return the rows that violate the check called ``only`` and nothing else."""
        marked = mark(rows.lazy(), self._checks, lambda reference: self._frames[reference.to])
        wanted = [pl.col(m) if id_ == only else ~pl.col(m) for id_, m in marked.masks.items()]
        good = marked.frame.filter(wanted) if wanted else marked.frame
        return good.select(rows.columns).collect().sort(_PLACE)

    def _candidates(self, check: Check) -> Iterator[tuple[str, pl.Expr]]:
        """Yield columns, and expressions for values that are likely to be wrong in them."""
        names = [n for n in self._frame.columns if n in check.columns]
        for name in names:
            dtype = self._frame.schema[name]
            yield name, pl.lit(None)
            for value in _unlike(self._frame[name]):
                yield name, value
            if name in self._keys:
                continue  # the same value in several rows would repeat a key
            for value in _odd(name, dtype):
                yield name, value
            for written in self._written:
                with suppress(pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
                    yield name, pl.lit(pl.Series([written]).cast(dtype).first(), dtype=dtype)
            for other in names:
                if other != name and self._frame.schema[other] == dtype:
                    yield name, pl.col(other)
                    yield from ((name, value) for value in _beside(other, dtype))


def _scalars(value: Any) -> Iterator[Any]:
    """Yield the single values inside a rule's arguments."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple):
        for part in value:
            yield from _scalars(part)
    elif not isinstance(value, pl.Expr) and value is not None:
        yield value


def _physical(dtype: pl.DataType) -> tuple[pl.DataType, int]:
    """Return the whole numbers that a temporal type is made of, and how many are a day (a time's: a second)."""
    units = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
    if dtype == pl.Date:
        return pl.Int32(), 1
    return pl.Int64(), 1_000_000_000 if dtype == pl.Time else units[dtype.time_unit]  # type: ignore[attr-defined]


def _unlike(column: pl.Series) -> Iterator[pl.Expr]:
    """Yield values that stand nowhere in a column, and are different in each row."""
    dtype, place = column.dtype, pl.col(_PLACE).cast(pl.Int64) + 1
    if dtype.is_numeric():
        wide = pl.Int128() if dtype.is_integer() else pl.Float64()
        least, most = (pl.lit(v if v is not None else 0).cast(wide) for v in (column.min(), column.max()))
        yield from (least - place, most + place)
    elif dtype.is_temporal():
        whole, day = _physical(dtype)
        numbers = column.cast(whole)
        least, most = (pl.lit(v if v is not None else 0, dtype=pl.Int64) for v in (numbers.min(), numbers.max()))
        yield from ((n.cast(whole)).cast(dtype, strict=False) for n in (least - place * day, most + place * day))
    elif dtype == pl.String:
        text = place.cast(pl.String)
        yield from (pl.lit("?") + text, pl.col(column.name) + "?" + text, pl.lit("\x00") + text)


def _odd(name: str, dtype: pl.DataType) -> Iterator[pl.Expr]:
    """Yield values that often are not allowed."""
    column = pl.col(name)
    if dtype.is_numeric():
        yield from (pl.lit(v) for v in (0, -1, 1, 0.5, 0.01))
        yield from (dtype.min(), dtype.max()) if dtype.is_integer() else (pl.lit(-1e30), pl.lit(1e30))  # type: ignore[attr-defined]
        if dtype.is_float():
            yield from (pl.lit(float(v)) for v in ("nan", "inf", "-inf"))
    if dtype.is_temporal() and dtype != pl.Time:
        whole, day = _physical(dtype)
        yield from (pl.lit(n * day, dtype=pl.Int64).cast(whole).cast(dtype) for n in _far(dtype))
    if dtype.is_numeric() or dtype.is_temporal():
        yield from _beside(name, dtype)
    if dtype == pl.Boolean:
        yield ~column
    if dtype == pl.String:
        yield from (pl.lit(v) for v in ("", " ", "?", "x" * 1_000))
        yield from (column.str.head(1), column + "?", column.str.to_uppercase(), column.str.to_lowercase())
    if isinstance(dtype, pl.Enum):
        yield from (pl.lit(c) for c in dtype.categories.head(50))
    if dtype == pl.Binary:
        yield from (pl.lit(b""), pl.lit(b"?"))
    if isinstance(dtype, pl.List):
        yield pl.lit([], dtype=dtype)


def _far(dtype: pl.DataType) -> tuple[int, int]:
    """Return days long ago and far ahead, as far as the type reaches."""
    near = isinstance(dtype, pl.Datetime | pl.Duration) and dtype.time_unit == "ns"
    return (-100_000, 100_000) if near else (-350_000, 2_542_000)


def _beside(name: str, dtype: pl.DataType) -> Iterator[pl.Expr]:
    """Yield values a little below and above those of a column."""
    if dtype.is_numeric():
        yield from (pl.col(name) - 1, pl.col(name) + 1)
    elif dtype.is_temporal():
        whole, day = _physical(dtype)
        number = pl.col(name).cast(whole).cast(pl.Int64)
        yield from ((number + step).cast(whole).cast(dtype, strict=False) for step in (-day, day))
