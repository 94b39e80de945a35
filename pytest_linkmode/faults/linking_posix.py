"""How the tables of the reference linker's platforms on Linux and macOS are read for faults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from linker.platforms import macos
from pytest_linkmode import opening
from pytest_linkmode.faults.inprocess import refusal
from pytest_linkmode.faults.linking import Dialect, Row, Where

Given = tuple[Any, ...]
Options = Mapping[str, Any]


def _where(_opened: Mapping[Any, str]) -> Where:
    """Ask the system: a directory may have got another name since it was opened."""
    return opening.told_path_of


def _of(where: Where, directory: int | None, name: Any) -> str:
    """Return where a name lies."""
    text = os.fsdecode(name)
    if os.path.isabs(text):
        return text
    place = os.getcwd() if directory is None else where(directory)
    return os.path.normpath(os.path.join(place, text))


def _one(where: Where, given: Given, options: Options) -> tuple[str, ...]:
    if isinstance(given[0], int):
        return (where(given[0]),)
    return (_of(where, options.get("dir_fd"), given[0]),)


def _filled(where: Where, given: Given, _options: Options) -> tuple[str, ...]:
    return (where(given[1]), where(given[0]))


def _pair(where: Where, given: Given, options: Options) -> tuple[str, ...]:
    source, target = options.get("src_dir_fd"), options.get("dst_dir_fd")
    return (_of(where, source, given[0]), _of(where, target, given[1]))


def _between(where: Where, given: Given, _options: Options) -> tuple[str, ...]:
    return (_of(where, given[0], given[1]), _of(where, given[2], given[3]))


def _cloned(where: Where, given: Given, _options: Options) -> tuple[str, ...]:
    return (where(given[0]), _of(where, given[1], given[2]))


def _said(where: Where, given: Given, options: Options) -> tuple[str, ...]:
    return (given[0], _of(where, options.get("dir_fd"), given[1]))


_NAMELESS = os.O_TMPFILE & ~os.O_DIRECTORY if hasattr(os, "O_TMPFILE") else 0


def makes(flags: int) -> bool:
    """Return whether an open with these flags makes a file."""
    return bool(flags & (os.O_CREAT | _NAMELESS))


def _opening(given: Given) -> str:
    return "create" if makes(given[1]) else "open"


_READING = (
    *("read", "seek", "fstat", "stat", "ioctl", "listxattr", "getxattr", "access", "listdir"),
    *("birth", "fstype", "readlink"),
)

POSIX: Mapping[str, Row] = {
    "open": Row(("open", "create"), _one, which=_opening),
    "close": Row(("close",), _one),
    **dict.fromkeys(_READING, Row(("read",), _one)),
    **dict.fromkeys(("write", "truncate"), Row(("copy",), _one)),
    **dict.fromkeys(("chmod", "utime"), Row(("stamp",), _one)),
    "ficlone": Row(("clone",), _filled),
    "mkdir": Row(("mkdir",), _one),
    "link": Row(("hardlink",), _pair),
    "symlink": Row(("symlink",), _said),
    "rename": Row(("rename",), _pair, 2),
    "renameat2": Row(("rename",), _between, 2),
    **dict.fromkeys(("unlink", "rmdir"), Row(("unlink",), _one)),
    "flock": Row(("lock",), _one),
}
"""Function of `linker.platforms.linux.Calls` -> its op."""

DARWIN: Mapping[str, Row] = {
    **POSIX,
    "access_list": Row(("read",), _one),
    "clonefileat": Row(("clone",), _between, in_c=True),
    "fclonefileat": Row(("clone",), _cloned, in_c=True),
    "renameatx_np": Row(("rename",), _between, 2, in_c=True),
    "flistxattr": Row(("read",), _one, in_c=True),
    **dict.fromkeys(("fremovexattr", "fchflags"), Row(("stamp",), _one, in_c=True)),
}
"""Function of `linker.platforms.macos.Calls` -> its op."""


def _half_filled(_calls: Any, given: Given) -> None:
    """Give a file half of the bytes: what a clone that is cut short would leave."""
    writing, reading = given
    size, position = os.fstat(reading).st_size // 2, 0
    while position < size:
        position += os.pwrite(writing, os.pread(reading, size - position, position), position)


def _half_cloned(calls: Any, given: Given) -> int:
    """Clone a file, and cut the clone off at half its length."""
    result: int = calls.fclonefileat(*given)
    if result == 0:
        writing = os.open(given[2], os.O_WRONLY | os.O_NOFOLLOW, dir_fd=given[1])
        try:
            os.ftruncate(writing, os.fstat(writing).st_size // 2)
        finally:
            os.close(writing)
    return result


def _of_darwin(name: str, paths: tuple[str, ...]) -> OSError:
    """Return an error with Darwin's number, of the class that it has there."""
    number = macos.NUMBERS[name]
    here = refusal(name, paths)
    error = type(here)(number, macos.message(number), *paths[:1])
    error.__dict__.update(here.__dict__)
    return error


LINUX = Dialect(POSIX, _where, refusal, {"ficlone": _half_filled})
MACOS = Dialect(DARWIN, _where, _of_darwin, {"ficlone": _half_filled, "fclonefileat": _half_cloned})
