"""What others, or a disk, do while a tree is linked: the errors that follow are the kernel's own.

A linker looks first and acts later. Here something happens in between, timed by its own reports of
progress and of edges: a file comes or goes, a mount turns read-only, a server is pulled out. So
edges that no filesystem at rest can show are taken on a real one, with no call answered by us.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from linker import LinkMode
from pytest_linkmode import kernel
from pytest_linkmode.filesystems import attributes, loop, mounts
from pytest_linkmode.layouts import Layout, TestFilesystem
from pytest_linkmode.sessions import Session
from pytest_linkmode.stash import session_of
from tests.linker.taking import Change, Taken, assert_whole, link, need_loop, served, written

Filesystems = Callable[[str], TestFilesystem]
Layouts = Callable[[str], Layout]

XFS_IOC_GOINGDOWN = kernel.ior(ord("X"), 125, 4)
XFS_FSOP_GOING_FLAGS_NOLOGFLUSH = 2
MNT_FORCE = 1
"""umount(2): a FUSE filesystem that is in use stays mounted, and its server is gone for good."""

EDGE = {LinkMode.HARDLINK: "hardlink/hardlink", LinkMode.SYMLINK: "symlink/symlink"}
LINKS = tuple(EDGE)


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Session:
    return session_of(request.config)


@pytest.fixture
def mounting(session: Session) -> None:
    if not kernel.may_mount():
        pytest.skip(f"mounts nothing in a {session.place.kind} place")


class Scene:
    """A source, and a target that has its directories already: entries are placed one by one.

    Of the second directory there is always a file that comes to the target after it was looked at:
    by that the linker tells us that it is in the middle of it.
    """

    def __init__(self, base: pathlib.Path) -> None:
        self.source, self.target = base / "source", base / "target"
        for name in ("a/first", "b/met", "b/other", "b/zebra"):
            written(self.source / name, os.urandom(70_000))
        for name in ("a", "b"):
            (self.target / name).mkdir(parents=True)

    def broken(self, mode: LinkMode, change: Change) -> Taken:
        """Link in a mode whose calls meet, in the directory `b`, a world that `change` changed."""
        late, told = {
            LinkMode.HARDLINK: ("met", "*/hardlink/exists"),
            LinkMode.SYMLINK: ("zebra", "*/rename/exists"),  # one that is copied
        }[mode]

        def come() -> None:
            written(self.target / "b" / late, b"theirs")

        mutable = ["zebra"] if mode is LinkMode.SYMLINK else []
        taken = link(self.source, self.target, mode, mutable=mutable, after={1: come, told: change})
        assert taken.edges[told] == "real"
        return taken


@contextmanager
def own_tmpfs(session: Session) -> Iterator[pathlib.Path]:
    with mounts.mounted(
        session.place,
        "changing",
        lambda path: kernel.mount("changing", path, "tmpfs"),
        source="changing",
        fstype="tmpfs",
    ) as path:
        yield pathlib.Path(path)


# --- what others do ------------------------------------------------------------------------------


def test_a_file_that_another_placed_meanwhile_is_replaced(
    linkmode_fs_factory: Filesystems,
) -> None:
    scene = Scene(linkmode_fs_factory("tmpfs").path)
    assert scene.broken(LinkMode.HARDLINK, lambda: None).error is None
    assert_whole(scene.source, scene.target)


def test_a_file_of_the_source_that_is_gone_ends_linking(linkmode_fs_factory: Filesystems) -> None:
    scene = Scene(linkmode_fs_factory("tmpfs").path)
    taken = scene.broken(LinkMode.HARDLINK, (scene.source / "b" / "other").unlink)
    assert taken.edges["*/hardlink/missing"] == "real"  # is it the file, or the directory?
    assert taken.edges["hardlink/hardlink/missing"] == "real"
    assert taken.error is not None
    # Theirs stays: what came while we linked was put back.
    assert (scene.target / "b" / "met").read_bytes() == b"theirs"
    assert not (scene.target / "a" / "first").exists()


def test_a_stage_that_somebody_tidied_away_ends_linking(linkmode_fs_factory: Filesystems) -> None:
    scene = Scene(linkmode_fs_factory("tmpfs").path)

    def tidy() -> None:
        for path in scene.target.glob(".linkmode-*"):
            shutil.rmtree(path)

    taken = scene.broken(LinkMode.SYMLINK, tidy)
    assert taken.edges["symlink/symlink/missing"] == "real"
    assert taken.error is not None
    assert (scene.target / "b" / "zebra").read_bytes() == b"theirs"


def test_a_directory_that_is_gone_is_placed_again(linkmode_fs_factory: Filesystems) -> None:
    scene = Scene(linkmode_fs_factory("tmpfs").path)
    taken = scene.broken(LinkMode.SYMLINK, lambda: shutil.rmtree(scene.target / "b"))
    assert taken.edges["*/rename/missing"] == "real"
    assert taken.error is None
    assert_whole(scene.source, scene.target)


def test_a_file_that_is_gone_before_it_is_replaced_is_placed(
    linkmode_fs_factory: Filesystems,
) -> None:
    scene = Scene(linkmode_fs_factory("tmpfs").path)
    old = written(scene.target / "b" / "met", b"old")
    taken = link(scene.source, scene.target, LinkMode.COPY, after={"*/rename/exists": old.unlink})
    assert taken.edges["*/exchange/missing"] == "real"
    assert taken.error is None
    assert_whole(scene.source, scene.target)


def test_a_directory_that_was_made_immutable_ends_linking(
    linkmode_fs_factory: Filesystems, mounting: None
) -> None:
    scene = Scene(linkmode_fs_factory("btrfs").path)
    where = str(scene.target / "b")

    def freeze() -> None:
        attributes.change_flags(where, add=attributes.FS_IMMUTABLE_FL)

    try:
        taken = scene.broken(LinkMode.SYMLINK, freeze)
        assert os.listdir(where) == ["zebra"]
    finally:
        attributes.change_flags(where, remove=attributes.FS_IMMUTABLE_FL)
    assert taken.edges["*/rename/denied"] == "real"
    assert taken.error is not None
    assert not (scene.target / "a" / "first").exists()


def test_a_name_that_a_directory_has_no_room_for_is_copied(
    linkmode_layout_factory: Layouts,
) -> None:
    layout = linkmode_layout_factory("btrfs+too-many-links")
    for name in ("0/file", "special/file"):
        written(layout.source / name)
    (layout.target / "0").mkdir()
    layout.seal(region="special")
    late = layout.target / "special" / "file"

    def come() -> None:
        written(late, b"theirs")

    taken = link(
        layout.source,
        layout.target,
        LinkMode.HARDLINK,
        after={1: come, "*/hardlink/exists": late.unlink},
    )
    assert taken.edges["hardlink/rename/too-many-links"] == "real"
    assert taken.error is None
    assert late.stat().st_nlink == 1
    assert_whole(layout.source, layout.target)


# --- what becomes of a filesystem ----------------------------------------------------------------


@pytest.mark.parametrize("mode", LINKS)
def test_a_mount_that_turned_read_only_ends_linking(
    mode: LinkMode, session: Session, mounting: None, counted: None
) -> None:
    with own_tmpfs(session) as base:
        scene = Scene(base)

        def remount(flags: int) -> None:
            kernel.mount("changing", str(base), "tmpfs", kernel.MS_REMOUNT | flags)

        taken = scene.broken(mode, lambda: remount(kernel.MS_RDONLY))
        assert taken.edges[f"{EDGE[mode]}/read-only"] == "real"
        # Nothing could be undone, and nothing is hidden of that.
        assert taken.error is not None
        assert "a/first" in taken.error.left
        remount(0)
        assert_whole(scene.source / "a", scene.target / "a")


@pytest.mark.parametrize("mode", LINKS)
def test_a_disk_that_is_gone_ends_linking(mode: LinkMode, session: Session, counted: None) -> None:
    xfs = need_loop("xfs", session.settings)
    with loop.disk(xfs, session.place, session.settings) as (disk, _):
        scene = Scene(pathlib.Path(disk.path))

        def shut_down() -> None:  # what xfs does by itself when it cannot write its log
            descriptor = os.open(disk.path, os.O_RDONLY)
            try:
                how = struct.pack("I", XFS_FSOP_GOING_FLAGS_NOLOGFLUSH)
                fcntl.ioctl(descriptor, XFS_IOC_GOINGDOWN, how)
            finally:
                os.close(descriptor)

        taken = scene.broken(mode, shut_down)
    assert taken.edges[f"{EDGE[mode]}/io"] == "real"
    assert taken.error is not None
    assert "a/first" in taken.error.left


@pytest.mark.parametrize("mode", LINKS)
def test_a_server_that_is_gone_ends_linking(
    mode: LinkMode, session: Session, counted: None
) -> None:
    with served("bindfs", session) as base:
        scene = Scene(base)

        def pull_out() -> None:
            with suppress(OSError):  # it is in use, and cut off all the same
                kernel.unmount(str(base), MNT_FORCE)

        if mode is LinkMode.HARDLINK:
            taken = scene.broken(mode, pull_out)
        else:  # it has no files without a name: that is told right after it was tried
            taken = link(
                scene.source,
                scene.target,
                mode,
                mutable=["zebra"],
                after={"*/create/unsupported": pull_out},
            )
    assert taken.edges[f"{EDGE[mode]}/other"] == "real"
    assert taken.error is not None
    assert "ENOTCONN" in str(taken.error)
