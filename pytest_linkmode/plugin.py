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
from pytest_linkmode.stash import ASKED, KEY, session_of

if TYPE_CHECKING:
    from pytest_linkmode.judging import Judgement
    from pytest_linkmode.listening import Listener
    from pytest_linkmode.sessions import Session

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
    if given(early_config, options):
        from pytest_linkmode.preparing import enter_early
        from pytest_linkmode.sessions import Session

        with _UsageErrors():
            enter_early(Session(early_config, options, is_explicit=True), options)


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
    if asked or "LINKMODE_PLACE" in os.environ:
        with _UsageErrors():
            session = session_of(config)
            if asked:
                from pytest_linkmode.preparing import prepare

                prepare(session)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Let the workers mount what this process may, and count them."""
    config.stash[WORKERS] = Workers()
    session = _running(config)
    if session is not None:
        session.make_way()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand the controller's decision down to a worker of pytest-xdist."""
    workers = node.config.stash[WORKERS]
    workers.at_work += 1
    session = _running(node.config)
    unavailable = {} if session is None else session.hand_down()
    node.workerinput[CHANNEL] = {"run": workers.run, "unavailable": unavailable}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let tests that need a guest run in one, and the others beside it."""
    session = _running(config)
    if session is None or not session.guests:
        return None
    from pytest_linkmode.guests.scheduling import make_scheduler

    return make_scheduler(config, log, session.guests)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker has to say, unless it crashed."""
    output = getattr(node, "workeroutput", None)
    if output is not None:
        node.config.stash[WORKERS].at_work -= 1
        if output.get(CHANNEL):
            session_of(node.config).ledger.merge(output[CHANNEL])


def pytest_report_header(config: pytest.Config) -> str | None:
    session = _running(config)
    return None if session is None else session.header


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if has_ours(metafunc._arg2fixturedefs):
        from pytest_linkmode.generation import generate

        session = session_of(metafunc.config)
        session.is_varied = True
        generate(session, metafunc)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    session = _running(config)
    if session is not None and session.is_varied:
        from pytest_linkmode.generation import deselect

        deselect(session, items)


def pytest_collection_finish(session: pytest.Session) -> None:
    ours = _running(session.config)
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
    ours = _running(session.config)
    if ours is None:
        return
    options = session.config.option
    if ours.is_worker:
        session.config.workeroutput[CHANNEL] = ours.said()  # type: ignore[attr-defined]
    elif ours.is_used and not (options.collectonly or getattr(options, "setuponly", False)):
        from pytest_linkmode.judging import Judgement

        ours.take_notes()
        judgement = session.config.stash[JUDGEMENT] = Judgement(ours, exitstatus)
        session.exitstatus = judgement.exit_status


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was verified and, before all else, what was asked for and not done."""
    judgement = terminalreporter.config.stash.get(JUDGEMENT, None)
    if judgement is not None:
        judgement.show(terminalreporter)


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Undo what workers left outside of a private namespace, now that every one is gone."""
    workers, session = config.stash.get(WORKERS, None), _running(config)
    if workers is None or (session is None and workers.at_work == 0):
        return
    if "keep" in given(config, config.option):
        return
    from pytest_linkmode.errors import LinkmodeError
    from pytest_linkmode.filesystems.registry import clear_up

    try:
        left = clear_up(workers.run)
    except (LinkmodeError, OSError) as error:
        # Where nothing of ours was used nothing was left.
        left = [] if session is None else [f"linkmode: what workers left is not known: {error}"]
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None:
        for line in left:
            reporter.write_line(line, yellow=True)


class Workers:
    """The workers of a run, as the controller knows them.

    `at_work` is how many have not ended in good order; `run` is what they call this run in their
    notes of what must be undone.
    """

    def __init__(self) -> None:
        self.at_work = 0
        self.run = os.urandom(8).hex()


WORKERS: pytest.StashKey[Workers] = pytest.StashKey()
JUDGEMENT: pytest.StashKey[Judgement] = pytest.StashKey()


class Reports:
    """Enters every report in the ledger: of this process, or in the controller of all workers."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of one phase of one test, if it may be one of ours."""
        session = _running(self._config)
        if CHANNEL in report.__dict__ or (session is not None and session.is_used):
            from pytest_linkmode.listening import enter

            enter(report, session_of(self._config).ledger)


def _running(config: pytest.Config) -> Session | None:
    """Return the state of this run, if anything of ours was asked for, collected or run."""
    return config.stash.get(KEY, None)


def _listening(config: pytest.Config) -> Listener | None:
    """Return the listener, if any test has had use for it."""
    session = _running(config)
    return None if session is None else session.listening


class _UsageErrors:
    """Turns errors of ours into pytest's own way to end a run before it begins."""

    def __enter__(self) -> None:
        """Do nothing: a run without an error does not even import ours."""

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if error is not None:
            from pytest_linkmode.errors import LinkmodeError

            if isinstance(error, LinkmodeError):
                raise pytest.UsageError(str(error)) from None
