"""A directory that is put back as it was, before every case of a sweep."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from types import TracebackType


class Fresh:
    """Remembers what a directory holds when it is entered, and puts that back when asked.

    The directory itself stays the same one. Names, types, bytes, permission bits and modification
    times are put back; hard links become files of their own. A directory that is not there yet is
    taken away again.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._path = os.fspath(directory)
        self._kept: str | None = None
        self._status: os.stat_result | None = None

    def __enter__(self) -> Fresh:
        with suppress(FileNotFoundError):
            self._status = os.stat(self._path)
        if self._status is not None and os.listdir(self._path):
            self._kept = os.path.join(tempfile.mkdtemp(prefix="linkmode-fresh-"), "kept")
            shutil.copytree(self._path, self._kept, symlinks=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._kept is not None:
            empty(os.path.dirname(self._kept))
            os.rmdir(os.path.dirname(self._kept))

    def restore(self) -> None:
        """Put it back."""
        if os.path.lexists(self._path):
            empty(self._path)
        if self._status is None:
            with suppress(FileNotFoundError):
                os.rmdir(self._path)
            return
        os.makedirs(self._path, exist_ok=True)
        if self._kept is not None:
            shutil.copytree(self._kept, self._path, symlinks=True, dirs_exist_ok=True)
        os.chmod(self._path, stat.S_IMODE(self._status.st_mode))
        os.utime(self._path, ns=(self._status.st_atime_ns, self._status.st_mtime_ns))


def empty(directory: str) -> None:
    """Remove everything in a directory, read-only directories as well."""
    os.chmod(directory, 0o700)
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                empty(entry.path)
                os.rmdir(entry.path)
            else:
                os.unlink(entry.path)
