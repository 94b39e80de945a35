"""What a fault does, to which call: numbers, paths, kills, short copies, results."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import pytest

from pytest_linkmode.faults import Fault, FaultRunner, Kill
from pytest_linkmode.faults.log import Call
from tests.patience import LONGER, SECONDS
from tests.pytest_linkmode.faults.programs import python

LINKS = """
import os, sys
for name in sys.argv[1:]:
    try:
        os.link("a", name)
    except OSError as error:
        print(name, error.strerror)
"""
COPY = """
import os
source = os.open("a", os.O_RDONLY)
target = os.open("b", os.O_CREAT | os.O_WRONLY, 0o600)
copied = []
while True:
    COPYING
    copied.append(count)
    if count == 0:
        break
print(*copied)
"""
COPYING = {
    "copy_file_range": "count = os.copy_file_range(source, target, 1 << 30)",
    "copy_file_range at": "count = os.copy_file_range(source, target, 1 << 30, sum(copied))",
    "sendfile": "count = os.sendfile(target, source, None, 1 << 30)",
    "sendfile at": "count = os.sendfile(target, source, sum(copied), 1 << 30)",
    "write": "count = os.write(target, os.pread(source, 1 << 20, sum(copied)))",
    "pwrite64": "count = os.pwrite(target, os.pread(source, 1 << 20, sum(copied)), sum(copied))",
    "writev": "count = os.writev(target, [os.pread(source, 1 << 20, sum(copied))])",
    "writev of two": (
        "count = os.writev(target, [os.pread(source, 1000, sum(copied)), "
        "os.pread(source, 1 << 20, sum(copied) + 1000)])"
    ),
    "pwritev": "count = os.pwritev(target, [os.pread(source, 1 << 20, sum(copied))], sum(copied))",
}
"""Ways to copy 100,000 bytes, each in a loop that goes on until nothing is left."""

BOTH: dict[str, dict[str, Any]] = {"supervisor": {}, "tracer": {"results": True}}


@pytest.fixture(params=BOTH)
def watched(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Run with each of the mechanisms that look at calls one by one."""
    return BOTH[request.param]


def links(directory: pathlib.Path) -> set[str]:
    return set(os.listdir(directory)) - {"a"}


def test_the_nth_call_fails_and_no_other(
    runner: FaultRunner, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    fault = Fault("hardlink", "EMLINK", nth=2)
    run = runner.run(python(LINKS, "x", "y", "z"), cwd=place, faults=[fault], **watched)
    assert run.stdout == "y Too many links\n"
    assert links(place) == {"x", "z"}
    assert [(call.nth, call.error) for call in run.calls if call.error] == [(2, "EMLINK")]
    assert run.fired == {fault: 1}


def test_a_path_is_a_glob_over_the_paths_of_the_call(
    runner: FaultRunner, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    run = runner.run(
        python(LINKS, "x1", "x2", "y1"), cwd=place, faults=["hardlink:EPERM:path=*/x?"], **watched
    )
    assert links(place) == {"y1"}
    assert [call.path for call in run.calls if call.fault] == [str(place / "x1"), str(place / "x2")]


def test_with_a_path_the_nth_is_counted_among_the_calls_that_match_it(
    runner: FaultRunner, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    runner.run(
        python(LINKS, "y1", "x1", "y2", "x2", "x3"),
        cwd=place,
        faults=["hardlink:EPERM:path=*/x?:nth=2"],
        **watched,
    )
    assert links(place) == {"y1", "y2", "x1", "x3"}


def test_below_means_names_that_are_made_there_not_taken_from_there(
    runner: FaultRunner, tmp_path: pathlib.Path, watched: dict[str, Any]
) -> None:
    for name in ("cache", "t1", "t2"):
        (tmp_path / name).mkdir()
    (tmp_path / "cache/a").write_text("x")
    (tmp_path / "odd").symlink_to("t1")
    program = "import os; os.link('cache/a', 't2/a'); os.link('cache/a', 't1/a')"
    for below in ("t1", "odd"):
        # However the directory is spelled, and although the source of both lies in the cache.
        faults = [f"hardlink:EXDEV:below={tmp_path / below}", "hardlink:EIO:below=/nowhere"]
        faults += [f"hardlink:EIO:below={tmp_path / 'cache'}", f"hardlink:EIO:below={tmp_path}/t"]
        run = runner.run(python(program), cwd=tmp_path, faults=faults, **watched)
        assert "OSError: [Errno 18]" in run.stderr
        assert (tmp_path / "t2/a").exists()
        (tmp_path / "t2/a").unlink()


def test_paths_are_absolute_wherever_the_program_stands(
    runner: FaultRunner, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    program = """
import os
os.mkdir("d")
here = os.open(".", os.O_RDONLY)
os.link("a", "d/x", src_dir_fd=here, dst_dir_fd=here)
os.chdir("d")
os.rename("./x", "../y")
os.symlink("../y", "s")
os.unlink("//proc/self/cwd/s")
"""
    run = runner.run(python(program), cwd=place, **watched)
    assert run.stderr == ""
    assert [(call.op, call.paths) for call in run.calls] == [
        ("mkdir", (f"{place}/d",)),
        ("hardlink", (f"{place}/a", f"{place}/d/x")),
        ("rename", (f"{place}/d/x", f"{place}/y")),
        ("symlink", ("../y", f"{place}/d/s")),
        ("unlink", ("/proc/self/cwd/s",)),
    ]


def test_a_path_that_crosses_a_page_or_is_none_is_read_as_the_kernel_reads_it(
    runner: FaultRunner, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    program = """
import ctypes, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
pages = mmap.mmap(-1, 3 * 4096)
start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
name = b"n" * 200
for address in (4096 - 100, 8192 - 1, 3 * 4096 - 201):
    pages[address:address + 201] = name + bytes(1)
    print(libc.mkdir(ctypes.c_void_p(start + address), 0o755))
    os.rmdir(name)
for wild in (0, 8, 2**47, 2**64 - 1):
    print(libc.mkdir(ctypes.c_void_p(wild), 0o755), ctypes.get_errno())
"""
    run = runner.run(python(program), cwd=place, log=("mkdir",), **watched)
    assert run.stderr == ""
    assert run.stdout.split() == ["0"] * 3 + ["-1", "14"] * 4
    assert [os.path.basename(call.path) for call in run.calls[:3]] == ["n" * 200] * 3


def test_threads_and_children_are_counted_together(
    runner: FaultRunner, calls: str, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    fault = Fault("mkdir", "EIO", nth=50)
    run = runner.run([calls, "mkdirs:threads"], cwd=place, faults=[fault], **watched)
    assert len(run.of("mkdir")) == run.counts["mkdir"] == 100
    assert [call.nth for call in run.of("mkdir")] == list(range(1, 101))
    assert len(links(place)) == 99
    assert len({call.thread for call in run.calls}) == 5
    assert run.fired == {fault: 1}


def test_a_signal_does_not_make_one_call_two(
    runner: FaultRunner, calls: str, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    run = runner.run([calls, "mkdirs:signals"], cwd=place, **watched)
    assert run.stdout == "100 0\n"
    assert len(run.of("mkdir")) == 100


def test_shells_and_what_they_start_meet_the_fault(
    runner: FaultRunner, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    command = ["sh", "-c", "ln a x; (ln a y; ln a z) & wait; exec ln a w"]
    run = runner.run(command, cwd=place, faults=["hardlink:EXDEV:path=*/[yw]"], **watched)
    assert links(place) == {"x", "z"}
    assert run.returncode == 1
    assert run.stderr.count("cross-device") + run.stderr.count("Cross-device") == 2


def test_an_interruption_hits_a_call_once_and_its_repetition_goes_through(
    runner: FaultRunner, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    # CPython repeats open(2) and write(2) by itself for as long as they say EINTR.
    program = "open('b', 'wb').write(b'x'); open('c', 'wb').write(b'x')"
    run = runner.run(
        python(program),
        cwd=place,
        faults=["create:EINTR", "copy:EINTR"],
        timeout=SECONDS,
        **watched,
    )
    assert run.returncode == 0
    assert links(place) == {"b", "c"}
    assert run.fired == {Fault("create", "EINTR"): 2, Fault("copy", "EINTR"): 2}


def test_success_that_did_nothing_is_success_and_nothing(
    runner: FaultRunner, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    program = """
import os
os.link("a", "l")
os.symlink("a", "s")
os.mkdir("d")
os.rename("a", "r")
os.unlink("a")
with open("w", "wb", buffering=0) as file:
    print(file.write(b"x" * 100))
source, target = os.open("a", os.O_RDONLY), os.open("c", os.O_CREAT | os.O_WRONLY)
print(os.copy_file_range(source, target, 100), os.sendfile(target, source, None, 100))
print(os.writev(target, [b"abc", b"de"]))
"""
    ops = ("hardlink", "symlink", "mkdir", "rename", "unlink", "copy")
    run = runner.run(python(program), cwd=place, faults=[f"{op}:NOEFFECT" for op in ops], **watched)
    assert run.stderr == ""
    assert run.stdout == "100\n0 0\n5\n"
    assert links(place) == {"w", "c"}
    assert (place / "w").stat().st_size == (place / "c").stat().st_size == 0
    assert {call.error for call in run.calls} == {None}


@pytest.mark.parametrize("way", COPYING)
def test_a_short_copy_copies_half_and_a_loop_gets_there(
    way: str, runner: FaultRunner, place: pathlib.Path
) -> None:
    program = COPY.replace("COPYING", COPYING[way])
    run = runner.run(python(program), cwd=place, faults=[Fault("copy", "SHORT")])
    assert run.stderr == ""
    copied = [int(count) for count in run.stdout.split()]
    assert copied[0] == (1_000 if way == "writev of two" else 50_000)
    assert len(copied) > 10
    assert (place / "b").read_bytes() == (place / "a").read_bytes()
    (call,) = [call for call in run.of("copy") if call.path.endswith("/b")]
    assert call.way.startswith(way.split(" ")[0])  # of two versions of one call, libc chooses
    assert call.result == 100_000


def test_a_copy_is_one_file_however_many_calls_it_takes(
    runner: FaultRunner, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    program = """
for name in "xyz":
    with open(name, "wb", buffering=0) as file:
        for _ in range(10):
            try:
                file.write(b"1234567890")
            except OSError as error:
                print(name, error.errno)
                break
"""
    run = runner.run(python(program), cwd=place, faults=["copy:ENOSPC:nth=2"], **watched)
    assert run.stdout == "y 28\n"
    sizes = {name: (place / name).stat().st_size for name in "xyz"}
    assert sizes == {"x": 100, "y": 0, "z": 100}
    assert [(call.nth, os.path.basename(call.path)) for call in run.of("copy")] == [
        (1, "x"),
        (2, "y"),
        (3, "z"),
    ]


def test_a_file_made_anew_is_copied_anew_although_it_has_the_old_inode(
    runner: FaultRunner, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    program = """
import os
for _ in range(3):
    with open("b", "wb") as file:
        file.write(b"x")
    os.rename("b", "c")
    os.unlink("c")
"""
    run = runner.run(python(program), cwd=place, **watched)
    assert [call.nth for call in run.of("copy")] == [1, 2, 3]


RENAMES = {
    "a file": ("exec 3>t; mv t f", "f"),
    "a file over another": (">f; exec 3>t; mv t f", "f"),
    "a file twice": ("exec 3>t; mv t u; mv u f", "f"),
    "its directory": ("mkdir s; exec 3>s/t; mv s S", "S/t"),
    "the directory of its directory": ("mkdir -p s/s; exec 3>s/s/t; mv s S", "S/s/t"),
}
"""Ways to rename a file between its open and its first bytes, and where it is then."""


@pytest.mark.parametrize("what", RENAMES)
def test_a_file_that_was_made_and_renamed_is_copied_into(
    what: str, runner: FaultRunner, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    renames, where = RENAMES[what]
    program = ["sh", "-c", f"{renames}; echo x >&3"]
    # Nobody asks for the renames here: neither the log nor a fault.
    run = runner.run(program, cwd=place, faults=["copy:ENOSPC"], log=("copy",), **watched)
    assert run.returncode == 1
    assert [(call.path, call.error) for call in run.calls] == [(str(place / where), "ENOSPC")]
    assert (place / where).stat().st_size == 0


def test_a_file_without_a_name_in_a_renamed_directory_is_copied_into(
    runner: FaultRunner, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    program = """
import os
os.mkdir("s")
file = os.open("s", os.O_TMPFILE | os.O_WRONLY)
os.rename("s", "S")
os.write(file, b"x")
"""
    try:
        os.close(os.open(place, os.O_TMPFILE | os.O_WRONLY))
    except OSError:
        pytest.skip("the filesystem of the temporary files has no files without a name")
    run = runner.run(python(program), cwd=place, faults=["copy:ENOSPC"], **watched)
    assert "OSError: [Errno 28]" in run.stderr


EXCHANGE = """
import ctypes, os, sys
renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
here, flags = -100, int(sys.argv[1])
os.close(os.open("m", os.O_CREAT | os.O_WRONLY))
if renameat2(here, b"m", here, b"a", flags):
    print(os.strerror(ctypes.get_errno()))
for name in "am":
    file = os.open(name, os.O_WRONLY)
    try:
        os.write(file, b"x")
    except OSError:
        print(name)
    os.close(file)
"""


@pytest.mark.parametrize(("flags", "said"), [(1, "File exists\nm\n"), (2, "a\n")])
def test_a_rename_that_exchanges_or_refuses_is_followed_as_what_it_is(
    flags: int, said: str, runner: FaultRunner, place: pathlib.Path
) -> None:
    run = runner.run(python(EXCHANGE, str(flags)), cwd=place, faults=["copy:EIO"])
    assert (run.stderr, run.stdout) == ("", said)


def test_an_old_file_renamed_to_where_one_was_made_is_no_copy(
    runner: FaultRunner, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    program = """
import os
os.close(os.open("b", os.O_CREAT | os.O_WRONLY))
os.rename("a", "b")
os.write(os.open("b", os.O_WRONLY), b"x")
"""
    run = runner.run(python(program), cwd=place, faults=["copy:EIO"], **watched)
    assert (run.stderr, run.of("copy")) == ("", ())


def test_writing_to_a_pipe_or_to_an_old_file_is_no_copy(
    runner: FaultRunner, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    program = """
import os
print("to a pipe", flush=True)
file = os.open("a", os.O_WRONLY)
os.write(file, b"x")
"""
    run = runner.run(python(program), cwd=place, faults=["copy:EIO"], **watched)
    assert run.stdout == "to a pipe\n"
    assert run.stderr == ""
    assert run.of("copy") == ()


def test_one_system_call_can_be_meant_alone(
    runner: FaultRunner, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    program = """
import os
source, target = os.open("a", os.O_RDONLY), os.open("b", os.O_CREAT | os.O_WRONLY)
try:
    os.copy_file_range(source, target, 1 << 20)
except OSError as error:
    print(error.errno, os.sendfile(target, source, None, 1 << 20))
"""
    fault = "copy:EXDEV:way=copy_file_range"
    for keywords in ({"log": ()}, watched):
        run = runner.run(python(program), cwd=place, faults=[fault], **keywords)
        assert run.stdout == "18 100000\n"
    assert [(call.nth, call.way, call.error) for call in run.of("copy")] == [
        (1, "copy_file_range", "EXDEV"),
        (1, "sendfile", None),
    ]


def test_two_faults_at_once(
    runner: FaultRunner, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    faults = ["hardlink:EMLINK:nth=1", "hardlink:EXDEV:path=*/y", "hardlink:EIO:nth=2"]
    run = runner.run(python(LINKS, "x", "y", "z"), cwd=place, faults=faults, **watched)
    # Where two are due the first is meant, and each counts all the same.
    assert run.stdout == "x Too many links\ny Invalid cross-device link\n"
    assert links(place) == {"z"}


def test_a_kill_before_a_call_prevents_it_and_everything_after(
    runner: FaultRunner, place: pathlib.Path, watched: dict[str, Any]
) -> None:
    run = runner.run(
        python(LINKS, "x", "y", "z"), cwd=place, faults=[Kill("hardlink", 2)], **watched
    )
    assert run.returncode == -9
    assert links(place) == {"x"}
    assert run.calls[-1].fault == "hardlink:kill-before:nth=2"


def test_a_kill_after_a_call_lets_it_happen_and_nothing_after(
    runner: FaultRunner, place: pathlib.Path
) -> None:
    kill = Kill("hardlink", 2, "after")
    run = runner.run(python(LINKS, "x", "y", "z"), cwd=place, faults=[kill])
    assert run.returncode == -9
    assert links(place) == {"x", "y"}
    assert run.calls[-1].result == 0
    assert run.fired == {kill: 1}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_reaches_threads_and_children_as_well(
    when: str, runner: FaultRunner, place: pathlib.Path
) -> None:
    program = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.mkdir("ready")
        time.sleep({LONGER})
    os._exit(0)
while not os.path.exists("ready"):
    time.sleep(0.001)
os.link("a", "x")
"""
    run = runner.run(python(program), cwd=place, faults=[f"hardlink:kill-{when}"], timeout=SECONDS)
    assert run.returncode == -9
    assert run.seconds < 10
    assert (place / "x").exists() is (when == "after")


def test_a_kill_after_a_copy_leaves_what_its_first_call_wrote(
    runner: FaultRunner, place: pathlib.Path
) -> None:
    program = """
with open("b", "wb", buffering=0) as file:
    for _ in range(10):
        file.write(b"1234567890")
"""
    runner.run(python(program), cwd=place, faults=["copy:kill-after"])
    assert (place / "b").read_bytes() == b"1234567890"


def test_results_say_what_came_of_each_call(runner: FaultRunner, place: pathlib.Path) -> None:
    run = runner.run(python(LINKS, "x", "x", "no/x"), cwd=place, results=True)
    assert [(call.result, call.error) for call in run.of("hardlink")] == [
        (0, None),
        (None, "EEXIST"),
        (None, "ENOENT"),
    ]
    entry = runner.run(python(LINKS, "x"), cwd=place)
    assert [(call.result, call.error) for call in entry.of("hardlink")] == [(None, None)]


def test_with_serial_one_call_is_under_way_at_a_time(
    runner: FaultRunner, calls: str, place: pathlib.Path
) -> None:
    run = runner.run([calls, "mkdirs:threads"], cwd=place, serial=True, timeout=SECONDS)
    assert len(run.of("mkdir")) == 100
    assert {call.result for call in run.calls} == {0}
    # The log is in the order of the calls: a directory is as old as its line.
    ages = [os.stat(call.path).st_ctime_ns for call in run.of("mkdir")]
    assert ages == sorted(ages)


def test_with_serial_a_call_that_waits_for_another_does_not_hold_it_up(
    runner: FaultRunner, place: pathlib.Path
) -> None:
    os.mkfifo(place / "fifo")
    program = """
import os, threading
# Opening a fifo to read it waits until somebody opens it to write.
reading = lambda: os.close(os.open("fifo", os.O_RDONLY | os.O_CREAT))
thread = threading.Thread(target=reading)
thread.start()
os.mkdir("d")
os.close(os.open("fifo", os.O_WRONLY | os.O_CREAT))
thread.join()
print("both")
"""
    run = runner.run(python(program), cwd=place, serial=True, timeout=SECONDS)
    assert run.stdout == "both\n"
    assert (place / "d").is_dir()


def test_a_call_reads_like_what_happened() -> None:
    call = Call(
        "hardlink", 2, "linkat", ("/c/a", "/t/a"), 7, "hardlink:EMLINK:nth=2", error="EMLINK"
    )
    assert str(call) == "hardlink 2: linkat /c/a -> /t/a = EMLINK (fault hardlink:EMLINK:nth=2)"
    assert call.path == "/t/a"


@pytest.mark.linkmode(fs=["btrfs"], needs={"reflink"})
def test_a_short_clone_claims_success_and_clones_half(
    runner: FaultRunner, calls: str, linkmode_fs: Any
) -> None:
    place = linkmode_fs.path
    (place / "a").write_bytes(os.urandom(1 << 16))
    for name in ("ioctl:FICLONE", "ioctl:FICLONERANGE"):
        run = runner.run([calls, name], cwd=place, faults=["clone:SHORT"])
        assert run.stdout == "0 0\n"
        assert (place / "b").read_bytes() == (place / "a").read_bytes()[: 1 << 15]
        assert (place / "a").stat().st_size == 1 << 16
    (place / "a").write_bytes(b"less than two blocks")
    runner.run([calls, "ioctl:FICLONE"], cwd=place, faults=["clone:SHORT"])
    assert (place / "b").read_bytes() == b""
