"""Zygotes: the small processes that start programs for us, and the pool that keeps them.

One serves one program at a time, so a session that never runs two at once has one. They are begun
lazily, cost a few milliseconds once, and end with the session, or with the process that they serve.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pytest_linkmode.errors import LinkmodeError
from pytest_linkmode.faults import zygote_program
from pytest_linkmode.faults.channel import Channel, Message

_NAMESPACES = ("mnt", "user", "pid", "net")
_GRACE = 10.0
"""Seconds in which a zygote ends what it started and itself; it takes a few milliseconds."""


def _namespaces() -> tuple[str, ...]:
    return tuple(os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES)


class Zygote:
    """One of them, seen from the process that it serves."""

    def __init__(self) -> None:
        if not sys.executable:
            raise LinkmodeError(
                "cannot start programs with faults", why="this Python does not know its own path"
            )
        ours, theirs = socket.socketpair()
        with theirs:
            # Standard error in a file: nobody has to read it for the zygote to go on.
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `close`
            self._process = subprocess.Popen(
                (sys.executable, "-I", "-S", zygote_program.__file__, str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # a Ctrl-C is for pytest, which ends the program itself
                cwd="/",
            )
        self.channel = Channel(ours)
        self.namespaces = _namespaces()

    @property
    def number(self) -> str:
        """The number of its process, whose children are the programs."""
        return str(self._process.pid)

    @property
    def usable(self) -> bool:
        """Whether it is alive and sees the mounts that we see."""
        return self._process.poll() is None and self.namespaces == _namespaces()

    def start(self, request: Message, streams: Sequence[int]) -> None:
        """Have a program started; what becomes of it arrives on the channel."""
        try:
            self.channel.send(request, streams)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self.failure() from error

    def failure(self) -> LinkmodeError:
        """Return the error that says why it is gone."""
        status = self._process.wait(_GRACE)
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "backslashreplace").strip()
        return LinkmodeError(
            "the process that starts programs with faults ended",
            why=f"exit status {status}" + (f"\n{said}" if said else ""),
        )

    def close(self) -> None:
        """End it, and with it whatever it still runs."""
        self.channel.close()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()  # what it traces dies with it, its child by its death signal
            self._process.wait()
        self._errors.close()

    def forget(self) -> None:
        """Close our copies of its descriptors only: in a process that was forked from ours."""
        self.channel.close()
        self._errors.close()
        self._process.returncode = 0  # it is not our child, so there is nothing to wait for


class Zygotes:
    """The zygotes of a session: as many as programs run at once. Usable from several threads."""

    def __init__(self) -> None:
        self._idle: list[Zygote] = []
        self._lock = threading.Lock()
        self._owner = os.getpid()
        atexit.register(self.close)

    @contextmanager
    def borrow(self) -> Iterator[Zygote]:
        """Lend a zygote; it is given back if it is then idle, and ended if anything was raised."""
        zygote = self._take()
        try:
            yield zygote
        except BaseException:
            zygote.close()
            raise
        with self._lock:
            self._idle.append(zygote)

    def close(self) -> None:
        """End all that are idle. Safe to call more than once, and after a fork."""
        with self._lock:
            idle, self._idle = self._idle, []
        for zygote in idle:
            if self._owner == os.getpid():
                zygote.close()
            else:
                zygote.forget()

    def _take(self) -> Zygote:
        if self._owner != os.getpid():
            self.close()
            self._owner = os.getpid()
        while True:
            with self._lock:
                zygote = self._idle.pop() if self._idle else None
            if zygote is None:
                return Zygote()
            if zygote.usable:
                return zygote
            zygote.close()  # the mounts changed: programs must see those that we see


SHARED = Zygotes()
"""Those of this process, ended when it ends."""
