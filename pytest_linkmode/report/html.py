"""The report as one page that needs nothing but itself: no network, no server, no other file.

It is made from the same plain data as the JSON. Long lists are cut, with their count: the JSON has
all of them. What it looks like is in `page.css` and `graph.css`, what it does in `page.js`; it
works without the latter.
"""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from pytest_linkmode.assertions import HEADING
from pytest_linkmode.coverage import PROOFS
from pytest_linkmode.listening import CUT
from pytest_linkmode.report import drawing
from pytest_linkmode.report.document import ANY_MODE, INTERRUPTED, Document, Run, nothing_ran
from pytest_linkmode.report.drawing import NOT_VERIFIED, SIGNS, Arrow, sign
from pytest_linkmode.report.markup import Markup, escaped, joined, tag
from pytest_linkmode.report.model import MODES

TESTS_SHOWN = 12
"""How many tests of an edge are listed, for each run and proof."""
FAILURES_SHOWN = 50
CASES_SHOWN = 8
SLOWEST_SHOWN = 10
LINES_SHOWN = 60
ROWS_SHOWN = 40
"""Of longer matrices only the rows that are not all green stand in the open, if there are any."""
NAMES_SHOWN = 6
"""How many layouts are named in one line; all of them stand below it."""
PROOFS_SHOWN = 1
"""How many kinds of evidence a cell of the matrix names: the most frequent; all are its tooltip."""

CELL_WORDS: Mapping[str, tuple[str, str]] = {
    "passed": ("good", "✓ {}"),
    "failed": ("bad", "✗ {} failed"),
    "error": ("bad", "✗ {} error"),
    "crashed": ("bad", "✗ {} crashed"),
    "xpassed": ("warn", "{} xpassed"),
    "xfailed": ("warn", "{} xfailed"),
    "skipped": ("warn", "{} skipped"),
    "not applicable": ("dim", "{} n/a"),
}
"""Outcome -> the class and the words of a count, in the order in which they are shown."""


def text(document: Document) -> str:
    """Return the page."""
    sections = [each for each in _sections(document) if each[2]]
    policy = document["policy"]["name"]
    ended = "verified" if document["ok"] else "not all is well"
    page = string.Template(_file("page.html"))
    return page.substitute(
        made_by=escaped(document["made_by"]),
        schema=escaped(document["schema"]),
        title=escaped(f"Link modes: {policy}, {ended}"),
        heading=escaped(f"What was verified of the policy {policy}"),
        summary=_summary(document),
        nav=joined(tag("a", title, href=f"#{name}") for name, title, _ in sections),
        sections=joined(
            tag("section", tag("h2", title), content, id=name) for name, title, content in sections
        ),
        style=_file("page.css") + _file("graph.css"),
        script=_file("page.js"),
    )


def _file(name: str) -> str:
    return files("pytest_linkmode.report").joinpath(name).read_text(encoding="utf-8")


def _sections(document: Document) -> Iterator[tuple[str, str, Markup]]:
    """Yield the id, the title and the content of each section; an empty one is left out."""
    runs: Sequence[Run] = document["runs"]
    many = len(runs) > 1
    yield "failures", "Failures", joined(_failures(run, many) for run in runs)
    yield "runs", "Runs", _runs(document) if many else Markup()
    yield "matrix", "Layouts and modes", joined(_matrix(run, many) for run in runs)
    yield "graph", "Fallback graph", _graph(document)
    yield "timings", "Timings", joined(_timings(run, many) for run in runs)
    yield "sweeps", "Sweeps and explorations", joined(map(_sweeps, runs))
    yield "missing", "Not run", joined(map(_not_run, runs))
    yield "machines", "Machines", joined(map(_machine, runs))


# --- the head ------------------------------------------------------------------------------------


def _summary(document: Document) -> Markup:
    union, runs = document["union"], document["runs"]
    total, verified = union["total"], union["verified"]
    failed = sum(len(run["failures"]) for run in runs)
    unmet = sum(len(run["guards"]) for run in runs)
    tests = sum(len(run["tests"]) for run in runs)
    layouts = len({(run["platform"], layout) for run in runs for layout in run["layouts"]})
    percent = 100 * verified / total if total else 0
    idle = sum(map(nothing_ran, runs))
    word = "green" if document["ok"] else "nothing ran" if idle == len(runs) else "not green"
    stopped = sum(run["exit_status"] == INTERRUPTED for run in runs)
    reasons = [
        *([f"{failed} failed"] if failed else []),
        *([f"{unmet} guards unmet"] if unmet else []),
        *(["interrupted"] if stopped else []),
        *([f"nothing ran in {_many(idle, 'run')}"] if 0 < idle < len(runs) else []),
    ]
    tiles = [
        _tile(word, ", ".join(reasons) or _many(len(runs), "run"), good=document["ok"]),
        _tile(f"{verified} of {total}", f"edges verified ({percent:.0f} %)"),
        _tile(f"{tests:,}", f"tests on {_many(layouts, 'layout')}"),
        _tile(_seconds(sum(run["seconds"] for run in runs)), "in all"),
    ]
    counts = {**union["proofs"], NOT_VERIFIED: total - verified}
    parts = [(proof, counts.get(proof, 0)) for proof in SIGNS]
    bar = [tag("i", class_=proof, style=f"flex:{count}") for proof, count in parts if count]
    return joined(
        (
            tag("div", *tiles, class_="tiles"),
            tag("div", *bar, class_="bar", role="img", aria_label=_bar_words(parts)),
            tag("ul", *(_key(proof, count) for proof, count in parts), class_="legend"),
        )
    )


def _bar_words(parts: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {SIGNS[proof][1].partition(':')[0]}" for proof, count in parts)


def _key(proof: str, count: int) -> Markup:
    words = SIGNS[proof][1]
    return tag(
        "li",
        tag(
            "button",
            tag("span", SIGNS[proof][0], class_=f"mark {proof}", aria_hidden="true"),
            f" {count} {words}",
            type="button",
            data_proof=proof,
            aria_pressed="false",
            title="show these in the graph",
        ),
    )


def _tile(big: str, small: str, *, good: bool | None = None) -> Markup:
    colour = None if good is None else "good" if good else "bad"
    return tag("div", tag("b", big, class_=colour), tag("span", small), class_="tile")


# --- failures ------------------------------------------------------------------------------------


def _failures(run: Run, named: bool) -> Markup:  # noqa: FBT001
    parts = [
        tag("p", tag("b", "Guard: ", class_="bad"), sentence, class_="card")
        for sentence in run["guards"]
    ]
    parts += map(_failure, run["failures"][:FAILURES_SHOWN])
    parts += _cut(len(run["failures"]) - FAILURES_SHOWN, "failed tests")
    return joined((tag("h3", run["name"]), *parts) if parts and named else parts)


def _failure(failed: Mapping[str, Any]) -> Markup:
    cases = failed["cases"]
    return tag(
        "article",
        tag(
            "h3",
            tag("span", failed["outcome"], class_="bad"),
            " ",
            tag("code", failed["test"]),
        ),
        *(_case(case, failed["test"]) for case in cases[:CASES_SHOWN]),
        *_cut(len(cases) - CASES_SHOWN, "cases"),
        class_="card failure",
    )


def _case(case: Mapping[str, Any], test: str) -> Markup:
    short = _short(case["text"])
    replays = [
        tag(
            "div",
            tag("code", f"pytest {shlex.quote(test)} {line}"),
            tag("button", "Copy", type="button", data_copy=True, hidden=True),
            class_="replay",
        )
        for line in case["replay"]
    ]
    fold = tag(
        "details",
        tag("summary", f"{case['where']}: {short}" if short else case["where"]),
        tag("pre", case["text"], tabindex=0),
        class_="print",
    )
    return joined((fold, *replays))


def _short(text: str) -> str:
    """Return what a failure says most shortly: the first line of its error, without the error's
    module; of errors that led to each other, the last. A table is told by its first row.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    said = _last_error(text)
    if not said:  # a traceback as Python writes it, or no traceback at all
        said = lines[-1:] if lines[0].startswith("Traceback ") else lines
    first, *rest = said
    if rest and tuple(rest[0].split()) == HEADING:
        row = ", ".join(re.split(r" {2,}", rest[1])) if rest[1:] else ""
        first = f"{first.rstrip(':')}: {row}"
    elif rest and first.endswith(":"):
        # An error whose message begins with a new line says its kind alone in the first.
        first = f"{first} {rest[0]}"
    return _MODULE.sub("", first)


def _last_error(text: str) -> list[str]:
    """Return the lines of the last error that pytest shows; one that was cut is one error."""
    error: list[str] = []
    ended = False
    for line in text.splitlines():
        if line.startswith("E") and line[1:2] in ("", " "):
            if ended:
                error = []
            ended = False
            if line[1:].strip():
                error.append(line[1:].strip())
        elif error and not re.fullmatch(CUT, line):
            ended = True
    return error


_MODULE = re.compile(r"^(?:\w+\.)+(?=\w+:)")


# --- runs and machines ---------------------------------------------------------------------------


def _runs(document: Document) -> Markup:
    head = ("run", "platform", "ended", "edges verified", "failed", "tests", "took", "began")
    rows = []
    for run in document["runs"]:
        known = document["union"]["edges"].values()
        verified = sum(run["name"] in edge["runs"] for edge in known)
        rows.append(
            tag(
                "tr",
                tag("th", run["name"], scope="row"),
                tag("td", run["platform"]),
                tag("td", _ended(run), class_="good" if run["ok"] else "bad"),
                tag("td", verified),
                tag("td", len(run["failures"])),
                tag("td", f"{len(run['tests']):,}"),
                tag("td", _seconds(run["seconds"])),
                tag("td", run["started"]),
            )
        )
    return _table(head, rows, class_="card")


def _ended(run: Run) -> str:
    if run["ok"]:
        return "green"
    status = run["exit_status"]
    return "nothing ran" if nothing_ran(run) and not status else f"exit status {status}"


def _machine(run: Run) -> Markup:
    facts = {
        **run["machine"],
        "mounts": run["place"],
        "options": " ".join(run["options"]),
        "began": run["started"],
        "capabilities executed": ", ".join(
            f"{name} ({count})" for name, count in run["capabilities"].items() if count
        ),
    }
    others = [
        tag("div", tag("h3", f"worker {name}"), _list(other))
        for name, other in run["other_machines"].items()
    ]
    return tag("div", tag("h3", run["name"]), _list(facts), *others, class_="card")


def _list(facts: Mapping[str, str]) -> Markup:
    pairs = ((tag("dt", name), tag("dd", value)) for name, value in facts.items() if value)
    return tag("dl", *(each for pair in pairs for each in pair))


# --- the matrix ----------------------------------------------------------------------------------


def _matrix(run: Run, named: bool) -> Markup:  # noqa: FBT001  # one more word would say no more
    layouts = run["layouts"]
    if not layouts:
        return Markup()
    used = {mode for row in layouts.values() for mode in row["modes"]}
    modes = [mode for mode in (*MODES, ANY_MODE) if mode in used]
    titles = ["layout", *("any mode" if mode == ANY_MODE else mode for mode in modes)]
    rows = {
        layout: tag(
            "tr",
            tag("th", layout, scope="row"),
            *(_cell(row["modes"].get(mode)) for mode in modes),
        )
        for layout, row in layouts.items()
    }
    odd = [layout for layout, row in layouts.items() if not _all_passed(row)]
    shown = odd if odd and len(rows) > ROWS_SHOWN else [*rows]
    green = [row for layout, row in rows.items() if layout not in shown]
    fold = tag(
        "details",
        tag("summary", f"{len(green):,} more, on which all tests passed"),
        _table(titles, green),
        class_="print",
    )
    reasons: dict[str, list[str]] = {}
    for layout, row in layouts.items():
        for reason, count in row["skipped"].items():
            reasons.setdefault(reason, []).append(f"{layout} ({count})")
    why = [
        tag(
            "details",
            tag("summary", f"skipped on {_first(where)}"),
            tag("p", ", ".join(where), class_="dim") if len(where) > NAMES_SHOWN else "",
            tag("pre", reason, tabindex=0),
        )
        for reason, where in reasons.items()
    ]
    caption = tag("caption", run["name"]) if named else None
    table = _table(titles, [rows[layout] for layout in shown], caption=caption)
    return tag("div", table, fold if green else "", *why, class_="card")


def _first(names: Sequence[str]) -> str:
    """Return some names in one line: all, or the first of them and how many more there are."""
    rest = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {rest:,} more" if rest > 0 else "")


def _all_passed(row: Mapping[str, Any]) -> bool:
    return all(cell["outcomes"].keys() == {"passed"} for cell in row["modes"].values())


def _cell(cell: Mapping[str, Any] | None) -> Markup:
    if cell is None:
        return tag("td", "–", class_="absent")
    counts = cell["outcomes"]
    words = [
        tag("span", form.format(counts[outcome]), class_=colour)
        for outcome, (colour, form) in CELL_WORDS.items()
        if counts.get(outcome)
    ]
    ranked = sorted(cell["evidence"].items(), key=lambda item: (-item[1], item[0]))
    proofs = [f"{count:,} by {proof}" for proof, count in ranked]
    how = tag("small", ", ".join(proofs[:PROOFS_SHOWN]), title=", ".join(proofs)) if proofs else ""
    return tag("td", joined(words, ", "), how)


def _table(
    head: Sequence[str], rows: Sequence[Markup], *, caption: Markup | None = None, class_: str = ""
) -> Markup:
    titles = tag("thead", tag("tr", *(tag("th", title, scope="col") for title in head)))
    table = tag("table", caption or "", titles, tag("tbody", *rows))
    return tag("div", table, class_=f"scroll {class_}".strip(), tabindex=0)


# --- the graph -----------------------------------------------------------------------------------


def _graph(document: Document) -> Markup:
    found = document["union"]["edges"]
    platforms: dict[str, list[Arrow]] = {}
    lists = []
    for number, edge in enumerate(document["policy"]["edges"]):
        arrow = _edge_arrow(f"edge-{number}", edge, found[edge["id"]])
        platforms.setdefault(edge["platform"], []).append(arrow)
        lists.append(_edge(arrow, edge["id"], found[edge["id"]], document["runs"]))
    parts = [
        tag(
            "p",
            "What a mode meets, and what is done then. Choose an edge for the tests that took it: "
            "with the mouse, or with Tab, the arrow keys and Enter.",
            class_="dim screen",
        )
    ]
    for platform, arrows in platforms.items():
        verified = sum(arrow.proof != NOT_VERIFIED for arrow in arrows)
        title = f"{platform}: {verified} of {len(arrows)} verified"
        parts += [tag("h3", title), tag("div", drawing.graph(arrows), class_="graph")]
    unknown = document["union"]["unknown_edges"]
    if unknown:
        rows = [
            tag(
                "li",
                tag("code", edge),
                f" by {_many(each['tests'], 'test')} in {', '.join(each['runs'])}",
            )
            for edge, each in unknown.items()
        ]
        parts.append(
            tag(
                "div",
                tag("h3", "Unknown edges: taken, but not in the policy", class_="warn"),
                tag("ul", *rows),
                class_="card",
            )
        )
    return joined((*parts, tag("div", *lists)))


def _edge_arrow(anchor: str, edge: Mapping[str, Any], found: Mapping[str, Any]) -> Arrow:
    state = "" if edge["state"] == "any" else f" ({edge['state']})"
    then = edge["then"]
    return Arrow(
        edge["mode"] or "any mode",
        edge["primitive"],
        edge["condition"] + state,
        f"{then}, then {edge['otherwise']}" if edge["otherwise"] else then,
        found["proof"] if found["proof"] in SIGNS else NOT_VERIFIED,
        found["tests"],
        anchor,
    )


def _edge(arrow: Arrow, name: str, found: Mapping[str, Any], runs: Sequence[Run]) -> Markup:
    """Return the tests that took an edge, by run and proof."""
    parts: list[Markup] = [
        tag("h3", sign(arrow.proof), " ", tag("code", name)),
        tag("p", f"then {arrow.then}; {SIGNS[arrow.proof][1]}"),
    ]
    for run in runs:
        took = run["edges"].get(name, {})
        for proof in (each for each in PROOFS if each in took):
            tests = [run["tests"][index] for index in took[proof]]
            shown = tests[:TESTS_SHOWN]
            title = f"{run['name']}, {proof}: {_many(len(tests), 'test')}"
            parts.append(tag("p", title, class_="dim"))
            parts.append(
                tag("ul", *(tag("li", tag("code", each["id"])) for each in shown), class_="tests")
            )
            parts += _cut(len(tests) - TESTS_SHOWN, "tests: the JSON report has all of them")
    if not found["tests"]:
        parts.append(tag("p", "No test that passed took it.", class_="dim"))
    return tag("section", *parts, class_="edge", id=arrow.anchor)


# --- the rest ------------------------------------------------------------------------------------


def _timings(run: Run, named: bool) -> Markup:  # noqa: FBT001
    tests = run["tests"]
    if not tests:
        return Markup()
    picture, left_out = drawing.timings(tests)
    slowest = sorted(tests, key=lambda test: (-test["seconds"], test["id"]))[:SLOWEST_SHOWN]
    rows = [
        tag("tr", tag("td", _seconds(test["seconds"])), tag("td", test["id"], class_="test"))
        for test in slowest
    ]
    present = {test["mode"] or ANY_MODE for test in tests}
    keys = [
        tag("li", tag("span", "●", class_=f"key-{mode}", aria_hidden="true"), f" {mode}")
        for mode in (*MODES, ANY_MODE)
        if mode in present
    ]
    return tag(
        "div",
        tag("h3", run["name"]) if named else "",
        tag(
            "p",
            "One dot a test: the longer it took, the further right. At the end of a row: how many "
            "seconds and tests it has.",
            class_="dim",
        ),
        tag("ul", *keys, class_="legend"),
        tag("div", picture, class_="scroll", tabindex=0),
        tag("p", left_out, class_="dim") if left_out else "",
        tag("details", tag("summary", "The slowest tests"), _table(("took", "test"), rows)),
        class_="card",
    )


def _sweeps(run: Run) -> Markup:
    lines = [(test, line) for test, told in run["summaries"].items() for line in told]
    if not lines:
        return Markup()
    rows = [tag("li", line, " ", tag("code", test, class_="dim")) for test, line in lines]
    return tag(
        "details",
        tag("summary", f"{run['name']}: {_many(len(lines), 'summary', 'summaries')}"),
        tag("ul", *rows[:LINES_SHOWN]),
        *_cut(len(rows) - LINES_SHOWN, "more"),
        class_="card",
    )


def _not_run(run: Run) -> Markup:
    parts: list[Markup] = [tag("p", note, class_="warn") for note in run["notes"]]
    reasons: dict[str, list[str]] = {}
    for test, reason in run["deselected"].items():
        reasons.setdefault(reason, []).append(test)
    for reason, tests in reasons.items():
        rows = [tag("li", tag("code", test)) for test in tests[:LINES_SHOWN]]
        summary = tag("summary", f"{_many(len(tests), 'test')} deselected: {reason}")
        cut = _cut(len(tests) - LINES_SHOWN, "tests")
        parts.append(tag("details", summary, tag("ul", *rows, class_="tests"), *cut))
    for name, reason in run["unavailable"].items():
        parts.append(
            tag(
                "details",
                tag("summary", f"{name} could not be had"),
                tag("pre", reason, tabindex=0),
            )
        )
    return tag("div", tag("h3", run["name"]), *parts, class_="card") if parts else Markup()


def _cut(left: int, what: str) -> list[Markup]:
    return [tag("p", f"... and {left:,} more {what}", class_="dim")] if left > 0 else []


def _many(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _seconds(seconds: float) -> str:
    if seconds < 59.95:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"
