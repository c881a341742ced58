"""The tokens of a SQL text, prepared: parameters become literals, and nothing reads a clock or a file."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lazypipe.errors import closest, nearest
from lazypipe.sql import dialect
from lazypipe.sql.literal import literal
from lazypipe.sql.text import SqlError, Token, arguments_of, tokenize

__all__ = ["prepared", "refuse_equal_to_null", "understood", "written"]

_CLOCKS = {
    "now",
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "today",
}
_READERS = re.compile(r"(read|scan)_\w+", re.IGNORECASE)


def prepared(sql: str, params: Mapping[str, object]) -> list[Token]:
    """Return tokens without comments, with parameters as literals; raises SqlError for clocks and readers."""
    # a comment parts words, as a space does
    found = [Token("space", " " + "\n" * t.text.count("\n")) if t.kind == "comment" else t for t in tokenize(sql)]
    following: str | None = None
    out: list[Token] = []
    for token in reversed(found):
        called = following == "("
        if token.kind != "space":
            following = token.text
        if token.kind == "param":
            name = token.text[1:]
            if name not in params:
                hint = nearest(name, params, "parameters")
                declare = "" if closest(name, params) else f"; or declare it: params: {{{name}: …}}"
                raise SqlError(f"unknown parameter :{name}", f"{hint}{declare}")
            # spaces, so that it does not grow together with its neighbours: x:p, :p:q
            out += [Token("space", " "), Token("literal", literal(params[name])), Token("space", " ")]
            continue
        if token.kind in ("word", "quoted"):
            _refuse(token, called=called)
        out.append(token)
    ready = out[::-1]
    for index in [n for n, t in enumerate(ready) if t.text.lower() == "log"] if "log" in sql.lower() else ():
        if ready[index].kind == "word" and len((arguments_of(ready, index) or [()])[0]) == 2:
            raise SqlError(
                "databases differ on which argument of log() is the base", "write ln(x) / ln(base), log2(x) or log10(x)"
            )
    return ready


def written(sql: str, params: Mapping[str, object]) -> str:
    """Return the text that ``prepared`` tokens are."""
    return "".join(t.text for t in prepared(sql, params))


def refuse_equal_to_null(sql: str) -> None:
    """Refuse ``x = NULL``, which no row is; a parameter may be null all the same."""
    if "null" not in sql.lower():
        return
    said = [t for t in tokenize(sql) if t.kind not in ("space", "comment")]
    for before, operator, token in zip(["", *(t.text for t in said)], said, said[1:], strict=False):
        if token.kind == "word" and token.text.lower() == "null" and operator.kind == "other":
            if operator.text == "=" and before not in ("<", ">", "!"):
                raise SqlError("nothing is = NULL, not even NULL", "write IS NULL")
            if (before, operator.text) in (("<", ">"), ("!", "=")):
                raise SqlError(f"nothing is {before}{operator.text} NULL, whatever it is", "write IS NOT NULL")


def understood(text: str) -> str:
    """Write text without parameters so that Polars takes it as SQL has it."""
    return dialect.understood([*tokenize(text)])


def _refuse(token: Token, *, called: bool) -> None:
    word = token.text.strip('"').lower()
    keyword = token.kind == "word" and word.startswith(("current_", "local"))  # a clock without brackets too
    if word in _CLOCKS and (called or keyword):
        raise SqlError(
            f"{word} would read the machine's clock",
            "write :now, the time of the run, which the caller can set",
        )
    if called and _READERS.fullmatch(word):
        raise SqlError(f"{word}() would read a file unseen by the plan", "declare it as a source")
