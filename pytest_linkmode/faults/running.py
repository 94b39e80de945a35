"""One program under way: its streams, its calls, its end, all in the thread that asked for it."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING

from pytest_linkmode.errors import LinkmodeError
from pytest_linkmode.faults.log import Call
from pytest_linkmode.faults.looking import SystemCalls
from pytest_linkmode.faults.plan import Plan
from pytest_linkmode.faults.spec import Spec, parse
from pytest_linkmode.faults.support import refusal
from pytest_linkmode.processes import held_back, sent_by_a_process

if TYPE_CHECKING:
    from pytest_linkmode.faults.channel import Message
    from pytest_linkmode.faults.supervisor import Supervisor
    from pytest_linkmode.faults.zygote import Zygote

Command = Sequence[str | os.PathLike[str]] | Callable[[], object]
"""A program with its arguments, or a function that is called in this process."""

_CHUNK = 65536
PATIENCE = 1.0
"""Seconds that a call may take, under `serial`, before others go on: it may wait for them."""


@dataclass(frozen=True)
class Run:
    """A program that has run: what `subprocess.run` tells, and what it asked of the system.

    `returncode` is negative for a signal, -9 after a `Kill`. Where a function of Python was called
    in place of a program, it is 0, or 1 if the function raised `error`. `fired` says how many
    calls each fault hit and `counts` how many of each op there were (of a copy, files), as far as
    they were looked at: what a filter answers by itself nobody sees (`FaultRunner.run`). `escapes`
    names what was closed because it could not have been seen: 32-bit calls, io_uring.
    """

    command: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    fired: Mapping[Spec, int]
    counts: Mapping[str, int]
    escapes: tuple[str, ...]
    seconds: float
    _log: Callable[[], tuple[Call, ...]] = field(repr=False, compare=False)
    error: BaseException | None = None

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """The log, in the order in which the calls were seen."""
        return self._log()

    def of(self, *ops: str) -> tuple[Call, ...]:
        """Return the calls of some ops, in order."""
        return tuple(call for call in self.calls if call.op in ops)


class ProgramTimedOut(LinkmodeError):
    """The program did not end in time. It has been ended with all that it started.

    `run` is what there was of it until then.
    """

    def __init__(self, run: Run, timeout: float) -> None:
        super().__init__(
            f"{run.command[0]} did not end within {timeout:g} s",
            why=f"after {len(run.calls)} calls, the last: {run.calls[-1]}" if run.calls else "",
            hint="give it a longer timeout=, or look whether it retries a fault for ever",
        )
        self.run = run
        self.timeout = timeout


class Running:
    """One program under way: its streams, its calls, its end; all in the thread that asked.

    `signals` are those that are passed on to it: what a process sends to the program alone, what a
    key does to its whole group, as a terminal would, for the program has a session of its own.
    """

    def __init__(
        self,
        zygote: Zygote,
        plan: Plan,
        argv: Sequence[str],
        data: bytes | None,
        streams: Sequence[int] | None,
        *,
        serial: bool,
        signals: Iterable[int] = (),
    ) -> None:
        self._zygote = zygote
        self._signals = tuple(signals)
        self._pending: int | None = None
        self._plan = plan
        self._argv = argv
        self._data = memoryview(data or b"")
        self._streams = streams
        self._serial = serial
        self._judge = SystemCalls(plan)
        self._supervisor: Supervisor | None = None
        self._listener: int | None = None
        self._output: dict[int, list[bytes]] = {}
        self._poll = select.poll()
        self._open = ExitStack()
        self._ended: Message | None = None
        self._exited = False
        self._began = 0.0
        self._outputs: list[list[bytes]] = []

    def run(
        self,
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str] | None,
        timeout: float | None,
    ) -> tuple[Run, bool]:
        """Return the finished run, and whether it was ended because its time was up."""
        with held_back(self._signals), self:
            self.begin(env, cwd)
            if self._signals:
                self._listen()
            deadline = None if timeout is None else self._began + timeout
            late = not self._watch(deadline)
            return self.finish(), late

    def __enter__(self) -> Running:
        self._open.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def begin(self, env: Mapping[str, str] | None, cwd: str | os.PathLike[str] | None) -> None:
        """Start the program, inside the context of this object."""
        self._began = time.monotonic()
        with ExitStack() as handed:
            theirs = self._streams or self._pipes(handed)
            self._outputs = list(self._output.values()) or [[], []]
            self._start(_environment(env), _directory(cwd), theirs)

    @property
    def over(self) -> bool:
        """Whether the main process has ended and its output is closed."""
        return self._exited and not self._output

    def attend(self, seconds: float | None) -> bool:
        """Serve what is ready, waiting for it at most so long; return whether anything was."""
        ready = self._poll.poll(None if seconds is None else seconds * 1000)
        for descriptor, event in ready:
            self._serve(descriptor, event)
        return bool(ready)

    def finish(self) -> Run:
        """End whatever still runs, and return what the program did."""
        ended = self._end()
        stdout, stderr = (_text(chunks) for chunks in self._outputs)
        log = self._found(ended)
        return Run(
            tuple(self._argv),
            ended["status"],
            stdout,
            stderr,
            fired=self._judge.fired,
            counts=self._judge.counts,
            escapes=tuple(self._judge.escapes),
            seconds=time.monotonic() - self._began,
            _log=log,
        )

    def _pipes(self, handed: ExitStack) -> list[int]:
        """Return the program's ends of three pipes."""
        theirs: list[int] = []
        for number in range(3):
            reading, writing = os.pipe()
            their, our = (reading, writing) if number == 0 else (writing, reading)
            handed.callback(os.close, their)
            theirs.append(their)
            os.set_blocking(our, False)  # its form
            end = self._open.enter_context(_Descriptor(our))
            if number == 0:
                self._input = end
                self._poll.register(our, select.POLLOUT)
            else:
                self._output[our] = []
                self._poll.register(our, select.POLLIN)
        return theirs

    def _start(self, env: Mapping[bytes, bytes], cwd: bytes, streams: Sequence[int]) -> None:
        plan = self._plan
        self._zygote.start(
            {
                "argv": [os.fsencode(word) for word in self._argv],
                "paths": _candidates(self._argv[0], env),
                "env": env,
                "cwd": cwd,
                "umask": _umask(),
                "arch": plan.arch.name,
                "filter": b"" if plan.traced or not plan.needed else plan.filter(),
                "listen": bool(plan.watched),
                "trace": plan.traced,
                "faults": [str(fault) for fault in plan.faults],
                "log": sorted(plan.log),
                "thorough": plan.thorough,
                "serial": self._serial,
                "patience": PATIENCE,
            },
            streams,
        )
        self._poll.register(self._zygote.channel, select.POLLIN)

    def _listen(self) -> None:
        from pytest_linkmode.faults import abi  # of Linux

        self._pending = abi.signal_descriptor(self._signals)
        self._open.enter_context(_Descriptor(self._pending))
        self._poll.register(self._pending, select.POLLIN)

    def _watch(self, deadline: float | None) -> bool:
        """Go on until the program has ended; return False if its time was up before."""
        while not self.over:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            self.attend(None if left is None else left + 0.001)
            if self._supervisor is not None and self._supervisor.killed:
                return True
        return True

    def _serve(self, descriptor: int, event: int) -> None:
        if descriptor == self._listener:
            gone = not event & select.POLLIN  # nobody is left who could make a call
            if self._supervisor is not None and (gone or not self._heed(self._supervisor)):
                self._poll.unregister(descriptor)
        elif descriptor in self._output:
            chunk = os.read(descriptor, _CHUNK)
            if chunk:
                self._output[descriptor].append(chunk)
            else:
                self._poll.unregister(descriptor)
                del self._output[descriptor]
        elif descriptor == self._zygote.channel.fileno():
            self._hear()
        elif descriptor == self._pending:
            self._pass_on(descriptor)
        else:
            self._feed(descriptor, event)

    def _pass_on(self, pending: int) -> None:
        """Have the zygote, the program's parent, send it a signal that has come."""
        from pytest_linkmode.faults import abi  # of Linux

        number, code = abi.fetch_signal(pending)
        group = not sent_by_a_process(code)
        self._zygote.channel.send({"do": "signal", "signal": number, "group": group})

    def _heed(self, supervisor: Supervisor) -> bool:
        """Answer the calls that wait; return False once the last thread has gone."""
        return supervisor.serve()

    def _feed(self, descriptor: int, event: int) -> None:
        """Write input as far as the program reads it."""
        if self._data and not event & select.POLLERR:
            try:
                self._data = self._data[os.write(descriptor, self._data[:_CHUNK]) :]
            except BrokenPipeError:
                self._data = self._data[:0]
        if not self._data or event & select.POLLERR:
            self._poll.unregister(descriptor)
            self._input.close()

    def _hear(self) -> None:
        """Take what the zygote says."""
        channel = self._zygote.channel
        while True:
            try:
                message = channel.receive()
            except (EOFError, ConnectionResetError) as error:
                raise self._zygote.failure() from error
            match message["is"]:
                case "listening":
                    self._supervise(channel.take()[0])
                case "failed":
                    raise refusal(message["stage"], message["errno"], self._argv[0])
                case "exited":
                    self._exited = True
                case "ended":
                    self._ended = message
            if not channel.pending:
                return

    def _supervise(self, listener: int) -> None:
        self._open.enter_context(_Descriptor(listener))
        self._listener = listener
        from pytest_linkmode.faults.supervisor import Supervisor  # of Linux

        self._supervisor = Supervisor(listener, self._judge)
        self._poll.register(listener, select.POLLIN)

    def _end(self) -> Message:
        """Have everything ended that still runs, and return the zygote's account."""
        self._zygote.channel.send({"do": "end"})
        while self._ended is None:
            self._hear()
        # What was written until the end is in the pipes; nobody is left to write more.
        for descriptor, chunks in self._output.items():
            while chunk := os.read(descriptor, _CHUNK):
                chunks.append(chunk)
        return self._ended

    def _found(self, ended: Message) -> Callable[[], tuple[Call, ...]]:
        """Take over what a tracer has found, and return how the log is made."""
        # Lines of the log are made when somebody reads them: most runs of a sweep are not read.
        if not self._plan.traced:
            return self._judge.calls
        self._judge.fired = {parse(line): count for line, count in ended["fired"]}
        self._judge.escapes = dict.fromkeys(ended["escapes"])
        self._judge.counts = ended["counts"]
        return lambda: tuple(Call(*values) for values in ended["calls"])


class _Descriptor:
    """A descriptor that is closed once, now or at the end."""

    def __init__(self, number: int) -> None:
        self._number: int | None = number

    def __enter__(self) -> _Descriptor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._number is not None:
            os.close(self._number)
            self._number = None


def _environment(env: Mapping[str, str] | None) -> dict[bytes, bytes]:
    items = os.environ if env is None else env
    return {os.fsencode(name): os.fsencode(value) for name, value in items.items()}


def _directory(cwd: str | os.PathLike[str] | None) -> bytes:
    return os.path.abspath(os.fsencode(os.curdir if cwd is None else cwd))


def _candidates(program: str, env: Mapping[bytes, bytes]) -> list[bytes]:
    """Return the files that a program's name may mean, as execvp(3) looks for them."""
    name = os.fsencode(program)
    if b"/" in name:
        return [name]
    path = env.get(b"PATH", os.fsencode(os.defpath))
    return [os.path.join(place or b".", name) for place in path.split(b":")]


def _text(chunks: Sequence[bytes]) -> str:
    return b"".join(chunks).decode("utf-8", "surrogateescape")


def _umask() -> int:
    # Asking by umask(2) would change it for a moment, under the feet of other threads.
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022
