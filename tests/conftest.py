"""What all tests share: pytest's own tools to test plugins, and a way to the support modules.

The checkout comes last on the path, so that an installed wheel is what the tests import. Where
`LINKMODE_TESTED` names a directory the packages must come from there, or nothing is tested.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

import linker
import pytest_linkmode
from pytest_linkmode.axes import ours

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.dirname(HERE))

from tests import linux_only, long  # noqa: E402
from tests.windows import wine  # noqa: E402

TESTED = os.environ.get("LINKMODE_TESTED", "")
for _package in (linker, pytest_linkmode):
    _there = os.path.realpath(str(_package.__file__))
    if TESTED and not _there.startswith(os.path.join(os.path.realpath(TESTED), "")):
        raise pytest.UsageError(f"{_there} is not what is tested: that lies in {TESTED}")

# A run in the background of a shell ignores SIGINT, and its children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["pytester"]

# The plugin of hypothesis imports hypothesis at the end of every run, used or not (6.170): for runs
# of pytest inside of tests that is as much as all the rest of them.
INNER_OPTIONS = "-p no:hypothesispytest"
os.environ["PYTEST_ADDOPTS"] = INNER_OPTIONS


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Run pytest with what inner runs have, which pytester takes out of the environment."""
    monkeypatch.setenv("PYTEST_ADDOPTS", INNER_OPTIONS)
    return pytester


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which rungs of the ladder of privileges these tests found on this machine."""
    if hasattr(config, "workerinput"):
        return []
    from pytest_linkmode import ladder
    from pytest_linkmode.config import Settings

    lines = [f"rungs: {ladder.in_words(Settings())}"]
    return [*lines, f"tested: {os.path.dirname(_there)}"] if TESTED else lines


def _module(path: Path) -> str:
    return os.path.relpath(path, HERE).replace(os.sep, "/")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the modules that are about Linux elsewhere."""
    if sys.platform == "win32" and linux_only.why(_module(collection_path)):
        return True
    return None


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known."""
    config.addinivalue_line("markers", "faked(what): needs what Wine only fakes")
    config.addinivalue_line("markers", "modelled: asks a model, which runs on Linux")


@pytest.hookimpl(specname="pytest_collection_modifyitems", trylast=True)
def begin_with_long_tests(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests that take longest first, where they are for several workers."""
    if hasattr(config, "workerinput"):
        last = len(long.MODULES)
        places = {module: place for place, module in enumerate(long.MODULES)}
        items.sort(key=lambda item: places.get(_module(item.path), last))


@pytest.hookimpl(tryfirst=True)  # before -k and -m leave some out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what Wine fakes on Wine, and leave out the tests that are about Linux elsewhere."""
    for item in items:
        for what in wine.needs(item):
            if wine.here():
                item.add_marker(pytest.mark.skip(reason=wine.told(what)))
    if sys.platform == "win32":
        whole = not any("::" in each for each in config.args)
        names = [(_module(item.path), item.name) for item in items]
        if whole and (wrong := linux_only.meaningless(names)):
            raise pytest.UsageError("tests/linux_only.py names no test: " + ", ".join(wrong))
        about = [item for item in items if linux_only.why(_module(item.path), item.name)]
        if about:
            config.hook.pytest_deselected(items=about)
            items[:] = [item for item in items if item not in about]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say on Windows what is not run there because it is about Linux."""
    if sys.platform == "win32":
        config = terminalreporter.config
        asked = [_module(Path(str(config.rootpath), each)) for each in config.args]
        if told := linux_only.summary(asked):
            terminalreporter.section("about Linux, not run on Windows (tests/linux_only.py)")
        for line in told:
            terminalreporter.line(line)


@pytest.fixture
@ours
def counted() -> None:
    """Let the edges count that the linker takes in a test which uses nothing of the plugin's."""
