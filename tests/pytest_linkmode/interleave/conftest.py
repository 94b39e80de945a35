"""Directories in memory, where these tests run tens of thousands of schedules."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture
def meeting() -> Iterator[str]:
    """An empty directory in which actors meet."""
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
    place = os.path.realpath(tempfile.mkdtemp(prefix="interleave-", dir=shm))
    try:
        yield place
    finally:
        shutil.rmtree(place)
