"""The same faults for Python code in this process, and for nobody else in it."""

from __future__ import annotations

import builtins
import errno
import io
import os
import pathlib
import shutil
import stat
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pytest_linkmode.faults import Call, FaultRunner, Kill, SweepFailed
from pytest_linkmode.faults.inprocess import Injection, Killed
from pytest_linkmode.faults.ops import FICLONE
from pytest_linkmode.faults.spec import parse_all
from tests.windows import wine

BYTES = 100_000


@pytest.fixture
def here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Stand in a directory with a source file `a`."""
    (tmp_path / "a").write_bytes(os.urandom(1000) * (BYTES // 1000))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def inproc() -> FaultRunner:
    """Give a runner for functions, which every system can run."""
    return FaultRunner()


def run(function: Callable[[], object], *faults: str) -> tuple[Call, ...]:
    with Injection(parse_all(faults)) as injection:
        function()
    return injection.calls()


def created() -> None:
    with open("b", "w", encoding="utf-8") as file:
        file.write("x")


DOES: dict[str, tuple[str, str, Callable[[], object]]] = {
    "os.link": ("hardlink", "os.link", lambda: os.link("a", "b")),
    "Path.hardlink_to": ("hardlink", "os.link", lambda: pathlib.Path("b").hardlink_to("a")),
    "os.symlink": ("symlink", "os.symlink", lambda: os.symlink(src="a", dst="b")),
    "Path.symlink_to": ("symlink", "os.symlink", lambda: pathlib.Path("b").symlink_to("a")),
    "os.makedirs": ("mkdir", "os.mkdir", lambda: os.makedirs("b/c")),
    "Path.mkdir": ("mkdir", "os.mkdir", lambda: pathlib.Path("b").mkdir()),
    "os.rename": ("rename", "os.rename", lambda: os.rename("a", "b")),
    "os.replace": ("rename", "os.replace", lambda: os.replace("a", "b")),
    "os.unlink": ("unlink", "os.unlink", lambda: os.unlink("a")),
    "os.remove": ("unlink", "os.remove", lambda: os.remove("a")),
    "Path.unlink": ("unlink", "os.unlink", lambda: pathlib.Path("a").unlink()),
    "os.rmdir": ("unlink", "os.rmdir", lambda: os.rmdir("d")),
    "os.open": ("create", "os.open", lambda: os.close(os.open("b", os.O_CREAT | os.O_WRONLY))),
    **({"os.mknod": ("create", "os.mknod", lambda: os.mknod("b"))} if hasattr(os, "mknod") else {}),
    "open": ("create", "open", created),
    "Path.touch": ("create", "os.open", lambda: pathlib.Path("b").touch()),
    "Path.write_bytes": ("copy", "write", lambda: pathlib.Path("b").write_bytes(b"x")),
    "write": ("copy", "write", created),
}


@pytest.mark.parametrize("name", DOES)
def test_every_way_of_python_to_do_it_meets_its_fault(name: str, here: pathlib.Path) -> None:
    op, way, does = DOES[name]
    os.mkdir("d")
    before = sorted(os.listdir())
    with (
        pytest.raises(OSError, match="error") as raised,
        Injection(parse_all([f"{op}:EIO"])) as injection,
    ):
        does()
    assert raised.value.errno == errno.EIO
    if op != "copy":
        assert sorted(os.listdir()) == before
    hit = [call for call in injection.calls() if call.fault]
    assert {(call.op, call.way, call.error) for call in hit} == {(op, way, "EIO")}
    assert os.path.isabs(hit[0].path)


@pytest.mark.parametrize("name", DOES)
def test_without_a_fault_it_does_what_it_does_and_is_logged(name: str, here: pathlib.Path) -> None:
    op, way, does = DOES[name]
    if op == "symlink":
        wine.need("symlinks")
    os.mkdir("d")
    calls = [call for call in run(does) if (call.op, call.way) == (op, way)]
    assert calls
    assert all(call.error is None and call.result is not None for call in calls)
    assert sorted(os.listdir()) != ["a", "d"]


def test_modules_that_fall_back_by_themselves_do_so_here_too(here: pathlib.Path) -> None:
    calls = run(lambda: shutil.move("a", "b"), "rename:EXDEV")
    assert os.listdir() == ["b"]
    assert os.path.getsize("b") == BYTES
    assert [call.op for call in calls] == ["rename", "create", "copy", "unlink"]
    if sys.platform == "linux":
        ways = ("os.copy_file_range", "os.sendfile")  # the first from Python 3.14 on
        calls = run(lambda: shutil.copyfile("b", "c"), *(f"copy:EINVAL:way={way}" for way in ways))
        assert os.path.getsize("c") == BYTES
        assert [(call.way, call.error) for call in calls if call.op == "copy"] == [
            *((way, "EINVAL") for way in ways[sys.version_info < (3, 14) :]),
            ("write", None),
        ]


def test_an_error_names_the_files_as_the_system_does(here: pathlib.Path) -> None:
    with pytest.raises(FileExistsError) as raised, Injection(parse_all(["hardlink:EEXIST"])):
        os.link("a", "b")
    assert raised.value.filename == str(here / "a")
    assert raised.value.filename2 == str(here / "b")


def test_numbers_paths_and_results_are_as_for_programs(here: pathlib.Path) -> None:
    def links() -> None:
        for name in ("x1", "y1", "x2", "x3", "x1"):
            with pytest.MonkeyPatch.context(), open(os.devnull, "rb"):
                try:
                    os.link("a", name)
                except OSError:
                    continue

    calls = run(links, "hardlink:EPERM:nth=2:path=*/x?")
    assert [(call.nth, call.error) for call in calls] == [
        (1, None),
        (2, None),
        (3, "EPERM"),
        (4, None),
        (5, "EEXIST"),
    ]
    assert sorted(os.listdir()) == ["a", "x1", "x3", "y1"]


def test_a_directory_descriptor_is_where_a_path_starts(here: pathlib.Path) -> None:
    os.mkdir("d")
    directory = os.open("d", os.O_RDONLY)
    try:
        (call,) = run(lambda: os.link("a", "b", src_dir_fd=None, dst_dir_fd=directory))
    finally:
        os.close(directory)
    assert call.paths == (str(here / "a"), str(here / "d" / "b"))


def test_a_copy_is_one_file_and_a_file_made_anew_another(here: pathlib.Path) -> None:
    def copies() -> None:
        for name in ("x", "y", "x"):
            with open(name, "wb", buffering=0) as file:
                file.write(b"1")
                file.write(b"2")

    calls = [call for call in run(copies) if call.op == "copy"]
    assert [(call.nth, os.path.basename(call.path), call.result) for call in calls] == [
        (1, "x", 2),
        (2, "y", 2),
        (3, "x", 2),
    ]


@pytest.mark.parametrize("mode", ["wb", "w", "xb", "a", "w+b"])
def test_a_file_opened_with_faults_is_an_ordinary_file(mode: str, here: pathlib.Path) -> None:
    def write(name: str) -> tuple[type, str, Any]:
        text = "b" not in mode
        keywords = {"encoding": "utf-8", "newline": "\r\n"} if text else {}
        with open(name, mode, **keywords) as file:  # type: ignore[call-overload]
            file.write("é\n" if text else b"bytes")
            return type(file), file.mode, getattr(file, "line_buffering", None)

    plain = write("plain")
    with Injection(()):
        faulted = write("faulted")
    assert faulted == plain
    assert (here / "faulted").read_bytes() == (here / "plain").read_bytes()


@pytest.mark.parametrize("wrong", [{"mode": "w", "buffering": 0}, {"mode": "wb", "encoding": "x"}])
def test_a_wrong_use_of_open_is_the_error_that_it_is(wrong: Any, here: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"\w") as plain:
        open("b", **wrong).close()
    with Injection(()), pytest.raises(ValueError, match=str(plain.value)):
        open("b", **wrong).close()


def _into(target: int, data: bytes) -> int:
    with io.open(target, "wb", buffering=0, closefd=False) as file:  # noqa: UP020  # stood in, too
        return file.write(data) or 0


COPIES: dict[str, Callable[[int, int, int], int]] = {
    "copy_file_range": lambda source, target, _: os.copy_file_range(source, target, 1 << 40),
    "copy_file_range by names": lambda source, target, done: os.copy_file_range(
        src=source, dst=target, count=1 << 40, offset_dst=done
    ),
    "sendfile": lambda source, target, done: os.sendfile(target, source, done, 1 << 40),
    "sendfile by names": lambda source, target, done: os.sendfile(
        target, source, count=1 << 40, offset=done
    ),
    "write": lambda source, target, done: os.write(target, os.pread(source, BYTES, done)),
    "writev": lambda source, target, done: os.writev(target, [os.pread(source, BYTES, done)]),
    "pwrite": lambda source, target, done: os.pwrite(target, os.pread(source, BYTES, done), done),
    "file": lambda source, target, done: _into(target, os.pread(source, BYTES, done)),
}


@pytest.mark.skipif(sys.platform != "linux", reason="these are Linux's")
@pytest.mark.parametrize("way", COPIES)
def test_a_short_copy_copies_half_and_a_loop_gets_there(way: str, here: pathlib.Path) -> None:
    counts: list[int] = []

    def copy() -> None:
        source, target = os.open("a", os.O_RDONLY), os.open("b", os.O_CREAT | os.O_WRONLY)
        while not counts or counts[-1]:
            counts.append(COPIES[way](source, target, sum(counts)))
        os.close(source)
        os.close(target)

    calls = run(copy, "copy:SHORT")
    assert counts[0] == BYTES // 2
    assert (here / "b").read_bytes() == (here / "a").read_bytes()
    assert calls[-1].result == BYTES


@pytest.mark.skipif(sys.platform != "linux", reason="this is Linux's")
def test_a_short_copy_of_a_few_bytes_of_many_is_half_of_these_few(here: pathlib.Path) -> None:
    def copy() -> None:
        with open("a", "rb") as source, open("b", "wb") as target:
            assert os.copy_file_range(source.fileno(), target.fileno(), 100) == 50

    run(copy, "copy:SHORT")
    assert os.path.getsize("b") == 50


posix: Any = sys.modules.get("posix")


def fcopyfile(source: int, into: int, _flags: int, /) -> None:
    """Copy as the call of macOS does, by which `shutil` copies there."""
    while data := posix.read(source, 1 << 16):
        posix.write(into, data)


@pytest.fixture
def as_on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posix, "_fcopyfile", fcopyfile, raising=False)
    monkeypatch.setattr(posix, "_COPYFILE_DATA", 8, raising=False)
    monkeypatch.setattr(shutil, "_HAS_FCOPYFILE", True)


@pytest.mark.usefixtures("as_on_a_mac")
def test_what_shutil_copies_by_on_a_mac_is_a_copy(here: pathlib.Path) -> None:
    injection = Injection(parse_all(["copy:ENOSPC:path=*/b"]))
    with injection, pytest.raises(OSError, match="No space left"):
        shutil.copyfile("a", "b")
    ways = [call.way for call in injection.calls() if call.op == "copy"]
    assert ways == ["posix._fcopyfile"]
    assert (here / "b").read_bytes() == b""
    run(lambda: shutil.copyfile("a", "b"), "copy:SHORT")
    assert (here / "b").read_bytes() == (here / "a").read_bytes()[: BYTES // 2]
    run(lambda: shutil.copyfile("a", "b"), "copy:NOEFFECT")
    assert (here / "b").read_bytes() == b""
    run(lambda: shutil.copyfile("a", "b"))
    assert (here / "b").read_bytes() == (here / "a").read_bytes()


SPLICES: dict[str, Callable[[int, int], int]] = {
    "by position": lambda pipe, file: os.splice(pipe, file, 1 << 20),
    "by names": lambda pipe, file: os.splice(src=pipe, dst=file, count=1 << 20, flags=0),
    "at a place": lambda pipe, file: os.splice(pipe, file, 8, offset_dst=0),
}


@pytest.mark.skipif(sys.platform != "linux", reason="splice is Linux's")
@pytest.mark.parametrize("how", SPLICES)
def test_what_comes_out_of_a_pipe_into_a_file_is_a_copy(how: str, here: pathlib.Path) -> None:
    def splice() -> None:
        reading, writing = os.pipe()
        target = os.open("b", os.O_CREAT | os.O_WRONLY)
        try:
            os.write(writing, b"12345678")
            assert SPLICES[how](reading, target) == int(left)
        finally:
            for descriptor in (reading, writing, target):
                os.close(descriptor)

    for fault, left in (("", "8"), ("copy:SHORT", "4"), ("copy:NOEFFECT", "0")):
        calls = [call for call in run(splice, *filter(None, [fault])) if call.op == "copy"]
        assert [(call.way, call.result) for call in calls] == [("os.splice", int(left))]
        assert os.path.getsize("b") == int(left)
        os.remove("b")
    with pytest.raises(OSError, match="No space"):
        run(splice, "copy:ENOSPC")


@pytest.mark.skipif(not hasattr(os, "mknod"), reason="there is no mknod here")
def test_a_node_is_made_and_filled_as_a_file_is_and_a_pipe_is_none(here: pathlib.Path) -> None:
    def does() -> None:
        os.mknod("pipe", stat.S_IFIFO | 0o600)
        os.mknod("b", mode=stat.S_IFREG | 0o600)
        target = os.open("b", os.O_WRONLY)
        os.write(target, b"1")
        os.close(target)

    calls = run(does)
    assert [(call.op, call.way, call.path) for call in calls] == [
        ("create", "os.mknod", str(here / "b")),
        ("copy", "os.write", str(here / "b")),
    ]
    os.remove("pipe")
    os.remove("b")
    with pytest.raises(FileExistsError):
        run(does, "create:EEXIST")
    assert sorted(os.listdir()) == ["a", "pipe"]


@pytest.mark.skipif(sys.platform != "linux", reason="these are Linux's")
def test_what_is_no_call_of_a_function_is_the_error_that_it_is(here: pathlib.Path) -> None:
    def wrong(*arguments: Any, **keywords: Any) -> None:
        with pytest.raises(TypeError) as plain:
            os.copy_file_range(*arguments, **keywords)
        with Injection(parse_all(["clone:EIO"])), pytest.raises(TypeError) as stood_in:
            os.copy_file_range(*arguments, **keywords)
        assert str(stood_in.value) == str(plain.value)

    wrong(1)
    wrong(src=1, dst=2)
    wrong(1, 2, 3, src=1)
    wrong(1, 2, 3, odd=1)


def test_success_that_did_nothing(here: pathlib.Path) -> None:
    def does() -> None:
        os.link("a", "l")
        os.symlink("a", "s")
        os.mkdir("d")
        os.rename("a", "r")
        os.unlink("a")
        with open("b", "wb", buffering=0) as file:
            assert file.write(b"12345") == 5

    ops = ("hardlink", "symlink", "mkdir", "rename", "unlink", "copy")
    run(does, *(f"{op}:NOEFFECT" for op in ops))
    assert sorted(os.listdir()) == ["a", "b"]
    assert os.path.getsize("b") == 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_no_operation_survives_a_kill(when: Any, here: pathlib.Path) -> None:
    def links() -> None:
        try:
            os.link("a", "x")
            os.link("a", "y")
        except Exception:  # noqa: BLE001  # what a kill must pass by
            os.mkdir("swallowed")
        finally:
            os.unlink("x")

    with Injection([Kill("hardlink", 2, when)]) as injection:
        links()
    assert injection.killed
    assert isinstance(injection.error, Killed)
    assert sorted(os.listdir()) == (["a", "x"] if when == "before" else ["a", "x", "y"])


def test_threads_that_it_starts_meet_the_faults_and_others_do_not(here: pathlib.Path) -> None:
    go, gone = threading.Event(), threading.Event()
    outside: list[str] = []

    def other() -> None:
        go.wait()
        os.link("a", "other")
        outside.append("linked")
        gone.set()

    before = threading.Thread(target=other)
    before.start()
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()

    with Injection(parse_all(["hardlink:EMLINK"])) as injection:
        pool.submit(os.link, "a", "pooled").result()
        go.set()
        gone.wait()
        inside = threading.Thread(target=lambda: _linked("mine", outside))
        inside.start()
        inside.join()
        with ThreadPoolExecutor(1) as own, pytest.raises(OSError, match="link"):
            own.submit(os.link, "a", "own").result()
    before.join()
    pool.shutdown()
    assert outside == ["linked", "EMLINK"]
    assert sorted(os.listdir()) == ["a", "other", "pooled"]
    assert len({call.thread for call in injection.calls()}) == 2


def _linked(name: str, into: list[str]) -> None:
    try:
        os.link("a", name)
    except OSError as error:
        into.append(errno.errorcode[error.errno or 0])


def test_what_was_there_before_is_there_again(here: pathlib.Path) -> None:
    def now() -> list[object]:
        functions = [getattr(os, name) for name in ("link", "open", "write", "rename")]
        return [*functions, builtins.open, io.open, threading.Thread.start]

    before = now()
    powers = [os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks]
    sizes, links = [len(each) for each in powers], [os.link in each for each in powers]
    with Injection(()), Injection(()):
        assert os.link is not before[0]
        assert [os.link in each for each in powers] == links
    assert [len(each) for each in powers] == sizes
    assert all(one is other for one, other in zip(before, now(), strict=True))


def test_what_somebody_else_put_on_top_stays(
    here: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.link
    with Injection(()):
        beneath = os.link
        monkeypatch.setattr(os, "link", lambda *words: beneath(*words))
        theirs = os.link
    assert os.link is theirs
    os.link("a", "b")
    assert os.path.exists("b")
    monkeypatch.undo()
    os.link = original


def test_a_file_that_outlives_the_injection_is_an_ordinary_file(here: pathlib.Path) -> None:
    with Injection(parse_all(["copy:EIO"])):
        file = open("b", "wb")  # noqa: SIM115  # it shall outlive it
    file.write(b"x")
    file.close()
    assert (here / "b").read_bytes() == b"x"


@pytest.mark.skipif(sys.platform != "linux", reason="FICLONE is Linux's")
@pytest.mark.linkmode(fs=["btrfs"], needs={"reflink"})
def test_a_clone_meets_its_fault(linkmode_fs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    monkeypatch.chdir(linkmode_fs.path)
    (linkmode_fs.path / "a").write_bytes(os.urandom(1 << 16))

    def clone() -> None:
        with open("a", "rb") as source, open("b", "wb") as target:
            assert fcntl.ioctl(target, FICLONE, source.fileno()) == 0

    with pytest.raises(OSError, match="not supported"):
        run(clone, "clone:EOPNOTSUPP")
    for fault, size in (("NOEFFECT", 0), ("SHORT", 1 << 15)):
        calls = run(clone, f"clone:{fault}")
        assert os.path.getsize("b") == size
        assert [call.paths for call in calls if call.op == "clone"] == [
            (str(linkmode_fs.path / "a"), str(linkmode_fs.path / "b"))
        ]
    run(clone)
    assert os.path.getsize("b") == 1 << 16


def linker(target: pathlib.Path) -> None:
    """Link `a` twice, and copy where that is refused; tidy up after errors only."""
    for name in ("x", "y"):
        try:
            os.link("a", target / name)
        except OSError:
            part = target / ".part"
            try:
                shutil.copyfile("a", part)
                os.rename(part, target / name)
            except OSError:
                part.unlink()
                raise


def test_a_function_is_swept_like_a_program(inproc: FaultRunner, here: pathlib.Path) -> None:
    target = here / "t"
    target.mkdir()
    seen: set[tuple[str, int]] = set()
    for case in inproc.sweep(
        lambda: linker(target), ops=("hardlink", "rename"), faults=["hardlink:EXDEV"], target=target
    ):
        with case:
            names = sorted(os.listdir(target))
            seen.add((case.hit.op if case.hit else "", case.run.returncode))
            if case.run.error is not None:
                assert isinstance(case.run.error, OSError)
            if not case.killed:
                assert ".part" not in names
            assert all((target / n).stat().st_size == BYTES for n in names if n[0] != ".")
    assert {("rename", 1), ("rename", -9), ("", 0)} <= seen


def test_a_failing_function_is_replayed_by_the_same_line(
    inproc: FaultRunner, here: pathlib.Path
) -> None:
    target = here / "t"
    target.mkdir()

    def careless() -> None:
        os.mkdir(target / "d")
        os.mkdir(target / "d" / "e")

    def sweep() -> None:
        for case in inproc.sweep(careless, ops=("mkdir",), errors=("EIO",), target=target):
            with case:
                assert case.killed or len(os.listdir(target)) != 1 or os.listdir(target / "d")

    with pytest.raises(SweepFailed) as raised:
        sweep()
    assert "swept 6 cases of careless (calls: 2 mkdir): 1 failed" in str(raised.value)
    assert "--linkmode-fault='mkdir:EIO:nth=1:path=*/e'" in str(raised.value)


def test_check_raises_the_error_itself(inproc: FaultRunner, here: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        inproc.run(lambda: os.unlink("no"), check=True)
    assert inproc.run(lambda: os.unlink("no")).returncode == 1
