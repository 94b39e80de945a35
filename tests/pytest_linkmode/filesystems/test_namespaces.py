"""The private place: nobody outside sees into it, nothing outlives its processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_linkmode import kernel, namespaces
from pytest_linkmode.errors import LinkmodeError, Unavailable
from pytest_linkmode.namespaces import Place, Refusal, enter_private, find_place, own_directory

needs_root = pytest.mark.skipif(
    not kernel.may_mount(), reason="a mount namespace needs CAP_SYS_ADMIN, which this user has not"
)
Script = Callable[..., Any]


@needs_root
def test_an_outsider_sees_an_empty_directory(script: Script, tmp_path: Path) -> None:
    path = script(
        """
        place = namespaces.find_place()
        open(os.path.join(place.path, "secret"), "w").close()
        assert place.private and os.listdir(place.path) == ["secret"]
        outside = in_child(lambda: None)
        show(place.path)
        os.rename(os.path.join(place.path, "secret"), os.path.join(place.path, "moved"))
        """
    )
    assert path.startswith(str(tmp_path))
    assert os.listdir(path) == []


@needs_root
def test_mounts_do_not_travel_to_a_host_whose_root_is_shared(script: Script) -> None:
    before, after, made = script(
        """
        own_host()
        kernel.mount("none", "/", flags=kernel.MS_REC | 1 << 20)  # MS_SHARED, as systemd has it
        reader, writer = os.pipe()
        before = len(kernel.mounts())
        def child():
            workshop = Workshop(namespaces.enter_private(), Settings())
            workshop.filesystem("tmpfs")
            os.write(writer, str(len(kernel.mounts())).encode())
            os.read(hold, 1)
        hold, release = os.pipe()
        pid = os.fork()
        if pid == 0:
            child()
            os._exit(0)
        made = int(os.read(reader, 100))
        after = len(kernel.mounts())
        os.write(release, b"x")
        os.waitpid(pid, 0)
        show([before, after, made])
        """
    )
    assert after == before
    assert made == before + 2


@needs_root
def test_a_process_enters_once_only(script: Script) -> None:
    script(
        """
        namespaces.enter_private()
        def again():
            try:
                namespaces.enter_private()
            except LinkmodeError as error:
                assert "already" in str(error)
            else:
                raise AssertionError("it went in twice")
        again()
        assert in_child(again) == 0
        inside = os.readlink("/proc/self/ns/mnt")
        assert namespaces.find_place() is namespaces.find_place("private")
        assert os.readlink("/proc/self/ns/mnt") == inside
        """
    )


@needs_root
def test_a_child_process_knows_that_it_is_inside(script: Script) -> None:
    mine, childs = script(
        """
        place = namespaces.find_place()
        code = '''
        import os
        from pytest_linkmode import namespaces
        from pytest_linkmode.errors import LinkmodeError
        place = namespaces.find_place("private")
        try:
            namespaces.enter_private()
        except LinkmodeError:
            print(place.path, place.kind, os.readlink("/proc/self/ns/mnt"))
        '''
        said = processes.run([sys.executable, "-c", code]).stdout.split()
        show([[place.path, place.kind, os.readlink("/proc/self/ns/mnt")], said])
        """
    )
    assert childs == mine


@needs_root
@pytest.mark.parametrize(
    "stale", ["private:1:0000:{tmp}", "private:1:0000:/nowhere", "host:1:-:/nowhere", "garbage", ""]
)
def test_a_stale_variable_is_not_believed(script: Script, tmp_path: Path, stale: str) -> None:
    kind, inside = script(
        """
        os.environ[namespaces.VARIABLE] = arguments[0]
        outside = os.readlink("/proc/self/ns/mnt")
        place = namespaces.find_place()
        show([place.kind, outside != os.readlink("/proc/self/ns/mnt")])
        """,
        stale.format(tmp=tmp_path),
    )
    assert (kind, inside) == ("private", True)


@needs_root
def test_a_child_of_a_host_place_uses_it_too(script: Script) -> None:
    script(
        """
        outside = os.readlink("/proc/self/ns/mnt")
        place = namespaces.find_place("host")
        assert place.kind == "host" and os.listdir(place.path) == []
        namespaces._places.clear()
        assert namespaces.find_place().kind == "host"
        assert os.readlink("/proc/self/ns/mnt") == outside
        """
    )


@needs_root
def test_trying_leaves_this_process_where_it_was(script: Script) -> None:
    script(
        """
        before = os.readlink("/proc/self/ns/mnt"), kernel.mounts()
        assert namespaces.try_private() is None
        assert (os.readlink("/proc/self/ns/mnt"), kernel.mounts()) == before
        """
    )


@needs_root
def test_threads_that_ran_before_are_spoken_of(script: Script) -> None:
    note = script(
        """
        import warnings
        stop = threading.Event()
        threads = [threading.Thread(target=stop.wait) for _ in range(2)]
        for thread in threads: thread.start()
        place = namespaces.find_place()
        stop.set()
        for thread in threads: thread.join()
        show([place.kind, place.note])
        """
    )
    assert note == ["private", "2 threads that ran before stay outside of it"]


@needs_root
def test_only_the_main_thread_can_take_the_process_inside(script: Script) -> None:
    kind, note = script(
        """
        places = []
        thread = threading.Thread(target=lambda: places.append(namespaces.find_place()))
        thread.start(); thread.join()
        show([places[0].kind, places[0].note])
        """
    )
    assert kind == "host"
    assert "main thread" in note


def test_where_nothing_can_be_unshared_the_host_serves_and_the_refusal_is_noted(
    script: Script, everybodys_tmp: Path
) -> None:
    kind, note, text = script(
        """
        become_nobody()
        def refused(flags):
            raise PermissionError(1, "no")
        kernel.unshare = refused
        place = namespaces.find_place()
        try:
            namespaces.find_place("private")
        except Unavailable as error:
            show([place.kind, place.note, str(error)])
        """,
        tmp=everybodys_tmp,
    )
    assert kind == "host"
    assert note == "no private mount namespace (unshare the user and mount namespaces: EPERM)"
    assert "(CAP_SYS_ADMIN): missing" in text
    assert "--linkmode-namespace=host" in text


@needs_root
def test_a_step_that_kills_the_child_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(flags: int) -> None:
        os.kill(os.getpid(), 31)  # SIGSYS, as a seccomp filter of a container does it

    monkeypatch.setattr(kernel, "unshare", killed)
    refusal = namespaces.try_private()
    assert refusal == Refusal("start", "SIGSYS", privileged=True)


@needs_root
def test_a_step_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object, **more: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(kernel, "mount", refused)
    assert namespaces.try_private() == Refusal("make / private", "EACCES", privileged=True)


def test_a_name_that_somebody_else_took_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    user = namespaces.user_name()
    (tmp_path / f"trap-of-{user}").symlink_to("/etc")
    with pytest.raises(LinkmodeError, match="not a directory of this user"):
        own_directory("trap", 0o755)


def test_our_directory_has_its_mode_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = os.umask(0o077)
    try:
        path = own_directory("open", 0o755)
    finally:
        os.umask(before)
    assert os.stat(path).st_mode & 0o7777 == 0o755
    assert own_directory("open", 0o755) == path


@needs_root
def test_this_very_run_is_inside(place: Place) -> None:
    assert place.private
    assert find_place() == place
    mount = kernel.mount_at(place.path)
    assert mount is not None
    assert mount.source.startswith(namespaces.SOURCE)
    with pytest.raises(LinkmodeError):
        enter_private()


def test_a_refusal_says_how_to_go_on() -> None:
    error = Refusal("make / private", "EINVAL", privileged=True).unavailable()
    assert isinstance(error, Unavailable)
    assert "make / private: EINVAL" in str(error)
