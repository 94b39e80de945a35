"""The plugin: options, hooks and default fixtures. It decides nothing and mounts nothing.

Every run of pytest imports this module where the package is installed, so it imports next to
nothing; a run that uses nothing of ours pays for reading a dozen options.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

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
from pytest_linkmode.options import add_options
from pytest_linkmode.sessions import KEY, Session, UsageErrors, session_of

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
    options = early_config.known_args_namespace
    with UsageErrors():
        session = Session(early_config, options)
        if session.is_explicit:
            from pytest_linkmode.preparing import enter_early

            enter_early(session, options)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "linkmode(fs, layout, modes, needs, fresh, special): narrow what the test is varied over: "
        "filesystems, layouts, link modes; `needs` are capabilities that a layout must have, "
        "`fresh` asks for filesystems that no other test has used, `special` for the layouts of "
        "which a test has to know something.",
    )
    with UsageErrors():
        session = config.stash[KEY] = Session(config, config.option)
        config.add_cleanup(session.close)
        if not session.is_worker:
            config.pluginmanager.register(Reports(session), "linkmode-reports")
        if session.is_explicit:
            from pytest_linkmode.preparing import prepare

            prepare(session)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Let the workers mount what this process may."""
    session_of(config).make_way()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand the controller's decision down to a worker of pytest-xdist."""
    node.workerinput[CHANNEL] = session_of(node.config).hand_down()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let tests that need a guest run in one, and the others beside it."""
    session = session_of(config)
    if not session.guests:
        return None
    from pytest_linkmode.guests.scheduling import make_scheduler

    return make_scheduler(config, log, session.guests)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker has to say, unless it crashed."""
    said = getattr(node, "workeroutput", {}).get(CHANNEL)
    if said:
        session_of(node.config).ledger.merge(said)


def pytest_report_header(config: pytest.Config) -> str | None:
    return session_of(config).header


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if has_ours(metafunc._arg2fixturedefs):
        from pytest_linkmode.generation import generate

        session = session_of(metafunc.config)
        session.is_varied = True
        generate(session, metafunc)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    session = session_of(config)
    if session.is_varied:
        from pytest_linkmode.generation import deselect

        deselect(session, items)


def pytest_collection_finish(session: pytest.Session) -> None:
    ours = session_of(session.config)
    if ours.is_explicit and ours.settings.asks_for_filesystems:
        ours.ledger.used = any(uses_ours(item) for item in session.items)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    session = session_of(item.config)
    if uses_ours(item):
        session.listener.observe(item)
    try:
        return (yield)
    finally:
        if session.listening is not None:
            session.listening.end()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    listening = session_of(item.config).listening
    if listening is not None:
        listening.again()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    listening = session_of(item.config).listening
    if listening is not None:
        listening.annotate(report)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Judge the run; what was asked for and did not happen turns a green one red."""
    ours = session_of(session.config)
    options = session.config.option
    if ours.is_worker:
        session.config.workeroutput[CHANNEL] = ours.said()  # type: ignore[attr-defined]
    elif ours.is_used and not (options.collectonly or getattr(options, "setuponly", False)):
        from pytest_linkmode.judging import Judgement

        ours.take_notes()
        ours.judgement = Judgement(ours, exitstatus)
        session.exitstatus = ours.judgement.exit_status


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was verified and, before all else, what was asked for and not done."""
    judgement = session_of(terminalreporter.config).judgement
    if judgement is not None:
        judgement.show(terminalreporter)


class Reports:
    """Enters every report in the ledger: of this process, or in the controller of all workers."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of one phase of one test, if it may be one of ours."""
        if self._session.is_used or CHANNEL in report.__dict__:
            from pytest_linkmode.listening import enter

            enter(report, self._session.ledger)
