"""A filesystem of any type the kernel knows, in a sparse image, through a loop device.

The image is a file without a name, so that no kill can leave one behind; the loop device frees
itself with its last user (autoclear). From nothing to a mounted btrfs it takes one run of
mkfs, the next time a copy of what mkfs wrote, and three system calls; kernels before 5.8 have no
LOOP_CONFIGURE and take `mount -o loop`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass

from pytest_linkmode import HERE, kernel, namespaces, privileges, processes
from pytest_linkmode.config import Settings
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.filesystems import mounts, packages, registry, templates
from pytest_linkmode.filesystems.base import (
    Filesystem,
    Kind,
    OwnedStack,
    attempted,
    directory_mends,
)
from pytest_linkmode.namespaces import Place

CONTROL = "/dev/loop-control"

# <linux/loop.h>
LOOP_CTL_GET_FREE = 0x4C82
LOOP_CONFIGURE = 0x4C0A
LO_FLAGS_AUTOCLEAR = 4
LO_NAME_SIZE = 64
LO_KEY_SIZE = 32
LOOP_MAJOR = 7


class loop_info64(ctypes.Structure):  # noqa: N801  # the kernel's name
    """`struct loop_info64` of <linux/loop.h>."""

    _fields_ = (
        ("lo_device", ctypes.c_uint64),
        ("lo_inode", ctypes.c_uint64),
        ("lo_rdevice", ctypes.c_uint64),
        ("lo_offset", ctypes.c_uint64),
        ("lo_sizelimit", ctypes.c_uint64),
        ("lo_number", ctypes.c_uint32),
        ("lo_encrypt_type", ctypes.c_uint32),
        ("lo_encrypt_key_size", ctypes.c_uint32),
        ("lo_flags", ctypes.c_uint32),
        ("lo_file_name", ctypes.c_uint8 * LO_NAME_SIZE),
        ("lo_crypt_name", ctypes.c_uint8 * LO_NAME_SIZE),
        ("lo_encrypt_key", ctypes.c_uint8 * LO_KEY_SIZE),
        ("lo_init", ctypes.c_uint64 * 2),
    )


class loop_config(ctypes.Structure):  # noqa: N801  # the kernel's name
    """`struct loop_config` of <linux/loop.h>."""

    _fields_ = (
        ("fd", ctypes.c_uint32),
        ("block_size", ctypes.c_uint32),
        ("info", loop_info64),
        ("__reserved", ctypes.c_uint64 * 8),
    )


_ATTEMPTS = 64
_LOST_RACES = (errno.EBUSY, errno.EAGAIN, errno.ENXIO, errno.ENODEV)
_NO_LOOP_CONFIGURE = (errno.EINVAL, errno.ENOTTY, errno.ENOSYS)


class LoopConfigureMissing(Exception):
    """The kernel has no LOOP_CONFIGURE."""


@dataclass(frozen=True)
class Image:
    """A sparse file to put a filesystem in: open, and usually without a name."""

    descriptor: int
    directory: str
    name: str = ""

    @property
    def path(self) -> str:
        """A path by which our children can open it."""
        return self.name or f"/proc/{os.getpid()}/fd/{self.descriptor}"


@dataclass(frozen=True)
class Loop:
    """The provider."""

    name: str = "loop"
    rung: str = "root"

    def missing(self, kind: Kind, settings: Settings) -> Unavailable | None:
        """Return all that stands in the way."""
        absent: list[str] = []
        mends: list[str] = []
        if HERE != "linux":
            absent.append(f"loop devices: not on {HERE}")
        elif not kernel.may_mount():
            absent.append("the right to mount (CAP_SYS_ADMIN): missing")
            mends += namespaces.mount_mends()
        elif privileges.in_user_namespace():
            absent.append("loop devices: not from within a user namespace")
            mends += namespaces.mount_mends()
        elif not os.path.exists(CONTROL):
            absent.append(f"{CONTROL}: not there")
            mends += ("modprobe loop", *namespaces.mount_mends())
        for tool in kind.tools:
            if processes.which(tool) is None:
                absent.append(f"{tool}: neither in PATH nor in {', '.join(processes.SYSTEM_PATH)}")
                mends += packages.install(tool)
        if HERE == "linux" and not kernel.knows(kind.fstype):
            absent.append(
                f"{kind.fstype} in this kernel: neither in /proc/filesystems nor a module of "
                f"{platform.release()}"
            )
        if settings.image_dir is not None and not os.access(settings.image_dir, os.W_OK | os.X_OK):
            absent.append(f"{settings.image_dir}: not a directory that can be written to")
            mends.append("name another directory: --linkmode-image-dir=DIR")
        if not absent:
            return None
        return Unavailable(
            f"no {kind.name} by a loop image",
            checked=absent,
            mends=[*mends, *directory_mends(kind)],
        )

    @contextmanager
    def open(self, kind: Kind, place: Place, settings: Settings) -> Iterator[Filesystem]:
        """Make an image, format it, and mount it for as long as the context lasts."""
        what = f"no {kind.name} by a loop image"
        with attempted(_mounted(kind, place, settings), what, directory_mends(kind)) as path:
            entry = kernel.mount_at(path)
            yield Filesystem(
                kind.name,
                path,
                self.name,
                made=True,
                facts={
                    "device": entry.source if entry else "",
                    "options": entry.options if entry else "",
                    "images": settings.image_dir or place.path,
                },
            )


@contextmanager
def _mounted(kind: Kind, place: Place, settings: Settings) -> Iterator[str]:
    with OwnedStack(keep=settings.keep) as stack:
        with _formatted(kind, place, settings) as sparse:
            path = stack.enter_context(mounts.point(place, kind.name, keep=settings.keep))
            stack.enter_context(_mounted_on(path, sparse, kind, place, settings))
        yield path


@contextmanager
def _formatted(kind: Kind, place: Place, settings: Settings) -> Iterator[Image]:
    size = max(settings.image_size, kind.least_size)
    with image(settings.image_dir or place.path, size) as sparse:
        templates.format_image(kind, sparse.descriptor, sparse.path)
        yield sparse


@contextmanager
def _mounted_on(
    path: str, sparse: Image, kind: Kind, place: Place, settings: Settings
) -> Iterator[None]:
    """Mount an image on a directory; the image may be closed as soon as it is."""
    with OwnedStack(keep=settings.keep) as stack:
        try:
            with attached(sparse, place, kind.name) as device:
                mount = mounts.mounted_on(
                    place,
                    path,
                    lambda path: kernel.mount(device, path, kind.fstype, data=kind.options),
                    source=device,
                    fstype=kind.fstype,
                    keep=settings.keep,
                )
                stack.enter_context(mount)
        except LoopConfigureMissing:
            stack.enter_context(_mounted_by_program(path, sparse, kind, place, settings))
        yield


class Disk:
    """A mounted image of our own that can be taken offline, for what no mounted one allows."""

    def __init__(self, path: str, remount: Callable[[], AbstractContextManager[None]]) -> None:
        self.path = path
        self._remount = remount
        self._mount = OwnedStack()
        self._mount.enter_context(remount())

    @contextmanager
    def offline(self) -> Iterator[None]:
        """Unmount it for as long as the context lasts. Raises OSError if it is in use."""
        kernel.unmount(self.path)
        self.close()  # what is left to undo is to forget it
        try:
            yield
        finally:
            self._mount.enter_context(self._remount())

    def close(self) -> None:
        """Unmount it for good."""
        self._mount.close()


@contextmanager
def disk(kind: Kind, place: Place, settings: Settings) -> Iterator[tuple[Disk, str]]:
    """Make a filesystem in an image, and give it with a path by which programs can edit the image.

    Raises Unavailable, as the provider does.
    """
    what = f"no {kind.name} by a loop image"
    with attempted(_disk(kind, place, settings), what, directory_mends(kind)) as both:
        yield both


@contextmanager
def _disk(kind: Kind, place: Place, settings: Settings) -> Iterator[tuple[Disk, str]]:
    with OwnedStack() as stack:
        sparse = stack.enter_context(_formatted(kind, place, settings))
        path = stack.enter_context(mounts.point(place, kind.name))
        made = Disk(path, lambda: _mounted_on(path, sparse, kind, place, settings))
        stack.callback(made.close)
        yield made, sparse.path


@contextmanager
def image(directory: str, size: int) -> Iterator[Image]:
    """Make a sparse file of `size` bytes in `directory`.

    It has no name where the filesystem can do that (O_TMPFILE), and is then gone with the last
    descriptor, whatever happens. A loop device holds it as a descriptor does.
    """
    with ExitStack() as stack:
        try:
            flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
            made = Image(os.open(directory, flags, 0o600), directory)
            stack.callback(os.close, made.descriptor)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
            made = _named_image(stack, directory)
        os.ftruncate(made.descriptor, size)
        yield made


def _named_image(stack: ExitStack, directory: str) -> Image:
    path, number = stack.enter_context(_new_name(directory))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    stack.callback(os.close, descriptor)
    registry.ledger().made(number, path)
    return Image(descriptor, directory, path)


@contextmanager
def _new_name(directory: str) -> Iterator[tuple[str, int]]:
    """Think of a name for an image, and remove what has it when the context ends."""
    path = os.path.join(os.path.realpath(directory), f"linkmode-{os.urandom(4).hex()}.image")
    number = registry.ledger().note(registry.FILE, path)
    try:
        yield path, number
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)
        registry.ledger().forget(number)


@contextmanager
def attached(sparse: Image, place: Place, label: str) -> Iterator[str]:
    """Attach an image to a free loop device and hold it; the context's value is its path.

    When the context ends the device frees itself, unless something is mounted from it: then
    when that is unmounted. Raises LoopConfigureMissing, OSError.
    """
    with ExitStack() as stack:
        control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
        stack.callback(os.close, control)
        for attempt in range(1, _ATTEMPTS + 1):
            # The kernel answers which device is free and does not reserve it: whoever attaches
            # first has it, everybody else must ask again. It may also have been removed since,
            # or be open still by somebody who looks what it held before, as udev does.
            number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
            try:
                path = stack.enter_context(_configured(number, sparse, place, label))
                break
            except OSError as error:
                if error.errno not in _LOST_RACES or attempt == _ATTEMPTS:
                    raise
                time.sleep(0.0005 * min(attempt, 20))
        yield path


@contextmanager
def _configured(number: int, sparse: Image, place: Place, label: str) -> Iterator[str]:
    with _node(number, place) as path:
        device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            _configure(device, sparse, label)
            yield path
        finally:
            os.close(device)


@contextmanager
def _node(number: int, place: Place) -> Iterator[str]:
    """Give the path of a loop device, made in `place` if /dev does not have it.

    The /dev of a container is a tmpfs with the devices of its first moment.
    """
    path = f"/dev/loop{number}"
    if os.path.exists(path):
        yield path
        return
    path = os.path.join(place.path, f"loop{number}-{os.urandom(4).hex()}")
    os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(LOOP_MAJOR, number))
    try:
        yield path
    finally:
        os.unlink(path)


def _configure(device: int, sparse: Image, label: str) -> None:
    config = loop_config(fd=sparse.descriptor)
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR
    name = f"linkmode {label}".encode()[: LO_NAME_SIZE - 1]
    config.info.lo_file_name[: len(name)] = name
    try:
        fcntl.ioctl(device, LOOP_CONFIGURE, config)
    except OSError as error:
        if error.errno in _NO_LOOP_CONFIGURE:
            raise LoopConfigureMissing from error
        raise


@contextmanager
def _mounted_by_program(
    path: str, sparse: Image, kind: Kind, place: Place, settings: Settings
) -> Iterator[None]:
    """Let `mount -o loop` do both: it needs the image to have a name, until it is done."""
    options = ",".join(filter(None, ("loop", kind.options)))
    with OwnedStack(keep=settings.keep) as stack:
        with _name_of(sparse) as name:
            mount = mounts.mounted_on(
                place,
                path,
                lambda path: _run_mount(kind.fstype, options, name, path),
                source="",
                fstype=kind.fstype,
                keep=settings.keep,
            )
            stack.enter_context(mount)
        yield


def _run_mount(fstype: str, options: str, source: str, target: str) -> None:
    processes.run(("mount", "-t", fstype, "-o", options, source, target))


@contextmanager
def _name_of(sparse: Image) -> Iterator[str]:
    if sparse.name:
        yield sparse.name
        return
    with _new_name(sparse.directory) as (path, number):
        # Only with a directory descriptor does os.link use linkat(2), and so follow the link.
        here = os.open("/", os.O_PATH | os.O_CLOEXEC)
        try:
            os.link(sparse.path, path, src_dir_fd=here, follow_symlinks=True)
        finally:
            os.close(here)
        registry.ledger().made(number, path)
        yield path
