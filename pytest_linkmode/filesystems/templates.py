"""Formatted images, made once a process and copied ever after.

mkfs takes ten times as long as all the rest, and a fresh image is nearly all zeros: what is not
fits into a megabyte of memory, and writing that into a new sparse file is a copy of the image.
Copies have equal UUIDs: where a kernel cannot tell them apart by anything else, a copy is given
a UUID of its own.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pytest_linkmode import kernel, processes
from pytest_linkmode.filesystems.base import Kind

_BLOCK = 4096
_CHUNK = 1 << 20
_ZEROS = memoryview(bytes(_CHUNK))


@dataclass(frozen=True)
class Renewal:
    """How a copy gets a UUID of its own, and from which kernel on it needs none."""

    command: tuple[str, ...]
    not_needed_from: tuple[int, int]


RENEWALS: Mapping[str, Renewal] = {
    # From Linux 6.7 on, a btrfs of one device that looks like one already mounted is given a
    # temporary id. xfs needs none: the mount option nouuid says that it does not matter.
    "btrfs": Renewal(("btrfstune", "-f", "-m"), (6, 7)),
}
"""fstype -> its renewal; the image is appended to the command."""


@dataclass
class Template:
    """What a formatted image holds: all of it that is not zero; nothing before there is one."""

    pieces: tuple[tuple[int, bytes], ...] = ()
    lock: threading.Lock = field(default_factory=threading.Lock)


_templates: dict[tuple[tuple[str, ...], int], Template] = {}
_lock = threading.Lock()


def format_image(kind: Kind, descriptor: int, path: str) -> None:
    """Make the new, empty image open as `descriptor` one of `kind`; `path` is for programs.

    The first of its size is formatted by mkfs, all others are copies of that one, unless the
    row of the kind says that copies cannot be mounted side by side. Raises CommandFailed, OSError.
    """
    if not kind.copies:
        processes.run((*kind.mkfs, path))
        return
    size = os.fstat(descriptor).st_size
    with _lock:
        template = _templates.setdefault((kind.mkfs, size), Template())
    with template.lock:
        if not template.pieces:
            processes.run((*kind.mkfs, path))
            template.pieces = tuple(_pieces(descriptor))
            return
    for offset, data in template.pieces:
        os.pwrite(descriptor, data, offset)
    renewal = RENEWALS.get(kind.fstype)
    if renewal is not None and kernel.release() < renewal.not_needed_from:
        processes.run((*renewal.command, path))


def _pieces(descriptor: int) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, bytes) of everything in an image that is not zero, by whole blocks."""
    for start, end in _data(descriptor):
        offset, found = start, bytearray()
        for chunk_at in range(start, end, _CHUNK):
            chunk = os.pread(descriptor, min(_CHUNK, end - chunk_at), chunk_at)
            # Most of a log is zeros: they are passed over by the megabyte.
            step = len(chunk) if chunk == _ZEROS[: len(chunk)] else _BLOCK
            for at in range(0, len(chunk), step):
                block = chunk[at : at + step]
                if block == _ZEROS[: len(block)]:
                    if found:
                        yield offset, bytes(found)
                    found.clear()
                    continue
                if not found:
                    offset = chunk_at + at
                found += block
        if found:
            yield offset, bytes(found)


def _data(descriptor: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of everything in a sparse file that is not a hole (lseek(2))."""
    position, size = 0, os.fstat(descriptor).st_size
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nothing but a hole from here to the end
                raise
            return
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, position
