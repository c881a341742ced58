"""Whatever is asked of a dataset in other forms is what is asked of the rows: filters, slices and projections reach into the forms.

Rows stand in small row groups, some of which a filter leaves out; some values do not fit their form. The oracle is the same query on
the frame that was written.
"""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lazypipe.storage.datasets.data_files import find_odd, scan_files
from lazypipe.storage.optimizer.form import Form
from lazypipe.storage.optimizer.layout import Layout
from lazypipe.storage.sink import DatasetSink
from tests.storage.optimizer.test_forms import CASES, NAMES, bits, series

COMPARED = ("eq", "ne", "lt", "le", "gt", "ge", "eq_missing", "ne_missing")


@st.composite
def conditions(draw: Any, dtype: pl.DataType, values: list[Any]) -> pl.Expr:
    """Draw a condition on ``x``, with literals that it holds, nearly holds, or does not."""

    def literal() -> pl.Expr:
        value = draw(st.sampled_from([*values, None]))
        if dtype.is_temporal():  # Python has no year 0
            return pl.lit(value, dtype=pl.Int32() if dtype == pl.Date else pl.Int64()).cast(dtype)
        return pl.lit(value, dtype=dtype)

    x = pl.col("x")
    kinds = ["compare", "is_in", "null", "between", "not", "and", "or"]
    kinds += ["text"] if dtype == pl.String else []
    kinds += ["nan", "plus"] if dtype.is_float() else []
    kinds += ["year"] if dtype in (pl.Date, pl.Datetime) else []
    match draw(st.sampled_from(kinds)):
        case "compare":
            return getattr(x, draw(st.sampled_from(COMPARED)))(literal())
        case "is_in":
            some = series("", draw(st.lists(st.sampled_from([*values, None]), max_size=3)), dtype)
            return x.is_in(some.implode(), nulls_equal=draw(st.booleans()))
        case "null":
            return x.is_null() if draw(st.booleans()) else x.is_not_null()
        case "between":
            return x.is_between(literal(), literal(), closed=draw(st.sampled_from(["both", "left", "none"])))
        case "not":
            return ~draw(conditions(dtype, values))
        case "and":
            return draw(conditions(dtype, values)) & draw(conditions(dtype, values))
        case "or":
            return draw(conditions(dtype, values)) | (pl.col("n") < draw(st.integers(0, 40)))
        case "text":
            start = draw(st.sampled_from(["", "user", "user7", "@", "ID-00", "y", "00"]))
            tested = [x.str.starts_with(start), x.str.contains(start, literal=True), x.str.len_bytes() > len(start)]
            return draw(st.sampled_from([*tested, x.str.to_uppercase() == start.upper(), x + "a" > start]))
        case "nan":
            return x.is_nan() if draw(st.booleans()) else x.is_finite()
        case "plus":
            return x + 1 > literal()
        case _:
            return x.dt.year() >= draw(st.sampled_from([1969, 1970, 2000]))


@pytest.mark.parametrize(("dtype", "values", "form"), CASES, ids=NAMES)
def test_a_query_over_forms_is_one_over_the_rows(
    dtype: pl.DataType, values: st.SearchStrategy[Any], form: Form, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @settings(max_examples=max(15, settings().max_examples // 4))
    @given(st.data(), st.lists(st.none() | values, min_size=1, max_size=24), st.booleans())
    def check(data: st.DataObject, drawn: list[Any], is_sorted: bool) -> None:
        x = series("x", drawn, dtype)
        frame = pl.DataFrame([x.sort() if is_sorted else x]).with_row_index("n")
        folder = str(tmp_path_factory.mktemp("forms"))
        layout = Layout(forms={"x": form}, row_group_rows=data.draw(st.sampled_from([2, 5, 100])))
        files = find_odd(folder, DatasetSink(folder, "r-001", layout=layout).write(frame.lazy()).files, frame.schema)
        scan = scan_files(folder, files, frame.schema, (), {})
        wanted = data.draw(conditions(dtype, drawn))
        only = data.draw(st.sampled_from([["n"], ["x", "n"]]))
        start, count = data.draw(st.integers(-26, 26)), data.draw(st.integers(0, 26))
        for engine in ("streaming", "in-memory"):
            found = scan.filter(wanted).select(only).collect(engine=engine)
            expected = frame.filter(wanted).select(only)
            assert_frame_equal(found.select("n"), expected.select("n"))
            assert bits(found) == bits(expected)
            sliced = scan.slice(start, count).filter(wanted).select("n").collect(engine=engine)
            assert_frame_equal(sliced, frame.slice(start, count).filter(wanted).select("n"))

    check()
