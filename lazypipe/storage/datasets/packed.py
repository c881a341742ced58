"""Long lists packed into one text each, which JSON reads and writes faster than single values; the numbers of a sequence are not written out."""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["MANY", "is_range", "pack", "unpack"]

MANY = 256
"""Values from which on a list is a long one."""

_TEXTS, _NUMBERS, _RANGE = "\0texts", "\0numbers", "\0range"
"""Keys that nothing a user can name is called."""

_BETWEEN = "\n"

_WIDTHS = {"B": 8, "H": 16, "I": 32, "Q": 64}
"""How many bits numbers have that are written as ``struct`` says."""


def pack(plain: Any) -> Any:
    r"""Return plain data with long lists of texts, of whole numbers below 2^64, or of numbers that count up, packed; the rest is as it was.

    Examples
    --------
    >>> packed = pack({"names": ["a"] * 1000, "sizes": [7] * 1000, "few": [1, 2]})
    >>> packed["few"], list(packed["names"]), unpack(packed) == {"names": ["a"] * 1000, "sizes": [7] * 1000, "few": [1, 2]}
    ([1, 2], ['\x00texts'], True)
    """
    if isinstance(plain, Mapping):
        return {key: pack(value) for key, value in plain.items()}
    if not isinstance(plain, list | tuple):
        return plain
    if len(plain) < MANY:
        return [pack(value) for value in plain]
    kinds = set(map(type, plain))
    if is_range(plain):
        return {_RANGE: [plain[0], len(plain)]}
    if kinds == {int} and min(plain) >= 0 and (width := max(plain).bit_length()) <= 64:
        kind = next(kind for kind, bits in _WIDTHS.items() if width <= bits)
        return {_NUMBERS: kind + b64encode(struct.pack(f"<{len(plain)}{kind}", *plain)).decode()}
    if kinds == {str}:
        text = _BETWEEN.join(plain)
        if text.count(_BETWEEN) == len(plain) - 1:
            return {_TEXTS: text}
    return [pack(value) for value in plain]


def is_range(plain: Sequence[Any]) -> bool:
    """Whether values are whole numbers that count up, which takes only a few bytes.

    Examples
    --------
    >>> is_range([3, 4, 5]), is_range([3, 5]), is_range([True, 2])
    (True, False, False)
    """
    kinds = {type(plain[0]), type(plain[-1])}
    if kinds != {int} or plain[-1] - plain[0] != len(plain) - 1 or set(map(type, plain)) != {int}:
        return False
    return [*plain] == [*range(plain[0], plain[-1] + 1)]


def unpack(plain: Any) -> Any:
    """Return what was packed as it was; of other lists, those that hold nothing to be unpacked are given back themselves."""
    if isinstance(plain, dict):
        if _TEXTS in plain:
            return plain[_TEXTS].split(_BETWEEN)
        if _RANGE in plain:
            first, many = plain[_RANGE]
            return [*range(first, first + many)]
        if _NUMBERS in plain:
            kind, numbers = plain[_NUMBERS][0], b64decode(plain[_NUMBERS][1:])
            return list(struct.unpack(f"<{len(numbers) * 8 // _WIDTHS[kind]}{kind}", numbers))
        return {key: unpack(value) for key, value in plain.items()}
    if isinstance(plain, list) and any(isinstance(value, dict | list) for value in plain):
        return [unpack(value) for value in plain]
    return plain
