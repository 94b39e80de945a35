"""What is to go wrong: `Fault` and `Kill`, and the line in which both are written.

One specification serves every injector. Written out, it reads ``clone:EOPNOTSUPP:nth=3`` or
``rename:kill-after:path=*/RECORD``; `parse` and `format_fault` are each other's inverse, so what a
failing run prints is what one types to see it again.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property, lru_cache
from typing import Literal

from pytest_linkmode.errors import UsageError

WINDOWS = "ERROR_"
"""What the names of Windows' errors begin with."""

OPS: tuple[str, ...] = (
    "clone",
    "hardlink",
    "symlink",
    "copy",
    "create",
    "mkdir",
    "rename",
    "unlink",
)
"""What can be made to fail. `unlink` is the removal of any name, so of empty directories too."""

WITHIN: tuple[str, ...] = ("open", "close", "read", "stamp", "lock")
"""What else can be made to fail in the reference linker, by `linking`: opening what is there,
looking at it, giving it its mode and times, and locking it. A program makes thousands of such calls
that are nobody's link, so there these ops are refused."""

NO_EFFECT = "NOEFFECT"
"""Success that did nothing."""
SHORT = "SHORT"
"""Success that did less than was asked: half of the bytes."""

EFFECTS: dict[str, frozenset[str]] = {
    # A created file without a descriptor for it is no success, so `create` cannot do nothing.
    NO_EFFECT: frozenset(OPS) - {"create"},
    SHORT: frozenset({"copy", "clone"}),
}
"""The faults that are no errors, and the ops that can have them."""

ERRORS: tuple[str, ...] = (
    "EXDEV",
    "EOPNOTSUPP",
    "ENOTTY",
    "ENOSYS",
    "EPERM",
    "EACCES",
    "EINVAL",
    "EAGAIN",
    "EMLINK",
    "ENOSPC",
    "EDQUOT",
    "EIO",
    "EROFS",
    "ENOENT",
    "EEXIST",
    "EINTR",
    "ENOMEM",
    "EMFILE",
    "ENAMETOOLONG",
    "ETXTBSY",
    "EBUSY",
)
"""Every error that a linker was ever seen to meet, at whatever call."""

_FULL = ("ENOSPC", "EDQUOT", "EIO", "EROFS")
_NAME = ("EACCES", "EPERM", *_FULL)

MET: dict[str, tuple[str, ...]] = {
    "clone": (
        *("EXDEV", "EOPNOTSUPP", "ENOTTY", "ENOSYS", "EINVAL", "EAGAIN", "ETXTBSY"),
        *("EPERM", "EACCES", *_FULL, NO_EFFECT),
    ),
    "hardlink": ("EXDEV", "EMLINK", "EEXIST", "ENOENT", "EOPNOTSUPP", *_NAME, NO_EFFECT),
    "symlink": ("EEXIST", "ENAMETOOLONG", "ENOSYS", *_NAME, NO_EFFECT),
    "copy": (*_FULL, "EINTR", "ENOMEM", SHORT),
    "create": ("EEXIST", "ENOENT", "EMFILE", "ENAMETOOLONG", *_NAME),
    "mkdir": ("EEXIST", "ENOENT", "EMLINK", *_NAME),
    "rename": ("EXDEV", "EEXIST", "ENOENT", "EINVAL", "EBUSY", *_NAME),
    "unlink": ("ENOENT", "EBUSY", "EIO", "EACCES", "EPERM", "EROFS"),
}
"""The errors that each op meets in the field (ioctl_ficlone(2), link(2), … and the trackers named
in the explanation): what a sweep tries unless it is told otherwise."""

When = Literal["before", "after"]


@dataclass(frozen=True)
class _Where:
    """Which calls are meant: the fields that `Fault` and `Kill` have in common.

    `nth` counts, from 1 and over the whole program with its threads and children, the calls that
    everything else here agrees with; None means all of them. `path` is a glob (its ``*`` matches
    ``/`` too) that any path of the call may match; `below` a directory in which the call must make,
    replace or remove a name; `way` one system call by name. A copy is counted once per file,
    however many calls it takes, and a fault that hits it hits each of them.
    """

    op: str

    def _check(self, nth: int | None) -> None:
        if self.op not in OPS and self.op not in WITHIN:
            meant = _meant(self.op)
            raise UsageError(
                f"unknown op {self.op!r} of a fault",
                why=f"ops are {', '.join(OPS)}",
                hint=f"did you mean {meant!r}?" if meant else _HINT,
            )
        if nth is not None and nth < 1:
            raise UsageError(f"nth={nth} of a fault", why="calls are counted from 1", hint=_HINT)


@dataclass(frozen=True)
class Fault(_Where):
    """An op that does not do what it was asked to: an error, nothing, or only a part.

    `errno_name` is the name of an error as on this platform (``EOPNOTSUPP``) or in winerror.h
    (``ERROR_SHARING_VIOLATION``, for code that runs on Windows or as if it did), ``NOEFFECT`` for
    success that did nothing, or ``SHORT`` for a copy or clone of half the bytes. EINTR hits a call
    once, and its repetition goes through: whoever retries it for ever would never end.

    Raises UsageError for words that mean nothing.
    """

    errno_name: str
    nth: int | None = None
    path: str | None = None
    below: str | None = None
    way: str | None = None

    def __post_init__(self) -> None:
        self._check(self.nth)
        name = self.errno_name
        if name in EFFECTS:
            if self.op not in EFFECTS[name]:
                able = ", ".join(op for op in OPS if op in EFFECTS[name])
                raise UsageError(f"{self.op} cannot have {name}", why=f"only {able} can")
        elif name.startswith(WINDOWS):
            from linker.platforms.windows import NUMBERS  # only where somebody speaks of Windows

            if name not in NUMBERS:
                close = difflib.get_close_matches(name, NUMBERS, n=1)
                raise UsageError(
                    f"unknown error {name!r} of a fault",
                    why="the reference linker knows no error of Windows of that name",
                    hint=f"did you mean {close[0]!r}?" if close else "",
                )
        elif not hasattr(errno, name) or not name.startswith("E"):
            known = [*EFFECTS, *(each for each in dir(errno) if each.startswith("E"))]
            close = difflib.get_close_matches(name.upper(), known, n=1)
            raise UsageError(
                f"unknown error {name!r} of a fault",
                why="this platform has no error of that name",
                hint=f"did you mean {close[0]!r}?" if close else "",
            )

    @property
    def number(self) -> int | None:
        """The number of the error here, or None for NOEFFECT, SHORT and errors of winerror.h."""
        number: int | None = getattr(errno, self.errno_name, None)
        return number

    @property
    def always(self) -> bool:
        """Whether every call of the op fails with the same error, whatever it is about."""
        everywhere = self.nth is None and self.path is None and self.below is None
        return everywhere and self.number is not None and self.errno_name != "EINTR"

    @cached_property
    def matches(self) -> Matcher:
        """Whether a call's paths are meant."""
        return matcher(self.path, self.below)

    def __str__(self) -> str:
        return format_fault(self)


@dataclass(frozen=True)
class Kill(_Where):
    """SIGKILL to the whole program before or after a call.

    `when` is ``"before"``: the call does not happen, or ``"after"``: it has returned, and nothing
    else of that thread has run. After a copy means: the first call of it has returned.
    """

    nth: int | None = None
    when: When = "before"
    path: str | None = None
    below: str | None = None
    way: str | None = None

    def __post_init__(self) -> None:
        self._check(self.nth)
        if self.when not in ("before", "after"):
            raise UsageError(f"when={self.when!r} of a kill", why="it is 'before' or 'after'")

    @cached_property
    def matches(self) -> Matcher:
        """Whether a call's paths are meant."""
        return matcher(self.path, self.below)

    def __str__(self) -> str:
        return format_fault(self)


class Matcher:
    """Whether the paths of a call are those that a fault is about."""

    def __init__(self, path: str | None, below: str | None) -> None:
        self._glob = _glob(path) if path is not None else None
        self._below: tuple[str, ...] = ()
        if below is not None:
            # The program may spell the directory either way.
            spelled = {os.path.abspath(below), os.path.realpath(below)}
            self._below = tuple(os.path.join(each, "").replace(os.sep, "/") for each in spelled)

    def __call__(self, paths: tuple[str, ...], changed: int) -> bool:
        """Return whether `paths` are meant; the last `changed` of them name what is changed."""
        if os.sep == "\\":
            paths = tuple(path.replace("\\", "/") for path in paths)
        if self._glob is not None and not any(self._glob(path) for path in paths):
            return False
        if not self._below:
            return True
        meant = paths[len(paths) - changed :]
        # Or it leads there through a link of which only the filesystem knows.
        return any(path.startswith(self._below) for path in meant) or any(
            followed(path).replace(os.sep, "/").startswith(self._below) for path in meant
        )

    @property
    def anything(self) -> bool:
        """Whether every call is meant."""
        return self._glob is None and not self._below


def followed(path: str) -> str:
    """Return a path without symbolic links in it, but for one that is its last part: a call that
    changes a name changes the link.
    """
    above, name = os.path.split(path)
    return os.path.join(os.path.realpath(above), name) if above and name else path


@lru_cache(maxsize=1024)
def _glob(pattern: str):  # type: ignore[no-untyped-def]  # a bound method of re.Pattern
    return re.compile(translate(pattern)).match


@lru_cache(maxsize=1024)
def matcher(path: str | None, below: str | None) -> Matcher:
    """Return the matcher of a glob and a directory, either of which may be missing."""
    return Matcher(path, below)


Spec = Fault | Kill

_HINT = "as in clone:EOPNOTSUPP:nth=3, copy:SHORT or rename:kill-after:path=*/RECORD"


def _meant(word: str) -> str:
    """Return the op that a word may stand for: the one that a system call of that name does, as
    ``link`` and ``rmdir``, or the one that is spelled most like it; empty if there is none.
    """
    from pytest_linkmode.faults.ops import WAYS  # only where somebody has mistaken a word

    if word == "reflink":
        return "clone"
    for way in WAYS:
        if way.call == word:
            return way.op
    return next(iter(difflib.get_close_matches(word, OPS, n=1)), "")


_KILLS: dict[str, When] = {"kill-before": "before", "kill-after": "after"}


def parse(text: str) -> Spec:
    r"""Return what a line of the form ``OP:WHAT[:KEY=VALUE]…`` asks for.

    WHAT is the name of an error, ``NOEFFECT``, ``SHORT``, ``kill-before`` or ``kill-after``; keys
    are nth, path, below and way. A colon or backslash inside a value is written ``\:`` or ``\\``.

    Raises UsageError, saying what was expected, for anything else.
    """
    fields = _split(text.strip())
    if len(fields) < 2:
        raise UsageError(f"cannot read the fault {text!r}", why="an op and an error", hint=_HINT)
    op, what, *rest = fields
    values: dict[str, str] = {}
    for field in rest:
        key, equals, value = field.partition("=")
        if not equals or key not in ("nth", "path", "below", "way") or key in values:
            raise UsageError(
                f"cannot read {field!r} in the fault {text!r}",
                why="after the error come nth=, path=, below= and way=, each once",
                hint=_HINT,
            )
        values[key] = value
    nth: int | None = None
    if "nth" in values:
        number = values.pop("nth")
        if not number.isdecimal():
            what = f"cannot read nth={number} in the fault {text!r}"
            raise UsageError(what, why="it is no whole number", hint=_HINT)
        nth = int(number)
    if what in _KILLS:
        return Kill(op, nth, _KILLS[what], **values)
    return Fault(op, what, nth, **values)


def format_fault(fault: Spec) -> str:
    """Return the line that `parse` reads as `fault`."""
    what = f"kill-{fault.when}" if isinstance(fault, Kill) else fault.errno_name
    fields = [fault.op, what]
    if fault.nth is not None:
        fields.append(f"nth={fault.nth}")
    for key, value in (("path", fault.path), ("below", fault.below), ("way", fault.way)):
        if value is not None:
            fields.append(f"{key}={_escape(value)}")
    return ":".join(fields)


def specs_of(faults: Iterable[Spec | str] | Spec) -> tuple[Spec, ...]:
    """Return faults that are given as what they are or as lines, several or one.

    Raises UsageError for anything else.
    """
    given: object = (faults,) if isinstance(faults, (str, bytes, Fault, Kill)) else faults
    found: list[Spec] = []
    for each in given if isinstance(given, Iterable) else (given,):
        if not isinstance(each, (str, Fault, Kill)):
            raise UsageError(
                f"{each!r} is no fault",
                why=f"a fault is a Fault, a Kill or a line of text, not {type(each).__name__}",
                hint=_HINT,
            )
        found.append(parse(each) if isinstance(each, str) else each)
    return tuple(found)


def parse_all(lines: Iterable[str]) -> tuple[Spec, ...]:
    """Return what several lines ask for, as `parse` does."""
    return tuple(parse(line) for line in lines)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(":", "\\:")


def _split(text: str) -> list[str]:
    fields = [""]
    characters = iter(text)
    for character in characters:
        if character == "\\":
            fields[-1] += next(characters, "\\")
        elif character == ":":
            fields.append("")
        else:
            fields[-1] += character
    return fields
