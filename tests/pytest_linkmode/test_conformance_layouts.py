"""Each layout turns the conformance suite red on a linker that mishandles just that."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pytest_linkmode.config import Settings
from pytest_linkmode.layouts import KINDS, missing, parse

HERE = pathlib.Path(__file__).parent

MODE = "every_file_ends_in_the_mode"
SOURCE = "linking_changes_nothing_in_the_source"
EXECUTABLES = "executables_stay_executable"
SAID = "what_cannot_be_done_is_said"
UNDONE = "a_refusal_leaves_the_target_as_it_was"


@dataclass(frozen=True)
class Wrong:
    """A linker, the layout and the mode in which its mistake shows, and the test that sees it.

    In `right`, a layout like it, the linker passes the very same test.
    """

    name: str
    layout: str
    right: str
    mode: str
    seen_by: str = MODE


WRONG = (
    Wrong("another_filesystem_is_fatal", "btrfs:tmpfs", "btrfs", "clone"),
    Wrong("equal_device_numbers_are_one_filesystem", "xfs+bind", "xfs", "hardlink"),
    Wrong("other_device_numbers_are_two_filesystems", "btrfs+subvolume", "btrfs", "clone"),
    Wrong("locks_the_source", "btrfs+snapshot", "btrfs", "clone", SOURCE),
    Wrong("stages_everything_at_the_top", "ext4+nested-mount", "ext4", "copy"),
    Wrong("one_refusal_is_for_the_whole_tree", "btrfs+nested-mount", "btrfs", "clone"),
    Wrong("an_odd_attribute_is_fatal", "btrfs+nocow", "btrfs", "clone"),
    Wrong("an_odd_attribute_is_fatal", "btrfs+nocow-source", "btrfs", "clone"),
    Wrong("stages_everything_at_the_top", "btrfs+nocow-directory", "btrfs", "clone"),
    Wrong("one_refusal_is_for_the_whole_tree", "btrfs+nocow-directory", "btrfs", "clone"),
    Wrong("an_overlay_cannot_clone", "xfs+overlay-upper", "xfs", "clone"),
    Wrong("opens_sources_for_writing", "ext4+overlay-lower", "ext4", "copy", SOURCE),
    Wrong("another_filesystem_is_fatal", "btrfs+overlay-cross", "btrfs", "clone"),
    Wrong("too_many_links_are_fatal", "ext4+too-many-links", "ext4", "hardlink"),
    Wrong("one_refusal_is_for_the_whole_tree", "xfs+too-many-links", "xfs", "hardlink"),
    Wrong("too_many_links_are_fatal", "btrfs+too-many-links", "btrfs", "hardlink"),
    Wrong("locks_the_source", "tmpfs+read-only-source", "tmpfs", "copy", SOURCE),
    Wrong("swallows_failures", "tmpfs+read-only-target", "", "copy", SAID),
    Wrong("swallows_failures", "ext4+full", "", "copy", SAID),
    Wrong("leaves_what_it_made_when_it_fails", "btrfs+full", "", "copy", UNDONE),
    Wrong("swallows_failures", "tmpfs+full-inodes", "", "hardlink", SAID),
    Wrong("lets_the_last_of_two_names_win", "tmpfs:exfat+fold", "", "copy", SAID),
    Wrong("a_denied_link_is_fatal", "ext4+other-owner", "ext4", "hardlink"),
    Wrong("a_denied_link_is_fatal", "xfs+immutable", "xfs", "hardlink"),
    Wrong("makes_the_source_mutable", "ext4+immutable", "ext4", "hardlink"),
    Wrong("replaces_the_target", "tmpfs+symlinked", "tmpfs", "copy", SOURCE),
    Wrong("follows_a_symlinked_directory", "tmpfs+symlinked-directory", "", "copy", UNDONE),
    Wrong("a_long_symlink_is_fatal", "xfs+long-names", "xfs", "symlink"),
    Wrong("stages_beside_the_target", "tmpfs+long-names", "tmpfs", "copy"),
    Wrong("obeys_the_umask", "tmpfs+umask", "tmpfs", "copy", EXECUTABLES),
    Wrong("equal_device_numbers_are_one_filesystem", "xfs+xfs-project", "xfs", "hardlink"),
)

ROOTS = {
    "stages_beside_the_target": "nothing can be made beside the target",
    "stages_everything_at_the_top": "nothing can be moved out of a read-only directory",
}
"""Linkers that none but root can be, and why."""

Suite = Callable[..., pytest.RunResult]


@pytest.fixture
def suite(outside: Suite, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Run some tests of the suite on a linker in some layouts, or skip where one is missing."""
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)

    def run(linker: str, layouts: list[str], tests: str) -> pytest.RunResult:
        for layout in layouts:
            unavailable = missing(parse(layout), Settings())
            if unavailable is not None:
                pytest.skip(str(unavailable))
        return outside(
            *("--pyargs", "pytest_linkmode.conformance"),
            *(f"--linkmode-layout={','.join(layouts)}", f"--linkmode-linker={linker}"),
            *("-k", tests),
        )

    return run


def failed(result: pytest.RunResult) -> set[str]:
    """Return the layouts in which a test failed."""
    lines = "\n".join(result.outlines)
    return set(re.findall(r"^FAILED \S*\[([^\]]*)-(?:clone|hardlink|symlink|copy)", lines, re.M))


def test_every_layout_has_a_linker_that_mishandles_it() -> None:
    assert {parse(wrong.layout).kind for wrong in WRONG} == {"", *KINDS}


@pytest.mark.parametrize("wrong", WRONG, ids=[f"{each.layout}-{each.name}" for each in WRONG])
def test_a_linker_that_mishandles_a_layout_turns_it_red(suite: Suite, wrong: Wrong) -> None:
    if os.geteuid() and wrong.name in ROOTS:
        pytest.skip(f"not root: {ROOTS[wrong.name]}")
    layouts = [layout for layout in (wrong.layout, wrong.right) if layout]
    tests = f"{wrong.seen_by} and {wrong.mode}"
    result = suite(f"layout_linkers:{wrong.name}", layouts, tests)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert wrong.layout in failed(result)
    assert wrong.right not in failed(result)
    if wrong.right:
        assert result.parseoutcomes().get("passed", 0) > 0
