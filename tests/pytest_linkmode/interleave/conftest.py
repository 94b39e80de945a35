"""Directories in memory, where these tests run tens of thousands of schedules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.memory import in_memory


@pytest.fixture
def meeting() -> Iterator[str]:
    """An empty directory in which actors meet."""
    with in_memory("interleaved-") as place:
        yield place
