"""What callers may ask for: everything that can be refused before anything is looked at twice."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable

from linker.conditions import Condition
from linker.failures import printable
from linker.journal import STAGE
from linker.modes import Existing, LinkMode
from linker.platforms.base import Kind
from linker.policy import Policy
from linker.report import LinkError
from linker.tree import Node, absolute


def _missing(path: str) -> LinkError:
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return LinkError(
                f"cannot look at the source {printable(path)}",
                why=str(error.strerror),
                hint="a directory on the way to it may not be searched by this user",
                path=path,
                condition=Condition.DENIED,
            )
    return LinkError(
        f"the source {printable(path)} does not exist",
        hint="check the path; a relative one starts at the working directory",
        path=path,
        condition=Condition.MISSING,
    )


def check_paths(**paths: str) -> None:
    """Refuse what names nothing, on any system: (what it is)=path."""
    for what, path in paths.items():
        if path and not os.path.isabs(path):
            _check_working_directory(path)
        if not path or "\0" in path:
            raise LinkError(
                f"the {what} {path!r} is no path",
                why="it holds a NUL" if path else "it is empty",
                hint="the working directory is called '.'",
                path=path,
            )


def _check_working_directory(path: str) -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise LinkError(
            f"{printable(path)} leads nowhere",
            why="the working directory was removed",
            hint="name a path from the root, or work in another directory",
            path=path,
            condition=Condition.MISSING,
        ) from error


def check_roots(source: str, target: str, *, target_is: str = "target") -> str:
    """Refuse roots that cannot be linked; return the target's real path.

    `target_is` is what the errors call the second one.
    """
    check_paths(**{"source": source, target_is: target})
    source_facts = _seen(source)
    if source_facts is None or not stat.S_ISDIR(source_facts.st_mode):
        if not os.path.lexists(source):
            raise _missing(source)
        raise LinkError(
            f"the source {printable(source)} is no directory",
            hint="link_file links a single file",
            path=source,
            condition=Condition.NOT_DIRECTORY,
        )
    above: dict[str, os.stat_result] = {}
    real, real_source = _real(target, above), _real(source, above)
    _check_names(**{"source": real_source, target_is: real})
    taken = os.path.lexists(target)  # first: between the two another linker may make it
    facts = _seen(real)
    if taken and (facts is None or not stat.S_ISDIR(facts.st_mode)):
        raise LinkError(
            f"the {target_is} {printable(target)} is no directory",
            hint="name a directory, or a path where nothing is yet",
            path=target,
            condition=Condition.NOT_DIRECTORY,
        )
    if facts is not None and os.path.samestat(facts, source_facts):
        raise LinkError(
            f"source and {target_is} are the same directory",
            why=f"both are {printable(real_source)}",
            hint="name another directory for one of them",
            path=target,
        )
    for inner, outer, outer_facts, what in (
        (real, real_source, source_facts, f"the {target_is} lies inside the source"),
        (real_source, real, facts, f"the source lies inside the {target_is}"),
    ):
        # In a target that is new nothing can lie.
        if outer_facts is not None and _inside(inner, outer_facts, above):
            raise LinkError(
                what,
                why=f"{printable(inner)} is below {printable(outer)}",
                hint="a tree cannot be linked into itself",
                path=target,
            )
    return real


def _check_names(**paths: str) -> None:
    """Refuse what lies in something that the next link would take for a stage, and remove."""
    for what, path in paths.items():
        for name in path.split(os.sep):
            if name.startswith(STAGE):
                raise LinkError(
                    f"the {what} {printable(path)} has a reserved name",
                    why=f"names that begin with {STAGE!r} are those of interrupted links, which "
                    "are removed",
                    hint="give it another name",
                    path=path,
                )


def _seen(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:  # missing, or not to be looked at, which whoever opens it will tell
        return None


def _real(path: str, known: dict[str, os.stat_result]) -> str:
    """Return what `os.path.realpath` does, in one walk where no symlink is on the way.

    What was looked at there is added to `known`, by its path.
    """
    plain = f"{path}/"
    if os.sep != "/" or path[:1] != "/" or any(odd in plain for odd in ("//", "/./", "/../")):
        return os.path.realpath(path)
    end = 0
    try:
        while (end := plain.find("/", end + 1)) > 0:
            name = plain[:end]
            if name in known:
                continue
            facts = os.lstat(name)
            if stat.S_ISLNK(facts.st_mode):
                return os.path.realpath(path)
            known[name] = facts
    except OSError:  # not there, or not to be looked at
        return os.path.realpath(path)
    return path


def _inside(inner: str, outer: os.stat_result, known: dict[str, os.stat_result]) -> bool:
    """Return whether a path lies below a directory, by identity, whatever their names.

    `known` are directories that were looked at already; those looked at here are added.
    """
    while (above := os.path.dirname(inner)) != inner:
        inner = above
        try:
            if above not in known:
                known[above] = os.stat(above)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):  # nothing lies in what is not
                continue
            denied = error.errno in (errno.EACCES, errno.EPERM)
            raise LinkError(
                f"cannot look at {printable(above)}",
                why=str(error.strerror),
                hint="let this user look there: source and target must not lie in one another",
                path=above,
                condition=Condition.DENIED if denied else Condition.OTHER,
            ) from error
        if os.path.samestat(known[above], outer):
            return True
    return False


def check_file(source: str, target: str) -> Kind:
    check_paths(source=source, target=target)
    if not os.path.lexists(source):
        raise _missing(source)
    if os.path.isdir(source) and not os.path.islink(source):
        raise LinkError(
            f"the source {printable(source)} is a directory",
            hint="link_tree links a directory",
            path=source,
            condition=Condition.IS_DIRECTORY,
        )
    if not os.path.islink(source) and not os.path.isfile(source):
        raise LinkError(
            f"cannot link {printable(source)}",
            why="it is a device, socket or fifo, and only files, directories and symlinks can be "
            "linked",
            hint="make what it is where it is needed: mkfifo(1), mknod(1)",
            path=source,
        )
    here, there = _place_of(source), _place_of(target)
    if not there[1]:
        raise LinkError(
            f"cannot replace {printable(target)}",
            why="it is the root of all directories",
            hint="name the file that shall be made",
            path=target,
            condition=Condition.IS_DIRECTORY,
        )
    _check_names(source=os.path.join(*here), target=os.path.join(*there))
    if _is_one_place(here, there):
        raise LinkError(
            "source and target are the same file",
            why=printable(source),
            hint="name another path for one of them",
            path=target,
        )
    return Kind.SYMLINK if os.path.islink(source) else Kind.FILE


def _place_of(path: str) -> tuple[str, str]:
    directory, name = os.path.split(absolute(path))
    return os.path.realpath(directory), name


def _is_one_place(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Return whether two (directory, name) are one, by whatever way each leads there."""
    if one == other:
        return True
    first, second = _seen(one[0]), _seen(other[0])
    return (
        one[1] == other[1]
        and first is not None
        and second is not None
        and os.path.samestat(first, second)
    )


def parse_mode(mode: LinkMode | str) -> LinkMode:
    if isinstance(mode, LinkMode):
        return mode
    try:
        return LinkMode.parse(mode)
    except (ValueError, AttributeError) as error:
        raise LinkError(
            f"unknown link mode {mode!r}",
            hint="choose one of " + ", ".join(m.value for m in LinkMode) + " (or reflink)",
        ) from error


def parse_existing(existing: Existing | str) -> Existing:
    try:
        return Existing(existing)
    except ValueError as error:
        raise LinkError(
            f"{existing!r} is nothing to do with what exists",
            hint="choose one of " + ", ".join(each.value for each in Existing),
        ) from error


def check_policy(policy: Policy) -> None:
    if not isinstance(policy, Policy):
        raise LinkError(
            f"{policy!r} is no policy",
            why="a policy is a whole fallback graph, not its name",
            hint="take one of linker.policies: REFERENCE, UV, …",
        )


def parse_processes(processes: int) -> int:
    if processes > 0:
        return processes
    raise LinkError(
        f"{processes!r} is no number of processes",
        hint="1 is this one alone, 2 is with one helper",
    )


def _glob(pattern: object) -> str:
    if not isinstance(pattern, str):
        raise TypeError(f"{pattern!r} is no text")
    return pattern


def mutable_matcher(patterns: Iterable[str]) -> Callable[[Node, str], bool] | None:
    """Return whether a file is mutable by these globs; None if there are none.

    A pattern with a slash is held against the path relative to the source, one without against
    the name.
    """
    try:
        given = [patterns] if isinstance(patterns, str) else list(map(_glob, patterns))
    except TypeError as error:
        raise LinkError(
            f"{patterns!r} are no globs of files",
            why=str(error),
            hint='give a sequence of texts, as in mutable=["RECORD", "*.pth"]',
        ) from error
    if not given:
        return None
    import fnmatch
    import re

    names = [fnmatch.translate(pattern) for pattern in given if "/" not in pattern]
    paths = [fnmatch.translate(pattern) for pattern in given if "/" in pattern]
    by_name = re.compile("|".join(names)).match if names else None
    by_path = re.compile("|".join(paths)).match if paths else None

    def is_mutable(node: Node, name: str) -> bool:
        if by_name is not None and by_name(name):
            return True
        return by_path is not None and by_path(node.join(name)) is not None

    return is_mutable
