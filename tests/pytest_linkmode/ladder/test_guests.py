"""User-Mode Linux: real btrfs and xfs for somebody without any privilege, as ordinary tests."""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import signal

import pytest

from pytest_linkmode import kernel, processes
from pytest_linkmode.config import Settings
from pytest_linkmode.filesystems import FILESYSTEMS
from pytest_linkmode.guests import gateway, uml
from tests.patience import LONGER, eventually
from tests.pytest_linkmode.ladder.people import UID, Person

REFUSED = uml.look(Settings())
needs_guests = pytest.mark.skipif(REFUSED is not None, reason=" ".join(str(REFUSED).split()))

TESTS = f"""
import os, time
from linker import link_tree
from pytest_linkmode import assert_linked

def test_it(linkmode_layout, link_mode, linkmode_tree):
    linkmode_tree(linkmode_layout.source)
    link_tree(linkmode_layout.source, linkmode_layout.target, mode=link_mode)
    expected = linkmode_layout.expect(link_mode)
    assert_linked(linkmode_layout.source, linkmode_layout.target, expected)
    if "btrfs" in linkmode_layout.name:
        assert os.uname().release != {os.uname().release!r}, "another kernel"

def test_wrong(linkmode_fs):
    print("said in", linkmode_fs.name)
    time.sleep(0.5)
    assert sorted(linkmode_fs.can) == []

def test_elsewhere(tmp_path):
    (tmp_path / "file").touch()
    assert os.getuid() == {UID} and os.uname().release == {os.uname().release!r}
"""


def kernels() -> set[int]:
    """Return the processes of all kernels of the tester, and of nobody else."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            arguments = pathlib.Path(f"/proc/{name}/cmdline").read_bytes()
            owner = os.stat(f"/proc/{name}").st_uid
        except OSError:
            continue
        if owner == UID and gateway.KERNEL.encode() in arguments.partition(b"\0")[0]:
            found.add(int(name))
    return found


@needs_guests
def test_what_needs_a_guest_runs_in_one_and_reports_as_any_test(person: Person) -> None:
    person.write("test_it.py", TESTS)
    said = person.pytest(
        "--linkmode-provider=uml",
        "--linkmode-layout=btrfs,btrfs+subvolume,btrfs:tmpfs",
        "--linkmode-require=reflink,cross-device",
        "--durations=0",
    )
    assert said.status == pytest.ExitCode.TESTS_FAILED, said.out + said.err
    assert said.outcomes()["passed"] == 13, said.out
    assert said.outcomes()["failed"] >= 1
    assert "Captured stdout call" in said.out
    assert "said in btrfs" in said.out
    assert "Left contains 3 more items, first extra item: 'hardlink'" in said.out
    assert re.search(r"(0\.[5-9]|[1-9]\d*\.\d)\ds call +test_it.py::test_wrong\[btrfs\]", said.out)
    assert "in a guest (User-Mode Linux): btrfs" in said.out
    assert kernels() == set()


@needs_guests
def test_the_conformance_suite_passes_in_a_guest(person: Person) -> None:
    said = person.pytest(
        "--pyargs",
        "pytest_linkmode.conformance",
        "--linkmode-provider=uml",
        "--linkmode-layout=btrfs",
        "--linkmode-require=reflink,hardlink",
        "-n2",
    )
    assert said.status == 0, said.out + said.err
    assert said.outcomes().keys() <= {"passed", "deselected", "skipped"}
    assert said.outcomes()["passed"] > 150


@needs_guests
def test_a_whole_suite_runs_there_unchanged_if_its_tmp_path_must(person: Person) -> None:
    person.write(
        "test_it.py",
        f"""
        import fcntl, os
        def test_it(tmp_path):
            assert os.uname().release != {os.uname().release!r}
            (tmp_path / "a").write_bytes(os.urandom(1 << 16))
            with open(tmp_path / "a", "rb") as a, open(tmp_path / "b", "wb") as b:
                fcntl.ioctl(b, 0x40049409, a.fileno())
            with open("beside", "w") as file:  # as if it could: the host is not changed
                file.write("x")
        """,
    )
    # Nobody says how: there is nothing above a guest that has it.
    said = person.pytest("--linkmode-tmp=xfs")
    assert said.outcomes() == {"passed": 1}, said.out + said.err
    assert re.search(r"in a guest \(User-Mode Linux\): .*\bxfs\b", said.out)
    assert not (person.home / "beside").exists()


@needs_guests
def test_root_of_a_guest_is_not_root_of_the_host_who_was_there_before(person: Person) -> None:
    theirs = person.base / "tmp" / "pytest-linkmode-of-root"
    theirs.mkdir(mode=0o755)
    assert theirs.stat().st_uid == 0
    person.write("test_it.py", "def test_it(linkmode_fs): (linkmode_fs.path / 'file').touch()")
    said = person.pytest("--linkmode-fs=xfs", "--linkmode-provider=uml")
    assert said.outcomes() == {"passed": 1}, said.out + said.err
    assert list(theirs.iterdir()) == []


@needs_guests
def test_a_guest_that_cannot_start_ends_the_run_with_the_reason(person: Person) -> None:
    person.write(
        "conftest.py",
        """
        import os
        def pytest_configure():
            if "LINKMODE_GUEST" in os.environ:
                raise RuntimeError("it cannot start")
        """,
    )
    person.write("test_it.py", "def test_it(linkmode_fs): pass")
    flags = ("--linkmode-fs=xfs", "--linkmode-provider=uml")
    said = person.pytest(*flags, "--max-worker-restart=1")
    assert said.status not in (0, pytest.ExitCode.NO_TESTS_COLLECTED), said.out + said.err
    assert "it cannot start" in said.out + said.err
    assert len(re.findall("replacing crashed worker", said.out)) == 1
    assert kernels() == set()


@pytest.mark.parametrize(
    ("asked", "processes", "ends"),
    [(None, None, uml.RESTARTS), (None, 2, None), ("0", None, "0")],
    ids=["nobody", "by -n", "asked for"],
)
def test_how_often_a_guest_is_replaced_has_an_end(
    asked: str | None, processes: int | None, ends: str | None
) -> None:
    options = argparse.Namespace(
        tx=[], dist="no", maxworkerrestart=asked, numprocesses=processes, usepdb=False
    )
    uml.send_for(options, everything=True)
    assert options.maxworkerrestart == ends


SLEEPER = f"import time; print('asleep', flush=True); time.sleep({LONGER})"
UNSHARED = """
import ctypes, errno, os, struct, sys
# A kernel that gives nobody a namespace.
libc = ctypes.CDLL(None, use_errno=True)
code = struct.pack("HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, 272,
    0x06, 0, 0, 0x00050000 | errno.EPERM, 0x06, 0, 0, 0x7FFF0000)
buffer = ctypes.create_string_buffer(code)
class fprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(fprog(4, ctypes.addressof(buffer))), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


@needs_guests
@pytest.mark.parametrize("namespaces", [True, False], ids=["with namespaces", "without"])
def test_a_kill_leaves_no_guest_behind(person: Person, *, namespaces: bool) -> None:
    command = [person.python, "-I", "-S", gateway.__file__, "-c", SLEEPER]
    if not namespaces:
        command = [person.python, "-I", "-S", "-c", UNSHARED, *command]
    with person.start(*command) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "asleep\n"
        assert len(kernels()) > 1
        process.send_signal(signal.SIGKILL)
    eventually(lambda: not kernels())


PANICKING = """
import sys
from pytest_linkmode.guests import gateway
usual = gateway.command_line
def command_line(*given):
    return tuple("init=/bin/false" if word.startswith("init=") else word for word in usual(*given))
gateway.command_line = command_line
sys.exit(gateway.main(["-c", "print('never')"]))
"""


@needs_guests
@pytest.mark.parametrize("namespaces", [True, False], ids=["with namespaces", "without"])
def test_a_guest_whose_kernel_gives_up_is_gone_and_says_why(
    person: Person, *, namespaces: bool
) -> None:
    kept = person.write("kept/by-guests", "").parent
    command = [person.python, "-c", PANICKING]
    if not namespaces:
        command = [person.python, "-c", UNSHARED, *command]
    said = person.run(*command, TMPDIR=str(kept))
    assert said.status == gateway.FAILED, said.out + said.err
    assert said.out == ""
    assert said.err.splitlines()[0] == "the guest is gone; its last words:"
    assert said.err.splitlines()[-1].startswith(
        "Kernel panic - not syncing: Attempted to kill init"
    )
    assert kernels() == set()
    assert [left.name for left in kept.iterdir()] == ["by-guests"]


@needs_guests
@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "beside a worker"])
def test_a_guest_that_does_not_come_up_ends_the_run_before_its_first_test(
    person: Person, workers: tuple[str, ...]
) -> None:
    person.write("test_it.py", "def test_it(linkmode_fs): pass")
    options = ("--linkmode-fs=xfs", "--linkmode-provider=uml", *workers)
    said = person.pytest(*options, **{gateway.MEMORY_VARIABLE: "3M"})
    assert said.status == pytest.ExitCode.USAGE_ERROR, said.out + said.err
    *_, cause, error, hint = said.err.strip().splitlines()
    assert cause.startswith("Too few physical memory!")
    assert re.match(r"ERROR: worker gw\d is gone before it began: ", error)
    assert gateway.MEMORY_VARIABLE in hint
    assert "INTERNALERROR" not in said.out + said.err
    assert kernels() == set()


@needs_guests
def test_a_kill_of_the_whole_run_leaves_no_guest_behind(person: Person) -> None:
    person.write(
        "test_it.py",
        f"""
        import os, signal, time
        def test_it(linkmode_fs):
            with open("/dev/null") as _:
                time.sleep({LONGER})
        """,
    )
    with person.start(
        person.python, "-m", "pytest", "-p", "no:cacheprovider", "--linkmode-layout=xfs",
        "--linkmode-provider=uml",
    ) as process:  # fmt: skip
        eventually(kernels)
        process.send_signal(signal.SIGKILL)
    eventually(lambda: not kernels())


def test_what_is_missing_is_said_with_what_would_mend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "which", lambda tool: "/usr/bin/apt" if tool == "apt" else None)
    refused = uml.Uml().missing(FILESYSTEMS["btrfs"], Settings())
    assert refused is not None
    if os.uname().machine == "x86_64":
        assert any(line.startswith("linux.uml: neither in PATH") for line in refused.checked)
        assert "apt-get install user-mode-linux" in refused.mends
    assert any(line.startswith("mkfs.btrfs: neither") for line in refused.checked)
    refused = uml.Uml().missing(FILESYSTEMS["ntfs"], Settings())
    assert refused is not None
    assert any("not in the kernel of linux.uml" in line for line in refused.checked)


def test_a_debugger_cannot_follow_into_a_guest(person: Person) -> None:
    if REFUSED is not None:
        pytest.skip(" ".join(str(REFUSED).split()))
    person.write("test_it.py", "def test_it(linkmode_fs): pass")
    said = person.pytest("--linkmode-provider=uml", "--linkmode-layout=xfs", "--pdb")
    assert said.status == pytest.ExitCode.USAGE_ERROR
    assert "the tests run in a guest" in said.err


def test_root_needs_no_guest() -> None:
    if not kernel.may_mount():
        pytest.skip("may_mount: this user is not root")
    from pytest_linkmode.filesystems import provider_for

    assert provider_for(FILESYSTEMS["ext4"], Settings()) == "loop"
