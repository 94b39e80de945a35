"""What callers of `link_tree`, `link_source` and `link_file` get, before, during and afterwards."""

from __future__ import annotations

import copy
import dataclasses
import errno
import os
import pickle
from typing import Any

import pytest

from linker import (
    Existing,
    LinkError,
    LinkMode,
    LinkReport,
    link_file,
    link_tree,
)
from linker.choices import Choices
from linker.conditions import Condition, Primitive
from linker.engine import link_source
from linker.journal import STAGE
from linker.making import Maker
from linker.platforms.base import Failed
from linker.policies import REFERENCE, UV
from linker.policy import Edge, State
from linker.sources import DirectorySource
from linker.tree import Trail
from pytest_linkmode.faults.inprocess import injected
from tests.linker import trees, users
from tests.linker.scenes import Scene, Watcher
from tests.linker.seams import REFLINKING, MachinePlatform, Tap
from tests.linker.trees import Directory, File, Symlink, Tree


def files(root: str) -> dict[str, bytes]:
    """Return the files below a directory and what they hold."""
    seen = trees.snapshot(root)
    return {path: entry.content for path, entry in seen.items() if entry.kind == "file"}


def stages(root: str) -> set[str]:
    """Return the paths of stages below a directory."""
    return {path for path in trees.snapshot(root) if path.rpartition("/")[2].startswith(STAGE)} - {
        path for path in trees.snapshot(root) if f"/{STAGE}" in os.path.dirname(f"/{path}")
    }


def without_clones() -> MachinePlatform:
    def ficlone(writing: int, reading: int) -> None:
        raise injected(errno.EOPNOTSUPP)

    return MachinePlatform(dataclasses.replace(REFLINKING, ficlone=ficlone))


def stuck_stages() -> MachinePlatform:
    """A platform on which no stage can be removed, nor what was in it placed elsewhere."""

    def rmdir(name: str, **where: Any) -> None:
        if name.startswith(STAGE):
            raise injected(errno.EIO)
        os.rmdir(name, **where)

    return MachinePlatform(dataclasses.replace(REFLINKING, rmdir=rmdir))


def link_directory_source(source: str, target: str, **options: Any) -> LinkReport:
    """Do what `link_tree` does, by the way for any source."""
    return link_source(DirectorySource(source), target, **options)


# Before anything is written.

CONFLICTS: list[tuple[Tree, Tree, Existing, str, str]] = [
    ({"a": File()}, {"a": File()}, Existing.FAIL, "a", "a exists already"),
    ({"a": Symlink("x")}, {"a": File()}, Existing.FAIL, "a", "a exists already"),
    ({"d/x": File()}, {"d": Directory()}, Existing.FAIL, "d", "d exists already"),
    ({"a": File()}, {"a": Directory()}, Existing.MERGE, "a", "cannot replace a"),
    (
        {"a": File(), "b": File()},
        {"a": File(), "b": Directory()},
        Existing.MERGE,
        "b",
        "cannot replace b",
    ),
    ({"a/x": File()}, {"a": File()}, Existing.MERGE, "a", "cannot merge the directory a"),
    (
        {"a/b/f": File(), "c/d/g": File()},
        {"a/b/g": File(), "c/d/g": Directory()},
        Existing.MERGE,
        "c/d/g",
        "cannot replace c/d/g",
    ),
    (
        {"a/b/g": File(), "c/d/g": File()},
        {"a/b/g": Directory(), "c/d/f": File()},
        Existing.MERGE,
        "a/b/g",
        "cannot replace a/b/g",
    ),
]


@pytest.mark.parametrize(("source", "target", "existing", "path", "what"), CONFLICTS)
def test_a_conflict_is_found_before_anything_is_written(
    ground: str, source: Tree, target: Tree, existing: Existing, path: str, what: str
) -> None:
    scene, tap = Scene(ground, source, target), Tap()
    for link in (link_tree, link_directory_source):
        with pytest.raises(LinkError) as caught:
            link(
                scene.source,
                scene.target,
                mode=LinkMode.COPY,
                existing=existing,
                platform=tap.platform,
            )
        assert (caught.value.what, caught.value.path) == (what, path)
    assert not {"mkdir", "write", "link", "symlink", "renameat2"} & set(tap.names)
    assert not scene.untouched()


def test_nothing_is_refused_that_is_not_in_the_way(ground: str) -> None:
    source: Tree = {"a": File(b"a"), "d/x": File(b"x"), "e/y": File(b"y")}
    existing: Tree = {"b": File(b"b"), "z": Directory(), "e": Directory(), "a": File(b"old")}
    scene = Scene(ground, source, existing)
    link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    assert files(scene.target) == {"a": b"a", "b": b"b", "d/x": b"x", "e/y": b"y"}
    other = Scene(f"{ground}/other", {"a": File(b"a")}, {"b": File(b"b"), "z": Directory()})
    link_tree(other.source, other.target, mode=LinkMode.COPY, existing=Existing.FAIL)
    assert files(other.target) == {"a": b"a", "b": b"b"}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_target_that_cannot_be_looked_through_is_refused_before_anything_is_written(
    ground: str, number: int
) -> None:
    scene = Scene(ground, {"d/f": File()}, {"d": Directory()})

    inode = os.stat(f"{scene.target}/d").st_ino

    def opening(name: str, flags: int, *mode: int, **where: Any) -> int:
        handle = os.open(name, flags, *mode, **where)
        if os.fstat(handle).st_ino == inode:
            os.close(handle)
            raise injected(number)
        return handle

    tap = Tap(base=dataclasses.replace(REFLINKING, open=opening))
    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=tap.platform)
    assert caught.value.path == "d"
    assert "mkdir" not in tap.names


def test_a_target_that_cannot_be_listed_is_named(ground: str) -> None:
    scene = Scene(ground, {"f": File()}, {})
    inode = os.stat(scene.target).st_ino

    def listing(handle: int) -> Any:
        if os.fstat(handle).st_ino == inode:
            raise injected(errno.EIO)
        return os.scandir(handle)

    platform = MachinePlatform(dataclasses.replace(REFLINKING, listdir=listing))
    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=platform)
    assert caught.value.what == "cannot read the target"
    assert caught.value.path == "the target"


def test_what_a_killed_run_left_beside_a_target_is_removed(ground: str) -> None:
    scene = Scene(ground, {"f": File(b"f")}, {"old": File()})
    trees.build(f"{ground}/{STAGE}dead", {"1/f": File()})
    trees.build(f"{ground}/another", {"1/f": File()})
    link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    assert scene.beside() == ["another"]


# While others are at work.


@pytest.mark.parametrize("call", ["mkdir", "read", "fstat"])
def test_a_target_that_others_remove_is_made_again(ground: str, call: str) -> None:
    scene = Scene(ground, {"f": File(b"f"), "d/g": File(b"g")}, {})
    removed = 0

    def deed(number: int, name: str) -> None:
        nonlocal removed
        if name == call and removed < 2 and os.path.isdir(scene.target):
            removed += 1
            trees.remove(scene.target)

    report = link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=Tap(deed).platform)
    assert removed
    assert files(scene.target) == {"f": b"f", "d/g": b"g"}
    assert report.counts == {LinkMode.COPY: 2}
    assert not stages(ground)


@pytest.mark.parametrize("name", ["d", "d/sub", "e"])
def test_a_directory_that_vanishes_while_it_is_looked_at_is_made(ground: str, name: str) -> None:
    source: Tree = {"d/f": File(b"f"), "d/sub/g": File(b"g"), "e/h": File(b"h"), "z": File(b"z")}
    scene = Scene(ground, source, {"d/sub": Directory(), "e": Directory()})
    there = f"{scene.target}/{name}"

    class Vanishing(MachinePlatform):
        def open_below(self, directory: int, below: str, *primitive: Any) -> int:
            where = os.path.join(os.readlink(f"/proc/self/fd/{directory}"), below)
            if where == there and not gone:
                gone.append(where)
                trees.remove(there)
            return super().open_below(directory, below, *primitive)

    gone: list[str] = []
    report = link_tree(
        scene.source, scene.target, mode=LinkMode.COPY, platform=Vanishing(REFLINKING)
    )
    assert gone
    assert set(files(scene.target)) == set(source)
    assert report.counts == {LinkMode.COPY: len(source)}


def test_a_target_that_is_there_and_cannot_be_opened_is_no_target_that_vanished(
    ground: str,
) -> None:
    scene = Scene(ground, {"f": File(b"f")}, {})
    tried = 0

    class Missing(MachinePlatform):
        def open_root(self, path: str) -> int:
            nonlocal tried
            if path == scene.target:
                tried += 1
                raise Failed(Primitive.OPEN, injected(errno.ENOENT))
            return super().open_root(path)

    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=Missing())
    assert (caught.value.path, caught.value.condition) == (scene.target, Condition.MISSING)
    assert tried == 1


def test_a_conflict_is_found_though_another_directory_vanishes_meanwhile(ground: str) -> None:
    source: Tree = {"d/f": File(b"f"), "e/g": File(b"g"), "h/i": File(b"i")}
    for vanishing in "deh":
        for conflict in {"d/f", "e/g", "h/i"} - {f"{vanishing}/{'fgi'['deh'.index(vanishing)]}"}:
            existing: Tree = {**{name: Directory() for name in "deh"}, conflict: Directory()}
            scene = Scene(f"{ground}/{vanishing}-{conflict[0]}", source, existing)
            there = f"{scene.target}/{vanishing}"

            def opening(name: str, flags: int, *mode: int, there: str = there, **where: Any) -> int:
                if "dir_fd" in where and os.path.isdir(there):
                    path = os.path.join(os.readlink(f"/proc/self/fd/{where['dir_fd']}"), name)
                    if path == there:
                        os.rmdir(there)
                return os.open(name, flags, *mode, **where)

            tap = Tap(base=dataclasses.replace(REFLINKING, open=opening))
            with pytest.raises(LinkError) as caught:
                link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=tap.platform)
            assert caught.value.what == f"cannot replace {conflict}"
            assert "mkdir" not in tap.names, "before anything is written"


# One file.


def test_one_file_gets_its_new_name_and_no_other_is_touched(ground: str) -> None:
    scene = Scene(ground, {"f": File(b"new")}, {"f": File(b"kept"), "g": File(b"old")})
    source = f"{scene.source}/f"
    with pytest.raises(LinkError) as caught:
        link_file(source, f"{scene.target}/g", mode=LinkMode.COPY, existing=Existing.FAIL)
    assert caught.value.what == "g exists already"
    report = link_file(source, f"{scene.target}/g", mode=LinkMode.COPY)
    assert files(scene.target) == {"f": b"kept", "g": b"new"}
    assert (report.replaced, report.counts) == (1, {LinkMode.COPY: 1})
    link_file(source, f"{scene.target}/h", mode=LinkMode.COPY, existing=Existing.FAIL)
    assert files(scene.target) == {"f": b"kept", "g": b"new", "h": b"new"}
    os.mkdir(f"{scene.target}/d")
    with pytest.raises(LinkError) as caught:
        link_file(source, f"{scene.target}/d", mode=LinkMode.COPY)
    assert caught.value.what == "cannot replace d"


@pytest.mark.parametrize("mode", LinkMode)
def test_one_file_tells_observers_and_falls_back_unless_strict(ground: str, mode: LinkMode) -> None:
    scene = Scene(ground, {"f": File(b"f")}, {})
    watching = Watcher()
    report = link_file(
        f"{scene.source}/f",
        f"{scene.target}/new/g",
        mode=mode,
        platform=without_clones(),
        observer=watching,
    )
    assert watching.reports == [report]
    ended = LinkMode.COPY if mode is LinkMode.CLONE else mode
    assert report.counts == {ended: 1}
    assert [told.path for told in watching.transitions if told.edge.fallback] == (
        ["f"] if mode is LinkMode.CLONE else []
    )
    if mode is LinkMode.CLONE:
        with pytest.raises(LinkError):
            link_file(
                f"{scene.source}/f",
                f"{scene.target}/h",
                mode=mode,
                platform=without_clones(),
                strict=True,
            )


def test_one_file_that_failed_leaves_what_was_there(ground: str) -> None:
    scene = Scene(ground, {"f": File(b"new")}, {"g": File(b"old")})

    def renameat2(*arguments: Any) -> None:
        raise injected(errno.EIO)

    platform = MachinePlatform(dataclasses.replace(REFLINKING, renameat2=renameat2))
    for mode in LinkMode:
        with pytest.raises(LinkError) as caught:
            link_file(f"{scene.source}/f", f"{scene.target}/g", mode=mode, platform=platform)
        assert not caught.value.left
        assert not scene.untouched()


# Any source.


def test_any_source_is_linked_with_every_promise(ground: str) -> None:
    scene = Scene(ground, {"f": File(b"f"), "RECORD": File(b"r"), "d/g": File(b"g")}, {})
    source, watching = DirectorySource(scene.source), Watcher()
    seen: list[tuple[int, int]] = []
    report = link_source(
        source,
        scene.target,
        mode=LinkMode.HARDLINK,
        mutable=["RECORD"],
        observer=watching,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert watching.reports == [report]
    assert report.counts == {LinkMode.HARDLINK: 2, LinkMode.COPY: 1}
    assert seen == [(2, 3), (3, 3)]
    scene.rebuild()
    report = link_source(source, scene.target, platform=without_clones(), observer=watching)
    assert report.counts == {LinkMode.COPY: 3}
    assert [told.path for told in watching.transitions if told.edge.fallback] == ["RECORD"]
    scene.rebuild()
    with pytest.raises(LinkError):
        link_source(source, scene.target, platform=without_clones(), strict=True)
    assert not scene.untouched()


def test_a_tree_may_be_linked_again_from_its_first_file_from_any_source(ground: str) -> None:
    tree: Tree = {name: File(name.encode()) for name in ("a", "b", "c", "d")}
    tried: list[str] = []

    def ficlone(writing: int, reading: int) -> None:
        tried.append(os.path.basename(os.readlink(f"/proc/self/fd/{reading}")))
        if len(tried) > 1:
            raise injected(errno.EXDEV)
        REFLINKING.ficlone(writing, reading)

    again = dataclasses.replace(UV, name=ground, restarts=True, edges=_never_established())
    platform = MachinePlatform(dataclasses.replace(REFLINKING, ficlone=ficlone))
    for link in (link_tree, link_directory_source):
        scene = Scene(f"{ground}/{len(tried)}", tree, {})
        tried.clear()
        report = link(scene.source, scene.target, policy=again, platform=platform)
        assert tried == ["a", "b"]
        assert report.counts == {LinkMode.HARDLINK: 4}
        assert len(report.transitions) == 1
        assert report.policy == ground
        tried.append("x")


def _never_established() -> tuple[Edge, ...]:
    """Return UV's edges, where a success changes nothing."""
    initial = tuple(edge for edge in UV.edges if edge.state is State.INITIAL)
    return (
        *initial,
        *(dataclasses.replace(edge, state=State.ESTABLISHED) for edge in initial),
        *(edge for edge in UV.edges if edge.state is State.ANY),
    )


# Afterwards.


def test_every_stage_is_gone_however_many_there_were(ground: str) -> None:
    names = "abcd"
    tree: Tree = {f"{name}/f": File(name.encode()) for name in names}
    scene = Scene(ground, tree, {name: Directory() for name in names})
    for name in names:
        os.chmod(f"{scene.target}/{name}", 0o2755)
    report = link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    assert report.leftovers == ()
    assert not stages(ground)
    scene.rebuild()
    for name in names:
        os.chmod(f"{scene.target}/{name}", 0o2755)
    report = link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=stuck_stages())
    assert set(report.leftovers) == stages(scene.target)
    assert {path.partition("/")[0] for path in report.leftovers} > set(names)


@pytest.mark.parametrize("fails", [False, True], ids=["report", "error"])
def test_a_stage_that_can_neither_be_listed_nor_removed_is_named_once(
    ground: str, *, fails: bool
) -> None:
    scene = Scene(ground, {"a": File(b"a"), "b": File(b"b")}, {})

    def listdir(directory: int) -> Any:
        if STAGE in os.readlink(f"/proc/self/fd/{directory}"):
            raise injected(errno.EIO)
        return os.scandir(directory)

    def link(name: str, new: str, **where: Any) -> None:
        if fails and new == "b":
            raise injected(errno.ENOSPC)
        os.link(name, new, **where)

    stuck = dataclasses.replace(stuck_stages().calls, listdir=listdir, link=link)
    platform = MachinePlatform(stuck)
    if fails:
        with pytest.raises(LinkError) as caught:
            link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=platform)
        left = caught.value.left
    else:
        report = link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=platform)
        left = report.leftovers
    (stage,) = stages(scene.target)
    assert left == (stage,)


def test_a_stage_that_stays_beside_a_new_target_is_named(ground: str) -> None:
    scene = Scene(ground, {"f": File(b"f")}, None)
    report = link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=stuck_stages())
    (name,) = scene.beside()
    assert report.leftovers == (f"../{name}",)


def test_a_read_only_root_that_stays_open_is_named_with_its_stage(ground: str) -> None:
    os.mkdir(f"{ground}/in", 0o777)
    os.chmod(f"{ground}/in", 0o777)
    with users.ordinary_user():
        scene = Scene(f"{ground}/in/scene", {"f": File(b"f")}, {"": Directory(0o555)})
        widened = False

        def chmod(path: Any, mode: int) -> None:
            nonlocal widened
            if widened:
                raise injected(errno.EIO)
            widened = mode == 0o755
            os.chmod(path, mode)

        platform = MachinePlatform(dataclasses.replace(REFLINKING, chmod=chmod))
        report = link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=platform)
        (name,) = scene.beside()
        assert report.leftovers == (".", f"../{name}")
        link_tree(scene.source, scene.target, mode=LinkMode.COPY)
        assert os.stat(scene.target).st_mode & 0o7777 == 0o555
        assert scene.beside() == []


def test_nothing_is_owed_to_a_read_only_directory_that_others_removed(ground: str) -> None:
    os.mkdir(f"{ground}/in", 0o777)
    os.chmod(f"{ground}/in", 0o777)
    with users.ordinary_user():
        tree: Tree = {"ro/f": File(b"f"), "z/g": File(b"g")}
        scene = Scene(f"{ground}/in/scene", tree, {"ro": Directory(0o555), "z": Directory()})

        def removed(done: int, total: int) -> None:
            if done == total:
                trees.remove(f"{scene.target}/ro")

        report = link_tree(scene.source, scene.target, mode=LinkMode.COPY, progress=removed)
        assert report.leftovers == ()
        assert not stages(ground)


def test_a_hard_link_is_taken_back_though_its_source_is_gone(ground: str) -> None:
    scene = Scene(ground, {"a": File(b"a"), "b": File(b"b")}, {})

    def link(name: str, new: str, **where: Any) -> None:
        if name == "b":
            os.unlink(f"{scene.source}/a")
            raise injected(errno.EIO)
        os.link(name, new, **where)

    platform = MachinePlatform(dataclasses.replace(REFLINKING, link=link))
    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=LinkMode.HARDLINK, platform=platform)
    assert caught.value.left == ()
    assert caught.value.condition is Condition.IO
    assert files(scene.target) == {}


@pytest.mark.parametrize("mode", LinkMode)
@pytest.mark.parametrize("processes", [1, 2])
def test_what_was_replaced_comes_back_though_the_source_has_other_files_by_now(
    ground: str, mode: LinkMode, processes: int
) -> None:
    many = {f"m{number}": File(b"m") for number in range(600 if processes > 1 else 0)}
    source: Tree = {"a": File(b"new"), "fresh": File(b"f"), "d/c": File(b"new"), **many}
    scene = Scene(ground, source, {"a": File(b"OLD"), "d/c": File(b"old")})
    before = files(scene.target)

    def replaced(_done: int, _total: int) -> None:
        for name in source:
            with open(f"{scene.source}/{name}.newer", "wb") as file:
                file.write(b"newer")
            os.replace(f"{scene.source}/{name}.newer", f"{scene.source}/{name}")
        raise KeyError("the caller's")

    with pytest.raises(KeyError):
        link_tree(scene.source, scene.target, mode=mode, progress=replaced, processes=processes)
    assert files(scene.target) == before
    assert not stages(ground)


@pytest.mark.parametrize("mode", LinkMode)
def test_what_helpers_made_is_taken_back_though_the_source_has_other_files_by_now(
    ground: str, mode: LinkMode
) -> None:
    tree = {f"top/d{number // 50}/f{number}": File(b"new") for number in range(2_000)}
    scene = Scene(ground, {**tree, "top/d0/link": Symlink("f0")}, {"x": File()})

    def replaced(done: int, total: int) -> None:
        if done == total:
            os.rename(f"{scene.source}/top", f"{ground}/elsewhere")
            raise KeyError("the caller's")

    with pytest.raises(KeyError):
        link_tree(scene.source, scene.target, mode=mode, progress=replaced, processes=2)
    assert files(scene.target) == {"x": b""}
    assert not stages(ground)


@pytest.mark.parametrize("word", ["fail", Existing.FAIL])
def test_what_exists_may_be_said_as_a_word(ground: str, word: Any) -> None:
    scene = Scene(ground, {"a": File(b"new")}, {"a": File(b"old")})
    with pytest.raises(LinkError, match="a exists already"):
        link_tree(scene.source, scene.target, existing=word)
    assert files(scene.target) == {"a": b"old"}


def test_a_word_for_what_exists_that_nobody_knows_is_refused(ground: str) -> None:
    scene = Scene(ground, {"a": File(b"new")}, {"a": File(b"old")})
    for link in (link_tree, link_file):
        with pytest.raises(LinkError, match="hint: choose one of merge, fail"):
            link(scene.source, scene.target, existing="failing")
    assert files(scene.target) == {"a": b"old"}


@pytest.mark.parametrize(
    "again",
    [copy.copy, lambda error: pickle.loads(pickle.dumps(error))],  # noqa: S301  # our own
)
def test_an_error_is_the_same_in_another_process(ground: str, again: Any) -> None:
    scene = Scene(ground, {"f": File(b"f")}, {})
    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, platform=without_clones(), strict=True)
    caught.value.left = ("x",)
    caught.value.add_note("a note")
    other = again(caught.value)
    assert (type(other), str(other)) == (LinkError, str(caught.value))
    assert vars(other) == vars(caught.value)
    assert other.edge is not None


def test_directories_that_are_filled_where_they_are_get_their_times_afterwards(
    ground: str,
) -> None:
    tree: Tree = {
        "n": Directory(0o755, trees.PAST - 7),
        "n/m": Directory(0o755, trees.PAST - 9),
        "n/m/f": File(b"f"),
        "n/g": File(b"g"),
    }
    scene = Scene(ground, tree, {})
    for policy in (dataclasses.replace(UV, waives=frozenset()), REFERENCE):
        scene.rebuild()
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, policy=policy)
        for path in ("n", "n/m"):
            assert scene.now()[path].mtime_ns == scene.wanted[path].mtime_ns, policy.name


@pytest.mark.parametrize("link", [link_tree, link_directory_source])
def test_strict_raises_where_the_policy_would_fall_back(ground: str, link: Any) -> None:
    scene = Scene(ground, {"f": File(b"f")}, {})
    with pytest.raises(LinkError) as caught:
        link(scene.source, scene.target, platform=without_clones(), strict=True)
    assert caught.value.condition is Condition.UNSUPPORTED
    assert not scene.untouched()
    report = link(scene.source, scene.target, platform=without_clones(), strict=False)
    assert report.counts == {LinkMode.COPY: 1}


def test_a_policy_that_undoes_nothing_leaves_what_it_had_linked(ground: str) -> None:
    scene = Scene(ground, {"a": File(b"a"), "b": File(b"b")}, {})

    def write(handle: int, data: Any) -> int:
        if bytes(data) == b"b":
            raise injected(errno.EIO)
        return os.write(handle, data)

    platform = MachinePlatform(dataclasses.replace(REFLINKING, write=write))
    with pytest.raises(LinkError):
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, policy=UV, platform=platform)
    assert files(scene.target) == {"a": b"a"}
    assert not stages(ground)


def replaced_at_once(ground: str, by: Tree, mode: LinkMode = LinkMode.COPY) -> LinkError:
    """Replace a hard link in the moment after it was made, and fail at the next."""
    scene = Scene(ground, {"a": File(b"a"), "b": File(b"b")}, {})
    trees.build(f"{ground}/theirs", by)

    def link(name: str, new: str, **where: Any) -> None:
        if name == "b":
            raise injected(errno.EIO)
        os.link(name, new, **where)
        link_tree(f"{ground}/theirs", scene.target, mode=mode)

    platform = MachinePlatform(dataclasses.replace(REFLINKING, link=link))
    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=LinkMode.HARDLINK, platform=platform)
    return caught.value


@pytest.mark.parametrize("mode", LinkMode)
def test_who_replaces_a_hard_link_at_once_keeps_what_is_theirs(ground: str, mode: LinkMode) -> None:
    error = replaced_at_once(ground, {"a": File(b"theirs")}, mode)
    with open(f"{ground}/target/a", "rb") as file:
        assert file.read() == b"theirs"
    assert error.left == ("a",)  # which of both was replaced nobody can say


def test_a_hard_link_that_could_not_be_looked_at_is_taken_back(ground: str) -> None:
    """Its inode is the source's, be that replaced later."""
    scene = Scene(ground, {"a": File(b"a"), "b": File(b"b")}, {})
    source, replaced = -1, list[str]()

    def stat(name: str, **where: Any) -> os.stat_result:
        if name == "a" and os.path.exists(f"{scene.target}/a") and not replaced:
            seen = os.stat(name, **where)
            if seen.st_nlink == 2 and where["dir_fd"] != source:
                raise injected(errno.EIO)
        return os.stat(name, **where)

    def link(name: str, new: str, **where: Any) -> None:
        nonlocal source
        source = where["src_dir_fd"]
        if name == "b":
            os.rename(f"{scene.source}/a", f"{ground}/gone")
            replaced.append(name)
            raise injected(errno.EIO)
        os.link(name, new, **where)

    platform = MachinePlatform(dataclasses.replace(REFLINKING, link=link, stat=stat))
    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=LinkMode.HARDLINK, platform=platform)
    assert caught.value.left == ()
    assert os.listdir(scene.target) == []


class Unseen(MachinePlatform):
    """Where nobody can look at a hard link that was just made."""

    def hardlink(self, source: int, name: str, target: int, new: str) -> int:
        super().hardlink(source, name, target, new)
        return 0


def test_a_hard_link_that_was_not_seen_may_be_another_linkers_too(ground: str) -> None:
    scene = Scene(ground, {"a": File(b"a"), "z": File(b"z")}, {"there": File()})

    def link(name: str, new: str, **where: Any) -> None:
        if name == "z":
            (stage,) = (each for each in os.listdir(scene.target) if each.startswith(STAGE))
            with open(f"{scene.target}/{stage}/c", "wb"):
                raise injected(errno.EIO)
        os.link(name, new, **where)

    platform = Unseen(dataclasses.replace(REFLINKING, link=link))
    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=LinkMode.HARDLINK, platform=platform)
    assert caught.value.left == ("a",)
    assert os.path.samefile(f"{scene.source}/a", f"{scene.target}/a")


def test_what_cannot_be_looked_at_has_no_inode(ground: str) -> None:
    trees.build(f"{ground}/source", {"f": File(b"f")})

    def stat(name: str, **where: Any) -> os.stat_result:
        if name == "refused":
            raise injected(errno.EIO)
        return os.stat(name, **where)

    platform = MachinePlatform(dataclasses.replace(REFLINKING, stat=stat))
    directory = platform.open_root(f"{ground}/source")
    choices = Choices(REFERENCE, platform, LinkMode.HARDLINK, (), strict=False)
    maker = Maker(platform, choices, Trail(platform, directory), "", None, None, 1)
    assert maker.inode_of(directory, "f") == os.stat(f"{ground}/source/f").st_ino
    assert maker.inode_of(directory, "missing") == 0
    assert maker.inode_of(directory, "refused") == 0
    platform.close(directory)


class BornTomorrow(MachinePlatform):
    """Where files were made while the clock was ahead."""

    def born(self, directory: int, name: str) -> int | None:
        return 1 << 62


@pytest.mark.parametrize("existing", [{"d/f": File(b"old")}, {}], ids=["replaced", "new"])
def test_a_source_from_the_future_is_taken_back_all_the_same(ground: str, existing: Tree) -> None:
    scene = Scene(ground, {"d/f": File(b"new"), "z": File(b"z")}, existing)

    def link(name: str, new: str, **where: Any) -> None:
        if name == "z":
            raise injected(errno.EIO)
        os.link(name, new, **where)

    def copied(*_: Any) -> int:
        raise injected(errno.ENOSPC)

    calls = dataclasses.replace(REFLINKING, link=link, write=copied)
    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=LinkMode.HARDLINK, platform=BornTomorrow(calls))
    assert caught.value.left == ()
    assert not scene.untouched()
