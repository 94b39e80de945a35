"""A source that two processes scan is known as if one had scanned it, whatever the helper does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from linker import LinkError, LinkMode, link_tree, scanning
from linker.helping import Desk
from linker.platforms.linux import CALLS, LinuxPlatform
from linker.scanning import scan_together
from linker.tree import Lost, Node, Reserved, Scan, SpecialFile, scan, walk
from tests.linker import trees
from tests.linker.trees import Directory, File, Symlink, Tree

RESERVED = ".ours-"


def tree() -> Tree:
    """Return a tree of all that a scan can meet, with names of any bytes."""
    made: dict[str, File | Directory | Symlink] = {}
    for number in range(12):
        for inner in range(5):
            path = f"p{number}/d{inner}/in"
            made[f"{path}/module{inner}.py"] = File(b"x" * number)
            made[f"{path}/Ünï.py"] = File(b"")
            made[f"{path}/A\udcff"] = File(b"")
            made[f"{path}/link"] = Symlink("../../nowhere")
            made[f"{path}/below/empty"] = Directory(0o700)
        made[f"p{number}/Mixed/a"] = File(b"a")
        made[f"p{number}/Mixed/A"] = File(b"A")
    made["p3"] = Directory(0o555)
    made["top"] = File(b"top")
    return made


class Helper:
    """What the helper of a test does, and how it came out."""

    def __init__(self) -> None:
        self.deed: Callable[[int], object] = lambda _: None
        """Called in the helper before it reads its n-th directory."""
        self.hired = 0
        self.patient = True
        """Whether the parent waits until the helper is gone before it takes a ticket."""
        self.refused = False
        self.vouched = 0
        self.running = False


@pytest.fixture
def helper(monkeypatch: pytest.MonkeyPatch) -> Iterator[Helper]:
    made = Helper()
    be, hire, result, read = Desk._help, Desk.hire, Desk.result, Scan.read
    reads = [0]
    pids: list[int] = []

    def being(desk: Desk, *given: Any) -> None:
        made.running = True  # in the helper's own memory
        be(desk, *given)

    def hiring(desk: Desk, work: Any) -> bool:
        if made.refused or not hire(desk, work):
            return False
        made.hired += 1
        pids.append(desk._helpers[-1][0])
        if made.patient:
            os.waitid(os.P_PID, pids[-1], os.WEXITED | os.WNOWAIT)
        return True

    def telling(desk: Desk, ticket: int) -> list[int] | None:
        found = result(desk, ticket)
        made.vouched += found is not None
        return found

    def reading(found: Scan, node: Node, handle: int) -> Any:
        if made.running:
            reads[0] += 1
            made.deed(reads[0])
        return read(found, node, handle)

    monkeypatch.setattr(Desk, "_help", being)
    monkeypatch.setattr(Desk, "hire", hiring)
    monkeypatch.setattr(Desk, "result", telling)
    monkeypatch.setattr(Scan, "read", reading)
    monkeypatch.setattr(LinuxPlatform, "may_fork", property(lambda self: self.calls is CALLS))
    monkeypatch.setattr(scanning, "WAITING", 20)
    yield made
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


Seen = tuple[list[dict[str, object]], int, list[tuple[str, str, str]]]


def seen_by(path: str, call: Callable[..., Any], *more: int) -> Seen:
    """Return all that a scan has found, and that it has left no descriptor open."""
    before = len(os.listdir("/proc/self/fd"))
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    top = Node("", None)
    try:
        files, folding = call(LinuxPlatform(), root, top, RESERVED, *more)
    finally:
        os.close(root)
        assert len(os.listdir("/proc/self/fd")) == before
    kept = ("depth", "device", "directories", "files", "mode", "mtime_ns", "name", "symlinks")
    nodes: list[dict[str, Any]] = [
        {**{name: getattr(node, name) for name in kept}, "path": node.path}
        for node, entering in walk(top)
        if entering
    ]
    for each in nodes:
        each["directories"] = [node.name for node in each["directories"]]
        each["files"], each["symlinks"] = list(each["files"]), list(each["symlinks"])
    return nodes, files, sorted((node.path, one, other) for node, one, other in folding)


@pytest.fixture
def source(ground: str) -> str:
    trees.build(f"{ground}/source", tree())
    return f"{ground}/source"


def test_two_find_what_one_finds(source: str, helper: Helper) -> None:
    alone = seen_by(source, scan)

    together = seen_by(source, scan_together, 2)

    assert together == alone
    assert (helper.hired, helper.vouched > 10) == (1, True)
    assert len(alone[2]) == 12  # a and A
    assert alone[1] == 12 * 5 * 3 + 12 * 2 + 1


def test_they_share_the_work_in_any_proportion(source: str, helper: Helper) -> None:
    helper.patient = False
    alone = seen_by(source, scan)
    for processes in (2, 3, 4):
        assert seen_by(source, scan_together, processes) == alone
    assert helper.hired == 1 + 2 + 3


@pytest.mark.parametrize("number", [1, 2, 25, 60])
def test_what_a_helper_that_dies_has_not_told_is_read_again(
    source: str, helper: Helper, number: int
) -> None:
    helper.deed = lambda nth: os.kill(os.getpid(), signal.SIGKILL) if nth == number else None

    assert seen_by(source, scan_together, 2) == seen_by(source, scan)

    assert helper.hired == 1
    assert (helper.vouched > 0) is (number > 2)


def test_an_answer_that_is_too_long_is_read_again(
    source: str, helper: Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "_ROOM", 64)

    assert seen_by(source, scan_together, 2) == seen_by(source, scan)

    assert helper.vouched > 10


def test_alone_where_no_helper_or_no_desk_can_be_had(
    source: str, helper: Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = seen_by(source, scan)
    helper.refused = True
    assert seen_by(source, scan_together, 2) == alone

    def no_descriptors(*_: object) -> None:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(scanning, "Desk", no_descriptors)
    assert seen_by(source, scan_together, 2) == alone
    assert helper.hired == 0


def test_nobody_is_asked_for_a_small_tree(
    source: str, helper: Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "WAITING", 73)
    assert seen_by(source, scan_together, 2) == seen_by(source, scan)
    assert helper.hired == 0
    monkeypatch.setattr(scanning, "WAITING", 72)
    assert seen_by(source, scan_together, 2) == seen_by(source, scan)
    assert helper.hired == 1


@pytest.mark.parametrize("where", ["p0/d0/in", "p11/d4/in/below/empty", "p7", ""])
def test_what_cannot_be_linked_is_told_as_by_one(source: str, helper: Helper, where: str) -> None:
    path = f"{source}/{where}".rstrip("/")
    place = f"{where}/".lstrip("/")
    os.mkfifo(f"{path}/pipe")
    with pytest.raises(SpecialFile) as special:
        seen_by(source, scan_together, 2)
    assert special.value.path == f"{place}pipe"
    os.unlink(f"{path}/pipe")

    os.mkdir(f"{path}/{RESERVED}1")
    with pytest.raises(Reserved) as reserved:
        seen_by(source, scan_together, 2)
    assert reserved.value.path == f"{place}{RESERVED}1"
    os.rmdir(f"{path}/{RESERVED}1")
    assert seen_by(source, scan_together, 2) == seen_by(source, scan)


def test_a_directory_that_vanishes_is_lost(source: str, helper: Helper) -> None:
    def vanish(_: int) -> None:
        trees.remove(f"{source}/p9")

    helper.deed = vanish
    with pytest.raises(Lost) as lost:
        seen_by(source, scan_together, 2)
    assert lost.value.node.path == "p9"


def test_a_link_with_two_processes_scans_with_two(source: str, ground: str, helper: Helper) -> None:
    alone = link_tree(source, f"{ground}/alone", mode=LinkMode.COPY)
    assert helper.hired == 0
    together = link_tree(source, f"{ground}/together", mode=LinkMode.COPY, processes=2)
    assert helper.hired == 1
    assert together == alone
    one, other = (
        trees.content(trees.snapshot(f"{ground}/{name}")) for name in ("alone", "together")
    )
    assert one == other


def test_a_process_with_threads_scans_alone(
    source: str, ground: str, helper: Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(scanning, "WAITING", 1)
    monkeypatch.setattr(Desk, "hire", lambda *_: pytest.fail("somebody was asked to help"))
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        link_tree(source, f"{ground}/target", mode=LinkMode.COPY, processes=2)
    finally:
        end.set()
        thread.join()
    ours, theirs = (trees.snapshot(f"{ground}/{name}") for name in ("source", "target"))
    assert trees.content(theirs) == trees.content(ours)


def test_a_source_that_cannot_be_linked_leaves_nothing(
    source: str, ground: str, helper: Helper
) -> None:
    os.mkfifo(f"{source}/p11/d0/in/pipe")
    with pytest.raises(LinkError, match="p11/d0/in/pipe"):
        link_tree(source, f"{ground}/target", mode=LinkMode.COPY, processes=2)
    assert os.listdir(ground) == ["source"]
    assert helper.hired == 1
