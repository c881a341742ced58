"""The current time for runs, compiled definitions and checks: the caller's, or the machine's clock."""

from __future__ import annotations

from datetime import UTC, datetime

from lazypipe.errors import LazypipeError

__all__ = ["time_of_run"]


def time_of_run(now: object) -> datetime:
    """Return the time that a caller gives, or that of the machine.

    Raises
    ------
    LazypipeError
        If it is given as something else than a datetime.
    """
    if now is None:
        return datetime.now(UTC)
    if not isinstance(now, datetime):
        raise LazypipeError(f"now is {now!r}, which is not a datetime; write one, such as datetime.now(UTC)")
    return now
