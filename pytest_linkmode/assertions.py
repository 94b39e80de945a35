"""assert_linked: a target is what linking a source in a mode must give, proven from disk.

Names are compared both ways, then types, bytes, permission bits and modification times, and the
mode of every file by evidence. What is wrong is told in a sentence and a table, not in a diff of
two lists that a reader would have to take apart.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from linker.modes import LinkMode
from pytest_linkmode.config import parse_mode
from pytest_linkmode.coverage import recorders
from pytest_linkmode.errors import UsageError
from pytest_linkmode.evidence import (
    AnyPath,
    Found,
    Proof,
    evidence,
    evidence_tree,
    type_of,
)

PERMISSIONS = "permissions"
MTIME = "mtime"
STAT = (PERMISSIONS, MTIME)
"""What of the stat of source and target is compared."""

SHOWN = 20
"""How many rows a failing assertion shows; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is wrong: where, what was expected, what was found, and what proves it."""

    path: str
    expected: str
    found: str
    proof: str
    why: str


@dataclass(frozen=True, slots=True)
class Linked:
    """What was proven of a target.

    `proofs` counts files by the fact that decided; `modes` by what it decided, where ``clone
    or copy`` are files whose bytes have no place on disk that could be compared.
    """

    mode: LinkMode
    files: int
    directories: int
    symlinks: int
    proofs: Mapping[str, int]
    modes: Mapping[str, int]


class LinkAssertionError(AssertionError):
    """A target is not what it must be. `rows` has everything that is wrong, sorted by path."""

    def __init__(self, message: str, rows: Sequence[Row]) -> None:
        super().__init__(message)
        self.rows = tuple(rows)


def assert_linked(
    source: AnyPath,
    target: AnyPath,
    mode: LinkMode | str | Mapping[str, LinkMode],
    *,
    mutable: Iterable[str] = (),
    ignore: Iterable[str] = (),
    existed: Iterable[str] = (),
    stat: Collection[str] = STAT,
    directories: Collection[str] = STAT,
) -> Linked:
    """Assert that `target` is what linking `source` in `mode` must give: a file or a whole tree.

    Where not all files end alike, `mode` maps their relative paths to modes, as
    `Layout.expected_tree` does.

    `mutable`, `ignore` and `existed` are glob patterns, held against the relative path if they
    have a slash, else against the name: files that must be copies whatever the mode; names that
    are not looked at on either side; directories that were there before, which keep their own
    permission bits and times. Of the roots themselves only the type is compared. `stat` names
    what is compared besides: ``permissions``, ``mtime``; of directories only as far as
    `directories` names it too.

    A file of which clone and copy look alike (no data, or inline data) passes as a clone only
    where a clone could be made, and as either only if it is independent of the source.

    Returns what was proven, and by what. Raises LinkAssertionError with all that is wrong, and
    UsageError if the arguments cannot be right, or the source is empty: that asserts nothing.
    """
    __tracebackhide__ = True
    wanted = mode if isinstance(mode, Mapping) else parse_mode(mode)
    ours, theirs = os.fsdecode(source), os.fsdecode(target)
    if not os.path.lexists(ours):
        raise UsageError(f"the source {shown(ours)!r} does not exist")
    if not os.path.isdir(ours):
        found = _one_file(ours, theirs)
    elif os.path.isdir(theirs):
        found = evidence_tree(ours, theirs, skip=matcher(ignore) if ignore else None)
    else:
        found = [Found(".", os.stat(ours), _lstat(theirs), evidence(ours, theirs))]
    rows = differences(
        found, wanted, mutable=mutable, existed=existed, stat=stat, directories=directories
    )
    usual = _usual(wanted)
    if rows:
        raise LinkAssertionError(_message(rows, found, ours, theirs, usual), rows)
    proven = summary(found, usual)
    if not proven.files + proven.directories + proven.symlinks:
        raise UsageError(
            f"the source {shown(ours)!r} is empty",
            why="nothing in it, but for what is ignored, can show how it was linked",
            hint="has it been filled, and is it the right directory?",
        )
    for recorder in recorders():
        recorder.proven(proven.proofs)
    return proven


def _usual(wanted: LinkMode | Mapping[str, LinkMode]) -> LinkMode:
    """Return the mode in which most files must end."""
    if isinstance(wanted, LinkMode):
        return wanted
    counted = Counter(wanted.values()).most_common(1)
    return counted[0][0] if counted else LinkMode.COPY


def differences(
    found: Sequence[Found],
    mode: LinkMode | Mapping[str, LinkMode],
    *,
    mutable: Iterable[str] = (),
    existed: Iterable[str] = (),
    stat: Collection[str] = STAT,
    directories: Collection[str] = STAT,
) -> list[Row]:
    """Return everything about `found` that is not as linking in `mode` must leave it.

    `found` is in the order of `evidence_tree`, the names of a directory right behind it.
    """
    wrong = {*stat, *directories} - set(STAT)
    if wrong:
        raise UsageError(
            f"stat={sorted(wrong)} cannot be compared", hint=f"choose from {', '.join(STAT)}"
        )
    is_mutable, was_there = matcher(mutable), matcher(existed)
    rows: list[Row] = []
    hidden = ""  # the directory of one side only whose names are not told one by one
    for one in found:
        if hidden and one.path.startswith(hidden):
            continue
        if one.source is None or one.target is None:
            hidden = f"{one.path}/"
            rows.append(_one_sided(one, found))
            continue
        if is_mutable(one.path):
            expected = LinkMode.COPY
        elif isinstance(mode, LinkMode):
            expected = mode
        else:
            expected = mode.get(one.path, LinkMode.COPY)  # only files are asked for theirs
        row = _mode_row(one, expected)
        if row is not None:
            rows.append(row)
            if one.evidence.proof is Proof.DIFFERENT_TYPES:
                hidden = f"{one.path}/"
        elif not was_there(one.path):
            is_directory = type_of(one.source) == "directory"
            rows += _stat_rows(one, set(stat) & set(directories) if is_directory else stat)
    return rows


def summary(found: Iterable[Found], mode: LinkMode) -> Linked:
    """Return what `found` proves, counted."""
    kinds: Counter[str] = Counter()
    proofs: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    for one in found:
        if one.source is None:
            continue
        kind = type_of(one.source)
        kinds[kind] += 1
        if kind == "file":
            proofs[one.evidence.proof.value] += 1
            modes[one.evidence.found] += 1
    return Linked(
        mode, kinds["file"], kinds["directory"], kinds["symlink"], dict(proofs), dict(modes)
    )


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return whether a relative path matches one of the glob `patterns`.

    A pattern with a slash is held against the path, one without against the last name, as
    `link_tree` does with its `mutable`.
    """
    given = [patterns] if isinstance(patterns, str) else list(patterns)
    names = "|".join(fnmatch.translate(each) for each in given if "/" not in each)
    paths = "|".join(fnmatch.translate(each) for each in given if "/" in each)
    by_name, by_path = re.compile(names), re.compile(paths)

    def matches(path: str) -> bool:
        if names and by_name.match(path.rpartition("/")[2]):
            return True
        return bool(paths and by_path.match(path))

    return matches


def shown(name: str) -> str:
    """Return a name as it can be printed anywhere: odd bytes and control characters escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


# --- rows ------------------------------------------------------------------------------------


def _one_file(source: str, target: str) -> list[Found]:
    name = os.path.basename(os.path.abspath(source))
    return [Found(name, os.lstat(source), _lstat(target), evidence(source, target))]


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _one_sided(one: Found, found: Sequence[Found]) -> Row:
    """Return the row of a name that only one tree has; a directory stands for what is in it."""
    there = one.source or one.target
    assert there is not None  # a name that was found is on one side at least
    here = type_of(there)
    why = one.evidence.why
    below = sum(1 for each in found if each.path.startswith(f"{one.path}/"))
    if below:
        why += f", nor the {_count(below, 'name')} below it"
    expected, seen = (here, "nothing") if one.target is None else ("nothing", here)
    return Row(one.path, expected, seen, one.evidence.proof.value, why)


def _mode_row(one: Found, mode: LinkMode) -> Row | None:
    seen = one.evidence
    assert one.source is not None
    assert one.target is not None
    kind, proof = type_of(one.source), seen.proof.value
    if kind == "file":
        if seen.allows(mode):
            return None
        if seen.candidates:
            here = seen.found
        elif seen.proof in (Proof.DIFFERENT_TYPES, Proof.DIFFERENT_LINK):
            here = type_of(one.target)
        else:
            here = "no link"
        return Row(one.path, mode.value, here, proof, seen.why)
    if seen.proof in (Proof.DIRECTORY, Proof.RECREATED):
        return None
    # Source symlinks are recreated in every mode, never linked to.
    return Row(one.path, kind, type_of(one.target), proof, seen.why)


def _stat_rows(one: Found, wanted: Collection[str]) -> Iterator[Row]:
    ours, theirs = one.source, one.target
    assert ours is not None
    assert theirs is not None
    if stat.S_ISLNK(theirs.st_mode) or (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino):
        return  # a symlink's own bits and times say nothing about what it shows
    for word, read in _READERS.items():
        before, after = read(ours), read(theirs)
        if word in wanted and before != after:
            what = f"the {type_of(ours)} has other {_WORDS[word]} than its source"
            yield Row(one.path, f"{word} {before}", f"{word} {after}", "stat", what)


def _permissions(status: os.stat_result) -> str:
    return f"{status.st_mode & 0o777:04o}"


def _mtime(status: os.stat_result) -> str:
    seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
    return f"{seconds}.{nanoseconds:09d}"


_READERS: Mapping[str, Callable[[os.stat_result], str]] = {
    PERMISSIONS: _permissions,
    MTIME: _mtime,
}
_WORDS: Mapping[str, str] = {PERMISSIONS: "permission bits", MTIME: "times"}


# --- the message -----------------------------------------------------------------------------

_WIDEST = 60


def _message(
    rows: Sequence[Row], found: Sequence[Found], source: str, target: str, mode: LinkMode
) -> str:
    wrong = len({row.path for row in rows})
    where = f"{shown(target)!r} is not a {mode} of {shown(source)!r}"
    if len(found) == 1:
        return f"{where}:\n\n" + table(rows)
    head = f"{where}: {_count(wrong, 'name')} of {len(found)} {'is' if wrong == 1 else 'are'} wrong"
    rest = len(rows) - SHOWN
    more = f"\n... and {_count(rest, 'row')} more" if rest > 0 else ""
    return f"{head}\n\n{table(rows[:SHOWN])}{more}"


HEADING = ("path", "expected", "found", "proof", "why")


def table(rows: Sequence[Row]) -> str:
    """Return `rows` as an aligned table with a head."""
    lines = [HEADING]
    lines += [
        (_middle(shown(row.path)), row.expected, row.found, row.proof, shown(row.why))
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "\n".join(
        "  ".join(
            (*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[4])
        )
        for line in lines
    )


def _middle(text: str) -> str:
    """Return `text` with its middle left out if it is very long."""
    if len(text) <= _WIDEST:
        return text
    half = (_WIDEST - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
