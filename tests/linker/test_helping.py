"""A second process makes part of a large new directory, and nobody can tell from the result.

How much a helper does is decided here, not by the scheduler: its parent waits until it has taken
as many tickets as the test allows, or has come to grief in the way the test has chosen.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import mmap
import os
import resource
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linker import LinkError, LinkMode, LinkReport, cli, helping, link_tree
from linker.choices import Choices
from linker.conditions import Primitive
from linker.journal import RESERVED, SAVED, STAGE
from linker.platforms.base import Failed
from linker.platforms.linux import CALLS, Calls, LinuxPlatform
from linker.policies import REFERENCE
from linker.policy import Memory
from linker.store import Store
from linker.tree import LEAST, Node
from pytest_linkmode.faults.inprocess import injected
from pytest_linkmode.layouts import TestFilesystem
from tests.linker import trees
from tests.linker.attributes import NOCOW, set_flag
from tests.linker.crews import ALL, Crew
from tests.linker.seams import Tap, descriptors, die, in_child
from tests.linker.trees import Directory, File, Symlink, Tree
from tests.profiles import PROFILE


def package(name: str) -> dict[str, Any]:
    """Return one part of the tree: every kind of entry that can be."""
    return {
        f"{name}/__init__.py": File(),
        f"{name}/module.py": File(trees.noise(9_000, len(name)), 0o640),
        f"{name}/tool": File(b"#!/bin/sh\n", 0o755),
        f"{name}/secret": File(b"s", 0o400),
        f"{name}/link": Symlink("module.py"),
        f"{name}/dangling": Symlink("nowhere"),
        f"{name}/void": Directory(0o700),
        f"{name}/shut": Directory(0o555),
        f"{name}/shut/deep/er/data": File(trees.noise(70_000, 3)),
        f"{name}/shut/deep": Directory(0o500),
    }


TREE: Tree = {
    "": Directory(0o750),
    **{
        path: entry
        for number in range(12)
        for path, entry in package(f"p{number % 3}/package{number}").items()
    },
    **{f"flat/{number}": File(b"%d" % number) for number in range(40)},
    "p1": Directory(0o555),
}


def same(one: LinkReport, other: LinkReport) -> None:
    """Assert that two reports tell the same."""
    for name in ("requested", "counts", "directories", "symlinks", "replaced", "leftovers"):
        assert getattr(one, name) == getattr(other, name), name

    def told(report: LinkReport) -> list[tuple[str, str, str]]:
        return sorted((each.edge.id, each.path, each.scope.value) for each in report.transitions)

    assert told(one) == told(other)


def compare(root: str, mode: LinkMode, there: Sequence[str] = ()) -> None:
    """Link alone and with a helper; assert that both come to the same, directories' times too, but
    for those that were `there`.
    """
    alone = link_tree(f"{root}/source", f"{root}/alone", mode=mode)
    helped = link_tree(f"{root}/source", f"{root}/helped", mode=mode, processes=2)
    same(alone, helped)

    def seen(path: str) -> dict[str, object]:
        skipped = mode is LinkMode.SYMLINK  # a symlink that stands for a file is made now
        return {
            name: (
                each.kind,
                each.mode,
                each.inode if mode is LinkMode.HARDLINK and each.kind == "file" else 0,
                0 if name in there or (skipped and each.kind == "symlink") else each.mtime_ns,
                each.content,
            )
            for name, each in trees.snapshot(path).items()
        }

    assert seen(f"{root}/alone") == seen(f"{root}/helped")
    assert sorted(os.listdir(root)) == ["alone", "helped", "source"]


@pytest.mark.linkmode(fs=["btrfs", "xfs", "tmpfs"])
@pytest.mark.parametrize("tickets", [0, 1, 7, ALL])
@pytest.mark.parametrize("mode", LinkMode)
def test_whoever_makes_it_the_tree_is_the_same(
    linkmode_fs: TestFilesystem, crew: Crew, mode: LinkMode, tickets: int
) -> None:
    root, crew.tickets = str(linkmode_fs.path), tickets
    trees.build(f"{root}/source", TREE)
    before = descriptors()
    compare(root, mode)
    assert descriptors() == before
    assert len(crew.pids) == 1
    assert crew.vouched == tickets if tickets < ALL else crew.vouched > 20


def test_into_a_target_that_exists_each_large_directory_is_shared(ground: str, crew: Crew) -> None:
    tree = {
        f"{top}/{path}": entry for top in ("one", "two") for path, entry in TREE.items() if path
    }
    trees.build(f"{ground}/source", {**tree, "small/f": File(b"f")})
    for name in ("alone", "helped"):
        trees.build(f"{ground}/{name}", {"small/g": File(b"g"), "one.py": File()})
    compare(ground, LinkMode.COPY, there=["", "small"])
    assert len(crew.pids) == 2
    assert crew.vouched


def test_mutable_files_are_copied_by_a_helper_too(ground: str, crew: Crew) -> None:
    trees.build(f"{ground}/source", TREE)
    report = link_tree(
        f"{ground}/source",
        f"{ground}/target",
        mode=LinkMode.HARDLINK,
        mutable=["*.py"],
        processes=2,
    )
    assert report.counts == {LinkMode.HARDLINK: 12 * 3 + 40, LinkMode.COPY: 24}
    assert crew.vouched
    for name in ("module.py", "tool"):
        ours, theirs = (f"{ground}/{top}/p0/package0/{name}" for top in ("source", "target"))
        assert os.path.samefile(ours, theirs) is (name == "tool")


def test_what_has_worked_for_a_helper_has_worked(
    ground: str, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked: list[set[LinkMode]] = []
    settle = Choices.settle

    def settling(choices: Choices) -> None:
        worked.append(set().union(*(pair.worked for pair in choices._pairs.values())))
        settle(choices)

    monkeypatch.setattr(Choices, "settle", settling)
    trees.build(f"{ground}/source", TREE)
    for mutable in ([], ["p2/package11/tool"]):
        target = f"{ground}/target{len(mutable)}"
        link_tree(f"{ground}/source", target, mode=LinkMode.HARDLINK, mutable=mutable, processes=2)
    assert crew.vouched
    assert worked == [{LinkMode.HARDLINK}, {LinkMode.HARDLINK, LinkMode.COPY}]


def test_three_helpers_are_as_good_as_one(ground: str, crew: Crew) -> None:
    crew.patient = False
    trees.build(f"{ground}/source", TREE)
    alone = link_tree(f"{ground}/source", f"{ground}/alone", mode=LinkMode.COPY)
    helped = link_tree(f"{ground}/source", f"{ground}/helped", mode=LinkMode.COPY, processes=4)
    same(alone, helped)
    assert len(crew.pids) == 3
    one, other = (trees.content(trees.snapshot(f"{ground}/{name}")) for name in ("alone", "helped"))
    assert one == other


def test_progress_counts_every_file_once(ground: str, crew: Crew) -> None:
    trees.build(f"{ground}/source", TREE)
    told: list[tuple[int, int]] = []
    link_tree(
        f"{ground}/source",
        f"{ground}/target",
        mode=LinkMode.COPY,
        processes=2,
        progress=lambda done, total: told.append((done, total)),
    )
    assert crew.vouched
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (100, 100)


# What comes to grief in a helper is done by its parent.


def out_of_memory(_: int) -> None:
    raise MemoryError


def out_of_descriptors(_: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def a_refused_call(_: int) -> None:
    def refuse(*_: Any, **__: Any) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for name in ("write", "link", "symlink"):
        setattr(Calls, name, refuse)


def an_interrupt(_: int) -> None:
    raise KeyboardInterrupt


GRIEFS: dict[str, Callable[[int], object]] = {
    "killed": lambda _: die(),
    "out of memory": out_of_memory,
    "out of descriptors": out_of_descriptors,
    "a call refused": a_refused_call,
    "interrupted": an_interrupt,
}


@pytest.mark.parametrize("at", [1, 9, 40])
@pytest.mark.parametrize("grief", GRIEFS)
def test_a_helper_that_comes_to_grief_is_made_up_for(
    ground: str, crew: Crew, grief: str, at: int
) -> None:
    def deed(number: int) -> None:
        if number == at:
            GRIEFS[grief](number)

    crew.deed = deed
    trees.build(f"{ground}/source", TREE)
    for mode in (LinkMode.COPY, LinkMode.HARDLINK):
        compare(ground, mode)
        for name in ("alone", "helped"):
            trees.remove(f"{ground}/{name}")
    assert len(crew.pids) == 2
    assert bool(crew.vouched) == (at > 1)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
def test_where_no_process_can_be_had_one_does_it_all(
    ground: str, crew: Crew, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fork() -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fork", fork)
    trees.build(f"{ground}/source", TREE)
    before = descriptors()
    compare(ground, LinkMode.COPY)
    assert descriptors() == before
    assert not crew.pids


@pytest.mark.parametrize("name", ["pidfd_open", "waitid"])
def test_where_no_descriptor_of_a_process_can_be_had_one_does_it_all(
    ground: str, crew: Crew, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The one call is Linux 5.3, with it for the other 5.4; and descriptors may run out."""
    forked: list[int] = []
    fork = os.fork

    def forking() -> int:
        pid = fork()
        forked.append(pid)
        return pid

    def refuse(*_: Any) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fork", forking)
    monkeypatch.setattr(os, name, refuse)
    trees.build(f"{ground}/source", TREE)
    before = descriptors()
    compare(ground, LinkMode.COPY)
    assert descriptors() == before
    assert not crew.pids
    (helper,) = forked
    with pytest.raises(ProcessLookupError):
        os.kill(helper, 0)


def test_a_helper_that_was_waited_for_is_not_ended_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An interrupt comes right then; its number may be another process's when helpers are ended."""
    waitid, before = os.waitid, descriptors()
    desk = helping.Desk(LinuxPlatform(), [1])
    try:
        assert desk.hire(lambda ticket, notes: None)

        def waited_for(kind: int, helper: int, options: int) -> None:
            waitid(kind, helper, options)
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "waitid", waited_for)
        with pytest.raises(KeyboardInterrupt):
            desk.wait()
    finally:
        monkeypatch.setattr(os, "waitid", waitid)
        monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a number is no process"))
        desk.close()
        monkeypatch.undo()
    assert descriptors() == before
    assert desk.is_done(0)


@pytest.mark.parametrize(("module", "name"), [(os, "pipe"), (mmap, "mmap")])
def test_where_no_pipe_or_memory_can_be_had_one_does_it_all(
    ground: str, crew: Crew, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(module, name, refuse)
    trees.build(f"{ground}/source", TREE)
    compare(ground, LinkMode.COPY)
    assert not crew.pids


@pytest.mark.linkmode(fs=["btrfs"])
def test_one_file_that_cannot_be_cloned_is_copied_by_the_parent_and_told(
    linkmode_fs: TestFilesystem, crew: Crew
) -> None:
    root = str(linkmode_fs.path)
    trees.build(f"{root}/source", {**TREE, "p2/nocow": Directory()})
    set_flag(f"{root}/source/p2/nocow", NOCOW)
    with open(f"{root}/source/p2/nocow/data", "wb") as writing:
        writing.write(trees.noise(20_000))
    compare(root, LinkMode.CLONE)
    report = link_tree(f"{root}/source", f"{root}/more", processes=2)
    assert [each.path for each in report.transitions] == ["p2/nocow/data"]
    assert report.counts[LinkMode.COPY] == 1
    assert crew.vouched


@pytest.mark.linkmode(fs=["tmpfs"])
def test_where_nothing_can_be_cloned_the_evidence_is_all_the_parents(
    linkmode_fs: TestFilesystem, crew: Crew
) -> None:
    root = str(linkmode_fs.path)
    trees.build(f"{root}/source", TREE)
    compare(root, LinkMode.CLONE)
    report = link_tree(f"{root}/source", f"{root}/more", mode=LinkMode.CLONE, processes=2)
    assert [each.scope.value for each in report.transitions] == ["pair"]
    assert report.counts == {LinkMode.COPY: 100}
    assert crew.vouched  # it copied, after its parent had seen that copies work


# A failure after, or while, a helper is at work.


@pytest.mark.linkmode(fs=["btrfs", "xfs", "tmpfs"])
@pytest.mark.parametrize("mode", LinkMode)
def test_what_a_helper_made_is_undone_like_everything_else(
    linkmode_fs: TestFilesystem, crew: Crew, mode: LinkMode
) -> None:
    root, crew.tickets = str(linkmode_fs.path), 9
    tree = {f"big/{path}" if path else "big": entry for path, entry in TREE.items()}
    trees.build(f"{root}/source", {**tree, "later/f": File(b"f")})
    trees.build(f"{root}/target", {"later/f": File(b"old"), "big.py": File(b"kept")})
    before = trees.lasting(trees.snapshot(f"{root}/target"))
    theirs = f"{root}/target/big/p0/package0/theirs"

    def progress(done: int, total: int) -> None:
        if done == total:
            assert os.path.exists(f"{root}/target/big/flat/0")
            with open(theirs, "wb") as writing:
                writing.write(b"theirs")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        link_tree(f"{root}/source", f"{root}/target", mode=mode, processes=2, progress=progress)
    assert crew.vouched == 9
    with open(theirs, "rb") as reading:
        assert reading.read() == b"theirs"
    after = trees.lasting(trees.snapshot(f"{root}/target"))
    above = {"big", "big/p0", "big/p0/package0", "big/p0/package0/theirs"}
    assert {path: seen for path, seen in after.items() if path not in above} == before


MANY: Tree = {f"big/d{number // 50}/{number}": File(b"%d" % number) for number in range(600)}


FORGETS = dataclasses.replace(REFERENCE, name="forgets", memory=Memory.TREE)
"""A policy by which a mode may be given up that has worked before."""


class Forks(LinuxPlatform):
    """A platform whose helpers do what its calls do."""

    may_fork = True


@pytest.mark.parametrize("links", ["all", "some", "none"])
@pytest.mark.parametrize("merged", [False, True], ids=["into a new directory", "over others"])
def test_what_a_helper_has_hard_linked_may_be_another_linkers_too(
    ground: str, crew: Crew, links: str, *, merged: bool
) -> None:
    """Copies are ours and nobody else's: they are taken back."""
    source, target = f"{ground}/source", f"{ground}/target"
    trees.build(source, {**MANY, "zz/last": File(b"z")})
    there: Tree = {path: File(b"old") for path in MANY} if merged else {}
    trees.build(target, {"zz/there": File(), **there})
    parent, linked = os.getpid(), set[str]()
    crew.tickets = 3

    def fail() -> None:
        for name in os.listdir(target):
            if name.startswith(STAGE):
                with open(f"{target}/{name}/c", "wb"):
                    linked.update(path for path in MANY if os.stat(f"{source}/{path}").st_nlink > 1)
        raise injected(errno.EIO)

    def link(name: str, new: str, **where: Any) -> None:
        if name == "last":
            fail()
        if links == "some" and crew.pids and os.getpid() == parent:
            raise injected(errno.EXDEV)
        os.link(name, new, **where)

    def open_(name: str, *flags: Any, **where: Any) -> int:
        if name == "last":
            fail()
        return os.open(name, *flags, **where)

    platform = Forks(dataclasses.replace(CALLS, link=link, open=open_))
    with pytest.raises(LinkError) as caught:
        link_tree(
            source,
            target,
            mode=LinkMode.COPY if links == "none" else LinkMode.HARDLINK,
            mutable=["big/*7"],
            policy=FORGETS if links == "some" else REFERENCE,
            platform=platform,
            processes=2,
        )
    assert len(crew.pids) == 1
    most = {"all": len(MANY) - 60, "some": len(MANY) // 2, "none": 0}[links]
    assert most // 10 < len(linked) <= most if links == "some" else len(linked) == most
    assert {path for path in caught.value.left if not path.startswith(SAVED)} == linked
    for path in MANY:
        assert os.path.lexists(f"{target}/{path}") is (merged or path in linked), path
        if os.path.lexists(f"{target}/{path}"):
            ours = os.path.samefile(f"{source}/{path}", f"{target}/{path}")
            assert ours is (path in linked), path


@pytest.mark.parametrize("how", ["interrupted", "failed"])
def test_a_helper_at_work_ends_with_the_link(
    ground: str, crew: Crew, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    crew.patient, crew.deed = False, lambda _: time.sleep(20)
    trees.build(f"{ground}/source", TREE)
    copy = LinuxPlatform.copy_file

    def copy_file(*given: Any) -> int:
        if crew.pids:
            if how == "interrupted":
                raise KeyboardInterrupt
            raise Failed(Primitive.COPY, OSError(errno.EIO, os.strerror(errno.EIO)))
        return copy(*given)

    monkeypatch.setattr(LinuxPlatform, "copy_file", copy_file)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt if how == "interrupted" else LinkError):
        link_tree(f"{ground}/source", f"{ground}/target", mode=LinkMode.COPY, processes=2)
    assert time.monotonic() - began < 10
    assert crew.pids
    crew.check_gone()
    assert os.listdir(ground) == ["source"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_helper_is_ended_by_the_signals_that_the_program_handles(
    ground: str, crew: Crew, number: signal.Signals
) -> None:
    """And none of the program's handlers runs in it."""
    ran: list[int] = []
    before = signal.signal(number, lambda *_: ran.append(os.getpid()))
    try:
        crew.deed = lambda _: os.kill(os.getpid(), number)
        trees.build(f"{ground}/source", TREE)
        compare(ground, LinkMode.COPY)
        assert signal.getsignal(number) is not signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert len(crew.pids) == 1
    assert not crew.vouched
    assert not ran


def test_a_program_that_reaps_its_children_itself_is_no_trouble(ground: str, crew: Crew) -> None:
    crew.patient = False
    trees.build(f"{ground}/source", TREE)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        compare(ground, LinkMode.COPY)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert len(crew.pids) == 1


def lock_is_free(path: str) -> bool:
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


@pytest.mark.linkmode(fs=["btrfs", "xfs", "tmpfs"])
def test_a_helper_dies_with_its_parent_and_the_next_run_finds_what_is_left(
    linkmode_fs: TestFilesystem, crew: Crew
) -> None:
    root, crew.patient = str(linkmode_fs.path), False
    for name in ("source", "target"):
        os.mkdir(f"{root}/{name}")
    trees.build(f"{root}/source/big", TREE)
    reading, writing = os.pipe()

    def helping(number: int) -> None:
        if number == 5:
            os.write(writing, b"%d" % os.getpid())
            time.sleep(20)

    def link() -> None:
        def progress(done: int, total: int) -> None:
            if crew.pids:
                os.read(reading, 1)  # until the helper is in the middle of its work
                die()

        crew.deed = helping
        link_tree(
            f"{root}/source",
            f"{root}/target",
            mode=LinkMode.COPY,
            processes=2,
            progress=progress,
        )

    assert in_child(link) == -signal.SIGKILL
    os.close(writing)
    began = time.monotonic()
    os.read(reading, 1 << 10)  # ends when nobody is left who could write
    assert os.read(reading, 1) == b""
    assert time.monotonic() - began < 10
    os.close(reading)
    (left,) = os.listdir(f"{root}/target")
    assert left.startswith(RESERVED)
    assert lock_is_free(f"{root}/target/{left}")
    crew.deed = lambda _: None
    link_tree(f"{root}/source", f"{root}/target", mode=LinkMode.COPY, processes=2)
    wanted, found = (
        trees.content(trees.snapshot(f"{root}/{name}")) for name in ("source", "target")
    )
    assert {path: seen for path, seen in found.items() if path} == {
        path: seen for path, seen in wanted.items() if path
    }


def test_while_a_helper_lives_nobody_takes_the_stage_away(ground: str) -> None:
    """It holds the lock as well, should its parent be gone before it."""
    trees.build(f"{ground}/source", {"f": File(b"f")})
    os.makedirs(f"{ground}/target/{RESERVED}stage-00")
    handle = os.open(f"{ground}/target/{RESERVED}stage-00", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    ready, go = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(go)
        os.read(ready, 1)
        os._exit(0)
    os.close(ready)
    os.close(handle)  # as if its parent had died
    link_tree(f"{ground}/source", f"{ground}/target", mode=LinkMode.COPY)
    assert len(os.listdir(f"{ground}/target")) == 2
    os.close(go)
    os.waitpid(helper, 0)
    link_tree(f"{ground}/source", f"{ground}/target", mode=LinkMode.COPY)
    assert os.listdir(f"{ground}/target") == ["f"]


# Who forks, and who does not.


def forks(source: str, target: str, **options: Any) -> int:
    """Return how often a link forks, in a process that has one thread."""

    def link() -> None:
        count, fork = 0, os.fork

        def counting() -> int:
            nonlocal count
            pid = fork()
            count += pid > 0
            return pid

        os.fork = counting
        threads = options.pop("threads", 0)
        done = threading.Event()
        for _ in range(threads):
            threading.Thread(target=done.wait, daemon=True).start()
        link_tree(source, target, mode=LinkMode.COPY, **options)
        done.set()
        os._exit(100 + count)

    return in_child(link) - 100


LARGE: Tree = {f"d{number % 30}/{number}": File(b"x") for number in range(500)}


def test_only_a_large_tree_in_a_process_without_threads_is_shared(ground: str) -> None:
    trees.build(f"{ground}/large", LARGE)
    trees.build(f"{ground}/small", dict(list(LARGE.items())[:499]))

    def count(source: str, **options: Any) -> int:
        trees.remove(f"{ground}/target")
        return forks(f"{ground}/{source}", f"{ground}/target", **options)

    assert count("large", processes=2) == 1
    assert count("large") == 0, "the library forks only if it is told to"
    assert count("small", processes=2) == 0
    assert count("large", processes=2, threads=1) == 0
    assert count("large", processes=2, platform=Tap().platform) == 0
    assert count("large", processes=2, platform=LinuxPlatform(CALLS)) == 1
    trees.remove(f"{ground}/target")
    trees.build(
        f"{ground}/target", dict.fromkeys({path.split("/")[0] for path in LARGE}, Directory())
    )
    assert forks(f"{ground}/large", f"{ground}/target", processes=2) == 1, "a merge is shared too"
    assert forks(f"{ground}/small", f"{ground}/target", processes=2) == 0


def test_a_process_whose_threads_cannot_be_counted_forks_no_helper(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(path: str) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    assert in_child(lambda: os._exit(LinuxPlatform().may_fork)) == 1
    monkeypatch.setattr(os, "listdir", refuse)
    assert in_child(lambda: os._exit(LinuxPlatform().may_fork)) == 0


def test_a_store_is_linked_by_two_as_well(ground: str, crew: Crew) -> None:
    trees.build(f"{ground}/source", {f"a/{path}": File(b"%d" % n) for n, path in enumerate(LARGE)})
    store = Store(f"{ground}/store")
    manifest = store.add(f"{ground}/source")
    report = store.link(manifest, f"{ground}/target", mode=LinkMode.HARDLINK, processes=2)
    assert report.counts == {LinkMode.HARDLINK: 500}
    assert crew.vouched
    wanted, found = (
        {path: seen.content for path, seen in trees.snapshot(f"{ground}/{name}").items()}
        for name in ("source", "target")
    )
    assert wanted == found


@pytest.mark.parametrize("number", [0, -1])
def test_a_number_of_processes_that_is_none_is_refused(ground: str, number: int) -> None:
    os.mkdir(f"{ground}/source")
    with pytest.raises(LinkError, match="no number of processes"):
        link_tree(f"{ground}/source", f"{ground}/target", processes=number)


def test_the_command_takes_a_number_of_processes(
    ground: str, crew: Crew, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.build(f"{ground}/source", TREE)
    given = [f"{ground}/source", "--quiet", "--mode", "copy"]
    for number, helpers in (("1", 0), ("2", 1), ("3", 2)):
        crew.pids.clear()
        assert cli.main([*given, f"{ground}/{number}", "--processes", number]) == 0
        assert len(crew.pids) == helpers
    for processors, helpers in ((1, 0), (2, 1), (64, 1)):
        crew.pids.clear()
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=processors: set(range(n)))
        assert cli.main([*given, f"{ground}/of-{processors}"]) == 0
        assert len(crew.pids) == helpers
    for wrong in ("0", "-1", "two", "", "²"):
        with pytest.raises(SystemExit):
            cli.main([*given, f"{ground}/wrong", "--processes", wrong])
        assert "is no number of processes" in capsys.readouterr().err


# How the work is divided.

SHAPES: st.SearchStrategy[Any] = st.recursive(
    st.integers(0, 90).map(lambda files: (files, [])),
    lambda below: st.tuples(st.integers(0, 90), st.lists(below, max_size=6)),
    max_leaves=60,
)


def grow(shape: Any, parent: Node | None = None) -> Node:
    files, below = shape
    node = Node("n", parent)
    node.files = [str(number) for number in range(files // 2)]
    node.symlinks = [f"s{number}" for number in range(files - files // 2)]
    node.directories = [grow(each, node) for each in below]
    return node


def size(node: Node) -> int:
    return 1 + len(node.files) + len(node.symlinks) + sum(map(size, node.directories))


@settings(PROFILE)
@given(SHAPES)
def test_all_of_a_directory_is_on_one_ticket_or_another(shape: Any) -> None:
    top = grow(shape)
    division = helping.divide(top)
    if size(top) < LEAST:
        assert division is None
        return
    assert division is not None
    frame, tickets = division
    assert 1 <= len(tickets) <= 256, "a ticket is one byte"
    filled = [node for ticket in tickets for piece in ticket for node in piece.nodes]
    assert len(filled) == len(set(filled))
    bare = {node for node in frame if not (node.files or node.symlinks)}
    assert set(filled) == set(nodes(top)) - bare
    assert sum(piece.size for ticket in tickets for piece in ticket) == size(top) - len(bare)
    made = {node for ticket in tickets for piece in ticket if piece.whole for node in piece.nodes}
    assert made.isdisjoint(frame)
    assert made | set(frame) == set(nodes(top))
    for place, node in enumerate(frame):
        assert node is top or node.parent in frame[:place]


def nodes(top: Node) -> Iterator[Node]:
    yield top
    for node in top.directories:
        yield from nodes(node)


def test_directories_of_two_filesystems_are_not_divided() -> None:
    top = grow((300, [(300, [])]))
    assert helping.divide(top) is not None
    top.directories[0].device = 7
    assert helping.divide(top) is None


def test_the_times_of_a_helpers_read_only_directories_are_the_sources(
    ground: str, crew: Crew
) -> None:
    trees.build(f"{ground}/source", TREE)
    link_tree(f"{ground}/source", f"{ground}/target", mode=LinkMode.COPY, processes=2)
    for path in ("p1", "p1/package1/shut", "p1/package1/shut/deep", "flat", "."):
        seen, wanted = (os.stat(f"{ground}/{name}/{path}") for name in ("target", "source"))
        assert stat.S_IMODE(seen.st_mode) == stat.S_IMODE(wanted.st_mode)
        assert seen.st_mtime_ns == wanted.st_mtime_ns == trees.PAST
