"""Edges that only few circumstances show: on a real filesystem where one shows them, else injected.

What most filesystems refuse is met all over the tests of the linker. Here is the rest, each made on
purpose, so that the coverage of the reference policy has no hole and no weaker proof than needed.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from linker import LinkError, LinkMode, link_tree
from linker.report import observing
from pytest_linkmode import kernel
from pytest_linkmode.faults import Fault
from pytest_linkmode.faults.inprocess import Injection
from pytest_linkmode.faults.linking import faulty
from pytest_linkmode.filesystems import mounts
from pytest_linkmode.layouts import Layout, TestFilesystem
from pytest_linkmode.namespaces import Place
from pytest_linkmode.stash import session_of
from tests.linker.taking import Taken, assert_whole, link, written

Filesystems = Callable[[str], TestFilesystem]
Layouts = Callable[[str], Layout]

REGION = "special"
"""The directory of a tree of ours that is special in a layout, where one is."""


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Place:
    return session_of(request.config).place


@pytest.fixture
def mounting(place: Place) -> None:
    if not kernel.may_mount():
        pytest.skip(f"mounts nothing in a {place.kind} place")


# --- on real filesystems -------------------------------------------------------------------------


@pytest.mark.parametrize("mode", LinkMode)
def test_a_filesystem_without_the_atomic_calls_gets_slower_ones(
    mode: LinkMode, linkmode_fs_factory: Filesystems
) -> None:
    base = linkmode_fs_factory("bindfs").path
    source, target = base / "source", base / "target"
    for name in ("ns/new/file", "ns/beside", "ns/old"):
        written(source / name)
    written(target / "ns" / "old", b"old")
    taken = link(source, target, mode).edges
    assert taken["*/rename/unsupported"] == "real"
    assert taken["*/exchange/unsupported"] == "real"
    if mode in (LinkMode.CLONE, LinkMode.COPY):  # files that are made without a name
        assert taken["*/create/unsupported"] == "real"
    assert_whole(source, target)


@pytest.mark.parametrize(
    ("mode", "edge"),
    [
        (LinkMode.CLONE, "clone/clone-file/unsupported"),
        (LinkMode.HARDLINK, "hardlink/hardlink/denied"),
        (LinkMode.SYMLINK, "symlink/symlink/unsupported"),
    ],
)
def test_a_filesystem_without_any_links_gets_copies(
    mode: LinkMode, edge: str, linkmode_fs_factory: Filesystems
) -> None:
    base = linkmode_fs_factory("exfat").path
    written(base / "source" / "file")
    written(base / "source" / "other", os.urandom(70_000))
    assert link(base / "source", base / "target", mode).edges[edge] == "real"
    assert_whole(base / "source", base / "target")


@contextmanager
def shown_at(place: Place, directory: pathlib.Path, path: pathlib.Path) -> Iterator[None]:
    """Show a directory at another place of the same filesystem, with the same `st_dev`."""
    found = kernel.mount_of(str(directory))
    assert found is not None
    with mounts.mounted_on(
        place,
        str(path),
        lambda there: kernel.mount(str(directory), there, flags=kernel.MS_BIND),
        source=found.source,
        fstype=found.fstype,
    ):
        yield


@pytest.mark.parametrize("mode", LinkMode)
@pytest.mark.parametrize(
    ("new", "edge"), [("new/file", "rename"), ("old", "exchange")], ids=["new", "old"]
)
def test_what_lies_on_another_mount_is_staged_there(
    new: str,
    edge: str,
    mode: LinkMode,
    linkmode_fs_factory: Filesystems,
    place: Place,
    mounting: None,
) -> None:
    base = linkmode_fs_factory("tmpfs").path
    source, target, shown = base / "source", base / "target", base / "shown"
    written(source / "ns" / new)
    written(shown / "old", b"old")
    (target / "ns").mkdir(parents=True)
    with shown_at(place, shown, target / "ns"):
        assert link(source, target, mode).edges[f"*/{edge}/cross-device"] == "real"
        assert_whole(source, target)


@pytest.mark.parametrize(
    ("mode", "edge"),
    [
        (LinkMode.COPY, "*/create/no-space"),
        (LinkMode.HARDLINK, "hardlink/hardlink/no-space"),
        (LinkMode.SYMLINK, "symlink/symlink/no-space"),
    ],
)
def test_where_there_is_room_for_no_more_names_linking_ends(
    mode: LinkMode, edge: str, place: Place, mounting: None, linkmode_fs_factory: Filesystems
) -> None:
    linkmode_fs_factory("tmpfs")
    # The root, the source, its file, the target and one directory more.
    with mounts.mounted(
        place,
        "few-inodes",
        lambda path: kernel.mount("few", path, "tmpfs", kernel.MS_NOSUID, "nr_inodes=5"),
        source="few",
        fstype="tmpfs",
    ) as base:
        source, target = pathlib.Path(base, "source"), pathlib.Path(base, "target")
        written(source / "file")
        target.mkdir()
        assert link(source, target, mode).edges[edge] == "real"
        assert os.listdir(target) == []


def test_where_there_is_no_room_for_data_a_copy_ends(
    linkmode_layout_factory: Layouts,
) -> None:
    layout = linkmode_layout_factory("tmpfs+full")
    written(layout.source / "file")
    layout.seal()
    assert link(layout.source, layout.target, LinkMode.COPY).edges["copy/copy/no-space"] == "real"


@pytest.mark.parametrize("name", ["ext4+too-many-links", "xfs+too-many-links"])
def test_a_file_with_all_the_links_it_can_have_is_copied(
    name: str, linkmode_layout_factory: Layouts
) -> None:
    layout = linkmode_layout_factory(name)
    written(layout.source / REGION / "file")
    layout.seal()
    taken = link(layout.source, layout.target, LinkMode.HARDLINK).edges
    assert taken["hardlink/hardlink/too-many-links"] == "real"
    assert_whole(layout.source, layout.target)


def test_a_directory_that_takes_no_more_names_of_a_file_gets_a_copy_for_the_old_one(
    linkmode_layout_factory: Layouts,
) -> None:
    layout = linkmode_layout_factory("btrfs+too-many-links")
    written(layout.source / REGION / "file")
    layout.seal()
    written(layout.target / REGION / "file", b"old")
    taken = link(layout.source, layout.target, LinkMode.HARDLINK).edges
    assert taken["hardlink/exchange/too-many-links"] == "real"
    assert_whole(layout.source, layout.target)


# --- what no filesystem of ours shows ------------------------------------------------------------


def link_with(fault: Fault, source: pathlib.Path, target: pathlib.Path, mode: LinkMode) -> Taken:
    taken = Taken()
    left: tuple[str, ...] = ()
    with ExitStack() as held:
        held.enter_context(observing(taken))
        injection = held.enter_context(Injection([fault], log=(), standing_in=False))
        platform = held.enter_context(faulty(injection))
        try:
            link_tree(source, target, mode=mode, platform=platform)
        except LinkError as error:
            left = error.left
        assert injection.fired[fault] > 0
    assert left == ()
    return taken


@pytest.mark.parametrize(
    ("mode", "edge"),
    [
        (LinkMode.CLONE, "clone/clone-file/other"),
        (LinkMode.HARDLINK, "hardlink/hardlink/other"),
        (LinkMode.SYMLINK, "symlink/symlink/other"),
    ],
)
def test_an_error_that_nobody_has_heard_of_papers_nothing_over(
    mode: LinkMode, edge: str, linkmode_fs_factory: Filesystems
) -> None:
    base = linkmode_fs_factory("tmpfs").path
    written(base / "source" / "file")
    (base / "target").mkdir()
    fault = Fault(mode.value, "EXFULL")
    assert link_with(fault, base / "source", base / "target", mode).edges == {edge: "injected"}
    assert os.listdir(base / "target") == []


def test_a_kernel_that_takes_a_file_without_a_name_for_a_directory_gets_one_with_a_name(
    linkmode_fs_factory: Filesystems,
) -> None:
    base = linkmode_fs_factory("tmpfs").path
    source, target = base / "source", base / "target"
    written(source / "file")
    target.mkdir()
    taken = link_with(Fault("create", "EISDIR", 1), source, target, LinkMode.COPY)
    assert taken.edges["*/create/is-directory"] == "injected"
    assert_whole(source, target)
