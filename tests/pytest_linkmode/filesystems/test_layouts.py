"""Layouts have stable names, are what these say, and give each test directories of its own."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from linker import LinkMode
from linker.conditions import Condition, Primitive
from linker.policies import REFERENCE, UV
from pytest_linkmode import capabilities, kernel, layouts, processes
from pytest_linkmode.config import Settings
from pytest_linkmode.errors import LinkmodeError, Unavailable, UsageError
from pytest_linkmode.filesystems import FILESYSTEMS, of_system, templates
from pytest_linkmode.layouts import (
    KINDS,
    LayoutSpec,
    Workshop,
    lacks,
    missing,
    parse,
    select,
    specials,
)
from pytest_linkmode.namespaces import Place
from pytest_linkmode.special import placing, proofs

needs_root = pytest.mark.skipif(
    not kernel.may_mount(), reason="mounting needs CAP_SYS_ADMIN, which this user has not"
)
Script = Callable[..., Any]

HERE = [name for name, kind in FILESYSTEMS.items() if of_system(kind) and not kind.machine] + [
    "disk",
    "shm",
]
"""What every machine on which we may mount has, where its tools are installed."""
EVERY = select(HERE) + select(["btrfs", "xfs", "ext4"], ["pairs"])
SPECIAL = select(HERE, ["special"])


def names(layouts: tuple[LayoutSpec, ...]) -> list[str]:
    return [spec.name for spec in layouts]


# Names


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("btrfs", LayoutSpec("btrfs", "btrfs")),
        ("btrfs:btrfs", LayoutSpec("btrfs", "btrfs")),
        ("btrfs:tmpfs", LayoutSpec("btrfs", "tmpfs")),
        ("xfs-noreflink:ext4", LayoutSpec("xfs-noreflink", "ext4")),
        ("xfs+bind", LayoutSpec("xfs", "xfs", "bind")),
        ("btrfs+subvolume", LayoutSpec("btrfs", "btrfs", "subvolume")),
    ],
)
def test_a_name_is_source_target_and_kind(name: str, spec: LayoutSpec) -> None:
    assert parse(name) == spec


@pytest.mark.parametrize("spec", EVERY, ids=str)
def test_a_name_means_the_layout_it_came_from(spec: LayoutSpec) -> None:
    assert parse(spec.name) == spec
    assert str(spec) == spec.name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "a name is missing"),
        ("btrfs:", "a name is missing"),
        (":tmpfs", "a name is missing"),
        ("btrfs+", "a name is missing"),
        ("btfs", "'btfs'"),
        ("btrfs:tmps", "'tmps'"),
        ("xfs+bnd", "'bnd'"),
        ("btrfs:tmpfs+bind", r"write btrfs\+bind or tmpfs\+bind"),
        ("xfs+subvolume", r"there is btrfs\+subvolume"),
        ("btrfs:xfs:ext4", "'xfs:ext4'"),
    ],
)
def test_a_wrong_name_is_a_usage_error_that_helps(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(name)


@pytest.mark.parametrize(
    ("name", "meant"), [("btfs", "btrfs"), ("xfs+bnd", "bind"), ("ext:tmpfs", "ext4")]
)
def test_a_wrong_name_suggests_the_right_one(name: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(name)
    assert meant in caught.value.hint


# Selection


def test_a_filesystem_stands_for_itself_its_special_layouts_and_a_partner_both_ways() -> None:
    assert names(select(["btrfs"])) == [
        "btrfs",
        "btrfs+bind",
        "btrfs+subvolume",
        "btrfs+nocow",
        "btrfs+nocow-source",
        "btrfs+overlay-upper",
        "btrfs+overlay-cross",
        "btrfs+symlinked",
        "btrfs+long-names",
        "btrfs:tmpfs",
        "tmpfs:btrfs",
    ]
    assert names(select(["xfs-noreflink"])) == [
        "xfs-noreflink",
        "xfs-noreflink+bind",
        "xfs-noreflink+xfs-project",
        "xfs-noreflink:tmpfs",
        "tmpfs:xfs-noreflink",
    ]


def test_special_layouts_that_a_test_has_to_know_of_are_asked_for() -> None:
    assert {"btrfs+snapshot", "btrfs+full", "btrfs+too-many-links"} <= set(
        names(specials(["btrfs"]))
    )
    assert names(specials(["exfat"])) == ["tmpfs:exfat+fold"]
    every = {*names(select(["btrfs"])), *names(specials(["btrfs"]))}
    assert set(names(select(["btrfs"], ["special"]))) == {name for name in every if "+" in name}


def test_the_partner_of_tmpfs_is_the_working_disk() -> None:
    assert names(select(["tmpfs"]))[-2:] == ["tmpfs:disk", "disk:tmpfs"]


def test_no_layout_is_selected_twice() -> None:
    selected = names(select(["btrfs", "tmpfs", "disk", "btrfs"]))
    assert len(selected) == len(set(selected))
    assert {"btrfs:tmpfs", "tmpfs:disk", "disk+bind"} <= set(selected)


def test_the_order_is_that_of_the_request_and_always_the_same() -> None:
    assert names(select(["xfs", "btrfs"])) == names(select(["xfs"])) + names(select(["btrfs"]))
    assert select(list(FILESYSTEMS)) == select(list(FILESYSTEMS))


def test_pairs_are_every_ordered_pair() -> None:
    assert names(select(["btrfs", "xfs"], ["pairs"])) == ["btrfs", "btrfs:xfs", "xfs:btrfs", "xfs"]
    assert len(select(list(FILESYSTEMS), ["pairs"])) == len(FILESYSTEMS) ** 2


def test_layouts_that_are_named_are_all_there_is() -> None:
    assert names(select(["btrfs"], ["xfs+bind", "ext4:xfs", "xfs+bind"])) == [
        "xfs+bind",
        "ext4:xfs",
    ]
    assert names(select(["btrfs"], ["xfs+bind", "pairs"])) == ["xfs+bind", "btrfs"]


def test_wrong_names_are_not_selected() -> None:
    with pytest.raises(UsageError):
        select(["btfs"])
    with pytest.raises(UsageError):
        select([], ["btrfs+nothing"])


# What they are


@needs_root
@pytest.mark.parametrize("spec", EVERY, ids=str)
def test_a_layout_is_what_its_name_says(workshop: Workshop, spec: LayoutSpec) -> None:
    placed = workshop.place(spec)
    assert not lacks(spec) & placed.can.names, "what the tables rule out is not there"
    layout = workshop.layout(spec)
    assert layout.plain
    (layout.source / "file").write_text("x")
    hardlinks = layout.can.results[Primitive.HARDLINK]
    if hardlinks is None:
        os.link(layout.source / "file", layout.target / "file")
        assert os.path.samefile(layout.source / "file", layout.target / "file")
    else:
        with pytest.raises(OSError, match=r"cross-device|not permitted"):
            os.link(layout.source / "file", layout.target / "file")
    one = "cross-device" not in layout.can and spec.kind != "subvolume"
    if spec.source == spec.target and not spec.kind.startswith("overlay"):
        assert (layout.source.stat().st_dev == layout.target.stat().st_dev) == (
            one or spec.kind in ("bind", "xfs-project")
        )
    layout.close()
    assert not layout.source.exists()


@needs_root
@pytest.mark.parametrize("name", ["btrfs+bind", "xfs+bind", "btrfs+subvolume"])
def test_a_clone_reaches_where_a_link_does_not(workshop: Workshop, name: str) -> None:
    layout = workshop.layout(parse(name))
    assert "reflink" in layout.can
    assert "hardlink" not in layout.can
    assert layout.expect(LinkMode.CLONE) is LinkMode.CLONE
    assert layout.expect(LinkMode.HARDLINK) is layout.expect("hardlink") is LinkMode.COPY
    with pytest.raises(UsageError, match="unknown link mode 'hardlnk'"):
        layout.expect("hardlnk")


@needs_root
@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("btrfs", ("clone", "hardlink", "symlink", "copy")),
        ("ext4", ("copy", "hardlink", "symlink", "copy")),
        ("xfs-noreflink", ("copy", "hardlink", "symlink", "copy")),
        ("btrfs:tmpfs", ("copy", "copy", "symlink", "copy")),
        ("tmpfs:disk", ("copy", "copy", "symlink", "copy")),
    ],
)
def test_every_mode_ends_where_the_reference_leads(
    workshop: Workshop, name: str, ends: tuple[str, ...]
) -> None:
    layout = workshop.layout(parse(name))
    assert tuple(str(layout.expect(mode)) for mode in LinkMode) == ends
    assert layout.expect(LinkMode.CLONE, REFERENCE) is layout.expect(LinkMode.CLONE)


@needs_root
def test_another_policy_leads_elsewhere(workshop: Workshop) -> None:
    assert workshop.layout(parse("ext4")).expect(LinkMode.CLONE, UV) is LinkMode.HARDLINK
    assert workshop.layout(parse("ext4:tmpfs")).expect(LinkMode.CLONE, UV) is LinkMode.COPY


@needs_root
@pytest.mark.parametrize(
    ("name", "put", "said"),
    [
        ("btrfs+bind", "put_directories", "a hard link is not refused as cross-device"),
        ("btrfs+subvolume", "put_directories", "a hard link is not refused as cross-device"),
        ("btrfs+subvolume", "put_bind_mounts", "the two are one subvolume"),
        ("btrfs+bind", "put_subvolumes", "device numbers differ"),
    ],
)
def test_a_special_layout_that_is_none_is_an_error_of_ours(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str, put: str, said: str
) -> None:
    spec = parse(name)
    fake = dataclasses.replace(spec.row, put=getattr(placing, put))
    monkeypatch.setattr(layouts, "KINDS", {**KINDS, spec.kind: fake})
    workshop = Workshop(place, Settings())
    try:
        with pytest.raises(LinkmodeError, match=said) as caught:
            workshop.place(spec)
        assert not isinstance(caught.value, Unavailable)
    finally:
        workshop.close()


@needs_root
def test_a_pair_that_is_one_filesystem_cannot_be_had(workshop: Workshop, place: Place) -> None:
    here = workshop.directory("ext4")
    other = Workshop(place, Settings(dirs={"disk": here, "shm": here}))
    try:
        with pytest.raises(Unavailable, match="source and target are one filesystem"):
            other.place(parse("disk:shm"))
        assert other.place(parse("disk")).can
    finally:
        other.close()
    assert os.listdir(here) == []


@needs_root
def test_a_clone_that_does_not_reach_across_is_seen(workshop: Workshop) -> None:
    placed = workshop.place(parse("btrfs+subvolume"))
    broken = dataclasses.replace(
        placed, can=dataclasses.replace(placed.can, names=placed.can.names - {"reflink"})
    )
    assert "a clone does not reach across" in proofs.prove_subvolume(broken)
    assert "a clone does not reach across" in proofs._clone_must_still_work(broken)


@pytest.mark.parametrize(
    "row", [*KINDS.values(), layouts.SAME, layouts.CROSS], ids=lambda r: r.name
)
def test_every_row_says_what_it_is_for(row: layouts.Special) -> None:
    assert len(row.purpose) > 30
    assert row.needs <= layouts.NEEDS.keys()
    assert row.lacks <= capabilities.CAPABILITIES.keys()
    assert (row.filesystems or frozenset()) <= FILESYSTEMS.keys()


# What is missing

HOST_REFUSES = "the right to mount in the namespace of the host (CAP_SYS_ADMIN): missing"


def test_a_layout_misses_what_its_filesystems_and_its_kind_miss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel, "may_mount", lambda: False)
    assert missing(parse("disk"), Settings()) is None
    refusal = missing(parse("disk+bind"), Settings(namespace="host"))
    assert refusal is not None
    assert refusal.checked == (HOST_REFUSES,)
    refusal = missing(parse("btrfs:disk"), Settings(provider="loop"))
    assert refusal is not None
    assert any("CAP_SYS_ADMIN" in line for line in refusal.checked)
    assert any("the only way to get disk" in line for line in refusal.checked)


def test_an_ordinary_user_has_no_bind_mounts_on_the_host_and_is_told_so(
    script: Script, everybodys_tmp: Path
) -> None:
    said = script(
        """
        become_nobody()
        workshop = Workshop(namespaces.find_place("host"), Settings())
        try:
            workshop.place(parse("disk+bind"))
        except Unavailable as error:
            show([error.what, error.checked])
        workshop.close()
        """,
        tmp=everybodys_tmp,
    )
    assert said == ["disk+bind cannot be had here", [HOST_REFUSES]]


def test_what_cannot_be_had_is_tried_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def run(arguments: Any, **more: Any) -> None:
        calls.append(arguments)
        raise processes.CommandFailed(arguments, 1, "no", why="exit status 1")

    monkeypatch.setattr(processes, "run", run)
    monkeypatch.setattr(processes, "which", lambda tool: tool)
    monkeypatch.setattr(kernel, "may_mount", lambda: True)
    monkeypatch.setattr(templates, "_templates", {})
    workshop = Workshop(place, Settings(provider="loop"))
    for _ in range(3):
        with pytest.raises(Unavailable):
            workshop.filesystem("ext4")
        with pytest.raises(Unavailable):
            workshop.place(parse("ext4"))
    assert len(calls) == 1
    assert workshop.filesystems == ()
    workshop.close()


# The workshop


@needs_root
def test_every_test_has_empty_directories_of_its_own(workshop: Workshop) -> None:
    seen = [workshop.fresh(parse(name)) for name in ("btrfs", "btrfs", "btrfs:tmpfs", "btrfs+bind")]
    seen += [(workshop.directory("btrfs"), workshop.directory("btrfs"))]
    paths = [path for pair in seen for path in pair]
    assert len(set(paths)) == len(paths)
    for path in paths:
        assert os.listdir(path) == []
        assert not any(other.startswith(path + "/") for other in paths)


@needs_root
def test_filesystems_are_made_once(workshop: Workshop) -> None:
    assert workshop.filesystem("btrfs") is workshop.filesystem("btrfs")
    assert workshop.place(parse("btrfs")) is workshop.place(parse("btrfs:btrfs"))
    assert workshop.can("btrfs") is workshop.can("btrfs")
    assert workshop.filesystem("btrfs") in workshop.filesystems


@needs_root
def test_two_workshops_do_not_meet(place: Place, workshop: Workshop) -> None:
    other = Workshop(place, Settings())
    try:
        mine, theirs = workshop.filesystem("ext4"), other.filesystem("ext4")
        assert os.stat(mine.path).st_dev != os.stat(theirs.path).st_dev
    finally:
        other.close()
    assert os.path.exists(workshop.directory("ext4"))


@needs_root
def test_closing_undoes_all_and_may_be_repeated(place: Place) -> None:
    before = kernel.mounts(), sorted(os.listdir(place.path))
    workshop = Workshop(place, Settings())
    for spec in select(["btrfs", "tmpfs"]):
        workshop.fresh(spec)
    disk = workshop.filesystem("disk").path
    workshop.close()
    workshop.close()
    assert (kernel.mounts(), sorted(os.listdir(place.path))) == before
    assert not os.path.exists(disk)


@needs_root
def test_threads_share_one_filesystem(place: Place) -> None:
    import threading

    workshop = Workshop(place, Settings())
    paths: list[str] = []
    threads = [
        threading.Thread(target=lambda: paths.extend(workshop.fresh(parse("ext4+bind"))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 16
    assert len(workshop.filesystems) == 1
    workshop.close()


def test_directories_of_the_machine_need_no_privileges(place: Place) -> None:
    workshop = Workshop(place, Settings(provider="machine"))
    try:
        layout = workshop.layout(parse("disk"))
        assert layout.name == "disk"
        assert layout.source.is_dir()
        assert layout.target.is_dir()
        assert layout.can.results.keys() == capabilities._ATTEMPTS.keys()
        assert Condition.CROSS_DEVICE not in layout.can.results.values()
    finally:
        workshop.close()
    assert not layout.source.exists()
