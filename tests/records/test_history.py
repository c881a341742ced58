"""Where versions come from and where a file's data went, over records written by hand: graphs that are easy to check by eye."""

from __future__ import annotations

import inspect
import sys
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from lazypipe.errors import LazypipeError
from lazypipe.records.ledger import Ledger

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Books:
    """A ledger in memory, written record by record."""

    def __init__(self) -> None:
        self.ledger = Ledger(f"memory://{uuid.uuid4().hex}/ledger")
        self.count = 0

    def add(
        self,
        output: str,
        version: int | None,
        inputs: dict[str, Any],
        *,
        pipeline: str = "p",
        mode: str = "replace",
        status: str = "done",
        aside: list[dict[str, Any]] | None = None,
        kind: str = "run",
        sources: list[str] | None = None,
        run: str | None = None,
    ) -> None:
        self.count += 1
        names = list(inputs) if sources is None else sources
        segment = {
            "name": output, "status": status, "output": output, "uri": f"/d/{output}", "version": version, "mode": mode,
            "rows": 1, "data": [], "quarantine": aside or [], "sources": names, "gates": [], "corrupt": [], "error": None,
        }  # fmt: skip
        outputs = {output: {"uri": f"/d/{output}", "format": "dataset", "mode": mode, "sources": names}}
        body = {
            "kind": kind, "run": run or f"r{self.count}", "pipeline": pipeline, "status": status, "actor": "ann", "inputs": inputs,
            "segments": [segment] if kind != "start" else [], **({"outputs": outputs} if kind == "start" else {}),
        }  # fmt: skip
        self.ledger.append(body, time=NOON)

    def holding(self, file: str) -> list[str]:
        return [
            f"{h.output} {h.version}{' in force' if h.in_force else ''} by {', '.join(h.via)}"
            for h in self.ledger.containing(file)
        ]


def raw(*names: str, digest: str | None = None) -> dict[str, Any]:
    files = [{"uri": f"/raw/{n}", "size": 1, "stamp": "1", "blake3": digest or f"hash of {n}"} for n in names]
    return {"uri": ["/raw/*"], "format": "csv", "files": files, "version": None}


def dataset(name: str, version: int) -> dict[str, Any]:
    return {"uri": [f"/d/{name}"], "format": "dataset", "files": [], "version": version}


@pytest.fixture
def books() -> Books:
    return Books()


def test_rows_that_are_added_keep_those_before(books: Books) -> None:
    books.add("a", 1, {"s": raw("x")}, mode="append")
    books.add("a", 2, {"s": raw("y")}, mode="append")
    books.add("a", 3, {"s": raw("z")})
    books.add("a", 4, {"s": raw("y")}, mode="append")
    assert books.holding("/raw/x") == ["a 1 by s", "a 2 by earlier version"]
    assert books.holding("/raw/y") == ["a 2 by s", "a 4 in force by s"]
    assert books.holding("/raw/z") == ["a 3 by s", "a 4 in force by earlier version"]
    assert [f["uri"] for f in books.ledger.history("a", 2).files] == ["/raw/y", "/raw/x"]
    assert [s.version for s in books.ledger.history("a").steps] == [4, 3]


def test_through_datasets_of_other_pipelines_by_version(books: Books) -> None:
    books.add("a", 1, {"s": raw("x")})
    books.add("a", 2, {"s": raw("y")})
    books.add("b", 1, {"t": dataset("a", 1)}, pipeline="q")
    books.add("c", 1, {"t": dataset("b", 1), "u": dataset("a", 2)}, pipeline="w")
    assert books.holding("/raw/x") == ["a 1 by s", "b 1 in force by t", "c 1 in force by t"]
    assert books.holding("/raw/y") == ["a 2 in force by s", "c 1 in force by u"]
    found = books.ledger.history("w/c")
    assert [(s.output, s.version) for s in found.steps] == [("c", 1), ("b", 1), ("a", 2), ("a", 1)]
    assert {f["uri"] for f in found.files} == {"/raw/x", "/raw/y"}
    assert found.steps[0].parents == (("/d/b", 1), ("/d/a", 2))


def test_the_same_bytes_under_another_name_count(books: Books) -> None:
    books.add("a", 1, {"s": raw("x", digest="h")})
    books.add("b", 1, {"s": raw("copy of x", digest="h")})
    books.add("c", 1, {"s": raw("y")})
    expected = ["a 1 in force by s", "b 1 in force by s"]
    assert books.holding("/raw/x") == books.holding("file:///raw/copy of x") == books.holding("h") == expected


def test_another_delivery_under_the_same_name_counts_too(books: Books) -> None:
    books.add("a", 1, {"s": raw("x", digest="first")})
    books.add("a", 2, {"s": raw("x", digest="second")})
    assert books.holding("/raw/x") == ["a 1 by s", "a 2 in force by s"]
    assert books.holding("first") == ["a 1 by s"]


def test_an_exported_file_that_is_read_again(books: Books) -> None:
    books.add("e", None, {"s": raw("x")})
    books.add("b", 1, {"t": {**raw(), "files": [{"uri": "/d/e", "size": 1, "stamp": "1", "blake3": None}]}})
    books.add("e", None, {"s": raw("y")})
    books.add("b", 2, {"t": {**raw(), "files": [{"uri": "/d/e", "size": 1, "stamp": "2", "blake3": None}]}})
    assert books.holding("/raw/x") == ["e None by s", "b 1 by t"]
    assert books.holding("/raw/y") == ["e None in force by s", "b 2 in force by t"]
    assert [(s.output, s.record) for s in books.ledger.history("b", 1).steps] == [("b", 2), ("e", 1)]
    assert [(s.output, s.record) for s in books.ledger.history("b", 2).steps] == [("b", 4), ("e", 3)]
    assert str(books.ledger.history("e")).startswith("/d/e: record 3")


def test_a_dataset_that_was_deleted_and_begun_again(books: Books) -> None:
    books.add("a", 1, {"s": raw("x")})
    books.add("b", 1, {"t": dataset("a", 1)})
    books.add("a", 1, {"s": raw("y")})
    books.add("c", 1, {"t": dataset("a", 1)})
    assert books.holding("/raw/x") == ["a 1 by s", "b 1 in force by t"]
    assert [f["uri"] for f in books.ledger.history("b").files] == ["/raw/x"]
    assert [f["uri"] for f in books.ledger.history("c").files] == ["/raw/y"]


def test_what_was_put_aside_holds_data_too_also_of_a_run_that_failed_after_it(books: Books) -> None:
    part = {
        "node": "a",
        "uri": "/d/a__quarantine",
        "version": 1,
        "mode": "replace",
        "rows": 1,
        "data": [],
        "sources": ["s"],
    }
    books.add("a", None, {"s": raw("x")}, status="error", aside=[part])
    assert books.holding("/raw/x") == ["a__quarantine 1 in force by s"]
    assert books.ledger.containing("/raw/x")[0].to_dict() == {
        "pipeline": "p", "output": "a__quarantine", "uri": "/d/a__quarantine", "version": 1, "run": "r1", "record": 1,
        "via": ["s"], "in_force": True, "aside": True,
    }  # fmt: skip
    assert [e.run for e in books.ledger.runs("a__quarantine")] == ["r1"]
    assert [e.run for e in books.ledger.runs("/d/a")] == ["r1"]
    assert books.ledger.runs("/d/b") == ()


def test_a_source_that_was_never_listed_gave_nothing(books: Books) -> None:
    books.add("a", 1, {"s": raw("x")}, sources=["s", "never"])
    assert books.holding("/raw/x") == ["a 1 in force by s"]
    assert list(books.ledger.history("a").steps[0].files) == ["s"]


def test_what_a_killed_run_may_have_published_is_told(books: Books) -> None:
    books.add("a", 1, {"s": raw("x")}, kind="start", status="started", mode="append", run="killed")
    books.add("b", 1, {"t": dataset("a", 1)})
    books.add("a", 2, {"s": raw("y")}, mode="append")
    books.add("c", 1, {"t": dataset("a", 2)})
    assert books.holding("/raw/x") == [
        "a None in force by unfinished run",
        "b 1 in force by t",
        "a 2 in force by earlier version",
        "c 1 in force by t",
    ]
    assert books.holding("/raw/y") == ["a 2 in force by s", "c 1 in force by t"]
    books.add("a", 3, {"s": raw("y")})
    assert books.holding("/raw/x")[2] == "a 2 by earlier version"


def test_a_run_that_ended_is_judged_by_its_end(books: Books) -> None:
    books.add("a", 1, {"s": raw("x")}, kind="start", status="started", run="r")
    books.add("a", None, {"s": raw("x")}, status="gate_failed", run="r")
    assert books.holding("/raw/x") == []


def test_a_file_that_a_killed_run_had_not_listed_yet(books: Books) -> None:
    books.add("a", 1, {"s": raw()}, kind="start", status="started", run="killed")
    books.add("b", 1, {"s": raw("z")}, kind="start", status="started", run="other")
    assert books.holding("/raw/x") == ["a None in force by unfinished run"]
    with pytest.raises(LazypipeError, match="no run in the ledger has read '/elsewhere/x'"):
        books.holding("/elsewhere/x")
    # a run that ended has said what it read, and a name like those is another file
    books.add("a", 1, {"s": raw("y")}, run="killed")
    books.add("b", 1, {"s": raw("z")}, run="other")
    with pytest.raises(LazypipeError, match="no run in the ledger has read '/raw/x'; did you mean '/raw/z'"):
        books.holding("/raw/x")


def test_names_that_mean_several_outputs(books: Books) -> None:
    books.add("a", 1, {"s": raw("x")})
    books.add("b", 1, {"s": raw("x")})
    entry = books.ledger.records()[0]
    segment = {**entry.body["segments"][0], "uri": "/elsewhere/a"}
    books.ledger.append({**entry.body, "run": "r3", "pipeline": "q", "segments": [segment]}, time=NOON)
    with pytest.raises(LazypipeError, match="'a' are several outputs; name one by its URI: /d/a, /elsewhere/a"):
        books.ledger.history("a")
    assert books.ledger.history("q/a").steps[0].uri == "/elsewhere/a"
    assert books.ledger.history("file:///elsewhere/a").steps[0].uri == "/elsewhere/a"
    assert [e.run for e in books.ledger.runs("q/a")] == ["r3"]


def test_a_long_chain_of_versions(books: Books) -> None:
    """Deeper than Python's recursion goes."""
    for version in range(1, 401):
        books.add("a", version, {"s": raw(f"x{version}")}, mode="append")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 200)
    try:
        found = books.ledger.history("a")
        assert len(found.steps) == len(found.files) == 400
        assert len(books.holding("/raw/x1")) == 400
        assert str(found).count("\n") == 400 + 400 + 399 - 1
        assert len(found.to_dict()["steps"]) == 400
    finally:
        sys.setrecursionlimit(limit)


def test_a_version_that_is_reached_by_two_ways_stands_once(books: Books) -> None:
    books.add("a", 1, {"s": raw("x")})
    books.add("b", 1, {"t": dataset("a", 1)})
    books.add("c", 1, {"t": dataset("a", 1), "u": dataset("b", 1)})
    assert [s.output for s in books.ledger.history("c").steps] == ["c", "b", "a"]
    assert books.holding("/raw/x")[-1] == "c 1 in force by t, u"
