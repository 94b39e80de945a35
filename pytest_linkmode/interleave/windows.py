"""The operations of functions on Windows as turns: of Python's own, and of the linker's platform.

There a file that somebody has open cannot be replaced, nor the directory renamed that it lies in.
So what is open counts: opening and closing are turns, and what depends on who has a file open
conflicts with both. It depends on the file, under whatever name; names that are known to be those
of one file (by hard links and renames in this schedule) are taken together.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from linker.platforms import windows
from linker.tree import fold
from pytest_linkmode.interleave.footprints import ADD, LIST, READ, WRITE, Footprint, union
from pytest_linkmode.interleave.world import InProcess

Function = Callable[..., Any]
Table = TypeVar("Table")
Key = tuple[str, int]
"""Which numbers they are, and the number: Python's descriptors, or the handles of the system."""

DESCRIPTOR, HANDLE = "descriptor", "handle"
HANDLES = "//handles"
"""What follows the path of a file to name who has it open."""
INSIDE = "//handles inside"
"""What follows the path of a directory to name what is open in it, at whatever depth."""
LOCK = "//lock"
"""What follows it to name the lock on it."""


class Operand(NamedTuple):
    """Where a function is told what it is about: a place among what it is given, or the keyword;
    what it does there, and what it has only done where it failed. With `opened` the function fails
    where others have the file open, with `inside` also where something in that directory is.
    """

    place: int
    keyword: str
    done: str
    refused: str = "reads"
    opened: bool = False
    inside: bool = False


class Row(NamedTuple):
    """A function. What it does to names (`after`) is that of `Files`, if that is worth noting."""

    operands: tuple[Operand, ...]
    after: str = ""


def _one(done: str, refused: str = "reads", *, opened: bool = False, after: str = "") -> Row:
    return Row((Operand(0, "path", done, refused, opened),), after)


_RENAME = Row(
    (
        Operand(0, "src", "writes", opened=True, inside=True),
        Operand(1, "dst", "writes", opened=True),
    ),
    "moved",
)

_PYTHON: Mapping[str, Row] = {
    **dict.fromkeys(("stat", "lstat", "access", "readlink"), _one("reads")),
    **dict.fromkeys(("exists", "lexists", "isdir", "isfile", "islink"), _one("reads")),
    **dict.fromkeys(("isjunction", "_getfinalpathname"), _one("reads")),
    **dict.fromkeys(("listdir", "scandir"), _one("lists")),
    **dict.fromkeys(("write", "ftruncate"), _one("writes", "writes")),
    **dict.fromkeys(("chmod", "lchmod", "fchmod", "utime", "mkdir"), _one("writes")),
    "truncate": _one("writes", "writes", opened=True),
    **dict.fromkeys(("unlink", "remove"), _one("writes", opened=True, after="removed")),
    "rmdir": _one("removals", "lists", opened=True, after="removed"),
    "symlink": Row((Operand(1, "dst", "writes"),)),
    "link": Row((Operand(0, "src", "reads"), Operand(1, "dst", "writes")), "linked"),
    **dict.fromkeys(("rename", "replace"), _RENAME),
    "CopyFile2": Row(
        (
            Operand(0, "existing_file_name", "reads", opened=True),
            Operand(1, "new_file_name", "writes", "writes", opened=True),
        )
    ),
}
"""Python's functions, by name. Opening, closing, locks and sleep have code of their own."""

_PLATFORM: Mapping[str, Row] = {
    **{name: _PYTHON[name] for name in ("lstat", "scandir", "readlink", "access", "mkdir")},
    **{name: _PYTHON[name] for name in ("unlink", "rmdir")},
    **dict.fromkeys(("read", "information", "security", "spelled"), _one("reads")),
    **dict.fromkeys(("write", "extend"), _one("writes", "writes")),
    "stamp": _one("writes"),
    "hardlink": Row((Operand(1, "existing", "reads"), Operand(0, "new", "writes")), "linked"),
    "symlink": Row((Operand(0, "new", "writes"),)),
    **dict.fromkeys(("move", "rename"), _RENAME),
}
"""The functions of `linker.platforms.windows.Calls`. `seek` moves a position that is nobody else's,
and no volume changes its flags."""

_DUPLICATE = "duplicate"
_CONTROLS: Mapping[int, str] = {
    windows.FSCTL_DUPLICATE_EXTENTS_TO_FILE: _DUPLICATE,
    windows.FSCTL_SET_INTEGRITY_INFORMATION: "writes",
    windows.FSCTL_SET_SPARSE: "writes",
}
"""What DeviceIoControl does that is no looking."""


@dataclass
class Held:
    """What somebody has open: its path, and which file that is. `close` really closes it, if it is
    nobody else's. `doomed` says that its name was taken away, which may become true only now.
    """

    place: str
    file: str
    close: Callable[[], object]
    doomed: bool = False
    locked: bool = False


@dataclass
class Files:
    """What is open in a schedule, and which names are those of one file."""

    held: dict[Key, Held] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)

    def of(self, place: str) -> str:
        """Return which file a name is: the name under which it was first seen."""
        key = fold(place)
        return self._names.get(key, key)

    def linked(self, old: str, new: str) -> None:
        """Take note that a file has one more name."""
        self._names[fold(new)] = self.of(old)

    def moved(self, old: str, new: str) -> None:
        """Take note that a name, and all that are below it, have become others."""
        before, after = fold(old), fold(new)
        self._names[after] = self.of(old)
        self._names.pop(before, None)
        below = before + "/"
        for name in [each for each in self._names if each.startswith(below)]:
            self._names[after + name[len(before) :]] = self._names.pop(name)
        for file in [each for each in self._names.values() if each.startswith(below)]:
            self._names.setdefault(after + file[len(before) :], file)
        for held in self.held.values():
            place = fold(held.place)
            if place == before or place.startswith(before + "/"):
                held.place = new + held.place[len(old) :]
                self._names[fold(held.place)] = held.file

    def removed(self, place: str) -> None:
        """Take note that a name is gone, if nobody has the file open."""
        for held in self.held.values():
            held.doomed = held.doomed or fold(held.place) == fold(place)
        self._names.pop(fold(place), None)

    def end(self, *, broken_off: bool) -> None:
        """Forget all; close what was left open where a schedule was broken off."""
        for held in list(self.held.values()):
            if broken_off:
                held.close()
        self.held.clear()
        self._names.clear()


_FILES: weakref.WeakKeyDictionary[InProcess, Files] = weakref.WeakKeyDictionary()
"""The files of a world: what plain code and platforms have open is one."""


def _files_of(world: InProcess) -> Files:
    files = _FILES.get(world)
    if files is None:
        files = _FILES[world] = Files()
        world.ends.append(lambda broken_off: files.end(broken_off=broken_off))
    return files


class WindowsSeam:
    """Makes the functions that wait for their turn in a world, on Windows or over a model of it.

    With `guarded`, threads that are no actors go straight to the function: for functions that
    others use too.
    """

    def __init__(self, world: InProcess, *, guarded: bool) -> None:
        self._world = world
        self._guarded = guarded
        self._files = _files_of(world)
        self._numbers = DESCRIPTOR
        self._footprints: dict[tuple[object, ...], Footprint] = {}

    def table(self, calls: Table) -> Table:
        """Return a copy of a `linker.platforms.windows.Calls` with everything scheduled that others
        can notice.
        """
        self._numbers = HANDLE
        made: dict[str, Function] = {
            name: self._step(name, row, getattr(calls, name)) for name, row in _PLATFORM.items()
        }
        given: Any = calls
        made["open"] = self._opening(given.open, given.close)
        made["close"] = self._closing(given.close)
        made["control"] = self._controlling(given.control)
        made["sleep"] = lambda _seconds: None
        return dataclasses.replace(given, **made)  # type: ignore[no-any-return]

    def function(self, name: str, function: Function) -> Function | None:
        """Return one of Python's functions that waits for its turn; None for one that nobody else
        can notice.
        """
        if name == "open":
            stand_in = self._descriptor(function)
        elif name == "close":
            stand_in = self._closing(function)
        elif name == "sleep":
            stand_in = lambda _seconds: None  # noqa: E731
        elif name == "locking":
            stand_in = self._locking(function)
        elif name in _PYTHON:
            stand_in = self._step(name, _PYTHON[name], function)
        else:
            return None
        return self._keep_out(function, stand_in) if self._guarded else stand_in

    def _keep_out(self, function: Function, stand_in: Function) -> Function:
        acts = self._world.acts

        def asked(*given: Any, **options: Any) -> Any:
            return (stand_in if acts() else function)(*given, **options)

        return asked

    # What is touched

    def _place(self, named: Any) -> str | None:
        """Return the path of a name, a descriptor or a handle if the actors meet there."""
        if isinstance(named, int):
            held = self._files.held.get((self._numbers, named))
            return None if held is None else held.place
        return self._world.find(os.fsdecode("." if named is None else named))

    def _file(self, named: Any, place: str | None) -> str:
        """Return which file that is, wherever it lies."""
        if isinstance(named, int):
            held = self._files.held.get((self._numbers, named))
            return "" if held is None else held.file
        return self._files.of(os.path.abspath(os.fsdecode(named)) if place is None else place)

    def _touched(
        self, ways: tuple[tuple[str, str], ...], opened: tuple[tuple[str, int], ...] = ()
    ) -> Footprint:
        """Return a footprint: what is done to which paths, and how (READ: it matters; WRITE: it
        changes) who has which files open.
        """
        key = (ways, opened)
        known = self._footprints.get(key)
        if known is None:
            handles = ({file: mode} for file, mode in opened)
            known = union(*(getattr(self._world, way)[path] for way, path in ways), *handles)
            self._footprints[key] = known
        return known

    def _wait(self) -> None:
        world = self._world
        if len(world.events) >= world.until:
            world.turn()

    # Functions

    def _step(self, name: str, row: Row, function: Function) -> Function:
        world, files, operands = self._world, self._files, row.operands
        after: Callable[..., None] | None = getattr(files, row.after) if row.after else None

        def found(given: tuple[Any, ...], options: Mapping[str, Any]) -> list[Any]:
            return [
                given[each.place]
                if len(given) > each.place
                else options.get(each.keyword, options.get("fd", "."))
                for each in operands
            ]

        def stepped(*given: Any, **options: Any) -> Any:
            named = found(given, options)
            places = [self._place(each) for each in named]
            if not any(places):
                return function(*given, **options)
            self._wait()
            places = [self._place(each) for each in named]  # it may have another name by now
            here = [
                (each, place, self._file(name_of_it, place))
                for each, place, name_of_it in zip(operands, places, named, strict=True)
            ]
            told = tuple(place for _, place, _ in here if place is not None)
            opened = [
                (file + HANDLES, READ)
                for each, place, file in here
                if each.opened and place is not None
            ]
            opened += [
                (fold(place) + INSIDE, LIST)
                for each, place, _ in here
                if each.inside and place is not None
            ]
            try:
                result = function(*given, **options)
            except OSError as error:
                ways = tuple((each.refused, place) for each, place, _ in here if place is not None)
                world.note(name, told, self._touched(ways, tuple(opened)), said(error))
                raise
            ways = tuple((each.done, place) for each, place, _ in here if place is not None)
            world.note(
                name, told, self._touched(ways, tuple(opened)), "no" if result is False else ""
            )
            if after is not None:
                after(*(file if place is None else place for _, place, file in here))
            return result

        return stepped

    def _opened(self, place: str, *, makes: bool) -> Footprint:
        """Return what an open that succeeded has touched."""
        way = "writes" if makes else "reads"
        opened = ((self._files.of(place) + HANDLES, WRITE), *self._inside(place))
        return self._touched(((way, place),), opened)

    def _inside(self, place: str) -> Iterator[tuple[str, int]]:
        """Yield what is open inside of which directories, that a handle is one more or one less
        of.
        """
        for above in self._world.reads[place]:
            yield above + INSIDE, ADD

    def _not_opened(self, place: str) -> Footprint:
        return self._touched((("reads", place),), ((self._files.of(place) + HANDLES, READ),))

    def _opening(self, function: Function, close: Function) -> Function:
        """CreateFileW."""

        def opened(path: str, access: int, share: int, disposition: int, flags: int) -> int:
            makes = disposition == windows.CREATE_NEW
            return self._open(
                path, lambda: function(path, access, share, disposition, flags), close, makes=makes
            )

        return opened

    def _descriptor(self, function: Function) -> Function:
        """`os.open`."""

        def opened(path: Any, flags: int, *rest: Any, **options: Any) -> int:
            makes = bool(flags & (os.O_CREAT | os.O_TRUNC))
            return self._open(
                path, lambda: function(path, flags, *rest, **options), _close_that, makes=makes
            )

        return opened

    def _open(self, path: Any, do: Callable[[], int], close: Function, *, makes: bool) -> int:
        world, files, name = self._world, self._files, "create" if makes else "open"
        place = self._place(path)
        if place is None:
            return do()
        self._wait()
        try:
            number = do()
        except OSError as error:
            world.note(name, (place,), self._not_opened(place), said(error))
            raise
        closing = _closing_later(number) if self._numbers == DESCRIPTOR else lambda: close(number)
        files.held[self._numbers, number] = Held(place, files.of(place), closing)
        world.note(name, (place,), self._opened(place, makes=makes))
        return number

    def _closing(self, function: Function) -> Function:
        held = self._files.held

        def closed(fd: int) -> None:
            key = (self._numbers, fd)
            if key not in held:
                function(fd)
                return
            try:
                self._wait()
            finally:
                was = held.pop(key)
                function(fd)  # who is broken off is to leave nothing open
            self._note_closed(was)

        return closed

    def _note_closed(self, was: Held) -> None:
        opened = [(was.file + HANDLES, WRITE), *self._inside(was.place)]
        if was.locked:
            opened.append((was.file + LOCK, WRITE))
        way = "writes" if was.doomed else "reads"
        self._world.note("close", (was.place,), self._touched(((way, was.place),), tuple(opened)))

    def opened_file(self, function: Function, file: Any, mode: str, *rest: Any, **more: Any) -> Any:
        """Open a file object in its turn. One that is written to has a second turn, after which it
        is filled: between them others meet it empty. Closing it is a turn as well.
        """
        world = self._world
        place = self._place(file)
        if place is None:
            return function(file, mode, *rest, **more)
        writes = not set(mode).isdisjoint("wax+")
        name = "create" if writes else "open"
        self._wait()
        try:
            opened = function(file, mode, *rest, **more)
        except OSError as error:
            world.note(name, (place,), self._not_opened(place), said(error))
            raise
        key = (DESCRIPTOR, opened.fileno())
        held = self._files.held[key] = Held(place, self._files.of(place), _closing_of(opened))
        world.note(name, (place,), self._opened(place, makes=writes))
        self._closes(opened, key, held)
        if writes:
            try:
                self._wait()
            except BaseException:
                opened.close()
                raise
            world.note("write", (held.place,), self._touched((("writes", held.place),)))
        return opened

    def _closes(self, opened: Any, key: Key, held: Held) -> None:
        """Let the end of a file object be a turn, as that of a descriptor is."""
        world, files, kept, close = (
            self._world,
            self._files,
            weakref.ref(opened),
            type(opened).close,
        )

        def closed() -> None:
            file = kept()
            if file is None:
                return  # it is being freed, and closes what it has
            vars(file).pop("close", None)
            if files.held.get(key) is not held or not world.acts():
                close(file)
                return
            try:
                self._wait()
            finally:
                files.held.pop(key, None)
                close(file)
            self._note_closed(held)

        vars(opened)["close"] = closed

    def _controlling(self, function: Function) -> Function:
        """DeviceIoControl."""
        world = self._world

        def controlled(handle: int, code: int, data: bytes, size: int) -> bytes:
            does = _CONTROLS.get(code, "reads")
            numbers = [handle]
            if does is _DUPLICATE:
                numbers.insert(0, windows.DUPLICATE.unpack(data)[0])
            places = [self._place(number) for number in numbers]
            if not any(places):
                return function(handle, code, data, size)  # type: ignore[no-any-return]
            self._wait()
            told = [(number, self._place(number)) for number in numbers]
            ways = tuple(
                ("writes" if does != "reads" and number == handle else "reads", place)
                for number, place in told
                if place is not None
            )
            names = tuple(place for _, place in ways)
            try:
                result: bytes = function(handle, code, data, size)
            except OSError as error:
                world.note("control", names, self._touched(ways), said(error))
                raise
            world.note("control", names, self._touched(ways))
            return result

        return controlled

    def _locking(self, function: Function) -> Function:
        """`msvcrt.locking`, of any part of a file."""
        world, held = self._world, self._files.held

        def locked(fd: int, mode: int, nbytes: int) -> None:
            was = held.get((DESCRIPTOR, fd))
            if was is None:
                function(fd, mode, nbytes)
                return
            self._wait()
            lock = was.file + LOCK
            reads = (("reads", was.place),)
            try:
                function(fd, mode, nbytes)
            except OSError as error:
                world.note(
                    "locking", (was.place,), self._touched(reads, ((lock, READ),)), said(error)
                )
                raise
            world.note("locking", (was.place,), self._touched(reads, ((lock, WRITE),)))
            was.locked = True

        return locked


_close_that = os.close
"""The function itself, before any world has put another in its place."""
_stat_that = os.fstat


def _closing_later(descriptor: int) -> Callable[[], None]:
    """Return what closes a descriptor if it still is what it is now: a file object to which it was
    given may have closed it, and somebody else got the number.
    """
    seen = _stat_that(descriptor)

    def close() -> None:
        with suppress(OSError):
            if os.path.samestat(_stat_that(descriptor), seen):
                _close_that(descriptor)

    return close


def _closing_of(opened: Any) -> Callable[[], None]:
    kept, close = weakref.ref(opened), type(opened).close

    def closed() -> None:
        file = kept()
        if file is not None:
            close(file)

    return closed


def others() -> Iterator[tuple[Any, str]]:
    """Yield where functions of Windows lie that take turns too: module and name.

    `os.path` asks the system itself there, and `shutil` copies by a call.
    """
    import _winapi
    import msvcrt
    import ntpath

    for module, names in (
        (os, ("lchmod",)),
        (ntpath, ("exists", "lexists", "isdir", "isfile", "islink", "isjunction")),
        (ntpath, ("_getfinalpathname",)),
        (_winapi, ("CopyFile2",)),
        (msvcrt, ("locking",)),
    ):
        for name in names:
            # One that is written in Python makes its calls by others, which have their turns.
            if hasattr(module, name) and not hasattr(getattr(module, name), "__code__"):
                yield module, name


def forgetting(platform: Any) -> Callable[[bool], None]:
    """Return what has a platform forget after each schedule what it has learned meanwhile: which
    numbers stand for which directories, above all.
    """
    kept = {
        name: value.copy() if isinstance(value, dict) else value
        for name, value in vars(platform).items()
        if isinstance(value, dict | int | str)
    }

    def forget(_broken_off: bool) -> None:  # noqa: FBT001
        for name, value in kept.items():
            setattr(platform, name, value.copy() if isinstance(value, dict) else value)

    return forget


def said(error: OSError) -> str:
    """Return the name of an error, Windows' own where it has one."""
    number = getattr(error, "winerror", None)
    if number in windows.WINERRORS:
        return windows.WINERRORS[number]
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
