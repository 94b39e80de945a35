"""What a failed primitive means: (platform, primitive, error name) -> Condition, as tables.

The engine and the policies speak of conditions only; numbers and names of errors end here.
Errors are looked up by *name*, because the numbers differ (ENOTSUP is 95 on Linux and 45 on
macOS), and by primitive, because one name means different things: EINVAL of FICLONE is an odd
attribute of a file, EINVAL of renameat2 is a flag that the filesystem does not know.

Sources: ioctl_ficlone(2), clonefile(2), link(2), symlink(2), rename(2), open(2), the
measurements in docs/explanation.md, and the issue numbers cited there. Windows: winerror.h,
[MS-FSCC] 2.3.8, CreateHardLinkW, CreateSymbolicLinkW, MoveFileExW.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class Primitive(enum.StrEnum):
    """One operation of the platform."""

    READ = "read"
    """Open, list or stat something of the source."""
    CREATE = "create"
    """Make a new, empty file that did not exist."""
    CLONE_FILE = "clone-file"
    CLONE_DIRECTORY = "clone-directory"
    HARDLINK = "hardlink"
    SYMLINK = "symlink"
    COPY = "copy"
    """Read and write the bytes of a file."""
    STAMP = "stamp"
    """Give a file or directory its permission bits and modification time."""
    MKDIR = "mkdir"
    OPEN = "open"
    """Open or list a directory of the target, following no symlink."""
    RENAME = "rename"
    """Give a finished entry its final name, replacing nothing."""
    EXCHANGE = "exchange"
    """Swap a finished entry with the one that has its final name."""
    UNLINK = "unlink"
    RMDIR = "rmdir"
    LOCK = "lock"


class Scope(enum.StrEnum):
    """How far a condition reaches."""

    PAIR = "pair"
    """That source and that target filesystem, nothing else."""
    FILE = "file"
    """That file only."""
    RETRY = "retry"
    """Again, a bounded number of times, then that file."""
    ABORT = "abort"
    """Stop."""


class Condition(enum.StrEnum):
    """What a failed primitive means, the same word on every operating system."""

    EXISTS = "exists"
    UNSUPPORTED = "unsupported"
    CROSS_DEVICE = "cross-device"
    TOO_MANY_LINKS = "too-many-links"
    ATTRIBUTE = "attribute"
    """Something odd about this file: NOCOW on one side, a swap file, a size that is not aligned."""
    DENIED = "denied"
    BUSY = "busy"
    DATALESS = "dataless"
    """The file's content is not on this machine (macOS)."""
    NO_EFFECT = "no-effect"
    """The call claimed success and did nothing."""
    SHORT = "short"
    """The call claimed success and did less than was asked."""
    NAME_TOO_LONG = "name-too-long"
    AGAIN = "again"
    INTERRUPTED = "interrupted"
    MISSING = "missing"
    NO_SPACE = "no-space"
    READ_ONLY = "read-only"
    IO = "io"
    NO_MEMORY = "no-memory"
    TOO_MANY_OPEN = "too-many-open"
    IS_DIRECTORY = "is-directory"
    NOT_DIRECTORY = "not-directory"
    IS_SYMLINK = "is-symlink"
    NOT_EMPTY = "not-empty"
    OTHER = "other"

    @property
    def scope(self) -> Scope:
        """How far this condition reaches."""
        return _SCOPES.get(self, Scope.ABORT)


_SCOPES: Mapping[Condition, Scope] = {
    Condition.UNSUPPORTED: Scope.PAIR,
    Condition.CROSS_DEVICE: Scope.PAIR,
    Condition.EXISTS: Scope.FILE,
    Condition.TOO_MANY_LINKS: Scope.FILE,
    Condition.ATTRIBUTE: Scope.FILE,
    Condition.DENIED: Scope.FILE,
    Condition.BUSY: Scope.FILE,
    Condition.DATALESS: Scope.FILE,
    Condition.NO_EFFECT: Scope.FILE,
    Condition.SHORT: Scope.FILE,
    Condition.NAME_TOO_LONG: Scope.FILE,
    Condition.AGAIN: Scope.RETRY,
    Condition.INTERRUPTED: Scope.RETRY,
}

_C = Condition

_POSIX: Mapping[str, Condition] = {
    "EEXIST": _C.EXISTS,
    "EXDEV": _C.CROSS_DEVICE,
    "EOPNOTSUPP": _C.UNSUPPORTED,
    "ENOTSUP": _C.UNSUPPORTED,
    "ENOSYS": _C.UNSUPPORTED,
    "ENOTTY": _C.UNSUPPORTED,
    "EMLINK": _C.TOO_MANY_LINKS,
    "EPERM": _C.DENIED,
    "EACCES": _C.DENIED,
    "EBUSY": _C.BUSY,
    "ETXTBSY": _C.BUSY,
    "EAGAIN": _C.AGAIN,
    "EWOULDBLOCK": _C.AGAIN,
    "EINTR": _C.INTERRUPTED,
    "ENOENT": _C.MISSING,
    "ENOSPC": _C.NO_SPACE,
    "EDQUOT": _C.NO_SPACE,
    "EROFS": _C.READ_ONLY,
    "EIO": _C.IO,
    "ENOMEM": _C.NO_MEMORY,
    "EMFILE": _C.TOO_MANY_OPEN,
    "ENFILE": _C.TOO_MANY_OPEN,
    "ENAMETOOLONG": _C.NAME_TOO_LONG,
    "EISDIR": _C.IS_DIRECTORY,
    "ENOTDIR": _C.NOT_DIRECTORY,
    "ELOOP": _C.IS_SYMLINK,
    "ENOTEMPTY": _C.NOT_EMPTY,
    # What our own checks find, by names that no operating system uses.
    "NOEFFECT": _C.NO_EFFECT,
    "SHORT": _C.SHORT,
}

_LINUX: Mapping[Primitive, Mapping[str, Condition]] = {
    # The call is there but not for this pair of files: NOCOW on one side, an unaligned
    # tail, a swap file (EINVAL, ETXTBSY), or a destination that is append-only (EBADF).
    Primitive.CLONE_FILE: {
        "EINVAL": _C.ATTRIBUTE,
        "EBADF": _C.ATTRIBUTE,
        "EISDIR": _C.UNSUPPORTED,
    },
    Primitive.CLONE_DIRECTORY: {"EISDIR": _C.UNSUPPORTED},
    Primitive.HARDLINK: {"EINVAL": _C.ATTRIBUTE},
    Primitive.SYMLINK: {"EINVAL": _C.ATTRIBUTE},
    # A flag of renameat2 that the filesystem does not know.
    Primitive.RENAME: {"EINVAL": _C.UNSUPPORTED},
    Primitive.EXCHANGE: {"EINVAL": _C.UNSUPPORTED},
    # O_DIRECTORY | O_NOFOLLOW on a symlink says ENOTDIR, on some filesystems ELOOP.
    Primitive.RMDIR: {"EEXIST": _C.NOT_EMPTY},
    # flock: EWOULDBLOCK is another's lock, the rest is a filesystem without locks.
    Primitive.LOCK: {"EAGAIN": _C.BUSY, "EWOULDBLOCK": _C.BUSY, "ENOLCK": _C.UNSUPPORTED},
}

_MACOS: Mapping[Primitive, Mapping[str, Condition]] = {
    # EINVAL: neither file, directory nor symlink. KEPT is ours: an attribute that nobody could
    # take off the clone, such as com.apple.quarantine.
    Primitive.CLONE_FILE: {"EDEADLK": _C.DATALESS, "EINVAL": _C.ATTRIBUTE, "KEPT": _C.ATTRIBUTE},
    # Any item below may be what stopped it, and which one is not told.
    Primitive.CLONE_DIRECTORY: {
        "EDEADLK": _C.DATALESS,
        "EINVAL": _C.ATTRIBUTE,
        "KEPT": _C.ATTRIBUTE,
    },
    Primitive.HARDLINK: {"EINVAL": _C.ATTRIBUTE},
    Primitive.SYMLINK: {"EINVAL": _C.ATTRIBUTE},
    Primitive.COPY: {"EDEADLK": _C.DATALESS},
    Primitive.RENAME: {"EINVAL": _C.UNSUPPORTED},
    Primitive.EXCHANGE: {"EINVAL": _C.UNSUPPORTED},
    Primitive.RMDIR: {"EEXIST": _C.NOT_EMPTY},
    Primitive.LOCK: {"EAGAIN": _C.BUSY, "ENOLCK": _C.UNSUPPORTED},
}

_WINERROR: Mapping[str, Condition] = {
    "ERROR_FILE_EXISTS": _C.EXISTS,
    "ERROR_ALREADY_EXISTS": _C.EXISTS,
    "ERROR_NOT_SAME_DEVICE": _C.CROSS_DEVICE,
    "ERROR_INVALID_FUNCTION": _C.UNSUPPORTED,
    "ERROR_NOT_SUPPORTED": _C.UNSUPPORTED,
    "ERROR_CALL_NOT_IMPLEMENTED": _C.UNSUPPORTED,
    "ERROR_SYMLINK_NOT_SUPPORTED": _C.UNSUPPORTED,
    "ERROR_TOO_MANY_LINKS": _C.TOO_MANY_LINKS,
    "ERROR_BLOCK_TOO_MANY_REFERENCES": _C.TOO_MANY_LINKS,
    "ERROR_ACCESS_DENIED": _C.DENIED,
    "ERROR_PRIVILEGE_NOT_HELD": _C.DENIED,
    "ERROR_VIRUS_INFECTED": _C.DENIED,
    "ERROR_SHARING_VIOLATION": _C.BUSY,
    "ERROR_LOCK_VIOLATION": _C.BUSY,
    "ERROR_BUSY": _C.BUSY,
    "ERROR_USER_MAPPED_FILE": _C.BUSY,
    "ERROR_DELETE_PENDING": _C.BUSY,
    "ERROR_CLOUD_FILE_PROVIDER_NOT_RUNNING": _C.DATALESS,
    "ERROR_CLOUD_FILE_NETWORK_UNAVAILABLE": _C.DATALESS,
    "ERROR_NO_SYSTEM_RESOURCES": _C.AGAIN,
    "ERROR_OPERATION_ABORTED": _C.INTERRUPTED,
    "ERROR_FILE_NOT_FOUND": _C.MISSING,
    "ERROR_PATH_NOT_FOUND": _C.MISSING,
    "ERROR_DISK_FULL": _C.NO_SPACE,
    "ERROR_HANDLE_DISK_FULL": _C.NO_SPACE,
    "ERROR_DISK_QUOTA_EXCEEDED": _C.NO_SPACE,
    "ERROR_WRITE_PROTECT": _C.READ_ONLY,
    "ERROR_CRC": _C.IO,
    "ERROR_WRITE_FAULT": _C.IO,
    "ERROR_READ_FAULT": _C.IO,
    "ERROR_GEN_FAILURE": _C.IO,
    "ERROR_NOT_READY": _C.IO,
    "ERROR_IO_DEVICE": _C.IO,
    "ERROR_FILE_CORRUPT": _C.IO,
    "ERROR_DISK_CORRUPT": _C.IO,
    "ERROR_NOT_ENOUGH_MEMORY": _C.NO_MEMORY,
    "ERROR_OUTOFMEMORY": _C.NO_MEMORY,
    "ERROR_COMMITMENT_LIMIT": _C.NO_MEMORY,
    "ERROR_TOO_MANY_OPEN_FILES": _C.TOO_MANY_OPEN,
    "ERROR_FILENAME_EXCED_RANGE": _C.NAME_TOO_LONG,
    "ERROR_BUFFER_OVERFLOW": _C.NAME_TOO_LONG,
    "ERROR_DIRECTORY_NOT_SUPPORTED": _C.IS_DIRECTORY,
    "ERROR_DIRECTORY": _C.NOT_DIRECTORY,
    "ERROR_STOPPED_ON_SYMLINK": _C.IS_SYMLINK,
    "ERROR_DIR_NOT_EMPTY": _C.NOT_EMPTY,
    "NOEFFECT": _C.NO_EFFECT,
    "SHORT": _C.SHORT,
}

_IN_USE: Mapping[str, Condition] = {"ERROR_ACCESS_DENIED": _C.BUSY}
"""An entry that another program has open, or in which it has something open, says access denied
as often as sharing violation (MoveFileExW, DeleteFileW): both are worth a short wait.
"""

_WINDOWS: Mapping[Primitive, Mapping[str, Condition]] = {
    # [MS-FSCC] 2.3.8: regions that are not aligned to clusters, or integrity settings that differ.
    Primitive.CLONE_FILE: {"ERROR_INVALID_PARAMETER": _C.ATTRIBUTE},
    # The unprivileged flag on a system that does not know it, or a path with odd characters.
    Primitive.SYMLINK: {"ERROR_INVALID_PARAMETER": _C.UNSUPPORTED},
    Primitive.HARDLINK: {"ERROR_INVALID_PARAMETER": _C.UNSUPPORTED},
    Primitive.RENAME: _IN_USE,
    Primitive.EXCHANGE: _IN_USE,
    Primitive.UNLINK: _IN_USE,
    Primitive.RMDIR: _IN_USE,
}

TABLES: Mapping[
    str, tuple[Mapping[str, Condition], Mapping[Primitive, Mapping[str, Condition]]]
] = {
    "linux": (_POSIX, _LINUX),
    "macos": (_POSIX, _MACOS),
    "windows": (_WINERROR, _WINDOWS),
}
"""platform -> (what a name means everywhere, what it means at one primitive)."""


def condition_of(platform: str, primitive: Primitive, error_name: str) -> Condition:
    """Return what the error called `error_name` means when `primitive` failed with it.

    Unknown names are `Condition.OTHER`, whose scope is to abort: what is not understood is
    not papered over. Raises KeyError for a platform without a table.
    """
    common, special = TABLES[platform]
    found = special.get(primitive, {}).get(error_name)
    return found or common.get(error_name, Condition.OTHER)
