"""Which file a call copies into: a copy is one file, however many calls it takes.

A copy begins with the first bytes that go into a file after the program opened it with O_CREAT (or
made it without a name, by O_TMPFILE). `copy_file_range` and `sendfile` into any regular file are
copies as well; a plain write into a file that was there before is not. Bytes that arrive through a
shared memory mapping are no calls, and are not seen.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from pytest_linkmode.faults.reading import signed

_DELETED = " (deleted)"


@dataclass(slots=True)
class _File:
    made: int
    number: int


class Copies:
    """The files that a program has made and filled, numbered in the order of their first bytes."""

    def __init__(self) -> None:
        self._made: dict[str, int] = {}
        self._nameless: set[str] = set()
        self._files: dict[tuple[int, int], _File] = {}
        self._count = 0
        self._clock = 0

    def created(self, path: str, *, nameless: bool) -> None:
        """Take note of an open with O_CREAT, or of a file without a name in a directory."""
        real = os.path.realpath(path)
        if nameless:
            self._nameless.add(real)
        else:
            self._clock += 1
            self._made[real] = self._clock

    def file(self, thread: int, number: int, path: str, *, plain: bool) -> int | None:
        """Return the number of the file that a descriptor writes to, or None if it is no copy.

        `path` is what the descriptor refers to; `plain` says that the call writes memory, so that
        only a file made by the program counts.
        """
        try:
            status = os.stat(f"/proc/{thread}/fd/{signed(number)}")
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        made = self._made.get(path.removesuffix(_DELETED), 0)
        key = (status.st_dev, status.st_ino)
        known = self._files.get(key)
        if known is not None and known.made >= made:
            return known.number
        if plain and not made and not self._is_nameless(status, path):
            return None
        # A file opened anew with O_CREAT is copied anew, even if it has the inode of an old one.
        self._count += 1
        self._files[key] = _File(made, self._count)
        return self._count

    def _is_nameless(self, status: os.stat_result, path: str) -> bool:
        return status.st_nlink == 0 and os.path.dirname(path) in self._nameless
