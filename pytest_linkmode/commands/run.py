"""`linkmode run`: a command of any kind, with real filesystems in a namespace of its own.

For projects whose tests are not Python, and for a pytest whose process has threads before it
could go in. The command finds each filesystem by an environment variable, gets the signals that
are meant for it, and its exit status is ours; when it has ended nothing is left, however it ended.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

from linker.cli import complain
from linker.failures import printable
from pytest_linkmode.commands.words import something
from pytest_linkmode.errors import LinkmodeError, Unavailable, UsageError
from pytest_linkmode.processes import held_back, sent_by_a_process

if TYPE_CHECKING:
    from pytest_linkmode.config import Settings
    from pytest_linkmode.faults.running import Run
    from pytest_linkmode.faults.spec import Spec
    from pytest_linkmode.layouts import Workshop

OURS = 125
"""The filesystems cannot be had; the numbers are those of env(1), timeout(1) and their like."""
NOT_EXECUTABLE = 126
NOT_FOUND = 127

TEMPORARY = ("TMPDIR", "TEMP", "TMP") if sys.platform == "win32" else ("TMPDIR",)
"""The variables by which programs of this system find the directory for temporary files."""

EPILOG = f"""\
environment of the command:
  LINKMODE_DIR_<FS>  an empty directory on each filesystem of --fs; a pytest
                     that the command runs uses it
  {", ".join(TEMPORARY):<17}  one on the filesystem of --tmp
  NAME               one on FS, for each --env NAME=FS

exit status: that of the command (or its signal), or
  {OURS}  what was asked for cannot be had
  {NOT_EXECUTABLE}  the command cannot be executed
  {NOT_FOUND}  there is no such command
  2    wrong usage: nothing was done
"""


def _known(*names: str) -> frozenset[signal.Signals]:
    return frozenset(getattr(signal, name) for name in names if hasattr(signal, name))


KEYS = _known("SIGINT", "SIGQUIT", "SIGBREAK")
"""What keys send, to the command as well as to us."""
FORWARDED = KEYS | _known("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM")
"""What is passed on, if a process has sent it."""


_COMMAND = "what is run, with its arguments: all that follows the two dashes"


def configure(parser: argparse.ArgumentParser) -> None:
    """Say what `linkmode run` takes."""
    parser.usage = (
        "linkmode run [--fs NAMES] [--tmp FS] [--env NAME=FS] [--fault SPEC]\n"
        "                    [--provider NAME] [--image-size SIZE] -- COMMAND"
    )
    parser.add_argument(
        "--fs",
        action="append",
        type=something,
        default=[],
        metavar="NAMES",
        help="filesystems to make, as in btrfs,xfs; 'btrfs?' means if it can be had",
    )
    parser.add_argument(
        "--tmp", type=something, metavar="FS", help="the filesystem for temporary files"
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=FS",
        help="a variable that names another directory on a filesystem; may be repeated",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="SPEC",
        help="let calls of the command fail, as in clone:EOPNOTSUPP:nth=3; may be repeated",
    )
    parser.add_argument(
        "--provider", type=something, metavar="NAME", help="get filesystems in this way only"
    )
    parser.add_argument("--image-size", metavar="SIZE", help="of each, as in 512M; default: 2G")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help=_COMMAND)
    parser.set_defaults(run=run, json=False)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status, or end by the signal that ended it."""
    command = arguments.command[arguments.command[:1] == ["--"] :]
    if not command:
        raise UsageError("no command", hint="write it after two dashes: linkmode run -- make test")
    settings = _settings(arguments)
    wishes = _wishes(arguments, settings)
    start = _plain if not arguments.fault else _with_faults(arguments.fault)
    with ExitStack() as stack:
        try:
            environment = _made(stack, settings, wishes)
            status = start(command, {**os.environ, **environment})
        except UsageError:
            raise
        except LinkmodeError as error:
            for line in str(error).splitlines():
                complain(printable(line))
            return OURS
    if status < 0:
        _end_by(-status)
        return 128 - status
    # A status of Windows has 32 bits, and only as a signed number can it be ours.
    return status - (1 << 32) if status >= 1 << 31 else status


def _settings(arguments: argparse.Namespace) -> Settings:
    from pytest_linkmode import config

    settings = replace(config.from_environment(), provider=arguments.provider)
    if arguments.image_size is not None:
        size = config.parse_size(arguments.image_size, "--image-size")
        settings = replace(settings, image_size=size)
    return settings


Wishes = Sequence[tuple[str, str, bool]]
"""Variable, filesystem, and whether it may be missing."""


def _wishes(arguments: argparse.Namespace, settings: Settings) -> Wishes:
    """Return what directories the command is to have. Raises UsageError for a wrong word."""
    from pytest_linkmode.config import DIRECTORY_VARIABLE
    from pytest_linkmode.filesystems import kind_of, ladder

    wishes: list[tuple[str, str, bool]] = []
    for word in (word for text in arguments.fs for word in text.replace(",", " ").split()):
        name = word.removesuffix("?")
        wishes.append((DIRECTORY_VARIABLE + name.upper().replace("-", "_"), name, word != name))
    if arguments.tmp:
        wishes.append(("TMPDIR", arguments.tmp, False))
    for text in arguments.env:
        variable, equals, name = text.partition("=")
        if not (variable and equals and name):
            raise UsageError(f"--env {text}", why="not NAME=FS", hint="as in UV_CACHE_DIR=btrfs")
        if sys.platform == "win32":
            variable = variable.upper()  # as all are there
        wishes.append((variable, name, False))
    for _, name, _ in wishes:
        ladder(kind_of(name), settings)
    return wishes


def _made(stack: ExitStack, settings: Settings, wishes: Wishes) -> Mapping[str, str]:
    """Enter the place and make the filesystems. Raises Unavailable with all that is missing."""
    from pytest_linkmode import ladder
    from pytest_linkmode.layouts import Workshop

    place = ladder.find_place(settings)
    workshop = stack.enter_context(closing(Workshop(place, settings)))
    environment: dict[str, str] = {}
    causes: list[Unavailable] = []
    for variable, name, optional in wishes:
        try:
            environment[variable] = _directory(workshop, variable, name)
        except Unavailable as cause:
            if not optional:
                causes.append(cause)
    if causes:
        raise Unavailable.all_of("not everything can be had here", causes)
    if TEMPORARY[0] in environment:
        for variable in TEMPORARY:
            environment.setdefault(variable, environment[TEMPORARY[0]])
    if place.note and wishes:
        complain(printable(place.note))
    return environment


def _directory(workshop: Workshop, variable: str, name: str) -> str:
    path = workshop.directory(name)
    if variable == TEMPORARY[0]:
        everybodys = sys.platform != "win32" and os.geteuid() == 0
        os.chmod(path, 0o1777 if everybodys else 0o700)  # as /tmp is
    return path


Start = Callable[[Sequence[str], Mapping[str, str]], int]


def _plain(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command on our own streams; return its status, negative for a signal."""
    told_of_senders = hasattr(signal, "sigwaitinfo")  # not on macOS, nor on Windows
    try:
        run = _run_telling if told_of_senders else _run_handling
        return run(_resolved(command, environment), environment)
    except OSError as error:
        return _not_started(command, error)


def _not_started(command: Sequence[str], error: OSError) -> int:
    """Say why a command could not be started; return the status for that."""
    if isinstance(error, FileNotFoundError):
        complain(f"{command[0]}: not found")
        return NOT_FOUND
    complain(f"{command[0]}: {error.strerror}")
    return NOT_EXECUTABLE


def _resolved(command: Sequence[str], environment: Mapping[str, str]) -> Sequence[str]:
    """Return a command by the path of its program, where the system itself finds fewer than its
    shell does: on Windows what ends in .exe, and not what PATHEXT names besides.
    """
    if sys.platform == "win32":
        found = shutil.which(command[0], path=environment.get("PATH"))
        return command if found is None else [found, *command[1:]]
    return command


def _run_telling(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command where each signal comes with its sender: what processes send is passed on."""
    # From before the command exists until after its end: no signal may find us unprepared.
    with held_back({*FORWARDED, signal.SIGCHLD}) as before:

        def prepare() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            _die_with_parent()

        # There are no threads here: preexec_fn is safe.
        with subprocess.Popen(command, env=environment, preexec_fn=prepare) as process:
            return _attended(process)


def _attended(process: subprocess.Popen[bytes]) -> int:
    """Pass signals, which are blocked, on until the command has ended."""
    while (status := process.poll()) is None:
        caught = signal.sigwaitinfo({*FORWARDED, signal.SIGCHLD})
        if caught.si_signo != signal.SIGCHLD and sent_by_a_process(caught.si_code):
            process.send_signal(caught.si_signo)
    return status


def _run_handling(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command where nobody says who sent a signal: what no key sends is passed on.

    Handlers do that, which an exec resets; sigwait(3) would wait for ever on macOS, where a
    SIGCHLD without a handler is dropped although it is blocked.
    """
    started: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if number in KEYS:
            return
        if started:
            started[0].send_signal(number)
        else:
            early.append(number)

    # What we were told to ignore, as by nohup(1), the command ignores as well.
    heeded = [each for each in FORWARDED if signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in heeded}
    try:
        with subprocess.Popen(command, env=environment) as process:
            started.append(process)
            for number in early:
                process.send_signal(number)
            return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _die_with_parent() -> None:
    """Let the command be killed if we are: prctl(2), PR_SET_PDEATHSIG."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def _with_faults(specs: Sequence[str]) -> Start:
    from pytest_linkmode.faults import FaultRunner
    from pytest_linkmode.faults.spec import parse

    faults = [parse(spec) for spec in specs]

    def run(command: Sequence[str], environment: Mapping[str, str], *, thorough: bool) -> Run:
        runner = FaultRunner(signals=FORWARDED, thorough=thorough)
        return runner.run(
            command, faults=faults, env=environment, timeout=None, capture=False, log=()
        )

    def start(command: Sequence[str], environment: Mapping[str, str]) -> int:
        missed: Iterable[str] = ()
        try:
            try:
                done = run(command, environment, thorough=True)
                missed = _missed(done, faults)
            except Unavailable:  # nobody can look at calls here: some faults need nobody
                done = run(command, environment, thorough=False)
        except OSError as error:
            return _not_started(command, error)
        for line in (*done.escapes, *missed):
            complain(printable(line))
        return done.returncode

    return start


def _missed(done: Run, faults: Iterable[Spec]) -> Iterator[str]:
    """Yield a line for each fault that hit nothing: what was to be seen was not."""
    for fault in dict.fromkeys(faults):
        if fault not in done.fired:
            count = done.counts[fault.op]
            yield f"--fault {fault}: met no call (calls: {count} {fault.op})"


def _end_by(number: int) -> None:
    """End as the command did, so that who waits for us sees the same."""
    sys.stdout.flush()
    if number in (signal.SIGKILL, signal.SIGSTOP):
        os.kill(os.getpid(), number)
        return
    if hasattr(signal, "SIGQUIT") and sys.platform == "linux":
        import resource

        # One core file is enough.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
