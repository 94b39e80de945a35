"""Where the bytes of a file lie on a volume of macOS, asked by fcntl(F_LOG2PHYS_EXT).

The call is given an offset of a file, and tells the offset on the volume and how many bytes follow
it there. Two files that have one place share it; there is no flag for that. What has no place yet
(data that was not written), or none that is told (compressed files), is told as such. A hole is at
-1 (fcntl(2)), or out of range.

Sources: fcntl(2) of macOS; xnu's sys/fcntl.h for number and structure, which is packed to 4 bytes.
That the call tells clones from copies on APFS, and that it says ENOTSUP of compressed files, is
reported of fclones (issue 327) and apfs-clone-checker (issue 8). It was not run here: see
docs/macos.md.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable

from linker.platforms import macos
from pytest_linkmode.extents import Extent, ExtentFlag, in_common

F_LOG2PHYS_EXT = 65
PLACE = struct.Struct("=Iqq")
"""struct log2phys: flags, bytes wanted and told of, offset in the file and on the volume."""

_UNKNOWN = int(ExtentFlag.UNKNOWN)


class PlaceReader:
    """Reads where files lie; `ask` is fcntl."""

    sharing = ""

    def __init__(self, ask: Callable[[int, int, bytes], bytes] = fcntl.fcntl) -> None:
        self._ask = ask

    def both(self, source: int, target: int) -> tuple[list[Extent], list[Extent]]:
        """Return the extents of two open files of one volume, their data written to disk first;
        those that both have are flagged as shared.

        Raises OSError.
        """
        first, second = self._read(source), self._read(target)
        return in_common(first, second), in_common(second, first)

    def _read(self, file: int) -> list[Extent]:
        os.fsync(file)
        size, position = os.fstat(file).st_size, 0
        found: list[Extent] = []
        while position < size:
            asked = PLACE.pack(0, size - position, position)
            try:
                _, told, place = PLACE.unpack(self._ask(file, F_LOG2PHYS_EXT, asked))
            except OSError as error:
                name = macos.ERRORS.get(error.errno or 0)
                if name not in ("ERANGE", "ENOTSUP"):
                    raise
                told, place = 0, -1
                is_hole = name == "ERANGE"
            else:
                is_hole = place == -1
            if is_hole and (behind := _behind_hole(file, position, size)) > position:
                position = behind
                continue
            length = min(told, size - position)
            if length <= 0 or place < 0:
                found.append(Extent(position, 0, size - position, _UNKNOWN))
                return found
            found.append(Extent(position, place, length, 0))
            position += length
        return found


def _behind_hole(file: int, position: int, size: int) -> int:
    """Return where data begins again, `position` if it is no hole or nobody can tell."""
    try:
        return os.lseek(file, position, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else position
