"""Races: a program is held at one of its calls, and somebody else acts before it goes on.

The call is the middle one of those that bring the package into the target. There a second
instance of the program begins and runs as far as it can, or something appears under the names that
the program is about to make, or the directory that it works in becomes a symlink out of the target.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pytest_linkmode.faults.running import Run
from pytest_linkmode.installers.disturbing import FOREIGN
from pytest_linkmode.installers.scenarios import APPEARS, SWAPPED, TWIN
from pytest_linkmode.interleave.programs import Adversary, Programs, Setting
from pytest_linkmode.interleave.world import Event, Execution

BRINGING = frozenset({"clone", "hardlink", "symlink", "create", "rename"})
"""The ops by which a file or directory may get its name."""
PROGRAM, OTHER = 0, 1
MOVED = ".moved"
"""After the package's name: where its directory is once a symlink has taken its place."""


@dataclass(frozen=True)
class Stage:
    """What is run, in which directory; the target, the package's place in it, the names of its
    files; and a directory outside of the target.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    target: str
    package: str
    names: Sequence[str]
    outside: str
    timeout: float

    @property
    def setting(self) -> Setting:
        """How the programs are run."""
        return Setting(self.env, self.cwd, self.timeout)


@dataclass(frozen=True)
class Raced:
    """What came of a race: all runs, that of the program itself first, and what the other did."""

    runs: Sequence[Run]
    did: str


def moment(stage: Stage) -> int:
    """Run the program alone; return how many turns it has before the call at which it is held."""
    alone = Programs({"program": list(stage.argv)}, [stage.target], _nothing, stage.setting)
    events = alone.run(b"").events
    known = {*stage.names, os.path.basename(stage.package)}
    found = [
        number
        for number, event in enumerate(events)
        if event.name in BRINGING and event.paths and os.path.basename(event.paths[-1]) in known
    ]
    turns = found or range(1, len(events))
    return turns[len(turns) // 2] if turns else 0


def race(stage: Stage, kind: str, turns: int) -> Raced:
    """Run the program with somebody else acting after so many of its turns.

    Raises LinkmodeError if it does not end, or (`Diverged`) ends before that.
    """
    if kind == TWIN:
        actors = {"program": list(stage.argv), "twin": list(stage.argv)}
        did = _run(stage, actors, turns)
        return Raced([outcome.value for outcome in did.outcomes], "runs as well")
    adversary = _ADVERSARIES[kind](stage)
    did = _run(stage, {"program": list(stage.argv), "adversary": adversary}, turns)
    return Raced([did.outcomes[PROGRAM].value], str(did.outcomes[OTHER].value or ""))


def _run(stage: Stage, actors: Mapping[str, Sequence[str] | Adversary], turns: int) -> Execution:
    plan = bytes([PROGRAM] * turns + [OTHER])
    return Programs(actors, [stage.target], _nothing, stage.setting).run(plan)


def _nothing() -> None:
    """Put nothing back: each race has a target of its own."""


def _appears(stage: Stage) -> Adversary:
    """Let the first file that the package lacks appear, or all of the package's directory."""

    def act(_: Event) -> str:
        if os.path.islink(stage.package) or not os.path.isdir(stage.package):
            if os.path.lexists(stage.package):
                return ""
            os.makedirs(stage.package)
        for name in stage.names:
            path = os.path.join(stage.package, name)
            if not os.path.lexists(path):
                with open(path, "xb") as file:
                    file.write(FOREIGN)
                return f"{name} appears"
        return ""

    return act


def _swaps(stage: Stage) -> Adversary:
    """Let the package's directory become a symlink that leads out of the target."""

    def act(_: Event) -> str:
        os.makedirs(os.path.dirname(stage.package), exist_ok=True)
        if os.path.lexists(stage.package):
            os.rename(stage.package, f"{stage.package}{MOVED}")
        os.symlink(stage.outside, stage.package)
        return f"{os.path.basename(stage.package)} becomes a symlink"

    return act


_ADVERSARIES: Mapping[str, Callable[[Stage], Adversary]] = {APPEARS: _appears, SWAPPED: _swaps}
