"""Real programs as actors: held at each call that makes, moves or removes a name, released in turn.

The supervisor of the faults sees the calls; here their answers are put off until the schedule gives
the program its turn (the first turn starts it). The next turn begins when every program has come to
rest: it is held again, it waits for something, or it has ended. What a program looks at is not
seen, so nothing is pruned.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pytest_linkmode.errors import LinkmodeError, Unavailable
from pytest_linkmode.faults.judge import GO_ON, Seen
from pytest_linkmode.faults.ops import architecture
from pytest_linkmode.faults.plan import Plan
from pytest_linkmode.faults.running import Run, Running
from pytest_linkmode.faults.spec import OPS
from pytest_linkmode.faults.supervisor import Supervisor
from pytest_linkmode.faults.support import unavailable
from pytest_linkmode.faults.zygote import SHARED, Zygote
from pytest_linkmode.interleave.footprints import Reads, Writes, union
from pytest_linkmode.interleave.places import Places
from pytest_linkmode.interleave.world import (
    NOBODY,
    Diverged,
    Event,
    Execution,
    Outcome,
    Sleeping,
)
from pytest_linkmode.processes import children_of, threads_of, words_of

HELD_AT = frozenset(OPS) - {"copy"}
"""The ops at whose calls programs are held: those that change names."""

HELD_BEFORE = "at the calls that make, move or remove a name"

Command = Sequence[str | os.PathLike[str]]
Adversary = Callable[[Event], object]
"""Called with the call that a program is about to make; what it does happens just before."""

PATIENCE = 10.0
"""Seconds that a program may sleep by itself: some wait for children and timers of their own."""

_GLANCE = 0.0003
"""Seconds until threads are looked at again that were not at rest: nothing tells when they are."""
_GONE = frozenset("ZX")
_ASLEEP = frozenset("STt") | _GONE
"""States of proc_pid_status(5) in which a thread waits for somebody else, or is no more. One that
waits for a disk (D) will go on by itself, unless it is we who hold it."""


class Thread(NamedTuple):
    """What is known of a thread: its state, and how often it has been given a processor."""

    number: int
    state: str
    switches: tuple[str, ...]


class _Held(NamedTuple):
    """A call that waits for its turn."""

    notification: int
    seen: Seen


class _Program(Running):
    """One program whose calls below some directories wait until they are released."""

    def __init__(self, zygote: Zygote, plan: Plan, argv: Sequence[str], inside: Inside) -> None:
        super().__init__(zygote, plan, argv, None, None, serial=False)
        self.held: deque[_Held] = deque()
        self._inside = inside
        self._of_zygote = zygote

    def _heed(self, supervisor: Supervisor) -> bool:
        received = supervisor.receive()
        if received is None:
            return True
        notification, seen = received
        if self._inside(seen.paths):
            self.held.append(_Held(notification, seen))
        else:
            supervisor.answer(notification, seen, GO_ON)
        return True

    def release(self) -> None:
        """Let the call go on that has waited longest."""
        held = self.held.popleft()
        assert self._supervisor is not None  # it told us of the call
        self._supervisor.answer(held.notification, held.seen, GO_ON)

    def threads(self) -> list[Thread]:
        """Return all threads of the program and of what it started; none if it is not seen yet."""
        if self._supervisor is None:
            return []
        pending, found = [self._of_zygote.number], []
        first = True
        while pending:
            process = pending.pop()
            for thread in threads_of(process):
                pending += children_of(process, thread)
                if not first:
                    found += _look(process, thread)
            first = False
        return found

    @property
    def waiting(self) -> frozenset[int]:
        """The threads that we hold."""
        return frozenset(held.seen.thread for held in self.held)


Inside = Callable[[Iterable[str]], bool]


def _look(process: str, thread: str) -> list[Thread]:
    """Read the status of a thread (proc_pid_status(5)); nothing if it is gone."""
    try:
        with open(f"/proc/{process}/task/{thread}/status", "rb") as status:
            lines = status.read().decode("ascii", "replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return []
    state = next(line.split()[1] for line in lines if line.startswith("State:"))
    switches = tuple(line.split()[1] for line in lines if "ctxt_switches" in line)
    return [Thread(int(thread), state, switches)]


@dataclass
class Setting:
    """How programs are run: the keywords of `subprocess.run`, and whether their locks lock.

    `patience` is how many seconds a program may sleep whose turn it is, or all of them at once: for
    those that wait for their own timers, which nobody can tell from those that wait for each other.
    """

    env: Mapping[str, str] | None = None
    cwd: str | os.PathLike[str] | None = None
    timeout: float = 60.0
    locks: bool = True
    patience: float = PATIENCE


@dataclass
class _Turns:
    """One schedule under way."""

    execution: Execution
    start: Callable[[int], _Program]
    programs: dict[int, _Program] = field(default_factory=dict)
    """Those that run, by the number of their actor."""
    fresh: set[int] = field(default_factory=set)
    """Those that have not been started."""
    waiting: set[int] = field(default_factory=set)
    """The adversaries that have not acted."""


def _attend(turns: _Turns, seconds: float) -> bool:
    """Serve what is ready in every program; return whether anything was."""
    happened = False
    for program in turns.programs.values():
        happened = program.attend(seconds) or happened
    return happened


class Programs:
    """The world of some programs; functions among them are adversaries, with one turn each."""

    def __init__(
        self,
        actors: Mapping[str, Command | Adversary],
        below: Iterable[str],
        prepare: Callable[[], object],
        setting: Setting,
    ) -> None:
        refused, arch = unavailable(), architecture()
        if refused is not None or arch is None:
            raise refused or Unavailable("schedules of programs")
        self.actors = tuple(actors)
        self.stops = 0
        """How many calls were held, in all schedules."""
        self._what = [what if callable(what) else words_of(what) for what in actors.values()]
        self._places = Places(below)
        self._prepare = prepare
        self._setting = setting
        self._plan = Plan((), HELD_AT, arch, locks=setting.locks)
        self._reads, self._writes = Reads(self._places.roots), Writes(self._places.roots)

    def run(self, plan: bytes, sleeping: Sleeping = NOBODY) -> Execution:
        """Run a schedule; see `World`. Nobody sleeps here: nothing is pruned."""
        assert not sleeping  # only who sees what is looked at can prune
        self._prepare()
        execution = Execution(self.actors, outcomes=[Outcome() for _ in self.actors])
        deadline = time.monotonic() + self._setting.timeout
        with ExitStack() as stack:

            def start(number: int) -> _Program:
                argv: Any = self._what[number]
                zygote = stack.enter_context(SHARED.borrow())
                program = _Program(zygote, self._plan, argv, self._watched)
                stack.enter_context(program)
                program.begin(self._setting.env, self._setting.cwd)
                return program

            turns = _Turns(execution, start)
            for number, what in enumerate(self._what):
                (turns.waiting if callable(what) else turns.fresh).add(number)
            while turns.programs or turns.fresh:
                self._turn(turns, plan, deadline)
            for number in turns.waiting:  # nobody is left to be surprised
                execution.ended[number] = len(execution.events)
        if len(execution.events) < len(plan):
            raise _diverged(f"all had ended after {len(execution.events)} turns")
        return execution

    def _turn(self, turns: _Turns, plan: bytes, deadline: float) -> None:
        """Give the next turn and wait until all have come to rest."""
        execution = turns.execution
        place = len(execution.events)
        able = {number for number, program in turns.programs.items() if program.held}
        able |= turns.fresh
        planned = plan[place] if place < len(plan) else None
        sleeping = planned in turns.programs and planned not in able
        if (sleeping or not able) and self._awaken(turns, deadline):
            return
        if not able:
            if time.monotonic() > deadline:
                raise self._too_long()
            several = len(turns.programs) > 1
            raise LinkmodeError(
                "the programs wait for each other" if several else "a program does not go on",
                why=f"for {self._setting.patience:g} s none is held at a call, none has ended: "
                + ", ".join(self.actors[number] for number in turns.programs),
                hint="with locks=False their file locks do not hold them; for those that sleep"
                " longer there is patience=",
            )
        held = any(program.held for program in turns.programs.values())
        may = frozenset(able | turns.waiting if held else able)
        if planned is not None:
            actor = planned
            if actor in execution.ended:
                raise _diverged(execution.end_of(actor))
            if actor not in may:
                raise _diverged(f"{self.actors[actor]} could not have turn {place + 1}")
        else:
            last = execution.events[-1].actor if place else -1
            actor = last if last in able else min(able)
        execution.able.append(may)
        if actor in turns.waiting:
            self._surprise(turns, actor)
            return
        if actor in turns.fresh:
            turns.fresh.discard(actor)
            execution.events.append(Event(actor, "starts", (), {}))
            turns.programs[actor] = turns.start(actor)
        else:
            program = turns.programs[actor]
            execution.events.append(self._event(actor, program.held[0].seen))
            self.stops += 1
            program.release()
        self._settle(turns, deadline)

    def _awaken(self, turns: _Turns, deadline: float) -> bool:
        """Wait for a sleeping program, as long as there is patience; return whether one woke."""
        until = min(deadline, time.monotonic() + self._setting.patience)
        while time.monotonic() < until:
            if _attend(turns, _GLANCE):
                self._reap(turns)
                self._settle(turns, deadline)
                return True
        return False

    def _reap(self, turns: _Turns) -> bool:
        """Take note of programs that have ended; return whether there are any."""
        over = [number for number, program in turns.programs.items() if program.over]
        for number in over:
            self._ended(turns, number)
        return bool(over)

    def _surprise(self, turns: _Turns, actor: int) -> None:
        victim, program = next(each for each in turns.programs.items() if each[1].held)
        adversary: Any = self._what[actor]
        done = adversary(self._event(victim, program.held[0].seen))
        execution = turns.execution
        execution.events.append(Event(actor, str(done or "acts"), (), {}))
        execution.outcomes[actor] = Outcome(done)
        execution.ended[actor] = len(execution.events)
        turns.waiting.discard(actor)

    def _settle(self, turns: _Turns, deadline: float) -> None:
        """Wait until every program is held, waits, or has ended."""
        before: list[list[Thread]] | None = None
        while True:
            if not turns.programs:
                return
            happened = _attend(turns, 0)
            if self._reap(turns) or happened:
                before = None
                continue
            if time.monotonic() > deadline:
                raise self._too_long()
            now = [program.threads() for program in turns.programs.values()]
            if not self._at_rest(turns, now):
                before = None
                next(iter(turns.programs.values())).attend(_GLANCE)
            elif now == before:
                return
            else:
                before = now

    def _too_long(self) -> LinkmodeError:
        return LinkmodeError(
            "a schedule of programs took too long",
            why=f"more than {self._setting.timeout:g} s",
            hint="give it a longer timeout=",
        )

    def _at_rest(self, turns: _Turns, seen: Sequence[Sequence[Thread]]) -> bool:
        # One that has not begun, or is gone and has not said so, has no threads that live.
        return all(
            any(thread.state not in _GONE for thread in threads)
            and all(
                thread.number in program.waiting or thread.state in _ASLEEP for thread in threads
            )
            for program, threads in zip(turns.programs.values(), seen, strict=True)
        )

    def _ended(self, turns: _Turns, number: int) -> None:
        run: Run = turns.programs.pop(number).finish()
        turns.execution.outcomes[number] = Outcome(run)
        turns.execution.ended[number] = len(turns.execution.events)

    def _watched(self, paths: Iterable[str]) -> bool:
        return any(self._places.find_really(path) is not None for path in paths)

    def _event(self, actor: int, seen: Seen) -> Event:
        found = [self._places.find_really(path) for path in seen.paths]
        looks = len(found) - seen.way.changed
        ways = [self._reads if place < looks else self._writes for place in range(len(found))]
        inside = [(way, path) for way, path in zip(ways, found, strict=True) if path is not None]
        touched = union(*(way[path] for way, path in inside))
        return Event(actor, seen.way.op, tuple(path for _, path in inside), touched)


def _diverged(how: str) -> Diverged:
    return Diverged(
        "programs",
        how,
        hint="give them one thread each, and put everything back that they read",
    )
