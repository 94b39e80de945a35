"""Where the bytes of a file lie on disk, asked of the kernel by the FIEMAP ioctl.

The structures carry the kernel's names (``linux/fiemap.h``). What comes out are lists of `Extent`.
"""

from __future__ import annotations

import ctypes
import fcntl

from pytest_linkmode.extents import Extent, ExtentFlag

FS_IOC_FIEMAP = 0xC020660B
"""``_IOWR('f', 11, struct fiemap)``; the same number on every architecture."""

FIEMAP_FLAG_SYNC = 0x0001
FIEMAP_MAX_OFFSET = 2**64 - 1

_LAST = int(ExtentFlag.LAST)


class fiemap_extent(ctypes.Structure):  # noqa: N801 (the kernel's name)
    """``struct fiemap_extent``."""

    _fields_ = (
        ("fe_logical", ctypes.c_uint64),
        ("fe_physical", ctypes.c_uint64),
        ("fe_length", ctypes.c_uint64),
        ("fe_reserved64", ctypes.c_uint64 * 2),
        ("fe_flags", ctypes.c_uint32),
        ("fe_reserved", ctypes.c_uint32 * 3),
    )


class fiemap(ctypes.Structure):  # noqa: N801 (the kernel's name)
    """``struct fiemap`` without its trailing array."""

    _fields_ = (
        ("fm_start", ctypes.c_uint64),
        ("fm_length", ctypes.c_uint64),
        ("fm_flags", ctypes.c_uint32),
        ("fm_mapped_extents", ctypes.c_uint32),
        ("fm_extent_count", ctypes.c_uint32),
        ("fm_reserved", ctypes.c_uint32),
    )


class ExtentReader:
    """Reads extents of many files through one buffer.

    Not for several threads at once. `capacity` is the number of extents read by one call; files
    with more are read by several.
    """

    sharing = ", flagged shared"

    def __init__(self, capacity: int = 256) -> None:
        self._capacity = capacity
        self._buffer = bytearray(ctypes.sizeof(fiemap) + capacity * ctypes.sizeof(fiemap_extent))
        self._head = fiemap.from_buffer(self._buffer)
        self._extents = (fiemap_extent * capacity).from_buffer(self._buffer, ctypes.sizeof(fiemap))

    def read(self, descriptor: int) -> list[Extent]:
        """Return the extents of the open file `descriptor`, its data written to disk first.

        Raises OSError, EOPNOTSUPP where the filesystem does not answer (tmpfs, ZFS).
        """
        head, found, start = self._head, list[Extent](), 0
        while True:
            head.fm_start = start
            head.fm_length = FIEMAP_MAX_OFFSET - start
            head.fm_flags = FIEMAP_FLAG_SYNC
            head.fm_mapped_extents = 0
            head.fm_extent_count = self._capacity
            fcntl.ioctl(descriptor, FS_IOC_FIEMAP, self._buffer)
            for index in range(head.fm_mapped_extents):
                entry = self._extents[index]
                found.append(
                    Extent(entry.fe_logical, entry.fe_physical, entry.fe_length, entry.fe_flags)
                )
            if not head.fm_mapped_extents or found[-1].flags & _LAST:
                return found
            start = found[-1].logical + found[-1].length

    def both(self, source: int, target: int) -> tuple[list[Extent], list[Extent]]:
        """Return the extents of two open files, each read by itself."""
        return self.read(source), self.read(target)
