"""The fixture in a project: sweeps report subtests, print what they did, and replay one case."""

from __future__ import annotations

import json
import re
import shlex

import pytest

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

def test_sweep(linkmode_faults, tmp_path):
    target = tmp_path / "t"
    target.mkdir()
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, target]
    for case in linkmode_faults.sweep(command, ops=("symlink",), errors=("EPERM",), target=target):
        with case:
            assert case.killed or case.run.returncode or len(os.listdir(target)) == 3

def test_run(linkmode_faults, tmp_path):
    run = linkmode_faults.run(["ln", "-s", "x", tmp_path / "y"], faults=["symlink:EPERM"])
    assert run.returncode == 1
"""
FAILS = "*:EPERM:nth=2 at */t/b*"
REPLAY = "*--linkmode-fault='symlink:EPERM:nth=1:path=[*]/b'*"


@pytest.fixture
def project(pytester: pytest.Pytester, faultable: None) -> pytest.Pytester:
    """Give a small project that tests its program with faults."""
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


def test_one_case_is_replayed_as_it_was_printed(project: pytest.Pytester) -> None:
    replay = "--linkmode-fault=symlink:EPERM:nth=1:path=*/b"
    result = project.runpytest_subprocess("-p", "no:cacheprovider", "-k", "sweep", replay)
    result.stdout.fnmatch_lines([f"linkmode: *{replay[2:]}*", "*swept 1 cases*: 1 failed*"])
    other = "--linkmode-fault=symlink:EPERM:nth=1:path=*/c"
    result = project.runpytest_subprocess("-p", "no:cacheprovider", "-k", "sweep", other)
    result.assert_outcomes(passed=1, deselected=1)
    assert result.ret == pytest.ExitCode.OK


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["here", "worker"])
def test_a_case_that_no_sweep_meets_any_more_fails_the_run(
    project: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytest.importorskip("xdist")
    missed = "--linkmode-fault=symlink:EPERM:nth=1:path=*/z"
    quiet = ("-p", "no:cacheprovider", "-q", *workers)
    result = project.runpytest_subprocess(*quiet, missed)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["test_sweep: swept 1 cases of *: 0 failed, 1 met no call"])
    result.stdout.fnmatch_lines([f"*{missed}: met no call, so nothing was replayed*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    # Another sweep of the run has such a call.
    more = TEST.replace("abc", "xyz").replace("def test_", "def test_more_")
    project.makepyfile(test_more=more)
    result = project.runpytest_subprocess(*quiet, missed)
    result.stdout.no_fnmatch_line("*nothing was replayed*")
    assert result.ret == pytest.ExitCode.OK


def test_a_program_that_fails_by_itself_is_told(pytester: pytest.Pytester, faultable: None) -> None:
    pytester.makepyfile("""
        def test_sweep(linkmode_faults, tmp_path):
            command = ["sh", "-c", f"mkdir {tmp_path}/q; exit 3"]
            for case in linkmode_faults.sweep(command, ops=("mkdir",), target=tmp_path):
                with case:
                    assert case.run.returncode
    """)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-q")
    line = "test_sweep: swept *: 0 failed; without a fault it failed: exit status 3"
    result.stdout.fnmatch_lines([line])


PLACED = """
import os, sys

import pytest

PROGRAM = '''
import os, sys
source, target = sys.argv[1:]
try:
    os.link(source + "/a", target + "/it's")
except OSError:
    os.symlink("x", target + "/it's")
'''

@pytest.mark.parametrize("word", ["one two", "three"])
def test_place(linkmode_layout, linkmode_fs, linkmode_faults, word):
    layout = linkmode_layout
    (layout.source / "a").touch()
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, layout.source, layout.target]
    for case in linkmode_faults.sweep(
        command, ops=("hardlink",), errors=("EPERM",), kills=False, target=layout.target
    ):
        with case:
            assert not os.path.islink(layout.target / "it's"), word
"""


@pytest.mark.parametrize("subtests", ["subtests", "no:subtests"])
def test_the_printed_line_shows_the_case_again_when_it_is_pasted(
    pytester: pytest.Pytester, faultable: None, subtests: str
) -> None:
    (pytester.path / "sub dir").mkdir()
    (pytester.path / "sub dir" / "test_placed.py").write_text(PLACED)
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    options = ("-p", "no:cacheprovider") + (() if subtests == "subtests" else ("-p", subtests))
    asked = "--linkmode-layout=disk", "--linkmode-namespace=host", "--linkmode-report=r.json"
    result = pytester.runpytest_subprocess(*options, *asked)
    lines = re.findall(r"^\S* +(?:replay this case with )?(pytest .*)$", str(result.stdout), re.M)
    lines = list(dict.fromkeys(lines))
    assert len(lines) == 2  # disk, in both words
    for line, word in zip(lines, ("one two", "three"), strict=True):
        program, test, *arguments = shlex.split(line)
        assert program == "pytest"
        assert test == f"sub dir/test_placed.py::test_place[disk-disk-{word}]"
        assert arguments[:2] == ["--linkmode-layout=disk", "--linkmode-namespace=host"]
        again = pytester.runpytest_subprocess(*options, test, *arguments)
        assert again.parseoutcomes()["failed"] in (1, 2)  # the subtest, and the test that holds it
        assert "passed" not in again.parseoutcomes()
        again.stdout.fnmatch_lines(["*swept 1 cases of *: 1 failed*"])
    run = json.loads((pytester.path / "r.json").read_text())["runs"][0]
    cases = [case for failed in run["failures"] for case in failed["cases"]]
    told = {line for case in cases for line in case["replay"]}
    assert told == {line[line.index("--linkmode-layout") :] for line in lines}


def test_a_budget_is_said(project: pytest.Pytester) -> None:
    budget = "--linkmode-budget=2"
    result = project.runpytest_subprocess("-p", "no:cacheprovider", "-k", "sweep", budget)
    result.stdout.fnmatch_lines(["*; 7 of 9 not run, evenly sampled (--linkmode-budget=2)"])


def test_a_quiet_run_says_what_was_not_run_and_prints_no_empty_section(
    project: pytest.Pytester,
) -> None:
    quiet = ("-p", "no:cacheprovider", "-q", "-k", "sweep")
    result = project.runpytest_subprocess(*quiet, "--linkmode-budget=2")
    result.stdout.fnmatch_lines(["*= linkmode =*", "test_sweep: swept 2 cases*; 7 of 9 not run*"])
    result = project.runpytest_subprocess(*quiet)
    assert "failed" in result.parseoutcomes()  # the sweep was whole
    result.stdout.no_fnmatch_line("*= linkmode =*")


def test_a_sweep_that_was_left_is_said_in_a_quiet_run_too(
    pytester: pytest.Pytester, faultable: None
) -> None:
    first, _, rest = TEST.partition("        with case:")
    pytester.makepyfile(f"{first}        break\n" + rest.partition("\n\n")[2])
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-q", "-k", "test_sweep")
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines(["test_sweep: swept 0 cases of *; left after 0 of *"])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--linkmode-fault=clone", "*--linkmode-fault=clone: cannot read the fault 'clone'*"),
        ("--linkmode-fault=clnoe:EIO", "*--linkmode-fault=clnoe:EIO: unknown op 'clnoe' of a *"),
        ("--linkmode-fault=a:EIO", "*hint: as in clone:EOPNOTSUPP:nth=3, copy:SHORT or *"),
        ("--linkmode-fault=clone:EOPNOTSUP", "*unknown error 'EOPNOTSUP' of a fault*"),
        ("--linkmode-budget=none", "*--linkmode-budget=none*"),
        ("--linkmode-budget=0", "*--linkmode-budget=0*"),
    ],
)
def test_a_wrong_word_ends_the_run_before_anything_is_collected(
    pytester: pytest.Pytester, option: str, said: str
) -> None:
    pytester.makepyfile("raise AssertionError('it was collected')")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])


def test_what_the_reference_linker_did_about_a_fault_counts_as_injected(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        from linker import LinkMode, link_tree
        from pytest_linkmode.faults.inprocess import Injection
        from pytest_linkmode.faults.linking import faulty
        from pytest_linkmode.faults.spec import Fault

        def test_it(linkmode_fs, linkmode_tree):
            linkmode_tree(linkmode_fs.path / "s")
            fault = Fault("hardlink", "EXDEV")
            with Injection([fault], standing_in=False) as injection, faulty(injection) as platform:
                link_tree(linkmode_fs.path / "s", linkmode_fs.path / "t",
                          mode=LinkMode.HARDLINK, platform=platform)
        """
    )
    report = pytester.path / "report.json"
    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--linkmode-fs=tmpfs", f"--linkmode-report={report}"
    )
    result.assert_outcomes(passed=1)
    edge = "linux/hardlink/hardlink/cross-device"
    (run,) = json.loads(report.read_text(encoding="utf-8"))["runs"]
    assert run["edges"] == {edge: {"injected": [0]}}


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
