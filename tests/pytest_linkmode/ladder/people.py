"""An ordinary user of the machine, for the time of a test, of whom the machine knows nothing.

Root takes a mount namespace and edits the files that say who there is *in that one*: passwd,
group, sudoers. Nothing of the host's is changed, and nothing has to be put back.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest_linkmode
from tests.patience import SECONDS

NAME = "linkmode-tester"
UID = 40_000 + os.getpid() % 20_000
"""Another in each worker: what one leaves is not what another looks for."""

SETTING = r"""
import json, os, sys
order = json.loads(sys.argv[1])
sys.path.insert(0, order["site"])
from pytest_linkmode import kernel

def bind(path, onto):
    kernel.mount(path, onto, flags=kernel.MS_BIND | kernel.MS_REC)

def hidden_above(path):
    parent = os.path.dirname(path)
    ends = [end for end in range(2, len(parent) + 1) if parent[end:end + 1] in ("", "/")]
    there = [parent[:end] for end in ends if os.path.isdir(parent[:end])]
    return next((each for each in there if not os.stat(each).st_mode & 1), None)

def reveal(paths):
    "Show these, and nothing else, of a directory that others may not enter, as /root is."
    held = {path: os.open(path, os.O_PATH) for path in paths}
    for path in sorted(held):
        hides = hidden_above(path)
        if hides:
            kernel.mount("revealed", hides, "tmpfs", data="mode=0755")
        if not os.path.exists(path):
            os.makedirs(path)
            bind(f"/proc/self/fd/{held[path]}", path)

def edited(path, text):
    copy = os.path.join(order["etc"], os.path.basename(path))
    with open(copy, "w") as file:
        file.write(open(path).read() + text)
    os.chmod(copy, 0o644)
    bind(copy, path)

kernel.unshare(kernel.CLONE_NEWNS)
kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
reveal(order["needed"])
name, uid = order["name"], order["uid"]
edited("/etc/passwd", f"{name}:*:{uid}:{uid}::{order['home']}:/bin/sh\n")
edited("/etc/group", f"{name}:*:{uid}:\n")
for path, text in order["edits"].items():
    if os.path.isdir(path):
        copy = os.path.join(order["etc"], "dropin")
        os.mkdir(copy, 0o755)
        rule = os.path.join(copy, "linkmode")
        with open(rule, "w") as file:
            file.write(text)
        os.chmod(rule, 0o440)
        bind(copy, path)
    else:
        edited(path, text)
os.chdir(order["home"])
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
os.execvpe(order["command"][0], order["command"], order["environment"])
"""


@dataclass(frozen=True)
class Person:
    """Somebody with a home, a Python, and no privileges but those that `edits` give."""

    base: pathlib.Path
    edits: Mapping[str, str] = field(default_factory=dict)

    @property
    def home(self) -> pathlib.Path:
        """Where their files are: a directory on the disk, which the test sees too."""
        return self.base / "home"

    @property
    def python(self) -> str:
        """The Python of this run, which an ordinary user is made able to reach."""
        return sys.executable

    def write(self, name: str, text: str) -> pathlib.Path:
        """Put a file into their home."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        for made in (path, path.parent):
            os.chown(made, UID, UID)
        return path

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a program as this user."""
        site = os.path.dirname(os.path.dirname(pytest_linkmode.__file__))
        etc = self.base / f"etc-{os.urandom(4).hex()}"
        etc.mkdir()
        order = {
            "site": site,
            "needed": sorted({sys.prefix, sys.base_prefix, site}),
            "etc": str(etc),
            "edits": dict(self.edits),
            "name": NAME,
            "uid": UID,
            "home": str(self.home),
            "command": command,
            "environment": {
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "HOME": str(self.home),
                "TMPDIR": str(self.base / "tmp"),
                "PYTHONPATH": site,
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTEST_ADDOPTS": os.environ["PYTEST_ADDOPTS"],
                "COLUMNS": "150",
                **environment,
            },
        }
        return subprocess.Popen(
            (sys.executable, "-c", SETTING, json.dumps(order)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, **environment: str) -> Said:
        """Run a program as this user to its end."""
        with self.start(*command, **environment) as process:
            try:
                out, err = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                raise AssertionError(f"no end after {SECONDS} s:\n{out}\n{err}") from None
        return Said(process.returncode, out, err)

    def script(self, code: str, *arguments: str) -> Said:
        """Run Python code as this user."""
        return self.run(self.python, "-W", "error", "-c", textwrap.dedent(code), *arguments)

    def pytest(self, *arguments: str, **environment: str) -> Said:
        """Run pytest as this user, in their home."""
        command = (self.python, "-m", "pytest", "-p", "no:cacheprovider", *arguments)
        return self.run(*command, **environment)


@dataclass(frozen=True)
class Said:
    """How a program ended, and what it printed."""

    status: int
    out: str
    err: str

    def done(self) -> str:
        """Return what it printed, if it ended well."""
        assert self.status == 0, f"status {self.status}\n{self.out}\n{self.err}"
        return self.out

    def outcomes(self) -> Mapping[str, int]:
        """Return the numbers of pytest's last line."""
        last = [line for line in self.out.splitlines() if line.startswith("=") and " in " in line]
        assert last, f"status {self.status}\n{self.out}\n{self.err}"
        words = last[-1].strip("= ").partition(" in ")[0].split(", ")
        return {word.split()[1]: int(word.split()[0]) for word in words}


def settle_in(base: pathlib.Path, edits: Sequence[tuple[str, str]] = ()) -> Person:
    """Make the directories of a person below `base`, which everybody can reach."""
    for name in ("home", "tmp"):
        (base / name).mkdir()
        os.chown(base / name, UID, UID)
    return Person(base, dict(edits))
