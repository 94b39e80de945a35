"""RATTLER: what rattler (pixi, conda's Rust half) does with a file of a package.

Each file by itself: clone, after any error but "exists" a hardlink, after that a copy; a name that
is taken is removed and tried again. Newer versions find out once for each device whether clones
work there at all. Only errors of the copy end it. On macOS whole directories are cloned first.
"""

from __future__ import annotations

from linker.modes import LinkMode
from linker.policies.rows import Rows, all_but, directories, falls, graph, modelled


def _platform(platform: str) -> Rows:
    return graph(
        platform,
        directories(platform),
        falls(platform, LinkMode.CLONE, LinkMode.HARDLINK, all_but()),
        falls(platform, LinkMode.HARDLINK, LinkMode.COPY, all_but()),
        falls(platform, LinkMode.SYMLINK, LinkMode.COPY, all_but()),
    )


RATTLER = modelled(
    name="rattler",
    rows=_platform,
    source="conda/rattler crates/rattler/src/install/link.rs at d1dc7e6 and filesystem.rs at "
    "0ad09a7, read November 2026; not run",
    default=LinkMode.CLONE,
)
