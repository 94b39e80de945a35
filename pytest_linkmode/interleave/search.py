"""Which schedules to run: every one that can differ from those before, each of them once.

Two schedules are the same where they differ only in the order of operations that commute. After
each run the explorer looks for *races*: operations of two actors that conflict, with nothing
between them that forces their order. For each it branches off just before the first, so that the
second comes before it (source sets and sleep sets: Abdulla, Aronsson, Jonsson, Sagonas, "Optimal
dynamic partial order reduction", POPL 2014). Branches with the fewest preemptions run first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from pytest_linkmode.interleave.footprints import AGAINST, BITS, Footprint
from pytest_linkmode.interleave.world import Event, Execution, Sleeping, World

Visit = Callable[[Execution], bool]
"""Called after each schedule that ran to its end; returns whether to go on."""


@dataclass
class Counts:
    """What an exploration came to.

    `ran` schedules ran to their end, `pruned` were broken off because all that could follow was
    run otherwise, `waiting` were known and not run, and `beyond` had more preemptions than were
    allowed. `preemptions` is the largest number of those that ran.
    """

    ran: int = 0
    pruned: int = 0
    waiting: int = 0
    beyond: int = 0
    preemptions: int = 0

    @property
    def complete(self) -> bool:
        """Whether every schedule that can differ was run."""
        return not (self.waiting or self.beyond)


@dataclass
class _Node:
    """A place where schedules part: who has had, or shall have, the turn there."""

    sleeping: Sleeping
    taken: set[int]
    done: dict[int, Footprint] = field(default_factory=dict)


class _Branch(NamedTuple):
    """A schedule to run, in the order in which they are. `sleeps` is what is known of who sleeps
    on the way to it.
    """

    preemptions: int
    number: int
    plan: bytes
    sleeps: tuple[tuple[int, Sleeping], ...] = ()


class Search:
    """Explores the schedules of a world.

    `budget` bounds the schedules that are run (pruned ones among them), `most` the preemptions.
    """

    def __init__(self, world: World, *, budget: int | None = None, most: int | None = None) -> None:
        self._world = world
        self._budget = budget
        self._most = most
        self.counts = Counts()
        self._nodes: dict[bytes, _Node] = {}
        self._queue: list[_Branch] = []
        self._number = 0
        self._shared = Shared()

    def run(self, visit: Visit) -> Counts:
        """Run schedules until there is none left, the bound is reached or `visit` says so."""
        self._queue.append(_Branch(0, 0, b""))
        while self._queue:
            if self._budget is not None and self.counts.ran + self.counts.pruned >= self._budget:
                break
            branch = heapq.heappop(self._queue)
            if not self._step(branch, visit):
                break
        self.counts.waiting = len(self._queue)
        return self.counts

    def _step(self, branch: _Branch, visit: Visit) -> bool:
        plan, here = branch.plan, len(branch.plan) - 1
        sleeping: Sleeping = {}
        node = None
        if plan:
            node = self._nodes[plan[:-1]]
            sleeping = {**node.sleeping, **node.done}
        execution = self._world.run(plan, sleeping)
        events = execution.events
        if node is not None:
            node.done[plan[-1]] = events[here].footprint
        went = execution.plan
        self._shared.learn(events[max(here, 0) :])
        sleeps = (*branch.sleeps, *execution.sleeps)
        for first, second, initials in races(
            events, max(here, 0), self._shared, len(self._world.actors)
        ):
            self._branch(execution, went, sleeps, first, second, initials)
        if execution.pruned:
            self.counts.pruned += 1
            return True
        self.counts.ran += 1
        self.counts.preemptions = max(self.counts.preemptions, execution.preemptions())
        return visit(execution)

    def _branch(
        self,
        execution: Execution,
        went: bytes,
        sleeps: tuple[tuple[int, Sleeping], ...],
        first: int,
        second: int,
        initials: Sequence[int],
    ) -> None:
        """Have the second operation of a race come before the first."""
        before = went[:first]
        node = self._nodes.get(before)
        if node is not None and _has_one(node, initials):
            return
        known = len(sleeps)
        while known and sleeps[known - 1][0] > first:
            known -= 1
        if node is None:
            there = execution.events[first]
            sleeping = sleeps[known - 1][1] if known else {}
            node = _Node(sleeping, {there.actor}, {there.actor: there.footprint})
            if _has_one(node, initials):
                return
            self._nodes[before] = node
        last = execution.events[second].actor
        actor = last if last in initials else initials[0]
        node.taken.add(actor)
        plan = before + bytes((actor,))
        count = execution.preemptions(first)
        if first:
            previous = execution.events[first - 1].actor
            count += previous != actor and execution.could(previous, first)
        if self._most is not None and count > self._most:
            self.counts.beyond += 1
            return
        self._number += 1
        heapq.heappush(self._queue, _Branch(count, self._number, plan, sleeps[:known]))


def _has_one(node: _Node, actors: Sequence[int]) -> bool:
    """Return whether one of some actors need not have the turn at a place once more."""
    for actor in actors:  # noqa: SIM110  # `any` takes twice as long, for each race
        if actor in node.taken or actor in node.sleeping:
            return True
    return False


class Part(NamedTuple):
    """What a footprint has to do with shared names: the ways of touching them that it must be held
    against, and its own, as numbers.
    """

    against: tuple[int, ...]
    own: tuple[int, ...]
    resists: int
    """`against` as bits."""
    touches: int
    """`own` as bits."""


_FOOTPRINT = itemgetter(Event._fields.index("footprint"))


class Shared:
    """The names about which operations of different actors conflict, in any schedule so far.

    `ways` is how many ways of touching one of them there are.
    """

    def __init__(self) -> None:
        self._touched: dict[str, int] = {}
        """Name -> how each actor touches it, four bits for each."""
        self._names: set[str] = set()
        # Footprints are known by their ids, which is why all of them are kept.
        self._kept: dict[int, Footprint] = {}
        self._learned: dict[int, set[int]] = {}
        self._known: dict[int, Part] = {}
        self._numbers: dict[tuple[str, int], int] = {}

    @property
    def ways(self) -> int:
        return len(self._numbers)

    def learn(self, events: Sequence[Event]) -> bool:
        """Take in the operations of a schedule; return whether there are more such names now."""
        touched, names = self._touched, self._names
        before = len(names)
        for event in events:
            actor, footprint = event.actor, event.footprint
            learned = self._learned.get(actor)
            if learned is None:
                learned = self._learned[actor] = set()
            if id(footprint) in learned:
                continue
            learned.add(id(footprint))
            self._kept[id(footprint)] = footprint
            shift = 4 * actor
            for key, mode in footprint.items():
                seen = touched.get(key, 0)
                if mode << shift & ~seen:
                    touched[key] = seen = seen | mode << shift
                    if key not in names and _disputed(seen):
                        names.add(key)
        if len(names) == before:
            return False
        self._known.clear()
        return True

    def parts(self, events: Sequence[Event]) -> list[Part]:
        """Return of the footprint of each operation the part that is about these names."""
        known = self._known
        try:
            return list(map(known.__getitem__, map(id, map(_FOOTPRINT, events))))
        except KeyError:
            footprints = map(_FOOTPRINT, events)
            return [known.get(id(each)) or self._part(each) for each in footprints]

    def concerns(self, event: Event) -> bool:
        """Return whether an operation is about one of these names."""
        return not event.footprint.keys().isdisjoint(self._names)

    def _part(self, footprint: Footprint) -> Part:
        about = [(key, mode) for key, mode in footprint.items() if key in self._names]
        held = tuple(self._number(key, way) for key, mode in about for way in BITS[AGAINST[mode]])
        own = tuple(self._number(key, way) for key, mode in about for way in BITS[mode])
        part = Part(held, own, sum(1 << way for way in held), sum(1 << way for way in own))
        self._known[id(footprint)] = part
        self._kept[id(footprint)] = footprint
        return part

    def _number(self, name: str, way: int) -> int:
        return self._numbers.setdefault((name, way), len(self._numbers))


def _disputed(touched: int) -> bool:
    """Return whether two actors touch a name in ways that conflict."""
    modes = []
    while touched:
        modes.append(touched & 15)
        touched >>= 4
    return any(
        AGAINST[one] & other for place, one in enumerate(modes) for other in modes[place + 1 :]
    )


def races(
    events: Sequence[Event], begin: int, shared: Shared, actors: int
) -> Iterator[tuple[int, int, list[int]]]:
    """Yield the races whose second operation is at `begin` or later.

    Each as (first, second, actors whose turn before the first leads to the other order).
    """
    parts = shared.parts(events)
    if actors == 2:
        yield from _races_of_two(events, begin, parts)
        return
    last = [[-1] * shared.ways for _ in range(actors)]
    """For each actor and way of touching a name: the last operation that did."""
    clocks: dict[int, tuple[int, ...]] = {}
    """Of each operation that may conflict: the last one of every actor that must come before it."""
    current = [[-1] * actors for _ in range(actors)]
    others = [
        [(actor, touched) for actor, touched in enumerate(last) if actor != me]
        for me in range(actors)
    ]
    for place, (against, own, _, _) in enumerate(parts):
        if not own:
            continue
        me = events[place].actor
        clock, before, found = current[me], [], []
        for actor, touched in others[me]:
            known = latest = clock[actor]
            for way in against:
                if touched[way] > latest:
                    latest = touched[way]
            if latest > known:
                before.append(latest)
        mine = last[me]
        for way in own:
            mine[way] = place
        if before:
            for other in sorted(before, reverse=True):
                if other > clock[events[other].actor]:
                    found.append(other)
                    clock[:] = map(max, clock, clocks[other])
        clock[me] = place
        clocks[place] = tuple(clock)
        if place >= begin:
            for other in found:
                yield other, place, _initials(events, other, place, clocks, actors)


def _races_of_two(
    events: Sequence[Event], begin: int, parts: Sequence[Part]
) -> Iterator[tuple[int, int, list[int]]]:
    """Do the same where there is one other: no third can order what two of them do."""
    unordered: tuple[list[int], list[int]] = [], []
    """For each of them what the other has done since the last that must come before its own."""
    fresh = [0, 0]
    """In which ways it has touched names in these."""
    for place, (_, own, resists, touches) in enumerate(parts):
        if not own:
            continue
        me = events[place].actor
        unordered[1 - me].append(place)
        fresh[1 - me] |= touches
        if not resists & fresh[me]:
            continue
        since, seen = unordered[me], 0
        latest = len(since) - 1
        while not parts[since[latest]].touches & resists:
            seen |= parts[since[latest]].touches
            latest -= 1
        first = since[latest]
        del since[: latest + 1]
        fresh[me] = seen
        if place >= begin:
            yield first, place, [me]


def _initials(
    events: Sequence[Event],
    first: int,
    second: int,
    clocks: dict[int, tuple[int, ...]],
    actors: int,
) -> list[int]:
    """Return the actors that can have the turn before `first`, if `second` is to precede it."""
    racer = events[first].actor
    found = []
    met = {racer}
    for place in range(first + 1, second + 1):
        actor = events[place].actor
        if actor in met:
            continue
        met.add(actor)
        clock = clocks.get(place)
        if clock is None:  # it commutes with everything
            found.append(actor)
            continue
        if clock[racer] >= first and place != second:
            continue  # it comes after the first, whatever happens
        if all(clock[other] < first for other in range(actors) if other not in (actor, racer)):
            found.append(actor)
    return found


class Growing:
    """Runs every schedule of a world by growing number of preemptions, each once, pruning none.

    For those of whose operations too little is known to prune, and to find the fewest preemptions
    that a failure takes. With `shared` a turn is taken away only before operations on names that
    more than one actor touches, and all begins anew where more such names are found.
    """

    def __init__(
        self,
        world: World,
        *,
        budget: int | None = None,
        most: int | None = None,
        shared: Shared | None = None,
    ) -> None:
        self._world = world
        self._budget = budget
        self._most = most
        self._shared = shared
        self.counts = Counts()
        self._queue: list[_Branch] = []
        self._number = 0

    def run(self, visit: Visit) -> Counts:
        """Run schedules until there is none left, the bound is reached or `visit` says so."""
        counts = self.counts
        self._queue = [_Branch(0, 0, b"")]
        again = 0
        while self._queue and (self._budget is None or counts.ran + again < self._budget):
            branch = heapq.heappop(self._queue)
            execution = self._world.run(branch.plan)
            counts.ran += 1
            counts.preemptions = branch.preemptions
            if not visit(execution):
                break
            if self._shared is not None and self._shared.learn(execution.events):
                again += counts.ran
                self._queue, counts.ran, counts.beyond = [_Branch(0, 0, b"")], 0, 0
            else:
                self._extend(branch, execution)
        counts.waiting = len(self._queue)
        return counts

    def _extend(self, branch: _Branch, execution: Execution) -> None:
        """Queue the schedules that part from this one after what was planned of it."""
        went = execution.plan
        for place in range(len(branch.plan), len(went)):
            before = went[place - 1] if place else None
            free = before is None or not execution.could(before, place)
            if not free and before != went[place]:
                continue  # that was planned
            if not free and not self._noticed(execution.events[place]):
                continue
            for actor in range(len(execution.actors)):
                if actor == went[place] or not execution.could(actor, place):
                    continue
                count = branch.preemptions + (not free)
                if self._most is not None and count > self._most:
                    self.counts.beyond += 1
                    continue
                self._number += 1
                plan = went[:place] + bytes((actor,))
                heapq.heappush(self._queue, _Branch(count, self._number, plan))

    def _noticed(self, event: Event) -> bool:
        """Return whether others may notice an operation."""
        return self._shared is None or self._shared.concerns(event)
