"""URIs as definitions write them: relative to the definition, with environment variables, on any protocol."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple
from urllib.parse import quote

from lazypipe.storage.connections import SILENCE, bound_silence, has_ended, is_single
from lazypipe.storage.options import for_fsspec, for_polars

if TYPE_CHECKING:
    import fsspec

__all__ = [
    "Redactor",
    "Secret",
    "file_system",
    "has_objects",
    "is_local",
    "is_native",
    "is_object",
    "join",
    "make_folder",
    "place",
    "polars_options",
    "protocol",
    "resolve",
    "unknown_protocol",
]

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(?=::|://)")

NATIVE = frozenset({"", "file", "s3", "s3a", "gs", "gcs", "az", "azure", "adl", "abfs", "abfss", "http", "https", "hf"})
"""Protocols that Polars reads itself, with its own range requests."""
WEB = frozenset({"http", "https"})
"""Those of the web."""
_OBJECTS = NATIVE - WEB - {"", "file", "hf"}
"""Those of object stores."""
_LONGEST = "2h"
"""How long a request of Polars to an object store may take, with all its bytes, which may be 64 MiB and come slowly; its own is without end."""


_SURE, _WORD = 6, 4
"""Characters from which on a value is masked wherever it stands, and where it is a word of its own; shorter ones only beside what they were put beside."""


class Secret(NamedTuple):
    """A value from the environment, and what stands around it in the text that it was put into."""

    name: str
    value: str
    before: str = ""
    after: str = ""

    def patterns(self) -> Iterator[str]:
        """Yield what finds it: short values would be in words, or be words, that have nothing to do with it."""
        before, after = _next(self.before[::-1])[::-1], _next(self.after)
        is_word = len(self.value) >= _WORD or (
            len(self.value) > 1 and not (self.value.isalpha() or self.value.isdigit())
        )
        for form in dict.fromkeys((self.value, quote(self.value), quote(self.value, safe=""))):
            text = re.escape(form)
            left = r"(?<!\w)" if re.match(r"\w", form) else ""
            right = r"(?!\w)" if re.search(r"\w$", form) else ""
            if len(self.value) >= _SURE:
                yield text
                continue
            if before:
                yield f"(?<={re.escape(before)}){text}{'' if _GOES_ON.match(self.after) else right}"
            if after:
                yield f"{'' if _GOES_ON.match(self.before[::-1]) else left}{text}(?={re.escape(after)})"
            if is_word:
                yield f"{left}{text}{right}"
            elif not before and not after:
                yield f"(?<=['\"=]){text}{right}"


_GOES_ON = re.compile(r"[\w*?\[{]")
"""What makes a value a part of a word: letters beside it, or a pattern that stands for some."""


def _next(text: str) -> str:
    """Return the first word of a text, with the sign ahead of it; nothing where a pattern stands, which may be anything."""
    found = re.match(r"[^*?\[{]?\w*", text)
    return found[0] if found is not None else ""


@dataclass(frozen=True)
class Redactor:
    """Puts ``${NAME}`` back wherever a value from the environment would show."""

    secrets: tuple[Secret, ...] = field(default=(), repr=False)

    def __call__(self, text: str) -> str:
        """Return ``text`` without the values."""
        if not self.secrets:
            return text
        pattern, names = self._found
        return pattern.sub(lambda match: f"${{{names[int(match.lastindex or 1) - 1]}}}", text)

    @cached_property
    def _found(self) -> tuple[re.Pattern[str], list[str]]:
        # the longest first, so that no part of a value stays because another one is in it; and all at once, so that no name is taken for one
        parts = [(p, s.name) for s in sorted(self.secrets, key=lambda s: -len(s.value)) for p in s.patterns()]
        return re.compile("|".join(f"({pattern})" for pattern, _ in parts)), [name for _, name in parts]


def expand(value: Any, env: Mapping[str, str]) -> tuple[Any, tuple[Secret, ...]]:
    """Replace ``${NAME}`` in texts (also inside mappings and lists); return it with the values used.

    Raises
    ------
    KeyError
        With the name of a variable that is not set.

    Examples
    --------
    >>> expand("s3://${BUCKET}/x", {"BUCKET": "b"})
    ('s3://b/x', (Secret(name='BUCKET', value='b', before='s3://', after='/x'),))
    """
    used: list[Secret] = []

    def fill(text: str) -> str:
        return _VARIABLE.sub(lambda match: env[match[1]], text)

    def one(match: re.Match[str]) -> str:
        found = env[match[1]]
        if found:
            text = match.string
            used.append(Secret(match[1], found, fill(text[: match.start()]), fill(text[match.end() :])))
        return found

    def walk(part: Any) -> Any:
        if isinstance(part, str):
            return _VARIABLE.sub(one, part)
        if isinstance(part, Mapping):
            return {k: walk(v) for k, v in part.items()}
        if isinstance(part, list | tuple):
            return [walk(v) for v in part]
        return part

    return walk(value), tuple(used)


def protocol(uri: str) -> str:
    """Return the protocol of a URI, "" for a plain path.

    Examples
    --------
    >>> protocol("s3://b/x"), protocol("data/x.csv"), protocol("zip://a.csv::memory://z.zip")
    ('s3', '', 'zip')
    """
    match = _PROTOCOL.match(uri)
    return match.group().lower() if match else ""


def is_local(uri: str) -> bool:
    """Whether the URI names a file of this machine.

    Examples
    --------
    >>> is_local("x.csv"), is_local("/data/a::b.csv"), is_local("zip://x.csv::/data/a.zip")
    (True, True, False)
    """
    return protocol(uri) in ("", "file", "local") and not _is_chain(uri)


def is_native(uri: str) -> bool:
    """Whether Polars speaks the protocol itself."""
    return protocol(uri) in NATIVE and not _is_chain(uri)


def is_object(uri: str) -> bool:
    """Whether the URI names what is in an object store."""
    return protocol(uri) in _OBJECTS and not _is_chain(uri)


def polars_options(uri: str, options: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the options of a storage as Polars takes them for a URI.

    Examples
    --------
    >>> polars_options("s3://b/x", None), polars_options("s3://b/x", {"timeout": "30s"}), polars_options("x", None)
    ({'timeout': '2h'}, {'timeout': '30s'}, None)
    """
    found = for_polars(protocol(uri), options or {})
    return {"timeout": _LONGEST, **(found or {})} if protocol(uri) in _OBJECTS else found


def unknown_protocol(uri: str) -> str | None:
    """Return the protocol of a URI that nobody speaks, as it is written; None if it is known.

    Examples
    --------
    >>> unknown_protocol("s4://b/x"), unknown_protocol("S3://b/x"), unknown_protocol("s3://b/x"), unknown_protocol("zip://a.csv::x.zip")
    ('s4', 'S3', None, None)
    """
    for link in uri.split("::") if _is_chain(uri) else [uri]:
        found = _PROTOCOL.match(link)
        name = found.group() if found else link if link.isidentifier() and link != uri else ""
        if name in NATIVE or is_local(link):
            continue
        import fsspec

        if name not in fsspec.registry and name not in fsspec.available_protocols():
            return name
    return None


def _is_chain(uri: str) -> bool:
    """Whether one file system stands in another; where a whole path begins, there is none."""
    return "::" in uri and not uri.startswith("/")


def local_path(uri: str) -> str:
    """Return the path of a local URI."""
    return uri.partition("://")[2] if protocol(uri) else uri


def place(uri: str) -> str:
    """Return a form that is the same for all URIs of one dataset, however they are written.

    Examples
    --------
    >>> place("file:///lake/orders/"), place("s3://lake/orders")
    ('/lake/orders', 's3://lake/orders')
    """
    return uri.removeprefix("file://").rstrip("/")


def whole_path(uri: str) -> str:
    """Return the path of a local URI from the root, as ``file_system`` gives it.

    Examples
    --------
    >>> whole_path("file:///data/x/"), whole_path("x") == f"{os.getcwd()}/x"
    ('/data/x', True)
    """
    path = os.path.join(os.getcwd(), os.path.expanduser(local_path(uri)))
    return path.replace(os.sep, "/").rstrip("/") or "/"


def resolve(uri: str, base: str) -> str:
    """Return a URI that no longer depends on the folder one is in: a path relative to ``base`` becomes whole.

    Examples
    --------
    >>> resolve("data/x.csv", "/p"), resolve("x.csv", "memory://p"), resolve("s3://b/x", "/p")
    ('/p/data/x.csv', 'memory://p/x.csv', 's3://b/x')
    >>> resolve("zip://*.csv::data/x.zip", "/p")
    'zip://*.csv::/p/data/x.zip'
    """
    inner, chained, outer = uri.rpartition("::")
    if chained:
        return f"{inner}::{resolve(outer, base)}" if is_local(outer) else uri
    if not is_local(uri):
        return uri
    path = os.path.expanduser(local_path(uri))
    if os.path.isabs(path):
        return path
    if not is_local(base):
        return join(base, path)
    return os.path.normpath(os.path.join(os.path.abspath(local_path(base)), path))


def join(uri: str, *parts: str) -> str:
    """Append path segments to a URI.

    Examples
    --------
    >>> join("s3://b/a/", "c"), join("memory://", "c"), join("/", "c")
    ('s3://b/a/c', 'memory://c', '/c')
    """
    tail = "/".join(p.strip("/") for p in parts)
    return uri + tail if uri.endswith("://") else f"{uri.rstrip('/')}/{tail}"


def file_system(uri: str, options: Mapping[str, Any] | None = None) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return fsspec's file system for a URI, and the path in it.

    Whatever it is, it is looked at anew each time: fsspec would remember an archive, what a cache holds, or a listing of an object store,
    for as long as the process lives.
    """
    import fsspec

    how = dict(options or {})
    if _is_chain(uri):
        names = [protocol(link) or link for link in uri.split("::")]
        how |= {n: for_fsspec(n, how[n]) for n in names if isinstance(how.get(n), Mapping)}
        how |= {n: {**how.get(n, {}), **_CACHES[n]} for n in names if n in _CACHES}
        how |= {n: _bounded(how.get(n, {})) for n in names if n in WEB}
        how["skip_instance_cache"] = True
    else:
        how = for_fsspec(protocol(uri), how)
        how = _bounded(how) if protocol(uri) in WEB else how
    fs, path = fsspec.core.url_to_fs(uri, **how)
    if is_single(protocol(uri)) and not _is_chain(uri) and has_ended(fs):
        fs.clear_instance_cache()
        fs, path = fsspec.core.url_to_fs(uri, **how)
    bound_silence(getattr(fs, "fs", fs))
    fs.invalidate_cache()
    return fs, str(path)


def _bounded(how: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with which a server of the web may take any time for a file, but not say nothing: five minutes for all of it are the client's own."""
    try:
        from aiohttp import ClientTimeout
    except ImportError:  # fsspec says what to install
        return dict(how)
    timeout = ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)
    return {**how, "client_kwargs": {"timeout": timeout, **how.get("client_kwargs", {})}}


def has_objects(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether a file system is that of an object store."""
    return not _OBJECTS.isdisjoint((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def make_folder(fs: fsspec.AbstractFileSystem, path: str) -> None:
    """Make a folder, where the file system has such.

    Object stores have none. Their clients would ask for the bucket each time, and make one that a URI names by mistake.
    """
    if not has_objects(fs):
        names = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
        for tries in range(_TRIES):
            try:
                fs.makedirs(path, exist_ok=True)
            except Exception:  # where somebody else makes the same folders, a server says no more than that it failed
                if tries + 1 < _TRIES and any(map(is_single, names)):
                    continue
                raise
            return


_TRIES = 3


@contextmanager
def opened(uri: str, options: Mapping[str, Any] | None = None, **how: Any) -> Iterator[BinaryIO]:
    """Open a file to read it; ``how`` is what a store is told. Of this machine without fsspec, which many a run needs for nothing else."""
    if is_local(uri):
        with open(whole_path(uri), "rb") as file:
            yield file
        return
    # held until the file is closed: a cache goes with its file system
    fs, path = file_system(uri, options)
    with fs.open(path, "rb", **how) as file:
        yield file


_CACHES: Mapping[str, Mapping[str, Any]] = {
    "simplecache": {"cache_storage": "TMP", "skip_instance_cache": True},
    "filecache": {"check_files": True},
    "blockcache": {"check_files": True},
}
"""How fsspec's caches are told not to give what a file held before: the first one never looks, so it begins with nothing."""
