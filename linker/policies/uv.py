"""UV: what uv does when it installs a wheel from its cache.

One state for each wheel: until one file was linked, the first error of any kind but "exists"
moves on to the next mode, for the whole wheel; after that, any error ends the installation,
with the half-made tree left. Where the name exists, the file is made under a temporary name and
renamed. On macOS whole directories are cloned first. The default is clone on Linux and macOS and
hardlink on Windows. Neither the times of files nor anything of directories is kept, permission bits
go through the umask, and a copy is the kernel's copy_file_range.
"""

from __future__ import annotations

from linker.conditions import Condition as C
from linker.modes import LinkMode
from linker.policies.rows import WINDOWS, Rows, all_but, directories, falls, graph, modelled
from linker.policy import PRIMITIVES, Memory, State, Step, edges

_ORDER = (
    (LinkMode.CLONE, LinkMode.HARDLINK),
    (LinkMode.HARDLINK, LinkMode.COPY),
    (LinkMode.SYMLINK, LinkMode.COPY),
)


def _platform(platform: str) -> Rows:
    rows = directories(platform)
    for mode, following in _ORDER:
        # A cached file with too many links is made anew, and gets the link then.
        anew = (C.TOO_MANY_LINKS,) if mode is LinkMode.HARDLINK else ()
        primitive = PRIMITIVES[mode]
        for state, then in ((State.INITIAL, following), (State.ESTABLISHED, Step.ABORT)):
            rows += falls(platform, mode, then, all_but(*anew), state=state)
            rows += edges(platform, mode, primitive, anew, Step.RETRY, then, state=state)
        rows += edges(platform, mode, primitive, (C.EXISTS,), Step.REPLACE)
    return graph(platform, rows)


UV = modelled(
    name="uv",
    rows=_platform,
    source="astral-sh/uv crates/uv-fs/src/link.rs at f0fdfb0 and crates/uv-install-wheel, read "
    "November 2026; held against uv 0.13.8",
    default=LinkMode.CLONE,
    defaults={WINDOWS: LinkMode.HARDLINK},
    memory=Memory.TREE,
    retries=1,
)
