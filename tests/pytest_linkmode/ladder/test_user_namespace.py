"""An ordinary user mounts: in a user namespace, as whom they are, and without leaving a trace."""

from __future__ import annotations

import json
import os

import pytest

from pytest_linkmode import kernel, namespaces, privileges
from tests.pytest_linkmode.ladder.people import UID, Person

BLOCKED = """
    import ctypes, errno, os, struct
    from pytest_linkmode import namespaces
    # What Ubuntu 24.04 does: the namespace is made, and what its capabilities are for is refused.
    libc = ctypes.CDLL(None, use_errno=True)
    MOUNT = {"x86_64": 165, "aarch64": 40}[os.uname().machine]
    code = struct.pack("HBBI" * 4,
        0x20, 0, 0, 0,                       # the number of the call
        0x15, 0, 1, MOUNT,
        0x06, 0, 0, 0x00050000 | errno.EACCES,
        0x06, 0, 0, 0x7FFF0000)
    buffer = ctypes.create_string_buffer(code)
    class fprog(ctypes.Structure):
        _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))
    program = fprog(4, ctypes.addressof(buffer))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
"""


def test_an_ordinary_user_has_a_private_place_and_stays_who_they_are(person: Person) -> None:
    said = person.script(
        """
        import json, os
        from pytest_linkmode import kernel, namespaces, privileges
        before = os.getresuid(), os.getresgid()
        assert not kernel.may_mount() and not privileges.in_user_namespace()
        place = namespaces.find_place()
        assert place.private and place.user, place
        assert (os.getresuid(), os.getresgid()) == before
        assert kernel.mount_at(place.path).fstype == "tmpfs"
        open(os.path.join(place.path, "inside"), "w").close()
        os.stat(os.path.join(place.path, "inside")).st_uid == os.getuid()
        print(json.dumps([place.path, sorted(privileges.sets().effective)]))
        """
    ).done()
    path, effective = json.loads(said)
    assert effective == [privileges.CAP_SYS_ADMIN]
    assert os.stat(path).st_uid == UID
    assert os.listdir(path) == []
    assert kernel.mount_at(path) is None


def test_a_read_only_directory_still_refuses_and_children_still_mount(person: Person) -> None:
    person.script(
        """
        import os, subprocess, sys
        from pytest_linkmode import namespaces
        place = namespaces.find_place()
        os.mkdir("closed", 0o555)
        code = '''
        import os
        from pytest_linkmode import kernel, namespaces
        try:
            open("closed/file", "x")
        except PermissionError:
            pass
        else:
            raise SystemExit("an ordinary user wrote into a read-only directory")
        place = namespaces.find_place("private")
        assert place.user
        point = os.path.join(place.path, str(os.getpid()))
        os.mkdir(point)
        kernel.mount("ours", point, "tmpfs")
        assert kernel.mount_at(point).source == "ours"
        '''
        import textwrap
        exec(textwrap.dedent(code))
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
        """
    ).done()


def test_what_a_mount_needs_for_a_moment_is_held_back_and_can_be_raised(person: Person) -> None:
    person.script(
        """
        import os
        from pytest_linkmode import kernel, namespaces, privileges
        path = namespaces.find_place().path
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(f"{path}/{name}")
        open(f"{path}/lower/file", "w").write("below")
        options = f"lowerdir={path}/lower,upperdir={path}/upper,workdir={path}/work,userxattr"
        mount = lambda: kernel.mount("overlay", f"{path}/merged", "overlay", data=options)
        with privileges.raised(privileges.CAP_DAC_OVERRIDE):
            mount()
        assert privileges.sets().effective == {privileges.CAP_SYS_ADMIN}
        open(f"{path}/merged/file", "a").write(" and above")
        assert open(f"{path}/upper/file").read() == "below and above"
        assert open(f"{path}/lower/file").read() == "below"
        """
    ).done()


def test_with_other_threads_the_next_rung_serves_and_says_how_to_have_this_one(
    person: Person,
) -> None:
    said = person.script(
        """
        import json, os, threading
        from pytest_linkmode import namespaces
        from pytest_linkmode.config import Settings
        from pytest_linkmode.errors import Unavailable
        from pytest_linkmode.layouts import Workshop, missing, parse
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait)
        thread.start()
        refusal = missing(parse("disk+bind"), Settings())
        place = namespaces.find_place()
        stop.set()
        thread.join()
        workshop = Workshop(place, Settings())
        can = list(workshop.place(parse("disk:tmpfs")).can)
        print(json.dumps([place.kind, place.note, refusal.mends, can]))
        workshop.close()
        """
    ).done()
    kind, note, mends, can = json.loads(said)
    assert kind == "host"
    assert "1 thread" in note
    assert "linkmode run -- pytest" in note
    assert any("linkmode run -- pytest" in mend for mend in mends)
    assert can == ["cross-device", "symlink"]


def test_a_kernel_that_refuses_halfway_leaves_this_process_where_it_was(person: Person) -> None:
    said = person.script(
        BLOCKED
        + """
    inside = os.readlink("/proc/self/ns/user"), os.readlink("/proc/self/ns/mnt")
    place = namespaces.find_place()
    assert (os.readlink("/proc/self/ns/user"), os.readlink("/proc/self/ns/mnt")) == inside
    print(place.kind, place.note)
        """
    ).done()
    assert said.startswith("host no private mount namespace (make / private: EACCES)")


def test_who_is_kept_out_by_a_switch_of_the_kernel_is_told_which(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespaces, "SYSCTL", str(tmp_path))
    monkeypatch.setattr(
        namespaces, "SWITCHES", {"apparmor": ("1", "0"), "clone": ("0", "1"), "absent": ("0", "1")}
    )
    for name, value in (("apparmor", "1\n"), ("clone", "1\n")):
        with open(f"{tmp_path}/{name}", "w", encoding="utf-8") as file:
            file.write(value)
    assert namespaces.user_namespace_mends() == ("sysctl -w apparmor=0",)


def test_there_are_no_loop_devices_and_the_reason_is_said(person: Person) -> None:
    said = person.script(
        """
        from pytest_linkmode import namespaces
        from pytest_linkmode.config import Settings
        from pytest_linkmode.filesystems import FILESYSTEMS
        from pytest_linkmode.filesystems.loop import Loop
        namespaces.find_place()
        print(Loop().missing(FILESYSTEMS["ext4"], Settings()))
        """
    ).done()
    assert "loop devices: not from within a user namespace" in said


def test_in_a_worker_too_overlay_is_to_be_had_and_a_read_only_directory_refuses(
    person: Person,
) -> None:
    person.write(
        "test_it.py",
        """
        import os, subprocess, sys
        import pytest
        CODE = "import os, sys; os.mkdir(sys.argv[1] + '/new')"
        def test_it(linkmode_fs):
            closed = linkmode_fs.path / "closed"
            closed.mkdir(0o555)
            with pytest.raises(PermissionError):
                (closed / "new").mkdir()
            program = subprocess.run([sys.executable, "-c", CODE, str(closed)], capture_output=True)
            assert b"PermissionError" in program.stderr
        """,
    )
    said = person.pytest("--linkmode-fs=overlay", "--linkmode-provider=user-namespace", "-n1")
    assert said.outcomes() == {"passed": 1}, said.out + said.err


def test_nothing_is_left_of_a_run_that_was_killed(person: Person) -> None:
    person.write(
        "test_it.py",
        """
        import os, signal
        def test_it(linkmode_layout):
            os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    said = person.pytest("--linkmode-layout=tmpfs+bind", "--linkmode-namespace=private")
    assert said.status == -9
    left = [path for path in (person.base / "tmp").rglob("*") if "registry" not in path.name]
    assert [path for path in left if path.name.startswith("linkmode-")] == []
    assert not any(str(person.base) in mount.target for mount in kernel.mounts())


@pytest.mark.parametrize("which", [("-k", "test_modes"), ("-n", "2")], ids=["serial", "workers"])
def test_the_conformance_suite_passes_on_this_rung(person: Person, which: tuple[str, ...]) -> None:
    said = person.pytest(
        "--pyargs",
        "pytest_linkmode.conformance",
        "--linkmode-provider=user-namespace",
        "--linkmode-layout=tmpfs+bind,overlay,tmpfs:shm",
        "--linkmode-require=hardlink,symlink,cross-device",
        *which,
    )
    assert said.status == 0, said.out + said.err
    assert said.outcomes().keys() <= {"passed", "deselected"}
    assert said.outcomes()["passed"] >= 100
    assert "private user namespace" in said.out


@pytest.mark.parametrize(
    "which",
    [("--linkmode-layout=shm",), ("--linkmode-layout=shm:disk", "-k", "test_modes")],
    ids=["in memory", "across to the disk"],
)
def test_the_conformance_suite_passes_in_the_directories_of_the_machine(
    person: Person, which: tuple[str, ...]
) -> None:
    said = person.pytest(
        "--pyargs",
        "pytest_linkmode.conformance",
        "--linkmode-provider=machine",
        "--linkmode-require=symlink",
        *which,
    )
    assert said.status == 0, said.out + said.err
    assert said.outcomes().keys() <= {"passed", "deselected"}
    assert said.outcomes()["passed"] > 30
    assert "host namespace" in said.out
