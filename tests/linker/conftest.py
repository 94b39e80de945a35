"""What the linker's tests share: a ground to build on, and whether to be an ordinary user."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# The support modules are tests.linker.*. Last on the path, so that an installed linker wins.
sys.path.append(str(Path(__file__).resolve().parents[2]))
pytest.register_assert_rewrite("tests.linker.trees", "tests.linker.model", "tests.linker.scenes")

from tests.linker import trees, users  # noqa: E402
from tests.linker.crews import crew  # noqa: E402

__all__ = ["crew"]


def _fast_directory() -> str | None:
    """Return a directory in memory, if this machine has one; sweeps are ten times faster there.

    ``LINKER_GROUND`` names another: mutation tests kill tests, and clean up after them.
    """
    if chosen := os.environ.get("LINKER_GROUND"):
        return chosen
    # Under Wine it would be there too, on a drive that has no volume.
    there = sys.platform != "win32" and os.access("/dev/shm", os.W_OK | os.X_OK)
    return "/dev/shm" if there else None


@pytest.fixture
def ground() -> Iterator[str]:
    """A fresh directory that an ordinary user may write to as well, unlike pytest's own."""
    path = tempfile.mkdtemp(prefix="linker-", dir=_fast_directory())
    os.chmod(path, 0o777)
    try:
        yield path
    finally:
        trees.remove(path)


WHO = [pytest.param("root", marks=users.ROOT_ONLY), "ordinary-user"]


@pytest.fixture(params=WHO[1:] if sys.platform == "win32" else WHO)
def user(request: pytest.FixtureRequest) -> Iterator[str]:
    """Be root, whom no permission stops, and an ordinary user, whom they do."""
    if request.param == "root":
        yield "root"
        return
    with users.ordinary_user():
        yield "ordinary-user"


@pytest.fixture
def scene(ground: str, user: str) -> str:
    """A directory of the user's own, for a source and a target."""
    path = f"{ground}/scene"
    os.mkdir(path)
    return path
