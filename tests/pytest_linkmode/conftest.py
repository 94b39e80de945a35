"""Runs of pytest inside the tests, each of them leaving the process as it was."""

from __future__ import annotations

import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator

import pytest

from pytest_linkmode import namespaces
from pytest_linkmode.filesystems import registry
from tests.patience import SECONDS

# The support modules are tests.pytest_linkmode.*. Last, so that an installed package wins.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[2]))

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def host_place() -> Iterator[None]:
    """Let a run inside this process use the host's namespace without deciding for those after it.

    A private place, once entered, is kept: there is no way back out of it.
    """
    variable = os.environ.get(namespaces.VARIABLE)
    known = namespaces.HOST in namespaces._places
    yield
    if namespaces.PRIVATE not in namespaces._places and not known:
        namespaces._places.pop(namespaces.HOST, None)
        os.environ.pop(namespaces.VARIABLE, None)
    if variable is not None:
        os.environ[namespaces.VARIABLE] = variable


@pytest.fixture
def inside(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, host_place: None) -> Run:
    """Run pytest in this process: for what mounts nothing."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: str) -> pytest.RunResult:
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)

    return run


@pytest.fixture
def own_tmp(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> Iterator[str]:
    """Give the processes of a test a temporary directory by which what they leave is known; what
    one of them leaves that is killed is undone afterwards.
    """
    path = tmp_path / "tmp"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    for variable in (namespaces.VARIABLE, "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    yield str(path)
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    registry.clean()


@pytest.fixture
def outside(pytester: pytest.Pytester, own_tmp: str) -> Run:
    """Run pytest in a process of its own: for what enters a namespace and mounts."""

    def run(*arguments: str) -> pytest.RunResult:
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=SECONDS)

    return run


@pytest.fixture
def mounting() -> None:
    """Skip a test where no private mount namespace can be had."""
    refusal = namespaces.try_private()
    if refusal is not None:
        pytest.skip(f"mounts nothing: {refusal}")
