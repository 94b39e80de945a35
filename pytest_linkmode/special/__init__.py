"""Special kinds of layouts: every way in which a cache and an environment can lie to each other.

`KINDS` is the table. A row says what the kind is for, what it needs, how it is placed
(`placing`), what is done to a source once it is filled (`sealing`), how its premise is proven
(`proofs`, `checking`), and what follows that probing cannot tell. `pytest_linkmode.layouts` makes
layouts of it; nothing here is made before it is used.
"""

from __future__ import annotations

from pytest_linkmode.special.base import (
    MACHINE,
    MOUNT,
    NEEDS,
    OWN,
    ROOT,
    Bench,
    Placed,
    Site,
    Special,
)
from pytest_linkmode.special.placing import own_kind, own_settings
from pytest_linkmode.special.sealing import seal
from pytest_linkmode.special.table import CROSS, KINDS, SAME

__all__ = [
    "CROSS",
    "KINDS",
    "MACHINE",
    "MOUNT",
    "NEEDS",
    "OWN",
    "ROOT",
    "SAME",
    "Bench",
    "Placed",
    "Site",
    "Special",
    "own_kind",
    "own_settings",
    "seal",
]
