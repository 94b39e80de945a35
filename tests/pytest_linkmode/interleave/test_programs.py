"""Real programs under schedules: held at their calls, released in turn, and surprised."""

from __future__ import annotations

import os
import pathlib
import sys

import pytest

from pytest_linkmode.errors import LinkmodeError, UsageError
from pytest_linkmode.faults.fresh import empty
from pytest_linkmode.faults.support import unavailable
from pytest_linkmode.interleave import Event, Execution, Interleaver, ScheduleFailed
from pytest_linkmode.interleave.programs import Programs, Setting
from tests.patience import LONGER

CARELESS = """
import os, sys
target, name = sys.argv[1:]
if not os.path.exists(target + "/first"):
    os.mkdir(target + "/of-" + name)
    with open(target + "/first", "w") as file:
        file.write(name)
    print("first")
"""

LOCKING = """
import fcntl, os, struct, sys
target, name, how = sys.argv[1:]
lock = os.open(target + ".lock", os.O_CREAT | os.O_RDWR)
all = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
try:
    if how == "flock":
        fcntl.flock(lock, fcntl.LOCK_EX)
    elif how == "F_SETLK":
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    elif how == "F_SETLKW":
        fcntl.lockf(lock, fcntl.LOCK_EX)
    else:
        fcntl.fcntl(lock, getattr(fcntl, how), all)
except BlockingIOError:
    sys.exit()
there = os.path.exists(target + "/first")
os.mkdir(target + "/of-" + name)
if not there:
    os.close(os.open(target + "/first", os.O_CREAT | os.O_WRONLY))
    print("first")
"""
LOCKS = ("flock", "F_SETLK", "F_SETLKW", "F_OFD_SETLK", "F_OFD_SETLKW")


@pytest.fixture(autouse=True)
def holdable() -> None:
    refused = unavailable()
    if refused is not None:
        pytest.skip(str(refused))


@pytest.fixture
def target(meeting: str) -> str:
    os.mkdir(f"{meeting}/target")
    return f"{meeting}/target"


def program(code: str, target: str, *words: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code, target, *words]


def one_is_first(execution: Execution) -> None:
    said = [outcome.result().stdout for outcome in execution.outcomes]
    assert said.count("first\n") == 1, said
    assert not [run.stderr for run in (each.result() for each in execution.outcomes) if run.stderr]


def test_a_race_of_programs_is_found_shrunk_and_replayed(target: str) -> None:
    commands = [program(CARELESS, target, name) for name in "ab"]
    with pytest.raises(ScheduleFailed, match="with 1 preemption") as caught:
        Interleaver().programs(commands, target=target, check=one_is_first)
    said = str(caught.value)
    for line in ("mkdir of-b", "| create first", "create first  ", "--linkmode-schedule='A1-B'"):
        assert line in said, said
    empty(target)
    with pytest.raises(ScheduleFailed):
        Interleaver(replay="A1-B").programs(commands, target=target, check=one_is_first)
    empty(target)
    Interleaver(replay="B-A").programs(commands, target=target, check=one_is_first)


@pytest.mark.parametrize(
    ("line", "how"),
    [
        ("A7-B", "A had ended after 3 turns"),
        ("A1-B9", "B had ended after 3 turns"),
        ("A-B3", "all had ended after 4 turns"),
        ("C-A-B", "C could not have turn 1"),
    ],
)
def test_a_schedule_that_the_programs_do_not_have_is_told(target: str, line: str, how: str) -> None:
    commands = [program(CARELESS, target, name) for name in "ab"]
    said: list[str] = []
    with pytest.raises(UsageError, match=f"the programs have other turns: {how}") as caught:
        Interleaver(replay=line, say=said.append).programs(
            [*commands, lambda event: None], target=target, check=lambda run: None
        )
    assert caught.value.what == f"--linkmode-schedule={line}"
    assert said == [f"did not replay the schedule {line}: {caught.value.why}"]


def test_programs_that_come_by_links_are_held_too(target: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "link").symlink_to(target)
    commands = [program(CARELESS, str(tmp_path / "link"), name) for name in "ab"]
    for given in (target, str(tmp_path / "link")):
        with pytest.raises(ScheduleFailed, match="with 1 preemption"):
            Interleaver().programs(commands, target=given, check=one_is_first)
        empty(target)


def test_all_is_said_of_the_calls_at_which_programs_are_held(target: str) -> None:
    commands = [["mkdir", f"{target}/{name}"] for name in "ab"]
    explored = Interleaver().programs(
        commands, target=target, check=lambda _: None, preemptions=None
    )
    assert str(explored).endswith(": all at the calls that make, move or remove a name")


@pytest.mark.parametrize("how", LOCKS)
def test_a_lock_holds_them_apart_and_nothing_does_without_it(target: str, how: str) -> None:
    """By flock(2), and by the record locks of fcntl(2), those of the process and of a file."""
    commands = [program(LOCKING, target, name, how) for name in "ab"]
    explored = Interleaver().programs(commands, target=target, check=one_is_first)
    assert explored.complete
    assert explored.counts.preemptions == 1
    empty(target)
    with pytest.raises(ScheduleFailed, match="file locks succeeded without being taken"):
        Interleaver().programs(commands, target=target, check=one_is_first, locks=False)


def test_an_adversary_comes_just_before_each_call(target: str) -> None:
    met = []

    def link_first(call: Event) -> str:
        met.append((call.name, os.path.basename(call.paths[-1]), sorted(os.listdir(target))))
        os.symlink("nowhere", f"{target}/first")
        return "a symlink appears"

    def never_followed(execution: Execution) -> None:
        assert os.path.islink(f"{target}/first") or len(execution.outcomes) == 2

    explored = Interleaver().programs(
        {"A": program(CARELESS, target, "a"), "Adversary": link_first},
        target=target,
        check=never_followed,
    )
    assert explored.complete
    assert met == [("mkdir", "of-a", []), ("create", "first", ["of-a"])]
    assert explored.counts.ran == 3  # once without it


def test_what_is_prepared_comes_before_each_schedule(target: str, tmp_path: pathlib.Path) -> None:
    prepared = []

    def prepare() -> None:
        prepared.append(sorted(os.listdir(target)))
        for name in os.listdir(target):
            place = f"{target}/{name}"
            (os.rmdir if os.path.isdir(place) else os.unlink)(place)

    Interleaver().programs(
        [program(CARELESS, target, name) for name in "ab"],
        below=[target],
        prepare=prepare,
        preemptions=0,
        check=lambda execution: None,
    )
    assert prepared == [[], ["first", "of-a"]]


def test_programs_that_wait_for_each_other_are_told(target: str) -> None:
    waits = f"import time; time.sleep(0.01)\nimport os; os.read(os.pipe()[0], 1); {CARELESS!r}"
    with pytest.raises(LinkmodeError, match="wait for each other"):
        Interleaver().programs(
            [program(waits, target, name) for name in "ab"],
            target=target,
            check=lambda execution: None,
            patience=0.5,
        )


SLEEPING = """
import os, sys, time
os.mkdir(sys.argv[1] + "/before-" + sys.argv[2])
time.sleep(0.1)
os.mkdir(sys.argv[1] + "/after-" + sys.argv[2])
"""


def test_a_program_that_sleeps_by_itself_is_waited_for_by_who_has_patience(target: str) -> None:
    def world(patience: float) -> Programs:
        actors = {name: program(SLEEPING, target, name) for name in "ab"}
        return Programs(actors, [target], lambda: empty(target), Setting(patience=patience))

    with pytest.raises(LinkmodeError, match=r"does not go on|wait for each other"):
        world(0).run(b"")
    done = world(30).run(bytes([0, 0, 0, 1]))
    assert [outcome.value.returncode for outcome in done.outcomes] == [0, 0]
    made = [event.paths[-1].rpartition("/")[2] for event in done.events if event.paths]
    assert made == ["before-a", "after-a", "before-b", "after-b"]


def test_a_program_that_sleeps_alone_does_not_wait_for_anybody(target: str) -> None:
    explored = Interleaver().programs(
        [program(SLEEPING, target, "a")],
        target=target,
        check=lambda execution: execution.outcomes[0].result(),
    )
    assert explored.complete


def test_a_line_of_shell_is_no_program(target: str) -> None:
    with pytest.raises(UsageError, match="not a list of words"):
        Interleaver().programs(["mkdir a"], target=target, check=lambda execution: None)
    with pytest.raises(UsageError, match="not a list of commands"):
        Interleaver().programs("mkdir a", target=target, check=lambda execution: None)


def test_a_program_that_never_goes_on_is_told_by_whichever_limit_comes_first(target: str) -> None:
    never = program(f"import time; time.sleep({LONGER})", target)
    for timeout, patience, words in (
        (60.0, 0.3, "a program does not go on"),
        (1.0, 5.0, "took too long"),
    ):
        with pytest.raises(LinkmodeError, match=words):
            Interleaver().programs(
                [never],
                target=target,
                check=lambda execution: None,
                timeout=timeout,
                patience=patience,
            )
