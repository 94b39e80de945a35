"""The two steps of action.yml, for projects that call it: install the plugin, and run pytest.

The inputs arrive in environment variables, so that nothing that somebody writes into a workflow is
ever part of a program. Runs with any Python from 3.11 on, in the caller's directory.

    python scripts/action.py prepare     the filesystem tools (on Linux), and this checkout's plugin
    python scripts/action.py test        pytest, with FILESYSTEMS, TMP_ON, ARGUMENTS and REPORT
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if ROOT not in sys.path:
    sys.path.append(ROOT)


INPUTS = {"FILESYSTEMS", "TMP_ON", "ARGUMENTS", "REPORT"}
"""The environment variables in which the inputs of action.yml arrive."""


def prepare() -> int:
    """Install what makes filesystems, and the plugin into the Python that runs this."""
    if sys.platform == "linux":
        from scripts.bootstrap import ensure_tools

        ensure_tools()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    return subprocess.run([*pip, ROOT], check=False).returncode


def command(inputs: Mapping[str, str]) -> list[str]:
    """Return the command that the inputs ask for."""
    words = [sys.executable, "-m", "pytest"]
    if inputs.get("TMP_ON"):
        words.append(f"--linkmode-tmp={inputs['TMP_ON']}")
    else:
        words.append(f"--linkmode-fs={inputs.get('FILESYSTEMS') or 'auto'}")
    words.append(f"--linkmode-report={inputs['REPORT']}")
    return [*words, *filter(None, map(str.strip, inputs.get("ARGUMENTS", "").splitlines()))]


def main(arguments: Sequence[str]) -> int:
    """Do one step; return the exit status."""
    match arguments:
        case ["prepare"]:
            return prepare()
        case ["test"]:
            return subprocess.run(command(os.environ), check=False).returncode
        case _:
            print("usage: action.py prepare|test", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
