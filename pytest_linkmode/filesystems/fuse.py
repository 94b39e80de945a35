"""Filesystems that a daemon serves (FUSE): those that no kernel here can mount, and odd ones.

What is served lies in an image behind a loop device, or in a tmpfs of ours. The daemon dies with
the run, whatever ends that (see `keeper`), and an unmount ends it in peace.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from pytest_linkmode import HERE, kernel, namespaces, processes
from pytest_linkmode.config import Settings
from pytest_linkmode.errors import LinkmodeError, Unavailable
from pytest_linkmode.filesystems import keeper, loop, mounts, packages, templates
from pytest_linkmode.filesystems.base import (
    Filesystem,
    Kind,
    OwnedStack,
    attempted,
    directory_mends,
)
from pytest_linkmode.namespaces import Place

DEVICE = "/dev/fuse"


@dataclass(frozen=True)
class Daemon:
    """How a daemon is started: a command with ``{source}`` and ``{point}``.

    `image` says that it serves what lies in an image; otherwise it shows a directory.
    """

    command: tuple[str, ...]
    image: bool = True

    def arguments(self, source: str, point: str) -> tuple[str, ...]:
        """Return the command that serves `source` at the directory `point`."""
        return tuple(word.format(source=source, point=point) for word in self.command)


DAEMONS: Mapping[str, Daemon] = {
    "exfat": Daemon(("mount.exfat-fuse", "{source}", "{point}")),
    # Without `permissions` every file has all bits, and chmod says that it worked. The daemon of
    # the low level knows files by inode: to the other, two names of one are two files, each with
    # a cache of its own.
    "ntfs": Daemon(("lowntfs-3g", "-o", "permissions", "{source}", "{point}")),
    # The same is true of this one, so that nothing may be believed for long.
    "bindfs": Daemon(
        ("bindfs", "-o", "attr_timeout=0,entry_timeout=0", "{source}", "{point}"), image=False
    ),
}
"""Filesystem -> the daemon that serves it."""


def programs(kind: Kind) -> tuple[str, ...]:
    """Return the programs that it takes: the daemon, and what makes the image that it serves."""
    return (DAEMONS[kind.name].command[0], *kind.tools)


@dataclass(frozen=True)
class Fuse:
    """The provider."""

    name: str = "fuse"
    rung: str = "root"

    def missing(self, kind: Kind, settings: Settings) -> Unavailable | None:
        """Return all that stands in the way."""
        del settings
        daemon = DAEMONS[kind.name]
        absent: list[str] = []
        mends: list[str] = []
        if HERE != "linux":
            absent.append(f"FUSE: not on {HERE}")
        elif not kernel.may_mount():
            absent.append("the right to mount (CAP_SYS_ADMIN): missing")
            mends += namespaces.mount_mends()
        for device in (DEVICE, *([loop.CONTROL] if daemon.image else [])):
            if HERE == "linux" and not os.access(device, os.R_OK | os.W_OK):
                there = "may not be opened" if os.path.exists(device) else "not there"
                absent.append(f"{device}: {there}")
                mends += namespaces.mount_mends()
        for tool in programs(kind):
            if processes.which(tool) is None:
                absent.append(f"{tool}: neither in PATH nor in {', '.join(processes.SYSTEM_PATH)}")
                mends += packages.install(tool)
        if not absent:
            return None
        return Unavailable(
            f"no {kind.name} by a daemon", checked=absent, mends=[*mends, *directory_mends(kind)]
        )

    @contextmanager
    def open(self, kind: Kind, place: Place, settings: Settings) -> Iterator[Filesystem]:
        """Start a daemon that serves one for as long as the context lasts."""
        what = f"no {kind.name} by a daemon"
        with attempted(_served(kind, place, settings), what, directory_mends(kind)) as path:
            there = kernel.mount_at(path)
            facts = {"daemon": DAEMONS[kind.name].command[0]}
            if there is not None:
                facts |= {"device": there.source, "options": there.options}
            yield Filesystem(kind.name, path, self.name, made=True, facts=facts)


@contextmanager
def _served(kind: Kind, place: Place, settings: Settings) -> Iterator[str]:
    daemon = DAEMONS[kind.name]
    with ExitStack() as stack:
        # What is served stays until nobody serves it.
        source = stack.enter_context(_source(daemon, kind, place, settings))
        started: list[int] = []
        stack.callback(_end, started)
        above = stack.enter_context(_shared_tmpfs(place, kind.name))
        path = os.path.join(above, "root")
        os.mkdir(path)

        def mount(path: str) -> None:
            directory = place.path if place.private else above
            started.append(_start(daemon.arguments(source, path), directory))

        fstype = "fuseblk" if daemon.image else "fuse"
        stack.enter_context(mounts.mounted_on(place, path, mount, source="", fstype=fstype))
        yield path


@contextmanager
def _shared_tmpfs(place: Place, name: str) -> Iterator[str]:
    """Give a directory from which mounts travel to and from the namespace of a daemon."""

    def mount(path: str) -> None:
        kernel.mount(name, path, "tmpfs", kernel.MS_NOSUID, "mode=0755,size=4k")
        kernel.mount("none", path, flags=kernel.MS_SHARED)

    with mounts.mounted(place, name, mount, source=name, fstype="tmpfs") as path:
        yield path


@contextmanager
def _source(daemon: Daemon, kind: Kind, place: Place, settings: Settings) -> Iterator[str]:
    """Give the block device or the directory that a daemon is to serve."""
    with OwnedStack() as stack:
        if daemon.image:
            size = max(settings.image_size, kind.least_size)
            image = stack.enter_context(loop.image(settings.image_dir or place.path, size))
            templates.format_image(kind, image.descriptor, image.path)
            yield stack.enter_context(loop.attached(image, place, kind.name))
        else:
            options = f"mode=0755,size={settings.image_size}"
            yield stack.enter_context(
                mounts.mounted(
                    place,
                    f"below-{kind.name}",
                    lambda path: kernel.mount(kind.name, path, "tmpfs", kernel.MS_NOSUID, options),
                    source=kind.name,
                    fstype="tmpfs",
                )
            )


def _start(command: tuple[str, ...], directory: str) -> int:
    """Start a daemon that dies with this process; return a pidfd of its keeper.

    It mounts below `directory`, and holds nothing there once it has.

    Raises CommandFailed, OSError.
    """
    program = processes.which(command[0]) or command[0]
    run = os.pidfd_open(os.getpid())
    try:
        python = (sys.executable, "-I", "-S", keeper.__file__)
        arguments = (*python, str(run), directory, program, *command[1:])
        done = processes.run(arguments, pass_fds=(run,))
    finally:
        os.close(run)
    try:
        return os.pidfd_open(int(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError, ProcessLookupError):
        raise LinkmodeError(f"{command[0]} ended at once", why=done.stderr.strip()) from None


def _end(started: list[int]) -> None:
    """See to it that no daemon is left: what was unmounted ends by itself, the rest is killed."""
    import select
    import signal

    for pidfd in started:
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(_PATIENCE):
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                poll.poll()
        finally:
            os.close(pidfd)


_PATIENCE = 2000
"""Milliseconds that a daemon has to write what it has not written yet."""
