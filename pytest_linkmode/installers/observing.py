"""Run a program in a cell, and see from disk what it did: to the target, the cache, and elsewhere.

Nothing a program prints is believed; what it says is only held against what happened. A bench is
one program with its warm cache in one layout; a cell is one installation on it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from linker.modes import LinkMode
from pytest_linkmode.errors import LinkmodeError, Unavailable
from pytest_linkmode.evidence import evidence
from pytest_linkmode.faults.log import Call
from pytest_linkmode.faults.runner import FaultRunner, ProgramTimedOut
from pytest_linkmode.faults.running import Run
from pytest_linkmode.installers import racing, sample, scenarios
from pytest_linkmode.installers.disturbing import (
    AS_USER,
    DISTURBANCES,
    FOREIGN,
    IN_THE_CACHE,
    ODD,
    ORDINARY,
    Scene,
)
from pytest_linkmode.installers.kit import Kit
from pytest_linkmode.installers.programs import Command, Mode, Place, Program
from pytest_linkmode.installers.scenarios import (
    HARDLINKED,
    KILLED,
    OPS,
    RACE,
    SYMLINKED,
    UMASK,
    Scenario,
)
from pytest_linkmode.interleave.world import Diverged
from pytest_linkmode.layouts import Layout
from pytest_linkmode.processes import which

TIMEOUT = 60.0
USUAL_UMASK, HOSTILE_UMASK = 0o022, 0o077
DONE, FAILED, HUNG, CRASHED, KILLED_BY_US = "done", "failed", "hung", "crashed", "killed"
OUTSIDE = "outside"
LEFT = 20
"""Names of what was left that are kept."""
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
    cache, or of what is given instead of one, whose bytes, bits or times changed; `written` counts
    what else appeared there. `left` are names in the target that an undisturbed run does not leave,
    `temporary` what is left of temporary files; `home` are files written to the home directory,
    `beside` what appeared beside the target or the cache, and `escaped` what was done where a
    symlink or hard link in the target led to. `fired` is how many calls the fault hit, `calls` how
    many of the mode's op there were.
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
    temporary: list[str] = field(default_factory=list)
    home: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    escaped: list[str] = field(default_factory=list)
    resumed: bool | None = None
    fired: int = 0
    calls: int = 0
    seconds: float = 0.0
    said: str = ""

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


@dataclass(frozen=True)
class _Attempt:
    """One installation: where, how, and what is done to it; `outside` is a directory that a hostile
    target leads to.
    """

    place: Place
    mode: Mode
    command: Command
    scenario: Scenario

    @property
    def outside(self) -> str:
        return os.path.join(self.place.around, OUTSIDE)


class Bench:
    """One program with its warm cache in one layout."""

    def __init__(self, kit: Kit, layout: Layout, program: Program) -> None:
        self.kit = kit
        self.layout = layout
        self.program = program
        self.names: dict[str, frozenset[str]] = {}
        self.calls: dict[str, Mapping[str, Sequence[int]]] = {}
        self.works: set[str] = set()
        self._moments: dict[str, int] = {}
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
        self._beside = frozenset(os.listdir(source))

    def _warm(self, around: str) -> None:
        """Fill the cache by an installation beside it. Raises LinkmodeError with what was said."""
        mode = self.program.modes[0]
        place = self._place(around)
        arguments = [word for word in self._command(place, mode).arguments if word not in _FROZEN]
        run = self._run(place, self._command(place, mode), arguments, ())
        if run.returncode:
            said = (run.stderr.strip() or run.stdout.strip())[-SAID:]
            raise LinkmodeError(f"{self.program.name} cannot be warmed", why=said)
        for name in self.program.locks:
            with open(os.path.join(place.target, name), encoding="utf-8") as file:
                self._locks[name] = file.read()
        shutil.rmtree(around)

    def _place(self, around: str) -> Place:
        place = Place(self.kit, self._cache, self._supply, around)
        os.makedirs(place.temporary)
        os.makedirs(place.target)
        return place

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

    def _environment(self, place: Place, command: Command) -> dict[str, str]:
        return {
            # What else a user has there is none of theirs.
            "PATH": os.pathsep.join((os.path.dirname(sys.executable), os.defpath)),
            "HOME": place.home,
            "XDG_CONFIG_HOME": os.path.join(place.home, ".config"),
            "TMPDIR": place.temporary,
            "LC_ALL": "C.UTF-8",
            "NO_COLOR": "1",
            "CI": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **command.env,
        }

    def _run(self, place: Place, command: Command, arguments: object, faults: object) -> Run:
        return self._runner.run(
            list(arguments),  # type: ignore[call-overload]
            faults=faults,  # type: ignore[arg-type]
            env=self._environment(place, command),
            cwd=command.cwd or place.home,
            timeout=TIMEOUT,
            log=tuple(OPS.values()),
        )

    # One cell.

    def cell(self, mode: Mode, scenario: Scenario) -> Observed | None:
        """Install once; None where that would show nothing: no call to hit, nothing to finish."""
        if (scenario.op or scenario.kind == RACE) and mode.word not in self.calls:
            self.cell(mode, Scenario("plain"))
        calls = self.calls.get(mode.word, {}).get(scenario.op, ())
        if scenario.op and not calls:
            return None
        if scenario.kind in (KILLED, RACE) and mode.word not in self.works:
            return None  # there is nothing that could be finished
        cached = self._cached_files() if scenario.kind in DISTURBANCES else {}
        if scenario.kind in IN_THE_CACHE and not cached:
            return None
        place = self._fresh()
        attempt = _Attempt(place, mode, self._command(place, mode), scenario)
        outside = attempt.outside
        if scenario.kind in (SYMLINKED, HARDLINKED):
            self._make_hostile(scenario, place, outside)
        elif scenario.kind == RACE:
            self._make_outside(outside)
        before = self._cached()
        seen = Observed(calls=len(calls))
        with self._disturbed(scenario, place, cached):
            run = self._install(attempt, seen)
            self._look(place, seen)
            self._compare_cache(before, seen)
            if scenario.kind == "plain":
                self._learn(mode, run, place, seen)
            elif mode.word in self.names:
                seen.left = self._left(place.target, mode)
            self._look_around(place, seen)
            if os.path.isdir(outside):
                seen.escaped = self._escaped(outside)
            if scenario.kind == KILLED:
                self._resume(place, mode, seen)
        shutil.rmtree(place.around, ignore_errors=True)
        return seen

    def _fresh(self) -> Place:
        """Make a new target."""
        self._number += 1
        return self._place(os.path.join(os.fspath(self.layout.target), f"{self._number}"))

    @contextmanager
    def _disturbed(
        self, scenario: Scenario, place: Place, cached: Mapping[str, str]
    ) -> Iterator[None]:
        """Have in the way what the scenario puts there."""
        disturb = DISTURBANCES.get(scenario.kind)
        if disturb is None:
            yield
            return
        assert self.layout.bench is not None  # a workshop made it
        package = os.path.join(place.target, self.program.where)
        volume = os.path.join(place.target, self.program.volume)
        owned = (self._cache, place.target, place.home)
        with disturb(Scene(self.layout.bench.place, cached, package, volume, owned)):
            yield

    def _install(self, attempt: _Attempt, seen: Observed) -> Run | None:
        """Run the program, and note how it ended and what it said."""
        scenario, command = attempt.scenario, attempt.command
        arguments = command.arguments
        if scenario.kind in ORDINARY:
            if which(AS_USER[0]) is None:
                raise Unavailable(f"{AS_USER[0]} is not here", checked=["PATH"])
            arguments = (*AS_USER, *arguments)
        numbers = self.calls.get(attempt.mode.word, {}).get(scenario.op, ())
        faults = scenario.faults(numbers, attempt.place)
        runs: Sequence[Run] = ()
        mask = HOSTILE_UMASK if scenario.kind == UMASK else USUAL_UMASK
        with umask(mask), self.layout.acting():
            try:
                if scenario.kind == RACE:
                    runs = self._race(attempt, seen)
                else:
                    runs = [self._run(attempt.place, command, arguments, faults)]
            except ProgramTimedOut as late:
                runs, seen.ended = [late.run], HUNG
            if scenario.kind != RACE and runs:
                hit = (call for call in runs[0].of(scenario.op) if call.fault)
                seen.fired = len({call.nth for call in hit if self._brings(call, attempt.place)})
        said = "\n".join(f"{run.stdout}\n{run.stderr}".strip() for run in runs) or seen.said
        seen.said = said.replace(os.fspath(self.layout.target), "TARGET").replace(
            os.fspath(self.layout.source), "SOURCE"
        )[-SAID:]
        told = _FALLBACK.search(said)
        seen.told = told[0].strip() if told else ""
        seen.seconds = round(sum(run.seconds for run in runs), 3)
        seen.status = next((run.returncode for run in runs if run.returncode), 0)
        if seen.ended != HUNG and seen.status:
            seen.ended = _ended(seen.status, killed=scenario.kind == KILLED)
        return runs[0] if runs else None

    def _race(self, attempt: _Attempt, seen: Observed) -> Sequence[Run]:
        """Run the program with somebody else acting in the midst of it."""

        def stage(place: Place, command: Command) -> racing.Stage:
            return racing.Stage(
                command.arguments,
                self._environment(place, command),
                command.cwd or place.home,
                place.target,
                os.path.join(place.target, self.program.where),
                [os.path.basename(name) for name in sorted(self._files) if "part" in name],
                attempt.outside,
                TIMEOUT,
            )

        mode = attempt.mode
        try:
            if mode.word not in self._moments:
                alone = self._fresh()
                self._moments[mode.word] = racing.moment(stage(alone, self._command(alone, mode)))
                shutil.rmtree(alone.around)
            raced = racing.race(
                stage(attempt.place, attempt.command),
                attempt.scenario.position,
                self._moments[mode.word],
            )
        except Diverged as diverged:
            seen.said = str(diverged)
            return ()
        except Unavailable:
            raise
        except LinkmodeError as error:
            seen.ended, seen.said, seen.fired = HUNG, str(error), 1
            return ()
        seen.fired = int(bool(raced.did))
        return raced.runs

    def _learn(self, mode: Mode, run: Run | None, place: Place, seen: Observed) -> None:
        """Take note of what an undisturbed run does: which calls there are that bring the sample.

        What else is copied, such as a list of what was installed, is counted, but is none of them.
        """
        self.names[mode.word] = frozenset(_names(place.target))
        found: dict[str, list[int]] = {}
        for op in OPS.values():
            counted: dict[int, bool] = {}  # a file that is copied in several ways has as many lines
            for call in run.of(op) if run is not None else ():
                if scenarios.meant(call, place):
                    counted[call.nth] = self._brings(call, place)
            found[op] = [nth for nth, brings in enumerate(counted.values(), 1) if brings]
        self.calls[mode.word] = found
        seen.calls = len(found[OPS[mode.asks]])
        if seen.ended == DONE:
            self.works.add(mode.word)

    def _brings(self, call: Call, place: Place) -> bool:
        """Return whether a call is about a file of the sample; of copies, by whatever name it has
        by now, but for what a project keeps at its top under the same names.
        """
        if call.op != "copy":
            return True
        top = os.path.realpath(place.target)
        paths = [path for path in call.paths if os.path.realpath(os.path.dirname(path)) != top]
        names = [os.path.basename(name) for name in self._files]
        return any(name in os.path.basename(path) for path in paths for name in names)

    def _look_around(self, place: Place, seen: Observed) -> None:
        """See what was written that is neither in the target nor in the cache."""
        seen.temporary = sorted(os.listdir(place.temporary))[:LEFT]
        own = os.path.join(place.temporary, "")
        written = [path for path in _files(place.home) if not path.startswith(own)]
        seen.home = sorted(os.path.relpath(path, place.home) for path in written)[:LEFT]
        given = {os.path.basename(path) for path in (place.target, place.home)}
        beside = set(os.listdir(place.around)) - given - {OUTSIDE}
        beside |= set(os.listdir(self.layout.source)) - self._beside
        seen.beside = sorted(beside)[:LEFT]

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
        seen.left = self._left(place.target, mode)
        self._look_around(place, seen)

    def _left(self, target: str, mode: Mode) -> list[str]:
        """Return what is in a target that an undisturbed run does not leave.

        What another one moved aside still counts as where it was made.
        """
        moved = f"{self.program.where}{racing.MOVED}"
        there = {
            f"{self.program.where}{name.removeprefix(moved)}"
            if f"{name}/".startswith(f"{moved}/")
            else name
            for name in _names(target)
        }
        return sorted(there - self.names[mode.word])[:LEFT]

    def _make_hostile(self, scenario: Scenario, place: Place, outside: str) -> None:
        """Put something into the target that leads out of it."""
        victim = self._make_outside(outside)
        package = os.path.join(place.target, self.program.where)
        os.makedirs(os.path.dirname(package), exist_ok=True)
        if scenario.kind == SYMLINKED:
            os.symlink(outside, package)
        else:
            os.makedirs(package)
            os.link(victim, os.path.join(package, "part-0.js"))

    def _make_outside(self, outside: str) -> str:
        """Make a directory that is nobody's of ours; return the path of a file in it."""
        os.mkdir(outside)
        victim = os.path.join(outside, "victim")
        with open(victim, "wb") as file:
            file.write(FOREIGN)
        return victim

    def _escaped(self, outside: str) -> list[str]:
        """Return what was done to the directory outside."""
        wrong = [name for name in os.listdir(outside) if name != "victim"]
        victim = os.path.join(outside, "victim")
        if not os.path.exists(victim):
            wrong.append("victim is gone")
        else:
            with open(victim, "rb") as file:
                if file.read() != FOREIGN:
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

    def _cached_files(self) -> dict[str, str]:
        """Return the files of the sample that the program links, by name, where its cache has any
        that are files.
        """
        root = self._cache if self.program.warms else self._supply
        found = {
            self._known[known]: path
            for known, path in self._origins().items()
            if path.startswith(root + os.sep) and not self.program.zipped
        }
        return found if any(os.path.basename(name) == ODD for name in found) else {}

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
                seen.damaged += known != _FOREIGN and os.path.basename(path) not in _OFTEN
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
        """Return what must not change about the cache, and about what the program is given beside
        it or instead of it: bytes, bits and times of the files.
        """
        found: dict[str, tuple[object, ...]] = {}
        for root in (self._cache, self._supply):
            for path in _files(root):
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode):
                    known = sample.digest(path)
                    found[path] = (known, status.st_mode, status.st_mtime_ns)
        return found

    def _compare_cache(self, before: Mapping[str, tuple[object, ...]], seen: Observed) -> None:
        after = self._cached()
        given = os.path.join(self._supply, "")
        for path, (known, *rest) in before.items():
            if known not in self._known and not path.startswith(given):
                continue  # indexes and locks of a cache are the program's own
            if path not in after:
                seen.polluted.append(f"{os.path.basename(path)}: gone")
            elif after[path][0] != known:
                seen.polluted.append(f"{os.path.basename(path)}: other bytes")
            elif list(after[path][1:]) != rest:
                seen.polluted.append(f"{os.path.basename(path)}: other bits or time")
        seen.written = len(after.keys() - before.keys())
        self.spoiled = self.spoiled or bool(seen.polluted)


_FOREIGN = hashlib.sha256(FOREIGN).hexdigest()
_OFTEN = ("package.json", "METADATA", "WHEEL")
"""Names that other packages have as well."""

_FROZEN = ("--frozen-lockfile",)
"""What warming leaves out: it makes the lock."""


def _ended(status: int, *, killed: bool) -> str:
    """Return how a program ended that did not end well."""
    if killed:
        return KILLED_BY_US
    return CRASHED if status < 0 else FAILED


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
