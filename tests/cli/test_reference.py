"""The page of public names: all of them, as their docstrings are now."""

from __future__ import annotations

import re
from pathlib import Path

import lazypipe
from lazypipe.cli.reference import GROUPS, page


def test_the_page_is_what_docstrings_say(root: Path) -> None:
    assert (root / "docs/guide/python.md").read_text(encoding="utf-8") == page(), (
        "run: python -m lazypipe.cli.reference"
    )


def test_it_tells_every_public_name_once() -> None:
    assert sorted(n for names in GROUPS.values() for n in names) == sorted(lazypipe.__all__)


def test_everything_on_it_says_what_it_is() -> None:
    text = page()
    empty = re.findall(r"^#+ (.*)\n\n(?:```python\n.*\n```\n\n)?\n", text, re.MULTILINE)
    assert empty == []
    calls = re.findall(r"^\| `(\w+\(.*)` \| *(.*?) *\|$", text, re.MULTILINE)
    assert len(calls) > 50
    assert [name for name, doc in calls if len(doc) < 10] == []
    # nothing of how Python shows what has no name
    assert not re.search(r"<\w+ |0x[0-9a-f]{6}|_empty", text)
