"""What errors mean: by platform, by primitive, by name; and how far each meaning reaches."""

from __future__ import annotations

import enum
import errno

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


def test_every_primitive_has_its_verb_and_hints_speak_of_conditions_that_end_a_link() -> None:
    assert set(VERBS) == set(Primitive)
    assert set(HINTS) <= set(Condition)
    for condition in (Condition.NO_SPACE, Condition.READ_ONLY, Condition.IO, Condition.DENIED):
        assert HINTS[condition]
