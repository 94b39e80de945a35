"""A small package tree that has everything linkers stumble over.

Namespaces shared by two packages, executables, read-only files and directories, symlinks of all
sorts, empty files and directories, holes, names that are no text, and sizes on both sides of the
limits below which filesystems keep data among the metadata. `TREE` is the table; a row more is a
case more for every test that uses it.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from linker.platforms.windows import why_unfit, winerror_of
from pytest_linkmode import HERE, opening


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory; those above a row's path need no row of their own."""

    path: str
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class File:
    """A file of `size` bytes that no filesystem can compress; `holes` are (from, to) in bytes.

    `odd` marks a name that some filesystems refuse: there the file is left out.
    """

    path: str
    size: int = 0
    mode: int = 0o644
    holes: tuple[tuple[int, int], ...] = ()
    odd: bool = False


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symlink with the given text, whatever it leads to."""

    path: str
    text: str


Entry: TypeAlias = "Directory | File | Symlink"

KIB = 1024
NAME_MAX = 255


def _spelled(name: str) -> str:
    """Return how Python spells a name by its locale that has the bytes of this one in UTF-8."""
    if HERE == "win32":  # where names are text
        return name
    return os.fsdecode(name.encode("utf-8", "surrogateescape"))


def _bytes_of(path: str) -> bytes:
    """Return the bytes of a path that Python spells by its locale."""
    if HERE == "win32":
        return path.encode("utf-8", "surrogateescape")
    return os.fsencode(path)


_ODD_NAMES = (
    "with space",
    " around ",
    "-rf",
    "--help",
    "new\nline",
    "tab\there",
    "bell\a",
    "back\\slash",
    "quote'\"quote",
    "$HOME",
    "`id`",
    "a;b&c|d",
    "{source}",
    "%s%n",
    "*?[glob]",
    "~",
    "...",
    ".hidden",
    "CON",
    "trailing.",
    "caf\u00e9",
    "cafe\u0301 decomposed",
    "\u202eright to left",
    "\U0001f40d",
    b"latin-1 \xe9".decode("utf-8", "surrogateescape"),
    b"\xff\xfe".decode("utf-8", "surrogateescape"),
    "n" * NAME_MAX,
)
ODD_NAMES = tuple(_spelled(name) for name in _ODD_NAMES)
"""Names that are legal where it matters and that programs get wrong."""

SIZES = (1, 100, 1000, 2047, 2048, 2049, 3000, 4095, 4096, 4097, 8191, 8192, 65535, 65536, 65537)
"""Around the limits of inline data (btrfs: 2048 bytes), of blocks, and of copying in chunks."""

TREE: tuple[Entry, ...] = (
    # Two packages in one namespace, as two wheels would bring them.
    File("ns/alpha/__init__.py"),
    File("ns/alpha/core.py", 700),
    File("ns/beta/__init__.py"),
    File("ns/beta/core.py", 5000),
    File("ns/beta/inner/__init__.py"),
    File("ns/beta/inner/leaf.py", 12_345),
    # A package of its own.
    File("package/__init__.py"),
    File("package/module.py", 9000),
    File("package/py.typed"),
    File("package/native.so", 200_001, 0o755),
    File("package-1.0.dist-info/METADATA", 1500),
    File("package-1.0.dist-info/RECORD", 3200),
    File("package-1.0.dist-info/INSTALLER", 4),
    # Permission bits.
    File("bin/tool", 2500, 0o755),
    File("bin/private", 2500, 0o700),
    File("bin/shared", 2500, 0o775),
    File("locked/readable", 5000, 0o444),
    File("locked/own", 5000, 0o400),
    File("locked/run", 5000, 0o555),
    File("locked/inner/file", 5000, 0o444),
    Directory("locked/inner", 0o555),
    Directory("locked", 0o555),
    Directory("group", 0o770),
    File("group/file", 5000, 0o660),
    File("group/all", 5000, 0o666),
    # Symlinks: they are recreated as they are, never followed.
    Symlink("links/to-file", "../package/module.py"),
    Symlink("links/to-directory", "../ns"),
    Symlink("links/dangling", "no/such/name"),
    Symlink("links/absolute", "/no/such/place"),
    Symlink("links/to-itself", "to-itself"),
    Symlink("links/outside", "../../outside"),
    Symlink("links/to-link", "to-file"),
    # Nothing at all.
    Directory("empty"),
    Directory("hollow/in/and/in"),
    # Depth.
    File("deep/" + "/".join("abcdefghijklmnop") + "/file", 5000),
    # Holes.
    File("data/sparse", 300_000, holes=((0, 64 * KIB), (128 * KIB, 256 * KIB))),
    File("data/hole", 100_000, holes=((0, 100_000),)),
    *(File(f"sizes/{size}", size) for size in SIZES),
    *(File(f"odd names/{name}", 3000, odd=True) for name in ODD_NAMES),
)
"""The sample tree, row by row."""

EPOCH = 1_500_000_000_123_456_789
"""Modification time of the first row, in nanoseconds; each row is older by a little."""
STEP = 1_000_003_001


def sample_tree(directory: str | os.PathLike[str]) -> None:
    """Write the sample tree into `directory`, which is made if it is missing.

    Always the same names, bytes, permission bits and modification times, whatever the umask.
    """
    write_tree(directory, TREE)


def write_tree(directory: str | os.PathLike[str], entries: Iterable[Entry]) -> None:
    """Write `entries` into `directory`.

    Symlinks, and odd names, are left out where the filesystem does not have them. Permission bits
    and times come last and from the leaves up, so that a read-only directory
    can be filled and no time moves on.
    """
    rows = list(entries)
    root = os.fspath(directory)
    os.makedirs(root, exist_ok=True)
    directories: dict[str, int] = {}
    for row in rows:
        below = row.path if isinstance(row, Directory) else os.path.dirname(row.path)
        while below and below not in directories:
            directories[below] = 0o755
            below = os.path.dirname(below)
    for row in rows:
        if isinstance(row, Directory):
            directories[row.path] = row.mode
    for path in sorted(directories):
        os.makedirs(os.path.join(root, path), exist_ok=True)
    stamps = iter(range(EPOCH, 0, -STEP))
    for row in rows:
        stamp = next(stamps)
        if isinstance(row, File):
            _write(os.path.join(root, row.path), row, stamp)
        elif isinstance(row, Symlink):
            try:
                os.symlink(row.text, os.path.join(root, row.path))
            except OSError as error:
                if error.errno in _NO_SYMLINKS or winerror_of(error) == _NO_PRIVILEGE:
                    continue
                raise
            if os.utime in os.supports_follow_symlinks:
                os.utime(os.path.join(root, row.path), ns=(stamp, stamp), follow_symlinks=False)
    for path in sorted(directories, key=lambda each: (-each.count("/"), each)):
        stamp = next(stamps)
        os.chmod(os.path.join(root, path), directories[path])
        os.utime(os.path.join(root, path), ns=(stamp, stamp))


_NOT_A_NAME = (errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG, errno.ENOENT)
"""How filesystems say that a name is none (a directory that is missing cannot be meant here)."""
_NO_SYMLINKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
"""How filesystems say that they have no symlinks: there the sample has none."""
_NO_PRIVILEGE = 1314
"""ERROR_PRIVILEGE_NOT_HELD: how Windows says that this user may not make any."""


def content(row: File) -> bytes:
    """Return the bytes of a file of the tree: its own, and the same every time."""
    data = bytearray(hashlib.shake_128(_bytes_of(row.path)).digest(row.size))
    for start, end in row.holes:
        data[start:end] = bytes(end - start)
    return bytes(data)


_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def _write(path: str, row: File, stamp: int) -> None:
    if row.odd and HERE == "win32" and why_unfit(os.path.basename(row.path)):
        return  # it could be made, under another name or in another file
    try:
        file = os.open(path, _MAKE, 0o600)
    except OSError as error:
        if row.odd and error.errno in _NOT_A_NAME:
            return
        raise
    try:
        data, start = content(row), 0
        for hole, end in (*row.holes, (row.size, row.size)):
            opening.write_at(file, data[start:hole], start)
            start = end
        os.ftruncate(file, row.size)
    finally:
        os.close(file)
    os.utime(path, ns=(stamp, stamp))
    os.chmod(path, row.mode)
