"""The main job: real wheels, linked in every mode on every layout that this machine can make.

Gets the wheels, unpacks them once, and for each layout puts the tree on the source's filesystem
and links it to the target's with the reference linker, in each mode. What then happened to every
file is proven by evidence (`scripts.cells`) and shown as a table and as JSON
(`scripts.matrix_output`). Exit status: 0 if everything is as expected, 1 if anything differs, 2 if
the request cannot be served.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from linker import LinkError, LinkMode, link_tree
from pytest_linkmode import layouts, namespaces
from pytest_linkmode.config import DIRECTORY_VARIABLE, Settings
from pytest_linkmode.errors import LinkmodeError, Unavailable, UsageError
from pytest_linkmode.evidence import evidence_tree
from pytest_linkmode.filesystems import FILESYSTEMS, registry
from pytest_linkmode.layouts import LayoutSpec, Workshop
from scripts import bootstrap, cells, wheels
from scripts.cells import Cell, Snapshot
from scripts.matrix_output import Gap, Outcome, Screen, as_json, in_own_words, summary

AS_EXPECTED, DIFFERS, CANNOT = 0, 1, 2
INTERRUPTED, TERMINATED = 130, 143

WHEELS = os.path.join(bootstrap.STATE, "wheels")
IMAGES = os.path.join(bootstrap.STATE, "images")
JSON = os.path.join(bootstrap.STATE, "matrix.json")

LEAST_IMAGE = 1 << 30
ROOM = 5
"""An image is so many times as large as the tree: source, target, what is being freed, metadata.

It is sparse; what a run really takes is about twice the tree for each filesystem.
"""


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line."""

    fs: tuple[str, ...] | None
    layout: tuple[str, ...] | None
    modes: tuple[LinkMode, ...]
    dirs: tuple[tuple[str, str], ...]
    quick: bool
    json: str
    sudo: bool


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.replace(",", " ").split()))


def _modes(text: str) -> tuple[LinkMode, ...]:
    try:
        return tuple(dict.fromkeys(LinkMode.parse(word) for word in _words(text)))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _directory(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if not name or not os.path.isdir(path):
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=PATH, PATH a directory")
    return name, os.path.abspath(path)


def parse_arguments(arguments: Sequence[str]) -> Request:
    """Read the command line; prints the help or what is wrong, and exits, where that is due."""
    parser = argparse.ArgumentParser(
        prog="run-matrix",
        description="Link real wheels in every link mode on every layout that this machine can "
        "make, and prove from disk what happened to every file.",
        epilog="exit status: 0 all as expected, 1 something differs, 2 cannot be served",
    )
    parser.add_argument(
        "--fs",
        type=_words,
        metavar="NAMES",
        help="only these filesystems and their layouts, as in btrfs,xfs; one that cannot be had "
        f"is an error (known: {', '.join(FILESYSTEMS)})",
    )
    parser.add_argument(
        "--layout",
        type=_words,
        metavar="NAMES",
        help="only these layouts, as in btrfs,btrfs:tmpfs; 'pairs': all pairs of the filesystems",
    )
    parser.add_argument(
        "--modes",
        type=_modes,
        default=tuple(LinkMode),
        metavar="NAMES",
        help="only these link modes, as in clone,hardlink",
    )
    parser.add_argument(
        "--dir",
        dest="dirs",
        type=_directory,
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="use a directory that is there as this filesystem, as in btrfs=/mnt/b; may be given "
        "again (also LINKMODE_DIR_BTRFS in the environment)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="only the small wheels: a look at the machine"
    )
    parser.add_argument(
        "--json",
        default=JSON,
        metavar="PATH",
        help=f"where the JSON goes (default: {os.path.relpath(JSON, bootstrap.ROOT)})",
    )
    parser.add_argument(
        "--no-sudo",
        dest="sudo",
        action="store_false",
        help="stay an ordinary user even where sudo asks for no password",
    )
    given = vars(parser.parse_args(arguments))
    return Request(**{**given, "dirs": (*environment_directories(os.environ), *given["dirs"])})


def environment_directories(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return what LINKMODE_DIR_BTRFS and its like name: pairs of filesystem and directory."""
    return tuple(
        (variable.removeprefix(DIRECTORY_VARIABLE).lower().replace("_", "-"), path)
        for variable, path in sorted(environ.items())
        if variable.startswith(DIRECTORY_VARIABLE) and path
    )


def chosen(request: Request) -> tuple[LayoutSpec, ...]:
    """Return the layouts that are asked for; without a wish, those of every filesystem."""
    return layouts.select(request.fs or tuple(FILESYSTEMS), request.layout)


def free_memory() -> int:
    """Return how many bytes can be taken without pushing anybody out, by kernel and cgroup."""
    free = 0
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) << 10
    with contextlib.suppress(OSError, ValueError):
        group = "/sys/fs/cgroup"
        with (
            open(f"{group}/memory.max", encoding="ascii") as limit,
            open(f"{group}/memory.current", encoding="ascii") as used,
        ):
            free = min(free, int(limit.read()) - int(used.read()))
    return free


def settings_for(
    tree: wheels.Tree, specs: Sequence[LayoutSpec], dirs: Mapping[str, str]
) -> Settings:
    """Return the settings of the filesystems: images in memory where there is plenty, else on disk.

    Every filesystem holds the source and, for the time of a cell, a target; plenty is twice what
    all of them take together.
    """
    names = {name for spec in specs for name in (spec.source, spec.target)}
    needed = 2 * tree.bytes * len(names)
    image_dir = None if free_memory() > 2 * needed else IMAGES
    if image_dir is not None:
        os.makedirs(image_dir, exist_ok=True)
    size = max(LEAST_IMAGE, ROOM * tree.bytes)
    return Settings(dirs=dirs, image_dir=image_dir, image_size=size)


def machine(settings: Settings, kind: str) -> dict[str, Any]:
    """Return what a reader of the JSON needs to know about where it was made."""
    system = platform.system()
    with contextlib.suppress(OSError):
        system = platform.freedesktop_os_release().get("PRETTY_NAME", system)
    return {
        "system": system,
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "pytest-linkmode": version("pytest-linkmode"),
        "user": "root" if os.geteuid() == 0 else "ordinary",
        "mounts": kind,
        "images": "memory" if settings.image_dir is None else "disk",
    }


class Matrix:
    """The run of one matrix: a workshop, warm sources on it, and a cell for each mode."""

    def __init__(self, workshop: Workshop, tree: wheels.Tree, screen: Screen) -> None:
        self._workshop = workshop
        self._tree = tree
        self._screen = screen

    def gap(self, spec: LayoutSpec) -> Gap | None:
        """Place a layout; return why it cannot be had here, if so."""
        self._screen.doing(f"{spec.name}: placing")
        try:
            self._workshop.place(spec)
        except Unavailable as missing:
            what = f"{missing.what}: {missing.why}" if missing.why else missing.what
            return Gap(spec.name, what, missing.checked, missing.mends)
        return None

    @contextlib.contextmanager
    def warm(self, spec: LayoutSpec) -> Iterator[str]:
        """Put the tree on the source's filesystem while the context lasts; return where."""
        source, _ = self._workshop.fresh(spec)
        path = os.path.join(source, "tree")
        self._screen.doing(f"{spec.name}: putting {self._tree.files:,} files on the source")
        try:
            shutil.copytree(self._tree.path, path, symlinks=True)
            yield path
        finally:
            shutil.rmtree(path)

    def cell(self, spec: LayoutSpec, source: str, mode: LinkMode, before: Snapshot) -> Cell:
        """Link `source`, which is as `before`, to a fresh target; prove it; remove the target."""
        layout = self._workshop.layout(spec)
        expected = layout.expect(mode)
        target = os.path.join(layout.target, "tree")
        doing = f"{spec.name} {mode}"
        try:
            self._screen.doing(f"{doing}: linking")
            start = time.perf_counter()
            try:
                report = link_tree(source, target, mode=mode)
            except LinkError as error:
                took = time.perf_counter() - start
                told = tuple(str(error).splitlines())
                return Cell(
                    spec.name, str(mode), str(expected), differences=1, told=told, linked_in=took
                )
            linked = time.perf_counter()
            self._screen.doing(f"{doing}: proving")
            found = evidence_tree(source, target)
            cell = cells.judge(
                spec.name,
                mode,
                expected,
                found,
                cells.touched(before, cells.snapshot(source)),
                report,
                layout.can,
            )
            proven = time.perf_counter()
            return replace(cell, linked_in=linked - start, proven_in=proven - linked)
        finally:
            self._screen.doing(f"{doing}: removing")
            shutil.rmtree(target, ignore_errors=True)

    def run(self, specs: Sequence[LayoutSpec], modes: Sequence[LinkMode]) -> Iterator[Cell]:
        """Yield one cell for each layout and mode, layouts with one source together."""
        for _, group in itertools.groupby(specs, key=self._source_root):
            layouts_of_source = tuple(group)
            with self.warm(layouts_of_source[0]) as source:
                before = cells.snapshot(source)
                for spec, mode in itertools.product(layouts_of_source, modes):
                    cell = self.cell(spec, source, mode, before)
                    self._screen.finished(cell)
                    yield cell

    def _source_root(self, spec: LayoutSpec) -> str:
        return self._workshop.place(spec).source_root


def distinct(workshop: Workshop, specs: Sequence[LayoutSpec]) -> tuple[dict[str, str], set[str]]:
    """Return which places of the machine lie on the filesystem of another, and the names to use.

    The home directory is often on the disk that the temporary directory is on: linking everything
    there once more would show nothing new.
    """
    first: dict[int, str] = {}
    same: dict[str, str] = {}
    names = dict.fromkeys(name for spec in specs for name in (spec.source, spec.target))
    for name in names:
        with contextlib.suppress(Unavailable):  # that is told where the layout is placed
            device = os.stat(workshop.filesystem(name).path).st_dev
            if FILESYSTEMS[name].machine and device in first:
                same[name] = first[device]
            first.setdefault(device, name)
    return same, names.keys() - same.keys()


def demanded(request: Request, missing: Sequence[Gap], specs: Sequence[LayoutSpec]) -> list[Gap]:
    """Return the gaps in what was asked for by name: these end the run, the others are told."""
    names = set(request.layout or ()) | set(request.fs or ())
    by_name = {gap.layout: gap for gap in missing}
    return [by_name[spec.name] for spec in specs if spec.name in names and spec.name in by_name]


def run(
    request: Request, specs: Sequence[LayoutSpec], tree: wheels.Tree, screen: Screen
) -> Outcome:
    """Make the filesystems, run every cell, and leave nothing behind."""
    start = time.monotonic()
    for finding in registry.clean():
        undone = finding.action == registry.UNDONE
        what = "removed" if undone else f"{finding.action}, {finding.why}"
        screen.say(f"left behind by process {finding.pid}, which is gone: {finding.path} ({what})")
    settings = settings_for(tree, specs, dict(request.dirs))
    place = namespaces.find_place()
    workshop = Workshop(place, settings)
    try:
        if request.fs is None and request.layout is None:
            same, names = distinct(workshop, specs)
            specs = [spec for spec in specs if {spec.source, spec.target} <= names]
            for name, other in same.items():
                screen.say(f"{name} is left out, being the same filesystem as {other}")
        matrix = Matrix(workshop, tree, screen)
        found = {spec: matrix.gap(spec) for spec in specs}
        missing = tuple(gap for gap in found.values() if gap is not None)
        refused = demanded(request, missing, specs)
        if refused:
            first = refused[0]
            what = f"{first.layout} was asked for, but {first.why}"
            raise Unavailable(what, checked=first.checked, mends=first.mends)
        can = [spec for spec, gap in found.items() if gap is None]
        screen.total = len(can) * len(request.modes)
        done = tuple(matrix.run(can, request.modes))
    finally:
        screen.doing("unmounting")
        workshop.close()
        if settings.image_dir is not None:
            with contextlib.suppress(OSError):
                os.rmdir(settings.image_dir)
    seconds = time.monotonic() - start
    return Outcome(tree, done, missing, seconds, machine(settings, place.kind))


def check_writable(path: str) -> None:
    """Raise UsageError if the JSON could not be written in the end, before all the work."""
    directory = os.path.dirname(path)
    if not os.access(directory, os.W_OK | os.X_OK) or os.path.isdir(path):
        raise UsageError(f"--json {path}", why="not a file in a directory that can be written to")


def write_json(outcome: Outcome, path: str) -> None:
    """Write the JSON, all of it or nothing; what sudo wrote belongs to who called sudo."""
    part = f"{path}.part-{os.getpid()}"
    with open(part, "w", encoding="utf-8") as file:
        json.dump(as_json(outcome), file, indent=2)
        file.write("\n")
    if os.geteuid() == 0 and "SUDO_UID" in os.environ:
        os.chown(part, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))
    os.replace(part, path)


def become_root(request: Request, arguments: Sequence[str]) -> None:
    """Go on as root where sudo asks for no password; return where it does, or we are root.

    The wheels have been unpacked by then, so that what lasts belongs to the user.
    """
    prefix = bootstrap.elevation()
    if not prefix or not request.sudo:
        return
    command = [*prefix, "env", "PYTHONDONTWRITEBYTECODE=1", sys.executable, "-P", "-m"]
    os.execv(command[0], [*command, "scripts.matrix", *arguments, "--json", request.json])


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the main job; return the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    request = parse_arguments(given)
    request = replace(request, json=os.path.abspath(request.json))
    pins = wheels.read_pins(quick=request.quick)
    with Screen() as screen:
        try:
            check_writable(request.json)
            specs = chosen(request)
            paths = wheels.ensure_wheels(WHEELS, pins, screen.say)
            screen.doing("unpacking the wheels")
            tree = wheels.ensure_tree(WHEELS, paths, pins)
            screen.clear()
            become_root(request, given)
            screen.say(
                f"{tree.files:,} files, {tree.directories:,} directories, "
                f"{tree.bytes / 1e6:,.0f} MB: {', '.join(tree.wheels)}"
            )
            outcome = run(request, specs, tree, screen)
        except (UsageError, Unavailable, wheels.WheelsError) as error:
            screen.say(f"error: {in_own_words(str(error))}")
            return CANNOT
        except OSError as error:
            screen.say(f"error: the tree could not be put there or taken away: {error}")
            return CANNOT
        except LinkmodeError as error:
            screen.say(f"error: {error}")
            return DIFFERS
        except KeyboardInterrupt:
            screen.say("interrupted; everything made was removed again")
            return INTERRUPTED
    write_json(outcome, request.json)
    print(summary(outcome))
    print(f"As JSON: {os.path.relpath(request.json)}")
    if not outcome.cells:
        return CANNOT
    return AS_EXPECTED if outcome.ok else DIFFERS


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # unwinds, and so undoes
    sys.exit(main())
