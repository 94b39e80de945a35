"""The fixture `linkmode_interleave`. The plugin registers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from pytest_linkmode.faults.pytest_faults import saying

if TYPE_CHECKING:
    from pytest_linkmode.interleave.explorer import Interleaver


def interleaver_of(
    request: pytest.FixtureRequest,
    replay: str | None = None,
    budget: int | None = None,
    alone: Callable[[], str] = str,
) -> Interleaver:
    """Return what explores schedules for a test, and says in the summary what it did.

    `replay` is the line of ``--linkmode-schedule``, `budget` is ``--linkmode-budget``, `alone`
    returns the command line of this test.
    """
    from pytest_linkmode.interleave.explorer import Interleaver

    return Interleaver(
        budget=budget,
        replay=replay,
        say=saying(request),
        failures=(Exception, pytest.fail.Exception),
        alone=alone,
    )
