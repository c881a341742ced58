"""A document written by another tool: its parts with their positions, and the mistakes found in it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path as FilePath
from typing import Any

from lazypipe.contracts.contract import Finding
from lazypipe.errors import DefinitionError, Problem, nearest
from lazypipe.spec import document as texts
from lazypipe.spec import loader
from lazypipe.spec.model import Fault, Origin, Path

__all__ = ["Document", "Node", "Source", "plain", "read"]

Source = str | FilePath | Mapping[str, Any]
"""The path of a file, its text (more than one line, or JSON), or plain data."""

_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "text": ((str,), "text"),
    "flag": ((bool,), "true or false"),
    "number": ((int, float), "a number"),
    "integer": ((int,), "a whole number"),
    "list": ((list,), "a list"),
    "mapping": ((dict,), "a mapping"),
    "scalar": ((str, int, float, bool), "text, a number, or true or false"),
}


@dataclass
class Document:
    """What was read, and what is found in it on the way: mistakes, parts without a rule, and parts with another one."""

    data: Any
    origin: Origin
    faults: list[Fault] = field(default_factory=list)
    unmapped: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    later: bool = False
    """Whether it is of a version that came after this was written: what is not known in it may be right."""

    def root(self, what: str) -> Node:
        """Return the whole; raises DefinitionError if it is not a mapping."""
        if not isinstance(self.data, dict):
            raise loader.problems([Fault(f"this is not a valid {what}", "it must be a mapping")], self.origin)
        return Node(self.data, (), self)

    def finish(self) -> None:
        """Raise DefinitionError with all mistakes found, if there are any."""
        if self.faults:
            raise loader.problems(self.faults, self.origin)


@dataclass(frozen=True)
class Node:
    """A mapping in a document, and the table and column that it is about."""

    value: Mapping[str, Any]
    path: Path
    document: Document
    table: str | None = None
    column: str | None = None

    def about(self, table: str | None, column: str | None = None) -> Node:
        """Return the same part, as one about a table and a column."""
        return Node(self.value, self.path, self.document, table, column)

    def __contains__(self, key: str) -> bool:
        return self.value.get(key) is not None

    def get(self, key: str, kind: str) -> Any:
        """Return a value of a kind, or None where there is none; notes a mistake where it is of another kind."""
        value = self.value.get(key)
        if value is None:
            return None
        types, words = _KINDS[kind]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            self.fault(f"{key} must be {words}, not {_shown(value)}", None, key)
            return None
        return value

    def text(self, key: str) -> str | None:
        """Return a text, or None."""
        found: str | None = self.get(key, "text")
        return found

    def flag(self, key: str, *, default: bool = False) -> bool:
        """Return true or false."""
        found: bool | None = self.get(key, "flag")
        return default if found is None else found

    def need(self, key: str, kind: str) -> Any:
        """Return a value that must be there; notes a mistake where it is not."""
        if key not in self:
            self.fault(f"{key!r} is missing", f"add {key}: it must be {_KINDS[kind][1]}")
        return self.get(key, kind)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return one text or a list of them as a tuple."""
        value = self.value.get(key)
        if isinstance(value, str):
            return (value,)
        found = self.get(key, "list") or []
        for index, item in enumerate(found):
            if not isinstance(item, str):
                self.fault(f"{key} must hold texts, not {_shown(item)}", None, key, index)
        return tuple(item for item in found if isinstance(item, str))

    def child(self, key: str) -> Node:
        """Return the mapping at ``key``; an empty one where there is none."""
        return Node(self.get(key, "mapping") or {}, (*self.path, key), self.document, self.table, self.column)

    def children(self, key: str) -> Iterator[Node]:
        """Yield the mappings in the list at ``key``."""
        for index, item in enumerate(self.get(key, "list") or ()):
            if isinstance(item, dict):
                yield Node(item, (*self.path, key, index), self.document, self.table, self.column)
            else:
                self.fault(f"{key} must hold mappings, not {_shown(item)}", None, key, index)

    def fault(self, what: str, fix: str | None, *rest: str | int) -> None:
        """Note a mistake in this part."""
        self.document.faults.append(Fault(what, fix, (*self.path, *rest)))

    def unknown(self, what: str, fix: str, *rest: str | int) -> None:
        """Note a word that is not known: a mistake, or of a version that is not known either."""
        if self.document.later:
            self.unmapped(what, "it may be of a later version of the standard", *rest)
        else:
            self.fault(what, fix, *rest)

    def strangers(self, known: Collection[str]) -> None:
        """Note the unknown keys, which would otherwise be ignored."""
        for key in self.value:
            if key not in known:
                self.unmapped(f"the key {key!r}", f"it is not known; {nearest(key, known, 'keys')}", key)

    def unmapped(self, what: str, why: str, *rest: str | int) -> None:
        """Note something that has no rule."""
        self.document.unmapped.append(self._finding(what, why, rest))

    def note(self, what: str, why: str, *rest: str | int) -> None:
        """Note something whose rule does not mean quite the same."""
        self.document.notes.append(self._finding(what, why, rest))

    def _finding(self, what: str, why: str, rest: Path) -> Finding:
        path = (*self.path, *rest)
        return Finding(what, why, self.table, self.column, path, self.document.origin.locate(path))


def read(source: Source) -> Document:
    """Read a document from a file, a text or plain data.

    Raises
    ------
    DefinitionError
        If there is no such file, or the text is neither YAML nor JSON.
    """
    if isinstance(source, Mapping):
        return Document(plain(source), Origin())
    text, file = str(source), "<text>"
    if isinstance(source, FilePath) or not _is_text(text):
        text, file = _file_text(text), text
    is_json = file.endswith(".json") or (text.lstrip()[:1] in ("{", "[") and _is_json(text))
    data, positions = texts.parse(text, file, is_json=is_json)
    return Document(data, Origin(file, positions))


def _is_text(text: str) -> bool:
    return "\n" in text or text.lstrip()[:1] in ("", "{", "[")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False  # a flow mapping of YAML, or wrong: its reader says where
    return True


def _file_text(path: str) -> str:
    try:
        return FilePath(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        problem = Problem(f"there is no file {path}", fix="check the path, or pass the text itself")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        problem = Problem(f"cannot read {path!r}: {error}", fix="a contract is a UTF-8 text file")
    raise DefinitionError([problem])


def plain(value: Any) -> Any:
    """Return plain data as a text would give it: what YAML 1.1 readers made dates and times is text again."""
    match value:
        case Mapping():
            return {str(k): plain(v) for k, v in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(v) for v in value]
        case date() | datetime() | time():
            return value.isoformat()
        case _:
            return value


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return repr(value)
