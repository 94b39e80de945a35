"""Independence: edit one file, read the other, take the edit back.

The last proof, for files whose bytes have no address on disk that can be compared. It shows that
two names are isolated from each other, not which isolating mode made them so. Only the target is
ever edited, and its bytes, permission bits and times are put back; its change time moves on.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress

from pytest_linkmode import HERE, opening

_FLIP = 0xFF


class Edit:
    """A few bytes of one file, the first, the middle and the last, to be inverted for a while.

    Bytes in holes are left alone, so that holes stay holes. What fails while editing is kept in
    `error`; what fails while undoing is raised, for then a file is not as it was.
    """

    def __init__(self, name: str, directory: opening.Directory | None, descriptor: int) -> None:
        """Open `name` for writing; `descriptor` is the same file, open for reading.

        Raises OSError, before anything was changed, where it cannot be written to.
        """
        self.error: OSError | None = None
        self._status = os.fstat(descriptor)
        self._bytes: dict[int, bytes] = {}
        self._path = os.path.join(directory, name) if isinstance(directory, str) else name
        try:
            self.file = opening.open_file(name, directory, opening.WRITE_FILE)
        except PermissionError:
            # A read-only file of an ordinary user: its owner may write once the file is open.
            permissions = stat.S_IMODE(self._status.st_mode)
            opening.change_mode(descriptor, self._path, permissions | stat.S_IWUSR)
            try:
                self.file = opening.open_file(name, directory, opening.WRITE_FILE)
            finally:
                opening.change_mode(descriptor, self._path, permissions)

    def make(self) -> None:
        """Invert the bytes."""
        try:
            for offset in self._offsets():
                before = opening.read_at(self.file, 1, offset)
                self._bytes[offset] = before
                opening.write_at(self.file, bytes((before[0] ^ _FLIP,)), offset)
        except OSError as error:
            self.error = error

    def undo(self) -> None:
        """Put bytes, permission bits and times back."""
        before = self._status
        for offset, byte in self._bytes.items():
            opening.write_at(self.file, byte, offset)
        if os.fstat(self.file).st_mode != before.st_mode:  # writing takes setuid and setgid away
            opening.change_mode(self.file, self._path, stat.S_IMODE(before.st_mode))
        opening.set_times(self.file, self._path, (before.st_atime_ns, before.st_mtime_ns))

    def close(self) -> None:
        """Close the file."""
        os.close(self.file)

    @property
    def happened(self) -> bool:
        """Whether the edit can be read back where it was made."""
        return bool(self._bytes) and not any(self._unchanged(self.file))

    def shows_in(self, other: int) -> bool:
        """Return whether the open file `other` changed too, asking the disk, not the page cache."""
        if HERE == "linux":
            os.posix_fadvise(other, 0, 0, os.POSIX_FADV_DONTNEED)
        return not all(self._unchanged(other))

    def _unchanged(self, file: int) -> Iterator[bool]:
        return (opening.read_at(file, 1, at) == before for at, before in self._bytes.items())

    def _offsets(self) -> Iterable[int]:
        size = self._status.st_size
        wanted = {0, size // 2, size - 1}
        if HERE == "win32":
            return wanted
        if HERE == "darwin":
            return self._surely_data(wanted)
        found = set()
        for offset in wanted:
            with suppress(OSError):  # ENXIO: nothing but a hole from here to the end
                found.add(os.lseek(self.file, offset, os.SEEK_DATA))
        return found

    def _surely_data(self, wanted: Iterable[int]) -> Iterable[int]:
        """Return where bytes are no hole: all of a file that has its size on disk, else what is not
        zero. SEEK_DATA of macOS tells of data too late, or of none (gnulib, bug 51857), and
        volumes of HFS+ do not know it.
        """
        if self._status.st_blocks * 512 >= self._status.st_size:
            return wanted
        found = {at for at in wanted if opening.read_at(self.file, 1, at) != b"\0"}
        return found or opening.not_zero(self.file)
