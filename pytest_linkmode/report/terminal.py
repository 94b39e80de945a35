"""The verdict on the terminal: failures first, a table of layouts and modes, the edges taken.

`lines` is pure: it turns a verdict into lines of marked text for a width and a verbosity. The
plugin writes them through pytest's own terminal, which knows whether there is colour.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pytest_linkmode.coverage import Outcome
from pytest_linkmode.report.model import NO_MODE, Cell, Line, Verdict


class Span(NamedTuple):
    """A piece of a line, and the names of pytest's markup that it is written in."""

    text: str
    markup: tuple[str, ...] = ()


Row = tuple[Span, ...]

GAP = 2
EDGES_SHOWN = 12
REASONS_SHOWN = 8


class Style(NamedTuple):
    """How the number of tests that ended in one way is written: at length, in short, marked."""

    word: str
    letter: str
    markup: tuple[str, ...]


STYLES: Mapping[Outcome, Style] = {
    Outcome.PASSED: Style("", "", ("green",)),
    Outcome.FAILED: Style(" failed", "F", ("red", "bold")),
    Outcome.ERROR: Style(" error", "E", ("red", "bold")),
    Outcome.CRASHED: Style(" crashed", "C", ("red", "bold")),
    Outcome.XPASSED: Style(" xpassed", "X", ("yellow",)),
    Outcome.XFAILED: Style(" xfailed", "x", ("yellow",)),
    Outcome.SKIPPED: Style(" skipped", "s", ("yellow",)),
    Outcome.NOT_APPLICABLE: Style(" n/a", "n", ()),
}


def lines(verdict: Verdict, *, width: int, verbosity: int = 0) -> list[Row]:
    """Return the section that ends a run; no line without its own reason is wider than `width`.

    With `verbosity` below zero only what fails the run and one line of edges; above zero every
    edge, every reason and every deselected test.
    """
    rows: list[Row] = [(Span(sentence, ("red", "bold")),) for sentence in verdict.failures]
    if verbosity >= 0:
        rows += [(Span(note, ("yellow",)),) for note in verdict.notes]
        rows += _table(verdict, width)
        rows += _skips(verdict, width, verbosity)
        rows += _deselected(verdict, width, verbosity)
    if verdict.cells:
        rows += _edges(verdict, width, verbosity)
    return rows


def text(rows: Sequence[Row]) -> str:
    """Return lines without their markup."""
    return "\n".join("".join(span.text for span in row) for row in rows)


def _table(verdict: Verdict, width: int) -> Iterator[Row]:
    if not verdict.cells:
        return
    modes = verdict.modes
    titles = ["tests"] if modes == (NO_MODE,) else [mode or "any mode" for mode in modes]
    head: tuple[str, list[Row]] = ("passed", [(Span(title, ("bold",)),) for title in titles])
    for short in (False, True):
        rows = [
            head,
            *(
                (layout, [_cell(row.get(mode), short=short) for mode in modes])
                for layout, row in verdict.cells.items()
            ),
        ]
        first = max(len(name) for name, _ in rows)
        sizes = [
            max(map(_length, column)) for column in zip(*(cells for _, cells in rows), strict=True)
        ]
        if first + sum(sizes) + GAP * len(sizes) <= width:
            break
    for name, cells in rows:
        spans = [Span(name.ljust(first), ("bold",) if name == head[0] else ())]
        for cell, size in zip(cells, sizes, strict=True):
            spans += [Span(" " * GAP), *cell, Span(" " * (size - _length(cell)))]
        yield _stripped(spans)
    letters = {
        outcome
        for row in verdict.cells.values()
        for cell in row.values()
        for outcome in cell.outcomes
    }
    legend = [
        f"{style.letter} {style.word.strip()}"
        for outcome, style in STYLES.items()
        if short and style.letter and outcome in letters
    ]
    if legend:
        yield (Span(f"({', '.join(legend)})"),)


def _cell(cell: Cell | None, *, short: bool) -> Row:
    spans: list[Span] = []
    for outcome, style in STYLES.items():
        if cell and cell.outcomes[outcome]:
            if spans:
                spans.append(Span(" " if short else ", "))
            ending = style.letter if short else style.word
            spans.append(Span(f"{cell.outcomes[outcome]}{ending}", style.markup))
    return tuple(spans) or (Span("-"),)


def _length(row: Row) -> int:
    return sum(len(span.text) for span in row)


def _stripped(spans: list[Span]) -> Row:
    while len(spans) > 1 and not spans[-1].text.strip():
        spans.pop()
    return tuple(spans)


def _skips(verdict: Verdict, width: int, verbosity: int) -> Iterator[Row]:
    reasons: dict[str, dict[str, int]] = {}
    for layout, counts in verdict.skipped.items():
        for reason, number in counts.items():
            reasons.setdefault(reason, {})[layout] = number
    for index, (reason, layouts) in enumerate(reasons.items()):
        if index == REASONS_SHOWN and verbosity <= 0:
            yield (Span(f"... and {len(reasons) - index} more reasons: see them with -v"),)
            return
        number = sum(layouts.values())
        start = f"{number} skipped on {', '.join(layouts)}: "
        if verbosity > 0:
            yield (Span(start + reason.replace("\n", "\n  ")),)
        else:
            yield (Span(_cut(start + _first_line(reason), width)),)


def _deselected(verdict: Verdict, width: int, verbosity: int) -> Iterator[Row]:
    reasons: dict[str, list[str]] = {}
    for test, reason in verdict.deselected.items():
        reasons.setdefault(reason, []).append(test)
    for reason, tests in reasons.items():
        yield (Span(_cut(f"{len(tests)} deselected: {reason}", width)),)
        if verbosity > 0:
            yield from ((Span(f"  {test}"),) for test in tests)


def _edges(verdict: Verdict, width: int, verbosity: int) -> Iterator[Row]:
    verified = [line for line in verdict.lines if line.verified]
    head = (
        f"edges of {verdict.policy.name} on {verdict.platform}: "
        f"{verdict.verified} of {len(verdict.lines)} verified ({verdict.percent:.0f} %)"
    )
    if verbosity < 0:
        yield (Span(head),)
        return
    yield (Span(head + (":" if verified else ""), ("bold",)),)
    shown = verified if verbosity > 0 else verified[:EDGES_SHOWN]
    size = max((len(_arrow(line)) for line in shown), default=0)
    for line in shown:
        tests = f"{line.tests} test" + ("s" if line.tests != 1 else "")
        yield (
            Span(f"  {_arrow(line).ljust(size)}  "),
            Span(line.proof, ("green",)),
            Span(f", {tests}"),
        )
    if len(shown) < len(verified):
        yield (Span(f"  ... and {len(verified) - len(shown)} more: see them with -v"),)
    if verbosity > 0:
        yield from _missing(verdict, width)
    for line in verdict.unknown:
        yield (
            Span(f"  {line.edge}  "),
            Span(f"taken, but not an edge of {verdict.policy.name}", ("yellow",)),
        )


def _missing(verdict: Verdict, width: int) -> Iterator[Row]:
    """One paragraph for each primitive: the conditions that no test has met."""
    import textwrap

    groups: dict[str, list[str]] = {}
    for line in verdict.lines:
        if not line.verified:
            platform, mode, primitive, condition = line.edge.split("/", 3)
            groups.setdefault(f"{platform}/{mode}/{primitive}", []).append(condition)
    for primitive, conditions in groups.items():
        words = f"not verified: {primitive}: {', '.join(conditions)}"
        for row in textwrap.wrap(
            words,
            max(width, 40),
            initial_indent="  ",
            subsequent_indent="    ",
            break_on_hyphens=False,
        ):
            yield (Span(row),)


def _arrow(line: Line) -> str:
    return f"{line.edge} -> {line.then}"


def _first_line(reason: str) -> str:
    first, _, rest = reason.partition("\n")
    return first + (" ..." if rest.strip() else "")


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: max(width - 3, 0)] + "..."
