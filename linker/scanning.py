"""Scans a large source with the help of other processes.

The first levels are read alone. Once many directories are known and not read yet, they are dealt
in tickets among this process and forked helpers, which hand back what they have read as plain data
in shared memory. A helper that meets anything odd vouches for nothing: its ticket is read again
here, where errors are told.
"""

from __future__ import annotations

import marshal
import mmap
from collections import deque
from collections.abc import Sequence

from linker.helping import Desk
from linker.light import TYPE_CHECKING, cast
from linker.platforms.base import Platform
from linker.tree import Node, Scan

if TYPE_CHECKING:
    from linker.helping import Forking

WAITING = 200
"""Directories that must be known and not read yet before anybody is asked to help."""

_TICKETS = 64
_ROOM = 1 << 18
"""Bytes that the answer to one ticket may take; of those that are not needed there is no page."""

Row = tuple[int, int, int, int, int, Sequence[str], Sequence[str], list[str]]
"""One directory: device, inode, mode, both times, names of files, symlinks and directories."""

Folding = list[tuple[int, str, str]]
"""(number of a row, name, name) for names that fold."""


def scan_together(
    platform: Platform, root: int, top: Node, reserved: str, processes: int
) -> tuple[int, list[tuple[Node, str, str]]]:
    """Do as `linker.tree.scan`, with so many processes if the tree is large."""
    found = Scan(platform, root, top, reserved)
    try:
        waiting = deque([top])
        while waiting and len(waiting) < WAITING:
            node = waiting.popleft()
            waiting.extend(found.read(node, found.trail.seek(node)))
        if waiting:
            nodes, size = list(waiting), -(-len(waiting) // _TICKETS)
            tickets = [nodes[first : first + size] for first in range(0, len(nodes), size)]
            _deal(platform, found, tickets, processes)
    finally:
        found.trail.reset()
    return found.files, found.folding


def _deal(
    platform: Platform, found: Scan, tickets: Sequence[Sequence[Node]], processes: int
) -> None:
    """Read what lies below the nodes of all tickets, alone or with helpers."""
    try:
        answers = memoryview(mmap.mmap(-1, _ROOM * len(tickets)))
        desk = Desk(cast("Forking", platform), [1] * len(tickets))
    except OSError:  # no memory, no descriptors: then alone
        for ticket in tickets:
            _read(found, ticket)
        return

    def help_with(number: int, notes: memoryview) -> None:
        del found.folding[:]
        _read(found, tickets[number])
        answer = marshal.dumps(_answer(found, tickets[number]))
        place = number * _ROOM
        answers[place : place + min(len(answer), _ROOM)] = answer[:_ROOM]
        notes[0] = len(answer)

    with desk:
        theirs = desk.work_off(processes - 1, help_with, lambda own: _read(found, tickets[own]))
        for number in theirs:
            ticket = tickets[number]
            length = (desk.result(number) or [_ROOM + 1])[0]
            if length > _ROOM:
                _read(found, ticket)
            else:
                place = number * _ROOM
                _adopt(found, ticket, *marshal.loads(answers[place : place + length]))  # noqa: S302  # our own


def _read(found: Scan, ticket: Sequence[Node]) -> None:
    for node in ticket:
        found.below(node)


def _answer(found: Scan, ticket: Sequence[Node]) -> tuple[list[Row], Folding]:
    """Return what a helper has read for one ticket, each directory before what lies in it."""
    rows: list[Row] = []
    numbers: dict[Node, int] = {}
    stack = list(ticket)
    while stack:
        node = stack.pop()
        below = node.directories
        numbers[node] = len(rows)
        rows.append(
            (
                *(node.device, node.inode, node.mode, node.atime_ns, node.mtime_ns),
                *(node.files, node.symlinks, [child.name for child in below]),
            )
        )
        stack.extend(below)
    return rows, [(numbers[node], first, second) for node, first, second in found.folding]


def _adopt(found: Scan, ticket: Sequence[Node], rows: list[Row], folding: Folding) -> None:
    """Fill nodes with what a helper has read."""
    nodes: list[Node] = []
    stack = list(ticket)
    for row in rows:
        node = stack.pop()
        node.device, node.inode, node.mode, node.atime_ns, node.mtime_ns, *lists = row
        node.files, node.symlinks, names = lists
        found.files += len(node.files)
        if names:
            node.directories = below = [Node(name, node) for name in names]
            stack.extend(below)
        nodes.append(node)
    found.folding.extend((nodes[number], first, second) for number, first, second in folding)
