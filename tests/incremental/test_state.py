"""What was consumed comes back as it was, is small, and says what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.errors import StorageError
from lazypipe.incremental.state import Columns, Consumed, ConsumedFile, State
from lazypipe.spec.model import freeze
from lazypipe.storage.local_files import Names

TEXT = st.text(st.characters(exclude_categories=[]), min_size=1, max_size=8)
FILE = st.builds(
    ConsumedFile,
    TEXT,
    st.none() | st.integers(0, 2**60),
    st.none() | TEXT,
    st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
)
CONSUMED = st.builds(
    Consumed,
    st.sampled_from(["files", "dataset"]),
    st.lists(FILE, max_size=4, unique_by=lambda f: f.uri).map(tuple),
    uri=st.none() | TEXT,
    version=st.none() | st.integers(1, 9),
    listed=st.none() | st.integers(0, 2**62),
)


@given(st.dictionaries(TEXT, CONSUMED, max_size=3))
def test_any_state_comes_back_through_json(sources: dict[str, Consumed]) -> None:
    state = State(sources)
    assert State.from_dict(json.loads(json.dumps(state.to_dict()))) == state


def test_what_a_commit_says_besides_is_plain_data() -> None:
    made = State({"a": Consumed("dataset", at=freeze({"topic": {"0": 5, "1": [1, 2]}}))})
    back = State.from_dict(json.loads(json.dumps(made.to_dict())))
    assert back == made
    assert back.sources["a"].at["topic"]["1"] == (1, 2)
    hash(back.sources["a"])


def test_what_it_looks_like() -> None:
    files = (ConsumedFile("s3://b/x/1.csv", 5, "s", "h1"), ConsumedFile("s3://b/x/y/2.csv", None, None, None))
    assert State({"a": Consumed("files", files, listed=7)}).to_dict() == {
        "format": 2,
        "sources": {
            "a": {
                "kind": "files",
                "listed": 7,
                "prefix": "s3://b/x/",
                "names": ["1.csv", "y/2.csv"],
                "sizes": [5, None],
                "stamps": ["s", None],
                "blake3": ["h1", "-"],
            }
        },
    }
    assert Consumed("dataset", (ConsumedFile("a", 1),), "out", 3).to_dict() == {
        "kind": "dataset",
        "uri": "out",
        "version": 3,
        "prefix": "",
        "names": ["a"],
        "sizes": [1],
    }


def test_ten_thousand_files_are_small() -> None:
    files = tuple(
        ConsumedFile(f"s3://bucket/some/where/far/below/day={n % 30:02}/part-{n:06}.parquet", 36_000 + n, str(10**18 + n), "ab" * 32)
        for n in range(10_000)
    )  # fmt: skip
    state = State({"a": Consumed("files", files, listed=1)})
    text = json.dumps(state.to_dict())
    assert len(text) < 1_300_000
    assert State.from_dict(json.loads(text)) == state


def test_stamps_that_are_moments_are_numbers_and_others_stay_texts() -> None:
    moments = Consumed("files", tuple(ConsumedFile(n, 1, str(10**18 + 7)) for n in "ab"))
    assert moments.to_dict()["stamps"] == [10**18 + 7] * 2
    for odd in (None, "0" + "1" * 18, "1" * 18, "٣" * 19, "e" * 19):
        mixed = Consumed("files", (ConsumedFile("a", 1, str(10**18)), ConsumedFile("b", 1, odd)))
        assert mixed.to_dict()["stamps"] == [str(10**18), odd]
        assert Consumed.from_dict(json.loads(json.dumps(mixed.to_dict()))) == mixed
    assert Consumed.from_dict(json.loads(json.dumps(moments.to_dict()))) == moments


def test_what_format_1_said_is_read() -> None:
    plain = {"prefix": "x/", "names": ["a", "b"], "sizes": [1, 2], "stamps": [str(10**18), None], "blake3": "h -"}
    state = State.from_dict({"format": 1, "sources": {"s": {"kind": "files", **plain}}})
    assert [*state.sources["s"].files] == [ConsumedFile("x/a", 1, str(10**18), "h"), ConsumedFile("x/b", 2)]


def test_a_newer_format_is_refused() -> None:
    with pytest.raises(StorageError) as caught:
        State.from_dict({"format": 3, "positions": []}, uri="out")
    assert str(caught.value) == (
        "out: what the output has consumed is kept in format 3, this lazypipe reads up to 2; "
        "upgrade lazypipe, or run once in full, which rewrites it"
    )


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"format": "1", "sources": {}},
        {"format": 1},
        {"format": 1, "sources": []},
        {"format": 1, "sources": {"a": {}}},
        {"format": 1, "sources": {"a": {"kind": "tape"}}},
        {"format": 1, "sources": {"a": {"kind": "files", "names": ["a"]}}},
        {"format": 1, "sources": {"a": {"kind": "files", "prefix": "", "names": ["a", "b"], "sizes": [1]}}},
        {"format": 1, "sources": {"a": {"kind": "files", "prefix": "", "names": ["a"], "sizes": [1], "blake3": 7}}},
    ],
)
def test_what_is_damaged_is_refused(plain: Any) -> None:
    with pytest.raises(
        StorageError, match="out: the record of what the output has consumed is damaged; run once in full"
    ) as caught:
        State.from_dict(plain, uri="out")
    assert caught.value.uri == "out"


def test_files_that_are_kept_as_columns() -> None:
    files = (ConsumedFile("d/a", 1, "s", None), ConsumedFile("d/b", None, None, "h"))
    kept = Columns("d/", ["a", "b"], [1, None], ["s", None], ["-", "h"])
    assert (len(kept), kept[1], kept[:1], tuple(kept)) == (2, files[1], files[:1], files)
    assert kept == files
    assert kept == Columns("", ["d/a", "d/b"], [1, None], ["s", None], ["-", "h"])
    assert kept != files[:1]
    assert kept != [*files]
    assert hash(kept) == hash(files)
    sizes, stamps = (1, None), ("s", None)
    same = [Names("d/", ["a", "b"]), Names("", ["d/a", "d/b"]), Names("d", ["/a", "/b"])]
    assert all(kept.are(names, sizes, stamps) for names in same)
    others = [Names("d/", ["a", "c"]), Names("e/", ["a", "b"]), Names("", ["a", "b"])]
    assert not any(kept.are(names, sizes, stamps) for names in others)
    assert not kept.are(same[0], (2, None), stamps)
    assert not kept.are(same[0], sizes, ("t", None))
    assert not kept.are(Names("d/", ["a"]), (1,), ("s",))


@pytest.mark.parametrize(
    "change", [{"sizes": [1]}, {"stamps": ["1"]}, {"blake3": "h"}, {"names": [1, 2]}, {"prefix": None}]
)
def test_columns_that_do_not_fit_together_are_damage(change: dict[str, Any]) -> None:
    files = (ConsumedFile("d/a", 1, "1", "h1"), ConsumedFile("d/b", 2, "2", "h2"))
    plain = State({"a": Consumed("files", files)}).to_dict()
    plain["sources"]["a"] |= change
    with pytest.raises(StorageError, match="the record of what the output has consumed is damaged"):
        State.from_dict(plain)
