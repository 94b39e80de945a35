"""The fixture `linkmode_faults` and what it adds to the summary. The plugin registers both.

The plugin imports this module in every run, so it imports nothing of ours until a test asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_linkmode import HERE

if TYPE_CHECKING:
    from pytest_linkmode.faults.runner import FaultRunner, Run

PROPERTY = "linkmode_sweep"
"""The name under which the line of a sweep, or of an exploration, travels with the report of its
test, from workers too."""
MET, MISSED = "linkmode_met", "linkmode_missed"
"""The names under which a fault does that was replayed, as it hit a call or none."""


@contextmanager
def faults_of(
    request: pytest.FixtureRequest,
    replay: Iterable[str] = (),
    budget: int | None = None,
    witness: Callable[[Run], None] | None = None,
    alone: Callable[[], str] = str,
) -> Iterator[FaultRunner]:
    """Give a test its `FaultRunner`, or skip it, saying why, where programs cannot have faults.

    On other systems than Linux it is given nevertheless: functions of Python have faults there,
    and a program is refused with the reason.

    `replay` are the lines of ``--linkmode-fault``, `budget` is ``--linkmode-budget``; `witness` is
    told of every run of a program, and `alone` returns the command line of this test. Raises
    UsageError for a line that cannot be read.
    """
    from pytest_linkmode.faults.runner import FaultRunner
    from pytest_linkmode.faults.spec import parse_all
    from pytest_linkmode.faults.support import unavailable

    refused = unavailable()
    if refused is not None and HERE == "linux":
        pytest.skip(str(refused))

    runner = FaultRunner(
        budget=budget,
        replay=parse_all(replay),
        subtests=_subtests(request),
        say=saying(request),
        replayed=_replayed(request),
        failures=(Exception, pytest.fail.Exception),
        witness=witness,
        alone=alone,
    )
    yield runner
    runner.close()


def saying(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return what has a line printed in the summary, beside the name of the test."""

    def say(line: str) -> None:
        request.node.user_properties.append((PROPERTY, line))

    return say


def _replayed(request: pytest.FixtureRequest) -> Callable[[str, bool], None]:
    """Return what has the run know whether a replayed fault hit a call."""

    def replayed(line: str, met: bool) -> None:  # noqa: FBT001  # called by position
        request.node.user_properties.append((MET if met else MISSED, line))

    return replayed


def _subtests(request: pytest.FixtureRequest) -> Any:
    """Return the fixture `subtests` (pytest 9, or the plugin pytest-subtests), or None."""
    try:
        return request.getfixturevalue("subtests")
    except pytest.FixtureLookupError:
        return None
