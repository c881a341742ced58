"""What commands share: how they are added, how they read definitions, and how they report results."""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import lazypipe as lp
from lazypipe.errors import LazypipeError, closest

if TYPE_CHECKING:
    from lazypipe.api.together import Unread

__all__ = [
    "SEVERAL",
    "Commands",
    "Parser",
    "Refused",
    "and_others",
    "as_far_as_read",
    "compiled",
    "definitions",
    "incomplete",
    "is_definition",
    "loaded",
    "pairs",
    "plans",
    "prepare_streams",
    "read_all",
    "read_each",
    "say",
    "storage_options",
    "take_params",
    "take_storage_options",
    "tell_each",
    "write_json",
    "wrong",
]


_Told = TypeVar("_Told")

SEVERAL = "one or more pipeline definitions (YAML or JSON), or a folder of them"


class Refused(SystemExit):
    """The command line is wrong; ``why`` has been said on stderr."""

    def __init__(self, why: str) -> None:
        super().__init__(2)
        self.why = why


class Parser(argparse.ArgumentParser):
    """A parser whose complaints name what may be meant."""

    def __init__(self, **how: Any) -> None:
        super().__init__(allow_abbrev=False, **how)
        self.commands: Mapping[str, argparse.ArgumentParser] = {}

    def parse(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """Return what is given; what a command does not know, it refuses itself."""
        options, rest = self.parse_known_args(arguments)
        if rest:
            options.parser.error(f"unrecognized arguments: {' '.join(rest)}")
        return options

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End, with what was wrong for those who have to tell it otherwise."""
        if not status or message is None:
            super().exit(status, message)
        say(message, end="")
        raise Refused(message.strip())

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, with the nearest of what there is, and end with 2."""
        if found := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            self._refuse(message, found[1], re.findall(r"[\w-]+", found[2]))
        elif found := re.search(r"unrecognized arguments: .*?(--[\w-]+)", message):
            having = [name for name, other in self.commands.items() if found[1] in other.format_help().split()]
            if 0 < len(having) <= 3:
                super().error(f"{message}; {found[1]} is an option of {', '.join(having)}")
            self._refuse(message, found[1], [o for action in self._actions for o in action.option_strings])
        elif found := re.search(r"argument (--[\w-]+): expected one argument", message):
            super().error(f"{message}; a value that begins with - is written {found[1]}=-…")
        super().error(message)

    def _refuse(self, message: str, given: str, known: Sequence[str]) -> None:
        if (meant := closest(given, known)) is not None:
            super().error(f"{message}; did you mean {meant!r}?")


class Commands:
    """The commands of a parser."""

    def __init__(self, parser: Parser) -> None:
        self._parsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(self, name: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        """Add a command; ``function`` returns its exit code."""
        made = self._parsers.add_parser(name, help=text, description=text)
        made.set_defaults(command=function, parser=made)
        made.commands = self._parsers.choices
        made.add_argument("--json", action="store_true", help="write the result as JSON to stdout")
        return made

    def over_file(
        self,
        name: str,
        function: Callable[[argparse.Namespace], int],
        text: str,
        *,
        file: str | None = None,
        what: str = "the pipeline definition (YAML or JSON)",
    ) -> argparse.ArgumentParser:
        """Add a command about what stands of a definition (``loaded``); ``file`` says how often that is given, and ``what`` it is."""
        made = self.add(name, function, text)
        made.add_argument("file", nargs=file, help=what)
        return made

    def over_plan(
        self, name: str, function: Callable[[argparse.Namespace], int], text: str, **how: str
    ) -> argparse.ArgumentParser:
        """Add a command that compiles a definition (``compiled``), and so takes its parameters."""
        made = self.over_file(name, function, text, **how)
        take_params(made)
        return made


def take_params(made: argparse.ArgumentParser) -> None:
    """Let a command that compiles definitions (``compiled``, ``plans``) take their parameters, and the modules that they may import."""
    made.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a parameter of the pipeline; may be repeated",
    )
    made.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="MODULE",
        help="allow python operations to import this module; may be repeated",
    )


def take_storage_options(made: argparse.ArgumentParser) -> None:
    """Let a command about a place take the settings of its storage (``storage_options``), which definitions have otherwise."""
    made.add_argument(
        "--storage-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a credential or setting of the storage, under the name that Polars or fsspec uses; may be repeated",
    )


def storage_options(options: argparse.Namespace) -> dict[str, str]:
    """Return the settings of the storage that were given."""
    return pairs("--storage-option", options.storage_option)


def is_definition(text: str) -> bool:
    """Whether what is named is a definition, and no folder or URI."""
    return text.endswith((".yaml", ".yml", ".json"))


def definitions(given: Sequence[str]) -> list[str]:
    """Return the definitions that are named one by one, or by their folder; raises LazypipeError for what is none."""
    files, others = and_others(given)
    if others:
        raise LazypipeError(f"{others[0]!r} is not a definition; name files that end in .yaml, .yml or .json")
    return files


def and_others(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the definitions that are named one by one, or by their folder, and what else is named."""
    first, *rest = given
    found = [first]
    if Path(first).is_dir():
        found = sorted(str(p) for p in Path(first).iterdir() if is_definition(p.name))
        if not found:
            raise LazypipeError(f"{first}: there is no definition in this folder; name a file, or another folder")
    return found + [n for n in rest if is_definition(n)], [n for n in rest if not is_definition(n)]


def plans(
    files: Sequence[str],
    options: argparse.Namespace,
    asked: Mapping[str, Iterable[str]] | None = None,
    *,
    skip_unreadable: bool = False,
) -> list[lp.Plan | LazypipeError]:
    """Compile definitions, each with those of the given parameters that it declares; return the plans, or what is wrong with them.

    ``asked`` are the outputs that are wanted of each, by the names of the pipelines. Default: all.
    """
    given = pairs("--param", options.param)
    read = as_far_as_read(files)
    from lazypipe.api.together import compile_together, with_those_that_it_has

    pipes = [p for p in read if isinstance(p, lp.Pipeline)]
    if len(pipes) == len(read):  # else one that cannot be read may have it
        with_those_that_it_has(given, *pipes)

    def compile_one(pipe: lp.Pipeline, *, skip_unreadable: bool = False) -> lp.Plan:
        some = given if len(read) == 1 else with_those_that_it_has(given, pipe)
        outputs = () if asked is None else asked[pipe.name]
        return pipe.compile(allow=options.allow, outputs=outputs, params=some, skip_unreadable=skip_unreadable)

    return compile_together(read, compile_one, partial(compile_one, skip_unreadable=True) if skip_unreadable else None)


def read_each(files: Sequence[str]) -> list[lp.Pipeline | LazypipeError]:
    """Return definitions, read, or what is wrong with their form."""
    read: list[lp.Pipeline | LazypipeError] = []
    for file in files:
        try:
            read.append(loaded(file))
        except LazypipeError as error:
            read.append(error)
    return read


def as_far_as_read(files: Sequence[str]) -> list[lp.Pipeline | Unread]:
    """Read definitions; those with mistakes are returned as ``Unread``, with as much as is known of them."""
    found = [*zip(files, read_each(files), strict=True)]
    from lazypipe.api.together import Unread

    return [p if isinstance(p, lp.Pipeline) else Unread.of(file, p) for file, p in found]


def read_all(files: Sequence[str]) -> list[lp.Pipeline]:
    """Return definitions, read; raises DefinitionError with the mistakes of all that are wrong."""
    found: list[lp.Pipeline] = []
    wrong: list[lp.Problem] = []
    for file in files:
        try:
            found.append(loaded(file))
        except lp.DefinitionError as error:
            wrong += error.problems
    if wrong:
        raise lp.DefinitionError(wrong)
    return found


def tell_each(
    options: argparse.Namespace,
    files: Sequence[str],
    found: Sequence[_Told | LazypipeError],
    tell: Callable[[int, _Told], Any],
    show: Callable[[Any], None] | None = None,
    code_of: Callable[[Any], int] | None = None,
) -> int:
    """Tell something of each of several definitions, or what is wrong with it; return the exit code.

    ``code_of`` gives that of what was told.
    """
    told: dict[str, Any] = {}
    code = 0
    for number, (file, plan) in enumerate(zip(files, found, strict=True)):
        try:
            if isinstance(plan, LazypipeError):
                raise plan
            told[file] = tell(number, plan)
        except LazypipeError as error:
            told[file] = wrong(error)
            code = max(code, error.exit_code)
            say(str(error))
            continue
        if code_of is not None:
            code = max(code, code_of(told[file]))
        if show is not None and not options.json:
            print(f"{file}:")
            show(told[file])
    if options.json:
        write_json({"status": "error" if code else "ok", "files": told})
    return code


def compiled(
    options: argparse.Namespace,
    now: datetime | None = None,
    outputs: Sequence[str] = (),
    *,
    skip_unreadable: bool = False,
) -> lp.Plan:
    """Return the compiled definition that a command is about, or some ``outputs`` of it."""
    given = pairs("--param", options.param)
    return loaded(options.file).compile(
        now=now, allow=options.allow, outputs=outputs, params=given, skip_unreadable=skip_unreadable
    )


_FROZEN_AT_START = 1_000
"""More objects than Python freezes by itself as it starts: 375 in 3.12, none before and after."""


def loaded(file: str) -> lp.Pipeline:
    """Return a definition, read.

    Meanwhile most modules are imported, among which Python looks for no cycles: it would find none, and go through all of it several
    times. Nor does it ever again, which is settled once in a process. So what else a command needs it imports after that.
    """
    if not gc.isenabled() or gc.get_freeze_count() > _FROZEN_AT_START:
        return lp.load(file)
    gc.disable()
    try:
        return lp.load(file)
    finally:
        gc.freeze()
        gc.enable()


def pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Return what an option that is given several times says: name → value."""
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise lp.LazypipeError(f"{option} {text!r} has no value; write {option} {name}=value")
        pairs[name] = value
    return pairs


def incomplete(said: Mapping[str, Any]) -> Iterator[str]:
    """Say which closed windows lack something, in a line each."""
    windows = said.get("incomplete", [])
    if windows:
        from lazypipe.incremental.incomplete import shown

        yield from (f"    incomplete: {shown(window)}" for window in windows[:10])
    more = len(windows[10:]) + said.get("more_incomplete", 0)
    if more:
        yield f"    incomplete: {more:,} more"


def prepare_streams() -> None:
    """See to it that any text can be written: letters that the terminal lacks are escaped, closed streams take it and say nothing."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # lazypipe run … >&-
            _to_nobody(name)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        "┌".encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # tables are drawn with what there is; a wish of the user's stands
        os.environ.setdefault("POLARS_FMT_TABLE_FORMATTING", "ASCII_FULL_CONDENSED")


def say(text: str, end: str = "\n") -> None:
    """Report progress on stderr; nothing fails because it is closed, or because the disk with its log is full."""
    with suppress(OSError):
        print(text, end=end, file=sys.stderr, flush=True)


def wrong(error: LazypipeError) -> dict[str, Any]:
    """Return an error as data; mistakes in a definition one by one."""
    problems = {"problems": error.told()} if isinstance(error, lp.DefinitionError) else {}
    return {"status": "error", "error": str(error), **problems}


def write_json(value: Any, indent: int | None = 1) -> None:
    """Write a result; without ``indent``, in one line."""
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"  # no escapes but JSON's own
    text = json.dumps(_finite(value), indent=indent, default=str, ensure_ascii=plain, allow_nan=False)
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader has closed the pipe: the result of the command stays what it was
        _to_nobody("stdout")


def _to_nobody(stream: str) -> None:
    setattr(sys, stream, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # for as long as the process lives


def _finite(value: Any) -> Any:
    """Return a value with text in the place of what JSON has no number for: NaN and infinities."""
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return str(value) if isinstance(value, float) and not isfinite(value) else value
