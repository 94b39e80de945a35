"""The conformance suite is green on a linker that is right, and red on each that is wrong."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pytest_linkmode.config import Settings
from pytest_linkmode.conformance.cases import assert_unchanged
from pytest_linkmode.filesystems import kind_of, missing
from pytest_linkmode.snapshots import snapshot

HERE = pathlib.Path(__file__).parent

MODE = "every_file_ends_in_the_mode"
PROOF = "the_mode_is_proven"
THROUGH = "a_name_that_is_taken_is_replaced"
STRANGERS = "what_others_have_in_the_target_is_still_theirs"
OUT = "not_followed_out_of_the_target"
TEMPORARY = "nothing_temporary_is_left"
SECOND = "a_second_run"
OTHER = "a_target_linked_in_another_mode"
PERMISSIONS = "permission_bits_are_those_of_the_source"
EXECUTABLES = "executables_stay_executable"
TIMES = "modification_times_are_those_of_the_source"
DIRECTORIES = "new_directories_look_like_those_of_the_source"
HOLES = "holes_stay_holes"
SYMLINKS = "symlinks_are_recreated"
ODD = "every_odd_name_arrives"
POLLUTION = "an_edit_of_an_installed_file"
UNTOUCHED = "linking_changes_nothing_in_the_source"
MIDDLE = "linked_into_the_middle"


@dataclass(frozen=True)
class Wrong:
    """A linker, where and in which mode its mistake shows, and some tests that must see it."""

    name: str
    mode: str
    seen_by: tuple[str, ...]
    layout: str = "anywhere"


WRONG = (
    Wrong("always_copies", "clone", (MODE, PROOF), "btrfs"),
    Wrong("always_copies", "hardlink", (MODE, PROOF, POLLUTION)),
    Wrong("always_copies", "symlink", (MODE, PROOF, POLLUTION)),
    Wrong("hardlinks_instead_of_cloning", "clone", (MODE, PROOF, POLLUTION), "btrfs"),
    Wrong("hardlinks_instead_of_cloning", "clone", (MODE, PROOF, POLLUTION)),
    Wrong("clones_instead_of_copying", "copy", (MODE, PROOF), "btrfs"),
    Wrong("one_odd_file_downgrades_the_tree", "clone", (MODE, PROOF), "btrfs"),
    Wrong("one_odd_file_downgrades_the_tree", "hardlink", (MODE, PROOF)),
    Wrong("writes_through", "copy", (THROUGH, SYMLINKS)),
    Wrong("follows_a_symlinked_directory", "copy", (OUT,)),
    Wrong("empties_the_target_first", "copy", (STRANGERS, MIDDLE)),
    Wrong("leaves_what_is_there", "copy", (THROUGH,)),
    Wrong("chmods_merged_directories", "copy", (STRANGERS,)),
    Wrong("leaves_a_temporary_name", "copy", (TEMPORARY, MODE)),
    Wrong("leaves_a_temporary_name_beside_the_target", "copy", (TEMPORARY,)),
    Wrong("works_once", "copy", (SECOND, OTHER, STRANGERS)),
    Wrong("swallows_errors", "hardlink", (MODE,)),
    Wrong("forgets_empty_directories", "copy", (MODE, DIRECTORIES)),
    Wrong("forgets_names_that_are_no_text", "copy", (MODE, ODD)),
    Wrong("copies_half_of_each_file", "copy", (MODE,)),
    Wrong("follows_symlinks", "copy", (SYMLINKS, MODE)),
    Wrong("drops_exec_bits", "copy", (PERMISSIONS, EXECUTABLES)),
    Wrong("drops_exec_bits", "clone", (PERMISSIONS, EXECUTABLES), "btrfs"),
    Wrong("obeys_the_umask", "copy", (PERMISSIONS,)),
    Wrong("makes_every_file_new", "copy", (TIMES,)),
    Wrong("rounds_times", "copy", (TIMES,)),
    Wrong("makes_directories_its_own_way", "hardlink", (DIRECTORIES, PERMISSIONS, TIMES)),
    Wrong("fills_holes", "copy", (HOLES,)),
    Wrong("makes_the_source_read_only", "copy", (UNTOUCHED,)),
    Wrong("leaves_a_marker_in_the_source", "copy", (UNTOUCHED,)),
    Wrong("moves_files_out_of_the_source", "copy", (UNTOUCHED,)),
)


Suite = Callable[..., pytest.RunResult]


def anywhere() -> str:
    """Return a layout that this machine has, a fast one if possible."""
    return "disk" if missing(kind_of("tmpfs"), Settings()) else "tmpfs"


def at(layout: str) -> str:
    return anywhere() if layout == "anywhere" else layout


@pytest.fixture
def suite(outside: Suite, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Run the suite on a linker in a layout, or skip where that cannot be had."""
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)

    def run(linker: str, layout: str, *more: str) -> pytest.RunResult:
        layout = at(layout)
        unavailable = missing(kind_of(layout), Settings())
        if unavailable is not None:
            pytest.skip(str(unavailable))
        where = (f"--linkmode-layout={layout}", f"--linkmode-linker={linker}")
        return outside("--pyargs", "pytest_linkmode.conformance", *where, *more)

    return run


def failed(result: pytest.RunResult) -> set[str]:
    lines = "\n".join(result.outlines)
    return set(re.findall(r"^FAILED \S*::test_(\w+)", lines, re.MULTILINE))


def test_a_linker_that_is_right_passes_all_of_it(suite: Suite) -> None:
    result = suite("wrong_linkers:right", "anywhere")
    assert not failed(result)
    outcomes = result.parseoutcomes()
    assert outcomes.pop("passed") > 150
    assert not outcomes.keys() & {"failed", "errors", "skipped"}


@pytest.mark.parametrize(
    "wrong", WRONG, ids=[f"{wrong.name}-{wrong.mode}-{wrong.layout}" for wrong in WRONG]
)
def test_a_linker_that_is_wrong_turns_it_red(suite: Suite, wrong: Wrong) -> None:
    mode = f"[{at(wrong.layout)}-{wrong.mode}"
    seen_by = " or ".join(wrong.seen_by)
    result = suite(
        f"wrong_linkers:{wrong.name}", wrong.layout, "-k", f"({seen_by}) and {wrong.mode}"
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert mode in result.stdout.str()
    found = failed(result)
    assert [name for name in wrong.seen_by if not any(name in each for each in found)] == []


def test_a_command_line_is_tested_like_any_linker(suite: Suite) -> None:
    # cp merges and keeps stats, and writes through what it finds.
    result = suite("copy=cp -a --reflink=never {source}/. {target}", "anywhere")
    found = failed(result)
    assert any(THROUGH in name for name in found)
    assert not any(name for name in found if MODE in name or TIMES in name or PERMISSIONS in name)


def test_what_a_linker_says_is_shown_with_a_test_that_fails(suite: Suite) -> None:
    linker = "copy=sh -c 'echo falling back >&2' {source} {target}"
    result = suite(linker, "anywhere", "-k", f"{MODE} and copy")
    assert any(MODE in name for name in failed(result))
    result.stdout.fnmatch_lines(["*Captured stdout call*", "falling back"])


def test_a_linker_that_fails_is_told_in_the_words_of_the_linker(suite: Suite) -> None:
    linker = "copy=sh -c 'seq 100000 >&2; exit 3' {source} {target}"
    result = suite(linker, "anywhere", "-k", f"{MODE} and copy")
    assert any(MODE in name for name in failed(result))
    result.stdout.fnmatch_lines(["*exit status 3", "E * 99950 lines before", "E * 100000"])
    said, _, _ = result.stdout.str().partition("short test summary")  # which CI has in full
    assert said.count("lines before") == 1
    assert "adapters.py" not in said
    assert "processes.py" not in said


def test_what_changed_is_told_name_by_name(suite: Suite) -> None:
    linker = "wrong_linkers:leaves_a_marker_in_the_source"
    result = suite(linker, "anywhere", "-k", f"{UNTOUCHED} and copy")
    assert any(UNTOUCHED in name for name in failed(result))
    result.stdout.fnmatch_lines(["E *the source is not as it was:", "E *'*' is new"])


def test_of_many_changes_the_first_are_told(tmp_path: pathlib.Path) -> None:
    before = snapshot(tmp_path)
    for number in range(30):
        (tmp_path / f"{number:02}").touch()
    with pytest.raises(AssertionError) as caught:
        assert_unchanged("the target", before, snapshot(tmp_path), but={"mtime"})
    assert str(caught.value).splitlines() == [
        "the target is not as it was:",
        *(f"  '{number:02}' is new" for number in range(20)),
        "  ... and 10 more",
    ]
    assert_unchanged("the target", before, snapshot(tmp_path), but={"mtime"}, added=False)


def test_modes_that_a_linker_does_not_have_are_deselected(suite: Suite) -> None:
    result = suite("copy=cp -a {source}/. {target}", "anywhere", "--collect-only", "-q")
    found = re.findall(r"\[\w+-(\w+)", result.stdout.str())
    assert set(found) == {"copy"}
    assert len(found) > 30
    result.stdout.fnmatch_lines([f"{len(found)}/* tests collected *"])


def test_every_wrong_linker_is_in_the_table() -> None:
    text = (HERE / "wrong_linkers.py").read_text()
    linkers = set(re.findall(r"^def (\w+)\(source", text, re.MULTILINE))
    assert linkers - {"right"} == {wrong.name for wrong in WRONG}
