"""CACACHE: what the caches called cacache do when they give out content.

The Rust crate has a call for each mode, and none falls back: whoever uses it decides. npm's package
of that name only copies, by fs.copyFile, under the final name.
"""

from __future__ import annotations

from linker.modes import LinkMode
from linker.policies.rows import Rows, graph, modelled, stops


def _platform(platform: str) -> Rows:
    return graph(
        platform,
        stops(platform, LinkMode.CLONE),
        stops(platform, LinkMode.HARDLINK),
    )


CACACHE = modelled(
    name="cacache",
    rows=_platform,
    source="zkat/cacache-rs src/content/read.rs at e34dcfd, read November 2026, and npm's cacache "
    "21.0.2, against which it is held",
    default=LinkMode.COPY,
)
