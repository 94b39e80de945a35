"""Environments as a stranger would have them: the built wheel, and what a project says it needs.

Nothing is downloaded. The wheel is built from the checkout once a session and really installed;
what the project and the wheel require is taken, to the last requirement of a requirement, from
what is installed here. What a project does not name, it does not have.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.patience import SECONDS

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
PROJECT = "pytest-linkmode"


def requirements(project: Path) -> list[str]:
    """Return what a project requires to be tested: its dependencies and its group `test`."""
    table = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    return [*table["project"].get("dependencies", ()), *table["dependency-groups"]["test"]]


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the wheel and some requirements in it."""

    path: Path

    @classmethod
    def make(cls, path: Path, wheel: Path, needed: Iterable[str]) -> Environment:
        """Make one at `path`."""
        venv.create(path, symlinks=True)
        made = cls(path)
        uv = shutil.which("uv", path=os.path.dirname(sys.executable)) or "uv"
        subprocess.run(
            [uv, "pip", "install", "--offline", "--no-deps", "--python", made.python, wheel],
            env={**os.environ, "UV_NO_CONFIG": "1"},
            check=True,
            capture_output=True,
            timeout=SECONDS,
        )
        (installed,) = metadata.distributions(name=PROJECT, path=[str(made.site)])
        waiting = [*needed, *(installed.requires or ())]
        seen = {canonicalize_name(PROJECT)}
        while waiting:
            asked = Requirement(waiting.pop())
            name = canonicalize_name(asked.name)
            if name in seen or not (asked.marker is None or asked.marker.evaluate({"extra": ""})):
                continue
            seen.add(name)
            waiting += made._borrow(metadata.distribution(name))
        return made

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.path / "bin" / "python"

    @property
    def site(self) -> Path:
        """Where its packages lie."""
        (site,) = self.path.glob("lib/python*/site-packages")
        return site

    def _borrow(self, distribution: metadata.Distribution) -> Sequence[str]:
        """Let a distribution of this environment be one of that, too; return what it requires."""
        for file in distribution.files or ():
            top = file.parts[0]
            if top != "..":
                there, here = distribution.locate_file(top), self.site / top
            elif file.parts[-2] == "bin":
                there, here = distribution.locate_file(file), self.path / "bin" / file.name
            else:
                continue
            if not os.path.lexists(here):
                here.symlink_to(os.path.abspath(str(there)))
        return distribution.requires or ()

    def run(
        self, *command: str | Path, cwd: Path, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command whose programs are those of the environment, in a directory."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST_", "PYTHON", "LINKMODE_", "UV_", "COV_"))
        }
        return subprocess.run(
            command,
            cwd=cwd,
            env={
                **inherited,
                "PATH": f"{self.path / 'bin'}{os.pathsep}{os.environ['PATH']}",
                "VIRTUAL_ENV": str(self.path),
                "PYTHONDONTWRITEBYTECODE": "1",
                "NO_COLOR": "1",
                **variables,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
