"""Python's own functions as turns of the actors, while schedules are explored.

Plain code, `shutil` and `pathlib` do their work through `os`, `io` and `fcntl`; so does the
reference linker for the few calls that it makes before it has a directory open. Threads that are no
actors go straight to the originals. Code that holds a function itself (``from os import link``) is
not reached.
"""

from __future__ import annotations

import builtins
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from pytest_linkmode import HERE
from pytest_linkmode.errors import UsageError
from pytest_linkmode.faults.ops import FICLONE, FICLONERANGE
from pytest_linkmode.interleave.world import InProcess

if TYPE_CHECKING or HERE != "win32":
    import fcntl
    import posix

    from pytest_linkmode.interleave.seam import Function, Seam
else:
    from pytest_linkmode.interleave.windows import Function
    from pytest_linkmode.interleave.windows import WindowsSeam as Seam

OF_OS = (
    *("access", "chmod", "chown", "close", "copy_file_range", "fchmod", "fchown"),
    *("ftruncate", "getxattr", "lchown", "link", "listdir", "listxattr", "lstat", "mkdir"),
    *("mkfifo", "mknod", "open", "posix_fallocate", "pwrite", "pwritev"),
    *("readlink", "remove", "removexattr", "rename", "replace", "rmdir"),
    *("scandir", "sendfile", "setxattr", "splice", "stat", "symlink", "truncate", "unlink"),
    *("utime", "write", "writev"),
)
"""What a file object does has turns too: see `Seam.opened_file`."""

READING = ("fstat", "pread", "preadv", "read", "readv")
"""What is seen of a file that is open: no turns on Windows."""


@contextmanager
def standing(world: InProcess) -> Iterator[None]:
    """Let the actors of a world take turns wherever they use Python's own functions."""
    seam = Seam(world, guarded=True)
    with ExitStack() as stack:
        for name in OF_OS:
            if hasattr(os, name):
                _replace(stack, os, name, seam.function(name, getattr(os, name)))
        for module in (builtins, io):
            _replace(stack, module, "open", _opening(world, seam, module.open))
        if HERE == "win32":
            from pytest_linkmode.interleave.windows import others

            for module, name in others():
                _replace(stack, module, name, seam.function(name, getattr(module, name)))
        else:
            for name in READING:
                if hasattr(os, name):
                    _replace(stack, os, name, seam.function(name, getattr(os, name)))
            if hasattr(posix, "_fcopyfile"):  # macOS
                copying: Any = posix._fcopyfile  # type: ignore[attr-defined,unused-ignore]
                _replace(stack, posix, "_fcopyfile", seam.function("_fcopyfile", copying))
            _replace(stack, os, "lseek", _seeking(seam, os.lseek))
            _replace(stack, fcntl, "flock", seam.function("flock", fcntl.flock))
            _replace(stack, fcntl, "lockf", _refused(world, fcntl.lockf))
            _replace(stack, fcntl, "ioctl", _ioctl(seam, fcntl.ioctl))
        _replace(stack, time, "sleep", seam.function("sleep", time.sleep))
        stack.enter_context(random_names(world))
        yield


@contextmanager
def random_names(world: InProcess) -> Iterator[None]:
    """Let an actor's random names be the same in every schedule."""
    with ExitStack() as stack:
        _replace(stack, os, "urandom", _urandom(world, os.urandom))
        _replace(stack, tempfile, "_name_sequence", _Names(world))
        yield


def _replace(stack: ExitStack, where: Any, name: str, stand_in: Any) -> None:
    stack.callback(setattr, where, name, getattr(where, name))
    for powers in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        if callable(stand_in) and getattr(where, name) in powers:
            powers.add(stand_in)
            stack.callback(powers.discard, stand_in)
    setattr(where, name, stand_in)


def _opening(world: InProcess, seam: Seam, original: Function) -> Function:
    def opened(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        given = isinstance(file, int) or options.get("opener") is not None
        if not world.acts() or (given and HERE == "win32"):
            return original(file, mode, *rest, **options)
        return seam.opened_file(original, file, mode, *rest, **options)

    return opened


def _seeking(seam: Seam, original: Function) -> Function:
    looking: Any = seam.function("lseek", original)

    def stand_in(descriptor: int, position: int, whence: int, /) -> Any:
        # Only the end and the holes of a file are for others to move.
        within = whence in (os.SEEK_SET, os.SEEK_CUR)
        return (original if within else looking)(descriptor, position, whence)

    return stand_in


def _ioctl(seam: Seam, original: Function) -> Function:
    clones = {
        FICLONE: seam.function("ioctl-ficlone", original),
        FICLONERANGE: seam.function("ioctl-ficlonerange", original),
    }

    def stand_in(descriptor: Any, request: int, *rest: Any) -> Any:
        clone = clones.get(request & 0xFFFFFFFF)
        if clone is None or not rest:
            return original(descriptor, request, *rest)
        into = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        return clone(into, request, *rest)

    return stand_in


def _refused(world: InProcess, original: Function) -> Function:
    def stand_in(file: Any, *rest: Any) -> Any:
        if world.acts():
            raise UsageError(
                "fcntl.lockf cannot be scheduled",
                why="record locks belong to the process: its actors do not hold each other back",
                hint="let actors use fcntl.flock, or explore programs",
            )
        return original(file, *rest)

    return stand_in


def _urandom(world: InProcess, original: Callable[[int], bytes]) -> Callable[[int], bytes]:
    return lambda size: world.random(size) if world.acts() else original(size)


class _Names:
    """The names of temporary files: of an actor the same in every schedule."""

    def __init__(self, world: InProcess) -> None:
        self._world = world
        self._others = tempfile._RandomNameSequence()  # type: ignore[attr-defined]

    def __iter__(self) -> _Names:
        return self

    def __next__(self) -> str:
        if self._world.acts():
            return self._world.random(4).hex()
        return str(next(self._others))
