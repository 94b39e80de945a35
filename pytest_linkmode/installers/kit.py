"""The programs themselves: pinned with their hashes, downloaded once, offline ever after.

Their versions stand in versions.toml; what that means with all that they need, and the hashes, in
requirements.txt for those from Python's index, and in package-lock.json for those from npm's (Node
itself among them). What cannot be had is no error of the whole: its cells say why.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field

from pytest_linkmode.processes import CommandFailed, run, which

HERE = os.path.dirname(os.path.abspath(__file__))
VERSIONS = os.path.join(HERE, "versions.toml")
REQUIREMENTS = os.path.join(HERE, "requirements.txt")
LOCK = os.path.join(HERE, "package-lock.json")
DIRECTORY_VARIABLE = "LINKMODE_INSTALLERS"
PATIENCE = 900
"""Seconds that a download may take."""


@dataclass
class Kit:
    """Where the programs lie, and why those that do not cannot be had: by index, in a sentence."""

    directory: str
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> str:
        """The directory of the Python packages."""
        return os.path.join(self.directory, "python")

    @property
    def modules(self) -> str:
        """The directory of the npm packages."""
        return os.path.join(self.directory, "npm", "node_modules")

    @property
    def node(self) -> str:
        """The Node that the JavaScript programs are run by."""
        kind = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        return os.path.join(self.modules, f"node-linux-{kind}", "bin", "node")

    @property
    def compiled(self) -> str:
        """Where Node keeps what it has compiled of them, as Python does beside its packages."""
        return os.path.join(self.directory, "npm", "compiled")

    def one_of(self, *names: str) -> str:
        """Return the first of several files of npm packages that is there."""
        paths = [os.path.join(self.modules, name) for name in names]
        return next((path for path in paths if os.path.exists(path)), paths[0])


def state_directory() -> str:
    """Return where programs and results are kept: the checkout's own place, or the user's cache."""
    given = os.environ.get(DIRECTORY_VARIABLE)
    if given:
        return os.path.abspath(given)
    checkout = os.path.join(os.path.dirname(os.path.dirname(HERE)), ".linkmode")
    if os.path.isdir(checkout):
        return os.path.join(checkout, "installers")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "linkmode", "installers")


def versions() -> dict[str, dict[str, str]]:
    """Return the pinned versions: index -> name of the package there -> version."""
    with open(VERSIONS, "rb") as file:
        return tomllib.load(file)


def ensure(directory: str, say: Callable[[str], None]) -> Kit:
    """Return the kit in a directory, after getting what is missing from the package indexes."""
    kit = Kit(directory)
    os.makedirs(directory, exist_ok=True)
    for index, pins, get in (("python", REQUIREMENTS, _get_python), ("npm", LOCK, _get_npm)):
        place = os.path.join(directory, index)
        stamp = os.path.join(place, ".pins")
        with open(pins, "rb") as file:
            wanted = hashlib.sha256(file.read()).hexdigest()
        if os.path.exists(stamp):
            with open(stamp, encoding="ascii") as file:
                if file.read() == wanted:
                    continue
        say(f"getting the programs of {os.path.basename(pins)}")
        part = f"{place}.part-{os.getpid()}"
        try:
            os.makedirs(part)
            get(part)
            with open(os.path.join(part, ".pins"), "w", encoding="ascii") as file:
                file.write(wanted)
            shutil.rmtree(place, ignore_errors=True)
            os.rename(part, place)
        except CommandFailed as failed:
            why = (failed.stderr.strip() or failed.why).splitlines()
            kit.missing[index] = why[-1] if why else failed.what
            say(f"cannot be had: {kit.missing[index]}")
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return kit


def _get_python(part: str) -> None:
    uv = which("uv") or os.path.join(os.path.dirname(sys.executable), "uv")
    options = ("--require-hashes", "--no-deps", "--only-binary=:all:", "--target", part)
    command: tuple[str, ...]
    if os.path.exists(uv):
        # Programs are not let write bytecode, and would compile all of theirs in every cell.
        more = ("--compile-bytecode", "--python", sys.executable)
        command = (uv, "pip", "install", "--quiet", *more, *options)
    else:
        command = (sys.executable, "-m", "pip", "install", "--quiet", *options)
    run((*command, "--requirement", REQUIREMENTS), timeout=PATIENCE)


def _get_npm(part: str) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(HERE, name), part)
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier")
    run(("npm", "ci", *options), cwd=part, timeout=PATIENCE)
