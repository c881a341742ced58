"""Deleting many files: what one request of a store leaves, or does not know, goes one by one."""

from __future__ import annotations

from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from s3fs import S3FileSystem

from lazypipe.storage.deleting import delete


class Store(S3FileSystem):
    """A store that holds names, and notes what it is asked; of those in ``kept`` it deletes none at once, and those in ``refused`` never."""

    cachable = False

    def __init__(self, names: set[str], *, knows: bool = True, kept: set[str] = frozenset(), refused: str = "") -> None:  # type: ignore[assignment]
        super().__init__(anon=True)
        self.names, self.knows, self.kept, self.refused = names, knows, kept, refused
        self.asked = list[int | str]()

    def call_s3(self, method: str, *, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        assert (method, Bucket) == ("delete_objects", "b")
        keys = {one["Key"] for one in Delete["Objects"]}
        self.asked.append(len(keys))
        if not self.knows:
            raise NotImplementedError
        left = keys & {*self.kept, self.refused}
        self.names -= {f"b/{key}" for key in keys - left}
        return {"Errors": [{"Key": key, "Code": "SlowDown"} for key in left]} if left else {}

    def rm_file(self, path: str) -> None:
        self.asked.append(path)
        if path == f"b/{self.refused}":
            raise PermissionError(path)
        if path not in self.names:
            raise FileNotFoundError(path)
        self.names.remove(path)


def names(number: int) -> list[str]:
    return [f"b/{n:04}" for n in range(number)]


def test_a_thousand_go_with_one_request() -> None:
    store = Store({*names(2500)})
    delete(store, names(2499))
    assert store.names == {"b/2499"}
    assert store.asked == [1000, 1000, 499]


def test_one_that_may_be_gone() -> None:
    store = Store({"b/0"})
    delete(store, ["b/0"])
    delete(store, ["b/0"])
    delete(store, [])
    assert store.asked == ["b/0", "b/0"]


@pytest.mark.parametrize("knows", [True, False])
def test_what_is_left_goes_one_by_one(*, knows: bool) -> None:
    store = Store({*names(20)}, knows=knows, kept={"0003", "0007"})
    delete(store, names(20))
    assert not store.names
    assert (store.asked[0], sorted(map(str, store.asked[1:]))) == (20, ["b/0003", "b/0007"] if knows else names(20))


def test_what_is_refused_is_told() -> None:
    store = Store({*names(20)}, refused="0003")
    with pytest.raises(PermissionError, match="b/0003"):
        delete(store, names(20))
    assert store.names == {"b/0003"}


def test_of_other_file_systems_one_by_one() -> None:
    fs = MemoryFileSystem()
    fs.pipe({"/deleting/a": b"1", "/deleting/b": b"2"})
    delete(fs, ["/deleting/a", "/deleting/gone", "/deleting/b"])
    assert fs.find("/deleting") == []
