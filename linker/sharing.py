"""Merges a large tree together with helpers, who do what needs no choice.

A helper places files under names that nobody had, each noted in shared memory before it gets its
name, and makes in the stage what is to replace something. Everything else is its parent's: what
is replaced, what is read-only, what inherits something else, and whatever did not go well. Where a
helper does not vouch for a directory its parent takes back what was noted, as an undo would, and
begins there anew.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from linker.choices import Pair
from linker.helping import Desk, Forking, Share
from linker.journal import ROOM, Change, Record, Stage
from linker.light import NamedTuple, cast
from linker.making import Maker, Tally
from linker.modes import LinkMode
from linker.platforms.base import Platform
from linker.tree import Node, Trail

_HEAD = 6
"""Numbers of a share before those of its entries: whether it is done, the device and the inode of
the directory, how many files were placed, and staged, in the pair's mode, and the filesystem's
time when all that is staged was there.
"""


class _Place(NamedTuple):
    """Where a share stands: on which ticket, and where its numbers begin and end."""

    share: Share
    ticket: int
    start: int
    end: int


class Done(NamedTuple):
    """What a helper has done for a directory: `placed` is what it gave names, `staged` what waits
    in the stage under `numbers` since `made_ns`, the files of the share and then the symlinks.
    """

    share: Share
    placed: Tally
    staged: Tally
    numbers: list[str]
    made_ns: int


def share_of(node: Node, mode: LinkMode, *, direct: bool, staging: bool) -> Share | None:
    """Return what a helper may do for a directory; None where it would be no help.

    With `direct` files can be placed right under their names, with `staging` others can be staged
    while the parent places some. A hard link takes no longer than giving it its name from the stage
    would.
    """
    files, taken = node.files, node.taken
    if not files and not node.symlinks:
        return None
    if mode is LinkMode.HARDLINK and len(taken) < len(files):
        return None
    if not direct or mode in (LinkMode.HARDLINK, LinkMode.SYMLINK):
        share = Share(node, (), files)
    elif not taken:
        share = Share(node, files, ())
    else:
        free = [name for name in files if name not in taken]
        share = Share(node, free, [name for name in files if name in taken] if free else files)
    return share if staging or not share.staged else None


class Team:
    """The helpers of one merge, and what is on the `tickets`.

    `pair` is what is known of their files and the stage, `source` and `target` are the trails to
    their directories, `sources` are (device, inode) of all of the source. Raises OSError if the
    means cannot be had.
    """

    def __init__(
        self,
        platform: Platform,
        maker: Maker,
        pair: Pair,
        stage: Stage,
        source: Trail,
        target: Trail,
        tickets: Sequence[Sequence[Share]],
        sources: set[tuple[int, int]],
    ) -> None:
        self._platform = platform
        self._maker = maker
        self._pair = pair
        self._mode = pair.mode
        self.stage = stage
        self._source = source
        self._target = target
        self._sources = sources
        self._tickets: list[list[_Place]] = []
        self._places: dict[Node, _Place] = {}
        sizes = []
        for number, shares in enumerate(tickets):
            places, end = [], 0
            for share in shares:
                # A file that gets its name has two numbers, what is staged one.
                start, end = end, end + _HEAD - 1 + share.size + len(share.direct)
                places.append(_Place(share, number, start, end))
            self._tickets.append(places)
            self._places.update((place.share.node, place) for place in places)
            sizes.append(end)
        self._desk = Desk(cast("Forking", platform), sizes)  # it may fork, or there were no team
        self._ours: set[int] = set()
        self._asked = 0
        """Tickets before this one were taken by somebody."""
        self._alone = False

    def hire(self, number: int) -> None:
        """Have so many helpers, or as many as can be had."""
        self._desk.hire_up_to(number, self._help)

    # The parent.

    def leaves(self, node: Node) -> bool:
        """Return whether a directory is the caller's to merge: it is on no ticket, or nobody had
        taken that up to now.
        """
        place = self._places.get(node)
        if place is None:
            return True
        while self._asked <= place.ticket:
            taken = self._desk.take()
            if taken is None:
                self._asked = len(self._tickets)
                break
            self._ours.add(taken)
            self._asked = taken + 1
        return place.ticket in self._ours

    def is_ready(self, node: Node) -> bool:
        """Return whether no helper is at work any more in a directory that was not left to us."""
        return self._alone or self._desk.is_done(self._places[node].ticket)

    def wait(self) -> None:
        """Wait until every helper is gone."""
        self._desk.wait()
        self._alone = True

    def collect(self, node: Node) -> tuple[Record, Done | None]:
        """Take over what helpers have done for a directory, once: what was placed, or was about to
        be, as an undo must know it; and the whole of it if a helper vouches for that.
        """
        place = self._places[node]
        share, notes = place.share, self._notes(place)
        record = self._noted(share, notes)
        if not notes[0]:
            del self._places[node]
            return record, None
        placed, staged = Tally(), Tally()
        self._count(placed, len(share.direct), notes[3])
        numbers = _numbers(place)
        if numbers:
            names = (*share.staged, *node.symlinks)
            node.inodes = self._maker.told(node, share.staged, notes[-len(names) :], self._mode)
            self._count(staged, len(share.staged), notes[4])
            staged.symlinks = len(node.symlinks)
        done = Done(share, placed, staged, numbers, notes[5])
        del self._places[node]  # last: until it is handed over `close` must know of it
        return record, done

    def _notes(self, place: _Place) -> list[int]:
        return self._desk.notes(place.ticket)[place.start : place.end].tolist()

    def _count(self, tally: Tally, files: int, straight: int) -> None:
        """Count files, `straight` of them in the pair's mode; mutable ones were copied."""
        for mode, number in ((self._mode, straight), (LinkMode.COPY, files - straight)):
            if number:
                tally.modes[mode] += number
                self._pair.worked.add(mode)

    def _noted(self, share: Share, notes: list[int]) -> Record:
        record = Record(share.node, (notes[1], notes[2]))
        ends = _HEAD + 2 * len(share.direct)
        noted = zip(share.direct, notes[_HEAD:ends:2], notes[_HEAD + 1 : ends : 2], strict=True)
        record.changes = [
            Change(name, self.stage, "", inode, None, now) for name, inode, now in noted if inode
        ]
        return record

    def close(self) -> list[Record]:
        """End the helpers; return what they have placed, or were about to, in directories for
        which nobody asked any more.
        """
        self._desk.close()
        return [self._noted(place.share, self._notes(place)) for place in self._places.values()]

    # The helper.

    def _help(self, ticket: int, notes: memoryview) -> None:
        """Do what one ticket says. Raises whatever a platform raises."""
        self._maker.help()
        places = self._tickets[ticket]
        room = self._make_room(ticket) if any(map(_numbers, places)) else -1
        for place in places:
            self._do(place, notes[place.start : place.end], room)
        if room >= 0:
            self._platform.close(room)

    def _make_room(self, ticket: int) -> int:
        """Make a directory in the stage, so that who makes files in it and who takes them away
        from another never wait for each other.
        """
        platform = self._platform
        room = platform.make_directory(self.stage.handle, _room(ticket))
        if not platform.is_writable(room):  # an odd umask
            platform.change_mode(room, platform.facts(room).mode | 0o700)
        return room

    def _do(self, place: _Place, notes: memoryview, room: int) -> None:
        """Do one share, but for what is our parent's."""
        platform, maker, share = self._platform, self._maker, place.share
        node = share.node
        source, target = self._source.seek(node), self._target.seek(node)
        facts = platform.facts(target)
        if not platform.is_writable(target):
            return
        if platform.inheritance(target) != self.stage.inheritance:
            return
        if (facts.device, facts.inode) in self._sources:
            return  # our parent tells of it
        notes[1], notes[2] = facts.device, facts.inode
        at = _HEAD

        def placing(inode: int, now: int) -> None:
            nonlocal at
            notes[at + 1] = now  # before the number, which says that both are there
            notes[at] = inode
            at += 2

        notes[3] = maker.place_straight(node, share.direct, self._mode, source, target, placing)
        numbers = _numbers(place)
        if numbers:
            staged = Tally()
            names = [number.rpartition("/")[2] for number in numbers]
            maker.fill(node, source, self.stage, room, staged, names, share.staged)
            notes[at:] = memoryview(array("Q", map(abs, node.inodes.values())))
            notes[4] = staged.modes[self._mode]
            seen = platform.look(self.stage.handle, _room(place.ticket))
            if seen is None:
                return
            notes[5] = seen.changed_ns
        notes[0] = 1


def _room(ticket: int) -> str:
    """Return the name that a ticket's directory has in the stage."""
    return f"{ROOM}{ticket}"


def _numbers(place: _Place) -> list[str]:
    """Return the names, from the stage, of what is staged for a share."""
    room, first = _room(place.ticket), place.start + _HEAD + 2 * len(place.share.direct)
    return [f"{room}/{number}" for number in range(first, place.end)]
