"""What errors mean: by platform, by primitive, by name; and how far each meaning reaches."""

from __future__ import annotations

import enum
import errno
import os

import pytest

from linker.conditions import TABLES, Condition, Primitive, Scope, condition_of
from linker.failures import HINTS, VERBS
from linker.platforms.windows import NUMBERS

OURS = {"NOEFFECT", "SHORT"}
"""Names of what our own checks find; no operating system has them."""


@pytest.mark.parametrize("words", [Condition, Primitive, Scope])
def test_words_are_the_names_in_lower_case(words: type[enum.StrEnum]) -> None:
    """They stand in ids of edges, in reports and in fault specifications."""
    wanted = [word.name.lower().replace("_", "-") for word in words]
    assert [word.value for word in words] == wanted


def test_one_error_means_different_things_at_different_primitives() -> None:
    meanings = {
        Primitive.CLONE_FILE: Condition.ATTRIBUTE,  # NOCOW on one side, an unaligned tail
        Primitive.RENAME: Condition.UNSUPPORTED,  # a flag that the filesystem does not know
        Primitive.COPY: Condition.OTHER,
    }
    for primitive, meaning in meanings.items():
        assert condition_of("linux", primitive, "EINVAL") is meaning


def test_a_lock_that_another_holds_is_not_a_passing_error() -> None:
    assert condition_of("linux", Primitive.LOCK, "EAGAIN") is Condition.BUSY
    assert condition_of("linux", Primitive.CLONE_FILE, "EAGAIN") is Condition.AGAIN


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("EXDEV", Condition.CROSS_DEVICE),
        ("EOPNOTSUPP", Condition.UNSUPPORTED),
        ("ENOTSUP", Condition.UNSUPPORTED),
        ("ENOTTY", Condition.UNSUPPORTED),
        ("ENOSYS", Condition.UNSUPPORTED),
        ("EMLINK", Condition.TOO_MANY_LINKS),
        ("EPERM", Condition.DENIED),
        ("EACCES", Condition.DENIED),
        ("EDQUOT", Condition.NO_SPACE),
        ("ENOSPC", Condition.NO_SPACE),
        ("EROFS", Condition.READ_ONLY),
        ("EIO", Condition.IO),
        ("EINTR", Condition.INTERRUPTED),
        ("ENOENT", Condition.MISSING),
    ],
)
@pytest.mark.parametrize("primitive", [Primitive.CLONE_FILE, Primitive.HARDLINK, Primitive.SYMLINK])
def test_errors_that_mean_the_same_wherever_files_are_made(
    primitive: Primitive, name: str, meaning: Condition
) -> None:
    assert condition_of("linux", primitive, name) is meaning


def test_what_is_not_understood_is_not_papered_over() -> None:
    for name in ("EHWPOISON", "", "no such error"):
        assert condition_of("linux", Primitive.CLONE_FILE, name) is Condition.OTHER
    assert Condition.OTHER.scope is Scope.ABORT


def test_an_unknown_platform_is_an_error() -> None:
    with pytest.raises(KeyError):
        condition_of("plan9", Primitive.COPY, "EIO")


def test_only_a_missing_ability_and_a_boundary_say_something_of_a_pair() -> None:
    reaching = {condition for condition in Condition if condition.scope is Scope.PAIR}
    assert reaching == {Condition.UNSUPPORTED, Condition.CROSS_DEVICE}


def test_a_full_or_broken_disk_stops_everything() -> None:
    for condition in (
        Condition.NO_SPACE,
        Condition.IO,
        Condition.READ_ONLY,
        Condition.NO_MEMORY,
        Condition.TOO_MANY_OPEN,
    ):
        assert condition.scope is Scope.ABORT


def test_one_files_oddities_are_its_own() -> None:
    for condition in (
        Condition.ATTRIBUTE,
        Condition.TOO_MANY_LINKS,
        Condition.DENIED,
        Condition.BUSY,
        Condition.NO_EFFECT,
        Condition.SHORT,
        Condition.NAME_TOO_LONG,
        Condition.DATALESS,
    ):
        assert condition.scope is Scope.FILE


def test_what_passes_is_tried_again() -> None:
    retried = {condition for condition in Condition if condition.scope is Scope.RETRY}
    assert retried == {Condition.AGAIN, Condition.INTERRUPTED}


KNOWN: dict[str, set[str]] = {
    "linux": set(dir(errno)) | OURS,
    "macos": set(dir(errno)) | OURS | {"KEPT"},  # a check of the platform's own
    "windows": set(NUMBERS) | OURS,
}


@pytest.mark.parametrize("platform", TABLES)
def test_the_tables_speak_of_errors_that_exist(platform: str) -> None:
    common, special = TABLES[platform]
    for names in (common, *special.values()):
        assert set(names) <= KNOWN[platform]


MEANT: dict[Condition, tuple[set[str], set[int]]] = {
    Condition.EXISTS: ({"File exists"}, {80, 183}),
    Condition.CROSS_DEVICE: ({"Invalid cross-device link"}, {17}),
    Condition.UNSUPPORTED: (
        {
            "Operation not supported",
            "Function not implemented",
            "Inappropriate ioctl for device",
        },
        {1, 50, 120, 1464},
    ),
    Condition.TOO_MANY_LINKS: ({"Too many links"}, {347, 1142}),
    Condition.DENIED: ({"Operation not permitted", "Permission denied"}, {5, 225, 1314}),
    Condition.BUSY: ({"Device or resource busy", "Text file busy"}, {32, 33, 170, 303, 1224}),
    Condition.DATALESS: (set(), {362, 388}),
    Condition.AGAIN: ({"Resource temporarily unavailable"}, {1450}),
    Condition.INTERRUPTED: ({"Interrupted system call"}, {995}),
    Condition.MISSING: ({"No such file or directory"}, {2, 3}),
    Condition.NO_SPACE: ({"No space left on device", "Disk quota exceeded"}, {39, 112, 1295}),
    Condition.READ_ONLY: ({"Read-only file system"}, {19}),
    Condition.IO: ({"Input/output error"}, {21, 23, 29, 30, 31, 1117, 1392, 1393}),
    Condition.NO_MEMORY: ({"Cannot allocate memory"}, {8, 14, 1455}),
    Condition.TOO_MANY_OPEN: ({"Too many open files", "Too many open files in system"}, {4}),
    Condition.NAME_TOO_LONG: ({"File name too long"}, {111, 206}),
    Condition.IS_DIRECTORY: ({"Is a directory"}, {336}),
    Condition.NOT_DIRECTORY: ({"Not a directory"}, {267}),
    Condition.IS_SYMLINK: ({"Too many levels of symbolic links"}, {681}),
    Condition.NOT_EMPTY: ({"Directory not empty"}, {145}),
}
"""What strerror(3) says of the errors that mean something, and their numbers in winerror.h."""


def test_every_error_of_the_system_means_what_its_text_says() -> None:
    for number, name in errno.errorcode.items():
        text = os.strerror(number)
        (meaning,) = [each for each, (texts, _) in MEANT.items() if text in texts] or [
            Condition.OTHER
        ]
        for platform in ("linux", "macos"):
            assert condition_of(platform, Primitive.READ, name) is meaning, (platform, name)


def test_every_error_of_windows_means_what_its_number_says() -> None:
    for name, number in NUMBERS.items():
        (meaning,) = [each for each, (_, numbers) in MEANT.items() if number in numbers] or [
            Condition.OTHER
        ]
        assert condition_of("windows", Primitive.READ, name) is meaning, name
    assert set().union(*(numbers for _, numbers in MEANT.values())) <= set(NUMBERS.values())


SPECIAL: dict[str, dict[str, str]] = {
    "linux": {
        # ioctl_ficlone(2): not these two files, not these descriptors; a directory is no file
        "clone-file": "EINVAL attribute, EBADF attribute, EISDIR unsupported",
        "clone-directory": "EISDIR unsupported",
        "hardlink": "EINVAL attribute",
        "symlink": "EINVAL attribute",
        # rename(2): "an invalid flag was specified in flags"
        "rename": "EINVAL unsupported",
        "exchange": "EINVAL unsupported",
        # rmdir(2): ENOTEMPTY and EEXIST say the same
        "rmdir": "EEXIST not-empty",
        # flock(2): EWOULDBLOCK is another's lock, ENOLCK a kernel out of memory for locks
        "lock": "EAGAIN busy, EWOULDBLOCK busy, ENOLCK unsupported",
    },
    "macos": {
        # clonefile(2): EINVAL is neither file, directory nor symlink; EDEADLK is dataless
        "clone-file": "EDEADLK dataless, EINVAL attribute, KEPT attribute",
        "clone-directory": "EDEADLK dataless, EINVAL attribute, KEPT attribute",
        "hardlink": "EINVAL attribute",
        "symlink": "EINVAL attribute",
        "copy": "EDEADLK dataless",
        "rename": "EINVAL unsupported",
        "exchange": "EINVAL unsupported",
        "rmdir": "EEXIST not-empty",
        "lock": "EAGAIN busy, ENOLCK unsupported",
    },
    "windows": {
        # [MS-FSCC] 2.3.8: not aligned to clusters; elsewhere a flag that is not known
        "clone-file": "ERROR_INVALID_PARAMETER attribute",
        "symlink": "ERROR_INVALID_PARAMETER unsupported",
        "hardlink": "ERROR_INVALID_PARAMETER unsupported",
        # what is open says this as often as ERROR_SHARING_VIOLATION
        **dict.fromkeys(("rename", "exchange", "unlink", "rmdir"), "ERROR_ACCESS_DENIED busy"),
    },
}
"""Errors that mean something else at a primitive than everywhere, by the manuals."""


@pytest.mark.parametrize("platform", SPECIAL)
def test_what_an_error_means_at_one_primitive_is_what_its_manual_says(platform: str) -> None:
    found = {
        str(primitive): {name: str(meaning) for name, meaning in names.items()}
        for primitive, names in TABLES[platform][1].items()
    }
    assert found == {
        primitive: dict(line.split() for line in lines.split(", "))
        for primitive, lines in SPECIAL[platform].items()
    }
    for primitive, names in found.items():
        for name, meaning in names.items():
            assert condition_of(platform, Primitive(primitive), name) == meaning


def test_every_primitive_has_its_verb_and_hints_speak_of_conditions_that_end_a_link() -> None:
    assert set(VERBS) == set(Primitive)
    assert set(HINTS) <= set(Condition)
    for condition in (Condition.NO_SPACE, Condition.READ_ONLY, Condition.IO, Condition.DENIED):
        assert HINTS[condition]
