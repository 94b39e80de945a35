"""Where files lie on a volume of macOS: one contract of the call, and the evidence it gives.

The model keeps it here, the real call has to on a Mac.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import pytest

from linker import LinkMode, link_file
from linker.platforms import macos
from linker.platforms.macos import MacPlatform
from pytest_linkmode.evidence import Proof, evidence
from pytest_linkmode.extents import Extent, ExtentFlag
from pytest_linkmode.layouts import TestFilesystem
from pytest_linkmode.log2phys import F_LOG2PHYS_EXT, PLACE, PlaceReader
from pytest_linkmode.models import clonefile, darwin
from pytest_linkmode.models.clonefile import Quirk
from pytest_linkmode.models.darwin import darwin_error
from pytest_linkmode.storage import Trial, try_clonefile

ON_A_MAC = sys.platform == "darwin"
MODULE = import_module("pytest_linkmode.evidence")
"""The module: as an attribute of the package, `evidence` is the function."""

BIG = 300_000


@dataclass(frozen=True)
class Mac:
    """A directory on a volume that clones, and what answers the calls there."""

    path: pathlib.Path
    ask: Callable[[int, int, bytes], bytes]
    platform: MacPlatform

    def put(self, name: str, content: bytes) -> pathlib.Path:
        path = self.path / name
        path.write_bytes(content)
        return path

    def link(self, source: pathlib.Path, mode: LinkMode) -> pathlib.Path:
        target = self.path / "target"
        link_file(source, target, mode=mode, platform=self.platform, strict=True)
        return target

    def place(self, path: pathlib.Path, offset: int = 0, length: int = BIG) -> tuple[int, int]:
        """Return how many bytes follow an offset of a file, and where they lie."""
        with opened(path) as file:
            os.fsync(file)
            asked = PLACE.pack(0, length, offset)
            _, told, place = PLACE.unpack(self.ask(file, F_LOG2PHYS_EXT, asked))
        return told, place


@contextmanager
def opened(path: pathlib.Path) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY)
    try:
        yield file
    finally:
        os.close(file)


@pytest.fixture
def holes_at() -> int:
    """Where holes lie: nowhere (0), or at -1."""
    return 0


@pytest.fixture
def mac(
    linkmode_fs_factory: Callable[[str], TestFilesystem],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    holes_at: int,
) -> Mac:
    if ON_A_MAC:
        return Mac(tmp_path, fcntl.fcntl, MacPlatform())
    ask = partial(darwin.log2phys, holes_at=holes_at)
    monkeypatch.setattr(MODULE, "_reader", lambda: PlaceReader(ask))
    path = linkmode_fs_factory("btrfs").path
    return Mac(path, ask, clonefile.platform(path))


both_ways = pytest.mark.parametrize(
    "holes_at",
    [0] if ON_A_MAC else [0, -1],
    ids=["as it is"] if ON_A_MAC else ["out of range", "at -1"],
)
"""Which of both a Mac says is for a Mac to tell."""


# What the call says.


def test_the_place_of_every_byte_is_told(mac: Mac) -> None:
    file = mac.put("a", os.urandom(BIG))
    position = 0
    while position < BIG:
        told, place = mac.place(file, position, BIG - position)
        assert told > 0
        assert place >= 0
        position += told


def test_a_byte_lies_as_far_behind_the_first_as_in_the_file(mac: Mac) -> None:
    file = mac.put("a", os.urandom(BIG))
    told, place = mac.place(file)
    assert told > 8192
    assert mac.place(file, 8192, 4096)[1] == place + 8192


def test_no_more_is_told_of_than_was_asked_for(mac: Mac) -> None:
    file = mac.put("a", os.urandom(BIG))
    assert mac.place(file, 0, 4096)[0] <= 4096


@both_ways
def test_a_hole_has_no_place(mac: Mac) -> None:
    file = mac.path / "a"
    with file.open("wb") as writing:
        writing.truncate(8 << 20)
        writing.seek(4 << 20)
        writing.write(os.urandom(BIG))
    found: object = None
    try:
        found = mac.place(file, 0, 8 << 20)
    except OSError as error:
        found = macos.ERRORS.get(error.errno or 0)
    assert found in ("ERANGE", (4 << 20, -1))
    assert mac.place(file, 4 << 20)[0] > 0


def test_a_question_without_sense_is_refused(mac: Mac) -> None:
    file = mac.put("a", os.urandom(BIG))
    with pytest.raises(OSError, match=r".") as caught:
        mac.place(file, 0, -1)
    assert macos.ERRORS[caught.value.errno or 0] == "EINVAL"


def test_a_clone_lies_where_its_source_does_and_a_copy_does_not(mac: Mac) -> None:
    file = mac.put("a", os.urandom(BIG))
    clone = mac.link(file, LinkMode.CLONE)
    assert mac.place(clone) == mac.place(file)
    copy = mac.put("b", file.read_bytes())
    assert mac.place(copy)[1] != mac.place(file)[1]


# What it is evidence of.


def test_a_clone_is_proven_by_its_place(mac: Mac) -> None:
    file = mac.put("a", os.urandom(BIG))
    found = evidence(file, mac.link(file, LinkMode.CLONE))
    assert (found.mode, found.proof) == (LinkMode.CLONE, Proof.SHARED_EXTENTS), found
    assert "flag" not in found.why  # there is none


def test_a_copy_is_proven_by_its_place(mac: Mac) -> None:
    file = mac.put("a", os.urandom(BIG))
    found = evidence(file, mac.link(file, LinkMode.COPY))
    assert (found.mode, found.proof) == (LinkMode.COPY, Proof.DIFFERENT_EXTENTS), found


@both_ways
def test_a_clone_with_holes_is_proven_by_what_it_has(mac: Mac) -> None:
    file = mac.path / "a"
    with file.open("wb") as writing:
        writing.truncate(8 << 20)
        for offset in (1 << 20, 4 << 20):
            writing.seek(offset)
            writing.write(os.urandom(BIG))
    found = evidence(file, mac.link(file, LinkMode.CLONE))
    assert (found.mode, found.proof) == (LinkMode.CLONE, Proof.SHARED_EXTENTS), found


def test_a_clone_that_was_written_over_with_the_same_bytes_is_shared_in_part(mac: Mac) -> None:
    content = os.urandom(BIG)
    file = mac.put("a", content)
    clone = mac.link(file, LinkMode.CLONE)
    with clone.open("r+b") as writing:
        writing.seek(65536)
        writing.write(content[65536 : 2 * 65536])
    found = evidence(file, clone)
    assert (found.mode, found.proof) == (None, Proof.PARTLY_SHARED), found


@pytest.mark.skipif(ON_A_MAC, reason="not applicable: data lies inside metadata on btrfs only")
@pytest.mark.parametrize("mode", [LinkMode.CLONE, LinkMode.COPY])
def test_data_of_which_no_place_is_told_proves_independence_and_no_more(
    mac: Mac, mode: LinkMode
) -> None:
    file = mac.put("a", b"few bytes")
    found = evidence(file, mac.link(file, mode))
    assert (found.mode, found.proof) == (None, Proof.INDEPENDENCE), found
    assert found.candidates == {LinkMode.CLONE, LinkMode.COPY}


# How answers are read.


def read(path: pathlib.Path, ask: Callable[[int, int, bytes], bytes]) -> list[Extent]:
    with opened(path) as file:
        return PlaceReader(ask).both(file, file)[0]


def refusing(name: str) -> Callable[[int, int, bytes], bytes]:
    def ask(_file: int, _command: int, _argument: bytes) -> bytes:
        raise darwin_error(name)

    return ask


@pytest.mark.parametrize("name", ["ERANGE", "ENOTSUP"])
def test_data_without_a_place_is_told_as_such(tmp_path: pathlib.Path, name: str) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x" * 5000)
    assert read(file, refusing(name)) == [Extent(0, 0, 5000, ExtentFlag.UNKNOWN)]


def test_another_error_is_told(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x" * 5000)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        read(file, refusing("EIO"))


@pytest.mark.parametrize(("told", "place"), [(0, 4096), (-1, 4096), (4096, -1)])
def test_an_answer_that_leads_nowhere_is_no_place(
    tmp_path: pathlib.Path, told: int, place: int
) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x" * 5000)
    assert read(file, lambda *_: PLACE.pack(0, told, place)) == [
        Extent(0, 0, 5000, ExtentFlag.UNKNOWN)
    ]


def test_a_file_in_pieces_is_read_to_its_end(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x" * 10_000)

    def ask(_file: int, _command: int, argument: bytes) -> bytes:
        _, length, offset = PLACE.unpack(argument)
        return PLACE.pack(0, min(4096, length), 1_000_000 - 2 * offset)

    found = read(file, ask)
    assert [(each.logical, each.length) for each in found] == [
        (0, 4096),
        (4096, 4096),
        (8192, 1808),
    ]
    assert all(each.shared for each in found)


def test_an_empty_file_is_not_asked_for(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").touch()
    assert read(tmp_path / "a", refusing("EIO")) == []


# Whether it could be a clone.


@pytest.mark.skipif(ON_A_MAC, reason="not applicable: the model stands on Linux")
@pytest.mark.parametrize(
    ("volume", "expected"),
    [("btrfs", Trial(possible=True)), ("tmpfs", Trial(possible=False, error="ENOTSUP"))],
)
@pytest.mark.parametrize("held", [False, True])
def test_a_clone_is_tried_by_making_one_and_leaves_no_trace(
    linkmode_fs_factory: Callable[[str], TestFilesystem],
    volume: str,
    expected: Trial,
    *,
    held: bool,
) -> None:
    path = linkmode_fs_factory(volume).path
    (path / "a").write_bytes(os.urandom(BIG))
    if held:
        clonefile.make_immutable(str(path / "a"))
    os.utime(path, ns=(1, 2))
    model = clonefile.platform(path, quirks={Quirk.FLAGS})
    with opened(path / "a") as file, opened(path) as directory:
        assert try_clonefile(file, directory, model.calls) == expected
    assert os.listdir(path) == ["a"]
    assert path.stat().st_mtime_ns == 2
