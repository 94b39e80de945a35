"""On which filesystem a file lies, and what that filesystem does: flush, clone or refuse.

Two files can share bytes only on one filesystem, and `st_dev` does not say which one that is:
btrfs subvolumes have different ones and share space, bind mounts have equal ones although
`link` refuses to cross them, overlay shows the files of several filesystems. The superblock
decides, as the mount table of this process names it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from pytest_linkmode import HERE

if HERE != "win32":
    import fcntl
    import platform

OWN = frozenset(
    "bcachefs btrfs exfat ext2 ext3 ext4 f2fs jfs minix msdos nilfs2 ntfs3 ocfs2 ramfs "  # noqa: SIM905
    "reiserfs tmpfs vfat xfs zfs".split()
)
"""Filesystems that keep their data on storage of their own: two of them share nothing.

Stacked and remote ones (overlay, FUSE, NFS, 9p) may show one file twice, under two inodes.
"""

STACKED = frozenset(("overlay", "ecryptfs"))
"""Filesystems that answer FIEMAP with addresses of the filesystems below them."""

NEVER = frozenset(("EXDEV", "EOPNOTSUPP", "ENOTSUP", "ENOTTY", "ENOSYS", "EINVAL"))
"""Errors of FICLONE and clonefile that mean "not these two", where others mean "not just now"."""


class Storage(NamedTuple):
    """One filesystem: what two files have in common if addresses of their bytes compare.

    `device` is the superblock's (on overlay with `st_dev` added, which tells its layers apart);
    `kind` is the type in the mount table, empty where that is not to be had.
    """

    device: str
    kind: str


def storage_of(descriptor: int) -> Storage:
    """Return the filesystem on which the open file `descriptor` lies.

    By ``/proc/self/fdinfo`` and ``/proc/self/mountinfo`` (proc(5)); where these are missing or
    do not show the mount, by `st_dev` alone and of no known kind.
    """
    device = str(os.fstat(descriptor).st_dev)
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", "rb") as lines:
            mount = next((line.split()[1] for line in lines if line.startswith(b"mnt_id:")), b"")
        with open("/proc/self/mountinfo", "rb") as lines:
            for line in lines:
                words = line.split()
                if words[0] == mount:
                    kind = os.fsdecode(words[words.index(b"-") + 1])
                    layer = f"/{device}" if kind in STACKED else ""
                    return Storage(os.fsdecode(words[2]) + layer, kind)
    except OSError:  # no /proc here
        pass
    return Storage(device, "")


def flush(descriptor: int) -> None:
    """Write everything of the filesystem of `descriptor` to disk (syncfs(2); else sync(2)).

    Raises OSError where the filesystem lost data on the way.
    """
    if HERE != "linux":
        if HERE != "win32":
            os.sync()
        return
    if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@dataclass(frozen=True, slots=True)
class Trial:
    """Whether one file can be cloned to a place: yes, no, or (None) not to be found out.

    `error` names the refusal, or what stood in the way of trying.
    """

    possible: bool | None
    error: str = ""


def try_clone(descriptor: int, directory: int | str) -> Trial:
    """Find out, by doing it, whether the open file `descriptor` can be cloned into `directory`.

    The clone has no name (O_TMPFILE, open(2)) and is gone at once; neither the directory nor
    its times change. Where the filesystem has no such files, it has a name for that moment and the
    directory's times are put back. The answer holds for this file and this directory: a NOCOW
    attribute of either is taken into account.
    """
    if HERE == "win32":
        return try_volume(descriptor, directory)
    if HERE == "darwin" and isinstance(directory, int):
        return try_clonefile(descriptor, directory)
    if HERE != "linux" or isinstance(directory, str):
        return Trial(None, "ENOSYS")
    try:
        with _scratch(directory) as clone:
            fcntl.ioctl(clone, FICLONE, descriptor)
    except _Untried as untried:
        return Trial(None, untried.args[0])
    except OSError as error:
        name = error_name(error)
        return Trial(False if name in NEVER else None, name)
    return Trial(possible=True)


def try_volume(
    descriptor: int, directory: int | str, calls: Any = None, handle: Any = int
) -> Trial:
    """Find out whether a volume clones blocks, by what it says: nothing is tried on it.

    `calls` is a `linker.platforms.windows.Calls`, the real ones unless told; `handle` gives the
    handle of a descriptor.
    """
    from linker.platforms import windows

    if os.fstat(descriptor).st_dev != os.stat(directory).st_dev:
        return Trial(possible=False, error="ERROR_NOT_SAME_DEVICE")
    if calls is None:
        import msvcrt

        from linker.platforms import kernel32

        calls = kernel32.calls()
        handle = msvcrt.get_osfhandle  # type: ignore[attr-defined,unused-ignore]
    try:
        flags = calls.volume_flags(handle(descriptor))
    except OSError as error:
        return Trial(None, windows.WINERRORS.get(windows.winerror_of(error), ""))
    if flags & windows.SUPPORTS_BLOCK_REFCOUNTING:
        return Trial(possible=True)
    return Trial(possible=False, error="ERROR_NOT_SUPPORTED")


def try_clonefile(descriptor: int, directory: int, calls: Any = None) -> Trial:
    """Find out likewise on macOS, where a clone has a name at once, and for that moment.

    `calls` is a `linker.platforms.macos.Calls`, the real ones unless told.
    """
    from linker.platforms import macos

    calls = calls or macos.CALLS
    before, name = os.fstat(directory), f".linkmode-{secrets.token_hex(8)}"
    flags = macos.CLONE_NOFOLLOW | macos.CLONE_NOOWNERCOPY
    if calls.fclonefileat(descriptor, directory, os.fsencode(name), flags) < 0:
        refusal = macos.ERRORS.get(calls.errno(), "")
        return Trial(False if refusal in NEVER else None, refusal)
    held = getattr(calls.fstat(descriptor), "st_flags", 0)
    if held & macos.HELD:  # the clone cannot be removed either
        made = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
        try:
            calls.fchflags(made, held & ~macos.HELD)
        finally:
            os.close(made)
    calls.unlink(name, dir_fd=directory)
    os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))
    return Trial(possible=True)


class _Untried(Exception):
    """There was no file to try with; the argument names the error."""


@contextmanager
def _scratch(directory: int) -> Iterator[int]:
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        file = os.open(".", flags | os.O_TMPFILE, 0o600, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise _Untried(error_name(error)) from None
    else:
        try:
            yield file
        finally:
            os.close(file)
        return
    before, name = os.fstat(directory), f".linkmode-{secrets.token_hex(8)}"
    try:
        file = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
    except OSError as error:
        raise _Untried(error_name(error)) from None
    try:
        yield file
    finally:
        os.close(file)
        os.unlink(name, dir_fd=directory)
        os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))


def error_name(error: OSError) -> str:
    """Return the name of an errno, as in ``EXDEV``."""
    if error.errno == errno.EOPNOTSUPP:
        return "EOPNOTSUPP"  # Python prefers ENOTSUP, the same number on Linux
    return errno.errorcode.get(error.errno or 0, str(error.errno))


def _ficlone() -> int:
    # _IOW(0x94, 9, int); some architectures encode the direction otherwise.
    if HERE == "win32":
        return 0
    odd = platform.machine().startswith(("mips", "ppc", "powerpc", "sparc"))
    return 0x80049409 if odd else 0x40049409


FICLONE = _ficlone()
"""The request number of ioctl_ficlone(2) on this machine."""
