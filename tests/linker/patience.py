"""What may not hang: a test waits so long for it, and no longer."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 20
"""Long enough for any machine, and short beside a suite."""


@contextmanager
def in_time() -> Iterator[None]:
    """Raise TimeoutError in what the context holds if it takes too long."""

    def late(*_: object) -> None:
        raise TimeoutError(f"nothing came of it within {SECONDS} seconds")

    if sys.platform == "win32":  # where nothing of what is tried here waits
        yield
        return
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
