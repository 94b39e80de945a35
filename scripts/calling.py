"""Runs programs that nobody answers: for a time that has an end, and what they say is kept."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

PATIENCE = 900.0
"""Seconds that a program may take unless more is said."""


def call(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    patience: float | None = None,
) -> tuple[int | None, str]:
    """Run a program; return its exit status, None if it was ended as it went on for too long, and
    what it said on both streams.
    """
    patience = PATIENCE if patience is None else patience
    try:
        result = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=env,
            cwd=cwd,
            timeout=patience,
        )
    except subprocess.TimeoutExpired:
        return None, f"it was ended after {patience:g} s"
    return result.returncode, result.stdout.strip() or "it said nothing"


def ending(status: int | None) -> str:
    """Return what is to be added to a sentence about a program that failed."""
    return "" if status is None else f" (exit status {status})"
