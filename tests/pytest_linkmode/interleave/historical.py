"""Linkers as they once were in the field, written small: each has lost somebody's files.

They clone whole directories, as programs do on macOS. `Cloning` is that call made of others:
everything at once, or item by item, which a kernel may do as well.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress

from linker.platforms.linux import FICLONE
from linker.platforms.macos import ERRORS
from pytest_linkmode.interleave import Interleaver
from pytest_linkmode.models.clonefile import Model
from tests.linker.seams import REFLINKING

RENAME_NOREPLACE = 1


class Cloning:
    """Directory clones below the seam: every function that it calls is one of `calls`.

    `hidden` is a directory on the same filesystem where nobody looks.
    """

    def __init__(self, hidden: str, *, atomic: bool) -> None:
        self.calls = REFLINKING
        self._hidden = hidden
        self._atomic = atomic

    def file(self, source: str, target: str) -> None:
        """Clone a file to a name that is free (FileExistsError)."""
        writing = self.calls.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            reading = self.calls.open(source, os.O_RDONLY)
            try:
                self.calls.ficlone(writing, reading)
            finally:
                self.calls.close(reading)
        finally:
            self.calls.close(writing)

    def directory(self, source: str, target: str) -> None:
        """Clone a directory to a name that is free (FileExistsError)."""
        if not self._atomic:
            self._items(source, target)
            return
        made = f"{self._hidden}/{len(os.listdir(self._hidden))}"
        self._items(source, made)
        self.calls.renameat2(-100, made, -100, target, RENAME_NOREPLACE)  # from AT_FDCWD

    def meet(self, interleaver: Interleaver) -> None:
        """Let whoever explores have every call of this be a turn."""
        interleaver.platform(self)

    def _items(self, source: str, target: str) -> None:
        self.calls.mkdir(target)
        for name in sorted(os.listdir(source)):
            one, other = f"{source}/{name}", f"{target}/{name}"
            (self._items if os.path.isdir(one) else self.file)(one, other)

    def there(self, path: str) -> bool:
        """Return whether a name is taken."""
        return self.calls.access(path, os.F_OK, follow_symlinks=False)

    def remove(self, path: str) -> None:
        """Remove a directory with all that is in it."""
        with self.calls.listdir(path) as found:
            entries = sorted((entry.name, entry.is_dir()) for entry in found)
        for name, is_directory in entries:
            (self.remove if is_directory else self.calls.unlink)(f"{path}/{name}")
        self.calls.rmdir(path)


class Modelled(Cloning):
    """The same by clonefile(2), in the model of it."""

    def __init__(self, hidden: str, *, atomic: bool) -> None:
        super().__init__(hidden, atomic=atomic)
        self._model = Model(atomic=atomic, host=REFLINKING)

    def meet(self, interleaver: Interleaver) -> None:
        super().meet(interleaver)
        interleaver.platform(interleaver.platform(self._model), "steps")

    def directory(self, source: str, target: str) -> None:
        calls = self._model.calls
        if calls.clonefileat(-100, os.fsencode(source), -100, os.fsencode(target), 0):
            number = calls.errno()
            raise OSError(number, ERRORS[number], target)


Linker = Callable[[Cloning, str, str], object]


def _packages(source: str) -> list[str]:
    return sorted(os.listdir(source))


def delete_then_clone(cloning: Cloning, source: str, target: str) -> None:
    """What is in the way is deleted (uv 515, 925)."""
    for name in _packages(source):
        if cloning.there(f"{target}/{name}"):
            cloning.remove(f"{target}/{name}")
        cloning.directory(f"{source}/{name}", f"{target}/{name}")


def clone_and_ignore_what_exists(cloning: Cloning, source: str, target: str) -> list[str]:
    """A directory that exists is taken for complete (bun 29489).

    Returns which of its files are not there, or not whole, when it says that it is done.
    """
    for name in _packages(source):
        try:
            cloning.directory(f"{source}/{name}", f"{target}/{name}")
        except FileExistsError:
            continue
    return [path for path, size in _files(source) if not _whole(cloning, f"{target}/{path}", size)]


def descend_without_a_temporary_name(cloning: Cloning, source: str, target: str) -> None:
    """A directory that exists is merged file by file, right under the final names (uv 516)."""
    for name in sorted(os.listdir(source)):
        one, other = f"{source}/{name}", f"{target}/{name}"
        if not os.path.isdir(one):
            if cloning.there(other):
                cloning.calls.unlink(other)
            cloning.file(one, other)
            continue
        try:
            cloning.directory(one, other)
        except FileExistsError:
            descend_without_a_temporary_name(cloning, one, other)


class RemembersOneFailure:
    """One failure of the clone, whatever its reason, and the process never clones again (pnpm)."""

    def __init__(self) -> None:
        self.clones = True

    def __call__(self, cloning: Cloning, source: str, target: str) -> dict[str, str]:
        """Link file by file; return how each was linked."""
        modes = {}
        for path, _ in _files(source):
            with suppress(FileExistsError):
                cloning.calls.mkdir(os.path.dirname(f"{target}/{path}"))
            modes[path] = self._link(cloning, f"{source}/{path}", f"{target}/{path}")
        return modes

    def _link(self, cloning: Cloning, source: str, target: str) -> str:
        if self.clones:
            try:
                cloning.file(source, target)
                return "clone"
            except OSError:
                self.clones = False
        temporary = f"{target}.{os.path.basename(os.path.dirname(os.path.dirname(source)))}"
        cloning.file(source, temporary)
        cloning.calls.rename(temporary, target)
        return "copy"


def ficlone_directories(source: str, target: str) -> list[str]:
    """Try to reflink whole directories, as only macOS can, and copy them if that fails.

    Returns the directories whose clone was refused.
    """
    refused = []
    for name in _packages(source):
        reading = os.open(f"{source}/{name}", os.O_RDONLY)
        try:
            os.mkdir(f"{target}/{name}")
            writing = os.open(f"{target}/{name}", os.O_RDONLY)
            try:
                fcntl.ioctl(writing, FICLONE, reading)
            except OSError:
                refused.append(name)
                ours, theirs = f"{source}/{name}", f"{target}/{name}"
                shutil.copytree(ours, theirs, dirs_exist_ok=True, copy_function=_copy)
            finally:
                os.close(writing)
        finally:
            os.close(reading)
    return refused


def _copy(source: str, target: str) -> None:
    """Copy the data of a file by reading and writing, which never clones it."""
    with open(source, "rb") as reading, open(target, "wb") as writing:
        shutil.copyfileobj(reading, writing)


def _files(source: str) -> Iterator[tuple[str, int]]:
    for directory, _, names in os.walk(source):
        for name in sorted(names):
            path = f"{directory}/{name}"
            yield os.path.relpath(path, source), os.path.getsize(path)


def _whole(cloning: Cloning, path: str, size: int) -> bool:
    try:
        return cloning.calls.stat(path, follow_symlinks=False).st_size == size
    except FileNotFoundError:
        return False
