"""What faults cost: uv with and without them, beside strace; and how many cases a sweep runs.

``python benchmarks/faults.py [--rounds N] [--wheels DIRECTORY]``, as root (a btrfs is made). All
contenders run in turn, round after round and each round in another order, so that whatever else the
machine does meets them alike. Compared are the ratios within a round, by their median; beside it is
the ratio of the best times, which a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import glob
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks import measure
from benchmarks.measure import Contender as Measured
from benchmarks.measure import Row
from linker import LinkError, LinkMode, link_tree
from pytest_linkmode.config import Settings
from pytest_linkmode.faults import Fault, FaultRunner, Run
from pytest_linkmode.faults.inprocess import Injection
from pytest_linkmode.faults.linking import faulty
from pytest_linkmode.layouts import Workshop
from pytest_linkmode.namespaces import find_place

WHEELS = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), ".linkmode/wheels"
)
NEVER = Fault("clone", "EIO", nth=65535)
"""A fault on a call that is never made: every clone is counted and let go."""

LINKER = """
import os, sys
source, target = sys.argv[1:]
for directory, _, names in os.walk(source):
    there = target + directory[len(source):]
    os.makedirs(there, exist_ok=True)
    for name in names:
        try:
            os.link(f"{directory}/{name}", f"{there}/{name}")
        except OSError:
            with open(f"{directory}/{name}", "rb") as old, open(f"{there}/.part", "wb") as new:
                new.write(old.read())
            os.rename(f"{there}/.part", f"{there}/{name}")
"""


@dataclass
class Contender:
    """Something that is timed, and what it must not be slower than."""

    name: str
    run: Callable[[], Run | None]
    limits: dict[str, float] = field(default_factory=dict)
    """contender -> the ratio to it that is allowed."""
    expected: int = 0
    """How many clones must have been looked at, or it is not measured what is meant."""
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Its time in the middle."""
        return statistics.median(self.seconds)

    def ratio(self, other: Contender) -> float:
        """Return how long it takes in times of another, round by round, in the middle."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)


class Uv:
    """`uv pip install` of real wheels, some 8,000 files, by clones from a warm cache on a btrfs."""

    def __init__(self, place: str, wheels: list[str]) -> None:
        import uv

        self._target = os.path.join(place, "target")
        self._env = {name: v for name, v in os.environ.items() if not name.startswith("UV_")}
        self._env["UV_CACHE_DIR"] = os.path.join(place, "cache")
        self.version = subprocess.run(
            [uv.find_uv_bin(), "--version"], capture_output=True, text=True, check=True
        ).stdout.strip()
        self.command = [
            *(uv.find_uv_bin(), "pip", "install", "--offline", "--no-index", "--no-deps"),
            *("--no-progress", "--link-mode", "clone", "--python", sys.executable),
            *("--target", self._target, *wheels),
        ]
        self._runner = FaultRunner()
        self.plain()

    def fresh(self) -> None:
        """Empty the target and let the disk come to rest."""
        shutil.rmtree(self._target, ignore_errors=True)
        os.sync()

    def plain(self, *tracer: str) -> None:
        """Install, or install below another program."""
        command = [*tracer, *self.command]
        subprocess.run(command, env=self._env, capture_output=True, check=True)

    def faulted(self, *faults: Fault, log: tuple[str, ...] = (), results: bool = False) -> Run:
        """Install with faults."""
        return self._runner.run(
            self.command, env=self._env, faults=faults, log=log, results=results, check=True
        )


def contenders(uv: Uv) -> list[Contender]:
    """Return what is compared, in the order of the table."""
    found = [
        Contender("bare", uv.plain),
        Contender(
            "a fault on an op it does not use",
            lambda: uv.faulted(Fault("symlink", "EPERM")),
            {"bare": 1.03},
            expected=0,
        ),
        Contender("every clone counted", lambda: uv.faulted(NEVER), {"bare": 1.5}, expected=7000),
        Contender(
            "every clone logged, with paths", lambda: uv.faulted(log=("clone",)), expected=7000
        ),
        Contender(
            "every clone logged, with results",
            lambda: uv.faulted(log=("clone",), results=True),
            expected=7000,
        ),
    ]
    strace = shutil.which("strace")
    if strace is not None:
        inject = ("-e", "trace=ioctl", "-e", "inject=ioctl:error=EIO:when=65535")
        options = ("-f", "--seccomp-bpf", "-o", "/dev/null", *inject)
        found.append(Contender("strace", lambda: uv.plain(strace, *options)))
        found.append(
            Contender("strace, with paths", lambda: uv.plain(strace, "-y", *options)),
        )
        found[2].limits["strace"] = 1.0
        found[3].limits["strace, with paths"] = 1.0
    return found


def progress(text: str) -> None:
    """Show what is going on, where somebody looks."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def compare(uv: Uv, rounds: int) -> bool:
    """Time all contenders and print the table; return whether every limit was kept."""
    runs = contenders(uv)
    for number in range(rounds):
        turn = number % len(runs)
        for each in runs[turn:] + runs[:turn]:
            progress(f"{uv.version}: round {number + 1} of {rounds}: {each.name}")
            uv.fresh()
            began = time.perf_counter()
            run = each.run()
            each.seconds.append(time.perf_counter() - began)
            if run is not None and run.counts["clone"] < each.expected:
                raise SystemExit(f"{each.name}: only {run.counts['clone']} clones were seen")
    progress("")
    by_name = {each.name: each for each in runs}
    kept = True
    print(
        f"{uv.version}, {rounds} rounds: median seconds, and median ratios; in brackets the best\n"
    )
    print("| | seconds | × bare | limits |\n|---|---|---|---|")
    for each in runs:
        verdicts = []
        for other, limit in each.limits.items():
            found = each.ratio(by_name[other])
            kept = kept and found <= limit
            verdict = "ok" if found <= limit else "OVER"
            verdicts.append(f"{limit:g} × {other}: {found:.2f} {verdict}")
        bare = by_name["bare"]
        best = min(each.seconds) / min(bare.seconds)
        print(
            f"| {each.name} | {each.median:.3f} ({min(each.seconds):.3f}) "
            f"| {each.ratio(bare):.2f} ({best:.2f}) | {'; '.join(verdicts)} |"
        )
    return kept


@contextmanager
def small_tree() -> Iterator[tuple[str, str]]:
    """Give a source of a few files, and an empty target, in memory where possible."""
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=shm) as place:
        source, target = os.path.join(place, "source"), os.path.join(place, "target")
        for package in ("alpha", "alpha/beta"):
            os.makedirs(os.path.join(source, package))
            for name in ("__init__.py", "module.py"):
                with open(os.path.join(source, package, name), "w", encoding="utf-8") as file:
                    file.write(f"name = {package!r}\n")
        os.mkdir(target)
        yield source, target


def sweep_a_program(seconds: float, *, least: float) -> bool:
    """Sweep a small Python linker for a while; return whether it went fast enough."""
    with small_tree() as (source, target):
        command = [sys.executable, "-I", "-S", "-c", LINKER, source, target]
        cases, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            for case in FaultRunner().sweep(
                command, target=target, faults=["hardlink:EXDEV:nth=2"]
            ):
                with case:
                    cases += 1
                    assert case.killed or case.run.returncode in (0, 1), case
        rate = cases / (time.perf_counter() - began)
    verdict = "ok" if rate >= least else "UNDER"
    print(f"sweep of a small Python linker as a program: {rate:.0f} cases/s")
    print(f"  (at least {least:g}: {verdict})\n")
    return rate >= least


def sweep_the_reference_linker(rounds: int) -> Row:
    """Return the row of a sweep in process: reset, link with a fault, compare, on tmpfs.

    The figure is the time of a thousand cases: every call of two small packages × a few errors.
    """
    ran = Counter[str]()

    def link(source: str, target: str, *faults: Fault) -> Injection:
        with Injection(faults, log=(), standing_in=False) as injection:  # noqa: SIM117
            with faulty(injection) as platform:
                try:
                    link_tree(source, target, mode=LinkMode.HARDLINK, platform=platform)
                    ran["whole"] += 1
                except LinkError:
                    ran["undone"] += 1
        return injection

    def contents(target: str) -> dict[str, tuple[int, int]]:
        """Return what is there: path -> inode and mode."""
        found = {}
        for directory, _, names in os.walk(target):
            for name in (*names, "."):
                path = os.path.join(directory, name)
                status = os.lstat(path)
                found[path] = status.st_ino, status.st_mode
        return found

    def sweep() -> float:
        with small_tree() as (source, target):
            empty = contents(target)
            counts = link(source, target).counts
            whole = {path: seen for path, seen in contents(target).items() if path not in empty}
            files = {path for path in whole if not path.endswith("/.")}
            errors = ("EIO", "ENOSPC", "EACCES", "EXDEV")
            faults = [
                Fault(op, error, nth)
                for op, count in counts.items()
                for nth in range(1, count + 1)
                for error in errors
            ]
            began = time.perf_counter()
            for fault in faults:
                empty_target(target)
                before = contents(target)
                link(source, target, fault)
                after = contents(target)
                assert after == before or files <= after.keys(), fault
            return 1000 * (time.perf_counter() - began) / len(faults)

    row = Row(
        "1,000 cases of a sweep of the reference linker, in process, on tmpfs",
        Measured("ours", sweep, figure=True),
        limit=1.0,
    )
    measure.run([row], rounds)
    assert ran["whole"]
    assert ran["undone"]
    return row


def empty_target(target: str) -> None:
    """Remove what a case left, the directory itself excepted."""
    for entry in os.scandir(target):
        if entry.is_dir(follow_symlinks=False):
            empty_target(entry.path)
            os.rmdir(entry.path)
        else:
            os.unlink(entry.path)


def main() -> int:
    """Measure everything; end with 1 if a limit was not kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--wheels", default=WHEELS, help="directory of real wheels")
    parser.add_argument("--only-sweeps", action="store_true", help="without uv and its wheels")
    given = parser.parse_args()
    kept = [sweep_a_program(3, least=50)]
    row = sweep_the_reference_linker(5)
    print(measure.table([row]) + "\n")
    kept.append(row.kept)
    if given.only_sweeps:
        return 0 if all(kept) else 1
    wheels = sorted(glob.glob(os.path.join(given.wheels, "*.whl")))
    if not wheels:
        print(f"no wheels in {given.wheels}: ./scripts/run-matrix gets them")
        return 1
    with closing(Workshop(find_place(), Settings(image_size=4 << 30))) as workshop:
        kept.append(compare(Uv(workshop.directory("btrfs"), wheels), given.rounds))
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
