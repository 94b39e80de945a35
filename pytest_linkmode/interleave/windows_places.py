r"""Where actors meet on Windows: one name has many spellings there, and all of them are one path.

Inside of the explorer a path has slashes and no ``\\?\``, in the letters in which an actor gave it.
That upper and lower case are the same is left to what compares paths (`Folded`), so that pictures
show names as they were asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from linker.tree import fold
from pytest_linkmode.faults.spec import followed
from pytest_linkmode.interleave.footprints import Footprint
from pytest_linkmode.interleave.places import Places

_EXTENDED = (("\\\\?\\UNC\\", "\\\\"), ("\\\\?\\", ""), ("//?/UNC/", "\\\\"), ("//?/", ""))
"""What a path begins with that is not looked at by Windows itself -> what it would, if it were."""


def spelled_plainly(path: str) -> str:
    """Return an absolute path with slashes, without what Windows would take away."""
    for long, short in _EXTENDED:
        if path.startswith(long):
            path = short + path[len(long) :]
            break
    else:  # a dot or space at the end is part of the name where it is not looked at
        path = os.path.abspath(path)
    return path.replace("\\", "/").rstrip("/")


class WindowsPlaces(Places):
    """Some directories, however they are spelled; `roots` are their real paths."""

    def __init__(self, directories: Iterable[str | os.PathLike[str]]) -> None:
        given = [os.path.abspath(path) for path in directories]
        self.roots = tuple(spelled_plainly(os.path.realpath(path)) for path in given)
        self._known = {
            fold(spelled_plainly(spelled)): root
            for path, root in zip(given, self.roots, strict=True)
            for spelled in (root, path, followed(path))
        }
        self._found: dict[str, str | None] = {}

    @property
    def spelled(self) -> tuple[str, ...]:
        """Every spelling of the directories that is known."""
        return tuple(self._known)

    def find(self, path: str) -> str | None:
        """Return the real path of what is, or lies below, one of the directories; else None."""
        if not os.path.isabs(path):
            return self._looked_for(path)  # it depends on the working directory
        try:
            return self._found[path]
        except KeyError:
            found = self._found[path] = self._looked_for(path)
            return found

    def _looked_for(self, path: str) -> str | None:
        plain = spelled_plainly(path)
        folded = fold(plain)
        for spelled, root in self._known.items():
            if folded == spelled:
                return root
            if folded.startswith(f"{spelled}/"):
                # Folding may change how long a name is, but not how many there are.
                names = plain.split("/")[spelled.count("/") + 1 :]
                return "/".join((root, *names))
        return None


class Folded(dict[str, Footprint]):
    """Path -> footprint, the same in upper and lower case."""

    def __init__(self, way: Mapping[str, Footprint]) -> None:
        super().__init__()
        self._way = way

    def __missing__(self, path: str) -> Footprint:
        self[path] = self._way[fold(path)]
        return self[path]
