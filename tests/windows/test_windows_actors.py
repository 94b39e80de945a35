"""Actors of plain code on Windows: what is theirs alone there, what folds, what is open."""

from __future__ import annotations

import importlib
import os
import stat
from functools import partial
from typing import Any

import pytest

from pytest_linkmode.faults.fresh import empty
from pytest_linkmode.interleave import Execution, Interleaver, ScheduleFailed
from pytest_linkmode.interleave.standing import standing
from pytest_linkmode.interleave.world import InProcess
from tests.windows.test_windows_schedules import compare


def test_every_trace_of_plain_code_is_run_and_none_twice(ground: str) -> None:
    assert not compare(ground, python=True)


def test_a_file_that_is_read_cannot_be_replaced(ground: str) -> None:
    path, new = os.path.join(ground, "read"), os.path.join(ground, "new")
    for each in (path, new):
        with open(each, "w") as file:
            file.write("x")

    def read() -> str:
        with open(path) as file:
            return file.read()

    with pytest.raises(ScheduleFailed, match="PermissionError") as caught:
        Interleaver().explore([read, lambda: os.replace(new, path)], target=ground, check=_nothing)
    turns = [(event.name, event.error) for event in caught.value.execution.events]
    assert turns == [("open", ""), ("replace", "ERROR_ACCESS_DENIED"), ("close", "")]


def test_names_in_other_letters_and_spellings_are_the_same(ground: str) -> None:
    os.mkdir(os.path.join(ground, "Above"))

    def plain() -> None:
        os.mkdir(os.path.join(ground, "Above", "Name"))

    def other() -> None:
        os.mkdir("\\\\?\\" + os.path.join(ground.upper(), "ABOVE", "name"))

    explored = Interleaver().explore(
        [plain, other], target=ground, check=_nothing, ends=(FileExistsError,)
    )
    assert (explored.complete, explored.counts.ran, explored.unseen) == (True, 2, frozenset())
    with pytest.raises(ScheduleFailed, match="B ended with FileExistsError") as caught:
        Interleaver().explore([plain, other], target=ground, check=_nothing)
    assert "mkdir Above/Name" in str(caught.value)  # as it was asked for


@pytest.mark.parametrize("ends", ["by closing", "by unlocking"])
def test_a_lock_that_is_given_up_lets_the_other_in(ground: str, ends: str) -> None:
    msvcrt: Any = importlib.import_module("msvcrt")
    with open(os.path.join(ground, "lock"), "w") as file:
        file.write("x")
    seen = set()

    def act() -> bool:
        descriptor = os.open(os.path.join(ground, "lock"), os.O_RDWR)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            if ends == "by unlocking":
                msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def check(execution: Execution) -> None:
        seen.add((*(each.result() for each in execution.outcomes),))

    assert Interleaver().explore([act, act], target=ground, check=check).complete
    assert seen == {(True, True), (True, False), (False, True)}


def test_a_schedule_that_is_broken_off_leaves_nothing_open(ground: str) -> None:
    path = os.path.join(ground, "one")
    files: list[object] = []

    def act(name: str) -> None:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
        files.append(open(path))  # noqa: SIM115  # it is not closed where the schedule ends
        os.mkdir(os.path.join(ground, name))
        os.close(descriptor)

    world = InProcess(
        {"A": partial(act, "a"), "B": partial(act, "b")}, [ground], partial(empty, ground)
    )
    try:
        with standing(world):
            for turns in range(1, 4):
                execution = world.run(bytes(turns), {0: {}, 1: {}})
                assert execution.pruned
                assert len(execution.events) == turns
    finally:
        world.close()
    os.unlink(path)


def test_read_only_files_are_put_back(ground: str) -> None:
    target, other = os.path.join(ground, "target"), os.path.join(ground, "other")
    old, new = os.path.join(target, "old"), os.path.join(target, "new")
    os.mkdir(target)
    for path in (old, other):
        with open(path, "w") as file:
            file.write("x")
        os.chmod(path, stat.S_IREAD)

    def act() -> None:
        os.replace(old, new)
        os.link(other, old)

    def look() -> bool:
        return os.path.exists(new)

    seen = set()

    def check(execution: Execution) -> None:
        seen.add(execution.outcomes[1].result())

    assert Interleaver().explore([act, look], target=target, check=check).complete
    assert seen == {False, True}
    assert os.listdir(target) == ["old"]
    for path in (old, other):
        assert not os.stat(path).st_mode & stat.S_IWRITE


def _nothing(_: Execution) -> None:
    """Look at nothing: how the actors end is enough."""
