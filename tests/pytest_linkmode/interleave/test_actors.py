"""Actors: what of theirs is a turn, what is repeatable, and what is told when they cannot be."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import posix
import random
import shutil
import struct
import tempfile
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pytest_linkmode.errors import LinkmodeError, UsageError
from pytest_linkmode.faults.fresh import empty
from pytest_linkmode.faults.ops import FICLONERANGE
from pytest_linkmode.interleave import Diverged, Execution, Interleaver, ScheduleFailed, crew, world


def called(meeting: str, act: Callable[[], object]) -> list[str]:
    """Explore an actor beside one that does nothing; return what its turns were."""
    seen: list[str] = []

    def check(execution: Execution) -> None:
        seen[:] = [
            f"{event.name} {' '.join(os.path.relpath(path, meeting) for path in event.paths)}"
            for event in execution.events
        ]

    explored = Interleaver().explore([act, lambda: None], target=meeting, check=check)
    assert explored.complete
    return seen


def test_plain_code_takes_its_turns(meeting: str, kind: None) -> None:
    place = pathlib.Path(meeting)

    def act() -> None:
        (place / "a").mkdir()
        (place / "a" / "file").write_text("x")
        os.link(place / "a" / "file", place / "b")
        assert (place / "b").exists()
        os.replace(place / "b", place / "c")

    assert called(meeting, act) == [
        "mkdir a",
        "create a/file",
        "write a/file",
        "link a/file b",
        "stat b",
        "replace b c",
    ]


def test_a_descriptor_is_known_by_what_it_was_opened_as(meeting: str) -> None:
    def act() -> None:
        os.mkdir(f"{meeting}/a")
        directory = os.open(f"{meeting}/a", os.O_RDONLY)
        os.rename(f"{meeting}/a", f"{meeting}/b")
        os.mkdir("inside", dir_fd=directory)
        os.close(directory)

    assert called(meeting, act)[2:] == ["rename a b", "mkdir b/inside"]


def test_what_others_cannot_notice_is_no_turn(meeting: str, tmp_path: pathlib.Path) -> None:
    def act() -> None:
        (tmp_path / "elsewhere").write_text("x")
        shutil.copy(tmp_path / "elsewhere", tmp_path / "too")
        os.listdir(tmp_path)

    assert called(meeting, act) == []


@pytest.mark.parametrize("spelling", ["link/target", "link/../real/target", "other"])
def test_actors_that_come_by_a_link_meet_too(meeting: str, spelling: str) -> None:
    os.makedirs(f"{meeting}/real/target")
    os.symlink("real", f"{meeting}/link")
    os.symlink("link/target", f"{meeting}/other")

    def act(target: str) -> None:
        if not os.path.exists(f"{target}/x"):
            os.mkdir(f"{target}/x")

    for mine in (spelling, "real/target"):
        actors = [lambda each=each: act(f"{meeting}/{each}") for each in (spelling, mine)]
        with pytest.raises(ScheduleFailed, match="FileExistsError"):
            Interleaver().explore(actors, target=f"{meeting}/{spelling}", check=lambda _: None)
        os.rmdir(f"{meeting}/real/target/x")


def test_a_directory_above_that_was_opened_by_a_link_leads_there(meeting: str) -> None:
    os.makedirs(f"{meeting}/real/target")
    os.symlink("real", f"{meeting}/link")

    def act() -> None:
        directory = os.open(f"{meeting}/link", os.O_RDONLY)
        os.mkdir("target/x", dir_fd=directory)
        os.close(directory)

    with pytest.raises(ScheduleFailed) as caught:
        Interleaver().explore([act, act], target=f"{meeting}/link/target", check=lambda _: None)
    assert caught.value.execution.events[0].paths == (f"{meeting}/real/target/x",)


def test_who_was_not_seen_is_named(meeting: str) -> None:
    os.mkdir(f"{meeting}/target")
    os.symlink("target", f"{meeting}/link")
    explored = Interleaver().explore(
        [lambda: os.mkdir(f"{meeting}/target/a"), lambda: os.mkdir(f"{meeting}/link/b")],
        target=f"{meeting}/target",
        check=lambda _: None,
    )
    assert str(explored).endswith(": all; nothing that B did was seen there")


def _one(write: Callable[[int], object]) -> Callable[[str], None]:
    """An actor that does something to the file `one`."""

    def act(place: str) -> None:
        descriptor = os.open(f"{place}/one", os.O_RDWR)
        try:
            write(descriptor)
        finally:
            os.close(descriptor)

    return act


def _between(move: Callable[[int, int], object]) -> Callable[[str], None]:
    """An actor that does something from the file `two` to the file `one`."""

    def act(place: str) -> None:
        source = os.open(f"{place}/two", os.O_RDONLY)
        try:
            _one(lambda target: move(source, target))(place)
        finally:
            os.close(source)

    return act


def _clone_range(source: int, target: int) -> None:
    with contextlib.suppress(OSError):  # a turn where the filesystem refuses too
        fcntl.ioctl(target, FICLONERANGE, struct.pack("=qQQQ", source, 0, 0, 0))


def _splice(source: int, target: int) -> None:
    reading, writing = os.pipe()
    try:
        os.splice(source, writing, 4)
        os.splice(src=reading, dst=target, count=4)
    finally:
        os.close(reading)
        os.close(writing)


TURNS: dict[str, tuple[Callable[[str], object], list[str]]] = {
    "pwrite": (_one(lambda file: os.pwrite(file, b"x", 0)), ["pwrite one"]),
    "writev": (_one(lambda file: os.writev(file, [b"x"])), ["writev one"]),
    "pwritev": (_one(lambda file: os.pwritev(file, [b"x"], 0)), ["pwritev one"]),
    "ftruncate": (_one(lambda file: os.ftruncate(file, 0)), ["ftruncate one"]),
    "fchmod": (_one(lambda file: os.fchmod(file, 0o600)), ["fchmod one"]),
    "splice": (_between(_splice), ["splice two", "splice one"]),
    "sendfile": (
        _between(lambda a, b: os.sendfile(out_fd=b, in_fd=a, offset=0, count=1)),
        ["sendfile two one"],
    ),
    "clone of a range": (_between(_clone_range), ["ioctl-ficlonerange two one"]),
    "mknod": (lambda place: os.mknod(f"{place}/new"), ["mknod new"]),
    "mkfifo": (lambda place: os.mkfifo(path=f"{place}/new"), ["mkfifo new"]),
    "link by names": (
        lambda place: os.link(src=f"{place}/one", dst=f"{place}/new"),
        ["link one new"],
    ),
}


@pytest.mark.parametrize("folds", [False, True])
def test_names_that_differ_in_case_are_one_where_the_directory_has_both(
    meeting: str, *, folds: bool
) -> None:
    place = os.path.join(meeting, "place")
    os.mkdir(place)
    if folds:
        os.symlink(place, os.path.join(meeting, "PLACE"))

    def actor(name: str) -> Callable[[], object]:
        return lambda: pathlib.Path(place, name).touch()

    explored = Interleaver().explore(
        [actor("one"), actor("ONE")],
        target=place,
        prepare=lambda: empty(place),
        check=lambda _run: None,
    )
    assert explored.complete
    assert (explored.counts.ran > 1) is folds


def test_what_shutil_copies_by_on_a_mac_is_a_turn(
    meeting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(_source: int, into: int, _flags: int, /) -> None:
        posix.write(into, b"copied")

    monkeypatch.setattr(posix, "_fcopyfile", copy, raising=False)
    pathlib.Path(meeting, "one").write_text("some")
    pathlib.Path(meeting, "two").write_text("more")
    copied = _between(lambda a, b: posix._fcopyfile(a, b, 8))  # type: ignore[attr-defined,unused-ignore]
    turns = [turn for turn in called(meeting, lambda: copied(meeting)) if turn[:5] != "open "]
    assert turns == ["_fcopyfile two one"]


@pytest.mark.parametrize("what", TURNS)
def test_an_operation_is_a_turn_however_it_is_asked_for(meeting: str, what: str) -> None:
    for name in ("one", "two"):
        pathlib.Path(meeting, name).write_text("some")
    act, expected = TURNS[what]
    turns = [turn for turn in called(meeting, lambda: act(meeting)) if turn[:5] != "open "]
    assert turns == expected


def test_a_write_that_is_lost_is_found_by_whichever_function(meeting: str) -> None:
    count = pathlib.Path(meeting, "one")
    count.write_text("0")

    def add() -> None:
        descriptor = os.open(count, os.O_RDWR)
        number = int(os.read(descriptor, 9))
        os.pwrite(descriptor, str(number + 1).encode(), 0)
        os.close(descriptor)

    def check(_run: Execution) -> None:
        assert count.read_text() == "2"

    with pytest.raises(ScheduleFailed, match="with 1 preemption"):
        Interleaver().explore([add, add], target=meeting, check=check)


def _by_descriptor(path: str) -> list[str]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return [os.pread(descriptor, 1, place).decode() for place in (0, 1)]
    finally:
        os.close(descriptor)


def _by_number(path: str) -> list[str]:
    with os.fdopen(os.open(path, os.O_RDONLY), "rb", 0) as file:
        return [file.read(1).decode(), file.read(1).decode()]


def _by_file(path: str) -> list[str]:
    with open(path) as file:
        first = file.read()
        file.seek(0)
        return [first[0], file.read()[1]]


@pytest.mark.parametrize("look", [_by_descriptor, _by_number, _by_file])
def test_what_is_read_in_parts_may_change_between_them(
    meeting: str, look: Callable[[str], list[str]]
) -> None:
    path = f"{meeting}/one"

    def prepare() -> None:
        pathlib.Path(path).write_text("aa")

    def change() -> None:
        descriptor = os.open(path, os.O_WRONLY)
        os.pwrite(descriptor, b"bb", 0)
        os.close(descriptor)

    seen = []
    explored = Interleaver().explore(
        [lambda: look(path), change],
        below=[meeting],
        prepare=prepare,
        check=lambda run: seen.append("".join(run.outcomes[0].result())),
    )
    assert explored.complete
    assert set(seen) == {"aa", "ab", "bb"}


def test_a_file_object_writes_when_it_is_flushed(meeting: str) -> None:
    def act() -> None:
        with open(f"{meeting}/one", "w") as file:
            file.write("first")
            os.mkdir(f"{meeting}/a")
            file.flush()
            file.write("second")
        with open(f"{meeting}/one", "r+") as file:
            assert file.read() == "firstsecond"
            file.seek(0, os.SEEK_END)
            file.truncate(5)

    assert called(meeting, act) == [
        "create one",
        "mkdir a",
        "write one",
        "write one",
        "open one",
        "read one",
        "lseek one",
        "truncate one",
    ]


def test_a_file_object_is_what_python_makes_it(meeting: str) -> None:
    def act() -> list[str]:
        made = []
        for mode in ("w", "w+b", "r", "rb", "rt", "a+"):
            with open(f"{meeting}/one", mode, encoding=None if "b" in mode else "latin-1") as file:
                made.append(f"{type(file).__name__} {file.mode} {file.name}")
        for mode, buffering in (("rw", -1), ("r", 0), ("x", -1)):
            try:
                open(f"{meeting}/one", mode, buffering).close()
            except (OSError, ValueError) as error:
                made.append(f"{type(error).__name__}: {error}")
        return made

    seen = []
    Interleaver().explore(
        [act, lambda: None],
        target=meeting,
        check=lambda run: seen.append(run.outcomes[0].result()),
    )
    assert seen == [act()]


@pytest.mark.parametrize("given", ["the file", "its number", "a descriptor", "until LOCK_UN"])
def test_a_lock_that_is_given_up_lets_the_other_in(meeting: str, given: str) -> None:
    """Another asks for the lock before it is taken, while it is held and after it was given up."""

    def act() -> bool:
        with contextlib.ExitStack() as stack:
            if given == "a descriptor":
                lock: Any = os.open(f"{meeting}/lock", os.O_CREAT | os.O_RDWR)
                stack.callback(os.close, lock)
            else:
                file = stack.enter_context(open(f"{meeting}/lock", "a"))
                lock = file if given == "the file" else file.fileno()
            return alone(lock)

    def alone(lock: Any) -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.mkdir(f"{meeting}/alone")
            os.rmdir(f"{meeting}/alone")
            if given == "until LOCK_UN":
                fcntl.flock(lock, fcntl.LOCK_UN)
        except BlockingIOError:
            return False
        return True

    seen = set()

    def check(execution: Execution) -> None:
        seen.add((*(each.result() for each in execution.outcomes),))

    explored = Interleaver().explore([act, act], target=meeting, check=check)
    assert explored.complete
    assert seen == {(True, True), (True, False), (False, True)}


def test_a_with_statement_gives_its_lock_up_in_a_turn(meeting: str) -> None:
    def act() -> None:
        with open(f"{meeting}/lock", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.mkdir(f"{meeting}/a")
        with open(f"{meeting}/other", "w"):
            pass

    turns = called(meeting, act)
    assert turns == ["create lock", "flock lock", "mkdir a", "unlock lock", "create other"]


def test_locks_of_the_process_are_refused(meeting: str) -> None:
    def act() -> None:
        with open(f"{meeting}/lock", "a") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)

    with pytest.raises(ScheduleFailed, match="record locks belong to the process"):
        Interleaver().explore([act, act], target=meeting, check=lambda _: None)


def test_a_number_that_is_used_again_is_another_file(meeting: str, tmp_path: pathlib.Path) -> None:
    pathlib.Path(meeting, "one").write_text("1")

    def act() -> None:
        with open(f"{meeting}/one") as file:
            number = file.fileno()
            os.fchmod(number, 0o600)
        with open(tmp_path / "elsewhere", "w") as file:
            assert file.fileno() == number
            os.write(file.fileno(), b"x")
        with open(f"{meeting}/two", "w") as file:
            assert file.fileno() == number
            os.write(file.fileno(), b"x")

    turns = ["open one", "fchmod one", "create two", "write two"]
    assert called(meeting, act) == turns


def test_random_names_are_the_same_in_every_schedule(meeting: str, kind: None) -> None:
    names: list[list[str]] = []

    def act() -> str:
        descriptor, name = tempfile.mkstemp(dir=meeting)
        os.close(descriptor)
        return os.path.basename(name) + os.urandom(4).hex()

    def check(execution: Execution) -> None:
        names.append([outcome.result() for outcome in execution.outcomes[:2]])

    def look() -> None:
        os.listdir(meeting)

    Interleaver().explore({"A": act, "B": act, "C": look}, target=meeting, check=check)
    assert len(names) > 1
    assert len({tuple(each) for each in names}) == 1
    assert names[0][0] != names[0][1]


def test_other_threads_and_later_code_meet_the_originals(meeting: str) -> None:
    before = (os.mkdir, open, os.urandom, os.stat)
    made = []

    def other() -> None:
        os.mkdir(f"{meeting}/other")
        os.rmdir(f"{meeting}/other")
        made.append(True)

    def act() -> None:
        assert os.mkdir is not before[0]
        assert os.mkdir in os.supports_dir_fd
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    assert called(meeting, act) == []
    assert made
    assert (os.mkdir, open, os.urandom, os.stat) == before


def test_what_depends_on_chance_is_told(meeting: str, kind: None) -> None:
    dice = random.Random(1)

    def act() -> None:
        for _ in range(dice.randrange(20)):
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{meeting}/{dice.randrange(3)}")

    with pytest.raises(Diverged, match="not deterministic"):
        Interleaver().explore([act, act], target=meeting, check=lambda run: None)


def test_an_actor_that_raises_fails_the_schedule(meeting: str, kind: None) -> None:
    def act() -> None:
        os.mkdir(f"{meeting}/same")

    with pytest.raises(ScheduleFailed, match="B ended with FileExistsError"):
        Interleaver().explore([act, act], target=meeting, check=lambda run: None)
    shutil.rmtree(f"{meeting}/same")
    explored = Interleaver().explore(
        [act, act], target=meeting, check=lambda run: None, ends=(FileExistsError,)
    )
    assert explored.complete
    assert explored.counts.ran == 2


KINDS = [crew.Threads, crew.Greenlets]


@pytest.fixture(params=KINDS, ids=["threads", "greenlets"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Actors of one kind, whatever is installed."""
    if request.param is crew.Greenlets:
        pytest.importorskip("greenlet")
    monkeypatch.setattr(world, "gather", request.param)


def test_an_actor_that_waits_for_another_is_told(
    meeting: str, kind: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "PATIENCE", 0.05)
    monkeypatch.setattr(crew, "GRACE", 0.05)
    event = threading.Event()
    try:
        with pytest.raises(LinkmodeError, match="an actor hangs"):
            Interleaver().explore(
                [event.wait, lambda: os.mkdir(f"{meeting}/a")],
                target=meeting,
                check=lambda run: None,
            )
    finally:
        event.set()


def test_all_schedules_with_few_preemptions_are_run_if_asked_for(meeting: str) -> None:
    def act() -> None:
        for name in ("a", "b"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{meeting}/{name}")

    def explored(most: int) -> tuple[int, bool]:
        found = Interleaver().explore(
            [act, act], target=meeting, check=lambda run: None, preemptions=most
        )
        return found.counts.ran, found.complete

    # One after the other, either way; in the end all ways to put two turns among two.
    assert explored(0) == (2, False)
    assert explored(3) == (6, True)


@pytest.mark.parametrize("count", [1, 9])
def test_what_is_no_exploration_is_refused(meeting: str, count: int) -> None:
    with pytest.raises(UsageError, match="two to eight"):
        Interleaver().explore([lambda: None] * count, target=meeting, check=lambda run: None)
    with pytest.raises(UsageError, match="where do the actors meet"):
        Interleaver().explore([lambda: None] * 2, check=lambda run: None)
