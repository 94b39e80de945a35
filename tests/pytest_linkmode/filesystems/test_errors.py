"""Errors read as what, why and how to mend it."""

from __future__ import annotations

from pytest_linkmode.errors import LinkmodeError, Unavailable, UsageError


def test_an_error_reads_what_why_and_hint() -> None:
    assert str(LinkmodeError("it broke")) == "it broke"
    assert (
        str(UsageError("it broke", why="too thin", hint="glue")) == "it broke: too thin\nhint: glue"
    )


def test_what_is_unavailable_lists_what_was_checked_and_what_mends_it() -> None:
    error = Unavailable("no btrfs", checked=["mkfs.btrfs: missing"], mends=["apt-get install it"])
    assert str(error) == (
        "no btrfs\nChecked:\n  - mkfs.btrfs: missing\nTo fix this:\n  - apt-get install it"
    )


def test_several_ways_to_mend_it_are_alternatives() -> None:
    assert "To fix this, either:\n  - a\n  - b" in str(Unavailable("no", mends=["a", "b"]))


def test_causes_are_joined_and_none_is_said_twice() -> None:
    first = Unavailable("one", checked=["a"], mends=["run as root"])
    second = Unavailable("two", checked=["b", "a"], mends=["run as root", "buy a disk"])
    both = Unavailable.all_of("neither", [first, second])
    assert both.checked == ("a", "b")
    assert both.mends == ("run as root", "buy a disk")
