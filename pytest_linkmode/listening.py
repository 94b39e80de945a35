"""Listening to the linker while a test of ours runs, and writing down what its reports say.

What was heard is put on every report of the test, as plain data: so it comes to the controller
of pytest-xdist by the same way, and at the same moment, as the outcome.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from pytest_linkmode.axes import CHANNEL
from pytest_linkmode.faults.pytest_faults import MET, MISSED, PROPERTY

if TYPE_CHECKING:
    from pytest_linkmode.coverage import Failure, Ledger, Recorder


class Listener:
    """Hears what the linker does on behalf of one test at a time, and of no test but ours."""

    def __init__(self) -> None:
        self._recorder: Recorder | None = None
        self._listening = ExitStack()

    def observe(self, node: pytest.Item | pytest.Collector | pytest.Session) -> Recorder:
        """Return what takes notes of the test that runs; from now on, if it did not before."""
        if self._recorder is None:
            from linker.report import observing
            from pytest_linkmode.coverage import Recorder, recording
            from pytest_linkmode.selection import Choice

            self._recorder = Recorder()
            callspec = getattr(node, "callspec", None)
            for choice in callspec.params.values() if callspec else ():
                if isinstance(choice, Choice) and choice.mode:
                    self._recorder.mode = choice.name
                elif isinstance(choice, Choice):
                    self._recorder.layout = self._recorder.layout or choice.name
            self._listening.enter_context(observing(self._recorder))
            self._listening.enter_context(recording(self._recorder))
        return self._recorder

    def layouts_of(self, item: pytest.Item) -> tuple[str, ...]:
        """Return the names of the layouts and filesystems that the test that runs was given."""
        from pytest_linkmode.selection import Choice

        callspec = getattr(item, "callspec", None)
        params = callspec.params.values() if callspec else ()
        names = [each.name for each in params if isinstance(each, Choice) and each.spec]
        if not names and self._recorder is not None and self._recorder.layout:
            names = [self._recorder.layout]
        return tuple(dict.fromkeys(names))

    def gave(self, layout: str, can: Iterable[str]) -> None:
        """Take note of what a test was given, unless it has a layout of its own already."""
        if self._recorder is not None and not self._recorder.can:
            self._recorder.layout, self._recorder.can = layout, frozenset(can)

    def again(self) -> None:
        """Forget what was heard: the test begins, perhaps once more."""
        if self._recorder is not None:
            self._recorder.edges.clear()
            self._recorder.evidence.clear()
            self._recorder.not_applicable = ""

    def annotate(self, report: pytest.TestReport) -> None:
        """Send along with a report what is known of its test so far."""
        if self._recorder is not None:
            setattr(report, CHANNEL, self._recorder.plain())
            if report.when == "teardown":
                report.user_properties += self._recorder.properties()

    def end(self) -> None:
        """Stop listening: the test is over, with all its reports."""
        if self._recorder is not None:
            self._listening.close()
            self._recorder = None


def enter(report: pytest.TestReport, ledger: Ledger) -> None:
    """Enter a report in the ledger, whichever process it comes from."""
    node = getattr(report, "node", None)
    kind = "subtest" if type(report).__name__.lower() == "subtestreport" else str(report.when)
    data = report.__dict__.get(CHANNEL)
    ledger.ran += kind == "call" and report.outcome != "skipped"
    failure = None
    if report.outcome == "failed" and data is not None:
        failure = _failure(report, kind)
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
    ledger.add(
        report.nodeid,
        kind,
        report.outcome,
        data=data,
        process=node.gateway.id if node is not None else "",
        xfail=hasattr(report, "wasxfail"),
        reason=reason.removeprefix("Skipped: "),
        seconds=0.0 if kind == "subtest" else report.duration,
        failure=failure,
        said=list(_properties(report, PROPERTY)),
        met=list(_properties(report, MET)),
        missed=list(_properties(report, MISSED)),
    )


def _properties(report: pytest.TestReport, name: str) -> Iterator[str]:
    """Yield what ours have noted under a name; of others there may be anything."""
    properties: Sequence[object] = report.user_properties
    for found in properties:
        if isinstance(found, (tuple, list)) and len(found) == 2 and found[0] == name:
            yield str(found[1])


_WORD = r"""(?:'[^']*'|"'"|[\w@%+=:,./-])+"""
"""A word as `shlex.quote` writes it: it ends where anything else follows, such as a quote."""
_OPTION = rf"--linkmode-(?:fault|schedule)={_WORD}"
_REPLAY = rf"{_OPTION}(?: {_OPTION})*"
_HEAD, _TAIL = 2000, 2000
"""How many letters of a failure are kept: what begins it, and what ends it."""


def _failure(report: pytest.TestReport, kind: str) -> Failure:
    """Return what failed, with the options that its text says replay it."""
    from pytest_linkmode.coverage import Failure

    text = report.longreprtext
    context = getattr(report, "context", None)
    where = str(getattr(context, "msg", "") or kind) if kind == "subtest" else kind
    return Failure(where, _cut(text), replays_in(text))


def replays_in(text: str) -> tuple[str, ...]:
    """Return the options by which each case of a failure is seen again, as they were written."""
    return tuple(dict.fromkeys(re.findall(_REPLAY, text, re.ASCII)))


def _cut(text: str) -> str:
    """Return a text without its middle, if it is long: by whole lines, where it has any."""
    left = len(text) - _HEAD - _TAIL
    if left <= 0:
        return text
    head = text[:_HEAD].rpartition("\n")[0] or text[:_HEAD]
    tail = text[-_TAIL:].partition("\n")[2] or text[-_TAIL:]
    return f"{head}\n... {len(text) - len(head) - len(tail):,} letters more ...\n{tail}"


CUT = r"\.\.\. [\d,]+ letters more \.\.\."
"""The line in place of what was cut, as a regular expression."""
