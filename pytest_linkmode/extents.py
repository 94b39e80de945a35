"""Lists of extents: where the bytes of files lie on disk, and what two such lists prove.

`Extent` is what every system's reader gives (`fiemap` on Linux, `log2phys` on macOS, `pointers` on
Windows), with the
flags of Linux. Evidence asks of two lists: can they be compared, are they the same, do they
overlap. Physical addresses mean something only within one filesystem.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple, Protocol


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
_SHARED = int(ExtentFlag.SHARED)
_INLINE = int(ExtentFlag.DATA_INLINE)


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


class Reader(Protocol):
    """What asks a system where the bytes of files lie."""

    @property
    def sharing(self) -> str:
        """How it is known that extents are shared, in words for the end of a sentence."""

    def both(self, source: int, target: int) -> tuple[list[Extent], list[Extent]]:
        """Return the extents of two open files of one filesystem. Raises OSError."""


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


def in_common(extents: Sequence[Extent], others: Sequence[Extent]) -> list[Extent]:
    """Return extents, those flagged as shared that others have every byte of.

    For systems without such a flag: that two files have one place is what it would say.
    """
    begins: list[int] = []
    ends: list[int] = []
    for start, length in sorted((each.physical, each.length) for each in others if not each.flags):
        if begins and start <= ends[-1]:
            ends[-1] = max(ends[-1], start + length)
        else:
            begins.append(start)
            ends.append(start + length)
    found = []
    for each in extents:
        at = bisect_right(begins, each.physical) - 1
        shared = not each.flags and at >= 0 and each.physical + each.length <= ends[at]
        found.append(each._replace(flags=_SHARED) if shared else each)
    return found
