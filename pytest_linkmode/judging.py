"""What happens after the tests: one verdict, the reports, and the exit status.

Only the controller judges; a worker hands over what it has to say.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_linkmode.coverage import PLATFORM
from pytest_linkmode.report.model import Circumstances, Verdict, verdict
from pytest_linkmode.report.terminal import Row, Span, lines

if TYPE_CHECKING:
    from pytest_linkmode.sessions import Session


GREEN = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


class Judgement:
    """The verdict of a run, the reports that could not be written, and how it is shown."""

    def __init__(self, session: Session, exit_status: int) -> None:
        self._config = session.config
        self._settings = session.settings
        self._ended = exit_status
        if exit_status == pytest.ExitCode.INTERRUPTED:
            session.ledger.interrupt()
        self._verdict: Verdict = verdict(
            session.settings,
            session.ledger,
            session.policy,
            platform=PLATFORM,
            place=session.place_words,
            narrowed=_is_narrowed(session.config),
            order=session.selection.order if session.ledger.trials else (),
        )
        self._tell_junit()
        self._troubles: list[str] = []
        self._written: list[str] = []
        self._write_reports(session.started)

    @property
    def exit_status(self) -> int:
        """How the run ends: a green one is red if a guard is unmet or a report not written."""
        good = not (self._verdict.failures or self._troubles)
        return self._ended if good or self._ended not in GREEN else pytest.ExitCode.TESTS_FAILED

    def show(self, terminal: pytest.TerminalReporter) -> None:
        """Print it, if there is anything to tell."""
        if self._verdict.empty and not self._troubles:
            return
        width, verbosity = terminal._tw.fullwidth, self._config.get_verbosity()
        rows: list[Row] = [(Span(trouble, ("red", "bold")),) for trouble in self._troubles]
        rows += lines(self._verdict, width=width, verbosity=verbosity)
        rows += [(Span(f"report: {path}"),) for path in self._written]
        if not rows:
            return
        terminal.section("linkmode")
        _print(terminal, rows)

    def _tell_junit(self) -> None:
        """Give the suite in the JUnit report what a property can hold of all this."""
        found = self._verdict
        for plugin in self._config.pluginmanager.get_plugins():
            tell = getattr(plugin, "add_global_property", None)
            if tell is not None:
                tell("linkmode_policy", f"{found.policy.name} on {found.platform}")
                tell("linkmode_edges_verified", f"{found.verified} of {len(found.lines)}")

    def _write_reports(self, started: float) -> None:
        if not self._settings.report:
            return
        from pytest_linkmode.report.document import document
        from pytest_linkmode.report.machine import facts
        from pytest_linkmode.report.writing import write

        circumstances = Circumstances(
            started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
            seconds=time.time() - started,
            exit_status=int(self.exit_status),
            machine=facts(),
        )
        there = self._verdict.machines.items()
        others = {name: found for name, found in there if found != circumstances.machine}
        made = document(replace(self._verdict, circumstances=circumstances, machines=others))
        for path in self._settings.report:
            try:
                write(made, path)
                self._written.append(path)
            except OSError as error:
                self._troubles.append(f"--linkmode-report={path}: {error.strerror or error}")


def _print(terminal: pytest.TerminalReporter, rows: list[Row]) -> None:
    for row in rows:
        for span in row:
            terminal.write(span.text, **dict.fromkeys(span.markup, True))
        terminal.line("")


def _is_narrowed(config: pytest.Config) -> bool:
    """Whether the user named single files or tests."""
    base = str(config.invocation_params.dir)
    return config.args_source is pytest.Config.ArgsSource.ARGS and all(
        "::" in argument or os.path.isfile(os.path.join(base, argument)) for argument in config.args
    )
