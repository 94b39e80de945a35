"""The reference linker beside cp, uv and shutil, and what the plugin costs. One command:

    python -m benchmarks.linker [--rounds N] [--only WORD] [--json PATH] [--plot PATH]

As root (a btrfs and an xfs are made, in a private mount namespace). The tree is that of the main
job: `./scripts/run-matrix` gets its wheels, about 8,000 files. Rows that are held against a peer on
a filesystem have one of their own. Ends with 1 if a limit is not kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from unittest.mock import patch

from benchmarks import measure
from benchmarks.measure import Contender, Row
from linker import LinkMode, link_tree
from pytest_linkmode.config import Settings
from pytest_linkmode.layouts import Workshop
from pytest_linkmode.namespaces import find_place
from scripts import wheels

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROCESSES = 2
"""As many as `python -m linker` uses by itself where it may run on two processors or more."""
LINKMODE = os.path.join(ROOT, ".linkmode")


def installed_environment() -> dict[str, str]:
    """Return an environment in which Python finds compiled modules, as of an installed wheel."""
    left_out = ("PYTHONDONTWRITEBYTECODE", "LINKMODE_PLACE")
    env = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**env, "PYTHONPYCACHEPREFIX": os.path.join(LINKMODE, "compiled")}


def call(*command: str, env: dict[str, str] | None = None, cwd: str | None = None) -> None:
    """Run a command that must succeed."""
    env = env or installed_environment()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env, cwd=cwd)


class Bench:
    """One filesystem with the tree of the main job on it, and a target to be filled."""

    def __init__(self, name: str, directory: str, tree: str) -> None:
        self.name = name
        self.source = os.path.join(directory, "source")
        self.target = os.path.join(directory, "target")
        self.directory = directory
        call("cp", "-a", "--reflink=auto", tree, self.source)

    def fresh(self) -> None:
        """Remove the target and let the disk come to rest."""
        call("rm", "-rf", self.target)
        os.sync()

    def directories(self) -> None:
        """Give the target all directories and no file."""
        self.fresh()
        for where, names, _ in os.walk(self.source):
            os.makedirs(self.target + where[len(self.source) :], exist_ok=True)
            for name in names:
                os.mkdir(os.path.join(self.target + where[len(self.source) :], name))
        os.sync()

    def full(self) -> None:
        """Give the target every file, so that each must be replaced."""
        self.fresh()
        call("cp", "-a", "--reflink=auto", self.source, self.target)
        os.sync()

    def linker(
        self,
        mode: LinkMode,
        before: Callable[[], None] | None = None,
        name: str = f"linker, {PROCESSES} processes",
    ) -> Contender:
        """Link the tree by the reference linker, which must end as asked."""

        def link() -> None:
            report = link_tree(self.source, self.target, mode=mode, processes=PROCESSES)
            if set(report.counts) != {mode}:
                raise SystemExit(f"{self.name}: {mode} ended as {report.counts}")

        return Contender(name, link, before or self.fresh)

    def cp(self, *options: str, before: Callable[[], None] | None = None) -> Contender:
        """Copy the tree by cp."""
        return Contender(
            " ".join(("cp", *options)),
            lambda: call("cp", *options, "-T", self.source, self.target),
            before or self.fresh,
        )


Sides = tuple[Contender, float, Contender]
"""What is compared: ours, the limit on the ratio, the peer."""
Comparison = Callable[[Bench], Sides]


def against_cp() -> Iterator[tuple[str, Comparison]]:
    """Link the tree in every way that cp has."""
    clone, never = ("-a", "--reflink=always"), ("-a", "--reflink=never")
    yield "clone", lambda bench: (bench.linker(LinkMode.CLONE), 1.15, bench.cp(*clone))
    yield "hardlink", lambda bench: (bench.linker(LinkMode.HARDLINK), 1.3, bench.cp("-al"))
    yield "copy", lambda bench: (bench.linker(LinkMode.COPY), 1.15, bench.cp(*never))
    yield (
        "clone into existing directories",
        lambda bench: (
            bench.linker(LinkMode.CLONE, bench.directories),
            1.5,
            bench.cp(*clone, before=bench.directories),
        ),
    )
    yield (
        "clone, replacing every file",
        lambda bench: (
            bench.linker(LinkMode.CLONE, bench.full),
            2.0,
            bench.cp(*clone, "--remove-destination", before=bench.full),
        ),
    )


def against_uv(bench: Bench, paths: list[str], limit: float) -> Sides:
    """Clone into a new environment, whole commands, start-up counted."""
    import uv

    env = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    env["UV_CACHE_DIR"] = os.path.join(bench.directory, "uv-cache")
    install = (
        *(uv.find_uv_bin(), "pip", "install", "--quiet", "--offline", "--no-index", "--no-deps"),
        *("--no-progress", "--link-mode=clone", "--python", sys.executable),
        *("--target", bench.target, *paths),
    )
    call(*install, env=env)  # warms the cache
    ours = (sys.executable, "-m", "linker", "--quiet", "--mode", "clone")
    return (
        Contender(
            "python -m linker",
            lambda: call(*ours, bench.source, bench.target, cwd=ROOT),
            bench.fresh,
        ),
        limit,
        Contender("uv pip install", lambda: call(*install, env=env), bench.fresh),
    )


def against_copytree(bench: Bench) -> Sides:
    """Copy beside Python's own."""
    return (
        bench.linker(LinkMode.COPY),
        0.5,
        Contender(
            "shutil.copytree",
            lambda: _copied_tree(bench.source, bench.target),
            bench.fresh,
        ),
    )


def _copied_tree(source: str, target: str) -> None:
    """Copy by `shutil`, with sendfile(2) as everywhere before Python 3.14, which would clone."""
    with patch.object(shutil, "_USE_CP_COPY_FILE_RANGE", new=False, create=True):
        shutil.copytree(source, target, symlinks=True)


_MEMORY = """
import sys
from linker import link_tree
def peak():  # VmHWM of proc_pid_status(5): what getrusage tells is inherited across exec
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024
began = peak()
link_tree(sys.argv[1], sys.argv[2], mode="clone")
print(peak() - began)
"""


def comparisons(paths: list[str]) -> Iterator[tuple[str, str, Comparison]]:
    """Give (filesystem, work, what is compared) of each row that has a filesystem of its own."""
    for filesystem, limit in (("btrfs", 1.3), ("xfs", 1.6)):
        for work, compare in against_cp():
            yield filesystem, f"{work}, {filesystem}", compare
        yield (
            filesystem,
            f"a new environment, whole command, {filesystem}",
            partial(against_uv, paths=paths, limit=limit),
        )
    for filesystem in ("btrfs", "xfs", "tmpfs"):
        yield filesystem, f"copy in Python, {filesystem}", against_copytree


def growth(directory: str) -> Iterator[Row]:
    """Time and memory of small and large trees."""

    def tree(files: int) -> str:
        path = os.path.join(directory, f"files-{files}")
        for number in range(files // 100):
            package = os.path.join(path, f"p{number // 100}", f"package{number}")
            os.makedirs(package)
            for module in range(100):
                with open(os.path.join(package, f"module{module}.py"), "wb") as file:
                    file.write(b"#" * 4096)
        return path

    target = os.path.join(directory, "grown")

    def fresh() -> None:
        call("rm", "-rf", target)
        os.sync()

    def each(files: int, path: str) -> Contender:
        def link() -> float:
            began = time.perf_counter()
            link_tree(path, target, mode=LinkMode.CLONE)
            return (time.perf_counter() - began) / files * 1e6

        return Contender(f"{files:,} files", link, fresh, figure=True)

    small, large = tree(1000), tree(100_000)
    yield Row(
        "clone, time a file, 100,000 files",
        each(100_000, large),
        1.3,
        each(1000, small),
        unit="µs",
    )

    def memory() -> float:
        result = subprocess.run(
            [sys.executable, "-c", _MEMORY, large, target],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=installed_environment(),
        )
        return float(result.stdout)

    yield Row(
        "memory over start-up, 100,000 files",
        Contender("linker", memory, fresh, figure=True),
        60,
        unit="MiB",
    )


_FIRST = """
import sys, time
from pytest_linkmode.config import Settings
from pytest_linkmode.layouts import Workshop
from pytest_linkmode.namespaces import find_place
place = find_place()
began = time.perf_counter()
workshop = Workshop(place, Settings())
workshop.directory("btrfs")
first = time.perf_counter() - began
began = time.perf_counter()
for _ in range(200):
    workshop.directory("btrfs")
more = (time.perf_counter() - began) / 200
workshop.close()
print((first if sys.argv[1] == "first" else more) * 1000)
"""


def filesystems() -> Iterator[Row]:
    """Make the first filesystem of a session, and a directory for one more test."""

    def ask(what: str) -> float:
        result = subprocess.run(
            [sys.executable, "-c", _FIRST, what],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=installed_environment(),
        )
        return float(result.stdout)

    first = Contender("plugin", lambda: ask("first"), figure=True)
    more = Contender("plugin", lambda: ask("more"), figure=True)
    yield Row("the first btrfs of a session", first, 40, unit="ms")
    yield Row("a directory on it, one more test", more, 0.2, unit="ms")


@contextmanager
def idle(directory: str) -> Iterator[list[Row]]:
    """Run a suite that does not use the plugin, with it and without."""
    path = os.path.join(directory, "idle")
    os.makedirs(path)
    with open(os.path.join(path, "test_idle.py"), "w", encoding="utf-8") as file:
        file.write("def test_idle():\n    assert 1 + 1 == 2\n")

    def suite(*options: str) -> float:
        began = time.perf_counter()
        call(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, cwd=path)
        return (time.perf_counter() - began) * 1000

    ours = Contender("with the plugin", suite, figure=True)
    peer = Contender("-p no:linkmode", lambda: suite("-p", "no:linkmode"), figure=True)
    os.sync()  # what other rows have left to be written out
    work = "a suite that does not use it"
    yield [Row(work, ours, 10, peer, unit="ms", difference=True, pairs=7)]


def main() -> int:
    """Measure everything; end with 1 if a limit was not kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="measurements a row (default 7)")
    parser.add_argument("--only", default="", metavar="WORD", help="only rows with this word")
    parser.add_argument("--json", metavar="PATH", help="write every measurement")
    parser.add_argument("--plot", metavar="PATH", help="write a picture (SVG)")
    parser.add_argument("--wheels", default=os.path.join(LINKMODE, "wheels"), metavar="DIRECTORY")
    given = parser.parse_args()
    pins = wheels.read_pins()
    paths = wheels.ensure_wheels(given.wheels, pins, print)
    tree = wheels.ensure_tree(LINKMODE, paths, pins).path
    place, done = find_place(), list[Row]()
    settings = Settings(image_size=512 << 30, image_dir=LINKMODE)

    @contextmanager
    def own(filesystem: str) -> Iterator[str]:
        """Lend a filesystem of its own, so that no row pays for what those before it left."""
        with closing(Workshop(place, settings)) as workshop:
            yield workshop.directory(filesystem)

    def run(rows: Iterable[Row]) -> None:
        chosen = [row for row in rows if given.only in row.work]
        measure.run(chosen, given.rounds)
        done.extend(chosen)

    for filesystem, work, compare in comparisons(paths):
        if given.only in work:
            with own(filesystem) as directory:
                ours, limit, peer = compare(Bench(filesystem, directory, tree))
                run([Row(work, ours, limit, peer)])
    with own("btrfs") as directory:
        run(growth(directory))
    run(filesystems())
    with own("tmpfs") as directory, idle(directory) as rows:
        run(rows)
    print(f"medians of {given.rounds}, in one run\n\n{measure.table(done)}")
    for path, text in ((given.json, measure.as_json), (given.plot, measure.plot)):
        if path:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text(done))
    return 0 if all(row.kept for row in done) else 1


if __name__ == "__main__":
    sys.exit(main())
