"""What a link meets once in a month, made at will: refusals on the way back up, names in use,
directories that others make first or shut, and a target that never stays.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from linker import LinkError, LinkMode, LinkReport, link_tree, scanning
from linker.conditions import Condition, Primitive
from linker.engine import link_source
from linker.journal import STAGE
from linker.merging import PATIENCE
from linker.modes import Existing
from linker.platforms.base import ASIDE, Failed
from linker.platforms.linux import CALLS, RENAME_EXCHANGE, RENAME_NOREPLACE, LinuxPlatform
from linker.policies import REFERENCE, UV
from linker.policy import Edge, Memory, Policy, Step
from linker.sharing import Team
from linker.sources import DirectorySource
from pytest_linkmode.faults.inprocess import injected
from pytest_linkmode.models import clonefile
from tests.linker import trees, users
from tests.linker.crews import SMALL, Crew
from tests.linker.scenes import Scene
from tests.linker.seams import REFLINKING, descriptors
from tests.linker.trees import Directory, File, Tree


def with_calls(**calls: Any) -> LinuxPlatform:
    return LinuxPlatform(dataclasses.replace(REFLINKING, **calls))


def failing(scene: Scene, platform: Any, **options: Any) -> LinkError:
    """Link; return what is raised, with no handle kept and nothing of ours left."""
    before = descriptors()
    with pytest.raises(LinkError) as caught:
        link_tree(
            scene.source, scene.target, **{"mode": LinkMode.COPY, **options}, platform=platform
        )
    assert descriptors() == before
    assert not [name for name in os.listdir(scene.root) if name.startswith(STAGE)]
    return caught.value


def place_of(directory: int) -> str:
    return os.readlink(f"/proc/self/fd/{directory}")


# Ways.


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_way_back_up_that_is_shut_is_told_by_where_it_was_to_lead(ground: str, side: str) -> None:
    """Deep directories that were closed on the way down are opened again by their ".."."""
    deep = "/".join(["d"] * 60)
    tree: Tree = {f"{deep}/f": File(b"f"), "z/g": File(b"g")}
    scene = Scene(ground, tree, {deep: Directory(), "z": Directory()})
    root = getattr(scene, side)

    def opening(name: str, *arguments: Any, **where: Any) -> int:
        written = os.path.exists(f"{scene.target}/{deep}/f")
        if written and name == ".." and place_of(where["dir_fd"]).startswith(root):
            raise injected(errno.EIO)
        return os.open(name, *arguments, **where)

    error = failing(scene, with_calls(open=opening))
    assert error.path == "z"
    assert error.why == "Input/output error (EIO)"
    assert error.what == {"source": "cannot read z", "target": "cannot open z"}[side]
    assert isinstance(error.__cause__, OSError)
    assert not error.left
    assert not scene.untouched()


def test_a_directory_with_nothing_to_put_into_it_is_looked_at_and_told(ground: str) -> None:
    scene = Scene(ground, {"d/e": Directory()}, {"d/e": Directory()})

    def stat(name: str, **options: Any) -> os.stat_result:
        if name == "e":
            raise injected(errno.EIO)
        return os.stat(name, **options)

    error = failing(scene, with_calls(stat=stat))
    assert (error.path, error.condition, error.primitive) == (
        "d/e",
        Condition.IO,
        Primitive.OPEN,
    )
    assert error.what == "cannot open d/e"
    assert isinstance(error.__cause__, OSError)
    assert not scene.untouched()


# Permission bits that are owed.


def test_a_read_only_directory_that_another_made_first_is_merged_and_owes_nothing(
    ground: str,
) -> None:
    scene = Scene(ground, {"d/ro": Directory(0o555), "d/ro/f": File(b"f")}, {"d": Directory()})
    notes: list[str] = []

    def renameat2(source: int, name: str, target: int, new: str, flags: int) -> None:
        if new == "ro":
            os.mkdir(f"{scene.target}/d/ro", 0o750)
        REFLINKING.renameat2(source, name, target, new, flags)

    def rmdir(name: str, **where: Any) -> None:
        if name.isdigit():  # what was made in the stage and is needed no more
            notes.extend(each for each in os.listdir(where["dir_fd"]) if each.startswith("p"))
        os.rmdir(name, **where)

    report = link_tree(
        scene.source,
        scene.target,
        mode=LinkMode.COPY,
        platform=with_calls(renameat2=renameat2, rmdir=rmdir),
    )
    assert report.leftovers == ()
    assert trees.snapshot(scene.target)["d/ro/f"].content == b"f"
    assert os.stat(f"{scene.target}/d/ro").st_mode & 0o7777 == 0o750, "theirs"
    assert notes == []


@pytest.fixture
def shut(ground: str) -> Scene:
    """An ordinary user's target with a read-only directory."""
    os.mkdir(f"{ground}/in", 0o777)
    os.chmod(f"{ground}/in", 0o777)
    with users.ordinary_user():
        tree: Tree = {"ro/f": File(b"f"), "z/g": File(b"g")}
        return Scene(f"{ground}/in/scene", tree, {"ro": Directory(0o555), "z": Directory()})


def test_a_read_only_directory_that_stays_so_is_named(shut: Scene) -> None:
    """As another user's does, or one on a read-only mount."""

    def chmod(path: Any, mode: int, **options: Any) -> None:
        if isinstance(path, int) and place_of(path) == f"{shut.target}/ro":
            raise injected(errno.EPERM)
        os.chmod(path, mode, **options)

    with users.ordinary_user():
        error = failing(shut, with_calls(chmod=chmod))
    assert (error.path, error.condition) == ("ro", Condition.DENIED)
    assert error.primitive is Primitive.STAMP
    assert not error.left, "nothing is owed to it"
    assert not shut.untouched()


class Unopened:
    """A directory that cannot be opened when all is linked, for so many tries."""

    def __init__(self, name: str, error: int, refusals: int) -> None:
        self._name = name
        self._error = error
        self.refusals = refusals
        self._ended = False

    def _open(self, name: str, *arguments: Any, **where: Any) -> int:
        if self._ended and name == self._name and self.refusals:
            self.refusals -= 1
            raise injected(self._error)
        return os.open(name, *arguments, **where)

    def _progress(self, done: int, total: int) -> None:
        self._ended = done == total

    def link(self, scene: Scene) -> LinkReport:
        """Link as an ordinary user."""
        with users.ordinary_user():
            return link_tree(
                scene.source,
                scene.target,
                mode=LinkMode.COPY,
                platform=with_calls(open=self._open),
                progress=self._progress,
            )


@pytest.mark.parametrize("refusals", [1, 2])
def test_permission_bits_that_cannot_be_given_back_at_the_end_are_told(
    shut: Scene, refusals: int
) -> None:
    """The directory cannot be opened: it is tried twice."""
    at_the_end = Unopened("ro", errno.EIO, refusals)
    report = at_the_end.link(shut)
    assert at_the_end.refusals == 0
    (stage, *_) = [*(name for name in os.listdir(shut.target) if name.startswith(STAGE)), ""]
    bits = os.stat(f"{shut.target}/ro").st_mode & 0o7777
    if refusals == 1:
        assert (report.leftovers, stage, bits) == ((), "", 0o555)
        return
    assert (set(report.leftovers), bits) == ({"ro", stage}, 0o755)
    with users.ordinary_user():
        link_tree(shut.source, shut.target, mode=LinkMode.COPY)
    assert os.stat(f"{shut.target}/ro").st_mode & 0o7777 == 0o555
    assert stage not in os.listdir(shut.target)


def test_a_read_only_directory_that_is_not_there_for_a_moment_gets_its_bits_back(
    shut: Scene,
) -> None:
    """Another program puts it aside and back, as `mv` does."""
    at_the_end = Unopened("ro", errno.ENOENT, 1)
    report = at_the_end.link(shut)
    assert at_the_end.refusals == 0
    assert report.leftovers == ()
    assert os.stat(f"{shut.target}/ro").st_mode & 0o7777 == 0o555


# Names that others have.


def waiting() -> Policy:
    """The reference policy, on Linux waiting for names in use as on Windows."""
    kept = [
        edge
        for edge in REFERENCE.edges
        if (edge.platform, edge.condition) != ("linux", Condition.BUSY)
    ]
    asks = (Primitive.RENAME, Primitive.EXCHANGE)
    waits = [Edge("linux", None, each, Condition.BUSY, Step.RETRY) for each in asks]
    return dataclasses.replace(REFERENCE, name="waiting", edges=(*kept, *waits))


class InUse:
    """A name that somebody has open, for so many tries."""

    def __init__(self, tries: int) -> None:
        self.tries = tries
        self.slept: list[float] = []

    def renameat2(self, source: int, name: str, target: int, new: str, flags: int) -> None:
        if new == "f" and self.tries:
            self.tries -= 1
            raise injected(errno.EBUSY)
        REFLINKING.renameat2(source, name, target, new, flags)


def test_a_name_that_somebody_has_open_is_waited_for(ground: str) -> None:
    scene = Scene(ground, {"d/f": File(b"new")}, {"d/f": File(b"old")})
    use = InUse(16)
    report = link_tree(
        scene.source,
        scene.target,
        mode=LinkMode.COPY,
        policy=waiting(),
        platform=with_calls(renameat2=use.renameat2, sleep=use.slept.append),
    )
    assert report.replaced == 1
    assert len(use.slept) == 16
    assert use.slept == sorted(use.slept)
    assert use.slept[-1] > use.slept[0], "ever longer"


def test_a_name_that_stays_open_is_an_error_that_names_it(ground: str) -> None:
    scene = Scene(ground, {"d/f": File(b"new")}, {"d/f": File(b"old")})
    use = InUse(100)
    platform = with_calls(renameat2=use.renameat2, sleep=use.slept.append)
    error = failing(scene, platform, policy=waiting())
    assert (error.path, error.condition) == ("d/f", Condition.BUSY)
    assert error.what == "cannot give its name to d/f"
    assert (
        error.hint
        == "another program has it open or something is mounted on it; end that and retry"
    )
    assert isinstance(error.__cause__, OSError)
    assert len(use.slept) == 16
    assert use.tries == 100 - 17
    assert not scene.untouched()


def test_a_copy_for_a_file_with_too_many_links_that_fails_is_named(ground: str) -> None:
    scene = Scene(ground, {"d/f": File(b"new")}, {"d/f": File(b"old")})

    def renameat2(source: int, name: str, target: int, new: str, flags: int) -> None:
        if flags == RENAME_EXCHANGE and new == "f":
            raise injected(errno.EMLINK)
        REFLINKING.renameat2(source, name, target, new, flags)

    def write(handle: int, data: Any) -> int:
        raise injected(errno.ENOSPC)

    platform = with_calls(renameat2=renameat2, write=write)
    error = failing(scene, platform, mode=LinkMode.HARDLINK)
    assert (error.path, error.condition) == ("d/f", Condition.NO_SPACE)
    assert error.primitive is Primitive.COPY
    assert error.what == "cannot copy d/f"
    assert isinstance(error.__cause__, OSError)
    assert not scene.untouched()


class ComingAndGoing:
    """A name that is taken whenever it is asked for, and free whenever it is looked at."""

    def __init__(self, name: str, times: int) -> None:
        self.name = name
        self.times = times

    def renameat2(self, source: int, name: str, target: int, new: str, flags: int) -> None:
        if new == self.name and self.times:
            self.times -= 1
            assert flags == RENAME_NOREPLACE, "nothing of theirs is replaced"
            raise injected(errno.EEXIST)
        REFLINKING.renameat2(source, name, target, new, flags)

    def link(self, name: str, new: str, **where: Any) -> None:
        if new == self.name:
            raise injected(errno.EEXIST)
        os.link(name, new, **where)


@pytest.mark.parametrize("name", ["f", "new"])
def test_where_nothing_may_exist_a_name_that_came_and_went_is_no_conflict(
    ground: str, name: str
) -> None:
    scene = Scene(ground, {"f": File(b"f"), "new/g": File(b"g")}, {})
    coming = ComingAndGoing(name, 3)
    report = link_tree(
        scene.source,
        scene.target,
        mode=LinkMode.COPY,
        existing=Existing.FAIL,
        platform=with_calls(renameat2=coming.renameat2, link=coming.link),
    )
    assert coming.times == 0
    assert report.replaced == 0
    assert set(trees.snapshot(scene.target)) == {"", "f", "new", "new/g"}


def test_where_nothing_may_exist_a_name_that_never_rests_is_an_error(ground: str) -> None:
    scene = Scene(ground, {"f": File(b"f")}, {})
    coming = ComingAndGoing("f", 1000)
    error = failing(
        scene,
        with_calls(renameat2=coming.renameat2, link=coming.link),
        existing=Existing.FAIL,
    )
    assert error.what == "f changes again and again"
    assert error.why == (
        "another program creates and removes it while it is linked, "
        "or the filesystem takes no such name"
    )
    assert (error.path, error.condition) == ("f", Condition.BUSY)
    assert 1000 - coming.times >= 10
    assert not scene.untouched()


# Policies that fill directories where they are.

IN_PLACE = dataclasses.replace(UV, name="in place", waives=frozenset())
"""What uv does, with the times of directories."""


def test_a_directory_that_cannot_be_made_to_be_filled_is_named(ground: str) -> None:
    scene = Scene(ground, {"d/new/f": File(b"f")}, {"d": Directory()})

    def mkdir(name: str, *arguments: Any, **where: Any) -> None:
        if name.isdigit():
            raise injected(errno.ENOSPC)
        os.mkdir(name, *arguments, **where)

    error = failing(scene, with_calls(mkdir=mkdir), policy=IN_PLACE)
    assert error.what == "cannot make the directory d/new"
    assert (error.path, error.condition) == ("d/new", Condition.NO_SPACE)
    assert isinstance(error.__cause__, OSError)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ("open", "cannot open new"),
        ("utime", "cannot set permission bits and times of new"),
    ],
)
def test_a_directory_that_cannot_get_its_times_when_it_is_full_is_named(
    ground: str, call: str, what: str
) -> None:
    scene = Scene(ground, {"new/f": File(b"f")}, {})
    ended = False

    def refused(path: Any, *arguments: Any, **where: Any) -> Any:
        if ended and (path == "new" or isinstance(path, int)):
            raise injected(errno.EIO)
        return getattr(os, call)(path, *arguments, **where)

    def end(done: int, total: int) -> None:
        nonlocal ended
        ended = done == total

    error = failing(scene, with_calls(**{call: refused}), policy=IN_PLACE, progress=end)
    assert (error.what, error.path) == (what, "new")
    assert error.condition is Condition.IO
    assert isinstance(error.__cause__, OSError)


# The target itself.


def test_directories_above_a_target_that_others_make_first_are_theirs(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(f"{ground}/scene", {"f": File(b"f")}, None)
    mkdir = os.mkdir

    def second(path: Any, *arguments: Any, **where: Any) -> None:
        if path == f"{ground}/a/b":
            mkdir(path)  # another linker, at the same time
        mkdir(path, *arguments, **where)

    monkeypatch.setattr(os, "mkdir", second)
    target = f"{ground}/a/b/c/target"
    platform = with_calls(write=refuse(errno.EIO), mkdir=mkdir)
    with pytest.raises(LinkError):
        link_tree(scene.source, target, mode=LinkMode.COPY, platform=platform)
    assert os.listdir(f"{ground}/a") == ["b"]
    assert os.listdir(f"{ground}/a/b") == [], "ours are gone again"
    os.rmdir(f"{ground}/a/b")
    link_tree(scene.source, target, mode=LinkMode.COPY)
    assert trees.snapshot(target)["f"].content == b"f"


def refuse(number: int) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        raise injected(number)

    return call


class Leaving(LinuxPlatform):
    """Others make the target before each try, and take it away when we have opened it."""

    def __init__(self, scene: Scene, times: int) -> None:
        super().__init__(REFLINKING)
        self.scene = scene
        self.times = times

    def open_root(self, path: str) -> int:
        if path == self.scene.source:
            os.makedirs(self.scene.target, exist_ok=True)
        handle = super().open_root(path)
        if path == self.scene.target and self.times:
            self.times -= 1
            os.rmdir(path)
        return handle


def test_a_target_that_stays_at_the_last_try_is_linked_to(ground: str) -> None:
    scene = Scene(ground, {"f": File(b"f")}, {})
    platform = Leaving(scene, PATIENCE)
    report = link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=platform)
    assert platform.times == 0
    assert report.counts == {LinkMode.COPY: 1}
    assert trees.snapshot(scene.target)["f"].content == b"f"


def test_a_target_that_never_stays_is_an_error(ground: str) -> None:
    scene = Scene(ground, {"f": File(b"f")}, {})
    platform = Leaving(scene, 10 * PATIENCE)
    error = failing(scene, platform)
    assert error.condition is Condition.MISSING
    assert platform.times == 9 * PATIENCE - 1
    assert not os.path.exists(scene.target)


def test_nothing_is_linked_into_a_target_that_is_there(ground: str) -> None:
    scene = Scene(ground, {}, {"mine": File(b"mine")})
    report = link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    assert (report.counts, report.directories) == ({}, 0)
    assert not scene.untouched()


# The way back.


class Born(LinuxPlatform):
    """Tells when an entry was made, as where inode numbers are given again: long ago."""

    def born(self, directory: int, name: str) -> int | None:
        return 1


@pytest.mark.parametrize(
    "existing",
    [{"d": Directory()}, {"d/f": File(b"old")}, {}],
    ids=["new files", "other files", "new directories"],
)
@pytest.mark.parametrize("retried", [False, True])
def test_where_birth_is_known_what_was_linked_is_taken_back(
    ground: str, existing: Tree, *, retried: bool
) -> None:
    scene = Scene(ground, {"d/f": File(b"new"), "z": File(b"z")}, existing)
    tried = 0

    def write(handle: int, data: Any) -> int:
        nonlocal tried
        tried += 1
        if retried and tried == 1:
            raise injected(errno.EINTR)
        return os.write(handle, data)

    def end(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    platform = Born(dataclasses.replace(REFLINKING, write=write))
    with pytest.raises(KeyboardInterrupt):
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=platform, progress=end)
    assert tried
    assert not scene.untouched()


def test_a_policy_that_undoes_nothing_leaves_what_it_linked(ground: str) -> None:
    scene = Scene(ground, {"a": File(b"a"), "d/b": File(b"b")}, {"d": Directory()})

    def end(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        link_tree(
            scene.source,
            scene.target,
            mode=LinkMode.COPY,
            policy=UV,
            platform=with_calls(),
            progress=end,
        )
    assert trees.snapshot(scene.target).keys() == {"", "a", "d", "d/b"}


def test_what_was_cloned_at_the_second_try_counts_when_clones_are_given_up(ground: str) -> None:
    tree: Tree = {f"d/{name}": File(b"x") for name in "abcdef"}
    scene = Scene(ground, tree, {"d": Directory()})
    tries = 0

    class Tiring(LinuxPlatform):
        def clone_directly(self, *given: Any) -> int:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise Failed(Primitive.CLONE_FILE, injected(errno.EINTR))
            if tries > 3:
                raise Failed(Primitive.CLONE_FILE, injected(errno.EOPNOTSUPP))
            return self.copy_directly(*given)

    report = link_tree(
        scene.source,
        scene.target,
        mode=LinkMode.CLONE,
        policy=dataclasses.replace(REFERENCE, name="tiring", memory=Memory.TREE),
        platform=Tiring(),
    )
    assert report.counts == {LinkMode.CLONE: 2, LinkMode.COPY: 4}
    assert tries == 5, "two files are believed"


# Who forks.


def test_a_platform_that_says_nothing_of_forking_makes_everything_itself(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree: Tree = {f"d{number % 30}/{number}": File(b"x") for number in range(500)}
    trees.build(f"{ground}/source", tree)
    forked: list[int] = []

    def fork() -> int:
        forked.append(os.getpid())
        raise injected(errno.EAGAIN)

    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr(scanning, "WAITING", 20)

    class Plain(LinuxPlatform):
        @property
        def may_fork(self) -> bool:
            raise AttributeError("may_fork")

    report = link_tree(
        f"{ground}/source",
        f"{ground}/target",
        mode=LinkMode.COPY,
        processes=2,
        platform=Plain(CALLS),
    )
    assert report.counts == {LinkMode.COPY: 500}
    assert not forked


# Helpers.


@pytest.fixture
def flat(ground: str) -> Scene:
    """More files than one process would make alone, all in one new directory."""
    tree: Tree = {f"only/{number}": File(b"%d" % number) for number in range(SMALL + 1)}
    return Scene(ground, tree, None)


@pytest.mark.parametrize("mutable", [(), ("*",)])
def test_one_large_directory_is_one_ticket_and_made_all_the_same(
    flat: Scene, crew: Crew, mutable: tuple[str, ...]
) -> None:
    report = link_tree(
        flat.source, flat.target, mode=LinkMode.HARDLINK, mutable=mutable, processes=2
    )
    ended = LinkMode.COPY if mutable else LinkMode.HARDLINK
    assert report.counts == {ended: SMALL + 1}
    assert trees.content(trees.snapshot(flat.target)) == trees.content(flat.wanted)


def test_a_large_tree_of_which_nothing_shows_whether_the_mode_works_is_made_alone(
    ground: str, crew: Crew
) -> None:
    """Of files that are all to be copied nobody learns whether this pair can be cloned."""
    tree: Tree = {f"d{number % 9}/{number}": File(b"%d" % number) for number in range(2 * SMALL)}
    scene = Scene(ground, tree, None)
    report = link_tree(
        scene.source, scene.target, mode=LinkMode.HARDLINK, mutable=["*"], processes=2
    )
    assert report.counts == {LinkMode.COPY: 2 * SMALL}
    assert trees.content(trees.snapshot(scene.target)) == trees.content(scene.wanted)
    assert not crew.pids


def test_a_helper_that_is_late_is_waited_for(ground: str, crew: Crew) -> None:
    tree: Tree = {
        f"d{number % 9}/{number}": File(b"%d" % number, mode=0o640) for number in range(2 * SMALL)
    }
    scene = Scene(ground, tree, {f"d{number}": Directory() for number in range(9)})
    crew.patient = False
    crew.deed = lambda number: time.sleep(0.1)
    report = link_tree(scene.source, scene.target, mode=LinkMode.COPY, processes=2)
    assert len(crew.pids) == 1
    assert report.counts == {LinkMode.COPY: 2 * SMALL}
    assert report.leftovers == ()
    found, wanted = trees.content(trees.snapshot(scene.target)), trees.content(scene.wanted)
    assert {path: found[path] for path in tree} == {path: wanted[path] for path in tree}


@pytest.mark.parametrize("gone", ["d0", "only"])
def test_a_source_directory_that_vanishes_while_helpers_work_is_named(
    ground: str, crew: Crew, gone: str
) -> None:
    tree: Tree = {
        **{f"d{number % 9}/{number}": File(b"x") for number in range(2 * SMALL)},
        **{f"only/{number}": File(b"x") for number in range(SMALL + 1)},
    }
    scene = Scene(ground, tree, None)

    def vanish(done: int, total: int) -> None:
        if os.path.isdir(f"{scene.source}/{gone}"):
            os.rename(f"{scene.source}/{gone}", f"{ground}/gone")

    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, processes=2, progress=vanish)
    assert caught.value.path.partition("/")[0] == gone
    assert caught.value.condition is Condition.MISSING
    assert not os.path.lexists(scene.target)
    assert not [name for name in os.listdir(ground) if name.startswith(STAGE)]


def test_a_source_that_is_linked_to_by_one_process_unless_it_is_said(
    ground: str, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "WAITING", 5)
    tree: Tree = {f"d{number % 9}/{number}": File(b"%d" % number) for number in range(2 * SMALL)}
    scene = Scene(ground, tree, None)
    link_source(DirectorySource(scene.source), scene.target, mode=LinkMode.COPY)
    assert not crew.pids
    scene.rebuild()
    link_source(DirectorySource(scene.source), scene.target, mode=LinkMode.COPY, processes=2)
    assert len(crew.pids) == 1


def test_a_source_directory_that_vanishes_before_it_is_cloned_whole_is_named(ground: str) -> None:
    """By a policy that fills directories where they are, on macOS."""
    scene = Scene(ground, {"ns/a": File(b"a"), "ns/b": File(b"b")}, {})
    opened = 0

    def opening(name: str, *arguments: Any, **where: Any) -> int:
        nonlocal opened
        opened += name == "ns"
        if name == "ns" and opened > 1:  # the first time it was scanned
            raise injected(errno.ENOENT)
        return os.open(name, *arguments, **where)

    platform = clonefile.platform(
        scene.root,
        atomic=True,
        quirks=frozenset(),
        host=dataclasses.replace(REFLINKING, open=opening),
        wrap=None,
    )
    error = failing(scene, platform, mode=LinkMode.CLONE, policy=UV)
    assert opened == 2
    assert (error.what, error.path) == ("cannot read ns", "ns")
    assert error.condition is Condition.MISSING
    assert isinstance(error.__cause__, OSError)
    assert os.listdir(scene.target) == []


def test_a_helper_that_dies_in_the_midst_of_a_large_directory_is_made_up_for(
    ground: str, crew: Crew
) -> None:
    tree: Tree = {f"{d}/{number}": File(b"x") for d in "abc" for number in range(SMALL + 1)}
    scene = Scene(ground, tree, None)

    class Dying(LinuxPlatform):
        made = 0

        def copy_file(self, *given: Any) -> int:
            self.made += crew.helping
            if self.made == 6:
                os._exit(0)
            return super().copy_file(*given)

    report = link_tree(
        scene.source, scene.target, mode=LinkMode.COPY, processes=2, platform=Dying()
    )
    assert len(crew.pids) == 1
    assert report.counts == {LinkMode.COPY: len(tree)}
    assert trees.content(trees.snapshot(scene.target)) == trees.content(scene.wanted)


def test_a_large_directory_that_cannot_be_made_is_named(flat: Scene, crew: Crew) -> None:
    class Refusing(LinuxPlatform):
        def make_directory(self, parent: int, name: str, mode: int = 0o700) -> int:
            if name == "only":
                raise Failed(Primitive.MKDIR, injected(errno.EIO))
            return super().make_directory(parent, name, mode)

    with pytest.raises(LinkError) as caught:
        link_tree(flat.source, flat.target, mode=LinkMode.COPY, processes=2, platform=Refusing())
    assert (caught.value.what, caught.value.path) == ("cannot make the directory only", "only")
    assert caught.value.condition is Condition.IO
    assert isinstance(caught.value.__cause__, OSError)
    assert not os.path.lexists(flat.target)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (Primitive.MKDIR, "cannot make the directory only"),
        (Primitive.STAMP, "cannot set permission bits and times of only"),
    ],
)
def test_a_large_directory_of_which_the_stage_takes_no_more_is_named(
    ground: str, crew: Crew, call: Primitive, what: str
) -> None:
    """Whoever divides it makes it first of all, and gives it its times last."""
    tree: Tree = {f"only/in{number % 9}/{number}": File(b"x") for number in range(2 * SMALL)}
    scene = Scene(ground, tree, {})

    class Refusing(LinuxPlatform):
        def make_directory(self, parent: int, name: str, mode: int = 0o700) -> int:
            if call is Primitive.MKDIR and name.isdigit():
                raise Failed(call, injected(errno.ENOSPC))
            return super().make_directory(parent, name, mode)

        def stamp_directory(self, directory: int, seen: int, node: Any) -> None:
            if call is Primitive.STAMP and node.name == "only":
                raise Failed(call, injected(errno.ENOSPC))
            super().stamp_directory(directory, seen, node)

    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, processes=2, platform=Refusing())
    assert (caught.value.what, caught.value.path) == (what, "only")
    assert len(crew.pids) == (call is Primitive.STAMP)
    assert not scene.untouched()


def test_mutable_files_beside_clones_are_copied_into_what_is_there(ground: str) -> None:
    tree: Tree = {f"d/{name}": File(name.encode()) for name in ("RECORD", "a", "b", "c")}
    scene = Scene(ground, tree, {"d": Directory()})
    written: set[bytes] = set()

    def write(handle: int, data: Any) -> int:
        written.add(bytes(data))
        return os.write(handle, data)

    report = link_tree(
        scene.source,
        scene.target,
        mode=LinkMode.CLONE,
        mutable=["RECORD"],
        platform=with_calls(write=write),
    )
    assert report.counts == {LinkMode.CLONE: 3, LinkMode.COPY: 1}
    assert written == {b"RECORD"}
    assert report.transitions == ()


def test_a_helper_with_the_very_last_directory_is_waited_for(
    ground: str, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {f"d/{number}": File(b"%d" % number) for number in range(SMALL)}
    tree: Tree = {"d/last": File(b"x"), "first": File(b"x"), **many}
    scene = Scene(ground, tree, {"d": Directory()})
    crew.patient = False
    crew.deed = lambda number: time.sleep(0.3)
    leaves = Team.leaves

    def late(team: Team, node: Any) -> bool:
        time.sleep(0.15)  # the helper has taken what there is
        return leaves(team, node)

    monkeypatch.setattr(Team, "leaves", late)
    report = link_tree(scene.source, scene.target, mode=LinkMode.COPY, processes=2)
    assert len(crew.pids) == 1
    assert report.counts == {LinkMode.COPY: SMALL + 2}
    assert set(trees.snapshot(scene.target)) == set(scene.wanted)


def test_as_many_helpers_merge_as_are_asked_for(ground: str, crew: Crew) -> None:
    tree: Tree = {f"d{number % 9}/{number}": File(b"%d" % number) for number in range(2 * SMALL)}
    scene = Scene(ground, tree, {f"d{number}": Directory() for number in range(9)})
    report = link_tree(scene.source, scene.target, mode=LinkMode.COPY, processes=4)
    assert len(crew.pids) == 3
    assert report.counts == {LinkMode.COPY: 2 * SMALL}


def test_a_helper_copies_what_is_mutable_and_clones_the_rest(ground: str, crew: Crew) -> None:
    tree: Tree = {f"d{number % 9}/{number}": File(b"%d" % number) for number in range(2 * SMALL)}
    scene = Scene(f"{ground}/scene", tree, {f"d{number}": Directory() for number in range(9)})

    class Cloning(LinuxPlatform):
        def clone_directly(self, source: int, name: str, *given: Any) -> int:
            with open(f"{ground}/cloned", "a", encoding="ascii") as told:
                told.write(f"{name}\n")
            return self.copy_directly(source, name, *given)

    report = link_tree(
        scene.source,
        scene.target,
        mode=LinkMode.CLONE,
        mutable=["*7", "d3/*"],
        processes=2,
        platform=Cloning(),
    )
    assert len(crew.pids) == 1
    cloned = {str(n) for n in range(2 * SMALL) if n % 10 != 7 and n % 9 != 3}
    with open(f"{ground}/cloned", encoding="ascii") as told:
        assert sorted(told.read().split()) == sorted(cloned)
    copied = 2 * SMALL - len(cloned)
    assert report.counts == {LinkMode.CLONE: len(cloned), LinkMode.COPY: copied}
    crew.check_vouched()


@pytest.mark.parametrize("old", [{"d": Directory()}, {"d/f": File(b"old")}], ids=["new", "old"])
def test_a_name_that_the_slower_calls_refuse_as_well_is_told(ground: str, old: Tree) -> None:
    scene = Scene(ground, {"d/f": File(b"new")}, old)

    def rename(name: str, new: str, **where: Any) -> None:
        if new == "f" and not name.endswith(ASIDE):
            raise injected(errno.EINVAL)
        os.rename(name, new, **where)

    platform = with_calls(renameat2=refuse(errno.EINVAL), link=refuse(errno.EINVAL), rename=rename)
    error = failing(scene, platform)
    assert (error.path, error.condition) == ("d/f", Condition.UNSUPPORTED)
    assert error.what == f"cannot {'replace' if 'd/f' in old else 'give its name to'} d/f"
    assert isinstance(error.__cause__, OSError)
    assert trees.lasting(scene.before) == trees.lasting(scene.now())
