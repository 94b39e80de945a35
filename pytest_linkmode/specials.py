"""The table of special kinds: every way in which a cache and an environment can lie to each other.

A row says what the kind is for, what it needs, how it is placed, what has to be done to a source
once it is filled (sealing), how its premise is proven, and what follows that probing cannot tell.
`pytest_linkmode.layouts` makes layouts of it; nothing here is made before it is used.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from linker.conditions import Condition, Primitive
from pytest_linkmode import kernel
from pytest_linkmode.errors import LinkmodeError, Unavailable
from pytest_linkmode.filesystems.base import MIB, OwnedStack

if TYPE_CHECKING:
    from pytest_linkmode.capabilities import Capabilities
    from pytest_linkmode.config import Settings
    from pytest_linkmode.filesystems.base import Filesystem, Kind
    from pytest_linkmode.layouts import LayoutSpec
    from pytest_linkmode.namespaces import Place

CLONES_ACROSS_MOUNTS = (5, 18)
"""The first kernel that clones from one mount of a filesystem to another; before: EXDEV."""

MOUNT = "mount"
ROOT = "root"
OWN = "own"
NEEDS: Mapping[str, str] = {
    MOUNT: "the right to mount (CAP_SYS_ADMIN)",
    ROOT: "root, to become another user",
    OWN: "a filesystem of our own making, not a directory that is there already",
}
"""What a row may need beside its filesystems."""


@dataclass(frozen=True)
class Placed:
    """A layout that exists: two directories, and what can really be done between them.

    `inside` is what can be done into the one directory of the target that is special, where there
    is one. `within` is what can be done inside the filesystem of the source, which tells what a
    special kind took away.
    """

    spec: LayoutSpec
    source_root: str
    target_root: str
    can: Capabilities
    within: Capabilities
    inside: Capabilities | None = None


@dataclass(frozen=True)
class Site:
    """What a row needs to place a layout: where mounts may be made, and the two filesystems."""

    place: Place
    settings: Settings
    spec: LayoutSpec
    filesystem: Callable[[str], Filesystem]

    @property
    def source(self) -> Filesystem:
        """The filesystem of the source."""
        return self.filesystem(self.spec.source)

    @property
    def target(self) -> Filesystem:
        """The filesystem of the target."""
        return self.filesystem(self.spec.target)

    @property
    def directory(self) -> str:
        """The name of the layout as one that no shell or path list stumbles over."""
        return self.spec.name.replace(":", "-to-").replace("+", "-")


@dataclass
class Bench:
    """One source and one target in a layout, those of one test, and how to undo them.

    `region` is the path of the directory that is special, where there is one: known when the
    source is sealed. `existed` are names that the layout put into the target although the source
    has them too, `strangers` those that the source has not; both are glob patterns.
    """

    site: Site
    source: str
    target: str
    stack: ExitStack = field(default_factory=OwnedStack)
    sealed: bool = False
    region: str = ""
    existed: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    disk: tuple[Callable[[], AbstractContextManager[None]], str] | None = None
    layers: str = ""

    @property
    def place(self) -> Place:
        """Where mounts may be made."""
        return self.site.place

    def special(self, side: str) -> str:
        """Return the special directory of the source or the target."""
        return os.path.join(side, self.region)

    def regular_files(self) -> list[str]:
        """Return the paths of all regular files of the source that lie in the special directory."""
        return [
            os.path.join(above, name)
            for above, _, names in os.walk(self.special(self.source))
            for name in sorted(names)
            if stat.S_ISREG(os.lstat(os.path.join(above, name)).st_mode)
        ]


Begin = Callable[[Site, str, str, str], Bench]


def begin_in_directories(site: Site, source_root: str, target_root: str, name: str) -> Bench:
    """Make a directory of that name on either side."""
    return Bench(site, _make(source_root, name), _make(target_root, name))


@dataclass(frozen=True)
class Special:
    """One row: a way in which a source and a target can lie to each other.

    `purpose` says what it is for. `needs` is a subset of `NEEDS`, `tools` are programs by
    filesystem. `filesystems` are those it can be made on (None: on all) and `homes` those whose
    name alone selects it (None: the same); `alone` and `across` say whether it takes one filesystem
    or two. `lacks` are capabilities that it never has.

    `put` makes two directories once, as a context; `begin` makes a source and a target in them for
    one test; `seal` does what has to be done when the source is filled, `check` returns what is
    wrong then, and `acting` is a context in which the linker must be called. `prove` returns what
    is wrong with a layout that was probed, or an empty string. `region` tells that one directory
    of the tree is special. `fails` is the condition with which linking must fail although every
    primitive works. `afterwards` returns what is wrong after linking in a mode.
    """

    name: str
    purpose: str
    prove: Callable[[Placed], str]
    put: Callable[[Site], AbstractContextManager[tuple[str, str]]]
    begin: Begin = begin_in_directories
    seal: Callable[[Bench], None] | None = None
    check: Callable[[Bench], str] = lambda _bench: ""
    acting: Callable[[Bench], AbstractContextManager[None]] = lambda _bench: nullcontext()
    afterwards: Callable[[Bench, str], str] = lambda _bench, _mode: ""
    needs: frozenset[str] = frozenset()
    tools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    filesystems: frozenset[str] | None = None
    homes: frozenset[str] | None = None
    alone: bool = True
    across: bool = False
    lacks: frozenset[str] = frozenset()
    region: bool = False
    fails: Condition | None = None
    acts: bool = False

    def fits(self, filesystem: str) -> bool:
        """Whether it can be made on (where it takes two: into) the filesystem of that name."""
        return self.filesystems is None or filesystem in self.filesystems

    def at_home(self, filesystem: str) -> bool:
        """Whether the name of that filesystem alone selects it."""
        return self.fits(filesystem) and (self.homes is None or filesystem in self.homes)

    @property
    def plain(self) -> bool:
        """Whether a test needs to know nothing of it: all files end alike, and nothing fails.

        Otherwise the test has to seal the source, to call the linker as `acting` says, to ask where
        each file must end, or to expect a failure.
        """
        return self.seal is None and not self.acts and self.fails is None


# --- how layouts are placed -------------------------------------------------------------------


def _make(parent: str, name: str) -> str:
    path = os.path.join(parent, name)
    os.mkdir(path)
    return path


@contextmanager
def put_directories(site: Site) -> Iterator[tuple[str, str]]:
    """Make a directory on each filesystem; they go when their filesystem goes."""
    yield (
        _make(site.source.path, f"{site.directory}.source"),
        _make(site.target.path, f"{site.directory}.target"),
    )


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

    layers = Layers.below(_make(site.source.path, site.directory))
    with overlaid(site.place, site.directory, layers, keep=site.settings.keep) as merged:
        yield _make(merged, "source"), _make(merged, "target")


@contextmanager
def put_target_in_overlay(site: Site) -> Iterator[tuple[str, str]]:
    """Make the target in an overlay, and the source beside its layers."""
    from pytest_linkmode.filesystems.overlay import Layers, overlaid

    below = _make(site.source.path, site.directory)
    layers = Layers.below(below)
    with overlaid(site.place, site.directory, layers, keep=site.settings.keep) as merged:
        yield _make(below, "source"), _make(merged, "target")


@contextmanager
def put_far_down(site: Site) -> Iterator[tuple[str, str]]:
    """Make directories with the longest names there are, one below the other."""
    with put_directories(site) as roots:
        made = []
        for root in roots:
            path = root
            for letter in "abcdefgh":
                path = _make(path, letter * _NAME_MAX)
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


_NAME_MAX = 255


# --- what a test begins with ------------------------------------------------------------------


def _begin_subvolume(site: Site, source_root: str, target_root: str, name: str) -> Bench:
    from pytest_linkmode.filesystems.btrfs import create_subvolume

    return Bench(site, create_subvolume(source_root, name), _make(target_root, name))


def _begin_symlinked(site: Site, source_root: str, target_root: str, name: str) -> Bench:
    bench = begin_in_directories(site, source_root, target_root, name)
    link = f"{bench.target}-link"
    os.symlink(bench.target, link)
    return Bench(site, bench.source, link)


def _begin_below_overlay(site: Site, source_root: str, target_root: str, name: str) -> Bench:
    """Show what will be the lower layer, until it is sealed, where the overlay will be."""
    from pytest_linkmode.filesystems import mounts
    from pytest_linkmode.filesystems.overlay import Layers

    del target_root
    layers = Layers.below(_make(source_root, name))
    with ExitStack() as stack:
        _make(layers.lower, "source")
        _make(layers.lower, "target")
        shown = stack.enter_context(mounts.bound(site.place, site.directory, layers.lower))
        source, target = os.path.join(shown, "source"), os.path.join(shown, "target")
        return Bench(site, source, target, stack.pop_all(), layers=os.path.dirname(layers.lower))


def _begin_on_own(site: Site, source_root: str, target_root: str, name: str) -> Bench:
    """Make a small filesystem for this test alone, which may be filled up."""
    del source_root, target_root
    with ExitStack() as stack:
        root = stack.enter_context(_own(site))
        # Symlinks of short texts take no space on most filesystems; these are long ones.
        below = _make(root, name.ljust(_PADDED, "-"))
        source, target = _make(below, "source"), _make(below, "target")
        return Bench(site, source, target, stack.pop_all())


def _begin_on_disk(site: Site, source_root: str, target_root: str, name: str) -> Bench:
    """Make a filesystem for this test alone, in an image that can be edited."""
    from pytest_linkmode.filesystems import loop

    del source_root, target_root
    kind, settings = _own_kind(site)
    with ExitStack() as stack:
        disk, image = stack.enter_context(loop.disk(kind, site.place, settings))
        below = _make(disk.path, name)
        bench = Bench(site, _make(below, "source"), _make(below, "target"))
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


# --- what is done when a source is filled -----------------------------------------------------


def _seal_snapshot(bench: Bench) -> None:
    from pytest_linkmode.filesystems.btrfs import create_snapshot

    kept = f"{bench.source}-kept"
    os.rename(bench.source, kept)
    create_snapshot(kept, *os.path.split(bench.source))


def _seal_nested_mount(bench: Bench) -> None:
    from pytest_linkmode.filesystems import mounts

    path = bench.special(bench.target)
    os.makedirs(path, exist_ok=True)
    bench.existed.append(bench.region)
    site = bench.site
    if site.spec.source == site.spec.target:
        name = f"{site.directory}-nested"

        def mount(path: str) -> None:
            kernel.mount(name, path, "tmpfs", kernel.MS_NOSUID, "mode=0755")

        there = mounts.mounted_on(bench.place, path, mount, source=name, fstype="tmpfs")
    else:
        # The cache's own filesystem, in the midst of another.
        shown = _make(site.source.path, f"nested-{os.path.basename(bench.target)}")
        found = kernel.mount_of(shown)
        there = mounts.mounted_on(
            bench.place,
            path,
            lambda path: kernel.mount(shown, path, flags=kernel.MS_BIND),
            source=found.source if found else "",
            fstype=found.fstype if found else "",
        )
    bench.stack.enter_context(there)


def _seal_nocow_directory(bench: Bench) -> None:
    from pytest_linkmode.filesystems.attributes import FS_NOCOW_FL, change_flags

    path = bench.special(bench.target)
    os.makedirs(path, exist_ok=True)
    bench.existed.append(bench.region)
    change_flags(path, add=FS_NOCOW_FL)


def _seal_overlay(bench: Bench) -> None:
    from pytest_linkmode.filesystems import mounts
    from pytest_linkmode.filesystems.overlay import SOURCE, Layers

    layers = Layers(*(os.path.join(bench.layers, name) for name in ("lower", "upper", "work")))
    there = mounts.mounted_on(
        bench.place,
        os.path.dirname(bench.source),
        layers.mount,
        source=SOURCE,
        fstype="overlay",
    )
    bench.stack.enter_context(there)


def _seal_links(bench: Bench) -> None:
    _SEAL_LINKS[bench.site.spec.target](bench)


def _seal_links_by(edit: Callable[[list[int], str], None]) -> Callable[[Bench], None]:
    """Let an editor of images write the highest number of links into inodes."""

    def seal(bench: Bench) -> None:
        assert bench.disk is not None  # `begin` made it
        offline, image = bench.disk
        inodes = sorted({os.lstat(path).st_ino for path in bench.regular_files()})
        with offline():
            edit(inodes, image)

    return seal


def _edit_ext(inodes: list[int], image: str) -> None:
    from pytest_linkmode import processes

    orders = "".join(f"sif <{inode}> links_count {EXT4_LINK_MAX}\n" for inode in inodes)
    processes.run(("debugfs", "-w", "-f", "-", image), input=orders)


def _edit_xfs(inodes: list[int], image: str) -> None:
    from pytest_linkmode import processes

    orders: list[str] = []
    for inode in inodes:
        orders += ("-c", f"inode {inode}", "-c", f"write -d core.nlinkv2 {XFS_MAXLINK}")
    processes.run(("xfs_db", "-x", *orders, image))


def _seal_names(bench: Bench) -> None:
    """Give every file as many names in the special directory of the target as one directory takes.

    btrfs without `extref` keeps all names of an inode in a directory in one item. Another directory
    still takes the file.
    """
    directory = bench.special(bench.target)
    os.makedirs(directory, exist_ok=True)
    bench.existed.append(bench.region)
    bench.strangers.append(f"{TAKEN}*")
    for number, path in enumerate(bench.regular_files()):
        _take_all_names(path, os.path.join(directory, f"{TAKEN}{number}-"))


def _take_all_names(path: str, start: str) -> None:
    """Link a file under names that begin with `start` until not even a short one is left."""
    shortest, longest = len(os.path.basename(start)) + 1, _NAME_MAX
    count = 0
    while _take(path, start, count, longest):
        count += 1
    while True:
        fitting = [
            length
            for length in range(longest - 1, shortest, -1)
            if _take(path, start, count, length)
        ]
        count += bool(fitting)
        if fitting:
            break
        if not _take(path, f"{os.path.dirname(start)}/", 0, 1):
            break
        # There is room for a name shorter than ours: make it a little larger.
        os.unlink(f"{os.path.dirname(start)}/0")
        os.unlink(_taken(start, 0, longest))
        _take(path, start, 0, longest - shortest)


def _take(path: str, start: str, number: int, length: int) -> bool:
    try:
        os.link(path, _taken(start, number, length))
    except OSError as error:
        if not _is_too_many(error):
            raise
        return False
    return True


def _taken(start: str, number: int, length: int) -> str:
    name = f"{os.path.basename(start)}{number}"
    return os.path.join(os.path.dirname(start), name.ljust(length, "x"))


TAKEN = ".t-"
"""What the names begin with that fill a directory up."""

EXT4_LINK_MAX = 65000
"""<fs/ext4/ext4.h>"""
XFS_MAXLINK = (1 << 31) - 1
"""<fs/xfs/libxfs/xfs_format.h>"""

_SEAL_LINKS: Mapping[str, Callable[[Bench], None]] = {
    "ext4": _seal_links_by(_edit_ext),
    "ext2": _seal_links_by(_edit_ext),
    "xfs": _seal_links_by(_edit_xfs),
    "xfs-noreflink": _seal_links_by(_edit_xfs),
    "btrfs": _seal_names,
}


def _is_too_many(error: OSError) -> bool:
    import errno

    return error.errno == errno.EMLINK


def _seal_read_only(side: Callable[[Bench], str]) -> Callable[[Bench], None]:
    def seal(bench: Bench) -> None:
        from pytest_linkmode.filesystems import mounts

        bench.stack.enter_context(mounts.read_only(bench.place, side(bench)))

    return seal


def _seal_full(bench: Bench) -> None:
    """Take all the space for data that there is, without writing it."""
    directory = os.path.dirname(bench.source)
    ballast = os.open(os.path.join(directory, "ballast"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.fsync(ballast)
        step, size = 64 * MIB, 0
        while step >= _SMALLEST:
            try:
                os.posix_fallocate(ballast, size, step)
            except OSError as error:
                if not _is_no_space(error):
                    raise
                step //= 2
            else:
                size += step
    finally:
        os.close(ballast)


def _seal_full_inodes(bench: Bench) -> None:
    """Make empty files until no more can be made."""
    ballast = _make(os.path.dirname(bench.source), "ballast")
    for number in range(100_000):
        try:
            os.close(os.open(os.path.join(ballast, str(number)), os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            if not _is_no_space(error):
                raise
            return


_SMALLEST = 4096


def _is_no_space(error: OSError) -> bool:
    import errno

    return error.errno in (errno.ENOSPC, errno.EFBIG)


def _seal_fold(bench: Bench) -> None:
    directory = bench.special(bench.source)
    for name in COLLIDING:
        with open(os.path.join(directory, name), "xb") as file:
            file.write(f"this is {name}".encode())


COLLIDING = ("Colliding-Name", "colliding-name")
"""The two names that one name of a folding target would have to hold."""


def _seal_other_owner(bench: Bench) -> None:
    """Give the source to somebody else, for everybody to read, and the target to the linker."""
    for above, directories, names in os.walk(bench.source):
        for name in (".", *directories, *names):
            path = os.path.join(above, name)
            mode = os.lstat(path).st_mode
            if not stat.S_ISLNK(mode):
                readable = 0o555 if mode & 0o111 else 0o444
                os.chmod(path, (stat.S_IMODE(mode) | readable) & ~0o022)
            os.chown(path, OWNER, OWNER, follow_symlinks=False)
    for above, directories, names in os.walk(bench.target):
        for name in (".", *directories, *names):
            os.chown(os.path.join(above, name), LINKER, LINKER, follow_symlinks=False)


OWNER = 65533
LINKER = 65534
"""Two ordinary users: ids that need no entry anywhere. The second is the overflow id, `nobody`."""


def _seal_immutable(bench: Bench) -> None:
    from pytest_linkmode.filesystems.attributes import FS_IMMUTABLE_FL, change_flags

    for path in bench.regular_files():
        change_flags(path, add=FS_IMMUTABLE_FL)
        bench.stack.callback(change_flags, path, remove=FS_IMMUTABLE_FL)


def _seal_symlinked_directory(bench: Bench) -> None:
    elsewhere = f"{bench.target}-elsewhere"
    os.mkdir(elsewhere)
    path = bench.special(bench.target)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.symlink(elsewhere, path)


# --- what is wrong once it is sealed ----------------------------------------------------------


def _check_links(bench: Bench) -> str:
    """Look whether any file can be linked where it must not be."""
    directory = bench.special(bench.target)
    kept = os.path.isdir(directory)
    if not kept:
        os.makedirs(directory)
    try:
        for path in bench.regular_files():
            name = os.path.join(directory, "x")
            try:
                os.link(path, name)
            except OSError as error:
                if not _is_too_many(error):
                    return f"a further link of {path} ends in {error.strerror}"
            else:
                os.unlink(name)
                return f"{path} can have a further link"
    finally:
        if not kept:
            os.removedirs(directory) if not os.listdir(bench.target) else os.rmdir(directory)
    return "" if bench.regular_files() else f"there is no file in {bench.region}"


def _check_full(bench: Bench) -> str:
    path = os.path.join(bench.target, ".linkmode-full")
    try:
        with open(path, "xb") as file:
            file.write(os.urandom(1 << 16))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return "" if _is_no_space(error) else f"writing ends in {error.strerror}"
    finally:
        if os.path.lexists(path):
            os.unlink(path)
    return "64 KiB could still be written"


def _check_full_inodes(bench: Bench) -> str:
    path = os.path.join(bench.target, ".linkmode-full")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        return "" if _is_no_space(error) else f"making a file ends in {error.strerror}"
    os.unlink(path)
    return "a file could still be made"


def _after_overlay(bench: Bench, mode: str) -> str:
    """Look whether the image layer was copied up, though nothing asked for that."""
    upper = os.path.join(bench.layers, "upper", "source")
    if mode == "hardlink" or not os.path.isdir(upper):
        return ""
    raised = [name for _, _, names in os.walk(upper) for name in names]
    return f"files of the image layer were copied up: {', '.join(sorted(raised))}" if raised else ""


# --- how a linker is called -------------------------------------------------------------------


@contextmanager
def _as_another_user(_bench: Bench) -> Iterator[None]:
    """Be an ordinary user, with nothing of root but the way back."""
    groups = os.getgroups()
    os.setgroups([])
    os.setresgid(LINKER, LINKER, 0)
    os.setresuid(LINKER, LINKER, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


@contextmanager
def _under_a_hostile_umask(_bench: Bench) -> Iterator[None]:
    before = os.umask(HOSTILE_UMASK)
    try:
        yield
    finally:
        os.umask(before)


HOSTILE_UMASK = 0o077
"""Nobody but the owner, unless it is told otherwise."""


# --- how their premises are proven ------------------------------------------------------------


def _met(placed: Placed, primitive: Primitive) -> Condition | None:
    return placed.can.results[primitive]


def _prove_same(placed: Placed) -> str:
    for primitive, condition in placed.can.results.items():
        if condition is Condition.CROSS_DEVICE:
            return f"{primitive} says that source and target are two filesystems"
    return ""


def _prove_cross(placed: Placed) -> str:
    if "cross-device" not in placed.can:
        return f"source and target are one filesystem ({placed.can.why['cross-device']})"
    return ""


def _prove_bind(placed: Placed) -> str:
    refused = _link_must_not_cross(placed)
    if refused:
        return refused
    if os.stat(placed.source_root).st_dev != os.stat(placed.target_root).st_dev:
        return "the two mounts do not show one filesystem: their device numbers differ"
    return _clone_must_still_work(placed) if kernel.release() >= CLONES_ACROSS_MOUNTS else ""


def _prove_subvolume(placed: Placed) -> str:
    refused = _link_must_not_cross(placed)
    if refused:
        return refused
    if os.stat(placed.source_root).st_dev == os.stat(placed.target_root).st_dev:
        return "the two are one subvolume: their device numbers are equal"
    return _clone_must_still_work(placed)


def _link_must_not_cross(placed: Placed) -> str:
    if _met(placed, Primitive.HARDLINK) is Condition.CROSS_DEVICE:
        return ""
    return f"a hard link is not refused as cross-device ({placed.can.why['hardlink']})"


def _clone_must_still_work(placed: Placed) -> str:
    if "reflink" in placed.within and "reflink" not in placed.can:
        return f"a clone does not reach across ({placed.can.why['reflink']})"
    return ""


def _prove_snapshot(placed: Placed) -> str:
    return _prove_subvolume(placed) or _must_not_be_writable(placed.source_root)


def _must_not_be_writable(directory: str) -> str:
    path = os.path.join(directory, ".linkmode-writable")
    try:
        os.mkdir(path)
    except OSError:
        return ""
    os.rmdir(path)
    return f"{directory} can be written to"


def _prove_nested_mount(placed: Placed) -> str:
    assert placed.inside is not None
    if placed.inside.results == placed.can.results:
        return "the directory inside the target is not refused anything"
    return ""


def _prove_nocow(placed: Placed) -> str:
    if _met(placed, Primitive.CLONE_FILE) is Condition.ATTRIBUTE:
        return ""
    return f"a clone is not refused for the attribute ({placed.can.why['reflink']})"


def _prove_nocow_directory(placed: Placed) -> str:
    assert placed.inside is not None
    if placed.inside.results[Primitive.CLONE_FILE] is not Condition.ATTRIBUTE:
        why = placed.inside.why["reflink"]
        return f"a clone into the directory is not refused for the attribute ({why})"
    return _clone_must_still_work(placed)


def _prove_overlay_upper(placed: Placed) -> str:
    return _prove_same(placed) or _must_be_overlay(placed.target_root)


def _must_be_overlay(directory: str) -> str:
    there = kernel.mount_of(directory)
    if there is not None and there.fstype == "overlay":
        return ""
    return f"{directory} does not lie on an overlay"


def _prove_overlay_cross(placed: Placed) -> str:
    if not _must_be_overlay(placed.source_root):
        return f"{placed.source_root} lies on an overlay"
    return _prove_cross(placed) or _must_be_overlay(placed.target_root)


def _check_overlay_lower(bench: Bench) -> str:
    """Look whether the source lies in the lower layer, and whether it has stayed there."""
    wrong = _must_be_overlay(bench.source)
    if wrong:
        return wrong
    if os.listdir(os.path.join(bench.layers, "upper")):
        return "something lies in the upper layer already"
    return ""


def _prove_overlay_lower(placed: Placed) -> str:
    if "hardlink" not in placed.can:
        return f"a hard link does not copy up ({placed.can.why['hardlink']})"
    return _clone_must_still_work(placed)


def _prove_too_many_links(placed: Placed) -> str:
    assert placed.inside is not None
    met = placed.inside.results[Primitive.HARDLINK]
    if met is not Condition.TOO_MANY_LINKS:
        return f"a link is not one too many ({placed.inside.why['hardlink']})"
    if "hardlink" not in placed.can:
        return f"another file cannot be linked either ({placed.can.why['hardlink']})"
    return ""


def _prove_read_only_source(placed: Placed) -> str:
    return _prove_bind(placed) or _must_not_be_writable(placed.source_root)


def _prove_read_only_target(placed: Placed) -> str:
    for primitive in (Primitive.SYMLINK, Primitive.COPY):
        if _met(placed, primitive) not in (Condition.READ_ONLY, Condition.UNSUPPORTED):
            return f"{primitive} is not refused as read-only"
    return "" if placed.can.mkdir is Condition.READ_ONLY else "a directory can be made"


def _prove_full(placed: Placed) -> str:
    if _met(placed, Primitive.COPY) is Condition.NO_SPACE:
        return ""
    return "a file can still be copied"


def _prove_fold(placed: Placed) -> str:
    if "case-insensitive" in placed.can:
        return ""
    return f"the target does not fold ({placed.can.why['case-insensitive']})"


def _prove_denied(placed: Placed) -> str:
    if _met(placed, Primitive.HARDLINK) is Condition.DENIED:
        return ""
    return f"a hard link is not denied ({placed.can.why['hardlink']})"


def _check_other_owner(bench: Bench) -> str:
    path = "/proc/sys/fs/protected_hardlinks"
    with open(path, encoding="utf-8") as lines:
        if lines.read().strip() == "0":
            raise Unavailable(
                f"{bench.site.spec.name} cannot be had here",
                checked=[f"{path}: 0, so that anybody may link anything"],
                mends=["sysctl fs.protected_hardlinks=1"],
            )
    owner = os.stat(bench.source).st_uid
    return "" if owner == OWNER else f"the source belongs to user {owner}"


def _prove_symlinked(placed: Placed) -> str:
    if not os.path.islink(placed.target_root):
        return "the target is not a symlink"
    return _prove_same(placed)


def _check_symlinked_directory(bench: Bench) -> str:
    path = bench.special(bench.target)
    return "" if os.path.islink(path) else f"{bench.region} in the target is no symlink"


def _prove_long_names(placed: Placed) -> str:
    if min(map(len, (placed.source_root, placed.target_root))) < 2000:
        return "the paths are not long"
    if placed.spec.source.startswith("xfs"):
        # XFS_SYMLINK_MAXLEN is 1024; others take what PATH_MAX allows.
        if _met(placed, Primitive.SYMLINK) is not Condition.NAME_TOO_LONG:
            return f"a symlink is not too long for xfs ({placed.can.why['symlink']})"
        return ""
    return _prove_same(placed)


def _prove_umask(placed: Placed) -> str:
    before = os.umask(0)
    os.umask(before)
    if before != HOSTILE_UMASK:
        return f"the umask is {before:04o}"
    return _prove_same(placed)


def _prove_project(placed: Placed) -> str:
    refused = _link_must_not_cross(placed)
    if refused:
        return refused
    if os.stat(placed.source_root).st_dev != os.stat(placed.target_root).st_dev:
        return "source and target are two filesystems: their device numbers differ"
    return _clone_must_still_work(placed)


# --- the tables -------------------------------------------------------------------------------

SAME = Special(
    "",
    "cache and environment side by side: whatever the filesystem can do",
    _prove_same,
    put_directories,
    lacks=frozenset({"cross-device"}),
)
CROSS = Special(
    "",
    "cache and environment on two filesystems: neither clone nor link, everything is copied",
    _prove_cross,
    put_directories,
    across=True,
    lacks=frozenset({"reflink", "hardlink"}),
)

_HOMES = frozenset({"btrfs", "xfs", "ext4", "tmpfs"})
_BTRFS = frozenset({"btrfs", "btrfs-compress"})
_EXT = frozenset({"ext4", "ext2"})
_XFS = frozenset({"xfs", "xfs-noreflink"})
_LAYERS = _BTRFS | _XFS | _EXT | {"tmpfs"}
_POSIX = _LAYERS | {"overlay", "bindfs", "ntfs", "disk", "shm", "home", "drive"}
_MOUNT = frozenset({MOUNT})
_NO_LINK = frozenset({"hardlink"})

KINDS: Mapping[str, Special] = {
    row.name: row
    for row in (
        Special(
            "bind",
            "two mounts of one filesystem, as containers have them: equal device numbers, and "
            "still link and rename refuse to cross, while clone works (Linux >= 5.18)",
            _prove_bind,
            put_bind_mounts,
            needs=_MOUNT,
            lacks=_NO_LINK,
        ),
        Special(
            "subvolume",
            "two subvolumes of one btrfs, as distributions set up / and /home: different device "
            "numbers, link refuses to cross, clone works",
            _prove_subvolume,
            put_subvolumes,
            filesystems=_BTRFS,
            lacks=_NO_LINK | {"cross-device"},
        ),
        Special(
            "snapshot",
            "the cache is a read-only snapshot: nothing can be written there, and all of its "
            "extents are shared with somebody already",
            _prove_snapshot,
            put_directories,
            _begin_subvolume,
            _seal_snapshot,
            filesystems=_BTRFS,
            lacks=_NO_LINK | {"cross-device"},
        ),
        Special(
            "nested-mount",
            "another filesystem is mounted inside the target tree: that directory is its own pair, "
            "and no rename leads into it",
            _prove_nested_mount,
            put_directories,
            seal=_seal_nested_mount,
            needs=_MOUNT,
            filesystems=_POSIX,
            homes=_HOMES,
            across=True,
            region=True,
        ),
        Special(
            "nocow",
            "the target is NOCOW (chattr +C), as directories of databases and images are: a clone "
            "is refused with EINVAL, a hard link is not",
            _prove_nocow,
            put_nocow_target,
            filesystems=_BTRFS,
            lacks=frozenset({"reflink", "cross-device"}),
        ),
        Special(
            "nocow-source",
            "the cache is NOCOW and the target is not: a clone is refused with EINVAL",
            _prove_nocow,
            put_nocow_source,
            filesystems=_BTRFS,
            lacks=frozenset({"reflink", "cross-device"}),
        ),
        Special(
            "nocow-directory",
            "one directory of the target is NOCOW: it is its own pair, and all others clone",
            _prove_nocow_directory,
            put_directories,
            seal=_seal_nocow_directory,
            filesystems=_BTRFS,
            region=True,
        ),
        Special(
            "overlay-upper",
            "cache and environment in the writable layer of one overlay, as in a container: what "
            "the filesystem below can do, through another filesystem's calls",
            _prove_overlay_upper,
            put_in_overlay,
            needs=_MOUNT,
            filesystems=_LAYERS,
            homes=_HOMES,
            lacks=frozenset({"cross-device"}),
        ),
        Special(
            "overlay-lower",
            "the cache is in an image layer: a hard link succeeds by copying the file up, and "
            "nothing is shared with the image",
            _prove_overlay_lower,
            put_directories,
            _begin_below_overlay,
            _seal_overlay,
            _check_overlay_lower,
            afterwards=_after_overlay,
            needs=_MOUNT,
            filesystems=_LAYERS,
            homes=_HOMES,
            lacks=frozenset({"cross-device"}),
        ),
        Special(
            "overlay-cross",
            "the environment is in an overlay, the cache in a volume on the very filesystem of its "
            "layers: everything is copied all the same",
            _prove_overlay_cross,
            put_target_in_overlay,
            needs=_MOUNT,
            filesystems=_LAYERS,
            homes=_HOMES,
            lacks=frozenset({"reflink", "hardlink"}),
        ),
        Special(
            "too-many-links",
            "files of one directory have as many links as they can (ext4, xfs: in all; btrfs "
            "without extref: in that directory of the target): each is copied, and no other",
            _prove_too_many_links,
            put_nothing,
            _begin_on_disk,
            _seal_links,
            _check_links,
            needs=_MOUNT | {OWN},
            tools={
                "ext4": ("debugfs",),
                "ext2": ("debugfs",),
                "xfs": ("xfs_db",),
                "xfs-noreflink": ("xfs_db",),
            },
            filesystems=_EXT | _XFS | {"btrfs"},
            homes=_HOMES,
            lacks=frozenset({"cross-device"}),
            region=True,
        ),
        Special(
            "read-only-source",
            "the cache is mounted read-only: nothing can be written there, neither a mark nor a "
            "lock, and no link leads out",
            _prove_read_only_source,
            put_directories,
            seal=_seal_read_only(lambda bench: bench.source),
            needs=_MOUNT,
            homes=_HOMES,
            lacks=_NO_LINK,
        ),
        Special(
            "read-only-target",
            "the target is mounted read-only: every mode must fail, and say so",
            _prove_read_only_target,
            put_directories,
            seal=_seal_read_only(lambda bench: bench.target),
            needs=_MOUNT,
            homes=_HOMES,
            lacks=frozenset({"reflink", "hardlink", "symlink"}),
        ),
        Special(
            "full",
            "no space for data is left: where metadata has space of its own (btrfs), clones and "
            "links still work, and everything else must fail",
            _prove_full,
            put_nothing,
            _begin_on_own,
            _seal_full,
            _check_full,
            needs=_MOUNT | {OWN},
            filesystems=_LAYERS,
            homes=_HOMES,
        ),
        Special(
            "full-inodes",
            "there is space, and no inode is left: no file and no directory can be made",
            _prove_full,
            put_nothing,
            _begin_on_own,
            _seal_full_inodes,
            _check_full_inodes,
            needs=_MOUNT | {OWN},
            filesystems=_EXT | {"tmpfs"},
            homes=_HOMES,
        ),
        Special(
            "fold",
            "two names of the source would be one in the target, which does not tell upper from "
            "lower case: that must be refused before anything is written",
            _prove_fold,
            put_directories,
            seal=_seal_fold,
            filesystems=frozenset({"exfat"}),
            alone=False,
            across=True,
            region=True,
            fails=Condition.EXISTS,
        ),
        Special(
            "other-owner",
            "the cache belongs to another user and the linker is an ordinary one: with "
            "protected_hardlinks (as everywhere) a link is denied, though a read is not",
            _prove_denied,
            put_directories,
            seal=_seal_other_owner,
            check=_check_other_owner,
            acting=_as_another_user,
            needs=frozenset({ROOT}),
            filesystems=_LAYERS | {"overlay", "disk", "shm"},
            homes=_HOMES,
            lacks=_NO_LINK | {"cross-device"},
            acts=True,
        ),
        Special(
            "immutable",
            "the files of the cache are immutable (chattr +i): a link is denied, a clone is not",
            _prove_denied,
            put_directories,
            seal=_seal_immutable,
            needs=frozenset({ROOT}),
            filesystems=_BTRFS | _XFS | _EXT,
            homes=_HOMES,
            lacks=_NO_LINK | {"cross-device"},
        ),
        Special(
            "symlinked",
            "the target is a symlink to a directory elsewhere: it is followed, once, and stays",
            _prove_symlinked,
            put_directories,
            _begin_symlinked,
            filesystems=_POSIX,
            homes=_HOMES,
            lacks=frozenset({"cross-device"}),
        ),
        Special(
            "symlinked-directory",
            "a directory inside the target is a symlink elsewhere: nothing may be written there; "
            "it is refused, or replaced",
            _prove_same,
            put_directories,
            seal=_seal_symlinked_directory,
            check=_check_symlinked_directory,
            filesystems=_POSIX,
            homes=_HOMES,
            region=True,
            fails=Condition.IS_SYMLINK,
        ),
        Special(
            "long-names",
            "the longest names there are, in paths of more than 2000 bytes: no name of ours fits "
            "beside them with a suffix, and xfs takes no symlink to them",
            _prove_long_names,
            put_far_down,
            filesystems=_POSIX - {"ntfs"},
            homes=_HOMES,
            lacks=frozenset({"cross-device"}),
        ),
        Special(
            "umask",
            "whoever calls has a hostile umask (0077): permission bits are those of the source",
            _prove_umask,
            put_directories,
            acting=_under_a_hostile_umask,
            filesystems=_POSIX,
            homes=_HOMES,
            lacks=frozenset({"cross-device"}),
            acts=True,
        ),
        Special(
            "xfs-project",
            "two directory trees with project ids, as quotas have them: link and rename refuse to "
            "cross although all is one mount, clone works",
            _prove_project,
            put_projects,
            filesystems=_XFS,
            lacks=_NO_LINK,
        ),
    )
}
"""Every special kind by the word after the plus sign."""


def seal(bench: Bench, row: Special, region: str | None) -> None:
    """Make a filled source what its layout says it is. Raises LinkmodeError if it is not, then."""
    if row.region:
        bench.region = region or _first_directory(bench.source)
    if row.seal is not None:
        row.seal(bench)
    bench.sealed = True
    wrong = row.check(bench)
    if wrong:
        raise LinkmodeError(f"{bench.site.spec.name} is not what it should be here", why=wrong)


def _first_directory(source: str) -> str:
    """Return the first directory of a source, in the order of names, that holds files."""
    for name in sorted(os.listdir(source)):
        path = os.path.join(source, name)
        if os.path.isdir(path) and not os.path.islink(path):
            with os.scandir(path) as entries:
                if any(entry.is_file(follow_symlinks=False) for entry in entries):
                    return name
    raise LinkmodeError(
        "this layout needs a source with a directory that holds a file",
        why=f"there is none in {source}",
        hint="fill the source, or name one: seal(region=...)",
    )
