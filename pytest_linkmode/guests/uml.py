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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_linkmode import HERE, privileges, processes, rungs
from pytest_linkmode.errors import Unavailable, UsageError
from pytest_linkmode.filesystems import packages
from pytest_linkmode.filesystems.base import Filesystem, Kind, directory_mends
from pytest_linkmode.guests import xstate
from pytest_linkmode.guests.gateway import KERNEL

if TYPE_CHECKING:
    import argparse

    from pytest_linkmode.config import Settings
    from pytest_linkmode.namespaces import Place

GATEWAY = "gateway.py"
"""The program that xdist starts in place of a Python: by it, a worker is known to be a guest."""

RESTARTS = "4"
"""How many workers that have crashed are replaced: as pytest-xdist does for each of `-n`."""

FSTYPES = frozenset({"btrfs", "ext2", "ext3", "ext4", "overlay", "tmpfs", "xfs"})
"""What the kernel of the package has, of what we make."""


@dataclass(frozen=True)
class Uml:
    """The provider."""

    name: str = "uml"
    rung: str = rungs.UML

    def missing(self, kind: Kind, settings: Settings) -> Unavailable | None:
        """Return all that stands in the way of making it in a guest."""
        absent: list[str] = []
        mends: list[str] = []
        if settings.image_dir is not None and not os.path.isdir(settings.image_dir):
            absent.append(f"{settings.image_dir}: no directory; guests do not stand in for it")
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
            mends=[f"have pytest run them there: pytest --linkmode-fs={kind.name}"],
        )
        yield  # type: ignore[unreachable]  # what makes this a context


def look(settings: Settings) -> Unavailable | None:
    """Return why this machine has no guests, or None."""
    del settings
    absent: list[str] = []
    mends: list[str] = []
    if privileges.in_guest():
        absent.append("guests: not inside of one")
    elif HERE != "linux" or platform.machine() != "x86_64":
        absent.append(f"guests: not on {platform.machine()} and {HERE}")
    else:
        for tool, why in programs().items():
            if processes.which(tool) is None:
                where = ", ".join(processes.SYSTEM_PATH)
                absent.append(f"{tool}{why}: neither in PATH nor in {where}")
                mends += packages.install(tool)
        if importlib.util.find_spec("xdist") is None:
            absent.append("pytest-xdist: not installed")
            mends.append("pip install 'pytest-linkmode[xdist]'")
    return Unavailable("no guests", checked=absent, mends=mends) if absent else None


def programs() -> Mapping[str, str]:
    """Return the programs that guests take on this machine, and why, where that is not plain."""
    why = ", as this processor has AMX, of which the kernel of the package does not know"
    return {KERNEL: "", **({xstate.COMPILER: why} if xstate.is_large() else {})}


def within(settings: Settings) -> Settings:
    """Return what settings of the host mean in a guest: root makes everything, as on top."""
    provider = None if settings.provider == rungs.UML else settings.provider
    return replace(settings, provider=provider, dirs={}, image_dir=None)


def send_for(options: argparse.Namespace, *, everything: bool) -> None:
    """Let pytest-xdist start a guest, beside the workers it has or one more on the host.

    With `everything` all tests run in the guest. Raises UsageError.
    """
    if getattr(options, "usepdb", False):
        raise UsageError("--pdb", why="the tests run in a guest", hint="leave it out")
    if not hasattr(options, "tx"):
        raise UsageError("-p no:xdist", why="guests are its workers", hint="leave it out")
    host = [] if everything else list(options.tx) or ["popen"]
    options.tx = [*host, gateway()]
    if options.dist == "no":
        options.dist = "load"
    if options.maxworkerrestart is None and not options.numprocesses:
        # Without -n pytest-xdist would put a new one in the place of each that cannot start.
        options.maxworkerrestart = RESTARTS


@functools.cache
def gateway() -> str:
    """Return the specification of a worker of pytest-xdist that is a guest."""
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), GATEWAY)
    python = shlex.join((sys.executable, "-I", "-S", program))
    return f"popen//python={python}"
