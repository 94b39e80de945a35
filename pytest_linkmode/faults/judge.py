"""The judge of calls: which faults are due, and what is written down.

Every injector asks it, in the order in which it sees the calls, and so the counting of calls, the
matching of paths and the log are the same whatever the mechanism. It reads nothing: what a call is
about is handed to it, as `Seen`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from pytest_linkmode.faults.log import Call, error_name
from pytest_linkmode.faults.ops import Way
from pytest_linkmode.faults.spec import NO_EFFECT, OPS, SHORT, WITHIN, Kill, Spec


class Action(enum.IntEnum):
    """What is to become of one call."""

    CONTINUE = 0
    ANSWER = 1
    """It does not happen; the program is told `value`, or the error `error` unless that is 0."""
    SHORT = 2
    """It happens with half the bytes."""
    KILL_BEFORE = 3
    KILL_AFTER = 4


@dataclass(slots=True)
class Record:
    """A line of the log while its call is under way."""

    op: str
    nth: int
    way: Way
    paths: tuple[str, ...]
    thread: int
    fault: Spec | None = None
    result: int | None = None
    error: int | str | None = None
    """The number of an error of this machine, or the name of any."""

    def call(self) -> Call:
        """Return the finished line."""
        way = self.way.call + (f" ({self.way.note})" if self.way.note else "")
        return Call(
            self.op,
            self.nth,
            way,
            self.paths,
            self.thread,
            "" if self.fault is None else str(self.fault),
            self.result,
            error_name(self.error) if isinstance(self.error, int) else self.error,
        )


Line = tuple[Way, int, tuple[str, ...], int]
"""The same for a call that was only glanced at: way, nth, paths, thread."""


def _plain(way: Way, nth: int, paths: tuple[str, ...], thread: int) -> Call:
    return Record(way.op, nth, way, paths, thread).call()


class Seen(NamedTuple):
    """A call as it was read from its thread, before anybody has decided or counted anything."""

    way: Way
    thread: int
    arguments: tuple[int, ...]
    paths: tuple[str, ...]
    file: int | None = None
    """The number of the file that is copied into."""
    nameless: bool = False


class Verdict(NamedTuple):
    """What is to become of a call, and where that is to be written. `name` is that of the error,
    `error` its number if this machine has one.
    """

    action: Action
    value: int = 0
    error: int = 0
    record: Record | None = None
    name: str = ""


GO_ON = Verdict(Action.CONTINUE)


class Counted:
    """A fault, and how many calls were what it is about."""

    def __init__(self, fault: Spec) -> None:
        self.fault = fault
        self._matches = fault.matches
        self._count = 0
        self._files: dict[int, int] = {}
        self._interrupted: set[object] = set()

    @property
    def any_call(self) -> bool:
        """Whether it counts every call of its op, so that its count is the op's."""
        return self._matches.anything and self.fault.way is None

    def due(self, seen: Seen, nth: int, *, first: bool) -> bool:
        """Count a call, the `nth` of its op (`first`: its file was not copied into before)."""
        fault = self.fault
        if not self.any_call:
            if not self._matches(seen.paths, seen.way.changed):
                return False
            if fault.way is not None and fault.way != seen.way.call:
                return False
            nth, first = self._number(seen)
        if fault.nth is not None and fault.nth != nth:
            return False
        if isinstance(fault, Kill):
            return first
        return fault.errno_name != "EINTR" or self._interrupts(seen)

    def _number(self, seen: Seen) -> tuple[int, bool]:
        """Return which of its calls this is, and whether that is new."""
        if seen.file is None:
            self._count += 1
            return self._count, True
        known = self._files.get(seen.file)
        if known is not None:
            return known, False
        self._count += 1
        self._files[seen.file] = self._count
        return self._count, True

    def _interrupts(self, seen: Seen) -> bool:
        what = (seen.thread, seen.way.call, seen.paths) if seen.file is None else seen.file
        if what in self._interrupted:
            if seen.file is None:
                self._interrupted.remove(what)
            return False
        self._interrupted.add(what)
        return True


class Judge:
    """Decides about each call of one program, and keeps its log.

    `fired` says how many calls each fault hit. Ops in `blind` are those for whose calls nobody
    asks the paths: they need not be read, but for the call that a fault hits.
    """

    def __init__(self, faults: Iterable[Spec], log: Iterable[str]) -> None:
        self.log = frozenset(log)
        self.faults: dict[str, list[Counted]] = {op: [] for op in (*OPS, *WITHIN)}
        for fault in faults:
            self.faults[fault.op].append(Counted(fault))
        self.counts = dict.fromkeys((*OPS, *WITHIN), 0)
        self.records: list[Record | Line] = []
        self.fired: dict[Spec, int] = {}
        self.blind = frozenset(
            op
            for op, counted in self.faults.items()
            if op not in self.log
            and op not in ("copy", "create")
            and all(each.fault.matches.anything for each in counted)
        )
        self._files: dict[int, tuple[int, Record | None]] = {}

    def decide(self, seen: Seen) -> Verdict:
        """Count a call and say what is to become of it."""
        way = seen.way
        nth, last, first = self._number(seen)
        chosen: Spec | None = None
        for counted in self.faults[way.op]:
            # Every fault counts, also where another one is chosen.
            if counted.due(seen, nth, first=first) and chosen is None:
                chosen = counted.fault
        if chosen is not None and way.op in self.blind:
            seen = seen._replace(paths=self.paths(seen))
        record = self._record(seen, nth, last, chosen)
        if chosen is None:
            return GO_ON if record is None else Verdict(Action.CONTINUE, record=record)
        self.fired[chosen] = self.fired.get(chosen, 0) + 1
        return self._verdict(seen, chosen, record)

    def paths(self, seen: Seen) -> tuple[str, ...]:
        """Return what a call is about, of which nobody asked before."""
        return seen.paths

    def claim(self, seen: Seen) -> int:  # noqa: ARG002  # for those who know what it means
        """Return what a call returns that claims success and did nothing."""
        return 0

    def calls(self) -> tuple[Call, ...]:
        """Return the log as it stands."""
        return tuple(
            record.call() if isinstance(record, Record) else _plain(*record)
            for record in self.records
        )

    def _number(self, seen: Seen) -> tuple[int, Record | None, bool]:
        """Return a call's number among those of its op, its line so far, and whether it is new."""
        if seen.file is not None and seen.file in self._files:
            return *self._files[seen.file], False
        op = seen.way.op
        self.counts[op] += 1
        return self.counts[op], None, True

    def _record(
        self, seen: Seen, nth: int, last: Record | None, fault: Spec | None
    ) -> Record | None:
        # The calls that copy one file are one line, until it is done in another way.
        if last is not None and last.way is seen.way and last.fault is fault:
            return last
        record = None
        if seen.way.op in self.log or fault is not None:
            record = Record(seen.way.op, nth, seen.way, seen.paths, seen.thread, fault)
            self.records.append(record)
        if seen.file is not None:
            self._files[seen.file] = (nth, record)
        return record

    def _verdict(self, seen: Seen, fault: Spec, record: Record | None) -> Verdict:
        if isinstance(fault, Kill):
            action = Action.KILL_BEFORE if fault.when == "before" else Action.KILL_AFTER
            return Verdict(action, record=record)
        if fault.errno_name == SHORT:
            return Verdict(Action.SHORT, record=record)
        if fault.errno_name == NO_EFFECT:
            value = self.claim(seen)
            if record is not None:
                record.result, record.error = value, None
            return Verdict(Action.ANSWER, value, record=record)
        if record is not None:
            record.result = None
            record.error = fault.errno_name if fault.number is None else fault.number
        return Verdict(Action.ANSWER, 0, fault.number or 0, record, fault.errno_name)
