"""The source as it was scanned, and walks over trees of any depth.

A `Node` is one directory of the source; scanning it whole first is what allows bad input to be
refused before anything is written. A `Trail` is a way down a tree that holds a bounded number
of handles, so that neither PATH_MAX, nor the limit of open files, nor Python's recursion limit
bounds the depth of a tree.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set

from linker.conditions import Primitive
from linker.platforms.base import Failed, Platform

StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_SHUT = -1
"""Stands for the handle of a directory that is closed for now."""

LEAST = 500
"""Entries of a directory below which nobody is asked to help with it: it would take longer."""

HELD = 48
"""Handles that one trail keeps open at most; those further up are opened again on the way back."""


_NONE: Mapping[str, int] = {}
_NO_NAMES: Set[str] = frozenset()


class Node:
    """One directory of the source, and what became of it in the target.

    `inode` is that of the source's directory up to when one is made for it, then of that. `inodes`
    maps each name staged in this directory to its inode number, which is negative for a hard link,
    as others have it too. `present` says that the target had a directory here when it was looked
    at. Paths begin at the node that is `root`. `stored` maps the names of files to those that
    they have in the source, where these differ.
    """

    __slots__ = (
        "atime_ns",
        "depth",
        "device",
        "directories",
        "files",
        "inode",
        "inodes",
        "mode",
        "mtime_ns",
        "name",
        "parent",
        "present",
        "root",
        "stored",
        "symlinks",
        "taken",
    )

    def __init__(self, name: str, parent: Node | None) -> None:
        self.name = name
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent is not None else 0
        self.files: Sequence[str] = ()
        self.symlinks: Sequence[str] = ()
        self.directories: Sequence[Node] = ()
        self.mode = 0o755
        self.atime_ns = self.mtime_ns = self.device = self.inode = 0
        self.inodes: Mapping[str, int] = _NONE
        self.present = False
        self.taken: Set[str] = _NO_NAMES
        self.root = parent is None
        self.stored: Mapping[str, str] | None = None

    @property
    def path(self) -> str:
        """The path relative to the root, empty for the root itself."""
        names = []
        node: Node | None = self
        while node is not None and not node.root:
            names.append(node.name)
            node = node.parent
        return "/".join(reversed(names))

    def path_below(self, depth: int) -> str:
        """Return the path relative to the directory above this one that has a depth."""
        names = []
        node: Node | None = self
        while node is not None and node.depth > depth:
            names.append(node.name)
            node = node.parent
        return "/".join(reversed(names))

    def join(self, name: str) -> str:
        """Return the relative path of an entry of this directory."""
        path = self.path
        return f"{path}/{name}" if path else name

    def stored_name(self, name: str) -> str:
        """Return the name that a file of this directory has in the source."""
        return name if self.stored is None else self.stored[name]

    def below(self, other: Node) -> bool:
        """Return whether this directory is `other` or lies inside it."""
        node: Node | None = self
        while node is not None and node.depth >= other.depth:
            if node is other:
                return True
            node = node.parent
        return False


def walk(top: Node) -> Iterator[tuple[Node, bool]]:
    """Yield each directory below and with `top` twice: (node, True) before, (node, False) after
    what lies in it.
    """
    stack = [(top, True)]
    while stack:
        node, entering = stack.pop()
        yield node, entering
        if entering:
            stack.append((node, False))
            if node.directories:
                stack.extend([(child, True) for child in reversed(node.directories)])


class Trail:
    """A way down from a root handle, holding at most `held` handles.

    The root handle belongs to the caller and is never closed here. Failures are told as
    `primitive`: READ for a source, OPEN for a target.
    """

    def __init__(
        self,
        platform: Platform,
        root: int,
        base: Node | None = None,
        primitive: Primitive = Primitive.OPEN,
        held: int = HELD,
    ) -> None:
        self._platform = platform
        self._primitive = primitive
        self._held = held
        self._handles: list[int] = [root]
        self._nodes: list[Node | None] = [base]
        self._shut: list[tuple[int, int]] = []
        """(device, inode) of those that are closed for now: places 1, 2, ... of `_handles`."""
        self.base_depth = base.depth if base else 0

    @property
    def handle(self) -> int:
        """The handle of the directory that the trail stands in."""
        return self._handles[-1]

    @property
    def depth(self) -> int:
        """How many directories below the root the trail stands."""
        return len(self._handles) - 1

    def enter(self, name: str, node: Node | None = None) -> int:
        """Go into the directory `name`; return its handle."""
        return self._push(self._platform.open_below(self.handle, name, self._primitive), node)

    def make(self, name: str, mode: int = 0o700, node: Node | None = None) -> int:
        """Make the directory `name` and go into it; return its handle."""
        return self._push(self._platform.make_directory(self._handles[-1], name, mode), node)

    def _push(self, handle: int, node: Node | None) -> int:
        self._handles.append(handle)
        self._nodes.append(node)
        if len(self._handles) - len(self._shut) > self._held:
            place = len(self._shut) + 1
            oldest = self._handles[place]
            facts = self._platform.facts(oldest)
            self._shut.append((facts.device, facts.inode))
            self._handles[place] = _SHUT
            self._platform.close(oldest)
        return handle

    def leave(self, last: Callable[[int], None] | None = None) -> None:
        """Go back up by one. `last` is done with what is left, when nothing leads through it now:
        it may be shut to us afterwards.
        """
        handles = self._handles
        try:
            if self._shut and handles[-2] == _SHUT:
                handles[-2] = self._reopen(handles[-1])
            if last is not None:
                last(handles[-1])
        finally:
            self._nodes.pop()
            self._platform.close(handles.pop())

    def _reopen(self, child: int) -> int:
        """Open the parent of `child` again, and only if it is still the directory it was."""
        identity = self._shut.pop()
        parent = self._platform.open_below(child, "..", self._primitive)
        facts = self._platform.facts(parent)
        if (facts.device, facts.inode) != identity:
            self._platform.close(parent)
            moved = OSError(errno.ESTALE, "a directory was moved while it was walked")
            raise Failed(self._primitive, moved)
        return parent

    def seek(self, node: Node) -> int:
        """Go to the directory that stands for `node`; return its handle."""
        nodes, parent = self._nodes, node.parent
        if parent is not None:  # the next step of a walk, mostly
            if nodes[-1] is parent:
                return self.step(node)
            if len(nodes) > 1 and nodes[-2] is parent and nodes[-1] is not node:
                self.leave()
                return self.step(node)
        missing = []
        while True:
            place = node.depth - self.base_depth
            if place < len(nodes) and nodes[place] is node:
                break
            missing.append(node)
            assert node.parent is not None  # every node lies below the trail's base
            node = node.parent
        while len(self._handles) > place + 1:
            self.leave()
        for wanted in reversed(missing):
            self.step(wanted)
        return self._handles[-1]

    def step(self, node: Node) -> int:
        """Go into a directory that lies right below; return its handle. Raises `Lost`."""
        try:
            handle = self._platform.open_below(self._handles[-1], node.name, self._primitive)
        except Failed as failed:
            raise Lost(node, failed) from failed
        return self._push(handle, node)

    def reset(self) -> None:
        """Go back to the root, trusting no handle in between."""
        handles = self._handles
        while len(handles) > 1:
            handle = handles.pop()  # first, should an interrupt come between: never closed twice
            if handle != _SHUT:
                self._platform.close(handle)
        del self._nodes[1:]
        self._shut.clear()


class Lost(Exception):
    """A directory could not be opened on the way to another."""

    def __init__(self, node: Node, failed: Failed) -> None:
        super().__init__(node.path, failed)
        self.node = node
        self.failed = failed


class Reserved(Exception):
    """The source holds a name that is ours; `path` is relative."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class SpecialFile(Exception):
    """The source holds something that is no file, directory or symlink; `path` is relative."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class Scan:
    """Reads the tree below the open directory `root` into nodes.

    `files` is how many were found, `folding` are (directory, name, name) for names that a
    case-insensitive target would fold into one. Reading raises `Reserved` for a name that begins
    with `reserved`, `SpecialFile` for devices, sockets and fifos, and `Lost` or `Failed` (READ) for
    what cannot be read.
    """

    def __init__(self, platform: Platform, root: int, top: Node, reserved: str) -> None:
        self._platform = platform
        self._reserved = reserved
        self.trail = Trail(platform, root, top, Primitive.READ)
        self.files = 0
        self.folding: list[tuple[Node, str, str]] = []

    def read(self, node: Node, handle: int) -> Sequence[Node]:
        """Fill one node from its open directory; return the directories in it."""
        platform = self._platform
        try:
            facts = platform.facts(handle)
            files, directories, symlinks, others = platform.entries_once(handle)
        except Failed as failed:
            raise Lost(node, failed) from failed
        if others:
            raise SpecialFile(node.join(others[0]))
        node.device, node.inode, node.mode, node.atime_ns, node.mtime_ns, _ = facts
        node.files, node.symlinks = files, symlinks
        names = files + directories + symlinks if directories or symlinks else files
        joined = "/".join(names)
        if self._reserved in joined:
            for name in names:
                if name.startswith(self._reserved):
                    raise Reserved(node.join(name))
        if len(names) > 1 and not (joined.islower() and joined.isascii()):
            self.folding.extend(_collisions(node, names))
        self.files += len(files)
        node.directories = [Node(name, node) for name in directories] if directories else ()
        return node.directories

    def below(self, top: Node) -> None:
        """Fill a node and all that lie below it."""
        trail = self.trail
        levels = [iter(self.read(top, trail.seek(top)))]
        while levels:
            node = next(levels[-1], None)
            if node is not None:
                below = self.read(node, trail.step(node))
                if below:
                    levels.append(iter(below))
                    continue
            else:
                levels.pop()
            if levels:
                trail.leave()


def scan(
    platform: Platform, root: int, top: Node, reserved: str
) -> tuple[int, list[tuple[Node, str, str]]]:
    """Fill `top` with the tree below the open directory `root`, as `Scan` does.

    Return the number of files, and the names that fold.
    """
    found = Scan(platform, root, top, reserved)
    try:
        found.below(top)
    finally:
        found.trail.reset()
    return found.files, found.folding


def fold(name: str) -> str:
    """Return the form in which the most forgiving filesystem would compare a name."""
    if name.isascii():
        return name.lower()
    import unicodedata  # seldom needed

    return unicodedata.normalize("NFD", name).casefold()


def spelled(name: str, there: Collection[str]) -> str:
    """Return which of the names in a directory is the one that a filesystem which folds letters
    finds for `name`; `name` itself if that is there, or if it cannot be told.
    """
    if name in there:
        return name
    wanted = fold(name)
    alike = [other for other in there if fold(other) == wanted]
    return alike[0] if len(alike) == 1 else name


def _collisions(node: Node, names: list[str]) -> list[tuple[Node, str, str]]:
    """Return pairs of names that a case-insensitive target would fold into one."""
    first: dict[str, str] = {}
    found = []
    for name in names:
        other = first.setdefault(fold(name), name)
        if other != name:
            found.append((node, other, name))
    return found


def absolute(path: str) -> str:
    """Return a path from the root; a ``..`` behind a symlink goes up from where that leads."""
    plain = os.path.abspath(path)
    if plain == path or os.path.realpath(plain) == os.path.realpath(path):
        return plain
    return os.path.join(os.getcwd(), path)


def text_of(path: StrPath) -> str:
    """Return a path as text, bytes that are no text kept by surrogate escapes."""
    return os.fsdecode(os.fspath(path))
