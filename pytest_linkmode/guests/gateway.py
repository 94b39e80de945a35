"""What pytest-xdist starts in place of a Python: it boots a guest and runs that Python in there.

``python -I -S gateway.py ARGUMENTS...`` does what ``python ARGUMENTS...`` would, in a kernel of its
own. The guest is the first process of a process namespace and ends with this one, however this one
ends; what it keeps of itself, its memory too, lies in a namespace that goes with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

if __name__ == "__main__":
    _HERE = os.path.dirname(os.path.abspath(__file__))
    sys.path.append(os.path.dirname(os.path.dirname(_HERE)))

from pytest_linkmode import kernel, privileges, processes
from pytest_linkmode.guests import wire, xstate

KERNEL = "linux.uml"
MEMORY_VARIABLE = "LINKMODE_UML_MEMORY"
"""How much memory a guest believes to have, as in 2G; the host gives what is used of it."""
MEMORY = "2G"
OF_THE_HOST = ("LINKMODE_PLACE", "LINKMODE_HELPER", "LINKMODE_DIR_")
"""What variables say that is not true in a guest."""

SHARED_MEMORY = "/dev/shm"
CLONE_NEWPID = 0x20000000
PR_SET_PDEATHSIG = 1
NO_PROGRAM = 127
FAILED = 126
PANIC = "Kernel panic"
LAST = 20
"""How many lines of a console are told."""


def main(arguments: Sequence[str]) -> int:
    """Boot a guest, run Python with these arguments in it, and return its exit status."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a key is meant for who started us
    program = processes.which(KERNEL)
    if program is None:
        sys.stderr.write(f"{KERNEL}: not installed\n")
        return NO_PROGRAM
    try:
        preloaded = xstate.interposer() if xstate.is_large() else None
    except (processes.CommandFailed, OSError) as failed:
        sys.stderr.write(f"what completes the registers of a guest could not be made: {failed}\n")
        return FAILED
    ours, theirs = socket.socketpair()
    console = os.memfd_create("console")
    boot(program, theirs.fileno(), console, preloaded)
    theirs.close()
    if preloaded is not None:
        os.close(preloaded)
    status = relay(wire.Wire(ours.fileno(), ours.fileno()), order(arguments, os.environ))
    if status is None:
        os.lseek(console, 0, os.SEEK_SET)
        said = os.read(console, 1 << 20).decode("utf-8", "replace")
        sys.stderr.write("\n".join(["the guest is gone; its last words:", *last_words(said), ""]))
        return FAILED
    return status


def last_words(said: str) -> Sequence[str]:
    """Return what a kernel said last of use to people: of one that panics, what led to it."""
    lines = said.splitlines()
    panics = [number for number, line in enumerate(lines) if PANIC in line]
    return lines[: panics[0] + 1][-LAST:] if panics else lines[-LAST:]


def order(arguments: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """Return what the guest is to run."""
    kept = {name: value for name, value in environment.items() if not name.startswith(OF_THE_HOST)}
    return json.dumps(
        {
            "argv": [sys.executable, *arguments],
            "cwd": os.getcwd(),
            "env": {**kept, privileges.GUEST_VARIABLE: "1", "PYTHONDONTWRITEBYTECODE": "1"},
        }
    ).encode()


def relay(line: wire.Wire, wanted: bytes) -> int | None:
    """Pass streams on until the program in the guest has ended; None if the guest did first."""
    statuses: list[int] = []

    def begin(_: bytes) -> None:
        line.send(wire.ORDER, wanted)
        line.send(wire.ORDER, b"")
        line.read_from(0, wire.INPUT)

    line.sinks = {
        wire.READY: begin,
        wire.OUTPUT: lambda piece: line.write_to(1, piece),
        wire.ERRORS: lambda piece: line.write_to(2, piece) if piece else None,
        wire.STATUS: lambda piece: statuses.append(int(piece)),
    }
    while line.turn():
        if statuses:
            while not line.idle and line.turn(1):
                pass
            return statuses[0]
    return statuses[0] if statuses else None


def boot(program: str, line: int, console: int, preloaded: int | None = None) -> None:
    """Start the kernel in a child that does not survive this process.

    `preloaded` is a descriptor of a library that it loads before all others.
    """
    watched, alive = os.pipe()
    if os.fork():
        os.close(watched)  # and `alive` stays open for as long as we live
        return
    try:
        os.close(alive)
        os.setsid()  # a key is meant for who started us
        where = secluded()
        if where:
            end_with_parent()
        path = where or os.path.realpath(os.environ.get("TMPDIR", "/tmp"))
        name = f"linkmode-{os.urandom(4).hex()}"
        kernel_process = os.fork()
        if kernel_process:
            attend(kernel_process, watched, os.path.join(path, name))
        end_with_parent()
        if where:
            be_first()
        for number in (1, 2):
            os.dup2(console, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor in (line, console, *([] if preloaded is None else [preloaded])):
            os.set_inheritable(descriptor, True)  # noqa: FBT003  # the kernel needs it
        if preloaded is not None:
            others = os.environ.get("LD_PRELOAD", "")
            os.environ["LD_PRELOAD"] = f"/proc/self/fd/{preloaded} {others}".strip()
        os.environ["TMPDIR"] = path
        os.execv(program, (program, *command_line(path, name, line, console)))
    except OSError as error:
        os.write(console, str(error).encode())
    finally:
        os._exit(FAILED)


def be_first() -> None:
    """Stay as the first process of a namespace, for as long as its only child; return in that.

    A guest's kernel that panics aborts, and to the first process of a namespace such a signal does
    nothing (pid_namespaces(7)): it would try for ever, and keep a processor busy.
    """
    child = os.fork()
    if child == 0:
        end_with_parent()
        return
    while os.wait()[0] != child:
        continue  # an orphan of the namespace, which nobody else waits for
    os._exit(FAILED)


def attend(kernel_process: int, watched: int, own: str) -> NoReturn:
    """Wait until the kernel ends; end it, and all its processes, when who started us is gone.

    In a process namespace that process is the first (`be_first`), and nothing more is needed.
    Without one, the processes in which it runs the programs of the guest would survive it, and so
    would its `own` directory, which a kernel removes only if it ends well.
    """
    ended = os.pidfd_open(kernel_process)
    select.select([watched, ended], [], [])
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(kernel_process, signal.SIGKILL)  # the kernel leads a group of its own
    os.kill(kernel_process, signal.SIGKILL)
    os.waitpid(kernel_process, 0)
    shutil.rmtree(own, ignore_errors=True)
    os._exit(FAILED)


def command_line(path: str, name: str, line: int, console: int) -> tuple[str, ...]:
    """Return the arguments of the kernel, which keeps `name` below `path` for itself."""
    guest = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guest.py")
    return (
        f"mem={os.environ.get(MEMORY_VARIABLE, MEMORY)}",
        f"uml_dir={path}/",
        f"umid={name}",
        "rootfstype=hostfs",
        "rootflags=/",
        "ro",
        "quiet",
        "con=null",
        f"con0=null,fd:{console}",
        f"ssl0=fd:{line},fd:{line}",
        f"init={sys.executable}",
        "--",
        "-I",
        "-S",
        guest,
    )


def secluded() -> str:
    """Take namespaces of our own, and return a directory in memory that lasts as long as they do.

    The next child is the first process of them: when it ends, the kernel kills what is left.
    Returns an empty string where that is refused.
    """
    flags = CLONE_NEWPID | kernel.CLONE_NEWNS
    user = not kernel.may_mount()
    uid, gid = os.geteuid(), os.getegid()
    try:
        kernel.unshare(flags | (kernel.CLONE_NEWUSER if user else 0))
        if user:
            privileges.map_to_itself(uid, gid)
        kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
        kernel.mount("guest", SHARED_MEMORY, "tmpfs", kernel.MS_NOSUID, "size=95%")
    except OSError:
        return ""
    return SHARED_MEMORY


def end_with_parent() -> None:
    """Be killed when the parent ends: prctl(2), PR_SET_PDEATHSIG. Lasts beyond an exec."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        with contextlib.suppress(ProcessLookupError):
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
