"""What the tools for disk images are asked: `hdiutil` of macOS and `diskpart` of Windows.

Both do in a few commands what a loop device does on Linux: make an image, format it, attach it, and
let it go again. What is asked of them is built by pure functions, exit statuses decide and never
what is said, in whatever language, and each step is tried again a few times: both systems scan what
is new, and hold it.

Sources: hdiutil(1) and diskutil(8) of macOS; "diskpart", "diskpart scripts and examples", "create
vdisk", "attach vdisk", "format", "assign", "select volume" and "detach vdisk" of Microsoft's
documentation; what both tools printed on machines of others, which the tests have in
tests/pytest_linkmode/filesystems/recorded. Neither was run where this was written: docs/windows.md.
"""

from __future__ import annotations

import functools
import os
import plistlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pytest_linkmode import processes
from pytest_linkmode.filesystems.base import MIB

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


def release(tool: Tool, image: Image, sleep: Callable[[float], None] = time.sleep) -> None:
    """Let go of an image of which nobody knows how far it got, and remove it.

    Raises CommandFailed, or OSError where it cannot be removed.
    """
    directory = os.path.dirname(image.path)
    persistently([functools.partial(way, image, directory) for way in tool.ways], sleep=sleep)
    with suppress(FileNotFoundError):
        os.unlink(image.path)
