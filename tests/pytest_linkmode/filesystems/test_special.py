"""Special layouts: each proves its premise, says how every mode ends, and is undone again."""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from linker import LinkError, LinkMode, link_tree
from linker.conditions import Condition, Primitive
from linker.policies import REFERENCE, UV
from pytest_linkmode import kernel, layouts, processes
from pytest_linkmode.assertions import LinkAssertionError, assert_linked
from pytest_linkmode.config import Settings
from pytest_linkmode.errors import LinkmodeError, Unavailable
from pytest_linkmode.filesystems import FILESYSTEMS, of_system
from pytest_linkmode.layouts import KINDS, Layout, LayoutSpec, Workshop, missing, parse, select
from pytest_linkmode.namespaces import Place
from pytest_linkmode.samples import File, write_tree
from pytest_linkmode.snapshots import changes, snapshot
from pytest_linkmode.special import sealing
from pytest_linkmode.special.base import Bench, begin_in_directories, put_directories

needs_root = pytest.mark.skipif(
    not kernel.may_mount(), reason="mounting needs CAP_SYS_ADMIN, which this user has not"
)

HERE = [name for name, kind in FILESYSTEMS.items() if of_system(kind) and not kind.machine]
SPECIAL = select(HERE, ["special"])
KNOWING = tuple(spec for spec in SPECIAL if not spec.plain)
MORE = ("btrfs:tmpfs+nested-mount", "tmpfs:btrfs+nested-mount", "disk+nested-mount")

PACKAGE = (
    File("package/__init__.py"),
    File("package/module.py", 9000),
    File("package/tool", 70_000, 0o755),
    File("other/data.bin", 70_000),
    File("readme", 3000),
)


@pytest.fixture
def layout(workshop: Workshop) -> Iterator[Callable[[str], Layout]]:
    """Make layouts by name, with a small package in the source, and undo them."""
    made: list[Layout] = []

    def make(name: str) -> Layout:
        made.append(workshop.layout(parse(name)))
        write_tree(made[-1].source, PACKAGE)
        return made[-1]

    yield make
    for each in made:
        each.close()


# Every one of them


@needs_root
@pytest.mark.parametrize("mode", LinkMode, ids=str)
@pytest.mark.parametrize("spec", [*SPECIAL, *map(parse, MORE)], ids=str)
def test_the_reference_linker_ends_where_the_layout_says(
    layout: Callable[[str], Layout], spec: LayoutSpec, mode: LinkMode
) -> None:
    made = layout(spec.name)
    made.seal()
    source, target = snapshot(made.source), snapshot(made.target)
    failure = made.failure(mode)
    assert spec.refuses or failure is None
    said = None
    with made.acting():
        try:
            link_tree(made.source, made.target, mode=mode)
        except LinkError as error:
            said = error.condition
    assert said is failure
    if failure is not None:
        assert changes(target, snapshot(made.target), but={"mtime"}) == []
    else:
        kept = [] if "coarse-times" in made.can else ["mtime"]
        kept += [] if "fixed-permissions" in made.can else ["permissions"]
        assert_linked(
            made.source,
            made.target,
            made.expected_tree(mode),
            existed=made.existed,
            ignore=made.strangers,
            stat=kept,
        )
        assert made.afterwards(mode) == ""
    assert changes(source, snapshot(made.source)) == []


@needs_root
@pytest.mark.parametrize("spec", SPECIAL, ids=str)
def test_nothing_of_it_is_left_when_it_is_closed(workshop: Workshop, spec: LayoutSpec) -> None:
    workshop.place(spec)
    before, umask = kernel.mounts(), os.umask(0o022)
    os.umask(umask)
    made = workshop.layout(spec)
    write_tree(made.source, PACKAGE)
    made.seal()
    with made.acting():
        pass
    made.close()
    assert kernel.mounts() == before
    assert not made.source.exists()
    assert not made.target.exists()
    assert os.geteuid() == 0
    assert os.umask(umask) == umask


@needs_root
@pytest.mark.parametrize("spec", KNOWING, ids=str)
def test_what_is_not_sealed_promises_nothing(
    layout: Callable[[str], Layout], spec: LayoutSpec
) -> None:
    made = layout(spec.name)
    if spec.row.seal is None:
        assert spec.row.acts
        return
    with pytest.raises(LinkmodeError, match=r"seal\(\) before linking"):
        made.expect(LinkMode.COPY)


# That two names collide is what +fold adds; its premise is the filesystem's.
UNMADE = [spec for spec in KNOWING if spec.row.seal is not None and spec.kind != "fold"]


@needs_root
@pytest.mark.parametrize("spec", UNMADE, ids=str)
def test_a_layout_whose_seal_does_nothing_is_an_error_of_ours(
    place: Place, monkeypatch: pytest.MonkeyPatch, spec: LayoutSpec
) -> None:
    idle = dataclasses.replace(spec.row, seal=_do_nothing)
    monkeypatch.setattr(layouts, "KINDS", {**KINDS, spec.kind: idle})
    workshop = Workshop(place, Settings())
    try:
        with pytest.raises(LinkmodeError, match="not what it should be") as caught:
            workshop.place(spec)
        assert not isinstance(caught.value, Unavailable)
    finally:
        workshop.close()


def _do_nothing(bench: Bench) -> None:
    if bench.region:
        os.makedirs(bench.special(bench.target), exist_ok=True)


PLAIN = [spec for spec in SPECIAL if spec.plain and spec.target in ("btrfs", "xfs")]


@needs_root
@pytest.mark.parametrize("spec", PLAIN, ids=str)
def test_a_layout_that_is_two_plain_directories_is_an_error_of_ours(
    place: Place, monkeypatch: pytest.MonkeyPatch, spec: LayoutSpec
) -> None:
    fake = dataclasses.replace(spec.row, put=put_directories, begin=begin_in_directories)
    monkeypatch.setattr(layouts, "KINDS", {**KINDS, spec.kind: fake})
    workshop = Workshop(place, Settings())
    try:
        with pytest.raises(LinkmodeError, match="not what it should be") as caught:
            workshop.place(spec)
        assert not isinstance(caught.value, Unavailable)
    finally:
        workshop.close()


@needs_root
def test_a_layout_that_leaks_its_premise_later_is_an_error_at_the_seal(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = workshop.layout(parse("ext4+too-many-links"))
    write_tree(made.source, PACKAGE)
    real = sealing._SEAL_LINKS
    monkeypatch.setattr(sealing, "_SEAL_LINKS", {**real, "ext4": lambda bench: None})
    with pytest.raises(LinkmodeError, match="can have a further link"):
        made.seal()
    made.close()


# Single ones


@needs_root
def test_sealing_twice_is_sealing_once(layout: Callable[[str], Layout]) -> None:
    made = layout("btrfs+snapshot")
    made.seal()
    inode = made.source.stat().st_ino
    made.seal()
    assert made.source.stat().st_ino == inode
    with pytest.raises(OSError, match="Read-only"):
        (made.source / "new").touch()


@needs_root
@pytest.mark.parametrize("name", ["btrfs+nested-mount", "btrfs+nocow-directory"])
def test_one_directory_is_its_own_pair(layout: Callable[[str], Layout], name: str) -> None:
    made = layout(name)
    made.seal(region="package")
    assert made.region == "package"
    assert made.expect_at("package/module.py", LinkMode.CLONE) is LinkMode.COPY
    assert made.expect_at("packages/module.py", LinkMode.CLONE) is LinkMode.CLONE
    assert made.expected_tree(LinkMode.CLONE) == {
        "package/__init__.py": LinkMode.COPY,
        "package/module.py": LinkMode.COPY,
        "package/tool": LinkMode.COPY,
        "other/data.bin": LinkMode.CLONE,
        "readme": LinkMode.CLONE,
    }


@needs_root
def test_the_first_directory_with_a_file_is_the_special_one(
    layout: Callable[[str], Layout],
) -> None:
    made = layout("tmpfs+nested-mount")
    made.seal()
    assert made.region == "other"
    assert made.existed == ("other",)
    assert os.path.ismount(made.target / "other")


@needs_root
def test_a_source_without_a_directory_cannot_be_sealed_where_one_is_special(
    workshop: Workshop,
) -> None:
    made = workshop.layout(parse("tmpfs+nested-mount"))
    (made.source / "file").touch()
    with pytest.raises(LinkmodeError, match="a directory that holds a file"):
        made.seal()
    made.close()


@needs_root
@pytest.mark.parametrize(
    "name", ["ext4+too-many-links", "xfs+too-many-links", "ext2+too-many-links"]
)
def test_a_file_with_as_many_links_as_can_be_has_no_room_anywhere(
    layout: Callable[[str], Layout], name: str
) -> None:
    made = layout(name)
    made.seal(region="package")
    for target in (made.target, made.source):
        with pytest.raises(OSError, match="Too many links") as caught:
            os.link(made.source / "package/module.py", target / "one-more")
        assert caught.value.errno == errno.EMLINK
    os.link(made.source / "other/data.bin", made.target / "one-more")


@needs_root
def test_a_full_directory_of_btrfs_takes_no_further_name_and_another_does(
    layout: Callable[[str], Layout],
) -> None:
    made = layout("btrfs+too-many-links")
    made.seal(region="package")
    for name in ("x", "tool", "y" * 255):
        with pytest.raises(OSError, match="Too many links"):
            os.link(made.source / "package/module.py", made.target / "package" / name)
    os.link(made.source / "package/module.py", made.target / "module.py")
    os.link(made.source / "other/data.bin", made.target / "package/data.bin")


@needs_root
def test_a_full_btrfs_still_clones_and_a_full_ext4_does_nothing(
    layout: Callable[[str], Layout],
) -> None:
    btrfs, ext4 = layout("btrfs+full"), layout("ext4+full")
    for made in (btrfs, ext4):
        made.seal()
    assert [btrfs.failure(mode) for mode in LinkMode] == [None, None, None, Condition.NO_SPACE]
    assert {ext4.failure(mode) for mode in LinkMode} == {Condition.NO_SPACE}
    with pytest.raises(OSError, match="No space"):
        (btrfs.target / "file").write_bytes(os.urandom(100_000))


@needs_root
def test_without_inodes_there_is_space_and_no_file(layout: Callable[[str], Layout]) -> None:
    made = layout("ext4+full-inodes")
    made.seal()
    found = os.statvfs(made.target)
    assert found.f_favail == 0
    assert found.f_bavail * found.f_frsize > 1 << 20
    with pytest.raises(OSError, match="No space"):
        (made.target / "file").touch()
    with (made.source / "readme").open("ab") as file:
        file.write(bytes(100_000))


@needs_root
def test_a_hard_link_out_of_an_image_layer_leaves_the_layer_alone(
    layout: Callable[[str], Layout],
) -> None:
    made = layout("ext4+overlay-lower")
    made.seal()
    assert made.bench is not None
    lower = Path(made.bench.layers, "lower/source/readme")
    upper = Path(made.bench.layers, "upper/source/readme")
    os.link(made.source / "readme", made.target / "readme")
    assert lower.stat().st_nlink == 1
    assert upper.stat().st_nlink == 2, "it was copied up"
    assert made.afterwards(LinkMode.HARDLINK) == ""
    assert made.afterwards(LinkMode.CLONE).endswith("was copied up readme")


@needs_root
def test_the_linker_of_another_owners_cache_is_an_ordinary_user(
    layout: Callable[[str], Layout],
) -> None:
    made = layout("tmpfs+other-owner")
    made.seal()
    with made.acting():
        assert os.geteuid() == sealing.LINKER
        assert os.getgroups() == []
        (made.target / "mine").touch()
        with pytest.raises(PermissionError):
            os.link(made.source / "readme", made.target / "readme")
        assert (made.source / "readme").read_bytes()
    assert os.geteuid() == 0
    assert (made.target / "mine").stat().st_uid == sealing.LINKER
    assert (made.source / "readme").stat().st_uid == sealing.OWNER


@needs_root
def test_hard_links_that_anybody_may_make_are_said_to_be_what_is_missing(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins

    made = workshop.layout(parse("ext4+other-owner"))
    (tmp_path / "sysctl").write_text("0\n")
    real = open

    def fake(path: object, *more: object, **named: object) -> object:
        shown = tmp_path / "sysctl" if path == "/proc/sys/fs/protected_hardlinks" else path
        return real(shown, *more, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(builtins, "open", fake)
    write_tree(made.source, PACKAGE)
    with pytest.raises(Unavailable, match="anybody may link anything") as caught:
        made.seal()
    assert caught.value.mends == ("sysctl fs.protected_hardlinks=1",)
    made.close()


@needs_root
def test_under_a_hostile_umask_only_the_linker_is(layout: Callable[[str], Layout]) -> None:
    made = layout("tmpfs+umask")
    with made.acting():
        (made.target / "inside").touch()
    (made.target / "outside").touch()
    assert stat.S_IMODE((made.target / "inside").stat().st_mode) == 0o600
    assert stat.S_IMODE((made.target / "outside").stat().st_mode) == 0o644


@needs_root
def test_a_name_as_long_as_can_be_is_part_of_both_paths(layout: Callable[[str], Layout]) -> None:
    made = layout("xfs+long-names")
    for path in (made.source, made.target):
        assert max(map(len, path.parts)) == 255
        assert 2000 < len(str(path)) < 3000
    assert made.can.results[Primitive.SYMLINK] is Condition.NAME_TOO_LONG
    assert made.expect(LinkMode.SYMLINK) is LinkMode.COPY
    assert layout("ext4+long-names").expect(LinkMode.SYMLINK) is LinkMode.SYMLINK


@needs_root
def test_a_policy_of_ones_own_is_asked_for_each_directory(
    layout: Callable[[str], Layout],
) -> None:
    made = layout("btrfs+nocow-directory")
    made.seal(region="package")
    assert made.expect_at("package/tool", LinkMode.CLONE, UV) is LinkMode.HARDLINK
    assert made.expect_at("package/tool", LinkMode.CLONE, REFERENCE) is LinkMode.COPY


@needs_root
def test_the_tree_that_is_expected_is_what_an_assertion_takes(
    layout: Callable[[str], Layout],
) -> None:
    made = layout("btrfs+nocow-directory")
    made.seal(region="package")
    link_tree(made.source, made.target, mode=LinkMode.COPY)
    with pytest.raises(LinkAssertionError) as caught:
        assert_linked(
            made.source, made.target, made.expected_tree(LinkMode.CLONE), existed=made.existed
        )
    assert [(row.path, row.expected, row.found) for row in caught.value.rows] == [
        ("other/data.bin", "clone", "copy"),
        ("readme", "clone", "copy"),
    ]


# What is missing


def test_a_recipe_that_needs_a_tool_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real = processes.which
    monkeypatch.setattr(
        processes, "which", lambda tool: None if tool == "debugfs" else real(tool) or tool
    )
    refusal = missing(parse("ext4+too-many-links"), Settings())
    assert refusal is not None
    assert any(line.startswith("debugfs: neither in PATH") for line in refusal.checked)
    assert any("e2fsprogs" in mend for mend in refusal.mends)


def test_what_needs_root_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    refusal = missing(parse("disk+other-owner"), Settings())
    assert refusal is not None
    assert "root, to become another user: missing" in refusal.checked


@needs_root
def test_a_directory_of_the_user_is_never_filled_up(workshop: Workshop, place: Place) -> None:
    named = workshop.directory("ext4")
    (Path(named) / "precious").write_text("mine")
    other = Workshop(place, Settings(dirs={"ext4": named}))
    try:
        made = other.layout(parse("ext4+full"))
        write_tree(made.source, PACKAGE)
        made.seal()
        assert made.source.stat().st_dev != os.stat(named).st_dev
    finally:
        other.close()
    assert os.listdir(named) == ["precious"]
    assert os.statvfs(named).f_bavail > 1000


@needs_root
def test_files_in_a_directory_of_the_user_are_never_made_immutable(
    workshop: Workshop, place: Place
) -> None:
    named = workshop.directory("ext4")
    other = Workshop(place, Settings(dirs={"ext4": named}))
    try:
        with pytest.raises(Unavailable, match="of our own making"):
            other.place(parse("ext4+immutable"))
    finally:
        other.close()
    assert os.listdir(named) == []


@needs_root
def test_the_words_of_the_table_are_those_of_the_issue() -> None:
    assert {
        *("bind", "subvolume", "snapshot", "nested-mount"),
        *("nocow", "nocow-source", "nocow-directory"),
        *("overlay-upper", "overlay-lower", "overlay-cross"),
        *("too-many-links", "read-only-source", "read-only-target", "full", "full-inodes"),
        *("fold", "other-owner", "immutable", "symlinked", "symlinked-directory"),
        *("long-names", "umask", "xfs-project"),
    } == set(KINDS)
