"""Where files lie on a volume of Windows: the contract of the call, and the evidence it gives.

The contract holds the model on Linux and real volumes on Windows ([MS-FSA] 2.1.5.10.15). Answers
that no volume gives on demand (rounded down, in pieces, nonsense) are made up.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest

from linker import LinkMode, link_file
from linker.platforms import windows as w
from linker.platforms.windows import Information, refused, winerror_of
from pytest_linkmode import pointers
from pytest_linkmode.evidence import Evidence, Proof, evidence
from pytest_linkmode.extents import Extent, ExtentFlag
from pytest_linkmode.pointers import HEAD, NOWHERE, POINTER, STARTING, PointerReader
from pytest_linkmode.storage import Trial, try_volume
from tests.windows.conftest import Stand
from tests.windows.test_block_clones import CONTENT, clone, cluster_of, opened

CODE = pointers.FSCTL_GET_RETRIEVAL_POINTERS
MODULE = import_module("pytest_linkmode.evidence")
"""The module: as an attribute of the package, `evidence` is the function."""

told = pytest.mark.faked("extents")
cloning = pytest.mark.faked("block-clones")

Runs = list[tuple[int, int, int]]
"""(First cluster of the file, the one behind, first cluster of the volume), each."""


def ask(stand: Stand, handle: int, start: int = 0, room: int = 100) -> Runs:
    data = stand.calls.control(handle, CODE, STARTING.pack(start), HEAD.size + room * POINTER.size)
    count, begin = HEAD.unpack_from(data)
    found = []
    for number in range(count):
        behind, place = POINTER.unpack_from(data, HEAD.size + number * POINTER.size)
        found.append((begin, behind, place))
        begin = behind
    return found


def flushed(path: str) -> str:
    """Write a file to disk, so that it has a place there; return its path."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())
    return path


def refusal(stand: Stand, handle: int, data: bytes, size: int) -> int:
    with pytest.raises(OSError, match=r".") as caught:
        stand.calls.control(handle, CODE, data, size)
    return winerror_of(caught.value)


# What the call says.


@told
def test_the_clusters_of_a_file_are_told_from_its_first_to_its_last(stand: Stand) -> None:
    with opened(stand, flushed(stand.put("a", CONTENT * 8))) as reading:
        runs = ask(stand, reading)
    assert runs[0][0] == 0
    assert all(start < behind for start, behind, _ in runs)
    assert all(place >= 0 for _, _, place in runs)
    assert runs[-1][1] >= 2  # 128 KiB are two clusters at the least


@told
def test_behind_the_last_cluster_there_is_nothing_to_tell(stand: Stand) -> None:
    with opened(stand, flushed(stand.put("a", CONTENT))) as reading:
        behind = ask(stand, reading)[-1][1]
        assert refusal(stand, reading, STARTING.pack(behind), 4096) == 38
    with opened(stand, stand.put("empty", b"")) as reading:
        assert refusal(stand, reading, STARTING.pack(0), 4096) == 38


@told
@pytest.mark.parametrize(
    ("data", "size", "number"),
    [(STARTING.pack(-1), 4096, 87), (b"\0" * 4, 4096, 87), (STARTING.pack(0), 8, 122)],
    ids=["before the file", "no start", "no room"],
)
def test_a_question_without_sense_is_refused(
    stand: Stand, data: bytes, size: int, number: int
) -> None:
    with opened(stand, flushed(stand.put("a", CONTENT))) as reading:
        assert refusal(stand, reading, data, size) == number


@cloning
def test_a_clone_has_the_clusters_of_its_source_and_where_it_was_cloned_from(stand: Stand) -> None:
    with halves_swapped(stand) as (reading, to):
        ours, theirs = (list(clusters(ask(stand, each))) for each in (reading, to))
        assert theirs[: len(ours)] == ours[len(ours) // 2 :] + ours[: len(ours) // 2]


@contextmanager
def halves_swapped(stand: Stand) -> Iterator[tuple[int, int]]:
    """Open a file and a clone of it whose halves lie the other way round."""
    content = os.urandom(2 * 65536)
    source, target = flushed(stand.put("a", content)), os.path.join(stand.there, "b")
    with opened(stand, source) as reading, opened(stand, target, new=True, size=len(content)) as to:
        half = max(cluster_of(stand, reading), 65536)
        clone(stand, to, reading, 0, half, half)
        clone(stand, to, reading, half, 0, half)
        yield reading, to


def clusters(runs: Runs) -> Sequence[int]:
    return [place + at for start, behind, place in runs for at in range(behind - start)]


@cloning
def test_an_answer_without_room_for_all_goes_on_where_it_ended(stand: Stand) -> None:
    with halves_swapped(stand) as (_, to):
        whole = ask(stand, to)
        assert len(whole) > 1
        pieces: Runs = []
        while not pieces or pieces[-1][1] < whole[-1][1]:
            (piece,) = ask(stand, to, pieces[-1][1] if pieces else 0, room=1)
            pieces.append(piece)
        assert pieces == whole


# What it is evidence of.


@pytest.fixture
def look(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Evidence]:
    """Return `evidence`, asking the stand's volumes and not Linux."""
    if stand.model is not None:
        monkeypatch.setattr(MODULE, "_reader", lambda: PointerReader(stand.calls, int))
    return evidence


Looking = Callable[[str, str], Evidence]


@cloning
@pytest.mark.parametrize("size", [300_000, 65536, 70_001])
def test_a_clone_is_proven_by_its_clusters(stand: Stand, look: Looking, size: int) -> None:
    source = flushed(stand.put("a", os.urandom(size)))
    target = os.path.join(stand.there, "b")
    link_file(source, target, mode=LinkMode.CLONE, platform=stand.platform, strict=True)
    found = look(source, target)
    assert (found.mode, found.proof) == (LinkMode.CLONE, Proof.SHARED_EXTENTS), found
    assert found.facts["shared_extents"] == found.facts["extents"]
    assert "flag" not in found.why  # there is none


@told
def test_a_copy_is_proven_by_its_clusters(stand: Stand, look: Looking) -> None:
    source = flushed(stand.put("a", os.urandom(300_000)))
    target = os.path.join(stand.there, "b")
    link_file(source, target, mode=LinkMode.COPY, platform=stand.platform)
    found = look(source, flushed(target))
    assert (found.mode, found.proof) == (LinkMode.COPY, Proof.DIFFERENT_EXTENTS), found


@cloning
def test_a_clone_that_was_written_over_with_the_same_bytes_is_shared_in_part(
    stand: Stand, look: Looking
) -> None:
    content = os.urandom(4 * 65536)
    source, target = flushed(stand.put("a", content)), os.path.join(stand.there, "b")
    link_file(source, target, mode=LinkMode.CLONE, platform=stand.platform, strict=True)
    with open(target, "r+b") as file:
        file.seek(65536)
        file.write(content[65536 : 2 * 65536])
        file.flush()
        os.fsync(file.fileno())
    found = look(source, target)
    assert (found.mode, found.proof) == (None, Proof.PARTLY_SHARED), found


@cloning
def test_a_sparse_clone_is_proven_by_what_it_has(stand: Stand, look: Looking) -> None:
    source, target = os.path.join(stand.here, "a"), os.path.join(stand.there, "b")
    with opened(stand, source, new=True) as writing:
        stand.calls.control(writing, w.FSCTL_SET_SPARSE, b"", 0)
        stand.calls.extend(writing, 4 << 20)
        stand.calls.seek(writing, 2 << 20)
        stand.calls.write(writing, memoryview(os.urandom(65536)))
    flushed(source)
    link_file(source, target, mode=LinkMode.CLONE, platform=stand.platform, strict=True)
    found = look(source, target)
    assert (found.mode, found.proof) == (LinkMode.CLONE, Proof.SHARED_EXTENTS), found


def test_a_small_copy_is_never_taken_for_a_clone(stand: Stand, look: Looking) -> None:
    source, target = stand.put("a", b"few bytes"), os.path.join(stand.there, "b")
    shutil.copyfile(source, target)
    found = look(source, target)
    assert found.allows(LinkMode.COPY), found
    assert found.mode in (LinkMode.COPY, None)


@pytest.mark.modelled
@pytest.mark.parametrize("places", ["refused", "senseless"])
@pytest.mark.parametrize("mode", [LinkMode.CLONE, LinkMode.COPY])
def test_a_volume_that_does_not_tell_proves_independence_and_no_more(
    stand: Stand, look: Looking, places: str, mode: LinkMode
) -> None:
    stand.volume(places=places)
    source, target = stand.put("a", CONTENT), os.path.join(stand.there, "b")
    link_file(source, target, mode=mode, platform=stand.platform, strict=True)
    found = look(source, target)
    assert (found.mode, found.proof) == (None, Proof.INDEPENDENCE), found
    assert found.candidates == {LinkMode.CLONE, LinkMode.COPY}
    assert "does not say where data lies" in found.why


@pytest.mark.modelled
def test_data_in_the_record_of_a_file_proves_independence_and_no_more(
    stand: Stand, look: Looking
) -> None:
    source, target = stand.put("a", b"resident"), os.path.join(stand.there, "b")
    link_file(source, target, mode=LinkMode.COPY, platform=stand.platform)
    found = look(source, target)
    assert (found.mode, found.proof) == (None, Proof.INDEPENDENCE), found
    assert found.facts["inline"]


@pytest.mark.modelled
def test_a_clone_could_be_made_where_the_volume_says_so_and_on_no_other(stand: Stand) -> None:
    assert stand.model is not None

    def trial(directory: str) -> Trial:
        with opened(stand, stand.put("a")) as reading:
            return try_volume(reading, directory, stand.calls, int)

    assert trial(stand.there) == Trial(possible=True)
    assert trial(stand.elsewhere) == Trial(possible=False, error="ERROR_NOT_SAME_DEVICE")
    stand.volume(clones=False)
    assert trial(stand.there) == Trial(possible=False, error="ERROR_NOT_SUPPORTED")

    def refuse(_handle: int) -> int:
        raise refused(w.NUMBERS["ERROR_NOT_READY"])

    calls = dataclasses.replace(stand.calls, volume_flags=refuse)
    with opened(stand, stand.put("a")) as reading:
        assert try_volume(reading, stand.there, calls, int) == Trial(None, "ERROR_NOT_READY")


# How answers are read.

FIRST, SECOND = 5, 6
"""Two handles."""


def reader(
    answers: dict[int, Runs | int],
    *,
    cluster: int | None = 4096,
    size: int = 3 * 4096,
    attributes: int = w.ATTRIBUTE_NORMAL,
    room: int = 100,
) -> PointerReader:
    """Return a reader of files that lie where `answers` say; a number is an error."""

    def control(handle: int, code: int, data: bytes, _size: int) -> bytes:
        if code == w.FSCTL_GET_INTEGRITY_INFORMATION:
            if cluster is None:
                raise refused(1)
            return w.INTEGRITY.pack(0, 0, 0, 0, cluster)
        answer = answers[handle]
        if isinstance(answer, int):
            raise refused(answer)
        (asked,) = STARTING.unpack(data)
        runs = [run for run in answer if run[1] > asked][:room]
        if not runs:
            raise refused(38)
        head = HEAD.pack(len(runs), runs[0][0])
        return head + b"".join(POINTER.pack(behind, place) for _, behind, place in runs)

    def never(*arguments: Any) -> Any:
        raise AssertionError(arguments)

    fields = {field.name: never for field in dataclasses.fields(w.Calls)}
    fields["control"] = control

    def information(_handle: int) -> Information:
        return Information(attributes, 1, size)

    fields["information"] = information
    return PointerReader(w.Calls(**fields), int)


def test_what_both_have_is_shared_and_the_rest_is_not() -> None:
    first, second = reader({FIRST: [(0, 3, 100)], SECOND: [(0, 1, 100), (1, 3, 500)]}).both(5, 6)
    assert first == [Extent(0, 100 * 4096, 3 * 4096, 0)]
    assert [each.shared for each in second] == [True, False]


def test_a_run_that_is_cut_in_two_for_one_file_is_shared_all_the_same() -> None:
    first, second = reader({FIRST: [(0, 3, 100)], SECOND: [(0, 1, 100), (1, 3, 101)]}).both(5, 6)
    assert all(each.shared for each in (*first, *second))


def test_clusters_behind_the_end_of_a_file_are_no_data() -> None:
    runs: dict[int, Runs | int] = {FIRST: [(0, 2, 100), (2, 9, 700)], SECOND: [(0, 2, 100)]}
    first, second = reader(runs, size=4097).both(5, 6)
    assert first == second == [Extent(0, 100 * 4096, 2 * 4096, ExtentFlag.SHARED)]


def test_a_long_answer_is_read_in_pieces() -> None:
    runs: Runs = [(at, at + 1, 1000 - 2 * at) for at in range(9)]
    whole = reader({FIRST: runs, SECOND: runs}, size=9 * 4096)
    pieces = reader({FIRST: runs, SECOND: runs}, size=9 * 4096, room=2)
    assert pieces.both(5, 6) == whole.both(5, 6)
    assert len(pieces.both(5, 6)[0]) == 9


def test_a_hole_is_no_extent_and_a_missing_place_of_data_is_one_without_a_place() -> None:
    runs: dict[int, Runs | int] = {each: [(0, 1, 7), (1, 3, NOWHERE)] for each in (5, 6)}
    first, _ = reader(runs, attributes=w.ATTRIBUTE_SPARSE).both(5, 6)
    assert [each.logical for each in first] == [0]
    first, _ = reader(runs).both(5, 6)
    assert first[1].flags == ExtentFlag.UNKNOWN


@pytest.mark.parametrize("attributes", [w.ATTRIBUTE_REPARSE_POINT, pointers.ATTRIBUTE_COMPRESSED])
def test_of_a_file_whose_data_may_lie_elsewhere_nothing_is_believed(attributes: int) -> None:
    runs: dict[int, Runs | int] = {each: [(0, 3, 7)] for each in (FIRST, SECOND)}
    first, second = reader(runs, attributes=attributes).both(5, 6)
    assert first == second == [Extent(0, 0, 3 * 4096, ExtentFlag.UNKNOWN)]


@pytest.mark.parametrize(
    ("attributes", "flag"),
    [
        (w.ATTRIBUTE_NORMAL, ExtentFlag.DATA_INLINE),
        (w.ATTRIBUTE_SPARSE, ExtentFlag.UNKNOWN),
    ],
)
def test_a_file_without_clusters_has_data_without_a_place(
    attributes: int, flag: ExtentFlag
) -> None:
    runs: dict[int, Runs | int] = {FIRST: 38, SECOND: 38}
    first, _ = reader(runs, attributes=attributes).both(5, 6)
    assert first == [Extent(0, 0, 3 * 4096, flag)]
    assert reader(runs, attributes=attributes, size=0).both(5, 6) == ([], [])


@pytest.mark.parametrize(
    "runs",
    [[(1, 0, 0)], [(1, 3, 5)], [(0, 2, 5), (2, 2, 9)], [(0, 3, -2)]],
    ids=["Wine", "begins too late", "no cluster long", "no place"],
)
def test_an_answer_without_sense_is_no_answer(runs: Runs) -> None:
    def control(_handle: int, code: int, _data: bytes, _size: int) -> bytes:
        if code == w.FSCTL_GET_INTEGRITY_INFORMATION:
            raise refused(1)
        head = HEAD.pack(len(runs), runs[0][0])
        return head + b"".join(POINTER.pack(behind, place) for _, behind, place in runs)

    read = reader({})
    read._calls = dataclasses.replace(read._calls, control=control)
    with pytest.raises(OSError, match="cannot be"):
        read.both(5, 6)


def test_where_a_clusters_size_is_not_told_only_strangers_can_be_told_apart() -> None:
    apart = reader({FIRST: [(0, 9, 100)], SECOND: [(0, 9, 500)]}, cluster=None)
    first, second = apart.both(5, 6)
    assert [each.shared for each in (*first, *second)] == [False, False]
    with pytest.raises(OSError, match="unknown size"):
        reader({FIRST: [(0, 9, 100)], SECOND: [(0, 9, 108)]}, cluster=None).both(5, 6)


def test_an_answer_that_begins_before_the_question_is_cut() -> None:
    def control(_handle: int, code: int, data: bytes, _size: int) -> bytes:
        if code == w.FSCTL_GET_INTEGRITY_INFORMATION:
            return w.INTEGRITY.pack(0, 0, 0, 0, 4096)
        (asked,) = STARTING.unpack(data)
        if asked == 0:
            return HEAD.pack(1, 0) + POINTER.pack(1, 100)
        if asked == 1:  # rounded down to where this extent begins
            return HEAD.pack(1, 0) + POINTER.pack(3, 100)
        raise refused(38)

    read = reader({})
    read._calls = dataclasses.replace(read._calls, control=control)
    first, _ = read.both(5, 6)
    assert [(each.logical, each.physical, each.length) for each in first] == [
        (0, 100 * 4096, 4096),
        (4096, 101 * 4096, 2 * 4096),
    ]
