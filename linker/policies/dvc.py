"""DVC: what dvc-objects does when it takes a file out of a cache.

A list of link types, by default clone and copy. Certain errors strike the type from the list of the
files that are transferred together; every other ends that file. A copy is made under a temporary
name and renamed, by Python's shutil, which goes from sendfile to read and write after any error of
the first call but ENOSPC: what ends a copy is what both meet. From Python 3.14 on it begins with
copy_file_range, so that a copy is a clone where that can be. A clone gets the permission bits of a
new file, exec bits or not.
"""

from __future__ import annotations

from linker.conditions import Condition as C
from linker.modes import LinkMode
from linker.policies.rows import Rows, falls, graph, modelled, told_apart
from linker.policy import Memory, Step

_FALLING = (C.CROSS_DEVICE, C.UNSUPPORTED, C.DENIED)


def _platform(platform: str) -> Rows:
    rows: Rows = ()
    for mode in (LinkMode.CLONE, LinkMode.HARDLINK, LinkMode.SYMLINK):
        rows += falls(platform, mode, LinkMode.COPY, (*_FALLING, C.AGAIN, C.ATTRIBUTE))
        rows += told_apart(platform, mode, Step.ABORT, ("EACCES",))
    rows += told_apart(platform, LinkMode.CLONE, Step.ABORT, ("EBADF", "EISDIR"))
    return graph(platform, rows)


DVC = modelled(
    name="dvc",
    rows=_platform,
    source="iterative/dvc-objects src/dvc_objects/fs/generic.py as in dvc-objects 5.2.0, November "
    "2026, and python/cpython Lib/shutil.py (3.11: _fastcopy_sendfile; "
    "3.14: _fastcopy_copy_file_range); held against both",
    default=LinkMode.CLONE,
    memory=Memory.TREE,
)
