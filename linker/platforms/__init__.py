"""One file an operating system, behind one Protocol (`linker.platforms.base.Platform`)."""

from __future__ import annotations

from importlib import import_module

from linker import HERE
from linker.platforms.base import Platform

PLATFORMS = {
    "linux": ("linker.platforms.linux", "LinuxPlatform"),
    "darwin": ("linker.platforms.macos", "MacPlatform"),
    "win32": ("linker.platforms.kernel32", "system"),
}
"""`sys.platform` -> the module and the class of its primitives."""


def current() -> Platform:
    """Return the platform of the operating system that this process runs on.

    Raises RuntimeError on one that has no file here.
    """
    if HERE not in PLATFORMS:
        raise RuntimeError(f"the reference linker has no platform for {HERE!r}")
    module, name = PLATFORMS[HERE]
    found: Platform = getattr(import_module(module), name)()
    return found
