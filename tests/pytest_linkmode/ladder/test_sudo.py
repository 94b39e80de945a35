"""Passwordless sudo: what only root can make, in an ordinary user's namespace and nowhere else."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
from collections.abc import Iterator

import pytest

from pytest_linkmode import kernel
from pytest_linkmode.filesystems import FILESYSTEMS, sudo_helper
from tests.patience import LONGER, SECONDS, eventually
from tests.pytest_linkmode.ladder.people import NAME, Person, settle_in

needs_sudo = pytest.mark.skipif(
    shutil.which("sudo") is None, reason="sudo: not installed | to fix this: apt-get install sudo"
)


@pytest.fixture
def trusted(everybodys: pathlib.Path) -> Iterator[Person]:
    """An ordinary user whom sudo asks for no password."""
    rule = f"{NAME} ALL=(ALL:ALL) NOPASSWD: ALL\n"
    yield settle_in(everybodys, [("/etc/sudoers.d", rule)])
    assert not any(str(everybodys) in mount.target for mount in kernel.mounts())


def helpers_of(token: str) -> list[int]:
    """Return the processes that run the helper of that token."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            arguments = pathlib.Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if token.encode() in arguments:
            found.append(int(name))
    return found


@needs_sudo
def test_an_ordinary_user_gets_what_only_root_can_make(trusted: Person) -> None:
    said = trusted.script(
        """
        import json, os
        from pytest_linkmode import ladder
        from pytest_linkmode.config import Settings
        from pytest_linkmode.layouts import Workshop, parse
        settings = Settings()
        place = ladder.find_place(settings)
        assert place.private and place.user
        workshop = Workshop(place, settings)
        found = {}
        for name in ("btrfs", "xfs", "ext4", "btrfs+subvolume", "xfs+bind", "btrfs:tmpfs"):
            placed = workshop.place(parse(name))
            assert os.stat(placed.source_root).st_uid == os.getuid()
            found[name] = sorted(placed.can)
        rows = {one.name: one.provider for one in workshop.filesystems}
        print(json.dumps([found, rows, os.environ["LINKMODE_HELPER"]]))
        workshop.close()
        """
    ).done()
    found, providers, token = json.loads(said)
    assert providers == {"btrfs": "sudo", "xfs": "sudo", "ext4": "sudo", "tmpfs": "tmpfs"}
    assert found["btrfs"] == found["xfs"] == ["hardlink", "reflink", "symlink"]
    assert found["ext4"] == ["hardlink", "symlink"]
    assert found["btrfs+subvolume"] == found["xfs+bind"] == ["reflink", "symlink"]
    assert found["btrfs:tmpfs"] == ["cross-device", "symlink"]
    assert helpers_of(token) == []


@needs_sudo
def test_a_kill_leaves_neither_a_mount_nor_a_loop_device_nor_the_helper(trusted: Person) -> None:
    process = trusted.start(
        trusted.python,
        "-c",
        "import os, sys, time\n"
        "from pytest_linkmode import ladder\n"
        "from pytest_linkmode.config import Settings\n"
        "from pytest_linkmode.layouts import Workshop\n"
        "from pytest_linkmode import kernel\n"
        "workshop = Workshop(ladder.find_place(Settings()), Settings())\n"
        "path = workshop.filesystem('ext4').path\n"
        "print(os.environ['LINKMODE_HELPER'], kernel.mount_at(path).source, flush=True)\n"
        f"time.sleep({LONGER})\n",
    )
    with process:
        assert process.stdout is not None
        token, device = process.stdout.readline().split()
        assert os.path.exists(f"/sys/block/{os.path.basename(device)}/loop/backing_file")
        assert helpers_of(token)
        process.send_signal(signal.SIGKILL)
    eventually(lambda: not helpers_of(token) and not _is_memory(device))


def _is_memory(device: str) -> bool:
    """Whether a loop device shows an image of the helper's."""
    try:
        path = pathlib.Path(f"/sys/block/{os.path.basename(device)}/loop/backing_file")
        return "memfd:linkmode" in path.read_text()
    except OSError:
        return False


@needs_sudo
@pytest.mark.parametrize(
    "which",
    [
        ("--linkmode-layout=ext4,xfs+bind", "-k", "test_modes"),
        ("--linkmode-layout=btrfs,btrfs:tmpfs", "-n2"),
    ],
    ids=["serial", "workers"],
)
def test_the_conformance_suite_passes_on_this_rung(trusted: Person, which: tuple[str, ...]) -> None:
    said = trusted.pytest("--pyargs", "pytest_linkmode.conformance", *which)
    assert said.status == 0, said.out + said.err
    assert said.outcomes().keys() <= {"passed", "deselected"}
    assert said.outcomes()["passed"] >= 70


@needs_sudo
def test_who_may_not_is_told_what_sudo_said(person: Person) -> None:
    said = person.pytest("--linkmode-provider=sudo", "--linkmode-fs=btrfs")
    assert said.status == pytest.ExitCode.USAGE_ERROR
    assert "sudo -n: sudo: a password is required" in said.err
    assert "NOPASSWD" in said.err


@needs_sudo
def test_nobody_else_is_answered(trusted: Person) -> None:
    """Not even root: the helper belongs to the user who called sudo."""
    process = trusted.start(
        trusted.python,
        "-c",
        "import sys\n"
        "from pytest_linkmode.filesystems import sudo\n"
        "print(sudo.find_helper(), flush=True)\n"
        "sys.stdin.read()\n"
        f"import time; time.sleep({LONGER})\n",
    )
    import socket

    with process, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        assert process.stdout is not None
        stranger.connect(sudo_helper.address(process.stdout.readline().strip()))
        stranger.settimeout(SECONDS)
        try:
            stranger.send(b'{"kind": "btrfs", "size": 2147483648}')
            assert stranger.recv(4096) == b""
        except (BrokenPipeError, ConnectionResetError):
            pass
        process.kill()


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "a kind and a size, and nothing else"),
        (b'{"kind": "btrfs"}', "a kind and a size, and nothing else"),
        (b'{"kind": "btrfs", "size": 300000000, "path": "/etc"}', "and nothing else"),
        (b'{"kind": "tmpfs", "size": 300000000}', "kind: one of btrfs"),
        (b'{"kind": ["btrfs"], "size": 300000000}', "kind: one of btrfs"),
        (b'{"kind": "../btrfs", "size": 300000000}', "kind: one of btrfs"),
        (b'{"kind": "btrfs", "size": 300000000.5}', "size: a number of bytes"),
        (b'{"kind": "btrfs", "size": true}', "size: a number of bytes"),
        (b'{"kind": "btrfs", "size": 1}', "size: a number of bytes"),
        (b'{"kind": "btrfs", "size": -300000000}', "size: a number of bytes"),
        (b'{"kind": "btrfs", "size": 99999999999999}', "size: a number of bytes"),
    ],
)
def test_the_helper_refuses_all_but_a_kind_and_a_size(message: bytes, why: str) -> None:
    with pytest.raises(sudo_helper.Refused, match=why):
        sudo_helper.parse(message)


def test_the_helper_accepts_every_kind_that_has_an_image() -> None:
    for name in sudo_helper.KINDS:
        request = json.dumps({"kind": name, "size": 1 << 30}).encode()
        assert sudo_helper.parse(request) == (FILESYSTEMS[name], 1 << 30)


def test_the_helper_serves_nobody_but_the_user_of_sudo(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments, environment in (
        (["token"], {}),
        (["token"], {"SUDO_UID": "1000"}),
        (["to/ken"], {"SUDO_UID": "1000", "SUDO_GID": "1000"}),
        ([], {"SUDO_UID": "1000", "SUDO_GID": "1000"}),
    ):
        assert sudo_helper.main(arguments, environment) == 2
    assert capsys.readouterr().err.count("usage") == 4
