"""COREUTILS: what GNU `cp -a` does with one file.

Clone (``--reflink=auto``, the default since 9.0), then copy_file_range, then read and write. Errors
that mean trouble where clones are supported (EIO, ENOMEM, ENOSPC, EDQUOT) end that file; cp goes on
with the next and fails in the end. ``-l`` and ``-s`` do not fall back. Times and modes are kept.
"""

from __future__ import annotations

from linker.conditions import Condition as C
from linker.modes import LinkMode
from linker.policies.rows import Rows, all_but, falls, graph, modelled, stops
from linker.policy import Promise


def _platform(platform: str) -> Rows:
    return graph(
        platform,
        falls(platform, LinkMode.CLONE, LinkMode.COPY, all_but(C.IO, C.NO_MEMORY, C.NO_SPACE)),
        stops(platform, LinkMode.HARDLINK),
        stops(platform, LinkMode.SYMLINK),
    )


COREUTILS = modelled(
    name="coreutils",
    rows=_platform,
    source="coreutils/coreutils src/copy.c (9.4) and src/copy-file-data.c, read November 2026; "
    "held against cp of coreutils 9.1",
    default=LinkMode.CLONE,
    waives=frozenset({Promise.PLAIN_COPY, Promise.WHOLE_NAMES, Promise.TOLD}),
)
