"""What is merged into a target is shared with helpers, and nobody can tell from the result.

A helper may be killed, refused a call, or find what was not there before, at every one of its
calls; and so may its parent while what the helper has placed is known to shared memory alone.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from linker import Existing, LinkError, LinkMode, helping, link_tree
from linker.conditions import Condition, Primitive
from linker.helping import Share, divide_shares
from linker.journal import RESERVED, SAVED
from linker.making import Maker
from linker.merging import Merger, _Gone
from linker.platforms.base import Failed
from linker.platforms.linux import LinuxPlatform
from linker.policies import UV
from linker.sharing import Team, share_of
from linker.tree import LEAST, Node
from pytest_linkmode.faults.inprocess import injected
from pytest_linkmode.layouts import TestFilesystem
from tests.linker import trees, users
from tests.linker.attributes import NOCOW, set_flag
from tests.linker.crews import ALL, SMALL, Crew
from tests.linker.scenes import Scene
from tests.linker.seams import Deed, MachinePlatform, Tap, descriptors, die, in_child
from tests.linker.trees import Directory, File, Symlink, Tree
from tests.linker.verdicts import Ends, everything

# A tree and what may be there already.


def package(name: str) -> Tree:
    return {
        f"{name}/__init__.py": File(),
        f"{name}/module.py": File(trees.noise(5_000, len(name)), 0o640),
        f"{name}/tool": File(b"#!/bin/sh\n", 0o755),
        f"{name}/secret": File(b"s", 0o400),
        f"{name}/link": Symlink("module.py"),
        f"{name}/void": Directory(0o700),
        f"{name}/deep/er/data": File(trees.noise(9_000, 3)),
        f"{name}/deep": Directory(0o500),
    }


SOURCE: Tree = {
    path: entry
    for number in range(14)
    for path, entry in package(f"p{number % 3}/package{number}").items()
}

BARE: Tree = {path.rpartition("/")[0]: Directory(0o755) for path in SOURCE} | {
    "mine": File(b"mine"),
    "p1/mine": Symlink("nowhere"),
}
"""The directories and something else, nothing in the way."""

FULL: Tree = {
    **BARE,
    **{
        path: File(b"old " + path.encode(), 0o600)
        for path, entry in SOURCE.items()
        if isinstance(entry, File | Symlink)
    },
}
"""Everything there already, also a file where a symlink goes."""

HALF: Tree = {
    **BARE,
    **{
        path: entry if number % 4 else Symlink("elsewhere")
        for number, (path, entry) in enumerate(FULL.items())
        if number % 2 and isinstance(entry, File)
    },
}

TARGETS = {"bare": BARE, "half": HALF, "full": FULL}


def link(root: str, name: str, mode: LinkMode, processes: int, **options: Any) -> Any:
    return link_tree(f"{root}/source", f"{root}/{name}", mode=mode, processes=processes, **options)


def compare(root: str, mode: LinkMode, there: Tree, **options: Any) -> None:
    """Link alone and with a helper into the same; assert that both come to the same."""
    for name in ("alone", "helped"):
        trees.build(f"{root}/{name}", there)
    kept = trees.snapshot(f"{root}/helped")
    one, other = link(root, "alone", mode, 1, **options), link(root, "helped", mode, 2, **options)
    for name in ("requested", "counts", "directories", "symlinks", "replaced", "leftovers"):
        assert getattr(one, name) == getattr(other, name), name
    assert [t.edge.id for t in one.transitions] == [t.edge.id for t in other.transitions]
    found = {name: trees.snapshot(f"{root}/{name}") for name in ("alone", "helped")}
    alone, helped = (
        {
            path: (*seen[:2], seen[3] if mode is not LinkMode.SYMLINK else 0, seen[3])
            for path, seen in trees.content(each).items()
        }
        for each in found.values()
    )
    assert alone == helped
    for path, seen in found["helped"].items():
        if mode is LinkMode.HARDLINK and path in SOURCE and isinstance(SOURCE[path], File):
            assert os.path.samefile(f"{root}/source/{path}", f"{root}/helped/{path}")
        if seen.kind == "directory" and path in kept:
            assert seen.inode == kept[path].inode
    assert sorted(os.listdir(root)) == ["alone", "helped", "source"]


@pytest.mark.linkmode(fs=["btrfs", "xfs", "tmpfs"])
@pytest.mark.parametrize("tickets", [5, ALL])
@pytest.mark.parametrize("there", TARGETS)
@pytest.mark.parametrize("mode", LinkMode)
def test_whoever_merges_it_the_target_is_the_same(
    linkmode_fs: TestFilesystem, crew: Crew, mode: LinkMode, there: str, tickets: int
) -> None:
    root, crew.tickets = str(linkmode_fs.path), tickets
    trees.build(f"{root}/source", SOURCE)
    before = descriptors()
    compare(root, mode, TARGETS[there])
    assert descriptors() == before
    # Where nothing is in the way hard links take no longer than their helper would.
    helps = mode is not LinkMode.HARDLINK or there == "full"
    if linkmode_fs.name == "btrfs":  # where nothing is staged while names are swapped
        helps = mode.isolating and there == "bare"
    assert len(crew.pids) == helps


@pytest.mark.parametrize("there", TARGETS)
def test_helper_and_parent_at_work_together_come_to_the_same(
    ground: str, crew: Crew, there: str
) -> None:
    crew.patient = False
    trees.build(f"{ground}/source", SOURCE)
    for turn in range(8):
        crew.deed = (lambda _: time.sleep(0.001)) if turn % 2 else (lambda _: None)
        crew.tickets = ALL if turn else 1  # once at least most of it is the parent's
        compare(ground, LinkMode.COPY, TARGETS[there])
        for name in ("alone", "helped"):
            trees.remove(f"{ground}/{name}")
    assert len(crew.pids) == 8
    # What a helper staged lies in a room of its own; little is not worth a helper.
    assert bool(crew.emptiers) is (there == "full")


def test_a_program_that_reaps_its_children_by_itself_has_its_helpers_too(ground: str) -> None:
    """The helper is gone, and its number with it, before its parent ends what is left of them."""
    merged: Tree = {
        f"a{number:02}/{file}": File(b"n") for number in range(60) for file in range(10)
    }
    new: Tree = {f"z{number}/new/{file}": File(b"n") for number in range(30) for file in range(30)}
    there: Tree = {path.split("/")[0]: Directory() for path in (*merged, *new)}
    scene = Scene(ground, {**merged, **new}, there)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        report = link_tree(scene.source, scene.target, mode=LinkMode.COPY, processes=2)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert report.counts == {LinkMode.COPY: 1500}
    assert report.leftovers == ()


def test_mutable_files_and_progress_are_as_without_a_helper(ground: str, crew: Crew) -> None:
    trees.build(f"{ground}/source", SOURCE)
    told: list[int] = []
    compare(
        ground,
        LinkMode.SYMLINK,
        HALF,
        mutable=["*.py"],
        progress=lambda done, total: told.append(done),
    )
    alone, helped = told[: len(told) // 2], told[len(told) // 2 :]
    assert alone[-1] == helped[-1] == 70
    assert crew.pids


def test_new_directories_beside_merged_ones_are_made_as_ever(ground: str, crew: Crew) -> None:
    trees.build(f"{ground}/source", {**SOURCE, "p0/package0/new/f": File(b"f"), "more/g": File()})
    compare(ground, LinkMode.COPY, HALF)
    assert crew.pids


@pytest.mark.parametrize("there", TARGETS)
def test_what_a_helper_tells_of_a_directory_is_what_is_on_disk(
    ground: str, crew: Crew, there: str
) -> None:
    before = time.time_ns() - 10**9  # a filesystem's clock is a little behind
    scene = Scene(ground, SOURCE, TARGETS[there])
    link(ground, "target", LinkMode.COPY, 2, mutable=["module.py"])
    crew.check_vouched()
    for path, (record, done) in crew.collected.items():
        assert done is not None
        directory, share = f"{scene.target}/{path}", done.share
        seen = os.stat(directory)
        assert record.identity == (seen.st_dev, seen.st_ino)
        assert [change.name for change in record.changes] == list(share.direct)
        for change in record.changes:
            seen = os.stat(f"{directory}/{change.name}")
            assert change.inode == seen.st_ino
            assert before < change.made_ns <= seen.st_ctime_ns
        assert done.placed.modes.total() == len(share.direct)
        assert done.staged.modes.total() == len(share.staged)
        staged = (*share.staged, *share.node.symlinks)
        assert len(done.numbers) == len(staged)
        assert done.staged.symlinks == len(share.node.symlinks)
        if staged:
            assert before < done.made_ns <= time.time_ns()
            inodes = {name: os.lstat(f"{directory}/{name}").st_ino for name in staged}
            assert share.node.inodes == inodes


# What comes to grief.


@pytest.fixture
def everyone_forks(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> Crew:
    """Let also those links fork whose calls a test looks at."""
    monkeypatch.setattr(LinuxPlatform, "may_fork", property(lambda _: True))
    return crew


def sampled(count: int, most: int) -> Iterator[int]:
    """Yield numbers of calls from 1 to `count`, at most so many, evenly."""
    step = max(1, -(-count // most))
    yield from range(1, count + 1, step)


class Calls:
    """Counts the calls of a helper, and those of its parent from when it has one."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.helpers = self.parents = 0

    def deed(self, at: int, grief: Callable[[str], None], *, helper: bool) -> Deed:
        def deed(number: int, name: str) -> None:
            if self.crew.helping:
                self.helpers += 1
                if helper and self.helpers == at:
                    grief(name)
            elif self.crew.pids:
                self.parents += 1
                if not helper and self.parents == at:
                    grief(name)

        return deed


def count_calls(ends: Ends, crew: Crew) -> tuple[int, int]:
    """Return how many calls a helper makes, and its parent after it; leave the scene as it was."""
    reading, writing = os.pipe()
    calls = Calls(crew)

    def deed(number: int, name: str) -> None:
        calls.deed(0, lambda _: None, helper=True)(number, name)
        if crew.helping:
            os.write(writing, b".")

    os.set_blocking(writing, False)
    share(ends, deed)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        helpers = len(file.read())
    ends.scene.rebuild()
    crew.pids.clear()
    assert helpers
    return helpers, calls.parents


def share(ends: Ends, deed: Deed) -> Tap:
    tap = ends.tap(deed)
    link_tree(
        ends.scene.source, ends.scene.target, mode=ends.mode, platform=tap.platform, processes=2
    )
    return tap


def refused(number: int) -> Callable[[str], None]:
    def grief(name: str) -> None:
        raise injected(number)

    return grief


GRIEFS: dict[str, Callable[[str], None]] = {
    "killed": lambda _: die(),
    "an input error": refused(errno.EIO),
    "a full disk": refused(errno.ENOSPC),
    "a name that is taken": refused(errno.EEXIST),
}


@pytest.mark.parametrize("grief", GRIEFS)
@pytest.mark.parametrize("there", ["bare", "half"])
def test_a_helper_that_comes_to_grief_at_any_call_is_made_up_for(
    ground: str, everyone_forks: Crew, there: str, grief: str
) -> None:
    crew = everyone_forks
    ends = Ends(Scene(ground, SOURCE, TARGETS[there]), LinkMode.CLONE)
    helpers, _ = count_calls(ends, crew)
    for at in sampled(helpers, 15):
        share(ends, Calls(crew).deed(at, GRIEFS[grief], helper=True))
        assert not ends.mended(), f"at call {at} of the helper"
        ends.scene.rebuild()
        assert len(crew.pids) == 1
        crew.check_gone()
        crew.pids.clear()


@pytest.mark.parametrize("there", ["bare", "half"])
def test_a_call_of_a_helper_that_fails_after_it_had_its_effect_is_made_up_for(
    ground: str, everyone_forks: Crew, there: str
) -> None:
    crew = everyone_forks
    ends = Ends(Scene(ground, SOURCE, TARGETS[there]), LinkMode.CLONE)
    helpers, _ = count_calls(ends, crew)
    for at in sampled(helpers, 15):
        deed: Any = Calls(crew).deed(at, refused(errno.EIO), helper=True)
        deed.late = True
        share(ends, deed)
        now = everything(ends.scene)
        assert not any(RESERVED in path for path in now)
        assert not ends.mended(), f"at call {at} of the helper"
        ends.scene.rebuild()
        crew.pids.clear()


@pytest.mark.parametrize("tickets", [4, ALL])
@pytest.mark.parametrize("there", TARGETS)
def test_what_a_helper_placed_is_undone_wherever_its_parent_fails(
    ground: str, everyone_forks: Crew, there: str, tickets: int
) -> None:
    crew = everyone_forks
    crew.tickets = tickets
    ends = Ends(Scene(ground, SOURCE, TARGETS[there]), LinkMode.CLONE)
    _, parents = count_calls(ends, crew)
    failed = 0
    for at in sampled(parents, 15):
        error = None
        try:
            share(ends, Calls(crew).deed(at, refused(errno.EIO), helper=False))
        except LinkError as caught:
            error = caught
        if error is not None:
            failed += 1
            assert not error.left
            assert not ends.scene.untouched(), f"at call {at} of the parent"
        ends.scene.rebuild()
        crew.pids.clear()
    assert failed


@pytest.mark.parametrize("there", ["bare", "half"])
def test_what_a_helper_placed_is_undone_when_the_link_is_interrupted(
    ground: str, crew: Crew, there: str
) -> None:
    scene = Scene(ground, SOURCE, TARGETS[there])
    placed = 0
    for at in (1, 3, 9, 20):

        def progress(done: int, total: int, at: int = at) -> None:
            nonlocal placed
            if crew.pids:
                made = trees.snapshot(scene.target).keys() - scene.before.keys()
                placed = max(placed, len(made))
                if done >= at:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            link(ground, "target", LinkMode.COPY, 2, progress=progress)
        assert not scene.untouched()
        scene.rebuild()
    assert placed > 20, "the helper was in the target before its parent knew"


@pytest.mark.parametrize("where", ["ended", "collected"])
def test_an_interrupt_while_helpers_are_ended_or_asked_loses_none_of_their_names(
    ground: str, crew: Crew, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    scene, pressed = Scene(ground, SOURCE, BARE), 0

    def pressing(call: Callable[..., Any]) -> Callable[..., Any]:
        def press(*given: Any) -> Any:
            nonlocal pressed
            if given[0] == os.P_PID:  # the test's own
                return call(*given)
            pressed += 1
            found = call(*given)
            if pressed == 1:
                raise KeyboardInterrupt
            return found

        return press

    def progress(done: int, total: int) -> None:
        if crew.pids and where == "ended":
            monkeypatch.setattr(os, "waitid", pressing(os.waitid))
            raise ZeroDivisionError

    if where == "collected":
        monkeypatch.setattr(Team, "_noted", pressing(Team._noted))
    with pytest.raises(KeyboardInterrupt):
        link(ground, "target", LinkMode.COPY, 2, progress=progress)
    assert pressed > 1
    assert crew.pids
    assert not scene.untouched()


@pytest.mark.parametrize("by", ["its helper", "itself"])
@pytest.mark.parametrize("there", ["bare", "half"])
def test_after_a_kill_of_the_parent_names_are_whole_and_the_next_run_finishes(
    ground: str, everyone_forks: Crew, there: str, by: str
) -> None:
    crew, helper = everyone_forks, by == "its helper"
    ends = Ends(Scene(ground, SOURCE, TARGETS[there]), LinkMode.CLONE)
    count = count_calls(ends, crew)[0 if helper else 1]
    for at in sampled(count, 12):
        reading, writing = os.pipe()

        def grief(_: str) -> None:
            os.kill(os.getppid() if crew.helping else os.getpid(), signal.SIGKILL)
            time.sleep(20)  # until the kernel ends this as well

        def run(at: int = at) -> None:
            share(ends, Calls(crew).deed(at, grief, helper=helper))

        assert in_child(run) == -signal.SIGKILL
        os.close(writing)
        assert os.read(reading, 1) == b"", "ends when nobody is left who could write"
        os.close(reading)
        assert not ends.torn(), f"call {at}"
        assert not ends.mended(), f"call {at}"
        ends.scene.rebuild()


@pytest.mark.parametrize("there", ["half", "full"])
def test_what_a_helper_staged_and_no_rename_reaches_is_staged_once_more(
    ground: str, everyone_forks: Crew, there: str
) -> None:
    """As with a directory of the target that is a mount of the same filesystem."""
    ends = Ends(Scene(ground, SOURCE, TARGETS[there]), LinkMode.CLONE)
    renamed = 0

    def deed(number: int, name: str) -> None:
        nonlocal renamed
        if name == "renameat2" and everyone_forks.pids:
            renamed += 1
            if renamed == 1:
                raise injected(errno.EXDEV)

    tap = share(ends, deed)
    assert renamed > 10
    assert tap.names.count("flock") == 2, "a stage in that directory too"
    assert not ends.mended()


@users.ROOT_ONLY
def test_an_umask_that_forbids_everything_hinders_no_helper(ground: str, crew: Crew) -> None:
    with users.ordinary_user():
        os.mkdir(f"{ground}/ours")
        scene = Scene(f"{ground}/ours", SOURCE, HALF)
        before = os.umask(0o777)
        try:
            link(scene.root, "target", LinkMode.COPY, 2)
        finally:
            os.umask(before)
        found = trees.content(scene.now())
        for path, seen in trees.content(scene.wanted).items():
            if seen[0] != "directory":
                assert found[path] == seen
        assert not scene.beside()
    assert crew.pids
    crew.check_vouched()


# Others in the target.


def test_a_directory_that_comes_where_a_file_goes_is_refused_and_all_undone(
    ground: str, crew: Crew
) -> None:
    scene = Scene(ground, SOURCE, BARE)
    theirs = "p2/package2/tool"

    def deed(number: int) -> None:
        if number == 3:
            os.mkdir(f"{scene.target}/{theirs}")

    crew.deed = deed
    with pytest.raises(LinkError) as caught:
        link(ground, "target", LinkMode.COPY, 2)
    assert caught.value.condition is Condition.IS_DIRECTORY
    assert caught.value.path == theirs
    os.rmdir(f"{scene.target}/{theirs}")
    assert not scene.untouched()


def test_a_file_that_comes_first_is_replaced_and_given_back(ground: str, crew: Crew) -> None:
    scene = Scene(ground, SOURCE, BARE)
    theirs = f"{scene.target}/p2/package2/tool"

    def deed(number: int) -> None:
        if number == 3:
            with open(theirs, "wb") as writing:
                writing.write(b"theirs")

    def interrupt(done: int, total: int) -> None:
        if done == total:
            assert Path(theirs).read_bytes() == b"#!/bin/sh\n"
            raise KeyboardInterrupt

    crew.deed = deed
    with pytest.raises(KeyboardInterrupt):
        link(ground, "target", LinkMode.COPY, 2, progress=interrupt)
    assert Path(theirs).read_bytes() == b"theirs"
    os.unlink(theirs)
    assert not scene.untouched()
    report = link(ground, "target", LinkMode.COPY, 2)
    assert report.replaced == 1


@pytest.mark.parametrize("existing", [Existing.MERGE, Existing.FAIL])
def test_a_directory_that_vanishes_before_a_helper_comes_is_made_again(
    ground: str, crew: Crew, existing: Existing
) -> None:
    if existing is Existing.FAIL:
        tree: Tree = {"new": Directory()}
        trees.build(f"{ground}/source", SOURCE)
        trees.build(f"{ground}/target", tree)
        link(ground, "target", LinkMode.COPY, 2, existing=existing)
        assert not crew.pids, "where no name may be there nothing is merged"
        return
    scene = Scene(ground, SOURCE, BARE)

    def deed(number: int) -> None:
        if number == 2:
            trees.remove(f"{scene.target}/p1/package4")

    crew.deed = deed
    report = link(ground, "target", LinkMode.COPY, 2)
    assert crew.pids
    assert report.counts == {LinkMode.COPY: 70}
    found = trees.content(scene.now())
    for path, seen in trees.content(scene.wanted).items():
        if seen[0] != "directory":
            assert found[path] == seen
    assert not scene.beside()


@pytest.mark.parametrize("how", ["finishes", "fails", "is killed"])
def test_many_linkers_with_helpers_in_one_target_lose_nothing(
    ground: str, crew: Crew, how: str
) -> None:
    crew.patient = False
    scene = Scene(ground, SOURCE, HALF)

    def other(*, first: bool) -> int:
        def progress(done: int, total: int) -> None:
            if done > 40 and first and how == "fails":
                raise KeyboardInterrupt
            if done > 40 and first and how == "is killed":
                die()

        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                link(ground, "target", LinkMode.COPY, 2, progress=progress)
                status = 0
            finally:
                os._exit(status)
        return pid

    linkers = [other(first=number == 0) for number in range(4)]
    ended = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in linkers]
    ends = {"finishes": 0, "fails": 1, "is killed": -signal.SIGKILL}[how]
    assert ended == [ends, 0, 0, 0]
    found = trees.content(scene.now())
    for path, seen in trees.content(scene.wanted).items():
        if seen[0] != "directory":
            assert found[path] == seen, path
    link(ground, "target", LinkMode.COPY, 1)
    assert not any(RESERVED in path for path in everything(scene))


# What is not a helper's.


@pytest.mark.linkmode(fs=["btrfs"])
def test_a_file_that_cannot_be_cloned_half_way_is_copied_by_the_parent_and_told(
    linkmode_fs: TestFilesystem, crew: Crew
) -> None:
    root = str(linkmode_fs.path)
    trees.build(f"{root}/source", {**SOURCE, "p2/nocow": Directory()})
    set_flag(f"{root}/source/p2/nocow", NOCOW)
    with open(f"{root}/source/p2/nocow/data", "wb") as writing:
        writing.write(trees.noise(20_000))
    compare(root, LinkMode.CLONE, {**BARE, "p2/nocow": Directory()})
    assert crew.pids


@pytest.mark.linkmode(fs=["btrfs"])
def test_a_directory_whose_entries_inherit_something_is_its_parents(
    linkmode_fs: TestFilesystem, crew: Crew
) -> None:
    root = str(linkmode_fs.path)
    trees.build(f"{root}/source", SOURCE)
    trees.build(f"{root}/target", BARE)
    set_flag(f"{root}/target/p1/package4", NOCOW)
    report = link(root, "target", LinkMode.CLONE, 2)
    assert len(crew.pids) == 1
    assert [path for path, (_, done) in crew.collected.items() if done is None] == ["p1/package4"]
    assert report.counts == {LinkMode.CLONE: 66, LinkMode.COPY: 4}, "a pair of its own"
    assert sorted({t.path.rpartition("/")[0] for t in report.transitions}) == ["p1/package4"]


def test_policies_that_undo_nothing_fill_directories_alone(ground: str, crew: Crew) -> None:
    trees.build(f"{ground}/source", SOURCE)
    trees.build(f"{ground}/target", BARE)
    link(ground, "target", LinkMode.COPY, 2, policy=UV)
    assert not crew.pids


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
def test_where_no_helper_can_be_had_one_process_merges_it_all(
    ground: str, crew: Crew, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fork" if number == errno.EAGAIN else "pipe", refuse)
    trees.build(f"{ground}/source", SOURCE)
    before = descriptors()
    compare(ground, LinkMode.COPY, HALF)
    assert descriptors() == before
    assert not crew.pids


@pytest.mark.linkmode(fs=["btrfs", "xfs", "tmpfs"])
def test_on_btrfs_alone_who_makes_files_hinders_who_swaps_names(
    linkmode_fs: TestFilesystem,
) -> None:
    handle = os.open(linkmode_fs.path, os.O_RDONLY)
    try:
        assert LinuxPlatform().swaps_apart(handle) is (linkmode_fs.name != "btrfs")
    finally:
        os.close(handle)
    assert LinuxPlatform().swaps_apart(handle), "where it cannot be told"


# What was replaced is removed together.


class Removing(MachinePlatform):
    """Knows who removes files; a helper comes to grief at its n-th."""

    def __init__(self, crew: Crew, grief: Callable[[], None] = lambda: None, at: int = 0) -> None:
        super().__init__()
        self.crew, self.grief, self.at = crew, grief, at
        self.removed = {"helper": 0, "parent": 0}

    def remove_file(self, directory: int, name: str) -> None:
        who = "helper" if self.crew.helping else "parent"
        self.removed[who] += 1
        if who == "helper" and self.removed[who] == self.at:
            self.grief()
        super().remove_file(directory, name)


def resist() -> None:
    raise Failed(Primitive.UNLINK, injected(errno.EIO))


@pytest.mark.parametrize("tickets", [0, 1, ALL])
def test_a_large_directory_is_emptied_by_all(ground: str, crew: Crew, tickets: int) -> None:
    names = {f"{number}" for number in range(1000)}
    trees.build(f"{ground}/stage", {**{name: File(b"old") for name in names}, "d": Directory()})
    crew.tickets = tickets
    platform = Removing(crew)
    handle = os.open(f"{ground}/stage", os.O_RDONLY)
    try:
        helping.empty_together(platform, handle, 2)
    finally:
        os.close(handle)
    assert os.listdir(f"{ground}/stage") == ["d"]
    ours = {0: 1000, 1: 1000 - (1000 // helping._SHARES + 1), ALL: 0}
    assert platform.removed["parent"] == ours[tickets]


@pytest.mark.parametrize("grief", [die, resist])
def test_what_a_helper_does_not_remove_is_left_to_be_told(
    ground: str, crew: Crew, grief: Callable[[], None]
) -> None:
    names = {f"{number}" for number in range(1000)}
    trees.build(f"{ground}/stage", {name: File(b"old") for name in names})
    handle = os.open(f"{ground}/stage", os.O_RDONLY)
    try:
        helping.empty_together(Removing(crew, grief, at=30), handle, 2)
    finally:
        os.close(handle)
    per_ticket = 1000 // helping._SHARES + 1
    assert len(os.listdir(f"{ground}/stage")) == (per_ticket * 2 - 29 if grief is die else 1)


def test_a_small_directory_and_one_that_cannot_be_read_are_left_alone(
    ground: str, crew: Crew
) -> None:
    few = {f"{number}": File(b"old") for number in range(SMALL - 1)}
    trees.build(f"{ground}/stage", few)
    handle = os.open(f"{ground}/stage", os.O_RDONLY)
    try:
        helping.empty_together(Removing(crew), handle, 2)
    finally:
        os.close(handle)
    helping.empty_together(Removing(crew), handle, 2)  # it is shut
    assert len(os.listdir(f"{ground}/stage")) == SMALL - 1
    assert not crew.emptiers


@pytest.mark.parametrize("grief", [die, resist])
def test_a_link_that_replaces_much_leaves_no_stage_whatever_becomes_of_who_empties_it(
    ground: str, everyone_forks: Crew, grief: Callable[[], None]
) -> None:
    scene = Scene(ground, SOURCE, FULL)
    platform = Removing(everyone_forks, grief, at=5)
    report = link_tree(
        scene.source, scene.target, mode=LinkMode.HARDLINK, processes=2, platform=platform
    )
    assert report.leftovers == ()
    assert report.counts == {LinkMode.HARDLINK: 70}
    assert not [name for name in os.listdir(scene.target) if name.startswith(RESERVED)]
    assert not [name for name in os.listdir(ground) if name.startswith(RESERVED)]
    for path, entry in SOURCE.items():
        if isinstance(entry, File):
            assert os.path.samefile(f"{scene.source}/{path}", f"{scene.target}/{path}")
    assert platform.removed["parent"] > 0


class Stuck(MachinePlatform):
    """Swaps so many names, and none from then on."""

    def __init__(self, swaps: int) -> None:
        super().__init__()
        self.swaps = swaps

    def exchange(self, *given: Any) -> Any:
        self.swaps -= 1
        if self.swaps < 0:
            raise Failed(Primitive.EXCHANGE, injected(errno.EIO))
        return super().exchange(*given)


def test_a_stage_that_holds_what_could_not_be_given_back_is_not_emptied(
    ground: str, everyone_forks: Crew
) -> None:
    everyone_forks.tickets = 0  # all lies in the stage itself, not in rooms of helpers
    scene = Scene(ground, SOURCE, FULL)
    with pytest.raises(LinkError) as caught:
        link_tree(
            *(scene.source, scene.target),
            mode=LinkMode.HARDLINK,
            processes=2,
            platform=Stuck(swaps=66),
        )
    (saved,) = (path for path in caught.value.left if os.path.basename(path).startswith(SAVED))
    kept = {path.read_bytes() for path in Path(scene.target, saved).rglob("*") if path.is_file()}
    replaced = 0
    for path, entry in FULL.items():
        if isinstance(entry, File) and path in SOURCE:
            shown = Path(scene.target, path)
            if shown.is_symlink() or shown.read_bytes() != entry.content:
                replaced += 1
                assert path in caught.value.left
                assert entry.content in kept
    assert replaced == 66


# How it is divided.


def node(files: int, taken: int, symlinks: int = 0) -> Node:
    made = Node("n", None)
    made.files = [f"f{number}" for number in range(files)]
    made.symlinks = [f"s{number}" for number in range(symlinks)]
    made.taken = set(made.files[:taken])
    return made


@pytest.mark.parametrize(
    ("mode", "direct", "there", "placed", "staged"),
    [
        (LinkMode.CLONE, "directly", node(3, 0), 3, 0),
        (LinkMode.CLONE, "directly", node(3, 1, 2), 2, 1),
        (LinkMode.COPY, "directly", node(3, 3), 0, 3),
        (LinkMode.COPY, "never", node(3, 1), 0, 3),
        (LinkMode.SYMLINK, "directly", node(3, 1), 0, 3),
        (LinkMode.HARDLINK, "directly", node(3, 3), 0, 3),
        (LinkMode.HARDLINK, "directly", node(0, 0, 2), 0, 0),
        (LinkMode.HARDLINK, "directly", node(3, 2), None, None),
        (LinkMode.CLONE, "directly", node(0, 0), None, None),
    ],
)
def test_a_helper_places_what_is_free_and_stages_the_rest(
    mode: LinkMode, direct: str, there: Node, placed: int | None, staged: int | None
) -> None:
    share = share_of(there, mode, direct=direct == "directly", staging=True)
    found = (None, None) if share is None else (len(share.direct), len(share.staged))
    assert found == (placed, staged)
    if share is not None:
        assert {*share.direct, *share.staged} == set(there.files)
        assert there.taken.isdisjoint(share.direct)
        assert share.size == 1 + len(there.files) + len(there.symlinks)
    alone = share_of(there, mode, direct=direct == "directly", staging=False)
    assert alone == (None if share is None or share.staged else share)


def test_shares_are_dealt_in_their_order_on_few_tickets() -> None:
    assert divide_shares([]) == []
    shares = [Share(node(9, 0), node(9, 0).files, ()) for _ in range(LEAST // 10)]
    assert sum(share.size for share in shares) == LEAST
    assert divide_shares(shares[1:]) == []
    tickets = divide_shares(shares)
    assert [share for ticket in tickets for share in ticket] == shares
    assert [len(ticket) for ticket in tickets[:3]] == [1, 3, 2], "500 // 16 hold three of 10"
    many = divide_shares(shares * 40)
    sizes = [sum(share.size for share in ticket) for ticket in many]
    assert sizes[0] == 10, "the first shows what works"
    assert sizes[1] == 40 * LEAST // helping._EARLY // 10 * 10
    assert sizes[1:] == sorted(sizes[1:], reverse=True)
    assert sizes[-2] <= 40 * LEAST // helping._LATE, "nobody waits long for the last"
    assert len(many) <= 100


# What a team knows before anybody is hired.


@pytest.fixture
def idle() -> Iterator[Callable[..., Team]]:
    """Make teams for which nobody works yet; `means` is what their platform and stage can do."""
    made: list[Team] = []

    def team(tickets: Sequence[Sequence[Share]], **means: Any) -> Team:
        all_means: Any = SimpleNamespace(**means)
        pair: Any = SimpleNamespace(mode=LinkMode.COPY, worked=set())
        made.append(
            Team(all_means, all_means, pair, all_means, all_means, all_means, tickets, set())
        )
        return made[-1]

    yield team
    for each in made:
        each.close()


def small_share() -> Share:
    there = node(2, 0)
    return Share(there, there.files, ())


def test_a_directory_is_left_to_who_took_its_ticket(idle: Callable[..., Team]) -> None:
    shares = [small_share() for _ in range(6)]
    nodes = [share.node for share in shares]
    team = idle([shares[:1], shares[1:3], *([share] for share in shares[3:])])
    assert team.leaves(nodes[0]) is True
    assert team._desk.take() == 1, "as a helper does"
    assert team.leaves(nodes[3]) is True
    assert team.leaves(nodes[1]) is False
    assert team.leaves(nodes[2]) is False
    assert team._desk.take() == 3
    assert team.leaves(nodes[5]) is True
    assert team.leaves(nodes[4]) is False
    assert team._desk.take() is None
    assert team.leaves(node(1, 0)) is True, "on no ticket"


def test_what_helpers_are_at_is_merged_later_also_when_something_else_vanishes() -> None:
    """But for what lay in that: it is made again whole."""
    top = Node("", None)
    theirs, vanishing = Node("theirs", top), Node("vanishing", top)
    first, second = Node("first", vanishing), Node("second", vanishing)
    nodes = (top, theirs, vanishing, first, second)
    for node in nodes:
        node.present = True
    top.directories, vanishing.directories = [theirs, vanishing], [first, second]
    done: list[tuple[str, str]] = []

    class Scripted(Merger):
        def __init__(self) -> None:
            self._processes = 1
            self._team: Any = SimpleNamespace(leaves=lambda node: node not in (theirs, first))
            self._target: Any = SimpleNamespace(reset=lambda: None)

        def _merge(self, node: Node, done_by_helper: object = None) -> list[Node]:
            if node is second:
                raise _Gone(vanishing)
            done.append(("merged", node.name))
            return list(node.directories)

        def _place_again(self, node: Node) -> list[Node]:
            done.append(("placed again", node.name))
            return []

        def _is_ready(self, _node: Node, *, idle: bool) -> bool:
            return idle

        def _resume(self, task: Any, _pending: object) -> None:
            done.append(("resumed", task.node.name))

    Scripted()._run([(True, top)])
    assert done == [
        *(("merged", ""), ("merged", "vanishing")),
        *(("placed again", "vanishing"), ("resumed", "theirs")),
    ]


def test_what_lies_before_a_directory_is_taken_with_it_and_nothing_behind_it(
    idle: Callable[..., Team],
) -> None:
    shares = [small_share() for _ in range(5)]
    team = idle([[share] for share in shares])
    assert team.leaves(shares[2].node) is True
    assert team._desk.take() == 3
    assert [team.leaves(share.node) for share in shares[:2]] == [True, True]


def test_where_helpers_took_everything_nothing_is_left(idle: Callable[..., Team]) -> None:
    shares = [small_share() for _ in range(3)]
    team = idle([[share] for share in shares])
    assert [team._desk.take() for _ in shares] == [0, 1, 2]
    assert [team.leaves(share.node) for share in shares] == [False] * 3
    assert [team.is_ready(share.node) for share in shares] == [False] * 3
    team._desk._slots[team._desk._starts[1]] = 1
    assert [team.is_ready(share.node) for share in shares] == [False, True, False]
    team.wait()
    assert [team.is_ready(share.node) for share in shares] == [True] * 3


def test_what_a_helper_noted_is_taken_over_number_by_number(idle: Callable[..., Team]) -> None:
    other, there = small_share(), node(5, 2, symlinks=1)
    share = Share(there, ["f2", "f3", "f4"], ["f0", "f1"])
    maker: Any = SimpleNamespace(_is_mutable=None)
    team = idle([[other, share]], told=partial(Maker.told, maker))
    place = team._places[there]
    notes = [1, 11, 12, 2, 1, 13, 21, 31, 22, 32, 0, 0, 41, 42, 43]
    team._desk.notes(0)[place.start : place.end] = memoryview(array("Q", notes))
    record, done = team.collect(there)
    assert (record.node, record.identity) == (there, (11, 12))
    assert [tuple(change) for change in record.changes] == [
        ("f2", team.stage, "", 21, None, 31, True, ""),
        ("f3", team.stage, "", 22, None, 32, True, ""),
    ]
    assert done is not None
    assert (done.share, done.made_ns) == (share, 13)
    assert done.placed.modes == {LinkMode.COPY: 3}, "one of them is mutable"
    assert done.staged.modes == {LinkMode.COPY: 2}
    assert (done.placed.symlinks, done.staged.symlinks) == (0, 1)
    assert there.inodes == {"f0": 41, "f1": 42, "s0": 43}
    assert done.numbers == [f"t0/{number}" for number in range(place.end - 3, place.end)]
    assert team._pair.worked == {LinkMode.COPY}
    left = team.collect(other.node)
    assert (left[0].changes, left[1]) == ([], None), "nobody vouches for it"


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("stages", [True, False])
def test_a_helper_makes_itself_a_room_if_it_stages_something(
    idle: Callable[..., Team], monkeypatch: pytest.MonkeyPatch, *, stages: bool, writable: bool
) -> None:
    calls: list[tuple[Any, ...]] = []

    def make_directory(parent: int, name: str) -> int:
        calls.append(("make", parent, name))
        return 0  # a program may have closed its standard input

    there = node(2, int(stages))
    share = Share(there, there.files[stages:], there.files[:stages])
    team = idle(
        [[small_share()], [share]],
        handle=7,
        help=lambda: calls.append(("help",)),
        make_directory=make_directory,
        is_writable=lambda handle: handle == 0 and writable,
        facts=lambda handle: SimpleNamespace(mode=0o070 + handle),
        change_mode=lambda handle, mode: calls.append(("mode", handle, mode)),
        close=lambda handle: calls.append(("close", handle)),
    )
    monkeypatch.setattr(
        Team,
        "_do",
        lambda _, place, notes, room: calls.append((place.share, len(notes), room >= 0)),
    )
    team._help(1, team._desk.notes(1))
    opened = [] if writable else [("mode", 0, 0o770)]
    before, after = ([("make", 7, "t1"), *opened], [("close", 0)]) if stages else ([], [])
    length = 5 + share.size + len(share.direct)
    assert calls == [("help",), *before, (share, length, stages), *after]
