"""Faults in the reference linker: an `Injection` at every system call that its platform makes.

The linker makes its calls through a table of functions, `linker.platforms.linux.Calls`. `faulty`
gives a platform whose table asks the injection first, so that errors, kills, success that did
nothing and half a copy meet the linker exactly where the kernel would bring them about. What the
linker then does is reported with the proof ``injected``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

from linker.platforms.linux import CALLS, Calls, LinuxPlatform
from pytest_linkmode.faults.inprocess import Injection
from pytest_linkmode.faults.ops import Way

Function = Callable[..., Any]
Paths = Callable[[tuple[Any, ...], Mapping[str, Any]], tuple[str, ...]]


def _of(directory: int | None, name: Any = None) -> str:
    """Return where a name lies, or what a descriptor refers to, as far as that can be known."""
    if isinstance(name, str) and os.path.isabs(name):
        return name
    try:
        place = os.getcwd() if directory is None else os.readlink(f"/proc/self/fd/{directory}")
    except OSError:
        place = f"descriptor {directory}"
    return place if name is None else os.path.normpath(os.path.join(place, name))


def _one(given: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[str, ...]:
    if isinstance(given[0], int):
        return (_of(given[0]),)
    return (_of(options.get("dir_fd"), given[0]),)


def _cloned(given: tuple[Any, ...], _options: Mapping[str, Any]) -> tuple[str, ...]:
    return (_of(given[1]), _of(given[0]))


def _pair(given: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[str, ...]:
    source, target = options.get("src_dir_fd"), options.get("dst_dir_fd")
    return (_of(source, given[0]), _of(target, given[1]))


def _between(given: tuple[Any, ...], _options: Mapping[str, Any]) -> tuple[str, ...]:
    return (_of(given[0], given[1]), _of(given[2], given[3]))


def _said(given: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[str, ...]:
    return (given[0], _of(options.get("dir_fd"), given[1]))


@dataclass(frozen=True, slots=True)
class Row:
    """One function of the table: the op that it does, and what it is about."""

    op: str
    paths: Paths = _one
    changed: int = 1


ROWS: Mapping[str, Row] = {
    "open": Row("open"),  # or create, as its flags say
    "close": Row("close"),
    "read": Row("read"),
    "write": Row("copy"),
    "seek": Row("read"),
    "truncate": Row("copy"),
    "fstat": Row("read"),
    "stat": Row("read"),
    "chmod": Row("stamp"),
    "utime": Row("stamp"),
    "ficlone": Row("clone", _cloned),
    "ioctl": Row("read"),
    "listxattr": Row("read"),
    "getxattr": Row("read"),
    "access": Row("read"),
    "listdir": Row("read"),
    "mkdir": Row("mkdir"),
    "link": Row("hardlink", _pair),
    "symlink": Row("symlink", _said),
    "birth": Row("read"),
    "fstype": Row("read"),
    "readlink": Row("read"),
    "rename": Row("rename", _pair, 2),
    "renameat2": Row("rename", _between, 2),
    "unlink": Row("unlink"),
    "rmdir": Row("unlink"),
    "flock": Row("lock"),
}
"""Function of `Calls` -> its op. `sleep` is none of them: a fault does not pass by waiting."""

_NAMELESS = os.O_TMPFILE & ~os.O_DIRECTORY if hasattr(os, "O_TMPFILE") else 0


def makes(flags: int) -> bool:
    """Return whether an open with these flags makes a file."""
    return bool(flags & (os.O_CREAT | _NAMELESS))


class _Table:
    """The functions of one platform under an injection, and the descriptors they opened."""

    def __init__(self, injection: Injection, base: Calls) -> None:
        self._injection = injection
        self._base = replace(
            base, open=self._opened(base), close=self._closed(base), listdir=self._listed(base)
        )
        self._open: dict[int, int] = {}
        """Descriptor -> the number of the file if it was made here, else 0."""
        self._listing: Any = None
        self._copied: set[int] = set()
        special: dict[str, Any] = {
            "open": self._opening(),
            "close": self._closing(),
            "write": self._copying("write", claim=lambda data: len(data)),
            "truncate": self._copying("truncate", claim=lambda _: None),
            "access": self._asking(),
            "sleep": lambda _: None,
        }
        self.calls = Calls(
            **{
                each.name: special.get(each.name) or self._plain(each.name)
                for each in fields(Calls)
            }
        )

    def close(self) -> None:
        """Close what a kill left open, as the kernel would."""
        for descriptor in list(self._open):
            self._base.close(descriptor)
        if self._listing is not None:
            self._listing.close()

    # What is noted of calls that were really made, also where a kill comes right after them

    def _opened(self, base: Calls) -> Function:
        def opened(path: str, flags: int, *mode: int, **options: Any) -> int:
            descriptor = base.open(path, flags, *mode, **options)
            self._open[descriptor] = self._injection.new_file() if makes(flags) else 0
            return descriptor

        return opened

    def _closed(self, base: Calls) -> Function:
        def closed(descriptor: int) -> None:
            self._open.pop(descriptor, None)  # close(2): it is gone, whatever the call says
            base.close(descriptor)

        return closed

    def _listed(self, base: Calls) -> Function:
        def listed(descriptor: int) -> Any:
            self._listing = base.listdir(descriptor)
            return self._listing

        return listed

    # What the platform is given

    def _asked(
        self, name: str, op: str = "", short: Function | None = None, claim: Function | None = None
    ) -> Function:
        """Return a function of the table that asks the injection, however little it asks back."""
        row, function = ROWS[name], getattr(self._base, name)
        op = op or row.op
        injection = self._injection
        if not injection.asks(op):
            count = injection.count

            def counted(*given: Any, **options: Any) -> Any:
                count(op)
                return function(*given, **options)

            return counted
        way = Way(op, name, (), changed=row.changed)
        with_paths = injection.asks(op, paths=True)

        def performed(*given: Any, file: int | None = None, **options: Any) -> Any:
            return injection.perform(
                way,
                row.paths(given, options) if with_paths else (),
                lambda: function(*given, **options),
                file=file,
                short=None if short is None else lambda: short(*given),
                nothing=None if claim is None else claim(given[1]),
            )

        return performed

    def _plain(self, name: str) -> Function:
        return self._asked(name, short=_half_a_clone if name == "ficlone" else None)

    def _opening(self) -> Function:
        opening, making = self._asked("open"), self._asked("open", "create")

        def opened(path: str, flags: int, *mode: int, **options: Any) -> Any:
            return (making if makes(flags) else opening)(path, flags, *mode, **options)

        return opened

    def _closing(self) -> Function:
        closing, known, base = self._asked("close"), self._open, self._base.close

        def closed(descriptor: int) -> None:
            try:
                closing(descriptor)
            except OSError:
                if descriptor in known:
                    base(descriptor)
                raise

        return closed

    def _copying(self, name: str, claim: Function) -> Function:
        function, injection, known, copied = (
            getattr(self._base, name),
            self._injection,
            self._open,
            self._copied,
        )
        if not injection.asks("copy"):

            def counted(descriptor: int, data: Any) -> Any:
                number = known[descriptor]
                if number not in copied:
                    copied.add(number)
                    injection.count("copy")
                elif injection.killed:
                    injection.count("copy")
                return function(descriptor, data)

            return counted

        def half(descriptor: int, data: Any) -> Any:
            return function(
                descriptor, data // 2 if isinstance(data, int) else data[: len(data) // 2]
            )

        asked = self._asked(name, short=half, claim=claim)
        return lambda descriptor, data: asked(descriptor, data, file=known[descriptor])

    def _asking(self) -> Function:
        access = self._asked("access")

        def answered(*given: Any, **options: Any) -> bool:
            try:
                return bool(access(*given, **options))
            except OSError:
                return False  # access has no errors, only an answer

        return answered


def _half_a_clone(writing: int, reading: int) -> None:
    """Give a file half of the bytes: what a clone that is cut short would leave."""
    size, position = os.fstat(reading).st_size // 2, 0
    while position < size:
        position += os.pwrite(writing, os.pread(reading, size - position, position), position)


@contextmanager
def faulty(injection: Injection, base: Calls = CALLS) -> Iterator[LinuxPlatform]:
    """Give a platform of the reference linker whose every call asks `injection` first.

    For ``link_tree(..., platform=)``, inside the context of the injection. `base` are the calls
    that are made where no fault is due. What a simulated kill left open is closed at the end.
    """
    table = _Table(injection, base)
    # An error says itself that it was injected; what did nothing cannot, and is not to pass for
    # real.
    proof = "injected" if injection.has_effects else "real"
    try:
        yield LinuxPlatform(table.calls, proof=proof)
    finally:
        table.close()
