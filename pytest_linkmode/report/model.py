"""The verdict of a run as one plain value: what was verified, how, and what was not.

Made once, from the merged ledger; the writers of the terminal, of JSON and of later forms read
this and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_linkmode.config import Settings
from pytest_linkmode.coverage import Ledger, Outcome, Proofs, best
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


Cell = Counter[Outcome]


@dataclass(frozen=True)
class Verdict:
    """What a run verified.

    `cells` maps each layout to its modes to how many tests ended how; `lines` are the edges of
    the policy on this platform; `unknown` those taken by tests that passed which the policy does
    not have; `failures` one sentence for each guard that is not met.
    """

    typed: tuple[str, ...]
    place: str
    platform: str
    policy: str
    cells: Mapping[str, Mapping[str, Cell]]
    lines: tuple[Line, ...]
    unknown: tuple[Line, ...]
    outcomes: Cell
    skipped: Mapping[str, Mapping[str, int]]
    """layout -> reason -> number of tests"""
    deselected: Mapping[str, str]
    unavailable: Mapping[str, str]
    notes: tuple[str, ...]
    failures: tuple[str, ...]

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
        return not (self.cells or self.deselected or self.failures or self.notes)

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
) -> Verdict:
    """Return what the run that `ledger` tells of has verified.

    `place` says in words where filesystems were; `order` is the order of layouts; for
    `narrowed` see `guards.unmet`.
    """
    taken = ledger.edges()
    edges = policy.of(platform)
    lines = tuple(Line(edge.id, _then(edge), taken.pop(edge.id, {})) for edge in edges)
    cells: dict[str, dict[str, Cell]] = {}
    skipped: dict[str, Counter[str]] = {}
    for trial in ledger:
        if not trial.layout:
            continue
        row = cells.setdefault(trial.layout, {})
        row.setdefault(trial.mode, Counter())[trial.outcome] += 1
        if trial.outcome in (Outcome.SKIPPED, Outcome.NOT_APPLICABLE):
            skipped.setdefault(trial.layout, Counter())[trial.reason] += 1
    rank = {name: index for index, name in enumerate(order)}
    return Verdict(
        typed=settings.typed(),
        place=place,
        platform=platform,
        policy=policy.name,
        cells={
            name: cells[name] for name in sorted(cells, key=lambda n: (rank.get(n, len(rank)), n))
        },
        lines=lines,
        unknown=tuple(Line(edge, "", proofs) for edge, proofs in taken.items()),
        outcomes=ledger.outcomes,
        skipped=skipped,
        deselected=ledger.deselected,
        unavailable=ledger.unavailable,
        notes=tuple(ledger.notes),
        failures=unmet(
            settings,
            ledger,
            verified=sum(line.verified for line in lines),
            edges=len(lines),
            narrowed=narrowed,
        ),
    )


def _then(edge: Edge) -> str:
    return str(edge).partition(" -> ")[2]
