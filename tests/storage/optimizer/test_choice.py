"""One of several ways for each column: the same as by looking at all of them at each step, in time that grows with the columns."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from lazypipe.storage.optimizer.choice import Limits, Option, choose
from lazypipe.storage.optimizer.cost import Cost

costs = st.builds(Cost, st.integers(1, 20), st.integers(1, 20).map(float), st.integers(1, 20).map(float))
columns = st.lists(st.lists(costs, min_size=1, max_size=4, unique=True), min_size=1, max_size=5)
limits = st.builds(
    Limits,
    st.sampled_from(["bytes", "read", "write"]),
    bytes=st.sampled_from([float("inf"), 1.0, 1.5]),
    write=st.sampled_from([float("inf"), 0.75, 1.0, 1.5]),
    read=st.sampled_from([float("inf"), 0.75, 1.0, 1.25]),
)


def given_up(options: Mapping[str, Sequence[Option]], default: Cost, limits: Limits) -> dict[str, Option]:
    """Give up as little as can be, swap by swap, with the least of all swaps looked for each time; then take back what is not needed."""
    least = limits.least
    left = {n: list(some) for n, some in options.items()}
    chosen = {n: min(some, key=lambda o: (getattr(o.cost, least), o.cost.bytes)) for n, some in options.items()}
    while broken := limits.broken(sum((o.cost for o in chosen.values()), Cost()), default):
        swaps = []
        for name, some in left.items():
            now = chosen[name].cost
            for option in some:
                gained = getattr(now, broken[0]) - getattr(option.cost, broken[0])
                if gained > 0:
                    swaps.append(((getattr(option.cost, least) - getattr(now, least)) / gained, name, option))
        if not swaps:
            return chosen
        _, name, option = min(swaps, key=lambda s: s[0])
        left[name].remove(chosen[name])
        chosen[name] = option
    while True:
        better = []
        for name, some in options.items():
            for option in some:
                gain = getattr(chosen[name].cost, least) - getattr(option.cost, least)
                total = sum((o.cost for o in {**chosen, name: option}.values()), Cost())
                if gain > 0 and not limits.broken(total, default):
                    better.append((gain, name, option))
        if not better:
            return chosen
        _, name, option = max(better, key=lambda s: s[0])
        chosen[name] = option


@given(columns, limits)
def test_as_little_is_given_up_as_by_looking_at_all_ways_each_time(ways: list[list[Cost]], limits: Limits) -> None:
    options = {f"c{i}": [Option(None, cost) for cost in some] for i, some in enumerate(ways)}
    default = sum((some[0] for some in ways), Cost())
    assert choose(options, default, limits) == given_up(options, default, limits)


def test_time_grows_with_the_columns() -> None:
    """As many times as there are more of them, about; by looking at all of them each time it would be the square of that."""

    def seconds(width: int) -> float:
        # the more bytes are saved, the longer it takes: nearly all columns are to be written as they are, one after the other
        ways = {
            f"c{i}": [Option(None, Cost(100, 1.0, 1.0)), Option(None, Cost(50 - i % 7, 1.0, 3.0 + i % 5))]
            for i in range(width)
        }
        default = sum((some[0].cost for some in ways.values()), Cost())
        begun = time.process_time()
        chosen = choose(ways, default, Limits("bytes", write=3.0, read=1.1))
        taken = time.process_time() - begun
        assert 0 < sum(o.cost.bytes < 100 for o in chosen.values()) < width / 10
        return taken

    least = min(seconds(500) for _ in range(3))
    assert min(seconds(4_000) for _ in range(2)) < 24 * least
