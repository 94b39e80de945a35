"""Content-addressed source: each file is kept once, by the digest of what is in it.

So cacache, pnpm and Orogene link: a manifest says which content belongs at which path, and the
files come from one place that all packages share. What enters is hashed as it was written, what
leaves is hashed before the first name of a target is touched; and the linking itself is the
engine's, with every promise that it makes of directories.

On disk, below the store's directory::

    store.json                     format and version
    files/sha256/ab/cdef...        one file for each digest (read-only, 0444)
    files/sha256/ab/cdef...-x      the same content as an executable (0555)

A file is either not there or whole: it is written in a stage beside `files`, which is locked while
its process lives, and gets its name by one rename.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat as st
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final, TypeVar

from linker import HERE
from linker.conditions import Condition, Primitive
from linker.engine import Progress, link_source
from linker.failures import condition, insist, link_error, printable
from linker.inputs import check_paths, check_roots
from linker.journal import RESERVED, STAGE, Stage, open_stage, place, recover
from linker.manifest import ALGORITHMS, Branch, Entry, Manifest
from linker.merging import BUSY_PATIENCE, PATIENCE
from linker.modes import Existing, LinkMode
from linker.platforms import current
from linker.platforms.base import Buffer, Failed, Kind, Platform
from linker.policies import REFERENCE
from linker.policy import Policy
from linker.report import LinkError, LinkReport, Observer
from linker.sources import Contents, DirectorySource, Shelf, survey
from linker.tree import Lost, Node, StrPath, Trail, absolute, text_of, walk

_T = TypeVar("_T")

FORMAT: Final = "linker-store"
VERSION: Final = 1
"""Of the layout above; a store of another one is refused."""

MTIME: Final = 499_162_500
"""When every file was last modified, in seconds: 1985-10-26, as in what npm packs.

One for all, so that a hard link has the time that a copy has. Not 0, which zip files cannot hold
and programs take for "unknown".
"""

MODES: Final[Mapping[bool, int]] = {False: 0o444, True: 0o555}
"""Permission bits of a file, by whether it may be executed: nobody edits a store by accident."""

_MARKER = "store.json"
_SAYS = json.dumps({"format": FORMAT, "version": VERSION}).encode("ascii")
_FILES = "files"
_NO_OTHER = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Follow no symlink, and wait for no fifo, that somebody put in the place of a file."""

_GONE = "is not there"
_NO_FILE = "is no file"
_OTHERS = {st.S_IFLNK: f"{_NO_FILE}, but a symlink", st.S_IFDIR: f"{_NO_FILE}, but a directory"}
_UNEXPECTED = "get the source again, or leave --expect away if it is as it shall be"
_AGAIN = "add the files to the store again: `python -m linker add --store STORE SOURCE`"


class Store:
    """A directory that keeps files by their digests.

    `path` need not exist before something is added. Every method raises `LinkError`; any number
    of processes may add and link at the same time, and one that is killed leaves nothing that
    the next one does not remove.
    """

    def __init__(self, path: StrPath, *, platform: Platform | None = None) -> None:
        check_paths(store=text_of(path))
        self.path = absolute(text_of(path))
        self._platform = platform or current()
        self._buffer = Buffer(1 << 18)

    def add(
        self,
        source: StrPath,
        *,
        algorithm: str = "sha256",
        expected: Manifest | None = None,
    ) -> Manifest:
        """Keep every file below the directory `source`; return what was there.

        If that is not what `expected` says, nothing is kept. A source with symlinks, or with names
        that a manifest must not hold, is refused. What the store has already is read, and
        replaced where it is no longer what it was.
        """
        path = text_of(source)
        if algorithm not in ALGORITHMS:
            raise LinkError(
                f"unknown digest {algorithm!r}", hint="choose one of " + ", ".join(ALGORITHMS)
            )
        check_roots(path, self.path, target_is="store")
        self._prepare()
        with ExitStack() as stack:
            top = Node("", None)
            way = self._survey(stack, path, top)
            stage = stack.enter_context(self._stage())
            manifest, staged = self._take_in(top, way, stage, algorithm)
            if expected is not None:
                _compare(manifest, expected)
            for entry, number in staged.items():
                self._shelve(stage, number, entry)
        return manifest

    def check(self, manifest: Manifest, *, contents: bool = True) -> None:
        """Raise `LinkError` unless the store has everything that `manifest` names.

        Without `contents` the files are not read: what kept its time and permission bits is
        trusted to be what it was.
        """
        problems: dict[Entry, tuple[str, str]] = {}
        seen: set[Entry] = set()
        for path, entry in manifest.files.items():
            if entry not in seen:
                seen.add(entry)
                wrong = self._wrong_with(entry, contents=contents)
                if wrong:
                    problems[entry] = (path, wrong)
        if problems:
            entry, (path, wrong) = next(iter(problems.items()))
            others = f", and so it is with {len(problems) - 1} more" if len(problems) > 1 else ""
            raise LinkError(
                f"the store cannot give {path!r}",
                why=f"{entry.digest} {wrong}{others}",
                hint=_AGAIN,
                path=path,
                condition=Condition.MISSING if wrong == _GONE else Condition.OTHER,
            )

    def link(
        self,
        manifest: Manifest,
        target: StrPath,
        *,
        mode: LinkMode | str = LinkMode.CLONE,
        policy: Policy = REFERENCE,
        existing: Existing = Existing.MERGE,
        mutable: Sequence[str] = (),
        strict: bool = False,
        observer: Observer | None = None,
        progress: Progress | None = None,
        processes: int = 1,
        verify: bool = True,
    ) -> LinkReport:
        """Link what `manifest` names into the directory `target`, as `link_tree` does.

        New directories have permission bits 0755 and the time of all files. Everything is read
        and hashed first; without `verify`, only looked at.
        """
        self._require()
        self.check(manifest, contents=verify)
        return link_source(
            _Stocked(self.path, manifest),
            target,
            mode=mode,
            policy=policy,
            existing=existing,
            mutable=mutable,
            strict=strict,
            platform=self._platform,
            observer=observer,
            progress=progress,
            processes=processes,
        )

    # The store itself.

    def _require(self) -> None:
        """Raise unless this is a store whose files we know how to find."""
        marker = os.path.join(self.path, _MARKER)
        try:
            with self._failing(marker), self._opened(marker) as file:
                is_file = st.S_ISREG(os.fstat(file.fileno()).st_mode)
                found: Any = json.load(file) if is_file else None
        except FileNotFoundError as error:
            raise LinkError(
                f"{printable(self.path)} is no store",
                why=f"it has no {_MARKER}",
                hint="`python -m linker add --store STORE SOURCE` makes one",
                path=self.path,
                condition=Condition.MISSING,
            ) from error
        except OSError as error:
            raise link_error(self._platform, Failed(Primitive.READ, error), marker) from error
        except (ValueError, RecursionError):
            found = None
        if found != {"format": FORMAT, "version": VERSION}:
            raise LinkError(
                f"{printable(self.path)} is no store that this linker knows",
                why=f"it knows version {VERSION}, and {_MARKER} says otherwise",
                hint="use the linker that made it, or add the files to a new store",
                path=self.path,
            )

    def _prepare(self) -> None:
        """Make the store if it is not there yet."""
        marker = os.path.join(self.path, _MARKER)
        with self._telling(Primitive.CREATE, self.path):
            os.makedirs(self.path, exist_ok=True)
            names = [name for name in os.listdir(self.path) if not name.startswith(".")]
            if names and not os.path.lexists(marker):
                raise LinkError(
                    f"{printable(self.path)} is no store",
                    why=f"it has no {_MARKER}, and is not empty",
                    hint="name a directory that is a store, is empty, or does not exist",
                    path=self.path,
                )
        if not names:
            self._mark()
        self._require()

    def _mark(self) -> None:
        """Say what this is, unless another process did so by now.

        What is there is not replaced: others read it already, and Windows refuses that while
        they do.
        """
        with self._stage() as stage:
            number = stage.number()
            draft = os.path.join(self.path, stage.name, number)
            with self._telling(Primitive.CREATE, self.path), open(draft, "xb") as file:
                file.write(_SAYS)
            with self._failing(self.path):
                try:
                    self._patiently(lambda: self._place(stage, number, _MARKER))
                except Failed as failed:
                    if condition(self._platform, failed) is not Condition.EXISTS:
                        raise

    @contextmanager
    def _stage(self) -> Iterator[Stage]:
        """Open a directory for what is not whole yet; remove those of processes that are gone."""
        platform = self._platform
        with self._failing(self.path):
            root = platform.open_root(self.path)
        try:
            with self._failing(self.path):
                for name in platform.entries(root).directories:
                    if name.startswith(STAGE):
                        recover(platform, root, name)
                stage = open_stage(platform, root, self._goes_on_unlocked)
            try:
                self._try_out(stage)
                yield stage
            finally:
                _, interrupt = insist(stage.remove)
                stage.close()
                if interrupt is not None:
                    raise interrupt
        finally:
            platform.close(root)

    def _try_out(self, stage: Stage) -> None:
        """Raise unless files keep the permission bits and the time that they are given here."""
        number = stage.number()
        draft = os.path.join(self.path, stage.name, number)
        modes = (MODES[False],) if HERE == "win32" else MODES.values()
        try:
            with open(draft, "xb"):
                kept = True
            for mode in modes:
                os.chmod(draft, mode)
                os.utime(draft, (MTIME, MTIME))
                kept = kept and _is_stamped(os.stat(draft), mode)
        except OSError as error:
            raise link_error(self._platform, Failed(Primitive.STAMP, error), self.path) from error
        if not kept:
            raise LinkError(
                f"{printable(self.path)} cannot be a store",
                why="its filesystem does not keep the permission bits and times that files are "
                "given",
                hint="make the store on another one: FAT and exFAT are such, and some that are "
                "mounted by FUSE",
                path=self.path,
                condition=Condition.UNSUPPORTED,
            )
        with self._failing(self.path):
            self._platform.remove_file(stage.handle, number)

    def _goes_on_unlocked(self, failed: Failed) -> bool:
        return condition(self._platform, failed) is Condition.UNSUPPORTED

    # The way in.

    def _survey(self, stack: ExitStack, path: str, top: Node) -> Trail:
        """Find out what is below a directory, and refuse what no manifest can say."""
        platform = self._platform
        with self._failing(path):
            root = platform.open_root(path)
        stack.callback(platform.close, root)
        way = survey(DirectorySource(path), platform, root, top, RESERVED).way
        stack.callback(way.reset)
        for node, entering in walk(top):
            if entering and node.symlinks:
                symlink = node.join(node.symlinks[0])
                raise LinkError(
                    f"cannot add {printable(symlink)}",
                    why="it is a symlink, and a store keeps files only",
                    hint="replace it by what it leads to, or remove it",
                    path=symlink,
                    condition=Condition.IS_SYMLINK,
                )
        return way

    def _take_in(
        self, top: Node, way: Trail, stage: Stage, algorithm: str
    ) -> tuple[Manifest, dict[Entry, str]]:
        """Copy all files into a stage; return what they are, and the names of those to be kept."""
        files: dict[str, Entry] = {}
        directories: list[str] = []
        staged: dict[Entry, str] = {}
        known: set[Entry] = set()
        for node, entering in walk(top):
            if not entering:
                continue
            path = node.path
            prefix = path and path + "/"
            if prefix and not node.files and not node.directories:
                directories.append(path)
            for name in node.files:
                with self._failing(prefix + name):
                    number = stage.number()
                    self._platform.copy_file(way.seek(node), name, stage.handle, number)
                with self._telling(Primitive.READ, prefix + name):
                    entry = self._finish(os.path.join(self.path, stage.name, number), algorithm)
                files[prefix + name] = entry
                if entry in known or not self._wrong_with(entry):
                    with self._failing(prefix + name):
                        self._platform.remove_file(stage.handle, number)
                else:
                    staged[entry] = number
                known.add(entry)
        return Manifest(files, tuple(directories)), staged

    def _finish(self, path: str, algorithm: str) -> Entry:
        """Give a staged file its bits and time; return what was written there."""
        executable = bool(os.stat(path).st_mode & 0o111)
        os.chmod(path, MODES[executable])
        with open(path, "rb", buffering=0, opener=_open) as file:
            digest = self._digest(file, algorithm)
        os.utime(path, (MTIME, MTIME))
        return Entry(f"{algorithm}-{digest}", executable)

    def _shelve(self, stage: Stage, number: str, entry: Entry) -> None:
        """Give a staged file its place, unless another process did so by now."""
        mark = place_of(entry)
        with self._telling(Primitive.MKDIR, mark):
            os.makedirs(os.path.dirname(os.path.join(self.path, mark)), exist_ok=True)
        with self._failing(mark):
            for attempt in range(PATIENCE):
                last = attempt == PATIENCE - 1
                if self._is_placed(stage, number, mark, last=last):
                    return
                wrong = self._wrong_with(entry)
                if not wrong:
                    return
                # What it was once: the old one goes with the stage.
                if wrong != _GONE and self._is_replaced(stage, number, mark, last=last):
                    return

    def _is_placed(self, stage: Stage, number: str, mark: str, *, last: bool) -> bool:
        """Give a staged file its name; False if something has that."""
        try:
            self._patiently(lambda: self._place(stage, number, mark))
        except Failed as failed:
            if last or condition(self._platform, failed) is not Condition.EXISTS:
                raise
            return False
        return True

    def _is_replaced(self, stage: Stage, number: str, mark: str, *, last: bool) -> bool:
        """Swap a staged file with what has its name; False if that is gone or out of the way."""
        self._refuse_full(mark)
        try:
            self._patiently(lambda: self._swap(stage, number, mark))
        except Failed as failed:
            gone = condition(self._platform, failed) is Condition.MISSING
            if last or not (gone or self._is_out_of_the_way(stage, mark)):
                raise
            return False
        return True

    def _refuse_full(self, mark: str) -> None:
        """Raise if a directory has the place of a file, and somebody's files are in it."""
        path = os.path.join(self.path, mark)
        with suppress(OSError):
            if os.path.isdir(path) and not os.path.islink(path) and os.listdir(path):
                raise LinkError(
                    f"cannot replace {mark}",
                    why="it is a directory, and not empty",
                    hint=f"move {printable(path)} away: no store has directories there",
                    path=mark,
                    condition=Condition.IS_DIRECTORY,
                )

    def _is_out_of_the_way(self, stage: Stage, mark: str) -> bool:
        """Move a directory away that cannot be swapped with a file, as on Windows.

        What proves to be no directory, as another process has mended it, is put back.
        """
        platform, aside = self._platform, stage.number()
        if not os.path.isdir(os.path.join(self.path, mark)):
            return False
        try:
            self._patiently(lambda: place(platform, stage, stage.parent, mark, stage.handle, aside))
        except Failed as failed:
            return condition(platform, failed) is Condition.MISSING  # by another process
        landed = platform.look(stage.handle, aside)
        if landed is not None and landed.kind is not Kind.DIRECTORY:
            with suppress(Failed):  # yet another has done so by now
                self._patiently(lambda: self._place(stage, aside, mark))
        return True

    def _place(self, stage: Stage, number: str, mark: str) -> None:
        place(self._platform, stage, stage.handle, number, stage.parent, mark)

    def _swap(self, stage: Stage, number: str, mark: str) -> None:
        platform = self._platform
        try:
            platform.check_swaps(stage.handle)
            platform.exchange(stage.handle, number, stage.parent, mark)
        except Failed as failed:
            if condition(platform, failed) is not Condition.UNSUPPORTED:
                raise
            platform.exchange_emulated(stage.handle, number, stage.parent, mark)

    # What is there.

    def _wrong_with(self, entry: Entry, *, contents: bool = True) -> str:
        """Return what is wrong with a file of the store, nothing if it is what it must be."""
        mark = place_of(entry)
        algorithm, _, digest = entry.digest.partition("-")
        with self._telling(Primitive.READ, mark), self._failing(mark), ExitStack() as stack:
            file = self._looked_at(os.path.join(self.path, mark), MODES[entry.executable])
            if isinstance(file, str):
                return file
            stack.enter_context(file)
            seen = os.fstat(file.fileno())
            if not _is_stamped(seen, MODES[entry.executable]):
                return _oddness(seen)
            if not contents:
                return ""
            found = self._digest(file, algorithm)
        return "" if found == digest else f"is corrupt: its content is {algorithm}-{found}"

    def _looked_at(self, path: str, mode: int) -> io.FileIO | str:
        """Open a file of the store; return what is wrong with it where that is why it cannot be."""
        for last in (False, True):
            try:
                return self._opened(path)
            except FileNotFoundError:
                break
            except Failed:
                try:
                    seen = os.lstat(path)
                except FileNotFoundError:
                    break
                if not _is_stamped(seen, mode):
                    return _oddness(seen)
                if last:  # before, another process may have mended it meanwhile
                    raise
        return _GONE

    def _opened(self, path: str) -> io.FileIO:
        """Open a file that others may be giving its name just now. Raises FileNotFoundError."""

        def opened() -> io.FileIO:
            try:
                return open(path, "rb", buffering=0, opener=_open)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise Failed(Primitive.READ, error) from error

        return self._patiently(opened)

    def _patiently(self, step: Callable[[], _T]) -> _T:
        """Do something with a file, again after a while if others have it open.

        On Windows who opens a file may keep others from it for as long, and who renames a file
        opens it; elsewhere nobody has to wait.
        """
        attempt = 0
        while True:
            try:
                return step()
            except Failed as failed:
                attempt += 1
                busy = condition(self._platform, failed) is Condition.BUSY
                if not busy or attempt > BUSY_PATIENCE:
                    raise
            self._platform.pause(attempt)

    def _digest(self, file: io.FileIO, algorithm: str) -> str:
        """Return the digest of what is in an open file."""
        digest, view = hashlib.new(algorithm), self._buffer.view
        while got := file.readinto(view):
            digest.update(view[:got])
        return digest.hexdigest()

    # From the system's words to ours.

    @contextmanager
    def _failing(self, path: str) -> Iterator[None]:
        """Tell of a primitive that failed."""
        try:
            yield
        except Lost as lost:
            raise link_error(self._platform, lost.failed, path) from lost.failed.error
        except Failed as failed:
            raise link_error(self._platform, failed, path) from failed.error

    @contextmanager
    def _telling(self, primitive: Primitive, path: str) -> Iterator[None]:
        """Tell of a call of ours that failed."""
        try:
            yield
        except OSError as error:
            raise link_error(self._platform, Failed(primitive, error), path) from error


class _Stocked:
    """What a manifest names, as a source for the engine."""

    def __init__(self, root: str, manifest: Manifest) -> None:
        self.root = root
        self._manifest = manifest

    def fill(self, platform: Platform, root: int, top: Node, _reserved: str) -> Contents:
        """Make the nodes that the manifest describes; it was checked when it was made."""
        device = platform.facts(root).device
        pending: list[tuple[Node, Branch]] = [(top, self._manifest.top)]
        while pending:
            node, branch = pending.pop()
            node.device = device
            node.atime_ns = node.mtime_ns = MTIME * 10**9
            node.stored = {name: place_of(entry) for name, entry in branch.files.items()}
            node.files = sorted(node.stored)
            node.directories = [Node(name, node) for name in sorted(branch.directories)]
            pending += [(child, branch.directories[child.name]) for child in node.directories]
        return Contents(Shelf(platform, root, top), len(self._manifest.files), [])


def _oddness(seen: os.stat_result) -> str:
    """Return what is wrong with what has not the bits and the time of a file of a store."""
    if st.S_ISREG(seen.st_mode):
        return "was changed: its permission bits or its time are not the store's"
    return _OTHERS.get(st.S_IFMT(seen.st_mode), _NO_FILE)


def _is_stamped(seen: os.stat_result, mode: int) -> bool:
    """Return whether it is a file with these permission bits and the time of all of a store."""
    return (seen.st_mode, seen.st_mtime_ns) == (st.S_IFREG | mode, MTIME * 10**9)


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | _NO_OTHER)


def place_of(entry: Entry) -> str:
    """Return where a store keeps a file, relative to the store."""
    algorithm, _, digest = entry.digest.partition("-")
    suffix = "-x" if entry.executable else ""
    return f"{_FILES}/{algorithm}/{digest[:2]}/{digest[2:]}{suffix}"


def _compare(found: Manifest, expected: Manifest) -> None:
    """Raise unless two manifests say the same."""
    for path in sorted(found.files.keys() | expected.files.keys()):
        ours, theirs = found.files.get(path), expected.files.get(path)
        if ours != theirs:
            raise LinkError(
                f"the source is not what the manifest says of {path!r}",
                why=f"it has {_words(ours)}, and should have {_words(theirs)}",
                hint=_UNEXPECTED,
                path=path,
            )
    for path in sorted(set(found.directories) ^ set(expected.directories)):
        here = "the source" if path in found.directories else "the manifest"
        raise LinkError(
            "the source is not what the manifest says",
            why=f"only {here} has the empty directory {path!r}",
            hint=_UNEXPECTED,
            path=path,
        )


def _words(entry: Entry | None) -> str:
    if entry is None:
        return "nothing there"
    return f"{entry.digest}{' (executable)' if entry.executable else ''}"
