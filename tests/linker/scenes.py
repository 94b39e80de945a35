"""A source and a target that sweeps link a thousand times over, rebuilt only where needed."""

from __future__ import annotations

import os

from linker import LinkReport, Transition
from linker.policy import Edge
from tests.linker import trees
from tests.linker.trees import Directory, File, Snapshot, Symlink, Tree

SOURCE: Tree = {
    "top": File(),
    "a.py": File(b"a = 1\n", mode=0o400),
    "ln": Symlink("ns/z"),
    "ns/z": File(b"zz", mode=0o755),
    "ns/dangling": Symlink("nowhere"),
    "ns/sub/deep": File(trees.noise(9_000)),
    "new": Directory(0o555),
    "new/f": File(b"f"),
    "new/empty": Directory(0o700),
    "ro": Directory(0o555),
    "ro/g": File(b"g"),
    "ro/sub": Directory(0o500),
    "ro/sub/h": File(b"h"),
}
"""Every kind of entry, read-only directories among them."""

EXISTING: Tree = {
    "top": File(b"old top"),
    "ln": Symlink("elsewhere"),
    "ns/z": File(b"old z", mode=0o600),
    "ns/other": File(b"other"),
    "ro": Directory(0o555),
    "ro/g": File(b"old g"),
    "kept": Directory(0o750),
}
"""A target with something to replace, to merge with, and to leave alone."""


class Watcher:
    """An observer that remembers what it was told."""

    def __init__(self) -> None:
        self.transitions: list[Transition] = []
        self.reports: list[LinkReport] = []

    def transition(self, transition: Transition) -> None:
        self.transitions.append(transition)

    def linked(self, report: LinkReport) -> None:
        self.reports.append(report)

    @property
    def edges(self) -> list[Edge]:
        """The edges taken, in their order."""
        return [told.edge for told in self.transitions]


class Scene:
    """A directory with a source, and a target that can be put back as it was.

    `existing` describes the target, None if there is none yet.
    """

    def __init__(self, root: str, source: Tree = SOURCE, existing: Tree | None = EXISTING) -> None:
        self.root = root
        self.source = f"{root}/source"
        self.target = f"{root}/target"
        self._existing = existing
        os.makedirs(root, exist_ok=True)
        trees.build(self.source, trees.possible(source) if source is SOURCE else source)
        self.before: Snapshot = {}
        self.rebuild()
        self.wanted = trees.snapshot(self.source)

    def rebuild(self) -> None:
        """Remove everything but the source, and make the target anew."""
        for name in os.listdir(self.root):
            if name != "source":
                trees.remove(f"{self.root}/{name}")
        if self._existing is not None:
            existing = self._existing
            trees.build(self.target, trees.possible(existing) if existing is EXISTING else existing)
        self.before = trees.snapshot(self.target)

    def now(self) -> Snapshot:
        """Return what the target is at this moment."""
        return trees.snapshot(self.target)

    def beside(self) -> list[str]:
        """Return what lies beside source and target, where nothing should."""
        return sorted(set(os.listdir(self.root)) - {"source", "target"})

    def untouched(self) -> list[str]:
        """Return in words what differs from before, by rule 4."""
        found = trees.differences(trees.lasting(self.before), trees.lasting(self.now()))
        return found + [f"{name!r} lies beside the target" for name in self.beside()]
