"""The reference linker in company: every schedule of two, and as many of three as the bound allows.

``--linkmode-budget=N`` explores further (or less far); what was not run is in the summary.
"""

from __future__ import annotations

import pytest

from linker import LinkMode
from pytest_linkmode.interleave import Interleaver
from tests.pytest_linkmode.interleave.races import SCENARIOS, THREE, Race, fault_at

MODES = list(LinkMode)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("name", SCENARIOS)
def test_two_linkers_in_one_target(
    linkmode_interleave: Interleaver, meeting: str, name: str, mode: LinkMode
) -> None:
    race = Race(meeting, SCENARIOS[name], mode)
    explored = race.explore(linkmode_interleave, linkmode_interleave.budget or 600)
    assert explored.replayed or explored.counts.ran > 1


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
