"""The plugin: options, hooks and default fixtures. It decides nothing and mounts nothing.

Every run of pytest imports this module where the package is installed, so it imports next to
nothing; a run that uses nothing of ours pays for reading a dozen options.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_linkmode import factories
from pytest_linkmode.axes import CHANNEL, has_ours, uses_ours
from pytest_linkmode.factories import (
    linkmode_faults,
    linkmode_fs_factory,
    linkmode_interleave,
    linkmode_layout_factory,
    linkmode_linker,
    linkmode_tree,
)
from pytest_linkmode.options import add_options, given
from pytest_linkmode.stash import ASKED, JUDGEMENT, running, session_of

if TYPE_CHECKING:
    from pytest_linkmode.listening import Listener

__all__ = [
    "link_mode",
    "linkmode_faults",
    "linkmode_fs",
    "linkmode_fs_factory",
    "linkmode_interleave",
    "linkmode_layout",
    "linkmode_layout_factory",
    "linkmode_linker",
    "linkmode_tree",
]

linkmode_layout = factories.layout()
linkmode_fs = factories.filesystem()
link_mode = factories.mode()


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_linkmode import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Enter the private place while there is one thread, before a conftest starts more."""
    if given(early_config, early_config.known_args_namespace):
        from pytest_linkmode.namesakes import refuse_namesake

        refuse_namesake(pytest.UsageError)
        from pytest_linkmode.preparing import enter_early

        enter_early(early_config)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "linkmode(fs, layout, modes, needs, fresh, special): narrow what the test is varied over: "
        "filesystems, layouts, link modes; `needs` are capabilities that a layout must have, "
        "`fresh` asks for filesystems that no other test has used, `special` for the layouts of "
        "which a test has to know something.",
    )
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Reports(config), "linkmode-reports")
    asked = config.stash[ASKED] = bool(given(config, config.option))
    if asked:
        from pytest_linkmode.namesakes import refuse_namesake
        from pytest_linkmode.preparing import prepare

        refuse_namesake(pytest.UsageError)  # once more: pytest 8.2 heeds `pythonpath` only now
        prepare(config)
    elif "LINKMODE_PLACE" in os.environ:
        session_of(config)  # a worker holds back from then on what only mounting needs


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Have what looks after workers only in a run that has some."""
    from pytest_linkmode.workers import Workers

    config.pluginmanager.register(Workers(config), "linkmode-workers")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let tests that need a guest run in one, and the others beside it."""
    session = running(config)
    if session is None or not session.guests:
        return None
    from pytest_linkmode.guests.scheduling import make_scheduler

    return make_scheduler(config, log, session.guests)


def pytest_report_header(config: pytest.Config) -> str | None:
    session = running(config)
    return None if session is None else session.header


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if has_ours(metafunc._arg2fixturedefs):
        from pytest_linkmode.namesakes import refuse_namesake

        refuse_namesake(pytest.Collector.CollectError)
        from pytest_linkmode.generation import generate

        session = session_of(metafunc.config)
        session.is_varied = True
        generate(session, metafunc)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    session = running(config)
    if session is not None and session.is_varied:
        from pytest_linkmode.generation import deselect

        deselect(session, items)


def pytest_collection_finish(session: pytest.Session) -> None:
    ours = running(session.config)
    if ours is not None and ours.is_explicit and ours.settings.asks_for_filesystems:
        ours.ledger.used = any(uses_ours(item) for item in session.items)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if uses_ours(item):
        session_of(item.config).listener.observe(item)
    try:
        return (yield)
    finally:
        listening = _listening(item.config)
        if listening is not None:
            listening.end()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    listening = _listening(item.config)
    if listening is not None:
        listening.again()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    listening = _listening(item.config)
    if listening is not None:
        listening.annotate(report)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Judge the run; what was asked for and did not happen turns a green one red."""
    ours = running(session.config)
    if ours is None:
        return
    if ours.is_worker:
        session.config.workeroutput[CHANNEL] = ours.said()  # type: ignore[attr-defined]
    elif ours.is_used:
        from pytest_linkmode.judging import judge

        judgement = judge(ours, exitstatus)
        if judgement is None:
            return
        session.config.stash[JUDGEMENT] = judgement
        if judgement.exit_status != exitstatus:  # another plugin may have set its own before us
            session.exitstatus = judgement.exit_status


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was verified and, before all else, what was asked for and not done."""
    judgement = terminalreporter.config.stash.get(JUDGEMENT, None)
    if judgement is not None:
        judgement.show(terminalreporter)


class Reports:
    """Enters every report in the ledger: of this process, or in the controller of all workers."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of one phase of one test, if it may be one of ours."""
        session = running(self._config)
        if CHANNEL in report.__dict__ or (session is not None and session.is_used):
            from pytest_linkmode.listening import enter

            enter(report, session_of(self._config).ledger)


def _listening(config: pytest.Config) -> Listener | None:
    """Return the listener, if any test has had use for it."""
    session = running(config)
    return None if session is None else session.listening
