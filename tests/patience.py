"""What may not hang: a test waits so long for it, and no longer.

Nothing is measured by it. A machine may be many times slower than another, and then does other
work besides; what hangs is as clear after minutes.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS = 600

LONGER = 10 * SECONDS
"""So long sleeps what a test ends: it must not come to its end by itself while that is awaited."""


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


def eventually(condition: Callable[[], object]) -> None:
    """Wait until something is true; raise AssertionError if it never is."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"it never became true within {SECONDS} seconds"
        time.sleep(0.01)
