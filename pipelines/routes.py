"""A pipeline in Python: which routes flew how often, and how late, with rules on the result.

It reads what ``flights.yaml`` publishes. Run it after that one::

    uv run lazypipe run pipelines/flights.yaml
    uv run python pipelines/routes.py
"""

from pathlib import Path

import polars as pl

import lazypipe as lp

HERE = Path(__file__).parent


def routes() -> lp.Pipeline:
    """Return the definition; nothing is read or written yet."""
    late = (pl.col("arr_delay") > 15).mean()
    return (
        lp.pipeline("routes", base=str(HERE))
        .source("flown", "out/flown")
        .stage(
            "routes",
            "flown",
            do=[
                {"filter": pl.col("arr_delay").is_not_null()},
                {"aggregate": {"by": ["origin", "dest"], "aggregate": {"flights": pl.len(), "late": late}}},
                {"filter": "flights >= :least"},
            ],
            gate=[
                {"primary_key": ["origin", "dest"]},
                {"between": {"column": "late", "min": 0, "max": 1}},
                {"row_count": {"min": 50, "action": "warn"}},
            ],
        )
        .param("least", "integer", default=30)
        .output("routes", "out/routes", key=["origin", "dest"])
        .build()
    )


def main() -> None:
    """Run it, and print what it made and where one column comes from."""
    plan = routes().compile(least=100)
    result = plan.run()
    result.raise_for_status()
    print(result)
    print(lp.scan(HERE / "out" / "routes").sort("late", descending=True).head(5).collect())
    print(plan.lineage().upstream("routes.late"))


if __name__ == "__main__":
    main()
