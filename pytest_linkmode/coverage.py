"""Which edges were taken, by which tests, and what proves it.

A `Recorder` listens to the linker while one test runs; what it heard leaves the process as plain
data, on the test's own reports, so that a worker that crashes later takes nothing with it. The
controller's `Ledger` merges all of it. Only a test that passed verifies anything.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_linkmode import HERE

if TYPE_CHECKING:
    from linker.report import LinkReport, Transition

REAL, INJECTED, MODELLED = PROOFS = ("real", "injected", "modelled")
"""How an edge can have been met, best first."""

PLATFORM = {"darwin": "macos", "win32": "windows"}.get(HERE, HERE)
"""The platform of this machine, by its word in conditions and policies."""

_disturbances: list[Callable[[], bool]] = []


@contextmanager
def disturbing(begun: Callable[[], bool]) -> Iterator[None]:
    """Let no edge that is taken in this context, once `begun` is true, count as real.

    An injected fault says so of the edge that it leads to itself, but not of what comes of that.
    """
    _disturbances.append(begun)
    try:
        yield
    finally:
        _disturbances.remove(begun)


MODE_OF_CAPABILITY: Mapping[str, str] = {
    "reflink": "clone",
    "dirclone": "clone",
    "hardlink": "hardlink",
    "symlink": "symlink",
}
"""Capabilities that only one link mode makes use of.

A test that copies on a filesystem with reflinks says nothing of reflinks.
"""


class Outcome(enum.StrEnum):
    """How a test ended."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    """A fixture failed; the body did not run."""
    CRASHED = "crashed"
    """Its process ended before the test did."""
    XPASSED = "xpassed"
    XFAILED = "xfailed"
    SKIPPED = "skipped"
    NOT_APPLICABLE = "not applicable"
    """Skipped because the layout turned out to lack what the test needs."""

    @property
    def executed(self) -> bool:
        """Whether the body ran and its result was heeded."""
        return self in (Outcome.PASSED, Outcome.FAILED, Outcome.XPASSED)


def filesystems(layout: str) -> list[str]:
    """Return the filesystems of a layout, which its name has: ``SRC[:DST][+KIND]``."""
    return layout.partition("+")[0].split(":") if layout else []


@dataclass
class Recorder:
    """The observer of one test: what the fixtures gave it, and every edge it took.

    `layout` is the name of a layout or of a lone filesystem, `mode` the word of a link mode;
    both are empty where the test has none.
    """

    layout: str = ""
    mode: str = ""
    can: frozenset[str] = frozenset()
    not_applicable: str = ""
    edges: dict[tuple[str, str], None] = field(default_factory=dict)
    evidence: Counter[str] = field(default_factory=Counter)
    """How many files were proven by which fact, as `assert_linked` found."""
    notes: dict[str, None] = field(default_factory=dict)
    """What is to be known of the programs that were watched."""

    def transition(self, transition: Transition) -> None:
        """Take note of one edge taken; what a fault or a schedule may have led to is not real.

        An edge of another platform is modelled, whatever led to it: here, something stands for it.
        """
        proof = transition.proof
        if transition.edge.platform != PLATFORM:
            proof = MODELLED
        elif proof == REAL and any(begun() for begun in _disturbances):
            proof = INJECTED
        self.edges[transition.edge.id, proof] = None

    def linked(self, report: LinkReport) -> None:
        """Nothing to note: a link without a fallback takes no edge."""

    def proven(self, proofs: Mapping[str, int]) -> None:
        """Take note of what was proven of a target: how many files by which fact."""
        self.evidence.update(proofs)

    def properties(self) -> list[tuple[str, object]]:
        """Return the same in the form of JUnit properties, for those who have only these."""
        taken = [f"{edge} ({proof})" for edge, proof in self.edges]
        evidence = [f"{count} by {proof}" for proof, count in self.evidence.items()]
        said = {
            "linkmode_layout": self.layout,
            "linkmode_fs": " ".join(dict.fromkeys(filesystems(self.layout))),
            "linkmode_mode": self.mode,
            "linkmode_evidence": ", ".join(evidence),
            "linkmode_edges": ", ".join(taken),
        }
        return [(name, value) for name, value in said.items() if value]

    def plain(self) -> dict[str, Any]:
        """Return all of this as data that any channel between processes carries."""
        return {
            "layout": self.layout,
            "mode": self.mode,
            "can": sorted(self.can),
            "not_applicable": self.not_applicable,
            "edges": [list(edge) for edge in self.edges],
            "evidence": dict(self.evidence),
            "notes": list(self.notes),
        }


_recorders: list[Recorder] = []


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Let a recorder take notes of what is proven and witnessed while the context lasts."""
    _recorders.append(recorder)
    try:
        yield
    finally:
        _recorders.remove(recorder)


def recorders() -> tuple[Recorder, ...]:
    """Return those that take notes now."""
    return tuple(_recorders)


@dataclass(frozen=True)
class Failure:
    """One thing that failed in a test: the test itself, or one case of its sweep."""

    where: str
    text: str
    replay: tuple[str, ...] = ()
    """The options by which it is seen again."""


FAILURES_KEPT = 20
"""How many failures of one test are kept; a sweep can have thousands."""


@dataclass
class Trial:
    """What is known of one test, from the reports of its phases.

    `when` and `outcome` of a phase are pytest's words.
    """

    test: str
    layout: str = ""
    mode: str = ""
    can: frozenset[str] = frozenset()
    not_applicable: str = ""
    process: str = ""
    edges: tuple[tuple[str, str], ...] = ()
    evidence: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)
    said: dict[str, None] = field(default_factory=dict)
    """What its sweeps and explorations came to, a line each."""
    met: set[str] = field(default_factory=set)
    """The faults that a sweep of it replayed, and that hit a call there."""
    missed: set[str] = field(default_factory=set)
    """Those that hit none."""
    phases: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    xfail: bool = False

    def learn(self, data: Mapping[str, Any]) -> None:
        """Take over what a `Recorder` had to say."""
        self.layout = data["layout"]
        self.mode = data["mode"]
        self.can = frozenset(data["can"])
        self.not_applicable = data["not_applicable"]
        self.edges = tuple((edge, proof) for edge, proof in data["edges"])
        self.evidence = data["evidence"]

    @property
    def outcome(self) -> Outcome:
        """How the whole test ended, judged by all of its phases."""
        phases = self.phases
        if "crash" in phases:
            return Outcome.CRASHED
        if phases.get("setup") == "failed":
            return Outcome.ERROR
        if "skipped" in (phases.get("setup"), phases.get("call")):
            if self.xfail:
                return Outcome.XFAILED
            return Outcome.NOT_APPLICABLE if self.not_applicable else Outcome.SKIPPED
        if "failed" in (phases.get("call"), phases.get("subtest"), phases.get("teardown")):
            return Outcome.FAILED
        if phases.get("call") != "passed":
            return Outcome.CRASHED
        return Outcome.XPASSED if self.xfail else Outcome.PASSED

    @property
    def reason(self) -> str:
        """Why it was skipped, if it was."""
        return self.not_applicable or next(iter(self.reasons.values()), "")

    def on(self, capability: str) -> bool:
        """Whether its body was executed on `capability`."""
        mode = MODE_OF_CAPABILITY.get(capability)
        return (
            self.outcome.executed
            and capability in self.can
            and (mode is None or self.mode in ("", mode))
        )


@dataclass
class Ledger:
    """Everything that a run found out, from one process or from many.

    `deselected` maps a test to why it was; `unavailable` a filesystem to all that is missing.
    """

    trials: dict[tuple[str, str], Trial] = field(default_factory=dict)
    deselected: dict[str, str] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    machines: dict[str, Mapping[str, str]] = field(default_factory=dict)
    """What is to be known of the machines of workers that run on another than the controller."""
    used: bool = False
    """Whether any collected test uses a fixture of ours."""
    ran: int = 0
    """How many tests were executed, ours or not: what ``--linkmode-tmp`` is held to."""

    def add(
        self,
        test: str,
        when: str,
        outcome: str,
        *,
        data: Mapping[str, Any] | None = None,
        process: str = "",
        xfail: bool = False,
        reason: str = "",
        seconds: float = 0.0,
        failure: Failure | None = None,
        said: Iterable[str] = (),
        met: Iterable[str] = (),
        missed: Iterable[str] = (),
    ) -> None:
        """Enter the report of one phase of one test, as it ran in `process`.

        A phase of a test that uses nothing of ours has no `data` and is not entered. A second
        ``setup`` begins the test anew: it is run again.
        """
        key = (process, test)
        if when == "setup":
            self.trials.pop(key, None)
        trial = self.trials.get(key)
        if trial is None:
            if data is None:
                return
            trial = self.trials[key] = Trial(test, process=process)
        if data is not None:
            trial.learn(data)
            self.notes.update(dict.fromkeys(data["notes"]))
        trial.said.update(dict.fromkeys(said))
        trial.met.update(met)
        trial.missed.update(missed)
        if failure is not None and len(trial.failures) < FAILURES_KEPT:
            trial.failures.append(failure)
        if when == "subtest":
            # One failure among many subtests is a failure of the test; passes say nothing.
            if outcome != "failed":
                return
        elif when not in ("setup", "call", "teardown"):
            when = "crash"
        trial.phases[when] = outcome
        trial.seconds += seconds
        trial.xfail = trial.xfail or xfail
        if reason and outcome == "skipped":
            trial.reasons.setdefault(when, reason)

    def interrupt(self) -> None:
        """Take out the tests that were not over when the run was stopped, and note them."""
        for key, trial in list(self.trials.items()):
            if trial.outcome is Outcome.CRASHED and "crash" not in trial.phases:
                del self.trials[key]
                self.notes[f"interrupted in {trial.test}: it counts as not run"] = None

    def plain(self) -> dict[str, Any]:
        """Return what is not carried by reports, as plain data."""
        return {
            "deselected": dict(self.deselected),
            "unavailable": dict(self.unavailable),
            "notes": list(self.notes),
            "machines": dict(self.machines),
            "used": self.used,
        }

    def merge(self, data: Mapping[str, Any]) -> None:
        """Take over what another process had to say; all workers say much the same."""
        self.deselected.update(data["deselected"])
        self.unavailable.update(data["unavailable"])
        self.notes.update(dict.fromkeys(data["notes"]))
        self.machines.update(data["machines"])
        self.used = self.used or data["used"]

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials.values())

    @property
    def outcomes(self) -> Counter[Outcome]:
        """How many tests ended how."""
        return Counter(trial.outcome for trial in self)

    def edges(self, outcomes: Iterable[Outcome] = (Outcome.PASSED,)) -> dict[str, Proofs]:
        """Return for each edge taken by tests that ended so, which proof each test gives."""
        wanted = frozenset(outcomes)
        found: dict[str, Proofs] = {}
        for trial in self:
            if trial.outcome in wanted:
                for edge, proof in trial.edges:
                    tests = found.setdefault(edge, {}).setdefault(proof, [])
                    if trial.test not in tests:
                        tests.append(trial.test)
        return found


Proofs = dict[str, list[str]]
"""proof -> the tests that give it."""


def best(proofs: Iterable[str]) -> str:
    """Return the strongest of some proofs, or an empty word."""
    given = list(proofs)
    known: Sequence[str] = [*PROOFS, *given]
    return min(given, key=known.index, default="")
