"""Processes that were forked from one in which Polars had threads: no thread goes along, and a query would wait for them for ever."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from lazypipe.errors import RunError

__all__ = ["refuse_forked"]

_POOLS = ("polars-", "async-executor-", "tokio-rt-worker")
"""How the names of Polars's threads begin, as the system tells them: of those that calculate, that stream, and that read files."""
_ALWAYS = "polars-ooc-clea"
"""The one that every process has that imports Polars, and that no query waits for."""


class _Threads:
    """Whether Polars has threads in this process (``here``), and whether they were left in the one it was forked from (``behind``)."""

    here = False
    behind = False

    def look(self) -> None:
        """Note whether there are threads, ahead of a fork: afterwards nobody can tell."""
        # where the system does not say, nothing is refused
        with suppress(OSError):
            names = {(t / "comm").read_text().strip() for t in Path("/proc/self/task").iterdir()}
            self.here = any(n.startswith(_POOLS) for n in names - {_ALWAYS})

    def leave(self) -> None:
        """Note that this is another process now."""
        self.behind = self.behind or self.here


_threads = _Threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_threads.look, after_in_child=_threads.leave)


def refuse_forked() -> None:
    """Raise RunError in a process in which queries would hang."""
    if _threads.behind:
        what = "this process was forked from one that had used Polars, whose threads do not go along, so queries would hang"
        fix = "start processes by spawn, as with ProcessPoolExecutor(mp_context=multiprocessing.get_context('spawn'))"
        raise RunError(what, fix=fix)
