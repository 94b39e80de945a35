"""What an operation touches, so that it can be told which operations may change places.

Two operations of different actors *commute* if neither changes what the other looks at. A footprint
maps what was touched to how; what is touched is a name (a path) or the set of names in a directory
(the path and a slash). Every operation also looks at the directories above its path, so that a
rename of a directory conflicts with everything below it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

Footprint = Mapping[str, int]

READ = 1
WRITE = 2
LIST = 4
"""Looks at the whole set of names in a directory."""
ADD = 8
"""Adds to that set or takes from it: any two of these commute, as far as their names differ."""

_AGAINST = {READ: WRITE, WRITE: READ | WRITE, LIST: ADD, ADD: LIST}
AGAINST: tuple[int, ...] = tuple(
    sum({bit for own in _AGAINST if own & mode for bit in _AGAINST if bit & _AGAINST[own]})
    for mode in range(16)
)
"""For each way to touch something the ways of another that conflict with it."""
BITS: tuple[tuple[int, ...], ...] = tuple(
    tuple(bit for bit in _AGAINST if bit & mode) for mode in range(16)
)


def conflict(one: Footprint, other: Footprint) -> bool:
    """Return whether two operations may come out otherwise if they change places."""
    if len(other) < len(one):
        one, other = other, one
    for key, mode in one.items():  # noqa: SIM110  # `any` takes twice as long, for each turn
        if key in other and AGAINST[mode] & other[key]:
            return True
    return False


def union(*footprints: Footprint) -> Footprint:
    """Return what several touch together."""
    joined: dict[str, int] = {}
    for footprint in footprints:
        for key, mode in footprint.items():
            joined[key] = joined.get(key, 0) | mode
    return joined


class _Cached(dict[str, Footprint]):
    """Path -> footprint, made once: the same few paths come back in every schedule."""

    def __init__(self, roots: tuple[str, ...]) -> None:
        super().__init__()
        self._roots = roots

    def above(self, path: str) -> dict[str, int]:
        """Return the directories that lead to a path, looked at."""
        found = {}
        while path not in self._roots and len(path) > 1:
            path = os.path.dirname(path)
            found[path] = READ
        return found


class Reads(_Cached):
    """A name is looked at."""

    def __missing__(self, path: str) -> Footprint:
        self[path] = {**self.above(path), path: READ}
        return self[path]


class Writes(_Cached):
    """A name is made, replaced, removed, or what it stands for is changed."""

    def __missing__(self, path: str) -> Footprint:
        above = os.path.dirname(path) + "/"
        self[path] = {**self.above(path), path: READ | WRITE, above: ADD}
        return self[path]


class Lists(_Cached):
    """The names in a directory are looked at."""

    def __missing__(self, path: str) -> Footprint:
        self[path] = {**self.above(path), path: READ, path + "/": LIST}
        return self[path]


class Removals(_Cached):
    """A directory is removed, which depends on what is in it."""

    def __missing__(self, path: str) -> Footprint:
        self[path] = union(Writes(self._roots)[path], Lists(self._roots)[path])
        return self[path]


class Pairs(dict[tuple[str, str, str | None, str | None], Footprint]):
    """Two paths, each touched in its way; None is one that nobody else can notice."""

    def __init__(self, ways: Mapping[str, Mapping[str, Footprint]]) -> None:
        super().__init__()
        self._ways = ways

    def __missing__(self, key: tuple[str, str, str | None, str | None]) -> Footprint:
        pairs = ((key[0], key[2]), (key[1], key[3]))
        self[key] = union(*(self._ways[way][path] for way, path in pairs if path is not None))
        return self[key]
