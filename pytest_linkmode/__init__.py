"""Test every link mode on every filesystem, and prove what really happened.

The public names are loaded when they are first used, so that importing the package, which every
run of pytest does where the plugin is installed, costs nothing.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_linkmode.assertions import assert_linked
    from pytest_linkmode.evidence import evidence
    from pytest_linkmode.faults import Fault, Kill

__all__ = ["Fault", "Kill", "assert_linked", "evidence"]

HERE: str = sys.platform
"""The system that we are on, as it was at the start: tests of linkers patch `sys.platform`."""

_HOMES = {
    "Fault": "pytest_linkmode.faults",
    "Kill": "pytest_linkmode.faults",
    "assert_linked": "pytest_linkmode.assertions",
    "evidence": "pytest_linkmode.evidence",
}


if not TYPE_CHECKING:
    # Not for type checkers, which would believe that every name exists.
    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        from pytest_linkmode.namesakes import refuse_namesake

        refuse_namesake()
        # Not kept: another run in this process, as of pytester, has modules of its own.
        return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


class _Package(ModuleType):
    """This package: `evidence` is its public function, not the submodule that holds it.

    Importing a submodule binds its name in the package, which would hide the function behind it.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in _HOMES):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
