"""Rewrites SQL that Polars would silently take to mean something other than standard SQL.

* ``x IS TRUE`` of null is null to Polars, and neither ``IS UNKNOWN`` nor its opposite is known.
* ``a IS DISTINCT FROM b AND c`` compares ``a`` with ``b AND c``.
* ``x ISNULL`` names ``x``.
* ``extract(hour FROM t) * 60`` is counted in eight bits, and ``length(s) - 5`` without a sign: both wrap around.
* ``pow(10, 20)`` is counted in the bits of 10, and wraps around too.
* ``strpos(s, x)`` counts bytes, finds at 0 what is null, and takes a column ``x`` for patterns.
* ``right(s, 4)`` of three letters is the last of them; ``left(s, n)`` of a null ``n`` is all of them, and ``left(NULL, 0)`` is empty.
* ``split_part(s, x, n)`` is empty where ``x`` or ``n`` is null.
* ``sqrt(s)`` of a text that is no number is null, and that of a date is one of its days.
* ``1.0 * n / 7`` is a decimal, of seven digits behind the point, and ``n / 49`` of 49 is less than one.

``RIGHT JOIN … USING`` has no other words: of rows without a partner its key would be null. Nor has ``log(b, x)``, whose base stands
behind elsewhere. ``ORDER BY t.a``, and ``ORDER BY abs(a)``, go by what the query calls ``a``, where databases mean the column.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from lazypipe.sql.text import Token, arguments_of

__all__ = ["other_orders", "outer_using", "understood"]

_COUNTS = {
    "array_length", "bit_count", "bit_length", "bitcount", "char_length", "character_length", "date_part", "day", "dayofweek",
    "extract", "hour", "length", "minute", "month", "octet_length", "quarter", "second", "week", "year",
}  # fmt: skip
"""Functions whose whole numbers have as few bits as they need themselves."""
_FRACTIONS = ("epoch", "micro", "milli", "ms", "nano", "ns", "time", "us")
"""How parts of moments begin that are no whole numbers."""
_OF_NUMBERS = (
    "as",
    "bigint",
    "cast",
    "coalesce",
    "double",
    "float",
    "hugeint",
    "int",
    "integer",
    "nullif",
    "precision",
    "real",
    "smallint",
)
"""Words that may stand in a number that reads nothing, such as that of a parameter."""
_OTHERWISE = ("atan2", "cbrt", "left", "position", "pow", "power", "replace", "right", "split_part", "sqrt", "strpos")
"""Functions that are written in other words."""
_TESTS = {
    # Polars knows them, and leaves null as it is
    ("is", "true"): "IS TRUE <=> TRUE",
    ("is", "false"): "IS FALSE <=> TRUE",
    ("is", "not", "true"): "IS TRUE <=> TRUE IS FALSE",
    ("is", "not", "false"): "IS FALSE <=> TRUE IS FALSE",
    # and these it does not
    ("is", "unknown"): "IS NULL",
    ("is", "not", "unknown"): "IS NOT NULL",
    ("isnull",): "IS NULL",
    ("notnull",): "IS NOT NULL",
}
_DISTINCT = {("is", "distinct", "from"): " IS FALSE", ("is", "not", "distinct", "from"): ""}
"""What stands behind the comparison ``<=>`` that takes its place."""
_CLAUSES = {
    "anti", "as", "asc", "cross", "desc", "else", "except", "fetch", "from", "full", "group", "having", "inner",
    "intersect", "join", "left", "limit", "natural", "nulls", "offset", "on", "order", "qualify", "right", "semi",
    "then", "union", "using", "when", "where", "window",
}  # fmt: skip
"""Words that end an expression, unless they call a function or begin it."""
_BEFORE = _CLAUSES | {"and", "between", "by", "case", "distinct", "ilike", "in", "is", "like", "not", "or", "select"}
"""Words behind which something begins."""
_BEHIND = _BEFORE - {"case"}
_ENDS = {
    "except", "fetch", "from", "group", "having", "intersect", "limit", "offset", "order", "qualify", "union", "where", "window",
}  # fmt: skip
"""Words that end what a query selects, or is ordered by."""
_FIGURES = (
    "array_agg", "avg", "corr", "count", "covar", "covar_pop", "covar_samp", "first", "last", "max", "median", "min", "quantile_cont",
    "quantile_disc", "stddev", "stddev_samp", "stdev", "string_agg", "sum", "var", "var_samp", "variance",
)  # fmt: skip
"""Functions of groups, in which names are those of columns."""
_DEPTH = {"(": 1, "[": 1, "case": 1, ")": -1, "]": -1, "end": -1}


def understood(tokens: Sequence[Token]) -> str:
    """Return text that Polars takes as SQL has it.

    Examples
    --------
    >>> understood([("word", "p"), ("space", " "), ("word", "is"), ("space", " "), ("word", "TRUE")])
    'p IS TRUE <=> TRUE'
    """
    return "".join(_understood(_divided(tokens)))


def outer_using(tokens: Sequence[Token]) -> str | None:
    """Return the first kind of join that keeps all rows of its right side and goes by ``USING``, in small letters; None if there is none.

    Examples
    --------
    >>> outer_using([("word", w) for w in "SELECT a FROM t FULL OUTER JOIN r USING".split()])
    'full'
    """
    open_: list[str | None] = [None]
    before: list[str] = []
    for kind, text in tokens:
        word = text.lower() if kind == "word" else text
        if text == "(":
            open_.append(None)
        elif text == ")" and len(open_) > 1:
            open_.pop()
        elif word == "join":
            found = [w for w in before[-2:] if w != "outer"][-1:]
            open_[-1] = found[0] if found and found[0] in ("right", "full") else None
        elif word == "using" and open_[-1] is not None:
            return open_[-1]
        elif word == "on":
            open_[-1] = None
        if kind not in ("space", "comment"):
            before = [*before[-1:], word]
    return None


def other_orders(tokens: Sequence[Token]) -> Iterator[tuple[str, str]]:
    """Yield what queries are ordered by, and its name, where they call something else so; of a name without a table it is for the caller to say whether it is a column.

    Examples
    --------
    >>> from lazypipe.sql.text import tokenize
    >>> [*other_orders([*tokenize("SELECT -a AS a, b FROM t ORDER BY t.a, abs(a), b, a")])]
    [('t.a', 'a'), ('a', 'a')]
    """
    said = [t for t in tokens if t.kind not in ("space", "comment")]
    given: dict[str, _Given] = {}
    tables: list[str] = []
    groups: list[str] = []
    at = 0
    while at < len(said):
        if said[at].text == "(":
            end = at + len(_within(said[at:]))
            yield from other_orders(said[at + 1 : end])
            at = end
        elif _is_word(said[at], "except", "intersect", "union"):
            return  # ordered by what comes out of both
        elif _is_word(said[at], "select"):
            given = {g.name: g for g in map(_called_so, _items(said[at + 1 :]))}
        elif _is_word(said[at], "from"):
            tables = [t.text for t in said[at:]]
        elif _is_word(said[at], "group"):
            groups = [t.text for item in _items(said[at + 1 :]) for t in item]
        elif _is_word(said[at], "order"):
            for item in _items(said[at + 2 :]):
                yield from _others(item, given, tables, groups)
        at += 1


def _others(
    item: Sequence[Token], given: Mapping[str, _Given], tables: Sequence[str], groups: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Yield the names in something to order by that are given to something else; of groups only those that stand in no figure, and are of a table or of their keys."""
    by = [*itertools.takewhile(lambda t: not _is_word(t, "asc", "desc", "nulls"), item)]
    figure = 0
    for at, token in enumerate(by):
        if _is_word(token, *_FIGURES) and _calls(by, at):
            end = at + 1 + len(_within(by[at + 1 :]))
            figure = at if any(_is_word(t, "over") for t in by[end + 1 : end + 2]) else max(figure, end)
        name, following = _plain(token), "".join(t.text for t in by[at + 1 : at + 2])
        if not name or name not in given or following in ("(", "."):
            continue
        of_table = at > 1 and by[at - 1].text == "."
        said = [t.text for t in by[at - 2 * of_table : at + 1]]
        made = given[name].made
        if made in (said, [token.text]) or made[1:] == [".", *said]:
            continue
        # of two tables with such a column, that of the second has another name meanwhile
        others = {made[n - 2] for n in range(2, len(made)) if made[n - 1 : n + 1] == [".", token.text]}
        if of_table and others.intersection(tables[: tables.index(said[0])] if said[0] in tables else ()):
            continue
        meant = len(said) == len(by) and given[name].called  # by the name that it was given
        if at >= figure and (of_table or (not meant and (not groups or token.text in groups))):
            yield "".join(said), name


def _items(tokens: Sequence[Token]) -> list[list[Token]]:
    """Return what stands between commas, up to the next clause."""
    items, depth = [list[Token]()], 0
    for before, token in zip([Token("other", ""), *tokens], tokens, strict=False):
        depth = max(depth + _DEPTH.get(token.text.lower(), 0), 0)
        if depth == 0 and _is_word(token, *_ENDS) and not _is_word(before, "distinct"):
            break
        if depth == 0 and token.text == ",":
            items.append([])
        else:
            items[-1].append(token)
    return [item for item in items if item]


class _Given(NamedTuple):
    """What a query gives: its name, the words that it is made by, and whether the query calls it so."""

    name: str
    made: list[str]
    called: bool = True


def _called_so(item: Sequence[Token]) -> _Given:
    """Return what is selected there; what has no name gets that of the first column in it, or of the first value of a CASE."""
    if _is_word(item[0], "distinct") and len(item) > 1:
        item = item[2 + len(_within(item[2:])) + 1 :] if _is_word(item[1], "on") else item[1:]
    words = [t.text for t in item]
    front = [t for t in item[-2:-1] if t.kind != "cast" and (t.kind != "other" or t.text in ")]")]
    if front and not _is_word(front[0], *_BEHIND - {"as"}) and _plain(item[-1]).lower() not in ("", "end"):
        return _Given(_plain(item[-1]), words[: -2 if _is_word(front[0], "as") else -1])
    start = next((n for n, t in enumerate(item) if _is_word(t, "then")), 0)
    for at in range(start, len(item)):
        known = item[at].text not in "()." and not _is_word(item[at], *_BEFORE)
        if known and "".join(t.text for t in item[at + 1 : at + 2]) not in ("(", "."):
            return _Given(_plain(item[at]), words, called=False)
    return _Given("", words)


def _within(tokens: Sequence[Token]) -> list[Token]:
    """Return a bracket that is opened there, up to where it is closed."""
    depths = itertools.accumulate({"(": 1, ")": -1}.get(t.text, 0) for t in tokens)
    return [t for t, _ in itertools.takewhile(lambda both: both[1] > 0, zip(tokens, depths, strict=True))]


def _plain(token: Token) -> str:
    """Return a name as columns have it; of what is none one that no column has."""
    if token.kind == "quoted":
        return token.text[1:-1].replace('""', '"')
    return token.text if token.kind == "word" else ""


def _understood(tokens: Sequence[Token]) -> Iterator[str]:
    at = 0
    while at < len(tokens):
        if _is_word(tokens[at], *_COUNTS) and (end := _end_of_call(tokens, at)):
            yield f"CAST({tokens[at][1]}{''.join(_understood(tokens[at + 1 : end]))} AS BIGINT)"
            at = end
            continue
        if _is_word(tokens[at], *_OTHERWISE) and (written := _otherwise(tokens, at)):
            text, at = written
            yield text
            continue
        words, ends = _words(tokens, at) if _is_test(tokens, at) else ((), ())
        found = next((n for n in range(len(words), 0, -1) if words[:n] in _TESTS or words[:n] in _DISTINCT), 0)
        end = ends[found - 1] if found else at + 1
        other = _other_side(tokens, end) if words[:found] in _DISTINCT else None
        if words[:found] in _TESTS:
            yield _TESTS[words[:found]]
        elif other is None:
            yield from (text for _, text in tokens[at:end])
        else:
            yield "<=> ("
            yield from _understood(tokens[end:other])
            yield f"){_DISTINCT[words[:found]]} "
            end = other
        at = end


def _is_word(token: Token, *words: str) -> bool:
    return token[0] == "word" and token[1].lower() in words


def _is_test(tokens: Sequence[Token], at: int) -> bool:
    """Whether a test may begin there: with IS, or with a word that is one test, and no name, behind what is tested."""
    if not _is_word(tokens[at], "isnull", "notnull"):
        return _is_word(tokens[at], "is")
    return not _begins(tokens, at)


def _end_of_call(tokens: Sequence[Token], name: int) -> int | None:
    """Return where the call of a function ends that gives a whole number; None if it is none."""
    if (called := _called(tokens, name)) is None:
        return None
    arguments, end = called
    inner = next((text.strip("'").lower() for kind, text in arguments[0] if kind != "space"), "")
    of_time = _is_word(tokens[name], "date_part", "extract")
    return None if of_time and inner.startswith(_FRACTIONS) else end


def _called(tokens: Sequence[Token], name: int) -> tuple[list[list[Token]], int] | None:
    """Return the arguments of the call of a function, and where it ends; None if the name is that of a column."""
    if not _calls(tokens, name):
        return None
    return arguments_of(tokens, name)


def _otherwise(tokens: Sequence[Token], name: int) -> tuple[str, int] | None:
    """Return a call in other words, and where it ends; None if there is nothing to say otherwise."""
    if (called := _called(tokens, name)) is None:
        return None
    arguments, end = called
    if _is_word(tokens[name], "position") and len(arguments) == 1:
        (one,) = arguments
        within = next((n for n, token in enumerate(one) if _is_word(token, "in")), len(one))
        arguments = [one[within + 1 :], one[:within]]
    if _is_word(tokens[name], "replace"):
        return _replaced(arguments, end)
    if _is_word(tokens[name], "split_part"):
        return _split(arguments, end)
    if _is_word(tokens[name], "atan2", "cbrt", "sqrt"):
        numbers = (f"({''.join(_understood(a)).strip()}) * 1" for a in arguments)  # refused of what is none
        return f"{tokens[name].text}({', '.join(numbers)})", end
    if len(arguments) != 2:
        return None
    first, second = ("".join(_understood(a)).strip() for a in arguments)
    if _is_word(tokens[name], "pow", "power"):
        return f"pow(CAST({first} AS DOUBLE), {second})", end
    if _is_word(tokens[name], "left", "right"):
        call = f"{tokens[name].text}({first}, {second})"
        if _is_word(tokens[name], "left") and re.fullmatch(r"-?0*[1-9]\d*", second):
            return call, end
        longer = f"CAST(length({first}) AS BIGINT) > ({second})"
        return f"(CASE WHEN {longer} THEN {call} WHEN ({second}) IS NOT NULL THEN {first} END)", end
    # that of Polars would take a second argument that is no text as written for a pattern
    front = f"length(split_part({first}, {second}, 1))"
    null = f"({first}) IS NULL OR ({second}) IS NULL THEN NULL WHEN ({second}) = '' THEN 1"
    return f"(CASE WHEN {null} WHEN {front} = length({first}) THEN 0 ELSE CAST({front} AS BIGINT) + 1 END)", end


def _split(arguments: Sequence[Sequence[Token]], end: int) -> tuple[str, int] | None:
    """Return a part of a text that is split by, or counted by, what may be null; None if both are written."""
    if len(arguments) != 3 or all(
        t.kind in ("string", "number", "space") or t.text == "-" for a in arguments[1:] for t in a
    ):
        return None
    text, by, number = ("".join(_understood(a)).strip() for a in arguments)
    return f"(CASE WHEN ({by}) IS NOT NULL AND ({number}) IS NOT NULL THEN split_part({text}, {by}, {number}) END)", end


def _replaced(arguments: Sequence[Sequence[Token]], end: int) -> tuple[str, int] | None:
    """Return a replacement of, or by, what is another text in each row: Polars refuses the one, and passes over nulls in the other."""
    written = [[kind for kind, _ in argument if kind != "space"] == ["string"] for argument in arguments[1:]]
    if len(arguments) != 3 or all(written):
        return None
    text, old, new = ("".join(_understood(a)).strip() for a in arguments)
    # as long as the column of new texts: of a single one Polars would take the first of these for all rows
    text = f"CASE WHEN ({new}) IS NOT NULL THEN {text} END"
    return f"(CASE WHEN ({old}) = '' THEN {text} ELSE array_to_string(string_to_array({text}, {old}), {new}) END)", end


def _divided(tokens: Sequence[Token]) -> list[Token]:
    """Have divisions give what they give in databases: of what is written with a point no decimals, and the nearest float."""
    out = [*tokens]
    pointed = any(kind == "number" and "." in text for kind, text in tokens)
    more: dict[int, list[Token]] = {}
    for at, token in enumerate(tokens):
        if token != ("other", "/") or ("other", "/") in (*tokens[max(at - 1, 0) : at], *tokens[at + 1 : at + 2]):
            continue  # // leaves fractions out
        start, end = _term(tokens, at + 1)
        alone = _is_one_value(tokens[start:end])
        if not alone and not pointed:
            continue
        before = [*_factors(tokens, at, -1)]
        for n in (*before, *_factors(tokens, at, 1)) if pointed else ():
            kind, text = tokens[n]
            if kind == "number" and "." in text and "e" not in text.lower():
                out[n] = Token(kind, f"{text.rstrip('.')}e0")
        if before and alone:
            # Polars multiplies a column by 1 / c, which is not as near: so c is made a column too. Numbers that are computed take
            # the bits of what they meet
            bits = "TINYINT" if sum(t[0] == "number" for t in tokens[start:end]) == 1 else "BIGINT"
            more.setdefault(start, []).append(Token("other", "("))
            one = [Token("other", " + CAST(("), *tokens[before[-1] : at], Token("other", f") IS NULL AS {bits}) * 0)")]
            more.setdefault(end, []).extend(one)
    return [t for n in range(len(out) + 1) for t in (*more.get(n, ()), *out[n : n + 1])]


def _term(tokens: Sequence[Token], at: int) -> tuple[int, int]:
    """Return where what is divided by begins, and ends."""
    while at < len(tokens) and tokens[at][0] == "space":
        at += 1
    start = at
    while at < len(tokens) and (tokens[at][0] == "space" or tokens[at][1] in "+-"):
        at += 1
    depth, end = 0, at
    while at < len(tokens):
        kind, text = tokens[at]
        word = text.lower() if kind == "word" else ""
        depth += _DEPTH.get(text, 0) if kind == "other" else _DEPTH.get(word, 0)
        if depth < 0 or (depth == 0 and (word in _BEHIND or (kind == "other" and text not in ")]."))):
            break
        at += 1
        end = at if kind != "space" else end
    return start, end


def _is_one_value(tokens: Sequence[Token]) -> bool:
    """Whether it reads nothing, and so is one number for all rows."""
    names = [t for t in tokens if t[0] in ("quoted", "string") or (t[0] == "word" and not _is_word(t, *_OF_NUMBERS))]
    return bool(tokens) and not names


def _factors(tokens: Sequence[Token], at: int, step: int) -> Iterator[int]:
    """Yield the places of what is multiplied or divided there, in one direction, brackets and all."""
    depth = 0
    while 0 <= (at := at + step) < len(tokens):
        kind, text = tokens[at]
        word = text.lower() if kind == "word" else ""
        depth += step * (_DEPTH.get(text, 0) if kind == "other" else _DEPTH.get(word, 0))
        ends = word in _BEHIND or (kind == "other" and text in "+-,;<>=!|~")
        if depth < 0 or (depth == 0 and ends and not (text in "+-" and _begins(tokens, at))):
            return
        yield at


def _begins(tokens: Sequence[Token], at: int) -> bool:
    """Whether something begins there, for nothing stands before it that could go on: a sign is that of a number then."""
    while (at := at - 1) >= 0 and tokens[at][0] == "space":
        pass
    token = tokens[at] if at >= 0 else Token("other", "")
    return token[1] not in (")", "]") if token[0] == "other" else _is_word(token, *_BEFORE)


def _words(tokens: Sequence[Token], at: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return up to four words from there on, in small letters, and where each ends."""
    words, ends = list[str](), list[int]()
    while at < len(tokens) and len(words) < 4 and tokens[at][0] in ("word", "space"):
        if tokens[at][0] == "word":
            words.append(tokens[at][1].lower())
            ends.append(at + 1)
        at += 1
    return tuple(words), tuple(ends)


def _other_side(tokens: Sequence[Token], start: int) -> int | None:
    """Return where what begins at ``start`` ends, if by AND, OR or IS; None if by anything else."""
    depth = between = 0
    begun = False
    for at in range(start, len(tokens)):
        token, (kind, text) = tokens[at], tokens[at]
        first, begun = not begun, begun or kind != "space"
        if text in ("(", "[") or _is_word(token, "case"):
            depth += 1
        elif text in (")", "]") or _is_word(token, "end"):
            depth -= 1
        if depth < 0 or (depth == 0 and text in (",", ";")):
            return None
        if depth > 0 or kind != "word":
            continue
        word = text.lower()
        if word == "between":
            between += 1
        elif word == "and" and between:
            between -= 1
        elif word in ("and", "or", "is"):
            return at
        elif word in _CLAUSES and not first and not _calls(tokens, at):
            return None
    return None


def _calls(tokens: Sequence[Token], at: int) -> bool:
    """Whether the word there is the name of a function that is called."""
    return next((text == "(" for kind, text in tokens[at + 1 :] if kind != "space"), False)
