"""Idle costs nothing: a run that uses nothing of ours enters, makes and loads nothing."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from pytest_linkmode import namespaces

Run = Callable[..., pytest.RunResult]

HEAVY = (
    "linker",
    "pytest_linkmode.capabilities",
    "pytest_linkmode.config",
    "pytest_linkmode.coverage",
    "pytest_linkmode.errors",
    "pytest_linkmode.evidence",
    "pytest_linkmode.filesystems",
    "pytest_linkmode.generation",
    "pytest_linkmode.giving",
    "pytest_linkmode.kernel",
    "pytest_linkmode.layouts",
    "pytest_linkmode.listening",
    "pytest_linkmode.namespaces",
    "pytest_linkmode.preparing",
    "pytest_linkmode.processes",
    "pytest_linkmode.report",
    "pytest_linkmode.rungs",
    "pytest_linkmode.selection",
    "pytest_linkmode.sessions",
    "pytest_linkmode.workers",
)
"""Modules of ours that an idle run has no use for."""

IDLE = """
    import os
    import sys

    def test_nothing_of_ours_happened():
        assert "pytest_linkmode.plugin" in sys.modules
        assert not set({heavy!r}) & set(sys.modules)
        assert os.readlink("/proc/self/ns/mnt") == {namespace!r}
        assert "LINKMODE_PLACE" not in os.environ

    def test_with_a_fixture(tmp_path): ...

    class TestInClass:
        def test_method(self, monkeypatch): ...
"""


def idle_suite() -> str:
    return IDLE.format(heavy=HEAVY, namespace=os.readlink("/proc/self/ns/mnt"))


def test_a_run_that_uses_nothing_of_ours_does_nothing(
    outside: Run, pytester: pytest.Pytester, own_tmp: str
) -> None:
    pytester.makepyfile(idle_suite())
    result = outside("--basetemp=base")
    result.assert_outcomes(passed=3)
    result.stdout.no_fnmatch_line("*linkmode: *")
    result.stdout.no_fnmatch_line("*= linkmode =*")
    assert os.listdir(own_tmp) == []


def test_nor_do_workers(outside: Run, pytester: pytest.Pytester, own_tmp: str) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(idle_suite())
    outside("--basetemp=base", "-n1").assert_outcomes(passed=3)
    assert os.listdir(own_tmp) == []


def test_collecting_tests_of_ours_enters_and_makes_nothing(
    outside: Run, pytester: pytest.Pytester, own_tmp: str
) -> None:
    pytester.makepyfile("def test_it(linkmode_layout, link_mode): ...")
    pytester.makeconftest(
        f"""
        import os

        def pytest_unconfigure():
            assert os.readlink("/proc/self/ns/mnt") == {os.readlink("/proc/self/ns/mnt")!r}
        """
    )
    assert outside("--basetemp=base", "--collect-only").ret == pytest.ExitCode.OK
    assert outside("--basetemp=base", "--collect-only", "--linkmode-layout=tmpfs").ret == 0
    # Whether an ordinary user may mount is tried, over an empty directory.
    tried = {f"pytest-linkmode-of-{namespaces.user_name()}"} if os.geteuid() else set()
    assert {*os.listdir(own_tmp)} <= tried
    assert not any(os.listdir(os.path.join(own_tmp, name)) for name in os.listdir(own_tmp))


def test_importing_the_plugin_loads_no_slow_module(pytester: pytest.Pytester) -> None:
    # What pytest itself has loaded by then costs nothing more.
    script = pytester.makepyfile(
        """
        import sys
        import pytest

        before = set(sys.modules)
        import pytest_linkmode.plugin
        loaded = set(sys.modules) - before
        print(*sorted(loaded), sep="\\n")
        """
    )
    result = pytester.runpython(script)
    assert result.ret == 0
    assert [name for name in result.outlines if not name.startswith("pytest_linkmode")] == []
    assert set(result.outlines) == {
        "pytest_linkmode",
        "pytest_linkmode.axes",
        "pytest_linkmode.factories",
        "pytest_linkmode.options",
        "pytest_linkmode.plugin",
        "pytest_linkmode.stash",
    }
