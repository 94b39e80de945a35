"""No privilege is needed: everything works for an ordinary user as well."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

import pytest_linkmode
from tests.patience import SECONDS

NOBODY = 65534
SCRIPT = """
import os, sys
sys.path.insert(0, os.path.join(sys.argv[1], "lib"))
from pytest_linkmode.faults import FaultRunner, Kill
assert os.getuid() != 0
os.chdir(os.path.join(sys.argv[1], "work"))
runner = FaultRunner()
LINK = "import os; os.link('a', 'b')"
program = [sys.executable, "-I", "-S", "-c", LINK]
open("a", "w").close()

for keywords in ({"log": ()}, {}, {"results": True}, {"serial": True}):
    run = runner.run(program, faults=["hardlink:EMLINK"], **keywords)
    assert "Errno 31" in run.stderr, run
    assert not os.path.exists("b")
for kill in (Kill("hardlink"), Kill("hardlink", when="after")):
    assert runner.run(program, faults=[kill]).returncode == -9
    assert os.path.exists("b") == (kill.when == "after")
os.unlink("b")

paths = runner.run(program, faults=["hardlink:EMLINK:path=*/b"])
assert "Errno 31" in paths.stderr
HIDDEN = "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0);"  # PR_SET_DUMPABLE
program[-1] = HIDDEN + LINK
hidden = runner.run(program, faults=["hardlink:EMLINK:path=*/b"])
assert any("not dumpable" in escape for escape in hidden.escapes), hidden
unread = runner.run(program, faults=["hardlink:EMLINK:nth=1"], log=())
assert "Errno 31" in unread.stderr
assert [call.paths for call in unread.calls] == [()]
print("all of it")
"""


def an_interpreter() -> str | None:
    """Return a Python that an ordinary user can execute, 3.11 or later."""
    candidates = [sys.executable, *(f"/usr/bin/python3.{minor}" for minor in range(11, 16))]
    for candidate in candidates:
        try:
            subprocess.run(
                [candidate, "-c", "import ctypes"],
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    return None


def test_all_of_it_works_without_privileges(faultable: None, tmp_path: pathlib.Path) -> None:
    if os.geteuid() != 0:
        subprocess.run(
            [sys.executable, "-c", SCRIPT, prepared(tmp_path)], check=True, capture_output=True
        )
        return
    python = an_interpreter()
    if python is None:
        pytest.skip("no Python >= 3.11 that another user may execute")
    # pytest's own directories are closed to others.
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        place = prepared(pathlib.Path(directory))
        os.chown(os.path.join(place, "work"), NOBODY, NOBODY)
        done = subprocess.run(
            [python, "-B", "-c", SCRIPT, place],
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert done.stdout == "all of it\n", done.stderr


def prepared(place: pathlib.Path) -> str:
    """Copy the package to where everybody can read it, and make a directory to work in."""
    package = os.path.dirname(pytest_linkmode.__file__)
    (place / "lib").mkdir()
    shutil.copytree(package, place / "lib" / "pytest_linkmode")
    (place / "work").mkdir()
    return str(place)
