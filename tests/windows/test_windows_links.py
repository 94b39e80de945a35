"""What one call of Windows did, or did not: links that are looked for, flags, names, attributes.

Each test is of one line of `linker/platforms/windows.py` that a whole link would go without.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Callable
from typing import Any

import pytest

from linker import LinkError, LinkMode, link_tree
from linker.conditions import Condition
from linker.platforms import windows as w
from linker.platforms.base import Failed
from linker.platforms.windows import WindowsPlatform, refused
from tests.windows.conftest import Stand

JUNCTION = 0xA0000003


class Seen:
    """What lstat tells, but for some of it."""

    def __init__(self, seen: os.stat_result, **other: int) -> None:
        self._seen, self._other = seen, other

    def __getattr__(self, name: str) -> Any:
        return self._other[name] if name in self._other else getattr(self._seen, name)


def opened(stand: Stand, **calls: Callable[..., Any]) -> tuple[WindowsPlatform, int]:
    """Return a platform with some calls of ours, and a handle of the stand's directory."""
    platform = WindowsPlatform(dataclasses.replace(stand.calls, **calls))
    return platform, platform.open_root(stand.here)


def error_of(platform: WindowsPlatform, failed: pytest.ExceptionInfo[Failed]) -> str:
    return platform.error_name(failed.value.error)


# Links that are looked for.


def test_a_hard_link_that_was_reported_made_and_is_not_there_is_noticed(stand: Stand) -> None:
    stand.put("source/a", b"a")
    target = os.path.join(stand.here, "target")
    calls = dataclasses.replace(stand.calls, hardlink=lambda _new, _existing: None)
    platform = WindowsPlatform(calls)
    source = os.path.join(stand.here, "source")
    report = link_tree(source, target, mode=LinkMode.HARDLINK, platform=platform)
    assert report.counts == {LinkMode.COPY: 1}
    assert {t.edge.condition for t in report.transitions} == {Condition.NO_EFFECT}


def telling(name: str, **other: int) -> Callable[[str], Any]:
    """Return an lstat that tells something else of what has this name."""

    def lstat(path: str) -> Any:
        seen = os.lstat(path)
        return Seen(seen, **other) if os.path.basename(path) == name else seen

    return lstat


def like_a_symlink(name: str, **other: int) -> dict[str, Callable[..., Any]]:
    """Return calls for which the file of this name is a symlink that says `x/y`."""
    lstat = telling(name, st_mode=stat.S_IFLNK | 0o777, **other)
    return {"lstat": lstat, "readlink": lambda _path: "x/y"}


def test_a_symlink_of_the_source_that_is_not_there_afterwards_is_noticed(stand: Stand) -> None:
    stand.put("ln")
    platform, root = opened(stand, **like_a_symlink("ln"), symlink=lambda *_given: None)
    with pytest.raises(Failed, match="made nothing"):
        platform.recreate_symlink(root, "ln", root, "copy")
    platform.close(root)


# Flags and texts.


@pytest.mark.parametrize(("attributes", "flag"), [(0, 0), (w.ATTRIBUTE_DIRECTORY, 1)])
def test_a_symlink_that_says_it_leads_to_a_directory_is_made_anew_as_one(
    stand: Stand, attributes: int, flag: int
) -> None:
    stand.put("ln")
    asked: list[int] = []
    platform, root = opened(
        stand,
        **like_a_symlink("ln", st_file_attributes=attributes),
        symlink=lambda _new, _text, flags: asked.append(flags),
    )
    with pytest.raises(Failed, match="made nothing"):
        platform.recreate_symlink(root, "ln", root, "copy")
    assert asked == [w.SYMLINK_UNPRIVILEGED | flag]
    platform.close(root)


def test_a_symlink_that_says_it_leads_to_a_directory_is_removed_as_one(stand: Stand) -> None:
    stand.put("ln")
    removed: list[str] = []
    calls = like_a_symlink("ln", st_file_attributes=w.ATTRIBUTE_DIRECTORY)
    platform, root = opened(stand, **calls, rmdir=removed.append)
    platform.remove_file(root, "ln")
    assert [os.path.basename(path) for path in removed] == ["ln"]
    platform.close(root)


def test_who_has_no_right_to_make_symlinks_is_not_asked_a_second_time(stand: Stand) -> None:
    asked = []

    def symlink(_new: str, _text: str, flags: int) -> None:
        asked.append(flags)
        raise refused(w.NUMBERS["ERROR_PRIVILEGE_NOT_HELD"])

    platform, root = opened(stand, symlink=symlink)
    with pytest.raises(Failed) as failed:
        platform.symlink("x", root, "a")
    assert error_of(platform, failed) == "ERROR_PRIVILEGE_NOT_HELD"
    assert asked == [w.SYMLINK_UNPRIVILEGED]
    platform.close(root)


def test_a_symlink_is_told_in_the_separators_of_the_system(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    platform, root = opened(stand, symlink=lambda _new, text, _flags: told.append(text))
    monkeypatch.setattr(os, "sep", "\\")
    with pytest.raises(Failed, match="made nothing"):
        platform.symlink("up/down", root, "a")
    assert told == ["up\\down"]
    monkeypatch.undo()
    platform.close(root)


# Names.


@pytest.mark.parametrize("other", [{"st_mode": stat.S_IFLNK | 0o777}, {"st_reparse_tag": JUNCTION}])
def test_a_symlink_or_junction_is_never_gone_through(stand: Stand, other: dict[str, int]) -> None:
    stand.put("d/f")
    platform, root = opened(stand, lstat=telling("d", **other))
    with pytest.raises(Failed) as failed:
        platform.open_below(root, "d")
    assert error_of(platform, failed) == "ERROR_STOPPED_ON_SYMLINK"
    platform.close(root)


def test_a_file_that_is_found_by_its_short_name_keeps_its_long_one(stand: Stand) -> None:
    ours, long = stand.put("new", b"new"), stand.put("long name.txt", b"old")

    def lstat(asked: str) -> os.stat_result:
        return os.lstat(long if asked.endswith("LONGNA~1.TXT") else asked)

    platform, root = opened(stand, lstat=lstat, spelled=lambda _path: "long name.txt")
    platform.exchange_emulated(root, "new", root, "LONGNA~1.TXT")
    with open(long, "rb") as now, open(ours, "rb") as backup:
        assert (now.read(), backup.read()) == (b"new", b"old")
    assert sorted(os.listdir(stand.here)) == ["long name.txt", "new"]
    platform.close(root)


def test_every_path_is_asked_for_in_the_form_that_is_not_bound_to_260_characters(
    stand: Stand,
) -> None:
    """Wine is not bound to them in any form: there a link of long paths shows nothing."""
    made = []

    def extended(path: str) -> str:
        return stand.calls.extended(path) if stand.model is None else f"{path}/."

    def mkdir(path: str) -> None:
        made.append(path)
        os.mkdir(path)

    platform, root = opened(stand, extended=extended, mkdir=mkdir)
    platform.close(platform.make_directory(root, "d"))
    assert made == [os.path.join(extended(os.path.realpath(stand.here)), "d")]
    if stand.model is None:
        assert made[0].startswith("\\\\?\\")
    platform.close(root)


# Files that are replaced, cloned and copied.


def test_a_rename_that_is_refused_is_not_tried_in_the_other_way(stand: Stand) -> None:
    stand.put("source/a", b"new")
    stand.put("target/a", b"old")
    tried = []

    def rename(*_given: Any) -> None:
        raise refused(w.NUMBERS["ERROR_IO_DEVICE"])

    def move(old: str, new: str, flags: int) -> None:
        tried.append(flags)
        stand.calls.move(old, new, flags)

    platform = WindowsPlatform(dataclasses.replace(stand.calls, rename=rename, move=move))
    source, target = (os.path.join(stand.here, name) for name in ("source", "target"))
    with pytest.raises(LinkError, match="ERROR_IO_DEVICE"):
        link_tree(source, target, mode=LinkMode.COPY, platform=platform)
    assert w.MOVE_REPLACE not in tried
    with open(os.path.join(target, "a"), "rb") as file:
        assert file.read() == b"old"


@pytest.mark.parametrize("fails", [0, w.NUMBERS["ERROR_IO_DEVICE"]], ids=["replaced", "refused"])
def test_a_file_that_was_replaced_without_posix_renames_is_read_only_as_before(
    stand: Stand, fails: int
) -> None:
    """The attribute has to be taken off for that call, and is the file's, not the name's."""
    stand.put("source/a", b"new")
    old, cached = stand.put("target/a", b"old"), os.path.join(stand.here, "cached")
    os.link(old, cached)
    os.chmod(old, stat.S_IREAD)

    def unknown(*_given: Any) -> None:
        raise refused(w.NUMBERS["ERROR_INVALID_FUNCTION"])

    def move(old: str, new: str, flags: int) -> None:
        if fails and flags & w.MOVE_REPLACE:
            raise refused(fails)
        stand.calls.move(old, new, flags)

    platform, root = opened(stand, rename=unknown, move=move)
    source, target = (platform.open_below(root, name) for name in ("source", "target"))
    if fails:
        with pytest.raises(Failed):
            platform.exchange_emulated(source, "a", target, "a")
    else:
        platform.exchange_emulated(source, "a", target, "a")
    with open(os.path.join(stand.here, "target", "a"), "rb") as file:
        assert file.read() == (b"old" if fails else b"new")
    assert not os.stat(cached).st_mode & stat.S_IWRITE
    for handle in (source, target, root):
        platform.close(handle)


@pytest.mark.modelled
@pytest.mark.parametrize("sparse", [False, True])
def test_a_copy_on_a_volume_that_clones_shares_nothing(stand: Stand, *, sparse: bool) -> None:
    """As CopyFile2 would on a Dev Drive since Windows 11 24H2."""
    path = stand.put("source/a", os.urandom(70_000))
    assert stand.model is not None
    if sparse:
        stand.model.make_sparse(path)
    source, target = (os.path.join(stand.here, name) for name in ("source", "target"))
    report = link_tree(source, target, mode=LinkMode.COPY, platform=stand.platform)
    assert report.counts == {LinkMode.COPY: 1}
    assert stand.model.calls_made == []


def test_an_empty_file_is_no_clone_where_the_volume_clones_nothing(stand: Stand) -> None:
    """There is nothing of it to clone: only the volume itself can say that it would."""
    stand.put("source/empty", b"")
    calls = dataclasses.replace(stand.calls, volume_flags=lambda _handle: 0)
    source, target = (os.path.join(stand.here, name) for name in ("source", "target"))
    report = link_tree(
        source, target, mode=LinkMode.CLONE, platform=WindowsPlatform(calls, proof="modelled")
    )
    assert report.counts == {LinkMode.COPY: 1}


@pytest.mark.modelled
def test_the_checksums_of_a_clone_are_set_only_where_they_differ(stand: Stand) -> None:
    """Some volumes that clone refuse to set them: whoever need not ask does not."""
    stand.put("source/a", b"a" * 5000)
    asked = []

    def control(handle: int, code: int, data: bytes, size: int) -> bytes:
        asked.append(code)
        return stand.calls.control(handle, code, data, size)

    platform = WindowsPlatform(dataclasses.replace(stand.calls, control=control))
    source, target = (os.path.join(stand.here, name) for name in ("source", "target"))
    report = link_tree(source, target, mode=LinkMode.CLONE, platform=platform)
    assert report.counts == {LinkMode.CLONE: 1}
    assert w.FSCTL_DUPLICATE_EXTENTS_TO_FILE in asked
    assert w.FSCTL_SET_INTEGRITY_INFORMATION not in asked
