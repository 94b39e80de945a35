"""How the premises of layouts are proven, from what was probed. An empty string is a proof."""

from __future__ import annotations

import os

from linker.conditions import Condition, Primitive
from pytest_linkmode import kernel
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.special.base import Bench, Placed
from pytest_linkmode.special.checking import HOSTILE_UMASK
from pytest_linkmode.special.sealing import OWNER

CLONES_ACROSS_MOUNTS = (5, 18)
"""The first kernel that clones from one mount of a filesystem to another; before: EXDEV."""


def _met(placed: Placed, primitive: Primitive) -> Condition | None:
    return placed.can.results[primitive]


def prove_same(placed: Placed) -> str:
    """Prove that no primitive says that source and target are two filesystems."""
    for primitive, condition in placed.can.results.items():
        if condition is Condition.CROSS_DEVICE:
            return f"{primitive} says that source and target are two filesystems"
    return ""


def prove_cross(placed: Placed) -> str:
    """Prove that neither a link nor a clone reaches across."""
    if "cross-device" not in placed.can:
        return f"source and target are one filesystem ({placed.can.why['cross-device']})"
    return ""


def prove_bind(placed: Placed) -> str:
    """Prove that a link is refused as cross-device with equal device numbers; a clone works."""
    refused = _link_must_not_cross(placed)
    if refused:
        return refused
    if os.stat(placed.source_root).st_dev != os.stat(placed.target_root).st_dev:
        return "the two mounts do not show one filesystem: their device numbers differ"
    return _clone_must_still_work(placed) if kernel.release() >= CLONES_ACROSS_MOUNTS else ""


def prove_subvolume(placed: Placed) -> str:
    """Prove that a link is refused as cross-device, the device numbers differ, a clone works."""
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


def prove_snapshot(placed: Placed) -> str:
    """Prove that as of two subvolumes, and nothing can be made in the source."""
    return prove_subvolume(placed) or _must_not_be_writable(placed.source_root)


def _must_not_be_writable(directory: str) -> str:
    path = os.path.join(directory, ".linkmode-writable")
    try:
        os.mkdir(path)
    except OSError:
        return ""
    os.rmdir(path)
    return f"{directory} can be written to"


def prove_nested_mount(placed: Placed) -> str:
    """Prove that in the directory other primitives are refused than in the rest of the target."""
    assert placed.inside is not None
    if placed.inside.results == placed.can.results:
        return "the directory inside the target is not refused anything"
    return ""


def prove_nocow(placed: Placed) -> str:
    """Prove that a clone is refused with EINVAL."""
    if _met(placed, Primitive.CLONE_FILE) is Condition.ATTRIBUTE:
        return ""
    return f"a clone is not refused for the attribute ({placed.can.why['reflink']})"


def prove_nocow_directory(placed: Placed) -> str:
    """Prove that a clone into the directory is refused with EINVAL, and works beside it."""
    assert placed.inside is not None
    if placed.inside.results[Primitive.CLONE_FILE] is not Condition.ATTRIBUTE:
        why = placed.inside.why["reflink"]
        return f"a clone into the directory is not refused for the attribute ({why})"
    return _clone_must_still_work(placed)


def prove_overlay_upper(placed: Placed) -> str:
    """Prove that the target lies on an overlay, and no primitive is refused as cross-device."""
    return prove_same(placed) or _must_be_overlay(placed.target_root)


def _must_be_overlay(directory: str) -> str:
    there = kernel.mount_of(directory)
    if there is not None and there.fstype == "overlay":
        return ""
    return f"{directory} does not lie on an overlay"


def prove_overlay_cross(placed: Placed) -> str:
    """Prove that the target lies on an overlay, the source does not, nothing reaches across."""
    if not _must_be_overlay(placed.source_root):
        return f"{placed.source_root} lies on an overlay"
    return prove_cross(placed) or _must_be_overlay(placed.target_root)


def check_overlay_lower(bench: Bench) -> str:
    """Look whether the source lies in the lower layer, and whether it has stayed there."""
    wrong = _must_be_overlay(bench.source)
    if wrong:
        return wrong
    if os.listdir(os.path.join(bench.layers, "upper")):
        return "something lies in the upper layer already"
    return ""


def prove_overlay_lower(placed: Placed) -> str:
    """Prove that a link works, and a clone where the layers clone; the upper layer is empty."""
    if "hardlink" not in placed.can:
        return f"a hard link does not copy up ({placed.can.why['hardlink']})"
    return _clone_must_still_work(placed)


def prove_too_many_links(placed: Placed) -> str:
    """Prove that a link of the file meets EMLINK, a link of the file beside it works."""
    assert placed.inside is not None
    met = placed.inside.results[Primitive.HARDLINK]
    if met is not Condition.TOO_MANY_LINKS:
        return f"a link is not one too many ({placed.inside.why['hardlink']})"
    if "hardlink" not in placed.can:
        return f"another file cannot be linked either ({placed.can.why['hardlink']})"
    return ""


def prove_read_only_source(placed: Placed) -> str:
    """Prove that as of bind mounts, and nothing can be made in the source."""
    return prove_bind(placed) or _must_not_be_writable(placed.source_root)


def prove_read_only_target(placed: Placed) -> str:
    """Prove that every primitive meets EROFS, making a directory too."""
    for primitive in (Primitive.SYMLINK, Primitive.COPY):
        if _met(placed, primitive) not in (Condition.READ_ONLY, Condition.UNSUPPORTED):
            return f"{primitive} is not refused as read-only"
    return "" if placed.can.mkdir is Condition.READ_ONLY else "a directory can be made"


def prove_full(placed: Placed) -> str:
    """Prove that a copy meets ENOSPC."""
    if _met(placed, Primitive.COPY) is Condition.NO_SPACE:
        return ""
    return "a file can still be copied"


def prove_fold(placed: Placed) -> str:
    """Prove that a name in lower case finds a file made in upper case."""
    if "case-insensitive" in placed.can:
        return ""
    return f"the target does not fold ({placed.can.why['case-insensitive']})"


def prove_denied(placed: Placed) -> str:
    """Prove that a link meets EPERM."""
    if _met(placed, Primitive.HARDLINK) is Condition.DENIED:
        return ""
    return f"a hard link is not denied ({placed.can.why['hardlink']})"


def check_other_owner(bench: Bench) -> str:
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


def prove_symlinked(placed: Placed) -> str:
    """Prove that the target is a symlink, and what it leads to is the same filesystem."""
    if not os.path.islink(placed.target_root):
        return "the target is not a symlink"
    return prove_same(placed)


def check_symlinked_directory(bench: Bench) -> str:
    path = bench.special(bench.target)
    return "" if os.path.islink(path) else f"{bench.region} in the target is no symlink"


def prove_long_names(placed: Placed) -> str:
    """Prove that both paths are longer than 2000 bytes; on xfs a symlink meets ENAMETOOLONG."""
    if min(map(len, (placed.source_root, placed.target_root))) < 2000:
        return "the paths are not long"
    if placed.spec.source.startswith("xfs"):
        # XFS_SYMLINK_MAXLEN is 1024; others take what PATH_MAX allows.
        if _met(placed, Primitive.SYMLINK) is not Condition.NAME_TOO_LONG:
            return f"a symlink is not too long for xfs ({placed.can.why['symlink']})"
        return ""
    return prove_same(placed)


def prove_umask(placed: Placed) -> str:
    """Prove that the umask is hostile while the linker is called."""
    before = os.umask(0)
    os.umask(before)
    if before != HOSTILE_UMASK:
        return f"the umask is {before:04o}"
    return prove_same(placed)


def prove_project(placed: Placed) -> str:
    """Prove that a link is refused as cross-device within one filesystem; a clone works."""
    refused = _link_must_not_cross(placed)
    if refused:
        return refused
    if os.stat(placed.source_root).st_dev != os.stat(placed.target_root).st_dev:
        return "source and target are two filesystems: their device numbers differ"
    return _clone_must_still_work(placed)
