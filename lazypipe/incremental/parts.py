"""The units of files that were read in parts: a text file that grows has one for each time that it was read.

A commit names the units of a source in the order of its files. A file that was read at once has one number there; one that was read in
parts a list of pairs, of the byte at which each part begins and its unit. A part ends where the next one begins, the last with the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from lazypipe.storage.files import is_part, part_key, read_key

__all__ = ["Listed", "of_file", "to_list", "units_in"]

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
    ends = [*(start for start, _ in listed[1:]), size]
    return {part_key(uri, start, end): unit for (start, unit), end in zip(listed, ends, strict=True)}


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
