"""Sources of outputs that add rows are renamed, split, put together, added and taken out: each row is there once, whatever they are called."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import lazypipe as lp

MODES: dict[str, dict[str, Any]] = {
    "append": {"mode": "append"},
    "upsert": {"mode": "upsert", "key": ["id"]},
    "scd2": {"mode": "scd2", "key": ["id"]},
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for number, name in enumerate(("a/1", "a/2", "b/1")):
        deliver(tmp_path, name, number)
    return tmp_path


def deliver(place: Path, name: str, *ids: int) -> None:
    file = place / f"{name}.csv"
    file.parent.mkdir(exist_ok=True)
    file.write_text("id,v\n" + "".join(f"{n},{n * 10}\n" for n in ids))
    os.utime(file, ns=(10**18, 10**18))


def plan(place: Path, mode: str, *, then: Sequence[dict[str, Any]] = (), **sources: str) -> lp.Plan:
    """Compile a stage of all rows of some sources, in their order."""
    first, *rest = sources
    unions = [*({"union": {"with": name}} for name in rest), *then]
    return lp.Pipeline.from_dict(
        {
            "version": 1,
            "name": "p",
            "sources": {n: {"uri": uri} for n, uri in sources.items()},
            "stages": {"s": {"from": [first, *rest], "do": unions}},
            "outputs": {"s": {"to": "out", **MODES[mode]}},
        },
        base=str(place),
    ).compile()


def ids(place: Path) -> list[int]:
    return sorted(lp.scan(str(place / "out")).collect()["id"].to_list())


def why(made: lp.Plan) -> str:
    said = str(next(s["why"] for s in made.preview() if s["name"] == "s"))
    found = next(s for s in made.run().segments if s.name == "s")
    assert found.error is None
    assert str(found.why).split("; ")[0] == said.split("; ", maxsplit=1)[0]
    return said


@pytest.mark.parametrize("mode", MODES)
def test_one_that_is_renamed_has_been_read(place: Path, mode: str) -> None:
    plan(place, mode, a="a/*.csv").run()
    assert why(plan(place, mode, c="a/*.csv")) == "nothing new: c: 2 unchanged"
    deliver(place, "a/3", 7)
    assert why(plan(place, mode, c="a/*.csv")).startswith("c: 1 added, 2 unchanged")
    # what came under the new name counts under the old one
    assert why(plan(place, mode, a="a/*.csv")) == "nothing new: a: 3 unchanged"
    assert ids(place) == [0, 1, 7]


@pytest.mark.parametrize("mode", MODES)
def test_one_more_adds_its_rows(place: Path, mode: str) -> None:
    plan(place, mode, a="a/*.csv").run()
    assert why(plan(place, mode, a="a/*.csv", b="b/*.csv")).startswith(
        "b: 1 added; the definition changed, and applies to new rows only"
    )
    assert why(plan(place, mode, a="a/*.csv", b="b/*.csv")) == "nothing new: a: 2 unchanged, b: 1 unchanged"
    assert ids(place) == [0, 1, 2]


@pytest.mark.parametrize("mode", MODES)
def test_one_that_is_taken_out_and_comes_back_adds_only_what_is_new(place: Path, mode: str) -> None:
    plan(place, mode, a="a/*.csv").run()
    assert why(plan(place, mode, b="b/*.csv")).startswith("b: 1 added")
    deliver(place, "a/3", 7)
    assert why(plan(place, mode, a="a/*.csv")).startswith("a: 1 added, 2 unchanged")
    assert why(plan(place, mode, b="b/*.csv")).startswith("nothing new: b: 1 unchanged")
    assert ids(place) == [0, 1, 2, 7]


def test_one_that_is_split_or_put_together_adds_nothing_twice(place: Path) -> None:
    plan(place, "append", a="a/*.csv", b="b/*.csv").run()
    assert why(plan(place, "append", one="a/1.csv", two="a/2.csv", b="b/*.csv")).startswith(
        "nothing new: one: 1 unchanged"
    )
    # nothing was committed, so it is split again from what the two had
    deliver(place, "b/2", 8)
    assert why(plan(place, "append", one="a/1.csv", b="b/*.csv", two="a/2.csv")).startswith("b: 1 added, 1 unchanged")
    deliver(place, "a/3", 9)
    assert why(plan(place, "append", every="[ab]/*.csv")).startswith("every: 1 added, 4 unchanged")
    assert why(plan(place, "append", a="a/*.csv", b="b/*.csv")).startswith(
        "nothing new: a: 3 unchanged, b: 2 unchanged"
    )
    assert ids(place) == [0, 1, 2, 8, 9]


def test_of_two_that_read_the_same_files_each_adds_them(place: Path) -> None:
    plan(place, "append", a="a/*.csv").run()
    assert why(plan(place, "append", a="a/*.csv", again="a/*.csv")).startswith("again: 2 added")
    assert ids(place) == [0, 0, 1, 1]
    # one that reads fewer leaves the others to whoever reads them
    assert why(plan(place, "append", a="a/1.csv", again="a/*.csv", rest="a/2.csv")).startswith("nothing new: ")
    assert ids(place) == [0, 0, 1, 1]


def test_a_table_is_known_by_its_place(place: Path) -> None:
    raw = lp.pipeline("raw", base=place).source("a", "a/*.csv").output("a", "lake").build()
    raw.compile().run()
    plan(place, "append", a="lake").run()
    assert why(plan(place, "append", c="lake")).startswith("nothing new: c: ")
    assert why(plan(place, "append", c="lake", b="b/*.csv")).startswith("b: 1 added")
    deliver(place, "a/3", 7)
    raw.compile().run()
    assert why(plan(place, "append", a="lake")).startswith("a: 1 added, 1 unchanged")
    assert ids(place) == [0, 1, 2, 7]
    other = lp.pipeline("other", base=place).source("b", "b/*.csv").output("b", "pond").build()
    other.compile().run()
    assert why(plan(place, "append", a="lake", pond="pond")).startswith("pond: 1 added")
    assert ids(place) == [0, 1, 2, 2, 7]


def test_rows_of_one_that_is_not_read_any_more_are_not_lost_by_a_full_run(place: Path) -> None:
    plan(place, "append", a="a/*.csv", b="b/*.csv").run()
    (failed,) = plan(place, "append", a="a/*.csv").run(full=True).segments
    assert str(failed.error) == (
        f"{place}/out: output 's': rebuilding it would lose rows: source 'b' is not read any more, and rows were made of it, such as those of {place}/b/1.csv; "
        "read it again, run without --full, or write to another place"
    )
    done = plan(place, "append", a="[ab]/*.csv").run(full=True)
    assert done.status == "done", done.segments
    assert ids(place) == [0, 1, 2]


def test_a_feed_of_keys_to_delete_may_be_renamed(place: Path) -> None:
    def deleting(source: str) -> lp.Plan:
        gone = lp.pipeline("gone", base=place).source(source, "b/*.csv").stage("k", source, [{"select": ["id"]}])
        return gone.output("k", "out", mode="delete", key=["id"]).build().compile()

    plan(place, "upsert", a="[ab]/*.csv").run()
    assert deleting("b").run().status == "done"
    deliver(place, "a/3", 2)
    plan(place, "upsert", a="[ab]/*.csv").run()
    assert deleting("c").run().status == "unchanged"
    assert ids(place) == [0, 1, 2]


@pytest.mark.parametrize("full", [False, True])
def test_one_more_of_an_output_that_is_made_of_groups(place: Path, full: bool) -> None:
    """It is made of all that is there in any run: a source that was not read before has lost nothing."""

    def made(**sources: str) -> lp.Plan:
        return plan(place, "upsert", then=[{"aggregate": {"by": ["id"], "aggregate": {"n": "count(*)"}}}], **sources)

    made(a="a/*.csv").run().raise_for_status()
    result = made(a="a/*.csv", b="b/*.csv").run(full=full)
    assert result.status == "done"
    assert ids(place) == [0, 1, 2]
