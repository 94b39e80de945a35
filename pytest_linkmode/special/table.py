"""The table: every way in which a cache and an environment can lie to each other."""

from __future__ import annotations

from collections.abc import Mapping

from linker.conditions import Condition
from pytest_linkmode.special.base import MACHINE, MOUNT, OWN, ROOT, Special, put_directories
from pytest_linkmode.special.checking import (
    after_overlay,
    after_symlinked,
    as_another_user,
    check_full,
    check_full_inodes,
    check_links,
    under_a_hostile_umask,
)
from pytest_linkmode.special.placing import (
    begin_below_overlay,
    begin_long,
    begin_on_disk,
    begin_on_own,
    begin_subvolume,
    begin_symlinked,
    put_bind_mounts,
    put_far_down,
    put_in_overlay,
    put_nocow_source,
    put_nocow_target,
    put_nothing,
    put_projects,
    put_subvolumes,
    put_target_in_overlay,
)
from pytest_linkmode.special.proofs import (
    check_other_owner,
    check_overlay_lower,
    check_symlinked_directory,
    prove_bind,
    prove_cross,
    prove_denied,
    prove_fold,
    prove_full,
    prove_long_names,
    prove_nested_mount,
    prove_nocow,
    prove_nocow_directory,
    prove_overlay_cross,
    prove_overlay_lower,
    prove_overlay_upper,
    prove_project,
    prove_read_only_source,
    prove_read_only_target,
    prove_same,
    prove_snapshot,
    prove_subvolume,
    prove_symlinked,
    prove_too_many_links,
    prove_umask,
)
from pytest_linkmode.special.sealing import (
    seal_fold,
    seal_full,
    seal_full_inodes,
    seal_immutable,
    seal_links,
    seal_nested_mount,
    seal_nocow_directory,
    seal_other_owner,
    seal_overlay,
    seal_read_only,
    seal_snapshot,
    seal_symlinked_directory,
)

SAME = Special(
    "",
    "cache and environment side by side: whatever the filesystem can do",
    prove_same,
    put_directories,
    lacks=frozenset({"cross-device"}),
)
CROSS = Special(
    "",
    "cache and environment on two filesystems: neither clone nor link, everything is copied",
    prove_cross,
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
            prove_bind,
            put_bind_mounts,
            needs=_MOUNT,
            lacks=_NO_LINK,
        ),
        Special(
            "subvolume",
            "two subvolumes of one btrfs, as distributions set up / and /home: different device "
            "numbers, link refuses to cross, clone works",
            prove_subvolume,
            put_subvolumes,
            filesystems=_BTRFS,
            lacks=_NO_LINK | {"cross-device"},
        ),
        Special(
            "snapshot",
            "the cache is a read-only snapshot: nothing can be written there, and all of its "
            "extents are shared with somebody already",
            prove_snapshot,
            put_directories,
            begin_subvolume,
            seal_snapshot,
            needs=frozenset({MACHINE}),
            filesystems=_BTRFS,
            lacks=_NO_LINK | {"cross-device"},
        ),
        Special(
            "nested-mount",
            "another filesystem is mounted inside the target tree: that directory is its own pair, "
            "and no rename leads into it",
            prove_nested_mount,
            put_directories,
            seal=seal_nested_mount,
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
            prove_nocow,
            put_nocow_target,
            filesystems=_BTRFS,
            lacks=frozenset({"reflink", "cross-device"}),
        ),
        Special(
            "nocow-source",
            "the cache is NOCOW and the target is not: a clone is refused with EINVAL",
            prove_nocow,
            put_nocow_source,
            filesystems=_BTRFS,
            lacks=frozenset({"reflink", "cross-device"}),
        ),
        Special(
            "nocow-directory",
            "one directory of the target is NOCOW: it is its own pair, and all others clone",
            prove_nocow_directory,
            put_directories,
            seal=seal_nocow_directory,
            filesystems=_BTRFS,
            region=True,
        ),
        Special(
            "overlay-upper",
            "cache and environment in the writable layer of one overlay, as in a container: what "
            "the filesystem below can do, through another filesystem's calls",
            prove_overlay_upper,
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
            prove_overlay_lower,
            put_directories,
            begin_below_overlay,
            seal_overlay,
            check_overlay_lower,
            afterwards=after_overlay,
            needs=_MOUNT | {MACHINE},
            filesystems=_LAYERS,
            homes=_HOMES,
            lacks=frozenset({"cross-device"}),
        ),
        Special(
            "overlay-cross",
            "the environment is in an overlay, the cache in a volume on the very filesystem of its "
            "layers: everything is copied all the same",
            prove_overlay_cross,
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
            prove_too_many_links,
            put_nothing,
            begin_on_disk,
            seal_links,
            check_links,
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
            prove_read_only_source,
            put_directories,
            seal=seal_read_only(lambda bench: bench.source),
            needs=_MOUNT,
            homes=_HOMES,
            lacks=_NO_LINK,
        ),
        Special(
            "read-only-target",
            "the target is mounted read-only: every mode must fail, and say so",
            prove_read_only_target,
            put_directories,
            seal=seal_read_only(lambda bench: bench.target),
            needs=_MOUNT,
            homes=_HOMES,
            lacks=frozenset({"reflink", "hardlink", "symlink"}),
            refuses=True,
        ),
        Special(
            "full",
            "no space for data is left: where metadata has space of its own (btrfs), clones and "
            "links still work, and everything else must fail",
            prove_full,
            put_nothing,
            begin_on_own,
            seal_full,
            check_full,
            needs=_MOUNT | {OWN},
            filesystems=_LAYERS,
            homes=_HOMES,
            refuses=True,
        ),
        Special(
            "full-inodes",
            "there is space, and no inode is left: no file and no directory can be made",
            prove_full,
            put_nothing,
            begin_on_own,
            seal_full_inodes,
            check_full_inodes,
            needs=_MOUNT | {OWN},
            filesystems=_EXT | {"tmpfs"},
            homes=_HOMES,
            refuses=True,
        ),
        Special(
            "fold",
            "two names of the source would be one in the target, which does not tell upper from "
            "lower case: that must be refused before anything is written",
            prove_fold,
            put_directories,
            seal=seal_fold,
            filesystems=frozenset({"exfat"}),
            alone=False,
            across=True,
            region=True,
            fails=Condition.EXISTS,
            refuses=True,
        ),
        Special(
            "other-owner",
            "the cache belongs to another user and the linker is an ordinary one: with "
            "protected_hardlinks (as everywhere) a link is denied, though a read is not",
            prove_denied,
            put_directories,
            seal=seal_other_owner,
            check=check_other_owner,
            acting=as_another_user,
            needs=frozenset({ROOT}),
            filesystems=_LAYERS | {"overlay", "disk", "shm"},
            homes=_HOMES,
            lacks=_NO_LINK | {"cross-device"},
            acts=True,
        ),
        Special(
            "immutable",
            "the files of the cache are immutable (chattr +i): a link is denied, a clone is not",
            prove_denied,
            put_directories,
            seal=seal_immutable,
            needs=frozenset({ROOT}),
            filesystems=_BTRFS | _XFS | _EXT,
            homes=_HOMES,
            lacks=_NO_LINK | {"cross-device"},
        ),
        Special(
            "symlinked",
            "the target is a symlink to a directory elsewhere: it is followed, once, and stays",
            prove_symlinked,
            put_directories,
            begin_symlinked,
            afterwards=after_symlinked,
            filesystems=_POSIX,
            homes=_HOMES,
            lacks=frozenset({"cross-device"}),
        ),
        Special(
            "symlinked-directory",
            "a directory inside the target is a symlink elsewhere: nothing may be written there; "
            "it is refused, or replaced",
            prove_same,
            put_directories,
            seal=seal_symlinked_directory,
            check=check_symlinked_directory,
            filesystems=_POSIX,
            homes=_HOMES,
            region=True,
            fails=Condition.IS_SYMLINK,
            refuses=True,
        ),
        Special(
            "long-names",
            "the longest names there are, in paths of more than 2000 bytes: no name of ours fits "
            "beside them with a suffix, and xfs takes no symlink to them",
            prove_long_names,
            put_far_down,
            begin_long,
            filesystems=_POSIX - {"ntfs"},
            homes=_HOMES,
            lacks=frozenset({"cross-device"}),
        ),
        Special(
            "umask",
            "whoever calls has a hostile umask (0077): permission bits are those of the source",
            prove_umask,
            put_directories,
            acting=under_a_hostile_umask,
            filesystems=_POSIX,
            homes=_HOMES,
            lacks=frozenset({"cross-device"}),
            acts=True,
        ),
        Special(
            "xfs-project",
            "two directory trees with project ids, as quotas have them: link and rename refuse to "
            "cross although all is one mount, clone works",
            prove_project,
            put_projects,
            needs=frozenset({MACHINE}),
            filesystems=_XFS,
            lacks=_NO_LINK,
        ),
    )
}
"""Every special kind by the word after the plus sign."""
