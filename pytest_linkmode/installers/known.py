"""Where a program does something else than its policy, and why: looked into, and not mended.

A difference that stands here is listed with its cause; any other is a finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pytest_linkmode.installers.matrix import Cell


@dataclass(frozen=True)
class Known:
    """Cells by glob patterns, and the cause of their difference."""

    program: str
    mode: str
    layout: str
    scenario: str
    cause: str

    def covers(self, cell: Cell) -> bool:
        """Whether a cell is one of these."""
        return all(
            fnmatchcase(given, pattern)
            for given, pattern in (
                (cell.program, self.program),
                (cell.mode, self.mode),
                (cell.layout, self.layout),
                (cell.scenario, self.scenario),
            )
        )


KNOWN: Sequence[Known] = (
    *(
        Known(
            "cp",
            "reflink=auto",
            "*",
            f"fault:clone:{error}:*",
            "cp before 9.2 copies after any error of a clone; the policy is that of 9.4",
        )
        for error in ("ENOSPC", "EIO")
    ),
    *(
        Known(
            "cp",
            mode,
            "*",
            "*",
            "cp goes on with the next file after an error and fails in the end; the reference "
            "linker stops at the first",
        )
        for mode in ("reflink=always", "link")
    ),
    Known(
        "pdm",
        "symlink",
        "*",
        "fault:symlink:*",
        "pdm's second try meets the symlinks that its first one left, and refuses them as leading "
        "out of the target",
    ),
    Known(
        "dvc-objects",
        "copy",
        "*",
        "fault:copy:*",
        "Python's shutil goes from sendfile to read and write after the first error, under a "
        "temporary name by which the fault does not know the file",
    ),
    Known(
        "pnpm-*",
        "*",
        "*",
        "umask",
        "under another umask than its store was made with, pnpm copies rather than share a mode",
    ),
)
"""Every difference whose cause is known."""


def cause_of(cell: Cell) -> str:
    """Return the cause of a cell's difference, empty if it is not known."""
    return next((known.cause for known in KNOWN if known.covers(cell)), "")
