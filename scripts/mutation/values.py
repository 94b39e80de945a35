"""What the parts of the command hand to each other: mutants, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass

KILLED, SURVIVED, TIMED_OUT = "killed", "survived", "timed out"

MODULE_LEVEL = "(module)"
"""Stands for the function of what lies outside functions."""


@dataclass(frozen=True)
class Mutant:
    """A module in which one place differs.

    `function` is the qualified name of the outermost function or method around the place, `lines`
    the lines that are executed if the place is, `removed` and `added` the lines that differ.
    `key` is the same as long as that function, or the statement outside of functions, is: what
    came of a mutant is believed that long (as mutmut itself believes it).
    """

    key: str
    path: str
    function: str
    operator: str
    lines: tuple[int, ...]
    removed: str
    added: str
    source: str


@dataclass(frozen=True)
class Made:
    """The mutants of a module; `sentences` counts those left out, which change a sentence."""

    mutants: tuple[Mutant, ...]
    sentences: int


@dataclass(frozen=True)
class Verdict:
    """What came of a mutant; `test` is the one that noticed, `tests` how many were run."""

    outcome: str
    test: str
    tests: int
    seconds: float
