"""What happens after the tests: one verdict, the reports, and the exit status.

Only the controller judges; a worker hands over what it has to say.
"""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_linkmode.coverage import PLATFORM
from pytest_linkmode.errors import LinkmodeError
from pytest_linkmode.options import BY_NAME, only_shows
from pytest_linkmode.report.model import Circumstances, Verdict, verdict
from pytest_linkmode.report.terminal import Row, Span, lines

if TYPE_CHECKING:
    from pytest_linkmode.sessions import Session


GREEN = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def judge(session: Session, exit_status: int) -> Judgement | Misread | None:
    """Return what came of a run; nothing of one that ran no test on purpose."""
    options = session.config.option
    if only_shows(options) or options.collectonly or getattr(options, "setuponly", False):
        return None
    try:
        session.take_notes()
        return Judgement(session, exit_status)
    except LinkmodeError as error:
        return Misread(error, exit_status)


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
        return self._ended if good else _reddened(self._ended)

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


class Misread:
    """Stands for the judgement of a run whose environment holds what cannot be right: only a run
    that asks for something looks at all of it before it begins.
    """

    def __init__(self, error: LinkmodeError, exit_status: int) -> None:
        self._error = error
        self.exit_status = _reddened(exit_status)

    def show(self, terminal: pytest.TerminalReporter) -> None:
        """Print what is wrong."""
        terminal.section("linkmode")
        _print(terminal, [(Span(str(self._error), ("red", "bold")),)])


def _reddened(ended: int) -> int:
    """Return how a run ends that must not be green."""
    return pytest.ExitCode.TESTS_FAILED if ended in GREEN else ended


def _print(terminal: pytest.TerminalReporter, rows: list[Row]) -> None:
    for row in rows:
        for span in row:
            terminal.write(span.text, **dict.fromkeys(span.markup, True))
        terminal.line("")


def _is_narrowed(config: pytest.Config) -> bool:
    """Whether the user named single files or tests, and asked for nothing beside them."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS or _asks(config):
        return False
    base = str(config.invocation_params.dir)
    return all(
        "::" in argument or os.path.isfile(os.path.join(base, argument)) for argument in config.args
    )


def _asks(config: pytest.Config) -> bool:
    """Whether filesystems were asked for of this run, not by `addopts` of every run."""
    words = [*map(str, config.invocation_params.args)]
    words += shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    flags = [BY_NAME[name].flag for name in ("fs", "layout", "tmp")]
    # What a file of arguments holds was typed too, and may ask for some.
    return any(word.partition("=")[0] in flags or word.startswith("@") for word in words)
