"""Which system calls do an op: the one table from which filters, readers and logs are made.

A row (`Way`) is one system call, or one of its forms, that does an op: what in its arguments says
so, and where the paths are. Adding a row closes a gap everywhere at once. Numbers and constants
are those of Linux 6.18 (``arch/x86/entry/syscalls/syscall_64.tbl``, ``scripts/syscall.tbl`` for
aarch64); they never change once given.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

# --- constants of the interface ------------------------------------------------------------

O_CREAT = 0o100
O_TMPFILE = 0o20000000
"""``__O_TMPFILE`` alone: O_TMPFILE has O_DIRECTORY in it, whose value differs by architecture."""
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
"""Flags of renameat2 (linux/fs.h)."""
S_IFMT, S_IFREG = 0o170000, 0o100000
AT_FDCWD = -100

FICLONE = 0x40049409
"""``_IOW(0x94, 9, int)``, ioctl_ficlone(2); BTRFS_IOC_CLONE and XFS_IOC_CLONE are this number."""
FICLONERANGE = 0x4020940D
"""``_IOW(0x94, 13, struct file_clone_range)``; BTRFS_IOC_CLONE_RANGE is this number."""
OCFS2_IOC_REFLINK = 0x40186F04
"""``_IOW('o', 4, struct reflink_arguments)``: by path, fs/ocfs2/ocfs2_ioctl.h."""
CIFS_IOC_COPYCHUNK_FILE = 0x4004CF03
"""``_IOW(0xCF, 3, int)``: a copy that the server makes, fs/smb/client/cifs_ioctl.h."""

# --- where the paths of a call are ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class At:
    """A path in memory, relative to a directory descriptor; empty: the descriptor itself."""

    directory: int
    path: int


@dataclass(frozen=True, slots=True)
class Path:
    """A path in memory, relative to the working directory."""

    path: int


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An open file."""

    fd: int


@dataclass(frozen=True, slots=True)
class DescriptorIn:
    """An open file whose 64-bit number lies in memory, at the address in an argument."""

    pointer: int


@dataclass(frozen=True, slots=True)
class PathIn:
    """The address of a path lies in memory, `offset` bytes past the address in an argument."""

    pointer: int
    offset: int


@dataclass(frozen=True, slots=True)
class Text:
    """Words in memory that are kept as they are: what a symlink is to say."""

    address: int


Operand = At | Path | Descriptor | DescriptorIn | PathIn | Text

# --- what says that a call does the op -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bits:
    """The low 32 bits of an argument, masked, have a value.

    The kernel reads no more of a flag, a mode, a descriptor or an ioctl's number than these: a
    comparison of all 64 bits is one that a program can step around.
    """

    argument: int
    mask: int
    value: int


@dataclass(frozen=True, slots=True)
class Way:
    """One system call, or one form of it, that does an op.

    `paths` are read in this order; the last `changed` of them are the names that the call makes,
    replaces or removes. `exact` is false where a filter cannot tell (flags that lie in memory, a
    write to a file of whatever kind), so that somebody must look. `size` is the argument that says
    how many bytes (or, with `vector`, how many buffers) are to be copied, `position` the one that
    may point to where in the source they begin; `claims` what the call
    returns if it claims success and did nothing.
    """

    op: str
    call: str
    paths: tuple[Operand, ...]
    when: Bits | None = None
    exact: bool = True
    changed: int = 1
    size: int | None = None
    position: int | None = None
    vector: bool = False
    claims: Literal["nothing", "everything"] = "nothing"
    note: str = ""

    @property
    def into(self) -> int:
        """The argument that is the descriptor written to, in a row that copies."""
        last = self.paths[-1]
        if not isinstance(last, Descriptor):
            raise TypeError(f"{self.op} by {self.call} writes to no descriptor")
        return last.fd


def _ioctl(number: int) -> Bits:
    return Bits(1, 0xFFFFFFFF, number)


def _flag(argument: int, flag: int) -> Bits:
    return Bits(argument, flag, flag)


def _kind(argument: int, kind: int) -> Bits:
    return Bits(argument, S_IFMT, kind)


WAYS: tuple[Way, ...] = (
    Way("clone", "ioctl", (Descriptor(2), Descriptor(0)), _ioctl(FICLONE), note="FICLONE"),
    Way(
        "clone",
        "ioctl",
        (DescriptorIn(2), Descriptor(0)),
        _ioctl(FICLONERANGE),
        note="FICLONERANGE",
    ),
    Way(
        "clone",
        "ioctl",
        (PathIn(2, 0), PathIn(2, 8)),
        _ioctl(OCFS2_IOC_REFLINK),
        note="OCFS2_IOC_REFLINK",
    ),
    Way("hardlink", "link", (Path(0), Path(1))),
    Way("hardlink", "linkat", (At(0, 1), At(2, 3))),
    Way("symlink", "symlink", (Text(0), Path(1))),
    Way("symlink", "symlinkat", (Text(0), At(1, 2))),
    Way("copy", "copy_file_range", (Descriptor(0), Descriptor(2)), size=4, position=1),
    Way("copy", "sendfile", (Descriptor(1), Descriptor(0)), exact=False, size=3, position=2),
    Way("copy", "splice", (Descriptor(0), Descriptor(2)), exact=False, size=4, position=1),
    Way(
        "copy",
        "ioctl",
        (Descriptor(2), Descriptor(0)),
        _ioctl(CIFS_IOC_COPYCHUNK_FILE),
        note="CIFS_IOC_COPYCHUNK_FILE",
    ),
    Way("copy", "write", (Descriptor(0),), exact=False, size=2, claims="everything"),
    Way("copy", "pwrite64", (Descriptor(0),), exact=False, size=2, claims="everything"),
    *(
        Way("copy", call, (Descriptor(0),), exact=False, size=2, vector=True, claims="everything")
        for call in ("writev", "pwritev", "pwritev2")
    ),
    Way("create", "open", (Path(0),), _flag(1, O_CREAT)),
    Way("create", "open", (Path(0),), _flag(1, O_TMPFILE), note="O_TMPFILE"),
    Way("create", "creat", (Path(0),)),
    Way("create", "openat", (At(0, 1),), _flag(2, O_CREAT)),
    Way("create", "openat", (At(0, 1),), _flag(2, O_TMPFILE), note="O_TMPFILE"),
    # struct open_how { __u64 flags; … } lies in memory (openat2(2)).
    Way("create", "openat2", (At(0, 1),), exact=False),
    *(
        row
        for kind in (S_IFREG, 0)  # no type at all is a regular file too (mknod(2))
        for row in (
            Way("create", "mknod", (Path(0),), _kind(1, kind)),
            Way("create", "mknodat", (At(0, 1),), _kind(2, kind)),
        )
    ),
    Way("mkdir", "mkdir", (Path(0),)),
    Way("mkdir", "mkdirat", (At(0, 1),)),
    Way("rename", "rename", (Path(0), Path(1)), changed=2),
    Way("rename", "renameat", (At(0, 1), At(2, 3)), changed=2),
    Way("rename", "renameat2", (At(0, 1), At(2, 3)), changed=2),
    Way("unlink", "unlink", (Path(0),)),
    Way("unlink", "unlinkat", (At(0, 1),)),
    Way("unlink", "rmdir", (Path(0),)),
)

LOCKING: tuple[Way, ...] = (
    Way("lock", "flock", (Descriptor(0),)),
    # F_SETLK, F_SETLKW and their F_OFD_ kin (asm-generic/fcntl.h)
    *(Way("lock", "fcntl", (Descriptor(0),), Bits(1, 0xFFFFFFFF, n)) for n in (6, 7, 37, 38)),
)
"""The calls that lock a file: none of the ops, because no link is made by them."""

OPEN_HOW = 2
"""The argument of openat2 that points to its flags."""

CLOSED: Mapping[str, str] = {
    "io_uring_setup": "its operations are no system calls: no filter sees them",
}
"""Calls by which a program would escape: answered with ENOSYS, as on a kernel without them."""

# --- numbers -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Architecture:
    """What differs between processors: numbers, and the registers that ptrace shows.

    `audit` is AUDIT_ARCH_* of linux/audit.h. Registers are positions in the general-purpose set
    (struct user_regs_struct, struct user_pt_regs), counted in words of 64 bits.
    """

    name: str
    audit: int
    numbers: Mapping[str, int]
    words: int
    arguments: tuple[int, ...]
    returned: int
    number_register: int | None
    """Where the number of the call is, or None where it is a register set of its own."""
    x32: bool = False

    def call(self, number: int) -> str:
        """Return the name of a system call, or its number where the tables do not have it."""
        for name, known in self.numbers.items():
            if known == number:
                return name
        return f"system call {number}"


X86_64 = Architecture(
    name="x86_64",
    audit=0xC000003E,
    numbers={
        "write": 1,
        "open": 2,
        "ioctl": 16,
        "pwrite64": 18,
        "writev": 20,
        "sendfile": 40,
        "fcntl": 72,
        "flock": 73,
        "rename": 82,
        "mkdir": 83,
        "rmdir": 84,
        "creat": 85,
        "link": 86,
        "unlink": 87,
        "symlink": 88,
        "mknod": 133,
        "openat": 257,
        "mkdirat": 258,
        "mknodat": 259,
        "unlinkat": 263,
        "renameat": 264,
        "linkat": 265,
        "symlinkat": 266,
        "splice": 275,
        "pwritev": 296,
        "renameat2": 316,
        "copy_file_range": 326,
        "pwritev2": 328,
        "io_uring_setup": 425,
        "openat2": 437,
    },
    # r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss …
    words=27,
    arguments=(14, 13, 12, 7, 9, 8),
    returned=10,
    number_register=15,
    x32=True,
)

AARCH64 = Architecture(
    name="aarch64",
    audit=0xC00000B7,
    numbers={
        "fcntl": 25,
        "ioctl": 29,
        "flock": 32,
        "mknodat": 33,
        "mkdirat": 34,
        "unlinkat": 35,
        "symlinkat": 36,
        "linkat": 37,
        "renameat": 38,
        "openat": 56,
        "write": 64,
        "writev": 66,
        "pwrite64": 68,
        "pwritev": 70,
        "sendfile": 71,
        "splice": 76,
        "renameat2": 276,
        "copy_file_range": 285,
        "pwritev2": 287,
        "io_uring_setup": 425,
        "openat2": 437,
    },
    # x0 … x30, sp, pc, pstate
    words=34,
    arguments=(0, 1, 2, 3, 4, 5),
    returned=0,
    number_register=None,
)

ARCHITECTURES: Mapping[str, Architecture] = {each.name: each for each in (X86_64, AARCH64)}


def architecture(machine: str | None = None) -> Architecture | None:
    """Return the architecture of this machine (or one named as by `uname -m`), or None."""
    return ARCHITECTURES.get(machine or os.uname().machine)


def calls_of(op: str) -> tuple[str, ...]:
    """Return the names of all system calls that do an op, on whatever architecture."""
    return tuple(dict.fromkeys(way.call for way in WAYS if way.op == op))


def ways(ops: Iterable[str], arch: Architecture) -> tuple[Way, ...]:
    """Return the rows of the table that do one of `ops` on this architecture."""
    wanted = frozenset(ops)
    return tuple(way for way in WAYS if way.op in wanted and way.call in arch.numbers)
