"""What schedules cost: in process, of two real uv, and the whole race suite. One command:

    python -m benchmarks.interleave [--rounds N] [--only WORD]

Each figure is held against a limit of its own; ends with 1 if one is not kept. The suite runs on
two processors, by pytest-xdist.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from benchmarks import measure
from benchmarks.measure import Contender, Row
from linker import LinkMode, LinkReport, link_tree
from linker.platforms.linux import LinuxPlatform
from pytest_linkmode.faults.fresh import empty
from pytest_linkmode.interleave import Execution, Interleaver
from scripts import uv_races
from scripts.memory import in_memory

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SUITE = ("tests/pytest_linkmode/interleave", "tests/scripts/test_uv_races.py")
FILES = ("ns/__init__.py", "ns/{}.py", "ns/more_{}.py")
"""The package of each linker; they share the namespace and its first file."""


@contextmanager
def packages() -> Iterator[tuple[list[str], str]]:
    """Give the sources of two linkers and an empty target, in memory where possible."""
    with in_memory("interleaved-") as place:
        sources = [f"{place}/{name}" for name in ("one", "two")]
        for source in sources:
            os.makedirs(f"{source}/ns")
            for path in FILES:
                with open(f"{source}/{path.format(os.path.basename(source))}", "w") as file:
                    file.write(source)
        target = f"{place}/target"
        os.mkdir(target)
        yield sources, target


def in_process(sources: list[str], target: str, budget: int = 2000) -> float:
    """Explore two linkers; return the milliseconds of processor time that a schedule took.

    One actor runs at a time, so that on an idle machine this is the time.
    """
    interleaver = Interleaver()

    def actor(source: str) -> Callable[[], LinkReport]:
        platform = interleaver.platform(LinuxPlatform())
        return lambda: link_tree(source, target, mode=LinkMode.HARDLINK, platform=platform)

    def prepare() -> None:
        empty(target)
        os.mkdir(f"{target}/ns")

    def check(_: Execution) -> None:
        for name in ("one", "two"):
            for path in FILES:
                assert os.path.exists(f"{target}/{path.format(name)}")

    began = time.process_time()
    explored = interleaver.explore(
        [actor(source) for source in sources],
        below=[target],
        prepare=prepare,
        check=check,
        budget=budget,
        python=False,
    )
    taken = time.process_time() - began
    assert explored.counts.ran > 100, explored
    return 1000 * taken / explored.counts.ran


def of_uv(races: uv_races.Races) -> float:
    """Explore two uv; return the milliseconds that a schedule took."""
    began = time.perf_counter()
    explored, _ = races.pair("clone", locks=False, budget=20)
    return 1000 * (time.perf_counter() - began) / explored.counts.ran


def suite() -> float:
    """Run the race suite; return the seconds that it took, once it ran enough schedules."""
    command = [sys.executable, "-m", "pytest", "-v", "-n", "2", "-p", "no:cacheprovider", *SUITE]
    began = time.perf_counter()
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    taken = time.perf_counter() - began
    ran = sum(int(count) for count in re.findall(r"explored (\d+) schedules", said))
    measure.say(f"{ran} schedules in {taken:.1f} s")
    if ran < 20_000:
        raise SystemExit(f"only {ran} schedules were run")
    return taken


def main() -> int:
    """Measure everything; end with 1 if a limit was not kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="measurements a row (default 5)")
    parser.add_argument("--only", default="", metavar="WORD", help="only rows with this word")
    given = parser.parse_args()
    with ExitStack() as stack:
        sources, target = stack.enter_context(packages())
        races = stack.enter_context(uv_races.gathered())
        rows = [
            Row(
                "a schedule of two linkers of 3 files, in process, on tmpfs",
                Contender("ours", lambda: in_process(sources, target), figure=True),
                limit=1000 / 1500,
                unit="ms",
            ),
            Row(
                "a schedule of two uv of tiny wheels",
                Contender("ours", lambda: of_uv(races), figure=True),
                limit=1000 / 10,
                unit="ms",
            ),
            Row(
                "the race suite, tens of thousands of schedules",
                Contender("ours", suite, figure=True),
                limit=120,
            ),
        ]
        rows = [row for row in rows if given.only in row.work]
        measure.run(rows, given.rounds)
    print(f"medians of {given.rounds}, in one run\n\n{measure.table(rows)}")
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
