"""Every call of a link fails with every error, on real filesystems; and a kill before and after it.

The faults are those of `pytest_linkmode.faults`, in this process. Whatever happens, either the tree
is whole, every fallback is one that the policy names and the report has it, or the target is as it
was. The fallbacks that are met here count as *injected* in the plugin's coverage.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from linker import LinkError, LinkMode, link_tree
from linker.conditions import Primitive, Scope, condition_of
from linker.platforms.linux import CALLS
from linker.policies import REFERENCE
from linker.report import Transition, observing
from pytest_linkmode.faults.inprocess import Injection
from pytest_linkmode.faults.linking import faulty
from pytest_linkmode.faults.spec import EFFECTS, ERRORS, OPS, Fault, Kill, Spec
from pytest_linkmode.layouts import TestFilesystem
from tests.linker import trees, users
from tests.linker.scenes import Scene, Watcher
from tests.linker.seams import descriptors
from tests.linker.trees import Directory, File, Symlink, Tree
from tests.linker.verdicts import Ended, Ends, wrong

pytestmark = pytest.mark.linkmode(fs=["btrfs", "xfs", "tmpfs"])

WHAT: dict[LinkMode, str] = {
    LinkMode.CLONE: "clone",
    LinkMode.HARDLINK: "hardlink",
    LinkMode.SYMLINK: "symlink",
    LinkMode.COPY: "copy",
}
"""Mode -> the op that makes a file in it."""


EDGES = frozenset(REFERENCE.edges)

SOURCE: Tree = {
    "empty": File(),
    "ln": Symlink("ns/z"),
    "ns/z": File(b"zz", mode=0o755),
    "ns/sub/deep": File(trees.noise(9_000)),
    "new": Directory(0o555),
    "new/f": File(b"f"),
    "ro": Directory(0o555),
    "ro/g": File(b"g"),
}
"""Nested packages, a namespace that is shared, read-only directories, a symlink: few, for each of
their calls is a score of cases."""
TARGET: Tree = {
    "ln": Symlink("elsewhere"),
    "ns/z": File(b"old z", mode=0o600),
    "ns/other": File(b"other"),
    "ro": Directory(0o555),
    "ro/g": File(b"old g"),
}


@pytest.fixture
def stage(linkmode_fs: TestFilesystem) -> Iterator[Scene]:
    """Give a scene of an ordinary user's, whom a read-only directory stops, on a filesystem."""
    os.chmod(linkmode_fs.path, 0o777)
    with users.ordinary_user():
        yield Scene(f"{linkmode_fs.path}/scene", SOURCE, TARGET)


@dataclass
class Case(Ended):
    """How one case ended, what was met on the way, and how often each fault hit."""

    met: tuple[Transition, ...] = ()
    fired: dict[Spec, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    killed: bool = False


def link(stage: Scene, mode: LinkMode, *faults: Spec) -> Case:
    """Link with faults."""
    met, case = Watcher(), Case(None, None)
    with ExitStack() as held:
        held.enter_context(observing(met))
        injection = held.enter_context(Injection(faults, log=(), standing_in=False))
        platform = held.enter_context(faulty(injection))
        try:
            case.report = link_tree(stage.source, stage.target, mode=mode, platform=platform)
        except LinkError as error:
            case.error = error
    case.met = tuple(met.transitions)
    case.fired, case.counts = dict(injection.fired), dict(injection.counts)
    case.killed = injection.killed
    return case


def every_fault(counts: dict[str, int]) -> Iterator[Fault]:
    """Yield each error at each call, and success that did nothing, or half."""
    for op, count in counts.items():
        effects = [effect for effect, ops in EFFECTS.items() if op in ops]
        for nth in range(1, count + 1):
            for error in (*ERRORS, *effects):
                yield Fault(op, error, nth)


def untold(case: Case, usual: Case, mode: LinkMode) -> list[str]:
    """Return in words where a link that came to its end fell back without need, or in silence."""
    assert case.report is not None
    assert usual.report is not None
    fault = next(iter(case.fired))
    assert isinstance(fault, Fault)
    found = []
    for taken in case.met:
        if taken.edge not in EDGES:
            found.append(f"{taken.edge.id} is no edge of the policy")
        if taken.proof == "injected" and fault.errno_name not in EFFECTS:
            means = condition_of("linux", taken.edge.primitive, fault.errno_name)
            if means is not taken.edge.condition:
                found.append(f"{taken.edge.id} was taken for {fault}")
    # Who did not end in the usual mode did so for an edge of the report, and no other did.
    fell = Counter(case.report.counts)
    fell.subtract(usual.report.counts)
    moved = {end for end, count in fell.items() if count > 0}
    named = {
        taken.edge.fallback
        for taken in case.report.transitions
        if taken.proof == "injected" or fault.errno_name in EFFECTS
    }
    if not moved - {mode} <= named:  # of an empty file, nothing done is all done
        found.append(f"files ended as {dict(fell)} and the report names {named}")
    if sum(case.report.counts.values()) != sum(usual.report.counts.values()):
        found.append(f"the report counts {case.report.counts}")
    return found


@dataclass
class Tried:
    """What a sweep tried, each once: op, error, and the state that the fault met."""

    cases: set[tuple[str, str, int]] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)

    def verdict(self, what: str, record: Callable[[str, object], None]) -> None:
        """Print how much was tried, and fail with what was wrong."""
        line = f"{what}: {len(self.cases)} distinct (op, error, state): " + ", ".join(
            f"{count} {end}" for end, count in sorted(self.ends.items())
        )
        print(line)  # noqa: T201  # shown by -s, and with a failure
        record("linkmode_sweep", line)
        shown = [f"{len(self.failures)} of {len(self.cases)} cases", *self.failures[:10]]
        assert not self.failures, "\n".join(shown)


@pytest.mark.parametrize("mode", LinkMode)
def test_whatever_fails_the_tree_is_whole_by_a_fallback_that_is_told_or_as_it_was(
    stage: Scene, mode: LinkMode, record_property: Callable[[str, object], None]
) -> None:
    usual = link(stage, mode)
    assert usual.report is not None
    stage.rebuild()
    tried = Tried()
    open_before = descriptors()
    for fault in every_fault(usual.counts):
        case = link(stage, mode, fault)
        found = [] if case.fired else ["no such call"]
        if case.fired:
            found += wrong(stage, mode, case)
            if case.error is None:
                found += untold(case, usual, mode)
        if descriptors() != open_before:
            found.append("descriptors stay open")
            open_before = descriptors()
        if found:
            tried.failures.append(f"{fault}: {case.error}: {found}")
        tried.cases.add((fault.op, fault.errno_name, fault.nth or 0))
        fell = any(taken.edge.fallback and taken.proof == "injected" for taken in case.met)
        tried.ends["undone" if case.error else "whole by a fallback" if fell else "whole"] += 1
        if case.error is None or found:
            stage.rebuild()
    assert len(tried.cases) > 2_000
    assert mode is LinkMode.COPY or tried.ends["whole by a fallback"]
    assert {op for op, _, _ in tried.cases} >= set(OPS) - {*WHAT.values()} | {WHAT[mode]}
    tried.verdict(f"{mode}, every call × {len(ERRORS)} errors", record_property)


@pytest.mark.parametrize("mode", LinkMode)
def test_killed_before_or_after_any_call_names_are_whole_and_the_next_run_finishes(
    stage: Scene, mode: LinkMode, record_property: Callable[[str, object], None]
) -> None:
    counts = link(stage, mode).counts
    stage.rebuild()
    ends = Ends(stage, mode, CALLS)
    tried = Tried()
    most = 0
    for op, count in counts.items():
        for nth in range(1, count + 1):
            for kill in (Kill(op, nth, "before"), Kill(op, nth, "after")):
                case = link(stage, mode, kill)
                found = [] if case.killed else ["it was not killed"]
                found += ends.torn()
                most = max(most, ends.stages)
                found += ends.mended()
                if found:
                    tried.failures.append(f"{kill}: {found}")
                tried.cases.add((op, kill.when, nth))
                tried.ends["finished by the next run"] += not found
                stage.rebuild()
    assert len(tried.cases) == 2 * sum(counts.values())
    assert most == 1  # everything that is left lies under one reserved name
    tried.verdict(f"{mode}, a kill at every call", record_property)


BOTH: Sequence[tuple[LinkMode, str, str]] = [
    (mode, first, second)
    for mode, errors in {
        LinkMode.CLONE: ("EXDEV", "EOPNOTSUPP", "EAGAIN", "EINVAL"),
        LinkMode.HARDLINK: ("EXDEV", "EMLINK", "EPERM"),
        LinkMode.SYMLINK: ("ENAMETOOLONG", "EPERM"),
    }.items()
    for first in errors
    for second in ("ENOSPC", "EIO", "EDQUOT")
]


@pytest.mark.parametrize(("mode", "first", "second"), BOTH)
def test_a_fallback_that_fails_too_leaves_the_target_as_it_was(
    stage: Scene, mode: LinkMode, first: str, second: str
) -> None:
    usual = link(stage, mode)
    stage.rebuild()
    refused = 0
    for nth in range(1, usual.counts[WHAT[mode]] + 1):
        # Every copy fails, but for the first: that is the stage's own record.
        case = link(stage, mode, Fault(WHAT[mode], first, nth), Fault("copy", second))
        assert case.error is not None or case.report is not None
        if case.error is not None:
            refused += 1
            assert case.error.left == ()
            assert stage.untouched() == []
        else:
            assert wrong(stage, mode, case) == []
            stage.rebuild()
    assert refused


def test_what_is_met_here_is_not_passed_off_as_real(stage: Scene) -> None:
    for fault in (Fault("hardlink", "EXDEV", path="*/deep"), Fault("hardlink", "NOEFFECT", 1)):
        case = link(stage, LinkMode.HARDLINK, fault)
        assert case.report is not None
        (taken,) = case.report.transitions
        assert taken.edge.fallback is LinkMode.COPY
        assert taken.edge.primitive is Primitive.HARDLINK
        assert taken.scope is Scope.FILE
        assert taken.proof == "injected"
        stage.rebuild()
