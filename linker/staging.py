"""Which stage the entries of a directory of the target go through, and how stages are opened.

There is one at the top, and one more inside each directory whose entries would inherit something
else than what is made at the top: another mount, attributes, a group, a default access list.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from linker.choices import Choices
from linker.conditions import Condition
from linker.failures import link_error
from linker.journal import STAGE, Stage, open_stage, remove_tree
from linker.platforms.base import Failed, Platform
from linker.policy import Step
from linker.report import LinkError
from linker.tree import Node, Trail


class Stages:
    """The stages of one run.

    `base` stands for the directory that the target's trail begins in, which is the one above the
    target if that is new (`base_is_above`). `folding` are (directory, name, name) that must not
    become one. `all` are the stages in the order in which they were opened, `of` says which one a
    directory uses, and `company` whether another linker was seen at work.
    """

    def __init__(
        self,
        platform: Platform,
        choices: Choices,
        base: Node,
        folding: Sequence[tuple[Node, str, str]],
        *,
        base_is_above: bool,
    ) -> None:
        self._platform = platform
        self._choices = choices
        self._base = base
        self._folding = folding
        self._base_is_above = base_is_above
        self.all: list[Stage] = []
        self.of: dict[Node, Stage] = {}
        self.company = False

    def first(self, directory: int) -> Stage:
        """Return the stage at the top, whose directory this is; open it if that was not done."""
        return self.all[0] if self.all else self.open(directory, self._base)

    def open(self, directory: int, node: Node) -> Stage:
        """Open a stage in a directory, for it and for those that inherit the same."""
        try:
            beside = partial(self.beside, node)
            stage = open_stage(self._platform, directory, self._goes_on_unlocked, beside)
        except Failed as failed:
            error = link_error(self._platform, failed, node.path or "the target")
            error.left = failed.left
            raise error from failed.error
        stage.node = node
        self.all.append(stage)
        self.of[node] = stage
        self._refuse_folding(stage)
        return stage

    def _goes_on_unlocked(self, failed: Failed) -> bool:
        return self._choices.step(failed, "the stage") is Step.PROCEED

    def look_for_company(self, stage: Stage, root: int) -> None:
        """Find other linkers at work in this target, and let them know of us.

        Each looks after it has made its own stage: of any two that overlap, at least one sees
        the other.
        """
        try:
            names = self._platform.entries(root).directories
        except Failed as failed:
            raise link_error(self._platform, failed, "the target") from failed.error
        others = [name for name in names if name.startswith(STAGE) and name != stage.name]
        self.company = self.company or bool(others)
        stage.mark(others)

    def had_company(self) -> bool:
        """Return whether another linker was at work here up to now."""
        self.company = self.company or any(stage.was_marked() for stage in self.all)
        return self.company

    def meet_in_target(self, node: Node, target: int) -> None:
        """Have a stage in the target itself, where those look who came when it was there."""
        if node not in self.of:
            self.look_for_company(self.open(target, node), target)

    def _refuse_folding(self, stage: Stage) -> None:
        """Raise if two names of the source would be one in this stage."""
        for node, first, second in self._folding:
            number = stage.number()
            trail = Trail(self._platform, stage.handle)
            try:
                handle = trail.make(number)
                if not self._platform.is_writable(handle):  # an odd umask
                    self._platform.change_mode(handle, 0o700)
                trail.make(first)
                trail.leave()
                folds = self._platform.look(trail.handle, second) is not None
            except Failed as failed:
                raise link_error(self._platform, failed, node.join(first)) from failed.error
            finally:
                trail.reset()
            remove_tree(self._platform, stage.handle, number)
            if folds:
                raise LinkError(
                    f"cannot link both {node.join(first)} and {node.join(second)}",
                    why="the target does not tell upper from lower case, so that one would "
                    "replace the other",
                    hint="rename one of them in the source, or link to another filesystem",
                    path=node.join(second),
                    condition=Condition.EXISTS,
                )

    def at(self, node: Node, handle: int) -> Stage:
        """Return a stage whose entries inherit what entries of this directory would."""
        if node in self.of:
            return self.of[node]
        try:
            inheritance = self._platform.inheritance(handle)
        except Failed as failed:
            raise link_error(self._platform, failed, node.path) from failed.error
        above = self.of.get(node.parent) if node.parent else None
        for stage in (above, self.all[0]):
            if stage is not None and stage.inheritance == inheritance:
                self.of[node] = stage
                return stage
        return self.open(handle, node)

    def beside(self, node: Node | None, names: Sequence[str]) -> tuple[str, ...]:
        """Return names in the directory of a stage as paths relative to the target."""
        if node is None or (node is self._base and self._base_is_above):
            return tuple(f"../{name}" for name in names)
        return tuple(node.join(name) for name in names)

    def names(self) -> list[str]:
        """Return the stages as paths relative to the target."""
        return [path for stage in self.all for path in self.beside(stage.node, [stage.name])]

    def close(self) -> None:
        """Close every stage; the locks go with them."""
        while self.all:
            self.all.pop().close()


def stage_path(node: Node, stage: Stage) -> tuple[str, ...]:
    """Return the names that lead from the directory in which a stage lies down to `node`."""
    names = []
    while node is not stage.node:
        names.append(node.name)
        assert node.parent is not None  # the stage lies above
        node = node.parent
    return tuple(reversed(names))
