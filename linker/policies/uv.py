"""UV: what uv does when it installs a wheel from its cache.

One state for each wheel: until one file was linked, the first error of any kind but "exists"
moves on to the next mode, for the whole wheel; after that, any error ends the installation,
with the half-made tree left. Where the name exists, the file is made under a temporary name and
renamed. Read from uv's `crates/uv-install-wheel/src/linker.rs` and `crates/uv-fs/src/link.rs`
and checked against uv 0.13.8 (November 2026).
"""

from __future__ import annotations

from linker.conditions import Condition as C
from linker.conditions import Primitive as P
from linker.modes import LinkMode
from linker.policy import Edge, Memory, Policy, State, Step, edges

_ORDER = (
    (LinkMode.CLONE, P.CLONE_FILE, LinkMode.HARDLINK),
    (LinkMode.HARDLINK, P.HARDLINK, LinkMode.COPY),
    (LinkMode.SYMLINK, P.SYMLINK, LinkMode.COPY),
)


def _platform(platform: str) -> tuple[Edge, ...]:
    rows: list[Edge] = []
    for mode, primitive, following in _ORDER:
        others = tuple(condition for condition in C if condition is not C.EXISTS)
        rows += edges(platform, mode, primitive, others, following, state=State.INITIAL)
        rows += edges(platform, mode, primitive, others, Step.ABORT, state=State.ESTABLISHED)
        rows += edges(platform, mode, primitive, (C.EXISTS,), Step.REPLACE)
    rows += edges(platform, None, P.RENAME, (C.EXISTS,), Step.REPLACE)
    rows += edges(platform, None, P.RENAME, (C.CROSS_DEVICE,), Step.RESTAGE)
    rows += edges(platform, None, P.LOCK, (C.UNSUPPORTED,), Step.PROCEED)
    return tuple(rows)


UV = Policy(
    name="uv",
    edges=_platform("linux"),
    source="uv 0.13.8, crates/uv-install-wheel and crates/uv-fs, read November 2026",
    default=LinkMode.CLONE,
    memory=Memory.TREE,
    confirmations=1,
    retries=0,
    undo=False,
)
