"""Where the bytes of a file lie on disk, asked of the kernel by the FIEMAP ioctl.

The structures carry the kernel's names (``linux/fiemap.h``). What comes out are plain `Extent`
tuples and the three questions that evidence asks of two lists of them: can they be compared, are
they the same, do they overlap. Physical addresses mean something only within one filesystem.
"""

from __future__ import annotations

import ctypes
import enum
import fcntl
from collections.abc import Sequence
from typing import NamedTuple

FS_IOC_FIEMAP = 0xC020660B
"""``_IOWR('f', 11, struct fiemap)``; the same number on every architecture."""

FIEMAP_FLAG_SYNC = 0x0001
FIEMAP_MAX_OFFSET = 2**64 - 1


class ExtentFlag(enum.IntFlag):
    """What the kernel says of an extent: ``FIEMAP_EXTENT_*``."""

    LAST = 0x0001
    UNKNOWN = 0x0002
    DELALLOC = 0x0004
    ENCODED = 0x0008
    DATA_ENCRYPTED = 0x0080
    NOT_ALIGNED = 0x0100
    DATA_INLINE = 0x0200
    DATA_TAIL = 0x0400
    UNWRITTEN = 0x0800
    MERGED = 0x1000
    SHARED = 0x2000


_NOWHERE = int(
    ExtentFlag.UNKNOWN | ExtentFlag.DELALLOC | ExtentFlag.DATA_INLINE | ExtentFlag.DATA_TAIL
)
_PENDING = int(ExtentFlag.UNKNOWN | ExtentFlag.DELALLOC)
_UNWRITTEN = int(ExtentFlag.UNWRITTEN)
_ENCODED = int(ExtentFlag.ENCODED)
_LAST = int(ExtentFlag.LAST)
_SHARED = int(ExtentFlag.SHARED)
_INLINE = int(ExtentFlag.DATA_INLINE)


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


class Extent(NamedTuple):
    """One piece of a file: `length` bytes at `logical` of the file, at `physical` of the disk."""

    logical: int
    physical: int
    length: int
    flags: int

    @property
    def shared(self) -> bool:
        """Whether some other file (or the same one elsewhere) uses these bytes of the disk."""
        return bool(self.flags & _SHARED)

    @property
    def inline(self) -> bool:
        """Whether the bytes lie among the metadata of their inode."""
        return bool(self.flags & _INLINE)


class ExtentReader:
    """Reads extents of many files through one buffer.

    Not for several threads at once. `capacity` is the number of extents read by one call; files
    with more are read by several.
    """

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


def placed(extents: Sequence[Extent]) -> bool:
    """Return whether every extent has an address on disk of its own that can be compared.

    Data that is delayed, of unknown place, inline in metadata, or the tail of a block which
    several files use, has none.
    """
    return not any(extent.flags & _NOWHERE for extent in extents)


def settled(first: Sequence[Extent], second: Sequence[Extent]) -> bool:
    """Return whether two lists look final.

    Not if data has no place yet, and not if both have a place in common that is not flagged as
    shared: that flag is worked out from metadata, which may not be written yet.
    """
    both = (*first, *second)
    if any(extent.flags & _PENDING for extent in both):
        return False
    return all(extent.flags & _SHARED for extent in both) or not overlap(first, second)


def written(extents: Sequence[Extent]) -> list[Extent]:
    """Return the extents that hold data.

    Space that was only reserved reads as zeros, and xfs does not clone it: to a clone it is a hole.
    """
    return [extent for extent in extents if not extent.flags & _UNWRITTEN]


def joined(extents: Sequence[Extent]) -> list[tuple[int, int, int]]:
    """Return (logical, physical, length) with neighbours that touch in both put together.

    The kernel may cut one run in two for one file and not for the other, as where only a part
    of it is shared with a third. Compressed extents are left alone: their lengths are those of
    the file, not those on the disk.
    """
    runs: list[tuple[int, int, int]] = []
    before_encoded = False
    for logical, physical, length, flags in extents:
        encoded = bool(flags & _ENCODED)
        if runs and not encoded and not before_encoded:
            last_logical, last_physical, last_length = runs[-1]
            if last_logical + last_length == logical and last_physical + last_length == physical:
                runs[-1] = (last_logical, last_physical, last_length + length)
                continue
        runs.append((logical, physical, length))
        before_encoded = encoded
    return runs


def overlap(first: Sequence[Extent], second: Sequence[Extent]) -> bool:
    """Return whether any byte of the disk belongs to both lists.

    A compressed extent says where it starts but not how long it is on disk, so it counts as
    its first block.
    """
    spans = sorted(
        (extent.physical, 1 if extent.flags & _ENCODED else extent.length, side)
        for side, extents in enumerate((first, second))
        for extent in extents
        if not extent.flags & _NOWHERE
    )
    ends = [0, 0]
    for start, length, side in spans:
        if start < ends[1 - side]:
            return True
        ends[side] = max(ends[side], start + length)
    return False
