"""Make what the other scripts stand on: filesystem tools of the machine, and a virtual environment.

Runs with nothing but the standard library of any Python from 3.11 on, and the two tables of the
plugin that say which programs filesystems are made with and what the distributions call them. What
is there already is left alone; what needs privileges that we do not have is said, with the command,
and only stops us where there is no way on without it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if ROOT not in sys.path:
    sys.path.append(ROOT)  # this runs before the project is installed

from pytest_linkmode.filesystems import FILESYSTEMS, fuse  # noqa: E402
from pytest_linkmode.filesystems.packages import PACKAGES  # noqa: E402
from pytest_linkmode.guests import uml  # noqa: E402
from pytest_linkmode.guests.gateway import KERNEL  # noqa: E402
from pytest_linkmode.processes import which  # noqa: E402
from scripts import calling  # noqa: E402

STATE = os.path.join(ROOT, ".linkmode")
"""Everything the scripts make lies below this directory, which git ignores."""
ENVIRONMENT = os.path.join(STATE, "venv")
STAMP = os.path.join(ENVIRONMENT, "linkmode-stamp.json")


@dataclass(frozen=True)
class Manager:
    """One package manager: how it installs without asking, and how it learns what there is."""

    install: tuple[str, ...]
    refresh: tuple[str, ...]


MANAGERS: Mapping[str, Manager] = {
    # Debian, Ubuntu
    "apt": Manager(
        ("apt-get", "install", "--yes", "--no-install-recommends"), ("apt-get", "update")
    ),
    # Fedora and its relatives
    "dnf": Manager(("dnf", "install", "--assumeyes"), ("dnf", "makecache")),
    # Arch
    "pacman": Manager(("pacman", "-S", "--needed", "--noconfirm"), ("pacman", "-Sy")),
    # Alpine
    "apk": Manager(("apk", "add"), ("apk", "update")),
}
"""Package managers by the names that they have in the plugin's table of packages."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "matrix": (),
    "tests": ("test", "lint", "typing", "changelog"),
    "installers": (),
}
"""What each purpose needs beyond the project: dependency groups of pyproject.toml."""


class BootstrapError(Exception):
    """Something without which there is no way on; its text says what, why and what mends it."""


def say(line: str) -> None:
    """Tell the person what is being done; standard output belongs to the results."""
    print(line, file=sys.stderr, flush=True)


def elevation(
    euid: int | None = None, find: Callable[[str], str | None] = which
) -> tuple[str, ...] | None:
    """Return what to put before a command that needs root: nothing, sudo, or None if neither."""
    if (os.geteuid() if euid is None else euid) == 0:
        return ()
    sudo = find("sudo")
    if sudo is None:
        return None
    allowed = subprocess.run([sudo, "-n", "true"], check=False, capture_output=True, timeout=30)
    return (sudo, "-n") if allowed.returncode == 0 else None


def find_manager(find: Callable[[str], str | None] = which) -> str | None:
    """Return the name of this machine's package manager, if it is one that we know."""
    return next((name for name in MANAGERS if find(name)), None)


def needed_tools() -> Mapping[str, tuple[str, ...]]:
    """Return the programs of the machine that filesystems are made with, and which those are."""
    needed: dict[str, tuple[str, ...]] = {}
    for kind in FILESYSTEMS.values():
        for tool in fuse.programs(kind) if kind.name in fuse.DAEMONS else kind.tools:
            needed[tool] = (*needed.get(tool, ()), kind.name)
    return {**needed, "mount": ("all that is mounted",)}


def rungs() -> Mapping[str, tuple[str, ...]]:
    """Return the programs by which ordinary users get filesystems, and which way they take.

    Only the tests have to be ordinary users.
    """
    guests = dict.fromkeys(uml.programs(), ("the rung of guests",))
    return {"sudo": ("the rung of passwordless sudo",), **guests}


BROWSERS: Mapping[str, Mapping[str, str]] = {
    "chromium": {"apt": "chromium", "dnf": "chromium", "pacman": "chromium", "apk": "chromium"},
    "chromedriver": {
        "apt": "chromium-driver",
        "dnf": "chromedriver",
        "pacman": "chromium",
        "apk": "chromium-chromedriver",
    },
}
"""What the tests look at the HTML report with -> package manager -> package."""
OTHER_BROWSERS = ("chromium-browser", "google-chrome", "google-chrome-stable")
"""A browser under another name does as well."""


def missing_browsers(find: Callable[[str], str | None] = which) -> tuple[str, ...]:
    """Return what this machine lacks to look at a page by itself."""
    missing = [tool for tool in BROWSERS if find(tool) is None]
    if any(find(name) for name in OTHER_BROWSERS):
        missing = [tool for tool in missing if tool != "chromium"]
    return tuple(missing)


FETCHERS: Mapping[str, tuple[str, ...]] = {"npm": ("the installers of npm's index",)}
"""Programs that only the matrix of installers has to have, to get its own."""


def missing_tools(find: Callable[[str], str | None] = which) -> tuple[str, ...]:
    """Return the tools that this machine lacks and its distribution, if we know it, has."""
    manager = find_manager(find)
    lacks = [tool for tool in needed_tools() if find(tool) is None]
    return tuple(tool for tool in lacks if manager is None or manager in PACKAGES[tool])


def missing_rungs(
    manager: str | None, find: Callable[[str], str | None] = which
) -> tuple[str, ...]:
    """Return those programs of `rungs` that this machine lacks and its distribution has."""
    guests = find(KERNEL) is not None or (manager or "") in PACKAGES[KERNEL]
    wanted = [tool for tool in rungs() if guests or tool not in uml.programs()]
    return tuple(
        tool for tool in wanted if find(tool) is None and (manager or "") in PACKAGES[tool]
    )


def packages_of(tools: Sequence[str], manager: str) -> tuple[str, ...]:
    """Return the packages that hold `tools`, each once."""
    packages = {**PACKAGES, **BROWSERS}
    return tuple(dict.fromkeys(packages[tool][manager] for tool in tools))


def install_command(manager: str, packages: Sequence[str]) -> tuple[str, ...]:
    """Return the command, for root, that installs `packages`."""
    return (*MANAGERS[manager].install, *packages)


def install_packages(
    manager: str, packages: Sequence[str], prefix: Sequence[str], *, refresh: bool = True
) -> str | None:
    """Install `packages`; return None, or what the package manager had to say against it.

    The lists of a fresh machine are empty and those of an old one stale: a first failure
    refreshes them and tries again, so that a machine without a network is not asked for one; not
    without `refresh`.
    """
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    said = ""
    commands = (
        install_command(manager, packages),
        MANAGERS[manager].refresh,
        install_command(manager, packages),
    )
    for number, command in enumerate(commands if refresh else commands[:1]):
        status, said = calling.call([*prefix, *command], env=environment)
        if status == 0 and number != 1:
            return None
    return said


def install_each(manager: str, packages: Sequence[str], prefix: Sequence[str]) -> dict[str, str]:
    """Install `packages`, and where one is refused the others all the same.

    Return what the package manager had to say against each that is not there now.
    """
    against = install_packages(manager, packages, prefix)
    if against is None:
        return {}
    if len(packages) == 1:
        return {packages[0]: against}
    alone = {
        package: install_packages(manager, (package,), prefix, refresh=False)
        for package in packages
    }
    return {package: said for package, said in alone.items() if said is not None}


def ensure_tools(purposes: Sequence[str] = ()) -> None:
    """Install the tools that are missing, or say what would; never fatal."""
    missing = missing_tools()
    if "tests" in purposes:
        missing += missing_rungs(find_manager()) + missing_browsers()
    if "installers" in purposes:
        missing += tuple(tool for tool in FETCHERS if which(tool) is None)
    if not missing:
        return
    looking = dict.fromkeys(BROWSERS, ("a look at the HTML report",))
    needed = {**needed_tools(), **rungs(), **FETCHERS, **looking}
    what = ", ".join(f"{tool} (for {', '.join(needed[tool])})" for tool in missing)
    manager = find_manager()
    if manager is None:
        known = ", ".join(MANAGERS)
        say(f"missing: {what}; none of {known} is here to install them, so we go on without")
        return
    packages = packages_of(missing, manager)
    command = " ".join(install_command(manager, packages))
    prefix = elevation()
    if prefix is None:
        say(f"missing: {what}; going on without. To add them, as root: {command}")
        return
    say(f"installing {', '.join(packages)}")
    refused = install_each(manager, packages, prefix)
    if refused:
        because: dict[str, list[str]] = {}
        for package, said in refused.items():
            because.setdefault(said.splitlines()[-1], []).append(package)
        why = "; ".join(f"{', '.join(names)} ({said})" for said, names in because.items())
        say(f"could not install {why}; going on without. The command was: {command}")


def ensure_venv_module() -> None:
    """Make sure that this Python can make environments that have pip in them.

    Debian and Ubuntu split that off into a package of its own. Raises BootstrapError where it
    is missing and cannot be installed.
    """
    if importlib.util.find_spec("ensurepip") is not None:
        return
    package = f"python3.{sys.version_info.minor}-venv"
    manager = find_manager()
    what = f"{sys.executable} cannot make virtual environments: it has no ensurepip"
    if manager != "apt":
        raise BootstrapError(f"{what}.\nInstall it, or name another Python in LINKMODE_PYTHON.")
    command = " ".join(install_command(manager, (package,)))
    prefix = elevation()
    if prefix is None:
        raise BootstrapError(f"{what}.\nTo fix this, as root: {command}")
    say(f"installing {package}")
    against = install_packages(manager, (package,), prefix)
    importlib.invalidate_caches()
    if against is not None or importlib.util.find_spec("ensurepip") is None:
        raise BootstrapError(f"{what}, and `{command}` did not help:\n{against or ''}")


def made_of(root: str = ROOT) -> dict[str, str]:
    """Return what an environment is made of: when any of it changes, it is made anew.

    A patch release of the same Python is no other Python: installing ensurepip on Debian may well
    bring one along.
    """
    with open(os.path.join(root, "pyproject.toml"), "rb") as file:
        project = hashlib.sha256(file.read()).hexdigest()
    return {
        "python": f"{sys.implementation.cache_tag}{sys.abiflags}",
        "base": sys.base_prefix,
        "project": root,
        "pyproject": project,
    }


def read_stamp(path: str = STAMP) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return what the environment there is made of, and the purposes it serves already."""
    try:
        with open(path, encoding="utf-8") as file:
            stamp = json.load(file)
        return dict(stamp["made of"]), tuple(stamp["purposes"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}, ()


def requirements_of(groups: Sequence[str], root: str = ROOT) -> tuple[str, ...]:
    """Return the requirements of dependency groups (pip itself reads them from 25.1 on only)."""
    with open(os.path.join(root, "pyproject.toml"), "rb") as file:
        table = tomllib.load(file)["dependency-groups"]
    return tuple(requirement for group in groups for requirement in table[group])


def environment_python(environment: str = ENVIRONMENT) -> str:
    """Return the path of the environment's interpreter."""
    return os.path.join(environment, "bin", "python")


def pip(*arguments: str) -> None:
    """Run pip in the environment, silently unless it fails; then BootstrapError has its words."""
    command = [environment_python(), "-m", "pip", "--disable-pip-version-check", *arguments]
    command.append("--quiet")
    status, said = calling.call(command)
    if status != 0:
        raise BootstrapError(
            f"pip could not install what is needed{calling.ending(status)}:\n"
            f"{said}\n"
            "(The first run needs the package index, and one after pyproject.toml has changed.)"
        )


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the lock of this checkout, so that two scripts do not make one environment at once."""
    os.makedirs(STATE, exist_ok=True)
    with open(os.path.join(STATE, "lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure_environment(purpose: str) -> None:
    """Make the environment for `purpose`, or leave alone the one that serves it already."""
    wanted = made_of()
    there, purposes = read_stamp()
    fresh = there == wanted and os.path.exists(environment_python())
    if fresh and purpose in purposes:
        return
    version = ".".join(map(str, sys.version_info[:3]))
    where = os.path.relpath(ENVIRONMENT)
    if not fresh:
        ensure_venv_module()
        say(f"making a virtual environment in {where} (Python {version})")
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        venv.create(ENVIRONMENT, with_pip=True, symlinks=True)
        pip("install", "--editable", ROOT)
        purposes = ()
    groups = GROUPS[purpose]
    if groups:
        say(f"installing what the {purpose} need")
        pip("install", *requirements_of(groups))
    with open(STAMP, "w", encoding="utf-8") as file:
        json.dump({"made of": wanted, "purposes": [*purposes, purpose]}, file, indent=2)
        file.write("\n")


def main(arguments: Sequence[str]) -> int:
    """Prepare the machine and the environment for the purposes named in `arguments`."""
    unknown = [purpose for purpose in arguments if purpose not in GROUPS]
    if unknown or not arguments:
        say(f"usage: bootstrap.py PURPOSE...  where PURPOSE is one of {', '.join(GROUPS)}")
        return 2
    try:
        with alone():
            ensure_tools(arguments)
            for purpose in arguments:
                ensure_environment(purpose)
    except BootstrapError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
