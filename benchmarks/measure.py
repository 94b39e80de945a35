"""Rows of a benchmark: something of ours beside a peer, round after round, judged by a ratio.

All contenders of a row run in turn, so that whatever else the machine does meets them alike;
compared are medians. A row without a peer is judged by its own figure.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape


def nothing() -> None:
    """Prepare nothing."""


@dataclass
class Contender:
    """Something that is timed.

    `run` is what is timed, `before` what is not, each time anew. With `figure` the return value
    of `run` is the measurement instead, in the row's unit.
    """

    name: str
    run: Callable[[], object]
    before: Callable[[], None] = nothing
    figure: bool = False
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle of its measurements."""
        return statistics.median(self.values)

    def measure(self) -> None:
        """Run once and keep the measurement."""
        self.before()
        began = time.perf_counter()
        result = self.run()
        taken = time.perf_counter() - began
        self.values.append(float(result) if self.figure else taken)  # type: ignore[arg-type]


@dataclass
class Row:
    """One line of the table.

    With a `peer` the limit is on the ratio of medians, without on the median itself. With
    `difference` it is on how much more ours takes than the peer right before it, of which the
    median is taken: little in much is found so, whatever phase the machine is in. `pairs` are the
    measurements a round.
    """

    work: str
    ours: Contender
    limit: float
    peer: Contender | None = None
    unit: str = "s"
    difference: bool = False
    pairs: int = 1

    @property
    def found(self) -> float:
        """What is held against the limit."""
        if self.peer is None:
            return self.ours.median
        if self.difference:
            both = zip(self.ours.values, self.peer.values, strict=True)
            return statistics.median(ours - peer for ours, peer in both)
        return self.ours.median / self.peer.median

    @property
    def kept(self) -> bool:
        """Whether the limit was kept."""
        return self.found <= self.limit

    def verdict(self) -> str:
        """Return the limit and what was found, in words."""
        ratio = self.peer is not None and not self.difference
        unit = "×" if ratio else f" {self.unit}"
        sign = "+ " if self.difference else ""
        word = "ok" if self.kept else "OVER"
        return f"{sign}{self.found:.3g}{unit} of {self.limit:g}{unit}: {word}"


def run(rows: Sequence[Row], rounds: int) -> None:
    """Measure every row `rounds` times after one warming round, saying where it is."""
    for row in rows:
        contenders = [row.ours] if row.peer is None else [row.peer, row.ours]
        for number in range(rounds + 1):
            for contender in contenders * row.pairs:
                say(f"{row.work}: round {number} of {rounds}: {contender.name}")
                contender.measure()
            if number == 0:
                for contender in contenders:
                    contender.values.clear()
        say("")


def say(text: str) -> None:
    """Show where the benchmark is, on one line of a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = ["| work | ours | beside | limit |", "|---|---|---|---|"]
    for row in rows:
        peer = f"{row.peer.name} {row.peer.median:.4g} {row.unit}" if row.peer else ""
        lines.append(
            f"| {row.work} | {row.ours.median:.4g} {row.unit} | {peer} | {row.verdict()} |"
        )
    return "\n".join(lines)


def as_json(rows: Sequence[Row]) -> str:
    """Return every measurement, for other programs."""
    return json.dumps(
        [
            {
                "work": row.work,
                "unit": row.unit,
                "ours": row.ours.values,
                "peer": row.peer and {"name": row.peer.name, "values": row.peer.values},
                "found": row.found,
                "limit": row.limit,
                "kept": row.kept,
            }
            for row in rows
        ],
        indent=1,
    )


def plot(rows: Sequence[Row]) -> str:
    """Return the rows as a picture (SVG): how much of its limit each takes."""
    height, left, width = 26, 380, 420
    full = max(1.25, *(row.found / row.limit for row in rows))
    limit = left + width / full
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 220}" '
        f'height="{height * len(rows) + 40}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, row in enumerate(rows):
        top = 10 + number * height
        length = max(1.0, width * max(row.found, 0) / row.limit / full)
        colour = "#4a7c59" if row.kept else "#b5423c"
        parts += [
            f'<text x="{left - 8}" y="{top + 16}" text-anchor="end">{escape(row.work)}</text>',
            f'<rect x="{left}" y="{top + 4}" width="{length:.1f}" height="16" fill="{colour}"/>',
            f'<text x="{left + length + 6:.1f}" y="{top + 16}">{escape(row.verdict())}</text>',
        ]
    bottom = 12 + height * len(rows)
    parts += [
        f'<line x1="{limit:.1f}" x2="{limit:.1f}" y1="8" y2="{bottom}" stroke="#555" '
        'stroke-dasharray="4 3"/>',
        f'<text x="{limit:.1f}" y="{bottom + 16}" text-anchor="middle">limit</text>',
        "</svg>",
    ]
    return "\n".join(parts)
