"""The primitives on macOS.

What is POSIX is `LinuxPlatform`'s; what is Darwin's own (clonefile, renameatx_np, extended
attributes) is called with C signatures through `Calls`, a table of functions that return -1 and
leave an error number behind. Numbers are read by Darwin's own table, never by this machine's: a
model of these calls can then run anywhere, and the code that runs on it is the one below.

Sources: clonefile(2), rename(2), flistxattr(2), fremovexattr(2) of macOS; xnu's sys/clonefile.h,
sys/stdio.h and sys/errno.h for the numbers.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from typing import Any

from linker.conditions import Primitive
from linker.light import record
from linker.platforms import linux
from linker.platforms.base import CheckFailed, Failed, short, write_all
from linker.platforms.linux import _READ, _REGULAR, _TYPE, LinuxPlatform, irregular

CLONE_NOFOLLOW = 0x1
CLONE_NOOWNERCOPY = 0x2
CLONE_ACL = 0x4

RENAME_SWAP = 0x2
RENAME_EXCL = 0x4

_NAMES = """
EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EDEADLK ENOMEM EACCES EFAULT ENOTBLK
EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE
EROFS EMLINK EPIPE EDOM ERANGE EAGAIN EINPROGRESS EALREADY ENOTSOCK EDESTADDRREQ EMSGSIZE
EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT ENOTSUP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE
EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN
ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED ELOOP ENAMETOOLONG EHOSTDOWN EHOSTUNREACH ENOTEMPTY
EPROCLIM EUSERS EDQUOT ESTALE EREMOTE EBADRPC ERPCMISMATCH EPROGUNAVAIL EPROGMISMATCH EPROCUNAVAIL
ENOLCK ENOSYS EFTYPE EAUTH ENEEDAUTH EPWROFF EDEVERR EOVERFLOW EBADEXEC EBADARCH ESHLIBVERS
EBADMACHO ECANCELED EIDRM ENOMSG EILSEQ ENOATTR EBADMSG EMULTIHOP ENODATA ENOLINK ENOSR ENOSTR
EPROTO ETIME EOPNOTSUPP ENOPOLICY ENOTRECOVERABLE EOWNERDEAD EQFULL
"""
"""Darwin's errors in the order of their numbers, from 1 (sys/errno.h)."""

ERRORS = dict(enumerate(_NAMES.split(), 1))
"""Darwin's error numbers -> names."""

NUMBERS = {name: number for number, name in ERRORS.items()}
"""Names -> Darwin's error numbers."""

THE_SYSTEMS_OWN = frozenset({b"com.apple.provenance", b"com.apple.macl", b"com.apple.rootless"})
"""Attributes that the system puts on files by itself and lets nobody take off."""

HELD = 0x2 | 0x4 | 0x20000 | 0x40000
"""File flags that let nobody change or move a file: UF_IMMUTABLE, UF_APPEND, SF_IMMUTABLE and
SF_APPEND of chflags(2). A clone has those of its source.
"""

_CLONE = CLONE_NOFOLLOW | CLONE_NOOWNERCOPY
_PAGE = bytes(1 << 12)
"""A block of APFS without data."""

_ATTRIBUTES = 1 << 16
"""Bytes that the names of a file's attributes may take: as many as Darwin allows for one value."""


def message(number: int) -> str:
    """Return the text of one of Darwin's errors, which here may have another number or none."""
    name = ERRORS.get(number, "")
    return os.strerror(getattr(errno, name, 0)) if hasattr(errno, name) else name or str(number)


_libc = ctypes.CDLL(None, use_errno=True)
_ARGUMENTS = {
    "clonefileat": "isisI",
    "fclonefileat": "iisI",
    "renameatx_np": "isisI",
    "flistxattr": "iszi",
    "fremovexattr": "isi",
    "fchflags": "iI",
}
"""Function -> its arguments: i int, s char *, z size_t, I unsigned."""
_TYPES = {"i": ctypes.c_int, "s": ctypes.c_char_p, "z": ctypes.c_size_t, "I": ctypes.c_uint32}


def _function(name: str) -> Callable[..., int]:
    """Return a function of the C library, or one that fails where the library lacks it."""
    function: Any = getattr(_libc, name, None)
    if function is None:
        return _no_function
    function.argtypes = [_TYPES[letter] for letter in _ARGUMENTS[name]]
    if "z" in _ARGUMENTS[name]:
        function.restype = ctypes.c_ssize_t
    return function  # type: ignore[no-any-return]


def _no_function(*_: object) -> int:
    ctypes.set_errno(NUMBERS["ENOSYS"])
    return -1


_C = {name: _function(name) for name in _ARGUMENTS}


def _access(
    name: str, mode: int, *, dir_fd: int | None = None, follow_symlinks: bool = True
) -> bool:
    """Do as os.access; faccessat knows AT_SYMLINK_NOFOLLOW on later systems only."""
    if follow_symlinks:
        return os.access(name, mode, dir_fd=dir_fd)
    try:
        os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except OSError:
        return False
    return True


def _never_again(_name: str, _directory: int) -> None:
    """Say that inode numbers are not given a second time: APFS counts them up (Apple File System
    Reference, next_obj_id), and HFS+ before it begins anew at four thousand million.
    """


def _not_zero(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield from where to where there are pages that are not zero."""
    first = None
    for start in range(0, len(data), len(_PAGE)):
        page = data[start : start + len(_PAGE)]
        if page == _PAGE[: len(page)]:
            if first is not None:
                yield first, start
            first = None
        elif first is None:
            first = start
    if first is not None:
        yield first, len(data)


def _access_list(descriptor: int) -> bytes:
    """Return the access control list of an open file as text, nothing if it has none."""
    found: Any = getattr(_libc, "acl_get_fd", None)
    if found is None:
        return b""
    as_text, free = _libc.acl_to_text, _libc.acl_free
    found.restype = as_text.restype = ctypes.c_void_p
    as_text.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    free.argtypes = [ctypes.c_void_p]
    entries = found(descriptor)
    if not entries:
        return b""
    try:
        text = as_text(entries, None)
        if not text:
            return b""
        try:
            return ctypes.string_at(text)
        finally:
            free(text)
    finally:
        free(entries)


@record(frozen=True, slots=True)
class Calls(linux.Calls):
    """The system calls that `MacPlatform` makes.

    Those of POSIX have the signatures of their Python names and raise OSError; those below are as
    in C: they return -1 and leave what `errno` reads. All error numbers are Darwin's.
    """

    access: Callable[..., bool] = _access
    birth: Callable[[str, int], int | None] = _never_again
    access_list: Callable[[int], bytes] = _access_list
    clonefileat: Callable[[int, bytes, int, bytes, int], int] = _C["clonefileat"]
    fclonefileat: Callable[[int, int, bytes, int], int] = _C["fclonefileat"]
    renameatx_np: Callable[[int, bytes, int, bytes, int], int] = _C["renameatx_np"]
    flistxattr: Callable[[int, Any, int, int], int] = _C["flistxattr"]
    fremovexattr: Callable[[int, bytes, int], int] = _C["fremovexattr"]
    fchflags: Callable[[int, int], int] = _C["fchflags"]
    errno: Callable[[], int] = ctypes.get_errno


CALLS = Calls()
"""The real ones."""


class MacPlatform(LinuxPlatform):
    """`linker.platforms.base.Platform` and `ClonesDirectories` for macOS."""

    name = "macos"
    calls: Calls

    def __init__(self, calls: Calls = CALLS, *, proof: str = "real") -> None:
        super().__init__(calls, proof=proof)

    def error_name(self, error: OSError) -> str:
        if isinstance(error, CheckFailed):
            return error.name
        return ERRORS.get(error.errno or 0, "")

    @property
    def places_directly(self) -> bool:
        """No file can be made without a name, and a clone needs finishing: all are staged."""
        return False

    def _succeed(self, result: int, name: str) -> int:
        """Return what a C function returned, or raise its error."""
        if result < 0:
            number = self.calls.errno()
            raise OSError(number, message(number), name)
        return result

    # Looking.

    def born(self, directory: int, name: str) -> int | None:
        try:
            return self.calls.birth(name, directory)
        except OSError:
            return None

    def inheritance(self, directory: int) -> tuple[object, ...]:
        """Every entry gets its directory's group, and entries of its access list."""
        try:
            seen = self.calls.fstat(directory)
            return (seen.st_dev, seen.st_gid, self.calls.access_list(directory))
        except OSError as error:
            raise Failed(Primitive.OPEN, error) from error

    # Making.

    def clone_file(self, source: int, name: str, target: int, new: str) -> int:
        return self._cloned(source, name, target, new, clone=True)

    def settle_clone(self, source: int, name: str, target: int, new: str) -> int:
        return self._cloned(source, name, target, new, clone=False)

    def copy_file(self, source: int, name: str, target: int, new: str) -> int:
        try:
            return super().copy_file(source, name, target, new)
        except Failed as failed:
            raise self._dataless(failed, Primitive.COPY) from failed.error

    def _copy_around_holes(self, reading: int, writing: int, size: int) -> None:
        """Copy all pages that are not zero.

        Where data is the system is not asked: SEEK_DATA of macOS skips data that it is asked about
        from within, or finds none (gnulib, bug 51857; coreutils, bug 61386).
        """
        calls, buffer, position = self.calls, self._buffer.view, 0
        calls.truncate(writing, size)
        while position < size:
            part = buffer[: size - position]
            got = calls.read(reading, [part])
            if got == 0:
                raise short(position, size)
            for first, last in _not_zero(part[:got].tobytes()):
                calls.seek(writing, position + first, os.SEEK_SET)
                if missing := write_all(calls.write, writing, part[first:last]):
                    raise short(position + last - missing, size)
            position += got

    def _dataless(self, failed: Failed, primitive: Primitive) -> Failed:
        """Tell that a file's content is elsewhere as a failure of what needed the content."""
        if failed.primitive is Primitive.READ and self.error_name(failed.error) == "EDEADLK":
            return Failed(primitive, failed.error)
        return failed

    def _cloned(self, source: int, name: str, target: int, new: str, *, clone: bool) -> int:
        """Clone a file and finish the clone, or finish one that is there."""
        calls = self.calls
        step = Primitive.READ
        try:
            reading = calls.open(name, _READ, dir_fd=source)
            try:
                seen = calls.fstat(reading)
                if seen.st_mode & _TYPE != _REGULAR:
                    raise irregular(name)
                step = Primitive.CLONE_FILE
                if clone:
                    encoded = os.fsencode(new)
                    self._succeed(calls.fclonefileat(reading, target, encoded, _CLONE), new)
                try:
                    return self._finish(reading, seen, target, new)
                except (OSError, Failed):
                    if clone:
                        self._discard(target, new, calls.unlink)
                    raise
            finally:
                calls.close(reading)
        except OSError as error:
            raise self._dataless(Failed(step, error), Primitive.CLONE_FILE) from error

    def _finish(self, reading: int, seen: os.stat_result, target: int, new: str) -> int:
        """Give a clone nothing but what a copy would have: bits, times, and no attributes."""
        calls = self.calls
        writing = self._open_clone(target, new)
        try:
            made = calls.fstat(writing)
            if made.st_mode & _TYPE != _REGULAR or made.st_size != seen.st_size:
                raise short(made.st_size, seen.st_size)
            self._release(writing, made)
            mode = made.st_mode & 0o7777
            attributes = self._attributes(reading)
            if attributes:
                if not mode & 0o200:
                    mode = 0o600
                    calls.chmod(writing, mode)
                self._strip(writing, attributes)
            try:
                if mode != seen.st_mode & 0o777:
                    calls.chmod(writing, seen.st_mode & 0o777)
                calls.utime(writing, ns=(seen.st_atime_ns, seen.st_mtime_ns))
            except OSError as error:
                raise Failed(Primitive.STAMP, error) from error
            return made.st_ino
        finally:
            calls.close(writing)

    def _open_clone(self, target: int, new: str) -> int:
        """Open a clone, even one whose permission bits are for others than its owner."""
        calls = self.calls
        try:
            return calls.open(new, _READ, dir_fd=target)
        except OSError as error:
            if self.error_name(error) != "EACCES":
                raise
        calls.chmod(new, 0o600, dir_fd=target, follow_symlinks=False)
        return calls.open(new, _READ, dir_fd=target)

    def _attributes(self, descriptor: int) -> list[bytes]:
        """Return the names of the extended attributes of an open file that can be taken off."""
        calls = self.calls
        size = calls.flistxattr(descriptor, None, 0, 0)
        if size < 0 and ERRORS.get(calls.errno()) in ("ENOTSUP", "EPERM"):
            return []  # a volume without attributes, or a file that cannot have any
        if self._succeed(size, "") == 0:
            return []
        buffer = ctypes.create_string_buffer(_ATTRIBUTES)
        size = self._succeed(calls.flistxattr(descriptor, buffer, _ATTRIBUTES, 0), "")
        return [
            name for name in buffer.raw[:size].split(b"\0") if name and name not in THE_SYSTEMS_OWN
        ]

    def _strip(self, descriptor: int, attributes: list[bytes]) -> None:
        """Take attributes off an open file or directory."""
        calls = self.calls
        for name in attributes:
            if calls.fremovexattr(descriptor, name, 0) < 0:
                number = calls.errno()
                if ERRORS.get(number) != "ENOATTR":
                    shown = name.decode("utf-8", "replace")
                    why = f"the attribute {shown} stays on the clone: {message(number)}"
                    raise CheckFailed("KEPT", why)

    def clone_directory(self, source: int, target: int, new: str) -> None:
        encoded = os.fsencode(new)
        try:
            self._succeed(self.calls.clonefileat(source, b".", target, encoded, _CLONE), new)
        except OSError as error:
            raise Failed(Primitive.CLONE_DIRECTORY, error) from error

    def _release(self, descriptor: int, seen: os.stat_result) -> None:
        """Let a clone be changed whose source cannot be."""
        flags: int = getattr(seen, "st_flags", 0)
        if flags & HELD:
            self._succeed(self.calls.fchflags(descriptor, flags & ~HELD), "")

    def strip_directory(self, source: int, made: int) -> None:
        calls = self.calls
        try:
            seen = calls.fstat(made)
            self._release(made, seen)
            attributes = self._attributes(source)
            if attributes:
                if not seen.st_mode & 0o200:
                    calls.chmod(made, 0o700)
                self._strip(made, attributes)
        except OSError as error:
            raise Failed(Primitive.CLONE_DIRECTORY, error) from error

    def let_in(self, directory: int, name: str, inode: int | None = None) -> bool:
        calls, place = self.calls, {"dir_fd": directory, "follow_symlinks": False}
        try:
            seen = calls.stat(name, **place)
            ours = inode is None or seen.st_ino == inode
            if ours:
                calls.chmod(name, seen.st_mode & 0o7777 | 0o700, **place)
        except OSError as error:
            raise Failed(Primitive.OPEN, error) from error
        return ours

    # Names.

    def _rename(
        self, primitive: Primitive, flags: int, source: int, name: str, target: int, new: str
    ) -> None:
        encoded, final = os.fsencode(name), os.fsencode(new)
        flags = RENAME_EXCL if primitive is Primitive.RENAME else RENAME_SWAP
        try:
            self._succeed(self.calls.renameatx_np(source, encoded, target, final, flags), new)
        except OSError as error:
            raise Failed(primitive, error) from error

    def check_swaps(self, directory: int) -> None:
        """Do nothing: whether its volume can is known to the kernel (VOL_CAP_INT_RENAME_SWAP)."""

    def remove_file(self, directory: int, name: str) -> None:
        self._remove(super().remove_file, directory, name)

    def remove_directory(self, directory: int, name: str) -> None:
        self._remove(super().remove_directory, directory, name)

    def _remove(self, remove: Callable[[int, str], None], directory: int, name: str) -> None:
        """Remove an entry, even a clone that took over a flag which forbids that."""
        try:
            remove(directory, name)
        except Failed as failed:
            if self.error_name(failed.error) != "EPERM" or not self._released(directory, name):
                raise
            remove(directory, name)

    def _released(self, directory: int, name: str) -> bool:
        """Take such flags off an entry that has one name only; return whether it had any."""
        calls = self.calls
        try:
            held = calls.open(name, _READ, dir_fd=directory)
            try:
                seen = calls.fstat(held)
                alone = seen.st_nlink == 1 or seen.st_mode & _TYPE != _REGULAR
                if not (alone and getattr(seen, "st_flags", 0) & HELD):
                    return False
                self._release(held, seen)
            finally:
                calls.close(held)
        except OSError:
            return False
        return True

    # Locks.

    def lock(self, directory: int) -> bool:
        try:
            return super().lock(directory)
        except Failed as failed:
            # Python knows a lock that another holds by this machine's number of EAGAIN only.
            if self.error_name(failed.error) == "EAGAIN":
                return False
            raise
