"""The reference linker: a model of correct behaviour for clone, hardlink, symlink and copy.

It knows nothing of pytest. Its fallbacks are data (`linker.policies`), its operating systems
live behind one seam (`linker.platforms`), and its promises are the ten rules in
docs/explanation.md.
"""

from __future__ import annotations

from linker import policies
from linker.engine import link_file, link_tree
from linker.modes import Existing, LinkMode
from linker.policy import Policy
from linker.report import LinkError, LinkReport, Transition, observing

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
