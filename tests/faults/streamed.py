"""A process of its own for each stream that is to die: forked from one that has imported everything and started no thread.

Reads lines ``root delay``. A stream over ``root`` gets SIGKILL so many milliseconds after its next batch has begun; with delay
-1 it takes in what is there and ends. Answers with the exit code. What stands in ``root/log`` is pulled for the source ``log``.
"""

import os
import signal
import sys
import time
from datetime import timedelta
from typing import Any

import polars as pl

import lazypipe as lp


class Log:
    """The lines of a file, a few at a time; the position is how many."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, after: Any) -> tuple[pl.DataFrame, Any] | None:
        with open(self.path, encoding="utf-8") as file:
            lines = [line for line in file if line.endswith("\n")]
        begin = after or 0
        came = lines[begin : begin + 7]
        return (pl.DataFrame({"x": [int(line) for line in came]}), begin + len(came)) if came else None


def stream(root: str, *, once: bool) -> None:
    trigger = lp.Trigger(timedelta(milliseconds=20), once=once)
    log = f"{root}/log"
    pull = {"log": Log(log)} if os.path.exists(log) else {}
    for result in lp.stream(lp.load(f"{root}/p.yaml"), trigger, pull=pull, max_files=2):
        result.raise_for_status()


def records(root: str) -> set[str]:
    folder = f"{root}/.lazypipe/runs"
    return {name for name in os.listdir(folder) if name.endswith(".json")} if os.path.isdir(folder) else set()


def main() -> None:
    for line in sys.stdin:
        root, delay = line.split()
        known = records(root)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                stream(root, once=int(delay) < 0)
                code = 0
            finally:
                os._exit(code)
        if int(delay) >= 0:
            while records(root) == known:
                time.sleep(0.002)
            time.sleep(int(delay) / 1000)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
