"""The whole matrix: which cells there are, run on two processes, each cell once for its versions.

What is seen in a cell is kept under a key of everything that it depends on: the program's version,
the mode, the layout, the scenario and this room itself; where a policy changes, or the linker that
follows it, what was seen is held against it anew. A run that was interrupted goes on where it
stopped; a program that hangs, crashes or cannot be had is a cell that says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from linker.policies import ALL
from pytest_linkmode import config, layouts, namespaces
from pytest_linkmode.errors import LinkmodeError, Unavailable
from pytest_linkmode.installers import kit as kits
from pytest_linkmode.installers import observing, predicting, scenarios
from pytest_linkmode.installers.programs import PROGRAMS, Mode, Program

ROOM = "9"
"""The version of what a cell means: another one is another result."""

NOT_RUN, NO_LAYOUT = "not run", "no such layout here"
"""What is shown of cells that could not be run here."""

CHIEF = ("btrfs", "ext4")
"""Where every scenario is run: one filesystem with reflinks, one without."""
OTHERS = (
    "xfs",
    "tmpfs",
    "btrfs:tmpfs",
    "ext4:btrfs",
    "btrfs+subvolume",
    "ext4+bind",
    "ext4+overlay-lower",
    "btrfs+nocow",
)
"""Where programs are run undisturbed, and with the faults that matter most."""
QUICK = ("btrfs", "btrfs:tmpfs", "ext4")
PATIENCE = 2
"""How many cells of a program in a layout may hang: the rest of them is not run then."""
WHY = 400
"""Characters of a reason that are kept: what it begins with, and what it ends with."""


@dataclass(frozen=True)
class Asked:
    """One program in one layout, and how deep."""

    program: str
    layout: str
    depth: int


@dataclass
class Cell:
    """One cell as it is kept: what was seen, what was said, and how the two differ.

    `held_to` names what it was held against. `online` tells that the network was within reach.
    """

    program: str
    version: str
    mode: str
    asks: str
    policy: str
    layout: str
    scenario: str
    reflinks: bool = False
    seen: dict[str, Any] | None = None
    said: str = ""
    shown: str = ""
    differs: str = ""
    why: str = ""
    held_to: str = ""
    online: bool = False

    @property
    def predicted(self) -> bool:
        """Whether a policy says anything of it."""
        return bool(self.said)


def asked(
    *, quick: bool, programs: Sequence[str] = (), chosen: Sequence[str] = ()
) -> Iterator[Asked]:
    """Yield what is to be run: every program, in its layouts."""
    for program in PROGRAMS:
        if programs and program.name not in programs:
            continue
        if chosen:
            names: Sequence[str] = chosen
        elif quick:
            names = QUICK
        else:
            names = (*CHIEF, *OTHERS)
        for name in names:
            if quick:
                depth = 0 if program.slow or name != "btrfs" else 1
            else:
                depth = 2 if name in CHIEF else 1
            yield Asked(program.name, name, depth)


def version_of(program: Program) -> str:
    """Return the version of a program, as the pins or the program itself have it."""
    if program.index:
        return kits.versions()[program.index][program.pin]
    if program.name == "cp":
        from pytest_linkmode.processes import run

        return run(["cp", "--version"]).stdout.splitlines()[0].rpartition(" ")[2]
    from importlib.metadata import version

    return version("pytest-linkmode")


def there(name: str) -> tuple[Program, str]:
    """Return the program of that name as its version here is, and that version."""
    program = next(each for each in PROGRAMS if each.name == name)
    version = version_of(program)
    return program.at(version), version


def key_of(program: Program, version: str, mode: Mode, layout: str, scenario: str) -> str:
    """Return the name under which what is seen in a cell is kept."""
    said = [ROOM, program.name, version, mode.word, str(mode.asks), layout, scenario]
    said.append(platform.release())
    if program.name == "reference":
        said.append(_own_code())
    return _named(said)


def held_to(mode: Mode) -> str:
    """Return the name of what a mode is held against: its policy, and the linker that follows it.

    All that policies say is a part of that linker's code.
    """
    return _named([mode.policy, str(mode.asks), str(mode.strict), _own_code()])


def _named(said: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:24]


@cache
def _own_code() -> str:
    """Return a digest of the reference linker: it is what changes from run to run."""
    import linker

    return code_of(os.path.dirname(linker.__file__))


def code_of(root: str) -> str:
    """Return a digest of the Python code below a directory."""
    digest = hashlib.sha256()
    for above, directories, names in os.walk(root):
        directories.sort()
        for name in sorted(names):
            if name.endswith(".py"):
                with open(os.path.join(above, name), "rb") as file:
                    digest.update(file.read())
    return digest.hexdigest()


class Part:
    """The cells that one process runs, `offline` or not."""

    def __init__(
        self, directory: str, kit: kits.Kit, say: Callable[[str], None], *, offline: bool = False
    ) -> None:
        self._results = os.path.join(directory, "results")
        os.makedirs(self._results, exist_ok=True)
        self._kit = kit
        self._say = say
        self._offline = offline
        self._workshop = layouts.Workshop(namespaces.find_place(), config.from_environment())

    def run(self, wanted: Iterable[Asked]) -> None:
        """Run every cell that has no result yet."""
        try:
            for one in wanted:
                self._one(one)
        finally:
            self._workshop.close()

    def _one(self, one: Asked) -> None:
        program, version = there(one.program)
        todo = [
            (mode, scenario, self._path(key_of(program, version, mode, one.layout, scenario.name)))
            for mode in program.modes
            for scenario in scenarios.scenarios(mode.asks, one.layout, depth=one.depth)
        ]
        found = {path: _result(path) for _, _, path in todo}
        missing = [
            (mode, scenario, path)
            for mode, scenario, path in todo
            for kept in [found[path]]
            if kept is None or kept.held_to != held_to(mode)
        ]
        spec = layouts.parse(one.layout)
        bench: observing.Bench | None = None
        against = self._kit.missing.get(program.index, "")
        hung = sum(map(_hangs, found.values()))
        began = time.monotonic()
        for mode, scenario, path in missing:
            cell = Cell(
                program=program.name,
                version=version,
                mode=mode.word,
                asks=str(mode.asks),
                policy=mode.policy,
                layout=one.layout,
                scenario=scenario.name,
                held_to=held_to(mode),
                online=not self._offline,
            )
            known = found[path]
            try:
                if known is not None:
                    seen = observing.Observed(**known.seen) if known.seen else None
                    cell.reflinks, cell.online = known.reflinks, known.online
                else:
                    if against:
                        raise LinkmodeError(f"{program.name} cannot be had", why=against)
                    if hung >= PATIENCE:
                        raise LinkmodeError(f"{program.name} hung in {hung} cells on {one.layout}")
                    if bench is None or bench.spoiled:
                        bench = observing.Bench(self._kit, self._workshop.layout(spec), program)
                    seen = bench.cell(mode, scenario)
                    cell.reflinks = "reflink" in bench.layout.can
                    hung += seen is not None and seen.ended == observing.HUNG
                self._judge(cell, seen, program, mode, scenario, spec)
            except (LinkmodeError, OSError) as error:
                cell.why = _shortened(" ".join(str(error).split()))
                cell.shown = NO_LAYOUT if isinstance(error, Unavailable) else NOT_RUN
                tried = known is None and hung < PATIENCE
                if tried and bench is None and cell.shown == NOT_RUN:
                    against = against or cell.why
            _write(path, asdict(cell))
        done = f"{len(missing)} cells in {time.monotonic() - began:.1f} s"
        kept = f"{len(todo) - len(missing)} kept"
        said = ", ".join(([done] if missing else []) + ([kept] if len(missing) < len(todo) else []))
        self._say(f"{program.name} on {one.layout}: {said}")

    def _judge(
        self,
        cell: Cell,
        seen: observing.Observed | None,
        program: Program,
        mode: Mode,
        scenario: scenarios.Scenario,
        spec: layouts.LayoutSpec,
    ) -> None:
        """Hold what was seen against what the policy says."""
        if seen is None:
            cell.shown = "does not apply"
            return
        cell.seen = seen.plain()
        cell.shown = str(predicting.observed(seen))
        aimed = scenario.op or scenario.kind == scenarios.RACE
        if aimed and not seen.fired and seen.ended != observing.HUNG:
            cell.shown = "not hit"
        elif scenario.kind in predicting.PREDICTED:
            layout = self._workshop.layout(spec)
            said = predicting.predict(program, mode, scenario, layout, seen.calls)
            layout.close()
            cell.said = str(said)
            cell.differs = predicting.differs(
                said, seen, ALL[mode.policy], mode.asks, reflinks=cell.reflinks
            )

    def _path(self, key: str) -> str:
        return os.path.join(self._results, f"{key}.json")


def _shortened(why: str) -> str:
    """Return a reason with its head and its end."""
    return why if len(why) <= WHY else f"{why[: WHY // 2]} [...] {why[-WHY // 2 :]}"


def _kept(path: str) -> Cell | None:
    """Return the cell that is kept there, None if none is that can be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return Cell(**json.load(file))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # whoever was writing it did not come to an end, or it is of another shape


def _result(path: str) -> Cell | None:
    """Return the cell that is kept there, if it was run: what could not be is tried again."""
    cell = _kept(path)
    return None if cell is None or cell.shown in (NOT_RUN, NO_LAYOUT) else cell


def _hangs(cell: Cell | None) -> bool:
    """Return whether the program hung in a cell."""
    return bool(cell and cell.seen and cell.seen["ended"] == observing.HUNG)


def _write(path: str, plain: dict[str, Any]) -> None:
    part = f"{path}.part-{os.getpid()}"
    with open(part, "w", encoding="utf-8") as file:
        json.dump(plain, file)
    os.replace(part, path)


def collect(directory: str, wanted: Sequence[Asked]) -> list[Cell]:
    """Return the cells of what was asked for, as far as they were run."""
    cells = []
    for one in wanted:
        program, version = there(one.program)
        for mode in program.modes:
            for scenario in scenarios.scenarios(mode.asks, one.layout, depth=one.depth):
                key = key_of(program, version, mode, one.layout, scenario.name)
                kept = _kept(os.path.join(directory, "results", f"{key}.json"))
                if kept is not None:
                    cells.append(kept)
    return cells


def run(
    directory: str, wanted: Sequence[Asked], say: Callable[[str], None], *, processes: int = 2
) -> None:
    """Run the cells on so many processes of our own, and wait for them.

    Each takes the next pair when it has done one, the dear ones first. Raises KeyboardInterrupt
    through; what was finished by then is kept.
    """
    by_name = {program.name: program for program in PROGRAMS}
    dear = sorted(wanted, key=lambda one: (not by_name[one.program].slow, -one.depth))
    todo: queue.SimpleQueue[Asked] = queue.SimpleQueue()
    for one in dear:
        todo.put(one)
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "pytest_linkmode.installers.part", directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(min(processes, len(dear)))
    ]
    tellers = [threading.Thread(target=_give_out, args=(each, todo, say)) for each in running]
    try:
        for teller in tellers:
            teller.start()
        for process in running:
            process.wait()
    finally:
        for process in running:
            if process.poll() is None:
                process.terminate()
            process.wait(timeout=60)
        for teller in tellers:
            teller.join()
    for process in running:
        if process.returncode:
            raise LinkmodeError(f"a part of the matrix ended with status {process.returncode}")


def _give_out(
    process: subprocess.Popen[str], todo: queue.SimpleQueue[Asked], say: Callable[[str], None]
) -> None:
    """Give a process one pair after the other, and pass on what it says of each."""
    assert process.stdin is not None  # pipes, as asked for
    assert process.stdout is not None
    with process.stdout as lines, process.stdin as asking:
        while True:
            try:
                one = todo.get_nowait()
                asking.write(f"{one.program} {one.layout} {one.depth}\n")
                asking.flush()
            except (queue.Empty, BrokenPipeError):
                return
            line = lines.readline()
            if not line:  # it has ended
                return
            say(line.rstrip())
