"""Moments are parsed beside Polars' reader of CSV: what it makes of the same text is the oracle."""

from __future__ import annotations

from pathlib import Path

import fsspec
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.storage.files import FileInfo
from lazypipe.storage.scan import Reader
from lazypipe.storage.text.moments import Unusual, as_text, parsed, usual

UTC = pl.Datetime("us", "UTC")
TYPES = (
    UTC,
    pl.Datetime("us"),
    pl.Datetime("ms"),
    pl.Datetime("ms", "Europe/Berlin"),
    pl.Datetime("us", "America/New_York"),
)


def by_reader(texts: list[str | None], dtype: pl.DataType) -> pl.Series:
    content = pl.DataFrame({"n": range(len(texts)), "t": pl.Series(texts, dtype=pl.String)}).write_csv()
    return pl.read_csv(content.encode(), schema={"n": pl.Int64, "t": dtype})["t"]


def beside(texts: list[str | None], dtype: pl.DataType) -> pl.Series:
    rows = pl.LazyFrame({"t": pl.Series(texts, dtype=pl.String)})
    return parsed(rows, pl.Schema({"t": dtype}), ["t"], "s").collect(engine="in-memory")["t"]


days = st.sampled_from(
    ["2013-01-31", "2012-02-29", "1969-12-31", "0001-01-01", "9999-12-31", "1600-02-29", "2262-05-01"]
)
clocks = st.sampled_from(["00:00:00", "23:59:59", "05:06:07", "12:00:00"])
wrong_days = st.sampled_from(
    ["2013-02-30", "13-01-01", "+013-01-01", "-013-01-01", "02013-01-01", "2013-1-01", "0000-01-01"]
)
wrong_clocks = st.sampled_from(["24:00:00", "23:59:60", "05:06", " 5:06:07", "5:06:07", "05:60:00", "05:06:7", ""])
fractions = st.sampled_from(["", "", ".1", ".000", ".123", ".123456", ".999999", ".1234567", "."])
offsets = st.sampled_from(["Z", "Z", "+02:00", "-11:30", "+00:00", "+0200", "+02", "z", "+24:00"])
odd = st.sampled_from([None, "", "2013-01-01", "01/02/2013 10:00", "x"])


def written(offset: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds("{}{}{}{}{}".format, days, st.sampled_from("T T"), clocks, fractions, offset)


wrong = st.builds(
    "{}{}{}{}{}".format, days | wrong_days, st.sampled_from("T t"), clocks | wrong_clocks, fractions, offsets
)
columns = st.one_of(
    st.lists(written(st.just("")) | st.none(), min_size=1, max_size=5),
    st.lists(written(offsets) | st.none(), min_size=1, max_size=5),
    st.lists(written(st.just("") | offsets) | wrong | odd, min_size=1, max_size=3),
)


@given(columns, st.sampled_from(TYPES))
@example(["2013-01-01T05:00:00Z", "2013-01-01T05:00:00.5+02:00", "2016-12-31T23:59:60Z"], UTC)
@example(["1969-12-31 23:59:59.999999", None], pl.Datetime("ms"))
def test_what_is_parsed_is_what_the_reader_makes_of_it(drawn: list[str | None], dtype: pl.DataType) -> None:
    try:
        found = beside(drawn, dtype)
    except Unusual:
        return
    assert found.dtype == dtype
    # the reader takes moments of a block to be written as its first one is: each is read for itself
    assert found.to_physical().to_list() == [by_reader([one], dtype).to_physical().item() for one in drawn]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "drawn",
    [
        ["2013-01-01T05:00:00Z", None, "2012-02-29T23:59:59Z"],
        ["2013-01-01 05:00:00", "2013-01-01 05:00:00.25"],
        [None, "2013-01-01T05:00:00.123+02:00", "2013-01-01T05:00:00-11:30", "1969-07-20 20:17:40Z"],
        [None, None],
    ],
)
def test_usual_moments_are_not_left_to_the_reader(drawn: list[str | None], dtype: pl.DataType) -> None:
    found = beside(drawn, dtype)
    assert found.to_physical().to_list() == by_reader(drawn, dtype).to_physical().to_list()
    assert found.null_count() == drawn.count(None)


@pytest.mark.parametrize(
    "drawn",
    ["2013-02-30T05:00:00Z", "2013-01-01", "13-01-01 05:00:00", "", "2013-01-01T 5:00:00Z"],
)
def test_what_may_be_wrong_is_left_to_the_reader(drawn: str) -> None:
    with pytest.raises(Unusual) as caught:
        beside(["2013-01-01T05:00:00Z", drawn], UTC)
    assert caught.value.source == "s"
    with pytest.raises(Unusual):
        beside([drawn], UTC)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "drawn", [["2013-01-01T05:00:00Z", "2013-01-01T05:00:00"], ["2013-01-01 05:00:00", "2013-01-01 05:00:00.5+02:00"]]
)
def test_a_moment_without_an_offset_is_utc_beside_others(drawn: list[str | None], dtype: pl.DataType) -> None:
    assert beside(drawn, dtype).to_list() == [by_reader([one], dtype).item() for one in drawn]


def test_the_first_row_tells_which_columns_are_worth_it(tmp_path: Path) -> None:
    schema = pl.Schema(
        {"k": pl.Int64(), "a": UTC, "b": UTC, "c": UTC, "d": pl.Datetime("ns"), "e": pl.Date(), "f": UTC}
    )
    path = tmp_path / "rows.csv"
    path.write_text("k,a,b,c,d,e\n1,2013-01-01T05:00:00Z,01/02/2013 10:00,,2013-01-01T05:00:00Z,2013-01-01\n")
    file = FileInfo(str(path), path.stat().st_size)
    assert usual(Reader("csv"), file, schema) == ("a", "c")
    assert as_text(schema, ["a"]) == {**schema, "a": pl.String()}
    assert usual(Reader("csv"), file, pl.Schema({"k": pl.Int64()})) == ()
    assert usual(Reader("ndjson"), file, schema) == ()
    assert usual(Reader("csv"), FileInfo("memory://rows.csv", 9), schema) == ()
    assert usual(Reader("csv"), FileInfo(str(tmp_path / "none.csv"), 9), schema) == ()
    path.write_text("1;2013-01-01T05:00:00Z\n")
    assert usual(
        Reader("csv", read={"header": False, "separator": ";"}), file, pl.Schema({"n": pl.Int64(), "t": UTC})
    ) == ("t",)


def test_no_other_error_is_hidden(tmp_path: Path) -> None:
    class Odd(Reader):
        def first_row(self, file: FileInfo, schema: pl.Schema) -> pl.DataFrame:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        usual(Odd("csv"), FileInfo(str(tmp_path / "a.csv"), 1), pl.Schema({"t": UTC}))


# how rows were delivered does not decide what is taken

FORMS = {
    "usual": ["2013-01-01T05:00:00Z", "2013-01-01T06:00:00", "2013-01-01 07:00:00+02:00"],
    "unusual first": [
        "2013-01-01T05:00Z",
        "2013-01-01T06:00:00",
        "2013-01-01",
        "02/01/2013 08:00",
        "2013-01-03T09:00:00Z",
    ],
    "unusual later": ["2013-01-01T05:00:00", "2013-01-01T06:00", "2013-01-03 09:00:00.5-11:30", "2013-01-04"],
}
"""Texts of which each is a moment for Polars' reader, if it stands in a file of its own."""


@pytest.mark.parametrize("drawn", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("dtype", ["Datetime(us, UTC)", "Datetime"])
# of what a contract says of types, a reader is told only whether rows that do not fit are set aside
@pytest.mark.parametrize(
    ("somewhere", "mode"),
    [
        *(("local", mode) for mode in ("fail", "freeze", "evolve", "discard_row")),
        ("memory", "fail"),
        ("memory", "discard_row"),
    ],
    indirect=["somewhere"],
)
def test_moments_are_the_same_in_any_split(
    tmp_path: Path, somewhere: str, drawn: list[str], dtype: str, mode: str
) -> None:
    expected = sorted(by_reader([one], pl.Datetime("us")).item() for one in drawn)
    splits = {
        "one": [drawn],
        "each": [[one] for one in drawn],
        "other way": [drawn[::-1]],
        "two": [drawn[:1], drawn[1:]],
    }
    for name, files in splits.items():
        data = f"{somewhere}/{name}"
        for number, rows in enumerate(files):
            with fsspec.open(f"{data}/{number}.csv", "w", auto_mkdir=True) as handle:
                handle.write("id,t\n" + "".join(f"1,{row}\n" for row in rows))
        contract = {"columns": {"id": "Int64", "t": dtype}, "on_type_change": mode}
        built = lp.pipeline("p", base=str(tmp_path)).source("a", f"{data}/*.csv", contract=contract, on_corrupt="skip")
        result = built.output("a", f"out {name}").build().compile().run()
        result.raise_for_status()
        assert not result.corrupt
        out = lp.scan(f"{tmp_path}/out {name}").collect()["t"]
        assert sorted(t.replace(tzinfo=None) for t in out.to_list()) == expected


def test_what_is_no_moment_is_told_and_not_the_form_of_another(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    contract = {"columns": {"id": "Int64", "t": "Datetime(us, UTC)"}}
    built = lp.pipeline("p", base=str(tmp_path)).source("a", "a.csv", contract=contract)
    plan = built.stage("b", "a", do=[{"derive": {"n": "CAST(id AS TINYINT)"}}]).output("b", "out").build().compile()
    file.write_text("id,t\n1,2013-01-01T05:00:00Z\n2,2013-01-01T06:00:00\n3,2013-01-01T06:00:99\n")
    assert "'2013-01-01T06:00" in str(plan.run().segments[0].error)
    # nor is a file told where it is another column, or a step, that fails
    file.write_text("id,t\n1,2013-01-01T05:00:00Z\n2,2013-01-01T06:00:00\nthree,2013-01-01T06:00:09\n")
    assert "'three' in column 'id' is not a valid Int64 (line 4)" in str(plan.run().segments[0].error)
    file.write_text("id,t\n1,2013-01-01T05:00:00Z\n999,2013-01-01T06:00:00\n")
    error = str(plan.run().segments[0].error)
    assert "operation 1 (derive)" in error
