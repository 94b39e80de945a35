"""Races of the real uv, told in a table: docs/uv-races.md is written by this.

    python -m scripts.uv_races          explores, and writes the page
    python -m scripts.uv_races --quick  a few schedules of each, on standard output

Two `uv pip install` of tiny wheels that share a namespace package, into one environment; then one,
with somebody else acting just before each of its calls that make, move or remove a name. What uv
does is an observation, with its version: nothing here calls it right or wrong.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pytest_linkmode.faults.fresh import empty
from pytest_linkmode.interleave import Event, Execution, Explored, Interleaver
from scripts.memory import in_memory

PAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "docs/uv-races.md")
MODES = ("clone", "hardlink", "copy", "symlink")
ONE_THREAD = ("UV_CONCURRENT_INSTALLS", "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS")
"""With these at 1 uv makes the same calls every time."""
SHARED = "ns/__init__.py"
SHOWN = 4
"""How many calls are named in one cell."""

HEAD = """# Races of uv

Written by `python -m scripts.uv_races`: {version}, one thread each, cache and
environment on {place}. Every schedule is a run of the real programs, held at their calls below the
environment (see [interleave](interleave.md)). These are observations of one version, made to show
what schedules find in a real program; no test of this project depends on them.
"""
PAIR = """
## Two `uv pip install` into one environment

The wheels `one` and `two` share `ns/`, with an `ns/__init__.py` each. Every schedule with at most
one preemption was run. uv takes a lock on the environment; "no locks" answers it with success
without taking it, as a filesystem without locks does.

| link mode | locks | schedules | what came of it (schedules) |
|---|---|---|---|
"""
SURPRISES = """
## One `uv pip install`, and somebody else just before each of its calls

In each row the action happened before each call to which it applies, in a run of its own.

| just before a call | runs | what came of it (runs: before which calls) |
|---|---|---|
"""


def packaged(place: str, name: str) -> str:
    """Make a wheel with a share in the namespace package; return its path."""
    files = {SHARED: f"owner = {name!r}\n" * (len(name) + 1), f"ns/{name}.py": "value = 1\n"}
    about = f"{name}-1.0.dist-info"
    meta = {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
        f"{about}/RECORD": "".join(f"{path},,\n" for path in (*files, f"{about}/RECORD")),
    }
    wheel = f"{place}/{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in (files | meta).items():
            archive.writestr(path, content)
    return wheel


@dataclass
class Races:
    """uv with a warm cache, and the environment that is put back before each schedule."""

    place: str
    program: str
    interleaver: Interleaver = field(default_factory=Interleaver)
    names: tuple[str, ...] = ("one", "two")

    def __post_init__(self) -> None:
        self.target, self.outside = f"{self.place}/environment", f"{self.place}/outside"
        self._wheels = {name: packaged(self.place, name) for name in self.names}
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
        cache = {"UV_CACHE_DIR": f"{self.place}/cache"}
        self._env = {**kept, **cache, **dict.fromkeys(ONE_THREAD, "1")}
        self.prepare()
        for name in self.names:
            self._plain(*self.command(name, "copy"))
        self.version = self._plain(self.program, "--version").strip()

    def _plain(self, *command: str) -> str:
        return subprocess.run(
            command, env=self._env, capture_output=True, text=True, check=True
        ).stdout

    def command(self, name: str, mode: str) -> list[str]:
        """Return the command that installs a wheel."""
        return [
            *(self.program, "pip", "install", "--offline", "--no-config", "--no-index"),
            *("--link-mode", mode, "--python", sys.executable, "--target", self.target),
            self._wheels[name],
        ]

    def prepare(self) -> None:
        """Put the environment, and what lies outside, back as they were."""
        for place in (self.target, self.outside):
            if os.path.islink(place):
                os.unlink(place)
            os.makedirs(place, exist_ok=True)
            empty(place)
        with open(f"{self.outside}/file", "w", encoding="ascii") as file:
            file.write("theirs")

    def pair(self, mode: str, *, locks: bool, budget: int | None = None) -> tuple[Explored, Told]:
        """Explore two installations with at most one preemption; return what came of them."""
        told = Told()

        def check(execution: Execution) -> None:
            told.add(self.outcome(execution))

        explored = self.interleaver.programs(
            {name.capitalize(): self.command(name, mode) for name in self.names},
            check=check,
            below=[self.target],
            prepare=self.prepare,
            env=self._env,
            locks=locks,
            preemptions=1,
            budget=budget,
        )
        return explored, told

    def surprised(self, what: str, mode: str, budget: int | None = None) -> tuple[int, Told]:
        """Let something happen before each call; return how often it applied, and what came of it.

        `what` is one of `ACTIONS`.
        """
        told, action, applied = Told(), ACTIONS[what], Counter[bool]()

        def act(call: Event) -> str:
            return called(self, call) if action(self, call.paths[-1]) else ""

        def check(execution: Execution) -> None:
            before = execution.outcomes[1].value
            applied[bool(before)] += 1
            if before:
                told.add(self.outcome(execution, self.names[:1]), before)

        self.interleaver.programs(
            {"One": self.command("one", mode), "Other": act},
            check=check,
            below=[self.target],
            prepare=self.prepare,
            env=self._env,
            preemptions=1,
            budget=budget,
        )
        return applied[True], told

    def outcome(self, execution: Execution, names: tuple[str, ...] | None = None) -> str:
        """Return in words how the programs ended and what they left."""
        names = names or self.names
        parts = []
        ended = [execution.outcomes[number].result().returncode for number in range(len(names))]
        if not any(ended):
            parts.append("succeeds" if len(names) == 1 else "both succeed")
        for name, status in zip(names, ended, strict=True):
            lost = self._lost(name)
            if status:
                parts.append(f"{name} ends with {status}")
            elif lost:
                parts.append(f"{name} lacks {', '.join(lost)}")
        if len(names) > 1 and not any(ended):
            parts.append(f"`{SHARED}` is {self._owner()}")
        if self._touched_outside():
            parts.append("writes outside")
        return ", ".join(parts)

    def _lost(self, name: str) -> list[str]:
        record = f"{self.target}/{name}-1.0.dist-info/RECORD"
        try:
            with open(record, encoding="utf-8") as lines:
                paths = [line.split(",")[0] for line in lines]
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return ["its RECORD"]
        return [path for path in paths if not os.path.exists(f"{self.target}/{path}")]

    def _owner(self) -> str:
        with open(f"{self.target}/{SHARED}", encoding="utf-8") as file:
            content = file.read()
        for name in self.names:
            if content == f"owner = {name!r}\n" * (len(name) + 1):
                return f"{name}'s"
        return "of nobody"

    def _touched_outside(self) -> bool:
        with open(f"{self.outside}/file", encoding="ascii") as file:
            return file.read() != "theirs" or os.listdir(self.outside) != ["file"]


class Told:
    """What came of many runs: in words, how often, and before which calls."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._calls: dict[str, dict[str, None]] = {}

    def add(self, words: str, call: str = "") -> None:
        """Count one run."""
        self.counts[words] += 1
        if call:
            self._calls.setdefault(words, {})[call] = None

    def __str__(self) -> str:
        rows = []
        for words, count in self.counts.most_common():
            calls = list(self._calls.get(words, ()))
            more = f" and {len(calls) - SHOWN} more" if len(calls) > SHOWN else ""
            shown = f": {', '.join(calls[:SHOWN])}{more}" if calls else ""
            rows.append(f"{words} ({count}{shown})")
        return "<br>".join(rows)


Action = Callable[[Races, str], bool]
"""Does something about a path; returns False where it does not apply."""


def _appears(make: Callable[[Races, str], object]) -> Action:
    def act(races: Races, path: str) -> bool:
        if os.path.lexists(path):
            return False
        make(races, path)
        return True

    return act


def _vanishes(_races: Races, path: str) -> bool:
    if not os.path.lexists(path) or os.path.isdir(path):
        return False
    os.unlink(path)
    return True


def _parent_vanishes(races: Races, path: str) -> bool:
    above = os.path.dirname(path)
    if not above.startswith(races.target + "/"):
        return False
    shutil.rmtree(above)
    return True


ACTIONS: Mapping[str, Action] = {
    "a file of that name appears": _appears(lambda _, path: open(path, "xb").close()),
    "a directory of that name appears": _appears(lambda _, path: os.mkdir(path)),
    "a symlink of that name to a file outside appears": _appears(
        lambda races, path: os.symlink(f"{races.outside}/file", path)
    ),
    "a symlink of that name to a directory outside appears": _appears(
        lambda races, path: os.symlink(races.outside, path)
    ),
    "the file of that name vanishes": _vanishes,
    "its directory vanishes": _parent_vanishes,
}


def called(races: Races, call: Event) -> str:
    """Return a call in a few words that are the same every time."""
    path = os.path.relpath(call.paths[-1], races.target)
    above, name = os.path.split(path)
    if name.startswith(".tmp"):
        name = ".tmp…"
    return f"`{call.name} {os.path.join(above, name)}`"


def page(races: Races, place: str, budget: int | None = None) -> Iterator[str]:
    """Yield the page, line by line as it becomes known."""
    yield HEAD.format(version=races.version, place=place)
    yield PAIR
    for mode in MODES:
        for locks in (True, False):
            explored, told = races.pair(mode, locks=locks, budget=budget)
            count = f"{explored.counts.ran}{'' if not explored.counts.waiting else ' of more'}"
            yield f"| {mode} | {'locks' if locks else 'no locks'} | {count} | {told} |\n"
    yield SURPRISES
    for what in ACTIONS:
        runs, told = races.surprised(what, "copy", budget)
        yield f"| {what} | {runs} | {told} |\n"


@contextmanager
def gathered() -> Iterator[Races]:
    """Give uv a place of its own, in memory where possible."""
    import uv

    with in_memory("uv-races-") as place:
        yield Races(place, os.fsdecode(uv.find_uv_bin()))


def main() -> None:
    """Write the page, or show a few schedules."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few schedules, on standard output")
    quick = parser.parse_args().quick
    with gathered() as races:
        lines = []
        for line in page(races, "tmpfs", 4 if quick else None):
            print(line, end="", flush=True)
            lines.append(line)
    if not quick:
        with open(PAGE, "w", encoding="utf-8") as file:
            file.write("".join(lines))


if __name__ == "__main__":
    main()
