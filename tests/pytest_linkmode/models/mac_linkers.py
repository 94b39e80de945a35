"""The reference linker on macOS over the model, as linkers that the conformance suite can test."""

from __future__ import annotations

import pathlib

from linker import LinkMode, LinkReport, link_tree
from pytest_linkmode.models import clonefile


def whole(source: pathlib.Path, target: pathlib.Path, mode: LinkMode) -> LinkReport:
    """Directories are cloned by one call."""
    return link_tree(source, target, mode=mode, platform=clonefile.platform(source, atomic=True))


def items(source: pathlib.Path, target: pathlib.Path, mode: LinkMode) -> LinkReport:
    """Directories are cloned item by item, on a volume with every quirk that still can clone."""
    quirks = {clonefile.Quirk.MISSING_FOR_EXISTS, clonefile.Quirk.DATALESS}
    platform = clonefile.platform(source, atomic=False, quirks=quirks)
    return link_tree(source, target, mode=mode, platform=platform)
