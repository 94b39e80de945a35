"""This machine's system calls as Darwin would answer them: the same effects, its error numbers.

Errors are carried over by name. Where Darwin has another name for the same refusal the table below
says so.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

from linker.platforms import linux
from linker.platforms.macos import NUMBERS, message

OTHER_NAMES = {
    errno.EOPNOTSUPP: "ENOTSUP",  # one number on Linux, two on Darwin; filesystems say this one
    errno.ENODATA: "ENOATTR",  # of extended attributes
    errno.EDEADLK: "EDEADLK",  # Python may know the number as EDEADLOCK
}
"""This machine's numbers -> Darwin's names, where names differ."""


def darwin_error(name: str, about: str | None = None) -> OSError:
    """Return Darwin's error of a name."""
    number = NUMBERS[name]
    return OSError(number, message(number), about)


def as_darwin(error: OSError) -> OSError:
    """Return what Darwin would say where this machine says `error`; EIO for what it cannot."""
    number = error.errno or 0
    name = OTHER_NAMES.get(number) or errno.errorcode.get(number, "")
    said = darwin_error(name if name in NUMBERS else "EIO", error.filename)
    said.__dict__.update(error.__dict__)  # such as that it was injected
    return said


def speaking(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of this machine whose errors are Darwin's."""

    def spoken(*given: Any, **options: Any) -> Any:
        try:
            return function(*given, **options)
        except OSError as error:
            raise as_darwin(error) from error

    return spoken


def opening(function: Callable[..., int]) -> Callable[..., int]:
    """Return open(2): O_NOFOLLOW | O_DIRECTORY on a symlink is ELOOP on Darwin."""

    def opened(name: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        try:
            return function(name, flags, mode, dir_fd=dir_fd)
        except NotADirectoryError as error:
            if flags & os.O_NOFOLLOW and _is_symlink(name, dir_fd):
                raise darwin_error("ELOOP", name) from error
            raise as_darwin(error) from error
        except OSError as error:
            raise as_darwin(error) from error

    return opened


def unlinking(function: Callable[..., None]) -> Callable[..., None]:
    """Return unlink(2): of a directory EPERM on Darwin, as POSIX has it."""

    def unlinked(name: str, *, dir_fd: int | None = None) -> None:
        try:
            function(name, dir_fd=dir_fd)
        except IsADirectoryError as error:
            raise darwin_error("EPERM", name) from error
        except OSError as error:
            raise as_darwin(error) from error

    return unlinked


def _is_symlink(name: str, directory: int | None) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(name, dir_fd=directory).st_mode)
    except OSError:
        return False


def birth(host: linux.Calls) -> Callable[[str, int], int | None]:
    """Return what tells entries apart where this machine gives inode numbers again, as Darwin
    does not.
    """
    platform = linux.LinuxPlatform(host)
    return lambda name, directory: platform.born(directory, name)


POSIX = (
    "close",
    "read",
    "write",
    "seek",
    "truncate",
    "fstat",
    "stat",
    "chmod",
    "utime",
    "listdir",
    "mkdir",
    "link",
    "symlink",
    "readlink",
    "rename",
    "rmdir",
    "flock",
)
"""The calls that are the same but for the numbers of their errors."""


def log2phys(descriptor: int, command: int, argument: bytes, *, holes_at: int = 0) -> bytes:
    """Answer fcntl(F_LOG2PHYS_EXT): where on the volume a part of a file lies, as FIEMAP knows.

    ERANGE in holes, or with `holes_at` -1 that they lie there. Data inside the metadata, which APFS
    has not, is as that of compressed files: ENOTSUP.
    """
    from pytest_linkmode.fiemap import ExtentReader
    from pytest_linkmode.log2phys import F_LOG2PHYS_EXT, PLACE

    if command != F_LOG2PHYS_EXT:
        raise darwin_error("EINVAL")
    flags, length, offset = PLACE.unpack(argument)
    if length < 0 or offset < 0:
        raise darwin_error("EINVAL")
    end = os.fstat(descriptor).st_size
    for extent in ExtentReader().read(descriptor):
        if extent.inline:
            raise darwin_error("ENOTSUP")
        skipped = offset - extent.logical
        if 0 <= skipped < extent.length:
            there = min(length, extent.length - skipped)
            return PLACE.pack(flags, there, extent.physical + skipped)
        if skipped < 0:
            end = extent.logical
            break
    if holes_at and offset < end:
        return PLACE.pack(flags, min(length, end - offset), holes_at)
    raise darwin_error("ERANGE")
