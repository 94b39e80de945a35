"""Which file a call copies into: a copy is one file, however many calls it takes.

A copy begins with the first bytes that go into a file after the program opened it with O_CREAT (or
made it without a name, by O_TMPFILE), whatever its name is by then. `copy_file_range` and
`sendfile` into any regular file are copies as well; a plain write into a file that was there before
is not. Bytes that arrive through a shared memory mapping are no calls, and are not seen.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from pytest_linkmode.faults.ops import RENAME_EXCHANGE, RENAME_NOREPLACE
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

    def renamed(self, old: str, new: str, flags: int) -> None:
        """Take note that a name is about to be another: a file that was made is one there as well.

        `flags` are those of renameat2. The old name is remembered too, because the call may fail.
        """
        old, new = _place(old), _place(new)
        if not os.path.lexists(old) or (flags & RENAME_NOREPLACE and os.path.lexists(new)):
            return  # the kernel will refuse it
        swapped = bool(flags & RENAME_EXCHANGE)
        there, here = self._named(old), self._named(new) if swapped else {}
        replaced = [new, *(new + rest for rest in here)]
        if swapped:
            replaced += [old + rest for rest in there]
        for path in replaced:
            self._made.pop(path, None)
        self._made |= {new + rest: made for rest, made in there.items()}
        self._made |= {old + rest: made for rest, made in here.items()}
        for one, other in ((old, new), (new, old))[: 1 + swapped]:
            below = [each for each in self._nameless if _is_in(each, one)]
            self._nameless.update(other + each.removeprefix(one) for each in below)

    def _named(self, place: str) -> dict[str, int]:
        """Return what is known of a name and, if it is a directory's, of the names below it."""
        if os.path.isdir(place):  # looked through only then: programs rename many files
            return {
                path.removeprefix(place): made
                for path, made in self._made.items()
                if _is_in(path, place)
            }
        made = self._made.get(place)
        return {} if made is None else {"": made}

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


def _place(path: str) -> str:
    """Return a path whose last name, if it is a symbolic link, is not followed: as in rename(2)."""
    directory, name = os.path.split(os.path.normpath(path))
    return os.path.join(os.path.realpath(directory), name)


def _is_in(path: str, place: str) -> bool:
    return path == place or path.startswith(place + "/")
