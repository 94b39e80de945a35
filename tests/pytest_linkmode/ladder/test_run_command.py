"""`linkmode run`: a command on filesystems of its own, as if it had been started by the shell."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from pytest_linkmode import kernel, namespaces
from tests.pytest_linkmode.ladder.people import Person

COMMAND = (
    sys.executable,
    "-c",
    "import sys; from pytest_linkmode import cli; sys.exit(cli.main())",
)

needs_mounts = pytest.mark.skipif(
    not kernel.may_mount(), reason="mounting needs CAP_SYS_ADMIN, which this user has not"
)


@pytest.fixture
def environment(tmp_path: pathlib.Path) -> dict[str, str]:
    """An environment outside of our place, with a temporary directory of its own."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop(namespaces.VARIABLE, None)
    return environment


def run(
    environment: dict[str, str], *arguments: str, status: int = 0
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        (*COMMAND, "run", *arguments),
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_reaches_the_command_which_decides(
    environment: dict[str, str], number: signal.Signals
) -> None:
    script = (
        f"trap 'echo caught; exit 9' {number.name[3:]}; echo ready; while :; do sleep 0.05; done"
    )
    with subprocess.Popen(
        (*COMMAND, "run", "--", "bash", "-c", script),
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "caught\n"
    assert process.returncode == 9


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
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
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
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    from pytest_linkmode.faults.support import unavailable

    refused = unavailable()
    if refused is not None:
        pytest.skip(str(refused))
    (tmp_path / "a").touch()
    command = ("ln", str(tmp_path / "a"), str(tmp_path / "b"))
    said = run(environment, "--fault=hardlink:EMLINK", "--", *command, status=1)
    assert "Too many links" in said.stderr
    run(environment, "--", *command)
    run(environment, "--fault=hardlink:EMLINK", "--", "no-such-command", status=127)
    run(environment, "--fault=hardlink:ENOTHING", "--", "true", status=2)


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
