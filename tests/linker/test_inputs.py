"""What cannot be linked is refused: an error of our own, and a target in which nothing happened.

Each row of `REFUSED` is one wrong request. The rest are disks, limits and trees that are wrong only
once one is in the middle of them, and trees that look wrong and must just work.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from linker import Existing, LinkError, LinkMode, LinkReport, link_file, link_tree
from linker.conditions import Condition, Primitive
from linker.journal import STAGE
from linker.platforms.base import Failed, Look
from pytest_linkmode import kernel
from tests.linker import trees, users
from tests.linker.seams import MachinePlatform
from tests.linker.trees import Directory, File, Symlink
from tests.windows import wine

MODES = [pytest.param(mode, id=mode.value) for mode in LinkMode]
every_mode = pytest.mark.parametrize("mode", MODES)

SMALL: trees.Tree = {
    "a": File(b"a"),
    "package/__init__.py": File(),
    "package/module.py": File(trees.noise(5000)),
    "package/tool": File(b"#!/bin/sh\n", 0o755),
    "package/link": Symlink("module.py"),
}


def refused(scene: str, link: Callable[[], LinkReport]) -> LinkError:
    """Return the error of a link that must fail, and leave nothing changed in the whole scene."""
    before = trees.lasting(trees.snapshot(scene))
    with pytest.raises(LinkError) as caught:
        link()
    assert trees.differences(before, trees.lasting(trees.snapshot(scene))) == []
    assert caught.value.left == ()
    assert caught.value.what
    return caught.value


# --- wrong from the start -----------------------------------------------------------------------

Scene = Callable[[str], tuple[str, str]]
"""Builds a wrong request in a directory; returns its source and its target."""


def _built(scene: str, source: trees.Tree, target: trees.Tree | None = None) -> tuple[str, str]:
    trees.build(f"{scene}/source", trees.possible(source) if source is SMALL else source)
    if target is not None:
        trees.build(f"{scene}/target", target)
    return f"{scene}/source", f"{scene}/target"


def _symlink(text: str, path: str) -> None:
    wine.need("symlinks")
    os.symlink(text, path)


def _missing_source(scene: str) -> tuple[str, str]:
    trees.build(f"{scene}/target", SMALL)
    return f"{scene}/source", f"{scene}/target"


def _source_that_leads_nowhere(scene: str) -> tuple[str, str]:
    _symlink("nowhere", f"{scene}/source")
    return f"{scene}/source", f"{scene}/target"


def _source_is_a_file(scene: str) -> tuple[str, str]:
    Path(f"{scene}/source").write_bytes(b"a file")
    return f"{scene}/source", f"{scene}/target"


def _source_is_a_fifo(scene: str) -> tuple[str, str]:
    os.mkfifo(f"{scene}/source")
    return f"{scene}/source", f"{scene}/target"


def _target_is_a_file(scene: str) -> tuple[str, str]:
    source, target = _built(scene, SMALL)
    Path(target).write_bytes(b"a file")
    return source, target


def _target_leads_to_a_file(scene: str) -> tuple[str, str]:
    source, target = _built(scene, SMALL)
    Path(f"{scene}/file").write_bytes(b"a file")
    _symlink("file", target)
    return source, target


def _target_leads_nowhere(scene: str) -> tuple[str, str]:
    source, target = _built(scene, SMALL)
    _symlink("nowhere", target)
    return source, target


def _target_below_a_file(scene: str) -> tuple[str, str]:
    source, target = _built(scene, SMALL)
    Path(target).write_bytes(b"a file")
    return source, f"{target}/below/it"


def _target_in_the_source(scene: str) -> tuple[str, str]:
    source, _ = _built(scene, SMALL)
    return source, f"{source}/package"


def _new_target_in_the_source(scene: str) -> tuple[str, str]:
    source, _ = _built(scene, SMALL)
    return source, f"{source}/package/new/target"


def _target_in_the_source_by_a_symlink(scene: str) -> tuple[str, str]:
    source, _ = _built(scene, SMALL)
    _symlink("source/package", f"{scene}/elsewhere")
    return source, f"{scene}/elsewhere/target"


def _source_in_the_target(scene: str) -> tuple[str, str]:
    source, _ = _built(scene, SMALL)
    return f"{source}/package", source


def _source_in_the_target_by_a_symlink(scene: str) -> tuple[str, str]:
    source, _ = _built(scene, SMALL)
    _symlink("source/package", f"{scene}/elsewhere")
    return f"{scene}/elsewhere", source


def _the_same_directory(scene: str) -> tuple[str, str]:
    source, _ = _built(scene, SMALL)
    return source, f"{source}/../source/."


def _the_same_directory_by_a_symlink(scene: str) -> tuple[str, str]:
    source, target = _built(scene, SMALL)
    _symlink("source", target)
    return source, target


def _empty_path(scene: str) -> tuple[str, str]:
    return _built(scene, SMALL)[0], ""


def _nul_in_the_target(scene: str) -> tuple[str, str]:
    return _built(scene, SMALL)[0], f"{scene}/tar\0get"


def _nul_in_the_source(scene: str) -> tuple[str, str]:
    return f"{scene}/sour\0ce", _built(scene, SMALL)[1]


def _special(make: Callable[[str], None]) -> Scene:
    def build(scene: str) -> tuple[str, str]:
        source, target = _built(scene, SMALL, {"package/old": File(b"old")})
        make(f"{source}/package/zzz")
        return source, target

    return build


def _socket(path: str) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


def _file_on_directory(scene: str) -> tuple[str, str]:
    return _built(scene, {**SMALL, "z": File(b"new")}, {"z/old": File(b"old")})


def _symlink_on_directory(scene: str) -> tuple[str, str]:
    return _built(scene, {**SMALL, "z": Symlink("a")}, {"z/old": File(b"old")})


def _directory_on_file(scene: str) -> tuple[str, str]:
    return _built(scene, {**SMALL, "z/new": File(b"new")}, {"z": File(b"old")})


def _directory_on_symlink(scene: str) -> tuple[str, str]:
    os.mkdir(f"{scene}/outside")
    return _built(scene, {**SMALL, "z/new": File(b"new")}, {"z": Symlink("../outside")})


def _directory_on_symlink_within(scene: str) -> tuple[str, str]:
    return _built(scene, {**SMALL, "z/new": File()}, {"z": Symlink("y"), "y": Directory()})


def _reserved_name(scene: str) -> tuple[str, str]:
    return _built(scene, {**SMALL, "package/.linkmode-stage-0123abcd": Directory()}, {})


REFUSED: dict[str, tuple[Scene, str, Condition | None]] = {
    "missing-source": (_missing_source, "does not exist", Condition.MISSING),
    "dangling-source": (_source_that_leads_nowhere, "is no directory", Condition.NOT_DIRECTORY),
    "source-is-a-file": (_source_is_a_file, "is no directory", Condition.NOT_DIRECTORY),
    "source-is-a-fifo": (_source_is_a_fifo, "is no directory", Condition.NOT_DIRECTORY),
    "target-is-a-file": (_target_is_a_file, "is no directory", Condition.NOT_DIRECTORY),
    "target-leads-to-a-file": (
        _target_leads_to_a_file,
        "is no directory",
        Condition.NOT_DIRECTORY,
    ),
    "dangling-target": (_target_leads_nowhere, "is no directory", Condition.NOT_DIRECTORY),
    "target-below-a-file": (_target_below_a_file, "", Condition.NOT_DIRECTORY),
    "target-in-source": (_target_in_the_source, "lies inside the source", None),
    "new-target-in-source": (_new_target_in_the_source, "lies inside the source", None),
    "target-in-source-by-symlink": (
        _target_in_the_source_by_a_symlink,
        "lies inside the source",
        None,
    ),
    "source-in-target": (_source_in_the_target, "lies inside the target", None),
    "source-in-target-by-symlink": (
        _source_in_the_target_by_a_symlink,
        "lies inside the target",
        None,
    ),
    "same-directory": (_the_same_directory, "the same directory", None),
    "same-directory-by-symlink": (_the_same_directory_by_a_symlink, "the same directory", None),
    "empty-path": (_empty_path, "is no path", None),
    "nul-in-target": (_nul_in_the_target, "is no path", None),
    "nul-in-source": (_nul_in_the_source, "is no path", None),
    "fifo": (_special(lambda path: os.mkfifo(path)), "cannot link package/zzz", None),
    "socket": (_special(_socket), "cannot link package/zzz", None),
    "file-on-directory": (_file_on_directory, "cannot replace z", Condition.IS_DIRECTORY),
    "symlink-on-directory": (_symlink_on_directory, "cannot replace z", Condition.IS_DIRECTORY),
    "directory-on-file": (_directory_on_file, "cannot merge", Condition.NOT_DIRECTORY),
    "directory-on-symlink": (_directory_on_symlink, "cannot merge", Condition.IS_SYMLINK),
    "directory-on-symlink-within": (
        _directory_on_symlink_within,
        "cannot merge",
        Condition.IS_SYMLINK,
    ),
    "reserved-name": (_reserved_name, "cannot link package/.linkmode-stage", None),
}


@every_mode
@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_request_is_refused_and_nothing_happens(
    scene: str, mode: LinkMode, case: str
) -> None:
    build, words, condition = REFUSED[case]
    source, target = build(scene)

    error = refused(scene, lambda: link_tree(source, target, mode=mode))

    assert words in error.what
    assert error.condition is condition
    assert error.why or error.hint
    assert str(error).startswith(error.what)
    assert error.hint in str(error)


@pytest.mark.skipif(not users.is_root(), reason="only root makes devices")
@every_mode
def test_a_device_is_refused(ground: str, mode: LinkMode) -> None:
    null = os.makedev(1, 3)
    build = _special(lambda path: os.mknod(path, stat.S_IFCHR | 0o666, null))
    source, target = build(ground)

    error = refused(ground, lambda: link_tree(source, target, mode=mode))

    assert error.what == "cannot link package/zzz"


@pytest.mark.parametrize("mode", ["hardlnk", "", "Clone!", None, 3])
def test_an_unknown_mode_is_refused_with_the_ones_there_are(scene: str, mode: Any) -> None:
    source, target = _built(scene, SMALL)

    error = refused(scene, lambda: link_tree(source, target, mode=mode))

    assert repr(mode) in error.what
    assert all(known.value in error.hint for known in LinkMode)


@every_mode
def test_a_name_that_exists_is_refused_if_so_asked(scene: str, mode: LinkMode) -> None:
    source, target = _built(scene, SMALL, {"package/module.py": File(b"theirs")})

    error = refused(scene, lambda: link_tree(source, target, mode=mode, existing=Existing.FAIL))

    assert error.condition is Condition.EXISTS
    assert error.path == "package"


FILE_REFUSED: dict[str, tuple[Callable[[str], tuple[str, str]], str]] = {
    "missing": (lambda scene: (f"{scene}/nothing", f"{scene}/new"), "does not exist"),
    "directory": (lambda scene: (f"{scene}/source", f"{scene}/new"), "is a directory"),
    "on-itself": (lambda scene: (f"{scene}/source/a", f"{scene}/source/../source/a"), "same file"),
    "on-a-directory": (lambda scene: (f"{scene}/source/a", f"{scene}/source/package"), "replace"),
    "below-a-file": (lambda scene: (f"{scene}/source/a", f"{scene}/source/package/tool/b"), ""),
    "empty": (lambda scene: (f"{scene}/source/a", ""), "is no path"),
}


@every_mode
@pytest.mark.parametrize("case", FILE_REFUSED)
def test_a_wrong_request_for_one_file_is_refused(scene: str, mode: LinkMode, case: str) -> None:
    _built(scene, SMALL)
    arrange, words = FILE_REFUSED[case]
    source, target = arrange(scene)

    error = refused(scene, lambda: link_file(source, target, mode=mode))

    assert words in error.what
    assert error.why or error.hint


@every_mode
@pytest.mark.parametrize("root", ["/", "//", "/.", "/usr/.."])
def test_one_file_does_not_become_the_root_directory(
    ground: str, mode: LinkMode, root: str
) -> None:
    with users.ordinary_user():  # who could not do much harm there
        _built(f"{ground}", SMALL)

        error = refused(ground, lambda: link_file(f"{ground}/source/a", root, mode=mode))

    assert error.condition is Condition.IS_DIRECTORY


# --- permissions --------------------------------------------------------------------------------


@pytest.fixture
def ordinary(ground: str) -> str:
    """A directory of an ordinary user's own, who is only to be one while linking."""
    path = f"{ground}/scene"
    with users.ordinary_user():
        os.mkdir(path)
    return path


def as_ordinary_user(link: Callable[[], LinkReport]) -> Callable[[], LinkReport]:
    def run() -> LinkReport:
        with users.ordinary_user():
            return link()

    return run


needs_root = pytest.mark.skipif(
    not users.is_root(), reason="only root can look at what an ordinary user may not read"
)


@needs_root
@pytest.mark.parametrize("mode", [LinkMode.CLONE, LinkMode.COPY], ids=str)
def test_a_file_that_cannot_be_read_ends_the_link(ordinary: str, mode: LinkMode) -> None:
    with users.ordinary_user():
        source, target = _built(
            ordinary, {**SMALL, "z": File(b"secret", 0o000)}, {"a": File(b"old")}
        )

    error = refused(ordinary, as_ordinary_user(lambda: link_tree(source, target, mode=mode)))

    assert (error.path, error.condition) == ("z", Condition.DENIED)
    assert error.hint


@needs_root
@every_mode
@pytest.mark.parametrize("bits", [0o000, 0o600, 0o300], ids=oct)
def test_a_directory_that_cannot_be_read_ends_the_link(
    ordinary: str, mode: LinkMode, bits: int
) -> None:
    with users.ordinary_user():
        source, target = _built(
            ordinary, {**SMALL, "z": Directory(bits), "z/y": Directory()}, {"a": File(b"old")}
        )

    error = refused(ordinary, as_ordinary_user(lambda: link_tree(source, target, mode=mode)))

    assert error.path in ("z", "z/y")
    assert error.condition is Condition.DENIED


@needs_root
@every_mode
@pytest.mark.parametrize("target_is", ["there", "new"])
def test_a_target_of_somebody_else_is_left_alone(
    ground: str, mode: LinkMode, target_is: str
) -> None:
    source, target = _built(ground, SMALL, {"a": File(b"root's")} if target_is == "there" else None)
    os.chmod(ground, 0o755)

    error = refused(ground, as_ordinary_user(lambda: link_tree(source, target, mode=mode)))

    assert error.condition is Condition.DENIED
    assert error.hint


# --- disks --------------------------------------------------------------------------------------


def in_child(body: Callable[[], None]) -> None:
    """Run a test's body in a forked child, and fail as it does."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # The child runs our code only; threads of pytest-xdist stay behind.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        said = b"ended without a word"
        try:
            os.close(reading)
            body()
            said = b""
        except BaseException:  # noqa: BLE001  # told to the parent, who fails
            said = traceback.format_exc().encode("utf-8", "backslashreplace")
        finally:
            os.write(writing, said[-60_000:])
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answers:
        said = answers.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    if said:
        pytest.fail(said.decode())


def on_mounts(body: Callable[[], None]) -> None:
    """Run a test's body where what it mounts is seen by nobody else, and goes when it ends."""
    if not kernel.may_mount():
        pytest.skip("mounting needs CAP_SYS_ADMIN")

    def inside() -> None:
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
        body()

    in_child(inside)


def mount_tmpfs(path: str, options: str, flags: int = 0) -> None:
    os.makedirs(path, exist_ok=True)
    kernel.mount("linkmode-test", path, "tmpfs", flags, options)


PLENTY: trees.Tree = {f"d{n // 8}/f{n:02}": File(trees.noise(60_000, n)) for n in range(40)}
"""2.4 MB in 40 files and 5 directories."""


@pytest.mark.parametrize("target_is", ["there", "new"])
@pytest.mark.parametrize("mode", [LinkMode.CLONE, LinkMode.COPY], ids=str)
def test_a_disk_that_is_full_half_way_is_as_it_was(
    ground: str, mode: LinkMode, target_is: str
) -> None:
    def body() -> None:
        trees.build(f"{ground}/source", PLENTY)
        disk = f"{ground}/disk"
        mount_tmpfs(disk, "size=1m")
        there = (
            {f"d{n}/f{8 * n:02}": File(b"old", 0o600) for n in range(5)}
            if target_is == "there"
            else {}
        )
        trees.build(f"{disk}/target", there)
        done: list[int] = []

        error = refused(
            disk,
            lambda: link_tree(
                f"{ground}/source",
                f"{disk}/target",
                mode=mode,
                progress=lambda count, _: done.append(count),
            ),
        )

        assert error.condition is Condition.NO_SPACE
        assert error.hint
        assert 0 < max(done) < len(PLENTY)

    on_mounts(body)


@pytest.mark.parametrize("target_is", ["there", "new"])
@every_mode
def test_a_disk_without_inodes_half_way_is_as_it_was(
    ground: str, mode: LinkMode, target_is: str
) -> None:
    def body() -> None:
        disk = f"{ground}/disk"
        mount_tmpfs(disk, "size=16m,nr_inodes=80")
        trees.build(f"{disk}/source", PLENTY)
        there = (
            {f"d{n}/f{8 * n:02}": File(b"old") for n in range(5)} if target_is == "there" else {}
        )
        trees.build(f"{disk}/target", there)
        done: list[int] = []

        error = refused(
            disk,
            lambda: link_tree(
                f"{disk}/source",
                f"{disk}/target",
                mode=mode,
                progress=lambda count, _: done.append(count),
            ),
        )

        assert error.condition is Condition.NO_SPACE
        assert 0 < max(done) < len(PLENTY)

    on_mounts(body)


@every_mode
@pytest.mark.parametrize("target_is", ["there", "new"])
def test_a_read_only_filesystem_is_refused(ground: str, mode: LinkMode, target_is: str) -> None:
    def body() -> None:
        trees.build(f"{ground}/source", SMALL)
        disk = f"{ground}/disk"
        mount_tmpfs(disk, "size=1m")
        if target_is == "there":
            trees.build(f"{disk}/target", {"a": File(b"old")})
        kernel.mount("none", disk, flags=_MS_REMOUNT | _MS_RDONLY)

        error = refused(disk, lambda: link_tree(f"{ground}/source", f"{disk}/target", mode=mode))

        assert error.condition is Condition.READ_ONLY
        assert error.hint

    on_mounts(body)


_MS_RDONLY = 1
_MS_REMOUNT = 32


@every_mode
def test_one_directory_seen_through_two_mounts_is_the_same_directory(
    ground: str, mode: LinkMode
) -> None:
    def body() -> None:
        trees.build(f"{ground}/source", SMALL)
        os.mkdir(f"{ground}/again")
        kernel.mount(f"{ground}/source", f"{ground}/again", flags=kernel.MS_BIND)

        same = refused(ground, lambda: link_tree(f"{ground}/source", f"{ground}/again", mode=mode))
        inside = refused(
            ground, lambda: link_tree(f"{ground}/source", f"{ground}/again/package/new", mode=mode)
        )

        assert "the same directory" in same.what
        assert "inside the source" in inside.what

    on_mounts(body)


@every_mode
@pytest.mark.parametrize("processes", [1, 2])
def test_a_part_of_the_source_that_is_mounted_in_the_target_is_not_overwritten(
    ground: str, mode: LinkMode, processes: int
) -> None:
    def body() -> None:
        many = {f"many/d{number}/f": File(b"m") for number in range(600 if processes > 1 else 0)}
        trees.build(f"{ground}/source", {**SMALL, **many, "x/a": File(b"x's"), "y/a": File(b"y's")})
        for inside in ("x", "y", "many"):
            os.makedirs(f"{ground}/target/{inside}")
        kernel.mount(f"{ground}/source/y", f"{ground}/target/y", flags=kernel.MS_BIND)
        kernel.mount(f"{ground}/source/y", f"{ground}/target/x", flags=kernel.MS_BIND)

        error = refused(
            ground,
            lambda: link_tree(
                f"{ground}/source", f"{ground}/target", mode=mode, processes=processes
            ),
        )

        assert error.what == "x is a directory of the source too"
        assert "mounted" in error.why
        assert error.hint == "link to where no part of the source is mounted"
        assert error.path == "x"

    on_mounts(body)


@every_mode
def test_a_file_that_something_is_mounted_on_cannot_be_replaced(
    ground: str, mode: LinkMode
) -> None:
    def body() -> None:
        trees.build(f"{ground}/source", {"a": File(b"a"), "d/f": File(b"new")})
        trees.build(f"{ground}/target", {"d/f": File(b"old")})
        trees.build(f"{ground}/mounted", {"other": File(b"other")})
        kernel.mount(f"{ground}/mounted/other", f"{ground}/target/d/f", flags=kernel.MS_BIND)

        error = refused(
            ground, lambda: link_tree(f"{ground}/source", f"{ground}/target", mode=mode)
        )

        assert (error.path, error.condition) == ("d/f", Condition.BUSY)
        assert "mounted" in error.hint

    on_mounts(body)


@every_mode
@pytest.mark.parametrize("reversed_", [False, True])
def test_a_part_of_the_source_that_is_the_target_is_not_overwritten(
    ground: str, mode: LinkMode, *, reversed_: bool
) -> None:
    def body() -> None:
        trees.build(f"{ground}/source", {"f": File(b"top"), "x/f": File(b"inner")})
        trees.build(f"{ground}/target", {"f": File(b"old")})
        mounted, point = f"{ground}/source/x", f"{ground}/target"
        if reversed_:
            mounted, point = point, mounted
        kernel.mount(mounted, point, flags=kernel.MS_BIND)

        error = refused(
            ground, lambda: link_tree(f"{ground}/source", f"{ground}/target", mode=mode)
        )

        assert error.what == "the target is a directory of the source too"

    on_mounts(body)


@every_mode
def test_one_file_seen_through_two_mounts_is_the_same_file(ground: str, mode: LinkMode) -> None:
    def body() -> None:
        trees.build(f"{ground}/source", SMALL)
        os.mkdir(f"{ground}/again")
        kernel.mount(f"{ground}/source", f"{ground}/again", flags=kernel.MS_BIND)

        error = refused(
            ground, lambda: link_file(f"{ground}/source/a", f"{ground}/again/a", mode=mode)
        )

        assert "the same file" in error.what

    on_mounts(body)


@pytest.mark.parametrize("role", ["source", "target"])
def test_what_the_next_link_would_take_for_a_stage_is_refused(scene: str, role: str) -> None:
    _built(scene, SMALL)
    named = f"{scene}/{STAGE}mine"
    os.mkdir(named)
    trees.build(f"{named}/in", SMALL)
    roots = {"source": f"{scene}/source", "target": f"{scene}/new", role: f"{named}/in"}
    files = {"source": f"{scene}/source/a", "target": f"{scene}/new", role: f"{named}/in/a"}

    linking: list[tuple[Callable[..., LinkReport], dict[str, str]]]
    linking = [(link_tree, roots), (link_file, files)]
    for link, given in linking:
        error = refused(scene, partial(link, **given))

        assert f"the {role} " in error.what
        assert "reserved" in error.what
        assert error.hint


# --- names that fold ----------------------------------------------------------------------------

FOLDING: dict[str, trees.Tree] = {
    "ascii": {"x/Name": File(b"1"), "x/name": File(b"2")},
    "directories": {"x/Name/a": File(b"1"), "x/name/b": File(b"2")},
    "kinds": {"x/Name": File(b"1"), "x/name/b": File(b"2")},
    "unicode": {"x/\u00c9": File(b"1"), "x/\u00e9": File(b"2")},
}


class FoldingPlatform(MachinePlatform):
    """Finds names in whatever case they are asked for, as exFAT, APFS and NTFS do."""

    def look(self, directory: int, name: str) -> Look | None:
        found = super().look(directory, name)
        for other in () if found else self.entries(directory).names():
            if other.casefold() == name.casefold():
                return super().look(directory, other)
        return found


@every_mode
@pytest.mark.parametrize("case", FOLDING)
def test_two_names_that_the_target_folds_into_one_are_refused(
    scene: str, mode: LinkMode, case: str
) -> None:
    source, target = _built(scene, {**SMALL, **FOLDING[case]}, {"x/old": File(b"old")})

    error = refused(scene, lambda: link_tree(source, target, mode=mode, platform=FoldingPlatform()))

    assert error.condition is Condition.EXISTS
    assert "upper from lower case" in error.why


@every_mode
@pytest.mark.parametrize("case", FOLDING)
def test_two_names_that_the_target_keeps_apart_are_linked(
    scene: str, mode: LinkMode, case: str
) -> None:
    source, target = _built(scene, {**SMALL, **FOLDING[case]}, {"x/old": File(b"old")})

    link_tree(source, target, mode=mode)

    found, wanted = trees.snapshot(target), trees.snapshot(source)
    assert found.keys() == wanted.keys() | {"x/old"}


def test_two_names_that_exfat_folds_into_one_are_refused(ground: str) -> None:
    needed = {"mkfs.exfat": "exfatprogs", "mount.exfat-fuse": "exfat-fuse"}
    missing = [package for tool, package in needed.items() if not _which(tool)]
    if missing or not os.access("/dev/fuse", os.W_OK):
        pytest.skip(f"exfat needs /dev/fuse and {' and '.join(missing) or 'access to it'}")

    def body() -> None:
        disk, image = f"{ground}/disk", f"{ground}/image"
        os.mkdir(disk)
        with open(image, "xb") as file:
            file.truncate(16 << 20)
        _run("mkfs.exfat", image)
        _run("mount", "-t", "exfat-fuse", "-o", "loop", image, disk)
        try:
            trees.build(f"{ground}/source", FOLDING["ascii"])
            trees.build(f"{ground}/other", SMALL)
            os.unlink(f"{ground}/other/package/link")  # exfat has no symlinks
            os.mkdir(f"{disk}/target")
            names = sorted(os.listdir(disk))

            with pytest.raises(LinkError) as caught:
                link_tree(f"{ground}/source", f"{disk}/target", mode=LinkMode.COPY)
            assert os.listdir(f"{disk}/target") == []
            assert caught.value.condition is Condition.EXISTS

            report = link_tree(f"{ground}/other", f"{disk}/target", mode=LinkMode.HARDLINK)
            assert report.counts == {LinkMode.COPY: 4}
            assert sorted(os.listdir(f"{disk}/target")) == ["a", "package"]
            assert sorted(os.listdir(disk)) == names
        finally:
            _run("umount", disk)

    on_mounts(body)


def _which(tool: str) -> bool:
    from pytest_linkmode.processes import which

    return which(tool) is not None


def _run(*arguments: str) -> None:
    from pytest_linkmode.processes import run

    run(arguments)


# --- limits -------------------------------------------------------------------------------------


def link_with(spare: int, link: Callable[[], LinkReport]) -> LinkError | None:
    """Link while at most `spare` more files can be opened; return how it failed, if it did."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + spare, hard))
    try:
        link()
    except LinkError as error:
        return error
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return None


@pytest.mark.parametrize("target_is", ["there", "new"])
@every_mode
def test_too_many_open_files_end_a_link_cleanly_or_not_at_all(
    ground: str, mode: LinkMode, target_is: str
) -> None:
    def body() -> None:
        deep = "/".join(["deep", *"abcdefghijklmnopqrstuvwxyz" * 3])
        source, target = _built(
            ground,
            {**SMALL, f"{deep}/file": File(b"deep"), "z/z": File(b"last")},
            {"package/module.py": File(b"old"), "deep/a/b/c/old": File(b"old")}
            if target_is == "there"
            else None,
        )
        before = trees.lasting(trees.snapshot(ground))
        refusals = 0
        while error := link_with(refusals, lambda: link_tree(source, target, mode=mode)):
            assert error.condition is Condition.TOO_MANY_OPEN
            assert error.left == ()
            after = trees.lasting(trees.snapshot(ground))
            assert trees.differences(before, after) == []
            refusals += 1

        assert 5 < refusals < 250
        assert Path(f"{target}/z/z").read_bytes() == b"last"
        assert Path(f"{target}/package/module.py").stat().st_size == 5000

    in_child(body)


LONG = ("n" * 255, "\u00e9" * 127 + "e", "\udcff" * 255)
"""Names of as many bytes as a name can have."""


@every_mode
@pytest.mark.parametrize("name", LONG, ids=["ascii", "utf-8", "bytes"])
@pytest.mark.parametrize("target_is", ["there", "new"])
def test_names_at_the_limit_are_linked(
    scene: str, mode: LinkMode, name: str, target_is: str
) -> None:
    assert len(os.fsencode(name)) == 255
    tree: trees.Tree = {f"{name}/{name}": File(b"new"), f"{name}/d/{name}": Symlink(name[:40])}
    there = {f"{name}/{name}": File(b"old"), f"{name}/d/{name}": File(b"old")}
    source, target = _built(scene, tree, there if target_is == "there" else None)

    report = link_tree(source, target, mode=mode)

    assert sum(report.counts.values()) == 1
    assert report.symlinks == 1
    assert sorted(os.listdir(target)) == [name]
    assert sorted(os.listdir(f"{target}/{name}")) == sorted(["d", name])
    assert Path(f"{target}/{name}/{name}").read_bytes() == b"new"
    assert os.readlink(f"{target}/{name}/d/{name}") == name[:40]


# --- depth --------------------------------------------------------------------------------------

DEPTH = 1100
"""Deeper than Python recurses (1000); with names of 9 bytes, far longer than PATH_MAX (4096)."""

STEP = "directory"
_OPEN = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)

Level = dict[str, tuple[int, str]]
"""Name -> (inode, content), of what is in one directory beside the next one."""


def dig(top: str, contents: Callable[[int], str | None]) -> None:
    """Make a shaft of `DEPTH` directories; `contents` says what a file at a depth holds."""
    os.makedirs(top, exist_ok=True)
    here = os.open(top, _OPEN)
    for depth in range(DEPTH + 1):
        text = contents(depth)
        if text is not None:
            file = os.open("file", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=here)
            os.write(file, text.encode())
            os.close(file)
        if depth < DEPTH:
            os.mkdir(STEP, dir_fd=here)
            below = os.open(STEP, _OPEN, dir_fd=here)
            os.close(here)
            here = below
    os.close(here)


def shaft(top: str) -> list[Level]:
    """Return what is in a shaft, level by level."""
    levels: list[Level] = []
    here = os.open(top, _OPEN)
    while True:
        level: Level = {}
        names = os.listdir(here)
        for name in names:
            seen = os.stat(name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISLNK(seen.st_mode):
                level[name] = (0, "->")
            elif not stat.S_ISDIR(seen.st_mode):
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=here)
                level[name] = (seen.st_ino, os.read(file, 100).decode())
                os.close(file)
            elif name != STEP:
                level[name] = (0, "a directory")
        levels.append(level)
        if STEP not in names:
            os.close(here)
            return levels
        below = os.open(STEP, _OPEN, dir_fd=here)
        os.close(here)
        here = below


def contents(levels: Sequence[Level]) -> list[dict[str, str]]:
    return [{name: content for name, (_, content) in level.items()} for level in levels]


@pytest.fixture
def pit(ground: str) -> Iterator[str]:
    """A directory for trees that only a program which does not recurse can remove."""
    path = f"{ground}/pit"
    os.mkdir(path)
    yield path
    subprocess.run(("rm", "-rf", "--", path), check=True)


def every_hundredth(text: str) -> Callable[[int], str | None]:
    return lambda depth: f"{text} {depth}" if depth % 100 == 0 else None


@every_mode
@pytest.mark.parametrize("target_is", ["there", "new"])
def test_a_tree_deeper_than_any_path_is_linked(pit: str, mode: LinkMode, target_is: str) -> None:
    source, target = f"{pit}/source", f"{pit}/target"
    dig(source, every_hundredth("new"))
    if target_is == "there":
        dig(target, every_hundredth("old"))

    report = link_tree(source, target, mode=mode)

    files = DEPTH // 100 + 1
    found, wanted = shaft(target), shaft(source)
    assert sum(report.counts.values()) == files
    assert report.replaced == (files if target_is == "there" else 0)
    if mode is LinkMode.SYMLINK:
        # No symlink can say a path of 4096 bytes and more: those files are copied.
        shortest = 4096 - len(f"{source}/file")
        depth = next(d for d in range(0, DEPTH, 100) if len(f"{STEP}/" * d) >= shortest)
        assert set(report.counts) == {LinkMode.SYMLINK, LinkMode.COPY}
        assert [taken.edge.condition for taken in report.transitions] == [
            Condition.NAME_TOO_LONG
        ] * report.counts[LinkMode.COPY]
        assert contents(found[depth:]) == contents(wanted[depth:])
        assert contents(found[:1]) == [{"file": "->"}]
    else:
        assert contents(found) == contents(wanted)
    if mode is LinkMode.HARDLINK:
        assert found == wanted


class FullDisk(MachinePlatform):
    """A disk on which there is room for anything but one name."""

    def copy_file(self, source: int, name: str, target: int, new: str) -> int:
        if name == "zzz":
            raise Failed(Primitive.COPY, OSError(errno.ENOSPC, "No space left on device"))
        return super().copy_file(source, name, target, new)

    def copy_directly(
        self, source: int, name: str, target: int, new: str, placing: Callable[[int, int], None]
    ) -> int:
        if name == "zzz":
            raise Failed(Primitive.COPY, OSError(errno.ENOSPC, "No space left on device"))
        return super().copy_directly(source, name, target, new, placing)


@pytest.mark.parametrize("there", ["nothing", "the root", "all of it"])
def test_a_tree_deeper_than_any_path_is_taken_back(pit: str, there: str) -> None:
    source, target = f"{pit}/source", f"{pit}/target"
    dig(f"{source}/a", every_hundredth("new"))
    os.mkdir(f"{source}/z")
    Path(f"{source}/z/zzz").write_bytes(b"too much")
    if there == "all of it":
        dig(f"{target}/a", every_hundredth("old"))
    elif there == "the root":
        os.mkdir(target)
    before = shaft(f"{target}/a") if there == "all of it" else []

    with pytest.raises(LinkError) as caught:
        link_tree(source, target, mode=LinkMode.COPY, platform=FullDisk())

    assert caught.value.condition is Condition.NO_SPACE
    assert caught.value.left == ()
    if there == "nothing":
        assert os.listdir(pit) == ["source"]
    elif there == "the root":
        assert os.listdir(target) == []
    else:
        assert os.listdir(target) == ["a"]
        assert shaft(f"{target}/a") == before
