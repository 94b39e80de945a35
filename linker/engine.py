"""Walks a tree, asks the policy, calls the platform, keeps the journal.

The source is scanned whole and held against the target before anything is written. Directories
that the target lacks are made in a stage and given their name by one rename; directories that it
has are merged, entry by entry. Every failure goes to the policy as (platform, mode, primitive,
condition), and what it answers is all that this module ever does about it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Final

from linker.choices import Choices
from linker.conditions import Condition, Primitive
from linker.failures import condition, link_error
from linker.inputs import check_file, check_roots, mutable_matcher, parse_mode
from linker.journal import (
    RESERVED,
    STAGE,
    Change,
    Record,
    Stage,
    Undo,
    open_stage,
    recover,
    remove_tree,
)
from linker.making import Maker, Tally
from linker.modes import Existing, LinkMode
from linker.platforms import current
from linker.platforms.base import Failed, Kind, Listing, Platform
from linker.policies import REFERENCE
from linker.policy import Policy, Step
from linker.report import LinkError, LinkReport, Observer, observers
from linker.sources import DirectorySource, Source, absolute_prefix, survey
from linker.tree import (
    Lost,
    Node,
    StrPath,
    Trail,
    absolute,
    text_of,
)

Progress = Callable[[int, int], None]
"""Called as progress(files done, files in all), once a directory."""

_PATIENCE: Final = 64
"""How often one name may change under us before that is an error of its own."""


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
        self.tallies: dict[Node, Tally] = {}
        self.handles: list[int] = []
        self.made_parents: list[str] = []
        self.new_name: str | None = None
        self.total = 0
        self.done = 0
        self.company = False
        self.symlink_base = ""
        self.root: int | None = None
        self.target_vanished = False
        self.folding: list[tuple[Node, str, str]] = []

    # From paths to two open directories and a scanned tree.

    def tree(self, source: Source, target: str) -> LinkReport:
        """Link the whole of `source` into `target`."""
        real = check_roots(source.root, target)
        self.symlink_base = absolute_prefix(source.root)
        top = Node("", None)
        container, base = real, top
        above, name = os.path.split(real)
        try:
            source_root = self._open(source.root)
            if os.path.isdir(real):  # first: it may give the root its permission bits back
                self._recover_beside(above)
            if not (os.path.isdir(real) and os.access(real, os.W_OK | os.X_OK)):
                # the root itself is staged beside its place, or needs write permission first
                container, base = above, Node("", None)
                top.name, top.parent, top.depth = name, base, 1
                base.directories = [top]
            way, self.total, self.folding = survey(
                source, self.platform, source_root, top, RESERVED
            )
            self._make_parents(container)
            return self._link(way, container, base)
        except BaseException as error:
            self._remove_parents()
            if isinstance(error, LinkError) and error.condition is Condition.MISSING:
                self.target_vanished = base is top and not self._still_there(container)
            raise
        finally:
            self._close()

    def _still_there(self, path: str) -> bool:
        """Return whether a directory is there, and the one that we opened if we did."""
        try:
            seen = os.stat(path)
            if self.root is None:
                return True
            facts = self.platform.facts(self.root)
        except (OSError, Failed):
            return False
        return (seen.st_dev, seen.st_ino) == (facts.device, facts.inode)

    def _recover_beside(self, directory: str) -> None:
        """Remove what a run that was killed at its very end left beside the target."""
        try:
            handle = self.platform.open_root(directory)
        except Failed:  # not ours to read: nothing of ours there
            return
        try:
            for name in self.platform.entries(handle).directories:
                if name.startswith(STAGE):
                    recover(self.platform, handle, name)
        except Failed:
            return
        finally:
            self.platform.close(handle)

    def file(self, source: str, target: str) -> LinkReport:
        """Link the one file `source` to the name `target`."""
        seen = check_file(source, target)
        directory, name = os.path.split(absolute(source))
        self.symlink_base = absolute_prefix(directory)
        container, self.new_name = os.path.split(absolute(target))
        try:
            base = Node("", None)
            if seen is Kind.SYMLINK:
                base.symlinks = [name]
            else:
                base.files = [name]
            source_root = self._open(directory)
            base.device = self.platform.facts(source_root).device
            self.total = len(base.files)
            self._make_parents(container)
            way = Trail(self.platform, source_root, base, Primitive.READ)
            return self._link(way, os.path.realpath(container), base)
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

    def _close(self) -> None:
        for stage in self.stages:
            stage.close()
        for handle in self.handles:
            self.platform.close(handle)
        self.stages.clear()
        self.handles.clear()

    # The whole of it.

    def _link(self, way: Trail, container: str, base: Node) -> LinkReport:
        platform = self.platform
        self.root = root = self._open(container)
        self.source, self.base = way, base
        self.maker = Maker(
            platform,
            self.choices,
            way,
            self.symlink_base,
            self.is_mutable,
            self._advance if self.progress is not None else None,
        )
        self.target = Trail(platform, root, base)
        try:
            self._hold_against_target()
            stage = self._open_stage(root, base)
            if self.mode is LinkMode.HARDLINK:
                self._look_for_company(stage, root)
            self._merge_all(base)
            self.choices.tell_suspects()
        except BaseException as error:
            left = self._undo(root, base)
            if isinstance(error, LinkError):
                error.left = tuple(dict.fromkeys((*error.left, *left)))
            raise
        finally:
            self.source.reset()
            self.target.reset()
        return self._finish()

    def _finish(self) -> LinkReport:
        leftovers = self._clean()
        total = Tally()
        for tally in self.tallies.values():
            total.add(tally)
        report = LinkReport(
            requested=self.mode,
            counts={mode: total.modes[mode] for mode in LinkMode if total.modes[mode]},
            transitions=tuple(self.choices.transitions),
            policy=self.policy.name,
            directories=total.directories,
            symlinks=total.symlinks,
            replaced=total.replaced,
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
            company = self.company or any(stage.was_marked() for stage in self.stages)
            undo = Undo(self.platform, root, base, self._source_inode, company=company)
            left = undo.run(self.records)
            self.source.reset()
        return left + self._clean()

    def _source_inode(self, node: Node, name: str) -> int | None:
        """Return the inode number of a file of the source, None if it cannot be told."""
        if self.new_name is not None:
            name = node.files[0]
        try:
            seen = self.platform.look(self.source.seek(node), node.stored_name(name))
        except (Failed, Lost):
            return None
        return seen.inode if seen is not None else None

    def _clean(self) -> list[str]:
        """Give widened directories their permission bits back and remove the stages.

        Return what remains, as paths relative to the target.
        """
        self.source.reset()
        self.target.reset()
        left: list[str] = []
        for stage in self.stages[:0:-1]:  # those inside directories while these are writable
            left += self._beside(stage.node, stage.remove())
        shut = [r.node for r in self.records if not (self._narrow(r) or self._narrow(r, last=True))]
        self.target.reset()
        left += [node.path or "." for node in shut]
        if self.stages:
            first = self.stages[0]  # it has the notes of what the next run must give back
            left += self._beside(first.node, [first.name] if shut else first.remove())
        return left

    def _beside(self, node: Node | None, names: Sequence[str]) -> tuple[str, ...]:
        """Return names in the directory of a stage as paths relative to the target."""
        if node is None or (node is self.base and self.source_depth > 0):
            return tuple(f"../{name}" for name in names)
        return tuple(node.join(name) for name in names)

    # Before anything is written.

    def _hold_against_target(self) -> None:
        """Find what is there already, and refuse what cannot be merged."""
        stack = [self.base]
        while stack:
            node = stack.pop()
            try:
                handle = self.target.seek(node)
                there = self.platform.entries_once(handle)
            except Lost as lost:
                gone = lost.node
                if condition(self.platform, lost.failed) is not Condition.MISSING or gone.root:
                    failed = lost.failed
                    raise link_error(self.platform, failed, gone.path) from failed.error
                gone.present = False  # by the undo of the one who had made it
                stack = [other for other in stack if not other.below(gone)]
                continue
            except Failed as failed:
                raise link_error(self.platform, failed, node.path or "the target") from failed.error
            for name in there.directories:
                if name.startswith(STAGE):
                    recover(self.platform, handle, name)
            stack += self._compare(node, there)

    def _compare(self, node: Node, there: Listing) -> list[Node]:
        """Hold one directory of the source against the one that is there.

        Note in the nodes what is taken and present; return the directories that are in both.
        """
        directories = set(there.directories)
        both = []
        for child in node.directories:
            child.present = child.name in directories
            if child.present:
                both.append(child)
        if not (directories or there.files or there.symlinks or there.others):
            return both
        kinds = there.kinds()
        names = {self.new_name} if self.new_name else {*node.files, *node.symlinks}
        node.taken = names & kinds.keys()
        if self.existing is Existing.FAIL or not node.taken.isdisjoint(directories):
            for name in sorted(node.taken):
                self._refuse_conflict(node.join(name), Kind.FILE, kinds[name])
        for child in node.directories:
            if child.name in kinds and not child.root:
                self._refuse_conflict(node.join(child.name), Kind.DIRECTORY, kinds[child.name])
        return both

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
            error = link_error(self.platform, failed, node.path or "the target")
            error.left = self._beside(node, failed.left)
            raise error from failed.error
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
            names = self.platform.entries(root).directories
        except Failed as failed:
            raise link_error(self.platform, failed, "the target") from failed.error
        others = [name for name in names if name.startswith(STAGE) and name != stage.name]
        self.company = self.company or bool(others)
        stage.mark(others)

    def _meet_in_target(self, node: Node, target: int) -> None:
        """Have a stage in the target itself, where those look who came when it was there."""
        if node not in self.stage_of:
            self._look_for_company(self._open_stage(target, node), target)

    def _refuse_folding(self, stage: Stage) -> None:
        """Raise if two names of the source would be one in this stage."""
        for node, first, second in self.folding:
            number = stage.number()
            trail = Trail(self.platform, stage.handle)
            try:
                handle = trail.make(number)
                if not self.platform.is_writable(handle):  # an odd umask
                    self.platform.change_mode(handle, 0o700)
                trail.make(first)
                trail.leave()
                folds = self.platform.look(trail.handle, second) is not None
            except Failed as failed:
                raise link_error(self.platform, failed, node.join(first)) from failed.error
            finally:
                trail.reset()
            remove_tree(self.platform, stage.handle, number)
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
        if node.root and node is not self.base and self.mode is LinkMode.HARDLINK:
            self._meet_in_target(node, target)
        self._stage_for(node, target)
        return source, target, record

    def _merge(self, node: Node) -> list[Node]:
        """Place everything that belongs into a directory that exists.

        Return the directories below that exist as well, to be merged in their turn.
        """
        if not (node.files or node.symlinks) and all(child.present for child in node.directories):
            if not node.directories:
                self._claim(node)
            return list(node.directories)
        source, target, record = self._begin(node)
        tally = self._place_entries(record, source, target)
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
        platform = self.platform
        _, target = self._seek(node)
        try:
            platform.touch(target)
            inode = platform.facts(target).inode
        except Failed:  # another user's, who was here before any linker of this one
            return
        if node is self.base:
            return
        assert node.parent is not None  # only the base has none
        _, above = self._seek(node.parent)
        try:
            there = platform.look(above, node.name)
        except Failed as failed:
            raise link_error(platform, failed, node.path) from failed.error
        if there is None or there.inode != inode:  # the undo was faster
            raise _Gone(node)

    def _place_entries(self, record: Record, source: int, target: int) -> Tally:
        """Make and place the files and symlinks of a directory that exists."""
        node, tally, final = record.node, Tally(), self.new_name
        files = self.maker.place(record, source, target, self.stage_of[node], final, tally)
        names = (*files, *node.symlinks)
        while names:
            stage, staged = self.stage_of[node], Tally()
            numbers = [stage.number() for _ in names]
            self.maker.fill(node, source, stage, stage.handle, staged, numbers, files)
            inodes, made = node.inodes, self._time(stage, ".")
            try:
                for name, number in zip(names, numbers, strict=True):
                    change = Change(final or name, stage, number, inodes[name], None, made)
                    try:
                        self._commit(record, change, target, staged)
                    except _Unplaceable as refused:
                        again = self._make_again(refused.mode, node, name, source, change, staged)
                        self._commit(record, again, target, staged)
            except _OtherMount:
                self._open_stage(target, node)
                continue
            tally.add(staged)
            break
        if self.progress is not None:
            self._advance(len(node.files))
        return tally

    def _time(self, stage: Stage, name: str) -> int:
        """Return the filesystem's time of the last change of a directory in a stage."""
        try:
            seen = self.platform.look(stage.handle, name)
        except Failed as failed:
            raise link_error(self.platform, failed, "the stage") from failed.error
        return seen.changed_ns if seen is not None else 0

    def _place_again(self, node: Node) -> list[Node]:
        """Place a directory that was there and is gone."""
        assert node.parent is not None  # the root is never placed
        node.present = False
        for tallied in [other for other in self.tallies if other.below(node)]:
            del self.tallies[tallied]
        for staged in [other for other in self.stage_of if other.below(node)]:
            del self.stage_of[staged]
        _, target, record = self._begin(node.parent)
        return [] if self._place_directory(record, node, target) else [node]

    def _place_directory(self, record: Record, node: Node, target: int) -> bool:
        """Stage a directory whole and place it; False if it is still to be merged."""
        while True:
            stage = self.stage_of[record.node]
            number = stage.number()
            make = self.maker.tree if self.policy.undo else self.maker.empty
            tally = make(node, stage, number)
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
                    return self.policy.undo
            except _OtherMount:
                remove_tree(self.platform, stage.handle, number)
                self._open_stage(target, record.node)
                continue
            except Failed as failed:
                raise link_error(self.platform, failed, node.path) from failed.error
            finally:
                if owed is not None:
                    self.platform.close(owed[0])
            if owed is not None:
                stage.forget(owed[1])
            remove_tree(self.platform, stage.handle, number)
            return False

    def _owe_mode(self, node: Node, stage: Stage, number: str) -> tuple[int, str]:
        """Make a directory writable while it gets its name, and note what it shall be.

        Return a handle of it and the note's name.

        Renaming a directory to another parent writes its "..": an ordinary user needs write
        permission on it. The note is for the next run, should this one be killed in between.
        """
        platform = self.platform
        handle = platform.open_below(stage.handle, number)
        try:
            mode = platform.facts(handle).mode
            record = stage.pending(stage_path(node, stage), node.inode, mode | 0o300, mode)
            platform.change_mode(handle, mode | 0o300)
        except BaseException:
            platform.close(handle)
            raise
        return handle, record

    def _pay_mode(self, node: Node, stage: Stage, handle: int, owed: str) -> None:
        """Give a placed directory its final permission bits."""
        facts = self.platform.facts(handle)
        self.platform.change_mode(handle, facts.mode & ~0o300 | node.mode & 0o300)
        stage.forget(owed)

    def _widen(self, record: Record, target: int, mode: int) -> None:
        """Let ourselves write into a read-only directory of ours, for as long as it takes."""
        stage = self.stages[0]
        path = stage_path(record.node, stage)
        note = stage.pending(path, record.identity[1], mode | 0o300, mode)
        record.widened = (mode, stage, note)
        try:
            self.platform.change_mode(target, mode | 0o300)
        except Failed:  # another's directory, or a read-only mount: nothing was changed
            record.widened = None
            stage.forget(note)
            raise

    def _narrow(self, record: Record, *, last: bool = False) -> bool:
        """Give a widened directory its permission bits back; return whether nothing is owed."""
        if record.widened is None:
            return True
        mode, stage, note = record.widened
        try:
            handle = self.target.seek(record.node)
            facts = self.platform.facts(handle)
            if (facts.device, facts.inode) == record.identity:
                self.platform.change_mode(handle, mode)
        except Lost as lost:
            if not last or condition(self.platform, lost.failed) is not Condition.MISSING:
                return False
        except Failed:
            return False
        record.widened = None
        stage.forget(note)
        return True

    def _commit(self, record: Record, change: Change, target: int, tally: Tally) -> bool:
        """Give a staged entry its final name; False if it is a directory that exists by now."""
        platform, stage, node, name = self.platform, change.stage, record.node, change.name
        record.changes.append(change)  # before it is done: undo looks before it takes away
        replacing = name in node.taken and self.choices.replaces(node, name)
        for _ in range(_PATIENCE):
            try:
                if not replacing:
                    place = platform.place_emulated if stage.emulate_place else platform.place
                    place(stage.handle, change.number, target, name)
                    return True
                done = self._replace(change, target, node)
            except Failed as failed:
                path = node.join(name)
                step = self.choices.step(failed, path)
                replacing = step is Step.REPLACE
                if step is Step.EMULATE:
                    if failed.primitive is Primitive.EXCHANGE:
                        stage.emulate_exchange = replacing = True
                    else:
                        stage.emulate_place = True
                elif step is Step.RETRY:
                    if failed.primitive is Primitive.RENAME and not (
                        node.root or node is self.base
                    ):
                        # Somebody's undo removed the directory that we have open.
                        raise _Gone(node) from failed
                elif step is Step.RESTAGE and stage.node is not node:
                    record.changes.pop()
                    raise _OtherMount from failed
                elif isinstance(step, LinkMode) and not (self.choices.strict or change.node):
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
            why="another program creates and removes it while it is linked",
            path=node.join(name),
            condition=Condition.BUSY,
        )

    def _make_again(
        self, mode: LinkMode, node: Node, name: str, source: int, old: Change, tally: Tally
    ) -> Change:
        """Stage a file in another mode than the one in which it could not be placed."""
        stage, number = old.stage, old.stage.number()
        try:
            self.platform.remove_file(stage.handle, old.number)
            inode = self.maker.primitive(mode, node)(source, name, stage.handle, number)
        except Failed as failed:
            raise link_error(self.platform, failed, node.join(name)) from failed.error
        tally.modes[LinkMode.HARDLINK] -= 1  # no other file has a link too many
        tally.modes[mode] += 1
        return Change(old.name, stage, number, inode, None, self._time(stage, "."))

    def _replace(self, change: Change, target: int, node: Node) -> bool:
        """Swap a staged entry with the one that has its name; False if both are directories."""
        platform, stage, name = self.platform, change.stage, change.name
        if change.node is not None or self.existing is Existing.FAIL:
            there = platform.look(target, name)
            if there is not None:
                ours = Kind.FILE if change.node is None else Kind.DIRECTORY
                self._refuse_conflict(node.join(name), ours, there.kind)
                return False
            vanished = OSError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            raise Failed(Primitive.EXCHANGE, vanished)
        swap = platform.exchange_emulated if stage.emulate_exchange else platform.exchange
        swap(stage.handle, change.number, target, name)
        landed = platform.look(stage.handle, change.number)
        if landed is not None and landed.kind is Kind.DIRECTORY:
            platform.exchange(stage.handle, change.number, target, name)
            self._refuse_conflict(node.join(name), Kind.FILE, landed.kind)
        return True

    def _advance(self, files: int) -> None:
        assert self.progress is not None  # asked for only where there is one
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


def _tree(begin: Callable[[], _Run], source: Source, target: str) -> LinkReport:
    """Link a tree, once more from the beginning if the target itself was taken away meanwhile: by
    the undo of another linker, which had made it.
    """
    for _ in range(_PATIENCE):
        run = begin()
        try:
            return run.tree(source, target)
        except LinkError:
            if not run.target_vanished:
                raise
    return begin().tree(source, target)


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

    def begin() -> _Run:
        return _run(mode, policy, existing, mutable, platform, observer, progress, strict=strict)

    return _tree(begin, DirectorySource(text_of(source)), text_of(target))


def link_source(
    source: Source,
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
    """Link a tree that is no directory, such as what a manifest names in a store.

    As `link_tree`, with the same promises.
    """

    def begin() -> _Run:
        return _run(mode, policy, existing, mutable, platform, observer, progress, strict=strict)

    return _tree(begin, source, text_of(target))


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
