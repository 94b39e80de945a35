"""Disk images of macOS (`hdiutil`) and Windows (VHDX, by `diskpart`), mounted at a directory.

Both tools do in a few commands what a loop device does on Linux: make an image, format it, attach
it, and let it go again. What is asked of them is built by pure functions, exit statuses alone
decide, and each step is tried again a few times: both systems scan what is new, and hold it. An
image is noted before it is made, so that `linkmode clean` lets go of those of killed runs.

Sources: hdiutil(1) of macOS; "diskpart", "create vdisk", "attach vdisk", "format", "assign",
"select volume" and "detach vdisk" of Microsoft's documentation. Neither was run where this was
written: docs/windows.md.
"""

from __future__ import annotations

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
PAUSES = (0.1, 0.3, 1.0, 2.0)
"""Seconds between the attempts of one step."""

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
"""Arguments, and what is written into the file that they name by ``{script}``."""


def hdiutil_create(image: Image) -> Command:
    """Return the command that makes and formats an image that grows as it is filled."""
    return (
        (
            *("hdiutil", "create", "-quiet", "-size", f"{image.size // MIB}m"),
            *("-type", "SPARSE", "-fs", image.format, "-volname", "linkmode", image.path),
        ),
        "",
    )


def hdiutil_attach(image: Image) -> Command:
    """Return the command that mounts an image, unseen by the Finder."""
    return (
        (
            *("hdiutil", "attach", "-quiet", "-nobrowse", "-noautoopen", "-owners", "on"),
            *("-mountpoint", image.point, image.path),
        ),
        "",
    )


def hdiutil_detach(image: Image, *, force: bool) -> Command:
    """Return the command that unmounts an image and lets it go."""
    return (
        ("hdiutil", "detach", "-quiet", *(("-force",) if force else ()), image.point),
        "",
    )


def _diskpart(*lines: str) -> Command:
    return ("diskpart", "/s", "{script}"), "".join(f"{line}\r\n" for line in lines)


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


def diskpart_detach(image: Image, *, force: bool) -> Command:
    """Return the command that takes the mount point away and lets the image go.

    With `force` it is only let go: there may be no mount point.
    """
    remove = (f"select volume={_quoted(image.point)}", "remove all dismount")
    return _diskpart(
        *(() if force else remove), f"select vdisk file={_quoted(image.path)}", "detach vdisk"
    )


def hdiutil_info() -> Command:
    """Return the command that tells of all images that are attached, as a property list."""
    return ("hdiutil", "info", "-plist"), ""


def hdiutil_eject(device: str) -> Command:
    """Return the command that lets go of an image by one of its devices, mounted or not."""
    return ("hdiutil", "detach", "-quiet", "-force", device), ""


def attached_devices(told: str, path: str) -> tuple[str, ...]:
    """Return the devices of the image at `path` in what `hdiutil info -plist` told, the whole
    disk first; none if it is not attached.
    """
    devices = {
        entity["dev-entry"]
        for image in plistlib.loads(told.encode()).get("images", ())
        if image.get("image-path") == path
        for entity in image.get("system-entities", ())
        if "dev-entry" in entity
    }
    return tuple(sorted(devices, key=lambda device: (len(device), device)))


def _hdiutil_free(image: Image, directory: str) -> None:
    """Let go of an image if it is attached."""
    devices = attached_devices(run(hdiutil_info(), directory), image.path)
    if devices:
        run(hdiutil_eject(devices[0]), directory)


def _diskpart_free(image: Image, directory: str) -> None:
    """Let go of an image if it is attached: then Windows does not let it be removed."""
    try:
        os.unlink(image.path)
    except PermissionError:
        run(diskpart_detach(image, force=True), directory)


@dataclass(frozen=True)
class Tool:
    """One tool: the system it is of, the steps, and its word for each filesystem.

    `suffix` is what the tool ends an image's name with; `free` lets go of an image of which nobody
    knows how far it got; `right` says why this user may not.
    """

    program: str
    system: str
    suffix: str
    create: Callable[[Image], Command]
    attach: Callable[[Image], Command]
    detach: Callable[..., Command]
    free: Callable[[Image, str], None]
    formats: Mapping[str, str]
    right: Callable[[], str]


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
    hdiutil_detach,
    _hdiutil_free,
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
    diskpart_detach,
    _diskpart_free,
    {"refs": "refs", "ntfs": "ntfs", "fat32": "fat32", "exfat": "exfat"},
    _administrator,
)


TOOLS: Mapping[str, Tool] = {tool.program: tool for tool in (HDIUTIL, DISKPART)}


def run(command: Command, directory: str) -> str:
    """Run one step; return what it printed. Raises CommandFailed."""
    arguments, script = command
    path = os.path.join(directory, "linkmode.txt")
    if script:
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(script)
    done = processes.run([word.format(script=path) for word in arguments], timeout=TIMEOUT)
    return done.stdout


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

    def let_go(*, force: bool) -> None:
        run(tool.detach(image, force=force), directory)

    def let_go_quietly() -> None:
        with suppress(processes.CommandFailed):
            let_go(force=True)

    def undo() -> None:
        gently: list[Callable[[], None]] = [lambda: let_go(force=False)] * (ATTEMPTS - 1)
        persistently([*gently, lambda: let_go(force=True)], sleep=sleep)
        forget()
        notes.forget(number)

    def create() -> None:
        run(tool.create(image), directory)

    def attach() -> None:
        run(tool.attach(image), directory)

    with OwnedStack(keep=keep) as stack:
        try:
            persistently([create] * ATTEMPTS, again=forget, sleep=sleep)
            notes.made(number, image.path)
            persistently([attach] * ATTEMPTS, again=let_go_quietly, sleep=sleep)
        except BaseException:
            with suppress(processes.CommandFailed, OSError):
                release(tool, image, sleep)
                notes.forget(number)
            raise
        stack.callback(undo)
        yield image.point


def release(tool: Tool, image: Image, sleep: Callable[[float], None] = time.sleep) -> None:
    """Let go of an image of which nobody knows how far it got, and remove it.

    Raises CommandFailed, or OSError where it cannot be removed.
    """
    directory = os.path.dirname(image.path)
    persistently([lambda: tool.free(image, directory)] * ATTEMPTS, sleep=sleep)
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
        if sys.platform != self.tool.system:
            absent.append(f"{self.tool.program}: not on {sys.platform}")
        elif processes.which(self.tool.program) is None:
            absent.append(f"{self.tool.program}: not in PATH")
        elif self.tool.right():
            absent.append(self.tool.right())
        if not absent:
            return None
        return Unavailable(
            f"no {kind.name} by {self.name}", checked=absent, mends=directory_mends(kind)
        )

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
