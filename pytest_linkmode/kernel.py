"""The few calls of the Linux kernel that Python lacks, and what /proc says about mounts.

`mount(2)`, `umount2(2)` and `unshare(2)` go through ctypes, which is loaded at the first call
only; every failure is an OSError that names the call and what it was about. Nothing here
decides anything.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_linkmode import HERE

if TYPE_CHECKING:
    import ctypes

# <sys/mount.h>, <linux/mount.h>: flags of mount(2) and umount2(2)
MS_RDONLY = 1
MS_NOSUID = 2
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SHARED = 1 << 20
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

MODULES = "/lib/modules"

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
"""<linux/sched.h>; `os.CLONE_NEWNS` and `os.unshare` exist from Python 3.12 on."""

CAP_SYS_ADMIN = 21
"""<linux/capability.h>: the capability that mount(2) and unshare(CLONE_NEWNS) ask for."""

_IOC_DIRECTION_SHIFT = {"alpha": 29, "mips": 29, "ppc": 29, "sparc": 29}
_IOC_WRITE = {"alpha": 4, "mips": 4, "ppc": 4, "sparc": 4}


def iow(kind: int, number: int, size: int, machine: str = "") -> int:
    """Return the number of an ioctl that reads `size` bytes: `_IOW` of <asm/ioctl.h>.

    Alpha, MIPS, PowerPC and SPARC encode the direction otherwise than the rest of the world.
    """
    name = machine or platform.machine()
    odd = next((known for known in _IOC_WRITE if name.startswith(known)), "")
    direction = _IOC_WRITE.get(odd, 1) << _IOC_DIRECTION_SHIFT.get(odd, 30)
    return direction | size << 16 | kind << 8 | number


def ior(kind: int, number: int, size: int, machine: str = "") -> int:
    """Return the number of an ioctl that writes `size` bytes: `_IOR` of <asm/ioctl.h>."""
    name = machine or platform.machine()
    odd = next((known for known in _IOC_WRITE if name.startswith(known)), "")
    return 2 << _IOC_DIRECTION_SHIFT.get(odd, 30) | size << 16 | kind << 8 | number


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """Show `source` at `target`; flags and data as in the manual page. Raises OSError."""
    _call(
        "mount",
        _bytes(source),
        _bytes(target),
        _bytes(fstype),
        _unsigned_long(flags),
        _bytes(data),
        about=target,
    )


def unmount(target: str, flags: int = UMOUNT_NOFOLLOW) -> None:
    """Unmount what is mounted on `target`: umount2(2). Raises OSError, EINVAL if nothing is."""
    _call("umount2", _bytes(target), flags, about=target)


def unshare(flags: int) -> None:
    """Give the calling thread namespaces of its own (Linux 2.6.16). Raises OSError."""
    _call("unshare", flags, about=f"{flags:#x}")


def may_mount() -> bool:
    """Return whether this process holds CAP_SYS_ADMIN, which is not the same as being root."""
    return bool(_effective_capabilities() >> CAP_SYS_ADMIN & 1)


def knows(fstype: str) -> bool:
    """Return whether the kernel has a filesystem, or a module that mount(2) would load."""
    with open("/proc/filesystems", encoding="utf-8") as lines:
        if any(line.split()[-1] == fstype for line in lines):
            return True
    modules = os.path.join(MODULES, platform.release())
    if not os.path.isdir(modules):
        return True  # a container: the modules are the host's, and only trying tells
    for index in ("modules.dep", "modules.builtin"):
        with contextlib.suppress(OSError), open(f"{modules}/{index}", encoding="utf-8") as lines:
            if any(f"/{fstype}.ko" in line for line in lines):
                return True
    return False


def release() -> tuple[int, int]:
    """Return the version of the running kernel: (6, 1) of ``6.1.0-13-amd64``."""
    numbers = re.match(r"(\d+)\.(\d+)", platform.release())
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of /proc/self/mountinfo; proc_pid_mountinfo(5)."""

    id: int
    device: str
    root: str
    target: str
    fstype: str
    source: str
    options: str


def mounts() -> tuple[Mount, ...]:
    """Return all that is mounted in this namespace, oldest first; nothing outside of Linux."""
    if HERE != "linux":
        return ()
    with open("/proc/self/mountinfo", "rb") as lines:
        return tuple(_parse(line) for line in lines)


def mount_at(target: str) -> Mount | None:
    """Return the topmost of what is mounted on exactly this path, or None."""
    found = None
    for entry in mounts():
        if entry.target == target:
            found = entry
    return found


def mount_of(path: str) -> Mount | None:
    """Return the mount in which an existing path lies, or None where /proc cannot tell.

    Device numbers do not tell: those of btrfs subvolumes appear in no line of mountinfo.
    """
    if HERE != "linux":
        return None
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            with open(f"/proc/self/fdinfo/{descriptor}", "rb") as lines:
                number = next(int(line.split()[1]) for line in lines if line.startswith(b"mnt_id:"))
        finally:
            os.close(descriptor)
        return next((entry for entry in mounts() if entry.id == number), None)
    except (OSError, StopIteration):
        return None


def _parse(line: bytes) -> Mount:
    left, _, right = line.rstrip(b"\n").partition(b" - ")
    identifier, _, device, root, target, _, *_ = left.split(b" ")
    fstype, source, options = right.split(b" ", 2)
    return Mount(
        int(identifier),
        device.decode(),
        _unescape(root),
        _unescape(target),
        _unescape(fstype),
        _unescape(source),
        _unescape(options),
    )


def _unescape(field: bytes) -> str:
    # Blanks, tabs, newlines and backslashes are written as three octal digits.
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), field))


def _effective_capabilities() -> int:
    try:
        with open("/proc/self/status", "rb") as lines:
            return next(int(line.split()[1], 16) for line in lines if line.startswith(b"CapEff:"))
    except (OSError, StopIteration):
        return 0


@functools.cache
def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _unsigned_long(value: int) -> Any:
    import ctypes

    return ctypes.c_ulong(value)


def _bytes(text: str) -> bytes | None:
    return os.fsencode(text) if text else None


def _call(name: str, *arguments: Any, about: str) -> None:
    import ctypes

    function: Callable[..., int] = getattr(_libc(), name)
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}", about)
