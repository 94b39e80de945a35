"""The steps of continuous integration: one command each, on every system, tried by our own tests.

    python -m scripts.ci install     the project
    python -m scripts.ci prepare     the project, filesystem tools, and what the tests need
    python -m scripts.ci checks      the environments of tox that are no tests
    python -m scripts.ci test        the suites of this system; each leaves a report in $REPORTS
    python -m scripts.ci wheel       the tests, against the wheel that this checkout makes
    python -m scripts.ci verdict     all reports as one, held against the committed list

What a system runs is a table. A workflow only says where and in what order.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EXPECTED = os.path.join(ROOT, "scripts", "expected.txt")
UNION = "all"
"""What the merged report is called, without its suffix."""

CHECKS = ("lint", "typing", "docs", "build")
GROUPS = ("test", "changelog")
WORKERS = 2
"""Of pytest-xdist, on each machine."""


@dataclass(frozen=True)
class System:
    """What one operating system tests on, by `sys.platform`.

    `suites` maps the name of a report to the arguments of pytest that make it.
    """

    filesystems: tuple[str, ...]
    suites: Mapping[str, tuple[str, ...]]


def _conformance(*filesystems: str) -> Mapping[str, tuple[str, ...]]:
    names = ",".join(filesystems)
    arguments = ("--pyargs", "pytest_linkmode.conformance", f"--linkmode-fs={names}")
    return {"conformance": arguments}


_LINUX = ("btrfs", "xfs", "ext4", "tmpfs")
_MACOS = ("apfs", "hfs")
_WINDOWS = ("ntfs", "refs")
_CONTRACTS = (
    "tests/pytest_linkmode/models/test_clonefile_contract.py",
    "tests/pytest_linkmode/models/test_log2phys_contract.py",
)

SYSTEMS: Mapping[str, System] = {
    "linux": System(_LINUX, {"own": ("tests",), **_conformance(*_LINUX)}),
    "darwin": System(_MACOS, {"contracts": _CONTRACTS, **_conformance(*_MACOS)}),
    "win32": System(_WINDOWS, {"windows": ("tests/windows",), **_conformance(*_WINDOWS)}),
}
"""What runs where. The conformance suite, which holds the reference linker to its rules, runs on
every system, and so do the contracts of the real calls; the tests of this project itself are run on
Linux."""

Run = Callable[[Sequence[str]], int]


def run(command: Sequence[str]) -> int:
    """Run a command from the root of the checkout, on our own streams; return its exit status."""
    print("$", *command, flush=True)
    return subprocess.run(command, cwd=ROOT, check=False, stdin=subprocess.DEVNULL).returncode


def requirements(groups: Sequence[str]) -> list[str]:
    """Return what dependency groups of pyproject.toml ask for."""
    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        table = tomllib.load(file)["dependency-groups"]
    return [requirement for group in groups for requirement in table[group]]


PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")


def install(run: Run = run) -> int:
    """Install the project, and nothing that only its tests need."""
    return run([*PIP, "--editable", ROOT])


def prepare(run: Run = run) -> int:
    """Install the tools of the machine (on Linux), the project and what its tests need."""
    if sys.platform == "linux":
        from scripts.bootstrap import ensure_tools

        ensure_tools(("tests",))
        if status := let_in_ordinary_users(run):
            return status
    return install(run) or run([*PIP, *requirements(GROUPS)])


NAMESPACES = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
"""Where Ubuntu (from 24.04 on) keeps ordinary users from mounting in namespaces of their own."""


def let_in_ordinary_users(run: Run = run, switch: str = NAMESPACES) -> int:
    """Let ordinary users make namespaces on this machine, as tests of the plugin do, if we may."""
    from scripts.bootstrap import elevation

    prefix = elevation()
    if prefix is None or not os.path.exists(switch):
        return 0
    return run([*prefix, "sysctl", "-w", f"kernel.{os.path.basename(switch)}=0"])


def checks(run: Run = run) -> int:
    """Run the environments of tox that are no tests."""
    return run([*PIP, *requirements(("tox",))]) or run(
        [sys.executable, "-m", "tox", "run", "-e", ",".join(CHECKS)]
    )


def suites(run: Run = run) -> int:
    """Run every suite of this system, also after one has failed; return the first bad status."""
    directory, name = os.environ["REPORTS"], os.environ["REPORT_NAME"]
    status = 0
    for suite, arguments in SYSTEMS[sys.platform].suites.items():
        report = os.path.join(directory, f"{name}-{suite}.json")
        command = (sys.executable, "-m", "pytest", f"-n{WORKERS}", f"--linkmode-report={report}")
        status = run([*as_root(), *command, *arguments]) or status
    return status


def wheel(run: Run = run) -> int:
    """Run the tests against the built wheel, in an environment that has no checkout installed."""
    return run([*PIP, *requirements(("tox",))]) or run(of_wheel())


def of_wheel(*options: str) -> list[str]:
    """Return the command of the tests against a wheel: the one that tox builds, unless an option of
    its says otherwise.
    """
    tox = (sys.executable, "-m", "tox", "run", "-e", f"py3{sys.version_info.minor}")
    return [*as_root(), *tox, *options, "--", f"-n{WORKERS}"]


def as_root() -> tuple[str, ...]:
    """Return what to put before a command so that it may mount everything, where that is needed."""
    if sys.platform != "linux":
        return ()
    from scripts.bootstrap import elevation

    prefix = elevation()
    return (*prefix, "env", "PYTHONDONTWRITEBYTECODE=1") if prefix else ()


def verdict() -> int:
    """Merge what all jobs reported, in every form; fail if the list is not met."""
    from pytest_linkmode.cli import main as linkmode
    from pytest_linkmode.commands.merge import LIST
    from pytest_linkmode.options import WRITERS

    directory = os.path.join(ROOT, os.environ["REPORTS"])
    reports = [
        f"{name.removesuffix('.json')}={os.path.join(directory, name)}"
        for name in sorted(os.listdir(directory))
        if name.endswith(".json") and not name.startswith(f"{UNION}.")
    ]
    if not reports:
        print(f"error: there is no report in {directory}", file=sys.stderr)
        return 1
    outputs = [f"--output={os.path.join(directory, UNION + suffix)}" for suffix in (*WRITERS, LIST)]
    return int(linkmode(["merge", *reports, *outputs, f"--expect={EXPECTED}"]))


STEPS: Mapping[str, Callable[[], int]] = {
    "install": install,
    "prepare": prepare,
    "checks": checks,
    "test": suites,
    "wheel": wheel,
    "verdict": verdict,
}


def main(arguments: Sequence[str]) -> int:
    """Do one step; return the exit status."""
    if len(arguments) != 1 or arguments[0] not in STEPS:
        print(f"usage: python -m scripts.ci STEP, one of {', '.join(STEPS)}", file=sys.stderr)
        return 2
    return STEPS[arguments[0]]()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
