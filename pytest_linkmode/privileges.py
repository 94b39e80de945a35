"""What this process may do: its capabilities, and the user namespace that gives some to anybody.

An ordinary user who makes a user namespace holds every capability inside of it, and would no
longer be an ordinary user: with CAP_DAC_OVERRIDE a read-only directory refuses nothing. So of all
of them only CAP_SYS_ADMIN, which mounts, stays in effect, and is handed to children; the others
are held back for the moments in which a mount needs them (`raised`).
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_linkmode import HERE

# <linux/capability.h>
CAP_DAC_OVERRIDE = 1
CAP_SYS_ADMIN = 21
_LINUX_CAPABILITY_VERSION_3 = 0x20080522

# <linux/prctl.h>
PR_SET_DUMPABLE = 4
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_LOWER = 3

HANDED_DOWN = frozenset({CAP_SYS_ADMIN})
"""What children hold as well: without CAP_SYS_ADMIN no worker and no program could mount."""

EVERY_ID = 0xFFFFFFFF
"""How many ids a user namespace maps that is no restriction: user_namespaces(7)."""

GUEST_VARIABLE = "LINKMODE_GUEST"
"""Set in a guest (User-Mode Linux), for whom everything is as for root."""


class user_cap_header(ctypes.Structure):  # noqa: N801  # the kernel's name
    """`struct __user_cap_header_struct` of <linux/capability.h>."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class user_cap_data(ctypes.Structure):  # noqa: N801  # the kernel's name
    """`struct __user_cap_data_struct` of <linux/capability.h>."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@dataclass(frozen=True)
class Sets:
    """The capability sets of a thread: capabilities(7)."""

    effective: frozenset[int]
    permitted: frozenset[int]
    inheritable: frozenset[int]


def sets() -> Sets:
    """Return the capability sets of this thread. Raises OSError."""
    data = (user_cap_data * 2)()
    header = user_cap_header(_LINUX_CAPABILITY_VERSION_3, 0)
    _checked("capget", _libc().capget(ctypes.byref(header), data))

    def members(name: str) -> frozenset[int]:
        bits = getattr(data[0], name) | getattr(data[1], name) << 32
        return frozenset(number for number in range(64) if bits >> number & 1)

    return Sets(members("effective"), members("permitted"), members("inheritable"))


def set_sets(wanted: Sets) -> None:
    """Give this thread these capability sets. Raises OSError where they are not its to have."""
    data = (user_cap_data * 2)()
    for name in ("effective", "permitted", "inheritable"):
        bits = sum(1 << number for number in getattr(wanted, name))
        setattr(data[0], name, bits & 0xFFFFFFFF)
        setattr(data[1], name, bits >> 32)
    header = user_cap_header(_LINUX_CAPABILITY_VERSION_3, 0)
    _checked("capset", _libc().capset(ctypes.byref(header), data))


def hand_down(*capabilities: int) -> None:
    """Let programs that are started from now on hold these as well (Linux 4.3). Raises OSError.

    The ambient set alone reaches a program that an ordinary user starts.
    """
    now = sets()
    set_sets(Sets(now.effective, now.permitted, now.inheritable | set(capabilities)))
    for number in capabilities:
        _checked("prctl", _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number))


def settle() -> None:
    """Keep in effect, and hand down, what mounts; hold the rest back. Raises OSError.

    In a user namespace only: in that of the machine, root is root.
    """
    if not in_user_namespace():
        return
    now = sets()
    kept = now.permitted & HANDED_DOWN
    set_sets(Sets(now.effective & HANDED_DOWN, now.permitted, now.inheritable | kept))
    for number in sorted(now.permitted - HANDED_DOWN):
        _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, number)
    for number in kept:
        _checked("prctl", _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number))


def prepare_workers() -> None:
    """Hand down as well what `raised` puts into effect, to programs that hold it back themselves.

    These are workers that `settle`, and no program under test. Raises OSError.
    """
    if in_user_namespace() and CAP_DAC_OVERRIDE in sets().permitted:
        hand_down(CAP_DAC_OVERRIDE)


@contextmanager
def raised(*capabilities: int) -> Iterator[None]:
    """Put into effect, for a moment, what of these this thread holds back. Raises OSError.

    overlay, for one, makes its work directory with no permissions for anybody, and acts in it
    with what was in effect when it was mounted.
    """
    before = sets()
    wanted = before.effective | (before.permitted & set(capabilities))
    if wanted == before.effective:
        yield
        return
    set_sets(Sets(wanted, before.permitted, before.inheritable))
    try:
        yield
    finally:
        set_sets(before)


def in_guest() -> bool:
    """Return whether this process runs in a guest."""
    return GUEST_VARIABLE in os.environ


def in_user_namespace() -> bool:
    """Return whether this process is in another user namespace than that of the machine.

    There the kernel allows tmpfs, overlay and bind mounts, and no block device.
    """
    if HERE != "linux":
        return False
    try:
        with open("/proc/self/uid_map", "rb") as lines:
            return lines.read().split() != [b"0", b"0", b"%d" % EVERY_ID]
    except OSError:
        return False


def map_to_itself(uid: int, gid: int) -> None:
    """Say who this process is in the user namespace that it has just entered: who it was.

    Its other groups stay what they are for the outside. Raises OSError.
    """
    # A process whose user changed since its exec does not own its own /proc entries.
    _checked("prctl", _prctl(PR_SET_DUMPABLE, 1))
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, first: int, second: int = 0) -> int:
    arguments = (ctypes.c_ulong(each) for each in (first, second, 0, 0))
    return int(_libc().prctl(option, *arguments))


def _checked(name: str, result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
