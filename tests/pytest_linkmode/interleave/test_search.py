"""The explorer against brute force: on small programs, the same final states, each trace once.

Programs are made by dice from every kind of operation; brute force runs all their interleavings
and tells them apart by the order of what conflicts.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from pytest_linkmode.faults.fresh import empty
from pytest_linkmode.interleave.footprints import conflict
from pytest_linkmode.interleave.search import Growing, Search
from pytest_linkmode.interleave.standing import standing
from pytest_linkmode.interleave.world import Execution, InProcess

Operation = tuple[str, ...]
NAMES = ("a", "b", "d", "d/x", "d/y")
ONE = ("mkdir", "rmdir", "unlink", "create", "stat", "listdir", "access", "write")
TWO = ("rename", "link")


def made_by_dice(
    dice: random.Random,
    actors: int,
    length: int,
    one: Sequence[str] = ONE,
    two: Sequence[str] = TWO,
) -> list[list[Operation]]:
    return [
        [
            (dice.choice(one), dice.choice(NAMES))
            if dice.random() < 0.75
            else (dice.choice(two), dice.choice(NAMES), dice.choice(NAMES))
            for _ in range(length)
        ]
        for _ in range(actors)
    ]


def act(place: str, operation: Operation) -> object:
    name, *paths = operation
    first, *rest = (f"{place}/{path}" for path in paths)
    if name == "create":
        os.close(os.open(first, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        return None
    if name == "write":
        descriptor = os.open(first, os.O_WRONLY)
        try:
            return os.write(descriptor, b"x")
        finally:
            os.close(descriptor)
    if name == "read":
        with open(first, "rb", buffering=0) as file:
            return [file.read(1), os.fstat(file.fileno()).st_size]
    if name == "access":
        return os.access(first, os.F_OK)
    if name == "stat":
        return os.stat(first).st_mode & 0o170000
    if name == "listdir":
        return sorted(os.listdir(first))
    return getattr(os, name)(first, *rest)


def actor(place: str, operations: list[Operation]) -> Callable[[], list[str]]:
    """An actor that does what it is told and notes what came of it."""

    def run() -> list[str]:
        seen = []
        for operation in operations:
            try:
                seen.append(str(act(place, operation)))
            except OSError as error:
                seen.append(str(error.errno))
        return seen

    return run


@contextmanager
def world_of(place: str, programs: list[list[Operation]]) -> Iterator[InProcess]:
    def prepare() -> None:
        empty(place)
        os.mkdir(f"{place}/d")
        os.close(os.open(f"{place}/d/x", os.O_CREAT | os.O_WRONLY))

    actors = {chr(65 + n): actor(place, program) for n, program in enumerate(programs)}
    world = InProcess(actors, [place], prepare)
    try:
        with standing(world):
            yield world
    finally:
        world.close()


def state(place: str, execution: Execution) -> str:
    """What there is in the end, and what every actor has seen."""
    found = []
    for directory, _, names in os.walk(place):
        for name in names:
            seen = os.stat(f"{directory}/{name}")
            found.append((directory, name, seen.st_size, seen.st_nlink))
        found.append((directory, "", 0, 0))
    return str((sorted(found), [outcome.result() for outcome in execution.outcomes]))


def trace(execution: Execution) -> frozenset[tuple[object, ...]]:
    """What two interleavings have in common that differ only in what commutes."""
    met: dict[int, int] = {}
    numbered = []
    for event in execution.events:
        met[event.actor] = met.get(event.actor, 0) + 1
        numbered.append((event.actor, met[event.actor], event))
    order: set[tuple[object, ...]] = {
        (actor, number, event.name, event.paths, event.error) for actor, number, event in numbered
    }
    for place, (actor, number, event) in enumerate(numbered):
        for other, counted, later in numbered[place + 1 :]:
            if other != actor and conflict(event.footprint, later.footprint):
                order.add((actor, number, other, counted))
    return frozenset(order)


@pytest.mark.parametrize(
    ("actors", "length", "programs"), [(2, 3, 60), (2, 4, 16), (3, 2, 24), (3, 3, 2), (4, 1, 30)]
)
def test_every_trace_is_run_and_none_twice(
    meeting: str, actors: int, length: int, programs: int
) -> None:
    dice = random.Random(f"{actors} {length}")
    wrong = []
    for _ in range(programs):
        program = made_by_dice(dice, actors, length)
        with world_of(meeting, program) as world:
            found = compared(meeting, world)
        wrong += [f"{program}: {found}"] if found else []
    assert not wrong, "\n".join([f"{len(wrong)} of {programs}", *wrong[:5]])


@pytest.mark.parametrize(("actors", "length", "programs"), [(2, 3, 24), (3, 2, 6)])
def test_every_trace_of_those_that_read_is_run_too(
    meeting: str, actors: int, length: int, programs: int
) -> None:
    """Without hard links: that two names are one file is not known."""
    dice = random.Random(f"reading {actors} {length}")
    one, two = ("create", "write", "read", "read", "unlink"), ("rename",)
    wrong = []
    for _ in range(programs):
        program = made_by_dice(dice, actors, length, one, two)
        with world_of(meeting, program) as world:
            found = compared(meeting, world)
        wrong += [f"{program}: {found}"] if found else []
    assert not wrong, "\n".join([f"{len(wrong)} of {programs}", *wrong[:5]])


def compared(place: str, world: InProcess) -> list[str]:
    """Explore a world and run all its interleavings; return in words what differs."""
    everything: dict[frozenset[tuple[object, ...]], set[str]] = {}
    explored: list[tuple[frozenset[tuple[object, ...]], str]] = []

    def note_all(execution: Execution) -> bool:
        everything.setdefault(trace(execution), set()).add(state(place, execution))
        return True

    def note(execution: Execution) -> bool:
        explored.append((trace(execution), state(place, execution)))
        return True

    Growing(world).run(note_all)
    counts = Search(world).run(note)
    wrong = []
    if any(len(states) > 1 for states in everything.values()):
        wrong.append("what commutes does not")
    if {seen for _, seen in explored} != {seen for each in everything.values() for seen in each}:
        wrong.append("other final states")
    if sorted(map(hash, everything)) != sorted(hash(seen) for seen, _ in explored):
        wrong.append(f"{len(everything)} traces, {len(explored)} were run")
    if not counts.complete or counts.ran != len(explored):
        wrong.append(str(counts))
    return wrong
