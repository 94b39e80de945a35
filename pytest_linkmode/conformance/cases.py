"""One case of the suite: a linker, a mode, a source and a target, and how it must end."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import pytest

from linker.modes import LinkMode
from linker.policy import Promise
from pytest_linkmode.adapters import Adapter, AdapterResult
from pytest_linkmode.assertions import MTIME, PERMISSIONS, STAT, assert_linked, matcher
from pytest_linkmode.capabilities import COARSE_TIMES, FIXED_PERMISSIONS
from pytest_linkmode.layouts import Layout
from pytest_linkmode.processes import last_lines
from pytest_linkmode.samples import ODD_NAMES
from pytest_linkmode.snapshots import Picture, changes

SHOWN = 20
"""As many changes of a tree as a failing test tells."""

_NOT_KEPT = {PERMISSIONS: FIXED_PERMISSIONS, MTIME: COARSE_TIMES}
_OF_FILES = {PERMISSIONS: Promise.FILE_PERMISSIONS, MTIME: Promise.FILE_TIMES}
_OF_DIRECTORIES = {PERMISSIONS: Promise.DIRECTORY_PERMISSIONS, MTIME: Promise.DIRECTORY_TIMES}


@dataclass(frozen=True)
class Case:
    """Where a linker is asked for `mode`: source and target of a layout, both empty at first."""

    linker: Adapter
    mode: LinkMode
    layout: Layout

    @property
    def source(self) -> pathlib.Path:
        """The directory that is linked."""
        return self.layout.source

    @property
    def target(self) -> pathlib.Path:
        """The directory into which it is linked."""
        return self.layout.target

    @property
    def expected(self) -> LinkMode:
        """The mode in which files must end, but for those in a special directory."""
        return self.layout.expect(self.mode)

    @property
    def modes(self) -> Mapping[str, LinkMode]:
        """The mode in which each file must end, by relative path."""
        return self.layout.expected_tree(self.mode)

    @property
    def stat(self) -> tuple[str, ...]:
        """What of the stat of the source's files is kept: what the target can, and what the
        policy does not waive.
        """
        return self._kept(_OF_FILES)

    @property
    def directory_stat(self) -> tuple[str, ...]:
        """The same of new directories."""
        return self._kept(_OF_DIRECTORIES)

    def _kept(self, promises: Mapping[str, Promise]) -> tuple[str, ...]:
        can, waives = self.layout.can, self.layout.policy.waives
        return tuple(
            word for word in STAT if _NOT_KEPT[word] not in can and promises[word] not in waives
        )

    def needs(self, *promises: Promise) -> None:
        """Skip a test of promises that the system which the policy models does not make."""
        policy = self.layout.policy
        waived = [str(promise) for promise in promises if promise in policy.waives]
        if waived:
            pytest.skip(f"not applicable: {policy.name} does not promise {', '.join(waived)}")

    def link(self, mode: LinkMode | None = None) -> AdapterResult:
        """Seal the source and link it into the target. Raises AdapterError.

        What a program printed is shown with a test that fails.
        """
        import linker.engine  # noqa: F401  # another user may not be able to read it

        __tracebackhide__ = True
        self.layout.seal()
        with self.layout.acting():
            done = self.linker.link(self.source, self.target, mode or self.mode)
        if done.output:
            from linker.cli import encodable  # -s may lead to what has no such letter

            said = encodable(last_lines(done.output), sys.stdout)
            print(said)  # noqa: T201  # pytest shows it with a failure
        return done

    def check(
        self,
        *,
        existed: Iterable[str] = (),
        ignore: Iterable[str] = (),
        stat: Iterable[str] = STAT,
    ) -> None:
        """Assert that the target is what it must be; the arguments are those of `assert_linked`."""
        __tracebackhide__ = True
        assert_linked(
            self.source,
            self.target,
            self.modes,
            existed=[*existed, *self.layout.existed],
            ignore=[*ignore, *self.layout.strangers],
            stat=[word for word in stat if word in self.stat],
            directories=self.directory_stat,
        )

    @property
    def outside(self) -> pathlib.Path:
        """A directory on the filesystem of the target, beside it: nobody's business."""
        path = self.target.with_name(f"{self.target.name[:200]}-outside")
        path.mkdir(exist_ok=True)
        return path

    def source_files(self) -> list[str]:
        """Return the relative paths of all files of the source."""
        return [
            _relative(os.path.join(above, name), self.source)
            for above, _, names in os.walk(self.source)
            for name in names
            if not os.path.islink(os.path.join(above, name))
        ]

    def names(self) -> list[str]:
        """Return everything below the target, by relative path, that the layout did not put there.

        Directories that the layout made are not told from those that were linked.
        """
        is_stranger = matcher(self.layout.strangers)
        return [name for name in names(self.target) if not is_stranger(name)]

    def has_holes(self) -> bool:
        """Whether files of the target can have holes, and files of the source say where."""
        for directory in (self.target, self.source):
            path = directory / "hole"
            try:
                path.touch()
            except OSError:  # sealed already: the same filesystem as before
                continue
            os.truncate(path, 1 << 20)
            with path.open("rb") as file:
                blocks = getattr(path.stat(), "st_blocks", None)  # Windows counts none
                known = blocks == 0 and _data_begins(file.fileno()) is None
            path.unlink()
            if not known:
                return False
        return True

    def leave_out_what_cannot_arrive(self) -> None:
        """Take names and symlinks that the target cannot have out of the source.

        There every linker must fail, and nothing else could be seen.
        """
        scratch = self.outside / "scratch"
        scratch.mkdir()
        odd = {name for name in ODD_NAMES if not _can_be_replaced(scratch, name)}
        symlinks = _has_symlinks(scratch)
        shutil.rmtree(scratch)
        for above, directories, found in os.walk(self.source):
            for name in (*directories, *found):
                path = pathlib.Path(above, name)
                if name in odd or (path.is_symlink() and not symlinks):
                    path.unlink()


def _data_begins(file: int) -> int | None:
    try:
        return os.lseek(file, 0, os.SEEK_DATA)
    except OSError:
        return None


def _can_be_replaced(scratch: pathlib.Path, name: str) -> bool:
    """Whether a directory can have a file of that name, and another take its place."""
    place, new = scratch / name, scratch / "new"
    try:
        place.touch()
        new.touch()
        new.replace(place)
    except OSError:
        return False
    # ntfs-3g leaves another name behind where one is as long as can be.
    clean = os.listdir(scratch) == [name]
    place.unlink()
    return clean


def _has_symlinks(scratch: pathlib.Path) -> bool:
    try:
        (scratch / "link").symlink_to("nowhere")
    except OSError:
        return False
    return True


def assert_unchanged(
    what: str,
    before: Mapping[str, Picture],
    after: Mapping[str, Picture],
    *,
    but: Collection[str] = (),
    added: bool = True,
) -> None:
    """Assert that `what` (the source, the target) is as it was; the rest is as in `changes`."""
    __tracebackhide__ = True
    changed = changes(before, after, but=but, added=added)
    if changed:
        more = [f"... and {len(changed) - SHOWN} more"] if len(changed) > SHOWN else []
        raise AssertionError("\n  ".join([f"{what} is not as it was:", *changed[:SHOWN], *more]))


def names(directory: pathlib.Path) -> list[str]:
    """Return everything below a directory, by relative path."""
    found = []
    for above, directories, files in os.walk(directory):
        found += [
            _relative(os.path.join(above, name), directory) for name in (*directories, *files)
        ]
    return sorted(found)


def _relative(path: str, root: pathlib.Path) -> str:
    """Return a relative path, with slashes on every system."""
    return os.path.relpath(path, root).replace(os.sep, "/")
