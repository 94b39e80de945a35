"""What lies in the way of a program: mounts inside of trees, odd files, files of somebody else.

Each is made for one cell and undone after it, by the same function around a real program's cache
and target and around those of the reference linker that stands for it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from pytest_linkmode import kernel
from pytest_linkmode.filesystems import mounts
from pytest_linkmode.filesystems.attributes import FS_IMMUTABLE_FL, FS_NOCOW_FL, change_flags
from pytest_linkmode.installers.scenarios import (
    IMMUTABLE,
    MOUNTED_FILE,
    NESTED,
    NOCOW,
    OWNER,
    THEIRS,
)
from pytest_linkmode.namespaces import Place
from pytest_linkmode.special.sealing import LINKER

ODD = "part-3.js"
"""The one file that is odd, where one is."""
FOREIGN = b"somebody else's\n"

_KEPT = "-all,+dac_read_search"
AS_USER = (
    *("setpriv", f"--reuid={LINKER}", f"--regid={LINKER}", "--clear-groups"),
    *(f"--bounding-set={_KEPT}", f"--inh-caps={_KEPT}", f"--ambient-caps={_KEPT}", "--"),
)
"""Before a command: run as an ordinary user, who may look into all directories: the programs may
lie in one that is closed to others.
"""


@dataclass(frozen=True)
class Scene:
    """The files of a cache by their names in the package, the package's directory in the target,
    and the directory of the target that may be a volume; where mounts may be made, and what a
    linker must own beside the files of the cache.
    """

    place: Place
    cached: Mapping[str, str]
    package: str
    volume: str
    owned: tuple[str, ...]

    @property
    def odd(self) -> str:
        """The path of the file that is odd."""
        return next(path for name, path in self.cached.items() if os.path.basename(name) == ODD)


def _mounted(place: Place, path: str, shown: str = "") -> AbstractContextManager[None]:
    """Mount a tmpfs on a directory, or `shown` on itself."""
    if shown:
        there = kernel.mount_of(shown)
        source, fstype = (there.source, there.fstype) if there else ("", "")
        return mounts.mounted_on(
            place,
            path,
            lambda path: kernel.mount(shown, path, flags=kernel.MS_BIND),
            source=source,
            fstype=fstype,
        )
    name = "linkmode-volume"
    return mounts.mounted_on(
        place,
        path,
        lambda path: kernel.mount(name, path, "tmpfs", kernel.MS_NOSUID, "mode=0755"),
        source=name,
        fstype="tmpfs",
    )


@contextmanager
def _nested(scene: Scene) -> Iterator[None]:
    os.makedirs(scene.volume, exist_ok=True)
    with _mounted(scene.place, scene.volume):
        yield


@contextmanager
def _mounted_file(scene: Scene) -> Iterator[None]:
    with _mounted(scene.place, scene.odd, scene.odd):
        yield


@contextmanager
def _immutable(scene: Scene) -> Iterator[None]:
    odd = scene.odd
    change_flags(odd, add=FS_IMMUTABLE_FL)
    try:
        yield
    finally:
        change_flags(odd, remove=FS_IMMUTABLE_FL)


@contextmanager
def _nocow(scene: Scene) -> Iterator[None]:
    odd = scene.odd
    _made_anew(odd, FS_NOCOW_FL)
    try:
        yield
    finally:
        _made_anew(odd, 0)


def _made_anew(path: str, flags: int) -> None:
    """Write a file again with flags that only an empty one can get."""
    part = f"{path}.anew"
    with open(part, "xb") as file:
        if flags:
            change_flags(part, add=flags)
        with open(path, "rb") as old:
            file.write(old.read())
    shutil.copystat(path, part)
    if flags:
        change_flags(part, add=flags)
    os.rename(part, path)


@contextmanager
def _other_owner(scene: Scene) -> Iterator[None]:
    kept = {os.path.realpath(path) for path in scene.cached.values()}
    _give(scene.owned, LINKER, kept)
    try:
        yield
    finally:
        _give(scene.owned, os.geteuid(), kept)


@contextmanager
def _theirs(scene: Scene) -> Iterator[None]:
    os.makedirs(scene.package)
    path = os.path.join(scene.package, ODD)
    with open(path, "xb") as file:
        file.write(FOREIGN)
    everything = {*scene.owned, *scene.cached.values()}
    _give(everything, LINKER, {path})
    try:
        yield
    finally:
        _give(everything, os.geteuid(), {path})


def _give(paths: Iterable[str], user: int, kept: Container[str]) -> None:
    """Let files and directories, with all that is in them, belong to a user; but not some."""
    for top in paths:
        names = [top]
        for above, directories, files in os.walk(top):
            names += [os.path.join(above, name) for name in (*directories, *files)]
        for path in names:
            if path not in kept:
                os.chown(path, user, user, follow_symlinks=False)


DISTURBANCES: Mapping[str, Callable[[Scene], AbstractContextManager[None]]] = {
    NESTED: _nested,
    MOUNTED_FILE: _mounted_file,
    NOCOW: _nocow,
    IMMUTABLE: _immutable,
    OWNER: _other_owner,
    THEIRS: _theirs,
}
"""How each is made, by the kind of the scenario."""

IN_THE_CACHE = (MOUNTED_FILE, NOCOW, IMMUTABLE, OWNER)
"""Those that need a cache of plain files."""
ORDINARY = (OWNER, THEIRS)
"""Those in which the linker is an ordinary user."""
