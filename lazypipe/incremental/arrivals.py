"""What commits remember about event times in files: those that need not be read again, and the watermark each file was judged by.

The times of a file are counted once. They, the latest time that was taken for one, and the hash of what the file's rows were
judged by stand in the commit beside what it has consumed, in the order of the files there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from lazypipe.compile.sources.source import Snapshot
from lazypipe.incremental.changes import RACY
from lazypipe.incremental.stamps import moment_of
from lazypipe.incremental.state import Consumed, ConsumedFile
from lazypipe.storage.files import FileInfo
from lazypipe.windows.watermark import Arrival, Extent, Times, Watermark, plain_times

__all__ = ["ARRIVALS", "Known", "by_name", "kept", "known", "rejudged", "still_stands", "with_times"]

ARRIVALS = "arrivals"
"""Where in what a commit has consumed stands what it knows of the times in files."""


class Known(NamedTuple):
    """What a commit knows of a file: when the file was listed, the latest time that was taken for one, and its times."""

    file: ConsumedFile
    listed: int | None
    bound: int | None
    extents: Times | None

    def is_of(self, file: FileInfo) -> bool:
        """Whether it holds of a file that is listed now, to all that names, sizes and stamps can tell."""
        moment = moment_of(file.stamp)
        return self.looks_like(file) and (moment is None or self.listed is None or moment < self.listed - RACY)

    def looks_like(self, file: FileInfo) -> bool:
        """Whether a file has the size and stamp that it had, which may be too young to prove anything."""
        return (self.file.size, self.file.stamp) == (file.size, file.stamp) and file.stamp is not None


def kept(
    rule: Watermark, files: Sequence[ConsumedFile], arrivals: Mapping[str, Arrival], before: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a commit says of the files that it has consumed, as plain data.

    Parameters
    ----------
    arrivals
        By the name that a file is consumed by.
    before
        What the commit before said of files, by their names: of those that are not there now.
    """
    said = [a.to_plain() if (a := arrivals.get(f.uri)) is not None else before.get(f.uri) for f in files]
    return {"about": rule.about, "files": said}


def by_name(consumed: Consumed, plain: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a commit says of each file, by its name; nothing where it says nothing."""
    if plain is None:
        return {}
    return {f.uri: about for f, about in zip(consumed.files, plain["files"], strict=True) if about is not None}


def known(rule: Watermark, consumed: Consumed, plain: Mapping[str, Any] | None) -> dict[str, Known]:
    """Return what a commit knows of the times in files, by their names; nothing where they were counted by another rule."""
    if plain is None or plain["about"] != rule.about:
        return {}
    found = {}
    for file, about in zip(consumed.files, plain["files"], strict=True):
        if about is not None:
            found[file.uri] = Known(file, consumed.listed, about[1], _times(about))
    return found


def _times(about: Sequence[Any]) -> Times | None:
    _, _, times, *within = about
    return None if times is None else Times({k: Extent(*e) for k, e in times.items()}, within=bool(within))


def with_times(info: Mapping[str, Any], counted: Mapping[str, Mapping[str, Mapping[str, Extent]]]) -> dict[str, Any]:
    """Return what a commit says of its inputs with the event times that were counted meanwhile, per source and file's name."""
    arrivals = dict(info.get(ARRIVALS, {}))
    for name in counted.keys() & arrivals.keys():
        files = Consumed.from_dict(info["sources"][name]).files
        said = [
            about
            if about is None or about[2] is not None or f.uri not in counted[name]
            else [*about[:2], *plain_times(counted[name][f.uri])]
            for f, about in zip(files, arrivals[name]["files"], strict=True)
        ]
        arrivals[name] = {**arrivals[name], "files": said}
    return {**info, **({ARRIVALS: arrivals} if arrivals else {})}


def still_stands(said: Sequence[Any] | None, arrival: Arrival | None) -> bool:
    """Whether rows of a file that has grown came under what they came under before.

    ``said`` is what the last commit says of it. The file was written later now, so that later times are times: that makes no
    difference if there are none.
    """
    if said is None or arrival is None:
        return False
    times = _times(said)
    same = replace(arrival, bound=said[1]).mark == said[0]
    return same and times is not None and times.holds_with(arrival.bound)


def rejudged(
    snapshot: Snapshot,
    said: Mapping[str, Any],
    name: Callable[[str], str],
    moved: Mapping[str, str],
) -> frozenset[str]:
    """Return the URIs of files whose rows are judged by something else than they were.

    Parameters
    ----------
    said
        What the last commit says of files, by their names then.
    moved
        URI → the name that the file had.
    """
    found = set()
    for uri, arrival in snapshot.arrivals.items():
        was = said.get(moved.get(uri, name(uri)))
        if was is not None and was[0] != arrival.mark:
            found.add(uri)
    return frozenset(found)
