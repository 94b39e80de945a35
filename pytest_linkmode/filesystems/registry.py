"""What we made outside of a private place, on disk, so that it can be undone after a kill.

Every step that could outlive its process is written down before it is taken: a mount in the
host's namespace, a directory on a disk of the machine. `linkmode clean` (`clean`) reads the
notes of processes that are gone, and undoes what they say and nothing else.

One file a process, named and locked by it. Its first line says who: pid, start time and boot
id together are never used twice; and of which run, if its controller undoes what it leaves.
Each further line is a step, or that a step was undone; the file goes when nothing is
left to undo.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pytest_linkmode import HERE, kernel, namespaces, opening
from pytest_linkmode.errors import LinkmodeError
from pytest_linkmode.filesystems.base import remove_tree

if HERE == "win32":
    msvcrt: Any = import_module("msvcrt")
else:
    import fcntl

_NAME = "pytest-linkmode-registry"
SUFFIX = ".steps"

MOUNT = "mount"
"""Something mounted on `path`; it is ours if type and source (if known) are as noted."""
POINT = "point"
"""A directory to mount on, which is empty when nothing is mounted."""
TREE = "tree"
"""A directory with everything in it; it is ours if the inode is as noted."""
FILE = "file"
"""An image; it is ours if the inode is as noted."""
IMAGE = "image"
"""An image of macOS or Windows, which `tool` may have attached and mounted at `point`."""

UNDONE = "undone"
GONE = "gone"
"""Nothing was left of it."""
KEPT = "kept"
"""Not touched, or not undone; `Finding.why` says for what reason."""
FOUND = "found"
"""It is there and ours; only in a dry run is that the last word."""


@dataclass(frozen=True)
class Finding:
    """What became, or would become, of one step that was left behind, by the words above."""

    step: str
    path: str
    pid: int
    action: str
    why: str = ""


class Ledger:
    """The notes of this process."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._pid = os.getpid()
        self._file: int | None = None
        self._path = ""
        self._next = 0
        self._open: set[int] = set()
        self._lock = threading.Lock()

    def note(self, step: str, path: str, **facts: str) -> int:
        """Write down a step that is about to be taken, and return its number."""
        with self._lock:
            if self._file is None:
                self._file = self._start()
            self._next += 1
            self._open.add(self._next)
            self._write({"step": step, "id": self._next, "path": path, **facts})
            return self._next

    def made(self, number: int, path: str) -> None:
        """Add which inode came of a step, so that another one at its path is left alone."""
        with self._lock:
            self._write({"made": number, "inode": os.lstat(path).st_ino})

    def forget(self, number: int) -> None:
        """Write down that a step was undone."""
        with self._lock:
            if number not in self._open or self._file is None:
                return
            self._open.remove(number)
            if self._open:
                self._write({"undone": number})
            else:
                if _KEEPS_OPEN_FILES:
                    os.close(self._file)
                with suppress(*_GONE):  # a temporary directory may be emptied by others
                    os.unlink(self._path)
                if not _KEEPS_OPEN_FILES:
                    os.close(self._file)
                self._file = None

    def owned(self) -> bool:
        """Whether these are the notes of this very process, not of one that forked it."""
        return self._pid == os.getpid()

    def _start(self) -> int:
        # Locked and filled under a name that `clean` does not read, then renamed: nobody ever
        # sees notes without an owner.
        name = f"{self._pid}-{os.urandom(4).hex()}"
        hidden = os.path.join(self._directory, f".{name}")
        self._path = os.path.join(self._directory, name + SUFFIX)
        first = self._path if _KEEPS_OPEN_FILES else hidden
        file = os.open(first, _NOTES, 0o600)
        _lock(file)
        owner = {"pid": self._pid, "start": _start_time(self._pid), "boot": _boot(), **_belonging}
        os.write(file, json.dumps(owner).encode() + b"\n")
        if first == hidden:
            os.rename(hidden, self._path)
        return file

    def _write(self, entry: Mapping[str, object]) -> None:
        if self._file is not None:
            os.write(self._file, json.dumps(entry).encode() + b"\n")


_KEEPS_OPEN_FILES = HERE == "win32"
"""Whether a file that is open can be neither renamed nor removed.

There notes have their name at once: who meets them unlocked and empty leaves them alone.
"""

_GONE = (FileNotFoundError, *((PermissionError,) if _KEEPS_OPEN_FILES else ()))
"""Why a note cannot be removed and need not be: others did it, or read it to do so."""

_NOTES = (
    os.O_WRONLY
    | os.O_APPEND
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)

if HERE == "win32":
    _FAR = 1 << 40
    """Where a byte is locked: others may read the notes themselves."""

    def _lock(file: int, *, wait: bool = True) -> bool:
        """Lock an open file for this process's life; return whether it is ours."""
        before = os.lseek(file, 0, os.SEEK_CUR)
        os.lseek(file, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno not in (0, errno.EACCES):  # Wine's C library forgets to say which
                raise
            return False
        finally:
            os.lseek(file, before, os.SEEK_SET)
        return True

else:

    def _lock(file: int, *, wait: bool = True) -> bool:
        """Lock an open file for this process's life; return whether it is ours."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True


_ledger: Ledger | None = None
_belonging: dict[str, str] = {}


def ledger() -> Ledger:
    """Return the notes of this process."""
    global _ledger  # one a process, as the lock is
    if _ledger is None or not _ledger.owned():
        _ledger = Ledger(directory())
    return _ledger


def belong_to(run: str) -> None:
    """Say of which run this process is a worker, in the notes that it starts from now on."""
    _belonging["run"] = run


def directory() -> str:
    """Return where all notes of this user are kept."""
    return namespaces.own_directory(_NAME, 0o700)


def clear_up(run: str) -> list[str]:
    """Undo what the workers of a run left, which has ended; return a line for each thing that
    stays.
    """
    stays: dict[str, str] = {}
    for found in clean(run=run):
        if found.action == KEPT:
            stays.setdefault(found.path, found.why)
    return [
        f"linkmode: a worker left {path}: {why} (to remove it: linkmode clean)"
        for path, why in stays.items()
    ]


def clean(*, dry_run: bool = False, run: str | None = None) -> tuple[Finding, ...]:
    """Undo what processes that are gone left behind, last step first, and say what was found:
    all of them, or the workers of one run.

    Touches nothing that the registry does not hold, nothing whose owner lives, and nothing
    that is no longer what was noted. With `dry_run` nothing at all. Several at once do not
    meet: each set of notes is locked.
    """
    findings: list[Finding] = []
    if not os.path.lexists(namespaces.own_path(_NAME)):
        return ()
    where = directory()
    for name in sorted(os.listdir(where)):
        if name.startswith("."):
            # Killed before it had taken any step. The name begins with its pid.
            if run is None and not dry_run and _start_time(int(name[1:].partition("-")[0])) is None:
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(where, name))
        elif name.endswith(SUFFIX):
            with _locked(os.path.join(where, name)) as (notes, free):
                found, settled = _settle(notes, run, free=free, dry_run=dry_run)
                findings += found
                if settled and not _KEEPS_OPEN_FILES:
                    os.unlink(os.path.join(where, name))
            if settled and _KEEPS_OPEN_FILES:
                with suppress(OSError):  # another `clean` was faster
                    os.unlink(os.path.join(where, name))
    return tuple(findings)


@contextmanager
def _locked(path: str) -> Iterator[tuple[list[dict[str, Any]], bool]]:
    """Give the notes at `path`, none where they are gone, and whether they are held by us and not
    by a living process.
    """
    try:
        held = os.open(path, opening.READ_FILE)
    except FileNotFoundError:
        yield [], False
        return
    with open(held, encoding="utf-8", errors="replace") as lines:
        free = _lock(held, wait=False)
        # Another `clean` may have settled and removed them while we waited to open them.
        yield list(_entries(lines)) if os.fstat(held).st_nlink else [], free


def _entries(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with suppress(json.JSONDecodeError):  # the last line of a process killed in its midst
            yield json.loads(line)


def _settle(
    notes: list[dict[str, Any]], run: str | None, *, free: bool, dry_run: bool
) -> tuple[list[Finding], bool]:
    """Undo what notes say; return what was found, and whether they are settled.

    What a living process holds is passed over; of one run that has ended it is told.
    """
    owner = notes[0] if notes and "pid" in notes[0] else None
    if owner is None or run not in (None, owner.get("run")):
        return [], False
    held = not free or _lives(owner)
    if held and run is None:
        return [], False
    findings: list[Finding] = []
    undone = {entry["undone"] for entry in notes if "undone" in entry}
    inodes = {entry["made"]: entry["inode"] for entry in notes if "made" in entry}
    steps = [entry for entry in notes if "step" in entry and entry["id"] not in undone]
    unsettled = dry_run or held
    for entry in reversed(steps):
        remains = _STEPS[entry["step"]]
        action, why = remains.look({**entry, "inode": inodes.get(entry["id"])})
        if action == FOUND and held:
            action, why = KEPT, "a process of that worker lives"
        below = os.path.join(entry["path"], "")
        if action == FOUND and any(
            each.action == KEPT and each.path.startswith(below) for each in findings
        ):
            action, why, unsettled = KEPT, "something in it is kept", True
        if action == FOUND and not dry_run:
            try:
                remains.undo(entry)
                action = UNDONE
            except OSError as error:
                action, why, unsettled = KEPT, error.strerror or str(error), True
            except LinkmodeError as error:
                action, why, unsettled = KEPT, f"{error.what}: {error.why}", True
        findings.append(Finding(entry["step"], entry["path"], owner["pid"], action, why))
    return findings, not unsettled


def _lives(owner: Mapping[str, Any]) -> bool:
    if HERE != "linux":  # the lock, which was free, says all there is to know
        return False
    return bool(owner["boot"] == _boot() and owner["start"] == _start_time(owner["pid"]))


@dataclass(frozen=True)
class _Remains:
    """How to tell what is left of a kind of step, and how to undo it."""

    look: Callable[[Mapping[str, Any]], tuple[str, str]]
    undo: Callable[[Mapping[str, Any]], None]


def _look_mount(entry: Mapping[str, Any]) -> tuple[str, str]:
    there = kernel.mount_at(entry["path"])
    if there is None:
        return GONE, ""
    # A daemon of FUSE may say which one it is: "fuse.bindfs" for "fuse" (mount.fuse3(8)).
    fstypes = (there.fstype, there.fstype.partition(".")[0])
    if entry["fstype"] not in fstypes or entry["source"] not in ("", there.source):
        return KEPT, f"{there.fstype} of {there.source} is mounted there now"
    return FOUND, ""


def _look_inode(entry: Mapping[str, Any]) -> tuple[str, str]:
    path = entry["path"]
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return GONE, ""
    if entry["inode"] not in (None, there.st_ino):
        return KEPT, "something else has that name now"
    if mounted_below(path):
        return KEPT, "something is mounted below it"
    return FOUND, ""


def mounted_below(path: str) -> bool:
    """Return whether removing what is in a directory would remove what is mounted there."""
    if HERE != "linux":
        return mount_points_below(path)
    return any(mount.target.startswith(path + os.sep) for mount in kernel.mounts())


def remove_used(path: str) -> None:
    """Remove the directory of a test that is over, to make room for the next.

    It is left to the end of its filesystem where something is mounted in it, which is not ours, or
    where the test has left this process.
    """
    real = os.path.realpath(path)
    try:
        stands_there = (os.getcwd() + os.sep).startswith(real + os.sep)
    except FileNotFoundError:  # it stands in what somebody else has removed
        stands_there = False
    if not (stands_there or mounted_below(real)):
        remove_tree(real)


def mount_points_below(path: str) -> bool:
    """Return whether a directory has mount points in it, where no table tells of them."""
    return any(
        os.path.ismount(os.path.join(directory, name))
        for directory, names, _ in os.walk(path)
        for name in names
    )


def _look_tree(entry: Mapping[str, Any]) -> tuple[str, str]:
    action, why = _look_inode(entry)
    if action == FOUND and entry["inode"] is None and os.listdir(entry["path"]):
        # Its maker was killed before it could say which inode it had made, and so before it
        # could put anything in.
        return KEPT, "it is not known to be ours"
    return action, why


def _undo_mount(entry: Mapping[str, Any]) -> None:
    kernel.unmount(entry["path"])


def _undo_point(entry: Mapping[str, Any]) -> None:
    os.rmdir(entry["path"])


def _undo_tree(entry: Mapping[str, Any]) -> None:
    remove_tree(entry["path"])
    with suppress(FileNotFoundError):
        os.rmdir(entry["path"])


def _undo_file(entry: Mapping[str, Any]) -> None:
    os.unlink(entry["path"])


def _undo_image(entry: Mapping[str, Any]) -> None:
    from pytest_linkmode.filesystems import image_tools

    image = image_tools.Image(entry["path"], entry["point"], "", 0)
    image_tools.release(image_tools.TOOLS[entry["tool"]], image)


_STEPS: Mapping[str, _Remains] = {
    MOUNT: _Remains(_look_mount, _undo_mount),
    POINT: _Remains(_look_inode, _undo_point),
    TREE: _Remains(_look_tree, _undo_tree),
    FILE: _Remains(_look_inode, _undo_file),
    IMAGE: _Remains(_look_inode, _undo_image),
}


def _boot() -> str:
    if HERE != "linux":
        return ""
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as lines:
        return lines.read().strip()


def _start_time(pid: int) -> int | None:
    """Return when a process started, in ticks since boot, or None where there is none, or only
    what its parent has not waited for yet.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as lines:
            # The second field is the program's name in parentheses, which may hold any.
            fields = lines.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
