"""Further processes that make part of a large directory, or of what is merged into many.

Threads would not help: the interpreter's lock changes hands at every call. A helper is forked; it
and its parent take tickets from one pipe, each a few directories to be made or filled, and the
helper notes in shared memory what it makes. It decides nothing: at the first thing that is not
plain success it ends, and what it has not vouched for its parent takes away and makes itself. It
dies with its parent, whose lock on the stage it holds as well until it is gone.
"""

from __future__ import annotations

import gc
import mmap
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType

from linker.light import TYPE_CHECKING, NamedTuple, Protocol, cast
from linker.platforms.base import Failed, Platform
from linker.tree import LEAST, Node

if TYPE_CHECKING:
    from typing import TypeVar

    _Part = TypeVar("_Part", "Piece", "Share")

_SHARES = 48
"""Larger parts of the work than one of so many are divided."""

_EARLY, _LATE = 16, 128
"""A ticket is one of so many parts of what is left, and not less than one of so many of all: a
ticket costs something, and at the end nobody is to wait long for another's last.
"""


class Forking(Protocol):
    """What a platform must be able to do so that helpers can be forked."""

    @property
    def may_fork(self) -> bool:
        """Whether a forked copy of this process can go on making entries."""

    def die_with(self, parent: int) -> None:
        """Have this process end when `parent`, which has forked it, does."""

    def swaps_apart(self, directory: int) -> bool:
        """Whether there one process can make files while another swaps names."""


class Piece(NamedTuple):
    """A directory to be made `whole`, or only the files and symlinks of one that is there.

    `nodes` are the directories that are filled, `size` is how much that makes.
    """

    node: Node
    whole: bool
    nodes: Sequence[Node]
    size: int


class Share(NamedTuple):
    """What a helper does for a directory that the target has: `direct` are files that it places
    under their names, which nobody has; `staged` are files that it only makes in the stage, as it
    does the symlinks.
    """

    node: Node
    direct: Sequence[str]
    staged: Sequence[str]

    @property
    def size(self) -> int:
        """How much that is to make."""
        return 1 + len(self.direct) + len(self.staged) + len(self.node.symlinks)


class Division(NamedTuple):
    """The work on one new directory: the directories of its `frame`, parents first, are made
    before anybody takes a ticket and finished after everybody is done.
    """

    frame: list[Node]
    tickets: list[list[Piece]]


def divide(top: Node) -> Division | None:
    """Divide a new directory among processes; None if it is too small, or of several filesystems:
    what is known of one pair of filesystems says nothing of another.
    """
    nodes: list[Node] = []
    above: list[int] = []
    """The place in `nodes` of the parent of each."""
    stack = [(top, 0)]
    while stack:
        node, parent = stack.pop()
        if node.directories:
            place = len(nodes)
            stack.extend([(child, place) for child in reversed(node.directories)])
        nodes.append(node)
        above.append(parent)
    own = [1 + len(node.files) + len(node.symlinks) for node in nodes]
    sizes, spans = own[:], [1] * len(nodes)
    for place in range(len(nodes) - 1, 0, -1):  # what lies in a directory before the directory
        parent = above[place]
        sizes[parent] += sizes[place]
        spans[parent] += spans[place]
    if sizes[0] < LEAST or {node.device for node in nodes} != {top.device}:
        return None
    share = sizes[0] // _SHARES
    frame: list[Node] = []
    pieces: list[Piece] = []
    place = 0
    while place < len(nodes):
        node = nodes[place]
        whole = sizes[place] <= share
        if whole:
            inside = nodes[place : place + spans[place]]
            piece = Piece(node, whole=True, nodes=inside, size=sizes[place])
        else:
            frame.append(node)
            piece = Piece(node, whole=False, nodes=[node], size=own[place])
        place += len(piece.nodes)
        if piece.size == 1 and not whole:
            continue  # nothing lies in it but directories
        pieces.append(piece)
    return Division(frame, _pack(pieces, sizes[0]))


def divide_shares(shares: Sequence[Share]) -> list[list[Share]]:
    """Divide among processes what is to be merged; nothing if it is too little."""
    total = sum([share.size for share in shares])
    return _pack(shares, total) if total >= LEAST else []


def _pack(parts: Sequence[_Part], total: int) -> list[list[_Part]]:
    """Put parts on tickets in their order, on smaller ones towards the end. The first part has
    one of its own: it is often done alone, to see what works here.
    """
    tickets = [list(parts[:1])]
    room, left = 0, total
    for part in parts[1:]:
        if part.size > room:
            tickets.append([])
            room = max(left // _EARLY, total // _LATE)
        tickets[-1].append(part)
        room -= part.size
        left -= part.size
    return tickets


Work = Callable[[int, memoryview], object]
"""Does what one ticket says, as a helper, and writes into the ticket's numbers what is to be known
of it; they are 0 before.
"""


class Desk:
    """Where tickets are taken and results are left.

    `sizes` says how many numbers come of each ticket, of which there are at most 256. Raises
    OSError if the means cannot be had.
    """

    def __init__(self, platform: Forking, sizes: Sequence[int]) -> None:
        self._platform = platform
        self._starts = [0]
        for size in sizes:
            self._starts.append(self._starts[-1] + 1 + size)
        self._slots = memoryview(mmap.mmap(-1, 8 * self._starts[-1])).cast("Q")
        self._helpers: list[tuple[int, int]] = []
        """(process, descriptor of it): a number may be another process's once ours is gone, what a
        descriptor stands for is the same for ever (pidfd_open(2)).
        """
        self._tickets, writing = os.pipe()
        try:
            os.write(writing, bytes(range(len(sizes))))
        finally:
            os.close(writing)

    def __enter__(self) -> Desk:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the helpers that are still there, and wait until they are gone.

        If that is interrupted it can be done once more.
        """
        for _, helper in self._helpers:
            try:
                signal.pidfd_send_signal(helper, signal.SIGKILL)
            except ProcessLookupError:  # it is gone and waited for, by whom ever
                continue
        self.wait()
        tickets, self._tickets = self._tickets, -1
        if tickets >= 0:
            os.close(tickets)

    def take(self) -> int | None:
        """Take a ticket; None if there is no more."""
        taken = os.read(self._tickets, 1)
        return taken[0] if taken else None

    def hire(self, work: Work) -> bool:
        """Fork a helper that takes tickets until there are no more; return whether that worked."""
        parent = os.getpid()
        # No handler of the program's may run in the helper, nor before the helper is noted here.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                self._help(parent, mask, work)
            self._helpers.append((pid, _descriptor_of(pid)))
        except OSError:
            return False
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return True

    def hire_up_to(self, number: int, work: Work) -> None:
        """Fork so many helpers, or as many as can be had."""
        for _ in range(number):
            if not self.hire(work):
                return

    def work_off(self, helpers: int, work: Work, ours: Callable[[int], object]) -> list[int]:
        """Have so many helpers and do what they leave, until no ticket is left and everybody is
        done; return the tickets that were not `ours`.
        """
        self.hire_up_to(helpers, work)
        left = set(range(len(self._starts) - 1))
        while (taken := self.take()) is not None:
            ours(taken)
            left.remove(taken)
        self.wait()
        return sorted(left)

    def _help(self, parent: int, mask: set[int | signal.Signals], work: Work) -> None:
        """Be a helper: never return, and leave no trace but results."""
        try:
            gc.disable()
            for number in signal.valid_signals():
                if callable(signal.getsignal(number)):
                    signal.signal(number, signal.SIG_DFL)
            self._platform.die_with(parent)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            while (ticket := self.take()) is not None:
                work(ticket, self.notes(ticket))
                self._slots[self._starts[ticket]] = 1
        finally:
            os._exit(0)

    def wait(self) -> None:
        """Wait until every helper is gone."""
        while self._helpers:
            with suppress(ChildProcessError):  # the program was faster, or we before an interrupt
                os.waitid(os.P_PIDFD, self._helpers[-1][1], os.WEXITED)
            _, helper = self._helpers.pop()
            os.close(helper)

    def notes(self, ticket: int) -> memoryview:
        """Return the numbers of a ticket, vouched for or not."""
        return self._slots[self._starts[ticket] + 1 : self._starts[ticket + 1]]

    def is_done(self, ticket: int) -> bool:
        """Return whether a helper has done what a ticket says."""
        return bool(self._slots[self._starts[ticket]])

    def result(self, ticket: int) -> list[int] | None:
        """Return the numbers of a ticket, None if no helper has vouched for it."""
        return self.notes(ticket).tolist() if self.is_done(ticket) else None


def _descriptor_of(child: int) -> int:
    """Return a descriptor that stands for a child and can be waited for (Linux 5.4).

    Raises OSError where there is none to be had; then the child is gone as well.
    """
    try:
        helper = os.pidfd_open(child)
        try:
            os.waitid(os.P_PIDFD, helper, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except OSError:
            os.close(helper)
            raise
    except (ProcessLookupError, ChildProcessError):  # the program reaps its children by itself
        raise
    except OSError:
        os.kill(child, signal.SIGKILL)  # not waited for yet, so that nobody else has the number
        os.waitpid(child, 0)
        raise
    return helper


def empty_together(platform: Platform, directory: int, processes: int) -> None:
    """Remove the files of a large open directory, with so many processes, as far as that goes.

    What resists stays: who removes the directory itself meets it once more, and tells of it.
    """
    try:
        listing = platform.entries(directory)
    except Failed:
        return
    names = [*listing.files, *listing.symlinks]
    if len(names) < LEAST:
        return
    size = len(names) // _SHARES + 1
    tickets = [names[first : first + size] for first in range(0, len(names), size)]

    def remove(ticket: int) -> None:
        for name in tickets[ticket]:
            try:
                platform.remove_file(directory, name)
            except Failed:
                continue

    try:
        desk = Desk(cast("Forking", platform), [0] * len(tickets))
    except OSError:  # no descriptors, no memory: then by whoever removes the directory
        return
    with desk:
        desk.work_off(processes - 1, lambda ticket, _notes: remove(ticket), remove)
