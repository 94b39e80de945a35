"""What all tests share: pytest's own tools to test plugins, and a way to the support modules.

The checkout comes last on the path, so that an installed wheel is what the tests import. Where
`LINKMODE_TESTED` names a directory the packages must come from there, or nothing is tested.
"""

from __future__ import annotations

import os
import signal
import sys

import pytest

import linker
import pytest_linkmode
from pytest_linkmode.axes import ours

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

TESTED = os.environ.get("LINKMODE_TESTED", "")
for _package in (linker, pytest_linkmode):
    _there = os.path.realpath(str(_package.__file__))
    if TESTED and not _there.startswith(os.path.join(os.path.realpath(TESTED), "")):
        raise pytest.UsageError(f"{_there} is not what is tested: that lies in {TESTED}")

# A run in the background of a shell ignores SIGINT, and its children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["pytester"]


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which rungs of the ladder of privileges these tests found on this machine."""
    if hasattr(config, "workerinput"):
        return []
    from pytest_linkmode import ladder
    from pytest_linkmode.config import Settings

    lines = [f"rungs: {ladder.in_words(Settings())}"]
    return [*lines, f"tested: {os.path.dirname(_there)}"] if TESTED else lines


@pytest.fixture
@ours
def counted() -> None:
    """Let the edges count that the linker takes in a test which uses nothing of the plugin's."""
