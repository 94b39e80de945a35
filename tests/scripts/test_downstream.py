"""Suites of other people: how they are pinned, run, counted and compared."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from scripts import downstream, wheels
from scripts.bootstrap import ROOT
from scripts.downstream import DownstreamError, Suite
from scripts.wheels import Pin

PIN = Pin("thing", "1.0", "0" * 64)


def test_the_recipes_show_every_project_that_is_pinned_and_no_other() -> None:
    text = Path(ROOT, downstream.PAGE).read_text()
    for pin in wheels.read_pins(path=downstream.SUITES):
        assert text.count(f"| {pin.project} {pin.version} |") == 1
        assert f":all: {pin.project}=={pin.version} " in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(wheels.read_pins(path=downstream.SUITES))
    for row in rows[2:]:
        _, _, plain, *there, differing, _ = row.split(" |")
        assert "passed" in plain
        assert {*there} == {plain}
        assert differing.strip() == "none"


def test_everything_that_a_suite_runs_with_is_pinned_as_well() -> None:
    needed = {pin.project: pin.version for pin in wheels.read_pins(path=downstream.NEEDS)}
    for pin in wheels.read_pins(path=downstream.SUITES):
        assert needed[pin.project] == pin.version
    assert "pytest" in needed


def test_a_test_that_ends_otherwise_is_named_and_makes_it_red() -> None:
    suite = Suite(PIN, {"a": "passed", "b": "skipped"}, {"btrfs": {"a": "passed", "b": "passed"}})
    assert suite.differing("btrfs") == ["b"]
    assert not suite.ok
    row = "| thing 1.0 | 1 passed, 1 skipped | 2 passed | b |"
    assert downstream.table([suite]).splitlines()[-1] == row


def test_a_test_that_is_missing_there_is_a_difference() -> None:
    assert Suite(PIN, {"a": "passed", "b": "passed"}, {"xfs": {"a": "passed"}}).differing("xfs")


def test_a_suite_in_which_nothing_ran_is_not_green() -> None:
    assert not Suite(PIN, {}, {"xfs": {}}).ok


def _project(tmp_path: Path, code: str) -> str:
    tests = tmp_path / "project" / "tests"
    tests.mkdir(parents=True)
    (tests / "test_thing.py").write_text(code)
    return str(tests.parent)


def test_outcomes_are_read_test_by_test(tmp_path: Path) -> None:
    code = (
        "import pytest\n"
        "def test_a(): pass\n"
        "def test_b(): pytest.skip('no')\n"
        "def test_c(): assert 0\n"
        "@pytest.fixture\n"
        "def broken(): raise RuntimeError\n"
        "def test_d(broken): pass\n"
    )
    programs = os.path.dirname(sys.executable)
    found = downstream.run_suite(programs, _project(tmp_path, code), str(tmp_path / "results"))
    assert {test.rpartition("_")[2]: ended for test, ended in found.items()} == {
        "a": "passed",
        "b": "skipped",
        "c": "failed",
        "d": "error",
    }


def test_a_suite_that_did_not_run_is_an_error_and_no_result(tmp_path: Path) -> None:
    programs = os.path.dirname(sys.executable)
    project = _project(tmp_path, "raise SystemExit(3)\n")
    with pytest.raises(DownstreamError, match="pytest ended with"):
        downstream.run_suite(programs, project, str(tmp_path / "results"))
