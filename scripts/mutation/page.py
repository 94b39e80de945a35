"""The page of results: numbers from the session, explanations from a file of ours.

An explanation belongs to a line of code, by the text of the line, so that it stays where it is
when the code around it changes, and goes when the line does.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version

from scripts.mutation.running import BUDGET, PATIENCE, SLOWER
from scripts.mutation.values import KILLED, SURVIVED, TIMED_OUT, Made, Mutant, Verdict

PAGE = "docs/mutation.md"
EXPLANATIONS = "scripts/mutation/survivors.toml"

BOUND = 90.0
"""Per cent of a module's mutants that the tests must notice."""

WIDTH = 160
"""Characters of a line of code that are shown."""

INTRODUCTION = """\
# Mutation tests

A test that cannot fail proves nothing. Here every place of the linker's core is changed in turn
(a number, a comparison, an argument, a condition, a table's entry), and the tests of the linker are
run against each changed program, a *mutant*. A mutant that no test notices *survives*, and is
either a hole in the tests or a change that makes no difference; every survivor is listed below
with the reason why it lives.

`tox -e mutation` runs what is not known yet and writes this page. `tox -e mutation -- journal tree`
takes modules by name, `--again` runs again what survived and is not explained, `--fresh` begins
anew, `--sample N --seed S` draws N mutants of each module. It ends with a status of 1 if a survivor
is not explained in `{explanations}`, or a module is below {bound:.0f} %. All counts are
written by the command.

- **The mutants** are made by the operators of mutmut {mutmut},
  applied to whole modules: tables, class bodies and decorated functions too, which mutmut's own
  runner leaves out. Annotations and docstrings are not changed, nor are literals with a space in
  them: they are sentences for people (the column *texts* counts them). A mutant that is the
  same program as another, or as the original, counts once or not at all.
- **The tests** are {files}; each mutant meets those that execute its line, first those that are
  most about its module, until one fails or {budget:.0f} s of their usual time are over.
  Properties over random trees, whole fault sweeps, kills and company are not among them: what is
  killed here is killed by tests that take the same way every time.
- A mutant has *timed out* if a test took {patience:.0f} s and {slower} times its usual time: it is
  noticed. Versions: Python {python}, pytest {pytest}.
"""


def _version_of(project: str) -> str:
    """Return the version of what made the mutants; a page can be written where it is not."""
    try:
        return version(project)
    except PackageNotFoundError:
        return "of another environment"


@dataclass(frozen=True)
class Explanation:
    """Why mutants of a line live.

    `file` and `function` may be globs. `line` is part of the line as it is, each of `to` of a
    line as it was mutated; without any it is about every mutant of the line.
    """

    file: str
    function: str
    line: str
    to: tuple[str, ...]
    why: str

    def speaks_of(self, file: str, mutant: Mutant) -> bool:
        """Return whether this is about a mutant."""
        return (
            fnmatchcase(file, self.file)
            and fnmatchcase(mutant.function, self.function)
            and self.line in mutant.removed
            and (not self.to or any(part in mutant.added for part in self.to))
        )


def explanations(root: str) -> tuple[Explanation, ...]:
    """Return what was explained."""
    with open(os.path.join(root, EXPLANATIONS), "rb") as file:
        return tuple(
            Explanation(
                each["file"], each["function"], each["line"], tuple(each["to"]), each["why"]
            )
            for each in tomllib.load(file).get("survivor", ())
        )


def reason(why: Sequence[Explanation], root: str, mutant: Mutant) -> Explanation | None:
    """Return what explains a mutant."""
    file = os.path.relpath(mutant.path, root)
    return next((each for each in why if each.speaks_of(file, mutant)), None)


def short(line: str) -> str:
    """Return a line of code as far as it is shown."""
    return line if len(line) <= WIDTH else line[: WIDTH - 2] + " …"


def write(
    root: str, made: Mapping[str, Made], verdicts: Mapping[str, Verdict], files: Sequence[str]
) -> int:
    """Write the page and print its table; return the exit status. `files` are those of tests."""
    rows = {module: _Row(module, each, verdicts) for module, each in made.items()}
    why = explanations(root)
    used: set[Explanation] = set()
    sections: list[str] = []
    unexplained: list[Mutant] = []
    for module, row in rows.items():
        lines = []
        for mutant in row.survivors:
            found = reason(why, root, mutant)
            if found is None:
                unexplained.append(mutant)
            else:
                used.add(found)
            lines.append((mutant, found))
        if lines:
            sections.append(_section(module, lines))
    stale = [each for each in why if each not in used]
    head = "| module | texts | mutants | run | killed | timed out | survived | noticed |"
    table = "\n".join([head, "|---|--:|--:|--:|--:|--:|--:|--:|", *map(str, rows.values())])
    total = _Row("together", Made((), 0), {})
    for row in rows.values():
        total.add(row)
    table += f"\n{total}"
    partly = [row for row in rows.values() if row.run < row.mutants]
    text = INTRODUCTION.format(
        explanations=EXPLANATIONS,
        bound=BOUND,
        mutmut=_version_of("mutmut"),
        files=", ".join(f"`test_{name}`" for name in files),
        patience=PATIENCE,
        budget=BUDGET,
        slower=SLOWER,
        python=".".join(map(str, sys.version_info[:3])),
        pytest=_version_of("pytest"),
    )
    text += f"\n{table}\n"
    if partly:
        names = ", ".join(f"{row.name} ({row.run} of {row.mutants})" for row in partly)
        text += f"\nNot all mutants were run of: {names}. `tox -e mutation` runs the rest.\n"
    if sections:
        text += "\n## Survivors\n\n" + "\n".join(sections)
    with open(os.path.join(root, PAGE), "w", encoding="utf-8") as out:
        out.write(text)
    print(table)
    for mutant in unexplained:
        print(
            f"not explained: {os.path.relpath(mutant.path, root)}:{mutant.lines[-1]}"
            f" {mutant.function}\n    - {short(mutant.removed)}\n    + {short(mutant.added)}"
        )
    for each in stale:
        print(f"explains no survivor: {each.file} {each.function}: {each.line} {list(each.to)}")
    low = [row.name for row in rows.values() if row.run and row.noticed < BOUND]
    if low:
        print(f"below {BOUND:.0f} %: {', '.join(low)}")
    return 1 if unexplained or low else 0


class _Row:
    """The counts of a module."""

    def __init__(self, name: str, made: Made, verdicts: Mapping[str, Verdict]) -> None:
        self.name = name
        self.sentences = made.sentences
        self.mutants = len(made.mutants)
        known = [(each, verdicts[each.key]) for each in made.mutants if each.key in verdicts]
        outcomes = [verdict.outcome for _, verdict in known]
        self.run = len(known)
        self.killed = outcomes.count(KILLED)
        self.timed_out = outcomes.count(TIMED_OUT)
        self.survivors = [each for each, verdict in known if verdict.outcome == SURVIVED]
        self.survived = len(self.survivors)

    def add(self, other: _Row) -> None:
        """Count another module's as well."""
        self.sentences += other.sentences
        self.mutants += other.mutants
        self.run += other.run
        self.killed += other.killed
        self.timed_out += other.timed_out
        self.survived += other.survived

    @property
    def noticed(self) -> float:
        """Per cent of those run."""
        return 100 * (self.killed + self.timed_out) / self.run if self.run else 0.0

    def __str__(self) -> str:
        counts = (self.sentences, self.mutants, self.run, self.killed, self.timed_out)
        return (
            f"| {self.name} | {' | '.join(map(str, counts))} | {self.survived}"
            f" | {self.noticed:.1f} % |"
        )


def _section(module: str, survivors: Sequence[tuple[Mutant, Explanation | None]]) -> str:
    """Return the survivors of a module, those of a line with one explanation together."""
    groups: dict[tuple[str, str, str], list[Mutant]] = {}
    for mutant, found in survivors:
        why = found.why if found is not None else "**Not explained.**"
        groups.setdefault((mutant.function, mutant.removed, why), []).append(mutant)
    lines = [f"### {module}", ""]
    for (function, removed, why), mutants in groups.items():
        operators = ", ".join(sorted({mutant.operator for mutant in mutants}))
        lines += [
            f"`linker/{module}.py`, `{function}` ({operators}): {why}",
            "",
            "```diff",
            f"- {short(removed)}",
            *(f"+ {short(mutant.added)}" for mutant in mutants),
            "```",
            "",
        ]
    return "\n".join(lines)
