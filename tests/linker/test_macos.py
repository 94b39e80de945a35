"""The macOS primitives, over the model of its calls: numbers, attributes, what is staged how."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from linker import LinkMode, link_tree
from linker.conditions import TABLES, Condition, Primitive, condition_of
from linker.platforms.base import ClonesDirectories, Failed
from linker.platforms.macos import CALLS, ERRORS, NUMBERS, MacPlatform
from pytest_linkmode.models import clonefile
from tests.linker import trees
from tests.linker.scenes import EXISTING, Scene
from tests.linker.seams import REFLINKING
from tests.linker.verdicts import Ended, wrong

pytestmark = pytest.mark.usefixtures("counted")

EVERY_WAY = {"atomic": True, "item-by-item": False}


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *[("EDEADLK", 11), ("EAGAIN", 35), ("ENOTSUP", 45), ("ELOOP", 62), ("ENAMETOOLONG", 63)],
        *[("ENOTEMPTY", 66), ("EDQUOT", 69), ("ENOSYS", 78), ("ENOATTR", 93)],
        *[("EOPNOTSUPP", 102), ("EQFULL", 106)],
    ],
)
def test_darwins_numbers_are_its_own(name: str, number: int) -> None:
    assert NUMBERS[name] == number
    assert ERRORS[number] == name
    assert MacPlatform().error_name(OSError(number, "")) == name


def test_the_tables_speak_of_errors_that_darwin_has() -> None:
    _, special = TABLES["macos"]
    assert {name for names in special.values() for name in names} - set(NUMBERS) == {"KEPT"}


def test_two_numbers_for_what_is_not_supported_mean_the_same() -> None:
    for name in ("ENOTSUP", "EOPNOTSUPP"):
        assert condition_of("macos", Primitive.CLONE_FILE, name) is Condition.UNSUPPORTED


def test_a_system_without_these_calls_says_so(ground: str) -> None:
    directory = os.open(ground, os.O_RDONLY)
    try:
        with pytest.raises(Failed) as caught:
            MacPlatform(CALLS).clone_directory(directory, directory, "b")
    finally:
        os.close(directory)
    assert MacPlatform().error_name(caught.value.error) == "ENOSYS"


def test_only_macos_clones_directories() -> None:
    from linker.platforms.linux import LinuxPlatform

    offered = [name for name in vars(ClonesDirectories) if not name.startswith("_")]
    assert offered
    for name in offered:
        assert hasattr(MacPlatform(), name)
        assert not hasattr(LinuxPlatform(), name)


# Copies of files with holes.

PIECE = 70_000
SPARSE = 4 << 20


@pytest.fixture
def sparse(scene: str) -> bytes:
    """Make a file with holes and data of all kinds; return what it reads as."""
    content = bytearray(SPARSE)
    pieces = {
        0: trees.noise(10),
        1 << 20: trees.noise(PIECE),
        (2 << 20) - 100: trees.noise(100, 1) + bytes(300_000) + trees.noise(PIECE, 2),
        SPARSE - 1: b"e",
    }
    with open(f"{scene}/sparse", "wb") as writing:
        writing.truncate(SPARSE)
        for offset, data in pieces.items():
            writing.seek(offset)
            writing.write(data)
            content[offset : offset + len(data)] = data
    assert os.stat(f"{scene}/sparse").st_blocks * 512 < SPARSE, "no filesystem with holes"
    return bytes(content)


def glitch(descriptor: int, position: int, whence: int) -> int:
    """Do as lseek of macOS at its worst: there is no data where one asks in the middle of it."""
    if whence in (os.SEEK_DATA, os.SEEK_HOLE):
        raise OSError(errno.ENXIO, "no data")
    return os.lseek(descriptor, position, whence)


def copied(
    scene: str,
    read: Callable[[int, list[memoryview]], int] = CALLS.read,
    write: Callable[[int, memoryview], int] = CALLS.write,
) -> bytes:
    """Copy the file with holes; return the copy."""
    platform = MacPlatform(replace(CALLS, seek=glitch, read=read, write=write))
    directory = os.open(scene, os.O_RDONLY)
    try:
        platform.copy_file(directory, "sparse", directory, "copy")
    finally:
        os.close(directory)
    with open(f"{scene}/copy", "rb") as file:
        return file.read()


def test_a_file_with_holes_is_copied_without_asking_where_its_data_is(
    scene: str, sparse: bytes
) -> None:
    assert copied(scene) == sparse
    seen, made = (os.stat(f"{scene}/{name}") for name in ("sparse", "copy"))
    assert 0 < made.st_blocks <= seen.st_blocks
    assert (made.st_mode, made.st_mtime_ns) == (seen.st_mode, seen.st_mtime_ns)


def test_reads_and_writes_of_less_than_was_asked_for_go_on(scene: str, sparse: bytes) -> None:
    def read(file: int, parts: list[memoryview]) -> int:
        return os.readv(file, [parts[0][:9_001]])

    def write(file: int, part: memoryview) -> int:
        return os.write(file, part[:5_003])

    assert copied(scene, read=read, write=write) == sparse


@pytest.mark.parametrize("lacking", ["read", "write"])
def test_a_file_with_holes_that_cannot_be_copied_to_its_end_leaves_nothing(
    scene: str, sparse: bytes, lacking: str
) -> None:
    left = 2

    def goes_on(call: str) -> bool:
        nonlocal left
        left -= call == lacking
        return left >= 0

    def read(file: int, parts: list[memoryview]) -> int:
        return CALLS.read(file, parts) if goes_on("read") else 0

    def write(file: int, part: memoryview) -> int:
        return CALLS.write(file, part) if goes_on("write") else 0

    with pytest.raises(Failed) as caught:
        copied(scene, read, write)
    assert caught.value.primitive is Primitive.COPY
    assert MacPlatform().error_name(caught.value.error) == "SHORT"
    assert os.listdir(scene) == ["sparse"]


@pytest.mark.parametrize("way", EVERY_WAY)
@pytest.mark.parametrize("existing", [None, EXISTING], ids=["fresh-target", "existing-target"])
@pytest.mark.parametrize("mode", LinkMode)
def test_a_tree_is_linked_by_the_rules(
    scene: str, user: str, mode: LinkMode, existing: object, way: str
) -> None:
    stage = Scene(scene, existing=EXISTING if existing else None)
    platform = clonefile.platform(scene, atomic=EVERY_WAY[way], host=REFLINKING)
    report = link_tree(stage.source, stage.target, mode=mode, platform=platform)
    assert not report.transitions
    assert wrong(stage, mode, Ended(report, None)) == []
