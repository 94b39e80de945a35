"""What linking a tree comes to, written down a second time and without the linker.

A link is a function of two snapshots: of the source, and of the target before (empty if there was
none). `problems` holds the target after against it, rule by rule; it shares no code with the
engine, which walks, stages and renames, where this only compares.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from tests.linker.trees import Seen, Snapshot

ISOLATING = ("clone", "copy")


def conflicts(source: Snapshot, before: Snapshot) -> list[str]:
    """Return the paths where a directory would have to take the place of something else, or the
    reverse: such trees cannot be merged.
    """
    return sorted(
        path
        for path in source.keys() & before.keys()
        if (source[path].kind == "directory") != (before[path].kind == "directory")
    )


def problems(
    source: Snapshot,
    before: Snapshot,
    after: Snapshot,
    mode: str,
    *,
    source_path: str,
    fallback: bool = False,
    copied: Iterable[str] = (),
) -> list[str]:
    """Return in words what is not as it must be after linking in `mode`.

    `fallback` allows any file to be a copy; `copied` are paths that must be one. `source_path` is
    the absolute path of the source's root.
    """
    must_copy = set(copied)
    found = []
    for path in sorted({*source, *before, *after}):
        ours, old, new = source.get(path), before.get(path), after.get(path)
        if new is None:
            found.append(f"{path!r} is missing")
        elif ours is None and old is None:
            found.append(f"{path!r} belongs to nobody")
        elif ours is None:
            if new != old:
                found.append(f"{path!r} is not in the source and changed: {old} -> {new}")
        elif ours.kind == "directory":
            changed = _changed(path, source, before, mode)
            found += _directory(path, ours, old, new, changed=changed)
        elif ours.kind == "symlink":
            found += _symlink(path, ours, old, new)
        else:
            modes = ["copy"] if path in must_copy else [mode, "copy"] if fallback else [mode]
            place = os.path.join(source_path, path)
            wrong = [_file(path, place, ours, old, new, way) for way in modes]
            if all(wrong):
                found += wrong[0]
    return found


def _changed(path: str, source: Snapshot, before: Snapshot, mode: str) -> bool:
    """Return whether an entry of this directory was made or replaced. A hard link that takes the
    place of the same file is neither.
    """
    for other, seen in source.items():
        if not other or os.path.dirname(other) != path:
            continue
        old = before.get(other)
        if old is None:
            return True
        if seen.kind != "directory" and not (mode == "hardlink" and old.inode == seen.inode):
            return True
    return False


def _directory(path: str, ours: Seen, old: Seen | None, new: Seen, *, changed: bool) -> list[str]:
    if new.kind != "directory":
        return [f"{path!r} is a {new.kind}, not a directory"]
    said = []
    if old is None:
        if new.mode != ours.mode:
            said.append(f"the new directory {path!r} has mode {new.mode:o}, not {ours.mode:o}")
        if new.mtime_ns != ours.mtime_ns:
            said.append(f"the new directory {path!r} has not the source's time")
        return said
    if new.inode != old.inode:
        said.append(f"the directory {path!r} is another one")
    if new.mode != old.mode:
        said.append(f"the directory {path!r} had mode {old.mode:o} and has {new.mode:o}")
    if new.mtime_ns < old.mtime_ns or (changed and new.mtime_ns == old.mtime_ns):
        said.append(f"the time of {path!r} did not move on")
    return said


def _symlink(path: str, ours: Seen, old: Seen | None, new: Seen) -> list[str]:
    said = []
    if (new.kind, new.content) != (ours.kind, ours.content):
        said.append(f"{path!r} is not the source's symlink but a {new.kind}")
    if new.mtime_ns != ours.mtime_ns:
        said.append(f"the symlink {path!r} has not the source's time")
    if new.inode in (ours.inode, old.inode if old else None):
        said.append(f"the symlink {path!r} was not made anew")
    return said


def _file(path: str, place: str, ours: Seen, old: Seen | None, new: Seen, mode: str) -> list[str]:
    if mode == "hardlink":
        return [] if new == ours else [f"{path!r} is not the source's file: {new.kind}"]
    if mode == "symlink":
        wanted = ("symlink", os.fsencode(place))
        said = f"{path!r} does not lead to the source: {new.kind} {new.content[:80]!r}"
        return [] if (new.kind, new.content) == wanted else [said]
    assert mode in ISOLATING
    if new.kind != "file":
        return [f"{path!r} is a {new.kind}, not a file"]
    wrong = []
    if new.content != ours.content:
        wrong.append(f"{path!r} has {len(new.content)} other bytes than the source's")
    if new.mode != ours.mode & 0o777:
        wrong.append(f"{path!r} has mode {new.mode:o}, not {ours.mode & 0o777:o}")
    if new.mtime_ns != ours.mtime_ns:
        wrong.append(f"{path!r} has not the source's time")
    if new.inode == ours.inode:
        wrong.append(f"{path!r} is the source's own file")
    if old is not None and new.inode == old.inode:
        wrong.append(f"{path!r} was written through, not replaced")
    return wrong
