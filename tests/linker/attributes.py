"""Attributes of files (ioctl_iflags(2)), given and read without the linker."""

from __future__ import annotations

import fcntl
import os
import struct

from linker.platforms.linux import FS_IOC_GETFLAGS

NOCOW = 0x00800000


def set_flag(path: str, flag: int) -> None:
    """Give a file or directory one more flag."""
    handle = os.open(path, os.O_RDONLY)
    try:
        found = bytearray(8)
        fcntl.ioctl(handle, FS_IOC_GETFLAGS, found)
        (flags,) = struct.unpack("l", found)
        # FS_IOC_SETFLAGS is FS_IOC_GETFLAGS with the direction and the number of writing.
        fcntl.ioctl(handle, 0x40086602, struct.pack("l", flags | flag))
    finally:
        os.close(handle)


def flags(path: str) -> int:
    """Return the flags of a file or directory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        found = bytearray(8)
        fcntl.ioctl(handle, FS_IOC_GETFLAGS, found)
        return int(struct.unpack("l", found)[0])
    finally:
        os.close(handle)
