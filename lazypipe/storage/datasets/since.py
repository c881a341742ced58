"""Long lists stored as differences from lists beside the log, which are written once for many commits.

What an output has consumed is a list with an entry for each file, and mostly the list of the commit before with a few more. A commit
names the lists that it rests upon, and says of each of its own how it comes of one of these (docs/decisions/0049-commits-rest-upon-lists.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

from blake3 import blake3

from lazypipe.storage.datasets.packed import is_range, pack, unpack

__all__ = ["Lists", "Rest", "Splice", "lists_of", "read_lists", "spliced", "splices", "told", "untold", "uses_lists"]

_MANY = 32
"""Entries from which on a list is a long one."""

_SINCE, _TEXTS = "\0since", "\0since_json"
"""Keys that nothing a user can name is called: of lists of names and numbers, and of lists of anything else, which are kept as JSON."""

_PLAIN = {str, int, type(None)}
"""Types whose equal values are identical: elsewhere, true equals 1, and 1 equals 1.0."""


class Splice(NamedTuple):
    """From ``at`` on in a list of before, ``gone`` values are left out and ``came`` put in their place."""

    at: int
    gone: int
    came: list[Any]


Lists: TypeAlias = Mapping[str, list[Any]]
"""Lists by where they stand in a commit."""


@dataclass(frozen=True)
class Rest:
    """What a commit rests upon: the file with the lists, the hash and length of it, and what was ``spent`` on commits that do.

    Without a ``name`` the commit is long and rests upon nothing: the next one may.
    """

    name: str = ""
    hashed: str = ""
    length: int = 0
    spent: int = 0
    lists: Lists = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, name: str, body: Mapping[str, Any]) -> tuple[Rest, bytes]:
        """Return the long lists of a commit as something to rest upon, and the content of the file with them."""
        lists = lists_of(body)
        data = json.dumps(pack(lists), separators=(",", ":")).encode()
        return cls(name, blake3(data).hexdigest(), len(data), 0, lists), data

    def fits(self, written: int) -> bool:
        """Whether it pays to let one more commit, of so many bytes, rest upon it: differences grow with each."""
        return self.spent + written <= self.length


_LARGE = 2 << 20
"""A file with more bytes is parsed each time, rather than kept in memory."""


def read_lists(data: bytes, hashed: str) -> Lists | None:
    """Return the lists of a file, None if it is not the one that was written."""
    if blake3(data).hexdigest() != hashed:
        return None
    return _parse(data) if len(data) > _LARGE else _parsed(data)


@lru_cache(maxsize=2)
def _parsed(data: bytes) -> Lists:
    """Successive commits mostly refer to the same lists; these are never changed in place."""
    return _parse(data)


def _parse(data: bytes) -> Lists:
    lists: Lists = unpack(json.loads(data))
    return lists


def lists_of(plain: Any) -> dict[str, list[Any]]:
    """Return the long lists of plain data, by where they stand.

    Examples
    --------
    >>> {at: len(of) for at, of in lists_of({"a": [{"path": "x", "b": ["c"] * 300}], "few": [1]}).items()}
    {'/a/x/b': 300}
    """
    return dict(_long(plain, ""))


def _long(plain: Any, at: str) -> Iterator[tuple[str, list[Any]]]:
    if isinstance(plain, Mapping):
        for key, value in plain.items():
            yield from _long(value, f"{at}/{key}")
    elif isinstance(plain, list | tuple):
        if len(plain) < _MANY:
            for index, value in enumerate(plain):
                yield from _long(value, _within(at, index, value))
        elif not is_range(plain):
            yield at, _comparable(plain)[0]


def _within(at: str, index: int, value: Any) -> str:
    """Return where an entry of a list stands: files are known by their paths, whatever comes before them."""
    return f"{at}/{value['path'] if isinstance(value, Mapping) and 'path' in value else index}"


def _comparable(plain: Sequence[Any]) -> tuple[list[Any], bool]:
    """Return values that are equal only where their types are too, and whether they are JSON texts that stand for those given."""
    if set(map(type, plain)) <= _PLAIN:
        return [*plain], False
    return [json.dumps(pack(value), separators=(",", ":")) for value in plain], True


def told(plain: Any, lists: Lists) -> Any:
    r"""Return plain data with each long list as what has changed in it since that of the same place, where that is shorter.

    Examples
    --------
    >>> before, now = {"a": ["x"] * 300}, {"a": ["x"] * 300 + ["y"]}
    >>> said = told(now, lists_of(before))
    >>> said, untold(said, lists_of(before)) == now
    ({'a': {'\x00since': ['/a', [[300, 0, ['y']]]]}}, True)
    """
    return _Telling(lists).told(plain, "")


class _Telling:
    def __init__(self, lists: Lists) -> None:
        self.lists = lists
        self.known: dict[tuple[int, int], list[Splice]] = {}

    def told(self, plain: Any, at: str) -> Any:
        if isinstance(plain, Mapping):
            return {key: self.told(value, f"{at}/{key}") for key, value in plain.items()}
        if not isinstance(plain, list | tuple):
            return plain
        if len(plain) < _MANY:
            return [self.told(value, _within(at, index, value)) for index, value in enumerate(plain)]
        if at not in self.lists or is_range(plain):
            return plain
        old, (new, as_text) = self.lists[at], _comparable(plain)
        said = self._since(old, new)
        if 2 * sum(len(s.came) for s in said) > len(new):
            return plain
        return {_TEXTS if as_text else _SINCE: [at, [[s.at, s.gone, s.came] for s in said]]}

    def _since(self, old: list[Any], new: list[Any]) -> list[Splice]:
        # columns of one table: what came and went stands at the same places in each
        sizes = (len(old), len(new))
        if sizes in self.known and spliced(old, tried := _filled(self.known[sizes], new)) == new:
            return tried
        found = splices(old, new)
        if found:
            self.known.setdefault(sizes, found)
        return found


def _filled(places: Sequence[Splice], new: list[Any]) -> list[Splice]:
    """Return splices at the same places as those of another list, with what ``new`` holds there."""
    made, shift = [], 0
    for at, gone, came in places:
        start = at + shift
        made.append(Splice(at, gone, new[start : start + len(came)]))
        shift += len(came) - gone
    return made


def uses_lists(written: bytes) -> bool:
    r"""Whether any list was told by what has changed in it, in plain data that was written as JSON.

    Examples
    --------
    >>> before = lists_of({"a": ["x"] * 300})
    >>> [uses_lists(json.dumps(told({"a": ["x"] * n}, before)).encode()) for n in (299, 1)]
    [True, False]
    """
    return any(json.dumps(key).encode() in written for key in (_SINCE, _TEXTS))


def untold(plain: Any, lists: Lists) -> Any:
    """Restore lists from their differences; raises KeyError, TypeError, ValueError or IndexError for other data."""
    if isinstance(plain, dict):
        if _SINCE in plain:
            return _untold(plain[_SINCE], lists)
        if _TEXTS in plain:
            return unpack(json.loads(f"[{','.join(_untold(plain[_TEXTS], lists))}]"))
        return {key: untold(value, lists) for key, value in plain.items()}
    if isinstance(plain, list) and len(plain) < _MANY:
        return [untold(value, lists) for value in plain]
    return plain


def _untold(said: Sequence[Any], lists: Lists) -> list[Any]:
    at, changed = said
    return spliced(lists[at], [Splice(*s) for s in changed])


def spliced(old: list[Any], changed: Sequence[Splice]) -> list[Any]:
    """Return a list with what has changed in it.

    Examples
    --------
    >>> spliced(["a", "b", "c"], [Splice(0, 1, []), Splice(2, 0, ["x", "y"])])
    ['b', 'x', 'y', 'c']
    """
    if not changed:
        return old
    made, end = [], 0
    for at, gone, came in changed:
        made += old[end:at]
        made += came
        end = at + gone
    return made + old[end:]


def splices(old: list[Any], new: list[Any]) -> list[Splice]:
    """Return what makes one list of another: few splices where entries came, went or are others, in the same order.

    Examples
    --------
    >>> splices(["a", "b", "c", "d"], ["a", "x", "c", "d", "e"])
    [Splice(at=1, gone=1, came=['x']), Splice(at=4, gone=0, came=['e'])]
    """
    if old == new:
        return []
    start = _alike(old, new)
    end = _alike(old[start:][::-1], new[start:][::-1])
    was, now = old[start : len(old) - end], new[start : len(new) - end]
    if len(was) == len(now):
        found = _replaced(was, now)
    elif not was or not now or len({*was}) < len(was):
        found = [Splice(0, len(was), now)]
    else:
        found = _in_order(was, now)
    return [Splice(s.at + start, s.gone, s.came) for s in found]


def _alike(old: list[Any], new: list[Any]) -> int:
    """Return how many values two lists begin with that are the same."""
    low, high = 0, min(len(old), len(new))
    while low < high:  # by halves, as lists are compared faster than values
        middle = (low + high + 1) // 2
        if old[low:middle] == new[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _replaced(was: list[Any], now: list[Any]) -> list[Splice]:
    found = []
    for same, of in groupby(range(len(was)), key=lambda i: was[i] == now[i]):
        places = [*of]
        if not same:
            found.append(Splice(places[0], len(places), now[places[0] : places[-1] + 1]))
    return found


def _in_order(was: list[Any], now: list[Any]) -> list[Splice]:
    """Return the splices between lists that end differently, of which the values of the first are all different."""
    where = {value: place for place, value in enumerate(was)}
    found, at, start = [], 0, 0
    for place, value in enumerate(now):
        there = where.get(value, -1)
        if there < at:
            continue
        if there > at or place > start:
            found.append(Splice(at, there - at, now[start:place]))
        at, start = there + 1, place + 1
    return [*found, Splice(at, len(was) - at, now[start:])]
