"""Merges the source into what the target has: places entries, fills directories, makes new ones.

Entries come from a stage, or right under their final names where nothing is in the way; every
change is noted before it is done. What another linker or its undo does at the same time is met by
looking again, a bounded number of times.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from linker.choices import Choices
from linker.conditions import Condition, Primitive
from linker.failures import condition, insist, link_error
from linker.journal import Change, Record, Stage, open_up, remove_tree
from linker.light import TYPE_CHECKING, NamedTuple, cast
from linker.making import Maker, Tally
from linker.modes import Existing, LinkMode
from linker.platforms.base import Failed, Kind, Platform
from linker.policy import Step
from linker.report import LinkError
from linker.staging import Stages, stage_path
from linker.tree import Lost, Node, Trail, spelled, walk

if TYPE_CHECKING:
    from linker.helping import Forking
    from linker.sharing import Done, Team

BUSY_PATIENCE = 16
"""How often a name that others have open is tried again, after a pause each."""

PATIENCE = 64
"""How often one name may change under us before that is an error of its own."""

_COMPETITION = "end that program, or link when it has ended"


class _Gone(Exception):
    """A directory of the target that was there is there no more."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.path)
        self.node = node


class _Unplaceable(Exception):
    """A staged file cannot have its final name, but one linked in another mode can."""

    def __init__(self, mode: LinkMode) -> None:
        super().__init__(mode.value)
        self.mode = mode


class _OtherMount(Exception):
    """A directory of the target cannot be reached from the stage by a rename."""


class _Postponed(NamedTuple):
    """A directory at which a helper is, and those `below` that are merged before it for once."""

    node: Node
    below: Sequence[Node]


class Merger:
    """Merges the tree of one run, from the trail `source` into the trail `target`.

    `base` is the node that `target` begins with; `new_name` what the one file of `link_file` is
    called in the target; `advance` is told the number of files done, once a directory;
    `processes` is how many may work; `take_back` undoes changes and returns what remains. `records`
    are the changes, `tallies` what was made in or with each directory.
    """

    def __init__(
        self,
        platform: Platform,
        choices: Choices,
        maker: Maker,
        stages: Stages,
        source: Trail,
        target: Trail,
        base: Node,
        *,
        existing: Existing,
        new_name: str | None,
        advance: Callable[[int], None] | None,
        processes: int,
        take_back: Callable[[list[Record]], list[str]],
    ) -> None:
        self._platform = platform
        self._choices = choices
        self._policy = choices.policy
        self._mode = choices.requested
        self._maker = maker
        self._stages = stages
        self._source = source
        self._target = target
        self._base = base
        self._existing = existing
        self._new_name = new_name
        self._advance = advance
        self._processes = processes
        self._take_back = take_back
        self._team: Team | None = None
        self._sources: set[tuple[int, int]] = set()
        """(device, inode) of every directory of the source."""
        self.records: list[Record] = []
        self.tallies: dict[Node, Tally] = {}

    def run(self, base: Node) -> None:
        """Merge `base` and whatever the target has of the directories below it."""
        # The one directory of `link_file` may well be that of its source.
        meets = bool(base.inode) or any(child.present for child in base.directories)
        if meets and self._new_name is None:
            below = [node for node, entering in walk(base) if entering and node.inode]
            self._sources = {(node.device, node.inode) for node in below}
        try:
            self._run([(True, base)])
        finally:
            if self._team is not None:
                records, interrupt = insist(self._team.close)
                self.records += records or []
                if interrupt is not None:
                    raise interrupt

    def _run(self, pending: list[tuple[bool, Node]]) -> None:
        postponed: deque[_Postponed] = deque()
        patience = PATIENCE
        while pending or postponed:
            try:
                if postponed and self._is_ready(postponed[0].node, idle=not pending):
                    self._resume(postponed.popleft(), pending)
                    continue
                merging, node = pending.pop()
                if merging and self._team is not None and not self._team.leaves(node):
                    below = [child for child in node.directories if child.present]
                    postponed.append(_Postponed(node, below))
                else:
                    below = self._merge(node) if merging else self._place_again(node)
                pending.extend((True, child) for child in reversed(below))
                if merging and self._processes > 1 and self._team is None:
                    self._gather(node, pending)
            except _Gone as gone:
                patience -= 1
                missing = gone.node
                if patience == 0 or missing.parent is None:
                    raise LinkError(
                        f"{missing.path or 'the target'} vanishes again and again",
                        why="another program removes it while it is linked",
                        hint=_COMPETITION,
                        path=missing.path,
                        condition=Condition.MISSING,
                    ) from None
                self._target.reset()
                pending = [task for task in pending if not task[1].below(missing)]
                postponed = deque(task for task in postponed if not task.node.below(missing))
                pending.append((False, missing))

    def _gather(self, node: Node, pending: Sequence[tuple[bool, Node]]) -> None:
        """Have helpers, once a file was linked here in the mode in which all are to be, if there
        is much still to be merged.
        """
        stage = self._stages.all[0]
        pair = self._choices.pair(node.device, stage.name)
        if self._stages.of.get(node) is not stage or pair.mode not in pair.worked:
            return
        from linker.helping import divide_shares
        from linker.sharing import Team, share_of

        helpers, self._processes = self._processes - 1, 1  # we ask for them once
        direct = self._platform.places_directly
        staging = cast("Forking", self._platform).swaps_apart(stage.handle)
        shares = []
        stack = [node for merging, node in pending if merging]
        while stack:
            each = stack.pop()
            stack.extend(child for child in reversed(each.directories) if child.present)
            if each.device == node.device:
                share = share_of(each, pair.mode, direct=direct, staging=staging)
                shares += [] if share is None else [share]
        tickets = divide_shares(shares)
        if not tickets:
            return
        try:
            self._team = Team(
                self._platform,
                self._maker,
                pair,
                stage,
                self._source,
                self._target,
                tickets,
                self._sources,
            )
        except OSError:  # no descriptors, no memory: then alone
            return
        self._team.hire(helpers)

    def _is_ready(self, node: Node, *, idle: bool) -> bool:
        """Return whether no helper is at work in a directory; `idle` if we may wait for that."""
        assert self._team is not None  # who else had kept us from it
        if idle:
            self._team.wait()
        return self._team.is_ready(node)

    def _resume(self, task: _Postponed, pending: list[tuple[bool, Node]]) -> None:
        """Merge a directory at which a helper has been."""
        assert self._team is not None
        record, done = self._team.collect(task.node)
        if record.changes:
            self.records.append(record)
            if done is None and not self._take_back([record]):
                self.records.remove(record)
        below = self._merge(task.node, done)
        pending.extend((True, child) for child in reversed(below) if child not in task.below)

    def _seek(self, node: Node) -> tuple[int, int]:
        """Return the handles of a directory in the source and in the target."""
        try:
            # Above the source's root there are no files of ours.
            source = self._source.seek(node) if node.depth >= self._source.base_depth else -1
        except Lost as lost:
            raise link_error(self._platform, lost.failed, lost.node.path) from lost.failed.error
        except Failed as failed:
            raise link_error(self._platform, failed, node.path) from failed.error
        try:
            return source, self.seek_target(node)
        except Lost as lost:
            if condition(self._platform, lost.failed) is Condition.MISSING:
                raise _Gone(lost.node) from lost
            raise link_error(self._platform, lost.failed, lost.node.path) from lost.failed.error
        except Failed as failed:
            raise link_error(self._platform, failed, node.path) from failed.error

    def seek_target(self, node: Node) -> int:
        """Return the handle of a directory in the target, where we may have to be let in.

        Raises `Lost`, and `Failed`.
        """
        while True:
            try:
                return self._target.seek(node)
            except Lost as lost:
                if condition(self._platform, lost.failed) is not Condition.DENIED:
                    raise
                if not self._let_in(lost.node):
                    raise

    def _let_in(self, node: Node) -> bool:
        """Open a directory of ours that shuts out its owner, or the one above that lets nobody
        through, for as long as it takes; return whether that was it.
        """
        above = node.parent
        assert above is not None  # only the base has none, and that is open
        try:
            handle = self._target.seek(above)
            facts = self._platform.facts(handle)
            if facts.mode & 0o100:
                return self._let_in_below(above, node)
        except Failed:
            return False
        self._stages.first(self._target.seek(self._base))
        record = Record(above, (facts.device, facts.inode))
        self.records.append(record)
        with suppress(Failed):  # another's directory, or a read-only mount
            self._widen(record, self._target.seek(above), facts.mode)
        return record.widened is not None

    def _let_in_below(self, above: Node, node: Node) -> bool:
        """Do so where it is the directory itself. Raises `Failed` before anything is done."""
        platform, handle = self._platform, self._target.seek(above)
        there, mode = platform.look(handle, node.name), platform.permissions(handle, node.name)
        if there is None or there.kind is not Kind.DIRECTORY or mode & 0o700 == 0o700:
            return False
        stage = self._stages.first(self._target.seek(self._base))
        record = Record(node, (there.device, there.inode))
        self.records.append(record)
        note = stage.pending(stage_path(node, stage), there.inode, mode | 0o700, mode)
        record.widened = (mode, stage, note)
        with suppress(Failed):
            if platform.let_in(self._target.seek(above), node.name, there.inode):
                return True
        with suppress(Failed):
            if platform.permissions(self._target.seek(above), node.name) == mode:  # as it was
                record.widened = None
                stage.forget(note)
        return False

    def _begin(self, node: Node) -> tuple[int, int, Record]:
        """Open a directory of the target for changes."""
        source, target = self._seek(node)
        try:
            facts = self._platform.facts(target)
            record = Record(node, (facts.device, facts.inode))
            self._refuse_source(record)
            self.records.append(record)
            if not self._platform.is_writable(target):
                self._widen(record, target, facts.mode)
        except Failed as failed:
            raise link_error(self._platform, failed, node.path or "the target") from failed.error
        if node.root and node is not self._base and self._mode is LinkMode.HARDLINK:
            self._stages.meet_in_target(node, target)
        self._stages.at(node, target)
        return source, target, record

    def _refuse_source(self, record: Record) -> None:
        """Raise where a directory of the target is one of the source's as well, by a bind mount."""
        if record.identity in self._sources:
            path = record.node.path or "the target"
            raise LinkError(
                f"{path} is a directory of the source too",
                why="it is mounted there, and to replace a file in it would be to lose it",
                hint="link to where no part of the source is mounted",
                path=record.node.path,
            )

    def _merge(self, node: Node, done: Done | None = None) -> list[Node]:
        """Place everything that belongs into a directory that exists, but what a helper has `done`.

        Return the directories below that exist as well, to be merged in their turn.
        """
        if not (node.files or node.symlinks) and all(child.present for child in node.directories):
            if not node.directories:
                self._claim(node)
            return list(node.directories)
        if done is not None and not done.numbers and all(c.present for c in node.directories):
            self.tallies[node] = done.placed
            if self._advance is not None:
                self._advance(len(node.files))
            return list(node.directories)
        source, target, record = self._begin(node)
        tally = self._place_entries(record, source, target, done)
        if node in self.tallies:  # the directory itself, which was made empty
            tally.add(self.tallies[node])
        self.tallies[node] = tally
        below = []
        for child in node.directories:
            if child.present or not self._place_directory(record, child, target):
                child.present = True
                below.append(child)
        return below

    def _claim(self, node: Node) -> None:
        """Let a directory into which nothing goes show that it is wanted here as well: the undo of
        another linker, who may have made it, leaves an empty one that was touched since.
        """
        platform = self._platform
        _, target = self._seek(node)
        try:
            platform.touch(target)
            inode = platform.facts(target).inode
        except Failed:  # another user's, who was here before any linker of this one
            return
        if node is self._base:
            return
        assert node.parent is not None  # only the base has none
        _, above = self._seek(node.parent)
        try:
            there = platform.look(above, node.name)
        except Failed as failed:
            raise link_error(platform, failed, node.path) from failed.error
        if there is None or there.inode != inode:  # the undo was faster
            raise _Gone(node)

    def _place_entries(self, record: Record, source: int, target: int, done: Done | None) -> Tally:
        """Make and place the files and symlinks of a directory that exists."""
        node, tally, final = record.node, Tally(), self._new_name
        files: Sequence[str]
        if done is not None:
            tally.add(done.placed)
            files = done.share.staged
        else:
            stage = self._stages.of[node]
            files = self._maker.place(record, source, target, stage, final, tally)
        names = (*files, *node.symlinks)
        while names:
            stage = self._stages.of[node]
            if done is not None and stage is self._stages.all[0]:
                staged, numbers, made = done.staged, done.numbers, done.made_ns
            else:
                staged, numbers = Tally(), [stage.number() for _ in names]
                self._maker.fill(node, source, stage, stage.handle, staged, numbers, files)
                made = self._time(stage, ".")
            inodes, done = node.inodes, None
            try:
                for name, number in zip(names, numbers, strict=True):
                    if name not in inodes:
                        continue  # it was left out
                    change = Change(final or name, stage, number, inodes[name], None, made)
                    try:
                        self._commit(record, change, target, staged)
                    except _Unplaceable as refused:
                        again = self._make_again(refused.mode, node, name, source, change, staged)
                        self._commit(record, again, target, staged)
            except _OtherMount:
                self._stages.open(target, node)
                continue
            tally.add(staged)
            break
        if self._advance is not None:
            self._advance(len(node.files))
        return tally

    def _time(self, stage: Stage, name: str) -> int:
        """Return the filesystem's time of the last change of a directory in a stage."""
        try:
            seen = self._platform.look(stage.handle, name)
        except Failed as failed:
            raise link_error(self._platform, failed, "the stage") from failed.error
        return seen.changed_ns if seen is not None else 0

    def _place_again(self, node: Node) -> list[Node]:
        """Place a directory that was there and is gone."""
        assert node.parent is not None  # the root is never placed
        node.present = False
        for tallied in [other for other in self.tallies if other.below(node)]:
            del self.tallies[tallied]
        for staged in [other for other in self._stages.of if other.below(node)]:
            del self._stages.of[staged]
        _, target, record = self._begin(node.parent)
        return [] if self._place_directory(record, node, target) else [node]

    def _place_directory(self, record: Record, node: Node, target: int) -> bool:
        """Stage a directory whole and place it; False if it is still to be merged."""
        while True:
            stage = self._stages.of[record.node]
            number = stage.number()
            make = self._maker.tree if self._policy.undo else self._maker.outset
            tally, whole = make(node, stage, number)
            owed: tuple[int, str] | None = None
            try:
                if node.mode & 0o300 != 0o300:
                    owed = self._owe_mode(node, stage, number)
                made = self._time(stage, number)
                change = Change(node.name, stage, number, node.inode, node, made)
                if self._commit(record, change, target, tally):
                    if owed is not None:
                        self._pay_mode(node, stage, *owed)
                    self.tallies[node] = tally
                    return whole
            except _OtherMount:
                remove_tree(self._platform, stage.handle, number)
                self._stages.open(target, record.node)
                continue
            except Failed as failed:
                raise link_error(self._platform, failed, node.path) from failed.error
            finally:
                if owed is not None:
                    self._platform.close(owed[0])
            if owed is not None:
                stage.forget(owed[1])
            remove_tree(self._platform, stage.handle, number)
            return False

    def _owe_mode(self, node: Node, stage: Stage, number: str) -> tuple[int, str]:
        """Make a directory writable while it gets its name, and note what it shall be.

        Return a handle of it and the note's name.

        Renaming a directory to another parent writes its "..": an ordinary user needs write
        permission on it. The note is for the next run, should this one be killed in between.
        """
        platform = self._platform
        try:
            handle = platform.open_below(stage.handle, number)
        except Failed as failed:
            open_up(platform, failed, stage.handle, number)
            handle = platform.open_below(stage.handle, number)
        try:
            mode = platform.facts(handle).mode
            final = _with_owners_bits(mode, node)
            record = stage.pending(stage_path(node, stage), node.inode, mode | 0o300, final)
            platform.change_mode(handle, mode | 0o300)
        except BaseException:
            platform.close(handle)
            raise
        return handle, record

    def _pay_mode(self, node: Node, stage: Stage, handle: int, owed: str) -> None:
        """Give a placed directory its final permission bits."""
        facts = self._platform.facts(handle)
        self._platform.change_mode(handle, _with_owners_bits(facts.mode, node))
        stage.forget(owed)

    def _widen(self, record: Record, target: int, mode: int) -> None:
        """Let ourselves write into a read-only directory of ours, for as long as it takes."""
        self._platform.check_bits(target)
        stage = self._stages.all[0]
        path = stage_path(record.node, stage)
        note = stage.pending(path, record.identity[1], mode | 0o300, mode)
        record.widened = (mode, stage, note)
        try:
            self._platform.change_mode(target, mode | 0o300)
        except Failed:  # another's directory, or a read-only mount: nothing was changed
            record.widened = None
            stage.forget(note)
            raise

    def narrow(self, record: Record, *, last: bool = False) -> bool:
        """Give a widened directory its permission bits back; return whether nothing is owed."""
        if record.widened is None:
            return True
        mode, stage, note = record.widened
        try:
            handle = self._target.seek(record.node)
            facts = self._platform.facts(handle)
            if (facts.device, facts.inode) == record.identity:
                self._platform.change_mode(handle, mode)
        except Lost as lost:
            gone = last and condition(self._platform, lost.failed) is Condition.MISSING
            if not gone and not self._has_bits(record, mode):
                return False
        except Failed:
            return False
        record.widened = None
        stage.forget(note)
        return True

    def _has_bits(self, record: Record, mode: int) -> bool:
        """Return whether a directory that cannot be opened has these permission bits."""
        node, platform = record.node, self._platform
        assert node.parent is not None  # only the base has none, and that is open
        try:
            above = self._target.seek(node.parent)
            there = platform.look(above, node.name)
            ours = there is not None and (there.device, there.inode) == record.identity
            return ours and platform.permissions(above, node.name) == mode
        except (Failed, Lost):
            return False

    def _commit(self, record: Record, change: Change, target: int, tally: Tally) -> bool:
        """Give a staged entry its final name; False if it is a directory that exists by now."""
        platform, stage, node, name = self._platform, change.stage, record.node, change.name
        record.changes.append(change)  # before it is done: undo looks before it takes away
        replacing = name in node.taken and self._choices.replaces(node, name)
        busy = 0
        for _ in range(PATIENCE):
            try:
                if not replacing:
                    place = platform.place_emulated if stage.emulate_place else platform.place
                    place(stage.handle, change.number, target, name)
                    return True
                if stage.emulate_exchange and name not in node.taken:
                    change = self._spelled(record, change, target)
                done = self._replace(change, target, node)
            except Failed as failed:
                path = node.join(name)
                step = self._choices.step(failed, path)
                replacing = step is Step.REPLACE
                if step is Step.EMULATE:
                    exchanging = failed.primitive is Primitive.EXCHANGE
                    if stage.emulate_exchange if exchanging else stage.emulate_place:
                        # By the slower calls as well: it is the name that is refused.
                        raise link_error(platform, failed, path) from failed.error
                    if exchanging:
                        stage.emulate_exchange = replacing = True
                    else:
                        stage.emulate_place = True
                elif step is Step.RETRY:
                    if condition(platform, failed) is Condition.BUSY:  # somebody has it open
                        busy += 1
                        if busy > BUSY_PATIENCE:
                            raise link_error(platform, failed, path) from failed.error
                        platform.pause(busy)
                    elif failed.primitive is Primitive.RENAME and not (
                        node.root or node is self._base
                    ):
                        # Somebody's undo removed the directory that we have open.
                        raise _Gone(node) from failed
                elif step is Step.RESTAGE and stage.node is not node:
                    record.changes.pop()
                    raise _OtherMount from failed
                elif isinstance(step, LinkMode) and not (self._choices.strict or change.node):
                    record.changes.pop()
                    raise _Unplaceable(step) from failed
                elif step is not Step.REPLACE:
                    raise link_error(platform, failed, path) from failed.error
            else:
                if not done:
                    record.changes.pop()
                tally.replaced += done
                return done
        raise LinkError(
            f"{node.join(name)} changes again and again",
            why="another program creates and removes it while it is linked, or the filesystem "
            "takes no such name",
            hint=f"{_COMPETITION}; or give it another name",
            path=node.join(name),
            condition=Condition.BUSY,
        )

    def _spelled(self, record: Record, change: Change, target: int) -> Change:
        """Note in which letters the target has a name that it was not known to have: a call that
        swaps two names leaves them their letters, and those that stand in for it do not.
        """
        there = spelled(change.name, self._platform.entries(target).names())
        if there != change.name:
            record.changes[-1] = change = change._replace(letters=there)
        return change

    def _make_again(
        self, mode: LinkMode, node: Node, name: str, source: int, old: Change, tally: Tally
    ) -> Change:
        """Stage a file in another mode than the one in which it could not be placed."""
        stage, number = old.stage, old.stage.number()
        try:
            self._platform.remove_file(stage.handle, old.number)
            inode = self._maker.primitive(mode, node)(source, name, stage.handle, number)
        except Failed as failed:
            raise link_error(self._platform, failed, node.join(name)) from failed.error
        tally.modes[LinkMode.HARDLINK] -= 1  # no other file has a link too many
        tally.modes[mode] += 1
        return Change(old.name, stage, number, inode, None, self._time(stage, "."))

    def _replace(self, change: Change, target: int, node: Node) -> bool:
        """Swap a staged entry with the one that has its name; False if both are directories."""
        platform, stage = self._platform, change.stage
        name = change.letters or change.name
        if change.node is not None or self._existing is Existing.FAIL:
            there = platform.look(target, name)
            if there is not None:
                ours = Kind.FILE if change.node is None else Kind.DIRECTORY
                refuse_conflict(self._existing, node.join(name), ours, there.kind)
                return False
            vanished = OSError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            raise Failed(Primitive.EXCHANGE, vanished)
        if stage.emulate_exchange:
            platform.exchange_emulated(stage.handle, change.number, target, name)
            landed = platform.look(stage.handle, change.number)
        else:
            if not stage.swaps:
                platform.check_swaps(stage.handle)
                stage.swaps = True
            inode = change.inode if change.inode > 0 else None
            landed = platform.exchange(stage.handle, change.number, target, name, inode)
        if landed is not None and landed.kind is Kind.DIRECTORY:
            platform.exchange(stage.handle, change.number, target, name)
            refuse_conflict(self._existing, node.join(name), Kind.FILE, landed.kind)
        return True


def _with_owners_bits(mode: int, node: Node) -> int:
    """Return permission bits with what a directory of the source has for its owner."""
    return mode & ~0o700 | node.mode & 0o700


def refuse_conflict(existing: Existing, path: str, ours: Kind, theirs: Kind) -> None:
    """Raise where an entry of ours cannot take the place of what is there."""
    if existing is Existing.FAIL:
        raise LinkError(
            f"{path} exists already",
            why=f"the target has a {theirs.value} of that name",
            hint="link into an empty target, or allow merging (Existing.MERGE)",
            path=path,
            condition=Condition.EXISTS,
        )
    if ours is Kind.DIRECTORY and theirs is not Kind.DIRECTORY:
        raise LinkError(
            f"cannot merge the directory {path}",
            why=f"the target has a {theirs.value} of that name"
            + (", which is never followed" if theirs is Kind.SYMLINK else ""),
            hint=f"remove the {theirs.value} from the target",
            path=path,
            condition=(Condition.IS_SYMLINK if theirs is Kind.SYMLINK else Condition.NOT_DIRECTORY),
        )
    if ours is not Kind.DIRECTORY and theirs is Kind.DIRECTORY:
        raise LinkError(
            f"cannot replace {path}",
            why="the target has a directory of that name, and the source a file",
            hint="remove the directory from the target",
            path=path,
            condition=Condition.IS_DIRECTORY,
        )
