"""The results as one page: HTML for people, Markdown for the documentation, JSON for programs.

All three are made from the same cells and say when, where and with which versions; nothing in them
is written by hand.
"""

from __future__ import annotations

import datetime
import html
import json
import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from linker.policies import ALL
from pytest_linkmode.installers import matrix
from pytest_linkmode.installers.known import cause_of
from pytest_linkmode.installers.matrix import Cell
from pytest_linkmode.installers.programs import NOT_RUN, PROGRAMS
from pytest_linkmode.installers.scores import scoreboard, tells, tells_rightly

SCHEMA = 1
Table = Sequence[Sequence[str]]
"""Rows of words; the first is the head."""


@dataclass(frozen=True)
class Results:
    """A matrix that was run: its cells, and when and where."""

    cells: Sequence[Cell]
    made: datetime.datetime
    whole: bool

    @property
    def differences(self) -> list[Cell]:
        """The cells in which a program does something else than its policy says."""
        return [cell for cell in self.cells if cell.differs]

    @property
    def unknown(self) -> list[Cell]:
        """Those of them whose cause nobody has found."""
        return [cell for cell in self.differences if not cause_of(cell)]

    @property
    def not_run(self) -> list[Cell]:
        """The cells that could not be run here."""
        return [cell for cell in self.cells if cell.shown in (matrix.NOT_RUN, matrix.NO_LAYOUT)]

    @property
    def online(self) -> list[Cell]:
        """The cells in which a program could have reached the network."""
        return [cell for cell in self.cells if cell.seen and cell.online]

    @property
    def reference_fails(self) -> list[str]:
        """The properties that the reference linker does not hold in every cell."""
        return self._of_the_reference("no", "partly")

    @property
    def reference_open(self) -> list[str]:
        """The properties of the reference linker of which no cell of a whole matrix speaks."""
        return self._of_the_reference("-") if self.whole else []

    def _of_the_reference(self, *words: str) -> list[str]:
        board = scoreboard(self.cells)
        return [
            name
            for name, scores in board.items()
            if "reference" in scores and scores["reference"].word in words
        ]

    @property
    def ok(self) -> bool:
        """Whether any cell was run, all differences are known, and the reference holds it all."""
        run = any(cell.seen for cell in self.cells)
        held = not self.reference_fails and not self.reference_open
        return run and not self.unknown and held


ONLINE = "this user may not leave it"
"""Why a program could have done so."""


def headline(results: Results) -> str:
    """Return the verdict in a line."""
    run = [cell for cell in results.cells if cell.seen]
    not_run = f"{len(results.not_run)} of {len(results.cells)} cells could not be run"
    if not run:
        why = next((cell.why for cell in results.not_run if cell.why), "")
        return f"nothing was seen: {not_run}" + (f" ({why})" if why else "")
    predicted = [cell for cell in run if cell.predicted]
    agree = len(predicted) - len(results.differences)
    line = (
        f"{len(run)} cells of {len({cell.program for cell in run})} programs on "
        f"{len({cell.layout for cell in run})} layouts: {agree} of {len(predicted)} predictions "
        f"agree, {len(results.differences)} differ"
    )
    if results.differences:
        line += f" ({len(results.unknown)} of them for no known reason)"
    if results.not_run:
        line += f"; {not_run}"
    for name in results.reference_fails:
        line += f"; the reference linker does not hold: {name}"
    for name in results.reference_open:
        line += f"; no cell tells whether the reference linker holds: {name}"
    if results.online:
        line += f"; in {len(results.online)} cells the network was within reach: {ONLINE}"
    return line


def scores(results: Results) -> Table:
    """Return the scoreboard."""
    board = scoreboard(results.cells)
    names = list(next(iter(board.values()), {}))
    rows = [["", *names]]
    rows += [[row, *(board[row][name].word for name in names)] for row in board]
    return rows


def shortcomings(results: Results) -> Table:
    """Return where a property does not hold, by program, with what was seen there."""
    rows = [["program", "property", "holds in", "not in, for example", "seen there"]]
    board = scoreboard(results.cells)
    for name in next(iter(board.values()), {}):
        for row, scores_of in board.items():
            one = scores_of[name]
            if one.word in ("no", "partly"):
                rows.append([name, row, f"{one.held} of {one.of}", one.example, one.seen])
    return rows


def programs(results: Results) -> Table:
    """Return the programs with their versions, and what each did where nobody asked for a mode."""
    rows = [["program", "version", "modes", "policy", "cells", "agree", "differ", "not run"]]
    for program in PROGRAMS:
        cells = [cell for cell in results.cells if cell.program == program.name]
        if not cells:
            continue
        modes = program.at(cells[0].version).modes
        predicted = [cell for cell in cells if cell.predicted]
        differ = sum(bool(cell.differs) for cell in predicted)
        rows.append(
            [
                program.name,
                cells[0].version,
                ", ".join(mode.word for mode in modes),
                ", ".join(dict.fromkeys(mode.policy for mode in modes)),
                str(sum(bool(cell.seen) for cell in cells)),
                str(len(predicted) - differ),
                str(differ),
                str(sum(cell.program == program.name for cell in results.not_run)),
            ]
        )
    return rows


def layouts(results: Results) -> Table:
    """Return in which mode files end where nothing is disturbed, by layout."""
    plain = [cell for cell in results.cells if cell.scenario == "plain"]
    names = list(dict.fromkeys(cell.layout for cell in plain))
    rows = [["program", "mode", *names]]
    for program in PROGRAMS:
        for mode in program.modes:
            shown = {
                cell.layout: cell.shown
                for cell in plain
                if (cell.program, cell.mode) == (program.name, mode.word)
            }
            if shown:
                rows.append([program.name, mode.word, *(shown.get(name, "") for name in names)])
    return rows


def differing(results: Results) -> Table:
    """Return every difference, with its cause where that is known; like ones in one row."""
    grouped: dict[tuple[str, ...], list[str]] = {}
    for cell in results.differences:
        key = (cell.program, cell.mode, cell.said, cell.shown, cause_of(cell))
        grouped.setdefault(key, []).append(f"{cell.layout} {cell.scenario}")
    rows = [["program", "mode", "where", "policy says", "seen", "cause"]]
    for (program, mode, said, shown, cause), where in grouped.items():
        places = "; ".join(where[:4]) + (f"; and {len(where) - 4} more" if len(where) > 4 else "")
        rows.append([program, mode, places, said, shown, cause or "not known"])
    return rows


def effects(results: Results) -> Table:
    """Return what programs did beside installing, by kind."""
    rows = [["program", "side effect", "cells", "for example"]]
    for program in PROGRAMS:
        counted: Counter[str] = Counter()
        example: dict[str, str] = {}
        for cell in results.cells:
            if cell.program != program.name:
                continue
            for what in _effects(cell):
                kind = what.partition(":")[0]
                counted[kind] += 1
                example.setdefault(
                    kind, f"{cell.mode} on {cell.layout}, {cell.scenario}{what[len(kind) :]}"
                )
        rows += [
            [program.name, kind, str(number), example[kind]] for kind, number in counted.items()
        ]
    return rows


def _effects(cell: Cell) -> Iterable[str]:
    seen = cell.seen
    if seen is None:
        if cell.why:
            yield f"{cell.shown}: {cell.why[:200]}"
        return
    kind = cell.scenario.partition(":")[0]
    if seen["polluted"]:
        yield "changed files of the cache: " + ", ".join(seen["polluted"][:3])
    if seen["written"]:
        yield f"wrote {'' if kind == 'plain' else 'other '}files into the cache"
    if seen["ended"] == "failed" and (seen["found"] or seen["damaged"]):
        yield "left half a package"
    if seen["damaged"] and seen["ended"] != "killed":
        yield f"left damaged files: {seen['damaged']}"
    if seen["ended"] == "done" and seen["missing"] and seen["found"]:
        yield f"said that it was done, with files missing: {seen['missing']}"
    if outside := [*seen["escaped"], *seen["beside"]]:
        yield "wrote outside the target: " + ", ".join(outside[:3])
    if seen["home"]:
        yield "wrote into the home directory: " + ", ".join(seen["home"][:3])
    if seen["temporary"] and seen["ended"] != "killed":
        yield "left temporary files: " + ", ".join(seen["temporary"][:2])
    if seen["left"] and seen["ended"] == "done":
        yield "left files of its own: " + ", ".join(seen["left"][:2])
    if seen["resumed"] is False:
        yield "did not finish what a kill interrupted"
    if not seen["exec_bits"] and kind == "plain":
        yield "lost exec bits"
    if seen["ended"] in ("hung", "crashed"):
        yield str(seen["ended"])
    if tells(cell) is False:
        yield "fell back without saying so"
    if tells_rightly(cell) is False:
        yield f"named a mode that did not fail: {seen['told'][:80]}"


def not_held(results: Results) -> Table:
    """Return the policies that nothing was held against, and why."""
    held = {cell.policy for cell in results.cells}
    rows = [["system", "why"]]
    for name in ALL:
        if name not in held:
            why = NOT_RUN.get(name, "no program of this run, or not in this version")
            rows.append([name, why])
    return rows


# --- what has changed -----------------------------------------------------------------------

CELLS = "linkmode-matrix-cells"
_KEY = 4
"""A cell is four words that name it, and what was said and shown of it."""


def cells(results: Results, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what is told from run to run: versions, and of each cell what was said and seen.

    Those of `before` that this run did not ask for are kept, unless it asked for everything.
    """
    kept = {} if results.whole or before is None else before
    known = {tuple(line[:_KEY]): list(line) for line in kept.get("cells", ())}
    versions = dict(kept.get("versions", {}))
    for cell in results.cells:
        key = (cell.program, cell.mode, cell.layout, cell.scenario)
        known[key] = [*key, cell.said, cell.shown]
        versions[cell.program] = cell.version
    lines = [known[key] for key in sorted(known)]
    return {
        "format": CELLS,
        "version": SCHEMA,
        "room": matrix.ROOM,
        "versions": versions,
        "cells": lines,
    }


def cells_text(plain: Mapping[str, Any]) -> str:
    """Return that as JSON with a line for each cell, for programs that compare lines."""
    head = {name: value for name, value in plain.items() if name != "cells"}
    lines = ",\n".join(json.dumps(line) for line in plain["cells"])
    return json.dumps(head)[:-1] + f', "cells": [\n{lines}\n]}}\n'


def changes(results: Results, before: Mapping[str, Any]) -> Table:
    """Return what programs do otherwise than they did: another version shows as a difference."""
    then = {tuple(line[:_KEY]): line[_KEY + 1] for line in before.get("cells", ())}
    rows = [["program", "version", "where", "before", "now"]]
    for program in dict.fromkeys(cell.program for cell in results.cells):
        old = before.get("versions", {}).get(program)
        mine = [cell for cell in results.cells if cell.program == program]
        new = mine[0].version
        version = new if old in (new, None) else f"{old} -> {new}"
        found = [
            [program, version, f"{cell.mode} on {cell.layout}, {cell.scenario}", was, cell.shown]
            for cell in mine
            for was in [then.get((cell.program, cell.mode, cell.layout, cell.scenario))]
            if was is not None and was != cell.shown
        ]
        if not found and version != new:
            found = [[program, version, "everywhere", "the same", "the same"]]
        rows += found
    return rows


TITLE = "What installers really do"
INTRODUCTION = (
    "Real programs install one small package from a warm cache, offline, in each of their modes, "
    "on real filesystems, undisturbed and with an error of one call. What became of every file is "
    "proven from disk; what the program's policy says is what the reference linker does by that "
    "policy under the same fault. Generated by `./scripts/run-matrix --installers --markdown "
    "docs/installers.md --cells docs/installers.json` (or `linkmode matrix`); not written by hand. "
    "The other file has a line for each cell, so that what a new version does otherwise is a "
    "difference of lines, and the command tells it."
)
NOTES = (
    "`partly` means: in some of the cells that speak of it; `-`: in none of them. A property of "
    "the default mode is read off the mode that the program takes where nobody asks.",
    "A clone that a program calls a copy is what the kernel makes of copy_file_range; the policies "
    "say who does that.",
    "dvc-objects, reflink-copy and cacache are libraries: a small program of ours gives them one "
    "path after the other, so what they follow in a hostile target is what their callers must "
    "look out for.",
    f"Every scenario is run on {' and '.join(matrix.CHIEF)}; on the other layouts programs are run "
    "undisturbed and with the faults that matter most. Programs run as root, but for the files of "
    "another owner, and without a network. What a scenario cannot do to a program, such as making "
    "odd files in a cache that has none, does not apply.",
    "A fault hits the first, the middle or the last of the program's own calls that bring the "
    "sample, or every one; of copies, those of files of the sample, in the directory for temporary "
    "files too. Watched beside the target and the cache are the home directory, that of temporary "
    "files, and what lies beside both.",
    "A race holds the program at the middle one of the calls that bring the package into the "
    "target: there a second instance of it begins, a file of the package appears, or the package's "
    "directory becomes a symlink that leads out of the target.",
)


def _sections(results: Results) -> Iterable[tuple[str, Table]]:
    yield "Scoreboard", scores(results)
    yield "Where a property does not hold", shortcomings(results)
    yield "Programs", programs(results)
    yield "Undisturbed, by layout", layouts(results)
    if results.differences:
        yield "Where a program and its policy differ", differing(results)
    yield "Side effects", effects(results)
    yield "Policies that no program is held against", not_held(results)


def _where(results: Results) -> str:
    when = results.made.strftime("%Y-%m-%d %H:%M UTC")
    extent = "the whole matrix" if results.whole else "a part of the matrix"
    kernel = platform.release().partition("-")[0]
    return f"{when}, Linux {kernel}, {os.cpu_count()} processors, {extent}."


def markdown(results: Results) -> str:
    """Return the page for the documentation."""
    lines = [f"# {TITLE}", "", INTRODUCTION, "", _where(results), "", f"{headline(results)}."]
    for title, table in _sections(results):
        lines += ["", f"## {title}", ""]
        head, *rows = [[cell.replace("|", "\\|") or " " for cell in row] for row in table]
        lines.append("| " + " | ".join(head) + " |")
        lines.append("|" + "---|" * len(head))
        lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", *(f"- {note}" for note in NOTES)]
    return "\n".join(lines) + "\n"


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { border: 1px solid #ccc; padding: .2rem .5rem; text-align: left; vertical-align: top }
th { background: #f3f3f3 } .yes { background: #d9f2d9 } .no { background: #f8d2d2 }
.partly { background: #fdf0c8 } .differs { background: #f8d2d2 }
@media (prefers-color-scheme: dark) {
  body { background: #181818; color: #ddd } th { background: #2a2a2a } th, td { border-color: #444 }
  .yes { background: #1f4d1f } .no, .differs { background: #5c2222 } .partly { background: #57480f }
}
"""


def page(results: Results) -> str:
    """Return the page as HTML, with every cell."""
    parts = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{TITLE}</title>',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{TITLE}</h1>",
        f"<p>{html.escape(INTRODUCTION.replace('`', ''))}</p>",
        f"<p>{html.escape(_where(results))}</p><p><b>{html.escape(headline(results))}.</b></p>",
    ]
    for title, table in _sections(results):
        parts += [f"<h2>{html.escape(title)}</h2>", _table(table)]
    parts += ["<h2>Every cell</h2>", _table(_every(results))]
    parts += [f"<p>{html.escape(note.replace('`', ''))}</p>" for note in NOTES]
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _every(results: Results) -> Table:
    rows = [["program", "mode", "layout", "scenario", "policy says", "seen", "", "told"]]
    for cell in results.cells:
        verdict = "differs" if cell.differs else "agrees" if cell.predicted else ""
        told = (cell.seen or {}).get("told", "")
        rows.append(
            [
                *(cell.program, cell.mode, cell.layout, cell.scenario),
                *(cell.said, cell.shown, verdict, told[:120]),
            ]
        )
    return rows


def _table(table: Table) -> str:
    head, *rows = table
    lines = ["<table><thead><tr>"]
    lines += [f"<th>{html.escape(cell)}</th>" for cell in head]
    lines.append("</tr></thead><tbody>")
    for row in rows:
        cells = "".join(
            f'<td class="{cell}">{cell}</td>'
            if cell in ("yes", "no", "partly", "differs")
            else f"<td>{html.escape(cell)}</td>"
            for cell in row
        )
        lines.append(f"<tr>{cells}</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def plain(results: Results) -> dict[str, Any]:
    """Return it all as JSON has it: ``linkmode-matrix``, version 1."""
    board = scoreboard(results.cells)
    return {
        "format": "linkmode-matrix",
        "version": SCHEMA,
        "ok": results.ok,
        "made": results.made.isoformat(timespec="seconds"),
        "whole": results.whole,
        "machine": {
            "kernel": platform.release(),
            "architecture": platform.machine(),
            "python": platform.python_version(),
            "processors": os.cpu_count(),
        },
        "versions": {cell.program: cell.version for cell in results.cells},
        "scoreboard": {
            row: {name: {"word": one.word, **asdict(one)} for name, one in scores_of.items()}
            for row, scores_of in board.items()
        },
        "cells": [{**asdict(cell), "cause": cause_of(cell)} for cell in results.cells],
    }
