"""The make of texts: what is found in common fits the texts that it was found in."""

from __future__ import annotations

import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazypipe.storage.optimizer.form_texts import Hexed, Template
from lazypipe.storage.optimizer.templates import common_prefix, find_make


@given(st.lists(st.text("ab", max_size=5), max_size=5))
def test_the_common_prefix(texts: list[str]) -> None:
    shortest = min(map(len, texts), default=0)
    alike = [n for n in range(shortest + 1) if len({t[:n] for t in texts}) == 1]
    assert common_prefix(texts) == (texts[0][: max(alike)] if texts else "")


@pytest.mark.parametrize(
    ("texts", "make"),
    [
        (["user1@x2.com", "user33@x4.com"], Template(("user", "@x", ".com"), ("number", "number"))),
        (["user1@x2.com", "user33@x2.com"], Template(("user", "@x2.com"), ("number",))),
        (["2026-01-05", "2025-11-30"], Template(("", "-", "-", ""), ("number", 2, 2))),
        (["2026-01-05", "2025-11-05"], Template(("", "-", "-05"), ("number", 2))),
        (["ID-0001", "ID-0700"], Template(("ID-", ""), (4,))),
        (["001", "12"], None),
        (["a7", "b8"], None),
        (["ann@a.org", "bob@a.org"], Template(("", "@a.org"), ("text",))),
        (["ann@x1.org", "bob@x22.org"], Template(("", "@x", ".org"), ("text", "number"))),
        (["a/b/c", "d/e"], Template(("", "/", ""), ("text", "text"))),
        (["1" + "0" * 19 + "z", "8" * 19 + "z"], Template(("", "z"), ("long",))),
        (["2" + "0" * 19 + "z", "8" * 19 + "z"], None),  # more than 64 bits
        (["0" + "1" * 18 + "z", "8" * 19 + "z"], None),
        (["some", "words"], None),
        (["same", "same"], None),
        (["same"], None),
        (["", ""], None),
        ([], None),
        (["0f8e6c1d-2b3a4958", "ffeeddcc-bbaa0099"], Hexed((8, 8))),
        (["0f8e6c1d2b3a4", "ffeeddccbbaa0"], None),  # an odd number of digits
        (["beef", "cafe"], None),  # too short to tell from words
        (["1234567812345678", "8765432187654321"], Template(("", ""), ("number",))),
        (["1" * 20, "2" * 20], Hexed((20,))),
    ],
)  # fmt: skip
def test_the_make_of_texts(texts: list[str], make: Template | Hexed | None) -> None:
    assert find_make(texts) == make


def test_a_few_texts_may_be_of_another_make() -> None:
    texts = [f"user{n}@a.org" for n in range(99)]
    assert find_make([*texts, "nobody"]) == Template(("user", "@a.org"), ("number",))
    assert find_make([*texts, *["nobody"] * 4]) is None


def test_words_in_a_row_are_of_one_make_only_if_they_come_again() -> None:
    names = [f"{first} {last}" for first in ("Ann", "Bob", "Cem") for last in ("Smith", "Jones", "Brown", "Khan")]
    assert find_make(names) == Template(("", " ", ""), ("text", "text"))
    assert find_make(["carefully final deposits", "furiously even ideas", "slyly bold pinto beans"]) is None


@given(
    st.lists(st.text("ab-@", max_size=3), min_size=2, max_size=4),
    st.lists(st.lists(st.integers(0, 999), min_size=3, max_size=3), min_size=2, max_size=8),
)
def test_texts_fit_the_make_that_was_found_in_them(pieces: list[str], numbers: list[list[int]]) -> None:
    texts = ["".join(f"{p}{n}" for p, n in zip(pieces, row, strict=False)) for row in numbers]
    make = find_make(texts)
    if isinstance(make, Template):
        assert all(re.match(make.pattern.replace("(?s)", "", 1), t, re.DOTALL) for t in texts)
        values = pl.DataFrame({"x": texts})
        split = values.select(e.alias(p) for p, e in make.split(pl.col("x"), pl.String()).items())
        back = split.select(make.join({p: pl.col(p) for p in split.columns}, pl.String()).alias("x"))
        assert back.equals(values)
