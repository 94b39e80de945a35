"""Every system call of a link fails once, with every error that its manual page knows.

Afterwards the target is either as the model says, or as it was: names, types, bytes, permission
bits and inodes. Then the undo is refused as well, and `LinkError.left` has to be exact.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from linker import LinkError, LinkMode, link_tree
from linker.platforms.linux import Calls
from pytest_linkmode.faults.inprocess import injected
from tests.linker import trees, users
from tests.linker.scenes import EXISTING, Scene
from tests.linker.seams import (
    REFLINKING,
    WITHOUT_FLAGS,
    WITHOUT_FLAGS_AND_LINKS,
    Fault,
    Tap,
    descriptors,
)
from tests.linker.verdicts import Ended, wrong

ALWAYS = ("EIO",)
ERRORS: dict[str, tuple[str, ...]] = {
    "open": ("EACCES", "EMFILE", "ENOENT", "ENOSPC", "EEXIST", "ELOOP", "EINTR", "EROFS"),
    "close": ("EINTR", "EDQUOT"),
    "read": ("EAGAIN", "EINTR"),
    "write": ("ENOSPC", "EDQUOT", "EAGAIN", "EINTR"),
    "seek": ("EINVAL", "ENXIO"),
    "truncate": ("EPERM", "ENOSPC"),
    "fstat": ("ENOMEM",),
    "stat": ("EACCES", "ENOENT", "ENOMEM"),
    "birth": ("ENOSYS", "ENOENT"),
    "fstype": ("ENOSYS",),
    "chmod": ("EPERM", "EROFS"),
    "utime": ("EPERM", "EROFS", "EACCES"),
    "ficlone": ("EXDEV", "EOPNOTSUPP", "EINVAL", "ENOTTY", "EPERM", "EAGAIN", "ENOSPC", "ETXTBSY"),
    "ioctl": ("ENOTTY",),
    "listxattr": ("ENOTSUP",),
    "getxattr": ("ENODATA",),
    "listdir": ("EACCES", "ENOENT", "ENOMEM"),
    "mkdir": ("EACCES", "EEXIST", "ENOSPC", "EROFS", "EMLINK", "ENOENT"),
    "link": ("EXDEV", "EPERM", "EMLINK", "EOPNOTSUPP", "EEXIST", "ENOENT", "ENOSPC", "EAGAIN"),
    "symlink": ("EPERM", "EEXIST", "ENOSPC", "ENAMETOOLONG", "EOPNOTSUPP", "EAGAIN"),
    "readlink": ("EACCES", "ENOENT", "EINVAL"),
    "rename": ("EACCES", "EXDEV", "ENOENT", "ENOSPC", "EBUSY"),
    "renameat2": ("EEXIST", "EINVAL", "ENOSYS", "EXDEV", "ENOENT", "EACCES", "ENOSPC", "EAGAIN"),
    "unlink": ("EACCES", "EBUSY", "ENOENT"),
    "rmdir": ("EACCES", "EBUSY", "ENOTEMPTY", "ENOENT"),
    "flock": ("EAGAIN", "ENOLCK", "EINTR"),
    "access": (),
}
"""System call -> how it can fail, by its page of the manual (ioctl_ficlone(2), link(2), ...)."""

WAYS: dict[str, Calls] = {
    "reflinks": REFLINKING,
    "no-rename-flags": WITHOUT_FLAGS,
    "no-rename-flags-no-links": WITHOUT_FLAGS_AND_LINKS,
}
"""Filesystems that a link has to go different ways on."""

TARGETS = {"fresh-target": None, "existing-target": EXISTING}


def link(scene: Scene, mode: LinkMode, tap: Tap) -> Ended:
    try:
        report = link_tree(scene.source, scene.target, mode=mode, platform=tap.platform)
    except LinkError as error:
        return Ended(None, error)
    return Ended(report, None)


def calls_of_a_link(scene: Scene, mode: LinkMode, way: Calls) -> list[str]:
    """Return the names of the calls of an undisturbed link, in order."""
    tap = Tap(base=way)
    assert link(scene, mode, tap).error is None
    scene.rebuild()
    return tap.names


def faults(names: list[str], *, every_error: bool) -> Iterator[Fault]:
    for at, name in enumerate(names, 1):
        for error in (*ALWAYS, *(ERRORS[name] if every_error else ())):
            yield Fault(at, getattr(errno, error))


def cases() -> list[object]:
    """Return what is swept: all on one way, and on the others what goes another way there."""
    whole = [("reflinks", existing, mode) for existing in TARGETS for mode in LinkMode]
    other = [
        (way, "existing-target", mode)
        for way in WAYS
        if way != "reflinks"
        for mode in (LinkMode.HARDLINK, LinkMode.COPY)
    ]
    return [pytest.param(*case, id="-".join(map(str, case))) for case in (*whole, *other)]


@pytest.mark.parametrize(("way", "existing", "mode"), cases())
def test_whatever_call_fails_the_link_is_whole_or_undone(
    scene: str, user: str, mode: LinkMode, existing: str, way: str
) -> None:
    stage = Scene(scene, existing=TARGETS[existing])
    names = calls_of_a_link(stage, mode, WAYS[way])
    failures = []
    swept = 0
    # Whom permissions stop, and which calls there are, do not change what an error leads to.
    every_error = way == "reflinks" and (user == "root" or not users.is_root())
    for fault in faults(names, every_error=every_error):
        swept += 1
        open_before = descriptors()
        ended = link(stage, mode, Tap(fault, WAYS[way]))
        found = wrong(stage, mode, ended)
        if descriptors() != open_before:
            found.append("descriptors stay open")
        assert fault.hit == names[fault.at - 1], "the calls of a link come in another order"
        if found:
            failures.append(f"{fault}: {ended.error}: {found}")
        if ended.error is None or found:
            stage.rebuild()
    assert swept >= (3 if every_error else 1) * len(names)
    assert not failures, "\n".join([f"{len(failures)} of {swept} cases", *failures[:10]])


class Refusal:
    """One call fails, and from then on every call of one name: the undo is refused as well."""

    def __init__(self, at: int, name: str) -> None:
        self.at = at
        self.name = name
        self.hits = 0

    def __call__(self, number: int, name: str) -> None:
        if number == self.at or (number > self.at and name == self.name):
            self.hits += 1
            raise injected(errno.EIO)


LOOKING = frozenset({"open", "stat", "fstat", "listdir", "access"})
"""Where these are refused nobody can say whether a name remains: it may be listed in vain."""


def inexact(scene: Scene, error: LinkError, refused: str) -> list[str]:
    """Return in words where `left` is not what remains, and what was lost."""
    old, new = trees.lasting(scene.before), trees.lasting(scene.now())
    remaining = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
    remaining |= {f"../{name}" for name in scene.beside()}
    left = set(error.left)
    found = [f"{path!r} remains and is not listed" for path in remaining if not covered(path, left)]
    if refused not in LOOKING:
        found += [f"{path!r} is listed in vain" for path in left if not covered(path, remaining)]
    inodes = {seen.inode for seen in new.values()}
    for name in scene.beside():
        inodes |= {seen.inode for seen in trees.snapshot(f"{scene.root}/{name}").values()}
    found += [f"{path!r} was lost" for path, seen in old.items() if seen.inode not in inodes]
    if len(left) != len(error.left):
        found.append(f"{error.left} has a name twice")
    return found


def covered(path: str, listed: set[str]) -> bool:
    """Return whether a path is listed, lies below one that is, or is a directory around one."""
    if path in ("", "."):
        return bool(listed)
    return any(
        other == "."
        or path == other
        or path.startswith(f"{other}/")
        or other.startswith(f"{path}/")
        for other in listed
    )


SMALL: trees.Tree = {
    "a": trees.File(b"a"),
    "ln": trees.Symlink("a"),
    "ns/x": trees.File(b"x"),
    "new/f": trees.File(b"f"),
    "new/sub": trees.Directory(0o555),
    "new/sub/g": trees.File(b"g"),
}
SMALL_TARGET: trees.Tree = {
    "a": trees.File(b"old"),
    "ln": trees.Symlink("old"),
    "ns/other": trees.File(b"other"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("existing", TARGETS)
@pytest.mark.parametrize("mode", [LinkMode.HARDLINK, LinkMode.COPY])
def test_where_the_undo_is_refused_too_the_error_names_exactly_what_is_left(
    ground: str, mode: LinkMode, existing: str, way: str
) -> None:
    stage = Scene(ground, SMALL, SMALL_TARGET if TARGETS[existing] else None)
    names = calls_of_a_link(stage, mode, WAYS[way])
    failures = []
    refused_undos = 0
    for at in range(1, len(names) + 1):
        tap = Tap(Fault(at, errno.EIO), WAYS[way])
        first = link(stage, mode, tap)
        stage.rebuild()
        for name in sorted(set(tap.names[at:])) if first.error else ():
            ended = link(stage, mode, Tap(Refusal(at, name), WAYS[way]))
            assert ended.error is not None, f"call {at} failed once and did not the second time"
            refused_undos += bool(ended.error.left)
            found = inexact(stage, ended.error, name)
            if found:
                failures.append(f"call {at} ({names[at - 1]}), then every {name}: {found}")
            if stage.untouched():
                stage.rebuild()
    assert refused_undos > 10
    assert not failures, "\n".join([f"{len(failures)} cases", *failures[:10]])
