"""Links one tree or file from its scan to its report, and undoes it if it fails.

The source is scanned whole and held against the target before anything is written. Directories
that the target lacks are made in a stage and given their name by one rename; directories that it
has are merged, entry by entry. Every failure goes to the policy as (platform, mode, primitive,
condition), and what it answers is all that is ever done about it.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from linker.choices import Choices, StartAgain
from linker.cloning import clone_for
from linker.conditions import Condition, Primitive
from linker.failures import condition, insist, link_error, name_left
from linker.inputs import (
    check_file,
    check_policy,
    check_roots,
    mutable_matcher,
    parse_existing,
    parse_mode,
    parse_processes,
)
from linker.journal import RESERVED, STAGE, Undo, recover
from linker.making import Maker, Tally
from linker.merging import PATIENCE, Merger, refuse_conflict
from linker.modes import Existing, LinkMode
from linker.platforms import current
from linker.platforms.base import Failed, Kind, Listing, Platform
from linker.policies import REFERENCE
from linker.policy import Policy, Promise
from linker.report import LinkError, LinkReport, Observer, observers
from linker.sources import DirectorySource, Source, absolute_prefix, survey
from linker.staging import Stages
from linker.tree import LEAST, Lost, Node, StrPath, Trail, absolute, text_of

Progress = Callable[[int, int], None]
"""Called as progress(files done, files in all), once a directory."""


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
        before: Choices | None = None,
        processes: int = 1,
    ) -> None:
        self.mode = mode
        self.policy = policy
        self.existing = existing
        self.is_mutable = mutable_matcher(mutable)
        self.platform = platform
        self.watchers = watchers
        self.progress = progress
        self.processes = processes
        self.choices = Choices(policy, platform, mode, watchers, strict=strict, before=before)
        self.stages: Stages | None = None
        self.handles: list[int] = []
        self.made_parents: list[str] = []
        self.new_name: str | None = None
        self.total = 0
        self.done = 0
        self.symlink_base = ""
        self.root: int | None = None
        self.target_vanished = False
        self.is_linked = False
        self.crew = 1
        self.undone: list[str] | None = None
        self.locked: list[tuple[Node, str]] = []
        """Stages that somebody held: another linker, or the helpers of one that was just killed."""
        self.folding: list[tuple[Node, str, str]] = []

    # From paths to two open directories and a scanned tree.

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Say of an error that nothing was undone because of it."""
        try:
            yield
        except BaseException as error:
            if self.is_linked:
                error.add_note("it came when all was linked, which stays")
            raise

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
            self._leave(error)
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
            self._leave(error)
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
            self.made_parents.append(path)  # first: an interrupt may come right after the call
            try:
                os.mkdir(path)
            except OSError as error:
                self.made_parents.pop()
                if not isinstance(error, FileExistsError):
                    raise link_error(self.platform, Failed(Primitive.MKDIR, error), path) from error

    def _leave(self, error: BaseException) -> None:
        """Remove the directories above the target after an error; raise what interrupts that."""
        _, interrupt = insist(self._remove_parents)
        if interrupt is not None:
            raise interrupt from error

    def _remove_parents(self) -> None:
        while self.made_parents:
            try:
                os.rmdir(self.made_parents[-1])
            except FileNotFoundError:  # we were interrupted right after that
                self.made_parents.pop()
            except OSError:  # another's by now
                return

    def _close(self) -> None:
        _, interrupt = insist(self._close_handles)
        if interrupt is not None:
            raise interrupt

    def _close_handles(self) -> None:
        if self.stages is not None:
            self.stages.close()
        while self.handles:
            self.platform.close(self.handles.pop())

    # The whole of it.

    def _link(self, way: Trail, container: str, base: Node) -> LinkReport:
        platform = self.platform
        self.root = root = self._open(container)
        self.source, self.base = way, base
        advance = self._advance if self.progress is not None else None
        self.crew = processes = self._processes()
        self.maker = maker = Maker(
            platform,
            self.choices,
            way,
            self.symlink_base,
            self.is_mutable,
            advance,
            processes,
        )
        maker.clone = clone_for(maker, platform, self.choices, way, self.is_mutable)
        self.target = Trail(platform, root, base)
        self.stages = stages = Stages(
            platform, self.choices, base, self.folding, base_is_above=way.base_depth > 0
        )
        self.merger = Merger(
            platform,
            self.choices,
            maker,
            stages,
            way,
            self.target,
            base,
            existing=self.existing,
            new_name=self.new_name,
            advance=advance,
            processes=processes if self.policy.undo else 1,
            take_back=lambda records: self._undoing(root, base, stages).run(records),
        )
        try:
            self._hold_against_target()
            stage = stages.first(root)
            if self.mode is LinkMode.HARDLINK:
                stages.look_for_company(stage, root)
            self.merger.run(base)
            self.choices.tell_suspects()
            if self.choices.skipped is not None:
                raise self.choices.skipped
            self.choices.settle()
            return self._finish(stages)
        except BaseException as error:
            self._give_up(error, self._undoing(root, base, stages), stages)
            raise
        finally:
            self.source.reset()
            self.target.reset()

    def _processes(self) -> int:
        """Return how many processes may make entries: one where more would not be worth it, or
        where the platform does not say that a forked one may go on.
        """
        if self.processes > 1 and self.total >= LEAST:
            return self.processes if getattr(self.platform, "may_fork", False) else 1
        return 1

    def _finish(self, stages: Stages) -> LinkReport:
        self.is_linked = True
        leftovers = self._clean(stages)
        if not self.policy.undo and Promise.DIRECTORY_TIMES not in self.policy.waives:
            self._stamp_directories()
        total = Tally()
        for tally in self.merger.tallies.values():
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

    def _stamp_directories(self) -> None:
        """Give new directories that were filled where they are their times, the innermost first."""
        made = [
            change.node
            for record in self.merger.records
            for change in record.changes
            if change.node is not None
        ]
        try:
            for node in sorted(made, key=lambda node: -node.depth):
                self._stamp_directory(node)
        finally:
            self.target.reset()

    def _stamp_directory(self, node: Node) -> None:
        try:
            handle = self.target.seek(node)
            facts = self.platform.facts(handle)
            self.platform.stamp_directory(handle, facts.mode, node)
        except Lost as lost:
            raise link_error(self.platform, lost.failed, node.path) from lost.failed.error
        except Failed as failed:
            raise link_error(self.platform, failed, node.path) from failed.error

    def _give_up(self, error: BaseException, undo: Undo, stages: Stages) -> None:
        """End a link that raised, and name what is left of it; raise what interrupts that.

        From when the stages are emptied, and what was replaced with them, there is no way back:
        then what was linked stays, and only the stages go.
        """

        def end() -> list[str]:
            return self._clean(stages) if self.is_linked else self._undo(undo, stages)

        left, interrupt = insist(end)
        if left is None:
            left = [*(self.undone or ()), *stages.names()]
        name_left(interrupt or error, tuple(left))
        try:
            self.choices.tell_suspects()
        except BaseException as told:  # by an observer
            name_left(told, tuple(left))
            raise
        if interrupt is not None:
            raise interrupt from error

    def _undo(self, undo: Undo, stages: Stages) -> list[str]:
        """Put the target back as it was, as far as the policy does that; return what is left."""
        self.source.reset()
        self.target.reset()
        if self.undone is None:  # else an interrupt came while the stages were emptied
            records = self.merger.records
            any_changes = self.policy.undo and any(record.changes for record in records)
            self.undone = undo.run(records) if any_changes else []
        return self.undone + self._clean(stages)

    def _undoing(self, root: int, base: Node, stages: Stages) -> Undo:
        """Return who undoes changes."""
        return Undo(
            self.platform,
            root,
            base,
            self._source_inode,
            company=stages.had_company,
            settle=self.maker.settle,
        )

    def _source_inode(self, node: Node, name: str) -> int | None:
        """Return the inode number of a file of the source, None if it cannot be told."""
        if self.new_name is not None:
            name = node.files[0]
        try:
            source = self.source.seek(node)
        except (Failed, Lost):
            return None
        return self.maker.inode_of(source, node.stored_name(name)) or None

    def _clean(self, stages: Stages) -> list[str]:
        """Give widened directories their permission bits back and remove the stages.

        Return what remains, as paths relative to the target.
        """
        self.source.reset()
        self.target.reset()
        left: list[str] = []
        for stage in stages.all[:0:-1]:  # those inside directories while these are writable
            left += stages.beside(stage.node, stage.remove())
        narrow = self.merger.narrow
        # The innermost first: an outer one may shut us out when it has its bits.
        latest = reversed(self.merger.records)
        records = sorted(latest, key=lambda record: -record.node.depth)
        shut = [r.node for r in records if not (narrow(r) or narrow(r, last=True))]
        self.target.reset()
        left += [node.path or "." for node in shut]
        if stages.all:
            first = stages.all[0]  # it has the notes of what the next run must give back
            if self.crew > 1 and not (shut or first.keep):
                from linker import helping

                helping.empty_together(self.platform, first.handle, self.crew)
            left += stages.beside(first.node, [first.name] if shut else first.remove())
        for node, name in self.locked:
            with suppress(Failed, Lost):
                recover(self.platform, self.target.seek(node), name)
        return left

    # Before anything is written.

    def _hold_against_target(self) -> None:
        """Find what is there already, and refuse what cannot be merged."""
        stack = [self.base]
        while stack:
            node = stack.pop()
            try:
                handle = self.merger.seek_target(node)
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
                if name.startswith(STAGE) and not recover(self.platform, handle, name):
                    self.locked.append((node, name))
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
        theirs = {*directories, *there.files, *there.symlinks, *there.others}
        names = {self.new_name} if self.new_name else {*node.files, *node.symlinks}
        node.taken = names & theirs
        refusing = self.existing is Existing.FAIL
        if refusing or not node.taken.isdisjoint(directories):
            kinds = there.kinds()
            for name in sorted(node.taken):
                refuse_conflict(self.existing, node.join(name), Kind.FILE, kinds[name])
        for child in node.directories:
            if child.name in theirs and not child.root and (refusing or not child.present):
                kind = there.kinds()[child.name]
                refuse_conflict(self.existing, node.join(child.name), Kind.DIRECTORY, kind)
        return both

    def _advance(self, files: int) -> None:
        assert self.progress is not None  # asked for only where there is one
        self.done += files
        self.progress(min(self.done, self.total), self.total)


def _run(
    mode: LinkMode | str,
    policy: Policy,
    existing: Existing | str,
    mutable: Sequence[str],
    platform: Platform | None,
    observer: Observer | None,
    progress: Progress | None,
    *,
    strict: bool,
    before: Choices | None = None,
    processes: int = 1,
) -> _Run:
    check_policy(policy)
    listening = observers()
    return _Run(
        mode=parse_mode(mode),
        policy=policy,
        existing=parse_existing(existing),
        mutable=mutable,
        strict=strict,
        platform=platform or current(),
        watchers=listening if observer is None else (*listening, observer),
        progress=progress,
        before=before,
        processes=parse_processes(processes),
    )


_Begin = Callable[[Choices | None], _Run]


def _tree(begin: _Begin, source: Source, target: str) -> LinkReport:
    """Link a tree, once more from the beginning if the policy asks for that, or if the target
    itself was taken away meanwhile: by the undo of another linker, which had made it.

    What is noted of a tree is many small objects and no cycles: looking for those among them again
    and again takes a tenth of the time.
    """
    before: Choices | None = None
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(PATIENCE):
            run = begin(before)
            try:
                with run.telling():
                    return run.tree(source, target)
            except StartAgain:
                before = run.choices
            except LinkError:
                if not run.target_vanished:
                    raise
        run = begin(before)
        with run.telling():
            return run.tree(source, target)
    finally:
        if collecting:
            gc.enable()


def link_tree(
    source: StrPath,
    target: StrPath,
    *,
    mode: LinkMode | str = LinkMode.CLONE,
    policy: Policy = REFERENCE,
    existing: Existing | str = Existing.MERGE,
    mutable: Sequence[str] = (),
    strict: bool = False,
    platform: Platform | None = None,
    observer: Observer | None = None,
    progress: Progress | None = None,
    processes: int = 1,
) -> LinkReport:
    """Link the whole tree below the directory `source` into the directory `target`.

    The target, and directories above it, are made if they are missing. `mutable` are globs of
    files that are always copied: one without a slash is held against names, one with a slash
    against paths relative to the source. `strict` raises where the policy would fall back.
    `observer` is told of every edge taken, `progress` is called with (files done, files in all)
    once a directory. With `processes` above 1 forked helpers make part of a large new directory, or
    of what is merged into many; they need a process without further threads, else there is only
    one. `progress` then hears of what they made when they are done.

    Raises `LinkError`; the target is then as it was before, but for what `LinkError.left` names.
    """

    def begin(before: Choices | None) -> _Run:
        return _run(
            mode,
            policy,
            existing,
            mutable,
            platform,
            observer,
            progress,
            strict=strict,
            before=before,
            processes=processes,
        )

    return _tree(begin, DirectorySource(text_of(source), processes), text_of(target))


def link_source(
    source: Source,
    target: StrPath,
    *,
    mode: LinkMode | str = LinkMode.CLONE,
    policy: Policy = REFERENCE,
    existing: Existing | str = Existing.MERGE,
    mutable: Sequence[str] = (),
    strict: bool = False,
    platform: Platform | None = None,
    observer: Observer | None = None,
    progress: Progress | None = None,
    processes: int = 1,
) -> LinkReport:
    """Link a tree that is no directory, such as what a manifest names in a store.

    As `link_tree`, with the same promises.
    """

    def begin(before: Choices | None) -> _Run:
        return _run(
            mode,
            policy,
            existing,
            mutable,
            platform,
            observer,
            progress,
            strict=strict,
            before=before,
            processes=processes,
        )

    return _tree(begin, source, text_of(target))


def link_file(
    source: StrPath,
    target: StrPath,
    *,
    mode: LinkMode | str = LinkMode.CLONE,
    policy: Policy = REFERENCE,
    existing: Existing | str = Existing.MERGE,
    strict: bool = False,
    platform: Platform | None = None,
    observer: Observer | None = None,
) -> LinkReport:
    """Link the one file (or recreate the one symlink) `source` under the name `target`.

    As `link_tree`, with the same promises: the name shows the old file or the whole new one.
    """
    run = _run(mode, policy, existing, (), platform, observer, None, strict=strict)
    with run.telling():
        return run.file(text_of(source), text_of(target))
