"""The time that choosing a layout may take: asked before each piece of work whether it still fits.

What a piece is going to take is told by rates (``prices``). How many times longer pieces take than that is measured where there is a clock;
without one a piece takes what its price says, so that the same rows are given the same layout whatever else the machine does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Budget", "Clock"]

Clock: TypeAlias = Callable[[], float]
"""Seconds from some moment on, as ``time.perf_counter`` gives them."""


class Budget:
    """Seconds that work may take, and what it has taken.

    Parameters
    ----------
    seconds
        What all pieces may take; None: no end.
    clock
        Tells what they took. None: what their prices say.

    Attributes
    ----------
    seconds
        What all pieces may take, as given.
    start
        When it began, by the clock.
    stopped
        Whether there was work that did not fit any more.

    Examples
    --------
    >>> budget = Budget(0.5)
    >>> budget.takes(0.4), budget.takes(0.4), budget.spent
    (True, False, 0.4)
    """

    def __init__(self, seconds: float | None, clock: Clock | None = None) -> None:
        self.seconds, self.stopped = seconds, False
        self._clock = clock
        self.start = 0.0 if clock is None else clock()
        self._charged = 0.0

    @property
    def spent(self) -> float:
        """Seconds that have been spent so far."""
        return self._charged if self._clock is None else self._clock() - self.start

    @property
    def left(self) -> float | None:
        """Seconds that are left, as pieces of work are priced; None: no end."""
        if self.seconds is None:
            return None
        spent = self.spent
        # how many times longer pieces of work took than their prices say
        pace = spent / self._charged if self._clock is not None and spent and self._charged else 1.0
        return (self.seconds - spent) / pace

    def allows(self, price: float) -> bool:
        """Whether a piece of work still fits; asked by who has one, and leaves it else."""
        left = self.left
        fits = left is None or price <= left
        self.stopped = self.stopped or not fits
        return fits

    def charge(self, price: float) -> None:
        """Take note of a piece of work, which begins now."""
        self._charged += price

    def takes(self, price: float) -> bool:
        """Take note of a piece of work if it still fits, and tell whether it does."""
        fits = self.allows(price)
        if fits:
            self.charge(price)
        return fits
