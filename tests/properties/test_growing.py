"""Rows that take the place of others, while columns come, go and grow: what is there is what a dictionary of the rows would hold."""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl
from hypothesis import example, given, settings
from hypothesis import strategies as st

import lazypipe as lp

TYPES = [pl.Int8, pl.Int32, pl.Int64]
STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),  # of the key, and of what tells the order
        st.frozensets(st.sampled_from(["p", "q"])),
        st.lists(
            st.tuples(st.integers(0, 4), st.integers(0, 9), st.booleans()),
            min_size=1,
            max_size=5,
            unique_by=lambda r: r[0],
        ),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=settings().max_examples // 3)
@given(steps=STEPS, partitioned=st.booleans())
@example(  # what came late, when the key that was removed had a narrower type
    steps=[
        (0, frozenset(), [(1, 5, False), (2, 5, False)]),
        (0, frozenset("p"), [(1, 7, True)]),
        (2, frozenset("q"), [(1, 6, False), (2, 6, False)]),
        (2, frozenset(), [(1, 8, False)]),
    ],
    partitioned=False,
)
def test_rows_are_put_in_the_place_of_others_that_had_fewer_and_narrower_columns(
    steps: list[tuple[int, frozenset[str], list[tuple[int, int, bool]]]], partitioned: bool
) -> None:
    """Columns come and grow meanwhile; keys that were removed stay so for rows that come late."""
    with tempfile.TemporaryDirectory() as folder:
        base, expected = Path(folder), dict[int, tuple[int, dict[str, str | None] | None]]()
        known: set[str] = set()
        width = 0
        for number, (narrow, extra, rows) in enumerate(steps):
            width = max(width, narrow)
            dtype = TYPES[width]
            known |= extra
            frame = pl.DataFrame(
                [
                    {"id": i, "at": at, "gone": gone, "k": "ab"[i % 2], **{c: f"{c}{number}" for c in extra}}
                    for i, at, gone in rows
                ],
                schema={
                    "id": dtype,
                    "at": dtype,
                    "gone": pl.Boolean,
                    "k": pl.String,
                    **dict.fromkeys(sorted(extra), pl.String),
                },
            )
            frame.write_parquet(base / "a.parquet")
            result = (
                lp.pipeline("p", base=folder)
                .source("a", "a.parquet", on_modified="reprocess")
                .stage("b", "a", do=[{"select": frame.columns}])
                .output(
                    "b",
                    "out",
                    mode="upsert",
                    key=["id"],
                    order_by=["at"],
                    deleted_when="gone",
                    **({"partition_by": ["k"]} if partitioned else {}),
                    contract={"on_new_column": "evolve", "on_type_change": "evolve", "on_missing_column": "evolve"},
                )
                .build()
                .compile()
                .run()
            )
            result.raise_for_status()
            for i, at, gone in rows:
                if i not in expected or at >= expected[i][0]:
                    expected[i] = (at, None if gone else {c: f"{c}{number}" for c in extra})
            out = lp.scan(f"{folder}/out").collect()
            told = {r["id"]: (r["at"], {c: r[c] for c in known if c in r and r[c] is not None}) for r in out.to_dicts()}
            assert told == {i: (at, values) for i, (at, values) in expected.items() if values is not None}
            assert out.schema["id"] == out.schema["at"] == dtype
            assert {*out.columns} == {"id", "at", "gone", "k", *known}
