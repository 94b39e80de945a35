"""Directories in memory, for what makes and removes thousands of files.

What a killed process left there takes memory until the machine starts again. So each directory is
locked for as long as its process lives, and whoever makes the next removes those that nobody holds.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

if sys.platform != "win32":
    import fcntl

SHARED = "/dev/shm"
SETTLED = 60.0
"""Seconds after which whoever makes a directory has locked it."""


@contextmanager
def in_memory(prefix: str, *, above: str | None = None) -> Iterator[str]:
    """Give a new directory, in memory where that can be had, or in the directory `above`."""
    if sys.platform == "win32":  # which has no such place
        with tempfile.TemporaryDirectory(prefix=prefix, dir=above) as place:
            yield os.path.realpath(place)
        return
    if above is None:
        fits = os.access(SHARED, os.W_OK | os.X_OK)
        above = SHARED if fits else tempfile.gettempdir()
    _remove_what_is_left(above, prefix)
    place = os.path.realpath(tempfile.mkdtemp(prefix=prefix, dir=above))
    lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield place
    finally:
        shutil.rmtree(place)
        os.close(lock)


def _remove_what_is_left(above: str, prefix: str) -> None:
    """Remove the directories whose process is gone."""
    for name in os.listdir(above):
        if name.startswith(prefix):
            # Somebody else's, or another has removed it meanwhile.
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                _remove_if_left(os.path.join(above, name))


def _remove_if_left(place: str) -> None:
    assert sys.platform != "win32"
    lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if time.time() - os.fstat(lock).st_mtime < SETTLED:
            return
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(place)
    finally:
        os.close(lock)
