"""The exceptions of lazypipe: what went wrong, where, and what to do about it.

    LazypipeError            what was asked for is wrong (exit code 2): an option, an argument, a name
    ├── DefinitionError      the definition is wrong (exit code 2): a list of located problems
    │   └── AwayError        or a source is to blame: it is away, or a file has other columns than before (exit code 3)
    ├── GateError            a gate refused the data (exit code 1); nothing was published
    └── RunError             the run could not be completed (exit code 3)
        ├── SourceError      a source cannot be read: names the URI
        ├── StorageError     a dataset, an export or a record cannot be written or is damaged
        ├── CommitConflict   somebody else committed first
        └── Interrupted      the run was stopped by a signal

Every message has the form ``where: what; fix``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

__all__ = [
    "AwayError",
    "CommitConflict",
    "DefinitionError",
    "GateError",
    "Interrupted",
    "LazypipeError",
    "Location",
    "Problem",
    "RunError",
    "SourceError",
    "StorageError",
    "closest",
    "counted",
    "first_line",
    "nearest",
    "reason_of",
    "redacted",
]


@dataclass(frozen=True, order=True)
class Location:
    """A position in a definition file: line and column, counted from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One mistake: what is wrong, where it is, and what to write instead."""

    what: str
    where: Location | None = None
    fix: str | None = None

    def __str__(self) -> str:
        text = self.what if self.fix is None else f"{self.what}; {self.fix}"
        return text if self.where is None else f"{self.where}: {text}"


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like another one; None if none is much like it.

    Examples
    --------
    >>> closest("dep_tim", ["origin", "dep_time"]), closest("x", ["origin"])
    ('dep_time', None)
    """
    lowered = {n.lower(): n for n in sorted(set(known), reverse=True)}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return lowered[close[0]] if close else None


def nearest(name: str, known: Iterable[str], kind: str) -> str:
    """Return the hint for an unknown name: the closest known one, or what there is.

    Examples
    --------
    >>> nearest("dep_tim", ["origin", "dep_time"], "columns")
    "did you mean 'dep_time'?"
    >>> nearest("x", ["origin", "dest"], "columns")
    'known columns: dest, origin'
    >>> nearest("x", [], "columns")
    'there are no columns'
    """
    names = sorted(set(known))
    if (meant := closest(name, names)) is not None:
        return f"did you mean {meant!r}?"
    if not names:
        return f"there are no {kind}"
    shown = ", ".join(names[:12])
    return f"known {kind}: {shown}" + (f" … ({len(names)} in all)" if len(names) > 12 else "")


def counted(number: int, what: str) -> str:
    """Return how many things there are, in words.

    Examples
    --------
    >>> counted(1, "file"), counted(1_200, "row")
    ('1 file', '1,200 rows')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def first_line(error: BaseException | str) -> str:
    r"""Return the first line of an engine's message, which says what; the rest are plans and advice.

    Examples
    --------
    >>> first_line("cannot add\n\nResolved plan until failure: …")
    'cannot add'
    """
    text = str(error).strip()
    if found := re.search(r"regex parse error:\n.*\nerror: ([^\n]*)", text, re.DOTALL):
        return f"not a regular expression: {found[1]}"  # what is wrong with one is said last
    line = text.splitlines()[0].strip() if text else ""
    return line or type(error).__name__


def reason_of(error: BaseException) -> str:
    """Return what an error says: of the system's own just that, without number and path.

    Examples
    --------
    >>> reason_of(FileNotFoundError(2, "No such file or directory", "a.csv")), reason_of(ValueError("bad"))
    ('No such file or directory', 'bad')
    >>> reason_of(TimeoutError())
    'no answer came in time'
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "no answer came in time" if isinstance(error, TimeoutError) and not str(error) else first_line(error)


class LazypipeError(Exception):
    """Base class of all errors of lazypipe; raised itself for invalid requests. ``exit_code`` is what the command line returns."""

    exit_code: ClassVar[int] = 2

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how it comes out of another process: as it was, though what it was made of is not in ``args``."""
        return _as_it_was, (type(self), self.args), self.__dict__


def _as_it_was(kind: type[LazypipeError], args: tuple[Any, ...]) -> LazypipeError:
    made = kind.__new__(kind)
    made.args = args
    return made


class DefinitionError(LazypipeError):
    """The definition is wrong. ``problems`` holds every mistake that was found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: Sequence[Problem] = tuple(sorted(problems, key=lambda p: p.where or Location("", 0, 0)))
        super().__init__("\n".join(str(p) for p in self.problems))

    def told(self) -> list[dict[str, Any]]:
        """Return the mistakes as plain data."""
        return [asdict(p) for p in self.problems]


class RunError(LazypipeError):
    """The run could not be completed. What was published before is unchanged.

    ``result`` is the ``RunResult`` up to then, if the run had started and its caller gets no other result.
    """

    exit_code = 3
    result: Any = None

    def __init__(self, what: str, *, uri: str | None = None, fix: str | None = None) -> None:
        self.what = what
        self.uri = uri
        self.fix = fix
        super().__init__(what, uri, fix)

    def __str__(self) -> str:
        text = self.what if self.fix is None else f"{self.what}; {self.fix}"
        return text if self.uri is None else f"{self.uri}: {text}"


class SourceError(RunError):
    """A source is missing, empty or unreadable; ``uri`` names the file."""


class AwayError(DefinitionError, SourceError):
    """A definition does not fit a source, and the data is to blame, or may be.

    Either the source cannot be read, and the definition uses columns that its contract does not declare; or a file has other columns or types than
    the files had that outputs were made from, with which the definition is right.
    """

    exit_code = 3

    def __init__(self, problems: Iterable[Problem], away: SourceError) -> None:
        DefinitionError.__init__(self, problems)
        self.what, self.uri, self.fix = away.what, away.uri, away.fix
        self.args = ("\n".join(map(str, [*self.problems, away])),)

    def __str__(self) -> str:
        return str(self.args[0])


class StorageError(RunError):
    """A dataset, an export or a record cannot be read or written; ``uri`` names it."""


class CommitConflict(RunError):
    """Another writer committed first. Nothing of this run was published."""


class Interrupted(RunError):
    """The run was stopped by a signal. Nothing unfinished was published."""


def redacted(error: BaseException, redact: Callable[[str], str]) -> None:
    """Have an error of a run say nothing that ``redact`` takes out, such as values of the environment in a path; others stay as they are.

    Examples
    --------
    >>> error = StorageError("cannot be written", uri="s3://secret/out")
    >>> redacted(error, lambda text: text.replace("secret", "${BUCKET}"))
    >>> print(error)
    s3://${BUCKET}/out: cannot be written
    """
    if isinstance(error, RunError):
        error.what = redact(error.what)
        error.uri = None if error.uri is None else redact(error.uri)
        error.args = tuple(redact(a) if isinstance(a, str) else a for a in error.args)


class GateError(LazypipeError):
    """A gate failed. The previous commit stays in force."""

    exit_code = 1
