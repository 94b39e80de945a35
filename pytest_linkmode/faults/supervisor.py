"""The fast watcher: sees each call at its entry, by user notification, and answers it.

It counts over all threads and children of the program, reads what a call is about, and lets it
continue, answers in the kernel's place, or kills. It sees no result; who needs one, or has to act
after a call, uses `trace`. Whoever explores schedules may put off an answer: see `receive`.

Sources: seccomp_unotify(2); SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV since kernel 5.19.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from contextlib import suppress

from pytest_linkmode.faults import abi
from pytest_linkmode.faults.judge import GO_ON, Action, Seen, Verdict
from pytest_linkmode.faults.looking import SystemCalls

LINGER = 1
"""Milliseconds in which the next call is awaited before anybody else is looked after."""
TURN = 256
"""Calls that are answered before others are looked after."""


class Supervisor:
    """Answers the calls of one program, in the order in which they arrive.

    The listener's descriptor stays the caller's, who closes it. Once a kill was due, nothing is
    answered any more: the threads that wait die waiting.
    """

    def __init__(self, listener: int, judge: SystemCalls) -> None:
        self.listener = listener
        self.judge = judge
        self.killed = False
        self._ready = select.poll()
        self._ready.register(listener, select.POLLIN)
        self._only: int | None = 0
        self._wake_in_place(wanted=True)

    def serve(self) -> bool:
        """Answer the calls that wait, and those that follow at once.

        Call it when the listener is ready. Returns False once the last thread has gone.
        """
        poll, listener, glance = self._ready.poll, self.listener, self.judge.glance
        for _ in range(TURN):
            events = poll(LINGER)
            if not events:
                return True
            if not events[0][1] & select.POLLIN:
                return False
            try:
                notif = abi.notif_receive(listener)
            except FileNotFoundError:
                continue  # its thread was killed
            if notif[abi.PID] != self._only and self._only is not None:
                self._met(notif[abi.PID])
            # Most calls are only counted and let go: for them, every microsecond is the program's.
            if glance(notif[abi.NR], notif[abi.ARCH], notif[abi.ARGS :], notif[abi.PID]):
                try:
                    abi.notif_continue(listener, notif[abi.ID])
                except FileNotFoundError:
                    self.judge.strike(notif[abi.NR], notif[abi.ARGS :])
            else:
                self._consider(notif)
                if self.killed:
                    return True
        return True

    def receive(self) -> tuple[int, Seen] | None:
        """Take the next call and read what it is about; None if it was none to decide about.

        For those who answer later: it waits until `answer` is given the id that is returned.
        """
        try:
            return self.read(abi.notif_receive(self.listener))
        except FileNotFoundError:
            return None  # its thread was killed

    def read(self, notif: tuple[int, ...]) -> tuple[int, Seen] | None:
        """Read what a call is about; None if it was none to decide about, and is answered."""
        judge, notification = self.judge, notif[abi.ID]
        number, arch = notif[abi.NR], notif[abi.ARCH]
        if judge.is_escape(number, arch):
            judge.escaped(number, arch)
            self._send(notification, Verdict(Action.ANSWER, error=errno.ENOSYS))
            return None
        try:
            seen = judge.look(number, notif[abi.ARGS :], notif[abi.PID])
        except OSError:
            if abi.notif_valid(self.listener, notification):
                raise
            return None
        if seen is None:
            self._send(notification, GO_ON)
            return None
        # What was read may be another process's, whose thread has got the number since.
        return (notification, seen) if abi.notif_valid(self.listener, notification) else None

    def _consider(self, notif: tuple[int, ...]) -> None:
        received = self.read(notif)
        if received is not None:
            notification, seen = received
            self.answer(notification, seen, self.judge.decide(seen))

    def answer(self, notification: int, seen: Seen, verdict: Verdict) -> None:
        """Let a call that was received go on as decided."""
        if verdict.action is Action.KILL_BEFORE:
            self._kill(notification, seen.thread)
        else:
            self._send(notification, verdict)

    def _send(self, notification: int, verdict: Verdict) -> None:
        try:
            if verdict.action is Action.CONTINUE:
                abi.notif_continue(self.listener, notification)
            else:
                abi.notif_answer(self.listener, notification, verdict.value, verdict.error)
        except FileNotFoundError:
            pass  # killed while it waited

    def _met(self, thread: int) -> None:
        # One thread and we take turns on one processor. Several must not be drawn there.
        if self._only:
            self._wake_in_place(wanted=False)
        self._only = None if self._only else thread

    def _wake_in_place(self, *, wanted: bool) -> None:
        with suppress(OSError):  # before kernel 6.6: a little slower
            abi.notif_wake_in_place(self.listener, wanted=wanted)

    def _kill(self, notification: int, thread: int) -> None:
        """End the process that makes the call, at once; its relatives are ended by who began it."""
        self.killed = True
        try:
            process = process_of(thread)
            descriptor = os.pidfd_open(process)
        except OSError:
            return  # it has gone by itself
        try:
            if abi.notif_valid(self.listener, notification):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def process_of(thread: int) -> int:
    """Return the process that a thread belongs to."""
    with open(f"/proc/{thread}/status", "rb") as status:
        for line in status:
            if line.startswith(b"Tgid:"):
                return int(line.split()[1])
    raise ProcessLookupError(thread)
