"""What tests of filesystems share: one place, one workshop, and scripts that may be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from pytest_linkmode.config import Settings
from pytest_linkmode.filesystems import registry
from pytest_linkmode.layouts import Workshop
from pytest_linkmode.namespaces import VARIABLE, Place, find_place

PRELUDE = r"""
import ctypes, dataclasses, json, os, pwd, signal, stat, sys, tempfile, threading, time
import traceback, warnings
from pytest_linkmode import kernel, namespaces, processes
from pytest_linkmode.capabilities import probe
from pytest_linkmode.config import Request, Settings
from pytest_linkmode.errors import LinkmodeError, Unavailable, UsageError
from pytest_linkmode.filesystems import FILESYSTEMS, Filesystem, btrfs, directory, loop, mounts
from pytest_linkmode.filesystems import fuse, keeper, opened, overlay, registry, sudo, survey
from pytest_linkmode.filesystems import templates
from pytest_linkmode.filesystems import tmpfs
from pytest_linkmode.layouts import Workshop, parse, select
from pytest_linkmode.filesystems import overlay, sudo, sudo_helper
from pytest_linkmode.guests import uml

def own_host():
    '''Take a mount namespace that plays the host for the rest of this script.'''
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def in_child(function, *arguments):
    '''Run a function in a forked child to its end; how it ended.'''
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function(*arguments)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def become_nobody():
    '''Be an ordinary user: root gives up every privilege.'''
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)

def show(value):
    print(json.dumps(value))
"""

SERVER = r"""
# A child for each script: this process has imported everything already.
for line in sys.stdin:
    order = json.loads(line)
    def obey():
        os.chdir(order["tmp"])
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        os.environ["TMPDIR"] = order["tmp"]
        arguments = order["arguments"]
        exec(compile(order["code"], "script", "exec"), {**globals(), "arguments": arguments})
    print(in_child(obey), flush=True)
"""


@pytest.fixture(scope="session")
def place() -> Place:
    """The place of this run."""
    return find_place()


@pytest.fixture(scope="session")
def workshop(place: Place) -> Iterator[Workshop]:
    """Filesystems that all tests of a worker share."""
    made = Workshop(place, Settings())
    yield made
    made.close()


@pytest.fixture(scope="session")
def script_server() -> Iterator[subprocess.Popen[str]]:
    """A process away from our place that runs scripts, each in a child."""
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    with subprocess.Popen(
        (sys.executable, "-W", "error", "-c", PRELUDE + SERVER),
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        yield server


@pytest.fixture
def script(script_server: subprocess.Popen[str], tmp_path: Path) -> Callable[..., Any]:
    """Run a Python script in a process of its own, outside of our place; what it showed.

    Its temporary directory is `tmp`, else that of the test. It must end with `status`.
    """

    def run(code: str, *arguments: str, status: int = 0, tmp: Path = tmp_path) -> Any:
        output = {name: str(tmp_path / f".{name}") for name in ("stdout", "stderr")}
        order = {"code": textwrap.dedent(code), "arguments": arguments, "tmp": str(tmp), **output}
        ended = int(_ask(script_server.stdin, script_server.stdout, json.dumps(order)))
        said = {name: Path(path).read_text() for name, path in output.items()}
        assert ended == status, f"ended with {ended}:\n{said['stderr']}"
        return json.loads(said["stdout"]) if said["stdout"] else None

    return run


def _ask(questions: IO[str] | None, answers: IO[str] | None, question: str) -> str:
    assert questions is not None
    assert answers is not None
    questions.write(question + "\n")
    questions.flush()
    return answers.readline()


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a registry of its own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(registry, "_ledger", None)
    return Path(registry.directory())


@pytest.fixture
def everybodys_tmp() -> Iterator[Path]:
    """A temporary directory that an ordinary user may use too, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o1777)
        yield Path(path)


@pytest.fixture
def loops_of() -> Callable[[str | Path], list[str]]:
    """Return the loop devices whose images lie in a directory, whoever has them mounted."""

    def find(directory: str | Path) -> list[str]:
        found = []
        for entry in Path("/sys/block").glob("loop*/loop/backing_file"):
            try:
                image = entry.read_text().rstrip("\n")
            except OSError:  # it was freed while we looked
                continue
            if image.startswith(f"{directory}/"):
                found.append(entry.parts[3])
        return found

    return find
