"""The contract of FSCTL_DUPLICATE_EXTENTS_TO_FILE: what [MS-FSCC] and "Block Cloning on ReFS" say.

The same tests hold the model on Linux and a real ReFS volume or Dev Drive (LINKMODE_DIR_REFS).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from linker.platforms import windows as w
from linker.platforms.windows import winerror_of
from tests.windows.conftest import Stand

pytestmark = pytest.mark.faked("block-clones")

CLUSTER = 4096
CONTENT = bytes(range(256)) * 64  # four clusters


@contextmanager
def opened(stand: Stand, path: str, *, new: bool = False, size: int | None = None) -> Iterator[int]:
    access = w.GENERIC_READ | (w.GENERIC_WRITE if new else 0)
    disposition = w.CREATE_NEW if new else w.OPEN_EXISTING
    handle = stand.calls.open(path, access, w.SHARE_ALL, disposition, 0)
    try:
        if size is not None:
            stand.calls.extend(handle, size)
        yield handle
    finally:
        stand.calls.close(handle)


def cluster_of(stand: Stand, handle: int) -> int:
    told = stand.calls.control(handle, w.FSCTL_GET_INTEGRITY_INFORMATION, b"", w.INTEGRITY.size)
    return int(w.INTEGRITY.unpack(told)[4])


def clone(stand: Stand, target: int, source: int, here: int, there: int, length: int) -> None:
    data = w.DUPLICATE.pack(source, here, there, length)
    stand.calls.control(target, w.FSCTL_DUPLICATE_EXTENTS_TO_FILE, data, 0)


def refusal(stand: Stand, target: int, source: int, here: int, there: int, length: int) -> int:
    with pytest.raises(OSError, match=r".") as caught:
        clone(stand, target, source, here, there, length)
    return winerror_of(caught.value)


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def test_a_cloned_file_has_the_bytes_of_its_source_and_keeps_its_own(stand: Stand) -> None:
    source, target = stand.put("a", CONTENT), os.path.join(stand.there, "b")
    with opened(stand, source) as reading, opened(stand, target, new=True, size=len(CONTENT)) as to:
        clone(stand, to, reading, 0, 0, len(CONTENT))
    assert read(target) == CONTENT
    with open(target, "r+b") as file:
        file.write(b"edited")
    assert read(source) == CONTENT
    assert read(target)[:6] == b"edited"


def test_the_last_cluster_may_reach_beyond_the_end_of_both_files(stand: Stand) -> None:
    content = CONTENT[:-100]
    source, target = stand.put("a", content), os.path.join(stand.there, "b")
    with opened(stand, source) as reading, opened(stand, target, new=True, size=len(content)) as to:
        cluster = cluster_of(stand, reading)
        clone(stand, to, reading, 0, 0, -(-len(content) // cluster) * cluster)
    assert read(target) == content


def test_regions_need_not_lie_at_the_same_offset(stand: Stand) -> None:
    source, target = stand.put("a", CONTENT), os.path.join(stand.there, "b")
    with opened(stand, source) as reading, opened(stand, target, new=True, size=len(CONTENT)) as to:
        cluster = cluster_of(stand, reading)
        clone(stand, to, reading, cluster, 0, cluster)
    assert read(target) == CONTENT[cluster : 2 * cluster] + bytes(len(CONTENT) - cluster)


@pytest.mark.parametrize(
    ("here", "there", "length"),
    [(1, 0, CLUSTER), (0, 1, CLUSTER), (0, 0, CLUSTER + 1), (0, 0, 1)],
    ids=["source", "destination", "length", "less than a cluster"],
)
def test_regions_begin_and_end_at_clusters(
    stand: Stand, here: int, there: int, length: int
) -> None:
    source, target = stand.put("a", CONTENT), os.path.join(stand.there, "b")
    with opened(stand, source) as reading, opened(stand, target, new=True, size=len(CONTENT)) as to:
        assert refusal(stand, to, reading, here, there, length) == 87
    assert read(target) == bytes(len(CONTENT))


def test_a_call_clones_less_than_four_gibibytes(stand: Stand) -> None:
    source, target = os.path.join(stand.here, "a"), os.path.join(stand.there, "b")
    size = 5 << 30
    with opened(stand, source, new=True) as reading, opened(stand, target, new=True) as to:
        for handle in (reading, to):
            stand.calls.control(handle, w.FSCTL_SET_SPARSE, b"", 0)
            stand.calls.extend(handle, size)
        assert refusal(stand, to, reading, 0, 0, 1 << 32) != 0
        clone(stand, to, reading, 0, 0, (1 << 32) - cluster_of(stand, reading))


def test_the_destination_is_extended_first(stand: Stand) -> None:
    source, target = stand.put("a", CONTENT), os.path.join(stand.there, "b")
    with opened(stand, source) as reading, opened(stand, target, new=True) as to:
        assert refusal(stand, to, reading, 0, 0, len(CONTENT)) != 0
    assert read(target) == b""


def test_nothing_is_cloned_from_beyond_the_source(stand: Stand) -> None:
    source, target = stand.put("a", CONTENT), os.path.join(stand.there, "b")
    twice = 2 * len(CONTENT)
    with opened(stand, source) as reading, opened(stand, target, new=True, size=twice) as to:
        assert refusal(stand, to, reading, 0, 0, twice) == 50


def test_regions_of_one_file_do_not_overlap(stand: Stand) -> None:
    source = stand.put("a", CONTENT)
    with opened(stand, os.path.join(stand.there, "b"), new=True, size=len(CONTENT)) as to:
        with opened(stand, source) as reading:
            clone(stand, to, reading, 0, 0, len(CONTENT))
        assert refusal(stand, to, to, 0, CLUSTER, 2 * CLUSTER) == 50


def test_a_sparse_source_wants_a_sparse_destination(stand: Stand) -> None:
    source, target = os.path.join(stand.here, "a"), os.path.join(stand.there, "b")
    with opened(stand, source, new=True) as reading:
        stand.calls.control(reading, w.FSCTL_SET_SPARSE, b"", 0)
        stand.calls.extend(reading, len(CONTENT))
        with opened(stand, target, new=True, size=len(CONTENT)) as to:
            assert refusal(stand, to, reading, 0, 0, len(CONTENT)) == 50
            stand.calls.control(to, w.FSCTL_SET_SPARSE, b"", 0)
            clone(stand, to, reading, 0, 0, len(CONTENT))


def test_integrity_settings_are_equal(stand: Stand) -> None:
    source, target = stand.put("a", CONTENT), os.path.join(stand.there, "b")
    checksums = w.INTEGRITY_WANTED.pack(2, 0, 0)  # CHECKSUM_TYPE_CRC64
    with opened(stand, target, new=True) as to, opened(stand, source) as reading:
        stand.calls.control(to, w.FSCTL_SET_INTEGRITY_INFORMATION, checksums, 0)
        stand.calls.extend(to, len(CONTENT))
        assert refusal(stand, to, reading, 0, 0, len(CONTENT)) != 0


def test_both_files_lie_on_one_volume(stand: Stand) -> None:
    source, target = stand.put("a", CONTENT, stand.elsewhere), os.path.join(stand.there, "b")
    with opened(stand, source) as reading, opened(stand, target, new=True, size=len(CONTENT)) as to:
        assert refusal(stand, to, reading, 0, 0, len(CONTENT)) == 87


def test_a_handle_that_is_closed_is_no_source(stand: Stand) -> None:
    target = os.path.join(stand.there, "b")
    with opened(stand, stand.put("a", CONTENT)) as reading:
        closed = reading
    with opened(stand, target, new=True, size=len(CONTENT)) as to:
        assert refusal(stand, to, closed if closed != to else to + 1, 0, 0, len(CONTENT)) in (6, 87)


@pytest.mark.modelled
def test_a_full_volume_clones_no_further(stand: Stand) -> None:
    stand.volume(left=2)
    source, target = stand.put("a", CONTENT), os.path.join(stand.there, "b")
    with opened(stand, source) as reading, opened(stand, target, new=True, size=len(CONTENT)) as to:
        clone(stand, to, reading, 0, 0, 2 * CLUSTER)
        assert refusal(stand, to, reading, 2 * CLUSTER, 2 * CLUSTER, CLUSTER) == 112


@pytest.mark.modelled
@pytest.mark.parametrize(
    ("behaviour", "number"), [({"clones": False}, 1), ({"references": 0}, 347)]
)
def test_a_volume_says_why_it_does_not_clone(
    stand: Stand, behaviour: dict[str, object], number: int
) -> None:
    source, target = stand.put("a", CONTENT), os.path.join(stand.there, "b")
    stand.volume(**behaviour)
    with opened(stand, source) as reading, opened(stand, target, new=True, size=len(CONTENT)) as to:
        assert refusal(stand, to, reading, 0, 0, len(CONTENT)) == number


@pytest.mark.modelled
def test_a_write_protected_volume_takes_no_clone(stand: Stand) -> None:
    source, target = stand.put("a", CONTENT), os.path.join(stand.there, "b")
    with opened(stand, source) as reading, opened(stand, target, new=True, size=len(CONTENT)) as to:
        stand.volume(readonly=True)
        assert refusal(stand, to, reading, 0, 0, len(CONTENT)) == 19
