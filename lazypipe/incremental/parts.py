"""Files that were read in parts: a text file that grows has one unit for each time it was read.

A large Parquet file that is written anew has one for each time that its row groups were found to be others from somewhere on.
A commit names the units of a source in the order of its files. A file that was read at once has one number there; one that was read in
parts a list of pairs, of the byte at which each part begins and its unit. A part ends where the next one begins, the last with the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise

from lazypipe.storage.files import is_part, part_key, read_key

__all__ = ["Listed", "cut_up", "of_file", "to_list", "units_in", "within"]

Listed = int | Sequence[Sequence[int]]
"""The unit of a file, or those of its parts."""


def to_list(units: Mapping[str, int]) -> list[int | list[list[int]]]:
    """Return units by the keys of files and parts as a commit names them.

    Examples
    --------
    >>> to_list({"a": 7, part_key("b", 0, 4): 8, part_key("b", 4, 9): 9})
    [7, [[0, 8], [4, 9]]]
    """
    if not any(map(is_part, units)):
        return [*units.values()]
    found: list[int | list[list[int]]] = []
    for _, of in groupby(((read_key(key), unit) for key, unit in units.items()), key=lambda pair: pair[0][0]):
        parts = [([start, unit], end) for (_, start, end), unit in of]
        found += [pair[1] for pair, end in parts if end is None] or [[pair for pair, _ in parts]]
    return found


def of_file(uri: str, size: int | None, listed: Listed) -> dict[str, int]:
    """Return the units of a file, or of its parts, by their keys; ``size`` is the file's when it was read.

    Examples
    --------
    >>> of_file("a", 9, 7), [*of_file("b", 9, [[0, 8], [4, 9]]).values()]
    ({'a': 7}, [8, 9])
    """
    if isinstance(listed, int):
        return {uri: listed}
    ends = [*(start for start, _ in listed[1:]), *([size] if listed else [])]
    return {part_key(uri, start, end): unit for (start, unit), end in zip(listed, ends, strict=True)}


def cut_up(keys: Iterable[str], sizes: Mapping[str, int | None]) -> dict[str, list[str]]:
    """Return, by file, parts of which all that is asked for can be put together: files and parts of them, which may overlap.

    ``sizes`` are those of the files now: one that is asked for as a whole ends there, whatever parts of it are asked for besides.

    Examples
    --------
    >>> found = cut_up(["a", "b", part_key("c", 4, 9), part_key("c", 6, 9), part_key("b", 0, 4)], {"a": 5, "b": 9, "c": 9})
    >>> {uri: [read_key(k)[1:] for k in parts] for uri, parts in found.items()}
    {'a': [(0, None)], 'b': [(0, 4), (4, 9)], 'c': [(4, 6), (6, 9)]}
    """
    asked: dict[str, list[tuple[int, int | None]]] = {}
    for key in keys:
        uri, start, end = read_key(key)
        asked.setdefault(uri, []).append((start, end))
    found = {}
    for uri, ranges in asked.items():
        if all(end is None for _, end in ranges):
            found[uri] = [uri]
            continue
        size = sizes.get(uri) or 0
        whole = [(start, size if end is None else end) for start, end in ranges]
        ends = sorted({place for of in whole for place in of})
        pairs = [p for p in pairwise(ends) if any(start <= p[0] and p[1] <= end for start, end in whole)]
        found[uri] = [part_key(uri, *p) for p in pairs]
    return found


def within(key: str, there: Iterable[str]) -> list[str]:
    """Return the keys of a file's parts that lie within a given one.

    Examples
    --------
    >>> parts = [part_key("c", 0, 4), part_key("c", 4, 6), part_key("c", 6, 9)]
    >>> within("c", parts) == parts, within(part_key("c", 4, 9), parts) == parts[1:]
    (True, True)
    """
    _, start, end = read_key(key)
    if end is None:
        return [*there]
    ranges = {k: read_key(k)[1:] for k in there}
    return [k for k, (first, last) in ranges.items() if start <= first and last is not None and last <= end]


def units_in(listed: Iterable[Listed]) -> Iterator[int]:
    """Yield all units that a commit names of a source.

    Examples
    --------
    >>> [*units_in([7, [[0, 8], [4, 9]]])]
    [7, 8, 9]
    """
    for of in listed:
        if isinstance(of, int):
            yield of
        else:
            yield from (unit for _, unit in of)
