"""SQL as text: its tokens, and what they show without knowing any column.

Strings, quoted names and comments are told apart from code, so that nothing in them is ever taken for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "SqlError",
    "Token",
    "arguments_of",
    "call",
    "carrying",
    "parameters",
    "place_of",
    "plain_name",
    "quoted",
    "tokenize",
    "without_limit",
    "words",
]

_TOKEN = re.compile(
    r"""
      (?P<comment> --[^\n]* | /\* )
    | (?P<string>  '(?:[^']|'')*' )
    | (?P<quoted>  "(?:[^"]|"")*" )
    | (?P<foreign> [`$] | (?:[ebnqr]|br|rb|nq)(?=['"]) )
    | (?P<cast>    :: )
    | (?P<param>   :[A-Za-z_]\w* )
    | (?P<number>  \d+(?:\.\d*)?(?:[eE][+-]?\d+)? | \.\d+ )
    | (?P<word>    [^\W\d][\w$]* )
    | (?P<space>   \s+ )
    | (?P<other>   . )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


class SqlError(ValueError):
    """SQL that cannot be bound: what is wrong and what to write instead, and at which line and column of the text, where that is known."""

    def __init__(self, what: str, fix: str | None = None, place: tuple[int, int] | None = None) -> None:
        self.what = what
        self.fix = fix
        self.place = place
        super().__init__(what if fix is None else f"{what}; {fix}")


class Token(NamedTuple):
    """A piece of SQL text, and its kind, such as ``word``, ``space`` or ``string``."""

    kind: str
    text: str


def tokenize(sql: str) -> Iterator[Token]:
    """Yield the pieces of a text, which together are all of it."""
    position = 0
    while match := _TOKEN.match(sql, position):
        kind, text, position = match.lastgroup or "other", match.group(), match.end()
        if text == "/*":
            position = _comment_end(sql, position)
            text = sql[match.start() : position]
        elif kind == "other" and text in "'\"":
            raise SqlError(f"unclosed {text} in SQL", "close the quote")
        elif kind == "foreign":
            # quotes that end elsewhere than ours: text could be taken for code, or code for text
            fix = "write text as 'text' and names as \"name\""
            if text == "$":
                fix = "write a parameter as :name, text as 'text'"
            raise SqlError(f"{text} cannot be used here in SQL", fix)
        yield Token(kind, text)


def _comment_end(sql: str, position: int) -> int:
    """Return where the comment ends whose inside starts at ``position``; comments nest, as in Polars."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, position):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    raise SqlError("unclosed /* in SQL", "close the comment")


def place_of(sql: str, said: str, ran: str = "") -> tuple[int, int] | None:
    r"""Return the line and column of what a message is about: that which a parser names, or of the first name in quotes; None if it says neither.

    Parameters
    ----------
    ran
        The text that the parser saw, which has the lines of ``sql``, and perhaps other words in them.

    Examples
    --------
    >>> place_of("SELECT a,\n  b FROM t", "unknown column 'b'"), place_of("SELECT a", "odd")
    ((2, 3), None)
    """
    lines = sql.split("\n")
    if told := re.search(r"found: (.*) at Line: (\d+), Column: (\d+)", said):
        word, line, column = told[1], int(told[2]), int(told[3])
        if line > len(lines):
            return None
        if ran.split("\n")[line - 1 : line] != [lines[line - 1]]:
            column = max(lines[line - 1].find(word), 0) + 1
        return line, column
    if said.endswith("found: EOF"):
        rest = sql.rstrip().split("\n")
        return len(rest), len(rest[-1]) + 1
    names = [name.lower() for name in re.findall(r"""(?<=['"`])[^'"`]+(?=['"`])|:\w+""", said)]
    line, column, places = 1, 1, dict[str, tuple[int, int]]()
    with suppress(SqlError):
        for token in tokenize(sql):
            places.setdefault(token.text.strip('"').lower(), (line, column))
            line += token.text.count("\n")
            column = len(token.text) - token.text.rfind("\n") if "\n" in token.text else column + len(token.text)
        return next((places[name] for name in names if name in places), None)
    return line, column  # where the text is none


def parameters(sql: str) -> frozenset[str]:
    """Return the names of the parameters that a statement uses.

    Examples
    --------
    >>> sorted(parameters("a >= :since AND b <> ':not_this' AND c::int = :n"))
    ['n', 'since']
    """
    return frozenset(t.text[1:] for t in tokenize(sql) if t.kind == "param")


def words(sql: str) -> list[str]:
    r"""Return the words, numbers, quoted texts and signs of a statement, without what stands between them.

    Examples
    --------
    >>> words("sum(a.b) -- of all\n >= 'x y'")
    ['sum', '(', 'a', '.', 'b', ')', '>=', "'x y'"]
    """
    found, adjacent = list[str](), False
    for token in tokenize(sql):
        if adjacent and found[-1] + token.text in _SIGNS:
            found[-1] += token.text
        elif token.kind not in ("space", "comment"):
            found.append(token.text)
        adjacent = token.kind == "other"
    return found


_SIGNS = frozenset(
    {"||", ">=", "<=", "<>", "!=", "==", "//", "->", "->>", "~*", "!~", "!~*", "~~", "~~*", "!~~", "!~~*", "^@"}
)
"""Signs of several characters."""


def call(sql: str) -> tuple[str, str] | None:
    """Return the function and the argument of text that is one call and nothing else; None for any other text.

    Examples
    --------
    >>> call("SUM(a * (b + 1))"), call("sum(a) / count(*)"), call("count(DISTINCT a)")
    (('sum', 'a * ( b + 1 )'), None, None)
    """
    tokens = [t for t in tokenize(sql) if t.kind not in ("space", "comment")]
    if len(tokens) < 4 or tokens[0].kind != "word" or tokens[1].text != "(" or tokens[-1].text != ")":
        return None
    depth = 0
    for token in tokens[1:-1]:
        depth += {"(": 1, ")": -1}.get(token.text, 0) if token.kind == "other" else 0
        if depth == 0 or (depth == 1 and token.text == ","):
            return None
    if any(t.text.lower() in ("distinct", "all") and t.kind == "word" for t in tokens[2:3]):
        return None
    return tokens[0].text.lower(), " ".join(t.text for t in tokens[2:-1])


def arguments_of(tokens: Sequence[Token], start: int) -> tuple[list[list[Token]], int] | None:
    """Return the arguments of the call whose name stands at ``start``, and where it ends; None if no bracket follows.

    Examples
    --------
    >>> found, end = arguments_of([*tokenize("f(a, g(b))")], 0)
    >>> ["".join(t.text for t in a) for a in found], end
    (['a', ' g(b)'], 10)
    """
    index = start + 1
    while index < len(tokens) and tokens[index].kind == "space":
        index += 1
    if index == len(tokens) or tokens[index].text != "(":
        return None
    depth, arguments = 1, [list[Token]()]
    for end in range(index + 1, len(tokens)):
        text = tokens[end].text if tokens[end].kind == "other" else ""
        depth += {"(": 1, ")": -1}.get(text, 0)
        if depth == 0:
            return arguments, end + 1
        if text == "," and depth == 1:
            arguments.append([])
        else:
            arguments[-1].append(tokens[end])
    raise SqlError(f"bad SQL: unclosed ( after {tokens[start].text}", "close the bracket")


@dataclass
class _Level:
    """What is known of the query within a bracket."""

    gives: bool
    selects: bool = False
    star: bool = False


def quoted(name: str) -> str:
    """Return a name as SQL writes it, whatever is in it.

    Examples
    --------
    >>> print(quoted("order id"), quoted('say "x" twice'))
    "order id" "say ""x"" twice"
    """
    return '"' + name.replace('"', '""') + '"'


def plain_name(token: Token) -> str:
    """Return what a token names: a name in double quotes without them, and any other text as it is.

    Examples
    --------
    >>> [plain_name(t) for t in tokenize('a."b c"')]
    ['a', '.', 'b c']
    """
    return token.text[1:-1].replace('""', '"') if token.kind == "quoted" else token.text


def carrying(sql: str, columns: Sequence[str], *, deep: bool = True) -> str:
    """Return a query that selects some columns besides, wherever it selects columns one by one: a guess, for the plan to judge.

    Parameters
    ----------
    deep
        Whether queries in brackets, which others read, are to select them too.

    Examples
    --------
    >>> carrying("SELECT a FROM t WHERE b IN (SELECT b FROM d)", ["u"])
    'SELECT a, "u" FROM t WHERE b IN (SELECT b FROM d)'
    >>> carrying("WITH t AS (SELECT * FROM s) SELECT extract(year FROM d) AS y FROM t UNION ALL SELECT a FROM s", ["u"])
    'WITH t AS (SELECT * FROM s) SELECT extract(year FROM d) AS y, "u" FROM t UNION ALL SELECT a, "u" FROM s'
    """
    more = "".join(f", {quoted(c)}" for c in columns)
    out: list[str] = []
    # per bracket: whether columns are being selected in it, and whether its query is one that gives rows
    levels = [_Level(gives=True)]
    before = ""
    for token in tokenize(sql):
        word = token.text.lower()
        if token.kind in ("space", "comment"):
            out.append(token.text)
            continue
        here = levels[-1]
        if word == "(":
            # of a table, or of a query by a name; not of a value
            levels.append(_Level(gives=deep and here.gives and before in ("from", "join", "as", "all", "(", "")))
        elif word == ")" and len(levels) > 1:
            levels.pop()
        elif word == "select":
            here.selects, here.star = True, False
        elif word == "*" and before in ("select", "distinct", "all", ",", "."):
            here.star = here.star or here.selects
        elif word == "from" and here.selects:
            if here.gives and not here.star:
                while out and out[-1].isspace():
                    out.pop()
                out.append(more + " ")
            here.selects = False
        out.append(token.text)
        before = word
    return "".join(out)


def without_limit(sql: str) -> tuple[str, str] | None:
    """Return a query without its ``LIMIT``, and without its ``ORDER BY`` too, if it ends in both: a guess, for the plan to judge.

    Examples
    --------
    >>> without_limit("SELECT a FROM (SELECT a FROM t LIMIT 9) AS s ORDER BY a LIMIT 3 OFFSET 1")
    ('SELECT a FROM (SELECT a FROM t LIMIT 9) AS s ORDER BY a', 'SELECT a FROM (SELECT a FROM t LIMIT 9) AS s')
    >>> without_limit("SELECT a FROM t LIMIT 3") is None
    True
    """
    texts: list[str] = []
    order = limit = None
    depth = 0
    for token in tokenize(sql):
        word = token.text.lower()
        if token.kind == "other":
            depth += {"(": 1, ")": -1}.get(word, 0)
        elif token.kind == "word" and depth == 0:
            if word == "order":
                order, limit = len(texts), None
            elif word in ("limit", "offset") and limit is None:
                limit = len(texts)
        texts.append(" " if token.kind == "comment" else token.text)
    if order is None or limit is None:
        return None
    return "".join(texts[:limit]).rstrip(), "".join(texts[:order]).rstrip()
