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
    """Cells by glob patterns, and the cause of their difference.

    `shown` are those of what the cause makes a program do: of anything else it is no excuse.
    """

    program: str
    mode: str
    layout: str
    scenario: str
    shown: tuple[str, ...]
    cause: str

    def covers(self, cell: Cell) -> bool:
        """Whether a cell is one of these."""
        return any(fnmatchcase(cell.shown, pattern) for pattern in self.shown) and all(
            fnmatchcase(given, pattern)
            for given, pattern in (
                (cell.program, self.program),
                (cell.mode, self.mode),
                (cell.layout, self.layout),
                (cell.scenario, self.scenario),
            )
        )


HALF = "fails, half a package left"
UNTRUE = "says that it is done; files are missing"
"""What cells show, as `predicting` words it."""

KNOWN: Sequence[Known] = (
    *(
        Known(
            program,
            "*",
            "*",
            scenario,
            shown,
            "whichever file is linked first decides, and that differs from run to run: directories "
            "list their entries, and hash tables keep them, in an order of their own",
        )
        for program, shown in (
            # uv goes on as it began or fails; pnpm goes on with what is next from there on; of pdm
            # what was linked before an error stays.
            ("uv", (HALF, "clone", "copy", "clone and copy")),
            ("pnpm-12", ("clone", "copy", "clone and *", "copy and hardlink")),
            ("pdm", (HALF,)),
        )
        for scenario in ("nested-mount", "*-file")
    ),
    Known(
        "pip",
        "copy",
        "*",
        "nested-mount",
        (UNTRUE,),
        "pip --target leaves alone what is there already, with a warning, and says that it is done",
    ),
    Known(
        "yarn",
        "hardlinks-global",
        "*",
        "immutable-file",
        (UNTRUE,),
        "yarn leaves out a file whose hardlink fails twice, and says that it is done",
    ),
    Known(
        "pdm",
        "symlink",
        "*",
        "other-owner",
        (HALF,),
        "pdm sets the bits of executables through the symlink, which are those of the cache's file",
    ),
    Known(
        "pnpm-*",
        "*",
        "*",
        "umask",
        ("clone", "copy"),
        "pnpm copies a file of its store whose permission bits are not those that the umask "
        "leaves, rather than share them (storeModeDiffers in pnpm 11)",
    ),
)
"""Every difference whose cause is known."""


def cause_of(cell: Cell) -> str:
    """Return the cause of a cell's difference, empty if it is not known."""
    return next((known.cause for known in KNOWN if known.covers(cell)), "")
