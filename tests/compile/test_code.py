"""The code of functions as a hash: what changes it, and what does not."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import lazypipe as lp
from lazypipe.compile.code import code_of
from lazypipe.plan.fingerprint import Changes, Fingerprint

MODULE = """
import functools
import math
import polars as pl
import helper

FACTOR = 2
KNOWN = {"a", "b", "c"}
TABLE = pl.DataFrame({"k": [1]})
SERIES = pl.Series([1])
LAZY = pl.LazyFrame({"k": [1]})
EXPR = pl.col("a") + 1

class Base:
    def up(self, x):
        return x + 1

class Kind(Base):
    '''What it is.'''
    unit = 1
    @staticmethod
    def one(x):
        return x + 1
    @classmethod
    def two(cls, x):
        return x + 2
    @property
    def three(self):
        return 3
    def __call__(self, x):
        return x + 4

class Slots:
    __slots__ = ("a",)
    def __init__(self):
        self.a = 1

THING = Kind()
THING.more = 5
SLOTS = Slots()

def deeper(x):
    return x * FACTOR

def again(n):
    return again(n - 1) if n else deeper(n)

@functools.cache
def kept(x):
    return x + 6

def function(frame, least=1, *, most=2):
    def inner(row):
        return row if row in {"x", "y"} else 7
    part = functools.partial(deeper, 8)
    helper.helped(1)
    return (deeper, again, kept, Kind, THING, SLOTS, TABLE, SERIES, LAZY, EXPR, KNOWN, part, inner, math.sqrt, pl.col, THING.up)

method = THING.up
bound = functools.partial(deeper, 8, y=9)
builtin = functools.partial(math.sqrt)
"""
HELPER = "def helped(x):\n    return x + 10\n"
OTHER_SEED = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
"""Of hashes, in another process than this one."""


def hashed(module: str = MODULE, helper: str = HELPER, names: str = "function") -> list[str]:
    """Hash functions of a module that is made anew."""
    made = {n: types.ModuleType(n) for n in ("helper", "mine")}
    with pytest.MonkeyPatch.context() as patch:
        for name, text in (("helper", helper), ("mine", module)):
            patch.setitem(sys.modules, name, made[name])
            exec(compile(text, name, "exec", dont_inherit=True), vars(made[name]))
        return [code_of(getattr(made["mine"], n)) for n in names.split()]


EDITS = {
    "FACTOR = 2": "FACTOR = 3", '{"a", "b"': '{"a", "z"', '"k": [1]})\nSERIES': '"k": [2]})\nSERIES', "Series([1": "Series([2",
    '"k": [1]})\nEXPR': '"k": [2]})\nEXPR', '"a") + 1': '"a") + 2', "self, x):\n        return x + 1": "self, x):\n        return x + 2",
    "unit = 1": "unit = 2", "def one(x):\n        return x + 1": "def one(x):\n        return x + 2", "x + 2": "x + 3", "return 3": "return 4",
    "x + 4": "x + 5", "more = 5": "more = 6", "self.a = 1": "self.a = 2", "n - 1": "n - 2", "x + 6": "x + 7", "least=1": "least=2",
    "most=2": "most=3", '"x", "y"': '"x", "z"', "else 7": "else 8", "deeper, 8)\n    helper": "deeper, 9)\n    helper",
    "math.sqrt, pl": "math.sin, pl", "pl.col,": "pl.lit,",
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_code_is_followed_into_whatever_it_refers_to(edit: str) -> None:
    assert edit in MODULE
    assert hashed(MODULE.replace(edit, EDITS[edit])) != hashed()


def test_code_of_other_modules_counts_and_comments_do_not() -> None:
    assert hashed(helper=HELPER.replace("10", "11")) != hashed()
    assert hashed("# a comment\n\n" + MODULE.replace("def deeper(x):", "def deeper(x):  # doubles")) == hashed()


def test_methods_and_what_is_called_in_part_are_followed_too() -> None:
    before = hashed(names="method bound builtin")
    edits = [("more = 5", "more = 6"), ("y=9", "y=8"), ("partial(math.sqrt)", "partial(math.sin)")]
    after = [hashed(MODULE.replace(*edit), names="method bound builtin") for edit in edits]
    assert [[b != a for b, a in zip(before, found, strict=True)] for found in after] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


def test_it_is_the_same_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "helper.py").write_text(HELPER)
    code = "import mine; from lazypipe.compile.code import code_of; print(code_of(mine.function))"
    env = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONHASHSEED": OTHER_SEED, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.split() == hashed()


def test_what_cannot_be_pickled_is_what_it_shows() -> None:
    locks = [threading.Lock(), threading.Lock()]
    assert len({code_of(functools.partial(max, lock)) for lock in locks}) == 1
    assert code_of(functools.partial(max, locks[0])) != code_of(functools.partial(max, threading.RLock()))


def test_functions_of_the_engine_are_known_by_their_names() -> None:
    assert code_of(pl.concat) != code_of(pl.collect_all)
    assert code_of(functools.partial(pl.concat, how="vertical")) != code_of(
        functools.partial(pl.concat, how="diagonal")
    )


def opaque(number: int) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
    def added(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.with_columns(v=pl.col("id") + number)

    return lambda frame: frame.map_batches(added, schema={"id": pl.Int64, "v": pl.Int64})


def seen(values: list[int], add: int) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
    return lambda frame: frame.join(pl.LazyFrame({"id": values}), on="id").with_columns(v=pl.col("id") + add)


def _passed_on(function: Callable[[pl.LazyFrame], pl.LazyFrame], frame: pl.LazyFrame) -> pl.LazyFrame:
    return function(frame)


def whole(function: Any, **arguments: Any) -> Fingerprint:
    built = lp.pipeline("p").source("t", "t.parquet", contract={"columns": {"id": "Int64"}})
    step = {"python": {"call": function, "arguments": arguments} if arguments else function}
    return built.stage("s", "t", do=[step]).output("s", "o").build().compile().fingerprints()["s"]


def test_a_function_that_polars_cannot_see_into_is_its_code() -> None:
    assert whole(opaque(1)) == whole(opaque(1))
    changes = whole(opaque(1)).changes(whole(opaque(2)))
    assert changes.rows
    assert changes.columns == ("id", "v")


def test_a_function_that_polars_sees_through_is_its_plan() -> None:
    assert whole(seen([1, 2], 1)) == whole(functools.partial(_passed_on, seen([1, 2], 1)))
    assert whole(seen([1, 2], 1)).changes(whole(seen([1, 2], 2))) == Changes(columns=("v",))
    assert whole(seen([1, 2], 1)).changes(whole(seen([1, 3], 1))).rows


def test_arguments_of_functions_count() -> None:
    def made(frame: pl.LazyFrame, **given: Any) -> pl.LazyFrame:
        return frame.map_batches(lambda rows: rows.head(len(given)))

    assert whole(made, a=[1, {"b": 2}]) == whole(made, a=[1, {"b": 2}])
    assert whole(made, a=[1, {"b": 2}]) != whole(made, a=[1, {"b": 3}])
    assert whole(made, a=1 + 2j) == whole(made, a=1 + 2j) != whole(made, a=1 + 3j)


def test_a_step_that_cannot_be_seen_into_is_its_arguments_and_the_parameters_they_name() -> None:
    def made(expr: Any, **params: Any) -> Fingerprint:
        contract = {"columns": {"l": "List(Int64)"}}
        built = lp.pipeline("p").param("n", "integer").param("m", "integer").source("t", "t.parquet", contract=contract)
        built = built.stage("s", "t", do=[{"derive": {"v": expr, "w": "abs(:n)"}}]).output("s", "o")
        return built.build().compile(**({"n": 1, "m": 1} | params)).fingerprints()["s"]

    one, two = (pl.col("l").list.eval(pl.element() + n) for n in (1, 2))
    assert made(one) == made(one)
    assert made(two).changes(made(one)) == Changes(columns=("v",))
    base = made("array_reverse(l)")
    assert made("array_reverse(l)", m=2) == base
    assert made("array_reverse(l)", n=2).changes(base) == Changes(columns=("v", "w"))
