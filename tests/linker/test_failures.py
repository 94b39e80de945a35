"""From a failed primitive to words: what a caller of the linker reads, and can rely on."""

from __future__ import annotations

import errno
import os

import pytest

from linker.conditions import Condition, Primitive
from linker.failures import link_error, printable
from linker.platforms.base import CheckFailed, Failed
from tests.linker.seams import MachinePlatform

PLATFORM = MachinePlatform()

SAID = {
    Primitive.READ: "cannot read pkg/a",
    Primitive.CREATE: "cannot create pkg/a",
    Primitive.CLONE_FILE: "cannot clone pkg/a",
    Primitive.CLONE_DIRECTORY: "cannot clone pkg/a",
    Primitive.HARDLINK: "cannot hard-link pkg/a",
    Primitive.SYMLINK: "cannot symlink pkg/a",
    Primitive.COPY: "cannot copy pkg/a",
    Primitive.STAMP: "cannot set permission bits and times of pkg/a",
    Primitive.MKDIR: "cannot make the directory pkg/a",
    Primitive.OPEN: "cannot open pkg/a",
    Primitive.RENAME: "cannot give its name to pkg/a",
    Primitive.EXCHANGE: "cannot replace pkg/a",
    Primitive.UNLINK: "cannot remove pkg/a",
    Primitive.RMDIR: "cannot remove the directory pkg/a",
    Primitive.LOCK: "cannot lock the stage for pkg/a",
}


@pytest.mark.parametrize("primitive", Primitive)
def test_an_error_begins_with_what_could_not_be_done(primitive: Primitive) -> None:
    refused = OSError(errno.EIO, os.strerror(errno.EIO))
    error = link_error(PLATFORM, Failed(primitive, refused), "pkg/a")
    assert error.what == SAID[primitive]
    assert error.why == "Input/output error (EIO)"
    assert error.hint == "the disk reports an error; look at the kernel's log"
    assert (error.path, error.primitive) == ("pkg/a", primitive)
    assert error.condition is Condition.IO
    assert error.edge is None


def test_a_hint_of_the_caller_goes_before_the_usual_one() -> None:
    full = Failed(Primitive.COPY, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert link_error(PLATFORM, full, "a", hint="ours").hint == "ours"
    odd = Failed(Primitive.COPY, OSError(errno.ENODATA, os.strerror(errno.ENODATA)))
    assert link_error(PLATFORM, odd, "a").hint == ""


def test_what_our_own_check_found_is_told_in_its_words() -> None:
    short = Failed(Primitive.COPY, CheckFailed("SHORT", "claimed success with 1 of 2 bytes"))
    error = link_error(PLATFORM, short, "a")
    assert error.why == "claimed success with 1 of 2 bytes (SHORT)"
    assert error.condition is Condition.SHORT


def test_an_error_without_a_name_has_only_its_reason() -> None:
    error = link_error(PLATFORM, Failed(Primitive.LOCK, OSError(0, "gone")), "a\n")
    assert error.why == "gone"
    assert error.what == "cannot lock the stage for a\\n"
    assert error.path == "a\n"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("pkg/ä b", "pkg/ä b"),
        ("a\nb", "a\\nb"),
        ("\x1b[2Jä", "\\x1b[2Jä"),
        ("\udcff", "\\udcff"),
        ("\u202eevil", "\\u202eevil"),
    ],
)
def test_a_path_is_shown_on_one_line_and_obeyed_by_no_terminal(path: str, shown: str) -> None:
    assert printable(path) == shown
