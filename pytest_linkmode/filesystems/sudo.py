"""A filesystem of any type the kernel knows, for an ordinary user whom sudo trusts.

The tests stay in a user and mount namespace of their own, in which nobody can use a loop device;
a root helper (`sudo_helper`), started before, makes the filesystem and hands it over as a mount
that is attached nowhere. This process attaches it inside of its namespace, and nothing can leak.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_linkmode import HERE, kernel, namespaces, privileges, processes, rungs
from pytest_linkmode.config import Settings
from pytest_linkmode.errors import LinkmodeError, Unavailable
from pytest_linkmode.filesystems import detached, mounts, packages
from pytest_linkmode.filesystems.base import Filesystem, Kind, attempted, directory_mends
from pytest_linkmode.namespaces import Place

VARIABLE = "LINKMODE_HELPER"
"""The token by which children of this process find the helper."""

PATIENCE = 20.0
"""How long the helper may take to start, in seconds; usually it is a tenth of one."""
WORK = 120.0
"""How long it may take to make one filesystem."""

NEWS = (5, 8)
"""The first kernel that has the calls for it: LOOP_CONFIGURE, and before it those of `detached`."""


class HelperMissing(LinkmodeError):
    """There is no helper, and none can be started."""


@dataclass(frozen=True)
class Sudo:
    """The provider."""

    name: str = "sudo"
    rung: str = rungs.SUDO

    def missing(self, kind: Kind, settings: Settings) -> Unavailable | None:
        """Return all that stands in the way. Starts the helper, if nothing else does.

        That is the only way to know whether sudo would, and inside of a user namespace it is too
        late to ask.
        """
        absent: list[str] = []
        mends: list[str] = []
        for tool in kind.tools:
            if processes.which(tool) is None:
                absent.append(f"{tool}: neither in PATH nor in {', '.join(processes.SYSTEM_PATH)}")
                mends += packages.install(tool)
        footing = look(settings)
        if footing is not None:
            absent += footing.checked
            mends += footing.mends
        if settings.image_dir is not None and not os.access(settings.image_dir, os.W_OK | os.X_OK):
            absent.append(f"{settings.image_dir}: not a directory that can be written to")
            mends.append("name another directory: --linkmode-image-dir=DIR")
        if not absent:
            return None
        return Unavailable(
            f"no {kind.name} by sudo", checked=absent, mends=[*mends, *directory_mends(kind)]
        )

    @contextmanager
    def open(self, kind: Kind, place: Place, settings: Settings) -> Iterator[Filesystem]:
        """Let the helper make one, and attach it for as long as the context lasts."""
        size = max(settings.image_size, kind.least_size)
        mount = _attached(kind, size, place, settings)
        with attempted(mount, f"no {kind.name} by sudo", directory_mends(kind)) as path:
            entry = kernel.mount_at(path)
            yield Filesystem(
                kind.name,
                path,
                self.name,
                made=True,
                facts={
                    "device": entry.source if entry else "",
                    "options": entry.options if entry else "",
                    "images": settings.image_dir or "memory",
                },
            )


def look(settings: Settings) -> Unavailable | None:
    """Return why this machine has not got this rung, or None: then there is a helper."""
    absent = ""
    mends: tuple[str, ...] = ()
    if HERE != "linux":
        absent = f"a root helper: not on {HERE}"
    elif kernel.release() < NEWS:
        absent = f"a root helper: from Linux {NEWS[0]}.{NEWS[1]} on"
    elif os.geteuid() == 0:
        absent = "passwordless sudo: not for root"
    else:
        refused = rungs.missing_right(settings)
        if refused is None and settings.namespace != namespaces.HOST:
            try:
                find_helper()
            except HelperMissing as missing:
                absent, mends = missing.why, packages.install("sudo")
                if processes.which("sudo"):
                    mends = ("let this user run it without a password: `visudo`, NOPASSWD",)
        elif refused is None:
            absent = "a root helper: only for a private mount namespace"
        else:
            return refused
    return Unavailable("no sudo", checked=[absent], mends=mends) if absent else None


@contextmanager
def _attached(kind: Kind, size: int, place: Place, settings: Settings) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        descriptor = ask(kind.name, size, settings.image_dir)
        mount = mounts.mounted(
            place,
            kind.name,
            lambda path: detached.attach(descriptor, path),
            source="",
            fstype=kind.fstype,
            keep=settings.keep,
        )
        try:
            path = stack.enter_context(mount)
        finally:
            os.close(descriptor)  # else unmounting would find it busy
        yield path


def ask(name: str, size: int, directory: str | None = None) -> int:
    """Let the helper make a filesystem; return the descriptor of its mount.

    Raises HelperMissing, LinkmodeError with what the helper said, OSError.
    """
    token = find_helper()
    with contextlib.ExitStack() as stack:
        given: list[int] = []
        if directory is not None:
            given.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            stack.callback(os.close, given[0])
        connection = stack.enter_context(_connected(token))
        connection.settimeout(WORK)
        socket.send_fds(connection, [json.dumps({"kind": name, "size": size}).encode()], given)
        message, received, _, _ = socket.recv_fds(connection, 1 << 16, 1)
    if received:
        return received[0]
    said = json.loads(message) if message else {"failed": "the helper is gone"}
    raise LinkmodeError(f"no {name} by sudo", why=said.get("failed") or said.get("refused", ""))


def find_helper() -> str:
    """Return the token of the helper: of the one that a parent started, else of a new one.

    Raises HelperMissing.
    """
    inherited = os.environ.get(VARIABLE, "")
    if inherited.isalnum():
        with contextlib.suppress(OSError), _connected(inherited):
            return inherited
    found = _start()
    if isinstance(found, HelperMissing):
        raise found
    os.environ[VARIABLE] = found
    return found


@functools.cache
def _start() -> str | HelperMissing:
    """Start a helper, or remember why there is none: sudo reports whom it had to refuse."""
    what = "there is no root helper"
    if privileges.in_user_namespace():
        return HelperMissing(what, why="sudo: not from within a user namespace")
    sudo = processes.which("sudo")
    if sudo is None:
        return HelperMissing(what, why="sudo: not installed")
    token = os.urandom(16).hex()
    program = os.path.join(os.path.dirname(__file__), "sudo_helper.py")
    command = (sudo, "-n", "--", sys.executable, "-I", "-S", program, token)
    try:
        helper = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
            cwd="/",
        )
    except OSError as error:
        return HelperMissing(what, why=f"sudo: {error.strerror or error}")
    assert helper.stdout is not None
    ready, _, _ = select.select([helper.stdout], [], [], PATIENCE)
    line = helper.stdout.readline().strip() if ready else b""
    if line == b"ready":
        atexit.register(_dismiss, helper, os.getpid())
        return token
    said = _dismiss(helper, os.getpid()).strip() or "no answer"
    return HelperMissing(what, why=f"sudo -n: {said.splitlines()[-1]}")


def _dismiss(helper: subprocess.Popen[bytes], pid: int) -> str:
    """End the helper by ending its input; return what it complained about."""
    if os.getpid() != pid:
        return ""
    try:
        _, complaints = helper.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        helper.kill()
        _, complaints = helper.communicate()
    return complaints.decode("utf-8", "replace")


@contextmanager
def _connected(token: str) -> Iterator[socket.socket]:
    from pytest_linkmode.filesystems.sudo_helper import address

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(address(token))
        yield connection
