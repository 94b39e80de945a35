"""Directories that are there already: those a person names, and those every machine has.

No privileges are needed. A directory is only ever used below one of ours in it, which is
removed afterwards, and only for what it has been seen to be.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_linkmode import HERE, kernel
from pytest_linkmode.config import Settings
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.filesystems import mounts
from pytest_linkmode.filesystems.base import Filesystem, Kind, attempted, directory_mends
from pytest_linkmode.namespaces import Place
from pytest_linkmode.systems import name_of

IN_MEMORY = frozenset({"tmpfs", "ramfs"})

SHARED_MEMORY = "/dev/shm"


def _working() -> tuple[str, ...]:
    import tempfile

    own = [tempfile.gettempdir(), "/var/tmp"]
    with contextlib.suppress(FileNotFoundError):  # it was removed
        own.append(os.getcwd())
    return tuple(own)


def _shared_memory() -> tuple[str, ...]:
    return (SHARED_MEMORY,)


def _home() -> tuple[str, ...]:
    return (os.path.expanduser("~"),)


DRIVES = ("/mnt", "/media", "/run/media", "/srv", "/data", "/scratch", "/home", "/Volumes")
"""Below which directories people have drives of theirs; what else is mounted is the system's."""


def _drives() -> tuple[str, ...]:
    if HERE == "win32":
        found = [drive for drive in map("{}:\\".format, _LETTERS) if os.path.isdir(drive)]
    else:
        found = [mount.target for mount in kernel.mounts() if _is_below(mount.target, DRIVES)]
    if HERE == "darwin":
        with contextlib.suppress(OSError):
            found = [entry.path for entry in os.scandir("/Volumes") if entry.is_dir()]
    return tuple(dict.fromkeys(path for path in found if _is_another(path)))


_LETTERS = "CDEFGHIJKLMNOPQRSTUVWXYZ"


def _is_below(path: str, parents: tuple[str, ...]) -> bool:
    return any(path == parent or path.startswith(parent + os.sep) for parent in parents)


def _is_another(path: str) -> bool:
    """Whether a directory lies on another device than the temporary one."""
    import tempfile

    try:
        return os.stat(path).st_dev != os.stat(tempfile.gettempdir()).st_dev
    except OSError:
        return False


MACHINE: Mapping[str, Callable[[], tuple[str, ...]]] = {
    "disk": _working,
    "shm": _shared_memory,
    "home": _home,
    "drive": _drives,
}
"""What a machine has -> directories to look for it in, best first."""


@dataclass(frozen=True)
class Named:
    """The provider of directories that a person named."""

    name: str = "directory"
    rung: str = "directory"

    def missing(self, kind: Kind, settings: Settings) -> Unavailable | None:
        """Return why the directory named for this kind cannot be one, or that none was named."""
        path = settings.dirs.get(kind.name)
        if path is None:
            absent = f"--linkmode-dir={kind.name}=PATH: not given"
        else:
            absent = _unfit(path, kind)
        if not absent:
            return None
        return Unavailable(
            f"no directory for {kind.name}", checked=[absent], mends=directory_mends(kind)
        )

    @contextmanager
    def open(self, kind: Kind, place: Place, settings: Settings) -> Iterator[Filesystem]:
        """Make a directory of ours in it for as long as the context lasts."""
        del place
        path = settings.dirs[kind.name]
        with _opened(self.name, path, kind, settings) as filesystem:
            yield filesystem


@dataclass(frozen=True)
class Machine:
    """The provider of directories that the machine has."""

    name: str = "machine"
    rung: str = "machine"

    def missing(self, kind: Kind, settings: Settings) -> Unavailable | None:
        """Return what was looked at in vain."""
        del settings
        _, unfit = _look(kind)
        return unfit

    @contextmanager
    def open(self, kind: Kind, place: Place, settings: Settings) -> Iterator[Filesystem]:
        """Make a directory of ours in the first that fits, for as long as the context lasts."""
        del place
        path, unfit = _look(kind)
        if unfit is not None:
            raise unfit
        with _opened(self.name, path, kind, settings) as filesystem:
            yield filesystem


@contextmanager
def _opened(provider: str, parent: str, kind: Kind, settings: Settings) -> Iterator[Filesystem]:
    below = mounts.tree(parent, f"linkmode-{kind.name}", keep=settings.keep)
    with attempted(below, f"no {kind.name} in {parent}", directory_mends(kind)) as path:
        there = kernel.mount_of(path)
        facts = {"directory": parent}
        if there is not None:
            facts |= {"type": there.fstype, "device": there.source, "options": there.options}
        yield Filesystem(kind.name, path, provider, made=False, facts=facts)


def _look(kind: Kind) -> tuple[str, Unavailable | None]:
    """Return the first directory of this machine that can serve as `kind`, or why none can."""
    places = [kind.name] if kind.name in MACHINE else list(MACHINE)
    checked: list[str] = []
    if kind.fstype and HERE != "linux":
        checked.append(f"{', '.join(places)}: nobody tells on {name_of(HERE)} what they are")
        places = []
    for place in places:
        for path in MACHINE[place]():
            unfit = _unfit(path, kind)
            if not unfit:
                return path, None
            checked.append(unfit)
    if not checked:
        checked.append(f"{', '.join(places)}: none found on this machine")
    return "", Unavailable(
        f"no {kind.name} on this machine", checked=checked, mends=directory_mends(kind)
    )


def _unfit(path: str, kind: Kind) -> str:
    """Return why a directory cannot serve as `kind`, or an empty string."""
    if not os.path.isdir(path):
        return f"{path}: not a directory"
    if not os.access(path, os.W_OK | os.X_OK):
        return f"{path}: not writable"
    there = kernel.mount_of(path)
    if there is None:
        # Not on Linux, or without /proc: what kind it is, nobody has told.
        return f"{path}: not known to be on {kind.fstype}" if kind.fstype else ""
    if kind.fstype and there.fstype not in {kind.fstype, *kind.aliases}:
        return f"{path}: on {there.fstype}, not on {kind.fstype}"
    if kind.name == "disk" and there.fstype in IN_MEMORY:
        return f"{path}: on {there.fstype}, not on a disk"
    return ""
