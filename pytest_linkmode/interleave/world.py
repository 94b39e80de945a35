"""Actors in this process: each stops before every operation, and one runs at a time.

An actor is a callable. The turn is handed over (`crew`) only where the schedule says so, so that
what nobody else can notice costs no switch. Operations come here from a platform of the reference
linker, or any other table of functions (`seam`), and from Python's own functions (`standing`).
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress, count
from operator import itemgetter, ne
from typing import Any, NamedTuple, Protocol, TypeVar

from pytest_linkmode import HERE
from pytest_linkmode.errors import LinkmodeError
from pytest_linkmode.interleave.crew import gather
from pytest_linkmode.interleave.footprints import (
    Footprint,
    Lists,
    Pairs,
    Reads,
    Removals,
    Writes,
    conflict,
    union,
)
from pytest_linkmode.interleave.places import Places

What = TypeVar("What")
Sleeping = Mapping[int, Footprint]
"""Actors whose next operation need not come next: another schedule has it there."""
NOBODY: Sleeping = {}
FOREVER = 1 << 62


class Event(NamedTuple):
    """One operation of one actor, as it came out."""

    actor: int
    name: str
    paths: tuple[str, ...]
    footprint: Footprint
    error: str = ""


_ACTOR = itemgetter(Event._fields.index("actor"))


class Events(dict[str, Event]):
    """Path -> what an actor did there by one function, made once: it comes back in every
    schedule. `within` finds it by the path of a directory and a name, for who has those.
    """

    def __init__(
        self, actor: int, name: str, footprints: Mapping[str, Footprint], error: str = ""
    ) -> None:
        super().__init__()
        self._of = actor, name, error
        self._footprints = footprints
        self.within: dict[str | None, dict[Any, Event]] = {}

    def __missing__(self, path: str) -> Event:
        actor, name, error = self._of
        event = self[path] = Event(actor, name, (path,), self._footprints[path], error)
        return event

    def keep(self, above: str | None, name: Any, path: str) -> Event:
        """Return what was done at a path, and find it again by a name in a directory that has no
        other path.
        """
        event = self[path]
        if above and type(name) is str and "/" not in name:
            self.within.setdefault(above, {})[name] = event
        return event


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
    `sleeps` says from which event on which actors were asleep, `able` who could have had each turn
    (empty: all that had not ended). A schedule that is `pruned` was
    broken off: all that could follow comes in others.
    """

    actors: tuple[str, ...]
    events: list[Event] = field(default_factory=list)
    ended: dict[int, int] = field(default_factory=dict)
    sleeps: list[tuple[int, Sleeping]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    pruned: bool = False
    able: list[frozenset[int]] = field(default_factory=list)

    @cached_property
    def plan(self) -> bytes:
        """Who had each turn, once it has ended."""
        return bytes(map(_ACTOR, self.events))

    def could(self, actor: int, place: int) -> bool:
        """Return whether an actor could have had a turn."""
        if self.able:
            return actor in self.able[place]
        return self.ended.get(actor, len(self.events) + 1) > place

    def end_of(self, actor: int) -> str:
        """Return in words when an actor had ended."""
        had = sum(event.actor == actor for event in self.events)
        return f"{self.actors[actor]} had ended after {had} turn{'s' * (had != 1)}"

    @cached_property
    def _taken(self) -> list[int]:
        """The turns that were taken from an actor that could have gone on."""
        plan = self.plan
        switches = compress(count(1), map(ne, plan, plan[1:]))
        if self.able:
            return [place for place in switches if plan[place - 1] in self.able[place]]
        ended = self.ended.get
        return [place for place in switches if ended(plan[place - 1], place + 1) > place]

    def preemptions(self, upto: int | None = None) -> int:
        """Return how often the turn was taken from an actor that could have gone on."""
        return len(self._taken) if upto is None else bisect_left(self._taken, upto)


class World(Protocol):
    """Something that runs schedules of the same actors, each from the same beginning."""

    actors: tuple[str, ...]

    def run(self, plan: bytes, sleeping: Sleeping = NOBODY) -> Execution:
        """Run a schedule: the first turns as `plan` says, then each actor as long as it can.

        `sleeping` are actors that are not to have the last turn of the plan, nor a later one until
        an operation that conflicts with theirs was done.
        """


class Diverged(LinkmodeError):
    """The actors did not do again what they did before, so schedules cannot be explored.

    `who` they are, and `how` one of them went another way.
    """

    def __init__(self, who: str, how: str, *, hint: str) -> None:
        what = f"the {who} are not deterministic"
        super().__init__(what, why=f"run again in the same order, {how}", hint=hint)
        self.who = who
        self.how = how


class Cut(BaseException):
    """The schedule is broken off: this operation of the actor, and every later one, ends with this.

    It is no Exception, so that code which tidies up after errors does not get to see it.
    """


@dataclass(slots=True)
class _Actor:
    """A callable, and how far it has come. `number` counts the random names it has asked for."""

    index: int
    function: Callable[[], Any]
    outcome: Outcome = field(default_factory=Outcome)
    begun: bool = False
    number: int = 0


class InProcess:
    """The world of some callables. Close it when all schedules have run.

    `below` are the directories whose names the actors share: operations elsewhere are none that
    anybody could notice. `prepare` is called before each schedule and puts
    everything back as it was. Where the filesystem `folds`, upper and lower case are the same.
    """

    def __init__(
        self,
        actors: Mapping[str, Callable[[], Any]],
        below: Iterable[str],
        prepare: Callable[[], object],
        *,
        folds: bool = HERE == "win32",
    ) -> None:
        self.actors = tuple(actors)
        places = places_of(below)
        self.roots, self.spelled = places.roots, places.spelled
        self.find = places.find
        self._prepare = prepare
        self.reads, self.writes, self.lists, self.removals = (
            way(self.roots) if not folds else _folded(way, self.roots)
            for way in (Reads, Writes, Lists, Removals)
        )
        self.pairs = Pairs({"reads": self.reads, "writes": self.writes})
        self._upward = frozenset(
            path[:end] or "/"
            for path in self.spelled
            for end in range(len(path))
            if path[end] == "/"
        )
        self.places: dict[int | None, str | None] = {}
        """Descriptor -> its path where the actors meet, None if it is elsewhere or has no name."""
        self.outer: dict[int, str] = {}
        """Those of directories above; their place is unknown (as an empty string)."""
        self.opened: set[int] = set()
        """Those that nobody closes by himself where a schedule is broken off."""
        self.locked: dict[int, str] = {}
        self.ends: list[Callable[[bool], object]] = []
        """Called after each schedule, and told whether it was broken off."""
        self.until = 0
        """How many events there must be before `turn` need be called."""
        self.drowsy = False
        """Whether `rouse` must be called after one."""
        self._within = False
        self.me = 0
        """Who has the baton."""
        self.running: _Actor | None = None
        self._plan = b""
        self._sleeping: Sleeping = {}
        self._cut = False
        self._failure: LinkmodeError | None = None
        self._execution = Execution(self.actors)
        self.events = self._execution.events
        self._turns = [bytes((index,)) for index in range(len(actors))]
        self._actors = [_Actor(index, function) for index, function in enumerate(actors.values())]
        self._crew = gather(len(self._actors), self._perform)

    def close(self) -> None:
        """End the crew, and actors that are still under way where a schedule was interrupted."""
        self._cut, self.until = True, 0
        self._crew.close()

    # What whoever explores calls.

    def run(self, plan: bytes, sleeping: Sleeping = NOBODY) -> Execution:
        """Run a schedule; see `World`."""
        self._prepare()
        execution = self._execution = Execution(self.actors)
        self.events = execution.events
        self._plan, self._sleeping, self._cut, self._failure = plan, sleeping, False, None
        self.until, self.drowsy = 0, False
        self.places.clear()
        self.outer.clear()
        self.locked.clear()
        for actor in self._actors:
            actor.begun = False
        self.running = first = self._next(None)
        if first is not None:
            self.me = first.index
            self._crew.start(first.index)
        self._close_all()
        if self._failure is not None:
            raise self._failure
        if len(execution.events) < len(plan):
            raise self._diverged(f"all had ended after {len(execution.events)} turns")
        execution.outcomes = [actor.outcome for actor in self._actors]
        for outcome in execution.outcomes:
            if isinstance(outcome.error, (KeyboardInterrupt, SystemExit)):
                raise outcome.error  # meant for whoever explores
        execution.pruned = self._cut
        return execution

    def _close_all(self) -> None:
        """Close what was left open, as the kernel would."""
        for descriptor in self.opened:
            os.close(descriptor)
        self.opened.clear()
        for end in self.ends:
            end(self._cut)

    # What actors call, one at a time.

    def acts(self) -> bool:
        """Return whether the calling thread is an actor that has begun."""
        return self.running is not None and not self._within and self._crew.acts()

    def turn(self) -> bool:
        """Wait until the running actor may do its next operation; return whether others ran.

        It need not be called before there are `until` events.
        """
        if self._cut:
            raise Cut
        me = self.running
        assert me is not None  # it calls
        count = len(self.events)
        handed = False
        if count < len(self._plan) or me.index in self._sleeping:
            to = self._next(me)
            if to is None:
                self._cut, self.until = True, 0
                raise Cut
            if to is not me:
                self.running, self.me, self.until = to, to.index, 0
                self._crew.hand(me.index, to.index)
                if self._cut:
                    raise Cut
                handed = True
        self._look_ahead(me)
        return handed

    def _look_ahead(self, me: _Actor) -> None:
        """Find out how many events there will be before the turn may be another's."""
        plan, count = self._plan, len(self.events)
        planned = len(plan)
        if count < planned:
            count = planned - len(plan[count:].lstrip(self._turns[me.index]))
            self.until = count
        else:
            self.until = FOREVER  # it is awake, and nobody falls asleep
        # Those who sleep are woken by what follows the plan, its last turn included.
        self.drowsy = bool(self._sleeping) and count >= planned

    def made(
        self, name: str, footprints: Mapping[str, Footprint], error: str = ""
    ) -> Sequence[Events]:
        """Return for each actor what `enter` takes for one function, path by path."""
        return [Events(index, name, footprints, error) for index in range(len(self.actors))]

    def enter(self, event: Event) -> None:
        """Enter the operation that the running actor has just done."""
        self.events.append(event)
        if self.drowsy:
            self.rouse(event.footprint)

    def note(
        self, name: str, paths: tuple[str, ...], footprint: Footprint, error: str = ""
    ) -> None:
        """Enter one that is not made beforehand."""
        self.enter(Event(self.me, name, paths, footprint, error))

    def amend(self, footprint: Footprint, error: str = "") -> None:
        """Say more of the operation that was entered last: what else it touched, how it ended."""
        last = self.events[-1]
        joined = union(last.footprint, footprint)
        self.events[-1] = last._replace(footprint=joined, error=error or last.error)
        if self.drowsy:
            self.rouse(joined)

    @contextmanager
    def inside_of_one(self) -> Iterator[None]:
        """Let nothing be a turn that Python's own functions do meanwhile: it is part of one."""
        before, self._within = self._within, True
        try:
            yield
        finally:
            self._within = before

    def rouse(self, footprint: Footprint) -> None:
        """Wake those whose next operation conflicts with one that was just done."""
        count, planned = len(self.events), len(self._plan)
        if count < planned:
            return
        woken = [other for other, next_ in self._sleeping.items() if conflict(next_, footprint)]
        if woken or count == planned:
            asleep = {one: next_ for one, next_ in self._sleeping.items() if one not in woken}
            self._sleeping, self.drowsy = asleep, bool(asleep)
            self._execution.sleeps.append((count, asleep))

    def _perform(self, index: int) -> int | None:
        """Run an actor to its end; return who has the turn then."""
        me = self._actors[index]
        me.begun, me.number = True, 0
        try:
            me.outcome = Outcome(me.function())
        except BaseException as error:  # noqa: BLE001  # whatever ends an actor is its outcome
            me.outcome = Outcome(error=error)
        self._execution.ended[index] = len(self.events)
        to = self._next(me)
        if to is None and any(not self._over(actor) for actor in self._actors):
            self._cut = True
            to = self._next(me)
        self.running, self.until = to, 0
        if to is None:
            return None
        self.me = to.index
        return to.index

    def _over(self, actor: _Actor) -> bool:
        return actor.index in self._execution.ended

    def _next(self, me: _Actor | None) -> _Actor | None:
        """Return who has the next turn; None if nobody may."""
        count = len(self.events)
        if self._cut:  # those that have begun must end
            return next((one for one in self._actors if one.begun and not self._over(one)), None)
        if count < len(self._plan):
            planned = self._actors[self._plan[count]]
            if self._over(planned):
                self._failure = self._diverged(self._execution.end_of(planned.index))
                return None
            return planned
        if me is not None and not self._over(me) and me.index not in self._sleeping:
            return me
        for actor in self._actors:
            if not self._over(actor) and actor.index not in self._sleeping:
                return actor
        return None

    def _diverged(self, how: str) -> Diverged:
        return Diverged(
            "actors",
            how,
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
        found = None if path is None else self.find(path)
        if found is not None:
            self.places[descriptor] = found
        elif path is not None and path in self._upward:
            self.places[descriptor] = ""
            self.outer[descriptor] = path
        else:
            self.places[descriptor] = None

    def base(self, directory: int) -> str | None:
        """Return the path of a directory that leads to where the actors meet, or lies there."""
        path = self.places.get(directory, "")
        return self.outer.get(directory) if path == "" else path

    def leads(self, name: Any, directory: int | None) -> str | None:
        """Return the path of what was opened elsewhere, if it may lead to where actors meet."""
        text = os.fsdecode(name)
        if directory is not None and text[:1] != "/":
            base = self.base(directory)
            if base is None:
                return None
            text = base if text == "." else f"{base}/{text}"
        return text if is_plain(text) else os.path.abspath(text)

    def moved(self, old: str, new: str, *, swapped: bool = False) -> None:
        """Take note that a name was renamed: descriptors of what lies below follow it."""
        pairs = [(old, new), (new, old)] if swapped else [(old, new)]
        for descriptor, path in list(self.places.items()):
            for before, after in pairs:
                if path and descriptor and (path == before or path.startswith(before + "/")):
                    self.track(descriptor, after + path[len(before) :])
                    break


def places_of(directories: Iterable[str | os.PathLike[str]]) -> Places:
    """Return some directories, in the form in which this system spells them."""
    if os.name != "nt":
        return Places(directories)
    from pytest_linkmode.interleave.windows_places import WindowsPlaces

    return WindowsPlaces(directories)


def _folded(
    way: Callable[[tuple[str, ...]], Mapping[str, Footprint]], roots: tuple[str, ...]
) -> Mapping[str, Footprint]:
    from linker.tree import fold
    from pytest_linkmode.interleave.windows_places import Folded

    return Folded(way(tuple(map(fold, roots))))


def is_plain(path: str) -> bool:
    """Return whether a path is absolute and has nothing in it that must be resolved."""
    return path[:1] == "/" and "/." not in path and "//" not in path


def names_of(actors: Sequence[What]) -> dict[str, What]:
    """Give actors names: A, B, C, …"""
    return {chr(ord("A") + number): actor for number, actor in enumerate(actors)}
