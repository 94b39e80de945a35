"""Filesystems are what they claim, cost no more than they hold, and leave nothing behind."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_linkmode import filesystems, kernel, processes
from pytest_linkmode.capabilities import probe
from pytest_linkmode.config import Settings
from pytest_linkmode.errors import LinkmodeError, Unavailable, UsageError
from pytest_linkmode.filesystems import (
    FILESYSTEMS,
    Filesystem,
    Kind,
    automatic,
    directory,
    kind_of,
    ladder,
    loop,
    missing,
    mounts,
    of_system,
    opened,
    packages,
    registry,
    survey,
)
from pytest_linkmode.filesystems.base import MIB, remove_tree
from pytest_linkmode.layouts import Workshop
from pytest_linkmode.namespaces import Place
from tests.patience import SECONDS, eventually

needs_root = pytest.mark.skipif(
    not kernel.may_mount(), reason="mounting needs CAP_SYS_ADMIN, which this user has not"
)
Script = Callable[..., Any]
Loops = Callable[[str | Path], list[str]]

KNOWN = Path("/proc/filesystems").read_text().split() if kernel.may_mount() else []
BY_IMAGE = [name for name, kind in FILESYSTEMS.items() if "loop" in kind.providers]
BY_IMAGE = [name for name in BY_IMAGE if FILESYSTEMS[name].fstype in KNOWN]


# What they are


@needs_root
@pytest.mark.parametrize(
    "name", [name for name, kind in FILESYSTEMS.items() if kind.fstype and of_system(kind)]
)
def test_a_filesystem_is_of_its_type_and_keeps_its_promises(workshop: Workshop, name: str) -> None:
    made = workshop.filesystem(name)
    mount = kernel.mount_at(made.path)
    assert mount is not None
    assert mount.fstype in {FILESYSTEMS[name].fstype, *FILESYSTEMS[name].aliases}
    can = workshop.can(name)
    assert FILESYSTEMS[name].claims <= can.names
    assert not FILESYSTEMS[name].lacks & can.names
    assert made.made
    Path(workshop.directory(name), "file").write_text("can be written to")


@needs_root
def test_every_filesystem_is_another_device(workshop: Workshop) -> None:
    names = [name for name, kind in FILESYSTEMS.items() if of_system(kind) and not kind.machine]
    devices = {os.stat(workshop.filesystem(name).path).st_dev for name in names}
    assert len(devices) == len(names)


@needs_root
def test_a_filesystem_that_breaks_a_promise_is_an_error_of_ours(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    boaster = dataclasses.replace(
        FILESYSTEMS["ext4"], name="boaster", claims=frozenset({"reflink"})
    )
    monkeypatch.setitem(FILESYSTEMS, "boaster", boaster)
    before = kernel.mounts()
    with (
        pytest.raises(LinkmodeError, match="not what it should be: no reflink") as caught,
        opened("boaster", place, Settings()),
    ):
        pass
    assert not isinstance(caught.value, Unavailable)
    assert kernel.mounts() == before


# Images


@needs_root
@pytest.mark.parametrize("name", BY_IMAGE)
def test_nothing_is_left_when_the_context_ends(
    place: Place, tmp_path: Path, loops_of: Loops, name: str
) -> None:
    before, there = kernel.mounts(), os.listdir(place.path)
    with opened(name, place, Settings(image_dir=str(tmp_path))) as made:
        assert loops_of(tmp_path) == [os.path.basename(made.facts["device"])]
        assert os.listdir(tmp_path) == [], "an image has no name"
    assert kernel.mounts() == before
    assert os.listdir(place.path) == there
    assert loops_of(tmp_path) == []


@needs_root
@pytest.mark.parametrize("name", BY_IMAGE)
def test_an_image_takes_no_more_space_than_its_data(place: Place, name: str) -> None:
    with (
        opened("tmpfs", place, Settings()) as images,
        opened(name, place, Settings(image_dir=images.path)) as made,
    ):

        def used() -> int:
            found = os.statvfs(images.path)
            return (found.f_blocks - found.f_bfree) * found.f_frsize

        assert os.statvfs(made.path).f_blocks * os.statvfs(made.path).f_frsize > 1500 * MIB
        empty = used()
        # xfs writes a log of 64 MiB; the rest need next to nothing.
        assert empty < 80 * MIB
        ballast = os.path.join(made.path, "ballast")
        with open(ballast, "wb") as file:
            for _ in range(24):
                file.write(os.urandom(MIB))
            file.flush()
            os.fsync(file.fileno())
        full = used()
        assert full - empty > 20 * MIB
        os.unlink(ballast)

        def given_back() -> bool:
            # Deleted files are forgotten in the background, and discarded when that is flushed.
            processes.run(["sync", "-f", made.path])
            return full - used() > 20 * MIB

        eventually(given_back)


@needs_root
@pytest.mark.parametrize("name", BY_IMAGE)
def test_an_image_is_never_smaller_than_its_filesystem_can_be(place: Place, name: str) -> None:
    with opened(name, place, Settings(image_size=1)) as made:
        assert os.statvfs(made.path).f_bavail > 0


@needs_root
@pytest.mark.parametrize("name", BY_IMAGE)
def test_kernels_without_loop_configure_use_mount(
    place: Place, tmp_path: Path, loops_of: Loops, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(loop, "LOOP_CONFIGURE", 0x4CFF)  # no loop ioctl: the kernel says so itself
    settings = Settings(image_dir=str(tmp_path))
    before = kernel.mounts()
    with opened(name, place, settings) as made:
        assert probe(made.path, made.path).names >= FILESYSTEMS[name].claims
        assert len(loops_of(tmp_path)) == 1
        assert os.listdir(tmp_path) == []
    assert kernel.mounts() == before
    assert loops_of(tmp_path) == []


@needs_root
def test_images_have_a_name_where_there_are_no_files_without_one(
    place: Place, tmp_path: Path, loops_of: Loops, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def without_tmpfile(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not on this filesystem", path)
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", without_tmpfile)
    for number in (loop.LOOP_CONFIGURE, 0x4CFF):
        monkeypatch.setattr(loop, "LOOP_CONFIGURE", number)
        with opened("ext4", place, Settings(image_dir=str(tmp_path))) as made:
            assert made.made
            assert len(loops_of(tmp_path)) == 1
            assert os.listdir(tmp_path) == [], "the name goes as soon as the device has the image"
        assert loops_of(tmp_path) == []


@needs_root
def test_loop_devices_that_dev_lacks_are_made(script: Script) -> None:
    device = script(
        """
        place = namespaces.find_place()
        kernel.mount("dev", "/dev", "tmpfs")
        os.mknod(loop.CONTROL, stat.S_IFCHR | 0o600, os.makedev(10, 237))
        os.mknod("/dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        with opened("ext4", place, Settings()) as made:
            show(made.facts["device"])
            assert os.listdir(place.path) == [os.path.basename(made.path)]
        assert os.listdir(place.path) == []
        """
    )
    assert os.path.dirname(device) != "/dev"


@needs_root
def test_a_lost_race_for_a_device_is_run_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop._configure
    lost: list[int] = []

    def configure(device: int, sparse: loop.Image, label: str) -> None:
        if len(lost) < 3:
            lost.append(device)
            raise OSError(errno.EBUSY, "somebody was faster")
        real(device, sparse, label)

    monkeypatch.setattr(loop, "_configure", configure)
    with opened("ext4", place, Settings()) as made:
        assert os.path.isdir(made.path)
    assert len(lost) == 3


@needs_root
def test_races_are_not_run_for_ever(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(device: int, sparse: loop.Image, label: str) -> None:
        raise OSError(errno.EBUSY, "somebody was faster")

    monkeypatch.setattr(loop, "_configure", busy)
    monkeypatch.setattr(loop, "_ATTEMPTS", 4)
    with (
        pytest.raises(Unavailable, match="somebody was faster"),
        opened("ext4", place, Settings(provider="loop")),
    ):
        pass


@needs_root
def test_many_at_once_do_not_collide(place: Place, tmp_path: Path, loops_of: Loops) -> None:
    settings = Settings(image_dir=str(tmp_path))
    devices: list[int] = []
    together = threading.Barrier(8, timeout=SECONDS)

    def make() -> None:
        together.wait()
        for _ in range(2):
            with opened("ext4", place, settings) as made:
                devices.append(os.stat(made.path).st_dev)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(devices) == 16
    assert loops_of(tmp_path) == []


@needs_root
def test_mkfs_that_fails_is_unavailable_with_what_it_said(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = dataclasses.replace(FILESYSTEMS["ext4"], mkfs=("mkfs.ext4", "-q", "-b", "17"))
    monkeypatch.setitem(FILESYSTEMS, "ext4", broken)
    with (
        pytest.raises(Unavailable, match="invalid block size") as caught,
        opened("ext4", place, Settings(provider="loop")),
    ):
        pass
    assert "--linkmode-dir=ext4=PATH" in str(caught.value)


@needs_root
def test_a_mount_in_use_goes_when_its_last_user_does(
    place: Place, tmp_path: Path, loops_of: Loops
) -> None:
    before = kernel.mounts()
    with opened("ext4", place, Settings(image_dir=str(tmp_path))) as made:
        user = open(os.path.join(made.path, "file"), "w")  # noqa: SIM115
    assert kernel.mounts() == before
    assert len(loops_of(tmp_path)) == 1
    user.close()
    assert loops_of(tmp_path) == []


# Leaks

DRIVER = """
point, images = arguments
def at(module, name, condition=lambda *a, **k: True, *, after=False):
    real = getattr(module, name)
    def dying(*a, **k):
        hit = condition(*a, **k)
        if hit and not after:
            die()
        value = real(*a, **k)
        if hit:
            die()
        return value
    setattr(module, name, dying)

def of_type(fstype):
    return lambda source, target, kind="", *rest, **more: kind == fstype

def victim():
    if point == "entering":
        at(kernel, "mount", of_type("tmpfs"))
    if point == "entered":
        at(kernel, "mount", of_type("tmpfs"), after=True)
    place = namespaces.enter_private()
    if point == "before mkfs":
        at(processes, "run")
    if point == "during mkfs":
        # The real one would be over too soon to be met; this one outlives us for a while.
        slow = ("sh", "-c", "kill -KILL $1; exec sleep 0.05", "mkfs", str(os.getpid()))
        FILESYSTEMS["btrfs"] = dataclasses.replace(FILESYSTEMS["btrfs"], mkfs=slow)
    if point == "after mkfs":
        at(processes, "run", after=True)
    if point == "attached":
        at(loop, "_configure", after=True)
    if point == "mounting":
        at(kernel, "mount", of_type("btrfs"))
    if point == "mounted":
        at(kernel, "mount", of_type("btrfs"), after=True)
    workshop = Workshop(place, Settings(image_dir=images))
    made = workshop.filesystem("btrfs")
    if point == "binding":
        at(kernel, "mount", after=True)
    workshop.place(parse("btrfs+bind"))
    if point == "in use":
        with open(made.path + "/file", "w") as file:
            file.write("x" * 100000)
            die()
    if point == "unmounting":
        at(kernel, "unmount")
    if point == "unmounted":
        at(kernel, "unmount", after=True)
    workshop.close()

before = kernel.mounts()
assert in_child(victim) == -signal.SIGKILL, "it was not killed where it should be"
assert kernel.mounts() == before
assert os.listdir(namespaces.stable_directory()) == []
"""


@needs_root
@pytest.mark.parametrize(
    "point",
    [
        *("entering", "entered", "before mkfs", "during mkfs", "after mkfs", "attached"),
        *("mounting", "mounted", "binding", "in use", "unmounting", "unmounted"),
    ],
)
def test_a_kill_at_any_moment_leaves_nothing(
    script: Script, tmp_path: Path, loops_of: Loops, point: str
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    script(DRIVER, point, str(images))
    # An orphaned mkfs ends by itself, and with it the last hold on the image.
    eventually(lambda: loops_of(images) == [])
    assert os.listdir(images) == []


@needs_root
def test_a_forked_child_that_ends_does_not_unmount(script: Script) -> None:
    script(
        """
        code = '''
        import gc, os, sys
        from pytest_linkmode import kernel
        from pytest_linkmode.config import Settings
        from pytest_linkmode.errors import LinkmodeError
        from pytest_linkmode.layouts import Workshop
        from pytest_linkmode.namespaces import find_place
        workshop = Workshop(find_place(), Settings())
        made = workshop.filesystem("ext4")
        tree = workshop.filesystem("disk")
        child = os.fork()
        if child == 0:
            assert os.path.isdir(workshop.directory("ext4"))
            try:
                workshop.filesystem("tmpfs")
            except LinkmodeError as error:
                assert "belong" in str(error)
            workshop.close()
            del workshop
            gc.collect()
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert kernel.mount_at(made.path) and os.path.isdir(tree.path)
        workshop.close()
        assert not kernel.mount_at(made.path) and not os.path.exists(tree.path)
        '''
        processes.run([sys.executable, "-X", "dev", "-W", "error", "-c", code])
        """
    )


@needs_root
def test_a_process_that_ends_without_closing_undoes_all(script: Script, tmp_path: Path) -> None:
    script(
        """
        own_host()
        code = '''
        from pytest_linkmode.config import Settings
        from pytest_linkmode.layouts import Workshop
        from pytest_linkmode.namespaces import find_place
        workshop = Workshop(find_place("host"), Settings())
        workshop.filesystem("ext4")
        workshop.filesystem("disk")
        '''
        before = kernel.mounts()
        processes.run([sys.executable, "-c", code])
        assert kernel.mounts() == before
        """
    )
    left = [path for path in tmp_path.glob("**/*") if not path.name.startswith(".std")]
    assert [path.name for path in left if not path.name.startswith("pytest-linkmode")] == []


@needs_root
def test_keep_keeps_what_was_made(script: Script, tmp_path: Path) -> None:
    path = script(
        """
        own_host()
        workshop = Workshop(namespaces.find_place("host"), Settings(keep=True, namespace="host"))
        made = workshop.filesystem("ext4")
        tree = workshop.filesystem("disk")
        workshop.close()
        del workshop
        assert kernel.mount_at(made.path) and os.path.isdir(tree.path)
        show(tree.path)
        """
    )
    assert os.path.isdir(path)


# Directories that are there already


def test_a_directory_of_the_user_is_used_and_left_as_it_was(place: Place, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with opened("disk", place, Settings(dirs={"disk": str(tmp_path)})) as made:
        assert os.path.dirname(made.path) == str(tmp_path)
        assert (made.provider, made.made) == ("directory", False)
        locked = Path(made.path, "a", "b")
        locked.mkdir(parents=True)
        (locked / "file").write_text("x")
        (locked / "dangling").symlink_to("/nonexistent/elsewhere")
        locked.chmod(0o500)
        locked.parent.chmod(0)
    assert os.listdir(tmp_path) == ["precious"]


def test_a_directory_named_for_another_type_is_refused(place: Place, tmp_path: Path) -> None:
    settings = Settings(dirs={"btrfs": str(tmp_path)})
    there = kernel.mount_of(str(tmp_path))
    assert there is not None
    refusal = missing(FILESYSTEMS["btrfs"], settings)
    assert refusal is not None
    assert refusal.checked == (f"{tmp_path}: on {there.fstype}, not on btrfs",)
    with pytest.raises(Unavailable, match="not on btrfs"), opened("btrfs", place, settings):
        pass


@needs_root
def test_a_directory_is_probed_not_believed(workshop: Workshop, place: Place) -> None:
    plain = workshop.directory("xfs-noreflink")
    settings = Settings(dirs={"xfs": plain})
    assert missing(FILESYSTEMS["xfs"], settings) is None, "by its type it could be one"
    with pytest.raises(Unavailable) as caught, opened("xfs", place, settings):
        pass
    assert f"{plain}: no reflink: clone-file answers E" in str(caught.value)
    assert "(unsupported)" in str(caught.value)
    assert os.listdir(plain) == []
    clones = workshop.directory("xfs")
    with (
        pytest.raises(Unavailable, match="which it must not have"),
        opened("xfs-noreflink", place, Settings(dirs={"xfs-noreflink": clones})),
    ):
        pass


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "not a directory"),
        (lambda path: path.write_text("a file"), "not a directory"),
    ],
)
def test_what_is_no_directory_is_refused(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    make(tmp_path / "named")
    refusal = missing(FILESYSTEMS["disk"], Settings(dirs={"disk": str(tmp_path / "named")}))
    assert refusal is not None
    assert said in str(refusal)


def test_the_disk_of_the_machine_is_not_in_memory(place: Place) -> None:
    with opened("disk", place, Settings()) as made:
        assert made.facts["type"] not in directory.IN_MEMORY
        assert not made.made
    assert not os.path.exists(made.path)


def test_a_temporary_directory_in_memory_is_passed_over(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", directory.SHARED_MEMORY)
    with opened("disk", place, Settings()) as made:
        assert made.facts["directory"] == "/var/tmp"


@needs_root
def test_the_working_disk_can_be_the_filesystem_that_is_asked_for(
    workshop: Workshop, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = workshop.directory("btrfs")
    monkeypatch.setattr("tempfile.tempdir", here)
    with opened("btrfs", place, Settings(provider="machine")) as made:
        assert made.facts["directory"] == here
        assert "reflink" in probe(made.path, made.path)


@needs_root
def test_what_somebody_mounted_below_is_not_removed(workshop: Workshop, notes: Path) -> None:
    tree = mounts.tree(workshop.directory("ext4"), "ours")
    path = tree.__enter__()
    foreign = Path(path, "foreign")
    foreign.mkdir()
    kernel.mount("foreign", str(foreign), "tmpfs")
    (foreign / "precious").write_text("x")
    with pytest.raises(LinkmodeError, match="mounted below"):
        tree.__exit__(None, None, None)
    assert (foreign / "precious").read_text() == "x"
    assert len(list(notes.iterdir())) == 1, "it stays noted"
    kernel.unmount(str(foreign))
    remove_tree(path)
    assert not os.path.exists(path)


@needs_root
def test_a_directory_of_a_test_stays_where_something_is_mounted_in_it(workshop: Workshop) -> None:
    path = workshop.directory("ext4")
    foreign = Path(path, "foreign")
    foreign.mkdir()
    kernel.mount("foreign", str(foreign), "tmpfs")
    (foreign / "precious").write_text("x")
    registry.remove_used(path)
    assert (foreign / "precious").read_text() == "x"
    kernel.unmount(str(foreign))
    registry.remove_used(path)
    assert not os.path.exists(path)


def test_a_directory_of_a_test_stays_where_the_test_has_left_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = tmp_path / "used"
    (used / "below").mkdir(parents=True)
    monkeypatch.chdir(used / "below")
    registry.remove_used(str(used))
    assert (used / "below").is_dir()
    monkeypatch.chdir(tmp_path)
    registry.remove_used(str(used))
    assert not used.exists()


# What is missing, and what mends it


def test_a_missing_tool_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "apk").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(processes, "SYSTEM_PATH", ("/nonexistent/sbin",))
    refusal = loop.Loop().missing(FILESYSTEMS["xfs"], Settings())
    assert refusal is not None
    assert "mkfs.xfs: neither in PATH nor in /nonexistent/sbin" in refusal.checked
    assert "apk add xfsprogs" in refusal.mends


def test_on_an_unknown_system_every_package_manager_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "which", lambda tool: None)
    assert packages.install("mkfs.btrfs") == (
        "apt-get install btrfs-progs",
        "dnf install btrfs-progs",
        "pacman -S btrfs-progs",
        "apk add btrfs-progs",
    )


@pytest.mark.parametrize("name", BY_IMAGE)
def test_every_tool_has_a_package_everywhere(name: str) -> None:
    for tool in FILESYSTEMS[name].tools:
        assert packages.PACKAGES[tool].keys() == packages.MANAGERS.keys()


def test_a_kernel_without_the_filesystem_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imaginary = Kind("imaginary", "none has it", ("loop",), fstype="imaginaryfs", mkfs=("true",))
    modules = tmp_path / os.uname().release
    modules.mkdir()
    (modules / "modules.dep").write_text("kernel/fs/otherfs/otherfs.ko.zst:\n")
    monkeypatch.setattr(kernel, "MODULES", str(tmp_path))
    refusal = loop.Loop().missing(imaginary, Settings())
    assert refusal is not None
    lines = [line for line in refusal.checked if line.startswith("imaginaryfs in this kernel:")]
    assert len(lines) == 1
    (modules / "modules.builtin").write_text("kernel/fs/imaginaryfs/imaginaryfs.ko\n")
    refusal = loop.Loop().missing(imaginary, Settings())
    assert refusal is None or not any("in this kernel" in line for line in refusal.checked)


def test_a_kernel_without_loop_devices_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CONTROL", "/nonexistent/loop-control")
    monkeypatch.setattr(kernel, "may_mount", lambda: True)
    refusal = loop.Loop().missing(FILESYSTEMS["ext4"], Settings())
    assert refusal is not None
    assert "/nonexistent/loop-control: not there" in refusal.checked
    assert "modprobe loop" in refusal.mends


def test_images_need_a_directory_to_lie_in(tmp_path: Path) -> None:
    refusal = loop.Loop().missing(FILESYSTEMS["ext4"], Settings(image_dir=str(tmp_path / "none")))
    assert refusal is not None
    assert f"{tmp_path / 'none'}: not a directory that can be written to" in refusal.checked


def test_an_ordinary_user_is_told_everything_and_has_directories(
    script: Script, everybodys_tmp: Path
) -> None:
    facts, kind, can, expected = script(
        """
        become_nobody()
        place = namespaces.find_place("host")
        facts = [fact.as_json() for fact in survey(Settings())]
        workshop = Workshop(place, Settings())
        layout = workshop.layout(parse("disk:tmpfs"))
        from linker.modes import LinkMode
        show([facts, place.kind, list(layout.can), str(layout.expect(LinkMode.HARDLINK))])
        workshop.close()
        """,
        tmp=everybodys_tmp,
    )
    by_name = {fact["name"]: fact for fact in facts}
    assert list(by_name) == list(FILESYSTEMS)
    for name in ("btrfs", "xfs"):
        fact = by_name[name]
        if fact["available"]:  # this very disk is one
            continue
        text = "\n".join(fact["checked"])
        assert "CAP_SYS_ADMIN" in text
        assert f"--linkmode-dir={name}=PATH: not given" in text
        assert any("sudo" in mend or "--privileged" in mend for mend in fact["mends"])
        assert any(f"--linkmode-dir={name}=PATH" in mend for mend in fact["mends"])
    assert by_name["disk"]["available"]
    assert by_name["tmpfs"]["provider"] == "machine", "/dev/shm is one"
    assert (kind, can, expected) == ("host", ["cross-device", "symlink"], "copy")
    assert [name for name in os.listdir(everybodys_tmp) if name.startswith("linkmode")] == []


def test_the_survey_is_plain_data_and_touches_nothing(place: Place) -> None:
    before = kernel.mounts(), os.listdir(place.path)
    facts = survey(Settings())
    assert [fact.kind.name for fact in facts] == list(FILESYSTEMS)
    assert json.loads(json.dumps([fact.as_json() for fact in facts]))
    assert (kernel.mounts(), os.listdir(place.path)) == before


# Which way is taken


def test_one_rung_can_be_forced_by_its_name_or_that_of_a_provider() -> None:
    for word, names in (("loop", ["loop"]), ("root", ["loop"]), ("machine", ["machine"])):
        providers = filesystems.ladder(FILESYSTEMS["btrfs"], Settings(provider=word))
        assert [provider.name for provider in providers] == names


def test_a_rung_that_has_no_such_filesystem_says_what_has() -> None:
    refusal = missing(FILESYSTEMS["disk"], Settings(provider="loop"))
    assert refusal is not None
    assert "--linkmode-provider=loop: the only way to get disk is directory, machine" in str(
        refusal
    )


def test_an_unknown_provider_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="'lop'") as caught:
        missing(FILESYSTEMS["btrfs"], Settings(provider="lop"))
    assert "loop" in caught.value.hint


def test_an_unknown_filesystem_is_a_usage_error_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="'btfs'") as caught:
        filesystems.kind_of("btfs")
    assert "btrfs" in caught.value.hint


def test_auto_means_every_filesystem_and_the_disk() -> None:
    assert automatic() == ("btrfs", "xfs", "xfs-noreflink", "ext4", "tmpfs", "disk")


def test_a_project_can_bring_a_way_of_its_own(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    @dataclasses.dataclass(frozen=True)
    class Cluster:
        name: str = "cluster"
        rung: str = "directory"

        def missing(self, kind: Kind, settings: Settings) -> Unavailable | None:
            return None

        def open(
            self, kind: Kind, place: Place, settings: Settings
        ) -> AbstractContextManager[Filesystem]:
            return self._made(kind)

        @contextmanager
        def _made(self, kind: Kind) -> Iterator[Filesystem]:
            yield Filesystem(kind.name, str(tmp_path), self.name, made=True)
            closed.append(kind.name)

    monkeypatch.setitem(FILESYSTEMS, "lustre", Kind("lustre", "ours", (Cluster(),)))
    with opened("lustre", place, Settings()) as made:
        assert (made.path, made.provider, closed) == (str(tmp_path), "cluster", [])
    assert closed == ["lustre"]
    assert os.listdir(tmp_path) == [], "probing left nothing behind"


def test_a_provider_that_fails_is_followed_by_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclasses.dataclass(frozen=True)
    class Broken:
        name: str = "broken"
        rung: str = "root"

        def missing(self, kind: Kind, settings: Settings) -> Unavailable | None:
            return None

        def open(
            self, kind: Kind, place: Place, settings: Settings
        ) -> AbstractContextManager[Filesystem]:
            raise Unavailable("no", checked=["the first way: broken"])

    both = dataclasses.replace(FILESYSTEMS["disk"], providers=(Broken(), "machine"))
    monkeypatch.setitem(FILESYSTEMS, "disk", both)
    with opened("disk", place, Settings()) as made:
        assert made.provider == "machine"
    alone = dataclasses.replace(both, providers=(Broken(),))
    monkeypatch.setitem(FILESYSTEMS, "disk", alone)
    with (
        pytest.raises(Unavailable, match="the first way: broken"),
        opened("disk", place, Settings()),
    ):
        pass


def test_a_provider_that_nobody_knows_is_answered_with_names_only() -> None:
    with pytest.raises(UsageError) as caught:
        ladder(kind_of("btrfs"), Settings(provider="x"))
    known = caught.value.hint.partition("Known: ")[2].split(", ")
    assert {"loop", "directory"} <= {*known}
    assert all(known)


def test_a_drive_of_windows_is_another_than_that_of_temporary_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    devices = {"C:\\": 1, "D:\\": 2, "R:\\": 3}

    def stat(path: str) -> os.stat_result:
        return os.stat_result((0, 0, devices.get(path, 1), *[0] * 7))

    monkeypatch.setattr(directory, "HERE", "win32")
    monkeypatch.setattr(os.path, "isdir", devices.__contains__)
    monkeypatch.setattr(os, "stat", stat)
    found = directory.MACHINE["drive"]()
    monkeypatch.undo()
    assert found == ("D:\\", "R:\\")
