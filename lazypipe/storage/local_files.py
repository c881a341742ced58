"""Local files that match a pattern or are below a folder: their names only, without opening or stating them."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

__all__ = ["Names", "below", "covers", "is_glob", "matching"]

_GLOB = re.compile(r"[*?\[]")


class Names(NamedTuple):
    """Names that stand right in one folder, in order; ``start`` is what comes before each, with its slash.

    Folders may be among names that match a pattern: what each one is shows when it is looked at.
    """

    start: str
    names: list[str]


def is_glob(path: str) -> bool:
    """Whether a path is a pattern.

    Examples
    --------
    >>> is_glob("in/*.csv"), is_glob("in/a.csv")
    (True, False)
    """
    return _GLOB.search(path) is not None


def matching(pattern: str, *, ordered: bool = True) -> list[Names]:
    """Return the names that a pattern matches, as ``glob.glob`` would, but each folder is listed once.

    If they need not be ``ordered``, those of a folder may come in any order: there may be very many.
    An unreadable folder is an error, not an empty one. A folder that is a link to one that it stands in is not gone into again.
    """
    root, parts = "/" if pattern.startswith("/") else "", pattern.split("/")
    fixed = next(i for i, part in enumerate(parts) if is_glob(part))
    found: list[Names] = []
    folder, last = "/".join(parts[:fixed]) or root, [p for p in parts[fixed:] if p]
    if not ordered and len(last) == 1 and last[0] != "**":
        found.append(Names(_start(folder), _fits(last[0])(_listdir(folder))))
    else:
        _match(folder, last, found)
    return [n for n in found if n.names]


def covers(pattern: str, path: str) -> bool:
    """Whether a pattern would match a file at ``path``, if there was one.

    Examples
    --------
    >>> covers("in/**/*.csv", "in/a/b.csv"), covers("in/*.csv", "in/a/b.csv"), covers("in/**/*.csv", "in/.a/b.csv")
    (True, False, False)
    """
    return _covers([p for p in pattern.split("/") if p], [p for p in path.split("/") if p])


def _covers(parts: Sequence[str], names: Sequence[str]) -> bool:
    if not parts or not names:
        return not parts and not names
    if parts[0] == "**" and _covers(parts[1:], names):
        return True
    rest = parts if parts[0] == "**" and len(names) > 1 else parts[1:]
    return bool(_fits(parts[0])([names[0]])) and _covers(rest, names[1:])


def below(folder: str, endings: tuple[str, ...]) -> list[Names]:
    """Return the files of a folder by name, then those of the folders in it; links to folders are not gone into."""
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name[0] in "._":
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(name)
            elif name.lower().endswith(endings) and not (entry.is_symlink() and os.path.isdir(entry.path)):
                files.append(name)
    start = folder if folder.endswith("/") else f"{folder}/"
    found = [Names(start, sorted(files))] if files else []
    for name in sorted(folders):
        found += below(start + name, endings)
    return found


def _match(
    folder: str,
    parts: Sequence[str],
    found: list[Names],
    inside: frozenset[tuple[int, int]] = frozenset(),
    entries: Sequence[os.DirEntry[str]] | None = None,
) -> None:
    """Collect the names below ``folder`` that match the parts of a pattern; ``inside`` are the folders that ``**`` is in."""
    part, rest = parts[0], parts[1:]
    start = _start(folder)
    if not is_glob(part):
        path = start + part
        if rest:
            _match(path, rest, found)
        elif os.path.isfile(path):
            found.append(Names(start, [part]))
        return
    fits = _fits(part)
    if not rest and part != "**":
        names = _listdir(folder) if entries is None else [e.name for e in entries]
        found.append(Names(start, sorted(fits(names))))
        return
    deep = part == "**"
    entries = _entries(folder) if entries is None else entries
    if deep and entries:
        at = os.stat(folder or ".")
        if (at.st_dev, at.st_ino) in inside:
            return
        inside |= {(at.st_dev, at.st_ino)}
        if rest:
            _match(folder, rest, found, entries=entries)
    chosen, files = {*fits([e.name for e in entries])}, []
    for entry in entries:
        if entry.name not in chosen:
            continue
        path = start + entry.name
        if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(path)):
            _match(path, parts, found, inside) if deep else _match(path, rest, found)
        elif not rest:
            files.append(entry.name)
    found.append(Names(start, sorted(files)))


def _start(folder: str) -> str:
    return folder if folder in ("", "/") else f"{folder}/"


def _fits(part: str) -> Callable[[Sequence[str]], list[str]]:
    """Return a function that selects the names matching one part of a pattern; hidden names only if the pattern begins with a dot."""
    part = "*" if part == "**" else part
    if not is_glob(part):
        return lambda names: [n for n in names if n == part]
    shown = part[0] == "."
    if part[0] == "*" and not is_glob(part[1:]):  # by far the most frequent, and there may be very many names
        return partial(_shown, part[1:])
    fits = re.compile(fnmatch.translate(part)).match
    return lambda names: [n for n in names if fits(n) and (shown or n[0] != ".")]


def _shown(ending: str, names: Sequence[str]) -> list[str]:
    """Return the names that end so and are not hidden."""
    # as one text, for mostly all of them are: no name has a slash in it
    text = "/".join(["", *names, ""])
    if text.count(f"{ending}/", 1) == len(names) and "/." not in text:
        return [*names]
    return [n for n in names if n.endswith(ending) and n[0] != "."]


def _listdir(folder: str) -> list[str]:
    try:
        return os.listdir(folder or ".")
    except (FileNotFoundError, NotADirectoryError):
        return []


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder or ".") as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
