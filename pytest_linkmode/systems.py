"""What another operating system would add: the advice where the one that we run on has no way.

A package manager or a right to mount mends nothing on a system that cannot mount what is asked for.
What does is one table, by the system that has it and the one that we are on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pytest_linkmode import HERE

NAMES: Mapping[str, str] = {"linux": "Linux", "darwin": "macOS", "win32": "Windows"}
"""Names of systems by `sys.platform`."""

CLONING: Mapping[str, str] = {"linux": "btrfs", "darwin": "apfs", "win32": "refs"}
"""A filesystem of each system that clones: one whose directory is worth being named."""

_WAYS: Mapping[tuple[str, str], str] = {
    ("linux", "win32"): "run it on Linux, as in WSL 2 (wsl --install) or in CI",
    ("linux", "darwin"): "run it on Linux, as in a virtual machine, in a container or in CI",
}
"""(system that is wanted, system that we are on) -> how to get to it, where that is easy."""


def name_of(system: str) -> str:
    """Return what people call a system of `sys.platform`."""
    return NAMES.get(system, system)


def mends(systems: Iterable[str], here: str = HERE) -> tuple[str, ...]:
    """Return how to get to systems that have what the one that we are on has not."""
    return tuple(
        _WAYS.get((system, here), f"run it on {name_of(system)}, as in CI") for system in systems
    )
