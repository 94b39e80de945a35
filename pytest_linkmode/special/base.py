"""What a row of the table is, and what it works on: a site, a layout placed, a bench for a test."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from linker.conditions import Condition
from pytest_linkmode.filesystems.base import OwnedStack
from pytest_linkmode.filesystems.registry import remove_used

if TYPE_CHECKING:
    from pytest_linkmode.capabilities import Capabilities
    from pytest_linkmode.config import Settings
    from pytest_linkmode.filesystems.base import Filesystem
    from pytest_linkmode.namespaces import Place


MOUNT = "mount"
ROOT = "root"
OWN = "own"
MACHINE = "machine"
NEEDS: Mapping[str, str] = {
    MOUNT: "the right to mount (CAP_SYS_ADMIN)",
    ROOT: "root, to become another user",
    MACHINE: "the machine's own user namespace: in any other the kernel refuses it",
    OWN: "a filesystem of our own making, not a directory that is there already",
}
"""What a row may need beside its filesystems."""


class Sides(Protocol):
    """What a row has to know of a layout: its filesystems, the word of its kind, and its name."""

    @property
    def source(self) -> str:
        """The name of the filesystem of the source."""

    @property
    def target(self) -> str:
        """The name of the filesystem of the target."""

    @property
    def kind(self) -> str:
        """The word of a special kind, or nothing."""

    @property
    def name(self) -> str:
        """The stable name of all of it."""


@dataclass(frozen=True)
class Placed:
    """A layout that exists: two directories, and what can really be done between them.

    `inside` is what can be done into the one directory of the target that is special, where there
    is one. `within` is what can be done inside the filesystem of the source, which tells what a
    special kind took away.
    """

    spec: Sides
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
    spec: Sides
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

    def close(self) -> None:
        """Undo what was done for this test, and make room for the next."""
        self.stack.close()
        if self.site.settings.keep:
            return
        for path in (self.source, os.path.realpath(self.target), self.layers):
            if path and os.path.isdir(path):
                remove_used(path)

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
    return Bench(site, make(source_root, name), make(target_root, name))


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
    primitive works, and `refuses` tells that it must fail, in some mode at least. `afterwards`
    returns what is wrong after linking in a mode.
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
    refuses: bool = False

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
        return self.seal is None and not self.acts


def make(parent: str, name: str) -> str:
    path = os.path.join(parent, name)
    os.mkdir(path)
    return path


@contextmanager
def put_directories(site: Site) -> Iterator[tuple[str, str]]:
    """Make a directory on each filesystem; they go when their filesystem goes."""
    yield (
        make(site.source.path, f"{site.directory}.source"),
        make(site.target.path, f"{site.directory}.target"),
    )
