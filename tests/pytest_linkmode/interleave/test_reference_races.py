"""The reference linker in company: every schedule of two, and as many of three as the bound allows.

``--linkmode-budget=N`` explores further (or less far); what was not run is in the summary.
"""

from __future__ import annotations

import pytest

from linker import LinkMode
from pytest_linkmode.interleave import Interleaver
from pytest_linkmode.models.clonefile import Quirk
from tests.pytest_linkmode.interleave.races import SCENARIOS, THREE, Race, fault_at, mac

MODES = list(LinkMode)
WHOLE = ("both bring a new namespace", "the same source")
"""Explored whole also as hard links, whose linkers look out for each other: 5,000 each."""


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("name", SCENARIOS)
def test_two_linkers_in_one_target(
    linkmode_interleave: Interleaver, meeting: str, name: str, mode: LinkMode
) -> None:
    race = Race(meeting, SCENARIOS[name], mode)
    bound = 600 if name not in WHOLE else 8000
    explored = race.explore(linkmode_interleave, linkmode_interleave.budget or bound)
    if linkmode_interleave.budget is None and name in WHOLE:
        assert explored.complete or explored.replayed


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("name", THREE)
def test_three_linkers_in_one_target(
    linkmode_interleave: Interleaver, meeting: str, name: str, mode: LinkMode
) -> None:
    race = Race(meeting, THREE[name], mode)
    race.explore(linkmode_interleave, linkmode_interleave.budget or 600)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("name", ["both bring a new namespace", "both replace what is there"])
def test_one_of_two_fails_and_rolls_back(
    linkmode_interleave: Interleaver, meeting: str, name: str, mode: LinkMode
) -> None:
    for call in range(1, 90, 4):
        race = Race(meeting, SCENARIOS[name], mode, faults={0: fault_at(call)})
        race.explore(linkmode_interleave, linkmode_interleave.budget or 50, f"fault{call}")


def test_one_of_two_that_give_names_to_the_same_files_rolls_back(
    linkmode_interleave: Interleaver, meeting: str
) -> None:
    """Which of them gave a name cannot be seen: only who was there when tells."""
    scenario = SCENARIOS["the same source"]
    for call in range(30, 90, 5):
        race = Race(meeting, scenario, LinkMode.HARDLINK, faults={0: fault_at(call)})
        race.explore(linkmode_interleave, linkmode_interleave.budget or 400, f"fault{call}")


KERNELS = {
    "at once": mac(atomic=True),
    "item by item": mac(atomic=False),
    "at once, ENOENT for EEXIST": mac(Quirk.MISSING_FOR_EXISTS, atomic=True),
    "item by item, ENOENT for EEXIST": mac(Quirk.MISSING_FOR_EXISTS, atomic=False),
}
DEEPER = ("both bring a new namespace", "both replace what is there")
"""Explored further on macOS, in every mode on every kernel."""
WORST = "item by item, ENOENT for EEXIST"
MODES_AND_KERNELS = [
    (mode, kernel)
    for mode in MODES
    for kernel in KERNELS
    # Only a clone asks this kernel for something of its own.
    if mode is LinkMode.CLONE or kernel == WORST
]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("name", DEEPER)
def test_two_linkers_on_macos(
    linkmode_interleave: Interleaver, meeting: str, name: str, mode: LinkMode, kernel: str
) -> None:
    bound = 300 if mode is LinkMode.CLONE else 60
    race = Race(meeting, SCENARIOS[name], mode, KERNELS[kernel])
    race.explore(linkmode_interleave, linkmode_interleave.budget or bound)


@pytest.mark.parametrize(("mode", "kernel"), MODES_AND_KERNELS)
@pytest.mark.parametrize("name", [name for name in {**SCENARIOS, **THREE} if name not in DEEPER])
def test_two_or_three_linkers_on_macos(
    linkmode_interleave: Interleaver, meeting: str, name: str, mode: LinkMode, kernel: str
) -> None:
    bound = 45 if mode is LinkMode.CLONE else 30
    race = Race(meeting, {**SCENARIOS, **THREE}[name], mode, KERNELS[kernel])
    race.explore(linkmode_interleave, linkmode_interleave.budget or bound)


@pytest.mark.parametrize(("mode", "kernel"), MODES_AND_KERNELS)
def test_one_of_two_fails_and_rolls_back_on_macos(
    linkmode_interleave: Interleaver, meeting: str, mode: LinkMode, kernel: str
) -> None:
    scenario = SCENARIOS["both bring a new namespace"]
    bound = 30 if mode is LinkMode.CLONE else 10
    for call in range(1, 90, 8):
        race = Race(meeting, scenario, mode, KERNELS[kernel], {0: fault_at(call)})
        race.explore(linkmode_interleave, linkmode_interleave.budget or bound, f"fault{call}")
