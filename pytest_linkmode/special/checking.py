"""What is looked at once a source is sealed, how its linker is called, and what to look at then."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pytest_linkmode.special.base import Bench
from pytest_linkmode.special.sealing import LINKER, is_no_space, is_too_many


def check_links(bench: Bench) -> str:
    """Look whether any file can be linked where it must not be."""
    directory = bench.special(bench.target)
    kept = os.path.isdir(directory)
    if not kept:
        os.makedirs(directory)
    try:
        for path in bench.regular_files():
            name = os.path.join(directory, "x")
            try:
                os.link(path, name)
            except OSError as error:
                if not is_too_many(error):
                    return f"a further link of {path} ends in {error.strerror}"
            else:
                os.unlink(name)
                return f"{path} can have a further link"
    finally:
        if not kept:
            os.removedirs(directory) if not os.listdir(bench.target) else os.rmdir(directory)
    return "" if bench.regular_files() else f"there is no file in {bench.region}"


def check_full(bench: Bench) -> str:
    path = os.path.join(bench.target, ".linkmode-full")
    try:
        with open(path, "xb") as file:
            file.write(os.urandom(1 << 16))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return "" if is_no_space(error) else f"writing ends in {error.strerror}"
    finally:
        if os.path.lexists(path):
            os.unlink(path)
    return "64 KiB could still be written"


def check_full_inodes(bench: Bench) -> str:
    path = os.path.join(bench.target, ".linkmode-full")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        return "" if is_no_space(error) else f"making a file ends in {error.strerror}"
    os.unlink(path)
    return "a file could still be made"


def after_overlay(bench: Bench, mode: str) -> str:
    """Look whether the image layer was copied up, though nothing asked for that."""
    upper = os.path.join(bench.layers, "upper", "source")
    if mode == "hardlink" or not os.path.isdir(upper):
        return ""
    raised = sorted(name for _, _, names in os.walk(upper) for name in names)
    if not raised:
        return ""
    # A name may be no text, and what is said here is printed.
    first = os.fsencode(raised[0]).decode("utf-8", "backslashreplace")
    more = f" and {len(raised) - 1} more" if len(raised) > 1 else ""
    return f"of the image layer there was copied up {first}{more}"


def after_symlinked(bench: Bench, _mode: str) -> str:
    """Look whether the symlink that was the target still is one."""
    return "" if os.path.islink(bench.target) else "the target is a symlink no more"


@contextmanager
def as_another_user(_bench: Bench) -> Iterator[None]:
    """Be an ordinary user, with nothing of root but the way back."""
    groups = os.getgroups()
    os.setgroups([])
    os.setresgid(LINKER, LINKER, 0)
    os.setresuid(LINKER, LINKER, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


@contextmanager
def under_a_hostile_umask(_bench: Bench) -> Iterator[None]:
    before = os.umask(HOSTILE_UMASK)
    try:
        yield
    finally:
        os.umask(before)


HOSTILE_UMASK = 0o077
"""Nobody but the owner, unless it is told otherwise."""
