"""Runs the own test suites of real projects, unchanged, with `tmp_path` on real filesystems.

Each project is a source distribution of the package index that carries its tests, pinned by hash in
downstream-sdists.txt; what it runs with is pinned in downstream-wheels.txt. A suite is run plainly,
and then once on each filesystem with `--linkmode-tmp` and nothing else; every test must end as it
did. What was got lies in .linkmode, so that a second run needs no network.

    python -m scripts.downstream           runs, prints the table; ends with 1 where a test differs
    python -m scripts.downstream --write   puts the table into examples/recipes.md as well
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from scripts import docs, wheels
from scripts.bootstrap import ROOT, STATE
from scripts.building import build_wheel
from scripts.calling import call
from scripts.wheels import SDISTS, Pin

CACHE = os.path.join(STATE, "downstream")
HERE = os.path.dirname(os.path.abspath(__file__))
SUITES = os.path.join(HERE, "downstream-sdists.txt")
NEEDS = os.path.join(HERE, "downstream-wheels.txt")
PAGE, PART = "examples/recipes.md", "downstream"

FILESYSTEMS = ("btrfs", "xfs")
TESTS = "tests"
"""Where the tests lie in each source distribution."""

Outcomes = Mapping[str, str]
"""Test -> passed, skipped, failed or error."""


class DownstreamError(Exception):
    """A suite could not be run as it should be."""


@dataclass(frozen=True)
class Suite:
    """How the tests of one project ended: plainly, and on each filesystem."""

    pin: Pin
    plain: Outcomes
    on: Mapping[str, Outcomes]

    def differing(self, filesystem: str) -> list[str]:
        """Return the tests that ended otherwise there."""
        there = self.on[filesystem]
        return sorted(
            test for test in {*self.plain, *there} if self.plain.get(test) != there.get(test)
        )

    @property
    def ok(self) -> bool:
        """Whether something was tested, and ended alike everywhere."""
        return bool(self.plain) and not any(map(self.differing, self.on))


def outcomes(junit: str) -> Outcomes:
    """Return how each test ended, from pytest's JUnit XML."""
    found: dict[str, str] = {}
    for case in ElementTree.parse(junit).iter("testcase"):  # noqa: S314 (pytest wrote it)
        words = {"skipped": "skipped", "failure": "failed", "error": "error"}
        ended = next((words[child.tag] for child in case if child.tag in words), "passed")
        found[f"{case.get('classname')}::{case.get('name')}"] = ended
    return found


def make_environment(directory: str, paths: Sequence[str]) -> str:
    """Make a virtual environment with these wheels and nothing else; return its `bin`."""
    shutil.rmtree(directory, ignore_errors=True)
    venv.create(directory, symlinks=True)
    programs = os.path.join(directory, "bin")
    python = os.path.join(programs, "python")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    subprocess.run(
        [*command, "install", "--quiet", "--no-index", "--no-deps", *paths],
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )
    return programs


def run_suite(programs: str, project: str, work: str, filesystem: str = "") -> Outcomes:
    """Run the suite of an unpacked project; on `filesystem`, or plainly.

    Raises DownstreamError where it did not run, or not there.
    """
    os.makedirs(work, exist_ok=True)
    junit = os.path.join(work, f"{filesystem or 'plain'}.xml")
    option = f"--linkmode-tmp={filesystem}"
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "PYTHON", "LINKMODE_"))
    }
    status, said = call(
        [
            *(os.path.join(programs, "pytest"), "-p", "no:cacheprovider", f"--junit-xml={junit}"),
            *([option] if filesystem else []),
            TESTS,
        ],
        cwd=project,
        env={
            **inherited,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )
    if status not in (0, 1) or not os.path.exists(junit):
        raise DownstreamError(f"{project}: pytest ended with {status}:\n{said}")
    if filesystem and f"linkmode: {option} (" not in said:
        raise DownstreamError(f"{project}: {option} is not in the header:\n{said}")
    return outcomes(junit)


def unpack(sdist: str, directory: str) -> str:
    """Unpack a source distribution into `directory`; return the directory that it holds."""
    with tarfile.open(sdist) as archive:
        archive.extractall(directory, filter="data")
    (name,) = os.listdir(directory)
    return os.path.join(directory, name)


def run(say: Callable[[str], None]) -> list[Suite]:
    """Run every suite everywhere."""
    pins = wheels.read_pins(path=SUITES)
    archives = wheels.ensure_wheels(os.path.join(CACHE, "sdists"), pins, say, SDISTS)
    needed = wheels.ensure_wheels(os.path.join(CACHE, "wheels"), wheels.read_pins(path=NEEDS), say)
    work = os.path.join(CACHE, "work")
    shutil.rmtree(work, ignore_errors=True)
    ours = build_wheel(os.path.join(work, "dist"))
    programs = make_environment(os.path.join(work, "venv"), [*needed, ours])
    suites = []
    for pin, archive in zip(pins, archives, strict=True):
        say(f"{pin.project} {pin.version}: plainly, and on {', '.join(FILESYSTEMS)}")
        project = unpack(archive, os.path.join(work, pin.project))
        results = os.path.join(work, f"{pin.project}-results")
        plain = run_suite(programs, project, results)
        on = {name: run_suite(programs, project, results, name) for name in FILESYSTEMS}
        suites.append(Suite(pin, plain, on))
    return suites


def table(suites: Sequence[Suite]) -> str:
    """Return a row for each project: how many tests ended how, plainly and on each filesystem."""
    heads = ["project", "plain", *FILESYSTEMS, "tests that ended otherwise"]
    lines = [heads, ["---"] * len(heads)]
    for suite in suites:
        differing = sorted({test for name in suite.on for test in suite.differing(name)})
        lines.append(
            [
                f"{suite.pin.project} {suite.pin.version}",
                *(counts(found) for found in (suite.plain, *suite.on.values())),
                ", ".join(differing) or "none",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def counts(found: Outcomes) -> str:
    """Return how many tests ended how, as pytest says it."""
    ended = Counter(found.values())
    order = ("failed", "error", "passed", "skipped")
    return ", ".join(f"{ended[word]} {word}" for word in order if ended[word]) or "nothing ran"


def main(arguments: Sequence[str]) -> int:
    """Run all of them; return the exit status."""
    try:
        suites = run(lambda line: print(line, file=sys.stderr, flush=True))
    except (DownstreamError, wheels.WheelsError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    shown = table(suites)
    print(shown)
    if "--write" in arguments:
        docs.write_part(os.path.join(ROOT, PAGE), PART, shown)
    return 0 if all(suite.ok for suite in suites) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
