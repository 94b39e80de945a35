"""A verdict cannot be vacuous: what was asked for and did not happen fails the run."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import pytest

from pytest_linkmode.config import Request, Settings
from pytest_linkmode.coverage import Ledger, Recorder
from pytest_linkmode.guards import unmet
from tests.pytest_linkmode.places import ACROSS, DIRECTORIES

Run = Callable[..., pytest.RunResult]

REQUIRED = (*DIRECTORIES, "--linkmode-require=cross-device")

TYPED = Settings(fs=(Request("btrfs"),), auto=False, origins={"fs": "command line"})
BY_POLICY = Settings(policy="uv", origins={"policy": "command line"})
IN_INI = Settings(fs=(Request("btrfs"),), auto=False, origins={"fs": "ini file"})

BODIES = {
    "skipped": """
        @pytest.mark.skip(reason="not today")
        def test_it(linkmode_layout): ...
    """,
    "skipped inside": """
        def test_it(linkmode_layout):
            pytest.skip("not today")
    """,
    "expected to fail": """
        @pytest.mark.xfail
        def test_it(linkmode_layout):
            assert False
    """,
    "deselected by its marker": """
        @pytest.mark.linkmode(fs=["ext4"])
        def test_it(linkmode_layout): ...
    """,
    "deselected for its needs": """
        @pytest.mark.linkmode(layout="disk", needs={"cross-device"})
        def test_it(linkmode_layout): ...
    """,
    "not applicable": """
        @pytest.mark.linkmode(needs={"case-insensitive"})
        def test_it(linkmode_layout): ...
    """,
    "without a fixture of ours": "",
}
"""Ways in which a suite can be green and have tested nothing."""


def ledger_of(layout: str = "btrfs", *, outcome: str = "passed") -> Ledger:
    ledger = Ledger()
    data = Recorder(layout, "clone", frozenset({"reflink"})).plain()
    for when, ended in (("setup", "passed"), ("call", outcome)):
        ledger.add("test_it", when, ended, data=data)
    return ledger


def sentences(
    settings: Settings, ledger: Ledger, *, narrowed: bool = False, verified: int = 0
) -> tuple[str, ...]:
    return unmet(settings, ledger, verified=verified, edges=10, narrowed=narrowed)


def test_a_request_that_ran_a_test_is_met() -> None:
    assert sentences(TYPED, ledger_of()) == ()
    assert sentences(TYPED, ledger_of(outcome="failed")) == ()


def test_a_request_that_ran_no_test_is_not() -> None:
    (sentence,) = sentences(TYPED, Ledger())
    assert sentence == (
        "--linkmode-fs=btrfs: no test ran on what was asked for "
        "(no test that was left to run uses linkmode_fs or linkmode_layout)"
    )
    (sentence,) = sentences(TYPED, ledger_of(outcome="skipped"))
    assert "(1 skipped)" in sentence


def test_bare_auto_asks_for_nothing() -> None:
    assert sentences(Settings(), Ledger()) == ()
    assert sentences(Settings(), ledger_of(outcome="skipped")) == ()


def test_tmp_path_on_a_filesystem_is_a_use_of_it() -> None:
    settings = Settings(
        fs=TYPED.fs, auto=False, tmp="btrfs", origins={"fs": "command line", "tmp": "command line"}
    )
    assert sentences(settings, Ledger(ran=1)) == ()
    assert sentences(settings, Ledger()) == (
        "--linkmode-tmp=btrfs: no test was executed, with tmp_path there or without",
    )
    assert sentences(settings, ledger_of()) == ()


def test_tmp_path_of_the_ini_file_does_not_speak_of_a_single_test() -> None:
    settings = Settings(tmp="btrfs", origins={"tmp": "ini file"})
    assert sentences(settings, Ledger(), narrowed=True) == ()
    assert sentences(settings, Ledger()) != ()


def test_whoever_asks_for_anything_has_not_asked_for_skips() -> None:
    for settings in (BY_POLICY, Settings(fail_under=0, origins={"fail-under": "ini file"})):
        assert sentences(settings, ledger_of()) == ()
        assert sentences(settings, ledger_of(outcome="failed")) == ()
        (sentence,) = sentences(settings, ledger_of(outcome="skipped"))
        assert sentence.startswith(f"{' '.join(settings.typed())}: no test that uses fixtures")
        assert "(1 skipped)" in sentence
        assert "`linkmode doctor`" in sentence


def test_what_is_not_there_or_not_applicable_was_not_skipped() -> None:
    assert sentences(BY_POLICY, Ledger(deselected={"test_it": "by its marker"})) == ()
    ledger = Ledger()
    data = Recorder("btrfs", "clone", not_applicable="no dirclone there").plain()
    ledger.add("test_it", "setup", "skipped", data=data)
    assert sentences(BY_POLICY, ledger) == ()


@pytest.mark.parametrize(
    "settings",
    [
        Settings(fault=("copy:EIO",), origins={"fault": "command line"}),
        Settings(schedule="A2-B", origins={"schedule": "command line"}),
    ],
    ids=["fault", "schedule"],
)
def test_a_case_that_nothing_replays_is_not_mended(settings: Settings) -> None:
    (sentence,) = sentences(settings, ledger_of())
    assert sentence.startswith(f"{settings.typed()[0]}: no test that ran sweeps or explores")
    ledger = ledger_of()
    ledger.add("test_it", "teardown", "passed", said=["swept 1 cases of cp: 0 failed"])
    assert sentences(settings, ledger) == ()


def test_a_replayed_fault_that_met_no_call_in_any_sweep_is_not_met() -> None:
    lines = ("mkdir:EIO:nth=7", "copy:EIO")
    settings = Settings(fault=lines, origins={"fault": "command line"})
    ledger = ledger_of()
    ledger.add("test_it", "teardown", "passed", said=["a", "b"], met=lines[1:], missed=lines)
    (sentence,) = sentences(settings, ledger)
    assert sentence.startswith("--linkmode-fault=mkdir:EIO:nth=7: met no call, so nothing")
    ledger.add("test_other", "setup", "passed", data=Recorder("btrfs", "clone").plain())
    ledger.add("test_other", "teardown", "passed", said=["c"], met=lines[:1])
    assert sentences(settings, ledger) == ()


def test_a_directory_in_the_environment_asks_for_nothing() -> None:
    settings = Settings(dirs={"btrfs": "/b"}, origins={"dir": "environment"})
    assert sentences(settings, ledger_of(outcome="skipped")) == ()


def test_an_ini_file_does_not_speak_of_a_single_test_that_uses_nothing() -> None:
    assert sentences(IN_INI, Ledger()) != ()
    assert sentences(IN_INI, Ledger(), narrowed=True) == ()
    assert sentences(IN_INI, Ledger(used=True), narrowed=True) != ()


def test_a_required_capability_needs_a_test_that_ran_on_it() -> None:
    settings = Settings(require=("reflink", "dirclone"), origins={"require": "command line"})
    (sentence,) = sentences(settings, ledger_of())
    assert sentence == "--linkmode-require=dirclone: no test was executed on it (1 passed)"


def test_a_required_capability_says_how_close_the_run_came() -> None:
    settings = Settings(require=("hardlink",), origins={"require": "command line"})
    ledger = Ledger()
    data = Recorder("btrfs", "copy", frozenset({"hardlink"})).plain()
    ledger.add("test_it", "setup", "passed", data=data)
    assert "1 had it, but came to no result" in sentences(settings, ledger)[0]
    ledger.add("test_it", "call", "passed", data=data)
    assert "1 ran where it can be had, but not in mode hardlink" in sentences(settings, ledger)[0]


def test_too_few_edges_fail_the_run() -> None:
    settings = Settings(fail_under=50, origins={"fail-under": "command line"})
    assert sentences(settings, Ledger(), verified=5) == ()
    assert sentences(settings, Ledger(), verified=4) == (
        "--linkmode-fail-under=50: 4 of 10 edges were verified, that is 40.0 %",
    )


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_suite_that_tested_nothing_fails_the_run(
    body: str, inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(f"import pytest\n{textwrap.dedent(body)}\ndef test_other(): ...\n")
    result = inside(*REQUIRED, "-q")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes().get("passed") == 1
    assert "failed" not in result.parseoutcomes()
    result.stdout.fnmatch_lines(
        [
            f"--linkmode-layout=disk,{ACROSS}: no test ran on what was asked for (*)",
            "--linkmode-require=cross-device: no test was executed on it (*)",
        ]
    )


def test_a_run_without_any_test_fails_too(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(linkmode_layout): ...")
    result = inside(*DIRECTORIES, "-k", "nothing")
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_process_that_ends_in_a_test_leaves_the_guards_unmet(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(
        """
        import os

        def test_it(linkmode_layout):
            os._exit(1)
        """
    )
    result = inside(*DIRECTORIES, "-n1", "--max-worker-restart=0")
    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["--linkmode-layout=*: no test ran * crashed)"])


def test_guards_that_are_met_leave_the_run_alone(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(linkmode_layout): ...")
    result = inside(*DIRECTORIES, "--linkmode-require=cross-device", "--linkmode-fail-under=0")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("--linkmode-require*")


def test_a_failing_test_has_run(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(linkmode_layout): assert False")
    result = inside(*DIRECTORIES, "--linkmode-require=cross-device")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.no_fnmatch_line("--linkmode-*: no test*")


def test_edges_below_the_bound_fail_a_green_run(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(linkmode_layout): ...")
    result = inside(*DIRECTORIES, "--linkmode-fail-under=1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["--linkmode-fail-under=1: 0 of * edges were verified*"])


def test_what_ended_otherwise_keeps_its_exit_status(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import nothing_of_that_name")
    assert inside(*DIRECTORIES).ret == pytest.ExitCode.INTERRUPTED


def test_collecting_only_is_no_vacuous_run(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(linkmode_layout): ...")
    assert inside(*DIRECTORIES, "--collect-only", "-q").ret == pytest.ExitCode.OK


def test_an_ini_file_holds_for_the_suite_and_not_for_a_single_other_file(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeini("[pytest]\nlinkmode_layout = disk\nlinkmode_namespace = host\n")
    pytester.makepyfile(test_other="def test_it(): ...")
    assert inside().ret == pytest.ExitCode.TESTS_FAILED
    assert inside("test_other.py").ret == pytest.ExitCode.OK
    assert inside("-k", "it").ret == pytest.ExitCode.TESTS_FAILED
    assert inside(*DIRECTORIES, "test_other.py").ret == pytest.ExitCode.TESTS_FAILED


def test_guards_are_red_where_there_is_colour(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): ...")
    result = inside(*DIRECTORIES, "--color=yes")
    assert any("\x1b[31m\x1b[1m--linkmode-layout" in line for line in result.outlines)


VACUOUS = {
    "skipped": ("pytest.skip('not today')", {"skipped": 8}),
    "expected to fail": ("pytest.xfail('some day')", {"xfailed": 8}),
    "crashing": ("import os; os._exit(1)", None),
}
"""What happens in every test -> how they end, if the run lives to tell."""


SKIPS = """
import pytest

@pytest.mark.skip(reason="not today")
def test_it(linkmode_fs): ...

def test_other(): ...
"""


@pytest.mark.parametrize("workers", ["0", "1"], ids=["serial", "xdist"])
def test_skips_are_red_for_those_who_asked_and_yellow_for_those_who_did_not(
    workers: str, inside: Run, pytester: pytest.Pytester
) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(SKIPS)
    asked = inside("--linkmode-policy=uv", f"-n{workers}")
    assert asked.ret == pytest.ExitCode.TESTS_FAILED
    asked.stdout.fnmatch_lines(["--linkmode-policy=uv: no test that * (* skipped)*doctor`"])
    idle = inside(f"-n{workers}", "-q")
    assert idle.ret == pytest.ExitCode.OK
    idle.stdout.fnmatch_lines(["nothing is verified: no test that uses fixtures of linkmode *"])


def test_a_setting_of_the_ini_file_asks_too(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SKIPS)
    pytester.makeini("[pytest]\nlinkmode_fail_under = 0\n")
    result = inside()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["--linkmode-fail-under=0: no test that uses fixtures *"])


def test_what_a_conftest_sets_later_asks_for_nothing(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("def test_it(linkmode_fs): ...")
    pytester.makeconftest(
        """
        from pytest_linkmode.stash import session_of

        def pytest_configure(config):
            config.option.linkmode_fs = ["disk"]

        def pytest_collection_finish(session):
            print("asked for:", session_of(session.config).is_explicit)
        """
    )
    result = inside("-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*asked for: False"])


def test_what_a_conftest_sets_later_and_nothing_uses_fails_no_run(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("def test_it(linkmode_fs): ...\ndef test_other(): ...")
    pytester.makeconftest("def pytest_configure(config): config.option.linkmode_fs = ['tmpfs']")
    assert inside("-k", "other").ret == pytest.ExitCode.OK


def test_tmp_path_that_no_test_could_use_fails_the_run(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.skip\ndef test_it(tmp_path): ...")
    result = inside("--linkmode-tmp=disk", "--linkmode-namespace=host")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["--linkmode-tmp=disk: no test was executed, *"])
    pytester.makepyfile(test_more="def test_it(tmp_path): ...")
    assert inside("--linkmode-tmp=disk", "--linkmode-namespace=host").ret == pytest.ExitCode.OK


@pytest.mark.parametrize("workers", ["0", "1"], ids=["serial", "xdist"])
@pytest.mark.parametrize(("body", "ends"), VACUOUS.values(), ids=VACUOUS)
def test_no_suite_in_which_nothing_came_to_a_result_meets_a_guard(
    body: str,
    ends: dict[str, int] | None,
    workers: str,
    inside: Run,
    outside: Run,
    pytester: pytest.Pytester,
) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(f"import pytest\n\ndef test_it(linkmode_layout, link_mode):\n    {body}\n")
    # A crash without workers takes the run with it, which is red by that.
    run = outside if ends is None and workers == "0" else inside
    result = run(
        *DIRECTORIES,
        "--linkmode-require=cross-device",
        "--linkmode-fail-under=1",
        f"-n{workers}",
        *(() if workers == "0" else ("--max-worker-restart=1",)),
    )
    assert result.ret not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    if ends is None and workers == "0":
        return
    if ends is not None:
        result.assert_outcomes(**ends)
    result.stdout.fnmatch_lines(
        [
            f"--linkmode-layout=disk,{ACROSS}: no test ran on what was asked for (*)",
            "--linkmode-require=cross-device: no test was executed on it (*)",
            "--linkmode-fail-under=1: 0 of * edges were verified*",
        ]
    )


@pytest.mark.parametrize("workers", ["0", "1"], ids=["serial", "xdist"])
def test_no_suite_of_which_everything_was_deselected_meets_a_guard(
    workers: str, inside: Run, pytester: pytest.Pytester
) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.linkmode(fs=["ext4"])
        def test_it(linkmode_layout): ...

        @pytest.mark.linkmode(layout="disk", needs={"cross-device"})
        def test_need(linkmode_layout): ...
        """
    )
    result = inside(*REQUIRED, "--linkmode-fail-under=1", f"-n{workers}")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["--linkmode-layout=*: no test ran *", "--linkmode-require=*"])
