"""Streams of bytes over a serial line that loses what comes too fast: frames, with receipts.

A burst of 300 kB into the terminal of a guest gets stuck; frames of at most 1 KiB, of which no more
than two are without a receipt, do not. Both ends of the line run this same code.
"""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress

LONGEST = 1024
"""The longest frame with its header, in bytes."""
WINDOW = 2
"""How many frames may be without a receipt."""
HEADER = 3

RECEIPT = ord("r")
READY = ord("y")
"""The guest listens: what was sent before would be lost."""
ORDER = ord("o")
"""A piece of the order that says what to start; an empty one ends it."""
INPUT = ord("i")
OUTPUT = ord("u")
ERRORS = ord("e")
"""A piece of one of the standard streams; an empty one ends it."""
STATUS = ord("s")
"""The exit status, in decimal; nothing comes after it."""

BACKLOG = 64 * 1024
"""From how many waiting bytes on nothing more is read, in bytes."""


class Wire:
    """One end of the line.

    `sinks` say what to do with the pieces of each stream, `sources` where streams come from;
    `turn` moves what can be moved, and returns whether the line is still there.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self._writing = writing
        self._received = bytearray()
        self._frames: deque[bytes] = deque()
        self._waiting = 0
        self._raw = bytearray()
        self._unanswered = 0
        self._descriptors: dict[int, int] = {}
        self._buffers: dict[int, bytearray] = {}
        self._ends: dict[int, bool] = {}
        self.sinks: Mapping[int, Callable[[bytes], None]] = {}
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)

    def read_from(self, descriptor: int, kind: int) -> None:
        """Send whatever comes from a descriptor as that stream, until it ends."""
        self._descriptors[descriptor] = kind

    def write_to(self, descriptor: int, piece: bytes) -> None:
        """Write a piece to a descriptor, when it takes it; an empty one closes it."""
        if piece:
            self._buffers.setdefault(descriptor, bytearray()).extend(piece)
        else:
            self._buffers.setdefault(descriptor, bytearray())
            self._ends[descriptor] = True

    def send(self, kind: int, data: bytes) -> None:
        """Send bytes of a stream, in as many frames as it takes; no bytes are a frame, too."""
        for start in range(0, max(len(data), 1), LONGEST - HEADER):
            piece = data[start : start + LONGEST - HEADER]
            self._frames.append(bytes((kind,)) + len(piece).to_bytes(2, "big") + piece)
            self._waiting += len(piece)

    @property
    def reads(self) -> bool:
        """Whether a stream that is sent has not ended yet."""
        return bool(self._descriptors)

    @property
    def idle(self) -> bool:
        """Whether all that was sent has been received, and all that was received was written."""
        sent = not (self._frames or self._raw or self._unanswered)
        return sent and not any(self._buffers.values())

    def turn(self, timeout: float | None = None) -> bool:
        """Wait until something can be moved, and move it; False when the other end is gone."""
        self._load()
        reading = [self._reading]
        if self._waiting < BACKLOG:
            reading += self._descriptors
        writing = [each for each, data in self._buffers.items() if data or self._ends.get(each)]
        if self._raw:
            writing.append(self._writing)
        readable, writable, _ = select.select(reading, writing, [], timeout)
        for descriptor in writable:
            if descriptor == self._writing:
                self._push()
            else:
                self._drain(descriptor)
        for descriptor in readable:
            if descriptor != self._reading:
                self._take(descriptor)
        return self._reading not in readable or self._receive()

    def _load(self) -> None:
        while self._frames and self._unanswered < WINDOW:
            frame = self._frames.popleft()
            self._waiting -= len(frame) - HEADER
            self._raw += frame
            self._unanswered += 1

    def _push(self) -> None:
        with suppress(BlockingIOError):
            del self._raw[: os.write(self._writing, self._raw)]

    def _drain(self, descriptor: int) -> None:
        buffer = self._buffers[descriptor]
        try:
            if buffer:
                del buffer[: os.write(descriptor, buffer[:LONGEST])]
        except BlockingIOError:
            return
        except BrokenPipeError:
            buffer.clear()
        if not buffer and self._ends.get(descriptor):
            del self._buffers[descriptor]
            os.close(descriptor)

    def _take(self, descriptor: int) -> None:
        data = os.read(descriptor, 16 * 1024)
        self.send(self._descriptors[descriptor], data)
        if not data:
            del self._descriptors[descriptor]

    def _receive(self) -> bool:
        try:
            data = os.read(self._reading, 4 * LONGEST)
        except BlockingIOError:
            return True
        except OSError:  # EIO: the other side of a terminal is closed
            return False
        self._received += data
        while len(self._received) >= HEADER:
            size = int.from_bytes(self._received[1:HEADER], "big")
            if len(self._received) < HEADER + size:
                break
            kind, piece = self._received[0], bytes(self._received[HEADER : HEADER + size])
            del self._received[: HEADER + size]
            if kind == RECEIPT:
                self._unanswered -= 1
                continue
            self._raw += bytes((RECEIPT, 0, 0))
            self.sinks[kind](piece)
        return bool(data)
