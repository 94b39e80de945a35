"""The primitives on Linux: each does what its name says, or fails and leaves nothing behind."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import fcntl
import os
import platform as platform_facts
import re
import signal
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from linker import LinkMode, link_tree
from linker.conditions import Primitive
from linker.journal import _is_ours
from linker.platforms import linux
from linker.platforms.base import CheckFailed, Failed, Kind, Look, copy_range
from linker.platforms.linux import (
    CALLS,
    FS_IOC_FSGETXATTR,
    FS_IOC_GETFLAGS,
    INHERITED_FLAGS,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    Calls,
    LinuxPlatform,
)
from pytest_linkmode.faults.inprocess import injected
from pytest_linkmode.layouts import TestFilesystem
from tests.linker import attributes, trees, users
from tests.linker.seams import REFLINKING, WITHOUT_FLAGS, WITHOUT_FLAGS_AND_LINKS, Tap, descriptors
from tests.linker.trees import PAST, Directory, File, Symlink
from tests.patience import SECONDS

REAL = LinuxPlatform()


class Room:
    """Two open directories with their paths, and a platform."""

    def __init__(self, root: str, calls: Calls = REFLINKING) -> None:
        self.root = root
        self.platform = LinuxPlatform(calls)
        self.here, self.there = f"{root}/here", f"{root}/there"
        for path in (self.here, self.there):
            os.makedirs(path, exist_ok=True)
        self.source = os.open(self.here, os.O_RDONLY | os.O_DIRECTORY)
        self.target = os.open(self.there, os.O_RDONLY | os.O_DIRECTORY)

    def close(self) -> None:
        os.close(self.source)
        os.close(self.target)

    def put(self, name: str, entry: trees.Entry) -> None:
        """Put an entry into the source."""
        trees.build(f"{self.root}/put", {name: entry})
        os.rename(f"{self.root}/put/{name}", f"{self.here}/{name}")
        os.rmdir(f"{self.root}/put")

    def with_calls(self, **calls: Any) -> LinuxPlatform:
        """Return a platform in which some system calls are other functions."""
        return LinuxPlatform(dataclasses.replace(REFLINKING, **calls))


@pytest.fixture
def room(scene: str) -> Iterator[Room]:
    made = Room(scene)
    held = descriptors()
    yield made
    assert descriptors() == held, "a primitive keeps descriptors open"
    made.close()


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def read(path: str) -> bytes:
    with open(path, "rb") as reading:
        return reading.read()


def holes(path: str) -> list[tuple[int, int]]:
    """Return where a file has data, as (from, to)."""
    found = []
    size = os.path.getsize(path)
    with open(path, "rb") as reading:
        position = 0
        while position < size:
            try:
                data = os.lseek(reading.fileno(), position, os.SEEK_DATA)
            except OSError:  # ENXIO: a hole up to the end
                break
            position = os.lseek(reading.fileno(), data, os.SEEK_HOLE)
            found.append((data, position))
    return found


# Files.

FILES = ["clone_file", "copy_file"]


@pytest.mark.parametrize("primitive", FILES)
@pytest.mark.parametrize("size", [0, 1, 4096, 262_143, 262_144, 262_145, 1_000_000])
def test_a_new_file_has_the_bytes_and_the_stat_of_its_source(
    room: Room, primitive: str, size: int
) -> None:
    room.put("f", File(trees.noise(size), mode=0o751, mtime_ns=PAST - 1))
    inode = getattr(room.platform, primitive)(room.source, "f", room.target, "g")
    seen = os.stat(f"{room.there}/g")
    assert (seen.st_mode & 0o7777, seen.st_mtime_ns, seen.st_ino) == (0o751, PAST - 1, inode)
    assert inode != os.stat(f"{room.here}/f").st_ino
    assert read(f"{room.there}/g") == trees.noise(size)


@pytest.mark.parametrize("primitive", FILES)
@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_the_umask_takes_nothing_away(room: Room, primitive: str, mask: int) -> None:
    room.put("f", File(b"f", mode=0o664))
    with umask(mask):
        getattr(room.platform, primitive)(room.source, "f", room.target, "g")
        handle = room.platform.make_directory(room.target, "d", 0o755)
        os.close(handle)
    assert os.stat(f"{room.there}/g").st_mode & 0o7777 == 0o664


@pytest.mark.parametrize("primitive", FILES)
def test_setuid_and_setgid_of_files_are_not_carried(room: Room, primitive: str) -> None:
    room.put("f", File(b"f", mode=0o6755))
    getattr(room.platform, primitive)(room.source, "f", room.target, "g")
    assert os.stat(f"{room.there}/g").st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("primitive", FILES)
def test_a_file_without_write_permission_can_be_made(room: Room, primitive: str) -> None:
    room.put("f", File(b"readable", mode=0o400))
    getattr(room.platform, primitive)(room.source, "f", room.target, "g")
    assert os.stat(f"{room.there}/g").st_mode & 0o7777 == 0o400
    assert read(f"{room.there}/g") == b"readable"


@pytest.mark.parametrize("primitive", FILES)
def test_nothing_that_is_there_is_replaced_or_written_to(room: Room, primitive: str) -> None:
    room.put("f", File(b"new"))
    trees.build(f"{room.there}/kept", {"f": File(b"old")})
    os.symlink("kept/f", f"{room.there}/ln")
    for name in ("kept", "ln"):
        with pytest.raises(Failed) as caught:
            getattr(room.platform, primitive)(room.source, "f", room.target, name)
        assert caught.value.error.errno == errno.EEXIST
        assert caught.value.primitive is Primitive.CREATE
    assert read(f"{room.there}/kept/f") == b"old"


@pytest.mark.parametrize("primitive", FILES)
def test_what_is_no_file_is_not_read(room: Room, primitive: str) -> None:
    room.put("ln", Symlink("/etc/passwd"))
    os.mkfifo(f"{room.here}/fifo")
    for name in ("ln", "fifo", "missing"):
        with pytest.raises(Failed) as caught:
            getattr(room.platform, primitive)(room.source, name, room.target, "g")
        assert caught.value.primitive is Primitive.READ
        if name == "fifo":
            error = caught.value.error
            assert (error.errno, error.strerror) == (errno.EINVAL, "no longer a regular file")
            assert error.filename == "fifo"
    assert os.listdir(room.there) == []


@pytest.mark.parametrize("name", ["ln", "fifo"])
def test_what_is_no_file_gets_no_further_name(room: Room, name: str) -> None:
    room.put("f", File(b"what a symlink leads to"))
    room.put("ln", Symlink("f"))
    os.mkfifo(f"{room.here}/fifo")
    with pytest.raises(Failed) as caught:
        room.platform.hardlink(room.source, name, room.target, "g")
    error = caught.value.error
    assert caught.value.primitive is Primitive.READ
    assert (error.errno, error.strerror) == (errno.EINVAL, "no longer a regular file")
    assert error.filename == name
    assert os.listdir(room.there) == []


def test_what_another_linker_has_put_there_since_is_not_taken_away(room: Room) -> None:
    room.put("f", File(b"a file"))

    def link(*given: Any, **where: Any) -> None:
        os.link(*given, **where)
        os.unlink(f"{room.there}/g")
        os.symlink("theirs", f"{room.there}/g")

    room.with_calls(link=link).hardlink(room.source, "f", room.target, "g")
    assert os.readlink(f"{room.there}/g") == "theirs"


@pytest.mark.parametrize("directly", [False, True])
@pytest.mark.parametrize("mode", [0o400, 0o640])
def test_a_file_is_never_more_open_than_its_source(
    room: Room, mode: int, *, directly: bool
) -> None:
    room.put("f", File(b"secret", mode=mode))
    seen: list[int] = []

    def write(handle: int, data: Any) -> int:
        seen.append(os.fstat(handle).st_mode & 0o7777)
        return os.write(handle, data)

    platform = room.with_calls(write=write)
    with umask(0):
        if directly:
            platform.copy_directly(room.source, "f", room.target, "g", _place_nothing)
        else:
            platform.copy_file(room.source, "f", room.target, "g")
    assert seen == [mode]


def test_no_call_is_made_that_changes_nothing(room: Room) -> None:
    """Permission bits that are right are not set, nor is a file without holes asked for them."""
    room.put("f", File(trees.noise(10_000), mode=0o644))
    tap = Tap()
    with umask(0o022):
        tap.platform.copy_file(room.source, "f", room.target, "g")
    assert not {"chmod", "seek", "truncate"} & set(tap.names)
    with umask(0o077):
        tap.platform.copy_file(room.source, "f", room.target, "h")
    assert tap.names.count("chmod") == 1


STEPS = [
    *[("clone_file", call) for call in ("ficlone", "fstat", "chmod", "utime")],
    *[("copy_file", call) for call in ("read", "write", "fstat", "chmod", "utime")],
]


@pytest.mark.parametrize(("primitive", "call"), STEPS)
def test_a_file_that_did_not_become_whole_is_gone(room: Room, primitive: str, call: str) -> None:
    room.put("f", File(b"f", mode=0o666))
    asked = 0

    def fail(*arguments: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        if call == "fstat" and asked == 1:
            return os.fstat(*arguments)  # of the source
        raise injected(errno.EIO)

    make = getattr(room.with_calls(**{call: fail}), primitive)
    with umask(0o022), pytest.raises(Failed) as caught:
        make(room.source, "f", room.target, "g")
    assert caught.value.error.errno == errno.EIO
    assert os.listdir(room.there) == []


def test_holes_stay_holes(room: Room) -> None:
    size = 4 << 20
    with open(f"{room.here}/sparse", "wb") as writing:
        writing.truncate(size)
        writing.seek(1 << 20)
        writing.write(trees.noise(10_000))
        writing.seek(3 << 20)
        writing.write(trees.noise(70_000, 1))
        writing.seek(2 << 20)
        writing.write(trees.noise(300_000, 2))  # more than one read
    assert 0 < len(holes(f"{room.here}/sparse")) < 4, "no filesystem with holes"
    room.platform.copy_file(room.source, "sparse", room.target, "copy")
    assert read(f"{room.there}/copy") == read(f"{room.here}/sparse")
    assert holes(f"{room.there}/copy") == holes(f"{room.here}/sparse")
    blocks = [os.stat(path).st_blocks for path in (f"{room.here}/sparse", f"{room.there}/copy")]
    assert blocks[0] == blocks[1] < size // 512


@pytest.mark.parametrize("layout", ["all hole", "hole at the end", "hole first"])
def test_holes_at_the_edges(room: Room, layout: str) -> None:
    with open(f"{room.here}/f", "wb") as writing:
        if layout == "hole at the end":
            writing.write(b"data")
        writing.truncate(1 << 20)
        if layout == "hole first":
            writing.seek(0, os.SEEK_END)
            writing.write(b"data")
    room.platform.copy_file(room.source, "f", room.target, "g")
    assert read(f"{room.there}/g") == read(f"{room.here}/f")
    assert holes(f"{room.there}/g") == holes(f"{room.here}/f")


def test_a_file_with_holes_that_becomes_shorter_meanwhile_is_not_copied(room: Room) -> None:
    with open(f"{room.here}/f", "wb") as writing:
        for part in range(4):
            writing.seek(part << 20)
            writing.write(trees.noise(70_000, part))

    def seek(handle: int, position: int, whence: int) -> int:
        if whence == os.SEEK_DATA and position > 1 << 20:
            os.truncate(f"{room.here}/f", 1 << 20)
        return os.lseek(handle, position, whence)

    with pytest.raises(Failed) as caught:
        room.with_calls(seek=seek).copy_file(room.source, "f", room.target, "g")
    assert caught.value.primitive is P.COPY
    assert room.platform.error_name(caught.value.error) == "SHORT"
    size = (3 << 20) + 70_000
    assert str(caught.value.error) == f"claimed success with {1 << 20} of {size} bytes"
    assert os.listdir(room.there) == []


def test_a_file_whose_size_says_nothing_of_its_content_is_not_copied(room: Room) -> None:
    proc = room.platform.open_root("/proc")
    try:
        with pytest.raises(Failed, match="its size is said to be 0") as caught:
            room.platform.copy_file(proc, "version", room.target, "g")
    finally:
        room.platform.close(proc)
    assert caught.value.primitive is P.COPY
    assert room.platform.error_name(caught.value.error) == "SHORT"
    assert os.listdir(room.there) == []


def test_a_file_that_grows_when_it_was_found_empty_is_copied_as_it_was(room: Room) -> None:
    room.put("f", File())

    def read_then(handle: int, views: Any) -> int:
        with open(f"{room.here}/f", "wb") as writing:
            writing.write(b"more")
        return os.readv(handle, views)

    room.with_calls(read=read_then).copy_file(room.source, "f", room.target, "g")
    assert read(f"{room.there}/g") == b""


def test_threads_that_copy_by_one_platform_copy_what_is_theirs(room: Room) -> None:
    for number in range(24):
        room.put(f"f{number}", File(trees.noise(700_000, number)))

    def copy(number: int) -> None:
        room.platform.copy_file(room.source, f"f{number}", room.target, f"g{number}")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(copy, range(24)))
    for number in range(24):
        assert read(f"{room.there}/g{number}") == trees.noise(700_000, number), number


def test_a_filesystem_that_tells_no_holes_is_copied_whole(room: Room) -> None:
    with open(f"{room.here}/f", "wb") as writing:
        writing.truncate(1 << 20)
        writing.write(b"data")

    def seek(handle: int, position: int, whence: int) -> int:
        if whence in (os.SEEK_DATA, os.SEEK_HOLE):
            raise injected(errno.EINVAL)
        return os.lseek(handle, position, whence)

    room.with_calls(seek=seek).copy_file(room.source, "f", room.target, "g")
    assert read(f"{room.there}/g") == read(f"{room.here}/f")


def test_copy_reads_and_writes_every_byte_itself(room: Room) -> None:
    """Not copy_file_range, which may share what it was asked to copy."""
    content = trees.noise(600_000)
    room.put("f", File(content))
    passed = []

    def write(handle: int, data: Any) -> int:
        passed.append(bytes(data))
        return os.write(handle, data)

    room.with_calls(write=write).copy_file(room.source, "f", room.target, "g")
    assert b"".join(passed) == content


def test_partial_reads_and_writes_are_gone_on_with(room: Room) -> None:
    content = trees.noise(10_000)
    room.put("f", File(content))
    platform = room.with_calls(
        write=lambda handle, data: os.write(handle, data[:777]),
        read=lambda handle, buffers: os.readv(handle, [buffers[0][:1234]]),
    )
    platform.copy_file(room.source, "f", room.target, "g")
    assert read(f"{room.there}/g") == content


@pytest.mark.parametrize(
    ("calls", "name"),
    [
        ({"write": lambda handle, data: 0}, "NOEFFECT"),
        ({"read": lambda handle, buffers: 0}, "NOEFFECT"),
        ({"ficlone": lambda writing, reading: None}, "NOEFFECT"),
        ({"ficlone": lambda writing, reading: os.ftruncate(writing, 5)}, "SHORT"),
    ],
)
def test_a_call_that_claims_success_and_did_less_is_noticed(
    room: Room, calls: dict[str, Any], name: str
) -> None:
    room.put("f", File(b"ten bytes."))
    platform = room.with_calls(**calls)
    primitive = platform.clone_file if "ficlone" in calls else platform.copy_file
    with pytest.raises(Failed) as caught:
        primitive(room.source, "f", room.target, "g")
    assert isinstance(caught.value.error, CheckFailed)
    assert platform.error_name(caught.value.error) == name
    done = 5 if name == "SHORT" else 0
    assert str(caught.value.error) == f"claimed success with {done} of 10 bytes"
    assert os.listdir(room.there) == []


def test_a_copy_says_how_far_it_came(room: Room) -> None:
    room.put("f", File(trees.noise(600_000)))
    passed = 0

    def write(handle: int, data: Any) -> int:
        nonlocal passed
        wrote = os.write(handle, data[: min(100_000, 550_000 - passed)])
        passed += wrote
        return wrote

    with pytest.raises(Failed) as caught:
        room.with_calls(write=write).copy_file(room.source, "f", room.target, "g")
    assert str(caught.value.error) == "claimed success with 550000 of 600000 bytes"


def test_a_source_that_shrinks_under_the_copy_is_noticed(room: Room) -> None:
    room.put("f", File(trees.noise(500_000)))

    def shrink(handle: int, buffers: list[memoryview]) -> int:
        got = os.readv(handle, buffers)
        os.truncate(f"{room.here}/f", 1)
        return got

    platform = room.with_calls(read=shrink)
    with pytest.raises(Failed) as caught:
        platform.copy_file(room.source, "f", room.target, "g")
    assert platform.error_name(caught.value.error) == "SHORT"
    assert str(caught.value.error) == "claimed success with 262144 of 500000 bytes"
    assert os.listdir(room.there) == []


@pytest.mark.parametrize("primitive", ["clone_directly", "copy_directly"])
def test_a_file_placed_directly_has_its_name_only_when_it_is_whole(
    room: Room, primitive: str
) -> None:
    room.put("f", File(trees.noise(5000), mode=0o640))
    told = []

    def placing(inode: int, now: int) -> None:
        told.append((inode, now, os.listdir(room.there)))

    inode = getattr(room.platform, primitive)(room.source, "f", room.target, "g", placing)
    seen = os.stat(f"{room.there}/g")
    ((at_first, now, names),) = told
    assert (at_first, names) == (inode, [])
    assert abs(now - seen.st_ctime_ns) < 5_000_000_000
    assert (seen.st_ino, seen.st_mode & 0o7777, seen.st_nlink) == (inode, 0o640, 1)
    assert seen.st_mtime_ns == PAST
    assert read(f"{room.there}/g") == trees.noise(5000)


@pytest.mark.parametrize("primitive", ["clone_directly", "copy_directly"])
def test_a_file_placed_directly_replaces_nothing(room: Room, primitive: str) -> None:
    room.put("f", File(b"new"))
    trees.build(f"{room.there}/d", {"g": File(b"old")})
    os.rename(f"{room.there}/d/g", f"{room.there}/g")
    for name in ("g", "d"):
        with pytest.raises(Failed) as caught:
            getattr(room.platform, primitive)(room.source, "f", room.target, name, lambda *_: None)
        assert caught.value.primitive is Primitive.RENAME
        assert caught.value.error.errno == errno.EEXIST
    assert read(f"{room.there}/g") == b"old"


# Links.


def test_a_hard_link_is_the_same_file(room: Room) -> None:
    room.put("f", File(b"f", mode=0o640))
    made = room.platform.hardlink(room.source, "f", room.target, "g")
    assert made == -os.stat(f"{room.here}/f").st_ino
    assert os.path.samefile(f"{room.here}/f", f"{room.there}/g")


@pytest.mark.parametrize("refusals", [1, 2])
def test_a_hard_link_that_cannot_be_looked_at_was_made_all_the_same(
    room: Room, refusals: int
) -> None:
    """One refusal may pass; nobody knows the inode after two."""
    room.put("f", File(b"f"))
    answers = [injected(errno.EIO)] * refusals

    def stat(name: str, **where: Any) -> os.stat_result:
        if answers:
            raise answers.pop()
        return os.stat(name, **where)

    made = room.with_calls(stat=stat).hardlink(room.source, "f", room.target, "g")
    assert made == (-os.stat(f"{room.here}/f").st_ino if refusals == 1 else 0)
    assert not answers
    assert os.path.samefile(f"{room.here}/f", f"{room.there}/g")


def test_a_directory_is_told_with_its_owner(room: Room) -> None:
    seen = os.stat(room.here)
    facts = room.platform.facts(room.source)
    assert facts[:2] == (seen.st_dev, seen.st_ino)
    assert facts.owner == os.geteuid()


@pytest.mark.parametrize(
    ("primitive", "call"),
    [("hardlink", "link"), ("symlink", "symlink"), ("recreate_symlink", "symlink")],
)
def test_a_link_that_is_claimed_and_not_there_is_noticed(
    room: Room, primitive: str, call: str
) -> None:
    room.put("f", File(b"f"))
    room.put("ln", Symlink("f"))
    platform = room.with_calls(**{call: lambda *_, **__: None, "utime": lambda *_, **__: None})
    arguments: tuple[Any, ...] = (room.source, "f", room.target, "g")
    if primitive == "symlink":
        arguments = ("/somewhere", room.target, "g")
    elif primitive == "recreate_symlink":
        arguments = (room.source, "ln", room.target, "g")
    with pytest.raises(Failed) as caught:
        getattr(platform, primitive)(*arguments)
    assert platform.error_name(caught.value.error) == "NOEFFECT"
    named = call if primitive == "recreate_symlink" else primitive
    assert str(caught.value.error) == f"{named} claimed success and made nothing"


@pytest.mark.parametrize("primitive", ["hardlink", "copy_directly"])
def test_a_name_that_another_took_meanwhile_was_given_all_the_same(
    room: Room, primitive: str
) -> None:
    """Even by a symlink to nowhere: what is there is looked at, not what it leads to."""
    room.put("f", File(b"f"))

    def link(*names: Any, **where: Any) -> None:
        os.link(*names, **where)
        os.unlink(f"{room.there}/g")
        os.symlink("nowhere", f"{room.there}/g")

    DOING[primitive](room.with_calls(link=link), room)
    assert os.readlink(f"{room.there}/g") == "nowhere"


def test_a_file_placed_directly_that_is_claimed_and_not_there_is_noticed(room: Room) -> None:
    room.put("f", File(b"f"))
    with pytest.raises(Failed) as caught:
        DOING["copy_directly"](room.with_calls(link=lambda *_, **__: None), room)
    assert caught.value.primitive is Primitive.RENAME
    assert str(caught.value.error) == "rename claimed success and made nothing"


def test_a_symlink_is_recreated_with_its_text_and_time(room: Room) -> None:
    for number, text in enumerate(["f", "/nowhere", "..", "\udcff odd \n", "x" * 3000]):
        room.put(f"ln{number}", Symlink(text, mtime_ns=PAST + number))
        inode = room.platform.recreate_symlink(
            room.source, f"ln{number}", room.target, f"ln{number}"
        )
        seen = os.lstat(f"{room.there}/ln{number}")
        assert os.readlink(f"{room.there}/ln{number}") == text
        assert (seen.st_mtime_ns, seen.st_ino) == (PAST + number, inode)


# Directories.


def test_a_directory_takes_mode_and_times_whatever_the_umask(room: Room) -> None:
    with umask(0o777):
        handle = room.platform.make_directory(room.target, "d", 0o755)
    seen = room.platform.facts(handle)
    wanted = Directory(0o1751, PAST)

    @dataclasses.dataclass
    class Stamp:
        mode: int
        atime_ns: int
        mtime_ns: int

    room.platform.stamp_directory(handle, seen.mode, Stamp(wanted.mode, PAST - 5, PAST))
    room.platform.close(handle)
    found = os.stat(f"{room.there}/d")
    assert (found.st_mode & 0o7777, found.st_mtime_ns) == (0o1751, PAST)


def test_a_directory_is_nobody_elses_unless_it_is_said(room: Room) -> None:
    with umask(0):
        room.platform.close(room.platform.make_directory(room.target, "d"))
    assert os.stat(f"{room.there}/d").st_mode & 0o7777 == 0o700


@pytest.mark.parametrize("call", ["open", "fstat", "chmod"])
def test_a_directory_that_an_odd_umask_shuts_for_good_is_removed(room: Room, call: str) -> None:
    """Its owner gets in by changing its bits first; that may fail as well."""
    refusal = injected(errno.EIO)

    def fail(*given: Any, **options: Any) -> Any:
        raise refusal

    def opening(name: str, flags: int, **options: Any) -> int:
        if not flags & os.O_PATH:
            raise injected(errno.EACCES)
        return fail() if call == "open" else os.open(name, flags, **options)

    platform = room.with_calls(**{call: fail, "open": opening})
    with pytest.raises(Failed) as caught:
        platform.make_directory(room.target, "d")
    assert (caught.value.primitive, caught.value.error) == (Primitive.OPEN, refusal)
    assert caught.value.__cause__ is refusal
    assert os.listdir(room.there) == []


def test_a_directory_that_cannot_be_opened_after_it_was_made_is_removed(room: Room) -> None:
    def refuse(path: str, flags: int, *more: Any, **options: Any) -> int:
        raise injected(errno.EMFILE)

    with pytest.raises(Failed) as caught:
        room.with_calls(open=refuse).make_directory(room.target, "d")
    assert caught.value.primitive is Primitive.OPEN
    assert os.listdir(room.there) == []


def test_an_inherited_group_bit_is_kept(room: Room) -> None:
    os.chmod(room.there, 0o2755)
    handle = room.platform.make_directory(room.target, "d", 0o755)
    seen = room.platform.facts(handle)
    assert seen.mode & 0o2000

    @dataclasses.dataclass
    class Stamp:
        mode: int = 0o750
        atime_ns: int = PAST
        mtime_ns: int = PAST

    room.platform.stamp_directory(handle, seen.mode, Stamp())
    room.platform.close(handle)
    assert os.stat(f"{room.there}/d").st_mode & 0o7777 == 0o2750


def test_opening_follows_no_symlink(room: Room) -> None:
    os.symlink(room.here, f"{room.there}/ln")
    with pytest.raises(Failed) as caught:
        room.platform.open_below(room.target, "ln", Primitive.READ)
    assert caught.value.primitive is Primitive.READ
    assert room.platform.error_name(caught.value.error) in ("ENOTDIR", "ELOOP")


def test_a_listing_tells_kinds_in_the_order_of_names(room: Room) -> None:
    trees.build(
        f"{room.there}/d",
        {"b": File(), "a": File(), "D": Directory(), "c": Directory(), "ln": Symlink("c")},
    )
    os.mkfifo(f"{room.there}/d/fifo")
    handle = room.platform.open_below(room.target, "d")
    listing = room.platform.entries(handle)
    assert listing == room.platform.entries_once(handle)
    assert listing == (["a", "b"], ["D", "c"], ["ln"], ["fifo"])
    assert listing.kinds()["ln"] is Kind.SYMLINK
    trees.build(f"{room.there}/d/late", {"x": File()})
    assert "late" in room.platform.entries(handle).directories
    room.platform.close(handle)


def test_looking_says_what_a_name_is_and_none_where_nothing_is(room: Room) -> None:
    room.put("f", File(b"four"))
    room.put("ln", Symlink("missing"))
    seen = room.platform.look(room.source, "f")
    assert seen is not None
    assert (seen.kind, seen.size, seen.inode) == (
        Kind.FILE,
        4,
        os.stat(f"{room.here}/f").st_ino,
    )
    dangling = room.platform.look(room.source, "ln")
    assert dangling is not None
    assert dangling.kind is Kind.SYMLINK
    assert room.platform.look(room.source, "missing") is None


@pytest.mark.linkmode(fs=["ext4", "xfs"])
def test_births_are_told_by_the_clock_of_changes(linkmode_fs: TestFilesystem) -> None:
    room = Room(str(linkmode_fs.path), CALLS)
    try:
        for number in range(2):
            if number:
                os.symlink("/x", f"{room.there}/{number}")
            else:
                os.mkdir(f"{room.there}/{number}")
            seen = room.platform.look(room.target, str(number))
            parent = room.platform.look(room.target, ".")
            assert seen is not None
            assert parent is not None
            assert room.platform.born(room.target, str(number)) == seen.changed_ns
            assert seen.changed_ns <= parent.changed_ns
            time.sleep(0.02)
            os.utime(f"{room.there}/{number}", follow_symlinks=False)
            later = room.platform.look(room.target, str(number))
            assert later is not None
            assert room.platform.born(room.target, str(number)) == seen.changed_ns
            assert seen.changed_ns < later.changed_ns
        assert room.platform.born(room.target, "missing") is None
    finally:
        room.close()


def test_births_do_not_matter_where_numbers_are_never_given_again(room: Room) -> None:
    room.put("f", File(b"f"))
    memory = room.with_calls(fstype=lambda handle: 0x01021994)
    assert memory.born(room.source, "f") is None
    untold = room.with_calls(fstype=lambda handle: 0xEF53, birth=lambda name, handle: None)
    assert untold.born(room.source, "f") is None


def test_a_handle_that_is_closed_twice_is_an_error(room: Room) -> None:
    """It could have hit another's descriptor."""
    handle = os.open(room.there, os.O_RDONLY)
    room.platform.close(handle)
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        room.platform.close(handle)
    assert caught.value.errno == errno.EBADF


def test_a_directory_is_writable_or_not_wherever_we_are(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(room.there)
    os.chmod(room.here, 0o555)
    allowed = os.geteuid() == 0
    assert room.platform.is_writable(room.source) is allowed
    assert room.platform.is_writable(room.target)
    monkeypatch.chdir(room.here)
    assert room.platform.is_writable(room.target)
    for bits in (0o600, 0o300):  # to go into it is not enough, nor to write
        os.chmod(room.there, bits)
        assert room.platform.is_writable(room.target) is (allowed or bits == 0o300)
    for path in (room.here, room.there):
        os.chmod(path, 0o755)


def test_looking_tells_what_the_system_tells(room: Room) -> None:
    room.put("f", File(b"12345"))
    room.put("ln", Symlink("f"))
    os.mkfifo(f"{room.here}/fifo")
    for name, kind in {"f": Kind.FILE, "ln": Kind.SYMLINK, "fifo": Kind.OTHER}.items():
        seen = os.lstat(f"{room.here}/{name}")
        assert room.platform.look(room.source, name) == Look(
            kind, seen.st_dev, seen.st_ino, seen.st_size, seen.st_ctime_ns
        )


def test_what_close_has_to_say_is_too_late_to_matter(room: Room) -> None:
    def close(handle: int) -> None:
        os.close(handle)
        raise injected(errno.EIO)

    handle = os.open(room.there, os.O_RDONLY)
    room.with_calls(close=close).close(handle)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)


# Names.

BOTH_WAYS = [
    pytest.param("place", "exchange", CALLS, id="atomic"),
    pytest.param("place_emulated", "exchange_emulated", WITHOUT_FLAGS, id="emulated"),
    pytest.param(
        "place_emulated", "exchange_emulated", WITHOUT_FLAGS_AND_LINKS, id="emulated-no-links"
    ),
]


@pytest.mark.parametrize(("place", "exchange", "calls"), BOTH_WAYS)
@pytest.mark.parametrize(
    "there", [File(b"old"), Symlink("old"), Directory()], ids=["file", "symlink", "directory"]
)
@pytest.mark.parametrize(
    "ours", [File(b"new"), Symlink("new"), Directory()], ids=["file", "symlink", "directory"]
)
def test_placing_replaces_nothing_and_exchanging_loses_nothing(
    room: Room, ours: trees.Entry, there: trees.Entry, place: str, exchange: str, calls: Calls
) -> None:
    room.put("n", ours)
    trees.build(f"{room.there}/d", {"n": there})
    os.rename(f"{room.there}/d/n", f"{room.there}/n")
    os.rmdir(f"{room.there}/d")
    before = trees.snapshot(room.here), trees.snapshot(room.there)
    platform = LinuxPlatform(calls)
    with pytest.raises(Failed) as caught:
        getattr(platform, place)(room.source, "n", room.target, "n")
    assert caught.value.primitive is Primitive.RENAME
    assert caught.value.error.errno == errno.EEXIST
    assert (trees.snapshot(room.here), trees.snapshot(room.there)) == before
    getattr(platform, place)(room.source, "n", room.target, "free")
    assert trees.snapshot(room.there)["free"] == before[0]["n"]
    os.rename(f"{room.there}/free", f"{room.here}/n")
    if Directory() not in (ours, there) or calls is CALLS:  # only files are ever exchanged
        getattr(platform, exchange)(room.source, "n", room.target, "n")
        assert trees.snapshot(room.there)["n"] == before[0]["n"]
        assert trees.snapshot(room.here)["n"] == before[1]["n"]
        assert os.listdir(room.here) == ["n"]


KINDS = pytest.mark.parametrize(
    "kind", [File(b"ours"), Symlink("nowhere"), Directory()], ids=["file", "symlink", "directory"]
)


def put_there(room: Room, name: str, entry: trees.Entry) -> None:
    """Put an entry into the target."""
    room.put(name, entry)
    os.rename(f"{room.here}/{name}", f"{room.there}/{name}")


@KINDS
def test_a_placing_that_is_claimed_and_did_nothing_is_noticed(
    room: Room, kind: trees.Entry
) -> None:
    room.put("n", kind)
    platform = room.with_calls(renameat2=lambda *_: None)
    with pytest.raises(Failed) as caught:
        platform.place(room.source, "n", room.target, "m")
    assert caught.value.primitive is Primitive.RENAME
    assert platform.error_name(caught.value.error) == "NOEFFECT"
    assert str(caught.value.error) == "rename claimed success and made nothing"


@KINDS
@pytest.mark.parametrize("others", ["took it away", "have a name like ours", "both"])
def test_what_others_do_behind_a_placing_is_not_taken_for_nothing(
    room: Room, kind: trees.Entry, others: str
) -> None:
    """Only an entry that still has its old name, where nobody has the new one, was not placed."""
    room.put("n", kind)

    def renameat2(*arguments: Any) -> None:
        REFLINKING.renameat2(*arguments)
        if others == "took it away":
            os.rename(f"{room.there}/m", f"{room.root}/away")
        else:
            room.put("n", File(b"theirs"))
        if others == "both":
            os.rename(f"{room.there}/m", f"{room.root}/away")
            put_there(room, "m", Symlink("nowhere"))

    before = trees.snapshot(room.here)["n"]
    room.with_calls(renameat2=renameat2).place(room.source, "n", room.target, "m")
    here, there = trees.snapshot(room.here), trees.snapshot(room.there)
    ours = trees.snapshot(room.root)["away"] if others != "have a name like ours" else there["m"]
    assert ours == before
    if others == "took it away":
        assert not (here.keys() | there.keys()) - {""}
    else:
        assert here["n"].content == b"theirs"
    if others == "both":
        assert there["m"].kind == "symlink"


@KINDS
def test_an_exchange_that_is_claimed_and_did_nothing_is_noticed(
    room: Room, kind: trees.Entry
) -> None:
    room.put("n", kind)
    put_there(room, "m", File(b"old"))
    claimed: list[str] = []
    platform = room.with_calls(renameat2=lambda *given: claimed.append(given[1]))
    with pytest.raises(Failed) as caught:
        platform.exchange(room.source, "n", room.target, "m")
    assert caught.value.primitive is Primitive.EXCHANGE
    assert str(caught.value.error) == "exchange claimed success and made nothing"
    assert claimed == ["n"] * 3, "another linker may have swapped them back, twice"
    platform.exchange(room.source, "missing", room.target, "m")  # nobody can say


def test_an_exchange_of_two_names_of_one_file_is_none_that_did_nothing(room: Room) -> None:
    room.put("n", File(b"n"))
    os.link(f"{room.here}/n", f"{room.there}/m")
    before = trees.snapshot(room.here), trees.snapshot(room.there)
    room.platform.exchange(room.source, "n", room.target, "m")
    room.with_calls(renameat2=lambda *_: None).exchange(room.source, "n", room.target, "m")
    assert (trees.snapshot(room.here), trees.snapshot(room.there)) == before
    assert os.path.samefile(f"{room.here}/n", f"{room.there}/m")


@pytest.mark.parametrize(("place", "exchange", "calls"), BOTH_WAYS)
def test_exchanging_with_nothing_changes_nothing(
    room: Room, place: str, exchange: str, calls: Calls
) -> None:
    room.put("n", File(b"new"))
    with pytest.raises(Failed) as caught:
        getattr(LinuxPlatform(calls), exchange)(room.source, "n", room.target, "n")
    assert caught.value.primitive is Primitive.EXCHANGE
    assert caught.value.error.errno == errno.ENOENT
    assert os.listdir(room.here) == ["n"]
    assert os.listdir(room.there) == []


@pytest.mark.parametrize("calls", [WITHOUT_FLAGS, WITHOUT_FLAGS_AND_LINKS])
@pytest.mark.parametrize("refused", [1, 2, 3])
def test_an_emulated_exchange_that_stops_halfway_loses_neither(
    room: Room, calls: Calls, refused: int
) -> None:
    room.put("n", File(b"new"))
    trees.build(f"{room.there}/d", {"n": File(b"old")})
    os.rename(f"{room.there}/d/n", f"{room.there}/n")
    count = 0

    def rename(*names: Any, **options: Any) -> None:
        nonlocal count
        count += 1
        if count == refused:
            raise injected(errno.EIO)
        os.rename(*names, **options)

    platform = LinuxPlatform(dataclasses.replace(calls, rename=rename))
    try:
        platform.exchange_emulated(room.source, "n", room.target, "n")
    except Failed:
        assert read(f"{room.there}/n") == b"old"
        assert read(f"{room.here}/n") == b"new"
    else:
        assert read(f"{room.there}/n") == b"new"
        (kept,) = os.listdir(room.here)
        assert read(f"{room.here}/{kept}") == b"old"
    assert count >= min(refused, 2)


def test_an_exchange_that_is_claimed_and_not_done_is_noticed(room: Room) -> None:
    room.put("n", File(b"new"))
    trees.build(f"{room.there}/d", {"n": File(b"old")})
    os.rename(f"{room.there}/d/n", f"{room.there}/n")
    platform = room.with_calls(renameat2=lambda *_: None)
    with pytest.raises(Failed) as caught:
        platform.exchange(room.source, "n", room.target, "n")
    assert platform.error_name(caught.value.error) == "NOEFFECT"
    with pytest.raises(Failed) as caught:
        platform.place(room.source, "n", room.target, "free")
    assert platform.error_name(caught.value.error) == "NOEFFECT"


def test_an_exchange_in_which_others_take_part_is_none_that_did_nothing(room: Room) -> None:
    put_there(room, "m", File(b"old"))
    room.put("n", File(b"new"))

    def taken(*arguments: Any) -> None:
        CALLS.renameat2(*arguments)
        os.unlink(f"{room.here}/n")  # the old entry, before we look at it

    room.with_calls(renameat2=taken).exchange(room.source, "n", room.target, "m")
    assert read(f"{room.there}/m") == b"new"

    def come(*arguments: Any) -> None:
        room.put("n", File(b"theirs"))  # where nothing was when we looked
        CALLS.renameat2(*arguments)

    room.with_calls(renameat2=come).exchange(room.source, "n", room.target, "m")
    assert read(f"{room.there}/m") == b"theirs"


def test_an_exchange_of_two_names_of_one_file_is_done(room: Room) -> None:
    """Also where another linker changes the file, or replaces it, at the same moment."""
    room.put("n", File(b"one"))
    os.link(f"{room.here}/n", f"{room.there}/n")
    room.platform.exchange(room.source, "n", room.target, "n")
    turns = 0

    def renameat2(source: int, name: str, target: int, new: str, flags: int) -> None:
        nonlocal turns
        turns += 1
        CALLS.renameat2(source, name, target, new, flags)
        os.link(f"{room.here}/n", f"{room.here}/{turns}")  # which changes its ctime
        if turns == 1:
            with open(f"{room.there}/x", "wb") as writing:
                writing.write(b"theirs")
            os.replace(f"{room.there}/x", f"{room.there}/n")

    room.with_calls(renameat2=renameat2).exchange(room.source, "n", room.target, "n")
    assert read(f"{room.there}/n") == b"one"
    assert read(f"{room.here}/n") == b"theirs"


@pytest.mark.parametrize("calls", [WITHOUT_FLAGS, WITHOUT_FLAGS_AND_LINKS])
def test_an_emulated_exchange_that_stops_halfway_overrides_nobody(room: Room, calls: Calls) -> None:
    """What others did with the name while it was exchanged holds."""
    for theirs in (None, File(b"theirs")):
        room.put("n", File(b"new"))
        put_there(room, "n", File(b"old"))

        def rename(old: str, new: str, *, theirs: File | None = theirs, **where: Any) -> None:
            if old == "n" and new == "n":
                if os.path.exists(f"{room.there}/n"):
                    os.unlink(f"{room.there}/n")
                if theirs is not None:
                    put_there(room, "theirs", theirs)
                    os.rename(f"{room.there}/theirs", f"{room.there}/n")
                raise injected(errno.EIO)
            os.rename(old, new, **where)

        platform = LinuxPlatform(dataclasses.replace(calls, rename=rename))
        with pytest.raises(Failed):
            platform.exchange_emulated(room.source, "n", room.target, "n")
        if theirs is not None:
            assert read(f"{room.there}/n") == b"theirs"
        elif calls is WITHOUT_FLAGS:
            assert os.listdir(room.there) == [], "they removed it"
        else:
            assert read(f"{room.there}/n") == b"old", "we had moved it"
        for directory in (room.here, room.there):
            trees.remove(directory)
            os.mkdir(directory)
        room.close()
        room.source, room.target = (
            os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (room.here, room.there)
        )


def test_a_directory_that_came_meanwhile_is_put_back_by_emulation_and_told(room: Room) -> None:
    room.put("n", File(b"new"))
    os.mkdir(f"{room.there}/m")
    inode = os.stat(f"{room.there}/m").st_ino
    with pytest.raises(Failed) as caught:
        LinuxPlatform(WITHOUT_FLAGS_AND_LINKS).exchange_emulated(room.source, "n", room.target, "m")
    error = caught.value.error
    assert caught.value.primitive is Primitive.EXCHANGE
    assert (error.errno, error.strerror, error.filename) == (errno.EISDIR, "Is a directory", "m")
    assert os.stat(f"{room.there}/m").st_ino == inode
    assert (os.listdir(room.here), os.listdir(room.there)) == (["n"], ["m"])


def test_a_symlink_is_placed_by_emulation_and_not_what_it_leads_to(room: Room) -> None:
    room.put("f", File(b"f"))
    room.put("ln", Symlink("f"))
    platform = LinuxPlatform(WITHOUT_FLAGS)
    platform.place_emulated(room.source, "ln", room.target, "ln")
    assert os.readlink(f"{room.there}/ln") == "f"
    assert os.listdir(room.here) == ["f"]


def test_what_is_taken_is_told_by_emulation_as_by_the_system(room: Room) -> None:
    for directory in (room.here, room.there):
        os.mkdir(f"{directory}/n")
    with pytest.raises(Failed) as caught:
        LinuxPlatform(WITHOUT_FLAGS_AND_LINKS).place_emulated(room.source, "n", room.target, "n")
    error = caught.value.error
    assert (error.errno, error.strerror, error.filename) == (errno.EEXIST, "File exists", "n")


def test_an_emulated_placing_that_stops_halfway_takes_the_name_back(room: Room) -> None:
    room.put("n", File(b"new"))
    removed = 0

    def unlink(name: str, **options: Any) -> None:
        nonlocal removed
        removed += 1
        if removed == 1:
            raise injected(errno.EIO)
        os.unlink(name, **options)

    platform = LinuxPlatform(dataclasses.replace(WITHOUT_FLAGS, unlink=unlink))
    with pytest.raises(Failed):
        platform.place_emulated(room.source, "n", room.target, "n")
    assert os.listdir(room.there) == []
    assert read(f"{room.here}/n") == b"new"


def test_the_flags_of_renameat2_do_what_their_names_say(room: Room) -> None:
    room.put("a", File(b"a"))
    room.put("b", File(b"b"))
    with pytest.raises(FileExistsError):
        CALLS.renameat2(room.source, "a", room.source, "b", RENAME_NOREPLACE)
    CALLS.renameat2(room.source, "a", room.source, "b", RENAME_EXCHANGE)
    assert (read(f"{room.here}/a"), read(f"{room.here}/b")) == (b"b", b"a")
    name = "\udcff\udc80 odd"
    CALLS.renameat2(room.source, "a", room.source, name, RENAME_NOREPLACE)
    assert name in os.listdir(room.here)
    CALLS.renameat2(room.source, name, room.source, "a", RENAME_NOREPLACE)
    assert name not in os.listdir(room.here)


def replacing(source: int, name: str, target: int, new: str, flags: int) -> None:
    """Rename as a filesystem in a process does that never looks at the flags."""
    os.rename(name, new, src_dir_fd=source, dst_dir_fd=target)


def served(descriptor: int) -> int:
    """Say of any filesystem that a process serves it."""
    assert os.fstat(descriptor)
    return linux._FUSE


def test_swaps_are_tried_where_a_process_serves_the_files(room: Room) -> None:
    room.with_calls(fstype=served).check_swaps(room.source)
    room.with_calls(renameat2=replacing).check_swaps(room.source)  # the kernel's own: not tried
    assert os.listdir(room.here) == []
    for told in (served, lambda descriptor: os.fstat(-1)):
        with pytest.raises(Failed, match="took the other's place") as caught:
            room.with_calls(fstype=told, renameat2=replacing).check_swaps(room.source)
        assert caught.value.primitive is Primitive.EXCHANGE
        assert caught.value.error.errno == errno.EINVAL
        assert caught.value.error.filename == "00"
        assert os.listdir(room.here) == []


def test_what_swaps_are_tried_with_is_nobody_elses_to_open(room: Room) -> None:
    modes: list[int] = []

    def open_(name: str, flags: int, *mode: int, dir_fd: int) -> int:
        modes.extend(mode)
        return os.open(name, flags, *mode, dir_fd=dir_fd)

    room.with_calls(fstype=served, open=open_).check_swaps(room.source)
    assert modes == [0o600, 0o600]


@pytest.mark.parametrize(
    ("call", "primitive"),
    [
        ("open", Primitive.EXCHANGE),
        ("close", Primitive.EXCHANGE),
        ("renameat2", Primitive.EXCHANGE),
        ("listdir", Primitive.READ),
        ("unlink", Primitive.EXCHANGE),
    ],
)
def test_a_trial_of_swaps_that_fails_can_be_made_again(
    room: Room, call: str, primitive: Primitive
) -> None:
    def deed(_number: int, name: str) -> None:
        if name == call:
            raise injected(errno.EIO)

    calls = dataclasses.replace(REFLINKING, fstype=served)
    with pytest.raises(Failed) as caught:
        LinuxPlatform(Tap(deed, calls).calls).check_swaps(room.source)
    assert caught.value.primitive is primitive
    assert caught.value.error.errno == errno.EIO
    assert all(_is_ours(name) for name in os.listdir(room.here))
    room.with_calls(fstype=served).check_swaps(room.source)
    assert os.listdir(room.here) == []


# The system calls that Python does not have.


OURS: dict[str, Callable[[int], object]] = {
    "_renameat2": lambda handle: CALLS.renameat2(handle, "old", handle, "name", RENAME_NOREPLACE),
    "_statx": lambda handle: CALLS.birth("name", handle),
}
"""Functions of the C library, and who calls them."""


@pytest.mark.parametrize("name", OURS)
def test_errors_of_our_own_system_calls_are_as_complete_as_pythons(room: Room, name: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        OURS[name](room.target)
    error = caught.value
    assert (error.errno, error.strerror) == (errno.ENOENT, "No such file or directory")
    assert error.filename == "name"


def test_the_numbers_are_those_of_the_kernels_headers() -> None:
    """linux/fs.h, linux/fcntl.h, linux/stat.h, linux/magic.h, linux/prctl.h, signal(7)."""
    inherited = {
        "COMPR": 0x4,
        "SYNC": 0x8,
        "NOATIME": 0x80,
        "NOCOMP": 0x400,
        "DIRSYNC": 0x10000,
        "NOCOW": 0x800000,
        "PROJINHERIT": 0x20000000,
        "CASEFOLD": 0x40000000,
    }
    assert sum(inherited.values()) == INHERITED_FLAGS
    assert (RENAME_NOREPLACE, RENAME_EXCHANGE) == (1, 2)
    assert (linux.AT_SYMLINK_NOFOLLOW, linux.STATX_BTIME) == (0x100, 0x800)
    assert (linux._BTRFS, linux._FUSE) == (0x9123683E, 0x65735546)
    assert (linux.PR_SET_PDEATHSIG, linux.SIGKILL) == (1, signal.SIGKILL)
    assert {
        "x86_64": 316,
        "i686": 353,
        "armv7l": 382,
        "ppc64le": 357,
        "s390x": 347,
        **dict.fromkeys(("aarch64", "riscv64"), 276),
    } == linux._SYSCALL_RENAMEAT2
    if platform_facts.machine() in ("x86_64", "aarch64", "riscv64"):
        numbers = linux.FICLONE, FS_IOC_GETFLAGS, FS_IOC_FSGETXATTR
        assert numbers == (0x40049409, 0x80086601, 0x801C581F)


def test_what_is_opened_goes_to_no_program_and_is_no_symlink_nor_a_terminal() -> None:
    flags = (linux._READ, linux._CREATE, linux._NAMELESS, linux._DIRECTORY, linux._BELOW)
    assert all(each & os.O_CLOEXEC for each in (*flags, linux._PLACE))
    assert linux._PLACE & linux._BELOW & os.O_NOFOLLOW
    assert linux._PLACE & linux._BELOW & os.O_DIRECTORY
    assert linux._READ & os.O_NOFOLLOW
    assert linux._READ & os.O_NONBLOCK
    assert linux._READ & os.O_NOCTTY
    assert linux._CREATE & os.O_NOFOLLOW
    assert linux._CREATE & os.O_EXCL
    assert linux._DIRECTORY & os.O_DIRECTORY == os.O_DIRECTORY


@pytest.mark.parametrize("magic", [0xEF53, 0x58465342, 0xF2F52010], ids=["ext", "xfs", "f2fs"])
def test_births_are_asked_for_where_numbers_are_given_again(room: Room, magic: int) -> None:
    platform = room.with_calls(fstype=lambda handle: magic, birth=lambda name, handle: 77)
    assert platform.born(room.source, "f") == 77


def test_a_descriptor_that_is_none_is_told(room: Room) -> None:
    room.put("f", File(b"f"))
    reading = os.open(f"{room.here}/f", os.O_RDONLY)
    os.close(reading)
    for call in (lambda: CALLS.ficlone(reading, reading), lambda: CALLS.fstype(reading)):
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            call()
        assert caught.value.errno == errno.EBADF


def test_a_birth_is_told_only_where_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    mask, seconds = 0, -5

    def statx(*given: Any) -> int:
        asked.append(given[:4])
        struct.pack_into("I", given[4], 0, mask)
        struct.pack_into("qI", given[4], 80, seconds, 999_999_999)
        return 0

    monkeypatch.setattr(linux, "_statx", statx)
    assert CALLS.birth("n\udcff", 7) is None
    mask = 0x7FF  # everything but the birth
    assert CALLS.birth("n", 7) is None
    mask = 0xFFF
    assert CALLS.birth("n", 7) == -5 * 10**9 + 999_999_999
    assert asked[0] == (7, b"n\xff", 0x100, 0x800)  # AT_SYMLINK_NOFOLLOW, STATX_BTIME


@pytest.mark.parametrize("name", OURS)
def test_a_c_library_without_a_call_says_that_it_is_not_there(
    room: Room, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(linux, name, None)
    with pytest.raises(OSError, match="Function not implemented") as caught:
        OURS[name](room.target)
    assert caught.value.errno == errno.ENOSYS
    assert caught.value.filename == "name"


def test_an_ioctls_number_is_encoded_as_the_machine_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """FICLONE and FS_IOC_GETFLAGS as linux/fs.h of both kinds of machine has them."""
    for machine, numbers in {
        "x86_64": (0x40049409, 0x80086601),
        "aarch64": (0x40049409, 0x80086601),
        "ppc64le": (0x80049409, 0x40086601),
        "powerpc": (0x80049409, 0x40086601),
        "mips64": (0x80049409, 0x40086601),
        "sparc64": (0x80049409, 0x40086601),
        "alpha": (0x80049409, 0x40086601),
    }.items():
        monkeypatch.setattr(linux, "_MACHINE", machine)
        found = linux._ioctl_number(1, 0x94, 9, 4), linux._ioctl_number(2, ord("f"), 1, 8)
        assert found == numbers, machine


def test_what_grows_behind_a_hole_while_it_is_copied_is_not_copied(room: Room) -> None:
    """Data is found where the file did not reach when it was looked at."""
    room.put("f", File(b""))
    with open(f"{room.here}/f", "r+b") as file:
        file.truncate(1 << 16)
    grown: list[int] = []

    def seek(descriptor: int, position: int, whence: int) -> int:
        if whence == os.SEEK_DATA and not grown:
            with open(f"{room.here}/f", "r+b") as file:
                file.seek(1 << 20)
                grown.append(file.write(b"later"))
        return os.lseek(descriptor, position, whence)

    room.with_calls(seek=seek).copy_file(room.source, "f", room.target, "g")
    assert grown
    with open(f"{room.there}/g", "rb") as made:
        assert made.read() == bytes(1 << 16)


@pytest.mark.parametrize("length", [0, -1, -(1 << 20)])
def test_nothing_and_less_are_copied_without_a_call(length: int) -> None:
    def call(*_: object) -> int:
        raise AssertionError("called")

    copy_range(call, 0, call, 0, memoryview(bytearray(4)), length)


@users.ROOT_ONLY
@pytest.mark.parametrize(
    ("mode", "group", "user", "keeps"),
    [
        (0o2555, 0, 0, True),
        (0o2555, users.NOBODY, 0, True),
        (0o2555, users.NOBODY, users.NOBODY, True),
        (0o2555, 7, users.NOBODY, True),
        (0o2555, 0, users.NOBODY, False),
        (0o2555, 1, users.NOBODY, False),
        (0o0555, 0, users.NOBODY, True),
    ],
)
def test_who_may_not_keep_a_set_group_id_bit_is_told_before_it_is_gone(
    room: Room, mode: int, group: int, user: int, *, keeps: bool
) -> None:
    os.chown(room.target, user, group)
    os.chmod(room.target, mode)
    with users.ordinary_user() if user else nullcontext():
        if user:
            os.setresuid(0, 0, 0)
            os.setgroups([7])
            os.setresuid(users.NOBODY, users.NOBODY, 0)
        try:
            if keeps:
                room.platform.check_bits(room.target)
            else:
                with pytest.raises(Failed) as told:
                    room.platform.check_bits(room.target)
                assert (told.value.primitive, told.value.error.errno) == (P.STAMP, errno.EPERM)
                assert "its set-group-id bit" in str(told.value.error.strerror)
            os.chmod(room.target, mode | 0o200)
            assert bool(os.fstat(room.target).st_mode & 0o2000) == (keeps and mode > 0o777)
        finally:
            if user:
                os.setresuid(0, 0, 0)
                os.setgroups([])
                os.setresuid(users.NOBODY, users.NOBODY, 0)


@pytest.mark.parametrize("known", [True, False])
def test_renameat2_is_called_by_number_where_the_c_library_lacks_it(
    room: Room,
    monkeypatch: pytest.MonkeyPatch,
    *,
    known: bool,
) -> None:
    class Library:
        syscall = ctypes.CDLL(None, use_errno=True).syscall

    monkeypatch.setattr(linux, "_libc", Library)
    if not known:
        monkeypatch.setattr(linux, "_MACHINE", "pdp11")
        assert linux._find_renameat2() is None
        return
    bare = linux._find_renameat2()
    assert bare is not None
    room.put("a", File(b"a"))
    room.put("b", File(b"b"))
    assert bare(room.source, b"a", room.source, b"b", RENAME_NOREPLACE) == -1
    assert ctypes.get_errno() == errno.EEXIST
    assert bare(room.source, b"a", room.source, b"b", RENAME_EXCHANGE) == 0
    assert (read(f"{room.here}/a"), read(f"{room.here}/b")) == (b"b", b"a")


# What is told of a failure.


def test_an_error_that_the_system_has_no_name_for_has_none(room: Room) -> None:
    assert room.platform.error_name(OSError("what")) == ""
    assert room.platform.error_name(OSError(99999, "what")) == ""
    assert room.platform.error_name(OSError(errno.EXDEV, "what")) == "EXDEV"
    assert room.platform.error_name(CheckFailed("SHORT", "what")) == "SHORT"


def _place_nothing(inode: int, made_ns: int) -> None:
    """Take note of nothing."""


DOING: dict[str, Callable[[LinuxPlatform, Room], object]] = {
    "open_root": lambda platform, room: platform.open_root(room.here),
    "open_below": lambda platform, room: platform.open_below(room.source, "d"),
    "facts": lambda platform, room: platform.facts(room.source),
    "entries": lambda platform, room: platform.entries(room.source),
    "entries_once": lambda platform, room: platform.entries_once(room.source),
    "look": lambda platform, room: platform.look(room.source, "f"),
    "inheritance": lambda platform, room: platform.inheritance(room.source),
    "clone_file": lambda platform, room: platform.clone_file(room.source, "f", room.target, "g"),
    "copy_file": lambda platform, room: platform.copy_file(room.source, "f", room.target, "g"),
    "copy_directly": lambda platform, room: platform.copy_directly(
        room.source, "f", room.target, "g", _place_nothing
    ),
    "clone_directly": lambda platform, room: platform.clone_directly(
        room.source, "f", room.target, "g", _place_nothing
    ),
    "hardlink": lambda platform, room: platform.hardlink(room.source, "f", room.target, "g"),
    "symlink": lambda platform, room: platform.symlink("f", room.target, "g"),
    "recreate_symlink": lambda platform, room: platform.recreate_symlink(
        room.source, "ln", room.target, "g"
    ),
    "make_directory": lambda platform, room: platform.make_directory(room.target, "g"),
    "stamp_directory": lambda platform, room: platform.stamp_directory(
        room.source, 0, SimpleNamespace(mode=0o755, atime_ns=1, mtime_ns=1)
    ),
    "change_mode": lambda platform, room: platform.change_mode(room.source, 0o755),
    "check_bits": lambda platform, room: platform.check_bits(room.source),
    "permissions": lambda platform, room: platform.permissions(room.source, "d"),
    "let_in": lambda platform, room: platform.let_in(room.source, "d"),
    "touch": lambda platform, room: platform.touch(room.source),
    "place": lambda platform, room: platform.place(room.source, "f", room.target, "g"),
    "check_swaps": lambda platform, room: LinuxPlatform(
        dataclasses.replace(platform.calls, fstype=served)
    ).check_swaps(room.source),
    "exchange": lambda platform, room: platform.exchange(room.source, "f", room.source, "ln"),
    "place_emulated": lambda platform, room: platform.place_emulated(
        room.source, "d", room.target, "g"
    ),
    "exchange_emulated": lambda platform, room: platform.exchange_emulated(
        room.source, "f", room.source, "ln"
    ),
    "remove_file": lambda platform, room: platform.remove_file(room.source, "f"),
    "remove_directory": lambda platform, room: platform.remove_directory(room.source, "d"),
    "lock": lambda platform, room: platform.lock(room.source),
    "write_record": lambda platform, room: platform.write_record(room.target, "r", b"r"),
    "read_record": lambda platform, room: platform.read_record(room.source, "f"),
}

P = Primitive
TOLD = [
    ("open_root", "open", 1, P.OPEN),
    ("open_below", "open", 1, P.OPEN),
    ("facts", "fstat", 1, P.READ),
    ("entries", "open", 1, P.READ),
    ("entries", "listdir", 1, P.READ),
    ("entries_once", "listdir", 1, P.READ),
    ("look", "stat", 1, P.OPEN),
    ("inheritance", "fstat", 1, P.OPEN),
    ("clone_file", "open", 1, P.READ),
    ("clone_file", "fstat", 1, P.READ),
    ("clone_file", "open", 2, P.CREATE),
    ("clone_file", "ficlone", 1, P.CLONE_FILE),
    ("clone_file", "fstat", 2, P.CLONE_FILE),
    ("clone_file", "chmod", 1, P.STAMP),
    ("clone_file", "utime", 1, P.STAMP),
    ("clone_directly", "ficlone", 1, P.CLONE_FILE),
    ("copy_file", "read", 1, P.COPY),
    ("copy_file", "write", 1, P.COPY),
    ("copy_directly", "write", 1, P.COPY),
    ("copy_directly", "link", 1, P.RENAME),
    ("hardlink", "link", 1, P.HARDLINK),
    ("symlink", "symlink", 1, P.SYMLINK),
    ("symlink", "stat", 1, P.SYMLINK),
    ("recreate_symlink", "readlink", 1, P.READ),
    ("recreate_symlink", "stat", 1, P.READ),
    ("recreate_symlink", "symlink", 1, P.SYMLINK),
    ("recreate_symlink", "utime", 1, P.STAMP),
    ("recreate_symlink", "stat", 2, P.SYMLINK),
    ("make_directory", "mkdir", 1, P.MKDIR),
    ("make_directory", "open", 1, P.OPEN),
    ("stamp_directory", "chmod", 1, P.STAMP),
    ("stamp_directory", "utime", 1, P.STAMP),
    ("change_mode", "chmod", 1, P.STAMP),
    ("check_bits", "fstat", 1, P.STAMP),
    ("permissions", "stat", 1, P.OPEN),
    ("let_in", "open", 1, P.OPEN),
    ("let_in", "fstat", 1, P.OPEN),
    ("let_in", "chmod", 1, P.OPEN),
    ("touch", "utime", 1, P.STAMP),
    ("place", "renameat2", 1, P.RENAME),
    ("check_swaps", "open", 2, P.EXCHANGE),
    ("check_swaps", "renameat2", 1, P.EXCHANGE),
    ("check_swaps", "listdir", 1, P.READ),
    ("check_swaps", "unlink", 2, P.EXCHANGE),
    ("exchange", "renameat2", 1, P.EXCHANGE),
    ("exchange", "stat", 1, P.OPEN),
    ("place_emulated", "rename", 1, P.RENAME),
    ("exchange_emulated", "rename", 1, P.EXCHANGE),
    ("remove_file", "unlink", 1, P.UNLINK),
    ("remove_directory", "rmdir", 1, P.RMDIR),
    ("lock", "flock", 1, P.LOCK),
    ("write_record", "open", 1, P.CREATE),
    ("write_record", "write", 1, P.CREATE),
    ("read_record", "open", 1, P.READ),
    ("read_record", "read", 1, P.READ),
]


@pytest.mark.parametrize(("name", "call", "nth", "primitive"), TOLD)
def test_a_failure_is_told_by_what_was_being_done_with_the_systems_error(
    room: Room, name: str, call: str, nth: int, primitive: Primitive
) -> None:
    kinds: dict[str, trees.Entry] = {"f": File(b"f"), "ln": Symlink("f"), "d": Directory()}
    for entry, kind in kinds.items():
        room.put(entry, kind)
    refusal = injected(errno.EIO)
    count = 0

    def deed(number: int, called: str) -> None:
        nonlocal count
        count += called == call
        if called == call and count == nth:
            raise refusal

    platform = LinuxPlatform(Tap(deed).calls)
    with umask(0o077), pytest.raises(Failed) as caught:
        DOING[name](platform, room)
    assert caught.value.primitive is primitive
    assert caught.value.error is refusal
    assert caught.value.__cause__ is refusal
    assert caught.value.args == (primitive, refusal)
    assert caught.value.left == ()


def test_every_primitive_that_can_fail_is_made_to() -> None:
    assert {name for name, *_ in TOLD} == set(DOING)


# Locks and records.


def test_a_lock_is_anothers_until_its_descriptor_is_closed(room: Room) -> None:
    first = os.open(room.there, os.O_RDONLY)
    assert room.platform.lock(first)
    assert not room.platform.lock(room.target)
    os.close(first)
    assert room.platform.lock(room.target)
    fcntl.flock(room.target, fcntl.LOCK_UN)


def test_a_record_is_read_as_it_was_written(room: Room) -> None:
    data = b"\0some\xff" * 1000
    room.platform.write_record(room.target, "p1", data)
    assert room.platform.read_record(room.target, "p1") == data
    assert os.stat(f"{room.there}/p1").st_mode & 0o777 == 0o600
    with pytest.raises(Failed) as caught:
        room.platform.write_record(room.target, "p1", data)
    assert caught.value.primitive is Primitive.CREATE


def test_a_record_cut_short_is_an_error(room: Room) -> None:
    platform = room.with_calls(write=lambda handle, data: len(data) - 1)
    with pytest.raises(Failed) as caught:
        platform.write_record(room.target, "p1", b"whole")
    assert caught.value.primitive is Primitive.CREATE
    assert str(caught.value.error) == "claimed success with 4 of 5 bytes"


def test_a_record_of_any_length_is_read_whole(room: Room) -> None:
    data = trees.noise(600_000)
    with open(f"{room.there}/p1", "wb") as writing:
        writing.write(data)
    assert room.platform.read_record(room.target, "p1") == data


def test_pauses_grow_and_stay_short(room: Room) -> None:
    slept: list[float] = []
    platform = room.with_calls(sleep=slept.append)
    for attempt in range(1, 7):
        platform.pause(attempt)
    assert slept == sorted(slept)
    assert slept[0] == 0
    assert 0 < sum(slept) < 0.1
    began = time.monotonic()
    REAL.pause(2)
    assert time.monotonic() - began >= slept[1] > 0


# Inheritance, on filesystems that have something to inherit.


def test_what_entries_inherit_is_told_apart(scene: str) -> None:
    trees.build(f"{scene}/d", {"plain": Directory(), "plain2": Directory(0o700)})
    os.mkdir(f"{scene}/d/grouped")
    os.chmod(f"{scene}/d/grouped", 0o2755)

    def inherited(name: str) -> tuple[object, ...]:
        handle = os.open(f"{scene}/d/{name}", os.O_RDONLY)
        try:
            return REAL.inheritance(handle)
        finally:
            os.close(handle)

    assert inherited("plain") == inherited("plain2")
    assert inherited("plain") != inherited("grouped")


class Attributes:
    """Inode flags, a project and an access list, as a filesystem with all of them tells them."""

    flags = INHERITED_FLAGS | 0x10
    project = 0x8000_0007
    acl: bytes | None = b"an access list"

    def ioctl(self, handle: int, request: int, answer: bytearray) -> None:
        if request == FS_IOC_GETFLAGS:
            assert len(answer) == 8
            struct.pack_into("l", answer, 0, self.flags)
        else:
            assert (request, len(answer)) == (FS_IOC_FSGETXATTR, 28)  # of linux/fs.h
            struct.pack_into("=5I", answer, 0, 1, 2, 3, self.project, 5)

    def listxattr(self, handle: int) -> list[str]:
        os.fstat(handle)
        return ["user.other"] if self.acl is None else ["user.other", "system.posix_acl_default"]

    def getxattr(self, handle: int, name: str) -> bytes:
        os.fstat(handle)
        assert self.acl is not None
        assert name == "system.posix_acl_default"
        return self.acl


def test_what_entries_inherit_is_device_flags_project_group_and_access_list(room: Room) -> None:
    has = Attributes()
    platform = room.with_calls(ioctl=has.ioctl, listxattr=has.listxattr, getxattr=has.getxattr)
    seen = os.fstat(room.source)
    found = platform.inheritance(room.source)
    assert found == (seen.st_dev, INHERITED_FLAGS, 0x8000_0007, None, b"an access list")
    has.flags, has.project, has.acl = 0x10, 0, None
    os.chmod(room.here, 0o2755)
    assert platform.inheritance(room.source) == (seen.st_dev, 0, 0, seen.st_gid, b"")


def test_an_access_list_that_entries_inherit_is_found(room: Room) -> None:
    """acl(5): version 2, then a tag, permissions and an id for owner, group and others."""
    entries = ((0x01, 7), (0x04, 5), (0x20, 0))
    access = b"".join(struct.pack("<HHI", tag, bits, 0xFFFFFFFF) for tag, bits in entries)
    access = struct.pack("<I", 2) + access
    os.setxattr(room.here, "system.posix_acl_default", access)
    assert REAL.inheritance(room.source)[-1] == access
    assert REAL.inheritance(room.target)[-1] == b""


def test_a_system_without_attributes_says_that_they_are_not_there() -> None:
    with pytest.raises(OSError, match="Function not implemented") as caught:
        linux._lacking(7, "name", follow_symlinks=False)
    assert caught.value.errno == errno.ENOSYS


def test_a_filesystem_without_attributes_has_none_to_inherit(room: Room) -> None:
    def refuse(*_: object) -> Any:
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))

    platform = room.with_calls(ioctl=refuse, listxattr=refuse)
    assert platform.inheritance(room.source) == (os.fstat(room.source).st_dev, 0, 0, None, b"")


@pytest.mark.linkmode(fs=["btrfs"])
def test_entries_of_a_nocow_directory_are_nocow_as_if_made_there(
    linkmode_fs: TestFilesystem,
) -> None:
    root = str(linkmode_fs.path)
    trees.build(f"{root}/source", {"d/f": File(trees.noise(9000)), "d/new/g": File(b"g" * 9000)})
    os.makedirs(f"{root}/target/d")
    attributes.set_flag(f"{root}/target/d", attributes.NOCOW)
    link_tree(f"{root}/source", f"{root}/target", mode=LinkMode.COPY)
    for path in ("d/f", "d/new", "d/new/g"):
        assert attributes.flags(f"{root}/target/{path}") & attributes.NOCOW, path
    assert sorted(os.listdir(f"{root}/target")) == ["d"]
    assert sorted(os.listdir(f"{root}/target/d")) == ["f", "new"]


def test_entries_of_a_setgid_directory_take_its_group(ground: str) -> None:
    group = next((gid for gid in (*os.getgroups(), 12345) if gid != os.getegid()), None)
    trees.build(f"{ground}/source", {"d/f": File(b"f"), "d/new/g": File(b"g")})
    os.makedirs(f"{ground}/target/d")
    try:
        os.chown(f"{ground}/target/d", -1, group if group is not None else -1)
    except PermissionError:
        pytest.skip("this user has one group only")
    os.chmod(f"{ground}/target/d", 0o2755)
    link_tree(f"{ground}/source", f"{ground}/target", mode=LinkMode.COPY)
    for path in ("d/f", "d/new", "d/new/g"):
        assert os.stat(f"{ground}/target/{path}").st_gid == group, path
    assert os.stat(f"{ground}/target/d/new").st_mode & 0o7777 == 0o2755
    assert os.stat(f"{ground}/target/d").st_mode & 0o7777 == 0o2755


@pytest.mark.linkmode(fs=["btrfs", "xfs"])
def test_a_clone_is_cheap_and_a_copy_is_not(linkmode_fs: TestFilesystem) -> None:
    """The blocks that are free say what was shared."""
    room = Room(str(linkmode_fs.path), CALLS)
    size = 16 << 20
    room.put("f", File(trees.noise(size)))

    def used_by(primitive: Any, name: str) -> int:
        os.sync()
        before = os.statvfs(room.root)
        primitive(room.source, "f", room.target, name)
        os.sync()
        deadline = time.monotonic() + SECONDS
        while True:
            after = os.statvfs(room.root)
            used = (before.f_bfree - after.f_bfree) * before.f_frsize
            if used > size // 2 or time.monotonic() > deadline or name == "clone":
                return used
            time.sleep(0.05)

    try:
        assert used_by(room.platform.clone_file, "clone") < size // 4
        assert used_by(room.platform.copy_file, "copy") > size // 2
    finally:
        room.close()


def test_every_call_of_a_link_goes_through_the_seam(scene: str) -> None:
    """Faults, kills and schedules reach only what goes through `Calls`."""
    trees.build(f"{scene}/source", {"a": File(b"a"), "d/ln": Symlink("x"), "d/e": Directory(0o555)})
    taken: set[str] = set()
    for mode in LinkMode:
        for _ in range(2):
            tap = Tap()
            link_tree(f"{scene}/source", f"{scene}/{mode}", mode=mode, platform=tap.platform)
            taken.update(tap.names)
    assert {"open", "mkdir", "link", "symlink", "renameat2", "ficlone", "rmdir"} <= taken
    names = {field.name for field in dataclasses.fields(Calls)}
    assert taken <= names
    with open(_source_of_the_platform(), encoding="utf-8") as reading:
        body = reading.read().partition("class LinuxPlatform")[2]
    direct = re.findall(
        r"\bos\.(?!O_|SEEK|[A-Z]|path|strerror|fsencode|stat_result|DirEntry)\w+", body
    )
    assert not direct, "system calls that no test can make fail"


def _source_of_the_platform() -> str:
    import linker.platforms.linux as module

    assert module.__file__ is not None
    return module.__file__
