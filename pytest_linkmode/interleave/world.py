"""Actors in this process: each stops before every operation, and one runs at a time.

An actor is a callable with a thread of its own, kept from schedule to schedule. Who runs holds the
baton; it is handed over only where the schedule says so, so that what nobody else can notice costs
no switch. Operations come here from a platform of the reference linker, or any other table of
functions (`seam`), and from Python's own functions (`standing`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from pytest_linkmode.errors import LinkmodeError
from pytest_linkmode.interleave.footprints import (
    Footprint,
    Lists,
    Pairs,
    Reads,
    Removals,
    Writes,
    conflict,
)

PATIENCE = 60.0
"""Seconds without an operation after which an actor is taken to hang."""

Sleeping = Mapping[int, Footprint]
"""Actors whose next operation need not come next: another schedule has it there."""
NOBODY: Sleeping = {}


class Event(NamedTuple):
    """One operation of one actor, as it came out."""

    actor: int
    name: str
    paths: tuple[str, ...]
    footprint: Footprint
    error: str = ""


_event: Any = tuple.__new__  # half the time of calling the class


@dataclass(frozen=True)
class Outcome:
    """How an actor ended."""

    value: Any = None
    error: BaseException | None = None

    def result(self) -> Any:
        """Return what the actor returned, or raise what it raised."""
        if self.error is not None:
            raise self.error
        return self.value


@dataclass
class Execution:
    """One schedule that was run.

    `events` are in the order of time; `ended` is how many there were when each actor had ended.
    `sleeps` says from which event on which actors were asleep. A schedule that is `pruned` was
    broken off: all that could follow comes in others.
    """

    actors: tuple[str, ...]
    events: list[Event] = field(default_factory=list)
    ended: dict[int, int] = field(default_factory=dict)
    sleeps: list[tuple[int, Sleeping]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    pruned: bool = False

    @property
    def plan(self) -> bytes:
        """Who had each turn."""
        return bytes(event.actor for event in self.events)


class World(Protocol):
    """Something that runs schedules of the same actors, each from the same beginning."""

    actors: tuple[str, ...]

    def run(self, plan: bytes, sleeping: Sleeping = NOBODY) -> Execution:
        """Run a schedule: the first turns as `plan` says, then each actor as long as it can.

        `sleeping` are actors that are not to have the last turn of the plan, nor a later one until
        an operation that conflicts with theirs was done.
        """


class Diverged(LinkmodeError):
    """The actors did not do again what they did before, so schedules cannot be explored."""


class Cut(BaseException):
    """The schedule is broken off: this operation of the actor, and every later one, ends with this.

    It is no Exception, so that code which tidies up after errors does not get to see it.
    """


class _Actor:
    """A callable, its thread and its baton."""

    def __init__(self, index: int, function: Callable[[], Any], world: InProcess) -> None:
        self.index = index
        self.function = function
        self.baton = threading.Lock()
        self.baton.acquire()
        self.outcome = Outcome()
        self.begun = False
        self.number = 0
        """How many random names it has asked for."""
        self._world = world
        self.thread = threading.Thread(
            target=self._serve, name=f"actor {world.actors[index]}", daemon=True
        )
        self.thread.start()

    def _serve(self) -> None:
        world = self._world
        while True:
            self.baton.acquire()
            if world.closing:
                return
            self.begun, self.number = True, 0
            try:
                self.outcome = Outcome(self.function())
            except BaseException as error:  # noqa: BLE001  # whatever ends an actor is its outcome
                self.outcome = Outcome(error=error)
            world.finished(self)


class InProcess:
    """The world of some callables. Close it when all schedules have run.

    `below` are the directories, as real paths, whose names the actors share: operations elsewhere
    are none that anybody could notice. `prepare` is called before each schedule and puts
    everything back as it was.
    """

    def __init__(
        self,
        actors: Mapping[str, Callable[[], Any]],
        below: Iterable[str],
        prepare: Callable[[], object],
    ) -> None:
        self.actors = tuple(actors)
        self._roots = tuple(below)
        self._inside = tuple(root.rstrip("/") + "/" for root in self._roots)
        self._prepare = prepare
        self.reads, self.writes = Reads(self._roots), Writes(self._roots)
        self.lists, self.removals = Lists(self._roots), Removals(self._roots)
        self.pairs = Pairs({"reads": self.reads, "writes": self.writes})
        self._upward = frozenset(
            root[:end] or "/"
            for root in self._roots
            for end in range(len(root))
            if root[end] == "/"
        )
        self.closing = False
        self._main = threading.Lock()
        self._main.acquire()
        self.inside: dict[int | None, str] = {}
        """Descriptor -> its path, where the actors meet."""
        self.leading: dict[int, str] = {}
        """The same, and those of the directories above."""
        self.elsewhere: set[int | None] = set()
        """Descriptors of anything else, and of files without a name."""
        self.opened: set[int] = set()
        """Those that nobody closes by himself where a schedule is broken off."""
        self.locked: dict[int, str] = {}
        self.busy = False
        """Whether `turn` must be called before an operation."""
        self.running: _Actor | None = None
        self._plan = b""
        self._sleeping: Sleeping = {}
        self._cut = False
        self._failure: LinkmodeError | None = None
        self._execution = Execution(self.actors)
        self._events = self._execution.events
        self._crew = [
            _Actor(index, function, self) for index, function in enumerate(actors.values())
        ]
        self._idents = {actor.thread.ident for actor in self._crew}

    def close(self) -> None:
        """End the threads."""
        self.closing = True
        for actor in self._crew:
            actor.baton.release()
            actor.thread.join()

    # What whoever explores calls.

    def run(self, plan: bytes, sleeping: Sleeping = NOBODY) -> Execution:
        """Run a schedule; see `World`."""
        self._prepare()
        execution = self._execution = Execution(self.actors)
        self._events = execution.events
        self._plan, self._sleeping, self._cut, self._failure = plan, sleeping, False, None
        self.busy = bool(plan)
        for known in (self.inside, self.leading, self.elsewhere, self.locked):
            known.clear()
        for actor in self._crew:
            actor.begun = False
        self.running = first = self._next(None)
        if first is not None:
            first.baton.release()
            if not self._wait():
                raise LinkmodeError(
                    f"actor {self.actors[self.running.index]} hangs" if self.running else "hangs",
                    why=f"it did no operation for {PATIENCE:g} s, and did not end",
                    hint="an actor must not wait for another one",
                )
        self._close_all()
        if self._failure is not None:
            raise self._failure
        if len(execution.events) < len(plan):
            raise self._diverged(f"all had ended after {len(execution.events)} turns")
        execution.outcomes = [actor.outcome for actor in self._crew]
        execution.pruned = self._cut
        return execution

    def _close_all(self) -> None:
        """Close what was left open, as the kernel would."""
        for descriptor in self.opened:
            os.close(descriptor)
        self.opened.clear()

    def _wait(self) -> bool:
        seen = -1
        while not self._main.acquire(timeout=PATIENCE):
            if len(self._events) == seen:
                return False
            seen = len(self._events)
        return True

    # What actors call, one at a time.

    def acts(self) -> bool:
        """Return whether the calling thread is an actor that has begun."""
        return threading.get_ident() in self._idents and self.running is not None

    def watched(self, path: str) -> bool:
        """Return whether a path lies where the actors meet."""
        return path in self._roots or path.startswith(self._inside)

    def far(self, path: str) -> bool:
        """Return whether a path is plainly none that the actors share; False if one must look."""
        if path in self._roots or path.startswith(self._inside):
            return False
        return is_plain(path) and path[:6] != "/proc/"

    def turn(self) -> bool:
        """Wait until the running actor may do its next operation; return whether others ran."""
        if self._cut:
            raise Cut
        count = len(self._events)
        if count < len(self._plan):
            following = self._plan[count]
        elif not self._sleeping:
            self.busy = False
            return False
        else:
            following = -1
        me = self.running
        assert me is not None  # it calls
        if following != me.index:
            to = self._next(me)
            if to is None:
                self._cut = self.busy = True
                raise Cut
            if to is not me:
                self.running = to
                to.baton.release()
                me.baton.acquire()
                if self._cut:
                    raise Cut
                return True
        return False

    def note(
        self, name: str, paths: tuple[str, ...], footprint: Footprint, error: str = ""
    ) -> None:
        """Enter the operation that the running actor has just done."""
        me = self.running
        assert me is not None  # it calls
        events = self._events
        events.append(_event(Event, (me.index, name, paths, footprint, error)))
        if self._sleeping and len(events) >= len(self._plan):
            awake = [other for other, next_ in self._sleeping.items() if conflict(next_, footprint)]
            if awake:
                self._sleeping = {
                    other: next_ for other, next_ in self._sleeping.items() if other not in awake
                }
            if awake or len(events) == len(self._plan):
                self._execution.sleeps.append((len(events), self._sleeping))

    def finished(self, me: _Actor) -> None:
        """Hand the baton on when an actor has ended."""
        self._execution.ended[me.index] = len(self._events)
        to = self._next(me)
        if to is None and any(not self._over(actor) for actor in self._crew):
            self._cut = self.busy = True
            to = self._next(me)
        self.running = to
        (self._main if to is None else to.baton).release()

    def _over(self, actor: _Actor) -> bool:
        return actor.index in self._execution.ended

    def _next(self, me: _Actor | None) -> _Actor | None:
        """Return who has the next turn; None if nobody may."""
        count = len(self._events)
        if self._cut:  # those that have begun must end
            return next((one for one in self._crew if one.begun and not self._over(one)), None)
        if count < len(self._plan):
            planned = self._crew[self._plan[count]]
            if self._over(planned):
                name = self.actors[planned.index]
                self._failure = self._diverged(f"{name} had ended before turn {count}")
                return None
            return planned
        if me is not None and not self._over(me) and me.index not in self._sleeping:
            return me
        for actor in self._crew:
            if not self._over(actor) and actor.index not in self._sleeping:
                return actor
        return None

    def _diverged(self, why: str) -> Diverged:
        return Diverged(
            "the actors are not deterministic",
            why=f"run again in the same order, {why}",
            hint="prepare= must put everything back, and nothing may depend on time or chance",
        )

    def random(self, size: int) -> bytes:
        """Return bytes that no other actor gets, and that are the same in every schedule."""
        me = self.running
        assert me is not None  # it calls
        me.number += 1
        made = (me.index + 1).to_bytes(2, "big") + me.number.to_bytes(2, "big")
        return (made * (size // 4 + 1))[:size]

    # What descriptors refer to.

    def track(self, descriptor: int, path: str | None) -> None:
        """Take note of what a descriptor is; None if it has no name that others could use."""
        self.forget(descriptor, still_open=True)
        if path is not None and self.watched(path):
            self.inside[descriptor] = self.leading[descriptor] = path
        elif path is not None and path in self._upward:
            self.leading[descriptor] = path
        else:
            self.elsewhere.add(descriptor)

    def forget(self, descriptor: int, *, still_open: bool = False) -> None:
        """Take note that a descriptor is closed."""
        self.inside.pop(descriptor, None)
        self.leading.pop(descriptor, None)
        self.elsewhere.discard(descriptor)
        if not still_open:
            self.opened.discard(descriptor)

    def leads(self, name: Any, directory: int | None) -> str | None:
        """Return the path of what was opened elsewhere, if it may lead to where actors meet."""
        text = os.fsdecode(name)
        if directory is not None and text[:1] != "/":
            base = self.leading.get(directory)
            if base is None:
                return None
            text = f"{base}/{text}"
        return text if is_plain(text) else os.path.abspath(text)

    def moved(self, old: str, new: str, *, swapped: bool = False) -> None:
        """Take note that a name was renamed: descriptors of what lies below follow it."""
        pairs = [(old, new), (new, old)] if swapped else [(old, new)]
        for descriptor, path in list(self.leading.items()):
            for before, after in pairs:
                if path == before or path.startswith(before + "/"):
                    self.track(descriptor, after + path[len(before) :])
                    break


def is_plain(path: str) -> bool:
    """Return whether a path is absolute and has nothing in it that must be resolved."""
    return path[:1] == "/" and "/." not in path.replace("/.linkmode", "") and "//" not in path


def names_of(functions: Sequence[Callable[[], Any]]) -> dict[str, Callable[[], Any]]:
    """Give actors names: A, B, C, …"""
    return {chr(ord("A") + number): function for number, function in enumerate(functions)}
