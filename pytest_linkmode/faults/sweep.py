"""Sweeps: every call of a program made to fail in every way, one run for each.

A sweep runs the program once as it is and counts its calls. Then it runs it anew for each
combination of call and error, and for a kill before and after each call, every time on a fresh
target, and hands each run to the caller as a `Case`: a context whose body says what must hold. A
case whose body fails is reported with the line that replays it; the others are one count.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import TracebackType
from typing import Protocol

from linker.failures import printable
from pytest_linkmode.errors import LinkmodeError, UsageError
from pytest_linkmode.faults.fresh import Fresh
from pytest_linkmode.faults.log import Call
from pytest_linkmode.faults.running import Command, ProgramTimedOut, Run
from pytest_linkmode.faults.spec import EFFECTS, MET, OPS, Fault, Kill, Spec, matcher
from pytest_linkmode.processes import ended

SHOWN = 10
"""How many failed cases are shown in full where there are no subtests to show them."""


class SubTests(Protocol):
    """The fixture `subtests` of pytest 9, or of the plugin pytest-subtests."""

    def test(self, msg: str | None = None) -> AbstractContextManager[None]:
        """Return a context whose failure is reported, and goes no further."""


class SweepFailed(AssertionError):
    """Cases of a sweep failed, and there were no subtests to report them one by one."""


@dataclass
class Report:
    """What a sweep came to.

    `total` cases there were, `chosen` of them were within the budget; `unreached` are those whose
    fault hit no call, because the program made fewer of them than when they were counted.
    `replayed` says of each line that was to be replayed whether it hit one. `failing` is how the
    program ended without a fault, where that was a failure.
    """

    name: str
    total: int = 0
    chosen: int = 0
    ran: int = 0
    unreached: int = 0
    failed: list[tuple[Case, BaseException]] = field(default_factory=list)
    reported: int = 0
    calls: Mapping[str, int] = field(default_factory=dict)
    replayed: Mapping[str, bool] = field(default_factory=dict)
    failing: str = ""

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {op}" for op, count in self.calls.items() if count)
        text = f"swept {self.ran} cases of {self.name}"
        if counted:
            text += f" (calls: {counted})"
        text += f": {len(self.failed)} failed"
        if self.unreached:
            text += f", {self.unreached} met no call"
        if self.chosen < self.total:
            text += (
                f"; {self.total - self.chosen} of {self.total} not run, evenly sampled "
                f"(--linkmode-budget={self.chosen})"
            )
        if self.ran < self.chosen:
            text += f"; left after {self.ran} of {self.chosen}"
        if self.failing:
            text += f"; without a fault it failed: {self.failing}"
        return text


@dataclass(eq=False)
class Case:
    """One run of the program with its faults. Use it as a context around what must hold.

    `faults` is empty in the first case of a sweep, the run without any.
    """

    faults: tuple[Spec, ...]
    run: Run
    _over: Callable[[Case, BaseException | None], bool] = field(repr=False)
    _calls: tuple[Call, ...] = field(repr=False)

    @cached_property
    def hit(self) -> Call | None:
        """The call that was hit, None where none was."""
        lines = {str(fault) for fault in self.faults}
        return next((call for call in self.run.calls if call.fault in lines), None)

    @cached_property
    def replay(self) -> str:
        """The options that show this case again; empty for the run without a fault."""
        line = self.hit.fault if self.hit is not None else ""
        shown = [
            replay_of(fault, self.hit, self._calls) if str(fault) == line else fault
            for fault in self.faults
        ]
        return " ".join(f"--linkmode-fault={shlex.quote(str(fault))}" for fault in shown)

    def __enter__(self) -> Case:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        return self._over(self, error)

    @property
    def killed(self) -> bool:
        """Whether the program was killed here, so that it had no chance to clean up."""
        return any(isinstance(fault, Kill) for fault in self.faults) and self.hit is not None

    def __str__(self) -> str:
        if not self.faults:
            return "no fault"
        what = " and ".join(str(fault) for fault in self.faults)
        where = f" at {self.hit.path}" if self.hit is not None else ", not reached"
        return printable(what + where)


def cases(
    calls: Sequence[Call],
    ops: Iterable[str],
    errors: Iterable[str] | None,
    *,
    kills: bool,
    below: str | None,
) -> list[Spec]:
    """Return every fault that a sweep over these calls tries, in order."""
    meant = matcher(None, below)
    found: list[Spec] = []
    given = None if errors is None else tuple(errors)
    for op in ops:
        count = len(
            {call.nth for call in calls if call.op == op and meant(call.paths, _changed(call))}
        )
        tried = MET[op] if given is None else given
        for nth in range(1, count + 1):
            found += [
                Fault(op, error, nth, below=below)
                for error in tried
                if op in EFFECTS.get(error, (op,))
            ]
            if kills:
                found += [Kill(op, nth, "before", below=below), Kill(op, nth, "after", below=below)]
    return found


def _changed(call: Call) -> int:
    return 2 if call.op == "rename" else 1


GOLDEN = 0.6180339887498949


def sample(found: Sequence[Spec], budget: int | None) -> list[Spec]:
    """Return at most `budget` of the faults, evenly spread and in their order.

    They are chosen by the golden ratio and not by a stride: a stride that has the length of the
    list of errors in it would try one error only.
    """
    if budget is None or len(found) <= budget:
        return list(found)
    ranked = sorted(range(len(found)), key=lambda index: index * GOLDEN % 1)
    return [found[index] for index in sorted(ranked[:budget])]


def replay_of(fault: Spec, hit: Call | None, calls: Sequence[Call]) -> Spec:
    """Return the fault by which a case is seen again, naming the path rather than a number.

    `calls` are those of the run without faults. With several threads the nth call is another one
    each time, so a name is better, as long as it is one: where the program makes up names, the
    number stays. An error keeps its number among the calls about that name, even if there was one:
    a program that tries again makes more of them, and the case refused only this one.
    """
    if hit is None or not hit.path:
        return fault
    same = [call for call in calls if call.op == fault.op and call.path == hit.path]
    if not same:
        return fault
    pattern = _pattern(hit, [call for call in calls if call.op == fault.op])
    meant = matcher(pattern, None)
    alike = [call.nth for call in calls if call.op == fault.op and meant(call.paths, 1)]
    numbers = list(dict.fromkeys(alike))
    alone = fault.nth is None or (isinstance(fault, Kill) and len(numbers) < 2)
    nth = None if alone else min(sum(each < hit.nth for each in numbers) + 1, len(numbers))
    return replace(fault, nth=nth, path=pattern, below=None)


def _pattern(hit: Call, calls: Sequence[Call]) -> str:
    """Return the shortest ``*/…`` that means the path of `hit` and no other path of its op."""
    words = hit.path.strip("/").split("/")
    others = {path for call in calls for path in call.paths if call.path != hit.path}
    for count in range(1, len(words)):
        tail = "/" + "/".join(words[-count:])
        if not any(other.endswith(tail) for other in others):
            return "*" + _escaped(tail)
    return "*/" + _escaped("/".join(words[-2:]))


def _escaped(text: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in text)


class Sweep:
    """One sweep under way: iterate over it."""

    def __init__(
        self,
        command: Command,
        *,
        ops: Iterable[str],
        errors: Iterable[str] | None,
        kills: bool,
        faults: Sequence[Spec],
        below: str | None,
        target: str | os.PathLike[str] | None,
        prepare: Callable[[], object] | None,
        budget: int | None,
        failures: tuple[type[BaseException], ...],
        subtests: SubTests | None,
        run: Callable[[Sequence[Spec]], Run],
        replay: Sequence[Spec],
        alone: Callable[[], str],
    ) -> None:
        if target is None and prepare is None:
            raise UsageError(
                "a sweep needs a fresh target for every case",
                why="otherwise each case would meet what the one before it left",
                hint="give target=DIRECTORY, which is put back as it was, or prepare=, a function",
            )
        self._ops = tuple(dict.fromkeys(ops))
        if unknown := sorted(set(self._ops) - set(OPS)):
            raise UsageError(f"cannot sweep {', '.join(unknown)}", why=f"ops are {', '.join(OPS)}")
        self._errors = errors
        self._kills = kills
        self._faults = tuple(faults)
        self._below = below
        self._target = target
        self._prepare = prepare
        self._budget = budget
        self._failures = failures
        self._subtests = subtests
        self._run = run
        self._replay = replay
        self._alone = alone
        self._calls: tuple[Call, ...] = ()
        self.report = Report(_name(command))

    def __iter__(self) -> Iterator[Case]:
        with ExitStack() as held:
            self._fresh = None if self._target is None else held.enter_context(Fresh(self._target))
            if self._replay:
                yield from self._case(self._narrowed())
                return
            first = self._once(())
            self.report.failing = _failing(first)
            self._calls = first.calls
            found = cases(
                self._calls, self._ops, self._errors, kills=self._kills, below=self._below
            )
            if not found:
                raise LinkmodeError(
                    f"nothing to sweep: {self.report.name} made no such call",
                    why=f"it made {len(self._calls)} calls of {', '.join(self._ops)}"
                    + (f", none below {self._below}" if self._below and self._calls else ""),
                    hint="look at run(...).calls for what it does",
                )
            self.report.calls = {
                op: len({call.nth for call in self._calls if call.op == op}) for op in self._ops
            }
            chosen = sample(found, self._budget)
            self.report.total, self.report.chosen = len(found), len(chosen)
            yield self._finished((), first)
            for fault in chosen:
                yield from self._case((fault,))

    def _narrowed(self) -> tuple[Spec, ...]:
        """Return the faults to replay; one told by number means what this sweep counts."""
        return tuple(
            replace(fault, below=self._below)
            if fault.path is None and fault.below is None
            else fault
            for fault in self._replay
        )

    def _once(self, faults: Sequence[Spec]) -> Run:
        if self._fresh is not None:
            self._fresh.restore()
        if self._prepare is not None:
            self._prepare()
        return self._run((*self._faults, *faults))

    def _case(self, faults: tuple[Spec, ...]) -> Iterator[Case]:
        self.report.ran += 1
        try:
            run = self._once(faults)
        except ProgramTimedOut as late:
            case = self._finished(faults, late.run)
            self._over(case, late)
            return
        if not any(each in run.fired for each in faults):
            self.report.unreached += 1
        yield self._finished(faults, run)

    def _finished(self, faults: tuple[Spec, ...], run: Run) -> Case:
        if self._replay:
            self.report.replayed = {
                str(given): meant in run.fired
                for given, meant in zip(self._replay, faults, strict=True)
            }
        return Case(faults, run, self._over, self._calls)

    def _over(self, case: Case, error: BaseException | None) -> bool:
        """Take note of how a case ended; return whether its failure has been dealt with."""
        if error is None or not isinstance(error, self._failures):
            return False
        if case.replay:
            line = f"{self._alone()} {case.replay}".lstrip()
            error.add_note(f"{case}\nreplay this case with {line}")
        self.report.failed.append((case, error))
        if self._subtests is None:
            return True
        self.report.reported += 1
        _fail(self._subtests, str(case), error)
        return True


def _name(command: Command) -> str:
    """Return what a command is called in a report."""
    if callable(command):
        return str(getattr(command, "__name__", type(command).__name__))
    return os.path.basename(command[0])


def _failing(run: Run) -> str:
    """Return in words how a program failed by itself, nothing if it did not."""
    if run.error is not None:
        return type(run.error).__name__
    return ended(run.returncode) if run.returncode else ""


def _fail(subtests: SubTests, name: str, error: BaseException) -> None:
    with subtests.test(msg=name):
        raise error


def failure(report: Report, alone: str = "") -> SweepFailed | None:
    """Return the error that tells of the failed cases which nobody has reported yet.

    `alone` is the command line to which the options belong that replay a case.
    """
    failed = report.failed[report.reported :]
    if not failed:
        return None
    lines = [str(report)]
    for case, error in failed[:SHOWN]:
        said = str(error).strip().splitlines()
        lines.append(f"{case}: {type(error).__name__}{': ' + said[0] if said else ''}")
        if case.replay:
            lines.append(f"  {alone} {case.replay}" if alone else f"  {case.replay}")
    if len(failed) > SHOWN:
        lines.append(f"… and {len(failed) - SHOWN} more")
    raised = SweepFailed("\n".join(lines))
    raised.__cause__ = failed[0][1]
    return raised
