"""The plugin on Windows: everything that needs no Linux, in a run of its own and on workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import SECONDS

PROJECT = """
import os, shutil, sys
import pytest
from linker import LinkMode, link_tree
from linker.platforms import current
from pytest_linkmode import Fault, Kill, assert_linked, evidence
from pytest_linkmode.errors import Unavailable

LINUX = ("fcntl", "pwd", "resource", "termios", "grp")

def test_every_mode_in_every_layout(linkmode_layout, link_mode, linkmode_tree):
    linkmode_tree(linkmode_layout.source)
    link_tree(linkmode_layout.source, linkmode_layout.target, mode=link_mode)
    expected = linkmode_layout.expect(link_mode)
    assert_linked(linkmode_layout.source, linkmode_layout.target, expected)

def test_a_filesystem_says_what_it_can(linkmode_fs):
    assert "hardlink" in linkmode_fs.can
    first, second = linkmode_fs.path / "a", linkmode_fs.path / "b"
    first.write_bytes(b"x" * 5000)
    os.link(first, second)
    assert evidence(first, second).mode is LinkMode.HARDLINK
    shutil.copyfile(first, linkmode_fs.path / "c")
    assert evidence(first, linkmode_fs.path / "c").allows(LinkMode.COPY)

def test_a_function_meets_a_fault(linkmode_faults, tmp_path):
    run = linkmode_faults.run(
        lambda: os.mkdir(tmp_path / "made"), faults=[Fault("mkdir", "ENOSPC")]
    )
    assert isinstance(run.error, OSError) and not (tmp_path / "made").exists()
    run = linkmode_faults.run(lambda: os.mkdir(tmp_path / "made"))
    assert run.counts["mkdir"] == 1 and run.error is None

def test_two_linkers_are_explored(linkmode_interleave, tmp_path):
    target = tmp_path / "target"
    target.mkdir()

    def actor(name):
        (tmp_path / name / "ns").mkdir(parents=True)
        (tmp_path / name / "ns" / f"{name}.py").write_text(name)
        platform = linkmode_interleave.platform(current())
        return lambda: link_tree(tmp_path / name, target, mode=LinkMode.COPY, platform=platform)

    def check(run):
        assert sorted(os.listdir(target / "ns")) == ["a.py", "b.py"]

    actors = [actor("a"), actor("b")]
    explored = linkmode_interleave.explore(actors, target=target, check=check, budget=10)
    assert explored.counts.ran == 10 and not explored.unseen

def test_no_module_of_linux_is_there():
    if sys.platform == "win32":
        assert not [name for name in LINUX if name in sys.modules]
        assert not [name for name in sys.modules if name.endswith(("platforms.linux", ".loop"))]

@pytest.mark.skipif(sys.platform != "win32", reason="on Linux they can")
def test_a_program_cannot_have_faults_here_and_is_told_why(linkmode_faults):
    with pytest.raises(Unavailable, match="seccomp"):
        linkmode_faults.run([sys.executable, "-c", ""])

@pytest.mark.skipif(sys.platform != "win32", reason="on Linux they can")
def test_programs_cannot_be_scheduled_here_and_the_reason_is_told(linkmode_interleave, tmp_path):
    with pytest.raises(Unavailable, match="seccomp"):
        linkmode_interleave.programs([["a"], ["b"]], target=tmp_path, check=lambda run: None)
"""


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_project.py").write_text(PROJECT)
    drive = os.environ.get("LINKMODE_DIR_DRIVE")
    layout = "disk,disk:drive" if drive else "disk"
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(f"--linkmode-layout={layout}", f"--rootdir={directory}"),
            *arguments,
            str(directory),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
        timeout=SECONDS,
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_project_is_tested_and_its_report_says_on_what(tmp_path: Path, workers: int) -> None:
    report = tmp_path / "report.json"
    extra = ("-n", str(workers)) if workers else ()
    done = run(tmp_path, f"--linkmode-report={report}", *extra)
    assert done.returncode == 0, done.stdout
    system = "windows" if sys.platform == "win32" else "linux"
    assert f"edges of reference on {system}" in done.stdout
    assert "failed" not in done.stdout
    assert json.loads(report.read_text())


def test_what_cannot_be_had_is_refused_before_anything_runs(tmp_path: Path) -> None:
    other = "apfs"
    done = run(tmp_path, f"--linkmode-fs={other}")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    assert "apfs: made on macOS, and this is Windows" in done.stdout
    assert "run it on macOS" in done.stdout


def linkmode_run(*arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    return linkmode("run", *arguments, path=path)


def linkmode(*arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "pytest_linkmode", *arguments),
        env={**os.environ, "PATH": os.pathsep.join((*path.split(), os.environ["PATH"]))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        timeout=SECONDS,
    )


def test_a_command_has_directories_of_its_own_and_they_are_gone_afterwards() -> None:
    code = (
        "import os, sys; names = ('LINKMODE_DIR_DISK', 'TMPDIR', 'TEMP', 'TMP', 'CACHE');"
        "assert len({os.environ[name] for name in names}) == 3;"
        "print(*(os.listdir(os.environ[name]) for name in names));"
        "print(os.environ['CACHE']); sys.exit(7)"
    )
    flags = ("--fs=disk", "--tmp=disk", "--env=CACHE=disk")
    done = linkmode_run(*flags, "--", sys.executable, "-c", code)
    assert done.returncode == 7, done.stderr
    empty, cache = done.stdout.splitlines()
    assert empty == "[] [] [] [] []"
    assert not os.path.exists(cache)


@pytest.mark.parametrize("suffix", [".cmd", ".bat"])
def test_a_command_is_found_that_the_shell_would_find(tmp_path: Path, suffix: str) -> None:
    script = f"@echo {suffix} %1 %LINKMODE_DIR_DISK%\r\n@exit /b 7\r\n"
    (tmp_path / f"build{suffix}").write_text(script, encoding="ascii", newline="")
    done = linkmode_run("--fs=disk", "--", "build", "it", path=str(tmp_path))
    assert done.returncode == 7, done.stderr
    found, argument, directory = done.stdout.split()
    assert (found, argument) == (suffix, "it")
    assert "linkmode-disk" in directory


def test_doctor_advises_what_can_be_done_on_windows() -> None:
    told = linkmode("doctor", "--json")
    assert told.returncode == 0, told.stderr
    findings = json.loads(told.stdout)["findings"]
    mends = {mend for finding in findings for mend in finding["mends"]}
    assert "run it on Linux, as in WSL 2 (wsl --install) or in CI" in mends
    assert not [mend for mend in mends if "sudo" in mend or "apt-get" in mend or "mkfs" in mend]
    by_name = {finding["name"]: finding for finding in findings}
    assert by_name["btrfs"]["checked"] == [
        "--linkmode-dir=btrfs=PATH: not given",
        "btrfs: made on Linux, and this is Windows",
    ]
    assert any("LINKMODE_DIR_REFS=PATH" in mend for mend in by_name["refs"]["mends"])
    words = linkmode("doctor").stdout
    assert len(words.partition("What would add more")[0].splitlines()) < 60


def test_how_a_command_ended_is_how_we_end() -> None:
    crashed = 0xC0000005  # STATUS_ACCESS_VIOLATION
    code = f"import os; os._exit({crashed} - 2**32)"
    assert linkmode_run("--", sys.executable, "-c", code).returncode == crashed
    done = linkmode_run("--", "no-such-command")
    assert (done.returncode, done.stderr.count("not found")) == (127, 1)
    done = linkmode_run("--fault=hardlink:EMLINK", "--", sys.executable, "-c", "")
    assert (done.returncode, "seccomp" in done.stderr) == (125, True), done.stderr
