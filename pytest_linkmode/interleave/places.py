"""Where actors meet: directories by their real paths, and the other spellings that lead there.

An actor may name what it does through a symbolic link. The spellings of the directories themselves
are known beforehand, at no cost for who uses the real one; `find_really` asks the filesystem too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from pytest_linkmode.faults.spec import followed


class Places:
    """Some directories; `roots` are their real paths."""

    def __init__(self, directories: Iterable[str | os.PathLike[str]]) -> None:
        given = [os.path.abspath(path) for path in directories]
        self.roots = tuple(map(os.path.realpath, given))
        self._inside = tuple(root.rstrip("/") + "/" for root in self.roots)
        self._others = {
            spelled: root
            for path, root in zip(given, self.roots, strict=True)
            for spelled in (path, followed(path))
            if spelled not in self.roots
        }

    @property
    def spelled(self) -> tuple[str, ...]:
        """Every spelling of the directories that is known."""
        return (*self.roots, *self._others)

    def find(self, path: str) -> str | None:
        """Return the real path of what is, or lies below, one of the directories; else None."""
        if path in self.roots or path.startswith(self._inside):
            return path
        for spelled, root in self._others.items():
            if path == spelled or path.startswith(f"{spelled}/"):
                return root + path[len(spelled) :]
        return None

    def find_really(self, path: str) -> str | None:
        """Return it however the path is spelled."""
        found = self.find(path)
        return found if found is not None else self.find(followed(path))
