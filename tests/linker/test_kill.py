"""A link is killed at every one of its system calls.

At that moment every final name shows an old or a whole new entry, and what else there is lies
under a reserved name. The next run removes that, finishes, and ends as an undisturbed run does.
"""

from __future__ import annotations

import os
import signal

import pytest

from linker import LinkMode, link_file, link_tree
from linker.journal import RESERVED
from linker.platforms.linux import CALLS, Calls
from pytest_linkmode.faults.inprocess import Killed
from pytest_linkmode.layouts import TestFilesystem
from tests.linker import trees, users
from tests.linker.scenes import EXISTING, SOURCE, Scene
from tests.linker.seams import WITHOUT_FLAGS, WITHOUT_FLAGS_AND_LINKS, Deed, Tap, die, in_child
from tests.linker.trees import Directory, File, Tree
from tests.linker.verdicts import Ends, everything

GROUPED: Tree = {**EXISTING, "ns": Directory(0o2755), "ro": Directory(0o2555)}
"""Directories whose entries inherit something: each has a stage of its own."""

READ_ONLY: Tree = {**GROUPED, "": Directory(0o555)}
"""A target that its owner must make writable first."""

TARGETS: dict[str, Tree | None] = {
    "fresh-target": None,
    "existing-target": EXISTING,
    "grouped-target": GROUPED,
    "read-only-target": READ_ONLY,
}

WHERE = [
    *[pytest.param("root", existing, marks=users.ROOT_ONLY) for existing in TARGETS][:2],
    *[("ordinary-user", existing) for existing in TARGETS],
]
"""For root no directory is read-only, and groups are the same for everybody."""


def stages(scene: Scene) -> list[str]:
    """Return the paths of everything that has a reserved name itself."""
    return [path for path in everything(scene) if path.rpartition("/")[2].startswith(RESERVED)]


def simulate(ends: Ends, at: int) -> None:
    """Link, and let nothing happen any more from call `at` on: no undo, no clean-up."""

    def deed(number: int, name: str) -> None:
        if number >= at:
            raise Killed

    tap = ends.tap(deed)
    scene = ends.scene
    with pytest.raises(Killed):
        link_tree(scene.source, scene.target, mode=ends.mode, platform=tap.platform)
    tap.close()


@pytest.mark.parametrize(("user", "existing"), WHERE, indirect=["user"])
@pytest.mark.parametrize("mode", LinkMode)
def test_after_a_kill_at_any_call_names_are_whole_and_the_next_run_ends_as_if_nothing_had_been(
    scene: str, user: str, mode: LinkMode, existing: str
) -> None:
    ends = Ends(Scene(scene, existing=TARGETS[existing]), mode)
    most = 0
    for at in range(1, ends.calls + 1):
        simulate(ends, at)
        assert not ends.torn(), f"after call {at}"
        most = max(most, ends.stages)
        assert not ends.mended(), f"after call {at}"
        ends.scene.rebuild()
    # One stage; further ones only inside directories whose entries inherit something else, and
    # in the target itself where its own stage had to lie beside it.
    if existing in ("fresh-target", "existing-target"):
        assert most == 1


@pytest.mark.parametrize("way", [WITHOUT_FLAGS, WITHOUT_FLAGS_AND_LINKS], ids=["links", "no-links"])
def test_without_the_atomic_calls_too_the_next_run_ends_as_if_nothing_had_been(
    scene: str, way: Calls
) -> None:
    ends = Ends(Scene(scene), LinkMode.COPY, way)
    for at in range(1, ends.calls + 1):
        simulate(ends, at)
        gone = [said for said in ends.torn() if not said.endswith("is missing")]
        assert not gone, f"after call {at}"
        assert not ends.mended(), f"after call {at}"
        ends.scene.rebuild()


@pytest.mark.parametrize(
    ("user", "mode"),
    [
        pytest.param("root", LinkMode.CLONE, marks=users.ROOT_ONLY),
        ("ordinary-user", LinkMode.HARDLINK),
    ],
    indirect=["user"],
)
def test_sigkill_itself_at_every_call(scene: str, mode: LinkMode) -> None:
    kill_at_every_call(Ends(Scene(scene), mode))


@pytest.mark.linkmode(fs=["btrfs", "xfs"], needs={"reflink"})
@pytest.mark.parametrize("mode", [LinkMode.CLONE, LinkMode.HARDLINK])
def test_sigkill_itself_where_files_are_really_cloned(
    linkmode_fs: TestFilesystem, mode: LinkMode
) -> None:
    """What one filesystem does in a call of its own another may do in two."""
    kill_at_every_call(Ends(Scene(str(linkmode_fs.path)), mode, CALLS), step=3)


def kill_at_every_call(ends: Ends, step: int = 1) -> None:
    """Kill a link at its calls, and look at what is there, and at what the next run makes of it."""
    for at in (*range(1, ends.calls + 1, step), ends.calls + 1):

        def deed(number: int, name: str, at: int = at) -> None:
            if number == at:
                die()

        def link(deed: Deed = deed) -> None:
            platform = Tap(deed, ends.way).platform
            link_tree(ends.scene.source, ends.scene.target, mode=ends.mode, platform=platform)

        assert in_child(link) == (-signal.SIGKILL if at <= ends.calls else 0)
        assert not ends.torn(), f"call {at}"
        assert not ends.mended(), f"call {at}"
        ends.scene.rebuild()


def test_a_run_that_is_killed_while_it_recovers_is_recovered_from(scene: str) -> None:
    ends = Ends(Scene(scene, existing=GROUPED), LinkMode.CLONE)
    deepest = 0
    for at in range(1, ends.calls, 9):
        simulate(ends, at)
        for again in range(1, ends.calls, 13):
            simulate(ends, again)
            assert not ends.torn(), f"after calls {at} and {again}"
            deepest = max(deepest, ends.stages)
        assert not ends.mended(), f"after calls {at}"
        ends.scene.rebuild()
    assert deepest


def test_what_a_living_linker_has_in_its_stage_is_left_alone(scene: str) -> None:
    stage = Scene(scene, {"a": File(b"a"), "b": File(b"b")}, {})
    others: list[list[str]] = []

    def deed(number: int, name: str) -> None:
        if name == "link" and not others:
            before = stages(stage)
            link_tree(stage.source, stage.target, mode=LinkMode.COPY, platform=Tap().platform)
            others.append(before)
            assert stages(stage) == before

    link_tree(stage.source, stage.target, mode=LinkMode.COPY, platform=Tap(deed).platform)
    assert len(others[0]) == 1
    assert not stages(stage)


def test_a_killed_link_of_one_file_shows_the_old_or_the_new_one(scene: str) -> None:
    os.mkdir(f"{scene}/d")
    trees.build(f"{scene}/source", {"f": File(b"new", 0o755)})
    tap = Tap()
    link_file(f"{scene}/source/f", f"{scene}/d/g", mode=LinkMode.COPY, platform=tap.platform)
    for at in range(1, tap.count + 1):
        trees.remove(f"{scene}/d/g")
        trees.build(f"{scene}/old", {"g": File(b"old")})
        os.rename(f"{scene}/old/g", f"{scene}/d/g")
        os.rmdir(f"{scene}/old")

        def deed(number: int, name: str, at: int = at) -> None:
            if number >= at:
                raise Killed

        tap = Tap(deed)
        with pytest.raises(Killed):
            link_file(
                f"{scene}/source/f", f"{scene}/d/g", mode=LinkMode.COPY, platform=tap.platform
            )
        tap.close()
        with open(f"{scene}/d/g", "rb") as reading:
            assert reading.read() in (b"old", b"new")
        link_file(f"{scene}/source/f", f"{scene}/d/g", mode=LinkMode.COPY)
        assert os.listdir(f"{scene}/d") == ["g"]
        with open(f"{scene}/d/g", "rb") as reading:
            assert reading.read() == b"new"


def test_the_source_is_never_changed_by_a_killed_link(scene: str) -> None:
    for mode in (LinkMode.CLONE, LinkMode.COPY, LinkMode.SYMLINK):
        ends = Ends(Scene(f"{scene}", SOURCE, None), mode)
        before = trees.snapshot(ends.scene.source)
        for at in range(1, ends.calls + 1, 5):
            simulate(ends, at)
            assert trees.snapshot(ends.scene.source) == before
            ends.scene.rebuild()
        trees.remove(ends.scene.source)
