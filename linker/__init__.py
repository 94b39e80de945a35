"""The reference linker: a model of correct behaviour for clone, hardlink, symlink and copy.

It knows nothing of pytest. Its fallbacks are data (`linker.policies`), its operating systems
live behind one seam (`linker.platforms`), and its promises are the ten rules in
docs/explanation.md. What is named here is imported when it is asked for, and not kept: who imports
all of it anew in one process, as pytester does, must not be given what is of the modules before.
"""

from __future__ import annotations

import os

from linker.light import TYPE_CHECKING

HERE = "win32" if os.name == "nt" else os.uname().sysname.lower()
"""The system that we are on, as `sys.platform` has it before a test of a linker patches that."""

if TYPE_CHECKING:
    from linker import policies
    from linker.engine import link_file, link_tree
    from linker.modes import Existing, LinkMode
    from linker.policy import Policy
    from linker.report import LinkError, LinkReport, Transition, observing
else:
    _HOMES = {
        "Existing": "modes",
        "LinkError": "report",
        "LinkMode": "modes",
        "LinkReport": "report",
        "Policy": "policy",
        "Transition": "report",
        "link_file": "engine",
        "link_tree": "engine",
        "observing": "report",
    }

    def __getattr__(name):
        """Import a public name."""
        from importlib import import_module

        if name in _HOMES:
            return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        if name == "policies":
            return import_module(f"{__name__}.policies")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Existing",
    "LinkError",
    "LinkMode",
    "LinkReport",
    "Policy",
    "Transition",
    "link_file",
    "link_tree",
    "observing",
    "policies",
]
