"""A process of its own for each stream that is to die: forked from one that has imported everything and started no thread.

Reads lines ``root delay``. A stream over ``root`` gets SIGKILL so many milliseconds after its next batch has begun; with delay
-1 it takes in what is there and ends. Answers with the exit code.
"""

import os
import signal
import sys
import time
from datetime import timedelta

import lazypipe as lp


def stream(root: str, *, once: bool) -> None:
    trigger = lp.Trigger(timedelta(milliseconds=20), once=once)
    for result in lp.stream(lp.load(f"{root}/p.yaml"), trigger, max_files=2):
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
