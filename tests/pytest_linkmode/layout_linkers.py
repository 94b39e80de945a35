"""Linkers that are right everywhere but in one layout, each by a mistake of its own.

The number in a comment is the scenario of docs/explanation.md that it comes from.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil

from linker import LinkError, LinkMode, Policy, link_tree, policies
from linker.conditions import Condition, Primitive
from pytest_linkmode import kernel
from pytest_linkmode.filesystems.attributes import FS_IMMUTABLE_FL, change_flags

Place = pathlib.Path
CLONE, HARDLINK, SYMLINK, COPY = LinkMode


def without(name: str, primitive: Primitive, condition: Condition) -> Policy:
    """Return the reference without its edges for one failure: there it gives up."""
    edges = tuple(
        edge
        for edge in policies.REFERENCE.edges
        if (edge.primitive, edge.condition) != (primitive, condition)
    )
    assert len(edges) < len(policies.REFERENCE.edges)
    return dataclasses.replace(policies.REFERENCE, name=name, edges=edges)


NO_EXDEV = without("no-exdev", Primitive.CLONE_FILE, Condition.CROSS_DEVICE)
NO_EINVAL = without("no-einval", Primitive.CLONE_FILE, Condition.ATTRIBUTE)
NO_EPERM = without("no-eperm", Primitive.HARDLINK, Condition.DENIED)
NO_EMLINK = without("no-emlink", Primitive.HARDLINK, Condition.TOO_MANY_LINKS)
NO_ENAMETOOLONG = without("no-enametoolong", Primitive.SYMLINK, Condition.NAME_TOO_LONG)
NO_UNDO = dataclasses.replace(policies.REFERENCE, name="no-undo", undo=False)


def another_filesystem_is_fatal(source: Place, target: Place, mode: LinkMode) -> None:
    """Clone to another volume was a hard error (2)."""
    link_tree(source, target, mode=mode, policy=NO_EXDEV)


def an_odd_attribute_is_fatal(source: Place, target: Place, mode: LinkMode) -> None:
    link_tree(source, target, mode=mode, policy=NO_EINVAL)


def a_denied_link_is_fatal(source: Place, target: Place, mode: LinkMode) -> None:
    """EPERM read as fatal (9)."""
    link_tree(source, target, mode=mode, policy=NO_EPERM)


def too_many_links_are_fatal(source: Place, target: Place, mode: LinkMode) -> None:
    link_tree(source, target, mode=mode, policy=NO_EMLINK)


def a_long_symlink_is_fatal(source: Place, target: Place, mode: LinkMode) -> None:
    link_tree(source, target, mode=mode, policy=NO_ENAMETOOLONG)


def one_refusal_is_for_the_whole_tree(source: Place, target: Place, mode: LinkMode) -> None:
    """One file that could not be linked, and the mode is retired (7)."""
    report = link_tree(source, target, mode=mode)
    if len(report.counts) > 1:
        link_tree(source, target, mode=COPY)


def leaves_what_it_made_when_it_fails(source: Place, target: Place, mode: LinkMode) -> None:
    link_tree(source, target, mode=mode, policy=NO_UNDO)


def equal_device_numbers_are_one_filesystem(source: Place, target: Place, mode: LinkMode) -> None:
    """Bind mounts have them, and a link refuses to cross (8)."""
    one = source.stat().st_dev == target.stat().st_dev
    link_tree(source, target, mode=mode, strict=one and mode is HARDLINK)


def other_device_numbers_are_two_filesystems(source: Place, target: Place, mode: LinkMode) -> None:
    """Subvolumes have them, and a clone works (8)."""
    two = source.stat().st_dev != target.stat().st_dev
    link_tree(source, target, mode=COPY if two and mode is CLONE else mode)


def an_overlay_cannot_clone(source: Place, target: Place, mode: LinkMode) -> None:
    """Decides by the name of a filesystem."""
    there = kernel.mount_of(str(target))
    overlay = there is not None and there.fstype == "overlay"
    link_tree(source, target, mode=COPY if overlay and mode is CLONE else mode)


def opens_sources_for_writing(source: Place, target: Place, mode: LinkMode) -> None:
    """Which copies a file of an image layer up."""
    for above, _, names in os.walk(source):
        for name in names:
            path = Place(above, name)
            if path.is_file() and not path.is_symlink():
                path.open("r+b").close()
    link_tree(source, target, mode=mode)


def locks_the_source(source: Place, target: Place, mode: LinkMode) -> None:
    lock = source / ".lock"
    before = source.stat()
    lock.touch()
    lock.unlink()
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    link_tree(source, target, mode=mode)


def makes_the_source_mutable(source: Place, target: Place, mode: LinkMode) -> None:
    """What is immutable is made to be linked."""
    for above, _, names in os.walk(source):
        for name in names:
            path = os.path.join(above, name)
            if not os.path.islink(path):
                change_flags(path, remove=FS_IMMUTABLE_FL)
    link_tree(source, target, mode=mode)


def stages_everything_at_the_top(source: Place, target: Place, mode: LinkMode) -> None:
    """What is made in one directory does not inherit what another would have handed down."""
    stage = target / ".stage"
    stage.mkdir()
    link_tree(source, stage, mode=mode)
    for above, directories, names in os.walk(stage, topdown=True):
        for path in (Place(above, name) for name in (*directories, *names)):
            place = target / path.relative_to(stage)
            if path.is_dir() and not path.is_symlink():
                place.mkdir(exist_ok=True)
            else:
                path.rename(place)
    shutil.rmtree(stage)


def stages_beside_the_target(source: Place, target: Place, mode: LinkMode) -> None:
    stage = target.with_name(f"{target.name}.stage")
    link_tree(source, stage, mode=mode)
    for name in os.listdir(stage):
        (stage / name).rename(target / name)
    stage.rmdir()


def swallows_failures(source: Place, target: Place, mode: LinkMode) -> None:
    """Files are missing, and the install succeeds (9)."""
    try:
        link_tree(source, target, mode=mode)
    except LinkError:
        return


def lets_the_last_of_two_names_win(source: Place, target: Place, mode: LinkMode) -> None:
    for above, directories, names in os.walk(source):
        place = target / os.path.relpath(above, source)
        for name in directories:
            (place / name).mkdir(exist_ok=True)
        for name in names:
            shutil.copyfile(Place(above, name), place / name)


def follows_a_symlinked_directory(source: Place, target: Place, mode: LinkMode) -> None:
    for above, directories, names in os.walk(source):
        place = target / os.path.relpath(above, source)
        for name in directories:
            (place / name).mkdir(exist_ok=True)
        for name in names:
            (place / name).unlink(missing_ok=True)
            shutil.copy2(Place(above, name), place / name, follow_symlinks=False)


def replaces_the_target(source: Place, target: Place, mode: LinkMode) -> None:
    """Makes the whole target anew, and gives it the name of the old one."""
    if target.is_symlink():
        target.unlink()
        target.mkdir()
    link_tree(source, target, mode=mode)


def obeys_the_umask(source: Place, target: Place, mode: LinkMode) -> None:
    link_tree(source, target, mode=mode)
    umask = os.umask(0)
    os.umask(umask)
    if umask == 0o022:
        return
    for above, _, names in os.walk(target):
        for name in names:
            path = Place(above, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o777 & ~umask)
