"""Every mount and every directory that we make, as contexts that undo themselves.

Each step is registered to be undone before it is taken, in the stack of its context and, where
a kill could leave it behind, in the registry.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pytest_linkmode import kernel
from pytest_linkmode.errors import LinkmodeError
from pytest_linkmode.filesystems import registry
from pytest_linkmode.filesystems.base import OwnedStack, remove_tree
from pytest_linkmode.namespaces import Place


@contextmanager
def point(place: Place, name: str, *, keep: bool = False) -> Iterator[str]:
    """Make a directory in `place` to mount something on."""
    with OwnedStack(keep=keep) as stack:
        # Processes of one place (xdist workers) share its directory.
        path = os.path.join(place.path, f"{name}-{os.getpid()}-{os.urandom(4).hex()}")
        number = None if place.private else registry.ledger().note(registry.POINT, path)
        stack.callback(_undo, _remove_point, path, number)
        os.mkdir(path, 0o755)
        yield path


@contextmanager
def mounted(
    place: Place,
    name: str,
    mount: Callable[[str], None],
    *,
    source: str,
    fstype: str,
    keep: bool = False,
) -> Iterator[str]:
    """Let `mount` mount something on a new directory of `place`, and undo it afterwards.

    `source` and `fstype` are what mountinfo will say of it (an empty source: not known yet).
    The context's value is the path of the directory.
    """
    with OwnedStack(keep=keep) as stack:
        path = stack.enter_context(point(place, name, keep=keep))
        there = mounted_on(place, path, mount, source=source, fstype=fstype, keep=keep)
        stack.enter_context(there)
        yield path


@contextmanager
def mounted_on(
    place: Place,
    path: str,
    mount: Callable[[str], None],
    *,
    source: str,
    fstype: str,
    keep: bool = False,
) -> Iterator[None]:
    """Let `mount` mount something on an existing directory, and undo it afterwards."""
    with OwnedStack(keep=keep) as stack:
        number = None
        if not place.private:
            number = registry.ledger().note(registry.MOUNT, path, source=source, fstype=fstype)
        stack.callback(_undo, unmount, path, number)
        mount(path)
        yield


@contextmanager
def bound(place: Place, name: str, directory: str, *, keep: bool = False) -> Iterator[str]:
    """Show an existing directory a second time, on a new one of `place`. Raises OSError."""
    # mountinfo speaks of the filesystem that a bind mount shows, not of the directory.
    shown = kernel.mount_of(directory)
    with mounted(
        place,
        name,
        lambda path: kernel.mount(directory, path, flags=kernel.MS_BIND),
        source=shown.source if shown else "",
        fstype=shown.fstype if shown else "",
        keep=keep,
    ) as path:
        yield path


@contextmanager
def read_only(place: Place, directory: str, *, keep: bool = False) -> Iterator[None]:
    """Let nobody change what is in a directory, by a read-only mount of it on itself."""
    shown = kernel.mount_of(directory)

    def mount(path: str) -> None:
        kernel.mount(path, path, flags=kernel.MS_BIND)
        # A bind mount takes its flags from what it shows; a second call changes them.
        kernel.mount("none", path, flags=kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY)

    with mounted_on(
        place,
        directory,
        mount,
        source=shown.source if shown else "",
        fstype=shown.fstype if shown else "",
        keep=keep,
    ):
        yield


@contextmanager
def tree(parent: str, name: str, *, keep: bool = False) -> Iterator[str]:
    """Make a directory in an existing one, removed with all that is in it. Raises OSError.

    Always in the registry: no namespace makes it go away.
    """
    with OwnedStack(keep=keep) as stack:
        path = os.path.join(os.path.realpath(parent), f"{name}-{os.urandom(4).hex()}")
        number = registry.ledger().note(registry.TREE, path)
        stack.callback(_undo, _remove_own_tree, path, number)
        os.mkdir(path, 0o755)
        registry.ledger().made(number, path)
        yield path


def unmount(path: str) -> None:
    """Unmount what is mounted at `path`, at once if nobody uses it, else when the last one ends."""
    for pause in (0.001, 0.004, 0.016, None):
        try:
            kernel.unmount(path)
        except OSError as error:
            if error.errno == errno.EINVAL:  # nothing is mounted there: the mount had failed
                return
            if error.errno != errno.EBUSY:
                raise
            # Closing a file is finished a moment after close(2) has returned.
            if pause is None:
                kernel.unmount(path, kernel.UMOUNT_NOFOLLOW | kernel.MNT_DETACH)
            else:
                time.sleep(pause)
        else:
            return


def _remove_own_tree(path: str) -> None:
    if registry.mounted_below(path):
        raise LinkmodeError(
            f"{path} is left as it is",
            why="something that is not ours is mounted below it",
            hint="unmount that; `linkmode clean` then removes the rest",
        )
    remove_tree(path)


def _remove_point(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(path)


def _undo(undo: Callable[[str], None], path: str, number: int | None) -> None:
    """Undo a step and strike it out; one that cannot be undone stays in the registry."""
    undo(path)
    if number is not None:
        registry.ledger().forget(number)
