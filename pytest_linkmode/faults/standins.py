"""What stands in for Python's own functions while faults are injected into this process.

`os`, `io` and `fcntl` are where plain Python code, `shutil` and `pathlib` do their work, on every
operating system. A stand-in asks the injection that the running code is in, and goes straight to
the original where there is none: other tests and threads notice nothing. Code that holds a function
itself (``from os import link``) is not reached, nor is what an extension module does by itself; for
these run a program.
"""

from __future__ import annotations

import builtins
import contextvars
import io
import os
import stat
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from types import ModuleType
from typing import Any

from pytest_linkmode import HERE
from pytest_linkmode.faults.current import Decider, current
from pytest_linkmode.faults.ops import FICLONE, FICLONERANGE, Way
from pytest_linkmode.layers import layered
from pytest_linkmode.opening import told_path_of

Function = Callable[..., Any]

# --- tables --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Names:
    """A function of `os` that makes, replaces or removes names.

    `paths` are its leading parameters, what is made last; `relative` the keywords that say from
    which directory each starts.
    """

    op: str
    name: str
    paths: tuple[str, ...]
    relative: tuple[str, ...]
    changed: int = 1


_PAIR = (("src", "dst"), ("src_dir_fd", "dst_dir_fd"))
_ONE = (("path",), ("dir_fd",))

NAMES: tuple[Names, ...] = (
    Names("hardlink", "link", *_PAIR),
    Names("symlink", "symlink", ("src", "dst"), ("", "dir_fd")),
    Names("mkdir", "mkdir", *_ONE),
    Names("rename", "rename", *_PAIR, changed=2),
    Names("rename", "replace", *_PAIR, changed=2),
    Names("unlink", "unlink", *_ONE),
    Names("unlink", "remove", *_ONE),
    Names("unlink", "rmdir", *_ONE),
)


@dataclass(frozen=True, slots=True)
class Bytes:
    """A function of `os` that writes to a descriptor, by the order of its parameters.

    `named` are those parameters that may be given by their names, if any may, in their order. Bytes
    come from the descriptor `source` at `offset` (None: where it stands), at most `size` of
    them, or are at hand, as `data`.
    """

    name: str
    into: int
    data: int | None = None
    source: int | None = None
    offset: int | None = None
    size: int | None = None
    named: tuple[str, ...] = ()

    def bound(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the arguments by position; one that was left out before others is None."""
        given = [number for number, name in enumerate(self.named) if name in keywords]
        end = given[-1] + 1 if given else 0
        return (*arguments, *(keywords.get(name) for name in self.named[len(arguments) : end]))

    @property
    def needed(self) -> int:
        """How many arguments there must be."""
        numbers = (self.into, self.data, self.source, self.size)
        return 1 + max(number for number in numbers if number is not None)


_RANGES = ("src", "dst", "count", "offset_src", "offset_dst")

BYTES: tuple[Bytes, ...] = (
    Bytes("write", 0, data=1),
    Bytes("pwrite", 0, data=1),
    Bytes("writev", 0, data=1),
    Bytes("pwritev", 0, data=1),
    Bytes("copy_file_range", 1, source=0, size=2, offset=3, named=_RANGES),
    Bytes("splice", 1, source=0, size=2, offset=3, named=(*_RANGES, "flags")),
    Bytes(
        *("sendfile", 0),
        source=1,
        offset=2,
        size=3,
        named=("out_fd", "in_fd", "offset", "count"),
    ),
)

CLONES: dict[int, Way] = {
    FICLONE: Way("clone", "fcntl.ioctl", (), note="FICLONE"),
    FICLONERANGE: Way("clone", "fcntl.ioctl", (), note="FICLONERANGE"),
}
CREATE = Way("create", "os.open", ())
MKNOD = Way("create", "os.mknod", ())
OPEN = Way("create", "open", ())
WRITE = Way("copy", "write", ())
FCOPYFILE = Way("copy", "posix._fcopyfile", ())

_CHUNK = 1 << 20

_CREATING = os.O_CREAT | (getattr(os, "O_TMPFILE", 0) & ~getattr(os, "O_DIRECTORY", 0))
_RANGE = struct.Struct("=qQQQ")
"""struct file_clone_range { __s64 src_fd; __u64 src_offset, src_length, dest_offset; }"""

# --- functions that take paths -------------------------------------------------------------


def _names(row: Names, original: Function) -> Function:
    way = Way(row.op, f"os.{row.name}", (), changed=row.changed)

    @wraps(original)
    def stand_in(*arguments: Any, **keywords: Any) -> Any:
        injection = current()
        if injection is None:
            return original(*arguments, **keywords)
        given = [*arguments, *(keywords[name] for name in row.paths if name in keywords)]
        paths = [
            _absolute(path, keywords.get(base))
            for path, base in zip(given, row.relative, strict=False)
        ]
        if row.op == "symlink" and given:
            paths[0] = os.fsdecode(given[0])  # words, not a place
        return injection.perform(way, tuple(paths), lambda: original(*arguments, **keywords))

    return stand_in


def _absolute(path: Any, directory: Any = None) -> str:
    if isinstance(path, int):
        return told_path_of(path)
    name = os.fsdecode(path)
    if isinstance(directory, int) and not os.path.isabs(name):
        return os.path.normpath(os.path.join(told_path_of(directory), name))
    return os.path.abspath(name)


# --- functions that write ------------------------------------------------------------------


def _bytes(row: Bytes, original: Function) -> Function:
    way = Way("copy", f"os.{row.name}", ())

    @wraps(original)
    def stand_in(*arguments: Any, **keywords: Any) -> Any:
        injection = current()
        bound = row.bound(arguments, keywords)
        if injection is None or len(bound) < row.needed:  # too few: the function itself says so
            return original(*arguments, **keywords)
        into = bound[row.into]
        file = injection.file(into, plain=row.data is not None)
        if file is None:
            return original(*arguments, **keywords)
        paths = [told_path_of(into)]
        if row.source is not None:
            paths.insert(0, told_path_of(bound[row.source]))
        others = {name: keywords[name] for name in keywords.keys() - set(row.named)}
        return injection.perform(
            way,
            tuple(paths),
            lambda: original(*arguments, **keywords),
            file=file,
            short=lambda: original(*_halved(row, bound), **others),
            nothing=0 if row.data is None else len(_joined(bound[row.data])),
        )

    return stand_in


def _joined(data: Any) -> bytes:
    return b"".join(data) if isinstance(data, (list, tuple)) else bytes(memoryview(data))


def _halved(row: Bytes, arguments: tuple[Any, ...]) -> list[Any]:
    """Return the arguments by which half is written: half of what there is, and not of no end."""
    halved = list(arguments)
    if row.data is not None:
        joined = _joined(arguments[row.data])
        half: Any = joined[: max(len(joined) // 2, 1)]
        halved[row.data] = [half] if isinstance(arguments[row.data], (list, tuple)) else half
    elif row.source is not None and row.size is not None and row.offset is not None:
        source = arguments[row.source]
        offset = arguments[row.offset] if len(arguments) > row.offset else None
        there = _left(source, offset)
        halved[row.size] = max(min(arguments[row.size], there) // 2, 1)
    return halved


def _left(source: int, offset: int | None) -> int:
    """Return how many bytes a source has from here on; a pipe, how many wait in it."""
    status = os.fstat(source)
    if stat.S_ISFIFO(status.st_mode):
        import fcntl
        import termios

        (waiting,) = struct.unpack("i", fcntl.ioctl(source, termios.FIONREAD, bytes(4)))
        return int(waiting)
    begin = os.lseek(source, 0, os.SEEK_CUR) if offset is None else offset
    return max(status.st_size - begin, 0)


def _ioctl(original: Function) -> Function:
    @wraps(original)
    def stand_in(descriptor: Any, request: int, *rest: Any) -> Any:
        injection = current()
        way = CLONES.get(request & 0xFFFFFFFF)
        if injection is None or way is None or not rest:
            return original(descriptor, request, *rest)
        into = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        source, begin, length, there = rest[0], 0, 0, 0
        if way.note == "FICLONERANGE":
            source, begin, length, there = _RANGE.unpack_from(rest[0])

        def half() -> Any:
            status = os.fstat(source)
            count = (length or status.st_size - begin) // 2
            count -= count % status.st_blksize
            if count > 0:  # half a file that is smaller than two blocks is nothing
                original(into, FICLONERANGE, _RANGE.pack(source, begin, count, there))
            return 0

        return injection.perform(
            way,
            (told_path_of(source), told_path_of(into)),
            lambda: original(descriptor, request, *rest),
            short=half,
            nothing=0,
        )

    return stand_in


def _fcopyfile(original: Function) -> Function:
    """`posix._fcopyfile(source, target, flags)`, by which `shutil` and `pathlib` copy on macOS."""
    import posix

    from linker.platforms.base import copy_range

    @wraps(original)
    def stand_in(source: int, into: int, flags: int, /) -> Any:
        injection = current()
        file = None if injection is None else injection.file(into, plain=False)
        if injection is None or file is None:
            return original(source, into, flags)

        def half() -> None:
            there = _left(source, None)
            room = memoryview(bytearray(_CHUNK))
            # Not those of `os`, which are stood in for.
            length = min(there, max(there // 2, 1))
            copy_range(posix.readv, source, posix.write, into, room, length)

        return injection.perform(
            FCOPYFILE,
            (told_path_of(source), told_path_of(into)),
            lambda: original(source, into, flags),
            file=file,
            short=half,
            nothing=None,
        )

    return stand_in


# --- functions that create -----------------------------------------------------------------


def _os_open(original: Function) -> Function:
    @wraps(original)
    def stand_in(path: Any, flags: int, *rest: Any, **keywords: Any) -> Any:
        injection = current()
        if injection is None or not flags & _CREATING:
            return original(path, flags, *rest, **keywords)
        paths = (_absolute(path, keywords.get("dir_fd")),)
        descriptor = injection.perform(
            CREATE, paths, lambda: original(path, flags, *rest, **keywords)
        )
        injection.made(descriptor)
        return descriptor

    return stand_in


def _mknod(original: Function) -> Function:
    @wraps(original)
    def stand_in(path: Any, mode: int = 0o600, *rest: Any, **keywords: Any) -> Any:
        injection = current()
        if injection is None or stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            return original(path, mode, *rest, **keywords)
        place = _absolute(path, keywords.get("dir_fd"))
        injection.perform(MKNOD, (place,), lambda: original(path, mode, *rest, **keywords))
        with suppress(FileNotFoundError):  # somebody else was quick to remove it
            injection.made(place)
        return None

    return stand_in


class _Raw(io.FileIO):
    """A file below the buffers of `open`, whose writes ask the injection it was opened in."""

    injection: Decider | None = None

    def write(self, data: Any, /) -> int:
        """Write, or do what the judge decides."""
        injection = current()
        if injection is None or injection is not self.injection:
            return super().write(data)
        file = injection.file(self.fileno(), plain=True)
        if file is None:
            return super().write(data)
        view = memoryview(data).cast("B")
        write = super().write
        written = injection.perform(
            WRITE,
            (_absolute(self.name),),
            lambda: write(view),
            file=file,
            short=lambda: write(view[: max(len(view) // 2, 1)]),
            nothing=len(view),
        )
        return int(written)


def _open(original: Function) -> Function:
    @wraps(original)
    def stand_in(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,  # noqa: FBT001, FBT002  # the parameters of `open`
        opener: Any = None,
    ) -> Any:
        injection = current()
        plain = set(mode) - set("bt")
        if injection is None or not plain & set("wax+") or "U" in mode:
            return original(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if (buffering == 0 and "b" not in mode) or ("b" in mode and (encoding or errors)):
            return original(file, mode, buffering, encoding, errors, newline, closefd, opener)

        def raw() -> _Raw:
            return _Raw(file, "".join(sorted(plain)), closefd, opener)

        if isinstance(file, int) or opener is not None or not plain & set("wax"):
            opened = raw()  # made by whoever made the descriptor, or not made at all
        else:
            opened = injection.perform(OPEN, (_absolute(file),), raw)
            injection.made(opened.fileno())
        opened.injection = injection
        return layered(opened, mode, buffering, encoding, errors, newline)

    return stand_in


# --- threads -------------------------------------------------------------------------------


def _thread_start(original: Function) -> Function:
    @wraps(original)
    def stand_in(self: threading.Thread) -> Any:
        if current() is not None:
            run, context = self.run, contextvars.copy_context()
            self.run = lambda: context.run(run)  # type: ignore[method-assign]
        return original(self)

    return stand_in


# --- putting them in place -----------------------------------------------------------------

_lock = threading.Lock()
_users = 0
_replaced: list[tuple[Any, str, Function, Function]] = []
"""Where, by what name, what was there, and what stands there."""


def _all() -> list[tuple[Any, str, Callable[[Function], Function]]]:
    import _io

    found: list[tuple[Any, str, Callable[[Function], Function]]] = [
        *((os, row.name, lambda original, row=row: _names(row, original)) for row in NAMES),
        *((os, row.name, lambda original, row=row: _bytes(row, original)) for row in BYTES),
        (os, "open", _os_open),
        (os, "mknod", _mknod),
        (threading.Thread, "start", _thread_start),
    ]
    if HERE == "linux":
        import fcntl

        found.append((fcntl, "ioctl", _ioctl))
    if HERE != "win32":
        import posix

        found.append((posix, "_fcopyfile", _fcopyfile))
    modules: tuple[ModuleType, ...] = (builtins, io, _io)
    found += [(module, "open", _open) for module in modules]
    return [each for each in found if hasattr(each[0], each[1])]


_POWERS: tuple[set[Function], ...] = (
    os.supports_dir_fd,
    os.supports_fd,
    os.supports_follow_symlinks,
)
"""What `os` says of its functions: code asks ``os.link in os.supports_follow_symlinks``."""


def _same_powers(original: Function, stand_in: Function) -> None:
    for powers in _POWERS:
        if original in powers:
            powers.add(stand_in)


def install() -> None:
    """Put the stand-ins in place, unless another injection has done so already."""
    global _users  # there is one `os` in a process, too
    with _lock:
        _users += 1
        if _users > 1:
            return
        for where, name, make in _all():
            original = getattr(where, name)
            stand_in = make(original)
            setattr(where, name, stand_in)
            _same_powers(original, stand_in)
            _replaced.append((where, name, original, stand_in))


def remove() -> None:
    """Take them away with the last injection that is left."""
    global _users
    with _lock:
        _users -= 1
        if _users:
            return
        while _replaced:
            where, name, original, stand_in = _replaced.pop()
            # Whoever has put something of his own on top keeps it: below it we do nothing.
            if getattr(where, name) is stand_in:
                setattr(where, name, original)
            for powers in _POWERS:
                powers.discard(stand_in)
