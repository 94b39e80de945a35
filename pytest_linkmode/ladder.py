"""The ladder of privileges: the rungs on which a filesystem can be had, best first.

Nobody chooses a rung: each filesystem comes from the first provider that can, and a table says on
which rung that one stands. `--linkmode-provider` forces one, and with it the place in which
mounts live; `survey` says of this machine which rungs it has, and what the others would add.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_linkmode.errors import Unavailable
from pytest_linkmode.systems import CLONING, name_of

if TYPE_CHECKING:
    from pytest_linkmode.config import Settings
    from pytest_linkmode.namespaces import Place

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
    namespace, whoever asks. `look` returns why this machine has not got it, and makes nothing.
    """

    name: str
    summary: str
    adds: str
    providers: tuple[str, ...]
    look: Callable[[Settings], Unavailable | None]
    mounts: bool = True
    user: bool = False


@dataclass(frozen=True)
class Footing:
    """Whether this machine has one rung, or why not."""

    rung: Rung
    unavailable: Unavailable | None

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        missing = self.unavailable
        return {
            "name": self.rung.name,
            "summary": self.rung.summary,
            "adds": self.rung.adds,
            "available": missing is None,
            "checked": list(missing.checked) if missing else [],
            "mends": list(missing.mends) if missing else [],
        }


def survey(settings: Settings) -> tuple[Footing, ...]:
    """Return for every rung, from the top, whether it is here."""
    return tuple(Footing(rung, rung.look(settings)) for rung in RUNGS.values())


def in_words(settings: Settings) -> str:
    """Return in one line which rungs this machine has, and why not the others."""
    return "; ".join(
        f"{footing.rung.name}: "
        + ("yes" if not footing.unavailable else f"no ({', '.join(footing.unavailable.checked)})")
        for footing in survey(settings)
    )


def find_place(settings: Settings) -> Place:
    """Return where filesystems are made, by these settings. Raises Unavailable."""
    from pytest_linkmode import namespaces

    rung = RUNGS.get(settings.provider or "")
    if rung is not None and not rung.mounts:
        return namespaces.find_place(namespaces.HOST)
    if rung is None or rung.name == SUDO:
        _look_sudo(settings)  # from inside of a user namespace it could not be started any more
    if rung is not None and rung.user:
        return namespaces.find_place(settings.namespace, user=True)
    return namespaces.find_place(settings.namespace)


def missing_right(settings: Settings) -> Unavailable | None:
    """Return why nothing of ours can be mounted, or None where that is allowed, or would be."""
    from pytest_linkmode import namespaces

    rung = RUNGS.get(settings.provider or "")
    if rung is not None and not rung.mounts:
        asked = f"--linkmode-provider={rung.name}"
        return Unavailable(
            "mounts", checked=[f"{asked}: nothing is mounted there"], mends=[f"leave out {asked}"]
        )
    return namespaces.missing_right(settings.namespace)


def mounts_as_user(settings: Settings) -> bool:
    """Return whether what is mounted is, or would be, mounted in a user namespace."""
    from pytest_linkmode import kernel, privileges

    rung = RUNGS.get(settings.provider or "")
    forced = rung is not None and rung.user
    return forced or not kernel.may_mount() or privileges.in_user_namespace()


def _look_root(settings: Settings) -> Unavailable | None:
    del settings
    from pytest_linkmode import kernel, namespaces, privileges

    what = "no filesystems by root"
    if sys.platform != "linux":
        return Unavailable(what, checked=[f"mounts of our own: not on {name_of(sys.platform)}"])
    if not kernel.may_mount():
        checked = "the right to mount (CAP_SYS_ADMIN): missing"
    elif privileges.in_user_namespace():
        checked = "the right to mount: that of a user namespace, not of the machine"
    else:
        return None
    return Unavailable(what, checked=[checked], mends=namespaces.mount_mends())


def _look_sudo(settings: Settings) -> Unavailable | None:
    from pytest_linkmode import kernel

    if sys.platform != "linux":
        return Unavailable(
            "no sudo", checked=[f"mounts of our own: not on {name_of(sys.platform)}"]
        )
    if sys.platform == "linux" and kernel.may_mount() and settings.provider is None:
        # Nobody needs it, and nothing is imported.
        return Unavailable(
            "no sudo",
            checked=["passwordless sudo: not needed by who may mount"],
        )
    from pytest_linkmode.filesystems import sudo

    return sudo.look(settings)


def _look_directory(settings: Settings) -> Unavailable | None:
    if settings.dirs:
        return None
    kind = CLONING[sys.platform if sys.platform in CLONING else "linux"]
    return Unavailable(
        "no directories were named",
        checked=["--linkmode-dir, LINKMODE_DIR_*: not given"],
        mends=[
            f"name a directory on {kind}: "
            f"--linkmode-dir={kind}=PATH or LINKMODE_DIR_{kind.upper()}=PATH"
        ],
    )


def _look_provider(provider: str, kind: str, settings: Settings) -> Unavailable | None:
    from pytest_linkmode.filesystems import kind_of, provider_of

    return provider_of(provider).missing(kind_of(kind), replace(settings, provider=None))


def _look_user_namespace(settings: Settings) -> Unavailable | None:
    del settings
    from pytest_linkmode import namespaces, privileges

    if sys.platform != "linux":
        return Unavailable(
            "no user namespace", checked=[f"user namespaces: not on {name_of(sys.platform)}"]
        )
    if privileges.in_user_namespace():
        return None
    refusal = namespaces.try_private(user=True)
    if refusal is None:
        return None
    return Unavailable(
        "no user namespace",
        checked=[f"a child process tried it: {refusal}"],
        mends=namespaces.user_namespace_mends(refusal.step),
    )


def _look_uml(settings: Settings) -> Unavailable | None:
    if sys.platform != "linux":
        return Unavailable(
            "no guests", checked=[f"User-Mode Linux: not on {name_of(sys.platform)}"]
        )
    from pytest_linkmode.guests import uml

    return uml.look(settings)


RUNGS: Mapping[str, Rung] = {
    rung.name: rung
    for rung in (
        Rung(
            ROOT,
            "this process may mount",
            "every filesystem that the kernel has",
            ("loop", "tmpfs", "overlay"),
            _look_root,
        ),
        Rung(
            SUDO,
            "sudo without a password: a root helper makes what only root can",
            "every filesystem that the kernel has, in a user namespace",
            ("sudo", "tmpfs", "overlay"),
            _look_sudo,
            user=True,
        ),
        Rung(
            DIRECTORY,
            "directories that a person names",
            "whatever they lie on",
            ("directory",),
            _look_directory,
            mounts=False,
        ),
        Rung(
            MACHINE,
            "directories that the machine has",
            "what its disks and its memory can do, and nothing across mounts of one filesystem",
            ("machine",),
            functools.partial(_look_provider, "machine", "disk"),
            mounts=False,
        ),
        Rung(
            USER_NAMESPACE,
            "a user namespace, in which anybody may mount",
            "tmpfs, overlay, bind mounts, read-only and full filesystems",
            ("tmpfs", "overlay"),
            _look_user_namespace,
            user=True,
        ),
        Rung(
            UML,
            "guests of User-Mode Linux, in which tests run as root of a kernel of their own",
            "btrfs, xfs and ext4 for those tests of pytest that name them",
            ("uml",),
            _look_uml,
        ),
    )
}
"""Every rung by name, from the top of the ladder to the bottom."""
