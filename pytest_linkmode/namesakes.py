"""Somebody else's module of the name of ours: Python has one `linker` a process.

Whichever is imported first hides the other, and what comes of that is told far from its cause. So
every way from pytest to our `linker` comes by here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder

from pytest_linkmode.errors import UsageError

NAME = "linker"
_OURS = os.path.realpath(os.path.join(os.path.dirname(__file__), os.pardir, NAME))


def refuse_namesake(refused: Callable[[str], Exception] = UsageError) -> None:
    """Raise what `refused` makes of our words if another `linker` is loaded, or found first."""
    for file in _files():
        if os.path.realpath(os.path.dirname(file)) != _OURS:
            error = UsageError(
                f"two modules are called {NAME!r}",
                why=f"{file}, and the package that pytest-linkmode brings, {_OURS}; "
                "the one that is imported first hides the other",
                hint="rename the first, or make it a module of a package of its own; one that "
                "only lies beside tests is not in the way with --import-mode=importlib",
            )
            raise refused(str(error)) from None


def _files() -> Iterator[str]:
    loaded = getattr(sys.modules.get(NAME), "__file__", None)
    if loaded:
        yield loaded
    found = PathFinder.find_spec(NAME)
    if found is not None and found.origin:
        yield found.origin
