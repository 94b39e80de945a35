"""The verdict on the terminal: failures first, a table of layouts and modes, the edges taken.

`lines` is pure: it turns a verdict into lines of marked text for a width and a verbosity. The
plugin writes them through pytest's own terminal, which knows whether there is colour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

from pytest_linkmode.coverage import PROOFS, Outcome, filesystems
from pytest_linkmode.report.document import TOLD
from pytest_linkmode.report.model import NO_MODE, Cell, Line, Verdict


class Span(NamedTuple):
    """A piece of a line, and the names of pytest's markup that it is written in."""

    text: str
    markup: tuple[str, ...] = ()


Row = tuple[Span, ...]

GAP = 2
EDGES_SHOWN = 12
REASONS_SHOWN = 8
LAYOUTS_SHOWN = 16
SUMMARIES_SHOWN = 3
"""Together not more than a screen; `-v` shows all of each."""

HOW: Mapping[str, str] = {
    "shared extents": "extents",
    "same inode": "inode",
    "link target": "link",
    "different extents": "extents",
    "different filesystems": "filesystems",
    "independence": "edits",
}
"""What proves most files of a cell, in one word; what is not here decides about few files only."""


NOTHING_RAN = "no test that uses fixtures of linkmode came to a result"
"""What is said where that fails nothing: nobody asked for anything."""


UNREAD = "no edges: what a program calls is read with --linkmode-policy=NAME (such as reference)"
"""What is said in place of the edges where the linker is a program, and no policy was named."""


UNFINISHED = ("not run", "not all", "left after", "met no call", "without a fault it failed")
"""What stands in the line of a sweep or an exploration that shows less than it seems to: not
everything was run, or was reached, or what was run fails by itself."""


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


LEFT_OUT = frozenset({Outcome.SKIPPED, Outcome.NOT_APPLICABLE})


def lines(verdict: Verdict, *, width: int, verbosity: int = 0) -> list[Row]:
    """Return the section that ends a run; no line without its own reason is wider than `width`.

    With `verbosity` below zero only what fails the run, the notes (of what is kept, and where), the
    sweeps and explorations of which not all was run, and one line of edges; above zero every
    layout, edge, reason, deselected test and sweep.
    """
    rows: list[Row] = [(Span(sentence, ("red", "bold")),) for sentence in verdict.failures]
    if verdict.idle and verdict.trials and not verdict.failures:
        rows.append((Span(f"nothing is verified: {NOTHING_RAN}", ("yellow",)),))
    rows += [(Span(note, ("yellow",)),) for note in verdict.notes]
    if verbosity >= 0:
        rows += _table(verdict, width, verbosity)
        rows += _skips(verdict, width, verbosity)
        rows += _deselected(verdict, width, verbosity)
    rows += _summaries(verdict, width, verbosity)
    if verdict.cells:
        rows += _edges(verdict, width, verbosity)
    return rows


def text(rows: Sequence[Row]) -> str:
    """Return lines without their markup."""
    return "\n".join("".join(span.text for span in row) for row in rows)


def _table(verdict: Verdict, width: int, verbosity: int) -> Iterator[Row]:
    shown = _shown_layouts(verdict, verbosity)
    if not shown:
        return
    used = {mode for layout in shown for mode in verdict.cells[layout]}
    modes = tuple(mode for mode in verdict.modes if mode in used)
    titles = ["tests"] if modes == (NO_MODE,) else [mode or "any mode" for mode in modes]
    head: tuple[str, list[Row]] = ("passed", [(Span(title, ("bold",)),) for title in titles])
    for how, short in ((True, False), (False, False), (False, True)):
        rows = [
            head,
            *(
                (
                    layout,
                    [
                        _cell(verdict.cells[layout].get(mode), how=how, short=short)
                        for mode in modes
                    ],
                )
                for layout in shown
            ),
        ]
        if not how:
            rows += _mostly(verdict, modes)
        first = max(len(name) for name, _ in rows)
        sizes = [
            max(map(_length, column)) for column in zip(*(cells for _, cells in rows), strict=True)
        ]
        if first + sum(sizes) + GAP * len(sizes) <= width:
            break
    else:
        first = min(first, width // 2)
    for columns in _columns(sizes, width - first):
        yield from _drawn(rows, columns, first=first, width=width)
    hidden = [name for name in _rows(verdict, verbosity) if name not in shown]
    if hidden:
        odd = sum(not _is_green(verdict, name) for name in hidden)
        those = f"{odd} of them not all green" if odd else "all passed"
        yield (Span(_cut(f"... and {len(hidden)} more layouts, {those}: see them with -v", width)),)
    letters = {
        outcome
        for layout in shown
        for cell in verdict.cells[layout].values()
        for outcome in cell.outcomes
    }
    legend = [
        f"{style.letter} {style.word.strip()}"
        for outcome, style in STYLES.items()
        if short and style.letter and outcome in letters
    ]
    if legend:
        yield from _wrapped(f"({', '.join(legend)})", width)


def _columns(sizes: Sequence[int], width: int) -> Iterator[Mapping[int, int]]:
    """Yield the columns that fit beside each other, and their widths: mostly all at once."""
    fitting: dict[int, int] = {}
    for column, size in enumerate(sizes):
        room = min(size, width - GAP)
        if fitting and sum(fitting.values()) + room + GAP * (len(fitting) + 1) > width:
            yield fitting
            fitting = {}
        fitting[column] = room
    yield fitting


def _drawn(
    rows: Sequence[tuple[str, list[Row]]], columns: Mapping[int, int], *, first: int, width: int
) -> Iterator[Row]:
    """Yield some columns of the table; what is too long for its own goes on below."""
    for number, (name, cells) in enumerate(rows):
        markup = () if number else ("bold",)
        if len(name) > first:
            yield (Span(_cut(name, width), markup),)
            name = ""
        folded = [_fold(cells[column], size) for column, size in columns.items()]
        for pieces in zip_longest(*folded, fillvalue=()):
            spans = [Span(name.ljust(first), markup)]
            for piece, size in zip(pieces, columns.values(), strict=True):
                spans += [Span(" " * GAP), *piece, Span(" " * (size - _length(piece)))]
            yield _stripped(spans)
            name = ""


def _fold(cell: Row, width: int) -> list[Row]:
    """Return the lines of a cell; it is broken between the ways in which tests ended."""
    folded: list[Row] = [()]
    gap: Row = ()
    for span in cell:
        if span.text.isspace():
            gap = (span,)
            continue
        piece = (*gap, span) if folded[-1] else (span,)
        if folded[-1] and _length(folded[-1]) + _length(piece) > width:
            folded.append((span,))
        else:
            folded[-1] += piece
        gap = ()
    return folded


def _shown_layouts(verdict: Verdict, verbosity: int) -> list[str]:
    """Return the layouts of the table: as many as fit, first of all those with failures."""
    rows = _rows(verdict, verbosity)
    if verbosity > 0 or len(rows) <= LAYOUTS_SHOWN:
        return rows
    ranked = sorted(rows, key=lambda name: (not _is_red(verdict, name), _is_green(verdict, name)))
    chosen = {*ranked[:LAYOUTS_SHOWN]}
    return [name for name in rows if name in chosen]


def _rows(verdict: Verdict, verbosity: int) -> list[str]:
    """Return the layouts that the table is about; of one that is all skipped the reason says it."""
    return [
        name
        for name, row in verdict.cells.items()
        if verbosity > 0 or any(cell.outcomes.keys() - LEFT_OUT for cell in row.values())
    ]


def _is_red(verdict: Verdict, layout: str) -> bool:
    return any(TOLD & cell.outcomes.keys() for cell in verdict.cells[layout].values())


def _is_green(verdict: Verdict, layout: str) -> bool:
    return all(set(cell.outcomes) == {Outcome.PASSED} for cell in verdict.cells[layout].values())


def _cell(cell: Cell | None, *, how: bool, short: bool) -> Row:
    spans: list[Span] = []
    for outcome, style in STYLES.items():
        if cell and cell.outcomes[outcome]:
            if spans:
                spans.append(Span(" " if short else ", "))
            ending = style.letter if short else style.word
            spans.append(Span(f"{cell.outcomes[outcome]}{ending}", style.markup))
            if how and outcome is Outcome.PASSED:
                spans += _how(cell)
    return tuple(spans) or (Span("-"),)


def _mostly(verdict: Verdict, modes: Sequence[str]) -> Iterator[tuple[str, list[Row]]]:
    """Yield a last row with what proves most of a column, where cells have no room to say so."""
    found: list[Row] = []
    for mode in modes:
        every: Counter[str] = Counter()
        for row in verdict.cells.values():
            every.update(row[mode].evidence if mode in row else {})
        found.append((Span(_fact(every)),))
    if any(text([row]) for row in found):
        yield "mostly by", found


def _fact(evidence: Mapping[str, int]) -> str:
    """Return the word for what proves most of the files, if anything does."""
    known = {proof: count for proof, count in evidence.items() if proof in HOW}
    return HOW[max(known, key=known.__getitem__)] if known else ""


def _how(cell: Cell) -> Iterator[Span]:
    """Yield the word for what proves most of the files."""
    fact = _fact(cell.evidence)
    if fact:
        yield Span(f" by {fact}")


def _length(row: Row) -> int:
    return sum(len(span.text) for span in row)


def _stripped(spans: list[Span]) -> Row:
    while len(spans) > 1 and not spans[-1].text.strip():
        spans.pop()
    return tuple(spans)


def _skips(verdict: Verdict, width: int, verbosity: int) -> Iterator[Row]:
    reasons: dict[str, dict[str, int]] = {}
    for layout in verdict.cells:  # in the order of the table, whichever worker was first
        for reason, number in verdict.skipped.get(layout, {}).items():
            reasons.setdefault(reason, {})[layout] = number
    for index, (reason, layouts) in enumerate(reasons.items()):
        if index == REASONS_SHOWN and verbosity <= 0:
            yield (Span(f"... and {len(reasons) - index} more reasons: see them with -v"),)
            return
        number = sum(layouts.values())
        where = ", ".join(layouts)
        if verbosity > 0:
            told = reason.replace("\n", "\n  ")
            yield (Span(f"{number} skipped on {where}: {told}"),)
            continue
        told = _first_line(reason)
        line = f"{number} skipped on {where}: {told}"
        if len(line) > width:
            line = f"{number} skipped on {_in_short(list(layouts))}: {told}"
        yield from _wrapped(line, width, "", "  ")


def _in_short(layouts: Sequence[str]) -> str:
    """Return some layouts in few words: by a filesystem that all of them have, if there is one."""
    first, more = layouts[0], len(layouts) - 1
    every = set(filesystems(first)).intersection(*map(filesystems, layouts))
    own = next((name for name in layouts if name in every), "")
    if own and more:
        return f"{own} and {more} of its layouts"
    return f"{first} and {more} more" if more else first


def _deselected(verdict: Verdict, width: int, verbosity: int) -> Iterator[Row]:
    reasons: dict[str, list[str]] = {}
    for test, reason in verdict.deselected.items():
        reasons.setdefault(reason, []).append(test)
    for reason, tests in reasons.items():
        yield (Span(_cut(f"{len(tests)} deselected: {reason}", width)),)
        if verbosity > 0:
            yield from ((Span(f"  {test}"),) for test in tests)


def _summaries(verdict: Verdict, width: int, verbosity: int) -> Iterator[Row]:
    """Yield what sweeps and explorations came to: of failed tests, what was not run, the rest."""
    told = [(trial, line) for trial in verdict.trials for line in trial.said]
    if verbosity > 0:
        yield from ((Span(f"{trial.test}: {line}"),) for trial, line in told)
        return
    failed = [(trial, line) for trial, line in told if trial.outcome is not Outcome.PASSED]
    cut = [(trial, line) for trial, line in told if any(words in line for words in UNFINISHED)]
    if verbosity < 0:
        told, failed = cut, []
    first = (*failed, *cut) if len(told) > SUMMARIES_SHOWN else told
    odd = list(dict.fromkeys((trial.test, line) for trial, line in first))
    for test, line in odd[:REASONS_SHOWN]:
        # Never cut: at its end is what was not run.
        yield (Span(f"{test.rpartition('::')[2]}: {line}", ("yellow",)),)
    left = len(told) - len(odd[:REASONS_SHOWN])
    if left:
        more = "more " if odd else ""
        yield (Span(_cut(f"{left} {more}sweeps and explorations: see them with -v", width)),)


def _edges(verdict: Verdict, width: int, verbosity: int) -> Iterator[Row]:
    verified = [line for line in verdict.lines if line.verified]
    if verdict.unread and not verified:
        yield (Span(UNREAD),)
        return
    head = _edges_of(verdict, verdict.platform, verdict.lines)
    if verbosity < 0:
        yield (Span(head),)
        return
    yield (Span(head, ("bold",)),)
    if verbosity > 0 or len(verified) <= EDGES_SHOWN:
        size = max((len(_arrow(line)) for line in verified), default=0)
        for line in verified:
            tests = f"{line.tests} test" + ("s" if line.tests != 1 else "")
            yield (
                Span(f"  {_arrow(line).ljust(size)}  "),
                Span(line.proof, ("green",)),
                Span(f", {tests}"),
            )
    else:
        yield from _folded(verdict.lines, width)
    if verbosity > 0:
        yield from _missing(verdict, width)
    for platform in dict.fromkeys(line.platform for line in verdict.elsewhere):
        there = [line for line in verdict.elsewhere if line.platform == platform]
        if any(line.verified for line in there):
            yield (Span(_edges_of(verdict, platform, there), ("bold",)),)
    for line in verdict.unknown:
        yield (
            Span(f"  {line.edge}  "),
            Span(f"taken, but not an edge of {verdict.policy.name}", ("yellow",)),
        )


def _edges_of(verdict: Verdict, platform: str, lines: Sequence[Line]) -> str:
    verified = sum(line.verified for line in lines)
    percent = 100 * verified / len(lines) if lines else 0
    return (
        f"edges of {verdict.policy.name} on {platform}: {verified} of {len(lines)} verified "
        f"({percent:.0f} %){_by_proof(lines)}"
    )


def _by_proof(lines: Sequence[Line]) -> str:
    counts = Counter(line.proof for line in lines if line.verified)
    known = [f"{counts[proof]} {proof}" for proof in PROOFS if counts[proof]]
    return f": {', '.join(known)}" if known else ""


def _folded(lines: Sequence[Line], width: int) -> Iterator[Row]:
    """One line for each mode and primitive: how many edges are verified, and which are not."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(line.group, []).append(line)
    size = max(map(len, groups))
    for name, group in groups.items():
        missing = [line.condition for line in group if not line.verified]
        start = f"  {name.ljust(size)}  {len(group) - len(missing)} of {len(group)}"
        words = _cut(f"{start}{_by_proof(group)}", width)
        rest = f"; not: {', '.join(missing)}" if missing else ""
        yield (Span(words), Span(_cut(rest, max(width - len(words), 0)), ("yellow",)))


def _missing(verdict: Verdict, width: int) -> Iterator[Row]:
    """One paragraph for each primitive: the conditions that no test has met."""
    groups: dict[str, list[str]] = {}
    for line in verdict.lines:
        if not line.verified:
            platform, mode, primitive, condition = line.edge.split("/", 3)
            groups.setdefault(f"{platform}/{mode}/{primitive}", []).append(condition)
    for primitive, conditions in groups.items():
        words = f"not verified: {primitive}: {', '.join(conditions)}"
        yield from _wrapped(words, max(width, 40), "  ", "    ")


def _wrapped(words: str, width: int, first: str = "", others: str = "") -> Iterator[Row]:
    import textwrap

    for row in textwrap.wrap(
        words, width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False
    ):
        yield (Span(row),)


def _arrow(line: Line) -> str:
    return f"{line.edge} -> {line.then}"


def _first_line(reason: str) -> str:
    first, _, rest = reason.partition("\n")
    return first + (" ..." if rest.strip() else "")


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: max(width - 3, 0)] + "..."
