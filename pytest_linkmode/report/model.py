"""The verdict of a run as one plain value: what was verified, how, and what was not.

Made once, from the merged ledger; the writers of the terminal, of JSON and of later forms read
this and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_linkmode.config import Settings
from pytest_linkmode.coverage import Ledger, Outcome, Proofs, Trial, best
from pytest_linkmode.guards import unmet

if TYPE_CHECKING:
    from linker.policy import Edge, Policy

MODES = ("clone", "hardlink", "symlink", "copy")
NO_MODE = ""
"""The column of tests that do not vary the link mode."""


@dataclass(frozen=True)
class Line:
    """One edge of the policy, and the tests that verified it, by how they did."""

    edge: str
    then: str
    proofs: Proofs

    @property
    def platform(self) -> str:
        """The platform that it concerns."""
        return self.edge.partition("/")[0]

    @property
    def group(self) -> str:
        """The mode and the primitive that it begins with."""
        return "/".join(self.edge.split("/")[1:3])

    @property
    def condition(self) -> str:
        """What the primitive meets, with the state if the policy cares for one."""
        return "/".join(self.edge.split("/")[3:])

    @property
    def verified(self) -> bool:
        """Whether a test that passed took it."""
        return bool(self.proofs)

    @property
    def proof(self) -> str:
        """The strongest proof there is of it."""
        return best(self.proofs)

    @property
    def tests(self) -> int:
        """How many tests verified it."""
        return len({test for tests in self.proofs.values() for test in tests})


@dataclass
class Cell:
    """What became of the tests of one layout in one mode, and what proved it."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    evidence: Counter[str] = field(default_factory=Counter)
    """How many files were proven by which fact, in tests that passed."""
    seconds: float = 0.0

    def add(self, trial: Trial) -> None:
        """Count one test."""
        self.outcomes[trial.outcome] += 1
        self.seconds += trial.seconds
        if trial.outcome is Outcome.PASSED:
            self.evidence.update(trial.evidence)


@dataclass(frozen=True)
class Circumstances:
    """When and where a run took place, and how it ended."""

    started: str = ""
    """The date and time, in UTC."""
    seconds: float = 0.0
    exit_status: int = 0
    machine: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What a run verified.

    `cells` maps each layout to its modes to what became of the tests there; `lines` are the edges
    of the policy on this platform, `elsewhere` those of other platforms; `unknown` those taken by
    tests that passed which the policy does not have; `failures` one sentence for each guard that
    is not met.
    """

    typed: tuple[str, ...]
    replaying: Callable[[Iterable[str]], tuple[str, ...]]
    """Returns the options without which a test on some layouts would be another one."""
    place: str
    platform: str
    policy: Policy
    cells: Mapping[str, Mapping[str, Cell]]
    lines: tuple[Line, ...]
    elsewhere: tuple[Line, ...]
    unknown: tuple[Line, ...]
    trials: tuple[Trial, ...]
    outcomes: Counter[Outcome]
    skipped: Mapping[str, Mapping[str, int]]
    """layout -> reason -> number of tests"""
    capabilities: Mapping[str, int]
    """capability -> number of tests that were executed on it"""
    deselected: Mapping[str, str]
    unavailable: Mapping[str, str]
    notes: tuple[str, ...]
    failures: tuple[str, ...]
    unread: bool
    """Whether the linker is a program whose calls nobody read, for want of a policy."""
    idle: bool
    """Whether no test was executed that could use a filesystem: with ``--linkmode-tmp`` all can."""
    circumstances: Circumstances
    machines: Mapping[str, Mapping[str, str]]
    """The machines of workers that ran on another."""

    @property
    def verified(self) -> int:
        """How many edges of the policy were verified."""
        return sum(line.verified for line in self.lines)

    @property
    def percent(self) -> float:
        """The same as a share of all of them."""
        return 100 * self.verified / len(self.lines) if self.lines else 0.0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tell."""
        told = any(trial.said for trial in self.trials)
        return not (self.cells or self.deselected or self.failures or self.notes or told)

    @property
    def modes(self) -> tuple[str, ...]:
        """The columns that hold anything."""
        used = {mode for row in self.cells.values() for mode in row}
        return tuple(mode for mode in (*MODES, NO_MODE) if mode in used)


def verdict(
    settings: Settings,
    ledger: Ledger,
    policy: Policy,
    *,
    platform: str,
    place: str = "",
    narrowed: bool = False,
    order: Sequence[str] = (),
    circumstances: Circumstances | None = None,
) -> Verdict:
    """Return what the run that `ledger` tells of has verified.

    `place` says in words where filesystems were; `order` is the order of layouts; for
    `narrowed` see `guards.unmet`.
    """
    taken = ledger.edges()
    lines = tuple(Line(edge.id, then(edge), taken.pop(edge.id, {})) for edge in policy.edges)
    here = tuple(line for line in lines if line.platform == platform)
    cells: dict[str, dict[str, Cell]] = {}
    skipped: dict[str, Counter[str]] = {}
    for trial in ledger:
        if not trial.layout:
            continue
        cells.setdefault(trial.layout, {}).setdefault(trial.mode, Cell()).add(trial)
        if trial.outcome in (Outcome.SKIPPED, Outcome.NOT_APPLICABLE):
            skipped.setdefault(trial.layout, Counter())[trial.reason] += 1
    rank = {name: index for index, name in enumerate(order)}
    known = sorted({capability for trial in ledger for capability in trial.can})
    return Verdict(
        typed=settings.typed(),
        replaying=settings.replaying,
        place=place,
        platform=platform,
        policy=policy,
        cells={
            name: cells[name] for name in sorted(cells, key=lambda n: (rank.get(n, len(rank)), n))
        },
        lines=here,
        elsewhere=tuple(line for line in lines if line.platform != platform),
        unknown=tuple(Line(edge, "", proofs) for edge, proofs in taken.items()),
        trials=tuple(ledger),
        outcomes=ledger.outcomes,
        skipped=skipped,
        capabilities={name: sum(trial.on(name) for trial in ledger) for name in known},
        deselected=ledger.deselected,
        unavailable=ledger.unavailable,
        notes=tuple(ledger.notes),
        failures=unmet(
            settings,
            ledger,
            verified=sum(line.verified for line in here),
            edges=len(here),
            narrowed=narrowed,
        ),
        unread=_is_unread(settings, platform),
        idle=not (any(trial.outcome.executed for trial in ledger) or (settings.tmp and ledger.ran)),
        circumstances=circumstances or Circumstances(),
        machines=ledger.machines,
    )


def _is_unread(settings: Settings, platform: str) -> bool:
    if settings.linker is None or "policy" in settings.origins:
        return False
    from pytest_linkmode.adapters import is_command_line
    from pytest_linkmode.witnessing import PLATFORM

    return platform == PLATFORM and is_command_line(settings.linker)


def then(edge: Edge) -> str:
    """Return in words what is done next."""
    return str(edge).partition(" -> ")[2]
