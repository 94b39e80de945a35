"""Faults: any error at any call of any program, a kill at every point, swept exhaustively.

`spec` says what is to go wrong, `ops` which system calls that concerns; a program meets it
through a seccomp filter of its own (`bpf`, `zygote`) and one of two watchers: `supervisor` sees
calls before they happen and is fast, `trace` sees what came of them as well. Both ask `judge`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_linkmode.faults.log import Call
    from pytest_linkmode.faults.runner import FaultRunner
    from pytest_linkmode.faults.running import ProgramTimedOut, Run
    from pytest_linkmode.faults.spec import Fault, Kill
    from pytest_linkmode.faults.sweep import Case, SweepFailed

__all__ = [
    "Call",
    "Case",
    "Fault",
    "FaultRunner",
    "Kill",
    "ProgramTimedOut",
    "Run",
    "SweepFailed",
]

_HOMES = {
    "Call": "log",
    "Case": "sweep",
    "Fault": "spec",
    "FaultRunner": "runner",
    "Kill": "spec",
    "ProgramTimedOut": "running",
    "Run": "running",
    "SweepFailed": "sweep",
}


def __getattr__(name: str) -> Any:
    # Only what is used is imported: the plugin is loaded by runs that never fault anything.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
