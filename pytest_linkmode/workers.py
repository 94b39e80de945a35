"""Workers of pytest-xdist, as their controller sees them: what they are told, and what they leave.

A worker that is killed cannot undo what it made outside of a private mount namespace. Its notes
bear a mark of the run, by which the controller finds and undoes it once every worker is gone.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from pytest_linkmode.axes import CHANNEL
from pytest_linkmode.stash import running, session_of


class Workers:
    """The workers of a run: a plugin of the controller, from when they are about to start.

    `at_work` is how many have not ended in good order; `run` is what they call this run in their
    notes of what must be undone.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.at_work = 0
        self.run = os.urandom(8).hex()
        session = running(config)
        if session is not None:
            session.make_way()

    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Hand the controller's decision down to a worker."""
        self.at_work += 1
        session = running(node.config)
        unavailable = {} if session is None else session.hand_down()
        node.workerinput[CHANNEL] = {"run": self.run, "unavailable": unavailable}

    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a worker has to say, unless it crashed."""
        output = getattr(node, "workeroutput", None)
        if output is not None:
            self.at_work -= 1
            if output.get(CHANNEL):
                session_of(node.config).ledger.merge(output[CHANNEL])

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Undo what workers left outside of a private namespace, now that every one is gone, and
        name what cannot be.
        """
        session = running(config)
        if session is None and self.at_work == 0:
            return
        from pytest_linkmode.errors import LinkmodeError
        from pytest_linkmode.filesystems.registry import clear_up
        from pytest_linkmode.options import given

        if "keep" in given(config, config.option):
            return
        try:
            left = clear_up(self.run)
        except (LinkmodeError, OSError) as error:
            # Where nothing of ours was used nothing was left.
            left = [] if session is None else [f"linkmode: what workers left is not known: {error}"]
        reporter = config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None:
            for line in left:
                reporter.write_line(line, yellow=True)
