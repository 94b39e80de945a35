"""Overlay: a writable layer over read-only ones, as every container has it.

The filesystem of that name has both layers in a tmpfs of ours. Layouts put the layers where they
want them, with `overlaid`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_linkmode import kernel, privileges, rungs
from pytest_linkmode.config import Settings
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.filesystems import mounts
from pytest_linkmode.filesystems.base import (
    Filesystem,
    Kind,
    OwnedStack,
    attempted,
    directory_mends,
)
from pytest_linkmode.namespaces import Place

SOURCE = "linkmode-overlay"
"""What mountinfo calls the source of our overlays."""


@dataclass(frozen=True)
class Layers:
    """The directories of an overlay, all on one filesystem; what is mounted merges them.

    `lower` is read through and never written to, `upper` takes what is written, `work` is the
    kernel's own.
    """

    lower: str
    upper: str
    work: str

    @classmethod
    def below(cls, directory: str) -> Layers:
        """Make the directories of a new overlay in an existing one. Raises OSError."""
        made = cls(*(os.path.join(directory, name) for name in ("lower", "upper", "work")))
        for path in (made.lower, made.upper, made.work):
            os.mkdir(path)
        return made

    @property
    def options(self) -> str:
        """The options that mount(2) takes: characters that separate them are escaped."""
        return ",".join(
            f"{name}={_escaped(path)}"
            for name, path in (
                ("lowerdir", self.lower),
                ("upperdir", self.upper),
                ("workdir", self.work),
            )
        )

    def mount(self, path: str) -> None:
        """Mount them at `path`. Raises OSError."""
        options = self.options
        if privileges.in_user_namespace():
            options += ",userxattr"  # Linux 5.11: trusted.* is not for anybody there
        with privileges.raised(privileges.CAP_DAC_OVERRIDE):
            kernel.mount(SOURCE, path, "overlay", kernel.MS_NOSUID, options)


def _escaped(path: str) -> str:
    return "".join(f"\\{each}" if each in "\\,:" else each for each in path)


@contextmanager
def overlaid(place: Place, name: str, layers: Layers, *, keep: bool = False) -> Iterator[str]:
    """Mount an overlay on a new directory of `place`; the context's value is its path."""
    with mounts.mounted(
        place, name, layers.mount, source=SOURCE, fstype="overlay", keep=keep
    ) as path:
        yield path


@dataclass(frozen=True)
class Overlay:
    """The provider."""

    name: str = "overlay"
    rung: str = "root"

    def missing(self, kind: Kind, settings: Settings) -> Unavailable | None:
        """Return what stands in the way: the right to mount, or a kernel without overlay."""
        missing = rungs.missing_right(settings)
        if missing is None and kernel.knows(kind.fstype):
            return None
        return Unavailable(
            f"no {kind.name} of our own",
            checked=missing.checked if missing else [f"{kind.fstype} in this kernel: missing"],
            mends=[*(missing.mends if missing else ()), *directory_mends(kind)],
        )

    @contextmanager
    def open(self, kind: Kind, place: Place, settings: Settings) -> Iterator[Filesystem]:
        """Mount one over a tmpfs, no larger than an image would be."""
        what = f"no {kind.name} of our own"
        with attempted(_in_memory(kind, place, settings), what, directory_mends(kind)) as path:
            there = kernel.mount_at(path)
            facts = {"options": there.options if there else ""}
            yield Filesystem(kind.name, path, self.name, made=True, facts=facts)


@contextmanager
def _in_memory(kind: Kind, place: Place, settings: Settings) -> Iterator[str]:
    keep = settings.keep
    with OwnedStack(keep=keep) as stack:
        options = f"mode=0755,size={settings.image_size}"
        below = stack.enter_context(
            mounts.mounted(
                place,
                f"below-{kind.name}",
                lambda path: kernel.mount(kind.name, path, "tmpfs", kernel.MS_NOSUID, options),
                source=kind.name,
                fstype="tmpfs",
                keep=keep,
            )
        )
        yield stack.enter_context(overlaid(place, kind.name, Layers.below(below), keep=keep))
