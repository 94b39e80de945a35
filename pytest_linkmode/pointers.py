"""Where the bytes of a file lie on a Windows volume, asked by FSCTL_GET_RETRIEVAL_POINTERS.

The volume tells which of its clusters each cluster of a file is. Two open files that have one
cluster share it: there is no flag for that, and none is needed. What a volume cannot say (data
in the file's record, no call of the kind, an answer that makes no sense) is told as such.

Sources: FSCTL_GET_RETRIEVAL_POINTERS, STARTING_VCN_INPUT_BUFFER and RETRIEVAL_POINTERS_BUFFER of
Microsoft's documentation; [MS-FSCC] 2.3.31 and 2.3.32; [MS-FSA] 2.1.5.10.15. The clusters of
compressed files and of reparse points (deduplicated, in the cloud) do not say where data lies.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from linker.platforms import windows as w
from linker.platforms.windows import Calls, refused, winerror_of
from pytest_linkmode.extents import Extent, ExtentFlag, in_common, overlap

FSCTL_GET_RETRIEVAL_POINTERS = 0x00090073

STARTING = struct.Struct("<q")
"""STARTING_VCN_INPUT_BUFFER."""
HEAD = struct.Struct("<I4xq")
"""RETRIEVAL_POINTERS_BUFFER without its array: how many extents, and where the first begins."""
POINTER = struct.Struct("<qq")
"""One of its extents: the cluster of the file behind it, and its first cluster on the volume."""

NOWHERE = -1
"""The cluster on the volume of what has none: a hole, or what compression saved."""

END = w.NUMBERS["ERROR_HANDLE_EOF"]
"""What is said where the file has no such cluster: it is behind the end, or data is resident."""

ATTRIBUTE_COMPRESSED = 0x800
_ELSEWHERE = w.ATTRIBUTE_REPARSE_POINT | ATTRIBUTE_COMPRESSED

_UNKNOWN = int(ExtentFlag.UNKNOWN)
_INLINE = int(ExtentFlag.DATA_INLINE)


class PointerReader:
    """Reads where files lie, through the calls of `linker.platforms.windows`.

    `handle` gives the handle of a descriptor; `capacity` is the number of extents read by one
    call.
    """

    sharing = ""

    def __init__(self, calls: Calls, handle: Callable[[int], int], capacity: int = 256) -> None:
        self._calls = calls
        self._handle = handle
        self._size = HEAD.size + capacity * POINTER.size
        self._clusters: dict[int, int | None] = {}

    def both(self, source: int, target: int) -> tuple[list[Extent], list[Extent]]:
        """Return the extents of two open files of one volume; those that both have are flagged
        as shared.

        Raises OSError where the volume does not say.
        """
        first, exact = self._read(self._handle(source))
        second, _ = self._read(self._handle(target))
        if not exact and overlap(first, second):
            # Without a cluster's size nobody knows which of the clusters hold data.
            raise refused(w.NUMBERS["ERROR_NOT_SUPPORTED"], why="clusters of unknown size")
        return in_common(first, second), in_common(second, first)

    def _read(self, handle: int) -> tuple[list[Extent], bool]:
        """Return the extents of an open file in bytes, or in clusters where their size is not
        told; and whether it is.
        """
        told = self._calls.information(handle)
        cluster = self._cluster(handle, told.volume)
        if told.size and told.attributes & _ELSEWHERE:
            return [_placeless(told.size, _UNKNOWN)], cluster is not None
        unit = cluster or 1
        # Clusters behind the end may be there, and a clone does not have them.
        end = -(-told.size // unit) if cluster else None
        sparse = told.attributes & w.ATTRIBUTE_SPARSE
        found = []
        for start, told_behind, place in self._pointers(handle):
            behind = told_behind if end is None else min(told_behind, end)
            if behind <= start or (place == NOWHERE and sparse):
                continue
            flags = _UNKNOWN if place == NOWHERE else 0
            found.append(Extent(start * unit, place * unit, (behind - start) * unit, flags))
        if not found and told.size:
            found = [_placeless(told.size, _UNKNOWN if sparse else _INLINE)]
        return found, cluster is not None

    def _pointers(self, handle: int) -> Iterator[tuple[int, int, int]]:
        """Yield each extent of a file: its first cluster, the one behind it, and the volume's."""
        position = 0
        while True:
            asked = STARTING.pack(position)
            try:
                data = self._calls.control(handle, FSCTL_GET_RETRIEVAL_POINTERS, asked, self._size)
            except OSError as error:
                if winerror_of(error) == END:
                    return
                raise
            before = position
            for start, behind, place in _extents(data, position):
                yield start, behind, place
                position = behind
            if position == before:
                return

    def _cluster(self, handle: int, volume: int) -> int | None:
        """Return the bytes of a cluster of a volume, None where it has no integrity to tell of.

        A volume that clones blocks has: nowhere else does it matter.
        """
        if volume not in self._clusters:
            code = w.FSCTL_GET_INTEGRITY_INFORMATION
            try:
                told = self._calls.control(handle, code, b"", w.INTEGRITY.size)
            except OSError:
                self._clusters[volume] = None
            else:
                self._clusters[volume] = w.INTEGRITY.unpack(told)[4]
        return self._clusters[volume]


def _extents(data: bytes, asked: int) -> Iterator[tuple[int, int, int]]:
    """Yield the extents of one answer from cluster `asked` on. Raises OSError for nonsense.

    Wine answers with one extent that ends before it begins.
    """
    count, start = HEAD.unpack_from(data)
    if start > asked or len(data) < HEAD.size + count * POINTER.size:
        raise _senseless()
    for number in range(count):
        behind, place = POINTER.unpack_from(data, HEAD.size + number * POINTER.size)
        if behind <= max(start, asked) or place < NOWHERE:
            raise _senseless()
        skipped = max(asked - start, 0)
        yield start + skipped, behind, place if place == NOWHERE else place + skipped
        start = behind


def _senseless() -> OSError:
    return refused(w.NUMBERS["ERROR_NOT_SUPPORTED"], why="extents that cannot be")


def _placeless(size: int, flag: int) -> Extent:
    return Extent(0, 0, size, flag)


def system() -> PointerReader:
    """Return the reader of this system."""
    import msvcrt

    from linker.platforms import kernel32

    handle: Any = msvcrt.get_osfhandle  # type: ignore[attr-defined,unused-ignore]
    return PointerReader(kernel32.calls(), handle)
