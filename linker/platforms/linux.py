"""The primitives on Linux.

Every system call goes through `Calls`, a table of functions, so that tests can make any of them
fail, count them or hold them without touching the process. What a primitive made is looked at
before it counts: a call that claimed success and did nothing, or less, is `CheckFailed`.

Sources: ioctl_ficlone(2), open(2), rename(2), flock(2), ioctl_iflags(2), lseek(2); kernel
headers linux/fs.h for the numbers.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat as st
import struct
import sys
import time
from collections.abc import Callable
from functools import cached_property

from linker.conditions import Primitive
from linker.light import TYPE_CHECKING, record
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

if TYPE_CHECKING:
    from typing import Any

_MACHINE = os.uname().machine
_OTHER_IOCTL_ENCODING = ("mips", "ppc", "sparc", "alpha", "powerpc")
"""Machines whose ioctl numbers give the direction bits 3 bits instead of 2."""


def _ioctl_number(direction: int, group: int, number: int, size: int) -> int:
    """Encode an ioctl request (asm-generic/ioctl.h); direction 1 writes, 2 reads."""
    if _MACHINE.startswith(_OTHER_IOCTL_ENCODING):
        return ({1: 4, 2: 2}[direction] << 29) | (size << 16) | (group << 8) | number
    return (direction << 30) | (size << 16) | (group << 8) | number


FICLONE = _ioctl_number(1, 0x94, 9, 4)
FS_IOC_GETFLAGS = _ioctl_number(2, ord("f"), 1, struct.calcsize("l"))
FS_IOC_FSGETXATTR = _ioctl_number(2, ord("X"), 31, 28)

AT_SYMLINK_NOFOLLOW = 0x100
STATX_BTIME = 0x800

_GIVES_NUMBERS_AGAIN = frozenset({0xEF53, 0x58465342, 0xF2F52010})
"""ext2/3/4, xfs and f2fs (linux/magic.h): a removed file's inode number is the next one's."""

_BTRFS = 0x9123683E
_FUSE = 0x65735546

PR_SET_PDEATHSIG = 1
SIGKILL = 9
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

INHERITED_FLAGS = (
    0x00000004  # COMPR
    | 0x00000400  # NOCOMP
    | 0x00000008  # SYNC
    | 0x00000080  # NOATIME
    | 0x00010000  # DIRSYNC
    | 0x00800000  # NOCOW
    | 0x20000000  # PROJINHERIT
    | 0x40000000  # CASEFOLD
)
"""Inode flags (FS_*_FL of linux/fs.h) that new entries take over from their directory."""

_ACL = "system.posix_acl_default"
_BUFFER = 1 << 18
"""Bytes a read of the copy asks for: larger gains nothing, smaller costs calls."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PLACE = getattr(os, "O_PATH", 0) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMELESS = os.O_RDWR | getattr(os, "O_TMPFILE", 0) | os.O_CLOEXEC
_DESCRIPTORS = "/proc/self/fd/"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BELOW = _DIRECTORY | os.O_NOFOLLOW
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_TYPE, _REGULAR = 0o170000, 0o100000
"""S_IFMT and S_IFREG of inode(7), spelled out for the loop over files."""
_READING, _CREATING, _STAMPING = Primitive.READ, Primitive.CREATE, Primitive.STAMP
_CLONING, _COPYING = Primitive.CLONE_FILE, Primitive.COPY
"""Looked up once: to look up a member of an enum takes as long as to call a function."""
_TRIED = ("0", "00")
"""Names that are given in a stage, but to no entry of a tree."""
_LIES = 3
"""How often a call may claim success and have done nothing before it is not believed."""
_PAUSES = (0.0, 0.001, 0.01)
"""Seconds before the first, second and any further retry."""

_libc = ctypes.CDLL(None, use_errno=True)
_SYSCALL_RENAMEAT2 = {
    "x86_64": 316,
    "aarch64": 276,
    "riscv64": 276,
    "armv7l": 382,
    "i686": 353,
    "ppc64le": 357,
    "s390x": 347,
}


def _find_renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    """Return renameat2 of the C library, else the bare system call, else None."""
    arguments = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    function: Any = getattr(_libc, "renameat2", None)
    if function is not None:
        function.argtypes = arguments
        return function  # type: ignore[no-any-return]
    number = _SYSCALL_RENAMEAT2.get(_MACHINE)
    if number is None:
        return None
    bare: Any = _libc.syscall
    bare.argtypes = [ctypes.c_long, *arguments]
    return lambda *given: bare(number, *given)


_renameat2 = _find_renameat2()
_ioctl: Any = _libc.ioctl
"""Without `argtypes`: all three are integers, and converting them by type takes twice as long."""


def ficlone(writing: int, reading: int) -> None:
    """Share all extents of the file `reading` with the empty file `writing` (ioctl_ficlone(2)).

    Not by `fcntl.ioctl`, which tries its integer argument as two kinds of buffer first and takes
    as long for that as the kernel for the call. Raises OSError.
    """
    if _ioctl(writing, FICLONE, reading) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def renameat2(source: int, name: str, target: int, new: str, flags: int) -> None:
    """Rename with RENAME_NOREPLACE or RENAME_EXCHANGE (the call is Linux 3.15).

    Raises OSError, ENOSYS where the call is not known.
    """
    if _renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), new)
    encoded, final = name.encode(_ENCODING, _ERRORS), new.encode(_ENCODING, _ERRORS)
    if _renameat2(source, encoded, target, final, flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), new)


_statx: Any = getattr(_libc, "statx", None)


def birth(name: str, directory: int) -> int | None:
    """Return when an entry was made, in ns, by statx(2); None where that is not kept.

    Raises OSError, ENOSYS where the C library has no statx (glibc before 2.28).
    """
    if _statx is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), name)
    found = ctypes.create_string_buffer(256)
    encoded = name.encode(_ENCODING, _ERRORS)
    if _statx(directory, encoded, AT_SYMLINK_NOFOLLOW, STATX_BTIME, found) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    (mask,) = struct.unpack_from("I", found, 0)
    seconds, nanoseconds = struct.unpack_from("qI", found, 80)  # stx_btime
    return int(seconds * 1_000_000_000 + nanoseconds) if mask & STATX_BTIME else None


def fstype(descriptor: int) -> int:
    """Return the magic number of the filesystem that a descriptor lies on (fstatfs(2))."""
    found = ctypes.create_string_buffer(256)
    if _libc.fstatfs(descriptor, found) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(struct.unpack_from("l", found)[0])


def _lacking(*_: object, **__: object) -> Any:
    """Stand for a call that this system does not have: what is POSIX here serves elsewhere too."""
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


_listxattr = getattr(os, "listxattr", _lacking)
_getxattr = getattr(os, "getxattr", _lacking)


@record(frozen=True, slots=True)
class Calls:
    """The system calls that `LinuxPlatform` makes, each with the signature of its Python name."""

    open: Callable[..., int] = os.open
    close: Callable[[int], None] = os.close
    read: Callable[..., int] = os.readv
    write: Callable[..., int] = os.write
    seek: Callable[[int, int, int], int] = os.lseek
    truncate: Callable[[int, int], None] = os.ftruncate
    fstat: Callable[[int], os.stat_result] = os.fstat
    stat: Callable[..., os.stat_result] = os.stat
    birth: Callable[[str, int], int | None] = birth
    fstype: Callable[[int], int] = fstype
    chmod: Callable[..., None] = os.chmod
    utime: Callable[..., None] = os.utime
    ficlone: Callable[[int, int], None] = ficlone
    ioctl: Callable[..., Any] = fcntl.ioctl
    listxattr: Callable[..., list[str]] = _listxattr
    getxattr: Callable[..., bytes] = _getxattr
    access: Callable[..., bool] = os.access
    listdir: Callable[..., Any] = os.scandir
    mkdir: Callable[..., None] = os.mkdir
    link: Callable[..., None] = os.link
    symlink: Callable[..., None] = os.symlink
    readlink: Callable[..., str] = os.readlink
    rename: Callable[..., None] = os.rename
    renameat2: Callable[[int, str, int, str, int], None] = renameat2
    unlink: Callable[..., None] = os.unlink
    rmdir: Callable[..., None] = os.rmdir
    flock: Callable[[int, int], None] = fcntl.flock
    sleep: Callable[[float], None] = time.sleep


CALLS = Calls()
"""The real ones."""


_KINDS = {0o100000: Kind.FILE, 0o040000: Kind.DIRECTORY, 0o120000: Kind.SYMLINK}
"""What the type bits of a mode (S_IFMT) say; every other type is special."""


def _has_one_thread() -> bool:
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def _die_with(parent: int) -> None:
    _libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


def irregular(name: str) -> OSError:
    """Return the error of a file that has become something else since it was listed."""
    return OSError(errno.EINVAL, "no longer a regular file", name)


def _keeps_group_bit(group: int) -> bool:
    """Return whether this user's changes leave a set-group-id bit where it is (chmod(2))."""
    return os.geteuid() == 0 or group in (os.getegid(), *os.getgroups())


class LinuxPlatform:
    """`linker.platforms.base.Platform` for Linux; see there for what each primitive promises."""

    name = "linux"

    def __init__(self, calls: Calls = CALLS, *, proof: str = "real") -> None:
        self.calls = calls
        self.proof = proof
        self._places_directly = os.path.isdir(_DESCRIPTORS)

    @cached_property
    def _buffer(self) -> Buffer:
        return Buffer(_BUFFER)

    @property
    def may_fork(self) -> bool:
        """Whether a forked copy of this process can go on making entries (`helping.Forking`).

        Not where calls are somebody else's, who may count or hold them, nor with more threads than
        this one: what they had locked would stay locked in the copy (fork(2)).
        """
        return type(self) is LinuxPlatform and self.calls is CALLS and _has_one_thread()

    def die_with(self, parent: int) -> None:
        """Have this process killed when `parent`, which has forked it, ends (prctl(2))."""
        _die_with(parent)

    def swaps_apart(self, directory: int) -> bool:
        """Whether there one process can make files while another swaps names (`helping.Forking`).

        btrfs keeps all names in one tree: there both wait for its locks, for longer than they gain.
        """
        try:
            return self.calls.fstype(directory) != _BTRFS
        except OSError:
            return True

    def error_name(self, error: OSError) -> str:
        if isinstance(error, CheckFailed):
            return error.name
        return errno.errorcode.get(error.errno or 0, "")

    def pause(self, attempt: int) -> None:
        self.calls.sleep(_PAUSES[min(attempt, len(_PAUSES)) - 1])

    # Looking.

    def open_root(self, path: str) -> int:
        try:
            return self.calls.open(path, _DIRECTORY)
        except OSError as error:
            raise Failed(Primitive.OPEN, error) from error

    def open_below(self, directory: int, name: str, primitive: Primitive = Primitive.OPEN) -> int:
        try:
            return self.calls.open(name, _BELOW, dir_fd=directory)
        except OSError as error:
            raise Failed(primitive, error) from error

    def close(self, directory: int) -> None:
        try:
            self.calls.close(directory)
        except OSError as error:
            if error.errno == errno.EBADF:
                raise  # closed twice: an error of ours, which could hit another's descriptor

    def facts(self, directory: int) -> DirectoryFacts:
        try:
            seen = self.calls.fstat(directory)
        except OSError as error:
            raise Failed(Primitive.READ, error) from error
        return DirectoryFacts(
            seen.st_dev,
            seen.st_ino,
            seen.st_mode & 0o7777,
            seen.st_atime_ns,
            seen.st_mtime_ns,
            seen.st_uid,
        )

    def entries_once(self, directory: int) -> Listing:
        try:
            return self._list(directory)
        except OSError as error:
            raise Failed(Primitive.READ, error) from error

    def entries(self, directory: int) -> Listing:
        try:
            # A second descriptor: on btrfs one that was opened earlier misses what came since.
            again = self.calls.open(".", _DIRECTORY, dir_fd=directory)
            try:
                return self._list(again)
            finally:
                self.calls.close(again)
        except OSError as error:
            raise Failed(Primitive.READ, error) from error

    def _list(self, directory: int) -> Listing:
        files: list[str] = []
        directories: list[str] = []
        symlinks: list[str] = []
        others: list[str] = []
        with self.calls.listdir(directory) as found:
            for entry in found:
                if entry.is_file(follow_symlinks=False):
                    files.append(entry.name)
                elif entry.is_dir(follow_symlinks=False):
                    directories.append(entry.name)
                elif entry.is_symlink():
                    symlinks.append(entry.name)
                else:
                    others.append(entry.name)
        files.sort()
        directories.sort()
        symlinks.sort()
        others.sort()
        return Listing(files, directories, symlinks, others)

    def look(self, directory: int, name: str) -> Look | None:
        seen = self._seen(directory, name)
        if seen is None:
            return None
        kind = _KINDS.get(seen.st_mode & _TYPE, Kind.OTHER)
        return Look(kind, seen.st_dev, seen.st_ino, seen.st_size, seen.st_ctime_ns)

    def _seen(self, directory: int, name: str) -> os.stat_result | None:
        try:
            return self.calls.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ):  # so nothing has it
                return None
            raise Failed(Primitive.OPEN, error) from error

    def _inode(self, directory: int, name: str) -> int | None:
        seen = self._seen(directory, name)
        return seen.st_ino if seen is not None else None

    def born(self, directory: int, name: str) -> int | None:
        try:
            if self.calls.fstype(directory) not in _GIVES_NUMBERS_AGAIN:
                return None
            return self.calls.birth(name, directory)
        except OSError:
            return None

    def inheritance(self, directory: int) -> tuple[object, ...]:
        try:
            seen = self.calls.fstat(directory)
        except OSError as error:
            raise Failed(Primitive.OPEN, error) from error
        flags = struct.unpack("l", self._ask(directory, FS_IOC_GETFLAGS, 8))[0]
        project = struct.unpack_from("I", self._ask(directory, FS_IOC_FSGETXATTR, 28), 12)[0]
        acl = b""
        try:
            if _ACL in self.calls.listxattr(directory):
                acl = self.calls.getxattr(directory, _ACL)
        except OSError:  # a filesystem without extended attributes
            acl = b""
        group = seen.st_gid if seen.st_mode & st.S_ISGID else None
        return (seen.st_dev, flags & INHERITED_FLAGS, project, group, acl)

    def _ask(self, directory: int, request: int, size: int) -> bytearray:
        """Read attributes where the filesystem has them, else none."""
        answer = bytearray(size)
        try:
            self.calls.ioctl(directory, request, answer)
        except OSError:  # ENOTTY and its kin: a filesystem without such attributes
            return bytearray(size)
        return answer

    def is_writable(self, directory: int) -> bool:
        return self.calls.access(".", os.W_OK | os.X_OK, dir_fd=directory)

    # Making.

    def clone_file(self, source: int, name: str, target: int, new: str) -> int:
        return self._new_file(_CLONING, source, name, target, new)

    def copy_file(self, source: int, name: str, target: int, new: str) -> int:
        return self._new_file(_COPYING, source, name, target, new)

    @property
    def places_directly(self) -> bool:
        return self._places_directly

    def clone_directly(
        self, source: int, name: str, target: int, new: str, placing: Callable[[int, int], None]
    ) -> int:
        return self._new_file(_CLONING, source, name, target, new, placing)

    def copy_directly(
        self, source: int, name: str, target: int, new: str, placing: Callable[[int, int], None]
    ) -> int:
        return self._new_file(_COPYING, source, name, target, new, placing)

    def _new_file(
        self,
        primitive: Primitive,
        source: int,
        name: str,
        target: int,
        new: str,
        placing: Callable[[int, int], None] | None = None,
    ) -> int:
        """Create `new`, fill it by CLONE_FILE or COPY, stamp it: all of it, or nothing stays.

        With `placing` the file has no name until it is finished (O_TMPFILE, Linux 3.11).
        """
        calls = self.calls
        step = _READING
        try:
            reading = calls.open(name, _READ, dir_fd=source)
            try:
                seen = calls.fstat(reading)
                mode = seen.st_mode
                if mode & _TYPE != _REGULAR:
                    raise irregular(name)
                step = _CREATING
                mode &= 0o777
                if placing is None:
                    writing = calls.open(new, _CREATE, mode, dir_fd=target)
                else:
                    writing = calls.open(".", _NAMELESS, mode, dir_fd=target)
                try:
                    step = primitive
                    if primitive is _CLONING:
                        calls.ficlone(writing, reading)
                    else:
                        self._copy(reading, writing, seen)
                    made = calls.fstat(writing)
                    if made.st_size != seen.st_size:
                        raise short(made.st_size, seen.st_size)
                    step = _STAMPING
                    if made.st_mode & 0o7777 != mode:
                        calls.chmod(writing, mode)
                    calls.utime(writing, ns=(seen.st_atime_ns, seen.st_mtime_ns))
                    if placing is not None:
                        step = Primitive.RENAME
                        placing(made.st_ino, made.st_ctime_ns)
                        calls.link(f"{_DESCRIPTORS}{writing}", new, dst_dir_fd=target)
                        if not calls.access(new, os.F_OK, dir_fd=target, follow_symlinks=False):
                            raise nothing_made(step).error
                except OSError:
                    if placing is None:
                        self._discard(target, new, calls.unlink)
                    raise
                finally:
                    calls.close(writing)
            finally:
                calls.close(reading)
        except OSError as error:
            raise Failed(step, error) from error
        return made.st_ino

    def _discard(self, target: int, new: str, remove: Callable[..., None]) -> None:
        """Remove an entry that did not become whole.

        If that fails too the first error is the one to tell; the name lies in the stage, which
        is removed with everything in it.
        """
        try:
            remove(new, dir_fd=target)
        except OSError:
            return

    def _copy(self, reading: int, writing: int, seen: os.stat_result) -> None:
        calls, size = self.calls, seen.st_size
        if seen.st_blocks * 512 < size:
            self._copy_around_holes(reading, writing, size)
        else:
            copy_range(calls.read, reading, calls.write, writing, self._buffer.view, size)
            if size == 0:
                self._check_empty(reading)

    def _copy_around_holes(self, reading: int, writing: int, size: int) -> None:
        calls = self.calls
        calls.truncate(writing, size)
        position = 0
        while position < size:
            try:
                data = calls.seek(reading, position, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole from here to the end
                    there = calls.fstat(reading).st_size
                    if there < size:  # or it became shorter
                        raise short(there, size) from error
                    return
                if error.errno == errno.EINVAL:  # the filesystem does not tell: all is data
                    data, hole = position, size
                else:
                    raise
            else:
                hole = calls.seek(reading, data, os.SEEK_HOLE)
            calls.seek(reading, data, os.SEEK_SET)
            calls.seek(writing, data, os.SEEK_SET)
            length = min(hole, size) - data
            copy_range(calls.read, reading, calls.write, writing, self._buffer.view, length)
            position = hole

    def _check_empty(self, reading: int) -> None:
        """Raise where a file has content of which its size tells nothing, as those of /proc do."""
        calls = self.calls
        if calls.read(reading, [self._buffer.view]) and calls.fstat(reading).st_size == 0:
            raise CheckFailed("SHORT", "it has content, and its size is said to be 0")

    def hardlink(self, source: int, name: str, target: int, new: str) -> int:
        try:
            self.calls.link(name, new, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        except OSError as error:
            raise Failed(Primitive.HARDLINK, error) from error
        for _ in range(2):
            try:
                made = self.calls.stat(new, dir_fd=target, follow_symlinks=False)
                break
            except FileNotFoundError as error:
                raise nothing_made(Primitive.HARDLINK) from error
            except OSError:
                continue
        else:  # it is there: so said the call
            return 0
        if made.st_mode & _TYPE != _REGULAR:
            self._refuse_irregular(source, name, target, new, made)
        return -made.st_ino

    def _refuse_irregular(
        self, source: int, name: str, target: int, new: str, made: os.stat_result
    ) -> None:
        """Take back a name of what has become a fifo, a symlink or the like, unless it is not we
        who gave it: another linker may have put something there since.
        """
        there = self._seen(source, name)
        if there is not None and (there.st_dev, there.st_ino) == (made.st_dev, made.st_ino):
            self._discard(target, new, self.calls.unlink)
            raise Failed(_READING, irregular(name))

    def symlink(self, text: str, target: int, new: str) -> int:
        try:
            self.calls.symlink(text, new, dir_fd=target)
        except OSError as error:
            raise Failed(Primitive.SYMLINK, error) from error
        return self._made(Primitive.SYMLINK, target, new)

    def recreate_symlink(self, source: int, name: str, target: int, new: str) -> int:
        calls = self.calls
        step = Primitive.READ
        try:
            text = calls.readlink(name, dir_fd=source)
            seen = calls.stat(name, dir_fd=source, follow_symlinks=False)
            step = Primitive.SYMLINK
            calls.symlink(text, new, dir_fd=target)
            step = Primitive.STAMP
            calls.utime(
                new,
                ns=(seen.st_atime_ns, seen.st_mtime_ns),
                dir_fd=target,
                follow_symlinks=False,
            )
        except OSError as error:
            raise Failed(step, error) from error
        return self._made(Primitive.SYMLINK, target, new)

    def _made(self, primitive: Primitive, target: int, new: str) -> int:
        """Return the inode number of what `primitive` claims to have made."""
        try:
            return self.calls.stat(new, dir_fd=target, follow_symlinks=False).st_ino
        except FileNotFoundError as error:
            raise nothing_made(primitive) from error
        except OSError as error:
            raise Failed(primitive, error) from error

    def make_directory(self, parent: int, name: str, mode: int = 0o700) -> int:
        try:
            self.calls.mkdir(name, mode, dir_fd=parent)
        except OSError as error:
            raise Failed(Primitive.MKDIR, error) from error
        try:
            return self._open_made(parent, name)
        except Failed:
            self._discard(parent, name, self.calls.rmdir)
            raise

    def _open_made(self, parent: int, name: str) -> int:
        """Open a directory that we made, even if the umask shut it to ourselves."""
        try:
            return self.open_below(parent, name)
        except Failed as failed:
            if self.error_name(failed.error) != "EACCES":
                raise
        self.let_in(parent, name)
        return self.open_below(parent, name)

    def permissions(self, directory: int, name: str) -> int:
        try:
            seen = self.calls.stat(name, dir_fd=directory, follow_symlinks=False)
        except OSError as error:
            raise Failed(Primitive.OPEN, error) from error
        return seen.st_mode & 0o7777

    def let_in(self, directory: int, name: str, inode: int | None = None) -> bool:
        calls = self.calls
        try:
            handle = calls.open(name, _PLACE, dir_fd=directory)
            try:
                seen = calls.fstat(handle)
                ours = inode is None or seen.st_ino == inode
                if ours:
                    calls.chmod(f"{_DESCRIPTORS}{handle}", st.S_IMODE(seen.st_mode) | 0o700)
            finally:
                self.close(handle)
        except OSError as error:
            raise Failed(Primitive.OPEN, error) from error
        return ours

    def stamp_directory(self, directory: int, seen: int, node: Stamp) -> None:
        calls = self.calls
        try:
            wanted = node.mode | (seen & st.S_ISGID)
            if seen != wanted:
                calls.chmod(directory, wanted)
            calls.utime(directory, ns=(node.atime_ns, node.mtime_ns))
        except OSError as error:
            raise Failed(Primitive.STAMP, error) from error

    def change_mode(self, directory: int, mode: int) -> None:
        try:
            self.calls.chmod(directory, mode)
        except OSError as error:
            raise Failed(Primitive.STAMP, error) from error

    def check_bits(self, directory: int) -> None:
        try:
            seen = self.calls.fstat(directory)
        except OSError as error:
            raise Failed(Primitive.STAMP, error) from error
        if seen.st_mode & st.S_ISGID and not _keeps_group_bit(seen.st_gid):
            why = "it would lose its set-group-id bit, as this user is not in its group"
            raise Failed(Primitive.STAMP, PermissionError(errno.EPERM, why))

    def touch(self, directory: int) -> None:
        try:
            self.calls.utime(directory)
        except OSError as error:
            raise Failed(Primitive.STAMP, error) from error

    # Names.

    def place(self, source: int, name: str, target: int, new: str) -> None:
        self._rename(Primitive.RENAME, RENAME_NOREPLACE, source, name, target, new)
        # Either name may be another linker's by now, but not both while nothing has happened.
        there = self.calls.access
        if there(name, os.F_OK, dir_fd=source, follow_symlinks=False) and not there(
            new, os.F_OK, dir_fd=target, follow_symlinks=False
        ):
            raise nothing_made(Primitive.RENAME)

    def check_swaps(self, directory: int) -> None:
        """Try it where a program serves the directory (FUSE): it may not look at the flags.

        A listing is the program's own; of single names the kernel tells what it believes to have
        become of them. What is left after an error goes with the directory.
        """
        calls = self.calls
        if not self._may_be_served(directory):
            return
        try:
            for name in _TRIED:
                calls.close(calls.open(name, _CREATE & ~os.O_EXCL, 0o600, dir_fd=directory))
            calls.renameat2(directory, _TRIED[0], directory, _TRIED[1], RENAME_EXCHANGE)
            left = [name for name in self.entries(directory).files if name in _TRIED]
            for name in left:
                calls.unlink(name, dir_fd=directory)
        except OSError as error:
            raise Failed(Primitive.EXCHANGE, error) from error
        if len(left) < len(_TRIED):
            why = "two names were to be swapped, and one took the other's place"
            raise Failed(Primitive.EXCHANGE, OSError(errno.EINVAL, why, _TRIED[1]))

    def _may_be_served(self, directory: int) -> bool:
        try:
            return self.calls.fstype(directory) == _FUSE
        except OSError:
            return True

    def exchange(
        self, source: int, name: str, target: int, new: str, ours: int | None = None
    ) -> Look | None:
        ours = ours or self._inode(source, name)
        for _ in range(_LIES):
            self._rename(Primitive.EXCHANGE, RENAME_EXCHANGE, source, name, target, new)
            landed = self.look(source, name)
            if ours is None or landed is None or landed.inode != ours:
                return landed
            if self._inode(target, new) == ours:
                return landed  # two names of one file
            # Nothing has happened; or it was one file, and another linker replaced it since.
        raise nothing_made(Primitive.EXCHANGE)

    def _rename(
        self, primitive: Primitive, flags: int, source: int, name: str, target: int, new: str
    ) -> None:
        try:
            self.calls.renameat2(source, name, target, new, flags)
        except OSError as error:
            raise Failed(primitive, error) from error

    def place_emulated(self, source: int, name: str, target: int, new: str) -> None:
        """Link and unlink: as atomic, for files. Directories, and files where there are no hard
        links, are looked for and then renamed: between the two lies a moment in which another
        linker's entry of that name would be replaced.
        """
        calls = self.calls
        try:
            try:
                calls.link(name, new, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
            except FileExistsError:
                raise
            except OSError:  # a directory, or a filesystem without hard links
                if self.look(target, new) is not None:
                    taken = OSError(errno.EEXIST, os.strerror(errno.EEXIST), new)
                    raise taken from None
                calls.rename(name, new, src_dir_fd=source, dst_dir_fd=target)
            else:
                try:
                    calls.unlink(name, dir_fd=source)
                except OSError:
                    calls.unlink(new, dir_fd=target)
                    raise
        except OSError as error:
            raise Failed(Primitive.RENAME, error) from error

    def exchange_emulated(self, source: int, name: str, target: int, new: str) -> None:
        """Keep a second name of the old file, rename over it, give the old one `name`.

        Where there are no hard links the old file is moved aside first, and for that moment
        its name is missing. A directory that came meanwhile is put back (EISDIR).
        """
        calls = self.calls
        aside = name + ASIDE
        moved = False
        try:
            try:
                calls.link(new, aside, src_dir_fd=target, dst_dir_fd=source, follow_symlinks=False)
            except FileNotFoundError:
                raise
            except OSError:
                calls.rename(new, aside, src_dir_fd=target, dst_dir_fd=source)
                moved = True
            try:
                if moved and self._is_directory(source, aside):  # another's, and not to be replaced
                    raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), new)
                calls.rename(name, new, src_dir_fd=source, dst_dir_fd=target)
            except OSError:
                if moved and self.look(target, new) is None:
                    calls.rename(aside, new, src_dir_fd=source, dst_dir_fd=target)
                raise
        except OSError as error:
            raise Failed(Primitive.EXCHANGE, error) from error
        try:
            calls.rename(aside, name, src_dir_fd=source, dst_dir_fd=source)
        except OSError:  # the exchange is done; the old entry is only called otherwise
            return

    def _is_directory(self, directory: int, name: str) -> bool:
        seen = self.calls.stat(name, dir_fd=directory, follow_symlinks=False)
        return st.S_ISDIR(seen.st_mode)

    def remove_file(self, directory: int, name: str) -> None:
        try:
            self.calls.unlink(name, dir_fd=directory)
        except OSError as error:
            raise Failed(Primitive.UNLINK, error) from error

    def remove_directory(self, directory: int, name: str) -> None:
        try:
            self.calls.rmdir(name, dir_fd=directory)
        except OSError as error:
            raise Failed(Primitive.RMDIR, error) from error

    # Records and locks.

    def lock(self, directory: int) -> bool:
        try:
            self.calls.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise Failed(Primitive.LOCK, error) from error
        return True

    def write_record(self, directory: int, name: str, data: bytes) -> None:
        calls = self.calls
        try:
            writing = calls.open(name, _CREATE, 0o600, dir_fd=directory)
            try:
                wrote = calls.write(writing, data)
                if wrote != len(data):
                    raise short(wrote, len(data))
            finally:
                calls.close(writing)
        except OSError as error:
            raise Failed(Primitive.CREATE, error) from error

    def read_record(self, directory: int, name: str) -> bytes:
        calls = self.calls
        try:
            reading = calls.open(name, _READ, dir_fd=directory)
            try:
                found, view = bytearray(), self._buffer.view
                while got := calls.read(reading, [view]):
                    found += view[:got]
                return bytes(found)
            finally:
                calls.close(reading)
        except OSError as error:
            raise Failed(Primitive.READ, error) from error
