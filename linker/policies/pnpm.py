"""PNPM_11 and PNPM_12: what pnpm does when it puts a package from its store into node_modules.

pnpm 11 (TypeScript) tries the first package whole: by clone, after any error by hardlink, and where
that is "cross-device" by copy; what took the first package is the mode of the process. From then on
a clone that meets ENOTSUP, and a hardlink that meets anything but "exists", is a copy of that file.
A package that meets an error is tried once more, in a place of its own, and so is any call that
meets EAGAIN.
pnpm 12 (Rust) goes file by file with one state for the process, which only moves on: on Linux
hardlink, clone, copy, elsewhere clone, hardlink, copy. A missing file stops it, and a file with too
many links is copied alone. Modes that are asked for explicitly have graphs of their own.
"""

from __future__ import annotations

from linker.conditions import Condition as C
from linker.modes import LinkMode
from linker.policies.rows import (
    LINUX,
    WINDOWS,
    Rows,
    all_but,
    falls,
    graph,
    modelled,
    stops,
    told_apart,
)
from linker.policy import PRIMITIVES, Memory, State, Step, edges

_CLONE, _HARDLINK, _COPY = LinkMode.CLONE, LinkMode.HARDLINK, LinkMode.COPY
_SOURCE_11 = (
    "pnpm/pnpm fs/indexed-pkg-importer as bundled in pnpm 11.28.10 (dist/pnpm.mjs), November 2026"
)
_SOURCE_12 = (
    "pnpm/pnpm pacquet/crates/package-manager/src/link_file.rs at ac367fc and pull request 14012 "
    "(August 2026), read November 2026; held against pnpm 12.21.0"
)


def _twice(
    platform: str, mode: LinkMode, otherwise: LinkMode | Step, but: Rows, state: State
) -> Rows:
    """Return what an error of a package means: once more in a place of its own, then `otherwise`.

    `but` are the lines for those conditions that mean something else.
    """
    conditions = all_but(*(edge.condition for edge in but if not edge.error))
    rows = edges(platform, mode, PRIMITIVES[mode], conditions, Step.RETRY, otherwise, state=state)
    return (*rows, *but)


def _not_supported(platform: str, state: State = State.ANY) -> Rows:
    """Return the one way on of a clone that is wanted: what Node calls ENOTSUP, and no other.

    What means the same is an error of the package, as any other: it is tried once more.
    """
    others = ("EISDIR", "ENOSYS", "ENOTTY")
    return (
        *falls(platform, _CLONE, _COPY, (C.UNSUPPORTED,), state=state, memory=Memory.FILE),
        *told_apart(platform, _CLONE, Step.RETRY, others, state=state),
    )


def _graph_11(platform: str, *rows: Rows) -> Rows:
    """Return the whole graph: a package whose copy meets an error is tried once more as well."""
    copies = edges(platform, _COPY, PRIMITIVES[_COPY], all_but(), Step.RETRY)
    return graph(platform, *rows, copies)


def _auto_11(platform: str) -> Rows:
    established = _not_supported(platform, State.ESTABLISHED)
    rows = (
        *_twice(platform, _CLONE, _HARDLINK, (), State.INITIAL),
        *_twice(platform, _CLONE, Step.ABORT, established, State.ESTABLISHED),
        *falls(platform, _HARDLINK, _COPY, (C.CROSS_DEVICE,), state=State.INITIAL),
        *falls(
            platform,
            _HARDLINK,
            _COPY,
            (C.CROSS_DEVICE,),
            state=State.ESTABLISHED,
            memory=Memory.FILE,
        ),
        *falls(platform, _HARDLINK, _COPY, all_but(C.CROSS_DEVICE, C.AGAIN), memory=Memory.FILE),
        *_again_11(platform, Memory.FILE),
    )
    return _graph_11(platform, rows)


def _again_11(platform: str, memory: Memory | None = None) -> Rows:
    """Return what EAGAIN of a hardlink means: pnpm's file functions try it again by themselves."""
    primitive = PRIMITIVES[_HARDLINK]
    return edges(platform, _HARDLINK, primitive, (C.AGAIN,), Step.RETRY, _COPY, memory=memory)


def _hardlink_11(platform: str) -> Rows:
    rows = falls(platform, _HARDLINK, _COPY, all_but(C.AGAIN))
    return _graph_11(platform, rows, _again_11(platform))


def _clone_11(platform: str) -> Rows:
    rows = _twice(platform, _CLONE, Step.ABORT, _not_supported(platform), State.ANY)
    return _graph_11(platform, rows)


def _clone_or_copy_11(platform: str) -> Rows:
    established = _not_supported(platform, State.ESTABLISHED)
    rows = (
        *_twice(platform, _CLONE, _COPY, (), State.INITIAL),
        *_twice(platform, _CLONE, Step.ABORT, established, State.ESTABLISHED),
    )
    return _graph_11(platform, rows)


def _auto_12(platform: str) -> Rows:
    first, second = (_HARDLINK, _CLONE) if platform == LINUX else (_CLONE, _HARDLINK)
    # On Windows a permission that is lacking is lacking in every mode.
    stopping = (C.MISSING, C.DENIED) if platform == WINDOWS else (C.MISSING,)
    rows: Rows = ()
    for mode, following in ((first, second), (second, _COPY)):
        alone = (C.TOO_MANY_LINKS,) if mode is _HARDLINK else ()
        rows += falls(platform, mode, following, all_but(*stopping, *alone))
        rows += falls(platform, mode, _COPY, alone, memory=Memory.FILE)
    return graph(platform, rows)


def _hardlink_12(platform: str) -> Rows:
    return graph(platform, falls(platform, _HARDLINK, _COPY, (C.CROSS_DEVICE, C.TOO_MANY_LINKS)))


def _clone_12(platform: str) -> Rows:
    return graph(platform, stops(platform, _CLONE))


def _clone_or_copy_12(platform: str) -> Rows:
    stopping = (C.MISSING, C.DENIED) if platform == WINDOWS else (C.MISSING,)
    return graph(platform, falls(platform, _CLONE, _COPY, all_but(*stopping)))


PNPM_11 = modelled(
    name="pnpm-11",
    rows=_auto_11,
    retries=1,
    source=_SOURCE_11,
    default=_CLONE,
    defaults={WINDOWS: _HARDLINK},
    memory=Memory.PROCESS,
    settles=Memory.TREE,
    restarts=True,
    undo=True,
)
PNPM_11_HARDLINK = modelled(
    name="pnpm-11-hardlink",
    rows=_hardlink_11,
    retries=1,
    source=_SOURCE_11,
    default=_HARDLINK,
    undo=True,
)
PNPM_11_CLONE = modelled(
    name="pnpm-11-clone",
    rows=_clone_11,
    retries=1,
    source=_SOURCE_11,
    default=_CLONE,
    undo=True,
)
PNPM_11_CLONE_OR_COPY = modelled(
    name="pnpm-11-clone-or-copy",
    rows=_clone_or_copy_11,
    retries=1,
    source=_SOURCE_11,
    default=_CLONE,
    memory=Memory.PROCESS,
    settles=Memory.TREE,
    restarts=True,
    undo=True,
)
PNPM_12 = modelled(
    name="pnpm-12",
    rows=_auto_12,
    source=_SOURCE_12,
    default=_CLONE,
    defaults={LINUX: _HARDLINK},
    memory=Memory.PROCESS,
    undo=True,
)
PNPM_12_HARDLINK = modelled(
    name="pnpm-12-hardlink",
    rows=_hardlink_12,
    source=_SOURCE_12,
    default=_HARDLINK,
    undo=True,
)
PNPM_12_CLONE = modelled(
    name="pnpm-12-clone",
    rows=_clone_12,
    source=_SOURCE_12,
    default=_CLONE,
    undo=True,
)
PNPM_12_CLONE_OR_COPY = modelled(
    name="pnpm-12-clone-or-copy",
    rows=_clone_or_copy_12,
    source=_SOURCE_12,
    default=_CLONE,
    memory=Memory.PROCESS,
    undo=True,
)
