"""A place to make Windows' calls in: the real ones there, a model over real reflinks on Linux."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from linker.platforms.windows import Calls, WindowsPlatform
from pytest_linkmode.config import from_environment
from pytest_linkmode.faults.fresh import empty
from pytest_linkmode.filesystems import FILESYSTEMS, missing
from pytest_linkmode.layouts import TestFilesystem

if TYPE_CHECKING:
    from pytest_linkmode.models.refs import RefsModel, Volume


collect_ignore = (
    [] if sys.platform.startswith("win") else ["test_windows_plugin.py", "test_windows_actors.py"]
)
"""The plugin on Windows is tested there, and under Wine."""


@dataclass(frozen=True)
class Stand:
    """Two directories on one volume, one on another, and the calls that work there."""

    here: str
    there: str
    elsewhere: str
    calls: Calls
    model: RefsModel | None

    @property
    def platform(self) -> WindowsPlatform:
        """A platform that makes its calls here."""
        return WindowsPlatform(self.calls, proof="modelled")

    def volume(self, **behaviour: object) -> Volume:
        """Let the model's volumes behave so from now on; only on Linux."""
        assert self.model is not None, "only a model can be told how to behave"
        self.model.volume = replace(self.model.volume, **behaviour)  # type: ignore[arg-type]
        return self.model.volume

    def put(self, name: str, content: bytes = b"content", where: str = "") -> str:
        """Write a file; return its path."""
        path = os.path.join(where or self.here, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what asks a model where there is none: for that reason, whatever else is faked."""
    for item in items:
        if sys.platform != "linux" and item.get_closest_marker("modelled"):
            skip = pytest.mark.skip(reason="the model of ReFS stands on Linux")
            item.add_marker(skip, append=False)


@pytest.fixture
def stand(
    linkmode_fs_factory: Callable[[str], TestFilesystem], request: pytest.FixtureRequest
) -> Iterator[Stand]:
    """Give the directories and the calls; no handle may stay open."""
    if sys.platform.startswith("win"):
        from linker.platforms import kernel32

        cannot = missing(FILESYSTEMS["refs"], from_environment())
        marks = request.node.iter_markers("faked")
        if cannot and any(mark.args[0] == "block-clones" for mark in marks):
            pytest.skip(str(cannot))
        name = "disk" if cannot else "refs"
        other = "drive"
        if missing(FILESYSTEMS["drive"], from_environment()):  # a machine with one drive
            other = "ntfs" if cannot else "disk"
        here, there, elsewhere = (
            str(linkmode_fs_factory(each).path) for each in (name, name, other)
        )
        yield Stand(here, there, elsewhere, kernel32.calls(), None)
        return
    from pytest_linkmode.models.refs import RefsModel

    model = RefsModel()
    here, there, elsewhere = (
        str(linkmode_fs_factory(each).path) for each in ("btrfs", "btrfs", "tmpfs")
    )
    yield Stand(here, there, elsewhere, model.calls, model)
    assert not model.opened, "a handle stays open"


@pytest.fixture
def ground() -> Iterator[str]:
    """An empty directory, in memory where there is such a place."""
    memory = sys.platform == "linux" and os.access("/dev/shm", os.W_OK | os.X_OK)
    place = os.path.realpath(
        tempfile.mkdtemp(prefix="schedules-", dir="/dev/shm" if memory else None)
    )
    yield place
    empty(place)
    shutil.rmtree(place)
