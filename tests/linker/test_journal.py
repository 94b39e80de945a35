"""Undo takes back what is ours and nothing else; what a killed run left is finished and removed."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from linker import LinkError, LinkMode, engine, helping, link_tree
from linker.journal import SAVED, STAGE, open_stage, recover
from linker.platforms import current
from pytest_linkmode.faults.inprocess import injected
from pytest_linkmode.layouts import TestFilesystem
from tests.linker import trees, users
from tests.linker.scenes import Scene
from tests.linker.seams import (
    CALLS,
    MAKES,
    REFLINKING,
    WITHOUT_FLAGS,
    WITHOUT_FLAGS_AND_LINKS,
    Calls,
    MachinePlatform,
    Tap,
    in_child,
)
from tests.linker.trees import Directory, File, Symlink, Tree

ONE_BY_ONE: Tree = {"a": File(b"a"), "b": File(b"b"), "d/c": File(b"c"), "z": File(b"z")}
"""What goes into a directory that exists; the last one is made to fail."""


def read(path: str) -> bytes:
    with open(path, "rb") as reading:
        return reading.read()


def write(path: str, content: bytes) -> None:
    """Replace a file as editors do."""
    with open(f"{path}.theirs", "wb") as writing:
        writing.write(content)
    os.replace(f"{path}.theirs", path)


class Failing:
    """Does something when a file is about to be read or linked, and fails there."""

    late = False

    def __init__(
        self, scene: Scene, mode: LinkMode, meanwhile: Callable[[], object], base: Calls
    ) -> None:
        self.meanwhile = meanwhile
        self.done = False
        names = Tap(base=base)
        link_tree(scene.source, scene.target, mode=mode, platform=names.platform)
        scene.rebuild()
        self.at = max(n for n, name in enumerate(names.names, 1) if name == MAKES[mode])

    def __call__(self, number: int, name: str) -> None:
        if number == self.at:
            self.done = True
            self.meanwhile()
            raise injected(errno.EIO)


def fail_last(
    scene: Scene,
    mode: LinkMode,
    meanwhile: Callable[[], object] = lambda: None,
    base: Calls = REFLINKING,
) -> LinkError:
    """Link, and let the making of the last file fail, after `meanwhile`."""
    deed = Failing(scene, mode, meanwhile, base)
    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=mode, platform=Tap(deed, base).platform)
    assert deed.done
    return caught.value


def reserved(root: str) -> list[str]:
    return sorted(
        path for path in trees.snapshot(root) if path.rpartition("/")[2].startswith(".linkmode-")
    )


# Undo.


@pytest.mark.parametrize("mode", LinkMode)
def test_what_others_replaced_meanwhile_stays(ground: str, mode: LinkMode) -> None:
    scene = Scene(ground, ONE_BY_ONE, {"a": File(b"old")})
    error = fail_last(scene, mode, lambda: write(f"{scene.target}/a", b"theirs"))
    assert not error.left
    assert read(f"{scene.target}/a") == b"theirs"
    assert os.listdir(scene.target) == ["a"]


@pytest.mark.parametrize("bits", [0o750, 0o555])
@pytest.mark.parametrize("mode", LinkMode)
def test_what_others_put_into_a_directory_of_ours_stays_with_the_directory(
    scene: str, user: str, mode: LinkMode, bits: int
) -> None:
    tree: Tree = {"a/f": File(b"f"), "a/g": File(b"g"), "a": Directory(bits), "b/z": File(b"z")}
    stage = Scene(scene, tree, {"b": Directory()})
    theirs = f"{stage.target}/a"

    def meanwhile() -> None:
        os.chmod(theirs, 0o755)
        write(f"{theirs}/theirs", b"theirs")
        write(f"{theirs}/g", b"theirs too")
        os.chmod(theirs, bits)

    error = fail_last(stage, mode, meanwhile)
    assert not error.left
    assert sorted(os.listdir(stage.target)) == ["a", "b"]
    assert sorted(os.listdir(theirs)) == ["g", "theirs"]
    assert read(f"{theirs}/g") == b"theirs too"
    assert trees.has_mode(theirs, bits)


@pytest.mark.parametrize("name", ["a", "b", "d/c"])
@pytest.mark.parametrize("mode", LinkMode)
def test_what_others_replace_while_we_undo_stays(ground: str, mode: LinkMode, name: str) -> None:
    """Also between our look at a name and our taking it away."""
    scene = Scene(ground, ONE_BY_ONE, {"a": File(b"old")})
    first = Failing(scene, mode, lambda: None, REFLINKING)
    tap = Tap(first)
    with pytest.raises(LinkError):
        link_tree(scene.source, scene.target, mode=mode, platform=tap.platform)
    for at in range(first.at + 1, tap.count + 1):
        scene.rebuild()
        kept: list[bool] = []

        def deed(number: int, called: str, at: int = at, kept: list[bool] = kept) -> None:
            first(number, called)
            if number == at and os.path.isdir(os.path.dirname(f"{scene.target}/{name}")):
                write(f"{scene.target}/{name}", b"theirs")
                kept.append(True)

        with pytest.raises(LinkError):
            link_tree(scene.source, scene.target, mode=mode, platform=Tap(deed).platform)
        if kept:
            assert read(f"{scene.target}/{name}") == b"theirs", f"at call {at}"
        assert not [path for path in reserved(scene.target) if path.startswith(STAGE)]


@pytest.mark.parametrize("mode", LinkMode)
def test_what_others_removed_meanwhile_is_put_back_only_if_it_was_there_before(
    ground: str, mode: LinkMode
) -> None:
    scene = Scene(ground, ONE_BY_ONE, {"a": File(b"old")})

    def meanwhile() -> None:
        os.unlink(f"{scene.target}/a")
        os.unlink(f"{scene.target}/b")

    error = fail_last(scene, mode, meanwhile)
    assert not error.left
    assert os.listdir(scene.target) == ["a"]
    assert read(f"{scene.target}/a") == b"old"


@pytest.mark.parametrize("mode", LinkMode)
def test_a_whole_directory_that_others_removed_is_no_trouble(ground: str, mode: LinkMode) -> None:
    tree: Tree = {"a/f": File(b"f"), "b/z": File(b"z")}
    scene = Scene(ground, tree, {"b": Directory()})

    def meanwhile() -> None:
        trees.remove(f"{scene.target}/a")
        write(f"{scene.target}/a", b"a file of theirs")

    error = fail_last(scene, mode, meanwhile)
    assert not error.left
    assert read(f"{scene.target}/a") == b"a file of theirs"


@pytest.mark.parametrize("mode", LinkMode)
def test_a_directory_of_the_same_name_is_not_taken_for_ours(ground: str, mode: LinkMode) -> None:
    tree: Tree = {"a": Directory(0o555), "a/f": File(b"f"), "b/z": File(b"z")}
    scene = Scene(ground, tree, {"b": Directory()})

    def meanwhile() -> None:
        os.rename(f"{scene.target}/a", f"{scene.target}/moved")
        trees.build(f"{scene.target}/a", {"theirs": File(b"theirs"), "": Directory(0o500)})

    error = fail_last(scene, mode, meanwhile)
    assert not error.left
    assert trees.has_mode(f"{scene.target}/a", 0o500)
    assert os.listdir(f"{scene.target}/a") == ["theirs"]
    assert os.listdir(f"{scene.target}/moved") == ["f"]


@pytest.mark.parametrize("kind", [None, {"b": Directory()}], ids=["fresh", "existing"])
def test_a_hard_link_of_another_linker_stays_and_is_listed(ground: str, kind: Tree | None) -> None:
    """Two hard links of one inode cannot be told apart: neither may be taken away."""
    tree: Tree = {"a": File(b"a"), "b/z": File(b"z")}
    scene = Scene(ground, tree, {"b": Directory()})

    def meanwhile() -> None:
        link_tree(scene.source, scene.target, mode=LinkMode.HARDLINK, platform=Tap().platform)

    error = fail_last(scene, LinkMode.HARDLINK, meanwhile)
    assert "a" in error.left
    assert os.path.samefile(f"{scene.target}/a", f"{scene.source}/a")
    assert os.path.samefile(f"{scene.target}/b/z", f"{scene.source}/b/z")
    assert "could not be undone: " in str(error)
    assert not reserved(ground)


def test_a_link_that_failed_may_be_anothers_if_it_is_there(ground: str) -> None:
    scene = Scene(ground, ONE_BY_ONE, {"d": Directory()})
    others = ONE_BY_ONE.keys() - {"a", "b"}

    def meanwhile() -> None:
        for path in others:
            if not os.path.lexists(f"{scene.target}/{path}"):
                os.link(f"{scene.source}/{path}", f"{scene.target}/{path}")
                left.append(path)

    left: list[str] = []
    error = fail_last(scene, LinkMode.HARDLINK, meanwhile)
    assert list(error.left) == left
    assert left
    for path in left:
        assert os.path.samefile(f"{scene.target}/{path}", f"{scene.source}/{path}")
    assert not os.path.lexists(f"{scene.target}/a")


class Coming:
    """Fails at one call, and has another linker come before the `when`-th call after that."""

    late = False

    def __init__(self, at: int, when: int, come: Callable[[], object]) -> None:
        self.at = at
        self.when = when
        self.come = come
        self.last = 0

    def __call__(self, number: int, name: str) -> None:
        self.last = number
        if number == self.at:
            raise injected(errno.EIO)
        if number == self.at + self.when:
            self.come()


@pytest.mark.parametrize("old", [{}, {"a": File(b"old"), "d/c": File(b"old")}], ids=["new", "old"])
def test_a_hard_linker_that_comes_during_the_undo_loses_nothing(ground: str, old: Tree) -> None:
    """Whichever step of the undo it comes before."""
    tree: Tree = {"a": File(b"a"), "d/c": File(b"c"), "d/e/f": File(b"f"), "y/z": File(b"z")}
    names = Tap()
    scene = Scene(f"{ground}/names", tree, {"y": Directory(), **old})
    link_tree(scene.source, scene.target, mode=LinkMode.HARDLINK, platform=names.platform)
    at = max(n for n, name in enumerate(names.names, 1) if name == MAKES[LinkMode.HARDLINK])
    when = 1
    while True:
        scene = Scene(f"{ground}/{when}", tree, {"y": Directory(), **old})
        come = partial(
            link_tree,
            scene.source,
            scene.target,
            mode=LinkMode.HARDLINK,
            platform=Tap().platform,
        )
        deed = Coming(at, when, come)
        with pytest.raises(LinkError):
            link_tree(
                scene.source, scene.target, mode=LinkMode.HARDLINK, platform=Tap(deed).platform
            )
        if deed.last < at + when:
            break
        lost = [
            path
            for path in ("a", "d/c", "d/e/f", "y/z")
            if not os.path.exists(f"{scene.target}/{path}")
            or not os.path.samefile(f"{scene.target}/{path}", f"{scene.source}/{path}")
        ]
        assert not lost, f"{when} calls after the failure"
        assert not [path for path in reserved(scene.target) if STAGE in path]
        when += 1
    assert when > 30


@pytest.mark.parametrize("mode", LinkMode)
def test_an_empty_directory_that_another_linker_wants_as_well_stays_and_is_listed(
    ground: str, mode: LinkMode
) -> None:
    tree: Tree = {"e": Directory(0o750), "n/e": Directory(), "b/z": File(b"z")}
    other = f"{ground}/other"
    trees.build(other, {"e": Directory(), "n/e": Directory()})
    scene = Scene(f"{ground}/scene", tree, {"b": Directory()})
    error = fail_last(scene, mode, lambda: link_tree(other, scene.target, mode=mode))
    assert sorted(error.left) == ["e", "n/e"]
    assert sorted(os.listdir(scene.target)) == ["b", "e", "n"]
    assert trees.has_mode(f"{scene.target}/e", 0o750)
    assert os.listdir(f"{scene.target}/n") == ["e"]


@pytest.mark.parametrize("mode", [LinkMode.COPY, LinkMode.HARDLINK])
def test_an_empty_directory_wanted_while_it_is_undone_is_there_afterwards(
    ground: str, mode: LinkMode
) -> None:
    """Whichever call of the undo the other linker comes before."""
    tree: Tree = {"e": Directory(0o750), "n/e/f": File(b"f"), "b/z": File(b"z")}
    wanted: Tree = {"e": Directory(), "n/e": Directory()}
    other = f"{ground}/other"
    trees.build(other, wanted)
    scene = Scene(f"{ground}/scene", tree, {"b": Directory()})
    first = Failing(scene, mode, lambda: None, REFLINKING)
    tap = Tap(first)
    with pytest.raises(LinkError):
        link_tree(scene.source, scene.target, mode=mode, platform=tap.platform)
    made_again = 0
    for at in range(first.at + 1, tap.count + 1):
        scene.rebuild()
        before: list[int] = []

        def deed(number: int, called: str, at: int = at, before: list[int] = before) -> None:
            first(number, called)
            if number == at:
                if os.path.isdir(f"{scene.target}/e"):
                    before.append(os.stat(f"{scene.target}/e").st_ino)
                link_tree(other, scene.target, mode=mode)

        with pytest.raises(LinkError) as caught:
            link_tree(scene.source, scene.target, mode=mode, platform=Tap(deed).platform)
        now = os.stat(f"{scene.target}/e")
        assert os.path.isdir(f"{scene.target}/n/e"), f"at call {at}"
        made_again += bool(before) and before[0] != now.st_ino
        if before:
            assert "e" in caught.value.left, f"at call {at}"
            assert trees.has_mode(f"{scene.target}/e", 0o750)
        assert not reserved(ground), f"at call {at}"
    assert made_again, "a moment between the look and the removal was among them"


def test_an_empty_directory_that_another_undo_removes_meanwhile_is_made(ground: str) -> None:
    scene = Scene(ground, {"a": File(b"a"), "n/e": Directory()}, {"n/e": Directory()})
    names = Tap()
    link_tree(scene.source, scene.target, platform=names.platform)
    removed = 0
    for at in range(1, names.count + 1):
        scene.rebuild()
        place = f"{scene.target}/n/e"
        os.utime(place, ns=(0, 0))

        def deed(number: int, called: str, at: int = at, place: str = place) -> None:
            nonlocal removed
            if number == at and os.stat(place).st_mtime_ns == 0:
                os.rmdir(place)
                removed += 1

        link_tree(scene.source, scene.target, platform=Tap(deed).platform)
        assert os.path.isdir(place), f"at call {at}"
    assert removed > 5


def test_a_new_target_that_another_linker_wants_as_well_stays(ground: str) -> None:
    scene = Scene(f"{ground}/scene", {"a": File(b"a"), "z": File(b"z")}, None)
    other = f"{ground}/other"
    trees.build(other, {})
    met: list[str] = []

    def deed(number: int, name: str) -> None:
        if os.path.isdir(scene.target) and not met:
            met.append(name)
            link_tree(other, scene.target)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=Tap(deed).platform)
    assert met
    assert os.listdir(scene.target) == []


def test_linkers_of_other_modes_leave_no_doubt(ground: str) -> None:
    scene = Scene(ground, ONE_BY_ONE, {})

    def meanwhile() -> None:
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=Tap().platform)

    error = fail_last(scene, LinkMode.HARDLINK, meanwhile)
    assert not error.left
    for path in ("a", "b", "d/c", "z"):
        assert not os.path.samefile(f"{scene.target}/{path}", f"{scene.source}/{path}")


def test_a_linker_that_came_and_went_before_we_looked_is_not_undone(ground: str) -> None:
    """Its hard links are those that we were about to make."""
    scene = Scene(ground, ONE_BY_ONE, {})
    trial = Tap()
    link_tree(scene.source, scene.target, mode=LinkMode.HARDLINK, platform=trial.platform)
    last = max(n for n, name in enumerate(trial.names, 1) if name == "mkdir")
    for at in range(1, last):
        scene.rebuild()

        def deed(number: int, name: str, at: int = at) -> None:
            if number == at:
                link_tree(scene.source, scene.target, mode=LinkMode.HARDLINK)
            elif number > at and name == "rmdir":
                raise injected(errno.EIO)

        class Interrupting:
            def __call__(self, done: int, total: int) -> None:
                if done == total:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            link_tree(
                scene.source,
                scene.target,
                mode=LinkMode.HARDLINK,
                platform=Tap(deed).platform,
                progress=Interrupting(),
            )
        for path in ONE_BY_ONE:
            assert os.path.samefile(f"{scene.target}/{path}", f"{scene.source}/{path}"), at


def test_linkers_meet_wherever_their_stages_lie(ground: str) -> None:
    """One began when there was no target yet, the other when there was one."""
    tree: Tree = {"a": File(b"a"), "b/z": File(b"z")}
    scene = Scene(ground, tree, None)
    met: list[str] = []

    def deed(number: int, name: str) -> None:
        if name == "renameat2" and not met:
            met.append("target")
            os.mkdir(scene.target)
        elif name == "mkdir" and met == ["target"] and os.path.exists(f"{scene.target}/a"):
            met.append("linker")
            link_tree(scene.source, scene.target, mode=LinkMode.HARDLINK)
            raise injected(errno.EIO)

    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=LinkMode.HARDLINK, platform=Tap(deed).platform)
    assert met == ["target", "linker"]
    assert "a" in caught.value.left
    for path in tree:
        assert os.path.samefile(f"{scene.target}/{path}", f"{scene.source}/{path}")


def test_what_cannot_be_put_back_is_saved_and_listed(ground: str) -> None:
    scene = Scene(ground, ONE_BY_ONE, {"a": File(b"the only copy")})
    failed: list[str] = []

    def deed(number: int, name: str) -> None:
        if failed and name == "renameat2" and failed[-1] != "saved":
            failed.append(name)
            if len(failed) > 3:
                failed.append("saved")
                return
            raise injected(errno.EIO)
        if name == "read" and os.path.exists(f"{scene.target}/b") and not failed:
            failed.append(name)
            raise injected(errno.EIO)

    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=Tap(deed).platform)
    left = caught.value.left
    (saved,) = [name for name in left if name.startswith(SAVED)]
    contents = {read(f"{scene.target}/{saved}/{name}") for name in _files(scene, saved)}
    shown = read(f"{scene.target}/a")
    assert b"the only copy" in contents | {shown}
    link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    assert saved in os.listdir(scene.target), "what was saved is never removed by us"


def _files(scene: Scene, directory: str) -> Iterator[str]:
    for name in os.listdir(f"{scene.target}/{directory}"):
        if os.path.isfile(f"{scene.target}/{directory}/{name}"):
            yield name


@pytest.mark.parametrize("way", [WITHOUT_FLAGS, WITHOUT_FLAGS_AND_LINKS], ids=["links", "no-links"])
def test_undo_finds_out_by_itself_what_the_filesystem_lacks(ground: str, way: object) -> None:
    scene = Scene(ground, ONE_BY_ONE, {})
    calls = WITHOUT_FLAGS if way is WITHOUT_FLAGS else WITHOUT_FLAGS_AND_LINKS
    seen: list[str] = []

    def deed(number: int, name: str) -> None:
        if name == "read":
            seen.append(name)
            if len(seen) == len(ONE_BY_ONE):
                raise injected(errno.EIO)

    with pytest.raises(LinkError) as caught:
        link_tree(
            scene.source, scene.target, mode=LinkMode.COPY, platform=Tap(deed, calls).platform
        )
    assert not caught.value.left
    assert not scene.untouched()


def take_number(path: str) -> bool:
    """Remove a file and give its inode number to another one of the same name, as a filesystem
    does by itself sooner or later. Return whether it did.
    """
    wanted = os.lstat(path).st_ino
    os.unlink(path)
    time.sleep(0.02)  # longer than a tick of the clock by which inodes are born
    directory = os.path.dirname(path)
    tried = [f"{directory}/try{number}" for number in range(64)]
    found = False
    for place in tried:
        with open(place, "wb") as writing:
            writing.write(b"theirs")
        if os.lstat(place).st_ino == wanted:
            os.rename(place, path)
            found = True
            break
    for place in tried:
        if os.path.exists(place):
            os.unlink(place)
    return found


@pytest.mark.linkmode(fs=["ext4"])
@pytest.mark.parametrize("mode", [LinkMode.COPY, LinkMode.SYMLINK])
@pytest.mark.parametrize("path", ["a", "old", "d/c"])
def test_a_file_that_got_the_inode_number_of_ours_is_not_ours(
    linkmode_fs: TestFilesystem, mode: LinkMode, path: str
) -> None:
    """A second linker replaced ours, which freed its number; a third one's file has it now."""
    if not os.path.ismount(linkmode_fs.path.parent):
        pytest.skip("a disk of the machine: others may be given the number first")
    tree: Tree = {**ONE_BY_ONE, "old": File(b"new"), "e/z": File(b"z")}
    scene = Scene(str(linkmode_fs.path / "scene"), tree, {"old": File(b"old"), "e": Directory()})
    taken: list[bool] = []
    error = fail_last(
        scene, mode, lambda: taken.append(take_number(f"{scene.target}/{path}")), base=CALLS
    )
    assert taken == [True], "this test has lost what it was for"
    assert not error.left
    assert read(f"{scene.target}/{path}") == b"theirs"
    shown = {"old": b"old", path: b"theirs"}
    for other in tree:
        if other not in shown:
            assert not os.path.lexists(f"{scene.target}/{other}")
        else:
            assert read(f"{scene.target}/{other}") == shown[other]
    assert not reserved(scene.target)


# What a killed run left.


def abandoned(scene: Scene, name: str = f"{STAGE}dead") -> str:
    """Make what a killed run leaves: a stage that nobody has locked, with something in it."""
    path = f"{scene.target}/{name}"
    trees.build(path, {"1": File(b"half made"), "2/x/y": File(b"y"), "2/x": Directory(0o555)})
    return path


def test_an_abandoned_stage_is_removed_with_everything_in_it(scene: str, user: str) -> None:
    stage = Scene(scene, ONE_BY_ONE, {"d": Directory()})
    abandoned(stage)
    trees.build(f"{stage.target}/d/{STAGE}inner", {"1": File(b"half")})
    link_tree(stage.source, stage.target, mode=LinkMode.COPY)
    assert not reserved(scene)
    assert read(f"{stage.target}/d/c") == b"c"


def test_a_stage_whose_lock_is_held_is_left_alone(ground: str) -> None:
    import fcntl

    scene = Scene(ground, ONE_BY_ONE, {})
    held = os.open(abandoned(scene), os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        link_tree(scene.source, scene.target, mode=LinkMode.COPY)
        assert reserved(scene.target)[0] == f"{STAGE}dead"
        assert read(f"{scene.target}/{STAGE}dead/1") == b"half made"
    finally:
        os.close(held)
    link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    assert not reserved(scene.target)


@pytest.mark.faked("symlinks")
def test_what_was_saved_and_what_only_looks_like_a_stage_stays(ground: str) -> None:
    scene = Scene(ground, ONE_BY_ONE, {f"{SAVED}x": Directory(), "f": File(b"f")})
    with open(f"{scene.target}/{STAGE}file", "wb"):
        pass
    os.symlink(ground, f"{scene.target}/{STAGE}link")
    link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    assert reserved(scene.target) == [f"{SAVED}x", f"{STAGE}file", f"{STAGE}link"]
    assert os.path.isdir(scene.source)


def test_stages_outside_of_what_is_linked_are_nobodys_business(ground: str) -> None:
    scene = Scene(ground, {"d/c": File(b"c")}, {"other": Directory()})
    trees.build(f"{scene.target}/other/{STAGE}far", {"1": File()})
    link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    assert reserved(scene.target) == [f"other/{STAGE}far", f"other/{STAGE}far/1"] or reserved(
        scene.target
    ) == [f"other/{STAGE}far"]


def note(scene: Scene, path: list[str], inode: int, temporary: int, final: int) -> None:
    """Leave a stage with a note of a directory whose permission bits are not final."""
    os.mkdir(f"{scene.target}/{STAGE}dead", 0o700)
    with open(f"{scene.target}/{STAGE}dead/p1", "w", encoding="ascii") as writing:
        json.dump({"path": path, "inode": inode, "temporary": temporary, "final": final}, writing)


@pytest.mark.parametrize("believed", ["all", "inode", "mode", "path", "symlink"])
def test_a_note_is_believed_only_if_everything_in_it_is_so(ground: str, believed: str) -> None:
    scene = Scene(ground, {"a": File(b"a")}, {"d/e": Directory(0o755)})
    inode = os.stat(f"{scene.target}/d/e").st_ino
    if believed == "symlink":
        os.rename(f"{scene.target}/d", f"{scene.target}/moved")
        os.symlink("moved", f"{scene.target}/d")
    note(
        scene,
        ["d", "gone" if believed == "path" else "e"],
        inode + (believed == "inode"),
        0o700 if believed == "mode" else 0o755,
        0o555,
    )
    link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    wanted = 0o555 if believed == "all" else 0o755
    assert trees.has_mode(f"{scene.target}/d/e", wanted)
    assert not reserved(scene.target)


NEVER_FINISHED = ["", '{"path": ["d"], "ino', "null", "[]", '{"path": 3}', "3", '{"path": ["d"]}']
BY_NOBODY = {
    "infinite": '{"path": ["d"], "inode": 1, "temporary": 1, "final": Infinity}',
    "negative": '{"path": ["d"], "inode": 1, "temporary": 1, "final": -1}',
    "large": '{"path": ["d"], "inode": 1, "temporary": 1, "final": 1e9}',
    "NUL": '{"path": ["a\\u0000b"], "inode": 1, "temporary": 1, "final": 511}',
    "surrogate": '{"path": ["a\\ud800b"], "inode": 1, "temporary": 1, "final": 511}',
    "deep": "[" * 200_000,
    "long name": f'{{"path": ["{"x" * 5000}"], "inode": 1, "temporary": 1, "final": 511}}',
    "longer than any": " " * ((1 << 24) + 1),
}
"""Notes that no run of ours can have written."""


@pytest.mark.parametrize(
    "content",
    [*NEVER_FINISHED, *BY_NOBODY.values()],
    ids=[*NEVER_FINISHED, *BY_NOBODY],
)
def test_a_note_that_says_nothing_is_ignored(ground: str, content: str) -> None:
    scene = Scene(ground, {"a": File(b"a")}, {"d": Directory(0o755)})
    os.mkdir(f"{scene.target}/{STAGE}dead", 0o700)
    with open(f"{scene.target}/{STAGE}dead/p1", "w", encoding="ascii") as writing:
        writing.write(content)
    link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    assert not reserved(scene.target)
    assert read(f"{scene.target}/a") == b"a"


@pytest.mark.parametrize("final", [-1, 0o10000, 0, 0o700, 0o7777])
def test_a_note_is_believed_only_of_permission_bits(ground: str, final: int) -> None:
    scene = Scene(ground, {"a": File(b"a")}, {"d": Directory(0o755)})
    note(scene, ["d"], os.stat(f"{scene.target}/d").st_ino, 0o755, final)
    link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    wanted = final if 0 <= final <= 0o7777 else 0o755
    assert os.stat(f"{scene.target}/d").st_mode & 0o7777 == wanted
    os.chmod(f"{scene.target}/d", 0o755)
    assert not reserved(scene.target)


@pytest.mark.parametrize("longer", [0, 1])
def test_a_note_that_is_longer_than_any_of_ours_is_not_believed(ground: str, longer: int) -> None:
    scene = Scene(ground, {"a": File(b"a")}, {"d": Directory(0o755)})
    note(scene, ["d"], os.stat(f"{scene.target}/d").st_ino, 0o755, 0o700)
    path = f"{scene.target}/{STAGE}dead/p1"
    with open(path, "ab") as writing:
        writing.write(b" " * ((1 << 24) + longer - os.stat(path).st_size))
    link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    assert trees.has_mode(f"{scene.target}/d", 0o755 if longer else 0o700)
    assert not reserved(scene.target)


def test_a_note_that_vanishes_stops_nobody(ground: str) -> None:
    scene = Scene(ground, {"a": File(b"a")}, {"d": Directory(0o755)})
    note(scene, ["d"], os.stat(f"{scene.target}/d").st_ino, 0o755, 0o700)

    def stat_(name: str, **where: Any) -> os.stat_result:
        if name == "p1":
            os.unlink(name, dir_fd=where["dir_fd"])
        return os.stat(name, **where)

    platform = MachinePlatform(dataclasses.replace(CALLS, stat=stat_))
    link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=platform)
    assert trees.has_mode(f"{scene.target}/d", 0o755)
    assert not reserved(scene.target)


@users.ROOT_ONLY
@pytest.mark.parametrize("whose", ["theirs", "root's", "root's, of root"])
def test_what_somebody_else_has_noted_holds_for_what_is_theirs(ground: str, whose: str) -> None:
    """Where all may make entries anybody can make what looks like a stage."""
    scene = Scene(ground, {"a": File(b"a")}, {"d": Directory(0o755)})
    seen = os.stat(f"{scene.target}/d")
    note(scene, ["d"], seen.st_ino, 0o755, 0o777)
    if whose != "root's, of root":
        for path in (f"{STAGE}dead", f"{STAGE}dead/p1", *(["d"] if whose == "theirs" else [])):
            os.chown(f"{scene.target}/{path}", users.NOBODY, users.NOBODY)
    link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    assert trees.has_mode(f"{scene.target}/d", 0o755 if whose == "root's" else 0o777)
    assert not reserved(scene.target)


@users.ROOT_ONLY
@pytest.mark.parametrize("bits", [0o777, 0o2770, 0o702])
def test_where_others_may_write_nothing_noted_holds(ground: str, bits: int) -> None:
    """Whoever may give names may give a directory of root's that of a stage."""
    scene = Scene(ground, {"a": File(b"a")}, {"d": Directory(0o755)})
    note(scene, ["d"], os.stat(f"{scene.target}/d").st_ino, 0o755, 0o777)
    os.chown(f"{scene.target}/{STAGE}dead/p1", users.NOBODY, users.NOBODY)
    os.chmod(f"{scene.target}/{STAGE}dead", bits)
    link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    assert trees.has_mode(f"{scene.target}/d", 0o755)
    assert not reserved(scene.target)


@pytest.mark.parametrize("inside", ["1", "12.old", "p3", "t4/5", "c", "._1", "7/anything"])
def test_what_a_killed_run_left_in_its_stage_goes_with_it(ground: str, inside: str) -> None:
    scene = Scene(ground, {"a": File(b"a")}, {f"{STAGE}dead/{inside}": File(b"ours")})
    link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    assert not reserved(scene.target)


@pytest.mark.parametrize("inside", ["file", "1x", "p", "pp1", "t", "1.old.old", "\u0661"])
def test_a_directory_that_was_given_the_name_of_a_stage_is_nobodys_to_remove(
    ground: str, inside: str
) -> None:
    scene = Scene(ground, {"a": File(b"a")}, {f"{STAGE}of-theirs/{inside}": File(b"theirs")})
    name = f"{STAGE}of-theirs"
    platform = MachinePlatform()
    handle = platform.open_root(scene.target)
    assert not recover(platform, handle, name)
    platform.close(handle)
    link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    assert read(f"{scene.target}/{name}/{inside}") == b"theirs"
    assert read(f"{scene.target}/a") == b"a"


@pytest.mark.parametrize("way", [["..", "outside"], ["d/../../outside"], ["."], [""]])
def test_a_note_never_leads_out_of_the_target(ground: str, way: list[str]) -> None:
    """Anybody who may write to the target can leave one."""
    outside = f"{ground}/outside"
    os.mkdir(outside)
    os.chmod(outside, 0o700)
    scene = Scene(f"{ground}/scene", {"a": File(b"a")}, {"d": Directory()})
    os.rename(outside, f"{scene.root}/outside")
    inside = way in ([""], ["."])
    seen = os.stat(scene.target if inside else f"{scene.root}/outside")
    note(scene, way, seen.st_ino, stat.S_IMODE(seen.st_mode), 0o777)
    link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    assert trees.has_mode(f"{scene.root}/outside", 0o700)
    assert trees.has_mode(scene.target, 0o755)
    assert not reserved(scene.target)


def test_a_stage_that_is_lost_before_it_is_locked_is_made_again(ground: str) -> None:
    """By somebody who cleans up what looks abandoned."""
    scene = Scene(ground, ONE_BY_ONE, {})
    lost: list[str] = []

    def deed(number: int, name: str) -> None:
        for stage in [name for name in os.listdir(scene.target) if name.startswith(STAGE)]:
            if name in ("open", "flock") and len(lost) < 5 and stage not in lost:
                shutil.rmtree(f"{scene.target}/{stage}")  # on Windows its lock lies in it
                lost.append(stage)

    link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=Tap(deed).platform)
    assert len(lost) == 5
    assert sorted(os.listdir(scene.target)) == ["a", "b", "d", "z"]


def test_a_target_in_which_no_stage_survives_is_an_error(ground: str) -> None:
    scene = Scene(ground, ONE_BY_ONE, {})

    def deed(number: int, name: str) -> None:
        for stage in [name for name in os.listdir(scene.target) if name.startswith(STAGE)]:
            if name == "flock":
                os.rmdir(f"{scene.target}/{stage}")

    with pytest.raises(LinkError):
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=Tap(deed).platform)
    assert not scene.untouched()


def test_the_lock_of_a_stage_dies_with_its_process(ground: str) -> None:
    scene = Scene(ground, ONE_BY_ONE, {})

    def link_and_die() -> None:
        def deed(number: int, name: str) -> None:
            if name == "read":
                os._exit(9)

        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=Tap(deed).platform)

    assert in_child(link_and_die) == 9
    assert len([path for path in reserved(scene.target) if path.startswith(STAGE)]) == 1
    link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    assert not reserved(scene.target)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_filesystem_without_locks_is_linked_to_all_the_same(ground: str, number: int) -> None:
    scene = Scene(ground, ONE_BY_ONE, {})

    def deed(count: int, name: str) -> None:
        if name == "flock":
            raise injected(number)

    report = link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=Tap(deed).platform)
    assert not report.leftovers
    assert not reserved(scene.target)


# Directories that are read-only.


def test_a_read_only_directory_is_written_to_and_is_read_only_again(scene: str, user: str) -> None:
    tree: Tree = {"ro/f": File(b"new"), "ro/new/g": File(b"g"), "ro/new": Directory(0o500)}
    stage = Scene(scene, tree, {"ro": Directory(0o555), "ro/f": File(b"old")})
    report = link_tree(stage.source, stage.target, mode=LinkMode.COPY)
    assert not report.leftovers
    assert trees.has_mode(f"{stage.target}/ro", 0o555)
    assert trees.has_mode(f"{stage.target}/ro/new", 0o500)
    assert read(f"{stage.target}/ro/f") == b"new"


def test_permission_bits_that_could_not_be_given_back_are_listed_and_given_by_the_next_run(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkdir(f"{ground}/scene", 0o777)
    os.chmod(f"{ground}/scene", 0o777)
    emptied: list[object] = []  # by two processes, but not with what is noted there
    monkeypatch.setattr(helping, "empty_together", lambda *given: emptied.append(given))
    monkeypatch.setattr(engine._Run, "_processes", lambda _: 2)
    with users.ordinary_user():
        stage = Scene(f"{ground}/scene", {"ro/f": File(b"f")}, {"ro": Directory(0o555)})
        opened = 0

        def deed(number: int, name: str) -> None:
            nonlocal opened
            if name == "chmod":
                opened += 1
                if opened > 1:
                    raise injected(errno.EIO)

        report = link_tree(
            stage.source, stage.target, mode=LinkMode.COPY, platform=Tap(deed).platform
        )
        assert not emptied
        assert report.leftovers[0] == "ro"
        assert set(report.leftovers[1:]) == set(reserved(stage.target)[:1])
        assert trees.has_mode(f"{stage.target}/ro", 0o755)
        link_tree(stage.source, stage.target, mode=LinkMode.COPY)
        assert len(emptied) == 1
        assert trees.has_mode(f"{stage.target}/ro", 0o555)
        assert not reserved(stage.target)


def test_a_read_only_target_of_its_owner_is_written_to(scene: str, user: str) -> None:
    stage = Scene(scene, {"f": File(b"f"), "ln": Symlink("f")}, {"": Directory(0o555)})
    link_tree(stage.source, stage.target, mode=LinkMode.COPY)
    assert trees.has_mode(stage.target, 0o555)
    assert sorted(os.listdir(stage.target)) == ["f", "ln"]
    assert not stage.beside()


@pytest.mark.parametrize("there", [True, False], ids=["there", "with its directory"])
def test_a_stage_whose_lock_is_let_go_of_meanwhile_is_removed_as_well(
    scene: str, *, there: bool
) -> None:
    """As of a run that was killed just before: its helper holds the lock until it is gone."""
    stage = Scene(scene, {"d/f": File(b"f"), "h": File(b"h")}, {"d/g": File(b"g")})
    platform = current()
    root = platform.open_root(f"{stage.target}/d")
    left = open_stage(platform, root, lambda _: False)

    def going(done: int, total: int) -> None:
        if done == total:
            left.close()
            if not there:
                trees.remove(f"{stage.target}/d")

    report = link_tree(stage.source, stage.target, mode=LinkMode.COPY, progress=going)
    platform.close(root)
    assert report.leftovers == ()
    assert sorted(os.listdir(stage.target)) == (["d", "h"] if there else ["h"])
    if there:
        assert sorted(os.listdir(f"{stage.target}/d")) == ["f", "g"]
