"""Plain words mean to the plain reader what they mean to argparse; the rest is left to that."""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
from collections.abc import Sequence

import pytest

from linker.arguments import LINK, read_plainly, tell_parser
from linker.modes import LinkMode

WORDS = (
    *("a", "b", "add", "", "--mode", "clone", "odd", "--policy", "uv", "--quiet", "--no-verify"),
    *("--mutable", "*.so", "--processes", "2", "0", "-", "--", "--mode=copy", "--qui", "-h", "-1"),
)


def as_argparse_reads(words: Sequence[str]) -> dict[str, object] | None:
    """Return what argparse makes of words, None where it ends the program."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    tell_parser(parser)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            return vars(parser.parse_args(words))
        except SystemExit:
            return None


def test_whatever_is_read_plainly_is_read_as_by_argparse() -> None:
    plain = 0
    for more in itertools.chain.from_iterable(
        itertools.permutations(WORDS, number) for number in range(3)
    ):
        for words in (["a", *more], ["a", "b", *more], ["--mode", *more, "a"]):
            found = read_plainly(words)
            if found is not None:
                plain += 1
                assert vars(found) == as_argparse_reads(words), words
    assert plain > 50


@pytest.mark.parametrize(
    "words",
    [
        ["a", "b"],
        ["--mode", "reflink", "--quiet", "a", "b"],
        ["a", "--existing", "fail", "b", "--json", "--progress", "--strict"],
        ["--mutable", "RECORD", "--mutable", "*.so", "a", "b"],
        ["--store", "s", "--no-verify", "a", "b", "--processes", "3", "--policy", "pnpm"],
    ],
    ids=" ".join,
)
def test_what_users_type_is_read_plainly(words: list[str]) -> None:
    found = read_plainly(words)
    assert found is not None
    assert vars(found) == as_argparse_reads(words)


@pytest.mark.parametrize(
    "words",
    [
        *([], ["a"], ["a", "b", "c"], ["-h"], ["--help", "a", "b"], ["a", "-"], ["a", "--", "b"]),
        *(["--mode=clone", "a", "b"], ["--mode", "odd", "a", "b"], ["a", "b", "--mode"]),
        *(["--policy", "odd", "a", "b"], ["--processes", "0", "a", "b"], ["a", "b", "--odd"]),
        *(["--mode", "--quiet", "a", "b"], ["a", "b", "--mutable", "-x"]),
    ],
    ids=" ".join,
)
def test_what_is_not_plain_is_left_to_argparse(words: list[str]) -> None:
    assert read_plainly(words) is None


def test_lists_of_one_reading_are_not_those_of_the_next() -> None:
    for _ in range(2):
        found = read_plainly(["a", "b", "--mutable", "x"])
        assert found is not None
        assert found.mutable == ["x"]
    assert LINK["--mutable"]["default"] == []


def test_every_mode_can_be_asked_for() -> None:
    for mode in LinkMode:
        found = read_plainly(["a", "b", "--mode", mode.value])
        assert found is not None
        assert found.mode is mode
