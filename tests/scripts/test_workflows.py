"""The workflows: what they call is tried, what they use is pinned, and they may do little."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from scripts import action, ci
from scripts.bootstrap import ROOT

WORKFLOWS = sorted(Path(ROOT, ".github", "workflows").glob("*.yml"))
ACTION = Path(ROOT, "action.yml")
FILES = [*WORKFLOWS, ACTION]


def _name(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_every_action_is_pinned_by_the_digest_of_a_commit_and_says_its_version(path: Path) -> None:
    text = path.read_text()
    pins = re.findall(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", text, re.MULTILINE)
    assert len(pins) == text.count("uses:") > 0


def test_one_action_is_pinned_alike_everywhere() -> None:
    pins = {
        tuple(found)
        for path in FILES
        for found in re.findall(r"uses: ([\w./-]+)@(\S+) # (\S+)", path.read_text())
    }
    assert len({action for action, *_ in pins}) == len(pins)


STEP = re.compile(r"run: python (?:-m scripts\.(?P<module>\w+)(?: (?P<step>\w+))?)$", re.MULTILINE)
TRIED = {
    "ci": set(ci.STEPS),
    "expected": {""},
    "release": {"check", "build"},
}
"""The scripts, and the steps of each, which the tests beside this one run."""


@pytest.mark.parametrize("path", WORKFLOWS, ids=_name)
def test_every_shell_step_is_a_script_that_is_tried(path: Path) -> None:
    text = path.read_text()
    steps = [(found["module"], found["step"] or "") for found in STEP.finditer(text)]
    assert len(steps) == text.count("run:") > 0
    for module, step in steps:
        assert step in TRIED[module]


@pytest.mark.parametrize("path", WORKFLOWS, ids=_name)
def test_every_job_may_do_little_and_has_an_end(path: Path) -> None:
    text = path.read_text()
    assert "\npermissions: {}\n" in text
    assert "\nconcurrency:\n" in text
    jobs = re.split(r"^  (?=[a-z]+:$)", text.partition("\njobs:\n")[2], flags=re.MULTILINE)[1:]
    assert jobs
    for job in jobs:
        assert re.search(r"^    timeout-minutes: \d+$", job, re.MULTILINE), job
        assert "    permissions:\n      contents: read\n" in job or "id-token: write" in job


@pytest.mark.parametrize("path", WORKFLOWS, ids=_name)
def test_what_needs_the_project_installed_comes_after_a_step_that_installs_it(path: Path) -> None:
    for job in path.read_text().split("    steps:")[1:]:
        steps = re.findall(r"run: python -m scripts\.ci (\w+)", job)
        for step in {"test", "verdict"} & {*steps}:
            assert {"install", "prepare"} & {*steps[: steps.index(step)]}


def test_only_the_job_that_publishes_can_ask_for_an_identity_and_it_runs_nothing_else() -> None:
    assert [path.name for path in WORKFLOWS if "id-token" in path.read_text()] == ["release.yml"]
    release = Path(ROOT, ".github", "workflows", "release.yml").read_text()
    publish = release.partition("\n  publish:\n")[2]
    assert release.count("id-token: write") == publish.count("id-token: write") == 1
    assert "contents:" not in publish
    assert "run:" not in publish
    assert "checkout" not in publish


def test_the_matrix_has_every_python_that_the_project_promises() -> None:
    text = Path(ROOT, ".github", "workflows", "ci.yml").read_text()
    found = re.search(r"python: \[(.*)\]", text)
    assert found
    promised = re.findall(r"Python :: (3\.\d+)", Path(ROOT, "pyproject.toml").read_text())
    assert re.findall(r'"(3\.\d+)"', found[1]) == promised


def test_the_action_hands_its_inputs_to_the_script_in_the_environment_only() -> None:
    text = ACTION.read_text()
    for line in text.splitlines():
        if "run:" in line:
            assert "${{" not in line
            assert shlex.split(line)[-2:] in (
                ["$GITHUB_ACTION_PATH/scripts/action.py", "prepare"],
                ["$GITHUB_ACTION_PATH/scripts/action.py", "test"],
            )
    given = dict(re.findall(r"^        ([A-Z_]+): (.*)$", text, re.MULTILINE))
    assert given.keys() == action.INPUTS
    declared = re.findall(
        r"^  ([a-z]+):$", text.partition("inputs:")[2].partition("runs:")[0], re.M
    )
    assert {word for value in given.values() for word in re.findall(r"inputs\.(\w+)", value)} == {
        *declared
    }
