"""Programs to run with faults: Python scripts, and a static binary that makes raw system calls."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

# Where the tests can find the programs, however pytest was started.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3]))

from pytest_linkmode.faults.runner import FaultRunner
from pytest_linkmode.faults.support import unavailable

SOURCE = os.path.join(os.path.dirname(__file__), "calls.c")


@pytest.fixture(scope="session")
def faultable() -> None:
    """Skip where programs cannot be run with faults at all."""
    refused = unavailable()
    if refused is not None:
        pytest.skip(str(refused))


@pytest.fixture
def runner(faultable: None) -> Iterator[FaultRunner]:
    """Give a runner, and see that no failure of a sweep is left behind."""
    made = FaultRunner()
    yield made
    made.close()


@pytest.fixture(scope="session")
def calls(faultable: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give a static binary that makes one system call by its number and says what came of it."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (gcc, cc) to build a program that makes raw system calls")
    binary = str(tmp_path_factory.mktemp("bin") / "calls")
    built = subprocess.run(
        (compiler, "-static", "-O1", "-pthread", "-o", binary, SOURCE),
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        pytest.skip(f"{compiler} cannot link a static program: {built.stderr}")
    return binary


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    """Give a directory with a source file, `a`, of 100,000 bytes."""
    (tmp_path / "a").write_bytes(os.urandom(1000) * 100)
    return tmp_path
