"""The filesystems that tests may ask for, and all ways to get one.

`FILESYSTEMS` and `PROVIDERS` are the tables; the hook `pytest_linkmode_filesystems` adds rows.
`survey` says what this machine has without touching anything, `opened` gets one and proves
that it is what its row says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_linkmode import HERE
from pytest_linkmode.config import suggestion
from pytest_linkmode.errors import LinkmodeError, Unavailable, UsageError
from pytest_linkmode.filesystems.base import (
    MIB,
    SYSTEMS,
    Elsewhere,
    Filesystem,
    Kind,
    Provider,
    directory_mends,
    is_foreign,
)

if TYPE_CHECKING:
    from pytest_linkmode.config import Settings
    from pytest_linkmode.namespaces import Place

__all__ = [
    "FILESYSTEMS",
    "PROVIDERS",
    "SYSTEMS",
    "Fact",
    "Filesystem",
    "Kind",
    "Provider",
    "automatic",
    "kind_of",
    "missing",
    "of_system",
    "opened",
    "rows",
    "survey",
]

_LINKS = frozenset({"hardlink", "symlink"})
_CLONES = frozenset({"reflink"})
_COARSE = frozenset({"coarse-times"})
_FAT = _COARSE | {"case-insensitive", "fixed-permissions"}
_ON_WINDOWS = _FAT
"""What Windows makes of every filesystem: times in steps of 100 ns, one bit for permissions."""
_OTHER = frozenset({"cross-device", "dirclone"}) | _FAT
_BY_IMAGE = ("directory", "loop", "sudo", "machine", "uml")
_BY_MACHINE = ("directory", "machine")

# -K, nodiscard: a fresh sparse file has nothing to discard.
_BTRFS = ("mkfs.btrfs", "-q", "-f", "-K", "-m", "single")
_XFS = ("mkfs.xfs", "-q", "-f", "-K", "-m")
_EXT = ("-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1")

FILESYSTEMS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "btrfs",
            "clones; several subvolumes in one filesystem",
            _BY_IMAGE,
            claims=_LINKS | _CLONES,
            lacks=_OTHER,
            fstype="btrfs",
            mkfs=_BTRFS,
            options="discard",
            least_size=109 * MIB,
            copies=True,
        ),
        Kind(
            "btrfs-compress",
            "a btrfs that compresses what it is given: extents are not what was written",
            _BY_IMAGE,
            claims=_LINKS | _CLONES,
            lacks=_OTHER,
            fstype="btrfs",
            mkfs=_BTRFS,
            options="discard,compress-force=zstd",
            least_size=109 * MIB,
            copies=True,
            automatic=False,
        ),
        Kind(
            "xfs",
            "clones",
            _BY_IMAGE,
            claims=_LINKS | _CLONES,
            lacks=_OTHER,
            fstype="xfs",
            mkfs=(*_XFS, "reflink=1"),
            options="discard,nouuid",
            least_size=300 * MIB,
            copies=True,
        ),
        Kind(
            "xfs-noreflink",
            "an xfs of the time before clones: the call is there, the filesystem refuses it",
            _BY_IMAGE,
            claims=_LINKS,
            lacks=_OTHER | _CLONES,
            fstype="xfs",
            mkfs=(*_XFS, "reflink=0"),
            options="discard,nouuid",
            least_size=300 * MIB,
            copies=True,
        ),
        Kind(
            "ext4",
            "no clones; what most Linux machines have",
            _BY_IMAGE,
            claims=_LINKS,
            lacks=_OTHER | _CLONES,
            fstype="ext4",
            mkfs=("mkfs.ext4", *_EXT),
            options="discard",
            least_size=8 * MIB,
            copies=True,
        ),
        Kind(
            "ext2",
            "no clones, no journal, no extents, times to the second: a disk of the nineties",
            _BY_IMAGE,
            claims=_LINKS | _COARSE,
            lacks=(_OTHER | _CLONES) - _COARSE,
            fstype="ext2",
            mkfs=("mkfs.ext2", "-I", "128", *_EXT),
            options="discard",
            least_size=8 * MIB,
            copies=True,
            automatic=False,
        ),
        Kind(
            "tmpfs",
            "no clones; in memory, the usual other side of a cross-device layout",
            ("directory", "tmpfs", "machine", "uml"),
            claims=_LINKS,
            lacks=_OTHER | _CLONES,
            fstype="tmpfs",
            partner="disk",
        ),
        Kind(
            "overlay",
            "a writable layer over an image layer, as containers have it; both in memory",
            ("directory", "overlay", "machine", "uml"),
            claims=_LINKS,
            lacks=_OTHER | _CLONES,
            fstype="overlay",
            automatic=False,
        ),
        Kind(
            "bindfs",
            "a directory shown again by a daemon (FUSE): links work, clones do not pass through",
            ("directory", "fuse"),
            claims=_LINKS,
            lacks=_OTHER | _CLONES,
            fstype="fuse",
            aliases=frozenset({"fuse.bindfs"}),
            automatic=False,
        ),
        Kind(
            "exfat",
            "a memory stick: no links, no symlinks, no permission bits, and it folds case",
            ("directory", "loop", "fuse", "machine", "hdiutil", "vhdx"),
            claims=_FAT,
            lacks=(_OTHER - _FAT) | _LINKS | _CLONES,
            fstype="exfat",
            mkfs=("mkfs.exfat",),
            aliases=frozenset({"fuseblk"}),
            least_size=8 * MIB,
            copies=True,
            automatic=False,
        ),
        Kind(
            "ntfs",
            "links and symlinks, times in steps of 100 ns; by a daemon (ntfs-3g) on Linux",
            ("directory", "fuse", "vhdx"),
            claims=_LINKS | _COARSE,
            lacks=(_OTHER | _CLONES) - _COARSE,
            fstype="fuseblk",
            mkfs=("mkfs.ntfs", "-q", "-F", "-f"),
            aliases=frozenset({"ntfs3", "ntfs"}),
            least_size=8 * MIB,
            copies=True,
            automatic=False,
        ),
        Kind(
            "refs",
            "clones blocks: ReFS, as on servers and Dev Drives of Windows",
            ("directory", "vhdx"),
            claims=_LINKS | _CLONES | _ON_WINDOWS,
            lacks=_OTHER - _ON_WINDOWS,
            fstype="refs",
            least_size=4096 * MIB,
            automatic=False,
            partner="disk",
        ),
        Kind(
            "fat32",
            "a memory stick of old: no links, times in steps of two seconds",
            ("directory", "vhdx"),
            claims=_FAT,
            lacks=(_OTHER - _FAT) | _LINKS | _CLONES,
            fstype="fat32",
            least_size=64 * MIB,
            automatic=False,
            partner="disk",
        ),
        Kind(
            "apfs",
            "clones, of directories too, and folds case: what a Mac comes with",
            ("directory", "hdiutil"),
            claims=_LINKS | _CLONES | {"case-insensitive"},
            lacks=_OTHER - {"case-insensitive", "dirclone"},
            fstype="apfs",
            least_size=256 * MIB,
            automatic=False,
            partner="disk",
        ),
        Kind(
            "apfs-case-sensitive",
            "APFS that tells upper from lower case",
            ("directory", "hdiutil"),
            claims=_LINKS | _CLONES,
            lacks=_OTHER - {"dirclone"},
            fstype="apfs",
            least_size=256 * MIB,
            automatic=False,
            partner="disk",
        ),
        Kind(
            "hfs",
            "HFS+: no clones, times to the second, folds case",
            ("directory", "hdiutil"),
            claims=_LINKS | _COARSE | {"case-insensitive"},
            lacks=(_OTHER | _CLONES) - _COARSE - {"case-insensitive"},
            fstype="hfs",
            least_size=64 * MIB,
            automatic=False,
            partner="disk",
        ),
        Kind(
            "disk",
            "whatever the temporary or the working directory of this machine lies on",
            _BY_MACHINE,
            machine=True,
        ),
        Kind(
            "shm",
            "the shared memory of this machine, /dev/shm",
            _BY_MACHINE,
            machine=True,
            automatic=False,
            partner="disk",
        ),
        Kind(
            "home",
            "whatever the home directory lies on",
            _BY_MACHINE,
            machine=True,
            automatic=False,
        ),
        Kind(
            "drive",
            "another drive than that of the temporary directory, where people have theirs",
            _BY_MACHINE,
            machine=True,
            automatic=False,
            partner="disk",
        ),
    )
}
"""Every filesystem by name, in the order in which they are shown and tested."""

PROVIDERS: dict[str, str | Provider] = {
    "loop": "pytest_linkmode.filesystems.loop:Loop",
    "sudo": "pytest_linkmode.filesystems.sudo:Sudo",
    "tmpfs": "pytest_linkmode.filesystems.tmpfs:Tmpfs",
    "overlay": "pytest_linkmode.filesystems.overlay:Overlay",
    "fuse": "pytest_linkmode.filesystems.fuse:Fuse",
    "directory": "pytest_linkmode.filesystems.directory:Named",
    "machine": "pytest_linkmode.filesystems.directory:Machine",
    "uml": "pytest_linkmode.guests.uml:Uml",
    "hdiutil": "pytest_linkmode.filesystems.images:hdiutil",
    "vhdx": "pytest_linkmode.filesystems.images:vhdx",
}
"""Every provider by name; those that are text are imported when they are first needed."""


def rows(answers: Iterable[object]) -> list[Kind]:
    """Return the rows in what implementations of `pytest_linkmode_filesystems` have answered.

    Raises UsageError for anything else, and for a provider of a name that nobody has.
    """
    found = []
    for answer in answers:
        for kind in answer if isinstance(answer, Iterable) else (answer,):
            if not isinstance(kind, Kind):
                raise UsageError(
                    f"the hook pytest_linkmode_filesystems returned {answer!r}",
                    why=f"{kind!r} is no Kind",
                    hint='return a list, as in [Kind("lustre", "a big one", ("directory",))]',
                )
            for word in kind.providers:
                if isinstance(word, str) and word not in PROVIDERS:
                    raise UsageError(
                        f"the filesystem {kind.name!r} of the hook pytest_linkmode_filesystems",
                        why=f"no provider is called {word!r}",
                        hint=suggestion(word, PROVIDERS),
                    )
            found.append(kind)
    return found


@dataclass(frozen=True)
class Fact:
    """Whether one filesystem can be had here, and how, or all that is missing."""

    kind: Kind
    provider: str
    unavailable: Unavailable | None

    @property
    def available(self) -> bool:
        """Whether it can be had, as far as can be told without making one."""
        return self.unavailable is None

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        missing = self.unavailable
        return {
            "name": self.kind.name,
            "summary": self.kind.summary,
            "available": self.available,
            "provider": self.provider,
            "why": str(missing.what) if missing else "",
            "checked": list(missing.checked) if missing else [],
            "mends": list(missing.mends) if missing else [],
        }


def automatic() -> tuple[str, ...]:
    """Return the names of those filesystems that ``auto`` means, where they can be had."""
    return tuple(kind.name for kind in FILESYSTEMS.values() if kind.automatic)


def kind_of(name: str) -> Kind:
    """Return the row of that name. Raises UsageError, with suggestions."""
    if name in FILESYSTEMS:
        return FILESYSTEMS[name]
    raise UsageError(f"no filesystem is called {name!r}", hint=suggestion(name, FILESYSTEMS))


def of_system(kind: Kind, system: str = HERE) -> bool:
    """Return whether a system has a way to get one, besides directories that a person names."""
    return any(
        not isinstance(word, str) or SYSTEMS.get(word, system) == system
        for word in kind.providers
        if word != "directory"
    )


def provider_of(word: str | Provider) -> Provider:
    """Return the provider of that name, imported if need be; a provider is one already."""
    if not isinstance(word, str):
        return word
    if SYSTEMS.get(word, HERE) != HERE:
        return Elsewhere(word, SYSTEMS[word])
    found = PROVIDERS[word]
    if isinstance(found, str):
        import importlib

        module, _, attribute = found.partition(":")
        make: Callable[[], Provider] = getattr(importlib.import_module(module), attribute)
        found = PROVIDERS[word] = make()
    return found


def ladder(kind: Kind, settings: Settings) -> tuple[Provider, ...]:
    """Return the providers that may be asked for `kind`, in order.

    A directory that was named for it is used or is an error, never passed over in silence.
    `--linkmode-provider` takes the name of a provider, or of a rung: that forces how filesystems
    are made, and the places of this machine are still there. Raises UsageError for a name that
    no provider and no rung has.
    """
    from pytest_linkmode.rungs import RUNGS

    providers = tuple(provider_of(word) for word in kind.providers)
    wanted = settings.provider
    if kind.name in settings.dirs and (wanted is None or wanted in RUNGS):
        return tuple(one for one in providers if one.name == "directory")
    if wanted is None:
        return providers
    everyone = (*providers, *(provider_of(word) for word in PROVIDERS))
    words = {*RUNGS, *(word for one in everyone for word in (one.name, one.rung))} - {""}
    if wanted not in words:
        raise UsageError(
            f"no provider is called {wanted!r}", hint=suggestion(wanted, sorted(words))
        )
    names = {wanted, *(RUNGS[wanted].providers if wanted in RUNGS else ())}
    if wanted in RUNGS and kind.machine:
        names.add("machine")
    return tuple(one for one in providers if one.name in names or one.rung == wanted)


def missing(kind: Kind, settings: Settings) -> Unavailable | None:
    """Return why a filesystem cannot be had here, or None. Only looks."""
    return _fact(kind, settings).unavailable


def provider_for(kind: Kind, settings: Settings) -> str:
    """Return the name of the provider that a filesystem would come from, or "". Only looks."""
    return _fact(kind, settings).provider


def survey(settings: Settings) -> tuple[Fact, ...]:
    """Return for every filesystem whether it can be had here, and how. Only looks."""
    return tuple(_fact(kind, settings) for kind in FILESYSTEMS.values())


def _fact(kind: Kind, settings: Settings) -> Fact:
    causes: list[Unavailable] = []
    for provider in _asked(kind, settings):
        cause = provider.missing(kind, settings)
        if cause is None:
            return Fact(kind, provider.name, None)
        causes.append(cause)
    return Fact(kind, "", _unavailable(kind, settings, causes))


def _asked(kind: Kind, settings: Settings) -> Iterator[Provider]:
    """Yield the providers that have something to say here: of what other systems have nobody wants
    to hear where this one can make one, nor of what this machine has where only others can.
    """
    foreign = is_foreign(kind)
    for provider in ladder(kind, settings):
        idle = provider.name == "machine" if foreign else isinstance(provider, Elsewhere)
        if settings.provider is not None or not idle:
            yield provider


def _unavailable(kind: Kind, settings: Settings, causes: list[Unavailable]) -> Unavailable:
    what = f"{kind.name} cannot be had here"
    if causes:
        return Unavailable.all_of(what, causes)
    ways = ", ".join(provider_of(word).name for word in kind.providers)
    asked = f"--linkmode-provider={settings.provider}"
    if settings.provider is None:
        asked = f"--linkmode-dir={kind.name}={settings.dirs[kind.name]}"
    return Unavailable(
        what,
        checked=[f"{asked}: the only way to get {kind.name} is {ways}"],
        mends=[f"leave out {asked}"],
    )


@contextmanager
def opened(name: str, place: Place, settings: Settings) -> Iterator[Filesystem]:
    """Get a filesystem by the first provider that can, and prove that it is what it claims.

    Raises Unavailable with everything that was missing on the way, and LinkmodeError if a
    filesystem that we made ourselves is not what its row says.
    """
    kind = kind_of(name)
    causes: list[Unavailable] = []
    with ExitStack() as stack:
        for provider in _asked(kind, settings):
            cause = provider.missing(kind, settings)
            if cause is None:
                try:
                    filesystem = stack.enter_context(_proven(provider, kind, place, settings))
                    break
                except Unavailable as unavailable:
                    cause = unavailable
            causes.append(cause)
        else:
            raise _unavailable(kind, settings, causes)
        yield filesystem


def promises(kind: Kind, system: str = HERE) -> tuple[frozenset[str], frozenset[str]]:
    """Return what a filesystem must show on a system when probed, and what it must not."""
    if system == "win32":
        return kind.claims | _ON_WINDOWS, kind.lacks - _ON_WINDOWS
    if system == "darwin" and kind.name == "exfat":
        return kind.claims, kind.lacks - {"symlink"}  # macOS keeps them in files of its own
    return kind.claims, kind.lacks


@contextmanager
def _proven(
    provider: Provider, kind: Kind, place: Place, settings: Settings
) -> Iterator[Filesystem]:
    from pytest_linkmode.capabilities import broken_promises, probe

    with provider.open(kind, place, settings) as filesystem:
        broken = broken_promises(probe(filesystem.path, filesystem.path), *promises(kind))
        if broken and filesystem.made:
            raise LinkmodeError(
                f"a {kind.name} that was made here is not what it should be", why="; ".join(broken)
            )
        if broken:
            directory = filesystem.facts.get("directory", filesystem.path)
            raise Unavailable(
                f"{directory} is no {kind.name}",
                checked=[f"{directory}: {line}" for line in broken],
                mends=directory_mends(kind),
            )
        yield filesystem
