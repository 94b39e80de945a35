"""The one way to run a program: an argument list, a timeout, LC_ALL=C, stderr in the error.

A program of the user's, who may need it, has the user's own locale.

Exit status decides; what a program prints is shown to people, never parsed to find out whether
it succeeded.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pytest_linkmode import HERE
from pytest_linkmode.errors import LinkmodeError, UsageError

SYSTEM_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where filesystem tools lie although an ordinary user's PATH does not say so."""

LINES_SHOWN = 50
LENGTH_SHOWN = 500
"""As much as is shown of what a program printed: the last lines, and the beginning of each."""

GRACE = 0.1
"""Seconds for which output may be kept open before it is looked whether the program has ended."""


@dataclass(frozen=True, slots=True)
class Completed:
    """What a program left behind."""

    arguments: tuple[str, ...]
    stdout: str
    stderr: str
    returncode: int


class CommandFailed(LinkmodeError):
    """A program that could not be started, did not end in time, or ended with an error.

    `status` is the exit status, negative for a signal, or None if there is none. `stderr` is what
    it said, on stdout if it was silent on stderr, as diskpart is.
    """

    def __init__(
        self, argv: Sequence[str], status: int | None, stderr: str, *, why: str, hint: str = ""
    ) -> None:
        self.argv = tuple(argv)
        self.status = status
        self.stderr = stderr
        said = last_lines(stderr)
        super().__init__(
            f"`{shlex.join(self.argv)}` failed", why=f"{why}\n{said}" if said else why, hint=hint
        )


def last_lines(text: str) -> str:
    """Return the end of what a program printed, short enough to be read."""
    lines = text.strip().splitlines()
    left_out = len(lines) - LINES_SHOWN
    above = [f"... {left_out} lines before"] if left_out > 0 else []
    return "\n".join([*above, *map(_shortened, lines[-LINES_SHOWN:])])


def _shortened(line: str) -> str:
    left_out = len(line) - LENGTH_SHOWN
    return f"{line[:LENGTH_SHOWN]} ... {left_out} characters more" if left_out > 0 else line


def which(tool: str) -> str | None:
    """Return the path of a program, looked for in PATH and in the directories of the system."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *SYSTEM_PATH))
    return shutil.which(tool, path=path)


def words_of(command: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Return the words of a command. Raises UsageError for what is not a list of words."""
    if isinstance(command, (str, bytes, os.PathLike)):
        line = os.fsdecode(command)
        hint = f"write [{', '.join(map(repr, _split(line)))}]"
        raise UsageError(f"the command {line!r}", why="it is not a list of words", hint=hint)
    try:
        words = [os.fspath(word) for word in command]
    except TypeError as error:
        raise UsageError(f"the command {command!r}", why=str(error)) from None
    if not words:
        raise UsageError("an empty command", hint='write it as in ["cp", "-a", "from", "to"]')
    return words


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # quotes that are not closed
        return [line]


def run(
    arguments: Sequence[str],
    *,
    timeout: float = 60,
    input: str | None = None,  # noqa: A002  # the keyword of subprocess.run
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    pass_fds: Sequence[int] = (),
    locale: str | None = "C",
) -> Completed:
    """Run a program to its end and return what it printed, as text.

    `env` replaces the environment as in `subprocess.run`; LC_ALL is set to `locale` in either
    case, unless that is None. `timeout` is in seconds; a program that takes longer is killed, on
    Linux with the programs that it has started and that are still its children, or children of
    these. What it leaves behind is not waited for, although it may keep the output open (with
    `input` and on Windows it is, until the time is up). `pass_fds` are descriptors that it
    inherits.

    Raises CommandFailed if it cannot be started or takes too long and, unless `check` is
    false, if its exit status is not 0.
    """
    argv = tuple(os.fspath(argument) for argument in arguments)
    environment = dict(os.environ if env is None else env)
    if locale is not None:
        environment["LC_ALL"] = locale
    found = which(argv[0]) if os.sep not in argv[0] else argv[0]
    try:
        with subprocess.Popen(
            (found or argv[0], *argv[1:]),
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            cwd=cwd,
            env=environment,
            pass_fds=pass_fds,
        ) as process:
            try:
                stdout, stderr = _communicate(process, input, timeout)
            except BaseException as error:
                _end(process)
                if HERE == "win32" and isinstance(error, subprocess.TimeoutExpired):
                    error.stderr = process.communicate()[1].encode()  # which is had only now
                raise
    except subprocess.TimeoutExpired as expired:
        raise CommandFailed(
            argv, None, _text(expired.stderr), why=f"it did not end within {timeout:g} s"
        ) from None
    except OSError as error:
        raise CommandFailed(argv, None, "", why=not_started(error, cwd)) from error
    if check and process.returncode != 0:
        said = stderr if stderr.strip() else stdout
        raise CommandFailed(argv, process.returncode, said, why=ended(process.returncode))
    return Completed(argv, stdout, stderr, process.returncode)


def not_started(error: OSError, cwd: str | os.PathLike[str] | None = None) -> str:
    """Return in words why a program could not be started.

    execve(2) has one error for a file that is missing and for one whose interpreter is.
    """
    why = f"it could not be started: {error.strerror or error}"
    missing = error.filename if isinstance(error, FileNotFoundError) else None
    if missing and os.path.isfile(os.path.join(cwd or os.curdir, missing)):
        why += " (the file is there: its interpreter is not, the one after #! or its loader)"
    return why


def _communicate(
    process: subprocess.Popen[str],
    input: str | None,  # noqa: A002
    timeout: float,
) -> tuple[str, str]:
    """Wait until a program has ended, and return what it printed until then.

    A daemon that it left behind may hold its output as long as it likes, but for two cases in which
    nothing tells what was printed until then: with `input`, and on Windows. Raises
    subprocess.TimeoutExpired.
    """
    if input is not None or HERE == "win32":
        return process.communicate(input, timeout)
    deadline = time.monotonic() + timeout
    said_at_end: tuple[str, str] | None = None
    while True:
        try:
            return process.communicate(timeout=GRACE)
        except subprocess.TimeoutExpired as expired:
            now = time.monotonic()
            if process.poll() is None:
                if now >= deadline:
                    raise
                continue
            said = _text(expired.stdout), _text(expired.stderr)
            if said == said_at_end or now >= deadline:  # no more came in a whole step
                return said
            said_at_end, deadline = said, min(deadline, now + 10 * GRACE)


@contextmanager
def held_back(signals: Iterable[int]) -> Iterator[Set[int]]:
    """Hold signals back that this thread is sent, for whoever fetches them; give what was held back
    before. Systems of POSIX have it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def sent_by_a_process(code: int) -> bool:
    """Whether the `si_code` of a signal says that a process sent it, and no key (sigaction(2))."""
    return code <= 0


def _end(process: subprocess.Popen[str]) -> None:
    """Kill a program that has not been waited for, and what it has started.

    They are stopped first: what is stopped starts nothing more, and ends under nobody's hands.
    """
    stopped = [process.pid]
    if HERE == "linux":
        for number in stopped:  # which grows meanwhile
            with suppress(ProcessLookupError, PermissionError):  # gone; another user's
                os.kill(number, signal.SIGSTOP)
                stopped += [
                    int(child)
                    for thread in threads_of(number)
                    for child in children_of(number, thread)
                ]
        for number in stopped[1:]:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)
    with suppress(PermissionError):
        process.kill()
        process.wait()  # at Ctrl-C nobody else does


def threads_of(process: int | str) -> list[str]:
    """Return the numbers of a process's threads, none if it is gone (proc(5))."""
    try:
        return os.listdir(f"/proc/{process}/task")
    except (FileNotFoundError, ProcessLookupError):
        return []


def children_of(process: int | str, thread: str) -> list[str]:
    """Return the numbers of the processes that a thread has started and that are there."""
    try:
        with open(f"/proc/{process}/task/{thread}/children", encoding="ascii") as words:
            return words.read().split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def ended(status: int) -> str:
    """Return in words how a program ended."""
    if status < 0:
        return f"killed by signal {-status}"
    coded = f" ({status:#x})" if status >> 31 else ""  # an HRESULT of Windows
    return f"exit status {status}{coded}"


def _text(output: str | bytes | None) -> str:
    return output.decode("utf-8", "replace") if isinstance(output, bytes) else output or ""
