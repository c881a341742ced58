"""The common template of a column's texts, found from some of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from lazypipe.storage.optimizer.form_texts import Hexed, Template

__all__ = ["common_prefix", "find_make"]

_DIGITS = re.compile("([0-9]+)")
_HEX = re.compile("[0-9a-f]+(-[0-9a-f]+)*")
_SEPARATORS = ("@", "://", "/", "|", ";", "\t", "_", ":", "-", ", ", " ")
_ENOUGH = 0.98
"""Which part of the texts must be of one make."""
_RECURS = 0.8
"""Which part of different texts different words may take, where a blank is all that texts have in common."""
_LONG = 18
"""Digits that a signed number of 64 bits holds, whatever they are."""
_BYTES = 8
"""Bytes of hexadecimal digits at least: shorter ones are more likely numbers, or words."""


def common_prefix(texts: Sequence[str]) -> str:
    """Return what all texts begin with.

    Examples
    --------
    >>> common_prefix(["user1", "user22"]), common_prefix([])
    ('user', '')
    """
    if not texts:
        return ""
    least, greatest = min(texts), max(texts)
    return least[: next((i for i, c in enumerate(least) if greatest[i : i + 1] != c), len(least))]


def find_make(texts: Sequence[str]) -> Template | Hexed | None:
    """Return the form that nearly all of some texts fit, None if they have nothing in common.

    Examples
    --------
    >>> find_make(["user12@a.org", "user9@a.org", "user805@a.org"])
    Template(pieces=('user', '@a.org'), varying=('number',))
    >>> find_make(["ann@a.org", "bob@b.com"])
    Template(pieces=('', '@', ''), varying=('text', 'text'))
    >>> find_make(["0f8e6c1d2b3a4958", "ffeeddccbbaa0099"])
    Hexed(groups=(16,))
    >>> find_make(["some", "words"]) is None
    True
    """
    if not texts:
        return None
    if hexed := _hexed(texts):
        return hexed
    found = _numbered(texts) or _parted(texts)
    return found if found is not None and found.varying else None


def _hexed(texts: Sequence[str]) -> Hexed | None:
    shapes = Counter(tuple(map(len, t.split("-"))) for t in texts if _HEX.fullmatch(t))
    ((groups, count),) = shapes.most_common(1) or [((), 0)]
    if count < _ENOUGH * len(texts) or sum(groups) % 2 or sum(groups) < 2 * _BYTES:
        return None
    # digits alone are numbers, for which there are better forms, unless they are too long
    return None if sum(groups) <= 18 and all(t.isdigit() for t in texts) else Hexed(groups)


def _numbered(texts: Sequence[str]) -> Template | None:
    """Return the form of texts that differ in numbers alone."""
    split = [_DIGITS.split(t) for t in texts]
    ((between, count),) = Counter(tuple(s[::2]) for s in split).most_common(1)
    if count < _ENOUGH * len(texts):
        return None
    pieces, varying = [between[0]], list[str | int]()
    alike = [s for s in split if tuple(s[::2]) == between]
    for digits, piece in zip(zip(*(s[1::2] for s in alike), strict=True), between[1:], strict=True):
        kind = _kind(digits)
        if kind is None:
            pieces[-1] += digits[0] + piece
        elif kind == "text":
            return None
        else:
            varying.append(kind)
            pieces.append(piece)
    return Template(tuple(pieces), tuple(varying))


def _kind(digits: Sequence[str]) -> str | int | None:
    """Return how numbers vary, None if they do not."""
    lengths = {len(d) for d in digits}
    if len(set(digits)) == 1 and len(digits) > 1:
        return None
    if any(d[0] == "0" and len(d) > 1 for d in digits):
        return lengths.pop() if len(lengths) == 1 and max(lengths) <= _LONG else "text"
    if max(lengths) > _LONG:
        return "long" if max(map(int, digits)) < 2**64 else "text"
    return "number"


def _parted(texts: Sequence[str]) -> Template | None:
    """Return the form of texts with the same separator in them, of which each half may be of one make too."""
    for separator in _SEPARATORS:
        halves = [t.split(separator, 1) for t in texts if separator in t]
        if len(halves) >= _ENOUGH * len(texts):
            left, right = (_half([h[i] for h in halves]) for i in (0, 1))
            pieces = (*left.pieces[:-1], left.pieces[-1] + separator + right.pieces[0], *right.pieces[1:])
            found = Template(pieces, (*left.varying, *right.varying))
            return None if separator == _SEPARATORS[-1] and _is_prose(found, texts, halves) else found
    return None


def _is_prose(found: Template, texts: Sequence[str], halves: Sequence[Sequence[str]]) -> bool:
    """Whether texts are words in a row, of which hardly any come again: apart they take as much as together."""
    apart = sum(len(half) for side in zip(*halves, strict=True) for half in set(side))
    return set(found.varying) == {"text"} and apart > _RECURS * sum(map(len, set(texts)))


def _half(texts: Sequence[str]) -> Template:
    if len(texts) > 1 and len(set(texts)) == 1:
        return Template((texts[0],), ())
    return _numbered(texts) or Template(("", ""), ("text",))
