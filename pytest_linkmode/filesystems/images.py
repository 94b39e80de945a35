"""Disk images of macOS (`hdiutil`) and Windows (VHDX, by `diskpart`), mounted at a directory.

Both tools do in a few commands what a loop device does on Linux: make an image, format it, attach
it, and let it go again. What is asked of them is built by pure functions, exit statuses alone
decide, and each step is tried again a few times: both systems scan what is new, and hold it.

Sources: hdiutil(1) of macOS; "diskpart", "create vdisk", "attach vdisk", "format" and "assign" of
Microsoft's documentation. Neither was run where this was written: docs/windows.md.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pytest_linkmode import processes
from pytest_linkmode.config import Settings
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.filesystems import mounts
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

    With `force` a mount point that was never made is no error.
    """
    remove = "remove all dismount" + (" noerr" if force else "")
    return _diskpart(
        f"select vdisk file={_quoted(image.path)}",
        *((f"select partition 1{' noerr' if force else ''}", remove)),
        "detach vdisk",
    )


@dataclass(frozen=True)
class Tool:
    """One tool: the system it is of, the steps, and its word for each filesystem.

    `suffix` is what the tool ends an image's name with; `missing` says why this user may not.
    """

    program: str
    system: str
    suffix: str
    create: Callable[[Image], Command]
    attach: Callable[[Image], Command]
    detach: Callable[..., Command]
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
    {"refs": "refs", "ntfs": "ntfs", "fat32": "fat32", "exfat": "exfat"},
    _administrator,
)


def run(command: Command, directory: str) -> None:
    """Run one step; raises CommandFailed."""
    arguments, script = command
    path = os.path.join(directory, "linkmode.txt")
    if script:
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(script)
    processes.run([word.format(script=path) for word in arguments], timeout=TIMEOUT)


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

    Whatever fails, what was made before is undone. Raises CommandFailed.
    """
    directory = os.path.dirname(image.path)

    def forget() -> None:
        with suppress(FileNotFoundError):
            os.unlink(image.path)

    def let_go(*, force: bool) -> None:
        run(tool.detach(image, force=force), directory)

    def let_go_quietly() -> None:
        with suppress(processes.CommandFailed):
            let_go(force=True)

    with OwnedStack(keep=keep) as stack:
        stack.callback(forget)
        create = [lambda: run(tool.create(image), directory)] * ATTEMPTS
        persistently(create, again=forget, sleep=sleep)
        try:
            attach = [lambda: run(tool.attach(image), directory)] * ATTEMPTS
            persistently(attach, again=let_go_quietly, sleep=sleep)
        except BaseException:
            let_go_quietly()
            raise
        gently: list[Callable[[], None]] = [lambda: let_go(force=False)] * (ATTEMPTS - 1)
        stack.callback(persistently, [*gently, lambda: let_go(force=True)], sleep=sleep)
        yield image.point


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
            image = Image(path, point, self.tool.formats[kind.name], kind.least_size or 64 * MIB)
            with attached(self.tool, image, keep=settings.keep):
                yield image


def hdiutil() -> Images:
    """Return the provider of macOS."""
    return Images(HDIUTIL, "hdiutil")


def vhdx() -> Images:
    """Return the provider of Windows."""
    return Images(DISKPART, "vhdx")
