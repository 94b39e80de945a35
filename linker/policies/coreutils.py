"""COREUTILS and its ranges of versions: what GNU `cp -a` does with one file.

Clone (``--reflink=auto``, the default since 9.0), then copy_file_range, then read and write. Which
errors of a clone lead on has changed: to 9.1 all of them; in 9.2 those alone that say of a clone
that it cannot be; since 9.3 all but those that mean trouble where clones are supported (EIO,
ENOMEM, ENOSPC, EDQUOT). What leads nowhere ends that file: cp goes on with the next and fails in
the end. ``--reflink=always``, ``-l`` and ``-s`` do not fall back. Times and modes are kept.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from linker.conditions import Condition as C
from linker.modes import LinkMode
from linker.policies.rows import Rows, all_but, falls, graph, modelled, told_apart
from linker.policy import Policy, Promise, Step

_CLONE, _COPY = LinkMode.CLONE, LinkMode.COPY
_SOURCE = "coreutils/coreutils NEWS and src/copy.c ({}), read November 2026"


def _skips(platform: str, *modes: LinkMode) -> Rows:
    """Return the lines of modes that leave a file out, whatever they meet."""
    return tuple(edge for mode in modes for edge in falls(platform, mode, Step.SKIP, all_but()))


def _graph(platform: str, *clone: Rows) -> Rows:
    others = (mode for mode in LinkMode if mode is not _CLONE)
    return graph(platform, *clone, _skips(platform, *others))


def _any_error(platform: str) -> Rows:
    return _graph(platform, falls(platform, _CLONE, _COPY, all_but()))


def _cannot_be(platform: str) -> Rows:
    meant = (C.UNSUPPORTED, C.ATTRIBUTE, C.CROSS_DEVICE, C.BUSY)
    return _graph(
        platform,
        falls(platform, _CLONE, _COPY, meant),
        told_apart(platform, _CLONE, Step.SKIP, ("ENOTTY", "EISDIR", "EBUSY")),
        falls(platform, _CLONE, Step.SKIP, all_but(*meant)),
    )


def _no_trouble(platform: str) -> Rows:
    trouble = (C.IO, C.NO_MEMORY, C.NO_SPACE)
    return _graph(
        platform,
        falls(platform, _CLONE, _COPY, all_but(*trouble)),
        falls(platform, _CLONE, Step.SKIP, trouble),
    )


def _always(platform: str) -> Rows:
    return _graph(platform, _skips(platform, _CLONE))


def _policy(
    name: str,
    rows: Callable[[str], Rows],
    source: str,
    *,
    default: LinkMode = _CLONE,
    offloads: bool = True,
) -> Policy:
    waives = {Promise.WHOLE_NAMES, Promise.TOLD} | ({Promise.PLAIN_COPY} if offloads else set())
    return modelled(name=name, rows=rows, source=source, default=default, waives=frozenset(waives))


COREUTILS = _policy(
    "coreutils",
    _no_trouble,
    _SOURCE.format("from 9.3 on: is_terminal_error, handle_clone_fail") + "; held against cp 9.10",
)
COREUTILS_9_2 = _policy(
    "coreutils-9-2", _cannot_be, _SOURCE.format("9.2: is_CLONENOTSUP, handle_clone_fail")
)
COREUTILS_9_0 = _policy(
    "coreutils-9-0", _any_error, _SOURCE.format("9.0 and 9.1") + "; held against cp 9.1"
)
COREUTILS_8 = _policy(
    "coreutils-8",
    _any_error,
    _SOURCE.format("7.6 to 8.32, which copy by read and write"),
    default=_COPY,
    offloads=False,
)
COREUTILS_ALWAYS = _policy(
    "coreutils-always",
    _always,
    _SOURCE.format("--reflink=always, every version") + "; held against cp 9.1 and 9.10",
)

VERSIONS = (
    ((9, 3), COREUTILS.name),
    ((9, 2), COREUTILS_9_2.name),
    ((9, 0), COREUTILS_9_0.name),
    ((0,), COREUTILS_8.name),
)
"""The first version of each range, the newest first, and the policy of that range."""


def of_version(version: str) -> str:
    """Return the name of the policy of a version of cp, as ``cp --version`` has it."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    numbers = tuple(int(part) for part in found[0].split(".")) if found else (sys.maxsize,)
    return next(name for first, name in VERSIONS if numbers >= first)
