"""The program that starts programs: single-threaded, small, and the parent of what it starts.

A filter must be put on between fork and exec, which is no place for the code of a process that has
threads (a worker of pytest-xdist). So this program is asked instead. It forks, loads the filter,
passes the listener back, and executes; it reaps, it ends whatever is left of a program and of all
that it started, and where results are wanted it is the tracer. It serves one run at a time and
ends when the other end of its channel is gone.

Run as ``python -I -S zygote_program.py DESCRIPTOR``.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

if __name__ == "__main__":
    # Last in line, so that nothing beside this package can hide the standard library.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from pytest_linkmode.faults import abi
from pytest_linkmode.faults.channel import Channel, Message
from pytest_linkmode.faults.ops import ARCHITECTURES

if TYPE_CHECKING:
    from pytest_linkmode.faults.looking import SystemCalls
    from pytest_linkmode.faults.trace import Tracer

_SIGNALS_OF_PYTHON = ("SIGPIPE", "SIGXFSZ")
"""What the interpreter ignores and a program must not inherit as ignored."""


def _send(main: int, number: int) -> None:
    """Send a signal to a main process, which was not reaped, and to its group."""
    try:
        os.killpg(main, number)
    except ProcessLookupError:
        os.kill(main, number)  # it had not come as far as its own session


class _Watching:
    """The run without a tracer: its main process, seen from its parent."""

    waiting = False

    def __init__(self, main: int) -> None:
        self.main = main
        self.status: int | None = None

    def changed(self) -> None:
        """Look whether the main process has ended; it stays unreaped, so its number stays its."""
        if self.status is None:
            found = os.waitid(os.P_PID, self.main, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is not None:
                killed = found.si_code != os.CLD_EXITED
                self.status = -found.si_status if killed else found.si_status

    def overdue(self) -> None:
        """Do nothing: no call is ever held back."""

    def end(self) -> None:
        """End the main process and everything that it started, and reap it all."""
        _send(self.main, signal.SIGKILL)
        _, raw = os.waitpid(self.main, 0)
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(raw)
        while True:
            try:
                reaped, _ = os.waitpid(-1, os.WNOHANG)
                if not reaped:
                    # Orphans of the program are our children now. They are killed by numbers that
                    # cannot be another's, because nobody but us reaps them.
                    for child in _children():
                        os.kill(child, signal.SIGKILL)
                    os.waitpid(-1, 0)
            except ChildProcessError:
                return

    def report(self) -> Message:
        """Return what was found, beside the status."""
        return {}


class _Tracing:
    """The run with a tracer."""

    def __init__(self, main: int, judge: SystemCalls, tracer: Tracer) -> None:
        self.main = main
        self.status: int | None = None
        self._judge = judge
        self._tracer = tracer

    @property
    def waiting(self) -> bool:
        """Whether threads are held back."""
        return self._tracer.waiting

    def changed(self) -> None:
        """Handle every stop and end that there is."""
        while self._reap(os.WNOHANG):
            pass

    def overdue(self) -> None:
        """Let others go on: a call that takes so long waits for one of them."""
        self._tracer.let_in()

    def end(self) -> None:
        """End every process that is followed, and reap it."""
        self._tracer.kill()
        while self._reap(0):
            pass

    def report(self) -> Message:
        """Return the log, which was kept here."""
        return {
            "calls": [
                (r.op, r.nth, r.way, r.paths, r.thread, r.fault, r.result, r.error)
                for r in self._judge.calls()
            ],
            "fired": [(str(fault), count) for fault, count in self._judge.fired.items()],
            "counts": self._judge.counts,
            "escapes": list(self._judge.escapes),
        }

    def _reap(self, options: int) -> bool:
        try:
            thread, status = os.waitpid(-1, options | abi.WALL)
        except ChildProcessError:
            return False
        if not thread:
            return False
        if os.WIFSTOPPED(status):
            self._tracer.stopped(thread, status)
        else:
            self._tracer.ended(thread)
            if thread == self.main:
                self.status = os.waitstatus_to_exitcode(status)
        return True


def _children() -> list[int]:
    """Return our children, found by asking every process for its parent (proc_pid_stat(5))."""
    us, found = str(os.getpid()), []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as stat:
                    parent = stat.read().rpartition(")")[2].split()[1]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == us:
                found.append(int(name))
    return found


class _Failed(Exception):
    """A step between fork and exec that did not work."""

    def __init__(self, stage: str, error: OSError) -> None:
        super().__init__(stage, error)
        self.stage = stage
        self.error = error


def _step(stage: str, step: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return step(*arguments)
    except OSError as error:
        raise _Failed(stage, error) from error


def _become(
    request: Message, streams: list[int], channel: Channel, gate: int | None, parent: int
) -> NoReturn:
    """Turn the forked child into the program."""
    try:
        os.setsid()
        abi.prctl(abi.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(127)
        for name in _SIGNALS_OF_PYTHON:
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # as after the exec: it may come before
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.umask(request["umask"])
        _step("chdir", os.chdir, request["cwd"])
        if gate is not None and not os.read(gate, 1):
            os._exit(127)  # it could not be followed, and who began it knows why
        if request["filter"]:
            arch = ARCHITECTURES[request["arch"]]
            _step("privileges", abi.prctl, abi.PR_SET_NO_NEW_PRIVS, 1)
            listen = request["listen"]
            listener = _step("filter", _load, request["filter"], arch, listen)
            if listen:
                channel.send({"is": "listening"}, [listener])
        _execute(request["paths"], request["argv"], request["env"])
    except _Failed as failed:
        channel.send({"is": "failed", "stage": failed.stage, "errno": failed.error.errno})
    finally:
        if sys.exc_info()[0] is not None:
            sys.excepthook(*sys.exc_info())
        os._exit(127)


def _load(program: bytes, arch: Any, listen: bool) -> int:  # noqa: FBT001  # called by _step
    return abi.load_filter(program, arch, listen=listen)


def _execute(paths: list[bytes], argv: list[bytes], env: dict[bytes, bytes]) -> None:
    """Execute the first of the candidates that is there, as a shell would."""
    refused: OSError | None = None
    for path in paths:
        try:
            os.execve(path, argv, env)
        except (FileNotFoundError, NotADirectoryError) as error:
            refused = refused or error
        except OSError as error:
            if not isinstance(refused, PermissionError):
                refused = error
    assert refused is not None
    raise _Failed("exec", refused)


def _start(request: Message, streams: list[int], channel: Channel) -> _Watching | _Tracing:
    """Fork the program and return how it is watched."""
    us = os.getpid()
    if not request["trace"]:
        main = os.fork()
        if main == 0:
            _become(request, streams, channel, None, us)
        return _Watching(main)
    # Only who asks for results pays for the modules that this takes.
    from pytest_linkmode.faults.looking import SystemCalls
    from pytest_linkmode.faults.plan import Plan
    from pytest_linkmode.faults.spec import parse_all
    from pytest_linkmode.faults.trace import Tracer

    arch = ARCHITECTURES[request["arch"]]
    faults, log = parse_all(request["faults"]), frozenset(request["log"])
    plan = Plan(faults, log, arch, results=True, thorough=request["thorough"])
    judge = SystemCalls(plan)
    tracer = Tracer(judge, arch, serial=request["serial"])
    gate, release = os.pipe()
    main = os.fork()
    if main == 0:
        os.close(release)
        _become({**request, "filter": plan.filter()}, streams, channel, gate, us)
    os.close(gate)
    try:
        tracer.began(main)
        os.write(release, b"\0")
    except OSError as error:
        channel.send({"is": "failed", "stage": "trace", "errno": error.errno})
        return _Watching(main)
    finally:
        os.close(release)
    return _Tracing(main, judge, tracer)


def _serve(channel: Channel, children: int) -> None:
    """Run one program: start it, say when its main process ended, end it all when told to."""
    request = channel.receive()
    streams = channel.take()
    try:
        run = _start(request, streams, channel)
    finally:
        for stream in streams:
            os.close(stream)
    from_patience = int(request["patience"] * 1000)
    ready = select.poll()
    ready.register(channel, select.POLLIN)
    ready.register(children, select.POLLIN)
    told = False
    try:
        while True:
            run.changed()
            if run.status is not None and not told:
                told = True
                channel.send({"is": "exited"})
            while channel.pending:  # what came along with what was received before
                if _told_to_end(channel, run):
                    return
            events = ready.poll(from_patience if run.waiting else None)
            if not events:
                run.overdue()
            for descriptor, _ in events:
                if descriptor == children:
                    os.read(children, 4096)
                elif _told_to_end(channel, run):
                    return
    finally:
        run.end()
        if not sys.exc_info()[0]:
            channel.send({"is": "ended", "status": run.status, **run.report()})


def _told_to_end(channel: Channel, run: _Watching | _Tracing) -> bool:
    """Do what one message asks for; return whether it is the end of the run."""
    message = channel.receive()
    if message["do"] == "end":
        return True
    if run.status is None:
        (_send if message["group"] else os.kill)(run.main, message["signal"])
    return False


def main() -> None:
    """Serve until the other end is gone."""
    end = socket.socket(fileno=int(sys.argv[1]))
    end.set_inheritable(False)  # it was handed down to us, and must not be to the programs
    channel = Channel(end)
    abi.prctl(abi.PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A program unblocks both once it has handlers of its own, or none.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD, signal.SIGINT))
    children = abi.signal_descriptor((signal.SIGCHLD,))
    gc.disable()  # a collection would copy every page that is shared with a child
    gc.freeze()
    try:
        while True:
            _serve(channel, children)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        channel.close()


if __name__ == "__main__":
    main()
