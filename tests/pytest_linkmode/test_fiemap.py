"""FIEMAP: structures as the kernel has them, lists of extents compared as evidence needs it."""

from __future__ import annotations

import ctypes
import errno
import os
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_linkmode.extents import Extent, ExtentFlag, joined, overlap, placed, written
from pytest_linkmode.fiemap import ExtentReader, fiemap, fiemap_extent
from pytest_linkmode.layouts import TestFilesystem
from tests.profiles import PROFILE

BLOCK = 4096


def extent(logical: int, physical: int, length: int = BLOCK, flags: int = 0) -> Extent:
    return Extent(logical, physical, length, flags)


def read(path: pathlib.Path, reader: ExtentReader | None = None) -> list[Extent]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return (reader or ExtentReader()).read(descriptor)
    finally:
        os.close(descriptor)


def test_the_structures_have_the_sizes_that_the_request_number_encodes() -> None:
    assert ctypes.sizeof(fiemap) == 32  # the number holds the size of what is passed: 0x20
    assert ctypes.sizeof(fiemap_extent) == 56


@pytest.mark.linkmode(fs=["btrfs", "xfs", "xfs-noreflink", "ext4"])
def test_extents_of_data_that_was_never_flushed_have_an_address(
    linkmode_fs: TestFilesystem,
) -> None:
    file = linkmode_fs.path / "file"
    file.write_bytes(os.urandom(25 * BLOCK))
    found = read(file)
    assert placed(found)
    assert sum(each.length for each in found) == 25 * BLOCK
    assert all(each.physical for each in found)


@pytest.mark.linkmode(fs=["btrfs", "xfs", "xfs-noreflink", "ext4"])
def test_a_file_with_more_extents_than_fit_into_one_call_is_read_whole(
    linkmode_fs: TestFilesystem,
) -> None:
    file = linkmode_fs.path / "file"
    offsets = [2 * BLOCK * number for number in range(50)]
    with file.open("wb") as out:
        for offset in offsets:
            os.pwrite(out.fileno(), os.urandom(BLOCK), offset)
    few = ExtentReader(capacity=7)
    found = read(file, few)
    assert len(found) > 7
    assert found == read(file)
    # xfs reserves space ahead of a growing file, in the holes too: that is no data.
    assert [each.logical for each in written(found)] == offsets


@pytest.mark.linkmode(fs=["btrfs", "xfs", "ext4"])
def test_one_reader_reads_one_file_after_another(linkmode_fs: TestFilesystem) -> None:
    reader = ExtentReader()
    large, empty = linkmode_fs.path / "large", linkmode_fs.path / "empty"
    large.write_bytes(os.urandom(50 * BLOCK))
    empty.touch()
    first = read(large, reader)
    assert read(empty, reader) == []
    assert read(large, reader) == first


@pytest.mark.linkmode(fs=["btrfs"])
def test_small_files_of_btrfs_are_inline_and_have_no_place(linkmode_fs: TestFilesystem) -> None:
    file = linkmode_fs.path / "file"
    file.write_bytes(os.urandom(1000))
    found = read(file)
    assert [each.inline for each in found] == [True]
    assert not placed(found)


@pytest.mark.linkmode(fs=["tmpfs"])
def test_a_filesystem_that_does_not_answer_is_an_error(linkmode_fs: TestFilesystem) -> None:
    file = linkmode_fs.path / "file"
    file.write_bytes(b"some bytes")
    with pytest.raises(OSError, match="not supported") as caught:
        read(file)
    assert caught.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize("flag", ["UNKNOWN", "DELALLOC", "DATA_INLINE", "DATA_TAIL"])
def test_one_extent_without_a_place_makes_a_list_incomparable(flag: str) -> None:
    assert placed([extent(0, 0), extent(BLOCK, 9 * BLOCK)])
    assert not placed([extent(0, 0), extent(BLOCK, 9 * BLOCK, flags=ExtentFlag[flag])])


def test_reserved_space_is_no_data() -> None:
    reserved = extent(BLOCK, 8 * BLOCK, flags=ExtentFlag.UNWRITTEN)
    assert written([extent(0, 0), reserved]) == [extent(0, 0)]


def test_a_run_cut_in_two_is_the_run_in_one() -> None:
    cut = [extent(0, 40960, flags=ExtentFlag.SHARED), extent(BLOCK, 40960 + BLOCK)]
    assert joined(cut) == [(0, 40960, 2 * BLOCK)] == joined([extent(0, 40960, 2 * BLOCK)])


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(extent(BLOCK, 81920), id="elsewhere on disk"),
        pytest.param(extent(2 * BLOCK, 40960 + BLOCK), id="after a hole"),
        pytest.param(extent(BLOCK, 40960 + BLOCK, flags=ExtentFlag.ENCODED), id="compressed"),
    ],
)
def test_what_only_looks_like_one_run_is_not_joined(second: Extent) -> None:
    assert len(joined([extent(0, 40960), second])) == 2


def test_compressed_extents_overlap_only_where_they_start() -> None:
    # 128 KiB of a file may be 4 KiB on disk, and the next file's begin right behind them.
    first = extent(0, 40960, 131072, ExtentFlag.ENCODED)
    assert not overlap([first], [extent(0, 40960 + BLOCK, 131072, ExtentFlag.ENCODED)])
    assert overlap([first], [first])


EXTENTS = st.lists(
    st.builds(extent, st.integers(0, 9), st.integers(0, 30), st.integers(1, 6)), max_size=5
)


@settings(PROFILE)
@given(EXTENTS, EXTENTS)
def test_two_lists_overlap_if_any_byte_of_the_disk_is_in_both(
    first: list[Extent], second: list[Extent]
) -> None:
    def disk(extents: list[Extent]) -> set[int]:
        return {each.physical + at for each in extents for at in range(each.length)}

    assert overlap(first, second) is bool(disk(first) & disk(second))


@settings(PROFILE)
@given(EXTENTS, st.data())
def test_cutting_extents_in_pieces_changes_nothing(
    extents: list[Extent], data: st.DataObject
) -> None:
    pieces = []
    for each in extents:
        cut = data.draw(st.integers(0, each.length))
        parts = [(0, cut), (cut, each.length)]
        pieces += [
            extent(each.logical + start, each.physical + start, end - start)
            for start, end in parts
            if end > start
        ]
    assert joined(pieces) == joined(extents)


def test_flags_are_those_of_the_kernel() -> None:
    header = pathlib.Path("/usr/include/linux/fiemap.h")
    if not header.exists():
        pytest.skip("no kernel headers: /usr/include/linux/fiemap.h is missing")
    words = (line.split() for line in header.read_text().splitlines())
    values = {line[1]: line[2] for line in words if line[:1] == ["#define"] and len(line) > 2}
    for flag in ExtentFlag:
        assert int(values[f"FIEMAP_EXTENT_{flag.name}"], 16) == flag
