"""How layouts are placed: the two roots of a kind, made once, and what each test begins with."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_linkmode.filesystems.base import MIB
from pytest_linkmode.special.base import Bench, Site, begin_in_directories, make, put_directories

if TYPE_CHECKING:
    from pytest_linkmode.config import Settings
    from pytest_linkmode.filesystems.base import Kind


@contextmanager
def put_bind_mounts(site: Site) -> Iterator[tuple[str, str]]:
    """Show a directory of the source and one of the target by a mount each."""
    from pytest_linkmode.filesystems import mounts

    keep = site.settings.keep
    with put_directories(site) as (source, target):
        name = site.directory
        with (
            mounts.bound(site.place, f"{name}.source", source, keep=keep) as seen_source,
            mounts.bound(site.place, f"{name}.target", target, keep=keep) as seen_target,
        ):
            yield seen_source, seen_target


@contextmanager
def put_subvolumes(site: Site) -> Iterator[tuple[str, str]]:
    """Make a btrfs subvolume for each."""
    from pytest_linkmode.filesystems.btrfs import create_subvolume

    yield (
        create_subvolume(site.source.path, f"{site.directory}.source"),
        create_subvolume(site.target.path, f"{site.directory}.target"),
    )


@contextmanager
def put_nothing(site: Site) -> Iterator[tuple[str, str]]:
    """Leave it to `begin`: every test gets a filesystem of its own."""
    yield site.place.path, site.place.path


@contextmanager
def put_nocow_target(site: Site) -> Iterator[tuple[str, str]]:
    """Make directories of which that of the target is NOCOW, and so all that is made in it."""
    from pytest_linkmode.filesystems.attributes import FS_NOCOW_FL, change_flags

    with put_directories(site) as (source, target):
        change_flags(target, add=FS_NOCOW_FL)
        yield source, target


@contextmanager
def put_nocow_source(site: Site) -> Iterator[tuple[str, str]]:
    """Make directories of which that of the source is NOCOW, and so all that is made in it."""
    from pytest_linkmode.filesystems.attributes import FS_NOCOW_FL, change_flags

    with put_directories(site) as (source, target):
        change_flags(source, add=FS_NOCOW_FL)
        yield source, target


@contextmanager
def put_in_overlay(site: Site) -> Iterator[tuple[str, str]]:
    """Make both in the writable layer of one overlay."""
    from pytest_linkmode.filesystems.overlay import Layers, overlaid

    layers = Layers.below(make(site.source.path, site.directory))
    with overlaid(site.place, site.directory, layers, keep=site.settings.keep) as merged:
        yield make(merged, "source"), make(merged, "target")


@contextmanager
def put_target_in_overlay(site: Site) -> Iterator[tuple[str, str]]:
    """Make the target in an overlay, and the source beside its layers."""
    from pytest_linkmode.filesystems.overlay import Layers, overlaid

    below = make(site.source.path, site.directory)
    layers = Layers.below(below)
    with overlaid(site.place, site.directory, layers, keep=site.settings.keep) as merged:
        yield make(below, "source"), make(merged, "target")


@contextmanager
def put_far_down(site: Site) -> Iterator[tuple[str, str]]:
    """Make directories with the longest names there are, one below the other."""
    with put_directories(site) as roots:
        made = []
        for root in roots:
            path = root
            for letter in "abcdefgh":
                path = make(path, letter * NAME_MAX)
            made.append(path)
        yield made[0], made[1]


@contextmanager
def put_projects(site: Site) -> Iterator[tuple[str, str]]:
    """Give source and target a project id each, which all that is made in them takes over."""
    from pytest_linkmode.filesystems.attributes import set_project

    with put_directories(site) as (source, target):
        for project, path in enumerate((source, target), start=1001):
            set_project(path, project)
        yield source, target


NAME_MAX = 255


def begin_subvolume(site: Site, source_root: str, target_root: str, name: str) -> Bench:
    from pytest_linkmode.filesystems.btrfs import create_subvolume

    return Bench(site, create_subvolume(source_root, name), make(target_root, name))


def begin_long(site: Site, source_root: str, target_root: str, name: str) -> Bench:
    """Give the two directories themselves names to which nothing can be added."""
    return begin_in_directories(site, source_root, target_root, name.ljust(NAME_MAX, "x"))


def begin_symlinked(site: Site, source_root: str, target_root: str, name: str) -> Bench:
    bench = begin_in_directories(site, source_root, target_root, name)
    link = f"{bench.target}-link"
    os.symlink(bench.target, link)
    return Bench(site, bench.source, link)


def begin_below_overlay(site: Site, source_root: str, target_root: str, name: str) -> Bench:
    """Show what will be the lower layer, until it is sealed, where the overlay will be."""
    from pytest_linkmode.filesystems import mounts
    from pytest_linkmode.filesystems.overlay import Layers

    del target_root
    layers = Layers.below(make(source_root, name))
    with ExitStack() as stack:
        make(layers.lower, "source")
        make(layers.lower, "target")
        shown = stack.enter_context(mounts.bound(site.place, site.directory, layers.lower))
        source, target = os.path.join(shown, "source"), os.path.join(shown, "target")
        return Bench(site, source, target, stack.pop_all(), layers=os.path.dirname(layers.lower))


def begin_on_own(site: Site, source_root: str, target_root: str, name: str) -> Bench:
    """Make a small filesystem for this test alone, which may be filled up."""
    del source_root, target_root
    with ExitStack() as stack:
        root = stack.enter_context(_own(site))
        # Symlinks of short texts take no space on most filesystems; these are long ones.
        below = make(root, name.ljust(_PADDED, "-"))
        source, target = make(below, "source"), make(below, "target")
        return Bench(site, source, target, stack.pop_all())


def begin_on_disk(site: Site, source_root: str, target_root: str, name: str) -> Bench:
    """Make a filesystem for this test alone, in an image that can be edited."""
    from pytest_linkmode.filesystems import loop

    del source_root, target_root
    kind, settings = _own_kind(site)
    with ExitStack() as stack:
        disk, image = stack.enter_context(loop.disk(kind, site.place, settings))
        below = make(disk.path, name)
        bench = Bench(site, make(below, "source"), make(below, "target"))
        bench.disk = (disk.offline, image)
        bench.stack = stack.pop_all()
        return bench


_PADDED = 200


@dataclass(frozen=True)
class _Small:
    """What is other about a small filesystem of our own than the row of its kind says."""

    mkfs: tuple[str, ...] = ()
    options: str = ""
    size: int = 32 * MIB


_FEW_INODES = _Small(("-N", "512"))
_SMALL: Mapping[tuple[str, str], _Small] = {
    # With one copy of its metadata mkfs gives btrfs 8 MiB for it, which is what it holds back.
    ("full", "btrfs"): _Small(("-m", "dup"), size=1024 * MIB),
    ("full", "btrfs-compress"): _Small(("-m", "dup"), size=1024 * MIB),
    ("full-inodes", "ext4"): _FEW_INODES,
    ("full-inodes", "ext2"): _FEW_INODES,
    ("full-inodes", "tmpfs"): _Small(options="nr_inodes=512"),
    ("too-many-links", "btrfs"): _Small(("-O", "^extref")),
}
"""(special kind, filesystem) -> what is added to the row of the filesystem to make its own."""

_OWN_PROVIDERS = ("loop", "tmpfs")


def own_kind(kind: Kind) -> Kind:
    """Return the row of a filesystem that is made, whatever directories there are of it."""
    made = tuple(word for word in kind.providers if word in _OWN_PROVIDERS)
    return dataclasses.replace(kind, providers=made)


def own_settings(settings: Settings) -> Settings:
    """Return the settings by which a small filesystem of our own is made."""
    return dataclasses.replace(settings, dirs={}, provider=None, keep=False)


def _own_kind(site: Site) -> tuple[Kind, Settings]:
    from pytest_linkmode.filesystems import kind_of

    small = _SMALL.get((site.spec.kind, site.spec.target), _Small())
    kind = own_kind(kind_of(site.spec.target))
    options = ",".join(filter(None, (kind.options, small.options)))
    return (
        dataclasses.replace(kind, mkfs=kind.mkfs + small.mkfs, options=options),
        dataclasses.replace(own_settings(site.settings), image_size=small.size),
    )


@contextmanager
def _own(site: Site) -> Iterator[str]:
    from pytest_linkmode.filesystems import provider_of

    kind, settings = _own_kind(site)
    provider = provider_of(kind.providers[0])
    with provider.open(kind, site.place, settings) as made:
        yield made.path
