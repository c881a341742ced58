"""Text to plain data with the position of every part: YAML 1.2's core types, or JSON.

YAML 1.1, which PyYAML reads by default, makes ``on:`` a boolean, ``1:1`` the number 61 and ``2013-01-01`` a date. Here
only ``true``, ``false``, ``null``, integers and decimals are special, as in JSON, so that one definition means the same in both.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import yaml

from lazypipe.errors import DefinitionError, Location, Problem
from lazypipe.spec.model import Path

__all__ = ["RESOLVERS", "parse"]


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalar types of YAML 1.2's core schema."""

    yaml_implicit_resolvers: Mapping[str, Any] = {}  # type: ignore[assignment]  # replaced whole, by design


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    # PyYAML's own reads 010 as octal and 1_0 as 10
    return int(str(loader.construct_scalar(node)))


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node)).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


class _FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # where PyYAML was built with it
    """The same on libyaml's parser: ten times as fast, with other words for what is wrong."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
    yaml_constructors = _Loader.yaml_constructors


RESOLVERS: Mapping[str, Any] = _Loader.yaml_implicit_resolvers
"""First character → (tag, pattern) of the texts that are not read as text."""


def parse(text: str, file: str, *, is_json: bool = False) -> tuple[Any, Mapping[Path, tuple[int, int]]]:
    r"""Return the document as plain data, and the 1-based (line, column) of each path in it.

    A mapping's entry has the position of its key, a list's entry that of its value.

    Raises
    ------
    DefinitionError
        If the text is not YAML (or JSON), has a key twice, or uses a YAML tag.

    Examples
    --------
    >>> data, at = parse("stages:\n  a: {from: x}\n", "f.yaml")
    >>> data, at[("stages", "a", "from")]
    ({'stages': {'a': {'from': 'x'}}}, (2, 7))
    """
    try:
        return _parse_json(text, file) if is_json else _parse_yaml(text, file)
    except RecursionError:
        what = "the definition is nested too deeply, or contains itself"
        raise DefinitionError([Problem(what, Location(file, 1, 1), "write it with fewer levels")]) from None


_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def _parse_json(text: str, file: str) -> tuple[Any, Mapping[Path, tuple[int, int]]]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        where = Location(file, error.lineno, error.colno)
        raise DefinitionError([Problem(f"not JSON: {error.msg[:1].lower()}{error.msg[1:]}", where)]) from None
    except ValueError:
        raise DefinitionError([Problem("not JSON: a number has too many digits", Location(file, 1, 1))]) from None
    starts = [0, *(m.end() for m in re.finditer(r"\r\n|\r|\n", text))]
    positions: dict[Path, tuple[int, int]] = {}
    problems: list[Problem] = []
    tokens = _JSON_TOKEN.finditer(text)  # the text is known to be JSON: only keys, brackets and commas matter

    def place(offset: int) -> tuple[int, int]:
        line = bisect_right(starts, offset)
        return line, offset - starts[line - 1] + 1

    def value(token: re.Match[str], path: Path) -> None:
        positions.setdefault(path, place(token.start()))
        if token.group() == "[":
            index, token = 0, next(tokens)
            while token.group() != "]":
                value(token, (*path, index))
                index, token = index + 1, _after_comma(tokens)
        elif token.group() == "{":
            seen, token = set[str](), next(tokens)
            while token.group() != "}":
                key, where = json.loads(token.group()), place(token.start())
                if key in seen:
                    problems.append(_twice(key, Location(file, *where)))
                seen.add(key)
                positions[*path, key] = where
                next(tokens)  # the colon
                value(next(tokens), (*path, key))
                token = _after_comma(tokens)

    value(next(tokens), ())
    if problems:
        raise DefinitionError(problems)
    return data, positions


def _after_comma(tokens: Iterator[re.Match[str]]) -> re.Match[str]:
    token = next(tokens)
    return next(tokens) if token.group() == "," else token


def _twice(key: str, where: Location) -> Problem:
    return Problem(f"{key!r} is listed twice in one mapping", where, "remove one of them")


def _parse_yaml(text: str, file: str) -> tuple[Any, Mapping[Path, tuple[int, int]]]:
    if "\t" not in text:  # which libyaml allows in more places
        with suppress(yaml.YAMLError):
            return _compose(_FastLoader, text, file)
    return _compose_slowly(text, file)


def _compose_slowly(text: str, file: str) -> tuple[Any, Mapping[Path, tuple[int, int]]]:
    """Parse again what cannot be parsed, to say where and why."""
    try:
        return _compose(_Loader, text, file)
    except yaml.MarkedYAMLError as error:
        raise DefinitionError([_yaml_problem(error, text, file)]) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        where = Location(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        what = f"not YAML: character U+{ord(text[error.position]):04X} is not allowed"
        raise DefinitionError([Problem(what, where, "remove it")]) from None


def _compose(loads: type[yaml.SafeLoader], text: str, file: str) -> tuple[Any, Mapping[Path, tuple[int, int]]]:
    positions: dict[Path, tuple[int, int]] = {}
    problems: list[Problem] = []
    loader = loads(text)
    try:
        node = loader.get_single_node()
        data = None if node is None else _build(loader, node, (), positions, problems, file)
    finally:
        loader.dispose()
    positions.setdefault((), (1, 1))
    if problems:
        raise DefinitionError(problems)
    return data, positions


_CONTEXTS = {
    "while scanning a block scalar": "a value that goes on with > or | is taken for text of several lines",
    "while scanning a tag": "a value that starts with ! is taken for the name of a type",
}
"""What PyYAML was about where it could not go on: words that say more than what it then met."""

# what PyYAML says → what is wrong, what to write; "opened" has the place where the open thing starts
_YAML_WORDS = (
    (r"found unexpected end of stream", "the quote that opens here is not closed", "close it"),
    (r"expected ',' or '([}\]])'.*", "the bracket that opens here is not closed with '{0}'", "close it"),
    (r"found character '\\t' .*", "a tab stands here", "indent with spaces"),
    (r"mapping values are not allowed .*", "a ':' is not expected here", "put text that contains ': ' in quotes"),
    (r"expected the node content, but found '<stream end>'", "the text ends where a value is expected", "add it"),
    (r"expected the node content, but found '(.*)'", "a value cannot start with '{0}' here", "put it in quotes"),
    (r"found character '(.*)' that .*", "a value cannot start with '{0}'", "put it in quotes"),
    (r"but found another document", "a second document starts here", "write one definition per file"),
    (
        r"found undefined alias '(.*)'",
        "there is no anchor '{0}'",
        "define it above with &{0}, or put the text in quotes",
    ),
    (
        r"expected alphabetic or numeric character, but found .*",
        "a value that starts with * or & is taken for the name of an anchor",
        "put it in quotes",
    ),
    (r"could not find expected ':'", "a key has no ':'", "write name: value"),
    (r"expected <block end>, .*", "this line does not fit the indentation above", "indent it like its neighbours"),
)


def _yaml_problem(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    said = error.problem or error.context or "cannot be read"
    what, fix, mark = said, None, error.problem_mark or error.context_mark
    lines = text.splitlines()
    ahead = lines[mark.line][: mark.column].rstrip() if mark is not None and mark.line < len(lines) else ""
    if error.context in _CONTEXTS:
        what, fix, mark = _CONTEXTS[error.context], "put the whole value in quotes", error.context_mark
    elif ahead.endswith(("'", '"')) and said.endswith(("but got '<scalar>'", "that cannot start any token")):
        what, fix = "text goes on behind the quote that ends a value", "put the whole value in quotes"
    for pattern, words, advice in _YAML_WORDS:
        if fix is None and (match := re.fullmatch(pattern, said)):
            what, fix = words.format(*match.groups()), advice.format(*match.groups())
            if "opens here" in what and error.context_mark is not None:
                mark = error.context_mark
            break
    where = Location(file, mark.line + 1, mark.column + 1) if mark else None
    return Problem(f"not YAML: {what}", where, fix)


_TAGS: Mapping[type[yaml.Node], tuple[str, ...]] = {
    yaml.ScalarNode: ("str", "int", "float", "bool", "null"),
    yaml.SequenceNode: ("seq",),
    yaml.MappingNode: ("map",),
}
_MERGE = "tag:yaml.org,2002:merge"
_MOST_PARTS = 250_000


def _build(
    loader: yaml.SafeLoader,
    node: yaml.Node,
    path: Path,
    positions: dict[Path, tuple[int, int]],
    problems: list[Problem],
    file: str,
) -> Any:
    here = (node.start_mark.line + 1, node.start_mark.column + 1)
    positions.setdefault(path, here)
    if len(positions) > _MOST_PARTS:
        # a few lines of aliases to aliases can stand for billions of parts
        what = f"the definition has more than {_MOST_PARTS:,} parts"
        raise DefinitionError([Problem(what, Location(file, *here), "write it with fewer aliases")])
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    try:
        if kind not in _TAGS[type(node)]:
            raise ValueError
        if isinstance(node, yaml.ScalarNode):
            return loader.construct_object(node)
    except (ValueError, KeyError):
        tag = kind if kind == node.tag else f"!!{kind}"
        problems.append(Problem(f"YAML tag {tag!r} is not allowed here", Location(file, *here), "write a plain value"))
        return None
    assert isinstance(node, yaml.CollectionNode)
    if cut := [_in_quotes(first, whole, file) for first, whole in _cut_by_commas(node)]:
        problems += cut  # whose keys and values are none
        return None
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, n, (*path, i), positions, problems, file) for i, n in enumerate(node.value)]
    assert isinstance(node, yaml.MappingNode)
    written = set[str]()
    for key, _ in node.value:
        if key.tag == _MERGE or not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in written:
            problems.append(_twice(key.value, Location(file, key.start_mark.line + 1, key.start_mark.column + 1)))
        written.add(key.value)
    data: dict[Any, Any] = {}
    for key, value in _merged(node):
        where = (key.start_mark.line + 1, key.start_mark.column + 1)
        if not isinstance(key, yaml.ScalarNode):
            problems.append(Problem("a key must be plain text", Location(file, *where), "write name: value"))
            continue
        positions[*path, key.value] = where
        data[key.value] = _build(loader, value, (*path, key.value), positions, problems, file)
    return data


def _cut_by_commas(node: yaml.CollectionNode) -> Iterator[tuple[yaml.ScalarNode, str]]:
    """Yield texts without quotes in ``{…}`` or ``[…]`` that a comma in their round brackets cuts, each with the whole of it."""
    if not node.flow_style:
        return
    # behind a comma a mapping goes on with a key, which then has no value
    entries = node.value if isinstance(node, yaml.MappingNode) else [(one, one) for one in node.value]
    at = 0
    while at < len(entries):
        first = entries[at][1]
        whole, at = _text_of(first), at + 1
        end = at
        while whole is not None and whole.count("(") > whole.count(")") and end < len(entries):
            key, value = entries[end]
            more = _text_of(key) if value is key or _text_of(value) == "" else None
            whole, end = None if more is None else f"{whole}, {more}", end + 1
        if end > at and whole is not None and whole.count("(") == whole.count(")"):
            yield first, whole
            at = end


def _in_quotes(first: yaml.ScalarNode, whole: str, file: str) -> Problem:
    quote = "'" if '"' in whole else '"'
    where = Location(file, first.start_mark.line + 1, first.start_mark.column + 1)
    fix = f"put the whole of it in quotes: {quote}{whole}{quote}"
    return Problem(f"a comma ends the value {first.value!r}", where, fix)


def _text_of(node: yaml.Node) -> str | None:
    """Return a text that is written without quotes; None if it is anything else."""
    return str(node.value) if isinstance(node, yaml.ScalarNode) and not node.style else None


def _merged(node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
    """Return the entries with those that ``<<`` merges ahead of them: later ones win, and of a list its first mapping."""
    merged: list[tuple[yaml.Node, yaml.Node]] = []
    own: list[tuple[yaml.Node, yaml.Node]] = []
    for key, value in node.value:
        if key.tag != _MERGE:
            own.append((key, value))
            continue
        for part in reversed(value.value) if isinstance(value, yaml.SequenceNode) else [value]:
            if not isinstance(part, yaml.MappingNode):
                what = f"expected a mapping for merging, but found {part.id}"
                raise yaml.constructor.ConstructorError(None, None, what, part.start_mark)
            merged += _merged(part)
    return [*merged, *own]
