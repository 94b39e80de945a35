"""Faults in this process: an `Injection` is a context, for the code of one thread.

Who does an operation on files asks it first, by `perform`: the stand-ins for the functions of
Python's own modules (`standins`), which work on every operating system, or a platform of the
reference linker. It decides as for programs, by the same judge, and keeps the same log.
"""

from __future__ import annotations

import contextvars
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, NamedTuple

from pytest_linkmode.coverage import disturbing
from pytest_linkmode.faults.current import CURRENT, Decider
from pytest_linkmode.faults.judge import Action, Judge, Record, Seen
from pytest_linkmode.faults.log import Call
from pytest_linkmode.faults.ops import Way
from pytest_linkmode.faults.spec import EFFECTS, OPS, WINDOWS, Spec


class Tongue(NamedTuple):
    """How a system speaks of errors: `says` makes that of a name, `names` tells its name."""

    says: Callable[[str, tuple[str, ...]], OSError]
    names: Callable[[OSError], str]


class Killed(BaseException):
    """The code was "killed": this operation, and every one after it, ends with this.

    It is no Exception, so code that tidies up after errors does not get to see it, and code that
    tidies up after everything finds that no operation works any more.
    """


class Injection:
    """Faults for the code that runs inside this context, and the log of what it does.

    They are met by the thread that enters it and by threads that this one starts meanwhile, and by
    nobody else. `error` is what ended the context, if anything did; a `Killed` ends there, and so
    do the exceptions in `ends`. With `standing_in` (the default) Python's own functions ask us,
    otherwise only who calls `perform`.
    """

    def __init__(
        self,
        faults: Iterable[Spec],
        *,
        log: Iterable[str] = OPS,
        standing_in: bool = True,
        ends: tuple[type[BaseException], ...] = (),
    ) -> None:
        self._judge = Judge(faults, log)
        self._lock = threading.RLock()
        self._made: dict[tuple[int, int], int] = {}
        self._count = 0
        self._standing_in = standing_in
        self._ends: tuple[type[BaseException], ...] = (Killed, *ends)
        self._token: contextvars.Token[Decider | None] | None = None
        self._held = ExitStack()
        self.killed = False
        self.error: BaseException | None = None

    def calls(self) -> tuple[Call, ...]:
        """Return the log so far, with results."""
        return self._judge.calls()

    @property
    def faults(self) -> tuple[Spec, ...]:
        """What is to go wrong."""
        return tuple(each.fault for faults in self._judge.faults.values() for each in faults)

    @property
    def has_effects(self) -> bool:
        """Whether any of the faults is success that did nothing, or not enough."""
        return any(getattr(fault, "errno_name", "") in EFFECTS for fault in self.faults)

    @property
    def fired(self) -> Mapping[Spec, int]:
        """How many calls each fault hit."""
        return dict(self._judge.fired)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many calls of each op there were; of a copy, files."""
        return dict(self._judge.counts)

    def __enter__(self) -> Injection:
        if self._standing_in:
            from pytest_linkmode.faults import standins

            standins.install()
        self._token = CURRENT.set(self)
        self._held.enter_context(disturbing(lambda: bool(self._judge.fired)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if self._token is not None:
            CURRENT.reset(self._token)
            self._token = None
        if self._standing_in:
            from pytest_linkmode.faults import standins

            standins.remove()
        self._held.close()
        self.error = error
        return isinstance(error, self._ends)

    def perform(
        self,
        way: Way,
        paths: tuple[str, ...],
        do: Callable[[], Any],
        *,
        file: int | None = None,
        short: Callable[[], Any] | None = None,
        nothing: Any = None,
        tongue: Tongue | None = None,
    ) -> Any:
        """Do one operation as the judge decides, and return what it returns.

        `file` is the number of the file that it copies into, `short` does half of it, `nothing` is
        what it returns if it claims success and does nothing, `tongue` how it speaks of errors, if
        not as this system does. Raises OSError or `Killed`.
        """
        if self.killed:
            raise Killed
        with self._lock:
            verdict = self._judge.decide(Seen(way, threading.get_native_id(), (), paths, file))
        record, action = verdict.record, verdict.action
        if action is Action.ANSWER and verdict.name:
            raise (
                refusal(verdict.name, paths) if tongue is None else tongue.says(verdict.name, paths)
            )
        if action is Action.ANSWER:
            if record is not None:
                record.result = nothing or 0
            return nothing
        if action is Action.KILL_BEFORE:
            self.killed = True
            raise Killed
        try:
            halved = action is Action.SHORT and short is not None
            return _noted(record, short if halved and short is not None else do, tongue)
        finally:
            if action is Action.KILL_AFTER:  # whether it failed or not: it has returned
                self.killed = True
                raise Killed

    def asks(self, op: str, *, paths: bool = False) -> bool:
        """Return whether calls of an op must come through `perform`, or even with their paths.

        The others have only to be counted, by `count`.
        """
        faults = self._judge.faults[op]
        if op in self._judge.log:
            return True
        return any(not each.fault.matches.anything for each in faults) if paths else bool(faults)

    def count(self, op: str) -> None:
        """Count a call that nobody asks more about. Raises `Killed` if there can be none."""
        if self.killed:
            raise Killed
        self._judge.counts[op] += 1

    def new_file(self) -> int:
        """Return the number of a file that was made just now."""
        with self._lock:
            self._count += 1
            return self._count

    def made(self, file: int | str) -> None:
        """Take note that a file (its descriptor, or its path) was opened to be made, or was made.

        What is written to it is a copy, anew.
        """
        status = os.stat(file)
        if stat.S_ISREG(status.st_mode):
            self._made[status.st_dev, status.st_ino] = self.new_file()

    def file(self, descriptor: int, *, plain: bool) -> int | None:
        """Return the number of the file that a descriptor writes to, or None if it is no copy.

        `plain` says that bytes are written from memory, so that only a file that was made counts.
        """
        try:
            status = os.fstat(descriptor)
        except OSError:
            return None  # no descriptor: the call itself will say so
        if not stat.S_ISREG(status.st_mode):
            return None
        key = (status.st_dev, status.st_ino)
        with self._lock:
            if key not in self._made and not plain:
                self._count += 1
                self._made[key] = self._count
            return self._made.get(key)


def _noted(record: Record | None, do: Callable[[], Any], tongue: Tongue | None) -> Any:
    try:
        result = do()
    except OSError as error:
        if record is not None:
            record.error = error.errno if tongue is None else tongue.names(error)
        raise
    if record is not None:
        count = result if type(result) is int else 0
        record.error = None
        record.result = count + (record.result or 0 if record.op == "copy" else 0)
    return result


def refusal(name: str, paths: tuple[str, ...] = ()) -> OSError:
    """Return the error of a name, as `injected` does; one of winerror.h has its `winerror`."""
    if not name.startswith(WINDOWS):
        return injected(getattr(errno, name), paths)
    from linker.platforms.windows import NUMBERS, refused  # only where somebody speaks of Windows

    error = refused(NUMBERS[name], paths[0] if paths else "")
    error.injected = True  # type: ignore[attr-defined]
    return error


def injected(number: int, paths: tuple[str, ...] = ()) -> OSError:
    """Return an error that no kernel made, of the class that the kernel's would have.

    Its attribute `injected` says so: what the reference linker does about it is reported as proven
    by a fault, not by a filesystem.
    """
    error = OSError(number, os.strerror(number), *_blamed(paths))
    error.injected = True  # type: ignore[attr-defined]
    return error


def _blamed(paths: tuple[str, ...]) -> tuple[Any, ...]:
    """Return the paths as OSError takes them: filename, winerror, filename2."""
    return (paths[0], None, paths[1]) if len(paths) == 2 else paths[:1]
