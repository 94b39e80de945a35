"""Small programs to run with faults."""

from __future__ import annotations

import sys


def python(program: str, *arguments: object) -> list[str]:
    """Return the command that runs a small Python program, quickly."""
    return [sys.executable, "-I", "-S", "-c", program, *map(str, arguments)]
