"""Linkers that are wrong in one way each: for tests of the suite that must notice it.

Each is the reference linker or a naive one with a mistake that real linkers have made. The number
in a comment is the scenario of docs/explanation.md that it comes from.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import stat
from collections.abc import Callable, Iterator

from linker import LinkMode, link_tree

Place = pathlib.Path
CLONE, HARDLINK, SYMLINK, COPY = LinkMode


def right(source: Place, target: Place, mode: LinkMode) -> None:
    link_tree(source, target, mode=mode)


def _files(directory: Place) -> Iterator[Place]:
    for above, _, names in os.walk(directory):
        for name in names:
            path = Place(above, name)
            if not path.is_symlink():
                yield path


# --- the wrong mode --------------------------------------------------------------------------


def always_copies(source: Place, target: Place, mode: LinkMode) -> None:
    """Clone always copied, and nobody saw (1)."""
    link_tree(source, target, mode=COPY)


def hardlinks_instead_of_cloning(source: Place, target: Place, mode: LinkMode) -> None:
    """A fallback from an isolating mode to a sharing one (12)."""
    link_tree(source, target, mode=HARDLINK if mode is CLONE else mode)


def clones_instead_of_copying(source: Place, target: Place, mode: LinkMode) -> None:
    """What copy_file_range may do."""
    link_tree(source, target, mode=CLONE if mode is COPY else mode)


def one_odd_file_downgrades_the_tree(source: Place, target: Place, mode: LinkMode) -> None:
    """One empty file that could not be linked, and the mode is retired (7)."""
    link_tree(source, target, mode=mode, mutable=["module.py", "core.py", "large.bin"])


# --- what is there already -------------------------------------------------------------------


def writes_through(source: Place, target: Place, mode: LinkMode) -> None:
    """Copy over an existing hard link writes through to the other name (13)."""
    for file in _files(source):
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
        shutil.copystat(file, place)


def follows_a_symlinked_directory(source: Place, target: Place, mode: LinkMode) -> None:
    for file in _files(source):
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        shutil.copy2(file, place)


def empties_the_target_first(source: Place, target: Place, mode: LinkMode) -> None:
    """Delete then clone loses what others have there (3)."""
    for name in os.listdir(target):
        path = target / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    link_tree(source, target, mode=mode)


def leaves_what_is_there(source: Place, target: Place, mode: LinkMode) -> None:
    """A name that exists is taken for the right file (11)."""
    there = {file: file.read_bytes() for file in _files(target)}
    link_tree(source, target, mode=mode)
    for file, data in there.items():
        file.unlink()
        file.write_bytes(data)


def chmods_merged_directories(source: Place, target: Place, mode: LinkMode) -> None:
    link_tree(source, target, mode=mode)
    for above, names, _ in os.walk(target):
        for name in names:
            ours = source / os.path.relpath(os.path.join(above, name), target)
            if not ours.is_dir():
                Place(above, name).chmod(0o700)


def leaves_a_temporary_name(source: Place, target: Place, mode: LinkMode) -> None:
    link_tree(source, target, mode=mode)
    (target / "package/.module.py.tmp").touch()


def leaves_a_temporary_name_beside_the_target(source: Place, target: Place, mode: LinkMode) -> None:
    link_tree(source, target, mode=mode)
    target.with_name(target.name + ".tmp").touch()


def works_once(source: Place, target: Place, mode: LinkMode) -> None:
    """EEXIST is fatal."""
    if os.listdir(target):
        raise FileExistsError(17, os.strerror(17), str(target))
    link_tree(source, target, mode=mode)


# --- half a job ------------------------------------------------------------------------------


def swallows_errors(source: Place, target: Place, mode: LinkMode) -> None:
    """Files are missing, and the install succeeds (9)."""
    link_tree(source, target, mode=mode)
    for file in [*_files(target)][::7]:
        file.unlink()


def forgets_empty_directories(source: Place, target: Place, mode: LinkMode) -> None:
    link_tree(source, target, mode=mode)
    for above, _, _ in os.walk(target, topdown=False):
        if above != str(target) and not os.listdir(above):
            os.rmdir(above)


def forgets_names_that_are_no_text(source: Place, target: Place, mode: LinkMode) -> None:
    link_tree(source, target, mode=mode)
    for file in [*_files(target)]:
        if not file.name.isascii():
            file.unlink()


def copies_half_of_each_file(source: Place, target: Place, mode: LinkMode) -> None:
    """A short copy that nobody noticed."""
    link_tree(source, target, mode=mode)
    for file in _files(target):
        status = file.stat()
        if status.st_nlink == 1 and status.st_size > 65536:
            os.truncate(file, 65536)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def follows_symlinks(source: Place, target: Place, mode: LinkMode) -> None:
    link_tree(source, target, mode=mode)
    for above, _, names in os.walk(target):
        for path in (Place(above, name) for name in names):
            if path.is_symlink() and not os.path.isabs(os.readlink(path)) and path.is_file():
                data = path.read_bytes()
                path.unlink()
                path.write_bytes(data)


# --- stat ------------------------------------------------------------------------------------


def drops_exec_bits(source: Place, target: Place, mode: LinkMode) -> None:
    """FICLONE carries data only (5)."""
    link_tree(source, target, mode=mode)
    for file in _files(target):
        if file.stat().st_nlink == 1:
            file.chmod(0o644)


def obeys_the_umask(source: Place, target: Place, mode: LinkMode) -> None:
    link_tree(source, target, mode=mode)
    umask = os.umask(0)
    os.umask(umask)
    for above, names, files in os.walk(target):
        for path in (Place(above, name) for name in (*names, *files)):
            if not path.is_symlink() and (path.is_dir() or path.stat().st_nlink == 1):
                path.chmod(stat.S_IMODE(path.stat().st_mode) & ~umask)


def makes_every_file_new(source: Place, target: Place, mode: LinkMode) -> None:
    """Data is carried over, times are not."""
    link_tree(source, target, mode=mode)
    for file in _files(target):
        if file.stat().st_nlink == 1:
            os.utime(file)


def rounds_times(source: Place, target: Place, mode: LinkMode) -> None:
    link_tree(source, target, mode=mode)
    for file in _files(target):
        os.utime(file, (file.stat().st_atime, file.stat().st_mtime))


def makes_directories_its_own_way(source: Place, target: Place, mode: LinkMode) -> None:
    link_tree(source, target, mode=mode)
    for above, names, _ in os.walk(target):
        for name in names:
            path = Place(above, name)
            if not path.is_symlink():
                path.chmod(0o755)
                os.utime(path)


def fills_holes(source: Place, target: Place, mode: LinkMode) -> None:
    link_tree(source, target, mode=mode)
    for file in _files(target):
        status = file.stat()
        if status.st_nlink == 1 and status.st_blocks * 512 < status.st_size:
            file.write_bytes(file.read_bytes())
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


# --- the source ------------------------------------------------------------------------------


def makes_the_source_read_only(source: Place, target: Place, mode: LinkMode) -> None:
    link_tree(source, target, mode=mode)
    for file in _files(source):
        file.chmod(0o444)


def leaves_a_marker_in_the_source(source: Place, target: Place, mode: LinkMode) -> None:
    (source / ".linked").touch()
    link_tree(source, target, mode=mode)
    (target / ".linked").unlink(missing_ok=True)


def moves_files_out_of_the_source(source: Place, target: Place, mode: LinkMode) -> None:
    """Retires the cached file after too many links, and caches it anew."""
    link_tree(source, target, mode=mode)
    for file in _files(source):
        status = file.stat()
        new = file.with_name("new")
        shutil.copy2(file, new)
        new.replace(file)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


Linker = Callable[[Place, Place, LinkMode], None]
