"""Disk images of macOS and Windows (VHDX), mounted at a directory: the provider.

An image is noted before it is made, so that `linkmode clean` lets go of those of killed runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pytest_linkmode import HERE, processes
from pytest_linkmode.config import Settings
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.filesystems import mounts, registry
from pytest_linkmode.filesystems.base import (
    Filesystem,
    Kind,
    OwnedStack,
    attempted,
    directory_mends,
)
from pytest_linkmode.filesystems.image_tools import (
    DISKPART,
    HDIUTIL,
    Image,
    Tool,
    persistently,
    release,
    run,
)
from pytest_linkmode.namespaces import Place

ATTEMPTS = 5


@contextmanager
def attached(
    tool: Tool, image: Image, sleep: Callable[[float], None] = time.sleep, *, keep: bool = False
) -> Iterator[str]:
    """Make an image and mount it for as long as the context lasts; the value is the directory.

    Whatever fails, what was made before is undone; what cannot be stays noted. Raises
    CommandFailed.
    """
    directory = os.path.dirname(image.path)
    notes = registry.ledger()
    number = notes.note(registry.IMAGE, image.path, tool=tool.program, point=image.point)

    def forget() -> None:
        with suppress(FileNotFoundError):
            os.unlink(image.path)

    def undo() -> None:
        release(tool, image, sleep)
        notes.forget(number)

    def create() -> None:
        run(tool.create(image), directory)
        notes.made(number, image.path)

    def make() -> None:
        persistently([create] * ATTEMPTS, again=forget, sleep=sleep)

    def attach() -> None:
        command = tool.attach(image)
        said = run(command, directory)
        if not is_mounted(image.point):
            why = f"nothing is mounted at {image.point}"
            raise processes.CommandFailed(command[0], 0, said, why=why)

    def make_anew() -> None:
        """Begin again: what has partitions already cannot be given them once more."""
        with suppress(processes.CommandFailed, OSError):
            release(tool, image, sleep)
        if not os.path.exists(image.path):
            make()

    with OwnedStack(keep=keep) as stack:
        try:
            make()
            persistently([attach] * ATTEMPTS, again=make_anew, sleep=sleep)
        except BaseException:
            with suppress(processes.CommandFailed, OSError):
                undo()
            raise
        stack.callback(undo)
        yield image.point


def is_mounted(point: str) -> bool:
    """Return whether something is mounted at a directory, by what it lies on: `os.path.ismount` of
    Windows compares texts, and a path may have short names in it.
    """
    return os.stat(point).st_dev != os.stat(os.path.dirname(point)).st_dev


def _inside(point: str) -> str:
    """Return where files are to lie on a volume.

    On Windows not at its root: from outside that is a mount point, which looks like a junction.
    """
    if HERE != "win32":
        return point
    path = os.path.join(point, "files")
    os.mkdir(path)
    return path


@dataclass(frozen=True)
class Images:
    """The provider."""

    tool: Tool
    name: str
    rung: str = "images"

    def missing(self, kind: Kind, settings: Settings) -> Unavailable | None:
        """Return what stands in the way."""
        del settings
        absent = []
        mends = directory_mends(kind)
        if self.tool.system != HERE:
            absent.append(f"{self.tool.program}: not on {HERE}")
        elif processes.which(self.tool.program) is None:
            absent.append(f"{self.tool.program}: not in PATH")
        elif self.tool.right():
            absent.append(self.tool.right())
            mends = (self.tool.mend, *mends)
        if not absent:
            return None
        return Unavailable(f"no {kind.name} by {self.name}", checked=absent, mends=mends)

    @contextmanager
    def open(self, kind: Kind, place: Place, settings: Settings) -> Iterator[Filesystem]:
        """Make one for as long as the context lasts."""
        what = f"no {kind.name} by {self.name}"
        with attempted(self._made(kind, place, settings), what, directory_mends(kind)) as image:
            facts = {"image": image.path, "format": image.format}
            yield Filesystem(kind.name, _inside(image.point), self.name, made=True, facts=facts)

    @contextmanager
    def _made(self, kind: Kind, place: Place, settings: Settings) -> Iterator[Image]:
        with mounts.tree(place.path, f"linkmode-{kind.name}", keep=settings.keep) as directory:
            point = os.path.join(directory, "root")
            os.mkdir(point)
            path = os.path.join(directory, "image" + self.tool.suffix)
            size = max(settings.image_size, kind.least_size)
            image = Image(path, point, self.tool.formats[kind.name], size)
            with attached(self.tool, image, keep=settings.keep):
                yield image


def hdiutil() -> Images:
    """Return the provider of macOS."""
    return Images(HDIUTIL, "hdiutil")


def vhdx() -> Images:
    """Return the provider of Windows."""
    return Images(DISKPART, "vhdx")
