"""What a program asked for, and what it was given: one record a call."""

from __future__ import annotations

import errno
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an op.

    `nth` is its number among the calls of its op, from 1; the calls that copy one file are one, so
    `nth` is the number of the file there. `way` is the system call, with the form of it in
    brackets; `paths` is what it was about, source first. `fault` is the line of the fault that hit
    it, or empty. `result` and `error` say what came of it, an error by its name: for a fault that
    is what the program was told, otherwise None unless results were asked for. A copy's `result`
    is the bytes of all its calls.
    """

    op: str
    nth: int
    way: str
    paths: tuple[str, ...]
    thread: int
    fault: str = ""
    result: int | None = None
    error: str | None = None

    @property
    def path(self) -> str:
        """The name that was made, replaced or removed."""
        return self.paths[-1] if self.paths else ""

    def __str__(self) -> str:
        came = ""
        if self.error is not None:
            came = f" = {self.error}"
        elif self.result is not None:
            came = f" = {self.result}"
        hit = f" (fault {self.fault})" if self.fault else ""
        return f"{self.op} {self.nth}: {self.way} {' -> '.join(self.paths)}{came}{hit}"


def error_name(number: int) -> str:
    """Return the name of an error number on this platform."""
    return errno.errorcode.get(number, f"error {number}")
