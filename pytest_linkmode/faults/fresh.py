"""A directory that is put back as it was, before every case of a sweep."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from types import TracebackType

from pytest_linkmode.errors import LinkmodeError, UsageError
from pytest_linkmode.opening import any_length


class Fresh:
    """Remembers what a directory holds when it is entered, and puts that back when asked.

    The directory itself stays the same one. Names, types, bytes, permission bits and modification
    times are put back; hard links become files of their own. A directory that is not there yet is
    taken away again. Whatever has taken its place, a symlink above all, is removed and never
    followed. Entering raises UsageError for what is no directory.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._named = os.path.abspath(directory)
        self._link = os.readlink(self._named) if os.path.islink(self._named) else None
        self._path = os.path.realpath(directory)
        self._kept: str | None = None
        self._status: os.stat_result | None = None

    def __enter__(self) -> Fresh:
        with suppress(FileNotFoundError):
            self._status = os.stat(self._path)
        if self._status is not None and not stat.S_ISDIR(self._status.st_mode):
            raise UsageError(
                f"{self._named} cannot be put back after every case",
                why="it is no directory",
                hint="name a directory, or a path where nothing is yet",
            )
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
        """Put it back. Raises LinkmodeError where a directory above it has become a symlink."""
        above = os.path.dirname(self._path)
        if os.path.realpath(above) != above:
            raise LinkmodeError(
                f"{self._path} cannot be put back",
                why=f"{above} leads to {os.path.realpath(above)} by now",
                hint="have what runs leave the directories above the target alone",
            )
        if self._link is not None and _text(self._named) != self._link:
            _remove(self._named)
            os.symlink(self._link, self._named)
        if self._status is None or not _is_directory(self._path):
            _remove(self._path)
        else:
            empty(self._path)
        if self._status is None:
            return
        os.makedirs(self._path, exist_ok=True)
        if self._kept is not None:
            shutil.copytree(self._kept, self._path, symlinks=True, dirs_exist_ok=True)
        os.chmod(self._path, stat.S_IMODE(self._status.st_mode))
        os.utime(self._path, ns=(self._status.st_atime_ns, self._status.st_mtime_ns))


def _text(path: str) -> str | None:
    """Return where a symlink leads, None if there is none."""
    return os.readlink(path) if os.path.islink(path) else None


def _is_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _remove(path: str) -> None:
    """Remove whatever has a name, if anything has."""
    if _is_directory(path):
        empty(path)
        os.rmdir(path)
    elif os.path.lexists(path):
        os.unlink(path)


def empty(directory: str) -> None:
    """Remove everything in a directory, read-only directories as well. Raises NotADirectoryError
    for a symlink, wherever it leads.
    """
    if os.path.islink(directory):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), directory)
    _empty(any_length(directory))


def _empty(directory: str) -> None:
    os.chmod(directory, 0o700)
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _empty(entry.path)
                os.rmdir(entry.path)
            elif os.name == "nt" and not entry.stat(follow_symlinks=False).st_mode & stat.S_IWRITE:
                _remove_read_only(directory, entry.name)
            else:
                os.unlink(entry.path)


def _remove_read_only(directory: str, name: str) -> None:
    """Remove a file as Windows lets one: its attribute goes, which other names of it must keep."""
    from linker.platforms import current
    from linker.platforms.base import Failed

    platform = current()
    handle = platform.open_root(directory)
    try:
        platform.remove_file(handle, name)
    except Failed as failed:
        raise failed.error from failed
    finally:
        platform.close(handle)
