"""Explore the schedules of actors: `Interleaver`, which the fixture `linkmode_interleave` gives.

What an exploration says of itself is what it did: "all" only where every schedule that can differ
was run. A failing schedule is made as simple as it can be, and printed with the option that runs it
again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_linkmode import HERE
from pytest_linkmode.coverage import disturbing
from pytest_linkmode.errors import Unavailable, UsageError
from pytest_linkmode.faults.fresh import Fresh
from pytest_linkmode.interleave.picture import side_by_side
from pytest_linkmode.interleave.schedule import follow, shrunk, written
from pytest_linkmode.interleave.search import Counts, Growing, Search, Shared
from pytest_linkmode.interleave.standing import random_names, standing
from pytest_linkmode.interleave.world import (
    Diverged,
    Execution,
    InProcess,
    World,
    names_of,
    places_of,
)

if TYPE_CHECKING:
    from pytest_linkmode.interleave.programs import Adversary, Command

Check = Callable[[Execution], object]
Actor = Callable[[], Any]
Scheduled = TypeVar("Scheduled")


class ScheduleFailed(AssertionError):
    """A schedule in which the check failed. `execution` is the simplest one, `line` writes it."""

    def __init__(self, message: str, execution: Execution, line: str) -> None:
        super().__init__(message)
        self.execution = execution
        self.line = line


@dataclass
class Explored:
    """What an exploration came to. `note` says what of the world was not as it would be, `turns`
    at which of the actors' calls others could come between (empty: at all).

    `unseen` are actors of which no operation was seen: they may be elsewhere, or act by ways that
    are not looked at. `misfit` says why the actors do not have the schedule to be replayed.
    """

    name: str
    counts: Counts = field(default_factory=Counts)
    replayed: str = ""
    failed: bool = False
    note: str = ""
    turns: str = ""
    unseen: frozenset[str] = frozenset()
    misfit: str = ""

    @property
    def complete(self) -> bool:
        """Whether every schedule that can differ was run."""
        return self.counts.complete and not (self.failed or self.replayed)

    def __str__(self) -> str:
        counts, name = self.counts, f" of {self.name}" if self.name else ""
        note = f" ({self.note})" if self.note else ""
        if self.misfit:
            return f"did not replay the schedule {self.replayed}{name}{note}: {self.misfit}"
        if self.replayed:
            return f"replayed the schedule {self.replayed}{name}{note}; no other was run"
        said = f"explored {counts.ran} schedule{'s' * (counts.ran != 1)}{name}{note}"
        if counts.pruned:
            said += f", broke {counts.pruned} off that come to the same as others"
        said += f", with up to {_preemptions(counts.preemptions)}"
        if self.failed:
            return f"{said}: one failed, and the exploration ended there"
        if counts.complete:
            said += f": all{self.turns and f' {self.turns}'}"
            if self.unseen:
                said += f"; nothing that {' or '.join(sorted(self.unseen))} did was seen there"
            return said
        left = []
        if counts.waiting:
            left.append(f"the bound was reached, at least {counts.waiting} known ones were not run")
        if counts.beyond:
            left.append(f"{counts.beyond} with more preemptions than allowed were not followed")
        return f"{said}; not all: {', and '.join(left)}"


class Interleaver:
    """Explores schedules. The fixture `linkmode_interleave`.

    `budget` bounds explorations, `replay` is the one schedule to run instead, `say` is told what
    each exploration came to, `failures` are the exceptions that make a schedule fail. `alone`
    returns the command line that runs this test and no other.
    """

    def __init__(
        self,
        *,
        budget: int | None = None,
        replay: str | None = None,
        say: Callable[[str], None] | None = None,
        failures: tuple[type[BaseException], ...] = (Exception,),
        alone: Callable[[], str] = str,
    ) -> None:
        self.budget = budget
        self._alone = alone
        self.replay = replay
        self._say = say
        self._failures = failures
        self._tables: list[tuple[Any, str]] = []

    def platform(self, platform: Scheduled, table: str = "calls") -> Scheduled:
        """Have every call of a platform of the reference linker be a turn in explorations.

        Of anything, that is, one of whose attributes is a dataclass of the functions that it calls.
        Returns the same object.
        """
        self._tables.append((platform, table))
        return platform

    def explore(
        self,
        actors: Sequence[Actor] | Mapping[str, Actor],
        *,
        check: Check,
        target: str | os.PathLike[str] | None = None,
        prepare: Callable[[], object] | None = None,
        below: Iterable[str | os.PathLike[str]] = (),
        ends: tuple[type[BaseException], ...] = (),
        preemptions: int | None = None,
        budget: int | None = None,
        name: str = "",
        python: bool = True,
    ) -> Explored:
        """Run every schedule of some actors that can differ, and check what each led to.

        Actors are functions without parameters (named A, B, … unless a mapping names them). They
        stop before every operation below `target`, or the directories `below` instead: operations
        of a platform given to `platform`, and of Python's own functions, unless `python` is false
        (an actor that uses none of them there is explored faster so). Before each schedule
        `target` is put back as it was, or `prepare` called instead. `check` is called after each,
        with the `Execution`; whatever an actor raises fails the schedule too, unless it is one of
        `ends`.

        At most `budget` schedules run, those with few preemptions first. With `preemptions` every
        schedule with at most so many runs instead, and none is pruned.

        Raises ScheduleFailed, UsageError for what cannot be meant, and Diverged if the actors do
        not do the same again.
        """
        __tracebackhide__ = True  # a failure says all that there is to say
        named = actors if isinstance(actors, Mapping) else names_of(actors)
        if len(named) < 2 or len(named) > 8:
            raise UsageError(f"{len(named)} actors", why="schedules have two to eight")
        places = _places(target, below, prepare)
        with ExitStack() as stack:
            prepare = prepare or _fresh(stack, target)
            world = stack.enter_context(self._world(named, places, prepare, python=python))
            return self._explore(
                world,
                places,
                _checking(check, ends, named),
                preemptions=preemptions,
                budget=self.budget if budget is None else budget,
                name=name,
                prunes=True,
            )

    def programs(
        self,
        commands: Sequence[Command | Adversary] | Mapping[str, Command | Adversary],
        *,
        check: Check,
        target: str | os.PathLike[str] | None = None,
        prepare: Callable[[], object] | None = None,
        below: Iterable[str | os.PathLike[str]] = (),
        preemptions: int | None = 1,
        budget: int | None = None,
        name: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        timeout: float = 60.0,
        locks: bool = True,
        patience: float = 10.0,
    ) -> Explored:
        """Run the schedules of some programs by growing number of preemptions, none pruned.

        Each is held at every call that makes, moves or removes a name below `target` (or `below`).
        What `check` is given has for each program the `Run` as its outcome. A function among the
        commands is an adversary: it is called once, just before a call of the first program that
        is held, with this call (an `Event`); what it returns names what it did. Without `locks`
        every file lock is answered with success and not taken, as on filesystems without locks; the
        report says so. A schedule may take `timeout` seconds, and in it all programs may sleep for
        `patience` seconds at once, by timers of their own. The rest is as in `explore`.

        Raises ScheduleFailed, UsageError, Unavailable where programs cannot be held here, and
        LinkmodeError if they wait for each other, or for longer than that.
        """
        __tracebackhide__ = True
        _refuse_windows()
        from pytest_linkmode.interleave.programs import HELD_BEFORE, Programs, Setting

        if isinstance(commands, (str, bytes, os.PathLike)):
            raise UsageError(
                f"the commands {commands!r}",
                why="they are not a list of commands",
                hint='write them as in [["cp", "a", "b"], ["mv", "a", "c"]]',
            )
        named = commands if isinstance(commands, Mapping) else names_of(commands)
        places = _places(target, below, prepare)
        with ExitStack() as stack:
            prepare = prepare or _fresh(stack, target)
            world = Programs(named, places, prepare, Setting(env, cwd, timeout, locks, patience))
            return self._explore(
                world,
                places,
                check,
                preemptions=preemptions,
                budget=self.budget if budget is None else budget,
                name=name,
                prunes=False,
                note="" if locks else "file locks succeeded without being taken",
                turns=HELD_BEFORE,
                seen={name for name, what in named.items() if callable(what)},
            )

    @contextmanager
    def _world(
        self,
        actors: Mapping[str, Actor],
        places: Sequence[str],
        prepare: Callable[[], object],
        *,
        python: bool,
    ) -> Iterator[InProcess]:
        of_windows = HERE == "win32" or any(_is_windows(one) for one, _ in self._tables)
        folds = of_windows or any(map(_folds, places))
        world = InProcess(actors, places, prepare, folds=folds)
        own = [getattr(one, name) for one, name in self._tables]
        try:
            for (one, name), functions in zip(self._tables, own, strict=True):
                setattr(one, name, _scheduled(world, one, functions))
            turns = standing(world) if python else random_names(world)
            with turns, disturbing(lambda: True):
                yield world
        finally:
            for (one, name), functions in zip(self._tables, own, strict=True):
                setattr(one, name, functions)
            world.close()

    def _explore(
        self,
        world: World,
        places: Sequence[str],
        check: Check,
        *,
        preemptions: int | None,
        budget: int | None,
        name: str,
        prunes: bool,
        note: str = "",
        turns: str = "",
        seen: Iterable[str] = (),
    ) -> Explored:
        __tracebackhide__ = True
        unseen = frozenset(world.actors).difference(seen)
        explored = Explored(name, note=note, turns=turns, unseen=unseen)
        failed: list[tuple[Execution, BaseException]] = []

        def visit(execution: Execution) -> bool:
            if explored.unseen:
                acted = {world.actors[event.actor] for event in execution.events if event.paths}
                explored.unseen -= acted
            try:
                check(execution)
            except self._failures as error:
                failed.append((execution, error))
            return not failed

        replay = self._replayed(name)
        if replay is not None:
            explored.replayed = replay
            visit(self._followed(world, explored))
        elif prunes and preemptions is None:
            explored.counts = Search(world, budget=budget).run(visit)
        else:
            shared = Shared() if prunes else None
            growing = Growing(world, budget=budget, most=preemptions, shared=shared)
            explored.counts = growing.run(visit)
        if failed:
            explored.failed = True
            self._tell(explored)
            raise self._failure(world, places, explored, check, *failed[0], prunes=prunes)
        self._tell(explored)
        return explored

    def _followed(self, world: World, explored: Explored) -> Execution:
        """Run the schedule to replay, and tell of it too if the actors do not have it."""
        try:
            return follow(world, explored.replayed)
        except UsageError as error:
            explored.misfit = error.why
            self._tell(explored)
            raise

    def _replayed(self, name: str) -> str | None:
        """Return the schedule to run instead of all, if it is meant for this exploration."""
        if self.replay is None:
            return None
        whose, equals, line = self.replay.rpartition("=")
        if equals and whose != name:
            return None
        return line

    def _tell(self, explored: Explored) -> None:
        if self._say is not None:
            self._say(str(explored))

    def _failure(
        self,
        world: World,
        places: Sequence[str],
        explored: Explored,
        check: Check,
        execution: Execution,
        error: BaseException,
        *,
        prunes: bool,
    ) -> ScheduleFailed:
        """Return the failure of the simplest schedule that fails."""
        last = [error]

        def fails(tried: Execution) -> bool:
            try:
                check(tried)
            except self._failures as found:
                last[0] = found
                return True
            return False

        had = execution.preemptions()
        if not explored.replayed:
            execution = shrunk(world, execution, fails, prunes=prunes)
        line = written(execution)
        if explored.name:
            line = f"{explored.name}={line}"
        has = execution.preemptions()
        found = "" if has == had else f" (found with {had})"
        why = f"{type(last[0]).__name__}: {last[0]}"
        replay = "it takes no schedule: nobody was held before it failed"
        if line:
            options = f"{self._alone()} --linkmode-schedule='{line}'".lstrip()
            replay = f"replay this schedule with {options}"
        message = "\n".join(
            [
                f"a schedule with {_preemptions(has)}{found} fails: {why}",
                "",
                side_by_side(execution, places_of(places).roots, everything=not prunes),
                "",
                str(explored),
                replay,
            ]
        )
        failure = ScheduleFailed(message, execution, line)
        failure.__cause__ = last[0]
        return failure


def _fresh(stack: ExitStack, target: str | os.PathLike[str] | None) -> Callable[[], object]:
    """Return what puts a target back as it is now; after the last schedule too, unless it failed,
    so that one can look.
    """
    assert target is not None  # one of them is given
    fresh = stack.enter_context(Fresh(target))

    def ended(kind: object, _error: object, _trace: object) -> None:
        if kind is None:
            fresh.restore()

    stack.push(ended)
    return fresh.restore


def _places(
    target: str | os.PathLike[str] | None,
    below: Iterable[str | os.PathLike[str]],
    prepare: Callable[[], object] | None,
) -> list[str]:
    """Return the directories in which actors meet. Raises UsageError where nobody says."""
    places = [os.fspath(path) for path in below]
    if not places and target is not None:
        places = [os.fspath(target)]
    if not places or (prepare is None and target is None):
        raise UsageError("where do the actors meet?", hint="give target=, or below= and prepare=")
    return places


def _refuse_windows() -> None:
    """Raise Unavailable on Windows: for programs."""
    if HERE == "win32":
        raise Unavailable(
            "no schedules of programs on Windows",
            checked=["programs are held at their calls by seccomp, which is part of Linux"],
            mends=[
                "run these tests on Linux",
                "explore functions instead: Interleaver.explore works here",
                "leave them out here: @pytest.mark.skipif(sys.platform == 'win32', reason=...)",
            ],
        )


def _is_windows(platform: Any) -> bool:
    """Return whether a platform makes the calls of Windows, there or over a model."""
    return getattr(platform, "name", "") == "windows"


def _scheduled(world: InProcess, platform: Any, functions: Any) -> Any:
    """Return the table of functions of a platform as turns."""
    if _is_windows(platform):
        from pytest_linkmode.interleave.windows import WindowsSeam, forgetting

        world.ends.append(forgetting(platform))
        return WindowsSeam(world, guarded=False).table(functions)
    from pytest_linkmode.interleave.seam import Seam

    return Seam(world, guarded=False).table(functions)


def _preemptions(count: int) -> str:
    return "1 preemption" if count == 1 else f"{count} preemptions"


def _folds(place: str) -> bool:
    """Return whether a directory is found in letters of the other case too, as on most Macs."""
    above, name = os.path.split(os.path.realpath(place))
    other = os.path.join(above, name.swapcase())
    try:
        return name.swapcase() != name and os.path.samefile(place, other)
    except OSError:
        return False


def _checking(check: Check, ends: tuple[type[BaseException], ...], actors: Iterable[str]) -> Check:
    """Return a check that also looks how the actors ended."""

    def checked(execution: Execution) -> None:
        for name, outcome in zip(actors, execution.outcomes, strict=True):
            if outcome.error is not None and not isinstance(outcome.error, ends):
                raise AssertionError(
                    f"{name} ended with {type(outcome.error).__name__}: {outcome.error}"
                ) from outcome.error
        check(execution)

    return checked


__all__ = ["Diverged", "Execution", "Explored", "Interleaver", "ScheduleFailed"]
