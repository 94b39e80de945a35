"""What was created or replaced, and how to undo it; and what a killed run left behind.

Entries are made in a *stage*, a directory with a reserved name beside the target's entries, and
get their final names from there by one rename each: a name shows the old entry or the whole new
one. A replaced entry is swapped into the stage and is its own backup. The stage is locked while
its process lives, so that whoever finds one whose lock is free may finish and remove it.

Undo goes in reverse and takes a name away only if it still holds what was placed there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from linker.conditions import Condition, Primitive
from linker.failures import condition, insist, name_left
from linker.light import TYPE_CHECKING, NamedTuple, cast
from linker.platforms.base import ASIDE, Failed, Platform
from linker.tree import Lost, Node, Trail, walk

if TYPE_CHECKING:
    from typing import Any

RESERVED = ".linkmode-"
"""What every name of ours in a target begins with."""

STAGE = ".linkmode-stage-"
"""Reserved: a stage. Removed by the next run if its process is gone."""

SAVED = ".linkmode-saved-"
"""Reserved: a stage that holds files which could not be put back. Never removed by us."""

_MARK = "c"
"""A record in a stage: another linker was there at the same time."""

_KEEP = "k"
"""A record in a stage: it holds what must not be lost, and could not be given the name for that."""

_PENDING = "p"
"""First letter of a record in a stage: a directory whose permission bits are not final yet."""

ROOM = "t"
"""First letter of a directory in a stage: what one ticket of a helper makes lies in it."""

_LONGEST = 1 << 24
"""Bytes of a note: far more than the names that lead to the deepest directory."""

_FEW = 4
"""Handles that removing a tree holds at most."""

_COARSEST = 2_000_000_000
"""Nanoseconds by which a filesystem may cut a modification time off (FAT)."""

_GONE = (
    Condition.MISSING,
    Condition.NOT_DIRECTORY,
    Condition.IS_SYMLINK,
    Condition.NAME_TOO_LONG,
)
"""What tells that no directory of ours has a name any more."""

_ATTEMPTS = 16
"""How often a fresh stage may be lost to somebody who cleans up before it is locked."""


class Stage:
    """A directory of ours beside the target's entries, on the target's own mount.

    `inheritance` is what entries made in it take over from the directory it lies in,
    `node` is the directory of the target that it lies in. Names in it are numbers. `swaps` says
    that the call which swaps two names is known to do that here.
    """

    def __init__(
        self, platform: Platform, parent: int, name: str, handle: int, inheritance: object
    ) -> None:
        self._platform = platform
        self.parent = parent
        self.name = name
        self.handle = handle
        self.inheritance = inheritance
        self.emulate_place = False
        self.emulate_exchange = False
        self.swaps = False
        self.keep = False
        self.node: Node | None = None
        self._count = 0

    def number(self) -> str:
        """Return a name that is free in the stage."""
        self._count += 1
        return str(self._count)

    def pending(self, path: tuple[str, ...], inode: int, temporary: int, final: int) -> str:
        """Note that the directory at `path` (from the stage's parent) has permission bits
        `temporary` for now and shall have `final`; return the record's name.
        """
        name = _PENDING + self.number()
        import json  # only where a read-only directory is in the way

        record = {"path": path, "inode": inode, "temporary": temporary, "final": final}
        self._platform.write_record(self.handle, name, json.dumps(record).encode("ascii"))
        return name

    def forget(self, name: str) -> None:
        """Remove a record; one that stays is harmless, it is checked before it is believed."""
        try:
            self._platform.remove_file(self.handle, name)
        except Failed:
            return

    def mark(self, others: list[str]) -> None:
        """Tell the linkers that own the stages `others` that we are here too."""
        for name in others:
            try:
                handle = self._platform.open_below(self.parent, name)
            except Failed:  # gone: its linker has finished
                continue
            try:
                self._platform.write_record(handle, _MARK, b"")
            except Failed:  # told already, or going, or another user's: nothing to tell
                continue
            finally:
                self._platform.close(handle)

    def was_marked(self) -> bool:
        """Return whether another linker told us that it was here; True if that is unknown."""
        try:
            platform = cast("Platform", Twice(self._platform))
            return platform.look(self.handle, _MARK) is not None
        except Failed:
            return True

    def close(self) -> None:
        """Close the handles; the lock goes with them."""
        self._platform.close(self.handle)
        self._platform.close(self.parent)

    def remove(self) -> list[str]:
        """Remove the stage with everything in it, or save it if it holds what must not be lost.

        Return the names, relative to the stage's parent, that remain. Never raises `Failed`.
        """
        if self.keep:
            return [self._save()]
        return remove_again(self._platform, self.parent, self.name)

    def _save(self) -> str:
        """Give the stage a name that is never removed, or note in it that it is not to be; return
        the name that it has.
        """
        platform, saved = self._platform, SAVED + self.name[len(STAGE) :]
        try:
            place(platform, self, self.parent, self.name, self.parent, saved)
        except Failed:
            with suppress(Failed):
                if _leads_to(platform, self.parent, saved, self.handle):  # an interrupt came then
                    return saved
                platform.write_record(self.handle, _KEEP, b"")
            return self.name
        return saved


def open_stage(
    platform: Platform,
    directory: int,
    goes_on: Callable[[Failed], bool],
    beside: Callable[[Sequence[str]], tuple[str, ...]] = tuple,
) -> Stage:
    """Make, open and lock a stage in the open directory `directory`.

    `goes_on` is asked whether to go on without a lock when locking failed. Raises `Failed`, whose
    `left` is the stage if not even that could be removed; `beside` says what names in the directory
    are called there.
    """
    inheritance = platform.inheritance(directory)
    parent = platform.open_below(directory, ".")
    try:
        for _ in range(_ATTEMPTS):
            name = STAGE + os.urandom(4).hex()
            handle = None
            try:
                handle = platform.make_directory(parent, name)
                if not platform.is_writable(handle):  # an odd umask
                    platform.change_mode(handle, platform.facts(handle).mode | 0o700)
                if _own(platform, parent, name, handle, goes_on):
                    return Stage(platform, parent, name, handle, inheritance)
            except BaseException as error:
                if isinstance(error, Failed) and error.primitive is Primitive.MKDIR:
                    raise
                try:
                    _discard(platform, parent, name, error, beside)
                finally:
                    if handle is not None:
                        platform.close(handle)
                if not isinstance(error, Failed) or error.left:
                    raise
                if condition(platform, error) is not Condition.MISSING:
                    raise
                continue  # somebody who cleans up was faster than we with the lock
            platform.close(handle)
            remove_again(platform, parent, name)  # it is empty, and they may have let go of it
        busy = OSError(0, "every stage was removed by another process before it was locked")
        raise Failed(Primitive.LOCK, busy)
    except BaseException:
        platform.close(parent)
        raise


def _discard(
    platform: Platform,
    parent: int,
    name: str,
    error: BaseException,
    beside: Callable[[Sequence[str]], tuple[str, ...]],
) -> None:
    """Remove a stage that is not to be, and name it in the error where that is refused.

    Raises what interrupts it.
    """
    found, interrupt = insist(partial(remove_again, platform, parent, name))
    left = beside([name] if found is None else found)
    if interrupt is not None:
        name_left(interrupt, left)
        raise interrupt from error
    if isinstance(error, Failed):
        error.left = left
    else:
        name_left(error, left)


def _own(
    platform: Platform,
    parent: int,
    name: str,
    handle: int,
    goes_on: Callable[[Failed], bool] = lambda _: False,
) -> bool:
    """Lock a stage; return whether the name is still ours now that the lock is."""
    try:
        if not platform.lock(handle):
            return False
    except Failed as failed:
        if not goes_on(failed):
            raise
    return _leads_to(platform, parent, name, handle)


def _leads_to(platform: Platform, parent: int, name: str, handle: int) -> bool:
    """Return whether a name is that of an open directory."""
    seen = platform.look(parent, name)
    return seen is not None and seen.inode == platform.facts(handle).inode


def place(platform: Platform, stage: Stage, source: int, name: str, target: int, new: str) -> None:
    """Rename what is in a stage, or the stage, in the way that the filesystem offers.

    Raises `Failed`.
    """
    if not stage.emulate_place:
        try:
            platform.place(source, name, target, new)
        except Failed as failed:
            if condition(platform, failed) is not Condition.UNSUPPORTED:
                raise
            stage.emulate_place = True  # nothing needed to be placed so far
        else:
            return
    platform.place_emulated(source, name, target, new)


def recover(platform: Platform, directory: int, name: str) -> bool:
    """Finish and remove the stage `name` that a killed run left in `directory`.

    Only where its lock is free, and it holds nothing that must not be lost. Return whether it is
    gone. Never raises `Failed`: what cannot be removed now stays for the next run.
    """
    try:
        handle = platform.open_below(directory, name)
    except Failed as failed:
        return condition(platform, failed) is Condition.MISSING
    try:
        for _ in range(2):
            if not _own(platform, directory, name, handle):
                return False
            if platform.look(handle, _KEEP) is not None:
                return False
            facts = platform.facts(handle)
            held = platform.entries(handle)
            if not all(_is_ours(name) for names in held for name in names):
                return False  # somebody gave another directory such a name
            if not facts.mode & 0o022 or _myself() < 0:  # else others may have written notes in it
                _settle(platform, directory, handle, held.files, facts.owner)
            remaining = remove_tree(platform, directory, name)
            if remaining != [name]:  # else another linker's mark may have come meanwhile
                break
        return not remaining
    except Failed:
        return False
    finally:
        platform.close(handle)


def _is_ours(name: str) -> bool:
    """Return whether a name is one that is given in a stage, by us or, beside ours, by macOS where
    attributes are files of their own.
    """
    name = name.removeprefix("._")
    number = name[name[:1] in (_PENDING, ROOM) :].removesuffix(ASIDE)
    return name in (_MARK, _KEEP) or (number.isascii() and number.isdecimal())


def _settle(
    platform: Platform, directory: int, stage: int, files: Sequence[str], owner: int
) -> None:
    """Pay what the `files` of a stage that a killed run of `owner` left note. Raises `Failed`."""
    owed = [
        (_owed(_read_note(platform, stage, entry)), entry)
        for entry in files
        if entry.startswith(_PENDING)
    ]
    # The innermost first, and each for good: an outer one may shut us out when it has its bits.
    for debt, note in sorted(owed, key=_when_due, reverse=True):
        _finish(platform, directory, debt, owner)
        platform.remove_file(stage, note)


def _read_note(platform: Platform, stage: int, name: str) -> bytes:
    """Read a note, nothing of one that is longer than any of ours. Raises `Failed`."""
    seen = platform.look(stage, name)
    if seen is None or seen.size > _LONGEST:
        return b""
    return platform.read_record(stage, name)


class _Debt(NamedTuple):
    """The permission bits that a directory shall have, if it is the one with these of now.

    `names` lead to it, None if nothing is owed.
    """

    names: list[str] | None
    temporary: tuple[int, int]
    final: int

    @property
    def depth(self) -> int:
        """How far inside the target it is."""
        return len(self.names or ())


def _when_due(owed: tuple[_Debt, str]) -> tuple[int, int, str]:
    """Return what puts debts and their notes in order: by depth, and for one directory by age."""
    debt, note = owed
    return debt.depth, len(note), note


_NO_DEBT = _Debt(None, (0, 0), 0)


def _owed(data: bytes) -> _Debt:
    """Return what a note says."""
    import json  # only after a run that was killed

    try:
        record = json.loads(data)
        names, final = list(map(str, record["path"])), int(record["final"])
        temporary = (record["inode"], record["temporary"])
        os.fsencode("".join(names))
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return _NO_DEBT  # killed while it was written, which is before it was needed; or not by us
    if any(name in ("", ".", "..") or "/" in name or "\0" in name for name in names):
        return _NO_DEBT
    return _Debt(names, temporary, final) if 0 <= final <= 0o7777 else _NO_DEBT


def _finish(platform: Platform, directory: int, debt: _Debt, owner: int) -> None:
    """Give a directory the permission bits that a killed run still owed it.

    Anybody can make what looks like a stage, where all may make entries: what is noted in one holds
    for directories of its `owner` alone, who could give them these bits without us. In a stage of
    our own it holds for all.
    """
    names, temporary, final = debt
    if names is None:
        return
    trail = Trail(platform, directory)
    try:
        for name in names:
            trail.enter(name)
        facts = platform.facts(trail.handle)
        if (facts.inode, facts.mode) == temporary and owner in (facts.owner, _myself()):
            for entry in platform.entries(trail.handle).directories:
                if entry.startswith(STAGE):  # while it can be removed from there
                    recover(platform, trail.handle, entry)
            platform.change_mode(trail.handle, final)
    except Failed as failed:
        settled = [Condition.MISSING, Condition.NOT_DIRECTORY, Condition.NAME_TOO_LONG]
        if not final & 0o400 and trail.depth == len(names) - 1:
            settled.append(Condition.DENIED)  # it shuts us out: it has its bits by now
        if condition(platform, failed) not in settled:
            raise
    finally:
        trail.reset()


def _myself() -> int:
    """Return the number of this user, -1 where users have none."""
    return os.geteuid() if hasattr(os, "geteuid") else -1


def open_up(
    platform: Platform, failed: Failed, directory: int, name: str, inode: int | None = None
) -> bool:
    """Make a directory of ours that could not be opened one that can be.

    Its final permission bits may shut out its owner, where the source's has another. Return whether
    it has the inode number that is given; raise `failed` again if that is not why.
    """
    if condition(platform, failed) is not Condition.DENIED:
        raise failed
    return platform.let_in(directory, name, inode)


def remove_tree(platform: Platform, directory: int, name: str) -> list[str]:
    """Remove `name` with everything in it; return the paths that remain, each once.

    Never raises `Failed`.
    """
    remaining = list(dict.fromkeys(_remove_once(platform, directory, name)))
    try:
        if platform.look(directory, name) is None:  # what could not be opened may be gone as well
            return []
    except Failed:
        return remaining or [name]
    return remaining or [name]


def remove_again(platform: Platform, directory: int, name: str) -> list[str]:
    """Do the same, again if need be: it may have been a passing refusal, or another linker's mark
    that came into the stage while it was emptied.
    """
    remaining = remove_tree(platform, directory, name)
    for attempt in range(_ATTEMPTS):
        if not remaining or (attempt and remaining != [name]):
            break
        remaining = remove_tree(platform, directory, name)
    return remaining


def _remove_once(platform: Platform, directory: int, name: str) -> list[str]:
    remaining: list[str] = []
    # Few handles: what ended for want of them must still be removed.
    trail = Trail(platform, directory, held=_FEW)
    names: list[str] = []

    def enter(name: str) -> list[str] | None:
        """Remove the files of a directory; return its directories, None if it stays shut."""
        try:
            try:
                trail.enter(name)
            except Failed as failed:
                open_up(platform, failed, trail.handle, name)
                trail.enter(name)
        except Failed as failed:
            if condition(platform, failed) is not Condition.MISSING:
                _remove(platform.remove_directory, name)  # it may be empty
            return None
        names.append(name)
        inside: list[str] = []
        try:
            if not platform.is_writable(trail.handle):
                platform.change_mode(trail.handle, 0o700)
            listing = platform.entries(trail.handle)
            inside = listing.directories
            for entry in (*listing.files, *listing.symlinks, *listing.others):
                _remove(platform.remove_file, entry)
        except Failed:
            remaining.append("/".join(names))
        return inside

    def _remove(call: object, entry: str) -> None:
        try:
            call(trail.handle, entry)  # type: ignore[operator]
        except Failed as failed:
            if condition(platform, failed) is not Condition.MISSING:
                remaining.append("/".join([*names, entry]))

    try:
        first = enter(name)
        levels = [] if first is None else [first]
        while levels:
            if levels[-1]:
                inside = enter(levels[-1].pop())
                if inside is not None:
                    levels.append(inside)
                continue
            levels.pop()
            trail.leave()
            _remove(platform.remove_directory, names.pop())
    except Failed:  # the way back up is gone
        remaining.append("/".join(names))
    finally:
        trail.reset()
    return remaining


class Change(NamedTuple):
    """One name that was given, or was about to be given, an entry of ours.

    `number` is the entry's name in `stage`: after a swap the replaced entry has it. `inode` is
    negative for a hard link, whose inode others have too, and 0 for one of which it was not seen:
    then it is the source's. `node` is set for a directory placed whole.
    `made_ns` is the filesystem's time when all of it had been made and nobody else had seen it.
    `certain` is False for a hard link whose call failed, as an error can hide a success, and for
    one that was seen to be another file than the source's: one of both was replaced. `letters` is
    the name as the target has it, where that folds letters and had it in others.
    """

    name: str
    stage: Stage
    number: str
    inode: int
    node: Node | None
    made_ns: int
    certain: bool = True
    letters: str = ""


class Record:
    """The changes made in one directory of the target, whose identity is (device, inode).

    `widened` holds the permission bits to give back,
    the stage that has a note of them, and the note's name.
    """

    def __init__(self, node: Node, identity: tuple[int, int]) -> None:
        self.node = node
        self.identity = identity
        self.changes: list[Change] = []
        self.widened: tuple[int, Stage, str] | None = None


class Twice:
    """A platform whose primitives are tried a second time: it may have been a passing refusal."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def __getattr__(self, name: str) -> Any:
        primitive = getattr(self._platform, name)
        if not callable(primitive):
            return primitive

        def twice(*arguments: Any) -> Any:
            try:
                return primitive(*arguments)
            except Failed:
                return primitive(*arguments)

        return twice


class Undo:
    """Puts a target back as it was.

    `company` says whether another linker which makes hard links was in the same target by now: a
    name that holds a shared inode may then be its own as well as ours, and stays. Who comes tells
    us before it gives any name, so we ask once more when we have taken a name away.
    `source_inode` tells the inode of a file of the source, None if that is gone. `settle` is called
    first: it tells the nodes what was made of them. `left` collects what could not be undone, as
    paths relative to `root`.
    """

    def __init__(
        self,
        platform: Platform,
        root: int,
        base: Node,
        source_inode: Callable[[Node, str], int | None],
        *,
        company: Callable[[], bool],
        settle: Callable[[], None],
    ) -> None:
        self._settle = settle
        self._platform = cast("Platform", Twice(platform))
        self._source_inode = source_inode
        self._trail = Trail(self._platform, root, base)
        self._company = company
        self._untouched: dict[Node, int] = {}
        """Directories that were as we had made them when we came to undo them -> atime (ns)."""
        self.left: list[str] = []

    def run(self, records: list[Record]) -> list[str]:
        """Undo `records`, last first; return what is left. Never raises `Failed`.

        If it was interrupted it can be done once more.
        """
        self._settle()
        self._trail.reset()
        self.left = []
        for record in reversed(records):
            if not record.changes:
                continue
            try:
                handle = self._seek(record.node, record.identity)
                if handle is None:
                    continue
                for change in reversed(record.changes):
                    self._take_back(record, change)
            except Failed:
                for change in record.changes:
                    self._leave(record.node, change)
        self._trail.reset()
        return self.left

    def _seek(self, node: Node, identity: tuple[int, int] | None) -> int | None:
        """Open a directory; None if it is gone or another directory has its name."""
        try:
            handle = self._trail.seek(node)
        except Lost as lost:
            if condition(self._platform, lost.failed) in _GONE:
                return None
            raise lost.failed from lost
        facts = self._platform.facts(handle)
        if identity is not None and (facts.device, facts.inode) != identity:
            return None
        return handle

    def _take_back(self, record: Record, change: Change) -> None:
        if change.node is not None:
            self._take_back_tree(change, change.node)
            return
        try:
            self._take_back_entry(self._trail.seek(record.node), record.node, change)
        except (Failed, Lost):
            self._leave(record.node, change)

    def _leave(self, node: Node, change: Change, *, keep: bool = True) -> None:
        """Note a name that stays, and keep the stage if it may hold what was there before."""
        whole = change.node
        self.left.append(node.join(change.name) if whole is None else whole.path or ".")
        change.stage.keep = change.stage.keep or keep

    def _take_back_entry(self, handle: int, node: Node, change: Change) -> None:
        platform, stage, number = self._platform, change.stage, change.number
        name = change.letters or change.name
        there = platform.look(handle, name)
        backup = platform.look(stage.handle, number)
        ours = abs(change.inode) or self._source_inode(node, change.name)
        if stage.emulate_exchange and (backup is None or backup.inode == ours):
            older = platform.look(stage.handle, number + ASIDE)
            if older is not None and older.inode != ours:  # it stopped halfway
                number, backup = number + ASIDE, older
        if ours is None:  # the source's file is gone: nobody can say which file this was
            self._leave(node, change, keep=backup is not None)
            return
        replaced = backup is not None and backup.inode != ours
        if there is not None and there.inode != ours:
            return  # not ours, or not ours any more
        if there is not None and self._is_later(handle, node, change, ours):
            if replaced and change.inode < 0:  # a hard link is as old as its source
                self._leave(node, change)
            return
        if backup is not None and not replaced and not (there is not None and change.inode > 0):
            return  # never placed, or the very file that was there before
        if there is None:
            if replaced:
                self._place(stage, stage.handle, number, handle, name)
            return
        if self._may_be_anothers(change):
            self._leave(node, change, keep=replaced)
            return
        if replaced:
            self._exchange(stage, number, handle, name)
            landed = platform.look(stage.handle, number)
            shared = self._may_be_anothers(change)
            if shared or (landed is not None and landed.inode != ours):
                self._exchange(stage, number, handle, name)
            if shared:
                self._leave(node, change)
            return
        aside = stage.number()
        self._place(stage, handle, name, stage.handle, aside)
        landed = platform.look(stage.handle, aside)
        shared = self._may_be_anothers(change)
        if shared or (landed is not None and landed.inode != ours):
            self._put_back(stage, aside, handle, name)
        if shared:
            self._leave(node, change, keep=False)

    def _may_be_anothers(self, change: Change) -> bool:
        """Return whether a name that holds what we placed may be another linker's as well."""
        return change.inode <= 0 and (not change.certain or self._company())

    def _put_back(self, stage: Stage, aside: str, handle: int, name: str) -> None:
        """Give another linker's entry its name again, unless a newer one has it by now."""
        try:
            self._place(stage, stage.handle, aside, handle, name)
        except Failed as failed:
            if condition(self._platform, failed) is not Condition.EXISTS:
                stage.keep = True
                raise

    def _place(self, stage: Stage, source: int, name: str, target: int, new: str) -> None:
        place(self._platform, stage, source, name, target, new)

    def _exchange(self, stage: Stage, number: str, handle: int, name: str) -> None:
        platform = self._platform
        swap = platform.exchange_emulated if stage.emulate_exchange else platform.exchange
        try:
            swap(stage.handle, number, handle, name)
        except Failed as failed:
            if condition(platform, failed) is not Condition.MISSING:
                raise
            self._place(stage, stage.handle, number, handle, name)

    def _is_later(self, handle: int, node: Node, change: Change, ours: int) -> bool:
        """Return whether an entry with our inode number was made after ours had been seen: ours was
        replaced, removed, and the number given again.
        """
        if change.inode <= 0 and not change.made_ns:
            return False  # the source has it still, or had when we looked
        if change.inode <= 0 and self._source_inode(node, change.name) == ours:
            return False  # the source has it still, which may be of any age
        born = self._platform.born(handle, change.name)
        return born is not None and born > change.made_ns

    def _take_back_tree(self, placed: Change, top: Node) -> None:
        """Take back a directory that was placed whole, entry by entry."""
        skipped: Node | None = None
        for node, entering in walk(top):
            if skipped is not None:
                if node is skipped:  # for the second time: what lies in it is behind us
                    skipped = None
                continue
            try:
                if entering:
                    if not self._enter_placed(node):
                        skipped = node
                    continue
                self._take_back_files(placed, node)
                self._remove_directory(node)
            except (Failed, Lost):
                self.left.append(node.path or ".")
                skipped = node if entering else None

    def _enter_placed(self, node: Node) -> bool:
        """Open a directory that we placed; return whether it is there and still ours."""
        platform = self._platform
        try:
            handle = self._seek(node, None)
        except Failed as failed:
            assert node.parent is not None  # what was placed has a name
            parent = self._trail.seek(node.parent)
            if not open_up(platform, failed, parent, node.name, node.inode):
                return False
            handle = self._seek(node, None)
        if handle is None:
            return False
        facts = platform.facts(handle)
        if facts.inode != node.inode:
            return False
        if node.mtime_ns - _COARSEST <= facts.mtime_ns <= node.mtime_ns:
            self._untouched[node] = facts.atime_ns
        if not platform.is_writable(handle):
            platform.change_mode(handle, node.mode | 0o700)
        return True

    def _take_back_files(self, placed: Change, node: Node) -> None:
        handle = self._trail.seek(node)
        for name, inode in node.inodes.items():
            change = Change(name, placed.stage, "", inode, None, placed.made_ns)
            try:
                self._take_back_entry(handle, node, change)
            except Failed:
                self.left.append(node.join(name))

    def _remove_directory(self, node: Node) -> None:
        """Remove a directory that is empty by now, unless another linker wants it as well.

        Who does has touched it. Between our look and its end a touch shows in the access time,
        which nothing that we do to a directory changes.
        """
        assert node.parent is not None  # what was placed has a name
        platform = self._platform
        parent = self._trail.seek(node.parent)
        try:
            handle = platform.open_below(parent, node.name)
        except Failed as failed:
            if condition(platform, failed) is not Condition.MISSING:
                raise
            return
        try:
            facts = platform.facts(handle)
            if facts.inode != node.inode:
                return
            wanted = self._untouched.get(node) != facts.atime_ns
            if wanted and not any(platform.entries(handle)):
                platform.change_mode(handle, node.mode)
                self.left.append(node.path or ".")
                return
            platform.remove_directory(parent, node.name)
            if platform.facts(handle).atime_ns != facts.atime_ns:
                self._make_again(parent, node)
        except Failed as failed:
            if failed.primitive is not Primitive.RMDIR:
                raise
            meaning = condition(platform, failed)
            if meaning is Condition.NOT_EMPTY:  # what others put there, or we had to leave
                platform.change_mode(handle, node.mode)
            elif meaning is not Condition.MISSING:
                raise
        finally:
            platform.close(handle)

    def _make_again(self, parent: int, node: Node) -> None:
        """Give back a directory that another linker had found and touched when we removed it."""
        platform = self._platform
        self.left.append(node.path or ".")
        try:
            handle = platform.make_directory(parent, node.name, node.mode & 0o777 | 0o700)
        except Failed as failed:
            if condition(platform, failed) is not Condition.EXISTS:  # they were faster
                raise
            return
        try:
            platform.stamp_directory(handle, platform.facts(handle).mode, node)
        finally:
            platform.close(handle)
