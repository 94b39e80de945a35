"""BUN: what `bun install` does with a package from its cache.

On macOS it clones the package's directory, or each of its directories; elsewhere it hardlinks file
by file. What meets "cross-device" (a clone also "unsupported", a hardlink also "denied") is copied
from then on, the package at hand from its first file; every other error ends the package, of which
nothing is left. Its copies are FICLONE where that works, then copy_file_range, sendfile, read and
write. Where a name is taken the file is removed and linked again.
"""

from __future__ import annotations

from linker.conditions import Condition as C
from linker.modes import LinkMode
from linker.policies.rows import (
    MACOS,
    WINDOWS,
    Rows,
    all_but,
    directories,
    falls,
    graph,
    modelled,
    stops,
)
from linker.policy import Memory

_CLONE, _HARDLINK, _COPY = LinkMode.CLONE, LinkMode.HARDLINK, LinkMode.COPY


def _platform(platform: str) -> Rows:
    if platform == WINDOWS:  # what cannot be hardlinked is copied there and then
        return graph(
            platform,
            falls(platform, _HARDLINK, _COPY, all_but(), memory=Memory.FILE),
            stops(platform, LinkMode.SYMLINK),
        )
    return graph(
        platform,
        directories(platform),
        falls(platform, _CLONE, _COPY, (C.CROSS_DEVICE, C.UNSUPPORTED)),
        falls(platform, _HARDLINK, _COPY, (C.CROSS_DEVICE, C.DENIED)),
        stops(platform, LinkMode.SYMLINK),
    )


BUN = modelled(
    name="bun",
    rows=_platform,
    source="oven-sh/bun src/install/PackageInstall.rs at 4244fa8, read November 2026; held against "
    "bun 1.4.5",
    default=_HARDLINK,
    defaults={MACOS: _CLONE},
    memory=Memory.PROCESS,
    undo=True,
    restarts=True,
)
