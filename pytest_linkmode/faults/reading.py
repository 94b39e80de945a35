"""What a call is about, read from the thread that makes it: paths, descriptors, memory.

All of it is a snapshot, taken while the thread waits for an answer. Reading is by /proc/TID, as
whoever started the thread may (ptrace(2), "Ptrace access mode checking"); whether the thread was
still waiting afterwards is for the caller to ask, before anything read here is believed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

from pytest_linkmode.faults.ops import (
    AT_FDCWD,
    OPEN_HOW,
    At,
    Descriptor,
    DescriptorIn,
    Operand,
    Path,
    PathIn,
    Text,
    Way,
)

Arguments = tuple[int, ...]
Reader = Callable[[int, Arguments], str]

PAGE = 4096
"""The smallest page of any machine: what does not cross it can be read at once."""
PATH_MAX = 4096
_U64 = struct.Struct("=Q")
_IOVEC = struct.Struct("=QQ")
"""struct iovec { void *iov_base; size_t iov_len; }"""
IOV_MAX = 1024


def memory(thread: int, address: int, size: int) -> bytes:
    """Return `size` bytes of a thread's memory, or fewer where it ends.

    Raises OSError: PermissionError if the process may not be looked into.
    """
    # Opened anew each time: a descriptor kept would show the memory from before an exec.
    fd = os.open(f"/proc/{thread}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, size, address)
    finally:
        os.close(fd)


def string(thread: int, address: int) -> str:
    """Return the text at an address, up to its NUL; empty where there is none to be read."""
    fd = os.open(f"/proc/{thread}/mem", os.O_RDONLY | os.O_CLOEXEC)
    found = b""
    try:
        while len(found) < PATH_MAX:
            chunk = os.pread(fd, PAGE - address % PAGE, address)
            text, nul, _ = chunk.partition(b"\0")
            found += text
            if nul or not chunk:
                break
            address += len(chunk)
    except (OSError, OverflowError):
        return ""  # not an address: the kernel will tell the program so
    finally:
        os.close(fd)
    return os.fsdecode(found)


def word(thread: int, address: int) -> int:
    """Return the 64-bit number at an address, 0 where nothing can be read."""
    try:
        raw = memory(thread, address, 8)
    except PermissionError:
        raise
    except (OSError, OverflowError):
        return 0
    return int(_U64.unpack(raw)[0]) if len(raw) == 8 else 0


def buffers(thread: int, address: int, count: int) -> list[tuple[int, int]]:
    """Return the (address, size) pairs of an array of struct iovec."""
    count = min(signed(count), IOV_MAX)
    if count <= 0:
        return []
    raw = memory(thread, address, count * _IOVEC.size)
    return list(_IOVEC.iter_unpack(raw[: len(raw) // _IOVEC.size * _IOVEC.size]))


def signed(value: int) -> int:
    """Return the low half of an argument as the kernel reads an int."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def descriptor(thread: int, number: int) -> str:
    """Return what a descriptor of a thread refers to; empty if it is none."""
    try:
        return os.readlink(f"/proc/{thread}/fd/{number & 0xFFFFFFFF}")
    except FileNotFoundError:
        return ""


def directory(thread: int, number: int) -> str:
    """Return the directory that relative paths start from."""
    number = signed(number)
    where = "cwd" if number == AT_FDCWD else f"fd/{number}"
    try:
        return os.readlink(f"/proc/{thread}/{where}")
    except FileNotFoundError:
        return ""


def _at(thread: int, base: int, address: int) -> str:
    name = string(thread, address)
    if not name:
        return directory(thread, base)
    path = name if name[0] == "/" else f"{directory(thread, base)}/{name}"
    if "/." in path or "//" in path or path[-1] == "/":
        # POSIX lets two slashes mean something of their own; Linux does not.
        return "/" + os.path.normpath(path).lstrip("/")
    return path


def _reader(operand: Operand) -> Reader:
    """Return a function of (thread, arguments) that reads one operand."""
    match operand:
        case At(base, path):
            return lambda thread, arguments: _at(thread, arguments[base], arguments[path])
        case Path(path):
            return lambda thread, arguments: _at(thread, AT_FDCWD, arguments[path])
        case Descriptor(fd):
            return lambda thread, arguments: descriptor(thread, arguments[fd])
        case DescriptorIn(pointer):
            return lambda thread, arguments: descriptor(thread, word(thread, arguments[pointer]))
        case PathIn(pointer, offset):
            return lambda thread, arguments: _at(
                thread, AT_FDCWD, word(thread, arguments[pointer] + offset)
            )
        case Text(address):
            return lambda thread, arguments: string(thread, arguments[address])


def reader(way: Way) -> Callable[[int, Arguments], tuple[str, ...]]:
    """Return a function of (thread, arguments) that reads the paths of a call.

    It raises PermissionError where the process may not be looked into, and ProcessLookupError or
    FileNotFoundError where the thread is gone.
    """
    first, *rest = (_reader(operand) for operand in way.paths)
    if not rest:
        return lambda thread, arguments: (first(thread, arguments),)
    (second,) = rest
    return lambda thread, arguments: (first(thread, arguments), second(thread, arguments))


def open_flags(thread: int, arguments: Arguments) -> int:
    """Return the flags of openat2, which lie in memory (struct open_how, openat2(2))."""
    return word(thread, arguments[OPEN_HOW])
