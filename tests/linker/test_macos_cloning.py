"""Whole directories cloned by one call: what is kept of the clone, what is made anew, what is told.

The platform is macOS over the model of its calls, on a filesystem whose reflinks are played.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections import Counter
from collections.abc import Callable, Sequence, Set
from typing import Any

import pytest

from linker import Existing, LinkError, LinkMode, LinkReport, link_tree
from linker.conditions import Condition, Scope
from linker.platforms.base import Failed
from linker.platforms.macos import NUMBERS
from linker.policies import RATTLER, REFERENCE, UV
from linker.policy import Policy
from linker.store import Store
from pytest_linkmode.faults.inprocess import injected
from pytest_linkmode.models import clonefile
from pytest_linkmode.models.clonefile import Quirk
from tests.linker import model, trees, users
from tests.linker.macs import MacTap
from tests.linker.scenes import Scene, Watcher
from tests.linker.seams import REFLINKING
from tests.linker.trees import Directory, File, Symlink, Tree

pytestmark = pytest.mark.usefixtures("counted")

PACKAGE: Tree = {
    "ns/__init__.py": File(),
    "ns/a.py": File(b"a = 1\n"),
    "ns/bin/tool": File(trees.noise(5_000), 0o755),
    "ns/data/ro": Directory(0o555),
    "ns/data/ro/f": File(b"f", 0o444),
    "ns/data/ro/ln": Symlink("f"),
    "ns/ln": Symlink("a.py"),
    "ns/empty": Directory(0o700),
    "RECORD": File(b"record"),
}

Function = Callable[..., Any]


class Told(Watcher):
    """What an observer is told."""

    @property
    def ids(self) -> list[str]:
        return [edge.id.removeprefix("macos/") for edge in self.edges]


def link(
    scene: Scene,
    *,
    quirks: Set[str] = frozenset(),
    wrap: clonefile.Wrap | None = None,
    atomic: bool = True,
    **options: Any,
) -> tuple[LinkReport, Told, Counter[str]]:
    """Link in mode clone; return the report, what was told, and how often each call was made."""
    told, counts = Told(), Counter[str]()

    def counting(name: str, function: Function) -> Function:
        function = wrap(name, function) if wrap is not None else function

        def counted(*given: Any, **more: Any) -> Any:
            counts[name] += 1
            return function(*given, **more)

        return counted

    platform = clonefile.platform(
        scene.root, atomic=atomic, quirks=quirks, host=REFLINKING, wrap=counting
    )
    report = link_tree(scene.source, scene.target, platform=platform, observer=told, **options)
    return report, told, counts


def problems(scene: Scene, *, copied: Sequence[str] = (), mode: str = "clone") -> list[str]:
    return model.problems(
        scene.wanted, scene.before, scene.now(), mode, source_path=scene.source, copied=copied
    )


def after(name: str, act: Callable[[tuple[Any, ...]], None]) -> clonefile.Wrap:
    """Return what lets something happen right after every successful call of a name."""

    def wrap(called: str, function: Function) -> Function:
        def acting(*given: Any, **more: Any) -> Any:
            result = function(*given, **more)
            if called == name and result == 0:
                act(given)
            return result

        return acting

    return wrap


def instead(name: str, act: Callable[[Function, tuple[Any, ...]], Any]) -> clonefile.Wrap:
    """Return what is done instead of a call: it is given the call and its arguments."""

    def wrap(called: str, function: Function) -> Function:
        if called != name:
            return function
        return lambda *given: act(function, given)

    return wrap


@pytest.mark.parametrize("way", ["whole", "item-by-item"])
def test_a_new_directory_costs_one_clone_whatever_is_in_it(scene: str, way: str) -> None:
    stage = Scene(scene, PACKAGE, {})
    report, told, counts = link(stage, atomic=way == "whole")
    assert counts["item_file"] == (0 if way == "whole" else 4)
    assert counts["clonefileat"] == 1
    assert counts["fclonefileat"] == 1  # RECORD, beside it
    assert counts["mkdir"] == 1  # the stage
    assert report.counts == {LinkMode.CLONE: 5}
    assert (report.directories, report.symlinks) == (5, 2)
    assert told.ids == []
    assert problems(stage) == []


def test_a_whole_new_target_costs_one_clone(scene: str) -> None:
    stage = Scene(scene, PACKAGE, None)
    report, _, counts = link(stage)
    assert counts["clonefileat"] == 1
    assert counts["fclonefileat"] == 0
    assert report.counts == {LinkMode.CLONE: 5}
    assert problems(stage) == []


def test_a_directory_that_is_there_is_merged_and_what_it_lacks_is_cloned_whole(scene: str) -> None:
    there: Tree = {"ns/other.py": File(b"other"), "ns/a.py": File(b"old")}
    stage = Scene(scene, PACKAGE, there)
    report, told, counts = link(stage)
    assert counts["clonefileat"] == 2  # ns/bin, ns/data; one that is empty is made
    assert report.replaced == 1
    assert told.ids == ["*/rename/exists"]
    assert problems(stage) == []


def test_files_that_must_be_copies_are_copied_in_the_midst_of_a_clone(scene: str) -> None:
    stage = Scene(scene, PACKAGE, None)
    report, told, counts = link(stage, mutable=["*.py", "RECORD"])
    assert counts["clonefileat"] == 1
    assert report.counts == {LinkMode.CLONE: 2, LinkMode.COPY: 3}
    assert problems(stage, copied=["ns/a.py", "RECORD"]) == []
    assert not told.ids


def test_setuid_and_setgid_of_files_are_dropped_and_those_of_directories_kept(scene: str) -> None:
    tree: Tree = {"d": Directory(0o3755), "d/f": File(b"f", 0o6755), "d/g": File(b"g", 0o1644)}
    stage = Scene(scene, tree, {})
    link(stage)
    seen = stage.now()
    assert (seen["d"].mode, seen["d/f"].mode, seen["d/g"].mode) == (0o3755, 0o755, 0o644)


@pytest.mark.parametrize("place", ["ns/a.py", "ns/data/ro", "RECORD", "ns/data/ro/f"])
def test_attributes_of_the_source_do_not_come_along(scene: str, place: str) -> None:
    stage = Scene(scene, PACKAGE, None)
    mode = stage.wanted[place].mode
    os.chmod(f"{stage.source}/{place}", 0o700)
    os.setxattr(f"{stage.source}/{place}", "user.com.apple.quarantine", b"0081")
    os.chmod(f"{stage.source}/{place}", mode)
    report, _, counts = link(stage)
    assert counts["clonefileat"] == 1
    assert os.listxattr(f"{stage.target}/{place}") == []
    assert os.listxattr(f"{stage.source}/{place}") == ["user.com.apple.quarantine"]
    assert report.counts == {LinkMode.CLONE: 5}
    assert problems(stage) == []


def test_attributes_of_the_systems_own_are_left_alone(scene: str) -> None:
    stage = Scene(scene, PACKAGE, {})
    os.setxattr(f"{stage.source}/ns/a.py", "user.com.apple.provenance", b"\1")
    report, _, counts = link(stage)
    assert counts["fremovexattr"] == 0
    assert report.counts == {LinkMode.CLONE: 5}


def test_an_attribute_that_a_clone_did_not_take_over_is_no_trouble(scene: str) -> None:
    stage = Scene(scene, PACKAGE, {})
    os.setxattr(f"{stage.source}/RECORD", "user.com.example", b"")

    def twice(call: Function, given: tuple[Any, ...]) -> Any:
        assert call(*given) == 0
        return call(*given)

    report, told, counts = link(stage, wrap=instead("fremovexattr", twice))
    assert counts["fremovexattr"] == 1
    assert report.counts == {LinkMode.CLONE: 5}
    assert told.ids == []


def refusing(name: str, error: int) -> Callable[[], MacTap]:
    """Return what makes a system of which one call always fails."""

    def make() -> MacTap:
        def deed(_number: int, called: str) -> None:
            if called == name:
                raise injected(error)

        return MacTap(deed)

    return make


def test_a_volume_without_attributes_is_no_trouble(scene: str) -> None:
    stage = Scene(scene, PACKAGE, {})
    tap = refusing("flistxattr", errno.ENOTSUP)()
    report = link_tree(stage.source, stage.target, platform=tap.platform)
    assert "flistxattr" in tap.names
    assert report.counts == {LinkMode.CLONE: 5}
    assert problems(stage) == []


def test_what_passes_is_tried_as_often_as_the_policy_allows(scene: str) -> None:
    stage = Scene(scene, {"d/f": File(b"f")}, {})
    tap = refusing("clonefileat", errno.ENOENT)()
    report = link_tree(stage.source, stage.target, platform=tap.platform)
    assert tap.names.count("clonefileat") == 1 + REFERENCE.retries
    assert report.counts == {LinkMode.CLONE: 1}
    assert problems(stage) == []


def test_times_and_permission_bits_that_a_clone_lost_are_given_to_it(scene: str) -> None:
    stage = Scene(scene, PACKAGE, {})

    def act(given: tuple[Any, ...]) -> None:
        path = f"/proc/self/fd/{given[2]}/{os.fsdecode(given[3])}/a.py"
        os.chmod(path, 0o600)
        os.utime(path)

    report, _, counts = link(stage, wrap=after("clonefileat", act))
    assert report.counts == {LinkMode.CLONE: 5}
    assert counts["fclonefileat"] == 1
    assert problems(stage) == []


@users.ROOT_ONLY
@pytest.mark.parametrize("user", ["root"], indirect=True)
def test_what_others_than_its_owner_may_read_is_cloned_for_one_of_them(
    scene: str, user: str
) -> None:
    tree: Tree = {"d/f": File(b"f", 0o604), "e": Directory(0o705), "e/g": File(b"g")}
    stage = Scene(scene, tree, {})
    os.chmod(f"{stage.source}/d/f", 0o005)
    os.chmod(f"{stage.source}/e", 0o305)
    os.chown(stage.target, users.NOBODY, users.NOBODY)
    with users.ordinary_user():
        report, _, counts = link(stage)
    assert counts["clonefileat"] == 1  # e could not be looked through
    assert report.counts == {LinkMode.CLONE: 2}
    seen = stage.now()
    assert (seen["d/f"].mode, seen["e"].mode) == (0o005, 0o305)
    assert seen["d/f"].content == b"f"


@pytest.mark.parametrize("mode", LinkMode)
def test_an_odd_umask_shuts_nothing(scene: str, user: str, mode: LinkMode) -> None:
    stage = Scene(scene, PACKAGE, {})
    umask = os.umask(0o777)
    try:
        link(stage, mode=mode)
    finally:
        os.umask(umask)
    assert problems(stage, mode=mode.value) == []


def test_after_a_directory_was_cloned_a_refusal_is_a_files_own(scene: str) -> None:
    tree: Tree = {
        "a/f": File(b"f"),
        **{f"b/{name}": File(name.encode()) for name in "xyz"},
    }
    stage = Scene(scene, tree, {"b": Directory()})
    refused: list[int] = []

    def deed(number: int, name: str) -> None:
        if name == "fclonefileat" and len(refused) < 2:
            refused.append(number)
            raise injected(errno.EOPNOTSUPP)

    platform = MacTap(deed).platform
    report = link_tree(stage.source, stage.target, platform=platform)
    assert report.counts == {LinkMode.CLONE: 2, LinkMode.COPY: 2}
    assert {each.scope for each in report.transitions} == {Scope.FILE}


def test_where_files_are_not_cloned_directories_are_not_either(scene: str) -> None:
    tree: Tree = {"x": File(b"x"), "y": File(b"y"), "d/f": File(b"f")}
    stage = Scene(scene, tree, {})
    tap = refusing("fclonefileat", errno.EOPNOTSUPP)()
    report = link_tree(stage.source, stage.target, platform=tap.platform)
    assert "clonefileat" not in tap.names
    assert report.counts == {LinkMode.COPY: 3}


def test_what_comes_from_a_store_is_no_directory_to_clone(scene: str) -> None:
    stage = Scene(scene, {"d/f": File(b"f"), "d/e/g": File(b"g")}, {})
    tap = MacTap()
    store = Store(f"{scene}/store", platform=tap.platform)
    manifest = store.add(stage.source)
    report = store.link(manifest, f"{scene}/out", mode=LinkMode.CLONE)
    assert "clonefileat" not in tap.names
    assert report.counts == {LinkMode.CLONE: 2}


def test_a_content_that_is_elsewhere_already_when_it_is_opened_is_told_as_such(scene: str) -> None:
    stage = Scene(scene, {"d/f": File(b"f")}, {})

    def elsewhere(name: str, call: Function) -> Function:
        def opened(path: str, *given: Any, **more: Any) -> Any:
            if path == "f":
                raise OSError(NUMBERS["EDEADLK"], "deadlock")
            return call(path, *given, **more)

        return opened if name == "open" else call

    for mode in (LinkMode.CLONE, LinkMode.COPY):
        told = Told()
        platform = clonefile.platform(host=REFLINKING, wrap=elsewhere)
        with pytest.raises(LinkError, match="cannot copy d/f") as caught:
            link_tree(stage.source, stage.target, mode=mode, platform=platform, observer=told)
        assert caught.value.condition is Condition.DATALESS
        assert {each.edge.condition for each in told.transitions} >= {Condition.DATALESS}
        assert stage.untouched() == []


def test_the_flag_of_a_file_that_has_another_name_is_not_taken_off(scene: str) -> None:
    trees.build(f"{scene}/d", {"f": File(b"f"), "g": File(b"g")})
    os.link(f"{scene}/d/f", f"{scene}/other")
    for name in ("f", "g"):
        clonefile.make_immutable(f"{scene}/d/{name}")
    platform = clonefile.platform(scene, quirks={Quirk.FLAGS})
    directory = platform.open_root(f"{scene}/d")
    with pytest.raises(Failed):
        platform.remove_file(directory, "f")
    platform.remove_file(directory, "g")
    platform.close(directory)
    assert os.listdir(f"{scene}/d") == ["f"]
    assert os.listxattr(f"{scene}/other")


def test_a_directory_with_an_access_list_of_its_own_has_a_stage_of_its_own(scene: str) -> None:
    stage = Scene(scene, PACKAGE, {"ns/there": File(b"there")})
    clonefile.set_access_list(f"{stage.target}/ns", b"everyone allow read")
    places: list[str] = []

    def seen(name: str, call: Function) -> Function:
        def made(new: str, *given: Any, dir_fd: int) -> Any:
            places.append(os.path.realpath(f"/proc/self/fd/{dir_fd}"))
            return call(new, *given, dir_fd=dir_fd)

        return made if name == "mkdir" else call

    link(stage, wrap=seen)
    assert {f"{stage.target}/ns", stage.target} <= set(places)
    os.removexattr(f"{stage.target}/ns", "user.linkmode.acl")
    assert problems(stage) == []


def test_a_file_whose_quarantine_stays_on_its_clone_is_copied_and_told(scene: str) -> None:
    stage = Scene(scene, PACKAGE, None)
    os.setxattr(f"{stage.source}/ns/a.py", "user.com.apple.quarantine", b"0081")
    report, told, counts = link(stage, quirks={Quirk.QUARANTINE})
    assert report.counts == {LinkMode.CLONE: 4, LinkMode.COPY: 1}
    assert [(each.path, each.proof) for each in report.transitions] == [("ns/a.py", "modelled")]
    assert told.ids == ["clone/clone-file/attribute"]
    assert counts["clonefileat"] == 1
    assert problems(stage, copied=["ns/a.py"]) == []


HELD = ("ns/a.py", "ns/data", "RECORD")


@pytest.mark.parametrize("user", ["ordinary-user"], indirect=True)
@pytest.mark.parametrize("spoilt", [False, True], ids=["whole", "torn"])
def test_what_is_immutable_in_the_source_is_not_in_the_target(
    scene: str, user: str, spoilt: object
) -> None:
    stage = Scene(scene, PACKAGE, {})
    for path in HELD:
        clonefile.make_immutable(f"{stage.source}/{path}")

    def act(given: tuple[Any, ...]) -> None:
        name = os.fsdecode(given[3])
        if spoilt and os.path.exists(f"/proc/self/fd/{given[2]}/{name}/bin"):
            torn(given[2], name)

    report, _, counts = link(stage, quirks={Quirk.FLAGS}, wrap=after("clonefileat", act))
    assert counts["clonefileat"] == (3 if spoilt else 1)
    assert report.counts == {LinkMode.CLONE: 5}
    assert report.leftovers == ()
    assert [path for path in HELD if os.listxattr(f"{stage.target}/{path}")] == []
    assert all(os.listxattr(f"{stage.source}/{path}") for path in HELD)
    assert problems(stage) == []


def torn(directory: int, name: str) -> None:
    """Take a file out of a clone, as if the clone had ended early."""
    handle = os.open(f"{name}/bin", os.O_RDONLY, dir_fd=directory)
    os.unlink("tool", dir_fd=handle)
    os.close(handle)


def emptied(directory: int, name: str) -> None:
    handle = os.open(f"{name}/bin/tool", os.O_WRONLY | os.O_TRUNC, dir_fd=directory)
    os.close(handle)


def enriched(directory: int, name: str) -> None:
    handle = os.open(f"{name}/more", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=directory)
    os.close(handle)


def turned(directory: int, name: str) -> None:
    os.unlink(f"{name}/a.py", dir_fd=directory)
    os.mkdir(f"{name}/a.py", dir_fd=directory)


def moved(directory: int, name: str) -> None:
    os.rename(name, f"{name}.away", src_dir_fd=directory, dst_dir_fd=directory)


def replaced(directory: int, name: str) -> None:
    moved(directory, name)
    os.symlink("/", name, dir_fd=directory)


@pytest.mark.parametrize(
    ("change", "edge"),
    [
        *[(change, "short") for change in (torn, enriched, turned, replaced)],
        (moved, "no-effect"),
    ],
)
def test_a_clone_that_is_not_what_the_source_was_is_made_entry_by_entry(
    scene: str, change: Callable[[int, str], None], edge: str
) -> None:
    stage = Scene(scene, PACKAGE, {})
    changed: list[int] = []

    def act(given: tuple[Any, ...]) -> None:
        if not changed:
            changed.append(1)
            change(given[2], os.fsdecode(given[3]))

    report, told, counts = link(stage, wrap=after("clonefileat", act))
    assert told.ids == [f"clone/clone-directory/{edge}"]
    assert counts["clonefileat"] == 3  # once more for bin and data
    assert report.counts == {LinkMode.CLONE: 5}
    assert report.transitions == ()  # every file is a clone all the same
    assert problems(stage) == []


def test_a_clone_of_a_file_that_is_too_short_is_made_anew(scene: str) -> None:
    stage = Scene(scene, PACKAGE, {})
    report, told, counts = link(
        stage, wrap=after("clonefileat", lambda given: emptied(given[2], os.fsdecode(given[3])))
    )
    assert counts["fclonefileat"] == 2  # RECORD, and the file again
    assert report.counts == {LinkMode.CLONE: 5}
    assert told.ids == []
    assert problems(stage) == []


def test_a_success_that_made_nothing_is_noticed(scene: str) -> None:
    stage = Scene(scene, PACKAGE, {})
    report, told, _ = link(stage, wrap=instead("clonefileat", lambda _call, _given: 0))
    assert set(told.ids) == {"clone/clone-directory/no-effect"}
    assert report.counts == {LinkMode.CLONE: 5}
    assert problems(stage) == []


def test_a_volume_that_cannot_clone_is_asked_once_for_directories_and_falls_to_copy(
    scene: str,
) -> None:
    stage = Scene(scene, {f"{name}/f": File(name.encode()) for name in "abc"}, {})
    report, told, counts = link(stage, quirks={Quirk.HFS})
    assert counts["clonefileat"] == 1
    assert report.counts == {LinkMode.COPY: 3}
    assert "clone/clone-directory/unsupported" in told.ids
    assert {each.edge.id for each in report.transitions} == {"macos/clone/clone-file/unsupported"}
    assert problems(stage, mode="copy") == []


def test_a_file_whose_content_is_elsewhere_ends_the_link_and_is_named(scene: str) -> None:
    stage = Scene(scene, PACKAGE, {})
    clonefile.make_dataless(f"{stage.source}/ns/bin/tool")
    with pytest.raises(LinkError, match="cannot copy ns/bin/tool") as caught:
        link(stage, quirks={Quirk.DATALESS})
    assert caught.value.condition is Condition.DATALESS
    assert "fetch" in caught.value.hint
    assert stage.untouched() == []


def test_a_passing_enoent_is_tried_again(scene: str) -> None:
    stage = Scene(scene, PACKAGE, {})
    failures = iter([2, 2])

    def act(call: Function, given: tuple[Any, ...]) -> Any:
        if next(failures, None):
            raise injected(2)
        return call(*given)

    tap = MacTap()

    def wrapped(name: str, call: Function) -> Function:
        held = (lambda *given: act(call, given)) if name == "clonefileat" else call
        return tap._seam(name, held)

    tap.model = clonefile.Model(host=REFLINKING, wrap=wrapped)
    told = Told()
    report = link_tree(stage.source, stage.target, platform=tap.platform, observer=told)
    assert tap.names.count("clonefileat") == 3
    assert told.ids == ["clone/clone-directory/missing"]
    (tried,) = told.transitions
    assert (tried.path, tried.scope) == ("ns", Scope.ABORT)
    assert tried.error is not None
    assert tried.error.errno == errno.ENOENT
    assert report.transitions == ()
    assert problems(stage) == []


def test_a_directory_that_nothing_can_clone_is_not_tried_for_ever(scene: str) -> None:
    tree: Tree = {f"d{number:02}/{name}": File(b"x") for number in range(40) for name in "ab"}
    stage = Scene(scene, tree, {})
    tap = MacTap()

    def refuse(name: str, call: Function) -> Function:
        def refused(*given: Any) -> int:
            tap.count += 1
            tap.model.leave_errno(1)
            return -1

        return refused if name == "clonefileat" else call

    tap.model = clonefile.Model(host=REFLINKING, wrap=refuse)
    report = link_tree(stage.source, stage.target, platform=tap.platform)
    assert tap.count == 16
    assert report.counts == {LinkMode.CLONE: 80}
    assert problems(stage) == []


def test_directories_of_another_filesystem_are_not_expected_in_a_clone(scene: str) -> None:
    stage = Scene(scene, PACKAGE, {})

    def elsewhere(name: str, call: Function) -> Function:
        def fstat(descriptor: int) -> Any:
            seen = call(descriptor)
            inside = os.path.realpath(f"/proc/self/fd/{descriptor}")
            if not inside.startswith(f"{stage.source}/ns/data"):
                return seen
            device = {"st_dev": seen.st_dev + 1}
            return _With(seen, **device)

        return fstat if name == "fstat" else call

    report, _, counts = link(stage, wrap=elsewhere)
    assert counts["clonefileat"] == 2  # ns/bin; ns/data, by itself
    assert report.counts == {LinkMode.CLONE: 5}
    assert problems(stage) == []


class _With:
    """A stat result with other values in some fields."""

    def __init__(self, seen: os.stat_result, **other: int) -> None:
        self._seen, self._other = seen, other

    def __getattr__(self, name: str) -> Any:
        return self._other.get(name, getattr(self._seen, name, None))


FOLDING = {Quirk.CASE_INSENSITIVE}


def test_names_that_the_volume_folds_into_one_are_refused(scene: str) -> None:
    stage = Scene(scene, {"d/Read.me": File(b"a"), "d/READ.ME": File(b"b")}, {})
    with pytest.raises(LinkError, match="does not tell upper from lower case"):
        link(stage, quirks=FOLDING)
    assert stage.untouched() == []
    link(stage)
    assert problems(stage) == []


@pytest.mark.parametrize("mode", LinkMode)
def test_what_is_there_in_other_letters_is_replaced_and_merged_under_its_name(
    scene: str, mode: LinkMode
) -> None:
    tree: Tree = {"Readme": File(b"new"), "NS/A.py": File(b"a"), "NS/sub/f": File(b"f")}
    there: Tree = {"README": File(b"old"), "ns/a.py": File(b"old"), "ns/theirs": File(b"theirs")}
    stage = Scene(scene, tree, there)
    report, _, _ = link(stage, quirks=FOLDING, mode=mode)
    assert report.replaced == 2
    assert {path for path in stage.now() if path} == {
        *("README", "ns", "ns/a.py", "ns/theirs", "ns/sub", "ns/sub/f")
    }
    for path, content in (("README", b"new"), ("ns/a.py", b"a"), ("ns/theirs", b"theirs")):
        with open(f"{stage.target}/{path}", "rb") as reading:
            assert reading.read() == content


def test_what_was_there_in_other_letters_is_put_back_by_the_undo(scene: str) -> None:
    tree: Tree = {"Readme": File(b"new"), "NS/A.py": File(b"a"), "NS/sub/f": File(b"f")}
    there: Tree = {"README": File(b"old"), "ns/a.py": File(b"old"), "ns/theirs": File(b"theirs")}
    stage = Scene(scene, tree, there)
    directories: list[int] = []

    def deed(number: int, name: str) -> None:
        directories.extend([number] if name == "clonefileat" else ())
        if len(directories) == 2:  # NS, which turns out to be there, and NS/sub
            directories.append(number)
            raise injected(errno.ENOSPC)

    with pytest.raises(LinkError) as caught:
        link_tree(stage.source, stage.target, platform=MacTap(deed, quirks=FOLDING).platform)
    assert caught.value.condition is Condition.NO_SPACE
    assert stage.untouched() == []


def test_strict_allows_what_ends_in_clones_all_the_same(scene: str) -> None:
    stage = Scene(scene, PACKAGE, {})
    report, told, _ = link(stage, strict=True, wrap=instead("clonefileat", lambda _call, _given: 0))
    assert told.ids
    assert report.counts == {LinkMode.CLONE: 5}
    assert problems(stage) == []


def test_progress_counts_the_files_of_clones(scene: str) -> None:
    stage = Scene(scene, PACKAGE, None)
    seen: list[tuple[int, int]] = []
    link(stage, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_policy_that_knows_no_clones_of_directories_has_none(scene: str) -> None:
    own = dataclasses.replace(
        REFERENCE,
        name="files-only",
        edges=tuple(edge for edge in REFERENCE.edges if "clone-directory" not in edge.id),
    )
    stage = Scene(scene, PACKAGE, {})
    _, _, counts = link(stage, policy=own)
    assert counts["clonefileat"] == 0
    assert problems(stage) == []


NO_UNDO = dataclasses.replace(REFERENCE, name="no-undo", undo=False)


@pytest.mark.parametrize("policy", [NO_UNDO, UV, RATTLER], ids=lambda policy: str(policy.name))
def test_a_policy_that_undoes_nothing_clones_directories_whole_too(
    scene: str, policy: Policy
) -> None:
    stage = Scene(scene, PACKAGE, {})
    seen: list[tuple[int, int]] = []
    report, told, counts = link(
        stage, policy=policy, progress=lambda done, total: seen.append((done, total))
    )
    assert (counts["clonefileat"], counts["fclonefileat"]) == (1, 1)
    assert report.counts == {LinkMode.CLONE: 5}
    assert (report.directories, report.symlinks) == (5, 2)
    assert told.ids == []
    assert seen[-1] == (5, 5)
    assert problems(stage) == []


@pytest.mark.parametrize("policy", [UV, RATTLER], ids=lambda policy: str(policy.name))
def test_what_cannot_be_cloned_whole_is_filled_where_it_is_and_left_there(
    scene: str, policy: Policy
) -> None:
    stage = Scene(scene, PACKAGE, {})

    cloned: list[int] = []

    def refuse(number: int, name: str) -> None:
        if name == "clonefileat":
            raise injected(errno.ENOTSUP)
        if name == "fclonefileat":
            cloned.append(number)
        if name in ("link", "write") or len(cloned) > 3:
            raise injected(errno.EIO)

    with pytest.raises(LinkError):
        link_tree(stage.source, stage.target, policy=policy, platform=MacTap(refuse).platform)
    left = {path for path, each in stage.now().items() if each.kind == "file"}
    assert left == {"RECORD", "ns/__init__.py", "ns/a.py"}


@pytest.mark.parametrize("mode", [mode for mode in LinkMode if mode is not LinkMode.CLONE])
def test_other_modes_clone_nothing(scene: str, mode: LinkMode) -> None:
    stage = Scene(scene, PACKAGE, {})
    _, _, counts = link(stage, mode=mode)
    assert counts["clonefileat"] == counts["fclonefileat"] == 0
    assert problems(stage, mode=mode.value) == []


def test_a_directory_that_appears_meanwhile_is_merged_and_keeps_what_another_put_there(
    scene: str,
) -> None:
    stage = Scene(scene, PACKAGE, {})

    def act(given: tuple[Any, ...]) -> None:
        if not os.path.exists(f"{stage.target}/ns"):
            trees.build(f"{stage.target}/ns", {"theirs.py": File(b"theirs"), "a.py": File(b"b")})

    report, told, _ = link(stage, wrap=after("clonefileat", act))
    seen = stage.now()
    assert seen["ns/theirs.py"].content == b"theirs"
    assert seen["ns/a.py"].content == b"a = 1\n"
    assert report.counts == {LinkMode.CLONE: 5}
    assert "*/rename/exists" in told.ids


def test_where_nothing_may_exist_a_directory_that_appears_meanwhile_ends_the_link(
    scene: str,
) -> None:
    stage = Scene(scene, PACKAGE, {})

    def act(given: tuple[Any, ...]) -> None:
        if not os.path.exists(f"{stage.target}/ns"):
            trees.build(f"{stage.target}/ns", {"theirs.py": File(b"theirs")})

    with pytest.raises(LinkError, match="ns exists already"):
        link(stage, wrap=after("clonefileat", act), existing=Existing.FAIL)
    assert set(stage.now()) == {"", "ns", "ns/theirs.py"}


def test_the_undo_takes_back_a_cloned_directory_and_leaves_what_is_not_ours(scene: str) -> None:
    stage = Scene(scene, {**PACKAGE, "z/f": File(b"z")}, {})
    calls = 0

    def act(call: Function, given: tuple[Any, ...]) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            return call(*given)
        # By now ns has its name: another linker puts something into it, and the disk breaks.
        trees.build(f"{stage.root}/theirs", {"f": File(b"theirs")})
        os.rename(f"{stage.root}/theirs/f", f"{stage.target}/ns/bin/theirs")
        os.rmdir(f"{stage.root}/theirs")
        raise injected(5)

    tap = MacTap()

    def wrapped(name: str, call: Function) -> Function:
        held = (lambda *given: act(call, given)) if name == "clonefileat" else call
        return tap._seam(name, held)

    tap.model = clonefile.Model(host=REFLINKING, wrap=wrapped)
    with pytest.raises(LinkError) as caught:
        link_tree(stage.source, stage.target, platform=tap.platform)
    assert set(stage.now()) == {"", "ns", "ns/bin", "ns/bin/theirs"}
    assert caught.value.left == ()
