"""What every operation must be and do; a new operation is tested by being there, with the example of its docstring."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import sys
import types
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import jsonschema
import polars as pl
import pytest

from lazypipe import ops
from lazypipe.ops import Operation, Scope, Table
from lazypipe.spec.arguments import Kind
from lazypipe.spec.model import Fault, Step, freeze, thaw

MODULE = types.ModuleType("lazypipe_contract_functions")
MODULE.half = lambda frame, *, other=None, n=2: frame.select(pl.col("v") // n)  # type: ignore[attr-defined]
sys.modules[MODULE.__name__] = MODULE

FRAME = pl.LazyFrame(
    {
        "k": ["a", "b", None, "a", "c", "b"],
        "t": [3, 1, 2, None, 5, 4],
        "v": [1, None, 3, 4, 5, 5],
        "s": ["x", "y", None, "z", "x", "1"],
        "l": [[1, 2], [], None, [3], [None], [4]],
        "u": [{"p": 1, "q": "a"}, None, {"p": None, "q": "b"}, {"p": 2, "q": "c"}, {"p": 3, "q": None}, None],
        "at": [
            datetime(2024, 3, 30, 23, 30, tzinfo=UTC),
            None,
            *(datetime(2024, 3, 31, h, 30, tzinfo=UTC) for h in (0, 1, 1, 4)),
        ],
    }
)
OTHER = pl.LazyFrame(
    {
        "k": ["a", "d", None],
        "t": [1, 4, None],
        "v": [7, 8, 9],
        "w": [1.5, None, 2.5],
        "at": [datetime(2024, 3, 31, 1, m, tzinfo=UTC) for m in (0, 31)] + [None],
    }
)

# more than the docstrings show: the long forms, with every argument
MORE: dict[str, list[Any]] = {
    "aggregate": [
        {"by": ["k", "s"], "aggregate": {"n": "count(*)", "sum": "sum(v)"}},
        {"aggregate": {"n": "count(v)"}},
    ],
    "asof_join": [
        {"with": "other", "on": "t", "strategy": "nearest", "tolerance": 2, "suffix": "_o", "allowed_lateness": "1h"},
        {"with": "other", "left_on": "t", "right_on": "t", "by": "k", "strategy": "forward"},
        {"with": "other", "on": "t", "left_by": "k", "right_by": "k", "columns": {"t": "near"}},
    ],
    "cast": [{"v": "Float64", "t": "String"}, {"columns": {"s": "Int64"}, "on_error": "null"}],
    "closed": [
        {"end": "at", "after": ["1h", "30m"]},
        {"end": "at", "keep": "1d", "open": True},
        {
            "start": "at",
            "end": "at",
            "expect": {"rows": 2, "values": {"k": ["a"], "v": 1}},
            "on_partial": "emit",
            "deadline": "1h",
            "partial": "p",
        },
    ],
    "derive": [{"w": "v + t", "v": "coalesce(v, 0)"}],
    "distinct": [
        {"columns": ["k"], "keep": "first", "order_by": ["v DESC", "t"]},
        {"columns": "k", "keep": "none"},
        {},
    ],
    "drop": [["l", "u"]],
    "explode": [["l"]],
    "fill": [
        {"columns": ["v", "t"], "value": 0},
        {"columns": ["v"], "strategy": "backward", "order_by": ["t DESC", "v"], "by": ["k"]},
    ],
    "filter": ["v > 1 AND s IS NOT NULL"],
    "interval_join": [
        {
            "with": "other",
            "time": "at",
            "within": ["-1h", "45m"],
            "by": "k",
            "how": "left",
            "suffix": "_o",
            "allowed_lateness": "2h",
        },
        {"with": "other", "left_time": "at", "right_time": "at", "within": ["0s", "2h"], "columns": {"w": "v"}},
        {"with": "other", "time": "at", "within": ["-1d", "1d"], "left_by": "s", "right_by": "k", "columns": ["w"]},
    ],
    "join": [
        {"with": "other", "on": "k", "how": how, "nulls_equal": True, "suffix": "_o"}
        for how in ("inner", "left", "right", "full", "semi", "anti")
    ]
    + [
        {"with": "other", "left_on": ["k"], "right_on": ["k"], "how": "right", "columns": {"k": "k2", "w": "w"}},
        {"with": "other", "how": "cross", "columns": ["w"]},
        {"with": "other", "on": "k", "validate": "m:1"},
    ],
    "limit": [{"rows": 2, "offset": 1}],
    "over": [
        {"columns": {"m": "max(v)"}, "by": ["k"], "order_by": ["t DESC"]},
        {"columns": {"m": "sum(v)"}, "by": "k"},
    ],
    "pivot": [{"on": "s", "into": ["x", "y"], "values": "v", "index": ["k"], "aggregate": "sum"}],
    "python": [
        {"call": f"{MODULE.__name__}:half", "with": ["other"], "arguments": {"n": 3}},
        f"{MODULE.__name__}:half",
        {"call": f"{MODULE.__name__}:half", "incremental": "rows"},
    ],
    "rank": [{"as": "r", "order_by": ["v DESC NULLS FIRST", "t", "s"], "by": ["k"], "method": "dense"}],
    "rename": [{"k": "t", "t": "k"}],
    "sample": [{"fraction": 0.5, "seed": 3, "by": ["k"]}, {"rows": 3}],
    "select": [["v", "k"], {"one": "1", "m": "max(v)", "v": "v"}],
    "session": [
        {"time": "at", "gap": "1h", "aggregate": {"n": "count(*)", "sum": "sum(v)"}},
        {
            "time": "at",
            "gap": "90m",
            "max_length": "2h",
            "by": ["k", "v"],
            "allowed_lateness": "1d",
            "aggregate": {"m": "median(t)"},
        },
    ],
    "sort": [["k DESC NULLS FIRST", "t"]],
    "sql": ["SELECT k, count(*) AS n FROM self GROUP BY k", "SELECT o.w FROM self JOIN other o ON self.k = o.k"],
    "union": [{"with": ["other", "other"], "missing": "fill"}],
    "unnest": [{"columns": ["u"], "separator": "."}],
    "window": [
        {"time": "at", "every": "1h", "aggregate": {"n": "count(*)", "sum": "sum(v)"}},
        {
            "time": "at",
            "every": "1h",
            "period": "90m",
            "offset": "10m",
            "by": "k",
            "allowed_lateness": "2h",
            "aggregate": {"m": "max(t)"},
        },
        {"time": "at", "every": "1h", "period": "24h", "aggregate": {"m": "median(v)"}},
        {"time": "at", "every": ["1d", "1mo", "all"], "time_zone": "Europe/Berlin", "aggregate": {"m": "avg(v)"}},
    ],
    "unpivot": [{"columns": ["t", "v"], "index": ["k"], "name_to": "n", "value_to": "x"}],
}


@dataclasses.dataclass
class Example:
    step: Step
    frame: pl.LazyFrame
    others: Mapping[str, pl.LazyFrame]

    @property
    def operation(self) -> Operation:
        return ops.operation(self.step)

    def lower(self, wrap: Any = lambda frame: frame, tables: Any = dict) -> pl.LazyFrame:
        others = {n: Table(wrap(f), f.collect_schema()) for n, f in self.others.items()}
        modules = frozenset([MODULE.__name__])
        scope = Scope(type(self.operation), self.step, tables(others), modules=modules)
        return self.operation.lower(Table(wrap(self.frame), self.frame.collect_schema()), scope)


def documented(name: str) -> Iterator[Example]:
    """Catch the calls of lp.apply in the docstring's examples."""
    found: list[Example] = []

    def caught(step: Any, frame: pl.LazyFrame, **others: pl.LazyFrame) -> pl.LazyFrame:
        ((step_name, arguments),) = step.items()
        found.append(Example(Step(step_name, freeze(arguments)), frame, others))
        return frame

    names: dict[str, Any] = {"lp": types.SimpleNamespace(apply=caught), "pl": pl}
    for example in doctest.DocTestParser().get_examples(ops.operation_class(name).__doc__ or ""):
        if "import" not in example.source:
            with suppress(Exception):
                exec(example.source, names)
    return iter(found)


def examples(name: str) -> list[Example]:
    more = [Example(Step(name, freeze(a)), FRAME, {"other": OTHER}) for a in MORE.get(name, [])]
    return [*(e for e in documented(name) if name != "python"), *more]


def bag(frame: pl.DataFrame) -> Counter[str]:
    return Counter(map(repr, frame.rows()))


class DataRead(Exception):
    pass


def raising(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Return a source of the same schema that cannot be read."""

    def read() -> pl.LazyFrame:
        raise DataRead

    return pl.defer(read, schema=frame.collect_schema())


def emptied(frame: pl.LazyFrame) -> pl.LazyFrame:
    return pl.LazyFrame(schema=frame.collect_schema())


@pytest.mark.parametrize("name", ops.names())
class TestOperation:
    def test_its_module_holds_exactly_it(self, name: str) -> None:
        module = importlib.import_module(f"lazypipe.ops.{name}")
        classes = [
            v
            for v in vars(module).values()
            if isinstance(v, type) and issubclass(v, Operation) and v.__module__ == module.__name__
        ]
        assert [c.name for c in classes] == [name]
        assert ops.operation_class(name) is classes[0]

    def test_is_a_frozen_value(self, name: str) -> None:
        for example in examples(name):
            one, same = example.operation, example.operation
            assert one is not same
            assert one == same
            assert hash(one) == hash(same)
            field = dataclasses.fields(one)[0].name
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(one, field, None)

    def test_different_arguments_are_different_values(self, name: str) -> None:
        values = [e.operation for e in examples(name)]
        assert len(set(values)) == len({repr(v) for v in values})

    def test_is_documented(self, name: str) -> None:
        cls = ops.operation_class(name)
        assert "Examples\n--------\n>>> " in (inspect.getdoc(cls) or "")
        assert list(documented(name)), "the docstring shows no lp.apply"
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        for field in fields:
            assert isinstance(field.metadata["kind"], Kind)
            assert field.metadata["doc"].endswith(".")

    def test_goes_to_a_step_and_back(self, name: str) -> None:
        for example in examples(name):
            step = example.operation.to_step()
            assert step.name == name
            assert type(example.operation).from_step(step) == example.operation

    def test_its_schema_accepts_it_and_refuses_what_it_does_not_know(self, name: str) -> None:
        validator = jsonschema.Draft202012Validator(ops.operation_class(name).json_schema())
        for example in examples(name):
            written = thaw(example.step.arguments)
            assert list(validator.iter_errors(written)) == []
            operation = example.operation
            named = {
                f.name.rstrip("_"): thaw(getattr(operation, f.name))
                for f in dataclasses.fields(operation)
                if getattr(operation, f.name) != f.default
            }
            if len(dataclasses.fields(operation)) > 1:
                assert list(validator.iter_errors(named)) == []
            assert list(validator.iter_errors({**named, "no_such_argument": 1})) != []

    def test_lowering_reads_nothing(self, name: str) -> None:
        for example in examples(name):
            lowered = example.lower(raising)
            assert lowered.collect_schema() == example.lower().collect_schema()
            with pytest.raises(DataRead):
                lowered.collect()

    def test_lowering_is_pure(self, name: str) -> None:
        for example in examples(name):
            assert example.lower().explain(optimized=False) == example.lower().explain(optimized=False)

    def test_schema_is_that_of_the_result(self, name: str) -> None:
        for example in examples(name):
            lowered = example.lower()
            assert lowered.collect_schema() == lowered.collect().schema == lowered.collect(engine="streaming").schema

    def test_nothing_gives_nothing(self, name: str) -> None:
        for example in examples(name):
            schema = example.lower().collect_schema()
            for engine in ("in-memory", "streaming"):
                result = example.lower(emptied).collect(engine=engine)
                assert result.schema == schema
                total = (name == "aggregate" and not example.operation.by) or (  # type: ignore[attr-defined]
                    name == "sql"
                    and "GROUP" not in str(example.step.arguments)
                    and "sum" in str(example.step.arguments)
                )
                assert result.height == (1 if total else 0)

    def test_asks_only_for_its_inputs(self, name: str) -> None:
        asked: set[str] = set()

        class Spy(dict[str, Table]):
            def __getitem__(self, key: str) -> Table:
                asked.add(key)
                return super().__getitem__(key)

            def items(self) -> Any:
                assert name == "sql", "only sql sees all inputs of its stage"
                return super().items()

        for example in examples(name):
            asked.clear()
            example.lower(tables=Spy)
            assert asked == set(example.operation.inputs())

    def test_does_not_multiply_rows_without_saying_so(self, name: str) -> None:
        for example in examples(name):
            read = [example.frame, *(example.others[n] for n in example.operation.inputs())]
            came = sum(f.select(pl.len()).collect().item() for f in read)
            if not example.operation.multiplies():
                assert example.lower().collect().height <= came

    def test_engines_agree(self, name: str) -> None:
        for example in examples(name):
            lowered = example.lower()
            assert bag(lowered.collect()) == bag(lowered.collect(engine="streaming"))


def test_every_argument_of_every_operation_stands_in_an_example() -> None:
    for name in ops.names():
        shown = {
            f.name for e in examples(name) for f in dataclasses.fields(e.operation)
            if getattr(e.operation, f.name) != f.default
        }  # fmt: skip
        missing = {f.name for f in dataclasses.fields(ops.operation_class(name))} - shown  # type: ignore[arg-type]
        # what the stages of a pipeline are made of is no argument of a step alone
        closing = {"expect", "on_partial", "deadline", "partial"} if name == "window" else set()
        # examples are whole by themselves: none reads a file
        beside = {"file"} if name == "sql" else set()
        assert missing <= {"nulls_equal", "late", "watermark", "emit", "keep_results", *closing, *beside}, name


def test_an_unknown_operation_is_told_with_the_nearest_name() -> None:
    with pytest.raises(Fault) as caught:
        ops.operation(Step("fliter", "v > 1", ("do", 0)))
    assert (caught.value.what, caught.value.fix) == ("unknown operation 'fliter'", "did you mean 'filter'?")
    assert caught.value.path == ("do", 0, "fliter")
    for name in ("base", "__init__", "", "base.Operation"):
        with pytest.raises(KeyError):
            ops.operation_class(name)
