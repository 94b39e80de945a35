"""What really happened to a file: facts read back from disk that prove a link mode.

`evidence` looks at one file and what became of it, `evidence_tree` at every name of two trees. A
mode is named only where the disk proves it. Where clone and copy cannot be told apart (data inside
the metadata, no data at all, filesystems that do not say where data lies) the evidence has
*candidates* instead, and says by which proof the two files are at least independent.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from linker.modes import LinkMode
from pytest_linkmode import HERE, opening, storage
from pytest_linkmode.errors import LinkmodeError, UsageError
from pytest_linkmode.independence import Edit
from pytest_linkmode.opening import Directory
from pytest_linkmode.storage import Storage, Trial

if TYPE_CHECKING:
    from pytest_linkmode.extents import Extent, Reader

AnyPath: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"


class Proof(enum.StrEnum):
    """The fact that decided: first those that speak for a mode, then those against all."""

    SAME_INODE = "same inode"
    LINK_TARGET = "link target"
    SHARED_EXTENTS = "shared extents"
    DIFFERENT_EXTENTS = "different extents"
    DIFFERENT_FILESYSTEMS = "different filesystems"
    INDEPENDENCE = "independence"
    """One was edited, the other did not change, the edit was taken back."""
    EMPTY = "empty file"
    HOLES = "only holes"
    RECREATED = "recreated symlink"
    DIRECTORY = "directory"

    MISSING = "missing"
    STRANGER = "not in the source"
    DIFFERENT_TYPES = "different types"
    DIFFERENT_BYTES = "different bytes"
    DIFFERENT_LINK = "another link target"
    PARTLY_SHARED = "partly shared extents"
    DEPENDENCE = "dependence"
    """Two inodes, and yet an edit of one showed in the other."""
    ONE_NAME = "one name"
    """The target *is* the source, seen through a mount or a symlink: nothing was linked."""
    NONE = "none"
    """No proof could be made; `Evidence.why` says what stood in the way."""


_NOTHING: frozenset[LinkMode] = frozenset()
_ALL = frozenset(LinkMode)
_ISOLATING = frozenset((LinkMode.CLONE, LinkMode.COPY))
_CLONE = frozenset((LinkMode.CLONE,))
_HARDLINK = frozenset((LinkMode.HARDLINK,))
_SYMLINK = frozenset((LinkMode.SYMLINK,))
_COPY = frozenset((LinkMode.COPY,))


@dataclass(frozen=True)
class Evidence:
    """What is known of a file and what became of it.

    `mode` is the link mode that the facts prove, or None: then `candidates` are the modes that
    they do not rule out, none at all where the target is no link of the source. `why` is one
    sentence; `facts` are what was read back (inodes, devices, links, sizes, extents, ...), plain
    data by name.
    """

    mode: LinkMode | None
    proof: Proof
    why: str
    candidates: frozenset[LinkMode]
    facts: Mapping[str, object] = field(compare=False, repr=False)

    def allows(self, mode: LinkMode) -> bool:
        """Return whether the facts prove `mode`, or at least do not speak against it."""
        return mode in self.candidates

    @property
    def found(self) -> str:
        """The mode in a word or two: ``clone``, ``clone or copy``, ``no link``."""
        if len(self.candidates) == len(LinkMode):
            return self.proof.value
        words = [mode.value for mode in LinkMode if mode in self.candidates]
        return " or ".join(words) or "no link"

    def __str__(self) -> str:
        return f"{self.found} ({self.proof}): {self.why}"


class Found(NamedTuple):
    """One name of two trees: its path below both, its `lstat` in each, and the evidence."""

    path: str
    source: os.stat_result | None
    target: os.stat_result | None
    evidence: Evidence


def evidence(source_file: AnyPath, target_file: AnyPath) -> Evidence:
    """Return what is known of `target_file` as a link of `source_file`.

    The source is only read. Where neither inodes nor extents can decide, three bytes of the
    target are inverted, flushed, looked for in the source and put back, times included (not the
    change time). A missing or unreadable file is evidence too, and no error.
    """
    source, target = os.fsdecode(source_file), os.fsdecode(target_file)
    ours, theirs = _lstat(source), _lstat(target)
    if ours is None or theirs is None:
        return _alone(ours, theirs)
    one_place = _one_place(source, target)
    pair = _Pair(os.path.abspath(source), one_place, ours, theirs, source, target, None, None)
    with contextlib.closing(_Prover(many=False)) as prover:
        return prover.look(pair, 0) or prover.settle()[0]


def evidence_tree(
    source: AnyPath, target: AnyPath, *, skip: Callable[[str], bool] | None = None
) -> list[Found]:
    """Return what is known of every name below `source` and `target`, in the order of a tree.

    A directory comes before the names in it, and these before its sisters. The two roots are
    not among them; names for which ``skip(path)`` is true are left out with everything below
    them. Made for trees of many thousand files: no file is flushed by itself, and independence is
    tested in batches.

    Raises UsageError if either is not a directory, or both are the same one.
    """
    seen: list[tuple[str, os.stat_result | None, os.stat_result | None, Evidence | None]] = []
    with contextlib.closing(_Prover(many=True)) as prover:
        for path, ours, theirs, pair in _walk(os.fsdecode(source), os.fsdecode(target), skip):
            known = _alone(ours, theirs) if pair is None else prover.look(pair, len(seen))
            seen.append((path, ours, theirs, known))
        settled = prover.settle()
    return sorted(
        (
            Found(path, ours, theirs, known or settled[index])
            for index, (path, ours, theirs, known) in enumerate(seen)
        ),
        key=lambda found: found.path.replace("/", "\0"),
    )


# --- looking at names ------------------------------------------------------------------------

_TYPES: Mapping[int, str] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


def type_of(status: os.stat_result) -> str:
    """Return what `status` is the stat of, in a word."""
    return _TYPES.get(stat.S_IFMT(status.st_mode), "unknown thing")


class _Pair(NamedTuple):
    """A name in both trees: how to reach it on either side, and its stat there.

    `path` is the absolute path of the source; `one_place` says that both names are the same
    name of the same directory. The names are relative to the directories, None is the current one.
    """

    path: str
    one_place: bool
    ours: os.stat_result
    theirs: os.stat_result
    source: str
    target: str
    source_directory: Directory | None
    target_directory: Directory | None


_Step: TypeAlias = "tuple[str, os.stat_result | None, os.stat_result | None, _Pair | None]"


def _walk(source: str, target: str, skip: Callable[[str], bool] | None) -> Iterator[_Step]:
    """Yield every name below either root, with the pair of both where both have it."""
    absolute = os.path.abspath(source).rstrip(os.sep)
    with contextlib.ExitStack() as stack:
        roots = _open_root(source, "source"), _open_root(target, "target")
        for root in roots:
            stack.callback(opening.close, root)
        if _same(*roots):
            raise UsageError(
                "source and target are the same directory",
                why=f"{source!r} and {target!r} have the same inode",
            )
        pending = [("", True, True)]
        while pending:
            above, in_source, in_target = pending.pop()
            with (
                _directory(roots[0] if in_source else None, above) as (here, ours),
                _directory(roots[1] if in_target else None, above) as (there, theirs),
            ):
                one_place = in_source and in_target and _same(here, there)
                for name in ours.keys() | theirs.keys():
                    path = f"{above}/{name}" if above else name
                    if skip is not None and skip(path):
                        continue
                    first, second = ours.get(name), theirs.get(name)
                    pair = None
                    if first is not None and second is not None:
                        full = f"{absolute}/{path}".replace("/", os.sep)
                        pair = _Pair(full, one_place, first, second, name, name, here, there)
                    yield path, first, second, pair
                    inside = [
                        each is not None and stat.S_ISDIR(each.st_mode) for each in (first, second)
                    ]
                    if any(inside):
                        pending.append((path, inside[0], inside[1]))


def _open_root(path: str, what: str) -> Directory:
    try:
        return opening.open_root(path)
    except OSError as error:
        raise UsageError(
            f"the {what} {path!r} is not a directory that can be read", why=str(error.strerror)
        ) from error


@contextlib.contextmanager
def _directory(
    root: Directory | None, path: str
) -> Iterator[tuple[Directory | None, dict[str, os.stat_result]]]:
    """Open the directory `path` below `root` and list it; without a root, nothing is there."""
    if root is None:
        yield None, {}
        return
    try:
        opened = opening.open_below(root, path)
    except OSError as error:
        raise LinkmodeError(f"cannot list {path!r}", why=str(error.strerror)) from error
    try:
        yield opened, opening.listing(opened)
    finally:
        opening.close(opened)


def _is_one(first: os.stat_result, second: os.stat_result) -> bool:
    """Return whether two stats are of one inode; no file system of Windows has to number files,
    and those that do not call all of them 0.
    """
    return first.st_ino != 0 and os.path.samestat(first, second)


def _same(first: Directory | None, second: Directory | None) -> bool:
    if first is None or second is None:
        return False
    return _is_one(opening.stat(first), opening.stat(second))


def _one_place(first: str, second: str) -> bool:
    """Return whether two paths are one name of one directory."""
    (above, name), (other, same) = (
        os.path.split(os.path.abspath(each)) for each in (first, second)
    )
    return name == same and (above == other or _is_one(os.stat(above), os.stat(other)))


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


# --- deciding --------------------------------------------------------------------------------

_CHUNK = 1 << 18
_NO_DATA = "there is no data on disk to share"
_BATCH = 128
"""How many pairs are edited at one time to see whether they are independent."""


def _said(
    proof: Proof,
    why: str,
    candidates: frozenset[LinkMode],
    facts: Mapping[str, object],
    mode: LinkMode | None = None,
) -> Evidence:
    return Evidence(mode, proof, why, candidates, facts)


def _alone(ours: os.stat_result | None, theirs: os.stat_result | None) -> Evidence:
    """Return the evidence of a name that is not on both sides."""
    if theirs is not None:
        why = f"the target has a {type_of(theirs)} that the source does not have"
        return _said(Proof.STRANGER, why, _NOTHING, _facts(None, theirs))
    if ours is None:
        return _said(Proof.MISSING, "neither source nor target exists", _NOTHING, {})
    why = f"the source has a {type_of(ours)} that the target does not have"
    return _said(Proof.MISSING, why, _NOTHING, _facts(ours, None))


def _facts(ours: os.stat_result | None, theirs: os.stat_result | None) -> dict[str, object]:
    facts: dict[str, object] = {}
    for side, status in (("source", ours), ("target", theirs)):
        if status is not None:
            facts[f"{side}_type"] = type_of(status)
            facts[f"{side}_device"] = status.st_dev
            facts[f"{side}_inode"] = status.st_ino
            facts[f"{side}_links"] = status.st_nlink
            facts[f"{side}_size"] = status.st_size
    return facts


class _Waiting(NamedTuple):
    """A pair whose independence is still to be seen: its open source, its edit, what is known."""

    number: int
    source: int
    edit: Edit
    trial: Trial
    reason: str
    facts: dict[str, object]


def _reader() -> Reader | None:
    """Return what asks this system where bytes lie, or None where no call of it says."""
    if HERE == "win32":
        from pytest_linkmode import pointers

        return pointers.system()
    if HERE == "darwin":
        from pytest_linkmode import log2phys

        return log2phys.PlaceReader()
    if HERE != "linux":
        return None
    from pytest_linkmode.fiemap import ExtentReader

    return ExtentReader()


class _Prover:
    """Decides about many pairs: one buffer for extents, one look at each filesystem."""

    def __init__(self, *, many: bool) -> None:
        self._many = many
        self._storages: dict[int, Storage] = {}
        self._flushed: set[Storage] = set()
        self._silent: set[Storage] = set()
        self._trials: dict[tuple[int, int], Trial] = {}
        self._waiting: list[_Waiting] = []
        self._settled: dict[int, Evidence] = {}
        self._reader = _reader()

    def look(self, pair: _Pair, index: int) -> Evidence | None:
        """Return the evidence of one pair, or None if `settle` will, under `index`."""
        ours, theirs = pair.ours, pair.theirs
        facts = _facts(ours, theirs)
        here, there = stat.S_IFMT(ours.st_mode), stat.S_IFMT(theirs.st_mode)
        if pair.one_place or _is_one(ours, theirs):
            if pair.one_place:
                why = "source and target are one name of one directory"
                return _said(Proof.ONE_NAME, why, _NOTHING, facts)
            if here == stat.S_IFREG:
                why = f"both names are inode {ours.st_ino}, which has {theirs.st_nlink} links"
                return _said(Proof.SAME_INODE, why, _HARDLINK, facts, LinkMode.HARDLINK)
        if there == stat.S_IFLNK:
            return _symlink(pair, facts)
        if here != there:
            why = f"the source is a {type_of(ours)}, the target a {type_of(theirs)}"
            return _said(Proof.DIFFERENT_TYPES, why, _NOTHING, facts)
        if here == stat.S_IFDIR:
            return _said(Proof.DIRECTORY, "both are directories", _ALL, facts)
        if here != stat.S_IFREG:
            return _said(Proof.NONE, f"a {type_of(ours)} cannot be linked", _NOTHING, facts)
        if ours.st_size != theirs.st_size:
            why = f"the source has {ours.st_size} bytes, the target {theirs.st_size}"
            return _said(Proof.DIFFERENT_BYTES, why, _NOTHING, facts)
        try:
            return self._files(pair, index, facts)
        except OSError as error:
            return _unproven(f"the files cannot be read: {error.strerror}", error, facts)

    def _files(self, pair: _Pair, index: int, facts: dict[str, object]) -> Evidence | None:
        source = opening.open_file(pair.source, pair.source_directory)
        try:
            target = opening.open_file(pair.target, pair.target_directory)
            try:
                seen = self._by_place(pair, source, target, facts)
                if isinstance(seen, Evidence):
                    return seen
                if is_hole(target):
                    return self._alike(Proof.HOLES, _NO_DATA, pair, source, facts)
                return self._by_edit(pair, source, target, seen, index, facts)
            finally:
                os.close(target)
        finally:
            os.close(source)

    # Where the bytes lie

    def _by_place(
        self, pair: _Pair, source: int, target: int, facts: dict[str, object]
    ) -> Evidence | str:
        """Decide by where the bytes lie, or return why that cannot be."""
        if pair.ours.st_size == 0:
            return self._alike(Proof.EMPTY, "there are no bytes to share", pair, source, facts)
        offset = _first_difference(source, target)
        if offset is not None:
            why = f"the bytes differ from offset {offset} on"
            return _said(Proof.DIFFERENT_BYTES, why, _NOTHING, facts)
        here, there = self._storage(source, pair.ours), self._storage(target, pair.theirs)
        facts["source_filesystem"], facts["target_filesystem"] = here.kind, there.kind
        if here != there:
            if here.kind in storage.OWN and there.kind in storage.OWN:
                why = f"the bytes are equal, and {here.kind} and {there.kind} share no storage"
                return _said(Proof.DIFFERENT_FILESYSTEMS, why, _COPY, facts, LinkMode.COPY)
            return "addresses on these two filesystems cannot be compared"
        extents = self._both_extents(here, source, target)
        if extents is None:
            return f"{here.kind or 'this filesystem'} does not say where data lies"
        return self._by_extents(pair, source, *extents, facts)

    def _by_extents(
        self,
        pair: _Pair,
        source: int,
        first: Sequence[Extent],
        second: Sequence[Extent],
        facts: dict[str, object],
    ) -> Evidence | str:
        from pytest_linkmode import extents

        facts["extents"] = len(second)
        facts["shared_extents"] = sum(1 for extent in second if extent.shared)
        facts["inline"] = any(extent.inline for extent in second)
        common = extents.overlap(first, second)
        if not (extents.placed(first) and extents.placed(second)) and not common:
            if any(extent.inline for extent in (*first, *second)):
                return "the data is inline, inside the metadata of each inode"
            return f"{facts['target_filesystem'] or 'the filesystem'} names no place of the data"
        ours, theirs = extents.written(first), extents.written(second)
        if not ours and not theirs:
            return self._alike(Proof.HOLES, _NO_DATA, pair, source, facts)
        if not common:
            why = "other inode, equal bytes, and not one byte of the disk in common"
            return _said(Proof.DIFFERENT_EXTENTS, why, _COPY, facts, LinkMode.COPY)
        same = extents.joined(ours) == extents.joined(theirs)
        if not same or not all(extent.shared for extent in (*ours, *theirs)):
            why = "a part of the data lies where the source's does, and a part does not"
            if same:
                why = "the data lies where the source's does, but is not flagged as shared"
            return _said(Proof.PARTLY_SHARED, why, _NOTHING, facts)
        if facts["target_filesystem"] in storage.STACKED:
            trial = self._trial(pair, source)
            if trial.possible is False:  # equal addresses of two filesystems below
                return "addresses below this filesystem cannot be compared"
        count = "1 extent" if len(second) == 1 else f"all {len(second)} extents"
        sharing = "" if self._reader is None else self._reader.sharing
        why = f"other inode, {count} at the same place on disk{sharing}"
        return _said(Proof.SHARED_EXTENTS, why, _CLONE, facts, LinkMode.CLONE)

    def _both_extents(
        self, here: Storage, source: int, target: int
    ) -> tuple[list[Extent], list[Extent]] | None:
        """Return where the bytes of both files lie, or None if this filesystem does not say.

        The kernel writes each file's data before it answers, and that decides nearly always. What
        looks unfinished (no place yet, or one place and not yet known to be shared) is asked for
        again after a flush.
        """
        if self._reader is None or here in self._silent:
            return None
        from pytest_linkmode import extents

        try:
            both = self._reader.both(source, target)
            if HERE == "win32" or extents.settled(*both) or here in self._flushed:
                return both  # Windows flushes only files that are open for writing
            self._flush(here, source, target)
            return self._reader.both(source, target)
        except OSError as error:
            if storage.error_name(error) not in ("EOPNOTSUPP", "ENOTTY", "ENOSYS", "EINVAL"):
                raise
            self._silent.add(here)
            return None

    def _flush(self, here: Storage, *files: int) -> None:
        """Flush a few files, or the whole filesystem at once where many are looked at."""
        if self._many:
            storage.flush(files[0])
            self._flushed.add(here)
        else:
            for file in files:
                os.fsync(file)

    def _storage(self, file: int, status: os.stat_result) -> Storage:
        found = self._storages.get(status.st_dev)
        if found is None:
            found = self._storages[status.st_dev] = storage.storage_of(file)
        return found

    # What clone and copy have in common

    def _trial(self, pair: _Pair, source: int) -> Trial:
        """Whether this file could have been cloned to where the target lies.

        Where this one cannot be tried (a read-only directory of an ordinary user), what was
        found for these two filesystems before stands in for it.
        """
        devices = pair.ours.st_dev, pair.theirs.st_dev
        directory = pair.target_directory
        if directory is None:
            opened = opening.open_root(os.path.dirname(os.path.abspath(pair.target)))
            try:
                return storage.try_clone(source, opened)
            finally:
                opening.close(opened)
        trial = storage.try_clone(source, directory)
        if trial.possible is None:
            return self._trials.get(devices, trial)
        self._trials[devices] = trial
        return trial

    def _alike(
        self, proof: Proof, why: str, pair: _Pair, source: int, facts: dict[str, object]
    ) -> Evidence:
        return _undecided(proof, why, self._trial(pair, source), facts)

    def _by_edit(
        self,
        pair: _Pair,
        source: int,
        target: int,
        reason: str,
        index: int,
        facts: dict[str, object],
    ) -> Evidence | None:
        trial = self._trial(pair, source)
        try:
            edit = Edit(pair.target, pair.target_directory, target)
        except OSError as error:
            why = f"{reason}, and the target cannot be edited: {error.strerror}"
            return _unproven(why, error, facts)
        self._waiting.append(_Waiting(index, os.dup(source), edit, trial, reason, facts))
        if len(self._waiting) >= _BATCH:
            self.settle()
        return None

    def settle(self) -> Mapping[int, Evidence]:
        """Settle all pairs that wait, and return what was settled so far, by index.

        All targets are edited and flushed, all sources read past the page cache, and all edits
        taken back, whatever happens.
        """
        waiting, self._waiting = self._waiting, []
        with contextlib.ExitStack() as stack:
            for each in waiting:
                stack.callback(os.close, each.source)
                stack.callback(each.edit.close)
            for each in waiting:
                stack.callback(each.edit.undo)
                each.edit.make()
            self._flush_edits(waiting)
            for each in waiting:
                self._settled[each.number] = _independent(each)
        return self._settled

    def _flush_edits(self, waiting: Sequence[_Waiting]) -> None:
        """Write edits to disk, each file or each filesystem; what fails is kept by the edits."""
        failures: dict[int, OSError | None] = {}
        for each in waiting:
            for file in (each.source, each.edit.file):
                device = os.fstat(file).st_dev
                if self._many and device in failures:
                    continue
                failures[device] = None
                try:
                    if self._many:
                        storage.flush(file)
                    else:
                        os.fsync(file)
                except OSError as error:  # as ENOSPC, where the disk is full
                    failures[device] = error
        for each in waiting:
            each.edit.error = each.edit.error or failures[os.fstat(each.edit.file).st_dev]

    def close(self) -> None:
        """Let go of what waits, none of which was edited yet."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            os.close(each.source)
            each.edit.close()


def _independent(waiting: _Waiting) -> Evidence:
    edit, facts = waiting.edit, waiting.facts
    if edit.error is not None:
        why = f"{waiting.reason}, and an edit of the target failed: {edit.error.strerror}"
        return _unproven(why, edit.error, facts)
    if not edit.happened:
        why = f"{waiting.reason}, and an edit of the target had no effect"
        return _said(Proof.NONE, why, _NOTHING, facts)
    if edit.shows_in(waiting.source):
        why = "source and target are two inodes, but an edit of the target shows in the source"
        return _said(Proof.DEPENDENCE, why, _NOTHING, facts)
    why = f"{waiting.reason}; an edit of the target did not show in the source"
    return _undecided(Proof.INDEPENDENCE, why, waiting.trial, facts)


def _undecided(proof: Proof, why: str, trial: Trial, facts: dict[str, object]) -> Evidence:
    """Return the evidence of two isolated files, of which a clone and a copy look alike.

    A clone is believed possible only where one could be made.
    """
    facts["can_clone"] = trial.possible
    if trial.possible:
        return _said(proof, f"{why}; a clone and a copy look alike", _ISOLATING, facts)
    facts["clone_error"] = trial.error
    if trial.possible is None:
        why += f"; whether it could be a clone cannot be found out ({trial.error})"
        return _said(proof, why, _COPY, facts)
    why += f"; cloning is refused here ({trial.error}), so it is a copy"
    return _said(proof, why, _COPY, facts, LinkMode.COPY)


def _unproven(why: str, error: OSError, facts: dict[str, object]) -> Evidence:
    facts["error"] = storage.error_name(error)
    return _said(Proof.NONE, why, _NOTHING, facts)


def _symlink(pair: _Pair, facts: dict[str, object]) -> Evidence:
    """Return the evidence of a target that is a symlink."""
    text = facts["target_text"] = opening.read_link(pair.target, pair.target_directory)
    if stat.S_ISLNK(pair.ours.st_mode):
        original = opening.read_link(pair.source, pair.source_directory)
        facts["source_text"] = original
        if text == original:
            return _said(Proof.RECREATED, f"both are symlinks to {text!r}", _ALL, facts)
    facts["absolute"] = names_path(text, pair.path)
    if facts["absolute"]:
        why = f"the target is a symlink to {text!r}"
        return _said(Proof.LINK_TARGET, why, _SYMLINK, facts, LinkMode.SYMLINK)
    try:
        reached = opening.followed(pair.target, pair.target_directory)
    except OSError as error:
        why = f"the target is a symlink to {text!r}, which leads nowhere: {error.strerror}"
        return _said(Proof.DIFFERENT_LINK, why, _NOTHING, facts)
    if not _is_one(reached, pair.ours):
        why = f"the target is a symlink to {text!r}, which is not the source"
        return _said(Proof.DIFFERENT_LINK, why, _NOTHING, facts)
    why = f"the target is a symlink to {text!r}, which is the source"
    return _said(Proof.LINK_TARGET, why, _SYMLINK, facts, LinkMode.SYMLINK)


def names_path(text: str, path: str) -> bool:
    r"""Return whether a symlink says a path; on Windows it may say it with ``\\?\`` before it."""
    if HERE == "win32":
        return os.path.normcase(text.removeprefix("\\\\?\\")) == os.path.normcase(path)
    return text == path


def is_hole(file: int) -> bool:
    """Return whether an open file has no data on disk, by SEEK_DATA (lseek(2)).

    On macOS, where that may tell of no data although there is, by its blocks and its bytes.
    """
    if HERE == "win32":
        return False
    if HERE == "darwin":
        return os.fstat(file).st_blocks == 0 and not opening.not_zero(file)
    try:
        os.lseek(file, 0, os.SEEK_DATA)
    except OSError as error:
        return error.errno == errno.ENXIO
    return False


def _first_difference(first: int, second: int) -> int | None:
    """Return the offset of the first byte in which two open files differ, or None."""
    offset = 0
    while True:
        ours, theirs = (opening.read_at(each, _CHUNK, offset) for each in (first, second))
        if ours != theirs:
            pairs = enumerate(zip(ours, theirs, strict=False))
            end = min(len(ours), len(theirs))
            return offset + next((at for at, (a, b) in pairs if a != b), end)
        if len(ours) < _CHUNK:
            return None
        offset += len(ours)
