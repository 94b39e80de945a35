"""Programs are run in one way: arguments, a timeout, and errors that say everything."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from pytest_linkmode import processes
from pytest_linkmode.processes import CommandFailed, ended, run, which
from tests.patience import LONGER, SECONDS, eventually


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_program_that_succeeds_gives_its_output_as_text() -> None:
    done = run(python("import sys; print(input()); print('ü', file=sys.stderr)"), input="hello\n")
    assert (done.stdout, done.returncode) == ("hello\n", 0)
    assert done.stderr


def test_programs_speak_no_language_but_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert run(python("import os; print(os.environ['LC_ALL'])")).stdout == "C\n"
    assert run(python("import os; print(os.environ['LC_ALL'])"), env={}).stdout == "C\n"


def test_a_program_of_the_user_speaks_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os; print(os.environ.get('LC_ALL'))"
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert run(python(code), locale=None).stdout == "de_DE.UTF-8\n"
    assert run(python(code), env={}, locale=None).stdout == "None\n"


def test_an_environment_that_is_given_replaces_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    code = "import os; print(sorted(set(os.environ) & {'OURS', 'THEIRS'}))"
    assert run(python(code), env={"THEIRS": "2"}).stdout == "['THEIRS']\n"


def test_a_program_runs_where_it_is_told(tmp_path: Path) -> None:
    assert run(python("import os; print(os.getcwd())"), cwd=tmp_path).stdout == f"{tmp_path}\n"


def test_a_program_without_input_reads_nothing_of_ours() -> None:
    assert run(python("import sys; print(repr(sys.stdin.read()))")).stdout == "''\n"


def test_a_program_that_fails_is_an_error_with_status_and_stderr() -> None:
    command = python("import sys; print('no such disk', file=sys.stderr); sys.exit(3)")
    with pytest.raises(CommandFailed) as caught:
        run(command)
    assert caught.value.status == 3
    assert caught.value.argv == tuple(command)
    assert "no such disk" in str(caught.value)
    assert "exit status 3" in str(caught.value)


def test_what_a_program_says_on_stdout_is_its_error_if_it_says_nothing_else() -> None:
    command = python("print('Virtual Disk Service error:'); raise SystemExit(5)")
    with pytest.raises(CommandFailed, match="Virtual Disk Service error"):
        run(command)


def test_of_much_output_the_end_is_in_the_error() -> None:
    code = "import sys; [print(number, 'x' * 9000, file=sys.stderr) for number in range(1000)]"
    with pytest.raises(CommandFailed) as caught:
        run(python(f"{code}; sys.exit(3)"))
    said = str(caught.value).splitlines()
    assert said[1] == "... 950 lines before"
    assert [line.split()[0] for line in said[2:]] == [str(number) for number in range(950, 1000)]
    assert said[-1].endswith("x ... 8504 characters more")
    assert max(map(len, said[2:])) < 600


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (16, "exit status 16"),
        (-9, "killed by signal 9"),
        (2147755027, "exit status 2147755027 (0x80042413)"),
    ],
)
def test_how_a_program_ended_is_told_in_the_numbers_that_one_looks_for(
    status: int, words: str
) -> None:
    assert ended(status) == words


def test_a_status_can_be_asked_for_instead() -> None:
    assert run(python("raise SystemExit(4)"), check=False).returncode == 4


def test_a_program_that_is_killed_says_by_which_signal() -> None:
    with pytest.raises(CommandFailed, match="killed by signal 9") as caught:
        run(python("import os; os.kill(os.getpid(), 9)"))
    assert caught.value.status == -signal.SIGKILL


def test_a_program_that_takes_too_long_is_killed() -> None:
    start = time.monotonic()
    with pytest.raises(CommandFailed, match=r"within 0\.2 s") as caught:
        run(
            python(
                "import sys, time; print('so far', file=sys.stderr, flush=True); time.sleep(60)"
            ),
            timeout=0.2,
        )
    assert time.monotonic() - start < 10
    assert caught.value.status is None


STARTS = f"""
import os, subprocess, sys, time
started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep({LONGER})"])
with open(sys.argv[1] + "~", "w") as file:
    file.write(str(started.pid))
os.rename(sys.argv[1] + "~", sys.argv[1])
time.sleep({LONGER})
"""


def test_what_it_started_is_killed_with_it(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"within 2 s"):
        run([*python(STARTS), str(tmp_path / "pid")], timeout=2)
    number = int((tmp_path / "pid").read_text())
    eventually(lambda: not _runs(number))


LEAVES = """
import subprocess, sys
print("done")
print("nearly", file=sys.stderr)
left = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
with open(sys.argv[2], "w") as file:
    file.write(str(left.pid))
"""
SLEEPS = f"import time; time.sleep({SECONDS / 2})"
CHATTERS = f"""
import os, time
over = time.monotonic() + {SECONDS / 2}
while time.monotonic() < over:
    try:
        os.write(1, b"done\\n")
    except BrokenPipeError:
        time.sleep(1)  # nobody reads any more
    time.sleep(0.02)
"""


@pytest.mark.parametrize("left", [SLEEPS, CHATTERS], ids=["quiet", "printing"])
def test_what_it_leaves_behind_is_not_waited_for(tmp_path: Path, left: str) -> None:
    done = run([*python(LEAVES), left, str(tmp_path / "pid")], timeout=SECONDS)
    number = int((tmp_path / "pid").read_text())
    assert _runs(number), "it was waited for"
    os.kill(number, signal.SIGKILL)
    assert set(done.stdout.splitlines()) == {"done"}
    assert (done.stderr, done.returncode) == ("nearly\n", 0)


def test_a_program_that_takes_its_time_gets_all_of_its_input() -> None:
    code = "import sys, time; time.sleep(0.3); print(len(sys.stdin.read()), flush=True)"
    assert run(python(code), input="x" * 1_000_000).stdout == "1000000\n"


def test_both_are_killed_where_who_waits_is_interrupted(tmp_path: Path) -> None:
    def interrupt() -> None:
        eventually((tmp_path / "pid").exists)
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.get_ident()
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run([*python(STARTS), str(tmp_path / "pid")], timeout=SECONDS)
    thread.join()
    number = int((tmp_path / "pid").read_text())
    eventually(lambda: not _runs(number))


def _runs(process: int) -> bool:
    """Whether a process is there and no zombie, which nobody may wait for in a container."""
    try:
        os.kill(process, 0)
        status = Path(f"/proc/{process}/stat").read_text() if sys.platform == "linux" else ") R"
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def test_a_program_that_is_not_there_says_so() -> None:
    with pytest.raises(CommandFailed, match="could not be started") as caught:
        run(["no-such-program-of-linkmode", "--now"])
    assert caught.value.argv == ("no-such-program-of-linkmode", "--now")


def test_a_program_without_its_interpreter_says_that_it_is_there_itself(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    for name, cwd in ((str(program), None), ("./program", tmp_path)):
        with pytest.raises(CommandFailed, match="the file is there: its interpreter is not"):
            run([name], cwd=cwd)
    with pytest.raises(CommandFailed) as caught:
        run([sys.executable], cwd=tmp_path / "gone")
    assert "interpreter is not" not in str(caught.value)


def test_system_tools_are_found_where_an_ordinary_path_does_not_lead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "mkfs.imaginary"
    tool.write_text("#!/bin/sh\necho made\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert which("mkfs.imaginary") is None
    monkeypatch.setattr(processes, "SYSTEM_PATH", (str(tmp_path),))
    assert which("mkfs.imaginary") == str(tool)
    assert run(["mkfs.imaginary"], env={"PATH": "/bin"}).stdout == "made\n"
