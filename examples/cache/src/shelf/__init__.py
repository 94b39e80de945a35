"""A cache of trees: `Cache(root, mode).restore(name, target)` gives a tree back without copying it
where the filesystem can do better, and copies where it cannot."""

from shelf.mended import Cache

__all__ = ["Cache"]
