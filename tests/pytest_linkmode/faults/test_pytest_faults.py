"""The fixture in a project: sweeps report subtests, print what they did, and replay one case."""

from __future__ import annotations

import pytest

FIXTURE = """
    import os
    import pytest
    from pytest_linkmode.faults.pytest_faults import faults_of, sweep_lines

    @pytest.fixture
    def faults(request):
        replay = os.environ.get("REPLAY", "").split()
        budget = os.environ.get("BUDGET")
        with faults_of(request, replay, budget and int(budget)) as runner:
            yield runner

    def pytest_terminal_summary(terminalreporter):
        for line in sweep_lines(terminalreporter):
            terminalreporter.write_line(line)
"""
TEST = """
import os, sys

PROGRAM = '''
import os, sys
for name in "abc":
    try:
        os.symlink("x", sys.argv[1] + "/" + name)
    except OSError:
        if name == "b":
            continue
        raise
'''

def test_sweep(faults, tmp_path):
    target = tmp_path / "t"
    target.mkdir()
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, target]
    for case in faults.sweep(command, ops=("symlink",), errors=("EPERM",), target=target):
        with case:
            assert case.killed or case.run.returncode or len(os.listdir(target)) == 3

def test_run(faults, tmp_path):
    run = faults.run(["ln", "-s", "x", tmp_path / "y"], faults=["symlink:EPERM"])
    assert run.returncode == 1
"""
FAILS = "*:EPERM:nth=2 at */t/b*"
REPLAY = "*--linkmode-fault='symlink:EPERM:path=[*]/b'*"


@pytest.fixture
def project(pytester: pytest.Pytester, faultable: None) -> pytest.Pytester:
    """Give a small project that tests its program with faults."""
    pytester.makeconftest(FIXTURE)
    pytester.makepyfile(TEST)
    return pytester


def test_a_failing_case_is_one_subtest_and_the_rest_one_line(project: pytest.Pytester) -> None:
    pytest.importorskip("pytest", minversion="9.0", reason="subtests are built into pytest 9")
    result = project.runpytest_subprocess("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines([REPLAY, "*test_sweep: swept 9 cases of * 3 symlink*: 1 failed*"])
    result.stdout.fnmatch_lines(["SUBFAILED*symlink:EPERM:nth=2 at */t/b* *test_sweep*"])
    outcomes = result.parseoutcomes()
    assert outcomes["failed"] == 2  # the subtest, and the test that holds it
    assert outcomes["passed"] == 1
    assert result.stdout.str().count("SUBFAILED") == 1


def test_without_subtests_the_test_fails_with_all_of_them(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:subtests")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*SweepFailed: swept 9 cases*1 failed", FAILS, REPLAY])


def test_lines_of_workers_arrive(project: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    result = project.runpytest_subprocess("-p", "no:cacheprovider", "-n2")
    result.stdout.fnmatch_lines([REPLAY, "*test_sweep: swept 9 cases of * 3 symlink*: 1 failed*"])
    assert result.parseoutcomes()["passed"] == 1


def test_one_case_is_replayed_as_it_was_printed(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLAY", "symlink:EPERM:path=*/b")
    result = project.runpytest_subprocess("-p", "no:cacheprovider", "-k", "sweep")
    result.stdout.fnmatch_lines(["*swept 1 cases*: 1 failed*"])
    monkeypatch.setenv("REPLAY", "symlink:EPERM:path=*/c")
    result = project.runpytest_subprocess("-p", "no:cacheprovider", "-k", "sweep")
    result.assert_outcomes(passed=1, deselected=1)


def test_a_budget_is_said(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUDGET", "2")
    result = project.runpytest_subprocess("-p", "no:cacheprovider", "-k", "sweep")
    result.stdout.fnmatch_lines(["*; 7 of 9 not run, evenly sampled (--linkmode-budget=2)"])


def test_where_programs_cannot_have_faults_the_test_is_skipped_with_the_reason(
    project: pytest.Pytester,
) -> None:
    project.makepyfile(
        conftest_plugin="""
        from pytest_linkmode.errors import Unavailable
        from pytest_linkmode.faults import support

        support.unavailable = lambda: Unavailable("faults in programs", why="not on this system")
        """
    )
    result = project.runpytest_subprocess("-p", "conftest_plugin", "-p", "no:cacheprovider", "-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED*faults in programs: not on this system"])


def test_the_module_of_the_fixture_imports_nothing_of_ours(pytester: pytest.Pytester) -> None:
    script = pytester.makepyfile(
        """
        import sys
        import pytest
        before = set(sys.modules)
        import pytest_linkmode.faults.pytest_faults
        print(*sorted(set(sys.modules) - before))
        """
    )
    loaded = pytester.runpython(script).outlines[0].split()
    ours = [f"pytest_linkmode{part}" for part in ("", ".faults", ".faults.pytest_faults")]
    assert loaded == ours
