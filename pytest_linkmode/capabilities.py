"""What can really be done between a source and a target directory, found by doing it.

Never by name, never with an empty file: 64 KiB that no filesystem can compress or keep inline,
flushed to disk, from one directory to the other. Each primitive either works, which is checked
by reading back, or meets a condition by the same table that the linker uses; so what a policy
would do there can be computed.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from linker.conditions import Condition, Primitive, Scope, condition_of
from linker.modes import LinkMode
from linker.policies import REFERENCE
from linker.policy import PRIMITIVES, Outcome, Policy
from pytest_linkmode import HERE, kernel
from pytest_linkmode.errors import LinkmodeError

REFLINK = "reflink"
HARDLINK = "hardlink"
SYMLINK = "symlink"
DIRCLONE = "dirclone"
CROSS_DEVICE = "cross-device"
CASE_INSENSITIVE = "case-insensitive"
FIXED_PERMISSIONS = "fixed-permissions"
COARSE_TIMES = "coarse-times"

CAPABILITIES: Mapping[str, str] = {
    REFLINK: "a file can be cloned: both share blocks until one is written to",
    HARDLINK: "a file can have a second name there",
    SYMLINK: "a symlink can be made there",
    DIRCLONE: "a directory can be cloned whole, by one call",
    CROSS_DEVICE: "source and target are two filesystems: neither link nor clone reaches across",
    CASE_INSENSITIVE: "two names in the target that differ in case only are one file",
    FIXED_PERMISSIONS: "permission bits cannot be set in the target, although nothing fails",
    COARSE_TIMES: "modification times are rounded in the target",
}
"""Every capability and what it means."""

PLATFORMS: Mapping[str, str] = {"linux": "linux", "darwin": "macos", "win32": "windows"}
"""`sys.platform` -> the word of conditions and policies."""

SAMPLE_SIZE = 64 * 1024
FICLONE = kernel.iow(0x94, 9, 4)
"""<linux/fs.h>; ioctl_ficlone(2)."""

_RETRIES = 5


@dataclass(frozen=True)
class Capabilities:
    """What a pair of directories can do: the names of it, and how each primitive fared.

    `results` has None where a primitive works, else the condition that it meets; `mkdir` is the
    same of making a directory in the target. `why` has a sentence for each capability, held or
    lacked.
    """

    names: frozenset[str]
    results: Mapping[Primitive, Condition | None] = field(repr=False)
    why: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    platform: str = "linux"
    mkdir: Condition | None = None

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.names))

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        return ", ".join(self) or "nothing"

    def outcome(self, mode: LinkMode, policy: Policy = REFERENCE) -> Outcome:
        """Return where a file requested in `mode` ends here by `policy`, and by which edges."""
        return policy.outcome(self.platform, mode, self.results)

    def expect(self, mode: LinkMode, policy: Policy = REFERENCE) -> LinkMode:
        """Return the mode in which a file requested in `mode` must end here by `policy`.

        Raises LinkmodeError where the policy ends in an error.
        """
        outcome = self.outcome(mode, policy)
        if outcome.mode is None:
            raise LinkmodeError(
                f"by the policy {policy.name!r}, {mode} ends in an error here",
                why="; ".join(
                    f"{primitive} meets {condition}"
                    for primitive, condition in self.results.items()
                    if condition is not None
                ),
            )
        return outcome.mode

    def failure(self, mode: LinkMode, policy: Policy = REFERENCE) -> Condition | None:
        """Return what linking a tree in `mode` must fail with here by `policy`, or None.

        A tree has directories: where none can be made, no mode helps.
        """
        if self.mkdir is not None:
            return self.mkdir
        outcome = self.outcome(mode, policy)
        if outcome.mode is not None:
            return None
        ended = mode
        for edge in outcome.edges:
            if edge.fallback is None:
                return edge.condition
            ended = edge.fallback
        return self.results[PRIMITIVES[ended]]


def probe(source_dir: str, target_dir: str, *, sample: str | None = None) -> Capabilities:
    """Find out what can be done from `source_dir` to `target_dir`, and leave nothing behind.

    `sample` is a file of at least 64 KiB in a source that cannot be written to; elsewhere one is
    made. Raises OSError if the source cannot be written to or read.
    """
    platform = PLATFORMS.get(HERE, HERE)
    errors: dict[Primitive, str] = {}
    results: dict[Primitive, Condition | None] = {}
    found: dict[str, bool | None] = {}
    with ExitStack() as stack:
        source = sample or _sample(stack, source_dir)
        for primitive, attempt in _ATTEMPTS.items():
            target = os.path.join(target_dir, _name(str(primitive)))
            stack.callback(_remove, target)
            error = _fare(platform, primitive, attempt, source, target)
            errors[primitive] = error
            results[primitive] = condition_of(platform, primitive, error) if error else None
        found[CASE_INSENSITIVE] = _folds(stack, target_dir)
        found |= _stamps(stack, target_dir)
        error = _fare(platform, Primitive.MKDIR, _mkdir, source, target_dir)
    mkdir = condition_of(platform, Primitive.MKDIR, error) if error else None
    return _summary(platform, results, errors, found, mkdir)


def broken_promises(
    can: Capabilities, claims: frozenset[str], lacks: frozenset[str]
) -> tuple[str, ...]:
    """Return a sentence for each capability that is claimed and not there, or the reverse.

    Symlinks take a right on Windows: who lacks that cannot hold it against a filesystem.
    """
    missing = claims - can.names
    if can.platform == "windows" and can.results[Primitive.SYMLINK] is Condition.DENIED:
        missing -= {SYMLINK}
    return (
        *(f"no {name}: {can.why[name]}" for name in sorted(missing)),
        *(f"{name}, which it must not have: {can.why[name]}" for name in sorted(lacks & can.names)),
    )


def write_sample(path: str) -> None:
    """Make a file that can be probed with: large, incompressible and on disk. Raises OSError."""
    with open(path, "xb") as file:
        file.write(os.urandom(SAMPLE_SIZE))
        file.flush()
        os.fsync(file.fileno())


def _sample(stack: ExitStack, directory: str) -> str:
    path = os.path.join(directory, _name("sample"))
    stack.callback(_remove, path)
    write_sample(path)
    return path


def _name(what: str) -> str:
    return f".linkmode-{what}-{os.urandom(6).hex()}"


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def _fare(
    platform: str,
    primitive: Primitive,
    attempt: Callable[[str, str], str],
    source: str,
    target: str,
) -> str:
    """Return the name of the error that a primitive ends in, or an empty string."""
    name = ""
    for retry in range(_RETRIES):
        try:
            name = attempt(source, target)
        except OSError as error:
            name = _error_name(error)
        if not name or condition_of(platform, primitive, name).scope is not Scope.RETRY:
            break
        # ZFS answers EAGAIN for blocks that it has not written yet; so might others.
        _remove(target)
        time.sleep(0.01 * 2**retry)
    return name


def _error_name(error: OSError) -> str:
    """Return the name that the tables of conditions know an error by."""
    if HERE == "win32":
        from linker.platforms.windows import WINERRORS, winerror_of

        return WINERRORS.get(winerror_of(error), str(winerror_of(error)))
    return errno.errorcode.get(error.errno or 0, str(error.errno))


def _clone_by_platform(source: str, target: str) -> str:
    """Clone as the reference linker does, where that takes more than one call."""
    from linker.platforms import current
    from linker.platforms.base import Failed

    platform = current()
    names = [os.path.basename(path) for path in (source, target)]
    with ExitStack() as stack:
        above = []
        try:
            for path in (source, target):
                above.append(platform.open_root(os.path.dirname(path)))
                stack.callback(platform.close, above[-1])
            platform.clone_file(above[0], names[0], above[1], names[1])
        except Failed as failed:
            return platform.error_name(failed.error)
    return _compare(source, target)


def _clone_file(source: str, target: str) -> str:
    if HERE in ("win32", "darwin"):
        return _clone_by_platform(source, target)
    if HERE != "linux":
        return "ENOSYS"
    import fcntl

    with open(source, "rb") as old, open(target, "xb") as new:
        fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
    return _compare(source, target)


def _hardlink(source: str, target: str) -> str:
    os.link(source, target)
    return "" if os.path.samefile(source, target) else "NOEFFECT"


def _symlink(source: str, target: str) -> str:
    os.symlink(os.path.abspath(source), target)
    followed = os.path.exists(target) and os.path.samefile(source, target)
    return "" if os.path.islink(target) and followed else "NOEFFECT"


def _copy(source: str, target: str) -> str:
    with open(source, "rb") as old, open(target, "xb") as new:
        new.write(old.read())
    return _compare(source, target)


def _compare(source: str, target: str) -> str:
    """Return what is wrong with the content of a file that claims to be the same, if anything."""
    with open(source, "rb") as old, open(target, "rb") as new:
        if old.read() == new.read():
            return ""
    return "SHORT" if os.path.getsize(target) else "NOEFFECT"


_ATTEMPTS: Mapping[Primitive, Callable[[str, str], str]] = {
    Primitive.CLONE_FILE: _clone_file,
    Primitive.HARDLINK: _hardlink,
    Primitive.SYMLINK: _symlink,
    Primitive.COPY: _copy,
}
"""How each primitive is tried: an OSError, the name of a fault that we found, or success."""


def _mkdir(_source: str, target_dir: str) -> str:
    path = os.path.join(target_dir, _name("directory"))
    os.mkdir(path)
    os.rmdir(path)
    return ""


def _folds(stack: ExitStack, directory: str) -> bool | None:
    """Return whether two names that differ in case only are one, or None if that is not known."""
    upper = os.path.join(directory, _name("Case"))
    stack.callback(_remove, upper)
    try:
        with open(upper, "xb"):
            return os.path.lexists(os.path.join(directory, os.path.basename(upper).lower()))
    except OSError:
        return None


def _stamps(stack: ExitStack, directory: str) -> dict[str, bool | None]:
    """Return whether permission bits and times are other than what they were set to."""
    path = os.path.join(directory, _name("stamp"))
    stack.callback(_remove, path)
    try:
        with open(path, "xb"):
            os.chmod(path, _ODD_MODE)
        os.utime(path, ns=(_ODD_TIME, _ODD_TIME))
        seen = os.stat(path)
    except OSError:
        return {FIXED_PERMISSIONS: None, COARSE_TIMES: None}
    return {
        FIXED_PERMISSIONS: seen.st_mode & 0o777 != _ODD_MODE,
        COARSE_TIMES: seen.st_mtime_ns != _ODD_TIME,
    }


_ODD_MODE = 0o640
_ODD_TIME = 1_500_000_001_123_456_789
"""To the nanosecond, and not of this year."""


def _summary(
    platform: str,
    results: Mapping[Primitive, Condition | None],
    errors: Mapping[Primitive, str],
    found: Mapping[str, bool | None],
    mkdir: Condition | None,
) -> Capabilities:
    why = {
        name: f"{primitive} answers {errors[primitive]} ({results[primitive]})"
        if errors[primitive]
        else f"{primitive} works"
        for name, primitive in _SHOWN_BY.items()
    }
    names = {name for name, primitive in _SHOWN_BY.items() if results[primitive] is None}
    why[DIRCLONE] = "a call that clones a directory, as macOS has, is not tried"
    refused = results[Primitive.HARDLINK] is Condition.CROSS_DEVICE
    if refused and REFLINK not in names:
        names.add(CROSS_DEVICE)
    why[CROSS_DEVICE] = f"{why[HARDLINK]}, {why[REFLINK]}"
    for name, answer in found.items():
        if answer:
            names.add(name)
        why[name] = _FOUND[name][answer]
    return Capabilities(frozenset(names), results, why, platform, mkdir)


_UNKNOWN = "no file could be made in the target"
_FOUND: Mapping[str, Mapping[bool | None, str]] = {
    CASE_INSENSITIVE: {
        True: "a name in lower case finds a file made in upper case",
        False: "a name in lower case does not find a file made in upper case",
        None: _UNKNOWN,
    },
    FIXED_PERMISSIONS: {
        True: "permission bits that were set are not there",
        False: "permission bits are kept",
        None: _UNKNOWN,
    },
    COARSE_TIMES: {
        True: "a modification time is not the one that was set",
        False: "modification times are kept to the nanosecond",
        None: _UNKNOWN,
    },
}
"""Capability -> what was found out -> the sentence that says so."""

_SHOWN_BY: Mapping[str, Primitive] = {
    REFLINK: Primitive.CLONE_FILE,
    HARDLINK: Primitive.HARDLINK,
    SYMLINK: Primitive.SYMLINK,
}
