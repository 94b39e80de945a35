"""Run any program with faults: `FaultRunner`, which the fixture `linkmode_faults` gives to tests.

The program gets a filter of its own, put on between fork and exec, so nothing has to be patched,
nobody else is touched, and a static binary, its threads and its children meet it alike. It needs
no privilege: the program gives up the right to gain any (so sudo does not work inside).
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_linkmode.errors import Unavailable, UsageError
from pytest_linkmode.faults.ops import architecture, calls_of
from pytest_linkmode.faults.plan import Plan
from pytest_linkmode.faults.running import Command, ProgramTimedOut, Run, Running
from pytest_linkmode.faults.spec import OPS, WINDOWS, WITHIN, Spec, specs_of
from pytest_linkmode.faults.support import unavailable
from pytest_linkmode.processes import words_of

if TYPE_CHECKING:
    from pytest_linkmode.faults.sweep import Case, Report, SubTests, Sweep
    from pytest_linkmode.faults.zygote import Zygotes

__all__ = ["Command", "FaultRunner", "ProgramTimedOut", "Run"]

WITNESSED = frozenset({"clone", "hardlink", "symlink", "copy", "create"})
"""The ops of which a witness wants to know."""


class FaultRunner:
    """Runs programs with faults, and sweeps over all of them. The fixture `linkmode_faults`.

    `budget` bounds sweeps, `replay` narrows them to one case, `subtests` and `say` are where they
    report to, `replayed` is told of each line of `replay` whether it hit a call, `failures` are the
    exceptions that make a case fail; see `sweep`. `witness` is told of every program that has run.
    `alone` returns the command line that runs this test and no other, to which the options that
    replay a case belong. `signals` are those that are passed on to a program while it runs, which
    ends by them or does not. A `thorough` one leaves no fault to the kernel, so that `Run.fired`
    and `Run.escapes` tell of all.
    """

    def __init__(
        self,
        *,
        budget: int | None = None,
        replay: Sequence[Spec] = (),
        subtests: SubTests | None = None,
        say: Callable[[str], None] | None = None,
        replayed: Callable[[str, bool], None] | None = None,
        failures: tuple[type[BaseException], ...] = (Exception,),
        zygotes: Zygotes | None = None,
        witness: Callable[[Run], None] | None = None,
        alone: Callable[[], str] = str,
        signals: Iterable[int] = (),
        thorough: bool = False,
    ) -> None:
        self._witness = witness
        self._thorough = thorough
        self._signals = tuple(signals)
        self.alone = alone
        self.budget = budget
        self.replay = tuple(replay)
        self._subtests = subtests
        self._say = say
        self._replayed = replayed
        self._failures = failures
        self._zygotes = zygotes
        self._reports: list[Report] = []

    def run(
        self,
        command: Command,
        *,
        faults: Iterable[Spec | str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        timeout: float | None = 60.0,
        input: str | bytes | None = None,  # noqa: A002  # the keyword of subprocess.run
        check: bool = False,
        capture: bool = True,
        serial: bool = False,
        results: bool = False,
        log: Iterable[str] = OPS,
    ) -> Run:
        """Run a program to its end, or call a function, and return what it did.

        The keywords are those of `subprocess.run`; `timeout` is in seconds, standard input is
        empty unless `input` is given, output is text (UTF-8, odd bytes as surrogates) unless
        `capture` is false: then the program has our streams, and `input` means nothing. The run
        lasts until the main process has ended and its output is closed; what it left running is
        then ended, and so is all of it at a time-out.

        `faults` are `Fault`s, `Kill`s or the lines that `parse` reads. `log` names the ops whose
        calls are logged. Every call that is logged is looked at, at some microseconds each; a
        fault that hits every call of an op that is not logged is left to the kernel and costs
        nothing. `results` has the log say what came of each call, and `serial` lets one such call
        be under way at a time, so that with several threads the order of the log is that of the
        calls; both take a slower mechanism, as do `Kill(when="after")` and ``SHORT``.

        A function is called here, on any operating system, and meets the faults where it uses
        Python's own functions (see `standins`); results are always seen, a `Kill` is an exception
        that no later operation survives, and the keywords of `subprocess.run` mean nothing.

        Raises OSError if the program cannot be started, ProgramTimedOut, CalledProcessError if
        `check` is true and it failed, UsageError for a fault that means nothing, and Unavailable,
        saying what is in the way, where the system allows no such filter.
        """
        specs = specs_of(faults)
        logged = frozenset(log)
        if unknown := sorted(logged - set(OPS)):
            raise UsageError(f"cannot log {', '.join(unknown)}", why=f"ops are {', '.join(OPS)}")
        if callable(command):
            run = _call(command, specs, logged)
            if check and run.error is not None:
                raise run.error
            return run
        refused = unavailable()
        arch = architecture() if refused is None else None
        if refused is not None or arch is None:
            raise refused or Unavailable("faults in programs")
        if inner := sorted({spec.op for spec in specs} & set(WITHIN)):
            raise UsageError(
                f"a program cannot have faults of {', '.join(inner)}",
                why="only the reference linker says which of its calls these are",
                hint=f"ops of programs are {', '.join(OPS)}",
            )
        if foreign := [spec for spec in specs if getattr(spec, "errno_name", "")[:6] == WINDOWS]:
            raise UsageError(
                f"a program cannot have the fault {foreign[0]}",
                why="programs are faulted on Linux, and this is an error of Windows",
                hint="name an error of Linux, as in clone:EOPNOTSUPP",
            )
        for spec in specs:
            if spec.way is not None and spec.way not in (calls := calls_of(spec.op)):
                raise UsageError(
                    f"a program cannot have the fault {spec}",
                    why=f"no system call {spec.way} does a {spec.op}: these do: {', '.join(calls)}",
                )
        argv = words_of(command)
        if self._witness is not None:
            # What came of calls is part of what is witnessed.
            logged |= WITNESSED
            results = True
        plan = Plan(specs, logged, arch, results or serial, thorough=self._thorough)
        data = input.encode("utf-8", "surrogateescape") if isinstance(input, str) else input
        with self._pool().borrow() as zygote:
            streams = None if capture else (0, 1, 2)
            running = Running(
                zygote, plan, argv, data, streams, serial=serial, signals=self._signals
            )
            run, late = running.run(env, cwd, timeout)
        if self._witness is not None:
            self._witness(run)
        if late and timeout is not None:
            raise ProgramTimedOut(run, timeout)
        if check and run.returncode:
            raise subprocess.CalledProcessError(run.returncode, argv, run.stdout, run.stderr)
        return run

    def sweep(
        self,
        command: Command,
        *,
        ops: Iterable[str] = OPS,
        errors: Iterable[str] | None = None,
        kills: bool = True,
        target: str | os.PathLike[str] | None = None,
        prepare: Callable[[], object] | None = None,
        faults: Iterable[Spec | str] = (),
        below: str | os.PathLike[str] | None = None,
        budget: int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        timeout: float | None = 60.0,
        input: str | bytes | None = None,  # noqa: A002  # the keyword of subprocess.run
        serial: bool = False,
    ) -> Iterator[Case]:
        """Run a program (or a function) once for every call and error, and yield each as a `Case`.

        The first case is the run without a fault, in which the calls of `ops` are counted (only
        those `below` a directory, if one is given). Then comes one for each call and each of
        `errors` (default: those that its op meets in the field, `spec.MET`; EINTR hits once) and,
        unless `kills` is false, a SIGKILL before and after each call. `faults` are in force in
        every case. `target` is a directory that is put back as it was before each case, `prepare`
        a function that is called before each; at least one of them is needed.

        The body of ``with case:`` says what must hold. Where it fails, the case is reported as a
        subtest with the line that replays it; without the fixture `subtests` the sweep raises
        SweepFailed at its end, with all of them. A case that takes longer than `timeout` seconds
        fails. More cases than `budget` are sampled evenly, and what was not run is said.

        Raises what `run` raises, and LinkmodeError if there was nothing to sweep.
        """
        from pytest_linkmode.faults.sweep import Sweep

        wanted = tuple(ops)

        def run(specs: Sequence[Spec]) -> Run:
            return self.run(
                command,
                faults=specs,
                env=env,
                cwd=cwd,
                timeout=timeout,
                input=input,
                serial=serial,
                log=wanted,
            )

        sweep = Sweep(
            command,
            ops=wanted,
            errors=errors,
            kills=kills,
            faults=specs_of(faults),
            below=None if below is None else os.fspath(below),
            target=target,
            prepare=prepare,
            budget=self.budget if budget is None else budget,
            failures=self._failures,
            subtests=self._subtests,
            run=run,
            replay=self.replay,
            alone=self.alone,
        )
        return self._swept(sweep)

    def _swept(self, sweep: Sweep) -> Iterator[Case]:
        self._reports.append(sweep.report)
        try:
            yield from sweep
        finally:
            if self._say is not None:
                self._say(str(sweep.report))
            if self._replayed is not None:
                for line, met in sweep.report.replayed.items():
                    self._replayed(line, met)
        self.close()

    def close(self) -> None:
        """Raise SweepFailed if cases failed that nobody has reported: a sweep left half-way."""
        from pytest_linkmode.faults.sweep import failure

        reports, self._reports = self._reports, []
        for report in reports:
            failed = failure(report, self.alone() if report.failed else "")
            if failed is not None:
                raise failed

    def _pool(self) -> Zygotes:
        if self._zygotes is None:
            from pytest_linkmode.faults.zygote import SHARED

            self._zygotes = SHARED
        return self._zygotes


def _call(function: Callable[[], object], faults: Sequence[Spec], log: Iterable[str]) -> Run:
    """Call a function with faults in this process, and return the run."""
    from pytest_linkmode.faults.inprocess import Injection, Killed

    injection = Injection(faults, log=log, ends=(Exception,))
    began = time.perf_counter()
    with injection:
        function()
    seconds = time.perf_counter() - began
    name = getattr(function, "__qualname__", type(function).__qualname__)
    error = None if isinstance(injection.error, Killed) else injection.error
    return Run(
        (f"{function.__module__}.{name}",),
        -9 if injection.killed else int(error is not None),
        "",
        "" if error is None else f"{type(error).__name__}: {error}\n",
        fired=injection.fired,
        counts=injection.counts,
        escapes=(),
        seconds=seconds,
        _log=injection.calls,
        error=error,
    )
