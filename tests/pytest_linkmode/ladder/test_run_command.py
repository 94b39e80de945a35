"""`linkmode run`: a command on filesystems of its own, as if it had been started by the shell."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from pytest_linkmode import cli, kernel, namespaces
from pytest_linkmode.commands import run as commands_run
from tests.patience import SECONDS, eventually
from tests.pytest_linkmode.ladder.people import Person

COMMAND = (
    sys.executable,
    "-c",
    "import sys; from pytest_linkmode import cli; sys.exit(cli.main())",
)

POSIX_ONLY = ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "pthread_sigmask")
LACKING = {
    "macOS": ("sigwaitinfo", "sigtimedwait"),
    "Windows": ("sigwaitinfo", "sigtimedwait", "sigwait", *POSIX_ONLY),
}
"""System -> what the module `signal` has not there, of what it has on Linux."""

needs_mounts = pytest.mark.skipif(
    not kernel.may_mount(), reason="mounting needs CAP_SYS_ADMIN, which this user has not"
)


@pytest.fixture
def environment(tmp_path: pathlib.Path) -> dict[str, str]:
    """An environment outside of our place, with a temporary directory of its own."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop(namespaces.VARIABLE, None)
    return environment


def command_on(system: str) -> tuple[str, ...]:
    """Return what runs `linkmode` with no more of `signal` than there is on a system."""
    lacking = f"import signal; [delattr(signal, name) for name in {LACKING.get(system, ())}]"
    return (*COMMAND[:2], f"{lacking}; {COMMAND[2]}")


def run(
    environment: dict[str, str], *arguments: str, status: int = 0, system: str = ""
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        (*command_on(system), "run", *arguments),
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


@contextmanager
def ready(
    environment: dict[str, str], *arguments: str, system: str = ""
) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Start a command in a session of its own; give it, and its output after the line "ready"."""
    with subprocess.Popen(
        (*command_on(system), "run", *arguments),
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process, process.stdout


@needs_mounts
def test_the_command_finds_each_filesystem_and_nothing_is_left(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    code = (
        "import json, os; from pytest_linkmode import kernel;"
        "names = 'LINKMODE_DIR_EXT4', 'LINKMODE_DIR_TMPFS', 'TMPDIR', 'CACHE';"
        "types = [kernel.mount_of(os.environ[name]).fstype for name in names];"
        "empty = [os.listdir(os.environ[name]) for name in names];"
        "print(json.dumps([types, empty, os.environ['CACHE'], 'LINKMODE_DIR_NTFS' in os.environ]))"
    )
    flags = ("--fs", "ext4,tmpfs", "--tmp", "tmpfs", "--env", "CACHE=ext4", "--image-size=64M")
    said = run(environment, *flags, "--", sys.executable, "-c", code)
    types, empty, cache, more = json.loads(said.stdout)
    assert types == ["ext4", "tmpfs", "tmpfs", "ext4"]
    assert empty == [[]] * 4
    assert not more
    assert not os.path.exists(cache)
    (left,) = [entry for entry in tmp_path.iterdir() if not entry.name.startswith(".")]
    assert left.name == f"pytest-linkmode-of-{namespaces.user_name()}"
    assert list(left.iterdir()) == []


@pytest.mark.parametrize("status", [0, 1, 2, 7, 255])
def test_the_exit_status_is_that_of_the_command(environment: dict[str, str], status: int) -> None:
    run(environment, "--", "sh", "-c", f"exit {status}", status=status)


def test_a_command_that_a_signal_ends_is_seen_to_end_by_it(environment: dict[str, str]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGINT):
        run(environment, "sh", "-c", f"kill -{int(number)} $$", status=-number)


FAULTS = {"plain": (), "watched": ("--fault=hardlink:EIO",), "traced": ("--fault=copy:SHORT",)}


@pytest.fixture
def faultable() -> None:
    """Skip where programs cannot be run with faults."""
    from pytest_linkmode.faults.support import unavailable

    refused = unavailable()
    if refused is not None:
        pytest.skip(str(refused))


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Give the options of a command without faults, and of one that is watched or traced."""
    if FAULTS[request.param]:
        request.getfixturevalue("faultable")
    return FAULTS[request.param]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_reaches_the_command_which_decides(
    environment: dict[str, str], fault: tuple[str, ...], number: signal.Signals
) -> None:
    script = (
        f"trap 'echo caught; exit 9' {number.name[3:]}; echo ready; while :; do sleep 0.05; done"
    )
    with ready(environment, *fault, "--", "bash", "-c", script) as (process, told):
        process.send_signal(number)
        assert told.read() == "caught\n"
    assert process.returncode == 9


SEVERAL = """
import os, signal, sys, time
for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.write(1, b"%d\\n" % number))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""


def test_signals_that_come_all_at_once_reach_the_command(
    environment: dict[str, str], fault: tuple[str, ...]
) -> None:
    command = (*fault, "--", sys.executable, "-c", SEVERAL)
    with ready(environment, *command) as (process, told):
        several = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
        process.send_signal(signal.SIGSTOP)  # so that it finds them together
        for number in several:
            process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        assert {int(told.readline()) for _ in several} == set(several)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 9


RECEIVER = """
import os, signal, sys, time
signal.signal(signal.SIGINT, lambda *_: os.write(1, b"a key\\n"))  # print may be at it
signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""


@pytest.mark.parametrize("system", LACKING)
def test_a_key_reaches_the_command_once_and_what_a_process_sends_is_passed_on(
    environment: dict[str, str], system: str
) -> None:
    command = ("--", sys.executable, "-c", RECEIVER)
    with ready(environment, *command, system=system) as (process, told):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert told.readline() == "a key\n"
        process.send_signal(signal.SIGTERM)
        assert told.read() == ""
    assert process.returncode == 9


PRESSING = """
import fcntl, os, signal, subprocess, sys, termios
ours, theirs = os.openpty()
def begin():
    os.setsid()
    fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
with subprocess.Popen(sys.argv[1:], stdin=theirs, stdout=subprocess.PIPE, preexec_fn=begin) as run:
    assert run.stdout.readline() == b"ready\\n"
    os.write(ours, b"\\x03")
    print(sorted(run.stdout.read().split()))
sys.exit(run.returncode)
"""
"""Runs a command on a terminal of its own and presses Ctrl-C."""

GROUP = """
import os, signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
child = os.fork()
name = "child" if child == 0 else "parent"
signal.signal(signal.SIGINT, lambda *_: (os.write(1, f"{name}\\n".encode()), os._exit(9)))
if child == 0:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
    os.write(1, b"ready\\n")
    while True:
        time.sleep(0.05)
os.waitpid(child, 0)
signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
"""
"""Two processes, both of which say that a key was pressed; the second is still there then."""


def test_a_key_reaches_all_that_the_command_has_started(
    environment: dict[str, str], fault: tuple[str, ...]
) -> None:
    command = (*COMMAND, "run", *fault, "--", sys.executable, "-c", GROUP)
    done = subprocess.run(
        (sys.executable, "-c", PRESSING, *command),
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (9, "[b'child', b'parent']\n"), done.stderr


@pytest.mark.parametrize("system", LACKING)
def test_where_nobody_says_who_sent_a_signal_a_command_ends_as_anywhere(
    environment: dict[str, str], tmp_path: pathlib.Path, system: str
) -> None:
    run(environment, "--", "sh", "-c", "exit 7", status=7, system=system)
    run(environment, "--", "no-such-command", status=127, system=system)
    script = tmp_path / "script"
    script.write_text("not executable")
    run(environment, "--", str(script), status=126, system=system)
    if system == "macOS":
        run(environment, "sh", "-c", "kill -TERM $$", status=-signal.SIGTERM, system=system)


@pytest.mark.parametrize("system", ["", "macOS"])
def test_what_we_were_told_to_ignore_the_command_ignores(
    environment: dict[str, str], fault: tuple[str, ...], system: str
) -> None:
    code = "import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    ignoring = ("sh", "-c", 'trap "" HUP; exec "$@"', "sh")
    said = subprocess.run(
        (*ignoring, *command_on(system), "run", *fault, "--", sys.executable, "-c", code),
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert said.stdout == "True\n"


def test_a_status_of_windows_is_given_as_a_number_that_can_be_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commands_run, "_made", lambda *_: {})
    monkeypatch.setattr(commands_run, "_plain", lambda *_: 0xC0000005)
    assert cli.main(["run", "--", "command"]) == 0xC0000005 - 2**32


@needs_mounts
def test_a_kill_of_ours_ends_the_command_and_takes_the_mounts_along(
    environment: dict[str, str],
) -> None:
    script = "echo $$ $LINKMODE_DIR_TMPFS; while :; do sleep 0.05; done"
    with subprocess.Popen(
        (*COMMAND, "run", "--fs=tmpfs", "--", "bash", "-c", script),
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        pid, path = process.stdout.readline().split()
        assert os.path.isdir(f"/proc/{pid}")
        process.kill()
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    assert not os.path.exists(path)


def test_what_cannot_be_run_is_told_from_what_failed(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    assert "not found" in run(environment, "--", "no-such-command", status=127).stderr
    script = tmp_path / "script"
    script.write_text("not executable")
    run(environment, "--", str(script), status=126)
    assert "write it after two dashes" in run(environment, status=2).stderr
    said = run(environment, "--fs=bttrfs", "--", "true", status=2).stderr
    assert "no filesystem is called 'bttrfs'" in said
    assert "btrfs" in said
    run(environment, "--env=CACHE", "--", "true", status=2)
    run(environment, "--image-size=much", "--", "true", status=2)


def test_what_cannot_be_had_ends_it_before_the_command_unless_it_may_be_missing(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    environment["LINKMODE_DIR_XFS"] = str(tmp_path / "absent")
    said = run(environment, "--fs=xfs", "--", "echo", "started", status=125)
    assert "not a directory" in said.stderr
    assert said.stdout == ""
    code = "import os; print(os.environ['LINKMODE_DIR_XFS'])"
    said = run(environment, "--fs=xfs?", "--", sys.executable, "-c", code)
    assert said.stdout.strip() == str(tmp_path / "absent"), "what it was is what it stays"


def test_calls_of_the_command_fail_as_told(
    faultable: None, environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "a").touch()
    command = ("ln", str(tmp_path / "a"), str(tmp_path / "b"))
    said = run(environment, "--fault=hardlink:EMLINK", "--", *command, status=1)
    assert "Too many links" in said.stderr
    run(environment, "--", *command)
    run(environment, "--fault=hardlink:EMLINK", "--", "no-such-command", status=127)
    run(environment, "--fault=hardlink:ENOTHING", "--", "true", status=2)


def test_where_nobody_can_look_at_calls_those_of_an_op_can_all_fail(
    faultable: None, environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "a").touch()
    inner = (sys.executable, "-m", "pytest_linkmode", "run")
    outer = ("--fault=clone:EXDEV:nth=1", "--")  # takes the one listener that a process can have
    link = ("ln", str(tmp_path / "a"), str(tmp_path / "b"))
    said = run(environment, *outer, *inner, "--fault=hardlink:EMLINK", "--", *link, status=1)
    assert "Too many links" in said.stderr
    told = [line for line in said.stderr.splitlines() if "met no call" in line]
    assert told == ["--fault clone:EXDEV:nth=1: met no call (calls: 0 clone)"]
    looking = (*inner, "--fault=hardlink:EMLINK:nth=1", "--")
    said = run(environment, *outer, *looking, *link, status=125)
    assert "another supervisor listens to this process already" in said.stderr


@pytest.mark.parametrize(
    "missed",
    ["hardlink:EIO:path=*/nomatch", "hardlink:EIO:nth=50", "symlink:EIO", "unlink:kill-after"],
)
def test_a_fault_that_meets_no_call_is_told(
    faultable: None, environment: dict[str, str], tmp_path: pathlib.Path, missed: str
) -> None:
    (tmp_path / "a").touch()
    command = ("ln", str(tmp_path / "a"), str(tmp_path / "b"))
    faults = (f"--fault={missed}", f"--fault={missed}", "--fault=hardlink:EMLINK")
    said = run(environment, *faults, "--", *command, status=1)
    count = 1 if missed.startswith("hardlink") else 0
    op = missed.partition(":")[0]
    told = [line for line in said.stderr.splitlines() if "met no call" in line]
    assert told == [f"--fault {missed}: met no call (calls: {count} {op})"]


@pytest.mark.parametrize("fault", ["hardlink:EIO", "hardlink:EIO:nth=1", "hardlink:kill-after"])
def test_what_was_closed_to_the_command_is_told(
    faultable: None, environment: dict[str, str], fault: str
) -> None:
    io_uring_setup = "import ctypes; print(ctypes.CDLL(None).syscall(425, 1, None))"
    said = run(environment, f"--fault={fault}", "--", sys.executable, "-c", io_uring_setup)
    assert said.stdout == "-1\n"
    assert "io_uring_setup" in said.stderr
    assert "answered with ENOSYS" in said.stderr


def test_an_ordinary_user_has_a_namespace_for_a_pytest_that_starts_threads(
    person: Person,
) -> None:
    person.write(
        "conftest.py",
        """
        import threading
        stop = threading.Event()
        threading.Thread(target=stop.wait, daemon=True).start()
        """,
    )
    person.write(
        "test_it.py",
        """
        import pytest
        @pytest.mark.linkmode(layout="tmpfs+bind")
        def test_it(linkmode_layout):
            assert list(linkmode_layout.can) == ["cross-device", "symlink"]
        """,
    )
    pytest_ = (person.python, "-m", "pytest", "-rs", "-p", "no:cacheprovider")
    alone = person.run(*pytest_)
    assert alone.outcomes() == {"skipped": 1}
    assert "linkmode run -- pytest" in alone.out
    inside = person.run(person.python, "-c", COMMAND[2], "run", "--", *pytest_)
    assert inside.outcomes() == {"passed": 1}
