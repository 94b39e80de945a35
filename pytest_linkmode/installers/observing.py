"""Run a program in a cell, and see from disk what it did: to the target, the cache, and elsewhere.

Nothing a program prints is believed; what it says is only held against what happened. A bench is
one program with its warm cache in one layout; a cell is one installation on it.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from linker.modes import LinkMode
from pytest_linkmode.errors import LinkmodeError
from pytest_linkmode.evidence import evidence
from pytest_linkmode.faults.runner import FaultRunner, ProgramTimedOut
from pytest_linkmode.faults.running import Run
from pytest_linkmode.installers import sample
from pytest_linkmode.installers.kit import Kit
from pytest_linkmode.installers.programs import Command, Mode, Place, Program
from pytest_linkmode.installers.scenarios import HARDLINKED, KILLED, OPS, SYMLINKED, UMASK, Scenario
from pytest_linkmode.layouts import Layout

TIMEOUT = 60.0
USUAL_UMASK, HOSTILE_UMASK = 0o022, 0o077
DONE, FAILED, HUNG, KILLED_BY_US = "done", "failed", "hung", "killed"
OURS = "outside"
SAID = 600
"""Characters of what a program said that are kept."""

_FALLBACK = re.compile(
    r"[^\n]*(fall\w*[ -]back|cross-device link not permitted|asked for \w+, got)[^\n]*", re.I
)


@dataclass
class Observed:
    """What one cell showed.

    `found` counts the files of the sample by what the disk says of them, `missing` are those that
    are not there. `told` is what the program said of a fallback. `polluted` names files of the
    cache whose bytes, bits or times changed, `written` counts what else appeared there. `left` are
    names in the target that an undisturbed run does not leave. `fired` is how many calls the fault
    hit, `calls` how many of the mode's op there were.
    """

    ended: str = DONE
    status: int = 0
    found: dict[str, int] = field(default_factory=dict)
    missing: int = 0
    damaged: int = 0
    told: str = ""
    polluted: list[str] = field(default_factory=list)
    written: int = 0
    exec_bits: bool = True
    permissions: bool = True
    times: bool = True
    left: list[str] = field(default_factory=list)
    escaped: list[str] = field(default_factory=list)
    resumed: bool | None = None
    fired: int = 0
    calls: int = 0
    seconds: float = 0.0
    said: str = ""

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


class Bench:
    """One program with its warm cache in one layout."""

    def __init__(self, kit: Kit, layout: Layout, program: Program) -> None:
        self.kit = kit
        self.layout = layout
        self.program = program
        self.names: dict[str, frozenset[str]] = {}
        self.calls: dict[str, Mapping[str, int]] = {}
        self.works: set[str] = set()
        self.spoiled = False
        self._runner = FaultRunner()
        self._number = 0
        self._files = program.files()
        self._known = sample.digests(self._files)
        source = os.fspath(layout.source)
        self._cache, self._supply = os.path.join(source, "cache"), os.path.join(source, "supply")
        self._locks: dict[str, str] = {}
        for path in (self._cache, self._supply):
            os.mkdir(path)
        with umask(USUAL_UMASK):
            sample.write_wheel(self._supply)
            sample.write_tarball(self._supply)
            sample.write_tree(os.path.join(self._supply, "plain"), self._files)
            if program.warms:
                self._warm(os.path.join(source, "warm"))
        layout.seal()

    def _warm(self, target: str) -> None:
        """Fill the cache by an installation beside it. Raises LinkmodeError with what was said."""
        mode = self.program.modes[0]
        place = self._place(target)
        arguments = [word for word in self._command(place, mode).arguments if word not in _FROZEN]
        run = self._run(place, self._command(place, mode), arguments, ())
        if run.returncode:
            said = (run.stderr.strip() or run.stdout.strip())[-SAID:]
            raise LinkmodeError(f"{self.program.name} cannot be warmed", why=said)
        for name in self.program.locks:
            with open(os.path.join(target, name), encoding="utf-8") as file:
                self._locks[name] = file.read()
        shutil.rmtree(target)

    def _place(self, target: str) -> Place:
        home = f"{target}-home"
        os.makedirs(os.path.join(home, "tmp"), exist_ok=True)
        os.makedirs(target, exist_ok=True)
        return Place(self.kit, self._cache, self._supply, target, home)

    def _command(self, place: Place, mode: Mode) -> Command:
        command = self.program.command(place, mode)
        files = {**command.files, **self._locks}
        if command.cwd:
            for name, text in files.items():
                with open(os.path.join(command.cwd, name), "w", encoding="utf-8") as file:
                    file.write(text)
            if self.program.index == "npm":
                shutil.copy(os.path.join(self._supply, sample.TARBALL), command.cwd)
        return command

    def _run(self, place: Place, command: Command, arguments: object, faults: object) -> Run:
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": place.home,
            "XDG_CONFIG_HOME": os.path.join(place.home, ".config"),
            "TMPDIR": os.path.join(place.home, "tmp"),
            "LC_ALL": "C.UTF-8",
            "NO_COLOR": "1",
            "CI": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **command.env,
        }
        return self._runner.run(
            list(arguments),  # type: ignore[call-overload]
            faults=faults,  # type: ignore[arg-type]
            env=env,
            cwd=command.cwd or place.home,
            timeout=TIMEOUT,
            log=tuple(OPS.values()),
        )

    # One cell.

    def cell(self, mode: Mode, scenario: Scenario) -> Observed | None:
        """Install once; None where that would show nothing: no call to hit, nothing to finish."""
        if scenario.op and mode.word not in self.calls:
            self.cell(mode, Scenario("plain"))
        calls = self.calls.get(mode.word, {}).get(scenario.op, 0)
        if scenario.op and scenario.op != "copy" and not calls:
            return None
        if scenario.kind == KILLED and mode.word not in self.works:
            return None  # there is nothing that could be finished
        self._number += 1
        target = os.path.join(os.fspath(self.layout.target), f"{self._number}")
        place = self._place(target)
        outside = os.path.join(os.fspath(self.layout.target), f"{self._number}-{OURS}")
        command = self._command(place, mode)
        if scenario.kind in (SYMLINKED, HARDLINKED):
            self._make_hostile(scenario, place, outside)
        before = self._cached()
        seen = Observed(calls=calls)
        mask = HOSTILE_UMASK if scenario.kind == UMASK else USUAL_UMASK
        with umask(mask), self.layout.acting():
            try:
                run = self._run(place, command, command.arguments, scenario.faults(calls, target))
            except ProgramTimedOut as late:
                run, seen.ended = late.run, HUNG
        seen.status, seen.seconds = run.returncode, round(run.seconds, 3)
        seen.fired = sum(run.fired.values())
        said = f"{run.stdout}\n{run.stderr}".strip()
        seen.said = said.replace(os.fspath(self.layout.target), "TARGET").replace(
            os.fspath(self.layout.source), "SOURCE"
        )[-SAID:]
        told = _FALLBACK.search(said)
        seen.told = told[0].strip() if told else ""
        if seen.ended is not HUNG and run.returncode:
            seen.ended = KILLED_BY_US if scenario.kind == KILLED else FAILED
        self._look(place, seen)
        self._compare_cache(before, seen)
        if scenario.kind == "plain":
            self.names[mode.word] = frozenset(_names(target))
            inside = os.path.join(os.path.realpath(target), "")
            self.calls[mode.word] = Counter(
                call.op for call in run.calls if call.paths and call.paths[-1].startswith(inside)
            )
            seen.calls = self.calls[mode.word].get(OPS[mode.asks], 0)
            if seen.ended == DONE:
                self.works.add(mode.word)
        elif mode.word in self.names:
            seen.left = sorted(set(_names(target)) - self.names[mode.word])[:20]
        if os.path.isdir(outside):
            seen.escaped = self._escaped(outside)
        if scenario.kind == KILLED:
            self._resume(place, mode, seen)
        self._remove(target, place.home, outside)
        return seen

    def _resume(self, place: Place, mode: Mode, seen: Observed) -> None:
        """Install again where a run was killed, and see whether the package is whole then."""
        command = self._command(place, mode)
        try:
            again = self._run(place, command, command.arguments, ())
        except ProgramTimedOut:
            seen.resumed = False
            return
        after = Observed()
        self._look(place, after)
        seen.resumed = again.returncode == 0 and after.missing == 0 and after.damaged == 0
        if not seen.resumed:
            seen.said = f"{seen.said}\n{again.stdout}\n{again.stderr}".strip()[-SAID:]
        seen.left = sorted(set(_names(place.target)) - self.names[mode.word])[:20]

    def _make_hostile(self, scenario: Scenario, place: Place, outside: str) -> None:
        """Put something into the target that leads out of it."""
        os.mkdir(outside)
        victim = os.path.join(outside, "victim")
        with open(victim, "wb") as file:
            file.write(b"somebody else's\n")
        package = os.path.join(place.target, self.program.where)
        os.makedirs(os.path.dirname(package), exist_ok=True)
        if scenario.kind == SYMLINKED:
            os.symlink(outside, package)
        else:
            os.makedirs(package)
            os.link(victim, os.path.join(package, "part-0.js"))

    def _escaped(self, outside: str) -> list[str]:
        """Return what was done to the directory outside."""
        wrong = [name for name in os.listdir(outside) if name != "victim"]
        victim = os.path.join(outside, "victim")
        if not os.path.exists(victim):
            wrong.append("victim is gone")
        else:
            with open(victim, "rb") as file:
                if file.read() != b"somebody else's\n":
                    wrong.append("victim was written to")
        return sorted(wrong)

    def _origins(self) -> dict[str, str]:
        """Return digest -> the file of the cache, or else of the plain tree."""
        found: dict[str, str] = {}
        for root in (os.path.join(self._supply, "plain"), self._cache):
            for path in _files(root):
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode) and status.st_size >= sample.LARGE // 2:
                    known = sample.digest(path)
                    if known in self._known:
                        found[known] = path
        return found

    def _look(self, place: Place, seen: Observed) -> None:
        """See what became of the sample in the target."""
        origins = self._origins()
        counted: Counter[str] = Counter()
        there: set[str] = set()
        names = {os.path.basename(name) for name in self._files}
        real: set[str] = set()
        for path in _files(place.target, follow=True):
            home = os.path.realpath(path)
            if os.path.basename(path) not in names or home in real:
                continue
            real.add(home)
            known = sample.digest(path) if os.path.exists(path) else ""
            if known not in self._known:
                seen.damaged += os.path.basename(path) not in ("package.json", "METADATA", "WHEEL")
                continue
            there.add(known)
            if home.startswith((self._cache + os.sep, self._supply + os.sep)):
                counted[LinkMode.SYMLINK.value] += 1
                continue
            if known not in origins:
                counted["unknown"] += 1
                continue
            counted[evidence(origins[known], path).found] += 1
            self._compare_stat(self._known[known], origins[known], path, seen)
        seen.found = dict(counted.most_common())
        seen.missing = len(self._known) - len(there)

    def _compare_stat(self, name: str, origin: str, path: str, seen: Observed) -> None:
        """Hold bits and time against the file that was linked; exec bits against the package."""
        before, after = os.stat(origin), os.stat(path)
        executable = bool(self._files[name][1] & 0o100)
        seen.exec_bits &= bool(after.st_mode & 0o100) == executable
        seen.permissions &= stat.S_IMODE(after.st_mode) == stat.S_IMODE(before.st_mode)
        seen.times &= after.st_mtime_ns == before.st_mtime_ns

    def _cached(self) -> dict[str, tuple[object, ...]]:
        """Return what must not change about the cache: bytes, bits and times of its files."""
        found: dict[str, tuple[object, ...]] = {}
        for path in _files(self._cache):
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                known = sample.digest(path)
                found[path] = (known, status.st_mode, status.st_mtime_ns)
        return found

    def _compare_cache(self, before: Mapping[str, tuple[object, ...]], seen: Observed) -> None:
        after = self._cached()
        for path, (known, *rest) in before.items():
            if known not in self._known:
                continue
            if path not in after:
                seen.polluted.append(f"{os.path.basename(path)}: gone")
            elif after[path][0] != known:
                seen.polluted.append(f"{os.path.basename(path)}: other bytes")
            elif list(after[path][1:]) != rest:
                seen.polluted.append(f"{os.path.basename(path)}: other bits or time")
        seen.written = len(after.keys() - before.keys())
        self.spoiled = self.spoiled or bool(seen.polluted)

    def _remove(self, *paths: str) -> None:
        for path in paths:
            shutil.rmtree(path, ignore_errors=True)


_FROZEN = ("--frozen-lockfile",)
"""What warming leaves out: it makes the lock."""


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Have a umask while the context lasts."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _files(root: str, *, follow: bool = False) -> Iterator[str]:
    seen: set[str] = set()
    for above, directories, names in os.walk(root, followlinks=follow):
        real = os.path.realpath(above)
        if real in seen:
            directories.clear()
            continue
        seen.add(real)
        for name in names:
            yield os.path.join(above, name)


def _names(root: str) -> Iterator[str]:
    for above, directories, names in os.walk(root):
        for name in (*directories, *names):
            yield os.path.relpath(os.path.join(above, name), root)
