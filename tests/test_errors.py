"""The exceptions: what they say, and how they are related."""

from __future__ import annotations

import copy
import pickle

import pytest

import lazypipe as lp
from lazypipe.errors import (
    CommitConflict,
    DefinitionError,
    GateError,
    LazypipeError,
    Location,
    Problem,
    StorageError,
    first_line,
    nearest,
)
from lazypipe.spec.words import plain, plain_types


def test_the_tree_and_its_exit_codes() -> None:
    tree = {c.__name__: (c.__base__.__name__ if c.__base__ else "", c.exit_code) for c in _below(lp.LazypipeError)}
    assert tree == {
        "DefinitionError": ("LazypipeError", 2),
        "AwayError": ("DefinitionError", 3),
        "GateError": ("LazypipeError", 1),
        "RunError": ("LazypipeError", 3),
        "SourceError": ("RunError", 3),
        "StorageError": ("RunError", 3),
        "CommitConflict": ("RunError", 3),
        "Interrupted": ("RunError", 3),
    }
    assert all(hasattr(lp, name) for name in tree)


def _below(cls: type[lp.LazypipeError]) -> list[type[lp.LazypipeError]]:
    own = [c for c in cls.__subclasses__() if c.__module__ == "lazypipe.errors"]
    return [*own, *(d for c in own for d in _below(c))]


def test_problems_are_told_in_the_order_of_the_file() -> None:
    def at(line: int, column: int) -> lp.Problem:
        return lp.Problem("w", lp.Location("f", line, column), "x")

    error = lp.DefinitionError([at(10, 1), at(2, 9), lp.Problem("no place"), at(2, 10)])
    assert str(error) == "no place\nf:2:9: w; x\nf:2:10: w; x\nf:10:1: w; x"


def test_a_run_error_has_the_form_where_what_fix() -> None:
    assert str(lp.RunError("broken")) == "broken"
    assert str(lp.SourceError("broken", uri="a.csv", fix="mend it")) == "a.csv: broken; mend it"


NEAREST = [
    ("dep_tim", ["origin", "dep_time"], "did you mean 'dep_time'?"),
    ("DEP_TIME", ["dep_time"], "did you mean 'dep_time'?"),
    ("x", ["b", "a", "a"], "known columns: a, b"),
    ("x", [], "there are no columns"),
    ("x", map(str, range(100, 120)), "known columns: 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111 … (20 in all)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "known", "hint"), NEAREST)
def test_nearest(name: str, known: list[str], hint: str) -> None:
    assert nearest(name, known, "columns") == hint


def test_first_line() -> None:
    assert first_line(ValueError("\n  a\nb")) == "a"
    assert first_line(ValueError("")) == "ValueError"


WORDS = {
    "arithmetic on dtypes bool and datetime[μs, UTC] is not allowed (lhs: column 'a', rhs: column 'b'); try an explicit cast first": (
        "cannot calculate with Boolean and Datetime(us, UTC)"
    ),
    "add operation not supported for dtypes: list[str] != u8": "add is not possible for List(String) and UInt8",
    "rounding ('half_to_even') operation not supported for dtype `str` (expected: numeric)": "rounding is not possible for String",
    "| on dyn float and bool is not supported": "OR takes conditions, and these are a decimal number and Boolean",
    'conversion from `str` to `i32` failed in column \'scalar\' for 1 out of 1 values: ["x"]': '"x" cannot become Int32',
    "could not find an appropriate format to parse dates, please define a format": "the text cannot be read as a date",
    "column 'a' is duplicate": "two columns would be called 'a'",
    "what nobody knows about Duration(time_unit='ms')": "what nobody knows about Duration(ms)",
}  # fmt: skip


@pytest.mark.parametrize(("said", "what"), WORDS.items())
def test_the_words_of_the_engine_become_plain(said: str, what: str) -> None:
    assert plain(said).what == plain(f"bad SQL: {said}").what.removeprefix("bad SQL: ") == what


def test_types_are_written_as_definitions_write_them() -> None:
    said = "Struct({'a': Struct({'b': Datetime(time_unit='us', time_zone=None)}), 'c': Decimal(precision=5, scale=2)})"
    assert plain_types(said) == "Struct(a: Struct(b: Datetime(us)), c: Decimal(5, 2))"


@pytest.mark.parametrize(
    "error",
    [
        DefinitionError([Problem("no such stage", Location("p.yaml", 3, 5), "say which"), Problem("no name")]),
        StorageError("it is gone", uri="out/a", fix="restore it"),
        CommitConflict("another run was first"),
        GateError("2 rows fail"),
    ],
)
def test_errors_come_out_of_other_processes_as_they_were(error: LazypipeError) -> None:
    for made in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(made), str(made), made.args, made.__dict__) == (
            type(error),
            str(error),
            error.args,
            error.__dict__,
        )
