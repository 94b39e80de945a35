"""What calls were seen to say, by platform and primitive: the errors that the facts name.

Each row is an observation that a linker has to have an answer to, of a manual, a measurement or a
tracker (the facts and the bugs that docs/explanation.md tells of). A test holds every row against
the conditions and the policies; nothing here comes from them.
"""

from __future__ import annotations

from typing import NamedTuple

from linker.conditions import Primitive as P

CALLS = "what calls do"
BUGS = "bugs that happened"


class Fact(NamedTuple):
    """Errors that a primitive was seen to end with, where, and which part of the facts says so."""

    platform: str
    primitive: P
    errors: tuple[str, ...]
    seen: str
    source: str


FACTS: tuple[Fact, ...] = (
    # FICLONE, ioctl_ficlone(2) and the field
    Fact("linux", P.CLONE_FILE, ("EXDEV",), "another superblock; before 5.18 another mount", CALLS),
    Fact("linux", P.CLONE_FILE, ("EBADF",), "an append-only or read-only descriptor", CALLS),
    Fact("linux", P.CLONE_FILE, ("EISDIR",), "a directory", CALLS),
    Fact("linux", P.CLONE_FILE, ("EINVAL",), "NOCOW on one side, an unaligned tail, itself", CALLS),
    Fact("linux", P.CLONE_FILE, ("EOPNOTSUPP",), "no such operation", CALLS),
    Fact("linux", P.CLONE_FILE, ("ETXTBSY",), "a swap file on xfs", CALLS),
    Fact("linux", P.CLONE_FILE, ("EPERM",), "containers with mapped ids", CALLS),
    Fact("linux", P.CLONE_FILE, ("ENOTTY", "ENOSYS"), "emulation", CALLS),
    Fact("linux", P.CLONE_FILE, ("EACCES",), "Android", CALLS),
    Fact("linux", P.CLONE_FILE, ("EAGAIN",), "ZFS, blocks written seconds ago", CALLS),
    Fact("linux", P.CLONE_FILE, ("ENOSPC",), "a full filesystem", CALLS),
    Fact("linux", P.CLONE_FILE, ("EXDEV",), "uv 1444: to another volume", BUGS),
    Fact("linux", P.CLONE_FILE, ("EAGAIN",), "uv 19674, dvc 10743, cargo 13838: file N", BUGS),
    Fact("linux", P.CLONE_FILE, ("EOPNOTSUPP",), "pnpm 11150: once, and never again", BUGS),
    Fact("linux", P.CLONE_FILE, ("EPERM",), "pnpm 14722, conda 3182", BUGS),
    Fact("linux", P.CLONE_DIRECTORY, ("EISDIR",), "uv 7620: tried on Linux", BUGS),
    # link(2)
    Fact("linux", P.HARDLINK, ("EXDEV",), "mounts of one filesystem, project ids", CALLS),
    Fact("linux", P.HARDLINK, ("EPERM",), "no links there, protected, immutable", CALLS),
    Fact("linux", P.HARDLINK, ("EIO", "ENOENT"), "Docker for Mac", CALLS),
    Fact("linux", P.HARDLINK, ("ENOSPC",), "no inodes left on tmpfs", CALLS),
    Fact("linux", P.HARDLINK, ("EMLINK",), "ostree 2197, nix 1522, pixi 2462, uv 17699", BUGS),
    Fact("linux", P.HARDLINK, ("EXDEV",), "uv 17962: bind mounts, subvolumes", BUGS),
    Fact("linux", P.HARDLINK, ("EPERM",), "pnpm 14722, conda 3182", BUGS),
    Fact("linux", P.HARDLINK, ("EEXIST",), "uv 515, 516, 925: two wheels, one namespace", BUGS),
    # symlink(2), copies, creating
    Fact("linux", P.SYMLINK, ("ENOSYS", "EPERM"), "exfat-fuse, fusefat; no symlinks", CALLS),
    Fact("linux", P.SYMLINK, ("ENOSPC",), "no inodes left on tmpfs", CALLS),
    Fact("linux", P.COPY, ("ENOSPC",), "a full filesystem", CALLS),
    Fact("linux", P.CREATE, ("ENOSPC",), "no inodes left on tmpfs", CALLS),
    # rename(2)
    Fact("linux", P.RENAME, ("EXDEV",), "mounts and subvolumes of one filesystem", CALLS),
    Fact("linux", P.RENAME, ("EEXIST", "EINVAL"), "RENAME_NOREPLACE", CALLS),
    Fact("linux", P.RENAME, ("EACCES",), "a 0555 directory to another parent", CALLS),
    Fact("linux", P.RENAME, ("ENOENT",), "uv 1454: after a copy", BUGS),
    Fact("linux", P.EXCHANGE, ("EXDEV", "EINVAL"), "as rename", CALLS),
    # clonefile(2)
    Fact("macos", P.CLONE_FILE, ("EEXIST",), "the destination is there", CALLS),
    Fact("macos", P.CLONE_FILE, ("EXDEV",), "another volume", CALLS),
    Fact("macos", P.CLONE_FILE, ("ENOTSUP",), "HFS+; rattler 2260", CALLS),
    Fact("macos", P.CLONE_FILE, ("EOPNOTSUPP",), "102 there, not 45", CALLS),
    Fact("macos", P.CLONE_FILE, ("EDEADLK",), "dataless files", CALLS),
    Fact("macos", P.CLONE_FILE, ("ENOENT",), "for EEXIST, after another's rename", CALLS),
    Fact("macos", P.CLONE_FILE, ("ENOENT",), "pnpm 14568", BUGS),
    Fact("macos", P.CLONE_DIRECTORY, ("EEXIST",), "the race; bun 29489", BUGS),
    # Windows, by the names of winerror.h
    Fact("windows", P.HARDLINK, ("ERROR_ALREADY_EXISTS",), "183", CALLS),
    Fact("windows", P.HARDLINK, ("ERROR_NOT_SAME_DEVICE",), "17", CALLS),
    Fact("windows", P.HARDLINK, ("ERROR_TOO_MANY_LINKS",), "1142, at 1023", CALLS),
    Fact("windows", P.HARDLINK, ("ERROR_ACCESS_DENIED",), "5, a directory", CALLS),
    Fact("windows", P.SYMLINK, ("ERROR_PRIVILEGE_NOT_HELD",), "1314", CALLS),
    Fact("windows", P.RENAME, ("ERROR_SHARING_VIOLATION", "ERROR_ACCESS_DENIED"), "32, 5", CALLS),
    Fact("windows", P.UNLINK, ("ERROR_SHARING_VIOLATION", "ERROR_ACCESS_DENIED"), "32, 5", CALLS),
    Fact("windows", P.CLONE_FILE, ("ERROR_INVALID_FUNCTION",), "1, not ReFS", CALLS),
    Fact("windows", P.CLONE_FILE, ("ERROR_NOT_SUPPORTED",), "50, not ReFS", CALLS),
    Fact("windows", P.COPY, ("ERROR_DISK_FULL", "ERROR_WRITE_PROTECT"), "112, 19", CALLS),
)
