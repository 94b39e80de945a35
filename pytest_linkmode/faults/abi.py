"""The kernel interfaces that Python has no words for: seccomp(2), its notifications, ptrace(2).

Structures carry the kernel's names for their fields, constants those of its headers. Nothing here
decides anything; every function is one call and raises OSError as the kernel says.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Iterable
from typing import NamedTuple

from pytest_linkmode.faults.ops import Architecture

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


def _checked(result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


# --- prctl(2) ------------------------------------------------------------------------------

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38


def prctl(option: int, value: int) -> None:
    """Set one property of this process (linux/prctl.h)."""
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero))


# --- descriptors of children and of others ---------------------------------------------------

_SFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_PIDFD_GETFD = 438
"""The same number on every architecture, as all since 424 (kernel 5.6)."""


_SIGINFO = struct.Struct("=Iii116x")
"""struct signalfd_siginfo { uint32_t ssi_signo; int32_t ssi_errno; int32_t ssi_code; … }."""


def signal_descriptor(numbers: Iterable[int]) -> int:
    """Return a descriptor that can be read while a blocked signal is pending (signalfd(2))."""
    mask = (ctypes.c_uint64 * 16)(sum(1 << number - 1 for number in numbers))  # glibc's and musl's
    return _checked(_libc.signalfd(-1, mask, _SFD_FLAGS))


def fetch_signal(descriptor: int) -> tuple[int, int]:
    """Take a signal that is pending; return its number and its `si_code`."""
    number, _, code = _SIGINFO.unpack(os.read(descriptor, _SIGINFO.size))
    return number, code


def fetch_descriptor(process: int, number: int) -> int:
    """Return a duplicate of another process's descriptor, sharing its offset (pidfd_getfd(2))."""
    holder = os.pidfd_open(process)
    try:
        return _checked(
            _libc.syscall(
                ctypes.c_long(_PIDFD_GETFD), ctypes.c_int(holder), ctypes.c_int(number), 0
            )
        )
    finally:
        os.close(holder)


# --- seccomp(2) ----------------------------------------------------------------------------

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 1 << 2
"""Leave speculation as it is (kernel 4.17): a filter of ours confines nobody, and need not slow a
program down as a sandbox does by default before 5.16."""
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
"""Return a descriptor for notifications (kernel 5.0)."""
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 1 << 5
"""Only a deadly signal interrupts a call that is being looked at (kernel 5.19). Without it every
signal restarts the call, which is then notified, and counted, again."""

_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}


class SockFprog(ctypes.Structure):
    """struct sock_fprog (linux/filter.h)."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def load_filter(program: bytes, arch: Architecture, *, listen: bool) -> int:
    """Put a filter on this thread and what it starts; return the listener's descriptor, or 0.

    It cannot be taken off again. The thread must have given up new privileges first.
    """
    flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW
    if listen:
        flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
    code = ctypes.create_string_buffer(program, len(program))
    fprog = SockFprog(len(program) // 8, ctypes.addressof(code))
    return _checked(
        _libc.syscall(
            ctypes.c_long(_SYS_SECCOMP[arch.name]),
            ctypes.c_ulong(SECCOMP_SET_MODE_FILTER),
            ctypes.c_ulong(flags),
            ctypes.byref(fprog),
        )
    )


_NOTIF = struct.Struct("=QIIiIQ6Q")
"""struct seccomp_notif { __u64 id; __u32 pid; __u32 flags; struct seccomp_data data; } and struct
seccomp_data { int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6]; }, laid flat. `pid` is
the id of the thread, as seen from the pid namespace of whoever holds the listener."""
_NOTIF_EMPTY = bytes(_NOTIF.size)
_NOTIF_RESP = struct.Struct("=QqiI")
"""struct seccomp_notif_resp { __u64 id; __s64 val; __s32 error; __u32 flags; }"""
_U64 = struct.Struct("=Q")


def _iowr(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | ord("!") << 8 | number


_WRITE, _READ_WRITE = 1, 3
SECCOMP_IOCTL_NOTIF_RECV = _iowr(_READ_WRITE, 0, _NOTIF.size)
SECCOMP_IOCTL_NOTIF_SEND = _iowr(_READ_WRITE, 1, _NOTIF_RESP.size)
SECCOMP_IOCTL_NOTIF_ID_VALID = _iowr(_WRITE, 2, _U64.size)
SECCOMP_IOCTL_NOTIF_SET_FLAGS = _iowr(_WRITE, 4, _U64.size)
SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP = 1
"""Wake the other side on this processor: a call and its answer are a hand-over (kernel 6.6)."""
SECCOMP_USER_NOTIF_FLAG_CONTINUE = 1


ID, PID, NR, ARCH, ARGS = 0, 1, 3, 4, 6
"""Where the fields of a received notification are."""


def notif_receive(listener: int) -> tuple[int, ...]:
    """Take the next notification; ENOENT if the thread that made the call was killed."""
    # The kernel wants the structure zeroed; bytes are copied in and come back changed.
    return _NOTIF.unpack(fcntl.ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, _NOTIF_EMPTY))


def notif_valid(listener: int, notification: int) -> bool:
    """Return whether the thread still waits: what was read of it since was its own."""
    try:
        fcntl.ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, _U64.pack(notification))
    except FileNotFoundError:
        return False
    return True


def notif_continue(listener: int, notification: int) -> None:
    """Let the call happen."""
    answer = _NOTIF_RESP.pack(notification, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE)
    fcntl.ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, answer)


def notif_answer(listener: int, notification: int, value: int, error: int) -> None:
    """Answer in the kernel's place: with `value`, or with the error number `error` unless 0."""
    fcntl.ioctl(
        listener, SECCOMP_IOCTL_NOTIF_SEND, _NOTIF_RESP.pack(notification, value, -error, 0)
    )


def notif_wake_in_place(listener: int, *, wanted: bool) -> None:
    """Ask for SYNC_WAKE_UP or take it back; OSError on kernels before 6.6."""
    flags = SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP if wanted else 0
    fcntl.ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags)


# --- ptrace(2) -----------------------------------------------------------------------------

PTRACE_CONT = 7
PTRACE_GETEVENTMSG = 0x4201
PTRACE_SYSCALL = 24
PTRACE_GETREGSET = 0x4204
PTRACE_SETREGSET = 0x4205
PTRACE_SEIZE = 0x4206
PTRACE_LISTEN = 0x4208
PTRACE_GET_SYSCALL_INFO = 0x420E
"""Kernel 5.3."""

PTRACE_O_TRACESYSGOOD = 0x01
PTRACE_O_TRACEFORK = 0x02
PTRACE_O_TRACEVFORK = 0x04
PTRACE_O_TRACECLONE = 0x08
PTRACE_O_TRACEEXEC = 0x10
PTRACE_O_TRACESECCOMP = 0x80
PTRACE_O_EXITKILL = 0x100000

PTRACE_EVENT_EXEC = 4
PTRACE_EVENT_SECCOMP = 7
PTRACE_EVENT_STOP = 128

NT_PRSTATUS = 1
NT_ARM_SYSTEM_CALL = 0x404

WALL = 0x40000000
"""__WALL: wait for threads as well (linux/wait.h)."""


class Iovec(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("iov_base", ctypes.c_void_p), ("iov_len", ctypes.c_size_t))


class PtraceSyscallInfo(NamedTuple):
    """struct ptrace_syscall_info at entry or at a seccomp stop (linux/ptrace.h)."""

    op: int
    arch: int
    instruction_pointer: int
    stack_pointer: int
    nr: int
    args: tuple[int, ...]
    ret_data: int


_INFO = struct.Struct("=B3xIQQ")
_INFO_CALL = struct.Struct("=Q6QI")
_INFO_EXIT = struct.Struct("=qB")
_INFO_SIZE = 96


def ptrace(request: int, thread: int, address: int = 0, data: int = 0) -> int:
    """Make one request about a thread that is stopped for us."""
    return _checked(_libc.ptrace(request, thread, address, data))


def event_message(thread: int) -> int:
    """Return what the kernel says beside the event at which a thread is stopped."""
    message = ctypes.c_ulong()
    ptrace(PTRACE_GETEVENTMSG, thread, 0, ctypes.addressof(message))
    return message.value


def seize(process: int) -> None:
    """Become the tracer of a process and of all that it starts; it dies with us."""
    options = (
        PTRACE_O_TRACESYSGOOD
        | PTRACE_O_TRACEFORK
        | PTRACE_O_TRACEVFORK
        | PTRACE_O_TRACECLONE
        | PTRACE_O_TRACEEXEC
        | PTRACE_O_TRACESECCOMP
        | PTRACE_O_EXITKILL
    )
    ptrace(PTRACE_SEIZE, process, 0, options)


_info_buffer = ctypes.create_string_buffer(_INFO_SIZE)
_info_address = ctypes.addressof(_info_buffer)


def call_of(thread: int) -> PtraceSyscallInfo:
    """Return the call that a thread is about to make, at its seccomp stop."""
    ptrace(PTRACE_GET_SYSCALL_INFO, thread, _INFO_SIZE, _info_address)
    raw = _info_buffer.raw
    values = _INFO_CALL.unpack_from(raw, _INFO.size)
    op, arch, instruction_pointer, stack_pointer = _INFO.unpack_from(raw)
    return PtraceSyscallInfo(
        op, arch, instruction_pointer, stack_pointer, values[0], values[1:7], values[7]
    )


def result_of(thread: int) -> int:
    """Return what the call came to, at its exit stop; an error as its negative number."""
    ptrace(PTRACE_GET_SYSCALL_INFO, thread, _INFO_SIZE, _info_address)
    return int(_INFO_EXIT.unpack_from(_info_buffer.raw, _INFO.size)[0])


class Registers:
    """The general-purpose registers of a stopped thread, of which a call's are changed."""

    def __init__(self, thread: int, arch: Architecture) -> None:
        self._thread = thread
        self._arch = arch
        self._words = (ctypes.c_uint64 * arch.words)()
        self._iovec = Iovec(ctypes.addressof(self._words), ctypes.sizeof(self._words))
        ptrace(PTRACE_GETREGSET, thread, NT_PRSTATUS, ctypes.addressof(self._iovec))

    def argument(self, index: int, value: int) -> None:
        """Change an argument."""
        self._words[self._arch.arguments[index]] = value & 0xFFFFFFFFFFFFFFFF

    def returned(self, value: int) -> None:
        """Change what the call returns."""
        self._words[self._arch.returned] = value & 0xFFFFFFFFFFFFFFFF

    def number(self, number: int) -> None:
        """Change which call is made; -1 skips it, and it returns what is in its register."""
        register = self._arch.number_register
        if register is not None:
            self._words[register] = number & 0xFFFFFFFFFFFFFFFF
            return
        word = ctypes.c_int(number)
        iovec = Iovec(ctypes.addressof(word), ctypes.sizeof(word))
        ptrace(PTRACE_SETREGSET, self._thread, NT_ARM_SYSTEM_CALL, ctypes.addressof(iovec))

    def write(self) -> None:
        """Give the thread the registers as they are now."""
        ptrace(PTRACE_SETREGSET, self._thread, NT_PRSTATUS, ctypes.addressof(self._iovec))
