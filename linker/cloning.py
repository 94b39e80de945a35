"""Clones whole directories by one call, where a platform has such a call and the policy wants it.

A clone of a directory is made in a stage like everything else, and believed in nothing: it is
looked through entry by entry before it gets a name, because the call may be one of many steps, the
source may change meanwhile, and what comes along (attributes, setuid bits) is not all wanted. What
cannot be cloned whole is made entry by entry, its directories tried again one by one.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from linker.choices import Choices
from linker.conditions import Primitive, Scope
from linker.failures import condition, link_error
from linker.journal import Stage, remove_tree
from linker.light import cast
from linker.making import Clone, Maker, Tally
from linker.modes import LinkMode
from linker.platforms.base import CheckFailed, ClonesDirectories, Failed, Kind, Listing, Platform
from linker.policy import Step
from linker.sources import Shelf
from linker.tree import Node, Trail, walk

_PATIENCE = 16
"""How many directories may turn out not to be clonable before they are all made entry by entry:
each level above an odd file fails because of it, after cloning all the rest in vain.
"""


def clone_for(
    maker: Maker,
    platform: Platform,
    choices: Choices,
    source: Trail,
    is_mutable: Callable[[Node, str], bool] | None,
) -> Clone | None:
    """Return what clones directories in a run; None where nothing does, or nothing shall."""
    if choices.requested is not LinkMode.CLONE or not hasattr(platform, "clone_directory"):
        return None
    wanted = any(
        edge.primitive is Primitive.CLONE_DIRECTORY for edge in choices.policy.of(platform.name)
    )
    if not wanted or isinstance(source, Shelf):
        return None
    clones = cast("ClonesDirectories", platform)
    return Cloner(maker, platform, clones, choices, source, is_mutable).clone


class Cloner:
    """Clones directories of one source into stages."""

    def __init__(
        self,
        maker: Maker,
        platform: Platform,
        clones: ClonesDirectories,
        choices: Choices,
        source: Trail,
        is_mutable: Callable[[Node, str], bool] | None,
    ) -> None:
        self._maker = maker
        self._platform = platform
        self._clones = clones
        self._choices = choices
        self._source = source
        self._is_mutable = is_mutable
        self._failures: dict[tuple[int, str], int] = {}
        """(filesystem, stage) -> how often a directory could not be cloned there."""

    def clone(self, top: Node, stage: Stage, directory: int, name: str, tally: Tally) -> bool:
        """Make the directory `name` with all that belongs into it, if one call can.

        False if it is to be made entry by entry; nothing has that name then. Raises `LinkError`
        where the policy knows no way on, `Failed` and `Lost` as other makers do.
        """
        pair = (top.device, stage.name)
        if self._failures.get(pair, 0) >= _PATIENCE or not self._suits(top, stage):
            return False
        attempts = 0
        while True:
            try:
                made = self._attempt(top, stage, directory, name)
            except Failed as failed:
                if failed.primitive is not Primitive.CLONE_DIRECTORY:
                    raise
                self._clear(directory, name)  # something of it may be there
                if not self._goes_on(failed, attempts, top):
                    further = condition(self._platform, failed).scope is Scope.PAIR
                    self._failures[pair] = _PATIENCE if further else self._failures.get(pair, 0) + 1
                    return False
                attempts += 1
            else:
                tally.add(made)
                return True

    def _clear(self, directory: int, name: str) -> None:
        """Remove what a clone that cannot be used has left. Raises `Failed`."""
        seen = self._platform.look(directory, name)
        if seen is None:
            return
        if seen.kind is not Kind.DIRECTORY:
            self._platform.remove_file(directory, name)
        elif remove_tree(self._platform, directory, name):
            stays = OSError(errno.ENOTEMPTY, "a clone that is no good cannot be removed", name)
            raise Failed(Primitive.RMDIR, stays)

    def _suits(self, top: Node, stage: Stage) -> bool:
        """Return whether all of a directory can come from one clone: its files are cloned, it is
        of one filesystem, and whoever owns the clone can look through it.
        """
        if self._choices.pair(top.device, stage.name).mode is not LinkMode.CLONE:
            return False
        if not (top.files or top.directories):
            return False
        return all(
            node.device == top.device and node.mode & 0o500 == 0o500
            for node, entering in walk(top)
            if entering
        )

    def _goes_on(self, failed: Failed, attempts: int, top: Node) -> bool:
        """Ask whether to try again; False to go into the directory. Raises `LinkError`."""
        step = self._choices.persisting(failed, attempts, top.path)
        if step is Step.RETRY:
            self._platform.pause(attempts + 1)
        elif step is not Step.DESCEND:
            raise link_error(self._platform, failed, top.path) from failed.error
        return step is Step.RETRY

    def _attempt(self, top: Node, stage: Stage, directory: int, name: str) -> Tally:
        self._clones.clone_directory(self._source.seek(top), directory, name)
        seen = self._platform.look(directory, name)
        if seen is None:
            raise _unlike(top, "NOEFFECT")
        if seen.kind is not Kind.DIRECTORY:
            raise _unlike(top)
        return self._settle(top, stage, directory, name)

    def _settle(self, top: Node, stage: Stage, directory: int, name: str) -> Tally:
        """Look through a clone and make it what it must be; count what is in it."""
        platform, tally = self._platform, Tally()
        trail = Trail(platform, directory)
        modes: list[int] = []
        try:
            for node, entering in walk(top):
                if entering:
                    handle = trail.enter(name if node is top else node.name)
                    source = self._source.seek(node)
                    self._clones.strip_directory(source, handle)
                    facts = platform.facts(handle)
                    node.inode = facts.inode
                    _compare(node, platform.entries(handle))
                    mode = facts.mode
                    if not platform.is_writable(handle):
                        mode |= 0o700
                        platform.change_mode(handle, mode)
                    modes.append(mode)
                    self._settle_entries(node, stage, source, handle, tally)
                else:
                    platform.stamp_directory(trail.handle, modes.pop(), node)
                    trail.leave()
                    tally.directories += 1
        finally:
            trail.reset()
        return tally

    def _settle_entries(
        self, node: Node, stage: Stage, source: int, handle: int, tally: Tally
    ) -> None:
        """Keep the files that are clones and shall be; make the others, and symlinks, anew."""
        platform = self._platform
        inodes: dict[str, int] = {}
        anew = []
        for file in node.files:
            if self._is_mutable is None or not self._is_mutable(node, file):
                try:
                    inodes[file] = self._clones.settle_clone(source, file, handle, file)
                    continue
                except Failed as failed:
                    if failed.primitive is not Primitive.CLONE_FILE:
                        raise
            anew.append(file)
        for entry in (*anew, *node.symlinks):
            platform.remove_file(handle, entry)
        if inodes:
            self._choices.pair(node.device, stage.name).worked.add(LinkMode.CLONE)
            tally.modes[LinkMode.CLONE] += len(inodes)
        if anew or node.symlinks:
            self._maker.fill(node, source, stage, handle, tally, files=anew)
            inodes.update(node.inodes)
        node.inodes = inodes


def _compare(node: Node, there: Listing) -> None:
    """Raise if a clone does not hold what the source held when it was scanned."""
    directories = [child.name for child in node.directories]
    if [sorted(node.files), sorted(directories), sorted(node.symlinks), []] != [*there]:
        raise _unlike(node)


def _unlike(node: Node, name: str = "SHORT") -> Failed:
    message = f"the clone of {node.path or 'the source'} does not hold what the source held"
    return Failed(Primitive.CLONE_DIRECTORY, CheckFailed(name, message))
