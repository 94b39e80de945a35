"""What callers of `link_tree` and `link_file` may count on, beside the rules."""

from __future__ import annotations

import dataclasses
import errno
import gc
import os
import pathlib
import stat
import subprocess
import sys
import threading
from typing import Any

import pytest

from linker import (
    Existing,
    LinkError,
    LinkMode,
    Transition,
    link_file,
    link_tree,
    observing,
)
from linker.conditions import Condition
from pytest_linkmode.faults.inprocess import injected
from tests.linker import trees
from tests.linker.scenes import Scene, Watcher
from tests.linker.seams import REFLINKING, RENAME_NOREPLACE, MachinePlatform, Tap, descriptors
from tests.linker.trees import PAST, Directory, File, Symlink, Tree

PACKAGE: Tree = {
    "pkg/__init__.py": File(),
    "pkg/a.py": File(b"a = 1\n"),
    "pkg/sub/b.py": File(b"b = 2\n"),
    "pkg/ln": Symlink("a.py"),
    "pkg-1.dist-info/RECORD": File(b"record"),
    "pkg-1.dist-info/METADATA": File(b"metadata"),
}


def read(path: str) -> bytes:
    with open(path, "rb") as reading:
        return reading.read()


def platform(**calls: Any) -> MachinePlatform:
    return MachinePlatform(dataclasses.replace(REFLINKING, **calls))


def test_who_pretends_another_system_before_anything_is_loaded_links_on_this_one(
    ground: str,
) -> None:
    scene = Scene(ground, {"a": File(b"a")})
    code = "import sys; sys.platform = sys.argv[1]; import linker; linker.link_tree(*sys.argv[2:])"
    for number, system in enumerate(("darwin", "linux", "win32")):
        target = f"{scene.target}{number}"
        subprocess.run([sys.executable, "-c", code, system, scene.source, target], check=True)
        assert os.listdir(target) == ["a"]


@pytest.mark.parametrize("system", ["darwin", "linux", "win32"])
def test_a_test_that_pretends_another_system_links_on_this_one(
    ground: str, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    scene = Scene(ground, {"a": File(b"a"), "b/c": File(b"c")})
    monkeypatch.setattr(sys, "platform", system)
    report = link_tree(scene.source, scene.target, mode=LinkMode.HARDLINK)
    monkeypatch.undo()
    assert report.counts == {LinkMode.HARDLINK: 2}


# Reports.


def test_a_report_counts_what_was_made(ground: str) -> None:
    scene = Scene(ground, PACKAGE, {"pkg/a.py": File(b"old"), "pkg/ln": Symlink("old")})
    report = link_tree(scene.source, scene.target, mode=LinkMode.HARDLINK)
    assert report.requested is LinkMode.HARDLINK
    assert report.counts == {LinkMode.HARDLINK: 5}
    assert (report.directories, report.symlinks, report.replaced) == (2, 1, 2)
    assert report.policy == "reference"
    assert not report.leftovers


def test_a_mode_is_a_word_as_well(ground: str) -> None:
    scene = Scene(ground, PACKAGE, None)
    report = link_tree(scene.source, scene.target, mode="reflink", platform=platform())
    assert report.requested is LinkMode.CLONE


def test_clone_is_what_is_done_by_default(ground: str) -> None:
    scene = Scene(ground, PACKAGE, None)
    assert link_tree(scene.source, scene.target).requested is LinkMode.CLONE


@pytest.mark.parametrize("kind", [str, os.fsencode, pathlib.Path])
def test_paths_are_whatever_names_a_file(ground: str, kind: Any) -> None:
    scene = Scene(ground, {"\udcff": File(b"f")}, None)
    link_tree(kind(scene.source), kind(scene.target), mode=LinkMode.COPY)
    link_file(kind(f"{scene.source}/\udcff"), kind(f"{ground}/one"), mode=LinkMode.COPY)
    assert read(f"{scene.target}/\udcff") == read(f"{ground}/one") == b"f"


def test_observers_are_told_of_edges_and_ends(ground: str) -> None:
    scene = Scene(ground, PACKAGE, {"pkg/a.py": File(b"old")})

    def ficlone(writing: int, reading: int) -> None:
        raise injected(errno.EXDEV)

    own, around = Watcher(), Watcher()
    with observing(around):
        report = link_tree(
            scene.source, scene.target, platform=platform(ficlone=ficlone), observer=own
        )
    link_tree(scene.source, f"{ground}/later", mode=LinkMode.COPY)
    assert own.reports == around.reports == [report]
    assert own.transitions == around.transitions
    assert {told.edge.condition for told in own.transitions} == {
        Condition.CROSS_DEVICE,
        Condition.EXISTS,
    }
    assert {told.proof for told in own.transitions} <= {"real", "injected"}


def test_progress_goes_from_nothing_to_all(ground: str) -> None:
    there: Tree = {"pkg": Directory(), "pkg/a.py": File(b"old")}
    for existing in (None, there):
        trees.remove(f"{ground}/scene")
        scene = Scene(f"{ground}/scene", PACKAGE, existing)
        seen: list[tuple[int, int]] = []
        link_tree(
            scene.source,
            scene.target,
            mode=LinkMode.COPY,
            progress=lambda done, total, seen=seen: seen.append((done, total)),  # type: ignore[misc]
        )
        assert seen == sorted(seen)
        assert {total for _, total in seen} == {5}
        assert seen[-1] == (5, 5)
        assert len(seen) >= 3, "once a directory"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, MemoryError])
@pytest.mark.parametrize("existing", [None, {"pkg": Directory(0o750)}], ids=["fresh", "existing"])
def test_whatever_interrupts_a_link_it_is_undone(
    ground: str, error: type[BaseException], existing: Tree | None
) -> None:
    scene = Scene(ground, PACKAGE, existing)
    held = descriptors()
    for patience in range(3):
        left = [patience]

        def progress(done: int, total: int, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise error

        with pytest.raises(error):
            link_tree(scene.source, scene.target, mode=LinkMode.COPY, progress=progress)
        assert not scene.untouched()
        assert descriptors() == held


def test_an_observer_that_raises_ends_the_link_cleanly(ground: str) -> None:
    class Angry(Watcher):
        def transition(self, transition: Transition) -> None:
            raise ZeroDivisionError

    def ficlone(writing: int, reading: int) -> None:
        raise injected(errno.EINVAL)

    scene = Scene(ground, {**PACKAGE, "pkg/0": Symlink("0")}, {"pkg/0": Symlink("old")})
    with pytest.raises(ZeroDivisionError):
        link_tree(scene.source, scene.target, platform=platform(ficlone=ficlone), observer=Angry())
    assert not scene.untouched()


def test_an_error_says_what_why_and_how_to_mend_it(ground: str) -> None:
    scene = Scene(ground, PACKAGE, {})

    def write(handle: int, data: Any) -> int:
        raise injected(errno.ENOSPC)

    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=platform(write=write))
    error = caught.value
    assert str(error).splitlines() == [
        "cannot copy pkg/a.py: No space left on device (ENOSPC)",
        "hint: free some space or inodes on the target's filesystem, or raise its quota",
    ]
    assert error.path == "pkg/a.py"
    assert isinstance(error.__cause__, OSError)
    assert error.__cause__.errno == errno.ENOSPC


def test_an_error_can_be_shown_whatever_the_name(ground: str) -> None:
    scene = Scene(ground, {"\udcff\n": File(b"f")}, {})

    def write(handle: int, data: Any) -> int:
        raise injected(errno.EIO)

    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=platform(write=write))
    str(caught.value).encode("utf-8")
    assert caught.value.path == "\udcff\n"


# The target and what is above it.


def test_directories_above_the_target_are_made(ground: str) -> None:
    scene = Scene(ground, PACKAGE, None)
    link_tree(scene.source, f"{ground}/a/b/c", mode=LinkMode.COPY)
    assert read(f"{ground}/a/b/c/pkg/a.py") == b"a = 1\n"
    assert sorted(os.listdir(f"{ground}/a/b")) == ["c"]


@pytest.mark.parametrize("call", ["mkdir", "read", "renameat2"])
def test_directories_above_the_target_are_removed_by_undo(ground: str, call: str) -> None:
    scene = Scene(ground, PACKAGE, None)

    def deed(number: int, name: str) -> None:
        if name == call:
            raise injected(errno.EIO)

    with pytest.raises(LinkError):
        link_tree(scene.source, f"{ground}/a/b/c", mode=LinkMode.COPY, platform=Tap(deed).platform)
    assert not scene.beside()


def test_directories_above_that_others_use_by_now_stay(ground: str) -> None:
    scene = Scene(ground, PACKAGE, None)

    def deed(number: int, name: str) -> None:
        if name == "read":
            trees.build(f"{ground}/a/theirs", {"f": File()})
            raise injected(errno.EIO)

    with pytest.raises(LinkError):
        link_tree(scene.source, f"{ground}/a/b/c", mode=LinkMode.COPY, platform=Tap(deed).platform)
    assert os.listdir(f"{ground}/a") == ["theirs"]


def test_a_new_target_has_the_mode_and_time_of_the_source(ground: str) -> None:
    scene = Scene(ground, {"": Directory(0o711, PAST - 3), "f": File()}, None)
    link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    seen = os.stat(scene.target)
    assert (stat.S_IMODE(seen.st_mode), seen.st_mtime_ns) == (0o711, PAST - 3)


def test_an_empty_source_makes_an_empty_target(ground: str) -> None:
    scene = Scene(ground, {}, None)
    report = link_tree(scene.source, scene.target)
    assert os.listdir(scene.target) == []
    assert (report.counts, report.directories) == ({}, 1)


# A target that others change meanwhile.


def test_a_target_that_its_maker_took_away_is_made_again(ground: str) -> None:
    """Another linker had made it, failed, and undone that: at any moment before ours is in it."""
    scene = Scene(ground, PACKAGE, {})
    again = 0
    trial = Tap()
    link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=trial.platform)
    for at in range(1, trial.count + 1):
        scene.rebuild()
        removed: list[bool] = []

        def deed(number: int, name: str, at: int = at, removed: list[bool] = removed) -> None:
            if number == at and not os.listdir(scene.target):
                os.rmdir(scene.target)
                removed.append(True)

        report = link_tree(
            scene.source, scene.target, mode=LinkMode.COPY, platform=Tap(deed).platform
        )
        again += len(removed)
        assert report.counts == {LinkMode.COPY: 5}
        assert read(f"{scene.target}/pkg/a.py") == b"a = 1\n"
        assert not scene.beside()
    assert again > 5


def test_a_directory_that_another_took_away_is_made_again(ground: str) -> None:
    """Whenever it happens to be empty: an undo of the one who made it."""
    scene = Scene(
        ground, {"d/e/f": File(b"f"), "d/g": File(b"g"), "h": File(b"h")}, {"d/e": Directory()}
    )
    for mode in LinkMode:
        trial = Tap()
        scene.rebuild()
        link_tree(scene.source, scene.target, mode=mode, platform=trial.platform)
        again = 0
        for at in range(1, trial.count + 1):
            scene.rebuild()
            removed: list[str] = []

            def deed(number: int, name: str, at: int = at, removed: list[str] = removed) -> None:
                if number >= at and not removed:
                    for path in ("d/e", "d"):
                        place = f"{scene.target}/{path}"
                        if os.path.isdir(place) and not os.listdir(place):
                            os.rmdir(place)
                            removed.append(path)

            report = link_tree(scene.source, scene.target, mode=mode, platform=Tap(deed).platform)
            again += len(removed)
            assert report.counts == {mode: 3}, f"at call {at}"
            assert read(f"{scene.target}/d/e/f") == b"f"
            assert read(f"{scene.target}/d/g") == b"g"
            assert sorted(os.listdir(scene.target)) == ["d", "h"]
        assert again > 10


def test_a_directory_that_vanishes_again_and_again_is_an_error(ground: str) -> None:
    scene = Scene(ground, {"d/f": File(b"f")}, {"d": Directory()})
    there, turns = f"{scene.target}/d", 0

    def deed(number: int, name: str) -> None:
        nonlocal turns
        if name == "renameat2" and not os.path.isdir(there):
            os.mkdir(there)
        elif name in ("read", "open") and os.path.isdir(there) and not os.listdir(there):
            os.rmdir(there)
            turns += 1

    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=Tap(deed).platform)
    assert 10 < turns < 1000
    assert caught.value.what == "d vanishes again and again"
    assert caught.value.why == "another program removes it while it is linked"
    assert caught.value.hint == "end that program, or link when it has ended"
    assert caught.value.path == "d"
    assert caught.value.condition is Condition.MISSING
    assert not [name for name in os.listdir(scene.target) if name.startswith(".linkmode-")]


def test_a_name_that_comes_and_goes_ends_in_time(ground: str) -> None:
    scene = Scene(ground, {"f": File(b"new")}, {})
    there, turns = f"{scene.target}/f", 0

    def renameat2(source: int, name: str, target: int, new: str, flags: int) -> None:
        nonlocal turns
        if new == "f":
            turns += 1
            raise injected(errno.EEXIST if flags == RENAME_NOREPLACE else errno.ENOENT)
        REFLINKING.renameat2(source, name, target, new, flags)

    def link(name: str, new: str, **where: Any) -> None:
        raise injected(errno.EEXIST)

    with pytest.raises(LinkError) as caught:
        link_tree(
            scene.source,
            scene.target,
            mode=LinkMode.COPY,
            platform=platform(renameat2=renameat2, link=link),
        )
    assert caught.value.what == "f changes again and again"
    assert caught.value.why == (
        "another program creates and removes it while it is linked, "
        "or the filesystem takes no such name"
    )
    assert caught.value.hint == (
        "end that program, or link when it has ended; or give it another name"
    )
    assert (caught.value.path, caught.value.condition) == ("f", Condition.BUSY)
    assert 10 < turns < 1000
    assert not os.path.lexists(there)


@pytest.mark.parametrize("mode", LinkMode)
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_appears_where_we_go_is_merged_or_replaced(
    ground: str, mode: LinkMode, kind: str
) -> None:
    """At any moment: the same end as if it had been there from the beginning."""
    scene = Scene(ground, {"n/x": File(b"x")} if kind == "directory" else {"n": File(b"x")}, {})
    trial = Tap()
    link_tree(scene.source, scene.target, mode=mode, platform=trial.platform)
    for at in range(1, trial.count + 1):
        scene.rebuild()

        def deed(number: int, name: str, at: int = at) -> None:
            place = f"{scene.target}/n"
            if number == at and not os.path.lexists(place):
                if kind == "directory":
                    trees.build(place, {"theirs": File(b"theirs")})
                else:
                    with open(place, "wb") as writing:
                        writing.write(b"theirs")

        report = link_tree(scene.source, scene.target, mode=mode, platform=Tap(deed).platform)
        assert report.counts == {mode: 1}, f"at call {at}"
        assert os.listdir(scene.target) == ["n"]
        if kind == "directory":
            assert read(f"{scene.target}/n/x") == b"x"
        else:
            assert read(f"{scene.target}/n") in (b"x", b"theirs")


@pytest.mark.parametrize("mode", LinkMode)
def test_a_conflict_that_appears_meanwhile_is_an_error_and_stays(
    ground: str, mode: LinkMode
) -> None:
    scene = Scene(ground, {"a": File(b"a"), "n": File(b"n")}, {})
    trial = Tap()
    link_tree(scene.source, scene.target, mode=mode, platform=trial.platform)
    refused = 0
    for at in range(1, trial.count + 1):
        scene.rebuild()

        def deed(number: int, name: str, at: int = at) -> None:
            if number == at and not os.path.lexists(f"{scene.target}/n"):
                trees.build(f"{scene.target}/n", {"theirs": File(b"theirs")})

        try:
            link_tree(scene.source, scene.target, mode=mode, platform=Tap(deed).platform)
        except LinkError:
            refused += 1
            assert os.listdir(scene.target) == ["n"], f"at call {at}"
            assert read(f"{scene.target}/n/theirs") == b"theirs"
    assert refused > 3


def test_a_parent_that_takes_no_more_directories_is_an_error(ground: str) -> None:
    """EMLINK of a directory is not the EMLINK of a hard link."""
    scene = Scene(ground, {"d/f": File(b"f"), "g": File(b"g")}, {})

    def renameat2(source: int, name: str, target: int, new: str, flags: int) -> None:
        if new == "d":
            raise injected(errno.EMLINK)
        REFLINKING.renameat2(source, name, target, new, flags)

    for mode in LinkMode:
        with pytest.raises(LinkError) as caught:
            link_tree(scene.source, scene.target, mode=mode, platform=platform(renameat2=renameat2))
        assert caught.value.condition is Condition.TOO_MANY_LINKS
        assert not scene.untouched()


# Mutable files.


@pytest.mark.parametrize(
    ("patterns", "copied"),
    [
        (["RECORD"], {"pkg-1.dist-info/RECORD"}),
        (["*.py"], {"pkg/__init__.py", "pkg/a.py", "pkg/sub/b.py"}),
        (["pkg/*.py"], {"pkg/__init__.py", "pkg/a.py", "pkg/sub/b.py"}),
        (["pkg/a.py", "nothing"], {"pkg/a.py"}),
        ("RECORD", {"pkg-1.dist-info/RECORD"}),
        (["[RM]*"], {"pkg-1.dist-info/RECORD", "pkg-1.dist-info/METADATA"}),
        (["record"], set()),
        ([], set()),
    ],
)
@pytest.mark.parametrize("existing", [None, {"pkg": Directory()}], ids=["fresh", "existing"])
def test_mutable_files_are_always_copies(
    ground: str, patterns: Any, copied: set[str], existing: Tree | None
) -> None:
    scene = Scene(ground, PACKAGE, existing)
    report = link_tree(scene.source, scene.target, mode=LinkMode.HARDLINK, mutable=patterns)
    own = {
        path
        for path, entry in PACKAGE.items()
        if isinstance(entry, File)
        and not os.path.samefile(f"{scene.source}/{path}", f"{scene.target}/{path}")
    }
    assert own == copied
    assert report.counts.get(LinkMode.COPY, 0) == len(copied)
    assert not report.transitions, "nobody fell back"


# One file.


@pytest.mark.parametrize("mode", LinkMode)
def test_one_file_is_linked_under_its_new_name(ground: str, mode: LinkMode) -> None:
    trees.build(f"{ground}/source", {"f": File(b"f", 0o751)})
    report = link_file(f"{ground}/source/f", f"{ground}/new/g", mode=mode, platform=platform())
    assert report.counts == {mode: 1}
    assert os.listdir(f"{ground}/new") == ["g"]
    seen = os.stat(f"{ground}/new/g")
    assert (read(f"{ground}/new/g"), stat.S_IMODE(seen.st_mode)) == (b"f", 0o751)
    assert seen.st_mtime_ns == PAST
    assert os.path.islink(f"{ground}/new/g") == (mode is LinkMode.SYMLINK)
    assert os.path.samefile(f"{ground}/new/g", f"{ground}/source/f") == mode.sharing


@pytest.mark.parametrize("mode", LinkMode)
@pytest.mark.parametrize("there", [File(b"old"), Symlink("kept")], ids=["file", "symlink"])
def test_one_file_replaces_the_name_and_not_what_it_leads_to(
    ground: str, mode: LinkMode, there: trees.Entry
) -> None:
    trees.build(f"{ground}/source", {"f": File(b"new")})
    trees.build(f"{ground}/target", {"f": there, "kept": File(b"kept")})
    with pytest.raises(LinkError):
        link_file(f"{ground}/source/f", f"{ground}/target/f", mode=mode, existing=Existing.FAIL)
    report = link_file(f"{ground}/source/f", f"{ground}/target/f", mode=mode, platform=platform())
    assert report.replaced == 1
    assert read(f"{ground}/target/f") == b"new"
    assert read(f"{ground}/target/kept") == b"kept"
    assert sorted(os.listdir(f"{ground}/target")) == ["f", "kept"]


def test_one_symlink_is_recreated(ground: str) -> None:
    trees.build(f"{ground}/source", {"ln": Symlink("../nowhere")})
    report = link_file(f"{ground}/source/ln", f"{ground}/ln", mode=LinkMode.COPY)
    assert os.readlink(f"{ground}/ln") == "../nowhere"
    assert (report.symlinks, report.counts) == (1, {})


@pytest.mark.parametrize("there", [None, File(b"old")], ids=["new", "there"])
@pytest.mark.parametrize("mode", LinkMode)
def test_one_file_is_undone_whatever_fails(
    ground: str, mode: LinkMode, there: trees.Entry | None
) -> None:
    trees.build(f"{ground}/source", {"f": File(b"new")})
    trees.build(f"{ground}/target", {"f": there} if there else {})
    before = trees.lasting(trees.snapshot(f"{ground}/target"))
    at, hit = 0, True
    while hit:
        at += 1
        hit = False

        def deed(number: int, name: str, at: int = at) -> None:
            nonlocal hit
            if number == at:
                hit = True
                raise injected(errno.EIO)

        try:
            link_file(
                f"{ground}/source/f", f"{ground}/target/f", mode=mode, platform=Tap(deed).platform
            )
        except LinkError:
            assert trees.lasting(trees.snapshot(f"{ground}/target")) == before, f"call {at}"
        else:
            assert read(f"{ground}/target/f") == b"new"
            trees.remove(f"{ground}/target")
            trees.build(f"{ground}/target", {"f": there} if there else {})
            before = trees.lasting(trees.snapshot(f"{ground}/target"))
    assert at > 20


def test_one_file_falls_back_as_a_tree_does(ground: str) -> None:
    trees.build(f"{ground}/source", {"f": File(b"f")})

    def ficlone(writing: int, reading: int) -> None:
        raise injected(errno.EOPNOTSUPP)

    report = link_file(f"{ground}/source/f", f"{ground}/g", platform=platform(ficlone=ficlone))
    assert report.counts == {LinkMode.COPY: 1}
    assert [told.edge.condition for told in report.transitions] == [Condition.UNSUPPORTED]
    with pytest.raises(LinkError):
        link_file(
            f"{ground}/source/f", f"{ground}/h", platform=platform(ficlone=ficlone), strict=True
        )
    assert not os.path.lexists(f"{ground}/h")


# Room for many.


def test_links_in_threads_do_not_disturb_each_other(ground: str) -> None:
    tree: Tree = {
        f"d{n}/f{m}": File(trees.noise(3000, n * 9 + m)) for n in range(5) for m in range(5)
    }
    trees.build(f"{ground}/source", tree)
    wanted = trees.content(trees.snapshot(f"{ground}/source"))
    errors: list[BaseException] = []

    def link(number: int) -> None:
        try:
            for _ in range(5):
                link_tree(f"{ground}/source", f"{ground}/target{number}", mode=LinkMode.COPY)
        except BaseException as error:  # noqa: BLE001  # told below
            errors.append(error)

    threads = [threading.Thread(target=link, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for number in range(4):
        assert trees.content(trees.snapshot(f"{ground}/target{number}")) == wanted


def test_a_deep_and_a_wide_tree_hold_few_descriptors(ground: str) -> None:
    deep = "/".join(["d"] * 200)
    tree: Tree = {f"{deep}/f": File(b"f"), **{f"w{n}/f": File(b"f") for n in range(200)}}
    scene = Scene(ground, tree, None)
    most = 0

    def deed(number: int, name: str) -> None:
        nonlocal most
        if not number % 50:
            most = max(most, descriptors())

    before = descriptors()
    link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=Tap(deed).platform)
    assert most - before < 160
    assert descriptors() == before
    assert read(f"{scene.target}/{deep}/f") == b"f"


def test_a_directory_that_is_moved_away_is_not_left_by_its_new_parent(ground: str) -> None:
    """Further down than handles are held, the way back up is "..": it must lead where we were."""
    chain = "/".join(["d"] * 120)
    top = "/".join(["d"] * 10)
    tree: Tree = {f"{chain}/f": File(b"f"), f"{top}/z/f": File(b"f")}
    scene = Scene(f"{ground}/scene", tree, {chain: Directory(), f"{top}/z": Directory()})
    trial = Tap()
    link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=trial.platform)
    refused = 0
    for at in range(1, trial.count, 23):
        scene.rebuild()
        trees.remove(f"{ground}/outside")
        trees.build(f"{ground}/outside", {"z": Directory(), "kept": File(b"kept")})

        def deed(number: int, name: str, at: int = at) -> None:
            if number == at:
                os.rename(f"{scene.target}/{top}/d", f"{ground}/outside/d")

        try:
            link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=Tap(deed).platform)
        except LinkError:
            refused += 1
        assert os.listdir(f"{ground}/outside/z") == [], f"moved at call {at}"
        assert sorted(os.listdir(f"{ground}/outside")) == ["d", "kept", "z"]
    assert refused


@pytest.mark.parametrize("how", ["linked", "failed"])
@pytest.mark.parametrize("before", ["on", "off"])
def test_the_collector_of_cycles_rests_meanwhile_and_is_then_as_before(
    ground: str, before: str, how: str
) -> None:
    scene = Scene(ground, PACKAGE, {})
    seen: list[bool] = []

    def progress(done: int, total: int) -> None:
        seen.append(gc.isenabled())
        if how == "failed":
            raise KeyboardInterrupt

    collecting = gc.isenabled()
    try:
        (gc.enable if before == "on" else gc.disable)()
        if how == "failed":
            with pytest.raises(KeyboardInterrupt):
                link_tree(scene.source, scene.target, mode=LinkMode.COPY, progress=progress)
        else:
            link_tree(scene.source, scene.target, mode=LinkMode.COPY, progress=progress)
        assert gc.isenabled() == (before == "on")
    finally:
        (gc.enable if collecting else gc.disable)()
    assert seen
    assert not any(seen)
