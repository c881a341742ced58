"""The page that lists every key of a definition, every operation and every rule: its arguments, as the JSON Schema describes them, and its example."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from lazypipe import gates, ops
from lazypipe.spec.arguments import Arguments
from lazypipe.spec.loader import dump

__all__ = ["reference"]

_COMMON = (
    "action",
    "where",
    "max_failures",
    "warn_above",
    "fail_above",
    "repair",
    "id",
    "description",
    "tags",
    "owner",
)
"""Arguments that every rule has: listed once."""

_HEAD = """\
# Reference

Every key of a definition, every operation and every rule. Where an operation or rule needs only its main argument, the name may be left out:
`filter: amount > 0` is short for `filter: {condition: amount > 0}`.

Each operation and rule has an example: first as it stands in a definition, below `do` or `gate`, then over a few rows in Python. All of them run as tests, after

```python
>>> import lazypipe as lp
>>> import polars as pl

```

Editors read the same descriptions from the JSON Schema (`lazypipe schema`). `python -m lazypipe.compile.json_schema` writes this page from it and from the docstrings.
"""

_IMPORTED = (">>> import lazypipe as lp", ">>> import polars as pl")
"""What the page imports once, and each docstring for itself."""


def reference(schema: Mapping[str, Any]) -> str:
    """Return the page, in Markdown.

    Examples
    --------
    >>> from lazypipe.compile.json_schema import build
    >>> page = reference(build())
    >>> [line for line in page.splitlines() if line.startswith("- `left_by`")][0]
    '- `left_by`: The columns of this side that must equal those in right_by.'
    """
    kinds = schema["$defs"]
    parts = [_HEAD, "## The definition\n", *_keys(schema)]
    for name in ("source", "stage", "output", "param"):
        parts += [f"\n## {name.capitalize()}s\n", *_keys(kinds[name])]
    parts += ["\n## Operations"]
    for name, one in _choices(kinds["operation"]):
        parts += [f"\n### {name}\n", one["description"], "", *_keys(one), *_example(ops.operation_class(name))]
    rules = dict(_choices(kinds["rule"]))
    some = _long_form(next(iter(rules.values())))["properties"]
    common = {"properties": {n: some[n] for n in _COMMON if n in some}}
    parts += ["\n## Rules\n", "Every rule takes these arguments besides its own:\n", *_keys(common)]
    for name, one in rules.items():
        parts += [
            f"\n### {name}\n",
            one["description"],
            "",
            *_keys(one, without=_COMMON),
            *_example(gates.rule_class(name)),
        ]
    return "\n".join(parts).replace("\n\n\n", "\n\n").rstrip() + "\n"


def _example(kind: type[Arguments]) -> Iterator[str]:
    """Yield the first example of a docstring as YAML, and then all of them as they are."""
    lines = inspect.cleandoc(kind.__doc__ or "").partition("\n\nExamples\n--------\n")[2].splitlines()
    code = "\n".join(line[4:] for line in lines if line.startswith((">>> ", "... ")))
    step = _step(ast.parse(code), kind.name)
    flow = False if isinstance(step[kind.name], str | int) else None
    yield f"\n```yaml\n{dump([step], flow=flow)}```\n"
    yield "\n".join(["```python", *(line for line in lines if line not in _IMPORTED), "", "```"])


def _step(code: ast.Module, name: str) -> dict[str, Any]:
    """Return the first operation or rule of that name that is written in full in the code: a mapping with the name as its only key."""
    written = [node for node in ast.walk(code) if isinstance(node, ast.Dict) and len(node.keys) == 1]
    for node in sorted(written, key=lambda node: node.lineno):
        with suppress(ValueError):  # it uses variables
            step: dict[str, Any] = ast.literal_eval(node)
            if name in step:
                return step
    raise LookupError(f"no example in the docstring of {name}")


def _choices(kind: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return iter(sorted(kind["properties"].items()))


def _long_form(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the form with names of arguments, of what also has a short one."""
    found = schema
    while "properties" not in found and "then" in found:
        found = found["then"]
    return found


def _keys(schema: Mapping[str, Any], depth: int = 0, *, without: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield a line for each key, and for those of keys that are mappings themselves."""
    form = _long_form(schema)
    for name, one in form.get("properties", {}).items():
        if name in without:
            continue
        required = " (required)" if name in form.get("required", ()) else ""
        told = one.get("description", "")
        if values := one.get("enum"):
            told = f"{told} One of {', '.join(f'`{v}`' for v in values)}.".strip()
        if (default := one.get("default")) is not None and "Default:" not in told:
            told = f"{told} Default: `{str(default).lower() if isinstance(default, bool) else default}`."
        yield f"{'  ' * depth}- `{name}`{required}: {told}".rstrip(": ")
        yield from _keys(one, depth + 1)
