"""What Wine fakes: the one table of it. A test that needs the real thing is marked with its name.

Such a test runs on Windows, and on Linux where a model answers the calls; on Wine it is skipped,
and `scripts/run-wine` holds the number of skips against what was collected.
"""

from __future__ import annotations

import functools
import sys

import pytest

from linker import LinkMode

FAKED = {
    "symlinks": "CreateSymbolicLinkW claims success and makes nothing (Wine 8 to 10)",
    "block-clones": "no filesystem of Wine clones blocks, whatever lies below its drives",
    "link-limit": "a file may have as many names as the filesystem below the drive allows",
    "posix-rename": "FileRenameInfoEx is not known: an open file cannot be replaced",
    "extents": "FSCTL_GET_RETRIEVAL_POINTERS tells of an extent that ends before it begins",
    "sparse": "FSCTL_SET_SPARSE and allocated ranges are not told of files",
}
"""What is faked -> how."""


@functools.cache
def here() -> bool:
    """Return whether this is Wine."""
    from linker.platforms import kernel32

    return sys.platform == "win32" and bool(kernel32.wine_version())


def told(what: str) -> str:
    """Return the reason of a skip for what is faked."""
    return f"faked by Wine: {FAKED[what]}"


def needs(item: pytest.Item) -> list[str]:
    """Return what a test needs that Wine fakes: by its marks, or because it links by symlinks."""
    found = [mark.args[0] for mark in item.iter_markers("faked")]
    callspec = getattr(item, "callspec", None)
    given = callspec.params.values() if callspec is not None else ()
    if any(each is LinkMode.SYMLINK for each in given):
        found.append("symlinks")
    return found


def need(what: str) -> None:
    """Skip the test that runs, on Wine, for what it fakes."""
    if here():
        pytest.skip(told(what))
