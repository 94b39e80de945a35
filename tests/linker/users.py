"""Being somebody else for a while: root passes every permission check, and proves nothing there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NOBODY = 65534
"""An ordinary user and group: the overflow ids, which every Linux knows."""


def is_root() -> bool:
    """Return whether this process is root, or was and can be again."""
    return hasattr(os, "getresuid") and os.getresuid()[2] == 0  # neither macOS nor Windows


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Let the process be an ordinary user, with nothing of root but the way back.

    Real and effective ids change, and with the effective one the kernel drops every capability
    from use; a saved id of 0 allows to come back. Without root this changes nothing: an ordinary
    user it is already.
    """
    if not is_root():
        yield
        return
    groups, umask = os.getgroups(), os.umask(0o022)
    os.umask(umask)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, 0)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


ROOT_ONLY = pytest.mark.skipif(not is_root(), reason="only root can be root")
