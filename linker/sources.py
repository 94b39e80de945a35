"""Where a tree comes from: a directory, or anything else that can say what it holds and where.

A `Source` describes a whole tree as `Node`s before anything is written, and gives the way to its
files; the engine does the rest, and keeps all its promises, whatever the source is.
"""

from __future__ import annotations

import os

from linker.conditions import Primitive
from linker.failures import link_error, printable
from linker.journal import SAVED, STAGE
from linker.light import NamedTuple, Protocol
from linker.platforms.base import Failed, Platform
from linker.report import LinkError
from linker.tree import Lost, Node, Reserved, SpecialFile, Trail, absolute, scan


class Contents(NamedTuple):
    """What a source holds, beside the nodes that it has filled.

    `way` leads from a node to the open directory in which its files are found: by their own
    names, or by those of `Node.stored`. `files` is their number; `folding` are (directory, name,
    name) that a case-insensitive target would fold into one.
    """

    way: Trail
    files: int
    folding: list[tuple[Node, str, str]]


class Source(Protocol):
    """A tree that can be linked."""

    @property
    def root(self) -> str:
        """The directory in which its files lie, whose path symlinks begin with."""

    def fill(self, platform: Platform, root: int, top: Node, reserved: str) -> Contents:
        """Fill `top` with the tree; `root` is the open directory of that name.

        Names that begin with `reserved` are refused. Raises `Failed`, `Lost`, `Reserved`,
        `SpecialFile`, and `LinkError` for what cannot be linked.
        """


class DirectorySource:
    """The tree below a directory. `processes` is how many may scan it if it is large."""

    def __init__(self, path: str, processes: int = 1) -> None:
        self.root = path
        self._processes = processes

    def fill(self, platform: Platform, root: int, top: Node, reserved: str) -> Contents:
        """Scan the directory."""
        if self._processes > 1 and getattr(platform, "may_fork", False):
            from linker.scanning import scan_together  # only where it is asked for

            files, folding = scan_together(platform, root, top, reserved, self._processes)
        else:
            files, folding = scan(platform, root, top, reserved)
        return Contents(Trail(platform, root, top, Primitive.READ), files, folding)


class Shelf(Trail):
    """The way to files that all lie below one directory, wherever in a tree they belong."""

    def seek(self, node: Node) -> int:  # noqa: ARG002  # all of them lie there
        """Return the handle of the one directory."""
        return self.handle


def survey(source: Source, platform: Platform, root: int, top: Node, reserved: str) -> Contents:
    """Fill `top` with what `source` holds. Raises `LinkError` for what cannot be linked."""
    try:
        return source.fill(platform, root, top, reserved)
    except Reserved as found:
        why, hint = _of_reserved(found.path.rpartition("/")[2])
        raise LinkError(
            f"cannot link {printable(found.path)}", why=why, hint=hint, path=found.path
        ) from None
    except SpecialFile as found:
        raise LinkError(
            f"cannot link {printable(found.path)}",
            why="it is a device, socket or fifo, and only files, directories and symlinks can be "
            "linked",
            hint="remove it from the source",
            path=found.path,
        ) from None
    except Lost as lost:
        path = lost.node.path or "the source"
        raise link_error(platform, lost.failed, path) from lost.failed.error
    except Failed as failed:
        raise link_error(platform, failed, "the source") from failed.error


def _of_reserved(name: str) -> tuple[str, str]:
    """Return what a reserved name says of what has it, and what to do about it."""
    if name.startswith(STAGE):
        why = "the name is reserved: it is what an interrupted link left there"
        return why, "link into that directory once more, which removes it"
    if name.startswith(SAVED):
        why = "the name is reserved: it holds files that an undo could not put back"
        return why, "move what is in it to where it belongs, then remove it"
    return "names that begin like that are reserved for interrupted links", "rename it"


def absolute_prefix(path: str) -> str:
    """Return what the absolute paths of everything below a directory begin with."""
    return os.path.join(absolute(path), "")
