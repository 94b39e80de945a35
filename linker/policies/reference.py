"""REFERENCE: the model of correct behaviour.

Isolation never weakens: clone, hardlink and symlink all fall to copy, and copy to nothing. A
file's own oddity concerns that file, a pair of filesystems is given up only on repeated
evidence, and a full, read-only or broken disk is an error, never a reason to try something else.
"""

from __future__ import annotations

from linker.conditions import Condition as C
from linker.conditions import Primitive as P
from linker.modes import LinkMode
from linker.policy import Edge, Policy, Step, edges

_REFUSED = (
    C.CROSS_DEVICE,
    C.UNSUPPORTED,
    C.ATTRIBUTE,
    C.DENIED,
    C.BUSY,
    C.NO_EFFECT,
)
_RETRIED = (C.AGAIN, C.INTERRUPTED)
_FATAL = (C.NO_SPACE, C.READ_ONLY, C.IO, C.MISSING, C.NO_MEMORY, C.TOO_MANY_OPEN, C.OTHER)


def _mode(
    platform: str,
    mode: LinkMode,
    primitive: P,
    extra: tuple[C, ...] = (),
    *,
    refused: tuple[C, ...] = _REFUSED,
) -> tuple[Edge, ...]:
    return (
        *edges(platform, mode, primitive, (*refused, *extra), LinkMode.COPY),
        *edges(platform, mode, primitive, _RETRIED, Step.RETRY, LinkMode.COPY),
        *edges(platform, mode, primitive, _FATAL, Step.ABORT),
    )


def _posix(platform: str) -> tuple[Edge, ...]:
    """Return what holds for files and names on every POSIX system; clones are each one's own."""
    return (
        *_mode(platform, LinkMode.HARDLINK, P.HARDLINK, (C.TOO_MANY_LINKS,)),
        *_mode(platform, LinkMode.SYMLINK, P.SYMLINK, (C.NAME_TOO_LONG,)),
        *edges(platform, LinkMode.COPY, P.COPY, (*_RETRIED, C.SHORT), Step.RETRY, Step.ABORT),
        *edges(platform, LinkMode.COPY, P.COPY, (*_FATAL, C.DENIED, C.BUSY), Step.ABORT),
        *edges(platform, None, P.CREATE, (C.NO_SPACE,), Step.ABORT),
        *edges(platform, None, P.RENAME, (C.EXISTS,), Step.REPLACE),
        *edges(platform, None, P.RENAME, (C.UNSUPPORTED,), Step.EMULATE),
        *edges(platform, None, P.RENAME, (C.CROSS_DEVICE,), Step.RESTAGE),
        *edges(platform, None, P.RENAME, (C.MISSING, *_RETRIED), Step.RETRY),
        *edges(platform, None, P.RENAME, (C.DENIED,), Step.ABORT),
        *edges(platform, None, P.EXCHANGE, (C.UNSUPPORTED,), Step.EMULATE),
        *edges(platform, None, P.EXCHANGE, (C.CROSS_DEVICE,), Step.RESTAGE),
        *edges(platform, None, P.EXCHANGE, (C.MISSING, *_RETRIED), Step.RETRY),
        *edges(platform, None, P.LOCK, (C.UNSUPPORTED,), Step.PROCEED),
    )


def _linux() -> tuple[Edge, ...]:
    platform = "linux"
    return (
        *_mode(platform, LinkMode.CLONE, P.CLONE_FILE, (C.SHORT,)),
        *_posix(platform),
        # Files that get their final names at once, without a stage.
        *edges(platform, None, P.CREATE, (C.UNSUPPORTED, C.IS_DIRECTORY), Step.STAGE),
        *edges(platform, None, P.HARDLINK, (C.EXISTS,), Step.REPLACE),
        *edges(platform, None, P.HARDLINK, (C.MISSING,), Step.STAGE),
        # btrfs without extref: a directory takes only so many names of one file.
        *edges(platform, LinkMode.HARDLINK, P.RENAME, (C.TOO_MANY_LINKS,), LinkMode.COPY),
        *edges(platform, LinkMode.HARDLINK, P.EXCHANGE, (C.TOO_MANY_LINKS,), LinkMode.COPY),
    )


_DIRECTORY_REFUSED = (*_REFUSED, C.EXISTS, C.SHORT, C.DATALESS, C.NAME_TOO_LONG, C.IS_SYMLINK)
"""What ends the clone of a whole directory, and nothing else."""

_TRANSIENT = (C.MISSING,)
"""ENOENT where the name exists: APFS says so for a moment after another's rename."""


def _macos() -> tuple[Edge, ...]:
    platform, clone = "macos", LinkMode.CLONE
    fatal = tuple(condition for condition in _FATAL if condition not in _TRANSIENT)
    retried = (*_RETRIED, *_TRANSIENT)
    refused = (*_REFUSED, C.SHORT, C.DATALESS)
    return (
        # A whole directory by one call; where that is refused, into it and entry by entry.
        *edges(platform, clone, P.CLONE_DIRECTORY, _DIRECTORY_REFUSED, Step.DESCEND),
        *edges(platform, clone, P.CLONE_DIRECTORY, retried, Step.RETRY, Step.DESCEND),
        *edges(platform, clone, P.CLONE_DIRECTORY, fatal, Step.ABORT),
        *edges(platform, clone, P.CLONE_FILE, refused, LinkMode.COPY),
        *edges(platform, clone, P.CLONE_FILE, retried, Step.RETRY, LinkMode.COPY),
        # Files are cloned into a stage of ours: a name that is taken there is no one's of ours.
        *edges(platform, clone, P.CLONE_FILE, (*fatal, C.EXISTS), Step.ABORT),
        *_posix(platform),
        *edges(platform, LinkMode.COPY, P.COPY, (C.DATALESS,), Step.ABORT),
    )


def _windows() -> tuple[Edge, ...]:
    platform = "windows"
    # No error of hard links and symlinks says that it is for an attribute.
    refused = tuple(condition for condition in _REFUSED if condition is not C.ATTRIBUTE)
    return (
        *_mode(platform, LinkMode.CLONE, P.CLONE_FILE, (C.SHORT, C.TOO_MANY_LINKS)),
        *_mode(platform, LinkMode.HARDLINK, P.HARDLINK, (C.TOO_MANY_LINKS,), refused=refused),
        *_mode(platform, LinkMode.SYMLINK, P.SYMLINK, (C.NAME_TOO_LONG,), refused=refused),
        *edges(platform, LinkMode.COPY, P.COPY, (*_RETRIED, C.SHORT), Step.RETRY, Step.ABORT),
        *edges(platform, LinkMode.COPY, P.COPY, (*_FATAL, C.DENIED, C.BUSY), Step.ABORT),
        *edges(platform, None, P.CREATE, (C.NO_SPACE,), Step.ABORT),
        # Hard links are made in a stage of ours: a name that is taken there is nobody's.
        *edges(platform, LinkMode.HARDLINK, P.HARDLINK, (C.EXISTS,), Step.ABORT),
        # No call swaps two names, and an entry that others have open is waited for.
        *edges(platform, None, P.RENAME, (C.EXISTS,), Step.REPLACE),
        *edges(platform, None, P.RENAME, (C.CROSS_DEVICE,), Step.RESTAGE),
        *edges(platform, None, P.RENAME, (C.MISSING, C.BUSY, *_RETRIED), Step.RETRY),
        *edges(platform, None, P.EXCHANGE, (C.UNSUPPORTED,), Step.EMULATE),
        *edges(platform, None, P.EXCHANGE, (C.CROSS_DEVICE,), Step.RESTAGE),
        *edges(platform, None, P.EXCHANGE, (C.MISSING, C.BUSY, *_RETRIED), Step.RETRY),
    )


REFERENCE = Policy(
    name="reference",
    edges=(*_linux(), *_macos(), *_windows()),
    source="this project: rules 1, 2 and 9 of the reference linker",
)
