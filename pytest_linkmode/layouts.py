"""The table of layouts: where a source and a target lie, by one stable name.

A layout is named `SRC[:DST][+KIND]`. `parse` and `select` are pure and know the static tables
only, so that test ids are the same on every machine; a `Workshop` makes filesystems when they
are first used, places a source and a target on them, and proves that the layout is what its
name says before any test sees it.
"""

from __future__ import annotations

import atexit
import itertools
import os
import pathlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from linker.conditions import Condition, Primitive
from linker.modes import LinkMode
from linker.policies import REFERENCE
from linker.policy import Policy
from pytest_linkmode import kernel
from pytest_linkmode.config import PAIRS, suggestion
from pytest_linkmode.errors import LinkmodeError, Unavailable, UsageError
from pytest_linkmode.filesystems import FILESYSTEMS, kind_of
from pytest_linkmode.filesystems import missing as filesystem_missing
from pytest_linkmode.filesystems.base import Filesystem, OwnedStack

if TYPE_CHECKING:
    from pytest_linkmode.capabilities import Capabilities
    from pytest_linkmode.config import Settings
    from pytest_linkmode.namespaces import Place

Key = TypeVar("Key")
Value = TypeVar("Value")

CLONES_ACROSS_MOUNTS = (5, 18)
"""The first kernel that clones from one mount of a filesystem to another; before: EXDEV."""


@dataclass(frozen=True, order=True)
class LayoutSpec:
    """Where source and target lie: the names of two filesystems and the word of a special kind."""

    source: str
    target: str
    kind: str = ""

    @property
    def name(self) -> str:
        """The stable name, as in test ids."""
        pair = self.source if self.source == self.target else f"{self.source}:{self.target}"
        return f"{pair}+{self.kind}" if self.kind else pair

    @property
    def row(self) -> Special:
        """The row of the table that says how it is placed and proven."""
        if self.kind:
            return KINDS[self.kind]
        return SAME if self.source == self.target else CROSS

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Placed:
    """A layout that exists: two directories, and what can really be done between them.

    `within` is what can be done inside the filesystem of the source, which tells what a special
    kind took away.
    """

    spec: LayoutSpec
    source_root: str
    target_root: str
    can: Capabilities
    within: Capabilities


@dataclass(frozen=True)
class Site:
    """What a row needs to place a layout: where mounts may be made, and the two filesystems."""

    place: Place
    settings: Settings
    spec: LayoutSpec
    source: Filesystem
    target: Filesystem

    @property
    def directory(self) -> str:
        """The name of the layout as one that no shell or path list stumbles over."""
        return self.spec.name.replace(":", "-to-").replace("+", "-")


@dataclass(frozen=True)
class Special:
    """One row: a way in which a source and a target can lie to each other.

    `purpose` says what it is for. `needs` is a subset of `NEEDS`. `filesystems` are those it can
    be made on (None: on all), `across` whether it takes two of them. `put` makes the two
    directories as a context; `prove` returns what is wrong with them, or an empty string. `lacks`
    are capabilities that it never has.
    """

    name: str
    purpose: str
    put: Callable[[Site], AbstractContextManager[tuple[str, str]]]
    prove: Callable[[Placed], str]
    needs: frozenset[str] = frozenset()
    filesystems: frozenset[str] | None = None
    across: bool = False
    lacks: frozenset[str] = frozenset()

    def fits(self, filesystem: str) -> bool:
        """Whether it can be made on the filesystem of that name."""
        return self.filesystems is None or filesystem in self.filesystems


# --- how layouts are placed -------------------------------------------------------------------


@contextmanager
def _put_directories(site: Site) -> Iterator[tuple[str, str]]:
    """Make a directory on each filesystem; they go when their filesystem goes."""
    yield (
        _make(site.source.path, f"{site.directory}.source"),
        _make(site.target.path, f"{site.directory}.target"),
    )


@contextmanager
def _put_bind_mounts(site: Site) -> Iterator[tuple[str, str]]:
    from pytest_linkmode.filesystems import mounts

    keep = site.settings.keep
    with _put_directories(site) as (source, target):
        name = site.directory
        with (
            mounts.bound(site.place, f"{name}.source", source, keep=keep) as seen_source,
            mounts.bound(site.place, f"{name}.target", target, keep=keep) as seen_target,
        ):
            yield seen_source, seen_target


@contextmanager
def _put_subvolumes(site: Site) -> Iterator[tuple[str, str]]:
    from pytest_linkmode.filesystems.btrfs import create_subvolume

    yield (
        create_subvolume(site.source.path, f"{site.directory}.source"),
        create_subvolume(site.target.path, f"{site.directory}.target"),
    )


def _make(parent: str, name: str) -> str:
    path = os.path.join(parent, name)
    os.mkdir(path)
    return path


# --- how their premises are proven ------------------------------------------------------------


def _prove_same(placed: Placed) -> str:
    for primitive, condition in placed.can.results.items():
        if condition is Condition.CROSS_DEVICE:
            return f"{primitive} says that source and target are two filesystems"
    return ""


def _prove_cross(placed: Placed) -> str:
    if "cross-device" not in placed.can:
        return f"source and target are one filesystem ({placed.can.why['cross-device']})"
    return ""


def _prove_bind(placed: Placed) -> str:
    refused = _link_must_not_cross(placed)
    if refused:
        return refused
    if os.stat(placed.source_root).st_dev != os.stat(placed.target_root).st_dev:
        return "the two mounts do not show one filesystem: their device numbers differ"
    return _clone_must_still_work(placed) if kernel.release() >= CLONES_ACROSS_MOUNTS else ""


def _prove_subvolume(placed: Placed) -> str:
    refused = _link_must_not_cross(placed)
    if refused:
        return refused
    if os.stat(placed.source_root).st_dev == os.stat(placed.target_root).st_dev:
        return "the two are one subvolume: their device numbers are equal"
    return _clone_must_still_work(placed)


def _link_must_not_cross(placed: Placed) -> str:
    if placed.can.results[Primitive.HARDLINK] is Condition.CROSS_DEVICE:
        return ""
    return f"a hard link is not refused as cross-device ({placed.can.why['hardlink']})"


def _clone_must_still_work(placed: Placed) -> str:
    if "reflink" in placed.within and "reflink" not in placed.can:
        return f"a clone does not reach across ({placed.can.why['reflink']})"
    return ""


# --- the tables -------------------------------------------------------------------------------

MOUNT = "mount"
NEEDS: Mapping[str, str] = {MOUNT: "the right to mount (CAP_SYS_ADMIN)"}
"""What a row may need beside its filesystems."""

SAME = Special(
    "",
    "cache and environment side by side: whatever the filesystem can do",
    _put_directories,
    _prove_same,
    lacks=frozenset({"cross-device"}),
)
CROSS = Special(
    "",
    "cache and environment on two filesystems: neither clone nor link, everything is copied",
    _put_directories,
    _prove_cross,
    across=True,
    lacks=frozenset({"reflink", "hardlink"}),
)

KINDS: Mapping[str, Special] = {
    row.name: row
    for row in (
        Special(
            "bind",
            "two mounts of one filesystem, as containers have them: equal device numbers, and "
            "still link and rename refuse to cross, while clone works (Linux >= 5.18)",
            _put_bind_mounts,
            _prove_bind,
            needs=frozenset({MOUNT}),
            lacks=frozenset({"hardlink"}),
        ),
        Special(
            "subvolume",
            "two subvolumes of one btrfs, as distributions set up / and /home: different device "
            "numbers, link refuses to cross, clone works",
            _put_subvolumes,
            _prove_subvolume,
            filesystems=frozenset({"btrfs"}),
            lacks=frozenset({"hardlink", "cross-device"}),
        ),
    )
}
"""Every special kind by the word after the plus sign."""


# --- names ------------------------------------------------------------------------------------


def parse(name: str) -> LayoutSpec:
    """Return the layout called `name`. Raises UsageError, with suggestions."""
    pair, plus, kind = name.partition("+")
    source, colon, target = pair.partition(":")
    if not source or (colon and not target) or (plus and not kind):
        raise UsageError(
            f"{name!r} is no layout",
            why="a name is missing in it",
            hint="write it as SOURCE, SOURCE:TARGET or SOURCE+KIND, as in btrfs:tmpfs",
        )
    spec = LayoutSpec(source, target or source, kind)
    for part in (spec.source, spec.target):
        if part not in FILESYSTEMS:
            raise UsageError(
                f"{name!r} is no layout",
                why=f"no filesystem is called {part!r}",
                hint=suggestion(part, FILESYSTEMS),
            )
    if kind and kind not in KINDS:
        raise UsageError(
            f"{name!r} is no layout",
            why=f"no special kind is called {kind!r}",
            hint=suggestion(kind, KINDS),
        )
    if spec.source != spec.target and kind and not KINDS[kind].across:
        raise UsageError(
            f"{name!r} is no layout",
            why=f"+{kind} lies on one filesystem",
            hint=f"write {spec.source}+{kind} or {spec.target}+{kind}",
        )
    if kind and not KINDS[kind].fits(spec.source):
        fitting = ", ".join(f"{fs}+{kind}" for fs in FILESYSTEMS if KINDS[kind].fits(fs))
        raise UsageError(
            f"{name!r} is no layout",
            why=f"{spec.source} has no +{kind}",
            hint=f"there is {fitting}",
        )
    return spec


def select(fs: Sequence[str], layouts: Sequence[str] | None = None) -> tuple[LayoutSpec, ...]:
    """Return the layouts that these filesystems, or these names of layouts, stand for.

    Without `layouts`: for each filesystem itself, its own special layouts, and a cross-device
    partner in both directions. With `layouts`: exactly these, where ``pairs`` stands for every
    ordered pair of `fs`, each with itself included. In the order given, none twice.

    Raises UsageError for a name that does not exist.
    """
    for name in fs:
        kind_of(name)
    specs = (
        [spec for name in fs for spec in _family(name)]
        if layouts is None
        else [spec for name in layouts for spec in _named(name, fs)]
    )
    return tuple(dict.fromkeys(specs))


def _family(name: str) -> Iterator[LayoutSpec]:
    partner = FILESYSTEMS[name].partner
    yield LayoutSpec(name, name)
    for row in KINDS.values():
        if row.fits(name) and not row.across:
            yield LayoutSpec(name, name, row.name)
    yield LayoutSpec(name, partner)
    yield LayoutSpec(partner, name)


def _named(name: str, fs: Sequence[str]) -> Iterator[LayoutSpec]:
    if name == PAIRS:
        yield from (LayoutSpec(*pair) for pair in itertools.product(fs, repeat=2))
    else:
        yield parse(name)


def lacks(spec: LayoutSpec) -> frozenset[str]:
    """Return the capabilities that this layout surely has not, by the tables alone."""
    return spec.row.lacks | (kind_of(spec.target).lacks - {"cross-device"})


def missing(spec: LayoutSpec, settings: Settings) -> Unavailable | None:
    """Return all that stands in the way of this layout, or None. Only looks."""
    names = dict.fromkeys((spec.source, spec.target))
    causes = [filesystem_missing(kind_of(name), settings) for name in names]
    causes.append(_missing_right(spec, settings))
    found = [cause for cause in causes if cause is not None]
    return Unavailable.all_of(f"{spec.name} cannot be had here", found) if found else None


def _missing_right(spec: LayoutSpec, settings: Settings) -> Unavailable | None:
    if MOUNT not in spec.row.needs:
        return None
    from pytest_linkmode.ladder import missing_right

    missing = missing_right(settings)
    if missing is None:
        return None
    return Unavailable(
        f"{spec.name} cannot be had here", checked=missing.checked, mends=missing.mends
    )


# --- making them ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """What a test is given: two fresh, empty directories in a layout."""

    name: str
    source: pathlib.Path
    target: pathlib.Path
    can: Capabilities
    policy: Policy = REFERENCE

    def expect(self, mode: LinkMode, policy: Policy | None = None) -> LinkMode:
        """Return the mode in which a file requested in `mode` must end here, by `policy`.

        By default that is the policy of the run. Raises LinkmodeError where it ends in an error.
        """
        return self.can.expect(mode, policy or self.policy)


class Workshop:
    """The filesystems and layouts of one process, each made when it is first used.

    What cannot be had is tried once and remembered. Everything is undone by `close`, at the
    latest when the process ends; a forked child may use what is there, and never undoes it.
    """

    def __init__(self, place: Place, settings: Settings) -> None:
        self._where = place
        self._settings = settings
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._stack = OwnedStack()
        self._numbers = itertools.count(1)
        self._filesystems: dict[str, Filesystem | Unavailable] = {}
        self._within: dict[str, Capabilities] = {}
        self._placed: dict[LayoutSpec, Placed | Unavailable] = {}
        atexit.register(self.close)

    @property
    def filesystems(self) -> tuple[Filesystem, ...]:
        """What exists by now, in the order in which it was made."""
        return tuple(one for one in self._filesystems.values() if isinstance(one, Filesystem))

    def filesystem(self, name: str) -> Filesystem:
        """Return the filesystem of that name. Raises Unavailable, LinkmodeError."""
        return _remembered(self._lock, self._filesystems, name, self._open)

    def can(self, name: str) -> Capabilities:
        """Return what can be done within the filesystem of that name. Raises Unavailable."""
        filesystem = self.filesystem(name)
        with self._lock:
            if name not in self._within:
                from pytest_linkmode.capabilities import probe

                self._within[name] = probe(filesystem.path, filesystem.path)
        return self._within[name]

    def directory(self, name: str) -> str:
        """Return a new, empty directory on the filesystem of that name. Raises Unavailable."""
        return _make(self.filesystem(name).path, f"directory-{next(self._numbers)}")

    def place(self, spec: LayoutSpec) -> Placed:
        """Return where this layout is, proven to be what its name says. Raises Unavailable."""
        return _remembered(self._lock, self._placed, spec, self._put)

    def fresh(self, spec: LayoutSpec) -> tuple[str, str]:
        """Return a new, empty source and target directory. Raises Unavailable."""
        placed = self.place(spec)
        name = str(next(self._numbers))
        return _make(placed.source_root, name), _make(placed.target_root, name)

    def layout(self, spec: LayoutSpec) -> Layout:
        """Return fresh directories, with all that a test asks about. Raises Unavailable."""
        source, target = self.fresh(spec)
        can = self.place(spec).can
        return Layout(spec.name, pathlib.Path(source), pathlib.Path(target), can)

    def close(self) -> None:
        """Undo everything, last first. Does nothing in a forked child; may be called again."""
        atexit.unregister(self.close)
        self._stack.close()

    def _enter(self, context: AbstractContextManager[Value]) -> Value:
        if os.getpid() != self._pid:
            raise LinkmodeError(
                "filesystems are made by the process that they belong to",
                why=f"that is {self._pid}, and this is a child of it",
            )
        return self._stack.enter_context(context)

    def _open(self, name: str) -> Filesystem:
        from pytest_linkmode.filesystems import opened

        return self._enter(opened(name, self._where, self._settings))

    def _put(self, spec: LayoutSpec) -> Placed:
        refused = _missing_right(spec, self._settings)
        if refused:
            raise refused
        source, target = self.filesystem(spec.source), self.filesystem(spec.target)
        site = Site(self._where, self._settings, spec, source, target)
        try:
            source_root, target_root = self._enter(spec.row.put(site))
        except OSError as error:
            raise Unavailable(
                f"{spec.name} cannot be had here", checked=[f"making it: {error}"]
            ) from error
        from pytest_linkmode.capabilities import probe

        can = probe(source_root, target_root)
        placed = Placed(spec, source_root, target_root, can, self.can(spec.source))
        wrong = spec.row.prove(placed)
        if wrong and source.made and target.made:
            raise LinkmodeError(f"{spec.name} is not what it should be here", why=wrong)
        if wrong:
            raise Unavailable(f"{spec.name} cannot be had here", checked=[wrong])
        return placed


def _remembered(
    lock: AbstractContextManager[Any],
    memory: dict[Key, Value | Unavailable],
    key: Key,
    make: Callable[[Key], Value],
) -> Value:
    """Return what `make` made of `key` the first time, or raise what it raised then."""
    with lock:
        if key not in memory:
            try:
                memory[key] = make(key)
            except Unavailable as unavailable:
                memory[key] = unavailable
        found = memory[key]
    if isinstance(found, Unavailable):
        raise found
    return found
