"""A run is what `subprocess.run` would have been: streams, environment, time-outs, its end."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from pytest_linkmode.errors import LinkmodeError, Unavailable, UsageError
from pytest_linkmode.faults import Fault, FaultRunner, ProgramTimedOut
from pytest_linkmode.faults.support import STAGES, refusal
from pytest_linkmode.faults.zygote import Zygotes
from tests.patience import LONGER, SECONDS
from tests.pytest_linkmode.faults.programs import python

MECHANISMS: dict[str, dict[str, Any]] = {
    "none": {"log": ()},
    "filter": {"log": (), "faults": ["clone:EIO"]},
    "supervisor": {},
    "tracer": {"results": True},
}


@pytest.fixture(params=MECHANISMS)
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Run with each mechanism."""
    return MECHANISMS[request.param]


@pytest.fixture
def alone(faultable: None) -> Iterator[FaultRunner]:
    """Give a runner whose zygotes are its own."""
    zygotes = Zygotes()
    yield FaultRunner(zygotes=zygotes)
    zygotes.close()


def gone(pid: int) -> bool:
    """Whether a process is no more, within a few seconds."""
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def test_streams_status_and_environment_are_those_of_the_program(
    runner: FaultRunner, tmp_path: pathlib.Path, way: dict[str, Any]
) -> None:
    program = """
import os, sys
sys.stderr.write(os.getcwd() + os.environ["WORD"] + str(len(os.environ)))
words = sys.stdin.buffer.read()
sys.stdout.buffer.write(words.replace(b"in", b"out"))
sys.exit(7)
"""
    run = runner.run(python(program), cwd=tmp_path, env={"WORD": "é"}, input="in: é\udc80", **way)
    assert run.stdout == "out: é\udc80"
    assert run.stderr.startswith(f"{tmp_path}é")
    assert run.returncode == 7
    assert run.command[0] == sys.executable
    assert run.seconds > 0


def test_without_input_there_is_none(runner: FaultRunner, way: dict[str, Any]) -> None:
    assert runner.run(["cat"], timeout=SECONDS, **way).stdout == ""


def test_much_input_and_output_do_not_block_each_other(
    runner: FaultRunner, way: dict[str, Any]
) -> None:
    text = "0123456789" * 300_000
    run = runner.run(["sh", "-c", "tee /dev/stderr"], input=text, timeout=SECONDS, **way)
    assert run.stdout == run.stderr == text


def test_a_program_that_does_not_read_its_input_does_no_harm(runner: FaultRunner) -> None:
    assert runner.run(["true"], input="x" * 1_000_000).returncode == 0


def test_without_capture_the_program_has_our_streams(
    runner: FaultRunner, capfd: pytest.CaptureFixture[str]
) -> None:
    run = runner.run(["echo", "seen"], capture=False)
    assert (run.stdout, capfd.readouterr().out) == ("", "seen\n")


def test_the_program_starts_with_nothing_of_the_test_process(
    runner: FaultRunner, way: dict[str, Any]
) -> None:
    program = """
import os, signal
print([fd for fd in range(100) if os.path.lexists(f"/proc/self/fd/{fd}")])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
ordinary = 0x7FFFFFFF  # 32 and 33 are libc's own: whoever starts a process may ignore them
print(*(int(status[name], 16) & ordinary for name in ("SigBlk", "SigIgn")), status["Umask"].strip())
"""
    before = os.umask(0o027)
    try:
        run = runner.run(python(program), **way)
        like = subprocess.run(
            python(program), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
        )
    finally:
        os.umask(before)
    assert run.stdout == like.stdout
    assert run.stdout.startswith("[0, 1, 2]\n0 ")
    assert run.stdout.endswith(" 0027\n")
    assert runner.run(["sh", "-c", "yes | head -1"], **way).stdout == "y\n"


def test_only_a_program_with_a_filter_gives_up_new_privileges(runner: FaultRunner) -> None:
    command = ["grep", "NoNewPrivs", "/proc/self/status"]
    assert runner.run(command).stdout.split()[1] == "1"
    assert runner.run(command, log=()).stdout.split()[1] == "0"
    with open("/proc/self/status", encoding="ascii") as ours:
        assert "NoNewPrivs:\t0" in ours.read()


def test_a_command_is_looked_for_in_the_path_of_its_environment(
    runner: FaultRunner, tmp_path: pathlib.Path, way: dict[str, Any]
) -> None:
    tool = tmp_path / "bin" / "tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho found\n")
    tool.chmod(0o755)
    env = {"PATH": f"/nowhere:{tmp_path}:{tool.parent}:/bin"}
    assert runner.run(["tool"], env=env, **way).stdout == "found\n"


@pytest.mark.parametrize(
    ("command", "keywords", "error"),
    [
        (["no-such-program"], {}, FileNotFoundError),
        (["/etc"], {}, PermissionError),
        (["/etc/passwd"], {}, PermissionError),
        (["true"], {"cwd": "/nowhere"}, FileNotFoundError),
    ],
)
def test_a_program_that_cannot_be_started_is_an_error_of_the_system(
    command: list[str], keywords: Any, error: type[OSError], runner: FaultRunner, way: Any
) -> None:
    with pytest.raises(error):
        runner.run(command, **keywords, **way)
    assert runner.run(["true"]).returncode == 0


def test_check_raises_as_subprocess_does(runner: FaultRunner) -> None:
    with pytest.raises(subprocess.CalledProcessError) as raised:
        runner.run(["sh", "-c", "echo why >&2; exit 3"], check=True)
    assert (raised.value.returncode, raised.value.stderr) == (3, "why\n")


def test_a_signal_is_a_negative_status(runner: FaultRunner, way: dict[str, Any]) -> None:
    assert runner.run(["sh", "-c", "kill -TERM $$"], **way).returncode == -signal.SIGTERM


def test_a_program_that_stops_itself_can_be_continued(
    runner: FaultRunner, way: dict[str, Any]
) -> None:
    command = ["sh", "-c", "(sleep 0.2; kill -CONT $$) & kill -STOP $$; wait; echo again"]
    assert runner.run(command, timeout=SECONDS, **way).stdout == "again\n"


LEAVES = f"""
import os, sys, time
if os.fork() == 0:
    os.setsid()
    pid = os.fork()
    if pid:
        os._exit(0)
    os.close(1); os.close(2)
    open(sys.argv[1], "w").write(str(os.getpid()))
    time.sleep({LONGER})
while not os.path.exists(sys.argv[1]) or not os.path.getsize(sys.argv[1]):
    time.sleep(0.001)
print("started", flush=True)
time.sleep(float(sys.argv[2]))
"""
"""Leaves a daemon behind, in a session of its own, and writes its number down."""


def test_at_a_time_out_all_that_it_started_is_ended_and_nothing_else(
    runner: FaultRunner, tmp_path: pathlib.Path, way: dict[str, Any]
) -> None:
    bystander = subprocess.Popen(["sleep", str(LONGER)])
    try:
        began = time.monotonic()
        with pytest.raises(ProgramTimedOut) as raised:
            runner.run(python(LEAVES, tmp_path / "pid", LONGER), timeout=2.0, **way)
        assert time.monotonic() - began < SECONDS
        run = raised.value.run
        assert run.stdout == "started\n"
        assert run.returncode == -9
        assert "did not end within 2 s" in str(raised.value)
        assert (not run.calls) == ("log" in way)
        assert gone(int((tmp_path / "pid").read_text()))
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    assert runner.run(["true"]).returncode == 0


def test_what_a_program_leaves_running_is_ended_with_it(
    runner: FaultRunner, tmp_path: pathlib.Path, way: dict[str, Any]
) -> None:
    run = runner.run(python(LEAVES, tmp_path / "pid", 0), timeout=SECONDS, **way)
    assert (run.returncode, run.stdout) == (0, "started\n")
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_program_that_goes_on_after_its_main_thread_has_ended_is_waited_for(
    runner: FaultRunner, way: dict[str, Any]
) -> None:
    command = ["sh", "-c", "(sleep 0.2; echo later) & echo now"]
    assert runner.run(command, **way).stdout == "now\nlater\n"


def test_a_keyboard_interrupt_ends_the_program(
    alone: FaultRunner, tmp_path: pathlib.Path, way: dict[str, Any]
) -> None:
    def interrupt() -> None:
        # Its name is there before its content.
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.get_ident()
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        alone.run(python(LEAVES, tmp_path / "pid", LONGER), timeout=SECONDS, **way)
    thread.join()
    assert gone(int((tmp_path / "pid").read_text()))
    assert alone.run(["true"]).returncode == 0


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_killed_test_process_takes_its_programs_with_it(
    mechanism: str, faultable: None, tmp_path: pathlib.Path
) -> None:
    script = f"""
import sys
sys.path[:0] = {sys.path!r}
from pytest_linkmode.faults import FaultRunner
FaultRunner().run({python(LEAVES, tmp_path / "pid", 600)!r}, **{MECHANISMS[mechanism]!r})
"""
    worker = subprocess.Popen([sys.executable, "-c", script])
    try:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert worker.poll() is None
            time.sleep(0.01)
    finally:
        worker.kill()
        worker.wait()
    assert gone(int((tmp_path / "pid").read_text()))


def test_several_threads_can_run_programs_at_once(alone: FaultRunner) -> None:
    outputs: dict[int, str] = {}

    def run(number: int) -> None:
        command = ["sh", "-c", f"sleep 0.1; echo {number}"]
        outputs[number] = alone.run(command, results=number % 2 == 0).stdout

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == {number: f"{number}\n" for number in range(4)}


def test_a_process_that_was_forked_has_zygotes_of_its_own(alone: FaultRunner) -> None:
    assert alone.run(["true"]).returncode == 0
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            os._exit(alone.run(["sh", "-c", "exit 5"]).returncode)
        os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    assert alone.run(["true"]).returncode == 0


def test_mounts_that_are_made_later_are_seen_by_programs(
    faultable: None, tmp_path: pathlib.Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root: no mount namespace without a user namespace")
    script = f"""
import ctypes, os, sys
sys.path[:0] = {sys.path!r}
from pytest_linkmode.faults import FaultRunner
runner = FaultRunner()
runner.run(["true"])
libc = ctypes.CDLL(None)
assert libc.unshare(0x00020000) == 0  # CLONE_NEWNS
assert libc.mount(None, b"/", None, 0x44000, None) == 0  # MS_REC | MS_PRIVATE
assert libc.mount(b"tmpfs", {os.fsencode(tmp_path)!r}, b"tmpfs", 0, None) == 0
open({str(tmp_path)!r} + "/inside", "w").close()
print(runner.run(["ls", {str(tmp_path)!r}]).stdout)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    if "AssertionError" in done.stderr:
        pytest.skip("the kernel allows no mount namespace here")
    assert done.stdout.split() == ["inside"]


NESTED = """
import sys
sys.path[:0] = PATH
from pytest_linkmode.faults import FaultRunner
try:
    print(FaultRunner().run(["true"], **KEYWORDS))
except Exception as error:
    print(type(error).__name__, error)
"""


def nested(**keywords: Any) -> list[str]:
    """Return the command that runs a program with faults itself."""
    text = NESTED.replace("PATH", repr(sys.path)).replace("KEYWORDS", repr(keywords))
    return [sys.executable, "-c", text]


def test_a_second_supervisor_is_told_that_there_is_one_already(runner: FaultRunner) -> None:
    said = runner.run(nested(), log=("clone",)).stdout
    assert said.startswith("Unavailable faults in programs: another supervisor listens")
    assert "EBUSY" in said


def test_a_filter_without_a_supervisor_can_be_put_on_top_of_another(runner: FaultRunner) -> None:
    keywords = {"log": (), "faults": ["clone:EIO"]}
    assert "returncode=0" in runner.run(nested(**keywords), log=("clone",)).stdout
    assert "returncode=0" in runner.run(nested(), **keywords).stdout  # type: ignore[arg-type]


def test_a_traced_program_cannot_be_traced_again(runner: FaultRunner) -> None:
    said = runner.run(nested(results=True), results=True, log=("clone",)).stdout
    assert said.startswith("Unavailable faults in programs: this process may not be traced")
    assert "EPERM" in said


CALLS = {"seccomp": {"x86_64": 317, "aarch64": 277}, "ptrace": {"x86_64": 101, "aarch64": 117}}
REFUSING = """
import ctypes, os, struct, sys
def put(*program):
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    class Program(ctypes.Structure):
        _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))
    libc = ctypes.CDLL(None)
    libc.prctl(38, 1, 0, 0, 0)
    assert libc.prctl(22, 2, ctypes.byref(Program(len(program), ctypes.addressof(code)))) == 0
put((0x20, 0, 0, 0), (0x15, 0, 1, int(sys.argv[1])), (0x06, 0, 0, 0x50000 | int(sys.argv[2])),
    (0x06, 0, 0, 0x7FFF0000))
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Executes a program for which a container's profile refuses one system call."""


@pytest.mark.parametrize(
    ("call", "error", "keywords", "said"),
    [
        ("seccomp", 1, {}, "the container forbids seccomp"),
        ("seccomp", 38, {"log": (), "faults": ["clone:EIO"]}, "seccomp(2) is closed"),
        ("seccomp", 22, {}, "WAIT_KILLABLE_RECV"),
        ("ptrace", 1, {"results": True}, "may not be traced"),
    ],
)
def test_a_container_that_forbids_it_is_named(
    call: str, error: int, keywords: Any, said: str, faultable: None
) -> None:
    number = CALLS[call][os.uname().machine]
    done = subprocess.run(
        [*python(REFUSING, number, error), *nested(**keywords)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("Unavailable faults in programs: "), done.stderr
    assert said in done.stdout
    assert "To fix this" in done.stdout


def test_every_refusal_says_why_and_what_helps() -> None:
    for stage, numbers in STAGES.items():
        for number in numbers:
            error = refusal(stage, number, "program")
            assert isinstance(error, Unavailable)
            assert error.why
            assert error.mends


def test_wrong_words_are_usage_errors(runner: FaultRunner) -> None:
    with pytest.raises(UsageError, match="cannot log klone"):
        runner.run(["true"], log=("klone",))
    with pytest.raises(UsageError, match="an empty command"):
        runner.run([])
    with pytest.raises(UsageError, match=r"(?s)not a list of words.*write \['cp', 'a b', 'c'\]"):
        runner.run("cp 'a b' c")
    command: Any = ["sleep", 3]
    with pytest.raises(UsageError, match=r"\['sleep', 3\].*not int"):
        runner.run(command)
    with pytest.raises(UsageError, match=r"(?s)no system call linkatt does a hardlink: .*linkat"):
        runner.run(["true"], faults=["hardlink:EPERM:way=linkatt"])


def test_one_fault_need_not_be_a_list(runner: FaultRunner, tmp_path: pathlib.Path) -> None:
    command = ["mkdir", str(tmp_path / "new")]
    for fault in ("mkdir:EDQUOT", Fault("mkdir", "EDQUOT")):
        faults: Any = fault
        assert "quota" in runner.run(command, faults=faults).stderr
    for wrong in (3, [3], [["mkdir:EIO"]]):
        faults = wrong
        with pytest.raises(UsageError, match="is no fault"):
            runner.run(command, faults=faults)


def test_a_zygote_that_died_says_what_it_said(alone: FaultRunner) -> None:
    alone.run(["true"])
    run: Callable[..., object] = alone.run
    with pytest.raises(LinkmodeError, match="the process that starts programs"):
        run(["sh", "-c", f"kill -KILL $PPID; sleep {LONGER}"], timeout=SECONDS)
    assert alone.run(["true"]).returncode == 0
