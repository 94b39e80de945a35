"""The steps of continuous integration, of the action and of a release do what they say, here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_linkmode import namespaces
from pytest_linkmode.filesystems import FILESYSTEMS
from scripts import action, bootstrap, ci, release
from scripts.ci import System
from tests.patience import SECONDS

SUITE = """
def test_it(linkmode_layout, link_mode):
    assert linkmode_layout.name == "tmpfs"
"""


class Commands:
    """Notes the commands that a step runs; those whose last word is in `failing` fail."""

    def __init__(self, *failing: str) -> None:
        self.failing = failing
        self.ran: list[Sequence[str]] = []

    def __call__(self, command: Sequence[str]) -> int:
        self.ran.append(command)
        return int(command[-1] in self.failing)


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small suite, and steps of CI that run it and nothing else."""
    refusal = namespaces.try_private()
    if refusal is not None:
        pytest.skip(f"mounts nothing: {refusal}")
    for name in (namespaces.VARIABLE, "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "suite" / "test_it.py"
    path.parent.mkdir()
    path.write_text(SUITE)
    (path.parent / "pytest.ini").write_text("[pytest]\n")
    arguments = (str(path), "--linkmode-layout=tmpfs", "-p", "no:cacheprovider")
    monkeypatch.setitem(ci.SYSTEMS, sys.platform, System((), {"own": arguments}))
    monkeypatch.setenv("REPORTS", str(tmp_path / "reports"))
    monkeypatch.setenv("REPORT_NAME", "here")
    monkeypatch.setattr(ci, "WORKERS", 0)
    return path


def test_every_job_leaves_a_report_and_the_last_holds_all_against_the_list(
    suite: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    wanted = tmp_path / "expected.txt"
    wanted.write_text("cell linux tmpfs copy\n")
    monkeypatch.setattr(ci, "EXPECTED", str(wanted))
    assert ci.main(["test"]) == 0
    assert os.listdir(tmp_path / "reports") == ["here-own.json"]
    assert ci.main(["verdict"]) == 0
    assert "all.json" in os.listdir(tmp_path / "reports")
    assert "cell linux tmpfs copy" in (tmp_path / "reports" / "all.txt").read_text()
    wanted.write_text("cell linux btrfs clone\n")
    assert ci.main(["verdict"]) != 0
    assert "linux btrfs clone: expected a test that passes there" in capfd.readouterr().err


def test_a_suite_that_fails_makes_its_job_fail_and_the_others_run_all_the_same(
    suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suites = {"first": ("a",), "second": ("b",)}
    monkeypatch.setitem(ci.SYSTEMS, sys.platform, System((), suites))
    commands = Commands("a")
    assert ci.suites(commands) == 1
    assert [command[-1] for command in commands.ran] == ["a", "b"]


def test_without_a_report_there_is_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPORTS", str(tmp_path))
    assert ci.main(["verdict"]) == 1


def test_what_linux_is_tested_on_are_filesystems_of_the_table() -> None:
    assert {*ci.SYSTEMS["linux"].filesystems} <= FILESYSTEMS.keys()
    assert {"btrfs", "xfs"} <= {*ci.SYSTEMS["linux"].filesystems}


def test_the_tests_that_a_system_runs_are_there_and_the_conformance_suite_is_among_them() -> None:
    for system in ci.SYSTEMS.values():
        paths = [word for words in system.suites.values() for word in words if "tests" in word]
        assert paths
        assert all(os.path.exists(os.path.join(ci.ROOT, path)) for path in paths)
        assert f"--linkmode-fs={','.join(system.filesystems)}" in system.suites["conformance"]


def test_preparing_installs_the_tools_the_project_and_the_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(bootstrap, "ensure_tools", asked.append)
    monkeypatch.setattr(ci, "let_in_ordinary_users", lambda _run: 0)
    commands = Commands()
    assert ci.prepare(commands) == 0
    assert asked == [("tests",)]
    project, groups = commands.ran
    assert project[-2:] == ["--editable", ci.ROOT]
    assert any(word.startswith("hypothesis") for word in groups)


@pytest.mark.parametrize(
    ("prefix", "there", "expected"),
    [
        ((), True, ["sysctl", "-w", "kernel.apparmor_restrict_unprivileged_userns=0"]),
        (("sudo", "-n"), True, ["sudo", "-n", "sysctl", "-w"]),
        (("sudo", "-n"), False, None),
        (None, True, None),
    ],
)
def test_namespaces_of_ordinary_users_are_allowed_where_ubuntu_denies_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefix: tuple[str, ...] | None,
    expected: list[str] | None,
    *,
    there: bool,
) -> None:
    switch = tmp_path / "apparmor_restrict_unprivileged_userns"
    if there:
        switch.write_text("1")
    monkeypatch.setattr(bootstrap, "elevation", lambda: prefix)
    commands = Commands()
    assert ci.let_in_ordinary_users(commands, str(switch)) == 0
    if expected is None:
        assert commands.ran == []
    else:
        assert commands.ran[0][: len(expected)] == expected


def test_a_machine_that_cannot_be_prepared_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "ensure_tools", lambda _groups: None)
    monkeypatch.setattr(ci, "let_in_ordinary_users", lambda _run: 3)
    commands = Commands()
    assert ci.prepare(commands) == 3
    assert commands.ran == []


def test_the_checks_are_environments_of_tox() -> None:
    config = Path(ci.ROOT, "tox.ini").read_text()
    commands = Commands()
    assert ci.checks(commands) == 0
    assert commands.ran[-1][-1].split(",") == [*ci.CHECKS]
    for name in ci.CHECKS:
        assert f"[testenv:{name}]" in config


def test_the_wheel_is_tested_by_the_environment_of_tox_that_holds_the_tests_to_it() -> None:
    commands = Commands()
    assert ci.wheel(commands) == 0
    minor = sys.version_info.minor
    assert commands.ran[-1][-6:] == ["tox", "run", "-e", f"py3{minor}", "--", f"-n{ci.WORKERS}"]
    general = (
        Path(ci.ROOT, "tox.ini").read_text().partition("[testenv]")[2].partition("[testenv")[0]
    )
    assert "package = wheel" in general
    assert "LINKMODE_TESTED = {env_dir}" in general


def test_a_run_of_the_tests_that_would_test_something_else_ends_at_once() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", __file__],
        cwd=ci.ROOT,
        env={**os.environ, "LINKMODE_TESTED": os.path.dirname(__file__)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert "is not what is tested" in ran.stderr


def test_a_word_that_is_no_step_is_an_error() -> None:
    assert ci.main(["tests"]) == ci.main([]) == 2


def test_the_action_runs_pytest_with_its_inputs_and_leaves_a_report(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report of a job.json"
    monkeypatch.chdir(suite.parent)
    monkeypatch.setenv("FILESYSTEMS", "")
    monkeypatch.setenv("TMP_ON", "tmpfs")
    monkeypatch.setenv("REPORT", str(report))
    monkeypatch.setenv("ARGUMENTS", "--linkmode-layout=tmpfs\n\n  -k test_it or nothing  \n-q\n")
    assert action.main(["test"]) == 0
    assert json.loads(report.read_text())["runs"][0]["outcomes"] == {"passed": 4}


def test_without_tmp_the_action_asks_for_filesystems() -> None:
    words = action.command({"FILESYSTEMS": "btrfs,xfs", "TMP_ON": "", "REPORT": "r.json"})
    assert words[1:] == ["-m", "pytest", "--linkmode-fs=btrfs,xfs", "--linkmode-report=r.json"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that is ready for a release."""
    (tmp_path / "changelog.d").mkdir()
    (tmp_path / "changelog.d" / "README.md").write_text("x")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.0] - 2026-11-21\n")
    return tmp_path


def test_a_release_that_is_ready_meets_no_objection(checkout: Path) -> None:
    assert release.objections("v1.2.0", str(checkout)) == []


def test_a_release_needs_its_tag_its_section_and_no_fragment_left(checkout: Path) -> None:
    (checkout / "CHANGELOG.md").write_text("# Changelog\n\n## [1.1.0] - 2026-11-21\n")
    (checkout / "changelog.d" / "x.fixed.md").write_text("x")
    tag, section, fragments = release.objections("v1.2.1", str(checkout))
    assert "v1.2.0" in tag
    assert "1.2.0" in section
    assert "x.fixed.md" in fragments


def test_a_release_tests_the_very_wheel_that_it_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Sequence[str]] = []

    def run(command: Sequence[str]) -> int:
        ran.append(command)
        if command[-1] == "build":
            (tmp_path / "dist").mkdir()
            (tmp_path / "dist" / "thing-1-py3-none-any.whl").write_text("")
            (tmp_path / "dist" / "thing-1.tar.gz").write_text("")
        return 0

    monkeypatch.setenv("DIST", str(tmp_path / "dist"))
    monkeypatch.setattr(ci, "run", run)
    assert release.main(["build"]) == 0
    assert ran[-1][: len(ci.as_root())] == list(ci.as_root())
    assert ran[-1][-4:] == [
        *("--installpkg", str(tmp_path / "dist" / "thing-1-py3-none-any.whl")),
        *("--", f"-n{ci.WORKERS}"),
    ]
