"""What merging refuses and says, which stage a directory uses, and what errors name."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import stat
from typing import Any

import pytest

from linker import LinkError, LinkMode, LinkReport, Transition, link_tree
from linker.choices import Choices
from linker.conditions import Condition, Primitive
from linker.journal import STAGE
from linker.merging import refuse_conflict
from linker.modes import Existing
from linker.platforms.base import Failed, Kind, Look
from linker.policies import REFERENCE, UV
from linker.policy import Policy, Step
from linker.staging import Stages, stage_path
from linker.tree import Node
from pytest_linkmode.faults.inprocess import injected
from tests.linker import trees, users
from tests.linker.scenes import Scene, Watcher
from tests.linker.seams import (
    REFLINKING,
    RENAME_EXCHANGE,
    WITHOUT_FLAGS,
    WITHOUT_FLAGS_AND_LINKS,
    Calls,
    Fault,
    MachinePlatform,
    Tap,
    descriptors,
)
from tests.linker.trees import Directory, File, Symlink, Tree

# Swaps.


class Asked(MachinePlatform):
    """Notes in which directories it is asked whether names can be swapped."""

    def __init__(self) -> None:
        super().__init__(REFLINKING)
        self.asked: list[str] = []

    def check_swaps(self, directory: int) -> None:
        self.asked.append(os.readlink(f"/proc/self/fd/{directory}"))
        super().check_swaps(directory)


def test_it_is_asked_once_a_stage_whether_names_can_be_swapped(ground: str) -> None:
    scene = Scene(ground, {"a": File(b"a"), "b": File(b"b")}, {"a": File(b"1"), "b": File(b"2")})
    platform = Asked()
    report = link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=platform)
    assert report.replaced == 2
    (stage,) = platform.asked
    assert os.path.basename(stage).startswith(STAGE)


# Conflicts.

THEIRS = {
    Kind.FILE: "file",
    Kind.DIRECTORY: "directory",
    Kind.SYMLINK: "symlink",
    Kind.OTHER: "special file",
}


@pytest.mark.parametrize("ours", [Kind.FILE, Kind.DIRECTORY])
@pytest.mark.parametrize(("theirs", "word"), THEIRS.items())
def test_nothing_may_exist_where_that_was_asked_for(ours: Kind, theirs: Kind, word: str) -> None:
    with pytest.raises(LinkError) as caught:
        refuse_conflict(Existing.FAIL, "d/n", ours, theirs)
    error = caught.value
    assert (error.what, error.path) == ("d/n exists already", "d/n")
    assert error.why == f"the target has a {word} of that name"
    assert error.hint == "link into an empty target, or allow merging (Existing.MERGE)"
    assert error.condition is Condition.EXISTS


@pytest.mark.parametrize("theirs", [Kind.FILE, Kind.SYMLINK, Kind.OTHER])
def test_a_directory_takes_the_place_of_nothing_else(theirs: Kind) -> None:
    with pytest.raises(LinkError) as caught:
        refuse_conflict(Existing.MERGE, "d/n", Kind.DIRECTORY, theirs)
    error, symlink = caught.value, theirs is Kind.SYMLINK
    assert (error.what, error.path) == ("cannot merge the directory d/n", "d/n")
    never = ", which is never followed" if symlink else ""
    assert error.why == f"the target has a {THEIRS[theirs]} of that name{never}"
    assert error.hint == f"remove the {THEIRS[theirs]} from the target"
    assert error.condition is (Condition.IS_SYMLINK if symlink else Condition.NOT_DIRECTORY)


def test_a_file_takes_no_directorys_place() -> None:
    with pytest.raises(LinkError) as caught:
        refuse_conflict(Existing.MERGE, "d/n", Kind.FILE, Kind.DIRECTORY)
    error = caught.value
    assert (error.what, error.path) == ("cannot replace d/n", "d/n")
    assert error.why == "the target has a directory of that name, and the source a file"
    assert error.hint == "remove the directory from the target"
    assert error.condition is Condition.IS_DIRECTORY


def test_of_all_that_can_be_merged_or_replaced_nothing_is_refused() -> None:
    refused = set()
    for ours, theirs in itertools.product((Kind.FILE, Kind.SYMLINK, Kind.DIRECTORY), Kind):
        try:
            refuse_conflict(Existing.MERGE, "n", ours, theirs)
        except LinkError:
            refused.add((ours is Kind.DIRECTORY, theirs))
    no_directory = {kind for kind in Kind if kind is not Kind.DIRECTORY}
    assert refused == {(False, Kind.DIRECTORY), *((True, kind) for kind in no_directory)}


# Stages.


def test_what_is_left_beside_a_directory_is_named_from_the_target() -> None:
    base = Node("", None)
    d = Node("d", base)
    for above in (False, True):
        choices = Choices(REFERENCE, MachinePlatform(), LinkMode.COPY, (), strict=False)
        stages = Stages(MachinePlatform(), choices, base, [], base_is_above=above)
        assert stages.beside(d, ["x", "y"]) == ("d/x", "d/y")
        assert stages.beside(None, ["x"]) == ("../x",)
        assert stages.beside(base, ["x"]) == (("../x",) if above else ("x",))
        assert not stages.company
        assert (stages.all, stages.of) == ([], {})


def test_the_way_from_a_stage_to_a_directory_is_told_by_names(ground: str) -> None:
    base = Node("", None)
    a = Node("a", base)
    b = Node("b", a)
    trees.build(f"{ground}/t", {"a/b": Directory()})
    choices = Choices(REFERENCE, MachinePlatform(), LinkMode.COPY, (), strict=False)
    stages = Stages(MachinePlatform(), choices, base, [], base_is_above=False)
    before = descriptors()
    handles = [os.open(f"{ground}/t/{path}", os.O_RDONLY) for path in ("", "a", "a/b")]
    first = stages.open(handles[0], base)
    assert [stage_path(node, first) for node in (base, a, b)] == [(), ("a",), ("a", "b")]
    assert stages.at(a, handles[1]) is first
    assert stages.at(b, handles[2]) is first
    second = stages.open(handles[1], a)
    assert second is not first
    assert stage_path(b, second) == ("b",)
    del stages.of[b]
    assert stages.at(b, handles[2]) is second, "that of the directory above"
    assert stages.all == [first, second]
    for stage in (first, second):
        stage.remove()
    stages.close()
    assert stages.all == []
    for handle in handles:
        os.close(handle)
    assert descriptors() == before


def test_names_that_fold_into_one_are_refused_by_trying(ground: str) -> None:
    os.mkdir(f"{ground}/t")
    node = Node("d", Node("", None))

    class Folding(MachinePlatform):
        def look(self, directory: int, name: str) -> Any:
            return super().look(directory, name.lower() if name.isalpha() else name)

    choices = Choices(REFERENCE, MachinePlatform(), LinkMode.COPY, (), strict=False)
    handle = os.open(f"{ground}/t", os.O_RDONLY)
    folding = [(node, "readme", "README")]
    plain = Stages(MachinePlatform(), choices, Node("", None), folding, base_is_above=False)
    stage = plain.open(handle, Node("", None))
    assert os.listdir(f"{ground}/t/{stage.name}") == []
    stage.remove()
    plain.close()
    stages = Stages(Folding(), choices, Node("", None), folding, base_is_above=False)
    with pytest.raises(LinkError) as caught:
        stages.open(handle, Node("", None))
    error = caught.value
    assert error.what == "cannot link both d/readme and d/README"
    assert error.why == (
        "the target does not tell upper from lower case, so that one would replace the other"
    )
    assert error.hint == "rename one of them in the source, or link to another filesystem"
    assert (error.path, error.condition) == ("d/README", Condition.EXISTS)
    for each in stages.all:
        assert os.listdir(f"{ground}/t/{each.name}") == []
        each.remove()
    stages.close()
    os.close(handle)


def test_names_that_cannot_be_tried_are_an_error_that_names_the_first(ground: str) -> None:
    os.mkdir(f"{ground}/t")

    def mkdir(name: str, *arguments: Any, **where: Any) -> None:
        if name == "readme":
            raise injected(errno.EIO)
        os.mkdir(name, *arguments, **where)

    platform = MachinePlatform(dataclasses.replace(REFLINKING, mkdir=mkdir))
    choices = Choices(REFERENCE, platform, LinkMode.COPY, (), strict=False)
    folding = [(Node("d", Node("", None)), "readme", "README")]
    handle = os.open(f"{ground}/t", os.O_RDONLY)
    before = descriptors()
    stages = Stages(platform, choices, Node("", None), folding, base_is_above=False)
    with pytest.raises(LinkError) as caught:
        stages.open(handle, Node("", None))
    error = caught.value
    assert error.what == "cannot make the directory d/readme"
    assert error.why == "Input/output error (EIO)"
    assert (error.path, error.condition) == ("d/readme", Condition.IO)
    assert isinstance(error.__cause__, OSError)
    assert error.__cause__.errno == errno.EIO
    for each in stages.all:
        each.remove()
    stages.close()
    assert descriptors() == before
    os.close(handle)


def test_a_stage_in_the_target_finds_who_is_there_and_tells_them(ground: str) -> None:
    os.mkdir(f"{ground}/t")
    base = Node("", None)
    node = Node("t", base)
    handle = os.open(f"{ground}/t", os.O_RDONLY)
    choices = Choices(REFERENCE, MachinePlatform(), LinkMode.HARDLINK, (), strict=False)
    ours, theirs = (
        Stages(MachinePlatform(), choices, base, [], base_is_above=False) for _ in range(2)
    )
    theirs.meet_in_target(node, handle)
    assert not theirs.company
    assert theirs.of[node].node is node
    ours.meet_in_target(node, handle)
    assert ours.company
    assert theirs.of[node].was_marked()
    assert not ours.of[node].was_marked()
    theirs.all[0].remove()
    ours.look_for_company(ours.all[0], handle)
    assert ours.company, "who was there once may have left something"
    ours.meet_in_target(node, handle)
    assert len(ours.all) == 1
    ours.all[0].remove()
    for stages in (ours, theirs):
        stages.close()
    os.close(handle)


@pytest.mark.parametrize("umask", [0o200, 0o777])
def test_names_are_tried_whatever_the_umask(
    ground: str, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    os.mkdir(f"{ground}/t", 0o777)
    os.chmod(f"{ground}/t", 0o777)
    with users.ordinary_user():
        monkeypatch.chdir(f"{ground}/t")
        before, handle = os.umask(umask), os.open(f"{ground}/t", os.O_RDONLY)
        choices = Choices(REFERENCE, MachinePlatform(), LinkMode.COPY, (), strict=False)
        folding = [(Node("d", Node("", None)), "readme", "README")]
        stages = Stages(MachinePlatform(), choices, Node("", None), folding, base_is_above=False)
        try:
            stage = stages.open(handle, Node("", None))
            assert os.listdir(stage.handle) == [], "what was tried is gone"
            assert stage.remove() == []
        finally:
            os.umask(before)
        assert os.listdir(handle) == []
        stages.close()
        os.close(handle)


def test_observers_are_told_that_a_stage_has_no_lock(ground: str) -> None:
    scene = Scene(ground, {"a": File(b"a")}, {})
    watcher = Watcher()

    def flock(handle: int, how: int) -> None:
        raise injected(errno.ENOLCK)

    platform = MachinePlatform(dataclasses.replace(REFLINKING, flock=flock))
    report = link_tree(
        scene.source, scene.target, mode=LinkMode.COPY, platform=platform, observer=watcher
    )
    assert report.counts == {LinkMode.COPY: 1}
    assert watcher.reports == [report]
    (told,) = watcher.transitions
    assert (told.path, told.edge.primitive) == ("the stage", Primitive.LOCK)
    assert told.edge.then is Step.PROCEED


@pytest.mark.parametrize("path", ["", "d"])
def test_a_stage_that_cannot_be_made_is_told_by_its_directory(ground: str, path: str) -> None:
    os.mkdir(f"{ground}/t")
    handle = os.open(f"{ground}/t", os.O_RDONLY)
    base = Node("", None)
    node = Node(path, base) if path else base

    class Refusing(MachinePlatform):
        def lock(self, directory: int) -> bool:
            raise Failed(Primitive.LOCK, injected(errno.EIO))

        def remove_directory(self, directory: int, name: str) -> None:
            raise Failed(Primitive.RMDIR, injected(errno.EIO))

    platform = Refusing()
    choices = Choices(REFERENCE, platform, LinkMode.COPY, (), strict=False)
    stages = Stages(platform, choices, base, [], base_is_above=False)
    with pytest.raises(LinkError) as caught:
        stages.open(handle, node)
    (name,) = os.listdir(f"{ground}/t")
    assert caught.value.path == (path or "the target")
    assert caught.value.what == f"cannot lock the stage for {path or 'the target'}"
    assert caught.value.left == ((f"{path}/{name}",) if path else (name,))
    assert caught.value.primitive is Primitive.LOCK
    assert isinstance(caught.value.__cause__, OSError)
    stages.close()
    os.close(handle)


# What others do to directories while they are merged.


class Vanishing(MachinePlatform):
    """Others remove a directory of the target, so many times, just before it is opened."""

    def __init__(self, scene: Scene, name: str, before: str, times: int) -> None:
        super().__init__(REFLINKING)
        self.path = f"{scene.target}/{name}"
        self.before = before
        self.times = times
        self.seen = 0

    def open_below(self, directory: int, name: str, primitive: Primitive = Primitive.OPEN) -> int:
        if name == self.before and primitive is Primitive.OPEN and os.path.isdir(self.path):
            self.seen += 1
            if 1 < self.seen <= self.times + 1:  # the first look is before anything is merged
                trees.remove(self.path)
        return super().open_below(directory, name, primitive)


@pytest.mark.parametrize(("name", "before"), [("d", "d"), ("d", "sub"), ("d/sub", "sub")])
def test_a_directory_that_others_remove_is_made_again_with_all_that_is_ours(
    ground: str, name: str, before: str
) -> None:
    source: Tree = {"d/f": File(b"f"), "d/sub/g": File(b"g"), "e/h": File(b"h"), "z": File(b"z")}
    scene = Scene(ground, source, {"d/sub": Directory(), "e": Directory()})
    platform = Vanishing(scene, name, before, 1)
    done: list[int] = []
    report = link_tree(
        scene.source,
        scene.target,
        mode=LinkMode.COPY,
        platform=platform,
        progress=lambda count, total: done.append(count),
    )
    assert platform.seen > 1
    there = {path for path, seen in scene.now().items() if seen.kind == "file"}
    assert there == set(source)
    assert report.counts == {LinkMode.COPY: len(source)}
    assert done[-1] == len(source)
    assert not report.leftovers


class Appearing(MachinePlatform):
    """Others make an entry of the target just before ours gets its name from the stage."""

    def __init__(self, path: str, kind: trees.Entry) -> None:
        super().__init__(REFLINKING)
        self.path = path
        self.kind = kind

    @property
    def places_directly(self) -> bool:
        return False

    def place(self, source: int, name: str, target: int, new: str) -> None:
        if new == os.path.basename(self.path) and not os.path.lexists(self.path):
            if isinstance(self.kind, Directory):
                os.mkdir(self.path)
            else:
                with open(self.path, "wb") as writing:
                    writing.write(b"theirs")
        super().place(source, name, target, new)


CAME: list[tuple[str, trees.Entry, Existing, str, Condition]] = [
    ("f", File(), Existing.FAIL, "f exists already", Condition.EXISTS),
    ("f", Directory(), Existing.FAIL, "f exists already", Condition.EXISTS),
    ("new", Directory(), Existing.FAIL, "new exists already", Condition.EXISTS),
    ("d/f", Directory(), Existing.MERGE, "cannot replace d/f", Condition.IS_DIRECTORY),
    (
        "d/new",
        File(),
        Existing.MERGE,
        "cannot merge the directory d/new",
        Condition.NOT_DIRECTORY,
    ),
]


@pytest.mark.parametrize(("path", "kind", "existing", "what", "condition"), CAME)
def test_what_comes_meanwhile_is_refused_as_if_it_had_been_there(
    ground: str, path: str, kind: trees.Entry, existing: Existing, what: str, condition: Condition
) -> None:
    below = "d/" if path.startswith("d/") else ""
    source: Tree = {f"{below}f": File(b"f"), f"{below}new/g": File(b"g")}
    scene = Scene(ground, source, {"d": Directory()} if below else {})
    platform = Appearing(f"{scene.target}/{path}", kind)
    with pytest.raises(LinkError) as caught:
        link_tree(
            scene.source, scene.target, mode=LinkMode.COPY, existing=existing, platform=platform
        )
    assert (caught.value.what, caught.value.path) == (what, path)
    assert caught.value.condition is condition
    assert set(trees.snapshot(scene.target)) == {"", *trees.parents(path), path}
    assert os.path.isdir(f"{scene.target}/{path}") == isinstance(kind, Directory)


def test_observers_are_told_of_a_file_that_came_meanwhile(ground: str) -> None:
    scene = Scene(ground, {"d/f": File(b"f")}, {"d": Directory()})
    seen: list[Transition] = []

    class Observing:
        def transition(self, transition: Transition) -> None:
            seen.append(transition)

        def linked(self, report: LinkReport) -> None:
            assert report.replaced == 1

    link_tree(
        scene.source,
        scene.target,
        mode=LinkMode.COPY,
        platform=Appearing(f"{scene.target}/d/f", File()),
        observer=Observing(),
    )
    assert [(told.path, told.edge.then) for told in seen] == [("d/f", Step.REPLACE)]


def test_a_directory_that_comes_meanwhile_is_merged(ground: str) -> None:
    scene = Scene(ground, {"d/new/g": File(b"g"), "d/new/sub/h": File(b"h")}, {"d": Directory()})
    platform = Appearing(f"{scene.target}/d/new", Directory())
    report = link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=platform)
    assert report.counts == {LinkMode.COPY: 2}
    assert {path for path, seen in scene.now().items() if seen.kind == "file"} == {
        "d/new/g",
        "d/new/sub/h",
    }


@pytest.mark.parametrize("mode", LinkMode)
def test_an_exchange_that_claims_to_have_replaced_something_is_noticed(
    ground: str, mode: LinkMode
) -> None:
    scene = Scene(ground, {"f": File(b"new")}, {"f": File(b"old")})

    def renameat2(source: int, name: str, target: int, new: str, flags: int) -> None:
        if flags != RENAME_EXCHANGE:
            REFLINKING.renameat2(source, name, target, new, flags)

    platform = MachinePlatform(dataclasses.replace(REFLINKING, renameat2=renameat2))
    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=mode, platform=platform)
    assert caught.value.primitive is Primitive.EXCHANGE
    assert caught.value.condition is Condition.NO_EFFECT
    assert caught.value.left == ()
    assert not scene.untouched()


@pytest.mark.parametrize("fails", [False, True])
def test_files_with_too_many_links_are_made_in_another_mode_and_undone(
    ground: str, *, fails: bool
) -> None:
    tree: Tree = {name: File(name.encode()) for name in "abc"}
    scene = Scene(ground, tree, {name: File(b"old") for name in "abc"})

    def renameat2(source: int, name: str, target: int, new: str, flags: int) -> None:
        if flags == RENAME_EXCHANGE and os.stat(name, dir_fd=source).st_nlink > 1:
            raise injected(errno.EIO if fails and new == "c" else errno.EMLINK)
        REFLINKING.renameat2(source, name, target, new, flags)

    platform = MachinePlatform(dataclasses.replace(REFLINKING, renameat2=renameat2))
    if fails:
        with pytest.raises(LinkError) as caught:
            link_tree(scene.source, scene.target, mode=LinkMode.HARDLINK, platform=platform)
        assert caught.value.path == "c"
        assert not caught.value.left
        assert not scene.untouched()
    else:
        report = link_tree(scene.source, scene.target, mode=LinkMode.HARDLINK, platform=platform)
        assert report.counts == {LinkMode.COPY: 3}
        assert report.replaced == 3
        for name in "abc":
            assert scene.now()[name].content == name.encode()


@pytest.mark.parametrize(
    "calls",
    [REFLINKING, WITHOUT_FLAGS, WITHOUT_FLAGS_AND_LINKS],
    ids=["atomic", "links", "neither"],
)
def test_a_directory_that_takes_the_place_of_a_file_meanwhile_is_left_there(
    ground: str, calls: Calls
) -> None:
    scene = Scene(ground, {"a": File(b"new"), "b": File(b"b")}, {"a": File(b"old")})
    turned: list[str] = []

    class Turning(MachinePlatform):
        def _turn(self) -> None:
            if not turned:
                turned.append("a")
                os.unlink(f"{scene.target}/a")
                trees.build(f"{scene.target}/a", {"theirs": File(b"theirs")})

        def exchange(
            self, source: int, name: str, target: int, new: str, ours: int | None = None
        ) -> Look | None:
            if calls is REFLINKING:
                self._turn()
            return super().exchange(source, name, target, new, ours)

        def exchange_emulated(self, source: int, name: str, target: int, new: str) -> None:
            self._turn()
            super().exchange_emulated(source, name, target, new)

    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=Turning(calls))
    assert (caught.value.condition, caught.value.path) == (Condition.IS_DIRECTORY, "a")
    assert caught.value.left == ()
    assert turned
    assert set(scene.now()) == {"", "a", "a/theirs"}


# Directories that are made.


@pytest.mark.parametrize("policy", [REFERENCE, UV], ids=lambda policy: policy.name)
def test_a_new_directory_is_never_more_open_than_its_source(ground: str, policy: Policy) -> None:
    tree: Tree = {"n": Directory(0o750), "n/m": Directory(0o500), "n/m/f": File(b"f")}
    scene = Scene(ground, tree, {})
    made: list[int] = []

    def mkdir(name: str, mode: int = 0o777, **where: Any) -> None:
        if name in ("n", "m", "1", "2", "3"):
            made.append(mode)
        os.mkdir(name, mode, **where)

    platform = MachinePlatform(dataclasses.replace(REFLINKING, mkdir=mkdir))
    link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=platform, policy=policy)
    assert made == [0o750, 0o700]
    assert [scene.now()[path].mode & 0o7777 for path in ("n", "n/m")] == [0o750, 0o500]


@pytest.mark.parametrize("umask", [0o022, 0o200, 0o700, 0o777])
def test_new_directories_keep_an_inherited_group_whatever_the_umask(
    ground: str, umask: int
) -> None:
    os.mkdir(f"{ground}/in", 0o777)
    os.chmod(f"{ground}/in", 0o777)
    with users.ordinary_user():
        tree: Tree = {"d/new/sub/f": File(b"f"), "d/new": Directory(0o755)}
        scene = Scene(f"{ground}/in/scene", tree, {"d": Directory()})
        os.chmod(f"{scene.target}/d", 0o2755)
        before = os.umask(umask)
        try:
            link_tree(scene.source, scene.target, mode=LinkMode.COPY)
        finally:
            os.umask(before)
        for path in ("d/new", "d/new/sub"):
            assert os.stat(f"{scene.target}/{path}").st_mode & 0o7777 == 0o2755


def test_no_permission_bits_are_set_that_are_right_already(ground: str) -> None:
    scene = Scene(ground, {"n/m/f": File(b"f"), "n/g": File(b"g")}, {})
    tap, before = Tap(), os.umask(0o022)
    try:
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=tap.platform)
    finally:
        os.umask(before)
    assert "chmod" not in tap.names


# Directories that cannot be written to.


def test_a_read_only_directory_is_made_writable_wherever_we_are(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkdir(f"{ground}/in", 0o777)
    os.chmod(f"{ground}/in", 0o777)
    with users.ordinary_user():
        monkeypatch.chdir(f"{ground}/in")
        tree: Tree = {"ro": Directory(0o555), "ro/f": File(b"f"), "new": Directory(0o500)}
        scene = Scene(f"{ground}/in/scene", tree, {"ro": Directory(0o555)})
        link_tree(scene.source, scene.target, mode=LinkMode.COPY)
        assert not trees.differences(
            *(
                {path: seen._replace(inode=0) for path, seen in found.items() if "/" in path}
                for found in (scene.wanted, scene.now())
            )
        )
        assert os.stat(f"{scene.target}/ro").st_mode & 0o7777 == 0o555


@users.ROOT_ONLY
@pytest.mark.parametrize("mode", [0o2555, 0o2755])
def test_a_read_only_directory_whose_group_is_anothers_keeps_its_set_group_id_bit(
    ground: str, mode: int
) -> None:
    scene = Scene(f"{ground}/scene", {"ro/f": File(b"f")}, {"ro": Directory(0o755)})
    for path in (scene.target, f"{scene.target}/ro"):
        os.chown(path, users.NOBODY, 0)
    os.chmod(f"{scene.target}/ro", mode)
    with users.ordinary_user():
        if mode & 0o200:  # nothing has to be changed for it
            link_tree(scene.source, scene.target, mode=LinkMode.COPY)
        else:
            with pytest.raises(LinkError, match="lose its set-group-id bit") as told:
                link_tree(scene.source, scene.target, mode=LinkMode.COPY)
            assert told.value.what == "cannot set permission bits and times of ro"
            assert told.value.hint
    assert stat.S_IMODE(os.stat(f"{scene.target}/ro").st_mode) == mode
    assert os.listdir(f"{scene.target}/ro") == (["f"] if mode & 0o200 else [])
    assert os.listdir(scene.target) == ["ro"]


class Noting(MachinePlatform):
    """Keeps what is written into notes."""

    def __init__(self) -> None:
        super().__init__(REFLINKING)
        self.notes: list[dict[str, Any]] = []

    def write_record(self, directory: int, name: str, data: bytes) -> None:
        if name.startswith("p"):
            self.notes.append(json.loads(data))
        super().write_record(directory, name, data)


def test_a_note_says_what_the_next_run_has_to_give_back(ground: str) -> None:
    tree: Tree = {"d/ro": Directory(0o550), "d/ro/f": File(b"f"), "d/plain/g": File(b"g")}
    scene = Scene(ground, tree, {"d": Directory()})
    platform = Noting()
    link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=platform)
    (note,) = platform.notes  # of the one that may not be written to, and of no other
    assert note == {
        "path": ["d", "ro"],
        "inode": os.stat(f"{scene.target}/d/ro").st_ino,
        "temporary": 0o750,
        "final": 0o550,
    }


def test_a_read_only_directory_is_opened_to_its_owner_alone_and_noted(ground: str) -> None:
    os.mkdir(f"{ground}/in", 0o777)
    os.chmod(f"{ground}/in", 0o777)
    with users.ordinary_user():
        scene = Scene(f"{ground}/in/scene", {"ro/f": File(b"f")}, {"ro": Directory(0o550)})
        seen: set[int] = set()

        class Looking(Noting):
            def copy_directly(self, *arguments: Any) -> int:
                seen.add(os.stat(f"{scene.target}/ro").st_mode & 0o7777)
                return super().copy_directly(*arguments)

        platform = Looking()
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=platform)
        inode = os.stat(f"{scene.target}/ro").st_ino
        assert platform.notes == [
            {"path": ["ro"], "inode": inode, "temporary": 0o750, "final": 0o550}
        ]
        assert seen == {0o750}
        assert os.stat(f"{scene.target}/ro").st_mode & 0o7777 == 0o550


@pytest.mark.parametrize("mode", [LinkMode.HARDLINK, LinkMode.COPY])
def test_only_hard_links_need_a_stage_in_a_target_that_is_read_only(
    ground: str, mode: LinkMode
) -> None:
    """The stage lies beside it; but who came when it could be written to looks inside."""
    os.mkdir(f"{ground}/in", 0o777)
    os.chmod(f"{ground}/in", 0o777)
    with users.ordinary_user():
        scene = Scene(f"{ground}/in/scene", {"f": File(b"f")}, {"": Directory(0o555)})
        inside: set[str] = set()

        def deed(number: int, name: str) -> None:
            inside.update(each for each in os.listdir(scene.target) if each.startswith(STAGE))

        def rmdir(name: str, **where: Any) -> None:
            if name.startswith(STAGE):
                raise injected(errno.EIO)
            os.rmdir(name, **where)

        base = dataclasses.replace(REFLINKING, rmdir=rmdir)
        report = link_tree(scene.source, scene.target, mode=mode, platform=Tap(deed, base).platform)
        beside = {f"../{name}" for name in scene.beside()}
        assert len(beside) == 1
        assert set(report.leftovers) == beside | inside
        assert len(inside) == (1 if mode is LinkMode.HARDLINK else 0)


# Errors of whole links.

SOURCE: Tree = {
    "a": File(b"a", mode=0o600),
    "ln": Symlink("a"),
    "d/f": File(b"f"),
    "d/new/g": File(b"g"),
    "new": Directory(0o555),
    "new/h": File(b"h"),
}
EXISTING: Tree = {"a": File(b"old"), "d/f": File(b"old"), "d/kept": File(b"kept")}

LINKS = [
    (LinkMode.CLONE, EXISTING),
    (LinkMode.HARDLINK, EXISTING),
    (LinkMode.COPY, None),
]


@pytest.mark.parametrize(("mode", "existing"), LINKS, ids=["clone", "hardlink", "copy-new"])
def test_an_error_names_what_it_met_whichever_call_fails(
    ground: str, mode: LinkMode, existing: Tree | None
) -> None:
    scene = Scene(ground, SOURCE, existing)
    dry = Tap()
    link_tree(scene.source, scene.target, mode=mode, platform=dry.platform)
    places = {scene.source, scene.target, ground, "the target", "the source", "the stage", "target"}
    places |= {path for path in scene.wanted if path}
    before, told = descriptors(), 0
    for at in range(1, dry.count + 1):
        scene.rebuild()
        fault = Fault(at, errno.EIO)
        error = error_of(scene, mode, Tap(fault).platform)
        assert descriptors() == before, fault.hit
        if error is None:
            continue
        told += 1
        where = f"{fault.hit}, call {at}: {error}"
        assert error.path in places, where
        assert error.primitive is not None, where
        if fault.hit != "access":  # which has no errors: it lied
            assert error.condition is Condition.IO, where
            assert error.why == "Input/output error (EIO)", where
        assert error.what.startswith("cannot "), where
        assert isinstance(error.__cause__, OSError), where
        assert not error.left, where
        assert not scene.untouched(), where
    assert told > 20


def error_of(scene: Scene, mode: LinkMode, platform: MachinePlatform) -> LinkError | None:
    """Link; return what was raised, None where the link found a way round."""
    try:
        link_tree(scene.source, scene.target, mode=mode, platform=platform)
    except LinkError as error:
        return error
    return None


def test_what_a_link_says_when_all_is_done(ground: str) -> None:
    deep: Tree = {
        "d/new/ln": Symlink("g"),
        "d/new/deeper/i": File(b"i"),
        "d/new/deeper/ln": Symlink("i"),
    }
    scene = Scene(ground, {**SOURCE, **deep}, EXISTING)
    seen: list[tuple[int, int]] = []
    report = link_tree(
        scene.source,
        scene.target,
        mode=LinkMode.COPY,
        platform=MachinePlatform(REFLINKING),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert report.requested is LinkMode.COPY
    assert report.counts == {LinkMode.COPY: 5}
    assert (report.directories, report.symlinks, report.replaced) == (3, 3, 2)
    assert (report.policy, report.transitions, report.leftovers) == ("reference", (), ())
    assert seen[-1] == (5, 5)
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {5}
