"""File objects that read and write in turns, put together as `open` does it.

Buffers and encodings are Python's own; below them is a `Turning`, whose every access to the file
waits for the actor's turn. What an object has in its buffer is nobody else's to see.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from pytest_linkmode.layers import layered

Function = Callable[..., Any]


class Accesses(NamedTuple):
    """What lets an access to a file be a turn: each is called with a descriptor, the method, and
    what the method is given. `forget` is told of a descriptor that will be closed.
    """

    read: Function
    write: Function
    truncate: Function
    seek: Function
    forget: Callable[[int], object]


class Turning(io.FileIO):
    """A file as a stream of bytes, without a buffer."""

    def __init__(self, accesses: Accesses, *given: Any, **options: Any) -> None:
        self._accesses = accesses
        super().__init__(*given, **options)

    def readinto(self, buffer: Any, /) -> Any:
        """Read into a buffer, in a turn."""
        return self._accesses.read(self.fileno(), super().readinto, buffer)

    def read(self, size: int | None = -1, /) -> Any:
        """Read some bytes, in a turn."""
        return self._accesses.read(self.fileno(), super().read, -1 if size is None else size)

    def readall(self) -> Any:
        """Read what is left, in one turn."""
        return self._accesses.read(self.fileno(), super().readall)

    def write(self, data: Any, /) -> Any:
        """Write some bytes, in a turn."""
        return self._accesses.write(self.fileno(), super().write, data)

    def truncate(self, size: int | None = None, /) -> Any:
        """Cut the file off, in a turn."""
        return self._accesses.truncate(self.fileno(), super().truncate, size)

    def seek(self, position: int, whence: int = os.SEEK_SET, /) -> Any:
        """Move the position: in a turn, where it depends on what the file holds."""
        if whence in (os.SEEK_SET, os.SEEK_CUR):
            return super().seek(position, whence)
        return self._accesses.seek(self.fileno(), super().seek, position, whence)

    def close(self) -> None:
        """Close the file."""
        if not self.closed and self.closefd:
            self._accesses.forget(self.fileno())
        super().close()


def file_object(
    function: Function,
    accesses: Accesses,
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,  # noqa: FBT001, FBT002  # as `open` has it
    opener: Any = None,
) -> Any:
    """Return what `function`, which is `open`, does for the arguments that follow, with turns."""
    # What it refuses is refused, whatever the file.
    function(os.devnull, mode.replace("x", "w"), buffering, encoding, errors, newline).close()
    plain = mode.replace("b", "").replace("t", "")
    raw = Turning(accesses, file, plain, closefd=closefd, opener=opener)
    try:
        return layered(raw, mode, buffering, encoding, errors, newline)
    except BaseException:
        raw.close()
        raise
