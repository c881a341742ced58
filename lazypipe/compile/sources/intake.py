"""How a source handles deliveries: what counts as a change, when a delivery is complete, and what to do about changed or removed files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Literal, cast

from lazypipe.spec.model import Fault, Param, Path, Source

__all__ = ["Expect", "Intake", "read_intake"]


@dataclass(frozen=True)
class Expect:
    """When a delivery is complete; all conditions that are given must hold.

    ``files`` is how many there are, ``at_least`` how many at the least, in each folder or in the whole source. ``marker`` is a
    pattern of the name of a file that is put beside the data when all of it is there; with ``{name}`` in it each data file has
    one of its own. ``manifest`` is such a pattern for a file that lists the data files, with sizes and checksums.
    """

    files: int | None = None
    at_least: int | None = None
    marker: str | None = None
    manifest: str | None = None
    per: Literal["source", "folder"] = "source"

    def is_beside(self, uri: str) -> bool:
        """Whether a file is a marker or a manifest, and so none with data."""
        name = uri.partition("::")[0].rpartition("/")[2]
        patterns = (self.manifest, self.marker and self.marker.replace("{name}", "*"))
        return any(p is not None and fnmatchcase(name, p) for p in patterns)


@dataclass(frozen=True)
class Intake:
    """What a source says of deliveries, with the defaults: everything that is there is whole, and every change is followed."""

    detect: Literal["stamp", "content"] = "stamp"
    on_removed: Literal["ignore", "delete", "fail"] = "delete"
    on_modified: Literal["reprocess", "fail", "ignore"] = "reprocess"
    settle: timedelta = timedelta(0)
    expect: Expect | None = None
    on_partial: Literal["wait", "fail"] = "wait"

    @property
    def minds_names(self) -> bool:
        """Whether new files must be distinguished from renamed, changed or removed ones, because they may have to wait. Otherwise rows just follow their files."""
        waits = self.settle > timedelta(0) or self.expect is not None
        return waits or self.on_removed != "delete" or self.on_modified != "reprocess"


def read_intake(source: Source, form: str, at: Path) -> Intake:
    """Return what a source of a format says of deliveries.

    Raises
    ------
    Fault
        If it contradicts itself, or says of a dataset or a Delta table what holds for files only.
    """
    if form in _WHOLE:
        _refuse_for_whole(source, form, at)
    if source.on_partial and not source.expect:
        fix = "add expect, such as expect: {marker: _SUCCESS}"
        raise Fault("on_partial is for incomplete deliveries, and nothing is expected", fix, (*at, "on_partial"))
    given = {k: v for k in ("detect", "on_removed", "on_modified", "on_partial") if (v := getattr(source, k))}
    return Intake(**given, settle=_settle(source.settle, at), expect=_expect(source.expect, (*at, "expect")))


_WHOLE = {"dataset": ("dataset", "commits"), "delta": ("Delta table", "versions")}


def _refuse_for_whole(source: Source, form: str, at: Path) -> None:
    kind, parts = _WHOLE[form]
    for key in ("settle", "expect", "on_partial"):
        if getattr(source, key):
            what = f"{key} is for files that others deliver, and this is a {kind}: its {parts} are whole"
            raise Fault(what, f"remove {key}", (*at, key))
    if source.detect == "content":
        what = f"detect: content is for files that others deliver, and this is a {kind}: its files never change"
        raise Fault(what, "remove detect", (*at, "detect"))
    if source.on_corrupt != "fail":
        what = f"on_corrupt is for files that others deliver, and this is a {kind}"
        raise Fault(what, "remove on_corrupt", (*at, "on_corrupt"))
    if form == "delta" and source.on_modified == "ignore":
        what = "a Delta table changes rows by writing other files, so that on_modified: ignore would add them once more"
        raise Fault(what, "write on_modified: reprocess, or remove it", (*at, "on_modified"))


def _settle(written: str | None, at: Path) -> timedelta:
    if written is None:
        return timedelta(0)
    try:
        found = cast("timedelta", Param("duration").parse(written))
    except ValueError as error:
        raise Fault(f"settle: {error}", None, (*at, "settle")) from None
    if found < timedelta(0):
        raise Fault(f"settle: {written!r} is negative", "write a duration such as 5m", (*at, "settle"))
    return found


def _expect(written: Mapping[str, object], at: Path) -> Expect | None:
    if not written:
        return None
    if "files" in written and "at_least" in written:
        raise Fault("expect has both files and at_least", "keep one of them", (*at, "at_least"))
    if "per" in written and "files" not in written and "at_least" not in written:
        fix = "add files or at_least: markers and manifests are looked for in the folders in any case"
        raise Fault("per says where files are counted, and nothing is counted", fix, (*at, "per"))
    for key in ("marker", "manifest"):
        if "/" in str(written.get(key, "")):
            raise Fault(f"{key} {written[key]!r} is a path", f"write a name, such as {_NAMES[key]}", (*at, key))
    return Expect(**written)  # type: ignore[arg-type]  # as the JSON Schema has checked


_NAMES = {"marker": "_SUCCESS", "manifest": "manifest.jsonl"}
