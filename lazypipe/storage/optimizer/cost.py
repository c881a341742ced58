"""What columns cost: bytes in a file, seconds to write and to read them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cost", "Size", "figure"]


@dataclass(frozen=True)
class Cost:
    """What some columns of the sample cost: bytes in a file, seconds to write and to read them."""

    bytes: int = 0
    write: float = 0.0
    read: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.bytes + other.bytes, self.write + other.write, self.read + other.read)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.bytes - other.bytes, self.write - other.write, self.read - other.read)


@dataclass(frozen=True)
class Size:
    """The bytes of a column in a file, and those that it had before compression."""

    bytes: int
    raw: int


def figure(number: float) -> str:
    """Return what a measure says as a text: bytes, or seconds in millionths."""
    return f"{number:,}" if isinstance(number, int) else f"{number * 1e6:,.0f} µs"
