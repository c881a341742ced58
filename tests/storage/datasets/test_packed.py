"""Long lists as one text: whatever plain data goes in comes back, value by value and type by type."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.storage.datasets.packed import pack, unpack

VALUES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=4)
PLAIN = st.recursive(
    VALUES
    | st.integers(0, 2**64 - 1).map(lambda n: [n, n // 2] * 200)
    | st.integers().map(lambda n: [*range(n, n + 300)])
    | st.text(max_size=3).map(lambda t: [t] * 300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def exact(plain: Any) -> str:
    return json.dumps(plain)  # tells 1, 1.0 and true apart, and keeps the order of keys


@given(PLAIN)
def test_anything_comes_back_through_json(plain: Any) -> None:
    assert exact(unpack(json.loads(json.dumps(pack(plain))))) == exact(plain)


@pytest.mark.parametrize(
    ("values", "packed"),
    [
        ([0, 2**64 - 1] * 128, True),
        ([0, 2**64] * 128, False),
        ([254, 255] * 128, True),
        ([255, 256] * 128, True),
        ([65_535, 65_536] * 128, True),
        ([2**32 - 1, 2**32] * 128, True),
        ([0, -1] * 128, False),
        ([0, True] * 128, False),
        ([0, None] * 128, False),
        ([0, 1.0] * 128, False),
        ([1] * 255, False),
        (["", "a", "ü", "\udcff", "\0", "\r"] * 50, True),
        (["a", "b\nc"] * 128, False),
        (["a", 1] * 128, False),
        ([[1, 2]] * 256, False),
        ([[7] * 256] * 2, True),
        ([*range(-5, 300)], True),
        ([*range(2**64 - 128, 2**64 + 128)], True),
        ([*range(255), 255.0], False),
        ([False, *range(1, 300)], False),
    ],
)
def test_only_long_lists_of_texts_or_of_whole_numbers_are_packed(values: list[Any], packed: bool) -> None:
    written = json.dumps(pack({"a": [{"b": values}]}))
    assert any(f"\\u0000{kind}" in written for kind in ("texts", "numbers", "range")) is packed
    assert exact(unpack(json.loads(written))) == exact({"a": [{"b": values}]})
    assert len(written) < len(json.dumps(values)) + 40


def test_tuples_are_lists_as_in_json() -> None:
    assert pack({"few": (1, (2,))}) == {"few": [1, [2]]}
    assert unpack(pack(tuple(range(300)))) == list(range(300))
