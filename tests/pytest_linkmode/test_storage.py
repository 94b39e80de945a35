"""On which filesystem a file lies, and whether a clone would reach a place: both by asking."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_linkmode.capabilities import REFLINK
from pytest_linkmode.layouts import Layout, TestFilesystem
from pytest_linkmode.storage import flush, storage_of, try_clone


@contextmanager
def opened(path: pathlib.Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def same_storage(first: pathlib.Path, second: pathlib.Path) -> bool:
    with opened(first) as ours, opened(second) as theirs:
        return storage_of(ours) == storage_of(theirs)


def test_two_directories_share_storage_unless_they_lie_on_two_filesystems(
    linkmode_layout: Layout,
) -> None:
    special = "+" in linkmode_layout.name and not linkmode_layout.name.endswith("+overlay-cross")
    assert same_storage(linkmode_layout.source, linkmode_layout.target) is (
        "cross-device" not in linkmode_layout.can or special
    )


@pytest.mark.linkmode(layout=["btrfs+subvolume"])
def test_subvolumes_share_storage_although_their_device_numbers_differ(
    linkmode_layout: Layout,
) -> None:
    source, target = linkmode_layout.source, linkmode_layout.target
    assert source.stat().st_dev != target.stat().st_dev
    assert same_storage(source, target)


@pytest.mark.linkmode(fs=["btrfs", "xfs", "ext4", "tmpfs"])
def test_storage_is_called_what_the_kernel_calls_it(linkmode_fs: TestFilesystem) -> None:
    with opened(linkmode_fs.path) as descriptor:
        assert storage_of(descriptor).kind == linkmode_fs.name


def test_a_clone_is_tried_where_it_would_go(linkmode_layout: Layout) -> None:
    file = linkmode_layout.source / "file"
    file.write_bytes(os.urandom(70_000))
    with opened(file) as source, opened(linkmode_layout.target) as directory:
        trial = try_clone(source, directory)
    assert trial.possible is (REFLINK in linkmode_layout.can), trial


def test_trying_a_clone_leaves_no_trace(linkmode_layout: Layout) -> None:
    file = linkmode_layout.source / "file"
    file.write_bytes(b"")
    os.utime(linkmode_layout.target, ns=(1, 2))
    with opened(file) as source, opened(linkmode_layout.target) as directory:
        try_clone(source, directory)
    assert os.listdir(linkmode_layout.target) == []
    assert linkmode_layout.target.stat().st_mtime_ns == 2


def test_where_there_are_no_nameless_files_a_named_one_is_used_and_removed(
    linkmode_layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = linkmode_layout.source / "file"
    file.write_bytes(os.urandom(70_000))
    os.utime(linkmode_layout.target, ns=(1, 2))
    real = os.open

    def without_nameless(path: str, flags: int, mode: int = 0o777, *, dir_fd: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise IsADirectoryError(21, os.strerror(21))
        return real(path, flags, mode, dir_fd=dir_fd)

    with opened(file) as source, opened(linkmode_layout.target) as directory:
        monkeypatch.setattr(os, "open", without_nameless)
        trial = try_clone(source, directory)
        monkeypatch.undo()
    assert trial.possible is (REFLINK in linkmode_layout.can), trial
    assert os.listdir(linkmode_layout.target) == []
    assert linkmode_layout.target.stat().st_mtime_ns == 2


def test_what_could_not_be_tried_is_neither_possible_nor_impossible(
    tmp_path: pathlib.Path,
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"some bytes")
    with opened(file) as source:
        trial = try_clone(source, source)  # not a directory
    assert trial.possible is None
    assert trial.error == "ENOTDIR"


def test_a_refusal_that_is_not_about_the_two_places_decides_nothing(
    linkmode_layout: Layout,
) -> None:
    file = linkmode_layout.source / "file"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)  # not open for reading
    try:
        with opened(linkmode_layout.target) as directory:
            trial = try_clone(descriptor, directory)
    finally:
        os.close(descriptor)
    assert trial.possible is None or "reflink" not in linkmode_layout.can
    assert trial.error in ("EBADF", "EXDEV", "EOPNOTSUPP")


def test_flushing_reports_a_descriptor_that_is_none() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        flush(-1)
