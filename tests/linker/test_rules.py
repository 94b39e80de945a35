"""The rules of the reference linker, each by tests that would catch the opposite.

Rule 2 is test_choices.py, rule 4 test_sweep.py, test_kill.py and test_company.py, rule 10
test_store.py; what primitives promise is test_linux.py.
"""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import stat
from collections.abc import Callable
from typing import Any

import pytest

from linker import Existing, LinkError, LinkMode, Policy, link_file, link_tree, policies
from linker.conditions import Condition, Primitive, condition_of
from linker.journal import RESERVED, STAGE
from linker.policy import PRIMITIVES, Edge, Step
from pytest_linkmode.evidence import evidence
from pytest_linkmode.faults.inprocess import injected
from pytest_linkmode.layouts import TestFilesystem
from tests.linker import model, trees
from tests.linker.scenes import EXISTING, Scene, Watcher
from tests.linker.seams import (
    REFLINKING,
    RENAME_NOREPLACE,
    WITHOUT_FLAGS,
    Calls,
    MachinePlatform,
    Tap,
)
from tests.linker.trees import PAST, Directory, File, Symlink, Tree

REFERENCE = policies.REFERENCE


def platform(**calls: Any) -> MachinePlatform:
    return MachinePlatform(dataclasses.replace(REFLINKING, **calls))


def refusing(number: int) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        raise injected(number)

    return call


def read(path: str) -> bytes:
    with open(path, "rb") as reading:
        return reading.read()


# Rule 1: isolation never weakens.


def _no_new_links(name: str, new: str, **where: Any) -> None:
    """Refuse hard links of files that have a name; those of O_TMPFILE are how files are placed."""
    if not name.startswith("/proc/self/fd/"):
        raise injected(errno.EPERM)
    os.link(name, new, **where)


@pytest.mark.parametrize("existing", [None, {"d": Directory()}], ids=["fresh", "existing"])
@pytest.mark.parametrize("mode", [LinkMode.CLONE, LinkMode.HARDLINK, LinkMode.SYMLINK])
def test_what_is_refused_ends_as_a_file_of_its_own(
    ground: str, mode: LinkMode, existing: Tree | None
) -> None:
    scene = Scene(ground, {"a": File(b"a"), "b": File(b"b"), "d/c": File(b"c")}, existing)
    nothing_works = platform(
        ficlone=refusing(errno.EOPNOTSUPP), link=_no_new_links, symlink=refusing(errno.EPERM)
    )
    report = link_tree(scene.source, scene.target, mode=mode, platform=nothing_works)
    assert report.counts == {LinkMode.COPY: 3}
    for path in ("a", "b", "d/c"):
        with open(f"{scene.target}/{path}", "ab") as writing:
            writing.write(b" edited")
        assert read(f"{scene.source}/{path}") == path[-1].encode()


# Rule 3: a name shows the old file or the whole new one.


@pytest.mark.parametrize("way", [REFLINKING, WITHOUT_FLAGS], ids=["atomic", "emulated"])
@pytest.mark.parametrize("mode", LinkMode)
def test_at_every_moment_each_name_shows_an_old_or_a_whole_new_entry(
    scene: str, mode: LinkMode, way: Calls
) -> None:
    stage = Scene(scene)
    link_tree(stage.source, stage.target, mode=mode, platform=Tap(base=way).platform)
    after = {path: seen[:2] + seen[4:] for path, seen in stage.now().items()}
    stage.rebuild()
    before = {path: seen[:2] + seen[4:] for path, seen in stage.now().items()}

    def without_inode(known: dict[str, Any], path: str) -> Any:
        return known[path][:2] + known[path][3:] if path in known else None

    wrong: list[str] = []

    def watch(number: int, name: str) -> None:
        now = {path: seen[:2] + seen[4:] for path, seen in stage.now().items()}
        for path in now.keys() | before.keys():
            if any(part.startswith(RESERVED) for part in path.split("/")):
                continue
            seen = now.get(path)
            either = [without_inode(before, path), without_inode(after, path)]
            if path not in before or path not in after:
                either.append(None)
            if seen is not None and seen[0] == "directory" and path in before | after:
                continue
            if (seen and seen[:2] + seen[3:]) not in either:
                wrong.append(f"before call {number} ({name}) {path!r} is {seen}")

    link_tree(stage.source, stage.target, mode=mode, platform=Tap(watch, way).platform)
    assert not wrong, "\n".join(wrong[:5])


# Rule 5: it never leaves the target.


@pytest.mark.parametrize("mode", LinkMode)
def test_a_symlink_where_a_directory_must_go_is_refused(ground: str, mode: LinkMode) -> None:
    trees.build(f"{ground}/outside", {"kept": File(b"kept")})
    scene = Scene(f"{ground}/scene", {"d/f": File(b"f")}, {"d": Symlink("../../outside")})
    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=mode)
    assert caught.value.condition is Condition.IS_SYMLINK
    assert os.listdir(f"{ground}/outside") == ["kept"]
    assert scene.now() == scene.before


@pytest.mark.parametrize("mode", LinkMode)
def test_a_symlink_where_a_file_goes_is_replaced_and_not_followed(
    ground: str, mode: LinkMode
) -> None:
    trees.build(f"{ground}/outside", {"victim": File(b"victim")})
    scene = Scene(
        f"{ground}/scene",
        {"f": File(b"new"), "ln": Symlink("elsewhere")},
        {"f": Symlink("../../outside/victim"), "ln": Symlink("../../outside/victim")},
    )
    link_tree(scene.source, scene.target, mode=mode, platform=platform())
    assert read(f"{ground}/outside/victim") == b"victim"
    assert read(f"{scene.target}/f") == b"new"
    assert os.readlink(f"{scene.target}/ln") == "elsewhere"


@pytest.mark.parametrize("mode", LinkMode)
def test_other_names_of_a_replaced_file_keep_the_old_one(ground: str, mode: LinkMode) -> None:
    scene = Scene(ground, {"f": File(b"new")}, {"f": File(b"old")})
    os.link(f"{scene.target}/f", f"{ground}/other name")
    link_tree(scene.source, scene.target, mode=mode, platform=platform())
    assert read(f"{ground}/other name") == b"old"
    assert read(f"{scene.target}/f") == b"new"


@pytest.mark.faked("symlinks")
def test_the_root_itself_may_be_a_symlink_and_is_resolved_once(ground: str) -> None:
    scene = Scene(ground, {"d/f": File(b"f")}, {})
    os.symlink(scene.target, f"{ground}/ln")
    moved: list[str] = []

    def swap(number: int, name: str) -> None:
        if name == "flock" and not moved:
            os.mkdir(f"{ground}/elsewhere")
            os.unlink(f"{ground}/ln")
            os.symlink(f"{ground}/elsewhere", f"{ground}/ln")
            moved.append(name)

    link_tree(scene.source, f"{ground}/ln", mode=LinkMode.COPY, platform=Tap(swap).platform)
    assert moved
    assert read(f"{scene.target}/d/f") == b"f"
    assert os.listdir(f"{ground}/elsewhere") == []


@pytest.mark.parametrize("mode", LinkMode)
@pytest.mark.faked("symlinks")
def test_a_directory_that_becomes_a_symlink_meanwhile_is_not_followed(
    ground: str, mode: LinkMode
) -> None:
    """At whatever moment it is swapped: nothing is ever written where the symlink leads."""
    trees.build(f"{ground}/outside", {"f": File(b"victim")})
    before = trees.snapshot(f"{ground}/outside")
    scene = Scene(
        f"{ground}/scene",
        {"d/f": File(b"new"), "d/e/g": File(b"g")},
        {"d": Directory(), "d/f": File(b"old")},
    )
    trial = Tap()
    link_tree(scene.source, scene.target, mode=mode, platform=trial.platform)
    for at in range(1, trial.count + 1):
        scene.rebuild()

        def swap(number: int, name: str, at: int = at) -> None:
            if number == at:
                os.rename(f"{scene.target}/d", f"{scene.target}/moved")
                os.symlink("../../outside", f"{scene.target}/d")

        try:
            link_tree(scene.source, scene.target, mode=mode, platform=Tap(swap).platform)
        except LinkError:
            assert os.path.islink(f"{scene.target}/d")
        assert trees.snapshot(f"{ground}/outside") == before, f"swapped at call {at}"


@pytest.mark.parametrize("mode", LinkMode)
def test_symlinks_of_the_source_are_recreated_and_not_followed(ground: str, mode: LinkMode) -> None:
    trees.build(f"{ground}/outside", {"secret": File(b"secret")})
    texts = {"in": "d/f", "out": "../outside/secret", "up": "..", "dir": "../outside", "gone": "x"}
    tree: Tree = {"d/f": File(b"f"), **{name: Symlink(text) for name, text in texts.items()}}
    scene = Scene(ground, tree, None)
    report = link_tree(scene.source, scene.target, mode=mode, platform=platform())
    assert report.symlinks == len(texts)
    assert {name: os.readlink(f"{scene.target}/{name}") for name in texts} == texts


@pytest.mark.parametrize("make", ["fifo", "socket"])
@pytest.mark.parametrize("mode", LinkMode)
def test_what_is_no_file_is_refused_before_anything_is_written(
    ground: str, mode: LinkMode, make: str
) -> None:
    scene = Scene(ground, {"a/f": File(b"f"), "z": Directory()}, None)
    if make == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"{scene.source}/z/odd")
    else:
        os.mkfifo(f"{scene.source}/z/odd")
    tap = Tap()
    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=mode, platform=tap.platform)
    assert caught.value.path == "z/odd"
    assert not {"mkdir", "link", "symlink", "renameat2", "ficlone", "write"} & set(tap.names)
    assert not os.path.lexists(scene.target)


@pytest.mark.parametrize("spelled", ["source", "./source", "sub/../source", "ln/../source"])
@pytest.mark.faked("symlinks")
def test_symlink_mode_links_to_the_absolute_path_of_what_was_given(
    ground: str, monkeypatch: pytest.MonkeyPatch, spelled: str
) -> None:
    """`ln/..` is where the symlink leads, one up; not where it lies."""
    trees.build(f"{ground}/source", {"f": File(b"right"), "d/g": File(b"right")})
    os.makedirs(f"{ground}/sub")
    os.makedirs(f"{ground}/away/inner")
    trees.build(f"{ground}/away/source", {"f": File(b"away"), "d/g": File(b"away")})
    os.symlink("away/inner", f"{ground}/ln")
    monkeypatch.chdir(ground)
    link_tree(spelled, "target", mode=LinkMode.SYMLINK)
    link_file(f"{spelled}/f", "one", mode=LinkMode.SYMLINK)
    link_file(f"{spelled}/f", "copied", mode=LinkMode.COPY)
    wanted = b"away" if spelled.startswith("ln") else b"right"
    for name in ("target/f", "target/d/g", "one", "copied"):
        assert read(name) == wanted
    for name in ("target/f", "target/d/g", "one"):
        assert os.path.isabs(os.readlink(name))


@pytest.mark.faked("symlinks")
def test_a_target_behind_a_symlink_and_back_is_where_the_kernel_says(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.build(f"{ground}/source", {"f": File(b"f")})
    os.makedirs(f"{ground}/away/inner")
    os.symlink("away/inner", f"{ground}/ln")
    monkeypatch.chdir(ground)
    link_tree("source", "ln/../tree", mode=LinkMode.COPY)
    link_file("source/f", "ln/../file", mode=LinkMode.COPY)
    assert sorted(os.listdir("away")) == ["file", "inner", "tree"]
    assert sorted(os.listdir(ground)) == ["away", "ln", "source"]


# Rule 6: the same stat in every mode.


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("existing", [None, EXISTING], ids=["fresh", "existing"])
@pytest.mark.parametrize("mode", LinkMode)
def test_permission_bits_and_times_are_the_sources(
    scene: str, mode: LinkMode, existing: Tree | None, mask: int
) -> None:
    stage = Scene(scene, existing=existing)
    before = os.umask(mask)
    try:
        link_tree(stage.source, stage.target, mode=mode, platform=platform())
    finally:
        os.umask(before)
    after = stage.now()
    assert not model.problems(
        stage.wanted, stage.before, after, mode.value, source_path=stage.source
    )
    for path in stage.wanted:
        if stage.wanted[path].kind == "file":
            here, there = os.stat(f"{stage.source}/{path}"), os.stat(f"{stage.target}/{path}")
            assert (here.st_mode, here.st_mtime_ns) == (there.st_mode, there.st_mtime_ns), path


def test_setuid_is_carried_by_sharing_a_file_only(ground: str) -> None:
    scene = Scene(ground, {"f": File(b"f", mode=0o4755)}, None)
    for mode, wanted in (
        (LinkMode.CLONE, 0o755),
        (LinkMode.COPY, 0o755),
        (LinkMode.HARDLINK, 0o4755),
        (LinkMode.SYMLINK, 0o4755),
    ):
        link_tree(scene.source, f"{ground}/{mode}", mode=mode, platform=platform())
        assert stat.S_IMODE(os.stat(f"{ground}/{mode}/f").st_mode) == wanted


def test_a_directory_that_was_there_keeps_its_mode_and_its_time_moves_on(ground: str) -> None:
    """Import systems cache the listing of a directory by its time."""
    scene = Scene(
        ground,
        {"d": Directory(0o700, PAST - 7), "d/f": File(b"f"), "same/e": Directory()},
        {"d": Directory(0o751), "d/g": File(b"g"), "same/e": Directory(0o750)},
    )
    link_tree(scene.source, scene.target, mode=LinkMode.COPY)
    seen = os.stat(f"{scene.target}/d")
    assert stat.S_IMODE(seen.st_mode) == 0o751
    assert seen.st_mtime_ns > PAST
    untouched = os.stat(f"{scene.target}/same")
    assert (stat.S_IMODE(untouched.st_mode), untouched.st_mtime_ns) == (0o755, PAST)
    empty = os.stat(f"{scene.target}/same/e")
    assert stat.S_IMODE(empty.st_mode) == 0o750
    assert empty.st_mtime_ns > PAST, "what says to another linker that it is wanted"


# Rule 7: copy copies.


@pytest.mark.linkmode(fs=["btrfs", "xfs"])
def test_a_copy_is_new_on_disk_where_a_clone_would_be_had(linkmode_fs: TestFilesystem) -> None:
    source, root = str(linkmode_fs.path / "source"), linkmode_fs.path
    trees.build(source, {"f": File(trees.noise(300_000)), "d/g": File(trees.noise(100_000, 1))})
    os.makedirs(root / "there")
    for mode in (LinkMode.COPY, LinkMode.CLONE):
        for target in (root / f"{mode}", root / "there"):
            report = link_tree(source, target, mode=mode)
            assert report.counts == {mode: 2}
            for path in ("f", "d/g"):
                assert evidence(f"{source}/{path}", target / path).mode is mode


def test_a_copy_makes_no_call_that_may_share(scene: str) -> None:
    stage = Scene(scene)
    tap = Tap()
    link_tree(stage.source, stage.target, mode=LinkMode.COPY, platform=tap.platform)
    assert "ficlone" not in tap.names
    files = [seen for seen in stage.wanted.values() if seen.kind == "file" and seen.content]
    assert tap.names.count("write") >= len(files)


# Rule 8: nothing silent.


def _claims(name: str, new: str, **where: Any) -> None:
    """Claim to have made a hard link."""
    if name.startswith("/proc/self/fd/"):
        os.link(name, new, **where)


@pytest.mark.parametrize("existing", [None, {}], ids=["fresh", "existing"])
@pytest.mark.parametrize(
    ("mode", "calls", "condition"),
    [
        (LinkMode.HARDLINK, {"link": _claims}, Condition.NO_EFFECT),
        (LinkMode.SYMLINK, {"symlink": lambda *_, **__: None}, Condition.NO_EFFECT),
        (LinkMode.CLONE, {"ficlone": lambda *_: None}, Condition.NO_EFFECT),
        (
            LinkMode.CLONE,
            {"ficlone": lambda writing, reading: os.ftruncate(writing, 1)},
            Condition.SHORT,
        ),
    ],
)
def test_a_call_that_did_nothing_is_noticed_and_told(
    ground: str,
    mode: LinkMode,
    calls: dict[str, Any],
    condition: Condition,
    existing: Tree | None,
) -> None:
    scene = Scene(ground, {"f": File(b"content")}, existing)
    report = link_tree(scene.source, scene.target, mode=mode, platform=platform(**calls))
    assert report.counts == {LinkMode.COPY: 1}
    (told,) = report.transitions
    assert told.edge.condition is condition
    assert read(f"{scene.target}/f") == b"content"


def test_a_copy_that_goes_on_doing_nothing_is_an_error(ground: str) -> None:
    scene = Scene(ground, {"f": File(b"content")}, {})
    lazy = platform(write=lambda handle, data: 0, sleep=lambda seconds: None)
    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, mode=LinkMode.COPY, platform=lazy)
    assert caught.value.primitive is Primitive.COPY
    assert not scene.untouched()


# Rule 9: every fallback is an edge in the policy.

NAMES = {
    Primitive.CLONE_FILE: "ficlone",
    Primitive.HARDLINK: "link",
    Primitive.SYMLINK: "symlink",
    Primitive.COPY: "write",
    Primitive.CREATE: "open",
    Primitive.RENAME: "renameat2",
    Primitive.EXCHANGE: "renameat2",
    Primitive.LOCK: "flock",
}


ONCE = (Primitive.RENAME, Primitive.EXCHANGE)
"""What undo needs as well, and what is tried again and again."""


def provoking(edge: Edge) -> MachinePlatform:
    """Return a platform in which an edge's primitive meets its condition."""
    numbers = [
        number
        for number, name in sorted(errno.errorcode.items())
        if condition_of("linux", edge.primitive, name) is edge.condition
    ]
    name = NAMES[edge.primitive]
    real = getattr(REFLINKING, name)
    once = edge.condition is not Condition.UNSUPPORTED and (
        edge.primitive in ONCE or (edge.condition is Condition.MISSING and not edge.mode)
    )
    met = 0

    def concerns(arguments: tuple[Any, ...]) -> bool:
        if edge.condition is Condition.CROSS_DEVICE and edge.primitive in ONCE:
            inside = os.readlink(f"/proc/self/fd/{arguments[2]}").endswith("/e")
            return inside and (arguments[4] == RENAME_NOREPLACE) == (
                edge.primitive is Primitive.RENAME
            )
        if edge.primitive in ONCE:
            return bool((arguments[4] == RENAME_NOREPLACE) == (edge.primitive is Primitive.RENAME))
        if edge.primitive is Primitive.CREATE:
            return bool(arguments[1] & os.O_TMPFILE & ~os.O_DIRECTORY)
        if edge.primitive is Primitive.HARDLINK:
            return not arguments[0].startswith("/proc/self/fd/")
        return True

    def fake(*arguments: Any, **options: Any) -> Any:
        nonlocal met
        if not concerns(arguments) or (once and met):
            return real(*arguments, **options)
        met += 1
        if edge.condition is Condition.SHORT:
            return os.ftruncate(arguments[0], 1)
        if edge.condition is Condition.NO_EFFECT:
            return None
        raise injected(numbers[0])

    changed: dict[str, Any] = {name: fake, "sleep": lambda seconds: None}
    calls = dataclasses.replace(REFLINKING, **changed)
    return Staging(calls) if edge.mode and edge.primitive in ONCE else MachinePlatform(calls)


class Staging(MachinePlatform):
    """Has no way to give a file its name at once."""

    places_directly = False


PROVOKED = [
    edge
    for edge in REFERENCE.of("linux")
    if edge.primitive in NAMES
    and edge.condition is not Condition.EXISTS  # below
    and not (edge.primitive is Primitive.COPY and edge.condition is Condition.SHORT)  # above
]


def test_without_edges_nothing_is_ever_tried_twice(ground: str) -> None:
    nothing = Policy("nothing", (), "this test")
    scene = Scene(ground, {"f": File(b"f")}, {})
    for mode, number in itertools.product(
        (LinkMode.CLONE, LinkMode.HARDLINK, LinkMode.SYMLINK),
        (errno.EXDEV, errno.EAGAIN, errno.EPERM),
    ):
        name = NAMES[PRIMITIVES[mode]]
        tried = 0

        def fail(*arguments: Any, number: int = number, **options: Any) -> Any:
            nonlocal tried
            tried += 1
            raise injected(number)

        with pytest.raises(LinkError) as caught:
            link_tree(
                scene.source,
                scene.target,
                mode=mode,
                policy=nothing,
                platform=platform(**{name: fail}),
            )
        assert tried == 1
        assert caught.value.edge is None
        assert not scene.untouched()


def test_without_the_edge_what_exists_is_not_replaced(ground: str) -> None:
    edges = tuple(e for e in REFERENCE.edges if e.condition is not Condition.EXISTS)
    timid = dataclasses.replace(REFERENCE, name="timid", edges=edges)
    for mode in LinkMode:
        trees.remove(f"{ground}/source")
        scene = Scene(ground, {"f": File(b"new")}, {"f": File(b"old")})
        with pytest.raises(LinkError) as caught:
            link_tree(scene.source, scene.target, mode=mode, policy=timid, platform=platform())
        assert caught.value.condition is Condition.EXISTS
        assert not scene.untouched()


EVERY_WAY: Tree = {
    "f": File(b"ff"),
    "g": File(b"gg"),
    "old": File(b"new"),
    "new/h": File(b"hh"),
    "e/old": File(b"new"),
    "e/new/h": File(b"hh"),
}


@pytest.mark.parametrize("edge", PROVOKED, ids=lambda edge: edge.id)
def test_the_edge_is_what_decides(ground: str, edge: Edge) -> None:
    """Where it is in the graph it is taken, told, and followed; without it the same failure is an
    error. There is no way on that the graph does not show.
    """
    scene = Scene(ground, EVERY_WAY, {"old": File(b"old"), "e/old": File(b"old")})
    mode = edge.mode or (
        LinkMode.HARDLINK if edge.primitive is Primitive.HARDLINK else LinkMode.COPY
    )
    watcher = Watcher()

    def link(policy: Policy) -> LinkError | None:
        try:
            link_tree(
                scene.source,
                scene.target,
                mode=mode,
                policy=policy,
                platform=provoking(edge),
                observer=watcher,
            )
        except LinkError as error:
            return error
        return None

    error = link(REFERENCE)
    assert edge in watcher.edges
    ends = edge.otherwise if edge.then is Step.RETRY and edge.primitive not in ONCE else edge.then
    if ends is Step.ABORT:
        assert error is not None
        assert not scene.untouched()
    else:
        assert error is None, error
        for path, entry in EVERY_WAY.items():
            assert isinstance(entry, File)
            assert read(f"{scene.target}/{path}") == entry.content
    scene.rebuild()
    edges = tuple(other for other in REFERENCE.edges if other is not edge)
    assert link(dataclasses.replace(REFERENCE, name="without", edges=edges)) is not None
    assert not scene.untouched()


# And Existing.FAIL.


@pytest.mark.parametrize("mode", LinkMode)
def test_what_appears_meanwhile_is_refused_as_well_where_nothing_may_exist(
    ground: str, mode: LinkMode
) -> None:
    scene = Scene(ground, {"a": File(b"a"), "b": File(b"b"), "d/c": File(b"c")}, {})
    trial = Tap()
    link_tree(scene.source, scene.target, mode=mode, platform=trial.platform)
    refused = 0
    for at in range(1, trial.count + 1):
        scene.rebuild()
        made: list[str] = []

        def appear(number: int, name: str, at: int = at, made: list[str] = made) -> None:
            if number == at and not os.path.lexists(f"{scene.target}/b"):
                with open(f"{scene.target}/b", "wb") as writing:
                    writing.write(b"theirs")
                made.append(name)

        try:
            link_tree(
                scene.source,
                scene.target,
                mode=mode,
                existing=Existing.FAIL,
                platform=Tap(appear).platform,
            )
        except LinkError:
            refused += 1
            assert {name for name in os.listdir(scene.target) if not name.startswith(STAGE)} == {
                "b"
            }
        if made:
            assert read(f"{scene.target}/b") == b"theirs", f"at call {at}"
    assert refused
