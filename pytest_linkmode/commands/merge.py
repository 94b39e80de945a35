"""`linkmode merge`: the reports of a matrix as one, and the guards that hold for all of it.

What a single machine cannot verify another can; so it is here that a matrix is held against the
whole policy and against a committed list.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from linker.cli import Status, complain, tell, tell_json
from linker.failures import printable
from pytest_linkmode.commands.words import several
from pytest_linkmode.errors import LinkmodeError, UsageError
from pytest_linkmode.options import WRITERS
from pytest_linkmode.report import expected
from pytest_linkmode.report.document import INTERRUPTED, Document, load, nothing_ran
from pytest_linkmode.report.expected import Expected
from pytest_linkmode.report.merging import labels, merge

LIST = ".txt"
"""The suffix by which the list of what is verified is written, to be committed."""

SHOWN = 40
"""How many edges that are not verified are named in one sentence."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    parser.add_argument(
        "reports",
        metavar="[NAME=]REPORT",
        nargs="+",
        help="what --linkmode-report=REPORT.json wrote, or `linkmode merge`; NAME is how its run "
        "is called (default: what its path has that the others have not)",
    )
    parser.add_argument(
        "-o",
        "--output",
        action="append",
        default=[],
        metavar="PATH",
        help=f"where to write them as one ({', '.join(WRITERS)}), or the list of what is verified "
        f"({LIST}), for --expect; may be repeated",
    )
    parser.add_argument(
        "--expect",
        action="append",
        default=[],
        metavar="FILE",
        help="fail if less is verified than this list says; may be repeated",
    )
    parser.add_argument(
        "--fail-under",
        type=_percentage,
        metavar="N",
        help="fail if fewer than N %% of the policy's edges, on all its platforms, are verified",
    )
    parser.add_argument(
        "--platform",
        action="append",
        default=[],
        metavar="NAME",
        help="the platforms that --fail-under speaks of; may be repeated; default: all",
    )
    parser.add_argument(
        "--require",
        type=_capabilities,
        default=(),
        metavar="CAPABILITIES",
        help="fail if no test of any run was executed on each of these",
    )
    parser.add_argument("--json", action="store_true", help="the answer as JSON on stdout")
    parser.set_defaults(run=_merge)


def _percentage(text: str) -> float:
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to 100")
    return number


def _capabilities(text: str) -> tuple[str, ...]:
    from pytest_linkmode.capabilities import CAPABILITIES
    from pytest_linkmode.selection import check

    words = several(text)
    try:
        for word in words:
            check("capability", word, CAPABILITIES)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return words


def _merge(arguments: argparse.Namespace) -> Status:
    for path in arguments.output:
        if os.path.splitext(path)[1].lower() not in (*WRITERS, LIST):
            hint = f"choose a name that ends in {', '.join((*WRITERS, LIST))}"
            raise UsageError(f"cannot write {path}", why="not a suffix that this knows", hint=hint)
    wanted = Expected()
    for path in arguments.expect:
        wanted |= expected.read(path)
    document = merge(_load(arguments.reports))
    wrong = [
        *_red(document),
        *(f"--expect: {sentence}" for sentence in expected.unmet(document, wanted)),
        *_under(document, arguments.fail_under, arguments.platform),
        *_required(document, arguments.require),
    ]
    for path in arguments.output:
        _write(document, path)
    answer = _answer(document, wrong)
    if arguments.json:
        tell_json(answer)
    else:
        tell(_words_of(document))
        for sentence in wrong:
            complain(printable(sentence))
        for path in arguments.output:
            tell(f"written: {path}")
    return Status.FAILED if wrong else Status.DONE


def _load(given: list[str]) -> dict[str, Document]:
    """Return each report under its name. Raises UsageError if two have one name."""
    named = [_named(word) for word in given]
    short = iter(labels([path for name, path in named if not name]))
    reports: dict[str, Document] = {}
    for name, path in named:
        name = name or next(short)
        if name in reports:
            raise UsageError(f"two reports are called {name}", hint="name one: OTHER=PATH")
        reports[name] = load(path)
    return reports


def _named(word: str) -> tuple[str, str]:
    """Take ``NAME=PATH`` apart; what is a file as it stands has no name."""
    name, equals, path = word.partition("=")
    return (name, path) if equals and not os.path.exists(word) else ("", word)


def _write(document: Document, path: str) -> None:
    from pytest_linkmode.report.writing import write, write_text

    try:
        if path.lower().endswith(LIST):
            write_text(expected.text(document), path)
        else:
            write(document, path)
    except OSError as error:
        raise LinkmodeError(f"cannot write {path}", why=error.strerror or str(error)) from None


def _red(document: Document) -> list[str]:
    """Return one sentence for each run that was not green by itself."""
    sentences = []
    for run in document["runs"]:
        if not run["ok"]:
            reasons = [*run["guards"], f"{len(run['failures'])} of our tests failed"]
            reasons = reasons if run["failures"] else reasons[:-1]
            if run["exit_status"] == INTERRUPTED:
                reasons.append("interrupted")
            if nothing_ran(run):
                reasons.append("no test of ours was executed")
            ended = f"pytest ended with {run['exit_status']}"
            sentences.append(f"{run['name']} was not green: {'; '.join([*reasons, ended])}")
    return sentences


def _under(document: Document, least: float | None, platforms: list[str]) -> list[str]:
    if least is None:
        return []
    edges = document["policy"]["edges"]
    known = dict.fromkeys(edge["platform"] for edge in edges)
    if unknown := [name for name in platforms if name not in known]:
        raise UsageError(
            f"--platform {unknown[0]}", why="the policy says nothing of it", hint=", ".join(known)
        )
    found = document["union"]["edges"]
    wanted = [edge["id"] for edge in edges if edge["platform"] in (platforms or known)]
    missing = [edge for edge in wanted if found[edge]["proof"] is None]
    share = 100 * (len(wanted) - len(missing)) / len(wanted) if wanted else 0.0
    if share >= least:
        return []
    names = ", ".join(missing[:SHOWN])
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return [
        f"--fail-under {least:g}: {len(wanted) - len(missing)} of {len(wanted)} edges are "
        f"verified, that is {share:.1f} %; not verified: {names}{more}"
    ]


def _required(document: Document, capabilities: tuple[str, ...]) -> list[str]:
    return [
        f"--require {name}: no test of any run was executed on it"
        for name in capabilities
        if not any(run["capabilities"].get(name) for run in document["runs"])
    ]


def _answer(document: Document, wrong: list[str]) -> dict[str, Any]:
    union = document["union"]
    return {
        "format": "linkmode-merge",
        "version": 1,
        "ok": not wrong,
        "wrong": wrong,
        "runs": [run["name"] for run in document["runs"]],
        "edges": union["total"],
        "verified": union["verified"],
        "proofs": union["proofs"],
    }


def _words_of(document: Document) -> str:
    union = document["union"]
    runs = document["runs"]
    proofs = ", ".join(f"{count} {proof}" for proof, count in union["proofs"].items())
    percent = 100 * union["verified"] / union["total"] if union["total"] else 0
    lines = [
        f"{len(runs)} run{'s' * (len(runs) != 1)}: {', '.join(run['name'] for run in runs)}",
        f"edges of {document['policy']['name']}: {union['verified']} of {union['total']} verified "
        f"({percent:.0f} %)" + (f": {proofs}" if proofs else ""),
    ]
    policy = document["policy"]["name"]
    lines += [f"  {edge}: taken, but not an edge of {policy}" for edge in union["unknown_edges"]]
    return "\n".join(map(printable, lines))
