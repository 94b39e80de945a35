"""Who has the turn: one actor runs at a time, and hands it on where the schedule says so.

With greenlets (the extra ``interleave``) a turn changes hands without the operating system; without
them each actor has a thread, kept from schedule to schedule, and a baton.
"""

from __future__ import annotations

import contextvars
import importlib
import signal
import threading
from collections.abc import Callable
from typing import Any, Protocol

from pytest_linkmode import HERE
from pytest_linkmode.errors import LinkmodeError

PATIENCE = 60.0
"""Seconds without a turn after which an actor is taken to hang."""

GRACE = 1.0
"""Seconds in which a thread ends that has nothing more to do."""

Perform = Callable[[int], int | None]
"""Runs an actor to its end; returns who has the turn then, None for nobody."""


class Crew(Protocol):
    """The actors of a world, by number."""

    def start(self, first: int) -> None:
        """Give an actor the turn; return when nobody has it any more."""

    def hand(self, me: int, to: int) -> None:
        """Hand the turn on, as the one who has it; return when it has come back."""

    def acts(self) -> bool:
        """Return whether the calling code may be an actor's."""

    def close(self) -> None:
        """End what was begun."""


class Threads:
    """A thread and a baton for each actor."""

    def __init__(self, count: int, perform: Perform) -> None:
        self._perform = perform
        self._turns = 0
        self._closing = threading.Event()
        self._main = _taken()
        self._batons = [_taken() for _ in range(count)]
        self._threads = [
            threading.Thread(target=self._serve, args=(index,), name=f"actor {index}", daemon=True)
            for index in range(count)
        ]
        for thread in self._threads:
            thread.start()
        self._idents = {thread.ident for thread in self._threads}

    def start(self, first: int) -> None:
        """Give an actor the turn; return when nobody has it any more."""
        self._batons[first].release()
        seen = -1
        while not self._main.acquire(timeout=PATIENCE):
            if self._turns == seen:
                raise _hanging()
            seen = self._turns

    def hand(self, me: int, to: int) -> None:
        """Hand the turn on, as the one who has it; return when it has come back."""
        self._turns += 1
        self._batons[to].release()
        self._batons[me].acquire()

    def acts(self) -> bool:
        """Return whether the calling code may be an actor's."""
        return threading.get_ident() in self._idents

    def close(self) -> None:
        """End the threads; one that hangs is left to itself."""
        self._closing.set()
        for baton, thread in zip(self._batons, self._threads, strict=True):
            if baton.locked():
                baton.release()
            thread.join(GRACE)

    def _serve(self, index: int) -> None:
        while True:
            self._batons[index].acquire()
            if self._closing.is_set():
                return
            to = self._perform(index)
            if self._closing.is_set():
                return
            self._turns += 1
            (self._main if to is None else self._batons[to]).release()


def _taken() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


class Greenlets:
    """A greenlet for each actor, new in each schedule, in the main thread.

    One that hangs is interrupted, as by Ctrl-C, by a thread that watches.
    """

    def __init__(self, count: int, perform: Perform) -> None:  # noqa: ARG002  # as `Threads`
        self._library: Any = importlib.import_module("greenlet")
        self._perform = perform
        self._main: Any = None
        self._begun: dict[int, Any] = {}
        self._ident = threading.get_ident()
        self._turns = 0
        self._under_way = self._hangs = False
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="schedules", daemon=True)
        self._watcher.start()

    def start(self, first: int) -> None:
        """Give an actor the turn; return when nobody has it any more."""
        self._main = self._library.getcurrent()
        self._begun.clear()
        self._turns += 1
        self._under_way = True
        to: int | None = first
        while to is not None:
            to = self._of(to).switch()  # which comes back whenever one of them has ended
        self._under_way = False
        if self._hangs:
            raise _hanging()

    def hand(self, me: int, to: int) -> None:  # noqa: ARG002  # it is the one that runs
        """Hand the turn on, as the one who has it; return when it has come back."""
        self._turns += 1
        self._of(to).switch()

    def acts(self) -> bool:
        """Return whether the calling code may be an actor's."""
        return threading.get_ident() == self._ident

    def close(self) -> None:
        """Let go of those that are still under way: they end with GreenletExit."""
        self._begun.clear()
        self._closing.set()
        self._watcher.join()

    def _of(self, index: int) -> Any:
        found = self._begun.get(index)
        if found is None:
            found = self._library.greenlet(lambda: self._perform(index), self._main)
            found.gr_context = contextvars.copy_context()
            self._begun[index] = found
        return found

    def _watch(self) -> None:
        seen = -1
        while not self._closing.wait(PATIENCE):
            if self._under_way and self._turns == seen:
                self._hangs = True
                signal.pthread_kill(self._ident, signal.SIGINT)
            seen = self._turns


def _hanging() -> LinkmodeError:
    return LinkmodeError(
        "an actor hangs",
        why=f"for {PATIENCE:g} s the turn has not changed hands",
        hint="an actor must not wait for another one",
    )


def gather(count: int, perform: Perform) -> Crew:
    """Return a crew of the fastest kind that can be had."""
    # The main thread alone can be interrupted while it waits, and on Windows not even that.
    if HERE != "win32" and threading.current_thread() is threading.main_thread():
        try:
            return Greenlets(count, perform)
        except ImportError:  # the extra is not installed
            return Threads(count, perform)
    return Threads(count, perform)
