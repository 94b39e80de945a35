"""What is done to a program while it installs: nothing, a fault, a kill, a race, odd files, mounts.

A scenario is named by one line, which is what a results page shows and what asks for it again. The
errors are those that the field has met; positions are counted in the calls of the program itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import escape

from linker.modes import LinkMode
from pytest_linkmode.faults.log import Call
from pytest_linkmode.faults.spec import Fault, Kill, Spec, matcher
from pytest_linkmode.installers.programs import Place

OPS = {
    LinkMode.CLONE: "clone",
    LinkMode.HARDLINK: "hardlink",
    LinkMode.SYMLINK: "symlink",
    LinkMode.COPY: "copy",
}
"""The op that makes a file in a mode."""

ERRORS = {
    "clone": (
        *("EXDEV", "EOPNOTSUPP", "ENOTTY", "ENOSYS", "EPERM", "EACCES", "EINVAL", "EBADF"),
        *("ETXTBSY", "EISDIR", "EAGAIN", "ENOSPC", "EDQUOT", "ENOMEM", "EROFS", "EIO"),
    ),
    "hardlink": (
        *("EXDEV", "EMLINK", "EOPNOTSUPP", "EPERM", "EACCES", "ENOENT", "EAGAIN"),
        *("ENOSPC", "EROFS", "EIO"),
    ),
    "symlink": ("EPERM", "ENOSYS", "ENOSPC", "EIO"),
    "copy": ("ENOSPC", "EDQUOT", "EIO"),
}
"""The errors that each op is made to meet: link(2), ioctl_ficlone(2), what trackers report, and
what systems tell apart in their fallbacks.
"""

REFUSALS = ("EXDEV", "EOPNOTSUPP", "ENOTTY", "ENOSYS", "EPERM", "EACCES")
"""Those that a filesystem may well give to every call."""

FIRST, MIDDLE, LAST, EVERY = "first", "middle", "last", "every"
PLAIN, UMASK, SYMLINKED, HARDLINKED, KILLED = (
    "plain",
    "umask",
    "hostile-symlink",
    "hostile-hardlink",
    "kill",
)
NESTED, MOUNTED_FILE, NOCOW, IMMUTABLE, OWNER, THEIRS = (
    "nested-mount",
    "mounted-file",
    "nocow-file",
    "immutable-file",
    "other-owner",
    "other-owner-target",
)
"""What lies in a program's way: see `disturbing`."""
RACE, TWIN, APPEARS, SWAPPED = "race", "twin", "appears", "swapped"
"""A race, and what the other one does: see `racing`."""

ON: Mapping[str, frozenset[str]] = {
    NOCOW: frozenset({"btrfs"}),
    IMMUTABLE: frozenset({"btrfs", "ext4", "xfs"}),
}
"""Where the filesystem of the cache knows such an attribute."""


@dataclass(frozen=True)
class Scenario:
    """One scenario: `kind`, and for a fault its op, error and position."""

    kind: str
    op: str = ""
    error: str = ""
    position: str = ""

    @property
    def name(self) -> str:
        """The line that names it."""
        return ":".join(part for part in (self.kind, self.op, self.error, self.position) if part)

    def nth(self, calls: int) -> int | None:
        """Return which of so many calls is meant, None for all."""
        return {FIRST: 1, MIDDLE: (calls + 1) // 2, LAST: calls}.get(self.position)

    def faults(self, numbers: Sequence[int], place: Place) -> tuple[Spec, ...]:
        """Return the faults for a program whose calls of the op have these numbers.

        They are counted among all that are `meant` in its place.
        """
        if not self.op:
            return ()
        which = self.nth(len(numbers))
        nth = None if which is None else numbers[which - 1]
        below = _counted(self.op, place)
        if self.kind == KILLED:
            return (Kill(self.op, nth, "after", below=below),)
        return (Fault(self.op, self.error, nth, below=below),)

    def faults_within(self, source: str, files: int, calls: int) -> tuple[Spec, ...]:
        """Return the same for the reference linker, which links so many files of a directory.

        It makes hard links of its own beside those of the source; these are nobody's mode.
        """
        if not self.op:
            return ()
        nth = self.nth(min(calls, files) if self.op != "copy" else files)
        path = os.path.join(escape(os.path.realpath(source)), "*")
        return (Fault(self.op, self.error, nth, path=path if self.op == "hardlink" else None),)


def _counted(op: str, place: Place) -> str:
    """Return the directory in which the calls of an op are counted.

    What is copied may be put together elsewhere, and is the same file when it gets its place.
    """
    return place.around if op == "copy" else place.target


def meant(call: Call, place: Place) -> bool:
    """Return whether a call is one of those that are counted where its op is faulted."""
    return matcher(None, _counted(call.op, place))(call.paths, 1)


def scenarios(mode: LinkMode, layout: str, *, depth: int) -> Iterator[Scenario]:
    """Return the scenarios of a mode in a layout: none but the plain one, some, or all."""
    yield Scenario(PLAIN)
    if depth == 0:
        return
    op = OPS[mode]
    if depth == 1:
        if op != "copy":
            yield Scenario("fault", op, "EPERM" if op == "symlink" else "EXDEV", EVERY)
            error = {"clone": "EAGAIN", "hardlink": "EMLINK"}.get(op, "EIO")
            yield Scenario("fault", op, error, MIDDLE)
        return
    yield Scenario(UMASK)
    for error in ERRORS[op]:
        if error in REFUSALS and op != "copy":
            yield Scenario("fault", op, error, EVERY)
        for position in (FIRST, MIDDLE, LAST):
            yield Scenario("fault", op, error, position)
    yield Scenario(KILLED, op, "", MIDDLE)
    yield Scenario(SYMLINKED)
    yield Scenario(HARDLINKED)
    source = layout.partition("+")[0].partition(":")[0]
    for kind in (NESTED, MOUNTED_FILE, NOCOW, IMMUTABLE, OWNER, THEIRS):
        if source in ON.get(kind, (source,)):
            yield Scenario(kind)
    for position in (TWIN, APPEARS, SWAPPED):
        yield Scenario(RACE, position=position)
