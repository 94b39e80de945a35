"""One cell of the matrix: link a tree in a mode, then find out from disk what became of it.

Nothing here believes the linker. What every name of both trees has become is taken from evidence,
permission bits and modification times are compared, the source is checked for not having been
touched, and only then is the linker's own report held against all that.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from linker import LinkMode, LinkReport
from pytest_linkmode.capabilities import FIXED_PERMISSIONS
from pytest_linkmode.evidence import Evidence, Found

NOTHING = "nothing"
"""What a file ended as, where the facts rule out every mode."""

SHOWN = 20
"""How many differences of a cell are told in full; all are counted."""


@dataclass(frozen=True)
class Cell:
    """One layout in one mode: what was expected, what happened, and how long it took.

    `happened` counts files by what the evidence says of them: a mode, or "clone or copy" where the
    disk cannot tell these two apart (a file without data, or with data inside metadata). `proofs`
    counts them by the fact that decided. `differences` is how many things are not as they should
    be; the first of them are told in `told`. Times are in seconds.
    """

    layout: str
    mode: str
    expected: str
    happened: Mapping[str, int] = field(default_factory=dict)
    proofs: Mapping[str, int] = field(default_factory=dict)
    differences: int = 0
    told: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    linked_in: float = 0.0
    proven_in: float = 0.0

    @property
    def files(self) -> int:
        """How many files the cell speaks of."""
        return sum(self.happened.values())

    @property
    def ok(self) -> bool:
        """Whether all is as it should be, and at least one file proves the mode expected."""
        return self.differences == 0 and self.happened.get(self.expected, 0) > 0


Snapshot = Mapping[str, os.stat_result]


def _walk(directory: str, below: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(os.path.join(directory, below) if below else directory) as entries:
        found = list(entries)
    for entry in found:
        path = f"{below}/{entry.name}" if below else entry.name
        yield path, entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(directory, path)


def snapshot(directory: str) -> Snapshot:
    """Return the lstat of everything below `directory` by relative path."""
    return dict(_walk(directory, ""))


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """Return what must not change about an entry of the source.

    Its links and its ctime may; and the size of a directory is the filesystem's own affair.
    """
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return (status.st_ino, status.st_mode, size, status.st_mtime_ns)


def touched(before: Snapshot, after: Snapshot) -> tuple[str, ...]:
    """Return one sentence for each entry of the source that linking changed."""
    said = []
    for path in sorted(before.keys() | after.keys()):
        if path not in after:
            said.append(f"{path}: gone from the source")
        elif path not in before:
            said.append(f"{path}: appeared in the source")
        elif _identity(before[path]) != _identity(after[path]):
            said.append(f"{path}: changed in the source")
    return tuple(said)


def stat_differs(
    source: os.stat_result, target: os.stat_result, can: Container[str] = ()
) -> tuple[str, ...]:
    """Return what is odd about the bits and the time of a target that is no symlink.

    `can` are the capabilities of the pair: where permission bits are fixed, no linker can set them.
    """
    said = []
    if FIXED_PERMISSIONS not in can and stat.S_IMODE(source.st_mode) != stat.S_IMODE(
        target.st_mode
    ):
        bits = f"{stat.S_IMODE(target.st_mode):o}, not {stat.S_IMODE(source.st_mode):o}"
        said.append(f"permission bits {bits}")
    if source.st_mtime_ns != target.st_mtime_ns:
        said.append("another modification time")
    return tuple(said)


def named(evidence: Evidence) -> str:
    """Return what the facts say a file is: a mode, several that cannot be told apart, nothing."""
    if evidence.mode is not None:
        return str(evidence.mode)
    return " or ".join(str(mode) for mode in LinkMode if evidence.allows(mode)) or NOTHING


def odd(found: Found, expected: LinkMode, can: Container[str] = ()) -> tuple[str, ...]:
    """Return what is not as it should be about one name of the two trees."""
    source, target = found.source, found.target
    if source is None or target is None:
        return (f"{found.evidence.proof}: {found.evidence.why}",)
    said = []
    if not found.evidence.allows(expected):
        said.append(f"{named(found.evidence)}, not {expected} ({found.evidence.why})")
    if not stat.S_ISLNK(target.st_mode):
        said += stat_differs(source, target, can)
    return tuple(said)


def report_differs(report: LinkReport, expected: LinkMode, files: int) -> tuple[str, ...]:
    """Return where the linker's report says something else than what should have happened."""
    claimed = {str(mode): count for mode, count in report.counts.items() if count}
    said = []
    if claimed != {str(expected): files}:
        numbers = ", ".join(f"{mode} {count:,}" for mode, count in claimed.items())
        said.append(f"the linker's report claims {numbers or NOTHING} of {files:,} files")
    if expected is not report.requested and not report.transitions:
        said.append("the linker's report names no fallback")
    return tuple(said)


def judge(
    layout: str,
    mode: LinkMode,
    expected: LinkMode,
    found: Iterable[Found],
    touched_source: Iterable[str],
    report: LinkReport,
    can: Container[str] = (),
) -> Cell:
    """Put together what was found into one cell, without its times."""
    happened: Counter[str] = Counter()
    proofs: Counter[str] = Counter()
    differences = []
    for one in found:
        differences += [f"{one.path}: {what}" for what in odd(one, expected, can)]
        if one.source is not None and stat.S_ISREG(one.source.st_mode):
            happened[named(one.evidence)] += 1
            proofs[str(one.evidence.proof)] += 1
    differences += touched_source
    differences += report_differs(report, expected, sum(happened.values()))
    return Cell(
        layout=layout,
        mode=str(mode),
        expected=str(expected),
        happened=dict(happened.most_common()),
        proofs=dict(proofs.most_common()),
        differences=len(differences),
        told=tuple(differences[:SHOWN]),
        fallbacks=tuple(dict.fromkeys(one.edge.id for one in report.transitions)),
    )
