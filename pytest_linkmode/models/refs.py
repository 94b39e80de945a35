"""ReFS block cloning as a model: the calls of kernel32, answered on Linux as Microsoft documents.

Clusters are really shared: the model turns FSCTL_DUPLICATE_EXTENTS_TO_FILE into FICLONERANGE on
the filesystem that it stands on, after it has refused what ReFS refuses. It also keeps what Linux
has not: share modes, the read-only attribute as a reason not to remove a file, sparse and
integrity settings, the link limit, and what an ordinary user may not.

Where the documentation says that something is refused but not with which error, the model says
ERROR_INVALID_PARAMETER; `UNDOCUMENTED` names those places. Sources: [MS-FSCC] 2.3.7 and 2.3.8,
"Block Cloning on ReFS", CreateFileW, CreateHardLinkW (1023 links), CreateSymbolicLinkW;
[MS-FSA] 2.1.5.10.15 for what is said of where files lie, which FIEMAP knows.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform as machine_facts
import stat as st
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from linker.platforms import windows as w
from linker.platforms.linux import RENAME_NOREPLACE, renameat2
from linker.platforms.windows import Calls, Information, WindowsPlatform, refused
from linker.tree import fold
from pytest_linkmode import pointers
from pytest_linkmode.fiemap import ExtentReader

UNDOCUMENTED = (
    "a region that is not aligned to clusters",
    "a region of 4 GiB or more",
    "a destination that ends before the region does",
    "integrity settings that differ",
)
"""What is documented as refused, without the error; the model says ERROR_INVALID_PARAMETER."""

_ODD = machine_facts.machine().startswith(("mips", "ppc", "powerpc", "sparc", "alpha"))
FICLONERANGE = 0x8020940D if _ODD else 0x4020940D
"""_IOW(0x94, 13, struct file_clone_range) of ioctl_ficlonerange(2)."""
_CLONE_RANGE = struct.Struct("@qQQQ")

SYMLINKS = ("allowed", "old", "refused", "silent")
"""What CreateSymbolicLinkW does: it works; it knows no flag for ordinary users (before Windows 10
1703); it wants a privilege; it claims success and makes nothing (Wine).
"""

PLACES = ("told", "refused", "senseless")
"""How FSCTL_GET_RETRIEVAL_POINTERS is answered: by clusters; not at all (many network shares); by
an extent that ends before it begins (Wine).
"""

_HERE = -100
"""AT_FDCWD of openat(2): paths as they are."""

_WANTS_READ = w.GENERIC_READ | 0x1
_WANTS_WRITE = w.GENERIC_WRITE | 0x6
_WANTS_DELETE = w.DELETE


@dataclass(frozen=True)
class Volume:
    """How the modelled volumes behave.

    `clones` is false for NTFS. `checksums` is the integrity setting of new files: (algorithm,
    flags). `cluster` is 4 or 64 KiB. `posix` says whether FileRenameInfoEx is known (NTFS from
    Windows 10 1709 on; not FAT, not Wine). `links` is the most names a file has. `left` is how
    many clusters can still be cloned, None for enough; `references` how often one file can be.
    """

    clones: bool = True
    cluster: int = 4096
    checksums: tuple[int, int] = (0, 0)
    posix: bool = True
    links: int = 1024
    symlinks: str = "allowed"
    readonly: bool = False
    left: int | None = None
    references: int | None = None
    places: str = "told"
    folds: bool = False


class _Open(NamedTuple):
    """One open handle: which file, and what it wants of others and allows them."""

    identity: tuple[int, int]
    access: int
    share: int
    path: str


@dataclass
class _Settings:
    """What a file has on ReFS and not on Linux."""

    checksums: tuple[int, int]
    sparse: bool = False
    references: int = 0


@dataclass
class RefsModel:
    """Volumes of one behaviour, wherever a test's directories lie.

    Two directories are on one volume if Linux says so (`st_dev`); handles are descriptors. What
    the model knows of files lives as long as it does.
    """

    volume: Volume = field(default_factory=Volume)
    opened: dict[int, _Open] = field(default_factory=dict)
    calls_made: list[tuple[int, int]] = field(default_factory=list)
    """(offset, length) of every region that was cloned."""
    _settings: dict[tuple[int, int], _Settings] = field(default_factory=dict)
    _cloned: int = 0

    @property
    def calls(self) -> Calls:
        """The table of calls for `WindowsPlatform`."""
        return Calls(
            open=self._finding(self.open, 0),
            close=self.close,
            read=lambda handle, buffer: os.readv(handle, [buffer]),
            write=os.write,
            seek=lambda handle, position: void(os.lseek(handle, position, os.SEEK_SET)),
            control=self.control,
            information=self.information,
            volume_flags=self.volume_flags,
            extend=os.ftruncate,
            stamp=self.stamp,
            hardlink=self._finding(self.hardlink, 0, 1),
            symlink=self._finding(self.symlink, 0),
            move=self.move,
            rename=self.rename,
            security=lambda _path: b"",
            unlink=self._finding(self.unlink, 0),
            mkdir=self._finding(os.mkdir, 0),
            rmdir=self._finding(self.rmdir, 0),
            lstat=self._finding(os.lstat, 0),
            scandir=self._finding(os.scandir, 0),
            readlink=self._finding(os.readlink, 0),
            access=self._finding(os.access, 0),
            spelled=lambda path: os.path.basename(self._at(path)),
            extended=lambda path: path,
            sleep=lambda _seconds: None,
        )

    @property
    def platform(self) -> WindowsPlatform:
        """A platform that makes its calls here."""
        return WindowsPlatform(self.calls, proof="modelled")

    # Names in other letters.

    def _at(self, path: str) -> str:
        """Return a path in the letters that its directories have it in."""
        if not self.volume.folds or os.path.lexists(path):
            return path
        above, name = os.path.split(path)
        above = self._at(above)
        with suppress(FileNotFoundError, NotADirectoryError):
            for each in os.listdir(above):
                if fold(each) == fold(name):
                    return os.path.join(above, each)
        return os.path.join(above, name)

    def _finding(self, function: Callable[..., Any], *places: int) -> Callable[..., Any]:
        """Let a function find what its paths name in other letters."""

        def found(*given: Any) -> Any:
            return function(
                *(self._at(each) if at in places else each for at, each in enumerate(given))
            )

        return found

    def _replace(self, old: str, new: str) -> None:
        """Rename over what is there, which then has the letters of `new`."""
        there = self._at(new)
        os.rename(old, there)
        if there != new:
            os.rename(there, os.path.join(os.path.dirname(there), os.path.basename(new)))

    # Handles and share modes.

    def open(self, path: str, access: int, share: int, disposition: int, flags: int) -> int:
        """Answer CreateFileW."""
        writes = access & _WANTS_WRITE
        found = _identity(path)
        if disposition == w.CREATE_NEW:
            if self.volume.readonly:
                raise refused(w.NUMBERS["ERROR_WRITE_PROTECT"], path)
            if found is not None:
                raise refused(w.NUMBERS["ERROR_FILE_EXISTS"], path)
            if not os.path.isdir(os.path.dirname(path)):
                raise refused(w.NUMBERS["ERROR_PATH_NOT_FOUND"], path)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        else:
            if found is None:
                raise refused(w.NUMBERS["ERROR_FILE_NOT_FOUND"], path)
            self._check_sharing(found, access, share, path)
            handle = self._open_existing(path, writes, flags)
        seen = os.fstat(handle)
        self.opened[handle] = _Open((seen.st_dev, seen.st_ino), access, share, path)
        return handle

    def _open_existing(self, path: str, writes: int, flags: int) -> int:
        seen = os.lstat(path)
        if st.S_ISDIR(seen.st_mode):
            if not flags & w.BACKUP_SEMANTICS:
                raise refused(w.NUMBERS["ERROR_ACCESS_DENIED"], path)
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if st.S_ISLNK(seen.st_mode):
            return os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        if writes & ~0x100 and not seen.st_mode & 0o222:
            raise refused(w.NUMBERS["ERROR_ACCESS_DENIED"], path)
        return os.open(path, (os.O_RDWR if writes else os.O_RDONLY) | os.O_CLOEXEC)

    def _check_sharing(self, identity: tuple[int, int], access: int, share: int, path: str) -> None:
        for other in self.opened.values():
            if other.identity == identity and not (
                _allows(other.share, access) and _allows(share, other.access)
            ):
                raise refused(w.NUMBERS["ERROR_SHARING_VIOLATION"], path)

    def close(self, handle: int) -> None:
        """Answer CloseHandle."""
        del self.opened[handle]
        os.close(handle)

    def _settings_of(self, handle: int) -> _Settings:
        seen = os.fstat(handle)
        fresh = _Settings(self.volume.checksums)
        return self._settings.setdefault((seen.st_dev, seen.st_ino), fresh)

    def make_sparse(self, path: str) -> None:
        """Give a file the sparse attribute, as its maker would have."""
        self._set_up(path).sparse = True

    def set_checksums(self, path: str, algorithm: int, flags: int = 0) -> None:
        """Give a file an integrity setting of its own."""
        self._set_up(path).checksums = (algorithm, flags)

    def _set_up(self, path: str) -> _Settings:
        identity = _identity(path)
        assert identity is not None, f"{path} is not there"
        return self._settings.setdefault(identity, _Settings(self.volume.checksums))

    # Files.

    def information(self, handle: int) -> Information:
        """Answer GetFileInformationByHandle."""
        seen = os.fstat(handle)
        attributes = 0 if seen.st_mode & 0o222 else w.ATTRIBUTE_READONLY
        if st.S_ISDIR(seen.st_mode):
            attributes |= w.ATTRIBUTE_DIRECTORY
        if self._settings_of(handle).sparse:
            attributes |= w.ATTRIBUTE_SPARSE
        return Information(attributes or w.ATTRIBUTE_NORMAL, seen.st_dev, seen.st_size)

    def volume_flags(self, handle: int) -> int:  # noqa: ARG002
        """Answer GetVolumeInformationByHandleW."""
        return w.SUPPORTS_BLOCK_REFCOUNTING if self.volume.clones else 0

    def stamp(self, handle: int, attributes: int, atime_ns: int, mtime_ns: int) -> None:
        """Answer SetFileInformationByHandle with FileBasicInfo."""
        path = f"/proc/self/fd/{handle}"
        seen = os.fstat(handle)
        if st.S_ISLNK(seen.st_mode):
            times = (atime_ns or seen.st_atime_ns, mtime_ns or seen.st_mtime_ns)
            os.utime(self.opened[handle].path, ns=times, follow_symlinks=False)
            return
        if attributes:
            writable = 0 if attributes & w.ATTRIBUTE_READONLY else 0o200
            os.chmod(path, seen.st_mode & 0o555 | writable)
        if atime_ns or mtime_ns:
            times = (atime_ns or seen.st_atime_ns, mtime_ns or seen.st_mtime_ns)
            os.utime(path, ns=times)

    def control(self, handle: int, code: int, data: bytes, size: int) -> bytes:
        """Answer DeviceIoControl, for the codes that a linker uses."""
        settings = self._settings_of(handle)
        if code == w.FSCTL_SET_SPARSE:
            settings.sparse = True
            return b""
        if code == w.FSCTL_QUERY_ALLOCATED_RANGES:
            return _allocated(handle, *w.RANGE.unpack(data))[:size]
        if code == pointers.FSCTL_GET_RETRIEVAL_POINTERS:
            return self._places(handle, data, size)
        if not self.volume.clones:
            raise refused(w.NUMBERS["ERROR_INVALID_FUNCTION"])
        if code == w.FSCTL_GET_INTEGRITY_INFORMATION:
            algorithm, flags = settings.checksums
            return w.INTEGRITY.pack(algorithm, 0, flags, 16384, self.volume.cluster)
        if code == w.FSCTL_SET_INTEGRITY_INFORMATION:
            algorithm, _, flags = w.INTEGRITY_WANTED.unpack(data)
            settings.checksums = (algorithm, flags)
            return b""
        if code == w.FSCTL_DUPLICATE_EXTENTS_TO_FILE:
            self._duplicate(handle, data)
            return b""
        raise refused(w.NUMBERS["ERROR_INVALID_FUNCTION"])

    def _places(self, handle: int, data: bytes, size: int) -> bytes:
        """Tell where a file lies, as much of it as there is room for."""
        if self.volume.places == "refused":
            raise refused(w.NUMBERS["ERROR_INVALID_FUNCTION"])
        if self.volume.places == "senseless":
            return pointers.HEAD.pack(1, 1) + pointers.POINTER.pack(0, 0)
        if len(data) < pointers.STARTING.size:
            raise refused(w.NUMBERS["ERROR_INVALID_PARAMETER"])
        if size < pointers.HEAD.size + pointers.POINTER.size:
            raise refused(w.NUMBERS["ERROR_INSUFFICIENT_BUFFER"])
        (asked,) = pointers.STARTING.unpack(data)
        if asked < 0:
            raise refused(w.NUMBERS["ERROR_INVALID_PARAMETER"])
        runs = [run for run in _runs(handle, self.volume.cluster) if run[1] > asked]
        if not runs:
            raise refused(pointers.END)
        runs = runs[: (size - pointers.HEAD.size) // pointers.POINTER.size]
        head = pointers.HEAD.pack(len(runs), runs[0][0])
        return head + b"".join(pointers.POINTER.pack(behind, place) for _, behind, place in runs)

    def _duplicate(self, handle: int, data: bytes) -> None:
        """Clone one region, or refuse it as ReFS does."""
        if len(data) < w.DUPLICATE.size:
            raise refused(w.NUMBERS["ERROR_INVALID_PARAMETER"])
        source, here, there, length = w.DUPLICATE.unpack(data)
        cluster = self.volume.cluster
        if self.volume.readonly:
            raise refused(w.NUMBERS["ERROR_WRITE_PROTECT"])
        if source not in self.opened or os.fstat(source).st_dev != os.fstat(handle).st_dev:
            raise refused(w.NUMBERS["ERROR_INVALID_PARAMETER"])
        if here % cluster or there % cluster or length % cluster or not 0 < length < w.LONGEST:
            raise refused(w.NUMBERS["ERROR_INVALID_PARAMETER"])
        size, room = os.fstat(source).st_size, os.fstat(handle).st_size
        if here + length > _rounded(size, cluster):
            raise refused(w.NUMBERS["ERROR_NOT_SUPPORTED"])
        if there + length > _rounded(room, cluster):
            raise refused(w.NUMBERS["ERROR_INVALID_PARAMETER"])
        if os.path.samestat(os.fstat(source), os.fstat(handle)) and abs(here - there) < length:
            raise refused(w.NUMBERS["ERROR_NOT_SUPPORTED"])
        ours, theirs = self._settings_of(handle), self._settings_of(source)
        if theirs.sparse and not ours.sparse:
            raise refused(w.NUMBERS["ERROR_NOT_SUPPORTED"])
        if theirs.checksums != ours.checksums:
            raise refused(w.NUMBERS["ERROR_INVALID_PARAMETER"])
        if self.volume.references is not None and theirs.references >= self.volume.references:
            raise refused(w.NUMBERS["ERROR_BLOCK_TOO_MANY_REFERENCES"])
        if self.volume.left is not None and self._cloned + length > self.volume.left * cluster:
            raise refused(w.NUMBERS["ERROR_DISK_FULL"])
        self._cloned += length
        theirs.references += 1
        self.calls_made.append((here, length))
        copied = min(length, size - here)
        fcntl.ioctl(handle, FICLONERANGE, _CLONE_RANGE.pack(source, here, copied, there))

    # Names.

    def hardlink(self, new: str, existing: str) -> None:
        """Answer CreateHardLinkW."""
        seen = os.lstat(existing)
        if st.S_ISDIR(seen.st_mode):
            raise refused(w.NUMBERS["ERROR_ACCESS_DENIED"], new)
        if seen.st_nlink >= self.volume.links:
            raise refused(w.NUMBERS["ERROR_TOO_MANY_LINKS"], new)
        self._check_parent(new)
        os.link(existing, new, follow_symlinks=False)

    def symlink(self, new: str, text: str, flags: int) -> None:
        """Answer CreateSymbolicLinkW."""
        unprivileged = flags & w.SYMLINK_UNPRIVILEGED
        if self.volume.symlinks == "old" and unprivileged:
            raise refused(w.NUMBERS["ERROR_INVALID_PARAMETER"], new)
        if self.volume.symlinks == "refused":
            raise refused(w.NUMBERS["ERROR_PRIVILEGE_NOT_HELD"], new)
        if self.volume.symlinks != "silent":
            os.symlink(text, new)

    def move(self, old: str, new: str, flags: int) -> None:
        """Answer MoveFileExW."""
        old, wanted, new = self._at(old), new, self._at(new)
        self._check_move(old, new)
        there = _identity(new)
        if there is None or not flags & w.MOVE_REPLACE:
            renameat2(_HERE, old, _HERE, new, RENAME_NOREPLACE)
            return
        seen = os.lstat(new)
        if st.S_ISDIR(seen.st_mode) or not seen.st_mode & 0o222 or self._is_open(there):
            raise refused(w.NUMBERS["ERROR_ACCESS_DENIED"], new)
        self._replace(old, wanted)

    def rename(self, handle: int, new: str, flags: int) -> None:
        """Answer SetFileInformationByHandle with FileRenameInfoEx."""
        if not self.volume.posix:
            raise refused(w.NUMBERS["ERROR_INVALID_PARAMETER"], new)
        old, wanted, new = self.opened[handle].path, new, self._at(new)
        self._check_parent(new)
        there = _identity(new)
        if there is not None:
            if not flags & w.RENAME_REPLACE:
                raise refused(w.NUMBERS["ERROR_ALREADY_EXISTS"], new)
            seen = os.lstat(new)
            readonly = not seen.st_mode & 0o222 and not flags & w.RENAME_IGNORE_READONLY
            if st.S_ISDIR(seen.st_mode) or readonly:
                raise refused(w.NUMBERS["ERROR_ACCESS_DENIED"], new)
            self._check_sharing(there, w.DELETE, w.SHARE_ALL, new)
        self._replace(old, wanted)

    def _check_move(self, old: str, new: str) -> None:
        identity = _identity(old)
        if identity is None:
            raise refused(w.NUMBERS["ERROR_FILE_NOT_FOUND"], old)
        self._check_sharing(identity, w.DELETE, w.SHARE_ALL, old)
        below = os.path.join(old, "")
        if any(other.path.startswith(below) for other in self.opened.values()):
            raise refused(w.NUMBERS["ERROR_ACCESS_DENIED"], old)
        above = _identity(os.path.dirname(new))
        if above is None:
            raise refused(w.NUMBERS["ERROR_PATH_NOT_FOUND"], new)
        if above[0] != identity[0]:
            raise refused(w.NUMBERS["ERROR_NOT_SAME_DEVICE"], new)
        self._check_parent(new)

    def _check_parent(self, new: str) -> None:
        """Open the directory of a new name, as the system does for a rename or a hard link: for
        adding files, and sharing with who reads it or adds files ([MS-FSA], FileRenameInformation
        and FileLinkInformation).
        """
        above = _identity(os.path.dirname(new))
        if above is not None:
            self._check_sharing(above, w.FILE_ADD_FILE, w.SHARE_READ | w.SHARE_WRITE, new)

    def _is_open(self, identity: tuple[int, int]) -> bool:
        return any(other.identity == identity for other in self.opened.values())

    def unlink(self, path: str) -> None:
        """Answer DeleteFileW."""
        identity = _identity(path)
        if identity is None:
            raise refused(w.NUMBERS["ERROR_FILE_NOT_FOUND"], path)
        seen = os.lstat(path)
        if st.S_ISDIR(seen.st_mode) or not (st.S_ISLNK(seen.st_mode) or seen.st_mode & 0o222):
            raise refused(w.NUMBERS["ERROR_ACCESS_DENIED"], path)
        self._check_sharing(identity, w.DELETE, w.SHARE_ALL, path)
        os.unlink(path)

    def rmdir(self, path: str) -> None:
        """Answer RemoveDirectoryW."""
        identity = _identity(path)
        if identity is not None:
            self._check_sharing(identity, w.DELETE, w.SHARE_ALL, path)
        os.rmdir(path)


def void(value: object) -> None:
    """Drop a value."""
    del value


def _allows(share: int, access: int) -> bool:
    """Return whether a share mode allows an access."""
    return not (
        (access & _WANTS_READ and not share & w.SHARE_READ)
        or (access & _WANTS_WRITE and not share & w.SHARE_WRITE)
        or (access & _WANTS_DELETE and not share & w.SHARE_DELETE)
    )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        seen = os.lstat(path)
    except FileNotFoundError:
        return None
    return (seen.st_dev, seen.st_ino)


def _rounded(size: int, cluster: int) -> int:
    return -(-size // cluster) * cluster


def _runs(handle: int, cluster: int) -> list[tuple[int, int, int]]:
    """Return (first cluster, the one behind, place on the volume) of all of a file, holes too.

    Nothing of a file whose data is resident: on btrfs, inline.
    """
    end = _rounded(os.fstat(handle).st_size, cluster) // cluster
    found: list[tuple[int, int, int]] = []
    position = 0
    for extent in ExtentReader().read(handle):
        if extent.inline:
            return []
        assert extent.physical % cluster == 0, "a cluster lies at no cluster of the disk"
        start = extent.logical // cluster
        if start > position:
            found.append((position, start, pointers.NOWHERE))
        position = start + extent.length // cluster
        found.append((start, position, extent.physical // cluster))
    if position < end:
        found.append((position, end, pointers.NOWHERE))
    return found


def _allocated(handle: int, position: int, length: int) -> bytes:
    """Return the ranges of a file that hold data, as SEEK_DATA and SEEK_HOLE tell (lseek(2))."""
    found = b""
    end = position + length
    while position < end:
        try:
            start = os.lseek(handle, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        position = os.lseek(handle, start, os.SEEK_HOLE)
        if start < end:
            found += w.RANGE.pack(start, min(position, end) - start)
    return found
