"""One file an operating system, behind one Protocol (`linker.platforms.base.Platform`)."""

from __future__ import annotations

import sys

from linker.platforms.base import Platform


def current() -> Platform:
    """Return the platform of the operating system that this process runs on.

    Raises RuntimeError on one that has no file here.
    """
    if sys.platform == "linux":
        from linker.platforms.linux import LinuxPlatform

        return LinuxPlatform()
    raise RuntimeError(f"the reference linker has no platform for {sys.platform!r}")
