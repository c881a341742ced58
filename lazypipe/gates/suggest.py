"""Rules suggested from the rows of a frame: a first draft of a gate, to be edited by someone who knows the data.

Two streaming passes: one that profiles the columns, one that counts what violates each rule that the profile suggests, so
that no rule is proposed that does not hold on every row seen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import combinations
from math import isfinite
from typing import Any, overload

import polars as pl
import yaml

from lazypipe import gates
from lazypipe.errors import LazypipeError, counted
from lazypipe.gates.shown import records
from lazypipe.spec.frames import lazy_frame
from lazypipe.spec.model import Step, freeze
from lazypipe.spec.scope import Scope
from lazypipe.spec.types import is_pattern

__all__ = ["Suggestion", "Suggestions", "suggest_rules"]

_ENOUGH = 10
"""Values from which on what they have in common is not taken for chance."""
_TIMES = 5
"""How often each value of a set stands in the column, on average, at least."""
_PROBE = 1_000
"""Rows at the start on which forms of text are tried, before those that fit are tried on all."""
_MOMENTS = 8
"""Columns of dates and datetimes of which each two are compared."""
_EXACT = 1 << 53
"""Greater numbers are not proposed as bounds: floats do not hold them."""

_FORMATS = ("uuid", "email", "url", "ipv4", "ipv6", "mac", "iban", "ean13")
_DATES = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y", "%Y%m%d")
_CLOCKS = ("%H:%M", "%H:%M:%S")
_FORMS: tuple[tuple[Mapping[str, Any], ...], ...] = (
    *(({"format": {"is": name}},) for name in _FORMATS),
    *(({"parseable": {"as": kind}},) for kind in ("datetime", "date", "time")),
    # where two of these fit, which one is meant cannot be told
    tuple({"parseable": {"as": "date", "format": f}} for f in _DATES),
    tuple({"parseable": {"as": "datetime", "format": f"{f} {c}"}} for f in _DATES for c in _CLOCKS),
    ({"parseable": {"as": "integer"}},),
    ({"parseable": {"as": "number"}},),
    tuple({"parseable": {"as": "number", "format": f}} for f in ("1,234.56", "1.234,56")),
    ({"json": {}},),
)
"""What text may be, the likeliest first; of the forms in one group only one may fit."""
_WORDS = ("integer", "number")
"""Forms that a short list of values says better."""


@dataclass(frozen=True)
class Suggestion:
    """A rule as a definition writes it, and what speaks for it."""

    rule: Mapping[str, Any]
    evidence: str

    def __str__(self) -> str:
        ((name, arguments),) = self.rule.items()
        written = yaml.dump(
            [arguments], Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1e9
        )
        return f"{name}: {written.strip()[1:-1]}  # {self.evidence}"


class Suggestions(Sequence[Mapping[str, Any]]):
    """Proposed rules, as a gate takes them, each with its evidence.

    Examples
    --------
    >>> found = suggest_rules(pl.DataFrame({"a": ["x", "z"] * 10}))
    >>> list(found)
    [{'not_null': ['a']}, {'in_set': {'column': 'a', 'values': ['x', 'z']}}]
    >>> print(found.to_yaml(), end="")
    # proposed from 20 rows: keep what is meant to hold
    - not_null: [a]  # no null in 20 rows
    - in_set: {column: a, values: [x, z]}  # 2 different values in 20
    """

    def __init__(self, found: Sequence[Suggestion], seen: str) -> None:
        self.found = tuple(found)
        self.seen = seen

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        """Return a rule, or several."""
        return [s.rule for s in self.found][index]

    def __len__(self) -> int:
        return len(self.found)

    def __repr__(self) -> str:
        return f"<{len(self)} rules proposed from {self.seen}>"

    def to_yaml(self) -> str:
        """Return the rules as a YAML list for ``gate``, each with its evidence as a comment."""
        lines = [f"# proposed from {self.seen}: keep what is meant to hold"]
        return "\n".join([*lines, *(f"- {s}" for s in self.found)]) + "\n" if self.found else "[]\n"


class _Dumper(yaml.SafeDumper):
    """Writes text in quotes, unless it is a plain word in every version of YAML."""

    def ignore_aliases(self, data: object) -> bool:
        """Write equal parts twice."""
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    word = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]+|[a-xzA-MO-XZ]", text) is not None
    special = text.lower() in ("true", "false", "null", "yes", "no", "on", "off")
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if word and not special else '"')


_Dumper.add_representer(str, _text)


@dataclass(frozen=True)
class _Column:
    """What the first pass found out about a column."""

    name: str
    dtype: pl.DataType
    count: int
    distinct: int
    least: Any
    greatest: Any
    shortest: int
    longest: int


@dataclass
class _Profile:
    """The rows, and what is known of them; ``total`` is how many the frame has of which they may be a sample."""

    frame: pl.LazyFrame
    schema: pl.Schema
    rows: int = 0
    total: int = 0
    columns: list[_Column] = field(default_factory=list)
    pairs: list[tuple[str, str, str, int]] = field(default_factory=list)


def suggest_rules(
    frame: pl.DataFrame | pl.LazyFrame, *, sample: int | None = None, most_values: int = 20
) -> Suggestions:
    """Propose rules that hold for every row of a frame. The result is a sequence of rules for a gate, and can be converted to YAML for editing.

    Proposed are: keys, columns without nulls, small sets of values, known text formats and dates, signs of numbers, finite floats, lengths, and datetimes
    that are never before others. Rules that merely describe what was seen (bounds of numbers and lengths, rounded outwards; further unique
    columns) have the action ``warn``. From little data, little is proposed: most kinds need ten values.

    Parameters
    ----------
    sample
        About how many rows to look at, spread evenly over the frame. Default: all. Rules that were proposed from a sample may not hold for the other
        rows; keys that are unique in it may not be unique.
    most_values
        The largest number of different texts for which a set is proposed.

    Raises
    ------
    LazypipeError
        If ``sample`` or ``most_values`` is less than 1.

    Examples
    --------
    >>> frame = pl.DataFrame({"id": range(100), "price": [n / 4 for n in range(100)], "day": ["2024-02-29"] * 100})
    >>> print(suggest_rules(frame).to_yaml(), end="")
    # proposed from 100 rows: keep what is meant to hold
    - primary_key: [id]  # 100 different values in 100 rows, no null
    - not_null: [price, day]  # no null in 100 rows
    - non_negative: [id, price]  # least: 0, 0.0
    - finite: [price]  # neither NaN nor infinite
    - between: {column: price, max: 30, action: warn}  # 0.0 to 24.75; write what can be
    - parseable: {column: day, as: date}  # all 100 values
    """
    for name, value in (("sample", sample), ("most_values", most_values)):
        if value is not None and not (isinstance(value, int) and value >= 1):
            raise LazypipeError(f"{name} is {value!r}; write 1 or more")
    lazy = lazy_frame(frame, "frame")
    some, rows = _sampled(lazy, sample)
    profile = _profile(some)
    profile.total = rows or profile.rows
    found = _suggestions(profile, most_values, lazy)
    seen = f"{profile.rows:,} of {rows:,} rows" if rows else counted(profile.rows, "row")
    return Suggestions(found, seen)


_ROW = "__lazypipe_row"


def _sampled(frame: pl.LazyFrame, sample: int | None) -> tuple[pl.LazyFrame, int]:
    """Return every so-manieth row, in memory, and how many rows there are; all rows and 0 where those are few enough."""
    if sample is None:
        return frame, 0
    rows = frame.select(pl.len()).collect(engine="streaming").item()
    step = -(-rows // sample)
    if step < 2:
        return frame, 0
    some = frame.with_row_index(_ROW).filter(pl.col(_ROW) % step == 0).drop(_ROW).collect(engine="streaming")
    return some.lazy(), rows


def _has_distinct(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype in (pl.String, pl.Categorical) or isinstance(dtype, pl.Datetime)


def _profile(frame: pl.LazyFrame) -> _Profile:
    """Look at all columns once."""
    # neither objects of Python's own nor columns without a name that rules can use have rules
    schema = pl.Schema({n: t for n, t in frame.collect_schema().items() if n and not is_pattern(n) and t != pl.Object})
    exprs: dict[str, pl.Expr] = {"rows": pl.len()}
    for number, (name, dtype) in enumerate(schema.items()):
        column = pl.col(name)
        exprs[f"{number}:nulls"] = column.null_count()
        if _has_distinct(dtype):
            exprs[f"{number}:distinct"] = column.approx_n_unique()
        if dtype.is_numeric() or dtype == pl.Boolean:
            exprs[f"{number}:least"], exprs[f"{number}:greatest"] = column.min(), column.max()
        if dtype == pl.String:
            size = column.str.len_chars()
            exprs[f"{number}:shortest"], exprs[f"{number}:longest"] = size.min(), size.max()
    moments = [n for n, t in schema.items() if t == pl.Date or isinstance(t, pl.Datetime)][:_MOMENTS]
    pairs = [(a, b) for a, b in combinations(moments, 2) if schema[a] == schema[b]]
    for number, (a, b) in enumerate(pairs):
        left, right = pl.col(a), pl.col(b)
        exprs[f"{number}:below"], exprs[f"{number}:above"] = (left < right).sum(), (left > right).sum()
        exprs[f"{number}:equal"] = (left == right).sum()
    found = _row(frame, exprs)
    profile = _Profile(frame, schema, found["rows"])
    for number, (name, dtype) in enumerate(schema.items()):
        least, greatest, shortest, longest = (
            found.get(f"{number}:{what}") for what in ("least", "greatest", "shortest", "longest")
        )
        count = profile.rows - found[f"{number}:nulls"]
        distinct = found.get(f"{number}:distinct", 0)
        profile.columns.append(_Column(name, dtype, count, distinct, least, greatest, shortest or 0, longest or 0))
    for number, (a, b) in enumerate(pairs):
        below, above, equal = (found[f"{number}:{what}"] for what in ("below", "above", "equal"))
        both = below + above + equal
        if both >= _ENOUGH and not (below and above):
            first, last = (b, a) if above else (a, b)
            profile.pairs.append((first, "<=" if below or above else "=", last, both))
    return profile


def _row(frame: pl.LazyFrame, exprs: Mapping[str, pl.Expr]) -> dict[str, Any]:
    """Return the values of aggregates, in one pass; none asks for no pass."""
    return records(frame.select(**exprs).collect(engine="streaming"))[0] if exprs else {}


class _Tried:
    """Rules that may hold, to be tried on all rows at once."""

    def __init__(self, schema: pl.Schema) -> None:
        self._schema = schema
        self._masks: dict[str, pl.Expr] = {}
        self.more: dict[str, pl.Expr] = {}
        self.found: dict[str, Any] = {}

    def add(self, rule: Mapping[str, Any]) -> str:
        """Take a rule on; return the name under which it is known afterwards."""
        key = json.dumps(rule)
        self._masks[key] = _violated(rule, self._schema)
        return key

    def run(self, frame: pl.LazyFrame) -> None:
        """Count violations, and evaluate ``more``."""
        exprs = {key: mask.sum() for key, mask in self._masks.items()} | self.more
        self.found |= _row(frame, exprs)

    def holds(self, rule: Mapping[str, Any]) -> bool:
        """Whether a rule was tried and holds on every row."""
        return self.found.get(json.dumps(rule)) == 0


def _violated(rule: Mapping[str, Any], schema: pl.Schema) -> pl.Expr:
    """Return the expression for the rows that violate a rule; it is one with a single check."""
    ((name, arguments),) = rule.items()
    step = Step(name, freeze(arguments))
    made = gates.rule(step)
    (check,) = made.checks(schema, Scope(type(made), step))
    return check.mask()


def _suggestions(profile: _Profile, most_values: int, whole: pl.LazyFrame) -> list[Suggestion]:
    """Collect what may hold, try it on all rows, and keep what does; ``whole`` is what the rows are a sample of."""
    tried = _Tried(profile.schema)
    forms = _forms(profile, tried)
    amounts = {c.name: _amounts(c, tried) for c in profile.columns if c.dtype.is_numeric() or c.dtype == pl.Duration}
    for column in profile.columns:
        text = pl.col(column.name)
        few = min(2 * most_values, column.count // _TIMES)  # the first figure is not exact
        if column.dtype in (pl.String, pl.Categorical) and column.count >= _ENOUGH and column.distinct <= few:
            counts = text.cast(pl.String).drop_nulls().alias("value").value_counts(name="times")
            tried.more[f"values:{column.name}"] = counts.implode()
    keys = [c for c in profile.columns if c.count == profile.rows >= _ENOUGH and c.distinct > 0.9 * profile.rows]
    # whether something repeats cannot be told from a sample
    repeated = {f"repeated:{c.name}": pl.len() + pl.col(c.name).null_count() - pl.col(c.name).n_unique() for c in keys}
    if profile.total > profile.rows:
        tried.found |= _row(whole, repeated)
    else:
        tried.more |= repeated
    tried.run(profile.frame)
    unique = _unique(profile, tried)
    found = [*_of_all(profile, tried, unique)]
    for column in profile.columns:
        if column.dtype in (pl.String, pl.Categorical):
            found += _of_text(column, forms.get(column.name, ()), tried, most_values)
        elif column.dtype == pl.Boolean:
            found += _constant(column)
        elif column.name in amounts and column not in unique:
            constant = [*_constant(column)]
            found += constant or [s for s in amounts[column.name] if tried.holds(s.rule)]
    return [*found, *_of_moments(profile)]


def _forms(profile: _Profile, tried: _Tried) -> dict[str, list[list[Mapping[str, Any]]]]:
    """Return the forms that the first texts of each column have, in groups; they are taken on to be tried on all rows."""
    names = [c.name for c in profile.columns if c.dtype == pl.String and c.count >= _ENOUGH]
    if not names:
        return {}
    probe = profile.frame.select(names).head(_PROBE).collect(engine="streaming")
    forms = {}
    for name in names:
        texts = probe.select(pl.col(name).drop_nulls())
        # a number is JSON too, but not what is called so
        nested = texts.to_series().str.contains(r"^\s*[\[{]").all()
        tries = [g for g in _FORMS if nested or "json" not in g[0]] if texts.height else []
        groups = [[_about(name, form) for form in group] for group in tries]
        masks = {json.dumps(r): _violated(r, profile.schema).any() for group in groups for r in group}
        fails = texts.select(**masks).row(0, named=True) if masks else {}
        forms[name] = [[r for r in group if not fails[json.dumps(r)]] for group in groups]
        for group in forms[name]:
            for rule in group:
                tried.add(rule)
    return forms


def _about(column: str, form: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: {"column": column, **arguments} if arguments else column for name, arguments in form.items()}


def _amounts(column: _Column, tried: _Tried) -> list[Suggestion]:
    """Take on what may hold for a column of numbers or durations: bounds, of which those that hold are to be proposed."""
    name, dtype = column.name, column.dtype
    if not column.count:
        return []
    tried.add({"positive": name})
    tried.add({"non_negative": name})
    if dtype.is_float():
        tried.add({"finite": name})
    least, most = column.least, column.greatest
    if column.count < _ENOUGH or dtype == pl.Duration or not (abs(least) <= _EXACT and abs(most) <= _EXACT):
        return []
    bounds = {} if least >= 0 else {"min": _rounded(least, ROUND_FLOOR)}
    bounds["max"] = _rounded(most, ROUND_CEILING)
    rule = {"between": {"column": name, **bounds, "action": "warn"}}
    tried.add(rule)
    return [Suggestion(rule, f"{_shown(least)} to {_shown(most)}; write what can be")]


def _rounded(value: Any, rounding: str) -> int | float:
    """Return a number rounded outwards to its first digit."""
    exact = Decimal(str(value))
    unit = Decimal(1).scaleb(exact.adjusted())
    outer = (exact / unit).to_integral_value(rounding) * unit
    return int(outer) if outer == outer.to_integral_value() else float(outer)


def _shown(value: Any) -> str:
    """Return a value as one line of a comment."""
    return json.dumps(str(value), ensure_ascii=True)[1:-1]


def _unique(profile: _Profile, tried: _Tried) -> list[_Column]:
    """Return the columns that are unique, the likeliest key first; datetimes only where nothing else is."""

    def likeliness(column: _Column) -> tuple[bool, bool]:
        called = re.search(r"(id|key|uuid|code|number|nr|no)$", column.name, re.IGNORECASE) is not None
        return not called, not column.dtype.is_integer()

    unique = [c for c in profile.columns if tried.found.get(f"repeated:{c.name}") == 0]
    firm = [c for c in unique if not isinstance(c.dtype, pl.Datetime)]
    return sorted(firm or unique, key=likeliness)


def _of_all(profile: _Profile, tried: _Tried, unique: Sequence[_Column]) -> Iterator[Suggestion]:
    """Yield rules on keys, and those that name several columns."""
    rows = counted(profile.rows, "row")
    for number, column in enumerate(unique):
        evidence = f"{profile.total:,} different values in {counted(profile.total, 'row')}, no null"
        if number:
            yield Suggestion({"unique": {"columns": [column.name], "action": "warn"}}, f"{evidence}; by chance?")
        else:
            yield Suggestion({"primary_key": [column.name]}, evidence)
    full = [c.name for c in profile.columns if 0 < c.count == profile.rows and c not in unique[:1]]
    if full:
        yield Suggestion({"not_null": full}, f"no null in {rows}")
    signs: dict[str, list[_Column]] = {"positive": [], "non_negative": [], "finite": []}
    for column in profile.columns:
        if tried.holds({"positive": column.name}):
            signs["positive"].append(column)
        # whole numbers without a sign cannot be less
        elif tried.holds({"non_negative": column.name}) and not column.dtype.is_unsigned_integer():
            signs["non_negative"].append(column)
        if tried.holds({"finite": column.name}):
            signs["finite"].append(column)
    for rule, columns in signs.items():
        if columns:
            least = ", ".join(_shown(c.least) for c in columns)
            evidence = "neither NaN nor infinite" if rule == "finite" else f"least: {least}"
            yield Suggestion({rule: [c.name for c in columns]}, evidence)


def _of_text(
    column: _Column, forms: Sequence[Sequence[Mapping[str, Any]]], tried: _Tried, most_values: int
) -> Iterator[Suggestion]:
    """Yield what says most about a column of text: a form, a set of values, or else lengths."""
    every = f"all {column.count:,} values"
    counts: list[dict[str, Any]] = tried.found.get(f"values:{column.name}") or []
    values = sorted(c["value"] for c in counts)
    # a value that stands there once may be one of many
    few = 0 < len(values) <= most_values and all(c["times"] > 1 for c in counts)
    for group in forms:
        held = [r for r in group if tried.holds(r)]
        ((name, arguments),) = held[0].items() if len(held) == 1 else (("", {}),)
        if name and not (few and name == "parseable" and arguments["as"] in _WORDS):
            yield Suggestion(held[0], every)
            return
    if few:
        yield Suggestion(
            {"in_set": {"column": column.name, "values": values}},
            f"{counted(len(values), 'different value')} in {column.count:,}",
        )
        return
    if column.count < _ENOUGH or column.dtype != pl.String:
        return
    shortest, longest = column.shortest, column.longest
    rule: dict[str, Any]
    if shortest == longest:
        rule = {"length_between": {"column": column.name, "min": shortest, "max": longest}}
        yield Suggestion(rule, f"{every} have {counted(longest, 'character')}")
        return
    if shortest:
        yield Suggestion({"not_empty": column.name}, f"{every} have a character at least")
    rule = {"length_between": {"column": column.name, "max": _rounded(longest, ROUND_CEILING), "action": "warn"}}
    yield Suggestion(rule, f"{shortest:,} to {counted(longest, 'character')}; write what can be")


def _constant(column: _Column) -> Iterator[Suggestion]:
    """Yield the one value of a column of numbers or booleans that has no other."""
    value = column.least
    known = isinstance(value, int | float) and isfinite(value) and abs(value) <= _EXACT
    if known and value == column.greatest and column.count >= _ENOUGH:
        yield Suggestion({"in_set": {"column": column.name, "values": [value]}}, f"all {column.count:,} values")


def _of_moments(profile: _Profile) -> Iterator[Suggestion]:
    """Yield which datetimes never come before others; what follows from others is left out."""
    nulls = {c.name for c in profile.columns if c.count < profile.rows}
    after = {(a, b) for a, op, b, _ in profile.pairs if op == "<="}
    for left, op, right, both in profile.pairs:
        between = {b for a, b in after if a == left and b not in nulls} & {a for a, b in after if b == right}
        if op == "=" or not between:
            rule = {"compare": {"left": left, "op": op, "right": right}}
            yield Suggestion(rule, f"in {counted(both, 'row')} with both")
