"""What is done to a source when it is filled, so that it is what its layout says it is."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping

from pytest_linkmode import kernel
from pytest_linkmode.errors import LinkmodeError, Unavailable
from pytest_linkmode.filesystems.base import MIB, remove_tree
from pytest_linkmode.special.base import NEEDS, OWN, Bench, Special, make
from pytest_linkmode.special.placing import NAME_MAX


def seal_snapshot(bench: Bench) -> None:
    from pytest_linkmode.filesystems.btrfs import create_snapshot, delete_subvolume

    kept = f"{bench.source}-kept"
    os.rename(bench.source, kept)
    create_snapshot(kept, *os.path.split(bench.source))
    bench.stack.callback(remove_tree, kept)
    bench.stack.callback(delete_subvolume, bench.source)


def seal_nested_mount(bench: Bench) -> None:
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
        shown = make(site.source.path, f"nested-{os.path.basename(bench.target)}")
        found = kernel.mount_of(shown)
        there = mounts.mounted_on(
            bench.place,
            path,
            lambda path: kernel.mount(shown, path, flags=kernel.MS_BIND),
            source=found.source if found else "",
            fstype=found.fstype if found else "",
        )
    bench.stack.enter_context(there)


def seal_nocow_directory(bench: Bench) -> None:
    from pytest_linkmode.filesystems.attributes import FS_NOCOW_FL, change_flags

    path = bench.special(bench.target)
    os.makedirs(path, exist_ok=True)
    bench.existed.append(bench.region)
    change_flags(path, add=FS_NOCOW_FL)


def seal_overlay(bench: Bench) -> None:
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


def seal_links(bench: Bench) -> None:
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
    shortest, longest = len(os.path.basename(start)) + 1, NAME_MAX
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
        if not is_too_many(error):
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


def is_too_many(error: OSError) -> bool:
    import errno

    return error.errno == errno.EMLINK


def seal_read_only(side: Callable[[Bench], str]) -> Callable[[Bench], None]:
    def seal(bench: Bench) -> None:
        from pytest_linkmode.filesystems import mounts

        bench.stack.enter_context(mounts.read_only(bench.place, side(bench)))

    return seal


def seal_full(bench: Bench) -> None:
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
                if not is_no_space(error):
                    raise
                step //= 2
            else:
                size += step
    finally:
        os.close(ballast)


def seal_full_inodes(bench: Bench) -> None:
    """Make empty files until no more can be made."""
    ballast = make(os.path.dirname(bench.source), "ballast")
    for number in range(100_000):
        try:
            os.close(os.open(os.path.join(ballast, str(number)), os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            if not is_no_space(error):
                raise
            return


_SMALLEST = 4096


def is_no_space(error: OSError) -> bool:
    import errno

    return error.errno in (errno.ENOSPC, errno.EFBIG)


def seal_fold(bench: Bench) -> None:
    directory = bench.special(bench.source)
    for name in COLLIDING:
        with open(os.path.join(directory, name), "xb") as file:
            file.write(f"this is {name}".encode())


COLLIDING = ("Colliding-Name", "colliding-name")
"""The two names that one name of a folding target would have to hold."""


def seal_other_owner(bench: Bench) -> None:
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


def seal_immutable(bench: Bench) -> None:
    from pytest_linkmode.filesystems.attributes import FS_IMMUTABLE_FL, change_flags

    if not bench.site.source.made:
        # After a kill nobody could remove them, not even `linkmode clean`.
        raise Unavailable(
            f"{bench.site.spec.name} cannot be had here", checked=[f"{NEEDS[OWN]}: missing"]
        )
    for path in bench.regular_files():
        change_flags(path, add=FS_IMMUTABLE_FL)
        bench.stack.callback(change_flags, path, remove=FS_IMMUTABLE_FL)


def seal_symlinked_directory(bench: Bench) -> None:
    elsewhere = f"{bench.target}-elsewhere"
    os.mkdir(elsewhere)
    path = bench.special(bench.target)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.symlink(elsewhere, path)


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
