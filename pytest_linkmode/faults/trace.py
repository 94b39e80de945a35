"""The watcher that sees results: a tracer, stopped at each call and again when it has returned.

It can do what a supervisor cannot: tell what came of a call, kill after it, let only half of it
happen, and let one call at a time be under way. It is slower, and it lives in the zygote, which is
the program's parent and has no threads.

Sources: ptrace(2), seccomp(2) for SECCOMP_RET_TRACE; PTRACE_GET_SYSCALL_INFO since kernel 5.3. At
a seccomp stop PTRACE_SYSCALL leads to the exit of the same call (since 4.8).
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from pytest_linkmode.faults import abi, reading
from pytest_linkmode.faults.judge import Action, Record, Seen
from pytest_linkmode.faults.looking import SystemCalls
from pytest_linkmode.faults.ops import FICLONERANGE, Architecture
from pytest_linkmode.faults.supervisor import process_of

PATIENCE = 1.0
"""Seconds that a call may take, under `serial`, before others go on: it waits for one of them."""

_SYSCALL_STOP = signal.SIGTRAP | 0x80
_GROUP_STOPS = frozenset({signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
_RESTARTS = range(-516, -511)
"""ERESTARTSYS and its relatives (linux/errno.h): the kernel makes the call again by itself."""
_FILE_CLONE_RANGE = struct.Struct("=qQQQ")
"""struct file_clone_range { __s64 src_fd; __u64 src_offset, src_length, dest_offset; }"""


@dataclass(slots=True)
class _UnderWay:
    """A call between its two stops."""

    number: int
    arguments: tuple[int, ...]
    record: Record | None
    kill: bool = False
    changed: bool = False


class Tracer:
    """Follows every thread of one program. Feed it what waitpid(2) reports.

    With `serial`, calls are let in one by one, in the order in which they arrive.
    """

    def __init__(self, judge: SystemCalls, arch: Architecture, *, serial: bool) -> None:
        self._judge = judge
        self._arch = arch
        self._serial = serial
        self._threads: set[int] = set()
        self._under_way: dict[int, _UnderWay] = {}
        self._restarted: dict[int, _UnderWay] = {}
        self._busy: int | None = None
        self._queue: deque[int] = deque()
        self.killed = False

    @property
    def waiting(self) -> bool:
        """Whether threads are held back until another's call has returned."""
        return bool(self._queue)

    def began(self, process: int) -> None:
        """Follow a process that waits to be followed."""
        abi.seize(process)
        self._threads.add(process)

    def ended(self, thread: int) -> None:
        """Take note that a thread is no more."""
        self._threads.discard(thread)
        self._under_way.pop(thread, None)
        self._restarted.pop(thread, None)
        if thread in self._queue:
            self._queue.remove(thread)
        if self._busy == thread:
            self.let_in()

    def stopped(self, thread: int, status: int) -> None:
        """Do what a stop asks for, and let the thread go on."""
        self._threads.add(thread)
        if self.killed:
            self._kill(thread)
            return
        number, event = os.WSTOPSIG(status), status >> 16
        try:
            if event == abi.PTRACE_EVENT_SECCOMP:
                if self._serial and self._busy is not None:
                    self._queue.append(thread)
                else:
                    self._enter(thread)
            elif number == _SYSCALL_STOP:
                self._leave(thread)
            elif event == abi.PTRACE_EVENT_STOP and number in _GROUP_STOPS:
                abi.ptrace(abi.PTRACE_LISTEN, thread)
            else:
                if event == abi.PTRACE_EVENT_EXEC:
                    self._executed(thread)
                self._resume(thread, 0 if event else number)
        except ProcessLookupError:
            pass  # killed while we looked; its end is reported next

    def let_in(self) -> None:
        """Let the next thread in, under `serial`."""
        self._busy = None
        while self._queue and self._busy is None:
            try:
                self._enter(self._queue.popleft())
            except ProcessLookupError:
                continue

    def kill(self) -> None:
        """End every process that is followed; one just being born ends at its first stop."""
        self.killed = True
        for thread in self._threads:
            self._kill(thread)

    def _kill(self, thread: int) -> None:
        # Its number cannot be another's: a thread that is followed is reaped by us alone.
        with suppress(ProcessLookupError):
            os.kill(thread, signal.SIGKILL)

    def _executed(self, thread: int) -> None:
        # The thread that called exec has its process's number now; its own is free for others.
        former = abi.event_message(thread)
        if former != thread:
            self.ended(former)

    def _resume(self, thread: int, number: int = 0) -> None:
        under_way = thread in self._under_way
        abi.ptrace(abi.PTRACE_SYSCALL if under_way else abi.PTRACE_CONT, thread, 0, number)

    def _enter(self, thread: int) -> None:
        info = abi.call_of(thread)
        if self._judge.is_escape(info.nr, info.arch):
            self._judge.escaped(info.nr, info.arch)
            self._answer(thread, -errno.ENOSYS)
            return
        again = self._restarted.pop(thread, None)
        if again is not None and (again.number, again.arguments) == (info.nr, info.args):
            self._go_on(thread, again)
            return
        seen = self._judge.look(info.nr, info.args, thread)
        if seen is None:
            self._resume(thread)
            return
        verdict = self._judge.decide(seen)
        call = _UnderWay(info.nr, info.args, verdict.record)
        match verdict.action:
            case Action.ANSWER:
                self._answer(thread, -verdict.error or verdict.value)
            case Action.KILL_BEFORE:
                self.kill()
            case Action.SHORT if seen.way.op == "clone":
                result = _clone_half(seen)
                _note(verdict.record, result)
                self._answer(thread, result)
            case Action.SHORT:
                call.changed = self._shorten(seen)
                self._go_on(thread, call)
            case action:
                call.kill = action is Action.KILL_AFTER
                self._go_on(thread, call)

    def _go_on(self, thread: int, call: _UnderWay) -> None:
        self._under_way[thread] = call
        if self._serial:
            self._busy = thread
        self._resume(thread)

    def _answer(self, thread: int, result: int) -> None:
        registers = abi.Registers(thread, self._arch)
        registers.number(-1)
        registers.returned(result)
        registers.write()
        self._resume(thread)

    def _leave(self, thread: int) -> None:
        call = self._under_way.pop(thread, None)
        if call is None:
            self._resume(thread)
            return
        result = abi.result_of(thread)
        if call.changed:
            # Only the result may have changed for the program: arguments keep their registers.
            registers = abi.Registers(thread, self._arch)
            for index, value in enumerate(call.arguments):
                if self._arch.arguments[index] != self._arch.returned:
                    registers.argument(index, value)
            registers.write()
        if result in _RESTARTS:
            self._restarted[thread] = call
        else:
            _note(call.record, result)
            if call.kill:
                self.kill()
                return
        self._resume(thread)
        if self._busy == thread:
            self.let_in()

    def _shorten(self, seen: Seen) -> bool:
        """Halve what a call copies; return whether there was anything to halve."""
        size = seen.way.size
        if size is None:
            return False
        registers = abi.Registers(seen.thread, self._arch)
        arguments = seen.arguments
        if seen.way.vector:
            pairs = reading.buffers(seen.thread, arguments[1], arguments[size])
            if len(pairs) > 1:
                registers.argument(size, len(pairs) // 2)
            elif pairs and pairs[0][1] > 1:
                # One buffer: the plain call of the same kind, with half of it.
                plain = "write" if seen.way.call == "writev" else "pwrite64"
                if arguments[3] == 0xFFFFFFFFFFFFFFFF and seen.way.call == "pwritev2":
                    plain = "write"  # offset -1: where the file stands (pwritev2(2))
                registers.number(self._arch.numbers[plain])
                registers.argument(1, pairs[0][0])
                registers.argument(2, pairs[0][1] // 2)
            else:
                return False
        else:
            asked = _there(seen, arguments[size])
            if asked <= 1:
                return False
            registers.argument(size, asked // 2)
        registers.write()
        return True


def _note(record: Record | None, result: int) -> None:
    if record is None:
        return
    if result < 0:
        record.error = -result
        return
    record.error = None
    record.result = result + (record.result or 0 if record.op == "copy" else 0)


def _there(seen: Seen, asked: int) -> int:
    """Return how many of the bytes asked for the source has: half of too many is not short."""
    way, thread = seen.way, seen.thread
    if way.position is None:
        return asked
    source = reading.signed(seen.arguments[0 if way.call != "sendfile" else 1])
    pointer = seen.arguments[way.position]
    if pointer:
        begin = reading.word(thread, pointer)
    else:
        with open(f"/proc/{thread}/fdinfo/{source}", "rb") as info:
            begin = int(info.readline().split()[1])
    return min(asked, max(os.stat(f"/proc/{thread}/fd/{source}").st_size - begin, 0))


def _clone_half(seen: Seen) -> int:
    """Clone the first half of what was asked for, in the program's place, and return its result.

    Half a file that is smaller than two blocks is nothing.
    """
    arguments = seen.arguments
    source, begin, length, into = arguments[2], 0, 0, 0
    if seen.way.note == "FICLONERANGE":
        raw = reading.memory(seen.thread, arguments[2], _FILE_CLONE_RANGE.size)
        source, begin, length, into = _FILE_CLONE_RANGE.unpack(raw)
    elif seen.way.note != "FICLONE":
        return 0
    process = process_of(seen.thread)
    try:
        source_fd = abi.fetch_descriptor(process, reading.signed(source))
        try:
            target_fd = abi.fetch_descriptor(process, reading.signed(arguments[0]))
            try:
                status = os.fstat(source_fd)
                half = (length or status.st_size - begin) // 2
                half -= half % status.st_blksize
                if half > 0:
                    request = _FILE_CLONE_RANGE.pack(source_fd, begin, half, into)
                    fcntl.ioctl(target_fd, FICLONERANGE, request)
            finally:
                os.close(target_fd)
        finally:
            os.close(source_fd)
    except OSError as error:
        return -(error.errno or errno.EIO)
    return 0
