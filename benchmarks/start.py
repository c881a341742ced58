"""What a fresh process pays before its query: the CPU of whole processes, start of Python included.

    uv run python benchmarks/start.py [--runs 9]

The floor is ``import polars``. Then: ``import lazypipe``, which imports nothing yet; a definition that is read; one that is compiled; the
command line's help; and a run that finds nothing new.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from typing import Any

from common import DATA, PIPELINES, TOY, orders, parse, publish

import lazypipe as lp

LOAD = f"import lazypipe as lp; pipe = lp.load({str(PIPELINES / 'flights.yaml')!r})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    options = parse(parser, "--runs 1")
    programs = {
        "import polars": ["-c", "import polars"],
        "import lazypipe": ["-c", "import lazypipe"],
        "the help": ["-m", "lazypipe", "--help"],
        "a definition is read": ["-c", LOAD],
        "a definition is compiled": ["-c", f"{LOAD}.compile()"],
        "a run finds nothing new": ["-m", "lazypipe", "run", unchanged()],
    }
    spent: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(1 if TOY else options.runs + 1):
        for name, program in programs.items():
            seconds = cpu([sys.executable, *program])
            if turn or TOY:  # the first turn compiles modules
                spent[name].append(seconds)
    middle = {name: statistics.median(found) for name, found in spent.items()}
    rows: list[dict[str, Any]] = [
        {"what": name, "cpu seconds": round(s, 4), "of import polars": round(s / middle["import polars"], 2)}
        for name, s in middle.items()
    ]
    publish("start", rows, note="CPU seconds of whole processes, medians of runs in turn")


def unchanged() -> str:
    """Have an output that is up to date; return the file of its definition."""
    folder = DATA / "outputs" / "start"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "start.json"
    do = [{"filter": "quantity > 1"}, {"derive": {"net": "amount / 1.19"}}]
    pipe = lp.pipeline("start", base=str(folder)).source("a", f"{orders(1)}/orders-000.parquet").stage("b", "a", do=do)
    file.write_text(pipe.output("b", "out/b").build().to_json())
    lp.load(file).compile().run().raise_for_status()
    return str(file)


def cpu(command: list[str]) -> float:
    """Return the CPU seconds of a process."""
    environment = dict(os.environ)
    if not TOY:
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = str(DATA / "bytecode")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, env=environment, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
