"""Attributes of files and directories that Python has no call for: chattr(1), project ids.

ioctl_iflags(2); FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR of <linux/fs.h>.
"""

from __future__ import annotations

import ctypes
import fcntl
import os

from pytest_linkmode import kernel

# <linux/fs.h>
FS_IMMUTABLE_FL = 0x00000010
FS_NOCOW_FL = 0x00800000
FS_XFLAG_PROJINHERIT = 0x00000200


class fsxattr(ctypes.Structure):  # noqa: N801  # the kernel's name
    """`struct fsxattr` of <linux/fs.h>."""

    _fields_ = (
        ("fsx_xflags", ctypes.c_uint32),
        ("fsx_extsize", ctypes.c_uint32),
        ("fsx_nextents", ctypes.c_uint32),
        ("fsx_projid", ctypes.c_uint32),
        ("fsx_cowextsize", ctypes.c_uint32),
        ("fsx_pad", ctypes.c_uint8 * 8),
    )


# Declared with a long, and always an int: the kernel reads and writes four bytes.
FS_IOC_GETFLAGS = kernel.ior(ord("f"), 1, ctypes.sizeof(ctypes.c_long))
FS_IOC_SETFLAGS = kernel.iow(ord("f"), 2, ctypes.sizeof(ctypes.c_long))
FS_IOC_FSGETXATTR = kernel.ior(ord("X"), 31, ctypes.sizeof(fsxattr))
FS_IOC_FSSETXATTR = kernel.iow(ord("X"), 32, ctypes.sizeof(fsxattr))


def change_flags(path: str, *, add: int = 0, remove: int = 0) -> None:
    """Set and clear inode flags of a file or directory, as chattr does. Raises OSError."""
    descriptor = os.open(path, _LOOK)
    try:
        flags = ctypes.c_int()
        fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, flags)
        flags.value = flags.value & ~remove | add
        fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, flags)
    finally:
        os.close(descriptor)


def set_project(directory: str, project: int) -> None:
    """Give a directory, and all that is made in it, a project id (xfs(5)). Raises OSError."""
    descriptor = os.open(directory, _LOOK | os.O_DIRECTORY)
    try:
        attributes = fsxattr()
        fcntl.ioctl(descriptor, FS_IOC_FSGETXATTR, attributes)
        attributes.fsx_projid = project
        attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT
        fcntl.ioctl(descriptor, FS_IOC_FSSETXATTR, attributes)
    finally:
        os.close(descriptor)


_LOOK = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
