"""The table of uv's races is made by really running it; what uv does is never a failure here."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from pytest_linkmode.faults.support import unavailable
from scripts import uv_races
from scripts.uv_races import ACTIONS, MODES, PAGE, Races


@pytest.fixture
def races() -> Iterator[Races]:
    refused = unavailable()
    if refused is not None:
        pytest.skip(str(refused))
    with uv_races.gathered() as made:
        yield made


def test_two_installations_are_scheduled_and_told(races: Races) -> None:
    explored, told = races.pair("clone", locks=False, budget=6)
    assert explored.counts.ran == sum(told.counts.values()) == 6
    assert "file locks succeeded without being taken" in str(explored)
    # Whatever uv makes of it: one after the other both packages are there.
    explored, told = races.pair("clone", locks=True, budget=1)
    assert str(told) == "both succeed, `ns/__init__.py` is two's (1)"


def test_somebody_acts_before_each_call(races: Races) -> None:
    applied, told = races.surprised("a file of that name appears", "copy", budget=7)
    assert 0 < applied == sum(told.counts.values()) <= 6


def test_the_page_has_a_row_for_everything() -> None:
    with open(PAGE, encoding="utf-8") as file:
        page = file.read()
    rows = re.findall(r"^\| ([^|]+) \| (?:[^|]+ \| )?\d+ \|", page, re.MULTILINE)
    assert rows == [mode for mode in MODES for _ in (0, 1)] + list(ACTIONS)
