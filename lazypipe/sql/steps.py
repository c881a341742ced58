"""A SQL aggregation in steps: what is computed for each row, which partial aggregates are kept, and how the result follows from them.

All of it is a guess from the text, for plans to judge: nothing here knows what a word means to Polars.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lazypipe.sql.text import SqlError, quoted, words

__all__ = ["Call", "Steps", "calls", "steps"]

_ADD_UP = ("sum", "count", "min", "max", "avg")
"""Aggregates that can be computed from those of parts; ``avg`` from sum and count."""

_ENDS = frozenset({"except", "fetch", "intersect", "limit", "offset", "order", "qualify", "union", "window"})
"""Words behind a query's groups by which it is another kind of query."""


@dataclass(frozen=True)
class Call:
    """A call of a function that adds up, as it is written."""

    function: str
    argument: str


class _AnotherKind(Exception):
    """SQL that cannot be computed in steps."""


def calls(text: str, name: str) -> tuple[str, dict[str, Call]] | None:
    """Return text with columns in the place of calls of functions that add up, and these; None if there are none, or other ones.

    A text that is one call gives one column, which has the ``name``; others begin with it.

    Examples
    --------
    >>> found = calls("sum(a * 2) / (count(*) + 1)", "f")
    >>> found[0], [*found[1].items()]
    ('"f_0" / ( "f_1" + 1 )', [('f_0', Call(function='sum', argument='a * 2')), ('f_1', Call(function='count', argument='*'))])
    >>> calls("avg(a)", "f")
    ('"f"', {'f': Call(function='avg', argument='a')})
    >>> calls("median(a)", "f") is None, calls("sum(a) OVER (PARTITION BY b)", "f") is None
    (True, True)
    """
    try:
        found = _Calls(name)
        made = found.replaced(words(text))
    except _AnotherKind:
        return None
    if not found.known:
        return None
    if len(made) == 1:
        ((_, one),) = found.known.items()
        return f'"{name}"', {name: one}
    return " ".join(made), found.known


class _Calls:
    """Calls of functions that add up, each with the name of the column that takes its place."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.known: dict[str, Call] = {}

    def replaced(self, words: Sequence[str]) -> list[str]:
        """Return words with columns in the place of calls."""
        made, at = list[str](), 0
        while at < len(words):
            if words[at].lower() not in _ADD_UP or words[at + 1 : at + 2] != ["("] or words[at - 1 : at] == ["."]:
                made.append(words[at])
                at += 1
                continue
            end = _closing(words, at + 1)
            inner, after = words[at + 2 : end], words[end + 1 : end + 2]
            if not inner or inner[0].lower() in ("distinct", "all") or len([*_parted(inner)]) > 1:
                raise _AnotherKind
            if after and after[0].lower() in ("over", "filter", "within"):
                raise _AnotherKind
            made.append(f'"{self._column(Call(words[at].lower(), " ".join(inner)))}"')
            at = end + 1
        return made

    def whole(self, words: Sequence[str], name: str) -> list[str] | None:
        """Return the column with this name, if words are one call; not of one that has two figures, whose names are longer."""
        one = _Calls(name)
        if len(one.replaced(words)) != 1 or not one.known:
            return None
        (call,) = one.known.values()
        if call.function == "avg":
            return None
        self.known[name] = call
        return [quoted(name)]

    def _column(self, call: Call) -> str:
        for name, known in self.known.items():
            if known == call:
                return name
        name = f"{self.name}_{len(self.known)}"
        self.known[name] = call
        return name


@dataclass(frozen=True)
class Steps:
    """A query that groups rows, in three.

    Attributes
    ----------
    rows
        The query that gives of each row the columns of its group, and those that are counted, added up ….
    by
        The columns of groups, by their names in the query and in its result.
    calls
        The column of each figure, and its function over a column of ``rows``.
    result
        The query over columns of groups and figures, called ``self``, that gives what the whole one does.
    """

    rows: str
    by: tuple[str, ...]
    calls: Mapping[str, Call]
    result: str

    @property
    def figures(self) -> str:
        """The query over ``rows``, called ``self``, that gives columns of groups and figures."""
        by = [quoted(c) for c in self.by]
        made = [f"{c.function}({c.argument}) AS {quoted(n)}" for n, c in self.calls.items()]
        return _selected([*by, *made], ["FROM", "self", *(["GROUP BY", ", ".join(by)] if by else [])])


def steps(query: str, names: Sequence[str]) -> Steps | None:
    """Return the steps of a query whose columns have these names; None if it is of another kind.

    All columns of groups must be among those that it gives.

    Examples
    --------
    >>> found = steps("SELECT upper(k) AS g, avg(v) - 1 AS m FROM t WHERE v > 0 GROUP BY 1 HAVING count(*) > 2", ["g", "m"])
    >>> found.rows
    'SELECT upper ( k ) AS "g", v AS "__lazypipe_value_0" FROM t WHERE v > 0'
    >>> found.figures
    'SELECT "g", avg("__lazypipe_value_0") AS "__lazypipe_figure_0", count(*) AS "__lazypipe_figure_1" FROM self GROUP BY "g"'
    >>> found.result
    'SELECT "g" AS "g", "__lazypipe_figure_0" - 1 AS "m" FROM self WHERE "__lazypipe_figure_1" > 2'
    >>> steps("SELECT DISTINCT k, v FROM t", ["k", "v"]).figures
    'SELECT "k", "v" FROM self GROUP BY "k", "v"'
    """
    try:
        return _steps(words(query), names)
    except (_AnotherKind, SqlError):
        return None


def _steps(words: Sequence[str], names: Sequence[str]) -> Steps:
    selects = [*_places(words, ("select",))]
    if not selects:
        raise _AnotherKind
    ahead, rest = words[: selects[-1]], words[selects[-1] + 1 :]
    start = next(_places(rest, ("from",)), None)
    if start is None or any(True for _ in _places(words, _ENDS)):
        raise _AnotherKind
    items, body = rest[:start], rest[start:]
    if items[:1] and items[0].lower() == "distinct":
        if items[1:2] and items[1].lower() == "on":
            raise _AnotherKind
        by = tuple(quoted(n) for n in names)
        rows = _joined([*ahead, "SELECT", *items[1:], *body])
        if any(True for _ in _places(body, ("group", "having"))):
            raise _AnotherKind
        return Steps(rows, tuple(names), {}, _selected(by, ["FROM", "self"]))
    return _grouped(ahead, [_named(item) for item in _parted(items)], body, names)


def _grouped(
    ahead: Sequence[str], items: Sequence[tuple[list[str], str]], body: Sequence[str], names: Sequence[str]
) -> Steps:
    group, having = next(_places(body, ("group",)), None), next(_places(body, ("having",)), None)
    tables = body[: group if group is not None else having]
    wanted = [] if having is None else body[having + 1 :]
    if len(items) != len(names):  # a star, or something like it
        raise _AnotherKind
    found = _Calls("__lazypipe_figure")
    made = [found.whole(item, name) or found.replaced(item) for (item, _), name in zip(items, names, strict=True)]
    aliases = dict(zip((alias for _, alias in items), made, strict=True))
    by: dict[str, list[str]] = {}
    for key in [] if group is None else _keys(body[group + 2 : having], items):
        given = [n for n, (item, _) in zip(names, items, strict=True) if item == key]
        if not given:  # a group that is not told by what the query gives
            raise _AnotherKind
        by[given[0]] = key
    result = [f"{_joined(_with_keys(item, by))} AS {quoted(n)}" for n, item in zip(names, made, strict=True)]
    conditions = _with_keys(_with_aliases(found.replaced(wanted), aliases), by)
    values = {
        a: f"__lazypipe_value_{i}"
        for i, a in enumerate(dict.fromkeys(c.argument for c in found.known.values() if c.argument != "*"))
    }
    asked = [f"{_joined(key)} AS {quoted(n)}" for n, key in by.items()] + [
        f"{a} AS {quoted(v)}" for a, v in values.items()
    ]
    rows = _selected(asked or ["*"], tables)
    figures = {
        n: Call(c.function, quoted(values[c.argument]) if c.argument in values else "*") for n, c in found.known.items()
    }
    where = ["WHERE", *conditions] if conditions else []
    return Steps(_joined([*ahead, rows]), tuple(by), figures, _selected(result, ["FROM", "self", *where]))


def _keys(words: Sequence[str], items: Sequence[tuple[list[str], str]]) -> Iterator[list[str]]:
    """Return the expressions by which a query groups, from what it says behind ``GROUP BY``: numbers and names of what it gives too."""
    plain = [item for item, _ in items if _Calls("").replaced(item) == item]
    if [w.lower() for w in words] == ["all"]:
        yield from plain
        return
    called = {alias: item for item, alias in items}
    for key in _parted(words):
        (word, *more) = key
        if more:
            yield key
        elif word.isdigit() and 0 < int(word) <= len(items):
            yield items[int(word) - 1][0]
        elif word in called and called[word] in plain:
            yield called[word]
        else:
            yield key


def _with_keys(words: Sequence[str], by: Mapping[str, Sequence[str]]) -> list[str]:
    """Return words with the columns of groups in the place of the expressions that make them."""
    made, at = list[str](), 0
    while at < len(words):
        for name, key in by.items():
            end = at + len(key)
            around = (*words[max(at - 1, 0) : at], *words[end : end + 1])
            if [*words[at:end]] == [*key] and "." not in around:
                made.append(quoted(name))
                at = end
                break
        else:
            made.append(words[at])
            at += 1
    return made


def _with_aliases(words: Sequence[str], aliases: Mapping[str, Sequence[str]]) -> list[str]:
    """Return words with what is given in the place of its names."""
    return [w for word in words for w in (["(", *aliases[word], ")"] if word in aliases else [word])]


def _named(item: list[str]) -> tuple[list[str], str]:
    """Return what is selected, and the word that it is called by."""
    if len(item) > 2 and item[-2].lower() == "as":
        return item[:-2], item[-1]
    return item, item[-1]


def _parted(words: Sequence[str]) -> Iterator[list[str]]:
    """Return the parts between commas that stand in no bracket."""
    part, depth = list[str](), 0
    for word in words:
        depth += {"(": 1, ")": -1}.get(word, 0)
        if word == "," and depth == 0:
            yield part
            part = []
        else:
            part.append(word)
    if not part:
        raise _AnotherKind
    yield part


def _places(words: Sequence[str], wanted: Sequence[str] | frozenset[str]) -> Iterator[int]:
    """Return where some words stand in no bracket."""
    depth = 0
    for at, word in enumerate(words):
        depth += {"(": 1, ")": -1}.get(word, 0)
        if depth == 0 and word.lower() in wanted:
            yield at


def _closing(words: Sequence[str], start: int) -> int:
    depth = 0
    for at in range(start, len(words)):
        depth += {"(": 1, ")": -1}.get(words[at], 0)
        if depth == 0:
            return at
    raise _AnotherKind


def _selected(columns: Sequence[str], rest: Sequence[str]) -> str:
    return _joined(["SELECT", ", ".join(columns), *rest])


def _joined(words: Sequence[str]) -> str:
    return " ".join(words)
