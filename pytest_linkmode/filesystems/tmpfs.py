"""A tmpfs of our own: hard links and symlinks, no clones, and never the same device as a disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_linkmode import kernel, rungs
from pytest_linkmode.config import Settings
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.filesystems import mounts
from pytest_linkmode.filesystems.base import Filesystem, Kind, attempted, directory_mends
from pytest_linkmode.namespaces import Place


@dataclass(frozen=True)
class Tmpfs:
    """The provider."""

    name: str = "tmpfs"
    rung: str = "root"

    def missing(self, kind: Kind, settings: Settings) -> Unavailable | None:
        """Return what stands in the way: nothing but the right to mount."""
        missing = rungs.missing_right(settings)
        if missing is None:
            return None
        return Unavailable(
            f"no {kind.name} of our own",
            checked=missing.checked,
            mends=[*missing.mends, *directory_mends(kind)],
        )

    @contextmanager
    def open(self, kind: Kind, place: Place, settings: Settings) -> Iterator[Filesystem]:
        """Mount one, no larger than an image would be."""
        options = ",".join(filter(None, (f"mode=0755,size={settings.image_size}", kind.options)))
        mount = mounts.mounted(
            place,
            kind.name,
            lambda path: kernel.mount(kind.name, path, "tmpfs", kernel.MS_NOSUID, options),
            source=kind.name,
            fstype="tmpfs",
            keep=settings.keep,
        )
        with attempted(mount, f"no {kind.name} of our own", directory_mends(kind)) as path:
            yield Filesystem(kind.name, path, self.name, made=True, facts={"options": options})
