"""The seam between the engine and an operating system.

A `Platform` offers primitives and decides nothing: each either does exactly what its name says,
leaving nothing behind when it fails, or raises `Failed` with the primitive and the system's
error. Directories are integer handles (descriptors on POSIX), names are relative to a handle,
and no primitive follows a symlink that it finds there.
"""

from __future__ import annotations

import enum
from _thread import _local as local  # `threading` is not needed for anything else
from collections.abc import Callable

from linker.conditions import Primitive
from linker.light import NamedTuple, Protocol


class Kind(enum.Enum):
    """What a name is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    OTHER = "special file"


class Look(NamedTuple):
    """What is known of a name without opening it. `changed_ns` is the filesystem's own time of
    the last change.
    """

    kind: Kind
    device: int
    inode: int
    size: int
    changed_ns: int


class Listing(NamedTuple):
    """The names in a directory by kind, each in order."""

    files: list[str]
    directories: list[str]
    symlinks: list[str]
    others: list[str]

    def kinds(self) -> dict[str, Kind]:
        """Return what each name is."""
        return {
            name: kind
            for kind, names in zip(
                (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.OTHER), self, strict=True
            )
            for name in names
        }

    def names(self) -> list[str]:
        """Return all names."""
        return [*self.files, *self.directories, *self.symlinks, *self.others]


class DirectoryFacts(NamedTuple):
    """What is known of an open directory; times in nanoseconds, mode without the type."""

    device: int
    inode: int
    mode: int
    atime_ns: int
    mtime_ns: int
    owner: int = 0
    """The number of the user whose it is; always the same where a system has no such numbers."""


class Stamp(Protocol):
    """Permission bits and times (nanoseconds) that a directory shall have."""

    mode: int
    atime_ns: int
    mtime_ns: int


ASIDE = ".old"
"""What `exchange_emulated` appends to a name in the stage to call the old entry for a moment."""


class Failed(Exception):
    """A primitive failed: which one, and the operating system's error."""

    def __init__(self, primitive: Primitive, error: OSError) -> None:
        super().__init__(primitive, error)
        self.primitive = primitive
        self.error = error
        self.left: tuple[str, ...] = ()
        """Names in the directory at hand that could not be removed again."""


class CheckFailed(OSError):
    """What our own check found after a call that claimed success.

    `name` takes the place of an errno's name: ``NOEFFECT`` or ``SHORT``.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def nothing_made(primitive: Primitive) -> Failed:
    """Return the failure of a primitive whose call claimed success and made nothing."""
    message = f"{primitive} claimed success and made nothing"
    return Failed(primitive, CheckFailed("NOEFFECT", message))


def short(done: int, wanted: int) -> CheckFailed:
    """Return the error of a call that claimed success and did less than was asked."""
    name = "NOEFFECT" if done == 0 else "SHORT"
    return CheckFailed(name, f"claimed success with {done} of {wanted} bytes")


class Buffer(local):
    """Room of so many bytes for what is read and written on, another in each thread."""

    def __init__(self, size: int) -> None:
        self.view = memoryview(bytearray(size))


def copy_range(
    read: Callable[[int, list[memoryview]], int],
    reading: int,
    write: Callable[[int, memoryview], int],
    writing: int,
    buffer: memoryview,
    length: int,
) -> None:
    """Copy `length` bytes between two open files, at their positions, through a buffer; a source
    that ends early is SHORT. Less than nothing is nothing: what grows behind a hole is not ours.
    """
    left = length
    while left > 0:
        part = buffer[:left]
        got = read(reading, [part])
        if got == 0:
            raise short(length - left, length)
        if got < len(part):
            part = part[:got]
        if missing := write_all(write, writing, part):
            raise short(length - left + got - missing, length)
        left -= got


def write_all(write: Callable[[int, memoryview], int], writing: int, part: memoryview) -> int:
    """Write all of a buffer; return how many bytes could not be written, for the call took none."""
    while (wrote := write(writing, part)) < len(part):
        if wrote == 0:
            return len(part)
        part = part[wrote:]
    return 0


class Platform(Protocol):
    """The primitives of one operating system."""

    @property
    def name(self) -> str:
        """The platform's name in conditions and policies, such as ``linux``."""

    @property
    def proof(self) -> str:
        """``real``, or ``modelled`` where the calls below are a model's."""

    def error_name(self, error: OSError) -> str:
        """Return the name of an error, such as ``EXDEV``."""

    def pause(self, attempt: int) -> None:
        """Wait a little before the `attempt`-th retry (from 1)."""

    # Looking.

    def open_root(self, path: str) -> int:
        """Open a directory by its path, following symlinks: the root of a tree, once."""

    def open_below(self, directory: int, name: str, primitive: Primitive = Primitive.OPEN) -> int:
        """Open the directory `name`, refusing a symlink. Failures are told as `primitive`."""

    def close(self, directory: int) -> None:
        """Close a handle; never raises."""

    def facts(self, directory: int) -> DirectoryFacts:
        """Return what is known of an open directory."""

    def entries(self, directory: int) -> Listing:
        """List a directory as it is now."""

    def entries_once(self, directory: int) -> Listing:
        """List a directory whose handle was opened just now and has not been listed."""

    def look(self, directory: int, name: str) -> Look | None:
        """Return what `name` is, or None where there is nothing."""

    def born(self, directory: int, name: str) -> int | None:
        """Return when the entry was made (ns, by the clock of `Look.changed_ns`).

        None where that is not told, or where inode numbers are never given a second time.
        """

    def inheritance(self, directory: int) -> tuple[object, ...]:
        """Return what new entries take over from this directory.

        Two directories with equal values give the entries made in them the same filesystem,
        attributes, group, project and default access list.
        """

    def is_writable(self, directory: int) -> bool:
        """Return whether entries can be made in and taken from this directory."""

    # Making.

    def clone_file(self, source: int, name: str, target: int, new: str) -> int:
        """Make `new` share the extents of `name`; return its inode number."""

    def copy_file(self, source: int, name: str, target: int, new: str) -> int:
        """Make `new` with the bytes of `name`, holes as holes; return its inode number."""

    @property
    def places_directly(self) -> bool:
        """Whether the two primitives below can be tried."""

    def clone_directly(
        self, source: int, name: str, target: int, new: str, placing: Callable[[int, int], None]
    ) -> int:
        """Clone into a file without a name and give it the name `new`, replacing nothing.

        `placing` is called with its inode number and the filesystem's time (ns) just before it
        gets the name.
        """

    def copy_directly(
        self, source: int, name: str, target: int, new: str, placing: Callable[[int, int], None]
    ) -> int:
        """Copy likewise."""

    def hardlink(self, source: int, name: str, target: int, new: str) -> int:
        """Make `new` another name of the file `name`; return its inode number as a negative one,
        as it is that of others as well; 0 if that cannot be told.
        """

    def symlink(self, text: str, target: int, new: str) -> int:
        """Make `new` a symlink that says `text`; return its inode number."""

    def recreate_symlink(self, source: int, name: str, target: int, new: str) -> int:
        """Make `new` a symlink like `name`, with its time; return its inode number."""

    def make_directory(self, parent: int, name: str, mode: int = 0o700) -> int:
        """Make and open a directory with at most the permission bits `mode`."""

    def stamp_directory(self, directory: int, seen: int, node: Stamp) -> None:
        """Give an open directory permission bits and times. `seen` are the bits that it had when
        it was made: a set-group-id bit that it inherited is kept.
        """

    def change_mode(self, directory: int, mode: int) -> None:
        """Give an open directory permission bits."""

    def check_bits(self, directory: int) -> None:
        """Raise `Failed` (STAMP) if an open directory would lose one of its bits, whatever others
        it were given.
        """

    def permissions(self, directory: int, name: str) -> int:
        """Return the permission bits of an entry that may be shut to us (OPEN)."""

    def let_in(self, directory: int, name: str, inode: int | None = None) -> bool:
        """Give the directory `name`, which may be shut to us, every permission of its owner.

        Return False, with nothing changed, if it has not the inode number that is given (OPEN).
        """

    def touch(self, directory: int) -> None:
        """Move the modification time of an open directory on to now (STAMP)."""

    # Names.

    def place(self, source: int, name: str, target: int, new: str) -> None:
        """Rename, replacing nothing (RENAME)."""

    def place_emulated(self, source: int, name: str, target: int, new: str) -> None:
        """Do the same by other calls, where the filesystem lacks the atomic one (RENAME)."""

    def check_swaps(self, directory: int) -> None:
        """Raise `Failed` (EXCHANGE) if in an open directory, which is our own, the call that swaps
        two names may be taken for one that gives the first the place of the second.
        """

    def exchange(
        self, source: int, name: str, target: int, new: str, ours: int | None = None
    ) -> Look | None:
        """Swap two names atomically (EXCHANGE); return what has `name` now.

        `ours` is the inode number of what had it, if that is known.
        """

    def exchange_emulated(self, source: int, name: str, target: int, new: str) -> None:
        """Do the same by other calls, where the filesystem lacks the atomic one (EXCHANGE).

        If it cannot go on halfway the old entry is in `source`, as `name` or `name` + `ASIDE`.
        """

    def remove_file(self, directory: int, name: str) -> None:
        """Remove a name that is not a directory (UNLINK)."""

    def remove_directory(self, directory: int, name: str) -> None:
        """Remove an empty directory (RMDIR)."""

    # Records and locks.

    def lock(self, directory: int) -> bool:
        """Lock an open directory for this process's life; return whether it was free."""

    def write_record(self, directory: int, name: str, data: bytes) -> None:
        """Make a small file with `data` (CREATE)."""

    def read_record(self, directory: int, name: str) -> bytes:
        """Read a small file whole (READ)."""


class ClonesDirectories(Protocol):
    """What a platform has beside `Platform` where one call may clone a whole directory.

    Neither is believed to have made all of it: who clones a directory looks through it.
    """

    def clone_directory(self, source: int, target: int, new: str) -> None:
        """Make `new` a clone of an open directory with everything in it (CLONE_DIRECTORY).

        If it fails something of it may be there.
        """

    def settle_clone(self, source: int, name: str, target: int, new: str) -> int:
        """Make sure that the file `new` is a whole clone of `name`, as `clone_file` leaves it.

        Return its inode number.
        """

    def strip_directory(self, source: int, made: int) -> None:
        """Take off an open directory the attributes that it took over from another.

        Its permission bits may be others afterwards.
        """
