"""Names that a folding filesystem has in other letters: replaced under them, put back under them.

Whoever asks for `readme` where `README` is means that one, and a name that was there keeps its
letters, as it does for `cp`. A call that swaps two names leaves them theirs; where there is none,
as on exFAT, a rename would give what it replaces the letters of the source.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from linker import LinkError, LinkMode, link_file, link_tree
from linker.conditions import Condition
from linker.platforms.macos import RENAME_SWAP
from linker.store import Store
from linker.tree import spelled
from pytest_linkmode.faults.inprocess import injected
from pytest_linkmode.layouts import TestFilesystem
from pytest_linkmode.models import clonefile
from pytest_linkmode.models.clonefile import Quirk
from pytest_linkmode.models.darwin import darwin_error
from tests.linker import trees
from tests.linker.scenes import Scene
from tests.linker.seams import CALLS, REFLINKING, Tap
from tests.linker.trees import File, Tree

Filesystems = Callable[[str], TestFilesystem]

TREE: Tree = {"Readme": File(b"new"), "NS/A.py": File(b"a"), "zz": File(b"z")}
THERE: Tree = {"README": File(b"old"), "ns/a.py": File(b"old"), "ns/theirs": File(b"theirs")}
AFTER = {"README": b"new", "ns/a.py": b"a", "ns/theirs": b"theirs", "zz": b"z"}


@pytest.fixture
def exfat(linkmode_fs_factory: Filesystems) -> str:
    return str(linkmode_fs_factory("exfat").path)


def contents(scene: Scene) -> dict[str, bytes]:
    """Return what the files of the target hold, by the names that its directories list."""
    return {path: seen.content for path, seen in scene.now().items() if seen.kind == "file"}


def test_what_keeps_no_permission_bits_is_told_before_it_holds_a_file_of_a_store(
    exfat: str,
) -> None:
    trees.build(f"{exfat}/source", {"a": File(b"a")})
    store = Store(f"{exfat}/store")
    with pytest.raises(LinkError, match="cannot be a store: its filesystem does not keep") as told:
        store.add(f"{exfat}/source")
    assert told.value.hint
    assert told.value.condition is Condition.UNSUPPORTED
    assert os.listdir(store.path) == []


def test_what_exfat_has_in_other_letters_is_replaced_under_them(exfat: str) -> None:
    scene = Scene(exfat, TREE, THERE)
    report = link_tree(scene.source, scene.target)
    assert report.replaced == 2
    assert contents(scene) == AFTER


@pytest.mark.parametrize("files", [1, 3])
def test_what_exfat_had_in_other_letters_is_put_back_under_them(exfat: str, files: int) -> None:
    scene = Scene(exfat, TREE, THERE)

    def progress(done: int, _all: int) -> None:
        if done >= files:
            raise injected(errno.EIO)

    with pytest.raises(OSError, match="Input"):
        link_tree(scene.source, scene.target, progress=progress)
    assert scene.untouched() == []


def test_one_file_is_linked_onto_a_name_in_other_letters(exfat: str) -> None:
    scene = Scene(exfat, TREE, THERE)
    link_file(f"{scene.source}/Readme", f"{scene.target}/rEADME")
    assert contents(scene)["README"] == b"new"


def test_a_file_that_was_only_moved_aside_gets_its_own_letters_again(exfat: str) -> None:
    """Where there are no hard links either, the undo may find the name missing."""
    scene = Scene(exfat, TREE, THERE)
    renames = Counter[str]()

    def deed(_number: int, name: str) -> None:
        renames[name] += 1
        if name == "rename" and 2 <= renames[name] <= 3:  # ours into its place; theirs back
            raise injected(errno.EIO)

    with pytest.raises(LinkError) as caught:
        link_tree(scene.source, scene.target, platform=Tap(deed, CALLS).platform)
    assert caught.value.condition is Condition.IO
    assert caught.value.left == ()
    assert renames["rename"] >= 3
    assert scene.untouched() == []


def without_swaps(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a model be a volume of HFS+, which has hard links and no call that swaps names."""
    if name != "renameatx_np":
        return function

    def refusing(source: int, old: bytes, target: int, new: bytes, flags: int) -> int:
        if flags & RENAME_SWAP:
            raise darwin_error("ENOTSUP")
        return int(function(source, old, target, new, flags))

    return refusing


@pytest.mark.parametrize("end", ["replaced", "put back"])
@pytest.mark.parametrize("mode", [LinkMode.HARDLINK, LinkMode.COPY])
def test_letters_are_kept_where_names_cannot_be_swapped_but_linked(
    scene: str, mode: LinkMode, end: str
) -> None:
    place = Scene(scene, TREE, THERE)
    platform = clonefile.platform(
        scene, quirks={Quirk.CASE_INSENSITIVE}, host=REFLINKING, wrap=without_swaps
    )

    def progress(done: int, every: int) -> None:
        if end == "put back" and done == every:
            raise injected(errno.EIO)

    if end == "put back":
        with pytest.raises(OSError, match="Input"):
            link_tree(place.source, place.target, mode=mode, platform=platform, progress=progress)
        assert place.untouched() == []
    else:
        link_tree(place.source, place.target, mode=mode, platform=platform, progress=progress)
        assert contents(place) == AFTER


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (["a", "A"], "A"),
        (["a"], "a"),
        (["\u00e4", "a"], "a"),
        (["b"], "A"),
        ([], "A"),
    ],
)
def test_a_name_is_found_in_other_letters_unless_it_is_there_itself(
    there: list[str], found: str
) -> None:
    assert spelled("A", there) == found


def test_a_name_that_two_others_are_like_stays_as_it_is() -> None:
    """Which of them is found is for the filesystem to say: some letters fold in several ways."""
    assert spelled("STRASSE", ["stra\u00dfe", "strasse"]) == "STRASSE"
