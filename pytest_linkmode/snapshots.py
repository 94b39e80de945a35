"""A picture of a tree as it is on disk, and what changed from one picture to the next.

For promises about what was *not* done: the source was left alone, what others had in the target
is still theirs.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields

INODE = "inode"
MTIME = "mtime"


@dataclass(frozen=True, slots=True)
class Picture:
    """One name: what it is, its permission bits, its content, its time and its identity.

    `content` is the digest of a file's bytes, the text of a symlink, empty for a directory.
    """

    type: int
    permissions: int
    content: str
    mtime: int
    inode: tuple[int, int]


def snapshot(directory: str | os.PathLike[str]) -> dict[str, Picture]:
    """Return a picture of every name below `directory`, by relative path; itself is ``.``.

    Paths have slashes on every system.
    """
    root = os.fspath(directory)
    return {".": _picture(root), **dict(_below(root, ""))}


def changes(
    before: Mapping[str, Picture],
    after: Mapping[str, Picture],
    *,
    but: Collection[str] = (),
    added: bool = True,
) -> list[str]:
    """Return a sentence for each name that is not as it was.

    `but` names what may have changed (``inode``, ``mtime``, ...); new names count only if
    `added` is true.
    """
    compared = [field.name for field in fields(Picture) if field.name not in but]
    said = []
    for path in sorted(before.keys() | after.keys()):
        if path not in after:
            said.append(f"{path!r} is gone")
        elif path not in before:
            said += [f"{path!r} is new"] if added else []
        else:
            old, new = before[path], after[path]
            said += [
                f"{path!r} has another {name}: {getattr(old, name)}, now {getattr(new, name)}"
                for name in compared
                if getattr(old, name) != getattr(new, name)
            ]
    return said


def _below(root: str, path: str) -> Iterator[tuple[str, Picture]]:
    for name in sorted(os.listdir(os.path.join(root, path))):
        inner = f"{path}/{name}" if path else name
        picture = _picture(os.path.join(root, inner))
        yield inner, picture
        if stat.S_ISDIR(picture.type):
            yield from _below(root, inner)


def _picture(path: str) -> Picture:
    status = os.lstat(path)
    content = ""
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    return Picture(
        stat.S_IFMT(status.st_mode),
        stat.S_IMODE(status.st_mode),
        content,
        status.st_mtime_ns,
        (status.st_dev, status.st_ino),
    )
