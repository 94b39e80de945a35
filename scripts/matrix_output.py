"""How the matrix is shown: progress while it works, one table at the end, and the same as JSON."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, TextIO

from scripts.cells import Cell
from scripts.wheels import Tree

SCHEMA = 1
"""The version of the JSON: it grows when a key is renamed or means something else."""

COLUMNS = ("layout", "mode", "expected", "happened", "proven by", "linked", "proven", "")

WIDTH = 98
"""Of running text; tables are as wide as they are."""

UNDECIDED = """\
Of a file without data, or with so little that it lies inside the metadata, the disk does not say
whether it was cloned or copied: proven is that it is whole and that it is a file of its own."""


@dataclass(frozen=True)
class Gap:
    """A layout that could not be had here: why, and what would add it."""

    layout: str
    why: str
    checked: tuple[str, ...] = ()
    mends: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """A whole run: what was linked, every cell, and what could not be had."""

    tree: Tree
    cells: tuple[Cell, ...]
    gaps: tuple[Gap, ...]
    seconds: float
    machine: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        """Whether there are cells and each is as expected. Nothing at all is not."""
        return bool(self.cells) and all(cell.ok for cell in self.cells)


def duration(seconds: float) -> str:
    """Return a time as people read it: ``0.31 s``, ``12.4 s``, ``2 min 05 s``."""
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def counted(counts: Mapping[str, int]) -> str:
    """Return the one word that holds for all files, or each with its number."""
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{what} {count:,}" for what, count in counts.items()) or "nothing"


def row(cell: Cell) -> tuple[str, ...]:
    """Return one line of the table."""
    return (
        cell.layout,
        cell.mode,
        cell.expected,
        cell.expected if cell.ok else counted(cell.happened),
        counted(cell.proofs),
        duration(cell.linked_in),
        duration(cell.proven_in),
        "ok" if cell.ok else "DIFFERS",
    )


def table(cells: Sequence[Cell]) -> str:
    """Return the cells as a table of text, one line each, a layout named once."""
    rows = [row(cell) for cell in cells]
    widths = [max(len(line[column]) for line in (COLUMNS, *rows)) for column in range(len(COLUMNS))]
    lines = [_aligned(COLUMNS, widths), "  ".join("-" * width for width in widths[:-1])]
    above = ""
    for line in rows:
        lines.append(_aligned(("" if line[0] == above else line[0], *line[1:]), widths))
        above = line[0]
    return "\n".join(lines)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    times = (COLUMNS.index("linked"), COLUMNS.index("proven"))
    cells = (
        f"{text:>{width}}" if column in times else f"{text:<{width}}"
        for column, (text, width) in enumerate(zip(line, widths, strict=True))
    )
    return "  ".join(cells).rstrip()


def summary(outcome: Outcome) -> str:
    """Return all that is printed at the end: table, differences, gaps, and the verdict."""
    parts = [table(outcome.cells)] if outcome.cells else []
    if any(" or " in what for cell in outcome.cells for what in cell.happened):
        parts.append(UNDECIDED)
    parts += [
        "\n".join(
            [
                f"{cell.layout}, {cell.mode}: {many(cell.differences, 'difference')}",
                *(f"  {line}" for line in cell.told),
                *(["  ..."] if cell.differences > len(cell.told) else []),
            ]
        )
        for cell in outcome.cells
        if not cell.ok
    ]
    if outcome.gaps:
        parts.append(gaps(outcome.gaps))
    parts.append(verdict(outcome))
    return "\n\n".join(parts)


OWN_WORDS: Mapping[str, str] = {
    "--linkmode-dir": "--dir",
    "pytest ...": "./scripts/run-matrix",
}
"""The plugin's advice names its own options and command; here they are called otherwise."""


def gaps(missing: Sequence[Gap]) -> str:
    """Return what this machine could not make, why, and what would add it, each thing once."""
    names = ", ".join(gap.layout for gap in missing)
    checked = [line for gap in missing for line in gap.checked or (gap.why,)]
    mends = [line for gap in missing for line in gap.mends]
    return "\n".join(
        [
            textwrap.fill(f"Not on this machine: {names}", WIDTH, subsequent_indent="  "),
            *_listed("Checked:", checked),
            *_listed("To add them:", mends),
        ]
    )


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(f"  - {in_own_words(line)}" for line in dict.fromkeys(lines))] if lines else []


def in_own_words(text: str) -> str:
    """Return the plugin's advice in the words of this command."""
    for theirs, ours in OWN_WORDS.items():
        text = text.replace(theirs, ours)
    return text


def verdict(outcome: Outcome) -> str:
    """Return the last line."""
    cells = outcome.cells
    files = sum(cell.files for cell in cells)
    wrong = sum(not cell.ok for cell in cells)
    if not cells:
        return "Nothing was linked: no layout can be had here."
    layouts = many(len({cell.layout for cell in cells}), "layout")
    total = many(len(cells), "cell")
    how = f"{wrong} of {total} not as expected" if wrong else f"{total} as expected"
    return (
        f"{how}: {layouts}, {many(files, 'outcome')} of files proven, in "
        f"{duration(outcome.seconds)}."
    )


def many(number: int, noun: str) -> str:
    """Return ``1 cell``, ``108 cells``, ``14,688 outcomes``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return the run as plain data, with everything that the table shows and more."""
    return {
        "schema": SCHEMA,
        "ok": outcome.ok,
        "seconds": round(outcome.seconds, 3),
        "machine": dict(outcome.machine),
        "tree": {
            "wheels": list(outcome.tree.wheels),
            "files": outcome.tree.files,
            "directories": outcome.tree.directories,
            "bytes": outcome.tree.bytes,
        },
        "cells": [
            {
                **asdict(cell),
                "linked_in": round(cell.linked_in, 4),
                "proven_in": round(cell.proven_in, 4),
                "files": cell.files,
                "ok": cell.ok,
            }
            for cell in outcome.cells
        ],
        "unavailable": [asdict(gap) for gap in outcome.gaps],
    }


class Screen:
    """Progress on standard error: one line that changes on a terminal, else a line per cell."""

    INTERVAL = 0.1
    """Seconds between two changes of the line, so that showing costs nothing."""

    def __init__(self, stream: TextIO | None = None, *, total: int = 0) -> None:
        self.stream = stream or sys.stderr
        self.total = total
        self.done = 0
        self._tty = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self._shown = False
        self._at = 0.0

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clear()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self.clear()
        print(line, file=self.stream, flush=True)

    def doing(self, what: str, *, now: bool = True) -> None:
        """Show what is being done, on a terminal only; with `now` even if it just changed."""
        if not self._tty:
            return
        if not now and time.monotonic() - self._at < self.INTERVAL:
            return
        self._at = time.monotonic()
        width = shutil.get_terminal_size().columns - 1
        text = f"[{self.done}/{self.total}] {what}" if self.total else what
        print(f"\r\x1b[K{text[:width]}", end="", file=self.stream, flush=True)
        self._shown = True

    def finished(self, cell: Cell) -> None:
        """Count a cell; where there is no terminal, print it."""
        self.done += 1
        if not self._tty:
            line = "  ".join(row(cell)).rstrip()
            print(f"[{self.done}/{self.total}] {line}", file=self.stream, flush=True)

    def clear(self) -> None:
        """Take the changing line away."""
        if self._shown:
            print("\r\x1b[K", end="", file=self.stream, flush=True)
            self._shown = False
