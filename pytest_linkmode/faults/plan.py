"""The plan of a run: what a filter answers by itself, and what somebody has to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_linkmode.faults import bpf
from pytest_linkmode.faults.ops import LOCKING, Architecture, Way, ways
from pytest_linkmode.faults.spec import OPS, SHORT, Fault, Kill, Spec


@dataclass(frozen=True)
class Plan:
    """What a filter answers by itself, and what somebody has to look at.

    `results` says that the results of calls are needed: only a tracer sees them. Without `locks`
    a file lock is answered with success and not taken, as on a filesystem that has none.
    `thorough` leaves no fault to the filter, so that each call that it hits is seen.
    """

    faults: tuple[Spec, ...]
    log: frozenset[str]
    arch: Architecture
    results: bool = False
    locks: bool = True
    thorough: bool = False
    static: Mapping[Way, int] = field(init=False)
    watched: tuple[Way, ...] = field(init=False)

    def __post_init__(self) -> None:
        watched: dict[Way, None] = {}
        static: dict[Way, int] = {}
        for way in ways(OPS, self.arch):
            errors = [_static(each, way) for each in self.faults if _concerns(each, way)]
            if way.op in self.log or None in errors or (self.thorough and errors):
                watched[way] = None
            elif errors and errors[0] is not None:
                static[way] = bpf.refuse(errors[0])
        if any(way.op == "copy" and not way.exact for way in watched):
            # Only who sees files made, and renamed, can tell a write that copies from any other.
            watched.update(dict.fromkeys(ways(("create", "rename"), self.arch)))
            static = {way: number for way, number in static.items() if way not in watched}
        if not self.locks:
            static.update(dict.fromkeys(LOCKING, bpf.refuse(0)))  # error 0 is success
        object.__setattr__(self, "static", static)
        object.__setattr__(self, "watched", tuple(watched))

    @property
    def needed(self) -> bool:
        """Whether the program needs a filter at all."""
        return bool(self.watched or self.static)

    @property
    def traced(self) -> bool:
        """Whether the mechanism that sees results is needed."""
        return self.results or any(
            (isinstance(each, Kill) and each.when == "after")
            or (isinstance(each, Fault) and each.errno_name == SHORT)
            for each in self.faults
        )

    def filter(self) -> bytes:
        """Return the program's filter, as the kernel reads it."""
        watch = bpf.RET_TRACE if self.traced else bpf.RET_USER_NOTIF
        actions = {**self.static, **dict.fromkeys(self.watched, watch)}
        return bpf.encode(bpf.assemble(actions, self.arch, closed=watch if self.watched else None))


def _concerns(fault: Spec, way: Way) -> bool:
    return fault.op == way.op and fault.way in (None, way.call)


def _static(fault: Spec, way: Way) -> int | None:
    """Return the error with which a filter can answer by itself, or None where it cannot."""
    if isinstance(fault, Fault) and fault.always and way.exact:
        return fault.number
    return None
