"""How the time to compile grows with the number of stages: it must be linear, and well under a second for 200.

    uv run python benchmarks/compile.py [--runs 5]

Each stage filters, derives, joins a small table and has a gate of two rules; every third one aggregates. The last column
divides the time per stage by that of the smallest pipeline: 1.0 at any size is linear.
"""

from __future__ import annotations

import argparse

from common import TOY, Clock, measure, parse, publish

import lazypipe as lp

SIZES = (2, 4) if TOY else (25, 50, 100, 200, 400)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", metavar="STAGES", nargs=1, type=int)
    parser.add_argument("--runs", type=int, default=5)
    options = parse(parser, "--runs 1")
    if options.child:
        child(options.child[0])
        return
    found = measure(__file__, {str(n): (str(n),) for n in SIZES}, runs=options.runs)
    first = found[str(SIZES[0])]["seconds"] / SIZES[0]
    rows = [
        {
            "stages": n,
            "seconds": round(found[str(n)]["seconds"], 4),
            "ms per stage": round(found[str(n)]["seconds"] / n * 1000, 3),
            f"against {SIZES[0]} stages": round(found[str(n)]["seconds"] / n / first, 2),
        }
        for n in SIZES
    ]
    publish("compile", rows, note="one chain of stages, 4 operations and 2 rules each; medians")


def child(stages: int) -> None:
    builder = lp.pipeline("chain")
    builder.source("rows", "rows.parquet", contract={"columns": {"k": "Int64", "x": "Float64", "t": "Datetime"}})
    builder.source("names", "names.parquet", contract={"columns": {"k": "Int64", "name": "String"}})
    for number in range(stages):
        do = [
            {"filter": f"x > {number} OR x IS NULL"},
            {"derive": {"y": "x * 2 + 1", "hour": "date_trunc('hour', t)"}},
            {"join": {"with": "names", "on": "k", "how": "left"}},
            {"aggregate": {"by": ["k", "t"], "aggregate": {"x": "sum(y)"}}}
            if number % 3 == 0
            else {"select": ["k", "x", "t"]},
        ]
        gate = [{"not_null": "k"}, {"between": {"column": "x", "min": 0, "action": "quarantine"}}]
        builder.stage(f"s{number}", f"s{number - 1}" if number else "rows", do=do, gate=gate)
    pipe = builder.output(f"s{stages - 1}", "out").build()
    pipe.compile()  # the first time also imports every operation
    with Clock() as clock:
        pipe.compile()
    clock.report()


if __name__ == "__main__":
    main()
