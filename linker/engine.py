"""Walks a tree, asks the policy, calls the platform, keeps the journal.

The source is scanned whole and held against the target before anything is written. Directories
that the target lacks are made in a stage and given their name by one rename; directories that it
has are merged, entry by entry. Every failure goes to the policy as (platform, mode, primitive,
condition), and what it answers is all that this module ever does about it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from linker.choices import Choices
from linker.conditions import Condition, Primitive
from linker.failures import condition, link_error
from linker.inputs import check_file, check_roots, mutable_matcher, parse_mode
from linker.journal import RESERVED, STAGE, Change, Record, Stage, Undo, open_stage, recover
from linker.journal import remove_tree as remove_staged
from linker.modes import Existing, LinkMode
from linker.platforms import current
from linker.platforms.base import Failed, Kind, Platform
from linker.policies import REFERENCE
from linker.policy import Policy, Step
from linker.report import LinkError, LinkReport, Observer, observers
from linker.tree import (
    Lost,
    Node,
    Reserved,
    SpecialFile,
    Trail,
    scan,
    text_of,
    walk,
)

StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Progress = Callable[[int, int], None]
"""Called as progress(files done, files in all), once a directory."""

_PATIENCE: Final = 64
"""How often one name may change under us before that is an error of its own."""


class _Gone(Exception):
    """A directory of the target that was there is there no more."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.path)
        self.node = node


class _OtherMount(Exception):
    """A directory of the target cannot be reached from the stage by a rename."""


class _Run:
    """One call of `link_tree` or `link_file`."""

    def __init__(
        self,
        *,
        mode: LinkMode,
        policy: Policy,
        existing: Existing,
        mutable: Sequence[str],
        strict: bool,
        platform: Platform,
        watchers: Sequence[Observer],
        progress: Progress | None,
    ) -> None:
        self.mode = mode
        self.policy = policy
        self.existing = existing
        self.is_mutable = mutable_matcher(mutable)
        self.platform = platform
        self.watchers = watchers
        self.progress = progress
        self.choices = Choices(policy, platform, mode, watchers, strict=strict)
        self.stages: list[Stage] = []
        self.stage_of: dict[Node, Stage] = {}
        self.records: list[Record] = []
        self.counts: dict[Node, Counter[LinkMode | Kind]] = {}
        self.handles: list[int] = []
        self.made_parents: list[str] = []
        self.new_name: str | None = None
        self.replaced = 0
        self.total = 0
        self.done = 0
        self.company = False
        self.symlink_base = ""
        self.folding: list[tuple[Node, str, str]] = []

    # From paths to two open directories and a scanned tree.

    def tree(self, source: str, target: str) -> LinkReport:
        """Link the tree below `source` into `target`."""
        real = check_roots(source, target)
        self.symlink_base = os.path.abspath(source) + "/"
        try:
            top = Node("", None)
            source_root = self._open(source)
            container, base = real, top
            above, name = os.path.split(real)
            if os.path.isdir(real) and os.access(real, os.W_OK | os.X_OK):
                self._recover_beside(above)
            else:  # the root itself is staged beside its place, or needs write permission first
                container, base = above, Node("", None)
                top.name, top.parent, top.depth = name, base, 1
                base.directories.append(top)
            self._scan(source_root, top)
            self._make_parents(container)
            return self._link(source_root, top, container, base)
        except BaseException:
            self._remove_parents()
            raise
        finally:
            self._close()

    def _recover_beside(self, directory: str) -> None:
        """Remove what a run that was killed at its very end left beside the target."""
        try:
            handle = self.platform.open_root(directory)
        except Failed:  # not ours to read: nothing of ours there
            return
        try:
            for name, _ in self.platform.entries(handle):
                if name.startswith(STAGE):
                    recover(self.platform, handle, name)
        except Failed:
            return
        finally:
            self.platform.close(handle)

    def file(self, source: str, target: str) -> LinkReport:
        """Link the one file `source` to the name `target`."""
        seen = check_file(source, target)
        directory, name = os.path.split(os.path.abspath(source))
        self.symlink_base = directory + "/"
        container, self.new_name = os.path.split(os.path.abspath(target))
        try:
            base = Node("", None)
            (base.symlinks if seen is Kind.SYMLINK else base.files).append(name)
            source_root = self._open(directory)
            base.device = self.platform.facts(source_root).device
            self.total = len(base.files)
            self._make_parents(container)
            return self._link(source_root, base, os.path.realpath(container), base)
        except BaseException as error:
            self._remove_parents()
            if isinstance(error, Failed):
                raise link_error(self.platform, error, target) from error.error
            raise
        finally:
            self._close()

    def _open(self, path: str) -> int:
        try:
            handle = self.platform.open_root(path)
        except Failed as failed:
            raise link_error(self.platform, failed, path) from failed.error
        self.handles.append(handle)
        return handle

    def _make_parents(self, directory: str) -> None:
        """Make the directories above a target that does not exist, to be removed by undo."""
        missing = []
        while not os.path.lexists(directory):
            missing.append(directory)
            directory = os.path.dirname(directory)
        for path in reversed(missing):
            try:
                os.mkdir(path)
            except FileExistsError:
                continue
            except OSError as error:
                raise link_error(self.platform, Failed(Primitive.MKDIR, error), path) from error
            self.made_parents.append(path)

    def _remove_parents(self) -> None:
        for path in reversed(self.made_parents):
            try:
                os.rmdir(path)
            except OSError:  # another's by now
                return

    def _scan(self, root: int, top: Node) -> None:
        try:
            self.total, self.folding = scan(self.platform, root, top, RESERVED)
        except Reserved as reserved:
            raise LinkError(
                f"cannot link {reserved.path}",
                why="the name is reserved: it is what an interrupted link left there",
                hint="link into that directory once more, or remove it",
                path=reserved.path,
            ) from None
        except SpecialFile as special:
            raise LinkError(
                f"cannot link {special.path}",
                why="it is a device, socket or fifo, and only files, directories and symlinks "
                "can be linked",
                hint="remove it from the source",
                path=special.path,
            ) from None
        except Lost as lost:
            raise link_error(self.platform, lost.failed, lost.node.path) from lost.failed.error
        except Failed as failed:
            raise link_error(self.platform, failed, "the source") from failed.error

    def _close(self) -> None:
        for stage in self.stages:
            stage.close()
        for handle in self.handles:
            self.platform.close(handle)
        self.stages.clear()
        self.handles.clear()

    # The whole of it.

    def _link(self, source_root: int, top: Node, container: str, base: Node) -> LinkReport:
        platform = self.platform
        root = self._open(container)
        self.source = Trail(platform, source_root, top, Primitive.READ)
        self.target = Trail(platform, root, base)
        try:
            self._hold_against_target(base)
            stage = self._open_stage(root, base)
            if self.mode is LinkMode.HARDLINK:
                self._look_for_company(stage, root)
            self._merge_all(base)
            self.choices.tell_suspects()
        except BaseException as error:
            left = self._undo(root, base)
            if isinstance(error, LinkError):
                error.left = tuple(left)
            raise
        finally:
            self.source.reset()
            self.target.reset()
        return self._finish()

    def _finish(self) -> LinkReport:
        leftovers = self._clean()
        total: Counter[LinkMode | Kind] = Counter()
        for counted in self.counts.values():
            total.update(counted)
        report = LinkReport(
            requested=self.mode,
            counts={mode: total[mode] for mode in LinkMode if total[mode]},
            transitions=tuple(self.choices.transitions),
            policy=self.policy.name,
            directories=total[Kind.DIRECTORY],
            symlinks=total[Kind.SYMLINK],
            replaced=self.replaced,
            leftovers=tuple(leftovers),
        )
        for watcher in self.watchers:
            watcher.linked(report)
        return report

    def _undo(self, root: int, base: Node) -> list[str]:
        """Put the target back as it was, as far as the policy does that; return what is left."""
        self.choices.tell_suspects()
        self.source.reset()
        self.target.reset()
        left: list[str] = []
        if self.policy.undo and any(record.changes for record in self.records):
            company = self.company or bool(self.stages and self.stages[0].was_marked())
            undo = Undo(self.platform, root, base, self._source_inode, company=company)
            left = undo.run(self.records)
            self.source.reset()
        return left + self._clean()

    def _source_inode(self, node: Node, name: str) -> int | None:
        """Return the inode number of a file of the source, None if it cannot be told."""
        if self.new_name is not None:
            name = node.files[0]
        try:
            seen = self.platform.look(self.source.seek(node), name)
        except (Failed, Lost):
            return None
        return seen.inode if seen is not None else None

    def _clean(self) -> list[str]:
        """Give widened directories their permission bits back and remove the stages.

        Return what remains, as paths relative to the target.
        """
        for record in self.records:
            self._narrow(record)
        self.source.reset()
        self.target.reset()
        left = []
        for stage in reversed(self.stages):
            where = stage.node
            left += [where.join(name) if where else name for name in stage.remove()]
        return left

    # Before anything is written.

    def _hold_against_target(self, base: Node) -> None:
        """Find what is there already, and refuse what cannot be merged."""
        stack = [base]
        while stack:
            node = stack.pop()
            try:
                handle = self.target.seek(node)
                there = dict(self.platform.entries(handle))
            except Lost as lost:
                raise link_error(self.platform, lost.failed, lost.node.path) from lost.failed.error
            except Failed as failed:
                raise link_error(self.platform, failed, node.path or "the target") from failed.error
            node.present = True
            for name in [name for name in there if name.startswith(STAGE)]:
                recover(self.platform, handle, name)
            if not there:
                continue
            for name in (*node.files, *node.symlinks):
                final = self.new_name or name
                if final in there:
                    self._refuse_conflict(node.join(final), Kind.FILE, there[final])
            for child in node.directories:
                if child.name in there:
                    if not child.root:
                        path = node.join(child.name)
                        self._refuse_conflict(path, Kind.DIRECTORY, there[child.name])
                    stack.append(child)

    def _refuse_conflict(self, path: str, ours: Kind, theirs: Kind) -> None:
        """Raise where an entry of ours cannot take the place of what is there."""
        if self.existing is Existing.FAIL:
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
                condition=(
                    Condition.IS_SYMLINK if theirs is Kind.SYMLINK else Condition.NOT_DIRECTORY
                ),
            )
        if ours is not Kind.DIRECTORY and theirs is Kind.DIRECTORY:
            raise LinkError(
                f"cannot replace {path}",
                why="the target has a directory of that name, and the source a file",
                hint="remove the directory from the target",
                path=path,
                condition=Condition.IS_DIRECTORY,
            )

    # Stages.

    def _open_stage(self, directory: int, node: Node) -> Stage:
        try:
            stage = open_stage(self.platform, directory, self._goes_on_unlocked)
        except Failed as failed:
            raise link_error(self.platform, failed, node.path or "the target") from failed.error
        stage.node = node
        self.stages.append(stage)
        self.stage_of[node] = stage
        self._refuse_folding(stage)
        return stage

    def _goes_on_unlocked(self, failed: Failed) -> bool:
        return self.choices.step(failed, "the stage") is Step.PROCEED

    def _look_for_company(self, stage: Stage, root: int) -> None:
        """Find other linkers at work in this target, and let them know of us.

        Each looks after it has made its own stage: of any two that overlap, at least one sees
        the other.
        """
        try:
            names = [name for name, _ in self.platform.entries(root)]
        except Failed as failed:
            raise link_error(self.platform, failed, "the target") from failed.error
        others = [name for name in names if name.startswith(STAGE) and name != stage.name]
        self.company = bool(others)
        stage.mark(others)

    def _refuse_folding(self, stage: Stage) -> None:
        """Raise if two names of the source would be one in this stage."""
        for node, first, second in self.folding:
            number = stage.number()
            trail = Trail(self.platform, stage.handle)
            try:
                trail.make(number)
                trail.make(first)
                trail.leave()
                folds = self.platform.look(trail.handle, second) is not None
            except Failed as failed:
                raise link_error(self.platform, failed, node.join(first)) from failed.error
            finally:
                trail.reset()
            remove_staged(self.platform, stage.handle, number)
            if folds:
                raise LinkError(
                    f"cannot link both {node.join(first)} and {node.join(second)}",
                    why="the target does not tell upper from lower case, so that one would "
                    "replace the other",
                    hint="rename one of them in the source, or link to another filesystem",
                    path=node.join(second),
                    condition=Condition.EXISTS,
                )

    def _stage_for(self, node: Node, handle: int) -> Stage:
        """Return a stage whose entries inherit what entries of this directory would."""
        if node in self.stage_of:
            return self.stage_of[node]
        try:
            inheritance = self.platform.inheritance(handle)
        except Failed as failed:
            raise link_error(self.platform, failed, node.path) from failed.error
        above = self.stage_of.get(node.parent) if node.parent else None
        for stage in (above, self.stages[0]):
            if stage is not None and stage.inheritance == inheritance:
                self.stage_of[node] = stage
                return stage
        return self._open_stage(handle, node)

    # Merging.

    def _merge_all(self, base: Node) -> None:
        """Merge `base` and whatever the target has of the directories below it."""
        pending: list[tuple[bool, Node]] = [(True, base)]
        patience = _PATIENCE
        while pending:
            merging, node = pending.pop()
            try:
                below = self._merge(node) if merging else self._place_again(node)
                pending.extend((True, child) for child in reversed(below))
            except _Gone as gone:
                patience -= 1
                missing = gone.node
                if patience == 0 or missing.parent is None:
                    raise LinkError(
                        f"{missing.path or 'the target'} vanishes again and again",
                        why="another program removes it while it is linked",
                        path=missing.path,
                        condition=Condition.MISSING,
                    ) from None
                self.target.reset()
                pending = [task for task in pending if not task[1].below(missing)]
                pending.append((False, missing))

    def _seek(self, node: Node) -> tuple[int, int]:
        """Return the handles of a directory in the source and in the target."""
        try:
            # Above the source's root there are no files of ours.
            source = self.source.seek(node) if node.depth >= self.source_depth else -1
        except Lost as lost:
            raise link_error(self.platform, lost.failed, lost.node.path) from lost.failed.error
        except Failed as failed:
            raise link_error(self.platform, failed, node.path) from failed.error
        try:
            return source, self.target.seek(node)
        except Lost as lost:
            if condition(self.platform, lost.failed) is Condition.MISSING:
                raise _Gone(lost.node) from lost
            raise link_error(self.platform, lost.failed, lost.node.path) from lost.failed.error
        except Failed as failed:
            raise link_error(self.platform, failed, node.path) from failed.error

    @property
    def source_depth(self) -> int:
        """The depth of the source's root among the nodes: 1 if the target is new, else 0."""
        return self.source.base_depth

    def _begin(self, node: Node) -> tuple[int, int, Record]:
        """Open a directory of the target for changes."""
        source, target = self._seek(node)
        try:
            facts = self.platform.facts(target)
            record = Record(node, (facts.device, facts.inode))
            self.records.append(record)
            if not self.platform.is_writable(target):
                self._widen(record, target, facts.mode)
        except Failed as failed:
            raise link_error(self.platform, failed, node.path or "the target") from failed.error
        self._stage_for(node, target)
        return source, target, record

    def _merge(self, node: Node) -> list[Node]:
        """Place everything that belongs into a directory that exists.

        Return the directories below that exist as well, to be merged in their turn.
        """
        source, target, record = self._begin(node)
        counts: Counter[LinkMode | Kind] = Counter()
        below = []
        for name in node.files:
            self._place_file(record, node, name, source, target, counts)
        for name in node.symlinks:
            self._place_symlink(record, node, name, source, target)
            counts[Kind.SYMLINK] += 1
        for child in node.directories:
            if child.present or not self._place_directory(record, child, target):
                child.present = True
                below.append(child)
        self.counts[node] = counts
        self._advance(len(node.files))
        return below

    def _place_again(self, node: Node) -> list[Node]:
        """Place a directory that was there and is gone."""
        assert node.parent is not None  # the root is never placed
        node.present = False
        for counted in [other for other in self.counts if other.below(node)]:
            del self.counts[counted]
        for staged in [other for other in self.stage_of if other.below(node)]:
            del self.stage_of[staged]
        _, target, record = self._begin(node.parent)
        return [] if self._place_directory(record, node, target) else [node]

    def _place_file(
        self,
        record: Record,
        node: Node,
        name: str,
        source: int,
        target: int,
        counts: Counter[LinkMode | Kind],
    ) -> None:
        while True:
            stage = self.stage_of[node]
            number = stage.number()
            mode, inode = self._make(node, name, source, stage, stage.handle, number)
            shared = mode is LinkMode.HARDLINK
            change = Change(self.new_name or name, stage, number, inode, shared, None)
            try:
                self._commit(record, change, target)
            except _OtherMount:
                self._restage(record, target)
                continue
            counts[mode] += 1
            return

    def _place_symlink(
        self, record: Record, node: Node, name: str, source: int, target: int
    ) -> None:
        while True:
            stage = self.stage_of[node]
            number = stage.number()
            inode = self._make_symlink(node, name, source, stage.handle, number)
            change = Change(self.new_name or name, stage, number, inode, shared=False, node=None)
            try:
                self._commit(record, change, target)
            except _OtherMount:
                self._restage(record, target)
                continue
            return

    def _place_directory(self, record: Record, node: Node, target: int) -> bool:
        """Stage a directory whole and place it; False if the target has it by now."""
        while True:
            stage = self.stage_of[record.node]
            number = stage.number()
            if not self.policy.undo:
                counts = self._stage_empty(node, stage, number)
            else:
                counts = self._stage_tree(node, stage, number)
            owed = None
            try:
                if node.mode & 0o300 != 0o300:
                    owed = self._owe_mode(node, stage, number)
                change = Change(node.name, stage, number, node.inode, shared=False, node=node)
                if self._commit(record, change, target):
                    if owed is not None:
                        self._pay_mode(node, target, stage, owed)
                    if not self.policy.undo:
                        return False
                    self.counts[node] = counts
                    return True
            except _OtherMount:
                self._restage(record, target)
                continue
            except Failed as failed:
                raise link_error(self.platform, failed, node.path) from failed.error
            if owed is not None:
                stage.forget(owed)
            remove_staged(self.platform, stage.handle, number)
            return False

    def _owe_mode(self, node: Node, stage: Stage, number: str) -> str:
        """Make a directory writable while it gets its name, and note what it shall be.

        Renaming a directory to another parent writes its "..": an ordinary user needs write
        permission on it. The note is for the next run, should this one be killed in between.
        """
        platform = self.platform
        handle = platform.open_below(stage.handle, number)
        try:
            mode = platform.facts(handle).mode
            record = stage.pending(stage_path(node, stage), node.inode, mode | 0o300, mode)
            platform.change_mode(handle, mode | 0o300)
        finally:
            platform.close(handle)
        return record

    def _pay_mode(self, node: Node, target: int, stage: Stage, owed: str) -> None:
        """Give a placed directory its final permission bits."""
        platform = self.platform
        try:
            handle = platform.open_below(target, node.name)
        except Failed as failed:
            if condition(self.platform, failed) is not Condition.MISSING:
                raise
            return  # another linker's undo or replacement: not ours any more
        try:
            facts = platform.facts(handle)
            if facts.inode == node.inode:
                platform.change_mode(handle, facts.mode & ~0o300 | node.mode & 0o300)
        finally:
            platform.close(handle)
        stage.forget(owed)

    def _widen(self, record: Record, target: int, mode: int) -> None:
        """Let ourselves write into a read-only directory of ours, for as long as it takes."""
        stage = self.stages[0]
        path = stage_path(record.node, stage)
        note = stage.pending(path, record.identity[1], mode | 0o300, mode)
        record.widened = (mode, stage, note)
        self.platform.change_mode(target, mode | 0o300)

    def _narrow(self, record: Record) -> None:
        """Give a widened directory its permission bits back."""
        if record.widened is None:
            return
        mode, stage, note = record.widened
        try:
            handle = self.target.seek(record.node)
            facts = self.platform.facts(handle)
            if (facts.device, facts.inode) == record.identity:
                self.platform.change_mode(handle, mode)
        except (Failed, Lost):  # gone, or refused: the note stays for the next run
            return
        record.widened = None
        stage.forget(note)

    def _restage(self, record: Record, target: int) -> None:
        """Go on with a stage inside the directory that the old one cannot reach."""
        self._open_stage(target, record.node)

    def _commit(self, record: Record, change: Change, target: int) -> bool:
        """Give a staged entry its final name; False if it is a directory that exists by now."""
        platform, stage, name = self.platform, change.stage, change.name
        path = record.node.join(name)
        record.changes.append(change)  # before it is done: undo looks before it takes away
        for _ in range(_PATIENCE):
            try:
                place = platform.place_emulated if stage.emulate_place else platform.place
                place(stage.handle, change.number, target, name)
                return True
            except Failed as failed:
                step = self.choices.step(failed, path)
                if step is Step.EMULATE and not stage.emulate_place:
                    stage.emulate_place = True
                elif step is Step.RETRY:
                    if record.node.parent is not None and not record.node.root:
                        # Somebody's undo removed the directory that we have open.
                        raise _Gone(record.node) from failed
                elif step is Step.RESTAGE and stage.node is not record.node:
                    record.changes.pop()
                    remove_staged(platform, stage.handle, change.number)
                    self._discard(stage, change.number)
                    raise _OtherMount from failed
                elif step is not Step.REPLACE:
                    raise link_error(self.platform, failed, path) from failed.error
                else:
                    try:
                        done = self._replace(change, target, path)
                    except Failed as refused:
                        raise link_error(self.platform, refused, path) from refused.error
                    if done is not None:
                        if not done:
                            record.changes.pop()
                        return done
        raise LinkError(
            f"{path} changes again and again",
            why="another program creates and removes it while it is linked",
            path=path,
            condition=Condition.BUSY,
        )

    def _replace(self, change: Change, target: int, path: str) -> bool | None:
        """Swap a staged entry with the one that has its name.

        True if that is done, False if both are directories, None if the name was free again.
        """
        platform, stage = self.platform, change.stage
        there = platform.look(target, change.name)
        if there is None:
            return None
        ours = Kind.FILE if change.node is None else Kind.DIRECTORY
        self._refuse_conflict(path, ours, there.kind)
        if ours is Kind.DIRECTORY:
            return False
        try:
            swap = platform.exchange_emulated if stage.emulate_exchange else platform.exchange
            swap(stage.handle, change.number, target, change.name)
        except Failed as failed:
            step = self.choices.step(failed, path)
            if step is Step.EMULATE and not stage.emulate_exchange:
                stage.emulate_exchange = True
                return None
            if step is Step.RETRY:
                return None
            raise
        landed = platform.look(stage.handle, change.number)
        if landed is not None and landed.kind is Kind.DIRECTORY:
            platform.exchange(stage.handle, change.number, target, change.name)
            self._refuse_conflict(path, ours, landed.kind)
        self.replaced += 1
        return True

    def _discard(self, stage: Stage, number: str) -> None:
        try:
            self.platform.remove_file(stage.handle, number)
        except Failed:  # it is removed with the stage
            return

    # Making.

    def _stage_empty(self, node: Node, stage: Stage, number: str) -> Counter[LinkMode | Kind]:
        """Stage a directory alone, for policies that fill directories where they are."""
        trail = Trail(self.platform, stage.handle)
        try:
            handle = trail.make(number, node.mode & 0o777 | 0o700)
            facts = self.platform.facts(handle)
            node.inode = facts.inode
            self.platform.stamp_directory(handle, facts.mode, node)
        except Failed as failed:
            raise link_error(self.platform, failed, node.path) from failed.error
        finally:
            trail.reset()
        return Counter({Kind.DIRECTORY: 1})

    def _stage_tree(self, top: Node, stage: Stage, number: str) -> Counter[LinkMode | Kind]:
        """Make a directory with all that belongs into it, under a number in the stage."""
        platform = self.platform
        trail = Trail(platform, stage.handle)
        counts: Counter[LinkMode | Kind] = Counter()
        node = top
        modes: list[int] = []
        try:
            for node, entering in walk(top):
                if entering:
                    name = number if node is top else node.name
                    handle = trail.make(name, node.mode & 0o777 | 0o700)
                    facts = platform.facts(handle)
                    node.inode = facts.inode
                    modes.append(facts.mode)
                    if node.files or node.symlinks:
                        self._fill(node, self.source.seek(node), stage, handle, counts)
                        if self.progress is not None:
                            self._advance(len(node.files))
                else:
                    platform.stamp_directory(trail.handle, modes.pop(), node)
                    trail.leave()
                    counts[Kind.DIRECTORY] += 1
        except Failed as failed:
            raise link_error(self.platform, failed, node.path) from failed.error
        except Lost as lost:
            raise link_error(self.platform, lost.failed, lost.node.path) from lost.failed.error
        finally:
            trail.reset()
        return counts

    def _fill(
        self,
        node: Node,
        source: int,
        stage: Stage,
        directory: int,
        counts: Counter[LinkMode | Kind],
    ) -> None:
        """Make the files and symlinks of one directory. The loop that a large tree is spent in:
        what goes well goes through it without a call of ours but the platform's.
        """
        pair = self.choices.pair(node.device, stage.name)
        mode = pair.mode
        call = self._primitive(mode, node)
        inodes, shared, is_mutable = node.inodes, node.shared, self.is_mutable
        inodes.clear()
        shared.clear()
        straight = 0
        private = set()
        for name in node.files:
            if is_mutable is None or not is_mutable(node, name):
                try:
                    inodes[name] = call(source, name, directory, name)
                    straight += 1
                    continue
                except Failed as failed:
                    first: Failed | None = failed
                    if straight:
                        pair.worked.add(mode)
            else:
                first = None
            ended, inodes[name] = self._make(node, name, source, stage, directory, name, first)
            counts[ended] += 1
            if ended is not LinkMode.HARDLINK:
                private.add(name)
            if pair.mode is not mode:  # the mode was retired: what is left goes the next way
                counts[mode] += straight
                straight = 0
                mode = pair.mode
                call = self._primitive(mode, node)
        if straight:
            pair.worked.add(mode)
            counts[mode] += straight
        if mode is LinkMode.HARDLINK:
            shared.update(name for name in inodes if name not in private)
        for name in node.symlinks:
            inodes[name] = self._make_symlink(node, name, source, directory, name)
            counts[Kind.SYMLINK] += 1

    def _make_symlink(self, node: Node, name: str, source: int, directory: int, new: str) -> int:
        try:
            return self.platform.recreate_symlink(source, name, directory, new)
        except Failed as failed:
            raise link_error(self.platform, failed, node.join(name)) from failed.error

    def _primitive(self, mode: LinkMode, node: Node) -> Callable[[int, str, int, str], int]:
        """Return the platform's primitive for a mode, all with one signature."""
        platform = self.platform
        if mode is LinkMode.CLONE:
            return platform.clone_file
        if mode is LinkMode.HARDLINK:
            return platform.hardlink
        if mode is LinkMode.COPY:
            return platform.copy_file
        names = []
        above: Node | None = node
        while above is not None and above.depth > self.source_depth:
            names.append(above.name)
            above = above.parent
        prefix = self.symlink_base + "".join(f"{name}/" for name in reversed(names))
        return lambda _source, name, target, new: platform.symlink(prefix + name, target, new)

    def _make(
        self,
        node: Node,
        name: str,
        source: int,
        stage: Stage,
        directory: int,
        new: str,
        failed: Failed | None = None,
    ) -> tuple[LinkMode, int]:
        """Make one file by whatever way the policy finds; return the mode it ended in.

        `failed` is how the pair's current mode has failed on it already, if it was tried.
        """
        pair = self.choices.pair(node.device, stage.name)
        mode = pair.mode
        if failed is None and self.is_mutable is not None and self.is_mutable(node, name):
            mode = LinkMode.COPY
        attempts = 0
        while True:
            if failed is None:
                try:
                    inode = self._primitive(mode, node)(source, name, directory, new)
                except Failed as refused:
                    failed = refused
                else:
                    pair.worked.add(mode)
                    return mode, inode
            following = self.choices.following(
                pair, mode, failed, attempts, node.join(name), source, name
            )
            attempts = attempts + 1 if following is mode else 0
            mode, failed = following, None

    def _advance(self, files: int) -> None:
        if self.progress is not None:
            self.done += files
            self.progress(min(self.done, self.total), self.total)


def stage_path(node: Node, stage: Stage) -> tuple[str, ...]:
    """Return the names that lead from the directory in which a stage lies down to `node`."""
    names = []
    while node is not stage.node:
        names.append(node.name)
        assert node.parent is not None  # the stage lies above
        node = node.parent
    return tuple(reversed(names))


def _run(
    mode: LinkMode | str,
    policy: Policy,
    existing: Existing,
    mutable: Sequence[str],
    platform: Platform | None,
    observer: Observer | None,
    progress: Progress | None,
    *,
    strict: bool,
) -> _Run:
    listening = observers()
    return _Run(
        mode=parse_mode(mode),
        policy=policy,
        existing=existing,
        mutable=mutable,
        strict=strict,
        platform=platform or current(),
        watchers=listening if observer is None else (*listening, observer),
        progress=progress,
    )


def link_tree(
    source: StrPath,
    target: StrPath,
    *,
    mode: LinkMode | str = LinkMode.CLONE,
    policy: Policy = REFERENCE,
    existing: Existing = Existing.MERGE,
    mutable: Sequence[str] = (),
    strict: bool = False,
    platform: Platform | None = None,
    observer: Observer | None = None,
    progress: Progress | None = None,
) -> LinkReport:
    """Link the whole tree below the directory `source` into the directory `target`.

    The target, and directories above it, are made if they are missing. `mutable` are globs of
    files that are always copied: one without a slash is held against names, one with a slash
    against paths relative to the source. `strict` raises where the policy would fall back.
    `observer` is told of every edge taken, `progress` is called with (files done, files in all)
    once a directory.

    Raises `LinkError`; the target is then as it was before, but for what `LinkError.left` names.
    """
    run = _run(mode, policy, existing, mutable, platform, observer, progress, strict=strict)
    return run.tree(text_of(source), text_of(target))


def link_file(
    source: StrPath,
    target: StrPath,
    *,
    mode: LinkMode | str = LinkMode.CLONE,
    policy: Policy = REFERENCE,
    existing: Existing = Existing.MERGE,
    strict: bool = False,
    platform: Platform | None = None,
    observer: Observer | None = None,
) -> LinkReport:
    """Link the one file (or recreate the one symlink) `source` under the name `target`.

    As `link_tree`, with the same promises: the name shows the old file or the whole new one.
    """
    run = _run(mode, policy, existing, (), platform, observer, None, strict=strict)
    return run.file(text_of(source), text_of(target))
