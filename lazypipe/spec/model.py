"""The definition as frozen values: just what the user wrote, checked for form but not yet for meaning.

An operation or a rule is a ``Step``: its name, its arguments as plain data (or ``pl.Expr`` from Python), and the path at
which it stands in the document. What the names mean is the business of ``ops`` and ``gates``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from lazypipe.errors import Location, SourceError

__all__ = [
    "NOTHING",
    "Audit",
    "Fault",
    "FrozenMap",
    "Origin",
    "Output",
    "Param",
    "Path",
    "Pipeline",
    "Source",
    "Stage",
    "Step",
    "freeze",
    "thaw",
]

Path = tuple[str | int, ...]
"""The position of something in a definition: ("stages", "flown", "do", 0, "filter")."""


class FrozenMap(Mapping[str, Any]):
    """A mapping that cannot change, equal to any mapping with the same items, hashable by value."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Any]) -> None:
        self._items = dict(items)

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


NOTHING: Mapping[str, Any] = FrozenMap({})


class Fault(Exception):
    """A mistake at a path of the definition, before it is known where in a file that is."""

    def __init__(
        self,
        what: str,
        fix: str | None = None,
        path: Path = (),
        place: tuple[int, int] | None = None,
        away: SourceError | None = None,
    ) -> None:
        self.what = what
        self.fix = fix
        self.path = path
        self.place = place  # line and column in a text that stands at the path
        self.away = away  # why the columns of its source are not all known, where they are not
        super().__init__(what)

    @property
    def is_unknown_column(self) -> bool:
        """Whether it says that a column is not there, which is sure only where all columns are known."""
        return re.search(r"(^|: )unknown column '", self.what) is not None


def freeze(value: Any) -> Any:
    """Return ``value`` with mappings and lists made read-only; what gives its entries once only becomes a list that stays."""
    if isinstance(value, Mapping):
        return FrozenMap({k: freeze(v) for k, v in value.items()})
    if isinstance(value, list | tuple | Iterator):
        return tuple(freeze(v) for v in value)
    return value


def thaw(value: Any) -> Any:
    """Return ``value`` as plain dicts and lists, as YAML and JSON write them."""
    if isinstance(value, Mapping):
        return {k: thaw(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [thaw(v) for v in value]
    return value


@dataclass(frozen=True)
class Origin:
    """The document that a definition was read from, the position of each of its parts, and the BLAKE3 hash of its text.

    ``files`` are other ones in which the texts of some parts stand.
    """

    file: str = "<python>"
    positions: Mapping[Path, tuple[int, int]] = field(default_factory=dict, repr=False, hash=False)
    blake3: str | None = field(default=None, repr=False)
    files: Mapping[Path, str] = field(default_factory=dict, repr=False, hash=False)

    def locate(self, path: Path, place: tuple[int, int] | None = None) -> Location | None:
        """Return the place of ``path`` or of the nearest thing around it, ``place`` in the file that its text stands in; None for Python objects."""
        while path not in self.files:
            if path in self.positions:
                return Location(self.file, *self.positions[path])
            if not path:
                return None
            path = path[:-1]
        return Location(self.files[path], *(place or (1, 1)))


@dataclass(frozen=True)
class Param:
    """A parameter: its type, its default (None: the caller must give it), and what it is for."""

    type: str
    default: Any = None
    description: str | None = None

    def parse(self, value: object) -> Any:
        """Turn text (or a value of the right type) into a value of the parameter's type.

        A list is text that is parted by commas, or JSON: ``[1, 2]``, of which the brackets may be left out if the default holds no text. A datetime
        without a time zone is in UTC if the default has one.

        Raises
        ------
        ValueError
            If the value is not of the type; the message shows what is expected.

        Examples
        --------
        >>> Param("date").parse("2013-02-01")
        datetime.date(2013, 2, 1)
        """
        bare = self.type == "list" and self.default and not any(isinstance(v, str) for v in self.default)
        in_brackets = bare and isinstance(value, str) and not value.lstrip().startswith("[")
        try:
            made = _PARSERS[self.type](f"[{value}]" if in_brackets else value)
        except (ValueError, TypeError, ArithmeticError) as error:
            text = f"{value!r} is not {_EXAMPLES[self.type]}"
            if self.type == "duration" and (number := str(value).strip()).isdecimal():
                text = f"{text}: it has no unit; write {number}s, {number}m, {number}h, {number}d or {number}w"
            raise ValueError(text) from error
        aware = isinstance(self.default, datetime) and self.default.tzinfo is not None
        return made.replace(tzinfo=UTC) if aware and made.tzinfo is None else made


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError
    return int(value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return float(value)


def _boolean(value: object) -> bool:
    found = {"true": True, "false": False}.get(str(value).lower())
    if found is None:
        raise ValueError
    return found


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _date(value: object) -> date:
    if isinstance(value, datetime):
        raise TypeError
    return value if isinstance(value, date) else date.fromisoformat(_string(value))


def _datetime(value: object) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(_string(value))


def _duration(value: object) -> timedelta:
    from lazypipe.spec.spans import Span

    if isinstance(value, timedelta):
        return value
    return Span.parse(_string(value)).to_timedelta()


def _list(value: object) -> tuple[Any, ...]:
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = json.loads(value)
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if not isinstance(value, Sequence) or any(isinstance(v, Mapping | list | tuple) for v in value):
        raise TypeError
    return tuple(value)


_PARSERS: Mapping[str, Any] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "decimal": lambda v: Decimal(str(v)),
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
    "duration": _duration,
    "list": _list,
}
_EXAMPLES = {
    "string": 'a string such as "5"',
    "integer": "an integer such as 42",
    "number": "a number such as 1.5",
    "decimal": "a decimal such as 1.50",
    "boolean": "a boolean: true or false",
    "date": "a date such as 2013-01-31",
    "datetime": "a datetime such as 2013-01-31T12:00:00",
    "duration": "a duration such as 90s, 15m, 2h, 3d or 1w",
    "list": "a list such as a,b,c or [1, 2]",
}
PARAM_TYPES = tuple(_PARSERS)


@dataclass(frozen=True)
class Step:
    """One operation or rule as written: ``name: arguments``, and where it stands."""

    name: str
    arguments: Any
    path: Path = field(default=(), compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the one-key mapping that the definition writes."""
        return {self.name: thaw(self.arguments)}


@dataclass(frozen=True)
class Source:
    """Where rows come from: files under a URI pattern, a dataset, or a Delta table, perhaps at a ``version``.

    ``action`` is that of its gate's rules by default.
    """

    uri: tuple[str, ...]
    format: str | None = None
    read: Mapping[str, Any] = NOTHING
    version: int | None = None
    storage_options: Mapping[str, Any] = field(default=NOTHING, repr=False)
    event_time: str | None = None
    key: tuple[str, ...] = ()
    contract: Mapping[str, Any] = NOTHING
    columns: Mapping[str, Any] = NOTHING
    gate: tuple[Step, ...] = ()
    action: str | None = None
    on_corrupt: str = "fail"
    detect: str | None = None
    on_removed: str | None = None
    on_modified: str | None = None
    settle: str | None = None
    expect: Mapping[str, Any] = NOTHING
    on_partial: str | None = None
    watermark: Mapping[str, Any] = NOTHING
    on_bad_time: str | None = None
    description: str | None = None


@dataclass(frozen=True)
class Stage:
    """A named node: its inputs, its operations in order, and the gate at its end, with its rules' default action."""

    inputs: tuple[str, ...]
    do: tuple[Step, ...] = ()
    gate: tuple[Step, ...] = ()
    action: str | None = None
    description: str | None = None


@dataclass(frozen=True)
class Output:
    """A stage's rows, written to a dataset or exported to files; ``mode`` says what becomes of the rows before.

    ``panes`` says how what becomes of windows is told beside it.
    ``optimize`` is what its layout is chosen for, ``workload`` what readers ask of it, ``maintain`` when files are written anew.
    ``delta_log`` says that the dataset is a Delta table too: that is what ``format: delta`` makes of an output.
    """

    stage: str
    to: str = field(repr=False)
    format: str = "dataset"
    mode: str = "replace"
    partition_by: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    order_by: tuple[str, ...] = ()
    event_time: str | None = None
    deleted_when: Any = None
    deletes: str | None = None
    keep: int | None = None
    changes: bool = False
    panes: Mapping[str, Any] = NOTHING
    optimize: str | None = None
    workload: Mapping[str, Any] = NOTHING
    maintain: Mapping[str, Any] = NOTHING
    storage_options: Mapping[str, Any] = field(default=NOTHING, repr=False)
    contract: Mapping[str, Any] = NOTHING
    description: str | None = None
    delta_log: bool = False

    def __post_init__(self) -> None:
        """Take ``format: delta`` for what it is: a dataset with one log more."""
        if self.format == "delta":
            object.__setattr__(self, "format", "dataset")
            object.__setattr__(self, "delta_log", True)

    def says(self, key: str) -> bool:
        """Whether an option differs from its default."""
        given, default = getattr(self, key), next(f.default for f in fields(self) if f.name == key)
        return type(given) is not type(default) or given != default  # an expression must not be asked


@dataclass(frozen=True)
class Audit:
    """What is written down of each run: ``mode`` says whether a run may publish what the ledger does not know of.

    ``hash`` says of which files the content is hashed: those of this machine, or ``all``.
    """

    mode: str = "recorded"
    ledger: str | None = None
    key: str | None = None
    actor: str | None = None
    hash: str = "local"
    storage_options: Mapping[str, Any] = field(default=NOTHING, repr=False)


@dataclass(frozen=True)
class Pipeline:
    """A named graph of sources, stages and outputs, as it was written.

    ``base`` is the folder that relative URIs start from: that of the definition file. ``origin`` says where each part
    stands in that file. Neither belongs to the definition: two pipelines that say the same are equal.
    """

    name: str
    sources: Mapping[str, Source]
    stages: Mapping[str, Stage] = NOTHING
    outputs: Mapping[str, Output] = NOTHING
    params: Mapping[str, Param] = NOTHING
    version: int = 1
    state: str = ".lazypipe"
    state_options: Mapping[str, Any] = field(default=NOTHING, repr=False)
    audit: Audit = Audit()
    openlineage: Mapping[str, Any] = NOTHING
    description: str | None = None
    base: str = field(default=".", compare=False)
    origin: Origin = field(default=Origin(), compare=False, repr=False)
