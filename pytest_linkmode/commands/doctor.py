"""`linkmode doctor`: which filesystems and layouts this machine can make, and what would add more.

What a rung of the ladder has said is not repeated, and what is missing for the same reasons is told
together: an ordinary user lacks much, and all of it for two or three causes. `--json` has each
finding by itself.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from linker.cli import Status, tell, tell_json
from pytest_linkmode.commands.words import Paint, add_json, aligned

if TYPE_CHECKING:
    from pytest_linkmode.errors import Unavailable

WIDTH = 64
"""Of lists of names, in letters."""
SAID = "for the reasons above"

Row = tuple[str, ...]


def configure(parser: argparse.ArgumentParser) -> None:
    """Say what `linkmode doctor` takes."""
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="filesystems and layouts that must be there; default: all, and none must",
    )
    add_json(parser)
    parser.set_defaults(run=_doctor)


@dataclass(frozen=True)
class _Finding:
    """Whether one rung, filesystem or layout can be had here.

    `filesystems` are those that it is made of.
    """

    kind: str
    name: str
    how: str
    missing: Unavailable | None
    filesystems: tuple[str, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it cannot be had, without its own name, so that other findings say the same."""
        checked = self.missing.checked if self.missing else ()
        return tuple(dict.fromkeys(_nameless(line) for line in checked))

    def plain(self) -> dict[str, Any]:
        missing = self.missing
        return {
            "kind": self.kind,
            "name": self.name,
            "available": missing is None,
            "how": self.how,
            "checked": list(missing.checked) if missing else [],
            "mends": list(missing.mends) if missing else [],
        }


_NAMES = (
    (re.compile(r"--linkmode-dir=[a-z0-9-]+=PATH: "), "--linkmode-dir, LINKMODE_DIR_*: "),
    (re.compile(r"(: on \S+), not on \S+$"), r"\1"),
    (re.compile(r"^[a-z0-9-]+: made on "), "made on "),
    (
        re.compile(r"--linkmode-dir=[a-z0-9-]+=PATH or LINKMODE_DIR_[A-Z0-9_]+=PATH"),
        "--linkmode-dir=NAME=PATH or LINKMODE_DIR_NAME=PATH",
    ),
    (re.compile(r"a directory on (?:an?|one) ?\S*: "), "a directory on one: "),
)
"""Where the name of a filesystem stands in a sentence, and the sentence without it."""


def _nameless(line: str) -> str:
    for pattern, instead in _NAMES:
        line = pattern.sub(instead, line)
    return line


def _doctor(arguments: argparse.Namespace) -> Status:
    findings = _findings(arguments.names)
    bad = arguments.names and any(finding.missing for finding in findings)
    if arguments.json:
        tell_json(
            {
                "format": "linkmode-doctor",
                "version": 1,
                "findings": [finding.plain() for finding in findings],
            }
        )
        return Status.FAILED if bad else Status.DONE
    paint = Paint.of_stdout()
    rows = _each(findings) if arguments.names else _together(findings)
    lines = [("", "name", "here", "how, or why not"), *rows]
    tell("\n".join(aligned(lines, paint, {"yes": paint.green, "no": paint.red})))
    mends = [*_mends(findings)]
    if mends:
        tell("\n" + paint.bold("What would add more:"))
        tell("\n".join(mends))
    return Status.FAILED if bad else Status.DONE


def _each(findings: Iterable[_Finding]) -> Iterator[Row]:
    """Yield the rows of what was named: each by itself, with everything that was looked at."""
    for finding in findings:
        missing = finding.missing
        how = missing.checked if missing else (finding.how,)
        yield from _block(finding.kind, [finding.name], "no" if missing else "yes", how)


def _together(findings: Sequence[_Finding]) -> Iterator[Row]:
    """Yield the rows of the whole machine: of layouts that can be had lists, of others groups.

    A layout whose filesystem cannot be had is told with that.
    """
    kinds = {kind: [each for each in findings if each.kind == kind] for kind in KINDS}
    for rung in kinds["rung"]:
        how = rung.reasons if rung.missing else (rung.how,)
        yield from _block("rung", [rung.name], "no" if rung.missing else "yes", how)
    for finding in kinds["filesystem"]:
        if not finding.missing:
            yield from _block("filesystem", [finding.name], "yes", [finding.how])
    said = {reason for rung in kinds["rung"] for reason in rung.reasons}
    yield from _groups("filesystem", kinds["filesystem"], said)
    said |= {reason for filesystem in kinds["filesystem"] for reason in filesystem.reasons}
    gone = {each.name for each in kinds["filesystem"] if each.missing}
    layouts = [each for each in kinds["layout"] if gone.isdisjoint(each.filesystems)]
    yield from _groups("layouts", layouts, said)
    there: dict[str, list[str]] = {}
    for layout in layouts:
        if not layout.missing:
            there.setdefault(layout.filesystems[0], []).append(layout.name)
    for source, names in there.items():
        yield from _block("layouts", [source], "yes", _wrapped(names))


def _groups(kind: str, findings: Iterable[_Finding], said: Collection[str]) -> Iterator[Row]:
    """Yield the rows of what cannot be had, and why, as far as that was not said."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for finding in findings:
        if finding.missing:
            new = tuple(reason for reason in finding.reasons if reason not in said)
            groups.setdefault(new, []).append(finding.name)
    for reasons, names in groups.items():
        yield from _block(kind, names, "no", reasons or (SAID,))


def _block(kind: str, names: Sequence[str], here: str, how: Sequence[str]) -> Iterator[Row]:
    for number, (name, line) in enumerate(zip_longest(names, how, fillvalue="")):
        yield ("", name, "", line) if number else (kind, name, here, line)


def _wrapped(names: Iterable[str], width: int = WIDTH) -> list[str]:
    return textwrap.wrap(", ".join(names), width, break_long_words=False, break_on_hyphens=False)


def _mends(findings: Sequence[_Finding]) -> Iterator[str]:
    """Yield what would add more, each mend once, and what it would add.

    Of layouts only those are told whose filesystems can be had as it is.
    """
    gone = {each.name for each in findings if each.kind == "filesystem" and each.missing}
    mends: dict[str, dict[str, None]] = {}
    for finding in findings:
        for mend in finding.missing.mends if finding.missing else ():
            names = mends.setdefault(_nameless(mend), {})
            if gone.isdisjoint(finding.filesystems):
                names[finding.name] = None
    for mend, names in mends.items():
        yield f"- {mend}"
        yield from (f"    {line}" for line in _wrapped([f"for {', '.join(names)}"], 76))


def _findings(names: Sequence[str]) -> list[_Finding]:
    from pytest_linkmode import config, ladder, layouts
    from pytest_linkmode.filesystems import FILESYSTEMS, survey

    settings = config.from_environment()
    rungs = () if names else ladder.survey(settings)
    surveyed = {fact.kind.name: fact for fact in survey(settings)}
    every = list(FILESYSTEMS)
    specs = (*layouts.select(every), *layouts.specials(every))
    if names:
        wanted = [name for name in names if name not in FILESYSTEMS]
        surveyed = {name: fact for name, fact in surveyed.items() if name in names}
        specs = tuple(layouts.parse(name) for name in wanted)
    else:
        specs = tuple(spec for spec in specs if spec.name not in FILESYSTEMS)
    found = [
        _Finding("rung", footing.rung.name, footing.rung.adds, footing.unavailable)
        for footing in rungs
    ]
    found += [
        _Finding("filesystem", name, fact.provider, fact.unavailable)
        for name, fact in surveyed.items()
    ]
    found += [
        _Finding(
            "layout",
            spec.name,
            _shortly(spec.row.purpose),
            layouts.missing(spec, settings),
            tuple(dict.fromkeys((spec.source, spec.target))),
        )
        for spec in specs
    ]
    return found


KINDS = ("rung", "filesystem", "layout")


def _shortly(purpose: str) -> str:
    """Return what stands before the first colon that is in no parentheses."""
    found = re.match(r"(?:[^:(]|\([^)]*\))*", purpose)
    return found[0] if found else purpose
