"""CPYTHON: what `pathlib.Path.copy` of Python 3.14 does with one file.

Linux: FICLONE, copy_file_range, sendfile, read and write. From FICLONE only EBADF, EOPNOTSUPP,
ETXTBSY and EXDEV lead on; every other error is raised, with an empty file left. On macOS it copies
by fcopyfile(3), on Windows by CopyFile2. Times and permission bits are kept only if asked for.
"""

from __future__ import annotations

from linker.conditions import Condition as C
from linker.modes import LinkMode
from linker.policies.rows import LINUX, MACOS, WINDOWS, Rows, falls, graph, modelled, told_apart
from linker.policy import Step


def _platform(platform: str) -> Rows:
    if platform != LINUX:
        return graph(platform)
    clone = LinkMode.CLONE
    return graph(
        platform,
        falls(platform, clone, LinkMode.COPY, (C.CROSS_DEVICE, C.UNSUPPORTED, C.BUSY)),
        told_apart(platform, clone, LinkMode.COPY, ("EBADF",)),
        told_apart(platform, clone, Step.ABORT, ("EBUSY", "EISDIR", "ENOSYS", "ENOTTY")),
    )


CPYTHON = modelled(
    name="cpython",
    rows=_platform,
    source="python/cpython Lib/pathlib/_os.py at 002b7ec (3.14), read November 2026",
    default=LinkMode.CLONE,
    defaults={MACOS: LinkMode.COPY, WINDOWS: LinkMode.COPY},
)
