"""Evidence names a mode only where the disk proves it, and says so where it cannot."""

from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module

import pytest

from linker.modes import LinkMode
from pytest_linkmode import kernel, storage
from pytest_linkmode.errors import UsageError
from pytest_linkmode.evidence import Evidence, Found, Proof, evidence, evidence_tree
from pytest_linkmode.extents import Extent, ExtentFlag
from pytest_linkmode.fiemap import ExtentReader
from pytest_linkmode.filesystems import mounts
from pytest_linkmode.layouts import Layout, TestFilesystem
from pytest_linkmode.samples import Directory, File, Symlink, sample_tree, write_tree
from pytest_linkmode.snapshots import changes, snapshot
from pytest_linkmode.stash import session_of
from pytest_linkmode.storage import FICLONE, Trial

MODULE = import_module("pytest_linkmode.evidence")
"""The module: as an attribute of the package, `evidence` is the function."""

CLONE, HARDLINK, SYMLINK, COPY = LinkMode
ISOLATING = {CLONE, COPY}
BIG = 100_000
INLINE = 1000

FS_IOC_SETFLAGS = 0x40086602
FS_COMPR_FL = 0x00000004
FS_NOCOW_FL = 0x00800000

reflinking = pytest.mark.linkmode(needs="reflink")


def fill(path: pathlib.Path, size: int = BIG) -> pathlib.Path:
    path.write_bytes(os.urandom(size))
    return path


def clone(source: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    with source.open("rb") as ours, target.open("wb") as theirs:
        fcntl.ioctl(theirs.fileno(), FICLONE, ours.fileno())
    return target


def copy(source: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    target.write_bytes(source.read_bytes())
    return target


def set_flags(path: pathlib.Path, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, flags.to_bytes(8, "little"))
    finally:
        os.close(descriptor)


def of_pair(
    layout: Layout, size: int, make: Callable[[pathlib.Path, pathlib.Path], object]
) -> Evidence:
    source = fill(layout.source / "file", size)
    make(source, layout.target / "file")
    return evidence(source, layout.target / "file")


# --- sharing modes ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, INLINE, BIG])
@pytest.mark.linkmode(needs="hardlink")
def test_two_names_of_one_inode_are_a_hardlink(linkmode_layout: Layout, size: int) -> None:
    found = of_pair(linkmode_layout, size, lambda source, target: os.link(source, target))
    assert (found.mode, found.proof) == (HARDLINK, Proof.SAME_INODE)
    assert found.facts["target_links"] == 2


def test_a_file_is_no_link_of_itself(tmp_path: pathlib.Path) -> None:
    file = fill(tmp_path / "file")
    found = evidence(file, file)
    assert (found.mode, found.proof) == (None, Proof.ONE_NAME)
    assert not found.candidates


def test_files_without_numbers_are_not_taken_for_one(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on network drives of Windows that give none."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    file = fill(tmp_path / "here/file")
    made = copy(file, tmp_path / "there/file")
    stat_of, lstat_of = os.stat, os.lstat

    def numberless(seen: os.stat_result) -> os.stat_result:
        return os.stat_result((seen.st_mode, 0, *seen[2:]))

    monkeypatch.setattr(os, "stat", lambda *given, **more: numberless(stat_of(*given, **more)))
    monkeypatch.setattr(os, "lstat", lambda *given, **more: numberless(lstat_of(*given, **more)))
    found = evidence(file, made)
    itself = evidence(file, file)
    monkeypatch.undo()
    assert not found.allows(HARDLINK), found
    assert found.allows(COPY)
    assert itself.proof is Proof.ONE_NAME


def test_a_file_seen_through_a_symlinked_directory_is_no_link(tmp_path: pathlib.Path) -> None:
    file = fill(tmp_path / "file")
    (tmp_path / "other").symlink_to(tmp_path)
    assert evidence(file, tmp_path / "other/file").proof is Proof.ONE_NAME


@pytest.mark.linkmode(needs="symlink")
def test_a_symlink_to_the_source_as_given_is_a_symlink(linkmode_layout: Layout) -> None:
    found = of_pair(linkmode_layout, BIG, lambda source, target: target.symlink_to(source))
    assert (found.mode, found.proof) == (SYMLINK, Proof.LINK_TARGET)
    assert found.facts["absolute"] is True


def test_a_symlink_that_reaches_the_source_in_other_words_is_one_too(
    tmp_path: pathlib.Path,
) -> None:
    source = fill(tmp_path / "file")
    (tmp_path / "link").symlink_to("file")
    found = evidence(source, tmp_path / "link")
    assert (found.mode, found.proof) == (SYMLINK, Proof.LINK_TARGET)
    assert found.facts["absolute"] is False


@pytest.mark.parametrize("text", ["other", "nowhere", "link"])
def test_a_symlink_to_anything_else_is_no_link(tmp_path: pathlib.Path, text: str) -> None:
    source = fill(tmp_path / "file")
    copy(source, tmp_path / "other")
    (tmp_path / "link").symlink_to(text)
    found = evidence(source, tmp_path / "link")
    assert found.proof is Proof.DIFFERENT_LINK
    assert not found.candidates


def test_a_symlink_of_the_source_made_again_is_right_in_every_mode(tmp_path: pathlib.Path) -> None:
    (tmp_path / "source").symlink_to("no/such/name")
    (tmp_path / "target").symlink_to("no/such/name")
    found = evidence(tmp_path / "source", tmp_path / "target")
    assert (found.mode, found.proof) == (None, Proof.RECREATED)
    assert all(found.allows(mode) for mode in LinkMode)


# --- clones ----------------------------------------------------------------------------------


@reflinking
def test_a_clone_that_nobody_flushed_is_proven_by_its_extents(linkmode_layout: Layout) -> None:
    found = of_pair(linkmode_layout, BIG, clone)
    assert (found.mode, found.proof) == (CLONE, Proof.SHARED_EXTENTS)
    assert found.facts["extents"] == found.facts["shared_extents"]


@reflinking
def test_a_clone_with_holes_and_several_extents_is_proven(linkmode_layout: Layout) -> None:
    source = linkmode_layout.source / "file"
    write_tree(
        source.parent, [File("file", 900_000, holes=((100_000, 300_000), (500_000, 700_000)))]
    )
    target = clone(source, linkmode_layout.target / "file")
    found = evidence(source, target)
    assert found.mode is CLONE, found
    assert found.facts["extents"] == 3


@reflinking
def test_a_clone_of_a_clone_is_a_clone_of_the_first(linkmode_layout: Layout) -> None:
    source = fill(linkmode_layout.source / "file")
    between = clone(source, linkmode_layout.target / "between")
    assert evidence(source, clone(between, linkmode_layout.target / "last")).mode is CLONE


@reflinking
def test_that_somebody_shares_its_extents_makes_no_file_a_clone(linkmode_layout: Layout) -> None:
    # Both files are flagged shared: each with a clone of its own.
    source = fill(linkmode_layout.source / "file")
    target = copy(source, linkmode_layout.target / "file")
    clone(source, linkmode_layout.source / "third")
    clone(target, linkmode_layout.target / "third")
    found = evidence(source, target)
    assert found.facts["shared_extents"] == found.facts["extents"]
    assert (found.mode, found.proof) == (COPY, Proof.DIFFERENT_EXTENTS)


@reflinking
@pytest.mark.parametrize("offset", [0, 40_960, 98_304])
def test_a_clone_of_which_a_block_was_written_again_is_neither_clone_nor_copy(
    linkmode_layout: Layout, offset: int
) -> None:
    source = fill(linkmode_layout.source / "file")
    target = clone(source, linkmode_layout.target / "file")
    with target.open("r+b") as file:
        block = os.pread(file.fileno(), 4096, offset)
        os.pwrite(file.fileno(), block, offset)
    found = evidence(source, target)
    assert found.proof is Proof.PARTLY_SHARED
    assert not found.candidates


@reflinking
def test_a_clone_is_a_clone_no_more_when_a_byte_differs(linkmode_layout: Layout) -> None:
    source = fill(linkmode_layout.source / "file")
    target = clone(source, linkmode_layout.target / "file")
    with target.open("r+b") as file:
        before = os.pread(file.fileno(), 1, 70_000)
        os.pwrite(file.fileno(), bytes([before[0] ^ 1]), 70_000)
    found = evidence(source, target)
    assert found.proof is Proof.DIFFERENT_BYTES
    assert "70000" in found.why


@reflinking
def test_space_that_was_only_reserved_is_a_hole_to_a_clone(linkmode_layout: Layout) -> None:
    # xfs does not clone it, btrfs does.
    source = linkmode_layout.source / "file"
    with source.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 20)
        os.pwrite(file.fileno(), os.urandom(10_000), 0)
    assert evidence(source, clone(source, linkmode_layout.target / "file")).mode is CLONE


@pytest.mark.linkmode(layout=["btrfs", "btrfs+subvolume"])
def test_compressed_files_are_told_apart_like_others(linkmode_layout: Layout) -> None:
    for directory in (linkmode_layout.source, linkmode_layout.target):
        set_flags(directory, FS_COMPR_FL)
    source = linkmode_layout.source / "file"
    source.write_bytes(b"the same again and again " * 40_000)
    cloned = evidence(source, clone(source, linkmode_layout.target / "clone"))
    copied = evidence(source, copy(source, linkmode_layout.target / "copy"))
    assert int(str(cloned.facts["extents"])) > 1  # 128 KiB each: it was compressed
    assert (cloned.mode, copied.mode) == (CLONE, COPY)


@pytest.mark.linkmode(layout=["btrfs+subvolume"])
def test_a_clone_from_subvolume_to_subvolume_is_proven(linkmode_layout: Layout) -> None:
    found = of_pair(linkmode_layout, BIG, clone)
    assert found.mode is CLONE
    assert found.facts["source_device"] != found.facts["target_device"]


# --- copies ----------------------------------------------------------------------------------


def test_a_copy_is_known_as_one_in_every_layout(linkmode_layout: Layout) -> None:
    found = of_pair(linkmode_layout, BIG, copy)
    assert found.mode is COPY, found
    assert found.proof in (
        Proof.DIFFERENT_EXTENTS,
        Proof.DIFFERENT_FILESYSTEMS,
        Proof.INDEPENDENCE,
    )


@pytest.mark.linkmode(layout=["btrfs", "xfs", "xfs-noreflink", "ext4", "xfs+bind"])
def test_extents_tell_a_copy_within_a_filesystem(linkmode_layout: Layout) -> None:
    assert of_pair(linkmode_layout, BIG, copy).proof is Proof.DIFFERENT_EXTENTS


@pytest.mark.linkmode(layout=["btrfs", "xfs"])
@pytest.mark.parametrize("made", [shutil.copyfile, shutil.copy, shutil.copy2])
def test_the_copies_of_pythons_library_are_clones_from_3_14_on(
    linkmode_layout: Layout, made: Callable[[pathlib.Path, pathlib.Path], object]
) -> None:
    found = of_pair(linkmode_layout, BIG, made)
    assert found.mode is (CLONE if sys.version_info >= (3, 14) else COPY), found


@pytest.mark.linkmode(layout=["btrfs:tmpfs", "tmpfs:btrfs", "xfs:tmpfs", "tmpfs:xfs"])
def test_two_filesystems_with_storage_of_their_own_share_nothing(linkmode_layout: Layout) -> None:
    found = of_pair(linkmode_layout, BIG, copy)
    assert (found.mode, found.proof) == (COPY, Proof.DIFFERENT_FILESYSTEMS)
    assert "tmpfs" in found.why


@pytest.mark.linkmode(layout=["tmpfs", "tmpfs+bind"])
def test_a_filesystem_that_does_not_say_where_data_lies_is_tested_by_an_edit(
    linkmode_layout: Layout,
) -> None:
    found = of_pair(linkmode_layout, BIG, copy)
    assert (found.mode, found.proof) == (COPY, Proof.INDEPENDENCE)
    assert found.facts["clone_error"] == "EOPNOTSUPP"
    assert "tmpfs does not say" in found.why


@pytest.mark.parametrize("size", [0, 1, INLINE, BIG])
def test_other_bytes_are_no_link_whatever_the_mode(linkmode_layout: Layout, size: int) -> None:
    source = fill(linkmode_layout.source / "file", size + 1)
    found = evidence(source, fill(linkmode_layout.target / "file", size))
    assert found.proof is Proof.DIFFERENT_BYTES
    assert found.why == f"the source has {size + 1} bytes, the target {size}"
    assert not found.candidates


# --- what the kernel says late ---------------------------------------------------------------

Read = Callable[[ExtentReader, int], list[Extent]]


@pytest.fixture
def read_extents(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Read], Read]], None]:
    """Change what is read of extents."""

    def change(around: Callable[[Read], Read]) -> None:
        monkeypatch.setattr(ExtentReader, "read", around(ExtentReader.read))

    return change


@reflinking
@pytest.mark.parametrize("tree", [False, True])
def test_data_that_has_no_place_yet_is_flushed_and_asked_for_again(
    linkmode_layout: Layout,
    read_extents: Callable[[Callable[[Read], Read]], None],
    tree: bool,  # noqa: FBT001
) -> None:
    source = fill(linkmode_layout.source / "file")
    target = clone(source, linkmode_layout.target / "file")
    early = [Extent(0, 0, BIG, ExtentFlag.DELALLOC | ExtentFlag.UNKNOWN)]
    asked = []

    def late(real: Read) -> Read:
        def read(reader: ExtentReader, descriptor: int) -> list[Extent]:
            asked.append(descriptor)
            return real(reader, descriptor) if len(asked) > 2 else early

        return read

    read_extents(late)
    if tree:
        found = evidence_tree(linkmode_layout.source, linkmode_layout.target)[0].evidence
    else:
        found = evidence(source, target)
    assert found.mode is CLONE
    assert len(asked) == 4


@reflinking
def test_one_place_on_disk_that_is_never_flagged_as_shared_is_not_believed(
    linkmode_layout: Layout, read_extents: Callable[[Callable[[Read], Read]], None]
) -> None:
    asked = []

    def unshared(real: Read) -> Read:
        def read(reader: ExtentReader, descriptor: int) -> list[Extent]:
            asked.append(descriptor)
            found = real(reader, descriptor)
            return [each._replace(flags=each.flags & ~ExtentFlag.SHARED) for each in found]

        return read

    read_extents(unshared)
    found = of_pair(linkmode_layout, BIG, clone)
    assert (found.mode, found.proof) == (None, Proof.PARTLY_SHARED)
    assert "not flagged as shared" in found.why
    assert len(asked) == 4  # again after a flush


# --- filesystems on top of others ------------------------------------------------------------


@pytest.fixture
def overlay(
    linkmode_fs_factory: Callable[[str], TestFilesystem], request: pytest.FixtureRequest
) -> Iterator[Callable[[str, str], tuple[pathlib.Path, pathlib.Path]]]:
    """Mount an overlay; return its lower layer and the directory where both are seen as one."""
    with ExitStack() as stack:

        def mount(lower: str, upper: str) -> tuple[pathlib.Path, pathlib.Path]:
            below, above = linkmode_fs_factory(lower).path, linkmode_fs_factory(upper).path
            for name in ("upper", "work"):
                (above / name).mkdir()
            options = f"lowerdir={below},upperdir={above}/upper,workdir={above}/work"
            path = mounts.mounted(
                session_of(request.config).place,
                "overlay",
                lambda path: kernel.mount("overlay", path, "overlay", 0, options),
                source="overlay",
                fstype="overlay",
            )
            return below, pathlib.Path(stack.enter_context(path))

        yield mount


@pytest.mark.parametrize("filesystem", ["btrfs", "xfs"])
def test_an_overlay_over_one_filesystem_tells_clones_from_copies(
    overlay: Callable[[str, str], tuple[pathlib.Path, pathlib.Path]], filesystem: str
) -> None:
    below, seen = overlay(filesystem, filesystem)
    source = seen / fill(below / "file").name
    assert evidence(source, clone(source, seen / "clone")).mode is CLONE
    assert evidence(source, copy(source, seen / "copy")).proof is Proof.DIFFERENT_EXTENTS


@pytest.mark.parametrize(("lower", "upper"), [("btrfs", "xfs"), ("xfs", "btrfs")])
def test_layers_on_two_filesystems_are_not_held_against_each_other(
    overlay: Callable[[str, str], tuple[pathlib.Path, pathlib.Path]], lower: str, upper: str
) -> None:
    below, seen = overlay(lower, upper)
    source = seen / fill(below / "file").name
    found = evidence(source, copy(source, seen / "copy"))
    assert (found.mode, found.proof) == (COPY, Proof.INDEPENDENCE)
    assert found.facts["clone_error"] == "EXDEV"


def test_equal_places_of_two_layers_are_no_clone(
    overlay: Callable[[str, str], tuple[pathlib.Path, pathlib.Path]],
    read_extents: Callable[[Callable[[Read], Read]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As where the kernel gives both layers one device number, and chance one address.
    below, seen = overlay("btrfs", "xfs")
    source = seen / fill(below / "file").name
    target = copy(source, seen / "copy")
    monkeypatch.setattr(storage, "storage_of", lambda _: storage.Storage("0:1", "overlay"))
    by_chance = [Extent(0, 1 << 20, BIG, ExtentFlag.SHARED | ExtentFlag.LAST)]
    read_extents(lambda _: lambda reader, descriptor: by_chance)
    assert evidence(source, target).proof is Proof.INDEPENDENCE


# --- where clone and copy look alike ---------------------------------------------------------


@pytest.mark.linkmode(layout=["btrfs", "btrfs+subvolume", "btrfs+bind"])
@pytest.mark.parametrize("make", [clone, copy])
@pytest.mark.parametrize("size", [1, INLINE, 2048])
def test_inline_files_are_independent_and_either_a_clone_or_a_copy(
    linkmode_layout: Layout, make: Callable[[pathlib.Path, pathlib.Path], pathlib.Path], size: int
) -> None:
    found = of_pair(linkmode_layout, size, make)
    assert (found.mode, found.proof) == (None, Proof.INDEPENDENCE)
    assert found.candidates == ISOLATING
    assert found.facts["inline"] is True
    assert "inline" in found.why
    assert found.found == "clone or copy"


@pytest.mark.linkmode(layout=["btrfs"])
def test_an_inline_file_that_could_not_have_been_cloned_is_a_copy(linkmode_layout: Layout) -> None:
    source = fill(linkmode_layout.source / "file", INLINE)
    set_flags(linkmode_layout.target, FS_NOCOW_FL)
    found = evidence(source, copy(source, linkmode_layout.target / "file"))
    assert found.mode is COPY
    assert found.facts["clone_error"] == "EINVAL"


@pytest.mark.parametrize("size", [0, 70_000])
def test_files_without_data_are_either_where_a_clone_is_possible(
    linkmode_layout: Layout, size: int
) -> None:
    source, target = linkmode_layout.source / "file", linkmode_layout.target / "file"
    for file in (source, target):
        file.touch()
        os.truncate(file, size)
    found = evidence(source, target)
    if ":" in linkmode_layout.name and size:
        assert found.proof is Proof.DIFFERENT_FILESYSTEMS
    else:
        assert found.proof is (Proof.HOLES if size else Proof.EMPTY)
    assert found.candidates == (ISOLATING if "reflink" in linkmode_layout.can else {COPY})
    assert target.stat().st_blocks == 0


def test_where_cloning_cannot_be_tried_a_clone_is_not_believed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "try_clone", lambda *_: Trial(None, "EACCES"))
    (tmp_path / "source").touch()
    (tmp_path / "target").touch()
    found = evidence(tmp_path / "source", tmp_path / "target")
    assert found.mode is None
    assert found.candidates == {COPY}
    assert "EACCES" in found.why


def test_what_was_found_out_next_door_counts_where_cloning_cannot_be_tried(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a read-only directory of an ordinary user.
    rows = [File("a"), File("b"), File("c")]
    write_tree(tmp_path / "source", rows)
    write_tree(tmp_path / "target", rows)
    trials = iter([Trial(possible=True), Trial(None, "EACCES"), Trial(None, "EACCES")])
    monkeypatch.setattr(storage, "try_clone", lambda *_: next(trials))
    found = evidence_tree(tmp_path / "source", tmp_path / "target")
    assert [each.evidence.candidates for each in found] == [ISOLATING] * 3


# --- the edit is harmless --------------------------------------------------------------------


@pytest.mark.linkmode(layout=["btrfs", "tmpfs"])
@pytest.mark.parametrize("mode", [0o644, 0o444, 0o4755])
def test_looking_changes_neither_source_nor_target(linkmode_layout: Layout, mode: int) -> None:
    source = fill(linkmode_layout.source / "file", INLINE)
    target = copy(source, linkmode_layout.target / "file")
    target.chmod(mode)
    os.utime(target, ns=(5_000_000_007, 6_000_000_007))
    before = snapshot(linkmode_layout.source), snapshot(linkmode_layout.target)
    first = evidence(source, target)
    second = evidence(source, target)
    assert first.proof is Proof.INDEPENDENCE
    assert first == second
    assert changes(before[0], snapshot(linkmode_layout.source)) == []
    assert changes(before[1], snapshot(linkmode_layout.target)) == []


@pytest.mark.linkmode(layout=["btrfs", "tmpfs"])
def test_an_edit_is_taken_back_when_somebody_interrupts(
    linkmode_layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(linkmode_layout.source, [File(f"{number}", 500) for number in range(5)])
    write_tree(linkmode_layout.target, [File(f"{number}", 500) for number in range(5)])
    before = snapshot(linkmode_layout.target)
    flushed = []

    def interrupt(descriptor: int) -> None:
        flushed.append(snapshot(linkmode_layout.target))
        if changes(before, flushed[-1]):
            raise KeyboardInterrupt

    monkeypatch.setattr(storage, "flush", interrupt)
    with pytest.raises(KeyboardInterrupt):
        evidence_tree(linkmode_layout.source, linkmode_layout.target)
    assert len(changes(before, flushed[-1], but={"mtime"})) == 5
    assert changes(before, snapshot(linkmode_layout.target)) == []


@pytest.mark.linkmode(layout=["tmpfs"])
def test_an_edit_that_shows_in_the_source_disproves_independence(
    linkmode_layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a stacked filesystem would have it, one file under two inode numbers.
    source = fill(linkmode_layout.source / "file")
    os.link(source, linkmode_layout.target / "file")
    monkeypatch.setattr(MODULE, "_is_one", lambda *_: False)
    before = snapshot(linkmode_layout.source)
    found = evidence(source, linkmode_layout.target / "file")
    assert found.proof is Proof.DEPENDENCE
    assert not found.candidates
    assert changes(before, snapshot(linkmode_layout.source)) == []


@pytest.mark.linkmode(layout=["btrfs", "tmpfs"])
def test_an_edit_that_did_nothing_proves_nothing(
    linkmode_layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_linkmode.independence.Edit.make", lambda edit: None)
    found = of_pair(linkmode_layout, INLINE, copy)
    assert (found.proof, found.candidates) == (Proof.NONE, frozenset())
    assert "had no effect" in found.why


@pytest.mark.linkmode(layout=["btrfs", "tmpfs"])
def test_a_target_that_cannot_be_edited_proves_nothing(
    linkmode_layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = fill(linkmode_layout.source / "file", INLINE)
    target = copy(source, linkmode_layout.target / "file")

    def refuse(*_: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(MODULE, "Edit", refuse)
    found = evidence(source, target)
    assert (found.proof, found.facts["error"]) == (Proof.NONE, "EROFS")
    assert not found.candidates
    assert "Read-only file system" in found.why


# --- what is not there, or something else ----------------------------------------------------


def test_a_missing_file_is_evidence_and_no_error(tmp_path: pathlib.Path) -> None:
    file = fill(tmp_path / "file")
    missing = evidence(file, tmp_path / "missing")
    assert (missing.mode, missing.proof, missing.candidates) == (None, Proof.MISSING, frozenset())
    assert evidence(tmp_path / "missing", file).proof is Proof.STRANGER
    assert evidence(file, file / "below").proof is Proof.MISSING


def test_different_types_are_told_in_words(tmp_path: pathlib.Path) -> None:
    file = fill(tmp_path / "file")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("file")
    assert (
        evidence(file, tmp_path / "directory").why == "the source is a file, the target a directory"
    )
    assert evidence(tmp_path / "link", file).proof is Proof.DIFFERENT_TYPES
    assert evidence(tmp_path / "directory", tmp_path / "directory/..").proof is Proof.DIRECTORY


def test_a_second_name_of_a_symlink_is_the_symlink_made_again(tmp_path: pathlib.Path) -> None:
    (tmp_path / "link").symlink_to("somewhere")
    os.link(tmp_path / "link", tmp_path / "second", follow_symlinks=False)
    assert evidence(tmp_path / "link", tmp_path / "second").proof is Proof.RECREATED


def test_special_files_are_looked_at_without_being_opened(tmp_path: pathlib.Path) -> None:
    for name in ("one", "two"):
        os.mkfifo(tmp_path / name)
    found = evidence(tmp_path / "one", tmp_path / "two")
    assert (found.proof, found.why) == (Proof.NONE, "a fifo cannot be linked")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    assert evidence(tmp_path / "one", tmp_path / "socket").proof is Proof.DIFFERENT_TYPES


def test_names_of_any_bytes_are_taken_as_text_bytes_or_path(tmp_path: pathlib.Path) -> None:
    source = fill(tmp_path / os.fsdecode(b"\xe9\xff\n"))
    target = tmp_path / "target"
    os.link(source, target)
    for ours in (source, str(source), os.fsencode(source)):
        assert evidence(ours, os.fsencode(target)).mode is HARDLINK


# --- trees -----------------------------------------------------------------------------------


def by_path(found: list[Found]) -> dict[str, Evidence]:
    return {each.path: each.evidence for each in found}


@pytest.mark.parametrize("make", [clone, copy], ids=["clone", "copy"])
@reflinking
def test_a_tree_is_the_sum_of_its_files(
    linkmode_layout: Layout, make: Callable[[pathlib.Path, pathlib.Path], pathlib.Path]
) -> None:
    source, target = linkmode_layout.source, linkmode_layout.target
    sample_tree(source)
    for above, _, names in os.walk(source):
        below = target / os.path.relpath(above, source)
        below.mkdir(exist_ok=True)
        for name in names:
            place = pathlib.Path(above, name)
            if not place.is_symlink():
                make(place, below / name)
    found = evidence_tree(source, target)
    alone = {each.path: evidence(source / each.path, target / each.path) for each in found}
    assert by_path(found) == alone
    assert {each.mode for each in alone.values()} == {None, CLONE if make is clone else COPY}


def test_every_name_of_either_tree_is_told(tmp_path: pathlib.Path) -> None:
    ours, theirs = tmp_path / "source", tmp_path / "target"
    write_tree(ours, [File("a/same", 10), File("a/only", 10), File("gone/b/c", 10), Directory("d")])
    write_tree(
        theirs, [File("a/same", 10), File("a/more", 10), Directory("extra/e"), Directory("d")]
    )
    found = evidence_tree(ours, theirs)
    proofs = {each.path: each.evidence.proof for each in found}
    assert proofs.pop("a/same") in (Proof.DIFFERENT_EXTENTS, Proof.INDEPENDENCE)
    assert proofs == {
        "a": Proof.DIRECTORY,
        "a/only": Proof.MISSING,
        "a/more": Proof.STRANGER,
        "d": Proof.DIRECTORY,
        "extra": Proof.STRANGER,
        "extra/e": Proof.STRANGER,
        "gone": Proof.MISSING,
        "gone/b": Proof.MISSING,
        "gone/b/c": Proof.MISSING,
    }
    assert [each.path for each in found if each.source is None] == ["a/more", "extra", "extra/e"]


def test_names_come_in_the_order_of_a_tree(tmp_path: pathlib.Path) -> None:
    names = ["a", "a/b", "a/b/c", "a-b", "a.b", "ab"]
    write_tree(tmp_path / "source", [Directory(name) for name in names])
    write_tree(tmp_path / "target", [])
    found = evidence_tree(tmp_path / "source", tmp_path / "target")
    assert [each.path for each in found] == names


def test_what_is_skipped_is_skipped_with_all_that_is_below(tmp_path: pathlib.Path) -> None:
    write_tree(tmp_path / "source", [File("a/b", 10), File("c", 10)])
    write_tree(tmp_path / "target", [File("a/x", 10), File("c", 10)])
    found = evidence_tree(tmp_path / "source", tmp_path / "target", skip=lambda path: path == "a")
    assert [each.path for each in found] == ["c"]


@pytest.mark.linkmode(layout=["btrfs", "tmpfs"])
def test_more_files_than_are_edited_at_once_are_all_settled_and_put_back(
    linkmode_layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [File(f"{number % 7}/{number}", 200 + number) for number in range(300)]
    write_tree(linkmode_layout.source, rows)
    write_tree(linkmode_layout.target, rows)
    before = snapshot(linkmode_layout.target)
    descriptors = len(os.listdir("/proc/self/fd"))
    most = []
    real = storage.flush

    def flush(descriptor: int) -> None:
        most.append(len(os.listdir("/proc/self/fd")))
        real(descriptor)

    monkeypatch.setattr(storage, "flush", flush)
    found = evidence_tree(linkmode_layout.source, linkmode_layout.target)
    files = [each.evidence for each in found if each.source and stat.S_ISREG(each.source.st_mode)]
    assert len(files) == 300
    assert {each.proof for each in files} == {Proof.INDEPENDENCE}
    assert changes(before, snapshot(linkmode_layout.target)) == []
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert max(most) - descriptors < 300  # of 600, and of the usual limit of 1024
    assert len(most) == 3  # once a batch


@pytest.mark.linkmode(layout=["btrfs", "tmpfs"])
def test_a_disk_that_is_full_while_edits_are_flushed_proves_nothing(
    linkmode_layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [File(f"{number}", 500) for number in range(3)]
    write_tree(linkmode_layout.source, rows)
    write_tree(linkmode_layout.target, rows)
    before = snapshot(linkmode_layout.target)

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(storage, "flush", full)
    found = by_path(evidence_tree(linkmode_layout.source, linkmode_layout.target))
    assert [(each.proof, each.facts["error"]) for each in found.values()] == [
        (Proof.NONE, "ENOSPC")
    ] * 3
    assert changes(before, snapshot(linkmode_layout.target)) == []


@pytest.mark.linkmode(layout=["btrfs", "tmpfs"])
def test_a_walk_that_fails_leaves_no_file_open(linkmode_layout: Layout) -> None:
    rows = [File(f"{number}", 500) for number in range(9)]
    write_tree(linkmode_layout.source, rows)
    write_tree(linkmode_layout.target, rows)
    descriptors = len(os.listdir("/proc/self/fd"))

    def fail_at_last(path: str) -> bool:
        if len(os.listdir("/proc/self/fd")) > descriptors + 12:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        evidence_tree(linkmode_layout.source, linkmode_layout.target, skip=fail_at_last)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_tree_deeper_than_path_max_is_walked(tmp_path: pathlib.Path) -> None:
    depth, name = 30, "d" * 200
    for top in ("source", "target"):
        (tmp_path / top).mkdir()
        at = os.open(tmp_path / top, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir(name, dir_fd=at)
            below = os.open(name, os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = below
        os.close(os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        os.close(at)
    found = evidence_tree(tmp_path / "source", tmp_path / "target")
    assert len(found) == depth + 1
    assert found[-1].path == f"{name}/" * depth + "leaf"
    assert found[-1].evidence.proof is Proof.EMPTY


@pytest.mark.parametrize(
    ("target", "said"),
    [("missing", "No such file"), ("file", "Not a directory"), ("source", "the same directory")],
)
def test_a_root_that_cannot_be_right_is_refused(
    tmp_path: pathlib.Path, target: str, said: str
) -> None:
    (tmp_path / "source").mkdir()
    fill(tmp_path / "file")
    with pytest.raises(UsageError, match=said):
        evidence_tree(tmp_path / "source", tmp_path / target)


def test_roots_may_be_symlinks(tmp_path: pathlib.Path) -> None:
    write_tree(tmp_path / "a", [File("file", 10)])
    write_tree(tmp_path / "b", [])
    (tmp_path / "to-a").symlink_to("a")
    (tmp_path / "to-b").symlink_to("b")
    (tmp_path / "b/file").symlink_to(tmp_path / "to-a/file")
    found = evidence_tree(tmp_path / "to-a", tmp_path / "to-b")
    assert [each.evidence.mode for each in found] == [SYMLINK]
    assert found[0].evidence.facts["absolute"] is True


def test_links_that_a_tree_brings_are_held_against_their_text(tmp_path: pathlib.Path) -> None:
    write_tree(tmp_path / "source", [Symlink("same", "x"), Symlink("other", "x")])
    write_tree(tmp_path / "target", [Symlink("same", "x"), Symlink("other", "y")])
    found = by_path(evidence_tree(tmp_path / "source", tmp_path / "target"))
    assert found["same"].proof is Proof.RECREATED
    assert found["other"].proof is Proof.DIFFERENT_LINK


@pytest.mark.parametrize("system", ["darwin", "win32"])
@pytest.mark.parametrize("size", [INLINE, BIG])
@reflinking
def test_a_test_that_pretends_another_system_gets_the_evidence_of_this_one(
    linkmode_layout: Layout, monkeypatch: pytest.MonkeyPatch, size: int, system: str
) -> None:
    here = of_pair(linkmode_layout, size, clone)
    monkeypatch.setattr(sys, "platform", system)
    there = evidence(linkmode_layout.source / "file", linkmode_layout.target / "file")
    monkeypatch.undo()
    assert there == here
    assert there.allows(CLONE)


def test_evidence_speaks_in_one_sentence(tmp_path: pathlib.Path) -> None:
    source = fill(tmp_path / "file")
    os.link(source, tmp_path / "link")
    inode = source.stat().st_ino
    assert str(evidence(source, tmp_path / "link")) == (
        f"hardlink (same inode): both names are inode {inode}, which has 2 links"
    )
