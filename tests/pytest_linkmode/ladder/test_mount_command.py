"""`linkmode mount`: stays until `linkmode clean`, and is written down before it is there."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

from pytest_linkmode import kernel, namespaces, privileges
from tests.patience import SECONDS

needs_root = pytest.mark.skipif(
    not kernel.may_mount() or privileges.in_user_namespace(),
    reason="mounting in the namespace of the host needs root",
)
HOST = """
import os, subprocess, sys
from pytest_linkmode import kernel
# A namespace that plays the host.
kernel.unshare(kernel.CLONE_NEWNS)
kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)

def linkmode(*arguments, status=0):
    command = [sys.executable, "-m", "pytest_linkmode", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr

def mounted(path):
    return kernel.mount_at(path)
"""


def on_host(tmp_path: pathlib.Path, code: str) -> str:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop(namespaces.VARIABLE, None)
    done = subprocess.run(
        (sys.executable, "-c", HOST + textwrap.dedent(code)),
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_root
@pytest.mark.parametrize("name", ["btrfs", "tmpfs"])
def test_it_stays_where_it_was_put_until_it_is_cleaned(tmp_path: pathlib.Path, name: str) -> None:
    said = on_host(
        tmp_path,
        f"""
        os.mkdir("there")
        os.chown("there", 54321, 54321)
        path = os.path.realpath("there")
        before = kernel.mounts()
        print(linkmode("mount", "{name}", "there", "--json"))
        (new,) = set(kernel.mounts()) - set(before)
        assert (new.target, new.fstype) == (path, "{name}"), new
        assert os.stat("there").st_uid == 54321
        with open("there/file", "w") as file:
            file.write("kept")
        assert "mounted on" in linkmode("mount", "{name}", "there", status=2)
        assert path in linkmode("clean", "--dry-run")
        assert mounted(path)
        linkmode("clean")
        assert kernel.mounts() == before
        assert os.listdir("there") == []
        """,
    )
    assert json.loads(said)["filesystem"] == name
    assert json.loads(said)["path"] == str(tmp_path / "there")


@needs_root
def test_what_is_in_a_directory_is_never_hidden(tmp_path: pathlib.Path) -> None:
    on_host(
        tmp_path,
        """
        os.makedirs("there/precious")
        assert "is not empty" in linkmode("mount", "tmpfs", "there", status=2)
        assert "is no directory" in linkmode("mount", "tmpfs", "nowhere", status=2)
        assert "a directory that is there already" in linkmode("mount", "disk", "there/precious",
            status=2)
        assert not mounted(os.path.realpath("there"))
        assert "nothing was left behind" in linkmode("clean")
        """,
    )


@needs_root
def test_what_is_in_use_is_kept_and_said_to_be(tmp_path: pathlib.Path) -> None:
    on_host(
        tmp_path,
        """
        os.mkdir("there")
        linkmode("mount", "tmpfs", "there")
        with open("there/file", "w") as file:
            assert "busy" in linkmode("clean", status=1)
            assert mounted(os.path.realpath("there"))
        linkmode("clean")
        assert not mounted(os.path.realpath("there"))
        """,
    )
