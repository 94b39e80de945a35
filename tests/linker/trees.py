"""Trees as values: described, built on disk, and read back whole.

Nothing here comes from the linker. A description maps paths to entries; a snapshot maps the same
paths to everything that a link may be held to: kind, permission bits, inode, times and bytes.
"""

from __future__ import annotations

import os
import random
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tests.windows import wine

PAST = 1_000_000_000_123_456_789
"""A modification time (2001) that no test reaches by the clock, with nanoseconds to lose."""


@dataclass(frozen=True)
class File:
    """A regular file."""

    content: bytes = b""
    mode: int = 0o644
    mtime_ns: int = PAST


@dataclass(frozen=True)
class Directory:
    """A directory; the one at the path "" is the root."""

    mode: int = 0o755
    mtime_ns: int = PAST


@dataclass(frozen=True)
class Symlink:
    """A symlink that says `text`."""

    text: str
    mtime_ns: int = PAST


Entry = File | Directory | Symlink
Tree = Mapping[str, Entry]


class Seen(NamedTuple):
    """What was found at a path. `content` holds a file's bytes or what a symlink says."""

    kind: str
    mode: int
    inode: int
    mtime_ns: int
    content: bytes


Snapshot = dict[str, Seen]


def noise(size: int, seed: int = 0) -> bytes:
    """Return `size` bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)


ODD = "odd \u00ff name" if sys.platform == "win32" else os.fsdecode(b"odd \xff\n\x1b[31mname")
"""A name as odd as this system allows."""


def possible(tree: Tree) -> Tree:
    """Return a tree without its symlinks where Wine would only claim to make them."""
    if not wine.here():
        return tree
    return {path: entry for path, entry in tree.items() if not isinstance(entry, Symlink)}


def has_mode(path: str, mode: int) -> bool:
    """Return whether a file or directory has these permission bits, as far as any are kept.

    Windows keeps of a file whether it may be written to, and of a directory nothing.
    """
    found = os.stat(path).st_mode
    if sys.platform == "win32":
        return stat.S_ISDIR(found) or bool(found & 0o200) == bool(mode & 0o200)
    return stat.S_IMODE(found) == mode


def parents(path: str) -> Iterator[str]:
    """Yield the directories above `path`, the root ("") first."""
    names = path.split("/")[:-1] if path else []
    for count in range(len(names) + 1 if path else 0):
        yield "/".join(names[:count])


def build(root: str, tree: Tree) -> None:
    """Make `tree` at `root`; directories that it does not name have the default mode."""
    whole: dict[str, Entry] = {"": Directory()}
    for path in sorted(tree):
        for above in parents(path):
            whole.setdefault(above, Directory())
        whole[path] = tree[path]
    directories = []
    for path in sorted(whole, key=lambda path: (path.count("/") + bool(path), path)):
        entry, place = whole[path], os.path.join(root, path) if path else root
        if isinstance(entry, Directory):
            os.mkdir(place, 0o700)
            directories.append((place, entry))
        elif isinstance(entry, Symlink):
            wine.need("symlinks")
            os.symlink(entry.text, place)
            os.utime(place, ns=(PAST, entry.mtime_ns), follow_symlinks=False)
        else:
            with open(place, "xb", buffering=0) as writing:
                done = 0
                while done < len(entry.content):
                    done += writing.write(entry.content[done:])
            os.chmod(place, entry.mode)
            os.utime(place, ns=(PAST, entry.mtime_ns))
    for place, directory in reversed(directories):
        os.chmod(place, directory.mode)
        os.utime(place, ns=(PAST, directory.mtime_ns))


def snapshot(root: str) -> Snapshot:
    """Read the whole of what is at `root`, itself included under ""; empty if nothing is."""
    found: Snapshot = {}
    if not os.path.lexists(root):
        return found
    pending = [("", root)]
    while pending:
        path, place = pending.pop()
        seen = os.lstat(place)
        kind, content = "file", b""
        if stat.S_ISDIR(seen.st_mode):
            kind = "directory"
            for name in os.listdir(place):
                pending.append((f"{path}/{name}" if path else name, f"{place}/{name}"))
        elif stat.S_ISLNK(seen.st_mode):
            kind, content = "symlink", os.fsencode(os.readlink(place))
        elif stat.S_ISREG(seen.st_mode):
            with open(place, "rb") as reading:
                content = reading.read()
        else:
            kind = "special"
        mode = stat.S_IMODE(seen.st_mode)
        found[path] = Seen(kind, mode, seen.st_ino, seen.st_mtime_ns, content)
    return found


def lasting(taken: Snapshot) -> Snapshot:
    """Return what rule 4 promises to put back: all but the times of directories."""
    return {
        path: seen._replace(mtime_ns=0) if seen.kind == "directory" else seen
        for path, seen in taken.items()
    }


def content(taken: Snapshot) -> dict[str, tuple[str, int, int, bytes]]:
    """Return what two separate runs must agree on: all but inodes and directory times."""
    return {
        path: (
            seen.kind,
            seen.mode,
            0 if seen.kind == "directory" else seen.mtime_ns,
            seen.content,
        )
        for path, seen in taken.items()
    }


def differences(wanted: Snapshot, found: Snapshot) -> list[str]:
    """Return in words where two snapshots differ."""
    said = []
    for path in sorted({*wanted, *found}):
        before, after = wanted.get(path), found.get(path)
        if before == after:
            continue
        if before is None or after is None:
            said.append(f"{path!r}: {'is there' if before is None else 'is gone'}")
            continue
        for name, one, other in zip(Seen._fields, before, after, strict=True):
            if one != other:
                said.append(f"{path!r}: {name} was {_short(one)}, is {_short(other)}")
    return said


def _short(value: object) -> str:
    said = oct(value) if isinstance(value, int) else repr(value)
    return said if len(said) < 80 else f"{said[:60]}... ({len(said)})"


def remove(path: str) -> None:
    """Remove whatever is at `path`, read-only directories too."""
    try:
        os.unlink(path)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        if os.path.islink(path):
            raise
        if not os.path.isdir(path):
            os.chmod(path, 0o600)  # Windows removes no read-only file
            os.unlink(path)
            return
    os.chmod(path, 0o700)
    for name in os.listdir(path):
        remove(f"{path}/{name}")
    os.rmdir(path)
