"""What the tests with killed processes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.killing import Killer


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    made = Killer()
    yield made
    made.process.communicate()
    assert made.process.returncode == 0
