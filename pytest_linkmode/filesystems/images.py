"""Disk images of macOS (`hdiutil`) and Windows (VHDX, by `diskpart`), mounted at a directory.

Both tools do in a few commands what a loop device does on Linux: make an image, format it, attach
it, and let it go again. What is asked of them is built by pure functions, exit statuses decide and
never what is said, in whatever language, and each step is tried again a few times: both systems
scan what is new, and hold it. An image is noted before it is made, so that `linkmode clean` lets go
of those of killed runs.

Sources: hdiutil(1) and diskutil(8) of macOS; "diskpart", "diskpart scripts and examples", "create
vdisk", "attach vdisk", "format", "assign", "select volume" and "detach vdisk" of Microsoft's
documentation; what both tools printed on machines of others, which the tests have in
tests/pytest_linkmode/filesystems/recorded. Neither was run where this was written: docs/windows.md.
"""

from __future__ import annotations

import functools
import os
import plistlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pytest_linkmode import processes
from pytest_linkmode.config import Settings
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.filesystems import mounts, registry
from pytest_linkmode.filesystems.base import (
    MIB,
    Filesystem,
    Kind,
    OwnedStack,
    attempted,
    directory_mends,
)
from pytest_linkmode.namespaces import Place

ATTEMPTS = 5
PAUSES = (0.3, 1.5, 5.0, 10.0)
"""Seconds between the attempts of one step, more than 15 in all: that is what Microsoft asks for
between two scripts of diskpart, and as long as scanners of macOS were seen to hold an image.
"""

TIMEOUT = 180


@dataclass(frozen=True)
class Image:
    """One image: the file, the directory that it is mounted at, and what is in it.

    `format` is the system's word for the filesystem, `size` is in bytes.
    """

    path: str
    point: str
    format: str
    size: int


Command = tuple[tuple[str, ...], str]
"""Arguments, and what is written into the file that stands in them as `SCRIPT`."""

SCRIPT = "{script}"


def hdiutil_create(image: Image) -> Command:
    """Return the command that makes and formats an image that grows as it is filled."""
    return (
        (
            *("hdiutil", "create", "-size", f"{image.size // MIB}m"),
            *("-type", "SPARSE", "-fs", image.format, "-volname", "linkmode", image.path),
        ),
        "",
    )


def hdiutil_attach(image: Image) -> Command:
    """Return the command that mounts an image, unseen by the Finder."""
    return (
        (
            *("hdiutil", "attach", "-nobrowse", "-noautoopen", "-owners", "on"),
            *("-mountpoint", image.point, image.path),
        ),
        "",
    )


def hdiutil_detach(device: str) -> Command:
    """Return the command that unmounts an image and lets it go, by one of its devices."""
    return ("hdiutil", "detach", device), ""


def hdiutil_force(device: str) -> Command:
    """Return the command that does so although something in it is open."""
    return ("hdiutil", "detach", "-force", device), ""


def diskutil_eject(device: str) -> Command:
    """Return the command that does so where hdiutil will be gone one day, as macOS 27 warns."""
    return ("diskutil", "eject", device), ""


def _diskpart(*lines: str) -> Command:
    return ("diskpart", "/s", SCRIPT), "".join(f"{line}\r\n" for line in lines)


def _quoted(path: str) -> str:
    """Return a path for a diskpart script, which knows no escapes."""
    if '"' in path or "\n" in path or "\r" in path:
        raise ValueError(f"{path!r} cannot be written into a diskpart script")
    return f'"{path}"'


def diskpart_create(image: Image) -> Command:
    """Return the command that makes a dynamically expanding VHDX: it is attached by the next."""
    size = image.size // MIB
    return _diskpart(f"create vdisk file={_quoted(image.path)} maximum={size} type=expandable")


def diskpart_attach(image: Image) -> Command:
    """Return the command that attaches an image, formats it and mounts it at a directory."""
    return _diskpart(
        f"select vdisk file={_quoted(image.path)}",
        "attach vdisk",
        "convert gpt",
        "create partition primary",
        f"format fs={image.format} label=linkmode quick",
        f"assign mount={_quoted(image.point)}",
    )


def diskpart_detach(image: Image) -> Command:
    """Return the command that takes the mount point away and lets the image go."""
    return _diskpart(
        f"select volume={_quoted(image.point)}",
        "remove all dismount",
        f"select vdisk file={_quoted(image.path)}",
        "detach vdisk",
    )


def diskpart_force(image: Image) -> Command:
    """Return the command that only lets it go: there may be no mount point any more."""
    return _diskpart(f"select vdisk file={_quoted(image.path)}", "detach vdisk")


def hdiutil_info() -> Command:
    """Return the command that tells of all images that are attached, as a property list."""
    return ("hdiutil", "info", "-plist"), ""


_CONTAINER = "EF57347C-"
"""How the type of the disk begins that APFS makes of a partition: it goes with the image's own."""


def attached_devices(told: str, path: str) -> tuple[str, ...]:
    """Return the devices of the image at `path` in what `hdiutil info -plist` told, the image's
    whole disk first; none if it is not attached.

    Paths are told as they really are: /private/tmp for /tmp.
    """
    real = os.path.realpath(path)
    types = {
        entity["dev-entry"]: entity.get("content-hint", "")
        for image in plistlib.loads(told.encode()).get("images", ())
        if os.path.realpath(image.get("image-path", "")) == real
        for entity in image.get("system-entities", ())
        if "dev-entry" in entity
    }

    def rank(device: str) -> tuple[bool, bool, int, str]:
        part = "s" in device.rpartition("/disk")[2]
        return part, types[device].startswith(_CONTAINER), len(device), device

    return tuple(sorted(types, key=rank))


Way = Callable[[Image, str], None]
"""A way to let go of an image, if it is attached; with a directory for scripts."""


def _by_device(command: Callable[[str], Command]) -> Way:
    """Return how one is let go by its device, which it keeps while it is attached.

    Its mount point is no name for it: of the two steps of a detach the second may fail, and then
    nothing is mounted there any more.
    """

    def let_go(image: Image, directory: str) -> None:
        devices = attached_devices(run(hdiutil_info(), directory), image.path)
        if devices:
            run(command(devices[0]), directory)

    return let_go


def _by_script(command: Callable[[Image], Command]) -> Way:
    """Return how one is let go by its path: while it is attached Windows does not let it be
    removed.
    """

    def let_go(image: Image, directory: str) -> None:
        try:
            os.unlink(image.path)
        except FileNotFoundError:
            return
        except PermissionError:
            run(command(image), directory)

    return let_go


@dataclass(frozen=True)
class Tool:
    """One tool: the system it is of, the steps, and its word for each filesystem.

    `suffix` is what the tool ends an image's name with; `ways` are how to let go of an image of
    which nobody knows how far it got, one an attempt; `right` says why this user may not, and
    `mend` what gives it.
    """

    program: str
    system: str
    suffix: str
    create: Callable[[Image], Command]
    attach: Callable[[Image], Command]
    ways: Sequence[Way]
    formats: Mapping[str, str]
    right: Callable[[], str]
    mend: str = ""


def _nothing() -> str:
    return ""


def _administrator() -> str:
    """Return why this user cannot attach disks on Windows, or nothing."""
    import ctypes

    shell: Any = getattr(ctypes, "windll", None)
    if shell is not None and shell.shell32.IsUserAnAdmin():
        return ""
    return "the right to attach disks (an administrator): missing"


HDIUTIL = Tool(
    "hdiutil",
    "darwin",
    ".sparseimage",
    hdiutil_create,
    hdiutil_attach,
    tuple(
        _by_device(command)
        for command in (
            *(hdiutil_detach, hdiutil_detach, diskutil_eject),
            *(hdiutil_force, hdiutil_force),
        )
    ),
    {
        "apfs": "APFS",
        "apfs-case-sensitive": "Case-sensitive APFS",
        "hfs": "HFS+J",
        "exfat": "ExFAT",
    },
    _nothing,
)

DISKPART = Tool(
    "diskpart",
    "win32",
    ".vhdx",
    diskpart_create,
    diskpart_attach,
    tuple(_by_script(command) for command in (diskpart_detach, *[diskpart_force] * 4)),
    {"refs": "refs", "ntfs": "ntfs", "fat32": "fat32", "exfat": "exfat"},
    _administrator,
    "open the shell as an administrator",
)


TOOLS: Mapping[str, Tool] = {tool.program: tool for tool in (HDIUTIL, DISKPART)}


def run(command: Command, directory: str) -> str:
    """Run one step; return what it printed. Raises CommandFailed."""
    arguments, script = command
    path = os.path.join(directory, "linkmode.txt")
    if script:
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(script)
    words = [path if word == SCRIPT else word for word in arguments]
    return processes.run(words, timeout=TIMEOUT).stdout


def persistently(
    steps: Sequence[Callable[[], None]],
    *,
    again: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Take the first of `steps` that works, one after the other, with pauses between.

    `again` tidies up before another attempt. Raises the last CommandFailed.
    """
    for number, step in enumerate(steps, 1):
        try:
            step()
        except processes.CommandFailed:
            if number == len(steps):
                raise
            again()
            sleep(PAUSES[min(number, len(PAUSES)) - 1])
        else:
            return


@contextmanager
def attached(
    tool: Tool, image: Image, sleep: Callable[[float], None] = time.sleep, *, keep: bool = False
) -> Iterator[str]:
    """Make an image and mount it for as long as the context lasts; the value is the directory.

    Whatever fails, what was made before is undone; what cannot be stays noted. Raises
    CommandFailed.
    """
    directory = os.path.dirname(image.path)
    notes = registry.ledger()
    number = notes.note(registry.IMAGE, image.path, tool=tool.program, point=image.point)

    def forget() -> None:
        with suppress(FileNotFoundError):
            os.unlink(image.path)

    def undo() -> None:
        release(tool, image, sleep)
        notes.forget(number)

    def create() -> None:
        run(tool.create(image), directory)
        notes.made(number, image.path)

    def make() -> None:
        persistently([create] * ATTEMPTS, again=forget, sleep=sleep)

    def attach() -> None:
        command = tool.attach(image)
        said = run(command, directory)
        if not is_mounted(image.point):
            why = f"nothing is mounted at {image.point}"
            raise processes.CommandFailed(command[0], 0, said, why=why)

    def make_anew() -> None:
        """Begin again: what has partitions already cannot be given them once more."""
        with suppress(processes.CommandFailed, OSError):
            release(tool, image, sleep)
        if not os.path.exists(image.path):
            make()

    with OwnedStack(keep=keep) as stack:
        try:
            make()
            persistently([attach] * ATTEMPTS, again=make_anew, sleep=sleep)
        except BaseException:
            with suppress(processes.CommandFailed, OSError):
                undo()
            raise
        stack.callback(undo)
        yield image.point


def is_mounted(point: str) -> bool:
    """Return whether something is mounted at a directory, by what it lies on: `os.path.ismount` of
    Windows compares texts, and a path may have short names in it.
    """
    return os.stat(point).st_dev != os.stat(os.path.dirname(point)).st_dev


def release(tool: Tool, image: Image, sleep: Callable[[float], None] = time.sleep) -> None:
    """Let go of an image of which nobody knows how far it got, and remove it.

    Raises CommandFailed, or OSError where it cannot be removed.
    """
    directory = os.path.dirname(image.path)
    persistently([functools.partial(way, image, directory) for way in tool.ways], sleep=sleep)
    with suppress(FileNotFoundError):
        os.unlink(image.path)


@dataclass(frozen=True)
class Images:
    """The provider."""

    tool: Tool
    name: str
    rung: str = "images"

    def missing(self, kind: Kind, settings: Settings) -> Unavailable | None:
        """Return what stands in the way."""
        del settings
        absent = []
        mends = directory_mends(kind)
        if sys.platform != self.tool.system:
            absent.append(f"{self.tool.program}: not on {sys.platform}")
        elif processes.which(self.tool.program) is None:
            absent.append(f"{self.tool.program}: not in PATH")
        elif self.tool.right():
            absent.append(self.tool.right())
            mends = (self.tool.mend, *mends)
        if not absent:
            return None
        return Unavailable(f"no {kind.name} by {self.name}", checked=absent, mends=mends)

    @contextmanager
    def open(self, kind: Kind, place: Place, settings: Settings) -> Iterator[Filesystem]:
        """Make one for as long as the context lasts."""
        what = f"no {kind.name} by {self.name}"
        with attempted(self._made(kind, place, settings), what, directory_mends(kind)) as image:
            facts = {"image": image.path, "format": image.format}
            yield Filesystem(kind.name, image.point, self.name, made=True, facts=facts)

    @contextmanager
    def _made(self, kind: Kind, place: Place, settings: Settings) -> Iterator[Image]:
        with mounts.tree(place.path, f"linkmode-{kind.name}", keep=settings.keep) as directory:
            point = os.path.join(directory, "root")
            os.mkdir(point)
            path = os.path.join(directory, "image" + self.tool.suffix)
            size = max(settings.image_size, kind.least_size)
            image = Image(path, point, self.tool.formats[kind.name], size)
            with attached(self.tool, image, keep=settings.keep):
                yield image


def hdiutil() -> Images:
    """Return the provider of macOS."""
    return Images(HDIUTIL, "hdiutil")


def vhdx() -> Images:
    """Return the provider of Windows."""
    return Images(DISKPART, "vhdx")
