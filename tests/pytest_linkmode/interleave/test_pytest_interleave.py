"""The fixture in a project: a race is found, shown, replayed; what was not run is said."""

from __future__ import annotations

import re
import shlex
import sys

import pytest

from pytest_linkmode import interleave
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.interleave import explorer

TEST = '''
import os

import pytest

NAMES = ("one", "two", "three")

@pytest.fixture
def scene(tmp_path):
    (tmp_path / "target").mkdir()
    return tmp_path / "target"

def careless(target, number):
    """Check, then act."""
    def act():
        os.listdir(target)
        if not os.path.exists(target / "lock"):
            os.makedirs(target / "own" / str(number))
            with open(target / "lock", "w") as file:
                file.write(str(number))
            return True
        return False
    return act

def careful(target, number):
    def act():
        try:
            os.close(os.open(target / "lock", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True
    return act

def only_one(run):
    assert sum(outcome.result() for outcome in run.outcomes) == 1

def test_careless(linkmode_interleave, scene):
    actors = [careless(scene, number) for number in range(2)]
    linkmode_interleave.explore(actors, target=scene, check=only_one)

def test_careful(linkmode_interleave, scene):
    actors = [careful(scene, number) for number in range(3)]
    linkmode_interleave.explore(actors, target=scene, check=only_one)
'''

WINDOWS = sys.platform == "win32"
LOOKS = "exists lock = no" if WINDOWS else "stat lock = ENOENT"
SCHEDULES = "*" if WINDOWS else "3"
"""On Windows closing is a turn, too."""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(TEST)
    return pytester


def run(project: pytest.Pytester, *options: str) -> pytest.RunResult:
    return project.runpytest("-v", "-p", "no:cacheprovider", *options)


def test_a_race_is_found_and_shown_side_by_side(project: pytest.Pytester) -> None:
    result = run(project)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*ScheduleFailed: a schedule with 1 preemption*fails: AssertionError*",
            "*A * | B",
            f"*{LOOKS}*|*",
            f"*|*{LOOKS}*",
            "*|*create lock*",
            "*create lock*|*",
            "*replay this schedule with pytest *::test_careless*--linkmode-schedule='A*-B'*",
        ]
    )
    result.stdout.fnmatch_lines(["*test_careless: explored * schedules*one failed*"])
    result.stdout.fnmatch_lines([f"*test_careful: explored {SCHEDULES} schedules, *: all"])


def test_the_line_replays_that_schedule_alone(project: pytest.Pytester) -> None:
    found = re.search(r"--linkmode-schedule='(.*)'", run(project).stdout.str())
    assert found is not None
    again = run(project, "-k", "careless", f"--linkmode-schedule={found[1]}")
    again.assert_outcomes(failed=1, deselected=1)
    again.stdout.fnmatch_lines(
        ["*with 1 preemption fails*", f"*replayed the schedule {found[1]}; no other was run*"]
    )
    other = run(project, "-k", "careless", "--linkmode-schedule=B-A")
    other.assert_outcomes(passed=1, deselected=1)


def test_the_line_is_a_command_that_shows_that_race_again(project: pytest.Pytester) -> None:
    found = re.search(r"replay this schedule with (pytest .*)", run(project).stdout.str())
    assert found is not None
    program, test, *options = shlex.split(found[1])
    assert (program, test.rpartition("::")[2]) == ("pytest", "test_careless")
    again = run(project, test, *options)
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines([f"*replay this schedule with {found[1]}"])


def test_a_budget_is_kept_and_what_was_not_run_is_said(project: pytest.Pytester) -> None:
    result = project.runpytest("-p", "no:cacheprovider", "-k", "careful", "--linkmode-budget=2")
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines(
        ["*explored 2 schedules, *; not all: the bound was reached, at least * were not run*"]
    )


@pytest.mark.parametrize("line", ["A12B", "A-", "12"])
def test_what_is_no_schedule_is_a_usage_error(project: pytest.Pytester, line: str) -> None:
    result = run(project, f"--linkmode-schedule={line}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--linkmode-schedule={line}*"])


def test_an_actor_that_there_is_not_is_told(project: pytest.Pytester) -> None:
    result = run(project, "-k", "careful", "--linkmode-schedule=A3-X")
    result.stdout.fnmatch_lines(["*there is no actor X: they are A, B, C*"])
    result.stdout.fnmatch_lines(["*test_careful: did not replay the schedule A3-X: *"])
    result.stdout.no_fnmatch_line("*no test that ran*")


def test_a_schedule_that_the_actors_do_not_have_is_told(project: pytest.Pytester) -> None:
    result = run(project, "-k", "careful", "--linkmode-schedule=A99-B")
    result.stdout.fnmatch_lines(
        ["*--linkmode-schedule=A99-B: the actors have other turns: A had ended after * turn*"]
    )
    result.stdout.no_fnmatch_line("*not deterministic*")


def test_programs_are_refused_on_windows_with_the_reason_and_what_mends_it(
    monkeypatch: pytest.MonkeyPatch, linkmode_interleave: interleave.Interleaver
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(explorer, "HERE", "win32")
        with pytest.raises(Unavailable, match="no schedules of programs on Windows") as refused:
            linkmode_interleave.programs([["a"], ["b"]], target=".", check=lambda _: None)
    assert "seccomp" in str(refused.value)
    assert "To fix this, either:" in str(refused.value)
    assert "explore functions instead" in str(refused.value)


def test_workers_say_what_they_explored(project: pytest.Pytester) -> None:
    result = run(project, "-n", "2", "-k", "careful")
    result.stdout.fnmatch_lines([f"*test_careful: explored {SCHEDULES} schedules, *: all"])
