"""The judge of system calls: recognizes them by their numbers, reads what they are about.

Ask `glance`, which settles most calls in one step; where it declines ask `look` while the thread
waits, make sure that it still does, then ask `decide`.
"""

from __future__ import annotations

from collections.abc import Callable

from pytest_linkmode.faults import bpf, reading
from pytest_linkmode.faults.copies import Copies
from pytest_linkmode.faults.judge import Action, Judge, Seen, Verdict
from pytest_linkmode.faults.ops import CLOSED, O_CREAT, O_TMPFILE, Bits, Way
from pytest_linkmode.faults.plan import Plan

_Reader = Callable[[int, tuple[int, ...]], tuple[str, ...]]
_Row = tuple[int, int, int, Way, _Reader]
"""Argument, mask and value that say that a call is this way's, and how its paths are read."""
_ANY = Bits(0, 0, 0)


class SystemCalls(Judge):
    """Judges the system calls of one program.

    `escapes` names what was closed, or could not be looked into.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.faults, plan.log)
        self._arch = plan.arch
        self._copies = Copies() if any(way.op == "copy" for way in plan.watched) else None
        closely = {"copy", "create"}
        if self._copies is not None:
            closely.add("rename")
            self.blind -= closely
        self._rows: dict[int, list[_Row]] = {}
        for way in plan.watched:
            bits = way.when or _ANY
            row = (bits.argument, bits.mask, bits.value, way, reading.reader(way))
            self._rows.setdefault(plan.arch.numbers[way.call], []).append(row)
        # The ops whose faults depend on numbers alone, and these numbers.
        self._due = {
            op: frozenset(each.fault.nth for each in counted)
            for op, counted in self.faults.items()
            if op not in closely
            and all(each.any_call and each.fault.nth is not None for each in counted)
        }
        self.escapes: dict[str, None] = {}

    def glance(self, number: int, arch: int, arguments: tuple[int, ...], thread: int) -> bool:
        """Count and log a call to which nothing happens; return False if it must be looked at.

        This is `look` and `decide` in one step, for ops whose faults depend on numbers alone:
        where nothing depends on what was read, it need not be asked whether the thread still waits.
        """
        if arch != self._arch.audit:
            return False
        for argument, mask, value, way, read in self._rows.get(number, ()):
            if arguments[argument] & mask == value:
                op = way.op
                nth = self.counts[op] + 1
                if op not in self._due or nth in self._due[op]:
                    return False
                if op in self.log:
                    try:
                        paths = read(thread, arguments)
                    except OSError:
                        return False
                    self.records.append((way, nth, paths, thread))
                self.counts[op] = nth
                return True
        return False

    def look(self, number: int, arguments: tuple[int, ...], thread: int) -> Seen | None:
        """Read what a call is about, or return None if it is none of ours.

        Raises OSError if the thread has gone.
        """
        row = self._row(number, arguments)
        if row is None:
            return None
        way, read = row
        try:
            if way.op == "copy" or way.op == "create":
                return self._look_closer(way, read, arguments, thread)
            paths = () if way.op in self.blind else read(thread, arguments)
            return Seen(way, thread, arguments, paths)
        except PermissionError:
            self.escapes[
                "calls whose paths cannot be read: a process may not be looked into (it is not "
                "dumpable, or runs as another user)"
            ] = None
            return None

    def decide(self, seen: Seen) -> Verdict:
        """Count a call and say what is to become of it."""
        if self._copies is not None and seen.way.op == "create":
            self._copies.created(seen.paths[-1], nameless=seen.nameless)
        verdict = super().decide(seen)
        if (
            self._copies is not None
            and seen.way.op == "rename"
            and verdict.action is Action.CONTINUE
        ):
            flags = seen.arguments[4] if seen.way.call == "renameat2" else 0
            old, new = seen.paths
            self._copies.renamed(old, new, flags)
        return verdict

    def strike(self, number: int, arguments: tuple[int, ...]) -> None:
        """Take the call that was glanced at last back: its thread was killed, it never happened."""
        row = self._row(number, arguments)
        if row is not None:
            self.counts[row[0].op] -= 1
            if row[0].op in self.log:
                self.records.pop()

    def paths(self, seen: Seen) -> tuple[str, ...]:
        """Read what a call is about, of which nobody asked before; nothing where none may."""
        try:
            return reading.reader(seen.way)(seen.thread, seen.arguments)
        except PermissionError:
            return ()

    def claim(self, seen: Seen) -> int:
        """Return what a call returns that claims success and did nothing."""
        way = seen.way
        if way.claims == "nothing" or way.size is None:
            return 0
        if way.vector:
            pairs = reading.buffers(seen.thread, seen.arguments[1], seen.arguments[way.size])
            return sum(size for _, size in pairs)
        return seen.arguments[way.size]

    def escaped(self, number: int, arch: int) -> None:
        """Take note of a call that was closed, because nobody could have seen what it does."""
        if arch != self._arch.audit:
            what = f"system calls of another architecture (AUDIT_ARCH {arch:#x})"
        elif self._arch.x32 and number >= bpf.X32_SYSCALL_BIT:
            what = "system calls of the x32 interface"
        else:
            call = self._arch.call(number)
            what = f"{call}: {CLOSED[call]}" if call in CLOSED else call
        self.escapes[f"{what}; answered with ENOSYS"] = None

    def is_escape(self, number: int, arch: int) -> bool:
        """Whether a call is one of those that are closed."""
        return arch != self._arch.audit or number not in self._rows

    def _row(self, number: int, arguments: tuple[int, ...]) -> tuple[Way, _Reader] | None:
        """Return the way that a call is, and how its paths are read."""
        for argument, mask, value, way, read in self._rows.get(number, ()):
            if arguments[argument] & mask == value:
                return way, read
        return None

    def _look_closer(
        self, way: Way, read: _Reader, arguments: tuple[int, ...], thread: int
    ) -> Seen | None:
        nameless = False
        if way.op == "create":
            flags = 0
            if way.call == "openat2":
                flags = reading.open_flags(thread, arguments)
                if not flags & (O_CREAT | O_TMPFILE):
                    return None
            nameless = way.note == "O_TMPFILE" or bool(flags & O_TMPFILE)
        paths = read(thread, arguments)
        file = None
        if way.op == "copy" and self._copies is not None:
            plain = way.claims == "everything"
            file = self._copies.file(thread, arguments[way.into], paths[-1], plain=plain)
            if file is None:
                return None
        return Seen(way, thread, arguments, paths, file, nameless)
