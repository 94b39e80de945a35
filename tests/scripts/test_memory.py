"""Directories in memory: gone with their process, or when the next one begins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from scripts import memory
from scripts.bootstrap import ROOT

KILLED = """
import os, signal, sys
from scripts.memory import in_memory
with in_memory("linkmode-", above=sys.argv[1]) as place:
    os.mkdir(place + "/inside")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_directory_is_gone_when_its_user_is_done(tmp_path: Path) -> None:
    with memory.in_memory("linkmode-", above=str(tmp_path)) as place:
        (Path(place) / "file").write_text("x")
        assert os.listdir(tmp_path) == [os.path.basename(place)]
    assert not os.listdir(tmp_path)


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, check=False)
    assert run.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    (tmp_path / "another").mkdir()
    with memory.in_memory("linkmode-", above=str(tmp_path)) as mine:
        assert left.exists(), "whoever made it may be about to lock it"
        for place in (left, Path(mine)):
            os.utime(place, (0, 0))
        with memory.in_memory("linkmode-", above=str(tmp_path)) as other:
            names = {os.path.basename(mine), os.path.basename(other), "another"}
            assert set(os.listdir(tmp_path)) == names
    assert os.listdir(tmp_path) == ["another"]
