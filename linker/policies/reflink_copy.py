"""REFLINK_COPY: what the crate's `reflink_or_copy` does with one file.

Clone, and after any error but "missing", "denied" and "exists" a copy by the standard library,
which is copy_file_range where that works. It remembers nothing from file to file.
"""

from __future__ import annotations

from linker.conditions import Condition as C
from linker.modes import LinkMode
from linker.policies.rows import Rows, all_but, falls, graph, modelled


def _platform(platform: str) -> Rows:
    return graph(
        platform,
        falls(platform, LinkMode.CLONE, LinkMode.COPY, all_but(C.MISSING, C.DENIED)),
        replacing=False,
    )


REFLINK_COPY = modelled(
    name="reflink-copy",
    rows=_platform,
    source="cargo-bins/reflink-copy src/lib.rs at 1af6098, read November 2026; held against the "
    "Python package reflink-copy 0.3.3, which is that crate",
    default=LinkMode.CLONE,
)
