"""Ends a run whose guest does not come up, before its first test, in words of ours."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_linkmode.errors import UsageError


class Starting:
    """A plugin of the controller of a run that has guests."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_newgateway(self, gateway: Any) -> None:
        """Wait until a worker answers. Raises pytest.UsageError."""
        try:
            gateway._rinfo()  # as pytest-xdist does next, which keeps the answer
        except (OSError, EOFError):
            # Now, as execnet starts threads for it: no thread starts when Python >= 3.12 ends.
            gateway._group.terminate(timeout=1)
            gone = UsageError(
                f"worker {gateway.id} is gone before it began",
                why="what it said last, as a guest does, stands above",
                hint="LINKMODE_UML_MEMORY=2G says how much memory a guest believes to have",
            )
            raise pytest.UsageError(str(gone)) from None
