r"""The primitives on Windows: block clones on ReFS and Dev Drives, hard links, symlinks, copies.

Every call goes through `Calls`, a table of functions with the meanings of kernel32's, so that a
model can answer them on any system and tests can make any of them fail. What Windows has no call
for is said by an error, never guessed at: names cannot be swapped (the engine goes the other
way), files have no nameless form, and directories are known by their paths.

That last point is the one promise that is weaker here: between two calls another program may put
a junction where a directory was. What is opened is looked at, and a symlink or junction is
refused, but not in one step with the call that follows.

Sources: [MS-FSCC] 2.3.7 and 2.3.8, "Block Cloning on ReFS", CreateHardLinkW,
CreateSymbolicLinkW, MoveFileExW, FILE_RENAME_INFORMATION, "Naming Files, Paths, and Namespaces",
all of Microsoft's documentation; winerror.h and winioctl.h for the numbers.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import stat as st
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from linker.conditions import Primitive
from linker.platforms.base import (
    ASIDE,
    Buffer,
    CheckFailed,
    DirectoryFacts,
    Failed,
    Kind,
    Listing,
    Look,
    Stamp,
    copy_range,
    nothing_made,
    short,
)

# Access rights, share modes, dispositions and flags of CreateFileW.
GENERIC_READ = 0x80000000
GENERIC_WRITE = 0x40000000
DELETE = 0x00010000
FILE_ADD_FILE = 0x0002
FILE_READ_ATTRIBUTES = 0x0080
FILE_WRITE_ATTRIBUTES = 0x0100
SYNCHRONIZE = 0x00100000
SHARE_READ, SHARE_WRITE, SHARE_DELETE = 1, 2, 4
SHARE_ALL = SHARE_READ | SHARE_WRITE | SHARE_DELETE
CREATE_NEW = 1
OPEN_EXISTING = 3
BACKUP_SEMANTICS = 0x02000000
OPEN_REPARSE_POINT = 0x00200000

ATTRIBUTE_READONLY = 0x1
ATTRIBUTE_DIRECTORY = 0x10
ATTRIBUTE_NORMAL = 0x80
ATTRIBUTE_SPARSE = 0x200
ATTRIBUTE_REPARSE_POINT = 0x400
_INHERITED_ATTRIBUTES = 0x800 | 0x4000 | 0x8000 | 0x20000
"""COMPRESSED, ENCRYPTED, INTEGRITY_STREAM and NO_SCRUB_DATA: what new files take over."""
_TAG_JUNCTION = 0xA0000003

FSCTL_DUPLICATE_EXTENTS_TO_FILE = 0x00098344
FSCTL_GET_INTEGRITY_INFORMATION = 0x0009027C
FSCTL_SET_INTEGRITY_INFORMATION = 0x0009C280
FSCTL_SET_SPARSE = 0x000900C4
FSCTL_QUERY_ALLOCATED_RANGES = 0x000940CF

SUPPORTS_BLOCK_REFCOUNTING = 0x08000000
"""Of GetVolumeInformation: this volume clones blocks."""

DUPLICATE = struct.Struct("@Pqqq")
"""DUPLICATE_EXTENTS_DATA: handle of the source, both offsets, number of bytes."""
INTEGRITY = struct.Struct("<HHIII")
"""What is told of integrity: algorithm, reserved, flags, bytes a checksum, bytes a cluster."""
INTEGRITY_WANTED = struct.Struct("<HHI")
RANGE = struct.Struct("<qq")
"""FILE_ALLOCATED_RANGE_BUFFER: where data begins, and how long it is."""

LONGEST = 1 << 32
"""One call clones fewer bytes than this."""

SYMLINK_DIRECTORY, SYMLINK_UNPRIVILEGED = 1, 2
MOVE_REPLACE = 1
RENAME_REPLACE, RENAME_POSIX, RENAME_IGNORE_READONLY = 0x1, 0x2, 0x40

_LOCK = "0"
"""Directory in a locked one, by which it is locked. No entry of a stage has that number."""

_BUFFER = 1 << 18
_PAUSES = (0.0, 0.001, 0.005, 0.02, 0.05, 0.1, 0.2)
"""Seconds before the first retries, and any further one: who scans a new file is done by then. A
directory is not renamed while anything in it is open, and of a large one something is for a while.
"""

WINERRORS = {
    1: "ERROR_INVALID_FUNCTION",
    2: "ERROR_FILE_NOT_FOUND",
    3: "ERROR_PATH_NOT_FOUND",
    4: "ERROR_TOO_MANY_OPEN_FILES",
    5: "ERROR_ACCESS_DENIED",
    6: "ERROR_INVALID_HANDLE",
    8: "ERROR_NOT_ENOUGH_MEMORY",
    14: "ERROR_OUTOFMEMORY",
    17: "ERROR_NOT_SAME_DEVICE",
    19: "ERROR_WRITE_PROTECT",
    21: "ERROR_NOT_READY",
    23: "ERROR_CRC",
    29: "ERROR_WRITE_FAULT",
    30: "ERROR_READ_FAULT",
    31: "ERROR_GEN_FAILURE",
    32: "ERROR_SHARING_VIOLATION",
    33: "ERROR_LOCK_VIOLATION",
    38: "ERROR_HANDLE_EOF",
    39: "ERROR_HANDLE_DISK_FULL",
    50: "ERROR_NOT_SUPPORTED",
    80: "ERROR_FILE_EXISTS",
    87: "ERROR_INVALID_PARAMETER",
    111: "ERROR_BUFFER_OVERFLOW",
    112: "ERROR_DISK_FULL",
    120: "ERROR_CALL_NOT_IMPLEMENTED",
    122: "ERROR_INSUFFICIENT_BUFFER",
    123: "ERROR_INVALID_NAME",
    124: "ERROR_INVALID_LEVEL",
    145: "ERROR_DIR_NOT_EMPTY",
    170: "ERROR_BUSY",
    183: "ERROR_ALREADY_EXISTS",
    206: "ERROR_FILENAME_EXCED_RANGE",
    225: "ERROR_VIRUS_INFECTED",
    267: "ERROR_DIRECTORY",
    303: "ERROR_DELETE_PENDING",
    336: "ERROR_DIRECTORY_NOT_SUPPORTED",
    347: "ERROR_BLOCK_TOO_MANY_REFERENCES",
    362: "ERROR_CLOUD_FILE_PROVIDER_NOT_RUNNING",
    388: "ERROR_CLOUD_FILE_NETWORK_UNAVAILABLE",
    681: "ERROR_STOPPED_ON_SYMLINK",
    995: "ERROR_OPERATION_ABORTED",
    1117: "ERROR_IO_DEVICE",
    1142: "ERROR_TOO_MANY_LINKS",
    1224: "ERROR_USER_MAPPED_FILE",
    1295: "ERROR_DISK_QUOTA_EXCEEDED",
    1314: "ERROR_PRIVILEGE_NOT_HELD",
    1392: "ERROR_FILE_CORRUPT",
    1393: "ERROR_DISK_CORRUPT",
    1450: "ERROR_NO_SYSTEM_RESOURCES",
    1455: "ERROR_COMMITMENT_LIMIT",
    1464: "ERROR_SYMLINK_NOT_SUPPORTED",
}
"""Names of winerror.h by number."""

NUMBERS = {name: number for number, name in WINERRORS.items()}

_ERRNOS = {
    errno.ENOENT: 2,
    errno.EACCES: 5,
    errno.EPERM: 5,
    errno.ENOMEM: 8,
    errno.EXDEV: 17,
    errno.EROFS: 19,
    errno.EOPNOTSUPP: 50,
    errno.ENOTTY: 1,
    errno.EINVAL: 87,
    errno.ENOSPC: 112,
    errno.ENOTEMPTY: 145,
    errno.EEXIST: 183,
    errno.ENAMETOOLONG: 206,
    errno.ENOTDIR: 267,
    errno.EISDIR: 336,
    errno.EIO: 1117,
    errno.EMLINK: 1142,
    errno.EMFILE: 4,
}
"""The winerror of an errno, for errors that C or Python itself made."""

_ERRNO_OF = {number: each for each, number in _ERRNOS.items()} | {3: errno.ENOENT, 5: errno.EACCES}


def refused(number: int, path: str = "", why: str = "") -> OSError:
    """Return the error that a call failed with, by its number in winerror.h."""
    name = WINERRORS.get(number, f"winerror {number}")
    error = OSError(_ERRNO_OF.get(number, errno.EINVAL), why or _words(number) or name, path)
    error.winerror = number  # type: ignore[attr-defined,unused-ignore]  # Windows has it already
    return error


def _words(number: int) -> str:
    """Return what Windows says of an error, nothing elsewhere."""
    import ctypes

    speak: Any = getattr(ctypes, "FormatError", None)
    return str(speak(number)).strip() if speak is not None else ""


def winerror_of(error: OSError) -> int:
    """Return the number of an error in winerror.h, 0 if it has none."""
    number = getattr(error, "winerror", None)
    return number if number else _ERRNOS.get(error.errno or 0, 0)


# Names and paths.

_RESERVED = re.compile(
    r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9\u00b9\u00b2\u00b3]) *(\..*)?", re.IGNORECASE
)
_FORBIDDEN = re.compile(r'[\\/:*?"<>|\x00-\x1f]')


def why_unfit(name: str) -> str:
    r"""Return why Windows programs could not use an entry of this name, or nothing.

    Paths that begin with ``\\?\`` could make them, and a colon would write into a stream of
    another file ("Naming Files, Paths, and Namespaces").
    """
    forbidden = _FORBIDDEN.search(name)
    if forbidden is not None:
        return f"Windows allows no {forbidden[0]!r} in names"
    if _RESERVED.fullmatch(name) is not None:
        return f"{name!r} is the name of a device on Windows"
    if name.endswith((".", " ")):
        return "Windows drops a dot or space at the end of a name"
    return ""


def extended(path: str) -> str:
    r"""Return an absolute path in the form that is not bound to 260 characters (``\\?\``)."""
    if path.startswith(("\\\\?\\", "\\\\.\\")):
        return path
    if path.startswith("\\\\"):
        return "\\\\?\\UNC\\" + path[2:]
    return "\\\\?\\" + path


def inherited_entries(security: bytes) -> tuple[tuple[int, int, bytes], ...]:
    """Return what new entries inherit of a directory's access list: (type, flags, rest) each.

    `security` is a SECURITY_DESCRIPTOR in self-relative form ([MS-DTYP] 2.4.6); whether the
    directory had an entry from its own parent makes no difference to those below it.
    """
    if len(security) < 20:
        return ()
    offset = struct.unpack_from("<I", security, 16)[0]
    if not offset:
        return ()
    count = struct.unpack_from("<H", security, offset + 4)[0]
    found = []
    place = offset + 8
    for _ in range(count):
        kind, flags, size = struct.unpack_from("<BBH", security, place)
        if flags & 0x3:  # OBJECT_INHERIT_ACE, CONTAINER_INHERIT_ACE
            found.append((kind, flags & ~0x10, security[place + 4 : place + size]))
        place += size
    return tuple(sorted(found))


# The seam.


class Information(NamedTuple):
    """What GetFileInformationByHandle tells of an open file."""

    attributes: int
    volume: int
    size: int


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls that `WindowsPlatform` makes; each raises OSError with a `winerror`.

    `open` is CreateFileW (path, access, share mode, disposition, flags), `control`
    DeviceIoControl (handle, code, input, size of the output), `extend` and `stamp` are
    SetFileInformationByHandle with FileEndOfFileInfo and FileBasicInfo (attributes, last access,
    last write; 0 changes nothing), `rename` that with FileRenameInfoEx (handle, new path, flags),
    `security` is GetFileSecurityW, `spelled` the name of an entry in the letters that its directory
    has it in (FindFirstFileW), `extended` the long form of a path. The others bear the names that
    Python gives them.
    """

    open: Callable[[str, int, int, int, int], int]
    close: Callable[[int], None]
    read: Callable[[int, memoryview], int]
    write: Callable[[int, memoryview], int]
    seek: Callable[[int, int], None]
    control: Callable[[int, int, bytes, int], bytes]
    information: Callable[[int], Information]
    volume_flags: Callable[[int], int]
    extend: Callable[[int, int], None]
    stamp: Callable[[int, int, int, int], None]
    hardlink: Callable[[str, str], None]
    symlink: Callable[[str, str, int], None]
    move: Callable[[str, str, int], None]
    rename: Callable[[int, str, int], None]
    security: Callable[[str], bytes]
    unlink: Callable[[str], None] = os.unlink
    mkdir: Callable[[str], None] = os.mkdir
    rmdir: Callable[[str], None] = os.rmdir
    lstat: Callable[[str], os.stat_result] = os.lstat
    scandir: Callable[[str], Any] = os.scandir
    readlink: Callable[[str], str] = os.readlink
    access: Callable[[str, int], bool] = os.access
    spelled: Callable[[str], str] = os.path.basename
    extended: Callable[[str], str] = extended
    sleep: Callable[[float], None] = time.sleep


def _kind(seen: os.stat_result) -> Kind:
    if st.S_ISLNK(seen.st_mode) or getattr(seen, "st_reparse_tag", 0) == _TAG_JUNCTION:
        return Kind.SYMLINK
    if st.S_ISDIR(seen.st_mode):
        return Kind.DIRECTORY
    return Kind.FILE if st.S_ISREG(seen.st_mode) else Kind.OTHER


def _is_junction(entry: Any) -> bool:
    told = getattr(entry, "is_junction", None)  # Python 3.12
    if told is not None:
        return bool(told())
    seen = entry.stat(follow_symlinks=False)
    return getattr(seen, "st_reparse_tag", 0) == _TAG_JUNCTION


def _is_readonly(seen: os.stat_result) -> bool:
    return not seen.st_mode & 0o222


class WindowsPlatform:
    """`linker.platforms.base.Platform` for Windows; see there for what each primitive promises."""

    name = "windows"
    places_directly = False

    def __init__(self, calls: Calls, *, proof: str = "real") -> None:
        self.calls = calls
        self.proof = proof
        self._numbers = itertools.count(1)
        self._paths: dict[int, str] = {}
        self._locks: dict[int, int] = {}
        self._removed: dict[int, DirectoryFacts] = {}
        self._unprivileged = SYMLINK_UNPRIVILEGED
        self._buffer = Buffer(_BUFFER)

    def error_name(self, error: OSError) -> str:
        if isinstance(error, CheckFailed):
            return error.name
        return WINERRORS.get(winerror_of(error), "")

    def pause(self, attempt: int) -> None:
        self.calls.sleep(_PAUSES[min(attempt, len(_PAUSES)) - 1])

    # Handles: numbers that stand for paths.

    def _handle(self, path: str) -> int:
        number = next(self._numbers)
        self._paths[number] = path
        return number

    def _path(self, directory: int, name: str) -> str:
        """Return the path of an entry; the name may not lead anywhere else.

        A store names its files by paths below its root, with slashes.
        """
        path = self._paths[directory]
        if name == ".":
            return path
        if name == "..":
            return os.path.dirname(path)
        if not name:
            raise refused(NUMBERS["ERROR_FILE_NOT_FOUND"], path)
        parts = name.split("/")
        for part in parts:
            if _FORBIDDEN.search(part) is not None:
                raise refused(NUMBERS["ERROR_INVALID_NAME"], name, why_unfit(part))
        if len(parts) > 1 and not {"", ".", ".."}.isdisjoint(parts):
            raise refused(NUMBERS["ERROR_INVALID_NAME"], name, "it may lead elsewhere")
        return os.path.join(path, *parts)

    def _new(self, directory: int, name: str) -> str:
        """Return the path of an entry to be made, if Windows programs can use it."""
        parts = name.split("/")
        for part in parts:
            unfit = why_unfit(part)
            if unfit:
                raise refused(NUMBERS["ERROR_INVALID_NAME"], name, unfit)
        return os.path.join(self._paths[directory], *parts)

    def _moved(self, old: str, new: str) -> None:
        """Let the handles of a directory and of what lies below it follow its new name."""
        below = os.path.join(old, "")
        for number, path in self._paths.items():
            if path == old or path.startswith(below):
                self._paths[number] = new + path[len(old) :]

    def _is_locked(self, path: str) -> bool:
        """Return whether we have the lock on a directory."""
        return any(self._paths[each] == path for each in self._locks)

    def _unlock(self, path: str) -> None:
        """Let go of a lock of ours on a directory that goes or is about to be renamed."""
        for number in [each for each in self._locks if self._paths[each] == path]:
            self._let_go(self._locks.pop(number))

    def _let_go(self, held: int) -> None:
        """Close the handle of a lock; it is gone whatever the call says."""
        try:
            self.calls.close(held)
        except OSError:
            return

    # Looking.

    def open_root(self, path: str) -> int:
        try:
            whole = self.calls.extended(os.path.realpath(path))
            seen = self.calls.lstat(whole)
            if _kind(seen) is not Kind.DIRECTORY:
                raise refused(NUMBERS["ERROR_DIRECTORY"], path)
        except OSError as error:
            raise Failed(Primitive.OPEN, error) from error
        return self._handle(whole)

    def open_below(self, directory: int, name: str, primitive: Primitive = Primitive.OPEN) -> int:
        try:
            path = self._path(directory, name)
            kind = _kind(self.calls.lstat(path))
            if kind is Kind.SYMLINK:
                raise refused(NUMBERS["ERROR_STOPPED_ON_SYMLINK"], name)
            if kind is not Kind.DIRECTORY:
                raise refused(NUMBERS["ERROR_DIRECTORY"], name)
        except OSError as error:
            raise Failed(primitive, error) from error
        return self._handle(path)

    def close(self, directory: int) -> None:
        held = self._locks.pop(directory, None)
        if held is not None:
            self._let_go(held)
        self._removed.pop(directory, None)
        del self._paths[directory]

    def facts(self, directory: int) -> DirectoryFacts:
        """Return what is known of an open directory; of one that we removed, what it was then."""
        removed = self._removed.get(directory)
        if removed is not None:
            return removed
        try:
            return self._facts(self._paths[directory])
        except OSError as error:
            raise Failed(Primitive.READ, error) from error

    def _facts(self, path: str) -> DirectoryFacts:
        seen = self.calls.lstat(path)
        mode = seen.st_mode & 0o7777
        return DirectoryFacts(seen.st_dev, seen.st_ino, mode, seen.st_atime_ns, seen.st_mtime_ns)

    def entries(self, directory: int) -> Listing:
        files: list[str] = []
        directories: list[str] = []
        symlinks: list[str] = []
        others: list[str] = []
        path = self._paths[directory]
        locked = self._is_locked(path)
        try:
            with self.calls.scandir(path) as found:
                for entry in found:
                    if locked and entry.name == _LOCK:
                        continue
                    if _is_junction(entry):
                        others.append(entry.name)
                    elif entry.is_file(follow_symlinks=False):
                        files.append(entry.name)
                    elif entry.is_dir(follow_symlinks=False):
                        directories.append(entry.name)
                    elif entry.is_symlink():
                        symlinks.append(entry.name)
                    else:
                        others.append(entry.name)
        except OSError as error:
            # FindFirstFileW finds nothing in the root of an empty drive: no entry for itself.
            if winerror_of(error) != NUMBERS["ERROR_FILE_NOT_FOUND"] or not self._exists(
                self._paths[directory]
            ):
                raise Failed(Primitive.READ, error) from error
        for names in (files, directories, symlinks, others):
            names.sort()
        return Listing(files, directories, symlinks, others)

    entries_once = entries

    def look(self, directory: int, name: str) -> Look | None:
        try:
            seen = self.calls.lstat(self._path(directory, name))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Failed(Primitive.OPEN, error) from error
        return Look(_kind(seen), seen.st_dev, seen.st_ino, seen.st_size, seen.st_ctime_ns)

    def born(self, directory: int, name: str) -> int | None:  # noqa: ARG002
        """Return None: file references of NTFS and ReFS count how often they were given."""
        return None

    def inheritance(self, directory: int) -> tuple[object, ...]:
        path = self._paths[directory]
        try:
            seen = self.calls.lstat(path)
            attributes = getattr(seen, "st_file_attributes", 0) & _INHERITED_ATTRIBUTES
            return (seen.st_dev, attributes, inherited_entries(self.calls.security(path)))
        except OSError as error:
            raise Failed(Primitive.OPEN, error) from error

    def is_writable(self, directory: int) -> bool:
        return self.calls.access(self._paths[directory], os.W_OK)

    # Making.

    def clone_file(self, source: int, name: str, target: int, new: str) -> int:
        return self._new_file(Primitive.CLONE_FILE, self._clone, source, name, target, new)

    def copy_file(self, source: int, name: str, target: int, new: str) -> int:
        return self._new_file(Primitive.COPY, self._copy, source, name, target, new)

    def clone_directly(
        self,
        source: int,  # noqa: ARG002
        name: str,  # noqa: ARG002
        target: int,  # noqa: ARG002
        new: str,
        placing: Callable[[int, int], None],  # noqa: ARG002
    ) -> int:
        raise _no_nameless(new)

    def copy_directly(
        self,
        source: int,  # noqa: ARG002
        name: str,  # noqa: ARG002
        target: int,  # noqa: ARG002
        new: str,
        placing: Callable[[int, int], None],  # noqa: ARG002
    ) -> int:
        raise _no_nameless(new)

    def _new_file(
        self,
        primitive: Primitive,
        fill: Callable[[int, int, Information], None],
        source: int,
        name: str,
        target: int,
        new: str,
    ) -> int:
        """Create `new`, let `fill` fill it, stamp it: all of it, or nothing stays."""
        calls = self.calls
        step = Primitive.READ
        try:
            path = self._path(source, name)
            seen = calls.lstat(path)
            if _kind(seen) is not Kind.FILE:
                raise refused(NUMBERS["ERROR_INVALID_PARAMETER"], name, "no longer a regular file")
            reading = calls.open(path, GENERIC_READ, SHARE_ALL, OPEN_EXISTING, 0)
            try:
                told = calls.information(reading)
                step = Primitive.CREATE
                made = self._new(target, new)
                access = GENERIC_READ | GENERIC_WRITE | FILE_WRITE_ATTRIBUTES
                writing = calls.open(made, access, SHARE_READ | SHARE_DELETE, CREATE_NEW, 0)
                try:
                    try:
                        step = primitive
                        fill(reading, writing, told)
                        became = calls.information(writing)
                        if became.size != told.size:
                            raise short(became.size, told.size)
                        step = Primitive.STAMP
                        attributes = 0
                        if _is_readonly(seen):
                            attributes = became.attributes | ATTRIBUTE_READONLY
                        calls.stamp(writing, attributes, seen.st_atime_ns, seen.st_mtime_ns)
                    finally:
                        calls.close(writing)
                    return calls.lstat(made).st_ino
                except OSError:
                    self._discard(made)
                    raise
            finally:
                calls.close(reading)
        except OSError as error:
            raise Failed(step, error) from error

    def _discard(self, path: str) -> None:
        """Remove a file that did not become whole; the first error is the one to tell."""
        try:
            self._remove(path)
        except OSError:
            return

    def _clone(self, reading: int, writing: int, told: Information) -> None:
        """Share the clusters of one file with another, by the rules of ReFS.

        The destination is as long as the source before anything is shared, both are sparse and
        both have checksums or neither, and each call takes whole clusters and less than 4 GiB.
        """
        calls = self.calls
        if calls.information(writing).volume != told.volume:
            raise refused(NUMBERS["ERROR_NOT_SAME_DEVICE"])
        wanted = calls.control(reading, FSCTL_GET_INTEGRITY_INFORMATION, b"", INTEGRITY.size)
        algorithm, _, flags, _, cluster = INTEGRITY.unpack(wanted)
        if not calls.volume_flags(writing) & SUPPORTS_BLOCK_REFCOUNTING:
            raise refused(NUMBERS["ERROR_NOT_SUPPORTED"], why="the volume clones no blocks")
        there = calls.control(writing, FSCTL_GET_INTEGRITY_INFORMATION, b"", INTEGRITY.size)
        if INTEGRITY.unpack(there)[:3:2] != (algorithm, flags):
            setting = INTEGRITY_WANTED.pack(algorithm, 0, flags)
            calls.control(writing, FSCTL_SET_INTEGRITY_INFORMATION, setting, 0)
        if told.attributes & ATTRIBUTE_SPARSE:
            calls.control(writing, FSCTL_SET_SPARSE, b"", 0)
        calls.extend(writing, told.size)
        for offset, length in pieces(told.size, cluster):
            data = DUPLICATE.pack(reading, offset, offset, length)
            calls.control(writing, FSCTL_DUPLICATE_EXTENTS_TO_FILE, data, 0)

    def _copy(self, reading: int, writing: int, told: Information) -> None:
        """Read and write: neither call clones blocks, as CopyFile2 would on a Dev Drive."""
        if told.attributes & ATTRIBUTE_SPARSE:
            self._copy_around_holes(reading, writing, told.size)
        else:
            self._copy_range(reading, writing, told.size)

    def _copy_range(self, reading: int, writing: int, length: int) -> None:
        calls = self.calls

        def read(handle: int, views: list[memoryview]) -> int:
            return calls.read(handle, views[0])

        copy_range(read, reading, calls.write, writing, self._buffer.view, length)

    def _copy_around_holes(self, reading: int, writing: int, size: int) -> None:
        calls = self.calls
        calls.control(writing, FSCTL_SET_SPARSE, b"", 0)
        calls.extend(writing, size)
        position = 0
        while position < size:
            asked = RANGE.pack(position, size - position)
            found = calls.control(reading, FSCTL_QUERY_ALLOCATED_RANGES, asked, RANGE.size)
            if not found:  # nothing but a hole from here to the end
                return
            start, length = RANGE.unpack(found[: RANGE.size])
            start = max(start, position)
            length = min(start + length, size) - start
            calls.seek(reading, start)
            calls.seek(writing, start)
            self._copy_range(reading, writing, length)
            position = start + length

    def hardlink(self, source: int, name: str, target: int, new: str) -> int:
        try:
            made = self._new(target, new)
            self.calls.hardlink(made, self._path(source, name))
        except OSError as error:
            raise Failed(Primitive.HARDLINK, error) from error
        return -self._made(Primitive.HARDLINK, made)

    def symlink(self, text: str, target: int, new: str) -> int:
        try:
            made = self._new(target, new)
            self._symlink(text, made, 0)
        except OSError as error:
            raise Failed(Primitive.SYMLINK, error) from error
        return self._made(Primitive.SYMLINK, made)

    def _symlink(self, text: str, made: str, flags: int) -> None:
        """Make a symlink; systems before Windows 10 1703 refuse the flag of ordinary users."""
        text = text.replace("/", os.sep)
        try:
            self.calls.symlink(made, text, flags | self._unprivileged)
        except OSError as error:
            if not self._unprivileged or winerror_of(error) != NUMBERS["ERROR_INVALID_PARAMETER"]:
                raise
            self.calls.symlink(made, text, flags)
            self._unprivileged = 0

    def recreate_symlink(self, source: int, name: str, target: int, new: str) -> int:
        calls = self.calls
        step = Primitive.READ
        try:
            path = self._path(source, name)
            text, seen = calls.readlink(path), calls.lstat(path)
            step = Primitive.SYMLINK
            made = self._new(target, new)
            directory = getattr(seen, "st_file_attributes", 0) & ATTRIBUTE_DIRECTORY
            self._symlink(text, made, SYMLINK_DIRECTORY if directory else 0)
            inode = self._made(Primitive.SYMLINK, made)
            step = Primitive.STAMP
            self._stamp(made, 0, seen.st_atime_ns, seen.st_mtime_ns)
        except OSError as error:
            raise Failed(step, error) from error
        return inode

    def _stamp(self, path: str, attributes: int, atime_ns: int, mtime_ns: int) -> None:
        """Give a name that is there attributes and times, following no link."""
        with self._attributes_of(path) as (handle, _):
            self.calls.stamp(handle, attributes, atime_ns, mtime_ns)

    def _made(self, primitive: Primitive, path: str) -> int:
        """Return the file reference of what `primitive` claims to have made."""
        try:
            return self.calls.lstat(path).st_ino
        except FileNotFoundError as error:
            raise nothing_made(primitive) from error
        except OSError as error:
            raise Failed(primitive, error) from error

    def make_directory(self, parent: int, name: str, mode: int = 0o700) -> int:  # noqa: ARG002
        try:
            path = self._new(parent, name)
            self.calls.mkdir(path)
        except OSError as error:
            raise Failed(Primitive.MKDIR, error) from error
        try:
            return self.open_below(parent, name)
        except Failed:
            self._discard_directory(path)
            raise

    def _discard_directory(self, path: str) -> None:
        try:
            self.calls.rmdir(path)
        except OSError:
            return

    def stamp_directory(self, directory: int, seen: int, node: Stamp) -> None:
        attributes = _directory_attributes(seen, node.mode)
        try:
            self._stamp(self._paths[directory], attributes, node.atime_ns, node.mtime_ns)
        except OSError as error:
            raise Failed(Primitive.STAMP, error) from error

    def change_mode(self, directory: int, mode: int) -> None:
        path = self._paths[directory]
        try:
            before = self.calls.lstat(path).st_mode
            attributes = _directory_attributes(before, mode)
            if attributes:
                self._stamp(path, attributes, 0, 0)
        except OSError as error:
            raise Failed(Primitive.STAMP, error) from error

    def check_bits(self, directory: int) -> None:
        """Find nothing: here no right goes with another."""

    def permissions(self, directory: int, name: str) -> int:  # noqa: ARG002
        """Return all of them: here no permission bits shut a directory."""
        return 0o777

    def let_in(self, directory: int, name: str, inode: int | None = None) -> bool:
        """Change nothing: here no permission bits shut a directory."""
        seen = self.look(directory, name)
        return seen is not None and inode in (None, seen.inode)

    def touch(self, directory: int) -> None:
        now = time.time_ns()
        try:
            self._stamp(self._paths[directory], 0, now, now)
        except OSError as error:
            raise Failed(Primitive.STAMP, error) from error

    # Names.

    def place(self, source: int, name: str, target: int, new: str) -> None:
        try:
            old, final = self._path(source, name), self._new(target, new)
            if self._is_locked(old):
                self._unlock(old)
                with suppress(OSError):
                    self.calls.rmdir(os.path.join(old, _LOCK))
            self.calls.move(old, final, 0)
        except OSError as error:
            raise Failed(Primitive.RENAME, error) from error
        # Either name may be another linker's by now, but not both while nothing has happened.
        if self._exists(old) and not self._exists(final):
            raise nothing_made(Primitive.RENAME)
        self._moved(old, final)

    def _exists(self, path: str) -> bool:
        try:
            self.calls.lstat(path)
        except OSError:
            return False
        return True

    place_emulated = place  # MoveFileExW replaces nothing unless told to

    def check_swaps(self, directory: int) -> None:
        """Do nothing: no call swaps names here, and `exchange` says so."""

    def exchange(
        self,
        source: int,  # noqa: ARG002
        name: str,  # noqa: ARG002
        target: int,  # noqa: ARG002
        new: str,
        ours: int | None = None,  # noqa: ARG002
    ) -> Look | None:
        raise Failed(
            Primitive.EXCHANGE, refused(NUMBERS["ERROR_NOT_SUPPORTED"], new, "no call swaps names")
        )

    def exchange_emulated(self, source: int, name: str, target: int, new: str) -> None:
        """Keep a second name of the old file, rename over it, give the old one `name`.

        Where there are no hard links the old file is moved aside first, and for that moment
        its name is missing. The name keeps its letters, in upper and lower case.
        """
        calls = self.calls
        moved = False
        try:
            ours, final = self._path(source, name), self._path(target, new)
            aside = self._new(source, name + ASIDE)
            seen = calls.lstat(final)
            if _kind(seen) is Kind.DIRECTORY:
                raise refused(NUMBERS["ERROR_DIRECTORY_NOT_SUPPORTED"], new)
            final = os.path.join(os.path.dirname(final), calls.spelled(final))
            self._check_free(final)
            try:
                calls.hardlink(aside, final)
            except FileNotFoundError:
                raise
            except OSError:
                # Somebody may have kept us from removing the name that the last try made.
                if not self._exists(aside) or calls.lstat(aside).st_ino != seen.st_ino:
                    calls.move(final, aside, 0)
                    moved = True
            try:
                if moved and _kind(calls.lstat(aside)) is Kind.DIRECTORY:  # it came meanwhile
                    raise refused(NUMBERS["ERROR_DIRECTORY_NOT_SUPPORTED"], new)
                self._rename_over(ours, final, "" if moved else aside)
            except OSError:
                if not moved:
                    self._discard(aside)
                elif not self._exists(final):
                    calls.move(aside, final, 0)
                raise
        except OSError as error:
            raise Failed(Primitive.EXCHANGE, error) from error
        try:
            calls.move(aside, ours, 0)
        except OSError:  # the exchange is done; the old entry is only called otherwise
            return

    def _check_free(self, path: str) -> None:
        """Raise if others have a file open and do not share that it goes: a second name of it could
        not be removed again either.
        """
        flags = BACKUP_SEMANTICS | OPEN_REPARSE_POINT
        self.calls.close(self.calls.open(path, DELETE, SHARE_ALL, OPEN_EXISTING, flags))

    def _rename_over(self, old: str, new: str, kept: str) -> None:
        """Rename, replacing a file: also one that others have open, where the system can.

        `kept` is another name of the file that is replaced, if it has one.
        """
        calls = self.calls
        flags = BACKUP_SEMANTICS | OPEN_REPARSE_POINT
        handle = calls.open(old, DELETE | SYNCHRONIZE, SHARE_ALL, OPEN_EXISTING, flags)
        try:
            calls.rename(handle, new, RENAME_REPLACE | RENAME_POSIX | RENAME_IGNORE_READONLY)
        except OSError as error:
            if winerror_of(error) not in _NOT_KNOWN:
                raise
        else:
            return
        finally:
            calls.close(handle)
        # Not while it is open, which would be a reason not to replace it.
        readonly = kept and _is_readonly(calls.lstat(new))
        if readonly:
            self._change_readonly(new, ATTRIBUTE_READONLY, 0)
        try:
            calls.move(old, new, MOVE_REPLACE)
        except OSError:
            if readonly:
                self._change_readonly(new, 0, ATTRIBUTE_READONLY)
            raise
        if readonly:
            self._change_readonly(kept, 0, ATTRIBUTE_READONLY)

    def _change_readonly(self, path: str, without: int, wanted: int) -> None:
        with self._attributes_of(path) as (handle, attributes):
            changed = attributes & ~without | wanted
            self.calls.stamp(handle, changed or ATTRIBUTE_NORMAL, 0, 0)

    @contextmanager
    def _attributes_of(self, path: str) -> Iterator[tuple[int, int]]:
        """Open a name to change its attributes, following no link."""
        flags = BACKUP_SEMANTICS | OPEN_REPARSE_POINT
        access = FILE_READ_ATTRIBUTES | FILE_WRITE_ATTRIBUTES
        handle = self.calls.open(path, access, SHARE_ALL, OPEN_EXISTING, flags)
        try:
            yield handle, self.calls.information(handle).attributes
        finally:
            self.calls.close(handle)

    def _remove(self, path: str) -> None:
        """Remove a file, also a read-only one: the attribute is the file's, and other names of it,
        in a cache, must not lose it.
        """
        calls = self.calls
        if not _is_readonly(calls.lstat(path)):
            calls.unlink(path)
            return
        with self._attributes_of(path) as (handle, attributes):
            calls.stamp(handle, attributes & ~ATTRIBUTE_READONLY or ATTRIBUTE_NORMAL, 0, 0)
            try:
                calls.unlink(path)
            except OSError:
                calls.stamp(handle, attributes, 0, 0)
                raise
            with suppress(OSError):  # where it is gone at once it may have been the only name
                calls.stamp(handle, attributes, 0, 0)

    def remove_file(self, directory: int, name: str) -> None:
        try:
            path = self._path(directory, name)
            seen = self.calls.lstat(path)
            if st.S_ISLNK(seen.st_mode) and (
                getattr(seen, "st_file_attributes", 0) & ATTRIBUTE_DIRECTORY
            ):
                self.calls.rmdir(path)  # a symlink that says it leads to a directory
            else:
                self._remove(path)
        except OSError as error:
            raise Failed(Primitive.UNLINK, error) from error

    def remove_directory(self, directory: int, name: str) -> None:
        try:
            path = self._path(directory, name)
            handles = [number for number, other in self._paths.items() if other == path]
            facts = self._facts(path) if handles else None
            self._remove_directory(path)
        except OSError as error:
            raise Failed(Primitive.RMDIR, error) from error
        if facts is not None:
            self._removed.update(dict.fromkeys(handles, facts))

    def _remove_directory(self, path: str) -> None:
        """Remove an empty directory, even one whose lock we have.

        We keep that as long as can be: who got it would work in a directory that is about to go.
        """
        if not self._is_locked(path):
            self.calls.rmdir(path)
            return
        self.calls.rmdir(os.path.join(path, _LOCK))
        try:
            self.calls.rmdir(path)
        except OSError as error:
            if winerror_of(error) != NUMBERS["ERROR_DIR_NOT_EMPTY"]:
                raise
            self._unlock(path)  # where a name goes with the last handle only
            self.calls.rmdir(path)
        self._unlock(path)

    # Records and locks.

    def lock(self, directory: int) -> bool:
        """Open a directory in it for adding files, sharing that with nobody: who wants the same
        lock meets a sharing violation.

        Not the directory itself: whatever gets a name in it by a rename or a hard link, the system
        opens it for adding files then ([MS-FSA] 2.1.5.15.12, FileRenameInformation).
        """
        if directory in self._locks:
            return True
        share = SHARE_READ | SHARE_DELETE
        access = FILE_ADD_FILE | FILE_READ_ATTRIBUTES
        path = os.path.join(self._paths[directory], _LOCK)
        try:
            self._make_lock(path)
            self._locks[directory] = self.calls.open(
                path, access, share, OPEN_EXISTING, BACKUP_SEMANTICS
            )
        except OSError as error:
            if winerror_of(error) == NUMBERS["ERROR_SHARING_VIOLATION"]:
                return False
            raise Failed(Primitive.LOCK, error) from error
        return True

    def _make_lock(self, path: str) -> None:
        try:
            self.calls.mkdir(path)
        except OSError as error:
            if winerror_of(error) != NUMBERS["ERROR_ALREADY_EXISTS"]:
                raise

    def write_record(self, directory: int, name: str, data: bytes) -> None:
        calls = self.calls
        try:
            path = self._new(directory, name)
            if not data:  # made by one call, so that no handle keeps a stage from being removed
                calls.mkdir(path)
                return
            writing = calls.open(path, GENERIC_WRITE, SHARE_ALL, CREATE_NEW, 0)
            try:
                if calls.write(writing, memoryview(data)) != len(data):
                    raise short(0, len(data))
            finally:
                calls.close(writing)
        except OSError as error:
            raise Failed(Primitive.CREATE, error) from error

    def read_record(self, directory: int, name: str) -> bytes:
        calls = self.calls
        try:
            path = self._path(directory, name)
            reading = calls.open(path, GENERIC_READ, SHARE_ALL, OPEN_EXISTING, OPEN_REPARSE_POINT)
            try:
                found = bytearray()
                while got := calls.read(reading, self._buffer.view):
                    found += self._buffer.view[:got]
                return bytes(found)
            finally:
                calls.close(reading)
        except OSError as error:
            raise Failed(Primitive.READ, error) from error


_NOT_KNOWN = frozenset(
    NUMBERS[name]
    for name in (
        "ERROR_INVALID_PARAMETER",
        "ERROR_INVALID_FUNCTION",
        "ERROR_NOT_SUPPORTED",
        "ERROR_CALL_NOT_IMPLEMENTED",
        "ERROR_INVALID_LEVEL",  # network drives
    )
)
"""What a system, or a filesystem such as FAT, says that does not know FileRenameInfoEx."""


def pieces(size: int, cluster: int, longest: int = LONGEST) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of the calls that clone `size` bytes: whole clusters, the last one
    beyond the file's end, and each call shorter than `longest`.
    """
    end = -(-size // cluster) * cluster
    step = longest - cluster
    for offset in range(0, end, step):
        yield offset, min(step, end - offset)


def _directory_attributes(seen: int, wanted: int) -> int:
    """Return the attributes that give a directory the bits `wanted`, 0 if it has them."""
    if bool(seen & 0o222) == bool(wanted & 0o222):
        return 0
    return ATTRIBUTE_NORMAL if wanted & 0o222 else ATTRIBUTE_READONLY


def _no_nameless(name: str) -> Failed:
    why = "files have a name from the beginning"
    return Failed(Primitive.CREATE, refused(NUMBERS["ERROR_NOT_SUPPORTED"], name, why))
