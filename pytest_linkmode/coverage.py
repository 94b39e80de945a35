"""Which edges were taken, by which tests, and what proves it.

A `Recorder` listens to the linker while one test runs; what it heard leaves the process as plain
data, on the test's own reports, so that a worker that crashes later takes nothing with it. The
controller's `Ledger` merges all of it. Only a test that passed verifies anything.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linker.report import LinkReport, Transition

PROOFS = ("real", "injected", "modelled")
"""How an edge can have been met, best first."""

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

    def transition(self, transition: Transition) -> None:
        """Take note of one edge taken."""
        self.edges[transition.edge.id, transition.proof] = None

    def linked(self, report: LinkReport) -> None:
        """Nothing to note: a link without a fallback takes no edge."""

    def plain(self) -> dict[str, Any]:
        """Return all of this as data that any channel between processes carries."""
        return {
            "layout": self.layout,
            "mode": self.mode,
            "can": sorted(self.can),
            "not_applicable": self.not_applicable,
            "edges": [list(edge) for edge in self.edges],
        }


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
    edges: tuple[tuple[str, str], ...] = ()
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
    used: bool = False
    """Whether any collected test uses a fixture of ours."""

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
            trial = self.trials[key] = Trial(test)
        if data is not None:
            trial.learn(data)
        if when == "subtest":
            # One failure among many subtests is a failure of the test; passes say nothing.
            if outcome != "failed":
                return
        elif when not in ("setup", "call", "teardown"):
            when = "crash"
        trial.phases[when] = outcome
        trial.xfail = trial.xfail or xfail
        if reason and outcome == "skipped":
            trial.reasons.setdefault(when, reason)

    def plain(self) -> dict[str, Any]:
        """Return what is not carried by reports, as plain data."""
        return {
            "deselected": dict(self.deselected),
            "unavailable": dict(self.unavailable),
            "notes": list(self.notes),
            "used": self.used,
        }

    def merge(self, data: Mapping[str, Any]) -> None:
        """Take over what another process had to say; all workers say much the same."""
        self.deselected.update(data["deselected"])
        self.unavailable.update(data["unavailable"])
        self.notes.update(dict.fromkeys(data["notes"]))
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
    known: Sequence[str] = [*PROOFS, *proofs]
    return min(proofs, key=known.index, default="")
