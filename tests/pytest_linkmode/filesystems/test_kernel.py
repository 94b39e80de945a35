"""What the kernel says about mounts, and the few calls Python lacks."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pytest_linkmode import kernel
from pytest_linkmode.layouts import Workshop, parse

needs_mounts = pytest.mark.skipif(
    not kernel.may_mount(), reason="mounting needs CAP_SYS_ADMIN, which this user has not"
)


@pytest.mark.parametrize(
    ("machine", "number"),
    [
        ("x86_64", 0x40049409),
        ("aarch64", 0x40049409),
        ("ppc64le", 0x80049409),
        ("mips", 0x80049409),
    ],
)
def test_ioctl_numbers_are_those_of_the_machine(machine: str, number: int) -> None:
    assert kernel.iow(0x94, 9, 4, machine) == number


def test_a_call_that_fails_names_itself_and_its_object(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="umount2") as caught:
        kernel.unmount(str(tmp_path))
    # An ordinary user is refused before anything is looked at.
    assert caught.value.errno == (errno.EINVAL if kernel.may_mount() else errno.EPERM)
    assert caught.value.filename == str(tmp_path)


def test_every_path_lies_in_a_mount() -> None:
    root = kernel.mount_of("/")
    assert root is not None
    assert root.target == "/"


def test_a_path_that_is_not_there_lies_in_none(tmp_path: Path) -> None:
    assert kernel.mount_of(str(tmp_path / "absent")) is None


def test_the_running_kernel_has_a_version() -> None:
    assert kernel.release() >= (3, 0)


@needs_mounts
def test_a_subvolume_is_known_to_be_on_btrfs(workshop: Workshop) -> None:
    placed = workshop.place(parse("btrfs+subvolume"))
    mount = kernel.mount_of(placed.target_root)
    assert mount is not None
    assert mount.fstype == "btrfs"
    assert mount.target == workshop.filesystem("btrfs").path


@needs_mounts
def test_a_mount_point_with_odd_characters_is_read_back_as_it_is(workshop: Workshop) -> None:
    odd = os.path.join(workshop.directory("tmpfs"), "a b\\c\td")
    os.mkdir(odd)
    kernel.mount("odd one", odd, "tmpfs")
    try:
        mount = kernel.mount_at(odd)
        assert mount is not None
        assert (mount.target, mount.source, mount.fstype) == (odd, "odd one", "tmpfs")
    finally:
        kernel.unmount(odd)
    assert kernel.mount_at(odd) is None
