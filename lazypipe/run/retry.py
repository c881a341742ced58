"""Which failures may pass by themselves, and how long to wait before the next attempt."""

from __future__ import annotations

import errno
import math
import random
import socket
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from lazypipe.errors import CommitConflict, LazypipeError
from lazypipe.storage.reasons import may_pass
from lazypipe.storage.scan import os_error

__all__ = ["TRIES", "Backoff", "is_transient"]

TRIES = 3
"""How often a run goes about what another one was faster to commit."""

_PASSING = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.EIO,
        errno.EMFILE,
        errno.ENETUNREACH,
        errno.ENFILE,
        errno.ENOENT,  # a file that went after it was listed: it is not in the next list
        errno.ENOSPC,
        errno.EPIPE,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
_AWAY = frozenset(
    {
        "ClientConnectionError",
        "ClientPayloadError",
        "ConnectTimeoutError",
        "ConnectionClosedError",
        "EOFError",
        "EndpointConnectionError",
        "IncompleteReadError",
        "NoValidConnectionsError",
        "ReadTimeoutError",
        "ResponseStreamingError",
        "SSHException",
        "error_temp",
    }
)
"""What clients of stores (botocore, aiohttp, paramiko, ftplib) raise where the network is away; they are not imported for it."""
_REFUSED = frozenset({"AuthenticationException", "BadHostKeyException"})
"""Those of them that stand for something else."""


@dataclass(frozen=True)
class Backoff:
    """Waiting times between attempts: they double from ``first`` to ``most`` seconds, with random jitter.

    After ``attempts`` failures in a row, no further attempt is made: by default after 12 to 24 minutes, plus the time that the attempts take. A
    stream that has never been able to look at its sources gives up after five, because its settings may be wrong.

    Examples
    --------
    >>> half = random.Random(1)
    >>> [round(Backoff(first=1, most=4).delay(n, half), 2) for n in (1, 2, 3, 4)]
    [0.57, 1.85, 3.53, 2.51]
    """

    first: float = 1.0
    most: float = 60.0
    attempts: int = 30

    def __post_init__(self) -> None:
        """Refuse what is no time or number: a stream would find out in the middle of a failure."""
        for name in ("first", "most"):
            seconds: object = getattr(self, name)
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
                raise LazypipeError(f"backoff: {name} is {seconds!r}; write seconds, 0 or more")
        number: object = self.attempts
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise LazypipeError(f"backoff: attempts is {number!r}; write 1 or more")

    def delay(self, failures: int, rng: random.Random) -> float:
        """Return the seconds to wait after a number of consecutive failures: between half of the full waiting time and all of it."""
        wait = min(self.most, self.first * 2.0 ** min(failures - 1, 64))
        return wait / 2 + rng.random() * wait / 2


def is_transient(error: BaseException) -> bool:
    """Whether what went wrong may go right the next time: somebody else's commit, a network, a disk that is full or busy.

    Examples
    --------
    >>> is_transient(CommitConflict("another run has committed meanwhile")), is_transient(ValueError("no"))
    (True, False)
    """
    return any(
        isinstance(e, CommitConflict | ConnectionError | FileNotFoundError | TimeoutError | socket.gaierror)
        or os_error(e) in _PASSING
        or may_pass(str(e))
        or _is_busy(getattr(e, "code", None) or getattr(e, "status", None))
        or _is_away(_kinds(e))
        for e in _causes(error)
    )


def _kinds(error: BaseException) -> set[str]:
    """Return the names of an exception's classes; an EOFError that says why is that of a file which ends too early, and stays so."""
    names = {of.__name__ for of in type(error).__mro__}
    return names - {"EOFError"} if isinstance(error, EOFError) and error.args else names


def _is_away(names: AbstractSet[str]) -> bool:
    return not _AWAY.isdisjoint(names) and _REFUSED.isdisjoint(names)


def _is_busy(status: object) -> bool:
    """Whether a server of the web answered that it may do what was asked another time."""
    return isinstance(status, int) and (status in (408, 429) or 500 <= status < 600)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        # what a reader of ours raises may be handed on as its own cause
        error = error.__context__ if error.__cause__ in (None, error) else error.__cause__
