"""The ladder of privileges: which of the `rungs` this machine has, and what the others would add.

It looks, and makes nothing; `find_place` then goes to where filesystems are made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_linkmode import HERE
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.rungs import (
    DIRECTORY,
    MACHINE,
    ROOT,
    RUNGS,
    SUDO,
    UML,
    USER_NAMESPACE,
    Rung,
    forced,
)
from pytest_linkmode.systems import CLONING, name_of

if TYPE_CHECKING:
    from pytest_linkmode.config import Settings
    from pytest_linkmode.namespaces import Place


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


def look(name: str, settings: Settings) -> Unavailable | None:
    """Return why this machine has not got a rung, or None. Makes nothing."""
    return _LOOKS[name](settings)


def survey(settings: Settings) -> tuple[Footing, ...]:
    """Return for every rung, from the top, whether it is here."""
    return tuple(Footing(rung, look(rung.name, settings)) for rung in RUNGS.values())


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

    rung = forced(settings)
    if rung is not None and not rung.mounts:
        return namespaces.find_place(namespaces.HOST)
    if rung is None or rung.name == SUDO:
        _look_sudo(settings)  # from inside of a user namespace it could not be started any more
    if rung is not None and rung.user:
        return namespaces.find_place(settings.namespace, user=True)
    return namespaces.find_place(settings.namespace)


def _look_root(settings: Settings) -> Unavailable | None:
    del settings
    from pytest_linkmode import kernel, namespaces, privileges

    what = "no filesystems by root"
    if HERE != "linux":
        return Unavailable(what, checked=[f"mounts of our own: not on {name_of(HERE)}"])
    if not kernel.may_mount():
        checked = "the right to mount (CAP_SYS_ADMIN): missing"
    elif privileges.in_user_namespace():
        checked = "the right to mount: that of a user namespace, not of the machine"
    else:
        return None
    return Unavailable(what, checked=[checked], mends=namespaces.mount_mends())


def _look_sudo(settings: Settings) -> Unavailable | None:
    from pytest_linkmode import kernel

    if HERE != "linux":
        return Unavailable("no sudo", checked=[f"mounts of our own: not on {name_of(HERE)}"])
    if kernel.may_mount() and settings.provider is None:
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
    kind = CLONING[HERE if HERE in CLONING else "linux"]
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

    if HERE != "linux":
        return Unavailable(
            "no user namespace", checked=[f"user namespaces: not on {name_of(HERE)}"]
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
    if HERE != "linux":
        return Unavailable("no guests", checked=[f"User-Mode Linux: not on {name_of(HERE)}"])
    from pytest_linkmode.guests import uml

    return uml.look(settings)


_LOOKS: Mapping[str, Callable[[Settings], Unavailable | None]] = {
    ROOT: _look_root,
    SUDO: _look_sudo,
    DIRECTORY: _look_directory,
    MACHINE: functools.partial(_look_provider, "machine", "disk"),
    USER_NAMESPACE: _look_user_namespace,
    UML: _look_uml,
}
