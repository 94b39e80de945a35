"""A store keeps each file once, and gives nothing that is not what the manifest says."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from linker import Existing, LinkError, LinkMode, link_tree
from linker.conditions import Condition, Primitive
from linker.manifest import Entry, Manifest
from linker.platforms.base import Failed, Kind, Look
from linker.store import MTIME, Store, place_of
from pytest_linkmode import evidence
from pytest_linkmode.faults.inprocess import Killed
from pytest_linkmode.layouts import Layout
from tests.linker import seams, trees, users
from tests.linker.seams import MachinePlatform
from tests.linker.trees import Directory, File, Symlink
from tests.patience import LONGER, SECONDS, in_time

MODES = [pytest.param(mode, id=mode.value) for mode in LinkMode]
every_mode = pytest.mark.parametrize("mode", MODES)

PACKAGE: trees.Tree = {
    "ns/a/__init__.py": File(),
    "ns/a/module.py": File(trees.noise(5000), 0o640),
    "ns/a/copy_of_module.py": File(trees.noise(5000), 0o600),
    "ns/a/tool": File(b"#!/bin/sh\n", 0o755),
    "ns/a/tool.txt": File(b"#!/bin/sh\n", 0o644),
    "ns/a/own_tool": File(b"for its owner only\n", 0o700),
    "ns/a/others_tool": File(b"for others only\n", 0o641),
    "ns/a/large": File(trees.noise(300_000, 1)),
    "ns/empty/directory": Directory(),
    "top": File(b"top"),
    trees.ODD: File(b"odd"),
}
FILES = {path: entry for path, entry in PACKAGE.items() if isinstance(entry, File)}


def digest(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}-{hashlib.new(algorithm, content).hexdigest()}"


WANTED = {
    path: Entry(digest(entry.content), bool(entry.mode & 0o111) and sys.platform != "win32")
    for path, entry in FILES.items()
}


@pytest.fixture
def source(ground: str) -> str:
    path = f"{ground}/source"
    trees.build(path, PACKAGE)
    return path


@pytest.fixture
def store(ground: str) -> Store:
    return Store(f"{ground}/store")


@pytest.fixture
def manifest(store: Store, source: str) -> Manifest:
    """What the package is, which the store has."""
    return store.add(source)


class Kept(NamedTuple):
    """What is known of a file of a store."""

    inode: int
    mode: int
    mtime_ns: int


def kept(store: Store) -> dict[str, Kept]:
    """Return every file of a store, by its place."""
    found = {}
    for parent, _, names in os.walk(f"{store.path}/files"):
        for name in names:
            path = os.path.join(parent, name)
            seen = os.stat(path)
            mode = stat.S_IMODE(seen.st_mode)
            place = os.path.relpath(path, store.path).replace(os.sep, "/")
            found[place] = Kept(seen.st_ino, mode, seen.st_mtime_ns)
    return found


def assert_sound(store: Store) -> None:
    """Assert that a store holds whole files, under the digests that they have, and nothing else."""
    for place, seen in kept(store).items():
        _, algorithm, first, rest = place.split("/")
        content = Path(store.path, place).read_bytes()
        executable = rest.endswith("-x")
        assert digest(content, algorithm) == f"{algorithm}-{first}{rest.removesuffix('-x')}"
        assert seen.mode == (0o555 if executable else 0o444)
        assert seen.mtime_ns == MTIME * 10**9
    assert set(os.listdir(store.path)) <= {"store.json", "files"}


# --- the way in ---------------------------------------------------------------------------------


def test_a_manifest_says_what_the_source_was(manifest: Manifest) -> None:
    assert manifest.files == WANTED
    assert manifest.directories == ("ns/empty/directory",)


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777], ids=oct)
def test_a_file_is_kept_once_for_each_digest_and_exec_bit(
    store: Store, source: str, umask: int
) -> None:
    before = os.umask(umask & 0o077)
    try:
        store.add(source)
        first = kept(store)
        store.add(source)
    finally:
        os.umask(before)

    assert sorted(first) == sorted({place_of(entry) for entry in WANTED.values()})
    assert len(first) == len(FILES) - 1
    assert kept(store) == first
    assert_sound(store)


def test_threads_that_add_to_one_store_keep_what_is_theirs(store: Store, ground: str) -> None:
    for number in range(8):
        tree = {f"f{part}": File(trees.noise(700_000, 10 * number + part)) for part in range(3)}
        trees.build(f"{ground}/source{number}", tree)
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(store.add, [f"{ground}/source{number}" for number in range(8)]))
    for number, found in enumerate(made):
        for part in range(3):
            content = trees.noise(700_000, 10 * number + part)
            assert found.files[f"f{part}"].digest == digest(content)
    assert_sound(store)


def test_sha512_is_a_digest_as_well(store: Store, source: str) -> None:
    manifest = store.add(source, algorithm="sha512")

    assert manifest.files["top"] == Entry(digest(b"top", "sha512"))
    assert all(len(place.split("/")) == 4 for place in kept(store))
    assert_sound(store)
    store.link(manifest, f"{store.path}/../target", mode=LinkMode.HARDLINK)


def test_the_source_is_left_as_it_was(store: Store, source: str) -> None:
    before = trees.snapshot(source)
    store.add(source)
    assert trees.differences(before, trees.snapshot(source)) == []


class Spoiling(MachinePlatform):
    """Claims to copy, and writes something else of the same length."""

    def copy_file(self, source: int, name: str, target: int, new: str) -> int:
        inode = super().copy_file(source, name, target, new)
        opened = os.open(new, os.O_WRONLY, dir_fd=target)
        if os.fstat(opened).st_size:
            os.pwrite(opened, b"\0", 0)
        os.close(opened)
        return inode


class Counting(MachinePlatform):
    """Knows how many files a stage has held at once."""

    most = 0

    def copy_file(self, source: int, name: str, target: int, new: str) -> int:
        inode = super().copy_file(source, name, target, new)
        self.most = max(self.most, len(os.listdir(target)))
        return inode


def test_what_is_kept_already_takes_no_space_a_second_time(
    ground: str, source: str, manifest: Manifest
) -> None:
    platform = Counting()
    Store(f"{ground}/store", platform=platform).add(source)
    assert platform.most == 1


def test_a_digest_is_that_of_what_was_written(ground: str, source: str) -> None:
    spoilt = Store(f"{ground}/store", platform=Spoiling())

    manifest = spoilt.add(source)

    assert manifest.files["top"].digest == digest(b"\0op")
    assert_sound(spoilt)


def test_a_source_that_is_not_what_was_expected_is_not_kept(
    ground: str, source: str, store: Store, manifest: Manifest
) -> None:
    good = store.add(source, expected=manifest)
    assert good == manifest
    before = kept(store)

    with pytest.raises(LinkError, match="not what the manifest says"):
        Store(store.path, platform=Spoiling()).add(source, expected=manifest)
    os.chmod(f"{source}/top", 0o755)
    with pytest.raises(LinkError, match="executable"):
        store.add(source, expected=manifest)
    os.unlink(f"{source}/top")
    with pytest.raises(LinkError, match="nothing there"):
        store.add(source, expected=manifest)
    trees.build(f"{source}/top", {})
    os.unlink(f"{source}/ns/a/tool")
    with pytest.raises(LinkError, match="not what the manifest says") as told:
        store.add(source, expected=manifest)
    assert "--expect" in told.value.hint

    assert kept(store) == before
    assert_sound(store)


def _symlink(scene: str) -> str:
    trees.build(f"{scene}/bad", {"d/a": File(b"new content"), "d/z": Symlink("a")})
    return f"{scene}/bad"


def _fifo(scene: str) -> str:
    trees.build(f"{scene}/bad", {"d/a": File(b"new content")})
    os.mkfifo(f"{scene}/bad/d/z")
    return f"{scene}/bad"


def _tree(tree: trees.Tree) -> Callable[[str], str]:
    def build(scene: str) -> str:
        trees.build(f"{scene}/bad", {"first": File(b"new content"), **tree})
        return f"{scene}/bad"

    return build


BAD_SOURCES: dict[str, tuple[Callable[[str], str], str]] = {
    "missing": (lambda scene: f"{scene}/nothing", "does not exist"),
    "file": (lambda scene: f"{scene}/source/top", "is no directory"),
    "the store": (lambda scene: f"{scene}/store", "the same directory"),
    "in the store": (lambda scene: f"{scene}/store/files", "lies inside the store"),
    "around the store": (lambda scene: scene, "lies inside the source"),
    "empty": (lambda scene: "", "is no path"),
    "symlink": (_symlink, "cannot add d/z"),
    "fifo": (_fifo, "cannot link d/z"),
    "backslash": (_tree({"a\\b": File()}), "must not name"),
    "drive": (_tree({"d/c:": File()}), "must not name"),
    "folding": (_tree({"d/A": File(), "d/a": File()}), "must not name"),
    "reserved": (_tree({".linkmode-stage-1/a": File()}), "cannot link .linkmode-stage-1"),
}


@pytest.mark.parametrize("case", BAD_SOURCES)
def test_a_source_that_no_manifest_can_name_is_not_kept(
    ground: str, store: Store, manifest: Manifest, case: str
) -> None:
    arrange, words = BAD_SOURCES[case]
    before, bad = kept(store), arrange(ground)

    with pytest.raises(LinkError) as caught:
        store.add(bad)

    assert words in caught.value.what
    assert caught.value.hint
    assert kept(store) == before
    assert_sound(store)


def test_an_unknown_digest_is_refused(store: Store, source: str) -> None:
    with pytest.raises(LinkError, match="unknown digest 'md5'"):
        store.add(source, algorithm="md5")
    assert not os.path.exists(store.path)


@pytest.mark.skipif(not users.is_root(), reason="an ordinary user's store cannot be looked into")
def test_what_cannot_be_read_or_written_is_an_error_of_ours(ground: str) -> None:
    source = f"{ground}/source"
    trees.build(source, {"ns/a/large": File(b"large", 0o000), "ns/a/small": File(b"small")})
    with users.ordinary_user():
        os.mkdir(f"{ground}/mine")
        with pytest.raises(LinkError, match="cannot read ns/a/large") as caught:
            Store(f"{ground}/mine/store").add(source)
        assert caught.value.condition is Condition.DENIED
        assert_sound(Store(f"{ground}/mine/store"))
        assert kept(Store(f"{ground}/mine/store")) == {}
    os.chmod(ground, 0o755)
    os.chmod(f"{source}/ns/a/large", 0o644)
    with users.ordinary_user(), pytest.raises(LinkError, match="store") as caught:
        Store(f"{ground}/store").add(source)
    assert caught.value.condition is Condition.DENIED
    assert not os.path.exists(f"{ground}/store")


# --- what is a store ----------------------------------------------------------------------------


def test_a_directory_that_is_something_else_is_no_store(ground: str, source: str) -> None:
    trees.build(f"{ground}/home", {"letter": File(b"Dear")})
    with pytest.raises(LinkError, match="is not empty"):
        Store(f"{ground}/home").add(source)
    assert os.listdir(f"{ground}/home") == ["letter"]
    for path in ("home", "nothing"):
        with pytest.raises(LinkError, match="is no store") as caught:
            Store(f"{ground}/{path}").link(Manifest(WANTED), f"{ground}/target")
        assert caught.value.hint
    assert not os.path.exists(f"{ground}/target")


@pytest.mark.parametrize("marker", ['{"format": "linker-store", "version": 2}', "{", "[]", ""])
def test_a_store_of_another_version_is_left_alone(
    ground: str, source: str, store: Store, manifest: Manifest, marker: str
) -> None:
    Path(f"{store.path}/store.json").write_text(marker)
    before = trees.snapshot(store.path)
    with pytest.raises(LinkError, match="no store that this linker knows"):
        store.add(source)
    with pytest.raises(LinkError, match="no store that this linker knows"):
        store.link(manifest, f"{ground}/target")
    assert trees.differences(before, trees.snapshot(store.path)) == []


ODD_MARKERS: dict[str, tuple[Callable[[str], None], str]] = {
    "a fifo": (lambda path: os.mkfifo(path), "no store that this linker knows"),
    "a device": (lambda path: _zeroes(path), "no store that this linker knows"),
    "a symlink": (lambda path: os.symlink("elsewhere", path), "cannot read .*store.json"),
    "a directory": (os.mkdir, "cannot read .*store.json"),
}
"""What may be in the place of the file that makes a store; the device is /dev/zero, without end."""


@pytest.mark.parametrize(
    "odd",
    [
        "a fifo",
        pytest.param("a device", marks=users.ROOT_ONLY),
        "a symlink",
        "a directory",
    ],
)
def test_a_store_without_a_file_that_says_so_is_none(
    ground: str, source: str, store: Store, manifest: Manifest, odd: str
) -> None:
    make, words = ODD_MARKERS[odd]
    os.rename(f"{store.path}/store.json", f"{store.path}/elsewhere")
    make(f"{store.path}/store.json")
    with in_time():
        with pytest.raises(LinkError, match=words) as told:
            store.link(manifest, f"{ground}/target", mode=LinkMode.COPY)
        assert told.value.hint or words.startswith("cannot read")
        with pytest.raises(LinkError, match=words):
            store.add(source)
    assert sorted(os.listdir(ground)) == ["source", "store"]
    assert sorted(os.listdir(store.path)) == ["elsewhere", "files", "store.json"]


def test_an_empty_directory_becomes_a_store(ground: str, source: str) -> None:
    os.mkdir(f"{ground}/store")
    assert Store(os.fsencode(f"{ground}/store")).add(Path(source)).files == WANTED


# --- the way out --------------------------------------------------------------------------------


@every_mode
@pytest.mark.parametrize("target_is", ["there", "new"])
def test_a_target_has_what_the_manifest_says(
    ground: str, store: Store, manifest: Manifest, mode: LinkMode, target_is: str
) -> None:
    target = f"{ground}/target"
    if target_is == "there":
        trees.build(target, {"ns/a/module.py": File(b"old"), "ns/b/other": File(b"theirs")})

    report = store.link(manifest, target, mode=mode)

    ended = LinkMode.COPY if mode is LinkMode.CLONE and not _clones(ground) else mode
    assert report.counts == {ended: len(FILES)}
    assert report.replaced == (1 if target_is == "there" else 0)
    found = trees.snapshot(target)
    others = {"ns/b", "ns/b/other"} if target_is == "there" else set()
    assert {path for path, seen in found.items() if seen.kind == "directory"} - others == {
        "",
        "ns",
        "ns/a",
        "ns/empty",
        "ns/empty/directory",
    }
    for path, entry in manifest.files.items():
        shelf = os.path.join(store.path, place_of(entry))
        if mode is LinkMode.SYMLINK:
            assert os.readlink(f"{target}/{path}") == shelf
        else:
            seen = found[path]
            assert seen.content == FILES[path].content
            assert seen.mode == (0o555 if entry.executable else 0o444)
            assert seen.mtime_ns == MTIME * 10**9
            assert (seen.inode == os.stat(shelf).st_ino) is (mode is LinkMode.HARDLINK)
    new = "ns/empty/directory"
    assert (found[new].mode, found[new].mtime_ns) == (0o755, MTIME * 10**9)
    assert_sound(store)


def _clones(directory: str) -> bool:
    from pytest_linkmode.capabilities import probe

    return "reflink" in probe(directory, directory)


@pytest.mark.linkmode(layout=["btrfs", "btrfs:tmpfs", "btrfs+subvolume", "tmpfs"])
def test_every_file_ends_in_the_mode_that_the_policy_says(
    linkmode_layout: Layout, link_mode: LinkMode, source: str
) -> None:
    store = Store(linkmode_layout.source / "store")
    manifest = store.add(source)
    target = linkmode_layout.target / "environment"
    expected = linkmode_layout.expect(link_mode)

    report = store.link(manifest, target, mode=link_mode)

    assert report.counts == {expected: len(FILES)}
    for path, entry in manifest.files.items():
        found = evidence(os.path.join(store.path, place_of(entry)), target / path)
        assert found.allows(expected), found
    proven = evidence(
        os.path.join(store.path, place_of(WANTED["ns/a/large"])), target / "ns/a/large"
    )
    assert proven.mode is expected, proven


@every_mode
def test_a_store_is_a_source_like_any_other(
    ground: str, store: Store, manifest: Manifest, mode: LinkMode
) -> None:
    store.link(manifest, f"{ground}/one", mode=LinkMode.COPY)

    mutable = store.link(manifest, f"{ground}/two", mode=mode, mutable=("*.py", "ns/a/l*"))
    assert mutable.counts[LinkMode.COPY] >= 4
    assert not os.path.samefile(
        f"{ground}/two/ns/a/large", f"{store.path}/{place_of(WANTED['ns/a/large'])}"
    )
    with pytest.raises(LinkError) as caught:
        store.link(manifest, f"{ground}/one", mode=mode, existing=Existing.FAIL)
    assert caught.value.condition is Condition.EXISTS
    with pytest.raises(LinkError, match="unknown link mode"):
        store.link(manifest, f"{ground}/three", mode="hardlnk")
    with pytest.raises(LinkError, match="lies inside the source"):
        store.link(manifest, f"{store.path}/files/target", mode=mode)
    done: list[tuple[int, int]] = []
    store.link(
        manifest, f"{ground}/one", mode=mode, progress=lambda count, of: done.append((count, of))
    )
    assert done[-1] == (len(FILES), len(FILES))
    assert_sound(store)


class NoMore(MachinePlatform):
    """Makes three files in whatever mode, and then meets a full disk."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 3

    def _spend(self, primitive: Primitive) -> None:
        self.left -= 1
        if self.left < 0:
            raise Failed(primitive, OSError(28, "No space left on device"))

    def hardlink(self, source: int, name: str, target: int, new: str) -> int:
        self._spend(Primitive.HARDLINK)
        return super().hardlink(source, name, target, new)

    def copy_file(self, source: int, name: str, target: int, new: str) -> int:
        self._spend(Primitive.COPY)
        return super().copy_file(source, name, target, new)

    def copy_directly(
        self, source: int, name: str, target: int, new: str, placing: Callable[[int, int], None]
    ) -> int:
        self._spend(Primitive.COPY)
        return super().copy_directly(source, name, target, new, placing)

    def symlink(self, text: str, target: int, new: str) -> int:
        self._spend(Primitive.SYMLINK)
        return super().symlink(text, target, new)


@every_mode
@pytest.mark.parametrize("target_is", ["there", "new"])
def test_a_link_that_fails_is_undone(
    ground: str, store: Store, manifest: Manifest, mode: LinkMode, target_is: str
) -> None:
    if target_is == "there":
        trees.build(f"{ground}/target", {"ns/a/module.py": File(b"old"), "top": File(b"old")})
    before = trees.lasting(trees.snapshot(ground))

    with pytest.raises(LinkError) as caught:
        Store(store.path, platform=NoMore()).link(manifest, f"{ground}/target", mode=mode)

    assert caught.value.condition is Condition.NO_SPACE
    assert caught.value.left == ()
    assert trees.differences(before, trees.lasting(trees.snapshot(ground))) == []


def test_the_same_content_twice_in_one_directory_is_one_inode(
    ground: str, store: Store, manifest: Manifest
) -> None:
    store.link(manifest, f"{ground}/target", mode=LinkMode.HARDLINK)
    one, other = f"{ground}/target/ns/a/module.py", f"{ground}/target/ns/a/copy_of_module.py"
    assert os.path.samefile(one, other)
    assert not os.path.samefile(f"{ground}/target/ns/a/tool", f"{ground}/target/ns/a/tool.txt")
    again = store.link(manifest, f"{ground}/target", mode=LinkMode.HARDLINK)
    assert again.counts == {LinkMode.HARDLINK: len(FILES)}
    assert sorted(os.listdir(f"{ground}/target")) == sorted(["ns", "top", trees.ODD])


@pytest.mark.skipif(not users.is_root(), reason="only root can make a store of somebody else")
@pytest.mark.parametrize("mode", [LinkMode.COPY, LinkMode.SYMLINK], ids=str)
def test_a_store_that_may_only_be_read_is_enough(
    ground: str, store: Store, manifest: Manifest, mode: LinkMode
) -> None:
    with users.ordinary_user():
        os.mkdir(f"{ground}/mine")
        report = store.link(manifest, f"{ground}/mine/target", mode=mode)
    assert report.counts == {mode: len(FILES)}


# --- a store that is not what it was ------------------------------------------------------------

LARGE = place_of(WANTED["ns/a/large"])
TOOL = place_of(WANTED["ns/a/tool"])


def _rewrite(path: str, content: bytes) -> None:
    """Change a file so that its stat does not tell."""
    seen = os.stat(path)
    os.chmod(path, 0o600)
    Path(path).write_bytes(content)
    os.chmod(path, stat.S_IMODE(seen.st_mode))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def _flip(path: str) -> None:
    content = bytearray(Path(path).read_bytes())
    content[-1] ^= 1
    _rewrite(path, bytes(content))


def _zeroes(path: str) -> None:
    """Make a device like /dev/zero, which has no end."""
    os.mknod(path, 0o444 | stat.S_IFCHR, os.makedev(1, 5))
    os.chmod(path, 0o444)
    os.utime(path, (MTIME, MTIME))


def _replace(path: str, make: Callable[[str], None]) -> None:
    trees.remove(path)
    make(path)


DAMAGES: dict[str, tuple[Callable[[str], None], str]] = {
    "gone": (trees.remove, "is not there"),
    "another bit": (_flip, "is corrupt"),
    "cut short": (lambda path: _rewrite(path, Path(path).read_bytes()[:-1]), "is corrupt"),
    "longer": (lambda path: _rewrite(path, Path(path).read_bytes() + b"\0"), "is corrupt"),
    "empty": (lambda path: _rewrite(path, b""), "is corrupt"),
    "another time": (lambda path: os.utime(path, (0, 0)), "was changed"),
    "other bits": (lambda path: os.chmod(path, 0o644), "was changed"),
    "executable": (lambda path: os.chmod(path, 0o555), "was changed"),
    "setuid": (lambda path: os.chmod(path, 0o4444), "was changed"),
    "a symlink": (lambda path: _replace(path, lambda new: os.symlink("/etc/passwd", new)), ""),
    "a directory": (lambda path: _replace(path, os.mkdir), "is no file, but a directory"),
    "a fifo": (lambda path: _replace(path, lambda new: os.mkfifo(new)), "is no file"),
    "a device": (lambda path: _replace(path, _zeroes), "is no file"),
}
DAMAGED = [
    pytest.param(name, marks=users.ROOT_ONLY) if name == "a device" else name for name in DAMAGES
]


@every_mode
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_file_that_is_not_what_it_was_is_refused_before_anything_is_written(
    ground: str, store: Store, manifest: Manifest, damage: str, mode: LinkMode
) -> None:
    inflict, words = DAMAGES[damage]
    inflict(f"{store.path}/{LARGE}")
    trees.build(f"{ground}/target", {"top": File(b"old")})
    before = trees.snapshot(ground)

    for target in ("target", "new"):
        with in_time(), pytest.raises(LinkError) as caught:
            store.link(manifest, f"{ground}/{target}", mode=mode)
        assert words in caught.value.why
        assert caught.value.why or caught.value.hint

    assert trees.differences(before, trees.snapshot(ground)) == []


@pytest.mark.parametrize("damage", DAMAGED)
def test_adding_again_mends_a_store(
    ground: str, store: Store, manifest: Manifest, source: str, damage: str
) -> None:
    store.link(manifest, f"{ground}/target", mode=LinkMode.HARDLINK)
    DAMAGES[damage][0](f"{store.path}/{LARGE}")
    as_it_was = trees.snapshot(f"{ground}/target")

    with in_time():
        assert store.add(source) == manifest

    store.check(manifest)
    assert_sound(store)
    assert trees.differences(as_it_was, trees.snapshot(f"{ground}/target")) == []


class Meeting(MachinePlatform):
    """Lets something happen once, right before a call that gives a file of a store its name."""

    def __init__(self, call: str, happens: Callable[[], None], *, swaps: bool) -> None:
        super().__init__()
        self.happens: Callable[[], None] | None = happens
        self.call = call
        self.swaps = swaps

    def _meet(self, call: str, new: str) -> None:
        happens = self.happens
        if call == self.call and happens is not None and new.startswith("files/"):
            self.happens = None
            happens()

    def place(self, source: int, name: str, target: int, new: str) -> None:
        if name.startswith("files/"):
            self._meet("set aside", name)
        self._meet("place", new)
        super().place(source, name, target, new)

    def exchange(
        self, source: int, name: str, target: int, new: str, ours: int | None = None
    ) -> Look | None:
        self._meet("exchange", new)
        if not self.swaps:  # as on Windows, where one of the two is a directory
            there = self.look(target, new)
            if there is not None and there.kind is Kind.DIRECTORY:
                raise Failed(Primitive.EXCHANGE, PermissionError(13, "Permission denied"))
        return super().exchange(source, name, target, new, ours)


@pytest.mark.parametrize(
    ("call", "swaps"),
    [("place", True), ("exchange", True), *((call, False) for call in ("exchange", "set aside"))],
)
@pytest.mark.parametrize("other", ["mends it", "removes it", "puts one there again"])
def test_adders_who_meet_at_a_directory_in_the_place_of_a_file_all_succeed(
    ground: str,
    store: Store,
    manifest: Manifest,
    source: str,
    other: str,
    call: str,
    *,
    swaps: bool,
) -> None:
    path = f"{store.path}/{LARGE}"
    _replace(path, os.mkdir)

    def happens() -> None:
        if other == "mends it":
            Store(store.path).add(source)
        elif other == "removes it":
            os.rmdir(path)
        else:
            _replace(path, os.mkdir)

    platform = Meeting(call, happens, swaps=swaps)
    assert Store(store.path, platform=platform).add(source) == manifest
    assert platform.happens is None
    store.check(manifest)
    assert_sound(store)


def test_a_directory_in_the_place_of_a_file_is_not_removed_with_what_is_in_it(
    ground: str, store: Store, manifest: Manifest, source: str
) -> None:
    path = os.path.join(store.path, LARGE)
    _replace(path, os.mkdir)
    Path(f"{path}/precious").write_bytes(b"precious")
    with pytest.raises(LinkError, match="it is a directory, and not empty") as told:
        store.add(source)
    assert path in told.value.hint
    assert Path(f"{path}/precious").read_bytes() == b"precious"
    assert sorted(os.listdir(store.path)) == ["files", "store.json"]


def test_a_file_that_is_mended_while_it_is_looked_at_is_what_it_must_be(
    store: Store, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, kept_at = f"{store.path}/{LARGE}", f"{store.path}/files/kept"
    os.rename(path, kept_at)
    os.mkdir(path)
    plain = os.lstat

    def lstat(name: str) -> os.stat_result:
        if os.path.exists(kept_at):
            os.rmdir(path)
            os.rename(kept_at, path)
        return plain(name)

    monkeypatch.setattr(os, "lstat", lstat)
    store.check(manifest)
    assert not os.path.exists(kept_at), "it was not mended then"


@pytest.mark.parametrize("kept_mode", [0o444, 0o555])
def test_a_filesystem_of_fixed_bits_is_refused_whatever_they_are(
    ground: str, source: str, monkeypatch: pytest.MonkeyPatch, kept_mode: int
) -> None:
    """As exFAT with a mask: all files are executable, or none."""
    plain = os.chmod
    monkeypatch.setattr(os, "chmod", lambda path, _mode: plain(path, kept_mode))
    store = Store(f"{ground}/new")
    with pytest.raises(LinkError, match="cannot be a store"):
        store.add(source)
    assert os.listdir(store.path) == []


def test_an_edit_of_a_hard_link_is_noticed(
    ground: str, store: Store, manifest: Manifest, source: str
) -> None:
    store.link(manifest, f"{ground}/target", mode=LinkMode.HARDLINK)
    os.chmod(f"{ground}/target/top", 0o644)
    Path(f"{ground}/target/top").write_bytes(b"edited")

    with pytest.raises(LinkError, match="was changed"):
        store.link(manifest, f"{ground}/other", mode=LinkMode.COPY)
    with pytest.raises(LinkError, match="was changed"):
        store.link(manifest, f"{ground}/other", mode=LinkMode.COPY, verify=False)
    store.add(source)
    store.link(manifest, f"{ground}/other", mode=LinkMode.COPY)

    assert Path(f"{ground}/other/top").read_bytes() == b"top"
    assert Path(f"{ground}/target/top").read_bytes() == b"edited"


def test_without_verifying_only_the_content_is_trusted(
    ground: str, store: Store, manifest: Manifest
) -> None:
    _flip(f"{store.path}/{LARGE}")
    store.link(manifest, f"{ground}/target", mode=LinkMode.COPY, verify=False)
    trees.remove(f"{store.path}/{LARGE}")
    with pytest.raises(LinkError, match="cannot give 'ns/a/large'"):
        store.link(manifest, f"{ground}/other", mode=LinkMode.COPY, verify=False)
    assert not os.path.exists(f"{ground}/other")


def test_an_error_names_one_file_and_counts_the_others(
    ground: str, store: Store, manifest: Manifest
) -> None:
    trees.remove(f"{store.path}/{LARGE}")
    trees.remove(f"{store.path}/{TOOL}")
    with pytest.raises(LinkError) as caught:
        store.check(manifest)
    assert "with 1 more" in caught.value.why
    assert "add the files to the store again" in caught.value.hint


def test_what_a_manifest_does_not_name_does_not_matter(
    ground: str, store: Store, manifest: Manifest
) -> None:
    trees.remove(f"{store.path}/{LARGE}")
    part = Manifest({"elsewhere/top": manifest.files["top"]})
    store.link(part, f"{ground}/target", mode=LinkMode.COPY)
    assert Path(f"{ground}/target/elsewhere/top").read_bytes() == b"top"


# --- company, and sudden ends -------------------------------------------------------------------


def test_several_add_to_one_store_at_once(ground: str) -> None:
    for number in range(4):
        own = {f"own/{number}-{n}": File(trees.noise(2000, 100 * number + n)) for n in range(30)}
        shared = {f"shared/{n}": File(trees.noise(2000, n)) for n in range(10_000, 10_060)}
        trees.build(f"{ground}/source{number}", {**own, **shared})
    script = (
        "import sys; from linker.store import Store\n"
        "sys.stdin.readline()\n"
        "for _ in range(3): manifest = Store(sys.argv[1]).add(sys.argv[2])\n"
        "print(manifest.dumps())\n"
    )
    runs = [
        subprocess.Popen(
            (sys.executable, "-c", script, f"{ground}/store", f"{ground}/source{number}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for number in range(4)
    ]
    for run in runs:  # all at once
        assert run.stdin is not None
        run.stdin.write("\n")
        run.stdin.flush()
    said = [run.communicate(timeout=SECONDS) for run in runs]

    assert [run.returncode for run in runs] == [0, 0, 0, 0], said
    store = Store(f"{ground}/store")
    for out, _ in said:
        store.check(Manifest.loads(out))
    assert len(kept(store)) == 4 * 30 + 60
    assert_sound(store)


def test_two_that_make_one_store_leave_the_first_ones_marker(
    ground: str, store: Store, source: str
) -> None:
    """Somebody reads it already, and Windows replaces no file that is open."""
    marker = f"{store.path}/store.json"

    with ExitStack() as stack:

        class Late(MachinePlatform):
            """Another process makes the store just before this one does."""

            inode = 0

            def place(self, source: int, name: str, target: int, new: str) -> None:
                if new == "store.json":
                    Store(store.path).add(f"{ground}/source")
                    self.inode = os.stat(marker).st_ino
                    stack.enter_context(open(marker, "rb"))
                super().place(source, name, target, new)

        late = Late()
        manifest = Store(store.path, platform=late).add(source)
        assert os.stat(marker).st_ino == late.inode

    store.check(manifest)
    assert_sound(store)


def test_a_concurrent_writer_does_not_replace_a_good_file(
    ground: str, store: Store, source: str
) -> None:
    """Somebody linked to it already: their inode stays the store's."""

    class Late(MachinePlatform):
        """Another process is done just before the first file gets its name."""

        came = False

        def place(self, source: int, name: str, target: int, new: str) -> None:
            if not self.came and new.startswith("files/"):
                self.came = True
                Store(store.path).add(f"{ground}/source")
                self.inodes = {place: seen.inode for place, seen in kept(store).items()}
            super().place(source, name, target, new)

    late = Late()
    Store(store.path, platform=late).add(source)

    assert {place: seen.inode for place, seen in kept(store).items()} == late.inodes
    assert_sound(store)


def test_a_killed_writer_leaves_whole_files_and_nothing_that_stays(
    ground: str, source: str
) -> None:
    """At every call of the platform: what has a name is whole, and the next one cleans up."""

    def kill_at(number: int) -> Callable[[int, str], None]:
        def deed(count: int, name: str) -> None:
            if count >= number:
                raise Killed

        return deed

    number = 0
    while True:
        number += 1
        store = Store(f"{ground}/store")
        tap = seams.Tap(kill_at(number))
        try:
            Store(store.path, platform=tap.platform).add(source)
            break
        except Killed:
            tap.close()
        for place in kept(store):
            _, _, first, rest = place.split("/")
            content = Path(store.path, place).read_bytes()
            assert digest(content) == f"sha256-{first}{rest.removesuffix('-x')}"
        if number % 10 == 0:
            store.check(store.add(source))
            assert_sound(store)
            trees.remove(store.path)
    assert number > 50
    assert_sound(store)


def test_a_writer_that_is_really_killed_leaves_nothing_that_stays(ground: str) -> None:
    trees.build(f"{ground}/source", {f"{n}": File(trees.noise(1000, n)) for n in range(20)})
    script = f"""
import sys, time
from linker.platforms.linux import LinuxPlatform
from linker.store import Store

class Waiting(LinuxPlatform):
    def copy_file(self, source, name, target, new):
        inode = super().copy_file(source, name, target, new)
        if name == "17":
            print("here", flush=True)
            time.sleep({LONGER})
        return inode

Store(sys.argv[1], platform=Waiting()).add(sys.argv[2])
"""
    with subprocess.Popen(
        (sys.executable, "-c", script, f"{ground}/store", f"{ground}/source"),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"here\n"
        store = Store(f"{ground}/store")
        while_it_lives = store.add(f"{ground}/source")  # its stage is left alone
        assert len(os.listdir(store.path)) == 3
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL

    assert store.add(f"{ground}/source") == while_it_lives

    store.check(while_it_lives)
    assert_sound(store)


def test_a_writer_that_fails_leaves_the_store_as_it_was(
    ground: str, store: Store, manifest: Manifest
) -> None:
    trees.build(f"{ground}/more", {f"{n}": File(trees.noise(100, n)) for n in range(8)})
    before = kept(store)
    with pytest.raises(LinkError) as caught:
        Store(store.path, platform=NoMore()).add(f"{ground}/more")
    assert caught.value.condition is Condition.NO_SPACE
    assert kept(store) == before
    assert_sound(store)


@pytest.mark.parametrize(
    "calls", [seams.WITHOUT_FLAGS, seams.WITHOUT_FLAGS_AND_LINKS], ids=["no flags", "no links"]
)
def test_a_store_needs_neither_hard_links_nor_flags_of_rename(
    ground: str, source: str, calls: Any
) -> None:
    poor = Store(f"{ground}/store", platform=MachinePlatform(calls))
    manifest = poor.add(source)
    _flip(f"{poor.path}/{LARGE}")
    poor.add(source)
    poor.link(manifest, f"{ground}/target", mode=LinkMode.COPY)
    assert_sound(poor)
    assert Path(f"{ground}/target/ns/a/large").read_bytes() == FILES["ns/a/large"].content


# --- trees of any depth -------------------------------------------------------------------------


@pytest.fixture
def pit(ground: str) -> Iterator[str]:
    path = f"{ground}/pit"
    os.mkdir(path)
    yield path
    subprocess.run(("rm", "-rf", "--", path), check=True)


def test_a_tree_deeper_than_any_path_is_kept_and_linked(pit: str, store: Store) -> None:
    depth, here = 1100, os.open(pit, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("directory", dir_fd=here)
        below = os.open("directory", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("bottom", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=here))
    os.close(here)

    manifest = Manifest.loads(store.add(f"{pit}/directory").dumps())
    report = store.link(manifest, f"{pit}/target", mode=LinkMode.HARDLINK)

    assert [len(path) for path in manifest.files] == [10 * (depth - 1) + len("bottom")]
    assert report.counts == {LinkMode.HARDLINK: 1}
    assert report.directories == depth
    copied = link_tree(f"{pit}/target", f"{pit}/again", mode=LinkMode.COPY)
    assert copied.counts == {LinkMode.COPY: 1}


def test_the_marker_is_what_the_documentation_says(store: Store, manifest: Manifest) -> None:
    with open(f"{store.path}/store.json", encoding="ascii") as file:
        assert json.load(file) == {"format": "linker-store", "version": 1}


@pytest.mark.parametrize("mode", [LinkMode.COPY, LinkMode.HARDLINK, LinkMode.SYMLINK])
@pytest.mark.parametrize("path", ["n" * 256, "d/" + "n" * 256, "n" * 256 + "/f"])
def test_a_name_that_the_target_cannot_hold_leaves_nothing(
    ground: str, path: str, mode: LinkMode
) -> None:
    trees.build(f"{ground}/source", {"a": File(b"a")})
    trees.build(f"{ground}/target", {"a": File(b"old"), "d/own": File(b"own")})
    store = Store(f"{ground}/store")
    entry = store.add(f"{ground}/source").files["a"]
    before = trees.lasting(trees.snapshot(f"{ground}/target"))
    for target in ("target", "n" * 256):
        with pytest.raises(LinkError) as caught:
            store.link(Manifest({"a": entry, path: entry}), f"{ground}/{target}", mode=mode)
        assert caught.value.condition is Condition.NAME_TOO_LONG
        assert caught.value.left == ()
        assert sorted(os.listdir(ground)) == ["source", "store", "target"]
    after = trees.lasting(trees.snapshot(f"{ground}/target"))
    assert trees.differences(before, after) == []
