"""The wheel of this checkout, built once, and one environment for all examples."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_linkmode import kernel
from pytest_linkmode.processes import which
from scripts.building import build_wheel
from tests.examples.environments import EXAMPLES, Environment, requirements


@pytest.fixture(scope="session")
def environment_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Environment]:
    """Return what makes, once for the same requirements, the environment of an example."""
    directory = tmp_path_factory.mktemp("examples")
    wheel = Path(build_wheel(str(directory / "dist")))
    made: dict[tuple[str, ...], Environment] = {}

    def make(name: str) -> Environment:
        needed = tuple(sorted(requirements(EXAMPLES / name)))
        if needed not in made:
            made[needed] = Environment.make(directory / f"venv-{len(made)}", wheel, needed)
        return made[needed]

    return make


@pytest.fixture
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a copy of the example that the test is about, outside of the checkout."""
    copy = tmp_path / request.param
    leave_out = shutil.ignore_patterns("__pycache__", ".*_cache")
    return Path(shutil.copytree(EXAMPLES / request.param, copy, ignore=leave_out))


@pytest.fixture
def mounting() -> None:
    """Skip a test where this process cannot mount what the examples ask for by name."""
    missing = [tool for tool in ("mkfs.btrfs", "mke2fs", "mount") if which(tool) is None]
    if missing or not kernel.may_mount():
        pytest.skip(f"mounts no btrfs: {', '.join(missing) or 'no CAP_SYS_ADMIN'}")
