"""The system calls of a link, taken one by one: counted, made to fail, or its last.

`Tap` wraps every function of the table of calls that this machine's platform has. What a case of a
sweep does is a `Deed`: it is asked before each call, by number and name, and may raise, answer or
kill.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from linker import LinkMode
from pytest_linkmode.faults.inprocess import injected

if sys.platform == "win32":
    from linker.platforms import kernel32
    from linker.platforms import windows as w
    from linker.platforms.windows import Calls, WindowsPlatform

    CALLS = kernel32.calls()

    class MachinePlatform(WindowsPlatform):
        """The platform of this machine."""

        def __init__(self, calls: Calls = CALLS, *, proof: str = "modelled") -> None:
            super().__init__(calls, proof=proof)

else:
    from linker.platforms.linux import CALLS, Calls
    from linker.platforms.linux import LinuxPlatform as MachinePlatform

__all__ = ["CALLS", "Calls", "MachinePlatform"]

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
"""The flags of renameat2(2)."""

MAKES = {
    LinkMode.CLONE: "control" if sys.platform == "win32" else "ficlone",
    LinkMode.HARDLINK: "hardlink" if sys.platform == "win32" else "link",
    LinkMode.SYMLINK: "symlink",
    LinkMode.COPY: "read",
}
"""The call that makes a file in a mode."""

UNCOUNTED = frozenset({"sleep"})
"""No system call that can fail, and never worth waiting for."""


# In schedules a clone is one operation: what it is made of here are no turns.
_pwrite: Any = getattr(os, "pwrite", None)


def clone_by_copying(writing: int, reading: int) -> None:
    """Answer FICLONE as a filesystem with reflinks would, on one without."""
    size, position = os.fstat(reading).st_size, 0
    while position < size:
        position += _pwrite(writing, os.pread(reading, 1 << 20, position), position)


if sys.platform == "win32":

    def control_by_copying(handle: int, code: int, data: bytes, size: int) -> bytes:
        """Answer FSCTL_DUPLICATE_EXTENTS_TO_FILE as ReFS would, on a filesystem without it."""
        if code == w.FSCTL_GET_INTEGRITY_INFORMATION:
            return w.INTEGRITY.pack(0, 0, 0, 0, 4096)
        if code != w.FSCTL_DUPLICATE_EXTENTS_TO_FILE:
            return CALLS.control(handle, code, data, size)
        source, begin, there, left = w.DUPLICATE.unpack(data)
        left = min(left, CALLS.information(source).size - begin)
        buffer = memoryview(bytearray(1 << 20))
        CALLS.seek(source, begin)
        CALLS.seek(handle, there)
        while left > 0:
            done = CALLS.read(source, buffer[: min(left, len(buffer))])
            left -= CALLS.write(handle, buffer[:done])
        return b""

    REFLINKING = dataclasses.replace(
        CALLS,
        control=control_by_copying,
        volume_flags=lambda handle: CALLS.volume_flags(handle) | w.SUPPORTS_BLOCK_REFCOUNTING,
    )
else:
    REFLINKING = dataclasses.replace(CALLS, ficlone=clone_by_copying)
"""The system calls of a filesystem with reflinks, wherever the test runs."""


def _no_flags(source: int, name: str, target: int, new: str, flags: int) -> None:
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), new)


def _no_links(*names: Any, **options: Any) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def _no_nameless(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    if flags & os.O_TMPFILE == os.O_TMPFILE:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)
    return os.open(path, flags, mode, dir_fd=dir_fd)


def _without_flags() -> Calls:
    if sys.platform == "win32":
        return REFLINKING  # there are none in any case
    return dataclasses.replace(REFLINKING, renameat2=_no_flags)


def _without_links() -> Calls:
    if sys.platform == "win32":
        return dataclasses.replace(WITHOUT_FLAGS, hardlink=_no_links)
    return dataclasses.replace(WITHOUT_FLAGS, link=_no_links, open=_no_nameless)


WITHOUT_FLAGS = _without_flags()
"""The same where renameat2 knows no flags, as on NFS and older ZFS."""

WITHOUT_FLAGS_AND_LINKS = _without_links()
"""The same without hard links and nameless files, as on exFAT and many a FUSE filesystem."""

Deed = Callable[[int, str], None]
"""Called as deed(number from 1, name) before a call."""


@dataclasses.dataclass
class Fault:
    """One call fails: the `at`-th, with `error`. `late` says after it had its effect."""

    at: int
    error: int
    late: bool = False
    hit: str = ""

    def __call__(self, number: int, name: str) -> None:
        if number == self.at:
            self.hit = name
            raise injected(self.error)


class Tap:
    """Counts the calls of a link and asks a deed before each.

    `ended` holds descriptors that a simulated kill left open.
    """

    def __init__(self, deed: Deed | None = None, base: Calls = REFLINKING) -> None:
        self.count = 0
        self.names: list[str] = []
        self._deed = deed
        self._open: set[int] = set()
        self.calls = Calls(
            **{
                field.name: self._wrap(field.name, getattr(base, field.name))
                for field in dataclasses.fields(Calls)
            }
        )

    @property
    def platform(self) -> MachinePlatform:
        """A platform that makes its calls here."""
        return MachinePlatform(self.calls, proof="injected")

    def _wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        if name in UNCOUNTED:
            return lambda *_: None

        def tapped(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            self.names.append(name)
            if self._deed is not None:
                try:
                    self._deed(self.count, name)
                except (OSError, KeyboardInterrupt) as error:
                    late = getattr(self._deed, "late", False)
                    if name == "close" or late:  # a descriptor is gone even where close fails
                        try:
                            done = call(*arguments, **options)
                        except OSError:
                            if isinstance(error, OSError):
                                raise
                            raise error from None  # an interrupt comes before what it has to say
                        if name == "open":
                            CALLS.close(done)
                        if name in ("listdir", "scandir"):
                            done.close()
                        self._open.difference_update(arguments if name == "close" else ())
                    if name == "access" and isinstance(error, OSError):  # only an answer, no error
                        return False
                    raise
            result = call(*arguments, **options)
            if name == "open":
                self._open.add(result)
            elif name == "close":
                self._open.discard(arguments[0])
            return result

        return tapped

    def close(self) -> None:
        """Close what a simulated kill left open, as the kernel would."""
        for descriptor in self._open:
            CALLS.close(descriptor)
        self._open.clear()


def descriptors() -> int:
    """Return how many descriptors this process holds."""
    return len(os.listdir("/proc/self/fd"))


def in_child(function: Callable[[], object]) -> int:
    """Run a function in a forked child; return its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die() -> None:
    """End this process as nothing can stop it."""
    os.kill(os.getpid(), signal.SIGKILL)
