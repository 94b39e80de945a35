"""What the policy of a program says of a cell, and whether the program did that.

The reference linker links the same files by that policy, in the same layout, under the same fault
at the same place among its own calls. Compared is what a user would notice: whether it ends, the
modes in which files end, and whether an error leaves something behind.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass

from linker.modes import LinkMode
from linker.policies import ALL
from linker.policy import Policy, Promise
from pytest_linkmode.happening import happening
from pytest_linkmode.installers import sample
from pytest_linkmode.installers.disturbing import DISTURBANCES, ORDINARY, Scene
from pytest_linkmode.installers.observing import (
    CRASHED,
    DONE,
    FAILED,
    HUNG,
    KILLED_BY_US,
    USUAL_UMASK,
    Observed,
    umask,
)
from pytest_linkmode.installers.programs import Mode, Program
from pytest_linkmode.installers.scenarios import (
    IMMUTABLE,
    MOUNTED_FILE,
    NESTED,
    NOCOW,
    OWNER,
    Scenario,
)
from pytest_linkmode.layouts import Layout
from pytest_linkmode.special.checking import as_another_user

PREDICTED = ("plain", "umask", "fault", NESTED, MOUNTED_FILE, NOCOW, IMMUTABLE, OWNER)
"""The kinds of scenarios of which a graph of fallbacks says anything."""


_ENDS = {FAILED: "fails", HUNG: "hangs", CRASHED: "crashes", KILLED_BY_US: "is killed"}
"""How an end other than a good one is told."""


@dataclass(frozen=True)
class Predicted:
    """What a policy says: how it ends, in which modes, and whether an error leaves something.

    `begun` tells that what is left are beginnings of files alone.
    """

    ended: str
    modes: tuple[str, ...]
    left: bool
    begun: bool = False

    def __str__(self) -> str:
        if self.ended != DONE:
            left = "half a package" if self.left else "beginnings of files" if self.begun else ""
            return f"{_ENDS[self.ended]}, {left or 'nothing'} left"
        return " and ".join(self.modes) or "says that it is done; files are missing"


def predict(
    program: Program, mode: Mode, scenario: Scenario, layout: Layout, calls: int
) -> Predicted:
    """Return what the policy of a mode says of a scenario in a fresh layout.

    `calls` are those that the program makes of the op: the same one fails here.
    """
    files = program.files()
    with umask(USUAL_UMASK):
        sample.write_tree(os.fspath(layout.source), files)
        faults = scenario.faults_within(os.fspath(layout.source), len(files), calls)
        with ExitStack() as stack:
            disturb = DISTURBANCES.get(scenario.kind)
            if disturb is not None:
                stack.enter_context(disturb(_scene(program, layout)))
            if scenario.kind in ORDINARY:
                assert layout.bench is not None  # a workshop made it
                stack.enter_context(as_another_user(layout.bench))
            seen = happening(ALL[mode.policy], layout, mode.asks, faults, strict=mode.strict)
    return Predicted(
        DONE if seen.ended == "done" else FAILED, tuple(sorted(seen.found)), bool(seen.found)
    )


def _scene(program: Program, layout: Layout) -> Scene:
    """Return what may be disturbed where the reference linker stands for a program."""
    assert layout.bench is not None  # a workshop made it
    source, target = os.fspath(layout.source), os.fspath(layout.target)
    cached = {name: os.path.join(source, name) for name in program.files()}
    package = os.path.join(target, sample.PACKAGE)
    volume = package if program.volume == program.where else target
    return Scene(layout.bench.place, cached, package, volume, (target,))


def observed(seen: Observed) -> Predicted:
    """Return what was observed in the same words."""
    modes = tuple(sorted(seen.found)) if seen.ended == DONE and not seen.missing else ()
    return Predicted(seen.ended, modes, bool(seen.found), bool(seen.damaged))


def differs(
    said: Predicted, seen: Observed, policy: Policy, asks: LinkMode, *, reflinks: bool
) -> str:
    """Return how what was seen differs from what the policy says, empty if it does not.

    Where a system does not promise that a copy is one, and the filesystem clones what is copied by
    copy_file_range, the two are the same; and where it lets names show a part of a file, so are
    nothing and the beginning of one. What an error leaves of symlinks is not compared: the
    reference linker makes those of a directory elsewhere and places them together.
    """
    found = observed(seen)
    if found.ended != said.ended:
        return f"{found.ended} instead of {said.ended}"
    if said.ended != DONE:
        whole = Promise.WHOLE_NAMES not in policy.waives
        left = found.left or (whole and found.begun)
        if left == said.left or asks is LinkMode.SYMLINK:
            return ""
        return f"{'something' if left else 'nothing'} is left"
    if seen.missing or seen.damaged:
        return f"{seen.missing} files missing, {seen.damaged} damaged"
    same = reflinks and Promise.PLAIN_COPY in policy.waives
    if _named(found.modes, same=same) != _named(said.modes, same=same):
        return f"{' and '.join(found.modes)} instead of {' and '.join(said.modes)}"
    return ""


def _named(modes: tuple[str, ...], *, same: bool) -> set[str]:
    copy = LinkMode.COPY.value
    return {LinkMode.CLONE.value if same and mode == copy else mode for mode in modes}
