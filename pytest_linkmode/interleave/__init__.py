"""Schedules: every interleaving of two or more linkers, in this process and of real programs.

`world` has actors take turns before every operation, `search` decides which schedules to run,
`explorer` checks what each led to and makes a failing one as simple as it can be; `programs` does
the same to real processes, which the supervisor of the faults holds at their calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_linkmode.interleave.explorer import Explored, Interleaver, ScheduleFailed
    from pytest_linkmode.interleave.world import Diverged, Event, Execution, Outcome

__all__ = [
    "Diverged",
    "Event",
    "Execution",
    "Explored",
    "Interleaver",
    "Outcome",
    "ScheduleFailed",
]

_HOMES = {
    "Diverged": "world",
    "Event": "world",
    "Execution": "world",
    "Explored": "explorer",
    "Interleaver": "explorer",
    "Outcome": "world",
    "ScheduleFailed": "explorer",
}


def __getattr__(name: str) -> Any:
    # Only what is used is imported: the plugin is loaded by runs that never explore anything.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
