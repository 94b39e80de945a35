"""Schedules on Windows: what is open counts, names fold, and the linker's races there.

The calls are the system's own on Windows, and so under Wine; on Linux a model answers them, where
thousands of schedules run in seconds. ``--linkmode-budget=N`` explores further.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from linker import LinkError, LinkMode
from linker.conditions import Condition
from linker.platforms import windows as w
from linker.platforms.base import Platform
from linker.platforms.windows import Calls, WindowsPlatform
from pytest_linkmode.faults.fresh import empty
from pytest_linkmode.interleave import Execution, Interleaver, ScheduleFailed
from pytest_linkmode.interleave.standing import standing
from pytest_linkmode.interleave.windows import WindowsSeam
from pytest_linkmode.interleave.world import InProcess
from tests.linker import seams
from tests.linker.trees import Entry, File
from tests.pytest_linkmode.interleave.races import SCENARIOS, Race, Scenario, package
from tests.pytest_linkmode.interleave.test_search import compared

WINDOWS = sys.platform == "win32"

if not WINDOWS:
    from pytest_linkmode.models.refs import RefsModel, Volume

    class Model(RefsModel):
        """Clones wherever a test runs: schedules see one call, however it is answered."""

        def control(self, handle: int, code: int, data: bytes, size: int) -> bytes:
            if code != w.FSCTL_DUPLICATE_EXTENTS_TO_FILE:
                return super().control(handle, code, data, size)
            source, here, there, length = w.DUPLICATE.unpack(data)
            os.pwrite(handle, os.pread(source, length, here), there)
            return b""


def calls(*, posix: bool = False) -> Calls:
    """Return the calls of this Windows, or of a model of one that folds names."""
    if WINDOWS:
        there: Any = seams.REFLINKING
        return there  # type: ignore[no-any-return]
    return Model(Volume(posix=posix, folds=True)).calls


# The linker's races


class Failing:
    """A platform of which one call fails, by number."""

    def __init__(self, base: Calls, at: int) -> None:
        self.count, self.names = 0, list[str]()
        self._at = at
        fields = {each.name for each in dataclasses.fields(Calls)} - {"sleep", "extended"}
        wrapped = {name: self._wrap(name, getattr(base, name)) for name in fields}
        self.platform = WindowsPlatform(dataclasses.replace(base, **wrapped), proof="injected")

    def _wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any) -> Any:
            self.count += 1
            if self.count != self._at:
                return call(*given)
            if name == "close":
                call(*given)
            if name == "access":
                return False
            raise w.refused(w.NUMBERS["ERROR_IO_DEVICE"])

        return counted


class WindowsRace(Race):
    """Two linkers on Windows, one of which may fail at a call. There are no permission bits."""

    def __init__(
        self,
        ground: str,
        scenario: Scenario,
        mode: LinkMode,
        *,
        fault: int = 0,
        posix: bool = False,
    ) -> None:
        base, first = calls(posix=posix), [fault]

        def making(interleaver: Interleaver, _fault: object, _ground: str) -> tuple[Platform, Any]:
            at = first.pop() if first else 0
            if not at:
                return interleaver.platform(WindowsPlatform(base, proof="modelled")), None
            failing = Failing(base, at)
            return interleaver.platform(failing.platform), failing

        faults = {0: seams.Fault(fault, errno.EIO)} if fault else {}
        super().__init__(ground, scenario, mode, making, faults)

    def _shows(self, path: str, seen: tuple[str, int, bytes], who: int | None, it: Entry) -> bool:
        if isinstance(it, File) and not (self._mode is LinkMode.SYMLINK and who is not None):
            return (seen[0], seen[2]) == ("file", it.content)
        return super()._shows(path, seen, who, it)

    def wrong(self, execution: Execution) -> Iterator[str]:
        """Let one end as busy: turns are not waited for, so that the other may hold a file open
        for as long as it is tried.
        """
        busy = [
            f"{name} failed: {outcome.error}"
            for name, outcome in zip(execution.actors, execution.outcomes, strict=True)
            if isinstance(outcome.error, LinkError) and outcome.error.condition is Condition.BUSY
        ]
        if len(busy) == len(execution.actors):
            yield "both have ended as busy"
        yield from (each for each in super().wrong(execution) if each not in busy)


OVERLAPPING = {
    "the same content": Scenario((package("a", b"aa"), package("a", b"aa")), {}),
    "different content": Scenario(
        (package("a", b"aa"), package("b", b"b")), {"ns/__init__.py": File(b"old")}
    ),
}
MODES = [LinkMode.HARDLINK, LinkMode.COPY]
"""What Wine does not fake. The others are explored over the model."""


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("content", OVERLAPPING)
def test_two_linkers_of_an_overlapping_package(
    linkmode_interleave: Interleaver, ground: str, content: str, mode: LinkMode
) -> None:
    bound = linkmode_interleave.budget or (20 if WINDOWS else 100)
    explored = WindowsRace(ground, OVERLAPPING[content], mode).explore(linkmode_interleave, bound)
    assert explored.counts.ran > 5
    assert not explored.unseen


@pytest.mark.parametrize("mode", LinkMode, ids=str)
@pytest.mark.parametrize("name", SCENARIOS)
def test_two_linkers_in_one_target_over_the_model(
    linkmode_interleave: Interleaver, ground: str, name: str, mode: LinkMode
) -> None:
    for posix in (False, True):
        race = WindowsRace(ground, SCENARIOS[name], mode, posix=posix)
        race.explore(linkmode_interleave, linkmode_interleave.budget or 20, f"posix{posix:d}")


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_one_of_two_fails_and_rolls_back(
    linkmode_interleave: Interleaver, ground: str, mode: LinkMode
) -> None:
    for call in range(60, 120, 30) if WINDOWS else range(1, 150, 11):
        race = WindowsRace(ground, SCENARIOS["both bring a new namespace"], mode, fault=call)
        race.explore(linkmode_interleave, linkmode_interleave.budget or 8, f"fault{call}")


# What commutes, against brute force

NAMES = ("a", "A", "d", "d/x", "D/y")
ONE = ("mkdir", "rmdir", "unlink", "create", "look", "list", "hold", "deny")
TWO = ("move", "replace", "hardlink")
Operation = tuple[str, ...]


def perform(
    act: Callable[[list[Any], str, list[str]], object],
    close: Callable[[Any], object],
    place: str,
    operations: list[Operation],
) -> list[str]:
    """Do what an actor is told, which keeps files open meanwhile; return what came of it."""
    seen: list[str] = []
    held: list[Any] = []
    try:
        for name, *paths in operations:
            try:
                seen.append(str(act(held, name, [f"{place}/{path}" for path in paths])))
            except OSError as error:
                seen.append(str(error.errno))
        return seen
    finally:
        for each in held:
            close(each)


def _call(tables: list[Calls], held: list[Any], name: str, paths: list[str]) -> object:
    """Make a call of Windows."""
    table, first = tables[0], paths[0]
    if name == "create":
        share = w.SHARE_READ | w.SHARE_DELETE
        table.close(table.open(first, w.GENERIC_WRITE, share, w.CREATE_NEW, 0))
        return None
    if name in ("hold", "deny"):
        share = w.SHARE_ALL if name == "hold" else w.SHARE_READ
        held.append(table.open(first, w.GENERIC_READ, share, w.OPEN_EXISTING, w.BACKUP_SEMANTICS))
        return None
    if name == "look":
        return table.lstat(first).st_mode & 0o170000
    if name == "list":
        with table.scandir(first) as found:
            return sorted(entry.name for entry in found)
    if name == "move":
        table.move(first, paths[1], 0)
        return None
    if name == "replace":
        table.move(first, paths[1], w.MOVE_REPLACE)
        return None
    if name == "hardlink":
        table.hardlink(paths[1], first)
        return None
    getattr(table, name)(first)
    return None


def _act(held: list[Any], name: str, paths: list[str]) -> object:
    """Do the same by Python's own functions."""
    first = paths[0]
    if name == "create":
        os.close(os.open(first, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        return None
    if name == "hold":
        held.append(open(first, "rb"))  # noqa: SIM115  # it stays open
        return None
    if name == "deny":
        return os.path.exists(first)
    if name == "look":
        return os.path.isdir(first)
    if name == "list":
        return sorted(os.listdir(first))
    function = {"move": os.rename, "replace": os.replace, "hardlink": os.link}.get(name)
    return getattr(os, name)(first) if function is None else function(first, paths[1])


def made_by_dice(dice: random.Random, length: int) -> list[list[Operation]]:
    return [[_operation(dice) for _ in range(length)] for _ in range(2)]


def _operation(dice: random.Random) -> Operation:
    first, second = dice.choice(NAMES), dice.choice(NAMES)
    if dice.random() < 0.6:
        return (dice.choice(ONE), first)
    # A directory that was to replace a file in itself is refused, and Wine has removed the file.
    inside = second.lower().startswith(f"{first}/")
    return (dice.choice(("move", "hardlink") if inside else TWO), first, second)


@contextmanager
def world_of(place: str, programs: list[list[Operation]], *, python: bool) -> Iterator[InProcess]:
    tables = [calls()]

    def prepare() -> None:
        empty(place)
        os.mkdir(f"{place}/d")
        for name in ("a", "d/x"):
            os.close(os.open(f"{place}/{name}", os.O_CREAT | os.O_WRONLY))

    def by_calls(program: list[Operation]) -> list[str]:
        return perform(partial(_call, tables), lambda each: tables[0].close(each), place, program)

    def by_python(program: list[Operation]) -> list[str]:
        return perform(_act, lambda each: each.close(), place, program)

    act = by_python if python else by_calls
    actors = {name: partial(act, program) for name, program in zip("AB", programs, strict=True)}
    world = InProcess(actors, [place], prepare, folds=True)
    try:
        if python:
            with standing(world):
                yield world
        else:
            tables[0] = WindowsSeam(world, guarded=False).table(tables[0])
            yield world
    finally:
        world.close()


def test_every_trace_of_calls_is_run_and_none_twice(ground: str) -> None:
    assert not compare(ground, python=False)


def compare(ground: str, *, python: bool) -> str:
    """Compare some programs; return in words what is wrong."""
    dice = random.Random("windows")
    wrong = []
    for _ in range(12 if WINDOWS else 150):
        program = made_by_dice(dice, 2)
        with world_of(ground, program, python=python) as world:
            found = compared(ground, world)
        wrong += [f"{program}: {found}"] if found else []
    return "\n".join(wrong)


# Linkers as they once were in the field, of plain code


def delete_then_link(source: str, target: str) -> None:
    """What is in the way is deleted."""
    for name in os.listdir(source):
        if os.path.isdir(os.path.join(target, name)):
            shutil.rmtree(os.path.join(target, name))
        os.mkdir(os.path.join(target, name))
        for file in os.listdir(os.path.join(source, name)):
            os.link(os.path.join(source, name, file), os.path.join(target, name, file))


def make_what_is_missing(source: str, target: str) -> None:
    """What is not there when it is looked for is made."""
    for name in os.listdir(source):
        if not os.path.isdir(os.path.join(target, name)):
            os.mkdir(os.path.join(target, name))
        for file in os.listdir(os.path.join(source, name)):
            if not os.path.exists(os.path.join(target, name, file)):
                os.link(os.path.join(source, name, file), os.path.join(target, name, file))


LOOKS = "isdir ns = no" if WINDOWS else "stat ns = ENOENT"
HISTORICAL = {
    "delete, then link": (
        delete_then_link,
        ["mkdir ns", "unlink ns" if WINDOWS else "unlink"],
        "FileNotFoundError|FileExistsError|PermissionError|is lost",
    ),
    "make what is missing": (make_what_is_missing, [LOOKS, "mkdir ns = "], "FileExistsError"),
}


@pytest.mark.parametrize("name", HISTORICAL)
def test_a_historical_algorithm_is_caught_and_replayed(ground: str, name: str) -> None:
    links, shown, said = HISTORICAL[name]
    target = os.path.join(ground, "target")
    os.mkdir(target)
    for package_of in "ab":
        os.makedirs(os.path.join(ground, package_of, "ns"))
        with open(os.path.join(ground, package_of, "ns", f"{package_of}.py"), "w") as file:
            file.write(package_of)

    def check(_: Execution) -> None:
        lost = {"a.py", "b.py"} - set(os.listdir(os.path.join(target, "ns")))
        assert not lost, f"{lost} is lost"

    def explore(replay: str | None = None) -> ScheduleFailed:
        actors = [partial(links, os.path.join(ground, each), target) for each in "ab"]
        with pytest.raises(ScheduleFailed, match=said) as caught:
            Interleaver(replay=replay).explore(
                actors, below=[target], prepare=partial(empty, target), check=check
            )
        return caught.value

    failure = explore()
    for call in shown:
        assert call in str(failure), failure
    assert f"--linkmode-schedule='{failure.line}'" in str(failure)
    assert failure.execution.preemptions() <= 1
    again = explore(failure.line)
    assert again.execution.plan == failure.execution.plan
