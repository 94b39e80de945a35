"""What only btrfs has: subvolumes and snapshots, made by one ioctl instead of a program."""

from __future__ import annotations

import ctypes
import fcntl
import os

from pytest_linkmode import kernel

BTRFS_IOCTL_MAGIC = 0x94
BTRFS_PATH_NAME_MAX = 4087
BTRFS_SUBVOL_NAME_MAX = 4039
BTRFS_SUBVOL_RDONLY = 1 << 1


class btrfs_ioctl_vol_args(ctypes.Structure):  # noqa: N801  # the kernel's name
    """`struct btrfs_ioctl_vol_args` of <linux/btrfs.h>."""

    _fields_ = (("fd", ctypes.c_int64), ("name", ctypes.c_char * (BTRFS_PATH_NAME_MAX + 1)))


class btrfs_ioctl_vol_args_v2(ctypes.Structure):  # noqa: N801  # the kernel's name
    """`struct btrfs_ioctl_vol_args_v2` of <linux/btrfs.h>, without the unions of later times."""

    _fields_ = (
        ("fd", ctypes.c_int64),
        ("transid", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("unused", ctypes.c_uint64 * 4),
        ("name", ctypes.c_char * (BTRFS_SUBVOL_NAME_MAX + 1)),
    )


BTRFS_IOC_SNAP_CREATE_V2 = kernel.iow(BTRFS_IOCTL_MAGIC, 23, ctypes.sizeof(btrfs_ioctl_vol_args_v2))
BTRFS_IOC_SNAP_DESTROY = kernel.iow(BTRFS_IOCTL_MAGIC, 15, ctypes.sizeof(btrfs_ioctl_vol_args))
BTRFS_IOC_SUBVOL_CREATE = kernel.iow(BTRFS_IOCTL_MAGIC, 14, ctypes.sizeof(btrfs_ioctl_vol_args))


def create_subvolume(parent: str, name: str) -> str:
    """Make a subvolume in a directory on btrfs and return its path. Raises OSError.

    No privileges are needed, and an empty one is removed by rmdir(2) (Linux 4.18).
    """
    arguments = btrfs_ioctl_vol_args(name=os.fsencode(name))
    directory = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(directory, BTRFS_IOC_SUBVOL_CREATE, arguments)
    finally:
        os.close(directory)
    return os.path.join(parent, name)


def delete_subvolume(path: str) -> None:
    """Delete a subvolume or a snapshot with all that is in it, be it read-only. Raises OSError."""
    above, name = os.path.split(path)
    directory = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(directory, BTRFS_IOC_SNAP_DESTROY, btrfs_ioctl_vol_args(name=os.fsencode(name)))
    finally:
        os.close(directory)


def create_snapshot(subvolume: str, parent: str, name: str) -> str:
    """Make a read-only snapshot of a subvolume and return its path. Raises OSError."""
    kept = os.open(subvolume, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        directory = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            arguments = btrfs_ioctl_vol_args_v2(
                fd=kept, flags=BTRFS_SUBVOL_RDONLY, name=os.fsencode(name)
            )
            fcntl.ioctl(directory, BTRFS_IOC_SNAP_CREATE_V2, arguments)
        finally:
            os.close(directory)
    finally:
        os.close(kept)
    return os.path.join(parent, name)
