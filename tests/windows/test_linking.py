"""Linking on Windows: the rules of the linker, on the calls that Windows has."""

from __future__ import annotations

import dataclasses
import os
import stat

import pytest

from linker import Existing, LinkError, LinkMode, link_file, link_tree
from linker.conditions import Condition, Primitive
from linker.merging import BUSY_PATIENCE
from linker.platforms import windows as w
from linker.platforms.base import Failed, Kind
from linker.platforms.windows import Calls, WindowsPlatform, refused
from linker.store import Store, place_of
from tests.windows.conftest import Stand

CLONE, HARDLINK, SYMLINK, COPY = LinkMode
MODES = [
    pytest.param(CLONE, marks=pytest.mark.faked("block-clones")),
    HARDLINK,
    pytest.param(SYMLINK, marks=pytest.mark.faked("symlinks")),
    COPY,
]
FILES = {
    "top.txt": b"top",
    "empty": b"",
    "pkg/__init__.py": b"",
    "pkg/big.bin": bytes(range(256)) * 300,
    "pkg/deep/er/leaf": b"leaf",
}
PAST = 1_000_000_000_123_456_700
"""A time in steps of 100 ns, as NTFS keeps them."""


def fill(stand: Stand, files: dict[str, bytes] | None = None) -> tuple[str, str]:
    """Make a source; return it and the path of a target that is not there yet."""
    source = os.path.join(stand.here, "source")
    for name, content in (FILES if files is None else files).items():
        path = stand.put(os.path.join("source", *name.split("/")), content)
        os.utime(path, ns=(PAST, PAST))
    for directory, _, _ in os.walk(source):
        os.utime(directory, ns=(PAST, PAST))
    return source, os.path.join(stand.there, "target")


def tree(root: str) -> dict[str, tuple[bytes, int, bool]]:
    """Return what a tree holds: bytes, time, and whether it is read-only, by path."""
    found = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                content = file.read()
            seen = os.stat(path)
            key = os.path.relpath(path, root).replace(os.sep, "/")
            found[key] = (content, seen.st_mtime_ns, not seen.st_mode & stat.S_IWRITE)
    return found


def no_stage(path: str) -> bool:
    """Return whether nothing of ours lies in or beside a target."""
    around = os.listdir(os.path.dirname(path)) + (os.listdir(path) if os.path.isdir(path) else [])
    return not any(name.startswith(".linkmode") for name in around)


@pytest.mark.parametrize("mode", MODES)
def test_a_tree_is_linked_in_every_mode_with_the_same_stat(stand: Stand, mode: LinkMode) -> None:
    source, target = fill(stand)
    os.chmod(os.path.join(source, "top.txt"), stat.S_IREAD)
    report = link_tree(source, target, mode=mode, platform=stand.platform)
    assert report.counts == {mode: len(FILES)}
    assert report.transitions == ()
    assert tree(target) == tree(source)
    assert os.stat(os.path.join(target, "pkg", "deep")).st_mtime_ns == PAST
    assert no_stage(target)


@pytest.mark.parametrize("mode", MODES)
def test_linking_once_more_replaces_every_file(stand: Stand, mode: LinkMode) -> None:
    source, target = fill(stand)
    os.chmod(os.path.join(source, "top.txt"), stat.S_IREAD)
    link_tree(source, target, mode=COPY, platform=stand.platform)
    with open(os.path.join(target, "pkg", "big.bin"), "wb") as file:
        file.write(b"edited")
    report = link_tree(source, target, mode=mode, platform=stand.platform)
    assert report.replaced == len(FILES)
    assert tree(target) == tree(source)
    assert not os.stat(os.path.join(source, "top.txt")).st_mode & stat.S_IWRITE
    assert no_stage(target)


def test_a_hard_link_is_the_same_file_and_a_copy_another(stand: Stand) -> None:
    source, target = fill(stand)
    link_tree(source, target, mode=HARDLINK, platform=stand.platform)
    link_tree(source, target + "2", mode=COPY, platform=stand.platform)
    name = os.path.join("pkg", "big.bin")
    assert os.path.samefile(os.path.join(source, name), os.path.join(target, name))
    assert not os.path.samefile(os.path.join(source, name), os.path.join(target + "2", name))
    assert os.stat(os.path.join(source, name)).st_nlink == 2


@pytest.mark.parametrize("mode", [CLONE, HARDLINK])
def test_another_drive_gets_copies(stand: Stand, mode: LinkMode) -> None:
    source, _ = fill(stand)
    target = os.path.join(stand.elsewhere, "target")
    report = link_tree(source, target, mode=mode, platform=stand.platform)
    assert report.counts == {COPY: len(FILES)}
    assert {t.edge.condition for t in report.transitions} == {Condition.CROSS_DEVICE}
    assert tree(target) == tree(source)


def test_strict_says_that_another_drive_is_in_the_way(stand: Stand) -> None:
    source, _ = fill(stand)
    target = os.path.join(stand.elsewhere, "target")
    with pytest.raises(LinkError, match="ERROR_NOT_SAME_DEVICE"):
        link_tree(source, target, mode=HARDLINK, strict=True, platform=stand.platform)
    assert not os.path.exists(target)
    assert no_stage(target)


def test_existing_names_are_refused_before_anything_is_written(stand: Stand) -> None:
    source, target = fill(stand)
    stand.put("target/top.txt", b"mine", stand.there)
    with pytest.raises(LinkError, match=r"top\.txt exists already"):
        link_tree(source, target, mode=COPY, existing=Existing.FAIL, platform=stand.platform)
    assert tree(target).keys() == {"top.txt"}


def test_a_store_is_filled_linked_from_and_mended(stand: Stand) -> None:
    source, target = fill(stand)
    store = Store(os.path.join(stand.there, "store"), platform=stand.platform)
    manifest = store.add(source)
    assert store.link(manifest, target, mode=HARDLINK).counts == {HARDLINK: len(FILES)}
    kept = os.path.join(store.path, *place_of(manifest.files["top.txt"]).split("/"))
    assert os.path.samefile(kept, os.path.join(target, "top.txt"))
    os.chmod(kept, stat.S_IREAD | stat.S_IWRITE)
    with open(kept, "wb") as file:
        file.write(b"another")
    with pytest.raises(LinkError, match="was changed"):
        store.link(manifest, target + "2", mode=COPY)
    assert store.add(source) == manifest
    store.link(manifest, target + "2", mode=COPY)
    linked = tree(target + "2")
    assert {name: seen[0] for name, seen in linked.items()} == FILES
    assert all(read_only for _, _, read_only in linked.values())
    assert sorted(os.listdir(store.path)) == ["files", "store.json"]


def test_a_store_waits_for_who_gives_a_file_its_name(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who renames a file has it open, and a reader that does not share that is refused."""
    source, target = fill(stand)
    held, pauses = 0, list[float]()

    def opened(path: str, flags: int) -> int:
        nonlocal held
        held -= 1
        if held >= 0:
            raise refused(w.NUMBERS["ERROR_SHARING_VIOLATION"], path)
        return os.open(path, flags)

    platform = WindowsPlatform(dataclasses.replace(stand.calls, sleep=pauses.append))
    store = Store(os.path.join(stand.there, "store"), platform=platform)
    manifest = store.add(source)
    monkeypatch.setattr("linker.store._open", opened)
    held = 3
    assert store.link(manifest, target, mode=COPY).counts == {COPY: len(FILES)}
    assert (held < 0, len(pauses)) == (True, 3)

    held = 1000
    with pytest.raises(LinkError) as caught:
        store.link(manifest, target + "2", mode=COPY)
    assert caught.value.condition is Condition.BUSY
    assert len(pauses) == 3 + BUSY_PATIENCE
    assert not os.path.exists(target + "2")


def test_a_store_waits_to_mend_a_file_that_others_read(stand: Stand) -> None:
    source, _ = fill(stand, {"a": b"a"})
    readers: list[int] = []

    def sleep(_seconds: float) -> None:
        stand.calls.close(readers.pop())

    platform = WindowsPlatform(dataclasses.replace(stand.calls, sleep=sleep))
    store = Store(os.path.join(stand.there, "store"), platform=platform)
    manifest = store.add(source)
    kept = os.path.join(store.path, *place_of(manifest.files["a"]).split("/"))
    os.chmod(kept, stat.S_IREAD | stat.S_IWRITE)
    with open(kept, "wb") as file:
        file.write(b"another")
    for _ in range(2):
        share = w.SHARE_READ | w.SHARE_WRITE  # as Python opens files
        readers.append(stand.calls.open(kept, w.GENERIC_READ, share, w.OPEN_EXISTING, 0))
    assert store.add(source) == manifest
    assert readers == []
    store.check(manifest)
    assert sorted(os.listdir(store.path)) == ["files", "store.json"]


@pytest.mark.parametrize("name", ["a/../b", "../b", "a//b", "/b", "a/.", "a/nul:s"])
def test_a_name_that_could_lead_elsewhere_is_no_name(stand: Stand, name: str) -> None:
    stand.put("a/b", b"b")
    platform = stand.platform
    root = platform.open_root(stand.here)
    with pytest.raises(Failed) as caught:
        platform.look(root, name)
    assert platform.error_name(caught.value.error) == "ERROR_INVALID_NAME"
    assert platform.look(root, "a/b") is not None
    platform.close(root)


def test_a_read_only_file_is_replaced_and_its_other_names_stay_read_only(stand: Stand) -> None:
    source, target = fill(stand, {"a": b"new"})
    old = stand.put("target/a", b"old", stand.there)
    cached = os.path.join(stand.there, "cached")
    os.link(old, cached)
    os.chmod(old, stat.S_IREAD)
    link_tree(source, target, mode=COPY, platform=stand.platform)
    assert tree(target)["a"][0] == b"new"
    with open(cached, "rb") as file:
        assert file.read() == b"old"
    assert not os.stat(cached).st_mode & stat.S_IWRITE


def test_a_file_that_others_have_open_for_good_is_left_alone(stand: Stand) -> None:
    source, target = fill(stand, {"a": b"new", "b": b"b"})
    old = stand.put("target/a", b"old", stand.there)
    held = stand.calls.open(old, w.GENERIC_READ, w.SHARE_READ, w.OPEN_EXISTING, 0)
    calls = dataclasses.replace(stand.calls, sleep=lambda _seconds: None)
    try:
        with pytest.raises(LinkError, match="another program has it open") as caught:
            link_tree(source, target, mode=COPY, platform=WindowsPlatform(calls))
    finally:
        stand.calls.close(held)
    assert caught.value.condition is Condition.BUSY
    assert {name: seen[0] for name, seen in tree(target).items()} == {"a": b"old"}
    assert caught.value.left == ()
    assert no_stage(target)


def test_a_file_that_is_let_go_in_time_is_replaced(stand: Stand) -> None:
    source, target = fill(stand, {"a": b"new"})
    old = stand.put("target/a", b"old", stand.there)
    held = [stand.calls.open(old, w.GENERIC_READ, w.SHARE_READ, w.OPEN_EXISTING, 0)]
    pauses = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            stand.calls.close(held.pop())

    calls = dataclasses.replace(stand.calls, sleep=sleep)
    link_tree(source, target, mode=COPY, platform=WindowsPlatform(calls))
    assert tree(target)["a"][0] == b"new"
    assert len(pauses) == 3


@pytest.mark.faked("posix-rename")
def test_a_file_that_is_open_and_shared_is_replaced_at_once(stand: Stand) -> None:
    source, target = fill(stand, {"a": b"new"})
    old = stand.put("target/a", b"old", stand.there)
    held = stand.calls.open(old, w.GENERIC_READ, w.SHARE_ALL, w.OPEN_EXISTING, 0)
    try:
        link_tree(source, target, mode=COPY, platform=stand.platform)
        buffer = memoryview(bytearray(8))
        assert bytes(buffer[: stand.calls.read(held, buffer)]) == b"old"
    finally:
        stand.calls.close(held)
    assert tree(target)["a"][0] == b"new"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("NUL", "name of a device"),
        ("con.txt", "name of a device"),
        ("COM1", "name of a device"),
        ("dot.", "dot or space at the end"),
        ("space ", "dot or space at the end"),
        ("a:stream", "allows no ':'"),
        ("a\\b", "allows no '\\\\'"),
        ("what?", "allows no '?'"),
    ],
)
def test_a_name_that_windows_programs_cannot_use_is_refused(
    stand: Stand, name: str, why: str
) -> None:
    platform = stand.platform
    root = platform.open_root(stand.here)
    try:
        for make in (
            lambda: platform.make_directory(root, name),
            lambda: platform.symlink("x", root, name),
            lambda: platform.write_record(root, name, b""),
        ):
            with pytest.raises(Failed) as caught:
                make()
            assert why in str(caught.value.error.strerror)
            assert platform.error_name(caught.value.error) == "ERROR_INVALID_NAME"
    finally:
        platform.close(root)
    assert os.listdir(stand.here) == []


def test_names_of_more_than_260_characters_are_linked(stand: Stand) -> None:
    names = ["n" * 100] * 5
    platform = stand.platform
    handles = [platform.open_root(stand.here)]
    for name in ["source", *names]:
        handles.append(platform.make_directory(handles[-1], name))
    platform.write_record(handles[-1], "leaf", b"deep")
    target = os.path.join(stand.there, "target")
    report = link_tree(os.path.join(stand.here, "source"), target, mode=COPY, platform=platform)
    assert report.counts == {COPY: 1}
    at = platform.open_root(target)
    for name in names:
        handles.append(at)
        at = platform.open_below(at, name)
    assert platform.read_record(at, "leaf") == b"deep"
    for handle in (*handles, at):
        platform.close(handle)


def test_a_sibling_of_another_case_is_one_name_where_case_is_not_told(stand: Stand) -> None:
    source, target = fill(stand, {"pkg/a": b"a"})
    stand.put("target/PKG/B", b"b", stand.there)
    folds = os.path.exists(os.path.join(target, "pkg"))
    link_tree(source, target, mode=COPY, platform=stand.platform)
    assert len(os.listdir(target)) == (1 if folds else 2)
    assert tree(os.path.join(target, "pkg"))["a"][0] == b"a"
    with open(os.path.join(target, "PKG", "B"), "rb") as file:
        assert file.read() == b"b"


@pytest.fixture
def folding(stand: Stand) -> str:
    """A directory where upper and lower case are not told apart, as on most volumes of Windows."""
    if stand.model is not None:
        stand.volume(folds=True)
        return stand.there
    stand.put("lower", b"", stand.there)
    assert os.path.exists(os.path.join(stand.there, "LOWER"))
    os.unlink(os.path.join(stand.there, "lower"))
    return stand.there


@pytest.mark.modelled
def test_names_that_the_volume_folds_into_one_are_refused_before_anything_is_written(
    stand: Stand, folding: str
) -> None:
    source, _ = fill(stand, {"d/Read.me": b"a", "d/READ.ME": b"b", "f": b"f"})
    with pytest.raises(LinkError, match="does not tell upper from lower case"):
        link_tree(source, os.path.join(folding, "target"), mode=COPY, platform=stand.platform)
    assert os.listdir(folding) == []


OTHER_LETTERS = {"README": b"old", "ns/a.py": b"old", "ns/theirs": b"theirs"}


@pytest.fixture
def in_other_letters(stand: Stand, folding: str) -> tuple[str, str]:
    """A source, and a target that has some of its names in other letters."""
    source, _ = fill(stand, {"Readme": b"new", "NS/A.py": b"a", "zz": b"z"})
    for name, content in OTHER_LETTERS.items():
        stand.put(os.path.join("target", *name.split("/")), content, folding)
    return source, os.path.join(folding, "target")


def test_what_is_there_in_other_letters_is_replaced_under_its_name(
    stand: Stand, in_other_letters: tuple[str, str]
) -> None:
    source, target = in_other_letters
    report = link_tree(source, target, mode=COPY, platform=stand.platform)
    assert report.replaced == 2
    after = {**OTHER_LETTERS, "README": b"new", "ns/a.py": b"a", "zz": b"z"}
    assert {name: seen[0] for name, seen in tree(target).items()} == after


def test_what_was_there_in_other_letters_is_put_back_under_its_name(
    stand: Stand, in_other_letters: tuple[str, str]
) -> None:
    source, target = in_other_letters

    def move(old: str, new: str, flags: int) -> None:
        if new.endswith("zz"):
            raise refused(w.NUMBERS["ERROR_IO_DEVICE"])
        stand.calls.move(old, new, flags)

    platform = WindowsPlatform(dataclasses.replace(stand.calls, move=move))
    with pytest.raises(LinkError, match="ERROR_IO_DEVICE"):
        link_tree(source, target, mode=COPY, platform=platform)
    assert {name: seen[0] for name, seen in tree(target).items()} == OTHER_LETTERS


def test_what_was_only_moved_aside_gets_its_own_letters_again(
    stand: Stand, in_other_letters: tuple[str, str]
) -> None:
    """Where there are no hard links, as on FAT, an undo may find the name missing."""
    source, target = in_other_letters
    failing: list[str] = []

    def unknown(*_given: object) -> None:
        raise refused(w.NUMBERS["ERROR_INVALID_FUNCTION"])

    def move(old: str, new: str, flags: int) -> None:
        if flags & w.MOVE_REPLACE or len(failing) == 1:  # ours over theirs, and theirs back
            failing.append(new)
            raise refused(w.NUMBERS["ERROR_IO_DEVICE"])
        stand.calls.move(old, new, flags)

    calls = dataclasses.replace(stand.calls, hardlink=unknown, rename=unknown, move=move)
    with pytest.raises(LinkError, match="ERROR_IO_DEVICE") as caught:
        link_tree(source, target, mode=COPY, platform=WindowsPlatform(calls))
    assert caught.value.left == ()
    assert len(failing) == 2
    assert {name: seen[0] for name, seen in tree(target).items()} == OTHER_LETTERS
    assert no_stage(target)


@pytest.mark.modelled
def test_a_file_of_more_than_four_gibibytes_is_cloned_in_calls_that_are_shorter(
    stand: Stand,
) -> None:
    source, target = fill(stand, {})
    path = stand.put("source/large", b"")
    size = (9 << 30) + 5
    with open(path, "r+b") as file:
        file.truncate(size)
        for island in (0, (4 << 30) - 3, 9 << 30):
            file.seek(island)
            file.write(b"isle")
    assert stand.model is not None
    stand.model.make_sparse(path)
    report = link_tree(source, target, mode=CLONE, platform=stand.platform)
    assert report.counts == {CLONE: 1}
    calls = stand.model.calls_made
    assert [offset for offset, _ in calls] == [0, (4 << 30) - 4096, (8 << 30) - 8192]
    assert all(length % 4096 == 0 and length < 4 << 30 for _, length in calls)
    made = os.path.join(target, "large")
    assert os.path.getsize(made) == size
    with open(made, "rb") as file:
        for island in (0, (4 << 30) - 3, 9 << 30):
            file.seek(island)
            assert file.read(4) == b"isle"


@pytest.mark.modelled
@pytest.mark.parametrize("step", ["integrity", "sparse", "extend", "clone"])
def test_whatever_a_clone_fails_at_its_destination_is_removed(stand: Stand, step: str) -> None:
    source, _ = fill(stand, {"f": b"f" * 9000})
    assert stand.model is not None
    stand.model.set_checksums(os.path.join(source, "f"), 2)
    stand.model.make_sparse(os.path.join(source, "f"))
    codes = {
        "integrity": w.FSCTL_SET_INTEGRITY_INFORMATION,
        "sparse": w.FSCTL_SET_SPARSE,
        "clone": w.FSCTL_DUPLICATE_EXTENTS_TO_FILE,
    }
    there: list[list[str]] = []
    fresh = os.path.join(stand.there, "fresh")
    os.mkdir(fresh)

    def control(handle: int, code: int, data: bytes, size: int) -> bytes:
        if code == codes.get(step):
            there.append(os.listdir(fresh))
            raise refused(w.NUMBERS["ERROR_IO_DEVICE"])
        return stand.calls.control(handle, code, data, size)

    def extend(handle: int, size: int) -> None:
        if step == "extend":
            there.append(os.listdir(fresh))
            raise refused(w.NUMBERS["ERROR_IO_DEVICE"])
        stand.calls.extend(handle, size)

    platform = WindowsPlatform(dataclasses.replace(stand.calls, control=control, extend=extend))
    reading, writing = platform.open_root(source), platform.open_root(fresh)
    with pytest.raises(Failed) as caught:
        platform.clone_file(reading, "f", writing, "new")
    for handle in (reading, writing):
        platform.close(handle)
    assert caught.value.primitive is Primitive.CLONE_FILE
    assert there == [["new"]]
    assert os.listdir(fresh) == []


def test_a_file_is_linked_under_a_new_name(stand: Stand) -> None:
    source = stand.put("a", b"content")
    target = os.path.join(stand.there, "new", "b")
    report = link_file(source, target, mode=HARDLINK, platform=stand.platform)
    assert report.counts == {HARDLINK: 1}
    assert os.path.samefile(source, target)


def test_a_stage_that_is_in_use_is_locked_and_one_that_is_left_behind_is_removed(
    stand: Stand,
) -> None:
    source, target = fill(stand)
    os.mkdir(target)
    platform = stand.platform
    left, used = ".linkmode-stage-00000001", ".linkmode-stage-00000002"
    for name in (left, used):
        stand.put(os.path.join("target", name, "1"), b"half", stand.there)
    root = platform.open_root(target)
    held = platform.open_below(root, used)
    assert platform.lock(held)
    other = stand.platform
    again = other.open_root(os.path.join(target, used))
    assert not other.lock(again)
    other.close(again)
    link_tree(source, target, mode=COPY, platform=stand.platform)
    assert set(os.listdir(target)) == {"top.txt", "empty", "pkg", used}
    platform.close(held)
    link_tree(source, target, mode=COPY, platform=stand.platform)
    assert used not in os.listdir(target)
    platform.close(root)


STAGE = ".linkmode-stage-00000001"


def locked(platform: WindowsPlatform, stand: Stand) -> tuple[int, int]:
    """Make a stage and lock it; return its parent and the stage."""
    root = platform.open_root(stand.there)
    stage = platform.make_directory(root, STAGE)
    assert platform.lock(stage)
    assert platform.lock(stage)
    return root, stage


def test_a_locked_stage_takes_names_by_renames_and_hard_links(stand: Stand) -> None:
    platform = stand.platform
    root, stage = locked(platform, stand)
    stand.put("a", b"a")
    stand.put("b", b"b", stand.there)
    source = platform.open_root(stand.here)
    platform.hardlink(source, "a", stage, "1")
    platform.place(root, "b", stage, "2")
    assert sorted(platform.entries(stage).files) == ["1", "2"]
    for name in ("1", "2"):
        platform.remove_file(stage, name)
    platform.remove_directory(root, STAGE)
    assert os.listdir(stand.there) == []
    for handle in (source, stage, root):
        platform.close(handle)


def test_a_lock_is_no_entry_for_who_has_it_and_goes_before_a_rename(stand: Stand) -> None:
    platform = stand.platform
    root, stage = locked(platform, stand)
    assert not any(platform.entries(stage))
    platform.place(root, STAGE, root, "saved")
    assert os.listdir(os.path.join(stand.there, "saved")) == []
    other = stand.platform
    again = other.open_root(os.path.join(stand.there, "saved"))
    assert other.lock(again)
    other.close(again)
    for handle in (stage, root):
        platform.close(handle)


def test_a_locked_stage_goes_where_a_name_goes_with_its_last_handle(stand: Stand) -> None:
    opened, pending = dict[int, str](), set[str]()

    def open_(path: str, *rest: int) -> int:
        handle = stand.calls.open(path, *rest)
        opened[handle] = path
        return handle

    def close(handle: int) -> None:
        path = opened.pop(handle)
        stand.calls.close(handle)
        if path in pending:
            stand.calls.rmdir(path)

    def rmdir(path: str) -> None:
        if path in opened.values():
            pending.add(path)
        else:
            stand.calls.rmdir(path)

    calls = dataclasses.replace(stand.calls, open=open_, close=close, rmdir=rmdir)
    platform = WindowsPlatform(calls)
    root, stage = locked(platform, stand)
    platform.remove_directory(root, STAGE)
    assert pending
    assert os.listdir(stand.there) == []
    for handle in (stage, root):
        platform.close(handle)


def test_a_lock_that_cannot_be_made_is_told(stand: Stand) -> None:
    def mkdir(path: str) -> None:
        raise refused(w.NUMBERS["ERROR_DISK_FULL"], path)

    made = stand.platform
    root = made.open_root(stand.there)
    made.make_directory(root, STAGE)
    platform = WindowsPlatform(dataclasses.replace(stand.calls, mkdir=mkdir))
    with pytest.raises(Failed) as caught:
        platform.lock(platform.open_root(os.path.join(stand.there, STAGE)))
    assert caught.value.primitive is Primitive.LOCK
    assert platform.error_name(caught.value.error) == "ERROR_DISK_FULL"


def test_handles_follow_a_directory_that_we_rename(stand: Stand) -> None:
    platform = stand.platform
    root = platform.open_root(stand.here)
    made = platform.make_directory(root, "a")
    inside = platform.make_directory(made, "b")
    platform.place(root, "a", root, "c")
    platform.write_record(inside, "f", b"here")
    assert os.path.isfile(os.path.join(stand.here, "c", "b", "f"))
    assert platform.facts(made).inode == os.lstat(os.path.join(stand.here, "c")).st_ino
    for handle in (root, made, inside):
        platform.close(handle)


def test_a_name_that_is_taken_is_not_replaced_by_a_rename(stand: Stand) -> None:
    platform = stand.platform
    root = platform.open_root(stand.here)
    stand.put("a", b"a")
    stand.put("b", b"b")
    with pytest.raises(Failed) as caught:
        platform.place(root, "a", root, "b")
    assert caught.value.primitive is Primitive.RENAME
    assert platform.error_name(caught.value.error) == "ERROR_ALREADY_EXISTS"
    platform.close(root)


def test_a_directory_is_not_replaced_by_a_file(stand: Stand) -> None:
    platform = stand.platform
    root = platform.open_root(stand.here)
    stand.put("a", b"a")
    os.mkdir(os.path.join(stand.here, "b"))
    with pytest.raises(Failed) as caught:
        platform.exchange_emulated(root, "a", root, "b")
    assert platform.error_name(caught.value.error) == "ERROR_DIRECTORY_NOT_SUPPORTED"
    assert os.path.isdir(os.path.join(stand.here, "b"))
    platform.close(root)


def test_a_directory_that_takes_the_place_of_a_file_meanwhile_is_left_there(stand: Stand) -> None:
    source, target = fill(stand, {"a": b"new", "b": b"b"})
    old = stand.put("target/a", b"old", stand.there)

    def hardlink(new: str, existing: str) -> None:
        # After the last look: no hard links here, and by now a directory.
        os.unlink(old)
        stand.put("target/a/theirs", b"theirs", stand.there)
        raise refused(w.NUMBERS["ERROR_INVALID_FUNCTION"], new, existing)

    platform = WindowsPlatform(dataclasses.replace(stand.calls, hardlink=hardlink))
    with pytest.raises(LinkError) as caught:
        link_tree(source, target, mode=COPY, platform=platform)
    assert (caught.value.condition, caught.value.path) == (Condition.IS_DIRECTORY, "a")
    assert caught.value.left == ()
    assert {name: seen[0] for name, seen in tree(target).items()} == {"a/theirs": b"theirs"}
    assert no_stage(target)


@pytest.mark.faked("symlinks")
def test_a_symlink_in_the_target_is_never_followed(stand: Stand) -> None:
    source, target = fill(stand, {"pkg/a": b"a"})
    os.mkdir(target)
    os.mkdir(os.path.join(stand.there, "outside"))
    os.symlink(os.path.join(stand.there, "outside"), os.path.join(target, "pkg"))
    with pytest.raises(LinkError) as caught:
        link_tree(source, target, mode=COPY, platform=stand.platform)
    assert caught.value.condition is Condition.IS_SYMLINK
    assert os.listdir(os.path.join(stand.there, "outside")) == []


@pytest.mark.faked("symlinks")
def test_symlinks_of_the_source_are_made_anew(stand: Stand) -> None:
    source, target = fill(stand, {"a": b"a"})
    os.symlink("a", os.path.join(source, "ln"))
    report = link_tree(source, target, mode=COPY, platform=stand.platform)
    assert report.symlinks == 1
    assert os.readlink(os.path.join(target, "ln")) == "a"


def silent(calls: Calls) -> Calls:
    """Return calls that claim to have made a symlink and have not, as those of Wine do."""
    return dataclasses.replace(calls, symlink=lambda _new, _text, _flags: None)


def test_a_symlink_that_was_reported_made_and_is_not_there_is_noticed(stand: Stand) -> None:
    source, target = fill(stand)
    platform = WindowsPlatform(silent(stand.calls), proof="modelled")
    report = link_tree(source, target, mode=SYMLINK, platform=platform)
    assert report.counts == {COPY: len(FILES)}
    assert {t.edge.condition for t in report.transitions} == {Condition.NO_EFFECT}
    assert tree(target) == tree(source)


def test_a_system_that_knows_no_flag_for_ordinary_users_is_asked_without(stand: Stand) -> None:
    asked = []

    def symlink(_new: str, text: str, flags: int) -> None:
        asked.append((text, flags))
        if flags & w.SYMLINK_UNPRIVILEGED:
            raise refused(87)

    platform = WindowsPlatform(dataclasses.replace(stand.calls, symlink=symlink))
    root = platform.open_root(stand.here)
    for name in ("a", "b"):
        with pytest.raises(Failed, match="made nothing"):
            platform.symlink("x/y", root, name)
    text = f"x{os.sep}y"
    assert asked == [(text, 2), (text, 0), (text, 0)]
    platform.close(root)


def test_a_junction_is_told_apart_from_a_directory(stand: Stand) -> None:
    class Junction:
        name = "j"

        def is_junction(self) -> bool:
            return True

    class Listing(list[Junction]):
        def __enter__(self) -> Listing:
            return self

        def __exit__(self, *_: object) -> None:
            self.clear()

    calls = dataclasses.replace(stand.calls, scandir=lambda _path: Listing([Junction()]))
    platform = WindowsPlatform(calls)
    root = platform.open_root(stand.here)
    assert platform.entries(root).kinds() == {"j": Kind.OTHER}
    platform.close(root)


@pytest.mark.modelled
@pytest.mark.parametrize(
    ("behaviour", "mode", "condition"),
    [
        ({"clones": False}, CLONE, Condition.UNSUPPORTED),
        ({"references": 0}, CLONE, Condition.TOO_MANY_LINKS),
        ({"links": 1}, HARDLINK, Condition.TOO_MANY_LINKS),
        ({"symlinks": "refused"}, SYMLINK, Condition.DENIED),
        ({"symlinks": "silent"}, SYMLINK, Condition.NO_EFFECT),
    ],
)
def test_what_a_volume_refuses_is_copied(
    stand: Stand, behaviour: dict[str, object], mode: LinkMode, condition: Condition
) -> None:
    source, target = fill(stand, {"a": b"a" * 5000, "b": b"b" * 5000, "c": b"c"})
    stand.volume(**behaviour)
    report = link_tree(source, target, mode=mode, platform=stand.platform)
    assert report.counts == {COPY: 3}
    assert {t.edge.condition for t in report.transitions} == {condition}
    assert tree(target) == tree(source)


@pytest.mark.modelled
def test_a_full_volume_ends_it_and_nothing_is_left(stand: Stand) -> None:
    source, target = fill(stand)
    stand.volume(left=3)
    with pytest.raises(LinkError, match="ERROR_DISK_FULL") as caught:
        link_tree(source, target, mode=CLONE, platform=stand.platform)
    assert caught.value.condition is Condition.NO_SPACE
    assert os.listdir(stand.there) == []


@pytest.mark.modelled
@pytest.mark.parametrize("posix", [True, False])
def test_files_are_replaced_with_and_without_posix_renames(stand: Stand, *, posix: bool) -> None:
    stand.volume(posix=posix)
    source, target = fill(stand)
    os.chmod(os.path.join(source, "top.txt"), 0o444)
    for _ in range(2):
        report = link_tree(source, target, mode=CLONE, platform=stand.platform)
    assert report.replaced == len(FILES)
    assert tree(target) == tree(source)


@pytest.mark.modelled
def test_checksums_and_holes_of_the_source_are_the_clones_too(stand: Stand) -> None:
    source, target = fill(stand, {"sums": b"s" * 9000, "holes": b"h" * 5000})
    assert stand.model is not None
    stand.model.set_checksums(os.path.join(source, "sums"), 2, 1)
    stand.model.make_sparse(os.path.join(source, "holes"))
    report = link_tree(source, target, mode=CLONE, platform=stand.platform)
    assert report.counts == {CLONE: 2}
    assert report.transitions == ()
    assert tree(target) == tree(source)


@pytest.mark.modelled
def test_a_copy_leaves_out_the_holes_of_a_sparse_file(stand: Stand) -> None:
    source, target = fill(stand, {})
    path = stand.put("source/holes", b"")
    with open(path, "r+b") as file:
        file.truncate(1 << 20)
        file.seek(1 << 19)
        file.write(b"island")
    assert stand.model is not None
    stand.model.make_sparse(path)
    link_tree(source, target, mode=COPY, platform=stand.platform)
    made = os.path.join(target, "holes")
    assert tree(target) == tree(source)
    assert os.stat(made).st_blocks * 512 < 1 << 17  # type: ignore[attr-defined,unused-ignore]
