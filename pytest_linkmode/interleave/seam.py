"""The operations of a table of functions, such as `linker.platforms.linux.Calls`, as turns.

`Seam.table` returns a table whose functions wait for their turn, and then do what they did. A row
says which arguments name what is touched. Directories are known by the descriptors under which they
were opened, so that a schedule costs no system call of its own.
"""

from __future__ import annotations

import dataclasses
import errno
import io
import os
import struct
import weakref
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from linker.platforms.macos import ERRORS
from pytest_linkmode.interleave.files import Accesses, file_object
from pytest_linkmode.interleave.footprints import Footprint
from pytest_linkmode.interleave.world import Event, InProcess, is_plain
from pytest_linkmode.opening import DESCRIPTORS, path_of

Function = Callable[..., Any]
Operand = tuple[Any, int | None]
"""A name and a directory's descriptor, or None; a name that is a descriptor stands for itself."""
Pair = Callable[[tuple[Any, ...], Mapping[str, Any]], tuple[Operand, Operand]]
Table = TypeVar("Table")

LOCK = "//lock"
"""What follows the path of a file to name its lock."""

_TEMPORARY = getattr(os, "O_TMPFILE", 0) & ~getattr(os, "O_DIRECTORY", 0)
_SOURCE = struct.Struct("=q")
"""How struct file_clone_range (linux/fs.h) begins: with the descriptor of the source."""
_EXCHANGE = 2
"""RENAME_EXCHANGE (linux/fs.h)."""
_UNLOCK = 8
"""LOCK_UN (flock(2))."""


class One(NamedTuple):
    """A function with one path: what it does there (an attribute of `Footprints`), and what it
    has looked at where it fails. `place` is the position of the path, after which comes its
    directory if `directory` says so.
    """

    done: str
    refused: str = "reads"
    place: int = 0
    directory: bool = False


class Two(NamedTuple):
    """A function that makes something from something else, or (`moves`) moves it."""

    operands: Pair
    moves: bool = False


class _Pair(NamedTuple):
    """The paths of the operands where actors meet, what is entered once it is done, and the
    footprint if it is refused.
    """

    source: str | None
    target: str | None
    done: Event
    refused: Footprint


def _asked(given: tuple[Any, ...], options: Mapping[str, Any], place: int, *keywords: str) -> Any:
    """Return an argument by its place or its name; what is left out is the working directory."""
    if len(given) > place:
        return given[place]
    return next((options[name] for name in keywords if name in options), ".")


def _names(given: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[Operand, Operand]:
    source, target = _asked(given, options, 0, "src"), _asked(given, options, 1, "dst")
    return (source, options.get("src_dir_fd")), (target, options.get("dst_dir_fd"))


def _between(given: tuple[Any, ...], _options: Mapping[str, Any]) -> tuple[Operand, Operand]:
    return (given[1], given[0]), (given[3], given[2])


def _filled(given: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[Operand, Operand]:
    source, target = _asked(given, options, 1, "in_fd"), _asked(given, options, 0, "out_fd")
    return (source, None), (target, None)


def _copied(given: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[Operand, Operand]:
    return (_asked(given, options, 0, "src"), None), (_asked(given, options, 1, "dst"), None)


def _cloned(given: tuple[Any, ...], _options: Mapping[str, Any]) -> tuple[Operand, Operand]:
    return (_number(given[2]), None), (given[0], None)


def _cloned_range(given: tuple[Any, ...], _options: Mapping[str, Any]) -> tuple[Operand, Operand]:
    return (_SOURCE.unpack_from(given[2])[0], None), (given[0], None)


def _number(file: Any) -> int:
    """Return the descriptor of what is one, or has one."""
    return file if isinstance(file, int) else file.fileno()


ROWS: Mapping[str, One | Two] = {
    **dict.fromkeys(("read", "readv", "pread", "preadv", "lseek"), One("reads")),
    **dict.fromkeys(
        ("fstat", "stat", "lstat", "ioctl", "listxattr", "getxattr", "fstype"), One("reads")
    ),
    **dict.fromkeys(("access", "readlink", "access_list", "flistxattr"), One("reads")),
    "birth": One("reads", directory=True),
    **dict.fromkeys(("listdir", "scandir"), One("lists")),
    **dict.fromkeys(("write", "pwrite", "writev", "pwritev"), One("writes", "writes")),
    **dict.fromkeys(("truncate", "ftruncate", "posix_fallocate"), One("writes", "writes")),
    **dict.fromkeys(("chmod", "fchmod", "chown", "fchown", "lchown", "utime"), One("writes")),
    **dict.fromkeys(("setxattr", "removexattr", "unlink", "remove"), One("writes")),
    **dict.fromkeys(("mkdir", "mknod", "mkfifo"), One("writes")),
    "symlink": One("writes", place=1),
    "rmdir": One("removals", "lists"),
    **dict.fromkeys(("ficlone", "sendfile"), Two(_filled)),
    **dict.fromkeys(("copy_file_range", "splice", "_fcopyfile"), Two(_copied)),
    "ioctl-ficlone": Two(_cloned),
    "ioctl-ficlonerange": Two(_cloned_range),
    "link": Two(_names),
    **dict.fromkeys(("rename", "replace"), Two(_names, moves=True)),
    **dict.fromkeys(("renameat2", "renameatx_np"), Two(_between, moves=True)),
}
"""Function -> how it is read. `open`, `close`, `flock` and `sleep` have code of their own; `seek`
moves a position that is nobody else's."""


MAKES: Mapping[str, tuple[int, int | None]] = {
    "clonefileat": (2, 3),
    "fclonefileat": (1, 2),
    "item_directory": (0, 1),
    "item_file": (2, 3),
    "item_symlink": (2, 3),
    "item_finish": (1, None),
    "fchflags": (0, None),
    "fremovexattr": (0, None),
}
"""Functions of macOS, and of its model: where the directory and the name of what they change are.
Each may do several things that are one operation, or, as the clone of a directory item by item, be
made of others that have their own turns."""


class Seam:
    """Makes the functions that wait for their turn in a world.

    With `guarded`, threads that are no actors go straight to the function: for functions that
    others use too.
    """

    def __init__(self, world: InProcess, *, guarded: bool) -> None:
        self._world = world
        self._guarded = guarded
        self._errno: Callable[[], int] | None = None
        self._files: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        """Descriptor -> the file object that was opened last under this number."""

    def table(self, calls: Table) -> Table:
        """Return a copy of a dataclass of functions, all of them scheduled that are known."""
        self._errno = getattr(calls, "errno", None)
        fields = [each.name for each in dataclasses.fields(calls)]  # type: ignore[arg-type]
        made = {name: self.function(name, getattr(calls, name)) for name in fields}
        return dataclasses.replace(
            calls,  # type: ignore[type-var]
            **{name: function for name, function in made.items() if function is not None},
        )

    def function(self, name: str, function: Function) -> Function | None:
        """Return a function that waits for its turn; None for one that nobody else can notice."""
        special: Mapping[str, Callable[[Function], Function]] = {
            "open": self._open,
            "close": self._close,
            "flock": self._flock,
            "sleep": self._sleep,
        }
        row = ROWS.get(name)
        if name in MAKES:
            return self._elsewhere(name, *MAKES[name], function)
        if name in special:
            stand_in = special[name](function)
        elif isinstance(row, One):
            stand_in = self._one(name, row, function)
        elif isinstance(row, Two):
            stand_in = self._two(name, row, function)
        else:
            return None
        return self._keep_out(function, stand_in) if self._guarded else stand_in

    def _keep_out(self, function: Function, stand_in: Function) -> Function:
        acts, spelled = self._world.acts, self._world.spelled

        def asked(*given: Any, **options: Any) -> Any:
            # Most paths are nobody's business here, and most of these are quick to tell.
            if len(given) == 1:
                place = given[0]
                if type(place) is str and not place.startswith(spelled) and is_plain(place):
                    return function(*given, **options)
            return (stand_in if acts() else function)(*given, **options)

        return asked

    # Paths

    def _path(self, name: Any, directory: int | None) -> str | None:
        """Return the path of an operand if the actors meet there, else None."""
        world = self._world
        if type(name) is int:
            found = world.places.get(name, "")
            return self._late(name) if found == "" else found
        text = name if type(name) is str else os.fsdecode("." if name is None else name)
        if directory is not None and text[:1] != "/":
            path = inner(self._late(directory), text)
            if path:
                return path
            base = world.base(directory)
            if base is None:
                return None
            text = base if text == "." else f"{base}/{text}"
        elif text.startswith(DESCRIPTORS):
            return self._path(int(text[len(DESCRIPTORS) :]), None)
        return world.find(text if is_plain(text) else os.path.abspath(text))

    def _late(self, descriptor: int) -> str | None:
        """Return the path of a descriptor, which may have been opened before the schedule."""
        world = self._world
        if descriptor not in world.places:
            try:
                path: str | None = path_of(descriptor)
            except OSError:
                path = None
            world.track(descriptor, path)
        return world.places[descriptor] or None

    # Functions

    def _one(self, name: str, row: One, function: Function) -> Function:
        world, slow, places = self._world, self._path, self._world.places
        footprints, refused = getattr(world, row.done), getattr(world, row.refused)
        done, is_not = world.made(name, footprints), world.made(name, footprints, "no")
        within = [each.within for each in done]
        at, directory = row.place, row.directory
        keyword = "dst" if at else "path"

        def stepped(*given: Any, **options: Any) -> Any:
            operand = given[at] if len(given) > at else _asked(given, options, at, keyword, "fd")
            base, told = None, operand
            if type(operand) is int:
                above, told = places.get(operand, ""), "."
            else:
                base = given[at + 1] if directory else options.get("dir_fd")
                above = places.get(base, "")
            if above is None:
                return function(*given, **options)
            try:
                event = within[world.me][above][told]
            except KeyError:
                place = inner(above, told) or slow(operand, base)
                if place is None:
                    return function(*given, **options)
                event = done[world.me].keep(above, told, place)
            if len(world.events) >= world.until and world.turn():
                # It may have another name by now.
                event = done[world.me][slow(operand, base) or event.paths[0]]
            try:
                result = function(*given, **options)
            except OSError as error:
                world.note(name, event.paths, refused[event.paths[0]], said(error))
                raise
            if result is False:
                event = is_not[world.me][event.paths[0]]
            world.events.append(event)  # as `enter` does, without the call
            if world.drowsy:
                world.rouse(event.footprint)
            return result

        return stepped

    def _two(self, name: str, row: Two, function: Function) -> Function:
        world, find, places = self._world, row.operands, self._world.places
        said_in_c = self._naming()
        change = "writes" if row.moves else "reads"
        known: dict[tuple[Any, ...], _Pair] = {}

        def paired(given: tuple[Any, ...], options: Mapping[str, Any]) -> _Pair:
            (source, above), (target, below) = find(given, options)
            key = world.me, places.get(above, ""), source, places.get(below, ""), target
            if key in known:
                return known[key]
            pair = self._path(source, above), self._path(target, below)
            told = tuple(filter(None, pair))
            done = Event(world.me, name, told, world.pairs[change, "writes", *pair])
            made = _Pair(*pair, done, world.pairs["reads", "reads", *pair])
            plain = all(type(name) is str and "/" not in name for name in (source, target))
            if plain and "" not in (key[1], key[3]):
                known[key] = made
            return made

        def stepped(*given: Any, **options: Any) -> Any:
            pair = paired(given, options)
            if not pair.done.paths:
                return function(*given, **options)
            if len(world.events) >= world.until and world.turn():
                pair = paired(given, options)
            try:
                result = function(*given, **options)
            except OSError as error:
                world.note(name, pair.done.paths, pair.refused, said(error))
                raise
            if type(result) is int and result < 0:  # as C tells errors
                world.note(name, pair.done.paths, pair.refused, said_in_c())
                return result
            world.enter(pair.done)
            if row.moves:
                if pair.source is not None and pair.target is not None:
                    world.moved(pair.source, pair.target, swapped=given[4:5] == (_EXCHANGE,))
            elif pair.source is None:
                named = find(given, options)[0][0]
                if type(named) is str and named.startswith(DESCRIPTORS):
                    # A file without a name has got one.
                    world.track(int(named[len(DESCRIPTORS) :]), pair.target)
            return result

        return stepped

    def _naming(self) -> Callable[[], str]:
        """Return what names the error that a function of the table has left, as C has it."""
        left = self._errno
        return lambda: "failed" if left is None else ERRORS.get(left(), "failed")

    def _elsewhere(self, name: str, at: int, named: int | None, function: Function) -> Function:
        world, said_in_c = self._world, self._naming()

        def found(given: tuple[Any, ...]) -> str | None:
            # What it opened inside is not known here, and numbers are used again: ask each time.
            try:
                base = os.getcwd() if given[at] < 0 else path_of(given[at])
            except OSError:
                return None
            path = base if named is None else os.path.join(base, os.fsdecode(given[named]))
            return world.find(os.path.normpath(path))

        def stepped(*given: Any) -> Any:
            place = found(given)
            if place is None:
                with world.inside_of_one():
                    return function(*given)
            if world.turn():
                place = found(given) or place
            before = len(world.events)
            world.note(name, (place,), world.reads[place])  # it looks first, in the same turn
            try:
                with world.inside_of_one():
                    result = function(*given)
            except BaseException:
                world.amend(world.removals[place], "failed")
                raise
            alone = len(world.events) == before + 1
            if type(result) is int and result < 0:
                touched = world.reads[place] if alone else world.removals[place]
                world.amend(touched, said_in_c())
            elif alone:
                world.amend(world.writes[place])
            return result

        return stepped

    def _open(self, function: Function) -> Function:
        world, find, places = self._world, self._path, self._world.places
        # Python's own descriptors may be closed by the file object that they were given to.
        leftover = bool if self._guarded else world.opened.add
        looked, made = world.made("open", world.reads), world.made("create", world.writes)
        within = [each.within for each in looked]

        def opened(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> Any:
            above = places.get(dir_fd, "")
            if above is None:
                result = function(path, flags, mode, dir_fd=dir_fd)
                places[result] = None
                leftover(result)
                return result
            try:
                event = within[world.me][above][path]
            except KeyError:
                place = inner(above, path) or find(path, dir_fd)
                if place is None:
                    result = function(path, flags, mode, dir_fd=dir_fd)
                    world.track(result, world.leads(path, dir_fd))
                    leftover(result)
                    return result
                event = looked[world.me].keep(above, path, place)
            if len(world.events) >= world.until and world.turn():
                event = looked[world.me][find(path, dir_fd) or event.paths[0]]
            try:
                result = function(path, flags, mode, dir_fd=dir_fd)
            except OSError as error:
                name = "create" if flags & os.O_CREAT else "open"
                world.note(name, event.paths, event.footprint, said(error))
                raise
            leftover(result)
            if flags & _TEMPORARY and not flags & os.O_CREAT:
                world.note("open nameless", event.paths, event.footprint)
                places[result] = None
                return result
            if flags & (os.O_CREAT | os.O_TRUNC):
                event = made[world.me][event.paths[0]]
            world.enter(event)
            places[result] = event.paths[0]
            return result

        return opened

    def opened_file(self, function: Function, file: Any, mode: str, *rest: Any, **more: Any) -> Any:
        """Open a file object in its turn: it has others for what it reads and writes."""
        world = self._world
        place = self._path(file, None)
        if place is None:
            opened = function(file, mode, *rest, **more)
            world.places.pop(opened.fileno(), None)
            return opened
        told = type(file) is not int and more.get("opener") is None  # else it is open by now
        if told:
            world.turn()
        try:
            opened = file_object(function, self._accesses, file, mode, *rest, **more)
        except OSError as error:
            if told:
                world.note("open", (place,), world.reads[place], said(error))
            raise
        if told:
            # Its number may be that of another, which was closed where nobody saw it.
            world.places[opened.fileno()] = place
            changes = not set(mode).isdisjoint("wxa")
            touched = (world.writes if changes else world.reads)[place]
            world.note("create" if changes else "open", (place,), touched)
        self._files[opened.fileno()] = opened
        return opened

    @cached_property
    def _accesses(self) -> Accesses:
        def accessed(_descriptor: int, method: Function, *given: Any) -> Any:
            return method(*given)

        def turning(name: str) -> Function:
            turn = self.function(name, accessed)
            assert turn is not None  # they all have rows
            return turn

        return Accesses(
            turning("read"),
            turning("write"),
            turning("truncate"),
            turning("lseek"),
            lambda descriptor: self._world.places.pop(descriptor, None),
        )

    def _close(self, function: Function) -> Function:
        world = self._world
        locked, forget, discard = world.locked, world.places.pop, world.opened.discard

        def unlocked(descriptor: int) -> None:
            try:
                world.turn()
            finally:
                place = locked.pop(descriptor)
                forget(descriptor, None)
                discard(descriptor)
                function(descriptor)  # who is broken off gives the lock up too
            world.note("unlock", (place,), world.writes[place + LOCK])

        def closed(fd: int) -> None:
            if fd in locked:
                unlocked(fd)
                return
            forget(fd, None)
            discard(fd)
            function(fd)

        return closed

    def _flock(self, function: Function) -> Function:
        world = self._world

        def locked(file: Any, operation: int) -> None:
            descriptor = _number(file)
            place = self._path(descriptor, None)
            if place is None:
                function(descriptor, operation)
                return
            world.turn()
            try:
                function(descriptor, operation)
            except OSError as error:
                world.note("flock", (place,), world.reads[place + LOCK], said(error))
                raise
            world.note("flock", (place,), world.writes[place + LOCK])
            if operation & _UNLOCK:
                world.locked.pop(descriptor, None)
                return
            world.locked[descriptor] = place
            holder = file if isinstance(file, io.IOBase) else self._files.get(descriptor)
            if holder is not None and not holder.closed and holder.fileno() == descriptor:
                self._unlocks(holder, descriptor)

        return locked

    def _unlocks(self, holder: Any, descriptor: int) -> None:
        """Let the end of a file object that holds a lock be a turn, as `os.close` of one is."""
        world, held, close = self._world, weakref.ref(holder), type(holder).close

        def closed() -> None:
            file = held()
            if file is None:
                return  # it is being freed, and closes what it has
            vars(file).pop("close", None)
            place = world.locked.pop(descriptor, None)
            if place is None or not world.acts():
                close(file)
                return
            try:
                file.flush()  # in turns of its own
                world.turn()
            finally:
                world.places.pop(descriptor, None)
                close(file)  # who is broken off is to leave nothing open
            world.note("unlock", (place,), world.writes[place + LOCK])

        vars(holder)["close"] = closed

    def _sleep(self, _function: Function) -> Function:
        return lambda _seconds: None


def inner(above: str | None, name: Any) -> str | None:
    """Return the path of a name in a directory where the actors meet (None: it is elsewhere); an
    empty string for odd forms, and for directories of which more must be asked.
    """
    # What nearly all calls name. The rest is for those who take their time.
    if not above:
        return above
    if type(name) is not str or "/" in name or name == "..":
        return ""
    return above if name == "." else f"{above}/{name}"


def said(error: OSError) -> str:
    """Return the name of an error."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
