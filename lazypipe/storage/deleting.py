"""Deleting many files of a store: as few requests as it takes, and not one after the other."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from lazypipe.storage import uri as uris
from lazypipe.storage.parallel import in_parallel

if TYPE_CHECKING:
    import fsspec

__all__ = ["delete"]

_IN_ONE = 1000
"""How many files S3 takes with one request."""


def delete(fs: fsspec.AbstractFileSystem, paths: Collection[str]) -> None:
    """Delete files; somebody else may have been first. Raises what the store raises of the first that it refuses to delete.

    Of most stores each is a request. S3 has one for many, which not every store that speaks its protocol knows, and which does not fail where only some of
    them are refused: what is left then goes one by one.
    """
    if hasattr(fs, "call_s3") and len(paths) > 1:
        every = [*paths]
        paths = [p for at in range(0, len(every), _IN_ONE) for p in _left(fs, every[at : at + _IN_ONE])]

    def one(path: str) -> None:
        with suppress(FileNotFoundError):
            fs.rm_file(path)

    if uris.has_objects(fs):  # each is a round trip
        in_parallel(one, [*paths])
    else:
        for path in paths:
            one(path)


def _left(fs: fsspec.AbstractFileSystem, paths: Sequence[str]) -> Iterator[str]:
    """Delete files of one bucket at once; yield those that it did not delete."""
    keys = {fs.split_path(path)[1]: path for path in paths}
    told = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
    try:
        found = fs.call_s3("delete_objects", Bucket=fs.split_path(paths[0])[0], Delete=told)
    except Exception:  # of whatever client: why is told by the request for one
        yield from paths
        return
    yield from (keys[error["Key"]] for error in found.get("Errors", ()) if error.get("Key") in keys)
