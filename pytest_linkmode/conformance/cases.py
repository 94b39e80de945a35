"""One case of the suite: a linker, a mode, a source and a target, and how it must end."""

from __future__ import annotations

import os
import pathlib
from dataclasses import dataclass

from linker.modes import LinkMode
from pytest_linkmode.adapters import Adapter, AdapterResult


@dataclass(frozen=True)
class Case:
    """Where a linker is asked for `mode`, and `expected`, the mode in which files must end.

    `source` and `target` are directories of their own, both empty at first.
    """

    linker: Adapter
    mode: LinkMode
    expected: LinkMode
    source: pathlib.Path
    target: pathlib.Path

    def link(self, mode: LinkMode | None = None) -> AdapterResult:
        """Link the source into the target. Raises AdapterError."""
        return self.linker.link(self.source, self.target, mode or self.mode)

    @property
    def outside(self) -> pathlib.Path:
        """A directory on the filesystem of the target, beside it: nobody's business."""
        path = self.target.with_name(f"{self.target.name}-outside")
        path.mkdir(exist_ok=True)
        return path

    def source_files(self) -> list[str]:
        """Return the relative paths of all files of the source."""
        return [
            os.path.relpath(os.path.join(above, name), self.source)
            for above, _, names in os.walk(self.source)
            for name in names
            if not os.path.islink(os.path.join(above, name))
        ]


def names(directory: pathlib.Path) -> list[str]:
    """Return everything below a directory, by relative path."""
    found = []
    for above, directories, files in os.walk(directory):
        found += [
            os.path.relpath(os.path.join(above, name), directory) for name in (*directories, *files)
        ]
    return sorted(found)
