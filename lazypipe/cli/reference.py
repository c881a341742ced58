"""The page with all public names, written from their docstrings: ``docs/guide/python.md``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, is_dataclass
from datetime import timedelta
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, get_origin

import lazypipe

__all__ = ["GROUPS", "page"]

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Definitions": ("load", "pipeline", "Pipeline", "Builder", "json_schema"),
    "Plans and runs": ("Plan", "RunResult", "SegmentResult", "run_all", "RunResults", "Backoff"),
    "Streams": ("stream", "Stream", "Trigger", "Reader", "Pulled"),
    "Gates and operations on frames": (
        "check", "split", "Split", "GateReport", "CheckResult", "rule", "suggest_rules", "apply", "contracts",
    ),
    "Datasets": (
        "scan", "history", "diff", "RowDiff", "rollback", "replay", "ReplayResult", "vacuum", "publish_delta",
        "window_history", "WindowHistory", "Pane", "optimize",
    ),
    "Lineage": ("catalog", "Lineage", "Reach", "Impact", "Fingerprint", "Changes", "trace", "Trace", "Traced"),
    "The ledger": (
        "ledger", "Ledger", "Entry", "Verification", "History", "Holding", "audit_report", "AuditReport", "FileTransport",
        "HttpTransport",
    ),
    "Errors": (
        "LazypipeError", "DefinitionError", "Problem", "Location", "AwayError", "GateError", "RunError", "Interrupted",
        "SourceError", "StorageError", "CommitConflict",
    ),
}  # fmt: skip
"""All public names, in the order of the page."""

_PLAIN = (str, int, float, bool, tuple, frozenset, timedelta, type(None))
_TOLD = ("Parameters", "Attributes")
_HEADER = """# Python

All that `import lazypipe as lp` gives, as the docstrings have it; `help(lp.check)` shows examples. Arguments behind `*` are given by name.
"""


def page() -> str:
    """Return the page.

    Examples
    --------
    >>> page().splitlines()[0]
    '# Python'
    """
    lines = [_HEADER]
    for title, names in GROUPS.items():
        lines.append(f"## {title}\n")
        for name in names:
            lines += _entry(f"lp.{name}", getattr(lazypipe, name))
    lines.append("## For tests\n")
    lines += _entry("lazypipe.testing", import_module("lazypipe.testing"))
    return "\n".join(lines).rstrip() + "\n"


def _entry(name: str, thing: Any, level: int = 3, *, bound: bool = False) -> Iterator[str]:
    yield f"{'#' * level} {name}\n"
    text, told = _parts(thing)
    if inspect.ismodule(thing):
        yield f"{text}\n"
        for inner in thing.__all__:
            yield from _entry(f"{name}.{inner}", getattr(thing, inner), level + 1)
        return
    if get_origin(thing) is not None:  # another name of a type
        yield f"`{_shown(thing)}`\n"
        return
    made = inspect.isclass(thing) and inspect.isfunction(vars(thing).get("__init__")) and not _is_made_by_us(thing)
    if made or not inspect.isclass(thing):
        yield f"```python\n{_called(name, thing, bound=bound)}\n```\n"
    yield f"{text}\n"
    methods = [*_methods(thing)] if inspect.isclass(thing) else []
    if inspect.isclass(thing):
        own = inspect.get_annotations(thing) if is_dataclass(thing) or hasattr(thing, "_fields") else {}
        docs = {n: doc for names, doc in told for n in (names.split(", ") if own else [names])}
        told = [(f"{n}: {_shown(t)}{_default(thing, n)}", docs.pop(n, "")) for n, t in own.items() if n[0] != "_"]
        told += [*docs.items()]
        told += [(n, _line(m)) for n, m in _members(thing) if isinstance(m, property | cached_property)]
        told += [(_called(n, m, bound=of_value), _line(m)) for n, m, of_value in methods if not _parts(m)[1]]
    if told:
        yield "| | |\n|---|---|"
        for what, doc in told:
            yield f"| `{_cell(what)}` | {_cell(doc)} |"
        yield ""
    for inner, method, of_value in methods:
        if _parts(method)[1]:
            yield from _entry(f"{name}.{inner}", method, level + 1, bound=of_value)


def _is_made_by_us(thing: type) -> bool:
    """Whether users do not create instances of a class, or its fields show how."""
    return is_dataclass(thing) or issubclass(thing, Exception) or getattr(thing, "_is_protocol", False)


def _members(thing: type) -> Iterator[tuple[str, Any]]:
    """Yield the public members of a class, including those inherited from lazypipe's own classes."""
    seen = set()
    for of in thing.__mro__:
        for name, member in vars(of).items() if of.__module__.startswith("lazypipe") else ():
            if name[0] != "_" and name not in seen:
                yield name, member
            seen.add(name)


def _methods(thing: type) -> Iterator[tuple[str, Any, bool]]:
    """Yield the methods of a class, and whether their first argument is not to be given."""
    for name, member in _members(thing):
        method = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if inspect.isfunction(method):
            yield name, method, not isinstance(member, staticmethod)


def _called(name: str, function: Any, *, bound: bool = False) -> str:
    """Return how a function is called, and what it returns."""
    signature = inspect.signature(function)
    told, by_name = list[str](), False
    for parameter in [*signature.parameters.values()][bound:]:
        if parameter.kind is parameter.KEYWORD_ONLY and not by_name:
            told.append("*")
        by_name = parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        stars = "*" * (parameter.kind is parameter.VAR_POSITIONAL) + "**" * (parameter.kind is parameter.VAR_KEYWORD)
        told.append(f"{stars}{parameter.name}: {_shown(parameter.annotation)}{_given(parameter.default)}")
    returned = "" if inspect.isclass(function) else f" -> {_shown(signature.return_annotation)}"
    return f"{name}({', '.join(told)}){returned}"


def _default(thing: Any, name: str) -> str:
    """Return the default of a field as it is written."""
    made = getattr(thing, "__dataclass_fields__", {}).get(name)
    if made is None:
        return _given(getattr(thing, "_field_defaults", {}).get(name, inspect.Parameter.empty))
    if made.default_factory is not MISSING:
        return " = …"
    return _given(inspect.Parameter.empty if made.default is MISSING else made.default)


def _given(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return ""
    return f" = {_shown(repr(default))}" if isinstance(default, _PLAIN) else " = …"


def _shown(annotation: Any) -> str:
    """Return a type as its last names tell it."""
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z]|timedelta)", "", str(annotation))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _line(thing: Any) -> str:
    return _parts(thing)[0].partition(". ")[0].rstrip(".") + "."


def _parts(thing: Any) -> tuple[str, list[tuple[str, str]]]:
    """Return what a docstring says ahead of its sections, and the names that its sections tell of."""
    ahead, *sections = re.split(r"^(\w[\w ]*)\n-+\n", inspect.getdoc(thing) or "", flags=re.MULTILINE)
    told = []
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        for names, doc in re.findall(r"^(\S.*)\n((?:[ ]+.*\n?|\n)+)", body, re.MULTILINE) if title in _TOLD else ():
            told.append((names, _joined(doc)))
    return _joined(ahead), told


def _joined(text: str) -> str:
    """Return text on one line, with code as Markdown has it."""
    return re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split()))


if __name__ == "__main__":
    _guide = Path(__file__).parents[2] / "docs" / "guide"
    (_guide / "python.md").write_text(page(), encoding="utf-8")
