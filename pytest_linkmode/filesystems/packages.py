"""Which package of which distribution has a tool: what an error tells people to install."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_linkmode import HERE, processes

MANAGERS: Mapping[str, str] = {
    "apt": "apt-get install {package}",
    "dnf": "dnf install {package}",
    "pacman": "pacman -S {package}",
    "apk": "apk add {package}",
}
"""Package manager -> the command that installs with it."""

PACKAGES: Mapping[str, Mapping[str, str]] = {
    "mkfs.btrfs": {
        "apt": "btrfs-progs",
        "dnf": "btrfs-progs",
        "pacman": "btrfs-progs",
        "apk": "btrfs-progs",
    },
    "mkfs.xfs": {"apt": "xfsprogs", "dnf": "xfsprogs", "pacman": "xfsprogs", "apk": "xfsprogs"},
    "mkfs.ext4": {
        "apt": "e2fsprogs",
        "dnf": "e2fsprogs",
        "pacman": "e2fsprogs",
        "apk": "e2fsprogs",
    },
    "sudo": {"apt": "sudo", "dnf": "sudo", "pacman": "sudo", "apk": "sudo"},
    "mkfs.ext2": {
        "apt": "e2fsprogs",
        "dnf": "e2fsprogs",
        "pacman": "e2fsprogs",
        "apk": "e2fsprogs",
    },
    "debugfs": {
        "apt": "e2fsprogs",
        "dnf": "e2fsprogs",
        "pacman": "e2fsprogs",
        "apk": "e2fsprogs-extra",
    },
    "xfs_db": {"apt": "xfsprogs", "dnf": "xfsprogs", "pacman": "xfsprogs", "apk": "xfsprogs"},
    "mkfs.exfat": {
        "apt": "exfatprogs",
        "dnf": "exfatprogs",
        "pacman": "exfatprogs",
        "apk": "exfatprogs",
    },
    "mount.exfat-fuse": {"apt": "exfat-fuse"},
    "mkfs.ntfs": {
        "apt": "ntfs-3g",
        "dnf": "ntfsprogs",
        "pacman": "ntfs-3g",
        "apk": "ntfs-3g-progs",
    },
    "lowntfs-3g": {"apt": "ntfs-3g", "dnf": "ntfs-3g", "pacman": "ntfs-3g", "apk": "ntfs-3g"},
    "bindfs": {"apt": "bindfs", "dnf": "bindfs", "pacman": "bindfs", "apk": "bindfs"},
    "linux.uml": {"apt": "user-mode-linux"},
    "cc": {"apt": "gcc", "dnf": "gcc", "pacman": "gcc", "apk": "gcc"},
    "npm": {"apt": "npm", "dnf": "npm", "pacman": "npm", "apk": "npm"},
    "mount": {"apt": "mount", "dnf": "util-linux-core", "pacman": "util-linux", "apk": "mount"},
}
"""Tool -> package manager -> package."""


def install(tool: str) -> tuple[str, ...]:
    """Return the command that installs `tool` here, or, on an unknown Linux, all of them."""
    if HERE != "linux":
        return ()
    packages = PACKAGES.get(tool, {})
    here = {manager: name for manager, name in packages.items() if processes.which(manager)}
    return tuple(
        MANAGERS[manager].format(package=name) for manager, name in (here or packages).items()
    )
