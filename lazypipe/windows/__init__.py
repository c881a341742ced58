"""Event time: windows as frozen values that assign times to them by expressions. Reads no data."""

from __future__ import annotations

from lazypipe.windows.clock import Clock
from lazypipe.windows.intervals import Interval
from lazypipe.windows.reach import Reach
from lazypipe.windows.sessions import PIECE, SESSION, Sessions
from lazypipe.windows.window import Windows, elapsed, windows

__all__ = ["PIECE", "SESSION", "Clock", "Interval", "Reach", "Sessions", "Windows", "elapsed", "windows"]
