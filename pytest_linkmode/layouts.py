"""Layouts: where a source and a target lie, by one stable name.

A layout is named `SRC[:DST][+KIND]`; `pytest_linkmode.special` has the table of kinds. `parse`
and `select` are pure and know the static tables only, so that test ids are the same on every
machine; a `Workshop` makes filesystems when they are first used, places a source and a target on
them, and proves that the layout is what its name says before any test sees it.
"""

from __future__ import annotations

import atexit
import itertools
import os
import pathlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from linker.conditions import Condition
from linker.modes import LinkMode
from linker.policies import REFERENCE
from linker.policy import Policy
from pytest_linkmode import HERE, processes
from pytest_linkmode.config import PAIRS, SPECIAL, parse_mode, suggestion
from pytest_linkmode.errors import LinkmodeError, Unavailable, UsageError
from pytest_linkmode.filesystems import FILESYSTEMS, kind_of
from pytest_linkmode.filesystems import missing as filesystem_missing
from pytest_linkmode.filesystems.base import Filesystem, OwnedStack
from pytest_linkmode.special import (
    CROSS,
    KINDS,
    MACHINE,
    MOUNT,
    NEEDS,
    OWN,
    ROOT,
    SAME,
    Bench,
    Placed,
    Site,
    Special,
    own_kind,
    own_settings,
    seal,
)

if TYPE_CHECKING:
    from pytest_linkmode.capabilities import Capabilities
    from pytest_linkmode.config import Settings
    from pytest_linkmode.namespaces import Place

__all__ = [
    "CROSS",
    "KINDS",
    "NEEDS",
    "SAME",
    "Layout",
    "LayoutSpec",
    "Placed",
    "Site",
    "Special",
    "Workshop",
    "lacks",
    "missing",
    "parse",
    "select",
    "specials",
]

Key = TypeVar("Key")
Value = TypeVar("Value")


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

    @property
    def plain(self) -> bool:
        """Whether a test needs to know nothing of this layout (`Special.plain`)."""
        return self.row.plain

    @property
    def refuses(self) -> bool:
        """Whether linking must fail here, in some mode at least."""
        return self.row.refuses

    def __str__(self) -> str:
        return self.name


# --- names ------------------------------------------------------------------------------------


def parse(name: str) -> LayoutSpec:
    """Return the layout called `name`. Raises UsageError, with suggestions."""
    if not isinstance(name, str):
        raise UsageError(f"{name!r} is no layout", why="its name is a word, as in 'btrfs:tmpfs'")
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
    if kind:
        _check_pair(name, spec)
    return spec


def _check_pair(name: str, spec: LayoutSpec) -> None:
    """Raise UsageError unless a special kind can be made on the filesystems of its layout."""
    row, kind = KINDS[spec.kind], spec.kind
    if spec.source != spec.target and not row.across:
        raise UsageError(
            f"{name!r} is no layout",
            why=f"+{kind} lies on one filesystem",
            hint=f"write {spec.source}+{kind} or {spec.target}+{kind}",
        )
    if not row.fits(spec.target):
        fitting = ", ".join(each.name for each in _specs_of(row))
        raise UsageError(
            f"{name!r} is no layout",
            why=f"{spec.target} has no +{kind}",
            hint=f"there is {fitting}",
        )
    if spec.source == spec.target and not row.alone:
        raise UsageError(
            f"{name!r} is no layout",
            why=f"+{kind} lies on two filesystems",
            hint=f"write {kind_of(spec.target).partner}:{spec.target}+{kind}",
        )


def _specs_of(row: Special) -> Iterator[LayoutSpec]:
    """Give the layouts of a special kind, one for each filesystem that it can be made on."""
    for name in FILESYSTEMS:
        if row.fits(name):
            yield LayoutSpec(name if row.alone else FILESYSTEMS[name].partner, name, row.name)


def select(fs: Sequence[str], layouts: Sequence[str] | None = None) -> tuple[LayoutSpec, ...]:
    """Return the layouts that these filesystems, or these names of layouts, stand for.

    Without `layouts`: for each filesystem itself, its own special layouts (those of which a test
    needs to know nothing), and a cross-device partner in both directions. With `layouts`: exactly
    these, where ``pairs`` stands for every ordered pair of `fs`, each with itself included, and
    ``special`` for every special layout of `fs`. In the order given, none twice.

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


def specials(fs: Sequence[str]) -> tuple[LayoutSpec, ...]:
    """Return the special layouts of these filesystems of which a test has to know something."""
    found = (spec for name in fs for spec in _special(name) if not spec.plain)
    return tuple(dict.fromkeys(found))


def _family(name: str) -> Iterator[LayoutSpec]:
    partner = FILESYSTEMS[name].partner
    yield LayoutSpec(name, name)
    yield from (spec for spec in _special(name) if spec.plain)
    yield LayoutSpec(name, partner)
    yield LayoutSpec(partner, name)


def _special(name: str) -> Iterator[LayoutSpec]:
    """Give the special layouts for which the name of a filesystem stands."""
    for row in KINDS.values():
        if row.at_home(name):
            yield LayoutSpec(name if row.alone else FILESYSTEMS[name].partner, name, row.name)


def _named(name: str, fs: Sequence[str]) -> Iterator[LayoutSpec]:
    if name == PAIRS:
        yield from (LayoutSpec(*pair) for pair in itertools.product(fs, repeat=2))
    elif name == SPECIAL:
        yield from (spec for each in fs for spec in _special(each))
    else:
        yield parse(name)


def lacks(spec: LayoutSpec) -> frozenset[str]:
    """Return the capabilities that this layout surely has not, by the tables alone."""
    return spec.row.lacks | (kind_of(spec.target).lacks - {"cross-device"})


def missing(spec: LayoutSpec, settings: Settings) -> Unavailable | None:
    """Return all that stands in the way of this layout, or None. Only looks."""
    causes: list[Unavailable | None] = []
    for name in dict.fromkeys((spec.source, spec.target)):
        kind, asked = kind_of(name), settings
        if OWN in spec.row.needs:
            kind, asked = own_kind(kind), own_settings(settings)
        causes.append(filesystem_missing(kind, asked))
    causes.append(_missing_right(spec, settings))
    found = [cause for cause in causes if cause is not None]
    return Unavailable.all_of(f"{spec.name} cannot be had here", found) if found else None


def _missing_right(spec: LayoutSpec, settings: Settings) -> Unavailable | None:
    """Return what a special kind needs besides its filesystems and does not have here."""
    from pytest_linkmode import rungs
    from pytest_linkmode.filesystems import packages
    from pytest_linkmode.namespaces import mount_mends

    checked: list[str] = []
    mends: list[str] = []
    refused = rungs.missing_right(settings) if MOUNT in spec.row.needs else None
    if refused is not None:
        checked += refused.checked
        mends += refused.mends
    if MACHINE in spec.row.needs and rungs.mounts_as_user(settings):
        checked.append(f"{NEEDS[MACHINE]}: missing")
        mends += mount_mends()
    if ROOT in spec.row.needs and not (HERE == "linux" and os.geteuid() == 0):
        checked.append(f"{NEEDS[ROOT]}: missing")
        mends += mount_mends()
    for tool in spec.row.tools.get(spec.target, ()):
        if processes.which(tool) is None:
            checked.append(f"{tool}: neither in PATH nor in {', '.join(processes.SYSTEM_PATH)}")
            mends += packages.install(tool)
    if not checked:
        return None
    return Unavailable(f"{spec.name} cannot be had here", checked=checked, mends=mends)


# --- making them ------------------------------------------------------------------------------


@dataclass(frozen=True)
class TestFilesystem:
    """What `linkmode_fs` gives a test: an empty directory on a filesystem, and what it can do."""

    __test__ = False

    name: str
    path: pathlib.Path
    can: Capabilities


@dataclass(frozen=True)
class Layout:
    """What a test is given: two fresh, empty directories in a layout.

    In a layout that is not `plain` a test calls `seal` when it has filled the source, calls the
    linker inside of `acting`, asks `expect_at` where each file must end, and `failure` whether
    linking must fail. In all others it may.
    """

    name: str
    source: pathlib.Path
    target: pathlib.Path
    can: Capabilities
    policy: Policy = field(default=REFERENCE, repr=False)
    inside: Capabilities | None = field(default=None, repr=False)
    bench: Bench | None = field(default=None, repr=False, compare=False)
    row: Special = field(default=SAME, repr=False, compare=False)

    @property
    def plain(self) -> bool:
        """Whether a test needs to know nothing of this layout."""
        return self.row.plain

    @property
    def region(self) -> str:
        """The path of the one directory of the tree that is special here, empty if none is."""
        return self.bench.region if self.bench else ""

    @property
    def existed(self) -> tuple[str, ...]:
        """Glob patterns of directories that the layout put into the target, for `assert_linked`."""
        return tuple(self.bench.existed) if self.bench else ()

    @property
    def strangers(self) -> tuple[str, ...]:
        """Glob patterns of what the layout put into the target and the source does not have."""
        return tuple(self.bench.strangers) if self.bench else ()

    def seal(self, region: str | None = None) -> None:
        """Make the filled source what the layout says it is; only the first call does anything.

        `region` is the path of the directory that is special, where one is; by default the first
        directory that holds files. Raises LinkmodeError if the layout is not what it should be.
        """
        if self.bench is not None and not self.bench.sealed:
            seal(self.bench, self.row, region)

    def acting(self) -> AbstractContextManager[None]:
        """Return the context in which the linker must be called: as whom, by which umask."""
        from contextlib import nullcontext

        return self.row.acting(self.bench) if self.bench else nullcontext()

    def afterwards(self, mode: LinkMode) -> str:
        """Return what is wrong with the layout after linking in `mode`, or an empty string."""
        return self.row.afterwards(self.bench, mode.value) if self.bench else ""

    def expect(self, mode: LinkMode | str, policy: Policy | None = None) -> LinkMode:
        """Return the mode in which a file requested in `mode` must end here, by `policy`.

        By default that is the policy of the run. Raises LinkmodeError where it ends in an error, or
        where the source is still to be sealed.
        """
        self._must_be_sealed()
        return self.can.expect(parse_mode(mode), policy or self.policy)

    def expect_at(self, path: str, mode: LinkMode | str, policy: Policy | None = None) -> LinkMode:
        """Return the mode in which the file at `path` of the source must end, as `expect` does."""
        if self.region and self.inside and f"{path}/".startswith(f"{self.region}/"):
            self._must_be_sealed()
            return self.inside.expect(parse_mode(mode), policy or self.policy)
        return self.expect(mode, policy)

    def expected_tree(
        self, mode: LinkMode | str, policy: Policy | None = None
    ) -> dict[str, LinkMode]:
        """Return where each file of the source must end, by relative path."""
        paths = (
            os.path.relpath(os.path.join(above, name), self.source).replace(os.sep, "/")
            for above, _, names in os.walk(self.source)
            for name in names
            if not os.path.islink(os.path.join(above, name))
        )
        return {path: self.expect_at(path, mode, policy) for path in paths}

    def failure(self, mode: LinkMode | str, policy: Policy | None = None) -> Condition | None:
        """Return the condition with which linking a tree must fail here, or None if it must not."""
        mode = parse_mode(mode)
        if self.row.fails is not None:
            return self.row.fails
        found = self.can.failure(mode, policy or self.policy)
        if found is None and self.inside is not None:
            found = self.inside.failure(mode, policy or self.policy)
        return found

    def close(self) -> None:
        """Undo what the layout did for this test, and remove its directories."""
        if self.bench is not None:
            self.bench.close()

    def _must_be_sealed(self) -> None:
        if self.row.seal is not None and self.bench is not None and not self.bench.sealed:
            raise LinkmodeError(
                f"{self.name} is not sealed",
                why="what it does to a source is done when the source is filled",
                hint="call linkmode_layout.seal() before linking",
            )


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
        self._roots: dict[LayoutSpec, tuple[str, str]] = {}
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
        path = os.path.join(self.filesystem(name).path, f"directory-{next(self._numbers)}")
        os.mkdir(path)
        return path

    def place(self, spec: LayoutSpec) -> Placed:
        """Return where this layout is, proven to be what its name says. Raises Unavailable."""
        return _remembered(self._lock, self._placed, spec, self._put)

    def fresh(self, spec: LayoutSpec) -> tuple[str, str]:
        """Return a new, empty source and target directory. Raises Unavailable."""
        bench = self._begin(spec)
        return bench.source, bench.target

    def layout(self, spec: LayoutSpec) -> Layout:
        """Return fresh directories, with all that a test asks about. Raises Unavailable."""
        placed = self.place(spec)
        bench = self._begin(spec)
        return Layout(
            spec.name,
            pathlib.Path(bench.source),
            pathlib.Path(bench.target),
            placed.can,
            inside=placed.inside,
            bench=bench,
            row=spec.row,
        )

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

    def _begin(self, spec: LayoutSpec) -> Bench:
        self.place(spec)
        return self._bench(spec, *self._roots[spec])

    def _bench(self, spec: LayoutSpec, source_root: str, target_root: str) -> Bench:
        name = str(next(self._numbers))
        bench = spec.row.begin(self._site(spec), source_root, target_root, name)
        with self._lock:
            self._stack.callback(bench.stack.close)
        return bench

    def _site(self, spec: LayoutSpec) -> Site:
        return Site(self._where, self._settings, spec, self.filesystem)

    def _put(self, spec: LayoutSpec) -> Placed:
        refused = _missing_right(spec, self._settings)
        if refused:
            raise refused
        own = OWN in spec.row.needs
        made = own or all(self.filesystem(name).made for name in (spec.source, spec.target))
        try:
            self._roots[spec] = self._enter(spec.row.put(self._site(spec)))
            bench = self._bench(spec, *self._roots[spec])
            try:
                return self._prove(bench, spec, made=made, own=own)
            finally:
                bench.stack.close()
        except OSError as error:
            raise Unavailable(
                f"{spec.name} cannot be had here", checked=[f"making it: {error}"]
            ) from error

    def _prove(self, bench: Bench, spec: LayoutSpec, *, made: bool, own: bool) -> Placed:
        """Probe a layout with a sample of ours in it, and prove that it is one."""
        from pytest_linkmode.capabilities import write_sample

        row = spec.row
        sample, inner = os.path.join(bench.source, _SAMPLE), ""
        write_sample(sample)
        if row.region:
            os.mkdir(os.path.join(bench.source, _REGION))
            inner = os.path.join(bench.source, _REGION, _SAMPLE)
            write_sample(inner)
        wrong = ""
        try:
            within = None if own else self.can(spec.source)
            seal(bench, row, _REGION)
            with row.acting(bench):
                placed = self._probed(bench, spec, sample, inner, within)
                wrong = row.prove(placed)
        except LinkmodeError as error:
            if isinstance(error, Unavailable) or made:
                raise
            wrong = error.why
        if wrong and made:
            raise LinkmodeError(f"{spec.name} is not what it should be here", why=wrong)
        if wrong:
            raise Unavailable(f"{spec.name} cannot be had here", checked=[wrong])
        return placed

    def _probed(
        self, bench: Bench, spec: LayoutSpec, sample: str, inner: str, within: Capabilities | None
    ) -> Placed:
        from pytest_linkmode.capabilities import probe

        inside = None
        if spec.row.region and spec.row.fails is None:
            region = os.path.join(bench.target, _REGION)
            os.makedirs(region, exist_ok=True)
            inside = probe(os.path.dirname(inner), region, sample=inner)
        can = probe(bench.source, bench.target, sample=sample)
        inner_can = can if within is None else within
        return Placed(spec, bench.source, bench.target, can, inner_can, inside)


_SAMPLE, _REGION = "sample", "region"
"""What the names of the source are with which a layout is proven."""


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
