"""The stage, what is done about one that was left, and undo: each on its own, call by call.

What whole links make of them stands in test_journal.py; here the moments are made that a link
meets once in a month.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from linker.conditions import Primitive
from linker.journal import (
    SAVED,
    STAGE,
    Change,
    Record,
    Undo,
    open_stage,
    recover,
    remove_again,
    remove_tree,
)
from linker.platforms.base import ASIDE, Failed
from linker.platforms.linux import Calls, LinuxPlatform
from linker.tree import Node
from pytest_linkmode.faults.inprocess import injected
from tests.linker import trees, users
from tests.linker.seams import REFLINKING, WITHOUT_FLAGS, Tap, descriptors
from tests.linker.trees import Directory, File, Symlink, Tree

FOREVER = 1 << 62
"""A time (ns) before which everything was made."""


def never(failed: Failed) -> bool:
    """Go on without a lock in no case."""
    return False


def refusing(number: int, *names: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return the call, which now fails for some names; for every name if none is given."""

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if not names or name in names:
            raise injected(number)
        return call(name, *arguments, **options)

    return refuse


def with_calls(base: Calls = REFLINKING, /, **calls: Any) -> LinuxPlatform:
    return LinuxPlatform(dataclasses.replace(base, **calls))


class Place:
    """An open directory."""

    def __init__(self, path: str, tree: Tree) -> None:
        self.path = path
        trees.build(path, tree)
        self.handle = os.open(path, os.O_RDONLY)

    def names(self) -> list[str]:
        return sorted(os.listdir(self.path))

    def stages(self) -> list[str]:
        return [name for name in self.names() if name.startswith(STAGE)]


@pytest.fixture
def place(scene: str) -> Iterator[Place]:
    made = Place(f"{scene}/place", {"kept": File(b"kept")})
    before = descriptors()
    yield made
    assert descriptors() == before, "handles are kept open"
    os.close(made.handle)


# A stage.


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o200, 0o777])
def test_a_stage_is_nobody_elses_whatever_the_umask(place: Place, umask: int) -> None:
    before = os.umask(umask)
    try:
        stage = open_stage(LinuxPlatform(), place.handle, never)
    finally:
        os.umask(before)
    seen = os.stat(f"{place.path}/{stage.name}")
    assert not seen.st_mode & 0o077
    if os.geteuid() != 0:  # root needs no bits
        assert stat.S_IMODE(seen.st_mode) == 0o700
    assert os.fstat(stage.handle).st_ino == seen.st_ino
    assert os.fstat(stage.parent).st_ino == os.stat(place.path).st_ino
    assert re.fullmatch(re.escape(STAGE) + "[0-9a-f]{8}", stage.name)
    assert stage.remove() == []
    assert place.names() == ["kept"]
    stage.close()


def test_a_new_stage_has_everything_before_it(place: Place) -> None:
    platform = LinuxPlatform()
    stage = open_stage(platform, place.handle, never)
    assert stage.inheritance == platform.inheritance(place.handle)
    assert [stage.number() for _ in range(3)] == ["1", "2", "3"]
    assert not stage.emulate_place
    assert not stage.emulate_exchange
    assert not stage.keep
    assert stage.node is None
    other = os.open(f"{place.path}/{stage.name}", os.O_RDONLY)
    assert not platform.lock(other), "it is locked"
    os.close(other)
    stage.remove()
    stage.close()


def test_a_stage_that_holds_what_must_not_be_lost_is_saved(place: Place) -> None:
    for base in (REFLINKING, WITHOUT_FLAGS):
        stage = open_stage(with_calls(base), place.handle, never)
        stage.keep = True
        saved = SAVED + stage.name.removeprefix(STAGE)
        for _ in range(2):  # the second time as after an interrupt
            assert stage.remove() == [saved]
            assert place.names() == sorted(["kept", saved])
        os.rmdir(f"{place.path}/{saved}")
        stage.close()


def test_a_stage_that_cannot_be_saved_is_removed_by_nobody(place: Place) -> None:
    refused = refusing(errno.EIO, call=os.rename)
    platform = with_calls(renameat2=refused, rename=refused)
    stage = open_stage(platform, place.handle, never)
    stage.keep = True
    with open(f"{place.path}/{stage.name}/1", "wb") as file:
        file.write(b"precious")
    assert stage.remove() == [stage.name]
    stage.close()
    assert not recover(LinuxPlatform(), place.handle, stage.name)
    deaf = open_stage(with_calls(renameat2=refused, rename=refused), place.handle, never)
    os.rmdir(f"{place.path}/{deaf.name}")  # so that nothing can be noted in it
    deaf.keep = True
    assert deaf.remove() == [deaf.name]
    deaf.close()
    with open(f"{place.path}/{stage.name}/1", "rb") as file:
        assert file.read() == b"precious"
    trees.remove(f"{place.path}/{stage.name}")


def test_whether_another_linker_was_there_is_asked_twice(place: Place) -> None:
    asked = 0

    def looking(name: str, **options: Any) -> os.stat_result:
        nonlocal asked
        asked += name == "c"
        if asked == 1 and name == "c":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return os.stat(name, **options)

    stage = open_stage(with_calls(stat=looking), place.handle, never)
    assert not stage.was_marked()
    assert asked == 2
    stage.remove()
    stage.close()


def test_a_note_says_what_is_owed_until_it_is_forgotten(place: Place) -> None:
    stage = open_stage(LinuxPlatform(), place.handle, never)
    name = stage.pending(("a", "b"), 7, 0o755, 0o555)
    with open(f"{place.path}/{stage.name}/{name}", encoding="ascii") as reading:
        record = json.load(reading)
    assert record == {"path": ["a", "b"], "inode": 7, "temporary": 0o755, "final": 0o555}
    assert name.startswith("p")
    stage.forget(name)
    assert os.listdir(f"{place.path}/{stage.name}") == []
    stage.forget(name)
    stage.remove()
    stage.close()


def test_linkers_in_one_target_tell_each_other(place: Place) -> None:
    ours, theirs = (open_stage(LinuxPlatform(), place.handle, never) for _ in range(2))
    assert not ours.was_marked()
    assert not theirs.was_marked()
    ours.mark([f"{STAGE}gone", theirs.name])
    assert theirs.was_marked()
    assert not ours.was_marked()
    (mark,) = os.listdir(f"{place.path}/{theirs.name}")
    assert mark == "c"
    assert os.stat(f"{place.path}/{theirs.name}/{mark}").st_size == 0
    third = open_stage(LinuxPlatform(), place.handle, never)
    ours.mark([theirs.name, third.name])  # in one of them it is already
    assert third.was_marked()
    third.remove()
    third.close()
    for stage in (ours, theirs):
        stage.remove()
        stage.close()


def test_a_stage_that_cannot_be_looked_into_may_have_been_marked(place: Place) -> None:
    stage = open_stage(LinuxPlatform(), place.handle, never)
    stage._platform = with_calls(stat=refusing(errno.EIO, call=os.stat))
    assert stage.was_marked()
    stage._platform = LinuxPlatform()
    stage.remove()
    stage.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()])
def test_a_stage_that_is_interrupted_while_it_is_made_leaves_nothing(
    place: Place, error: BaseException
) -> None:
    def flock(handle: int, how: int) -> None:
        raise error

    with pytest.raises(type(error)):
        open_stage(with_calls(flock=flock), place.handle, never)
    assert place.names() == ["kept"]


def test_an_interrupted_stage_that_cannot_be_removed_is_named(place: Place) -> None:
    def flock(handle: int, how: int) -> None:
        raise KeyboardInterrupt

    platform = with_calls(flock=flock, rmdir=refusing(errno.EIO, call=os.rmdir))
    with pytest.raises(KeyboardInterrupt) as caught:
        open_stage(platform, place.handle, never)
    (stage,) = place.stages()
    assert caught.value.__notes__ == [f"could not be undone: {stage}"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT])
def test_a_stage_that_can_be_neither_locked_nor_removed_is_named(place: Place, number: int) -> None:
    platform = with_calls(
        flock=refusing(number, call=os.getpid), rmdir=refusing(errno.EIO, call=os.rmdir)
    )
    with pytest.raises(Failed) as caught:
        open_stage(platform, place.handle, never)
    assert caught.value.primitive is Primitive.LOCK
    assert caught.value.error.errno == number
    (stage,) = place.stages()
    assert caught.value.left == (stage,)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_stage_that_is_gone_is_not_named_for_want_of_descriptors(
    place: Place, number: int
) -> None:
    """Nothing can be opened any more, not even to see what is left."""
    made = False

    def mkdir(*arguments: Any, **options: Any) -> None:
        nonlocal made
        os.mkdir(*arguments, **options)
        made = True

    def opening(*arguments: Any, **options: Any) -> int:
        if made:
            raise injected(number)
        return os.open(*arguments, **options)

    with pytest.raises(Failed) as caught:
        open_stage(with_calls(mkdir=mkdir, open=opening), place.handle, never)
    assert made
    assert caught.value.error.errno == number
    assert caught.value.left == ()
    assert place.names() == ["kept"]


def test_an_empty_directory_is_removed_without_a_descriptor(place: Place) -> None:
    platform = with_calls(open=refusing(errno.EMFILE, call=os.open))
    os.makedirs(f"{place.path}/empty")
    os.makedirs(f"{place.path}/full/in")
    assert remove_tree(platform, place.handle, "empty") == []
    assert remove_tree(platform, place.handle, "full") == ["full"]
    assert place.names() == ["full", "kept"]


def test_a_stage_that_cannot_be_locked_is_removed_and_no_second_one_tried(place: Place) -> None:
    tried = 0

    def flock(handle: int, how: int) -> None:
        nonlocal tried
        tried += 1
        raise injected(errno.EIO)

    with pytest.raises(Failed) as caught:
        open_stage(with_calls(flock=flock), place.handle, never)
    assert tried == 1
    assert caught.value.left == ()
    assert place.names() == ["kept"]


def test_a_stage_that_cannot_be_made_is_that_error(place: Place) -> None:
    with pytest.raises(Failed) as caught:
        open_stage(with_calls(mkdir=refusing(errno.ENOSPC, call=os.mkdir)), place.handle, never)
    assert caught.value.primitive is Primitive.MKDIR
    assert caught.value.error.errno == errno.ENOSPC
    assert caught.value.left == ()
    with pytest.raises(Failed) as caught:
        open_stage(with_calls(mkdir=refusing(errno.ENOENT, call=os.mkdir)), place.handle, never)
    assert caught.value.error.errno == errno.ENOENT


def test_a_stage_that_somebody_else_has_locked_is_removed_and_another_one_made(
    place: Place,
) -> None:
    """Who cleans up was faster with the lock, and may have let go of it again."""
    locked: list[str] = []

    def flock(handle: int, how: int) -> None:
        if not locked:
            locked.extend(place.stages())
            raise BlockingIOError(errno.EWOULDBLOCK, "locked")

    stage = open_stage(with_calls(flock=flock), place.handle, never)
    assert place.stages() == [stage.name]
    assert stage.name not in locked
    stage.remove()
    stage.close()


def test_where_stages_are_always_lost_the_error_says_so(place: Place) -> None:
    tried: list[str] = []

    def flock(handle: int, how: int) -> None:
        (stage,) = place.stages()
        os.rmdir(f"{place.path}/{stage}")
        tried.append(stage)

    with pytest.raises(Failed, match="every stage was removed by another process") as caught:
        open_stage(with_calls(flock=flock), place.handle, never)
    assert caught.value.primitive is Primitive.LOCK
    assert caught.value.error.errno == 0
    assert len(set(tried)) == 16
    assert place.names() == ["kept"]


# Removing.


TREE: Tree = {
    "t/a": File(b"a"),
    "t/ln": Symlink("/"),
    "t/d/e/f": File(b"f"),
    "t/d/g": File(b"g"),
    "t/empty": Directory(),
}


@pytest.fixture
def full(scene: str) -> Iterator[Place]:
    made = Place(f"{scene}/full", TREE)
    before = descriptors()
    yield made
    assert descriptors() == before, "handles are kept open"
    os.close(made.handle)


def test_a_tree_is_removed_with_everything_in_it(full: Place) -> None:
    assert remove_tree(LinuxPlatform(), full.handle, "t") == []
    assert full.names() == []
    assert remove_tree(LinuxPlatform(), full.handle, "t") == []


@pytest.mark.parametrize("bits", [0o500, 0o700])
def test_a_tree_is_removed_whatever_its_permission_bits(
    full: Place, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    monkeypatch.chdir(full.path)  # whose own bits say nothing of the tree's
    for path in ("t/d/e", "t/d", "t"):
        os.chmod(f"{full.path}/{path}", bits)

    def unlink(name: str, **where: Any) -> None:
        seen.add(stat.S_IMODE(os.fstat(where["dir_fd"]).st_mode))
        os.unlink(name, **where)

    seen: set[int] = set()
    assert remove_tree(with_calls(unlink=unlink), full.handle, "t") == []
    assert full.names() == []
    assert seen <= {bits, 0o700}, "nobody else is let in meanwhile"


@pytest.mark.parametrize(
    ("calls", "remaining"),
    [
        ({"unlink": refusing(errno.EIO, "f", call=os.unlink)}, ["t", "t/d", "t/d/e", "t/d/e/f"]),
        ({"unlink": refusing(errno.EIO, "ln", call=os.unlink)}, ["t", "t/ln"]),
        ({"rmdir": refusing(errno.EIO, "empty", call=os.rmdir)}, ["t", "t/empty"]),
        ({"open": refusing(errno.EIO, "e", call=os.open)}, ["t", "t/d", "t/d/e"]),
        ({"open": refusing(errno.EIO, "t", call=os.open)}, ["t"]),
        ({"listdir": refusing(errno.EIO, call=os.scandir)}, ["t"]),
    ],
)
def test_what_remains_of_a_tree_is_named(
    full: Place, calls: dict[str, Any], remaining: list[str]
) -> None:
    assert sorted(remove_tree(with_calls(**calls), full.handle, "t")) == remaining
    there = trees.snapshot(full.path)
    assert set(remaining) <= set(there)


def test_a_directory_that_cannot_be_listed_remains_under_its_whole_path(full: Place) -> None:
    inode = os.stat(f"{full.path}/t/d/e").st_ino

    def listdir(handle: int) -> Any:
        if os.fstat(handle).st_ino == inode:
            raise injected(errno.EIO)
        return os.scandir(handle)

    remaining = remove_tree(with_calls(listdir=listdir), full.handle, "t")
    assert sorted(remaining) == ["t", "t/d", "t/d/e"]


@pytest.mark.parametrize("call", ["unlink", "rmdir"])
def test_what_somebody_else_removes_meanwhile_does_not_remain(full: Place, call: str) -> None:
    plain = getattr(os, call)

    def twice(name: str, **where: Any) -> None:
        plain(name, **where)
        plain(name, **where)

    assert remove_tree(with_calls(**{call: twice}), full.handle, "t") == []
    assert full.names() == []


def test_a_directory_that_somebody_else_removes_meanwhile_does_not_remain(full: Place) -> None:
    def gone(name: str, *arguments: Any, **where: Any) -> int:
        if name == "empty" and os.path.isdir(f"{full.path}/t/empty"):
            os.rmdir(f"{full.path}/t/empty")
        return os.open(name, *arguments, **where)

    assert remove_tree(with_calls(open=gone), full.handle, "t") == []
    assert full.names() == []


def test_a_tree_that_is_moved_while_it_is_removed_remains_from_where_the_way_ended(
    ground: str,
) -> None:
    """The way back up is gone: what lies there by now is somebody else's directory."""
    deep = Place(f"{ground}/deep", {"t/a/b/c/d/e/file": File(b"f")})
    before = descriptors()

    def unlink(name: str, **where: Any) -> None:
        os.unlink(name, **where)
        os.rename(f"{deep.path}/t/a/b", f"{deep.path}/moved")

    assert remove_tree(with_calls(unlink=unlink), deep.handle, "t") == ["t/a/b"]
    assert set(trees.snapshot(deep.path)) == {"", "moved", "t", "t/a"}
    assert descriptors() == before
    os.close(deep.handle)


def test_a_tree_that_came_again_remains(full: Place) -> None:
    def again(name: str, **where: Any) -> None:
        os.rmdir(name, **where)
        if name == "t":
            os.mkdir(name, **where)

    assert remove_tree(with_calls(rmdir=again), full.handle, "t") == ["t"]


def test_a_tree_of_which_nobody_can_say_whether_it_is_gone_remains(full: Place) -> None:
    platform = with_calls(stat=refusing(errno.EIO, call=os.stat))
    assert remove_tree(platform, full.handle, "t") == ["t"]
    assert full.names() == []


def test_a_deep_tree_is_removed_with_few_handles(ground: str) -> None:
    deep = Place(f"{ground}/deep", {"/".join(["t", *"abcdefghij", "file"]): File()})
    before, most = descriptors(), 0

    def unlink(name: str, **where: Any) -> None:
        nonlocal most
        most = max(most, descriptors() - before)
        os.unlink(name, **where)

    assert remove_tree(with_calls(unlink=unlink), deep.handle, "t") == []
    assert 0 < most < 4, "four with the one that the trail begins with"
    assert descriptors() == before
    os.close(deep.handle)


@pytest.mark.parametrize("times", [1, 5])
def test_a_passing_refusal_to_remove_is_tried_again(full: Place, times: int) -> None:
    left = times

    def busy(name: str, **where: Any) -> None:
        nonlocal left
        if name == "t" and left:
            left -= 1
            raise injected(errno.EBUSY)
        os.rmdir(name, **where)

    assert remove_again(with_calls(rmdir=busy), full.handle, "t") == []
    assert full.names() == []


def test_a_tree_that_stays_full_is_tried_twice(full: Place) -> None:
    tried = 0

    def unlink(name: str, **where: Any) -> None:
        nonlocal tried
        if name == "f":
            tried += 1
            raise injected(errno.EIO)
        os.unlink(name, **where)

    remaining = remove_again(with_calls(unlink=unlink), full.handle, "t")
    assert "t/d/e/f" in remaining
    assert tried == 2


# Recovering.


def dead(place: Place, content: Tree | None = None) -> str:
    """Leave a stage whose process is gone; return its name."""
    trees.build(f"{place.path}/{STAGE}dead", content or {"1": File(b"1")})
    return f"{STAGE}dead"


def test_a_dead_stage_is_gone_when_recovery_says_so(place: Place) -> None:
    platform = LinuxPlatform()
    assert recover(platform, place.handle, dead(place))
    assert place.names() == ["kept"]
    assert recover(platform, place.handle, f"{STAGE}dead"), "it is gone"


def test_a_stage_that_cannot_be_removed_is_not_gone(place: Place) -> None:
    name = dead(place)
    for calls in (
        {"unlink": refusing(errno.EIO, call=os.unlink)},
        {"open": refusing(errno.EACCES, name, call=os.open)},
        {"listdir": refusing(errno.EIO, call=os.scandir)},
        {"flock": refusing(errno.EIO, call=os.getpid)},
        {"stat": refusing(errno.EIO, call=os.stat)},
    ):
        assert not recover(with_calls(**calls), place.handle, name), calls
        assert place.stages() == [name]
    assert recover(LinuxPlatform(), place.handle, name)


def test_a_stage_that_lives_is_not_gone(place: Place) -> None:
    stage = open_stage(LinuxPlatform(), place.handle, never)
    assert not recover(LinuxPlatform(), place.handle, stage.name)
    assert place.stages() == [stage.name]
    stage.remove()
    stage.close()


def test_a_name_that_is_no_directory_is_no_stage(place: Place) -> None:
    os.symlink(".", f"{place.path}/{STAGE}ln")
    assert not recover(LinuxPlatform(), place.handle, f"{STAGE}ln")
    assert place.stages() == [f"{STAGE}ln"]


def owing(place: Place, path: list[str], final: int) -> str:
    """Leave a dead stage that owes the directory at `path` its permission bits."""
    seen = os.stat("/".join([place.path, *path]))
    record = {
        "path": path,
        "inode": seen.st_ino,
        "temporary": stat.S_IMODE(seen.st_mode),
        "final": final,
    }
    return dead(place, {"p1": File(json.dumps(record).encode())})


def test_a_dead_stage_inside_a_read_only_directory_is_removed_while_it_can_be(ground: str) -> None:
    os.mkdir(f"{ground}/place", 0o777)
    os.chmod(f"{ground}/place", 0o777)
    with users.ordinary_user():
        inside = {f"ro/sub/{STAGE}inner/1": File(b"1"), "ro/sub/.linkmode-else/1": File(b"1")}
        place = Place(f"{ground}/place/in", {"kept": File(), **inside})
        name = owing(place, ["ro", "sub"], 0o555)
        assert recover(LinuxPlatform(), place.handle, name)
        assert stat.S_IMODE(os.stat(f"{place.path}/ro/sub").st_mode) == 0o555
        assert os.listdir(f"{place.path}/ro/sub") == [".linkmode-else"]
        assert place.names() == ["kept", "ro"]
        os.close(place.handle)


def test_permission_bits_that_cannot_be_given_back_keep_their_note(place: Place) -> None:
    os.mkdir(f"{place.path}/d", 0o755)
    name = owing(place, ["d"], 0o555)
    refused = with_calls(chmod=refusing(errno.EIO, call=os.chmod))
    assert not recover(refused, place.handle, name)
    assert os.listdir(f"{place.path}/{name}") == ["p1"]
    assert recover(LinuxPlatform(), place.handle, name)
    assert stat.S_IMODE(os.stat(f"{place.path}/d").st_mode) == 0o555


# Undo.


class Target:
    """A target in which a link has made changes, and its stage."""

    def __init__(self, root: str, existing: Tree | None = None, base: Calls = REFLINKING) -> None:
        self.base = base
        self.place = Place(f"{root}/target", existing or {})
        self.top = Node("", None)
        self.stage = open_stage(LinuxPlatform(base), self.place.handle, never)
        self.records: dict[str, Record] = {}
        self.nodes = {"": self.top}
        self.inodes: dict[str, int | None] = {}
        """What the source's files are, by path."""

    def node(self, path: str) -> Node:
        if path not in self.nodes:
            parent, _, name = path.rpartition("/")
            self.nodes[path] = Node(name, self.node(parent))
        return self.nodes[path]

    def path(self, path: str) -> str:
        return f"{self.place.path}/{path}"

    def staged(self, number: str, content: bytes) -> int:
        """Put a file into the stage; return its inode."""
        with open(self.path(f"{self.stage.name}/{number}"), "wb") as writing:
            writing.write(content)
        return os.stat(self.path(f"{self.stage.name}/{number}")).st_ino

    def wrote(self, path: str, content: bytes) -> int:
        with open(self.path(path), "wb") as writing:
            writing.write(content)
        return os.stat(self.path(path)).st_ino

    def changed(self, path: str, inode: int, number: str = "0", whole: Node | None = None) -> None:
        """Say that `path` was given an entry of ours."""
        directory, _, name = path.rpartition("/")
        node = self.node(directory)
        seen = os.stat(self.path(directory))
        record = self.records.setdefault(directory, Record(node, (seen.st_dev, seen.st_ino)))
        record.changes.append(Change(name, self.stage, number, inode, whole, FOREVER))

    def undo(
        self, *, company: bool = False, met: Callable[[], bool] | None = None, **calls: Any
    ) -> list[str]:
        def source_inode(node: Node, name: str) -> int | None:
            return self.inodes[node.join(name)]

        undo = Undo(
            with_calls(self.base, **calls),
            self.place.handle,
            self.top,
            source_inode,
            company=met or (lambda: company),
            settle=lambda: None,
        )
        return undo.run(list(self.records.values()))

    def there(self) -> dict[str, bytes]:
        """Return the files of the target and what they hold."""
        return {
            path: seen.content
            for path, seen in trees.snapshot(self.place.path).items()
            if seen.kind == "file" and not path.startswith(".linkmode")
        }

    def close(self) -> None:
        self.stage.close()
        os.close(self.place.handle)


@pytest.fixture
def target(ground: str) -> Iterator[Target]:
    before = descriptors()
    made = Target(ground, {"d/kept": File(b"kept"), "e/kept": File(b"kept")})
    yield made
    made.close()
    assert descriptors() == before, "handles are kept open"


def test_undo_takes_names_of_ours_and_puts_back_what_they_replaced(target: Target) -> None:
    target.changed("d/new", target.wrote("d/new", b"new"))
    target.staged("7", b"old")
    target.changed("d/replaced", target.wrote("d/replaced", b"ours"), "7")
    assert target.undo() == []
    assert target.there() == {"d/kept": b"kept", "d/replaced": b"old", "e/kept": b"kept"}
    assert not target.stage.keep


@pytest.mark.parametrize("there", [True, False])
def test_undo_finds_what_an_emulated_exchange_put_aside(target: Target, *, there: bool) -> None:
    """It stopped halfway: the old entry has the name that it has for a moment only."""
    target.stage.emulate_exchange = True
    target.staged(f"7{ASIDE}", b"old")
    inode = target.wrote("d/f", b"ours") if there else target.staged("7", b"ours")
    target.changed("d/f", inode, "7")
    assert target.undo() == []
    assert target.there()["d/f"] == b"old"


def test_undo_looks_for_nothing_put_aside_where_exchanges_are_atomic(target: Target) -> None:
    target.staged(f"7{ASIDE}", b"something else")
    target.changed("d/f", target.wrote("d/f", b"ours"), "7")
    assert target.undo() == []
    assert "d/f" not in target.there()


def test_undo_prefers_the_backup_to_what_lies_aside(target: Target) -> None:
    target.stage.emulate_exchange = True
    target.staged("7", b"old")
    target.staged(f"7{ASIDE}", b"something else")
    target.changed("d/f", target.wrote("d/f", b"ours"), "7")
    assert target.undo() == []
    assert target.there()["d/f"] == b"old"


def test_undo_takes_no_second_name_of_ours_for_something_old(target: Target) -> None:
    target.stage.emulate_exchange = True
    inode = target.staged("7", b"ours")
    os.link(target.path(f"{target.stage.name}/7"), target.path("d/f"))
    os.link(target.path(f"{target.stage.name}/7"), target.path(f"{target.stage.name}/7{ASIDE}"))
    target.changed("d/f", inode, "7")
    assert target.undo() == []
    assert "d/f" not in target.there()


@pytest.mark.parametrize("emulated", [False, True])
def test_undo_leaves_a_name_that_was_never_given(target: Target, *, emulated: bool) -> None:
    target.stage.emulate_exchange = emulated
    target.changed("d/f", target.staged("7", b"ours"), "7")
    assert target.undo() == []
    assert target.there() == {"d/kept": b"kept", "e/kept": b"kept"}


def test_undo_leaves_a_hard_link_that_was_there_before(target: Target) -> None:
    """The source's very file had the name, and ours lies in the stage."""
    inode = target.wrote("d/f", b"the source's")
    os.link(target.path("d/f"), target.path(f"{target.stage.name}/7"))
    target.inodes["d/f"] = inode
    target.changed("d/f", 0, "7")
    assert target.undo() == []
    assert target.there()["d/f"] == b"the source's"


def test_undo_leaves_a_directory_that_came_in_the_place_of_ours(target: Target) -> None:
    inode = target.wrote("e/f", b"ours")
    target.changed("e/f", inode)
    os.rename(target.path("e"), target.path("moved"))
    os.mkdir(target.path("e"))
    os.link(target.path("moved/f"), target.path("e/f"))
    assert target.undo() == []
    assert set(target.there()) == {"d/kept", "e/f", "moved/kept", "moved/f"}


def test_undo_goes_on_behind_a_directory_that_is_gone(target: Target) -> None:
    target.changed("d/f", target.wrote("d/f", b"ours"))
    target.changed("e/f", target.wrote("e/f", b"ours"))
    trees.remove(target.path("e"))
    assert target.undo() == []
    assert target.there() == {"d/kept": b"kept"}


def test_a_directory_that_cannot_be_opened_leaves_every_name_in_it(target: Target) -> None:
    whole = target.node("d/whole")
    os.mkdir(target.path("d/whole"))
    target.changed("d/whole", 0, whole=whole)
    target.changed("d/f", target.wrote("d/f", b"ours"))
    target.changed("e/f", target.wrote("e/f", b"ours"))
    left = target.undo(open=refusing(errno.EIO, "d", call=os.open))
    assert left == ["d/whole", "d/f"]
    assert set(target.there()) == {"d/kept", "d/f", "e/kept"}
    assert target.stage.keep


def test_a_root_that_was_placed_whole_and_stays_is_named(target: Target) -> None:
    target.changed("x", 0, whole=target.top)
    assert target.undo(stat=refusing(errno.EIO, call=os.stat), fstat=_no_fstat) == ["."]


def _no_fstat(handle: int) -> os.stat_result:
    raise injected(errno.EIO)


@pytest.mark.parametrize("again", [1, 2])
def test_what_is_refused_once_is_tried_again_and_then_left(target: Target, again: int) -> None:
    target.staged("7", b"old")
    target.changed("d/f", target.wrote("d/f", b"ours"), "7")
    refusals = again

    def renameat2(*arguments: Any) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise injected(errno.EIO)
        REFLINKING.renameat2(*arguments)

    left = target.undo(renameat2=renameat2)
    assert left == ([] if again == 1 else ["d/f"])
    assert target.there()["d/f"] == (b"old" if again == 1 else b"ours")
    assert target.stage.keep is (again == 2)


def test_what_is_removed_just_before_it_is_put_back_is_put_back(target: Target) -> None:
    target.staged("7", b"old")
    target.changed("d/f", target.wrote("d/f", b"ours"), "7")

    def renameat2(*arguments: Any) -> None:
        if os.path.exists(target.path("d/f")):
            os.unlink(target.path("d/f"))
        REFLINKING.renameat2(*arguments)

    assert target.undo(renameat2=renameat2) == []
    assert target.there()["d/f"] == b"old"


def test_undo_learns_once_that_a_filesystem_lacks_the_atomic_call(ground: str) -> None:
    target = Target(ground, base=WITHOUT_FLAGS)
    for name in "abc":
        target.changed(name, target.wrote(name, b"ours"))
    tap = Tap(base=WITHOUT_FLAGS)
    assert target.undo(renameat2=tap.calls.renameat2) == []
    assert target.there() == {}
    assert tap.count == 2, "the first of the three, and that again"
    target.close()


def test_a_hard_link_in_company_stays_and_its_stage_only_if_it_replaced(target: Target) -> None:
    inode = target.wrote("d/f", b"the source's")
    target.inodes["d/f"] = inode
    target.changed("d/f", 0)
    assert target.undo(company=True) == ["d/f"]
    assert target.there()["d/f"] == b"the source's"
    assert not target.stage.keep
    target.staged("0", b"old")
    assert target.undo(company=True) == ["d/f"]
    assert target.stage.keep


@pytest.mark.parametrize("backup", [False, True])
def test_a_hard_link_whose_source_is_gone_stays_and_its_stage_if_something_was_replaced(
    target: Target, *, backup: bool
) -> None:
    target.wrote("d/f", b"the source's")
    target.inodes["d/f"] = None
    target.changed("d/f", 0)
    if backup:
        target.staged("0", b"old")
    assert target.undo() == ["d/f"]
    assert target.there()["d/f"] == b"the source's"
    assert target.stage.keep is backup


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("source", ["unseen", "there", "another"])
def test_a_hard_link_that_may_be_younger_than_its_source_stays_if_it_replaced(
    target: Target, source: str, *, replaced: bool
) -> None:
    """A hard link is as old as its source: its birth does not tell whether it is ours."""
    inode = target.wrote("d/f", b"the source's, or another's")
    target.inodes["d/f"] = inode + (source == "another")
    if replaced:
        target.staged("0", b"old")
    target.changed("d/f", 0 if source == "unseen" else -inode)
    changes = target.records["d"].changes
    changes[-1] = changes[-1]._replace(made_ns=1)
    left = target.undo(fstype=lambda handle: 0xEF53, birth=lambda name, handle: 2)
    if source != "another":
        assert left == []
        assert target.there().get("d/f") == (b"old" if replaced else None)
    else:
        assert left == (["d/f"] if replaced else [])
        assert target.there()["d/f"] == b"the source's, or another's"
    assert target.stage.keep is (replaced and source == "another")


def taken_from_another(target: Target) -> Callable[[], bool]:
    """Make a hard link; return what says that another linker came when we had taken it away."""
    target.inodes["d/f"] = target.wrote("d/f", b"the source's")
    target.changed("d/f", 0)
    answers = iter([False])
    return lambda: next(answers, True)


def test_a_name_that_was_taken_from_another_linker_is_given_back(target: Target) -> None:
    assert target.undo(met=taken_from_another(target)) == ["d/f"]
    assert target.there()["d/f"] == b"the source's"
    assert not target.stage.keep


def test_a_newer_file_is_not_replaced_by_what_was_taken_from_another_linker(
    target: Target,
) -> None:
    met = taken_from_another(target)

    def renameat2(source: int, name: str, to: int, new: str, flags: int) -> None:
        if new == "f":
            target.wrote("d/f", b"newer")
        REFLINKING.renameat2(source, name, to, new, flags)

    assert target.undo(met=met, renameat2=renameat2) == ["d/f"]
    assert target.there()["d/f"] == b"newer"
    assert not target.stage.keep, "what lies in it has other names"


def test_a_stage_holds_what_cannot_be_given_back_to_another_linker(target: Target) -> None:
    met = taken_from_another(target)

    def renameat2(source: int, name: str, to: int, new: str, flags: int) -> None:
        if new == "f":
            raise injected(errno.EIO)
        REFLINKING.renameat2(source, name, to, new, flags)

    assert target.undo(met=met, renameat2=renameat2) == ["d/f"]
    assert "d/f" not in target.there()
    assert target.stage.keep
    (number,) = os.listdir(target.path(target.stage.name))
    assert os.stat(target.path(f"{target.stage.name}/{number}")).st_ino == target.inodes["d/f"]


def test_a_stage_holds_what_cannot_be_given_back_into_a_directory_placed_whole(
    target: Target,
) -> None:
    placed_whole(target)
    target.inodes["new/b/f"] = target.node("new/b").inodes["f"]
    target.node("new/b").inodes = {"f": 0}
    answers = iter([False])

    def renameat2(source: int, name: str, to: int, new: str, flags: int) -> None:
        if new == "f":
            raise injected(errno.EIO)
        REFLINKING.renameat2(source, name, to, new, flags)

    left = target.undo(met=lambda: next(answers, True), renameat2=renameat2)
    assert "new/b/f" in left
    assert "new/b/f" not in target.there()
    assert target.stage.keep


def placed_whole(target: Target) -> Node:
    """Place the directory ``new`` whole: two directories in it, and a file in each."""
    top = target.node("new")
    os.mkdir(target.path("new"))
    for name in ("a", "b", "c"):
        os.mkdir(target.path(f"new/{name}"))
        node = target.node(f"new/{name}")
        node.inodes = {"f": target.wrote(f"new/{name}/f", b"ours")}
    top.directories = [target.node(f"new/{name}") for name in ("a", "b", "c")]
    for path in ("new", "new/a", "new/b", "new/c"):
        seen = os.stat(target.path(path))
        target.node(path).inode, target.node(path).mtime_ns = seen.st_ino, seen.st_mtime_ns
    target.changed("new", 0, whole=top)
    return top


def test_a_directory_placed_whole_is_taken_back_whole(target: Target) -> None:
    placed_whole(target)
    assert target.undo() == []
    assert sorted(os.listdir(target.place.path)) == [target.stage.name, "d", "e"]


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_directory_of_others_inside_one_of_ours_stays_and_nothing_else(
    target: Target, name: str
) -> None:
    placed_whole(target)
    os.rename(target.path(f"new/{name}"), target.path("moved"))
    os.mkdir(target.path(f"new/{name}"))
    os.link(target.path("moved/f"), target.path(f"new/{name}/f"))
    assert target.undo() == []
    assert sorted(target.there()) == ["d/kept", "e/kept", "moved/f", f"new/{name}/f"]
    assert os.listdir(target.path("new")) == [name]


def test_a_read_only_directory_placed_whole_is_taken_back_wherever_we_are(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkdir(f"{ground}/in", 0o777)
    os.chmod(f"{ground}/in", 0o777)
    with users.ordinary_user():
        monkeypatch.chdir(f"{ground}/in")
        target = Target(f"{ground}/in")
        placed_whole(target)
        for path in ("new/a", "new"):
            os.chmod(target.path(path), 0o500)
            target.node(path).mode = 0o500
        seen: set[int] = set()

        def renameat2(source: int, *arguments: Any) -> None:
            if os.path.isdir(target.path("new/a")):
                seen.add(stat.S_IMODE(os.stat(target.path("new/a")).st_mode))
            REFLINKING.renameat2(source, *arguments)

        assert target.undo(renameat2=renameat2) == []
        assert 0o700 in seen
        assert seen <= {0o500, 0o700}, "nobody else is let in meanwhile"
        assert os.listdir(target.place.path) == [target.stage.name]
        target.close()


def test_a_root_placed_whole_that_stays_is_named(target: Target) -> None:
    placed_whole(target).root = True
    assert target.undo(rmdir=refusing(errno.EIO, "new", call=os.rmdir)) == ["."]
    assert os.listdir(target.path("new")) == []


def empty_whole(target: Target, path: str) -> Node:
    """Place an empty directory."""
    os.mkdir(target.path(path), 0o750)
    node, seen = target.node(path), os.stat(target.path(path))
    node.inode, node.mode = seen.st_ino, 0o750
    node.atime_ns = node.mtime_ns = seen.st_mtime_ns
    target.changed(path, 0, whole=node)
    return node


@pytest.mark.parametrize("root", [False, True])
def test_an_empty_directory_that_another_linker_touched_stays(
    target: Target, *, root: bool
) -> None:
    node = empty_whole(target, "d/new")
    node.root = root
    os.utime(target.path("d/new"))
    assert target.undo() == ["." if root else "d/new"]
    assert stat.S_IMODE(os.stat(target.path("d/new")).st_mode) == 0o750


@pytest.mark.parametrize("root", [False, True])
def test_a_directory_that_is_touched_while_it_is_removed_is_made_again(
    target: Target, *, root: bool
) -> None:
    node = empty_whole(target, "d/new")
    node.root = root
    made: list[int] = []

    def rmdir(name: str, **where: Any) -> None:
        os.utime(target.path("d/new"))
        os.rmdir(name, **where)

    def mkdir(name: str, mode: int, **where: Any) -> None:
        made.append(mode)
        os.mkdir(name, mode, **where)

    assert target.undo(rmdir=rmdir, mkdir=mkdir) == ["." if root else "d/new"]
    assert made == [0o750], "never more open than it was"
    seen = os.stat(target.path("d/new"))
    assert (stat.S_IMODE(seen.st_mode), seen.st_mtime_ns) == (0o750, node.mtime_ns)


def touching(target: Target, path: str) -> Callable[..., None]:
    """Return an rmdir before which another linker touches the directory that it wants as well."""

    def rmdir(name: str, **where: Any) -> None:
        os.utime(target.path(path))
        os.rmdir(name, **where)

    return rmdir


def test_a_directory_that_another_linker_makes_first_is_left_to_it(target: Target) -> None:
    empty_whole(target, "d/new")

    def mkdir(name: str, mode: int, **where: Any) -> None:
        os.mkdir(target.path("d/new"), 0o700)
        os.mkdir(name, mode, **where)

    assert target.undo(rmdir=touching(target, "d/new"), mkdir=mkdir) == ["d/new"]
    seen = os.stat(target.path("d/new"))
    assert stat.S_IMODE(seen.st_mode) == 0o700
    assert seen.st_mtime_ns > target.node("d/new").mtime_ns


def test_a_directory_that_cannot_be_made_again_is_named(target: Target) -> None:
    """Undo goes on, with what was placed before it."""
    target.changed("d/f", target.wrote("d/f", b"ours"))
    empty_whole(target, "d/new")
    left = target.undo(
        rmdir=touching(target, "d/new"), mkdir=refusing(errno.EIO, "new", call=os.mkdir)
    )
    assert set(left) == {"d/new"}
    assert os.listdir(target.path("d")) == ["kept"]


def at_second(name: str, act: Callable[[], None]) -> Callable[..., int]:
    """Return an open before which something happens when it opens a name for the second time."""
    count = 0

    def opening(path: str, *arguments: Any, **where: Any) -> int:
        nonlocal count
        count += path == name
        if path == name and count == 2:
            act()
        return os.open(path, *arguments, **where)

    return opening


def test_a_directory_that_others_remove_while_it_is_taken_back_is_gone(target: Target) -> None:
    placed_whole(target)
    gone = at_second("b", lambda: os.rmdir(target.path("new/b")))
    assert target.undo(open=gone) == []
    assert sorted(os.listdir(target.place.path)) == [target.stage.name, "d", "e"]


def test_a_directory_that_cannot_be_opened_to_be_removed_is_named(target: Target) -> None:
    placed_whole(target)

    def opening(path: str, *arguments: Any, **where: Any) -> int:
        if path == "b" and not os.listdir(target.path("new/b")):
            raise injected(errno.EIO)
        return os.open(path, *arguments, **where)

    assert target.undo(open=opening) == ["new/b"]
    assert trees.snapshot(target.path("new")).keys() == {"", "b"}


def test_an_empty_directory_that_nobody_touched_is_taken_back(target: Target) -> None:
    empty_whole(target, "d/new")
    assert target.undo() == []
    assert os.listdir(target.path("d")) == ["kept"]


def test_what_stays_of_a_directory_placed_whole_is_named(target: Target) -> None:
    placed_whole(target)
    left = target.undo(rmdir=refusing(errno.EIO, "b", call=os.rmdir))
    assert left == ["new/b"]
    assert trees.snapshot(target.path("new")).keys() == {"", "b"}
    assert target.there() == {"d/kept": b"kept", "e/kept": b"kept"}


def test_a_file_that_stays_in_a_directory_placed_whole_is_named(target: Target) -> None:
    placed_whole(target)
    refused = os.stat(target.path("new/b")).st_ino

    def renameat2(source: int, *arguments: Any) -> None:
        if os.fstat(source).st_ino == refused:
            raise injected(errno.EIO)
        REFLINKING.renameat2(source, *arguments)

    assert target.undo(renameat2=renameat2) == ["new/b/f"]
    assert sorted(target.there()) == ["d/kept", "e/kept", "new/b/f"]


def test_a_directory_placed_whole_that_cannot_be_opened_is_named(target: Target) -> None:
    placed_whole(target)
    assert target.undo(open=refusing(errno.EIO, "b", call=os.open)) == ["new/b"]
    assert sorted(target.there()) == ["d/kept", "e/kept", "new/b/f"]
