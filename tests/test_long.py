"""What workers begin with is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import long


@pytest.mark.parametrize("module", long.MODULES)
def test_what_takes_longest_exists(module: str) -> None:
    assert (Path(__file__).parent / module).is_file()
