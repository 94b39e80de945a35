"""What tests of the ladder share: somebody without privileges."""

from __future__ import annotations

import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator

import pytest

from pytest_linkmode import kernel, privileges

# The support modules are tests.pytest_linkmode.*. Last, so that an installed package wins.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[3]))

from tests.pytest_linkmode.ladder.people import Person, settle_in


@pytest.fixture
def everybodys() -> Iterator[pathlib.Path]:
    """A directory on the disk that an ordinary user can reach, unlike those of pytest."""
    if not kernel.may_mount() or privileges.in_user_namespace():
        pytest.skip("only root can be another user: run the tests as root")
    path = pathlib.Path(tempfile.mkdtemp(prefix="linkmode-ladder-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def person(everybodys: pathlib.Path) -> Person:
    """An ordinary user without any privilege."""
    return settle_in(everybodys)
