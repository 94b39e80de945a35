"""From a failed primitive to words: which condition it is, and the error a caller reads."""

from __future__ import annotations

from collections.abc import Callable

from linker.conditions import Condition, Primitive, condition_of
from linker.light import TYPE_CHECKING
from linker.platforms.base import Failed, Platform
from linker.policy import Edge
from linker.report import LinkError, left_line

if TYPE_CHECKING:
    from typing import TypeVar

    _Found = TypeVar("_Found")

_INTERRUPTS = 3
"""How often what must come to its end may be interrupted before it is given up."""

HINTS: dict[Condition, str] = {
    Condition.NO_SPACE: "free some space or inodes on the target's filesystem, or raise its quota",
    Condition.READ_ONLY: "the target's filesystem is mounted read-only",
    Condition.DENIED: "check owner and permission bits of the file and of the directories above",
    Condition.TOO_MANY_OPEN: "raise the limit of open files (ulimit -n)",
    Condition.MISSING: "something was removed while it was linked; link again",
    Condition.BUSY: "another program has it open or something is mounted on it; end that and retry",
    Condition.IO: "the disk reports an error; look at the kernel's log",
    Condition.NAME_TOO_LONG: "the target's filesystem does not take names or paths of this length",
    Condition.CROSS_DEVICE: "a mount point lies in the way",
    Condition.DATALESS: "the file's content is not on this machine; open it once to fetch it",
}

VERBS: dict[Primitive, str] = {
    Primitive.READ: "read",
    Primitive.CREATE: "create",
    Primitive.CLONE_FILE: "clone",
    Primitive.CLONE_DIRECTORY: "clone",
    Primitive.HARDLINK: "hard-link",
    Primitive.SYMLINK: "symlink",
    Primitive.COPY: "copy",
    Primitive.STAMP: "set permission bits and times of",
    Primitive.MKDIR: "make the directory",
    Primitive.OPEN: "open",
    Primitive.RENAME: "give its name to",
    Primitive.EXCHANGE: "replace",
    Primitive.UNLINK: "remove",
    Primitive.RMDIR: "remove the directory",
    Primitive.LOCK: "lock the stage for",
}


def condition(platform: Platform, failed: Failed) -> Condition:
    """Return what a failure means."""
    return condition_of(platform.name, failed.primitive, platform.error_name(failed.error))


def printable(path: str) -> str:
    """Return a path as it can be shown anywhere: on one line, and obeyed by no terminal."""
    if path.isprintable():
        return path
    text = path.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def link_error(
    platform: Platform, failed: Failed, path: str, edge: Edge | None = None, hint: str = ""
) -> LinkError:
    """Return the error that tells a caller of a failure that ended the link."""
    meaning = condition(platform, failed)
    reason = failed.error.strerror or str(failed.error)
    name = platform.error_name(failed.error)
    return LinkError(
        f"cannot {VERBS[failed.primitive]} {printable(path)}",
        why=f"{reason} ({name})" if name else reason,
        hint=hint or HINTS.get(meaning, ""),
        path=path,
        primitive=failed.primitive,
        condition=meaning,
        edge=edge,
    )


def insist(step: Callable[[], _Found]) -> tuple[_Found | None, BaseException | None]:
    """Do what must not stop halfway; once more where it was interrupted, as Ctrl-C does.

    Return what it found, None if it was given up, and the interrupt, which is the caller's to raise
    when nothing is lost by that any more.
    """
    interrupt: BaseException | None = None
    for _ in range(_INTERRUPTS):
        try:
            return step(), interrupt
        except BaseException as error:  # noqa: BLE001  # whatever a signal's handler may raise
            interrupt = error
    return None, interrupt


def name_left(error: BaseException, left: tuple[str, ...]) -> None:
    """Say in an error what remains."""
    if isinstance(error, LinkError):
        error.left = tuple(dict.fromkeys((*error.left, *left)))
    elif left:
        error.add_note(left_line(left))
