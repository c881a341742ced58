"""Two pipelines write one dataset: what each has read is known, and none takes what the other has read for its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lazypipe as lp
from lazypipe.incremental.after import After


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for number, name in enumerate(("a/1", "b/1")):
        deliver(tmp_path, name, number)
    return tmp_path


def deliver(place: Path, name: str, *ids: int) -> None:
    file = place / f"{name}.csv"
    file.parent.mkdir(exist_ok=True)
    file.write_text("id,v\n" + "".join(f"{n},{n * 10}\n" for n in ids))


def plan(
    place: Path, name: str, uri: str = "a/*.csv", kept: str = "id >= 0", source: str = "t", **output: Any
) -> lp.Plan:
    made = lp.pipeline(name, base=place).source(source, uri).stage("s", source, [{"filter": kept}])
    return made.output("s", "out", **output).build().compile()


def ran(made: lp.Plan, **how: Any) -> str:
    """Run; return what became of it, which a plan told before."""
    (said,) = made.preview(**how)
    (segment,) = made.run(**how).segments
    if segment.error is not None:
        assert (said["how"], said["why"]) == ("error", str(segment.error))
        return str(segment.error)
    return segment.status


def ids(place: Path) -> list[int]:
    return sorted(lp.scan(str(place / "out")).collect()["id"].to_list())


@pytest.mark.parametrize("output", [{"mode": "append"}, {"mode": "upsert", "key": ["id"]}])
@pytest.mark.parametrize("source", ["t", "u"])
def test_of_other_files_both_add_what_is_new_to_them(place: Path, output: dict[str, Any], source: str) -> None:
    def one() -> str:
        return ran(plan(place, "one", **output))

    def two(kept: str = "id >= 0") -> str:
        return ran(plan(place, "two", "b/*.csv", kept, source, **output))

    assert [one(), two(), one(), two()] == ["done", "done", "unchanged", "unchanged"]
    deliver(place, "a/2", 2)
    deliver(place, "b/2", 3)
    # also by another definition: each goes on where it was
    assert [one(), two("id > 0"), one(), two("id > 0")] == ["done", "done", "unchanged", "unchanged"]
    assert ids(place) == [0, 1, 2, 3]


@pytest.mark.parametrize("output", [{"mode": "append"}, {"mode": "upsert", "key": ["id"]}])
def test_of_the_same_files_only_one_may_add(place: Path, output: dict[str, Any]) -> None:
    assert ran(plan(place, "one", kept="id = 0", **output)) == "done"
    for source in ("t", "u"):
        assert ran(plan(place, "two", "*/*.csv", "id > 0", source, **output)) == (
            f"{place}/out: output 's': pipeline 'one' has added rows of {place}/a/1.csv to this dataset, and those that 'two' makes of it would never be added; "
            "write to another place; or, if 'two' is its new name, run it as it was under that name until it has added rows"
        )
    assert ids(place) == [0]
    # as the message says
    assert ran(plan(place, "two", kept="id = 0", **output)) == "unchanged"
    deliver(place, "a/2", 0)
    assert ran(plan(place, "two", kept="id = 0", **output)) == "done"
    assert ran(plan(place, "two", kept="id >= 0", **output)) == "unchanged"


def test_a_pipeline_that_is_renamed_goes_on(place: Path) -> None:
    assert ran(plan(place, "one", mode="append")) == "done"
    assert ran(plan(place, "two", mode="append")) == "unchanged"
    deliver(place, "a/2", 2)
    assert ran(plan(place, "two", mode="append")) == "done"
    assert ran(plan(place, "two", kept="id > 1", mode="append")) == "unchanged"
    assert ids(place) == [0, 2]


def test_one_that_would_put_its_rows_in_the_place_of_others_is_refused(place: Path) -> None:
    assert ran(plan(place, "one")) == "done"
    why = (
        f"{place}/out: output 's': the dataset holds what pipeline 'one' made, and 'two' would put other rows in its place; "
        "write to another place, or run once in full (--full) if the pipeline was renamed"
    )
    assert ran(plan(place, "two", "b/*.csv")) == why
    assert ran(plan(place, "one")) == "unchanged"
    assert ids(place) == [0]
    # the same rows are nothing else
    deliver(place, "a/2", 2)
    assert ran(plan(place, "two")) == "done"
    assert ran(plan(place, "two", kept="id > 0")) == "done"
    assert ids(place) == [2]
    assert ran(plan(place, "one")).startswith(f"{place}/out: output 's': the dataset holds what pipeline 'two' made")
    assert ran(plan(place, "one"), full=True) == "done"
    assert ids(place) == [0, 2]


@pytest.mark.parametrize("output", [{"mode": "append"}, {}])
def test_a_dataset_of_an_earlier_lazypipe_is_of_whoever_comes(
    place: Path, output: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not say who wrote it; so nobody is refused, and nothing is rebuilt for that."""
    with monkeypatch.context() as earlier:
        earlier.setattr(After, "_pipelines", lambda *_, **__: {})
        plan(place, "one", **output).run()
    assert ran(plan(place, "one", **output)) == "unchanged"
    deliver(place, "b/2", 5)
    assert ran(plan(place, "two", "b/*.csv", **output)) == "done"
    assert ids(place) == ([0, 1, 5] if output else [1, 5])
    deliver(place, "a/2", 6)
    again = ran(plan(place, "one", **output))
    if output:  # who added the first of these rows is not known
        assert again == "done"
        assert ids(place) == [0, 1, 5, 6]
    else:
        assert again.startswith(f"{place}/out: output 's': the dataset holds what pipeline 'two' made")
