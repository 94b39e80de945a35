"""What the commands share: how words are read, the option ``--json``, colour, tables of words."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


def something(text: str) -> str:
    """Return a word that says something. Raises ArgumentTypeError for one that is empty."""
    if not text.replace(",", " ").strip():
        raise argparse.ArgumentTypeError("it is empty: name something, or leave it out")
    return text


def several(text: str) -> tuple[str, ...]:
    """Return the words of a list, each once. Raises ArgumentTypeError for a list of nothing."""
    return tuple(dict.fromkeys(something(text).replace(",", " ").split()))


def policy_name(text: str) -> str:
    """Return the name of a policy. Raises ArgumentTypeError for a word that is none."""
    from linker.policies import ALIASES, ALL
    from pytest_linkmode.config import suggestion

    if text in ALL or text in ALIASES:
        return text
    known = suggestion(text, [*ALL, *ALIASES])
    raise argparse.ArgumentTypeError(f"no policy is called {text!r}; {known}")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Let a command answer as data."""
    parser.add_argument("--json", action="store_true", help="the answer as JSON on stdout")


@dataclass(frozen=True)
class Paint:
    """Colour, where the terminal has it and nobody minds (no-color.org)."""

    on: bool = False

    @classmethod
    def of_stdout(cls) -> Paint:
        """Return the paint for what goes to stdout."""
        minded = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return cls(sys.stdout is not None and sys.stdout.isatty() and not minded)

    def bold(self, text: str) -> str:
        """Return a text in bold."""
        return self._in("1", text)

    def green(self, text: str) -> str:
        """Return a text in green."""
        return self._in("32", text)

    def red(self, text: str) -> str:
        """Return a text in red."""
        return self._in("31", text)

    def _in(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.on and text else text


def aligned(
    lines: Sequence[tuple[str, ...]],
    paint: Paint,
    colours: Mapping[str, Callable[[str], str]] | None = None,
) -> list[str]:
    """Return rows as lines of a table whose head is bold; `colours` paint certain cells."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    made = []
    for number, line in enumerate(lines):
        cells = []
        for cell, width in zip(line, widths, strict=True):
            painted = paint.bold(cell) if number == 0 else (colours or {}).get(cell, str)(cell)
            cells.append(painted + " " * (width - len(cell)))
        made.append("  ".join(cells).rstrip())
    return made
