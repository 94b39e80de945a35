"""The root helper: it makes filesystems for one ordinary user, and can do nothing else.

`sudo` starts it, as a program of its own: ``python -I -S sudo_helper.py TOKEN``. It listens on an
abstract socket, to processes of the user who called sudo alone, until its standard input ends. A
request is one message, ``{"kind": "btrfs", "size": 2147483648}``, where `kind` is a row of
`FILESYSTEMS` that has a mkfs; anything else is refused. The answer is the descriptor of a mount
that is attached nowhere, made on an image of the helper's own.

What keeps it harmless: it opens no path that comes from the caller, and runs nothing but the mkfs
of the table, from the directories of the system, in an empty environment. The image has no name,
so that nobody can change it while the kernel reads it. The mount has neither devices nor setuid
programs in effect; the helper never attaches it, so that it can only appear in a namespace in which
the caller may mount anyway, and is gone with the caller. A directory for the image, where one is
wanted, comes as a descriptor, and is used with the rights of the caller.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    # Isolated and without site: nothing but the standard library and this very package.
    _HERE = os.path.dirname(os.path.abspath(__file__))
    sys.path.append(os.path.dirname(os.path.dirname(_HERE)))

from pytest_linkmode import processes
from pytest_linkmode.errors import LinkmodeError
from pytest_linkmode.filesystems import FILESYSTEMS, detached, loop
from pytest_linkmode.namespaces import PRIVATE, Place

if TYPE_CHECKING:
    from pytest_linkmode.filesystems.base import Kind

READY = "ready"
MESSAGE = 4096
"""The longest message, in bytes."""
LARGEST = 1 << 40
"""The largest image, in bytes: they are sparse."""
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
PR_SET_PDEATHSIG = 1

KINDS: Mapping[str, Kind] = {name: kind for name, kind in FILESYSTEMS.items() if kind.mkfs}
"""What can be asked for."""


class Refused(Exception):
    """A request that is not one of those this helper answers."""


def parse(message: bytes) -> tuple[Kind, int]:
    """Return what a message asks for. Raises Refused for anything but a kind and a size."""
    try:
        request = json.loads(message)
    except ValueError:
        raise Refused("not JSON") from None
    if not isinstance(request, dict) or request.keys() != {"kind", "size"}:
        raise Refused("a request has a kind and a size, and nothing else")
    name, size = request["kind"], request["size"]
    if not isinstance(name, str) or name not in KINDS:
        raise Refused(f"kind: one of {', '.join(KINDS)}")
    kind = KINDS[name]
    if type(size) is not int or not kind.least_size <= size <= LARGEST:
        raise Refused(f"size: a number of bytes from {kind.least_size} to {LARGEST}")
    return kind, size


@contextmanager
def made(kind: Kind, size: int, directory: int | None, uid: int, gid: int) -> Iterator[int]:
    """Make a filesystem that belongs to `uid`; the value is a mount that is attached nowhere.

    Raises OSError, LinkmodeError.
    """
    with ExitStack() as stack:
        descriptor = _image(kind, directory, uid, gid)
        stack.callback(os.close, descriptor)
        os.ftruncate(descriptor, size)
        image = loop.Image(descriptor, "")
        processes.run((*kind.mkfs, image.path))
        device = stack.enter_context(loop.attached(image, Place("/dev", PRIVATE), kind.name))
        mount = detached.make(kind.fstype, device, kind.options)
        stack.callback(os.close, mount)
        root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mount)
        try:
            os.fchown(root, uid, gid)
            os.fchmod(root, 0o755)
        finally:
            os.close(root)
        yield mount


def _image(kind: Kind, directory: int | None, uid: int, gid: int) -> int:
    if directory is None:
        return os.memfd_create(f"linkmode {kind.name}", os.MFD_CLOEXEC)
    # With the rights of the caller: whatever that directory is, they could have done it.
    os.setegid(gid)
    os.seteuid(uid)
    try:
        flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
        return os.open(".", flags, 0o600, dir_fd=directory)
    finally:
        os.seteuid(0)
        os.setegid(0)


def answer(connection: socket.socket, uid: int, gid: int) -> None:
    """Answer the requests of one connection until it ends."""
    while True:
        message, given, _, _ = socket.recv_fds(connection, MESSAGE, 1)
        if not message:
            return
        reply: dict[str, Any]
        try:
            kind, size = parse(message)
            directory = given[0] if given else None
            with made(kind, size, directory, uid, gid) as mount:
                socket.send_fds(connection, [json.dumps({"made": kind.name}).encode()], [mount])
            continue
        except Refused as refused:
            reply = {"refused": str(refused)}
        except (OSError, LinkmodeError, loop.LoopConfigureMissing) as error:
            reply = {"failed": str(error) or type(error).__name__}
        finally:
            for descriptor in given:
                os.close(descriptor)
        connection.sendall(json.dumps(reply).encode())


def peer(connection: socket.socket) -> int:
    """Return the user at the other end: unix(7), SO_PEERCRED."""
    size = struct.calcsize("3i")
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("3i", found)[1])


def serve(listener: socket.socket, uid: int, gid: int) -> None:
    """Let a child of its own answer each connection of that user, until standard input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies, and nobody to wait for
    while True:
        readable, _, _ = select.select([sys.stdin, listener], [], [])
        if sys.stdin in readable and not os.read(sys.stdin.fileno(), 1):
            return
        if listener not in readable:
            continue
        connection, _ = listener.accept()
        with connection:
            if peer(connection) != uid:
                continue
            if os.fork() == 0:
                _answer_and_exit(connection, uid, gid)


def _answer_and_exit(connection: socket.socket, uid: int, gid: int) -> None:
    import ctypes

    status = 1
    try:
        # Without the parent nobody would know of this one.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        answer(connection, uid, gid)
        status = 0
    finally:
        os._exit(status)


def main(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Serve the user of sudo; return an exit status."""
    callers = [environment.get(name, "") for name in ("SUDO_UID", "SUDO_GID")]
    token = arguments[0] if len(arguments) == 1 else ""
    if os.geteuid() != 0 or not all(map(str.isdigit, callers)) or not token.isalnum():
        sys.stderr.write("usage: sudo sudo_helper.py TOKEN\n")
        return 2
    uid, gid = map(int, callers)
    os.environ.clear()
    os.environ["PATH"] = PATH
    os.umask(0o077)
    os.chdir("/")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address(token))
        listener.listen()
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()
        serve(listener, uid, gid)
    return 0


def address(token: str) -> str:
    """Return the abstract address, which no file stands for: nothing to remove, nothing to leak."""
    return f"\0pytest-linkmode-{token}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
