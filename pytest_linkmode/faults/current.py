"""Who is asked before an operation: what the running code is in, for what stands in for its calls.

Here is only what a stand-in needs to know of it; what decides is an `Injection` (`inprocess`).
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pytest_linkmode.faults.ops import Way


class Decider(Protocol):
    """Decides about operations on files, and keeps the log of them."""

    def perform(
        self,
        way: Way,
        paths: tuple[str, ...],
        do: Callable[[], Any],
        *,
        file: int | None = None,
        short: Callable[[], Any] | None = None,
        nothing: Any = None,
    ) -> Any:
        """Do one operation, or what is decided instead, and return what it returns."""

    def made(self, file: int | str) -> None:
        """Take note that a file (its descriptor, or its path) was made, or opened to be made."""

    def file(self, descriptor: int, *, plain: bool) -> int | None:
        """Return the number of the file that a descriptor writes to, or None if it is no copy."""


CURRENT: contextvars.ContextVar[Decider | None] = contextvars.ContextVar(
    "linkmode_injection", default=None
)


def current() -> Decider | None:
    """Return who is asked about what the running code does, or None."""
    return CURRENT.get()
