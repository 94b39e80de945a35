"""Messages and descriptors between a test process and its zygote, over one stream socket.

Both ends are the same interpreter, so `marshal` carries everything and costs no import.
"""

from __future__ import annotations

import marshal
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]

_LENGTH = struct.Struct("=I")
_CHUNK = 65536
_MOST_DESCRIPTORS = 16


class Channel:
    """One end. Descriptors that came with a message are in `descriptors`, for the reader to take.

    `receive` raises EOFError once the other end is gone.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._buffer = b""
        self.descriptors: list[int] = []

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message whole; raises OSError (EPIPE) if the other end is gone."""
        raw = marshal.dumps(message)
        data = memoryview(_LENGTH.pack(len(raw)) + raw)
        sent = 0
        if descriptors:
            sent = socket.send_fds(self._socket, [data], list(descriptors))
        if sent < len(data):
            self._socket.sendall(data[sent:])

    def receive(self) -> Message:
        """Return the next message, waiting for it."""
        while True:
            message = self._next()
            if message is not None:
                return message
            data, descriptors, _, _ = socket.recv_fds(self._socket, _CHUNK, _MOST_DESCRIPTORS)
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)  # noqa: FBT003  # its form
            self.descriptors += descriptors
            if not data:
                raise EOFError("the other end of the channel is gone")
            self._buffer += data

    @property
    def pending(self) -> bool:
        """Whether `receive` returns without waiting for more data."""
        return len(self._buffer) >= _LENGTH.size and len(self._buffer) >= (
            _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
        )

    def take(self) -> list[int]:
        """Return the descriptors that came, which are the caller's from now on."""
        taken, self.descriptors = self.descriptors, []
        return taken

    def close(self) -> None:
        """Close this end and whatever descriptors nobody took."""
        for descriptor in self.take():
            os.close(descriptor)
        self._socket.close()

    def _next(self) -> Message | None:
        if not self.pending:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
        message: Message = marshal.loads(self._buffer[_LENGTH.size : end])  # noqa: S302  # our own
        self._buffer = self._buffer[end:]
        return message
