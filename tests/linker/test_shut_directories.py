"""A source directory that only others may read is linked by an ordinary user, who owns the copy and
is shut out of it as soon as it has its permission bits.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from linker import LinkError, LinkMode, link_tree
from linker.conditions import Condition
from linker.journal import RESERVED, open_stage, recover
from linker.merging import _with_owners_bits
from linker.platforms.base import Failed
from linker.tree import Node
from pytest_linkmode.faults.inprocess import Killed
from tests.linker import trees, users
from tests.linker.scenes import Scene
from tests.linker.seams import Deed, Fault, Tap, descriptors
from tests.linker.trees import Directory, File, Symlink, Tree
from tests.linker.verdicts import Ended, everything, wrong

pytestmark = users.ROOT_ONLY

MODES = [0o005, 0o055, 0o105, 0o305]
"""Permission bits that shut out the owner, and nobody else."""


def shut(mode: int) -> Tree:
    """Return a tree with such directories at the top, in one another and below a usual one."""
    return {
        "shut": Directory(mode),
        "shut/f": File(b"f"),
        "shut/in": Directory(mode),
        "shut/in/g": File(b"g"),
        "shut/in/ln": Symlink("g"),
        "usual/in": Directory(mode),
        "usual/in/h": File(b"h"),
        "z": File(b"z"),
    }


def scene_of(ground: str, tree: Tree, existing: Tree | None) -> Scene:
    """Return a scene with root's source and an ordinary user's target."""
    scene = Scene(ground, tree, existing)
    own(scene)
    return scene


def own(scene: Scene) -> None:
    """Give what there is of a target to the ordinary user."""
    for path in scene.before:
        os.lchown(f"{scene.target}/{path}".rstrip("/"), users.NOBODY, users.NOBODY)


def link(scene: Scene, deed: Deed | None = None, mode: LinkMode = LinkMode.COPY) -> Ended:
    """Link as an ordinary user."""
    tap = Tap(deed)
    with users.ordinary_user():
        try:
            report = link_tree(scene.source, scene.target, mode=mode, platform=tap.platform)
        except LinkError as error:
            return Ended(None, error)
        finally:
            tap.close()
    return Ended(report, None)


@pytest.mark.parametrize("existing", [None, {}, {"usual": Directory()}], ids=str)
@pytest.mark.parametrize("mode", MODES, ids=oct)
def test_a_directory_that_shuts_its_owner_out_is_linked(
    ground: str, mode: int, existing: Tree | None
) -> None:
    scene = scene_of(ground, shut(mode), existing)
    for way in (LinkMode.CLONE, LinkMode.COPY, LinkMode.SYMLINK):
        ended = link(scene, mode=way)
        assert not wrong(scene, way, ended)
        assert ended.error is None
        assert {path for path in scene.now() if path} == {path for path in scene.wanted if path}
        for path in ("shut", "shut/in", "usual/in"):
            assert os.stat(f"{scene.target}/{path}").st_mode & 0o7777 == mode
        scene.rebuild()
        own(scene)


def test_a_source_that_shuts_its_owner_out_is_linked(ground: str) -> None:
    scene = scene_of(ground, {"": Directory(0o005), "f": File(b"f")}, None)
    assert not wrong(scene, LinkMode.COPY, ended := link(scene))
    assert ended.error is None
    assert os.stat(scene.target).st_mode & 0o7777 == 0o005


def test_a_deep_tree_of_directories_that_shut_their_owner_out_is_linked(ground: str) -> None:
    tree: Tree = {"/".join(["d"] * depth): Directory(0o005) for depth in range(1, 60)}
    scene = scene_of(ground, {**tree, "/".join(["d"] * 59 + ["f"]): File(b"f")}, {})
    ended = link(scene)
    assert ended.error is None
    assert not wrong(scene, LinkMode.COPY, ended)
    scene.rebuild()
    own(scene)
    assert link(scene, failing_at_the_end("d")).error is not None
    assert not scene.untouched()


def failing_at_the_end(name: str) -> Deed:
    """Return a deed that makes the giving of names fail."""

    def deed(number: int, call: str) -> None:
        if call == "renameat2":
            raise OSError(errno.EIO, os.strerror(errno.EIO), name)

    return deed


@pytest.mark.parametrize("mode", [0o005, 0o305], ids=oct)
def test_whichever_call_fails_nothing_stays_of_such_a_directory(ground: str, mode: int) -> None:
    scene = scene_of(ground, shut(mode), {"usual": Directory()})
    dry, failed = Tap(), 0
    with users.ordinary_user():
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=dry.platform)
    before = descriptors()
    for at in range(1, dry.count + 1):
        scene.rebuild()
        own(scene)
        fault = Fault(at, errno.EIO)
        ended = link(scene, fault)
        assert descriptors() == before, fault.hit
        assert not wrong(scene, LinkMode.COPY, ended), f"{fault.hit}, call {at}"
        failed += ended.error is not None
    assert failed > 20


def killed_at_every_call(scene: Scene) -> Iterator[int]:
    """Yield the number of each call of a link that was killed at it, in a scene made anew."""
    dry = Tap()
    with users.ordinary_user():
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=dry.platform)
    for at in range(1, dry.count + 1):
        scene.rebuild()
        own(scene)

        def deed(number: int, name: str, at: int = at) -> None:
            if number >= at:
                raise Killed

        with pytest.raises(Killed):
            link(scene, deed)
        yield at


@pytest.mark.parametrize("mode", [0o005, 0o305], ids=oct)
def test_after_a_kill_the_next_run_removes_what_it_left_of_such_a_directory(
    ground: str, mode: int
) -> None:
    """And goes on: what has its bits by now is ours, so that we let ourselves in again."""
    scene = scene_of(ground, shut(mode), {"usual": Directory()})
    for at in killed_at_every_call(scene):
        ended = link(scene)
        assert not [path for path in everything(scene) if RESERVED in path], f"call {at}"
        assert ended.error is None, f"call {at}"
        found, wanted = trees.content(scene.now()), trees.content(scene.wanted)
        assert found.keys() == wanted.keys(), f"call {at}"
        for path, entry in wanted.items():
            if entry[0] == "directory":
                assert found[path][1] == entry[1] or path in ("", "usual"), f"call {at}: {path}"
            else:
                assert found[path] == entry, f"call {at}: {path}"


# What is there already.


def filled(mode: int) -> Tree:
    """Return such a tree as an earlier link has left it, and others have gone on with it."""
    return {
        "shut": Directory(mode),
        "shut/f": File(b"old"),
        "shut/own": File(b"own"),
        "shut/in": Directory(mode),
        "shut/in/g": File(b"old"),
        "usual/in": Directory(mode),
        "usual/in/own": File(b"own"),
    }


def merged(scene: Scene) -> None:
    """Assert that everything of the source is there, and of the target what was its own."""
    found, before = trees.content(scene.now()), trees.content(scene.before)
    wanted = {path: entry for path, entry in trees.content(scene.wanted).items() if path}
    for path, entry in wanted.items():
        if entry[0] != "directory":
            assert found[path] == entry, path
    for path, entry in before.items():
        if entry[0] == "directory":
            assert found[path][:2] == entry[:2], path
        elif path not in wanted:
            assert found[path] == entry, path
    assert found.keys() == {*before, *wanted}
    assert not scene.beside()


@pytest.mark.parametrize("mode", [*MODES, 0o405, 0o455], ids=oct)
def test_who_linked_such_a_directory_can_link_into_it_again(ground: str, mode: int) -> None:
    scene = scene_of(ground, shut(mode), filled(mode))
    for way in (LinkMode.CLONE, LinkMode.COPY, LinkMode.SYMLINK):
        ended = link(scene, mode=way)
        assert ended.error is None
        assert ended.report is not None
        assert ended.report.leftovers == ()
        if way is not LinkMode.SYMLINK:
            merged(scene)
        for path in ("shut", "shut/in", "usual/in"):
            assert os.stat(f"{scene.target}/{path}").st_mode & 0o7777 == mode
        assert link(scene, mode=way).error is None
        scene.rebuild()
        own(scene)


@pytest.mark.parametrize("bits", [0o000, 0o100, 0o300, 0o070], ids=oct)
def test_a_directory_that_its_owner_has_shut_is_linked_into_and_shut_again(
    ground: str, bits: int
) -> None:
    tree: Tree = {"d/f": File(b"f"), "d/in/g": File(b"g")}
    scene = scene_of(ground, tree, {"d": Directory(bits), "d/own": File(b"own")})
    assert link(scene).error is None
    merged(scene)
    assert os.stat(f"{scene.target}/d").st_mode & 0o7777 == bits


def test_one_stage_is_enough_for_all_of_them(ground: str) -> None:
    scene, most = scene_of(ground, shut(0o005), filled(0o005)), 0

    def deed(number: int, name: str) -> None:
        nonlocal most
        most = max(most, sum(each.startswith(RESERVED) for each in os.listdir(scene.target)))

    assert link(scene, deed).error is None
    assert most == 1


def test_a_target_that_shuts_its_owner_out_is_linked_into_again(ground: str) -> None:
    tree: Tree = {"": Directory(0o005), "f": File(b"f")}
    scene = scene_of(ground, tree, {"": Directory(0o005), "own": File(b"own")})
    assert link(scene).error is None
    merged(scene)


@pytest.mark.parametrize("mode", [0o005, 0o455], ids=oct)
def test_a_deep_chain_of_such_directories_is_there_and_has_its_bits_again(
    ground: str, mode: int
) -> None:
    """More of them than a way down holds descriptors."""
    chain: Tree = {"/".join(["d"] * depth): Directory(mode) for depth in range(1, 40)}
    deep = "/".join(["d"] * 39)
    scene = scene_of(ground, {**chain, f"{deep}/f": File(b"f")}, {**chain, f"{deep}/g": File(b"g")})
    assert link(scene).error is None
    merged(scene)
    scene.rebuild()
    own(scene)

    def deed(number: int, name: str) -> None:
        if name == "link":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    assert link(scene, deed).error is not None
    assert not scene.untouched()


def test_whichever_call_fails_such_directories_are_as_they_were(ground: str) -> None:
    scene = scene_of(ground, shut(0o005), filled(0o005))
    dry, failed, mended = Tap(), 0, 0
    with users.ordinary_user():
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=dry.platform)
    before = descriptors()
    for at in range(1, dry.count + 1):
        scene.rebuild()
        own(scene)
        fault = Fault(at, errno.EIO)
        ended = link(scene, fault)
        assert descriptors() == before, fault.hit
        told = ended.error.left if ended.error else ended.report and ended.report.leftovers
        if told:  # what could not be given back once is given back by the next run
            mended += 1
            assert link(scene).error is None, f"{fault.hit}, call {at}"
            merged(scene)
        elif ended.error is None:
            merged(scene)
        else:
            failed += 1
            assert not scene.untouched(), f"{fault.hit}, call {at}"
    assert failed > 20
    assert mended < 5


@pytest.mark.parametrize("mode", [0o005, 0o044], ids=oct)
def test_after_a_kill_the_next_run_gives_such_directories_their_bits_again(
    ground: str, mode: int
) -> None:
    scene = scene_of(ground, shut(0o005), filled(mode))
    for at in killed_at_every_call(scene):
        if at % 3 == 0:  # and is killed on its way

            def again(number: int, name: str, at: int = at) -> None:
                if number >= max(at // 2, 12):
                    raise Killed

            with pytest.raises(Killed):
                link(scene, again)
        assert link(scene).error is None, f"call {at}"
        merged(scene)


def test_of_two_notes_of_one_directory_the_first_one_has_the_last_word(ground: str) -> None:
    os.mkdir(f"{ground}/target")
    os.chown(f"{ground}/target", users.NOBODY, users.NOBODY)
    with users.ordinary_user():
        os.makedirs(f"{ground}/target/shut/in")
        platform = Tap().platform
        root = platform.open_root(f"{ground}/target")
        try:
            stage = open_stage(platform, root, lambda _: False)
            for path, final in (("shut", 0o055), ("shut", 0o755), ("shut/in", 0o055)):
                inode = os.stat(f"{ground}/target/{path}").st_ino
                stage.pending(tuple(path.split("/")), inode, 0o755, final)
                for _ in range(4):  # until numbers have two digits
                    stage.number()
            stage.close()
            assert recover(platform, root, stage.name)
        finally:
            platform.close(root)
    for path in ("shut", "shut/in"):
        assert os.stat(f"{ground}/target/{path}").st_mode & 0o7777 == 0o055
    assert os.listdir(f"{ground}/target") == ["shut"]


@pytest.mark.parametrize("calls", [["open"], ["stat", "open"]], ids="+".join)
def test_a_directory_that_is_refused_once_when_it_gets_its_bits_back_is_told(
    ground: str, calls: list[str]
) -> None:
    scene = scene_of(ground, {"shut/f": File(b"f")}, {"shut": Directory(0o111)})
    placed, refusing = False, list(calls)

    def deed(number: int, name: str) -> None:
        nonlocal placed
        if placed and refusing and name == refusing[-1]:
            refusing.pop()
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        placed = placed or name == "link"

    ended = link(scene, deed)
    assert not refusing
    assert ended.report is not None
    mode = os.stat(f"{scene.target}/shut").st_mode & 0o7777
    assert (mode == 0o111) is not ("shut" in ended.report.leftovers)
    assert link(scene).error is None
    assert os.stat(f"{scene.target}/shut").st_mode & 0o7777 == 0o111


@pytest.mark.parametrize("other", ["a file", "a directory"])
def test_bits_are_owed_still_where_something_else_has_the_name_and_them(
    ground: str, other: str
) -> None:
    scene = scene_of(ground, {"shut/f": File(b"f")}, {"shut": Directory(0o111)})
    shut, placed, moved = f"{scene.target}/shut", False, False

    def deed(number: int, name: str) -> None:
        nonlocal placed, moved
        if placed and not moved and name == "open":
            os.rename(shut, f"{scene.target}/moved")
            trees.build(shut, {} if other == "a directory" else {"": File(b"")})
            os.chmod(shut, 0o111)
            moved = True
        placed = placed or name == "link"

    ended = link(scene, deed)
    assert moved
    assert ended.report is not None
    assert "shut" in ended.report.leftovers
    assert os.stat(f"{scene.target}/moved").st_mode & 0o7777 == 0o711


def test_what_cannot_be_looked_at_any_more_is_let_in_by_nobody(ground: str) -> None:
    """And nobody tries for ever; what a disk that fails for good lets stay, the next run mends."""
    scene = scene_of(ground, {"shut/f": File(b"f")}, {"shut": Directory(0o005)})
    dry, failed = Tap(), 0
    with users.ordinary_user():
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=dry.platform)
    for at in [place for place, name in enumerate(dry.names, 1) if name == "fstat"]:
        scene.rebuild()
        own(scene)

        def deed(number: int, name: str, at: int = at) -> None:
            if name == "fstat" and number >= at:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        failed += link(scene, deed).error is not None
        assert link(scene).error is None
        merged(scene)
    assert failed > 3


@pytest.mark.parametrize("replaced", [False, True], ids=["gone", "another's"])
def test_a_directory_that_changes_before_it_is_let_in_is_not(
    ground: str, *, replaced: bool
) -> None:
    tree: Tree = {"shut/f": File(b"f")}
    scene, dry = scene_of(ground, tree, {"shut": Directory(0o005)}), Tap()
    with users.ordinary_user():
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=dry.platform)
    let_in = dry.names.index("chmod") - 1  # open, fstat, chmod: the number of the first
    scene.rebuild()
    own(scene)

    def deed(number: int, name: str) -> None:
        if number == let_in:
            os.rename(f"{scene.target}/shut", f"{scene.target}/away")
            if replaced:
                os.mkdir(f"{scene.target}/shut")
                os.chmod(f"{scene.target}/shut", 0o005)

    ended = link(scene, deed)
    assert ended.error is not None
    assert (ended.error.path, ended.error.condition) == ("shut", Condition.DENIED)
    for name in sorted(os.listdir(scene.target)):
        assert os.stat(f"{scene.target}/{name}").st_mode & 0o7777 == 0o005, name
    assert len(os.listdir(scene.target)) == 1 + replaced


def test_anothers_directory_that_is_shut_to_us_stays_so(ground: str) -> None:
    scene = scene_of(ground, shut(0o005), filled(0o700))
    cases = [("shut", bits) for bits in (0o700, 0o500, 0o005, 0o604)]
    for path, bits in (*cases, ("usual/in", 0o000)):
        scene.rebuild()
        own(scene)
        os.chown(f"{scene.target}/{path}", 0, 0)
        os.chmod(f"{scene.target}/{path}", bits)
        before = trees.lasting(trees.snapshot(scene.target))
        ended = link(scene)
        if bits & 0o004:  # others may read it, and go no further
            assert ended.error is not None
            assert ended.error.path.startswith("shut")
        else:
            assert ended.error is not None
            assert (ended.error.path, ended.error.condition) == (path, Condition.DENIED)
        assert ended.error.left == ()
        assert trees.differences(before, trees.lasting(trees.snapshot(scene.target))) == []
        assert not scene.beside()


def test_a_deep_tree_of_such_directories_is_linked_by_two_processes_as_well(ground: str) -> None:
    shut_in = {"/".join(["d"] * depth): Directory(0o005) for depth in range(1, 60)}
    files = {"/".join(["d"] * 59 + [f"{place}"]): File(b"f") for place in range(600)}
    scene = scene_of(ground, {**shut_in, **files}, {})
    with users.ordinary_user():
        report = link_tree(scene.source, scene.target, mode=LinkMode.COPY, processes=2)
    assert not wrong(scene, LinkMode.COPY, Ended(report, None))


def test_only_the_owners_bits_of_a_directory_are_the_sources() -> None:
    node = Node("d", None)
    node.mode = 0o505
    assert _with_owners_bits(0o2750, node) == 0o2550


def test_only_the_directory_that_is_meant_is_let_in(ground: str) -> None:
    os.mkdir(f"{ground}/d", 0o2055)
    os.chmod(f"{ground}/d", 0o2055)
    os.symlink("d", f"{ground}/ln")
    inode, platform = os.stat(f"{ground}/d").st_ino, Tap().platform
    root = platform.open_root(ground)
    try:
        assert platform.permissions(root, "d") == 0o2055
        assert platform.permissions(root, "ln") == 0o777
        assert not platform.let_in(root, "d", inode + 1)
        with pytest.raises(Failed):
            platform.let_in(root, "ln")
        assert os.stat(f"{ground}/d").st_mode & 0o7777 == 0o2055
        assert platform.let_in(root, "d", inode)
        assert os.stat(f"{ground}/d").st_mode & 0o7777 == 0o2755
    finally:
        platform.close(root)


def test_a_directory_of_another_in_the_place_of_ours_is_left_shut(ground: str) -> None:
    scene, theirs = scene_of(ground, shut(0o005), {}), 0

    def deed(number: int, call: str) -> None:
        nonlocal theirs
        if call == "renameat2" and not theirs and os.path.exists(f"{scene.target}/shut"):
            os.rename(f"{scene.target}/shut", f"{scene.target}/ours")
            os.mkdir(f"{scene.target}/shut")
            os.chmod(f"{scene.target}/shut", 0o005)
            theirs = os.stat(f"{scene.target}/shut").st_ino
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    ended = link(scene, deed)
    assert ended.error is not None
    assert ended.error.left == ()
    seen = os.stat(f"{scene.target}/shut")
    assert (seen.st_ino, seen.st_mode & 0o7777) == (theirs, 0o005)
    assert sorted(os.listdir(scene.target)) == ["ours", "shut"]


@pytest.mark.parametrize(
    ("path", "final", "settled"),
    [
        (("shut",), 0o055, True),
        (("shut",), 0o455, False),
        (("shut", "in"), 0o055, False),
        (("shut", "in"), 0o455, False),
    ],
    ids=str,
)
def test_bits_are_owed_no_more_where_a_directory_shuts_us_out_as_it_shall(
    ground: str, path: tuple[str, ...], final: int, *, settled: bool
) -> None:
    os.mkdir(f"{ground}/target")
    os.chown(f"{ground}/target", users.NOBODY, users.NOBODY)
    with users.ordinary_user():
        os.mkdir(f"{ground}/target/shut")
        os.mkdir(f"{ground}/target/shut/in")
        os.chmod(f"{ground}/target/shut", 0o055)
        platform = Tap().platform
        root = platform.open_root(f"{ground}/target")
        try:
            stage = open_stage(platform, root, lambda _: False)
            stage.pending(path, 7, 0o755, final)
            stage.close()  # and with it the lock, as when it is killed
            assert recover(platform, root, stage.name) is settled
        finally:
            platform.close(root)
    assert (stage.name in os.listdir(f"{ground}/target")) is not settled
