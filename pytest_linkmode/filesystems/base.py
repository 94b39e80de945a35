"""The seam of all ways to get a filesystem: a `Kind` is asked for, a `Provider` opens it.

A kind (btrfs, xfs, ...) is a row of a table: what it must be able to do, what it must not, and
which providers can get one, best first. A provider is one way (a loop image, a tmpfs, a
directory that is there already): it says what is missing without touching anything, and opens
a filesystem as a context manager that leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar

from pytest_linkmode import HERE, opening, systems
from pytest_linkmode.config import DIRECTORY_VARIABLE
from pytest_linkmode.errors import LinkmodeError, Unavailable

if TYPE_CHECKING:
    from pytest_linkmode.config import Settings
    from pytest_linkmode.namespaces import Place

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True)
class Kind:
    """One filesystem that tests may ask for by name.

    `providers` are tried in this order: names of rows of `PROVIDERS`, or a provider itself where
    a project adds a way of its own. `claims` are the capabilities that it must show when probed,
    `lacks` those that it must not. `fstype` is the kernel's name of it ("" for whatever a
    directory of this machine lies on), `mkfs` the command that formats an image (to which the
    image is appended), `options` what it is mounted with, `least_size` the smallest image in
    bytes. `aliases` are other names of the type under which the same may be mounted, as by a
    driver in user space. `copies` says that copies of one image can be mounted side by side,
    though their UUIDs are equal. `machine` marks a place that the machine happens to have, rather
    than a type of filesystem; `automatic` one that ``auto`` means. `partner` is the filesystem at
    the other end of its cross-device layouts.
    """

    name: str
    summary: str
    providers: tuple[str | Provider, ...]
    claims: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    fstype: str = ""
    mkfs: tuple[str, ...] = ()
    options: str = ""
    least_size: int = 0
    aliases: frozenset[str] = frozenset()
    copies: bool = False
    machine: bool = False
    automatic: bool = True
    partner: str = "tmpfs"

    @property
    def tools(self) -> tuple[str, ...]:
        """The programs that are needed to make one."""
        return self.mkfs[:1]


@dataclass(frozen=True)
class Filesystem:
    """One filesystem that tests may write to.

    `path` is a directory on it (its root, if we made it) that is ours to fill. `made` tells a
    filesystem of our own from a directory that the machine had. `facts` are what a reader of a
    report may want to know: the device, the mount options, the directory it was named by.
    """

    name: str
    path: str
    provider: str
    made: bool
    facts: Mapping[str, str] = field(default_factory=dict)


class Provider(Protocol):
    """One way to get a filesystem."""

    @property
    def name(self) -> str:
        """The word of `Kind.providers` and of ``--linkmode-provider``."""

    @property
    def rung(self) -> str:
        """The rung of the ladder of privileges on which it stands."""

    def missing(self, kind: Kind, settings: Settings) -> Unavailable | None:
        """Return what stands in the way, or None. Looks only: no side effects, no processes."""

    def open(
        self, kind: Kind, place: Place, settings: Settings
    ) -> AbstractContextManager[Filesystem]:
        """Return a context in which the filesystem exists. Entering it raises Unavailable."""


SYSTEMS: Mapping[str, str] = {
    **dict.fromkeys(("loop", "sudo", "tmpfs", "overlay", "fuse", "uml"), "linux"),
    "hdiutil": "darwin",
    "vhdx": "win32",
}
"""Providers that are of one system (`sys.platform`); elsewhere they are not even imported."""


def systems_of(kind: Kind) -> tuple[str, ...]:
    """Return the systems that can make one, none if that is not known of all of its providers."""
    ways = [word for word in kind.providers if word not in ("directory", "machine")]
    if not all(isinstance(word, str) and word in SYSTEMS for word in ways):
        return ()
    return tuple(dict.fromkeys(SYSTEMS[str(word)] for word in ways))


def is_foreign(kind: Kind, here: str = HERE) -> bool:
    """Return whether only other systems can make one."""
    those = systems_of(kind)
    return bool(those) and here not in those


@dataclass(frozen=True)
class Elsewhere:
    """A way that another system has: it stands in the ladder, and is never gone here."""

    name: str
    system: str

    @property
    def rung(self) -> str:
        """No rung of this machine."""
        return ""

    def missing(self, kind: Kind, settings: Settings) -> Unavailable | None:
        """Return on which system this works."""
        del settings
        those = systems_of(kind) if is_foreign(kind) else (self.system,)
        names, here = " and ".join(map(systems.name_of, those)), systems.name_of(HERE)
        return Unavailable(
            f"no {kind.name} by {self.name}",
            checked=[f"{kind.name}: made on {names}, and this is {here}"],
            mends=directory_mends(kind),
        )

    def open(
        self, kind: Kind, place: Place, settings: Settings
    ) -> AbstractContextManager[Filesystem]:
        """Raise what is missing."""
        del place
        missing = self.missing(kind, settings)
        assert missing is not None  # always something
        raise missing


class OwnedStack(ExitStack):
    """An `ExitStack` that unwinds only in the process that filled it.

    A forked child gets a copy of every suspended context manager, and closes it when it ends:
    without the guard it would unmount its parent's filesystems. With `keep`, what was made to
    the end stays (``--linkmode-keep``); what failed halfway is undone all the same.
    """

    def __init__(self, *, keep: bool = False) -> None:
        super().__init__()
        self._pid = os.getpid()
        self._keep = keep

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> bool:
        ended_well = kind is None or issubclass(kind, GeneratorExit)
        if os.getpid() != self._pid or (self._keep and ended_well):
            self.pop_all()
            return False
        return bool(super().__exit__(kind, error, traceback))


Value = TypeVar("Value")


@contextmanager
def attempted(
    context: AbstractContextManager[Value], what: str, mends: Iterable[str]
) -> Iterator[Value]:
    """Enter `context`; where a call or a program fails on the way, raise Unavailable."""
    with ExitStack() as stack:
        try:
            value = stack.enter_context(context)
        except (OSError, LinkmodeError) as error:
            raise Unavailable(what, checked=[f"trying it: {error}"], mends=mends) from error
        yield value


def directory_mends(kind: Kind, here: str = HERE) -> tuple[str, ...]:
    """Return what gives a filesystem of this kind where none can be made: an option, or a system
    that has it.
    """
    if is_foreign(kind, here):
        return systems.mends(systems_of(kind), here)
    variable = DIRECTORY_VARIABLE + kind.name.upper().replace("-", "_")
    return (f"name a directory on one: --linkmode-dir={kind.name}=PATH or {variable}=PATH",)


def remove_tree(path: str) -> None:
    """Remove a directory and everything below it that can be removed, following no symlink.

    Directories that were made read-only are made writable first, so that an ordinary user
    can remove what a test of theirs left. Never raises for what is left over or gone already.
    """
    import shutil

    path = opening.any_length(path)
    for directory, names, _ in os.walk(path):
        for name in names:
            below = os.path.join(directory, name)
            if not os.path.islink(below) and not os.access(below, os.W_OK | os.X_OK | os.R_OK):
                with contextlib.suppress(OSError):
                    os.chmod(below, 0o700)
    shutil.rmtree(path, ignore_errors=True)
