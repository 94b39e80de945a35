"""Further processes that make part of a large new directory in the stage.

Threads would not help: the interpreter's lock changes hands at every call. A helper is forked; it
and its parent take tickets from one pipe, each a few subtrees to be made, and the helper notes in
shared memory what it has made. It decides nothing: at the first thing that is not plain success it
ends, and what it has not vouched for its parent removes and makes itself. It dies with its parent,
whose lock on the stage it holds as well until it is gone.
"""

from __future__ import annotations

import gc
import mmap
import os
import signal
from array import array
from collections.abc import Callable, Sequence
from types import TracebackType

from linker.light import NamedTuple, Protocol
from linker.making import LEAST
from linker.tree import Node

_SHARES = 48
"""Into how many tickets the work is divided, about: few are dear at the end, many all the time."""


class Forking(Protocol):
    """What a platform must be able to do so that helpers can be forked."""

    @property
    def may_fork(self) -> bool:
        """Whether a forked copy of this process can go on making entries."""

    def die_with(self, parent: int) -> None:
        """Have this process end when `parent`, which has forked it, does."""


class Piece(NamedTuple):
    """A directory to be made `whole`, or only the files and symlinks of one that is there.

    `nodes` are the directories that are filled, `size` is how much that makes.
    """

    node: Node
    whole: bool
    nodes: Sequence[Node]
    size: int


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
    stack = [top]
    while stack:
        node = stack.pop()
        nodes.append(node)
        stack.extend(reversed(node.directories))
    sizes: dict[Node, int] = {}
    spans: dict[Node, int] = {}
    for node in reversed(nodes):  # what lies in a directory before the directory
        size, span = 1 + len(node.files) + len(node.symlinks), 1
        for child in node.directories:
            size += sizes[child]
            span += spans[child]
        sizes[node], spans[node] = size, span
    if sizes[top] < LEAST or any(node.device != top.device for node in nodes):
        return None
    share = sizes[top] // _SHARES
    frame: list[Node] = []
    tickets: list[list[Piece]] = []
    room = place = 0
    while place < len(nodes):
        node = nodes[place]
        whole = sizes[node] <= share
        if whole:
            inside = nodes[place : place + spans[node]]
            piece = Piece(node, whole=True, nodes=inside, size=sizes[node])
        else:
            frame.append(node)
            own = 1 + len(node.files) + len(node.symlinks)
            piece = Piece(node, whole=False, nodes=[node], size=own)
        place += len(piece.nodes)
        if piece.size == 1 and not whole:
            continue  # nothing lies in it but directories
        if piece.size > room:
            tickets.append([])
            room = share
        tickets[-1].append(piece)
        room -= piece.size
    return Division(frame, tickets)


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
        self._pids: list[int] = []
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
        """End the helpers that are still there, and wait until they are gone."""
        try:
            for pid in self._pids:  # not waited for yet, so that nobody else has the number
                os.kill(pid, signal.SIGKILL)
        finally:
            self.wait()
            os.close(self._tickets)

    def take(self) -> int | None:
        """Take a ticket; None if there is no more."""
        taken = os.read(self._tickets, 1)
        return taken[0] if taken else None

    def hire(self, work: Callable[[int], Sequence[int]]) -> bool:
        """Fork a helper that takes tickets until there are no more; return whether that worked."""
        parent = os.getpid()
        # No handler of the program's may run in the helper, nor before the helper is noted here.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                self._help(parent, mask, work)
            self._pids.append(pid)
        except OSError:
            return False
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return True

    def _help(
        self, parent: int, mask: set[int | signal.Signals], work: Callable[[int], Sequence[int]]
    ) -> None:
        """Be a helper: never return, and leave no trace but results."""
        try:
            gc.disable()
            for number in signal.valid_signals():
                if callable(signal.getsignal(number)):
                    signal.signal(number, signal.SIG_DFL)
            self._platform.die_with(parent)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            while (ticket := self.take()) is not None:
                start, end = self._starts[ticket], self._starts[ticket + 1]
                self._slots[start + 1 : end] = memoryview(array("Q", work(ticket)))
                self._slots[start] = 1
        finally:
            os._exit(0)

    def wait(self) -> None:
        """Wait until every helper is gone."""
        while self._pids:
            try:
                os.waitpid(self._pids[-1], 0)
            except ChildProcessError:  # the program reaps its children by itself
                self._pids.pop()
            else:
                self._pids.pop()

    def result(self, ticket: int) -> list[int] | None:
        """Return the numbers of a ticket, None if no helper has vouched for it."""
        start, end = self._starts[ticket], self._starts[ticket + 1]
        return list(self._slots[start + 1 : end]) if self._slots[start] else None
