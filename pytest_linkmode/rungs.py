"""The rungs of the ladder of privileges, as a table: what each adds, and what it may mount.

Nobody chooses a rung: each filesystem comes from the first provider that can, and this table says
on which rung that one stands. `--linkmode-provider` forces one, and with it the place in which
mounts live. Which rungs a machine has is found out by `ladder`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_linkmode.errors import Unavailable

if TYPE_CHECKING:
    from pytest_linkmode.config import Settings

ROOT = "root"
SUDO = "sudo"
DIRECTORY = "directory"
MACHINE = "machine"
USER_NAMESPACE = "user-namespace"
UML = "uml"


@dataclass(frozen=True)
class Rung:
    """One row: what it is, what it adds, whose right to mount it stands on, and its providers.

    `mounts` is false where nothing of ours is mounted, `user` true where that happens in a user
    namespace, whoever asks.
    """

    name: str
    summary: str
    adds: str
    providers: tuple[str, ...]
    mounts: bool = True
    user: bool = False


RUNGS: Mapping[str, Rung] = {
    rung.name: rung
    for rung in (
        Rung(
            ROOT,
            "this process may mount",
            "every filesystem that the kernel has",
            ("loop", "tmpfs", "overlay"),
        ),
        Rung(
            SUDO,
            "sudo without a password: a root helper makes what only root can",
            "every filesystem that the kernel has, in a user namespace",
            ("sudo", "tmpfs", "overlay"),
            user=True,
        ),
        Rung(
            DIRECTORY,
            "directories that a person names",
            "whatever they lie on",
            ("directory",),
            mounts=False,
        ),
        Rung(
            MACHINE,
            "directories that the machine has",
            "what its disks and its memory can do, and nothing across mounts of one filesystem",
            ("machine",),
            mounts=False,
        ),
        Rung(
            USER_NAMESPACE,
            "a user namespace, in which anybody may mount",
            "tmpfs, overlay, bind mounts, read-only and full filesystems",
            ("tmpfs", "overlay"),
            user=True,
        ),
        Rung(
            UML,
            "guests of User-Mode Linux, in which tests run as root of a kernel of their own",
            "btrfs, xfs and ext4 for those tests of pytest that name them",
            ("uml",),
        ),
    )
}
"""Every rung by name, from the top of the ladder to the bottom."""


def forced(settings: Settings) -> Rung | None:
    """Return the rung that `--linkmode-provider` names, if it names one."""
    return RUNGS.get(settings.provider or "")


def missing_right(settings: Settings) -> Unavailable | None:
    """Return why nothing of ours can be mounted, or None where that is allowed, or would be."""
    from pytest_linkmode import namespaces

    rung = forced(settings)
    if rung is not None and not rung.mounts:
        asked = f"--linkmode-provider={rung.name}"
        return Unavailable(
            "mounts", checked=[f"{asked}: nothing is mounted there"], mends=[f"leave out {asked}"]
        )
    return namespaces.missing_right(settings.namespace)


def mounts_as_user(settings: Settings) -> bool:
    """Return whether what is mounted is, or would be, mounted in a user namespace."""
    from pytest_linkmode import kernel, privileges

    rung = forced(settings)
    as_user = rung is not None and rung.user
    return as_user or not kernel.may_mount() or privileges.in_user_namespace()
