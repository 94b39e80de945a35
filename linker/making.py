"""Makes files, symlinks and whole directories in a stage.

This is where a link of a large tree spends its time: what goes well goes through `Maker.fill`
without a call of ours but the platform's, and what does not is the policy's to choose.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from linker.choices import Choices, LeftOut, Pair
from linker.conditions import Condition
from linker.failures import condition, link_error
from linker.journal import Change, Record, Stage, remove_tree
from linker.light import TYPE_CHECKING, cast
from linker.modes import LinkMode
from linker.platforms.base import Failed, Platform
from linker.tree import Lost, Node, Trail, walk

if TYPE_CHECKING:
    from linker.helping import Division, Forking, Piece

Primitive = Callable[[int, str, int, str], int]
"""Makes one file: (source directory, name, target directory, new name) -> inode number, which is
negative for a hard link.
"""

Direct = Callable[[int, str, int, str, Callable[[int, int], None]], int]
"""Makes one file right under its name, as a primitive; tells (inode number, time) before that."""

_HEAD = len(LinkMode) + 2
"""Numbers of a ticket before those of each directory: files of each mode, symlinks, directories."""


class Tally:
    """How much was made, and in which modes files ended."""

    __slots__ = ("directories", "modes", "replaced", "symlinks")

    def __init__(self, directories: int = 0) -> None:
        self.modes: Counter[LinkMode] = Counter()
        self.symlinks = 0
        self.directories = directories
        self.replaced = 0

    def add(self, other: Tally) -> None:
        """Add what another tally counted."""
        self.modes.update(other.modes)
        self.symlinks += other.symlinks
        self.directories += other.directories
        self.replaced += other.replaced


Clone = Callable[[Node, Stage, int, str, Tally], bool]
"""Makes a directory with all that belongs into it by one call, if it can: (directory of the source,
stage, where, name there, tally) -> whether it did.
"""


class Maker:
    """Makes entries of one source in stages.

    `source` leads to the source's directories; `symlink_base` is what the absolute paths of the
    source begin with; `is_mutable` says which files are always copied; `advance` is told the
    number of files done, once a directory; `processes` is how many may work on a large directory.
    """

    def __init__(
        self,
        platform: Platform,
        choices: Choices,
        source: Trail,
        symlink_base: str,
        is_mutable: Callable[[Node, str], bool] | None,
        advance: Callable[[int], None] | None,
        processes: int,
    ) -> None:
        self._platform = platform
        self._choices = choices
        self._source = source
        self._symlink_base = symlink_base
        self._is_mutable = is_mutable
        self._advance = advance
        self.clone: Clone | None = None
        """What may make a directory by one call."""
        self._processes = processes
        self._primitives: Mapping[LinkMode, Primitive] = {
            LinkMode.CLONE: platform.clone_file,
            LinkMode.HARDLINK: platform.hardlink,
            LinkMode.COPY: platform.copy_file,
        }
        """What makes a file in a mode; what makes a symlink depends on its directory."""
        self._helping = False
        self._untold: list[tuple[Sequence[Piece], list[int], LinkMode]] = []
        """What helpers have told of their tickets and no node has been told yet."""

    def outset(self, node: Node, stage: Stage, number: str) -> tuple[Tally, bool]:
        """Make a directory for policies that fill directories where they are: whole if one call
        can, else empty. Return what was made, and whether that is all of it.
        """
        trail, tally = Trail(self._platform, stage.handle), Tally()
        try:
            if self.clone is not None and self.clone(node, stage, stage.handle, number, tally):
                if self._advance is not None:
                    self._advance(
                        sum(len(below.files) for below, entering in walk(node) if entering)
                    )
                return tally, True
            handle = trail.make(number, node.mode & 0o777 | 0o700)
            facts = self._platform.facts(handle)
            node.inode = facts.inode
            self._platform.stamp_directory(handle, facts.mode, node)
        except Failed as failed:
            raise link_error(self._platform, failed, node.path) from failed.error
        except Lost as lost:
            raise link_error(self._platform, lost.failed, lost.node.path) from lost.failed.error
        finally:
            trail.reset()
        return Tally(directories=1), False

    def tree(self, top: Node, stage: Stage, number: str) -> tuple[Tally, bool]:
        """Make a directory with all that belongs into it, under a number in the stage: whole."""
        tally = Tally()
        if self._processes > 1:
            from linker import helping  # only for large trees, and only where it is asked for

            division = helping.divide(top)
            if division is not None:
                self._together(top, division, stage, number, tally)
                return tally, True
        self._whole(top, stage.handle, number, stage, tally)
        return tally, True

    def _whole(self, top: Node, parent: int, name: str, stage: Stage, tally: Tally) -> None:
        """Make a directory with all that belongs into it, as `name` in an open directory."""
        platform = self._platform
        trail = Trail(platform, parent)
        node = top
        modes: list[int] = []
        clone, cloned = self.clone, None
        try:
            for node, entering in walk(top):
                if cloned is not None:
                    if not entering and self._advance is not None:
                        self._advance(len(node.files))
                    if node is cloned:  # for the second time: what lies in it is behind us
                        cloned = None
                elif entering:
                    own = name if node is top else node.name
                    if clone is not None and clone(node, stage, trail.handle, own, tally):
                        cloned = node
                        continue
                    handle, mode = self._begin(trail, own, node)
                    modes.append(mode)
                    if node.files or node.symlinks:
                        self._fill_own(node, stage, handle, tally)
                else:
                    trail.leave(partial(platform.stamp_directory, seen=modes.pop(), node=node))
                    tally.directories += 1
        except Failed as failed:
            raise link_error(platform, failed, node.path or "the target") from failed.error
        except Lost as lost:
            raise link_error(platform, lost.failed, lost.node.path) from lost.failed.error
        finally:
            trail.reset()

    def _begin(self, trail: Trail, name: str, node: Node) -> tuple[int, int]:
        """Make a directory and go into it; return its handle and its permission bits for now."""
        handle = trail.make(name, node.mode & 0o777 | 0o700, node)
        facts = self._platform.facts(handle)
        node.inode = facts.inode
        mode = facts.mode
        if mode & 0o700 != 0o700:  # an odd umask
            mode |= 0o700
            self._platform.change_mode(handle, mode)
        return handle, mode

    def _fill_own(self, node: Node, stage: Stage, handle: int, tally: Tally) -> None:
        self.fill(node, self._source.seek(node), stage, handle, tally)
        if self._advance is not None:
            self._advance(len(node.files))

    # A large directory, with the help of other processes.

    def _together(
        self, top: Node, division: Division, stage: Stage, number: str, tally: Tally
    ) -> None:
        """Make a directory that is divided: its frame, then what the tickets say, then the times
        and permission bits of the frame.
        """
        platform = self._platform
        trail = Trail(platform, stage.handle)
        node = top
        modes: dict[Node, int] = {}
        try:
            handle, modes[top] = self._begin(trail, number, top)
            inside = Trail(platform, handle, top)
            try:
                for node in division.frame[1:]:
                    assert node.parent is not None  # only the top may have none
                    inside.seek(node.parent)
                    _, modes[node] = self._begin(inside, node.name, node)
                self._deal(division.tickets, stage, inside, tally)
                for node in reversed(division.frame[1:]):
                    inside.seek(node)
                    inside.leave(partial(platform.stamp_directory, seen=modes[node], node=node))
                node = top
                platform.stamp_directory(handle, modes[top], top)
                tally.directories += len(division.frame)
            finally:
                inside.reset()
        except Failed as failed:
            raise link_error(platform, failed, node.path) from failed.error
        except Lost as lost:
            raise link_error(platform, lost.failed, lost.node.path) from lost.failed.error
        finally:
            trail.reset()

    def _deal(
        self, tickets: Sequence[Sequence[Piece]], stage: Stage, inside: Trail, tally: Tally
    ) -> None:
        """Do the work of all tickets, alone or with helpers."""
        from array import array

        from linker.helping import Desk

        pair = self._choices.pair(tickets[0][0].node.device, stage.name)
        first = 0
        # What does not work here is for us to find out: helpers come when the mode has worked.
        while first < len(tickets) and pair.mode not in pair.worked:
            self._work(tickets[first], stage, inside, tally)
            first += 1
        rest = tickets[first:]

        def work(ticket: int, notes: memoryview) -> None:
            notes[:] = memoryview(array("Q", self._help(rest[ticket], stage, inside)))

        try:
            desk = Desk(
                cast("Forking", self._platform),  # it may fork, or there would be one process
                [_HEAD + sum([piece.size for piece in ticket]) for ticket in rest],
            )
        except OSError:  # no descriptors, no memory: then alone
            for ticket in rest:
                self._work(ticket, stage, inside, tally)
            return
        with desk:
            theirs = desk.work_off(
                self._processes - 1, work, lambda own: self._work(rest[own], stage, inside, tally)
            )
            for taken in theirs:
                self._adopt(rest[taken], desk.result(taken), pair, stage, inside, tally)

    def _work(self, ticket: Sequence[Piece], stage: Stage, inside: Trail, tally: Tally) -> None:
        """Make what one ticket says."""
        for piece in ticket:
            node = piece.node
            if piece.whole:
                assert node.parent is not None  # the top is never a piece
                self._whole(node, inside.seek(node.parent), node.name, stage, tally)
            else:
                self._fill_own(node, stage, inside.seek(node), tally)

    def help(self) -> None:
        """Be that of a helper: choose nothing, tell nobody."""
        self._helping, self._advance = True, None

    def _help(self, ticket: Sequence[Piece], stage: Stage, inside: Trail) -> list[int]:
        """Make what one ticket says, as a helper; return what is to be known of it: the files of
        each mode, the symlinks, the directories, and of each of these its inode number and those of
        its entries.
        """
        self.help()
        tally = Tally()
        self._work(ticket, stage, inside, tally)
        found = [*(tally.modes[mode] for mode in LinkMode), tally.symlinks, tally.directories]
        for piece in ticket:
            for node in piece.nodes:
                found.append(node.inode)
                found.extend(map(abs, node.inodes.values()))
        return found

    def _adopt(
        self,
        ticket: Sequence[Piece],
        found: list[int] | None,
        pair: Pair,
        stage: Stage,
        inside: Trail,
        tally: Tally,
    ) -> None:
        """Count what a helper has made as our own; do it ourselves where no helper vouches."""
        if found is None:
            for piece in ticket:
                self._clear(piece, inside)
            self._work(ticket, stage, inside, tally)
            return
        for mode, number in zip(LinkMode, found, strict=False):
            if number:
                tally.modes[mode] += number
                pair.worked.add(mode)
        linked = found[[*LinkMode].index(LinkMode.HARDLINK)] > 0
        mode = LinkMode.HARDLINK if linked else pair.mode
        tally.symlinks += found[_HEAD - 2]
        tally.directories += found[_HEAD - 1]
        self._untold.append((ticket, found, mode))
        if self._advance is not None:
            for piece in ticket:
                for each in piece.nodes:
                    if each.files or each.symlinks:
                        self._advance(len(each.files))

    def settle(self) -> None:
        """Tell the nodes what helpers have made of them, which only an undo wants to know.

        If that is interrupted it can be done once more.
        """
        while self._untold:
            ticket, found, mode = self._untold[-1]
            numbers = iter(found[_HEAD:])
            for piece in ticket:
                for each in piece.nodes:
                    each.inode = next(numbers)
                    made = list(itertools.islice(numbers, len(each.files) + len(each.symlinks)))
                    each.inodes = self.told(each, each.files, made, mode)
            self._untold.pop()

    def told(
        self, node: Node, files: Sequence[str], numbers: Sequence[int], mode: LinkMode
    ) -> dict[str, int]:
        """Return what `Node.inodes` holds of these files, which a helper has made in a mode or, if
        they are mutable, as copies, and of all symlinks.
        """
        mutable = self._is_mutable
        found = dict(zip((*files, *node.symlinks), numbers, strict=True))
        if mode is LinkMode.HARDLINK:
            linked = [name for name in files if mutable is None or not mutable(node, name)]
            found.update((name, -found[name]) for name in linked)
        return found

    def _clear(self, piece: Piece, inside: Trail) -> None:
        """Remove what a helper may have made of a piece. What resists is met once more when it is
        made.
        """
        node = piece.node
        if piece.whole:
            assert node.parent is not None  # the top is never a piece
            remove_tree(self._platform, inside.seek(node.parent), node.name)
            return
        handle = inside.seek(node)
        for name in (*node.files, *node.symlinks):
            try:
                self._platform.remove_file(handle, name)
            except Failed:
                continue

    def fill(
        self,
        node: Node,
        source: int,
        stage: Stage,
        directory: int,
        tally: Tally,
        numbers: Sequence[str] | None = None,
        files: Sequence[str] | None = None,
    ) -> None:
        """Make the files and symlinks of one directory, under their own names or `numbers`.

        `files` are all files of the directory unless given. `Node.inodes` tells afterwards what
        was made, which is all but what the policy leaves out. Raises `LinkError`.
        """
        pair = self._choices.pair(node.device, stage.name)
        mode = pair.mode
        call = self.primitive(mode, node)
        is_mutable = self._is_mutable
        node.inodes = inodes = {}
        straight = 0
        if files is None:
            files = node.files
        for name, new in zip(files, numbers or files, strict=False):
            if is_mutable is None or not is_mutable(node, name):
                try:
                    inodes[name] = call(source, name, directory, new)
                    straight += 1
                    continue
                except Failed as failed:
                    first: Failed | None = failed
                    if straight:
                        pair.worked.add(mode)
            else:
                first = None
            try:
                ended, inodes[name] = self._make(node, name, source, stage, directory, new, first)
            except LeftOut:
                continue
            tally.modes[ended] += 1
            if pair.mode is not mode:  # the mode was retired: what is left goes the next way
                tally.modes[mode] += straight
                straight = 0
                mode = pair.mode
                call = self.primitive(mode, node)
        if straight:
            pair.worked.add(mode)
            tally.modes[mode] += straight
        if node.symlinks:
            self._symlinks(node, source, directory, numbers[len(files) :] if numbers else None)
            tally.symlinks += len(node.symlinks)

    def place(
        self, record: Record, source: int, target: int, stage: Stage, new: str | None, tally: Tally
    ) -> list[str]:
        """Make files of a directory that exists right under their final names.

        Each gets its name, or `new`, by one call that replaces nothing. Return the names of those
        that must go through the stage: because something has the name, or the filesystem or the
        mode offers no such call. Raises `LinkError`.
        """
        node = record.node
        files, rest = node.files, list[str]()
        if not self._platform.places_directly:
            return list(files)
        if node.taken:
            files = [name for name in node.files if (new or name) not in node.taken]
            rest = [name for name in node.files if (new or name) in node.taken]
        pair = self._choices.pair(node.device, stage.name)
        changes, is_mutable = record.changes, self._is_mutable
        final, straight = "", 0

        def placing(inode: int, now: int) -> None:
            changes.append(Change(final, stage, "", inode, None, now))

        mode = pair.mode
        make = self._directly(mode)
        for name in files:
            final, first = new or name, None
            mutable = is_mutable is not None and is_mutable(node, name)
            if make is not None and not mutable:
                try:
                    make(source, node.stored_name(name), target, final, placing)
                    straight += 1
                    continue
                except Failed as failed:
                    first = failed
                    if straight:
                        pair.worked.add(mode)
            begin = LinkMode.COPY if mutable else mode
            try:
                ended = self._place(pair, begin, first, record, stage, name, source, target, final)
            except LeftOut:
                continue
            if ended is None:
                rest.append(name)
            else:
                tally.modes[ended] += 1
            if pair.mode is not mode:
                tally.modes[mode] += straight
                straight = 0
                mode = pair.mode
                make = self._directly(mode)
        if straight:
            pair.worked.add(mode)
            tally.modes[mode] += straight
        return rest

    def _directly(self, mode: LinkMode) -> Direct | None:
        """Return what makes a file right under its name and tells of it just before, if a mode has
        that.
        """
        if mode is LinkMode.CLONE:
            return self._platform.clone_directly
        return self._platform.copy_directly if mode is LinkMode.COPY else None

    def _place(
        self,
        pair: Pair,
        mode: LinkMode,
        failed: Failed | None,
        record: Record,
        stage: Stage,
        name: str,
        source: int,
        target: int,
        new: str,
    ) -> LinkMode | None:
        """Make one file under its final name by whatever way the policy finds; return the mode it
        ended in, None if it must go through the stage. `failed` is how `mode` has failed already.
        """
        node, attempts = record.node, 0
        while mode is not LinkMode.SYMLINK:
            if failed is None:
                try:
                    self._place_one(mode, record, stage, name, source, target, new)
                except Failed as refused:
                    failed = refused
                else:
                    pair.worked.add(mode)
                    return mode
            path = node.join(name)
            if self._choices.otherwise(failed, path):
                return None
            stored = node.stored_name(name)
            following = self._choices.following(pair, mode, failed, attempts, path, source, stored)
            attempts = attempts + 1 if following is mode else 0
            mode, failed = following, None
        return None

    def place_straight(
        self,
        node: Node,
        names: Sequence[str],
        mode: LinkMode,
        source: int,
        target: int,
        placing: Callable[[int, int], None],
    ) -> int:
        """Make files of a directory right under their names, by `mode` or, if they are mutable, by
        copying; return how many by `mode`. Raises `Failed` at the first that cannot be.
        """
        copy, is_mutable, straight = self._platform.copy_directly, self._is_mutable, 0
        usual = self._directly(mode) or copy
        for name in names:
            mutable = is_mutable is not None and is_mutable(node, name)
            make = copy if mutable else usual
            make(source, node.stored_name(name), target, name, placing)
            straight += not mutable
        return straight

    def inode_of(self, source: int, name: str) -> int:
        """Return the inode number of a file of the source, 0 if that cannot be told."""
        try:
            seen = self._platform.look(source, name)
        except Failed:
            return 0
        return seen.inode if seen is not None else 0

    def _place_one(
        self,
        mode: LinkMode,
        record: Record,
        stage: Stage,
        name: str,
        source: int,
        target: int,
        new: str,
    ) -> None:
        """Make one file under its final name, noting the change before it is done."""
        changes, platform = record.changes, self._platform
        stored = record.node.stored_name(name)
        if mode is LinkMode.HARDLINK:
            changes.append(Change(new, stage, "", 0, None, 0))
            try:
                inode = platform.hardlink(source, stored, target, new)
            except Failed as failed:
                unsure = changes.pop()
                if condition(platform, failed) is not Condition.EXISTS:
                    changes.append(unsure._replace(certain=False))
                # else it is another's, be it of the same inode
                raise
            # Somebody may have replaced it before its inode was seen; or the source's file.
            ours = self.inode_of(source, stored)
            changes[-1] = changes[-1]._replace(inode=inode or -ours, certain=inode in (0, -ours))
            return
        make = self._directly(mode)
        assert make is not None  # of the other modes a symlink is never placed
        make(
            source,
            stored,
            target,
            new,
            lambda inode, now: changes.append(Change(new, stage, "", inode, None, now)),
        )

    def _symlinks(
        self, node: Node, source: int, directory: int, numbers: Sequence[str] | None
    ) -> None:
        inodes = dict(node.inodes)
        for name, new in zip(node.symlinks, numbers or node.symlinks, strict=True):
            try:
                inodes[name] = self._platform.recreate_symlink(source, name, directory, new)
            except Failed as failed:
                raise link_error(self._platform, failed, node.join(name)) from failed.error
        node.inodes = inodes

    def primitive(self, mode: LinkMode, node: Node) -> Primitive:
        """Return what makes a file of a directory in a mode."""
        platform, stored, call = self._platform, node.stored, self._primitives.get(mode)
        if call is None:
            base = self._symlink_base
            if stored is None:
                path = node.path_below(self._source.base_depth)
                prefix = f"{base}{path}/" if path else base
                return lambda _source, name, target, new: platform.symlink(
                    prefix + name, target, new
                )
            return lambda _source, name, target, new: platform.symlink(
                base + stored[name], target, new
            )
        if stored is None:
            return call
        return lambda source, name, target, new: call(source, stored[name], target, new)

    def _make(
        self,
        node: Node,
        name: str,
        source: int,
        stage: Stage,
        directory: int,
        new: str,
        failed: Failed | None,
    ) -> tuple[LinkMode, int]:
        """Make one file by whatever way the policy finds; return the mode it ended in.

        `failed` is how the pair's current mode has failed on it already; None for a file that is
        always copied.
        """
        pair = self._choices.pair(node.device, stage.name)
        mode = pair.mode if failed is not None else LinkMode.COPY
        attempts = 0
        while True:
            if failed is None:
                try:
                    inode = self.primitive(mode, node)(source, name, directory, new)
                except Failed as refused:
                    failed = refused
                else:
                    pair.worked.add(mode)
                    return mode, inode
            if self._helping:
                raise failed  # who helps chooses nothing
            following = self._choices.following(
                pair, mode, failed, attempts, node.join(name), source, node.stored_name(name)
            )
            attempts = attempts + 1 if following is mode else 0
            mode, failed = following, None
