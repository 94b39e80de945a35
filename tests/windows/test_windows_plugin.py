"""The plugin on Windows: everything that needs no Linux, in a run of its own and on workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = """
import os, shutil, sys
import pytest
from linker import LinkMode, link_tree
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

def test_no_module_of_linux_is_there():
    if sys.platform == "win32":
        assert not [name for name in LINUX if name in sys.modules]
        assert not [name for name in sys.modules if name.endswith(("platforms.linux", ".loop"))]

@pytest.mark.skipif(sys.platform != "win32", reason="on Linux they can")
def test_a_program_cannot_have_faults_here_and_is_told_why(linkmode_faults):
    with pytest.raises(Unavailable, match="seccomp"):
        linkmode_faults.run([sys.executable, "-c", ""])
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
        timeout=240,
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
    assert "works on darwin" in done.stdout
