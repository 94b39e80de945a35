"""The injection in force: the one that the running code is in, for what stands in for its calls."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_linkmode.faults.inprocess import Injection

CURRENT: contextvars.ContextVar[Injection | None] = contextvars.ContextVar(
    "linkmode_injection", default=None
)


def current() -> Injection | None:
    """Return the injection that the running code is in, or None."""
    return CURRENT.get()
