"""Builds the wheel of this checkout: what strangers get, and what examples are run with.

Needs hatchling, which is in the dependency group `test`, and no network.
"""

from __future__ import annotations

import os
import subprocess
import sys

from scripts.bootstrap import ROOT


def build_wheel(directory: str) -> str:
    """Build the wheel into `directory`, which is made and holds no other; return its path."""
    subprocess.run(
        [
            *(sys.executable, "-m", "hatchling", "build"),
            *("--target", "wheel", "--directory", directory),
        ],
        cwd=ROOT,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=120,
    )
    return wheel_in(directory)


def wheel_in(directory: str) -> str:
    """Return the one wheel that lies in a directory."""
    (name,) = (name for name in os.listdir(directory) if name.endswith(".whl"))
    return os.path.join(directory, name)
