"""What clonefile(2) promises, as a table: flags x sources x destinations x volumes.

Each value says which errors it may lead to. A call succeeds if none of its values does, and then
the clone is what the manual says; otherwise it ends with an error of one of them (the manual gives
no order), and nothing new is there. The same table is held against the model and against macOS.

Source: clonefile(2) of macOS, June 2021. What it leaves open is no row here: flags of later
systems, special and unreadable files inside a directory, the root of a filesystem. Dataless files
cannot be made at will.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from linker.platforms.macos import (
    CLONE_ACL,
    CLONE_NOFOLLOW,
    CLONE_NOOWNERCOPY,
    ERRORS,
    Calls,
)

PAST = 1_000_000_000_000_000_000
"""A modification time of long ago, in whole seconds, which every volume keeps."""

DATA = bytes(range(256)) * 512
"""128 KiB: more than any filesystem keeps beside the inode."""


class Hands(Protocol):
    """What a caller does beside the calls of the table, on one system."""

    def give_attribute(self, path: str) -> None:
        """Give a file or directory an extended attribute."""

    def give_access_list(self, path: str) -> None:
        """Give a file or directory an access control list."""

    def attributes(self, path: str) -> dict[str, bytes]:
        """Return the extended attributes that a user gave."""


@dataclass(frozen=True)
class Bench:
    """One implementation, and directories on its volumes: two on one that can clone.

    `other` lies on another volume, `plain` on one that cannot clone; None where there is none.
    `user` tells that permissions stop the caller.
    """

    name: str
    calls: Calls
    hands: Hands
    same: str
    other: str | None
    plain: str | None
    user: bool


@dataclass(frozen=True)
class Value:
    """One value of one axis: how it is made, and the errors that it may lead to.

    `make` is called with the hands and the path. `user` tells that only permissions are in the
    way.
    """

    name: str
    errors: tuple[str, ...] = ()
    make: Callable[[Hands, str], object] = lambda _hands, _path: None
    user: bool = False
    link: bool = False


def write(path: str, data: bytes = DATA, mode: int = 0o644) -> None:
    with open(path, "wb") as writing:
        writing.write(data)
        os.fsync(writing.fileno())
    os.chmod(path, mode)
    os.utime(path, ns=(PAST, PAST))


def _file(mode: int, data: bytes = DATA) -> Callable[[Hands, str], None]:
    return lambda _hands, path: write(path, data, mode)


def _with_attribute(hands: Hands, path: str) -> None:
    write(path)
    hands.give_attribute(path)


def _with_access_list(hands: Hands, path: str) -> None:
    write(path)
    hands.give_access_list(path)


def _sparse(_hands: Hands, path: str) -> None:
    with open(path, "wb") as writing:
        writing.truncate(1 << 20)
        writing.seek(1 << 19)
        writing.write(DATA)


def _second_name(_hands: Hands, path: str) -> None:
    write(path)
    os.link(path, f"{path}.second")


def _symlink(_hands: Hands, path: str) -> None:
    write(f"{path}.end")
    os.symlink(os.path.basename(f"{path}.end"), path)


def _dangling(_hands: Hands, path: str) -> None:
    os.symlink("nowhere", path)


def _fifo(_hands: Hands, path: str) -> None:
    os.mkfifo(path)


def _empty_directory(_hands: Hands, path: str) -> None:
    os.mkdir(path, 0o755)


def _hierarchy(hands: Hands, path: str) -> None:
    os.makedirs(f"{path}/a/b")
    os.mkdir(f"{path}/empty", 0o700)
    write(f"{path}/file")
    write(f"{path}/a/setuid", mode=0o6755)
    write(f"{path}/a/b/deep", b"", 0o600)
    os.symlink("../file", f"{path}/a/up")
    os.symlink("nowhere", f"{path}/dangling")
    hands.give_attribute(f"{path}/file")
    hands.give_attribute(f"{path}/a")
    os.chmod(f"{path}/a/b", 0o555)
    for each in ("a/b", "a", "empty", ""):
        os.utime(os.path.join(path, each), ns=(PAST, PAST))


SOURCES: tuple[Value, ...] = (
    Value("file", make=_file(0o644)),
    Value("empty-file", make=_file(0o644, b"")),
    Value("executable", make=_file(0o755)),
    Value("read-only", make=_file(0o444)),
    Value("setuid", make=_file(0o4755)),
    Value("setuid-setgid", make=_file(0o6711 | 0o444)),
    Value("attribute", make=_with_attribute),
    Value("access-list", make=_with_access_list),
    Value("sparse", make=_sparse),
    Value("second-name", make=_second_name),
    Value("symlink", make=_symlink, link=True),
    Value("empty-directory", make=_empty_directory),
    Value("hierarchy", make=_hierarchy),
    Value("missing", ("ENOENT",)),
    Value("dangling-symlink", ("ENOENT",), _dangling, link=True),
    Value("fifo", ("EINVAL", "ENOTSUP"), _fifo),
    Value("unreadable", ("EACCES",), _file(0), user=True),
)

DESTINATIONS: tuple[Value, ...] = (
    Value("new"),
    Value("file", ("EEXIST",), _file(0o644, b"there")),
    Value("empty-directory", ("EEXIST",), _empty_directory),
    Value("directory", ("EEXIST",), _hierarchy),
    Value("symlink", ("EEXIST",), _symlink),
    Value("dangling-symlink", ("EEXIST",), _dangling),
    Value("no/parent", ("ENOENT",)),
    Value("under-a-file/new", ("ENOTDIR",), lambda _, path: write(os.path.dirname(path))),
    Value(
        "shut/new",
        ("EACCES",),
        lambda _, path: os.mkdir(os.path.dirname(path), 0o555),
        user=True,
    ),
    Value("n" * 256, ("ENAMETOOLONG",)),
    Value("", ("ENOENT",)),
)
"""Destinations; the name is where it lies, but for those that `make` something."""

FLAGS: tuple[int, ...] = (
    CLONE_NOFOLLOW,
    CLONE_NOFOLLOW | CLONE_NOOWNERCOPY,
    CLONE_NOFOLLOW | CLONE_ACL,
    CLONE_NOFOLLOW | CLONE_NOOWNERCOPY | CLONE_ACL,
    0,
    CLONE_ACL,
)
"""Flags that are valid. CLONE_NOOWNERCOPY alone is not among them: of symlinks the manual says that
it clones the link itself, which is the sentence about CLONE_NOFOLLOW once more."""

INVALID = 0x4000_0000
"""A flag that no system has."""


class Volume(NamedTuple):
    """Where source and destination lie, and the errors that this may lead to."""

    name: str
    source: str
    target: str
    errors: tuple[str, ...] = ()


def volumes(bench: Bench) -> Iterator[Volume]:
    """Yield the pairs of volumes that there are."""
    yield Volume("same", bench.same, bench.same)
    if bench.other is not None:
        yield Volume("other", bench.same, bench.other, ("EXDEV", "ENOTSUP"))
    if bench.plain is not None:
        yield Volume("plain", bench.plain, bench.plain, ("ENOTSUP",))


def expected(
    flags: int, source: Value, destination: Value, volume: Volume, *, user: bool
) -> set[str]:
    """Return the errors that a call may end with; none: it succeeds."""
    if flags & INVALID:
        return {"EINVAL"}
    found = set(volume.errors)
    itself = source.link and flags & CLONE_NOFOLLOW  # the link, wherever it leads
    for value in (destination,) if itself else (source, destination):
        if not value.user or user:
            found.update(value.errors)
    return found


def call(bench: Bench, by: str, source: str, target: str, new: str, flags: int) -> str:
    """Make one call, by name or by descriptor; return the error's name, empty for success."""
    directory = os.open(os.path.dirname(source), os.O_RDONLY | os.O_DIRECTORY)
    above = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    reading = -1
    try:
        if by == "name":
            name = os.fsencode(os.path.basename(source))
            result = bench.calls.clonefileat(directory, name, above, os.fsencode(new), flags)
        else:
            reading = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
            result = bench.calls.fclonefileat(reading, above, os.fsencode(new), flags)
        return "" if result == 0 else ERRORS.get(bench.calls.errno(), "")
    finally:
        for descriptor in (directory, above, reading):
            if descriptor >= 0:
                os.close(descriptor)


def unlike(bench: Bench, source: str, clone: str, flags: int) -> list[str]:
    """Return in words where a clone is not what the manual says of one."""
    if not flags & CLONE_NOFOLLOW:
        source = os.path.realpath(source)
    found = []
    pending = [""]
    while pending:
        path = pending.pop()
        ours, theirs = source + path, clone + path
        here, there = os.lstat(ours), os.lstat(theirs)
        said = [*_stat_unlike(here, there, flags)]
        if stat.S_ISLNK(here.st_mode):
            said += ["text"] if os.readlink(ours) != os.readlink(theirs) else []
        else:
            said += _metadata_unlike(bench, ours, theirs, flags)
        if stat.S_ISDIR(here.st_mode):
            names = sorted(os.listdir(ours))
            if sorted(os.listdir(theirs)) != names:
                said.append("entries")
            pending += [f"{path}/{name}" for name in names]
        elif stat.S_ISREG(here.st_mode):
            with open(ours, "rb") as one, open(theirs, "rb") as other:
                said += ["bytes"] if one.read() != other.read() else []
        found += [f".{path}: {each}" for each in said]
    return found


def _stat_unlike(here: os.stat_result, there: os.stat_result, flags: int) -> Iterator[str]:
    if stat.S_IFMT(here.st_mode) != stat.S_IFMT(there.st_mode):
        yield "type"
        return
    if here.st_ino == there.st_ino:
        yield "the same inode"
    mode = stat.S_IMODE(here.st_mode)
    if stat.S_ISREG(here.st_mode):
        mode &= ~0o6000
        if here.st_size != there.st_size:
            yield "size"
    if not stat.S_ISLNK(here.st_mode):
        if stat.S_IMODE(there.st_mode) != mode:
            yield f"mode {stat.S_IMODE(there.st_mode):o}, not {mode:o}"
        if here.st_mtime_ns != there.st_mtime_ns:
            yield "time"
    copied = os.geteuid() == 0 and not flags & CLONE_NOOWNERCOPY
    if there.st_uid != (here.st_uid if copied else os.geteuid()):
        yield f"owner {there.st_uid}"


def _metadata_unlike(bench: Bench, ours: str, theirs: str, flags: int) -> list[str]:
    said = []
    if bench.hands.attributes(ours) != bench.hands.attributes(theirs):
        said.append("attributes")
    lists = []
    for path in (ours, theirs):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            lists.append(bench.calls.access_list(descriptor))
        finally:
            os.close(descriptor)
    if lists[1] != (lists[0] if flags & CLONE_ACL else b""):
        said.append("access list")
    return said
