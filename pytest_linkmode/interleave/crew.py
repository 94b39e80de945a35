"""Who has the turn: one actor runs at a time, and hands it on where the schedule says so."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pytest_linkmode.errors import LinkmodeError

PATIENCE = 60.0
"""Seconds without a turn after which an actor is taken to hang."""

GRACE = 1.0
"""Seconds in which a thread ends that has nothing more to do."""

Perform = Callable[[int], int | None]
"""Runs an actor to its end; returns who has the turn then, None for nobody."""


class Crew:
    """A thread and a baton for each actor, kept from schedule to schedule."""

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
                raise LinkmodeError(
                    "an actor hangs",
                    why=f"for {PATIENCE:g} s the turn has not changed hands",
                    hint="an actor must not wait for another one",
                )
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
