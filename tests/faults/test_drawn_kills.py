"""Whatever the pipeline, wherever a run is killed, and whoever else runs: the next run ends with what one full run gives."""

from __future__ import annotations

import json
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import lazypipe as lp
from tests.faults.killing import Killer
from tests.properties import test_incremental as drawn
from tests.properties.scale import at_scale

EXAMPLES = settings().max_examples // 6
# Python functions are allowed by those who run, which is not what is killed here
PIPELINES = drawn.pipelines().filter(lambda data: "python" not in json.dumps(data["stages"]))
ENDS = st.one_of(st.just(0), st.integers(1, 40), st.integers(-60, -1), st.just(1000))
"""Where a run ends: 1000 stands for one that another runs beside."""
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["add", "modify", "remove", "other", "amend", "grow", "edit", "care", "back", "rename", "nothing"]
        ),
        st.integers(0, 5),
        drawn.ROWS,
        ENDS,
    ),
    min_size=1,
    max_size=5,
)


class World(drawn.World):
    def end(self, killer: Killer, number: int, at: int) -> None:
        """Run in another process, which dies there."""
        self.run_ahead()
        (self.base / "p.yaml").write_text(lp.Pipeline.from_dict(self.defined("kept"), base=str(self.base)).to_yaml())
        if at < 1000:
            killer.run(self.base, at, f"r{number}")
            return
        other = threading.Thread(target=killer.run, args=(self.base, 0, f"r{number}"))
        other.start()
        with suppress(lp.LazypipeError):
            self.run("kept")
        other.join()


@given(data=PIPELINES, steps=STEPS)
@settings(max_examples=EXAMPLES)
def test_runs_that_are_killed_anywhere(
    killer: Killer, data: dict[str, Any], steps: list[tuple[str, int, Any, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder, at_scale(data["scale"]):
        world = World(Path(folder), data)
        for number, (action, index, rows, at) in enumerate(steps, 1):
            world.act(action, index, rows)
            world.end(killer, number, at)
        result = world.run("kept")
        fresh = world.run("fresh")
        assert drawn.ended(result) == drawn.ended(fresh), (result.segments, fresh.segments)
        kept, anew = world.held("kept"), world.held("fresh")
        if fresh.status == "done":
            assert kept == anew, result.segments
        expected = drawn.counts(fresh)
        assert drawn.counts(result) == {n: expected[n] for n in drawn.counts(result)}
        again = world.run("kept")
        if fresh.status == "done":
            assert {s.status for s in again.segments if s.output not in {*drawn.exports(data), None}} <= {"unchanged"}
