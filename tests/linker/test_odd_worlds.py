"""Edges that need an odd world at rest: a worn-out disk, a sandbox, a limit, a file that lies.

Each is made of what the kernel has: the error is its own, on a filesystem that is really there.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import pathlib
import resource
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from linker import LinkError, LinkMode, link_file
from linker.report import observing
from pytest_linkmode import kernel, processes
from pytest_linkmode.filesystems import FILESYSTEMS, fuse, loop, mounts, templates
from pytest_linkmode.layouts import TestFilesystem
from pytest_linkmode.sessions import Session
from pytest_linkmode.stash import session_of
from tests.linker.taking import Taken, assert_whole, link, need_loop, served, written

Filesystems = Callable[[str], TestFilesystem]


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Session:
    return session_of(request.config)


# --- disks ---------------------------------------------------------------------------------------


def test_a_rotten_block_is_an_error_and_no_copy(session: Session, counted: None) -> None:
    btrfs = need_loop("btrfs", session.settings)
    content = os.urandom(70_000)
    with loop.disk(btrfs, session.place, session.settings) as (disk, image):
        base = pathlib.Path(disk.path)
        written(base / "source" / "file", content)
        with disk.offline(), open(image, "r+b") as file, mmap.mmap(file.fileno(), 0) as blocks:
            blocks[blocks.find(content[:4096])] ^= 1
        taken = link(base / "source", base / "target", LinkMode.COPY)
        assert taken.edges == {"copy/copy/io": "real"}
        assert not (base / "target").exists()


ADD_SEALS, SEAL_FUTURE_WRITE = 1033, 0x10
"""<linux/fcntl.h>: F_ADD_SEALS, and F_SEAL_FUTURE_WRITE (Linux 5.1)."""


@contextmanager
def worn_disk(session: Session, image: loop.Image) -> Iterator[pathlib.Path]:
    """Give an xfs in an image that somebody else can take the ground from under."""
    kind = FILESYSTEMS["xfs"]
    os.ftruncate(image.descriptor, max(session.settings.image_size, kind.least_size))
    templates.format_image(kind, image.descriptor, image.path)
    with (
        loop.attached(image, session.place, "worn") as device,
        mounts.mounted(
            session.place,
            "worn",
            lambda path: kernel.mount(device, path, kind.fstype, data=kind.options),
            source=device,
            fstype=kind.fstype,
        ) as path,
    ):
        base = pathlib.Path(path)
        for name in ("source", "target"):
            (base / name).mkdir()
        yield base


def test_a_disk_that_takes_nothing_more_ends_a_clone(session: Session, counted: None) -> None:
    need_loop("xfs", session.settings)
    descriptor = os.memfd_create("disk", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with worn_disk(session, loop.Image(descriptor, session.place.path)) as base:
            # From now on each write to it is an I/O error. The source is in memory still, and a
            # clone must have it on disk first.
            fcntl.fcntl(descriptor, ADD_SEALS, SEAL_FUTURE_WRITE)
            written(base / "source" / "file")
            taken = link(base / "source", base / "target", LinkMode.CLONE)
            assert taken.edges == {"clone/clone-file/io": "real"}
            assert taken.error is not None
            assert "EIO" in str(taken.error)
    finally:
        os.close(descriptor)


def test_a_disk_that_promised_more_than_it_has_ends_a_clone(
    session: Session, counted: None
) -> None:
    need_loop("xfs", session.settings)
    with (
        mounts.mounted(
            session.place,
            "pool",
            lambda path: kernel.mount("pool", path, "tmpfs"),
            source="pool",
            fstype="tmpfs",
        ) as pool,
        loop.image(pool, 0) as image,
        worn_disk(session, image) as base,
    ):
        found = os.statvfs(pool)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        kernel.mount("pool", pool, "tmpfs", kernel.MS_REMOUNT, f"size={used}")
        written(base / "source" / "file")
        taken = link(base / "source", base / "target", LinkMode.CLONE)
        assert taken.edges == {"clone/clone-file/no-space": "real"}
        assert taken.error is not None
        assert "ENOSPC" in str(taken.error)


SWAPPING = """
import subprocess, sys
subprocess.run(["swapon", "--priority", "0", sys.argv[1]], check=True)
print("on", flush=True)
sys.stdin.read()
subprocess.run(["swapoff", sys.argv[1]], check=True)
"""
"""Swaps into a file until its parent lets go of it, or ends."""


@contextmanager
def swapping(path: pathlib.Path) -> Iterator[None]:
    import subprocess

    processes.run(("mkswap", str(path)))
    with subprocess.Popen(
        [sys.executable, "-I", "-c", SWAPPING, str(path)],
        env={**os.environ, "PATH": os.pathsep.join((os.environ["PATH"], *processes.SYSTEM_PATH))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        if child.stdout.readline() != "on\n":
            pytest.skip("may not swap here")
        yield
        child.communicate()
    assert child.returncode == 0


def test_a_swap_file_is_copied(linkmode_fs_factory: Filesystems) -> None:
    base = linkmode_fs_factory("xfs").path
    written(base / "source" / "swap", bytes(1 << 20)).chmod(0o600)
    written(base / "source" / "file")
    (base / "target").mkdir()
    with open(base / "source" / "swap", "rb") as file:
        os.fsync(file.fileno())
    with swapping(base / "source" / "swap"):
        taken = link(base / "source", base / "target", LinkMode.CLONE)
    assert taken.edges == {"clone/clone-file/busy": "real"}
    assert taken.report is not None
    assert taken.report.counts == {LinkMode.COPY: 1, LinkMode.CLONE: 1}
    assert_whole(base / "source", base / "target")


# --- what files say, and how large they may be ---------------------------------------------------


def test_a_file_that_says_it_is_larger_than_it_is_ends_linking(
    linkmode_fs_factory: Filesystems,
) -> None:
    # Every attribute in sysfs(5) says that it has a page.
    source = pathlib.Path("/sys/kernel/mm/transparent_hugepage/khugepaged")
    target = linkmode_fs_factory("tmpfs").path / "target"
    taken = link(source, target, LinkMode.COPY)
    assert taken.edges == {"copy/copy/short": "real"}
    assert taken.error is not None
    assert not target.exists()


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_is_longer_than_allowed_is_no_reason_for_a_copy(
    linkmode_fs_factory: Filesystems,
) -> None:
    base = linkmode_fs_factory("btrfs").path
    written(base / "source" / "file")
    (base / "target").mkdir()
    with no_file_longer_than(0):  # ulimit -f 0
        taken = link(base / "source", base / "target", LinkMode.CLONE)
    assert taken.edges == {"clone/clone-file/other": "real"}
    assert "EFBIG" in str(taken.error)
    assert os.listdir(base / "target") == []


def test_a_file_that_is_longer_than_the_filesystem_can_have_ends_linking(
    linkmode_fs_factory: Filesystems,
) -> None:
    source = linkmode_fs_factory("btrfs").path / "source"
    target = linkmode_fs_factory("ext4").path / "target"
    with open(written(source / "file"), "r+b") as file:
        file.truncate(17 << 40)  # ext4 has 16 TiB
    taken = link(source, target, LinkMode.COPY)
    assert taken.edges == {"copy/copy/other": "real"}
    assert "EFBIG" in str(taken.error)
    assert not target.exists()


NTFS = fuse.Daemon(
    ("lowntfs-3g", "-o", "permissions,windows_names", "{source}", "{point}"), image=True
)


@pytest.mark.parametrize("mode", [LinkMode.HARDLINK, LinkMode.SYMLINK])
def test_a_name_that_the_filesystem_does_not_take_ends_linking(
    mode: LinkMode,
    session: Session,
    linkmode_fs_factory: Filesystems,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(fuse.DAEMONS, "ntfs", NTFS)
    taken = Taken()
    with served("ntfs", session) as base:
        (base / "target").mkdir()
        if mode is LinkMode.HARDLINK:
            with observing(taken), pytest.raises(LinkError, match="EINVAL"):
                link_file(written(base / "file"), base / "target" / "a:b", mode=mode)
        else:  # of a whole new directory, whose entries have their own names at once
            source = linkmode_fs_factory("tmpfs").path
            written(source / "new" / "a:b")
            taken = link(source, base / "target", mode)
            assert "EINVAL" in str(taken.error)
        assert os.listdir(base / "target") == []
    assert taken.edges[f"{mode.value}/{mode.value}/attribute"] == "real"


# --- a sandbox -----------------------------------------------------------------------------------

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""The calls of landlock(7), which have the same numbers on every machine."""
RULESET_VERSION, PATH_BENEATH = 1, 1
MAKE_SYM, REFER, TRUNCATE = 1 << 12, 1 << 13, 1 << 14
TRUNCATE_SINCE = 3
"""The version of the interface that knows of it (Linux 6.2)."""


def system_call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    found = int(libc.syscall(ctypes.c_long(number), *arguments))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def forbid(right: int) -> None:
    """Let this thread, and no other, do without a right, wherever it is."""
    ruleset = struct.pack("Q", right | REFER)
    descriptor = system_call(CREATE_RULESET, ruleset, ctypes.c_size_t(len(ruleset)), 0)
    everywhere = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        # What is not asked for may be done, but for renames to other directories.
        rule = struct.pack("=Qi", REFER, everywhere)
        system_call(ADD_RULE, descriptor, PATH_BENEATH, rule, 0)
        system_call(RESTRICT_SELF, descriptor, 0)
    finally:
        os.close(everywhere)
        os.close(descriptor)


def link_without(right: int, source: pathlib.Path, target: pathlib.Path, mode: LinkMode) -> Taken:
    found: list[Taken] = []

    def run() -> None:
        forbid(right)
        found.append(link(source, target, mode))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture
def sandbox() -> None:
    if not kernel.may_mount():
        pytest.skip("no_new_privs would stay with this process")
    try:
        version = system_call(CREATE_RULESET, None, ctypes.c_size_t(0), RULESET_VERSION)
    except OSError as error:
        pytest.skip(f"Landlock: {error}")
    if version < TRUNCATE_SINCE:
        pytest.skip(f"Landlock: version {version} does not know of truncation")


def test_where_symlinks_are_forbidden_files_are_copied(
    sandbox: None, linkmode_fs_factory: Filesystems
) -> None:
    base = linkmode_fs_factory("tmpfs").path
    written(base / "source" / "file")
    (base / "target").mkdir()
    taken = link_without(MAKE_SYM, base / "source", base / "target", LinkMode.SYMLINK)
    assert taken.edges == {"symlink/symlink/denied": "real"}
    assert taken.error is None
    assert not (base / "target" / "file").is_symlink()
    assert_whole(base / "source", base / "target")


def test_where_holes_are_forbidden_linking_ends(
    sandbox: None, linkmode_fs_factory: Filesystems
) -> None:
    base = linkmode_fs_factory("tmpfs").path
    with open(written(base / "source" / "file"), "r+b") as file:
        file.truncate(1 << 20)
    (base / "target").mkdir()
    taken = link_without(TRUNCATE, base / "source", base / "target", LinkMode.COPY)
    assert taken.edges == {"copy/copy/denied": "real"}
    assert taken.error is not None
    assert os.listdir(base / "target") == []
