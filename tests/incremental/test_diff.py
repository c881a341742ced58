"""The difference of two tables, against an oracle on plain dicts."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazypipe as lp
from lazypipe.__main__ import main
from lazypipe.incremental import diff as module
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import DataFile
from lazypipe.storage.datasets.unit_counts import count_units
from lazypipe.storage.datasets.units import UNIT
from lazypipe.storage.sink import DatasetSink

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
BEFORE = pl.DataFrame({"k": [1, 2, 3, None], "x": [1.0, 2.0, None, 4.0], "t": ["a", "b", "c", "d"]})
AFTER = pl.DataFrame({"k": [None, 3, 2, 5], "x": [4.0, 3.0, 2.0, 5.0], "t": ["d", "c", "B", "e"]})


def test_inserted_updated_and_deleted() -> None:
    found = lp.diff(BEFORE, AFTER.lazy(), key="k")
    assert found.inserted.rows() == [(5, 5.0, "e")]
    assert found.deleted.rows() == [(1, 1.0, "a")]
    assert found.updated.sort("k").rows(named=True) == [
        {"k": 2, "before": {"x": 2.0, "t": "b"}, "after": {"x": 2.0, "t": "B"}, "_columns": ["t"]},
        {"k": 3, "before": {"x": None, "t": "c"}, "after": {"x": 3.0, "t": "c"}, "_columns": ["x"]},
    ]
    assert found.counts == {"inserted": 1, "updated": 2, "deleted": 1, "unchanged": 1}
    assert str(found) == "1 inserted, 2 updated, 1 deleted, 1 unchanged"
    assert not found.nothing
    assert found.to_frame().sort("_change", "k").rows() == [
        ("delete", None, 1, 1.0, "a"),
        ("insert", None, 5, 5.0, "e"),
        ("update", ["t"], 2, 2.0, "B"),
        ("update", ["x"], 3, 3.0, "c"),
    ]


def test_many_rows_that_differ() -> None:
    many = module._FEW + 2
    before = pl.DataFrame({"k": range(many), "x": 0})
    found = lp.diff(before, before.with_columns(x=pl.col("k") % 2 + 1).tail(-1), key="k")
    assert found.counts == {"inserted": 0, "updated": many - 1, "deleted": 1, "unchanged": 0}
    assert found.updated["k"].sort().to_list() == list(range(1, many))


def test_as_text() -> None:
    before = pl.DataFrame({"k": [1, 2], "x": ["a|b", None]})
    found = lp.diff(before, pl.DataFrame({"k": [1], "x": ["c\nd"]}), key="k")
    assert found.to_markdown() == (
        "**1 updated, 1 deleted**\n\nUpdated:\n\n| k | what |\n|---|---|\n| 1 | x: a\\|b → c d |\n\n"
        "Deleted:\n\n| k | what |\n|---|---|\n| 2 | x: null |\n"
    )
    many = lp.diff(pl.DataFrame({"k": range(5)}), pl.DataFrame({"k": range(30)}), key="k")
    assert "| … | 5 more |" in many.to_markdown()
    assert "| … | 23 more |" in many.to_markdown(2)


def test_the_same_and_nothing() -> None:
    found = lp.diff(BEFORE, BEFORE.reverse(), key=["k"])
    assert found.nothing
    assert str(found) == "4 unchanged"
    assert found.inserted.schema == found.deleted.schema == BEFORE.schema
    empty = lp.diff(BEFORE.clear(), BEFORE.clear(), key="k")
    assert empty.nothing
    assert str(empty) == "no rows"
    assert lp.diff(BEFORE, BEFORE.clear(), key="k").counts["deleted"] == 4
    assert lp.diff(BEFORE.clear(), BEFORE, key="k").counts["inserted"] == 4


def test_what_is_equal() -> None:
    """As Polars has it: NaN is NaN, −0.0 is 0.0, null is null, also within keys and nested values."""
    before = pl.DataFrame(
        {"k": [0.0, math.nan, None], "l": [[-0.0], [math.nan], [None]], "s": [{"a": 1}, {"a": None}, None]}
    )
    after = pl.DataFrame(
        {"k": [-0.0, math.nan, None], "l": [[0.0], [math.nan], [None]], "s": [{"a": 1}, {"a": None}, None]}
    )
    assert lp.diff(before, after, key="k").nothing
    assert (
        lp.diff(
            before, after.with_columns(l=pl.Series([[0.0], [None], []], dtype=pl.List(pl.Float64))), key="k"
        ).counts["updated"]
        == 2
    )
    for one, other in (([{"a": None}], [None]), ([[]], [None]), ([[None]], [[]]), ([[1, 2]], [[2, 1]])):
        dtype: Any = pl.Struct({"a": pl.Int64}) if isinstance(one[0], dict) else pl.List(pl.Int64)
        frames = [pl.DataFrame({"k": [1], "x": pl.Series(v, dtype=dtype)}) for v in (one, other)]
        assert lp.diff(*frames, key="k").counts["updated"] == 1, (one, other)
    nulls = pl.DataFrame({"k": [1], "x": [None]}, schema={"k": pl.Int64, "x": pl.Float64})
    assert lp.diff(nulls, pl.DataFrame({"k": [1], "x": [math.nan]}), key="k").counts["updated"] == 1


def test_a_row_with_nan_as_its_key_differs_like_any_other() -> None:
    for keys in ([math.nan], [1.0, math.nan]):  # in order, as Polars knows
        one, other = (pl.DataFrame({"k": keys, "x": [n] * len(keys)}).sort("k") for n in (1, 2))
        found = lp.diff(one, other, key="k")
        assert found.counts == {"inserted": 0, "updated": len(keys), "deleted": 0, "unchanged": 0}
        assert found.updated["_columns"].to_list() == [["x"]] * len(keys)


def test_values_that_change_places_between_columns() -> None:
    before = pl.DataFrame({"k": [1, 2], "x": [1, 2], "y": [2, 2]})
    after = before.select("k", x="y", y="x")
    assert lp.diff(before, after, key="k").updated["_columns"].to_list() == [["x", "y"]]


def test_columns_that_only_one_has_are_told_and_make_no_row_differ() -> None:
    after = BEFORE.rename({"t": "u"}).with_columns(v=pl.lit(1))
    found = lp.diff(BEFORE, after, key="k")
    assert found.counts == {"inserted": 0, "updated": 0, "deleted": 0, "unchanged": 4}
    assert (found.columns_added, found.columns_removed) == (("u", "v"), ("t",))
    assert not found.nothing
    assert str(found) == "4 unchanged, columns 'u', 'v' added, column 't' removed"
    assert found.to_frame().columns == ["_change", "_columns", "k", "x", "u", "v", "t"]


def test_columns_of_other_types_in_one_frame() -> None:
    one = pl.DataFrame({"k": [1, 2], "e": pl.Series(["p", "q"], dtype=pl.Enum(["p", "q"])), "x": [[1], [2]]})
    other = pl.DataFrame({"k": [2, 3], "e": pl.Series(["p", "r"], dtype=pl.Categorical), "x": ["a", "b"]})
    found = lp.diff(one, other, key="k", columns=["e"])
    assert lp.diff(one.drop("x"), other.drop("x"), key="k").to_frame().sort("k").rows() == [
        ("delete", None, 1, "p"),
        ("update", ["e"], 2, "p"),
        ("insert", None, 3, "r"),
    ]
    message = "the changes do not go into one frame: column 'x' is String and List(Int64); take inserted, updated and deleted by themselves"
    with pytest.raises(lp.LazypipeError, match=f"^{re.escape(message)}$"):
        found.to_frame()


def test_only_some_columns() -> None:
    found = lp.diff(BEFORE, AFTER, key="k", columns=["x"])
    assert found.updated.rows(named=True) == [{"k": 3, "before": {"x": None}, "after": {"x": 3.0}, "_columns": ["x"]}]
    assert found.inserted.columns == ["k", "x", "t"]
    keys = lp.diff(BEFORE, AFTER, key="k", columns=[])
    assert keys.counts == {"inserted": 1, "updated": 0, "deleted": 1, "unchanged": 3}
    assert keys.to_frame().height == 2


def test_other_types_are_compared_in_the_wider_one() -> None:
    before = pl.DataFrame({"k": [1, 2], "c": ["a", "b"]}, schema={"k": pl.Int32, "c": pl.Categorical})
    after = pl.DataFrame({"k": [2, 1], "c": ["b", "z"]}, schema={"k": pl.Int64, "c": pl.Enum(["z", "b"])})
    found = lp.diff(before, after, key="k")
    assert found.updated.rows(named=True) == [{"k": 1, "before": {"c": "a"}, "after": {"c": "z"}, "_columns": ["c"]}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": []}, "a difference needs a key; name the columns that identify a row"),
        ({"key": "q"}, "a has no column 'q'; known columns: k, t, x"),
        ({"key": "k", "columns": ["xx"]}, "a has no column 'xx'; did you mean 'x'?"),
    ],
)
def test_what_cannot_be_compared(options: Any, message: str) -> None:
    with pytest.raises(lp.LazypipeError) as caught:
        lp.diff(BEFORE, AFTER, **options)
    assert str(caught.value) == message


def test_types_and_names_that_cannot_be_compared() -> None:
    with pytest.raises(lp.LazypipeError) as caught:
        lp.diff(BEFORE, AFTER.with_columns(x=pl.lit("1")), key="k")
    assert str(caught.value) == (
        "column 'x' is Float64 in a and String in b, which cannot be compared; cast one of them, or leave it out with columns"
    )
    for frame, key in (
        (pl.DataFrame({"before": [1]}), "before"),
        (pl.DataFrame({"k": [1], "_columns": [1]}), "k"),
        (pl.DataFrame({"k": [1], "_change": [1]}), "k"),
    ):
        with pytest.raises(lp.LazypipeError, match="a difference has a column '.*' of its own; rename yours"):
            lp.diff(frame, frame, key=key)


def test_a_key_that_repeats_is_named() -> None:
    twice = pl.DataFrame({"k": [1, 2, 2], "j": ["a", "b", "b"], "x": [1, 2, 3]})
    with pytest.raises(lp.LazypipeError) as caught:
        lp.diff(twice.head(2), twice, key=["k", "j"])
    assert str(caught.value) == (
        "key (k = 2, j = 'b') occurs 2 times in b; name more columns in key, or make it unique"
    )
    with pytest.raises(lp.LazypipeError, match="occurs 2 times in a;"):
        lp.diff(twice, twice.head(2), key="k")
    same = pl.DataFrame({"k": [1, 1]})
    with pytest.raises(lp.LazypipeError, match=r"key \(k = 1\) occurs 2 times in a;"):
        lp.diff(same, same.head(1), key="k")
    assert lp.diff(twice, twice.reverse(), key="k").nothing


VALUE = st.none() | st.sampled_from([0.0, -0.0, 1.5, math.nan])
ROWS = st.dictionaries(
    st.none() | st.integers(0, 5), st.tuples(VALUE, st.none() | st.sampled_from(["a", "b"])), max_size=6
)


def frame(rows: dict[Any, tuple[Any, Any]], order: Any) -> pl.DataFrame:
    items = [(k, *rows[k]) for k in order(list(rows))]
    return pl.DataFrame(items, schema={"k": pl.Int64, "x": pl.Float64, "t": pl.String}, orient="row")


def plain(value: Any) -> Any:
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


@pytest.mark.parametrize(("part", "few"), [(module.PART, module._FEW), (2, 1)])
@given(before=ROWS, after=ROWS, keep=st.lists(st.integers(0, 5)), data=st.data())
def test_any_two_tables(part: int, few: int, before: Any, after: Any, keep: list[int], data: st.DataObject) -> None:
    after |= {k: before[k] for k in keep if k in before}
    order = lambda keys: data.draw(st.permutations(keys))  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PART", part)
        patch.setattr(module, "_FEW", few)
        found = lp.diff(frame(before, order), frame(after, order), key="k")
    assert set(found.inserted["k"]) == after.keys() - before.keys()
    assert set(found.deleted["k"]) == before.keys() - after.keys()
    expected = {}
    for k in before.keys() & after.keys():
        changed = [n for n, o, p in zip(("x", "t"), before[k], after[k], strict=True) if plain(o) != plain(p)]
        if changed:
            expected[k] = changed
    assert {r["k"]: r["_columns"] for r in found.updated.iter_rows(named=True)} == expected
    assert found.unchanged == len(before.keys() & after.keys()) - len(expected)


def test_more_rows_than_hashes_are_kept_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART", 2)
    monkeypatch.setattr(module, "_FEW", 1)
    before = pl.DataFrame({"k": range(9), "x": range(9)})
    after = pl.DataFrame({"k": range(1, 10), "x": [1, 2, 30, 40, 5, 6, 7, 8, 9]})
    found = lp.diff(before, after, key="k")
    assert (found.inserted["k"].to_list(), found.deleted["k"].to_list()) == ([9], [0])
    assert (sorted(found.updated["k"]), found.unchanged) == ([3, 4], 6)
    assert lp.diff(before, before, key="k").unchanged == 9


# datasets and files


def commit(dataset: Dataset, run: str, mode: str, *frames: pl.DataFrame) -> None:
    files = []
    for number, rows in enumerate(frames):
        name = f"{run}-{number}.parquet"
        Path(dataset.uri).mkdir(exist_ok=True)
        rows.write_parquet(f"{dataset.uri}/{name}")
        files.append(DataFile(name, rows.height, Path(f"{dataset.uri}/{name}").stat().st_size))
    dataset.commit(files, frames[0].schema, run=run, time=NOON, mode=mode)


@pytest.fixture
def versions(tmp_path: Path) -> str:
    dataset = Dataset(str(tmp_path / "d"))
    commit(dataset, "one", "replace", BEFORE.head(2))
    commit(dataset, "two", "append", BEFORE.tail(2))
    return dataset.uri


def test_versions_of_a_dataset_read_only_what_they_do_not_share(versions: str) -> None:
    (Path(versions) / "one-0.parquet").unlink()
    found = lp.diff((versions, 1), versions, key="k")
    assert sorted(found.inserted["t"]) == ["c", "d"]
    assert found.counts == {"inserted": 2, "updated": 0, "deleted": 0, "unchanged": 2}
    assert lp.diff((versions, 2), versions, key="k").counts["unchanged"] == 4


def test_a_version_is_named_as_on_the_command_line(versions: str, tmp_path: Path) -> None:
    assert lp.diff(f"{versions}@1", f"{versions}@2", key="k").counts == lp.diff((versions, 1), versions, key="k").counts
    odd = Dataset(tmp_path / "load@2")  # a dataset that is called so
    commit(odd, "one", "replace", AFTER)
    assert lp.diff(odd.uri, AFTER, key="k").nothing
    with pytest.raises(lp.LazypipeError, match="load@x"):
        lp.diff(f"{tmp_path}/load@x", AFTER, key="k")


def test_a_repeated_key_names_the_version(versions: str) -> None:
    commit(Dataset(versions), "three", "replace", pl.concat([BEFORE, BEFORE]))
    with pytest.raises(lp.LazypipeError, match=f"occurs 2 times in b \\({versions} version 3\\)"):
        lp.diff(BEFORE.head(1), versions, key="k")


def test_a_dataset_against_a_frame_and_files(versions: str, tmp_path: Path) -> None:
    AFTER.write_csv(tmp_path / "b.csv")
    expected = lp.diff(BEFORE, AFTER, key="k")
    for a, b in ((versions, AFTER), (versions, str(tmp_path / "*.csv")), (lp.scan(versions), AFTER)):
        found = lp.diff(a, b, key="k")
        assert found.counts == expected.counts
        assert found.inserted.rows() == expected.inserted.rows()
    for unknown in ((versions, 7), f"{versions}@7"):
        with pytest.raises(lp.StorageError, match="there is no version 7"):
            lp.diff(unknown, AFTER, key="k")
    with pytest.raises(lp.SourceError, match="there is no such file"):
        lp.diff(AFTER, str(tmp_path / "none.csv"), key="k")


def test_odd_values_as_json() -> None:
    before = pl.DataFrame({"k": [1], "d": [date(2024, 1, 1)], "m": [Decimal("1.10")]})
    found = lp.diff(before, before.with_columns(d=pl.lit(date(2024, 1, 2))), key="k").to_dict()
    assert found["changes"] == [
        {
            "change": "update",
            "k": 1,
            "before": {"d": date(2024, 1, 1), "m": Decimal("1.10")},
            "after": {"d": date(2024, 1, 2), "m": Decimal("1.10")},
            "_columns": ["d"],
        }
    ]


def test_the_command_line(versions: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", f"{versions}@1", versions, "--key", "k"]) == 0
    assert capsys.readouterr().out.startswith("**2 inserted, 2 unchanged**\n")
    assert main(["diff", versions, f"{versions}@1", "--key", "k", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["deleted"], told["inserted"], told["key"]) == (2, 0, ["k"])
    assert sorted(c["row"]["t"] for c in told["changes"]) == ["c", "d"]
    assert main(["diff", versions, versions, "--key", "q"]) == 2
    assert "has no column 'q'" in capsys.readouterr().err


def test_tables_that_cannot_be_read(tmp_path: Path) -> None:
    whole = str(tmp_path / "whole.parquet")
    pl.DataFrame({"k": list(range(1000)), "x": list(range(1000))}).write_parquet(whole)
    data = bytearray(Path(whole).read_bytes())
    data[4:40] = b"x" * 36
    (tmp_path / "torn.parquet").write_bytes(data)
    with pytest.raises(
        lp.LazypipeError, match="^the tables cannot be compared: .*; check that each of them can be read completely"
    ):
        lp.diff(whole, str(tmp_path / "torn.parquet"), key="k")
    with pytest.raises(lp.LazypipeError, match="^the format of '.*x.weird' is not known from its name; add format"):
        lp.diff(whole, str(tmp_path / "x.weird"), key="k")


def test_rows_of_units_that_went_from_a_file_that_stays(tmp_path: Path) -> None:
    dataset = Dataset(str(tmp_path / "d"))
    rows = pl.DataFrame({"k": [1, 2, 3]})
    written = DatasetSink(dataset.uri, "r1-001").write(
        rows.lazy().with_columns(pl.Series(UNIT, [10, 10, 11], dtype=pl.UInt64))
    )
    files = count_units(dataset.uri, written.files)
    dataset.commit(files, rows.schema, run="r1", time=NOON, tagged=True)
    more = DatasetSink(dataset.uri, "r2-001").write(
        pl.LazyFrame({"k": [3]}).with_columns(pl.lit(12, pl.UInt64).alias(UNIT))
    )
    files = count_units(dataset.uri, more.files)
    dataset.commit(files, rows.schema, run="r2", time=NOON, mode="change", tagged=True, gone=[11])
    found = lp.diff((dataset.uri, 1), (dataset.uri, 2), key="k")
    assert found.counts == {"inserted": 0, "updated": 0, "deleted": 0, "unchanged": 3}
    dataset.commit((), rows.schema, run="r3", time=NOON, mode="change", tagged=True, gone=[10])
    found = lp.diff((dataset.uri, 2), (dataset.uri, 3), key="k")
    assert (found.deleted.sort("k").rows(), found.counts["unchanged"]) == ([(1,), (2,)], 1)
    assert lp.diff((dataset.uri, 3), (dataset.uri, 2), key="k").inserted.height == 2


@pytest.mark.parametrize("by_hash", [False, True])
def test_tables_of_thousands_of_columns(monkeypatch: pytest.MonkeyPatch, by_hash: bool) -> None:
    """Their hashes are no expression as deep as there are columns: Polars' stack would not do, nor would anybody's patience."""
    if by_hash:
        monkeypatch.setattr(module, "PART", 1)
    before = pl.DataFrame({"id": [1, 2, 3], **{f"c{n}": [n, n + 1, None] for n in range(4_000)}})
    after = before.with_columns(c7=pl.Series([7, 9, None]), c3999=pl.Series([3999, 4000, 1]))
    found = lp.diff(before, after, key="id")
    assert found.counts == {"inserted": 0, "updated": 2, "deleted": 0, "unchanged": 1}
    assert dict(found.updated.select("id", "_columns").rows()) == {2: ["c7"], 3: ["c3999"]}


@pytest.mark.parametrize("name", ["*", "^a$"])
def test_names_that_are_patterns(name: str) -> None:
    frame = pl.DataFrame({"k": [1, 2], "x": [1, 2], name: [3, 4]})
    for how in ({"key": "k"}, {"key": name}, {"key": "k", "columns": [name]}):
        with pytest.raises(lp.LazypipeError) as caught:
            lp.diff(frame, frame, **how)
        told = f"column {name!r} would be read as a pattern of names; rename it, or leave it out with columns"
        assert str(caught.value) == told
    found = lp.diff(frame, frame.with_columns(x=pl.lit(1)), key="k", columns=["x"])
    assert found.counts == {"inserted": 0, "updated": 1, "deleted": 0, "unchanged": 1}
