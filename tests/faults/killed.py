"""A process of its own for each run that is to die: forked from one that has imported everything and started no thread.

Reads lines ``root event run`` and answers each with the events that the run went through (``event`` 0: it goes to its end;
N: SIGKILL at the Nth; -N: SIGKILL after N milliseconds).
"""

import importlib
import os
import pkgutil
import signal
import sys
import time
from typing import Any

import lazypipe as lp
from lazypipe.records.record import Records
from lazypipe.storage.datasets.log import CommitLog
from lazypipe.storage.sink import DatasetSink, ExportSink


def watch(events: list[str], die_at: int) -> None:
    def happen(what: str) -> None:
        events.append(what)
        if len(events) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(owner: Any, name: str, label: str) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            happen(f"before {label}")
            result = original(*args, **kwargs)
            happen(f"after {label}")
            return result

        setattr(owner, name, wrapped)

    wrap(Records, "write", "record")
    wrap(DatasetSink, "write", "write of a dataset")
    wrap(DatasetSink, "_path", "opening of a data file")
    wrap(ExportSink, "write", "write of an export")
    wrap(ExportSink, "publish", "swap of an export")
    wrap(CommitLog, "append", "commit")
    wrap(os, "link", "link of a commit")


def run(root: str, die_at: int, name: str) -> list[str]:
    events: list[str] = []
    watch(events, die_at)
    seen = [0]

    def observer(_segment: str, _number: int, _count: int, rows: int) -> None:
        if rows > seen[0] and len(seen) < 2:  # the first batch that a gate sees
            seen.append(rows)
            events.append("batch")
            if len(events) == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    result = lp.load(f"{root}/p.yaml").compile().run(run=name, observer=observer)
    result.raise_for_status()
    return events


def main() -> None:
    for module in pkgutil.walk_packages(lp.__path__, "lazypipe."):
        importlib.import_module(module.name)
    for line in sys.stdin:
        root, event, name = line.split()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writing, "|".join(run(root, int(event), name)).encode())
            finally:
                os._exit(0)
        os.close(writing)
        if int(event) < 0:
            time.sleep(-int(event) / 1000)
            os.kill(child, signal.SIGKILL)
        told = os.read(reading, 1 << 16).decode()
        os.close(reading)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), told, flush=True)


if __name__ == "__main__":
    main()
