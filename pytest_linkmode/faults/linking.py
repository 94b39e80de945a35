"""Faults in the reference linker: an `Injection` at every call that its platform makes.

A platform makes its calls through a table of functions, such as `linker.platforms.linux.Calls`.
`faulty` gives one whose table asks the injection first, so that errors, kills, success that did
nothing and half a copy meet the linker exactly where its system would bring them about, on every
system and over the models. What the linker then does is reported with the proof ``injected``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from linker.platforms import current
from linker.platforms.base import Platform
from pytest_linkmode.errors import UsageError
from pytest_linkmode.faults.inprocess import Injection, Tongue
from pytest_linkmode.faults.ops import Way
from pytest_linkmode.faults.spec import SHORT, WINDOWS, Fault

Function = Callable[..., Any]
Where = Callable[[Any], str]
"""Returns the path of what a descriptor or handle refers to, as far as that can be known."""
Paths = Callable[[Where, tuple[Any, ...], Mapping[str, Any]], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Row:
    """One function of a table: the op that it does, and what it is about.

    `which` tells the op by what the function is given, where it does one of several `ops`. One that
    is `in_c` returns -1 and leaves an error number where the table's `errno` finds it.
    """

    ops: tuple[str, ...]
    paths: Paths
    changed: int = 1
    which: Callable[[tuple[Any, ...]], str] | None = None
    in_c: bool = False

    def op(self, given: tuple[Any, ...]) -> str:
        """Return the op of a call."""
        return self.ops[0] if self.which is None else self.which(given)


@dataclass(frozen=True)
class Dialect:
    """How the table of one platform is read.

    `rows` are its functions by name, but for `sleep`, which is none of them (a fault does not pass
    by waiting), and for what does nothing to files. `where` makes a `Where` of what was opened
    under which number, `halves` does half of a clone: (table, arguments). `says` makes the error of
    a name, for the paths of a call.
    """

    rows: Mapping[str, Row]
    where: Callable[[Mapping[Any, str]], Where]
    says: Callable[[str, tuple[str, ...]], OSError]
    halves: Mapping[str, Callable[[Any, tuple[Any, ...]], Any]]


DIALECTS: Mapping[str, tuple[str, str]] = {
    "linux": ("pytest_linkmode.faults.linking_posix", "LINUX"),
    "macos": ("pytest_linkmode.faults.linking_posix", "MACOS"),
    "windows": ("pytest_linkmode.faults.linking_windows", "WINDOWS"),
}
"""Name of a platform -> module and name of its dialect: only what is used is imported."""


def dialect_of(platform: str) -> Dialect:
    """Return how the table of a platform is read."""
    module, name = DIALECTS[platform]
    return cast(Dialect, getattr(importlib.import_module(module), name))


class _Table:
    """The functions of one platform under an injection, and the descriptors they opened."""

    def __init__(self, injection: Injection, base: Any, dialect: Dialect, tongue: Tongue) -> None:
        self._injection = injection
        self._dialect = dialect
        self._tongue = tongue
        self._open: dict[int, int] = {}
        """Descriptor -> the number of the file if it was made here, else 0."""
        self._paths: dict[int, str] = {}
        self._where = dialect.where(self._paths)
        self._listing: Any = None
        self._copied: set[int] = set()
        self._left: int | None = None
        """The number of the error that a function in C was given here."""
        names = [each.name for each in fields(base) if each.name in dialect.rows]
        noted = {"open": self._opened, "close": self._closed}
        noted |= {name: self._listed for name in ("listdir", "scandir") if name in names}
        self._base = replace(
            base, **{name: note(getattr(base, name)) for name, note in noted.items()}
        )
        self.calls = replace(
            base,
            sleep=lambda _: None,
            **{name: self._function(name) for name in names},
            **({"errno": self._errno(base)} if hasattr(base, "errno") else {}),
        )

    def close(self) -> None:
        """Close what a kill left open, as the kernel would."""
        for descriptor in list(self._open):
            self._base.close(descriptor)
        if self._listing is not None:
            self._listing.close()

    # What is noted of calls that were really made, also where a kill comes right after them

    def _opened(self, function: Function) -> Function:
        row = self._dialect.rows["open"]

        def opened(path: str, *given: Any, **options: Any) -> int:
            descriptor: int = function(path, *given, **options)
            makes = row.op((path, *given)) == "create"
            self._open[descriptor] = self._injection.new_file() if makes else 0
            self._paths[descriptor] = path
            return descriptor

        return opened

    def _closed(self, function: Function) -> Function:
        def closed(descriptor: int) -> None:
            self._open.pop(descriptor, None)  # close(2): it is gone, whatever the call says
            self._paths.pop(descriptor, None)
            function(descriptor)

        return closed

    def _listed(self, function: Function) -> Function:
        def listed(directory: Any) -> Any:
            self._listing = function(directory)
            return self._listing

        return listed

    # What the platform is given

    def _function(self, name: str) -> Function:
        row = self._dialect.rows[name]
        if name == "close":
            return self._closing()
        if name == "access":
            return self._asking()
        if row.ops == ("copy",):
            return self._copying(name)
        asked = {op: self._asked(name, op) for op in row.ops}
        if row.which is None:
            return self._in_c(asked[row.ops[0]]) if row.in_c else asked[row.ops[0]]
        which = row.which
        return lambda *given, **options: asked[which(given)](*given, **options)

    def _asked(
        self, name: str, op: str, short: Function | None = None, claim: Function | None = None
    ) -> Function:
        """Return a function of the table that asks the injection, however little it asks back."""
        row, function = self._dialect.rows[name], getattr(self._base, name)
        if row.in_c:
            function, claim = self._raising(function), lambda *_: 0
        half = self._dialect.halves.get(name)
        if half is not None:
            base = self._base
            short = lambda *given: half(base, given)  # noqa: E731
        injection, tongue, where = self._injection, self._tongue, self._where
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
                row.paths(where, given, options) if with_paths else (),
                lambda: function(*given, **options),
                file=file,
                short=None if short is None else lambda: short(*given),
                nothing=None if claim is None else claim(*given),
                tongue=tongue,
            )

        return performed

    def _closing(self) -> Function:
        closing, known, base = self._asked("close", "close"), self._open, self._base.close

        def closed(descriptor: int) -> None:
            try:
                closing(descriptor)
            except OSError:
                if descriptor in known:
                    base(descriptor)
                raise

        return closed

    def _copying(self, name: str) -> Function:
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

        def claim(_descriptor: int, data: Any) -> int | None:
            return None if isinstance(data, int) else len(data)

        asked = self._asked(name, "copy", half, claim)
        return lambda descriptor, data: asked(descriptor, data, file=known[descriptor])

    def _asking(self) -> Function:
        access = self._asked("access", "read")

        def answered(*given: Any, **options: Any) -> bool:
            try:
                return bool(access(*given, **options))
            except OSError:
                return False  # access has no errors, only an answer

        return answered

    # Functions in C: inside of here they raise, like all others.

    def _raising(self, function: Function) -> Function:
        def raised(*given: Any) -> int:
            result: int = function(*given)
            if result < 0:
                raise OSError(self._base.errno(), "")
            return result

        return raised

    def _in_c(self, asked: Function) -> Function:
        def answered(*given: Any) -> int:
            self._left = None
            try:
                result: int = asked(*given)
            except OSError as error:
                self._left = error.errno
                return -1
            return result

        return answered

    def _errno(self, base: Any) -> Callable[[], int]:
        return lambda: base.errno() if self._left is None else self._left


@contextmanager
def faulty(injection: Injection, base: Platform | None = None) -> Iterator[Platform]:
    """Give a platform of the reference linker whose every call asks `injection` first.

    For ``link_tree(..., platform=)``, inside the context of the injection. It makes the calls of
    `base` where no fault is due: of the platform of this system, unless another is given, such as
    one over a model. What a simulated kill left open is closed at the end.

    Raises UsageError for a fault that its system cannot have.
    """
    base = base or current()
    dialect = dialect_of(base.name)
    for fault in injection.faults:
        _check(fault, base.name, dialect)
    table = _Table(injection, cast(Any, base).calls, dialect, Tongue(dialect.says, base.error_name))
    # An error says itself that it was injected, but where it came as a number, out of C; and what
    # did nothing cannot: neither is to pass for real.
    in_c = {op for row in dialect.rows.values() if row.in_c for op in row.ops}
    cannot_say = injection.has_effects or any(fault.op in in_c for fault in injection.faults)
    try:
        yield cast(Any, type(base))(table.calls, proof="injected" if cannot_say else base.proof)
    finally:
        table.close()


def _check(fault: object, platform: str, dialect: Dialect) -> None:
    if not isinstance(fault, Fault):
        return
    if fault.errno_name.startswith(WINDOWS) and platform != "windows":
        raise UsageError(f"no call of {platform} fails as in {fault}", why="the error is Windows'")
    if fault.errno_name == SHORT and fault.op == "clone" and not dialect.halves:
        raise UsageError(
            f"no call of {platform} does half as in {fault}",
            why="it clones a file by pieces, whose lengths it is told",
        )
