"""The lowest rung: what a plain user cannot mount on this machine, a guest of theirs can.

Nothing is opened here. The provider says what a guest could make, and the run then sends the
tests that need it to one (`scheduling`); there, as root of a kernel of its own, the worker makes it
like any other.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_linkmode import ladder, processes
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.filesystems import packages
from pytest_linkmode.filesystems.base import Filesystem, Kind, directory_mends
from pytest_linkmode.guests.gateway import GUEST_VARIABLE, KERNEL

if TYPE_CHECKING:
    from pytest_linkmode.config import Settings
    from pytest_linkmode.namespaces import Place

FSTYPES = frozenset({"btrfs", "ext2", "ext3", "ext4", "xfs"})
"""What the kernel of the package has built in, of what needs an image."""


@dataclass(frozen=True)
class Uml:
    """The provider."""

    name: str = "uml"
    rung: str = ladder.UML

    def missing(self, kind: Kind, settings: Settings) -> Unavailable | None:
        """Return all that stands in the way of making it in a guest."""
        absent: list[str] = []
        mends: list[str] = []
        if kind.fstype not in FSTYPES:
            absent.append(f"{kind.fstype}: not in the kernel of {KERNEL}")
        for tool in kind.tools:
            if processes.which(tool) is None:
                absent.append(f"{tool}: neither in PATH nor in {', '.join(processes.SYSTEM_PATH)}")
                mends += packages.install(tool)
        footing = look(settings)
        if footing is not None:
            absent += footing.checked
            mends += footing.mends
        if not absent:
            return None
        return Unavailable(
            f"no {kind.name} in a guest", checked=absent, mends=[*mends, *directory_mends(kind)]
        )

    @contextmanager
    def open(self, kind: Kind, place: Place, settings: Settings) -> Iterator[Filesystem]:
        """Say that it is in the guest only."""
        del place, settings
        raise Unavailable(
            f"no {kind.name} outside of a guest",
            checked=[f"{KERNEL}: makes it for tests whose parameters name it, under pytest"],
            mends=[f"run them with --linkmode-fs={kind.name}"],
        )
        yield  # type: ignore[unreachable]  # what makes this a context


def look(settings: Settings) -> Unavailable | None:
    """Return why this machine has no guests, or None."""
    del settings
    absent: list[str] = []
    mends: list[str] = []
    if in_guest():
        absent.append("guests: not inside of one")
    elif sys.platform != "linux" or platform.machine() != "x86_64":
        absent.append(f"guests: not on {platform.machine()} and {sys.platform}")
    else:
        if processes.which(KERNEL) is None:
            absent.append(f"{KERNEL}: neither in PATH nor in {', '.join(processes.SYSTEM_PATH)}")
            mends += packages.install(KERNEL)
        if importlib.util.find_spec("xdist") is None:
            absent.append("pytest-xdist: not installed")
            mends.append("pip install 'pytest-linkmode[xdist]'")
    return Unavailable("no guests", checked=absent, mends=mends) if absent else None


def in_guest() -> bool:
    """Return whether this process runs in a guest."""
    return GUEST_VARIABLE in os.environ


def made_in_guests(names: Iterable[str], settings: Settings) -> frozenset[str]:
    """Return those of these filesystems that can be had in a guest and nowhere above."""
    from pytest_linkmode.filesystems import FILESYSTEMS, provider_for

    return frozenset(
        name for name in names if provider_for(FILESYSTEMS[name], settings) == Uml().name
    )


@functools.cache
def gateway() -> str:
    """Return the specification of a worker of pytest-xdist that is a guest."""
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gateway.py")
    python = shlex.join((sys.executable, "-I", "-S", program))
    return f"popen//python={python}"
