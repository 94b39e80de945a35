"""The verdict as people and programs read it: on a terminal of any width, and as JSON."""

from __future__ import annotations

import dataclasses
import html
import json
import pathlib
import re
import shlex
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from linker.policies import REFERENCE
from linker.report import Transition
from pytest_linkmode import cli, listening
from pytest_linkmode.config import Request, Settings
from pytest_linkmode.coverage import Failure, Ledger, Outcome, Recorder
from pytest_linkmode.report.document import document
from pytest_linkmode.report.model import Cell, Verdict, verdict
from pytest_linkmode.report.terminal import Row, Span, lines, text
from pytest_linkmode.report.writing import write
from tests.pytest_linkmode.places import ACROSS, DIRECTORIES, OTHER
from tests.pytest_linkmode.sample_report import on_linux

Run = Callable[..., pytest.RunResult]

TOTAL = len(REFERENCE.of("linux"))
SETTINGS = Settings(
    fs=(Request("btrfs"),),
    auto=False,
    require=("dirclone",),
    origins={"fs": "command line", "require": "command line"},
)


@on_linux
def enter(
    ledger: Ledger, test: str, layout: str, mode: str, *phases: str, edges: int = 0, **more: Any
) -> None:
    recorder = Recorder(layout, mode, frozenset({"reflink"}), more.pop("not_applicable", ""))
    for edge in REFERENCE.edges[:edges]:
        recorder.transition(Transition(edge, "file", None))
    for when, outcome in zip(("setup", "call"), phases, strict=False):
        ledger.add(test, when, outcome, data=recorder.plain(), **more)


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    for number in range(3):
        enter(ledger, f"test_{number}", "btrfs", "clone", "passed", "passed", edges=2)
    enter(ledger, "test_red", "btrfs", "clone", "passed", "failed", edges=3)
    enter(ledger, "test_copy", "btrfs:tmpfs", "copy", "passed", "passed", edges=1)
    enter(ledger, "test_skip", "xfs", "", "skipped", reason="no mkfs.xfs\nmany words")
    enter(ledger, "test_na", "disk", "", "skipped", not_applicable="disk has no reflink")
    ledger.deselected["test_ext4"] = "no reflink there"
    ledger.notes["a note"] = None
    return ledger


def judged(ledger: Ledger, settings: Settings = SETTINGS) -> Verdict:
    order = ("btrfs:tmpfs", "btrfs")
    return verdict(settings, ledger, REFERENCE, platform="linux", place="root", order=order)


def printed(ledger: Ledger, *, width: int = 100, verbosity: int = 0) -> str:
    return text(lines(judged(ledger), width=width, verbosity=verbosity))


def closing(ledger: Ledger, width: int, *, verbosity: int = 0) -> str:
    """The section of a run that asked for nothing."""
    return text(lines(judged(ledger, Settings()), width=width, verbosity=verbosity))


def test_the_terminal_ends_with_layouts_modes_and_edges(ledger: Ledger) -> None:
    first, second = REFERENCE.edges[:2]
    assert printed(ledger) == "\n".join(
        [
            "--linkmode-require=dirclone: no test was executed on it "
            "(1 failed, 1 not applicable, 4 passed, 1 skipped, 1 deselected)",
            "a note",
            "passed       clone        copy",
            "btrfs:tmpfs  -            1",
            "btrfs        3, 1 failed  -",
            "1 skipped on disk: disk has no reflink",
            "1 skipped on xfs: no mkfs.xfs ...",
            "1 deselected: no reflink there",
            f"edges of reference on linux: 2 of {TOTAL} verified ({200 / TOTAL:.0f} %): 2 real",
            f"  {first}  real, 4 tests",
            f"  {second}   real, 3 tests",
        ]
    )


def test_a_narrow_terminal_gets_letters_and_a_legend(ledger: Ledger) -> None:
    said = printed(ledger, width=24)
    assert "btrfs        3 1F   -" in said
    assert "(F failed)" in said


def test_quiet_runs_get_failures_notes_and_one_line(ledger: Ledger) -> None:
    assert printed(ledger, verbosity=-1).splitlines()[1:] == [
        "a note",
        f"edges of reference on linux: 2 of {TOTAL} verified ({200 / TOTAL:.0f} %): 2 real",
    ]


def test_verbose_runs_get_every_reason_test_and_edge(ledger: Ledger) -> None:
    said = printed(ledger, verbosity=1)
    assert "1 skipped on xfs: no mkfs.xfs\n  many words" in said
    assert "1 deselected: no reflink there\n  test_ext4" in said
    for edge in REFERENCE.of("linux")[2:]:
        assert str(edge.condition) in said
    assert "  not verified: linux/hardlink/hardlink: cross-device" in said


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_but_a_failure_or_an_edge_is_wider_than_the_terminal(
    width: int, ledger: Ledger
) -> None:
    for line in printed(ledger, width=width, verbosity=0).splitlines():
        assert len(line) <= width or line.startswith(("--linkmode", "  linux/", "edges of"))


@pytest.fixture(scope="module")
def motley() -> Verdict:
    """A table whose every cell has tests that ended in every way, many of them."""
    ledger = Ledger()
    judgement = judged(ledger)
    counts = Counter({outcome: 7**place % 1000 for place, outcome in enumerate(Outcome)})
    names = ("xfs", "btrfs+subvolume:tmpfs+read-only-source", "ext4+bind")
    modes = ("clone", "hardlink", "symlink", "copy", "")
    cells = {name: {mode: Cell(Counter(counts)) for mode in modes} for name in names}
    return dataclasses.replace(judgement, cells=cells)


def test_a_table_of_every_outcome_fits_and_loses_nothing_at_any_width(motley: Verdict) -> None:
    for cell in (cell for row in motley.cells.values() for cell in row.values()):
        assert set(cell.outcomes) == {*Outcome}
    whole = Counter({str(count): 15 for count in cell.outcomes.values()})
    for width in range(40, 201):
        rows = text(_table(motley, width))
        assert max(map(len, rows.splitlines())) <= width, rows
        for name in motley.cells:
            assert name in rows
        counted = rows
        for name in motley.cells:
            counted = counted.replace(name, "")
        assert Counter(re.findall(r"\d+", counted)) == whole, rows


def _table(verdict: Verdict, width: int) -> list[Row]:
    """The lines of the table only: those before the edges."""
    every = lines(verdict, width=width)
    titles = [text([row]) for row in every]
    first = next(number for number, title in enumerate(titles) if title.startswith("passed"))
    last = next(number for number, title in enumerate(titles) if title.startswith("edges of"))
    return every[first:last]


def test_many_edges_and_reasons_are_cut_and_say_so() -> None:
    ledger = Ledger()
    enter(ledger, "test_it", "btrfs", "clone", "passed", "passed", edges=20)
    for number in range(20):
        enter(ledger, f"test_{number}", "xfs", "", "skipped", reason=f"reason {number}")
    said = printed(ledger)
    assert "... and 12 more reasons: see them with -v" in said
    assert "  clone/clone-file   16 of 16: 16 real\n" in said
    assert "  hardlink/hardlink  4 of 16: 4 real; not: busy, no-effect, " in said
    assert len(said.splitlines()) < 40
    assert "more" not in printed(ledger, verbosity=1)


def test_many_layouts_are_cut_but_for_those_in_which_not_all_passed() -> None:
    ledger = Ledger()
    for number in range(30):
        enter(ledger, f"test_{number}", f"layout{number:02}", "clone", "passed", "passed")
    enter(ledger, "test_red", "layout29", "clone", "passed", "failed")
    said = printed(ledger)
    assert "layout29  1, 1 failed" in said
    assert "layout14  1" in said
    assert "layout15" not in said
    assert "... and 14 more layouts, all passed: see them with -v" in said
    assert "layout15" in printed(ledger, verbosity=1)


def test_of_many_layouts_that_are_not_green_those_with_failures_are_shown() -> None:
    ledger = Ledger()
    for number in range(30):
        layout, ended = f"layout{number:02}", "failed" if number >= 20 else "passed"
        enter(ledger, f"test_{number}", layout, "clone", "passed", ended)
        if number % 2:
            enter(ledger, f"test_odd_{number}", layout, "clone", "skipped", reason="odd")
    said = printed(ledger)
    rows = [line for line in said.splitlines() if line.startswith("layout")]
    assert len(rows) == 16
    assert [row[:8] for row in rows[-10:]] == [f"layout{number}" for number in range(20, 30)]
    assert "... and 14 more layouts, 4 of them not all green: see them with -v" in said
    assert len(said.splitlines()) < 40


def test_why_tests_were_skipped_is_said_whole_at_any_width() -> None:
    ledger = Ledger()
    enter(ledger, "test_it", "ext4", "clone", "passed", "passed")
    # In the order of the table, whichever came first.
    names = [
        "btrfs:tmpfs",
        "btrfs",
        *(f"btrfs:{name}" for name in ("ext4", "overlay", "vfat", "xfs")),
    ]
    reason = "btrfs cannot be had here: neither this user nor sudo may mount"
    for name in reversed(names):
        for number in range(2):
            enter(ledger, f"test_{number}[{name}]", name, "clone", "skipped", reason=reason)
    assert f"\n12 skipped on {', '.join(names)}: {reason}\n" in closing(ledger, 200)
    short = f"12 skipped on btrfs and 5 of its layouts: {reason}"
    assert f"\n{short}\n" in closing(ledger, len(short))
    for width in (40, 60, 80):
        rows = closing(ledger, width).splitlines()
        assert " ".join(row.strip() for row in rows).count(short) == 1
        assert max(map(len, rows[:-1])) <= width
    ledger.trials.pop(("", "test_0[btrfs]"))
    ledger.trials.pop(("", "test_1[btrfs]"))
    assert "10 skipped on btrfs:tmpfs and 4 more: btrfs cannot" in closing(ledger, 80)


def test_layouts_on_which_all_was_skipped_take_no_room_from_those_that_verified() -> None:
    ledger = Ledger()
    for number in range(30):
        enter(ledger, f"test_{number}", f"none{number:02}", "", "skipped", reason="no such thing")
    enter(ledger, "test_it", "xfs", "clone", "passed", "passed")
    rows = closing(ledger, 80).splitlines()
    assert rows[:3] == [
        "passed  clone",
        "xfs     1",
        "30 skipped on none00 and 29 more: no such thing",
    ]
    assert "\nnone29  -      1 skipped\n" in closing(ledger, 80, verbosity=1)
    ledger.trials.pop(("", "test_it"))
    rows = closing(ledger, 80).splitlines()
    assert rows[0].startswith("nothing is verified: ")
    assert rows[1] == "30 skipped on none00 and 29 more: no such thing"


def test_what_passed_though_a_failure_was_expected_is_no_failure() -> None:
    ledger = Ledger()
    enter(ledger, "test_odd", "btrfs", "clone", "passed", "passed", xfail=True)
    enter(ledger, "test_red", "btrfs", "clone", "passed", "failed")
    made = document(verdict(Settings(), ledger, REFERENCE, platform="linux"))
    assert [failed["test"] for failed in made["runs"][0]["failures"]] == ["test_red"]


def test_a_long_failure_keeps_what_begins_it_and_what_ends_it() -> None:
    text = "\n".join(["E   AssertionError: first", *map(str, range(5000)), "test_it.py:3: Error"])
    cut = listening._cut(text)
    assert cut.startswith("E   AssertionError: first\n0\n1\n")
    assert cut.endswith("\n4999\ntest_it.py:3: Error")
    head, _, rest = cut.partition("\n... ")
    left, _, tail = rest.partition(" letters more ...\n")
    assert len(head) + len(tail) + int(left.replace(",", "")) == len(text)
    assert len(cut) < 4100
    assert listening._cut(text[:4000]) == text[:4000]
    assert len(listening._cut("x" * 100_000)) < 4100


def test_a_cell_says_how_it_was_proven_where_there_is_room() -> None:
    ledger = Ledger()
    recorder = Recorder("btrfs", "clone")
    recorder.evidence.update({"shared extents": 12, "empty file": 40, "independence": 3})
    for when in ("setup", "call"):
        ledger.add("test_it", when, "passed", data=recorder.plain())
    assert "btrfs   1 by extents\n" in printed(ledger)
    assert "btrfs      1\nmostly by  extents\n" in printed(ledger, width=18)


def test_sweeps_are_one_line_and_what_was_not_run_another() -> None:
    ledger = Ledger()
    said = ["swept 3 cases of ln: 0 failed", "swept 5 cases of ln: 0 failed; 7 of 12 not run"]
    enter(ledger, "test_it", "btrfs", "clone", "passed", "passed", said=said)
    assert "test_it: swept 3 cases of ln: 0 failed" in printed(ledger)
    for number in range(4):
        enter(ledger, f"test_{number}", "btrfs", "", "passed", "passed", said=[f"swept {number}"])
    lines = printed(ledger).splitlines()
    assert "5 more sweeps and explorations: see them with -v" in lines
    assert "test_it: swept 5 cases of ln: 0 failed; 7 of 12 not run" in lines
    assert not any("swept 3" in line for line in lines)
    assert "test_it: swept 3 cases of ln: 0 failed" in printed(ledger, verbosity=1)
    assert printed(ledger, verbosity=-1).splitlines()[1] == (
        "test_it: swept 5 cases of ln: 0 failed; 7 of 12 not run"
    )
    assert "swept 3" not in printed(ledger, verbosity=-1)


def test_quiet_runs_say_which_explorations_were_cut_and_how_many() -> None:
    ledger = Ledger()
    for number in range(10):
        said = [f"explored 5 schedules; not all: {number} were left", "explored 6 schedules"]
        enter(ledger, f"test_{number}", "", "", "passed", "passed", said=said)
    assert printed(ledger, verbosity=-1).splitlines()[1:] == [
        *(f"test_{n}: explored 5 schedules; not all: {n} were left" for n in range(8)),
        "2 more sweeps and explorations: see them with -v",
    ]


def test_edges_of_other_platforms_have_a_line_if_any_was_verified() -> None:
    ledger = Ledger()
    recorder = Recorder("disk", "clone")
    other = REFERENCE.of("macos")[0]
    recorder.transition(Transition(other, "file", None, proof="modelled"))
    for when in ("setup", "call"):
        ledger.add("test_it", when, "passed", data=recorder.plain())
    total = len(REFERENCE.of("macos"))
    line = f"edges of reference on macos: 1 of {total} verified ({100 / total:.0f} %): 1 modelled"
    assert line in printed(ledger).splitlines()
    assert "windows" not in printed(ledger)


def test_a_program_whose_calls_nobody_read_has_no_share_of_the_edges() -> None:
    linker = "copy=cp -a {source}/. {target}"
    ran = Ledger()
    enter(ran, "test_it", "btrfs", "copy", "passed", "passed")
    unread = text(lines(judged(ran, Settings(linker=linker)), width=100))
    assert "no edges: what a program calls is read with --linkmode-policy=NAME" in unread
    assert "edges of reference" not in unread
    named = Settings(linker=linker, origins={"policy": "command line"})
    for settings in (named, Settings(linker="module:function"), Settings()):
        said = text(lines(judged(ran, settings), width=100))
        assert f"edges of reference on linux: 0 of {TOTAL} verified" in said
        assert "no edges" not in said
    enter(ran, "test_other", "btrfs", "copy", "passed", "passed", edges=1)
    told = text(lines(judged(ran, Settings(linker=linker)), width=100))
    assert "edges of reference on linux: 1 of" in told


def test_failures_are_red_and_proofs_green(ledger: Ledger) -> None:
    rows = lines(judged(ledger), width=100)
    assert rows[0][0].markup == ("red", "bold")
    spans = [span for row in rows for span in row]
    assert Span("1 failed", ("red", "bold")) in spans
    assert Span("real", ("green",)) in spans


def test_an_empty_ledger_has_nothing_to_tell() -> None:
    assert judged(Ledger(), Settings()).empty
    assert not judged(Ledger()).empty


def test_json_says_the_same_with_a_version(ledger: Ledger, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "new" / "report.json"
    write(document(judged(ledger)), str(path))
    assert [entry.name for entry in path.parent.iterdir()] == ["report.json"]
    report = json.loads(path.read_text())
    assert report["schema"] == "pytest-linkmode/1"
    assert report["ok"] is False
    (run,) = report["runs"]
    assert run["options"] == ["--linkmode-fs=btrfs", "--linkmode-require=dirclone"]
    assert run["layouts"]["btrfs"]["modes"]["clone"]["outcomes"] == {"failed": 1, "passed": 3}
    assert run["layouts"]["xfs"]["skipped"] == {"no mkfs.xfs\nmany words": 1}
    assert run["deselected"] == {"test_ext4": "no reflink there"}
    assert run["outcomes"]["not applicable"] == 1
    first = REFERENCE.edges[0].id
    took = [run["tests"][index]["id"] for index in run["edges"][first]["real"]]
    assert took == ["test_0", "test_1", "test_2", "test_copy"]
    assert [edge["id"] for edge in report["policy"]["edges"]] == [e.id for e in REFERENCE.edges]
    assert report["union"]["verified"] == 2
    assert report["union"]["edges"][first] == {
        "proof": "real",
        "tests": 4,
        "runs": {"linux": "real"},
    }
    (red,) = run["failures"]
    assert red["test"] == "test_red"


def test_a_report_is_written_beside_the_terminal(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(linkmode_layout, link_mode): ...")
    result = inside(*DIRECTORIES, "--linkmode-report=out/report.json", "-q")
    result.assert_outcomes(passed=8)
    result.stdout.fnmatch_lines(["report: */out/report.json"])
    report = json.loads((pytester.path / "out" / "report.json").read_text())
    (run,) = report["runs"]
    assert run["layouts"][ACROSS]["modes"]["clone"]["outcomes"] == {"passed": 1}
    assert report["ok"] is True
    assert run["exit_status"] == 0
    assert run["machine"]["pytest"] == pytest.__version__
    assert run["seconds"] >= sum(test["seconds"] for test in run["tests"]) > 0
    assert run["started"].startswith("20")


@pytest.mark.parametrize("fixture", ["linkmode_layout", "linkmode_fs"])
def test_the_line_that_replays_a_case_does_so_as_it_stands_in_the_report(
    fixture: str, inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        f"""
        def test_it({fixture}):
            assert False, "replay this case with --linkmode-" + "fault='clone:EXDEV:path=* *'"
        """
    )
    result = inside(f"--linkmode-layout={ACROSS}", *DIRECTORIES[1:], "--linkmode-report=r.html")
    page = (pytester.path / "r.html").read_text(encoding="utf-8")
    lines = re.findall(r'<div class="replay"><code>(.*?)</code>', page)
    assert len(lines) == result.parseoutcomes()["failed"]
    program, *arguments = shlex.split(html.unescape(lines[-1]))
    assert program == "pytest"
    again = inside(*arguments)
    again.assert_outcomes(failed=1)
    assert "--linkmode-fault=clone:EXDEV:path=* *" in again.stdout.str()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("x --linkmode-fault=copy:EIO:nth=2", ["--linkmode-fault=copy:EIO:nth=2"]),
        ("'--linkmode-fault=copy:EIO'", ["--linkmode-fault=copy:EIO"]),
        ('"--linkmode-schedule=A2-B", (x)', ["--linkmode-schedule=A2-B"]),
        ("(--linkmode-schedule='one two=A2-B')", ["--linkmode-schedule='one two=A2-B'"]),
        ("--linkmode-fault='a b'\"'\"'c'\n", ["--linkmode-fault='a b'\"'\"'c'"]),
        (
            "pytest x --linkmode-layout=xfs --linkmode-fault=copy:EIO --linkmode-fault='a b' y",
            ["--linkmode-fault=copy:EIO --linkmode-fault='a b'"],
        ),
        ("--linkmode-fault=…", []),
    ],
)
def test_the_options_that_replay_a_case_are_taken_as_a_shell_takes_them(
    text: str, lines: list[str]
) -> None:
    assert listening.replays_in(text) == tuple(lines)


def test_what_replays_a_case_has_the_options_that_it_depends_on_and_no_others() -> None:
    ledger = Ledger()
    for name, layout in (("test_a", "xfs:btrfs"), ("test_b", "")):
        failure = Failure("call", "E   gone", ("--linkmode-fault=clone:EXDEV",))
        enter(ledger, name, layout, "clone", "passed", "failed", failure=failure)
    settings = Settings(
        linker="mine {mode}",
        policy="uv",
        require=("reflink",),
        origins=dict.fromkeys(("linker", "policy", "require", "fs"), "command line"),
    )
    (run,) = document(judged(ledger, settings))["runs"]
    options = "'--linkmode-linker=mine {mode}' --linkmode-policy=uv --linkmode-fault=clone:EXDEV"
    found = [failed["cases"][0]["replay"] for failed in run["failures"]]
    assert found == [[f"--linkmode-layout=xfs:btrfs {options}"], [options]]


def test_a_report_that_cannot_be_written_fails_the_run(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        def test_it(linkmode_layout, request):
            (request.config.rootpath / "later").touch()
        """
    )
    reports = ("--linkmode-report=later/report.json", "--linkmode-report=there.json")
    result = inside(*DIRECTORIES, *reports)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["--linkmode-report=*/later/report.json: *"])
    result.stdout.fnmatch_lines(["report: */there.json"])
    result.stdout.no_fnmatch_line("report: *later*")


def test_a_report_in_a_place_that_cannot_be_written_ends_the_run_before_it_begins(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("def test_it(linkmode_layout): ...")
    (pytester.path / "file").touch()
    (pytester.path / "directory.json").mkdir()
    for path, why in (
        ("file/more/report.json", "*/file is not a directory"),
        ("directory.json", "it is a directory"),
    ):
        result = inside(*DIRECTORIES, f"--linkmode-report={path}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"*--linkmode-report=*/{path}: {why}"])
        assert "report: " not in result.stdout.str()


def test_a_report_of_a_run_in_which_nothing_ran_is_not_green(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.skip(reason="not today")
        def test_it(linkmode_fs): ...

        def test_other(): ...
        """
    )
    reports = [f"--linkmode-report=r.{kind}" for kind in ("json", "html")]
    result = inside(*DIRECTORIES[1:], *reports)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    report = json.loads((pytester.path / "r.json").read_text())
    run = report["runs"][0]
    assert (report["ok"], run["ok"], run["exit_status"]) == (False, False, 1)
    page = (pytester.path / "r.html").read_text(encoding="utf-8")
    assert '<b class="bad">nothing ran</b>' in page
    assert ">green<" not in page


def test_a_run_that_is_interrupted_says_so_and_calls_no_test_of_it_failed(
    outside: Run, pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    pytester.makepyfile(
        """
        def test_first(linkmode_layout): ...

        def test_it(linkmode_layout):
            raise KeyboardInterrupt
        """
    )
    reports = [f"--linkmode-report=r.{kind}" for kind in ("json", "html")]
    result = outside("--linkmode-layout=disk", *DIRECTORIES[1:], *reports)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["interrupted in *::test_it[[]disk]: it counts as not run"])
    report = json.loads((pytester.path / "r.json").read_text())
    (run,) = report["runs"]
    assert (report["ok"], run["failures"], run["outcomes"]) == (False, [], {"passed": 1})
    page = (pytester.path / "r.html").read_text(encoding="utf-8")
    assert '<b class="bad">not green</b><span>interrupted</span>' in page
    capsys.readouterr()
    assert cli.main(["merge", str(pytester.path / "r.json")]) == 1
    said = capsys.readouterr().err
    assert "r was not green: interrupted; pytest ended with 2" in said


def test_tmp_path_on_a_filesystem_of_ours_is_something_that_ran() -> None:
    settings = Settings(tmp="btrfs", origins={"tmp": "command line"})
    assert not judged(Ledger(ran=1), settings).idle
    assert judged(Ledger(), settings).idle
    assert judged(Ledger(), Settings()).idle


def test_a_report_tells_of_guards_that_are_not_met(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): ...")
    result = inside(*DIRECTORIES, "--linkmode-report=report.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    report = json.loads((pytester.path / "report.json").read_text())
    assert report["ok"] is False
    (run,) = report["runs"]
    assert run["exit_status"] == pytest.ExitCode.TESTS_FAILED
    assert "no test ran" in run["guards"][0]


def test_without_a_terminal_plugin_the_guards_still_hold(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("def test_it(): ...")
    result = inside(*DIRECTORIES, "-p", "no:terminal")
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_junit_has_what_properties_can_hold(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from linker import link_tree
        from pytest_linkmode import assert_linked

        def test_it(linkmode_layout, link_mode):
            (linkmode_layout.source / "file").write_bytes(bytes(range(256)) * 400)
            link_tree(linkmode_layout.source, linkmode_layout.target, mode=link_mode)
            expected = linkmode_layout.expect(link_mode)
            assert_linked(linkmode_layout.source, linkmode_layout.target, expected)

        def test_other(): ...
        """
    )
    inside(*DIRECTORIES, "--junitxml=j.xml").assert_outcomes(passed=9)
    suite = ElementTree.parse(pytester.path / "j.xml").getroot()[0]  # noqa: S314  # ours
    told = {each.get("name"): each.get("value") for each in suite.findall("properties/property")}
    assert told["linkmode_policy"] == "reference on linux"
    # Across filesystems neither clone nor hard link works; where the disk has no clones, one more.
    assert told["linkmode_edges_verified"] in (f"2 of {TOTAL}", f"3 of {TOTAL}")
    tests = {
        test.get("name"): {
            each.get("name"): each.get("value") for each in test.findall("properties/property")
        }
        for test in suite.findall("testcase")
    }
    assert tests[f"test_it[{ACROSS}-hardlink]"] == {
        "linkmode_layout": ACROSS,
        "linkmode_fs": f"disk {OTHER}",
        "linkmode_mode": "hardlink",
        "linkmode_evidence": "1 by different filesystems",
        "linkmode_edges": "linux/hardlink/hardlink/cross-device (real)",
    }
    assert tests["test_it[disk-hardlink]"]["linkmode_evidence"] == "1 by same inode"
    assert tests["test_other"] == {}
