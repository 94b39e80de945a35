"""Files by their names in open directories, on every system.

Where the system has descriptors of directories, a name means the entry of that directory, whatever
its path is by now. Windows has none for Python: there a directory is its path.
"""

from __future__ import annotations

import errno
import os
from typing import Any, TypeAlias

from pytest_linkmode import HERE

Directory: TypeAlias = "int | str"
"""An open directory: a descriptor, or on Windows its path."""

READ = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)
READ_FILE = READ | getattr(os, "O_NOFOLLOW", 0)
WRITE_FILE = (
    os.O_RDWR
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_READ_ROOT = READ | getattr(os, "O_DIRECTORY", 0)
_READ_DIRECTORY = READ_FILE | _READ_ROOT
_LONG = 700
"""Paths of more bytes are opened in pieces, of which one may be a name (255) longer: PATH_MAX is
4096 bytes on Linux, and 1024 on macOS.
"""

_CHUNK = 1 << 20

DESCRIPTORS = "/proc/self/fd/"
"""Of Linux: what is open, by numbers."""

_F_GETPATH, _LONGEST_OF_MACOS = 50, 1024
"""Of macOS: the call for the path of an open file, and MAXPATHLEN."""

_BY_PATH = HERE == "win32"


def any_length(path: str) -> str:
    """Return a path that the system takes however much lies below it: on Windows a longer form."""
    if HERE != "win32":
        return path
    from linker.platforms.windows import extended

    return extended(os.path.abspath(path))


def open_root(path: str) -> Directory:
    """Open a directory by its path, following symlinks. Raises OSError."""
    if _BY_PATH:
        with os.scandir(path):
            return os.path.abspath(path)
    return os.open(path, _READ_ROOT)


def open_below(root: Directory, path: str) -> Directory:
    """Open the directory `path` below another, however long it is. Raises OSError."""
    if isinstance(root, str):
        return open_root(os.path.join(root, *path.split("/")))
    encoded = os.fsencode(path)
    if len(encoded) <= _LONG:
        return os.open(encoded or b".", _READ_DIRECTORY, dir_fd=root)
    at, piece = os.dup(root), b""
    try:
        for part in encoded.split(b"/"):
            if len(piece) + len(part) > _LONG:
                below = os.open(piece, _READ_DIRECTORY, dir_fd=at)
                os.close(at)
                at, piece = below, b""
            piece += part + b"/"
        return os.open(piece, _READ_DIRECTORY, dir_fd=at)
    finally:
        os.close(at)


def close(directory: Directory) -> None:
    """Close a directory."""
    if isinstance(directory, int):
        os.close(directory)


def listing(directory: Directory) -> dict[str, os.stat_result]:
    """Return the stat of every name in a directory. Raises OSError."""
    with os.scandir(directory) as entries:
        if isinstance(directory, str):  # what Windows lists has neither inodes nor links
            return {entry.name: os.lstat(entry.path) for entry in entries}
        return {entry.name: entry.stat(follow_symlinks=False) for entry in entries}


def stat(directory: Directory) -> os.stat_result:
    """Return the stat of an open directory."""
    return os.stat(directory)


def open_file(name: str, directory: Directory | None, flags: int = READ_FILE) -> int:
    """Open an entry of a directory, of the current one without. Raises OSError."""
    if isinstance(directory, str):
        return os.open(os.path.join(directory, name), flags)
    return os.open(name, flags, dir_fd=directory)


def read_link(name: str, directory: Directory | None) -> str:
    """Return what a symlink says. Raises OSError."""
    if isinstance(directory, str):
        return os.readlink(os.path.join(directory, name))
    return os.readlink(name, dir_fd=directory)


def followed(name: str, directory: Directory | None) -> os.stat_result:
    """Return the stat of what a name leads to. Raises OSError."""
    if isinstance(directory, str):
        return os.stat(os.path.join(directory, name))
    return os.stat(name, dir_fd=directory)


def path_of(descriptor: int) -> str:
    """Return the path by which the system knows an open file or directory: of Linux's /proc, or by
    F_GETPATH of macOS (fcntl(2)). Raises OSError where it knows none.
    """
    if HERE == "linux":
        return os.readlink(f"{DESCRIPTORS}{descriptor}")
    if HERE == "darwin":
        import fcntl

        found: bytes = fcntl.fcntl(descriptor, _F_GETPATH, bytes(_LONGEST_OF_MACOS))
        return os.fsdecode(found.rstrip(b"\0"))
    raise OSError(errno.ENOSYS, "this system tells no path of what is open")


def told_path_of(descriptor: int) -> str:
    """Return what to call an open file: its path, or where that is not known its number."""
    try:
        return path_of(descriptor)
    except OSError:
        return f"descriptor {descriptor}"


def read_at(file: int, count: int, offset: int) -> bytes:
    """Read at an offset: pread(2), of which Windows has no like."""
    pread: Any = getattr(os, "pread", None)
    if pread is not None:
        return bytes(pread(file, count, offset))
    os.lseek(file, offset, os.SEEK_SET)
    return os.read(file, count)


def not_zero(file: int) -> set[int]:
    """Return the offset of the first byte of an open file that is not zero, nothing if all are."""
    offset = 0
    while chunk := read_at(file, _CHUNK, offset):
        if data := chunk.lstrip(b"\0"):
            return {offset + len(chunk) - len(data)}
        offset += len(chunk)
    return set()


def write_at(file: int, data: bytes, offset: int) -> int:
    """Write at an offset: pwrite(2), of which Windows has no like."""
    pwrite: Any = getattr(os, "pwrite", None)
    if pwrite is not None:
        return int(pwrite(file, data, offset))
    os.lseek(file, offset, os.SEEK_SET)
    return os.write(file, data)


def change_mode(file: int, path: str, mode: int) -> None:
    """Change the permission bits of an open file, or by its path where that is the only way."""
    fchmod: Any = getattr(os, "fchmod", None)
    if fchmod is not None:
        fchmod(file, mode)
    else:
        os.chmod(path, mode)


def set_times(file: int, path: str, times: tuple[int, int]) -> None:
    """Set access and modification time of an open file, or by its path (in ns)."""
    if os.utime in os.supports_fd:
        os.utime(file, ns=times)
    else:
        os.utime(path, ns=times)
