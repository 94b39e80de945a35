"""clonefile(2), renameatx_np(2) and extended attributes of macOS, as a model on Linux.

`MacPlatform` runs on it unchanged: the same functions with the same C signatures, Darwin's flags,
errors and error numbers, on files whose data is really shared (FICLONE). A directory is cloned
whole or item by item, both of which are documented; the oddities of real volumes are switches. The
model makes what it is told to make and decides nothing.

Source: clonefile(2) of macOS 10.12 to 15, rename(2), fremovexattr(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import errno
import fcntl
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, fields, replace
from typing import Any

from linker.platforms import linux, macos
from linker.platforms.base import Failed, Kind
from linker.platforms.linux import LinuxPlatform
from linker.platforms.macos import (
    CLONE_ACL,
    CLONE_NOFOLLOW,
    CLONE_NOOWNERCOPY,
    RENAME_EXCL,
    RENAME_SWAP,
    MacPlatform,
)
from linker.tree import Trail, fold
from pytest_linkmode.errors import LinkmodeError
from pytest_linkmode.models import darwin
from pytest_linkmode.models.darwin import as_darwin, darwin_error


class Quirk(enum.StrEnum):
    """What volumes and systems in the field do beside, or against, the manual."""

    MISSING_FOR_EXISTS = "missing-for-exists"
    """ENOENT, once, where the destination exists: another process just renamed something there."""
    DATALESS = "dataless"
    """Files marked by `make_dataless` have their content elsewhere, and nobody fetches it."""
    QUARANTINE = "quarantine"
    """Every new file of this process gets com.apple.quarantine, and nobody takes it off."""
    HFS = "hfs+"
    """A volume that cannot clone."""
    FLAGS = "flags"
    """Nobody changes, moves or removes what `make_immutable` marked, nor a clone of it: as with
    UF_IMMUTABLE of chflags(2)."""
    CASE_INSENSITIVE = "case-insensitive"
    """Names are found whatever the case or normal form of their letters, and keep those they were
    made with: the volume that a Mac comes with."""


Wrap = Callable[[str, Callable[..., Any]], Callable[..., Any]]
"""Called as wrap(name, function) for every function of the model; returns what is to be called."""

_FLAGS = CLONE_NOFOLLOW | CLONE_NOOWNERCOPY | CLONE_ACL
_USER = "user."
"""The namespace in which Linux keeps what Darwin calls an extended attribute."""
_HIDDEN = "user.linkmode."
_DATALESS = "user.linkmode.dataless"
_ACL = "user.linkmode.acl"
_FLAGS_OF = "user.linkmode.flags"
_NAMES: Mapping[str, Sequence[tuple[int, int | str]]] = {
    **dict.fromkeys(
        ("open", "stat", "chmod", "utime", "mkdir", "readlink", "rmdir", "unlink", "access"),
        ((0, "dir_fd"),),
    ),
    "symlink": [(1, "dir_fd")],
    "link": [(0, "src_dir_fd"), (1, "dst_dir_fd")],
    "rename": [(0, "src_dir_fd"), (1, "dst_dir_fd")],
    "clonefileat": [(1, 0), (3, 2)],
    "fclonefileat": [(2, 1)],
    "renameatx_np": [(1, 0), (3, 2)],
}
"""Call -> where its names are, and the directory of each: a place too, or a keyword."""
UF_IMMUTABLE = 0x2
_QUARANTINE = "user.com.apple.quarantine"
_NAMELESS = os.O_RDWR | getattr(os, "O_TMPFILE", 0) | os.O_CLOEXEC


def make_dataless(path: str) -> None:
    """Mark a file: its content is not on this machine."""
    os.setxattr(path, _DATALESS, b"1")


def make_immutable(path: str) -> None:
    """Give a file or directory the flag UF_IMMUTABLE, as `chflags uchg` does."""
    os.setxattr(path, _FLAGS_OF, b"2")


def set_access_list(path: str, text: bytes) -> None:
    """Give a file or directory an access control list."""
    os.setxattr(path, _ACL, text)


def platform(
    root: str | os.PathLike[str] | None = None,
    *,
    atomic: bool = True,
    quirks: Set[str] = frozenset(),
    host: linux.Calls = linux.CALLS,
    wrap: Wrap | None = None,
) -> MacPlatform:
    """Return macOS over the model, for `link_tree(platform=...)`.

    `root`, if given, is a directory on the volume in question: quirks that this machine cannot
    keep there are an error now, not later. With `atomic` a directory appears whole by one call;
    without, its items appear one by one, each by a call of `Steps`. `wrap` is given every function
    of both tables (`macos.Calls`, `Steps`), by name, and returns what is called in its place.
    `host` are the calls of this machine. Raises LinkmodeError.
    """
    model = Model(atomic=atomic, quirks=quirks, host=host, wrap=wrap)
    if root is not None and model.quirks & {Quirk.DATALESS, Quirk.QUARANTINE, Quirk.FLAGS}:
        try:
            os.setxattr(root, f"{_HIDDEN}probe", b"")
            os.removexattr(root, f"{_HIDDEN}probe")
        except OSError as error:
            raise LinkmodeError(
                f"no quirk of attributes on {os.fspath(root)}",
                why=f"it keeps none of a user's: {error.strerror}",
                hint="use btrfs, xfs or ext4, or tmpfs of Linux 6.6 or later",
            ) from error
    return model.platform


@dataclass(frozen=True, slots=True)
class Steps:
    """What a clone of a directory consists of where it is not atomic, one call an item.

    Each names directories by descriptors and entries by names; `flags` are those of clonefile.
    """

    item_directory: Callable[[int, str], None]
    """(directory, name): an empty directory appears."""
    item_file: Callable[[int, str, int, str, int], None]
    """(source, name, target, new, flags): a file appears, whole."""
    item_symlink: Callable[[int, str, int, str, int], None]
    """(source, name, target, new, flags): a symlink appears."""
    item_finish: Callable[[int, int, int], None]
    """(source, made, flags): a directory gets attributes, owner, permission bits and times."""


class Model:
    """The functions of one system. `calls` is what `MacPlatform` is given, `steps` its insides."""

    def __init__(
        self,
        *,
        atomic: bool = True,
        quirks: Set[str] = frozenset(),
        host: linux.Calls = linux.CALLS,
        wrap: Wrap | None = None,
    ) -> None:
        self.atomic = atomic
        self.quirks = frozenset(Quirk(quirk) for quirk in quirks)
        self._host = host
        self._local = threading.local()
        self._capable: dict[int, bool] = {}
        self._told: set[tuple[int, int, int]] = set()
        self._inside = Steps(
            self._make_directory, self._clone_file, self._clone_symlink, self._finish_directory
        )
        self.calls = self._calls()
        self.steps = self._inside
        if wrap is not None:
            self.calls = replace(self.calls, **_wrapped(self.calls, wrap, {"errno"}))
            self.steps = replace(self.steps, **_wrapped(self.steps, wrap, set()))

    @property
    def platform(self) -> MacPlatform:
        """The linker's own platform over this model."""
        return MacPlatform(self.calls, proof="modelled")

    def leave_errno(self, number: int) -> None:
        """Leave one of Darwin's error numbers behind, as a failing call of this thread does."""
        self._local.errno = number

    def _calls(self) -> macos.Calls:
        calls = self._literal_calls()
        if Quirk.CASE_INSENSITIVE in self.quirks:
            found = {name: self._finding(name, getattr(calls, name)) for name in _NAMES}
            found["rename"] = _respelling(found["rename"])
            calls = replace(calls, **found)
        return calls

    def _finding(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a call that finds the names it is given as such a volume does."""

        def finding(*given: Any, **options: Any) -> Any:
            names = list(given)
            for place, directory in _NAMES[name]:
                at = names[directory] if isinstance(directory, int) else options.get(directory)
                names[place] = _found(at, names[place])
            return function(*names, **options)

        return finding

    def _literal_calls(self) -> macos.Calls:
        host = self._host
        calls = {name: darwin.speaking(getattr(host, name)) for name in darwin.POSIX}
        if Quirk.DATALESS in self.quirks:
            calls["read"] = self._reading(calls["read"])
        if Quirk.FLAGS in self.quirks:
            calls["fstat"] = _with_flags(calls["fstat"])
            calls.update({name: _heeding(calls[name]) for name in ("chmod", "utime", "rmdir")})
        return macos.Calls(
            **calls,
            open=self._creating(darwin.opening(host.open)),
            unlink=self._heeded(darwin.unlinking(host.unlink)),
            access=host.access,
            sleep=host.sleep,
            birth=darwin.birth(host),
            access_list=_access_list,
            clonefileat=self._answering(self.clonefileat),
            fclonefileat=self._answering(self.fclonefileat),
            renameatx_np=self._answering(self.renameatx_np),
            flistxattr=self._answering(self.flistxattr),
            fremovexattr=self._answering(self.fremovexattr),
            fchflags=self._answering(self.fchflags),
            errno=lambda: getattr(self._local, "errno", 0),
        )

    def _answering(self, function: Callable[..., int | None]) -> Callable[..., int]:
        """Return a function with C's way to tell errors."""

        def answer(*given: Any) -> int:
            try:
                return function(*given) or 0
            except Failed as failed:
                error = as_darwin(failed.error)
            except _Refused as refused:
                error = darwin_error(str(refused))
            except OSError as said:
                error = as_darwin(said)
            self.leave_errno(error.errno or 0)
            return -1

        return answer

    # What a process meets beside the calls that are modelled.

    def _creating(self, function: Callable[..., int]) -> Callable[..., int]:
        if Quirk.QUARANTINE not in self.quirks:
            return function

        def opened(name: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            descriptor = function(name, flags, mode, dir_fd=dir_fd)
            if flags & os.O_CREAT:
                os.setxattr(descriptor, _QUARANTINE, b"0081")
            return descriptor

        return opened

    def _heeded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return _heeding(function) if Quirk.FLAGS in self.quirks else function

    def _reading(self, function: Callable[..., int]) -> Callable[..., int]:
        def read(descriptor: int, *more: Any) -> int:
            if _DATALESS in _attributes(descriptor):
                raise darwin_error("EDEADLK")
            return function(descriptor, *more)

        return read

    # The functions, as in C but for the way in which they fail.

    def clonefileat(self, source: int, name: bytes, target: int, new: bytes, flags: int) -> None:
        """Clone by name."""
        if flags & ~_FLAGS:
            raise _Refused("EINVAL")
        follow = not flags & CLONE_NOFOLLOW
        seen = os.stat(name, dir_fd=source, follow_symlinks=follow)
        if stat.S_ISLNK(seen.st_mode):
            self._check(seen, target, new)
            self.steps.item_symlink(source, os.fsdecode(name), target, os.fsdecode(new), flags)
            return
        if not (stat.S_ISREG(seen.st_mode) or stat.S_ISDIR(seen.st_mode)):
            self._check(seen, target, new)
            raise _Refused("EINVAL")
        kind = 0 if stat.S_ISREG(seen.st_mode) else os.O_DIRECTORY
        readable = os.access(name, os.R_OK, dir_fd=source)
        if not readable:  # what is wrong with the destination is told first
            self._check(seen, target, new)
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | kind, dir_fd=source)
        with _closing(descriptor):
            self._clone(descriptor, target, new, flags)

    def fclonefileat(self, source: int, target: int, new: bytes, flags: int) -> None:
        """Clone what a descriptor refers to."""
        if flags & ~_FLAGS:
            raise _Refused("EINVAL")
        if fcntl.fcntl(source, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
            raise _Refused("EBADF")
        self._clone(source, target, new, flags)

    def renameatx_np(self, source: int, name: bytes, target: int, new: bytes, flags: int) -> None:
        """Rename, replacing nothing or swapping."""
        if flags & ~(RENAME_EXCL | RENAME_SWAP) or flags == RENAME_EXCL | RENAME_SWAP:
            raise _Refused("EINVAL")
        old, final = os.fsdecode(name), os.fsdecode(new)
        held = Quirk.FLAGS in self.quirks and (_is_held(source, old) or _is_held(target, final))
        if held:
            raise _Refused("EPERM")
        if not flags:
            self._host.rename(old, final, src_dir_fd=source, dst_dir_fd=target)
            return
        way = linux.RENAME_NOREPLACE if flags == RENAME_EXCL else linux.RENAME_EXCHANGE
        self._host.renameat2(source, old, target, final, way)

    def flistxattr(self, descriptor: int, buffer: Any, size: int, _options: int) -> int:
        """List the names of extended attributes, each with a NUL behind it."""
        names = [
            name.removeprefix(_USER)
            for name in _attributes(descriptor)
            if name.startswith(_USER) and not name.startswith(_HIDDEN)
        ]
        data = b"".join(os.fsencode(name) + b"\0" for name in names)
        if buffer is None:
            return len(data)
        if len(data) > size:
            raise _Refused("ERANGE")
        ctypes.memmove(buffer, data, len(data))
        return len(data)

    def fremovexattr(self, descriptor: int, name: bytes, _options: int) -> None:
        """Remove an extended attribute."""
        full = _USER + os.fsdecode(name)
        if full == _QUARANTINE and Quirk.QUARANTINE in self.quirks:
            raise _Refused("EPERM")
        os.removexattr(descriptor, full)

    def fchflags(self, descriptor: int, flags: int) -> None:
        """Give a file flags, of which this model has one."""
        if flags & UF_IMMUTABLE:
            os.setxattr(descriptor, _FLAGS_OF, b"2")
        elif _FLAGS_OF in _attributes(descriptor):
            os.removexattr(descriptor, _FLAGS_OF)

    # Cloning.

    def _check(self, source: os.stat_result, target: int, new: bytes) -> None:
        """Refuse what the kernel refuses before it asks the filesystem, in its order."""
        if not new:
            raise _Refused("ENOENT")
        try:
            there = os.stat(new, dir_fd=target, follow_symlinks=False)
        except FileNotFoundError:
            above = os.path.dirname(new) or b"."
            parent = os.stat(above, dir_fd=target)
        else:
            self._exists(there)
        if source.st_dev != parent.st_dev:
            raise _Refused("EXDEV")
        if Quirk.HFS in self.quirks or not self._can_clone(parent.st_dev, target, above):
            raise _Refused("ENOTSUP")

    def _exists(self, there: os.stat_result) -> None:
        seen = (there.st_dev, there.st_ino, there.st_ctime_ns)
        if Quirk.MISSING_FOR_EXISTS in self.quirks and seen not in self._told:
            self._told.add(seen)
            raise _Refused("ENOENT")
        raise _Refused("EEXIST")

    def _can_clone(self, device: int, target: int, above: bytes) -> bool:
        """Return whether the volume shares data: found once, by doing, on files without a name."""
        if device not in self._capable:
            directory = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target)
            with _closing(directory):
                self._capable[device] = self._shares(directory)
        return self._capable[device]

    def _shares(self, directory: int) -> bool:
        reading = os.open(".", _NAMELESS, 0o600, dir_fd=directory)
        with _closing(reading):
            writing = os.open(".", _NAMELESS, 0o600, dir_fd=directory)
            with _closing(writing):
                try:
                    self._host.ficlone(writing, reading)
                except OSError as error:
                    return error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS)
                return True

    def _clone(self, descriptor: int, target: int, new: bytes, flags: int) -> None:
        """Clone an open file or directory."""
        seen = os.fstat(descriptor)
        self._check(seen, target, new)
        name = os.fsdecode(new)
        if stat.S_ISREG(seen.st_mode):
            self._share(descriptor, target, name, flags)
        elif not stat.S_ISDIR(seen.st_mode):
            raise _Refused("EINVAL")
        elif self.atomic:
            hidden = os.path.join(os.path.dirname(name), f".clonefile-{os.urandom(6).hex()}")
            with _undone_by_failure(target) as made:
                self._hierarchy(self._inside, descriptor, target, hidden, flags, made)
                self._host.renameat2(target, hidden, target, name, linux.RENAME_NOREPLACE)
        else:
            with _undone_by_failure(target) as made:
                self._hierarchy(self.steps, descriptor, target, name, flags, made)

    def _hierarchy(
        self, steps: Steps, source: int, target: int, new: str, flags: int, made: list[str]
    ) -> None:
        """Clone a directory item by item; `made` collects the paths of what is there."""
        host = LinuxPlatform(self._host)
        reading, making = Trail(host, source), Trail(host, target)
        device = os.fstat(source).st_dev
        names = [new]
        try:
            steps.item_directory(target, new)
            made.append(f"{new}/")
            making.enter(new)
            pending = [iter(sorted(host.entries(source).kinds().items()))]
            while pending:
                here, there = reading.handle, making.handle
                name, kind = next(pending[-1], ("", None))
                path = "/".join([*names, name])
                if kind is None:
                    steps.item_finish(here, there, flags)
                    pending.pop()
                    names.pop()
                    making.leave()
                    if pending:
                        reading.leave()
                elif kind is Kind.DIRECTORY:
                    if os.stat(name, dir_fd=here, follow_symlinks=False).st_dev != device:
                        raise _Refused("EXDEV")
                    steps.item_directory(there, name)
                    made.append(f"{path}/")
                    reading.enter(name)
                    making.enter(name)
                    names.append(name)
                    pending.append(iter(sorted(host.entries(reading.handle).kinds().items())))
                elif kind is Kind.OTHER:
                    raise _Refused("EINVAL")
                else:
                    step = steps.item_file if kind is Kind.FILE else steps.item_symlink
                    step(here, name, there, name, flags)
                    made.append(path)
        finally:
            reading.reset()
            making.reset()

    def _make_directory(self, parent: int, name: str) -> None:
        os.mkdir(name, 0o700, dir_fd=parent)
        os.chmod(name, 0o700, dir_fd=parent)  # whatever the umask

    def _clone_file(self, source: int, name: str, target: int, new: str, flags: int) -> None:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
        with _closing(descriptor):
            self._share(descriptor, target, new, flags)

    def _share(self, reading: int, target: int, new: str, flags: int) -> None:
        """Make a file with the data of an open one; it gets its name when it is whole."""
        attributes = _attributes(reading)
        if Quirk.DATALESS in self.quirks and _DATALESS in attributes:
            raise _Refused("EDEADLK")
        above = os.path.dirname(new) or "."
        writing = os.open(above, _NAMELESS, 0o600, dir_fd=target)
        with _closing(writing):
            seen = os.fstat(reading)
            if seen.st_size:
                self._host.ficlone(writing, reading)
            if Quirk.QUARANTINE in self.quirks:
                attributes.setdefault(_QUARANTINE, b"0081")
            self._dress(writing, attributes, seen, flags, seen.st_mode & ~0o6000)
            os.link(f"/proc/self/fd/{writing}", new, dst_dir_fd=target)

    def _clone_symlink(self, source: int, name: str, target: int, new: str, flags: int) -> None:
        seen = os.stat(name, dir_fd=source, follow_symlinks=False)
        os.symlink(os.readlink(name, dir_fd=source), new, dir_fd=target)
        times = (seen.st_atime_ns, seen.st_mtime_ns)
        os.utime(new, ns=times, dir_fd=target, follow_symlinks=False)
        if os.geteuid() == 0 and not flags & CLONE_NOOWNERCOPY:
            os.chown(new, seen.st_uid, seen.st_gid, dir_fd=target, follow_symlinks=False)

    def _finish_directory(self, source: int, made: int, flags: int) -> None:
        seen = os.fstat(source)
        self._dress(made, _attributes(source), seen, flags, seen.st_mode)

    def _dress(
        self,
        made: int,
        attributes: dict[str, bytes],
        seen: os.stat_result,
        flags: int,
        mode: int,
    ) -> None:
        """Give a clone the attributes, owner, permission bits and times that it shall have."""
        for name, value in attributes.items():
            if name.startswith(_USER) and (name != _ACL or flags & CLONE_ACL):
                os.setxattr(made, name, value)
        if os.geteuid() == 0 and not flags & CLONE_NOOWNERCOPY:
            os.fchown(made, seen.st_uid, seen.st_gid)
        os.fchmod(made, mode & 0o7777)
        os.utime(made, ns=(seen.st_atime_ns, seen.st_mtime_ns))


class _Refused(Exception):
    """The model says no, by the name of one of Darwin's errors."""


def _wrapped(table: Any, wrap: Wrap, but: Set[str]) -> dict[str, Callable[..., Any]]:
    names = [field.name for field in fields(table) if field.name not in but]
    return {name: wrap(name, getattr(table, name)) for name in names}


def _attributes(descriptor: int) -> dict[str, bytes]:
    """Return the extended attributes of an open file; none where the filesystem has none."""
    try:
        names = os.listxattr(descriptor)
    except OSError:
        return {}
    return {name: os.getxattr(descriptor, name) for name in names if name.startswith(_USER)}


def _found(directory: int | None, name: Any) -> Any:
    """Return the name by which a directory knows what is called like this, else the name."""
    if directory is None or isinstance(name, int) or not name:
        return name
    text = os.fsdecode(name)
    if "/" in text or text in (".", ".."):
        return name
    again = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    with _closing(again):
        there = os.listdir(again)
    if text not in there:
        wanted = fold(text)
        text = next((other for other in there if fold(other) == wanted), text)
    return os.fsencode(text) if isinstance(name, bytes) else text


def _respelling(rename: Callable[..., None]) -> Callable[..., None]:
    """Return a rename that gives what it replaces the letters it was called with, as HFS+ does."""

    def respelling(name: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        rename(name, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        there = _found(dst_dir_fd, new)
        if there != new:
            os.rename(there, new, src_dir_fd=dst_dir_fd, dst_dir_fd=dst_dir_fd)

    return respelling


class _Stat:
    """What fstat returns on a system whose files have flags."""

    def __init__(self, seen: os.stat_result) -> None:
        self._seen = seen
        self.st_flags = UF_IMMUTABLE

    def __getattr__(self, name: str) -> Any:
        return getattr(self._seen, name)


def _with_flags(function: Callable[[int], os.stat_result]) -> Callable[[int], Any]:
    def fstat(descriptor: int) -> Any:
        seen = function(descriptor)
        return _Stat(seen) if _FLAGS_OF in _attributes(descriptor) else seen

    return fstat


def _heeding(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a call on a descriptor or a name that an immutable file refuses."""

    def heeded(where: int | str, *given: Any, **options: Any) -> Any:
        if _is_held(options.get("dir_fd"), where):
            raise darwin_error("EPERM", str(where))
        return function(where, *given, **options)

    return heeded


def _is_held(directory: int | None, where: int | str) -> bool:
    """Return whether what a descriptor or a name stands for is immutable."""
    place = where
    if isinstance(where, str) and directory is not None:
        place = f"/proc/self/fd/{directory}/{where}"
    try:
        names = os.listxattr(place, follow_symlinks=isinstance(place, int))
    except OSError:
        return False
    return _FLAGS_OF in names


def _access_list(descriptor: int) -> bytes:
    return _attributes(descriptor).get(_ACL, b"")


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _undone_by_failure(directory: int) -> Iterator[list[str]]:
    """Give a list of paths below a directory: if what is done meanwhile fails they are removed.

    All or nothing, but nothing of anybody else: a directory in which somebody put something stays.
    """
    made: list[str] = []
    try:
        yield made
    except (OSError, Failed, _Refused):
        for path in made:
            if path.endswith("/"):  # it may be read-only by now
                with contextlib.suppress(OSError):
                    os.chmod(path, 0o700, dir_fd=directory)
        for path in reversed(made):
            with contextlib.suppress(OSError):
                if path.endswith("/"):
                    os.rmdir(path, dir_fd=directory)
                else:
                    os.unlink(path, dir_fd=directory)
        raise
