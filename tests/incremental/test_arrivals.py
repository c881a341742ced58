"""What commits remember of the times in files."""

from __future__ import annotations

from lazypipe.incremental.arrivals import known, still_stands
from lazypipe.incremental.state import Consumed, ConsumedFile
from lazypipe.windows.watermark import Arrival, Watermark

RULE = Watermark("t")
FILES = Consumed("files", (ConsumedFile("a", 1, "1"), ConsumedFile("b", 1, "1")))


def test_files_of_which_nothing_is_said_are_left_out() -> None:
    assert known(RULE, FILES, {"about": RULE.about, "files": [None, [0, 5, None]]}).keys() == {"b"}


def test_what_was_counted_by_another_rule_says_nothing() -> None:
    assert known(RULE, FILES, {"about": "another", "files": [[0, 5, None]] * 2}) == {}


def test_of_what_nothing_is_known_nothing_stands() -> None:
    assert not still_stands(None, Arrival())
    assert not still_stands([Arrival().mark, None, None], None)
