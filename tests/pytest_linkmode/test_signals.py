"""However a run ends, in the middle of whatever, it leaves no mount and no loop device behind."""

from __future__ import annotations

import glob
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pytest_linkmode.processes import which
from tests.patience import LONGER, SECONDS, eventually

pytestmark = pytest.mark.usefixtures("mounting", "loop_devices")

CONFTEST = """
    import os
    import time
    import pytest

    def reached():
        with open({flag!r}, "w") as flag:
            flag.write(str(os.getpid()))
        time.sleep({patience})

    @pytest.fixture
    def progress():
        return lambda done, total: None
"""

MOMENTS = {
    "formatting": """
    from pytest_linkmode import processes

    before = processes.run

    def run(arguments, **keywords):
        # A child that takes its time to format, and ends by itself soon after us.
        script = f'echo {os.getpid()} > {FLAG}; sleep 2; exec "$@"'
        if "mkfs" in arguments[0]:
            arguments = ["sh", "-c", script, "sh", *arguments]
        return before(arguments, **keywords)

    processes.run = run
    """,
    "mounting": """
    from pytest_linkmode import kernel

    before = kernel.mount

    def mount(*arguments, **keywords):
        before(*arguments, **keywords)
        if "ext4" in arguments:
            # Mounted, and nobody has taken note of it yet.
            reached()

    kernel.mount = mount
    """,
    "linking": """
    @pytest.fixture
    def progress():
        return lambda done, total: reached()
    """,
}
"""Where a run stops and says so, to be struck there: the end of a conftest."""

SUITE = """
    import pytest
    from linker import LinkMode, link_tree

    @pytest.mark.parametrize("number", range(2))
    def test_it(linkmode_layout, linkmode_tree, progress, number):
        linkmode_tree(linkmode_layout.source)
        link_tree(linkmode_layout.source, linkmode_layout.target,
                  mode=LinkMode.HARDLINK, progress=progress)
"""

COMMAND = (
    *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
    *("--linkmode-layout=ext4", "--linkmode-image-size=64M"),
)


@pytest.fixture
def loop_devices() -> None:
    """Skip a test where no ext4 can be made in an image."""
    if which("mkfs.ext4") is None or not os.access("/dev/loop-control", os.R_OK | os.W_OK):
        pytest.skip("no mkfs.ext4, or no loop devices for this user")


@pytest.fixture
def suite(pytester: pytest.Pytester, own_tmp: str) -> Callable[[str], pathlib.Path]:
    """Write a suite that stops at a moment; return the file in which it then says who it is."""
    flag = pathlib.Path(own_tmp).parent / "flag"

    def write(moment: str) -> pathlib.Path:
        flag.unlink(missing_ok=True)
        head = CONFTEST.format(flag=str(flag), patience=LONGER)
        body = MOMENTS.get(moment, "").replace("{FLAG}", str(flag))
        pytester.path.joinpath("conftest.py").write_text(
            textwrap.dedent(head) + textwrap.dedent(body)
        )
        pytester.path.joinpath("test_it.py").write_text(textwrap.dedent(SUITE))
        return flag

    return write


@contextmanager
def running(directory: pathlib.Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        (*COMMAND, *arguments),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(flag: pathlib.Path, process: subprocess.Popen[bytes]) -> int:
    """Return the id of the process that stopped at its moment, once it has."""

    def said() -> str:
        assert process.poll() is None, "ended before its moment"
        return flag.read_text() if flag.exists() else ""

    eventually(said)
    return int(said())


def left_behind(own_tmp: str) -> list[str]:
    """Return the loop devices and mounts of this test, by the directory they all lie below."""
    found = []
    for path in glob.glob("/sys/block/loop*/loop/backing_file"):
        try:
            with open(path, encoding="utf-8") as lines:
                backing = lines.read()
        except OSError:  # it went while we looked
            continue
        if own_tmp in backing:
            found.append(backing)
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        found += [line for line in lines if own_tmp in line]
    return found


def assert_nothing_is_left(own_tmp: str) -> None:
    eventually(lambda: not left_behind(own_tmp))
    assert [os.listdir(os.path.join(own_tmp, name)) for name in os.listdir(own_tmp)] == [[]]


def assert_a_second_run_works(directory: pathlib.Path) -> None:
    done = subprocess.run(
        COMMAND, cwd=directory, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert "2 passed" in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_that_is_struck_leaves_nothing(
    moment: str,
    blow: signal.Signals,
    suite: Callable[[str], pathlib.Path],
    pytester: pytest.Pytester,
    own_tmp: str,
) -> None:
    flag = suite(moment)
    with running(pytester.path) as process:
        wait_for(flag, process)
        process.send_signal(blow)
        status = process.wait(SECONDS)
    assert status == (pytest.ExitCode.INTERRUPTED if blow is signal.SIGINT else -blow)
    assert_nothing_is_left(own_tmp)
    suite("no moment")
    assert_a_second_run_works(pytester.path)


@pytest.mark.parametrize("moment", ["mounting", "linking"])
def test_a_worker_that_is_killed_leaves_nothing_and_is_replaced(
    moment: str,
    suite: Callable[[str], pathlib.Path],
    pytester: pytest.Pytester,
    own_tmp: str,
) -> None:
    pytest.importorskip("xdist")
    flag = suite(moment)
    # Only the first process stops there: the controller tries what was asked for by name.
    conftest = pytester.path / "conftest.py"
    conftest.write_text(
        conftest.read_text().replace(
            "def reached():",
            f"def reached():\n"
            f"    if 'PYTEST_XDIST_WORKER' not in os.environ or os.path.exists({str(flag)!r}):\n"
            f"        return",
        )
    )
    with running(pytester.path, "-n1") as process:
        os.kill(wait_for(flag, process), signal.SIGKILL)
        status = process.wait(SECONDS)
    assert status == pytest.ExitCode.TESTS_FAILED
    assert_nothing_is_left(own_tmp)


def test_workers_go_with_the_controller_that_is_killed(
    suite: Callable[[str], pathlib.Path], pytester: pytest.Pytester, own_tmp: str
) -> None:
    pytest.importorskip("xdist")
    flag = suite("linking")
    # A worker ends when it finds its channel closed, which may take it to the end of its test.
    conftest = pytester.path / "conftest.py"
    conftest.write_text(conftest.read_text().replace(f"time.sleep({LONGER})", "time.sleep(1)"))
    with running(pytester.path, "-n2") as process:
        wait_for(flag, process)
        process.kill()
        process.wait(SECONDS)
    assert_nothing_is_left(own_tmp)
    suite("no moment")
    assert_a_second_run_works(pytester.path)
